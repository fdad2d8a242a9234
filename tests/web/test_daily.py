"""The worklist keeps up with the calendar, and does not undo what is saved while it counts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from trocar.model.care import Step
from trocar.model.course import PainScore, Procedure
from trocar.model.patient import PainfulLesion, Patient
from trocar.model.study import StudyInfo
from trocar.registry import store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, Case, Study
from trocar.web import cases, daily

DONE = "2026-03-16"


def on(monkeypatch: pytest.MonkeyPatch, day: int) -> None:
    """So many days after the procedure."""
    then = (date.fromisoformat(DONE) + timedelta(days=day)).isoformat()
    monkeypatch.setattr(cases, "today", lambda: then)


def treat() -> Any:
    """A lesion that was treated and scored on day 3."""
    study = store.put("study", StudyInfo(study_id="s", title="t"), who="anna")
    for table, row in (
        ("patients", Patient(patient_id="P")),
        ("lesions", PainfulLesion(lesion_id="1", patient_id="P", site="L1")),
        ("procedures", Procedure(procedure_id="1", lesion_id="1", date=DONE)),
        ("pain", PainScore(lesion_id="1", day=3, low=4)),
    ):
        store.put(table, row, who="anna", study=study)
    for number, state in enumerate(("treated", "follow-up"), start=1):
        step = Step(lesion_id="1", number=number, at="2026-03-16T10:00:00Z", by="anna", state=state)
        cases.save("steps", step, who="anna", study=study)
    return MODELS["lesions"].objects.get()


@pytest.fixture
def treated(db: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    on(monkeypatch, 4)
    return treat()


def line() -> tuple[str, int]:
    case = Case.objects.get()
    return case.next_due, case.missing_scores


def test_due_dates_and_missing_scores_follow_the_day(
    treated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert line() == ("2026-03-23", 0)
    on(monkeypatch, 11)  # the window of the first week has passed
    assert line() == ("2026-03-23", 0)
    assert daily.recount() == 1
    assert line() == ("2026-04-13", 1)
    on(monkeypatch, 100)
    daily.recount()
    assert line() == ("", 3)


@pytest.mark.parametrize("removed", [False, True])
def test_what_is_saved_while_it_counts_is_not_undone(
    treated: Any, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    on(monkeypatch, 11)
    reading, lesion = store.read_study, treated

    def saved_meanwhile(study: Study) -> Any:
        """The count has read everything; then somebody saves; then it writes what it had read."""
        read = reading(study)
        if removed:
            cases.remove(MODELS["pain"].objects.get(), who="anna", why="another patient's")
        else:
            cases.save(
                "pain", PainScore(lesion_id="1", day=7, low=2), who="anna", study=lesion.study
            )
        return read

    monkeypatch.setattr(store, "read_study", saved_meanwhile)
    daily.recount()
    assert line()[1] == (2 if removed else 0)


def test_a_removed_lesion_has_no_line(treated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    study = treated.study
    other = replace(to_record(treated), lesion_id="2")
    row = cases.save("lesions", other, who="anna", study=study)
    reading = store.read_study

    def removed_meanwhile(study: Study) -> Any:
        read = reading(study)
        cases.remove(row, who="anna", why="entered twice")
        return read

    monkeypatch.setattr(store, "read_study", removed_meanwhile)
    daily.recount()
    assert Case.objects.count() == 1


def test_it_counts_once_a_day_and_again_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counts = []

    def count() -> int:
        counts.append(cases.today())
        if len(counts) == 2:
            raise ValueError("a secret value")
        return 0

    monkeypatch.setattr(daily, "recount", count)
    calendar = daily.Calendar()
    on(monkeypatch, 1)
    assert calendar.look()
    assert calendar.look()
    assert len(counts) == 1
    on(monkeypatch, 2)
    with caplog.at_level(logging.ERROR):
        assert not calendar.look()
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text
    assert calendar.look()
    assert calendar.look()
    assert len(counts) == 3


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Iterator[daily.Calendar]:
    monkeypatch.setattr(daily, "LOOK_S", 0.05)
    made = daily.Calendar()
    yield made
    made.end()
    made.join(30)
    assert not made.is_alive()


@pytest.mark.django_db(transaction=True)
def test_the_thread_follows_the_calendar(
    calendar: daily.Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, 4)
    treat()
    calendar.start()
    on(monkeypatch, 11)
    until = time.monotonic() + 30
    while line()[1] != 1 and time.monotonic() < until:
        time.sleep(0.05)
    assert line() == ("2026-04-13", 1)
