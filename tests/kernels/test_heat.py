"""Heat against closed forms, conserved energy, printed doses and plain Euler steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import erf, erfc

from trocar.errors import InputError
from trocar.kernels import cure, dose, heat, heat_loops

Float = NDArray[np.float64]

# Cancellous bone of the reference (clinical.md E.2, E.9).
RC, K, W = 1178.0 * 2274.0, 0.31, 2237.0
ALPHA, DECAY_M = K / RC, float(np.sqrt(K / W))
CEM = dose.Cem43(above=0.5, below=0.25, from_c=39.0)
BONE = dose.Arrhenius(a_per_s=1e98, ea_j_mol=7.5e4 * 8.314462618)


def bone(shape: tuple[int, int, int], h_mm: float, perfusion: Any = W, **more: Any) -> heat.Tissue:
    given = {"heat_capacity_j_m3k": RC, "conductivity_w_mk": K, "blood_c": 37.0} | more
    return heat.Tissue(shape=shape, spacing_m=(h_mm / 1e3,) * 3, perfusion_w_m3k=perfusion, **given)


def octant(h_mm: float, reach_mm: float) -> Float:
    """Distance (m) of the voxels of one eighth of a ball; its three inner faces are mirrors."""
    x = (np.arange(round(reach_mm / h_mm)) + 0.5) * h_mm / 1e3
    out: Float = np.sqrt(x[:, None, None] ** 2 + x[:, None] ** 2 + x**2)
    return out


def rim(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The outermost voxels away from the three mirrors."""
    out = np.zeros(shape, bool)
    out[-1], out[:, -1], out[:, :, -1] = True, True, True
    return out


# --- 1. ball held at 90 degC in perfused bone, steady ---------------------------------------------


def ball(r_m: Any, a_m: float = 5e-3) -> Any:
    return 37.0 + 53.0 * a_m / r_m * np.exp(-(r_m - a_m) / DECAY_M)


def steady_ball(h_mm: float) -> tuple[Float, Float, NDArray[np.bool_]]:
    r = octant(h_mm, 25.0)
    here = bone(r.shape, h_mm)
    body = heat.Bioheat(here, start_c=ball(np.maximum(r, 4e-3)), tolerance_k=1e-3)
    held = (r <= 5e-3) | rim(r.shape)
    body.fix(held, ball(r))
    body.advance(6000.0)
    return r, body.temperature_c, ~held


def test_a_hot_ball_in_perfused_bone_has_the_closed_profile() -> None:
    printed = {7.5: 65.573, 10.0: 54.330, 15.0: 44.555, 20.0: 40.705, 11.618: 50.0, 14.625: 45.0}
    for r_mm, celsius in printed.items():
        assert ball(r_mm / 1e3) == pytest.approx(celsius, abs=6e-4)
    errors = []
    for h_mm in (1.25, 0.625):
        r, now, free = steady_ball(h_mm)
        errors.append(float(np.abs(now - ball(r))[free].max()))
    assert errors[1] < 0.16
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.35)  # second order


def test_a_hot_ball_gives_off_the_closed_power() -> None:
    # Heat that crosses a cube around the ball = 4 pi a k dT (1 + a / L) less what blood took on
    # the way: power at radius R is that of the closed profile, so compare within the cube.
    r, now, free = steady_ball(0.625)
    carried = 8 * W * (now - 37.0)[free & (r > 5e-3)].sum() * (0.625e-3) ** 3
    n = round(25.0 / 0.625) - 1
    out = 8 * 3 * K * (now[n - 1, :n, :n] - now[n, :n, :n]).sum() * 0.625e-3
    assert carried + out == pytest.approx(1.471, rel=0.01)


def test_a_ball_of_voxels_is_near_the_closed_profile() -> None:
    # As a probe is drawn: every voxel whose centre lies in the ball is held. The outermost centres
    # lie a little inside the surface, which costs 4 % of the rise at 0.5 mm.
    r = octant(0.5, 40.0)
    body = heat.Bioheat(bone(r.shape, 0.5), start_c=37.0, tolerance_k=0.05)
    body.fix((r <= 5e-3) | rim(r.shape), np.where(r <= 5e-3, 90.0, 37.0))
    body.advance(6000.0)
    far = (r > 7e-3) & (r < 15e-3)
    rise = (body.temperature_c - 37.0)[far] / (ball(r[far]) - 37.0)
    assert rise.mean() == pytest.approx(0.96, abs=0.02)


