"""Setting cement against the times and temperatures of the reference, and against slow oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trocar.facts.cement import kinetics
from trocar.kernels import cure

CELSIUS = 273.15


def named(name: str) -> cure.Kinetics:
    row = kinetics(name)
    keys = ("k0_per_s", "activation_j_mol", "m", "n", "heat_j_kg", "start")
    return cure.Kinetics(**{k: row[k] for k in keys}, glass_k=row.get("glass_k"))


@pytest.mark.parametrize(
    ("name", "celsius", "end", "t50", "t95", "peak"),
    [
        ("B1", 23.0, 0.78347, 949.9, 1247.3, 936.0),
        ("B1", 37.0, 0.82050, 491.9, 645.4, 485.0),
        ("B2", 37.0, 0.82050, 286.2, 364.6, 284.0),
        ("L", 37.0, 1.0, 617.1, 802.5, None),
        ("L", 23.0, 1.0, 2142.0, 2786.0, None),
    ],
)
def test_isothermal_setting_takes_the_printed_times(
    name: str, celsius: float, end: float, t50: float, t95: float, peak: float | None
) -> None:
    course = cure.cure(named(name), start_k=celsius + CELSIUS, seconds=9000.0)
    assert course.end == pytest.approx(end, abs=1e-5)
    assert course.time_at(0.5 * end) == pytest.approx(t50, rel=0.005)
    assert course.time_at(0.95 * end) == pytest.approx(t95, rel=0.005)
    if peak is not None:
        assert course.peak_rate_s == pytest.approx(peak, rel=0.005)


@pytest.mark.parametrize(
    ("celsius", "end", "hottest_c"), [(37.0, 1.0, 105.49), (23.0, 0.957, 88.54)]
)
def test_adiabatic_setting_reaches_the_printed_temperature(
    celsius: float, end: float, hottest_c: float
) -> None:
    course = cure.cure(
        named("B1"), start_k=celsius + CELSIUS, seconds=4000.0, specific_heat_j_kg_k=1460.0
    )
    assert course.end == pytest.approx(end, rel=0.005)
    assert course.temperature_k[-1] - CELSIUS == pytest.approx(hottest_c, abs=0.05)
    if celsius == 37.0:
        assert course.time_at(0.5) == pytest.approx(444.0, rel=0.005)
    # Energy: what was warmed is what was set free.
    gained = (course.temperature_k[-1] - course.temperature_k[0]) * 1460.0
    freed = (course.share[-1] - course.share[0]) * 1e5
    assert gained == pytest.approx(freed, rel=1e-12)


def test_an_independent_solver_gives_the_same_course() -> None:
    k = named("B1")

    def slow(_: float, y: Any) -> list[float]:
        kelvin = 310.15 + (y[0] - k.start) * k.heat_j_kg / 1460.0
        left = max(0.0, min(kelvin / 378.0, 1.0) - y[0])
        arrhenius = np.exp(-k.activation_j_mol / (8.314462618 * kelvin))
        return [k.k0_per_s * arrhenius * y[0] ** k.m * left**k.n]

    oracle = solve_ivp(slow, (0.0, 900.0), [k.start], rtol=1e-10, atol=1e-12, dense_output=True)
    course = cure.cure(k, start_k=310.15, seconds=900.0, specific_heat_j_kg_k=1460.0)
    assert np.abs(course.share - oracle.sol(course.time_s)[0]).max() < 1e-5


def test_a_warmer_room_and_a_stronger_reaction_set_sooner() -> None:
    times = [
        cure.cure(named("B1"), start_k=c + CELSIUS, seconds=4000.0).time_at(0.5)
        for c in (20.0, 23.0, 37.0)
    ]
    assert times[0] > times[1] > times[2]
    assert np.isnan(cure.cure(named("B1"), start_k=296.15, seconds=60.0).time_at(0.5))


def test_impossible_times_are_refused() -> None:
    with pytest.raises(ValueError, match="expected more than 0"):
        cure.cure(named("B1"), start_k=310.0, seconds=0.0)
