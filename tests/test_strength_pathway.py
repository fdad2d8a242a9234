"""Strength from files to a sheet, with cement of several kinds; a cohort with a bad case."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import trocar.report
from trocar import cli, farm, pathway
from trocar.errors import InputError
from trocar.facts import strength as facts
from trocar.io.formats import read_volume, write_volume
from trocar.model.space import Grid, Volume
from trocar.pathway import strength as steps
from trocar.pathway.cement import assess_case
from trocar.phantom import make
from trocar.phantom.cement import after
from trocar.phantom.files import write

runner = CliRunner()
FAST: dict[str, Any] = {"voxel_mm": 2.0, "interval": False, "viewer": False}


@pytest.fixture
def no_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet of one word: what is on it is tested where it is made."""
    import types

    def written(path: Path, **given: Any) -> Path:
        assert set(given) == {
            "scan", "anatomy", "lesion", "strength", "findings", "language", "viewer", "run",
        }  # fmt: skip
        path.write_text("strength")
        return path

    name = "trocar.report.strength"
    made: Any = types.ModuleType(name)
    made.write_strength_sheet = written
    monkeypatch.setitem(sys.modules, name, made)
    monkeypatch.setattr(trocar.report, "strength", made, raising=False)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    coarse = make("vertebra_l3", spacing_mm=(2.0, 1.6, 1.6))
    return write(tmp_path_factory.mktemp("patient"), coarse)


def given(patient: dict[str, Path]) -> dict[str, Any]:
    return {"site": "L3", "labels": patient["labels"], "lesion": patient["lesion"], **FAST}


def arguments(patient: dict[str, Path], *more: str) -> list[str]:
    return ["strength", str(patient["ct"]), "--site", "L3", "--labels", str(patient["labels"]),
            "--lesion", str(patient["lesion"]), "--voxel", "2", "--no-interval", "--no-viewer",
            *more]  # fmt: skip


