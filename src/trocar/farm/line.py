"""The way to the workers: cases are sent, watched, tried again; what breaks on it is mended."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

from trocar import __version__
from trocar.errors import InputError
from trocar.farm.local import WANTED
from trocar.farm.worker import Answer, Work, fault, packed, perform

LIMIT_S = 900.0  # without a word from the work
RETRIES = 2  # after a worker that died
STOPPING_S = 10.0  # for work that is not wanted any more, before its worker is started anew
_LOOK_S = 0.25
_ASK_S = 1.0  # between two questions whether a case is still wanted
_CONNECT_S = 10.0
_NEAR_S = 3.0  # to a scheduler of this machine
COMES_S = 600.0  # for an outcome of some 100 MB from far away
_AGAIN_S = 0.5  # between two attempts to reach a scheduler
_COUNT_S = 5.0  # the number of workers is asked for no more often
_TOLD_S = 10.0  # a scheduler that is away for less is not worth a word
_LATE_S = 1.5  # for a word that is under way
# Lost with its scheduler or beside another case that took the worker down: no fault of a case, but
# one that is lost again and again is not sent for ever.
_MOST_LOST = 10


class Unreachable(InputError):
    """There is no scheduler where one was named."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One piece of work; ``key`` stands for all its result rests on, where results are kept."""

    name: str
    payload: Any
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a case: its ``value``, or the sentence that says why there is none."""

    name: str
    state: Literal["done", "failed", "died", "hung", "cancelled"]
    value: Any = None
    error: str = ""
    place: str = ""  # of a fault of the program
    tries: int = 0
    seconds: float = 0.0  # of the work itself
    before: bool = False  # an earlier start had done it


@dataclass(frozen=True, kw_only=True)
class News:
    """Something that happened to a case on its way; it ``waits`` for what its ``step`` says."""

    name: str
    what: Literal["begun", "step", "died", "lost", "waits"]
    step: str = ""
    fraction: float = 0.0
    tries: int = 0


class _Flight:
    """A case on its way."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.token = ""
        self.future: Any = None
        self.worker = ""
        self.tries = self.lost = 0
        self.working = self.ended = self.waits = False
        self.heard_at = 0.0

    def out(self, state: Any, **more: Any) -> Outcome:
        return Outcome(name=self.case.name, state=state, tries=self.tries, **more)


