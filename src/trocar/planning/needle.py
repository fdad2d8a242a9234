"""One needle, measured: what it crosses, its exact margins, what a person must know about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trocar.facts import limits
from trocar.facts.products import Needle
from trocar.facts.source import load
from trocar.kernels import rays
from trocar.model.case import Finding, Gravity
from trocar.model.plan import MadeBy, Margin, PlanRule, Trajectory
from trocar.model.result import Anatomy
from trocar.model.space import Segment
from trocar.planning import breach, margins, survey, words
from trocar.planning.problem import Problem
from trocar.planning.routes import Route, guards_of
from trocar.planning.scene import REACH_MM, Scene
from trocar.planning.survey import Aim


def measured(
    problem: Problem,
    view: Scene,
    aim: Aim,
    path: Segment,
    chosen: Needle,
    *,
    made_by: MadeBy = "search",
) -> Trajectory:
    """Everything about one needle except its breach probability."""
    route = aim.route
    alone = replace(aim, entries_mm=path.start_mm[None], targets_mm=path.end_mm[None])
    pair = np.zeros((1, 2), np.int64)
    row = view.measure(
        pair,
        alone.entries_mm,
        alone.targets_mm,
        corridor=route.corridor,
        settle_mm=survey.settle_mm(chosen.radius_mm),
        ahead_mm=REACH_MM,
    )
    radius = np.array([chosen.radius_mm])
    broken = survey.rules(problem.anatomy, alone, pair, row, chosen.radius_mm)
    through = view.through_other_bone_mm(pair, alone.entries_mm, alone.targets_mm)
    broken |= survey.through_rules(route, through)
    costs = survey.cost_parts(problem.anatomy, alone, pair, row, radius)
    contact, clear = float(row[0, rays.CONTACT]), _clearance_mm(route, row, chosen)
    one = Trajectory(
        route=route.name,
        needle=chosen,
        entry_mm=path.start_mm,
        target_mm=path.end_mm,
        position=route.position,
        bone_entry_mm=path.at_mm(contact) if np.isfinite(contact) else path.end_mm,
        bone_length_mm=float(row[0, rays.BONE]),
        cortex_angle_deg=float(np.degrees(np.arccos(np.clip(row[0, rays.COSINE], -1, 1)))),
        margins=_margins(problem, route, path, chosen, clear, float(row[0, rays.AHEAD])),
        corridor_clearance_mm=clear,
        cost=float(sum(v[0] for v in costs.values())),
        cost_parts={name: float(v[0]) for name, v in costs.items()},
        made_by=made_by,
    )
    failed = {name for name, bad in broken.items() if bad[0]}
    found = (*_findings(one, route, failed), *unknown(problem, route))
    return replace(one, findings=found, reason=words.reason(one, route, _size(problem, one)))


def _size(problem: Problem, one: Trajectory) -> str:
    """What the search chose the needle's thickness for; a person need not say why."""
    if one.made_by == "hand":
        return ""
    thicker = any(n.outer_mm > one.needle.outer_mm for n in problem.stock)
    return "thickest that fits" if thicker else "thickest in stock"


def shortest(stock: Sequence[Needle], like: Needle, depth_mm: float) -> Needle:
    """The shortest needle as thick as ``like`` that reaches, or the longest if none does."""
    same = sorted((n for n in stock if n.outer_mm == like.outer_mm), key=lambda n: n.length_mm)
    return next((n for n in same if survey.reach_mm(n) >= depth_mm), same[-1])


def _clearance_mm(route: Route, row: NDArray[np.float32], chosen: Needle) -> float | None:
    """Needle surface to the corridor's cortex; None without a corridor or when it is missed."""
    value = float(row[0, rays.CORRIDOR_CLEARANCE])
    return value - chosen.radius_mm if route.corridor and np.isfinite(value) else None


