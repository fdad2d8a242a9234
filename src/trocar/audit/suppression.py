"""Which counts stay unprinted, so that no small one can be worked out from the others.

Counts below a threshold are hidden first (zero is printed: it names nobody). Then, as long as a
hidden count has only one value that fits everything printed, the smallest printed count beside it
is hidden too. Whether a count can be worked out is decided by integer programming, not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from trocar.errors import InputError


@dataclass(frozen=True)
class Sum:
    """How printed counts hang together: the parts add up to the total.

    With ``overlapping`` parts (one lesion may leak into several compartments) each part is at most
    the total and together they are at least the total.
    """

    total: str
    parts: tuple[str, ...]
    overlapping: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Total and parts."""
        return (self.total, *self.parts)


def hidden_counts(
    counts: Mapping[str, int],
    sums: Sequence[Sum],
    *,
    below: int,
    public: frozenset[str] = frozenset(),
) -> frozenset[str]:
    """Which counts must not be printed?

    ``counts`` holds every count by its key; ``sums`` what a reader knows of them. Hidden are the
    counts from 1 to ``below`` - 1 and as many more as are needed that every hidden count has at
    least two values that fit all that is printed, for a reader who knows that hidden counts are
    at least 1. ``public`` counts, such as the size of the study, are hidden only when they are
    small themselves or nothing else helps. Raises InputError when ``below`` is less than 2, or a
    sum names a count that is not there or does not hold.
    """
    if below < 2:
        raise InputError(
            f"counts below {below} were to be hidden; expected a threshold of 2 or more"
        )
    _check(counts, sums)
    small = {k for k, v in counts.items() if 0 < v < below}
    hidden = set(small)
    ties: dict[str, list[Sum]] = {}
    for s in sums:
        for key in s.keys:
            ties.setdefault(key, []).append(s)
    told: dict[frozenset[str], set[str]] = {}
    while True:
        known = _solvable(counts, sums, frozenset(hidden), told)
        if not known & small:
            # What was hidden beside them and can still be worked out tells nothing new: printed.
            return frozenset(hidden - known)
        others = {
            _nearest_printed(counts, ties, hidden | public, k)
            or _nearest_printed(counts, ties, hidden, k)
            for k in sorted(known & small)
        }
        hidden |= {k for k in others if k is not None}


def solvable(
    counts: Mapping[str, int], sums: Sequence[Sum], hidden: frozenset[str]
) -> frozenset[str]:
    """Which hidden counts have a single value that fits everything printed?"""
    return _solvable(counts, sums, hidden, {})


def _solvable(
    counts: Mapping[str, int],
    sums: Sequence[Sum],
    hidden: frozenset[str],
    told: dict[frozenset[str], set[str]],  # what was found of groups looked at before
) -> frozenset[str]:
    out: set[str] = set()
    for group, inside in _components(sums, hidden):
        name = frozenset(group)
        if name not in told:
            told[name] = _pinned(counts, inside, group)
        out |= told[name]
    return frozenset(out)


def _check(counts: Mapping[str, int], sums: Sequence[Sum]) -> None:
    for s in sums:
        missing = [k for k in s.keys if k not in counts]
        if missing:
            raise InputError(f"a sum names the count {missing[0]!r}, which is not there")
        parts = [counts[p] for p in s.parts]
        fits = (
            max(parts, default=0) <= counts[s.total] <= sum(parts)
            if s.overlapping
            else sum(parts) == counts[s.total]
        )
        if not fits:
            raise InputError(
                f"{s.total} is {counts[s.total]}, its parts {', '.join(s.parts)} are "
                f"{', '.join(map(str, parts))}; expected parts that make the total"
            )


