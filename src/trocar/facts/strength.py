"""How strong bone, cement and their neighbours are, as values: laws, materials, failure, loads."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, radians, sqrt, tan
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trocar.errors import InputError
from trocar.facts.source import Evidence, Value, load

Float = NDArray[np.float64]
Density = Literal["qct", "ha", "k2hpo4", "ash", "app"]
Bound = Literal["low", "mean", "high"]
Piece = tuple[float, float, float, float]  # from this density on: offset + factor * rho ** exponent

DENSITIES: tuple[Density, ...] = ("qct", "ha", "k2hpo4", "ash", "app")


def value(name: str) -> Value:
    """One number of ``strength.toml`` by its name, such as ``pistoia_strain``."""
    return load("strength")[name]


def bound(fact: Value, at: Bound = "mean") -> float:
    """The low, mean or high end of a number; its mean where it has no such end.

    >>> bound(value("stance_share"), "high"), bound(value("walking_share"), "high")
    (2.8, 2.38)
    """
    end = {"low": fact.low, "mean": fact.mean, "high": fact.high}[at]
    return float(fact) if end is None else end


def _row(table: str, name: str, what: str) -> dict[str, Any]:
    rows: dict[str, Any] = load("strength").data[table]
    if name not in rows:
        raise InputError(f"there is no {what} {name!r}; choose {', '.join(rows)}")
    return dict(rows[name])


# --- density -----------------------------------------------------------------------------------


def density(rho_g_cm3: ArrayLike, *, of: Density, to: Density) -> Float:
    """What a density (g/cm3, any shape) is when given as another: HA as ash, ash as apparent.

    ``qct`` is the density the CT was calibrated to, HA or K2HPO4. What is below 0 counts as 0.
    Ash density never falls below 0.05 to 0.08, so this holds inside bone only. clinical.md C.2.
    Raises InputError where the reference knows no way from the one to the other.

    >>> round(float(density(0.120, of="ha", to="app")), 4)
    0.3071
    """
    for name in (of, to):
        if name not in DENSITIES:
            raise InputError(f"there is no density {name!r}; choose {', '.join(DENSITIES)}")
    rho = np.maximum(np.asarray(rho_g_cm3, np.float64), 0.0)
    if of == to or (to == "qct" and of in ("ha", "k2hpo4")):
        return rho
    if to == "ha" and of == "k2hpo4":
        return rho * float(value("k2hpo4_to_ha"))
    share = float(value("ash_share"))
    if to == "app":
        out: Float = density(rho, of=of, to="ash") / share
        return out
    if to == "ash" and of == "app":
        return rho * share
    if to == "ash" and of == "k2hpo4":
        return float(value("keyak_offset")) + float(value("keyak_slope")) * rho
    if to == "ash" and of == "ha":
        return float(value("ash_offset")) + float(value("ash_slope")) * rho
    raise InputError(
        f"no way from the density {of!r} to {to!r} is known; give ha or k2hpo4, as the CT was "
        "calibrated"
    )


def density_factor(method: str) -> Value:
    """By what a density may be off after a calibration: ``phantom``, ``internal`` or ``none``.

    >>> density_factor("none").low
    0.8
    """
    known = ("phantom", "internal", "none")
    if method not in known:
        raise InputError(f"there is no calibration {method!r}; choose {', '.join(known)}")
    return value(f"density_factor_{method}")


# --- laws --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DensityLaw:
    """How stiff, and where known how strong, bone of a density is. Make your own from a paper.

    ``takes`` says which density goes in; ``pieces`` and ``strength`` are (from g/cm3, offset,
    factor, exponent), value = offset + factor * rho ** exponent in MPa. ``measured_g_cm3`` is the
    range of densities in which it was found. clinical.md C.3.
    """

    name: str
    takes: Density
    pieces: tuple[Piece, ...]
    strength: tuple[Piece, ...] = ()
    measured_g_cm3: tuple[float, float] | None = None
    label: str = ""
    source: str = ""
    evidence: Evidence = "placeholder"

    def __post_init__(self) -> None:
        for pieces in (self.pieces, self.strength):
            starts = [p[0] for p in pieces]
            if starts != sorted(set(starts)) or (pieces and starts[0] != 0.0):
                raise InputError(
                    f"the law {self.name!r} has pieces from {starts} g/cm3; expected to begin at 0 "
                    "and to rise"
                )
        if not self.pieces:
            raise InputError(f"the law {self.name!r} has no piece; give its modulus by density")

    @property
    def verified(self) -> bool:
        """Whether its constants were read in a source."""
        return self.evidence == "verified"

    def modulus_mpa(self, rho_g_cm3: ArrayLike, *, of: Density | None = None) -> Float:
        """Young's modulus of bone, MPa, kept between modulus_least and modulus_most.

        ``of`` says which density is given where it is not the one the law takes.

        >>> round(float(law("kopperdahl").modulus_mpa(0.120, of="ha")))
        353
        """
        raw = _evaluate(self.pieces, self._taken(rho_g_cm3, of))
        out: Float = np.clip(raw, float(value("modulus_least")), float(value("modulus_most")))
        return out

    def strength_mpa(self, rho_g_cm3: ArrayLike, *, of: Density | None = None) -> Float:
        """Strength (for Kopperdahl: yield stress) of bone, MPa, never below 0.

        Raises InputError for a law whose paper gives none.
        """
        if not self.strength:
            having = [n for n in laws() if law(n).strength]
            raise InputError(
                f"the law {self.name!r} gives no strength; those that do are {', '.join(having)}"
            )
        out: Float = np.maximum(_evaluate(self.strength, self._taken(rho_g_cm3, of)), 0.0)
        return out

    def measured(self, rho_g_cm3: ArrayLike, *, of: Density | None = None) -> NDArray[np.bool_]:
        """Where a density lies in the range the law was found in; nowhere if it is not known."""
        rho = self._taken(rho_g_cm3, of)
        low, high = self.measured_g_cm3 or (np.inf, -np.inf)
        out: NDArray[np.bool_] = (rho >= low) & (rho <= high)
        return out

    def _taken(self, rho: ArrayLike, of: Density | None) -> Float:
        return density(rho, of=of or self.takes, to=self.takes)


def _evaluate(pieces: tuple[Piece, ...], rho: Float) -> Float:
    table = np.array(pieces)
    at = np.maximum(np.searchsorted(table[:, 0], rho, side="right") - 1, 0)
    _, offset, factor, exponent = np.moveaxis(table[at], -1, 0)
    out: Float = offset + factor * rho**exponent
    return out


def laws() -> tuple[str, ...]:
    """The names of the laws there are."""
    return tuple(load("strength").data["laws"])


def law(name: str) -> DensityLaw:
    """A law by its name, such as ``keyak``. Raises InputError naming those known.

    >>> [round(float(v), 1) for v in law("keyak").modulus_mpa([0.1, 0.4, 1.0])]
    [213.9, 2591.8, 10200.0]
    """
    row = _row("laws", name, "law of density and modulus")
    rate = row.get("rate_per_s", 1.0) ** row.get("rate_exponent", 0.0)
    measured = row.get("range")
    return DensityLaw(
        name=name,
        takes=row["takes"],
        pieces=_pieces(row["pieces"], rate),
        strength=_pieces(row.get("strength", ()), rate),
        measured_g_cm3=None if measured is None else (float(measured[0]), float(measured[1])),
        label=row["label"],
        source=row["source"],
        evidence=row["evidence"],
    )


def _pieces(rows: Any, rate: float) -> tuple[Piece, ...]:
    return tuple((float(s), float(a), float(b) * rate, float(n)) for s, a, b, n in rows)


# --- materials ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Material:
    """A material that is the same throughout: each number with its spread, source and grade.

    A strength that is None is not known; the material is then not asked whether it fails.
    """

    name: str
    label: str
    modulus_mpa: Value
    poisson: Value
    compression_mpa: Value | None = None
    tension_mpa: Value | None = None

    @property
    def verified(self) -> bool:
        """Whether all its numbers were read in a source."""
        held = (self.modulus_mpa, self.poisson, self.compression_mpa, self.tension_mpa)
        return all(v.verified for v in held if v is not None)


def materials() -> tuple[str, ...]:
    """The names of the materials there are."""
    return tuple(load("strength").data["materials"])


def material(name: str) -> Material:
    """A material by its name, such as ``pmma``. Raises InputError naming those known.

    >>> cement = material("pmma").modulus_mpa
    >>> cement.low, cement.mean, cement.high
    (1459.0, 1937.0, 3000.0)
    """
    row = _row("materials", name, "material")
    like = row.get("as", name)
    values = load("strength").values

    def held(what: str) -> Value | None:
        return values.get(f"{name}_{what}") or values.get(f"{like}_{what}")

    modulus, poisson = held("modulus"), held("poisson")
    assert modulus is not None
    assert poisson is not None
    return Material(
        name=name,
        label=row["label"],
        modulus_mpa=modulus,
        poisson=poisson,
        compression_mpa=held("compression"),
        tension_mpa=held("tension"),
    )


# --- failure -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StrainLimit:
    """Principal strains at which bone yields; that of compression is below 0."""

    name: str
    label: str
    compression: Value
    tension: Value

    def used(self, least_strain: ArrayLike, greatest_strain: ArrayLike) -> Float:
        """How much of the limit the principal strains use up; 1 and more is yield.

        >>> [round(float(v), 2) for v in strain_limit("vertebra").used([-0.0042, 0], [0, 0.0061])]
        [0.5, 1.0]
        """
        squeezed = np.asarray(least_strain, np.float64) / float(self.compression)
        pulled = np.asarray(greatest_strain, np.float64) / float(self.tension)
        out: Float = np.maximum(np.maximum(squeezed, pulled), 0.0)
        return out


def strain_limit(name: str) -> StrainLimit:
    """Yield strains by their name: ``vertebra`` (trabecular) or ``femur`` (cortical)."""
    row = _row("strains", name, "yield strain")
    return StrainLimit(
        name=name,
        label=row["label"],
        compression=value(f"{name}_strain_compression"),
        tension=value(f"{name}_strain_tension"),
    )


@dataclass(frozen=True, kw_only=True)
class DruckerPrager:
    """Failure where sqrt(J2) + alpha * I1 reaches k: weaker in tension than in compression."""

    alpha: float
    k_mpa: float

    def used(self, i1_mpa: ArrayLike, root_j2_mpa: ArrayLike) -> Float:
        """How much of the limit a stress uses up; 1 and more is failure."""
        i1, root_j2 = np.asarray(i1_mpa, np.float64), np.asarray(root_j2_mpa, np.float64)
        out: Float = np.maximum((root_j2 + self.alpha * i1) / self.k_mpa, 0.0)
        return out


def drucker_prager(compression_mpa: float, tension_mpa: float) -> DruckerPrager:
    """The criterion that fails at these uniaxial strengths, both above 0. clinical.md G.2.

    >>> round(drucker_prager(80.0, 25.0).k_mpa, 2)
    21.99
    """
    if not (compression_mpa > 0 and tension_mpa > 0):
        raise InputError(
            f"strengths of {compression_mpa:g} and {tension_mpa:g} MPa; give both above 0"
        )
    both = sqrt(3.0) * (compression_mpa + tension_mpa)
    return DruckerPrager(
        alpha=(compression_mpa - tension_mpa) / both, k_mpa=2 * compression_mpa * tension_mpa / both
    )


def pistoia_load_n(load_n: float, effective_strain: float) -> float:
    """The load at failure of a linear model, from the strain only 2 % of its bone exceeds.

    ``effective_strain`` is sqrt(2 U / E) at that percentile of the volume under ``load_n``.

    >>> round(pistoia_load_n(1000.0, 0.0014))
    5000
    """
    if not effective_strain > 0:
        raise InputError(f"an effective strain of {effective_strain}; expected more than 0")
    return load_n * float(value("pistoia_strain")) / effective_strain


def height_load_n(stiffness_n_mm: float, height_mm: float) -> float:
    """The load at failure of a vertebra, from its linear stiffness and its height.

    >>> round(height_load_n(20139.0, 32.0), 1)  # VerSe 12, L2: 4.3822 kN printed
    4382.2
    """
    return float(value("height_strain")) * stiffness_n_mm * height_mm


def at_high_risk(load_n: float, strength_n: float) -> bool:
    """Whether a load reaches the strength; what is not a number does.

    >>> at_high_risk(999.0, 1000.0), at_high_risk(1000.0, 1000.0), at_high_risk(1.0, float("nan"))
    (False, True, True)
    """
    return not load_n < float(value("high_risk_ratio")) * strength_n


def fold_foretells_fracture(strain_fold: float) -> bool:
    """Whether a femur's strain fold ratio foretells a fracture; what is not a number does.

    >>> fold_foretells_fracture(1.47), fold_foretells_fracture(1.48)
    (False, True)
    """
    return not strain_fold < float(value("strain_fold_risk"))


def strength_class(percent_of_intact: float) -> int:
    """Class 1, 2 or 3 by the strength left of the intact bone; what is not a number is 3.

    Made for the proximal femur, where the class takes the place of Mirels' points for the site
    (Amendola 2023).

    >>> [strength_class(p) for p in (75.1, 75.0, 50.1, 50.0, float("nan"))]
    [1, 2, 2, 3, 3]
    """
    if percent_of_intact > float(value("strength_class_1")):
        return 1
    return 2 if percent_of_intact > float(value("strength_class_2")) else 3


# --- sites -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SiteBone:
    """What holds for bone at a site; ``evidence`` and ``note`` are of the choice.

    ``shell`` is the cortex where the law is of what lies inside it, None where it holds for both.
    """

    kind: str
    law: DensityLaw
    alternative: DensityLaw
    strength: DensityLaw  # the law whose strength is taken
    strain: StrainLimit
    evidence: Evidence
    note: str
    shell: Material | None = None


def site(kind: str) -> SiteBone:
    """What holds at a kind of site: ``vertebra``, ``sacrum``, ``ilium``, ``femur`` and so on.

    >>> site("acetabulum").law.name, site("sacrum").evidence
    ('dalstra', 'placeholder')
    """
    groups: dict[str, str] = load("strength").data["site_of"]
    if kind not in groups:
        raise InputError(f"no strength is known of the site {kind!r}; choose {', '.join(groups)}")
    row = _row("sites", groups[kind], "site")
    return SiteBone(
        kind=kind,
        law=law(row["law"]),
        alternative=law(row["alternative"]),
        strength=law(row["strength"]),
        strain=strain_limit(row["strain"]),
        evidence=row["evidence"],
        note=row["note"],
        shell=material(row["shell"]) if "shell" in row else None,
    )


# --- loads -------------------------------------------------------------------------------------

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Force:
    """A force spread over a surface: its size in N or body weights, its way and its lean.

    ``lateral`` leans away from the midline (below 0: towards it), ``posterior`` backward (below
    0: forward), each as its projection on the frontal or sagittal plane, in degrees.
    """

    on: str
    size: Value
    up: bool = False
    lateral_deg: float = 0.0
    posterior_deg: float = 0.0

    def newton(self, weight_kg: float | None = None, at: Bound = "mean") -> float:
        """Its size in N for a patient's weight (None: body_weight, a placeholder)."""
        size = bound(self.size, at)
        if self.size.unit == "N":
            return size
        kg = float(value("body_weight")) if weight_kg is None else weight_kg
        if not kg > 0:
            raise InputError(f"a body weight of {kg} kg; expected more than 0")
        return size * kg * float(value("gravity"))

    def direction(self, side: str = "") -> Vector:
        """Its unit vector in LPS along the case's axes; a lean sideways needs the side.

        >>> left = load_case("femur_walking").forces[0].direction("left")
        >>> [round(v, 3) for v in left]
        [0.223, 0.127, -0.966]
        """
        if self.lateral_deg and side not in ("left", "right"):
            raise InputError(f"the force on the {self.on} leans sideways; give left or right")
        lateral, back = tan(radians(self.lateral_deg)), tan(radians(self.posterior_deg))
        x, z = (-lateral if side == "right" else lateral), (1.0 if self.up else -1.0)
        length = hypot(x, back, z)
        return x / length, back / length, z / length


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A moment on a surface about an LPS axis, right-handed; (1, 0, 0) bends forward."""

    on: str
    size_nm: Value
    about: Vector


@dataclass(frozen=True, kw_only=True)
class LoadCase:
    """What presses on a bone, where, and what holds it. Make your own.

    ``frame`` is ``bone`` for directions along the bone's own axes, ``patient`` for those of one
    who stands upright. ``regions`` is empty where all regions of the kinds are meant.
    """

    name: str
    label: str
    kinds: tuple[str, ...]
    frame: Literal["bone", "patient"]
    fixed: str
    forces: tuple[Force, ...] = ()
    moments: tuple[Moment, ...] = ()
    regions: tuple[str, ...] = ()
    evidence: Evidence = "placeholder"
    note: str = ""

    def __post_init__(self) -> None:
        if not (self.forces or self.moments):
            raise InputError(f"the load case {self.name!r} has neither a force nor a moment")

    def suits(self, kind: str, region: str = "") -> bool:
        """Whether it is a load of a kind of site, in a region of it."""
        return kind in self.kinds and (not self.regions or region in self.regions)

    def by_weight(self) -> bool:
        """Whether its size depends on the patient's weight."""
        return any(f.size.unit != "N" for f in self.forces)


