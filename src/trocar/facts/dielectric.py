"""Tissue and electricity: Gabriel's model evaluated at any frequency, and what heat does to it."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trocar.errors import InputError
from trocar.facts.source import Evidence, Value, load


def value(name: str) -> Value:
    """One number of ``dielectric.toml`` by its name, such as ``conductivity_slope``."""
    return load("dielectric")[name]


@dataclass(frozen=True, kw_only=True)
class Dielectric:
    """How a tissue at 37 degC answers an electric field, by frequency.

    Either four Cole-Cole terms (``poles``: delta, tau in s, alpha) with ``eps_inf`` and the static
    ``conductivity_s_m``, or a ``table`` of (Hz, relative permittivity, S/m), the nearest of which
    counts.
    Source: Gabriel, Gabriel and Corthout 1996, part III; clinical.md E.3.
    """

    name: str
    evidence: Evidence
    eps_inf: float = 1.0
    conductivity_s_m: float = 0.0
    poles: tuple[tuple[float, float, float], ...] = ()
    table: tuple[tuple[float, float, float], ...] = ()
    note: str = ""

    def complex_permittivity(self, hz: float) -> complex:
        """Relative permittivity, its imaginary part negative where there is loss.

        Raises InputError unless the frequency is above 0.
        """
        if not hz > 0:
            raise InputError(f"a frequency of {hz} Hz; expected more than 0")
        omega, eps0 = 2 * pi * hz, float(value("vacuum_permittivity"))
        if self.table:
            row = min(self.table, key=lambda r: abs(np.log(r[0] / hz)))
            return complex(row[1], -row[2] / (omega * eps0))
        out = complex(self.eps_inf)
        for delta, tau_s, alpha in self.poles:
            out += delta / (1.0 + (1j * omega * tau_s) ** (1.0 - alpha))
        return out + self.conductivity_s_m / (1j * omega * eps0)

    def permittivity(self, hz: float) -> float:
        """Relative permittivity.

        >>> round(tissue("muscle").permittivity(2.45e9), 2)
        52.73
        """
        return self.complex_permittivity(hz).real

    def conductivity(self, hz: float) -> float:
        """Effective conductivity, S/m: of moving charges and of losses.

        >>> round(tissue("cancellous_bone").conductivity(500e3), 4)
        0.0867
        """
        omega = 2 * pi * hz
        return -self.complex_permittivity(hz).imag * omega * float(value("vacuum_permittivity"))

    def attenuation_np_m(self, hz: float) -> float:
        """By how much a plane wave's field falls on its way, Np/m.

        >>> round(tissue("csf").attenuation_np_m(2.45e9), 1)
        78.6
        """
        eps = self.complex_permittivity(hz)
        loss = sqrt((abs(eps) - eps.real) / 2.0)
        return 2 * pi * hz / float(value("light_speed")) * loss


def tissues() -> tuple[str, ...]:
    """The names of the tissues there are."""
    return tuple(load("dielectric").data["tissues"])


def tissue(name: str) -> Dielectric:
    """A tissue by its name, such as ``cancellous_bone``. Raises InputError naming those known."""
    rows: dict[str, Any] = load("dielectric").data["tissues"]
    if name not in rows:
        raise InputError(f"there is no tissue {name!r}; choose {', '.join(rows)}")
    row = dict(rows[name])
    for key in ("poles", "table"):
        row[key] = tuple(tuple(float(v) for v in r) for r in row.get(key, ()))
    return Dielectric(name=name, **row)


def warmed(celsius: ArrayLike, slope_per_k: float | None = None) -> NDArray[np.float64]:
    """What conductivity becomes at a temperature, as a share of that at 37 degC.

    It rises straight up to boiling, then falls evenly on a logarithmic scale to what is left when
    the water is gone. ``slope_per_k`` is another rise than the usual.

    >>> [round(float(v), 4) for v in warmed([37.0, 47.0, 100.0, 105.0])]
    [1.0, 1.175, 2.1025, 0.0021]
    """
    slope = float(value("conductivity_slope")) if slope_per_k is None else slope_per_k
    at, top = float(value("conductivity_reference")), float(value("boil_from"))
    t = np.asarray(celsius, np.float64)
    rise = np.maximum(1.0 + slope * (np.minimum(t, top) - at), float(value("coldest_share")))
    gone = np.clip((t - top) / float(value("boil_over")), 0.0, 1.0)
    out: NDArray[np.float64] = rise * float(value("boiled_share")) ** gone
    return out
