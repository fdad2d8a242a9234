"""Multigrid for voxel bricks: one float32 cycle that brings a residual near to its displacement.

Two Chebyshev-Jacobi steps before and after, trilinear transfer, each coarse voxel with the mean of
its eight children's Lame numbers (less where some are void), the coarsest grid solved outright.
Beside it the passes over vectors that conjugate gradients take.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from trocar.kernels.bricks import (
    assemble,
    bent,
    brick_stiffness,
    invert_diagonal,
    ranges_of,
    stepped,
    unbalanced,
)
from trocar.kernels.lanes import (
    abreast,
    everywhere,
    read,
    read_some,
    start,
    where,
    write,
    write_some,
)

Bool = NDArray[np.bool_]

_COARSEST = 1_000  # displacements of the grid that is solved outright
_LOWEST, _ABOVE = 0.15, 1.1  # of the smoother: shares of the largest eigenvalue of D^-1 K it damps
_GAPS = 0.4  # power of the share of children that are bone, found by trial
_GUESSES = 10  # steps of the Lanczos process that finds that eigenvalue


@dataclass(eq=False)
class Level:
    """One grid of the multigrid: Lame's numbers of its voxels and the vectors of its nodes."""

    lame: NDArray[np.float32]
    shear: NDArray[np.float32]
    held: Bool
    inverse: NDArray[np.float32]  # of K's diagonal; 0 where held or void
    b: NDArray[np.float32]
    x: NDArray[np.float32]
    other: NDArray[np.float32]
    weights: tuple[float, float, float] = (0.0, 0.0, 0.0)
    live: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    solved: NDArray[np.float64] | None = None  # the inverse of K at the live displacements

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> Level:
        """One for so many voxels, nothing in it yet."""
        nodes = (3, *(n + 1 for n in shape))

        def vector() -> NDArray[np.float32]:
            return np.zeros(nodes, np.float32)

        return cls(
            lame=np.zeros(shape, np.float32),
            shear=np.zeros(shape, np.float32),
            held=np.zeros(nodes, np.bool_),
            inverse=vector(),
            b=vector(),
            x=vector(),
            other=vector(),
        )


def empty_levels(shape: tuple[int, int, int]) -> list[Level]:
    """Grids of half as many voxels each, down to one that can be solved outright."""
    levels = [Level.empty(shape)]
    while levels[-1].b.size > _COARSEST:
        z, y, x = ((n + 1) // 2 for n in levels[-1].lame.shape)
        levels.append(Level.empty((z, y, x)))
    return levels


def fill_levels(levels: list[Level], ratio: NDArray[np.float64]) -> None:
    """Coarse voxels, diagonals, the smoother's weights and the coarsest grid's inverse."""
    single = ratio.astype(np.float32)
    for above, below in pairwise(levels):
        _coarsen(above.lame, above.shear, below.lame, below.shear)
        _coarsen_held(above.held, above.shear, below.held)
    for level in levels:
        invert_diagonal(level.lame, level.shear, level.held, ratio, level.inverse)
    for level in levels[:-1]:
        level.weights = _smoother(_largest_eigenvalue(level, single))
    _solve_outright(levels[-1], ratio)


def _largest_eigenvalue(level: Level, ratio: NDArray[np.float32]) -> float:
    """The largest eigenvalue of D^-1 K, by the Lanczos process inside conjugate gradients."""
    ranges = ranges_of(level.lame.shape)
    parts, weights = np.zeros(3 * ranges), np.ones(3)
    _noise(level.b, level.inverse)
    r, z, q, p = level.b, level.x, level.other, np.zeros_like(level.b)
    none = np.zeros((0, 0, 0, 0), np.float32)
    along, onward, rho_old = [], [0.0], 0.0
    for i in range(_GUESSES):
        _scale(r, level.inverse, 1.0, z, ranges)
        rho = dot(z, r, parts, ranges)
        if not rho > 0.0:
            break
        if i > 0:
            onward.append(rho / rho_old)
        turned(p, z, onward[-1], ranges)
        bend = bent(p, level.lame, level.shear, ratio, q)
        if not bend > 0.0:
            break
        along.append(rho / bend)
        rho_old = rho
        advance(none, r, p, q, level.inverse, weights, along[-1], parts)
    if not along:
        return 1.0
    a, b = np.array(along), np.array(onward[: len(along)])
    diagonal = 1.0 / a
    diagonal[1:] += b[1:] / a[:-1]
    beside = np.sqrt(b[1:]) / a[:-1]
    return float(
        np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))[-1]
    )


