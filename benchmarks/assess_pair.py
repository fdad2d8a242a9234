"""`assess-pair`: cement found on a 512 x 512 x 300 CT beside the one before, moved by 20 mm.

The whole assessment from labels to leaks is timed. Its peer is for the part that others do: laying
the treated bone over the earlier CT, by SimpleITK's rigid registration with the correlation metric
on the same voxels of the same region, from the same start (the images' own headers).
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from harness import Problem, main
from trocar.assessment import register
from trocar.imaging.bone import read_anatomy
from trocar.model.result import Anatomy
from trocar.model.space import Grid, Mask, Volume
from trocar.pathway.cement import assess_lesion
from trocar.phantom import cement
from trocar.phantom.files import as_scan

PEER = "SimpleITK rigid, correlation"
SHAPE, SPACING_MM = (300, 512, 512), (0.6, 0.5, 0.5)
SHIFT_MM, TURN_DEG = (12.0, -10.0, 12.0), (3.0, -2.0, 4.0)
TRUE_ML_WITHIN, GIB = 0.03, 2**30


@dataclass(frozen=True, eq=False)
class Pair:
    patient: Any
    pre: Volume
    post: cement.Cemented
    labels: Any
    lesion: Mask
    anatomy: Anatomy


@cache
def pair() -> Pair:
    """The lumbar patient before and after about 5 ml of cement, on the whole grid."""
    patient = cement.fine("vertebra_l3")
    bone = patient.labels.mask(patient.site.bone_label)
    middle = bone.centroid_mm
    half = (np.array(SHAPE) - 1) / 2 * np.array(SPACING_MM)
    grid = Grid.from_spacing(SHAPE, SPACING_MM, (middle - half[::-1]).tolist())
    pre = cement.scan(patient.ct, grid, seed=1)
    mass = cement.ball(patient, patient.lesion.centroid_mm, (11.0, 9.0, 9.0))
    mass = cement.within(mass, bone)
    post = cement.inject(
        patient, {"in bone": mass}, grid, seed=2, pose=cement.turned(middle, TURN_DEG, SHIFT_MM)
    )
    labels, lesion = patient.labels.on(grid), patient.lesion.on(grid)
    anatomy = read_anatomy(pre, patient.site, labels=labels, lesion=lesion)
    return Pair(patient, pre, post, labels, lesion, anatomy)


def whole() -> Any:
    p = pair()
    scan = as_scan(p.patient, later=p.post.ct)
    before = as_scan(p.patient, later=p.pre)
    return assess_lesion(scan, p.patient.site, pre=before, labels=p.labels, lesion_mask=p.lesion)


def right(case: Any, _: Mapping[str, Any]) -> tuple[bool, str]:
    p = pair()
    true = p.post.volume_ml
    error = case.fill.volume_ml / true - 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    return abs(error) <= TRUE_ML_WITHIN and peak < 6, (
        f"{true:.2f} ml in truth, {100 * error:+.1f} %; bone laid over to "
        f"{_error_mm(p, case.fill.registration.transform):.2f} mm; most memory of the "
        f"whole process, making of the pair included, {peak:.1f} GiB"
    )


def _error_mm(p: Pair, transform: NDArray[np.float64]) -> float:
    """Mean distance over the bone between where it was put and where it is."""
    points = p.anatomy.bone.points_mm()[::50]
    both = [points @ t[:3, :3].T + t[:3, 3] for t in (transform, p.post.pose)]
    return float(np.linalg.norm(both[0] - both[1], axis=1).mean())


def ours() -> Any:
    p = pair()
    return register(p.pre, p.post.ct, p.anatomy)[0].transform


def _image(volume: Volume) -> Any:
    image = sitk.GetImageFromArray(volume.values.astype(np.float32))
    image.SetSpacing([float(s) for s in volume.grid.spacing_mm[::-1]])
    image.SetOrigin([float(v) for v in volume.grid.affine[:3, 3]])
    return image


def peer() -> Any:
    p = pair()
    box = p.anatomy.grid.around(p.anatomy.bone.points_mm()[::50], 8.0)
    near = p.anatomy.grid.crop(box)
    fixed = _image(p.pre.on(near))
    moving = _image(p.post.ct)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    centre = p.anatomy.bone.centroid_mm
    start = sitk.Euler3DTransform()
    start.SetCenter([float(v) for v in centre])
    method.SetInitialTransform(start, inPlace=False)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 300)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    found = method.Execute(fixed, moving)
    out = np.eye(4)
    origin = np.array(found.TransformPoint((0.0, 0.0, 0.0)))
    for axis in range(3):
        point = [0.0, 0.0, 0.0]
        point[axis] = 1.0
        out[:3, axis] = np.array(found.TransformPoint(point)) - origin
    out[:3, 3] = origin
    return out


def same(transform: Any, peers: Mapping[str, Any]) -> tuple[bool, str]:
    p = pair()
    mine = _error_mm(p, transform)
    theirs = {name: _error_mm(p, t) for name, t in peers.items()}
    told = ", ".join(f"{name} {mm:.2f} mm" for name, mm in theirs.items())
    return mine < 0.5, f"mean error over the bone: ours {mine:.2f} mm, {told}"


def assess() -> Problem:
    return Problem(name="assess-pair", ours=whole, check=right, target_s=60.0)


def bone() -> Problem:
    return Problem(name="assess-bone", ours=ours, peers={PEER: peer}, check=same,
                   target_ratio={PEER: 1.0})  # fmt: skip


if __name__ == "__main__":
    main([assess, bone])
