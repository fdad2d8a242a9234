"""Figures: which side is which, where a cut lies, how thick a needle is drawn."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from trocar.facts.products import needle
from trocar.model.plan import GantryAngles, Trajectory
from trocar.model.space import Grid, Mask
from trocar.planning.trajectory import SkinMap
from trocar.report import figures, scene

angle = st.floats(-80, 80)


def _needle(in_plane: float, tilt: float, behind: bool) -> Trajectory:
    way = GantryAngles(in_plane_deg=in_plane, tilt_deg=tilt, from_behind=behind).direction()
    target = np.array([3.0, -7.0, 11.0])
    return Trajectory(
        route="any",
        needle=needle(11, 100),
        entry_mm=target + 80 * way,
        target_mm=target,
        position="prone",
        bone_entry_mm=target + 30 * way,
        bone_length_mm=30.0,
        cortex_angle_deg=0.0,
        margins=(),
    )


@given(angle, angle, st.booleans())
def test_both_cuts_hold_the_needle_and_stand_across_each_other(
    in_plane: float, tilt: float, behind: bool
) -> None:
    option = _needle(in_plane, tilt, behind)
    first, second = figures.needle_planes(option)
    assert abs(first @ option.path.direction) < 1e-9
    assert abs(second @ option.path.direction) < 1e-9
    assert abs(first @ second) < 1e-9
    if abs(option.path.direction @ figures.LEFT) < 0.9:
        assert abs(first @ figures.LEFT) < 1e-9  # the tilted gantry plane holds left and right


@given(angle, angle, st.booleans())
def test_panes_are_radiological(in_plane: float, tilt: float, behind: bool) -> None:
    for normal in figures.needle_planes(_needle(in_plane, tilt, behind)):
        right, down = figures.upright(normal)
        assert abs(right @ down) < 1e-9
        assert abs(right @ normal) < 1e-9
        leftward, backward = right @ figures.LEFT, right @ figures.POSTERIOR
        assert (leftward if abs(leftward) >= abs(backward) else backward) >= 0
        assert down @ figures.POSTERIOR >= -1e-9 or down @ figures.SUPERIOR <= 1e-9


def test_an_axial_cut_has_the_patients_right_at_image_left_and_the_back_below() -> None:
    right, down = figures.upright(figures.SUPERIOR)
    assert figures.letters(-right) == "R"
    assert figures.letters(down) == "P"


def test_a_pane_samples_the_points_it_says() -> None:
    first, _ = figures.needle_planes(_needle(25.0, 10.0, True))
    pane = figures.framed(first, np.array([[0.0, 0, 0], [40.0, 60.0, 10.0]]), margin_mm=10)
    grid = pane.grid()
    flat = pane.flat(grid.to_world([[0, 0, 0], [0, *(np.asarray(grid.shape[1:]) - 1)]]))
    height, width = pane.size_mm
    np.testing.assert_allclose(flat[1], [width / 2, height / 2], atol=0.5)
    np.testing.assert_allclose(flat[0], -flat[1], atol=1e-9)


def test_the_outline_of_a_ball_has_its_radius() -> None:
    grid = Grid.from_spacing((50, 50, 50), (1.0, 1.0, 1.0), (-25.0, -25.0, -25.0))
    points = grid.to_world(np.stack(np.indices(grid.shape), axis=-1))
    ball = Mask(grid=grid, values=np.linalg.norm(points, axis=-1) < 12.0)
    pane = figures.Pane(
        centre_mm=np.zeros(3), right=figures.LEFT, down=figures.POSTERIOR, size_mm=(60.0, 60.0)
    )
    (ring,) = figures.Outlines.of({"ball": ball}).on(pane)["ball"]
    radius = np.linalg.norm(ring, axis=1)
    assert radius.mean() == pytest.approx(12.0, abs=0.3)


def test_labels_keep_their_distance_and_their_order() -> None:
    rows = figures._spread([5.0, 5.1, 5.2, 9.9], 1.0, 0.0, 10.0)
    assert np.all(np.diff(rows) >= 1.0 - 1e-9)
    assert min(rows) >= 0
    assert max(rows) <= 10.0 + 1e-9


def test_words_stay_off_the_needle_and_the_lesion() -> None:
    """The case that failed: bone, lesion and tip near the right edge, the needle from the left."""
    extent = (-50.0, 50.0, 50.0, -50.0)
    needle_ = np.linspace([-45.0, 40.0], [30.0, -10.0], 80)
    turn = np.linspace(0, 2 * np.pi, 60)
    lesion = np.array([33.0, -8.0]) + 9 * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    keep = figures.Keep(
        sacred=np.vstack([needle_, *figures._dense([lesion])]), clear=np.empty((0, 2))
    )
    words = ("tip 128 mm", "lesion", "left nerve root", "right nerve root", "spinal canal", "aorta")
    labels = [
        figures.Label(text=text, at=(28.0 + k, -12.0 + 4 * k), colour="white")
        for k, text in enumerate(words)
    ]
    columns = (-42.5, 42.5)
    places = figures._free_places(labels, extent, columns, keep)
    boxes = []
    for label, (is_right, row) in zip(labels, places, strict=True):
        long = 100 * figures._word_width(label.text)
        left = columns[is_right] - long * is_right
        boxes.append((left, left + long, row - 2.5, row + 2.5))
    assert [figures._within(keep.sacred, box) for box in boxes] == [0] * len(boxes)
    for k, a in enumerate(boxes):
        for b in boxes[:k]:
            assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]


def test_the_vena_cava_is_drawn_as_a_vein() -> None:
    assert figures.style("inferior_vena_cava") == figures.style("iliac_vena_left")
    assert figures.style("aorta") != figures.style("inferior_vena_cava")


def test_far_structures_are_not_named_on_a_slice(sheet) -> None:
    shapes = figures.outlines(sheet.anatomy, sheet.plan.lesion.mask)
    option = sheet.plan.options[0]
    margins = tuple(
        replace(m, distance_mm=60.0) if m.structure == "aorta" else m for m in option.margins
    )
    named = figures._named_on(shapes, replace(option, margins=margins))
    assert "aorta" not in named
    assert {"lesion", "spinal_canal", "inferior_vena_cava"} <= named


def _picture(figure: figures.Figure) -> np.ndarray:
    kind, _, content = figure.uri.partition(",")
    assert kind in ("data:image/png;base64", "data:image/webp;base64")
    return np.asarray(Image.open(BytesIO(base64.b64decode(content))).convert("RGB"), dtype=float)


@pytest.mark.parametrize("language", ["en", "zh-Hant"])
def test_slices_and_radiographs_are_drawn(sheet, language) -> None:
    shapes = figures.outlines(sheet.anatomy, sheet.plan.lesion.mask)
    option = sheet.plan.options[0]
    slices = figures.needle_slices(sheet.scan, sheet.anatomy, option, shapes, language=language)
    film = figures.radiographs(sheet.views[0], option, shapes, language=language)
    for figure in (slices, film):
        picture = _picture(figure)
        assert picture.shape[1] > 1000
        assert np.ptp(picture, axis=-1).max() > 100  # there is colour: outlines and a needle
        assert len(figure.uri) < 900_000


def test_a_compact_picture_shows_the_same_in_less_than_half_the_room() -> None:
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(600, 600)), 1.5)  # as a CT's

    def drawn(*, grain: bool, compact: bool) -> figures.Figure:
        with figures.drawing("en") as (plt, _):
            figure, axes = figures.panes(plt, 1, 1)
            axes[0, 0].imshow(noise if grain else noise > 0.2, cmap="gray")
            axes[0, 0].plot([100, 500], [100, 400], color="#3fe0ff")
            uri = figures.picture(figure, plt, compact=compact)
        return figures.Figure(uri=uri, title="", caption="")

    whole, lean = (drawn(grain=True, compact=compact) for compact in (False, True))
    assert len(lean.uri) < 0.5 * len(whole.uri)
    assert np.abs(_picture(whole) - _picture(lean)).mean() < 4.0  # of 255
    assert np.ptp(_picture(lean), axis=-1).max() > 100  # the coloured line is there
    assert len(drawn(grain=False, compact=True).uri) <= len(drawn(grain=False, compact=False).uri)


def test_the_skin_map_shows_where_a_needle_may_enter(sheet) -> None:
    shapes = figures.outlines(sheet.anatomy, sheet.plan.lesion.mask)
    entry = sheet.plan.options[0].entry_mm
    around = np.stack(np.meshgrid(np.arange(-40, 41, 2.0), [0.0], np.arange(-20, 21, 2.0)), axis=-1)
    points = entry + around.reshape(-1, 3)
    room = np.where(points[:, 0] > entry[0], 3.0, np.nan)  # only to the left of the entry
    allowed = SkinMap(route="any", points_mm=points, cost=room, slack_mm=room)
    none = replace(allowed, slack_mm=np.full(len(points), np.nan))
    given = {"anatomy": sheet.anatomy, "plan": sheet.plan, "shapes": shapes, "language": "en"}
    assert figures.skin_map([none], **given) is None
    caption = figures.skin_map([allowed], **given).caption
    assert caption.startswith("Seen from behind. ")
    assert "another side" not in caption
    front = replace(sheet.plan.options[1], entry_mm=sheet.plan.options[1].target_mm - [0, 60.0, 0])
    mixed = replace(sheet.plan, options=(sheet.plan.options[0], front))
    caption = figures.skin_map([allowed], **given | {"plan": mixed}).caption
    assert "Needle 2 enters from another side" in caption
    picture = _picture(figures.skin_map([allowed], **given))
    yellow = (picture[..., 0] > 200) & (picture[..., 1] > 180) & (picture[..., 2] < 110)
    middle = int(0.8 * picture.shape[1])  # the bar of colours stands at the right
    columns = np.nonzero(yellow[:, :middle])[1]
    # Seen from behind: the patient's left is at image left, so the allowed skin is there.
    assert len(columns) > 500
    assert np.median(columns) < 0.4 * picture.shape[1]


def test_the_scene_shows_the_lesion_and_the_needle(sheet) -> None:
    figure = scene.scene(
        sheet.anatomy, sheet.plan.lesion.mask, sheet.plan.options, chosen=0, language="en"
    )
    picture = _picture(figure)
    red = (picture[..., 0] > 1.6 * picture[..., 1]) & (picture[..., 0] > 1.6 * picture[..., 2])
    blue = (picture[..., 2] > 1.5 * picture[..., 0]) & (picture[..., 2] > 60)
    assert red.sum() > 1000
    assert blue.sum() > 1000


def test_a_rim_in_the_shade_is_no_dark_line() -> None:
    ways = np.array([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    colour, opacity = scene._lit(ways, scene._LOOKS["bone"])
    assert colour[0, 1:].min() > 0.6 * colour[0, 0].min()
    assert np.all(opacity[0, 1:] > opacity[0, 0])  # and still an outline


def test_a_sphere_is_found_at_its_depth_and_lit_from_the_front() -> None:
    grid = Grid.from_spacing((80, 80, 80), (1.0, 1.0, 1.0), (-40.0, -40.0, -40.0))
    points = grid.to_world(np.stack(np.indices(grid.shape), axis=-1))
    ball = Mask(grid=grid, values=np.linalg.norm(points, axis=-1) < 20.0)
    eye = scene._eye_grid(ball, -figures.POSTERIOR)
    layer = scene._surface(scene._smoothed(ball), eye, scene._LOOKS["bone"])
    depth = layer.depth_mm[np.isfinite(layer.depth_mm)]
    nearest = eye.to_world([depth.min() / eye.spacing_mm[0], 0, 0]) @ figures.POSTERIOR
    assert nearest == pytest.approx(20.0, abs=0.7)
    wide = (layer.opacity > 0.5 * layer.opacity.max()).any(axis=0).sum()
    assert wide * eye.spacing_mm[0] / scene._ZOOM == pytest.approx(40.0, abs=1.5)


def test_a_cut_surface_is_as_bright_as_one_that_faces_the_eye() -> None:
    grid = Grid.from_spacing((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    block = np.zeros(grid.shape, dtype=bool)
    block[:, 20:, 10:30] = True  # reaches the end of the image, towards the patient's back
    mask = Mask(grid=grid, values=block)
    eye = scene._eye_grid(mask, -figures.POSTERIOR)
    layer = scene._surface(scene._smoothed(mask), eye, scene._LOOKS["artery"])
    seen = layer.opacity > 0.5 * layer.opacity.max()
    wanted, _ = scene._lit(np.array([[[-1.0, 0.0, 0.0]]]), scene._LOOKS["artery"])
    assert seen.sum() > 1000
    np.testing.assert_allclose(np.median(layer.colour[seen], axis=0), wanted[0, 0], atol=0.08)
    dark = layer.colour[seen].max(axis=-1) < 0.4 * wanted.max()
    assert dark.mean() < 0.15  # the rims of the block, not its cut face


def test_a_cylinder_is_as_wide_as_the_needle() -> None:
    grid = Grid.from_spacing((60, 60, 60), (1.0, 1.0, 1.0), (-30.0, -30.0, -30.0))
    ball = Mask(grid=grid, values=np.ones(grid.shape, dtype=bool))
    option = _needle(0.0, 60.0, True)
    eye = scene._eye_grid(ball, figures.LEFT)
    layer = scene._cylinder(option, eye, scene._NEEDLE)
    pixel = eye.spacing_mm[0] / scene._ZOOM
    along = option.path.direction
    rows, columns = np.nonzero(layer.opacity > 0.5)
    flat = np.stack([rows, columns], axis=1) * pixel
    side = np.cross(along, eye.axes[:, 0])
    across = flat @ [side @ eye.axes[:, 1], side @ eye.axes[:, 2]]
    assert np.ptp(across) == pytest.approx(option.needle.outer_mm, abs=2 * pixel)
