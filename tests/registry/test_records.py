"""Every record through the database and back is equal, and so is a whole study."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import EVERY_TABLE, WHO, Ground, records, studies

from trocar.io.records import example_study
from trocar.model.care import ALL_TABLES
from trocar.model.columns import columns
from trocar.model.course import PainScore
from trocar.model.patient import Patient
from trocar.model.study import TABLES, Study
from trocar.registry import chain, store
from trocar.registry.columns import reference
from trocar.registry.convert import digest, to_record
from trocar.registry.models import MODELS, MODELS_AND_HEADS
from trocar.registry.models import Study as StudyRow

pytestmark = pytest.mark.django_db


def drawn(examples: int) -> Any:
    return settings(
        max_examples=examples,
        suppress_health_check=[
            HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large,
            HealthCheck.large_base_example,
            HealthCheck.function_scoped_fixture,  # each example is rolled back
        ],
    )  # fmt: skip


def test_every_record_has_a_table() -> None:
    assert set(MODELS) == set(ALL_TABLES)
    for table, model in MODELS_AND_HEADS.items():
        fields = {f.name for f in model._meta.fields}
        for c in columns(EVERY_TABLE[table]):
            to = reference(table, c.name)
            assert (to[1] if to else c.name) in fields, (table, c.name)


def record_comes_back(unit: Ground, table: str, data: Any) -> None:
    with transaction.atomic():
        record = data.draw(records(table, unit.first))
        row = unit.put(table, record)
        back = to_record(MODELS_AND_HEADS[table].objects.get(pk=row.pk))
        assert back == record
        assert type(back) is type(record)
        assert digest(back) == digest(record)
        assert to_record(row.history.get()) == record
        assert chain.verify().sound
        transaction.set_rollback(True)


@pytest.mark.parametrize("table", EVERY_TABLE)
@drawn(5)
@given(data=st.data())
def test_a_record_comes_back_as_it_was(unit: Ground, table: str, data: Any) -> None:
    record_comes_back(unit, table, data)


@pytest.mark.slow
@pytest.mark.parametrize("table", EVERY_TABLE)
@drawn(15)
@given(data=st.data())
def test_many_records_come_back_as_they_were(unit: Ground, table: str, data: Any) -> None:
    record_comes_back(unit, table, data)


def test_the_example_comes_back_as_it_was() -> None:
    study = example_study()
    told = store.take_in(study, who=WHO, why="example")
    head = StudyRow.objects.get(study_id=study.info.study_id)
    assert store.read_study(head) == study
    assert dict(told.new) == {t: len(getattr(study, t)) for t in TABLES}
    assert chain.verify().sound
    # One state of history and one link for every row, as if typed.
    for table in TABLES:
        rows = MODELS[table].objects.all()
        assert MODELS[table].history.count() == len(rows) == len(getattr(study, table))
        assert {h.history_change_reason for h in MODELS[table].history.all()} <= {"example"}


def test_a_study_taken_in_twice_changes_nothing() -> None:
    study = example_study()
    store.take_in(study, who=WHO, why="example")
    before = chain.verify()
    again = store.compare(study)
    assert not any(again.new.values())
    assert again.changes == ()
    store.take_in(study, who=WHO, why="once more")
    after = chain.verify()
    assert after.rows == before.rows
    assert after.links == before.links + 1  # the import itself is told, and nothing else


def test_what_an_import_would_change_is_told_and_then_done() -> None:
    study = example_study()
    store.take_in(study, who=WHO, why="example")
    first = study.pain[0]
    other = PainScore(**{**vars(first), "low": 10.0 if first.low != 10 else 9.0, "high": None})
    tables = {t: getattr(study, t) for t in TABLES}
    tables["pain"] = (other, *study.pain[1:])
    tables["patients"] = (*study.patients, Patient(patient_id="new-one"))
    edited = Study(info=study.info, notes=study.notes, **tables)
    told = store.compare(edited)
    assert [(t, c, old, new) for t, _, c, old, new in told.changes] == [
        ("pain", name, getattr(first, name), getattr(other, name))
        for name in ("low", "high")
        if getattr(first, name) != getattr(other, name)
    ]
    assert {t: n for t, n in told.new.items() if n} == {"patients": 1}
    head = StudyRow.objects.get(study_id=study.info.study_id)
    assert store.read_study(head) == study  # told, not done
    store.take_in(edited, who=WHO, why="a score was read wrongly")
    assert store.read_study(head) == edited
    assert chain.verify().sound


def test_an_import_is_kept_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    study = example_study()
    tell = store._tell

    def fail_late(rows: Any, who: str, what: str, why: str) -> None:
        rows = list(rows)
        if rows[0].table == "pain":
            raise RuntimeError("the power went")
        tell(rows, who, what, why)

    monkeypatch.setattr(store, "_tell", fail_late)
    with pytest.raises(RuntimeError, match="the power went"):
        store.take_in(study, who=WHO, why="example")
    assert not any(m.objects.exists() for m in MODELS_AND_HEADS.values())
    assert chain.verify().links == 0


def study_comes_back(study: Study) -> None:
    with transaction.atomic():
        store.take_in(study, who=WHO, why="drawn")
        head = StudyRow.objects.get(study_id=study.info.study_id)
        assert store.read_study(head) == study
        again = store.compare(study)
        assert not any(again.new.values())
        assert again.changes == ()
        for row in MODELS["lesions"].objects.filter(study=head):
            assert store.read_record(row) == study.record(row.lesion_id)
        assert chain.verify().sound
        transaction.set_rollback(True)


@drawn(4)
@given(study=studies())
def test_a_study_comes_back_as_it_was(study: Study) -> None:
    study_comes_back(study)


@pytest.mark.slow
@drawn(10)
@given(study=studies())
def test_many_studies_come_back_as_they_were(study: Study) -> None:
    study_comes_back(study)
