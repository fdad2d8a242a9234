"""Thermal dose: how much a course of temperature has harmed; CEM43 and Arrhenius damage.

Between the two ends of a step the temperature runs straight, and the dose of that line is summed,
not the dose of one of its ends: for short steps as exp of the middle times sinh(h) / h, which runs
along a row of voxels in lanes; across a bend of the rule or over a long step, term by term.

Temperatures are degC, CEM43 is minutes. No number of a tissue lives here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from trocar.errors import InputError
from trocar.kernels.bits import as_bits, as_float
from trocar.kernels.cure import GAS_J_MOL_K, ZERO_C_K

_NEGLIGIBLE = -16.1  # ln of a damage rate, 1e-7 / s: an hour of it is 0.0004
_BEND_C = 43.0  # of CEM43, by its name

# exp by halves: x = k ln 2 + r; adding _ROUND to a float64 leaves k in its lowest bits.
_LOG2_E = 1.4426950408889634
_LN_2_HIGH, _LN_2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0  # 1.5 * 2^52
_ONE = np.int64(1023 << 52)  # the bits of 1.0
_SHORT = 0.25  # h^2 of a step that is taken as short: 0.7 K below 43 degC, 1.4 K above
_MOST = 600.0  # of a power of e: beyond, dead is dead


@dataclass(frozen=True, kw_only=True)
class Cem43:
    """Cumulative equivalent minutes at 43 degC: bases above and below it, and the lowest counted.

    Sum of base^(43 - T) over minutes (Sapareto and Dewey 1984).
    """

    above: float
    below: float
    from_c: float

    def __post_init__(self) -> None:
        if not (0 < self.above < 1 and 0 < self.below < 1 and self.from_c <= _BEND_C):
            raise InputError(
                f"CEM43 with bases {self.above:g} and {self.below:g} from {self.from_c:g} degC; "
                "expected bases between 0 and 1, counted from 43 degC or below"
            )


@dataclass(frozen=True, kw_only=True)
class Arrhenius:
    """Damage omega: the integral of A exp(-Ea / R T); a set belongs together."""

    a_per_s: float
    ea_j_mol: float


def cem43_minutes(celsius: float, minutes: float, rule: Cem43) -> float:
    """CEM43 of a constant temperature.

    >>> cem43_minutes(45.0, 10.0, Cem43(above=0.5, below=0.25, from_c=39.0))
    40.0
    """
    return minutes * float(_cem_mean(celsius, celsius, rule.above, rule.below, rule.from_c))


def arrhenius_omega(celsius: float, seconds: float, rule: Arrhenius) -> float:
    """Damage at a constant temperature; 1 leaves 37 % alive."""
    kelvin = celsius + ZERO_C_K
    return float(seconds * np.exp(np.log(rule.a_per_s) - rule.ea_j_mol / (GAS_J_MOL_K * kelvin)))


def numbers(cem43: Cem43 | None, arrhenius: Arrhenius | None) -> np.ndarray[Any, Any]:
    """Both rules as ``add_row`` takes them; without a rule no temperature counts."""
    cem = (cem43.above, cem43.below, cem43.from_c) if cem43 else (1.0, 1.0, np.inf)
    if arrhenius is None:
        return np.array([*cem, 0.0, 0.0, np.inf])
    ln_a, ea_r = np.log(arrhenius.a_per_s), arrhenius.ea_j_mol / GAS_J_MOL_K
    # Below this temperature damage is negligible and its exponentials are spared.
    return np.array([*cem, ln_a, ea_r, ea_r / (ln_a - _NEGLIGIBLE) - ZERO_C_K])


# --- a row of voxels -----------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def add_row(
    old: Any, new: Any, blood: float, step: float, rules: Any, cem: Any, omega: Any
) -> bool:  # fmt: skip
    """Add to ``cem`` and ``omega`` (either may be empty) what a step from old to new does.

    False where nothing in the row is warm enough to count.

    ``old`` and ``new`` are degrees above ``blood``; ``rules`` are ``numbers``.
    """
    added = False
    if cem.size > 0:
        f, n = _warm_part(old, new, rules[2] - blood)
        if n > f:
            _cem_row(old[f:n], new[f:n], blood, step / 60.0, rules, cem[f:n])
            added = True
    if omega.size > 0:
        f, n = _warm_part(old, new, rules[5] - blood)
        if n > f:
            _omega_row(old[f:n], new[f:n], blood, step, rules, omega[f:n])
            added = True
    return added


@njit(cache=True, nogil=True, error_model="numpy")
def _warm_part(old: Any, new: Any, start: float) -> tuple[int, int]:
    """From the first to behind the last voxel that is warm enough before or after."""
    level = old.dtype.type(start)
    warm = 0  # counted first, which runs in lanes: most rows have none
    for x in range(old.size):
        warm += (old[x] >= level) | (new[x] >= level)
    if warm == 0:
        return 0, 0
    first, last = 0, old.size
    while old[first] < level and new[first] < level:
        first += 1
    while old[last - 1] < level and new[last - 1] < level:
        last -= 1
    return first, last


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"arcp"})
def _exp(v: float) -> Any:
    """exp(v) for |v| up to 700, good to 1e-10; runs in lanes where exp itself does not."""
    shifted = v * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = (v - k * _LN_2_HIGH) - k * _LN_2_LOW
    # Taylor's series; |r| <= ln(2) / 2 leaves 2e-10 / 2.
    p = 1.0 + r / 6.0 * (1.0 + r / 7.0 * (1.0 + r / 8.0))
    p = 1.0 + r * (1.0 + r / 2.0 * (1.0 + r / 3.0 * (1.0 + r / 4.0 * (1.0 + r / 5.0 * p))))
    return p * as_float((as_bits(shifted) << 52) + _ONE)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"arcp"})
def _sinhc(h2: float) -> float:
    """sinh(h) / h of h^2 up to _SHORT; 1e-8 is left."""
    return 1.0 + h2 / 6.0 * (1.0 + h2 / 20.0 * (1.0 + h2 / 42.0))


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def _capped(v: float) -> float:
    v = v if v < _MOST else _MOST
    return v if v > -_MOST else -_MOST


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def _plain(a: float, b: float, above: float, below: float, start: float) -> Any:
    """Whether a step from a to b is short and bends nowhere; h^2 of its sinh(h) / h.

    With | and &, which run in lanes where "or" and "and" branch.
    """
    warm = (a >= _BEND_C) & (b >= _BEND_C)
    h = 0.5 * (above if warm else below) * (b - a)
    counts = (a >= start) & (b >= start)
    return counts & (warm | ((a <= _BEND_C) & (b <= _BEND_C))) & (h * h <= _SHORT), h * h


@njit(cache=True, nogil=True, error_model="numpy")
def _cem_row(old: Any, new: Any, blood: float, minutes: float, rules: Any, cem: Any) -> None:
    above, below, start = rules[0], rules[1], rules[2]
    rise_above, rise_below = -np.log(above), -np.log(below)
    special = 0
    for x in range(cem.size):
        a, b = old[x] + blood, new[x] + blood
        over = 0.5 * (a + b) - _BEND_C
        rate = _exp(_capped((rise_above if over >= 0.0 else rise_below) * over))
        plain, h2 = _plain(a, b, rise_above, rise_below, start)
        more = minutes * rate * _sinhc(h2)
        cem[x] += more if plain else 0.0
        special += 0 if plain | ((a < start) & (b < start)) else 1
    if special == 0:
        return
    for x in range(cem.size):
        a, b = old[x] + blood, new[x] + blood
        if not (_plain(a, b, rise_above, rise_below, start)[0] | ((a < start) & (b < start))):
            cem[x] += minutes * _cem_mean(a, b, above, below, start)


@njit(cache=True, nogil=True, error_model="numpy")
def _omega_row(old: Any, new: Any, blood: float, seconds: float, rules: Any, omega: Any) -> None:
    ln_a, ea_r, start = rules[3], rules[4], rules[5] + ZERO_C_K
    kelvin = blood + ZERO_C_K
    special = 0
    for x in range(omega.size):
        a, b = old[x] + kelvin, new[x] + kelvin
        rate = _exp(_capped(ln_a - 0.5 * ea_r * (1.0 / a + 1.0 / b)))
        h = 0.5 * ea_r * (b - a) / (a * b)
        short, cold = h * h <= _SHORT, (a < start) & (b < start)
        more = seconds * rate * _sinhc(h * h)
        omega[x] += 0.0 if cold | (not short) else more
        special += 0 if cold | short else 1
    if special == 0:
        return
    for x in range(omega.size):
        a, b = old[x] + kelvin, new[x] + kelvin
        h = 0.5 * ea_r * (b - a) / (a * b)
        if max(a, b) >= start and not h * h <= _SHORT:
            omega[x] += seconds * _arrhenius_mean(ln_a - ea_r / a, ln_a - ea_r / b)


# --- term by term --------------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _cem_sum(t: float, above: float, below: float, start: float) -> float:
    """The integral over temperature of base^(43 - T), from the lowest temperature that counts."""
    if t <= start:
        return 0.0
    fall, rise = -np.log(below), -np.log(above)
    low = min(t, _BEND_C)
    out = (np.exp(fall * (low - _BEND_C)) - np.exp(fall * (start - _BEND_C))) / fall
    if t > _BEND_C:
        out += (np.exp(min(rise * (t - _BEND_C), _MOST)) - 1.0) / rise
    return float(out)


@njit(cache=True, nogil=True, error_model="numpy")
def _cem_mean(t0: float, t1: float, above: float, below: float, start: float) -> float:
    """The mean rate of CEM43 while the temperature runs straight from t0 to t1; exact."""
    if abs(t1 - t0) > 1e-3:
        total = _cem_sum(t1, above, below, start) - _cem_sum(t0, above, below, start)
        return float(total / (t1 - t0))
    t = 0.5 * (t0 + t1)
    if t < start:
        return 0.0
    return float((above if t >= _BEND_C else below) ** (_BEND_C - t))


@njit(cache=True, nogil=True, error_model="numpy")
def _arrhenius_mean(a: float, b: float) -> float:
    """The mean rate of damage while ln(rate) runs straight from a to b."""
    a, b = min(a, _MOST), min(b, _MOST)
    if abs(b - a) < 1e-4:
        return float(np.exp(0.5 * (a + b)))
    return float((np.exp(b) - np.exp(a)) / (b - a))
