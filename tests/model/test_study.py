from __future__ import annotations

import re
from typing import Any

import pytest

from trocar.errors import InputError
from trocar.model.course import (
    Death,
    Event,
    Exclusion,
    Leak,
    OpioidLine,
    PainScore,
    Procedure,
    Visit,
)
from trocar.model.patient import Baseline, PainfulLesion, Patient
from trocar.model.study import KEYS, REFERENCES, TABLES, Study, StudyInfo, study_faults

INFO = StudyInfo(study_id="s", title="t")


def patient(name: str) -> Patient:
    return Patient(patient_id=name)


def lesion(name: str, of: str = "A") -> PainfulLesion:
    return PainfulLesion(lesion_id=name, patient_id=of, site="L1")


def score(of: str, day: float, low: float = 5, **more: Any) -> PainScore:
    return PainScore(lesion_id=of, day=day, low=low, **more)


def study(**tables: Any) -> Study:
    given = {"patients": (patient("A"), patient("B")), "lesions": (lesion("1"), lesion("2", "B"))}
    return Study(info=tables.pop("info", INFO), **{**given, **tables})


def test_rows_are_gathered_by_lesion_in_order_of_days() -> None:
    s = study(
        selection=(Baseline(lesion_id="2", inr=1.2),),
        procedures=(Procedure(procedure_id="p", lesion_id="2"),),
        pain=(score("2", 7), score("1", 0), score("2", 0)),
        opioids=(
            OpioidLine(lesion_id="2", day=7, drug="none", dose=0, unit="mg/day"),
            OpioidLine(lesion_id="2", day=0, drug="morphine", dose=30, unit="mg/day"),
        ),
        visits=(Visit(lesion_id="2", day=3, walking=2),),
        events=(
            Event(lesion_id="2", day=90, kind="last seen"),
            Event(lesion_id="2", day=30, kind="retreatment"),
        ),
    )
    assert len(s) == 2
    assert [r.lesion_id for r in s] == ["1", "2"]
    one, two = s.records
    assert one.baseline is None
    assert one.procedures == ()
    assert one.patient.patient_id == "A"
    assert two.baseline is not None
    assert two.baseline.inr == 1.2
    assert [p.day for p in two.course.pain] == [0, 7]
    assert two.course.opioids.days == (0, 7)
    assert [e.day for e in two.course.events] == [30, 90]
    assert s.record("2") is two
    with pytest.raises(InputError, match=r"no lesion '3'; its lesions are 1, 2"):
        s.record("3")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            {"patients": (patient("A"), patient("B"), patient("A"))},
            "patients, row 3: patient_id A stands already in row 1; expected each once",
        ),
        (
            {"lesions": (lesion("1"), lesion("2", "C"))},
            "lesions, row 2: patient_id is 'C'; expected a patient_id of the table patients",
        ),
        (
            {"pain": (score("1", 0), score("1", 0, 3))},
            "pain, row 2: lesion_id+day+recall+activity 1, 0 stands already in row 1",
        ),
        (
            {"pain": (score("3", 0),)},
            "pain, row 1: lesion_id is '3'; expected a lesion_id of the table lesions",
        ),
        (
            {"deaths": (Death(patient_id="Z"), Death(patient_id="Z"))},
            "deaths, row 2: patient_id Z stands already in row 1; expected each once (and 2 more)",
        ),
        (
            {"pain": (score("1", 0, recall="worst"), score("1", 0, recall="least"))},
            "pain, row 2: day 0 has a second score of the lesion beside row 1; expected one a day",
        ),
    ],
)
def test_keys_and_references_are_checked(tables: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        study(**tables)


def test_two_kinds_of_pain_of_one_day_need_a_word_which_is_analysed() -> None:
    pain = (score("1", 0, 8, recall="worst"), score("1", 0, 3, recall="least"), score("1", 7, 2))
    s = study(info=StudyInfo(study_id="s", title="t", pain_recall="least"), pain=pain)
    # The one that does not say which pain was asked for is taken as the one analysed.
    assert [p.low for p in s.records[0].course.pain] == [3, 2]


def test_who_is_excluded_need_not_be_a_patient() -> None:
    gone = Exclusion(patient_id="Z", stage="before treatment", reason="died")
    assert study(exclusions=(gone,)).exclusions == (gone,)


def test_faults_name_the_rows_of_the_file_when_these_are_given() -> None:
    tables = {"patients": (patient("A"), patient("A"))}
    wrong = study_faults(INFO, tables, {"patients": [4, 9]})
    assert wrong == [("patients", 1, "patient_id", "A stands already in row 4; expected each once")]


def test_death_counts_from_each_lesions_own_procedure() -> None:
    rows = {
        "lesions": (lesion("1"), lesion("2")),
        "procedures": (
            Procedure(procedure_id="p", lesion_id="1", date="2020-01-01"),
            Procedure(procedure_id="q", lesion_id="2", date="2020-01-31"),
        ),
    }
    dated = study(**rows, deaths=(Death(patient_id="A", date="2020-03-01"),))
    assert [r.course.death_day for r in dated] == [60, 30]
    counted = study(**rows, deaths=(Death(patient_id="A", day=60),))
    assert [r.course.death_day for r in counted] == [60, 30]
    alive = study(**rows)
    assert [r.course.death_day for r in alive] == [None, None]
    month_only = study(**rows, deaths=(Death(patient_id="A", date="2020-03"),))
    assert [r.course.death_day for r in month_only] == [None, None]


def test_equal_by_content_whatever_the_file() -> None:
    a, b = study(), study()
    assert a == b
    assert a != study(lesions=(lesion("1"),))
    assert a != "study"


def test_keys_and_references_name_columns_that_are() -> None:
    for table, key in KEYS.items():
        assert set(key) <= set(TABLES[table].__dataclass_fields__)
    for name, table in REFERENCES.items():
        assert KEYS[table] == (name,)


def _one_lesion(**tables: object) -> Study:
    return Study(
        info=StudyInfo(study_id="s", title="t"),
        patients=(Patient(patient_id="P"),),
        lesions=(PainfulLesion(lesion_id="L", patient_id="P", site="L1"),),
        **tables,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("procedure", "words"),
    [
        ({"leak_found": False}, "leak_found is no, but the table leaks has a leak"),
        ({"leak_found": True, "leak_assessed": "not looked for"}, "leak_assessed says not looked"),
        ({"leak_found": False, "leak_assessed": "not looked for"}, "leak_found is"),
    ],
)
def test_a_leak_cannot_be_and_not_be(procedure: dict[str, object], words: str) -> None:
    made = Procedure(procedure_id="A", lesion_id="L", **procedure)  # type: ignore[arg-type]
    leak = Leak(lesion_id="L", compartment="disc")
    with pytest.raises(InputError, match=words):
        _one_lesion(procedures=(made,), leaks=(leak,))
    sound = Procedure(procedure_id="A", lesion_id="L", leak_found=True, leak_assessed="CT")
    assert len(_one_lesion(procedures=(sound,), leaks=(leak,))) == 1


def test_nobody_dies_before_the_procedure() -> None:
    done = Procedure(procedure_id="A", lesion_id="L", date="2026-05-12")
    with pytest.raises(InputError, match="before the patient's first procedure on 2026-05-12"):
        _one_lesion(procedures=(done,), deaths=(Death(patient_id="P", date="2026-01-01"),))
    same_day = _one_lesion(procedures=(done,), deaths=(Death(patient_id="P", date="2026-05-12"),))
    assert same_day.records[0].course.death_day == 0
