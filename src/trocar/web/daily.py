"""What the worklist says of the calendar, brought up to date when the server starts and every day.

A visit becomes due, or a score is missing, because a day has passed and not because somebody wrote
something. A thread beside the pages counts again; no request waits for it.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from django.db import connection

from trocar.registry import store
from trocar.registry.models import MODELS_AND_HEADS, ChainEvent, ChainHead, Study
from trocar.web import cases

LOOK_S = 60.0  # between two looks at the calendar
AGAIN_S = 600.0  # after a count that failed
_logger = logging.getLogger(__name__)


def recount() -> int:
    """Count every study's lines again; how many there are."""
    head = ChainHead.objects.filter(pk=1).values_list("number", flat=True).first() or 0
    counted = sum(store.recount_all(study, cases.standing) for study in Study.objects.all())
    # What was saved while it counted may have been overwritten by what it had read before.
    for lesion in _touched_since(head):
        store.recount(lesion, cases.standing)
    return counted


def _touched_since(head: int) -> list[Any]:
    """The lesions of which a row was written after a link of the log."""
    touched = {}
    links = ChainEvent.objects.filter(number__gt=head, kind="change")
    for subject, detail in links.values_list("subject", "detail"):
        table, _, uid = subject.partition(":")
        model: Any = MODELS_AND_HEADS[table]
        gone = json.loads(detail)["digest"] is None
        if gone and table == "lesions":
            continue
        # A row that was removed is known by its last state, which tells whose it was.
        row = (model.history if gone else model.objects).filter(uid=uid).first()
        row = row.instance if gone and row is not None else row
        if row is not None:
            touched.update({lesion.pk: lesion for lesion in cases.lesions_of(row)})
    return list(touched.values())


class Calendar(threading.Thread):
    """Counts at its start and whenever the day has changed since; ends with the process."""

    def __init__(self) -> None:
        super().__init__(name="calendar", daemon=True)
        self._ended = threading.Event()
        self._counted = ""  # the day of the last count

    def run(self) -> None:
        """Look at the calendar until told to end."""
        wait = 0.0
        while not self._ended.wait(wait):
            wait = LOOK_S if self.look() else AGAIN_S

    def look(self) -> bool:
        """Count again if the day is another; False when that failed, to be tried again."""
        day = cases.today()
        if day == self._counted:
            return True
        try:
            recount()
        except Exception as error:
            # Its words may hold a patient's values: the kind of fault is enough to look for it.
            _logger.error("the worklist of the day was not counted: %s", type(error).__name__)
            return False
        finally:
            connection.close()
        self._counted = day
        return True

    def end(self) -> None:
        """Ask it to end; a count that runs is finished first."""
        self._ended.set()


def start() -> Calendar:
    """Begin to follow the calendar."""
    calendar = Calendar()
    calendar.start()
    return calendar
