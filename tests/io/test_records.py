"""A study is read strictly, told of completely, and kept without loss."""

from __future__ import annotations

import json
import os
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.io import records
from trocar.io.cells import from_json, parse, plain, unparse
from trocar.io.keeping import readme
from trocar.io.records import (
    Problem,
    example_study,
    problems,
    read_study,
    study_schema,
    template,
    write_study,
)
from trocar.model.columns import Column, columns
from trocar.model.course import PainScore
from trocar.model.patient import Baseline, PainfulLesion, Patient
from trocar.model.study import REFERENCES, TABLES, DataNote, Study, StudyInfo, study_faults

HEAD = '{"schema": "trocar-study", "version": 1, "study": {"study_id": "s", "title": "t"}}'
PATIENTS = "patient_id,age_years\nA,70\nB,\n"
LESIONS = "lesion_id,patient_id,site\n1,A,L1\n2,B,ilium\n"
PAIN = "lesion_id,day,low,high\n1,0,9,10\n1,7,2,\n2,0,8.5,\n"
FORMS = ("folder", "one.json", "zipped.zip")


def folder(place: Path, **files: str | bytes) -> Path:
    """A study folder; a name of two words such as ``pain_csv`` is the file pain.csv."""
    given: dict[str, str | bytes] = {"study_json": HEAD, "patients_csv": PATIENTS}
    given |= {"lesions_csv": LESIONS, "pain_csv": PAIN, **files}
    place.mkdir(exist_ok=True)
    for name, content in given.items():
        data = content if isinstance(content, bytes) else content.encode()
        if data != b"absent":
            (place / ".".join(name.rsplit("_", 1))).write_bytes(data)
    return place


def told(path: Path) -> list[str]:
    return [str(p) for p in problems(path)]


def one_file(**parts: Any) -> str:
    whole = {
        **json.loads(HEAD),
        "tables": {
            "patients": [{"patient_id": "A"}],
            "lesions": [{"lesion_id": "1", "patient_id": "A", "site": "L1"}],
        },
    }
    return json.dumps({k: v for k, v in {**whole, **parts}.items() if v != "absent"})


# --- What can be read -------------------------------------------------------------------------


def test_a_folder_becomes_a_study(tmp_path: Path) -> None:
    study = read_study(folder(tmp_path))
    assert [p.age_years for p in study.patients] == [70, None]
    assert study.pain == (
        PainScore(lesion_id="1", day=0, low=9, high=10),
        PainScore(lesion_id="1", day=7, low=2),
        PainScore(lesion_id="2", day=0, low=8.5),
    )
    assert study.visits == ()
    assert study.origin == str(tmp_path)
    assert len(study.sha256) == 64


@pytest.mark.parametrize(
    "pain",
    [
        "lesion_id,day,low,high\r\n1,0,9,10\r\n1,7,2,\r\n2,0,8.5,\r\n",
        "\ufefflesion_id;day;low;high\n1;0;9;10\n1;7;2;\n2;0;8.5;\n",
        "lesion_id\tday\tlow\thigh\n1\t0\t9\t10\n1\t7\t2\n2\t0\t8.5\n",
        "sep=;\nlesion_id;day;low;high\n1;0;9;10\n1;7;2;\n2;0;8.5;\n",
        "sep=\t\r\nlesion_id\tday\tlow\thigh\r\n1\t0\t9\t10\r\n1\t7\t2\r\n2\t0\t8.5\r\n",
        "lesion_id,day,low,high\r1,0,9,10\r1,7,2,\r2,0,8.5,\r",
        "lesion_id,day,low,high,,\n1,0,9,10,,\n\n1,7,2,,,\n ,,,,,\n2,0,8.5,,,\n,,,,,\n,,,,,\n",
        "high,low,day,lesion_id\n10,9,0,1\n,2,7,1\n,8.5,0,2\n",
        '"lesion_id","day","low","high"\n"1","0","9","10"\n"1","7","2"\n" 2 "," 0","8.5 "\n',
        "lesion_id,day,low,high\n1,0.0,9.00,1e1\n1,+7,2.,\n2,-0,85E-1,",
    ],
    ids=[
        "crlf", "bom-semicolon", "tab", "sep", "sep-tab", "cr", "empty-rows-and-columns",
        "order", "quoted", "numbers",
    ],
)  # fmt: skip
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path, pain: str) -> None:
    assert read_study(folder(tmp_path / "a", pain_csv=pain)) == read_study(folder(tmp_path / "b"))


