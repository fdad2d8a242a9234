"""A route made concrete in one patient: which skin points, which targets, or why none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trocar.facts import limits
from trocar.facts.source import load
from trocar.kernels import rays
from trocar.model.plan import Refusal
from trocar.model.space import Float, Grid, Mask
from trocar.planning import scene
from trocar.planning.problem import Problem
from trocar.planning.routes import Route
from trocar.planning.survey import Aim, depth_limit_mm
from trocar.planning.words import spoken

PAIRS = 1_000_000  # entry x target pairs looked at for one route, at most
_FEWEST_TARGETS = 8  # however many entries there are
_EDGE_MM = 3.0  # of the lattice around the reach of a route, so that its skin is not cut


def refuse_at_once(problem: Problem, route: Route) -> Refusal | None:
    """A refusal for what can be known before any path is looked at, or None."""
    anatomy = problem.anatomy
    for name in route.requires:
        if not any(name in known for known in (*anatomy.structures, *anatomy.regions)):
            return refusal(
                route,
                f"the {spoken(name)} was not identified on this CT, and this route must not be "
                "planned without it",
            )
    for names, what in (((route.corridor,), "corridor"), (route.contact, "place of entry")):
        wanted = [n for n in names if n]
        if wanted and not any(_known(problem, n) for n in wanted):
            said = " or ".join(map(spoken, wanted))
            return refusal(
                route, f"the {said}, {what} of this route, was not identified on this CT"
            )
    if problem.lesion.is_empty:
        return refusal(route, "no part of the lesion lies inside the outline of the bone")
    if target_region(problem, route) is None:
        return refusal(route, "the lesion does not lie where this route leads")
    return None


def refusal(route: Route, reason: str) -> Refusal:
    """A refusal that needed no look at any path."""
    return Refusal(route=route.name, reason=reason, candidates=0)


def _known(problem: Problem, region: str) -> bool:
    return region in problem.anatomy.regions and not problem.anatomy.regions[region].is_empty


def target_region(problem: Problem, route: Route) -> tuple[str, Mask] | None:
    """The first of the route's target regions that holds enough of the lesion, and that part."""
    least = max(1.0, float(load("routes")["target_share"]) * problem.lesion.voxels)
    for name in route.targets:
        if name and not _known(problem, name):
            continue
        values = problem.lesion.values
        if name:
            values = values & problem.anatomy.regions[name].values
        if route.tip == "own side":
            values = _own_side(problem, route, values)
        part = Mask(grid=problem.anatomy.grid, values=values)
        if part.voxels >= least:
            return name, part
    return None


def _own_side(problem: Problem, route: Route, values: NDArray[np.bool_]) -> NDArray[np.bool_]:
    index = np.argwhere(values)
    points = problem.anatomy.grid.to_world(index)
    kept = index[route.lateral_mm(problem.anatomy.axes, points) >= 0.0]
    out = np.zeros_like(values)
    out[tuple(kept.T)] = True
    return out


def aims(problem: Problem, routes: Sequence[Route]) -> list[Aim]:
    """Entries and targets of each route, on the lattice; a route may have no entry."""
    depth = depth_limit_mm(problem.stock)
    parts = [(r, found) for r in routes if (found := target_region(problem, r)) is not None]
    if not parts:
        return []
    reach = np.concatenate([_reach(problem, part, r, depth) for r, (_, part) in parts])
    grid = problem.lattice.crop(problem.lattice.around(reach, _EDGE_MM))
    skin_mm = grid.to_world(scene.skin(problem.anatomy.body.on(grid)))
    skin_mm = skin_mm[~_on_padding(problem, skin_mm)]
    return [_aim(problem, r, name, part, skin_mm, depth) for r, (name, part) in parts]


def _reach(problem: Problem, part: Mask, route: Route, depth_mm: float) -> Float:
    """Points whose box holds every needle of a route that ends in a region."""
    ends = np.array([[s.start, s.stop - 1] for s in part.box()])
    corners = part.grid.to_world(np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3))
    toward = route.direction(problem.anatomy.axes)
    spread = _directions(400)  # 400 on a sphere lie 10 degrees apart
    within = np.cos(np.radians(min(route.cone_deg + 10.0, 180.0)))
    ways = np.concatenate([toward[None], spread[spread @ toward >= within]])
    skin = (corners[:, None] + depth_mm * ways).reshape(-1, 3)
    return np.concatenate([corners, skin])


def _directions(n: int) -> Float:
    """About evenly spread unit vectors, along a spiral from pole to pole."""
    k = np.arange(n) + 0.5
    z, turn = 1 - 2 * k / n, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], axis=1)


def _on_padding(problem: Problem, skin_mm: Float) -> NDArray[np.bool_]:
    """Whether what borders on the skin is not air but padding beyond the field of view."""
    out = np.zeros(len(skin_mm), bool)
    if problem.ct is None or not len(skin_mm):
        return out
    limit = float(load("routes")["hu_padding"])
    for way in np.concatenate([np.eye(3), -np.eye(3)]):
        beside = problem.ct.sample(skin_mm + 2.0 * scene.STEP_MM * way, outside=0.0)
        out |= beside < limit
    return out


def _aim(
    problem: Problem, route: Route, region: str, part: Mask, skin_mm: Float, depth_mm: float
) -> Aim:
    """The skin within reach and within the cone (as seen from anywhere in the region)."""
    points = part.points_mm()
    middle = points.mean(axis=0)
    spread = float(np.linalg.norm(points - middle, axis=1).max())
    way = skin_mm - middle
    far = np.maximum(np.linalg.norm(way, axis=1), 1e-6)
    cosine = way @ route.direction(problem.anatomy.axes) / far
    # A target away from the middle turns the needle by at most this.
    lean = np.degrees(np.arcsin(np.minimum(spread / far, 1.0)))
    angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    entries = skin_mm[(far <= depth_mm + spread) & (angle <= route.cone_deg + lean)]
    entries = entries[rays.by_place(entries)]
    most = max(_FEWEST_TARGETS, PAIRS // max(1, len(entries)))
    return Aim(
        route=route,
        entries_mm=entries,
        targets_mm=_targets(problem.lattice, part, middle, most),
        middle_mm=middle,
        region=region,
    )


def _targets(lattice: Grid, part: Mask, middle_mm: Float, most: int) -> Float:
    """At most ``most`` points of a region, on the finest lattice through its middle that fits.

    The middle is a lattice point, so a mirrored region gets the mirrored points.
    """
    points = part.points_mm()
    reach = float(np.linalg.norm(points - middle_mm, axis=1).max())
    step = max(scene.STEP_MM, (part.volume_ml * 1000.0 / most) ** (1 / 3))
    while True:
        line = np.arange(-np.ceil(reach / step), np.ceil(reach / step) + 1) * step
        cube = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
        taken = middle_mm + cube @ lattice.axes.T
        taken = taken[part.holds(taken)]
        if not len(taken):  # thinner than the lattice: take the voxels themselves
            return points[:: -(-len(points) // most)]
        if len(taken) <= most:
            return taken
        step *= 1.05


def no_skin(aim: Aim) -> Refusal:
    """The refusal of a route that has no skin to enter by."""
    limit = float(limits.value("depth_limit"))
    return refusal(
        aim.route,
        f"the skin on that side is outside the image, or more than {limit:.0f} mm away",
    )
