"""The log tells when it was changed, and the database refuses that it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from made_records import Ground

from trocar.model.course import Device, Visit
from trocar.model.study import StudyInfo
from trocar.registry import chain, store
from trocar.registry.models import MODELS, MODELS_AND_HEADS, ChainEvent, ChainHead

pytestmark = pytest.mark.django_db


@contextmanager
def unguarded() -> Iterator[Any]:
    """A cursor before which no trigger stands: somebody who owns the database's files."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = replica")
        else:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in cursor.fetchall():
                cursor.execute(f'DROP TRIGGER "{name}"')
        yield cursor
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = DEFAULT")


@pytest.fixture
def six(db: None) -> str:
    """Six links; the hash of the last."""
    for i in range(6):
        chain.log("view", "dr.who", f"images:{i}", number=i)
    report = chain.verify()
    assert report.sound
    assert report.links == 6
    return report.head


def test_an_empty_chain_is_sound(db: None) -> None:
    assert chain.verify() == chain.ChainReport(links=0, head="0" * 64)


def test_links_follow_one_another(six: str) -> None:
    links = list(ChainEvent.objects.order_by("number"))
    assert [x.number for x in links] == [1, 2, 3, 4, 5, 6]
    assert links[0].before == "0" * 64
    assert [x.before for x in links[1:]] == [x.sha256 for x in links[:-1]]
    assert links[-1].sha256 == six


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("who", "somebody else"), ("kind", "export"), ("subject", "images:9"),
        ("detail", '{"number":7}'), ("at", "2020-01-01T00:00:00+00:00"),
        ("sha256", "f" * 64), ("before", "f" * 64),
    ],
)  # fmt: skip
def test_a_changed_link_is_found(six: str, column: str, value: str) -> None:
    with unguarded() as cursor:
        cursor.execute(f"UPDATE registry_chainevent SET {column} = %s WHERE number = 3", [value])
    report = chain.verify()
    assert not report.sound
    assert (report.broken_at, report.links) == (3, 2)


def test_a_link_changed_with_its_hash_is_found_at_the_next(six: str) -> None:
    link = ChainEvent.objects.get(number=3)
    link.who = "somebody else"
    with unguarded() as cursor:
        cursor.execute(
            "UPDATE registry_chainevent SET who = %s, sha256 = %s WHERE number = 3",
            [link.who, chain.hash_of(link)],
        )
    assert chain.verify().broken_at == 4


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_removed_link_is_found(six: str, number: int) -> None:
    with unguarded() as cursor:
        cursor.execute("DELETE FROM registry_chainevent WHERE number = %s", [number])
    report = chain.verify()
    assert report.broken_at == number + 1
    assert "removed" in report.why


def test_a_removed_link_is_found_when_the_rest_moves_up(six: str) -> None:
    with unguarded() as cursor:
        cursor.execute("DELETE FROM registry_chainevent WHERE number = 3")
        for number in (4, 5, 6):
            cursor.execute(
                "UPDATE registry_chainevent SET number = %s WHERE number = %s", [number - 1, number]
            )
    assert chain.verify().broken_at == 3


def test_an_inserted_link_is_found(six: str) -> None:
    third = ChainEvent.objects.get(number=3)
    with unguarded() as cursor:
        for number in (6, 5, 4):
            cursor.execute(
                "UPDATE registry_chainevent SET number = %s WHERE number = %s", [number + 1, number]
            )
    forged = ChainEvent(
        number=4, at=third.at, who="dr.who", kind="view", subject="images:99", detail="{}",
        before=third.sha256,
    )  # fmt: skip
    forged.sha256 = chain.hash_of(forged)
    forged.save(force_insert=True)
    report = chain.verify()
    assert report.broken_at == 5  # the forged one follows from the third; the next does not
    assert report.links == 4


def test_two_links_that_changed_places_are_found(six: str) -> None:
    with unguarded() as cursor:
        for old, new in ((3, 99), (4, 3), (99, 4)):
            cursor.execute(
                "UPDATE registry_chainevent SET number = %s WHERE number = %s", [new, old]
            )
    assert chain.verify().broken_at == 3


@pytest.mark.parametrize("left", [0, 4, 5])
def test_a_cut_end_is_found(six: str, left: int) -> None:
    with unguarded() as cursor:
        cursor.execute("DELETE FROM registry_chainevent WHERE number > %s", [left])
    report = chain.verify()
    assert report.broken_at == left + 1
    assert "cut off" in report.why


def test_a_link_put_at_the_end_past_the_head_is_found(six: str) -> None:
    link = ChainEvent(number=7, at=chain.now(), who="x", kind="view", detail="{}", before=six)
    link.sha256 = chain.hash_of(link)
    link.save(force_insert=True)
    assert chain.verify().broken_at == 8


def test_a_chain_written_anew_is_found_by_a_head_that_was_told(six: str) -> None:
    assert chain.verify(known_head=six).sound
    with unguarded() as cursor:
        cursor.execute("DELETE FROM registry_chainevent")
    ChainHead.objects.all().delete()
    for i in range(6):
        chain.log("view", "somebody.else", f"images:{i}", number=i)
    assert chain.verify().sound  # consistent in itself ...
    report = chain.verify(known_head=six)  # ... and not what was told
    assert not report.sound
    assert "written anew" in report.why


def test_a_head_told_earlier_still_stands_after_more(six: str) -> None:
    chain.log("view", "dr.who", "images:7")
    assert chain.verify(known_head=six).sound