def test_cells_of_every_kind(tmp_path: Path) -> None:
    selection = (
        "lesion_id,decided_on,pain_present,failed_treatments,mdt_members,operator_cases,goals\n"
        '1,2010-02,YES,radiotherapy; opioids,none,12,"walk; ""dance""\r\nagain"\n'
        "2,2010,no,,oncology,12.0,\n"
    )
    study = read_study(folder(tmp_path, selection_csv=selection))
    assert study.selection == (
        Baseline(
            lesion_id="1",
            decided_on="2010-02",
            pain_present=True,
            failed_treatments=("radiotherapy", "opioids"),
            mdt_members=(),
            operator_cases=12,
            goals='walk; "dance"\nagain',
        ),
        Baseline(
            lesion_id="2",
            decided_on="2010",
            pain_present=False,
            mdt_members=("oncology",),
            operator_cases=12,
        ),
    )


def test_other_files_and_those_an_open_spreadsheet_leaves_are_let_be(tmp_path: Path) -> None:
    place = folder(tmp_path, README_txt="read me", scan_png=b"\x89PNG")
    (place / ".~lock.pain.csv#").write_text("x")
    (place / "~$pain.xlsx").write_text("x")
    (place / "old").mkdir()
    (place / "old" / "pain.csv").write_text("nonsense")
    assert len(read_study(place).pain) == 3


def test_the_head_stands_for_its_folder(tmp_path: Path) -> None:
    place = folder(tmp_path)
    assert read_study(place / "study.json") == read_study(place)


def test_table_names_may_be_in_capitals(tmp_path: Path) -> None:
    place = folder(tmp_path, pain_csv="absent", Pain_CSV=PAIN)
    assert len(read_study(place).pain) == 3


