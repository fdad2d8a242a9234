"""Several people at one lesion at once: all is kept or told of, and nobody waits in a ring."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from made_records import ground

from trocar.model.care import Meeting, PlanVersion, Vote
from trocar.model.course import PainScore
from trocar.registry import chain, store
from trocar.registry.models import MODELS
from trocar.web import cases

pytestmark = pytest.mark.django_db(transaction=True)
EACH = 6


def test_scores_meetings_votes_plans_and_steps_of_one_lesion() -> None:
    unit = ground()
    lesion = unit.lesion()
    study = unit.study
    meeting = cases.save(
        "meetings", Meeting(lesion_id="ground1", date="2026-01-01"), who="chair", study=study
    )
    began, wrong = threading.Barrier(5), []

    def score(k: int) -> None:
        record = PainScore(lesion_id="ground1", day=float(k + 1), low=3)
        cases.save("pain", record, who="nurse", study=study)

    def meet(k: int) -> None:
        row = MODELS["meetings"].objects.get(pk=meeting.pk)
        record = Meeting(lesion_id="ground1", date="2026-01-01", conditions=f"condition {k}")
        cases.save("meetings", record, who="chair", why="mended", row=row, expected=row.version)

    def vote(k: int) -> None:
        record = Vote(
            lesion_id="ground1", date="2026-01-01", member_id=f"member{k}", specialty="oncology"
        )
        cases.save("votes", record, who=f"member{k}", study=study)

    def plan(k: int) -> None:
        record = PlanVersion(lesion_id="ground1", number=1, route=f"way {k}")
        cases.plan(lesion, record, who="planner", why="better", parent=k or None)

    def step(k: int) -> None:
        state = ("selection", "referred")[k % 2]
        cases.move(
            lesion, state, who="mover", role="radiologist", reason="to and fro",
            overridden=("alive", "referral"),
        )  # fmt: skip

    def hand(work: Any) -> None:
        try:
            began.wait(30)
            for k in range(EACH):
                work(k)
        except BaseException as error:
            wrong.append(error)
        finally:
            connection.close()

    hands = [threading.Thread(target=hand, args=(w,)) for w in (score, meet, vote, plan, step)]
    for t in hands:
        t.start()
    for t in hands:
        t.join(120)
    assert not wrong, wrong
    assert [MODELS[t].objects.count() for t in ("pain", "votes", "plans", "steps")] == [EACH] * 4
    assert MODELS["meetings"].objects.get().version == EACH + 1
    assert chain.verify().sound
    assert store.read_care(lesion).plan.number == EACH
