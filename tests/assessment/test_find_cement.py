from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trocar.assessment import NeedleTrack, find_cement
from trocar.errors import InputError
from trocar.imaging.bone import read_anatomy
from trocar.kernels import field
from trocar.model.case import Gravity
from trocar.model.course import COMPARTMENTS
from trocar.model.result import Fill
from trocar.model.space import Grid, Mask, Segment, Volume
from trocar.phantom.scene import ORIGIN_MM

Any_ = Any  # the fixtures' records live in conftest.py, which tests cannot import


def read(planned: Any_, case: Any_, **more: Any) -> Fill:
    return find_cement(
        case.post.ct,
        planned.anatomy,
        lesion=planned.lesion,
        pre=planned.ct,
        lesion_id="a",
        needle_tracks=case.tracks,
        **more,
    )


def check(scores: Sequence[Any_]) -> None:
    for s in scores:
        assert s.dice >= 0.95, s
        assert abs(s.volume_error) <= 0.03, s
        assert all(s.found), s
        assert s.error_mm < 0.3, s
    placed = [p for s in scores for p in s.placed]
    assert np.mean(placed or [1.0]) >= 0.95, [s.where for s in scores]


# 1: thick slices, a leak in front; 16: three leaks; 33: small fill, needle track known.
@pytest.mark.parametrize(
    "seed",
    [1, pytest.param(16, marks=pytest.mark.slow), pytest.param(33, marks=pytest.mark.slow)],
)
def test_a_random_case(
    seed: int, planned: Any_, draw: Callable[[int], Any_], judge: Callable[..., Any_]
) -> None:
    case = draw(seed)
    fill = read(planned, case)
    check([judge(case, fill)])
    assert_books_balance(fill)


@pytest.mark.slow
def test_fifty_random_cases(
    planned: Any_, draw: Callable[[int], Any_], judge: Callable[..., Any_]
) -> None:
    """Noise, blur, cupping, streaks, slices of 1 to 3 mm, moves of up to 5 mm and 5 degrees."""
    scores = [judge(case, read(planned, case)) for case in map(draw, range(50))]
    check(scores)
    assert np.mean([s.inside_interval for s in scores]) >= 0.9
    assert not any(s.spurious for s in scores), [s.spurious for s in scores]


def assert_books_balance(fill: Fill) -> None:
    """Every voxel of a leak is in one compartment, and the volumes add up."""
    together = np.sum([leak.mask.values.astype(int) for leak in fill.leaks], axis=0)
    assert np.max(together, initial=0) <= 1
    assert all(leak.compartment in COMPARTMENTS for leak in fill.leaks)
    assert fill.in_bone_ml is not None
    assert fill.in_bone_ml + fill.leaked_ml == pytest.approx(fill.volume_ml, rel=1e-5)
    summed = float(fill.fraction.values.sum(dtype=float)) * fill.fraction.grid.voxel_ml
    assert summed == pytest.approx(fill.volume_ml, rel=1e-6)
    assert fill.low_ml <= fill.volume_ml <= fill.high_ml
    assert fill.fraction.values.min() >= 0
    assert fill.fraction.values.max() <= 1


# --- simpler cases: drawn straight onto the planning CT ------------------------------------------


def at(left: float, posterior: float, superior: float) -> NDArray[np.float64]:
    """A point of the phantom by its own millimetres, in the world."""
    out: NDArray[np.float64] = np.asarray(ORIGIN_MM + np.array([left, posterior, superior]))
    return out


def soft_ball(grid: Grid, centre_mm: Any_, radius_mm: float) -> NDArray[np.float32]:
    """Share of each voxel, with a rim blurred over 1.5 mm."""
    p = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    away = np.linalg.norm(p - np.asarray(centre_mm), axis=-1) - radius_mm
    return np.clip(0.5 - away / 1.5, 0, 1).astype(np.float32)


def drawn(ct: Volume, *shares: NDArray[np.float32], hu: float = 2100.0, seed: int = 5) -> Volume:
    """The CT again, with new noise and with cement."""
    values = ct.values.astype(np.float32)
    for share in shares:
        values += share * (hu - values)
    values += np.random.default_rng(seed).normal(0, 10, values.shape)
    return replace(ct, values=np.clip(values, -1024, 3071).astype(np.int16))


def simple(planned: Any_, post: Volume, **more: Any) -> Fill:
    how = {"lesion": planned.lesion, "pre": planned.ct, "lesion_id": "a"} | more
    return find_cement(post, planned.anatomy, **how)


def middle(planned: Any_) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.asarray(planned.patient.click_mm)
    return out


def test_no_cement_is_none(planned: Any_) -> None:
    fill = simple(planned, drawn(planned.ct))
    assert (fill.volume_ml, fill.leaks, fill.lesion_fill) == (0.0, (), 0.0)
    assert any("No cement was found" in str(f) for f in fill.findings)