def test_one_json_file_is_the_same_study(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    place.write_text("\ufeff" + one_file(notes=[{"note_id": "N1", "text": "x"}]), "utf-8")
    study = read_study(place)
    assert study.notes == (DataNote(note_id="N1", text="x"),)
    assert study.lesions == (PainfulLesion(lesion_id="1", patient_id="A", site="L1"),)


def test_the_hash_follows_the_bytes(tmp_path: Path) -> None:
    a = read_study(folder(tmp_path / "a")).sha256
    assert read_study(folder(tmp_path / "b", note_txt="beside")).sha256 == a
    assert read_study(folder(tmp_path / "c", pain_csv=PAIN + "\n")).sha256 != a


# --- What is told -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"pain_csv": "lesion_id,day,low\n1,0,9\n1,7,seven\n"},
            "pain.csv, row 3, column low: is 'seven'; expected a number from 0 to 10",
        ),
        (
            {"pain_csv": "lesion_id,day,low\n\n\n1,0,11\n"},
            "pain.csv, row 4, column low: is 11; expected a number from 0 to 10",
        ),
        (
            {"patients_csv": 'patient_id,note\nA,"two\nlines"\nB,x\nB C,x\n'},
            "patients.csv, row 4, column patient_id: is 'B C'; expected a name of letters, digits, "
            "dot, dash or underscore",
        ),
        (
            {"pain_csv": "lesion_id;day;low\n1;0;6,5\n"},
            "pain.csv, row 2, column low: is '6,5'; expected a number from 0 to 10, written with a "
            "decimal point, not a comma",
        ),
        (
            {"pain_csv": "lesion_id,day,low\n1,0,6,5\n"},
            "pain.csv, row 2: has 4 cells, the last '5'; expected 3; write decimals with a point, "
            "texts with ',' in quotes",
        ),
        (
            {"pain_csv": "lesion_id,day,low\n1,0,9-10\n"},
            "pain.csv, row 2, column low: is '9-10'; expected a number from 0 to 10; the ends of "
            "an interval go into two columns",
        ),
        (
            {"pain_csv": "lesion_id,day,low\n1,0,\n"},
            "pain.csv, row 2, column low: is empty; expected a number from 0 to 10",
        ),
        (
            {"pain_csv": "lesion_id,day,low,high\n1,0,9,8\n"},
            "pain.csv, row 2, column high: is 8; expected at least low, 9",
        ),
        (
            {"opioids_csv": "lesion_id,day,drug,dose,unit\n1,0,none,5,mg/day\n"},
            "opioids.csv, row 2, column drug: is 'none' with dose 5; expected dose 0 with drug "
            "none, and more than 0 with any other",
        ),
        (
            {"pain_csv": "lesion_id,dya,low,day\n1,0,9,0\n"},
            "pain.csv, row 1, column dya: is no column of pain; expected day",
        ),
        (
            {"pain_csv": "lesion_id,low,zzz\n1,9,0\n"},
            "pain.csv, row 1, column day: is missing from the header; expected a column with a "
            "number from -365 to 36500 (days)",
        ),
        (
            {"pain_csv": "lesion_id,day,low,low\n1,0,9,0\n"},
            "pain.csv, row 1, column low: stands twice in the header; expected each once",
        ),
        (
            {"pain_csv": "lesion_id,day,low,\n1,0,9,lost\n"},
            "pain.csv, row 2: is 'lost' below no name; expected a column with a name",
        ),
        (
            {"pain_csv": ""},
            "pain.csv, row 1, column lesion_id: is missing from the header; expected a column with "
            "a name of letters, digits, dot, dash or underscore",
        ),
        (
            {"patients_csv": "patient_id,sex\nA,Female\nB,\n"},
            "patients.csv, row 2, column sex: is 'Female'; expected one of female, male, other; "
            "did you mean 'female'?",
        ),
        (
            {"selection_csv": "lesion_id,infection\n1,perhaps\n"},
            "selection.csv, row 2, column infection: is 'perhaps'; expected yes, no, or empty for "
            "not known",
        ),
        (
            {"procedures_csv": "procedure_id,lesion_id,date\np,1,28.02.2010\n"},
            "procedures.csv, row 2, column date: is '28.02.2010'; expected a date written "
            "2026-11-25, 2026-11 or 2026",
        ),
        (
            {"selection_csv": "lesion_id,mdt_members\n1,oncology;oncology\n"},
            "selection.csv, row 2, column mdt_members: is 'oncology; oncology'; expected one or "
            "more of radiology, oncology, radiotherapy, orthopaedics, spinal surgery, pain "
            "management, palliative care, other, parted by ; (or none), each once",
        ),
        (
            {"pain_csv": PAIN + "1,7,3,\n"},
            "pain.csv, row 5, column lesion_id+day+recall+activity: 1, 7 stands already in row 3; "
            "expected each once",
        ),
        (
            {"lesions_csv": LESIONS + "3,C,L2\n"},
            "lesions.csv, row 4, column patient_id: is 'C'; expected a patient_id of the table "
            "patients",
        ),
        (
            {"pain_csv": 'lesion_id,day,low\n1,0,"9\n'},
            "pain.csv, row 2: cannot be parted into cells (unexpected end of data); expected "
            "quotes around whole cells only, each closed again, and no huge cells",
        ),
        (
            {"pain_csv": '"lesion_id,day,low\n1,0,9\n'},
            "pain.csv, row 1: cannot be parted into cells (unexpected end of data); expected "
            "quotes around whole cells only, each closed again, and no huge cells",
        ),
        (
            {"pain_csv": "lesion_id,day,low,instrument\n1,0,9,VAS" + "x" * 200_000 + "\n"},
            "pain.csv, row 2: cannot be parted into cells (field larger than field limit "
            "(131072)); expected quotes around whole cells only, each closed again, and no huge "
            "cells",
        ),
        (
            {"patients_csv": b"patient_id,note\nA,x\nB,na\xefve\n"},
            "patients.csv, row 3: is not UTF-8 (byte 0xEF); expected UTF-8 text; in a spreadsheet "
            "save it as 'CSV UTF-8'",
        ),
        (
            {"patients_csv": "patient_id\nA\nB\n".encode("utf-16")},
            "patients.csv: is UTF-16 text; expected UTF-8; in a spreadsheet save it as 'CSV UTF-8'",
        ),
        (
            {"patients_csv": b"PK\x03\x04\n\n\0\0"},
            "patients.csv, row 3: is not text (NUL bytes); expected UTF-8 text",
        ),
        (
            {"patients_csv": "patient_id,note\nA,a\x07b\nB,\n"},
            "patients.csv, row 2, column note: holds the character U+0007; expected text without "
            "control characters",
        ),
        (
            {"pians_csv": PAIN},
            "pians.csv: is no table of a study; expected pain.csv",
        ),
        (
            {"devices_xlsx": b"PK"},
            "devices.xlsx: is no CSV file; expected devices.csv; save it as 'CSV UTF-8'",
        ),
        (
            {"Pain_csv": PAIN},
            "pain.csv: stands beside Pain.csv; expected each table once",
        ),
        ({"study_json": "absent"}, "study.json: is missing; expected the head of the study beside "
         "its CSV tables"),
        (
            {"study_json": HEAD.replace("trocar-study", "other")},
            "study.json, column schema: is 'other'; expected 'trocar-study'",
        ),
        (
            {"study_json": HEAD.replace("1", "2")},
            "study.json, column version: is 2; expected 1; a newer trocar wrote it, so update "
            "trocar",
        ),
        (
            {"study_json": HEAD.replace("1", "true")},
            "study.json, column version: is yes; expected 1",
        ),
        (
            {"study_json": '{"schema": "trocar-study", "version": 1}'},
            "study.json, column study: is missing; expected an object that says what it is",
        ),
        (
            {"study_json": HEAD.replace('"title": "t"', '"titel": "t"')},
            "study.json, column study.titel: is no column of a study; expected title",
        ),
        (
            {"study_json": HEAD.replace('"t"', "NaN")},
            "study.json, column study.title: is nan; expected text",
        ),
        (
            {"study_json": HEAD[:-1] + ', "notes": [{"note_id": "a", "note_id": "a", '
             '"text": "x"}]}'},
            "study.json, table notes, row 1, column note_id: is given twice; expected each column "
            "once",
        ),
        (
            {"study_json": HEAD[:-1] + ', "tables": {}}'},
            "study.json, column tables: stand in the head; expected the tables in CSV files "
            "beside it",
        ),
        (
            {"study_json": HEAD[:-1] + ', "nots": []}'},
            "study.json, column nots: is no part of a study; expected notes",
        ),
        (
            {"study_json": HEAD[:-1] + ',\n "version": 1}'},
            "study.json, column version: is given twice; expected each once",
        ),
        (
            {"study_json": HEAD[:-1] + ",\n ]"},
            "study.json, row 2: is not JSON (Expecting property name enclosed in double quotes, "
            "character 2); expected JSON as trocar writes it",
        ),
        (
            {"study_json": "[" * 100_000},
            "study.json: is not JSON (nested too deep); expected JSON as trocar writes it",
        ),
        (
            {"study_json": "[]"},
            "study.json: is a list; expected an object with schema, version and study",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(
    tmp_path: Path, files: dict[str, str | bytes], said: str
) -> None:
    place = folder(tmp_path, **files)
    assert said in told(place)
    with pytest.raises(InputError, match=re.escape(said)):
        read_study(place)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            one_file(tables="absent"),
            "a.json, column tables: is missing; expected an object of tables",
        ),
        (
            one_file(tables=[]),
            "a.json, column tables: is a list; expected an object of tables",
        ),
        (
            one_file(tables={"pian": []}),
            "a.json, column tables.pian: is no table of a study; expected pain",
        ),
        (
            one_file(tables={"patients": {"a": 1}}),
            "a.json, table patients: is an object; expected a list of rows",
        ),
        (
            one_file(tables={"patients": [{"patient_id": "A"}, 7]}),
            "a.json, table patients, row 2: is 7; expected an object, one value a column",
        ),
        (
            one_file(tables={"patients": [{"patient_id": "A"}, {"age_years": "70"}]}),
            "a.json, table patients, row 2, column patient_id: is missing; expected a name of "
            "letters, digits, dot, dash or underscore",
        ),
        (
            one_file(tables={"patients": [{"patient_id": "A", "age_years": "70"}]}),
            "a.json, table patients, row 1, column age_years: is '70'; expected a number from 0 "
            "to 120 (years)",
        ),
        (
            one_file(tables={"patients": [{"patient_id": "A", "age": 70}]}),
            "a.json, table patients, row 1, column age: is no column of patients; expected "
            "age_years",
        ),
        (
            one_file(tables={"patients": [{"patient_id": "A", "age_years": float("inf")}]}),
            "a.json, table patients, row 1, column age_years: is inf; expected a number from 0 to "
            "120 (years)",
        ),
        (
            one_file(tables={"patients": [{"patient_id": "A", "note": "\ud800"}]}),
            "a.json, table patients, row 1, column note: holds the character U+D800; expected "
            "text without control characters",
        ),
        (
            one_file(tables={"lesions": [{"lesion_id": "1", "patient_id": "A", "site": ["L1"]}]}),
            "a.json, table lesions, row 1, column site: is a list; expected one of C1, C2",
        ),
        (
            one_file(tables={"patients": [{"patient_id": "A"}, {"patient_id": "A"}]}),
            "a.json, table patients, row 2, column patient_id: A stands already in row 1; "
            "expected each once",
        ),
        ("1" * 5000, "a.json: is not JSON (Exceeds the limit"),
        (
            '{"a": 1, "a": 2, "schema": "trocar-study"}',
            "a.json, column a: is given twice; expected each once",
        ),
    ],
)
def test_a_fault_of_one_file_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    place = tmp_path / "a.json"
    place.write_text(text, "utf-8")
    assert [t for t in told(place) if t.startswith(said)], told(place)


