"""Meta-analysis against clinical.md H.6, metafor (golden.csv, T47, T48), statsmodels, oracles."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from trocar.errors import InputError
from trocar.stats.pooling import (
    double_arcsine,
    double_arcsine_inverse,
    mean_change,
    mean_difference,
    pool,
    pool_means,
    pool_proportions,
    standardised_mean_change,
    standardised_mean_difference,
)

TABLES = "13_tables_and_golden_statistics"
# IPG179, leaks of cement: 1/18, 2/14, 3/11, 9/18 (clinical.md H.6)
LEAKS, CASES = [1, 2, 3, 9], [18, 14, 11, 18]
# Viechtbauer 2005, example 1 (features_and_figures.md T47, T48)
YI = [-0.581, 0.530, 0.771, 1.031, 0.553, 0.295, 0.078, 0.573, -0.176, -0.232]
VI = [0.023, 0.052, 0.060, 0.115, 0.095, 0.203, 0.200, 0.211, 0.051, 0.040]


@pytest.fixture(scope="session")
def golden(data: Path) -> dict[str, float]:
    with (data / TABLES / "golden.csv").open() as file:
        return {row["key"]: float(row["value"]) for row in csv.DictReader(file)}


def table(data: Path, name: str) -> dict[str, np.ndarray]:
    with (data / TABLES / f"dat.{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    out = {}
    for key in rows[0]:
        try:
            out[key] = np.array([float(row[key]) for row in rows])
        except ValueError:
            out[key] = np.array([row[key] for row in rows])
    return out


def risk_ratios(data: Path) -> tuple[np.ndarray, np.ndarray]:
    t = table(data, "bcg")
    a, b, c, d = t["tpos"], t["tneg"], t["cpos"], t["cneg"]
    y = np.log(a / (a + b)) - np.log(c / (c + d))
    return y, 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)


# ---- H.6


def percent(*values: float | None) -> list[str]:
    return [f"{value:.4f}" for value in values if value is not None]


def test_logits_of_h6() -> None:
    p = pool_proportions(LEAKS, CASES, method="logit-dl")
    assert f"{p.q:.4f}" == "8.5234"
    assert p.df == 3
    assert f"{p.i2_percent:.2f}" == "64.80"
    assert f"{p.tau2:.5f}" == "0.88334"
    assert percent(p.estimate, p.low, p.high) == ["0.2317", "0.0863", "0.4908"]
    assert p.corrected == 0

    y = np.log(np.array(LEAKS) / (np.array(CASES) - LEAKS))
    v = 1 / np.array(LEAKS) + 1 / (np.array(CASES) - LEAKS)
    assert [f"{a:.5f}" for a in y] == ["-2.83321", "-1.79176", "-0.98083", "0.00000"]
    assert [f"{a:.5f}" for a in v] == ["1.05882", "0.58333", "0.45833", "0.22222"]
    assert f"{special.expit(pool(y, v, method='FE').estimate):.4f}" == "0.3006"


def test_restricted_likelihood_and_hartung_knapp_of_h6() -> None:
    p = pool_proportions(LEAKS, CASES, method="logit-reml")
    assert f"{p.tau2:.5f}" == "0.86127"
    assert percent(p.estimate, p.low, p.high) == ["0.2323", "0.0873", "0.4892"]
    t = pool_proportions(LEAKS, CASES, method="logit-reml", hartung_knapp=True)
    assert percent(t.low, t.high) == ["0.0446", "0.6625"]


def test_freeman_tukey_of_h6() -> None:
    y, v = double_arcsine(LEAKS, CASES)
    assert [f"{a:.5f}" for a in y] == ["0.56190", "0.83744", "1.13908", "1.57080"]
    assert v == pytest.approx(1 / (np.array(CASES) + 0.5))
    p = pool_proportions(LEAKS, CASES, method="freeman-tukey")
    assert p.on_scale is not None
    assert f"{p.q:.4f}" == "10.1381"
    assert f"{p.i2_percent:.2f}" == "70.41"
    assert f"{p.tau2:.5f}" == "0.15286"
    assert f"{p.on_scale.estimate:.5f}" == "1.02663"
    assert f"{p.on_scale.se:.5f}" == "0.23348"
    assert percent(p.estimate, p.low, p.high) == ["0.2242", "0.0532", "0.4539"]
    assert f"{np.sin(p.on_scale.estimate / 2) ** 2:.4f}" == "0.2411"
    assert f"{len(CASES) / sum(1 / n for n in CASES):.3f}" == "14.628"


def test_glmm_of_h6_is_the_default() -> None:
    p = pool_proportions(LEAKS, CASES)
    assert p.method == "glmm"
    assert p.on_scale is not None
    assert f"{p.on_scale.estimate:.5f}" == "-1.30963"
    assert f"{p.tau2:.5f}" == "0.71946"
    assert f"{p.on_scale.se:.5f}" == "0.55424"
    assert percent(p.estimate, p.low, p.high) == ["0.2125", "0.0835", "0.4444"]
    assert f"{p.minus_log_likelihood:.4f}" == "9.0221"
    half = stats.t.ppf(0.975, 2) * np.hypot(np.sqrt(p.tau2 or 0), p.on_scale.se)
    assert p.prediction_high == pytest.approx(special.expit(p.on_scale.estimate + half))


def test_crude_of_h6() -> None:
    p = pool_proportions(LEAKS, CASES, method="crude")
    assert (p.events, p.total) == (15, 61)
    assert [f"{100 * a:.1f}" for a in (p.estimate, p.low, p.high)] == ["24.6", "15.5", "36.7"]
    assert p.tau2 is None
    assert p.prediction_low is None


# ---- T47, T48


@pytest.mark.parametrize(
    ("method", "tau2", "i2", "se"),
    [
        ("HS", ".2282", "77.2284", ".1328"),
        ("HE", ".1484", "68.7988", ".1234"),
        ("DL", ".2768", "80.4447", ".1841"),
        ("ML", ".1967", "74.5098", ".1255"),
        ("REML", ".2232", "76.8399", ".1464"),
        ("EB", ".1920", "74.0511", ".1330"),
        ("PM", ".1920", "74.0511", ".1330"),
        ("SJ", ".1992", "74.7545", ".0979"),
    ],
)
def test_variance_between_studies_of_viechtbauer(method: str, tau2: str, i2: str, se: str) -> None:
    p = pool(YI, VI, method=method)  # type: ignore[arg-type]
    assert f"{p.tau2:.4f}" == "0" + tau2
    if method in ("ML", "REML"):  # metafor stops within 1e-5 of tau2; the fourth digit differs
        assert p.i2_percent == pytest.approx(float(i2), abs=2e-4)
    else:
        assert f"{p.i2_percent:.4f}" == i2
    assert p.tau2_se is not None
    assert f"{p.tau2_se:.4f}" == "0" + se


# ---- golden.csv

# metafor stops REML, ML and EB when tau2 changes by less than 1e-5, and finds PM by bisection to
# 1e-4; the others have closed forms.
STOP = {"REML": 2e-6, "ML": 2e-6, "EB": 2e-6, "PM": 1e-4}


@pytest.mark.data
@pytest.mark.parametrize("method", ["FE", "DL", "REML", "PM", "ML", "EB", "HE", "SJ"])
def test_bcg_is_that_of_metafor(data: Path, golden: dict[str, float], method: str) -> None:
    p = pool(*risk_ratios(data), method=method)  # type: ignore[arg-type]
    close = STOP.get(method, 1e-12)
    for name, value in {
        "b": p.estimate, "se": p.se, "lb": p.low, "ub": p.high, "tau2": p.tau2,
        "I2": p.i2_percent, "Q": p.q,
    }.items():  # fmt: skip
        assert value == pytest.approx(golden[f"bcg.RR.{method}.{name}"], rel=close), name


@pytest.mark.data
def test_hartung_knapp_prediction_and_q_profile_are_those_of_metafor(
    data: Path, golden: dict[str, float]
) -> None:
    p = pool(*risk_ratios(data), hartung_knapp=True, prediction_df="k-1")
    key = "bcg.RR.REML.knha"
    assert p.se == pytest.approx(golden[f"{key}.se"], rel=2e-6)
    assert p.low == pytest.approx(golden[f"{key}.lb"], rel=2e-6)
    assert p.high == pytest.approx(golden[f"{key}.ub"], rel=2e-6)
    assert p.prediction_low == pytest.approx(golden[f"{key}.pi.lb"], rel=2e-6)
    assert p.prediction_high == pytest.approx(golden[f"{key}.pi.ub"], rel=4e-6)
    # metafor finds these to 1e-4; the next test holds them to their equation
    assert p.tau2_low == pytest.approx(golden["bcg.RR.REML.taucI.ci.lb"], abs=1e-4)
    assert p.tau2_high == pytest.approx(golden["bcg.RR.REML.taucI.ci.ub"], abs=1e-4)
    wider = pool(*risk_ratios(data), hartung_knapp=True)  # t on k - 2, the default
    assert wider.prediction_low is not None
    assert wider.prediction_low < (p.prediction_low or 0)


@pytest.mark.data
def test_pritz_is_that_of_metafor(data: Path, golden: dict[str, float]) -> None:
    t = table(data, "pritz1997")
    x, n = t["xi"], t["ni"]

    def check(key: str, b: float, se: float, tau2: float) -> None:
        for name, value in {"b": b, "se": se, "tau2": tau2}.items():
            assert value == pytest.approx(golden[f"pritz.{key}.{name}"], rel=2e-5), (key, name)

    logit = pool_proportions(x, n, method="logit-reml").on_scale
    assert logit is not None
    check("PLO", logit.estimate, logit.se, logit.tau2)
    arcsine = pool_proportions(x, n, method="freeman-tukey-reml")
    assert arcsine.on_scale is not None  # metafor's scale is half of ours
    check("PFT", arcsine.on_scale.estimate / 2, arcsine.on_scale.se / 2, (arcsine.tau2 or 0) / 4)
    assert arcsine.estimate == pytest.approx(golden["pritz.PFT.backtransformed_harmonic"], rel=2e-6)
    half = np.where(x == n, 0.5, 0)  # metafor's correction where all had the event
    share = (x + half) / (n + 2 * half)
    raw = pool(share, share * (1 - share) / (n + 2 * half))
    check("PR", raw.estimate, raw.se, raw.tau2)
    sine = pool(np.arcsin(np.sqrt(x / n)), 1 / (4 * n))
    check("PAS", sine.estimate, sine.se, sine.tau2)


@pytest.mark.data
def test_differences_of_normand_are_those_of_metafor(data: Path, golden: dict[str, float]) -> None:
    t = table(data, "normand1999")
    groups = {f"{name}_{i}": t[f"{short}{i}i"] for i in (1, 2)
              for name, short in (("mean", "m"), ("sd", "sd"), ("n", "n"))}  # fmt: skip
    plain = pool(*mean_difference(**groups), method="DL")
    for name, value in {"b": plain.estimate, "se": plain.se, "tau2": plain.tau2}.items():
        assert value == pytest.approx(golden[f"normand.MD.DL.{name}"], rel=1e-12)
    hedges = pool(*standardised_mean_difference(**groups))
    for name, value in {"b": hedges.estimate, "se": hedges.se, "tau2": hedges.tau2}.items():
        assert value == pytest.approx(golden[f"normand.SMD.REML.{name}"], rel=2e-5)


@pytest.mark.data
def test_paired_changes_are_those_of_metafor(golden: dict[str, float]) -> None:
    # pain 8.8 before and 1.9 after in 14 patients
    plain = mean_change(before=8.8, sd_before=1, after=1.9, sd_after=2, n=14, correlation=0.3)
    assert plain.effects[0] == pytest.approx(golden["paired.MC.yi"], rel=1e-14)
    assert plain.variances[0] == pytest.approx(golden["paired.MC.vi"], rel=1e-14)
    units = standardised_mean_change(before=8.8, sd_before=1, after=1.9, n=14, correlation=0.3)
    assert units.effects[0] == pytest.approx(golden["paired.SMCR.yi"], rel=1e-13)
    assert units.variances[0] == pytest.approx(golden["paired.SMCR.vi"], rel=1e-13)


# ---- other oracles


def test_estimates_agree_with_statsmodels() -> None:
    peer = pytest.importorskip("statsmodels.stats.meta_analysis")
    for ours, theirs in (("DL", "chi2"), ("PM", "iterated")):
        p = pool(YI, VI, method=ours, hartung_knapp=True)  # type: ignore[arg-type]
        q = peer.combine_effects(np.array(YI), np.array(VI), method_re=theirs, atol=1e-12)
        assert p.tau2 == pytest.approx(q.tau2, rel=1e-6)
        assert p.estimate == pytest.approx(q.mean_effect_re, rel=1e-6)
        assert p.se == pytest.approx(q.sd_eff_w_re_hksj, rel=1e-6)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.05, 2)), min_size=2, max_size=8))
def test_likelihood_is_nowhere_higher(studies: list[tuple[float, float]]) -> None:
    y, v = (np.array(c) for c in zip(*studies))

    def minus(tau2: float, restricted: bool) -> float:
        m = v + tau2
        b = np.sum(y / m) / np.sum(1 / m)
        value = -stats.norm.logpdf(y, b, np.sqrt(m)).sum()
        return float(value + np.log(np.sum(1 / m)) / 2 if restricted else value)

    for method, restricted in (("ML", False), ("REML", True)):
        tau2 = pool(y, v, method=method).tau2  # type: ignore[arg-type]
        here = minus(tau2, restricted)
        grid = np.concatenate([[0.0], np.geomspace(1e-4, 50, 300)])
        assert here <= min(minus(t, restricted) for t in grid) + 1e-9


def test_paule_mandel_and_q_profile_solve_their_equations() -> None:
    p = pool(YI, VI, method="PM")
    for tau2, q in (
        (p.tau2, 9), (p.tau2_low, stats.chi2.ppf(0.975, 9)), (p.tau2_high, stats.chi2.ppf(0.025, 9))
    ):  # fmt: skip
        w = 1 / (np.array(VI) + tau2)
        b = w @ YI / w.sum()
        assert w @ (np.array(YI) - b) ** 2 == pytest.approx(q, rel=1e-11)


def test_pooled_means_by_hand() -> None:
    # weights n/3 (v = (1 + 4 - 2*0.5*2)/n): (-5*20 - 3*30)/50
    p = pool_means(
        before=[8, 7], sd_before=1, after=[3, 4], sd_after=2, n=[20, 30], correlation=0.5,
        method="FE",
    )  # fmt: skip
    assert p.estimate == pytest.approx(-3.8, rel=1e-14)
    assert p.se == pytest.approx(np.sqrt(3 / 50), rel=1e-14)
    assert p.prediction_low is None
    assert p.tau2_low is None


# ---- the GLMM


def slow_loglik(b: float, tau: float, x: np.ndarray, n: np.ndarray) -> float:
    """The marginal log-likelihood by the trapezoid rule on 20 001 points."""
    u = np.linspace(-12, 12, 20001)
    p = special.expit(b + tau * u)
    f = stats.binom.pmf(x[:, None], n[:, None], p) * stats.norm.pdf(u)
    return float(np.log(np.trapezoid(f, u, axis=1)).sum())


@pytest.mark.parametrize(
    ("x", "n"),
    [
        (LEAKS, CASES),
        ([0, 0, 5, 1, 0], [12, 30, 20, 9, 50]),
        ([300, 20, 1500, 4], [1000, 400, 2000, 7]),
        ([0, 9, 1, 10], [10, 10, 10, 10]),
    ],
)
def test_glmm_is_the_maximum_of_the_slow_likelihood(x: list[int], n: list[int]) -> None:
    p = pool_proportions(x, n)
    assert p.on_scale is not None
    a, m = np.array(x), np.array(n)
    b, tau = p.on_scale.estimate, float(np.sqrt(p.tau2 or 0))
    assert p.minus_log_likelihood == pytest.approx(-slow_loglik(b, tau, a, m), abs=1e-6)
    found = optimize.minimize(
        lambda c: -slow_loglik(c[0], abs(c[1]), a, m), [b + 0.1, tau + 0.1],
        method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-11},
    )  # fmt: skip
    assert b == pytest.approx(found.x[0], abs=2e-5)
    assert tau == pytest.approx(abs(found.x[1]), abs=2e-5)


def test_glmm_of_studies_that_agree_is_the_crude_proportion() -> None:
    p = pool_proportions([2, 4, 6], [20, 40, 60])
    assert p.on_scale is not None
    assert p.estimate == pytest.approx(0.1, abs=1e-12)
    assert p.tau2 == 0
    assert p.i2_percent == 0
    assert p.on_scale.se == pytest.approx(1 / np.sqrt(120 * 0.1 * 0.9), rel=1e-12)
    assert p.on_scale.tau2_se is None


def test_glmm_of_very_large_studies_is_the_likelihood_of_their_logits() -> None:
    n = np.array([10**6] * 5)
    x = np.array([50_000, 100_000, 200_000, 300_000, 150_000])
    p = pool_proportions(x, n)
    y, v = special.logit(x / n), 1 / x + 1 / (n - x)
    assert p.tau2 == pytest.approx(pool(y, v, method="ML").tau2, rel=1e-4)


def test_a_zero_needs_no_correction_in_the_glmm_and_half_in_logits() -> None:
    p = pool_proportions([0, 3], [10, 10], method="logit-dl")
    assert p.corrected == 1
    y = special.logit(np.array([0.5 / 11, 0.3]))
    v = np.array([1 / 0.5 + 1 / 10.5, 1 / 3 + 1 / 7])
    assert p.on_scale is not None
    assert p.on_scale.estimate == pytest.approx(pool(y, v, method="DL").estimate, rel=1e-14)
    assert pool_proportions([0, 3], [10, 10]).corrected == 0
    assert pool_proportions([0, 3], [10, 10]).prediction_low is None  # t on 0 does not exist


@given(st.integers(0, 40), st.integers(1, 40))
def test_miller_turns_the_double_arcsine_back(x: int, n: int) -> None:
    x = min(x, n)
    t = float(double_arcsine([x], [n]).effects[0])
    assert double_arcsine_inverse(t, n) == pytest.approx(x / n, abs=1e-7)


# ---- refusals


def test_what_cannot_be_pooled_is_said() -> None:
    with pytest.raises(InputError, match="all 2 studies have no events"):
        pool_proportions([0, 0], [5, 51])
    with pytest.raises(InputError, match="only events"):
        pool_proportions([5, 7], [5, 7])
    with pytest.raises(InputError, match="none or all"):
        pool_proportions([0, 7], [5, 7])
    with pytest.raises(InputError, match="study 1 has 6 events of 5"):
        pool_proportions([1, 6], [5, 5])
    with pytest.raises(InputError, match="1 study cannot be pooled"):
        pool_proportions([1], [5])
    with pytest.raises(InputError, match="not defined"):
        pool_proportions([1, 2], [5, 5], hartung_knapp=True)
    with pytest.raises(InputError, match="at least two"):
        pool([1], [1])
    with pytest.raises(InputError, match="more than 0"):
        pool([1, 2], [1, 0])
    with pytest.raises(InputError, match="expected one of FE, DL"):
        pool([1, 2], [1, 1], method="XX")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="correlation lies outside"):
        mean_change(before=8, sd_before=1, after=2, sd_after=1, n=9, correlation=1.2)
    zero = pool_proportions([0, 0], [5, 46], method="crude")
    assert (zero.estimate, zero.low, zero.q) == (0.0, 0.0, 0.0)
    assert f"{zero.high:.6f}" == "0.070047"  # golden: prop.0of51.wilson
