"""What happens on a worker: one case at a time, told as it goes, stopped when nobody wants it."""

from __future__ import annotations

import faulthandler
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from trocar import __version__
from trocar.errors import TrocarError

Tell = Callable[[str, float], None]
Work = Callable[[Any, Tell], Any]

APART_S = 0.5  # between two messages of one case
_GRACE_S = 3.0  # who waits for the work ends it first, and can then say why
_ANSWERED_S = 30.0
# Compiled kernels of two cases in one process may end it, however many threads a worker was given.
_alone = threading.Lock()


class Stopped(Exception):
    """Ends work that nobody wants any more."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How work ended on its worker; ``error`` is a sentence, ``place`` where a fault happened."""

    state: Literal["done", "failed", "stopped"]
    value: Any = None
    error: str = ""
    place: str = ""
    seconds: float = 0.0


def fault(error: BaseException) -> tuple[str, str]:
    """A sentence for what nobody foresaw, and its place in the program.

    Its own words may hold a patient's values; its kind does not.

    >>> fault(KeyError("K-1234"))
    ('it stopped at a fault of the program (KeyError)', '')
    """
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_name}:{where.tb_lineno}" if where else ""
    return f"it stopped at a fault of the program ({type(error).__name__})", place


def packed(work: Work, payload: Any) -> bytes:
    """Work with its payload, as it travels."""
    return pickle.dumps((work, payload), pickle.HIGHEST_PROTOCOL)


def answer(sent: bytes, tell: Tell) -> Answer:
    """Do the work and say how it ended, whatever happens in it."""
    began = time.perf_counter()
    try:
        work, payload = pickle.loads(sent)
        told = Answer(state="done", value=work(payload, tell))
    except Stopped:
        told = Answer(state="stopped")
    except TrocarError as error:
        told = Answer(state="failed", error=str(error))
    except (Exception, SystemExit) as error:
        sentence, place = fault(error)
        told = Answer(state="failed", error=sentence, place=place)
    return Answer(
        state=told.state, value=told.value, error=told.error, place=told.place,
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def perform(sent: bytes, version: str, topic: str, token: str, limit_s: float) -> bytes:
    """What a scheduler is asked to run: begun, told and ended on ``topic``, answered in pickle.

    Work that tells nothing for longer than ``limit_s`` takes its process down, from a thread that
    needs no lock of the interpreter; a nanny starts another.
    """
    from distributed import get_worker
    from distributed.utils import sync

    if version != __version__:
        error = f"the worker has trocar {__version__}, but was asked by {version}; install the same"
        return pickle.dumps(Answer(state="failed", error=error))
    worker = get_worker()
    with _alone:
        # Waited for, unlike what is told later: who ends the process at once must be counted, too.
        begun = {"token": token, "what": "begun", "worker": worker.address}
        sync(
            worker.loop, worker.scheduler.log_event, topic=topic, msg=begun,
            callback_timeout=_ANSWERED_S,
        )  # fmt: skip
        told = answer(sent, _Wire(worker, topic, token, limit_s))
        faulthandler.cancel_dump_traceback_later()
        try:
            out = pickle.dumps(told, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            sentence, place = fault(error)
            out = pickle.dumps(Answer(state="failed", error=sentence, place=place))
    worker.log_event(topic, {"token": token, "what": "ended"})
    return out


class _Wire:
    """The ``tell`` of a worker: twice a second at most it says how far, and looks who listens."""

    def __init__(self, worker: Any, topic: str, token: str, limit_s: float) -> None:
        self._worker, self._topic, self._token = worker, topic, token
        self._limit_s, self._last = limit_s + _GRACE_S, float("-inf")
        self._guard()

    def __call__(self, step: str, fraction: float) -> None:
        now = time.monotonic()
        if now - self._last < APART_S:
            return
        self._last = now
        task = self._worker.state.tasks.get(self._token)
        if task is None or task.state == "cancelled":
            raise Stopped
        self._guard()
        message = {"token": self._token, "what": "step", "step": str(step)}
        self._worker.log_event(self._topic, message | {"fraction": float(fraction)})

    def _guard(self) -> None:
        faulthandler.dump_traceback_later(self._limit_s, exit=True, file=_outlet())


@cache
def _outlet() -> Any:
    """Where a trace can be written without the interpreter; a service may have no such place."""
    return sys.__stderr__ or open(os.devnull, "w")