def test_every_fault_is_told_at_once_and_only_once(tmp_path: Path) -> None:
    place = folder(
        tmp_path,
        study_json=HEAD.replace('"version": 1', '"version": 0'),
        patients_csv="patient_id,sex,age_years\nA,f,700\nB,male,\n",
        lesions_csv="lesion_id,patient_id,site\n1,A,L9\n2,B,ilium\n2,C,L1\n4,A,L1\n",
        pain_csv="lesion_id,day,low,high\n1,0,9,8\n1,x,y,\n2,7,1,\n3,0,2,\n1,7,2,\n",
    )
    assert [p.where for p in problems(place)] == [
        "study.json, column version",
        "patients.csv, row 2, column sex",
        "patients.csv, row 2, column age_years",
        "lesions.csv, row 2, column site",
        "pain.csv, row 2, column high",
        "pain.csv, row 3, column day",
        "pain.csv, row 3, column low",
        "lesions.csv, row 4, column lesion_id",
        "lesions.csv, row 4, column patient_id",
        "pain.csv, row 5, column lesion_id",
        # Not told: that A and 1, whose rows are faulty, were not there.
    ]
    with pytest.raises(InputError) as error:
        read_study(place)
    lines = str(error.value).splitlines()
    assert lines[0].endswith("cannot be read as a study, 10 problems:")
    assert [line.strip() for line in lines[1:]] == told(place)


