"""How bone cement sets: the share polymerised and the heat it makes, in one mass or in many places.

    dp/dt = k0 exp(-Ea / R T) p^m (p_end(T) - p)^n,   p_end = min(T / Tg, 1) or 1,

after Baliga; what has once become possible stays so (p_end never falls while the mass cools). With
an exotherm c dT/dt = heat dp/dt when no heat leaves. Temperatures are kelvin, but degC for
``Curing``, the many places of a mass that heat flows through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

GAS_J_MOL_K = 8.314462618  # CODATA 2018, exact
ZERO_C_K = 273.15


@dataclass(frozen=True, kw_only=True)
class Kinetics:
    """The constants of one published set: rate, activation, orders, heat, glass temperature.

    ``glass_k`` None: the reaction can go to the end at any temperature.
    """

    k0_per_s: float
    activation_j_mol: float
    m: float
    n: float
    heat_j_kg: float
    glass_k: float | None
    start: float  # share polymerised when the clock starts


@dataclass(frozen=True, eq=False, kw_only=True)
class Cure:
    """The course of setting: times, share polymerised, temperature; one row a step."""

    time_s: NDArray[np.float64]
    share: NDArray[np.float64]
    temperature_k: NDArray[np.float64]

    def time_at(self, share: float) -> float:
        """When so much is polymerised, s; nan if never. Linear between steps."""
        if share > self.share[-1]:
            return float("nan")
        return float(np.interp(share, self.share, self.time_s))

    @property
    def end(self) -> float:
        """The share polymerised at last."""
        return float(self.share[-1])

    @property
    def peak_rate_s(self) -> float:
        """When it sets fastest, s."""
        rate = np.diff(self.share) / np.diff(self.time_s)
        k = int(np.argmax(rate))
        return float((self.time_s[k] + self.time_s[k + 1]) / 2)


@njit(cache=True, nogil=True, error_model="numpy")
def _rate(p: float, kelvin: float, end: float, constants: Any) -> float:
    k0, activation, m, n, gas = constants
    left = end - p
    if left <= 0.0:
        return 0.0
    return float(k0 * np.exp(-activation / (gas * kelvin)) * p**m * left**n)


@njit(cache=True, nogil=True, error_model="numpy")
def _possible(kelvin: float, glass: float, before: float) -> float:
    """The share that can be reached at a temperature, never less than before."""
    return max(before, min(kelvin / glass, 1.0) if glass > 0.0 else 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _run(
    p: float, kelvin: float, rise: float, glass: float, constants: Any, step_s: float, rows: Any
) -> int:
    """Classical Runge-Kutta; ``rise`` is the temperature gained per share polymerised."""
    end = _possible(kelvin, glass, 0.0)
    start_k = kelvin
    p0 = p
    rows[0, 0], rows[0, 1], rows[0, 2] = 0.0, p, kelvin
    for i in range(1, rows.shape[0]):
        # Adiabatic: the temperature follows from the share, so there is one unknown.
        a = _rate(p, kelvin, end, constants)
        q = p + 0.5 * step_s * a
        tq = start_k + rise * (q - p0)
        b = _rate(q, tq, _possible(tq, glass, end), constants)
        q = p + 0.5 * step_s * b
        tq = start_k + rise * (q - p0)
        c = _rate(q, tq, _possible(tq, glass, end), constants)
        q = p + step_s * c
        tq = start_k + rise * (q - p0)
        d = _rate(q, tq, _possible(tq, glass, end), constants)
        p += step_s / 6.0 * (a + 2.0 * b + 2.0 * c + d)
        kelvin = start_k + rise * (p - p0)
        end = _possible(kelvin, glass, end)
        rows[i, 0], rows[i, 1], rows[i, 2] = i * step_s, p, kelvin
    return int(rows.shape[0])


def cure(
    kinetics: Kinetics,
    *,
    start_k: float,
    seconds: float,
    specific_heat_j_kg_k: float | None = None,
    step_s: float = 0.25,
) -> Cure:
    """How far has cement set, and how warm is it, so long after mixing?

    At ``start_k`` throughout (isothermal), or, given ``specific_heat_j_kg_k``, with all its heat
    kept (adiabatic). Raises ValueError for times or temperatures not above 0.
    """
    if not (start_k > 0 and seconds > 0 and step_s > 0):
        raise ValueError(f"start {start_k} K, {seconds} s, step {step_s} s; expected more than 0")
    rise = 0.0 if specific_heat_j_kg_k is None else kinetics.heat_j_kg / specific_heat_j_kg_k
    rows = np.empty((int(np.ceil(seconds / step_s)) + 1, 3))
    constants = np.array(
        [kinetics.k0_per_s, kinetics.activation_j_mol, kinetics.m, kinetics.n, GAS_J_MOL_K]
    )
    _run(kinetics.start, start_k, rise, kinetics.glass_k or 0.0, constants, step_s, rows)
    return Cure(time_s=rows[:, 0], share=rows[:, 1], temperature_k=rows[:, 2])


class Curing:
    """Cement that sets in many places at once, each at its own temperature.

    ``share`` is the polymerised share of each place (1-D), ``advance`` moves it on and says how
    much was added. What the temperature did in the last step it is taken to do in the next, so that
    halving the step quarters the error.
    """

    def __init__(self, kinetics: Kinetics, celsius: NDArray[np.float64], share: float) -> None:
        self._constants = np.array(
            [kinetics.k0_per_s, kinetics.activation_j_mol, kinetics.m, kinetics.n, GAS_J_MOL_K]
        )
        self._glass = kinetics.glass_k or 0.0
        self.share = np.full(celsius.shape, float(share))
        self._end = np.zeros(celsius.shape)
        self._last, self._last_s = celsius.astype(np.float64), 0.0

    def advance(self, celsius: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
        """The share each place gains in so many seconds, starting at these temperatures."""
        slope = np.zeros_like(self.share)
        if self._last_s > 0:
            slope = (celsius - self._last) / self._last_s
        self._last, self._last_s = celsius.astype(np.float64), seconds
        before = self.share.copy()
        kelvin = self._last + ZERO_C_K
        _cure(self.share, self._end, kelvin, slope, self._glass, self._constants, seconds)
        out: NDArray[np.float64] = self.share - before
        return out


@njit(cache=True, nogil=True, error_model="numpy")
def _cure(
    share: Any, ends: Any, kelvin: Any, slope: Any, glass: float, constants: Any, step: float
) -> None:
    """Classical Runge-Kutta for each place, its temperature running straight."""
    for i in range(share.size):
        p, t0, t2 = share[i], kelvin[i], kelvin[i] + slope[i] * step
        t1 = 0.5 * (t0 + t2)
        end0 = _possible(t0, glass, ends[i])
        end1 = _possible(t1, glass, end0)
        end2 = _possible(t2, glass, end1)
        a = _rate(p, t0, end0, constants)
        b = _rate(p + 0.5 * step * a, t1, end1, constants)
        c = _rate(p + 0.5 * step * b, t1, end1, constants)
        d = _rate(p + step * c, t2, end2, constants)
        share[i] = p + step / 6.0 * (a + 2.0 * b + 2.0 * c + d)
        ends[i] = end0  # what is reached at the end is known only when the next step starts


def warm() -> None:
    """Compile the kernels."""
    constants = Kinetics(
        k0_per_s=1.0, activation_j_mol=1.0, m=1.0, n=1.0, heat_j_kg=1.0, glass_k=378.0, start=1e-6
    )
    cure(constants, start_k=300.0, seconds=1.0)
    Curing(constants, np.zeros(1), 0.5).advance(np.zeros(1), 1.0)