def loads() -> tuple[str, ...]:
    """The names of the load cases there are."""
    return tuple(load("strength").data["loads"])


def load_case(name: str) -> LoadCase:
    """A load case by its name, such as ``lumbar_flexion``. Raises InputError naming those known.

    >>> case = load_case("femur_walking")
    >>> round(case.forces[0].newton(70.0)), case.fixed
    (1634, 'distal end')
    """
    row = _row("loads", name, "load case")
    moments = tuple(
        Moment(on=m["on"], size_nm=value(m["size"]), about=tuple(m["about"]))
        for m in row.get("moments", ())
    )
    return LoadCase(
        name=name,
        label=row["label"],
        kinds=tuple(row["kinds"]),
        frame=row["frame"],
        fixed=row["fixed"],
        forces=tuple(_force(f) for f in row.get("forces", ())),
        moments=moments,
        regions=tuple(row.get("regions", ())),
        evidence=row["evidence"],
        note=row.get("note", ""),
    )


def _force(row: dict[str, str]) -> Force:
    def lean(toward: str, away: str) -> float:
        plus, minus = row.get(toward), row.get(away)
        return float(value(plus)) if plus else -float(value(minus)) if minus else 0.0

    return Force(
        on=row["on"],
        size=value(row["size"]),
        up=row["way"] == "up",
        lateral_deg=lean("lateral", "medial"),
        posterior_deg=lean("posterior", "anterior"),
    )


def loads_for(kind: str, region: str = "") -> tuple[LoadCase, ...]:
    """The load cases of a kind of site, the usual one first; a vertebra needs its region.

    >>> [case.name for case in loads_for("vertebra", "cervical")]
    ['cervical_compression', 'cervical_flexion']
    """
    found = tuple(c for c in map(load_case, loads()) if c.suits(kind, region))
    if not found:
        raise InputError(
            f"no load is known of the site {kind!r} in the region {region!r}; a vertebra needs "
            "cervical, upper_thoracic, lower_thoracic or lumbar"
        )
    return found