def test_fill_of_lesion_and_bone(planned: Any_) -> None:
    share = soft_ball(planned.ct.grid, middle(planned), 6.0)
    fill = simple(planned, drawn(planned.ct, share))
    true_ml = float(share.sum()) * planned.ct.grid.voxel_ml
    assert fill.volume_ml == pytest.approx(true_ml, rel=0.02)
    assert fill.in_lesion_ml == pytest.approx(true_ml, rel=0.02)  # the ball lies in the lesion
    assert fill.lesion_fill == pytest.approx(true_ml / planned.lesion.volume_ml, rel=0.02)
    assert fill.bone_fill == pytest.approx(true_ml / planned.anatomy.bone.volume_ml, rel=0.02)
    assert fill.leaks == ()
    assert fill.touches_end_plates == ()
    assert fill.crosses_midline is False  # its middle lies 5 mm aside: a cap of 2 % crosses
    assert_books_balance(fill)


@pytest.mark.parametrize(
    ("radius_mm", "says"), [(7.0, "less than the"), (14.0, "restored strength and")]
)
def test_how_much_of_the_body_is_filled_is_told_beside_what_restored_strength(
    planned: Any_, radius_mm: float, says: str
) -> None:
    body = planned.anatomy.regions["vertebral_body"]
    fill = simple(
        planned, drawn(planned.ct, soft_ball(planned.ct.grid, middle(planned), radius_mm))
    )
    (told,) = [f for f in fill.findings if "of the body is filled" in f.message]
    assert told.gravity is Gravity.NOTE  # relief of pain does not follow from it
    assert fill.in_bone_ml is not None
    share = 100 * fill.in_bone_ml / body.volume_ml
    assert told.values["percent"] == pytest.approx(share, abs=1)  # a large ball leaves the body
    assert told.values["strength"] == pytest.approx(16.2)
    assert told.values["stiffness"] == pytest.approx(29.8)
    assert (share < 16.2) == (says == "less than the")
    assert says in told.message


@pytest.mark.slow
def test_midline_and_end_plates(planned: Any_) -> None:
    aside = simple(planned, drawn(planned.ct, soft_ball(planned.ct.grid, at(12, 0, 0), 6)))
    assert aside.crosses_midline is False
    high = simple(planned, drawn(planned.ct, soft_ball(planned.ct.grid, at(2, 0, 7), 6)))
    assert high.crosses_midline is True
    assert high.touches_end_plates == ("superior",)


@pytest.mark.slow
def test_old_cement_is_not_counted(planned: Any_) -> None:
    grid = planned.ct.grid
    old = soft_ball(grid, at(-12, -2, 0), 5.0)
    new = soft_ball(grid, at(9, -2, 0), 6.0)
    before = drawn(planned.ct, old, seed=6)
    fill = simple(planned, drawn(planned.ct, old, new), pre=before)
    assert fill.volume_ml == pytest.approx(float(new.sum()) * grid.voxel_ml, rel=0.03)
    assert fill.old_cement_ml == pytest.approx(float(old.sum()) * grid.voxel_ml, rel=0.1)
    assert any("before the procedure" in str(f) for f in fill.findings)


@pytest.mark.slow
def test_contrast_medium_is_not_cement(planned: Any_) -> None:
    vessels = ("aorta", "inferior_vena_cava")
    labels = planned.patient.labels.on(planned.ct.grid)
    enhanced = planned.ct.values + np.where(labels.mask(*vessels).values, 430, 0)
    share = soft_ball(planned.ct.grid, middle(planned), 6.0)
    post = drawn(replace(planned.ct, values=enhanced.astype(np.int16)), share)
    fill = simple(planned, post)
    assert fill.leaks == ()
    assert fill.volume_ml == pytest.approx(float(share.sum()) * post.grid.voxel_ml, rel=0.02)
    assert any("contrast medium" in str(f) for f in fill.findings)


@pytest.mark.slow
def test_a_needle_left_in_place_is_metal(planned: Any_) -> None:
    grid = planned.ct.grid
    p = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    way = Segment(start_mm=at(27, 48, 12.0), end_mm=at(14, 8, 4.0))
    steel = way.distance_mm(p) < 1.2
    post = drawn(planned.ct)
    post = replace(post, values=np.where(steel, 3071, post.values).astype(np.int16))
    fill = simple(planned, post)
    assert fill.volume_ml == 0.0
    assert any("Metal lies in the CT after the procedure" in str(f) for f in fill.findings)


