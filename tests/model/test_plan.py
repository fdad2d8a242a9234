"""Angles that must give the needle back, verdicts that must fail closed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from trocar.facts.products import needle
from trocar.model.case import Finding, Gravity, Site, gravest_first
from trocar.model.plan import CArmAngles, GantryAngles, Margin, Trajectory

coordinate = st.floats(-150, 150)
vector = st.tuples(coordinate, coordinate, coordinate)


@given(vector, vector)
def test_printed_gantry_angles_give_the_needle_back(
    entry: tuple[float, ...], target: tuple[float, ...]
) -> None:
    e, t = np.array(entry), np.array(target)
    depth = float(np.linalg.norm(e - t))
    assume(depth > 1)
    angles = GantryAngles.of(e, t)
    assert_allclose(e - depth * angles.direction(), t, atol=1e-6)


@given(vector, vector, st.sampled_from(["prone", "supine"]))
def test_c_arm_angles_look_down_the_needle(
    entry: tuple[float, ...], target: tuple[float, ...], position: str
) -> None:
    e, t = np.array(entry), np.array(target)
    depth = float(np.linalg.norm(e - t))
    assume(depth > 1)
    angles = CArmAngles.of(e, t, position)  # type: ignore[arg-type]
    assert_allclose(t + depth * angles.direction(), e, atol=1e-6)


def test_a_prone_needle_from_the_left_and_above_reads_as_such() -> None:
    entry, target = np.array([30.0, 80.0, 20.0]), np.zeros(3)
    gantry = GantryAngles.of(entry, target)
    assert gantry.from_behind
    assert gantry.in_plane_deg > 0  # the patient's left is +x
    assert gantry.tilt_deg == pytest.approx(np.degrees(np.arctan2(20, 80)))
    arm = CArmAngles.of(entry, target, "prone")
    assert arm.oblique_deg == pytest.approx(np.degrees(np.arctan2(30, 80)))
    assert arm.cranial_deg > 0


@pytest.mark.parametrize(
    ("distance", "verdict"),
    [(1.99, "stop"), (2.0, "caution"), (3.99, "caution"), (4.0, "ok"), (float("nan"), "stop")],
)
def test_margins_fail_closed(distance: float, verdict: str) -> None:
    margin = Margin(structure="spinal_canal", distance_mm=distance, required_mm=2.0, caution_mm=4.0)
    assert margin.verdict == verdict


def made(margins: tuple[Margin, ...], findings: tuple[Finding, ...] = ()) -> Trajectory:
    return Trajectory(
        route="r",
        needle=needle(11, 100),
        entry_mm=np.array([0.0, 90.0, 0.0]),
        target_mm=np.zeros(3),
        position="prone",
        bone_entry_mm=np.array([0.0, 40.0, 0.0]),
        bone_length_mm=40.0,
        cortex_angle_deg=10.0,
        margins=margins,
        findings=findings,
    )


def test_the_worst_margin_and_verdict_speak_for_the_needle() -> None:
    near = Margin(structure="aorta", distance_mm=6.0, required_mm=5.0, caution_mm=10.0)
    far = Margin(structure="spinal_canal", distance_mm=5.0, required_mm=2.0, caution_mm=4.0)
    assert made((far, near)).worst is near
    assert made((far,)).verdict is Gravity.NOTE
    assert made((far, near)).verdict is Gravity.CAUTION
    unknown = Finding(gravity=Gravity.STOP, message="the canal is not known")
    assert made((far, near), (unknown,)).verdict is Gravity.STOP


def test_findings_come_gravest_first_and_otherwise_in_order() -> None:
    def f(gravity: Gravity, text: str) -> Finding:
        return Finding(gravity=gravity, message=text)

    given_order = (
        f(Gravity.NOTE, "a"),
        f(Gravity.STOP, "b"),
        f(Gravity.CAUTION, "c"),
        f(Gravity.STOP, "d"),
    )
    assert [x.message for x in gravest_first(given_order)] == ["b", "d", "c", "a"]


@pytest.mark.parametrize(
    ("words", "label", "region"),
    [
        ("L1", "vertebrae_L1", "lumbar"),
        ("vertebrae_T10", "vertebrae_T10", "lower_thoracic"),
        ("t4", "vertebrae_T4", "upper_thoracic"),
        ("S1", "sacrum", "sacrum"),
        ("sacrum", "sacrum", "sacrum"),
        ("acetabulum right", "hip_right", "pelvis"),
        ("left_pubic_ramus", "hip_left", "pelvis"),
        ("femur-left", "femur_left", "long_bone"),
    ],
)
def test_sites_are_read_from_words(words: str, label: str, region: str) -> None:
    site = Site.parse(words)
    assert (site.bone_label, site.region) == (label, region)


@pytest.mark.parametrize("words", ["", "L9", "hip", "left", "left right hip", "tibia left", "S9"])
def test_a_site_trocar_does_not_know_is_refused_with_examples(words: str) -> None:
    from trocar.errors import InputError

    with pytest.raises(InputError, match="acetabulum right"):
        Site.parse(words)
