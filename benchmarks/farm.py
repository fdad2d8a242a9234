"""Cases on workers: what the way costs, and whether two workers do twice as much as one.

Workers are processes of this machine with one thread of Numba each. The peers are the same work
one case after the other in this process, and the same farm with one worker.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import harness
from trocar.farm import Case, Line, LocalFarm, Tell, run_all

EMPTY, HEAVY = 200, 16
MOST_S_A_CASE = 0.05


def nothing(asked: int, tell: Tell) -> int:
    """A case without work: all it takes is the way."""
    tell("nothing", 1.0)
    return asked


def radiographs(asked: int, tell: Tell) -> str:
    """Simulated radiographs of a block that stays in the cache, by one thread; their hash."""
    import hashlib

    import numba

    from trocar.kernels.projection import project

    numba.set_num_threads(1)
    block = np.random.default_rng(asked).integers(-200, 800, (96, 96, 96)).astype(np.int16)
    seen = hashlib.sha256()
    for k in range(24):
        angle = np.pi * k / 24
        along = np.array([np.cos(angle), np.sin(angle), 0.0])
        across = np.array([-np.sin(angle), np.cos(angle), 0.0])
        middle = np.array([47.5, 47.5, 47.5])
        image = project(
            block, _INDEX_TO_WORLD, source_mm=middle - 400 * along,
            detector_mm=middle + 400 * along - 120 * across - np.array([0, 0, 120]),
            row_step_mm=(0, 0, 0.75), column_step_mm=0.75 * across, shape=(320, 320),
        )  # fmt: skip
        seen.update(image.tobytes())
        tell("radiographs", (k + 1) / 24)
    return seen.hexdigest()


# [slice, row, column] to x, y, z.
_INDEX_TO_WORLD = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)


def cases(count: int) -> list[Case]:
    return [Case(name=str(n), payload=n) for n in range(count)]


def values(outcomes: Iterator[Any]) -> dict[str, Any]:
    return {o.name: o.value for o in outcomes}


@contextmanager
def line_to(workers: int) -> Iterator[Line]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = LocalFarm(folder, workers)
        began = time.perf_counter()
        made.start()
        made.wait()
        print(f"# a farm of {workers} is ready after {time.perf_counter() - began:.1f} s")
        line = Line(made.place)
        try:
            yield line
        finally:
            line.close()
            made.close()


def agree(ours: Any, peers: Any) -> tuple[bool, str]:
    same = [name for name, result in peers.items() if result == ours]
    return len(same) == len(peers), f"{len(ours)} cases, the same bits as {', '.join(same)}"


def main() -> None:
    # By its name as a module: a worker cannot import a script that somebody started.
    here = Path(__file__).resolve()
    os.environ["PYTHONPATH"] = str(here.parent)
    me = import_module(here.stem)
    with line_to(2) as two, line_to(1) as one:
        for line in (two, one):
            line.wait_for_workers(60)
        way = harness.Problem(
            name="farm-200",
            ours=lambda: values(two.run(me.nothing, cases(EMPTY))),
            peers={
                "this process": lambda: values(run_all(me.nothing, cases(EMPTY), workers=0)),
                "one by one": lambda: {str(n): two.one(me.nothing, n).value for n in range(EMPTY)},
            },
            target_s=MOST_S_A_CASE * EMPTY,
            check=agree,
        )
        heavy = harness.Problem(
            name="farm-2",
            ours=lambda: values(two.run(me.radiographs, cases(HEAVY))),
            peers={
                "one worker": lambda: values(one.run(me.radiographs, cases(HEAVY))),
                "this process": lambda: values(run_all(me.radiographs, cases(HEAVY), workers=0)),
            },
            target_ratio={"one worker": 1.8},
            check=agree,
        )
        for outcome in harness.main([way, heavy]):
            if outcome.problem is way:
                for name, timing in outcome.timings.items():
                    print(f"               {name}: {1000 * timing.best_s / EMPTY:.1f} ms a case")


if __name__ == "__main__":
    main()
