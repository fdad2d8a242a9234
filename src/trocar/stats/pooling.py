"""Meta-analysis: one estimate from several studies' proportions, or from their mean changes.

SciPy has no meta-analysis. statsmodels (``meta_analysis.combine_effects``) has fixed effect, DL
and PM on effects that are already computed, and none of what small single-arm series need: the
binomial-normal likelihood for counts, REML, the interval of tau2, the prediction interval. So the
arithmetic is here; root finding, quantiles and quadrature nodes come from SciPy and NumPy.

In formulas: y effects, v their variances, w weights, tau2 the variance between studies, k the
number of studies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from trocar.errors import InputError

Floats = NDArray[np.float64]
Tau2Method = Literal["FE", "DL", "HE", "HS", "SJ", "PM", "EB", "ML", "REML"]
ProportionMethod = Literal[
    "glmm", "logit-dl", "logit-reml", "freeman-tukey", "freeman-tukey-reml", "crude"
]
PredictionDf = Literal["k-2", "k-1"]
NODES = 61  # Gauss-Hermite, placed around each study's own mode


class Effects(NamedTuple):
    """What each study found, and the variance of that."""

    effects: Floats
    variances: Floats


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """One pooled effect on the scale of the analysis.

    ``tau2`` is the variance between studies, with its standard error and its Q-profile interval
    (None for a fixed effect and where the method has none). ``q`` on ``df`` degrees of freedom is
    Cochran's, for "glmm" the deviance. ``i2_percent`` is the share of variance that lies between
    studies. The prediction interval is for the true effect of one further study; None with too few
    studies or a fixed effect.
    """

    estimate: float
    se: float
    low: float
    high: float
    level: float
    tau2: float
    tau2_se: float | None
    tau2_low: float | None
    tau2_high: float | None
    i2_percent: float
    q: float
    q_p_value: float
    df: int
    k: int
    method: str
    hartung_knapp: bool
    prediction_low: float | None
    prediction_high: float | None


@dataclass(frozen=True, kw_only=True)
class PooledProportion:
    """A pooled proportion: ``estimate`` and limits are fractions, the counts stay beside them.

    ``on_scale`` is the analysis on the scale where it was done (``scale``: logit or double arcsine;
    None for "crude"). ``corrected`` counts the studies that got half an event and half a non-event
    added. ``minus_log_likelihood`` is that of the GLMM, binomial coefficients included.
    """

    estimate: float
    low: float
    high: float
    level: float
    events: int
    total: int
    k: int
    method: ProportionMethod
    scale: str
    on_scale: Pooled | None
    prediction_low: float | None
    prediction_high: float | None
    q: float
    q_p_value: float
    df: int
    corrected: int
    minus_log_likelihood: float | None

    @property
    def tau2(self) -> float | None:
        """The variance between studies on ``scale``; None for "crude", which has none."""
        return None if self.on_scale is None else self.on_scale.tau2

    @property
    def i2_percent(self) -> float | None:
        """The share of variance between studies; None for "crude"."""
        return None if self.on_scale is None else self.on_scale.i2_percent


# ---- effects with known variances


def pool(
    effects: ArrayLike,
    variances: ArrayLike,
    *,
    method: Tau2Method = "REML",
    hartung_knapp: bool = False,
    level: float = 0.95,
    prediction_df: PredictionDf = "k-2",
) -> Pooled:
    """What is the mean effect over studies, and how much do studies differ?

    ``effects`` and ``variances`` [k], k at least 2, variances more than 0. ``method`` is how tau2
    is estimated: none (FE, fixed effect), DerSimonian-Laird, Hedges, Hunter-Schmidt,
    Sidik-Jonkman, Paule-Mandel, empirical Bayes (the same equation as PM), maximum or restricted
    likelihood. With ``hartung_knapp`` the spread of the effects gives the standard error and t on
    k - 1 the interval. The prediction interval is b +/- t sqrt(tau2 + se^2) with t on k - 2
    (Higgins, Thompson and Spiegelhalter 2009); "k-1" is metafor's choice with Hartung-Knapp.

    Raises InputError for fewer than two studies and for effects or variances that are no numbers.
    Viechtbauer, J Educ Behav Stat 2005;30:261-93; Hartung and Knapp, Stat Med 2001;20:3875-89;
    Viechtbauer, Stat Med 2007;26:37-52 (Q-profile interval of tau2).

    >>> pooled = pool([0.0, 1.0], [0.5, 0.5], method="DL")
    >>> pooled.estimate, pooled.tau2
    (0.5, 0.0)
    """
    y, v = _read_effects(effects, variances)
    k, z = y.size, _quantile(level)
    estimate_tau2 = _TAU2.get(method)
    if estimate_tau2 is None:
        raise InputError(f'method is "{method}"; expected one of {", ".join(_TAU2)}')
    tau2, tau2_se = estimate_tau2(y, v)
    w = 1 / (v + tau2)
    b = float(w @ y / w.sum())
    se = float(1 / np.sqrt(w.sum()))
    if hartung_knapp:
        se *= float(np.sqrt(w @ (y - b) ** 2 / (k - 1)))
        z = float(special.stdtrit(k - 1, 0.5 + level / 2))
    q = _generalised_q(0.0, y, v)
    fixed = method == "FE"
    tau2_low, tau2_high = (None, None) if fixed else _q_profile(y, v, level)
    low, high = (None, None) if fixed else _predict(b, se, tau2, k, level, prediction_df)
    return Pooled(
        estimate=b, se=se, low=b - z * se, high=b + z * se, level=level,
        tau2=tau2, tau2_se=tau2_se, tau2_low=tau2_low, tau2_high=tau2_high,
        i2_percent=_excess_percent(q, k - 1) if fixed else _i2_percent(tau2, v),
        q=q, q_p_value=float(special.chdtrc(k - 1, q)), df=k - 1, k=k,
        method=method, hartung_knapp=hartung_knapp, prediction_low=low, prediction_high=high,
    )  # fmt: skip


def _read_effects(effects: ArrayLike, variances: ArrayLike) -> Effects:
    try:
        y = np.asarray(effects, dtype=np.float64).ravel()
        v = np.asarray(variances, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InputError(f"effects and variances must be numbers without gaps ({error})") from None
    if y.size != v.size or y.size < 2:
        raise InputError(
            f"{y.size} effects came with {v.size} variances; expected one each, of at least two "
            "studies"
        )
    if not (np.all(np.isfinite(y)) and np.all(np.isfinite(v) & (v > 0))):
        raise InputError("every effect must be a number and every variance more than 0")
    return Effects(y, v)


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"the level is {level:g}; expected more than 0 and less than 1")
    return float(special.ndtri(0.5 + level / 2))


def _generalised_q(tau2: float, y: Floats, v: Floats) -> float:
    w = 1 / (v + tau2)
    return float(w @ (y - w @ y / w.sum()) ** 2)


def _i2_percent(tau2: float, v: Floats) -> float:
    """Higgins and Thompson's: against the "typical" variance within studies."""
    w = 1 / v
    typical = (v.size - 1) * w.sum() / (w.sum() ** 2 - w @ w)
    return float(100 * tau2 / (tau2 + typical))


