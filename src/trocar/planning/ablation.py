"""Which applicators, where along the allowed tracks, for how long, and what would protect a nerve.

The search needs somebody who measures: ``measure`` turns an ablation plan into a thermal dose (the
simulation). One measurement of one applicator shows what zone it makes in this bone; covers are
then searched with that zone, and what is chosen is measured again. Nothing is asserted that was
not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import ablation as facts
from trocar.facts import limits, thermal
from trocar.facts.ablation import Applicator
from trocar.kernels.field import distance_to
from trocar.model.ablation import (
    MOST_APPLICATORS,
    AblationPlan,
    Phase,
    Placed,
    Protection,
    ThermalDose,
)
from trocar.model.case import Finding, Gravity, Site
from trocar.model.plan import VERDICTS, PlanRule, Trajectory, Verdict, worst_verdict
from trocar.model.result import Anatomy
from trocar.model.space import Float, Grid, Mask, Segment
from trocar.planning.needle import way_rule

Measure = Callable[[AblationPlan], ThermalDose]
Bool = NDArray[np.bool_]

GOAL = 0.98  # of lesion and margin; the corners of voxels are never all reached
_STEP_MM = 2.0  # between two depths of an applicator on its track
_COARSE_MM = 2.0  # cubes on which covers are counted
_TIME_STEP_S = 15.0
_SHORTEST_S = 60.0
_SWAPS = 4  # rounds in which each applicator of a cover may find a better place
_LOWER = (0.85, 0.7)  # of the temperature above the body's, tried as a change
_SHORTER = 0.5  # of the time
_LESS_ICE = (0.75, 0.5, 0.25)  # of the time of each freeze, until no nerve is stopped at
_IN_LESION_MM = 4.0  # an active part that ends this far from the lesion may still reach it
_CLEAR_MM = 1.0  # between two shafts
_SAME_MM = 0.5  # two tips this near are one


@dataclass(frozen=True, kw_only=True)
class Track:
    """A needle's way that the plan allows, skin to tip."""

    path: Segment
    route: str


@dataclass(frozen=True, kw_only=True)
class Zone:
    """What one applicator kills in this bone: an ellipsoid around its axis.

    ``ahead_mm`` is how far it reaches beyond the tip.
    """

    length_mm: float
    width_mm: float
    ahead_mm: float

    def covers(self, tip_mm: Float, direction: Float, points_mm: Float) -> Bool:
        """Which points lie inside when the tip is here and the needle points there."""
        out: Bool = self.depth(tip_mm, direction, points_mm) >= 0
        return out

    def depth(self, tip_mm: Float, direction: Float, points_mm: Float) -> Float:
        """1 in the zone's middle, 0 on its surface, below 0 outside."""
        centre = tip_mm + (self.ahead_mm - self.length_mm / 2) * direction
        p = points_mm - centre
        along = p @ direction
        across_sq = np.einsum("ij,ij->i", p, p) - along**2
        out: Float = (
            1.0 - (along / (self.length_mm / 2)) ** 2 - across_sq / (self.width_mm / 2) ** 2
        )
        return out


