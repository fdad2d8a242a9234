"""Lung is seen without labels; bowel gas is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from trocar.imaging.bone import read_anatomy
from trocar.imaging.lungs import find_lungs
from trocar.phantom import make


def test_both_lungs_beside_t10_are_found_on_their_sides() -> None:
    patient = make("vertebra_t10_plana")
    anatomy = read_anatomy(patient.ct, patient.site, labels=patient.labels)
    found = find_lungs(patient.ct.on(anatomy.grid), anatomy.body, anatomy.axes)
    for side in ("left", "right"):
        true = patient.labels.mask(f"lung_lower_lobe_{side}").on(anatomy.grid).values
        got = found[f"lung_{side}"].values
        dice = 2 * np.count_nonzero(true & got) / (true.sum() + got.sum())
        assert dice > 0.9, side


@pytest.mark.parametrize("name", ["vertebra_l3", "acetabulum"])
def test_gas_in_bowel_is_no_lung(name: str) -> None:
    patient = make(name)
    anatomy = read_anatomy(patient.ct, patient.site, labels=patient.labels)
    assert find_lungs(patient.ct.on(anatomy.grid), anatomy.body, anatomy.axes) == {}