def _excess_percent(q: float, df: int) -> float:
    return max(0.0, 100 * (q - df) / q) if q > 0 else 0.0


def _predict(
    b: float, se: float, tau2: float, k: int, level: float, df: PredictionDf
) -> tuple[float | None, float | None]:
    if df not in ("k-2", "k-1"):
        raise InputError(f'prediction_df is "{df}"; expected "k-2" or "k-1"')
    free = k - 2 if df == "k-2" else k - 1
    if free < 1:
        return None, None
    half = float(special.stdtrit(free, 0.5 + level / 2)) * float(np.sqrt(tau2 + se**2))
    return b - half, b + half


def _root_of_q(target: float, y: Floats, v: Floats) -> float:
    """The tau2 at which the generalised Q, which falls as tau2 grows, is ``target``; at least 0."""
    if _generalised_q(0.0, y, v) <= target:
        return 0.0
    top = float(y.var(ddof=1) + v.max())
    while _generalised_q(top, y, v) > target:
        top *= 4
    return float(optimize.brentq(lambda t: _generalised_q(t, y, v) - target, 0.0, top, xtol=1e-15))


def _q_profile(y: Floats, v: Floats, level: float) -> tuple[float, float]:
    k = y.size
    low, high = (special.chdtri(k - 1, p) for p in ((1 - level) / 2, (1 + level) / 2))
    return _root_of_q(float(low), y, v), _root_of_q(float(high), y, v)