def _smoother(largest: float) -> tuple[float, float, float]:
    """Of two Chebyshev steps: what the residual weighs in each, and the last step in the second."""
    high, low = _ABOVE * largest, _LOWEST * largest
    middle, half = (high + low) / 2, (high - low) / 2
    rho0 = half / middle
    rho1 = 1.0 / (2.0 * middle / half - rho0)
    return 1.0 / middle, 2.0 * rho1 / half, rho1 * rho0


def _solve_outright(level: Level, ratio: NDArray[np.float64]) -> None:
    """Invert the coarsest stiffness; a little is added where nothing may hold a piece of it."""
    of_lame, of_shear = brick_stiffness(tuple(ratio))
    k = np.zeros((level.b.size, level.b.size))
    assemble(level.lame, level.shear, of_lame, of_shear, k)
    level.live = np.flatnonzero(level.inverse.ravel() > 0)
    k = k[np.ix_(level.live, level.live)]
    k[np.diag_indices_from(k)] *= 1.0 + 1e-7
    level.solved = np.zeros_like(k)
    if k.size:
        level.solved = cho_solve(cho_factor(k, lower=True), np.eye(len(k)))


def cycle(
    levels: list[Level], i: int, ratio: NDArray[np.float32], visits: int = 1, onward: bool = False
) -> float:
    """One cycle on level i for its right-hand side ``b``; the result is its ``x``. Gives x . b.

    Every coarser grid is visited ``visits`` times: once (V) is enough for bone, twice (W) for thin
    struts in void, whose stiffness a coarse voxel misjudges. ``onward`` goes on from ``x``.
    """
    level = levels[i]
    b, x, other = level.b, level.x, level.other
    if level.solved is not None:
        load = b.reshape(-1)[level.live]
        found = level.solved @ load
        x.reshape(-1)[level.live] = found
        return float(found @ load)
    ranges, below = ranges_of(level.lame.shape), levels[i + 1]
    brick, inverse = (level.lame, level.shear, ratio), level.inverse
    first, second, again = level.weights
    if onward:
        stepped(x, *brick, b, inverse, other, first)
        stepped(other, *brick, b, inverse, x, second, again)
    else:
        _scale(b, inverse, first, other, ranges)
        stepped(other, *brick, b, inverse, x, second, keep=1.0 + again)
    unbalanced(x, *brick, b, inverse, other)
    _restrict(other, below.b, ranges)
    for visit in range(1 if below.solved is not None else visits):
        cycle(levels, i + 1, ratio, visits, visit > 0)
    _prolong(below.x, x, inverse, ranges)
    stepped(x, *brick, b, inverse, other, first)
    return stepped(other, *brick, b, inverse, x, second, again)


# --- vectors ---------------------------------------------------------------------------
#
# Each comes as a stretch of numbers that one thread does, and as a pass over all of them.


