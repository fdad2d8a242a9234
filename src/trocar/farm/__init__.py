"""Long work on other processes or machines: sent, watched, tried again, and never lost.

Work is a function ``(payload, tell) -> outcome`` of a module that workers can import; ``tell``
takes a step and the fraction done, and raises when the work is not wanted any more.
:func:`run_all` does many cases, :class:`Line` is the way to the workers for those who keep it open.
Dask carries all of it: a scheduler that is named, or one of this machine (:class:`LocalFarm`).
"""

from __future__ import annotations

from trocar.farm.batch import opened, run_all
from trocar.farm.line import LIMIT_S, RETRIES, Case, Line, News, Outcome, Unreachable
from trocar.farm.local import LocalFarm, usual_workers
from trocar.farm.worker import Stopped, Tell, Work, fault

__all__ = [
    "LIMIT_S",
    "RETRIES",
    "Case",
    "Line",
    "LocalFarm",
    "News",
    "Outcome",
    "Stopped",
    "Tell",
    "Unreachable",
    "Work",
    "fault",
    "opened",
    "run_all",
    "usual_workers",
]
