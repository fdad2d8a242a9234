"""Metal and old cement: found where they were put, and nothing else taken for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from trocar.imaging.foreign import find_foreign, foreign_bodies, foreign_findings
from trocar.model.case import Gravity
from trocar.model.space import Grid, Mask, Volume

SHAPE, STEP = (60, 70, 80), (1.0, 0.8, 0.8)


def _ball(centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    squared = sum((i * s - c) ** 2 for i, s, c in zip((z, y, x), STEP, centre_mm, strict=True))
    return squared <= radius_mm**2


def _rod(row_mm: float, column_mm: float, radius_mm: float) -> np.ndarray:
    _, y, x = np.indices(SHAPE)
    return (y * STEP[1] - row_mm) ** 2 + (x * STEP[2] - column_mm) ** 2 <= radius_mm**2


def _scan(*parts: tuple[np.ndarray, float], noise_hu: float = 20.0) -> Volume:
    """Muscle with parts painted in, blurred and noisy like a CT."""
    hu = np.full(SHAPE, 50.0)
    for where, value in parts:
        hu[where] = value
    hu = ndimage.gaussian_filter(hu, [0.5 / s for s in STEP])
    hu += np.random.default_rng(3).normal(0, noise_hu, SHAPE)
    return Volume(grid=Grid.from_spacing(SHAPE, STEP), values=np.round(hu).astype(np.int16))


CORTEX = (_rod(28, 50, 9) & ~_rod(28, 50, 5), 1500.0)
VESSEL = (_rod(10, 10, 6), 450.0)
STONE = (_ball((50, 45, 12), 4), 1500.0)


def test_cortex_vessel_and_stone_are_not_foreign() -> None:
    assert find_foreign(_scan(CORTEX, VESSEL, STONE)).is_empty


def test_a_cement_ball_is_found_at_its_own_volume() -> None:
    cement = _ball((30, 28, 20), 8)
    found = find_foreign(_scan(CORTEX, VESSEL, STONE, (cement, 2100.0)))
    true_ml = 4 / 3 * np.pi * 8**3 / 1000
    assert found.volume_ml == pytest.approx(true_ml, rel=0.05)
    (piece,) = foreign_bodies(_scan((cement, 2100.0)), find_foreign(_scan((cement, 2100.0))))
    assert piece.kind == "cement-like"
    np.testing.assert_allclose(piece.centre_mm[::-1], (30, 28, 20), atol=0.2)


def test_a_nail_is_metal_and_a_thin_wire_is_never_cement() -> None:
    nail, wire = _rod(28, 30, 4), _rod(45, 10, 1.0)
    ct = _scan((nail, 3200.0), (wire, 3800.0), noise_hu=5.0)
    kinds = [piece.kind for piece in foreign_bodies(ct, find_foreign(ct))]
    assert kinds[0] == "metal"
    assert "cement-like" not in kinds[1:]


def test_a_speck_is_noise_and_the_table_is_not_the_patient() -> None:
    speck = np.zeros(SHAPE, dtype=bool)
    speck[30, 30, 30] = True
    assert find_foreign(_scan((speck, 9000.0), noise_hu=0.0)).is_empty
    ct = _scan((_rod(50, 10, 3), 3200.0))
    body = np.ones(SHAPE, dtype=bool)
    body[:, 55:] = False
    assert not find_foreign(ct).is_empty
    assert find_foreign(ct, Mask(grid=ct.grid, values=body)).is_empty


def test_findings_say_how_much_where_and_whether_it_touches_the_bone() -> None:
    bone = Mask(grid=Grid.from_spacing(SHAPE, STEP), values=_rod(28, 40, 9))
    inside = _scan((_ball((30, 28, 40), 7), 2100.0))
    (finding,) = foreign_findings(inside, find_foreign(inside), bone=bone)
    assert finding.gravity is Gravity.CAUTION
    assert "looks like old cement" in str(finding)
    assert "1.4 ml" in str(finding)
    apart = _scan((_rod(28, 12, 4), 3200.0))
    (finding,) = foreign_findings(apart, find_foreign(apart), bone=bone)
    assert finding.gravity is Gravity.NOTE
    assert "towards the right" in str(finding)
    # Surfaces 15 mm apart; voxel centres half a voxel more on either side, less the blurred rim.
    assert finding.values["gap_mm"] == pytest.approx(15, abs=1.0)
    clean = _scan(CORTEX)
    assert foreign_findings(clean, find_foreign(clean), bone=bone) == ()


def _nifti(path: Path) -> Volume:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    way = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, :3], affine[:3, 3] = way[:, ::-1], image.GetOrigin()
    values = SimpleITK.GetArrayFromImage(image)
    return Volume(grid=Grid(shape=values.shape, affine=affine), values=values)


@pytest.mark.data
def test_the_nail_of_set_01_is_one_piece_of_metal(data: Path) -> None:
    ct = _nifti(data / "01_lumbar_pelvis_totalseg" / "ct.nii.gz")
    found = find_foreign(ct)
    (nail,) = foreign_bodies(ct, found)
    assert nail.kind == "metal"
    # 15 ml above 1800 HU, says the data's own README; kidney stones are none of it.
    assert found.volume_ml == pytest.approx(15.0, rel=0.1)
    femur = _nifti(data / "01_lumbar_pelvis_totalseg" / "labels_total.nii.gz")
    rows = (data / "01_lumbar_pelvis_totalseg" / "labels_total.csv").read_text().splitlines()
    left = next(int(row.split(",")[0]) for row in rows if "femur_left" in row)
    bone = Mask(grid=femur.grid, values=femur.values == left)
    assert "Metal touches the treated bone" in str(foreign_findings(ct, found, bone=bone)[0])


@pytest.mark.data
def test_stent_and_wires_of_set_14_are_never_cement(data: Path) -> None:
    ct = _nifti(data / "14_thoracic_metal_contrast_totalseg" / "ct.nii.gz")
    pieces = foreign_bodies(ct, find_foreign(ct))
    assert pieces[0].kind == "metal"
    assert {piece.kind for piece in pieces} <= {"metal", "dense"}


@pytest.mark.data
def test_cement_of_set_04_is_found_and_nothing_before(data: Path) -> None:
    folder = data / "04_l1_lytic_cement_semisynthetic"
    assert find_foreign(_nifti(folder / "pre_ct.nii.gz")).is_empty
    ct = _nifti(folder / "post_ct.nii.gz")
    found = find_foreign(ct)
    truth = _nifti(folder / "truth_labels.nii.gz").values
    assert foreign_bodies(ct, found)[0].kind == "cement-like"
    assert np.mean(truth[found.values] >= 2) > 0.95
    assert np.mean(found.values[truth >= 2]) > 0.8


@pytest.mark.data
def test_a_healthy_osteopenic_spine_holds_nothing_foreign(data: Path) -> None:
    assert find_foreign(_nifti(data / "02_l3_subregions_tptbox" / "ct.nii.gz")).is_empty
