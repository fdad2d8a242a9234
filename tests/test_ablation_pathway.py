"""Ablation from files to a sheet; the leg of the Hong Kong series made to happen again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from trocar import cli, pathway
from trocar.errors import InputError
from trocar.io.formats import read_volume
from trocar.io.volumes import read_labels, read_scan
from trocar.model.case import Site
from trocar.model.space import Mask
from trocar.pathway.ablation import AblationCase, ablate_lesion, write_ablation_case
from trocar.phantom import make
from trocar.phantom.files import as_scan, write
from trocar.report.words import say

runner = CliRunner()


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(tmp_path_factory.mktemp("patient"), make("vertebra_l3"))


@pytest.fixture(scope="module")
def heated(patient: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("case") / "out"
    arguments = ["ablate", str(patient["ct"]), "--site", "L3", "--labels", str(patient["labels"]),
                 "--lesion", str(patient["lesion"]), "--out", str(out), "--device", "rf_10",
                 "--place", "needle", "--seconds", "240", "--no-viewer", "--json"]  # fmt: skip
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


@pytest.mark.slow
def test_an_ablation_leaves_a_sheet_a_record_and_voxels(heated: Any) -> None:
    out, told = heated
    for name in ("plan.html", "ablation.html", "ablation.json", "temperature_c.nii.gz",
                 "cem43_min.nii.gz", "died_s.nii.gz", "dead.nii.gz"):  # fmt: skip
        assert (out / name).stat().st_size > 0, name
    record = json.loads((out / "ablation.json").read_text())
    assert record["run"]["command"] == "trocar ablate"
    assert len(record["run"]["inputs"]) == 3  # CT, labels, lesion by hash
    assert record["run"]["parameters"]["device"] == "rf_10"
    assert told["ablation"]["dead_ml"] == pytest.approx(record["dose"]["dead_ml"])
    hottest = read_volume(out / "temperature_c.nii.gz")[0]
    cem = read_volume(out / "cem43_min.nii.gz")[0]
    dead = read_volume(out / "dead.nii.gz")[0].values > 0
    past = (hottest.values >= 60) | (cem.values >= 240)
    assert np.array_equal(dead, past)
    assert dead.sum() * hottest.grid.voxel_ml == pytest.approx(told["ablation"]["dead_ml"])
    died = read_volume(out / "died_s.nii.gz")[0].values
    assert np.array_equal(died >= 0, dead)
    # A CT that is no DICOM gets no DICOM objects, and is told why.
    assert not list(out.glob("*.dcm"))
    assert "did not come as DICOM" in record["not_written"]["temperature.dcm"]


@pytest.mark.slow
def test_a_vertebra_always_reports_canal_and_roots_of_both_levels(heated: Any) -> None:
    out, told = heated
    names = {s["structure"] for s in told["ablation"]["structures"]}
    assert "spinal_canal" in names
    for side in ("left", "right"):
        for level in ("above", "below"):
            known = f"foramen_{side}_{level}" in names
            assert known or f"foramen_{side}_{level}" in told["ablation"]["unknown"]
    page = (out / "ablation.html").read_text(encoding="utf-8")
    assert "lost the strength of a leg" in page
    assert "NOT verified" in page


@pytest.mark.slow
def test_a_record_can_be_made_from_python_and_searched(tmp_path: Path) -> None:
    made = make("vertebra_l3")
    planned = pathway.plan_lesion(
        as_scan(made), made.site, labels=made.labels, click_mm=made.click_mm
    )
    steps: list[float] = []
    case = ablate_lesion(
        planned, device="osteocool_10", applicators=2, progress=lambda _, f: steps.append(f)
    )
    assert steps == sorted(steps)
    assert 1 <= len(case.plan.applicators) <= 2
    assert case.plan.rules
    assert case.dose.covered_low is not None
    files = write_ablation_case(tmp_path / "out", case, language="zh-Hant", viewer=False)
    assert "消融" in files["ablation sheet"].read_text(encoding="utf-8")
    with pytest.raises(InputError, match="a search finds depth and time itself"):
        ablate_lesion(planned, seconds=60.0)
    with pytest.raises(InputError, match="there is no applicator"):
        ablate_lesion(planned, device="sunbeam")
    with pytest.raises(InputError, match="no needle reaches"):
        ablate_lesion(replace(planned, plan=replace(planned.plan, options=())))
    with pytest.raises(InputError, match="expected 'search' or 'needle'"):
        ablate_lesion(planned, place="somewhere")


def test_what_is_mistyped_is_said_before_anything_is_read(tmp_path: Path) -> None:
    base = ["ablate", str(tmp_path / "none"), "--site", "L3"]
    for extra, words in (
        (["--protect", "ice cream"], "--protect 'ice cream'"),
        (["--protect", "gas:spinal_canal:lots"], "write gas:STRUCTURE:MM"),
        (["--device", "sunbeam"], "there is no applicator 'sunbeam'"),
        (["--seconds", "60"], "a search finds depth and time itself"),
        (["--place", "anywhere"], "expected 'search' or 'needle'"),
    ):
        result = runner.invoke(cli.app, [*base, *extra])
        assert result.exit_code != 0
        assert words in str(result.exception)
    listed = runner.invoke(cli.app, [*base, "--device", "list"])
    assert "cryo_2_4" in listed.stdout


@pytest.mark.slow
def test_five_probes_or_fewer_cover_an_iliac_lesion() -> None:
    """A mass of 17 ml that has burst the iliac wing, 40 mm from the nearest nerve."""
    made = make("acetabulum")
    grid = made.ct.grid
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    mass = np.linalg.norm(points - np.array([94.0, -115.0, 420.0]), axis=-1) <= 16.0
    planned = pathway.plan_lesion(
        as_scan(made), Site.parse("ilium left"), labels=made.labels,
        lesion_mask=Mask(grid=grid, values=mass),
    )  # fmt: skip
    case = ablate_lesion(planned, device="cryo_2_4", applicators=5, margin_mm=0.0, interval=False)
    print(
        "iliac lesion:", len(case.plan.applicators), "probes cover", case.dose.lesion_covered,
        "least margin", case.dose.min_margin_mm,
    )  # fmt: skip
    assert len(case.plan.applicators) <= 5
    assert case.dose.lesion_covered is not None
    assert case.dose.lesion_covered >= 0.98
    neural = [s for s in case.dose.structures if "nerve" in s.structure]
    assert all(s.verdict == "ok" for s in neural)


@pytest.fixture(scope="module")
def l1(data: Path) -> pathway.Planned:
    """L1 of set 04 with its drawn lesion, planned."""
    folder = data / "04_l1_lytic_cement_semisynthetic"
    scan = read_scan(folder / "pre_ct.nii.gz")
    labels = read_labels(
        folder / "labels.nii.gz",
        names=data / "03_t9_l3_lidc0001" / "structures.csv",
        like=scan.volume.grid,
    )
    drawn = read_labels(
        folder / "truth_labels.nii.gz",
        names={1: "lesion", 2: "filled lesion"},
        like=scan.volume.grid,
    )
    click = drawn.mask("lesion", "filled lesion").centroid_mm
    return pathway.plan_lesion(scan, Site.parse("L1"), labels=labels, click_mm=click)


@pytest.fixture(scope="module")
def complication(l1: pathway.Planned) -> AblationCase:
    """A needle that lies well in the left pedicle, its electrode in the back of the body."""
    return ablate_lesion(l1, device="rf_10", place="needle", applicators=1, pulled_back_mm=15.0)


def _heat_of_roots(dose: Any) -> list[str]:
    return [
        say(f, "en")
        for f in dose.findings
        if "warms" in f.message and "foramen" in str(f.values.get("structure", ""))
    ]


@pytest.mark.slow
def test_the_complication_of_the_hong_kong_series_is_foreseen(
    complication: AblationCase, tmp_path: Path
) -> None:
    dose = complication.dose
    root = dose.structure("foramen_left_above")
    print("canal", dose.structure("spinal_canal").peak_c, "root", root.peak_c)
    assert root.verdict == "stop"
    assert root.peak_c >= 45.0
    assert root.harmed_s is not None
    assert dose.structure("foramen_right_above").verdict == "ok"
    told = _heat_of_roots(dose)
    assert told
    assert any(f.gravity == "stop" for f in dose.findings if "warms" in f.message)
    files = write_ablation_case(tmp_path / "bad", complication, viewer=False)
    page = files["ablation sheet"].read_text(encoding="utf-8")
    assert "The ablation warms left foramen above to" in page
    assert "lost the strength of a leg" in page


@pytest.mark.slow
def test_with_the_suggested_change_the_roots_stay_cool(
    complication: AblationCase, tmp_path: Path
) -> None:
    best = complication.search.suggested
    assert best is not None
    print("suggested:", say(best.change, "en"))
    assert best.dose.covered_low is not None  # held against the low and the high run, too
    assert not _heat_of_roots(best.dose)
    for name in ("foramen_left_above", "foramen_left_below"):
        one = best.dose.structure(name)
        assert one.verdict != "stop"
        assert one.high_c is not None
        assert one.high_c < 42.0
    changed = replace(
        complication,
        search=replace(complication.search, plan=best.plan, dose=best.dose, alternatives=()),
    )
    files = write_ablation_case(tmp_path / "good", changed, viewer=False)
    page = files["ablation sheet"].read_text(encoding="utf-8")
    assert "The ablation warms left foramen" not in page
