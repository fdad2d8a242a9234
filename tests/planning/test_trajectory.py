"""The search against brute force, closed forms, symmetry, and needles made by hand."""

from __future__ import annotations

from dataclasses import replace
from math import erf, sqrt
from typing import Any

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.facts import limits
from trocar.facts.products import Needle, needle
from trocar.facts.source import load
from trocar.model.case import Gravity, Site
from trocar.model.plan import Trajectory
from trocar.model.space import Grid, Mask
from trocar.planning import aims, scene
from trocar.planning.routes import Route, routes_for
from trocar.planning.trajectory import find_paths, needle_sets, score_path, stock_for

THIN = Needle(gauge=13, outer_mm=2.0, inner_mm=1.5, length_mm=150.0)
BACK = Route(name="straight", toward=(0, 1, 0), cone_deg=50.0, position="prone")


def slab(toy_patient: Any, blocks: Any = None, lesion: Any = None) -> Any:
    """Flat skin behind flat bone: 60 mm wide, skin at y = 40, bone from y = 0 to -30."""
    grid = Grid.from_spacing((60, 90, 60), (1, 1, 1), (-29.5, -44.5, -29.5))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    p = grid.to_world(index)
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    target = (abs(x) < 2) & (abs(y + 15) < 2) & (abs(z) < 2) if lesion is None else lesion(x, y, z)
    structures = {k: f(x, y, z) for k, f in (blocks or {}).items()}
    return toy_patient(
        grid,
        {"body": y < 40, "bone": (y < 0) & (y > -30), "lesion": target},
        structures,
        {},
        "femur left",
    )