def test_a_table_that_cannot_be_read_makes_no_reference_wrong(tmp_path: Path) -> None:
    assert [p.file for p in problems(folder(tmp_path / "a", lesions_csv=b"\xff"))] == [
        "lesions.csv"
    ]
    named = folder(tmp_path / "b", lesions_csv="patient_id,site\nA,L1\n")
    assert [p.column for p in problems(named)] == ["lesion_id"]
    moved = folder(tmp_path / "d", lesions_csv="absent", lesion_csv=LESIONS)
    assert told(moved) == ["lesion.csv: is no table of a study; expected lesions.csv"]
    gone = folder(tmp_path / "e", lesions_csv="absent")
    assert {p.column for p in problems(gone)} == {"lesion_id"}
    cell = folder(tmp_path / "c", lesions_csv=LESIONS.replace("2,B", "?,B"))
    assert [p.where for p in problems(cell)] == ["lesions.csv, row 3, column lesion_id"]


def test_without_a_head_it_is_not_guessed_which_score_is_analysed(tmp_path: Path) -> None:
    pain = "lesion_id,day,low,recall\n1,0,8,worst\n1,0,3,least\n"
    place = folder(tmp_path, study_json="absent", pain_csv=pain)
    assert [p.file for p in problems(place)] == ["study.json"]


def test_many_faults_are_counted_and_fifty_told(tmp_path: Path) -> None:
    rows = "".join(f"1,{day},eleven\n" for day in range(1500))
    place = folder(tmp_path, pain_csv="lesion_id,day,low\n" + rows)
    assert len(problems(place)) == 1000
    with pytest.raises(InputError) as error:
        read_study(place)
    lines = str(error.value).splitlines()
    assert lines[0].endswith("1500 problems:")
    assert len(lines) == 52
    assert lines[-1] == "  and 1450 more"


def test_reading_stops_when_nearly_everything_is_wrong(tmp_path: Path) -> None:
    rows = "".join(f"x{i},y{i},z{i}\n" for i in range(100_000))
    place = folder(tmp_path, pain_csv="lesion_id,day,low\n" + rows)
    start = time.perf_counter()
    with pytest.raises(InputError, match="and at least 9950 more"):
        read_study(place)
    assert time.perf_counter() - start < 20


def test_a_problem_can_be_taken_apart(tmp_path: Path) -> None:
    place = folder(tmp_path, pain_csv="lesion_id,day,low\n1,0,seven\n")
    assert problems(place) == (
        Problem(
            file="pain.csv",
            table="pain",
            row=2,
            column="low",
            came="is 'seven'",
            expected="a number from 0 to 10",
        ),
    )


def test_the_words_of_a_message_in_a_cell_do_not_confuse_it(tmp_path: Path) -> None:
    place = folder(tmp_path, patients_csv="patient_id,sex\nA,a; expected b\nB,\n")
    assert problems(place)[0].came == "is 'a; expected b'"


