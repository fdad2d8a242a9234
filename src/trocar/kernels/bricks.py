"""Voxels as eight-node bricks: what they do to nodes that move, and what they feel.

Displacements are [component, slice, row, column] of nodes, in a unit that makes every derivative's
factor the square of one number; ``ratio`` holds these factors along z, y and x. Lame's numbers come
in the same unit. Arrays are float32 or float64, and so is the work.

**The product with the stiffness matrix** never forms that matrix. Sums and differences of the
eight nodal values along z, y and x give the modes 1, x, y, z, xy, yz, xz, xyz of each component
(a Walsh-Hadamard transform). There the exactly integrated stiffness of a brick is nearly diagonal
and takes some 60 multiplications.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange
from numba.extending import intrinsic
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]

_SERIAL = 40_000  # voxels; fewer are not worth waking the threads
_STRIDE = 1104  # between scratch rows; a constant, or the loops would not run in lanes
_SPAN = 12 * _STRIDE  # between the scratch rows of two components
MOST_COLUMNS = 1024


def ranges_of(shape: tuple[int, ...]) -> int:
    """Into how many ranges a pass is cut: one runs on this thread alone."""
    return 1 if int(np.prod(shape)) < _SERIAL else int(get_num_threads())


@intrinsic  # type: ignore[misc]
def borrowed(_: Any, array: Any) -> Any:
    """The same array without a count of who holds it.

    Every slice of a counted array writes to its count, twice; threads that slice the same array
    wait for each other there. Whoever borrows must hold the array itself for as long.
    """

    def code(context: Any, builder: Any, _: Any, given: Any) -> Any:
        out = context.make_array(array)(context, builder, value=given[0])
        out.meminfo = out.meminfo.type(None)
        out.parent = out.parent.type(None)
        return out._getvalue()

    return array(array), code


# --- the product with the stiffness matrix ---------------------------------------------
#
# One slab of voxels at a time, in it one row of voxels along x at a time. Scratch rows of each
# component, _STRIDE apart:
#    0,  1      sum and difference along z at the row of nodes last read
#    2 ..  5    the same after sum and difference along y: ss, sd, ds, dd (z first)
#    3 ..  5    then, in their place, what a voxel does to its left nodes: sd, ds, dd
#    6 ..  9    to its right nodes, one place further on: ss, sd, ds, dd (left of ss is its minus)
#   10, 11      what the row of voxels before did to the row of nodes: s, d
# The fewer, the more of them stay in the nearest memory beside the rows that pass through.
# Every inner loop runs over range() and reads at a constant plus x, so that it runs in lanes.


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _gather(rows: Any, u: Any, k: int, j: int) -> None:
    """Sums and differences along z and y, with a new row of nodes."""
    for a in range(3):
        s = rows[a * _SPAN : (a + 1) * _SPAN]
        below, above = u[a, k, j], u[a, k + 1, j]
        for x in range(below.size):
            t, d = below[x] + above[x], above[x] - below[x]
            t0, d0 = s[x], s[_STRIDE + x]
            s[2 * _STRIDE + x] = t0 + t
            s[3 * _STRIDE + x] = t - t0
            s[4 * _STRIDE + x] = d0 + d
            s[5 * _STRIDE + x] = d - d0
            s[x] = t
            s[_STRIDE + x] = d


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _scatter(rows: Any, carry: Any, out: Any, k: int, j: int) -> None:
    """Back along x, y and z: the nodes below are done, those above wait in ``carry``."""
    for a in range(3):
        s = rows[a * _SPAN : (a + 1) * _SPAN]
        below, above = out[a, k, j], carry[a, j]
        for x in range(below.size):
            ss = s[6 * _STRIDE + x] - s[6 * _STRIDE + x + 1]
            sd = s[3 * _STRIDE + x] + s[7 * _STRIDE + x]
            ds = s[4 * _STRIDE + x] + s[8 * _STRIDE + x]
            dd = s[5 * _STRIDE + x] + s[9 * _STRIDE + x]
            t = s[10 * _STRIDE + x] + (ss - sd)
            d = s[11 * _STRIDE + x] + (ds - dd)
            s[10 * _STRIDE + x] = ss + sd
            s[11 * _STRIDE + x] = ds + dd
            below[x] = above[x] + (t - d)
            above[x] = t + d


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _law(s: Any, lames: Any, shears: Any, k: int, j: int, az: Any, ay: Any, ax: Any) -> None:
    """The modes of a row of voxels to the forces on them, and those back along x.

    ``z_xy`` is mode xy of component z, ``gz_xy`` its force. A factor a_i = (h_x / h_i)^2 stands
    for every derivative along i.
    """
    third = s.dtype.type(1.0 / 3.0)
    two = s.dtype.type(2.0)
    lame, shear = lames[k, j], shears[k, j]
    for x in range(lame.size):
        l, m = lame[x], shear[x]
        z_x = s[2 * _STRIDE + x + 1] - s[2 * _STRIDE + x]
        a, b = s[3 * _STRIDE + x], s[3 * _STRIDE + x + 1]
        z_y, z_xy = a + b, b - a
        a, b = s[4 * _STRIDE + x], s[4 * _STRIDE + x + 1]
        z_z, z_xz = a + b, b - a
        a, b = s[5 * _STRIDE + x], s[5 * _STRIDE + x + 1]
        z_yz, z_xyz = a + b, b - a
        y_x = s[_SPAN + 2 * _STRIDE + x + 1] - s[_SPAN + 2 * _STRIDE + x]
        a, b = s[_SPAN + 3 * _STRIDE + x], s[_SPAN + 3 * _STRIDE + x + 1]
        y_y, y_xy = a + b, b - a
        a, b = s[_SPAN + 4 * _STRIDE + x], s[_SPAN + 4 * _STRIDE + x + 1]
        y_z, y_xz = a + b, b - a
        a, b = s[_SPAN + 5 * _STRIDE + x], s[_SPAN + 5 * _STRIDE + x + 1]
        y_yz, y_xyz = a + b, b - a
        x_x = s[2 * _SPAN + 2 * _STRIDE + x + 1] - s[2 * _SPAN + 2 * _STRIDE + x]
        a, b = s[2 * _SPAN + 3 * _STRIDE + x], s[2 * _SPAN + 3 * _STRIDE + x + 1]
        x_y, x_xy = a + b, b - a
        a, b = s[2 * _SPAN + 4 * _STRIDE + x], s[2 * _SPAN + 4 * _STRIDE + x + 1]
        x_z, x_xz = a + b, b - a
        a, b = s[2 * _SPAN + 5 * _STRIDE + x], s[2 * _SPAN + 5 * _STRIDE + x + 1]
        x_yz, x_xyz = a + b, b - a
        # linear: strain that is the same throughout
        t = l * (az * z_z + ay * y_y + ax * x_x)
        mm = two * m
        gz_z = az * (t + mm * az * z_z)
        gy_y = ay * (t + mm * ay * y_y)
        gx_x = ax * (t + mm * ax * x_x)
        gzy = az * ay * m * (z_y + y_z)
        gzx = az * ax * m * (z_x + x_z)
        gyx = ay * ax * m * (y_x + x_y)
        # bilinear: bending and torsion
        l3, m3 = l * third, m * third
        t = l3 * (ax * x_xy + az * z_yz)
        gx_xy = ax * (t + m3 * (two * ax + ay) * x_xy)
        gz_yz = az * (t + m3 * (two * az + ay) * z_yz)
        t = l3 * (ax * x_xz + ay * y_yz)
        gx_xz = ax * (t + m3 * (two * ax + az) * x_xz)
        gy_yz = ay * (t + m3 * (two * ay + az) * y_yz)
        t = l3 * (ay * y_xy + az * z_xz)
        gy_xy = ay * (t + m3 * (two * ay + ax) * y_xy)
        gz_xz = az * (t + m3 * (two * az + ax) * z_xz)
        p, q, r = x_yz + y_xz, x_yz + z_xy, y_xz + z_xy
        gx_yz = m3 * ax * (ay * p + az * q)
        gy_xz = m3 * ay * (ax * p + az * r)
        gz_xy = m3 * az * (ax * q + ay * r)
        # trilinear
        l9, m9 = l3 * third, m3 * third
        gx_xyz = ax * ((l9 + two * m9) * ax + m9 * (ay + az)) * x_xyz
        gy_xyz = ay * ((l9 + two * m9) * ay + m9 * (ax + az)) * y_xyz
        gz_xyz = az * ((l9 + two * m9) * az + m9 * (ax + ay)) * z_xyz
        # back along x
        s[6 * _STRIDE + x + 1] = gzx
        s[3 * _STRIDE + x] = gzy - gz_xy
        s[7 * _STRIDE + x + 1] = gzy + gz_xy
        s[4 * _STRIDE + x] = gz_z - gz_xz
        s[8 * _STRIDE + x + 1] = gz_z + gz_xz
        s[5 * _STRIDE + x] = gz_yz - gz_xyz
        s[9 * _STRIDE + x + 1] = gz_yz + gz_xyz
        s[_SPAN + 6 * _STRIDE + x + 1] = gyx
        s[_SPAN + 3 * _STRIDE + x] = gy_y - gy_xy
        s[_SPAN + 7 * _STRIDE + x + 1] = gy_y + gy_xy
        s[_SPAN + 4 * _STRIDE + x] = gzy - gy_xz
        s[_SPAN + 8 * _STRIDE + x + 1] = gzy + gy_xz
        s[_SPAN + 5 * _STRIDE + x] = gy_yz - gy_xyz
        s[_SPAN + 9 * _STRIDE + x + 1] = gy_yz + gy_xyz
        s[2 * _SPAN + 6 * _STRIDE + x + 1] = gx_x
        s[2 * _SPAN + 3 * _STRIDE + x] = gyx - gx_xy
        s[2 * _SPAN + 7 * _STRIDE + x + 1] = gyx + gx_xy
        s[2 * _SPAN + 4 * _STRIDE + x] = gzx - gx_xz
        s[2 * _SPAN + 8 * _STRIDE + x + 1] = gzx + gx_xz
        s[2 * _SPAN + 5 * _STRIDE + x] = gx_yz - gx_xyz
        s[2 * _SPAN + 9 * _STRIDE + x + 1] = gx_yz + gx_xyz
    n = lame.size
    for a in range(3):
        for r in range(3, 6):
            s[a * _SPAN + r * _STRIDE + n] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _product_slabs(
    u: Any, lame: Any, shear: Any, ratio: Any, rows: Any, carry: Any, out: Any,
    first: int, last: int,
) -> None:  # fmt: skip
    """out = K u in planes of nodes first .. last - 1; the slab before them is done again."""
    nz, ny, nx = lame.shape
    n = nx + 1
    az, ay, ax = ratio[0], ratio[1], ratio[2]
    for a in range(3):
        for r in range(6, 10):
            rows[a * _SPAN + r * _STRIDE] = 0.0
        rows[a * _SPAN + 6 * _STRIDE + nx + 1] = 0.0
    for k in range(max(first - 1, 0), min(last, nz)):
        at = max(k, first)  # what the slab before writes there is written over
        for a in range(3):
            for x in range(n):
                rows[a * _SPAN + x] = 0.0
                rows[a * _SPAN + _STRIDE + x] = 0.0
                rows[a * _SPAN + 10 * _STRIDE + x] = 0.0
                rows[a * _SPAN + 11 * _STRIDE + x] = 0.0
        _gather(rows, u, k, 0)
        for j in range(ny):
            _gather(rows, u, k, j + 1)
            _law(rows, lame, shear, k, j, az, ay, ax)
            _scatter(rows, carry, out, at, j)
        for a in range(3):
            for x in range(n):
                t = rows[a * _SPAN + 10 * _STRIDE + x]
                d = rows[a * _SPAN + 11 * _STRIDE + x]
                out[a, at, ny, x] = carry[a, ny, x] + (t - d)
                carry[a, ny, x] = t + d
    if last == nz + 1:
        for a in range(3):
            for j in range(ny + 1):
                for x in range(n):
                    out[a, nz, j, x] = carry[a, j, x]


@njit(cache=True, nogil=True, error_model="numpy")
def _product_planes(
    u: Any, lame: Any, shear: Any, ratio: Any, out: Any, first: int, last: int
) -> None:
    """The same, holding what it lends."""
    rows = np.empty(3 * _SPAN, u.dtype)
    carry = np.zeros((3, u.shape[2], u.shape[3]), u.dtype)
    _product_slabs(
        borrowed(u), borrowed(lame), borrowed(shear), ratio, borrowed(rows), borrowed(carry),
        borrowed(out), first, last,
    )  # fmt: skip
    # An array is let go after its last use in sight: that is here, and not before the call.
    rows[0] = carry[0, 0, 0]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _product_parallel(u: Any, lame: Any, shear: Any, ratio: Any, out: Any, ranges: int) -> None:
    n = u.shape[1]
    for i in prange(ranges):
        _product_planes(u, lame, shear, ratio, out, n * i // ranges, n * (i + 1) // ranges)


def product(u: Any, lame: Any, shear: Any, ratio: Any, out: Any) -> None:
    """out = K u, in the precision of its arguments."""
    ranges = min(ranges_of(lame.shape), lame.shape[0])
    if ranges == 1:
        _product_planes(u, lame, shear, ratio, out, 0, u.shape[1])
    else:
        _product_parallel(u, lame, shear, ratio, out, ranges)


# --- what a brick is made of ---------------------------------------------------------------------


@lru_cache(maxsize=8)
def brick_stiffness(ratio: tuple[float, ...]) -> tuple[Float, Float]:
    """What Lame's two numbers weigh in a brick's 24 x 24 stiffness: components, then corners."""
    one, none = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    out = np.zeros((2, 24, 24))
    for i in range(24):
        u, f = np.zeros((3, 2, 2, 2)), np.zeros((3, 2, 2, 2))
        u.flat[i] = 1.0
        for k, (lame, shear) in enumerate(((one, none), (none, one))):
            product(u, lame, shear, np.array(ratio), f)
            out[k, :, i] = f.ravel()
    return out[0], out[1]


@njit(cache=True, nogil=True, error_model="numpy")
def lame_numbers(young: Any, poisson: Any, kept: Any, unit: float, lame: Any, shear: Any) -> None:
    """Lame's two numbers of every voxel, times ``unit``; 0 in void."""
    nz, ny, nx = kept.shape
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                if kept[k, j, i]:
                    e, nu = np.float64(young[k, j, i]), np.float64(poisson[k, j, i])
                    lame[k, j, i] = unit * e * nu / ((1.0 + nu) * (1.0 - 2.0 * nu))
                    shear[k, j, i] = unit * e / (2.0 * (1.0 + nu))
                else:
                    lame[k, j, i] = 0.0
                    shear[k, j, i] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def invert_diagonal(lame: Any, shear: Any, held: Any, ratio: Any, inverse: Any) -> None:
    """1 / diagonal of K, which is 16/9 of what the eight voxels around a node give."""
    nz, ny, nx = lame.shape
    for k in range(nz + 1):
        for j in range(ny + 1):
            for i in range(nx + 1):
                l, m = 0.0, 0.0
                for c in range(max(k - 1, 0), min(k + 1, nz)):
                    for b in range(max(j - 1, 0), min(j + 1, ny)):
                        for a in range(max(i - 1, 0), min(i + 1, nx)):
                            l += lame[c, b, a]
                            m += shear[c, b, a]
                every = ratio[0] + ratio[1] + ratio[2]
                for d in range(3):
                    own = ratio[d]
                    value = 16.0 / 9.0 * own * (own * (l + m) + every * m)
                    free = m > 0.0 and not held[d, k, j, i]
                    inverse[d, k, j, i] = 1.0 / value if free else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def assemble(lame: Any, shear: Any, of_lame: Any, of_shear: Any, k: Any) -> None:
    """Add every brick's stiffness to the whole, ``k``; for small grids, solved outright."""
    nz, ny, nx = lame.shape
    n = (nz + 1) * (ny + 1) * (nx + 1)
    number = np.zeros(24, np.int64)
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                l, m = np.float64(lame[z, y, x]), np.float64(shear[z, y, x])
                for p in range(24):
                    a, c, b, i = p // 8, p // 4 % 2, p // 2 % 2, p % 2
                    number[p] = a * n + ((z + c) * (ny + 1) + y + b) * (nx + 1) + x + i
                for p in range(24):
                    for q in range(24):
                        k[number[p], number[q]] += l * of_lame[p, q] + m * of_shear[p, q]


