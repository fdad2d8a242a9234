"""Gabriel's model against every value the reference prints, and what heat does to conductivity."""

from __future__ import annotations

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.facts import dielectric, thermal

# sigma at 460 kHz and 500 kHz, then (relative permittivity, sigma) at 915 MHz and 2.45 GHz, Np/m.
PRINTED = {
    "cortical_bone": ("0.0220", "0.0222", "12.44", "0.1451", "11.38", "0.3943", "21.8"),
    "cancellous_bone": ("0.0864", "0.0867", "20.76", "0.3435", "18.55", "0.8052", "34.8"),
    "red_marrow": ("0.1035", "0.1035", "11.26", "0.2298", "10.31", "0.4588", "26.6"),
    "yellow_marrow": ("0.0043", "0.0044", "5.50", "0.0411", "5.30", "0.0955", "7.8"),
    "muscle": ("0.4390", "0.4459", "55.00", "0.9481", "52.73", "1.7388", "44.8"),
    "fat": ("0.0437", "0.0438", "11.33", "0.1102", "10.82", "0.2680", "15.3"),
    "fat_pure": ("0.0248", "0.0248", "5.46", "0.0514", "5.28", "0.1045", "8.5"),
    "nerve": ("0.1090", "0.1109", "32.49", "0.5776", "30.15", "1.0886", "37.0"),
    "spinal_cord": ("0.1090", "0.1109", "32.49", "0.5776", "30.15", "1.0886", "37.0"),
    "csf": ("2.0000", "2.0000", "68.61", "2.4187", "66.24", "3.4578", "78.6"),
    "blood": ("0.7423", "0.7482", "61.31", "1.5445", "58.26", "2.5448", "62.0"),
    "dura": ("0.5025", "0.5026", "44.39", "0.9659", "42.04", "1.6687", "48.0"),
    "cartilage": ("0.1981", "0.2008", "42.60", "0.7892", "38.77", "1.7559", "52.4"),
    "skin_dry": ("0.0036", "0.0042", "41.33", "0.8715", "38.01", "1.4638", "44.3"),
    "skin_wet": ("0.172", "0.178", "46.02", "0.8498", "42.85", "1.5915", "45.4"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_model_gives_what_the_reference_prints(name: str) -> None:
    tissue = dielectric.tissue(name)
    computed = (
        tissue.conductivity(460e3),
        tissue.conductivity(500e3),
        tissue.permittivity(915e6),
        tissue.conductivity(915e6),
        tissue.permittivity(2.45e9),
        tissue.conductivity(2.45e9),
        tissue.attenuation_np_m(2.45e9),
    )
    for got, printed in zip(computed, PRINTED[name], strict=True):
        digits = len(printed.split(".")[1])
        assert got == pytest.approx(float(printed), abs=0.51 * 10.0**-digits)


def test_every_tissue_that_takes_heat_conducts() -> None:
    for name in thermal.tissues():
        row = dielectric.tissue(name)
        assert row.conductivity(500e3) > 0
        assert row.evidence in ("verified", "general knowledge", "placeholder")


def test_a_conductor_and_an_insulator_attenuate_as_theory_says() -> None:
    # Where conduction rules, the field falls by one Np in a skin depth, sqrt(2 / (omega mu sigma)).
    hz, csf = 1e5, dielectric.tissue("csf")
    omega = 2 * np.pi * hz
    skin = np.sqrt(2.0 / (omega * 4e-7 * np.pi * csf.conductivity(hz)))
    assert csf.attenuation_np_m(hz) == pytest.approx(1.0 / skin, rel=1e-3)
    assert dielectric.tissue("cement").attenuation_np_m(5e5) < 1e-6


def test_warm_tissue_conducts_better_until_it_boils() -> None:
    t = np.linspace(-40.0, 130.0, 500)
    share = dielectric.warmed(t)
    assert (share > 0).all()
    assert (np.diff(share[t <= 100]) >= 0).all()
    assert (np.diff(share[t >= 101]) <= 0).all()
    assert dielectric.warmed(105.0) == pytest.approx(2.1025e-3)
    assert dielectric.warmed(102.5) == pytest.approx(2.1025 * np.sqrt(1e-3))
    assert dielectric.warmed(47.0, slope_per_k=0.02) == pytest.approx(1.2)


def test_what_is_not_known_is_said() -> None:
    with pytest.raises(InputError, match="choose cortical_bone"):
        dielectric.tissue("flux")
    with pytest.raises(InputError, match="0 Hz"):
        dielectric.tissue("muscle").conductivity(0)
