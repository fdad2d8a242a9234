"""Needles into L1 on real CT: every margin recomputed slowly, nothing touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trocar.imaging.bone import read_anatomy
from trocar.io.volumes import read_labels, read_scan
from trocar.model.case import Gravity, Site
from trocar.model.space import Mask
from trocar.planning.trajectory import find_paths

pytestmark = [pytest.mark.data, pytest.mark.slow]

L1 = Site.parse("L1")


def real_case(data: Path, which: str) -> Any:
    """CT, labels and lesion of set 03 (a ball in the front of L1) or 04 (the drawn lesion)."""
    names = data / "03_t9_l3_lidc0001" / "structures.csv"
    folder = data / ("03_t9_l3_lidc0001" if which == "03" else "04_l1_lytic_cement_semisynthetic")
    ct = read_scan(folder / ("ct.nii.gz" if which == "03" else "pre_ct.nii.gz")).volume
    labels = read_labels(folder / "labels.nii.gz", names=names, like=ct.grid)
    if which == "04":
        drawn = read_labels(
            folder / "truth_labels.nii.gz",
            names={i: f"part {i}" for i in range(1, 6)},
            like=ct.grid,
        )
        return ct, labels, drawn.mask("part 1")
    bone = labels.mask("vertebrae_L1")
    points = bone.points_mm()
    centre = bone.centroid_mm - [0.0, 14.0, 0.0]
    inside = np.argwhere(bone.values)[np.linalg.norm(points - centre, axis=1) < 9.0]
    values = np.zeros(ct.grid.shape, bool)
    values[tuple(inside.T)] = True
    return ct, labels, Mask(grid=ct.grid, values=values)


@pytest.mark.parametrize("which", ["03", "04"])
def test_l1_is_reached_through_a_pedicle_with_true_margins(
    data: Path, which: str, make_lesion: Any, slow_distance: Any
) -> None:
    ct, labels, lesion = real_case(data, which)
    anatomy = read_anatomy(ct, L1, labels=labels, lesion=lesion)
    found = find_paths(ct, anatomy, make_lesion(lesion, L1))
    through = [o for o in found.options if o.route.startswith("transpedicular")]
    assert through, [r.reason for r in found.refusals]
    assert found.candidates >= 1_000_000
    for option in found.options:
        axis = option.path.at_mm(np.arange(0.0, option.depth_mm, 0.1))
        for name in ("spinal_canal", "aorta", "inferior_vena_cava"):
            assert not anatomy.structures[name].holds(axis).any()
        assert option.verdict is not Gravity.STOP
    compared = 0
    for option in through:
        for margin in option.margins:
            if margin.structure in anatomy.structures:
                mask = anatomy.structures[margin.structure]
                slow = slow_distance(mask, option.entry_mm, option.target_mm)
                expected = slow - option.needle.radius_mm
                assert margin.distance_mm == pytest.approx(expected, abs=0.1), margin.structure
                compared += 1
    assert compared >= 10