def _margins(
    problem: Problem,
    route: Route,
    path: Segment,
    chosen: Needle,
    clear_mm: float | None,
    ahead_mm: float,
) -> tuple[Margin, ...]:
    """Exact margins to structures, and those inside the bone (wall ahead, pedicle cortex)."""
    guards = guards_of(route, problem.anatomy)
    surfaces = {g.structure: problem.surface(g.structure) for g in guards}
    out = list(
        margins.margins(path, chosen.radius_mm, guards, problem.anatomy.structures, surfaces)
    )
    wall, cortex = limits.value("margin_anterior_wall"), limits.value("margin_pedicle_cortex")
    out.append(
        Margin(
            structure=words.FAR_WALL,
            distance_mm=ahead_mm,
            required_mm=wall.mean,
            caution_mm=wall.high or wall.mean,
        )
    )
    if clear_mm is not None:
        out.append(
            Margin(
                structure=words.CORTEX,
                distance_mm=clear_mm,
                required_mm=cortex.mean,
                caution_mm=float(limits.value("pedicle_clearance_ok")),
            )
        )
    return tuple(sorted(out, key=lambda m: m.distance_mm - m.required_mm))


def with_breach(problem: Problem, view: Scene, route: Route, one: Trajectory) -> Trajectory:
    """The needle with the chances that, misplaced, it passes a limit or touches a structure."""
    radius, error = one.needle.radius_mm, limits.value("placement_error")
    entries, tips = breach.misplaced(
        one.path,
        tip_mm=error.mean,
        angle_deg=float(load("routes")["placement_angle"]),
        samples=breach.SAMPLES,
        seed=problem.seed,
    )
    pairs = np.repeat(np.arange(len(tips))[:, None], 2, axis=1)
    rows = view.measure(
        pairs, entries, tips, corridor=route.corridor, settle_mm=survey.settle_mm(radius)
    )
    passes = rows[:, rays.SLACK] < radius
    if route.corridor:
        # Not in the corridor at all (infinite) counts as having left it.
        clear = rows[:, rays.CORRIDOR_CLEARANCE]
        passes |= (clear < radius) | ~np.isfinite(clear)
    chance, interval = breach.share(passes)
    contact, contact_interval = breach.share(view.room_along_mm(pairs, entries, tips) < radius)
    return replace(
        one,
        breach_probability=chance,
        breach_interval=interval,
        contact_probability=contact,
        contact_interval=contact_interval,
        placement_error_mm=error.mean,
    )


def way_rule(needles: Sequence[Trajectory]) -> PlanRule | None:
    """What goes in through a needle that must not go in as it lies: a stop; else nothing."""
    for number, one in enumerate(needles, start=1):
        if one.verdict is Gravity.STOP:
            finding = Finding(
                gravity=Gravity.STOP,
                message="Needle {number} may not go in as it lies; the plan sheet says why.",
                values={"number": number},
            )
            return PlanRule(
                rule="way of the needle", verdict="stop", finding=finding,
                source="the limits of the plan sheet", verified=True,
            )  # fmt: skip
    return None


def unknown(problem: Problem, route: Route) -> tuple[Finding, ...]:
    """What the route must avoid and nobody has seen: a stop for canal and nerve, else a caution."""
    return tuple(_unknown(problem, name) for name in not_seen(problem.anatomy, route))


def _unknown(problem: Problem, name: str) -> Finding:
    if name in problem.accepted:
        return Finding(
            gravity=Gravity.CAUTION,
            message="{what} was not identified: its margin is not known (accepted by the user)",
            values={"what": name},
        )
    kind = limits.kind(name)
    grave = kind == "canal" or (kind == "nerve" and name in problem.anatomy.missing)
    return Finding(
        gravity=Gravity.STOP if grave else Gravity.CAUTION,
        message="{what} was not identified: its margin is not known",
        values={"what": name},
    )


