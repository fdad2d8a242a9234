"""Thin rods on a grid: closed forms of a cylinder, however it lies between the voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.kernels import heat
from trocar.kernels.potential import Conductor
from trocar.kernels.rod import Rod, lay

H = 1e-3
FAR = 25e-3  # of the outer ring that is held, m


def cylinder_flux(radius_m: float, shift: tuple[float, float], transfer: float) -> float:
    """Heat into a cold cylinder in a slab, as a share of the closed form."""
    n = 61
    centre = n // 2 * H
    row, column = centre + shift[0] * H, centre + shift[1] * H
    y, x = np.indices((n, n)) * H
    r = np.hypot(y - row, x - column)[None]
    rod = Rod(
        start_m=np.array([-1.0, row, column]), end_m=np.array([1.0, row, column]),
        radius_m=radius_m,
    )  # fmt: skip
    laid = lay([rod], shape=(1, n, n), spacing_m=(H, H, H))
    tissue = heat.Tissue(
        shape=(1, n, n), spacing_m=(H, H, H), heat_capacity_j_m3k=1e5, conductivity_w_mk=0.5,
        perfusion_w_m3k=0.0, blood_c=37.0,
    )  # fmt: skip
    body = heat.Bioheat(tissue, start_c=37.0)
    exact = -100.0 + 137.0 * np.log(np.maximum(r, radius_m) / radius_m) / np.log(FAR / radius_m)
    body.fix(
        laid.every | (r >= FAR), np.where(laid.every, -100.0, exact), laid=laid,
        transfer_w_m2k=transfer,
    )  # fmt: skip
    body.advance(3000.0)
    ring = (r > 4e-3) & (r < FAR - 2e-3)
    slope = np.polyfit(np.log(r[ring]), body.temperature_c[ring], 1)[0]
    way = np.log(FAR / radius_m) + (0.0 if np.isinf(transfer) else 0.5 / (transfer * radius_m))
    return float(slope / (137.0 / way))


@pytest.mark.parametrize("radius_mm", [0.5, 0.75, 0.85, 1.2, 1.8])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, 0.5), (0.5, 0.0), (0.25, 0.1)])
def test_heat_into_a_thin_cylinder(radius_mm: float, shift: tuple[float, float]) -> None:
    assert cylinder_flux(radius_mm * H, shift, np.inf) == pytest.approx(1.0, abs=0.003)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.25, 0.1)])
def test_a_surface_that_passes_on_so_much_for_each_degree(shift: tuple[float, float]) -> None:
    assert cylinder_flux(0.85e-3, shift, 2000.0) == pytest.approx(1.0, abs=0.003)


@settings(max_examples=8, deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.4, 2.0))
def test_wherever_the_cylinder_lies(row: float, column: float, radius_mm: float) -> None:
    assert cylinder_flux(radius_mm * H, (row, column), np.inf) == pytest.approx(1.0, abs=0.01)


def resistance(n: int, h_m: float, way: tuple[float, ...], off: tuple[float, ...]) -> float:
    centre = np.full(3, (n - 1) / 2 * h_m) + np.array(off) * h_m
    u = np.array(way) / np.linalg.norm(way)
    rod = Rod(start_m=centre - 5e-3 * u, end_m=centre + 5e-3 * u, radius_m=0.6e-3)
    laid = lay([rod], shape=(n, n, n), spacing_m=(h_m,) * 3)
    tissue = Conductor(
        0.0867, shape=(n, n, n), spacing_m=(h_m,) * 3, electrodes=list(laid.held), laid=laid,
        far_from_m=centre.tolist(),
    )  # fmt: skip
    return 20.0 / float(tissue.solve([20.0]).current_a[0])


@pytest.mark.slow
def test_a_needle_electrode_resists_alike_in_every_direction() -> None:
    ways = [(1, 0, 0), (1, 1, 0), (1, 1, 1), (3, 2, 1)]
    offs = [(0, 0, 0), (0.5, 0.5, 0.5), (0.1, 0.2, 0.3), (0.3, 0.1, 0.2)]
    ohm = [resistance(64, 1e-3, w, o) for w, o in zip(ways, offs, strict=True)]
    print("ohm in four directions", ohm)
    # A thin round-ended rod: (ln(2 l / a) - 1) / (2 pi sigma l), l its whole length; within 2 %.
    length = 11.2e-3
    exact = (np.log(2 * length / 0.6e-3) - 1.0) / (2 * np.pi * 0.0867 * length)
    assert np.allclose(ohm, exact, rtol=0.03)
    assert max(ohm) / min(ohm) < 1.025


@pytest.mark.slow
def test_a_needle_electrode_on_a_finer_grid() -> None:
    ways = [(1, 0, 0), (1, 1, 0), (1, 1, 1), (3, 2, 1)]
    ohm = [resistance(128, 0.5e-3, w, (0.3, 0.1, 0.2)) for w in ways]
    assert max(ohm) / min(ohm) < 1.012


def test_factors_are_1_far_away() -> None:
    rod = Rod(start_m=np.full(3, 5e-3), end_m=np.array([5e-3, 5e-3, 8e-3]), radius_m=1e-3)
    laid = lay([rod], shape=(40, 40, 40), spacing_m=(H, H, H))
    for axis in range(3):
        far = np.ones(laid.factor[axis].shape, bool)
        far[:13, :13, :16] = False
        assert np.all(laid.factor[axis][far] == 1.0)
        assert laid.factor[axis].min() > 0


def test_what_cannot_be_is_said() -> None:
    one = Rod(start_m=np.full(3, 5e-3), end_m=np.array([5e-3, 5e-3, 8e-3]), radius_m=1e-3)
    box = {"shape": (12, 12, 12), "spacing_m": (H, H, H)}
    with pytest.raises(InputError, match="no rod"):
        lay([], **box)
    with pytest.raises(InputError, match="metal overlaps"):
        lay([one, one], **box)
    away = Rod(start_m=np.full(3, 0.5), end_m=np.full(3, 0.6), radius_m=1e-3)
    with pytest.raises(InputError, match="outside the grid"):
        lay([away], **box)
    with pytest.raises(InputError, match="radius of 0"):
        lay([Rod(start_m=one.start_m, end_m=one.end_m, radius_m=0.0)], **box)
    laid = lay([one], **box)
    with pytest.raises(InputError, match="laid on shape"):
        Conductor(1.0, shape=(8, 8, 8), spacing_m=(H,) * 3,
                  electrodes=[np.ones((8, 8, 8), bool)], laid=laid)  # fmt: skip
