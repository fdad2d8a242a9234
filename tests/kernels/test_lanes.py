"""Numbers side by side: what each word does, on either kind of float, whatever the processor."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from trocar.kernels import lanes

KINDS = (np.float32, np.float64)
BEYOND = -7.0


@njit
def _copy_some(given, out, at, count) -> None:
    source, target = lanes.start(given, (1,)), lanes.start(out, (1,))
    like = lanes.everywhere(given[0, 0])
    lanes.write_some(target, at, count, lanes.read_some(like, source, at, count))


@njit
def _masked_then_whole(given, out, count) -> None:
    like = lanes.everywhere(given[0, 0])
    some = lanes.read_some(like, lanes.start(given, (0,)), 0, count)
    lanes.write(lanes.start(out, (0,)), 0, some)


@njit
def _reckon(a, b, out) -> None:
    p, q, like = lanes.start(a, (0,)), lanes.start(b, (0,)), lanes.everywhere(a[0, 0])
    x, y = lanes.read(like, p, 0), lanes.read(like, q, 0)
    lanes.write(lanes.start(out, (0,)), 0, x + y)
    lanes.write(lanes.start(out, (1,)), 0, x - y)
    lanes.write(lanes.start(out, (2,)), 0, x * y)
    lanes.write(lanes.start(out, (3,)), 0, lanes.where(x, y))
    lanes.write(lanes.start(out, (4,)), 0, lanes.behind(x, y))
    lanes.write(lanes.start(out, (5,)), 0, lanes.everywhere(a[0, 1]))


@njit
def _asked(a) -> tuple:
    x = lanes.read(lanes.everywhere(a[0, 0]), lanes.start(a, (0,)), 0)
    return lanes.abreast(a), lanes.any_of(x), lanes.total(x)


@njit
def _last_alone(a, b, out, at) -> None:
    """The last number of a row of ``a`` times the one at ``at`` in ``b``, put there in ``out``."""
    x = lanes.last_of(lanes.read(lanes.everywhere(a[0, 0]), lanes.start(a, (0,)), 0))
    target = lanes.start(out, (0,))
    lanes.write_some(target, at, 1, x * lanes.read_some(x, lanes.start(b, (0,)), at, 1))
    lanes.write(target, at + 1, x + lanes.read(x, lanes.start(b, (0,)), at + 1))


@njit
def _product_in_double(a, b) -> float:
    p, q, like = lanes.start(a, (0,)), lanes.start(b, (0,)), lanes.everywhere(a[0, 0])
    x, y = lanes.in_double(lanes.read(like, p, 0)), lanes.in_double(lanes.read(like, q, 0))
    return lanes.total(x * y)


@njit
def _begun(a) -> None:
    lanes.start(a, (0,))


@njit
def _fetched(a, at) -> float:
    lanes.fetch(lanes.start(a, (0,)), at)
    return a[0, 0]


def _count(kind) -> int:
    return lanes.WIDTH // np.dtype(kind).itemsize


@pytest.mark.parametrize("kind", KINDS)
def test_some_lanes_are_read_and_written_and_none_beyond(kind) -> None:
    n = _count(kind)
    given = np.arange(6.0 * n).reshape(2, 3 * n).astype(kind)
    for at in (0, 1, n - 1):
        for count in range(2 * n):
            out = np.full_like(given, BEYOND)
            _copy_some(given, out, at, count)
            expected = np.full_like(given, BEYOND)
            last = at + min(count, n)
            expected[1, at:last] = given[1, at:last]
            assert np.array_equal(out, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_lanes_not_read_are_zero(kind) -> None:
    n = _count(kind)
    given, out = np.full((1, n), 3.0, kind), np.full((1, n), BEYOND, kind)
    for count in range(n + 1):
        _masked_then_whole(given, out, count)
        assert np.array_equal(out[0], np.where(np.arange(n) < count, 3.0, 0.0))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_reckoned_lane_by_lane(kind) -> None:
    n = _count(kind)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 1, n)).astype(kind)
    out = np.empty((6, n), kind)
    _reckon(a, b, out)
    x, y = a[0], b[0]
    assert np.array_equal(out[:3], np.stack([x + y, x - y, x * y]))
    assert np.array_equal(out[3], np.where(x > 0, y, 0))
    assert np.array_equal(out[4], np.concatenate([x[-1:], y[:-1]]))
    assert np.all(out[5] == x[1])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked_of_all_lanes(kind) -> None:
    n = _count(kind)
    a = np.zeros((1, n), kind)
    assert _asked(a) == (n, False, 0.0)
    for i in range(n):
        a[:] = 0.0
        a[0, i] = -2.0
        assert _asked(a) == (n, True, -2.0)
    a[0] = np.arange(n)
    assert _asked(a)[2] == n * (n - 1) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_number_goes_on_alone(kind) -> None:
    n = _count(kind)
    a, b = np.random.default_rng(1).standard_normal((2, 1, 2 * n)).astype(kind)
    for at in range(2 * n - 1):
        out = np.full_like(b, BEYOND)
        _last_alone(a, b, out, at)
        expected = np.full_like(b, BEYOND)
        expected[0, at] = a[0, n - 1] * b[0, at]
        expected[0, at + 1] = a[0, n - 1] + b[0, at + 1]
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_products_in_double_lose_nothing_of_single_ones(kind) -> None:
    n = _count(kind)
    a, b = np.random.default_rng(2).standard_normal((2, 1, n)).astype(kind)
    exact = float((a.astype(float) * b.astype(float)).sum())
    assert _product_in_double(a, b) == pytest.approx(exact, rel=1e-15)
    # What single precision would round off: one and very little.
    a[:], b[:] = 0.0, 1.0
    a[0, 0], a[0, n - 1] = 1.0, 2.0**-40
    assert _product_in_double(a, b) == 1.0 + 2.0**-40


def test_a_row_is_named_by_all_indices_but_the_last() -> None:
    _begun(np.zeros((1, 16)))
    with pytest.raises(Exception, match="start"):
        _begun(np.zeros((1, 2, 16)))
    with pytest.raises(Exception, match="start"):
        _begun(np.zeros((16, 2)).T)  # not one number after another


@pytest.mark.parametrize("kind", KINDS)
def test_any_place_may_be_fetched_and_nothing_changes(kind) -> None:
    a = np.arange(6.0).reshape(2, 3).astype(kind)
    for at in (0, 5, 10**4, -(10**4), 2**50):
        assert _fetched(a, at) == 0.0
    assert np.array_equal(a.ravel(), np.arange(6.0))
