"""Tissues on CT: Hounsfield units, thresholds and density calibration constants."""

from __future__ import annotations

from trocar.facts.source import Value, load


def value(name: str) -> Value:
    """One tissue fact by its name in ``tissue.toml``, such as ``hu_fat``."""
    return load("tissue")[name]