# --- reading -------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _strain_planes(u: Any, kept: Any, over: Any, out: Any, first: int, last: int) -> None:
    ny, nx = kept.shape[1:]
    g = np.zeros((3, 3))
    for k in range(first, last):
        for j in range(ny):
            for i in range(nx):
                if not kept[k, j, i]:
                    continue
                for a in range(3):
                    z, y, x = 0.0, 0.0, 0.0
                    for c in range(2):
                        for b in range(2):
                            for d in range(2):
                                v = u[a, k + c, j + b, i + d]
                                z += v if c else -v
                                y += v if b else -v
                                x += v if d else -v
                    g[a, 0], g[a, 1], g[a, 2] = z * over[0], y * over[1], x * over[2]
                for a in range(3):
                    out[a, k, j, i] = g[a, a]
                out[3, k, j, i] = 0.5 * (g[1, 2] + g[2, 1])
                out[4, k, j, i] = 0.5 * (g[0, 2] + g[2, 0])
                out[5, k, j, i] = 0.5 * (g[0, 1] + g[1, 0])


@njit(cache=True, nogil=True, error_model="numpy")
def _energy_planes(
    u: Any, lame: Any, shear: Any, of_lame: Any, of_shear: Any, out: Any, first: int, last: int
) -> None:
    ny, nx = lame.shape[1:]
    v = np.zeros(24)
    for k in range(first, last):
        for j in range(ny):
            for i in range(nx):
                l, m = lame[k, j, i], shear[k, j, i]
                if m == 0.0:
                    continue
                for p in range(24):
                    v[p] = u[p // 8, k + p // 4 % 2, j + p // 2 % 2, i + p % 2]
                total = 0.0
                for p in range(24):
                    row = 0.0
                    for q in range(24):
                        row += (l * of_lame[p, q] + m * of_shear[p, q]) * v[q]
                    total += v[p] * row
                out[k, j, i] = 0.5 * total


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _strain_parallel(u: Any, kept: Any, over: Any, out: Any, ranges: int) -> None:
    n = kept.shape[0]
    for i in prange(ranges):
        _strain_planes(u, kept, over, out, n * i // ranges, n * (i + 1) // ranges)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _energy_parallel(
    u: Any, lame: Any, shear: Any, of_lame: Any, of_shear: Any, out: Any, ranges: int
) -> None:
    n = lame.shape[0]
    for i in prange(ranges):
        lo, hi = n * i // ranges, n * (i + 1) // ranges
        _energy_planes(u, lame, shear, of_lame, of_shear, out, lo, hi)


def strains(u: Any, kept: Any, over: Any, out: Any) -> None:
    """Strain at each kept voxel's centre: zz, yy, xx, yx, zx, zy. ``over`` is 1 / (4 spacing)."""
    ranges = ranges_of(kept.shape)
    if ranges == 1:
        _strain_planes(u, kept, over, out, 0, kept.shape[0])
    else:
        _strain_parallel(u, kept, over, out, ranges)


def energies(w: Any, lame: Any, shear: Any, of_lame: Any, of_shear: Any, out: Any) -> None:
    """The energy each voxel stores, by the two parts of a brick's stiffness."""
    ranges = ranges_of(lame.shape)
    if ranges == 1:
        _energy_planes(w, lame, shear, of_lame, of_shear, out, 0, lame.shape[0])
    else:
        _energy_parallel(w, lame, shear, of_lame, of_shear, out, ranges)