# --- 2. the same ball without blood, in time ------------------------------------------------------


def ball_at(r_m: Any, t_s: float, a_m: float = 5e-3) -> Any:
    return 37.0 + 53.0 * a_m / r_m * erfc((r_m - a_m) / (2.0 * np.sqrt(ALPHA * t_s)))


def heated_ball(h_mm: float, seconds: float) -> float:
    r = octant(h_mm, 25.0)
    body = heat.Bioheat(bone(r.shape, h_mm, 0.0), start_c=37.0, tolerance_k=2e-3)
    # Inside the ball the closed form is continued, so that no step of its surface spoils the order.
    held = ((r <= 5e-3) & (r > 1e-3)) | rim(r.shape)
    chunk = 0.5
    for i in range(round(seconds / chunk)):
        body.fix(held, np.where(r > 1e-3, ball_at(r, (i + 0.5) * chunk), 37.0))
        body.advance(chunk)
    far = (r > 6e-3) & ~rim(r.shape)
    return float(np.abs(body.temperature_c - ball_at(r, seconds))[far].max())


def test_a_heated_ball_warms_bone_as_the_closed_form_does() -> None:
    printed = {60.0: (54.748, 41.762, 37.129), 300.0: (64.000, 51.535, 41.065)}
    for t, row in printed.items():
        assert ball_at(np.array([7.5e-3, 10e-3, 15e-3]), t) == pytest.approx(row, abs=6e-4)
    coarse, fine = heated_ball(1.25, 60.0), heated_ball(0.625, 60.0)
    assert fine < 0.15
    assert np.log2(coarse / fine) > 1.6


# --- 3. point source ------------------------------------------------------------------------------


def point(r: Any, t: float, watt: float = 2.0, w: float = 0.0) -> Any:
    x = r / (2.0 * np.sqrt(ALPHA * t))
    if w == 0.0:
        return watt / (4.0 * np.pi * K * r) * erfc(x)
    y, decay = np.sqrt(w / RC * t), np.sqrt(K / w)
    both = np.exp(-r / decay) * erfc(x - y) + np.exp(r / decay) * erfc(x + y)
    return watt / (8.0 * np.pi * K * r) * both


@pytest.mark.parametrize(("w", "printed"), [(0.0, (56.318, 11.814)), (W, (51.444, 10.220))])
def test_a_point_source_warms_bone_as_the_closed_form_does(
    w: float, printed: tuple[float, float]
) -> None:
    assert point(np.array([5e-3, 1e-2]), 300.0, w=w) == pytest.approx(printed, abs=2e-3)
    errors = []
    for h_mm in (1.0, 0.5):
        r = octant(h_mm, 30.0)
        body = heat.Bioheat(bone(r.shape, h_mm, w), start_c=37.0)
        source = np.zeros(r.shape)
        source[0, 0, 0] = 2.0 / 8.0 / (h_mm / 1e3) ** 3
        body.advance(300.0, source_w_m3=source)
        near = (r > 5e-3) & (r < 12e-3)
        known = point(r[near], 300.0, w=w)
        errors.append(float(np.abs((body.temperature_c[near] - 37.0) / known - 1.0).max()))
    assert errors[1] < 0.005
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.35)


# --- 4. freezing ----------------------------------------------------------------------------------


def stefan(initial_c: float) -> tuple[float, Any]:
    """lambda of the two-phase (Neumann) problem and the frozen profile, -140 degC at the wall."""
    rho, latent, ks, cs, kl, cl = 1000.0, 250e3, 1.76, 1800.0, 0.5, 3600.0
    a_s, a_l = ks / rho / cs, kl / rho / cl
    nu = np.sqrt(a_s / a_l)

    def balance(lam: float) -> float:
        cold = np.exp(-(lam**2)) / erf(lam)
        warm = kl / ks * nu * initial_c / 140.0 * np.exp(-((nu * lam) ** 2)) / erfc(nu * lam)
        return float(cold - warm - lam * latent * np.sqrt(np.pi) / (cs * 140.0))

    lam = float(brentq(balance, 0.05, 2.0))
    return lam, lambda x, t: -140.0 + 140.0 * erf(x / (2 * np.sqrt(a_s * t))) / erf(lam)


