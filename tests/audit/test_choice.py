"""A part of a study: the same as a study made of these lesions alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trocar.audit.choice import NOTE, only, operators, regions_of
from trocar.audit.summary import audit_study
from trocar.errors import InputError
from trocar.io.exports import plain
from trocar.io.records import example_study
from trocar.model.course import Death, Procedure
from trocar.model.patient import PainfulLesion, Patient
from trocar.model.study import Study, StudyInfo
from trocar.phantom.cohort import synthetic_study


def test_without_a_choice_nothing_changes() -> None:
    assert only(example_study()) is example_study()


def test_a_part_of_the_body_is_its_lesions_with_all_their_rows() -> None:
    study = synthetic_study(60, 3).study
    region = regions_of(study)[0]
    part = only(study, regions=[region])
    wanted = [x for x in study.lesions if x.region == region]
    assert list(part.lesions) == wanted
    assert 0 < len(wanted) < len(study)
    names = {x.lesion_id for x in wanted}
    assert part.pain == tuple(s for s in study.pain if s.lesion_id in names)
    assert {p.patient_id for p in part.patients} == {x.patient_id for x in wanted}
    assert part.notes[0].note_id == NOTE
    assert f"{len(wanted)} of 60" in part.notes[0].text
    assert part.sha256 != study.sha256


def test_the_parts_of_all_operators_make_the_whole() -> None:
    study = synthetic_study(80, 5).study
    parts = [only(study, operator=o) for o in operators(study)]
    assert len(parts) > 1
    seen = [x.lesion_id for p in parts for x in p.lesions]
    assert sorted(seen) == sorted(
        r.lesion_id for r in study.records if r.procedures and r.procedures[0].operator_id
    )


def test_an_audit_of_the_choice_is_that_of_a_study_made_by_hand() -> None:
    study = synthetic_study(60, 7).study
    operator = operators(study)[0]
    names = {r.lesion_id for r in study if r.procedures[0].operator_id == operator}
    patients = {x.patient_id for x in study.lesions if x.lesion_id in names}
    held = {
        t: tuple(r for r in getattr(study, t) if r.lesion_id in names)
        for t in ("lesions", "selection", "procedures", "pain", "opioids", "visits",
                  "complications", "leaks", "events")
    }  # fmt: skip
    done = {p.procedure_id for p in held["procedures"]}
    by_hand = Study(
        info=study.info,
        patients=tuple(p for p in study.patients if p.patient_id in patients),
        deaths=tuple(d for d in study.deaths if d.patient_id in patients),
        devices=tuple(d for d in study.devices if d.procedure_id in done),
        exclusions=tuple(e for e in study.exclusions if e.lesion_id in names
                         or (e.lesion_id is None and e.patient_id in patients)),
        **held,
    )  # fmt: skip
    chosen, expected = (
        plain(audit_study(only(study, operator=operator))),
        plain(audit_study(by_hand)),
    )
    for said in (chosen, expected):
        del said["notes"], said["sha256"]
    assert chosen == expected


def two_lesions(death: Death) -> Study:
    lesions = [PainfulLesion(lesion_id=i, patient_id="A", site="L1") for i in ("1", "2")]
    days = (("1", "2024-01-01"), ("2", "2024-03-01"))
    return Study(
        info=StudyInfo(study_id="s", title="s"),
        patients=(Patient(patient_id="A"),),
        lesions=tuple(lesions),
        procedures=tuple(Procedure(procedure_id=i, lesion_id=i, date=d) for i, d in days),
        deaths=(death,),
    )


@pytest.mark.parametrize(
    "death", [Death(patient_id="A", day=100.0), Death(patient_id="A", date="2024-04-10")]
)
def test_a_death_stays_on_its_day_when_the_first_lesion_is_not_chosen(death: Death) -> None:
    study = two_lesions(death)
    assert study.record("2").course.death_day == 40
    part = only(study, first="2024-02-01")
    assert [x.lesion_id for x in part.lesions] == ["2"]
    assert part.record("2").course.death_day == 40


def test_a_month_is_inside_only_when_the_whole_month_is() -> None:
    study = two_lesions(Death(patient_id="A", day=300.0))
    vague = replace(study.procedures[1], date="2024-03")
    study = replace(study, procedures=(study.procedures[0], vague))
    assert len(only(study, first="2024-03-01", last="2024-03-31")) == 1
    assert len(only(study, first="2024-03-02")) == 0
    assert len(only(study, last="2024-03-30")) == 1  # the lesion of January


def test_wrong_days_are_told() -> None:
    with pytest.raises(InputError, match="2026-11-25"):
        only(example_study(), first="yesterday")
    with pytest.raises(InputError, match="before the first"):
        only(example_study(), first="2024-02-01", last="2024-01-01")
