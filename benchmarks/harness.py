"""Times our kernels beside named peers: interleaved, same threads, ratios instead of seconds.

A benchmark is a script beside this one that builds :class:`Problem` objects and calls
:func:`main`. One run does, in one process and for one number of threads: a warm-up of every
contender (compilation is not timed), the accuracy gate on the results, then ``--repeats`` rounds
in which ours and each peer take turns. Printed: the machine as it was in that minute (load,
threads, threading layer, triad bandwidth, versions), best and median time of each contender with
its CPU seconds, the ratio peer / ours of the best times against its target, and how much of the
machine's memory bandwidth we reached where a floor of bytes moved is known.

    python benchmarks/sdf_ct.py --repeats 3 --threads 2 --json results.jsonl
"""

from __future__ import annotations

import os

# Before Numba starts its threads: a spinning OpenMP team collapses beside a busy neighbour.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from statistics import median
from typing import Any

import numba
import numpy as np

# check(ours, {peer: its result}) -> (whether the results agree, one line that says how well)
Check = Callable[[Any, Mapping[str, Any]], tuple[bool, str]]

PACKAGES = ("numpy", "scipy", "numba", "SimpleITK", "itk", "itk-rtk", "pydicom", "trimesh",
            "embreex", "trocar")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One piece of work of fixed size: how we do it, how the peers do it, and what must hold.

    ``target_ratio`` maps a peer's name to the least ratio peer time / our time; ``target_s`` is the
    most seconds ours may take; ``bytes_moved`` the least memory traffic of the work (reads, writes
    and the read that a write costs), from which the share of the machine's limit is worked out.
    ``check`` is the accuracy gate: a speed without it means nothing.
    """

    name: str
    ours: Callable[[], Any]
    check: Check
    peers: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    target_ratio: Mapping[str, float] = field(default_factory=dict)
    target_s: float | None = None
    bytes_moved: float | None = None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Wall and CPU seconds of the rounds of one contender."""

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]

    @property
    def best_s(self) -> float:
        return min(self.wall_s)

    @property
    def median_s(self) -> float:
        return median(self.wall_s)

    @property
    def cpu_of_best_s(self) -> float:
        return self.cpu_s[self.wall_s.index(self.best_s)]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one problem gave: times by contender, the gate, and whether every target was met."""

    problem: Problem
    timings: Mapping[str, Timing]
    gate_ok: bool
    gate_text: str

    def ratio(self, peer: str) -> float:
        return self.timings[peer].best_s / self.timings["ours"].best_s

    @property
    def met(self) -> bool:
        fast = all(self.ratio(peer) >= r for peer, r in self.problem.target_ratio.items())
        limit = self.problem.target_s
        return self.gate_ok and fast and (limit is None or self.timings["ours"].best_s <= limit)


@numba.njit(parallel=True)
def _triad(a: Any, b: Any, c: Any) -> None:
    for i in numba.prange(a.size):
        a[i] = b[i] + 3.0 * c[i]


def triad_gbs(megabytes: int = 128, rounds: int = 5) -> float:
    """Memory bandwidth of a = b + s c in GB/s, with the read a write costs counted (4 streams)."""
    n = megabytes * 1_000_000 // 8
    a, b, c = np.zeros(n), np.ones(n), np.ones(n)
    _triad(a, b, c)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        _triad(a, b, c)
        seconds.append(time.perf_counter() - start)
    return 4 * 8 * n / min(seconds) / 1e9


def pin_threads(threads: int) -> None:
    """The same number of threads for Numba and for whichever ITK is there."""
    numba.set_num_threads(threads)
    try:
        import SimpleITK as sitk  # noqa: N813

        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    except ImportError:
        pass
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    if "itk" in sys.modules:
        sys.modules["itk"].MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)


def versions() -> dict[str, str]:
    """Versions of the packages that take part, where installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """What the processor calls itself, with the number of cores."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next((x.split(":", 1)[1].strip() for x in lines if "model name" in x), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


def machine(threads: int) -> dict[str, Any]:
    """The machine as it is in this minute."""
    bandwidth = triad_gbs()  # first, for it starts the threads and so settles the layer
    load = os.getloadavg() if hasattr(os, "getloadavg") else (float("nan"),) * 3
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "load": [round(x, 2) for x in load],
        "threads": threads,
        "layer": numba.threading_layer(),
        "triad_gbs": round(bandwidth, 1),
        "versions": versions(),
    }


def _cpu_s() -> float:
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    cpu, start = _cpu_s(), time.perf_counter()
    result = work()
    return time.perf_counter() - start, _cpu_s() - cpu, result


def run(problem: Problem, repeats: int = 3) -> Outcome:
    """Warm up, check, then time every contender in turn."""
    contenders = {"ours": problem.ours, **problem.peers}
    results = {name: work() for name, work in contenders.items()}
    ours = results.pop("ours")
    ok, text = problem.check(ours, results)
    del ours, results
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(max(1, repeats)):
        for name, work in contenders.items():
            rounds[name].append(_timed(work)[:2])
    timings = {
        name: Timing(wall_s=tuple(w for w, _ in r), cpu_s=tuple(c for _, c in r))
        for name, r in rounds.items()
    }
    return Outcome(problem=problem, timings=timings, gate_ok=bool(ok), gate_text=text)


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def report(outcome: Outcome, triad: float) -> str:
    """The lines that are printed for one problem."""
    problem, ours = outcome.problem, outcome.timings["ours"]
    first = f"{problem.name:<14} ours {_line(ours)}"
    if problem.target_s is not None:
        met = _verdict(ours.best_s <= problem.target_s)
        first += f" | target <= {problem.target_s:g} s {met}"
    if problem.bytes_moved is not None:
        gbs = problem.bytes_moved / ours.best_s / 1e9
        first += f" | {gbs:.1f} GB/s = {gbs / triad:.0%} of triad"
    lines = [first]
    for peer in problem.peers:
        line = f"{'':<14} {peer} {_line(outcome.timings[peer])} | ratio {outcome.ratio(peer):.2f}x"
        if peer in problem.target_ratio:
            target = problem.target_ratio[peer]
            line += f", target >= {target:g}x {_verdict(outcome.ratio(peer) >= target)}"
        lines.append(line)
    lines.append(f"{'':<14} gate {'passed' if outcome.gate_ok else 'FAILED'}: {outcome.gate_text}")
    return "\n".join(lines)


def _line(t: Timing) -> str:
    return f"best {t.best_s:.3f} s, median {t.median_s:.3f} s, CPU {t.cpu_of_best_s:.2f} s"


def record(outcome: Outcome, state: Mapping[str, Any]) -> dict[str, Any]:
    """One problem's outcome as plain data, for a line of JSON."""
    return {
        "problem": outcome.problem.name,
        "met": outcome.met,
        "gate": {"ok": outcome.gate_ok, "text": outcome.gate_text},
        "seconds": {k: [round(w, 5) for w in t.wall_s] for k, t in outcome.timings.items()},
        "cpu_seconds": {k: [round(c, 3) for c in t.cpu_s] for k, t in outcome.timings.items()},
        "ratio": {p: round(outcome.ratio(p), 3) for p in outcome.problem.peers},
        "target_ratio": dict(outcome.problem.target_ratio),
        "target_s": outcome.problem.target_s,
        "machine": dict(state),
    }