class Line:
    """One process's connection to a scheduler; made when it is needed, and anew when it breaks.

    ``where`` is an address such as ``tcp://10.0.0.5:8786``, or the file in which a farm of this
    machine tells its own. Threads may share a line.
    """

    def __init__(self, where: str | Path) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._topic = f"trocar-{uuid.uuid4().hex}"
        self._listeners: dict[str, Callable[[Mapping[str, Any]], None]] = {}
        self._client: Any = None
        self._failed_at, self._failed = float("-inf"), ""
        self._counted_at, self._workers = float("-inf"), 1

    def run(
        self,
        work: Work,
        cases: Iterable[Case],
        *,
        limit_s: float = LIMIT_S,
        retries: int = RETRIES,
        priority: int = 0,
        wait_s: float | None = None,
        news: Callable[[News], None] | None = None,
        cancelled: Callable[[str], bool] | None = None,
    ) -> Iterator[Outcome]:
        """Do the cases; one outcome each, as they end. No case stops another.

        A case whose worker dies is tried ``retries`` times more; one that tells nothing for
        ``limit_s`` is ended. ``cancelled`` is asked by name whether a case is not wanted any more.
        A scheduler that is away is waited for, ``wait_s`` long (None: for ever), then
        :class:`Unreachable` is raised. Cases are taken as workers become free.
        """
        round_ = _Round(self, work, limit_s, retries, priority, wait_s, news, cancelled)
        yield from round_.outcomes(cases)

    def one(self, work: Work, payload: Any, **how: Any) -> Outcome:
        """Do one case; see :meth:`run`."""
        return next(self.run(work, [Case(name="", payload=payload)], **how))

    def workers(self) -> int:
        """How many cases can be worked on at once; raises Unreachable."""
        now = time.monotonic()
        if now - self._counted_at > _COUNT_S:
            client = self._reached()
            with suppress(Exception):  # a scheduler that goes away is noticed elsewhere
                self._workers = max(1, len(client.nthreads()))
                self._counted_at = now
        return self._workers

    def wait_for_workers(self, seconds: float) -> None:
        """Until there is a worker; raises Unreachable when there is none in time."""
        try:
            self._reached().wait_for_workers(1, timeout=seconds)
        except TimeoutError as error:
            raise Unreachable(
                f"the scheduler at {self._named()} has no worker; start one with 'dask worker'"
            ) from error

    def close(self) -> None:
        """Let go of the scheduler; what is on its way is given up."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            _closed(client)

    # --- for a round ------------------------------------------------------------------------------

    def send(
        self, flight: _Flight, sent: bytes, limit_s: float, priority: int,
        hear: Callable[[Mapping[str, Any]], None],
    ) -> None:  # fmt: skip
        """Put a case on its way under a new token; raises Unreachable."""
        client = self._reached()
        flight.token = f"trocar-{uuid.uuid4().hex}"
        flight.working = flight.ended = False
        self._listeners[flight.token] = hear
        token = flight.token
        flight.future = client.submit(
            perform, sent, __version__, self._topic, token, limit_s, key=token, pure=False,
            priority=priority,
        )  # fmt: skip
        flight.future.add_done_callback(lambda _: hear({"token": token, "what": "answer"}))

    def broken(self, flight: _Flight) -> bool:
        """Whether a case was lost together with its way."""
        client = flight.future.client
        return client.status != "running" or flight.future.status in ("cancelled", "lost")

    def give_up(self, flight: _Flight) -> None:
        """The case's way is of no use any more: the next case takes a new one."""
        client = flight.future.client
        with self._lock:
            mine = client is self._client
            if mine:
                self._client = None
        self._forget(flight)
        if mine:  # it may take long to see that nobody answers
            threading.Thread(target=_closed, args=(client,), daemon=True).start()

    def drop(self, flight: _Flight) -> None:
        """Nobody wants the case: it is taken back; a worker that goes on is started anew."""
        if flight.future is None:
            return
        client, worker = flight.future.client, flight.worker
        busy = flight.working
        ended = threading.Event()
        if busy:
            token = flight.token
            self._listeners[token] = lambda m: ended.set() if m["what"] == "ended" else None

            def restart() -> None:
                if not ended.wait(STOPPING_S):
                    with suppress(Exception):  # it died by itself, or there is no nanny
                        client.restart_workers([worker], timeout=10, raise_for_error=False)
                self._listeners.pop(token, None)

            threading.Thread(target=restart, daemon=True).start()
        with suppress(Exception):
            flight.future.cancel()
        if not busy:
            self._forget(flight)
        flight.future = None

    def done(self, flight: _Flight) -> None:
        """The case has its answer."""
        self._forget(flight)

    def _forget(self, flight: _Flight) -> None:
        self._listeners.pop(flight.token, None)
        if flight.future is not None:
            with suppress(Exception):
                flight.future.release()
        flight.future = None

    def _reached(self) -> Any:
        """The client that is connected; raises Unreachable."""
        with self._lock:
            if self._client is not None and self._client.status == "running":
                return self._client
            if time.monotonic() - self._failed_at < _AGAIN_S:
                raise Unreachable(self._failed)
            try:
                self._client = self._connected()
            except Unreachable as error:
                self._failed_at, self._failed = time.monotonic(), str(error)
                raise
            self._counted_at = float("-inf")
            return self._client

    def _connected(self) -> Any:
        try:
            import dask
            import distributed  # noqa: F401 - what is not there is told once
        except ImportError as error:
            raise Unreachable(
                "long work goes through Dask, which is not installed here; "
                "pip install 'trocar[cohort]'"
            ) from error
        for name in ("distributed", "distributed.client"):  # what breaks is mended and told here
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # A CT travels with its case where the worker may be another machine.
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})
        try:
            address, security = _found(self._where)
            near = isinstance(self._where, Path)
            client = _client(address, security, _NEAR_S if near else _CONNECT_S)
        except (OSError, ValueError, TimeoutError) as error:
            raise Unreachable(
                f"no scheduler can be reached at {self._named()}; start one, or name another with "
                "TROCAR_SCHEDULER=tcp://host:port"
            ) from error
        client.subscribe_topic(self._topic, self._heard)
        return client

    def _heard(self, event: tuple[float, Mapping[str, Any]]) -> None:
        hear = self._listeners.get(event[1]["token"])
        if hear is not None:
            hear(event[1])

    def _named(self) -> str:
        return self._where if isinstance(self._where, str) else "this machine's own farm"


