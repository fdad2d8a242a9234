"""From the folder of a plan to ablation and cement; and on from where an ablation was stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trocar import cli, pathway
from trocar.errors import InputError, TrocarError
from trocar.io.exact import fingerprint
from trocar.io.formats import read_volume, write_volume
from trocar.io.unfinished import FOLDER
from trocar.model.ablation import ThermalDose
from trocar.model.space import Volume
from trocar.pathway.ablation import ablate_case, ablate_lesion
from trocar.phantom import make
from trocar.phantom.files import write
from trocar.simulation import ablation as simulation

runner = CliRunner()

# Short, and near enough to a nerve that changes are tried, too.
OPTIONS: dict[str, Any] = {
    "device": "rf_10", "place": "needle", "applicators": 1, "seconds": 20.0, "pulled_back_mm": 20.0,
}  # fmt: skip
BY_HAND = ["--device", "rf_10", "--place", "needle", "--seconds", "20", "--no-viewer", "--json"]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    coarse = make("vertebra_l3", spacing_mm=(2.0, 1.6, 1.6))
    return write(tmp_path_factory.mktemp("patient"), coarse)


def arguments(patient: dict[str, Path]) -> list[str]:
    return ["--site", "L3", "--labels", str(patient["labels"]), "--lesion", str(patient["lesion"])]


@pytest.fixture(scope="module")
def plan(patient: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a plan."""
    return planned(patient, tmp_path_factory.mktemp("case") / "out")


