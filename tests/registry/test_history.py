"""Who changed what, when and why is kept for every column of every table, empty values too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import transaction
from made_records import EVERY_TABLE, WHO, Ground, backgrounds, plain, two_values

from trocar.errors import InputError
from trocar.model.care import PLANNED, PlanVersion
from trocar.model.columns import Column, columns
from trocar.model.course import Visit
from trocar.registry import chain, store
from trocar.registry.columns import reference
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, MODELS_AND_HEADS, ChainEvent

pytestmark = pytest.mark.django_db

# Columns that never change alone: an approval is a name and a moment, a plan's content a version.
TOGETHER = {("plans", "approved_by"), ("plans", "approved_at")}
NAMES = {("study", "study_id"), ("patients", "patient_id"), ("lesions", "lesion_id"),
         ("procedures", "procedure_id")}  # fmt: skip
NEVER = {("plans", name) for name in (*PLANNED, "number", "parent")} | NAMES
EVERY_COLUMN = [
    (table, c) for table, record in EVERY_TABLE.items() for c in columns(record)
]  # fmt: skip


def pairs(unit: Ground, table: str, c: Column) -> list[tuple[Any, Any, Any]]:
    """Records that differ in one column: with a value, with another, and without where it may."""
    record = EVERY_TABLE[table]
    if reference(table, c.name) is not None:
        a, b = unit.first[c.name], unit.second[c.name]
    else:
        a, b = two_values(c)
    found = []
    for cells in backgrounds(table, unit.first):
        try:
            with_a, with_b = (record(**{**cells, c.name: v}) for v in (a, b))
            empty = None if c.required else record(**{**cells, c.name: None})
        except InputError:
            continue
        found.append((with_a, with_b, empty))
    return found


def test_no_column_takes_the_place_of_what_every_row_has() -> None:
    for table, c in EVERY_COLUMN:
        assert c.name not in ("id", "pk", "uid", "version", "history"), (table, c.name)


@pytest.mark.parametrize(("table", "name"), sorted(NAMES))
def test_a_name_does_not_change(unit: Ground, table: str, name: str) -> None:
    # Rows below it are known by it: their links in the log would no longer hold.
    (c,) = (c for t, c in EVERY_COLUMN if (t, c.name) == (table, name))
    a, b, _ = pairs(unit, table, c)[0]
    study = None if table == "study" else unit.study
    row = store.put(table, a, who=WHO, study=study)
    with pytest.raises(InputError, match="a name does not change"):
        store.put(table, b, who=WHO, why="renamed", row=row, expected=1, study=study)
    assert to_record(row) == a
    assert chain.verify().sound


@pytest.mark.parametrize("table", EVERY_TABLE)
def test_every_change_of_every_column_is_kept(unit: Ground, table: str) -> None:
    tried = [c for c in columns(EVERY_TABLE[table]) if (table, c.name) not in TOGETHER | NEVER]
    for c in tried:  # the others do not change alone; see the tests below
        with transaction.atomic():
            every_change_is_kept(unit, table, c)
            transaction.set_rollback(True)
    assert tried


def every_change_is_kept(unit: Ground, table: str, c: Column) -> None:
    found = pairs(unit, table, c)
    assert found, f"no row was found in which {c.name} may change alone"
    a, b, empty = found[0]
    row = unit.put(table, a)
    first = [x for x in store.history(row) if x.column == c.name]
    assert [(x.old, x.new) for x in first] == [(None, getattr(a, c.name))]
    # To another value, to empty, and from empty: what a form can do to a cell.
    states = [a, b] if c.required else [a, b, empty, a]
    states = [s for s, last in zip(states, [None, *states[:-1]], strict=True) if s != last]
    assert len(states) > 1
    for version, (old, new) in enumerate(pairwise(states), start=2):
        count = len(store.history(row))
        links = ChainEvent.objects.count()
        row = store.put(
            table, new, who="nurse.two", why=f"reason {version}", row=row, expected=version - 1
        )
        told = store.history(row)
        assert len(told) == count + 1, "exactly one column changed"
        item = told[0]
        assert (item.table, item.uid, item.column) == (table, str(row.uid), c.name)
        assert (item.old, item.new) == (getattr(old, c.name), getattr(new, c.name))
        assert (item.who, item.why, item.version) == ("nurse.two", f"reason {version}", version)
        moment = datetime.fromisoformat(item.at)
        assert moment.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)
        assert ChainEvent.objects.count() == links + 1
        assert to_record(MODELS_AND_HEADS[table].objects.get(pk=row.pk)) == new
    assert chain.verify().sound


def test_what_changes_together_is_kept_column_by_column(unit: Ground) -> None:
    row = store.next_plan(unit.lesion(), PlanVersion(lesion_id="any", number=1), who=WHO, why="new")
    before = len(store.history(row))
    row = store.approve(row, who="dr.sign", why="agreed")
    told = store.history(row)[: len(store.history(row)) - before]
    assert {(x.column, x.old) for x in told} == {("approved_by", None), ("approved_at", None)}
    assert {(x.who, x.why) for x in told} == {("dr.sign", "agreed")}
    cells = plain("opioids", unit.first, full=False)
    record = EVERY_TABLE["opioids"]
    row = unit.put("opioids", record(**{**cells, "drug": "morphine", "dose": 10.0}))
    row = unit.put("opioids", record(**{**cells, "drug": "none", "dose": 0.0}), row=row, expected=1)
    assert {(x.column, x.old, x.new) for x in store.history(row)[:2]} == {
        ("drug", "morphine", "none"), ("dose", 10.0, 0.0),
    }  # fmt: skip


@pytest.mark.parametrize("name", PLANNED)
def test_the_content_of_a_plan_does_not_change(unit: Ground, name: str) -> None:
    c = next(c for c in columns(PlanVersion) if c.name == name)
    row = unit.put("plans", PlanVersion(lesion_id="ground1", number=1))
    changed = PlanVersion(lesion_id="ground1", number=1, **{name: two_values(c)[0]})
    with pytest.raises(InputError, match="make the next version"):
        unit.put("plans", changed, row=row, expected=1)
    assert to_record(MODELS["plans"].objects.get(pk=row.pk)) == to_record(row)
    assert row.history.count() == 1


@pytest.mark.parametrize("table", EVERY_TABLE)
def test_a_removed_row_stays_in_the_history(unit: Ground, table: str) -> None:
    cells = plain(table, unit.first, full=False)
    own = {"study": "study_id", "patients": "patient_id", "lesions": "lesion_id",
           "procedures": "procedure_id"}.get(table)  # fmt: skip
    record = EVERY_TABLE[table](**(cells if own is None else {**cells, own: "leaves"}))
    row = unit.put(table, record)
    uid, model = row.uid, type(row)
    with pytest.raises(InputError, match="reason"):
        store.remove(row, who=WHO, why="  ")
    store.remove(row, who="lead.three", why="entered for the wrong patient", expected=1)
    assert not model.objects.filter(uid=uid).exists()
    told = [x for x in store._items(model, uid) if x.new is None and x.old is not None]
    assert {(x.who, x.why) for x in told} == {("lead.three", "entered for the wrong patient")}
    kept = {c.name for c in columns(type(record)) if getattr(record, c.name) is not None}
    assert {x.column for x in told} == kept
    assert chain.verify().sound


def test_a_row_that_others_belong_to_is_not_removed(unit: Ground) -> None:
    row = unit.lesion()
    with pytest.raises(InputError, match="remove those first"):
        store.remove(row, who=WHO, why="test", expected=1)
    assert MODELS["lesions"].objects.filter(pk=row.pk).exists()
    assert chain.verify().sound


def test_the_second_of_two_is_told_and_nothing_is_lost(unit: Ground) -> None:
    cells = {"lesion_id": "ground1", "day": 30.0}
    row = unit.put("visits", Visit(**cells, note="as both read it"))
    mine, yours = Visit(**cells, note="mine"), Visit(**cells, note="yours")
    store.put("visits", mine, who="first", why="by phone", row=row, expected=1)
    links = chain.verify().links
    with pytest.raises(store.Conflict) as told:
        store.put("visits", yours, who="second", why="at the clinic", row=row, expected=1)
    assert (told.value.theirs, told.value.yours, told.value.by) == (mine, yours, "first")
    assert "nothing was saved" in str(told.value)
    assert "mine" not in str(told.value)  # a message may be logged: it holds no value
    held = MODELS["visits"].objects.get(pk=row.pk)
    assert (to_record(held), held.version) == (mine, 2)
    assert chain.verify().links == links
    with pytest.raises(store.Conflict):
        store.remove(row, who="second", why="gone", expected=1)
    # Having seen what the first wrote, the second may.
    store.put("visits", yours, who="second", why="at the clinic", row=row, expected=2)
    assert [x.new for x in store.history(held) if x.column == "note"] == [
        "yours", "mine", "as both read it",
    ]  # fmt: skip
    assert chain.verify().sound


@pytest.mark.parametrize("why", ["", "  \n"])
def test_a_change_without_a_reason_is_refused(unit: Ground, why: str) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=1.0))
    with pytest.raises(InputError, match="reason"):
        unit.put("visits", Visit(lesion_id="ground1", day=2.0), row=row, expected=1, why=why)
    assert MODELS["visits"].objects.get(pk=row.pk).day == 1.0


def test_saving_what_is_there_leaves_no_trace(unit: Ground) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=1.0))
    links = chain.verify().links
    same = unit.put("visits", Visit(lesion_id="ground1", day=1.0), row=row, expected=1)
    assert (same.version, row.history.count(), chain.verify().links) == (1, 1, links)


def test_what_somebody_removed_meanwhile_is_said(unit: Ground) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=1.0))
    store.remove(MODELS["visits"].objects.get(pk=row.pk), who=WHO, why="another patient's")
    with pytest.raises(InputError, match="somebody removed this"):
        store.remove(row, who=WHO, why="again")
    with pytest.raises(InputError, match="somebody removed this"):
        unit.put("visits", Visit(lesion_id="ground1", day=2.0), row=row, expected=1)