@pytest.mark.parametrize(
    ("initial_c", "lam", "front_mm"), [(37.0, 0.507911, 24.604), (0.0, 0.622011, 30.132)]
)
def test_ice_grows_as_neumann_says(initial_c: float, lam: float, front_mm: float) -> None:
    assert stefan(initial_c)[0] == pytest.approx(lam, abs=2e-6)
    errors = []
    for h_mm in (1.0, 0.5):
        n = round(150.0 / h_mm)
        ice = heat.Change(
            from_c=-0.2,
            to_c=0.0,
            latent_j_m3=250e6,
            frozen_capacity_j_m3k=1.8e6,
            frozen_conductivity_w_mk=1.76,
        )
        tissue = bone(
            (1, 1, n), h_mm, 0.0, heat_capacity_j_m3k=3.6e6, conductivity_w_mk=0.5, blood_c=37.0
        )
        body = heat.Bioheat(tissue, start_c=initial_c, freezing=ice, tolerance_k=0.05)
        wall = np.zeros((1, 1, n), bool)
        wall[..., 0] = True
        body.fix(wall, -140.0)
        body.advance(600.0)
        now = body.temperature_c.ravel()
        depth_mm = np.arange(n) * h_mm  # the wall is the centre of the first voxel
        frozen = np.clip(-now / 0.2, 0.0, 1.0)
        front = (frozen.sum() - 0.5) * h_mm  # half of the first voxel lies behind the wall
        errors.append(abs(front - front_mm))
        if h_mm == 0.5 and initial_c == 37.0:
            for celsius, x_mm in ((-20.0, 20.582), (-40.0, 16.826)):
                assert np.interp(celsius, now, depth_mm) == pytest.approx(x_mm, abs=0.25)
    assert errors[1] < 0.2


def test_melting_gives_back_what_freezing_took() -> None:
    ice = heat.Change(
        from_c=-8.0, to_c=-1.0, latent_j_m3=250e6, frozen_capacity_j_m3k=1.9e6,
        frozen_conductivity_w_mk=1.9,
    )  # fmt: skip
    steam = heat.Change(from_c=99.0, to_c=100.0, latent_j_m3=3e9)
    shape = (6, 6, 6)
    body = heat.Bioheat(
        bone(shape, 1.0, W), start_c=37.0, freezing=ice, boiling=steam, shut_at_cem43=240.0,
        cem43=CEM,
    )  # fmt: skip
    body.shut_perfusion(np.ones(shape, bool))
    source = np.random.default_rng(3).normal(size=shape) * 1e6
    for sign in (-1.0, 1.0, 1.0, -1.0):
        body.advance(200.0, source_w_m3=sign * (6e6 + source))
    assert body.heat_j == pytest.approx(0.0, abs=1e-6 * 6e6 * 200 * 216e-9)
    assert body.lowest_c.min() < -150.0
    assert 99.0 < body.peak_c.max() < 100.0  # boiling holds it


def test_latent_heat_delays_the_warming_by_its_share() -> None:
    steam = heat.Change(from_c=99.0, to_c=100.0, latent_j_m3=0.3 * 1178.0 * 2.26e6)
    body = heat.Bioheat(bone((2, 2, 2), 1.0, 0.0), start_c=37.0, boiling=steam)
    to_boil = (99.0 - 37.0) * RC / 1e7
    seething = (0.3 * 1178.0 * 2.26e6 + RC) / 1e7
    body.advance(to_boil, source_w_m3=1e7)
    assert body.temperature_c.max() == pytest.approx(99.0, abs=1e-6)
    body.advance(seething, source_w_m3=1e7)
    assert body.temperature_c.max() == pytest.approx(100.0, abs=1e-6)
    body.advance(RC / 1e7, source_w_m3=1e7)
    assert body.temperature_c.max() == pytest.approx(101.0, abs=1e-6)


def test_frozen_tissue_has_no_blood_until_it_thaws() -> None:
    ice = heat.Change(from_c=-8.0, to_c=-1.0, latent_j_m3=1e8)
    body = heat.Bioheat(bone((2, 2, 2), 1.0, W), start_c=-10.0, freezing=ice)
    body.advance(100.0)
    assert body.temperature_c.max() == pytest.approx(-10.0, abs=1e-9)
    body = heat.Bioheat(bone((2, 2, 2), 1.0, W), start_c=5.0, freezing=ice)
    body.advance(RC / W)
    assert body.temperature_c.max() == pytest.approx(37.0 - 32.0 / np.e, abs=0.02)