@dataclass(frozen=True, eq=False, kw_only=True)
class Alternative:
    """A change of the plan that was measured: what it is, and what becomes of it."""

    change: Finding
    plan: AblationPlan
    dose: ThermalDose

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of its neural structures, or of all when none is neural."""
        return neural_verdict(self.dose)


@dataclass(frozen=True, eq=False, kw_only=True)
class AblationSearch:
    """The plan that was chosen, its dose, and the changes that were tried."""

    plan: AblationPlan
    dose: ThermalDose
    alternatives: tuple[Alternative, ...] = ()

    @property
    def suggested(self) -> Alternative | None:
        """The change that leaves nerves best off, of those the one that kills most lesion.

        None when no change is better than the plan itself.
        """
        better = [
            a
            for a in self.alternatives
            if VERDICTS.index(a.verdict) > VERDICTS.index(neural_verdict(self.dose))
        ]
        return max(
            better,
            key=lambda a: (VERDICTS.index(a.verdict), a.dose.lesion_covered or 0.0),
            default=None,
        )


def neural_verdict(dose: ThermalDose) -> Verdict:
    """The worst verdict of canal and nerves; unknown when one was not identified."""
    told: list[Verdict] = [s.verdict for s in dose.structures if limits.neural(s.structure)]
    if any(limits.neural(n) for n in dose.unknown):
        told.append("unknown")
    return worst_verdict(told)


def protocol(device: Applicator, seconds: float | None = None) -> tuple[Phase, ...]:
    """The usual protocol of a device: heat for its time; freeze, thaw, freeze.

    ``seconds`` is the time of heating, or of each freeze.
    """
    if device.heats:
        return (Phase(mode="heat", seconds=seconds or device.seconds),)
    freeze = Phase(mode="freeze", seconds=seconds or float(facts.value("freeze_time")))
    return (freeze, Phase(mode="thaw", seconds=float(facts.value("thaw_time"))), freeze)


def by_hand(
    site: Site,
    lesion_id: str,
    placed: Sequence[Placed],
    *,
    margin_mm: float | None = None,
    phases: Sequence[Phase] | None = None,
    protections: Sequence[Protection] = (),
) -> AblationPlan:
    """A plan of applicators that somebody placed, with the usual protocol unless one is given."""
    if not placed:
        raise InputError("no applicator was placed; give at least one")
    return AblationPlan(
        lesion_id=lesion_id,
        site=site,
        applicators=tuple(placed),
        phases=tuple(phases or protocol(placed[0].device)),
        margin_mm=float(facts.value("margin_heat")) if margin_mm is None else margin_mm,
        protections=tuple(protections),
    )


def plan_ablation(
    anatomy: Anatomy,
    lesion: Mask,
    tracks: Sequence[Track],
    device: Applicator,
    measure: Measure,
    *,
    lesion_id: str = "1",
    margin_mm: float | None = None,
    most: int = 5,
    protections: Sequence[Protection] = (),
) -> AblationSearch:
    """The fewest applicators, their places and the shortest time that cover lesion and margin
    while every neural limit holds.

    ``tracks`` are the ways that are allowed; an applicator may lie anywhere on one, its tip no
    deeper than the track's end. ``measure`` gives the thermal dose of a plan. When nothing covers
    all within the limits, the plan that covers most without a stop is returned, or the one least
    bad, its verdict saying so; ``alternatives`` are the changes that were measured. ``protections``
    stand from the start.

    Raises InputError for no track, an empty lesion, or a number of applicators that cannot be.
    """
    if lesion.is_empty:
        raise InputError("the lesion is empty; there is nothing to ablate")
    if not 1 <= most <= MOST_APPLICATORS:
        raise InputError(f"at most {most} applicators; expected 1 to {MOST_APPLICATORS}")
    if not tracks:
        raise InputError(
            "no needle reaches the lesion safely, so no applicator can be placed; the plan says why"
        )
    margin = float(facts.value("margin_heat")) if margin_mm is None else margin_mm
    target = _targets(anatomy, lesion, margin)
    spots = _spots(tracks, device, lesion)
    base = by_hand(
        anatomy.site, lesion_id, [spots[_nearest(spots, lesion.centroid_mm)]], margin_mm=margin,
        protections=protections,
    )  # fmt: skip
    zone = zone_of(measure(base), base)
    best: AblationSearch | None = None
    for count in range(1, most + 1):
        chosen = cover(spots, zone, target, count, _neural_points(anatomy), device)
        if chosen is None:
            continue
        plan = replace(base, applicators=tuple(spots[i] for i in chosen))
        found = _timed(plan, measure)
        if best is None or _merit(found) > _merit(best):
            best = found
        if _covers(found.dose) and neural_verdict(found.dose) != "stop":
            break
    if best is None:
        best = _timed(base, measure)
    return replace(
        best, plan=judged(best.plan, best.dose), alternatives=alternatives(best, measure)
    )


# --- covers ------------------------------------------------------------------------------------


def zone_of(dose: ThermalDose, plan: AblationPlan) -> Zone:
    """What the first applicator of a plan kills, as an ellipsoid; a small one if nothing died."""
    placed = plan.applicators[0]
    part = placed.active()
    if dose.dead.is_empty or dose.zone_mm is None:
        return Zone(length_mm=part.length_mm, width_mm=4.0, ahead_mm=0.0)
    p = dose.dead.points_mm() - part.end_mm
    h = dose.dead.grid.spacing_mm[0]
    length, width = dose.zone_mm
    return Zone(
        length_mm=length, width_mm=width, ahead_mm=float((p @ part.direction).max()) + h / 2
    )


def cover(
    spots: Sequence[Placed],
    zone: Zone,
    target_mm: Float,
    count: int,
    neural_mm: Float,
    device: Applicator,
) -> tuple[int, ...] | None:
    """Which ``count`` of the spots cover most of the target? None when so many cannot stand.

    One and two are chosen from all there are; more by adding the best and letting each find a
    better place. Spots whose zone comes too near to a nerve are used only when there are no
    others; applicators keep apart and never touch.
    """
    tips = [s.path.end_mm for s in spots]
    ways = [s.path.direction for s in spots]
    depth = np.array([zone.depth(t, u, target_mm) for t, u in zip(tips, ways, strict=True)])
    held = depth >= 0
    # Of covers that hold equally many, the one that holds them deepest.
    deep = np.maximum(depth, 0.0).sum(axis=1) / (2.0 * max(1, len(target_mm)))
    near = np.zeros(len(spots), bool)
    if len(neural_mm):
        wide = Zone(
            length_mm=zone.length_mm + 2 * float(facts.value("distance_stop")),
            width_mm=zone.width_mm + 2 * float(facts.value("distance_stop")),
            ahead_mm=zone.ahead_mm + float(facts.value("distance_stop")),
        )
        near = np.array(
            [wide.covers(t, u, neural_mm).any() for t, u in zip(tips, ways, strict=True)]
        )
    allowed = np.flatnonzero(~near) if not near.all() else np.arange(len(spots))
    if count == 1:
        return (int(allowed[np.argmax((held.sum(axis=1) + deep)[allowed])]),)
    apart = _apart(spots, device)
    f = held.astype(np.float32)
    if count == 2:
        both = f.sum(axis=1)[:, None] + f.sum(axis=1)[None, :] - f @ f.T
        ok = apart.copy()
        mask = np.zeros(len(spots), bool)
        mask[allowed] = True
        ok &= mask[:, None] & mask[None, :]
        if not ok.any():
            return None
        both = np.where(ok, both + (deep[:, None] + deep[None, :]) / 2, -1.0)
        i, j = np.unravel_index(int(np.argmax(both)), both.shape)
        return (int(i), int(j))
    chosen = list(cover(spots, zone, target_mm, 2, neural_mm, device) or ())
    if not chosen:
        return None
    while len(chosen) < count:
        nxt = _best_addition(held, apart, allowed, chosen)
        if nxt is None:
            return None
        chosen.append(nxt)
    for _ in range(_SWAPS):
        moved = False
        for k in range(count):
            rest = chosen[:k] + chosen[k + 1 :]
            nxt = _best_addition(held, apart, allowed, rest)
            if nxt is None or nxt == chosen[k]:
                continue
            if held[[*rest, nxt]].any(axis=0).sum() > held[chosen].any(axis=0).sum():
                chosen, moved = [*rest, nxt], True
        if not moved:
            break
    return tuple(chosen)


def _best_addition(
    held: Bool, apart: Bool, allowed: NDArray[np.intp], chosen: Sequence[int]
) -> int | None:
    open_ = [int(i) for i in allowed if all(apart[i, c] for c in chosen)]
    if not open_:
        return None
    covered = held[list(chosen)].any(axis=0) if chosen else np.zeros(held.shape[1], bool)
    gain = (held[open_] & ~covered).sum(axis=1)
    return open_[int(np.argmax(gain))]


def _apart(spots: Sequence[Placed], device: Applicator) -> Bool:
    """Which two applicators may be used together: active parts apart, shafts clear."""
    n = len(spots)
    least = float(facts.value("spacing_least"))
    out = np.zeros((n, n), bool)
    along = np.linspace(0.0, 1.0, 9)
    active = [s.active() for s in spots]
    points = [a.at_mm(along * a.length_mm) for a in active]
    shafts = [s.path.at_mm(np.linspace(0.0, s.path.length_mm, 33)) for s in spots]
    for i in range(n):
        for j in range(i):
            if active[j].distance_mm(points[i]).min() < least:
                continue
            clear = spots[j].path.distance_mm(shafts[i]).min()
            out[i, j] = out[j, i] = clear > device.diameter_mm + _CLEAR_MM
    return out


def _spots(tracks: Sequence[Track], device: Applicator, lesion: Mask) -> list[Placed]:
    """Where an applicator may lie: every track, pulled back in steps while it is in the lesion."""
    points = lesion.points_mm()
    out: list[Placed] = []
    for track in tracks:
        for back in np.arange(0.0, track.path.length_mm - device.active_mm, _STEP_MM):
            path = Segment(
                start_mm=track.path.start_mm,
                end_mm=track.path.at_mm(track.path.length_mm - back),
            )
            placed = Placed(device=device, path=path, route=track.route)
            middle = placed.active().at_mm(device.active_mm / 2)
            reach = device.active_mm / 2 + _IN_LESION_MM
            if np.linalg.norm(points - middle, axis=1).min() <= reach or not out:
                out.append(placed)
    if not out:
        raise InputError(
            f"the {device.active_mm:g} mm of {device.name} that work do not fit into any track; "
            "choose a shorter one"
        )
    return out


def _nearest(spots: Sequence[Placed], middle_mm: Float) -> int:
    away = [
        float(np.linalg.norm(s.active().at_mm(s.device.active_mm / 2) - middle_mm)) for s in spots
    ]
    return int(np.argmin(away))


def _targets(anatomy: Anatomy, lesion: Mask, margin_mm: float) -> Float:
    """Centres of coarse cubes in the lesion and its margin; nerves and what is outside left out."""
    low = lesion.points_mm().min(axis=0) - margin_mm - _COARSE_MM
    high = lesion.points_mm().max(axis=0) + margin_mm + _COARSE_MM
    count = np.ceil((high - low) / _COARSE_MM).astype(int)
    grid = Grid.from_spacing(
        count[::-1].tolist(), (_COARSE_MM,) * 3, (low + _COARSE_MM / 2).tolist(),
        anatomy.grid.frame,
    )  # fmt: skip
    inside = lesion.on(grid).values
    if not inside.any():  # thinner than the cubes
        return lesion.points_mm()
    rim = distance_to(inside, grid.spacing_mm) <= margin_mm
    for name, mask in anatomy.structures.items():
        if limits.neural(name):
            rim &= ~mask.on(grid).values
    return grid.to_world(np.argwhere(rim).astype(float))


def _neural_points(anatomy: Anatomy) -> Float:
    found = [
        m.points_mm()[::3]
        for n, m in anatomy.structures.items()
        if limits.neural(n) and not m.is_empty
    ]
    return np.concatenate(found) if found else np.zeros((0, 3))


# --- time and protection -----------------------------------------------------------------------


def _timed(plan: AblationPlan, measure: Measure) -> AblationSearch:
    """The shortest time that covers all, or the longest that harms no nerve; measured again."""
    dose = measure(plan)
    if not plan.heats:
        if neural_verdict(dose) == "stop":
            device = plan.applicators[0].device
            for part in _LESS_ICE:
                shorter = replace(plan, phases=protocol(device, part * plan.phases[0].seconds))
                again = measure(shorter)
                if neural_verdict(again) != "stop":
                    return AblationSearch(plan=shorter, dose=again)
        return AblationSearch(plan=plan, dose=dose)
    seconds = shortest(dose, plan)
    whole = plan.phases[0].seconds
    while seconds < whole:
        sooner = replace(plan, phases=(replace(plan.phases[0], seconds=seconds),))
        again = measure(sooner)
        if _covers(again) or not _covers(dose) or neural_verdict(again) == "stop":
            return AblationSearch(plan=sooner, dose=again)
        seconds += _TIME_STEP_S  # what dies after power goes off was counted, or the ramp was
    return AblationSearch(plan=plan, dose=dose)


def shortest(dose: ThermalDose, plan: AblationPlan) -> float:
    """When to stop heating, from one long measurement: s.

    The earliest time at which lesion and margin are covered, or else at which nothing more is
    gained; not later than the last time at which no nerve is harmed and what dies stays far enough
    from all of them, and not earlier than a minute.
    """
    whole = plan.phases[0].seconds
    times = np.arange(_SHORTEST_S, whole + 1e-6, _TIME_STEP_S)
    if not len(times):
        return whole
    safe = [t for t in times if not _stopped(dose, float(t))]
    latest = float(safe[-1]) if safe else _SHORTEST_S
    died = dose.dead_s.values
    counts = np.array([np.count_nonzero(died <= t) for t in times])
    final = max(1, int(counts[-1]))
    if _covers(dose):
        inside = _rim_times(dose, plan)
        enough = float(np.quantile(inside, GOAL))
        return min(latest, float(np.ceil(enough / _TIME_STEP_S) * _TIME_STEP_S))
    gained = times[counts >= GOAL * final]
    return min(latest, float(gained[0]) if len(gained) else whole)


def _rim_times(dose: ThermalDose, plan: AblationPlan) -> Float:
    """When each voxel of lesion and margin died (inf: never)."""
    points = dose.margin_points_mm
    grid = dose.dead.grid
    inside = np.zeros(grid.shape, bool)
    index = np.rint(grid.to_index(points)).astype(int)
    inside[tuple(index.T)] = True
    near = distance_to(inside, grid.spacing_mm) <= plan.margin_mm
    out: Float = np.nan_to_num(dose.dead_s.values[near], nan=np.inf).astype(np.float64)
    return out


def _stopped(dose: ThermalDose, seconds: float) -> bool:
    """Whether by then a nerve is harmed."""
    for one in dose.structures:
        if not limits.neural(one.structure):
            continue
        if one.harmed_s is not None and one.harmed_s <= seconds:
            return True
        least = float(facts.value("distance_stop"))
        # What dies only grows: nearest at the end, and further off by what had not died yet.
        if one.distance_mm < least and _edge_mm(dose, one.distance_mm, seconds) < least:
            return True
    return False


def _edge_mm(dose: ThermalDose, final_mm: float, seconds: float) -> float:
    """A nerve's distance from what had died by then, estimated from how much the zone grew since.

    The zone's radius as that of a ball of its volume; measured again before anything is printed.
    """
    died = dose.dead_s.values
    voxel = dose.dead.grid.voxel_ml * 1000.0
    then = np.count_nonzero(died <= seconds) * voxel
    end = np.count_nonzero(np.isfinite(died)) * voxel
    return float(final_mm + (3 / (4 * np.pi)) ** (1 / 3) * (end ** (1 / 3) - then ** (1 / 3)))


def _covers(dose: ThermalDose) -> bool:
    return dose.rim_covered is not None and dose.rim_covered >= GOAL


def _merit(found: AblationSearch) -> tuple[bool, float, float]:
    dose = found.dose
    return (
        neural_verdict(dose) != "stop",
        round(dose.rim_covered or 0.0, 3),
        -float(len(found.plan.applicators)),
    )


def alternatives(found: AblationSearch, measure: Measure) -> tuple[Alternative, ...]:
    """What protection makes of a plan that stops or cautions at a nerve: each one measured."""
    plan, dose = found.plan, found.dose
    names = troubled(dose)
    if not names:
        return ()
    return tuple(
        Alternative(change=finding, plan=changed, dose=measure(changed))
        for finding, changed in _changes(plan, names)
    )


def troubled(dose: ThermalDose) -> list[str]:
    """Canal and nerves whose verdict is stop or caution."""
    return [
        s.structure
        for s in dose.structures
        if s.verdict in ("stop", "caution") and limits.neural(s.structure)
    ]


def with_fluid(plan: AblationPlan, names: Sequence[str]) -> tuple[AblationPlan, float]:
    """The plan with a layer of fluid before these structures, and how thick it is (mm)."""
    gap = float(facts.value("epidural_gap"))
    return _layered(plan, "fluid", names, gap), gap


def _layered(
    plan: AblationPlan, kind: Literal["gas", "fluid"], names: Sequence[str], gap_mm: float
) -> AblationPlan:
    """With this layer before these structures, in place of any other layer before them."""
    kept = tuple(
        p for p in plan.protections if p.kind == "thermocouple" or p.structure not in names
    )
    layers = tuple(Protection(kind=kind, structure=n, gap_mm=gap_mm) for n in names)
    return replace(plan, protections=(*kept, *layers))


def _changes(plan: AblationPlan, names: Sequence[str]) -> list[tuple[Finding, AblationPlan]]:
    out: list[tuple[Finding, AblationPlan]] = []
    told: Mapping[str, str] = {"names": ", ".join(names)}
    guards = [
        Protection(kind="thermocouple", structure=n, stop_c=c)
        for n in names
        if (c := _trip_c(n, plan.heats)) is not None
    ]
    if guards:
        trips = [g.stop_c for g in guards if g.stop_c is not None]
        text = (
            Finding(
                gravity=Gravity.NOTE,
                message="Thermocouple at {names}: power off from {limit:.0f} degC.",
                values={**told, "limit": min(trips)},
            )
            if plan.heats
            else Finding(
                gravity=Gravity.NOTE,
                message="Thermocouple at {names}: probes off at {limit:.0f} degC.",
                values={**told, "limit": max(trips)},
            )
        )
        out.append((text, replace(plan, protections=(*plan.protections, *guards))))
    gap = float(facts.value("epidural_gap"))
    out.append(
        (
            Finding(
                gravity=Gravity.NOTE,
                message="Carbon dioxide, a layer of {gap:.0f} mm before {names} (gas moves: look "
                "again).",
                values={**told, "gap": gap},
            ),
            _layered(plan, "gas", names, gap),
        )
    )
    out.append(
        (
            Finding(
                gravity=Gravity.NOTE,
                message="Dextrose 5 % (never saline), a layer of {gap:.0f} mm before {names}.",
                values={**told, "gap": gap},
            ),
            with_fluid(plan, names)[0],
        )
    )
    if plan.heats:
        for level in _LOWER:
            phases = tuple(replace(p, level=p.level * level) for p in plan.phases)
            out.append(
                (
                    Finding(
                        gravity=Gravity.NOTE,
                        message="Lower power: {percent:.0f} % of the rise in temperature.",
                        values={"percent": 100 * level},
                    ),
                    replace(plan, phases=phases),
                )
            )
    shorter = tuple(
        replace(p, seconds=p.seconds * _SHORTER) if p.mode in ("heat", "freeze") else p
        for p in plan.phases
    )
    out.append(
        (
            Finding(
                gravity=Gravity.NOTE,
                message="Shorter: {percent:.0f} % of the time.",
                values={"percent": 100 * _SHORTER},
            ),
            replace(plan, phases=shorter),
        )
    )
    return out


def _trip_c(structure: str, heats: bool) -> float | None:
    """At what temperature beside a structure power must end: that of its warning."""
    if heats:
        limit = thermal.limit(structure)
        return None if limit is None else limit.warn_c
    cold = facts.cold_limit(structure)
    return None if cold is None else cold.warn_c + float(facts.value("cold_lead"))


def moved_forward(plan: AblationPlan, deepest: Sequence[Segment]) -> AblationPlan | None:
    """The same applicators at the ends of their tracks; None when they lie there already."""
    placed = tuple(replace(p, path=s) for p, s in zip(plan.applicators, deepest, strict=True))
    if all(
        np.linalg.norm(a.path.end_mm - b.path.end_mm) < _SAME_MM
        for a, b in zip(placed, plan.applicators, strict=True)
    ):
        return None
    return replace(plan, applicators=placed)


def judged(
    plan: AblationPlan, dose: ThermalDose, needles: Sequence[Trajectory] = ()
) -> AblationPlan:
    """The plan with the rules it was held against; ``needles`` are those it was placed along."""
    rules = [_coverage_rule(plan, dose), _neural_rule(dose)]
    way = way_rule(needles)
    if way is not None:
        rules.append(way)
    if len(plan.applicators) > 1:
        rules.append(_spacing_rule(plan))
    return replace(plan, rules=tuple(rules))


def _coverage_rule(plan: AblationPlan, dose: ThermalDose) -> PlanRule:
    covered, rim = dose.lesion_covered, dose.rim_covered
    if covered is None or rim is None:
        return PlanRule(
            rule="coverage",
            verdict="unknown",
            finding=Finding(gravity=Gravity.CAUTION, message="The lesion's outline is not known."),
            source="",
        )
    values = {"covered": 100 * covered, "rim": 100 * rim, "margin": plan.margin_mm}
    return PlanRule(
        rule="coverage",
        verdict="ok" if rim >= GOAL else "caution",
        finding=Finding(
            gravity=Gravity.NOTE if rim >= GOAL else Gravity.CAUTION,
            message="{covered:.0f} % of the lesion dies; of lesion and margin of {margin:.0f} mm "
            "together, {rim:.0f} %.",
            values=values,
        ),
        source=facts.value("margin_heat").source,
    )


def _neural_rule(dose: ThermalDose) -> PlanRule:
    neural = [s for s in dose.structures if limits.neural(s.structure)]
    if not neural:
        return PlanRule(
            rule="distance to nerves",
            verdict="unknown" if neural_verdict(dose) == "unknown" else "ok",
            finding=Finding(gravity=Gravity.NOTE, message="No nerve was identified within reach."),
            source=facts.value("distance_ok").source,
        )
    nearest = min(neural, key=lambda s: s.distance_mm)
    verdict = facts.nearness(nearest.distance_mm)
    gravity = {"ok": Gravity.NOTE, "caution": Gravity.CAUTION, "stop": Gravity.STOP}[verdict]
    return PlanRule(
        rule="distance to nerves",
        verdict=verdict,
        finding=Finding(
            gravity=gravity,
            message="What dies or freezes ends {distance:.1f} mm from {structure}; below "
            "{ok:.0f} mm protection and monitoring are needed, below {least:.0f} mm it is too "
            "near.",
            values={
                "distance": min(nearest.distance_mm, 99.0),
                "structure": nearest.structure,
                "ok": float(facts.value("distance_ok")),
                "least": float(facts.value("distance_stop")),
            },
        ),
        source=facts.value("distance_stop" if verdict == "stop" else "distance_ok").source,
    )


def _spacing_rule(plan: AblationPlan) -> PlanRule:
    parts = [p.active() for p in plan.applicators]
    gaps = [
        min(
            float(b.distance_mm(a.at_mm(np.linspace(0, a.length_mm, 21))).min())
            for b in parts
            if b is not a
        )
        for a in parts
    ]
    widest, most = max(gaps), float(facts.value("spacing_most"))
    fine = plan.heats or widest <= most
    return PlanRule(
        rule="spacing of applicators",
        verdict="ok" if fine else "caution",
        finding=Finding(
            gravity=Gravity.NOTE if fine else Gravity.CAUTION,
            message="The next applicator is {gap:.0f} mm away at most.",
            values={"gap": widest},
        ),
        source=facts.value("spacing_most").source,
        verified=facts.value("spacing_most").verified,
    )
