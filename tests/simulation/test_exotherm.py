"""Heat of setting cement against published ranges, and what is said of nerves nobody identified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.model.result import Anatomy, CementHeat, Fill
from trocar.model.space import Mask, Volume
from trocar.simulation.exotherm import cement_heat

Make = Callable[..., Any]


def ball(
    anatomy: Anatomy, radius_mm: float, centre: tuple[float, float, float] = (0, 0, 0)
) -> Fill:
    """A ball of pure cement, its surface shared by voxels."""
    grid = anatomy.grid
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    gap = radius_mm - np.linalg.norm(points - np.array(centre), axis=-1)
    share = np.clip(gap / min(grid.spacing_mm) + 0.5, 0, 1).astype(np.float32)
    ml = float(share.sum(dtype=np.float64)) * grid.voxel_ml
    return Fill(
        lesion_id="1", site=anatomy.site, origin="simulated",
        fraction=Volume(grid=grid, values=share, unit="1"), volume_ml=ml, low_ml=ml, high_ml=ml,
        in_bone_ml=ml, in_lesion_ml=None, lesion_fill=None, bone_fill=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def heated(make_bone: Make) -> Callable[..., CementHeat]:
    """Heat of a ball of so many ml in the box bone, its middle so far back; kept."""

    @cache
    def run(ml: float, back_mm: float = 0.0) -> CementHeat:
        ct, anatomy, _ = make_bone("L3")
        radius = (3 * ml * 1000 / (4 * np.pi)) ** (1 / 3)
        return cement_heat(ct, anatomy, ball(anatomy, radius, (0, back_mm, 0)))

    return run


@pytest.mark.slow
def test_the_middle_is_as_hot_as_in_cadavers_and_animals(heated: Callable[..., CementHeat]) -> None:
    # T25 and T26: pig, centre 68.1 and 77.3; T27: cadaver, 6 and 10 ml, centre 49 to 112 degC.
    assert 60 < heated(2.0).cement_peak_c < 85
    assert 49 <= heated(6.0).cement_peak_c <= 112
    assert 49 <= heated(10.0).cement_peak_c <= 112


def test_a_small_mass_warms_bone_as_in_the_goat(heated: Callable[..., CementHeat]) -> None:
    # T27: 0.8 ml, interface 44.6, epidural 37.0 degC.
    small = heated(0.8)
    assert small.interface_peak_c == pytest.approx(44.6, abs=3.0)
    assert small.structures_c["spinal_canal"] == pytest.approx(37.0, abs=0.5)


@pytest.mark.slow
def test_the_canal_stays_as_cool_as_measured(heated: Callable[..., CementHeat]) -> None:
    # T27: 25 vertebrae, canal at most 43.2; cadaver, 6 to 10 ml, canal 39 to 57 degC.
    assert 38.0 < heated(4.0).structures_c["spinal_canal"] <= 43.2
    assert 39.0 <= heated(8.0, 3.0).structures_c["spinal_canal"] <= 57.0


@pytest.mark.slow
def test_more_cement_and_nearer_cement_is_hotter(heated: Callable[..., CementHeat]) -> None:
    rows = [heated(ml) for ml in (0.8, 2.0, 4.0, 8.0)]
    for name in ("cement_peak_c", "interface_peak_c", "dead_bone_ml"):
        assert np.all(np.diff([getattr(r, name) for r in rows]) > 0), name
    canal = [heated(4.0, back).structures_c["spinal_canal"] for back in (0.0, 2.0, 4.0)]
    assert np.all(np.diff(canal) > 0)


def test_a_thick_mass_gets_as_hot_as_cement_that_keeps_its_heat(make_bone: Make) -> None:
    ct, anatomy, _ = make_bone("L3")
    hot = cement_heat(ct, anatomy, ball(anatomy, 13.0), start_c=37.0, injection_age_s=0.0)
    assert 95.0 < hot.cement_peak_c < 105.49  # F.3: 105.49 when no heat is lost


def test_a_canal_too_warm_is_a_stop(heated: Callable[..., CementHeat]) -> None:
    hot = heated(8.0, 5.0)
    assert "spinal_canal" in hot.over_limit
    first = hot.findings[0]
    assert first.gravity.value == "stop"
    assert hot.structures_cem43["spinal_canal"] > 1.0


def test_what_was_not_identified_is_never_safe(make_bone: Make) -> None:
    ct, anatomy, _ = make_bone("L3", without=("spinal_canal",))
    told = cement_heat(ct, anatomy, ball(anatomy, 8.0))
    assert set(told.unknown) >= {"spinal_canal", "nerve_root"}
    assert told.findings[0].gravity.value == "stop"
    assert "nobody knows how warm" in told.findings[0].message
    assert "spinal_canal" not in told.structures_c


def test_the_scale_of_the_voxels_does_not_matter(make_bone: Make) -> None:
    ct, anatomy, _ = make_bone("L3")
    fill = ball(anatomy, 8.0)
    fine, coarse = (cement_heat(ct, anatomy, fill, voxel_mm=v) for v in (0.8, 1.5))
    assert coarse.cement_peak_c == pytest.approx(fine.cement_peak_c, abs=1.5)
    assert coarse.structures_c["spinal_canal"] == pytest.approx(
        fine.structures_c["spinal_canal"], abs=0.5
    )


def test_blood_cools(make_bone: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from trocar.facts import thermal

    ct, anatomy, _ = make_bone("L3")
    fill = ball(anatomy, 8.0, (0, 5, 0))
    with_blood = cement_heat(ct, anatomy, fill)
    monkeypatch.setattr(thermal.TissueHeat, "perfusion_w_m3k", 0.0)
    without = cement_heat(ct, anatomy, fill)
    assert without.structures_c["spinal_canal"] > with_blood.structures_c["spinal_canal"]


def test_the_course_cools_down_again_and_progress_is_told(make_bone: Make) -> None:
    heard: list[float] = []
    ct, anatomy, _ = make_bone("L3")
    told = cement_heat(
        ct, anatomy, ball(anatomy, 5.8), progress=lambda _, share: heard.append(share)
    )
    assert heard[-1] == 1.0
    assert told.cement_mean_c[-1] < told.cement_mean_c.max() - 5
    assert told.time_s[-1] > told.time_s[int(told.cement_mean_c.argmax())]
    assert float(told.peak_c.values.max()) == pytest.approx(told.cement_peak_c, abs=0.01)


def test_what_cannot_be_is_refused(make_bone: Make) -> None:
    ct, anatomy, _ = make_bone("L3")
    empty = replace(ball(anatomy, 5.0))
    none = Volume(grid=anatomy.grid, values=np.zeros(anatomy.grid.shape, np.float32), unit="1")
    with pytest.raises(InputError, match="holds no cement"):
        cement_heat(ct, anatomy, replace(empty, fraction=none))
    with pytest.raises(InputError, match="voxels of 0 mm"):
        cement_heat(ct, anatomy, empty, voxel_mm=0)
    with pytest.raises(InputError, match="no set of kinetics 'B9'"):
        cement_heat(ct, anatomy, empty, kinetics_name="B9")


def test_the_lesion_counts_as_tumour(make_bone: Make) -> None:
    ct, anatomy, lesion = make_bone("L3", hollow_mm=12.0)
    fill = ball(anatomy, 8.0)
    plain = cement_heat(ct, anatomy, fill)
    tumour = cement_heat(ct, anatomy, fill, lesion=lesion.mask)
    assert isinstance(lesion.mask, Mask)
    assert tumour.interface_peak_c != plain.interface_peak_c
