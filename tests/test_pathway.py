"""The whole way on a synthetic patient, and what a failure leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trocar import NOTICE, pathway
from trocar.errors import InputError
from trocar.facts import limits
from trocar.phantom import Phantom, make
from trocar.phantom.files import as_scan


@pytest.fixture(scope="module")
def patient() -> Phantom:
    return make("vertebra_l3", seed=1)


def plan(patient: Phantom, progress: pathway.Progress | None = None) -> pathway.Planned:
    return pathway.plan_lesion(
        as_scan(patient),
        patient.site,
        labels=patient.labels,
        click_mm=patient.click_mm,
        seed=3,
        progress=progress,
    )


@pytest.fixture(scope="module")
def planned(patient: Phantom) -> pathway.Planned:
    return plan(patient)


def test_the_best_needle_is_safe_by_the_true_anatomy(
    patient: Phantom, planned: pathway.Planned
) -> None:
    best = planned.plan.best
    assert best is not None
    steps = best.path.at_mm(np.linspace(0, best.depth_mm, 2000))
    for name in ("spinal_canal", "aorta", "inferior_vena_cava"):
        assert not patient.labels.mask(name).holds(steps).any(), name
    assert all(m.verdict != "stop" for m in best.margins)
    assert bool(patient.labels.mask("vertebrae_L3").holds(best.target_mm))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_plan(patient: Phantom, planned: pathway.Planned) -> None:
    again = plan(patient)
    for a, b in zip(planned.plan.options, again.plan.options, strict=True):
        np.testing.assert_array_equal(a.entry_mm, b.entry_mm)
        np.testing.assert_array_equal(a.target_mm, b.target_mm)
        assert a.breach_probability == b.breach_probability


def test_the_run_record_says_how_it_was_made(planned: pathway.Planned) -> None:
    run = planned.plan.run
    assert run is not None
    assert set(run.facts) >= {"limits", "products", "tissue"}
    assert len(next(iter(run.inputs.values()))) == 64
    assert run.seed == 3
    assert run.parameters["candidates"] >= 1_000_000


def test_everything_is_written_and_carries_the_notice(
    planned: pathway.Planned, tmp_path: Path
) -> None:
    files = pathway.write_case(tmp_path / "case", planned, viewer=False)
    assert {"sheet", "plan", "needles", "labels"} <= set(files)
    assert NOTICE in files["sheet"].read_text(encoding="utf-8")
    assert json.loads(files["plan"].read_text(encoding="utf-8"))["notice"] == NOTICE
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case"]


def test_a_failure_leaves_the_older_sheet_as_it_was(
    planned: pathway.Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = tmp_path / "case"
    case.mkdir()
    (case / "plan.html").write_text("older")

    def breaks(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trocar.report.sheet.write_plan_sheet", breaks)
    with pytest.raises(KeyboardInterrupt):
        pathway.write_case(case, planned)
    assert (case / "plan.html").read_text() == "older"
    assert [p.name for p in case.iterdir()] == ["plan.html"]
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


@pytest.mark.slow
def test_progress_never_runs_backwards(patient: Phantom) -> None:
    told: list[float] = []
    plan(patient, lambda step, fraction: told.append(fraction))
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] <= 1


def test_a_click_outside_the_image_is_told_in_millimetres(
    planned: pathway.Planned, patient: Phantom
) -> None:
    with pytest.raises(InputError, match="outside the image, which runs from"):
        pathway._click_mm(planned.scan, "lps", (9999.0, 0.0, 0.0))
    index = np.rint(patient.ct.grid.to_index(patient.click_mm))
    clicked = pathway._click_mm(planned.scan, "ijk", tuple(index[::-1]))
    assert np.linalg.norm(clicked - patient.click_mm) < 1.0
    ras = pathway._click_mm(planned.scan, "ras", tuple(np.array([-1, -1, 1]) * patient.click_mm))
    np.testing.assert_allclose(ras, patient.click_mm)


def test_a_folder_below_a_file_is_refused_before_any_planning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(InputError, match="file"):
            pathway.plan_case(tmp_path / "no_ct_needed", site="L1", out=bad)


def test_every_needle_leaves_enough_outside_the_skin_to_hold(planned: pathway.Planned) -> None:
    reserve = float(limits.value("hub_reserve"))
    for option in planned.plan.options:
        assert option.needle.length_mm >= option.depth_mm + reserve


def test_every_needle_has_its_three_fluoroscopic_views(planned: pathway.Planned) -> None:
    assert len(planned.plan.options) > 3
    assert set(planned.views) == set(range(len(planned.plan.options)))
    assert all(len(views) == 3 for views in planned.views.values())
