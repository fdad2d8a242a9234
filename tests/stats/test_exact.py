"""Exact tests against brute force, published examples, closed forms and R (golden.csv)."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from trocar.errors import InputError
from trocar.stats.exact import (
    EXACT_RANKS,
    EXACT_TAILS,
    Interval,
    Proportion,
    fisher,
    friedman,
    hodges_lehmann,
    mcnemar,
    median_interval,
    paired_permutation,
    paired_t,
    sign_test,
    sign_test_of,
    signed_rank,
    unpaired_change,
)
from trocar.stats.sums import subset_counts, subsets_at_most

TABLES = "13_tables_and_golden_statistics"

# Ten pairs of clinical.md A.3: before less week 1, lesions in the order of its list
HONG_KONG = [5, 0, 5, 5, 3, 1, -2, 1, 2, 1]
# Hollander and Wolfe's depression factor (R's wilcox.test page) and base runners (friedman.test)
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
RUNNERS = """5.40 5.50 5.55 5.85 5.70 5.75 5.20 5.60 5.50 5.55 5.50 5.40 5.90 5.85 5.70 5.45 5.55
5.60 5.40 5.40 5.35 5.45 5.50 5.35 5.25 5.15 5.00 5.85 5.80 5.70 5.25 5.20 5.10 5.65 5.55 5.45 5.60
5.35 5.45 5.05 5.00 4.95 5.50 5.50 5.40 5.45 5.55 5.50 5.55 5.55 5.35 5.45 5.50 5.55 5.50 5.45 5.25
5.65 5.60 5.40 5.70 5.65 5.55 6.30 6.30 6.25"""

SCORES = st.integers(-5, 5)  # few values: many ties and zeros
SAMPLES = st.lists(SCORES, min_size=1, max_size=10)
COUNTS = st.integers(0, 9)


# ---- slow and obvious oracles


def mid_ranks(sizes: list[int]) -> list[Fraction]:
    return [
        Fraction(sum(other < size for other in sizes))
        + Fraction(sum(other == size for other in sizes) + 1, 2)
        for size in sizes
    ]


def flipped(weights: list[Fraction], observed: Fraction) -> Fraction:
    """Share of all 2**n sign patterns with a sum at least as far from 0."""
    sums = [
        sum((sign * w for sign, w in zip(signs, weights)), Fraction(0))
        for signs in itertools.product((1, -1), repeat=len(weights))
    ]
    return Fraction(sum(abs(total) >= abs(observed) for total in sums), len(sums))


def signed_rank_by_force(sample: list[int], zeros: str) -> Fraction:
    ranked = sample if zeros == "pratt" else [d for d in sample if d]
    pairs = [(rank, d) for rank, d in zip(mid_ranks([abs(d) for d in ranked]), ranked) if d]
    observed = sum((rank if d > 0 else -rank for rank, d in pairs), Fraction(0))
    return flipped([rank for rank, _ in pairs], observed)


def signed_rank_by_sums(sample: list[int]) -> Fraction:
    """The whole distribution as a dictionary of sums: no truncation, no packing."""
    kept = [d for d in sample if d]
    doubled = [int(2 * rank) for rank in mid_ranks([abs(d) for d in kept])]
    ways = {0: 1}
    for weight in doubled:
        after = dict(ways)
        for total, count in ways.items():
            after[total + weight] = after.get(total + weight, 0) + count
        ways = after
    whole = sum(doubled)
    plus = sum(weight for weight, d in zip(doubled, kept) if d > 0)
    far = sum(c for total, c in ways.items() if abs(2 * total - whole) >= abs(2 * plus - whole))
    return Fraction(far, 2 ** len(kept))


def binomial(n: int, p: Fraction) -> list[Fraction]:
    return [math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)]


def tables_with_margins(a: int, b: int, c: int, d: int) -> dict[int, int]:
    """Every table with these margins, by its first cell: how many ways lead to it."""
    rows, column = (a + b, c + d), a + c
    return {
        x: math.comb(rows[0], x) * math.comb(rows[1], column - x)
        for x in range(max(0, column - rows[1]), min(rows[0], column) + 1)
    }


def noncentral(ways: dict[int, int], odds: float) -> dict[int, Fraction]:
    weight = {x: count * Fraction(odds) ** x for x, count in ways.items()}
    whole = sum(weight.values())
    return {x: w / whole for x, w in weight.items()}


@pytest.fixture(scope="session")
def golden(data: Path) -> dict[str, str]:
    with (data / TABLES / "golden.csv").open() as file:
        return {row["key"]: row["value"] for row in csv.DictReader(file)}


def same(value: float | None, printed: str) -> bool:
    """Equal to the digits R printed (15), but for the last two, which are rounding."""
    return value is not None and value == pytest.approx(float(printed), rel=1e-13)


# ---- proportions


def test_proportion_says_what_it_counts() -> None:
    assert str(Proportion(9, 18)) == "9/18 (50 %)"
    assert Proportion(9, 18).fraction == 0.5
    assert Proportion(1, 8).percent == 12.5
    assert Proportion(np.int64(1), np.int64(8)) == Proportion(1, 8)


def test_half_a_per_cent_is_rounded_up() -> None:
    assert Proportion(1, 8).percent_text() == "13"  # 12.5; Python's round gives 12
    assert Proportion(57, 200).percent_text() == "29"  # 28.5, which floats put below
    assert Proportion(1, 200).percent_text() == "1"
    assert Proportion(1, 16).percent_text(1) == "6.3"  # 6.25
    assert Proportion(1, 2000).percent_text(2) == "0.05"


@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 4))
def test_percent_text_is_that_of_decimal(x: int, n: int, digits: int) -> None:
    assume(x <= n)
    exact = Fraction(100 * x * 10**digits, n)
    up = Decimal(math.floor(exact + Fraction(1, 2))).scaleb(-digits)
    assert Decimal(Proportion(x, n).percent_text(digits)) == up
    close = (Decimal(100) * x / n).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    assert Decimal(Proportion(x, n).percent_text(digits)) == close


def test_without_trials_nothing_is_known() -> None:
    none = Proportion(0, 0)
    assert none.fraction is None
    assert none.percent is None
    assert str(none) == "0/0"
    assert none.percent_text() == "–"
    for interval in (none.clopper_pearson(), none.wilson(), none.mid_p()):
        assert (interval.low, interval.high) == (0, 1)


@pytest.mark.parametrize(
    ("x", "n"), [(3, 2), (-1, 2), (1.0, 2), (True, 2), (None, 3), ("1", 3), (0, -1)]
)
def test_proportion_refuses_what_is_no_count(x: object, n: object) -> None:
    with pytest.raises(InputError, match="expected"):
        Proportion(x, n)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, float("nan")])
def test_level_is_a_fraction(level: float) -> None:
    for interval in (Proportion(1, 3).wilson, Proportion(1, 3).clopper_pearson):
        with pytest.raises(InputError, match="level"):
            interval(level)
    with pytest.raises(InputError, match="level"):
        fisher([[1, 2], [3, 4]], level)


@pytest.mark.data
def test_intervals_are_those_of_r(golden: dict[str, str]) -> None:
    keys = [key for key in golden if key.startswith("prop.")]
    assert len(keys) == 60
    for key in keys:
        _, name, method, end = key.split(".")
        x, n = (int(part) for part in name.split("of"))
        ask = {"clopper": Proportion.clopper_pearson, "wilson": Proportion.wilson}[method]
        interval = ask(Proportion(x, n))
        assert same(interval.low if end == "1" else interval.high, golden[key]), key


@given(st.integers(0, 60), st.integers(1, 60), st.sampled_from([0.8, 0.95, 0.998]))
def test_intervals_solve_what_defines_them(x: int, n: int, level: float) -> None:
    assume(x <= n)
    tail = Fraction(1 - Fraction(level)) / 2
    exact, score, mid = (
        ask(Proportion(x, n), level)
        for ask in (Proportion.clopper_pearson, Proportion.wilson, Proportion.mid_p)
    )
    if x:
        law = binomial(n, Fraction(exact.low))
        assert float(sum(law[x:]) / tail) == pytest.approx(1, rel=1e-11)
        law = binomial(n, Fraction(mid.low))
        assert float((sum(law[x:]) - law[x] / 2) / tail) == pytest.approx(1, rel=1e-9)
    if x < n:
        law = binomial(n, Fraction(exact.high))
        assert float(sum(law[: x + 1]) / tail) == pytest.approx(1, rel=1e-11)
        law = binomial(n, Fraction(mid.high))
        assert float((sum(law[: x + 1]) - law[x] / 2) / tail) == pytest.approx(1, rel=1e-9)
    z = stats.norm.ppf((1 + level) / 2)
    for p in [score.low] * (x > 0) + [score.high] * (x < n):
        assert abs(x / n - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n), rel=1e-9)
    assert exact.low <= mid.low <= x / n <= mid.high <= exact.high


def test_mid_p_of_none_in_n_has_a_closed_form() -> None:
    assert Proportion(0, 11).mid_p().high == pytest.approx(1 - 0.05 ** (1 / 11), rel=1e-13)
    assert Proportion(0, 11).mid_p().low == 0
    assert Proportion(11, 11).mid_p().low == pytest.approx(0.05 ** (1 / 11), rel=1e-13)


def test_interval_prints_as_per_cent() -> None:
    interval = Interval(low=0.00140556, high=1.0, level=0.95, method="Wilson")
    assert interval.percent_text() == "0.1–100.0"
    assert interval.percent_text(0) == "0–100"


# ---- sign test


@pytest.mark.parametrize(
    ("better", "worse", "p"),  # clinical.md H.4
    [(8, 1, 0.0390625), (9, 1, 0.021484375), (8, 0, 0.0078125), (7, 1, 0.0703125),
     (10, 0, 0.001953125), (6, 1, 0.125)],
)  # fmt: skip
def test_sign_test_values(better: int, worse: int, p: float) -> None:
    assert sign_test(better, worse).p_value == p
    assert sign_test(worse, better, ties=3).p_value == p


@pytest.mark.parametrize(
    ("better", "worse", "ties", "p"),  # clinical.md A.3: the rules for week 1, and every column
    [(8, 1, 1, "0.0390625"), (8, 1, 0, "0.0390625"), (6, 1, 0, "0.125"), (5, 2, 3, "0.453"),
     (8, 2, 0, "0.109"), (9, 1, 1, "0.0215"), (3, 2, 3, "1.0"), (7, 1, 1, "0.0703"),
     (8, 0, 2, "0.0078"), (9, 0, 1, "0.0039"), (9, 1, 0, "0.0215"), (10, 0, 0, "0.00195"),
     (8, 0, 1, "0.0078"), (14, 0, 0, "0.00012207"), (13, 1, 0, "0.00183105")],
)  # fmt: skip
def test_sign_tests_as_printed(better: int, worse: int, ties: int, p: str) -> None:
    digits = len(p.partition(".")[2])
    assert f"{sign_test(better, worse, ties).p_value:.{digits}f}" == p


@pytest.mark.data
def test_sign_tests_are_those_of_r(golden: dict[str, str]) -> None:
    keys = [key for key in golden if key.startswith("signtest.")]
    assert len(keys) == 4
    for key in keys:
        fewer, n = (int(part) for part in key.split(".")[1].split("of"))
        assert same(sign_test(n - fewer, fewer).p_value, golden[key])


@given(SAMPLES)
def test_sign_test_is_that_of_brute_force(sample: list[int]) -> None:
    result = sign_test_of(sample)
    signs = [Fraction(np.sign(d).item()) for d in sample if d]
    assert result.p_value == flipped([Fraction(1)] * len(signs), sum(signs, Fraction(0)))
    assert result.better + result.worse + result.ties == len(sample)
    assert result.better == sum(d > 0 for d in sample)


@given(st.integers(0, 200), st.integers(0, 200))
def test_sign_test_is_rounded_once(better: int, worse: int) -> None:
    assume(better + worse)
    n = better + worse
    tail = sum(math.comb(n, i) for i in range(min(better, worse) + 1))
    assert sign_test(better, worse).p_value == float(min(Fraction(1), Fraction(2 * tail, 2**n)))


@pytest.mark.parametrize(("n", "fewer"), [(EXACT_TAILS + 1, 400), (5000, 2400), (20_000, 9_700)])
def test_large_sign_tests_keep_ten_digits(n: int, fewer: int) -> None:
    term, tail = 1, 1
    for i in range(fewer):
        term = term * (n - i) // (i + 1)
        tail += term
    exact = 2 * tail / 2**n
    assert sign_test(n - fewer, fewer).p_value == pytest.approx(exact, rel=1e-10)


def test_nothing_to_tell_better_from_worse() -> None:
    assert sign_test(0, 0, ties=4).p_value == 1
    with pytest.raises(InputError, match="without any pair"):
        sign_test(0, 0)


def test_step_of_the_scale_finds_ties() -> None:
    d = [0.3 - (0.1 + 0.2), 0.2, -0.1]
    assert sign_test_of(d).ties == 0  # 0.3 - (0.1 + 0.2) is -5.6e-17
    assert sign_test_of(d, step=0.1).ties == 1
    with pytest.raises(InputError, match=r"steps of 0\.1"):
        sign_test_of([0.25], step=0.1)
    with pytest.raises(InputError, match="step of 0"):
        sign_test_of([1.0], step=0)


# ---- signed rank


def test_hong_kong_signed_rank() -> None:
    drop, pratt = signed_rank(HONG_KONG), signed_rank(HONG_KONG, zeros="pratt")
    assert (drop.w_plus, drop.w_minus, drop.p_value) == (40.5, 4.5, 18 / 512)
    assert (pratt.w_plus, pratt.w_minus, pratt.p_value) == (48.5, 5.5, 12 / 512)
    assert (drop.n, drop.zeros, drop.ties, drop.exact) == (9, 1, 8, True)
    assert (pratt.n, pratt.zeros) == (9, 1)


@pytest.mark.data
def test_hong_kong_week_1_is_that_of_r(data: Path, golden: dict[str, str]) -> None:
    with (data / TABLES / "hk_table2.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = [next(float(r[c]) for c in ("W1", "D2", "D1") if r[c]) for r in rows]
    d = [float(r["D0"]) - week for r, week in zip(rows, last) if r["D0"]]
    sign = sign_test_of(d)
    assert len(d) == float(golden["hk.n_pairs"])
    assert sign.better == float(golden["hk.better"])
    assert sign.worse == float(golden["hk.worse"])
    assert sign.ties == float(golden["hk.tie"])
    assert sign.p_value == float(golden["hk.sign.p"])
    assert signed_rank(d).p_value == float(golden["hk.wilcoxon_exact_zeros_removed.p"])
    observed = [float(r["W1"]) for r in rows if r["W1"]]
    assert median_interval(last).value == float(golden["hk.median_locf_week1"])
    assert median_interval(observed).value == float(golden["hk.median_W1_observed"])
    start = [float(r["D0"]) for r in rows if r["D0"]]
    assert median_interval(start).value == float(golden["hk.median_D0"])


def test_depression_factor_as_printed_by_r() -> None:
    d = np.subtract(BEFORE, AFTER)
    result = signed_rank(d)
    assert result.w_plus == 40
    assert f"{result.p_value / 2:.5f}" == "0.01953"  # R's page tests one side
    assert f"{hodges_lehmann(d).estimate:.2f}" == "0.46"


@given(SAMPLES, st.sampled_from(["drop", "pratt"]))
def test_signed_rank_is_that_of_brute_force(sample: list[int], zeros: str) -> None:
    p = signed_rank(sample, zeros=zeros).p_value  # type: ignore[arg-type]
    assert p == signed_rank_by_force(sample, zeros)


@pytest.mark.parametrize("n", [20, 60, 61, 62, 63, 64, 65, 120])
@pytest.mark.parametrize("spread", [3, 25, 1000])
def test_long_signed_ranks_are_rounded_once(n: int, spread: int) -> None:
    rng = np.random.default_rng([n, spread])
    for shift in (0, spread // 3):
        sample = (rng.integers(-spread, spread + 1, n) + shift).tolist()
        assert signed_rank(sample).p_value == float(signed_rank_by_sums(sample))


def test_two_hundred_without_ties_are_those_of_scipy() -> None:
    d = np.random.default_rng(7).normal(0.15, 1, 200)
    ours, peer = signed_rank(d), stats.wilcoxon(d, method="exact")  # right without ties
    assert min(ours.w_plus, ours.w_minus) == peer.statistic
    assert ours.p_value == pytest.approx(peer.pvalue, rel=1e-11)
    assert ours.exact


@pytest.mark.parametrize("zeros", ["drop", "pratt"])
@pytest.mark.parametrize("correction", [False, True])
def test_normal_approximation_is_that_of_scipy(zeros: str, correction: bool) -> None:
    d = np.random.default_rng(3).integers(-4, 6, 40)
    ours = signed_rank(
        d,
        zeros=zeros,  # type: ignore[arg-type]
        method="normal-continuity" if correction else "normal",
    )
    peer = stats.wilcoxon(
        d,
        zero_method={"drop": "wilcox"}.get(zeros, zeros),
        correction=correction,
        method="asymptotic",
    )
    assert ours.p_value == pytest.approx(peer.pvalue, rel=1e-12)
    assert not ours.exact


def test_long_series_say_that_they_are_approximate() -> None:
    d = np.random.default_rng(5).integers(-10, 12, EXACT_RANKS + 20)
    assert signed_rank(d[d != 0][:EXACT_RANKS]).exact
    long = signed_rank(np.concatenate([d, d]))
    assert long.method == "normal-continuity"
    with pytest.raises(InputError, match="at most 300"):
        signed_rank(np.concatenate([d, d]), method="exact")
    many_zeros = np.concatenate([[1, 2, -3], np.zeros(EXACT_RANKS)])
    assert signed_rank(many_zeros).exact
    assert not signed_rank(many_zeros, zeros="pratt").exact


@pytest.mark.parametrize(
    ("sizes", "least", "most"),
    [(range(1, 301), 1e-4, 6e-4), ([1] * 300, 1e-5, 6e-4), ([1, 2, 3, 4] * 75, 1e-3, 2e-2),
     ([1, 2] * 150, 1e-3, 2e-2)],
)  # fmt: skip
def test_normal_approximation_at_the_limit_is_as_close_as_said(
    sizes: Sequence[int], least: float, most: float
) -> None:
    doubled = [int(2 * rank) for rank in mid_ranks(list(sizes))]
    tail = np.cumsum([count / 2**EXACT_RANKS for count in subset_counts(doubled, sum(doubled))])
    rng = np.random.default_rng(4)
    errors = []
    for _ in range(200):
        d = np.where(rng.random(EXACT_RANKS) < rng.uniform(0.4, 0.6), sizes, np.negative(sizes))
        normal = signed_rank(d, method="normal-continuity")
        exact = min(1.0, 2 * tail[round(2 * min(normal.w_minus, normal.w_plus))])
        errors.append(abs(normal.p_value - exact))
    assert least < max(errors) < most


@pytest.mark.parametrize("test", [sign_test_of, signed_rank, paired_permutation, hodges_lehmann,
                                  median_interval, paired_t])  # fmt: skip
@pytest.mark.parametrize(
    "values", [[1.0, None], [float("nan"), 1.0], [], [[1.0], [2.0]], ["a"], [1.0, float("inf")],
               [[1], [1, 2]]]
)  # fmt: skip
def test_missing_differences_do_not_pass(test: object, values: object) -> None:
    with pytest.raises(InputError, match="expected"):
        test(values)  # type: ignore[operator]


def test_unknown_way_with_zeros() -> None:
    with pytest.raises(InputError, match="pratt"):
        signed_rank([1, 2], zeros="split")  # type: ignore[arg-type]


def test_only_zeros_tell_nothing() -> None:
    for zeros in ("drop", "pratt"):
        result = signed_rank([0, 0, 0], zeros=zeros)  # type: ignore[arg-type]
        assert (result.p_value, result.n, result.zeros) == (1, 0, 3)
    assert signed_rank([0, 0], method="normal").p_value == 1
    assert paired_permutation([0, 0]).p_value == 1


def test_published_p_of_ipg179_is_a_normal_approximation_on_13_pairs() -> None:
    """clinical.md A.4: which tests of n = 14 could give NICE's "p < 0.0016"."""
    assert f"{sign_test(14, 0).p_value:.6f}" == "0.000122"
    assert f"{signed_rank(range(1, 15)).p_value:.6f}" == "0.000122"
    assert f"{signed_rank(range(1, 15), method='normal').p_value:.5f}" == "0.00098"
    thirteen = [0, *range(1, 14)]
    assert f"{signed_rank(thirteen, method='normal').p_value:.5f}" == "0.00147"
    assert f"{signed_rank(thirteen, method='normal-continuity').p_value:.5f}" == "0.00166"
    assert f"{sign_test(13, 1).p_value:.5f}" == "0.00183"


