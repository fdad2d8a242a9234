"""Time to event against clinical.md H.5, R (golden.csv), SciPy and slow oracles."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trocar.errors import InputError
from trocar.stats.survival import (
    aalen_johansen,
    kaplan_meier,
    log_rank,
    reverse_kaplan_meier,
)

TABLES = "13_tables_and_golden_statistics"
# clinical.md H.5: 1 recurrence, 2 death, 0 censored
H5_TIMES = [3, 5, 6, 8, 10, 12, 14, 16, 20, 24]
H5_CAUSES = [1, 2, 0, 1, 2, 0, 2, 1, 0, 2]

SAMPLES = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=1, max_size=25
)  # few times: many ties


@pytest.fixture(scope="session")
def golden(data: Path) -> dict[str, str]:
    with (data / TABLES / "golden.csv").open() as file:
        return {row["key"]: row["value"] for row in csv.DictReader(file)}


def rows(data: Path, name: str) -> list[dict[str, str]]:
    with (data / TABLES / name).open() as file:
        return list(csv.DictReader(file))


def same(value: float | None, printed: str) -> bool:
    """Equal to the digits R printed (15), but for the last two, which are rounding."""
    return value is not None and value == pytest.approx(float(printed), rel=1e-13)


# ---- Kaplan-Meier


@pytest.mark.data
@pytest.mark.parametrize("limits", ["log", "log-log", "plain"])
def test_lung_median_is_that_of_r(data: Path, golden: dict[str, str], limits: str) -> None:
    lung = rows(data, "lung.csv")
    median = kaplan_meier(
        [float(r["time"]) for r in lung],
        [r["status"] == "2" for r in lung],
        limits=limits,  # type: ignore[arg-type]
    ).median
    assert median.value == float(golden[f"km.lung.{limits}.median"])
    assert median.low == float(golden[f"km.lung.{limits}.0.95LCL"])
    assert median.high == float(golden[f"km.lung.{limits}.0.95UCL"])


@pytest.mark.data
def test_lung_curve_and_restricted_mean_are_those_of_r(data: Path, golden: dict[str, str]) -> None:
    lung = rows(data, "lung.csv")
    curve = kaplan_meier([float(r["time"]) for r in lung], [r["status"] == "2" for r in lung])
    for day in (90, 180, 365):
        step = curve.at(day)
        assert step is not None
        assert same(step.value, golden[f"km.lung.surv.{day}"])
        assert same(step.se, golden[f"km.lung.se.{day}"])
    assert same(curve.restricted_mean(365).value, golden["km.lung.rmst365"])


@given(SAMPLES)
def test_curve_and_limits_are_those_of_scipy(sample: list[tuple[int, int]]) -> None:
    t = np.array([x for x, _ in sample], float)
    event = np.array([c > 0 for _, c in sample])
    if not event.any():
        assert np.all(kaplan_meier(t, event).survival == 1)
        return
    peer = stats.ecdf(stats.CensoredData(uncensored=t[event], right=t[~event])).sf
    curve = kaplan_meier(t, event)
    assert curve.survival == pytest.approx(peer.evaluate(curve.times), abs=1e-12)
    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            limits = peer.confidence_interval(0.95, method="log-log")
    inside = (curve.survival > 0) & (curve.survival < 1)
    assert curve.low[inside] == pytest.approx(limits.low.evaluate(curve.times)[inside], abs=1e-10)
    assert curve.high[inside] == pytest.approx(limits.high.evaluate(curve.times)[inside], abs=1e-10)


@given(SAMPLES)
def test_death_and_follow_up_curves_multiply_to_those_still_seen(
    sample: list[tuple[int, int]],
) -> None:
    t = np.array([x for x, _ in sample], float)
    event = np.array([c > 0 for _, c in sample])
    forward, back = kaplan_meier(t, event), reverse_kaplan_meier(t, event)
    still = np.array([(t > x).mean() for x in forward.times])
    assert forward.survival * back.survival == pytest.approx(still, abs=1e-12)


def test_follow_up_of_those_alive_is_their_median_when_nobody_dies() -> None:
    median = reverse_kaplan_meier([4, 8, 12, 16, 20], [0, 0, 0, 0, 0]).median
    assert median.value == 12


def test_without_censoring_the_curve_is_the_counted_fraction() -> None:
    t = np.array([1.0, 2, 2, 5, 7, 7, 7, 9])
    curve = kaplan_meier(t, np.ones(8))
    p = np.array([(t > x).mean() for x in curve.times])
    assert curve.survival == pytest.approx(p, abs=1e-15)
    alive = p > 0
    assert curve.se[alive] == pytest.approx(np.sqrt(p * (1 - p) / 8)[alive], abs=1e-15)
    assert curve.restricted_mean(9).value == pytest.approx(t.mean(), abs=1e-14)
    assert curve.restricted_mean(4).value == pytest.approx(np.minimum(t, 4).mean(), abs=1e-14)
    assert curve.restricted_mean(9).se == pytest.approx(t.std() / np.sqrt(8), abs=1e-14)


def test_events_come_before_censorings_of_the_same_time() -> None:
    assert kaplan_meier([5, 5], [True, False]).survival.tolist() == [0.5]


def test_a_flat_at_one_half_gives_its_middle_and_a_curve_above_has_no_median() -> None:
    assert kaplan_meier([1, 2, 3, 4], [1, 1, 1, 1]).median.value == 2.5
    assert kaplan_meier([1, 2, 3, 4], [1, 1, 0, 0]).median.value == 2
    assert kaplan_meier([1, 2, 3, 4], [1, 0, 0, 0]).median.value is None


def test_after_the_last_follow_up_nothing_is_said() -> None:
    open_end = kaplan_meier([1, 2, 3], [1, 1, 0])
    assert open_end.at(3.5) is None
    with pytest.raises(InputError, match="last follow-up at 3"):
        open_end.restricted_mean(4)
    closed = kaplan_meier([1, 2, 3], [1, 0, 1])
    step = closed.at(99)
    assert step is not None
    assert (step.value, step.se, step.at_risk) == (0.0, None, 0)
    first = closed.at(0.5)
    assert first is not None
    assert (first.value, first.low, first.high, first.at_risk) == (1.0, 1.0, 1.0, 3)


# ---- log-rank


@pytest.mark.data
@pytest.mark.parametrize("column", ["sex", "ph.ecog"])
def test_log_rank_of_lung_is_that_of_r(data: Path, golden: dict[str, str], column: str) -> None:
    lung = [r for r in rows(data, "lung.csv") if r[column] != "NA"]
    test = log_rank(
        [float(r["time"]) for r in lung],
        [r["status"] == "2" for r in lung],
        [r[column] for r in lung],
    )
    key = column.removeprefix("ph.")
    assert same(test.statistic, golden[f"logrank.lung.{key}.chisq"])
    assert test.df == len(test.groups) - 1
    assert sum(test.observed) == pytest.approx(sum(test.expected), rel=1e-12)


def test_log_rank_of_the_leukaemia_trial() -> None:
    # Freireich 1963 / Gehan 1965, 6-MP against placebo; chi2 16.8, P 4.17e-5 as R prints them
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    treated = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    relapse = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    test = log_rank(placebo + treated, [1] * 21 + relapse, ["P"] * 21 + ["T"] * 21)
    assert f"{test.statistic:.1f}" == "16.8"
    assert f"{test.p_value:.2e}" == "4.17e-05"
    assert test.observed == (21, 9)


@given(SAMPLES, st.randoms(use_true_random=False))
def test_two_groups_agree_with_scipy(sample: list[tuple[int, int]], random: object) -> None:
    t = np.array([x for x, _ in sample], float)
    event = np.array([c > 0 for _, c in sample])
    group = np.arange(t.size) % 2
    x, y = (
        stats.CensoredData(uncensored=t[event & (group == g)], right=t[~event & (group == g)])
        for g in (0, 1)
    )
    try:
        ours = log_rank(t, event, group)
    except InputError:
        return
    if ours.statistic < 1e-9:
        return
    assert ours.statistic == pytest.approx(stats.logrank(x, y).statistic ** 2, rel=1e-9)


def test_one_group_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="at least two"):
        log_rank([1, 2], [1, 1], ["a", "a"])


# ---- competing risks


def test_competing_risks_of_h5() -> None:
    risks = aalen_johansen(H5_TIMES, H5_CAUSES)
    one, two = risks.cause(1), risks.cause(2)

    def read(curve: object, t: float) -> str:
        step = curve.at(t)  # type: ignore[attr-defined]
        return f"{step.value:.6f}"

    assert [read(one, t) for t in (3, 8, 16)] == ["0.100000", "0.214286", "0.357143"]
    assert [read(two, t) for t in (5, 10, 14, 24)] == [
        "0.100000", "0.214286", "0.357143", "0.642857",
    ]  # fmt: skip
    row = H5_TIMES.index(14)
    assert f"{risks.event_free[row]:.6f}" == "0.428571"
    assert risks.event_free[-1] == 0
    naive = 1 - kaplan_meier(H5_TIMES, np.array(H5_CAUSES) == 1).survival[-1]
    assert f"{naive:.6f}" == "0.485714"  # larger than 0.357143, which is the point


@pytest.mark.data
def test_mgus_incidence_is_that_of_r(data: Path, golden: dict[str, str]) -> None:
    mgus = rows(data, "mgus2.csv")
    progressed = [r["pstat"] == "1" for r in mgus]
    t = [float(r["ptime"] if p else r["futime"]) for r, p in zip(mgus, progressed)]
    cause = [1 if p else 2 * int(r["death"]) for r, p in zip(mgus, progressed)]
    risks = aalen_johansen(t, cause)
    for month in (60, 120, 240):
        for code, name in ((1, "pcm"), (2, "death")):
            step = risks.cause(code).at(month)
            assert step is not None
            assert step.value == pytest.approx(float(golden[f"aj.mgus2.{name}.{month}"]), rel=1e-13)


@given(SAMPLES)
def test_everything_adds_up_to_one(sample: list[tuple[int, int]]) -> None:
    t, c = zip(*sample)
    risks = aalen_johansen(t, c, n_causes=2)
    total = risks.event_free + sum(k.incidence for k in risks.causes)
    assert total == pytest.approx(np.ones_like(total), abs=1e-12)


@given(SAMPLES)
def test_one_cause_is_one_minus_kaplan_meier_with_greenwood(
    sample: list[tuple[int, int]],
) -> None:
    t = [x for x, _ in sample]
    event = [int(c > 0) for _, c in sample]
    curve, risk = kaplan_meier(t, event), aalen_johansen(t, event, n_causes=1).cause(1)
    assert risk.incidence == pytest.approx(1 - curve.survival, abs=1e-12)
    alive = curve.survival > 0
    assert risk.se[alive] == pytest.approx(curve.se[alive], abs=1e-7)


@given(SAMPLES)
def test_greenwood_variance_is_that_of_the_matrix_recursion(
    sample: list[tuple[int, int]],
) -> None:
    """Slow oracle: carry the covariance of (S, F1, F2) through the product of (I + dA)."""
    t = np.array([x for x, _ in sample], float)
    c = np.array([k for _, k in sample])
    risks = aalen_johansen(t, c, n_causes=2)
    state, cov = np.array([1.0, 0, 0]), np.zeros((3, 3))
    for row, time in enumerate(risks.times):
        n = (t >= time).sum()
        a = np.array([((t == time) & (c == k)).sum() for k in (1, 2)]) / n
        step = np.eye(3)
        step[0] = [1 - a.sum(), a[0], a[1]]
        increments = np.zeros((3, 3))
        increments[1:, 1:] = (np.diag(a) - np.outer(a, a)) / n
        increments[0, 1:] = increments[1:, 0] = -increments[1:, 1:].sum(axis=0)
        increments[0, 0] = increments[1:, 1:].sum()
        cov = step.T @ cov @ step + state[0] ** 2 * increments
        state = state @ step
        for k in (1, 2):
            assert risks.cause(k).se[row] ** 2 == pytest.approx(cov[k, k], abs=1e-14)


def test_without_censoring_the_variance_is_binomial_and_aalen_a_little_larger() -> None:
    t, c = np.arange(1, 11), np.array([1, 2, 2, 1, 2, 1, 2, 2, 1, 2])
    ours, theirs = (aalen_johansen(t, c, variance=v).cause(1) for v in ("greenwood", "aalen"))
    f = np.cumsum(c == 1) / 10
    assert ours.se == pytest.approx(np.sqrt(f * (1 - f) / 10), abs=1e-14)
    assert np.all(theirs.se[:-1] > ours.se[:-1])
    # the first time has one term: F1 = 1/10, Aalen divides by n^2 (n - 1)
    assert theirs.se[0] ** 2 == pytest.approx(1 * 9 / (100 * 9), rel=1e-14)


def test_limits_of_an_incidence_are_log_log() -> None:
    step = aalen_johansen(H5_TIMES, H5_CAUSES).cause(1).at(9)
    assert step is not None
    assert step.se is not None
    half = 1.959963984540054 * step.se / (step.value * np.log(step.value))
    assert step.low == pytest.approx(step.value ** np.exp(-half), rel=1e-12)
    assert step.high == pytest.approx(step.value ** np.exp(half), rel=1e-12)
    assert step.low < step.value < step.high


@pytest.mark.parametrize(
    ("times", "codes", "words"),
    [
        ([], [], "at least one"),
        ([1, 2], [1], "2 times came with 1"),
        ([1, -2], [1, 0], "time 1 is -2"),
        ([1, float("nan")], [1, 0], "time 1 is nan"),
        ([1, 2], [1, 2], r"events\[1\] is 2"),
        ([1, 2], [1, None], r"events\[1\] is nan"),
        (["a", 2], [1, 0], "must be numbers"),
    ],
)
def test_what_cannot_be_used_is_said(times: list, codes: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        kaplan_meier(times, codes)


def test_an_unknown_cause_is_said() -> None:
    with pytest.raises(InputError, match="cause 3 was asked for; the causes are 1, 2"):
        aalen_johansen(H5_TIMES, H5_CAUSES).cause(3)
