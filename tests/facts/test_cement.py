"""Cement as values: classes, windows, needles."""

from __future__ import annotations

import pytest

from trocar.errors import InputError
from trocar.facts import cement
from trocar.facts.products import needle
from trocar.kernels.flow import needle_pressure_per_consistency


def test_the_classes_stiffen_in_their_order_and_with_time() -> None:
    thin, middle, thick = (cement.cement(n) for n in ("low", "medium", "high"))
    at = [c.viscosity_pa_s(210.0, room_c=22.0) for c in (thin, middle, thick)]
    assert at == pytest.approx([50.0, 200.0, 800.0])
    assert thin.viscosity_pa_s(270.0, room_c=22.0) == pytest.approx(100.0)  # one doubling
    assert thin.viscosity_pa_s(1e5, room_c=22.0) == pytest.approx(1e5)  # the plateau
    assert thin.viscosity_pa_s(210.0, room_c=22.0, rate_per_s=4.0) == pytest.approx(25.0)


def test_a_warm_room_shortens_the_window() -> None:
    cool = cement.cement("medium").window_s(room_c=18.0)
    warm = cement.cement("medium").window_s(room_c=26.0)
    assert warm[1] - warm[0] < cool[1] - cool[0]
    first, last = cement.cement("low").window_s(room_c=22.0)
    assert first == pytest.approx(270.0)  # 50 to 100 Pa s: one doubling after 3.5 min
    assert cement.cement("low").viscosity_pa_s(last, room_c=22.0) == pytest.approx(2000.0)


@pytest.mark.parametrize(
    ("brand", "kind", "window"),
    [("Simplex P", "low", (225, 540)), ("confidence", "high", (120, 600))],
)
def test_a_brand_flows_as_its_class_and_has_its_own_window(
    brand: str, kind: str, window: tuple[float, float]
) -> None:
    named, plain = cement.cement(brand), cement.cement(kind)
    assert named.window_s(room_c=22.0) == window
    assert named.window_s(room_c=25.0)[1] < window[1]
    assert named.viscosity_pa_s(300, room_c=22) == plain.viscosity_pa_s(300, room_c=22)
    assert named.evidence == "placeholder"  # no constant of a brand could be verified
    assert "leaflet goes before" in named.source
    assert named.kinetics == "B1"


def test_what_is_not_a_cement_is_refused() -> None:
    with pytest.raises(InputError, match="low, medium, high"):
        cement.cement("chewing gum")
    with pytest.raises(InputError, match="B1, B2, L"):
        cement.kinetics("Z")
    row = cement.cement("low")
    with pytest.raises(InputError, match="exponent"):
        cement.BoneCement(**{**row.__dict__, "exponent": 1.5})


# clinical.md F.5.4: 100 mm, 0.05 ml/s, consistency 200; Newtonian and exponent 0.5, MPa. The
# printed values stem from bores with more digits than the table of needles prints.
@pytest.mark.parametrize(
    ("gauge", "newtonian_mpa", "thinning_mpa"),
    [
        (8, 0.295, 0.0927),
        (9, 0.505, 0.130),
        (10, 0.776, 0.170),
        (11, 1.253, 0.229),
        (12, 1.875, 0.295),
        (13, 3.855, 0.462),
        (14, 6.217, 0.623),
        (15, 11.50, 0.916),
    ],
)
def test_a_needle_costs_the_printed_pressure(
    gauge: int, newtonian_mpa: float, thinning_mpa: float
) -> None:
    radius_m = needle(gauge, 100.0).inner_mm / 2e3
    for exponent, printed in ((1.0, newtonian_mpa), (0.5, thinning_mpa)):
        pa = 200.0 * needle_pressure_per_consistency(5e-8, radius_m, 0.1, exponent)
        assert pa / 1e6 == pytest.approx(printed, rel=0.01)


# features_and_figures.md T36: flow through a needle as r^4 / L, relative to 13 G of 15 cm.
@pytest.mark.parametrize(
    ("radius_mm", "length_cm", "relative"),
    [(1.19, 10, 11.19), (1.19, 15, 7.46), (1.00, 10, 5.58), (1.00, 15, 3.72), (0.72, 10, 1.50),
     (0.72, 15, 1.00), (0.41, 9, 0.18)],
)  # fmt: skip
def test_flow_through_a_needle_goes_as_the_fourth_power_of_its_bore(
    radius_mm: float, length_cm: float, relative: float
) -> None:
    def ease(r: float, length: float) -> float:
        return 1.0 / needle_pressure_per_consistency(1e-8, r / 1e3, length / 100, 1.0)

    assert ease(radius_mm, length_cm) / ease(0.72, 15.0) == pytest.approx(relative, abs=0.005)


def test_doubling_the_proximal_bore_saves_what_was_printed() -> None:
    # T40: a share f of the pressure falls in the proximal part; 1 - f + f/16 = 0.37.
    whole = needle_pressure_per_consistency(1e-8, 1e-3, 0.1, 1.0)
    f = 0.672
    wide = needle_pressure_per_consistency(1e-8, 2e-3, 0.1 * f, 1.0)
    rest = needle_pressure_per_consistency(1e-8, 1e-3, 0.1 * (1 - f), 1.0)
    assert (wide + rest) / whole == pytest.approx(0.37, abs=0.001)
