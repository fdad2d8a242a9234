"""Proportions of lesions when patients have several."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trocar.errors import InputError
from trocar.stats.clusters import cluster_proportion


def test_clusters_of_one_give_clopper_and_pearson() -> None:
    found = cluster_proportion([True] * 8 + [False] * 57, list(range(65)))
    assert found.effective_n == pytest.approx(65)
    assert found.design_effect == pytest.approx(1)
    exact = stats.binomtest(8, 65).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_whole_clusters_alike_count_about_once() -> None:
    # 20 patients with two lesions alike: by hand, residuals are +-1, so the variance is
    # 20/19 * 39/40 * 20/1600 and the design effect 20/19 * 39/40 * 2.
    outcomes = np.repeat([True, False] * 10, 2)
    found = cluster_proportion(outcomes, np.repeat(np.arange(20), 2))
    assert found.design_effect == pytest.approx(20 / 19 * 39 / 40 * 2)
    t = stats.t.ppf(0.975, 39) / stats.t.ppf(0.975, 19)
    assert found.effective_n == pytest.approx(40 / found.design_effect * t**2)
    half = stats.beta.ppf(0.025, found.effective_n / 2, found.effective_n / 2 + 1)
    assert found.low == pytest.approx(half)


def test_none_of_all_counts_patients() -> None:
    found = cluster_proportion([False] * 11, ["a", "a", *"bcdefghij"])
    assert found.design_effect is None
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_coverage_with_correlated_lesions() -> None:
    rng = np.random.default_rng(3)
    hit = plain = 0
    for _ in range(400):
        p = rng.beta(2, 6, 60)  # mean 0.25, correlation 1/9
        who = np.repeat(np.arange(60), 4)
        y = rng.random(240) < p[who]
        found = cluster_proportion(y, who)
        hit += found.low <= 0.25 <= found.high
        exact = stats.binomtest(int(y.sum()), 240).proportion_ci(method="exact")
        plain += exact.low <= 0.25 <= exact.high
    assert 0.93 <= hit / 400 <= 0.99
    assert plain < hit


@pytest.mark.parametrize(("y", "who"), [([], []), ([True], ["a", "b"]), ([2.0], ["a"])])
def test_what_cannot_be_used(y: list[float], who: list[str]) -> None:
    with pytest.raises(InputError):
        cluster_proportion(y, who)