class _Round:
    """The cases of one call on their way over a line."""

    def __init__(
        self, line: Line, work: Work, limit_s: float, retries: int, priority: int,
        wait_s: float | None, news: Callable[[News], None] | None,
        cancelled: Callable[[str], bool] | None,
    ) -> None:  # fmt: skip
        self._line, self._work, self._limit_s = line, work, limit_s
        self._retries, self._priority, self._wait_s = retries, priority, wait_s
        self._news, self._cancelled = news, cancelled
        self._flights: list[_Flight] = []
        self._messages: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
        self._reached_at = self._asked_at = time.monotonic()

    def outcomes(self, cases: Iterable[Case]) -> Iterator[Outcome]:
        source, more = iter(cases), True
        try:
            while more or self._flights:
                while more and len(self._flights) < self._wide():
                    case = next(source, None)
                    more = case is not None
                    if case is not None:
                        self._flights.append(_Flight(case))
                yield from self._sent()
                yield from self._listened()
                yield from self._looked()
        finally:
            for flight in self._flights:
                self._line.drop(flight)

    def _wide(self) -> int:
        """One case a worker: none waits behind another that takes minutes, or dies beside it."""
        try:
            return self._line.workers()
        except Unreachable:
            return 1

    def _sent(self) -> Iterator[Outcome]:
        """Put on their way what is not; what cannot be packed ends here."""
        for flight in [f for f in self._flights if f.future is None]:
            try:
                sent = packed(self._work, flight.case.payload)
            except Exception as error:
                sentence, place = fault(error)
                yield self._over(flight, "failed", error=sentence, place=place)
                continue
            try:
                self._line.send(flight, sent, self._limit_s, self._priority, self._messages.put)
            except Unreachable as error:
                away_s = time.monotonic() - self._reached_at
                if self._wait_s is not None and away_s > self._wait_s:
                    raise
                if away_s > _TOLD_S and not flight.waits:
                    flight.waits = True
                    self._tell(flight, "waits", step=str(error))
                return
            self._reached_at, flight.waits = time.monotonic(), False

    def _listened(self) -> Iterator[Outcome]:
        """Everything that was heard since, waiting a little for the first word."""
        try:
            message = self._messages.get(timeout=_LOOK_S)
        except Empty:
            return
        while True:
            flight = next((f for f in self._flights if f.token == message["token"]), None)
            if flight is not None and flight.future is not None:
                over = self._heard(flight, message)
                if over is not None:
                    yield over
            try:
                message = self._messages.get_nowait()
            except Empty:
                return

    def _heard(self, flight: _Flight, message: Mapping[str, Any]) -> Outcome | None:
        flight.heard_at = time.monotonic()
        what = message["what"]
        if what == "begun":
            if flight.working:  # and begins anew: the scheduler tried it again by itself
                self._tell(flight, "died")
                if flight.tries > self._retries:
                    return self._dead(flight)
            if not flight.ended:  # one that had ended lost its answer with another case's worker
                flight.tries += 1
            flight.working, flight.ended, flight.worker = True, False, message["worker"]
            self._tell(flight, "begun")
        elif what == "step":
            self._tell(flight, "step", step=message["step"], fraction=message["fraction"])
        elif what == "ended":
            flight.working, flight.ended = False, True
        elif what == "answer":
            return self._answered(flight)
        return None

    def _answered(self, flight: _Flight) -> Outcome | None:
        """What the scheduler has for a case: its answer, or that a worker died."""
        from distributed.scheduler import KilledWorker

        status = flight.future.status
        if status == "finished":
            try:
                came = flight.future.result(timeout=COMES_S)
            except Exception:  # its worker has died since
                return self._lost(flight)
            try:
                told: Answer = pickle.loads(came)
            except Exception as error:  # such as a record that only the worker knows
                sentence, place = fault(error)
                return self._over(flight, "failed", error=sentence, place=place)
            if told.state == "stopped":
                return self._over(flight, "cancelled")
            return self._over(
                flight, told.state, value=told.value, error=told.error, place=told.place,
                seconds=told.seconds,
            )  # fmt: skip
        if status != "error":
            return self._lost(flight)
        ended_by = flight.future.exception()
        if not isinstance(ended_by, KilledWorker):
            sentence, place = fault(ended_by)
            return self._over(flight, "failed", error=sentence, place=place)
        if not flight.working:  # it waited behind the case that ended its worker
            return self._lost(flight)
        self._tell(flight, "died")
        if flight.tries > self._retries:
            return self._dead(flight)
        self._line.done(flight)
        return None

    def _looked(self) -> Iterator[Outcome]:
        """What nobody tells: silence, a broken line, that somebody does not want it any more."""
        now = time.monotonic()
        ask = self._cancelled is not None and now - self._asked_at >= _ASK_S
        if ask:
            self._asked_at = now
        for flight in list(self._flights):
            if ask and self._cancelled is not None and self._cancelled(flight.case.name):
                yield self._over(flight, "cancelled")
            elif flight.future is None:
                continue
            elif self._line.broken(flight):
                over = self._lost(flight)
                if over is not None:
                    yield over
            elif flight.working and now - flight.heard_at > self._limit_s + _LATE_S:
                error = f"it told nothing for {self._limit_s:g} s and was ended"
                yield self._over(flight, "hung", error=error)

    def _lost(self, flight: _Flight) -> Outcome | None:
        """To be sent again, for no fault of its own."""
        flight.lost += 1
        if self._line.broken(flight):
            flight.tries -= flight.working  # its worker may be well
            self._line.give_up(flight)
        else:
            self._line.done(flight)
        self._tell(flight, "lost")
        if flight.lost > _MOST_LOST:
            error = f"it was lost {flight.lost} times with its scheduler or worker"
            return self._over(flight, "died", error=error)
        return None

    def _dead(self, flight: _Flight) -> Outcome:
        often = "once" if flight.tries == 1 else f"{flight.tries} times"
        error = f"its worker died {often}; perhaps it needs more memory than a worker has"
        return self._over(flight, "died", error=error)

    def _over(self, flight: _Flight, state: Any, **more: Any) -> Outcome:
        self._flights.remove(flight)
        if state in ("hung", "cancelled"):
            self._line.drop(flight)
        else:
            self._line.done(flight)
        return flight.out(state, **more)

    def _tell(self, flight: _Flight, what: Any, **more: Any) -> None:
        if self._news is not None:
            self._news(News(name=flight.case.name, what=what, tries=flight.tries, **more))


def _found(where: str | Path) -> tuple[str, Any]:
    """The address of a scheduler, and what it takes to speak with it."""
    if isinstance(where, str):
        return where, None
    from distributed.security import Security

    if not where.is_file():
        where.with_name(WANTED).touch()
    told = json.loads(where.read_text(encoding="utf-8"))
    return told["address"], Security(**told["security"])


def _client(address: str, security: Any, timeout_s: float) -> Any:
    """A client that is connected.

    One that could not be is closed at once: left to the garbage collector it closes itself under a
    lock of its class, in whatever thread, and that may hold this lock already.
    """
    from distributed import Client

    client = Client.__new__(Client)
    try:
        client.__init__(  # type: ignore[misc]
            address, security=security, timeout=timeout_s, set_as_default=False, name="trocar"
        )
    except BaseException:
        _closed(client)
        raise
    return client


def _closed(client: Any) -> None:
    with suppress(Exception):
        client.close(timeout=2)
    client.status = "closed"
