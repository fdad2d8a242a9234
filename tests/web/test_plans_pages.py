"""Versions of a plan in the browser: made, compared, signed, revoked, undone, and two editors."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from sheets_sent import client_of, form_with, hong_kong

from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, ChainEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def lesion() -> Any:
    return hong_kong()


@pytest.fixture
def radiologist() -> Client:
    return client_of("radiologist-1", "radiologist")


def plans(lesion: Any) -> list[Any]:
    rows = MODELS["plans"].objects.filter(lesion=lesion).order_by("number")
    return [to_record(row) for row in rows]


def make(client: Client, lesion: Any, **typed: Any) -> Any:
    at = reverse("plan-new", args=[lesion.uid])
    sent = form_with(client.get(at), "parent") | {k: [str(v)] for k, v in typed.items()}
    return client.post(at, sent)


def act(client: Client, lesion: Any, number: int, what: str, **sent: Any) -> Any:
    row = MODELS["plans"].objects.get(lesion=lesion, number=number)
    return client.post(reverse(f"plan-{what}", args=[lesion.uid, row.uid]), sent)


def test_versions_are_made_signed_revoked_and_undone(lesion: Any, radiologist: Client) -> None:
    assert (
        make(radiologist, lesion, techniques="cement", cement_ml=4, why="first").status_code == 302
    )
    assert act(radiologist, lesion, 1, "approve", version=1).status_code == 302
    assert plans(lesion)[0].approved
    assert make(radiologist, lesion, cement_ml=6, why="more cement").status_code == 302
    first, second = plans(lesion)
    assert (second.cement_ml, second.techniques, second.parent) == (6, ("cement",), 1)
    assert not first.approved
    assert first.revoked_at

    page = radiologist.get(reverse("plan", args=[lesion.uid])).content.decode()
    assert "<del>4 ml</del>" in page
    assert "<ins>6 ml</ins>" in page

    assert act(radiologist, lesion, 1, "restore", parent=2, why="enough").status_code == 302
    assert plans(lesion)[2].cement_ml == 4
    assert act(radiologist, lesion, 3, "approve", version=1).status_code == 302
    assert act(radiologist, lesion, 3, "revoke", why="").status_code == 422
    assert act(radiologist, lesion, 3, "revoke", why="new CT").status_code == 302
    assert not plans(lesion)[2].approved
    signed = [e.detail for e in ChainEvent.objects.filter(kind="sign").order_by("number")]
    assert [("approved" in d, "revoked" in d) for d in signed] == [
        (True, False), (False, True), (True, False), (False, True),
    ]  # fmt: skip


def test_the_second_editor_is_told_and_keeps_what_was_typed(
    lesion: Any, radiologist: Client
) -> None:
    make(radiologist, lesion, cement_ml=4, why="first")
    other = client_of("radiologist-2", "radiologist")
    at = reverse("plan-new", args=[lesion.uid])
    opened = form_with(other.get(at), "parent")
    make(radiologist, lesion, cement_ml=6, why="more")
    answer = other.post(at, opened | {"cement_ml": ["5"], "why": ["a little more"]})
    assert answer.status_code == 409
    page = answer.content.decode()
    assert "radiologist-1" in page
    assert "<del>6 ml</del>" in page
    assert "<ins>5 ml</ins>" in page
    assert len(plans(lesion)) == 2
    again = form_with(answer, "parent")
    assert again["cement_ml"] == ["5.0"] or again["cement_ml"] == ["5"]
    assert other.post(at, again).status_code == 302
    assert [p.cement_ml for p in plans(lesion)] == [4, 6, 5]


def test_only_the_newest_as_seen_is_approved(lesion: Any, radiologist: Client) -> None:
    make(radiologist, lesion, cement_ml=4, why="first")
    assert act(radiologist, lesion, 1, "approve").status_code == 422
    assert act(radiologist, lesion, 1, "approve", version=7).status_code == 409
    make(radiologist, lesion, cement_ml=5, why="second")
    assert act(radiologist, lesion, 1, "approve", version=1).status_code == 422
    assert not any(p.approved for p in plans(lesion))


def test_a_fault_is_told_at_its_field(lesion: Any, radiologist: Client) -> None:
    answer = make(radiologist, lesion, cement_ml=400, why="")
    assert answer.status_code == 422
    assert {"cement_ml", "why"} <= set(answer.context["form"].errors)
    assert form_with(answer, "parent")["cement_ml"] == ["400"]
    assert plans(lesion) == []


def test_more_cement_than_may_pass_is_told_at_its_field(lesion: Any, radiologist: Client) -> None:
    answer = make(radiologist, lesion, cement_ml=6, stop_ml=5, why="first")
    assert answer.status_code == 422
    assert "More than the volume not to pass, 5 ml" in str(
        answer.context["form"]["cement_ml"].errors
    )
    assert plans(lesion) == []
    assert make(radiologist, lesion, cement_ml=5, stop_ml=5, why="first").status_code == 302


def test_who_may_not_is_refused(lesion: Any, radiologist: Client) -> None:
    make(radiologist, lesion, cement_ml=4, why="first")
    coordinator = client_of("coordinator-1", "coordinator")
    assert coordinator.get(reverse("plan", args=[lesion.uid])).status_code == 200
    assert coordinator.get(reverse("plan-new", args=[lesion.uid])).status_code == 403
    assert act(coordinator, lesion, 1, "approve", version=1).status_code == 403
    assert act(coordinator, lesion, 1, "restore", parent=1, why="x").status_code == 403
    assert not plans(lesion)[0].approved


def test_a_version_of_another_lesion_is_not_there(lesion: Any, radiologist: Client) -> None:
    make(radiologist, lesion, cement_ml=4, why="first")
    row = MODELS["plans"].objects.get(lesion=lesion)
    other = MODELS["lesions"].objects.get(lesion_id="2")
    at = reverse("plan-approve", args=[other.uid, row.uid])
    assert radiologist.post(at, {"version": 1}).status_code == 404
