"""The potential around electrodes: closed forms, conserved power, an assembled sparse solution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import spsolve

from trocar.errors import InputError
from trocar.kernels.potential import Conductor, Field

SIGMA_S_M = 0.0867  # spongy bone at 500 kHz
RADIUS_M = 5e-3


def sphere(n: int, h_m: float, off: tuple[float, float, float] = (0.13, 0.27, -0.31)):
    """Distances of voxel centres from a ball's surface, its centre off the lattice's points."""
    centre = (np.array([(n - 1) / 2] * 3) + off) * h_m
    at = np.stack(np.meshgrid(*[np.arange(n) * h_m] * 3, indexing="ij"), axis=-1)
    return np.linalg.norm(at - centre, axis=-1) - RADIUS_M, centre


def around_a_sphere(n: int, h_m: float, volts: float = 20.0) -> tuple[Field, np.ndarray]:
    outside, centre = sphere(n, h_m)
    tissue = Conductor(
        SIGMA_S_M,
        shape=(n, n, n),
        spacing_m=(h_m, h_m, h_m),
        electrodes=[outside <= 0],
        outside_m=outside,
        far_from_m=centre,
    )
    return tissue.solve([volts], tolerance=1e-8), outside + RADIUS_M


@pytest.mark.parametrize("n", [32, 48])
def test_resistance_and_power_of_a_sphere_electrode(n: int) -> None:
    field, _ = around_a_sphere(n, 1e-3)
    assert 20.0 / field.current_a[0] == pytest.approx(183.6, rel=0.01)
    assert field.power_w == pytest.approx(2.179, rel=0.01)


def test_resistance_of_a_sphere_converges() -> None:
    exact = 1.0 / (4.0 * np.pi * SIGMA_S_M * RADIUS_M)
    errors = [
        abs(20.0 / around_a_sphere(n, 32e-3 / n)[0].current_a[0] / exact - 1.0)
        for n in (16, 32, 64)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    print("resistance of a sphere, observed orders", orders)
    assert orders[-1] > 1.5


def test_heat_falls_as_the_fourth_power_of_distance() -> None:
    field, r = around_a_sphere(64, 0.5e-3)
    shell = (r > 8e-3) & (r < 12e-3)
    expected = SIGMA_S_M * 20.0**2 * RADIUS_M**2 / r[shell] ** 4
    assert field.joule_w_m3[shell] == pytest.approx(expected, rel=0.02)
    assert field.volts[shell] == pytest.approx(20.0 * RADIUS_M / r[shell], rel=0.005)


@given(seed=st.integers(0, 10_000), contrast=st.floats(0.0, 6.0))
def test_what_the_electrodes_put_in_turns_to_heat(seed: int, contrast: float) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(v) for v in rng.integers(7, 17, 3))
    sigma = 10.0 ** (rng.uniform(-contrast, 0.0, shape))
    first, second = np.zeros(shape, bool), np.zeros(shape, bool)
    first[2, 2, 2:4] = True
    second[-2, -2, -3:-1] = True
    tissue = Conductor(
        sigma, shape=shape, spacing_m=(2e-3, 1e-3, 1.5e-3), electrodes=[first, second],
        far_from_m=(shape[0] * 1e-3, shape[1] * 5e-4, shape[2] * 7.5e-4),
    )  # fmt: skip
    field = tissue.solve([10.0, -4.0], tolerance=1e-10)
    heat = field.joule_w_m3.sum() * 3e-9
    assert heat + field.far_w == pytest.approx(field.power_w, rel=1e-6)


def assembled(sigma: np.ndarray, h_m: tuple[float, ...], held: np.ndarray, volts: np.ndarray):
    """The same equation as a sparse matrix, solved directly: an independent slow way."""
    number = np.arange(sigma.size).reshape(sigma.shape)
    rows, columns, values = [], [], []
    for axis in range(3):
        near = [slice(None)] * 3
        far = [slice(None)] * 3
        near[axis], far[axis] = slice(None, -1), slice(1, None)
        a, b = sigma[tuple(near)], sigma[tuple(far)]
        k = 2 * a * b / (a + b)
        # Between free and held the free voxel's own conductivity counts.
        k = np.where(held[tuple(near)] & ~held[tuple(far)], b, k)
        k = np.where(held[tuple(far)] & ~held[tuple(near)], a, k)
        k = k * np.prod(h_m) / h_m[axis] ** 2
        i, j = number[tuple(near)].ravel(), number[tuple(far)].ravel()
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-k.ravel(), -k.ravel(), k.ravel(), k.ravel()]
    matrix = sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    )
    free = ~held.ravel()
    rhs = -matrix[free][:, ~free] @ volts.ravel()[~free]
    out = volts.ravel().astype(float).copy()
    out[free] = spsolve(matrix[free][:, free].tocsc(), rhs)
    return out.reshape(sigma.shape)


@pytest.mark.parametrize("contrast", [0.0, 2.0, 5.0])
def test_equals_an_assembled_solution(contrast: float) -> None:
    rng = np.random.default_rng(4)
    shape, h_m = (13, 16, 11), (2e-3, 1e-3, 1e-3)
    sigma = (10.0 ** rng.uniform(-contrast, 0.0, shape)).astype(np.float32).astype(float)
    plus, minus = np.zeros(shape, bool), np.zeros(shape, bool)
    plus[3, 4, 3:8] = True
    minus[9, 12, 3:8] = True
    tissue = Conductor(sigma, shape=shape, spacing_m=h_m, electrodes=[plus, minus])
    field = tissue.solve([1.0, -1.0], tolerance=1e-9)
    slow = assembled(sigma, h_m, plus | minus, np.where(plus, 1.0, -1.0))
    assert np.abs(field.volts - slow).max() < 2e-5


def test_iterations_stay_few_as_contrast_grows() -> None:
    n = 48
    at = np.indices((n, n, n)) - n / 2 + 0.5
    r = np.sqrt((at**2).sum(axis=0))
    electrode = (np.hypot(at[1], at[2]) < 1.0) & (np.abs(at[0]) < 6)
    counts = []
    for boiled in (1.0, 1e-2, 1e-4, 0.0):
        sigma = np.where((r > 9) & (r < 12), boiled, 1.0)
        sigma[0] = boiled
        tissue = Conductor(
            sigma, shape=(n, n, n), spacing_m=(1e-3,) * 3, electrodes=[electrode],
            far_from_m=(n / 2 * 1e-3,) * 3,
        )  # fmt: skip
        counts.append(tissue.solve([1.0], tolerance=1e-6).iterations)
    print("iterations", counts)
    assert max(counts) <= 40


def test_two_like_electrodes_share_alike() -> None:
    n = 40
    at = np.indices((n, n, n)) - (n - 1) / 2
    left = (np.hypot(at[0], at[1]) < 1.2) & (np.abs(at[2] + 8) < 3)
    right = left[:, :, ::-1]
    tissue = Conductor(1.0, shape=(n, n, n), spacing_m=(1e-3,) * 3, electrodes=[left, right])
    field = tissue.solve([1.0, -1.0], tolerance=1e-9)
    assert field.current_a[0] == pytest.approx(-field.current_a[1], rel=1e-6)
    heat = field.joule_w_m3
    assert heat == pytest.approx(heat[:, :, ::-1], rel=1e-4, abs=heat.max() * 1e-6)


def test_a_turned_electrode_meets_the_same_resistance() -> None:
    n, h_m, radius_m, half_m = 72, 0.5e-3, 1.2e-3, 6e-3
    at = (np.stack(np.indices((n, n, n)), axis=-1) - (n - 1) / 2) * h_m
    ohm = []
    for way in ((1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.5, 0.2)):
        axis = np.array(way) / np.linalg.norm(way)
        along = np.clip(at @ axis, -half_m, half_m)
        outside = np.linalg.norm(at - along[..., None] * axis, axis=-1) - radius_m
        tissue = Conductor(
            SIGMA_S_M, shape=(n, n, n), spacing_m=(h_m,) * 3, electrodes=[outside <= 0],
            outside_m=outside, far_from_m=((n - 1) / 2 * h_m,) * 3,
        )  # fmt: skip
        ohm.append(1.0 / tissue.solve([1.0]).current_a[0])
    print("resistance of a needle in four directions, ohm", ohm)
    assert max(ohm) / min(ohm) < 1.01


def test_an_earlier_solution_is_a_good_start() -> None:
    outside, centre = sphere(40, 1e-3)
    tissue = Conductor(
        SIGMA_S_M, shape=(40, 40, 40), spacing_m=(1e-3,) * 3, electrodes=[outside <= 0],
        outside_m=outside, far_from_m=centre,
    )  # fmt: skip
    cold = tissue.solve([20.0])
    tissue.conduct(SIGMA_S_M * (1.0 + 0.02 * np.exp(-np.maximum(outside, 0) / 5e-3)))
    fresh, warm = tissue.solve([20.0]), tissue.solve([20.0], start=cold.volts)
    assert warm.iterations < fresh.iterations
    assert warm.volts == pytest.approx(fresh.volts, abs=1e-3)


def test_what_cannot_be_is_said() -> None:
    shape, one = (6, 6, 6), np.zeros((6, 6, 6), bool)
    one[3, 3, 3] = True
    how = {"shape": shape, "spacing_m": (1e-3,) * 3}
    with pytest.raises(InputError, match="metal overlaps"):
        Conductor(1.0, electrodes=[one, one], **how)
    with pytest.raises(InputError, match="outside the grid"):
        Conductor(1.0, electrodes=[np.zeros(shape, bool)], **how)
    with pytest.raises(InputError, match="no electrode touches"):
        Conductor(0.0, electrodes=[one], **how)
    with pytest.raises(InputError, match="not below 0"):
        Conductor(-1.0, electrodes=[one], **how)
    with pytest.raises(InputError, match="finite"):
        Conductor(1.0, electrodes=[one], **how).solve([np.nan])
    with pytest.raises(InputError, match="2 voltages for 1"):
        Conductor(1.0, electrodes=[one], **how).solve([1.0, 2.0])


def test_an_island_of_tissue_that_no_current_reaches_makes_no_heat() -> None:
    sigma = np.ones((12, 12, 12))
    sigma[:, :, 7:9] = 0.0
    electrode = np.zeros(sigma.shape, bool)
    electrode[6, 6, 3] = True
    tissue = Conductor(
        sigma, shape=sigma.shape, spacing_m=(1e-3,) * 3, electrodes=[electrode],
        far_from_m=(6e-3, 6e-3, 3e-3),
    )  # fmt: skip
    field = tissue.solve([5.0])
    assert np.isfinite(field.volts).all()
    assert field.joule_w_m3[:, :, 7:9].max() == 0.0
