"""What the worklist says of the calendar, brought up to date when the server starts and every day.

A visit becomes due, or a score is missing, because a day has passed and not because somebody wrote
something. A thread beside the pages counts again; no request waits for it. It also takes away
images that nobody took in, which may name a patient.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable

from django.db import connection

from trocar.registry import store
from trocar.registry.models import Study
from trocar.web import arrivals, cases

LOOK_S = 60.0  # between two looks at the calendar
AGAIN_S = 600.0  # after a count that failed
_logger = logging.getLogger(__name__)


def recount() -> int:
    """Count every study's lines again; how many there are."""
    return sum(store.recount_all(study, cases.standing) for study in Study.objects.all())


_APART = """
import os
from trocar.web.serve import setup
if hasattr(os, "nice"):
    os.nice(10)
setup()
from trocar.web import daily
daily.recount()
"""


def _apart() -> None:
    """Count in a process of its own: Python would let the pages wait for its turn otherwise."""
    subprocess.run([sys.executable, "-c", _APART], check=True)


class Calendar(threading.Thread):
    """Counts at its start and whenever the day has changed since; ends with the process."""

    def __init__(self, count: Callable[[], object] | None = None) -> None:
        super().__init__(name="calendar", daemon=True)
        self._count = count
        self._ended = threading.Event()
        self._counted = ""  # the day of the last count

    def run(self) -> None:
        """Look at the calendar until told to end."""
        wait = 0.0
        while not self._ended.wait(wait):
            wait = LOOK_S if self.look() else AGAIN_S

    def look(self) -> bool:
        """Count again if the day is another; False when that failed, to be tried again."""
        try:
            arrivals.forget_old()
        except OSError as error:
            _logger.error("images that waited too long are still here: %s", type(error).__name__)
        day = cases.today()
        if day == self._counted:
            return True
        try:
            (self._count or recount)()
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
    """Begin to follow the calendar; the counting is another process's, behind the pages."""
    calendar = Calendar(_apart)
    calendar.start()
    return calendar
