"""A plan has versions; a signature locks one, an edit makes the next and takes it back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from made_records import WHO, Ground

from trocar.errors import InputError
from trocar.model.care import PlanVersion
from trocar.registry import chain, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, ChainEvent

pytestmark = pytest.mark.django_db


def plan(**content: Any) -> PlanVersion:
    return PlanVersion(lesion_id="ground1", number=1, **content)


def versions(unit: Ground) -> list[PlanVersion]:
    rows = MODELS["plans"].objects.filter(lesion=unit.lesion()).order_by("number")
    return [to_record(r) for r in rows]


def test_versions_are_numbered_and_know_their_parent(unit: Ground) -> None:
    lesion = unit.lesion()
    store.next_plan(lesion, plan(cement_ml=4.0), who="a", why="first")
    store.next_plan(lesion, plan(cement_ml=5.0), who="b", why="more cement", parent=1)
    first, second = versions(unit)
    assert (first.number, first.parent, first.made_by, first.why) == (1, None, "a", "first")
    assert (second.number, second.parent, second.made_by) == (2, 1, "b")
    assert (second.why, second.cement_ml, first.cement_ml) == ("more cement", 5.0, 4.0)
    # Another lesion has versions of its own.
    other = store.next_plan(unit.lesion("ground2"), plan(), who="a", why="first")
    assert (other.number, to_record(other).lesion_id) == (1, "ground2")


def test_a_new_version_brings_no_signature_with_it(unit: Ground) -> None:
    signed = plan(approved_by="forger", approved_at="2026-11-25T10:00:00+00:00")
    store.next_plan(unit.lesion(), signed, who="forger", why="signed already")
    assert not versions(unit)[0].approved


def test_an_edit_takes_the_signature_back(unit: Ground) -> None:
    lesion = unit.lesion()
    row = store.next_plan(lesion, plan(cement_ml=4.0), who="a", why="first")
    store.approve(row, who="dr.sign", expected=1)
    assert versions(unit)[0].approved
    store.next_plan(lesion, plan(cement_ml=5.0), who="b", why="more cement", parent=1)
    first, second = versions(unit)
    assert not first.approved
    assert (first.approved_by, second.approved_by) == ("dr.sign", None)
    assert first.revoked_at is not None
    signs = [json.loads(e.detail) for e in ChainEvent.objects.filter(kind="sign").order_by("pk")]
    assert [s["what"] for s in signs] == ["approved", "revoked"]
    assert {s["content"] for s in signs} == {store.content_sha256(first)}
    assert chain.verify().sound


@pytest.mark.parametrize("verdict", ["stop", "unknown"])
def test_against_a_stop_or_the_unknown_a_plan_is_signed_with_a_reason(
    unit: Ground, verdict: str
) -> None:
    row = store.next_plan(unit.lesion(), plan(verdict=verdict), who="a", why="first")
    for why in ("", "  "):
        with pytest.raises(InputError, match=f"is {verdict}; write why it is approved"):
            store.approve(row, who="dr.sign", why=why, expected=1)
    assert not versions(unit)[0].approved
    store.approve(row, who="dr.sign", why="the canal is opened anyway", expected=1)
    assert versions(unit)[0].approved
    assert MODELS["plans"].objects.get().history.latest().history_change_reason == (
        "the canal is opened anyway"
    )


@pytest.mark.parametrize("verdict", ["ok", "caution", None])
def test_other_plans_are_signed_without_one(unit: Ground, verdict: str | None) -> None:
    row = store.next_plan(unit.lesion(), plan(verdict=verdict), who="a", why="first")
    store.approve(row, who="dr.sign", expected=1)
    assert versions(unit)[0].approved


def test_only_the_newest_version_is_signed_and_only_once(unit: Ground) -> None:
    lesion = unit.lesion()
    old = store.next_plan(lesion, plan(), who="a", why="first")
    new = store.next_plan(lesion, plan(needles=2), who="a", why="two needles", parent=1)
    with pytest.raises(InputError, match="not the newest"):
        store.approve(old, who="dr.sign")
    signed = store.approve(new, who="dr.sign")
    with pytest.raises(InputError, match="approved already, by dr"):
        store.approve(signed, who="dr.other")
    with pytest.raises(InputError, match="not approved"):
        store.revoke(old, who="dr.sign", why="none")
    revoked = store.revoke(signed, who="dr.sign", why="new scan")
    again = store.approve(revoked, who="dr.other")
    assert to_record(again).approved_by == "dr.other"


def test_a_version_signed_from_a_stale_page_is_a_conflict(unit: Ground) -> None:
    row = store.next_plan(unit.lesion(), plan(), who="a", why="first")
    store.approve(row, who="dr.sign", expected=1)
    stale = MODELS["plans"].objects.get(pk=row.pk)
    store.revoke(stale, who="dr.sign", why="new scan")
    with pytest.raises(store.Conflict):
        store.approve(MODELS["plans"].objects.get(pk=row.pk), who="dr.other", expected=1)
    assert not versions(unit)[0].approved


def test_undo_brings_the_very_content_back(unit: Ground) -> None:
    lesion = unit.lesion()
    content = {"cement": "PMMA", "cement_ml": 4.0, "techniques": ("cement",), "guidance": ()}
    store.next_plan(lesion, plan(**content), who="a", why="first")
    store.next_plan(lesion, plan(cement_ml=9.0), who="b", why="more", parent=1)
    row = store.next_plan(lesion, plan(cement_ml=7.0), who="b", why="less", parent=2)
    store.approve(row, who="dr.sign")
    store.restore_plan(lesion, 1, who="c", why="the first was right", parent=3)
    first, second, third, fourth = versions(unit)
    assert (fourth.number, fourth.parent, fourth.made_by) == (4, 1, "c")
    assert store.content_sha256(fourth) == store.content_sha256(first)
    assert len({store.content_sha256(p) for p in (first, second, third)}) == 3
    assert not third.approved
    assert not fourth.approved
    with pytest.raises(InputError, match="no version 9"):
        store.restore_plan(lesion, 9, who="c", why="undo", parent=4)
    assert chain.verify().sound


@pytest.mark.parametrize("parent", [None, 1, 3])
def test_two_edits_of_one_version_are_a_conflict(unit: Ground, parent: int | None) -> None:
    lesion = unit.lesion()
    store.next_plan(lesion, plan(), who="a", why="first")
    store.next_plan(lesion, plan(needles=2), who="first", why="two", parent=1)
    mine = plan(needles=3)
    with pytest.raises(store.Conflict) as told:
        store.next_plan(lesion, mine, who="second", why="three", parent=parent)
    assert (told.value.by, told.value.yours) == ("first", mine)
    with pytest.raises(store.Conflict):
        store.restore_plan(lesion, 1, who="second", why="undo", parent=1)
    assert [p.needles for p in versions(unit)] == [None, 2]


def test_the_first_version_is_made_from_none(unit: Ground) -> None:
    made = store.next_plan(unit.lesion(), plan(needles=2), who=WHO, why="first")
    assert to_record(made).parent is None
    assert chain.verify().sound
