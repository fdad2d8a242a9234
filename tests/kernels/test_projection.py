"""Line integrals through a volume, against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from trocar.kernels.projection import project

MANY = settings(max_examples=200, deadline=None)
vectors = hnp.arrays(np.float64, 3, elements=st.floats(-1, 1))


def one_ray(
    values: NDArray[Any], affine: NDArray[Any], start: Any, end: Any, **kwargs: float
) -> float:
    image = project(
        values, affine, source_mm=start, detector_mm=end, row_step_mm=(1, 0, 0),
        column_step_mm=(0, 1, 0), shape=(1, 1), **kwargs,
    )  # fmt: skip
    return float(image[0, 0])


def centred(matrix: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """An affine that puts the middle of the array at the origin."""
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def chord(affine: NDArray[Any], shape: tuple[int, ...], start: Any, end: Any) -> float:
    """Length of a segment inside the voxels' outer faces, by slabs in index space."""
    inverse = np.linalg.inv(affine)
    a, b = (inverse[:3, :3] @ p + inverse[:3, 3] for p in (start, end))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.stack([(-0.5 - a) / (b - a), (np.asarray(shape) - 0.5 - a) / (b - a)])
    low, high = max(0.0, t.min(axis=0).max()), min(1.0, t.max(axis=0).min())
    return max(0.0, high - low) * float(np.linalg.norm(np.subtract(end, start)))