# --- 5, 6. slab, adiabatic, closed box ------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_wave_in_an_insulated_slab_dies_away_in_time(axis: int) -> None:
    errors = []
    for n in (16, 32, 64):
        shape = tuple(n if a == axis else 1 for a in range(3))
        x = (np.arange(n) + 0.5) / n
        wave = np.cos(np.pi * x).reshape(shape)
        start = 37.0 + 10.0 * wave
        body = heat.Bioheat(
            bone(shape, 32.0 / n, 0.0), start_c=start, tolerance_k=1e-5, dtype=np.float64
        )
        body.advance(600.0)
        left = 10.0 * np.exp(-ALPHA * (np.pi / 0.032) ** 2 * 600.0)
        errors.append(float(np.abs(body.temperature_c - 37.0 - left * wave).max()))
    assert errors[2] < 1e-3
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.1)


def test_a_slab_between_two_temperatures_is_straight_and_layers_share_the_fall() -> None:
    # Two layers in series: the flux is that of their resistances.
    k = np.where(np.arange(20) < 10, 0.2, 0.6).reshape(1, 1, 20)
    tissue = bone((1, 1, 20), 1.0, 0.0, conductivity_w_mk=k)
    body = heat.Bioheat(tissue, start_c=37.0, dtype=np.float64)
    ends = np.zeros((1, 1, 20), bool)
    ends[..., [0, -1]] = True
    body.fix(ends, np.linspace(60.0, 37.0, 20))
    body.advance(3e4)
    flux = 23.0 / (9.5e-3 / 0.2 + 9.5e-3 / 0.6)
    now = body.temperature_c.ravel()
    assert now[9] - now[10] == pytest.approx(flux * (0.5e-3 / 0.2 + 0.5e-3 / 0.6), rel=1e-3)
    assert now[0] - now[5] == pytest.approx(flux * 5e-3 / 0.2, rel=1e-3)


def test_an_edge_is_held_at_the_outer_faces_of_the_grid() -> None:
    # One voxel between six faces at 37: it cools with 12 k / h^2.
    body = heat.Bioheat(bone((1, 1, 1), 2.0, 0.0), start_c=47.0, edge_c=37.0, tolerance_k=1e-4)
    t = RC * (2e-3) ** 2 / 12.0 / K
    body.advance(t)
    assert body.temperature_c[0, 0, 0] == pytest.approx(37.0 + 10.0 / np.e, abs=2e-3)
    # Elsewhere than at the blood's temperature, too.
    cold = heat.Bioheat(bone((1, 1, 1), 2.0, 0.0), start_c=37.0, edge_c=20.0)
    cold.advance(100.0 * t)
    assert cold.temperature_c[0, 0, 0] == pytest.approx(20.0, abs=1e-3)


def test_heat_that_cannot_leave_warms_by_the_printed_degrees() -> None:
    body = heat.Bioheat(bone((3, 3, 3), 1.0, 0.0), start_c=37.0)
    body.advance(60.0, source_w_m3=1e6)
    assert body.temperature_c == pytest.approx(np.full((3, 3, 3), 37.0 + 22.40), abs=0.005)


@pytest.mark.parametrize("method", ["rkl2", "euler"])
def test_a_closed_box_keeps_its_heat(method: heat.Method) -> None:
    rng = np.random.default_rng(7)
    shape = (20, 24, 22)
    tissue = bone(
        shape, 1.0, 0.0, heat_capacity_j_m3k=rng.uniform(1e6, 4e6, shape),
        conductivity_w_mk=rng.uniform(0.1, 2.0, shape),
    )  # fmt: skip
    body = heat.Bioheat(tissue, start_c=37.0, method=method)
    source = np.zeros(shape)
    source[5:9, 5:9, 5:9] = 2e6
    body.advance(60.0, source_w_m3=source)
    body.advance(240.0)
    assert body.heat_j == pytest.approx(2e6 * 64e-9 * 60.0, rel=1e-6)