@njit(cache=True, nogil=True, error_model="numpy")
def _scale_part(b: Any, inverse: Any, weight: Any, out: Any, lo: int, hi: int) -> None:
    b, inverse, out = b[lo:hi], inverse[lo:hi], out[lo:hi]
    for i in range(b.size):
        out[i] = weight * inverse[i] * b[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _dot_part(a: Any, b: Any, lo: int, hi: int) -> float:
    a, b = a[lo:hi], b[lo:hi]
    total = 0.0
    for i in range(a.size):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _onward_part(p: Any, z: Any, beta: Any, lo: int, hi: int) -> None:
    p, z = p[lo:hi], z[lo:hi]
    for i in range(p.size):
        p[i] = z[i] + beta * p[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _advance_part(
    x: Any, r: Any, p: Any, q: Any, inverse: Any, along: Any, lo: int, hi: int
) -> float:
    x, r, p, q, inverse = x[lo:hi], r[lo:hi], p[lo:hi], q[lo:hi], inverse[lo:hi]
    none = r.dtype.type(0.0)
    total = 0.0
    for i in range(r.size):
        r[i] = r[i] - along * q[i] if inverse[i] > none else none
        total += np.float64(r[i]) * np.float64(r[i])
    if x.size > 0:
        for i in range(r.size):
            x[i] += along * p[i]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _imbalance_part(g: Any, q: Any, inverse: Any, factor: float, b: Any, lo: int, hi: int) -> float:
    q, inverse, b = q[lo:hi], inverse[lo:hi], b[lo:hi]
    total = 0.0
    if g.size == 0:
        for i in range(b.size):
            r = -q[i] if inverse[i] > 0.0 else 0.0
            b[i] = r * factor
            total += r * r
    else:
        g = g[lo:hi]
        for i in range(b.size):
            r = g[i] - q[i] if inverse[i] > 0.0 else 0.0
            b[i] = r * factor
            total += r * r
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _take_part(u: Any, x: Any, factor: float, lo: int, hi: int) -> None:
    u, x = u[lo:hi], x[lo:hi]
    for i in range(u.size):
        u[i] += factor * x[i]
        x[i] = 0.0


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _scale_parallel(b: Any, inverse: Any, weight: Any, out: Any, ranges: int) -> None:
    for k in prange(ranges):
        lo, hi = b.size * k // ranges, b.size * (k + 1) // ranges
        _scale_part(b, inverse, weight, out, lo, hi)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _dot_parallel(a: Any, b: Any, parts: Any, ranges: int) -> None:
    for k in prange(ranges):
        parts[k] = _dot_part(a, b, a.size * k // ranges, a.size * (k + 1) // ranges)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _onward_parallel(p: Any, z: Any, beta: Any, ranges: int) -> None:
    for k in prange(ranges):
        _onward_part(p, z, beta, p.size * k // ranges, p.size * (k + 1) // ranges)


@njit(cache=True, nogil=True, error_model="numpy")
def _advance_one(
    x: Any, r: Any, p: Any, q: Any, inverse: Any, weights: Any, along: Any, parts: Any, k: int
) -> None:
    ranges, n = parts.size // 3, r.size // 3
    a, i = k // ranges, k % ranges
    lo, hi = a * n + n * i // ranges, a * n + n * (i + 1) // ranges
    parts[k] = weights[a] * _advance_part(x, r, p, q, inverse, along, lo, hi)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _advance_parallel(
    x: Any, r: Any, p: Any, q: Any, inverse: Any, weights: Any, along: Any, parts: Any
) -> None:
    for k in prange(parts.size):
        _advance_one(x, r, p, q, inverse, weights, along, parts, k)


@njit(cache=True, nogil=True, error_model="numpy")
def _imbalance_one(
    g: Any, q: Any, inverse: Any, weights: Any, factor: float, b: Any, parts: Any, k: int
) -> None:
    ranges, n = parts.size // 3, b.size // 3
    a, i = k // ranges, k % ranges
    lo, hi = a * n + n * i // ranges, a * n + n * (i + 1) // ranges
    parts[k] = weights[a] * _imbalance_part(g, q, inverse, factor, b, lo, hi)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _imbalance_parallel(
    g: Any, q: Any, inverse: Any, weights: Any, factor: float, b: Any, parts: Any
) -> None:
    for k in prange(parts.size):
        _imbalance_one(g, q, inverse, weights, factor, b, parts, k)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _take_parallel(u: Any, x: Any, factor: float, ranges: int) -> None:
    for k in prange(ranges):
        _take_part(u, x, factor, u.size * k // ranges, u.size * (k + 1) // ranges)


def _scale(b: Any, inverse: Any, weight: float, out: Any, ranges: int) -> None:
    """out = weight D^-1 b."""
    flat = b.reshape(-1), inverse.reshape(-1), np.float32(weight), out.reshape(-1)
    if ranges == 1:
        _scale_part(*flat, 0, b.size)
    else:
        _scale_parallel(*flat, ranges)


def dot(a: Any, b: Any, parts: Any, ranges: int) -> float:
    """The inner product, summed in float64."""
    if ranges == 1:
        return float(_dot_part(a.reshape(-1), b.reshape(-1), 0, a.size))
    _dot_parallel(a.reshape(-1), b.reshape(-1), parts, ranges)
    return float(parts[:ranges].sum())


def turned(p: Any, z: Any, beta: float, ranges: int) -> None:
    """p = z + beta p."""
    flat = p.reshape(-1), z.reshape(-1), np.float32(beta)
    if ranges == 1:
        _onward_part(*flat, 0, p.size)
    else:
        _onward_parallel(*flat, ranges)


def advance(
    x: Any, r: Any, p: Any, q: Any, inverse: Any, weights: Any, along: float, parts: Any
) -> float:
    """x += along p; r -= along q where free; the norm of r. An empty ``x`` is left out.

    ``parts`` has three numbers for each range of a component.
    """
    flat = (
        x.reshape(-1), r.reshape(-1), p.reshape(-1), q.reshape(-1), inverse.reshape(-1), weights,
        np.float32(along), parts,
    )  # fmt: skip
    if parts.size == 3:
        for k in range(3):
            _advance_one(*flat, k)
    else:
        _advance_parallel(*flat)
    return float(np.sqrt(parts.sum()))


def imbalance(
    g: Any, q: Any, inverse: Any, weights: Any, factor: float, b: Any, parts: Any
) -> float:
    """b = factor (g - q) where free; the norm of g - q. An empty ``g`` is 0."""
    flat = (
        g.reshape(-1), q.reshape(-1), inverse.reshape(-1), weights, factor, b.reshape(-1), parts,
    )  # fmt: skip
    if parts.size == 3:
        for k in range(3):
            _imbalance_one(*flat, k)
    else:
        _imbalance_parallel(*flat)
    return float(np.sqrt(parts.sum()))


def take(u: Any, x: Any, factor: float, ranges: int) -> None:
    """u += factor x; x = 0."""
    flat = u.reshape(-1), x.reshape(-1), factor
    if ranges == 1:
        _take_part(*flat, 0, u.size)
    else:
        _take_parallel(*flat, ranges)


@njit(cache=True, nogil=True, error_model="numpy")
def _noise(b: Any, inverse: Any) -> None:
    """The same random numbers each time, where free; scaled so that D^-1 b is even."""
    flat, over = b.reshape(-1), inverse.reshape(-1)
    state = np.uint32(12345)
    for i in range(flat.size):
        state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
        even = np.float32(state >> np.uint32(8)) / np.float32(8388608.0) - np.float32(1.0)
        flat[i] = even / np.sqrt(over[i]) if over[i] > 0.0 else 0.0


# --- between levels --------------------------------------------------------------------


@njit(forceinline=True, error_model="numpy")
def _join(before: Any, here: Any, after: Any, out: Any, n: Any, step: Any, half: Any) -> None:
    """Three rows of n numbers into one, with the weights 1/2, 1, 1/2; past its end are zeros."""
    for x in range(0, n, step):
        beside = read_some(half, before, x, n - x) + read_some(half, after, x, n - x)
        write(out, x, read_some(half, here, x, n - x) + half * beside)


@njit(cache=True, nogil=True, error_model="numpy")
def _restrict_planes(r: Any, out: Any, first: int, last: int) -> None:
    """Coarse b = transpose of trilinear interpolation of r, along z, y and x in turn."""
    nz, ny, n = r.shape[1:]
    my, mx, step = out.shape[2], out.shape[3], abreast(r)
    # One row before the first and two past the last stay 0.
    plane = np.zeros((2 * my + 2, n + step), r.dtype)
    t = np.zeros((1, 2 * mx + 2 * step), r.dtype)
    none, line = start(plane, (0,)), t[0]
    halves, half = everywhere(r.dtype.type(0.5)), r.dtype.type(0.5)
    for k in range(first, last):
        z = 2 * k
        for a in range(3):
            for y in range(ny):
                _join(
                    start(r, (a, z - 1, y)) if z > 0 else none,
                    start(r, (a, z, y)) if z < nz else none,
                    start(r, (a, z + 1, y)) if z + 1 < nz else none,
                    start(plane, (y + 1,)), n, step, halves,
                )  # fmt: skip
            for j in range(my):
                before, here = start(plane, (2 * j,)), start(plane, (2 * j + 1,))
                _join(before, here, start(plane, (2 * j + 2,)), start(t, (0,)), n, step, halves)
                row = out[a, k, j]
                row[0] = line[0] + half * line[1]
                for i in range(1, mx):
                    row[i] = line[2 * i] + half * (line[2 * i - 1] + line[2 * i + 1])
    t[0, 0] = plane[0, 0]  # an array is let go after its last use in sight


@njit(forceinline=True, error_model="numpy")
def _halfway(one: Any, other: Any, out: Any, n: Any, step: Any, half: Any) -> None:
    """The mean of two rows of n numbers."""
    for x in range(0, n, step):
        both = read_some(half, one, x, n - x) + read_some(half, other, x, n - x)
        write(out, x, half * both)


@njit(cache=True, nogil=True, error_model="numpy")
def _prolong_planes(coarse: Any, x: Any, inverse: Any, first: int, last: int) -> None:
    """x += trilinear interpolation of the coarse correction, where free."""
    ny, n, my, mx, step = x.shape[2], x.shape[3], coarse.shape[2], coarse.shape[3], abreast(x)
    plane = np.zeros((my, mx + step), x.dtype)
    t = np.zeros((2, 2 * mx + 2 * step), x.dtype)
    line, wide = t[0], t[1]
    halves, half = everywhere(x.dtype.type(0.5)), x.dtype.type(0.5)
    for a in range(3):
        for k in range(first, last):
            for j in range(my):
                below, above = start(coarse, (a, k // 2, j)), start(coarse, (a, (k + 1) // 2, j))
                _halfway(below, above, start(plane, (j,)), mx, step, halves)
            for j in range(ny):
                one, other = start(plane, (j // 2,)), start(plane, ((j + 1) // 2,))
                _halfway(one, other, start(t, (0,)), mx, step, halves)
                for i in range(mx):
                    wide[2 * i] = line[i]
                    wide[2 * i + 1] = half * (line[i] + line[i + 1])
                row, free, more = start(x, (a, k, j)), start(inverse, (a, k, j)), start(t, (1,))
                for i in range(0, n, step):
                    add = where(read_some(halves, free, i, n - i), read(halves, more, i))
                    write_some(row, i, n - i, read_some(halves, row, i, n - i) + add)
    t[0, 0] = plane[0, 0]  # an array is let go after its last use in sight


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _restrict_parallel(r: Any, out: Any, ranges: int) -> None:
    n = out.shape[1]
    for i in prange(ranges):
        _restrict_planes(r, out, n * i // ranges, n * (i + 1) // ranges)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _prolong_parallel(coarse: Any, x: Any, inverse: Any, ranges: int) -> None:
    n = x.shape[1]
    for i in prange(ranges):
        _prolong_planes(coarse, x, inverse, n * i // ranges, n * (i + 1) // ranges)


def _restrict(r: Any, out: Any, ranges: int) -> None:
    if ranges == 1:
        _restrict_planes(r, out, 0, out.shape[1])
    else:
        _restrict_parallel(r, out, ranges)


def _prolong(coarse: Any, x: Any, inverse: Any, ranges: int) -> None:
    if ranges == 1:
        _prolong_planes(coarse, x, inverse, 0, x.shape[1])
    else:
        _prolong_parallel(coarse, x, inverse, ranges)


@njit(cache=True, nogil=True, error_model="numpy")
def _coarsen(lame: Any, shear: Any, coarse_lame: Any, coarse_shear: Any) -> None:
    """The mean of eight children, those past the grid void, for voxels twice as wide.

    Bone that fills a coarse voxel in part does not reach its corners: it is made softer still.
    """
    nz, ny, nx = lame.shape
    mz, my, mx = coarse_lame.shape
    factor = 0.25 * (np.arange(9) / 8.0) ** _GAPS  # an eighth, times the width 2
    for k in range(mz):
        for j in range(my):
            for i in range(mx):
                l, m, filled = np.float32(0.0), np.float32(0.0), 0
                for c in range(2 * k, min(2 * k + 2, nz)):
                    for b in range(2 * j, min(2 * j + 2, ny)):
                        for a in range(2 * i, min(2 * i + 2, nx)):
                            l += lame[c, b, a]
                            m += shear[c, b, a]
                            filled += shear[c, b, a] > 0.0
                coarse_lame[k, j, i] = l * np.float32(factor[filled])
                coarse_shear[k, j, i] = m * np.float32(factor[filled])


@njit(cache=True, nogil=True, error_model="numpy")
def _touches(shear: Any, k: int, j: int, i: int) -> bool:
    """Whether a node is a corner of any bone."""
    nz, ny, nx = shear.shape
    for c in range(max(k - 1, 0), min(k + 1, nz)):
        for b in range(max(j - 1, 0), min(j + 1, ny)):
            for a in range(max(i - 1, 0), min(i + 1, nx)):
                if shear[c, b, a] > 0.0:
                    return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def hold_touching(asked: Any, shear: Any, held: Any) -> None:
    """Hold what was asked for, at nodes that touch bone."""
    nz, ny, nx = asked.shape[1:]
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                here = asked[0, k, j, i] or asked[1, k, j, i] or asked[2, k, j, i]
                here = here and _touches(shear, k, j, i)
                for a in range(3):
                    held[a, k, j, i] = here and asked[a, k, j, i]


@njit(cache=True, nogil=True, error_model="numpy")
def _coarsen_held(held: Any, shear: Any, out: Any) -> None:
    """A coarse node is held where the fine one in its place is.

    Where that one is void, or past the grid, it is held if any of its neighbours is: a support
    on an odd plane of nodes would be lost otherwise.
    """
    nz, ny, nx = held.shape[1:]
    mz, my, mx = out.shape[1:]
    for k in range(mz):
        for j in range(my):
            for i in range(mx):
                z, y, x = 2 * k, 2 * j, 2 * i
                inside = z < nz and y < ny and x < nx
                inside = inside and _touches(shear, z, y, x)
                for a in range(3):
                    found = False
                    if inside:
                        found = held[a, z, y, x]
                    else:
                        for r in range(max(z - 1, 0), min(z + 2, nz)):
                            for q in range(max(y - 1, 0), min(y + 2, ny)):
                                for p in range(max(x - 1, 0), min(x + 2, nx)):
                                    found = found or held[a, r, q, p]
                    out[a, k, j, i] = found
