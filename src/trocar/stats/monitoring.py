"""Watching a service: is a unit outside its funnel, and has the rate of harm changed?

The binomial comes from SciPy; nothing in SciPy or statsmodels draws funnel limits, runs a CUSUM or
knows how often a limit is crossed by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from trocar.errors import InputError

Floats = NDArray[np.float64]
SAME = 1e-9  # sums of scores closer than this are the same sum


@dataclass(frozen=True, kw_only=True, eq=False)
class FunnelLimits:
    """Limits for the proportion of a unit with each of ``totals`` cases (fractions).

    They are lines to draw. Interpolation puts the upper line just under a count that need not be
    rare (3 of 10 at a target of 10 % lies above 0.2787, though 7 % of units have 3 or more), so
    ``side`` asks the binomial itself.
    """

    target: float
    level: float
    totals: NDArray[np.int64]
    low: Floats
    high: Floats

    def side(self, events: ArrayLike) -> NDArray[np.int64]:
        """Which units are out of line: -1 for too few events, 1 for too many, 0 for neither?

        Out means that so many, or so few, events or more extreme have at most a chance of
        (1 - level)/2 at the target. Raises InputError for counts that do not fit the totals.
        """
        x = _read_counts(events, "events")
        if x.shape != self.totals.shape or np.any(x > self.totals):
            raise InputError("expected one count of events per unit, none above its total")
        at_most = special.bdtr(x, self.totals, self.target)
        at_least = np.where(x > 0, special.bdtrc(x - 1, self.totals, self.target), 1.0)
        rare = (1 - self.level) / 2
        out: NDArray[np.int64] = (at_least <= rare).astype(np.int64) - (at_most <= rare)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Cusum:
    """A CUSUM after each case, with the places (0 is the first case) where it crossed ``limit``.

    With ``reset`` it starts again from 0 after each signal. ``values`` holds what it reached, so a
    signal shows the value that crossed.
    """

    values: Floats
    scores: Floats
    limit: float | None
    reset: bool
    signals: tuple[int, ...]

    @property
    def first_signal(self) -> int | None:
        """The place of the first signal; None if there was none."""
        return self.signals[0] if self.signals else None


@dataclass(frozen=True, kw_only=True)
class SprtBounds:
    """The sums of scores at which the lower rate (``lower``, negative) or the higher is taken."""

    lower: float
    upper: float
    alpha: float
    beta: float


def funnel_limits(target: float, totals: ArrayLike, *, level: float = 0.95) -> FunnelLimits:
    """Between which proportions does a unit of each size lie by chance, if ``target`` is true?

    Exact binomial quantiles, interpolated so that the limits run smoothly with size. ``totals``
    are whole numbers of at least 1; levels in use are 0.95 and 0.998. Raises InputError otherwise.
    Spiegelhalter, Stat Med 2005;24:1185-202, appendix A.1.1.

    >>> limits = funnel_limits(0.10, [20])
    >>> round(float(limits.low[0]), 4), round(float(limits.high[0]), 4)
    (0.0, 0.2285)
    """
    _check_probability("the target", target)
    _check_probability("the level", level)
    n = _read_counts(totals, "totals")
    if np.any(n < 1):
        raise InputError("a total is 0; expected at least one case from every unit")
    low, high = (_interpolated(p, n, target) for p in ((1 - level) / 2, (1 + level) / 2))
    return FunnelLimits(target=target, level=level, totals=n, low=low, high=high)


def _interpolated(p: float, n: NDArray[np.int64], target: float) -> Floats:
    from scipy import stats  # slow to import, and only funnels need it

    r = stats.binom.ppf(p, n, target)
    reached = stats.binom.cdf(r, n, target)
    share = (reached - p) / stats.binom.pmf(r, n, target)
    line: Floats = np.clip((r - share) / n, 0, 1)
    return line


def cusum(
    outcomes: ArrayLike,
    p0: ArrayLike,
    p1: ArrayLike,
    *,
    limit: float | None = None,
    reset: bool = True,
) -> Cusum:
    """Has the rate of events moved from ``p0`` towards ``p1``?

    ``outcomes`` [n] in the order of treatment, True for an event. The score is ln(p1/p0) for an
    event and ln((1 - p1)/(1 - p0)) otherwise, and W = max(0, W + score). ``p0`` and ``p1`` are one
    for all or one a case (risk-adjusted, see ``odds_times``); p1 below p0 looks for improvement.
    With a ``limit``, W at or above it is a signal. Raises InputError for missing outcomes and
    probabilities that are not between 0 and 1. Steiner et al., Biostatistics 2000;1:441-52.
    """
    x, score = _scores(outcomes, p0, p1)
    if limit is not None and not limit > 0:
        raise InputError(f"the limit is {limit:g}; expected more than 0")
    values, signals = np.empty(x.size), []
    w = 0.0
    for i, s in enumerate(score.tolist()):
        w = max(0.0, w + s)
        values[i] = w
        if limit is not None and w >= limit - SAME:
            signals.append(i)
            if reset:
                w = 0.0
    return Cusum(values=values, scores=score, limit=limit, reset=reset, signals=tuple(signals))


def odds_times(probability: ArrayLike, ratio: float) -> Floats:
    """Which probability has ``ratio`` times the odds? (for a risk-adjusted CUSUM)

    >>> float(odds_times(0.5, 3))
    0.75
    """
    p = np.asarray(probability, dtype=np.float64)
    return np.asarray(ratio * p / (1 - p + ratio * p), dtype=np.float64)


def sprt_bounds(alpha: float, beta: float) -> SprtBounds:
    """At which sums of scores is the higher, or the lower, rate accepted? (Wald 1945)

    ``alpha`` is the risk to accept the higher rate wrongly, ``beta`` the lower; their sum is below
    1. The upper bound is ln((1 - beta)/alpha), the lower -ln((1 - alpha)/beta).
    """
    _check_probability("alpha", alpha)
    _check_probability("beta", beta)
    if alpha + beta >= 1:
        raise InputError(f"alpha and beta add up to {alpha + beta:g}; expected less than 1")
    return SprtBounds(
        lower=-float(np.log((1 - alpha) / beta)), upper=float(np.log((1 - beta) / alpha)),
        alpha=alpha, beta=beta,
    )  # fmt: skip


def cusum_run_length(p0: float, p1: float, limit: float, *, rate: float | None = None) -> float:
    """After how many cases does a CUSUM signal on average, when the true rate is ``rate``?

    ``rate`` is ``p0`` if not given: the average run length in control, until a false alarm; at
    ``p1`` it is the delay until a true one. Exact, without a grid: a run is a series of excursions
    from 0, each ending at 0 or at the limit, and within an excursion the sum is known from the
    counts of events and non-events, which only grow. So the expected visits to each pair of counts
    follow one from another, and the average is (cases per excursion)/(chance that one signals).

    Raises InputError for probabilities not between 0 and 1, p0 equal to p1, or a limit of 0.
    """
    for name, p in (("p0", p0), ("p1", p1), ("the rate", p0 if rate is None else rate)):
        _check_probability(name, p)
    if p0 == p1 or not 0 < limit < np.inf:
        raise InputError(f"p0 {p0:g}, p1 {p1:g}, limit {limit:g}: expected two rates, limit over 0")
    chance = p0 if rate is None else rate
    up, down = float(np.log(p1 / p0)), -float(np.log((1 - p1) / (1 - p0)))
    if p1 < p0:  # then an event leads down
        up, down, chance = -down, -up, 1 - chance
    cases = alarms = 0.0
    row = {0: 1.0}  # after i rises: expected visits by the number of falls, still between 0 and h
    i = 0
    while row:
        after: dict[int, float] = {}
        for j, visits in row.items():
            cases += visits
            if (i + 1) * up - j * down >= limit - SAME:
                alarms += visits * chance
            else:
                after[j] = visits * chance
        i += 1
        row = _fall(after, i * up, down, 1 - chance)
        if sum(row.values()) < 1e-17 * cases and alarms > 0:
            break
    return cases / alarms


def _fall(rise: dict[int, float], top: float, down: float, chance: float) -> dict[int, float]:
    """Spread visits along falls: from each, one more fall while the sum stays above 0."""
    row: dict[int, float] = {}
    if not rise:
        return row
    j, visits = min(rise), 0.0
    while top - j * down > SAME:
        visits = visits * chance + rise.get(j, 0.0)
        row[j] = visits
        j += 1
    return row


def cusum_limit(p0: float, p1: float, run_length: float) -> float:
    """Which is the lowest limit whose average run length in control is at least ``run_length``?

    To 1e-6 of the score's unit; the run length climbs in steps as the limit grows. Raises
    InputError as ``cusum_run_length``, and for a run length under 1.
    """
    if not 1 <= run_length < np.inf:
        raise InputError(f"the run length is {run_length:g} cases; expected at least 1")
    low, high = 0.0, 1.0
    while cusum_run_length(p0, p1, high) < run_length:
        low, high = high, 2 * high
    while high - low > 1e-6:
        middle = (low + high) / 2
        if cusum_run_length(p0, p1, middle) < run_length:
            low = middle
        else:
            high = middle
    return high


def vlad(outcomes: ArrayLike, expected: ArrayLike) -> Floats:
    """How many events fewer than expected have there been, after each case?

    The variable life-adjusted display: the running sum of expected - observed. ``expected`` is the
    probability of the event, one for all or one a case. Lovegrove et al., Lancet 1997;350:1128-30.

    >>> vlad([0, 0, 1, 0], 0.25).tolist()
    [0.25, 0.5, -0.25, 0.0]
    """
    x = _read_outcomes(outcomes)
    p = np.asarray(expected, dtype=np.float64)
    if p.shape not in ((), x.shape) or not np.all((p >= 0) & (p <= 1)):
        raise InputError("the expected probabilities must be one, or one a case, from 0 to 1")
    return np.cumsum(p - x)


def _scores(outcomes: ArrayLike, p0: ArrayLike, p1: ArrayLike) -> tuple[Floats, Floats]:
    x = _read_outcomes(outcomes)
    a, b = np.asarray(p0, dtype=np.float64), np.asarray(p1, dtype=np.float64)
    for name, p in (("p0", a), ("p1", b)):
        if p.shape not in ((), x.shape) or not np.all((p > 0) & (p < 1)):
            raise InputError(f"{name} must be one probability, or one a case, between 0 and 1")
    return x, np.where(x == 1, np.log(b / a), np.log1p(-b) - np.log1p(-a))


def _read_outcomes(outcomes: ArrayLike) -> Floats:
    try:
        x = np.asarray(outcomes, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InputError(f"outcomes must be yes or no without gaps ({error})") from None
    if not np.all((x == 0) | (x == 1)):
        bad = int(np.flatnonzero(~((x == 0) | (x == 1)))[0])
        raise InputError(f"outcome {bad} is {x[bad]:g}; expected 1 for an event or 0 for none")
    return x


def _read_counts(values: ArrayLike, name: str) -> NDArray[np.int64]:
    try:
        raw = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be counts without gaps ({error})") from None
    if not np.all(np.isfinite(raw) & (raw >= 0) & (raw == np.round(raw))):
        raise InputError(f"{name} must be whole numbers of at least 0")
    return raw.astype(np.int64)


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name} is {value:g}; expected more than 0 and less than 1")
