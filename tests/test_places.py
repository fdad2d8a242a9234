"""Compartments of a bone of boxes: every answer can be read off the drawing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trocar import places
from trocar.errors import InputError
from trocar.model.case import Site
from trocar.model.result import Anatomy, Axes
from trocar.model.space import Float, Grid, Mask, Segment

# One voxel per mm; a body of 40 x 30 x 24 mm about the origin.
GRID = Grid.from_spacing((100, 100, 100), (1.0, 1.0, 1.0), (-49.5, -49.5, -49.5))
AXES = Axes(
    origin_mm=np.zeros(3),
    left=np.array([1.0, 0, 0]),
    posterior=np.array([0, 1.0, 0]),
    superior=np.array([0, 0, 1.0]),
)
BODY = ((-20, 20), (-15, 15), (-12, 12))


def box(*sides: tuple[float, float]) -> Mask:
    """A box by its lowest and highest left, posterior and superior mm."""
    p = GRID.to_world(np.moveaxis(np.indices(GRID.shape), 0, -1))
    inside = [(p[..., k] > low) & (p[..., k] < high) for k, (low, high) in enumerate(sides)]
    return Mask(grid=GRID, values=np.logical_and.reduce(inside))


def anatomy(site: str = "L3", **structures: Mask) -> Anatomy:
    bone = box(*BODY)
    return Anatomy(
        site=Site.parse(site),
        grid=GRID,
        body=Mask(grid=GRID, values=np.ones(GRID.shape, dtype=bool)),
        bone=bone,
        axes=AXES,
        structures=structures,
        regions={"vertebral_body": bone} if site == "L3" else {},
    )


def points(*sides: tuple[float, float]) -> Float:
    return box(*sides).points_mm()


SPOT = ((26, 30), (-2, 2), (-2, 2))  # beside the bone


@pytest.mark.parametrize(
    ("site", "label", "name"),
    [
        ("L3", "spinal_canal", "epidural or canal"),
        ("L3", "foramen_left", "foraminal"),
        ("sacrum", "sacral_foramina_left", "foraminal"),
        ("sacrum", "nerve_root_S1_left", "foraminal"),
        ("acetabulum left", "hip_joint_left", "intra-articular"),
        ("femur left", "hip_joint_left", "intra-articular"),
        ("L3", "facet_joint_left", "facet"),
        ("L3", "inferior_vena_cava", "vena cava or azygos vein"),
        ("L3", "iliac_vena_left", "segmental or paravertebral vein"),
        ("L3", "pulmonary_artery", "pulmonary"),
        ("L3", "aorta", "other"),
        ("L3", "lung_left", "pleural"),
    ],
)
def test_a_label_names_the_compartment(site: str, label: str, name: str) -> None:
    around = places.Surroundings(anatomy=anatomy(site, **{label: box(*SPOT)}))
    assert set(places.labelled(points(*SPOT), around)) == {name}


def test_a_point_in_no_label_has_no_name() -> None:
    around = places.Surroundings(anatomy=anatomy("femur left"))
    assert set(places.labelled(points(*SPOT), around)) == {""}
    assert places.by_place(points(*SPOT), around) == "soft tissue"


def test_the_canal_comes_before_a_vein_and_a_track() -> None:
    track = places.NeedleTrack(
        path=Segment(start_mm=np.array([28.0, 40, 0]), end_mm=np.array([28.0, -10, 0])),
        diameter_mm=3.0,
    )
    spot = box(*SPOT)
    both = anatomy(spinal_canal=spot, inferior_vena_cava=spot)
    assert set(places.labelled(points(*SPOT), places.Surroundings(anatomy=both))) == {places.CANAL}
    alone = places.Surroundings(anatomy=anatomy(), tracks=(track,))
    assert set(places.labelled(points(*SPOT), alone)) == {places.TRACK}


@pytest.mark.parametrize(("sign", "name"), [(1, "disc superior"), (-1, "disc inferior")])
def test_a_disc_is_above_or_below(sign: int, name: str) -> None:
    low, high = sorted((13 * sign, 16 * sign))
    spot = ((-3, 3), (-3, 3), (low, high))
    by_label = places.Surroundings(anatomy=anatomy(disc_x=box(*spot)))
    assert set(places.labelled(points(*spot), by_label)) == {name}
    # Without a label: between the body and the next bone, or alone near the plate.
    low, high = sorted((20 * sign, 40 * sign))
    next_one = anatomy(other_bone=box((-20, 20), (-15, 15), (low, high)))
    for some in (next_one, anatomy()):
        around = places.Surroundings(anatomy=some)
        assert set(places.labelled(points(*spot), around)) == {name}


@pytest.mark.parametrize(
    ("sides", "name"),
    [
        (((-5, 5), (-19, -15), (-4, 4)), "cortical anterior"),
        (((20, 24), (-4, 4), (-4, 4)), "cortical lateral"),
        (((20, 40), (-1, 1), (-1, 1)), "segmental or paravertebral vein"),
        (((30, 36), (-3, 3), (-3, 3)), "soft tissue"),
        (((9, 11), (18, 40), (-1, 1)), "needle track"),
        (((8, 14), (24, 30), (-3, 3)), "soft tissue"),
    ],
)
def test_shape_and_side_where_nothing_is_labelled(
    sides: tuple[tuple[float, float], ...], name: str
) -> None:
    assert places.by_place(points(*sides), places.Surroundings(anatomy=anatomy())) == name


def test_kinds_of_leak() -> None:
    around = places.Surroundings(anatomy=anatomy())
    middle, aside = points((-2, 2), (17, 20), (-2, 2)), points((10, 13), (17, 20), (-2, 2))
    gap = np.array([1.0])
    assert places.kind_of_leak("disc superior", middle, gap, around) == "D"
    assert places.kind_of_leak(places.CANAL, middle, gap, around) == "B"
    assert places.kind_of_leak(places.CANAL, aside, gap, around) == "S"
    assert places.kind_of_leak(places.VEIN, middle, gap, around) == "S"
    assert places.kind_of_leak("pulmonary", middle, gap, around) == "S"
    assert places.kind_of_leak("cortical lateral", middle, gap, around) == "C"
    assert places.kind_of_leak(places.JOINT, middle, gap, around) == "C"
    assert places.kind_of_leak(places.TRACK, middle, gap, around) == ""
    # A lesion that has eaten the posterior wall lets cement straight through.
    eaten = replace(around, lesion=box((-5, 5), (10, 16), (-5, 5)))
    assert places.kind_of_leak(places.CANAL, middle, gap, eaten) == "C"


def test_distances_are_those_of_the_drawing() -> None:
    spot = points(*SPOT)
    cord, liver = box((36, 44), (-9, 9), (-9, 9)), box((36, 40), (0, 9), (0, 9))
    some = anatomy(spinal_canal=cord, liver=liver)
    found = places.distances_at_risk(spot, GRID, some)
    assert set(found) == {"spinal_canal"}  # the liver is no structure at risk here
    assert found["spinal_canal"] == pytest.approx(6.0, abs=0.51)
    empty = Mask(grid=GRID, values=np.zeros(GRID.shape, dtype=bool))
    assert np.isinf(places.gap_mm(spot, empty)).all()
    assert places.distances_at_risk(spot, GRID, anatomy(spinal_canal=empty)) == {}


def test_end_plates_and_midline() -> None:
    some = anatomy()
    top, core = points((-5, 5), (-5, 5), (8, 12)), points((-5, 5), (-5, 5), (-3, 3))
    assert places.touched_end_plates(top, some) == ("superior",)
    assert places.touched_end_plates(core, some) == ()
    assert places.touched_end_plates(top, anatomy("femur left")) == ()
    assert places.crosses_midline(core, np.ones(len(core)), some) is True
    left = points((5, 9), (-5, 5), (-3, 3))
    assert places.crosses_midline(left, np.ones(len(left)), some) is False
    assert places.crosses_midline(core, np.ones(len(core)), anatomy("femur left")) is None


def test_a_needle_without_thickness_is_refused() -> None:
    with pytest.raises(InputError, match="diameter"):
        places.NeedleTrack(path=Segment(start_mm=np.zeros(3), end_mm=np.ones(3)), diameter_mm=0.0)