def main(
    problems: Iterable[Problem | Callable[[], Problem]], argv: list[str] | None = None
) -> list[Outcome]:
    """Run the problems as the command line says; exit code 1 when an accuracy gate fails.

    With ``--strict`` a missed target gives exit code 1, too. A problem may be given as a function
    that builds it, so that only one lies in memory at a time.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="rounds that are timed (3)")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", metavar="FILE", help="append one line of JSON per problem")
    parser.add_argument("--strict", action="store_true", help="a missed target is an error, too")
    options = parser.parse_args(argv)
    pin_threads(options.threads)
    outcomes = []
    for entry in problems:
        problem = entry if isinstance(entry, Problem) else entry()
        pin_threads(options.threads)  # again: building it may have loaded another library
        state = machine(options.threads)
        print(_header(state), flush=True)
        outcome = run(problem, options.repeats)
        print(report(outcome, state["triad_gbs"]), flush=True)
        outcomes.append(outcome)
        if options.json:
            with open(options.json, "a", encoding="utf-8") as file:
                file.write(json.dumps(record(outcome, state)) + "\n")
    if not all(o.gate_ok for o in outcomes) or (
        options.strict and not all(o.met for o in outcomes)
    ):
        sys.exit(1)
    return outcomes


def _header(state: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in state["versions"].items())
    return (
        f"# {state['when']} | {state['cpu']} | load {state['load']} | {state['threads']} threads, "
        f"layer {state['layer']} | triad {state['triad_gbs']} GB/s (4 streams)\n# {packages}"
    )