# --- dose -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("celsius", "minutes", "printed"),
    [(42, 60, 15.0), (43, 30, 30.0), (44, 30, 60.0), (45, 10, 40.0), (50, 1, 128.0),
     (55, 0.1, 409.6), (60, 1 / 60, 2184.5), (45, 60, 240.0), (48, 7.5, 240.0),
     (50, 1.875, 240.0), (47, 1, 16.0), (38.9, 100, 0.0)],
)  # fmt: skip
def test_equivalent_minutes_are_those_printed(
    celsius: float, minutes: float, printed: float
) -> None:
    assert dose.cem43_minutes(celsius, minutes, CEM) == pytest.approx(printed, rel=1e-4)
    body = heat.Bioheat(bone((2, 2, 2), 1.0, 0.0), start_c=celsius, cem43=CEM)
    body.advance(60.0 * minutes)
    assert body.cem43_min == pytest.approx(np.full((2, 2, 2), printed), rel=1e-4)


@pytest.mark.parametrize(
    ("a", "ea", "printed"),
    [
        (3.1e98, 6.28e5, (184_300, 41_040, 1042, 29.6, 0.935)),
        (7.39e39, 2.577e5, (510, 276, 61.1, 14.2, 3.43)),
        (2.984e80, 5.064e5, (1554, 463, 23.9, 1.36, 0.084)),
        (2.185e124, 7.82e5, (72_590, 11_190, 115, 1.37, 0.019)),
        (1e98, 7.5e4 * 8.314462618, (106_500, 23_970, 625, 18.2, 0.589)),
    ],
)
def test_damage_takes_the_printed_times(a: float, ea: float, printed: tuple[float, ...]) -> None:
    rule = dose.Arrhenius(a_per_s=a, ea_j_mol=ea)
    for celsius, seconds in zip((43.0, 45.0, 50.0, 55.0, 60.0), printed, strict=True):
        # The constants are printed to four digits, the times to two or three.
        assert dose.arrhenius_omega(celsius, seconds, rule) == pytest.approx(1.0, rel=0.05)
        body = heat.Bioheat(bone((1, 1, 1), 1.0, 0.0), start_c=celsius, arrhenius=rule)
        body.advance(seconds)
        assert body.omega[0, 0, 0] == pytest.approx(
            dose.arrhenius_omega(celsius, seconds, rule), rel=2e-4
        )


def test_dose_of_a_ramp_is_its_integral_even_in_long_steps() -> None:
    rate = 0.2  # K/s
    body = heat.Bioheat(
        bone((1, 1, 1), 1.0, 0.0), start_c=37.0, cem43=CEM, arrhenius=BONE, dtype=np.float64,
        longest_s=20.0,
    )  # fmt: skip
    body.advance(100.0, source_w_m3=rate * RC)
    assert body.steps < 60
    t = np.linspace(0.0, 100.0, 2_000_001)
    c = 37.0 + rate * t
    cem = np.where(c < 39.0, 0.0, np.where(c < 43.0, 0.25, 0.5) ** (43.0 - c))
    assert body.cem43_min[0, 0, 0] == pytest.approx(np.trapezoid(cem, t) / 60.0, rel=1e-5)
    omega = np.exp(np.log(1e98) - 7.5e4 / (c + 273.15))
    assert body.omega[0, 0, 0] == pytest.approx(np.trapezoid(omega, t), rel=0.02)
    assert body.peak_c[0, 0, 0] == pytest.approx(57.0, abs=1e-4)
    assert body.lowest_c[0, 0, 0] == 37.0


@pytest.mark.parametrize(
    "limits",
    [{"cem43": CEM, "shut_at_cem43": 240.0}, {"arrhenius": BONE, "shut_at_omega": 1.0}],
)
def test_blood_stops_where_tissue_has_died(limits: dict[str, Any]) -> None:
    body = heat.Bioheat(bone((1, 1, 2), 1.0, W), start_c=[[[37.0, 60.0]]], **limits)
    body.advance(30.0)
    dead = heat.Bioheat(bone((1, 1, 2), 1.0, [[[W, 0.0]]]), start_c=body.temperature_c)
    body.advance(300.0)
    dead.advance(300.0)
    assert body.temperature_c == pytest.approx(dead.temperature_c, abs=0.02)
    assert dead.temperature_c.max() > 38.0


# --- setting cement -------------------------------------------------------------------------------

B1 = cure.Kinetics(
    k0_per_s=1.2088e4, activation_j_mol=33_240.0, m=0.98, n=1.14, heat_j_kg=1e5, glass_k=378.0,
    start=1e-6,
)  # fmt: skip