def _quadratic(a: Floats, sigma2: Floats) -> float:
    """2 tr(A S A S), the variance of y'Ay, for A = diag(a) - aa'/sum(a) and S = diag(sigma2)."""
    s = a.sum()
    cross = (a**2 @ sigma2) / s
    return float(2 * (a**2 @ sigma2**2 - 2 * (a**3 @ sigma2**2) / s + cross**2))


def _moment(a: Floats, y: Floats, v: Floats) -> tuple[float, float]:
    """The moment estimate with fixed weights a (Rao, Kaplan and Cochran 1981), and its se."""
    s = a.sum()
    trace = s - a @ a / s
    bias = a @ v - a**2 @ v / s
    tau2 = max(0.0, float((a @ (y - a @ y / s) ** 2 - bias) / trace))
    return tau2, float(np.sqrt(_quadratic(a, v + tau2)) / trace)


def _hunter_schmidt(y: Floats, v: Floats) -> tuple[float, float]:
    w = 1 / v
    tau2 = max(0.0, (_generalised_q(0.0, y, v) - y.size) / float(w.sum()))
    return tau2, float(np.sqrt(_quadratic(w, v + tau2)) / w.sum())


def _sidik_jonkman(y: Floats, v: Floats) -> tuple[float, float]:
    first = float(y.var())
    if first == 0:
        return 0.0, 0.0
    tau2 = first * _generalised_q(first, y, v) / (y.size - 1)
    a = 1 / (v + first)
    return tau2, float(first * np.sqrt(_quadratic(a, v + tau2)) / (y.size - 1))


def _paule_mandel(y: Floats, v: Floats) -> tuple[float, float]:
    k = y.size
    tau2 = _root_of_q(k - 1.0, y, v)
    w = 1 / (v + tau2)
    return tau2, float(np.sqrt(2 * k**2 / (k - 1)) / w.sum())


def _likelihood(y: Floats, v: Floats, *, restricted: bool) -> tuple[float, float]:
    """ML or REML: the highest of the maxima of the profile likelihood over tau2 >= 0.

    It can have more than one (two clusters of studies), so a scan finds the right one and the
    score equation is then solved there.
    """

    def minus_loglik(tau2: float) -> float:
        w = 1 / (v + tau2)
        value = -np.log(w).sum() + _generalised_q(tau2, y, v)
        return float(value + np.log(w.sum()) if restricted else value) / 2

    def score(tau2: float) -> float:
        w = 1 / (v + tau2)
        r = y - w @ y / w.sum()
        trace = w.sum() - (w @ w / w.sum() if restricted else 0.0)
        return float(w**2 @ r**2 - trace) / 2

    top = 4 * float(y.var(ddof=1)) + 1e-12
    scan = np.concatenate([[0.0], np.geomspace(1e-6 * top, top, 200)])
    best = int(np.argmin([minus_loglik(t) for t in scan]))
    left, right = scan[max(best - 1, 0)], scan[min(best + 1, scan.size - 1)]
    if score(left) > 0 > score(right):
        tau2 = float(optimize.brentq(score, left, right, xtol=1e-15))
    else:
        tau2 = float(scan[best])
    w = 1 / (v + tau2)
    information = w @ w  # tr(PP)/2 with P = W for ML
    if restricted:
        information += (w @ w / w.sum()) ** 2 - 2 * (w**3).sum() / w.sum()
    return tau2, float(np.sqrt(2 / information))


