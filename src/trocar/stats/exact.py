"""Small numbers, told exactly: proportions with intervals, and tests of paired scores and tables.

What SciPy does right is left to it (Fisher's test, beta quantiles, Student's t). Written here:

- the signed-rank test, because ``scipy.stats.wilcoxon(method="exact")`` takes the distribution of
  ranks without ties and zeros, which pain scores always have, and so gives another P;
- the sign test, McNemar's and the intervals of a proportion, which are a line each once binomial
  tails are kept, and are wanted by the ten thousand;
- Friedman's test, because SciPy refuses two columns and gives nan when every row is one tie.

Differences of paired scores are *before less after*, so that more than 0 is better where a score
measures pain. Every pair must have both values: a missing one is an error here, and the rule that
fills gaps is the caller's.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from trocar.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Zeros = Literal["drop", "pratt"]
SignedRankMethod = Literal["exact", "normal", "normal-continuity"]

EXACT_TAILS = 1000  # binomial tails by whole numbers up to this many trials
EXACT_RANKS = 300  # the signed-rank distribution is counted up to this many differences
WALSH_MEANS = 8_000_000  # pairs of distinct values held at once


# ---- proportions


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval with the level it has: where a test is discrete, the attained one.

    A proportion's limits are fractions; any other's are in the unit of what was measured.
    """

    low: float
    high: float
    level: float
    method: str

    def percent_text(self, digits: int = 1) -> str:
        """Limits of a proportion for print.

        >>> Proportion(9, 18).wilson().percent_text()
        '29.0–71.0'
        """
        return f"{100 * self.low:.{digits}f}–{100 * self.high:.{digits}f}"


@dataclass(frozen=True)
class Proportion:
    """``x`` events in ``n`` trials: what is kept wherever a percentage is shown.

    Without trials there is no fraction (None), and every interval is 0 to 1. Raises InputError
    unless both are whole numbers and 0 <= x <= n.

    >>> print(Proportion(9, 18))
    9/18 (50 %)
    """

    x: int
    n: int

    def __post_init__(self) -> None:
        for name in ("x", "n"):
            object.__setattr__(self, name, _count(getattr(self, name), f"{name} of a proportion"))
        if self.x > self.n:
            raise InputError(
                f"a proportion of {self.x} in {self.n} was given; expected no more events than "
                "trials: check that both count the same patients or lesions"
            )

    @property
    def fraction(self) -> float | None:
        """The share of trials with an event, 0 to 1; None without trials."""
        return self.x / self.n if self.n else None

    @property
    def percent(self) -> float | None:
        """The share of trials with an event in per cent; None without trials."""
        return 100 * self.x / self.n if self.n else None

    def percent_text(self, digits: int = 0) -> str:
        """The percentage as NICE prints it: half is rounded up. "–" without trials.

        In whole numbers, for 100 * 0.285 is less than 28.5 to a computer.

        >>> Proportion(57, 200).percent_text(), Proportion(7, 18).percent_text(1)
        ('29', '38.9')
        """
        if not self.n:
            return "–"
        ones = 10**digits
        steps = (200 * self.x * ones + self.n) // (2 * self.n)
        whole, rest = divmod(steps, ones)
        return f"{whole}.{rest:0{digits}d}" if digits else f"{whole}"

    def __str__(self) -> str:
        return f"{self.x}/{self.n} ({self.percent_text()} %)" if self.n else f"{self.x}/{self.n}"

    def clopper_pearson(self, level: float = 0.95) -> Interval:
        """Which true fractions does neither one-sided exact test reject?

        Never less than ``level``, and on small series well above it.
        Clopper CJ, Pearson ES. Biometrika 1934;26:404-13.
        """
        tail, x, n = _tail(level), self.x, self.n
        return Interval(
            low=float(special.betaincinv(x, n - x + 1, tail)) if x else 0.0,
            high=float(special.betainccinv(x + 1, n - x, tail)) if x < n else 1.0,
            level=level,
            method="Clopper-Pearson",
        )

    def wilson(self, level: float = 0.95) -> Interval:
        """Which true fractions does the score test not reject, without continuity correction?

        On average it holds its level; for one true fraction it may fall short.
        Wilson EB. J Am Stat Assoc 1927;22:209-12.
        """
        z, x, n = float(special.ndtri(1 - _tail(level))), self.x, self.n
        centre = x + z * z / 2
        half = z * math.sqrt(x * (n - x) / n + z * z / 4) if n else z * z / 2
        return Interval(
            low=(centre - half) / (n + z * z) if x else 0.0,
            high=(centre + half) / (n + z * z) if x < n else 1.0,
            level=level,
            method="Wilson",
        )

    def mid_p(self, level: float = 0.95) -> Interval:
        """As Clopper and Pearson, but what was observed counts half: shorter, near the level.

        Lancaster HO. J Am Stat Assoc 1961;56:223-34.
        """
        tail = _tail(level)
        return Interval(
            low=_mid_p_low(self.x, self.n, tail),
            high=1 - _mid_p_low(self.n - self.x, self.n, tail),
            level=level,
            method="mid-P",
        )