@pytest.mark.parametrize("name", ["absent", "absent.json", "study.xlsx", "nul\0", "x" * 300])
def test_what_is_no_study_is_told(tmp_path: Path, name: str) -> None:
    if name.endswith("xlsx"):
        (tmp_path / name).write_bytes(b"hello")
    assert len(problems(tmp_path / name)) == 1
    with pytest.raises(InputError, match="cannot be read as a study, 1 problem"):
        read_study(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files on this system")
def test_odd_things_with_the_name_of_a_table_are_told(tmp_path: Path) -> None:
    place = folder(tmp_path / "a")
    (place / "leaks.csv").mkdir()
    os.mkfifo(place / "events.csv")
    (place / "visits.csv").symlink_to(place / "nowhere")
    assert told(place) == [
        f"{name}.csv: is no file; expected a file with this name"
        for name in ("events", "leaks", "visits")
    ]


def test_a_file_name_that_is_not_utf8_can_be_printed(tmp_path: Path) -> None:
    place = folder(tmp_path / "a")
    try:
        (place / os.fsdecode(b"pa\xffin.csv")).write_text("")
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with pytest.raises(InputError) as error:
        read_study(place)
    str(error.value).encode()


# --- Zips -------------------------------------------------------------------------------------


def zipped(place: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return place


@pytest.mark.parametrize("top", ["", "my study/"])
def test_a_zip_is_read_with_or_without_its_folder(tmp_path: Path, top: str) -> None:
    files = {"study.json": HEAD, "patients.csv": PATIENTS, "lesions.csv": LESIONS}
    place = zipped(
        tmp_path / "a.zip",
        {**{top + n: t for n, t in files.items()}, "__MACOSX/._pain.csv": "\0"},
    )
    assert len(read_study(place)) == 2


@pytest.mark.parametrize(
    "name", ["../pain.csv", "/pain.csv", "a/../../pain.csv", "..\\pain.csv", "C:/pain.csv"]
)
def test_names_that_point_outside_are_refused(tmp_path: Path, name: str) -> None:
    place = zipped(tmp_path / "a.zip", {"study.json": HEAD, name: PAIN})
    assert "which points outside; expected plain names" in told(place)[0]


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)
    place = zipped(tmp_path / "a.zip", {"study.json": HEAD, "pain.csv": "1" * (64 << 20)})
    assert place.stat().st_size < 100_000
    assert told(place) == ["pain.csv: holds more than 1 MB; expected a study, which is smaller"]
    # One that lies about its size is counted while reading, all files together.
    place = zipped(tmp_path / "b.zip", {"study.json": HEAD, "patients.csv": " " * 700_000,
                                        "pain.csv": " " * 700_000})  # fmt: skip
    assert any(t.startswith("patients.csv: holds more than") for t in told(place))


def test_a_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)
    place = folder(tmp_path / "a", pain_csv=" " * (1 << 20))
    assert told(place) == [
        "pain.csv: holds more than 1 MB; expected a study, which is smaller",
    ]
    (tmp_path / "b.json").write_text(" " * (1 << 21))
    assert told(tmp_path / "b.json")[0].startswith("b.json: holds more than 1 MB")


def test_damage_in_a_zip_is_told_with_the_file(tmp_path: Path) -> None:
    place = zipped(tmp_path / "a.zip", {"study.json": HEAD, "pain.csv": PAIN * 50})
    data = bytearray(place.read_bytes())
    at = data.find(b"pain.csv") + 12
    data[at : at + 8] = bytes(8)
    place.write_bytes(bytes(data))
    assert told(place)[0].startswith("pain.csv: cannot be unpacked (")


def test_a_file_twice_in_a_zip_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("study.json", HEAD)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("study.json", HEAD)
    assert "study.json: stands twice in the archive; expected each file once" in told(
        tmp_path / "a.zip"
    )


# --- Round trip -------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True)
TEXTS = (
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t;,\"'=\ufeff\x85"),
        max_size=12,
    )
    .map(str.strip)
    .filter(bool)
)
DATES = st.dates().map(str).flatmap(lambda d: st.sampled_from([d, d[:7], d[:4]]))


def cells(c: Column) -> st.SearchStrategy[Any]:
    """Every value a column may hold, from its description."""
    held: st.SearchStrategy[Any]
    if c.kind == "list":
        item = st.sampled_from(c.choices) if c.choices else NAMES
        held = st.lists(item, unique=True, min_size=int(c.required), max_size=4).map(tuple)
    elif c.choices:
        held = st.sampled_from(c.choices)
    elif c.kind == "yes/no":
        held = st.booleans()
    elif c.kind == "whole":
        assert c.low is not None
        assert c.high is not None
        held = st.integers(int(c.low), int(c.high))
    elif c.kind == "number":
        held = st.floats(c.low, c.high)
    elif c.kind == "date":
        held = DATES
    else:
        held = NAMES if c.identifier else TEXTS
    return held if c.required else st.none() | held


