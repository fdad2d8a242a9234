"""Long work beside the pages: asked for with one call, done by a process of its own, told by a row.

:func:`submit` is the whole interface. The work itself is a function ``(parameters, who, tell) ->
result``; ``tell`` takes a step and the fraction done, and stops the work when it was cancelled.
The process and the site know of each other only through the row, so that either may die.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Lock
from typing import Any

from django.conf import settings
from django.db import transaction

from trocar.errors import InputError
from trocar.registry import chain
from trocar.registry.models import Job

Tell = Callable[[str, float], None]
Work = Callable[[Mapping[str, Any], str, Tell], str]

# Kind of work -> where its function stands; imported by the process that does it.
KINDS = {
    "audit": "trocar.web.pages.audit:run_audit",
    "shared": "trocar.web.pages.exchange:run_shared",
    "recount": "trocar.web.pages.exchange:run_recount",
    "verify": "trocar.web.pages.people:run_verify",
}
OPEN = ("waiting", "running")
_AT_ONCE = 2
# Django is set up before this module, which knows its tables, is imported.
# Its memory goes back when it ends: looking for garbage among millions of rows would only cost.
_PROCESS = (
    "import gc, sys, django; gc.disable(); django.setup(); "
    "from trocar.web.jobs import perform; perform(sys.argv[1])"
)
_APART_S = 0.5  # between two writes of the row
_logger = logging.getLogger(__name__)
_lock = Lock()
_pool: ThreadPoolExecutor | None = None
_processes: dict[str, subprocess.Popen[bytes]] = {}


class Cancelled(Exception):
    """Stops work that is not wanted any more."""


def submit(kind: str, parameters: Mapping[str, Any], who: str) -> Job:
    """Ask for work; it begins when what is being kept is kept."""
    if kind not in KINDS:
        raise InputError(f"there is no work called {kind!r}; expected one of {', '.join(KINDS)}")
    job = Job.objects.create(
        kind=kind, parameters=dict(parameters), asked_by=who, asked_at=chain.now()
    )
    transaction.on_commit(lambda: _start(str(job.uid)))
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
    """At the start of the site: what a dead server left unfinished is told as interrupted."""
    return Job.objects.filter(state__in=OPEN).update(
        state="interrupted", ended_at=chain.now(), error="the server stopped before it was done"
    )


def perform(uid: str) -> None:
    """Do the work of a job here and write down how it ended."""
    begun = Job.objects.filter(uid=uid, state="waiting").update(state="running")
    if not begun:
        return  # cancelled while it waited
    job = Job.objects.get(uid=uid)
    end: dict[str, Any]
    try:
        result = _work(job.kind)(job.parameters, job.asked_by, _teller(job))
        end = {"state": "done", "result": result, "fraction": 1.0, "step": "done"}
    except Cancelled:
        return
    except InputError as error:
        end = {"state": "failed", "error": str(error)}
    except Exception as error:
        # Its words may hold a patient's values: the log gets the kind of fault and the place.
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place else ""
        _logger.error("job %s failed: %s in %s", uid, type(error).__name__, where)
        end = {"state": "failed", "error": "it stopped at a fault of the program"}
    Job.objects.filter(uid=uid, state="running").update(ended_at=chain.now(), **end)


def _teller(job: Job) -> Tell:
    last = [0.0]

    def tell(step: str, fraction: float) -> None:
        now = time.monotonic()
        if now - last[0] < _APART_S and fraction < 1:
            return
        last[0] = now
        alive = Job.objects.filter(pk=job.pk, state="running").update(
            step=step, fraction=min(max(float(fraction), 0.0), 1.0)
        )
        if not alive:
            raise Cancelled

    return tell


def _work(kind: str) -> Work:
    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


def _start(uid: str) -> None:
    """By a process of its own, so that pages stay quick; ``JOBS_HERE`` does it at once."""
    global _pool
    if getattr(settings, "JOBS_HERE", False):
        perform(uid)
        return
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="job")
            atexit.register(_stop_all)
        _pool.submit(_beside, uid)


def _beside(uid: str) -> None:
    """Start the process of a job and wait for its end."""
    from django.db import connection

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
        connection.close()


def _stop_all() -> None:
    for process in list(_processes.values()):
        process.terminate()
    if _pool is not None:
        _pool.shutdown(wait=False, cancel_futures=True)