def _mid_p_low(x: int, n: int, tail: float) -> float:
    if x == 0:
        return 0.0

    def excess(p: float) -> float:
        above = special.betainc(x + 1, n - x, p) if x < n else 0.0
        return float((special.betainc(x, n - x + 1, p) + above) / 2 - tail)

    return float(optimize.brentq(excess, 0.0, 1.0, xtol=1e-16, rtol=1e-15))


# ---- paired scores


@dataclass(frozen=True, kw_only=True)
class SignTest:
    """How many pairs got better, worse or stayed, and the exact two-sided P.

    P is 1 where every pair is a tie.
    """

    better: int
    worse: int
    ties: int
    p_value: float


def sign_test(better: int, worse: int, ties: int = 0) -> SignTest:
    """Do pairs get better as often as worse? Ties are left out, as Dixon and Mood do.

    P = min(1, 2 sum of C(n, i) / 2**n for i up to the smaller count), in whole numbers and
    rounded once up to 1000 untied pairs, by the beta integral above that. Raises InputError for
    counts that are none, and where there is no pair at all. J Am Stat Assoc 1946;41:557-66.

    >>> sign_test(better=8, worse=1, ties=1).p_value
    0.0390625
    """
    better, worse = _count(better, "better pairs"), _count(worse, "worse pairs")
    ties = _count(ties, "tied pairs")
    if better + worse + ties == 0:
        raise InputError("a sign test was asked for without any pair; expected at least one")
    p = _sign_p(better + worse, min(better, worse))
    return SignTest(better=better, worse=worse, ties=ties, p_value=p)


def sign_test_of(differences: ArrayLike, *, step: float | None = None) -> SignTest:
    """The sign test of differences before less after: more than 0 is better, 0 a tie.

    ``step`` is the step of the scale (0.1 for centimetres read to the millimetre). Give it with
    decimals, where the computer's 0.3 - (0.1 + 0.2) is not 0.
    """
    d = _differences(differences, step)
    better, worse = int(np.count_nonzero(d > 0)), int(np.count_nonzero(d < 0))
    return sign_test(better, worse, len(d) - better - worse)


@dataclass(frozen=True, kw_only=True)
class SignedRank:
    """Wilcoxon's sums of ranks and the two-sided P.

    ``n`` differences are not 0, ``zeros`` are, and ``ties`` of the n share their size with
    another. ``w_plus`` belongs to differences above 0.
    """

    w_plus: float
    w_minus: float
    n: int
    zeros: int
    ties: int
    p_value: float
    method: SignedRankMethod

    @property
    def exact(self) -> bool:
        """Whether P was counted, not approximated."""
        return self.method == "exact"