def set_alone(start_c: float, step_s: float) -> tuple[float, float]:
    """Share and temperature at the end, of cement that keeps its heat (c 1460, rho 1180)."""
    shape = (2, 2, 2)
    tissue = bone(shape, 1.0, 0.0, heat_capacity_j_m3k=1180.0 * 1460.0, conductivity_w_mk=0.2)
    body = heat.Bioheat(tissue, start_c=start_c, dtype=np.float64)
    curing = cure.Curing(B1, np.full(8, start_c), B1.start)
    for _ in range(round(2400.0 / step_s)):
        gained = curing.advance(body.temperature_c.ravel(), step_s)
        source = 1180.0 * B1.heat_j_kg * gained.reshape(shape) / step_s
        body.advance(step_s, source_w_m3=source)
    return float(curing.share.max()), float(body.temperature_c.max())


@pytest.mark.parametrize(("start_c", "end", "hottest"), [(37.0, 1.0, 105.49), (23.0, 0.957, 88.54)])
def test_cement_that_keeps_its_heat_gets_as_hot_as_printed(
    start_c: float, end: float, hottest: float
) -> None:
    share, celsius = set_alone(start_c, 1.0)
    assert share == pytest.approx(end, abs=0.003)
    assert celsius == pytest.approx(hottest, abs=0.3)


def test_places_at_one_temperature_set_as_one_mass_does() -> None:
    warmth = np.array([23.0, 30.0, 37.0, 60.0])
    curing = cure.Curing(B1, warmth, B1.start)
    for _ in range(600):
        curing.advance(warmth, 1.0)
    for celsius, share in zip(warmth, curing.share, strict=True):
        alone = cure.cure(B1, start_k=celsius + 273.15, seconds=600.0)
        assert share == pytest.approx(alone.end, abs=1e-4)


# --- the scheme -----------------------------------------------------------------------------------


def patchy(seed: int, shape: tuple[int, int, int]) -> tuple[heat.Tissue, Float, Float]:
    rng = np.random.default_rng(seed)
    tissue = heat.Tissue(
        shape=shape,
        spacing_m=(1e-3, 0.8e-3, 1.3e-3),
        heat_capacity_j_m3k=rng.uniform(1e6, 4e6, shape),
        conductivity_w_mk=rng.uniform(0.1, 1.0, shape),
        perfusion_w_m3k=rng.uniform(0.0, 2e4, shape),
        blood_c=37.0,
    )
    return tissue, rng.uniform(30.0, 60.0, shape), rng.uniform(0.0, 1e6, shape)


def test_legendre_steps_give_what_small_euler_steps_give() -> None:
    tissue, start, source = patchy(1, (20, 18, 22))
    slow = heat.Bioheat(
        tissue, start_c=start, edge_c=37.0, method="euler", longest_s=0.01, dtype=np.float64
    )
    slow.advance(30.0, source_w_m3=source)
    errors = []
    for tolerance in (0.1, 0.01, 0.001):
        fast = heat.Bioheat(
            tissue, start_c=start, edge_c=37.0, tolerance_k=tolerance, dtype=np.float64
        )
        fast.advance(30.0, source_w_m3=source)
        errors.append(float(np.abs(fast.temperature_c - slow.temperature_c).max()))
        assert fast.stages < slow.stages / 5
    assert errors[1] < 0.02
    assert errors[2] < 0.005
    single = heat.Bioheat(tissue, start_c=start, edge_c=37.0, tolerance_k=0.001)
    single.advance(30.0, source_w_m3=source)
    assert np.abs(single.temperature_c - slow.temperature_c).max() < 0.005