def test_a_row_changed_past_the_store_is_found(unit: Ground) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=30.0, note="as typed"))
    MODELS["visits"].objects.filter(pk=row.pk).update(note="as wished")
    report = chain.verify()
    assert report.broken_at is None
    assert report.changed_rows == (f"visits:{row.uid}",)
    assert chain.verify(rows=False).sound  # links alone are sound: the row is what differs


def test_a_row_set_to_what_no_record_may_hold_is_found(unit: Ground) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=30.0, note="as typed"))
    MODELS["visits"].objects.filter(pk=row.pk).update(note=" no record has this ")
    assert chain.verify().changed_rows == (f"visits:{row.uid}",)


def test_a_row_deleted_or_added_past_the_store_is_found(unit: Ground) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=30.0))
    MODELS["visits"].objects.filter(pk=row.pk).delete()
    assert chain.verify().changed_rows == (f"visits:{row.uid} (gone)",)
    added = MODELS["visits"](lesion=unit.lesion(), day=60.0)
    added.save_without_historical_record()
    assert set(chain.verify().changed_rows) == {f"visits:{row.uid} (gone)", f"visits:{added.uid}"}


@pytest.mark.parametrize(
    ("column", "value"),
    [("note", "as wished"), ("history_change_reason", "another reason"), ("history_user_id", None),
     ("history_date", "2020-01-01T00:00:00+00:00"), ("history_type", "~"), ("version", 7)],
)  # fmt: skip
def test_a_changed_state_of_the_history_is_found(unit: Ground, column: str, value: Any) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=30.0, note="as typed"))
    unit.put(
        "visits", Visit(lesion_id="ground1", day=30.0, note="mended"), row=row, expected=1
    )  # fmt: skip
    assert chain.verify().sound
    table = MODELS["visits"].history.model._meta.db_table
    with unguarded() as cursor:
        cursor.execute(f"UPDATE {table} SET {column} = %s WHERE version = 1", [value])
    assert chain.verify().changed_rows == (f"visits:{row.uid} (history)",)


def test_a_state_taken_out_of_the_history_is_found(unit: Ground) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=30.0, note="as typed"))
    table = MODELS["visits"].history.model._meta.db_table
    with unguarded() as cursor:
        cursor.execute(f"DELETE FROM {table}")
    assert chain.verify().changed_rows == (f"visits:{row.uid} (history)",)


def test_a_patient_moved_to_another_study_is_found(unit: Ground) -> None:
    other = store.put("study", StudyInfo(study_id="other", title="Other"), who="dr.who")
    row = store.find(unit.study, "patients", unit.first["patient_id"])
    with unguarded():
        MODELS["patients"].objects.filter(pk=row.pk).update(study=other)
        table = MODELS["patients"].history.model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {table} SET study_id = %s WHERE id = %s", [other.pk, row.pk])
    assert chain.verify().changed_rows == (f"patients:{row.uid} (history)",)


def test_what_others_write_while_it_verifies_is_no_alarm(
    unit: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=30.0, note="as typed"))
    looked = chain._look

    def meanwhile(walk: Any, tell: Any) -> Any:
        """Saved after the links were walked and before the rows are looked at."""
        chain.log("login", "dr.who")
        unit.put(
            "visits", Visit(lesion_id="ground1", day=30.0, note="mended"), row=row, expected=1
        )  # fmt: skip
        unit.put("visits", Visit(lesion_id="ground1", day=60.0))
        return looked(walk, tell)

    monkeypatch.setattr(chain, "_look", meanwhile)
    report = chain.verify()
    assert report.sound
    assert report.links == ChainHead.objects.get().number


def test_the_history_outlives_what_a_row_belonged_to(unit: Ground) -> None:
    device = Device(procedure_id=unit.first["procedure_id"], kind="needle", name="a needle")
    row = unit.put("devices", device)
    procedure = row.procedure
    for gone in (row, procedure):
        store.remove(gone, who="dr.who", why="entered twice")
    told = store.history(row)
    assert told[0].who == "dr.who"
    assert {c.old for c in told if c.column == "name"} == {"a needle", None}
    assert chain.verify().sound


def test_a_reference_changed_past_the_store_is_found(unit: Ground) -> None:
    row = unit.put("visits", Visit(lesion_id="ground1", day=30.0))
    MODELS["visits"].objects.filter(pk=row.pk).update(lesion=unit.lesion("ground2"))
    assert chain.verify().changed_rows == (f"visits:{row.uid}",)


def test_what_is_rolled_back_is_not_in_the_log(six: str) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():  # noqa: PT012
        chain.log("export", "dr.who")
        raise RuntimeError("the power went")
    report = chain.verify()
    assert (report.sound, report.links, report.head) == (True, 6, six)


GUARDED = {"chain": ChainEvent} | {t: m.history.model for t, m in MODELS_AND_HEADS.items()}


@pytest.mark.parametrize("name", GUARDED)
def test_the_database_refuses_to_rewrite_history_and_log(unit: Ground, name: str) -> None:
    from made_records import EVERY_TABLE, plain

    model = GUARDED[name]
    if not model.objects.exists():
        unit.put(name, EVERY_TABLE[name](**plain(name, unit.first, full=False)))
    count = model.objects.count()
    assert count
    table, key = model._meta.db_table, model._meta.pk.column
    statements = [f'UPDATE "{table}" SET "{key}" = "{key}" + 1000', f'DELETE FROM "{table}"']
    if connection.vendor == "postgresql":
        statements.append(f'TRUNCATE "{table}" CASCADE')
    for statement in statements:
        with (  # noqa: PT012
            pytest.raises(DatabaseError, match="never changed"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            if connection.vendor == "postgresql":  # which empties no table with checks to come
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(statement)
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        model.objects.first().delete()
    assert model.objects.count() == count
    assert chain.verify().sound