def rows(cls: type, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Rows of a class; values that only a pair of columns makes wrong are put right."""

    def make(values: dict[str, Any]) -> Any:
        if cls is PainScore and values["high"] is not None:
            values["low"], values["high"] = sorted((values["low"], values["high"]))
        if values.get("drug") == "none":
            values["dose"] = 0.0
        elif "drug" in values:
            values["dose"] = max(values["dose"], 0.5)
        return cls(**values)

    made = {c.name: fixed.get(c.name, cells(c)) for c in columns(cls)}
    return st.fixed_dictionaries(made).map(make)


@st.composite
def studies(draw: st.DrawFn) -> Study:
    tables: dict[str, tuple[Any, ...]] = {}
    for table, cls in TABLES.items():
        held = [n for n in REFERENCES if n in {c.name for c in columns(cls)}]
        there = {
            n: st.sampled_from([getattr(row, n) for row in tables[REFERENCES[n]]])
            for n in held
            if table != "exclusions" and REFERENCES[n] != table and tables[REFERENCES[n]]
        }
        lacking = [n for n in held if n not in there and REFERENCES[n] != table]
        most = 0 if lacking and table != "exclusions" else 3
        tables[table] = tuple(draw(st.lists(rows(cls, **there), max_size=most)))
    info = draw(rows(StudyInfo))
    notes = tuple(draw(st.lists(rows(DataNote), max_size=2)))
    while wrong := {(t, i) for t, i, _, _ in study_faults(info, tables)}:
        tables = {
            t: tuple(r for i, r in enumerate(made) if (t, i) not in wrong)
            for t, made in tables.items()
        }
    return Study(info=info, notes=notes, **tables)


@pytest.mark.parametrize("form", FORMS)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large
    ],
)  # fmt: skip
@given(study=studies())
def test_what_was_kept_is_read_back(tmp_path: Path, form: str, study: Study) -> None:
    assert read_study(write_study(tmp_path / form, study)) == study


@pytest.mark.parametrize("cls", [*TABLES.values(), StudyInfo, DataNote])
@settings(deadline=None)
@given(data=st.data())
def test_every_cell_is_read_back(cls: type, data: st.DataObject) -> None:
    c = data.draw(st.sampled_from(columns(cls)))
    value = data.draw(cells(c))
    back, fault = parse(c, unparse(value))
    assert fault is None
    assert (back, type(back)) == (value, type(value))
    back, fault = from_json(c, json.loads(json.dumps(plain(value))))
    assert fault is None
    assert back == value


@pytest.mark.parametrize("form", FORMS)
def test_the_example_survives_every_form(tmp_path: Path, form: str) -> None:
    study = example_study()
    again = read_study(write_study(tmp_path / form, study))
    assert again == study
    first = again.sha256
    assert read_study(write_study(tmp_path / form, again)).sha256 == first


# --- Writing ----------------------------------------------------------------------------------


def test_a_folder_holds_only_what_says_something(tmp_path: Path) -> None:
    study = read_study(folder(tmp_path / "a"))
    place = write_study(tmp_path / "deep" / "b", study)
    assert sorted(p.name for p in place.iterdir()) == [
        "lesions.csv", "pain.csv", "patients.csv", "study.json",
    ]  # fmt: skip
    assert (place / "pain.csv").read_text() == PAIN
    assert [p.name for p in place.parent.iterdir()] == ["b"]


def test_letters_beyond_ascii_are_marked_for_excel(tmp_path: Path) -> None:
    study = Study(
        info=StudyInfo(study_id="s", title="骨水泥"),
        patients=(Patient(patient_id="A", note="Żółć"),),
    )
    place = write_study(tmp_path / "a", study)
    assert (place / "patients.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_study(place) == study


def test_a_study_is_replaced_and_its_readme_stays(tmp_path: Path) -> None:
    place = template(tmp_path / "a")
    write_study(place, example_study())
    assert read_study(place) == example_study()
    assert (place / "README.txt").read_text("utf-8") == readme()
    small = read_study(folder(tmp_path / "b"))
    write_study(place, small)
    assert not (place / "complications.csv").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("other", ["thesis.docx", ".git", "pain.csv"])
def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path, other: str) -> None:
    place = tmp_path / "a"
    place.mkdir()
    (place / other).mkdir() if other == ".git" else (place / other).write_text("mine")
    with pytest.raises(InputError, match=rf"holds what is no part of a study \({other}\)"):
        write_study(place, example_study())
    assert [p.name for p in place.iterdir()] == [other]
    with pytest.raises(InputError, match="is there already"):
        template(place)


def test_a_failure_leaves_the_study_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_study(tmp_path / "a", example_study())
    one = write_study(tmp_path / "a.json", example_study())
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    other = Study(info=StudyInfo(study_id="s", title="t"))
    for path in (place, one):
        with pytest.raises(InputError, match=r"cannot be written to .*no space"):
            write_study(path, other)
        assert read_study(path) == example_study()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.json"]


def test_a_place_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "a.json", tmp_path / "file"):
        with pytest.raises(InputError):
            write_study(path, example_study())
    (tmp_path / "d.json").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_study(tmp_path / "d.json", example_study())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.json", "file"]


def test_the_template_is_an_empty_study_that_explains_itself(tmp_path: Path) -> None:
    place = template(tmp_path / "a")
    study = read_study(place)
    assert len(study.patients) == 0
    for table, cls in TABLES.items():
        names = [c.name for c in columns(cls)]
        assert (place / f"{table}.csv").read_text().rstrip("\n").split(",") == names
        for name in names:
            assert f"\n{name}" in readme()


# --- JSON Schema ------------------------------------------------------------------------------


def conforms(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Whether a value keeps to the few words of JSON Schema used here; slow and obvious."""
    if "$ref" in schema:
        return conforms(value, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    kinds = {
        "object": lambda v: isinstance(v, dict),
        "array": lambda v: isinstance(v, list),
        "string": lambda v: isinstance(v, str),
        "boolean": lambda v: isinstance(v, bool),
        "null": lambda v: v is None,
        "integer": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and v % 1 == 0,
        "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    }
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = isinstance(value, str)
    held = value if isinstance(value, dict) else {}
    items = value if isinstance(value, list) else []
    properties = schema.get("properties", {})
    return (
        (not types or any(kinds[t](value) for t in types))
        and ("const" not in schema or value == schema["const"])
        and ("enum" not in schema or value in schema["enum"])
        and (not number or schema.get("minimum", value) <= value <= schema.get("maximum", value))
        and (not text or re.search(schema.get("pattern", ""), value) is not None)
        and (not text or schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1e9))
        and len(items) >= (schema.get("minItems", 0) if isinstance(value, list) else 0)
        and (not schema.get("uniqueItems") or len({json.dumps(i) for i in items}) == len(items))
        and all(conforms(i, schema.get("items", {}), whole) for i in items)
        and all(n in held for n in (schema.get("required", []) if held else []))
        and (schema.get("additionalProperties", True) or set(held) <= set(properties))
        and all(conforms(v, properties[n], whole) for n, v in held.items() if n in properties)
    )


def test_what_is_written_keeps_to_the_schema(tmp_path: Path) -> None:
    schema = study_schema()
    assert json.loads(json.dumps(schema)) == schema
    written = json.loads(write_study(tmp_path / "a.json", example_study()).read_text("utf-8"))
    assert conforms(written, schema, schema)
    written["tables"]["pain"][0]["low"] = 11
    assert not conforms(written, schema, schema)


@pytest.mark.parametrize("cls", [*TABLES.values(), StudyInfo, DataNote])
@settings(deadline=None)
@given(data=st.data())
def test_the_schema_agrees_with_the_reader(cls: type, data: st.DataObject) -> None:
    whole = study_schema()
    c = data.draw(st.sampled_from(columns(cls)))
    anything = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | NAMES
        | st.lists(st.sampled_from(["cement", "CT", ""]), max_size=3)
        | st.sampled_from(["", "2010-02", "lung", "none", "L1", 0, 1, 4.0])
    )  # fmt: skip
    value = json.loads(json.dumps(plain(data.draw(cells(c) | anything))))
    accepted = from_json(c, value)[1] is None
    schema = whole["$defs"][cls.__name__]["properties"][c.name]
    if accepted:
        assert conforms(value, schema, whole)
    elif c.kind != "date" and not isinstance(value, str):
        assert not conforms(value, schema, whole)


def test_schema_says_the_same_as_an_independent_validator(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(study_schema())
    written = json.loads(write_study(tmp_path / "a.json", example_study()).read_text("utf-8"))
    jsonschema.Draft202012Validator(study_schema()).validate(written)