_TAU2: dict[str, Callable[[Floats, Floats], tuple[float, float | None]]] = {
    "FE": lambda y, v: (0.0, None),
    "DL": lambda y, v: _moment(1 / v, y, v),
    "HE": lambda y, v: _moment(np.ones_like(v), y, v),
    "HS": _hunter_schmidt,
    "SJ": _sidik_jonkman,
    "PM": _paule_mandel,
    "EB": _paule_mandel,
    "ML": lambda y, v: _likelihood(y, v, restricted=False),
    "REML": lambda y, v: _likelihood(y, v, restricted=True),
}


# ---- proportions


def pool_proportions(
    events: ArrayLike,
    totals: ArrayLike,
    *,
    method: ProportionMethod = "glmm",
    hartung_knapp: bool = False,
    level: float = 0.95,
    prediction_df: PredictionDf = "k-2",
) -> PooledProportion:
    """What proportion do several series show together?

    ``events`` and ``totals`` [k] are whole counts. "glmm" (the default) is the binomial-normal
    model by maximum likelihood: logits of studies are normal, counts binomial, no correction for
    zeros. "logit-dl" and "logit-reml" pool logits, with half an event and half a non-event added
    to studies with none or all. "freeman-tukey" (DL) and "freeman-tukey-reml" pool double
    arcsines and go back by Miller's inverse at the harmonic mean of n; they can mislead when sizes
    differ much (Schwarzer 2019). "crude" adds up the counts as if they were one series (Wilson
    interval). The GLMM estimate is the proportion of the middle study, not the mean of studies.

    Raises InputError for counts that are none, fewer than two studies (but for "crude"), and for
    a GLMM of studies that each have no events or only events, which has no maximum.

    Stijnen, Hamza and Ozdemir, Stat Med 2010;29:3046-67; Freeman and Tukey 1950; Miller, Am Stat
    1978;32:138; Schwarzer et al., Res Synth Methods 2019;10:476-83.
    """
    x, n = _read_counts(events, totals)
    analyse = _PROPORTION.get(method)
    if analyse is None:
        raise InputError(f'method is "{method}"; expected one of {", ".join(_PROPORTION)}')
    if x.size < 2 and method != "crude":
        raise InputError(f'{x.size} study cannot be pooled; expected two or more, or "crude"')
    if hartung_knapp and method in ("glmm", "crude"):
        raise InputError(
            f'the Hartung-Knapp interval is not defined for "{method}"; use "logit-reml" or leave '
            "it out"
        )
    _quantile(level)
    return analyse(x, n, method, hartung_knapp, level, prediction_df)


