"""Shape of bones: lengths, ratios and normal sizes used to read a CT."""

from __future__ import annotations

from trocar.facts.source import Value, load


def value(name: str) -> Value:
    """One shape fact by its name in ``anatomy.toml``, such as ``canal_reach``."""
    return load("anatomy")[name]


def pedicle_width_mm(level: str) -> float | None:
    """Mean transverse pedicle width of a level, None where the table has none.

    >>> pedicle_width_mm("L1"), pedicle_width_mm("C3")
    (8.7, None)
    """
    widths: dict[str, float] = load("anatomy").data["pedicle_width_mm"]
    return widths.get(level)


def at_risk(site: str) -> tuple[str, ...]:
    """Structures that matter to a needle at a kind of site; what is not found of them is unknown.

    >>> at_risk("sacrum")[:2]
    ('iliac_artery_left', 'iliac_artery_right')
    """
    return tuple(load("anatomy").data["at_risk"][site])


def ignored() -> tuple[str, ...]:
    """Beginnings of label names that are no obstacle to a needle, such as muscles and discs."""
    return tuple(load("anatomy").data["ignored"])


def bones() -> tuple[str, ...]:
    """Beginnings of the label names that are bone."""
    return tuple(load("anatomy").data["bones"])
