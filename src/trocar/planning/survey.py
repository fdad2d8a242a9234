"""Look at every needle of one route: which are allowed, what stopped the others, what each costs.

The cost is a sum of terms, each worth its weight in ``facts/routes.toml``: way outside the bone,
angle to the cortex beyond the preferred one, tightest margin, depth, cranio-caudal tilt, distance
of the tip from the middle of its region, clearance in the corridor, and the route's own detour.
Smaller is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trocar.facts import limits
from trocar.facts.products import Needle
from trocar.facts.source import load
from trocar.kernels import rays
from trocar.model.result import Anatomy
from trocar.model.space import Float
from trocar.planning.routes import Route
from trocar.planning.scene import Scene

# What stops a candidate, beside the name of the structure it comes too close to.
TOO_DEEP = "needle too short or depth limit"
OFF_CONE = "direction not of this route"
OVER_TILT = "tilt beyond the limit"
MISSES_BONE = "does not meet the bone"
OBLIQUE = "meets the bone too obliquely"
LEAVES_BONE = "leaves the bone again"
WRONG_PLACE = "meets the bone elsewhere"
MISSES_CORRIDOR = "misses the corridor"
NARROW = "corridor too narrow"
FAR_WALL = "ends too near the far wall"
OTHER_BONE = "too far through another bone"
NOT_THROUGH = "not through the other bone"

_EARLY = {rays.TOO_DEEP: TOO_DEEP, rays.OFF_CONE: OFF_CONE, rays.OVER_TILT: OVER_TILT}


@dataclass(frozen=True, eq=False, kw_only=True)
class Aim:
    """A route made concrete in one patient: skin entries, targets and the middle of the region."""

    route: Route
    entries_mm: Float
    targets_mm: Float
    middle_mm: Float
    region: str

    @property
    def candidates(self) -> int:
        """How many needles there are to look at."""
        return len(self.entries_mm) * len(self.targets_mm)


@dataclass(frozen=True, eq=False, kw_only=True)
class Survey:
    """Every allowed needle of a route, and how many were stopped by what.

    ``pairs`` (n, 2) are indices of entry and target, ``measured`` the rows of
    ``kernels.rays.measure``, ``needle`` the index of the thickest needle that fits, ``cost`` its
    cost.
    """

    aim: Aim
    pairs: NDArray[np.int64]
    measured: NDArray[np.float32]
    needle: NDArray[np.int64]
    cost: Float
    stopped_by: Mapping[str, int]
    widest_clearance_mm: float  # best axis-to-cortex distance seen in the corridor, nan if none


def settle_mm(radius_mm: float) -> float:
    """How far past the first contact the corridor's clearance begins to count.

    A needle at angle a to the surface normal lies t cos(a) deep after t mm. Up to the angle limit
    the surface it came through is therefore farther than r + c once t >= (r + c) / cos(limit).
    """
    need = radius_mm + float(limits.value("pedicle_clearance_ok"))
    return need / float(np.cos(np.radians(float(limits.value("cortex_angle_limit")))))


def survey(scene: Scene, anatomy: Anatomy, aim: Aim, stock: Sequence[Needle]) -> Survey:
    """Look at every entry x target needle of ``aim``; ``stock`` is any set of needles."""
    route, thin = aim.route, min(n.radius_mm for n in stock)
    status, blame = scene.screen(
        aim.entries_mm,
        aim.targets_mm,
        radius_mm=thin,
        depth_mm=depth_limit_mm(stock),
        toward=route.direction(anatomy.axes),
        cone_deg=route.cone_deg,
        tilt_deg=float(limits.value("tilt_limit")) if route.tilt_limited else 90.0,
    )
    stopped = _count_early(status, blame, scene.names)
    pairs = np.argwhere(status == rays.CLEAR)
    measured = scene.measure(
        pairs,
        aim.entries_mm,
        aim.targets_mm,
        corridor=route.corridor,
        settle_mm=settle_mm(thin),
        ahead_mm=2 * float(limits.value("margin_anterior_wall")),
    )
    verdict = _verdict(scene, anatomy, aim, pairs, measured, thin, stopped)
    clearance = measured[:, rays.CORRIDOR_CLEARANCE]
    seen = clearance[np.isfinite(clearance)]
    pairs, measured = pairs[verdict], measured[verdict]
    needle = thickest(measured, route, stock)
    return Survey(
        aim=aim,
        pairs=pairs,
        measured=measured,
        needle=needle,
        cost=sum(cost_parts(anatomy, aim, pairs, measured, _radii(stock)[needle]).values())
        + np.zeros(len(pairs)),
        stopped_by=dict(sorted(stopped.items(), key=lambda item: -item[1])),
        widest_clearance_mm=float(seen.max()) if seen.size else float("nan"),
    )


def depth_limit_mm(stock: Sequence[Needle]) -> float:
    """The longest way from skin to tip: the limit or what the longest needle reaches."""
    return min(float(limits.value("depth_limit")), max(reach_mm(n) for n in stock))


def reach_mm(needle: Needle) -> float:
    """How deep a needle reaches when enough of it stays outside the skin to be held."""
    return needle.length_mm - float(limits.value("hub_reserve"))


def _count_early(
    status: NDArray[np.uint8], blame: NDArray[np.uint8], names: Sequence[str]
) -> dict[str, int]:
    counts = np.bincount(status.ravel(), minlength=rays.TOO_CLOSE + 1)
    out = {word: int(counts[code]) for code, word in _EARLY.items() if counts[code]}
    for code, n in enumerate(np.bincount(blame[status == rays.TOO_CLOSE], minlength=1)):
        if n:
            out[names[code]] = int(n)
    return out


def _verdict(
    scene: Scene,
    anatomy: Anatomy,
    aim: Aim,
    pairs: NDArray[np.int64],
    measured: NDArray[np.float32],
    thin_mm: float,
    stopped: dict[str, int],
) -> NDArray[np.bool_]:
    """Which of the measured needles are allowed; adds what stopped the others to ``stopped``."""
    allowed = np.ones(len(pairs), bool)

    def stop(name: str, bad: NDArray[np.bool_]) -> None:
        hit = allowed & bad
        if hit.any():
            stopped[name] = stopped.get(name, 0) + int(np.count_nonzero(hit))
            allowed[hit] = False

    tight = measured[:, rays.SLACK] < thin_mm
    for name, bad in _tightest(scene, aim, pairs, measured, tight).items():
        stop(name, bad)
    for name, bad in rules(anatomy, aim, pairs, measured, thin_mm).items():
        stop(name, bad)
    if aim.route.crosses and allowed.any():
        through = np.zeros(len(pairs), np.float32)
        through[allowed] = scene.through_other_bone_mm(
            pairs[allowed], aim.entries_mm, aim.targets_mm
        )
        for name, bad in through_rules(aim.route, through).items():
            stop(name, bad)
    return allowed


def _tightest(
    scene: Scene,
    aim: Aim,
    pairs: NDArray[np.int64],
    measured: NDArray[np.float32],
    tight: NDArray[np.bool_],
) -> dict[str, NDArray[np.bool_]]:
    """Needles found too close by the full measurement, by the structure that is nearest there."""
    tips = aim.targets_mm[pairs[tight, 1]]
    ways = aim.entries_mm[pairs[tight, 0]] - tips
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    spot = scene.grid.to_index(tips + measured[tight, rays.SLACK_AT, None] * ways)
    k = np.clip(np.rint(spot).astype(int), 0, np.asarray(scene.grid.shape) - 1)
    code = np.full(len(pairs), -1)
    code[tight] = scene.offender[k[:, 0], k[:, 1], k[:, 2]]
    return {scene.names[c]: code == c for c in np.unique(code[tight])}


def rules(
    anatomy: Anatomy,
    aim: Aim,
    pairs: NDArray[np.int64],
    measured: NDArray[np.float32],
    radius_mm: float,
) -> dict[str, NDArray[np.bool_]]:
    """The rules of a route that are not distances to structures: name -> which needles break it."""
    route, table = aim.route, load("routes")
    entries, tips = aim.entries_mm[pairs[:, 0]], aim.targets_mm[pairs[:, 1]]
    depth = np.linalg.norm(tips - entries, axis=1)
    contact = np.nan_to_num(measured[:, rays.CONTACT], nan=0.0)
    gap = depth - contact - measured[:, rays.BONE]
    steep = np.cos(np.radians(float(limits.value("cortex_angle_limit"))))
    out = {
        MISSES_BONE: ~(measured[:, rays.BONE] > 0.0),
        LEAVES_BONE: gap > float(table["bone_gap_limit"]),
        OBLIQUE: ~(measured[:, rays.COSINE] >= steep),
        FAR_WALL: measured[:, rays.AHEAD] < float(limits.value("margin_anterior_wall")),
    }
    if route.contact:
        inside = contact + float(table["contact_reach"])
        met = entries + (inside / depth)[:, None] * (tips - entries)
        # Where none of them was identified, no needle is known to enter there.
        right = np.zeros(len(pairs), bool)
        for name in route.contact:
            if name in anatomy.regions:
                right |= anatomy.regions[name].holds(met)
        out[WRONG_PLACE] = ~right
    if route.corridor:
        need = radius_mm + float(limits.value("margin_pedicle_cortex"))
        clearance = measured[:, rays.CORRIDOR_CLEARANCE]
        # Infinite: it only cuts a corner of the corridor where it enters the bone.
        out[MISSES_CORRIDOR] = ~np.isfinite(clearance) | (
            measured[:, rays.CORRIDOR] < float(table["corridor_least"])
        )
        out[NARROW] = clearance < need
    return out


def through_rules(route: Route, through_mm: NDArray[np.float32]) -> dict[str, NDArray[np.bool_]]:
    """The rules on the way through a bone that is not treated: name -> which needles break it."""
    return {
        OTHER_BONE: through_mm > float(load("routes")["other_bone_limit"]),
        NOT_THROUGH: through_mm < route.through_mm,
    }


def _radii(stock: Sequence[Needle]) -> Float:
    return np.array([n.radius_mm for n in stock])


def thickest(
    measured: NDArray[np.float32], route: Route, stock: Sequence[Needle]
) -> NDArray[np.int64]:
    """Index into ``stock`` of the thickest needle that fits each path, or of the thinnest of all.

    ``measured`` are rows taken for the thinnest needle of the stock.
    """
    room = measured[:, rays.SLACK].astype(float)
    if route.corridor:
        clear = measured[:, rays.CORRIDOR_CLEARANCE] - float(limits.value("margin_pedicle_cortex"))
        room = np.minimum(room, clear)
    radii = _radii(stock)
    order = np.argsort(radii, kind="stable")
    fits = np.maximum(np.searchsorted(radii[order], room, side="right") - 1, 0)
    out: NDArray[np.int64] = order[fits]
    return out


def cost_parts(
    anatomy: Anatomy,
    aim: Aim,
    pairs: NDArray[np.int64],
    measured: NDArray[np.float32],
    radius_mm: Float,
) -> dict[str, Float]:
    """The terms of the cost of each needle, already weighted; their sum ranks the needles."""
    weight, limit = load("routes"), limits.value
    entries, tips = aim.entries_mm[pairs[:, 0]], aim.targets_mm[pairs[:, 1]]
    way = entries - tips
    depth = np.linalg.norm(way, axis=1)
    preferred = float(limit("cortex_angle_preferred"))
    angle = np.degrees(np.arccos(np.clip(np.nan_to_num(measured[:, rays.COSINE]), -1, 1)))
    tilt = np.degrees(np.arcsin(np.clip(np.abs(way[:, 2]) / depth, 0, 1)))
    spare = (measured[:, rays.SLACK] - radius_mm) / float(weight["margin_comfort"])
    terms = {
        "outside": (depth - measured[:, rays.BONE]) / 100.0,
        "angle": np.maximum(angle - preferred, 0.0)
        / (float(limit("cortex_angle_limit")) - preferred),
        "margin": np.clip(1.0 - spare, 0.0, 1.0),
        "depth": depth / 100.0,
        "tilt": tilt / float(limit("tilt_limit")),
        "detour": np.full(len(pairs), aim.route.detour),
        "target": np.linalg.norm(tips - aim.middle_mm, axis=1) / 10.0,
    }
    if aim.route.corridor:
        least, ok = float(limit("margin_pedicle_cortex")), float(limit("pedicle_clearance_ok"))
        spare = measured[:, rays.CORRIDOR_CLEARANCE] - radius_mm
        terms["corridor"] = np.clip((ok - spare) / (ok - least), 0.0, 1.0)
    return {name: float(weight[f"cost_{name}"]) * term for name, term in terms.items()}
