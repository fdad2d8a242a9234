"""Hundreds of cases: the table, what is done once and what again, and what is written of it."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from trocar import NOTICE, cli, cohort
from trocar.errors import InputError, TrocarError
from trocar.io.formats import write_volume
from trocar.model.space import Volume
from trocar.phantom import Phantom, make
from trocar.phantom.files import write

runner = CliRunner()
DONE: list[str] = []  # the cases that were computed


def computed(row: Mapping[str, str], home: Path, how: Any, options: Any) -> dict[str, Any]:
    """A plan without a needle in it: what is in the CT file is the verdict."""
    place = cohort._needed(row, home, "ct")
    if not place.is_file():
        raise InputError(f"{place.name} does not exist; give a CT")
    DONE.append(row["case"])
    said = place.read_text()
    how["progress"]("planning", 0.5)
    if said == "fault":
        raise KeyError("patient K-1234")
    if said == "stop by hand":
        raise KeyboardInterrupt
    how["out"].mkdir(parents=True, exist_ok=True)
    (how["out"] / "plan.html").write_text("sheet")
    margin = 9.0 - len(row["case"])
    return {"verdict": said, "site": row.get("site", ""), "margin_mm": margin, "lesion_ml": 4.0}


@pytest.fixture(autouse=True)
def _computed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    DONE.clear()
    if "real" not in request.fixturenames:
        monkeypatch.setitem(cohort._DO, "plan", computed)
        monkeypatch.setattr("trocar.io.unfinished.program", lambda: ("1",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "in"
    home.mkdir()
    verdicts = {"a": "ok", "bb": "stop", "ccc": "caution", "d": "fault", "e": "ok"}
    for name, said in verdicts.items():
        (home / f"{name}.nii").write_text(said)
    rows = "".join(f"{name},{name}.nii,L3\n" for name in verdicts) + "gone,nowhere.nii,L3\n"
    (home / "cases.csv").write_text("case,ct,site\n" + rows)
    return home


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Callable[..., cohort.Cohort]:
    def go(**how: Any) -> cohort.Cohort:
        DONE.clear()
        return cohort.run_cohort(folder, out=tmp_path / "out", **{"workers": 0} | how)

    return go


def state(done: cohort.Cohort) -> dict[str, str]:
    return {r["case"]: r["state"] for r in done.rows}


# --- The table ------------------------------------------------------------------------------------


def test_the_template_names_what_lies_there(tmp_path: Path) -> None:
    for place in ("p1/ct/1.dcm", "p1/labels.nii.gz", "p1/lesion.nii.gz", "p2/1.dcm", "p3.nii.gz",
                  ".hidden/x", "notes.txt"):  # fmt: skip
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    result = runner.invoke(cli.app, ["cohort", str(tmp_path), "--template"])
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert list(rows[0]) == list(cohort.COLUMNS)
    told = [{k: v for k, v in row.items() if v} for row in rows]
    assert told == [
        {"case": "p1", "ct": "p1/ct", "labels": "p1/labels.nii.gz", "lesion": "p1/lesion.nii.gz"},
        {"case": "p2", "ct": "p2"},
        {"case": "p3", "ct": "p3.nii.gz"},
    ]
    (tmp_path / "cases.csv").write_text(result.stdout)
    assert [r["case"] for r in cohort.read_table(tmp_path / "cases.csv")] == ["p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "--template"),
        (b"", "no table"),
        (b"ct,site\na,L1\n", "has no column 'case'"),
        (b"case,ct,level\na,b,L1\n", "has a column 'level'"),
        (b"case,ct\n", "holds no case"),
        (b"case,ct\na,1\nA,2\n", "the case A twice"),
        (b"case,ct\na,1\n../b,2\n", "row 3"),
        (b"case,ct\n,1\n", "row 2"),
        (
            b"case,click\na,1,2,3\n",
            "row 2 has more cells than the 2 columns; put cells with commas",
        ),
        (b"\xff\xfec\0", "UTF-16"),
    ],
)
def test_a_table_that_is_none_is_told(text: bytes | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "cases.csv").write_bytes(text)
    with pytest.raises(InputError, match=said):
        cohort.run_cohort(tmp_path, out=tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["case;ct\r\na;x y.nii\r\n", "\ufeffcase,ct\na,x y.nii\n\n,\n"])
def test_tables_as_spreadsheets_write_them(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert cohort.read_table(tmp_path / "t.csv") == ({"case": "a", "ct": "x y.nii"},)


@pytest.mark.parametrize("row", ["a", "a,x.nii", "a,x.nii,", 'a,x.nii,"",,'])
def test_cells_that_are_missing_are_empty(row: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"case,ct,site\n{row}\n")
    ct = "x.nii" if "x" in row else ""
    assert cohort.read_table(tmp_path / "t.csv") == ({"case": "a", "ct": ct, "site": ""},)


def test_a_case_may_stand_in_a_column_that_a_row_does_not_reach(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ct,case\nx.nii\n")
    with pytest.raises(InputError, match="row 2: the case is called ''"):
        cohort.read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("text", ["1 2", "1 2 x", "1 2 nan", "lpr:1 2 3", "1 2 3 4"])
def test_half_a_point_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected x y z"):
        cohort._point(text)


def test_arguments_are_those_of_the_pathway(tmp_path: Path) -> None:
    row = {"labels": "l.nii", "lesion": "", "click": "ijk:1,2,3", "ball": "1 2 3 4", "series": "2"}
    assert cohort._arguments(row, tmp_path) == {
        "labels": tmp_path / "l.nii", "lesion": None, "click": ("ijk", (1.0, 2.0, 3.0)),
        "ball_mm": (1.0, 2.0, 3.0, 4.0), "series": "2",
    }  # fmt: skip


# --- What is done, and what again -----------------------------------------------------------------


def test_no_case_stops_another_and_each_is_told(run: Any) -> None:
    done = run()
    assert state(done) == {"a": "done", "bb": "done", "ccc": "done", "d": "failed", "e": "done",
                           "gone": "failed"}  # fmt: skip
    assert [r["case"] for r in done.rows] == ["d", "gone", "bb", "ccc", "a", "e"]  # worst first
    why = {r["case"]: r["error"] for r in done.rows}
    assert why["gone"] == "nowhere.nii does not exist; give a CT"
    assert why["d"] == "it stopped at a fault of the program (KeyError)"


def test_a_next_start_does_what_is_missing_changed_or_failed(
    run: Any, folder: Path, tmp_path: Path
) -> None:
    first = run()
    assert DONE == ["a", "bb", "ccc", "d", "e"]
    again = run()
    assert DONE == ["d"]
    assert again.rows == first.rows
    os.utime(folder / "a.nii", (1, 1))  # copied anew, with the same content
    (folder / "ccc.nii").write_text("stop")
    (tmp_path / "out" / "e" / "plan.html").unlink()
    changed = run()
    assert DONE == ["ccc", "d", "e"]
    assert {r["case"]: r["verdict"] for r in changed.rows}["ccc"] == "stop"
    run(seed=1)
    assert DONE == ["a", "bb", "ccc", "d", "e"]


def test_another_program_does_all_again(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr("trocar.io.unfinished.program", lambda: ("2",))
    run()
    assert DONE == ["a", "bb", "ccc", "d", "e"]


def test_stopped_by_hand_what_is_done_is_done(run: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "ccc.nii").write_text("stop by hand")
    arguments = ["cohort", str(folder), "--out", str(tmp_path / "out"), "--workers", "0"]
    result = runner.invoke(cli.app, arguments)
    assert isinstance(result.exception, TrocarError)
    assert "the same command goes on from what is finished" in str(result.exception)
    with (tmp_path / "out" / "cohort.csv").open(encoding="utf-8-sig") as table:
        states = {r["case"]: r["state"] for r in csv.DictReader(table)}
    assert states == {"a": "done", "bb": "done", "ccc": "not done", "d": "not done",
                      "e": "not done", "gone": "not done"}  # fmt: skip
    (folder / "ccc.nii").write_text("ok")
    run()
    assert DONE == ["ccc", "d", "e"]


# --- What is written ------------------------------------------------------------------------------


def test_table_overview_and_record_say_the_same(run: Any, tmp_path: Path) -> None:
    done = run(language="zh-Hant")
    out = tmp_path / "out"
    with (out / "cohort.csv").open(encoding="utf-8-sig") as table:
        rows = list(csv.DictReader(table))
    assert tuple(rows[0]) == cohort.RESULTS
    assert [r["case"] for r in rows] == [r["case"] for r in done.rows]
    assert [r["margin_mm"] for r in rows] == ["", "", "7", "6", "8", "8"]
    record = json.loads((out / "cohort.json").read_text())
    assert record["notice"] == NOTICE
    assert record["cases"] == list(done.rows)
    assert record["run"]["parameters"]["cases"] == 6
    assert set(record["run"]["inputs"]) == {"cases.csv", *(f"{c}.nii" for c in
                                            ("a", "bb", "ccc", "d", "e"))}  # fmt: skip
    page = (out / "cohort.html").read_text()
    assert 'lang="zh-Hant"' in page
    assert [out / r["sheet"] for r in done.rows if r["sheet"]] == [
        out / c / "plan.html" for c in ("bb", "ccc", "a", "e")
    ]
    assert all(f'href="{c}/plan.html"' in page for c in ("bb", "ccc", "a", "e"))


def test_no_cell_is_run_by_a_spreadsheet(run: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "cases.csv").write_text("case,ct,site\na,a.nii,=1+1\n")
    run()
    with (tmp_path / "out" / "cohort.csv").open(encoding="utf-8-sig") as table:
        assert next(csv.DictReader(table))["site"] == "'=1+1"


def test_the_command_names_what_was_not_computed(run: Any, folder: Path, tmp_path: Path) -> None:
    arguments = ["cohort", str(folder), "--out", str(tmp_path / "out"), "--workers", "0"]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 1
    assert "gone: nowhere.nii does not exist" in result.stdout
    assert "cases   6: 1 stop, 0 unknown, 1 caution, 2 ok, 2 not computed" in result.stdout
    assert NOTICE in result.stdout
    told = json.loads(runner.invoke(cli.app, [*arguments, "--json"]).stdout)
    assert [c["case"] for c in told["cases"]] == ["d", "gone", "bb", "ccc", "a", "e"]
    (folder / "cases.csv").write_text("case,ct\na,a.nii\n")
    assert runner.invoke(cli.app, arguments).exit_code == 0


def test_what_a_cohort_cannot_do_is_told(run: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one of plan, cement, assess, strength"):
        run(do="ablate")
    with pytest.raises(InputError, match="is no folder"):
        cohort.run_cohort(tmp_path / "none", out=tmp_path / "out")


def test_progress_is_that_of_all_cases(run: Any) -> None:
    told: list[tuple[str, float]] = []
    run(progress=lambda step, fraction: told.append((step, fraction)))
    assert told[-1] == ("6 of 6, 2 not", 1.0)
    fractions = [f for _, f in told]
    assert fractions == sorted(fractions)
    assert 0.5 / 6 in fractions


# --- Real cases -----------------------------------------------------------------------------------


@pytest.fixture
def real() -> None:
    """This test computes."""


def cemented(patient: Phantom) -> Volume:
    """The CT of a synthetic patient with a ball of cement in the lesion."""
    values = np.array(patient.ct.values)
    grid = patient.ct.grid
    box = grid.around(patient.click_mm, 6.0)
    points = grid.crop(box).to_world(np.moveaxis(np.indices(values[box].shape), 0, -1))
    ball = np.linalg.norm(points - patient.click_mm, axis=-1) < 6.0
    values[box] = np.where(ball, 2600, values[box])
    return Volume(grid=grid, values=values)


@pytest.mark.slow
@pytest.mark.usefixtures("real")
def test_two_workers_assess_what_one_process_assesses(tmp_path: Path) -> None:
    home = tmp_path / "in"
    home.mkdir()
    table = "case,post,site,labels,lesion\n"
    for seed in (0, 1):
        patient = make("vertebra_l3", seed=seed)
        write(home / f"p{seed}", patient)
        write_volume(home / f"p{seed}" / "post.nii.gz", cemented(patient))
        table += f"p{seed},p{seed}/post.nii.gz,L3,p{seed}/labels.nii.gz,p{seed}/lesion.nii.gz\n"
    (home / "cases.csv").write_text(table)
    together = cohort.run_cohort(home, do="assess", out=tmp_path / "farm", workers=2)
    (home / "cases.csv").write_text(table.rsplit("p1,", 1)[0])
    alone = cohort.run_cohort(home, do="assess", out=tmp_path / "alone", workers=0)
    of_farm, serial = (
        {k: v for k, v in next(r for r in done.rows if r["case"] == "p0").items() if k != "seconds"}
        for done in (together, alone)
    )
    assert of_farm == serial
    assert (of_farm["state"], of_farm["tries"]) == ("done", 1)
    assert of_farm["cement_ml"] > 0.5
    a, b = (
        json.loads((tmp_path / where / "p0" / "result.json").read_text())["fill"]
        for where in ("farm", "alone")
    )
    assert a == b
    assert {r["case"] for r in together.rows if r["state"] == "done"} == {"p0", "p1"}
    assert (tmp_path / "farm" / "p1" / "result.html").is_file()
