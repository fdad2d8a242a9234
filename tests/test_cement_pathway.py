"""Cement from files to sheets, and back from the CT afterwards; and what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from trocar import cli
from trocar.errors import InputError
from trocar.io.formats import write_volume
from trocar.io.results import read_needles_used, read_predicted
from trocar.pathway import staged
from trocar.pathway.cement import assess_case, cement_lesion
from trocar.pathway.runs import Spans
from trocar.phantom import make
from trocar.phantom.cement import after, turned
from trocar.phantom.files import write

runner = CliRunner()


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(tmp_path_factory.mktemp("patient"), make("vertebra_l3"))


@pytest.fixture(scope="module")
def cemented(patient: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("case") / "out"
    arguments = ["cement", str(patient["ct"]), "--site", "L3", "--labels", str(patient["labels"]),
                 "--lesion", str(patient["lesion"]), "--out", str(out), "--runs", "8",
                 "--no-viewer", "--json"]  # fmt: skip
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["cement"]["target_ml"] > 0.5
    assert told["cement"]["rules"]
    return out


@pytest.fixture(scope="module")
def later(cemented: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CT afterwards, on which all went as foreseen."""
    made = after("vertebra_l3", read_predicted(cemented))
    return write_volume(tmp_path_factory.mktemp("later") / "post.nii.gz", made.ct)


@pytest.mark.slow
def test_cement_leaves_a_sheet_a_record_and_voxels(cemented: Path) -> None:
    for name in ("plan.html", "cement.html", "cement.json", "predicted.nii.gz", "order.nii.gz",
                 "predicted_leaks.nii.gz", "predicted_leaks.json", "reached.nii.gz"):  # fmt: skip
        assert (cemented / name).stat().st_size > 0, name
    told = json.loads((cemented / "cement.json").read_text())
    assert told["run"]["command"] == "trocar cement"
    assert told["run"]["seed"] == 0
    assert len(told["run"]["inputs"]) == 3  # CT, labels, lesion by hash
    assert told["forecast"]["runs"] == 8
    assert told["injection"]["heat"]["cement_peak_c"] > 40
    assert not list(cemented.parent.glob(".*"))  # nothing half-written
    # What the bone bears stands on the same sheet, before the cement and with it.
    assert told["run"]["parameters"]["strength"] == "intact, now, planned"
    assert "What the bone bears" in (cemented / "cement.html").read_text()


@pytest.mark.slow
def test_the_ct_afterwards_is_held_against_the_plan(
    patient: dict[str, Path], cemented: Path, later: Path, tmp_path: Path
) -> None:
    # The needle as it was planned, seen on the CT afterwards, for which the patient moved.
    (path, _), *_ = read_needles_used(cemented)
    whole = make("vertebra_l3").labels
    middle = whole.mask("vertebrae_L3").centroid_mm
    pose = turned(middle, (2.0, -1.0, 1.5), (2.0, -1.0, 3.0))
    ends = [pose[:3, :3] @ p + pose[:3, 3] for p in (path.start_mm, path.end_mm)]
    line = {"type": "Line", "coordinateSystem": "LPS",
            "controlPoints": [{"position": p.tolist()} for p in ends]}  # fmt: skip
    needles = tmp_path / "achieved.mrk.json"
    needles.write_text(json.dumps({"markups": [line]}))
    arguments = ["assess", "--post", str(later), "--pre", str(patient["ct"]), "--site", "L3",
                 "--labels", str(patient["labels"]), "--lesion", str(patient["lesion"]),
                 "--predicted", str(cemented), "--out", str(tmp_path / "r"), "--no-viewer",
                 "--needles", str(needles), "--json"]  # fmt: skip
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    foreseen = read_predicted(cemented)
    assert told["fill"]["volume_ml"] == pytest.approx(foreseen.volume_ml, rel=0.05)
    assert told["comparison"]["dice"] > 0.8
    assert (tmp_path / "r" / "result.html").exists()
    written = json.loads((tmp_path / "r" / "result.json").read_text())
    assert written["needles"][0]["tip_mm"] < 0.5
    assert written["needles"][0]["angle_deg"] < 0.5
    assert (tmp_path / "r" / "cement.nii.gz").exists()
    assert written["run"]["parameters"]["strength"] == "intact, now, planned, found"


@pytest.mark.slow
def test_a_plan_of_another_lesion_is_refused(
    patient: dict[str, Path], cemented: Path, later: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is for L3, not for L4"):
        assess_case(later, site="L4", out=tmp_path / "r", pre=patient["ct"], predicted=cemented)
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_the_demo_goes_from_plan_to_the_ct_afterwards(tmp_path: Path) -> None:
    result = runner.invoke(
        cli.app, ["demo", "--out", str(tmp_path / "d"), "--runs", "4", "--no-viewer", "--no-serve"]
    )
    assert result.exit_code == 0, result.output
    for name in ("plan.html", "cement.html", "result.html", "cement.json", "result.json"):
        assert (tmp_path / "d" / name).exists(), name
    assert "foreseen" in result.output
    assert "not past" in result.output


def test_a_cement_that_is_not_known_is_said_before_the_work() -> None:
    nothing: Any = None
    with pytest.raises(InputError, match="no cement class or brand 'glue'"):
        cement_lesion(nothing, cement="glue")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cement", "nowhere.nii.gz", "--site", "L3"], "nowhere"),
        (["assess", "--post", "nowhere.nii.gz", "--site", "L3"], "nowhere"),
        (["assess", "--post", "nowhere.nii.gz", "--site", "elbow"], "elbow"),
    ],
)
def test_what_cannot_be_used_ends_in_one_sentence(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    result = runner.invoke(cli.app, [*arguments, "--out", str(tmp_path / "o")])
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
    assert not (tmp_path / "o").exists()


def test_a_folder_without_a_cement_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no cement plan"):
        assess_case("nowhere.nii.gz", site="L3", out=tmp_path / "o", predicted=tmp_path)


def test_what_is_cancelled_leaves_the_older_sheet_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "cement.html").write_text("older")

    def cancelled() -> None:
        with staged(out) as (stage, _):
            (stage / "cement.html").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cancelled()
    assert (out / "cement.html").read_text() == "older"
    assert list(tmp_path.iterdir()) == [out]
    with staged(out) as (stage, keep):
        (stage / "cement.html").write_text("whole")
        moved = keep({"sheet": stage / "cement.html"})
    assert moved["sheet"].read_text() == "whole"


def test_progress_never_goes_back() -> None:
    heard: list[tuple[str, float]] = []
    tell = Spans(lambda step, share: heard.append((step, share)))
    inner = tell.during("", 0.2, 0.6)
    for share in (0.0, 0.5, 0.2, 1.0, 3.0):
        inner("a", share)
    assert [s for _, s in heard] == pytest.approx([0.2, 0.4, 0.4, 0.6, 0.6])
    assert {name for name, _ in heard} == {"a"}
    assert np.all(np.diff([s for _, s in heard]) >= 0)
