"""Many hands at once: every write is kept or told of, and the chain stays one chain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from made_records import EVERY_TABLE, ground, plain

from trocar.model.care import PlanVersion
from trocar.model.course import PainScore, Visit
from trocar.registry import chain, store
from trocar.registry.models import MODELS, ChainEvent

pytestmark = pytest.mark.django_db(transaction=True)
HANDS = 8


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """What each of eight threads returned or raised, having begun together."""
    ready = threading.Barrier(HANDS)
    came: list[Any] = [None] * HANDS

    def hand(i: int) -> None:
        try:
            ready.wait(30)
            came[i] = work(i)
        except BaseException as error:
            came[i] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=hand, args=(i,)) for i in range(HANDS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    return came


def test_visits_of_different_lesions_leave_one_chain() -> None:
    unit = ground()
    for i in range(HANDS):
        cells = {**plain("lesions", unit.first, full=False), "lesion_id": f"L{i}"}
        unit.put("lesions", EVERY_TABLE["lesions"](**cells))
    links = chain.verify().links
    each = 6

    def save(i: int) -> int:
        for day in range(each):
            visit = Visit(lesion_id=f"L{i}", day=float(day), note=f"by {i}")
            # Half of the hands are accounts that nobody made yet, all of them the same.
            store.put("visits", visit, who="new.one" if i % 2 else f"hand{i}", study=unit.study)
        return each

    assert at_once(save) == [each] * HANDS
    assert MODELS["visits"].objects.count() == HANDS * each
    assert MODELS["visits"].history.count() == HANDS * each
    report = chain.verify()
    assert report.sound
    assert report.links == links + HANDS * each
    numbers = list(ChainEvent.objects.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, report.links + 1))


def test_of_eight_changes_to_one_row_one_is_kept_and_seven_are_told() -> None:
    unit = ground()
    row = unit.put("visits", Visit(lesion_id="ground1", day=1.0))

    def change(i: int) -> Any:
        visit = Visit(lesion_id="ground1", day=1.0, note=f"by {i}")
        return store.put("visits", visit, who=f"hand{i}", why="by phone", row=row, expected=1)

    came = at_once(change)
    kept = [c for c in came if not isinstance(c, Exception)]
    told = [c for c in came if isinstance(c, store.Conflict)]
    assert (len(kept), len(told)) == (1, HANDS - 1), came
    held = MODELS["visits"].objects.get(pk=row.pk)
    assert (held.version, held.note) == (2, kept[0].note)
    assert {t.theirs.note for t in told} == {held.note}
    assert held.history.count() == 2
    assert chain.verify().sound


def test_of_eight_next_versions_of_a_plan_one_is_made() -> None:
    unit = ground()
    lesion = unit.lesion()
    first = PlanVersion(lesion_id="ground1", number=1)
    store.next_plan(lesion, first, who="a", why="first")

    def edit(i: int) -> Any:
        plan = PlanVersion(lesion_id="ground1", number=1, needles=i + 1)
        return store.next_plan(lesion, plan, who=f"hand{i}", why="needles", parent=1)

    came = at_once(edit)
    assert sum(isinstance(c, store.Conflict) for c in came) == HANDS - 1, came
    rows = MODELS["plans"].objects.filter(lesion=lesion)
    assert sorted(rows.values_list("number", flat=True)) == [1, 2]
    assert chain.verify().sound


def test_scores_and_plans_of_one_lesion_never_wait_for_each_other_in_a_ring() -> None:
    unit = ground()
    lesion = unit.lesion()
    each = 10

    def save(i: int) -> int:
        kept = 0
        for k in range(each):
            if i % 2:
                score = PainScore(lesion_id="ground1", day=float(1 + i * each + k), low=3)
                store.put("pain", score, who=f"hand{i}", study=unit.study)
                kept += 1
                continue
            newest = MODELS["plans"].objects.filter(lesion=lesion).order_by("-number").first()
            plan = PlanVersion(lesion_id="ground1", number=1, route=f"{i} {k}")
            try:
                store.next_plan(
                    lesion, plan, who=f"hand{i}", why="better",
                    parent=None if newest is None else newest.number,
                )  # fmt: skip
                kept += 1
            except store.Conflict:
                pass  # somebody else made the next version: told, not lost
        return kept

    came = at_once(save)
    assert not [c for c in came if isinstance(c, BaseException)], came
    assert MODELS["pain"].objects.count() == HANDS // 2 * each
    assert MODELS["plans"].objects.count() == sum(c for i, c in enumerate(came) if i % 2 == 0) > 0
    assert chain.verify().sound
