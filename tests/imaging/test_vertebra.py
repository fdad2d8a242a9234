"""Genant's grades and the shapes they are measured on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar.imaging import shapes
from trocar.imaging.canal import hull_mask
from trocar.imaging.pelvis import ball_mask, find_ball
from trocar.imaging.vertebra import axes_from, genant, genant_grade
from trocar.model.space import Grid, Mask

GRID = Grid.from_spacing((60, 60, 60), (1.0, 1.0, 1.0))


def test_genant_of_the_reference() -> None:
    m = genant(18.0, 20.0, 25.0)
    assert (m.wedge_loss, m.biconcave_loss) == pytest.approx((0.28, 0.20))
    assert (genant_grade(m.wedge_loss), genant_grade(m.biconcave_loss)) == (2, 1)
    assert (m.genant_grade, m.crush_loss, m.plana) == (2, None, False)


def test_genant_crush_uses_the_neighbours() -> None:
    m = genant(15.0, 15.0, 15.0, (26.0, 24.0))
    assert m.crush_loss == pytest.approx(0.4)
    assert m.genant_grade == 2  # 40 % is still grade 2
    assert not m.plana
    assert genant(7.0, 7.0, 7.4, (26.0, 24.0)).plana


@given(st.floats(-1.0, 1.0))
def test_grade_never_falls_as_loss_rises(loss: float) -> None:
    assert genant_grade(loss) <= genant_grade(loss + 0.01)


@given(st.floats(0.3, 8.0))
def test_closing_holds_the_set_and_fills_no_gap_wider_than_twice_the_radius(radius: float) -> None:
    values = np.zeros(GRID.shape, dtype=bool)
    values[20:40, 20:25, 20:40] = True
    values[20:40, 45:50, 20:40] = True  # 20 voxels apart
    out = shapes.closed(Mask(grid=GRID, values=values), radius).values
    assert out[values].all()
    assert not out[30, 35, 30]


def test_a_ball_and_its_socket_are_fitted_to_a_tenth_of_a_millimetre() -> None:
    centre = np.array([30.3, 29.6, 30.1])
    head = ball_mask(centre, 22.0, GRID)
    found = find_ball([(head, True)])
    assert found is not None
    assert found.centre_mm == pytest.approx(centre, abs=0.15)
    # Voxel centres inside a sphere reach on average half a voxel less far than its surface.
    assert found.radius_mm == pytest.approx(22.0, abs=0.8)
    cup = ball_mask(centre, 28.0, GRID).values & ~ball_mask(centre, 24.0, GRID).values
    cup[:30] = False
    socket = find_ball([(Mask(grid=GRID, values=cup), False)])
    assert socket is not None
    assert socket.centre_mm == pytest.approx(centre, abs=1.5)


def test_hull_of_a_box() -> None:
    low, high = np.array([10.2, 12.2, 14.2]), np.array([20.8, 21.8, 22.8])
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    out = hull_mask(low + corners * (high - low), GRID)
    assert out.sum() == 10 * 9 * 8


@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6))
def test_axes_are_right_handed(a: float, b: float) -> None:
    axes = axes_from(np.zeros(3), np.array([a, b, 1.0]), np.array([0.0, 1.0, 0.0]))
    matrix = np.stack([axes.left, axes.posterior, axes.superior])
    assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    assert axes.left[0] > 0
