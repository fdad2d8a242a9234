"""Printed numbers that can and cannot be right; GRIM and GRIMMER against all there is."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from functools import cache
from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trocar.audit.arithmetic import (
    check_change,
    check_interval,
    check_mean,
    check_p_value,
    check_percent,
    check_sd,
    check_total,
    possible_counts,
    rounded,
)
from trocar.errors import InputError

MODES = {"half up": ROUND_HALF_UP, "half even": ROUND_HALF_EVEN, "cut off": ROUND_DOWN}


def in_decimal(value: Fraction, digits: int, mode: str) -> Decimal:
    """The oracle: Python's decimal rounds, from 60 digits."""
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        return exact.quantize(Decimal(1).scaleb(-digits), rounding=mode)


# ---- rounding


@given(
    st.fractions(min_value=-200, max_value=200, max_denominator=400),
    st.integers(0, 3),
    st.sampled_from(sorted(MODES)),
)
def test_rounding_is_that_of_decimal(value: Fraction, digits: int, how: str) -> None:
    # a third, not 0.333...: 60 digits decide any half that a denominator of 400 can make
    assert Decimal(rounded(value, digits, how)) == in_decimal(value, digits, MODES[how])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "digits", "up", "even", "cut"),
    [
        (Fraction(5, 2), 0, "3", "2", "2"),
        (Fraction(7, 2), 0, "4", "4", "3"),
        (Fraction(-5, 2), 0, "-3", "-2", "-2"),
        (Fraction(-1, 3), 0, "0", "0", "0"),
        (Fraction(9999, 100), 1, "100.0", "100.0", "99.9"),
        (Fraction(1, 200), 2, "0.01", "0.00", "0.00"),
    ],
)
def test_rounding(value: Fraction, digits: int, up: str, even: str, cut: str) -> None:
    assert [rounded(value, digits, h) for h in ("half up", "half even", "cut off")] == [
        up,
        even,
        cut,
    ]


# ---- percentages


def test_a_right_percentage() -> None:
    flag = check_percent(7, 18, "39")
    assert (flag.verdict, flag.should_be, flag.flagged) == ("possible", "39", False)
    assert flag.roundings == ("half up", "half even")
    assert flag.candidates == ("7",)


def test_a_half_may_be_rounded_up_or_to_even() -> None:
    assert check_percent(1, 8, "12.5").verdict == "possible"
    assert check_percent(1, 8, "13").roundings == ("half up",)
    assert check_percent(1, 8, "12").roundings == ("half even", "cut off")
    assert check_percent(1, 8, "12").verdict == check_percent(1, 8, "13").verdict == "possible"


def test_trailing_zeros_are_a_claim() -> None:
    assert check_percent(1, 3, "33").verdict == "possible"
    assert check_percent(1, 3, "33.0").verdict == "impossible"
    assert check_percent(1, 3, "33", digits=1).verdict == "impossible"
    assert check_percent(1, 3, 33.3).verdict == "possible"


@pytest.mark.parametrize(
    ("x", "n", "printed", "verdict", "should_be"),
    [
        (15, 25, "59", "impossible", "60"),
        (10, 25, "41", "impossible", "40"),
        (852, 861, "98.9", "only if", "99.0"),
        (64, 113, "56.63", "only if", "56.64"),
        (64, 113, "56.64", "possible", "56.64"),
        (11, 113, "9.73", "possible", "9.73"),
    ],
)
def test_percentages_of_papers(x: int, n: int, printed: str, verdict: str, should_be: str) -> None:
    flag = check_percent(x, n, printed)
    assert (flag.verdict, flag.should_be) == (verdict, should_be)
    assert flag.flagged == (verdict != "possible")
    if verdict == "only if":
        assert "cut off" in flag.why


@given(st.integers(1, 400), st.integers(0, 2), st.data())
def test_possible_counts_are_all_there_are(n: int, digits: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(0, 100 * 10**digits))
    printed = format(Decimal(steps).scaleb(-digits), "f")
    every = tuple(
        x
        for x in range(n + 1)
        if Decimal(printed)
        in {in_decimal(Fraction(100 * x, n), digits, m) for m in (ROUND_HALF_UP, ROUND_HALF_EVEN)}
    )
    assert possible_counts(n, printed) == every


