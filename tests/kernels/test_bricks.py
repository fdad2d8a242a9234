"""One pass over the bricks, and what becomes of K u: every ending against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trocar.kernels import bricks

CUBES, LONG = (1.0, 1.0, 1.0), (0.25, 0.7, 1.0)
SIDES = st.integers(1, 6)
KEEP, WEIGHT, AGAIN = 1.3, 0.35, 0.4


def _problem(shape, ratio, kind, void: float):
    """(K u in float64; u, lame, shear, ratio, b, inverse in the wanted kind)."""
    rng = np.random.default_rng(sum(shape))
    nodes = (3, *(n + 1 for n in shape))
    lame, shear = rng.random((2, *shape)) + 0.1
    bone = rng.random(shape) >= void
    lame, shear = lame * bone, shear * bone
    inverse = rng.random(nodes) * (rng.random(nodes) > 0.2)
    u, b = rng.standard_normal((2, *nodes))
    rounded = [a.astype(kind) for a in (u, lame, shear, np.array(ratio), b, inverse)]
    return _forces(*(a.astype(float) for a in rounded[:4])), rounded


def _forces(u, lame, shear, ratio):
    """K u, from one corner of every brick to another."""
    out = np.zeros(u.shape)
    corners = [
        (a, *(slice(i, i + n) for i, n in zip(at, lame.shape, strict=True)))
        for a in range(3)
        for at in np.ndindex(2, 2, 2)
    ]
    of_lame, of_shear = bricks.brick_stiffness(tuple(map(float, ratio)))
    for p, here in enumerate(corners):
        for q, there in enumerate(corners):
            out[here] += (of_lame[p, q] * lame + of_shear[p, q] * shear) * u[there]
    return out


def _off(found, expected) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def _dot(a, b):
    """Their inner product as float64 gives it: single precision anywhere would be told apart."""
    terms = a.astype(float) * b.astype(float)
    return pytest.approx(terms.sum(), abs=1e-14 * np.abs(terms).sum())


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES, st.integers(1, 40), st.sampled_from((0.0, 0.6, 0.95)), st.booleans())
@example(3, 2, 7, 0.6, True)  # nodes that fill the lanes, of 4, 8 or 16 numbers
@example(3, 2, 8, 0.0, True)
@example(2, 3, 15, 0.6, False)
@example(2, 3, 16, 0.95, False)
@example(30, 26, 33, 0.4, True)  # on all threads
def test_endings_are_what_they_say(nz: int, ny: int, nx: int, void: float, cubes: bool) -> None:
    ratio = CUBES if cubes else LONG
    force, (u, *brick, b, inverse) = _problem((nz, ny, nx), ratio, np.float32, void)
    u64, b64, free = u.astype(float), b.astype(float), inverse.astype(float)

    out = np.full_like(u, np.nan)
    bricks.product(u, *brick, out)
    assert _off(out, force) < 1e-5

    out = np.full_like(u, np.nan)
    bend = bricks.bent(u, *brick, out)
    assert _off(out, force) < 1e-5
    assert bend == pytest.approx((u64 * force).sum(), rel=1e-5, abs=1e-6)
    assert bend == _dot(out, u)

    out = np.full_like(u, np.nan)
    bricks.unbalanced(u, *brick, b, inverse, out)
    assert _off(out, np.where(free > 0, b64 - force, 0.0)) < 1e-5
    assert np.all(out[inverse == 0] == 0.0)

    out = np.full_like(u, np.nan)
    bricks.stepped(u, *brick, b, inverse, out, WEIGHT, keep=KEEP)
    assert _off(out, KEEP * u64 + WEIGHT * free * (b64 - force)) < 1e-5

    before = np.random.default_rng(1).standard_normal(u.shape).astype(np.float32)
    out = before.copy()
    dot = bricks.stepped(u, *brick, b, inverse, out, WEIGHT, AGAIN)
    expected = (1 + AGAIN) * u64 - AGAIN * before + WEIGHT * free * (b64 - force)
    assert _off(out, expected) < 1e-5
    size = np.abs(expected * b64).sum()
    assert dot == pytest.approx((expected * b64).sum(), abs=1e-5 * size)
    assert dot == _dot(out, b)


@pytest.mark.parametrize(("nz", "ny", "nx"), [(1, 4, 9), (23, 9, 17), (40, 6, 8)])
def test_threads_change_no_bit_and_sums_come_out_alike(monkeypatch, nz, ny, nx) -> None:
    _, (u, *brick, b, inverse) = _problem((nz, ny, nx), CUBES, np.float32, 0.3)
    before = np.random.default_rng(2).standard_normal(u.shape).astype(np.float32)

    def endings(threads: int):
        monkeypatch.setattr(bricks, "ranges_of", lambda _: threads)
        plain, bent, rest = (np.full_like(u, np.nan) for _ in range(3))
        bricks.product(u, *brick, plain)
        dots = [bricks.bent(u, *brick, bent)]
        bricks.unbalanced(u, *brick, b, inverse, rest)
        onward = before.copy()
        dots.append(bricks.stepped(u, *brick, b, inverse, onward, WEIGHT, AGAIN))
        return np.array([plain, bent, rest, onward]), dots

    alone, by_one = endings(1)
    for threads in (2, 3, 7):
        found, dots = endings(threads)
        assert np.array_equal(found, alone)
        assert dots == pytest.approx(by_one, rel=1e-12)
        for _ in range(20):
            again, same = endings(threads)
            assert np.array_equal(again, alone)
            assert same == dots


def test_without_a_weight_for_the_last_step_none_is_read() -> None:
    _, (u, *brick, b, inverse) = _problem((2, 3, 9), CUBES, np.float32, 0.0)
    out = np.full_like(u, np.inf)
    bricks.stepped(u, *brick, b, inverse, out, WEIGHT)
    assert np.all(np.isfinite(out))


@pytest.mark.parametrize("ratio", [CUBES, LONG])
def test_a_brick_is_symmetric_and_shear_resists_all_but_six_motions(ratio) -> None:
    for weights in bricks.brick_stiffness(ratio):
        assert _off(weights, weights.T) < 1e-14
    shear = np.linalg.eigvalsh(bricks.brick_stiffness(ratio)[1])
    assert int((np.abs(shear) < 1e-12).sum()) == 6
    assert shear[6] > 1e-3


@pytest.mark.parametrize("ratio", [CUBES, LONG, (2.0, 0.5, 1.3)])
def test_a_brick_is_what_gauss_points_give(ratio) -> None:
    corners, gauss = list(np.ndindex(2, 2, 2)), (0.5 - 0.75**0.5 / 3, 0.5 + 0.75**0.5 / 3)
    root = np.sqrt(ratio)
    expected = np.zeros((2, 24, 24))
    for at in ((z, y, x) for z in gauss for y in gauss for x in gauss):
        change = np.zeros((24, 3, 3))  # of component a along b, as corner i of it moves
        for i, corner in enumerate(corners):
            share = [p if on else 1 - p for p, on in zip(at, corner, strict=True)]
            for b in range(3):
                slope = (1 if corner[b] else -1) * np.prod([share[c] for c in range(3) if c != b])
                for a in range(3):
                    change[8 * a + i, a, b] = root[a] * root[b] * slope
        grows, bends = np.trace(change, axis1=1, axis2=2), change + change.transpose(0, 2, 1)
        expected[0] += np.outer(grows, grows) / 8
        expected[1] += np.einsum("iab,jab->ij", bends, bends) / 2 / 8
    found = bricks.brick_stiffness(ratio)
    assert _off(found[0], 16 * expected[0]) < 1e-14
    assert _off(found[1], 16 * expected[1]) < 1e-14


def test_void_in_every_chunk_gives_nothing() -> None:
    _, (u, lame, shear, ratio, *_) = _problem((4, 5, 33), CUBES, np.float32, 0.0)
    out = np.full_like(u, np.nan)
    bricks.product(u, 0 * lame, 0 * shear, ratio, out)
    assert np.all(out == 0.0)


def test_a_single_voxel_in_void_moves_its_own_corners_alone() -> None:
    shape = (3, 4, 37)
    for x in range(shape[2]):
        bone = np.zeros(shape, np.float32)
        bone[1, 2, x] = 1.0
        u = np.random.default_rng(x).standard_normal((3, 4, 5, 38)).astype(np.float32)
        out = np.empty_like(u)
        bricks.product(u, bone, bone, np.ones(3, np.float32), out)
        corners = np.zeros((3, 4, 5, 38), bool)
        corners[:, 1:3, 2:4, x : x + 2] = True
        lame, shear = bricks.brick_stiffness(CUBES)
        expected = (lame + shear) @ u[:, 1:3, 2:4, x : x + 2].astype(float).ravel()
        assert np.all(out[~corners] == 0.0)
        assert _off(out[corners], expected) < 1e-5
