"""Bone cement as values: three classes of viscosity, and how cement sets."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Any

from trocar.errors import InputError
from trocar.facts.source import Evidence, Value, load


def value(name: str) -> Value:
    """One number of ``cement.toml`` by its name, such as ``density``."""
    return load("cement")[name]


@dataclass(frozen=True, kw_only=True)
class BoneCement:
    """A cement, or a class of them: shear stress = consistency * rate ** exponent.

    The consistency grows with age: ``consistency_pa_sn`` is that at ``reference_s`` after mixing
    and ``reference_c``; it doubles every ``doubling_s`` there, faster by ``faster_per_c`` for each
    degree more. A product is a ``BoneCement(...)`` anybody can make.
    """

    name: str
    consistency_pa_sn: float
    exponent: float
    doubling_s: float
    reference_s: float
    reference_c: float
    faster_per_c: float
    most_pa_s: float
    source: str = ""
    evidence: Evidence = "placeholder"
    stated_window_s: tuple[float, float] | None = None  # of a brand, at ``reference_c``
    kinetics: str = "B1"  # how it sets: a set of :func:`kinetics`
    radiopacifier: str = ""

    def __post_init__(self) -> None:
        if not (0 < self.exponent <= 1 and self.consistency_pa_sn > 0 and self.doubling_s > 0):
            raise InputError(
                f"the cement {self.name} has consistency {self.consistency_pa_sn:g}, exponent "
                f"{self.exponent:g}, doubling {self.doubling_s:g} s; expected numbers above 0 and "
                "an exponent of at most 1"
            )

    def growth_s(self, room_c: float) -> float:
        """The time in which the consistency grows by e at a room temperature.

        >>> round(cement("low").growth_s(22.0), 2)  # 60 s / ln 2
        86.56
        """
        warmer = float((1 - self.faster_per_c) ** (room_c - self.reference_c))
        return self.doubling_s / log(2) * warmer

    def viscosity_pa_s(self, age_s: float, *, room_c: float, rate_per_s: float = 1.0) -> float:
        """Viscosity at an age after mixing, a temperature and a shear rate.

        >>> round(cement("medium").viscosity_pa_s(210.0 + 75.0, room_c=22.0))
        400
        """
        grown = log(self.consistency_pa_sn) + (age_s - self.reference_s) / self.growth_s(room_c)
        return exp(min(grown, log(self.most_pa_s)) + (self.exponent - 1) * log(rate_per_s))

    def age_at_s(self, viscosity_pa_s: float, *, room_c: float) -> float:
        """The age at which a viscosity (at a rate of 1/s) is reached; may be negative."""
        return self.reference_s + self.growth_s(room_c) * log(
            viscosity_pa_s / self.consistency_pa_sn
        )

    def window_s(self, *, room_c: float) -> tuple[float, float]:
        """From when to when it can be injected, s after mixing.

        A brand's stated times, sooner in a warmer room; else not too thin and not too stiff.
        """
        if self.stated_window_s is not None:
            warmer = float((1 - self.faster_per_c) ** (room_c - self.reference_c))
            return self.stated_window_s[0] * warmer, self.stated_window_s[1] * warmer
        first, last = (float(value(name)) for name in ("usable_from", "usable_to"))
        return (
            max(0.0, self.age_at_s(first, room_c=room_c)),
            max(0.0, self.age_at_s(last, room_c=room_c)),
        )


def cement(name: str) -> BoneCement:
    """A class of cement (``low``, ``medium`` or ``high`` viscosity) or a brand by its name.

    A brand flows as its class and has its own window; letters' case does not matter. Raises
    InputError naming the classes and brands there are.

    >>> cement("osteopal v").name, cement("osteopal v").window_s(room_c=22.0)
    ('Osteopal V', (225.0, 540.0))
    """
    table = load("cement").data
    classes, brands = table["classes"], table["brands"]
    brand = next((b for b in brands if b.casefold() == name.casefold()), None)
    kind = brands[brand] if brand else name
    if kind not in classes:
        known = ", ".join((*classes, *brands))
        raise InputError(f"there is no cement class or brand {name!r}; choose {known}")
    row = classes[kind]
    window = table["thin_window_s" if kind == "low" else "thick_window_s"] if brand else None
    return BoneCement(
        name=brand or f"{kind} viscosity",
        consistency_pa_sn=row["consistency_pa_sn"],
        exponent=row["exponent"],
        doubling_s=row["doubling_s"],
        reference_s=float(value("reference_age")),
        reference_c=float(value("reference_temperature")),
        faster_per_c=float(value("faster_per_degree")),
        most_pa_s=float(value("plateau_viscosity")),
        source=f"{table['brand_source']} ({table['brand_evidence']})"
        if brand
        else "class of cements, no brand",
        evidence=row["evidence"],  # of how it flows, the weaker of the two
        stated_window_s=None if window is None else (float(window[0]), float(window[1])),
        kinetics=table["common"]["kinetics"],
        radiopacifier=table["common"]["radiopacifier"],
    )


def kinetics(name: str = "B1") -> dict[str, Any]:
    """The constants of one published set of polymerisation, with its paper and evidence.

    Raises InputError naming the sets there are.
    """
    sets = load("cement").data["kinetics"]
    if name not in sets:
        raise InputError(f"there is no set of kinetics {name!r}; choose {', '.join(sets)}")
    return dict(sets[name])
