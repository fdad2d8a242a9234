"""What a CT says of pores, walls and outlets, against formulas and a bone that is a box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from trocar.errors import InputError
from trocar.model.result import Calibration, VertebraMeasures
from trocar.simulation import porous
from trocar.simulation.porous import CLOSED, HOLE, OUTSIDE, SPONGY, VEIN, VOID, Constants, read_bed

Make = Callable[..., Any]


def ways_out(bed: porous.Bed) -> Any:
    """Open voxels of the bone that share a face with an open voxel outside it."""
    inside = (bed.porosity > 0) & bed.bone.values
    outside = (bed.porosity > 0) & ~bed.bone.values
    return inside & ndimage.binary_dilation(outside)


@pytest.mark.parametrize(("phi", "k"), [(0.8, 1.138e-8), (0.9, 1.62e-8)])
def test_permeability_is_that_of_kozeny_and_carman(phi: float, k: float) -> None:
    apparent = (1 - phi) * 1.95
    ha = (apparent * 0.60 - 0.079) / 0.877
    hu = (ha - 0.01) / 0.0008
    got, permeability = porous._pores(
        np.array([hu]), Calibration(method="internal", slope=0.0008, offset=0.01)
    )
    assert got[0] == pytest.approx(phi, abs=1e-12)
    assert permeability[0] == pytest.approx(k, rel=1e-3)


def test_porosity_stays_within_what_is_known() -> None:
    got, _ = porous._pores(np.array([-500.0, 3000.0]), None)
    assert got.tolist() == [1 - 0.079 / 0.6 / 1.95, 0.60]


def test_a_bone_without_a_hole_is_closed(make_bone: Make) -> None:
    bed = read_bed(*make_bone())
    assert not ways_out(bed).any()
    assert bed.openings == ()
    assert {int(k) for k in np.unique(bed.kind)} == {CLOSED, SPONGY, VOID, OUTSIDE}


@pytest.mark.parametrize("wall", ["left", "right", "posterior", "anterior", "superior", "inferior"])
def test_a_hole_opens_the_wall_there_and_nowhere_else(wall: str, make_bone: Make) -> None:
    bed = read_bed(*make_bone(hole=(wall,)))
    out = ways_out(bed)
    assert out.any()
    assert (bed.kind[out] == HOLE).all()
    points = bed.grid.to_world(np.argwhere(out))
    centre = make_bone(hole=(wall,))[2].defects[0].centre_mm
    assert np.linalg.norm(points - centre, axis=1).max() < 28.0**0.5 + 1
    assert bed.openings == (f"{wall} wall",)


def test_a_hole_given_by_its_points_has_their_shape(make_bone: Make) -> None:
    ct, anatomy, lesion = make_bone(hole=("left",))
    strip = np.array([[14.0, y, 0.0] for y in range(-6, 7)])
    long = replace(lesion, defects=(replace(lesion.defects[0], points_mm=strip),))
    bed = read_bed(ct, anatomy, long)
    points = bed.grid.to_world(np.argwhere(bed.kind == HOLE))
    assert points[:, 1].max() > 5
    assert points[:, 1].min() < -5
    assert np.abs(points[:, 2]).max() < 1.6


def test_a_vertebra_has_veins_behind_and_at_both_sides(make_bone: Make) -> None:
    bed = read_bed(*make_bone("L3"))
    points = bed.grid.to_world(np.argwhere(ways_out(bed)))
    behind, left, right = points[:, 1] > 12, points[:, 0] > 12, points[:, 0] < -12
    assert all(side.any() for side in (behind, left, right))
    assert (behind | left | right).all()
    assert np.hypot(points[behind, 0], points[behind, 2]).max() < 2.5
    assert set(bed.kind[ways_out(bed)].tolist()) == {VEIN}
    # The basivertebral vein ends before the canal, the others in their own compartment.
    assert "epidural or canal" in bed.compartments
    assert "segmental or paravertebral vein" in bed.compartments


def test_every_open_voxel_outside_has_one_compartment(make_bone: Make) -> None:
    bed = read_bed(*make_bone("L3", hole=("left",)))
    outside = (bed.porosity > 0) & ~bed.bone.values
    assert (bed.place[outside] > 0).all()
    assert (bed.place[~outside] == 0).all()
    assert set(np.unique(bed.place[outside])) == set(range(1, len(bed.compartments) + 1))


def test_before_the_canal_lies_the_epidural_space(make_bone: Make) -> None:
    bed = read_bed(*make_bone("L3"))
    gap = bed.grid.to_index(np.array([0.0, 15.0, 0.0]))
    voxel = tuple(int(v) for v in np.rint(gap))
    assert bed.compartments[bed.place[voxel] - 1] == "epidural or canal"


def test_metal_and_neighbours_are_closed(make_bone: Make) -> None:
    ct, anatomy, lesion = make_bone("L3", hole=("left",))
    rod = anatomy.bone.values & (anatomy.grid.to_world(
        np.moveaxis(np.indices(anatomy.grid.shape), 0, -1))[..., 2] > 3)  # fmt: skip
    held = {**anatomy.structures, "metal": replace(anatomy.bone, values=rod)}
    bed = read_bed(ct, replace(anatomy, structures=held), lesion)
    assert (bed.porosity[replace(anatomy.bone, values=rod).on(bed.grid).values] == 0).all()
    assert (bed.porosity[anatomy.structures["other_bone"].on(bed.grid).values] == 0).all()


def test_a_collapsed_body_is_harder_to_pass(make_bone: Make) -> None:
    ct, anatomy, lesion = make_bone("L3")
    flat = VertebraMeasures(
        anterior_mm=14.0, middle_mm=18.0, posterior_mm=20.0, genant_grade=2, wedge_loss=0.3,
        biconcave_loss=0.1, crush_loss=None,
    )  # fmt: skip
    whole, less = read_bed(ct, anatomy, lesion), read_bed(ct, replace(anatomy, vertebra=flat))
    spongy = (whole.kind == SPONGY) & (less.kind == SPONGY)
    ratio = less.permeability_m2[spongy] / whole.permeability_m2[spongy]
    np.testing.assert_allclose(ratio, 0.7**3, rtol=1e-12)


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (2.5, 0.7, 0.7), (1.0, 1.0, 1.0)])
def test_the_bed_has_the_bones_volume_whatever_the_voxels(
    spacing: tuple[float, float, float], make_bone: Make
) -> None:
    bed = read_bed(*make_bone(spacing_mm=spacing, hole=("left",)))
    assert bed.grid.spacing_mm == pytest.approx((1.0, 1.0, 1.0))
    assert bed.bone.volume_ml == pytest.approx(28.0**3 / 1000, rel=0.12)
    spongy = bed.porosity[bed.kind == SPONGY]
    expected = 1 - (0.877 * 150 * 0.0007 + 0.079) / 0.6 / 1.95
    assert np.median(spongy) == pytest.approx(expected, abs=0.03)


def test_direction_changes_no_average(make_bone: Make) -> None:
    bed = read_bed(*make_bone("L3"))
    k = bed.medium(Constants(anisotropy=2.05)).permeability_m2[:, bed.kind == SPONGY]
    np.testing.assert_allclose(k[0] / k[1], 2.05)
    np.testing.assert_allclose(k[1], k[2])
    np.testing.assert_allclose(k.prod(axis=0), bed.permeability_m2[bed.kind == SPONGY] ** 3)


def test_marrow_pushes_back_inside_the_bone_only(make_bone: Make) -> None:
    bed = read_bed(*make_bone("L3", hole=("left",)))
    back = bed.medium(Constants(back_pa=1700.0)).back_pa
    assert set(back[np.isin(bed.kind, (SPONGY, VOID))]) == {1700.0}
    assert back[np.isin(bed.kind, (HOLE, VEIN, OUTSIDE))].max() == 0.0


def test_the_middle_of_what_is_drawn_is_what_is_known_best() -> None:
    middle = Constants.drawn(np.full(len(Constants.names()), 0.5), 2.0)
    assert middle.permeability == pytest.approx(1.0)
    assert middle.off_mm == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert middle.back_pa == pytest.approx(1500.0)
    assert middle.consistency == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("share", "permeability"), [(0.05, 0.1), (0.95, 4.5)]
)  # the ends of the range over its mean
def test_low_and_high_are_the_twentieth_parts_of_permeability(
    share: float, permeability: float
) -> None:
    drawn = Constants.drawn(np.full(len(Constants.names()), share), 2.0)
    assert drawn.permeability == pytest.approx(permeability, rel=1e-6)


def test_what_is_no_bone_or_no_voxel_is_refused(make_bone: Make) -> None:
    ct, anatomy, lesion = make_bone()
    empty = replace(anatomy.bone, values=np.zeros(anatomy.grid.shape, bool))
    with pytest.raises(InputError, match="left femur was not found on this CT"):
        read_bed(ct, replace(anatomy, bone=empty), lesion)
    with pytest.raises(InputError, match="voxel size is 0 mm"):
        read_bed(ct, anatomy, lesion, voxel_mm=0)