def signed_rank(
    differences: ArrayLike,
    *,
    zeros: Zeros = "drop",
    method: SignedRankMethod | None = None,
    step: float | None = None,
) -> SignedRank:
    """Are differences before less after as often and as far above 0 as below?

    Wilcoxon's test on the *conditional* distribution: the ranks are those observed, mid-ranks with
    ties, and only signs are tossed. P is the share of the 2**n sign patterns whose W lies at least
    as far from its mean as the observed one, counted in whole numbers and rounded once.
    ``zeros`` either leave before ranking (Wilcoxon) or are ranked and then leave (Pratt).

    ``method`` None counts up to 300 ranked differences, and above that takes the normal
    approximation with continuity correction; the result says which. At 300 it is off by at most
    0.0006 without ties; where many tie, attainable sums lie apart and it can be off by 0.02. The
    two "normal" ones may be asked for, to see what a paper's software did. ``step``: see
    :func:`sign_test_of`.

    Why not SciPy: ``wilcoxon(method="exact")`` (1.17) sums over ranks 1 to n, as if there were no
    ties and no zeros: for the ten pairs below it gives 0.0391, with Pratt's zeros 0.0371, where
    counting gives 18/512 and 12/512. Its default counts up to 13 pairs and approximates above.

    >>> signed_rank([5, 0, 5, 5, 3, 1, -2, 1, 2, 1]).p_value
    0.03515625

    Raises InputError for a missing difference, none at all, or ``method="exact"`` above 300.
    Wilcoxon F. Biometrics Bull 1945;1:80-3; Pratt JW. J Am Stat Assoc 1959;54:655-67.
    """
    d = _differences(differences, step)
    if zeros not in ("drop", "pratt"):
        raise InputError(f"zeros={zeros!r} was given; expected 'drop' or 'pratt'")
    kept = d[d != 0]
    size = np.abs(kept)
    ordered = np.sort(size)
    first, last = np.searchsorted(ordered, size), np.searchsorted(ordered, size, "right")
    doubled = first + last + 1  # twice the mid-rank, so that all sums are whole
    if zeros == "pratt":
        doubled = doubled + 2 * (len(d) - len(kept))  # zeros hold the lowest ranks
    plus, total = int(doubled[kept > 0].sum()), int(doubled.sum())
    ranked = len(d) if zeros == "pratt" else len(kept)
    if method is None:
        method = "exact" if ranked <= EXACT_RANKS else "normal-continuity"
    if method == "exact" and ranked > EXACT_RANKS:
        raise InputError(
            f"an exact signed-rank test of {ranked} differences was asked for; expected at most "
            f"{EXACT_RANKS}: leave the method out, and the normal approximation is taken"
        )
    if method == "exact":
        p = _flip_p(doubled.tolist(), plus)
    else:
        p = _signed_rank_normal_p(doubled, plus, continuity=method == "normal-continuity")
    return SignedRank(
        w_plus=plus / 2,
        w_minus=(total - plus) / 2,
        n=len(kept),
        zeros=len(d) - len(kept),
        ties=int(np.count_nonzero(last - first > 1)),
        p_value=p,
        method=method,
    )


def _signed_rank_normal_p(doubled: Ints, plus: int, *, continuity: bool) -> float:
    """Normal approximation with the conditional variance, sum r**2 / 4: right for ties and zeros.

    The correction is half a rank, as in R and SciPy, or half the step between attainable sums where
    that is more: with differences all of one size this is a sign test, and half a rank is nothing.
    """
    ranks = doubled.astype(np.float64)
    correction = max(1.0, math.gcd(*doubled.tolist()) / 2) if continuity else 0.0
    away = max(0.0, abs(plus - float(ranks.sum()) / 2) - correction)
    sd = math.sqrt(float(ranks @ ranks)) / 2
    return math.erfc(away / sd / math.sqrt(2)) if sd else 1.0


@dataclass(frozen=True, kw_only=True)
class PermutationTest:
    """The mean of n differences, and the exact two-sided P with their signs tossed."""

    mean: float
    n: int
    p_value: float


