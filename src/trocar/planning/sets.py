"""Several needles together: which proposals keep their tips spaced and their shafts apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from trocar.errors import InputError
from trocar.facts import limits
from trocar.facts.source import load
from trocar.kernels import rays
from trocar.model.case import Gravity
from trocar.model.plan import NeedleSet, Trajectory


def needle_sets(
    options: Sequence[Trajectory], count: int = 2, *, most: int = 3
) -> tuple[NeedleSet, ...]:
    """Which ``count`` of the options go together? Best first by the sum of costs, at most ``most``.

    No two tips are nearer than the smallest spacing and each has another within the largest. All
    needles of a set need the patient in one position, and none may be a stop.
    """
    if count < 2:
        raise InputError(f"a set of {count} needles; ask for at least 2")
    usable = [i for i, o in enumerate(options) if o.verdict is not Gravity.STOP]
    found = []
    for members in combinations(usable, count):
        one = _set([options[i] for i in members], members)
        if one is not None:
            found.append((sum(options[i].cost for i in members), members, one))
    return tuple(one for _, _, one in sorted(found, key=lambda f: f[:2])[:most])


def _set(needles: Sequence[Trajectory], members: tuple[int, ...]) -> NeedleSet | None:
    spacing = limits.value("needle_spacing")
    tips = np.stack([n.target_mm for n in needles])
    apart = np.linalg.norm(tips[:, None] - tips[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    shafts = min(between_shafts_mm(a, b) for a, b in combinations(needles, 2))
    if (
        len({n.position for n in needles}) > 1
        or apart.min() < (spacing.low or spacing.mean)
        or apart.min(axis=1).max() > (spacing.high or spacing.mean)
        or shafts < float(load("routes")["shaft_clearance"])
    ):
        return None
    return NeedleSet(
        members=members,
        tip_spacing_mm=float(apart.min()),
        shaft_spacing_mm=shafts,
        name=_name(needles),
    )


def between_shafts_mm(a: Trajectory, b: Trajectory) -> float:
    """Smallest distance between the surfaces of two needles in mm; negative when they collide."""
    axes = rays.segment_to_segment(a.entry_mm, a.target_mm, b.entry_mm, b.target_mm)
    return axes - a.needle.radius_mm - b.needle.radius_mm


def _name(needles: Sequence[Trajectory]) -> str:
    kinds = {n.route.rsplit(" ", 1)[0] for n in needles}
    sides = {n.route.rsplit(" ", 1)[-1] for n in needles}
    if kinds <= {"transpedicular", "bipedicular"} and sides == {"left", "right"}:
        return "bipedicular"
    return " + ".join(n.route for n in needles)
