"""Distances and angles not to be passed, by structure; what is unknown is kept furthest away."""

from __future__ import annotations

from trocar.facts.source import Value, load


def value(name: str) -> Value:
    """One limit by its name in ``limits.toml``, such as ``caution_factor``."""
    return load("limits")[name]


def kind(structure: str) -> str:
    """What kind of structure a name is (canal, nerve, artery, ...); ``unknown`` if not listed.

    >>> kind("spinal_canal"), kind("lung_lower_lobe_left"), kind("flux_capacitor")
    ('canal', 'pleura', 'unknown')
    """
    kinds: dict[str, str] = dict(load("limits").data["kinds"])
    matches = [k for k in kinds if structure == k or structure.startswith(k + "_")]
    return kinds[max(matches, key=len)] if matches else "unknown"


def neural(structure: str) -> bool:
    """Whether it is canal or nerve, or of unknown kind and so treated as if it were.

    >>> neural("foramen_left"), neural("aorta"), neural("flux_capacitor")
    (True, False, True)
    """
    return kind(structure) in ("canal", "nerve", "unknown")


def margin(structure: str) -> Value:
    """The least distance from the needle's surface to a structure, in mm.

    >>> margin("aorta").mean
    5.0
    """
    return load("limits")[f"margin_{kind(structure)}"]
