"""Simulated fluoroscopy: geometry, physics and how the pictures are hung."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from trocar.errors import InputError
from trocar.facts import carm, tissue
from trocar.facts.products import needle
from trocar.model.plan import Position, Trajectory
from trocar.model.result import View
from trocar.model.space import Grid, Volume
from trocar.simulation.fluoroscopy import (
    c_arm_view,
    directions,
    display,
    lateral_deg,
    letters,
    magnification,
    needle_views,
)

POSITIONS: tuple[Position, ...] = ("prone", "supine")
MU = tissue.value("mu_water_70kev").mean


def air(size_mm: float = 120.0, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Volume:
    """Air around the origin."""
    shape = [round(size_mm / s) for s in spacing]
    origin = [-(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)]
    grid = Grid.from_spacing(shape, spacing, origin_mm=origin[::-1])
    return Volume(grid=grid, values=np.full(grid.shape, -1000, np.int16))


def with_sphere(ct: Volume, centre_mm: ArrayLike, radius_mm: float, hu: float = 1000.0) -> Volume:
    """A sphere put in with its edge smoothed over one voxel, as partial volume does."""
    i = np.stack(np.meshgrid(*(np.arange(n) for n in ct.grid.shape), indexing="ij"), axis=-1)
    depth = radius_mm - np.linalg.norm(ct.grid.to_world(i) - np.asarray(centre_mm), axis=-1)
    part = np.clip(depth / max(ct.grid.spacing_mm) + 0.5, 0.0, 1.0)
    values = ct.values + part * (hu + 1000.0)
    return replace(ct, values=np.rint(values).astype(np.int16))


def centroid(image: NDArray[np.float32]) -> NDArray[np.float64]:
    row, column = np.indices(image.shape)
    weight = image.astype(np.float64)
    return np.array([(row * weight).sum(), (column * weight).sum()]) / weight.sum()


def shadow_centroid(view: View, centre_mm: NDArray[np.float64], radius_mm: float) -> ArrayLike:
    """Where the line integrals through a sphere have their centroid, to second order in its size.

    A sphere at distance R from the source fills a cone of half-angle a = r/R about its centre. The
    chord at angle b to the centre is 2r sqrt(1 - (b/a)^2); its mean of b^2 along one direction is
    s = a^2/5. A flat receptor maps the angle g from its normal to f tan g and spreads a solid angle
    over an area growing as 1/cos(g)^3. Averaging f tan g with that weight over the cone gives
    f tan g + f s (2 tan g sec^2 g / 2 + 3 tan g sec^2 g) = f tan g (1 + 4 s sec^2 g): the shadow's
    centroid lies further from the foot of the normal than the centre's image, by (4/5) a^2 sec^2 g.
    """
    foot = view.project(view.source_mm + np.cross(view.row_step_mm, view.column_step_mm))
    ray = centre_mm - view.source_mm
    normal = np.cross(view.row_step_mm, view.column_step_mm)
    cosine = abs(ray @ normal) / (np.linalg.norm(ray) * np.linalg.norm(normal))
    stretch = 4 / 5 * (radius_mm / np.linalg.norm(ray)) ** 2 / cosine**2
    return foot + (1 + stretch) * (view.project(centre_mm) - foot)


# --- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("angles", [(0, 0), (90, 0), (-90, 0), (27, 13), (-140, -35)])
@pytest.mark.parametrize("centre", [(0, 0, 0), (31, -22, 27), (-35, 30, -33)])
def test_a_spheres_shadow_falls_where_project_says(
    position: Position, angles: tuple[float, float], centre: tuple[float, float, float]
) -> None:
    where = np.asarray(centre, float)
    ct = with_sphere(air(96.0, (1.5, 1.0, 1.0)), where, 9.0)
    view = c_arm_view(
        ct, (2.0, -3.0, 1.0), oblique_deg=angles[0], cranial_deg=angles[1], position=position,
        detector_px=256,
    )  # fmt: skip
    found = centroid(view.image)
    assert np.linalg.norm(found - shadow_centroid(view, where, 9.0)) < 0.1
    assert np.linalg.norm(found - view.project(where)) < 0.5


def test_the_centroid_correction_is_needed_for_a_large_sphere_near_the_tube() -> None:
    # Exaggerated (source 150 mm away) so that the shift of a shadow's centroid can be seen at all.
    where = np.array([30.0, 0.0, 20.0])
    view = c_arm_view(
        with_sphere(air(110.0), where, 25.0), (0, 0, 0), oblique_deg=0, cranial_deg=0,
        source_isocentre_mm=150, source_detector_mm=300, detector_mm=400,
    )  # fmt: skip
    found = centroid(view.image)
    assert np.linalg.norm(found - view.project(where)) > 1.5
    assert np.linalg.norm(found - shadow_centroid(view, where, 25.0)) < 0.35


def test_the_isocentre_falls_on_the_middle_and_the_distances_are_the_c_arms() -> None:
    centre = np.array([5.0, 6.0, 7.0])
    view = c_arm_view(air(20), centre, oblique_deg=20, cranial_deg=-10, detector_px=100)
    np.testing.assert_allclose(view.project(centre), [49.5, 49.5], atol=1e-9)
    middle = view.detector_mm + 49.5 * (view.row_step_mm + view.column_step_mm)
    far, near = carm.value("source_detector").mean, carm.value("source_isocentre").mean
    assert np.linalg.norm(middle - view.source_mm) == pytest.approx(far)
    assert np.linalg.norm(centre - view.source_mm) == pytest.approx(near)
    assert np.linalg.norm(100 * view.row_step_mm) == pytest.approx(carm.value("detector_side").mean)
    assert magnification(view, centre) == pytest.approx(far / near)
    nearer = centre + 100 * (view.source_mm - centre) / near
    assert magnification(view, [centre, nearer])[1] == pytest.approx(far / (near - 100))


@given(
    st.floats(-180, 180), st.floats(-90, 90), st.sampled_from(POSITIONS),
    st.tuples(*[st.floats(0, 63)] * 2),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_angle_gives_a_square_receptor_and_project_undoes_the_pixels(
    oblique: float, cranial: float, position: Position, pixel: tuple[float, float]
) -> None:
    towards, right, up = directions(oblique, cranial, position)
    axes = np.stack([towards, right, up])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    view = c_arm_view(
        air(4), (0, 0, 0), oblique_deg=oblique, cranial_deg=cranial, position=position,
        detector_px=64,
    )  # fmt: skip
    at = view.detector_mm + pixel[0] * view.row_step_mm + pixel[1] * view.column_step_mm
    for t in (0.3, 1.0):
        point = view.source_mm + t * (at - view.source_mm)
        np.testing.assert_allclose(view.project(point), pixel, atol=1e-6)


# --- the needle ----------------------------------------------------------------------------------


def trajectory(entry: ArrayLike, target: ArrayLike, position: Position) -> Trajectory:
    e, t = np.asarray(entry, float), np.asarray(target, float)
    return Trajectory(
        route="test", needle=needle(11, 125), entry_mm=e, target_mm=t, position=position,
        bone_entry_mm=(e + t) / 2, bone_length_mm=10.0, cortex_angle_deg=0.0, margins=(),
    )  # fmt: skip


@given(
    st.tuples(*[st.floats(-80, 80)] * 3).filter(lambda e: np.linalg.norm(e) > 20),
    st.sampled_from(POSITIONS),
)
@settings(max_examples=25, deadline=None)
def test_down_the_barrel_the_needle_is_a_point_and_the_hub_faces_the_receptor(
    entry: tuple[float, float, float], position: Position
) -> None:
    target = np.array([4.0, -7.0, 3.0])
    way = trajectory(target + entry, target, position)
    _, _, barrel = needle_views(air(4), way)
    pixels = barrel.project(way.path.at_mm(np.linspace(0, way.depth_mm, 5)))
    np.testing.assert_allclose(pixels, np.full((5, 2), 255.5), atol=1e-6)
    assert (barrel.detector_mm - target) @ way.path.direction < 0
    assert (barrel.source_mm - target) @ way.path.direction > 0
    assert barrel.oblique_deg == way.c_arm.oblique_deg
    assert barrel.cranial_deg == way.c_arm.cranial_deg


@pytest.mark.parametrize("position", POSITIONS)
def test_the_three_views_show_the_needle_as_it_lies(position: Position) -> None:
    back = 1.0 if position == "prone" else -1.0
    way = trajectory((40.0, back * 80.0, 30.0), (0.0, 0.0, 0.0), position)
    ap, lateral, barrel = needle_views(air(20), way)
    assert [v.name for v in (ap, lateral, barrel)] == ["AP", "Lateral", "Down the barrel"]
    hub, tip = ap.project(way.entry_mm), ap.project(way.target_mm)
    assert hub[0] < tip[0]  # from the head side: higher in the picture
    assert hub[1] > tip[1]  # from the patient's left: to the image's right
    hub, tip = lateral.project(way.entry_mm), lateral.project(way.target_mm)
    assert hub[0] < tip[0]
    assert (hub[1] > tip[1]) == (position == "prone")  # from behind: to the image's right
    assert abs(lateral.oblique_deg) == 90.0
    # In the AP view the beam runs from front to back of a prone patient, and the other way round.
    assert np.sign(ap.detector_mm[1]) == back


# --- how pictures are hung -----------------------------------------------------------------------


@pytest.mark.parametrize("position", POSITIONS)
def test_right_is_left_head_is_up_and_the_patient_faces_left(position: Position) -> None:
    spots = {"left": (40, 0, 0), "head": (0, 0, 40), "back": (0, 40, 0)}
    where = {}
    for name, spot in spots.items():
        ct = with_sphere(air(100.0, (2.0, 2.0, 2.0)), spot, 6.0)
        for kind, oblique in (("ap", 0.0), ("lateral", lateral_deg(position))):
            view = c_arm_view(
                ct, (0, 0, 0), oblique_deg=oblique, cranial_deg=0, position=position, detector_px=64
            )
            where[kind, name] = centroid(view.image) - 31.5
    assert where["ap", "left"][1] > 10
    assert where["ap", "head"][0] < -10
    assert where["lateral", "head"][0] < -10
    assert where["lateral", "back"][1] > 10
    ap = c_arm_view(air(4), (0, 0, 0), oblique_deg=0, cranial_deg=0, position=position)
    assert ap.letters == ("R", "H", "L", "F")
    lateral = c_arm_view(
        air(4), (0, 0, 0), oblique_deg=lateral_deg(position), cranial_deg=0, position=position
    )
    assert lateral.letters == ("A", "H", "P", "F")


def test_letters_name_the_main_directions() -> None:
    assert letters((0, 0, -3)) == "F"
    assert letters((-1, 1, 0.2)) == "RP"
    assert letters((0.3, 0.2, 1)) == "H"
    assert letters((-0.6, -0.5, 0.62)) == "HRA"


# --- physics -------------------------------------------------------------------------------------


def test_100_mm_of_water_let_through_what_they_should() -> None:
    ct = air(140.0)
    water = ct.values.copy()
    water[:, 20:120] = 0  # 100 mm along the beam
    view = c_arm_view(replace(ct, values=water), (0, 0, 0), oblique_deg=0, cranial_deg=0,
                      detector_px=129, detector_mm=50)  # fmt: skip
    centre = float(view.image[64, 64])
    assert exp(-centre) == pytest.approx(0.1451, abs=5e-5)
    # Obliquely through the slab the way is longer by 1/cos.
    corner = view.detector_mm - view.source_mm
    slant = np.linalg.norm(corner) / abs(corner[1])
    assert view.image[0, 0] == pytest.approx(centre * slant, rel=1e-5)


def test_a_spheres_shadow_is_its_chord() -> None:
    where, radius = np.array([12.0, -8.0, 15.0]), 15.0
    ct = with_sphere(air(80.0, (0.5, 0.5, 0.5)), where, radius, hu=500.0)
    view = c_arm_view(ct, (0, 0, 0), oblique_deg=33, cranial_deg=12, detector_px=128)
    row, column = np.indices(view.image.shape)
    pixel = (
        view.detector_mm + row[..., None] * view.row_step_mm
        + column[..., None] * view.column_step_mm
    )  # fmt: skip
    ray = pixel - view.source_mm
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    to = where - view.source_mm
    miss2 = to @ to - (ray @ to) ** 2
    expected = 2 * np.sqrt(np.maximum(radius**2 - miss2, 0)) * MU * 1.5
    inner = miss2 < (0.8 * radius) ** 2
    np.testing.assert_allclose(view.image[inner], expected[inner], rtol=0.01)
    outer = miss2 > (radius + 1.0) ** 2
    assert np.all(view.image[outer] == 0)
    assert view.image.sum() == pytest.approx(expected.sum(), rel=0.002)


def test_a_crop_that_holds_everything_gives_the_same_picture() -> None:
    ct = with_sphere(air(100.0), (10.0, 5.0, -5.0), 12.0)
    box = ct.grid.around([[10.0, 5.0, -5.0]], 16.0)
    whole = c_arm_view(ct, (0, 0, 0), oblique_deg=25, cranial_deg=10, detector_px=64)
    part = c_arm_view(ct.crop(box), (0, 0, 0), oblique_deg=25, cranial_deg=10, detector_px=64)
    np.testing.assert_allclose(part.image, whole.image, rtol=1e-5, atol=1e-6)


def test_an_oblique_ct_gives_the_picture_of_a_straight_one() -> None:
    centre = np.array([6.0, -4.0, 9.0])
    ct = with_sphere(air(80.0), centre, 14.0)
    c, s = np.cos(0.3), np.sin(0.3)
    turn = np.eye(4)
    turn[:3, :3] = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    grid = Grid(shape=ct.grid.shape, affine=turn @ ct.grid.affine)
    turned = with_sphere(Volume(grid=grid, values=air(80.0).values), centre, 14.0)
    a, b = (
        c_arm_view(v, (0, 0, 0), oblique_deg=15, cranial_deg=5, detector_px=96).image
        for v in (ct, turned)
    )
    assert np.abs(a - b).max() < 0.03 * a.max()
    assert a.sum() == pytest.approx(b.sum(), rel=2e-3)


# --- what is shown, what is refused --------------------------------------------------------------


def test_display_shows_bone_dark_as_a_c_arm_and_white_as_a_film() -> None:
    ct = air(120.0)
    values = ct.values.copy()
    values[10:110, 10:110, 10:110] = 40
    values[:, 20:100, 55:65] = 1000
    view = c_arm_view(
        replace(ct, values=values), (0, 0, 0), oblique_deg=0, cranial_deg=0, detector_px=128
    )
    for harmonised in (True, False):
        live = display(view, harmonised=harmonised)
        film = display(view, dense="white", harmonised=harmonised)
        assert live.dtype == np.uint8
        assert live.shape == (128, 128)
        assert live[64, 64] + 30 < live[64, 90] < live[0, 0] == 255
        assert film[64, 64] > film[64, 90] + 30 > film[0, 0] == 0


def test_an_empty_view_is_shown_blank() -> None:
    view = c_arm_view(air(8), (0, 0, 0), oblique_deg=0, cranial_deg=0, detector_px=16)
    assert np.all(view.image == 0)
    assert np.all(display(view) == 255)


def test_what_makes_no_picture_is_refused_in_words() -> None:
    ct = air(8)
    straight = {"oblique_deg": 0.0, "cranial_deg": 0.0}
    with pytest.raises(InputError, match="needs a CT in HU"):
        c_arm_view(replace(ct, unit="mm"), (0, 0, 0), **straight)
    with pytest.raises(InputError, match="three finite LPS mm"):
        c_arm_view(ct, (0, np.nan, 0), **straight)
    with pytest.raises(InputError, match="between source and receptor"):
        c_arm_view(ct, (0, 0, 0), source_isocentre_mm=1200.0, **straight)
    with pytest.raises(InputError, match="in 0 pixels"):
        c_arm_view(ct, (0, 0, 0), detector_px=0, **straight)