# ---- sums


@given(st.lists(st.integers(1, 30), max_size=10), st.integers(-1, 200))
def test_subsets_are_those_of_brute_force(weights: list[int], limit: int) -> None:
    sums = [
        sum(part) for k in range(len(weights) + 1) for part in itertools.combinations(weights, k)
    ]
    assert subsets_at_most(weights, limit) == sum(total <= limit for total in sums)
    counts = subset_counts(weights, max(0, limit))
    assert counts == [sums.count(total) for total in range(max(0, limit) + 1)]
    huge = [weight * 10**9 + 1 for weight in weights]  # too far apart for a table: by halves
    sums = [sum(part) for k in range(len(huge) + 1) for part in itertools.combinations(huge, k)]
    assert subsets_at_most(huge, limit * 10**9) == sum(total <= limit * 10**9 for total in sums)


def test_sums_too_many_to_list() -> None:
    with pytest.raises(InputError, match="step of the scale"):
        subsets_at_most([10**12 + k for k in range(40)], 10**13)


# ---- permutation test


@given(SAMPLES)
def test_permutation_test_is_that_of_brute_force(sample: list[int]) -> None:
    result = paired_permutation(sample)
    d = [Fraction(value) for value in sample]
    assert result.p_value == flipped(d, sum(d, Fraction(0)))
    assert result.mean == pytest.approx(float(np.mean(sample)), abs=1e-15)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=9))
