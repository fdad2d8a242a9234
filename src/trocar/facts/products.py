"""Needles as values; a new needle is a ``Needle(...)`` anybody can make."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

from trocar.facts.source import Evidence, load


@dataclass(frozen=True, kw_only=True)
class Needle:
    """A bone needle (cannula with trocar): gauge, diameters and usable length in mm."""

    gauge: int
    outer_mm: float
    inner_mm: float
    length_mm: float
    source: str = ""
    evidence: Evidence = "placeholder"

    @property
    def radius_mm(self) -> float:
        """Half the outer diameter."""
        return self.outer_mm / 2

    @property
    def dead_volume_ml(self) -> float:
        """Cement that stays in the lumen.

        >>> round(needle(10, 100).dead_volume_ml, 2)
        0.57
        """
        return pi * self.inner_mm**2 / 4 * self.length_mm / 1000

    def __str__(self) -> str:
        return f"{self.gauge} G ({self.outer_mm:.2f} mm), {self.length_mm:g} mm"


def needle(gauge: int, length_mm: float) -> Needle:
    """A needle of standard tubing."""
    table = load("products")
    size = table.data["gauges"][str(gauge)]
    return Needle(
        gauge=gauge,
        outer_mm=size["outer_mm"],
        inner_mm=size["inner_mm"],
        length_mm=length_mm,
        source=table.data["needle_source"],
        evidence=table.data["needle_evidence"],
    )


def gauges_for(region: str) -> tuple[int, ...]:
    """Gauges to try in a region (``lumbar``, ``pelvis``, ...), thickest first."""
    return tuple(load("products").data["gauges_by_site"][region])


def lengths_mm() -> tuple[float, ...]:
    """Needle lengths in stock, shortest first."""
    return tuple(load("products").data["lengths_mm"])
