"""Strength of bones that are boxes: what their stiffness and failure must be can be worked out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from trocar import phantom
from trocar.errors import InputError
from trocar.facts import strength as facts
from trocar.imaging.bone import read_anatomy
from trocar.model.case import Site
from trocar.model.result import Anatomy, Axes, Calibration, Fill
from trocar.model.space import Grid, Mask, Volume
from trocar.model.strength import Strength
from trocar.simulation import bone_loads, bone_model
from trocar.simulation.bone_press import HEIGHT, PISTOIA, STRAIN, Specimen
from trocar.simulation.strength import bone_strength

HALF = 15.0
CALIBRATED = Calibration(method="phantom", slope=0.001, offset=0.0)  # HU are mg/cm3
Box = tuple[Volume, Anatomy]


def box(
    site: str = "L1",
    *,
    hu: float = 200.0,
    lesion_mm: float = 0.0,
    at_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    calibration: Calibration | None = CALIBRATED,
    turn: Any = None,
    tall_mm: float = HALF,
) -> tuple[Volume, Anatomy, Mask]:
    """A box of bone, even throughout (and so is what lies around it); a ball of lesion in it."""
    n, half = 72, 36.0
    grid = Grid.from_spacing((n, n, n), (1.0, 1.0, 1.0), (0.5 - half,) * 3)
    p = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    way = np.eye(3) if turn is None else np.asarray(turn)
    local = p @ way
    bone = (np.abs(local) < (HALF, HALF, tall_mm)).all(axis=-1)
    ball = (np.linalg.norm(local - np.asarray(at_mm), axis=-1) < lesion_mm) & bone
    values = np.full(grid.shape, hu)
    values[ball] = 30.0
    mask = Mask(grid=grid, values=bone)
    anatomy = Anatomy(
        site=Site.parse(site),
        grid=grid,
        body=Mask(grid=grid, values=np.ones(grid.shape, bool)),
        bone=mask,
        axes=Axes(origin_mm=np.zeros(3), left=way[:, 0], posterior=way[:, 1], superior=way[:, 2]),
        structures={},
        regions={"vertebral_body": mask} if site.startswith(("L", "T", "C")) else {},
        calibration=calibration,
    )
    return Volume(grid=grid, values=values), anatomy, Mask(grid=grid, values=ball)


def filled(lesion: Mask, share: float = 1.0, origin: str = "simulated") -> Fill:
    volume = lesion.volume_ml * share
    return Fill(
        lesion_id="1", site=Site.parse("L1"), origin=origin,  # type: ignore[arg-type]
        fraction=Volume(grid=lesion.grid, values=lesion.values * share, unit="1"),
        volume_ml=volume, low_ml=volume, high_ml=volume, in_bone_ml=volume, in_lesion_ml=volume,
        lesion_fill=share, bone_fill=None,
    )  # fmt: skip


def mean_run(given: tuple[Volume, Anatomy, Mask], **how: Any) -> Strength:
    ct, anatomy, lesion = given
    how.setdefault("interval", False)
    return bone_strength(ct, anatomy, lesion=lesion, **how)


def young(hu: float) -> float:
    return float(facts.law("kopperdahl").modulus_mpa(hu / 1000.0, of="ha"))


# --- an even box ---------------------------------------------------------------------------------


def test_an_even_box_is_as_stiff_as_bone_and_plates_in_a_row() -> None:
    told = mean_run(box())
    one = told.bearing("now", "lumbar_compression")
    area, cap = (2 * HALF) ** 2, float(facts.value("cap_thickness"))
    by_hand = area / (2 * HALF / young(200) + 2 * cap / float(facts.material("cap").modulus_mpa))
    assert one.stiffness_n_mm is not None
    # The plates hold the ends from widening, which adds a little.
    assert by_hand < one.stiffness_n_mm.mean < 1.05 * by_hand
    force = one.failure_n[PISTOIA].mean
    assert force == pytest.approx(0.007 * young(200) * area, rel=0.12)
    squeezed = abs(float(facts.strain_limit("vertebra").compression))
    assert one.failure_n[STRAIN].mean == pytest.approx(squeezed * young(200) * area, rel=0.12)
    height = 2 * HALF + 2 * cap
    assert one.failure_n[HEIGHT].mean == pytest.approx(
        float(facts.value("height_strain")) * one.stiffness_n_mm.mean * height, rel=1e-9
    )
    assert one.load_n.mean == 1000.0
    assert one.ratio.mean == pytest.approx(1000.0 / force)
    assert one.of_intact is not None
    assert one.of_intact.mean == pytest.approx(1.0)


def test_a_plate_bears_the_force_and_the_moment_of_its_case() -> None:
    ct, anatomy, lesion = box(lesion_mm=8.0, at_mm=(3.0, -5.0, 2.0))
    case = facts.load_case("lumbar_flexion")
    bone = bone_model.build(ct, anatomy, lesion, {}, frame="bone", room_mm=3.0)
    held = bone_loads.grip(case, bone, anatomy, None)
    specimen = Specimen(bone, held)
    specimen.stiffen("now", bone_model.Constants.of("mean", "phantom"))
    assert held.platen is not None
    u, force, _ = specimen._between_plates(case, held.platen, None)
    at = np.argwhere(held.platen)
    bears = specimen.body.internal_n(u)[0][held.platen]
    back = at[:, 1] - at[:, 1].mean()
    assert force == 1000.0
    assert bears.sum() == pytest.approx(-1000.0, rel=1e-6)
    assert (bears * back).sum() == pytest.approx(10_000.0, rel=1e-6)
    # It bends forward: the front goes further down than the back.
    down = u[0][held.platen]
    assert np.polyfit(back, down, 1)[0] > 0
    assert np.polyfit(back, down, 1)[1] < 0


def test_a_bent_box_yields_at_its_front_first() -> None:
    told = mean_run(box())
    bent, pressed = (told.bearing("now", f"lumbar_{n}") for n in ("flexion", "compression"))
    assert bent.failure_n[PISTOIA].mean < pressed.failure_n[PISTOIA].mean
    assert bent.weakest_mm[1] < -5.0


def test_bone_of_twice_the_stiffness_bears_twice_as_much() -> None:
    soft, hard = (mean_run(box(hu=h)).bearing("now") for h in (100.0, 189.257))
    ratio = young(189.257) / young(100.0)
    assert ratio == pytest.approx(2.0, rel=0.01)
    assert hard.failure_n[PISTOIA].mean / soft.failure_n[PISTOIA].mean == pytest.approx(
        ratio, rel=0.03
    )


def test_all_that_is_uncertain_widens_the_interval() -> None:
    told = mean_run(box(lesion_mm=8.0), interval=True)
    one = told.bearing("now")
    spread = one.failure_n[PISTOIA]
    assert spread.low < 0.8 * spread.mean
    assert spread.high > 1.2 * spread.mean
    assert one.ratio.low < one.ratio.mean < one.ratio.high
    assert one.ratio.high == pytest.approx(one.load_n.high / spread.low)
    none = mean_run(box(calibration=replace(CALIBRATED, method="none")), interval=True)
    sure = mean_run(box(), interval=True)
    assert none.bearing("now").failure_n[PISTOIA].low < sure.bearing("now").failure_n[PISTOIA].low
    # What holds of both states alike does not widen what one is of the other.
    of = one.of_intact
    assert of is not None
    assert of.high - of.low < 0.5 * (spread.high - spread.low) / spread.mean


# --- lesion and cement ---------------------------------------------------------------------------


def test_a_lesion_weakens_and_cement_gives_back() -> None:
    given = box(lesion_mm=10.0)
    lesion = given[2]
    told = mean_run(
        given, planned=filled(lesion, 0.5), found=filled(lesion, 1.0, "measured"), interval=False
    )
    assert told.states == ("intact", "now", "planned", "found")
    stiff = [told.bearing(s).stiffness_n_mm for s in told.states]
    intact, now, half, full = (s.mean for s in stiff if s is not None)
    assert now < half < full
    assert now < intact
    force = [told.bearing(s).failure_n[PISTOIA].mean for s in told.states]
    assert force[1] < force[0]
    assert force[1] < force[2]
    assert told.bearing("now").weakest_in == "beside the lesion"
    assert told.bearing("now").cement_used is None
    used = told.bearing("found").cement_used
    assert used is not None
    assert 0.0 < used.mean < 1.0


def test_the_intact_bone_is_as_if_there_were_no_lesion() -> None:
    with_it, without = mean_run(box(lesion_mm=10.0)), mean_run(box())
    a, b = with_it.bearing("intact"), without.bearing("intact")
    assert a.failure_n[PISTOIA].mean == pytest.approx(b.failure_n[PISTOIA].mean, rel=1e-3)


def test_larger_lesions_leave_less() -> None:
    left = []
    for r in (0.0, 6.0, 9.0, 12.0):
        one = mean_run(box(lesion_mm=r)).bearing("now")
        assert one.stiffness_of_intact is not None
        left.append(one.stiffness_of_intact.mean)
    assert left[0] == pytest.approx(1.0, abs=1e-6)
    assert all(b < a for a, b in pairwise(left))


def test_soft_cement_gives_back_less_than_hard(monkeypatch: pytest.MonkeyPatch) -> None:
    given = box(lesion_mm=10.0)
    fill = filled(given[2])
    stiff = []
    for mpa in (954.0, 1937.0, 3000.0):

        def of(scenario: str, method: str, mpa: float = mpa) -> bone_model.Constants:
            return bone_model.Constants(
                density_factor=1.0, law_factor=1.0, cement_mpa=mpa, infiltrated_mpa=0.774 * mpa,
                tumour_mpa=17.5,
            )  # fmt: skip

        monkeypatch.setattr(bone_model.Constants, "of", of)
        one = mean_run(given, found=fill).bearing("found").stiffness_n_mm
        assert one is not None
        stiff.append(one.mean)
    assert stiff[0] < stiff[1] < stiff[2]


def test_a_mirrored_and_a_turned_bone_are_as_strong() -> None:
    right = mean_run(box(lesion_mm=8.0, at_mm=(5.0, 2.0, 1.0))).bearing("now")
    left = mean_run(box(lesion_mm=8.0, at_mm=(-5.0, 2.0, 1.0))).bearing("now")
    assert left.failure_n[PISTOIA].mean == pytest.approx(right.failure_n[PISTOIA].mean, rel=1e-3)
    a = np.radians(20.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    turned = mean_run(box(lesion_mm=8.0, at_mm=(5.0, 2.0, 1.0), turn=turn)).bearing("now")
    assert turned.failure_n[PISTOIA].mean == pytest.approx(right.failure_n[PISTOIA].mean, rel=0.06)


# --- what is said --------------------------------------------------------------------------------


def test_cement_that_seems_to_weaken_is_said() -> None:
    given = box()
    drop = box(lesion_mm=5.0)[2]
    told = mean_run(given, found=filled(drop, origin="measured"))
    now, found = (told.bearing(s) for s in ("now", "found"))
    weaker = found.failure_n[PISTOIA].mean < now.failure_n[PISTOIA].mean
    assert weaker == any("seems to weaken" in str(f) for f in told.findings)
    assert weaker


def test_the_bone_of_today_is_judged() -> None:
    given = box(hu=100.0, lesion_mm=13.0)
    before = mean_run(given, loads=[facts.load_case("lumbar_compression")])
    assert before.bearing("intact").ratio.mean < 1.0 <= before.bearing("now").ratio.mean
    assert str(before.findings[0]).startswith("As it is, the bone is expected to break")
    loads = [facts.load_case("lumbar_compression")]
    after = mean_run(given, found=filled(given[2], 1.0, "measured"), loads=loads)
    assert after.bearing("found").ratio.mean < 1.0
    assert not any(f.gravity == "stop" for f in after.findings)
    barely = mean_run(given, found=filled(given[2], 0.0, "measured"), loads=loads)
    assert str(barely.findings[0]).startswith("Even with the cement found")


def test_a_model_by_which_the_intact_bone_breaks_is_not_believed() -> None:
    told = mean_run(box(hu=20.0))
    assert told.bearing("intact").ratio.mean >= 1.0
    assert not any(f.gravity == "stop" for f in told.findings)
    assert "even the intact bone" in str(told.findings[0])


def test_a_ct_without_calibration_is_said_and_is_unknown() -> None:
    none = mean_run(box(calibration=None))
    assert none.calibration == "none"
    assert "density of this scanner" in none.unknown
    assert any("not calibrated" in str(f) for f in none.findings)
    assert not any("not calibrated" in str(f) for f in mean_run(box()).findings)


def test_what_cannot_be_loaded_is_said() -> None:
    ct, anatomy, lesion = box()
    empty = replace(anatomy, bone=Mask.empty(anatomy.grid))
    with pytest.raises(InputError, match="no bone was identified"):
        bone_strength(ct, empty)
    with pytest.raises(InputError, match="body was not told from its arch"):
        bone_strength(ct, replace(anatomy, regions={}))
    with pytest.raises(InputError, match="acroiliac joint left was not identified"):
        bone_strength(ct, replace(anatomy, site=Site.parse("ilium left")))
    with pytest.raises(InputError, match="body weight of 5 kg"):
        bone_strength(ct, anatomy, weight_kg=5.0)
    with pytest.raises(InputError, match="voxels of 9 mm"):
        bone_strength(ct, anatomy, voxel_mm=9.0)
    whole = Mask(grid=anatomy.grid, values=anatomy.bone.values)
    soft = replace(ct, values=np.full(ct.grid.shape, 30.0))
    with pytest.raises(InputError, match="lesion takes the whole bone"):
        bone_strength(soft, anatomy, lesion=whole)
    assert lesion.is_empty


def test_specks_metal_and_leaks_are_told() -> None:
    ct, anatomy, lesion = box(lesion_mm=8.0)
    bone = anatomy.bone.values.copy()
    bone[-6:-4, 30:32, 30:32] = True  # hangs on nothing
    metal = np.zeros(bone.shape, bool)
    metal[30:40, 30:34, 30:34] = True
    speckled = replace(anatomy, bone=Mask(grid=anatomy.grid, values=bone))
    clean, dirty = mean_run((ct, anatomy, lesion)), mean_run((ct, speckled, lesion))
    for a, b in zip(clean.bearings, dirty.bearings, strict=True):
        assert b.failure_n[PISTOIA].mean == pytest.approx(a.failure_n[PISTOIA].mean, rel=1e-3)
    treated = replace(anatomy, structures={"metal": Mask(grid=anatomy.grid, values=metal)})
    told = mean_run((ct, treated, lesion))
    assert told.findings[0].gravity == "stop"
    assert "Metal or old cement" in str(told.findings[0])
    leaky = replace(filled(lesion), volume_ml=lesion.volume_ml + 1.0)
    said = [str(f) for f in mean_run((ct, anatomy, lesion), planned=leaky).findings]
    assert any(f"{lesion.volume_ml:.1f} ml lie in the bone" in f for f in said)
    assert any("what leaked, 1.0 ml" in f for f in said)
    assert any(f.startswith("Not computed: lumbar standing") for f in said)


def test_plates_refuse_what_they_cannot_do() -> None:
    ct, anatomy, _ = box()
    plain = facts.load_case("lumbar_compression")
    up = replace(plain, name="up", forces=(replace(plain.forces[0], up=True),))
    for case in (
        up,
        replace(plain, name="leans", forces=(replace(plain.forces[0], posterior_deg=9.0),)),
    ):
        with pytest.raises(InputError, match="cannot be laid on a vertebra between plates"):
            bone_strength(ct, anatomy, loads=[case])
    with pytest.raises(InputError, match="same name"):
        bone_strength(ct, anatomy, loads=[plain, plain])


def test_thin_cement_counts_by_its_share() -> None:
    ct, anatomy, lesion = box(lesion_mm=10.0)
    sheets = lesion.values.copy()
    sheets[:, :, ::2] = False
    fill = replace(
        filled(lesion), fraction=Volume(grid=lesion.grid, values=sheets.astype(float), unit="1")
    )
    bone = bone_model.build(ct, anatomy, lesion, {"planned": fill}, frame="bone", voxel_mm=2.0)
    inside = float(bone.cement["planned"].sum()) * bone.grid.voxel_ml
    assert inside == pytest.approx(np.count_nonzero(sheets) / 1000.0, rel=0.05)


def test_progress_rises_to_its_end() -> None:
    heard: list[float] = []
    mean_run(box(), progress=lambda _, f: heard.append(f))
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


# --- long bones and pelvis -----------------------------------------------------------------------


def test_a_twist_adds_up_to_its_moment() -> None:
    ct, anatomy, _ = box("humerus left", hu=600.0)
    case = facts.load_case("humerus_torsion")
    bone = bone_model.build(ct, anatomy, None, {}, frame="bone")
    held = bone_loads.grip(case, bone, anatomy, None)
    force = held.force_n
    assert force is not None
    assert force.sum(axis=(1, 2, 3)) == pytest.approx(np.zeros(3), abs=1e-9)
    at = np.argwhere(np.ones(force.shape[1:], bool)).reshape(*force.shape[1:], 3)
    # About the left-back-up axes: x back component minus y left component.
    about_up = at[..., 2] * force[1] - at[..., 1] * force[2]
    assert about_up.sum() == pytest.approx(1000.0 * float(case.moments[0].size_nm), rel=1e-9)


def test_a_humerus_bears_force_and_twist() -> None:
    told = mean_run(box("humerus left", hu=600.0, lesion_mm=9.0, tall_mm=34.0), weight_kg=80.0)
    assert told.loads[0] == "humerus_both"
    one = told.bearing("now")
    assert one.load_n.mean == pytest.approx(facts.load_case("humerus_both").forces[0].newton(80.0))
    assert one.of_intact is not None
    assert one.of_intact.mean < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["femur", "sacrum", "acetabulum", "vertebra_l3"])
def test_synthetic_patients_are_weakened_by_their_lesions(name: str) -> None:
    patient = phantom.make(name)
    anatomy = read_anatomy(patient.ct, patient.site, labels=patient.labels)
    told = bone_strength(patient.ct, anatomy, lesion=patient.lesion, interval=False)
    one = told.bearing("now")
    assert one.of_intact is not None
    assert 0.3 < one.of_intact.mean < 0.999
    for bearing in told.bearings:
        assert np.all(np.isfinite(bearing.weakest_mm))
        assert all(np.isfinite(v.mean) and v.mean > 0 for v in bearing.failure_n.values())
    assert all(np.all(np.isfinite(v.values)) for v in told.used.values())
