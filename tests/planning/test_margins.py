"""Printed margins against a slow routine that shares no code with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from trocar.errors import InputError
from trocar.model.space import Grid, Mask, Segment
from trocar.planning import margins
from trocar.planning.routes import guard


def oblique_grid(spacing: Any, turn: Any, flip: int, shape: Any = (7, 9, 8)) -> Grid:
    """Any square-celled grid: turned, with reversed axes, off the origin."""
    axes = Rotation.from_rotvec(turn).as_matrix() * np.array([1, 1, -1 if flip else 1])
    affine = np.eye(4)
    affine[:3, :3] = axes * np.asarray(spacing)
    affine[:3, 3] = [31.0, -12.0, 250.0]
    return Grid(shape=shape, affine=affine)


grids = st.builds(
    oblique_grid,
    st.tuples(*[st.floats(0.4, 4.0)] * 3),
    st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    st.integers(0, 1),
)
ends = st.tuples(*[st.floats(-15.0, 15.0)] * 3).map(np.array)


@settings(max_examples=60, deadline=None)
@given(grid=grids, a=ends, b=ends, seed=st.integers(0, 9999))
def test_axis_distance_equals_the_slow_routine_on_any_grid(
    slow_distance: Any, grid: Grid, a: Any, b: Any, seed: int
) -> None:
    if np.linalg.norm(a - b) < 0.1:
        return
    values = np.random.default_rng(seed).random(grid.shape) < 0.08
    values[3, 4, 4] = True
    mask = Mask(grid=grid, values=values)
    path = Segment(start_mm=grid.centre_mm + a, end_mm=grid.centre_mm + b)
    found, nearest = margins.axis_distance(path, mask)
    slow = slow_distance(mask, path.start_mm, path.end_mm)
    assert slow - 0.03 <= found <= slow + 1e-9
    if found > 0:
        assert float(path.distance_mm(nearest)) == pytest.approx(found, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(grid=grids, seed=st.integers(0, 9999))
def test_surface_voxels_are_those_with_an_open_face(grid: Grid, seed: int) -> None:
    values = np.random.default_rng(seed).random(grid.shape) < 0.9
    found = {tuple(v) for v in margins.surface(Mask(grid=grid, values=values))}
    padded = np.pad(values, 1)
    expected = set()
    for k in np.argwhere(values):
        faces = [padded[tuple(k + 1 + s * e)] for e in np.eye(3, dtype=int) for s in (-1, 1)]
        if not all(faces):
            expected.add(tuple(k))
    assert found == expected


def test_a_needle_wholly_inside_a_structure_is_at_distance_zero() -> None:
    grid = Grid.from_spacing((30, 30, 30), (1, 1, 1))
    mask = Mask(grid=grid, values=np.ones((30, 30, 30), bool))
    path = Segment(start_mm=np.array([10.0, 10, 10]), end_mm=np.array([20.0, 20, 20]))
    assert margins.axis_distance(path, mask)[0] == 0.0
    (one,) = margins.margins(path, 1.5, [guard("aorta")], {"aorta": mask}, {})
    assert (one.distance_mm, one.verdict) == (-1.5, "stop")


def test_margins_come_tightest_first_and_know_limit_and_caution() -> None:
    grid = Grid.from_spacing((40, 40, 40), (1, 1, 1))
    masks = {}
    for name, column in (("aorta", 8), ("nerve_root_left", 30)):
        values = np.zeros((40, 40, 40), bool)
        values[:, :, column] = True
        masks[name] = Mask(grid=grid, values=values)
    path = Segment(start_mm=np.array([22.0, 30, 20]), end_mm=np.array([22.0, 5, 20]))
    out = margins.margins(path, 1.5, [guard(n) for n in masks], masks, {})
    assert [(m.structure, m.distance_mm, m.verdict) for m in out] == [
        ("nerve_root_left", 6.0, "ok"),  # 8 - half a voxel - 1.5
        ("aorta", 12.0, "ok"),
    ]


def test_an_empty_structure_is_infinitely_far() -> None:
    mask = Mask.empty(Grid.from_spacing((5, 5, 5), (1, 1, 1)))
    path = Segment(start_mm=np.zeros(3), end_mm=np.ones(3))
    assert margins.axis_distance(path, mask)[0] == np.inf


def test_a_sheared_grid_is_refused() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.3
    mask = Mask(grid=Grid(shape=(5, 5, 5), affine=affine), values=np.ones((5, 5, 5), bool))
    with pytest.raises(InputError, match="sheared"):
        margins.axis_distance(Segment(start_mm=np.zeros(3), end_mm=np.ones(3)), mask)