@pytest.fixture(scope="module")
def quick(patient: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a plan with one needle, whose sheet is soon drawn."""
    return planned(patient, tmp_path_factory.mktemp("quick") / "out", "--options", "1")


def planned(patient: dict[str, Path], out: Path, *more: str) -> Path:
    told = [str(patient["ct"]), *arguments(patient), "--out", str(out), "--no-viewer", *more]
    result = runner.invoke(cli.app, ["plan", *told])
    assert result.exit_code == 0, result.output
    return out


def copied(plan: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plan, tmp_path / "case"))


def simulations(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Lists every run that is simulated from now on; Ctrl-C comes in the one after so many."""
    done: list[str] = []
    real = simulation.ablate

    def counted(*given: Any, **named: Any) -> ThermalDose:
        if stop_after is not None and len(done) == stop_after:
            raise KeyboardInterrupt
        dose = real(*given, **named)
        done.append(dose.scenario)
        return dose

    monkeypatch.setattr(simulation, "ablate", counted)
    return done


def ablated(source: Path, out: Path, **how: Any) -> Any:
    return ablate_case(source, out=out, options=OPTIONS | how, viewer=False)


# --- the folder of a plan -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_plan_is_read_back_bit_for_bit(patient: dict[str, Path], plan: Path) -> None:
    back = pathway.read_case(plan)
    assert json.loads((plan / "plan.json").read_text())["scan"]["sha256"] == back.scan.sha256
    again, _ = pathway.plan_case(
        patient["ct"], site="L3", labels=patient["labels"], lesion=patient["lesion"],
        out=plan.parent / "again", viewer=False,
    )  # fmt: skip
    assert fingerprint(back.anatomy) == fingerprint(again.anatomy)
    assert fingerprint(back.plan.options) == fingerprint(again.plan.options)
    assert fingerprint((back.lesion, back.plan.sets, back.plan.refusals)) == fingerprint(
        (again.lesion, again.plan.sets, again.plan.refusals)
    )
    assert back.plan.run is not None
    assert set(back.plan.run.inputs) == {back.scan.name, "labels", "lesion"}


def test_only_the_kept_file_knows_where_the_ct_was(patient: dict[str, Path], quick: Path) -> None:
    place = patient["ct"].parent.name
    for file in quick.glob("*.json"):
        assert place not in file.read_text(encoding="utf-8"), file.name
    assert place not in (quick / "plan.html").read_text(encoding="utf-8")


def test_plan_and_ct_may_move_together(
    patient: dict[str, Path], quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = tmp_path / "ward"
    ward.mkdir()
    shutil.copy(patient["ct"], ward / "ct.nii.gz")
    monkeypatch.chdir(ward)
    pathway.write_case("case", pathway.read_case(quick), ct="ct.nii.gz", viewer=False)
    moved = ward.rename(tmp_path / "archive")
    monkeypatch.chdir(tmp_path)
    assert pathway.read_case(moved / "case").scan.name == "ct"


def test_a_ct_that_is_gone_or_another_ends_in_one_sentence(
    patient: dict[str, Path], quick: Path, tmp_path: Path
) -> None:
    ct, _ = read_volume(patient["ct"])
    values = ct.values.copy()
    values[0, 0, 0] += 1
    other = write_volume(tmp_path / "other.nii.gz", Volume(grid=ct.grid, values=values))
    with pytest.raises(InputError, match=r"other.nii.gz is not the CT that the plan in .* --ct"):
        pathway.read_case(quick, ct=other)
    away = patient["ct"].rename(tmp_path / "away.nii.gz")
    try:
        for command in ("ablate", "cement"):
            result = runner.invoke(cli.app, [command, str(quick)])
            assert isinstance(result.exception, InputError)
            assert "is no longer at" in str(result.exception)
            assert "say with --ct where it is" in str(result.exception)
            assert "\n" not in str(result.exception)
        assert (
            pathway.read_case(quick, ct=away).scan.sha256
            == pathway.read_case(
                quick, ct=shutil.copy(away, tmp_path / "elsewhere.nii.gz")
            ).scan.sha256
        )
    finally:
        away.rename(patient["ct"])


def test_a_plan_that_is_not_whole_is_refused(quick: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no plan"):
        pathway.read_case(tmp_path)
    case = copied(quick, tmp_path)
    text = (case / "plan.json").read_text(encoding="utf-8")
    (case / "plan.json").write_text(text.replace("L3", "L2"), encoding="utf-8")
    with pytest.raises(InputError, match="is not as it was written with this plan"):
        pathway.read_case(case)
    (case / "plan.npz").write_bytes((case / "plan.npz").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cannot be gone on from .*; plan again"):
        pathway.read_case(case)
    (case / "plan.npz").unlink()
    with pytest.raises(InputError, match=r"no plan\.npz to go on from; plan again"):
        pathway.read_case(case)


def test_what_does_not_go_with_a_plan_is_said(
    patient: dict[str, Path], quick: Path, tmp_path: Path
) -> None:
    result = runner.invoke(cli.app, ["ablate", str(quick), *arguments(patient)])
    assert isinstance(result.exception, InputError)
    assert "leave out --site, --labels, --lesion and --case" in str(result.exception)
    ct = str(patient["ct"])
    result = runner.invoke(cli.app, ["cement", ct, "--site", "L3", "--ct", ct])
    assert isinstance(result.exception, InputError)
    assert "is no folder of a plan" in str(result.exception)
    result = runner.invoke(cli.app, ["ablate", ct, "--out", str(tmp_path / "o")])
    assert result.exit_code == 2
    assert "--site" in result.output


@pytest.mark.slow
def test_a_plan_gives_the_same_ablation_as_its_ct(
    patient: dict[str, Path], plan: Path, tmp_path: Path
) -> None:
    case = copied(plan, tmp_path)
    sheet = (case / "plan.html").read_bytes()
    result = runner.invoke(cli.app, ["ablate", str(case), "--ct", str(patient["ct"]), *BY_HAND])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert Path(told["files"]["sheet"]) == case / "plan.html"
    assert (case / "plan.html").read_bytes() == sheet  # not planned again
    assert (case / "ablation.html").is_file()
    whole = tmp_path / "whole"
    result = runner.invoke(
        cli.app, ["ablate", str(patient["ct"]), *arguments(patient), "--out", str(whole), *BY_HAND]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["ablation"] == told["ablation"]
    for name in ("temperature_c.nii.gz", "cem43_min.nii.gz", "died_s.nii.gz", "dead.nii.gz"):
        a, b = read_volume(case / name)[0].values, read_volume(whole / name)[0].values
        assert a.tobytes() == b.tobytes(), name
    records = [json.loads((f / "ablation.json").read_text()) for f in (case, whole)]
    assert records[0]["run"]["inputs"] == records[1]["run"]["inputs"]
    assert records[0]["plan"] == records[1]["plan"]


@pytest.mark.slow
def test_a_plan_gives_the_same_cement_as_its_ct(
    patient: dict[str, Path], plan: Path, tmp_path: Path
) -> None:
    short = ["--runs", "2", "--target", "1", "--no-viewer", "--json"]
    ways = (
        [str(plan), "--out", str(tmp_path / "a")],
        [str(patient["ct"]), *arguments(patient), "--out", str(tmp_path / "b")],
    )
    told = []
    for way in ways:
        result = runner.invoke(cli.app, ["cement", *way, *short])
        assert result.exit_code == 0, result.output
        told.append(json.loads(result.stdout)["cement"])
    assert told[0] == told[1]
    a, b = (read_volume(tmp_path / f / "predicted.nii.gz")[0].values for f in ("a", "b"))
    assert a.tobytes() == b.tobytes()
    assert not (tmp_path / "a" / "plan.html").exists()


# --- on from where it was stopped ---------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(plan: Path) -> Any:
    """In one go, and nothing kept of it."""
    return ablate_lesion(pathway.read_case(plan), **OPTIONS)


def bits(case: Any) -> str:
    """All that was found, without when and how long."""
    found = case.search
    return fingerprint(
        (found.plan, found.dose, [(a.change, a.plan, a.dose) for a in found.alternatives])
    )


@pytest.mark.slow
def test_what_was_stopped_goes_on_and_ends_the_same(
    plan: Path, uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert uninterrupted.search.alternatives
    with monkeypatch.context() as patch:
        simulations(patch, stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            ablated(plan, out)
    assert [p.name for p in out.iterdir()] == [FOLDER]
    assert len(list((out / FOLDER).iterdir())) == 2
    with monkeypatch.context() as patch:
        done = simulations(patch)
        case, files = ablated(plan, out)
    assert bits(case) == bits(uninterrupted)
    assert case.dose.peak_c.values.tobytes() == uninterrupted.dose.peak_c.values.tobytes()
    told = json.loads(files["ablation"].read_text(encoding="utf-8"))["run"]["parameters"]
    assert told["runs"] >= 3 + len(case.search.alternatives)
    assert told["resumed_runs"] == 2
    assert len(done) == told["runs"] - 2
    assert not (out / FOLDER).exists()


@pytest.mark.slow
def test_what_is_changed_or_damaged_is_made_anew(
    plan: Path, uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        simulations(patch, stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            ablated(plan, out)
    with monkeypatch.context() as patch:  # another time of heating: nothing fits
        done = simulations(patch, stop_after=1)
        with pytest.raises(KeyboardInterrupt):
            ablated(plan, out, seconds=15.0)
        assert len(done) == 1
    for file in (out / FOLDER).iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    with monkeypatch.context() as patch:
        done = simulations(patch)
        case, _ = ablated(plan, out)
    assert len(done) == case.run.parameters["runs"]
    assert case.run.parameters["resumed_runs"] == 0
    assert bits(case) == bits(uninterrupted)


@pytest.mark.slow
def test_the_terminal_says_that_it_goes_on(
    patient: dict[str, Path], plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = copied(plan, tmp_path)
    told = ["ablate", str(case), "--ct", str(patient["ct"]), *BY_HAND[:-1]]
    with monkeypatch.context() as patch:
        simulations(patch, stop_after=1)
        result = runner.invoke(cli.app, told)
    assert isinstance(result.exception, TrocarError)
    assert "the same command goes on from what is finished" in str(result.exception)
    result = runner.invoke(cli.app, told)
    assert result.exit_code == 0, result.output
    assert "goes on: 1 finished run of an earlier start" in result.stderr
    assert "1 of the " in result.stdout
    assert "simulated runs were already done" in result.stdout
