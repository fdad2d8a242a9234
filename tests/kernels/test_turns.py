"""Parts that threads take as they come free: all of the work, each once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numba import njit, prange

from trocar.kernels.turns import claimed, cuts


@njit(parallel=True)
def _all_claimed(turns, counts, threads) -> None:
    for _ in prange(threads):
        i = claimed(turns, 1)
        while i < counts.size:
            counts[i] += 1
            i = claimed(turns, 1)


@given(st.integers(1, 1024), st.integers(1, 64))
def test_parts_are_the_whole_and_large_ones_come_first(planes: int, threads: int) -> None:
    at = cuts(planes, threads)
    parts = np.diff(at)
    assert at[0] == 0
    assert at[-1] == planes
    assert np.all(parts > 0)
    if threads == 1:
        assert parts.size == 1
    else:
        assert np.all(np.diff(parts[:-1]) <= 0)
        assert parts[0] <= max(planes / threads, 7)


def test_nobody_gets_the_turn_of_another() -> None:
    for threads in (1, 2, 5):
        turns, counts = np.array([7, 0, 7]), np.zeros(100_000, np.int64)
        _all_claimed(turns, counts, threads)
        assert np.all(counts == 1)
        assert turns[1] == counts.size + threads
        assert turns[0] == turns[2] == 7
