"""Placing applicators: covers with a known optimum, the shortest time, protections measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.facts.ablation import applicator
from trocar.model.ablation import AblationPlan, StructureDose, ThermalDose
from trocar.model.case import Site
from trocar.model.result import Anatomy, Axes
from trocar.model.space import Grid, Mask, Segment, Volume
from trocar.planning.ablation import (
    GOAL,
    Alternative,
    Track,
    Zone,
    by_hand,
    cover,
    judged,
    neural_verdict,
    plan_ablation,
)

DEVICE = applicator("osteocool_10")
CRYO = applicator("cryo_17")
GRID = Grid.from_spacing((60, 60, 60), (1.0, 1.0, 1.0), (-29.5, -29.5, -29.5))
POINTS = GRID.to_world(np.moveaxis(np.indices(GRID.shape), 0, -1))
FULL = Zone(length_mm=20.0, width_mm=16.0, ahead_mm=5.0)  # after the whole time


def ball(centre: tuple[float, float, float], radius: float) -> Mask:
    return Mask(grid=GRID, values=np.linalg.norm(POINTS - np.array(centre), axis=-1) <= radius)


def anatomy(canal_at: float | None = None) -> Anatomy:
    """Bone everywhere; a canal behind the plane y = ``canal_at``."""
    structures = {}
    if canal_at is not None:
        canal = (POINTS[..., 1] > canal_at) & (np.abs(POINTS[..., 0]) < 10)
        structures["spinal_canal"] = Mask(grid=GRID, values=canal)
    every = Mask(grid=GRID, values=np.ones(GRID.shape, bool))
    return Anatomy(
        site=Site.parse("femur left"), grid=GRID, body=every, bone=every,
        axes=Axes(origin_mm=np.zeros(3), left=np.eye(3)[0], posterior=np.eye(3)[1],
                  superior=np.eye(3)[2]),
        structures=structures, regions={},
    )  # fmt: skip


def tracks(*xz: tuple[float, float], deep: float = -12.0) -> list[Track]:
    """Needles from behind (along -y) that end at y = ``deep``."""
    return [
        Track(
            path=Segment(start_mm=np.array([x, 29.0, z]), end_mm=np.array([x, deep, z])),
            route=f"at {x:g} {z:g}",
        )
        for x, z in xz
    ]


def fake(
    where: Anatomy, lesion: Mask, *, full: Zone = FULL, seconds: float = 600.0
) -> Callable[[AblationPlan], ThermalDose]:
    """A simulation in which every applicator's zone grows as the square root of time; a canal
    within 2 mm of it is harmed, within 4 mm warned of."""

    def grown(share: float) -> Zone:
        return Zone(
            length_mm=full.length_mm * share, width_mm=full.width_mm * share,
            ahead_mm=full.ahead_mm - full.length_mm * (1 - share) / 2,
        )  # fmt: skip

    from trocar.kernels.field import distance_to

    gaps = {n: distance_to(m.values, GRID.spacing_mm) for n, m in where.structures.items()}
    near_lesion = distance_to(lesion.values, GRID.spacing_mm)

    def measure(plan: AblationPlan) -> ThermalDose:
        total = sum(p.seconds for p in plan.phases if p.mode in ("heat", "freeze"))
        times = np.arange(0.0, total + 1, 15.0)
        died = np.full(GRID.shape, np.nan)
        flat = POINTS.reshape(-1, 3)
        for t in times[1:]:
            share = min(1.0, (t / seconds) ** 0.5) * plan.phases[0].level ** 0.5
            inside = np.zeros(len(flat), bool)
            for p in plan.applicators:
                inside |= grown(share).covers(p.path.end_mm, p.path.direction, flat)
            died[np.isnan(died) & inside.reshape(GRID.shape)] = t
        dead = np.isfinite(died)
        inside = lesion.values
        rim = near_lesion <= plan.margin_mm
        structures = []
        for name, mask in where.structures.items():
            rim &= ~mask.values
            away = gaps[name][dead].min() if dead.any() else 99.0
            gap = sum(g.gap_mm for g in plan.protections if g.structure == name)
            away += gap
            near = {}
            for limit in (4.0, 2.0):
                hit = [
                    float(t) for t in times
                    if (died <= t).any()
                    and gaps[name][died <= t].min() + gap <= limit
                ]  # fmt: skip
                near[limit] = hit[0] if hit else None
            verdict = "stop" if near[2.0] or away < 5 else "caution" if away < 10 else "ok"
            structures.append(
                StructureDose(
                    structure=name, peak_c=40.0, lowest_c=37.0, cem43_min=0.0, verdict=verdict,
                    distance_mm=float(away), warned_s=near[4.0], harmed_s=near[2.0],
                )
            )  # fmt: skip
        covered = float((dead & inside).sum() / inside.sum())
        empty = Volume(grid=GRID, values=np.full(GRID.shape, 37.0, np.float32), unit="degC")
        zone = None
        if dead.any():
            one = plan.applicators[0]
            along = (POINTS[dead] - one.path.end_mm) @ one.path.direction
            share = min(1.0, (total / seconds) ** 0.5)
            zone = (float(np.ptp(along)) + 1, full.width_mm * share)
        skin = np.argwhere(inside)
        return ThermalDose(
            lesion_id="1", site=plan.site, heats=plan.heats, peak_c=empty, lowest_c=empty,
            cem43_min=empty, dead=Mask(grid=GRID, values=dead),
            dead_s=Volume(grid=GRID, values=died.astype(np.float32), unit="s"),
            dead_ml=dead.sum() / 1000, ice_ml=0.0, lesion_covered=covered,
            rim_covered=float((dead & rim).sum() / rim.sum()),
            margin_points_mm=GRID.to_world(skin.astype(float)),
            margin_mm=np.zeros(len(skin)), min_margin_mm=0.0, structures=tuple(structures),
            time_s=times, covered=np.zeros(len(times)), power_w=np.zeros((len(times), 1)),
            impedance_ohm=np.zeros((len(times), 1)), surface_c=np.zeros((len(times), 1)),
            zone_mm=zone,
        )  # fmt: skip

    return measure


def test_a_ball_takes_one_applicator_through_its_middle() -> None:
    lesion, where = ball((4, 0, 0), 5.0), anatomy()
    ways = tracks((-6, 0), (0, 0), (4, 0), (8, 0), (4, 6))
    found = plan_ablation(where, lesion, ways, DEVICE, fake(where, lesion), margin_mm=2.0, most=3)
    assert len(found.plan.applicators) == 1
    one = found.plan.applicators[0]
    assert one.route == "at 4 0"
    # The zone's middle lies in the ball's middle: its tip 5 mm short of the zone's end at y = -10.
    centre = one.path.end_mm[1] - (FULL.ahead_mm - FULL.length_mm / 2)
    assert centre == pytest.approx(0.0, abs=1.0)
    assert found.dose.rim_covered is not None
    assert found.dose.rim_covered >= GOAL


def test_the_shortest_time_is_when_the_ball_and_its_margin_are_dead() -> None:
    lesion, where = ball((4, 0, 0), 4.0), anatomy()
    measure = fake(where, lesion)
    found = plan_ablation(where, lesion, tracks((4, 0)), DEVICE, measure, margin_mm=1.0)
    seconds = found.plan.phases[0].seconds
    # A ball of 5 mm in a zone of width 16 sqrt(t / 600): 10 / 16 squared of the time.
    exact = 600.0 * (10.0 / 16.0) ** 2
    assert exact - 60 <= seconds <= exact + 30
    sooner = replace(found.plan, phases=(replace(found.plan.phases[0], seconds=seconds - 30),))
    assert (measure(sooner).rim_covered or 0) < GOAL


def test_two_balls_take_two() -> None:
    apart = Mask(grid=GRID, values=ball((-9, 0, 0), 4.0).values | ball((9, 0, 0), 4.0).values)
    where = anatomy()
    ways = tracks((-12, 0), (-9, 0), (-4, 0), (0, 0), (4, 0), (9, 0), (13, 0))
    found = plan_ablation(where, apart, ways, DEVICE, fake(where, apart), margin_mm=1.0, most=4)
    assert sorted(p.route for p in found.plan.applicators) == ["at -9 0", "at 9 0"]
    assert {r.rule: r.verdict for r in found.plan.rules}["coverage"] == "ok"


@pytest.mark.slow
def test_a_lesion_6_mm_from_the_canal_gets_what_harms_no_nerve() -> None:
    """Held against every track, depth and time there is."""
    lesion, where = ball((0, 0, 0), 6.0), anatomy(canal_at=12.0)
    ways = tracks((0, 0), (3, 0), (0, 3))
    measure = fake(where, lesion)
    found = plan_ablation(where, lesion, ways, DEVICE, measure, margin_mm=0.0, most=1)
    assert neural_verdict(found.dose) != "stop"
    best = 0.0
    for way in ways:
        for back in np.arange(0.0, 24.0, 2.0):
            path = Segment(
                start_mm=way.path.start_mm, end_mm=way.path.end_mm - back * way.path.direction
            )
            one = replace(found.plan.applicators[0], path=path)
            for seconds in (150.0, 300.0, 450.0, 600.0):
                plan = replace(
                    found.plan, applicators=(one,),
                    phases=(replace(found.plan.phases[0], seconds=seconds),),
                )  # fmt: skip
                dose = measure(plan)
                if neural_verdict(dose) != "stop":
                    best = max(best, dose.lesion_covered or 0.0)
    assert (found.dose.lesion_covered or 0.0) >= best - 0.03


@pytest.mark.parametrize("count", [1, 2])
def test_a_cover_is_the_best_of_all(count: int) -> None:
    rng = np.random.default_rng(3)
    spots = list(
        by_hand(
            Site.parse("femur left"), "1",
            [_placed(t) for t in tracks(*rng.uniform(-15, 15, (8, 2)).tolist())],
        ).applicators
    )  # fmt: skip
    target = rng.uniform(-14, 14, (400, 3))
    none = np.zeros((0, 3))
    chosen = cover(spots, FULL, target, count, none, DEVICE)
    assert chosen is not None

    def covered(which: tuple[int, ...]) -> int:
        held = [FULL.covers(spots[i].path.end_mm, spots[i].path.direction, target) for i in which]
        return int(np.any(held, axis=0).sum())

    least = 10.0
    fine = [
        c for c in combinations(range(len(spots)), count)
        if all(
            np.linalg.norm((spots[a].path.end_mm - spots[b].path.end_mm)[[0, 2]]) >= least
            for a, b in combinations(c, 2)
        )
    ]  # fmt: skip
    assert covered(chosen) == max(covered(c) for c in fine)


def _placed(track: Track):  # type: ignore[no-untyped-def]
    from trocar.model.ablation import Placed

    return Placed(device=DEVICE, path=track.path, route=track.route)


def test_more_than_two_never_stand_too_near_and_cover_more() -> None:
    spots = [_placed(t) for t in tracks(*[(x, z) for x in range(-15, 16, 5) for z in (-10, 0, 10)])]
    spots = spots[:8] + spots[9:17]
    target = POINTS[ball((0, 0, 0), 18.0).values][::7]
    last = 0
    for count in (1, 2, 3, 4, 5):
        chosen = cover(spots, FULL, target, count, np.zeros((0, 3)), DEVICE)
        assert chosen is not None
        for a, b in combinations(chosen, 2):
            gap = np.linalg.norm((spots[a].path.end_mm - spots[b].path.end_mm)[[0, 2]])
            assert gap >= 10.0
        held = [FULL.covers(spots[i].path.end_mm, spots[i].path.direction, target) for i in chosen]
        now = int(np.any(held, axis=0).sum())
        assert now > last
        last = now


def test_protections_are_measured_not_asserted() -> None:
    lesion, where = ball((0, 4, 0), 6.0), anatomy(canal_at=13.0)
    asked: list[AblationPlan] = []
    inner = fake(where, lesion)

    def measure(plan: AblationPlan) -> ThermalDose:
        asked.append(plan)
        return inner(plan)

    found = plan_ablation(
        where, lesion, tracks((0, 0), deep=-2.0), DEVICE, measure, margin_mm=0.0, most=1
    )
    assert found.alternatives
    for one in found.alternatives:
        assert any(one.plan is p for p in asked)
    kinds = {g.kind for a in found.alternatives for g in a.plan.protections}
    assert kinds == {"gas", "fluid", "thermocouple"}
    levels = {a.plan.phases[0].level for a in found.alternatives}
    assert {0.85, 0.7} <= levels
    assert neural_verdict(found.dose) == "stop"
    best = found.suggested
    assert best is not None
    assert best.verdict in ("ok", "caution")
    as_good = [a for a in found.alternatives if a.verdict == best.verdict]
    assert best.dose.lesion_covered == max(a.dose.lesion_covered or 0 for a in as_good)


def test_a_change_that_is_no_better_is_not_suggested() -> None:
    lesion, where = ball((0, -6, 0), 5.0), anatomy(canal_at=22.0)
    measure = fake(where, lesion)
    found = plan_ablation(where, lesion, tracks((0, 0)), DEVICE, measure, margin_mm=0.0)
    assert neural_verdict(found.dose) == "ok"
    assert found.alternatives == ()
    same = Alternative(change=found.plan.rules[0].finding, plan=found.plan, dose=found.dose)
    assert replace(found, alternatives=(same,)).suggested is None


def test_rules_say_unknown_for_what_is_unknown() -> None:
    lesion, where = ball((0, 0, 0), 5.0), anatomy()
    found = plan_ablation(where, lesion, tracks((0, 0)), DEVICE, fake(where, lesion))
    blind = replace(found.dose, unknown=("spinal_canal",), lesion_covered=None, rim_covered=None)
    rules = {r.rule: r.verdict for r in judged(found.plan, blind).rules}
    assert rules == {"coverage": "unknown", "distance to nerves": "unknown"}


def test_cryo_thaws_between_two_freezes() -> None:
    plan = by_hand(anatomy().site, "1", [replace(_placed(tracks((0, 0))[0]), device=CRYO)])
    assert [p.mode for p in plan.phases] == ["freeze", "thaw", "freeze"]
    assert [p.seconds for p in plan.phases] == [600.0, 300.0, 600.0]


def test_what_cannot_be_is_said() -> None:
    lesion, where = ball((0, 0, 0), 5.0), anatomy()
    measure = fake(where, lesion)
    with pytest.raises(InputError, match="lesion is empty"):
        plan_ablation(where, Mask.empty(GRID), tracks((0, 0)), DEVICE, measure)
    with pytest.raises(InputError, match="no needle reaches"):
        plan_ablation(where, lesion, [], DEVICE, measure)
    with pytest.raises(InputError, match="expected 1 to 8"):
        plan_ablation(where, lesion, tracks((0, 0)), DEVICE, measure, most=0)
    short = [Track(path=Segment(start_mm=np.zeros(3), end_mm=np.array([0, 4.0, 0])), route="x")]
    with pytest.raises(InputError, match="do not fit into any track"):
        plan_ablation(where, lesion, short, DEVICE, measure)
