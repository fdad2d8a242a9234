"""Tissue and heat: the products the reference prints, every structure a tissue and a limit."""

from __future__ import annotations

import pytest

from trocar.errors import InputError
from trocar.facts import limits, source, thermal


# clinical.md E.2: omega (1/s), W (W/m3K) and decay length (mm).
@pytest.mark.parametrize(
    ("name", "omega", "w", "decay_mm"),
    [
        ("cancellous_bone", 5.890e-4, 2237.0, 11.77),
        ("red_marrow", 2.315e-3, 8793.0, 5.64),
        ("muscle", 6.722e-4, 2553.0, 13.85),
        ("spinal_cord", 2.867e-3, 10_887.0, 6.84),
    ],
)
def test_blood_carries_off_what_is_printed(
    name: str, omega: float, w: float, decay_mm: float
) -> None:
    tissue = thermal.tissue(name)
    assert tissue.omega_per_s == pytest.approx(omega, rel=3e-4)
    assert tissue.perfusion_w_m3k == pytest.approx(w, rel=3e-4)
    length = (tissue.conductivity_w_mk / tissue.perfusion_w_m3k) ** 0.5
    assert 1e3 * length == pytest.approx(decay_mm, abs=0.01)


def test_spongy_bone_warms_by_the_printed_degrees() -> None:
    # E.9.6: 1e6 W/m3 for 60 s without loss.
    assert 6e7 / thermal.tissue("cancellous_bone").capacity_j_m3k == pytest.approx(22.40, abs=0.005)


def test_every_structure_named_anywhere_has_a_tissue_and_a_limit() -> None:
    rows = source.load("thermal").data["structure_tissue"]
    for name in (*source.load("limits").data["kinds"], *rows):
        found = thermal.tissue_of(name)
        assert found == thermal.BONE or found in thermal.tissues()
        limit = thermal.limit(name)
        assert (limit is None) == (limits.kind(name) in ("other_bone", "metal"))


@pytest.mark.parametrize(
    ("structure", "tissue"),
    [("spinal_canal", "csf"), ("spinal_cord", "spinal_cord"), ("nerve_root_left", "nerve"),
     ("foramen_right", "fat"), ("lung_upper_lobe_left", "lung"), ("aorta", "blood"),
     ("disc_L3_L4", "cartilage"), ("hip_joint_left", "cartilage"), ("other_bone", "bone"),
     ("kidney_left", "muscle")],
)  # fmt: skip
def test_structures_are_the_tissue_one_expects(structure: str, tissue: str) -> None:
    assert thermal.tissue_of(structure) == tissue


def test_what_is_unknown_bears_least() -> None:
    canal, odd = thermal.limit("spinal_canal"), thermal.limit("something_new")
    assert canal is not None
    assert odd is not None
    assert (odd.warn_c, odd.harm_c, odd.harm_cem43) == (41.0, 45.0, 10.0)
    assert canal.harm_c == odd.harm_c
    for row in source.load("thermal").data["limits"].values():
        assert canal.warn_c <= row["warn_c"] < row["harm_c"]
        assert canal.warn_cem43 <= row["warn_cem43"] < row["harm_cem43"]
        assert row["evidence"] in ("verified", "general knowledge", "placeholder")
    assert thermal.limit("metal") is None


@pytest.mark.parametrize(
    ("peak", "dose", "warned", "harmed"),
    [(40.9, 1.9, False, False), (41.0, 0.0, True, False), (38.0, 2.0, True, False),
     (45.0, 0.0, True, True), (38.0, 10.0, True, True), (float("nan"), 0.0, True, True),
     (37.0, float("nan"), True, True)],
)  # fmt: skip
def test_a_limit_is_passed_by_peak_or_by_dose_and_by_what_is_not_known(
    peak: float, dose: float, warned: bool, harmed: bool
) -> None:
    canal = thermal.limit("spinal_canal")
    assert canal is not None
    assert canal.warned(peak, dose) is warned
    assert canal.harmed(peak, dose) is harmed


def test_a_tissue_nobody_knows_is_refused() -> None:
    with pytest.raises(InputError, match="cancellous_bone"):
        thermal.tissue("cheese")
