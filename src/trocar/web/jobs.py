"""Long work beside the pages: asked for with one call, done elsewhere, told by a row.

:func:`submit` is the whole interface. Work on the database is a function ``(parameters, who, tell)
-> result`` and has a process of its own here. Work that computes is a :class:`Farmed`: gathered
here, computed by any worker of the farm, kept here. ``tell`` takes a step and the fraction done,
and stops the work when it was cancelled. Who asks and who works know of each other only through the
row, so that either may die.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, transaction
from django.utils.translation import gettext_noop

from trocar import farm
from trocar.errors import InputError, TrocarError
from trocar.farm.line import COMES_S
from trocar.registry import chain
from trocar.registry.models import Job

Tell = Callable[[str, float], None]
Work = Callable[[Mapping[str, Any], str, Tell], str]


@dataclass(frozen=True, kw_only=True)
class Farmed:
    """Work in three parts: only the middle one takes long, and it knows no database.

    ``gather(parameters)`` makes the payload, here; it may be asked again. ``compute(payload,
    tell)`` is a function of a module that workers import. ``keep(parameters, who, outcome)`` writes
    rows and files, here, and returns the job's result; what it writes to the database stays only
    together with the job's own end, so that it is kept once.
    """

    gather: Callable[[Mapping[str, Any]], Any]
    compute: farm.Work
    keep: Callable[[Mapping[str, Any], str, Any], str]


# Kind of work -> where it stands; imported by who needs it.
KINDS = {
    "audit": "trocar.web.pages.audit:run_audit",
    "shared": "trocar.web.pages.exchange:run_shared",
    "recount": "trocar.web.pages.exchange:run_recount",
    "verify": "trocar.web.pages.people:run_verify",
    "read": "trocar.web.pages.upload:run_read",
    **{
        kind: f"trocar.web.work_kinds:{kind.upper()}"
        for kind in ("outline", "search", "ablate", "inject", "load", "assess", "sheet")
    },
}
OPEN = ("waiting", "running")
ADDRESS, PLACE = "TROCAR_SCHEDULER", "TROCAR_FARM"  # of others' workers; of this machine's
LONGEST_LOG = 20_000
_PROCESSES, _WATCHED = 2, 16  # at once, in each process that answers
# Django is set up before this module, which knows its tables, is imported.
# Its memory goes back when it ends: looking for garbage among millions of rows would only cost.
_PROCESS = (
    "import gc, sys, django; gc.disable(); django.setup(); "
    "from trocar.web.jobs import perform; perform(sys.argv[1])"
)
_APART_S = 0.5  # between two writes of the row
_SEEN_S = 15.0  # between two signs that somebody watches
# Without such a sign; none is given while an outcome comes from the farm.
_FORGOTTEN_S = COMES_S + 6 * _SEEN_S
_RESCUE_S = 30.0
_NEWS = {
    "waits": "{news.step}",
    "died": "its worker died at try {news.tries}",
    "lost": "its scheduler or worker was lost; it is sent again",
}
_logger = logging.getLogger(__name__)
_lock = threading.Lock()
_laying = threading.Lock()
_processes: dict[str, subprocess.Popen[bytes]] = {}
_queued: set[str] = set()


class Cancelled(farm.Stopped):
    """Stops work that is not wanted any more."""


def submit(kind: str, parameters: Mapping[str, Any], who: str) -> Job:
    """Ask for work; it begins when what is being kept is kept."""
    if kind not in KINDS:
        raise InputError(f"there is no work called {kind!r}; expected one of {', '.join(KINDS)}")
    job = Job.objects.create(
        kind=kind, parameters=dict(parameters), asked_by=who, asked_at=chain.now()
    )
    transaction.on_commit(lambda: _start(str(job.uid), kind))
    return job


def again(job: Job, who: str) -> Job:
    """The same work as a new job."""
    return submit(job.kind, job.parameters, who)


def cancel(job: Job) -> bool:
    """Ask work to stop; whether there was something to stop."""
    return bool(
        Job.objects.filter(pk=job.pk, state__in=OPEN).update(
            state="cancelled", ended_at=chain.now()
        )
    )


def recover() -> int:
    """At the start of the site: what a dead server left unfinished waits again, or is told.

    Work for the farm is done again from its beginning, by :func:`go_on`. Work on the database is
    told as interrupted. Returns how many there were.
    """
    count = 0
    for job in Job.objects.filter(state__in=OPEN).order_by("pk"):
        if _is_farmed(job.kind):
            log = _longer(job.log, "the server was started again")
            told = {"state": "waiting", "claim": "", "step": "", "fraction": 0.0, "log": log}
        else:
            error = "the server stopped before it was done"
            told = {"state": "interrupted", "ended_at": chain.now(), "error": error}
        count += Job.objects.filter(pk=job.pk, state__in=OPEN).update(**told)
    return count


def go_on() -> None:
    """Begin what waits for the farm and is watched by nobody; look again now and then."""

    def look() -> None:
        while True:
            try:
                rescue()
            except DatabaseError as error:
                _logger.error("waiting jobs were not looked for: %s", type(error).__name__)
            finally:
                connection.close()
            time.sleep(_RESCUE_S)

    threading.Thread(target=look, name="rescue", daemon=True).start()


def rescue() -> int:
    """Start farmed work that nobody watches, or whose watcher is gone; how much there was."""
    since = (datetime.now(UTC) - timedelta(seconds=_FORGOTTEN_S)).isoformat(timespec="microseconds")
    left = Job.objects.filter(state__in=OPEN, watched_at__lt=since).exclude(claim="")
    for job in left:
        if _is_farmed(job.kind):
            Job.objects.filter(pk=job.pk, claim=job.claim, state__in=OPEN).update(
                state="waiting", claim=""
            )
    found = Job.objects.filter(state="waiting", claim="").order_by("pk")  # who came first is first
    waiting = [job for job in found if _is_farmed(job.kind)]
    for job in waiting:
        _start(str(job.uid), job.kind)
    return len(waiting)


def perform(uid: str) -> None:
    """Do the work of a job in this process and write down how it ended."""
    begun = Job.objects.filter(uid=uid, state="waiting").update(
        state="running", begun_at=chain.now(), tries=1
    )
    if not begun:
        return  # cancelled while it waited
    job = Job.objects.get(uid=uid)
    row = _Telling(job)
    row.note("begun")
    with _ending(row):
        work = _work(job.kind)
        if isinstance(work, Farmed):
            _keep(row, work, work.compute(work.gather(job.parameters), row))
        else:
            row.end(state="done", result=work(job.parameters, job.asked_by, row))


def watch(uid: str) -> None:
    """Have the work of a job done by the farm, and write down how it goes and ends."""
    claim = uuid.uuid4().hex
    mine = Job.objects.filter(uid=uid, state="waiting", claim="").update(
        claim=claim, watched_at=chain.now()
    )
    if not mine:
        return  # cancelled while it waited, or another process has it
    job = Job.objects.get(uid=uid)
    row = _Telling(job)
    with _ending(row):
        work = _work(job.kind)
        assert isinstance(work, Farmed)
        outcome = _line().one(
            work.compute, work.gather(job.parameters), limit_s=_limit_s(), priority=1,
            news=row.hear, cancelled=lambda _: not row.watched(),
        )  # fmt: skip
        if outcome.state == "done":
            _keep(row, work, outcome.value)
        elif outcome.state != "cancelled":
            if outcome.place:
                _logger.error("job %s: %s in %s", uid, outcome.error, outcome.place)
            row.end(state="failed", error=outcome.error)


# --- The row ----------------------------------------------------------------------------------


class _Telling:
    """A job's row as its work goes on: twice a second at most, and not any more once cancelled."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._rows = Job.objects.filter(pk=job.pk, claim=job.claim, state__in=OPEN)
        self._log, self._step = job.log, job.step
        self._last = self._seen = float("-inf")

    def __call__(self, step: str, fraction: float) -> None:
        """What work tells; raises Cancelled when nobody wants it any more."""
        if not self._tell(step, fraction):
            raise Cancelled

    def hear(self, news: farm.News) -> None:
        """What the farm tells."""
        with self._patient():
            if news.what == "step":
                self._tell(news.step, news.fraction)
            elif news.what == "begun":
                self.note(f"try {news.tries} begun by a worker")
                self._write(state="running", begun_at=chain.now(), tries=news.tries, fraction=0.0)
            else:
                self.note(_NEWS[news.what].format(news=news))
                self._write(state="waiting", step="", fraction=0.0)

    def watched(self) -> bool:
        """Whether it is still wanted; leaves a sign now and then that somebody watches."""
        with self._patient():
            now = time.monotonic()
            if now - self._seen < _SEEN_S:
                return bool(self._rows.exists())
            self._seen = now
            return self._write()
        return True

    def note(self, text: str) -> None:
        """A line for the log, written with what is written next."""
        self._log = _longer(self._log, text)

    def end(self, **told: Any) -> bool:
        """How it ended; nothing when it was cancelled."""
        self.note(told.get("error") or told["state"])
        if told["state"] == "done":
            told |= {"fraction": 1.0, "step": "done"}
        return self._write(ended_at=chain.now(), **told)

    def _tell(self, step: str, fraction: float) -> bool:
        now = time.monotonic()
        if step != self._step:
            self._step = step
            self.note(step)
        if now - self._last < _APART_S and fraction < 1:
            return True
        self._last = now
        return self._write(step=step, fraction=min(max(float(fraction), 0.0), 1.0))

    @contextmanager
    def _patient(self) -> Iterator[None]:
        """A database that is busy or away for a moment does not end work of minutes."""
        try:
            yield
        except DatabaseError as error:
            _logger.error("job %s was not written: %s", self.job.uid, type(error).__name__)

    def _write(self, **told: Any) -> bool:
        if not connection.in_atomic_block:
            close_old_connections()
        watched = {"watched_at": chain.now()} if self.job.claim else {}
        return bool(self._rows.update(log=self._log, **told, **watched))


