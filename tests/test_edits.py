"""Edits of a planned case: a lesion outlined, a needle dragged, a plan changed and compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from trocar import pathway, phantom
from trocar.errors import InputError
from trocar.io import exact
from trocar.io.exact import fingerprint
from trocar.io.exports import write_plan
from trocar.io.plans import keep_plan, read_plan
from trocar.io.volumes import read_scan
from trocar.model.case import Finding, Gravity
from trocar.model.plan import Margin, Refusal, Trajectory
from trocar.model.result import Scan
from trocar.model.space import Float, Mask
from trocar.pathway import Planned, edits
from trocar.pathway.ablation import ablate_lesion
from trocar.pathway.cement import cement_lesion, used_needles
from trocar.pathway.comparison import compared
from trocar.phantom import files
from trocar.planning.routes import routes_for
from trocar.planning.trajectory import needle_sets, same_needle, score_path
from trocar.report import words

COARSE_MM = (2.0, 1.6, 1.6)
ASIDE_MM = np.array([40.0, 0.0, 0.0])
BONES = ("vertebra_l3", "acetabulum", "femur")
SOME = ("vertebra_l3", "femur", pytest.param("acetabulum", marks=pytest.mark.slow))


@cache
def patient(name: str) -> phantom.Phantom:
    return phantom.make(name, spacing_mm=COARSE_MM)


@cache
def bare(name: str) -> Planned:
    """A synthetic patient's lesion, before any needle."""
    made = patient(name)
    scan = Scan(volume=made.ct, name=name, sha256="0" * 64)
    return edits.outlined(
        scan, made.site, labels=made.labels, lesion_mask=made.lesion, case_id="c1", seed=3
    )


@cache
def live(name: str) -> edits.Live:
    return edits.Live(bare(name))


@cache
def found(name: str = "vertebra_l3") -> Planned:
    """The same with what the search proposes."""
    return edits.searched(bare(name), seed=3)


def route(planned: Planned, name: str) -> Any:
    return next(r for r in routes_for(planned.plan.site) if r.name == name)


def by_hand(planned: Planned, one: Trajectory) -> Trajectory:
    """The same needle, by the function that anybody calls with a needle of their own."""
    return score_path(
        planned.anatomy,
        planned.lesion,
        entry_mm=one.entry_mm,
        target_mm=one.target_mm,
        needle=one.needle,
        route=route(planned, one.route),
        seed=3,
    )


