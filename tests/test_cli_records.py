"""The commands on records, as a person types them: study, select, follow, audit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trocar.cli import app
from trocar.errors import InputError

run = CliRunner()


def test_a_new_study_is_empty_sound_and_explains_itself(tmp_path: Path) -> None:
    folder = tmp_path / "unit"
    assert run.invoke(app, ["study", "new", str(folder)]).exit_code == 0
    assert (folder / "pain.csv").read_text(encoding="utf-8-sig").startswith("lesion_id,day,low")
    assert "never write 0" in (folder / "README.txt").read_text(encoding="utf-8").lower()
    told = run.invoke(app, ["study", "check", str(folder)])
    assert told.exit_code == 0
    assert "0 patients, 0 lesions, no problem found" in told.stdout


def test_every_fault_is_told_with_file_row_and_column(tmp_path: Path) -> None:
    folder = tmp_path / "unit"
    run.invoke(app, ["study", "new", str(folder)])
    with (folder / "patients.csv").open("a", encoding="utf-8") as file:
        file.write("P1,femail,61\n")
    with (folder / "pain.csv").open("a", encoding="utf-8") as file:
        file.write("L1,0,eleven\n")
    told = run.invoke(app, ["study", "check", str(folder)])
    assert isinstance(told.exception, InputError)
    assert "patients.csv, row 2, column sex: is 'femail'" in told.stdout
    assert "pain.csv, row 2, column low: is 'eleven'; expected a number from 0 to 10" in told.stdout
    as_json = run.invoke(app, ["study", "check", str(folder), "--json"])
    assert as_json.exit_code == 1
    assert {p["column"] for p in json.loads(as_json.stdout)["problems"]} >= {"sex", "low"}


def test_a_study_survives_every_form(tmp_path: Path) -> None:
    from trocar.io.records import example_study, read_study, write_study

    first = tmp_path / "a"
    write_study(first, example_study())
    one, two = tmp_path / "b.json", tmp_path / "c.zip"
    for source, target in ((first, one), (one, two)):
        assert run.invoke(app, ["study", "convert", str(source), str(target)]).exit_code == 0
    assert read_study(two) == example_study()


def test_the_schema_is_json() -> None:
    told = json.loads(run.invoke(app, ["study", "schema"]).stdout)
    assert told["$schema"].endswith("2020-12/schema")


def test_following_one_lesion_says_response_relief_and_harm() -> None:
    told = run.invoke(app, ["follow", "--example", "--lesion", "5"])
    assert told.exit_code == 0
    assert "1 week   partial response: pain 7 to 4; by pain alone" in told.stdout
    assert "from day 1 to day 112, still there at the last score" in told.stdout
    assert "paralysis on day 1, CIRSE 5" in told.stdout
    assert "Research use only" in told.stdout


def test_following_for_machines_gives_every_lesion() -> None:
    told = json.loads(run.invoke(app, ["follow", "--example", "--json"]).stdout)
    kinds = {one["record"]["lesion"]["lesion_id"]: one["responses"]["Wk1"]["response"]["kind"]
             for one in told["lesions"]}  # fmt: skip
    # clinical.md H.1: pain only, on the last score up to week 1.
    assert kinds == {
        "1": "PR", "2": "IR", "3": "PR", "4": "CR", "5": "PR", "6": "IR",
        "7": "not evaluable", "8": "PP", "9": "IR", "10": "PR", "11": "IR",
    }  # fmt: skip


@pytest.mark.parametrize("command", ["select", "follow", "audit"])
def test_a_study_or_the_example_must_be_named(command: str, tmp_path: Path) -> None:
    told = run.invoke(app, [command])
    assert isinstance(told.exception, InputError)
    assert "--example" in str(told.exception)
    both = run.invoke(app, [command, str(tmp_path), "--example"])
    assert isinstance(both.exception, InputError)


@pytest.mark.parametrize("command", ["select", "follow"])
def test_what_is_odd_in_the_data_is_told_whenever_they_are_loaded(command: str) -> None:
    told = run.invoke(app, [command, "--example", "--lesion", "1"])
    assert told.exit_code == 0
    for flag in ("F1", "F2", "F3", "F4", "F5", "F6", "F7"):
        assert f"{flag}   " in told.stderr
    assert "F1" not in told.stdout
