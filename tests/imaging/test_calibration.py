"""HU to density: known densities come back within 2 %."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.facts import tissue
from trocar.imaging.calibration import calibrate
from trocar.model.result import Calibration
from trocar.model.space import Grid, Mask, Volume

GRID = Grid.from_spacing((20, 60, 60), (1.0, 1.0, 1.0))


def _box(rows: slice, columns: slice) -> Mask:
    values = np.zeros(GRID.shape, dtype=bool)
    values[2:18, rows, columns] = True
    return Mask(grid=GRID, values=values)


def _patient(slope: float, offset: float, noise_hu: float = 15.0) -> Volume:
    """Air around fat around muscle, on a scanner whose HU follow the given line of density."""
    density = np.full(GRID.shape, tissue.value("density_air").mean)
    density[:, 10:50, 10:50] = tissue.value("density_fat").mean
    density[:, 20:40, 16:44] = tissue.value("density_muscle").mean
    hu = (density - offset) / slope
    hu += np.random.default_rng(1).normal(0, noise_hu, GRID.shape)
    return Volume(grid=GRID, values=np.round(hu).astype(np.int16))


@given(
    slope=st.floats(0.0006, 0.0012),
    offset=st.floats(-0.05, 0.05),
    known=st.floats(0.05, 0.8),
)
def test_rods_give_back_the_line_they_were_made_with(
    slope: float, offset: float, known: float
) -> None:
    rods = [(density, (density - offset) / slope) for density in (0.0, 0.1, 0.4, 0.8)]
    ct = Volume(grid=GRID, values=np.zeros(GRID.shape, dtype=np.int16))
    found = calibrate(ct, rods=rods)
    assert found.method == "phantom"
    assert float(found.density((known - offset) / slope)) == pytest.approx(known, rel=1e-6)


def test_rods_drawn_on_a_noisy_scan_recover_a_density_within_2_percent() -> None:
    slope, offset = 0.00078, 0.012
    known = (0.0, 0.05, 0.1, 0.2)
    hu = np.random.default_rng(0).normal(-900, 20, GRID.shape)
    rods = []
    for k, density in enumerate(known):
        mask = _box(slice(5, 55), slice(3 + 14 * k, 13 + 14 * k))
        hu[mask.values] = (density - offset) / slope + np.random.default_rng(k).normal(
            0, 20, mask.voxels
        )
        rods.append((density, mask))
    found = calibrate(Volume(grid=GRID, values=hu), rods=rods)
    assert float(found.density((0.15 - offset) / slope)) == pytest.approx(0.15, rel=0.02)
    assert "4 rods" in found.note


@pytest.mark.parametrize(("slope", "offset"), [(0.00084, 0.0), (0.00090, 0.02), (0.00080, -0.01)])
def test_air_fat_and_muscle_are_found_and_recover_a_density_within_2_percent(
    slope: float, offset: float
) -> None:
    found = calibrate(_patient(slope, offset))
    assert found.method == "internal"
    assert float(found.density((0.2 - offset) / slope)) == pytest.approx(0.2, rel=0.02)
    assert "placeholder" in found.note  # the equivalent densities are not verified


def test_given_tissue_masks_are_used_away_from_their_edges() -> None:
    slope, offset = 0.00095, 0.03
    masks = {
        "fat": _box(slice(11, 19), slice(11, 49)),
        "muscle": _box(slice(19, 41), slice(15, 45)),
    }
    air = np.zeros(GRID.shape, dtype=bool)
    air[:, :8] = True
    found = calibrate(
        _patient(slope, offset), tissues={**masks, "air": Mask(grid=GRID, values=air)}
    )
    assert "given masks" in found.note
    assert float(found.density((0.2 - offset) / slope)) == pytest.approx(0.2, rel=0.02)


def test_without_any_tissue_the_textbook_slope_is_flagged_uncalibrated() -> None:
    empty = Volume(grid=GRID, values=np.full(GRID.shape, 300, dtype=np.int16))
    at = {kvp: calibrate(empty, kvp=kvp) for kvp in (None, 120.0, 100.0, 80.0, 140.0)}
    assert {c.method for c in at.values()} == {"none"}
    assert all("uncalibrated" in c.note for c in at.values())
    assert at[None].slope == at[120.0].slope == tissue.value("density_slope_uncalibrated").mean
    assert at[100.0].slope / at[120.0].slope == pytest.approx(tissue.value("kvp_factor_100").mean)
    assert at[80.0].slope < at[100.0].slope < at[120.0].slope < at[140.0].slope
    assert "tube voltage unknown" in at[None].note


def test_bad_rods_and_tissues_are_refused_in_plain_words() -> None:
    ct = _patient(0.00084, 0.0)
    with pytest.raises(InputError, match="two rods or more"):
        calibrate(ct, rods=[(0.1, 100.0)])
    with pytest.raises(InputError, match="same order"):
        calibrate(ct, rods=[(0.1, 300.0), (0.3, 100.0)])
    with pytest.raises(InputError, match="no tissue liver"):
        calibrate(ct, tissues={"liver": _box(slice(11, 19), slice(11, 49))})
    with pytest.raises(InputError, match="two tissues"):
        calibrate(ct, tissues={"fat": _box(slice(11, 19), slice(11, 49))})


@pytest.mark.data
def test_two_real_scans_calibrate_themselves_near_the_textbook(data: Path) -> None:
    from trocar.io.volumes import read_scan

    for name in ("01_lumbar_pelvis_totalseg", "14_thoracic_metal_contrast_totalseg"):
        found: Calibration = calibrate(read_scan(data / name / "ct.nii.gz").volume)
        assert found.method == "internal"
        # Published slopes: 0.0007 to 0.0009 g/cm3 per HU.
        assert 0.0007 < found.slope < 0.0009
        assert abs(found.offset) < 0.03