@pytest.fixture(scope="module")
def cement(patient: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lesion full of cement, as a mask of 0 and 255."""
    lesion = read_volume(patient["lesion"])[0]
    full = Volume(grid=lesion.grid, values=(255 * (lesion.values > 0)).astype(np.uint8), unit="")
    return write_volume(tmp_path_factory.mktemp("cement") / "cement.nii.gz", full)


# --- one case -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_sheet")
def test_a_bone_and_its_cement_are_read_from_files(
    patient: dict[str, Path], cement: Path, tmp_path: Path
) -> None:
    out, told = tmp_path / "out", []
    case, files = steps.strength_case(
        patient["ct"], out=out, cement=cement, loads=["lumbar_compression"],
        progress=lambda _, f: told.append(f), **given(patient),
    )  # fmt: skip
    assert told == sorted(told)
    assert told[-1] == 1.0
    names = {p.name for p in out.iterdir()}
    assert names == {"strength.html", "strength.json", "strain_intact.nii.gz", "strain_now.nii.gz",
                     "strain_found.nii.gz", "modulus_now.nii.gz"}  # fmt: skip
    assert not list(tmp_path.glob(".*"))
    assert files["strength sheet"] == out / "strength.html"
    strength = case.strength
    assert strength.states == ("intact", "now", "found")
    assert strength.loads == ("lumbar_compression",)
    now, found = (strength.bearing(s).of_intact for s in ("now", "found"))
    assert now is not None
    assert found is not None
    assert now.mean < 1.0
    assert found.mean > now.mean + 0.02  # a lesion full of cement bears again
    record = json.loads((out / "strength.json").read_text())
    assert record["run"]["command"] == "trocar strength"
    assert set(record["run"]["inputs"]) == {case.scan.name, "labels", "lesion", "cement"}
    assert record["run"]["parameters"]["interval"] is False


@pytest.mark.slow
@pytest.mark.usefixtures("no_sheet")
def test_the_folder_of_a_plan_gives_bone_and_lesion(
    patient: dict[str, Path], cement: Path, tmp_path: Path
) -> None:
    made = tmp_path / "case"
    pathway.plan_case(
        patient["ct"], site="L3", labels=patient["labels"], lesion=patient["lesion"], out=made,
        viewer=False, count=1,
    )  # fmt: skip
    short = ["--voxel", "2", "--no-interval", "--load", "lumbar_compression", "--json"]
    ways = (
        ["strength", str(made)],
        [*arguments(patient)[:8], "--out", str(tmp_path / "other")],
    )
    told = []
    for way in ways:
        result = runner.invoke(cli.app, [*way, "--cement", str(cement), *short])
        assert result.exit_code == 0, result.output
        told.append(json.loads(result.stdout)["strength"])
    assert told[0]["bearings"] == told[1]["bearings"]
    assert (made / "strength.html").is_file()
    assert (made / "plan.html").is_file()
    with pytest.raises(InputError, match="holds a plan, which has its own site"):
        steps.strength_case(made, out=tmp_path / "o", site="L3")


@pytest.mark.usefixtures("no_sheet")
def test_the_terminal_says_the_worst_first_and_a_row_for_each_state(
    patient: dict[str, Path], tmp_path: Path
) -> None:
    result = runner.invoke(cli.app, arguments(patient, "--out", str(tmp_path / "o")))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(("STOP", "CAUTION"))
    rows = [line.split() for line in lines if line.startswith("        ")]
    assert [r[0] for r in rows if r[0] in ("intact", "now")] == ["intact", "now"] * 2
    assert any(line.startswith("weakest ") for line in lines)
    assert lines[-2] == f"sheet   {tmp_path / 'o' / 'strength.html'}"


def test_loads_are_listed_by_site_and_those_of_other_sites_refused(
    patient: dict[str, Path], tmp_path: Path
) -> None:
    base = ["strength", str(tmp_path / "none.nii.gz")]
    femur = runner.invoke(cli.app, [*base, "--site", "femur left", "--load", "list"])
    assert set(femur.stdout.split()) == {c.name for c in facts.loads_for("femur")}
    every = runner.invoke(cli.app, [*base, "--load", "list"])
    assert every.stdout.split() == list(facts.loads())
    with pytest.raises(InputError, match="femur_walking is no load of L3; choose lumbar_compr"):
        steps.strength_case("none.nii.gz", out=tmp_path / "o", site="L3", loads=["femur_walking"])
    with pytest.raises(InputError, match="there is no load case 'jump'"):
        steps.strength_case("none.nii.gz", out=tmp_path / "o", site="L3", loads=["jump"])
    with pytest.raises(InputError, match="say which bone"):
        steps.strength_case("none.nii.gz", out=tmp_path / "o")
    with pytest.raises(InputError, match="is no folder of a plan"):
        steps.strength_case(patient["ct"], out=tmp_path / "o", site="L3", now_at=patient["ct"])
    assert runner.invoke(cli.app, base).exit_code == 2
    assert not (tmp_path / "o").exists()


def test_cement_of_another_place_is_said_before_the_bone_is_loaded(
    patient: dict[str, Path], cement: Path, tmp_path: Path
) -> None:
    out, full = tmp_path / "out", read_volume(cement)[0]
    with pytest.raises(InputError, match="is a second found cement"):
        steps.strength_case(patient["ct"], out=out, cement=(cement, cement), **given(patient))
    away = np.eye(4)
    away[:3, 3] = [300.0, 0.0, 0.0]
    grid = Grid(shape=full.grid.shape, affine=away @ full.grid.affine)
    beside = write_volume(tmp_path / "beside.nii.gz", Volume(grid=grid, values=full.values))
    with pytest.raises(InputError, match="none of the found cement lies in L3"):
        steps.strength_case(patient["ct"], out=out, cement=beside, **given(patient))
    assert not out.exists()


# --- cohort -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_sheet")
def test_one_bad_case_of_three_stops_no_other(patient: dict[str, Path], tmp_path: Path) -> None:
    good = given(patient) | {"ct": patient["ct"], "loads": ["lumbar_compression"]}
    cases = [
        good | {"out": tmp_path / "a"},
        good | {"out": tmp_path / "b", "site": "elbow"},
        good | {"out": tmp_path / "c", "weight_kg": 80.0},
    ]
    first, second, third = steps.strengths(cases, workers=0)
    assert isinstance(first, steps.StrengthCase)
    assert isinstance(second, str)
    assert "the site 'elbow' is not one trocar knows" in second
    assert isinstance(third, steps.StrengthCase)
    assert third.strength.constants["weight_kg"] == 80.0
    assert not (tmp_path / "b").exists()


def test_what_nobody_foresaw_becomes_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def falls(**_: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(steps, "strength_case", falls)
    (told,) = steps.strengths([{}], workers=0)
    assert told == "it stopped at a fault of the program (ZeroDivisionError)"


def test_outcomes_come_in_the_order_of_the_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_they_end(work: Any, cases: Any, **how: Any) -> Iterator[farm.Outcome]:
        for case in reversed(list(cases)):
            yield farm.Outcome(name=case.name, state="failed", error=case.payload["ct"])

    monkeypatch.setattr(farm, "run_all", as_they_end)
    assert list(steps.strengths([{"ct": c} for c in "abc"])) == ["a", "b", "c"]


@pytest.mark.slow
def test_the_demo_loads_the_bone_and_goes_on_where_it_cannot(tmp_path: Path) -> None:
    short = ["--no-cement", "--no-ablation", "--no-viewer", "--no-serve"]
    for bone, can in (("vertebra_l3", True), ("pubic_ramus", False)):
        out = tmp_path / bone
        result = runner.invoke(cli.app, ["demo", "--bone", bone, "--out", str(out), *short])
        assert result.exit_code == 0, result.output
        assert (out / "plan.html").is_file()
        assert (out / "strength.html").is_file() == can
        assert ("no strength: the sacroiliac joint" in result.stderr) != can
    result = runner.invoke(cli.app, ["demo", "--out", str(tmp_path / "n"), *short, "--no-strength"])
    assert not (tmp_path / "n" / "strength.html").exists()
    assert (tmp_path / "n" / "plan.html").is_file()


@pytest.mark.slow
def test_processes_give_the_outcomes_in_order(tmp_path: Path) -> None:
    cases = [{"ct": f"{n}.nii.gz", "site": "L3", "out": tmp_path / str(n)} for n in range(3)]
    told = list(steps.strengths(cases, workers=2))
    assert [str(t).split(".nii.gz")[0] for t in told] == ["0", "1", "2"]
    with pytest.raises(InputError, match="-1 workers"):
        list(steps.strengths(cases, workers=-1))


class Deadly:
    """Ends the process that unpacks it, as a lack of memory would."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


@pytest.mark.slow
def test_a_process_that_dies_takes_no_other_case_along(
    patient: dict[str, Path], tmp_path: Path
) -> None:
    good = given(patient) | {"ct": patient["ct"], "loads": ["lumbar_compression"]}
    cases = [
        good | {"out": tmp_path / "a"},
        good | {"out": tmp_path / "b", "labels": Deadly()},
        good | {"out": tmp_path / "c"},
    ]
    first, second, third = steps.strengths(cases, workers=2)
    assert isinstance(first, steps.StrengthCase)
    assert isinstance(second, str)
    assert "its worker died 3 times" in second
    assert isinstance(third, steps.StrengthCase)
    assert third.strength.bearing("now").ratio == first.strength.bearing("now").ratio
    assert (tmp_path / "c" / "strength.html").is_file()


# --- the whole way ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(tmp_path_factory.mktemp("fine"), make("vertebra_l3"))


@pytest.mark.slow
def test_cement_is_planned_found_and_loaded(fine: dict[str, Path], tmp_path: Path) -> None:
    from trocar.io.results import read_predicted

    case, result, out = (tmp_path / n for n in ("case", "result", "out"))
    place = ["--site", "L3", "--labels", str(fine["labels"]), "--lesion", str(fine["lesion"])]
    made = runner.invoke(
        cli.app,
        ["cement", str(fine["ct"]), *place, "--out", str(case), "--runs", "4", "--no-viewer"],
    )
    assert made.exit_code == 0, made.output
    simulated = read_predicted(case)
    post = write_volume(tmp_path / "post.nii.gz", after("vertebra_l3", simulated).ct)
    assess_case(
        post, site="L3", pre=fine["ct"], labels=fine["labels"], lesion=fine["lesion"], out=result,
        viewer=False,
    )  # fmt: skip
    told = runner.invoke(
        cli.app,
        ["strength", str(fine["ct"]), *place, "--out", str(out), "--voxel", "1.5", "--cement",
         str(case), "--cement", str(result), "--no-viewer", "--language", "zh-Hant", "--json"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    strength = json.loads(told.stdout)["strength"]
    assert strength["states"] == ["intact", "now", "planned", "found"]
    share = {(b["state"], b["load"]): b["of_intact"]["mean"] for b in strength["bearings"]}
    print("of intact:", share)
    for load in dict.fromkeys(b["load"] for b in strength["bearings"]):
        assert share["now", load] < share["planned", load]
        # The CT afterwards shows just the cement that was planned, the patient lying otherwise.
        assert share["found", load] == pytest.approx(share["planned", load], abs=0.05)
    for one in strength["bearings"]:
        assert one["ratio"]["low"] < one["ratio"]["mean"] < one["ratio"]["high"]
    assert (out / "strength.html").stat().st_size > 10_000
