"""Many cases: each ends by itself, each is kept as it ends, and a next start goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from trocar.errors import InputError
from trocar.farm.line import LIMIT_S, RETRIES, Case, Line, News, Outcome
from trocar.farm.local import LocalFarm
from trocar.farm.worker import Answer, Stopped, Work, answer, packed

_AWAY_S = 120.0


@contextmanager
def opened(scheduler: str | None = None, workers: int | None = None) -> Iterator[Line]:
    """A way to workers: those of a scheduler, or ``workers`` of this machine, gone afterwards."""
    if scheduler:
        line = Line(scheduler)
        try:
            line.wait_for_workers(30.0)
            yield line
        finally:
            line.close()
        return
    with tempfile.TemporaryDirectory(prefix="trocar-farm-", ignore_cleanup_errors=True) as folder:
        farm = LocalFarm(folder, workers)
        farm.start()
        line = Line(farm.place)
        try:
            farm.wait()
            farm.keep(lambda sentence: None)
            yield line
        finally:
            line.close()
            farm.close()


def run_all(
    work: Work,
    cases: Iterable[Case],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    done: Path | str | None = None,
    holds: Callable[[Outcome], bool] | None = None,
    limit_s: float = LIMIT_S,
    retries: int = RETRIES,
    news: Callable[[News], None] | None = None,
    cancelled: Callable[[str], bool] | None = None,
) -> Iterator[Outcome]:
    """Do many cases; one outcome each, as they end. One bad case never stops another.

    ``workers`` 0 does them one after the other in this process. With ``done``, a folder, the
    outcome of each case that is done is kept there as it ends, and one of the same name and ``key``
    is not done again, if it still ``holds``; values must then be plain (JSON). For the rest see
    :meth:`Line.run`.
    """
    kept = None if done is None else _Kept(Path(done))
    known: list[Outcome] = []
    keys: dict[str, str] = {}

    def missing() -> Iterator[Case]:
        for case in cases:
            before = None if kept is None else kept.read(case)
            if before is not None and (holds is None or holds(before)):
                known.append(before)
            else:
                keys[case.name] = case.key
                yield case

    source = missing()
    first = next(source, None)
    if first is not None:
        for outcome in _ways(
            work, chain((first,), source), workers=workers, scheduler=scheduler, limit_s=limit_s,
            retries=retries, news=news, cancelled=cancelled,
        ):  # fmt: skip
            while known:
                yield known.pop(0)
            yield outcome if kept is None else kept.write(outcome, keys[outcome.name])
    yield from known


def _ways(
    work: Work, cases: Iterable[Case], *, workers: int | None, scheduler: str | None, news: Any,
    cancelled: Any, **how: Any,
) -> Iterator[Outcome]:  # fmt: skip
    if workers == 0:
        yield from _here(work, cases, news, cancelled)
        return
    with opened(scheduler, workers) as line:
        yield from line.run(work, cases, wait_s=_AWAY_S, news=news, cancelled=cancelled, **how)


def _here(
    work: Work, cases: Iterable[Case], news: Callable[[News], None] | None,
    cancelled: Callable[[str], bool] | None,
) -> Iterator[Outcome]:  # fmt: skip
    """One after the other, in this process: no worker, and so no limit to what a case may do."""

    for case in cases:

        def tell(step: str, fraction: float, name: str = case.name) -> None:
            if cancelled is not None and cancelled(name):
                raise Stopped
            if news is not None:
                news(News(name=name, what="step", step=step, fraction=fraction, tries=1))

        told: Answer = answer(packed(work, case.payload), tell)
        state = "cancelled" if told.state == "stopped" else told.state
        yield Outcome(
            name=case.name, state=state, value=told.value, error=told.error, place=told.place,
            tries=1, seconds=told.seconds,
        )  # fmt: skip


class _Kept:
    """Outcomes in a folder: one file a case, named by its hash so that any name will do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder {folder} cannot be made ({error.strerror}); give another"
            ) from error

    def read(self, case: Case) -> Outcome | None:
        """The outcome of an earlier start, if it rests on the same."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            told = json.loads(self._place(case.name).read_text(encoding="utf-8"))
            if told.pop("key") == case.key and told["name"] == case.name:
                return replace(Outcome(**told), before=True)
        return None

    def write(self, outcome: Outcome, key: str) -> Outcome:
        """Keep what is done; what failed is tried again by a next start."""
        place = self._place(outcome.name)
        if outcome.state != "done":
            place.unlink(missing_ok=True)
            return outcome
        told: dict[str, Any] = asdict(outcome) | {"key": key}
        part = place.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
        part.replace(place)
        return outcome

    def _place(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
