"""Time to event: who is still alive, how long the follow-up is, and which event came first.

SciPy's ``scipy.stats.ecdf`` gives the same Kaplan-Meier curve (a test compares the two), but keeps
the number at risk to itself and has no standard error, no median with its interval and no
restricted mean; its ``logrank`` compares two samples and no more; it has no competing risks. Those
are written here, and the curve with them, because all of it follows from one table of counts.

Everywhere an event comes before a censoring at the same time. Times carry whatever unit the caller
uses (days, weeks); results are in the same unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from trocar.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LimitKind = Literal["log-log", "log", "plain"]
Variance = Literal["greenwood", "aalen"]


@dataclass(frozen=True, kw_only=True)
class StepValue:
    """A curve read at one time: ``se`` and limits are None where the curve has none.

    ``at_risk`` counts those whose time is not before the one asked for.
    """

    time: float
    value: float
    se: float | None
    low: float | None
    high: float | None
    at_risk: int


@dataclass(frozen=True, kw_only=True)
class TimeEstimate:
    """A time with its limits; None where the curve never comes down so far."""

    value: float | None
    low: float | None
    high: float | None
    level: float


@dataclass(frozen=True, kw_only=True, eq=False)
class SurvivalCurve:
    """A Kaplan-Meier curve: one row per distinct time, each as it stands *after* that time.

    ``survival``, ``se`` (Greenwood), ``low`` and ``high`` are fractions. Where survival is 0 the
    Greenwood sum has no value: ``se``, ``low`` and ``high`` are nan there, and None in ``at``.
    """

    times: Floats
    at_risk: Ints
    events: Ints
    censored: Ints
    survival: Floats
    se: Floats
    low: Floats
    high: Floats
    n: int
    level: float
    limits: LimitKind
    _hazard_variance: Floats  # d / (n (n - d)) of each row, what Greenwood adds up

    def at(self, time: float) -> StepValue | None:
        """The curve at ``time``; None after the last follow-up, where nothing is known.

        A curve that has come down to 0 stays there.
        """
        ended = bool(self.survival[-1] == 0)
        return _read(self.times, self.at_risk, self.n, time, ended,
                     self.survival, self.se, self.low, self.high, before=1.0)  # fmt: skip

    @property
    def median(self) -> TimeEstimate:
        """When half are left, with the times at which the limits cross one half.

        Where the curve lies on one half for a while, the middle of that stretch (as R's survfit).
        """
        return TimeEstimate(
            value=_half(self.times, self.survival),
            low=_half(self.times, self.low),
            high=_half(self.times, self.high),
            level=self.level,
        )

    def restricted_mean(self, until: float) -> TimeMean:
        """What is the mean time lived of the first ``until``, the area under the curve?

        Raises InputError if ``until`` is not more than 0, or lies after the last follow-up while
        some are alive: the area there is not known. The standard error is Greenwood's, as in R.
        """
        until = float(until)
        ended = bool(self.survival[-1] == 0)
        if not 0 < until < np.inf or (until > self.times[-1] and not ended):
            raise InputError(
                f"the restricted mean was asked for until {until:g}; expected more than 0 and, "
                f"unless the curve reaches 0, at most the last follow-up at {self.times[-1]:g}"
            )
        inside = self.times < until
        corners = np.concatenate([[0.0], self.times[inside], [until]])
        heights = np.concatenate([[1.0], self.survival[inside]])
        areas = heights * np.diff(corners)
        after = np.cumsum(areas[::-1])[::-1][1:]  # the area that still follows each time
        se = float(np.sqrt(np.sum(after**2 * self._hazard_variance[inside])))
        return TimeMean(value=float(areas.sum()), se=se, until=until)


@dataclass(frozen=True, kw_only=True)
class TimeMean:
    """A mean time restricted to the first ``until``, with its standard error."""

    value: float
    se: float
    until: float


@dataclass(frozen=True, kw_only=True)
class LogRank:
    """A log-rank test: per group its size, its events and those expected if all were alike."""

    statistic: float
    df: int
    p_value: float
    groups: tuple[Any, ...]
    n: tuple[int, ...]
    observed: tuple[int, ...]
    expected: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class IncidenceCurve:
    """The cumulative incidence of one cause, one row per distinct time, as it stands after it.

    Limits are nan (None in ``at``) while the incidence is 0.
    """

    cause: int
    times: Floats
    at_risk: Ints
    events: Ints
    incidence: Floats
    se: Floats
    low: Floats
    high: Floats
    n: int
    ended: bool  # nobody is left without an event, so the curve is known for ever
    level: float
    limits: LimitKind
    variance: Variance

    def at(self, time: float) -> StepValue | None:
        """The curve at ``time``; None after the last follow-up if somebody was then event-free."""
        return _read(self.times, self.at_risk, self.n, time, self.ended,
                     self.incidence, self.se, self.low, self.high, before=0.0)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class CompetingRisks:
    """Aalen-Johansen estimates: the event-free fraction and one incidence curve per cause.

    At every time ``event_free`` and the incidences add up to 1.
    """

    times: Floats
    at_risk: Ints
    censored: Ints
    event_free: Floats
    causes: tuple[IncidenceCurve, ...]
    n: int

    def cause(self, code: int) -> IncidenceCurve:
        """The curve of cause ``code`` (1, 2, ...); raises InputError if there is none."""
        for curve in self.causes:
            if curve.cause == code:
                return curve
        known = ", ".join(str(curve.cause) for curve in self.causes)
        raise InputError(f"cause {code} was asked for; the causes are {known or 'none'}")


def kaplan_meier(
    times: ArrayLike, events: ArrayLike, *, level: float = 0.95, limits: LimitKind = "log-log"
) -> SurvivalCurve:
    """Which fraction is still without the event after each time?

    ``times`` [n] from the start of each, ``events`` [n] True for an event and False for a
    censoring. ``limits`` names the scale on which the normal interval is taken. Not for an event
    that death can forestall: see ``aalen_johansen``. Raises InputError for lengths that differ,
    negative or missing times and codes other than 0 and 1.

    Kaplan and Meier, J Am Stat Assoc 1958;53:457-81; Greenwood 1926; log-log limits: Kalbfleisch
    and Prentice 1980.

    >>> kaplan_meier([3, 5, 6, 8], [True, True, False, True]).survival
    array([0.75, 0.5 , 0.5 , 0.  ])
    """
    t, code = _read_input(times, events, "events", most=1)
    return _product_limit(t, code == 1, first=0, level=level, limits=limits)


def reverse_kaplan_meier(
    times: ArrayLike, events: ArrayLike, *, level: float = 0.95, limits: LimitKind = "log-log"
) -> SurvivalCurve:
    """How long were they followed, had nobody died? (its ``median`` is the median follow-up)

    Takes what ``kaplan_meier`` takes and turns it round: the end of follow-up is the event. Those
    who die at a time are gone before the censorings of that time, so that the two curves
    multiplied give the fraction whose time is later. (R's survfit with the status turned round
    leaves them at risk; the two differ only where deaths and censorings are tied.)

    Schemper and Smith, Control Clin Trials 1996;17:343-6.
    """
    t, code = _read_input(times, events, "events", most=1)
    return _product_limit(t, code == 0, first=1, level=level, limits=limits)


def log_rank(times: ArrayLike, events: ArrayLike, groups: ArrayLike) -> LogRank:
    """Do two or more groups differ in time to the event? (hypergeometric variance, chi-square)

    ``groups`` [n] names each one's group. A group without any expected event is reported and not
    tested, as in R's survdiff. Raises InputError as ``kaplan_meier``, and if fewer than two groups
    can be compared. Mantel 1966; Peto and Peto, J R Stat Soc A 1972;135:185-207.
    """
    t, code = _read_input(times, events, "events", most=1)
    label, group = np.unique(np.asarray(groups), return_inverse=True)
    group = group.ravel()
    if group.size != t.size:
        raise InputError(f"{t.size} times came with {group.size} groups; give one group per time")
    distinct, row = np.unique(t, return_inverse=True)
    shape = (distinct.size, label.size)
    leaving = np.bincount(row * label.size + group, minlength=shape[0] * shape[1]).reshape(shape)
    died = np.bincount(row * label.size + group, weights=code, minlength=leaving.size)
    died = died.reshape(shape)
    n_g = np.cumsum(leaving[::-1], axis=0)[::-1].astype(float)
    n, d = n_g.sum(axis=1), died.sum(axis=1)
    share = n_g / n[:, None]
    expected, observed = d @ share, died.sum(axis=0)
    spread = d * (n - d) / np.maximum(n - 1, 1)
    variance = np.diag(spread @ share) - (share * spread[:, None]).T @ share
    tested = np.flatnonzero(expected > 0)
    if tested.size < 2:
        raise InputError(
            f"{tested.size} group(s) have people at risk when an event happens; expected at least "
            "two to compare"
        )
    free = tested[:-1]  # the differences add up to 0, so one group says nothing new
    gap = (observed - expected)[free]
    statistic = float(gap @ np.linalg.pinv(variance[np.ix_(free, free)], hermitian=True) @ gap)
    return LogRank(
        statistic=statistic,
        df=int(free.size),
        p_value=float(special.chdtrc(free.size, statistic)),
        groups=tuple(label.tolist()),
        n=tuple(int(x) for x in leaving.sum(axis=0)),
        observed=tuple(int(x) for x in observed),
        expected=tuple(float(x) for x in expected),
    )


def aalen_johansen(
    times: ArrayLike,
    causes: ArrayLike,
    *,
    n_causes: int | None = None,
    level: float = 0.95,
    limits: LimitKind = "log-log",
    variance: Variance = "greenwood",
) -> CompetingRisks:
    """Which fraction has had each kind of event by each time, when one kind forestalls the other?

    ``causes`` [n] is 0 for a censoring and 1, 2, ... for the event that came first. ``n_causes``
    asks for curves of causes nobody had. F_k(t) is the sum of S(t-) d_k / n over the times up to
    t, with S the fraction free of every event; one minus Kaplan-Meier would be larger and wrong.

    ``variance`` "greenwood" is the delta-method variance from multinomial increments (Gaynor, J Am
    Stat Assoc 1993;88:400-9): Greenwood's own with one cause, the binomial F(1 - F)/n without
    censoring. "aalen" is the counting-process variance that R's cmprsk prints (Aalen 1978), a
    little larger. Raises InputError as ``kaplan_meier``.
    """
    t, code = _read_input(times, causes, "causes", most=n_causes)
    if variance not in ("greenwood", "aalen"):
        raise InputError(f'variance is "{variance}"; expected "greenwood" or "aalen"')
    distinct, row = np.unique(t, return_inverse=True)
    kinds = int(code.max()) if n_causes is None else n_causes
    table = np.bincount(row * (kinds + 1) + code, minlength=distinct.size * (kinds + 1))
    table = table.reshape(distinct.size, kinds + 1)
    at_risk = np.cumsum(table.sum(axis=1)[::-1])[::-1]
    n = at_risk.astype(float)
    d = table[:, 1:].sum(axis=1).astype(float)
    free = _step_down(n, d)
    before = np.concatenate([[1.0], free[:-1]])
    curves = []
    for kind in range(1, kinds + 1):
        d_k = table[:, kind].astype(float)
        incidence = np.cumsum(before * d_k / n)
        se = np.sqrt(_incidence_variance(n, d, d_k, before, incidence, variance))
        low, high = _limits(incidence, se, level, limits)
        low[incidence == 0] = high[incidence == 0] = np.nan
        curves.append(
            IncidenceCurve(
                cause=kind, times=distinct, at_risk=at_risk, events=table[:, kind],
                incidence=incidence, se=se, low=low, high=high, n=t.size,
                ended=bool(free[-1] == 0), level=level, limits=limits, variance=variance,
            )
        )  # fmt: skip
    return CompetingRisks(
        times=distinct, at_risk=at_risk, censored=table[:, 0], event_free=free,
        causes=tuple(curves), n=t.size,
    )  # fmt: skip


def _read_input(
    times: ArrayLike, codes: ArrayLike, name: str, *, most: int | None
) -> tuple[Floats, Ints]:
    try:
        t = np.asarray(times, dtype=np.float64).ravel()
        raw = np.asarray(codes, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InputError(f"times and {name} must be numbers without gaps ({error})") from None
    if t.size == 0 or t.size != raw.size:
        raise InputError(
            f"{t.size} times came with {raw.size} {name}; expected one of {name} per time, "
            "and at least one"
        )
    if not np.all(np.isfinite(t) & (t >= 0)):
        bad = int(np.flatnonzero(~(np.isfinite(t) & (t >= 0)))[0])
        raise InputError(f"time {bad} is {t[bad]:g}; expected a number of at least 0")
    top = np.inf if most is None else most
    good = np.isfinite(raw) & (raw == np.round(raw)) & (raw >= 0) & (raw <= top)
    if not np.all(good):
        bad = int(np.flatnonzero(~good)[0])
        known = "0, 1, 2, ..." if most is None else "a whole number from 0 to " + str(most)
        raise InputError(f"{name}[{bad}] is {raw[bad]:g}; expected {known}")
    return t, raw.astype(np.int64)


def _product_limit(
    t: Floats, event: NDArray[np.bool_], *, first: int, level: float, limits: LimitKind
) -> SurvivalCurve:
    """The curve; ``first`` = 1 takes those who do not have the event away before it is counted."""
    distinct, row = np.unique(t, return_inverse=True)
    leaving = np.bincount(row, minlength=distinct.size)
    d = np.bincount(row, weights=event, minlength=distinct.size).astype(np.float64)
    at_risk = np.cumsum(leaving[::-1])[::-1]
    n = (at_risk - first * (leaving - d)).astype(np.float64)
    survival = _step_down(n, d)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where((n > d) & (d > 0), d / (n * (n - d)), 0.0)
        se = np.where(survival > 0, survival * np.sqrt(np.cumsum(step)), np.nan)
    low, high = _limits(survival, se, level, limits)
    return SurvivalCurve(
        times=distinct, at_risk=n.astype(np.int64), events=d.astype(np.int64),
        censored=(leaving - d).astype(np.int64), survival=survival, se=se, low=low, high=high,
        n=t.size, level=level, limits=limits, _hazard_variance=step,
    )  # fmt: skip


def _step_down(n: Floats, d: Floats) -> Floats:
    """The product of 1 - d/n; a time at which nobody is at risk changes nothing."""
    return np.cumprod(np.where(n > 0, (n - d) / np.maximum(n, 1), 1.0)).astype(np.float64)


def _incidence_variance(
    n: Floats, d: Floats, d_k: Floats, before: Floats, incidence: Floats, kind: Variance
) -> Floats:
    # The sum over earlier times of (F(t) - F(ti))^2 a + b - 2 (F(t) - F(ti)) c, with the square
    # multiplied out so that it costs one pass. When the last ones go, F moves no more: no weight.
    one = np.where(n > 1, n - 1, 1.0) if kind == "aalen" else n
    left = np.where(n > d, n - d, np.inf)
    a = d / (one * left)
    if kind == "aalen":
        b = before**2 * d_k * (n - d_k) / (n**2 * one)
        c = before * d_k * (n - d_k) / (n * left * one)
    else:
        b = before**2 * d_k * (n - d_k) / n**3
        c = before * d_k / n**2
    f = incidence
    spread = f**2 * np.cumsum(a) - 2 * f * np.cumsum(a * f) + np.cumsum(a * f**2)
    variance: Floats = spread + np.cumsum(b) - 2 * (f * np.cumsum(c) - np.cumsum(f * c))
    rounding = 1e-14 * f**2 * np.cumsum(a)  # what the multiplied-out square may leave of a 0
    return np.where(variance > rounding, variance, 0.0)


def _limits(p: Floats, se: Floats, level: float, kind: LimitKind) -> tuple[Floats, Floats]:
    """The normal limits of fractions ``p`` on the scale named ``kind``, within 0 and 1."""
    if not 0 < level < 1:
        raise InputError(f"the level is {level:g}; expected more than 0 and less than 1")
    z = float(special.ndtri(0.5 + level / 2))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if kind == "plain":
            low, high = p - z * se, p + z * se
        elif kind == "log":
            low, high = p * np.exp(-z * se / p), p * np.exp(z * se / p)
        elif kind == "log-log":
            power = np.exp(z * se / (p * np.log(p)))  # below 1, since ln p is negative
            low, high = p ** (1 / power), p**power
        else:
            raise InputError(f'limits are "{kind}"; expected "log-log", "log" or "plain"')
    sure = (p == 1) & (se == 0)  # nothing has happened yet
    low, high = np.where(sure, 1.0, low), np.where(sure, 1.0, high)
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


def _half(times: Floats, curve: Floats) -> float | None:
    tolerance = 1e-9
    with np.errstate(invalid="ignore"):
        below = np.flatnonzero(curve < 0.5 + tolerance)  # nan is never below
    if below.size == 0:
        return None
    first = int(below[0])
    if abs(curve[first] - 0.5) < tolerance:
        lower = below[curve[below] < 0.5 - tolerance]
        if lower.size:
            return float((times[first] + times[lower[0]]) / 2)
    return float(times[first])


def _read(
    times: Floats, at_risk: Ints, n: int, time: float, ended: bool, *curves: Floats, before: float
) -> StepValue | None:
    time = float(time)
    if not time >= 0:
        raise InputError(f"the curve was asked for at time {time:g}; expected at least 0")
    if time > times[-1] and not ended:
        return None
    row = int(np.searchsorted(times, time, side="right")) - 1
    later = int(np.searchsorted(times, time, side="left"))
    left = int(at_risk[later]) if later < times.size else 0
    if row < 0:
        return StepValue(time=time, value=before, se=0.0, low=before, high=before, at_risk=n)
    value, *spread = (float(curve[row]) for curve in curves)
    se, low, high = (None if np.isnan(x) else x for x in spread)
    return StepValue(time=time, value=value, se=se, low=low, high=high, at_risk=left)