@st.composite
def needles(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Any needle near the lesion: into the air, through the canal, too long, out of the image."""
    number = st.floats(-1.0, 1.0)
    way = np.array([draw(number), draw(number), draw(number)])
    if np.linalg.norm(way) < 0.1:
        way = np.array([0.0, 1.0, 0.0])
    shift = 25.0 * np.array([draw(number), draw(number), draw(number)])
    target = bare(name).lesion.mask.centroid_mm + shift
    entry = target + draw(st.floats(5.0, 190.0)) * way / np.linalg.norm(way)
    stock = live(name).stock
    return {
        "entry_mm": entry,
        "target_mm": target,
        "gauge": draw(st.sampled_from([None, *sorted({n.gauge for n in stock})])),
        "length_mm": draw(st.sampled_from([None, *sorted({n.length_mm for n in stock})])),
        "route": draw(st.sampled_from([None, *live(name).routes])),
    }


def drawn(data: st.DataObject, name: str) -> tuple[dict[str, Any], Trajectory]:
    asked = data.draw(needles(name))
    return asked, live(name).measure(**asked)


# --- the same digits ----------------------------------------------------------------------------


def equals_the_library(data: st.DataObject, name: str) -> None:
    asked, one = drawn(data, name)
    assert fingerprint(one) == fingerprint(by_hand(bare(name), one))
    assert asked["gauge"] in (None, one.needle.gauge)
    assert asked["length_mm"] in (None, one.needle.length_mm)
    assert asked["route"] in (None, one.route)
    assert one.made_by == "hand"


@pytest.mark.parametrize("name", SOME)
@settings(max_examples=2)
@given(data=st.data())
def test_a_needle_under_the_mouse_has_the_digits_of_the_library(
    name: str, data: st.DataObject
) -> None:
    equals_the_library(data, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", BONES)
@settings(max_examples=20)
@given(data=st.data())
def test_a_needle_under_the_mouse_has_the_digits_of_the_library_however_it_lies(
    name: str, data: st.DataObject
) -> None:
    equals_the_library(data, name)


def as_proposed(one: Trajectory, proposal: Trajectory) -> Trajectory:
    """Without what only the search says of a needle."""
    return replace(one, made_by="search", reason=proposal.reason)


@pytest.mark.parametrize(
    "name",
    [
        "vertebra_l3",
        pytest.param("acetabulum", marks=pytest.mark.slow),
        pytest.param("femur", marks=pytest.mark.slow),
    ],
)
def test_a_proposal_that_is_touched_does_not_change_its_digits(name: str) -> None:
    # The search looks at a million needles on these maps, the mouse at one.
    for proposal in found(name).plan.options:
        one = live(name).measure(
            entry_mm=proposal.entry_mm, target_mm=proposal.target_mm, route=proposal.route
        )
        assert one.needle == proposal.needle
        assert fingerprint(as_proposed(one, proposal)) == fingerprint(proposal)
        assert proposal.reason.startswith(one.reason.rstrip("."))
        assert "thickest" in proposal.reason
        assert "thickest" not in one.reason  # a person need not say why


def test_a_case_that_was_kept_measures_the_same(tmp_path: Path) -> None:
    planned = bare("vertebra_l3")
    write_plan(tmp_path, planned.scan, planned.anatomy, planned.plan)
    keep_plan(tmp_path, planned.scan, planned.anatomy, planned.plan)
    told = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert told["needles"] == []
    assert told["searched"] is False
    kept = read_plan(tmp_path)
    assert fingerprint(kept.plan) == fingerprint(planned.plan)
    back = Planned(scan=planned.scan, anatomy=kept.anatomy, plan=kept.plan, views={})
    option = found().plan.options[0]
    there = {"entry_mm": option.entry_mm + 2.0, "target_mm": option.target_mm}
    one, other = edits.Live(back).measure(**there), live("vertebra_l3").measure(**there)
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.slow
def test_a_folder_without_needles_is_written_read_and_gone_on_from(tmp_path: Path) -> None:
    written = files.write(tmp_path / "patient", patient("vertebra_l3"))
    planned = replace(bare("vertebra_l3"), scan=read_scan(written["ct"]))
    pathway.write_case(tmp_path / "case", planned, ct=written["ct"], viewer=False)
    sheet = (tmp_path / "case" / "plan.html").read_text(encoding="utf-8")
    assert "No needle is planned yet." in sheet
    assert "No safe needle" not in sheet
    back = pathway.read_case(tmp_path / "case")
    assert back.views == {}
    assert back.skin == ()
    assert not back.plan.searched
    assert fingerprint(back.plan) == fingerprint(planned.plan)
    option = found().plan.options[0]
    one = edits.Live(back).measure(entry_mm=option.entry_mm + 2.0, target_mm=option.target_mm)
    going = edits.with_needle(back, one)
    again = edits.relesioned(going, back.lesion.mask)
    assert again.plan.options[0].cost == one.cost
    assert [o.made_by for o in edits.searched(again, count=1).plan.options] == ["hand", "search"]
    assert len(edits.skin_of(again).points_mm) > 1000
    pathway.write_case(tmp_path / "case", going, ct=written["ct"], viewer=False)
    assert fingerprint(pathway.read_case(tmp_path / "case").plan) == fingerprint(going.plan)


# --- millimetres --------------------------------------------------------------------------------


def slow_distance(mask: Mask, start: Float, end: Float) -> float:
    """From points 0.1 mm apart on the axis to every voxel's box that can be the nearest."""
    grid = mask.grid
    half = np.asarray(grid.spacing_mm) / 2
    samples = np.linspace(0, 1, int(np.linalg.norm(end - start) / 0.1) + 2)[:, None]
    points = (start + samples * (end - start)) @ grid.axes
    boxes = grid.to_world(np.argwhere(mask.values)) @ grid.axes
    near, _ = cKDTree(boxes).query(points)
    reach = near.min() + 2 * np.linalg.norm(half)
    best = np.inf
    for point in points[near <= reach]:
        off = np.maximum(np.abs(boxes - point) - half, 0.0)
        best = min(best, float(np.sqrt((off**2).sum(axis=1).min())))
    return best


@pytest.mark.parametrize("name", SOME)
@settings(max_examples=2)
@given(data=st.data())
def test_every_margin_is_that_of_a_slow_look_at_every_voxel(name: str, data: st.DataObject) -> None:
    _, one = drawn(data, name)
    structures = bare(name).anatomy.structures
    told = {m.structure: m for m in one.margins}
    crossed = set(structures) - set(told)
    assert all(route(bare(name), one.route).passes(c) for c in crossed)
    for structure in set(structures) & set(told):
        slow = slow_distance(structures[structure], one.entry_mm, one.target_mm)
        # Decision 6: exact; the oracle's samples lie 0.1 mm apart.
        assert told[structure].distance_mm == pytest.approx(
            slow - one.needle.radius_mm, abs=0.06
        ), structure


def dragged(one: Trajectory, aim_mm: Float, asked: str | None) -> list[Trajectory]:
    """The tip drawn from where it is to a point, half a millimetre at a time."""
    way = aim_mm - one.target_mm
    steps = int(np.linalg.norm(way) / 0.5)
    return [
        live("vertebra_l3").measure(
            entry_mm=one.entry_mm,
            target_mm=one.target_mm + k / steps * way,
            gauge=one.needle.gauge,
            length_mm=one.needle.length_mm,
            route=asked,
        )
        for k in range(steps + 1)
    ]


@pytest.mark.parametrize(("side", "named"), [("left", True), ("left", False), ("right", False)])
def test_a_needle_dragged_towards_the_canal_stops_and_stays_stopped(side: str, named: bool) -> None:
    planned = found()
    start = next(o for o in planned.plan.options if o.route == f"transpedicular {side}")
    canal = planned.anatomy.structures["spinal_canal"].points_mm()
    # To the middle of the canal at the height at which the needle passes it.
    level = canal[np.abs(canal[:, 2] - start.bone_entry_mm[2]) < 2.0].mean(axis=0)
    seen = dragged(start, level, start.route if named else None)
    verdicts = [one.verdict for one in seen]
    margins = [
        next(m.distance_mm for m in one.margins if m.structure == "spinal_canal") for one in seen
    ]
    assert verdicts[0] is not Gravity.STOP
    assert verdicts[-1] is Gravity.STOP
    assert margins[-1] == pytest.approx(-start.needle.radius_mm)
    stop = verdicts.index(Gravity.STOP)
    assert set(verdicts[stop:]) == {Gravity.STOP}
    limit = next(m.required_mm for m in start.margins if m.structure == "spinal_canal")
    near = [one.verdict for one, margin in zip(seen, margins, strict=True) if margin < limit]
    assert near
    assert set(near) == {Gravity.STOP}


# --- which needle, which route ------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME)
@settings(max_examples=8)
@given(data=st.data())
def test_the_thickest_that_fits_in_the_shortest_that_reaches(
    name: str, data: st.DataObject
) -> None:
    asked = data.draw(needles(name)) | {"gauge": None, "length_mm": None}
    one = live(name).measure(**asked)

    def in_time(gauge: int) -> bool:
        """Whether a needle of this gauge keeps every limit to a structure."""
        other = live(name).measure(**asked | {"gauge": gauge, "route": one.route})
        known = bare(name).anatomy.structures
        return all(m.verdict != "stop" for m in other.margins if m.structure in known)

    stock = live(name).stock
    thinner = {n.gauge for n in stock if n.outer_mm < one.needle.outer_mm}
    # A thinner one is never taken for nothing, and no thicker one than the limits bear.
    assert in_time(one.needle.gauge) or not any(in_time(g) for g in thinner)
    same = sorted(n.length_mm for n in stock if n.gauge == one.needle.gauge)
    reaching = [length for length in same if length - 10.0 >= one.depth_mm]
    assert one.needle.length_mm == (reaching[0] if reaching else same[-1])


def test_a_needle_is_called_by_the_way_it_goes_in() -> None:
    for side in ("left", "right"):
        proposal = next(o for o in found().plan.options if o.route == f"transpedicular {side}")
        again = live("vertebra_l3").measure(
            entry_mm=proposal.entry_mm, target_mm=proposal.target_mm
        )
        assert again.route == proposal.route
    # Past the pedicle into the side of the body.
    body = bare("vertebra_l3").anatomy.regions["vertebral_body"].centroid_mm
    flank = live("vertebra_l3").measure(
        entry_mm=body + np.array([75.0, 55.0, 0.0]), target_mm=body + np.array([5.0, 0.0, 0.0])
    )
    assert flank.route == "posterolateral left"


def test_what_is_not_there_is_refused_in_one_sentence() -> None:
    one = live("vertebra_l3")
    ends: dict[str, Any] = {"entry_mm": [0.0, 80.0, 0.0], "target_mm": [0.0, 0.0, 0.0]}
    with pytest.raises(InputError, match=r"no needle of 7 gauge and 100 mm is in stock for L3"):
        one.measure(**ends, gauge=7, length_mm=100.0)
    with pytest.raises(InputError, match=r"no route 'nose' to the L3; give one of: transped"):
        one.measure(**ends, route="nose")
    with pytest.raises(InputError, match="three finite LPS mm"):
        one.measure(entry_mm=[0.0, np.nan, 0.0], target_mm=[0.0, 0.0, 0.0])
    with pytest.raises(InputError, match="no route 'nose'"):
        edits.skin_of(bare("vertebra_l3"), "nose")


# --- what nobody knows --------------------------------------------------------------------------


def without(planned: Planned, **parts: Any) -> Planned:
    return replace(planned, anatomy=replace(planned.anatomy, **parts))


def test_an_unknown_canal_stops_every_needle() -> None:
    planned = found()
    held = dict(planned.anatomy.structures)
    del held["spinal_canal"]
    blind = without(planned, structures=held, missing=("spinal_canal",))
    option = planned.plan.options[0]
    one = edits.Live(blind).measure(entry_mm=option.entry_mm, target_mm=option.target_mm)
    assert option.verdict is not Gravity.STOP
    assert one.verdict is Gravity.STOP
    assert "spinal_canal" in {f.values.get("what") for f in one.findings}
    assert fingerprint(one) == fingerprint(by_hand(blind, one))


def test_a_place_of_entry_that_was_not_identified_is_entered_by_no_needle() -> None:
    planned = found()
    regions = {n: m for n, m in planned.anatomy.regions.items() if n != "arch"}
    option = next(o for o in planned.plan.options if o.route == "transpedicular left")
    one = edits.Live(without(planned, regions=regions)).measure(
        entry_mm=option.entry_mm, target_mm=option.target_mm, route=option.route
    )
    assert one.verdict is Gravity.STOP
    assert "where this route does not enter it" in " ".join(str(f) for f in one.findings)


def test_a_needle_from_outside_of_the_image_stops() -> None:
    target = bare("femur").lesion.mask.centroid_mm
    one = live("femur").measure(entry_mm=target + np.array([300.0, 0.0, 0.0]), target_mm=target)
    assert "lies outside the image" in " ".join(str(f) for f in one.findings)
    assert one.verdict is Gravity.STOP


# --- a plan is begun ----------------------------------------------------------------------------


def test_a_lesion_is_outlined_before_any_needle() -> None:
    planned = bare("vertebra_l3")
    plan = planned.plan
    assert plan.options == plan.sets == plan.refusals == ()
    assert not plan.searched
    assert plan.best is None
    assert plan.run is not None
    assert (plan.run.command, plan.run.seed) == ("outline", 3)
    assert [f.gravity.rank for f in plan.findings] == sorted(f.gravity.rank for f in plan.findings)
    assert all(f in plan.findings for f in planned.anatomy.findings)
    for act in (ablate_lesion, lambda p: used_needles(p, 1)):
        with pytest.raises(InputError, match=r"no needle is planned in L3 yet, so .* set one"):
            act(planned)


def skins(maps: Any) -> list[str]:
    return [fingerprint((m.route, m.points_mm, m.cost, m.slack_mm)) for m in maps]


@pytest.mark.slow
def test_a_click_as_a_browser_sends_it_outlines_the_lesion() -> None:
    made = patient("vertebra_l3")
    scan = Scan(volume=made.ct, name="l3", sha256="0" * 64)
    click: Any = made.click_mm.tolist()
    planned = edits.outlined(scan, made.site, labels=made.labels, click_mm=click, case_id="c1")
    assert planned.lesion.found_by == "one click"
    assert bool(planned.lesion.mask.holds(made.click_mm))


@pytest.mark.slow
def test_the_search_of_an_outline_is_the_plan_of_the_whole() -> None:
    made = patient("vertebra_l3")
    scan = Scan(volume=made.ct, name="vertebra_l3", sha256="0" * 64)
    whole = pathway.plan_lesion(
        scan, made.site, labels=made.labels, lesion_mask=made.lesion, case_id="c1", seed=3
    )
    said = ("options", "sets", "refusals", "findings", "searched", "lesion", "site", "case_id")
    for name in said:
        assert fingerprint(getattr(found().plan, name)) == fingerprint(getattr(whole.plan, name))
    assert skins(found().skin) == skins(whole.skin)
    assert found().plan.run is not None
    assert found().plan.run.parameters["edit"] == "searched"


# --- a lesion is corrected ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_lesion_that_was_corrected_is_measured_again_with_its_needles() -> None:
    none = Refusal(route="posterolateral left", reason="too narrow", candidates=9)
    planned = replace(found(), plan=replace(found().plan, refusals=(none,)))
    grid = planned.scan.volume.grid
    wider = planned.lesion.mask.on(grid).values.copy()
    wider[:, :, 1:] |= wider[:, :, :-1]
    made = edits.relesioned(planned, Mask(grid=grid, values=wider))
    assert made.lesion.volume_ml > planned.lesion.volume_ml
    assert made.lesion.found_by == "corrected by hand"
    assert made.lesion.lesion_id == planned.lesion.lesion_id
    assert made.plan.run is not None
    assert made.plan.run.parameters["edit"].startswith("lesion corrected by hand to")
    for before, after in zip(planned.plan.options, made.plan.options, strict=True):
        assert (after.entry_mm == before.entry_mm).all()
        assert after.made_by == before.made_by
        there = by_hand(made, after)
        assert fingerprint(as_proposed(there, after)) == fingerprint(after)
    middles = [[o.cost_parts["target"] for o in p.plan.options] for p in (planned, made)]
    assert middles[0] != middles[1]
    assert made.plan.refusals == made.skin == ()


def test_a_lesion_that_stayed_as_it_was_leaves_every_needle_as_it_was() -> None:
    made = edits.relesioned(found(), found().lesion.mask)
    assert fingerprint(made.plan.options) == fingerprint(found().plan.options)
    assert fingerprint(made.plan.sets) == fingerprint(found().plan.sets)


def test_a_lesion_that_is_no_lesion_is_refused_in_one_sentence() -> None:
    grid = bare("vertebra_l3").scan.volume.grid
    with pytest.raises(InputError, match="the lesion mask is empty; give a mask"):
        edits.relesioned(bare("vertebra_l3"), Mask.empty(grid))
    aside = np.zeros(grid.shape, bool)
    aside[30, 100:104, 30:34] = True
    with pytest.raises(InputError, match=r"does not touch the L3 \(\d+ mm away\)"):
        edits.relesioned(found(), Mask(grid=grid, values=aside))


# --- needles are set ----------------------------------------------------------------------------


def edit_of(planned: Planned) -> str:
    assert planned.plan.run is not None
    return str(planned.plan.run.parameters["edit"])


def test_needles_are_added_replaced_taken_out_and_put_first() -> None:
    planned = replace(found(), views={k: (k,) for k in range(6)})  # type: ignore[misc]
    before = fingerprint(planned.plan)
    a, *_ = options = planned.plan.options
    one = live("vertebra_l3").measure(entry_mm=a.entry_mm + 3.0, target_mm=a.target_mm)
    more = edits.with_needle(planned, one)
    assert more.plan.options == (*options, one)
    assert more.views == planned.views
    assert edit_of(more).startswith("needle 7 added: transpedicular left, ")
    moved = edits.with_needle(planned, one, replacing=1)
    assert moved.plan.options == (a, one, *options[2:])
    assert 1 not in moved.views
    assert edit_of(moved).startswith("needle 2 replaced: ")
    assert "made by hand" in edit_of(moved)
    fewer = edits.without_needle(planned, 0)
    assert fewer.plan.options == options[1:]
    assert fewer.views == {k - 1: (k,) for k in range(1, 6)}
    assert edit_of(fewer) == "needle 1 taken out"
    first = edits.preferred(planned, 3)
    assert first.plan.best is options[3]
    assert first.plan.options == (options[3], *options[:3], *options[4:])
    assert first.views[0] == (3,)
    assert first.views[1] == (0,)
    assert edit_of(first) == "needle 4 preferred"
    for made in (more, moved, fewer, first):
        assert fingerprint(made.plan.sets) == fingerprint(needle_sets(made.plan.options, 2))
        assert fingerprint(made.plan.findings) == fingerprint(planned.plan.findings)
        assert made.plan.run is not None
        assert made.plan.run.seed == 3
    assert fingerprint(planned.plan) == before


def test_sets_keep_their_number_of_needles() -> None:
    one = replace(needle_sets(found().plan.options, 2)[0], members=(0, 1, 2))
    three = replace(found(), plan=replace(found().plan, sets=(one,)))
    assert fingerprint(edits.preferred(three, 0).plan.sets) == fingerprint(
        needle_sets(found().plan.options, 3)
    )


def test_the_last_needle_taken_out_leaves_a_plan_that_says_nothing_about_routes() -> None:
    one = live("vertebra_l3").measure(entry_mm=[0.0, 90.0, 0.0], target_mm=[0.0, 0.0, 0.0])
    alone = edits.with_needle(bare("vertebra_l3"), one)
    assert alone.plan.best is one
    assert not edits.without_needle(alone, 0).plan.searched
    left = found()
    for _ in range(6):
        assert left.plan.searched
        left = edits.without_needle(left, 0)
    assert not left.plan.options
    assert not left.plan.searched


@pytest.mark.parametrize("index", [-1, 6, 70])
def test_a_needle_that_is_not_there_is_refused_plainly(index: int) -> None:
    option = found().plan.options[0]
    said = rf"there is no needle {index} in this plan of L3, which has 6 counted from 0; look"
    for act in (
        lambda: edits.without_needle(found(), index),
        lambda: edits.preferred(found(), index),
        lambda: edits.with_needle(found(), option, replacing=index),
    ):
        with pytest.raises(InputError, match=said):
            act()


def test_what_a_person_made_survives_a_search() -> None:
    best = found().plan.options[0]
    measure = live("vertebra_l3").measure
    mine = measure(entry_mm=best.entry_mm, target_mm=best.target_mm)
    bad = measure(entry_mm=best.entry_mm + ASIDE_MM, target_mm=best.target_mm)
    assert bad.verdict is Gravity.STOP
    assert mine.verdict is not Gravity.STOP
    planned = edits.with_needle(edits.with_needle(bare("vertebra_l3"), bad), mine)
    made = edits.searched(planned, seed=3)
    options = made.plan.options
    assert options[0] is mine
    assert options[-1] is bad
    proposals = options[1:-1]
    assert all(o.made_by == "search" for o in proposals)
    # The search's own best is the same needle, and does not stand there twice.
    wanted = [o for o in found().plan.options if not same_needle(o, mine)]
    assert len(proposals) == 6
    assert {fingerprint(o) for o in wanted} <= {fingerprint(o) for o in proposals}
    assert len(wanted) == 5
    again = edits.searched(made, count=1, seed=3).plan.options
    assert [o.made_by for o in again] == ["hand", "search", "hand"]


# --- where on the skin --------------------------------------------------------------------------


@pytest.mark.slow
def test_the_skin_map_is_made_again_as_the_search_made_it() -> None:
    assert skins(edits.skins_of(found())) == skins(found().skin)


@pytest.mark.parametrize(
    "make",
    [
        lambda _, name: live("vertebra_l3").skin(name),
        pytest.param(edits.skin_of, marks=pytest.mark.slow),
    ],
)
def test_the_skin_of_one_route_and_of_all(make: Callable[..., Any]) -> None:
    option = found().plan.options[0]
    one, whole = make(found(), option.route), make(found(), None)
    spot = int(np.argmin(np.linalg.norm(one.points_mm - option.entry_mm, axis=1)))
    assert np.linalg.norm(one.points_mm[spot] - option.entry_mm) < 1e-6
    assert one.cost[spot] == np.nanmin(one.cost) == pytest.approx(option.cost)
    assert one.verdicts[spot] in ("ok", "caution")
    assert set(one.verdicts[np.isnan(one.cost)]) == {"stop"}
    assert np.nanmin(whole.cost) == min(np.nanmin(m.cost) for m in found().skin)
    assert len(np.unique(np.round(whole.points_mm, 2), axis=0)) == len(whole.points_mm)
    best = [np.isfinite(m.cost).sum() for m in found().skin]
    assert max(best) <= np.isfinite(whole.cost).sum() <= sum(best)


def test_a_route_that_cannot_be_used_has_no_skin() -> None:
    regions = {n: m for n, m in found().anatomy.regions.items() if n != "pedicle_left"}
    none = edits.skin_of(without(found(), regions=regions), "transpedicular left")
    assert none.points_mm.shape == (0, 3)
    assert none.verdicts.shape == (0,)


# --- two plans ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_person_s_needle_takes_no_route_from_the_search() -> None:
    """However many of one's own there are, each route that has a needle keeps its best."""
    own = found().plan.options[0]
    aside = edits.Live(bare("vertebra_l3")).measure(
        entry_mm=own.entry_mm + np.array([0.0, 0.0, 14.0]), target_mm=own.target_mm
    )
    planned = bare("vertebra_l3")
    for _ in range(3):
        planned = edits.with_needle(planned, aside)
    # One's own needle stands for its route where it is the same as the best of it.
    routes = {o.route for o in edits.searched(planned, count=3).plan.options}
    alone = edits.searched(bare("vertebra_l3"), count=3)
    assert {o.route for o in alone.plan.options} <= routes


def unsafe() -> Planned:
    """A plan whose one needle goes through the canal."""
    planned = bare("vertebra_l3")
    canal = planned.anatomy.structures["spinal_canal"].centroid_mm
    tip = planned.lesion.mask.centroid_mm
    entry = tip + 110.0 * (canal - tip) / np.linalg.norm(canal - tip)
    one = edits.Live(planned).measure(entry_mm=entry, target_mm=tip)
    assert one.verdict is Gravity.STOP
    return edits.with_needle(planned, one)


@pytest.mark.slow
def test_a_needle_that_must_not_go_in_stops_what_goes_in_through_it() -> None:
    planned = unsafe()
    assert planned.plan.verdict == "stop"
    case = cement_lesion(planned, runs=2)
    assert case.plan.verdict == "stop"
    (rule,) = [r for r in case.plan.rules if r.rule == "way of the needle"]
    assert "第 1 針" in words.say(rule.finding, "zh-Hant")
    with pytest.raises(InputError, match="may go in as it lies"):
        ablate_lesion(planned, device="rf_10", place="search")


@pytest.mark.slow
def test_heat_along_a_needle_that_must_not_go_in_is_a_stop() -> None:
    case = ablate_lesion(
        unsafe(), device="rf_10", place="needle", applicators=1, seconds=30, interval=False
    )
    assert "way of the needle" in [r.rule for r in case.plan.rules if r.verdict == "stop"]


def test_the_verdict_of_a_plan_is_the_worst_of_needle_and_all_else() -> None:
    planned = found()
    assert planned.plan.best is not None
    wrong = Finding(gravity=Gravity.STOP, message="the level may be wrong")
    assert planned.plan.verdict != "stop"
    assert replace(planned.plan, findings=(wrong,)).verdict == "stop"
    assert replace(planned.plan, findings=(), options=()).verdict == "stop"
    assert replace(planned.plan, findings=(), options=(), searched=False).verdict == "unknown"


def lines(a: Planned, b: Planned) -> dict[str, Any]:
    """The first line of each name."""
    return {line.what: line for line in reversed(compared(a, b))}


def test_two_plans_are_held_side_by_side() -> None:
    one = found().plan.options[0]
    worse = live("vertebra_l3").measure(entry_mm=one.entry_mm + ASIDE_MM, target_mm=one.target_mm)
    other = edits.preferred(edits.with_needle(found(), worse), 6)
    told = lines(found(), other)
    assert (told["verdict"].a, told["verdict"].b, told["verdict"].better) == (
        "caution",
        "stop",
        "a",
    )
    assert told["depth"].a == one.depth_mm
    assert told["depth"].better == "a"
    assert (told["set"].a, told["set"].b) == ("by the search", "by hand")
    assert told["gauge"].better is None
    assert told["C-arm oblique"].a == one.c_arm.oblique_deg
    assert told["stop"].a == ()
    assert len(told["stop"].b) > 0
    assert told["stop"].better == "a"
    stops = [m.structure for m in worse.margins if m.verdict == "stop"]
    assert stops
    names = ", ".join(words.name(s, "en") for s in stops)
    assert words.say(told["stop"].b[0], "en") == f"Within the limit: {names}."
    known = {m.structure: m for m in one.margins}
    assert set(known) <= set(told)
    for name, margin in known.items():
        line = told[name]
        assert line.a == margin.distance_mm
        assert line.verdicts[0] == margin.verdict
        if line.better == "b":
            assert line.verdicts != ("ok", "ok")
            assert line.b > line.a
    mirrored = lines(other, found())
    swap = {"a": "b", "b": "a", None: None}
    assert {k: swap[v.better] for k, v in told.items()} == {k: mirrored[k].better for k in told}
    assert all(line.better is None for line in compared(found(), found()))


def test_what_stops_a_plan_is_told_first_and_one_thing_a_line() -> None:
    """A margin stops like a finding does, and a wrong level however good the needle is."""
    one = found().plan.options[0]
    close = Margin(structure="spinal_canal", distance_mm=0.5, required_mm=2.0, caution_mm=4.0)
    near = Margin(structure="aorta", distance_mm=3.0, required_mm=2.0, caution_mm=4.0)
    far = Margin(structure="left_kidney", distance_mm=30.0, required_mm=2.0, caution_mm=4.0)
    level = Finding(gravity=Gravity.STOP, message="The level may be wrong.")
    remarks = tuple(Finding(gravity=Gravity.CAUTION, message=f"Remark {n}.") for n in (1, 2, 3))
    good = replace(one, margins=(far,), findings=remarks[:1])
    bad = replace(one, margins=(far, near, close), findings=remarks[1:])

    def plan_of(needle: Trajectory, *findings: Finding) -> Planned:
        plan = replace(found().plan, options=(needle,), findings=findings)
        return replace(found(), plan=plan)

    a, b = plan_of(good), plan_of(bad, remarks[0])
    told = compared(a, b)
    assert [t.what for t in told[:6]] == ["verdict", "stop", *4 * ["caution"]]
    assert (told[0].a, told[0].b, told[0].better) == ("caution", "stop", "a")
    assert told[0].verdicts == ("caution", "stop")
    said = [
        tuple("; ".join(words.say(f, "en") for f in side) for side in (t.a, t.b)) for t in told[1:6]
    ]
    assert said == [
        ("", "Within the limit: spinal canal."), ("", "Near the limit: aorta."),
        ("Remark 1.", "Remark 1."), ("", "Remark 2."), ("", "Remark 3."),
    ]  # fmt: skip
    assert [t.better for t in told[1:6]] == ["a", "a", None, None, None]
    near_ones = [t.what for t in told if t.unit == "mm" and t.verdicts != (None, None)]
    assert near_ones == ["spinal_canal", "aorta", "left_kidney"]  # stop, caution, ok
    (stopped,) = (t for t in compared(a, plan_of(good, level)) if t.what == "stop")
    assert (stopped.a, stopped.b, stopped.better) == ((), (level,), "a")
    assert lines(a, plan_of(good, level))["verdict"].b == "stop"


def test_chances_differ_only_where_their_intervals_lie_apart() -> None:
    one = found().plan.options[0]

    def chance(value: float, low: float, high: float) -> Planned:
        moved = replace(one, contact_probability=value, contact_interval=(low, high))
        return edits.with_needle(found(), moved, replacing=0)

    few, some, many = chance(0.1, 0.09, 0.11), chance(0.11, 0.1, 0.12), chance(0.3, 0.28, 0.32)
    assert lines(few, some)["chance of contact"].better is None
    line = lines(few, many)["chance of contact"]
    assert (line.a, line.b, line.unit, line.better) == (10.0, 30.0, "%", "a")


def test_a_plan_without_a_needle_is_compared_and_one_of_another_bone_is_not() -> None:
    told = lines(bare("vertebra_l3"), found())
    assert told["depth"].a is None
    assert told["depth"].better is None
    assert told["depth"].b > 0
    with pytest.raises(InputError, match="one plan is of the L3, the other of the left femur"):
        compared(found(), bare("femur"))


def test_every_word_of_a_comparison_has_its_chinese() -> None:
    said = [line.what for line in compared(found(), found())]
    said += ["by hand", "by the search", *(o.route for o in found().plan.options)]
    plain = [w for w in said if words.fill("{w}", {"w": w}, "zh-Hant") in (w, words.english(w))]
    assert plain == []


# --- files --------------------------------------------------------------------------------------


def test_a_plan_kept_before_there_were_hands_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        new = ("made_by", "searched")
        then.setattr(exact, "fields", lambda v: [f for f in fields(v) if f.name not in new])
        exact.write_exact(tmp_path / "plan.npz", found().plan)
    back = exact.read_exact(tmp_path / "plan.npz")
    assert back.searched
    assert {o.made_by for o in back.options} == {"search"}
    assert fingerprint(back.options) == fingerprint(found().plan.options)


@pytest.mark.slow
def test_the_sheet_says_what_a_person_set_in_both_languages(tmp_path: Path) -> None:
    option = found().plan.options[0]
    one = live("vertebra_l3").measure(entry_mm=option.entry_mm, target_mm=option.target_mm)
    mine = edits.with_needle(bare("vertebra_l3"), one)
    for language, said in (
        ("en", ("set by hand", "not chosen by the search; measured like its needles")),
        ("zh-Hant", ("人手放置", "並非由程式搜尋選出")),
    ):
        page = pathway.write_case(tmp_path / language, mine, language=language, viewer=False)
        text = page["sheet"].read_text(encoding="utf-8")
        assert all(word in text for word in said)
    empty = pathway.write_case(tmp_path / "none", bare("femur"), language="zh-Hant", viewer=False)
    assert "尚未規劃穿刺針。" in empty["sheet"].read_text(encoding="utf-8")
