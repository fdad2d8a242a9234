"""Maps on a grid, against slow and obvious versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from trocar.kernels import field

SPACING = st.tuples(*[st.floats(0.3, 5.0)] * 3)
FEW = settings(max_examples=60, deadline=None)


def masks(longest: int = 7) -> st.SearchStrategy[NDArray[np.bool_]]:
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=longest)
    return shapes.flatmap(lambda s: hnp.arrays(np.bool_, s))


# --- distance ------------------------------------------------------------------------------------


def surface_distance(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Pair by pair: to boxes of the other label, or to its centres less half the largest step."""
    h = np.asarray(spacing)
    index, flat = np.argwhere(np.ones(mask.shape, bool)), mask.ravel()
    out = np.full(flat.size, np.inf)
    for label in (False, True):
        here, there = index[flat == label], index[flat != label]
        if len(here) and len(there):
            apart = np.abs(here[:, None] - there[None]) * h
            boxes = np.linalg.norm(np.maximum(apart - h / 2, 0.0), axis=-1).min(axis=1)
            centres = np.linalg.norm(apart, axis=-1).min(axis=1)
            out[flat == label] = np.maximum(boxes, centres - h.max() / 2)
    return np.where(flat, -out, out).reshape(mask.shape)


@FEW
@given(masks(), st.one_of(SPACING, st.floats(0.3, 5.0).map(lambda h: (h, h, h))))
def test_signed_distance_is_the_distance_to_the_voxels_on_the_other_side(
    mask: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> None:
    d = field.signed_distance(mask, spacing)
    assert d.dtype == np.float32
    np.testing.assert_allclose(d, surface_distance(mask, spacing), rtol=2e-6, atol=2e-6)


def test_with_equal_steps_it_is_the_distance_between_centres_less_half_a_step() -> None:
    mask = np.random.default_rng(7).random((30, 40, 90)) < 0.02
    to, fro = (ndimage.distance_transform_edt(m, 0.8) for m in (~mask, mask))
    expected = np.where(mask, 0.4 - fro, to - 0.4)
    np.testing.assert_allclose(field.signed_distance(mask, (0.8, 0.8, 0.8)), expected, atol=1e-5)


@FEW
@given(masks(), SPACING)
def test_distance_to_is_the_distance_to_the_nearest_set_centre(
    mask: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> None:
    index, set_ = np.argwhere(np.ones(mask.shape, bool)), np.argwhere(mask)
    apart = (index[:, None] - set_[None]) * np.asarray(spacing)
    expected = np.sqrt((apart**2).sum(-1)).min(axis=1, initial=np.inf)
    d = field.distance_to(mask, spacing)
    np.testing.assert_allclose(d.ravel(), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("density", [0.0005, 0.02, 0.5, 0.98])
@pytest.mark.parametrize("shape", [(40, 37, 150), (5, 200, 66), (130, 3, 64)])
def test_distances_of_larger_masks_equal_scipys(
    density: float, shape: tuple[int, int, int]
) -> None:
    # More columns than go together in one pass, with a ragged last bunch.
    mask = np.random.default_rng(1).random(shape) < density
    mask[shape[0] // 2, 1, 5] = True
    spacing = (2.5, 0.7, 0.9)
    expected = ndimage.distance_transform_edt(~mask, spacing)
    np.testing.assert_allclose(field.distance_to(mask, spacing), expected, rtol=2e-6)
    signed = field.signed_distance(mask, spacing)
    assert np.array_equal(signed < 0, mask)
    inside = ndimage.distance_transform_edt(mask, spacing)
    between_centres = np.where(mask, inside, expected)
    short = between_centres - np.abs(signed)
    assert short.min() > 0.0
    assert short.max() <= np.linalg.norm(spacing) / 2 + 1e-4


@FEW
@given(masks(9), SPACING)
def test_signed_distance_never_changes_faster_than_one_walks(
    mask: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> None:
    d = field.signed_distance(mask, spacing)
    if np.all(np.isfinite(d)):
        for axis, h in enumerate(spacing):
            assert np.all(np.abs(np.diff(d, axis=axis)) <= h * (1 + 1e-5))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_zero_lies_half_way_between_neighbouring_centres(axis: int) -> None:
    spacing = (3.0, 0.7, 1.1)
    mask = np.moveaxis(np.arange(8) < 3, 0, 0)[:, None, None] & np.ones((8, 4, 4), bool)
    mask = np.moveaxis(mask, 0, axis)
    d = np.moveaxis(field.signed_distance(mask, spacing), axis, 0)[:, 1, 1]
    np.testing.assert_allclose(d, (np.arange(8) - 2.5) * spacing[axis], rtol=1e-6)


def test_signed_distance_of_a_ball_is_right_to_half_a_voxel() -> None:
    spacing = np.array((1.0, 0.7, 0.8))
    i = np.stack(np.meshgrid(*(np.arange(n) for n in (40, 56, 50)), indexing="ij"), axis=-1)
    true = np.linalg.norm((i - [19.3, 28.1, 24.6]) * spacing, axis=-1) - 14.0
    d = field.signed_distance(true < 0, tuple(spacing))
    error = d - true
    assert np.abs(error).max() <= np.linalg.norm(spacing) / 2
    assert abs(error[np.abs(true) < 0.5].mean()) < 0.1
    assert -0.4 < error[true > 1].mean() < 0.0  # short rather than long
    assert -0.4 < -error[true < -1].mean() < 0.0


def test_empty_and_full_masks_have_no_surface() -> None:
    empty = np.zeros((3, 4, 5), bool)
    assert np.all(field.signed_distance(empty, (1, 1, 1)) == np.inf)
    assert np.all(field.signed_distance(~empty, (1, 1, 1)) == -np.inf)
    assert np.all(field.distance_to(empty, (1, 1, 1)) == np.inf)
    assert np.all(field.distance_to(~empty, (1, 1, 1)) == 0)


# --- resampling ----------------------------------------------------------------------------------


def oracle(values: NDArray[Any], points: NDArray[np.float64], outside: float) -> Any:
    """Trilinear value at points (n, 3), one corner at a time in plain NumPy."""
    size = np.asarray(values.shape)
    held = np.clip(points, 0, size - 1)
    low = np.floor(held).astype(int)
    total = np.zeros(len(points))
    for corner in np.ndindex(2, 2, 2):
        c = np.asarray(corner)
        at = np.minimum(low + c, size - 1)
        weight = np.where(c == 1, held - low, 1 - (held - low)).prod(axis=1)
        total += weight * values[at[:, 0], at[:, 1], at[:, 2]].astype(np.float64)
    inside = np.all((points >= -0.5) & (points <= size - 0.5), axis=1)
    return np.where(inside, total, outside)


def indices(shape: tuple[int, ...], m: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.argwhere(np.ones(shape, bool)) @ m[:, :3].T + m[:, 3]


MAPS: dict[str, Callable[[], NDArray[np.float64]]] = {
    "identity": lambda: np.eye(3, 4),
    "finer": lambda: np.array([[0.4, 0, 0, -0.31], [0, 0.61, 0, -0.2], [0, 0, 0.7, 0.13]]),
    "coarser": lambda: np.array([[1.7, 0, 0, 0.21], [0, 2.3, 0, -0.9], [0, 0, 1.2, -1.37]]),
    "flips": lambda: np.array([[-1.1, 0, 0, 6.2], [0, 0.9, 0, 0.1], [0, 0, -0.8, 9.3]]),
    "permutation": lambda: np.array([[0, 0, 0.9, 0.2], [1.1, 0, 0, -0.3], [0, -1.2, 0, 8.1]]),
    "rotation": lambda: np.array(
        [[0.8, 0.6, 0, -1.1037], [-0.6, 0.8, 0.1, 3.3141], [0, 0.2, 1, 0.4173]]
    ),
    "shear": lambda: np.array([[1, 0, 0.3, 0.11], [0, 1, 0.2, -1.03], [0, 0, 1, 0.47]]),
    "far away": lambda: np.array([[1.0, 0, 0, 90], [0, 1, 0, 0], [0, 0, 1, 0]]),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, np.int32])
def test_resampling_equals_the_oracle(name: str, dtype: type) -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(0, 200, (7, 8, 10)).astype(dtype)
    m, shape = MAPS[name](), (9, 6, 11)
    points = indices(shape, m)
    linear = field.resample_linear(values, m, shape, -7.0)
    assert linear.dtype == np.float32
    assert linear.shape == shape
    np.testing.assert_allclose(linear.ravel(), oracle(values, points, -7.0), atol=2e-4)
    nearest = field.resample_nearest(values, m, shape, 3)
    assert nearest.dtype == dtype
    at = np.floor(points + 0.5).astype(int)
    inside = np.all((at >= 0) & (at < values.shape), axis=1)
    at = np.clip(at, 0, np.asarray(values.shape) - 1)
    expected = np.where(inside, values[at[:, 0], at[:, 1], at[:, 2]], 3)
    np.testing.assert_array_equal(nearest.ravel(), expected)
    sampled = field.sample_linear(values, points, outside=-7.0)
    np.testing.assert_allclose(sampled, oracle(values, points, -7.0), atol=1e-9)


@FEW
@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-2, 2)),
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
    st.tuples(*[st.floats(-3, 3)] * 4),
)
def test_a_linear_field_stays_linear_between_the_centres(
    m: NDArray[np.float64], size: tuple[int, int, int], slope: tuple[float, ...]
) -> None:
    def ramp(points: NDArray[Any]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = points @ np.asarray(slope[:3]) + slope[3]
        return out

    values = ramp(indices(size, np.eye(3, 4))).reshape(size)
    shape = (4, 5, 3)
    points = indices(shape, m)
    inner = np.all((points >= 0) & (points <= np.asarray(size) - 1), axis=1)
    got = field.resample_linear(values, m, shape, 0.0).ravel()
    np.testing.assert_allclose(got[inner], ramp(points)[inner], atol=2e-5)


@pytest.mark.parametrize("name", MAPS)
def test_a_constant_stays_constant_up_to_the_outer_faces(name: str) -> None:
    m, shape = MAPS[name](), (9, 6, 11)
    got = field.resample_linear(np.full((7, 8, 10), 100, np.int16), m, shape, -1.0).ravel()
    points = indices(shape, m)
    inside = np.all((points >= -0.5) & (points <= np.array([7, 8, 10]) - 0.5), axis=1)
    np.testing.assert_array_equal(got, np.where(inside, np.float32(100), np.float32(-1)))


def test_the_separable_and_the_general_way_agree() -> None:
    values = np.random.default_rng(3).integers(-1000, 2000, (20, 21, 22)).astype(np.int16)
    m = np.array([[0.73, 0, 0, -0.45], [0, -1.3, 0, 20.4], [0, 0, 0.9, 0.2]])
    tilted = m.copy()
    tilted[0, 1] = 1e-9  # too little to move a value, enough to leave the separable path
    assert field._is_diagonal(m)
    assert not field._is_diagonal(tilted)
    a = field.resample_linear(values, m, (25, 16, 23), 0.0)
    b = field.resample_linear(values, tilted, (25, 16, 23), 0.0)
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_identity_returns_the_values_and_faces_are_inside() -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    assert np.array_equal(field.resample_linear(values, np.eye(3, 4), (2, 3, 4), 0), values)
    half = np.eye(3, 4)
    half[:, 3] = -0.5 - 1e-9  # on the outer faces but for rounding
    got = field.resample_linear(values, half, (3, 4, 5), -1)
    assert np.all(got >= 0)
    assert got[0, 0, 0] == 0
    assert got[2, 3, 4] == 23


def test_axes_of_one_voxel_hold_their_value() -> None:
    values = np.full((1, 1, 1), 5, np.int16)
    finer = np.diag([0.25, 0.25, 0.25])
    m = np.column_stack([finer, np.full(3, -0.375)])
    assert np.all(field.resample_linear(values, m, (4, 4, 4), -1) == 5)
    assert np.all(field.sample_linear(values, [[0.5, -0.5, 0.0]]) == 5)


def test_any_memory_order_is_read_and_none_is_changed() -> None:
    base = np.random.default_rng(4).integers(-1000, 1000, (12, 13, 14)).astype(np.int16)
    m = MAPS["rotation"]()
    expected = field.resample_linear(base[::2, 1:-1, ::-1].copy(), m, (6, 6, 6), 0)
    frozen = base.copy()
    frozen.setflags(write=False)
    for array in (base, frozen, base.astype(">i2"), np.asfortranarray(base)):
        before = array.copy()
        got = field.resample_linear(array[::2, 1:-1, ::-1], m, (6, 6, 6), 0)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(array, before)


def test_masks_are_resampled_as_they_are() -> None:
    mask = np.random.default_rng(5).random((5, 6, 7)) < 0.5
    got = field.resample_nearest(mask, np.eye(3, 4), mask.shape, False)
    assert got.dtype == np.bool_
    np.testing.assert_array_equal(got, mask)


def test_sampling_keeps_the_shape_and_refuses_what_is_no_number() -> None:
    values = np.arange(8.0).reshape(2, 2, 2)
    assert field.sample_linear(values, [0.5, 0.5, 0.5]).shape == ()
    assert field.sample_linear(values, np.zeros((4, 5, 3))).shape == (4, 5)
    assert np.isnan(field.sample_linear(values, [np.nan, 0, 0]))
    assert field.sample_linear(values, [9.0, 0, 0], outside=-3.0) == -3.0


def test_many_points_give_what_few_points_give() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=(9, 9, 9)).astype(np.float32)
    points = rng.uniform(-1, 9, (20_000, 3))
    many = field.sample_linear(values, points, outside=0.0)
    few = np.concatenate([field.sample_linear(values, p, 0.0) for p in points.reshape(20, -1, 3)])
    np.testing.assert_array_equal(many, few)
    np.testing.assert_allclose(many, oracle(values, points, 0.0), atol=1e-9)


# --- components ----------------------------------------------------------------------------------


@FEW
@given(masks(5), st.sampled_from([1, 3]))
def test_components_are_those_of_a_flood(mask: NDArray[np.bool_], connectivity: int) -> None:
    labels, sizes = field.components(mask, connectivity)
    assert labels.dtype == np.int32
    seen = np.zeros(mask.shape, bool)
    count = 0
    for start in map(tuple, np.argwhere(mask)):
        if seen[start]:
            continue
        count += 1
        stack, piece = [start], []
        seen[start] = True
        while stack:
            p = stack.pop()
            piece.append(p)
            for step in np.ndindex(3, 3, 3):
                d = np.asarray(step) - 1
                q = tuple(int(v) for v in np.asarray(p) + d)
                near = 0 < np.abs(d).sum() <= connectivity
                ok = all(0 <= v < n for v, n in zip(q, mask.shape, strict=True))
                if near and ok and mask[q] and not seen[q]:
                    seen[q] = True
                    stack.append(q)
        assert {int(labels[p]) for p in piece} == {count}
        assert sizes[count] == len(piece)
    assert len(sizes) == count + 1
    assert sizes[0] == 0
    assert np.array_equal(labels > 0, mask)


def test_warming_compiles_what_a_ct_needs() -> None:
    field.warm()
    kernels = (field._separable, field._general, field._separable_nearest, field._sample)
    before = [len(k.signatures) for k in (*kernels, field._pass, field._sign)]
    ct = np.zeros((3, 3, 3), np.int16)
    for m in (np.eye(3, 4), MAPS["shear"]()):
        field.resample_linear(ct[:2], m, (2, 2, 2), -1000.0)
        field.resample_nearest(ct > 0, m, (2, 2, 2), 0)
    field.sample_linear(ct, np.zeros((5000, 3)))
    field.signed_distance(ct > 0, (1.0, 1.0, 1.0))
    field.distance_to(ct > 0, (1.0, 1.0, 1.0))
    assert [len(k.signatures) for k in (*kernels, field._pass, field._sign)] == before