def _nearest_printed(
    counts: Mapping[str, int], ties: Mapping[str, list[Sum]], hidden: Set[str], key: str
) -> str | None:
    """The smallest printed count (but 0) in the sums around a key, else around those, and so on.

    ``hidden`` are passed through. Without any there is no fixed number left among sums that hang
    together: they could all be twice as large, so that nothing in them can be worked out.
    """
    seen, edge = {key}, {key}
    while edge:
        around = {k for e in edge for s in ties.get(e, ()) for k in s.keys} - seen
        printed = [k for k in around if k not in hidden and counts[k] > 0]
        if printed:
            return min(printed, key=lambda k: (counts[k], k))
        edge = around & hidden
        seen |= around
    return None


def _components(sums: Sequence[Sum], hidden: frozenset[str]) -> list[tuple[list[str], list[Sum]]]:
    """Hidden counts that hang together, with the sums that tie them."""
    root = {k: k for k in hidden}

    def find(k: str) -> str:
        while root[k] != k:
            root[k] = root[root[k]]
            k = root[k]
        return k

    tied = [(s, [k for k in s.keys if k in root]) for s in sums]
    for _, keys in tied:
        for k in keys[1:]:
            root[find(k)] = find(keys[0])
    groups: dict[str, tuple[list[str], list[Sum]]] = {}
    for k in sorted(hidden):
        groups.setdefault(find(k), ([], []))[0].append(k)
    for s, keys in tied:
        if keys:
            groups[find(keys[0])][1].append(s)
    return list(groups.values())


def _pinned(counts: Mapping[str, int], sums: Sequence[Sum], keys: list[str]) -> set[str]:
    """The keys with one feasible value; every solution found acquits all keys it moves."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    if not sums:
        return set()
    column = {k: i for i, k in enumerate(keys)}
    rows, low, high = _constraints(counts, sums, column)
    truth = np.array([counts[k] for k in keys], dtype=float)
    most = 2.0 * float(truth.max()) + len(keys)
    bounds = Bounds(np.ones(len(keys)), np.full(len(keys), most))
    system = LinearConstraint(np.array(rows), np.array(low), np.array(high))
    suspects = set(range(len(keys)))

    def acquit(aim: np.ndarray[Any, Any]) -> None:
        found = milp(aim, constraints=system, bounds=bounds, integrality=np.ones(len(keys)))
        if found.x is not None:
            moved = np.flatnonzero(np.abs(np.round(found.x) - truth) > 0)
            suspects.difference_update(int(j) for j in moved)

    # Pushing many at once in all directions acquits most; the rest is tried one by one.
    directions = np.random.default_rng(0)
    before = len(keys) + 1
    while suspects and len(suspects) < before:
        before = len(suspects)
        aim = np.zeros(len(keys))
        aim[sorted(suspects)] = directions.choice((-1.0, 1.0), len(suspects))
        acquit(aim)
        acquit(-aim)
    for i in sorted(suspects):
        for sign in (1.0, -1.0):
            if i in suspects:
                acquit(sign * np.eye(1, len(keys), i)[0])
    return {keys[i] for i in suspects}


def _constraints(
    counts: Mapping[str, int], sums: Sequence[Sum], column: Mapping[str, int]
) -> tuple[list[list[float]], list[float], list[float]]:
    rows: list[list[float]] = []
    low: list[float] = []
    high: list[float] = []

    def add(terms: Sequence[tuple[str, float]], least: float, most: float) -> None:
        row = [0.0] * len(column)
        fixed = 0.0
        for key, factor in terms:
            if key in column:
                row[column[key]] += factor
            else:
                fixed += factor * counts[key]
        if any(row):
            rows.append(row)
            low.append(least - fixed)
            high.append(most - fixed)

    for s in sums:
        whole = [(s.total, -1.0), *((p, 1.0) for p in s.parts)]
        if s.overlapping:
            add(whole, 0.0, np.inf)
            for p in s.parts:
                add([(s.total, 1.0), (p, -1.0)], 0.0, np.inf)
        else:
            add(whole, 0.0, 0.0)
    return rows, low, high