# ---- totals


def test_a_total_of_parts() -> None:
    assert check_total([6, 12, 5, 19, 2], 44).verdict == "possible"
    flag = check_total({"a": 664, "b": 67, "c": 30}, 861)
    assert (flag.verdict, flag.should_be) == ("impossible", "761")
    assert flag.candidates == ("a 764 for 664", "b 167 for 67", "c 130 for 30")
    assert check_total([664, 167, 30], 861).verdict == "possible"


def test_slips_that_would_close_a_total() -> None:
    assert check_total({"a": 21, "b": 30}, 42).candidates == ("a 12 for 21",)  # swapped
    assert check_total({"a": 455, "b": 1}, 46).candidates == ("a 45 for 455",)  # doubled
    assert check_total({"a": 5, "b": 5}, 100).candidates == ("a 95 for 5", "b 95 for 5")
    assert check_total({"a": 500, "b": 5}, 100).candidates == ()


def test_rounded_parts_may_miss_by_their_roundings() -> None:
    assert check_total(["33", "33", "33"], "100").verdict == "impossible"
    assert check_total(["33", "33", "33"], "100", rounded_parts=True).verdict == "possible"
    assert check_total(["33", "33", "31"], "100", rounded_parts=True).verdict == "impossible"
    assert check_total(["60.1", "26.2", "12.3", "1.4"], "100").verdict == "possible"


# ---- GRIM and GRIMMER against everything there is


@cache
def everything(n: int, top: int) -> frozenset[tuple[str, str, str]]:
    """Every (rounding, mean, SD) that n whole scores 0..top can be printed with, 1 decimal each.

    With means of 2 decimals too. The oracle: all sets of scores, one by one.
    """
    found = set()
    for scores in combinations_with_replacement(range(top + 1), n):
        mean = Fraction(sum(scores), n)
        variance = sum((Fraction(s) - mean) ** 2 for s in scores) / (n - 1)
        with localcontext() as context:
            context.prec = 60
            root = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()
            for mode in (ROUND_HALF_UP, ROUND_HALF_EVEN):
                for other in (ROUND_HALF_UP, ROUND_HALF_EVEN):
                    for places in ("0.1", "0.01"):
                        sd = root.quantize(Decimal(places), rounding=other)
                        for digits in (1, 2):
                            found.add((places, str(in_decimal(mean, digits, mode)), str(sd)))
    return frozenset(found)


def tenths(low: int, high: int, digits: int) -> Iterator[str]:
    for k in range(low * 10**digits, high * 10**digits + 1):
        yield format(Decimal(k).scaleb(-digits), "f")


@pytest.mark.parametrize(("n", "top"), [(2, 10), (3, 4), (4, 10), (5, 4), (6, 3), (7, 2)])
def test_every_mean_of_few_scores(n: int, top: int) -> None:
    for digits in (1, 2):
        there_are = {m for _, m, _ in everything(n, top) if len(m.partition(".")[2]) == digits}
        for mean in tenths(0, top + 1, digits):
            verdict = check_mean(mean, n, low=0, high=top).verdict
            assert (verdict == "possible") == (mean in there_are), (mean, verdict)


@pytest.mark.parametrize(("n", "top"), [(2, 10), (3, 4), (4, 5), (5, 4), (6, 3)])
def test_every_sd_of_few_scores(n: int, top: int) -> None:
    there_are = everything(n, top)
    for mean in tenths(0, top, 1):
        for sd in tenths(0, top, 1):
            verdict = check_sd(mean, sd, n, low=0, high=top).verdict
            assert (verdict == "possible") == (("0.1", mean, sd) in there_are), (mean, sd)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 5), st.integers(0, 1000), st.integers(0, 800))
