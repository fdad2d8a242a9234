"""An injection under the C-arm: exact, repeatable, and true of every frame."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import made_training as drawn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.facts import carm, tissue
from trocar.model.plan import CementNeedle
from trocar.model.result import Injection, InjectionEvent
from trocar.model.space import Grid, Mask, Volume
from trocar.simulation.cine import Cine, cement_at, cine, live_pictures, with_cement
from trocar.simulation.fluoroscopy import c_arm_view, chord_mm, path_mm, photons

MU = tissue.value("mu_water_70kev").mean
CEMENT = tissue.value("hu_cement").mean


def made(
    ct: Volume, injection: Injection, frames: int = 5, detector_px: int = 96, **how: object
) -> Cine:
    how = {"detector_mm": 150.0, **how}
    return cine(ct, injection, drawn.trajectory(), frames=frames, detector_px=detector_px, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scene() -> tuple[Volume, Injection]:
    ct, anatomy = drawn.scene()
    return ct, drawn.ball(anatomy)


# --- exact ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["same voxels", "other voxels", "edge of the CT", "sheared"])
def test_a_frame_is_the_picture_of_the_whole_ct_with_the_cement_in_it(
    scene: tuple[Volume, Injection], kind: str
) -> None:
    ct, injection = scene
    ct = replace(ct, values=ct.values + np.random.default_rng(1).integers(-90, 90, ct.grid.shape))
    ct = replace(ct, values=ct.values.astype(np.int16))
    if kind == "other voxels":
        grid = Grid.from_spacing((22, 101, 97), (3.7, 0.77, 0.8), (-37.0, -37.9, -38.3))
        ct = ct.on(grid)
    elif kind == "edge of the CT":
        ct = ct.crop((slice(30, 60), slice(0, 52), slice(20, 60)))
    elif kind == "sheared":
        affine = ct.grid.affine.copy()
        affine[1, 0] = 0.1
        ct = replace(ct, grid=Grid(shape=ct.grid.shape, affine=affine))
    shown, way = made(ct, injection), drawn.trajectory()
    for frame, age in enumerate(shown.age_s):
        whole = with_cement(ct, cement_at(injection, float(age)))
        for moving in shown.views:
            view = moving.view
            oracle = c_arm_view(
                whole, way.target_mm, oblique_deg=view.oblique_deg, cranial_deg=view.cranial_deg,
                position=way.position, detector_px=96, detector_mm=150.0,
            )  # fmt: skip
            found = moving.image(frame) - moving.metal[frame]
            np.testing.assert_allclose(found, oracle.image, rtol=1e-4, atol=1e-6)
    assert shown.views[0].cement(4).max() > 0.4


def test_cement_brightens_by_its_share_and_never_darkens() -> None:
    grid = Grid.from_spacing((1, 1, 4), (1, 1, 1))
    ct = Volume(grid=grid, values=np.array([[[0, 500, 3000, -1024]]], np.int16))
    share = Volume(grid=grid, values=np.array([[[0.5, 1.0, 1.0, 0.0]]], np.float32), unit="1")
    found = with_cement(ct, share).values
    np.testing.assert_allclose(found, [[[CEMENT / 2, CEMENT, 3000, -1024]]])


@pytest.mark.parametrize("frame", range(5))
def test_as_much_is_drawn_as_the_curves_say(scene: tuple[Volume, Injection], frame: int) -> None:
    ct, injection = scene
    shown = made(ct, injection)
    share = cement_at(injection, float(shown.age_s[frame]))
    ml = float(share.values.sum(dtype=np.float64)) * share.grid.voxel_ml
    assert ml == pytest.approx(drawn.ML_PER_S * (shown.age_s[frame] - drawn.START_S), abs=1e-4)
    assert shown.injected_ml[frame] == pytest.approx(ml, abs=1e-4)
    (leak,) = injection.fill.leaks
    out = float(share.values[leak.mask.values].sum(dtype=np.float64)) * share.grid.voxel_ml
    assert shown.leaked_ml[drawn.CANAL][frame] == pytest.approx(out, abs=1e-4)
    assert (out > 0.1) == (frame >= 2)


def test_cement_grows_from_the_tip_and_ends_as_the_record(
    scene: tuple[Volume, Injection],
) -> None:
    _, injection = scene
    ages = np.linspace(drawn.START_S, 240.0, 9)
    shares = [cement_at(injection, float(a)).values for a in ages]
    assert not shares[0].any()
    np.testing.assert_array_equal(shares[-1], injection.fill.fraction.values)
    for before, after in pairwise(shares):
        assert np.all(after >= before)
    grid = injection.fill.fraction.grid
    inside = grid.to_world(np.argwhere(shares[4] > 0.5))
    # 3 ml make a ball of 8.95 mm.
    assert np.linalg.norm(inside - drawn.TIP_MM, axis=1).max() == pytest.approx(8.95, abs=1.0)


def test_nothing_grows_while_the_operator_waits(scene: tuple[Volume, Injection]) -> None:
    _, injection = scene
    half = len(injection.age_s) // 2
    ages = injection.age_s.copy()
    stopped, ages[half:] = ages[half - 1], ages[half:] + 100.0
    at_ml = float(injection.injected_ml[half - 1])
    wait = [
        InjectionEvent(state=s, age_s=float(a), injected_ml=at_ml, needle=0)
        for s, a in (("waiting to harden", stopped), ("resumed", stopped + 100.0))
    ]  # type: ignore[arg-type]
    events = (injection.events[0], *wait, replace(injection.events[1], age_s=float(ages[-1])))
    waited = replace(injection, age_s=ages, events=events)
    parts = [cement_at(waited, float(stopped + s)).values for s in (0.0, 50.0, 99.9)]
    np.testing.assert_allclose(parts[1], parts[0], atol=1e-6)
    np.testing.assert_allclose(parts[2], parts[0], atol=1e-6)
    assert cement_at(waited, float(stopped + 110.0)).values.sum() > parts[0].sum() + 100


# --- the needle ----------------------------------------------------------------------------------


@given(
    st.tuples(*[st.floats(-30, 30)] * 3), st.tuples(*[st.floats(-30, 30)] * 3),
    st.floats(0.5, 5.0), st.tuples(*[st.integers(0, 7)] * 2),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_rods_chord_is_what_stepping_along_the_ray_finds(
    start: tuple[float, ...], end: tuple[float, ...], radius: float, pixel: tuple[int, int]
) -> None:
    a, b = np.asarray(start), np.asarray(end)
    if np.linalg.norm(b - a) < 2.0:
        return
    ct = Volume(grid=Grid.from_spacing((2, 2, 2), (1, 1, 1)), values=np.zeros((2, 2, 2), np.int16))
    view = c_arm_view(ct, (0, 0, 0), oblique_deg=20, cranial_deg=10, detector_px=8, detector_mm=90)
    there = view.detector_mm + pixel[0] * view.row_step_mm + pixel[1] * view.column_step_mm
    ray = (there - view.source_mm) / np.linalg.norm(there - view.source_mm)
    step = 0.005
    points = view.source_mm + np.arange(600.0, 800.0, step)[:, None] * ray
    along = (points - a) @ (b - a) / np.linalg.norm(b - a)
    across = np.linalg.norm(np.cross(points - a, (b - a) / np.linalg.norm(b - a)), axis=1)
    inside = (along >= 0) & (along <= np.linalg.norm(b - a)) & (across <= radius)
    assert chord_mm(view, a, b, radius)[pixel] == pytest.approx(inside.sum() * step, abs=0.03)


def test_down_the_barrel_the_ray_runs_through_the_whole_needle() -> None:
    ct, _ = drawn.scene()
    way = drawn.trajectory()
    view = c_arm_view(
        ct, way.target_mm, oblique_deg=way.c_arm.oblique_deg, cranial_deg=way.c_arm.cranial_deg,
        position=way.position, detector_px=33,
    )  # fmt: skip
    assert chord_mm(view, way.entry_mm, way.target_mm, 1.5)[16, 16] == pytest.approx(way.depth_mm)


def test_the_needle_is_steel_around_cement_and_is_drawn_back_when_the_record_says(
    scene: tuple[Volume, Injection],
) -> None:
    ct, injection = scene
    way = drawn.trajectory()
    moved = InjectionEvent(
        state="repositioned", age_s=185.0, injected_ml=3.25, needle=0, moved_mm=8.0
    )
    events = (injection.events[0], moved, injection.events[1])
    needles = (CementNeedle(needle=way.needle, path=way.path, volume_ml=6.0),)
    shown = made(
        ct, replace(injection, events=events), needles=needles, detector_px=257, detector_mm=100.0
    )
    lateral = shown.views[1]
    assert lateral.metal[0] is lateral.metal[2]
    # Beyond the tip there is nothing; 4 mm before it there is a needle until it is drawn back.
    row, column = np.rint(lateral.view.project(way.path.at_mm(way.depth_mm - 4.0))).astype(int)
    beyond = np.rint(lateral.view.project(way.path.at_mm(way.depth_mm + 3.0))).astype(int)
    assert [bool(m[row, column] > 0) for m in lateral.metal] == [True, True, True, False, False]
    assert not any(m[tuple(beyond)] for m in lateral.metal)
    # In the middle of the tube the ray crosses both walls and the lumen at the needle's slant.
    ray = way.target_mm - lateral.view.source_mm
    slant = np.linalg.norm(np.cross(ray / np.linalg.norm(ray), way.path.direction))
    n = way.needle
    wall = (carm.value("needle_attenuation").mean - MU) * (n.outer_mm - n.inner_mm) / slant
    lumen = MU * CEMENT / 1000 * n.inner_mm / slant
    near = lateral.metal[0][row - 3 : row + 4, column]
    assert np.abs(near - (wall + lumen)).min() < 0.03 * (wall + lumen)


# --- what is seen --------------------------------------------------------------------------------


def test_the_same_injection_gives_the_same_bytes(scene: tuple[Volume, Injection]) -> None:
    ct, injection = scene
    one, two = made(ct, injection), made(ct, injection)
    for a, b in zip(one.views, two.views, strict=True):
        for frame in range(5):
            assert a.image(frame).tobytes() == b.image(frame).tobytes()
        pictures = live_pictures(a, seed=3)
        assert pictures.tobytes() == live_pictures(b, seed=3).tobytes()
        assert pictures.tobytes() != live_pictures(b, seed=4).tobytes()
        assert np.any(pictures[0] != pictures[1])
        assert pictures.shape == (5, 96, 96)


def test_the_middle_gets_its_photons_and_they_are_fewer_behind_cement(
    scene: tuple[Volume, Injection],
) -> None:
    ct, injection = scene
    moving = made(ct, injection).views[0]
    pixel_mm2 = (150.0 / 96) ** 2
    middle = np.hypot(*np.ogrid[-1:1:96j, -1:1:96j]) < 3 / 4
    before = photons(moving.view.image, moving.view)
    expected = carm.value("photons_middle").mean * pixel_mm2
    assert np.median(before[middle]) == pytest.approx(expected, rel=0.01)
    after = photons(moving.image(4), moving.view)
    lost = np.exp(-(moving.cement(4) + moving.metal[4]))
    np.testing.assert_allclose(after, before * lost, rtol=1e-5)


def test_the_noise_of_a_live_picture_is_that_of_its_photons() -> None:
    ct, anatomy = drawn.scene()
    moving = made(ct, drawn.ball(anatomy), frames=2, detector_px=64).views[0]
    # Wide greys, so that no noise is cut off; the second frame has a patch that tells their scale.
    image = np.ones((64, 64), np.float32)
    image[10:54, 5:20], image[10:54, 44:59] = 0.0 + 1e-3, 2.0
    kept = np.zeros((2, 64, 64), np.float32)
    kept[1, 36:44, 28:36] = 0.2
    still = replace(
        moving, view=replace(moving.view, image=image), metal=(np.zeros_like(image),) * 2,
        kept=kept, leaked={},
    )  # fmt: skip
    first, second = live_pictures(still, seed=1).astype(float)
    scale = (first - second)[36:44, 28:36].mean() / 0.2
    sigma = 1 / np.sqrt(photons(image, still.view)[20:34, 26:38].mean())
    noise = (first - second)[20:34, 26:38].std() / np.sqrt(2)
    assert noise == pytest.approx(scale * sigma, rel=0.12)


def test_the_path_through_a_box_is_its_width() -> None:
    ct, anatomy = drawn.scene()
    view = c_arm_view(ct, (0, 0, 0), oblique_deg=0, cranial_deg=0, detector_px=65, detector_mm=90)
    found = path_mm(anatomy.bone, view)
    assert found[32, 32] == pytest.approx(2 * drawn.SIDE_MM, abs=1e-3)
    assert found[0, 0] == 0.0
    assert not path_mm(Mask.empty(anatomy.grid), view).any()


def test_the_alarm_is_the_forecasts(scene: tuple[Volume, Injection]) -> None:
    ct, injection = scene
    forecast = drawn.case().forecast  # leaks from 3.2 ml on
    shown = made(ct, injection, frames=7, forecast=forecast, stop_ml=4.5)
    assert shown.alarm == ("ok", "ok", "ok", "ok", "caution", "stop", "stop")
    np.testing.assert_allclose(shown.chance, [0, 0, 0, 0, 0.75, 0.75, 0.75])
    assert set(made(ct, injection, forecast=forecast).alarm) == {"unknown"}
    alone = made(ct, injection)
    assert set(alone.alarm) == {"unknown"}
    assert np.isnan(alone.chance).all()


def test_what_does_not_move_is_refused(scene: tuple[Volume, Injection]) -> None:
    ct, injection = scene
    with pytest.raises(InputError, match="does not move"):
        made(ct, injection, frames=1)
    other = replace(ct, grid=replace(ct.grid, frame="1.2.3"))
    there = replace(injection.fill.fraction, grid=replace(injection.fill.fraction.grid, frame="9"))
    with pytest.raises(InputError, match="different frames"):
        made(other, replace(injection, fill=replace(injection.fill, fraction=there)))
