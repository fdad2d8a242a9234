"""What is exactly known of a synthetic patient, taken from its shapes and never from its voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from trocar.facts import limits, tissue
from trocar.model.result import Isthmus, VertebraMeasures
from trocar.model.space import Float
from trocar.phantom.growth import Growth
from trocar.phantom.patient import Patient, PedicleAxis, VertebraForm
from trocar.phantom.scene import ORIGIN_MM, Box, at_points, volume_ml
from trocar.phantom.shapes import Shape, cut

Distance = Callable[[Float], Float]  # LPS mm points [..., 3] to signed distance in mm

_LESION_STEP_MM = 0.4
_RIM = 0.1  # anterior and posterior heights stand this part of the depth inside the walls
_FINE_MM = 0.02


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """The measures a perfect reader of the phantom would report.

    ``lesion_ml`` includes ``soft_tissue_ml``, the part outside the bone's outline. ``defects`` is
    the area of each hole on the outer cortical surface, ``defect_centres_mm`` its middle.
    ``bone_ml`` is the whole treated bone inside the image, lesion included. Heights stand in the
    mid-sagittal plane, along the body's axis: half way from front to back, and a tenth of the depth
    inside the front and back walls. An isthmus is the cross-section of a pedicle with the least
    width. ``canal_mm`` is the centre line of the spinal canal from above to below.
    """

    lesion_ml: float
    soft_tissue_ml: float
    bone_ml: float
    defects: Mapping[str, float]
    defect_centres_mm: Mapping[str, Float]
    bone_distance: Distance
    lesion_distance: Distance | None
    vertebra: VertebraMeasures | None = None
    canal_mm: Float = field(default_factory=lambda: np.zeros((0, 3)))
    joint_space_mm: float | None = None

    @property
    def heights_mm(self) -> tuple[float, float, float]:
        """Anterior, middle and posterior height of the vertebral body."""
        if self.vertebra is None:
            raise ValueError("this phantom's bone has no vertebral heights; ask a vertebra")
        v = self.vertebra
        return v.anterior_mm, v.middle_mm, v.posterior_mm

    @property
    def isthmuses(self) -> Mapping[str, Isthmus]:
        """Isthmus by side; empty where the bone is not a vertebra."""
        found = () if self.vertebra is None else self.vertebra.isthmuses
        return {i.side: i for i in found}


def measure(patient: Patient, growth: Growth | None) -> Truth:
    """The truth of a patient with (or without) a lesion, by fine integration of its shapes."""
    bone_ml, vertebra = _lasting(patient)
    lesion = soft = 0.0
    if growth is not None:
        reach = overlap(growth.box, patient.box)
        lesion = volume_ml(growth.inside, reach, _LESION_STEP_MM)
        if growth.soft is not None:
            soft = volume_ml(cut(growth.soft, growth.inside), reach, _LESION_STEP_MM)
    holes = () if growth is None else growth.holes
    return Truth(
        lesion_ml=lesion + soft,
        soft_tissue_ml=soft,
        bone_ml=bone_ml,
        defects={h.port.wall: h.area_mm2 for h in holes},
        defect_centres_mm={h.port.wall: h.centre + ORIGIN_MM for h in holes},
        bone_distance=_in_world(patient.bone),
        lesion_distance=None if growth is None else _in_world(growth.whole),
        vertebra=vertebra,
        canal_mm=np.asarray(patient.canal, float).reshape(-1, 3) + ORIGIN_MM,
        joint_space_mm=patient.joint_space_mm,
    )


@cache
def _lasting(patient: Patient) -> tuple[float, VertebraMeasures | None]:
    """What does not depend on the lesion: the bone's volume and a vertebra's measures."""
    ml = volume_ml(patient.bone, overlap(patient.bone_box, patient.box), patient.cell_mm)
    form = patient.vertebra
    return ml, None if form is None else _vertebra(patient.bone, form)


def overlap(a: Box, b: Box) -> Box:
    """The box common to two."""
    low = tuple(max(p, q) for p, q in zip(a[0], b[0], strict=True))
    high = tuple(min(p, q) for p, q in zip(a[1], b[1], strict=True))
    return low, high


def _in_world(shape: Shape) -> Distance:
    return lambda points_mm: at_points(shape, np.asarray(points_mm, float) - ORIGIN_MM)


def _extent(shape: Shape, start: Float, way: Float, reach_mm: float) -> float:
    """Distance from an inner point along ``way`` to where it first leaves the shape."""
    t = np.arange(0.0, reach_mm, _FINE_MM)
    sd = at_points(shape, start + t[:, None] * way)
    k = int(np.argmax(sd >= 0))
    if k == 0 or sd[0] >= 0:
        return float("nan")
    return float(t[k - 1] + _FINE_MM * sd[k - 1] / (sd[k - 1] - sd[k]))


def _vertebra(bone: Shape, form: VertebraForm) -> VertebraMeasures:
    up, forward = np.array([0, 0, 1.0]), np.array([0, -1.0, 0])
    middle = _middle(form.body)
    front = middle[1] - _extent(form.body, middle, forward, 60)
    back = middle[1] + _extent(form.body, middle, -forward, 60)
    heights = []
    for y in (front + _RIM * (back - front), (front + back) / 2, back - _RIM * (back - front)):
        p = np.array([0.0, y, middle[2]])
        heights.append(_extent(form.body, p, up, 40) + _extent(form.body, p, -up, 40))
    anterior, central, posterior = heights
    crush = 1 - posterior / form.expected_height_mm
    losses = (1 - anterior / posterior, 1 - central / posterior, crush)
    grades = [float(tissue.value(f"genant_{g}")) / 100 for g in ("mild", "moderate", "severe")]
    plana = max(heights) < float(limits.value("plana_ratio")) * form.expected_height_mm
    return VertebraMeasures(
        anterior_mm=anterior,
        middle_mm=central,
        posterior_mm=posterior,
        genant_grade=sum(max(losses) > limit for limit in grades),
        wedge_loss=losses[0],
        biconcave_loss=losses[1],
        crush_loss=crush,
        isthmuses=(
            _isthmus(bone, "left", form.pedicles["left"]),
            _isthmus(bone, "right", form.pedicles["right"]),
        ),
        plana=plana,
    )


def _middle(body: Shape) -> Float:
    """A point well inside a body that may lie below the origin: the deepest on the z axis."""
    z = np.arange(-15.0, 15.0, 0.05)
    line = np.stack([0 * z, 0 * z, z], axis=1)
    inside = z[at_points(body, line) < 0]
    return np.array([0.0, 0.0, float(inside.mean())])


def _isthmus(bone: Shape, side: str, axis: PedicleAxis) -> Isthmus:
    """Least width among the cuts across a pedicle's axis, and the height there."""
    way = np.asarray(axis.direction, float)
    up = np.array([0, 0, 1.0])
    across = np.cross(way, up)
    best: tuple[float, float, Float] | None = None
    for u in np.arange(-axis.search_mm, axis.search_mm + 0.01, 0.25):
        p = np.asarray(axis.centre, float) + u * way
        lateral, medial = _extent(bone, p, across, 12), _extent(bone, p, -across, 12)
        above, below = _extent(bone, p, up, 15), _extent(bone, p, -up, 15)
        width, height = lateral + medial, above + below
        centre = p + (lateral - medial) / 2 * across + (above - below) / 2 * up
        if np.isfinite(width + height) and (best is None or width < best[0]):
            best = (width, height, centre)
    if best is None:
        raise ValueError(f"the {side} pedicle of the phantom has no closed cross-section")
    return Isthmus(
        side="left" if side == "left" else "right",
        centre_mm=best[2] + ORIGIN_MM,
        direction=way,
        width_mm=best[0],
        height_mm=best[1],
    )