def not_seen(anatomy: Anatomy, route: Route) -> tuple[str, ...]:
    """Structures the route must avoid that this CT's anatomy does not hold.

    What the anatomy itself calls missing comes first; then what the reference names for the route
    and neither stands nor is called missing, unless an artery or vein of the same route is seen
    (the reference names them together, a label map holds one of them).
    """
    seen = tuple(n for n, mask in anatomy.structures.items() if not mask.is_empty)
    lost = [n for n in anatomy.missing if route.guards(n) and n not in seen]
    for name in route.avoid:
        vessel = limits.kind(name) in ("artery", "vein")
        kin = [n for n in route.avoid if vessel and limits.kind(n) in ("artery", "vein")]
        if not _any_of((name, *kin), (*seen, *lost)):
            lost.append(name)
    return tuple(dict.fromkeys(lost))


def _any_of(names: Sequence[str], among: Sequence[str]) -> bool:
    return any(a == n or a.startswith(n + "_") for n in names for a in among)


def _findings(one: Trajectory, route: Route, failed: set[str]) -> tuple[Finding, ...]:
    """What a person must know about this needle beyond its margins."""
    out = []
    if survey.MISSES_BONE in failed:
        out.append(Finding(gravity=Gravity.STOP, message="the needle does not meet the bone"))
    if survey.LEAVES_BONE in failed:
        out.append(
            Finding(gravity=Gravity.STOP, message="the needle leaves the bone again on its way")
        )
    if survey.MISSES_CORRIDOR in failed:
        out.append(
            Finding(
                gravity=Gravity.STOP,
                message="the needle does not run through the {what}",
                values={"what": route.corridor},
            )
        )
    if survey.WRONG_PLACE in failed:
        out.append(
            Finding(
                gravity=Gravity.STOP,
                message="the needle meets the bone where this route does not enter it",
            )
        )
    if survey.OTHER_BONE in failed:
        out.append(
            Finding(gravity=Gravity.STOP, message="the needle runs too far through another bone")
        )
    if survey.NOT_THROUGH in failed:
        out.append(
            Finding(
                gravity=Gravity.STOP,
                message="the needle does not run through the bone this route is named after",
            )
        )
    more = (_depth_finding(one), _angle_finding(one), _tilt_finding(one, route))
    return (*out, *(f for f in more if f is not None))


def _depth_finding(one: Trajectory) -> Finding | None:
    limit = min(float(limits.value("depth_limit")), survey.reach_mm(one.needle))
    if one.depth_mm <= limit:
        return None
    return Finding(
        gravity=Gravity.STOP,
        message="skin to tip is {depth:.0f} mm, more than the {limit:.0f} mm this needle reaches",
        values={"depth": one.depth_mm, "limit": limit},
    )


def _angle_finding(one: Trajectory) -> Finding | None:
    limit = float(limits.value("cortex_angle_limit"))
    preferred = float(limits.value("cortex_angle_preferred"))
    if not one.cortex_angle_deg > preferred:
        return None
    if one.cortex_angle_deg > limit:
        return Finding(
            gravity=Gravity.STOP,
            message="the needle meets the bone {angle:.0f} degrees from its normal, beyond "
            "{limit:.0f}: it will skid",
            values={"angle": one.cortex_angle_deg, "limit": limit},
        )
    return Finding(
        gravity=Gravity.CAUTION,
        message="the needle meets the bone {angle:.0f} degrees from its normal; below "
        "{preferred:.0f} it holds better",
        values={"angle": one.cortex_angle_deg, "preferred": preferred},
    )


def _tilt_finding(one: Trajectory, route: Route) -> Finding | None:
    limit, tilt = float(limits.value("tilt_limit")), abs(one.c_arm.cranial_deg)
    if tilt <= limit:
        return None
    return Finding(
        gravity=Gravity.STOP if route.tilt_limited else Gravity.CAUTION,
        message="the needle is tilted {tilt:.0f} degrees towards head or feet, beyond the "
        "{limit:.0f} that gantry and C-arm reach with comfort",
        values={"tilt": tilt, "limit": limit},
    )


def beyond_image() -> Finding:
    """A needle part of which nobody can judge."""
    return Finding(
        gravity=Gravity.STOP,
        message="part of the needle lies outside the image: what it passes there is not known",
    )