@pytest.fixture(autouse=True)
def fewer_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests need no million paths; ``plain``, made before this acts, looks at all of them."""
    monkeypatch.setattr(aims, "PAIRS", 100_000)


@pytest.fixture(scope="module")
def plain(toy_vertebra: Any) -> Any:
    ct, anatomy, lesion = toy_vertebra()
    return ct, anatomy, lesion, find_paths(ct, anatomy, lesion)


# --- known optimum -------------------------------------------------------------------------------


def test_with_nothing_in_the_way_the_best_needle_is_the_perpendicular(toy_patient: Any) -> None:
    found = find_paths(*slab(toy_patient), routes=[BACK], needles=[THIN], count=1)
    best = found.options[0]
    assert best.entry_mm == pytest.approx([0.0, 39.5, 0.0], abs=1.0)
    assert best.target_mm[[0, 2]] == pytest.approx(best.entry_mm[[0, 2]], abs=1.0)
    assert best.cortex_angle_deg < 2.0
    assert best.bone_length_mm == pytest.approx(-best.target_mm[1], abs=0.3)
    assert best.depth_mm - best.bone_length_mm == pytest.approx(39.5, abs=0.3)


def test_the_only_hole_in_a_barrier_is_found(
    toy_patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aims, "PAIRS", 1_000_000)
    hole = np.array([9.5, 20.0, -7.5])

    def sheet(x: Any, y: Any, z: Any) -> Any:
        return (abs(y - 20) < 2) & ((x - hole[0]) ** 2 + (z - hole[2]) ** 2 > 7.5**2)

    found = find_paths(*slab(toy_patient, {"aorta": sheet}), routes=[BACK], needles=[THIN], count=1)
    path = found.options[0].path
    at_sheet = path.start_mm + (20 - path.start_mm[1]) / path.direction[1] * path.direction
    # 5 mm of limit and 1 mm of needle leave 1.5 mm about the middle of the hole.
    assert np.linalg.norm(at_sheet - hole) < 2.0


def test_a_hole_too_small_for_the_limit_is_refused_and_the_structure_named(
    toy_patient: Any,
) -> None:
    def sheet(x: Any, y: Any, z: Any) -> Any:
        return (abs(y - 20) < 2) & (x**2 + z**2 > 5.0**2)

    found = find_paths(*slab(toy_patient, {"aorta": sheet}), routes=[BACK], needles=[THIN])
    (refusal,) = found.refusals
    assert not found.options
    assert "closer than 5 mm to the aorta" in refusal.reason
    assert max(refusal.stopped_by, key=lambda k: refusal.stopped_by[k]) == "aorta"
    assert sum(refusal.stopped_by.values()) == refusal.candidates == found.candidates


def brute_force(anatomy: Any, route: Route, entries: Any, targets: Any, middle: Any) -> Any:
    """Cost of every needle in plain NumPy from exact shapes: flat bone, ball-shaped obstacle."""
    radius, ball, size = THIN.radius_mm, np.array([0.0, 20.0, 0.0]), 6.0
    weight = load("routes")
    a, b = entries[:, None], targets[None]
    u = b - a
    depth = np.linalg.norm(u, axis=-1)
    t = np.clip(np.sum((ball - a) * u, -1) / depth**2, 0, 1)
    near = np.linalg.norm(a + t[..., None] * u - ball, axis=-1) - size - radius
    cosine = np.abs(u[..., 1]) / depth
    bone = np.abs(b[..., 1]) / cosine
    angle = np.degrees(np.arccos(cosine))
    limit, wanted = 60.0, 30.0
    spare = (near - float(limits.margin("aorta"))) / float(weight["margin_comfort"])
    tilt = np.degrees(np.arcsin(np.abs(u[..., 2]) / depth))
    cost = (
        float(weight["cost_outside"]) * (depth - bone) / 100
        + float(weight["cost_angle"]) * np.maximum(angle - wanted, 0) / (limit - wanted)
        + float(weight["cost_margin"]) * np.clip(1 - spare, 0, 1)
        + float(weight["cost_depth"]) * depth / 100
        + float(weight["cost_tilt"]) * tilt / 30
        + float(weight["cost_target"]) * np.linalg.norm(b - middle, axis=-1) / 10
    )
    cone = np.cos(np.radians(route.cone_deg))
    allowed = (near >= float(limits.margin("aorta"))) & (cosine >= cone) & (tilt <= 30)
    return np.where(allowed, cost, np.inf)


def test_past_an_obstacle_the_search_finds_what_brute_force_finds(toy_patient: Any) -> None:
    def sphere(x: Any, y: Any, z: Any) -> Any:
        return x**2 + (y - 20) ** 2 + z**2 < 6.0**2

    ct, anatomy, lesion = slab(toy_patient, {"aorta": sphere})
    found = find_paths(ct, anatomy, lesion, routes=[BACK], needles=[THIN], count=1)
    problem = aims.Problem.of(anatomy, lesion, [THIN], ct=ct)
    (aim,) = aims.aims(problem, [BACK])
    cost = brute_force(anatomy, BACK, aim.entries_mm, aim.targets_mm, aim.middle_mm)
    best = found.options[0]
    # The labels are voxels, the formulas are not: half a millimetre of margin is a third of cost.
    assert best.cost == pytest.approx(cost.min(), abs=0.12)
    assert np.linalg.norm(best.entry_mm[[0, 2]]) > 15.0  # it goes round the ball
    (skin,) = found.skin
    brute_map = cost.min(axis=1)
    both = np.isfinite(brute_map) & np.isfinite(skin.cost)
    assert np.mean(np.isfinite(brute_map) == np.isfinite(skin.cost)) > 0.97
    assert np.abs(brute_map[both] - skin.cost[both]).mean() < 0.08


# --- a vertebra ----------------------------------------------------------------------------------


def test_a_vertebra_gets_needles_through_both_pedicles(plain: Any) -> None:
    *_, found = plain
    assert found.candidates >= 1_000_000
    assert {"transpedicular left", "transpedicular right"} <= {
        o.route.replace("bipedicular", "transpedicular") for o in found.options
    }
    assert all(o.verdict is not Gravity.STOP for o in found.options)
    assert [o.cost for o in found.options] == sorted(o.cost for o in found.options)


def test_every_margin_equals_the_slow_routine_to_a_tenth(plain: Any, slow_distance: Any) -> None:
    _, anatomy, _, found = plain
    checked = 0
    for option in found.options[:3]:
        for margin in option.margins:
            if margin.structure in anatomy.structures:
                mask = anatomy.structures[margin.structure]
                slow = slow_distance(mask, option.entry_mm, option.target_mm)
                assert margin.distance_mm == pytest.approx(slow - option.needle.radius_mm, abs=0.1)
                assert margin.distance_mm >= margin.required_mm
                checked += 1
    assert checked == 15


def test_a_pedicle_needle_stays_inside_its_pedicle(plain: Any) -> None:
    _, anatomy, _, found = plain
    one = next(o for o in found.options if "pedicular" in o.route)
    region = anatomy.regions["pedicle_left" if "left" in one.route else "pedicle_right"]
    axis = one.path.at_mm(np.arange(0.0, one.depth_mm, 0.25))
    within = axis[region.holds(axis)]
    assert len(within) * 0.25 > 5.0
    # Box pedicles 11 mm wide about x = 16.5: free bone on the narrower side of the needle.
    free = 5.5 - np.abs(np.abs(within[:, 0]) - 16.5) - one.needle.radius_mm
    assert one.corridor_clearance_mm is not None
    assert 0.5 <= one.corridor_clearance_mm <= free.max() + 0.6


def test_two_needles_make_a_bipedicular_set(plain: Any) -> None:
    *_, found = plain
    (first, *_) = needle_sets(found.options, 2)
    assert first.name == "bipedicular"
    tips = [found.options[i].target_mm for i in first.members]
    assert first.tip_spacing_mm == pytest.approx(np.linalg.norm(tips[0] - tips[1]))
    assert 10.0 <= first.tip_spacing_mm <= 20.0
    assert first.shaft_spacing_mm > 1.0


def test_the_search_is_repeated_to_the_last_digit_and_the_seed_moves_only_the_chance(
    plain: Any,
) -> None:
    ct, anatomy, lesion, _ = plain
    route = routes_for(anatomy.site)[:1]
    a, b = (find_paths(ct, anatomy, lesion, routes=route, seed=3).options[0] for _ in range(2))
    c = find_paths(ct, anatomy, lesion, routes=route, seed=4).options[0]
    assert np.array_equal(a.entry_mm, b.entry_mm)
    assert (a.cost, a.breach_probability) == (b.cost, b.breach_probability)
    assert np.array_equal(a.entry_mm, c.entry_mm)
    assert a.breach_probability != c.breach_probability


def test_a_mirrored_patient_gets_the_mirrored_needle(plain: Any, toy_vertebra: Any) -> None:
    ct, anatomy, lesion, _ = plain
    other = toy_vertebra(mirrored=True)
    left, right = routes_for(anatomy.site)[:2]
    one = find_paths(ct, anatomy, lesion, routes=[left], count=1).options[0]
    two = find_paths(*other, routes=[right], count=1).options[0]
    assert two.cost == pytest.approx(one.cost, abs=1e-4)
    for a, b in ((one.entry_mm, two.entry_mm), (one.target_mm, two.target_mm)):
        assert b[0] == pytest.approx(-a[0], abs=1e-6)
        assert b[1] == pytest.approx(a[1], abs=1e-6)


def test_a_needle_made_by_hand_gets_the_same_numbers(plain: Any) -> None:
    _, anatomy, lesion, found = plain
    option = next(o for o in found.options if o.route.startswith("transpedicular"))
    route = next(r for r in routes_for(anatomy.site) if r.name == option.route)
    hand = score_path(
        anatomy,
        lesion,
        entry_mm=option.entry_mm,
        target_mm=option.target_mm,
        needle=option.needle,
        route=route,
    )
    # To the last digit: the maps are those of the anatomy, not of the needles that are looked at.
    assert {m.structure: m.distance_mm for m in hand.margins} == {
        m.structure: m.distance_mm for m in option.margins
    }
    assert hand.cost == option.cost
    assert hand.breach_probability == option.breach_probability
    assert hand.contact_probability == option.contact_probability
    assert hand.verdict is option.verdict
    assert (hand.made_by, option.made_by) == ("hand", "search")


def test_the_wall_beyond_the_tip_is_seen_however_short_the_needle(toy_patient: Any) -> None:
    _, anatomy, lesion = slab(toy_patient)
    made = score_path(
        anatomy,
        lesion,
        entry_mm=np.array([0.0, 20.0, 0.0]),
        target_mm=np.array([0.0, -13.0, 0.0]),
        needle=THIN,
        route=BACK,
    )
    # Bone ends 17 mm further on; 20 mm is as far as is looked.
    ahead = next(m.distance_mm for m in made.margins if m.structure == "far_wall")
    assert ahead == pytest.approx(17.0, abs=0.6)


def test_a_needle_through_the_canal_is_scored_and_stopped(plain: Any) -> None:
    _, anatomy, lesion, _ = plain
    route = routes_for(anatomy.site)[0]
    made = score_path(
        anatomy,
        lesion,
        entry_mm=np.array([0.0, 69.0, 0.0]),
        target_mm=np.array([0.0, -2.0, 0.0]),
        needle=needle(11, 100),
        route=route,
    )
    margin = {m.structure: m for m in made.margins}["spinal_canal"]
    assert margin.distance_mm == pytest.approx(-3.05 / 2)
    assert margin.verdict == "stop"
    assert made.verdict is Gravity.STOP
    assert made.breach_probability == made.contact_probability == 1.0
    assert any("does not run through" in f.message for f in made.findings)


@pytest.mark.parametrize("wall_mm", [3.0, 4.0, 6.0])
def test_chances_beside_a_flat_wall_are_those_of_the_normal_tail(
    toy_patient: Any, monkeypatch: pytest.MonkeyPatch, wall_mm: float
) -> None:
    """A needle along y beside an artery that fills x > wall: contact, and passing its limit."""
    values: Any = load("routes").values
    straight = replace(values["placement_angle"], mean=0.0, low=None, high=None)
    monkeypatch.setitem(values, "placement_angle", straight)  # a pure shift has a closed form
    _, anatomy, lesion = slab(toy_patient, {"aorta": lambda x, y, z: x > wall_mm})
    made = score_path(
        anatomy,
        lesion,
        entry_mm=np.array([0.0, 39.0, 0.0]),
        target_mm=np.array([0.0, -15.0, 0.0]),
        needle=THIN,
        route=BACK,
    )
    error, limit = float(limits.value("placement_error")), float(limits.margin("aorta"))

    def tail(distance_mm: float) -> float:
        return 0.5 * (1 - erf(distance_mm / error / sqrt(2)))

    assert made.contact_probability == pytest.approx(tail(wall_mm - THIN.radius_mm), abs=0.03)
    assert made.breach_probability == pytest.approx(
        tail(wall_mm - THIN.radius_mm - limit), abs=0.03
    )
    low, high = made.contact_interval
    assert low <= made.contact_probability <= high


def test_a_needle_from_outside_the_image_is_a_stop_and_not_an_error(plain: Any) -> None:
    _, anatomy, lesion, _ = plain
    made = score_path(
        anatomy,
        lesion,
        entry_mm=np.array([0.0, 900.0, 0.0]),
        target_mm=np.array([0.0, -2.0, 0.0]),
        needle=needle(11, 100),
        route=routes_for(anatomy.site)[0],
    )
    said = [f.message for f in made.findings if f.gravity is Gravity.STOP]
    assert any("outside the image" in m for m in said)
    assert any("skin to tip" in m for m in said)


# --- what is refused, and why --------------------------------------------------------------------


def test_a_pedicle_too_narrow_is_refused_with_its_width(toy_vertebra: Any) -> None:
    ct, anatomy, lesion = toy_vertebra(pedicle_mm=3.0)
    routes = [r for r in routes_for(anatomy.site) if r.name == "transpedicular left"]
    (refusal,) = find_paths(ct, anatomy, lesion, routes=routes).refusals
    assert refusal.reason.startswith("the left pedicle is ")
    assert "the thinnest needle in stock (13 G) needs 3.4 mm" in refusal.reason


def test_skin_outside_the_image_is_said(toy_vertebra: Any) -> None:
    ct, anatomy, lesion = toy_vertebra()
    full = Mask(grid=anatomy.grid, values=np.ones(anatomy.grid.shape, bool))
    found = find_paths(ct, replace(anatomy, body=full), lesion)
    assert not found.options
    assert all("skin on that side is outside the image" in r.reason for r in found.refusals)


def test_padding_beyond_the_field_of_view_is_no_skin(plain: Any) -> None:
    ct, anatomy, lesion, _ = plain
    padded = replace(ct, values=np.where(anatomy.body.values, ct.values, -3024))
    found = find_paths(padded, anatomy, lesion)
    assert not found.options
    assert all("skin" in r.reason for r in found.refusals)


def test_a_route_whose_corridor_was_not_found_is_refused(toy_vertebra: Any) -> None:
    ct, anatomy, lesion = toy_vertebra()
    regions = {k: v for k, v in anatomy.regions.items() if k != "pedicle_left"}
    routes = routes_for(anatomy.site)[:2]
    found = find_paths(ct, replace(anatomy, regions=regions), lesion, routes=routes)
    why = {r.route: r.reason for r in found.refusals}
    assert "left pedicle" in why["transpedicular left"]
    assert "not identified" in why["transpedicular left"]
    assert any(o.route == "transpedicular right" for o in found.options)


def test_a_neck_without_carotid_is_refused_and_says_so(toy_vertebra: Any) -> None:
    ct, anatomy, lesion = toy_vertebra()
    found = find_paths(ct, replace(anatomy, site=Site.parse("C5")), lesion)
    assert not found.options
    assert all("carotid was not identified" in r.reason for r in found.refusals)


def test_a_site_without_any_route_says_so(toy_vertebra: Any) -> None:
    ct, anatomy, lesion = toy_vertebra()
    found = find_paths(ct, replace(anatomy, site=Site.parse("C1")), lesion)
    assert (found.options, found.refusals) == ((), ())
    assert [str(f) for f in found.findings] == [
        "there is no route for C1: give a route of your own"
    ]


def test_a_lesion_outside_the_bone_is_refused(toy_vertebra: Any, make_lesion: Any) -> None:
    ct, anatomy, _ = toy_vertebra()
    values = np.zeros(anatomy.grid.shape, bool)
    values[50, 80, 30] = True
    lesion = make_lesion(Mask(grid=anatomy.grid, values=values), anatomy.site)
    found = find_paths(ct, anatomy, lesion)
    assert all("outline of the bone" in r.reason for r in found.refusals)


# --- what is not known ---------------------------------------------------------------------------


def said(one: Trajectory) -> dict[str, Gravity]:
    return {f.values["what"]: f.gravity for f in one.findings if "identified" in f.message}


def test_an_unknown_canal_stops_every_needle_until_the_user_accepts_it(toy_vertebra: Any) -> None:
    ct, anatomy, lesion = toy_vertebra(without=("spinal_canal",), missing=("spinal_canal",))
    found = find_paths(ct, anatomy, lesion, routes=routes_for(anatomy.site)[:2])
    assert found.options
    assert all(o.verdict is Gravity.STOP for o in found.options)
    assert said(found.options[0]) == {"spinal_canal": Gravity.STOP}
    assert needle_sets(found.options, 2) == ()
    taken = find_paths(
        ct,
        anatomy,
        lesion,
        routes=routes_for(anatomy.site)[:1],
        accept_unknown=("spinal_canal",),
    )
    assert said(taken.options[0]) == {"spinal_canal": Gravity.CAUTION}
    assert taken.options[0].verdict is Gravity.CAUTION


def test_an_unknown_vessel_is_a_caution_and_an_unknown_nerve_a_stop(toy_vertebra: Any) -> None:
    ct, anatomy, lesion = toy_vertebra(
        without=("inferior_vena_cava", "foramen_left"),
        missing=("inferior_vena_cava", "foramen_left", "urinary_bladder"),
    )
    found = find_paths(ct, anatomy, lesion, count=1, routes=routes_for(anatomy.site)[:1])
    assert said(found.options[0]) == {
        "inferior_vena_cava": Gravity.CAUTION,
        "foramen_left": Gravity.STOP,
    }
    assert [f.values["what"] for f in found.findings] == ["urinary_bladder"]


def test_a_canal_nobody_speaks_of_is_unknown_too(toy_vertebra: Any) -> None:
    ct, anatomy, lesion = toy_vertebra(without=("spinal_canal",))
    found = find_paths(ct, anatomy, lesion, count=1, routes=routes_for(anatomy.site)[:1])
    assert said(found.options[0]) == {"spinal_canal": Gravity.STOP}


def test_metal_in_the_way_is_not_planned_through(plain: Any) -> None:
    ct, anatomy, lesion, found = plain
    first = next(o for o in found.options if o.route == "transpedicular left")
    grid = anatomy.grid
    points = grid.to_world(np.argwhere(np.ones(grid.shape, bool)))
    screw = (first.path.distance_mm(points) < 2.0).reshape(grid.shape) & anatomy.bone.values
    route = [r for r in routes_for(anatomy.site) if r.name == first.route]
    cast = replace(
        anatomy, structures={**anatomy.structures, "metal": Mask(grid=grid, values=screw)}
    )
    again = find_paths(ct, cast, lesion, routes=route)
    for option in again.options:
        metal = next(m for m in option.margins if m.structure == "metal")
        assert metal.distance_mm >= metal.required_mm
    assert again.options or "metal" in again.refusals[0].stopped_by


# --- needles, sets, the door ---------------------------------------------------------------------


def test_the_thickest_needle_that_fits_is_taken_in_the_shortest_length_that_reaches(
    plain: Any, toy_vertebra: Any
) -> None:
    *_, found = plain
    wide = next(o for o in found.options if o.route.startswith("transpedicular"))
    ct, anatomy, lesion = toy_vertebra(pedicle_mm=6.5)
    narrow = find_paths(ct, anatomy, lesion, count=1, routes=routes_for(anatomy.site)[:4])
    thin = narrow.options[0].needle
    assert thin.outer_mm < wide.needle.outer_mm
    for option in (*found.options, *narrow.options):
        shorter = [
            n.length_mm for n in stock_for(anatomy.site) if n.length_mm < option.needle.length_mm
        ]
        assert option.needle.length_mm >= option.depth_mm
        assert all(length < option.depth_mm for length in shorter)


def test_shafts_that_cross_and_tips_too_near_make_no_set(plain: Any) -> None:
    *_, found = plain
    one = found.options[0]
    across = np.array([1.0, 0, 0])
    near = replace(one, entry_mm=one.entry_mm + 5 * across, target_mm=one.target_mm + 5 * across)
    apart = replace(one, entry_mm=one.entry_mm + 12 * across, target_mm=one.target_mm + 12 * across)
    # Tips 12 mm apart as they should be, but the shafts cross half way.
    crossing = replace(one, entry_mm=one.entry_mm + 24 * across)
    supine = replace(apart, position="supine")
    assert needle_sets([one, near]) == ()
    assert needle_sets([one, supine]) == ()
    assert [s.members for s in needle_sets([one, apart])] == [(0, 1)]
    assert needle_sets([apart, crossing]) == ()
    with pytest.raises(InputError):
        needle_sets([one, apart], 1)


def test_wrong_orders_are_refused_in_words(plain: Any) -> None:
    ct, anatomy, lesion, _ = plain
    with pytest.raises(InputError, match="at least 1"):
        find_paths(ct, anatomy, lesion, count=0)
    with pytest.raises(InputError, match="no needle"):
        find_paths(ct, anatomy, lesion, needles=[])
    with pytest.raises(InputError, match="'straight'"):
        find_paths(ct, anatomy, lesion, routes=[BACK, BACK])


def test_gas_inside_the_body_and_the_edge_of_the_image_are_no_skin() -> None:
    grid = Grid.from_spacing((30, 30, 30), (1, 1, 1))
    values = np.zeros(grid.shape, bool)
    values[:, :20, :] = True
    values[10:15, 5:10, 10:15] = False  # gas
    skin = scene.skin(Mask(grid=grid, values=values))
    assert set(skin[:, 1]) == {19}
    assert len(skin) == 900
