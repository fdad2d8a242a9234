"""How a result came about, and how far the work on it has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from trocar import __version__
from trocar.facts import source as facts_source
from trocar.model.result import Run, Scan

Progress = Callable[[str, float], None]

PACKAGES = ("numpy", "scipy", "numba", "SimpleITK", "pydicom", "highdicom", "scikit-image")


class Clock:
    """Started when the work starts; makes its record when it has ended."""

    def __init__(self, command: str) -> None:
        self._command, self._started, self._clock = command, datetime.now(UTC), time.perf_counter()

    @property
    def seconds(self) -> float:
        """So far."""
        return time.perf_counter() - self._clock

    def run(
        self,
        *,
        inputs: Mapping[str, str],
        parameters: Mapping[str, Any],
        seed: int = 0,
        packages: Sequence[str] = PACKAGES,
    ) -> Run:
        """The record of what has been done: ``inputs`` by hash, versions, seconds, memory."""
        return Run(
            version=__version__,
            command=self._command,
            inputs=inputs,
            facts=facts_source.versions(),
            parameters=parameters,
            seed=seed,
            started=self._started.isoformat(timespec="seconds"),
            seconds=self.seconds,
            peak_mb=_peak_mb(),
            packages={name: metadata.version(name) for name in packages},
        )


def inputs_of(scan: Scan, earlier: Run | None) -> dict[str, str]:
    """A scan's hash and those of what an earlier step was given."""
    return {scan.name: scan.sha256} | (dict(earlier.inputs) if earlier else {})


class Spans:
    """Passes progress on, if anybody listens; a step's own 0 to 1 becomes its span of the whole.

    What is told never falls: a room may count two stages of its own from 0 each; the bar waits
    rather than jump back.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._furthest = 0.0

    def __call__(self, step: str, fraction: float) -> None:
        """So far has the whole come, in this step."""
        self._furthest = max(self._furthest, fraction)
        if self._progress is not None:
            self._progress(step, self._furthest)

    def during(self, step: str, start: float, end: float) -> Progress:
        """A listener for one step; without a name of its own it keeps that of what it hears."""
        return lambda name, f: self(
            step or name, start + (end - start) * min(max(float(f), 0.0), 1.0)
        )


def _peak_mb() -> float:
    try:
        import resource
    except ImportError:  # Windows keeps no such record in the standard library
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
