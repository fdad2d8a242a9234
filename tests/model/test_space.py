"""Contracts of every spatial record: round trips, cropping, resampling, frames that differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from trocar.errors import FrameMismatch, InputError
from trocar.model.space import Grid, Labels, Mask, Segment, Volume

small = st.floats(0.3, 5.0)
angle = st.floats(-3.1, 3.1)
offset = st.floats(-500, 500)
count = st.integers(2, 9)


def rotation(a: float, b: float, c: float) -> np.ndarray:
    """A rotation from three Euler angles."""
    ca, sa, cb, sb, cc, sc = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(c), np.sin(c)
    z = np.array([[ca, -sa, 0], [sa, ca, 0], [0, 0, 1]])
    y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    x = np.array([[1, 0, 0], [0, cc, -sc], [0, sc, cc]])
    return z @ y @ x


@st.composite
def grids(draw: st.DrawFn, *, sheared: bool = False) -> Grid:
    """Oblique, reversed, non-square and, when asked, tilted (sheared) grids."""
    axes = rotation(draw(angle), draw(angle), draw(angle))
    axes = axes * np.array([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    if sheared:
        axes[:, 0] += draw(st.floats(-0.5, 0.5)) * axes[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array([draw(small), draw(small), draw(small)])
    affine[:3, 3] = [draw(offset), draw(offset), draw(offset)]
    return Grid(shape=(draw(count), draw(count), draw(count)), affine=affine)


@given(grids(sheared=True), st.lists(st.tuples(offset, offset, offset), min_size=1, max_size=5))
def test_index_and_world_are_inverse(grid: Grid, points: list[tuple[float, float, float]]) -> None:
    assert_allclose(grid.to_world(grid.to_index(points)), points, atol=1e-6)


@given(grids(sheared=True))
def test_voxel_volume_is_the_spanned_volume(grid: Grid) -> None:
    a, b, c = grid.affine[:3, :3].T
    assert_allclose(grid.voxel_ml, abs(a @ np.cross(b, c)) / 1000, rtol=1e-9)


@given(grids(sheared=True), st.data())
def test_a_cropped_voxel_keeps_its_place(grid: Grid, data: st.DataObject) -> None:
    start = [data.draw(st.integers(0, n - 1)) for n in grid.shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape)]
    slices = tuple(slice(a, b) for a, b in zip(start, stop))
    part = grid.crop(slices)  # type: ignore[arg-type]
    assert part.shape == tuple(b - a for a, b in zip(start, stop))
    assert_allclose(part.to_world([0, 0, 0]), grid.to_world(start), atol=1e-9)
    assert_allclose(part.to_world([1, 2, 3]), grid.to_world(np.add(start, [1, 2, 3])), atol=1e-9)


@given(grids())
def test_the_isotropic_twin_covers_the_same_box(grid: Grid) -> None:
    twin = grid.isotropic(0.5)
    assert_allclose(twin.spacing_mm, 0.5)
    assert_allclose(twin.centre_mm, grid.centre_mm, atol=1e-6)
    assert_allclose(twin.axes, grid.axes, atol=1e-9)
    extent = np.asarray(grid.shape) * grid.spacing_mm
    assert_allclose(np.asarray(twin.shape) * 0.5, extent, atol=0.25 + 1e-9)


def test_a_sheared_grid_has_no_isotropic_twin() -> None:
    affine = np.eye(4)
    affine[1, 0] = 0.3
    grid = Grid(shape=(4, 4, 4), affine=affine)
    assert not grid.is_orthogonal
    with pytest.raises(InputError, match="sheared"):
        grid.isotropic(1.0)


@given(grids(sheared=True), st.floats(0, 10))
def test_the_box_around_points_holds_them_and_their_margin(grid: Grid, margin: float) -> None:
    centre = grid.centre_mm
    box = grid.around(centre, margin)
    for direction in np.vstack([np.eye(3), -np.eye(3)]):
        point = centre + margin * direction
        index = grid.to_index(point)
        if np.all((index >= 0) & (index <= np.asarray(grid.shape) - 1)):
            assert all(s.start - 1e-6 <= i <= s.stop - 1 + 1e-6 for s, i in zip(box, index))


@given(grids(), st.data())
def test_resampling_a_linear_ramp_is_exact_inside(grid: Grid, data: st.DataObject) -> None:
    a = np.array([data.draw(st.floats(-3, 3)) for _ in range(3)])
    world = grid.to_world(np.indices(grid.shape).transpose(1, 2, 3, 0))
    volume = Volume(grid=grid, values=((world - grid.centre_mm) @ a).astype(np.float32))
    fine = grid.isotropic(min(grid.spacing_mm) * 0.7)
    points = fine.to_world(np.indices(fine.shape).transpose(1, 2, 3, 0))
    index = grid.to_index(points)
    core = np.all((index >= 0) & (index <= np.asarray(grid.shape) - 1), axis=-1)
    expected = (points - grid.centre_mm) @ a
    tolerance = 1e-4 * (1 + np.abs(expected).max())
    assert_allclose(volume.on(fine).values[core], expected[core], atol=tolerance)
    assert_allclose(volume.sample(points[core]), expected[core], atol=tolerance)


def test_outside_is_said_and_not_invented() -> None:
    grid = Grid.from_spacing((3, 3, 3), (1, 1, 1))
    volume = Volume(grid=grid, values=np.full((3, 3, 3), 40, np.int16))
    assert np.isnan(volume.sample([10.0, 0, 0]))
    far = Grid.from_spacing((2, 2, 2), (1, 1, 1), origin_mm=(50, 50, 50))
    assert_array_equal(volume.on(far, outside=-1000).values, -1000)


@given(grids(), st.integers(0, 2**32 - 1))
def test_masks_and_labels_on_their_own_grid_are_unchanged(grid: Grid, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 4, grid.shape)
    labels = Labels(grid=grid, values=values, names={1: "a", 2: "b", 3: "c"})
    assert_array_equal(labels.on(grid).values, values)
    for name, number in (("a", 1), ("b", 2), ("c", 3)):
        if name in labels.present:
            assert_array_equal(labels.mask(name).values, values == number)
    twin = Grid(shape=grid.shape, affine=grid.affine.copy())
    assert_array_equal(labels.mask("a", "b").on(twin).values, np.isin(values, [1, 2]))


def test_mask_volume_centre_and_membership() -> None:
    grid = Grid.from_spacing((10, 20, 30), (2.0, 1.0, 0.5), origin_mm=(5, 6, 7))
    values = np.zeros(grid.shape, bool)
    values[2:4, 5:10, 10:20] = True
    mask = Mask(grid=grid, values=values)
    assert mask.volume_ml == pytest.approx(100 * 1.0 / 1000)
    assert_allclose(mask.centroid_mm, [5 + 14.5 * 0.5, 6 + 7.0, 7 + 2.5 * 2])
    assert bool(mask.holds(mask.centroid_mm))
    assert not bool(mask.holds([0.0, 0.0, 0.0]))
    box = mask.box(margin_mm=1.0)
    assert box == (slice(1, 5), slice(4, 11), slice(8, 22))


def test_different_frames_are_named_in_the_error() -> None:
    one = Grid.from_spacing((3, 3, 3), (1, 1, 1), frame="1.2.3")
    two = Grid.from_spacing((3, 3, 3), (1, 1, 1), frame="4.5.6")
    volume = Volume(grid=one, values=np.zeros((3, 3, 3)))
    mask = Mask(grid=one, values=np.ones((3, 3, 3), bool))
    labels = Labels(grid=one, values=np.ones((3, 3, 3), int))
    for record in (volume, mask, labels):
        with pytest.raises(FrameMismatch, match=r"1\.2\.3.*4\.5\.6"):
            record.on(two)
    with pytest.raises(FrameMismatch, match=r"1\.2\.3.*4\.5\.6"):
        one.require_match(two)


def test_an_unnamed_frame_fits_every_frame_but_not_another_grid() -> None:
    one = Grid.from_spacing((3, 3, 3), (1, 1, 1), frame="1.2.3")
    same = Grid.from_spacing((3, 3, 3), (1, 1, 1))
    shifted = Grid.from_spacing((3, 3, 3), (1, 1, 1), origin_mm=(0.5, 0, 0))
    one.require_match(same)
    with pytest.raises(FrameMismatch, match="different grids"):
        one.require_match(shifted)


@pytest.mark.parametrize(
    ("shape", "affine", "words"),
    [
        ((0, 3, 3), np.eye(4), "positive"),
        ((3, 3, 3), np.eye(3), "4x4"),
        ((3, 3, 3), np.diag([1, 1, 0, 1]), "flat"),
        ((3, 3, 3), np.full((4, 4), np.nan), "finite"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(
    shape: tuple[int, int, int], affine: np.ndarray, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        Grid(shape=shape, affine=affine)


def test_values_of_the_wrong_shape_or_type_are_refused() -> None:
    grid = Grid.from_spacing((3, 3, 3), (1, 1, 1))
    with pytest.raises(InputError, match="shape"):
        Volume(grid=grid, values=np.zeros((3, 3, 4)))
    with pytest.raises(InputError, match="whole numbers"):
        Labels(grid=grid, values=np.zeros((3, 3, 3)))
    with pytest.raises(InputError, match="no label 'x'"):
        Labels(grid=grid, values=np.ones((3, 3, 3), int), names={1: "a"}).mask("x")


point = st.tuples(offset, offset, offset)


@given(point, point, point)
def test_distance_to_a_segment_equals_dense_sampling(
    a: tuple[float, ...], b: tuple[float, ...], p: tuple[float, ...]
) -> None:
    if np.allclose(a, b, atol=1e-3):
        return
    segment = Segment(start_mm=np.array(a), end_mm=np.array(b))
    t = np.linspace(0, segment.length_mm, 20001)
    brute = np.linalg.norm(segment.at_mm(t) - np.array(p), axis=1).min()
    step = segment.length_mm / 20000
    assert brute - step <= segment.distance_mm(p) + 1e-9 <= brute + 1e-6


def test_a_point_is_no_segment() -> None:
    with pytest.raises(InputError, match="no direction"):
        Segment(start_mm=np.zeros(3), end_mm=np.zeros(3))
