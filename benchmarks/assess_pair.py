"""`assess-pair`: cement found on a 512 x 512 x 300 CT beside the one before, moved by 20 mm.

The whole is timed in a process of its own: reading files, assessing, writing the sheet. Its
peer is for the part that others do: laying the treated bone over the earlier CT, by SimpleITK's
rigid registration with the correlation metric on the same voxels of the same region, from the same
start (the images' own headers).
"""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from harness import Problem, main
from trocar.assessment import register
from trocar.imaging.bone import read_anatomy
from trocar.io.formats import write_labels, write_mask, write_volume
from trocar.model.result import Anatomy
from trocar.model.space import Grid, Mask, Volume
from trocar.phantom import cement

PEER = "SimpleITK rigid, correlation"
SHAPE, SPACING_MM = (300, 512, 512), (0.6, 0.5, 0.5)
SHIFT_MM, TURN_DEG = (12.0, -10.0, 12.0), (3.0, -2.0, 4.0)
TRUE_ML_WITHIN, GIB, MOST_GIB = 0.03, 2**30, 6


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


@cache
def files() -> Path:
    """The pair as files, as they would lie on a disk."""
    p = pair()
    folder = Path(tempfile.mkdtemp(prefix="assess-pair-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_volume(folder / "pre.nii.gz", p.pre)
    write_volume(folder / "post.nii.gz", p.post.ct)
    write_labels(folder / "labels.nii.gz", p.labels)
    write_mask(folder / "lesion.nii.gz", p.lesion)
    return folder


CHILD = """
import json, resource, sys
from trocar.pathway.cement import assess_case
f = sys.argv[1]
case, _ = assess_case(f"{f}/post.nii.gz", site="L3", out=f"{f}/out", pre=f"{f}/pre.nii.gz",
                      labels=f"{f}/labels.nii.gz", lesion=f"{f}/lesion.nii.gz", viewer=False)
print(json.dumps({"ml": case.fill.volume_ml, "transform": case.fill.registration.transform.tolist(),
                  "kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def whole() -> Any:
    """A process of its own, as a person starts it: reading, assessing, writing sheet and files."""
    told = subprocess.run(
        [sys.executable, "-c", CHILD, str(files())], capture_output=True, text=True, check=True
    )
    return json.loads(told.stdout.splitlines()[-1])


def right(told: Any, _: Mapping[str, Any]) -> tuple[bool, str]:
    p = pair()
    true = p.post.volume_ml
    error = told["ml"] / true - 1
    peak = told["kib"] * 1024 / GIB
    away = _error_mm(p, np.array(told["transform"]))
    return abs(error) <= TRUE_ML_WITHIN and peak < MOST_GIB, (
        f"{true:.2f} ml in truth, {100 * error:+.1f} %; bone laid over to {away:.2f} mm; most "
        f"memory {peak:.1f} GiB (bar {MOST_GIB})"
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
