"""Why this needle, and why none on that route: in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trocar.facts import limits
from trocar.facts.products import Needle
from trocar.model.plan import Refusal, Trajectory
from trocar.model.result import Anatomy
from trocar.planning import survey
from trocar.planning.routes import Route, guard
from trocar.planning.scene import OUTSIDE
from trocar.planning.survey import Survey

FAR_WALL = "far_wall"
CORTEX = "pedicle_cortex"
_SAID = 3  # obstacles named in a refusal; the rest stand in its counts


def spoken(name: str) -> str:
    """A structure's or region's name as it is said.

    >>> spoken("pedicle_left"), spoken("inferior_vena_cava"), spoken("rib_left_12")
    ('left pedicle', 'inferior vena cava', 'left rib 12')
    """
    parts = name.split("_")
    if name == "other_bone":
        return "another bone"
    side = [p for p in parts if p in ("left", "right")]
    plain = ["vein" if p == "vena" and "iliac" in parts else p for p in parts if p not in side]
    return " ".join(side + plain)


def reason(one: Trajectory, route: Route, size: str = "") -> str:
    """Why this needle is good, and where it is tight; ``size`` is why it is as thick as it is."""
    said = []
    if route.corridor and one.corridor_clearance_mm is not None:
        said.append(
            f"runs through the {spoken(route.corridor)} with {one.corridor_clearance_mm:.1f} mm "
            "of bone to spare around it"
        )
    outside = one.depth_mm - one.bone_length_mm
    said.append(f"{outside:.0f} mm outside the bone, {one.bone_length_mm:.0f} mm in it")
    said.append(f"meets the cortex {one.cortex_angle_deg:.0f}° from its normal")
    near = next((m for m in one.margins if m.structure not in (FAR_WALL, CORTEX)), None)
    if near is not None and np.isfinite(near.distance_mm):
        said.append(
            f"nearest structure at risk {near.distance_mm:.1f} mm, the {spoken(near.structure)} "
            f"(limit {near.required_mm:g} mm)"
        )
    if size:
        said.append(f"{one.needle.gauge} G is the {size}")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def explain(
    anatomy: Anatomy, stock: Sequence[Needle], seen: Survey, stopped: Mapping[str, int]
) -> Refusal:
    """The refusal of a route none of whose needles is left, with what stopped them."""
    ranked = dict(sorted(stopped.items(), key=lambda item: -item[1]))
    # A direction that is not the route's own is no obstacle, unless there is nothing else.
    obstacles = {k: v for k, v in ranked.items() if k != survey.OFF_CONE} or ranked
    sentence = _obstacles(anatomy, stock, seen.aim.route, obstacles)
    narrow = _narrow(anatomy, stock, seen)
    return Refusal(
        route=seen.aim.route.name,
        reason=f"{narrow}; {sentence}" if narrow else sentence,
        candidates=seen.aim.candidates,
        stopped_by=ranked,
    )


def _obstacles(
    anatomy: Anatomy, stock: Sequence[Needle], route: Route, obstacles: Mapping[str, int]
) -> str:
    total = sum(obstacles.values())
    if len(obstacles) == 1:
        return f"all {_count(total)} paths {_what(anatomy, stock, route, next(iter(obstacles)))}"
    named = [
        f"{_count(n)} {_what(anatomy, stock, route, name)}"
        for name, n in list(obstacles.items())[:_SAID]
    ]
    rest = total - sum(list(obstacles.values())[:_SAID])
    more = f", {_count(rest)} fail for other reasons" if rest else ""
    return f"of {_count(total)} paths {', '.join(named)}{more}"


def _count(n: int) -> str:
    """A count with thin groups of three.

    >>> _count(120000)
    '120 000'
    """
    return f"{n:,}".replace(",", " ")


def _what(anatomy: Anatomy, stock: Sequence[Needle], route: Route, name: str) -> str:
    """What an obstacle does to paths, as the end of a sentence."""
    if name in anatomy.structures:
        limit = guard(name).margin_mm
        if limit == 0.0:
            return f"run into {spoken(name)}"
        return f"pass closer than {limit:g} mm to the {spoken(name)}"
    wall, through = float(limits.value("margin_anterior_wall")), spoken(route.corridor)
    depth = survey.depth_limit_mm(stock)
    tilt, angle = float(limits.value("tilt_limit")), float(limits.value("cortex_angle_limit"))
    return {
        OUTSIDE: "leave the body on the way",
        survey.TOO_DEEP: f"are longer than the {depth:.0f} mm a needle reaches",
        survey.OFF_CONE: "come from a direction that is not of this route",
        survey.OVER_TILT: f"are tilted more than {tilt:.0f}° towards head or feet",
        survey.MISSES_BONE: "do not meet the bone",
        survey.OBLIQUE: f"meet the bone more than {angle:.0f}° from its normal",
        survey.LEAVES_BONE: "leave the bone again before the lesion",
        survey.WRONG_PLACE: "meet the bone where this route does not enter it",
        survey.MISSES_CORRIDOR: f"do not run through the {through}",
        survey.NARROW: f"come too near the cortex of the {through}",
        survey.FAR_WALL: f"end less than {wall:g} mm before the far wall of the bone",
        survey.OTHER_BONE: "run too far through another bone",
        survey.NOT_THROUGH: "do not run through the bone this route is named after",
        FAR_WALL: f"end less than {wall:g} mm before the far wall of the bone",
        CORTEX: f"come too near the cortex of the {through}",
    }[name]


def _narrow(anatomy: Anatomy, stock: Sequence[Needle], seen: Survey) -> str:
    """A sentence when the corridor itself is too narrow for the thinnest needle, else ""."""
    route = seen.aim.route
    thin = min(stock, key=lambda n: n.outer_mm)
    need = thin.outer_mm + 2 * float(limits.value("margin_pedicle_cortex"))
    width = _width_mm(anatomy, route)
    if width is None:
        width = 2 * seen.widest_clearance_mm
    if not route.corridor or not width < need:
        return ""
    return (
        f"the {spoken(route.corridor)} is {width:.1f} mm wide and the thinnest needle in stock "
        f"({thin.gauge} G) needs {need:.1f} mm"
    )


def _width_mm(anatomy: Anatomy, route: Route) -> float | None:
    if anatomy.vertebra is None:
        return None
    for isthmus in anatomy.vertebra.isthmuses:
        if route.corridor == f"pedicle_{isthmus.side}":
            return isthmus.width_mm
    return None
