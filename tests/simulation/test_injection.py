"""Cement in a box of bone and in synthetic patients: balance, outlets, an operator's steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.facts.cement import cement
from trocar.facts.products import needle
from trocar.imaging.bone import read_anatomy
from trocar.imaging.lesion import find_lesion
from trocar.model.plan import CementNeedle, CementPlan
from trocar.model.result import Injection
from trocar.model.space import Segment
from trocar.phantom import make, walls
from trocar.simulation.injection import forecast_leaks, inject
from trocar.simulation.porous import Bed, Constants, read_bed

Make = Callable[..., Any]
WALLS = ["left", "right", "posterior", "anterior", "superior", "inferior"]


def states(result: Injection) -> list[str]:
    return [e.state for e in result.events]


# --- where it goes --------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    wall=st.sampled_from(WALLS),
    ml=st.floats(0.5, 9.0),
    kind=st.sampled_from(["low", "medium", "high"]),
    watch=st.booleans(),
)
def test_what_was_injected_is_in_the_bone_or_has_leaked(
    wall: str, ml: float, kind: str, watch: bool, make_bone: Make, make_plan: Make
) -> None:
    bed = read_bed(*make_bone("L3", hole=(wall,)))
    result = inject(bed, make_plan("L3", ml=(ml,), cement=kind), watch=watch)
    injected = result.injected_ml[-1]
    held = float(result.fill.fraction.values.sum(dtype=np.float64)) * bed.grid.voxel_ml
    assert result.fill.volume_ml == pytest.approx(injected, rel=1e-9)
    assert held == pytest.approx(injected, rel=1e-6)  # kept in 32 bits
    outside = sum(v[-1] for v in result.leaked_ml.values())
    assert result.in_bone_ml[-1] + outside == pytest.approx(injected, rel=1e-9)
    over = np.maximum(result.fill.fraction.values - bed.porosity, 0.0).sum() * bed.grid.voxel_ml
    assert over <= 0.01 * injected
    assert (np.diff(result.injected_ml) >= 0).all()
    assert (np.diff(result.age_s) >= 0).all()


def test_a_closed_bone_never_leaks(make_bone: Make, make_plan: Make) -> None:
    result = inject(read_bed(*make_bone()), make_plan(ml=(12.0,), latest_s=1e4))
    assert result.fill.leaks == ()
    assert result.fill.leaked_ml == 0.0
    assert "leak detected" not in states(result)


@pytest.mark.parametrize(
    ("wall", "compartment", "kind"),
    [
        ("left", "cortical lateral", "C"),
        ("right", "cortical lateral", "C"),
        ("anterior", "cortical anterior", "C"),
        ("posterior", "epidural or canal", "C"),
        ("superior", "disc superior", "D"),
        ("inferior", "disc inferior", "D"),
    ],
)
def test_a_hole_leaks_into_what_lies_before_it(
    wall: str, compartment: str, kind: str, make_bone: Make, make_plan: Make
) -> None:
    bone = make_bone("L3", hole=(wall,))
    plan = make_plan("L3", ml=(6.0,))
    clotted = Constants(vein_m2=1e-16)
    result = inject(read_bed(*bone), plan, watch=False, constants=clotted)
    assert [(k.compartment, k.kind) for k in result.fill.leaks] == [(compartment, kind)]
    assert result.fill.leaks[0].volume_ml > 0.1
    # With this hole closed and all else as it was, nothing leaves.
    closed = replace(bone[2], defects=())
    shut = inject(read_bed(bone[0], bone[1], closed), plan, watch=False, constants=clotted)
    assert sum(v[-1] for v in shut.leaked_ml.values()) < 0.01


def test_a_full_hollow_goes_before_a_leak_through_the_veins(
    make_bone: Make, make_plan: Make
) -> None:
    bed = read_bed(*make_bone("L3"))
    result = inject(bed, make_plan("L3", ml=(10.0,), latest_s=1e4), watch=False)
    leaked = np.sum(list(result.leaked_ml.values()), axis=0)
    first = int(np.argmax(leaked > 0.01))
    assert leaked[-1] > 0.01  # it does in the end
    assert result.in_lesion_ml[first] > 0.97 * bed.lesion.volume_ml  # type: ignore[union-attr]


def test_a_mirrored_bone_gets_the_mirrored_cement(make_bone: Make, make_plan: Make) -> None:
    left, right = (
        inject(
            read_bed(*make_bone("L3", hole=(wall,))),
            make_plan("L3", ml=(5.0,), tip_mm=(x, 0.5, 0.5)),
        )
        for wall, x in (("left", 0.5), ("right", -0.5))
    )
    mirrored = left.fill.fraction.values[:, :, ::-1]
    np.testing.assert_allclose(right.fill.fraction.values, mirrored, atol=2e-3)


def test_a_turned_bone_leaks_as_much(make_bone: Make, make_plan: Make) -> None:
    a = np.radians(30.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    plan = make_plan(ml=(5.0,))
    got = [
        inject(read_bed(*make_bone(hole=("left",), turn=t)), plan, watch=False)
        for t in (None, turn)
    ]
    straight, turned = (r.in_lesion_ml[-1] / r.injected_ml[-1] for r in got)
    assert turned == pytest.approx(straight, abs=0.02)
    straight, turned = (r.tip_pa[len(r.tip_pa) // 2] for r in got)
    assert turned == pytest.approx(straight, rel=0.1)


def test_the_order_of_filling_gives_the_fill_at_any_volume(
    make_bone: Make, make_plan: Make
) -> None:
    bed = read_bed(*make_bone())
    result = inject(bed, make_plan(ml=(6.0,)))
    pores = bed.porosity * bed.grid.voxel_ml
    for ml in (1.0, 2.0, 3.5, 5.0):
        filled = result.at_ml(ml).values  # full voxels: the front is on its way
        assert 0.8 * ml < float(pores[filled].sum()) <= ml
    assert not (result.at_ml(2.0).values & ~result.at_ml(5.0).values).any()
    shorter = inject(bed, make_plan(ml=(3.0,)))
    overlap = (shorter.fill.fraction.values > 0.4) & result.at_ml(3.0).values
    assert overlap.sum() > 0.95 * result.at_ml(3.0).values.sum()


def test_leaked_cement_falls_with_its_viscosity(make_bone: Make, make_plan: Make) -> None:
    bed = read_bed(*make_bone(hole=("left",)))
    leaked, thick = [], []
    for kind, minutes in (("low", 3.5), ("high", 3.5), ("high", 6.5), ("low", 9.5)):
        plan = make_plan(
            ml=(5.0,), cement=kind, start_s=60 * minutes, latest_s=1e4, pressure_limit_pa=5e7,
            gauge=8, rate_ml_s=0.1,
        )  # fmt: skip
        result = inject(bed, plan, watch=False)
        assert result.stopped_by == "planned volume"
        leaked.append(result.fill.leaked_ml)
        thick.append(plan.cement.viscosity_pa_s(60 * minutes, room_c=22.0))
    assert np.all(np.diff(thick) > 0)
    assert np.all(np.diff(leaked) < 0)
    assert leaked[0] > 1.2 * leaked[1]


# --- what an operator does ------------------------------------------------------------------------


def test_cement_in_the_canal_ends_the_injection(make_bone: Make, make_plan: Make) -> None:
    result = inject(read_bed(*make_bone("L3", hole=("posterior",))), make_plan("L3", ml=(8.0,)))
    assert result.stopped_by == "leak"
    assert states(result) == ["injecting", "leak detected", "finished"]
    assert result.events[1].compartment == "epidural or canal"
    assert 0.05 < result.fill.leaked_ml < 0.15  # seen at 0.05 ml
    assert result.fill.volume_ml < 8.0
    assert result.findings[0].gravity.value == "stop"
    assert "must stay free" in result.findings[0].message


def test_elsewhere_one_waits_for_the_leak_to_harden(make_bone: Make, make_plan: Make) -> None:
    plan = make_plan("L3", ml=(6.0,), latest_s=2000.0)
    result = inject(read_bed(*make_bone("L3", hole=("left",))), plan)
    assert states(result)[:4] == ["injecting", "leak detected", "waiting to harden", "resumed"]
    seen, wait, on = result.events[1:4]
    assert seen.injected_ml == wait.injected_ml == on.injected_ml
    assert 0 < on.age_s - wait.age_s <= 120.0
    # The plug holds: what hardened does not grow through the same way.
    unwatched = inject(read_bed(*make_bone("L3", hole=("left",))), plan, watch=False)
    assert result.fill.leaked_ml < 0.7 * unwatched.fill.leaked_ml


def test_when_waiting_is_over_the_needle_is_pulled_back_and_then_one_gives_up(
    make_bone: Make, make_plan: Make
) -> None:
    plan = make_plan("L3", ml=(9.0,), start_s=140.0, latest_s=170.0, rate_ml_s=0.5)
    result = inject(read_bed(*make_bone("L3", hole=("left", "right", "anterior"))), plan)
    seen = states(result)
    assert "waiting to harden" not in seen  # no time for that
    assert "repositioned" in seen
    moved = next(e for e in result.events if e.state == "repositioned")
    assert 3.0 <= moved.moved_mm <= 5.0
    assert result.stopped_by in ("leak", "working window")


def test_planned_pull_backs_happen_at_their_volume(make_bone: Make, make_plan: Make) -> None:
    plan = make_plan(ml=(4.0,), pull_backs=((1.5, 4.0), (3.0, 3.0)))
    result = inject(read_bed(*make_bone()), plan)
    moves = [e for e in result.events if e.state == "repositioned"]
    assert [m.injected_ml for m in moves] == pytest.approx([1.5, 3.0], abs=1e-6)
    assert [m.moved_mm for m in moves] == pytest.approx([4.0, 3.0], abs=0.5)
    assert result.fill.volume_ml == pytest.approx(4.0)


def test_needles_are_injected_one_after_the_other(make_bone: Make, make_plan: Make) -> None:
    result = inject(read_bed(*make_bone()), make_plan(ml=(2.0, 1.0)))
    begin = [e for e in result.events if e.state == "injecting"]
    assert [e.needle for e in begin] == [0, 1]
    assert begin[1].injected_ml == pytest.approx(2.0)
    assert result.fill.volume_ml == pytest.approx(3.0)


def test_the_working_window_ends_it(make_bone: Make, make_plan: Make) -> None:
    result = inject(read_bed(*make_bone()), make_plan(ml=(5.0,), start_s=400.0, latest_s=440.0))
    assert result.stopped_by == "working window"
    assert result.fill.volume_ml == pytest.approx(40.0 * 0.05, rel=0.02)
    assert any("too stiff after 2.0 of 5.0" in str(f) for f in result.findings)


def test_a_hand_gives_way_at_its_limit_and_stops_when_nothing_moves(
    make_bone: Make, make_plan: Make
) -> None:
    bed = read_bed(*make_bone())
    free = inject(bed, make_plan(ml=(3.0,)))
    limit = 0.6 * float(free.syringe_pa.max())
    held = inject(bed, make_plan(ml=(3.0,), pressure_limit_pa=limit))
    assert held.syringe_pa.max() <= limit * (1 + 1e-9)
    assert held.rate_ml_s.min() < 0.049
    assert 2.5 < held.fill.volume_ml < 3.0  # slower, so the cement's time ends it
    weak = inject(bed, make_plan(ml=(3.0,), pressure_limit_pa=2e3))
    assert weak.stopped_by == "pressure"
    assert weak.injected_ml[-1] < 0.01
    assert any("force was spent" in str(f) for f in weak.findings)


@pytest.mark.slow
def test_a_bone_that_is_full_takes_no_more(make_bone: Make, make_plan: Make) -> None:
    bed = read_bed(*make_bone())
    room = float((bed.porosity * bed.grid.voxel_ml)[bed.bone.values].sum())
    plan = make_plan(ml=(room + 5.0,), latest_s=1e5, pressure_limit_pa=1e12)
    result = inject(bed, plan)
    assert result.stopped_by == "no room"
    assert result.fill.volume_ml == pytest.approx(room, rel=0.02)


def test_a_needle_far_from_the_bone_is_refused(make_bone: Make, make_plan: Make) -> None:
    with pytest.raises(InputError, match="mm from the nearest open part of left femur"):
        inject(read_bed(*make_bone()), make_plan(tip_mm=(0.0, 60.0, 0.0)))


def test_what_is_unknown_is_said(make_bone: Make, make_plan: Make) -> None:
    ct, anatomy, _ = make_bone("L3", without=("spinal_canal",))
    bed = read_bed(ct, anatomy)
    assert inject(bed, make_plan("L3", ml=(1.0,))).fill.unknown == ("spinal_canal", "lesion")
    forecast = forecast_leaks(bed, make_plan("L3", ml=(1.0,)), runs=4)
    assert "spinal_canal" in forecast.unknown
    assert any("no volume is called safe" in f.message for f in forecast.findings)


# --- a forecast -----------------------------------------------------------------------------------


def test_a_forecast_is_the_same_for_a_seed_and_any_threads(
    make_bone: Make, make_plan: Make
) -> None:
    bed, plan = read_bed(*make_bone("L3", hole=("left",))), make_plan("L3", ml=(3.0,))
    one = forecast_leaks(bed, plan, runs=6, seed=3, threads=1)
    two = forecast_leaks(bed, plan, runs=6, seed=3, threads=2)
    other = forecast_leaks(bed, plan, runs=6, seed=4, threads=2)
    assert one.onset_ml.keys() == two.onset_ml.keys()
    for name, onset in one.onset_ml.items():
        np.testing.assert_array_equal(onset, two.onset_ml[name])
    np.testing.assert_array_equal(one.reached.values, two.reached.values)
    assert any((one.drawn[k] != other.drawn[k]).any() for k in one.drawn)


@pytest.mark.slow
def test_a_forecast_counts_leaks_by_compartment_and_volume(
    make_bone: Make, make_plan: Make
) -> None:
    bed = read_bed(*make_bone("L3", hole=("left",)))
    heard: list[float] = []
    plan = make_plan("L3", ml=(4.0,), high_ml=8.0)
    forecast = forecast_leaks(bed, plan, runs=16, progress=lambda _, share: heard.append(share))
    assert forecast.volume_ml == 8.0
    assert heard[-1] == 1.0
    assert heard == sorted(heard)
    lateral = forecast.onset_ml["cortical lateral"]
    assert np.isfinite(lateral).mean() > 0.5  # the hole is on this side
    assert (lateral[np.isfinite(lateral)] <= 8.0 + 1e-6).all()
    chance = forecast.chance(np.arange(0.0, 9.0), "cortical lateral")
    assert chance[0] == 0.0
    assert (np.diff(chance) >= 0).all()
    assert 0 <= forecast.reached.values.min() <= forecast.reached.values.max() <= 1
    # One of its runs alone, with its constants, leaks where the forecast says it does.
    worst = int(np.argmin(lateral))
    alone = Constants(
        off_mm=tuple(forecast.drawn[f"off_{a}_mm"][worst] for a in ("first", "second", "along")),  # type: ignore[arg-type]
        **{k: v[worst] for k, v in forecast.drawn.items() if not k.startswith("off_")},
    )
    run = inject(bed, replace(plan, needles=(replace(plan.needles[0], volume_ml=8.0),)),
                 constants=alone, watch=False)  # fmt: skip
    reached = np.interp(0.1, run.leaked_ml["cortical lateral"], run.injected_ml)
    assert reached == pytest.approx(lateral[worst], abs=0.25)


def test_a_forecast_of_one_run_is_refused(make_bone: Make, make_plan: Make) -> None:
    with pytest.raises(InputError, match="forecast of 1 runs"):
        forecast_leaks(read_bed(*make_bone()), make_plan(), runs=1)


# --- synthetic patients ---------------------------------------------------------------------------


def patient_bed(name: str, wall: str) -> tuple[Bed, Bed, CementPlan]:
    """The bone with a hole, the same with the hole closed, and a needle that points at it."""
    patient = make(name, defects=(wall,))
    anatomy = read_anatomy(patient.ct, patient.site, labels=patient.labels)
    lesion = find_lesion(patient.ct, anatomy, mask=patient.lesion)
    hole = max(lesion.defects, key=lambda d: d.area_mm2)
    tip = 0.4 * lesion.centre_mm + 0.6 * hole.centre_mm
    way = 0.9 * anatomy.axes.posterior + 0.44 * anatomy.axes.left
    made = cement("medium")
    start, end = made.window_s(room_c=22.0)
    plan = CementPlan(
        lesion_id="1",
        site=patient.site,
        cement=made,
        room_c=22.0,
        needles=(
            CementNeedle(
                needle=needle(8, 125.0),
                path=Segment(start_mm=tip + 80 * way, end_mm=tip),
                volume_ml=1.5 * lesion.volume_ml,
            ),
        ),
        rate_ml_s=0.1,
        start_s=start,
        latest_s=end,
        pressure_limit_pa=5e6,
        low_ml=1.0,
        high_ml=20.0,
    )
    bed = read_bed(patient.ct, anatomy, lesion)
    closed = read_bed(patient.ct, anatomy, replace(lesion, defects=()))
    return bed, closed, plan


HOLES = [
    (name, wall)
    for name in ("vertebra_l3", "acetabulum", "sacrum", "femur")
    for wall in walls(name)
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wall"), HOLES)
def test_a_patients_hole_leaks_and_nothing_else_does(name: str, wall: str) -> None:
    bed, closed, plan = patient_bed(name, wall)
    clotted = Constants(vein_m2=1e-16)
    with_hole = inject(bed, plan, watch=False, constants=clotted)
    without = inject(closed, plan, watch=False, constants=clotted)
    assert with_hole.fill.leaked_ml > 0.1
    assert without.fill.leaked_ml < 0.02
    expected = {
        "posterior wall": "epidural or canal", "anterior wall": "cortical anterior",
        "left lateral wall": "cortical lateral", "right lateral wall": "cortical lateral",
        "superior end plate": "disc superior", "inferior end plate": "disc inferior",
        "articular surface": "intra-articular",
    }  # fmt: skip
    if name != "vertebra_l3" and wall != "articular surface":
        expected = {wall: "soft tissue"}
    if wall in expected:
        assert max(with_hole.fill.leaks, key=lambda k: k.volume_ml).compartment == expected[wall]