def test_means_and_sds_with_two_decimals(n: int, mean_steps: int, sd_steps: int) -> None:
    mean, sd = (format(Decimal(k).scaleb(-2), "f") for k in (mean_steps, sd_steps))
    expected = ("0.01", mean, sd) in everything(n, 10)
    assert (check_sd(mean, sd, n).verdict == "possible") == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 10), min_size=2, max_size=60), st.integers(0, 2))
def test_what_was_scored_is_never_blamed(scores: list[int], digits: int) -> None:
    n, mean = len(scores), Fraction(sum(scores), len(scores))
    variance = sum((Fraction(s) - mean) ** 2 for s in scores) / (n - 1)
    with localcontext() as context:
        context.prec = 60
        root = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()
        sd = str(root.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP))
    shown = str(in_decimal(mean, digits, ROUND_HALF_UP))
    assert check_mean(shown, n).verdict == "possible"
    assert check_sd(shown, sd, n).verdict == "possible"


def test_published_examples_of_grim() -> None:
    """Brown and Heathers' own: 5.19 of 28 whole scores cannot be, 5.18 and 5.21 can."""
    assert check_mean("5.19", 28).verdict == "impossible"
    assert check_mean("5.19", 28).candidates == ("5.18", "5.21")
    assert check_mean("5.18", 28).verdict == check_mean("5.21", 28).verdict == "possible"


def test_steps_and_items_make_the_grain() -> None:
    assert check_mean("8.19", 51).verdict == "only if"  # 418/51 = 8.196, cut off
    assert check_mean("8.19", 51, step="0.1").verdict == "possible"
    assert check_mean("3.45", 20, high=7).verdict == "possible"
    assert check_mean("3.47", 20, high=7).verdict == "impossible"
    assert check_mean("3.47", 20, items=3, high=7).verdict == "possible"  # 208/60
    assert check_mean("3.45", 10, low=1, high=7).verdict == "impossible"
    assert check_mean("0.95", 20, low=1, high=7).verdict == "impossible"  # below the scale
    assert check_mean("10.05", 20).verdict == "impossible"  # above it
    assert check_mean("10.05", 20, low=None, high=None).verdict == "possible"
    assert check_mean("-0.35", 20, low=None, high=None).verdict == "possible"
    assert check_mean("-0.36", 20, low=None, high=None).verdict == "impossible"


def test_a_mean_that_tells_nothing_says_so() -> None:
    assert "any" in check_mean("4.2", 31).why
    assert check_mean("4.19", 31).why == "31 scores can have the mean 4.19"
    assert check_mean("4.2", None).verdict == "cannot be checked"
    assert check_sd("4.2", "1.1", None).verdict == "cannot be checked"
    assert check_sd("4", "0", 1).verdict == "cannot be checked"


def test_an_sd_over_n() -> None:
    """0, 0, 0, 10: mean 2.5, SD 5.0 over n - 1 and 4.33 over n."""
    assert check_sd("2.5", "5.00", 4).verdict == "possible"
    flag = check_sd("2.5", "4.33", 4)
    assert (flag.verdict, flag.flagged) == ("only if", True)
    assert "over n" in flag.why
    assert check_sd("2.5", "5.01", 4).verdict == "impossible"  # beyond the scale


def test_an_sd_of_wrong_parity_and_of_no_scores() -> None:
    assert check_sd("5.0", "0.3", 10).verdict == "impossible"
    assert check_sd("0.0", "0.0", 10).verdict == "possible"
    assert check_sd("0.0", "0.5", 10).verdict == "impossible"
    assert check_sd("5.19", "1.00", 28).verdict == "impossible"
    assert "mean" in check_sd("5.19", "1.00", 28).why


def test_an_sd_just_half_way() -> None:
    """15 times 0 and one 1: SD 0.25, printed 0.3 or, to the even digit, 0.2. With one 3: 0.75."""
    assert check_sd("0.06", "0.3", 16).verdict == "possible"
    assert check_sd("0.06", "0.2", 16).verdict == "possible"
    assert check_sd("0.19", "0.8", 16).verdict == "possible"
    assert check_sd("0.19", "0.7", 16).verdict == "only if"  # 0.73 over n


