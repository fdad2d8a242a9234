"""Semi-synthetic cement on a real CT, and real CT with metal and contrast but without cement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trocar.assessment import find_cement
from trocar.errors import InputError
from trocar.imaging.bone import read_anatomy
from trocar.io.volumes import read_labels, read_scan
from trocar.model.case import Site
from trocar.model.result import Anatomy
from trocar.model.space import Grid, Labels, Mask, Volume

pytestmark = pytest.mark.data

TRUE_ML = {
    "epidural or canal": 0.0908,
    "segmental or paravertebral vein": 0.1834,
    "needle track": 0.1234,
}


@pytest.fixture(scope="module")
def set04(data: Path) -> tuple[Volume, Volume, Labels, Mask, Anatomy]:
    folder = data / "04_l1_lytic_cement_semisynthetic"
    pre = read_scan(folder / "pre_ct.nii.gz").volume
    post = read_scan(folder / "post_ct.nii.gz").volume
    names = data / "03_t9_l3_lidc0001" / "structures.csv"
    labels = read_labels(folder / "labels.nii.gz", names=names, like=pre.grid)
    drawn = read_labels(
        folder / "truth_labels.nii.gz",
        names={1: "lesion", 2: "cement", 3: "canal", 4: "vein", 5: "track"},
        like=pre.grid,
    )
    lesion = drawn.mask("lesion", "cement")
    anatomy = read_anatomy(pre, Site.parse("L1"), labels=labels, lesion=lesion)
    return pre, post, drawn, lesion, anatomy


def test_cement_of_set_04(set04: tuple[Volume, Volume, Labels, Mask, Anatomy]) -> None:
    pre, post, drawn, lesion, anatomy = set04
    fill = find_cement(post, anatomy, lesion=lesion, pre=pre, lesion_id="a")
    assert fill.volume_ml == pytest.approx(4.1527, rel=0.05)
    assert fill.low_ml < 4.1527 < fill.high_ml
    assert {k.compartment for k in fill.leaks} == set(TRUE_ML)
    assert fill.lesion_fill == pytest.approx(0.586, abs=0.03)
    truth = drawn.mask("cement", "canal", "vein", "track").on(fill.fraction.grid).values
    found = fill.fraction.values >= 0.5
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) >= 0.95
    by_name = {k.compartment: k.volume_ml for k in fill.leaks}
    assert by_name["needle track"] == pytest.approx(0.1234, rel=0.1)
    # Half of the vein's cement was drawn inside the bone's outline; cement that fills the hole in
    # the posterior wall counts as canal beyond one voxel.
    assert by_name["segmental or paravertebral vein"] == pytest.approx(0.09, abs=0.02)
    assert by_name["epidural or canal"] == pytest.approx(0.0908, abs=0.03)


@pytest.mark.slow
def test_set_04_moved_elsewhere_is_found_again(
    set04: tuple[Volume, Volume, Labels, Mask, Anatomy],
) -> None:
    pre, post, _, lesion, anatomy = set04
    affine = post.grid.affine.copy()
    affine[:3, 3] += [80.0, -120.0, 400.0]
    away = replace(post, grid=Grid(shape=post.grid.shape, affine=affine, frame="1.2.3"))
    fill = find_cement(away, anatomy, lesion=lesion, pre=pre, lesion_id="a")
    assert fill.volume_ml == pytest.approx(4.1527, rel=0.05)
    assert fill.registration is not None
    assert fill.registration.shift_mm == pytest.approx(425.2, abs=0.1)
    assert any("by its look alone" in str(f) for f in fill.findings)


def test_set_04_without_the_planning_ct(
    data: Path, set04: tuple[Volume, Volume, Labels, Mask, Anatomy]
) -> None:
    _, post, _, lesion, _ = set04
    names = data / "03_t9_l3_lidc0001" / "structures.csv"
    folder = data / "04_l1_lytic_cement_semisynthetic"
    labels = read_labels(folder / "labels.nii.gz", names=names, like=post.grid)
    anatomy = read_anatomy(post, Site.parse("L1"), labels=labels, lesion=lesion)
    fill = find_cement(post, anatomy, lesion=lesion)
    assert fill.volume_ml == pytest.approx(4.1527, rel=0.10)
    assert set(TRUE_ML) <= {k.compartment for k in fill.leaks}


@pytest.mark.slow
def test_another_patient_is_refused(
    data: Path, set04: tuple[Volume, Volume, Labels, Mask, Anatomy]
) -> None:
    pre, _, _, lesion, anatomy = set04
    for name in ("01_lumbar_pelvis_totalseg", "14_thoracic_metal_contrast_totalseg"):
        other = read_scan(data / name / "ct.nii.gz").volume
        with pytest.raises(InputError, match="do not look alike"):
            find_cement(other, anatomy, lesion=lesion, pre=pre)


def nothing(ct: Volume, anatomy: Anatomy) -> None:
    """Neither alone nor against itself, taken again half a voxel aside."""
    assert find_cement(ct, anatomy).volume_ml == 0.0
    assert find_cement(ct, anatomy, pre=ct).volume_ml == 0.0
    affine = ct.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, 0.5)
    aside = ct.on(Grid(shape=ct.grid.shape, affine=affine, frame=ct.grid.frame))
    assert find_cement(aside, anatomy, pre=ct).volume_ml == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("site", ["femur left", "L3", "acetabulum left", "sacrum"])
def test_the_nail_of_set_01_is_not_cement(data: Path, site: str) -> None:
    folder = data / "01_lumbar_pelvis_totalseg"
    ct = read_scan(folder / "ct.nii.gz").volume
    labels = read_labels(
        folder / "labels_total.nii.gz", names=folder / "labels_total.csv", like=ct.grid
    )
    nothing(ct, read_anatomy(ct, Site.parse(site), labels=labels))


@pytest.mark.slow
def test_stent_wires_and_contrast_of_set_14_are_not_cement(data: Path) -> None:
    ct = read_scan(data / "14_thoracic_metal_contrast_totalseg" / "ct.nii.gz").volume
    inside = np.array([-7.2, -113.2, 675.2])  # in a thoracic body, found by eye
    nothing(ct, read_anatomy(ct, Site.parse("T9"), click_mm=inside))
