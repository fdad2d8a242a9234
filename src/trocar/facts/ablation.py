"""Devices that heat or freeze, as values, and when tissue and nerves are lost to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from trocar.errors import InputError
from trocar.facts import limits, thermal
from trocar.facts.source import Evidence, Value, load

Kind = Literal["rf", "rf_bipolar", "microwave", "cryo"]


def value(name: str) -> Value:
    """One number of ``ablation.toml`` by its name, such as ``dead_cem43``."""
    return load("ablation")[name]


@dataclass(frozen=True, kw_only=True)
class Applicator:
    """A needle that heats or freezes: make your own from a maker's leaflet.

    ``active_mm`` is the length that works, from the tip; ``gap_mm`` insulates its two halves
    (bipolar). RF is driven until a thermocouple in it reads ``target_c``, or with ``power_w``
    when no target is given; ``cooled_c`` is the water inside. A cryoprobe falls to ``coldest_c``.
    ``zone_mm`` (length, width) is what its maker prints, where somebody read it; ``label`` what a
    sheet calls it.

    Raises InputError for sizes, powers and temperatures that cannot be.
    """

    name: str
    kind: Kind
    diameter_mm: float
    active_mm: float
    gap_mm: float = 0.0
    target_c: float | None = None
    power_w: float | None = None
    cooled_c: float | None = None
    coldest_c: float | None = None
    seconds: float = 600.0
    zone_mm: tuple[float, float] | None = None
    label: str = ""
    source: str = ""
    evidence: Evidence = "placeholder"

    def __post_init__(self) -> None:
        who = f"the applicator {self.name!r}"
        if not (self.diameter_mm > 0 and self.active_mm > 0 and self.seconds > 0):
            raise InputError(f"{who} needs a diameter, an active length and a time above 0")
        if not 0 <= self.gap_mm < self.active_mm:
            raise InputError(f"{who} has a gap of {self.gap_mm} mm in {self.active_mm} mm")
        if self.kind == "rf_bipolar" and not self.gap_mm > 0:
            raise InputError(f"{who} is bipolar; give the gap that insulates its two halves")
        if self.kind == "cryo":
            if self.coldest_c is None or not -200 <= self.coldest_c < 0:
                raise InputError(f"{who} freezes; give its lowest temperature, -200 to 0 degC")
        elif self.kind == "microwave" and self.power_w is None:
            raise InputError(f"{who} radiates; give its power")
        elif self.target_c is None and self.power_w is None:
            raise InputError(f"{who} heats; give a target temperature or a power")
        most = float(value("power_most"))
        if self.power_w is not None and not 0 < self.power_w <= most:
            raise InputError(
                f"{who} is to give {self.power_w:g} W; expected more than 0 and at most {most:g}"
            )
        if self.target_c is not None and not 40 <= self.target_c <= 120:
            raise InputError(f"{who} aims at {self.target_c:g} degC; expected 40 to 120")

    @property
    def radius_mm(self) -> float:
        """Half the diameter."""
        return self.diameter_mm / 2

    @property
    def called(self) -> str:
        """What a person calls it."""
        return self.label or self.name.replace("_", " ")

    @property
    def heats(self) -> bool:
        """Whether it heats (else it freezes)."""
        return self.kind != "cryo"

    @property
    def verified(self) -> bool:
        """Whether its numbers were read in a source; the sheet marks it where they were not."""
        return self.evidence == "verified"


def applicators() -> tuple[str, ...]:
    """The names of the devices there are."""
    return tuple(load("ablation").data["applicators"])


def applicator(name: str) -> Applicator:
    """A device by its name, such as ``osteocool_15``. Raises InputError naming those known.

    >>> applicator("cryo_17").coldest_c, applicator("osteocool_20").zone_mm
    (-140.0, (29.0, 21.0))
    """
    rows: dict[str, Any] = load("ablation").data["applicators"]
    if name not in rows:
        raise InputError(f"there is no applicator {name!r}; choose {', '.join(rows)}")
    row = dict(rows[name])
    if "zone_mm" in row:
        row["zone_mm"] = tuple(float(v) for v in row["zone_mm"])
    return Applicator(name=name, **row)


@dataclass(frozen=True, kw_only=True)
class PhaseChange:
    """What a tissue does when its water boils or freezes."""

    boiling_j_m3: float
    freezing_j_m3: float
    frozen_capacity_j_m3k: float
    frozen_conductivity_w_mk: float


def phase_change(tissue_name: str) -> PhaseChange:
    """Latent heats and frozen properties of a tissue of ``thermal.toml``.

    >>> density = thermal.tissue("muscle").density_kg_m3
    >>> round(phase_change("muscle").freezing_j_m3 / density / 1000, 1)
    250.5
    """
    data = load("ablation").data
    tissue = thermal.tissue(tissue_name)
    water, frozen = float(data["water"].get(tissue_name, 0.0)), data["frozen"]
    bony = tissue_name in ("cortical_bone", "cancellous_bone", "red_marrow")
    wet = water > 0
    return PhaseChange(
        boiling_j_m3=water * float(value("vaporisation")) * tissue.density_kg_m3,
        freezing_j_m3=water * float(value("fusion")) * tissue.density_kg_m3,
        frozen_capacity_j_m3k=(
            tissue.capacity_j_m3k if bony or not wet else frozen["soft_c"] * tissue.density_kg_m3
        ),
        frozen_conductivity_w_mk=(
            frozen["bone_k"] if bony else frozen["soft_k"] if wet else tissue.conductivity_w_mk
        ),
    )


def electric_name(tissue_name: str) -> str | None:
    """Which tissue of ``dielectric.toml`` it is; None: lung, air and tumour have their own."""
    found: str | None = load("ablation").data["electric"].get(tissue_name)
    return found


def nearness(distance_mm: float) -> Literal["ok", "caution", "stop"]:
    """What a distance from the edge of what dies or freezes to canal or nerve means.

    >>> nearness(12.0), nearness(7.0), nearness(float("nan"))
    ('ok', 'caution', 'stop')
    """
    if not distance_mm >= float(value("distance_stop")):
        return "stop"
    return "ok" if distance_mm >= float(value("distance_ok")) else "caution"


@dataclass(frozen=True, kw_only=True)
class ColdLimit:
    """From when a structure is warned of cold, and from when it is harmed, degC."""

    warn_c: float
    harm_c: float
    source: str
    evidence: Evidence


def cold_limit(structure: str) -> ColdLimit | None:
    """What cold a structure bears; None for bone and metal. Unknown kinds count as nerves.

    >>> cold_limit("nerve_root_l1_left").harm_c, cold_limit("colon").harm_c
    (10.0, 0.0)
    """
    kind = limits.kind(structure)
    if kind in ("other_bone", "metal"):
        return None
    harm = value("cold_harm_neural_c" if limits.neural(structure) else "cold_harm_c")
    warn = value("cold_warn_c")
    # A nerve is warned of, and harmed, from the same temperature: there is no safe step between.
    return ColdLimit(
        warn_c=float(warn), harm_c=float(harm), source=harm.source, evidence=harm.evidence
    )
