"""Tissue and heat as values: what tissue a structure is, what it does to heat, what it may bear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trocar.errors import InputError
from trocar.facts import limits
from trocar.facts.source import Evidence, Value, load

BONE = "bone"  # of ``structure_tissue``: cortical or cancellous, as the CT says
_SECONDS = 60.0  # blood flow is given by the minute
_ML = 1e-6  # m3


def value(name: str) -> Value:
    """One number of ``thermal.toml`` by its name, such as ``cem43_from``."""
    return load("thermal")[name]


@dataclass(frozen=True, kw_only=True)
class TissueHeat:
    """How a tissue takes heat in, passes it on and is cooled by its blood."""

    name: str
    density_kg_m3: float
    specific_heat_j_kg_k: float
    conductivity_w_mk: float
    blood_ml_min_kg: float
    evidence: Evidence
    note: str = ""

    @property
    def capacity_j_m3k(self) -> float:
        """Heat a cubic metre takes in for each degree, rho c."""
        return self.density_kg_m3 * self.specific_heat_j_kg_k

    @property
    def omega_per_s(self) -> float:
        """Volume of blood through a volume of tissue each second (flow is given by mass).

        >>> round(tissue("cancellous_bone").omega_per_s, 7)
        0.000589
        """
        return self.blood_ml_min_kg * self.density_kg_m3 * _ML / _SECONDS

    @property
    def perfusion_w_m3k(self) -> float:
        """Heat blood carries off a cubic metre for each degree above its own, omega rho_b c_b.

        >>> round(tissue("cancellous_bone").perfusion_w_m3k)
        2237
        """
        blood = float(value("blood_density")) * float(value("blood_specific_heat"))
        return self.omega_per_s * blood


@dataclass(frozen=True, kw_only=True)
class HeatLimit:
    """From when a kind of structure is warned of, and from when it is harmed."""

    kind: str
    warn_c: float
    warn_cem43: float
    harm_c: float
    harm_cem43: float
    source: str
    evidence: Evidence

    def harmed(self, peak_c: float, cem43_min: float) -> bool:
        """Whether a peak or a dose reaches harm; what is not a number does."""
        return not (peak_c < self.harm_c and cem43_min < self.harm_cem43)

    def warned(self, peak_c: float, cem43_min: float) -> bool:
        """Whether a peak or a dose is worth a warning; what is not a number is."""
        return not (peak_c < self.warn_c and cem43_min < self.warn_cem43)


def tissues() -> tuple[str, ...]:
    """The names of the tissues there are."""
    return tuple(load("thermal").data["tissues"])


def tissue(name: str) -> TissueHeat:
    """A tissue by its name, such as ``cancellous_bone``. Raises InputError naming those known."""
    rows: dict[str, Any] = load("thermal").data["tissues"]
    if name not in rows:
        raise InputError(f"there is no tissue {name!r}; choose {', '.join(rows)}")
    return TissueHeat(name=name, **rows[name])


def tissue_of(structure: str) -> str:
    """Which tissue a structure of an anatomy is; ``bone`` is told apart by its HU.

    >>> tissue_of("spinal_canal"), tissue_of("iliac_vena_left"), tissue_of("liver")
    ('csf', 'blood', 'muscle')
    """
    rows: dict[str, str] = load("thermal").data["structure_tissue"]
    matches = [k for k in rows if structure == k or structure.startswith(k + "_")]
    return rows[max(matches, key=len)] if matches else "muscle"


def limit(structure: str) -> HeatLimit | None:
    """What a structure may bear; None for bone and metal, which bear what is near them.

    A structure of unknown kind may bear no more than the spinal canal.

    >>> limit("spinal_cord").harm_c, limit("flux_capacitor").harm_cem43
    (45.0, 10.0)
    """
    kind = limits.kind(structure)
    if kind in ("other_bone", "metal"):
        return None
    rows: dict[str, Any] = load("thermal").data["limits"]
    strict = "canal" if kind == "unknown" else kind
    name = strict if strict in rows else "other"
    return HeatLimit(kind=kind, **rows[name])