def paired_permutation(differences: ArrayLike, *, step: float | None = None) -> PermutationTest:
    """How often is the mean difference as far from 0, had each pair been swapped by a coin?

    Fisher's randomisation test: the share of the 2**n sign patterns whose absolute sum is at least
    the observed one, counted exactly. With whole numbers, or ``step`` (:func:`sign_test_of`), n
    may be in the hundreds; without a common step at most 36 can be counted, and more raise
    InputError, as does a missing difference. Fisher RA. The Design of Experiments, 1935, s. 21.
    """
    d = _differences(differences, step)
    kept = d[d != 0]
    ratios = [float(size).as_integer_ratio() for size in np.abs(kept)]
    scale = max((bottom for _, bottom in ratios), default=1)  # powers of two: the largest is common
    weights = [top * (scale // bottom) for top, bottom in ratios]
    plus = sum(weight for weight, value in zip(weights, kept, strict=True) if value > 0)
    mean = math.fsum(d) / len(d) * (1.0 if step is None else step)
    return PermutationTest(mean=mean, n=len(d), p_value=_flip_p(weights, plus))


@dataclass(frozen=True, kw_only=True)
class HodgesLehmann:
    """A typical difference and the interval that belongs to the signed-rank test.

    ``interval`` is None where so few differences cannot attain the level.
    """

    estimate: float
    n: int
    interval: Interval | None


def hodges_lehmann(differences: ArrayLike, level: float = 0.95) -> HodgesLehmann:
    """What difference is typical: the median of the means of all pairs, each with itself too?

    The interval runs between two of these Walsh means, counted in from either end by the exact
    distribution of the signed rank (normal above 300 differences); its ``level`` is the attained
    one, the least that is not below ``level``. With ties the true level is at least that, if the
    differences lie symmetrically. Where symmetry is not to be believed see
    :func:`median_interval`. Raises InputError for a missing difference, and for more than about
    4000 different values: round them.
    Hodges JL, Lehmann EL. Ann Math Stat 1963;34:598-611.
    """
    d, tail = _differences(differences, None), _tail(level)
    value, times = np.unique(d, return_counts=True)
    if len(value) * (len(value) + 1) // 2 > WALSH_MEANS:
        raise InputError(
            f"{len(value)} different values were given; expected at most "
            f"{math.isqrt(2 * WALSH_MEANS)}: round to the step of the scale"
        )
    i, j = np.triu_indices(len(value))
    means = (value[i] + value[j]) / 2
    copies = np.where(i == j, times[i] * (times[i] + 1) // 2, times[i] * times[j])
    order = np.argsort(means, kind="stable")
    means, ends = means[order], np.cumsum(copies[order])

    def walsh(k: int) -> float:
        return float(means[np.searchsorted(ends, k)])  # the k-th smallest, from 1

    m, n = int(ends[-1]), len(d)
    cut, below = _signed_rank_cut(n, tail)
    return HodgesLehmann(
        estimate=(walsh((m + 1) // 2) + walsh(m // 2 + 1)) / 2,
        n=n,
        interval=None
        if cut == 0
        else Interval(
            low=walsh(cut), high=walsh(m + 1 - cut), level=1 - 2 * below, method="signed rank"
        ),
    )


@lru_cache(maxsize=512)
def _signed_rank_cut(n: int, tail: float) -> tuple[int, float]:
    """How many Walsh means are cut off, the last kept one included, and P(W < that).

    0 where even the outermost would leave too much.
    """
    if n > EXACT_RANKS:
        mean, sd = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        cut = math.floor(mean + sd * float(special.ndtri(tail)) + 0.5)
        return cut, float(special.ndtr((cut - 0.5 - mean) / sd))
    from trocar.stats.sums import subset_counts

    counts = subset_counts(range(1, n + 1), n * (n + 1) // 4)
    below = [total / 2**n for total in accumulate(counts)]
    cut = sum(1 for p in below if p <= tail)
    return (cut, below[cut - 1]) if cut else (0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Median:
    """A median with its order-statistic interval; None where n cannot attain the level."""

    value: float
    n: int
    interval: Interval | None


def median_interval(values: ArrayLike, level: float = 0.95) -> Median:
    """What is the median, and between which two observed values does it lie?

    The interval is that of the sign test and asks nothing of the distribution. Its ``level`` is
    the attained one, the least that is not below ``level``; fewer than 6 values cannot reach 95 %.

    >>> median_interval([-2, 0, 1, 1, 1, 2, 3, 5, 5, 5]).interval
    Interval(low=0.0, high=5.0, level=0.978515625, method='order statistics')

    Raises InputError for a missing value or none. Thompson WR. Ann Math Stat 1936;7:122-8.
    """
    ordered, tail = np.sort(_differences(values, None)), _tail(level)
    n = len(ordered)
    cut = sum(1 for p in _sign_ps(n) if p <= 2 * tail)
    return Median(
        value=float(np.median(ordered)),
        n=n,
        interval=None
        if cut == 0
        else Interval(
            low=float(ordered[cut - 1]),
            high=float(ordered[n - cut]),
            level=1 - _sign_p(n, cut - 1),
            method="order statistics",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class MeanChange:
    """A mean change with Student's t. ``t`` and P are None where the changes have no spread."""

    change: float
    sd: float
    n: int
    t: float | None
    df: int
    p_value: float | None
    interval: Interval


def paired_t(differences: ArrayLike, level: float = 0.95) -> MeanChange:
    """What is the mean difference, how sure is it, and is it 0?

    Raises InputError for a missing difference or fewer than two.
    """
    d = _differences(differences, None)
    if len(d) < 2:
        raise InputError("one difference was given to a t test; expected at least two")
    sd = float(d.std(ddof=1)) if np.ptp(d) else 0.0  # 0.1 thrice is no spread, rounding or not
    return _mean_change(float(d.mean()), sd, len(d), level)


def _mean_change(change: float, sd: float, n: int, level: float) -> MeanChange:
    df, se = n - 1, sd / math.sqrt(n)
    reach = -float(special.stdtrit(df, _tail(level))) * se
    t = change / se if se else None
    return MeanChange(
        change=change,
        sd=sd,
        n=n,
        t=t,
        df=df,
        p_value=None if t is None else min(1.0, 2 * float(special.stdtr(df, -abs(t)))),
        interval=Interval(low=change - reach, high=change + reach, level=level, method="t"),
    )


@dataclass(frozen=True, kw_only=True)
class UnpairedChange:
    """What a paper lets one know that prints mean and SD of either visit, and no pairs.

    The SD of the change depends on the correlation r of the two visits, which is not printed.
    """

    mean0: float
    sd0: float
    mean1: float
    sd1: float
    n: int

    @property
    def change(self) -> float:
        """Mean before less mean after."""
        return self.mean0 - self.mean1

    @property
    def percent(self) -> float | None:
        """The change in per cent of the mean before; None where that is 0."""
        return 100 * self.change / self.mean0 if self.mean0 else None

    def at(self, r: float, level: float = 0.95) -> MeanChange:
        """The paired t test as it would be with correlation ``r``."""
        if not -1 <= r <= 1:
            raise InputError(f"a correlation of {r:g} was given; expected -1 to 1")
        # s0**2 + s1**2 - 2 r s0 s1, so written that equal SDs with r = 1 leave 0
        variance = (self.sd0 - self.sd1) ** 2 + 2 * (1 - r) * self.sd0 * self.sd1
        return _mean_change(self.change, math.sqrt(variance), self.n, level)

    def bounds(self, level: float = 0.95) -> tuple[MeanChange, MeanChange]:
        """The least sure and the surest it can be: r = -1 and r = 1."""
        return self.at(-1, level), self.at(1, level)


def unpaired_change(mean0: float, sd0: float, mean1: float, sd1: float, n: int) -> UnpairedChange:
    """How much did the mean of ``n`` patients change, where only mean and SD are printed?

    Raises InputError for numbers that are not finite, an SD below 0, or fewer than two patients.

    >>> worst, _ = unpaired_change(8.19, 1.1, 4.94, 1.6, n=51).bounds()
    >>> round(worst.t, 1)
    8.6
    """
    n = _count(n, "patients")
    if not all(math.isfinite(v) for v in (mean0, sd0, mean1, sd1)) or min(sd0, sd1) < 0 or n < 2:
        raise InputError(
            f"means {mean0:g} and {mean1:g} with SD {sd0:g} and {sd1:g} of {n} patients were "
            "given; expected finite numbers, no SD below 0 and at least two patients"
        )
    return UnpairedChange(mean0=mean0, sd0=sd0, mean1=mean1, sd1=sd1, n=n)


# ---- tables


@dataclass(frozen=True, kw_only=True)
class Fisher:
    """Fisher's exact test of a two-by-two table ((a, b), (c, d)).

    ``odds_ratio`` is the conditional maximum-likelihood estimate, None where a row or a column is
    empty; it and the upper limit can be infinite.
    """

    table: tuple[tuple[int, int], tuple[int, int]]
    p_value: float
    odds_ratio: float | None
    interval: Interval


def fisher(table: ArrayLike, level: float = 0.95) -> Fisher:
    """Are rows and columns of a two-by-two table of counts independent, its margins as they are?

    P adds all tables no more likely than the observed one. Estimate and exact interval are those of
    R's ``fisher.test``, from SciPy, which finds them to more digits: R stops at 1e-4 of the odds
    ratio or its inverse, so its upper limits of some hundred agree to a per cent only.
    Raises InputError for anything but two rows of two counts.
    """
    counts = _array(table, None)
    if counts.shape != (2, 2):
        raise InputError(f"a table of shape {counts.shape} was given; expected two rows of two")
    a, b, c, d = (_count(count, "cells of a table") for count in counts.ravel().tolist())
    from scipy import stats

    _tail(level)
    interval = Interval(low=0.0, high=math.inf, level=level, method="conditional exact")
    if min(a + b, c + d, a + c, b + d) == 0:  # one table only: it tells nothing
        return Fisher(table=((a, b), (c, d)), p_value=1.0, odds_ratio=None, interval=interval)
    found = stats.contingency.odds_ratio([[a, b], [c, d]], kind="conditional")
    low, high = found.confidence_interval(level)
    return Fisher(
        table=((a, b), (c, d)),
        p_value=min(1.0, float(stats.fisher_exact([[a, b], [c, d]]).pvalue)),
        odds_ratio=float(found.statistic),
        interval=Interval(
            low=float(low), high=float(high), level=level, method="conditional exact"
        ),
    )


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Pairs that changed one way (``b``) and the other (``c``), with the exact two-sided P."""

    b: int
    c: int
    p_value: float


def mcnemar(b: int, c: int) -> McNemar:
    """Do as many pairs change from yes to no as from no to yes? The exact (binomial) test.

    Pairs that did not change tell nothing; P is 1 where none changed.
    """
    b, c = _count(b, "pairs that changed"), _count(c, "pairs that changed")
    return McNemar(b=b, c=c, p_value=_sign_p(b + c, min(b, c)))


@dataclass(frozen=True, kw_only=True)
class Friedman:
    """Friedman's chi-square with ties, over ``rows`` complete rows and ``columns`` visits."""

    chi2: float
    df: int
    p_value: float
    rows: int
    columns: int


def friedman(scores: ArrayLike) -> Friedman:
    """Do scores differ between visits? ``scores`` [lesion, visit], complete rows.

    Ranks within each row, mid-ranks for ties, and the chi-square approximation, which for a
    handful of rows is rough. Where every row is one tie there is nothing to tell visits apart:
    chi-square 0, P 1. Raises InputError for a missing score: choose the rows first.
    Friedman M. J Am Stat Assoc 1937;32:675-701.
    """
    x = _array(scores, np.float64)
    if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] < 2:
        raise InputError(
            f"scores of shape {x.shape} were given; expected at least one row of two visits"
        )
    if not np.isfinite(x).all():
        raise InputError("a score is missing; expected complete rows: leave out those with gaps")
    less = (x[:, :, None] > x[:, None, :]).sum(axis=2)
    same = (x[:, :, None] == x[:, None, :]).sum(axis=2)
    rank = less + (same + 1) / 2
    n, k = x.shape
    away = rank - (k + 1) / 2
    spread = float((away**2).sum())
    chi2 = (k - 1) * float((away.sum(axis=0) ** 2).sum()) / spread if spread else 0.0
    return Friedman(
        chi2=chi2, df=k - 1, p_value=float(special.chdtrc(k - 1, chi2)), rows=n, columns=k
    )


# ---- what they share


def _sign_p(n: int, fewer: int) -> float:
    """Two-sided P of ``fewer`` out of n tosses, or as far from the middle."""
    if n <= EXACT_TAILS:
        return _sign_ps(n)[fewer]
    return min(1.0, 2 * float(special.bdtr(fewer, n, 0.5)))


@lru_cache(maxsize=256)
def _sign_ps(n: int) -> tuple[float, ...]:
    """The same for 0, 1, ... n // 2."""
    if n > EXACT_TAILS:
        return tuple(np.minimum(1.0, 2 * special.bdtr(np.arange(n // 2 + 1), n, 0.5)).tolist())
    coefficients = accumulate(range(n // 2), lambda c, i: c * (n - i) // (i + 1), initial=1)
    return tuple(min(1.0, 2 * tail / 2**n) for tail in accumulate(coefficients))


def _flip_p(weights: list[int], plus: int) -> float:
    """The share of sign patterns with a sum of positive weights at least as far from its mean."""
    from trocar.stats.sums import subsets_at_most  # here: who wants a proportion needs no Numba

    nearer = min(plus, sum(weights) - plus)
    patterns: int = 2 ** len(weights)
    return min(1.0, 2 * subsets_at_most(weights, nearer) / patterns)


def _differences(values: ArrayLike, step: float | None) -> Floats:
    """As floats, or as whole steps of the scale."""
    d = _array(values, np.float64)
    if d.ndim != 1 or d.size == 0:
        raise InputError(
            f"an array of shape {d.shape} was given; expected a row of at least one number"
        )
    if not np.isfinite(d).all():
        raise InputError(
            f"number {int(np.argmin(np.isfinite(d))) + 1} of {d.size} is missing or infinite; "
            "expected one per pair: leave the pair out, or fill it by a named rule"
        )
    if step is None:
        return d
    if not 0 < step < math.inf:
        raise InputError(f"a step of {step!r} was given; expected more than 0")
    steps = np.rint(d / step)
    odd = np.abs(d / step - steps) > 1e-6 * np.maximum(1.0, np.abs(steps))
    if odd.any():
        raise InputError(
            f"{d[odd][0]:g} is no whole number of steps of {step:g}; expected values of the scale: "
            "check the step, or round first"
        )
    return steps + 0.0  # no -0


def _array(values: ArrayLike, dtype: type[np.float64] | None) -> NDArray[Any]:
    try:
        return np.asarray(values, dtype)
    except (TypeError, ValueError):
        raise InputError(
            f"{values!r:.60} was given; expected rows of numbers, each as long as the others"
        ) from None


def _count(value: object, what: str) -> int:
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    if count < 0 or isinstance(value, bool):
        raise InputError(f"{value!r:.40} was given for {what}; expected a whole number from 0 up")
    return count


def _tail(level: float) -> float:
    """What lies outside an interval on either side."""
    if not 0 < level < 1:
        raise InputError(f"a level of {level!r} was given; expected between 0 and 1, such as 0.95")
    return (1 - level) / 2