@MANY
@given(
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=9),
    hnp.arrays(np.float64, (3, 3), elements=st.floats(-2, 2)),
    vectors,
    vectors,
)
def test_the_integral_through_a_uniform_block_is_exact(
    shape: tuple[int, int, int],
    matrix: NDArray[np.float64],
    through: NDArray[np.float64],
    direction: NDArray[np.float64],
) -> None:
    # Any cell, sheared, flipped and permuted, and any ray that goes by the middle.
    assume(abs(np.linalg.det(matrix)) > 0.3)
    assume(np.linalg.norm(direction) > 0.1)
    d = direction / np.linalg.norm(direction)
    inverse = np.linalg.inv(matrix) @ d
    assume(np.abs(inverse).min() > 1e-6)
    affine = centred(matrix, shape)
    start, end = through - 60 * d, through + 60 * d
    expected = 3.0 * chord(affine, shape, start, end)
    for dtype in (np.int16, np.float32):
        got = one_ray(np.full(shape, 3, dtype), affine, start, end)
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ray_along_an_axis_sums_its_voxels(axis: int) -> None:
    values = np.random.default_rng(0).integers(0, 1000, (5, 6, 7)).astype(np.int16)
    affine = np.diag([2.0, 0.7, 0.9, 1.0])
    at = np.array([2.0, 3.0, 4.0])
    start, end = at.copy(), at.copy()
    start[axis], end[axis] = -50, 50
    world = affine[:3, :3]
    line = np.moveaxis(values, axis, 0)[(slice(None), *np.delete(at.astype(int), axis))]
    got = one_ray(values, affine, world @ start, world @ end)
    assert got == pytest.approx(line.sum() * affine[axis, axis], rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(vectors, vectors)
def test_a_gaussian_blob_has_its_closed_form(
    offset: NDArray[np.float64], direction: NDArray[np.float64]
) -> None:
    assume(np.linalg.norm(direction) > 0.1)
    d = direction / np.linalg.norm(direction)
    shape, sigma = (60, 72, 64), 4.0
    affine = centred(np.diag([1.0, 0.8, 0.9]), shape)
    values = blob(shape, affine, sigma)
    through = 5 * offset
    got = one_ray(values, affine, through - 200 * d, through + 200 * d)
    miss = np.linalg.norm(through - (through @ d) * d)
    expected = np.sqrt(2 * np.pi) * sigma * np.exp(-(miss**2) / (2 * sigma**2))
    # Bilinear values flatten a Gaussian by h^2 / (6 sigma^2) or so in each direction.
    assert got == pytest.approx(expected, rel=0.015)


_BLOBS: dict[float, NDArray[np.float32]] = {}


def blob(
    shape: tuple[int, int, int], affine: NDArray[np.float64], sigma: float
) -> NDArray[np.float32]:
    if sigma not in _BLOBS:
        i = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
        p = i @ affine[:3, :3].T + affine[:3, 3]
        _BLOBS[sigma] = np.exp(-(p**2).sum(-1) / (2 * sigma**2)).astype(np.float32)
    return _BLOBS[sigma]


def scene() -> tuple[NDArray[np.int16], NDArray[np.float64], dict[str, Any]]:
    rng = np.random.default_rng(1)
    values = rng.integers(-1000, 2000, (11, 12, 13)).astype(np.int16)
    geometry = {
        "source_mm": np.array([-40.0, 7, 3]), "detector_mm": np.array([30.0, -20, -20]),
        "row_step_mm": np.array([0.1, 1, 0.2]), "column_step_mm": np.array([-0.2, 0.1, 1]),
        "shape": (40, 41),
    }  # fmt: skip
    return values, centred(np.diag([1.2, 0.8, 0.9]), values.shape), geometry


def test_the_order_and_direction_of_the_axes_do_not_matter() -> None:
    values, affine, geometry = scene()
    expected = project(values, affine, **geometry)
    assert expected.max() > 0
    turned = affine[:, [2, 0, 1, 3]]
    np.testing.assert_allclose(
        project(values.transpose(2, 0, 1), turned, **geometry), expected, rtol=1e-4, atol=0.1
    )
    flipped = affine.copy()
    flipped[:, 3] += (values.shape[0] - 1) * flipped[:, 0]
    flipped[:, 0] *= -1
    np.testing.assert_allclose(
        project(values[::-1], flipped, **geometry), expected, rtol=1e-4, atol=0.1
    )


def test_whole_and_broken_numbers_give_the_same_picture() -> None:
    values, affine, geometry = scene()
    for dtype in (np.float32, np.float64, np.int32, ">i2"):
        np.testing.assert_allclose(
            project(values.astype(dtype), affine, **geometry),
            project(values, affine, **geometry),
            rtol=1e-6,
        )


def test_a_ray_may_be_followed_either_way() -> None:
    values, affine, _ = scene()
    rng = np.random.default_rng(2)
    for a, b in rng.normal(size=(50, 2, 3)) * 30:
        there, back = one_ray(values, affine, a, b), one_ray(values, affine, b, a)
        assert there == pytest.approx(back, rel=1e-5, abs=1e-2)


def test_attenuation_is_never_negative() -> None:
    affine = centred(np.eye(3), (4, 4, 4))
    values = np.full((4, 4, 4), -3024, np.int16)
    hu = {"slope": 0.02, "intercept": 20.0}
    off = np.array([0.0, 0.5, 0.0])  # along the centres of one row of columns, not between two
    ray = (np.array([0.0, 0.0, -50.0]) + off, np.array([0.0, 0.0, 50.0]) + off)
    assert one_ray(values, affine, *ray, **hu) == 0.0
    values[:, :, 0] = 0  # one voxel of water before three that are less than nothing
    assert one_ray(values, affine, *ray, **hu) == pytest.approx(20.0, rel=1e-6)
    values[:, :, 1:] = -1000
    assert one_ray(values, affine, *ray, **hu) == pytest.approx(20.0, rel=1e-6)


def test_nothing_is_seen_behind_the_source_or_the_receptor() -> None:
    affine = centred(np.eye(3), (10, 10, 10))
    block = np.ones((10, 10, 10), np.int16)
    far = np.array([0.1, 0.2, 60.0])
    middle, quarter = np.array([0.1, 0.2, 0.0]), np.array([0.1, 0.2, 2.5])
    assert one_ray(block, affine, middle, far) == pytest.approx(5.0, rel=1e-5)
    assert one_ray(block, affine, far, middle) == pytest.approx(5.0, rel=1e-5)
    assert one_ray(block, affine, middle, quarter) == pytest.approx(2.5, rel=1e-5)
    assert one_ray(block, affine, far, far * 1.2) == 0.0
    assert one_ray(block, affine, [20.0, 20, -60], [20.0, 20, 60]) == 0.0


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 9), (9, 1, 9), (9, 9, 1), (2, 2, 2)])
def test_thin_volumes(shape: tuple[int, int, int]) -> None:
    affine = centred(np.eye(3), shape)
    start, end = np.array([-30.0, -28, -33]), np.array([30.0, 28, 33])
    got = one_ray(np.full(shape, 2, np.int16), affine, start, end)
    assert got == pytest.approx(2 * chord(affine, shape, start, end), rel=1e-5)


def test_a_slope_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="slope is 0"):
        one_ray(np.ones((2, 2, 2), np.int16), np.eye(4), [0, 0, -9], [0, 0, 9], slope=0.0)