def test_permutation_test_compares_floats_exactly(sample: list[float]) -> None:
    d = [Fraction(value) for value in sample]
    assert paired_permutation(sample).p_value == flipped(d, sum(d, Fraction(0)))


def test_permutation_test_takes_decimals_by_their_step() -> None:
    tenths = paired_permutation([0.1, 0.2, -0.3], step=0.1)
    assert tenths.p_value == 1  # 0.1 + 0.2 - 0.3 is 0
    assert tenths.mean == 0
    assert paired_permutation([0.5, 1.0, 1.5], step=0.5).mean == 1.0
    d = np.round(np.random.default_rng(2).normal(0.5, 2, 100), 1)
    assert 0 < paired_permutation(d, step=0.1).p_value < 1
    with pytest.raises(InputError, match="step of the scale"):
        paired_permutation(d)


def test_darwins_plants_as_fisher_counted_them() -> None:
    """Fisher 1935, s. 21: 863 of 16384 one way as large, twice that of 32768 both ways."""
    d = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sum(d) == 314
    assert paired_permutation(d).p_value == 2 * 863 / 2**15


# ---- typical differences


def test_hong_kong_typical_difference() -> None:
    """clinical.md A.3. Its interval at 97.9 % is the median's, not that of the Walsh means."""
    assert hodges_lehmann(HONG_KONG).estimate == 2.0
    median = median_interval(HONG_KONG)
    assert median.value == 1.5
    assert median.interval is not None
    assert (median.interval.low, median.interval.high) == (0, 5)
    assert f"{100 * median.interval.level:.1f}" == "97.9"


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=11), st.sampled_from([0.8, 0.95]))
def test_hodges_lehmann_is_that_of_brute_force(sample: list[int], level: float) -> None:
    n = len(sample)
    walsh = sorted((sample[i] + sample[j]) / 2 for i in range(n) for j in range(i, n))
    sums = sorted(
        sum(part)
        for k in range(n + 1)
        for part in itertools.combinations(range(1, n + 1), k)
    )  # fmt: skip
    below = [Fraction(sum(w <= k for w in sums), len(sums)) for k in range(len(walsh))]
    cuts = [k for k, p in enumerate(below, start=1) if p <= (1 - level) / 2]
    result = hodges_lehmann(sample, level)
    assert result.estimate == np.median(walsh)
    if not cuts:
        assert result.interval is None
        return
    assert result.interval is not None
    assert result.interval.low == walsh[max(cuts) - 1]
    assert result.interval.high == walsh[len(walsh) - max(cuts)]
    assert result.interval.level == 1 - 2 * below[max(cuts) - 1]
    assert result.interval.level >= level


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=40), st.sampled_from([0.8, 0.95]))
def test_median_interval_is_the_sign_test_turned_round(sample: list[int], level: float) -> None:
    ordered = sorted(sample)
    n = len(ordered)
    law = binomial(n, Fraction(1, 2))
    cuts = [k for k in range(1, n // 2 + 1) if 2 * sum(law[:k]) <= 1 - level]
    result = median_interval(sample, level)
    assert result.value == np.median(sample)
    if not cuts:
        assert result.interval is None
        return
    assert result.interval is not None
    k = max(cuts)
    assert (result.interval.low, result.interval.high) == (ordered[k - 1], ordered[n - k])
    assert result.interval.level == float(1 - 2 * sum(law[:k]))


def test_five_values_cannot_reach_95_per_cent() -> None:
    assert median_interval([1, 2, 3, 4, 5]).interval is None
    assert hodges_lehmann([1, 2, 3, 4, 5]).interval is None
    six = median_interval([1, 2, 3, 4, 5, 6]).interval
    assert six is not None
    assert (six.low, six.high, six.level) == (1, 6, 1 - 2 / 64)


def test_intervals_of_long_series_go_on_without_a_jump() -> None:
    d = np.random.default_rng(13).integers(-9, 14, 2 * EXACT_RANKS)
    short, long = hodges_lehmann(d[:EXACT_RANKS]), hodges_lehmann(d[: EXACT_RANKS + 1])
    assert short.interval is not None
    assert long.interval is not None
    assert (short.interval.low, short.interval.high) == (long.interval.low, long.interval.high)
    assert 0.95 <= long.interval.level < 0.9502
    median = median_interval(np.arange(EXACT_TAILS + 1)).interval
    assert median is not None
    law = stats.binom.cdf(np.arange(500), EXACT_TAILS + 1, 0.5)
    assert median.low == np.count_nonzero(2 * law <= 0.05) - 1
    with pytest.raises(InputError, match="at most 4000: round"):
        hodges_lehmann(np.arange(4001.0))


# ---- means


def test_hong_kong_mean_difference() -> None:
    result = paired_t(HONG_KONG)
    assert f"{result.change:.1f}" == "2.1"
    assert f"{result.sd:.3f}" == "2.378"
    assert f"{result.p_value:.4f}" == "0.0210"
    peer = stats.ttest_1samp(HONG_KONG, 0)
    assert result.t == pytest.approx(peer.statistic, rel=1e-13)
    assert result.interval.low == pytest.approx(peer.confidence_interval(0.95).low, rel=1e-12)
    assert result.interval.high == pytest.approx(peer.confidence_interval(0.95).high, rel=1e-12)


def test_no_spread_is_no_test() -> None:
    for result in (paired_t([0.1, 0.1, 0.1]), unpaired_change(5, 1.1, 3, 1.1, 9).at(1)):
        assert result.t is None
        assert result.p_value is None
        assert result.interval.low == result.interval.high == result.change
    with pytest.raises(InputError, match="at least two"):
        paired_t([1.0])


@pytest.mark.parametrize(
    "given_", [(8, -1, 3, 1, 9), (8, 1, 3, 1, 1), (float("nan"), 1, 3, 1, 9), (8, 1, 3, 1, 9.5)]
)
def test_unpaired_change_refuses_what_cannot_be(given_: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        unpaired_change(*given_)  # type: ignore[arg-type]


def test_correlation_is_between_minus_one_and_one() -> None:
    with pytest.raises(InputError, match="-1 to 1"):
        unpaired_change(8, 1, 3, 1, 9).at(1.1)
    assert unpaired_change(0, 1, 3, 1, 9).percent is None


@given(st.lists(st.tuples(SCORES, SCORES), min_size=3, max_size=12))
def test_change_at_the_true_correlation_is_the_paired_t(pairs: list[tuple[int, int]]) -> None:
    before, after = np.array(pairs, float).T
    assume(before.std() > 0 and after.std() > 0 and (before - after).std() > 0)
    r = float(np.clip(np.corrcoef(before, after)[0, 1], -1, 1))
    known = unpaired_change(
        before.mean(), before.std(ddof=1), after.mean(), after.std(ddof=1), len(pairs)
    )
    paired = paired_t(before - after)
    assert known.at(r).sd == pytest.approx(paired.sd, rel=1e-6)
    least, most = known.bounds()
    assert most.sd - 1e-9 <= paired.sd <= least.sd + 1e-9


# ---- tables


@pytest.mark.data
def test_fisher_is_that_of_r(golden: dict[str, str]) -> None:
    result = fisher([[8, 2], [1, 5]])
    assert same(result.p_value, golden["fisher.8_2_1_5.p"])
    # R solves for the odds ratio, or above 1 for its inverse, to eps**0.25; we to the last digits
    r_stops_at = np.finfo(float).eps ** 0.25
    for ours, key in (
        (result.odds_ratio, "or"), (result.interval.low, "ci.1"), (result.interval.high, "ci.2")
    ):  # fmt: skip
        assert ours is not None
        printed = float(golden[f"fisher.8_2_1_5.{key}"])
        assert abs(1 / ours - 1 / printed) < r_stops_at
    ways = tables_with_margins(8, 2, 1, 5)
    assert float(noncentral(ways, result.interval.high)[8]) < 0.025  # X <= 8 leaves more
    at_most_8 = [
        float(sum(p for x, p in noncentral(ways, odds).items() if x <= 8))
        for odds in (result.interval.high, float(golden["fisher.8_2_1_5.ci.2"]))
    ]
    assert at_most_8[0] == pytest.approx(0.025, rel=1e-10)
    assert at_most_8[1] == pytest.approx(0.02523, abs=5e-6)  # where R stopped


def test_convictions_of_twins_as_printed_by_r() -> None:
    """R's fisher.test page (Fisher 1962): monozygotic 10 of 13, dizygotic 2 of 17 convicted."""
    result = fisher([[2, 10], [15, 3]])
    assert f"{result.p_value:.7f}" == "0.0005367"
    assert result.odds_ratio == pytest.approx(0.04693661, abs=1.3e-4)
    assert result.interval.low == pytest.approx(0.003325764, abs=1.3e-4)
    assert result.interval.high == pytest.approx(0.363182271, abs=1.3e-4)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_fisher_adds_all_tables_no_more_likely(a: int, b: int, c: int, d: int) -> None:
    ways = tables_with_margins(a, b, c, d)
    p = Fraction(sum(w for w in ways.values() if w <= ways[a]), sum(ways.values()))
    result = fisher([[a, b], [c, d]])
    assert result.p_value == pytest.approx(float(p), rel=1e-13)
    if len(ways) == 1:
        assert result.odds_ratio is None
        assert (result.interval.low, result.interval.high) == (0, math.inf)
        return
    odds, interval = result.odds_ratio, result.interval
    assert odds is not None
    if a == min(ways):
        assert (odds, interval.low) == (0, 0)
    elif a == max(ways):
        assert (odds, interval.high) == (math.inf, math.inf)
    else:
        law = noncentral(ways, odds)
        assert float(sum(x * p for x, p in law.items())) == pytest.approx(a, rel=1e-9)
    if a > min(ways):
        law = noncentral(ways, interval.low)
        assert float(sum(p for x, p in law.items() if x >= a)) == pytest.approx(0.025, rel=1e-7)
    if a < max(ways):
        law = noncentral(ways, interval.high)
        assert float(sum(p for x, p in law.items() if x <= a)) == pytest.approx(0.025, rel=1e-7)


@pytest.mark.parametrize(
    "table", [[[1, 2, 3], [4, 5, 6]], [1, 2], [[1, 2], [3]], [[1, -2], [3, 4]], [[1.5, 2], [3, 4]],
              [[None, 1], [2, 3]]]
)  # fmt: skip
def test_fisher_refuses_what_is_no_table(table: object) -> None:
    with pytest.raises(InputError, match="expected"):
        fisher(table)  # type: ignore[arg-type]


@given(COUNTS, COUNTS)
def test_mcnemar_is_a_fair_coin(b: int, c: int) -> None:
    law = binomial(b + c, Fraction(1, 2))
    far = sum(p for i, p in enumerate(law) if abs(2 * i - b - c) >= abs(b - c))
    assert mcnemar(b, c).p_value == far


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 5).p_value == 2 / 32
    assert mcnemar(0, 0).p_value == 1
    with pytest.raises(InputError, match="expected"):
        mcnemar(-1, 2)


def test_friedman_of_hong_kong() -> None:
    """clinical.md H.4: lesions 4, 5, 6, 8, 10 at D0, D1, D2, week 1."""
    scores = [[5, 2, 0, 0], [7, 4, 4, 4], [2, 2, 0, 1], [2, 3, 4, 4], [5, 5, 3, 3]]
    result = friedman(scores)
    assert f"{result.chi2:.4f}" == "4.0244"
    assert f"{result.p_value:.4f}" == "0.2588"
    assert (result.df, result.rows, result.columns) == (3, 5, 4)


def test_friedman_of_base_runners_as_printed_by_r() -> None:
    result = friedman(np.array(RUNNERS.split(), float).reshape(22, 3))
    assert f"{result.chi2:.3f}" == "11.143"
    assert f"{result.p_value:.6f}" == "0.003805"


@given(st.integers(3, 5).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 4), min_size=k, max_size=k), min_size=2, max_size=8)
))  # fmt: skip
def test_friedman_is_that_of_scipy(scores: list[list[int]]) -> None:
    assume(any(len(set(row)) > 1 for row in scores))
    ours, peer = friedman(scores), stats.friedmanchisquare(*np.transpose(scores))
    assert ours.chi2 == pytest.approx(peer.statistic, rel=1e-10, abs=1e-12)
    assert ours.p_value == pytest.approx(peer.pvalue, rel=1e-10)


def test_friedman_where_scipy_has_no_answer() -> None:
    assert friedman([[1, 1, 1], [2, 2, 2]]).p_value == 1
    two = friedman([[1, 0], [3, 1], [2, 5], [4, 2]])  # (3 - 1)**2 / 4: the sign test's chi-square
    assert two.chi2 == pytest.approx(1)
    with pytest.raises(InputError, match="missing"):
        friedman([[1, float("nan")], [1, 2]])
    for shape in ([1, 2], [[1], [2]], [[1, 2], [3]]):
        with pytest.raises(InputError, match="expected"):
            friedman(shape)
