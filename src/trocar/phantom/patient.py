"""What a synthetic patient is before it is drawn: parts, treated bone, lesion, what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trocar.model.case import Site
from trocar.phantom.growth import Port
from trocar.phantom.scene import Box, Part
from trocar.phantom.shapes import Point, Shape


@dataclass(frozen=True, kw_only=True)
class PedicleAxis:
    """Where to look for a pedicle's isthmus: a point on its axis and the way into the body."""

    centre: Point
    direction: Point
    search_mm: float  # this far to both sides of the centre


@dataclass(frozen=True, eq=False, kw_only=True)
class VertebraForm:
    """What the measures of a vertebra are taken on: its body alone, its pedicles, its canal."""

    body: Shape
    pedicles: Mapping[str, PedicleAxis]
    expected_height_mm: float  # of the neighbours, for the crush loss


@dataclass(frozen=True, eq=False, kw_only=True)
class Patient:
    """A synthetic patient as shapes, in the phantom's own frame (x left, y back, z up, mm)."""

    name: str
    site: Site
    box: Box  # the CT
    parts: Sequence[Part]  # in order of painting
    bone: Shape  # the treated bone
    bone_box: Box
    cortex: Shape  # its cortical thickness
    other_bone: Shape | None
    lesion_at: Point
    lesion_mm: tuple[float, float, float]  # default diameters along x, y, z
    ports: Mapping[str, Port]
    default_defects: tuple[str, ...]
    canal: Sequence[Point] = ()
    vertebra: VertebraForm | None = None
    joint_space_mm: float | None = None
    trabecular_spread_hu: float = 22.0
    # Cell over which the bone's volume is integrated. A surface of radius R smeared over h gains
    # h^2 / 4R^2, so thin bones want small cells.
    cell_mm: float = 0.8
