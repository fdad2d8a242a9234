"""Funnel, CUSUM, SPRT and VLAD against clinical.md H.7, exact chains and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trocar.errors import InputError
from trocar.stats.monitoring import (
    cusum,
    cusum_limit,
    cusum_run_length,
    funnel_limits,
    odds_times,
    sprt_bounds,
    vlad,
)

H7 = [0, 0, 1, 0, 1, 1, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("n", "wide", "wider"),
    [
        (10, ("0.0000", "0.2787"), ("0.0000", "0.4427")),
        (20, ("0.0000", "0.2285"), ("0.0000", "0.3352")),
        (50, ("0.0139", "0.1797"), ("0.0000", "0.2401")),
        (100, ("0.0404", "0.1577"), ("0.0142", "0.1984")),
    ],
)
def test_funnel_of_h7(n: int, wide: tuple[str, str], wider: tuple[str, str]) -> None:
    for level, printed in ((0.95, wide), (0.998, wider)):
        limits = funnel_limits(0.10, [n], level=level)
        assert (f"{limits.low[0]:.4f}", f"{limits.high[0]:.4f}") == printed


@given(st.floats(0.02, 0.9), st.integers(1, 400), st.sampled_from([0.95, 0.998]))
def test_a_unit_outside_the_funnel_is_as_rare_as_said(p: float, n: int, level: float) -> None:
    side = funnel_limits(p, np.full(n + 1, n), level=level).side(np.arange(n + 1))
    chance = stats.binom.pmf(np.arange(n + 1), n, p)
    rare = (1 - level) / 2
    for out in (side > 0, side < 0):
        assert chance[out].sum() <= rare + 1e-12
    inside = np.flatnonzero(side == 0)  # and one count further in would not be rare
    assert chance[: inside[0] + 1].sum() > rare - 1e-12
    assert chance[inside[-1] :].sum() > rare - 1e-12


def test_three_of_ten_lies_above_the_drawn_line_and_is_not_out_of_line() -> None:
    limits = funnel_limits(0.10, [10])
    assert limits.high[0] < 0.3
    assert stats.binom.sf(2, 10, 0.10) == pytest.approx(0.0702, abs=5e-5)
    assert limits.side([3]).tolist() == [0]
    assert limits.side([4]).tolist() == [1]


def test_units_are_sorted_by_side() -> None:
    limits = funnel_limits(0.10, [100, 100, 100])
    assert limits.side([4, 10, 17]).tolist() == [-1, 0, 1]


def test_cusum_of_h7() -> None:
    run = cusum(H7, 0.10, 0.20)
    assert f"{np.log(0.2 / 0.1):.5f}" == f"{run.scores[2]:.5f}" == "0.69315"
    assert f"{run.scores[0]:.5f}" == "-0.11778"
    assert [f"{w:.4f}" for w in run.values] == [
        "0.0000", "0.0000", "0.6931", "0.5754", "1.2685", "1.9617", "1.8439", "1.7261", "2.4192",
        "2.3015",
    ]  # fmt: skip
    assert run.first_signal is None


def test_a_signal_is_marked_and_starts_afresh() -> None:
    run = cusum(H7, 0.10, 0.20, limit=1.9)
    assert run.signals == (5,)
    assert [f"{w:.4f}" for w in run.values[5:]] == [
        "1.9617", "0.0000", "0.0000", "0.6931", "0.5754",
    ]  # fmt: skip
    stays = cusum(H7, 0.10, 0.20, limit=1.9, reset=False)
    assert stays.signals == (5, 8, 9)
    assert stays.values.tolist() == cusum(H7, 0.10, 0.20).values.tolist()


def test_risk_adjusted_scores_are_those_of_steiner() -> None:
    p = np.array([0.05, 0.3, 0.5])
    run = cusum([1, 0, 1], p, odds_times(p, 2.0))
    denominator = 1 - p + 2 * p
    assert run.scores == pytest.approx(
        [np.log(2 / denominator[0]), np.log(1 / denominator[1]), np.log(2 / denominator[2])],
        rel=1e-12,
    )


def test_sprt_of_h7() -> None:
    bounds = sprt_bounds(0.05, 0.2)
    assert f"{bounds.upper:.4f}" == "2.7726"
    assert f"{bounds.lower:.4f}" == "-1.5581"


def slow_run_length(p0: float, p1: float, limit: float, rate: float) -> float:
    """Walk the distribution of W over its reachable values, case by case, to the last alarm."""
    up, down = np.log(p1 / p0), np.log((1 - p1) / (1 - p0))
    mass, total = {0.0: 1.0}, 0.0
    while (left := sum(mass.values())) > 1e-13:
        total += left
        after: dict[float, float] = {}
        for w, m in mass.items():
            for s, p in ((up, rate), (down, 1 - rate)):
                to = round(max(0.0, w + s), 9)
                if to < limit:
                    after[to] = after.get(to, 0.0) + m * p
        mass = after
    return total


@pytest.mark.parametrize(
    ("p0", "p1", "limit", "rate"),
    [(0.1, 0.2, 0.75, 0.2), (0.1, 0.3, 1.2, 0.3), (0.3, 0.1, 0.9, 0.3), (0.2, 0.4, 0.3, 0.2)],
)
def test_run_length_is_that_of_the_walked_distribution(
    p0: float, p1: float, limit: float, rate: float
) -> None:
    slow = slow_run_length(p0, p1, limit, rate)
    assert cusum_run_length(p0, p1, limit, rate=rate) == pytest.approx(slow, rel=1e-8)


def test_run_length_is_that_of_a_chain_where_one_event_weighs_as_much_as_m_others() -> None:
    # p1 such that ln(p1/p0) = 6 ln((1-p0)/(1-p1)): W lives on whole multiples, the chain is exact
    from scipy.optimize import brentq

    p0, m, h = 0.1, 6, 15
    p1 = float(
        brentq(lambda p: np.log(p / p0) - m * np.log((1 - p0) / (1 - p)), 0.15, 0.5, xtol=1e-15)
    )
    unit = np.log((1 - p0) / (1 - p1))
    chain = np.zeros((h, h))
    for w in range(h):
        chain[w, max(0, w - 1)] += 1 - p0
        if w + m < h:
            chain[w, w + m] += p0
    exact = np.linalg.solve(np.eye(h) - chain, np.ones(h))[0]
    assert cusum_run_length(p0, p1, h * unit) == pytest.approx(exact, rel=1e-10)


def test_run_length_of_a_limit_one_event_reaches_is_one_over_the_rate() -> None:
    assert cusum_run_length(0.1, 0.2, 0.6) == pytest.approx(10, rel=1e-12)


def test_run_length_agrees_with_simulation() -> None:
    p0, p1, limit = 0.10, 0.20, 2.5
    draws = np.random.default_rng(20261120).random((4000, 3000)) < p0
    up, down = np.log(2.0), np.log(0.8 / 0.9)
    w, alarm = np.zeros(4000), np.zeros(4000)
    for i in range(draws.shape[1]):
        w = np.maximum(0, w + np.where(draws[:, i], up, down))
        alarm = np.where((alarm == 0) & (w >= limit), i + 1, alarm)
    assert (alarm > 0).mean() > 0.99
    alarm[alarm == 0] = draws.shape[1]
    assert cusum_run_length(p0, p1, limit) == pytest.approx(alarm.mean(), rel=0.05)


def test_the_limit_of_a_run_length_is_the_lowest_that_reaches_it() -> None:
    h = cusum_limit(0.10, 0.20, 500)
    assert cusum_run_length(0.10, 0.20, h) >= 500
    assert cusum_run_length(0.10, 0.20, h - 2e-6) < 500


def test_vlad_is_the_sum_of_expected_less_observed() -> None:
    curve = vlad(H7, 0.10)
    assert curve[-1] == pytest.approx(10 * 0.1 - 4, abs=1e-14)
    assert vlad([1, 0], [0.3, 0.6]) == pytest.approx([-0.7, -0.1], abs=1e-15)


def test_what_cannot_be_watched_is_said() -> None:
    with pytest.raises(InputError, match="outcome 1 is 2"):
        cusum([0, 2], 0.1, 0.2)
    with pytest.raises(InputError, match="outcome 1 is nan"):
        vlad([0, None], 0.1)
    with pytest.raises(InputError, match="p1 must be"):
        cusum([0, 1], 0.1, 1.0)
    with pytest.raises(InputError, match="a total is 0"):
        funnel_limits(0.1, [0])
    with pytest.raises(InputError, match="the target is 0"):
        funnel_limits(0.0, [10])
    with pytest.raises(InputError, match="add up to"):
        sprt_bounds(0.6, 0.5)
    with pytest.raises(InputError, match="two rates"):
        cusum_run_length(0.1, 0.1, 2)
