"""Cement in hip, sacrum, femur and pubis, and a CT that shows the neighbour of the treated bone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trocar.assessment import find_cement
from trocar.errors import InputError
from trocar.imaging.bone import read_anatomy
from trocar.io.volumes import read_labels, read_scan
from trocar.model.case import Site
from trocar.phantom import cement


@pytest.mark.slow
@pytest.mark.parametrize("name", ["acetabulum", "sacrum", "femur", "pubic_ramus"])
def test_cement_and_a_leak_into_the_nearest_joint(
    name: str, planned_as: Callable[[str], Any]
) -> None:
    planned = planned_as(name)
    patient = planned.patient
    bone = patient.labels.mask(patient.site.bone_label)
    middle = patient.lesion.centroid_mm
    joints = [m.points_mm() for k, m in planned.anatomy.structures.items() if "joint" in k]
    points = np.concatenate(joints)
    there = points[np.linalg.norm(points - middle, axis=1).argmin()]
    outside = 1 - bone.on(patient.ct.grid).values
    parts = {
        "in bone": cement.within(cement.ball(patient, middle, (9, 9, 9)), bone),
        "joint": (cement.ball(patient, there, (4, 4, 4)) * outside).astype(np.float32),
    }
    post = cement.inject(
        patient,
        parts,
        cement.scan_grid(patient, (1.5, 0.8, 0.8), room_mm=22),
        pose=cement.turned(bone.centroid_mm, (2, -1, 3), (3, 2, -2)),
        seed=3,
    )
    fill = find_cement(post.ct, planned.anatomy, lesion=planned.lesion, pre=planned.ct)
    assert fill.volume_ml == pytest.approx(post.volume_ml, rel=0.03)
    assert fill.leaks[0].compartment == "intra-articular"  # the alarm comes first
    assert any(f.gravity == "stop" for f in fill.findings)


@pytest.mark.data
@pytest.mark.slow
def test_a_ct_of_the_levels_above_is_not_taken_for_the_treated_one(data: Path) -> None:
    folder = data / "04_l1_lytic_cement_semisynthetic"
    whole = read_scan(data / "03_t9_l3_lidc0001" / "ct.nii.gz").volume
    pre = read_scan(folder / "pre_ct.nii.gz").volume
    names = data / "03_t9_l3_lidc0001" / "structures.csv"
    labels = read_labels(folder / "labels.nii.gz", names=names, like=pre.grid)
    anatomy = read_anatomy(pre, Site.parse("L1"), labels=labels)
    top = anatomy.bone.points_mm()[:, 2].max()
    heights = whole.grid.to_world(
        np.stack([np.arange(whole.grid.shape[0]), *np.zeros((2, whole.grid.shape[0]))], axis=1)
    )[:, 2]
    above = np.flatnonzero(heights > top + 5.0)
    rest = (slice(None), slice(None))
    without = whole.crop((slice(int(above.min()), int(above.max()) + 1), *rest))
    with pytest.raises(InputError, match=r"holds|look alike"):
        find_cement(without, anatomy, pre=pre)