def test_an_sd_of_any_sum_that_prints_the_mean() -> None:
    """10, 10, 10, 9 have the mean 9.75, printed 10, and the SD 0.50; 40 in all would have none."""
    assert check_sd("10", "0.50", 4).verdict == "possible"
    assert check_sd("10", "0.51", 4).verdict == "impossible"


def test_large_series_are_judged_by_what_cannot_be() -> None:
    """Too many sets to count out: reach and parity only, and it says so."""
    fine = check_sd("42.1", "23.4", 400, high=100)
    beyond = check_sd("42.1", "49.9", 400, high=100)
    assert (fine.verdict, beyond.verdict) == ("possible", "impossible")
    assert "nothing forbids" in fine.why


# ---- changes, limits, P


def test_changes_of_rounded_means() -> None:
    assert check_change("9.1", "2.1", "7.0").verdict == "possible"
    assert check_change("84.2", "45.6", "38.6").verdict == "possible"
    assert check_change("84.2", "45.6", "38.7").verdict == "possible"  # 84.24 - 45.56 = 38.68
    assert check_change("84.2", "45.6", "38.8").verdict == "impossible"
    assert check_change("84.2", "45.6", "38.8").should_be == "38.6"
    assert check_change("84.2", "45.6", "39").verdict == "possible"
    assert check_change("1.1", "2.1", "-1.0").verdict == "possible"


def test_limits_of_a_percentage() -> None:
    assert check_interval(8, 23, "16.4", "57.3").candidates == ("Clopper-Pearson",)
    twice = check_interval(19, 28, "47.7", "84.1")  # 47.648, by way of 47.65
    assert (twice.verdict, twice.should_be) == ("only if", "47.6–84.1")
    assert check_interval(9, 18, "29.0", "71.0").candidates == ("Wilson",)
    assert check_interval(9, 18, "20.0", "71.0").verdict == "cannot be checked"


def test_a_sign_test() -> None:
    assert check_p_value("0.039", better=8, worse=1, ties=1).verdict == "possible"
    assert check_p_value("P = 0.0391", better=8, worse=1).verdict == "possible"
    wrong = check_p_value("0.021", better=8, worse=1)
    assert (wrong.verdict, wrong.should_be) == ("impossible", "0.039")
    assert check_p_value("<0.05", better=8, worse=1).verdict == "possible"
    assert check_p_value("p < 0.01", better=8, worse=1).verdict == "impossible"


def test_a_p_that_does_not_follow() -> None:
    flag = check_p_value("p < 0.0016", n=14)
    assert (flag.verdict, flag.flagged) == ("cannot be checked", False)
    assert "not derivable" in flag.why
    # clinical.md A.4: what the usual tests would have given
    assert set(flag.candidates) >= {
        "sign test, 14 of 14 better: 0.000122",
        "signed rank, exact, 14 of 14 better: 0.000122",
        "signed rank, normal, 14 of 14 better: 0.000982",
        "signed rank, normal, 13 of 13 better: 0.00147",
        "signed rank, normal with continuity correction, 13 of 13 better: 0.00166",
        "sign test, 13 of 14 better: 0.00183",
    }


# ---- what was given


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: check_percent(3, 0, "1"), "whole number"),
        (lambda: check_percent(4, 3, "1"), "expected 0 to n"),
        (lambda: check_percent(1, 3, "about a third"), "expected a number"),
        (lambda: check_percent(1, 3, "33.33", digits=1), "more than the 1 decimals"),
        (lambda: check_percent(1, 3, "nan"), "expected a number"),
        (lambda: check_sd("5", "-1", 10), "0 or more"),
        (lambda: check_mean("5", 10, step=0), "more than 0"),
        (lambda: check_mean("5", 10, low=0, high="10.5"), "whole number of steps"),
        (lambda: check_p_value("1.2", better=1, worse=1), "0 to 1"),
    ],
)
def test_what_cannot_be_read_is_said(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()  # type: ignore[operator]