@contextmanager
def _ending(row: _Telling) -> Iterator[None]:
    """Writes down what stopped work: a sentence that was meant for the reader, or a fault."""
    try:
        yield
    except farm.Stopped:
        return
    except TrocarError as error:
        row.end(state="failed", error=str(error))
    except Exception as error:
        sentence, where = farm.fault(error)
        _logger.error("job %s: %s in %s", row.job.uid, sentence, where)
        row.end(state="failed", error=sentence)


def _keep(row: _Telling, work: Farmed, outcome: Any) -> None:
    """What was computed and that it is done: both are kept, or neither."""
    with transaction.atomic():
        row(gettext_noop("keeping"), 1.0)  # raises when it was cancelled
        row.end(state="done", result=work.keep(row.job.parameters, row.job.asked_by, outcome))


def _longer(log: str, text: str) -> str:
    """A log with one more line; the oldest go when it is too long."""
    log = f"{log}{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n"
    if len(log) <= LONGEST_LOG:
        return log
    return log[-LONGEST_LOG:].partition("\n")[2]


# --- Who does it ------------------------------------------------------------------------------


def _work(kind: str) -> Work | Farmed:
    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


def _is_farmed(kind: str) -> bool:
    return kind in KINDS and isinstance(_work(kind), Farmed)