@pytest.mark.parametrize("shape", [(9, 11, 14), (40, 97, 21), (3, 200, 60)])
@pytest.mark.parametrize("edge_c", [None, 30.0])
def test_explicit_steps_taken_together_are_those_taken_one_by_one(
    shape: tuple[int, int, int], edge_c: float | None
) -> None:
    rng = np.random.default_rng(7)
    here = bone(
        shape, 1.0, W * rng.random(shape), conductivity_w_mk=K * (0.3 + rng.random(shape)),
        heat_capacity_j_m3k=RC * (0.5 + rng.random(shape)),
    )  # fmt: skip
    source = 1e6 * rng.random(shape)
    start = 37.0 + 20.0 * rng.random(shape)
    how: dict[str, Any] = {
        "start_c": start, "edge_c": edge_c, "cem43": CEM, "arrhenius": BONE, "method": "euler",
    }  # fmt: skip
    once, apart, alone = (heat.Bioheat(here, **how) for _ in range(3))
    # Doses never reach this, but may: so each step of the last body stands alone.
    alone = heat.Bioheat(here, **how, shut_at_cem43=1e30)
    held = rng.random(shape) < 0.02
    for body in (once, apart, alone):
        body.fix(held, 60.0)
    step = 0.5 * once.explicit_s
    once._longest = alone._longest = step * (1 + 1e-12)
    once.advance(17 * step, source_w_m3=source)
    alone.advance(17 * step, source_w_m3=source)
    for _ in range(17):
        apart.advance(step, source_w_m3=source)
    assert once.steps == apart.steps == alone.steps == 17
    for other in (apart, alone):
        assert np.array_equal(once.temperature_c, other.temperature_c)
        assert np.array_equal(once.peak_c, other.peak_c)
        assert np.array_equal(once.lowest_c, other.lowest_c)
        assert once.cem43_min == pytest.approx(other.cem43_min, rel=1e-12)
        assert once.omega == pytest.approx(other.omega, rel=1e-12)
    assert once.cem43_min.max() > 0
    assert np.all(once.temperature_c[held] == 60.0)


@pytest.mark.parametrize("shape", [(9, 11, 14), (30, 97, 21)])
def test_legendre_stages_are_the_same_however_many_go_together(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    here = bone(shape, 1.0, W * rng.random(shape), conductivity_w_mk=K * (0.3 + rng.random(shape)))
    start, source = 37.0 + 20.0 * rng.random(shape), 1e6 * rng.random(shape)
    answers = []
    for together, strip in ((2, 64), (3, 10), (8, 30), (100, 64)):
        monkeypatch.setattr(heat, "_TOGETHER", together)
        monkeypatch.setattr(heat_loops, "_STRIP", strip)
        body = heat.Bioheat(here, start_c=start, edge_c=30.0, tolerance_k=100.0)
        body.advance(200.0, source_w_m3=source)
        assert body.stages > 5 * body.steps  # so that there is something to split
        answers.append(body.temperature_c)
    for other in answers[1:]:
        assert np.array_equal(other, answers[0])


def test_steps_of_second_order_in_time() -> None:
    # One smooth wave, steps of equal length: half the step, a quarter of the error.
    n = 32
    wave = np.cos(np.pi * (np.arange(n) + 0.5) / n).reshape(1, 1, n)
    h = 1e-3
    decay = ALPHA / h**2 * 4.0 * np.sin(np.pi / (2 * n)) ** 2  # of the lattice itself, exact
    errors = []
    for step in (150.0, 75.0, 37.5):
        body = heat.Bioheat(
            bone((1, 1, n), 1.0, 0.0), start_c=37.0 + 10.0 * wave, tolerance_k=1e9, longest_s=step,
            dtype=np.float64,
        )  # fmt: skip
        body._next_s = step
        body.advance(1200.0)
        left = 10.0 * np.exp(-decay * 1200.0) * wave
        errors.append(float(np.abs(body.temperature_c - 37.0 - left).max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.25)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.25)


@pytest.mark.parametrize("freezing", [False, True])
@pytest.mark.parametrize("shape", [(9, 8, 7), (33, 32, 31)])
def test_a_mirrored_problem_has_the_mirrored_answer(
    shape: tuple[int, int, int], freezing: bool
) -> None:
    tissue, start, source = patchy(2, shape)
    change = heat.Change(from_c=31.0, to_c=33.0, latent_j_m3=1e8) if freezing else None
    answers = []
    for cut in ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)):
        turn = tuple(slice(None, None, c) for c in cut)
        arrays = ("heat_capacity_j_m3k", "conductivity_w_mk", "perfusion_w_m3k")
        turned = heat.Tissue(
            shape=shape, spacing_m=tissue.spacing_m, blood_c=37.0,
            **{a: np.asarray(getattr(tissue, a))[turn] for a in arrays},
        )  # fmt: skip
        body = heat.Bioheat(turned, start_c=start[turn], edge_c=37.0, freezing=change, cem43=CEM)
        body.advance(5.0, source_w_m3=source[turn])
        answers.append((body.temperature_c[turn], body.cem43_min[turn]))
    for now, minutes in answers[1:]:
        assert np.array_equal(now, answers[0][0])
        assert np.array_equal(minutes, answers[0][1])


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    tolerance=st.sampled_from([0.5, 0.05, 0.005]),
    seconds=st.floats(0.5, 400.0),
)
def test_without_a_source_nothing_gets_warmer_than_it_was(
    seed: int, tolerance: float, seconds: float
) -> None:
    tissue, start, _ = patchy(seed, (5, 6, 4))
    body = heat.Bioheat(tissue, start_c=start, edge_c=37.0, tolerance_k=tolerance)
    body.advance(seconds)
    assert body.temperature_c.max() <= start.max() + tolerance
    assert body.temperature_c.min() >= start.min() - tolerance
    assert np.all(body.peak_c >= start.astype(np.float32))
    assert np.all(body.lowest_c <= start.astype(np.float32))


