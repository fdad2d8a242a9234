"""Dose of a straight step, against the integral of its rule done slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trocar.kernels import dose

CEM = dose.Cem43(above=0.5, below=0.25, from_c=39.0)
BONE = dose.Arrhenius(a_per_s=1e98, ea_j_mol=7.5e4 * 8.314462618)
BLOOD_C = 37.0


def added(old_c: Any, new_c: Any, step_s: float, dtype: Any = np.float64) -> tuple[Any, Any]:
    """CEM43 and damage that a step adds to a row of voxels."""
    old, new = (np.asarray(t, dtype) - dtype(BLOOD_C) for t in (old_c, new_c))
    cem, omega = np.zeros(old.size), np.zeros(old.size)
    dose.add_row(old, new, BLOOD_C, step_s, dose.numbers(CEM, BONE), cem, omega)
    return cem, omega


def slowly(old_c: float, new_c: float, step_s: float) -> tuple[float, float]:
    """The same by 200 000 small pieces."""
    c = old_c + (new_c - old_c) * (np.arange(200_000) + 0.5) / 200_000
    cem = np.where(c < 39.0, 0.0, np.where(c < 43.0, 0.25, 0.5) ** (43.0 - c)).mean()
    # ln(rate) is taken as straight in time; over 20 degrees it bends a little.
    ends = np.log(1e98) - 7.5e4 / (np.array([old_c, new_c]) + 273.15)
    omega = np.exp(np.linspace(*ends, 200_001)).mean()
    return float(cem * step_s / 60.0), float(omega * step_s)


degrees = st.floats(30.0, 75.0)


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(degrees, min_size=1, max_size=40), rises=st.lists(
        st.one_of(st.floats(-1.0, 1.0), st.floats(-20.0, 20.0), st.just(0.0)), min_size=40,
        max_size=40,
    ),
)  # fmt: skip
def test_a_row_gets_the_dose_of_each_of_its_voxels(starts: list[float], rises: list[float]) -> None:
    old = np.array(starts)
    new = old + np.array(rises[: old.size])
    cem, omega = added(old, new, 3.0)
    for i in range(old.size):
        expected, damage = slowly(old[i], new[i], 3.0)
        # The slow sum places the step from 38.99 to 39.01 degC to within one of its pieces.
        assert cem[i] == pytest.approx(expected, rel=1e-4, abs=1e-7)
        # A rate below 1e-7 / s is not counted.
        assert omega[i] == pytest.approx(damage, rel=1e-4, abs=3.1e-7)


@pytest.mark.parametrize("rise", [0.0, 1e-4, 0.01, 0.5, -0.5, 1.4])
@pytest.mark.parametrize("celsius", [40.0, 44.0, 50.0, 60.0])
def test_short_steps_are_exact(celsius: float, rise: float) -> None:
    cem, omega = added([celsius], [celsius + rise], 10.0)
    log_rate = np.log(0.5 if celsius > 43 else 0.25) * -1.0
    ends = np.exp(log_rate * (np.array([celsius, celsius + rise]) - 43.0))
    mean = ends.mean() if rise == 0 else np.diff(ends)[0] / (log_rate * rise)
    assert cem[0] == pytest.approx(mean * 10.0 / 60.0, rel=3e-8 if rise in (0.0, 0.01) else 1e-7)
    logs = np.log(1e98) - 7.5e4 / (np.array([celsius, celsius + rise]) + 273.15)
    by = np.exp(logs).mean() if rise == 0 else np.diff(np.exp(logs))[0] / np.diff(logs)[0]
    assert omega[0] == pytest.approx(by * 10.0, rel=1e-7)


def test_single_precision_loses_only_what_its_degrees_lose() -> None:
    old = np.linspace(38.0, 70.0, 333)
    new = old + 0.02
    cem, omega = added(old, new, 1.0)
    single, damage = added(old, new, 1.0, np.float32)
    away = np.minimum(abs(old - 39.0), abs(new - 39.0)) > 0.03
    assert single[away] == pytest.approx(cem[away], rel=1e-5)
    assert damage == pytest.approx(omega, rel=1e-5)


def test_the_dead_stay_finite() -> None:
    cem, omega = added([36.0, 400.0, -200.0], [3000.0, 500.0, -100.0], 60.0)
    assert np.all(np.isfinite(cem))
    assert np.all(np.isfinite(omega))
    assert cem[2] == omega[2] == 0.0
    assert cem[1] > 1e90


def test_without_a_rule_nothing_counts() -> None:
    rules = dose.numbers(None, None)
    none = np.zeros(0)
    warm = np.array([30.0, 40.0])
    assert not dose.add_row(warm, warm, 37.0, 1.0, rules, none, none)