def _read_counts(events: ArrayLike, totals: ArrayLike) -> tuple[Floats, Floats]:
    try:
        x = np.asarray(events, dtype=np.float64).ravel()
        n = np.asarray(totals, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InputError(f"events and totals must be counts without gaps ({error})") from None
    if x.size != n.size or x.size == 0:
        raise InputError(f"{x.size} events came with {n.size} totals; expected one of each a study")
    good = np.isfinite(x) & np.isfinite(n) & (x == np.round(x)) & (n == np.round(n))
    good &= (x >= 0) & (x <= n) & (n > 0)
    if not np.all(good):
        bad = int(np.flatnonzero(~good)[0])
        raise InputError(
            f"study {bad} has {x[bad]:g} events of {n[bad]:g}; expected whole numbers, "
            "0 to the total, and a total of at least 1"
        )
    return x, n


def _deviance(x: Floats, n: Floats) -> float:
    """Twice the log-likelihood that one proportion per study gains over one for all."""
    p = x.sum() / n.sum()
    return float(2 * np.sum(special.rel_entr(x, n * p) + special.rel_entr(n - x, n * (1 - p))))


def _wilson(x: float, n: float, z: float) -> tuple[float, float]:
    centre, half = x + z**2 / 2, z * np.sqrt(x * (n - x) / n + z**2 / 4)
    return float((centre - half) / (n + z**2)), float((centre + half) / (n + z**2))


def _crude(
    x: Floats, n: Floats, method: ProportionMethod, hk: bool, level: float, df: PredictionDf
) -> PooledProportion:
    low, high = _wilson(float(x.sum()), float(n.sum()), _quantile(level))
    q = _deviance(x, n)
    return PooledProportion(
        estimate=float(x.sum() / n.sum()), low=max(low, 0.0), high=min(high, 1.0), level=level,
        events=int(x.sum()), total=int(n.sum()), k=x.size, method=method, scale="proportion",
        on_scale=None, prediction_low=None, prediction_high=None, q=q,
        q_p_value=float(special.chdtrc(x.size - 1, q)) if x.size > 1 else 1.0, df=x.size - 1,
        corrected=0, minus_log_likelihood=None,
    )  # fmt: skip


def _back(
    x: Floats,
    n: Floats,
    method: ProportionMethod,
    on_scale: Pooled,
    scale: str,
    inverse: Callable[[float], float],
    *,
    corrected: int = 0,
    minus_log_likelihood: float | None = None,
) -> PooledProportion:
    def maybe(value: float | None) -> float | None:
        return None if value is None else inverse(value)

    return PooledProportion(
        estimate=inverse(on_scale.estimate), low=inverse(on_scale.low),
        high=inverse(on_scale.high), level=on_scale.level, events=int(x.sum()),
        total=int(n.sum()), k=x.size, method=method, scale=scale, on_scale=on_scale,
        prediction_low=maybe(on_scale.prediction_low),
        prediction_high=maybe(on_scale.prediction_high), q=on_scale.q,
        q_p_value=on_scale.q_p_value, df=on_scale.df, corrected=corrected,
        minus_log_likelihood=minus_log_likelihood,
    )  # fmt: skip


def _expit(value: float) -> float:
    return float(special.expit(value))


def _logits(x: Floats, n: Floats) -> tuple[Effects, int]:
    half = np.where((x == 0) | (x == n), 0.5, 0.0)
    a, b = x + half, n - x + half
    return Effects(np.log(a / b), 1 / a + 1 / b), int(np.count_nonzero(half))


def _logit(
    x: Floats, n: Floats, method: ProportionMethod, hk: bool, level: float, df: PredictionDf
) -> PooledProportion:
    (y, v), corrected = _logits(x, n)
    tau2: Tau2Method = "DL" if method == "logit-dl" else "REML"
    pooled = pool(y, v, method=tau2, hartung_knapp=hk, level=level, prediction_df=df)
    return _back(x, n, method, pooled, "logit", _expit, corrected=corrected)


def double_arcsine(events: ArrayLike, totals: ArrayLike) -> Effects:
    """Freeman and Tukey's double arcsine of each proportion, from 0 to pi, variance 1/(n + 1/2).

    (metafor's "PFT" is half of this.) Raises InputError for counts that are none.
    """
    x, n = _read_counts(events, totals)
    t = np.arcsin(np.sqrt(x / (n + 1))) + np.arcsin(np.sqrt((x + 1) / (n + 1)))
    return Effects(t, 1 / (n + 0.5))


def double_arcsine_inverse(t: float, n: float) -> float:
    """Which proportion has the double arcsine ``t`` at size ``n``? (Miller 1978)

    Values beyond those of 0 and n events of n are 0 and 1.
    """
    first = float(np.arcsin(np.sqrt(1 / (n + 1))))  # of 0 of n
    if t <= first:
        return 0.0
    if t >= np.pi - first:
        return 1.0
    s = np.sin(t)
    root = np.sqrt(max(0.0, 1 - (s + (s - 1 / s) / n) ** 2))
    return float((1 - np.sign(np.cos(t)) * root) / 2)


def _freeman_tukey(
    x: Floats, n: Floats, method: ProportionMethod, hk: bool, level: float, df: PredictionDf
) -> PooledProportion:
    y, v = double_arcsine(x, n)
    tau2: Tau2Method = "DL" if method == "freeman-tukey" else "REML"
    pooled = pool(y, v, method=tau2, hartung_knapp=hk, level=level, prediction_df=df)
    harmonic = float(n.size / np.sum(1 / n))
    return _back(
        x, n, method, pooled, "double arcsine", lambda t: double_arcsine_inverse(t, harmonic)
    )


@cache
def _nodes() -> tuple[Floats, Floats]:
    node, weight = np.polynomial.hermite.hermgauss(NODES)
    return node, weight


class _Marginal(NamedTuple):
    """Minus the marginal log-likelihood at (b, tau), its gradient and its Hessian."""

    value: float
    gradient: Floats
    hessian: Floats


def _marginal(b: float, tau: float, x: Floats, n: Floats) -> _Marginal:
    """Integrate each study's binomial over its normal logit b + tau u, u standard normal.

    The nodes sit around the mode of each study's integrand and are as wide as it is, so that large
    studies and large tau are integrated as exactly as small ones. Derivatives are those of the
    integral: the mean score over u, and Louis' formula for the second.
    """
    u = np.zeros_like(x)
    for _ in range(100):  # Newton to each mode; the integrand is log-concave
        p = special.expit(b + tau * u)
        step = (tau * (x - n * p) - u) / (1 + tau**2 * n * p * (1 - p))
        u = u + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-12:
            break
    p = special.expit(b + tau * u)
    width = np.sqrt(2 / (1 + tau**2 * n * p * (1 - p)))
    node, weight = _nodes()
    us = u[:, None] + width[:, None] * node
    eta = b + tau * us
    choose = special.gammaln(n + 1) - special.gammaln(x + 1) - special.gammaln(n - x + 1)
    log_f = choose[:, None] + x[:, None] * eta - n[:, None] * np.logaddexp(0, eta) - us**2 / 2
    log_f += np.log(weight) + node**2 + np.log(width)[:, None] - np.log(2 * np.pi) / 2
    top = log_f.max(axis=1, keepdims=True)
    share = np.exp(log_f - top)
    total = share.sum(axis=1, keepdims=True)
    share /= total
    ps = special.expit(eta)
    residual = x[:, None] - n[:, None] * ps
    spread = n[:, None] * ps * (1 - ps)
    scores = np.stack([residual, residual * us])  # d/db, d/dtau
    mean = np.einsum("dij,ij->di", scores, share)
    second = np.einsum("dij,eij,ij->de", scores, scores, share) - mean @ mean.T
    curve = np.einsum("ij,ij,pij->p", spread, share, np.stack([np.ones_like(us), us, us**2]))
    hessian = np.array([[curve[0], curve[1]], [curve[1], curve[2]]]) - second
    value = -float(np.sum(top[:, 0] + np.log(total[:, 0])))
    return _Marginal(value, -mean.sum(axis=1), hessian)


def _best_b(tau: float, b: float, x: Floats, n: Floats) -> tuple[float, _Marginal]:
    """The b of highest likelihood at this tau, by Newton; the likelihood is log-concave in b."""
    at = _marginal(b, tau, x, n)
    for _ in range(50):
        step = float(np.clip(at.gradient[0] / at.hessian[0, 0], -1, 1))
        b -= step
        at = _marginal(b, tau, x, n)
        if abs(step) < 1e-9:
            break
    return b, at


def _fit_glmm(x: Floats, n: Floats) -> tuple[float, float, float, _Marginal]:
    """(b, tau, se of b, the likelihood there); tau = 0 where nothing beats it.

    The likelihood is stationary at tau = 0 whatever the data, so a climb could stop there wrongly:
    the profile over tau is scanned first, then climbed from its best stretch.
    """
    b = float(special.logit(x.sum() / n.sum()))
    scan = np.concatenate([[0.0], np.geomspace(1e-3, 30, 24)])
    profile = []
    for tau in scan:
        b, at = _best_b(float(tau), b, x, n)
        profile.append((at.value, b))
    best = min(range(scan.size), key=lambda i: profile[i][0])
    b = profile[best][1]
    if best == scan.size - 1:
        raise InputError(
            "the studies differ so much that the GLMM has no maximum; pool them by another method "
            "or not at all"
        )
    if best == 0:
        at = _marginal(b, 0.0, x, n)
        return b, 0.0, float(1 / np.sqrt(at.hessian[0, 0])), at
    found = optimize.minimize_scalar(
        lambda tau: _best_b(tau, b, x, n)[1].value,
        bounds=(scan[best - 1], scan[best + 1]),
        method="bounded",
        options={"xatol": 1e-4 * scan[best]},
    )
    tau = float(found.x)
    b, at = _best_b(tau, b, x, n)
    for _ in range(10):  # Newton in both, to the last digit
        if np.linalg.det(at.hessian) <= 0:
            break
        step = np.linalg.solve(at.hessian, at.gradient)
        after = _marginal(b - step[0], tau - step[1], x, n)
        if tau <= step[1] or after.value > at.value:
            break
        b, tau, at = b - float(step[0]), tau - float(step[1]), after
    return b, tau, float(np.sqrt(np.linalg.inv(at.hessian)[0, 0])), at


def _glmm(
    x: Floats, n: Floats, method: ProportionMethod, hk: bool, level: float, df: PredictionDf
) -> PooledProportion:
    if x.sum() in (0, n.sum()):
        what = "no events" if x.sum() == 0 else "only events"
        raise InputError(
            f"all {x.size} studies have {what} ({x.sum():g} of {n.sum():g}), so the GLMM has no "
            'maximum; use method="crude"'
        )
    if np.all((x == 0) | (x == n)):
        raise InputError(
            f"each of the {x.size} studies has none or all of its events, so the GLMM has no "
            'maximum; use method="logit-reml" or "crude"'
        )
    b, tau, se, at = _fit_glmm(x, n)
    k, z, q = x.size, _quantile(level), _deviance(x, n)
    low, high = _predict(b, se, tau**2, k, level, df)
    tau2_se = float(2 * tau * np.sqrt(np.linalg.inv(at.hessian)[1, 1])) if tau > 0 else None
    pooled = Pooled(
        estimate=b, se=se, low=b - z * se, high=b + z * se, level=level, tau2=tau**2,
        tau2_se=tau2_se, tau2_low=None, tau2_high=None,
        i2_percent=_i2_percent(tau**2, _logits(x, n)[0].variances), q=q,
        q_p_value=float(special.chdtrc(k - 1, q)), df=k - 1, k=k, method="GLMM",
        hartung_knapp=False, prediction_low=low, prediction_high=high,
    )  # fmt: skip
    return _back(x, n, method, pooled, "logit", _expit, minus_log_likelihood=at.value)


_PROPORTION: dict[
    str,
    Callable[
        [Floats, Floats, ProportionMethod, bool, float, PredictionDf], PooledProportion
    ],
] = {
    "glmm": _glmm,
    "logit-dl": _logit,
    "logit-reml": _logit,
    "freeman-tukey": _freeman_tukey,
    "freeman-tukey-reml": _freeman_tukey,
    "crude": _crude,
}  # fmt: skip


# ---- means


def mean_change(
    *, before: ArrayLike, sd_before: ArrayLike, after: ArrayLike, sd_after: ArrayLike,
    n: ArrayLike, correlation: ArrayLike,
) -> Effects:  # fmt: skip
    """By how much did the mean change within each study (after - before), with which variance?

    All [k] in one unit; ``correlation`` is that of before and after, one for all or one a study.
    It is seldom printed and decides the variance, (s0^2 + s1^2 - 2 r s0 s1)/n: say which was
    taken, and try its range. Raises InputError for n < 2, SD <= 0 or a correlation outside -1..1.
    """
    m0, s0, m1, s1, size, r = _read_means(before, sd_before, after, sd_after, n, correlation)
    _check_means(sds=[s0, s1], sizes=[size], correlation=r)
    return Effects(m1 - m0, (s0**2 + s1**2 - 2 * r * s0 * s1) / size)


def standardised_mean_change(
    *, before: ArrayLike, sd_before: ArrayLike, after: ArrayLike, n: ArrayLike,
    correlation: ArrayLike,
) -> Effects:  # fmt: skip
    """The mean change in units of the SD before, corrected for small n (for different scales).

    g = J (after - before)/sd_before, variance 2(1 - r)/n + g^2/(2n), J = G(m/2)/(sqrt(m/2)
    G((m-1)/2)) with m = n - 1 (Becker 1988; metafor's SMCR). Raises as ``mean_change``.
    """
    m0, s0, m1, size, r = _read_means(before, sd_before, after, n, correlation)
    _check_means(sds=[s0], sizes=[size], correlation=r)
    g = _small_sample(size - 1) * (m1 - m0) / s0
    return Effects(g, 2 * (1 - r) / size + g**2 / (2 * size))


def mean_difference(
    *, mean_1: ArrayLike, sd_1: ArrayLike, n_1: ArrayLike,
    mean_2: ArrayLike, sd_2: ArrayLike, n_2: ArrayLike,
) -> Effects:  # fmt: skip
    """By how much do two separate groups of each study differ (1 - 2), in the unit of the means?"""
    m1, s1, n1, m2, s2, n2 = _read_means(mean_1, sd_1, n_1, mean_2, sd_2, n_2)
    _check_means(sds=[s1, s2], sizes=[n1, n2])
    return Effects(m1 - m2, s1**2 / n1 + s2**2 / n2)


def standardised_mean_difference(
    *, mean_1: ArrayLike, sd_1: ArrayLike, n_1: ArrayLike,
    mean_2: ArrayLike, sd_2: ArrayLike, n_2: ArrayLike,
) -> Effects:  # fmt: skip
    """Hedges' g: the difference of two groups in units of their common SD, small-sample exact.

    Variance 1/n1 + 1/n2 + g^2/(2(n1 + n2)) (metafor's SMD).
    """
    m1, s1, n1, m2, s2, n2 = _read_means(mean_1, sd_1, n_1, mean_2, sd_2, n_2)
    _check_means(sds=[s1, s2], sizes=[n1, n2])
    df = n1 + n2 - 2
    common = np.sqrt(((n1 - 1) * s1**2 + (n2 - 1) * s2**2) / df)
    g = _small_sample(df) * (m1 - m2) / common
    return Effects(g, 1 / n1 + 1 / n2 + g**2 / (2 * (n1 + n2)))


def pool_means(
    *, before: ArrayLike, sd_before: ArrayLike, after: ArrayLike, sd_after: ArrayLike,
    n: ArrayLike, correlation: ArrayLike, method: Tau2Method = "REML",
    hartung_knapp: bool = False, level: float = 0.95, prediction_df: PredictionDf = "k-2",
) -> Pooled:  # fmt: skip
    """By how much did the mean change over all studies? ``pool`` of ``mean_change``.

    >>> pool_means(before=[8, 7], sd_before=1, after=[3, 4], sd_after=2, n=[20, 30],
    ...            correlation=0.5, method="FE").estimate
    -3.8
    """
    y, v = mean_change(
        before=before, sd_before=sd_before, after=after, sd_after=sd_after, n=n,
        correlation=correlation,
    )  # fmt: skip
    return pool(
        y, v, method=method, hartung_knapp=hartung_knapp, level=level, prediction_df=prediction_df
    )


def _small_sample(m: Floats) -> Floats:
    j: Floats = np.exp(special.gammaln(m / 2) - special.gammaln((m - 1) / 2)) / np.sqrt(m / 2)
    return j


def _read_means(*columns: ArrayLike) -> list[Floats]:
    try:
        given = [np.atleast_1d(np.asarray(c, dtype=np.float64)) for c in columns]
        table = [np.array(c) for c in np.broadcast_arrays(*given)]
    except (TypeError, ValueError) as error:
        raise InputError(f"means, SDs and sizes must be one number a study ({error})") from None
    if not all(np.all(np.isfinite(c)) for c in table):
        raise InputError("a mean, SD or size is missing; expected a number from every study")
    return table


def _check_means(
    *, sds: list[Floats], sizes: list[Floats], correlation: Floats | None = None
) -> None:
    if any(np.any(c <= 0) for c in sds):
        raise InputError("an SD is 0 or less; expected the SD of single patients, more than 0")
    if any(np.any(c < 2) for c in sizes):
        raise InputError("a study has fewer than 2 patients; leave it out or pool its patients")
    if correlation is not None and np.any(np.abs(correlation) > 1):
        raise InputError("a correlation lies outside -1 to 1; expected that of before and after")