def _start(uid: str, kind: str) -> None:
    """Elsewhere, so that pages stay quick; ``JOBS_HERE`` does it at once."""
    if getattr(settings, "JOBS_HERE", False):
        perform(uid)
        return
    with _lock:
        if uid in _queued:
            return
        _queued.add(uid)
    farmed = _is_farmed(kind)
    _hands[farmed].give(partial(_closing, watch if farmed else _beside, uid))


def _closing(work: Callable[[str], None], uid: str) -> None:
    try:
        work(uid)
    except Exception as error:  # the row could not be written: it is found again by ``rescue``
        _logger.error("job %s was left: %s", uid, type(error).__name__)
    finally:
        _queued.discard(uid)
        connection.close()


class _Hands:
    """Threads that take work in turn, and end with the process whatever they are at."""

    def __init__(self, most: int) -> None:
        self._most, self._threads = most, 0
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def give(self, work: Callable[[], None]) -> None:
        self._work.put(work)
        with _lock:
            if self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._take, name="job", daemon=True).start()

    def _take(self) -> None:
        while True:
            self._work.get()()


_hands = {False: _Hands(_PROCESSES), True: _Hands(_WATCHED)}  # by whether work is farmed


def _line() -> farm.Line:
    """The way to the farm; threads that ask at once share it, so that one farm is started."""
    with _laying:
        return _laid()


@cache
def _laid() -> farm.Line:
    """The way to the farm: others' workers, this site's, or, without a site, some of our own."""
    if os.environ.get(ADDRESS):
        return farm.Line(os.environ[ADDRESS])
    if os.environ.get(PLACE):
        return farm.Line(Path(os.environ[PLACE]))
    own = farm.LocalFarm(Path(settings.HOME) / "farm" / str(os.getpid()))
    own.start()
    atexit.register(own.close)
    own.keep(_logger.error)
    return farm.Line(own.place)


def _limit_s() -> float:
    """Seconds without a word after which work is ended."""
    named = os.environ.get("TROCAR_SILENCE_S")
    if named is None:
        return farm.LIMIT_S
    if not named.isdigit() or int(named) < 1:
        raise InputError(f"TROCAR_SILENCE_S is {named!r}; expected seconds, a number from 1")
    return float(named)


def _beside(uid: str) -> None:
    """Start the process of a job and wait for its end."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "trocar.web.settings")
    }
    try:
        process = subprocess.Popen([sys.executable, "-c", _PROCESS, uid], env=environment)
        _processes[uid] = process
        code = process.wait()
        if code:
            Job.objects.filter(uid=uid, state__in=OPEN).update(
                state="interrupted", ended_at=chain.now(), error="its process was ended"
            )
    finally:
        _processes.pop(uid, None)


@atexit.register
def _stop_all() -> None:
    for process in list(_processes.values()):
        process.terminate()
