"""What a record may not hold, the database refuses as well, whoever writes."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    OperationalError,
    connection,
    models,
    transaction,
)
from made_records import EVERY_TABLE, Ground, backgrounds, plain

from trocar.errors import InputError
from trocar.model.care import CARE_KEYS
from trocar.model.columns import Column, columns
from trocar.model.course import Visit
from trocar.model.study import KEYS
from trocar.registry import store
from trocar.registry.columns import OWN, reference
from trocar.registry.models import MODELS_AND_HEADS

pytestmark = pytest.mark.django_db

_LARGEST_WHOLE = 2**63 - 1  # of the column's own type: no more is written, so no check is needed


def wrong_values(c: Column) -> list[Any]:
    """Values the record refuses and the database must refuse too."""
    wrong: list[Any] = []
    if c.kind in ("number", "whole"):
        step = 1 if c.kind == "whole" else 0.001
        if c.low is not None:
            wrong.append(c.low - step)
        if c.high is not None and c.high < _LARGEST_WHOLE:
            wrong.append(c.high + step)
    elif c.kind == "text":
        wrong.append("")
        if c.choices:
            wrong += ["not a choice", c.choices[0] + " "]
    if c.required:
        wrong.append(None)
    return wrong


def cases() -> list[tuple[str, Column, Any]]:
    return [
        (table, c, value)
        for table, record in EVERY_TABLE.items()
        for c in columns(record)
        if reference(table, c.name) is None
        for value in wrong_values(c)
    ]


def sound_row(unit: Ground, table: str) -> Any:
    """A row with every cell filled that can be."""
    record = EVERY_TABLE[table]
    own = OWN.get(table) or ("study_id" if table == "study" else None)
    for cells in reversed(backgrounds(table, unit.first)[:2]):
        if own is not None:
            cells[own] = "another"
        try:
            return unit.put(table, record(**cells))
        except InputError:
            continue
    raise AssertionError(table)


@pytest.mark.parametrize("table", EVERY_TABLE)
def test_the_database_refuses_what_the_record_refuses(unit: Ground, table: str) -> None:
    row = sound_row(unit, table)
    rows = MODELS_AND_HEADS[table].objects.filter(pk=row.pk)
    let = []
    for where, c, value in cases():
        if where != table:
            continue
        assert c.fault(value) is not None
        try:
            with transaction.atomic():
                rows.update(**{c.name: value})
            let.append((c.name, value))
            rows.update(**{c.name: getattr(row, c.name)})
        except (IntegrityError, DatabaseError):
            pass
    assert let == [], "the database took what no record may hold"


def test_every_constraint_is_in_the_database(unit: Ground) -> None:
    for model in MODELS_AND_HEADS.values():
        with connection.cursor() as cursor:
            there = connection.introspection.get_constraints(cursor, model._meta.db_table)
        named = {c.name for c in model._meta.constraints}
        assert named <= set(there), model.table


@pytest.mark.parametrize("table", [*KEYS, *CARE_KEYS])
def test_no_two_rows_of_one_key(unit: Ground, table: str) -> None:
    first = sound_row(unit, table)
    key = {**KEYS, **CARE_KEYS}[table]
    model = MODELS_AND_HEADS[table]
    again = model(**{f.attname: getattr(first, f.attname) for f in model._meta.fields
                     if f.name not in ("id", "uid")})  # fmt: skip
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.bulk_create([again])
    # Empty cells of a key are equal to one another, which NULLs are not.
    free = [c.name for c in columns(EVERY_TABLE[table]) if c.name in key and not c.required]
    if free:
        model.objects.filter(pk=first.pk).update(**dict.fromkeys(free))
        for name in free:
            setattr(again, name, None)
        with pytest.raises(IntegrityError), transaction.atomic():
            model.objects.bulk_create([again])


def test_one_name_may_stand_in_two_studies(unit: Ground) -> None:
    from made_records import ground

    ground("another-study")  # whose patients, lesions and procedures are called the same
    assert MODELS_AND_HEADS["lesions"].objects.filter(lesion_id="ground1").count() == 2


@pytest.mark.parametrize("table", EVERY_TABLE)
def test_no_row_refers_to_what_is_not_there(unit: Ground, table: str) -> None:
    row = sound_row(unit, table)
    links = [f for f in type(row)._meta.fields if isinstance(f, models.ForeignKey)]
    assert links or table == "study"
    for f in links:
        with pytest.raises(IntegrityError), transaction.atomic():  # noqa: PT012
            type(row).objects.filter(pk=row.pk).update(**{f.attname: 10**9})
            connection.check_constraints([type(row)._meta.db_table])
            with connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@pytest.mark.parametrize("table", ["patients", "lesions", "procedures", "study"])
def test_a_row_others_belong_to_is_kept_by_the_database(unit: Ground, table: str) -> None:
    unit.put("devices", EVERY_TABLE["devices"](**plain("devices", unit.first, full=False)))
    name = MODELS_AND_HEADS[table]._meta.db_table
    with pytest.raises(IntegrityError), transaction.atomic():  # noqa: PT012
        with connection.cursor() as cursor:
            cursor.execute(f'DELETE FROM "{name}"')
        connection.check_constraints()


def test_the_store_says_so_in_words_and_without_values(unit: Ground) -> None:
    unit.put("visits", Visit(lesion_id="ground1", day=30.0, note="secret"))
    with pytest.raises(InputError, match="a visit of this day is there already") as told:
        unit.put("visits", Visit(lesion_id="ground1", day=30.0, note="secret"))
    assert "secret" not in str(told.value)
    with pytest.raises(InputError, match="expected one of the table lesions"):
        store.put("visits", Visit(lesion_id="nowhere", day=1.0), who="x", study=unit.study)


def test_what_is_too_large_for_the_database_is_told_in_words(unit: Ground) -> None:
    run = EVERY_TABLE["runs"](**plain("runs", unit.first, full=False))
    object.__setattr__(run, "seed", 2**63)  # past what the record itself would refuse
    with pytest.raises(InputError, match="longer or larger") as told:
        unit.put("runs", run)
    assert str(2**63) not in str(told.value)
    assert not MODELS_AND_HEADS["runs"].objects.exists()  # the transaction goes on


@pytest.mark.parametrize(
    ("error", "sqlstate", "expected"),
    [
        (DataError("value too long: secret"), "22001", InputError),
        (OperationalError("index row size 2712 exceeds: secret"), "54000", InputError),
        (OperationalError("the server closed the connection"), "57P01", OperationalError),
        (OperationalError("database is locked"), None, OperationalError),
    ],
)
def test_a_value_that_is_refused_is_told_apart_from_a_database_that_is_gone(
    unit: Ground,
    monkeypatch: pytest.MonkeyPatch,
    error: DatabaseError,
    sqlstate: str | None,
    expected: type[Exception],
) -> None:
    class Cause(Exception):
        pass

    error.__cause__ = Cause()
    error.__cause__.sqlstate = sqlstate  # type: ignore[attr-defined]

    def fail(self: Any, *_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(MODELS_AND_HEADS["visits"], "save", fail)
    with pytest.raises(expected) as told:
        unit.put("visits", Visit(lesion_id="ground1", day=3.0))
    if expected is InputError:
        assert "secret" not in str(told.value)
