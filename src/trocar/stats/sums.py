"""How many ways are there to reach a sum? Subsets of whole numbers, counted without rounding.

Every sign-flip test asks this: with the signs tossed like coins, how often do the positive ranks
add up to so little? Shared by the signed-rank test, the permutation test and the interval of
Hodges and Lehmann.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trocar.errors import InputError

WORD_WEIGHTS = 62  # 2**62 subsets still fit an int64
TABLE_CELLS = 4_000_000  # the largest table of counts, 32 MB of int64
HALVES_WEIGHTS = 36  # 2 * 2**18 sums are listed


def subsets_at_most(weights: Sequence[int], limit: int) -> int:
    """How many subsets of ``weights`` (whole numbers above 0) have a sum of at most ``limit``?

    Raises InputError where the sums are too many to be told apart in memory: more than
    ``HALVES_WEIGHTS`` weights without a coarse common divisor.
    """
    if limit < 0:
        return 0
    divisor = math.gcd(*weights) or 1
    top = min(limit, sum(weights)) // divisor
    steps = sorted(weight // divisor for weight in weights if weight <= limit)  # others never fit
    n = len(steps)
    if (top + 1) * (n // WORD_WEIGHTS + 1) <= TABLE_CELLS:
        if n <= WORD_WEIGHTS:
            return int(_count_in_words(np.array(steps, np.int64), top))
        return _poly(steps, top) % ((1 << 8 * _width(n)) - 1)  # the sum of the digits
    if n <= HALVES_WEIGHTS:
        return _count_by_halves(steps, top)
    raise InputError(
        f"{n} numbers up to {steps[-1]:.3g} times their common step have too many different sums; "
        f"expected at most {HALVES_WEIGHTS} such numbers: give the step of the scale, or round"
    )


def subset_counts(weights: Sequence[int], limit: int) -> list[int]:
    """How many subsets of ``weights`` (whole numbers above 0) sum to 0, 1, ... ``limit``?"""
    width = _width(len(weights))
    digits = _poly(sorted(weights), limit).to_bytes(width * (limit + 1), "little")
    return [
        int.from_bytes(digits[i : i + width], "little")
        for i in range(0, width * (limit + 1), width)
    ]


def _width(n: int) -> int:
    """Bytes that hold any count of subsets of n weights, and 2**n - 1 is not yet all ones."""
    return n // 8 + 1


def _poly(weights: Sequence[int], limit: int) -> int:
    """The product of 1 + x**w up to x**limit, written as one integer at x = 256**width.

    Kronecker's substitution: the digits to base 256**width are the counts. Each weight is a shift
    and an addition of the whole integer, so Python does the loop over sums in C, exactly.
    """
    bits = 8 * _width(len(weights))
    poly, degree = 1, 0
    keep = (1 << bits * (limit + 1)) - 1
    for weight in weights:
        poly += poly << bits * weight
        degree += weight
        if degree > limit:
            poly &= keep
            degree = limit
    return poly


@njit(cache=True, nogil=True)
def _count_in_words(weights: NDArray[np.int64], limit: int) -> int:
    """The same shift and addition in machine words; ``weights`` ascend, so early rows are short."""
    counts = np.zeros(limit + 1, np.int64)
    counts[0] = 1
    degree = 0
    for weight in weights:
        degree = min(limit, degree + weight)
        for total in range(degree, weight - 1, -1):  # downwards, so each weight is used once
            counts[total] += counts[total - weight]
    return int(counts.sum())


def _count_by_halves(weights: Sequence[int], limit: int) -> int:
    """List the sums of either half, sort, and walk one up while the other goes down."""
    left, right = (sorted(_sums(weights[k::2])) for k in range(2))
    count, j = 0, len(right)
    for total in left:
        while j and total + right[j - 1] > limit:
            j -= 1
        count += j
    return count


def _sums(weights: Sequence[int]) -> list[int]:
    sums = [0]
    for weight in weights:
        sums += [total + weight for total in sums]
    return sums
