"""A proportion when cases come in clusters: several lesions of one patient are not independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from trocar.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ClusterProportion:
    """x of n in clusters; ``design_effect`` is how many times the variance is as if independent.

    It is None where it cannot be estimated: all or none have it, or there is one cluster.
    """

    x: int
    n: int
    clusters: int
    fraction: float
    design_effect: float | None
    effective_n: float
    low: float
    high: float
    level: float
    method: str


def cluster_proportion(
    outcomes: ArrayLike, clusters: ArrayLike, *, level: float = 0.95
) -> ClusterProportion:
    """Which fraction has the outcome, and within which limits when cases come in clusters?

    ``outcomes`` [n] True or False, ``clusters`` [n] name each case's cluster. The variance of the
    fraction is the linearised one between clusters; the limits are Clopper and Pearson's at the
    effective size, which is never more than n (Korn and Graubard, Surv Methodol 1998;24:193-201).
    Clusters of one give the usual exact limits. Where all or none have the outcome the correlation
    is unknown and every cluster counts once. Raises InputError for no cases and lengths that
    differ.

    >>> found = cluster_proportion([1, 1, 0, 0], ["a", "a", "b", "c"])
    >>> found.x, found.clusters, round(found.effective_n, 3)
    (2, 3, 1.297)
    """
    y = np.asarray(outcomes, dtype=np.float64).ravel()
    _, which = np.unique(np.asarray(clusters), return_inverse=True)
    if y.size == 0 or which.size != y.size:
        raise InputError(
            f"{y.size} outcomes came with {which.size} clusters; expected one each, at least one"
        )
    if not np.all((y == 0) | (y == 1)):
        raise InputError("an outcome is neither yes nor no; leave out the cases not known")
    n, x = int(y.size), int(y.sum())
    k = int(which.max()) + 1
    p = x / n
    effect: float | None = None
    size = float(k)
    if 0 < x < n and k > 1:
        residual = np.bincount(which, weights=y - p)
        # (n - 1)/n makes clusters of one give the binomial variance itself
        variance = k / (k - 1) * (n - 1) / n * float(residual @ residual) / n**2
        effect = variance * n / (p * (1 - p))
        upper = 0.5 + level / 2
        t = special.stdtrit(n - 1, upper) / special.stdtrit(k - 1, upper)
        size = n if effect == 0 else min(float(n), n / effect * float(t) ** 2)
    hits, misses, tail = p * size, (1 - p) * size, (1 - level) / 2
    low = 0.0 if x == 0 else float(special.betaincinv(hits, misses + 1, tail))
    high = 1.0 if x == n else float(special.betaincinv(hits + 1, misses, 1 - tail))
    return ClusterProportion(
        x=x, n=n, clusters=k, fraction=p, design_effect=effect, effective_n=size,
        low=low, high=high, level=level,
        method="linearised variance between patients, exact limits at the effective size "
        "(Korn and Graubard 1998)",
    )  # fmt: skip