def test_many_short_advances_are_one_long_one() -> None:
    tissue, start, source = patchy(4, (12, 12, 12))
    one = heat.Bioheat(tissue, start_c=start, cem43=CEM, dtype=np.float64)
    many = heat.Bioheat(tissue, start_c=start, cem43=CEM, dtype=np.float64)
    one.advance(60.0, source_w_m3=source)
    for _ in range(24):
        many.advance(2.5, source_w_m3=source)
    assert one.time_s == many.time_s == 60.0
    assert np.abs(one.temperature_c - many.temperature_c).max() < 0.02


def test_freed_voxels_cool_and_fixed_ones_count_among_the_peaks() -> None:
    body = heat.Bioheat(bone((3, 3, 3), 1.0, 0.0), start_c=37.0)
    probe = np.zeros((3, 3, 3), bool)
    probe[1, 1, 1] = True
    body.fix(probe, 90.0)
    body.advance(5.0)
    assert body.temperature_c[1, 1, 1] == pytest.approx(90.0)
    body.fix(np.zeros_like(probe), 0.0)
    body.advance(5.0)
    assert body.temperature_c[1, 1, 1] < 80.0
    assert body.peak_c[1, 1, 1] == pytest.approx(90.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conductivity_w_mk": 0.0}, "conductivity"),
        ({"heat_capacity_j_m3k": np.ones((2, 2))}, "heat capacity"),
        ({"perfusion_w_m3k": -1.0}, "perfusion"),
        ({"perfusion_w_m3k": np.nan}, "perfusion"),
        ({"spacing_m": (0.0, 1.0, 1.0)}, "spacing"),
    ],
)
def test_impossible_tissue_is_refused(change: dict[str, Any], words: str) -> None:
    fields = {
        "shape": (3, 3, 3), "spacing_m": (1e-3,) * 3, "heat_capacity_j_m3k": RC,
        "conductivity_w_mk": K, "perfusion_w_m3k": W, "blood_c": 37.0,
    }  # fmt: skip
    with pytest.raises(InputError, match=words):
        heat.Bioheat(heat.Tissue(**(fields | change)), start_c=37.0)


def test_impossible_orders_are_refused() -> None:
    here = bone((3, 3, 3), 1.0)
    for wrong in ({"shut_at_cem43": 240.0}, {"shut_at_omega": 1.0}):
        with pytest.raises(InputError, match="not counted"):
            heat.Bioheat(here, start_c=37.0, **wrong)
    upside_down = heat.Change(from_c=0.0, to_c=-1.0, latent_j_m3=1e8)
    with pytest.raises(InputError, match="interval"):
        heat.Bioheat(here, start_c=37.0, freezing=upside_down)
    late = heat.Change(from_c=50.0, to_c=120.0, latent_j_m3=1e8)
    with pytest.raises(InputError, match="thawed"):
        heat.Bioheat(
            here, start_c=37.0, freezing=late,
            boiling=heat.Change(from_c=99.0, to_c=100.0, latent_j_m3=1e8),
        )  # fmt: skip
    body = heat.Bioheat(here, start_c=37.0)
    with pytest.raises(InputError, match="more than 0"):
        body.advance(0.0)
    with pytest.raises(InputError, match="shape"):
        body.fix(np.zeros((2, 2, 2), bool), 90.0)


def test_warm_compiles() -> None:
    heat.warm()