def test_alarms_come_first_with_their_distances(planned: Any_) -> None:
    grid = planned.ct.grid
    canal = soft_ball(grid, at(3, 19.5, 0), 3.0)
    aside = soft_ball(grid, at(40, 0, 0), 3.5)
    main = soft_ball(grid, middle(planned), 6.0)
    fill = simple(planned, drawn(planned.ct, main, canal, aside))
    assert [leak.compartment for leak in fill.leaks] == ["epidural or canal", "soft tissue"]
    leak = fill.leaks[0]
    assert leak.distances_mm["spinal_canal"] == 0.0
    assert leak.kind in ("B", "C")
    first = fill.findings[0]
    assert first.gravity is Gravity.STOP
    assert "spinal canal" in str(first)
    # A ball of 3.5 mm whose centre lies 40 mm from the middle, the bone's side wall being there:
    bone = planned.anatomy.bone
    gap = field.distance_to(bone.values, bone.grid.spacing_mm)
    index = np.rint(bone.grid.to_index(at(40, 0, 0))).astype(int)
    reach = float(gap[tuple(index)]) + 3.5
    assert fill.leaks[1].reach_mm == pytest.approx(reach, abs=1.2)
    assert_books_balance(fill)


@pytest.mark.slow
def test_a_track_is_named_by_the_plan(planned: Any_, track: NeedleTrack) -> None:
    grid = planned.ct.grid
    blob = soft_ball(grid, track.path.end_mm - 8 * track.path.direction, 3.0)
    main = soft_ball(grid, middle(planned), 6.0)
    post = drawn(planned.ct, main, blob)
    assert [k.compartment for k in simple(planned, post).leaks] == ["soft tissue"]
    known = simple(planned, post, needle_tracks=(track,))
    assert [k.compartment for k in known.leaks] == ["needle track"]


def test_no_label_for_the_canal_is_said(planned: Any_) -> None:
    structures = {n: m for n, m in planned.anatomy.structures.items() if n != "spinal_canal"}
    blind = replace(planned.anatomy, structures=structures)
    post = drawn(planned.ct, soft_ball(planned.ct.grid, middle(planned), 6.0))
    fill = find_cement(post, blind, lesion=planned.lesion, pre=planned.ct)
    assert "spinal_canal" in fill.unknown
    assert fill.findings[0].gravity is Gravity.STOP
    assert "spinal canal at L3 is not known" in str(fill.findings[0])


@pytest.mark.slow
def test_no_lesion_leaves_its_fill_unknown(planned: Any_) -> None:
    post = drawn(planned.ct, soft_ball(planned.ct.grid, middle(planned), 6.0))
    fill = simple(planned, post, lesion=None)
    assert fill.lesion_fill is None
    assert "lesion" in fill.unknown


def test_cement_at_the_edge_of_the_image_is_said(planned: Any_) -> None:
    grid = planned.ct.grid
    share = soft_ball(grid, at(8, 0, 6), 7.0)
    top = round(float(grid.to_index(at(0, 0, 9))[0]))
    post = drawn(planned.ct, share).crop((slice(0, top), slice(None), slice(None)))
    fill = simple(planned, post)
    said = " ".join(str(f) for f in fill.findings)
    assert "edge of the image" in said
    assert "holds only" in said


@pytest.mark.slow
def test_another_bone_is_refused(planned: Any_) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(100, 150, planned.ct.grid.shape)
    with pytest.raises(InputError, match="do not look alike"):
        simple(planned, replace(planned.ct, values=noise))
    upside_down = replace(planned.ct, values=planned.ct.values[:, ::-1, ::-1])
    with pytest.raises(InputError, match="do not look alike"):
        simple(planned, upside_down)


@pytest.mark.slow
def test_no_overlap_is_refused(planned: Any_) -> None:
    part = planned.ct.crop((slice(0, 20), slice(None), slice(None)))
    with pytest.raises(InputError, match="the later CT holds"):
        simple(planned, part)


@pytest.mark.slow
def test_the_post_ct_alone(planned: Any_, draw: Callable[[int], Any_]) -> None:
    alone_is_close(planned, draw(5))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3, 4, 12, 20, 21, 28, 30])
def test_more_post_cts_alone(planned: Any_, draw: Callable[[int], Any_], seed: int) -> None:
    alone_is_close(planned, draw(seed))


def alone_is_close(planned: Any_, case: Any_) -> None:
    """Anatomy read on the post CT itself, from labels that moved with the patient."""
    patient, grid = planned.patient, case.post.ct.grid
    way = (patient.labels.grid.inverse @ np.linalg.inv(case.post.pose) @ grid.affine)[:3]

    def moved(values: NDArray[Any]) -> NDArray[Any]:
        return field.resample_nearest(values, way, grid.shape, 0)

    labels = replace(patient.labels, grid=grid, values=moved(patient.labels.values))
    lesion = Mask(grid=grid, values=moved(patient.lesion.values.view(np.uint8)).astype(bool))
    anatomy = read_anatomy(case.post.ct, patient.site, labels=labels, lesion=lesion)
    fill = find_cement(case.post.ct, anatomy, lesion=lesion)
    assert fill.volume_ml == pytest.approx(case.post.volume_ml, rel=0.10)
    assert fill.registration is None
    alarms = {k.compartment for k in fill.leaks} & {"epidural or canal"}
    assert alarms == set(case.leaks) & {"epidural or canal"}
