"""Needles beside a needle: the same way shifted sideways, kept where every limit still holds.

Several applicators lie side by side; the search for one needle proposes ways that all end in the
lesion's middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trocar.model.case import Gravity, Lesion
from trocar.model.plan import Trajectory
from trocar.model.result import Anatomy
from trocar.model.space import Float, Segment
from trocar.planning.needle import measured, unknown
from trocar.planning.problem import Problem, Views
from trocar.planning.routes import Route, routes_for
from trocar.planning.survey import Aim

SHIFTS_MM = (8.0, 14.0)
_WAYS = 8  # directions to each side
_SKIN_MM, _SKIN_STEP_MM = 25.0, 0.5  # how far along the needle its new skin point is looked for


def beside(
    anatomy: Anatomy,
    lesion: Lesion,
    like: Trajectory,
    *,
    shifts_mm: Sequence[float] = SHIFTS_MM,
    deeper_mm: Sequence[float] = (0.0, 8.0),
    route: Route | None = None,
) -> tuple[Trajectory, ...]:
    """Which needles parallel to this one, shifted by so much to any side, respect every limit?

    ``deeper_mm`` also carries the tip on by so much. Each is measured as the plan's own needles
    are; those that pass a structure's limit are left out. How they meet the bone is not asked: an
    applicator may lie in the soft part of a lesion. The skin point is found anew. Empty when the
    route of ``like`` is not one of the site's and none is given.
    """
    route = route or next((r for r in routes_for(anatomy.site) if r.name == like.route), None)
    if route is None:
        return ()
    u = like.path.direction
    first = np.cross(u, [0.0, 0.0, 1.0] if abs(u[2]) < 0.9 else [1.0, 0.0, 0.0])
    first /= np.linalg.norm(first)
    second = np.cross(u, first)
    paths = []
    for deeper in deeper_mm:
        for shift in (0.0, *shifts_mm):
            for k in range(_WAYS if shift else 1):
                turn = 2 * np.pi * (k + 0.5 * (shift == shifts_mm[-1])) / _WAYS
                away = shift * (np.cos(turn) * first + np.sin(turn) * second)
                if shift == 0.0 and deeper == 0.0:
                    continue  # the needle itself
                tip = like.target_mm + away + deeper * u
                entry = _skin(anatomy, like.entry_mm + away, u)
                if entry is not None:
                    paths.append(Segment(start_mm=entry, end_mm=tip))
    paths = [
        p for p in paths if bool(np.all(anatomy.grid.contains(np.stack([p.start_mm, p.end_mm]))))
    ]
    if not paths:
        return ()
    problem = Problem.of(anatomy, lesion, (like.needle,))
    if any(f.gravity is Gravity.STOP for f in unknown(problem, route)):
        return ()
    view = Views(problem=problem, routes=(route,)).of(route)
    out = []
    for path in paths:
        aim = Aim(
            route=route,
            entries_mm=path.start_mm[None],
            targets_mm=path.end_mm[None],
            middle_mm=problem.lesion.centroid_mm if not problem.lesion.is_empty else path.end_mm,
            region="lesion",
        )
        one = measured(problem, view, aim, path, like.needle)
        if not any(m.verdict == "stop" and m.structure in anatomy.structures for m in one.margins):
            out.append(one)
    return tuple(out)


def _skin(anatomy: Anatomy, near_mm: Float, direction: Float) -> Float | None:
    """Where a line that runs past this point enters the body; None when it does not near here."""
    along = np.arange(-_SKIN_MM, _SKIN_MM + 1e-9, _SKIN_STEP_MM)
    points = near_mm + along[:, None] * direction
    inside = anatomy.body.holds(points)
    if not inside.any() or inside[0]:
        return None
    out: Float = points[int(np.argmax(inside))]
    return out
