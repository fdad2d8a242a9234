"""What if the needle does not go where it was planned: the chance that it passes a limit."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from trocar.model.space import Float, Segment

SAMPLES = 4000  # of misplaced needles; the interval says what this number leaves open
_Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


def misplaced(
    path: Segment, *, tip_mm: float, angle_deg: float, samples: int, seed: int
) -> tuple[Float, Float]:
    """Entries and tips (n, 3) of needles placed with error.

    The tip is displaced across the axis, normally in two directions with standard deviation
    ``tip_mm`` each; the direction is turned about the tip by normal angles with ``angle_deg``.
    """
    rng = np.random.default_rng(seed)
    u = -path.direction
    a = np.cross(u, np.eye(3)[np.argmin(np.abs(u))])
    a /= np.linalg.norm(a)
    across = np.stack([a, np.cross(u, a)])
    tips = path.end_mm + rng.normal(scale=tip_mm, size=(samples, 2)) @ across
    lean = rng.normal(scale=np.radians(angle_deg), size=(samples, 2)) @ across
    ways = u + lean
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    return tips + path.length_mm * ways, tips


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927).

    >>> [round(v, 4) for v in wilson(8, 65)]
    [0.0637, 0.2245]
    """
    p, z2 = hits / n, _Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(hits: NDArray[np.bool_]) -> tuple[float, tuple[float, float]]:
    """Part of the misplaced needles that are hit, and its 95 % Monte Carlo interval."""
    n, of = int(np.count_nonzero(hits)), len(hits)
    return n / of, wilson(n, of)
