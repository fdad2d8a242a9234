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
from math import prod
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

from trocar.kernels.lanes import (
    abreast,
    any_of,
    behind,
    everywhere,
    in_double,
    last_of,
    read,
    read_some,
    start,
    total,
    where,
    write,
    write_some,
)

Float = NDArray[np.floating[Any]]

_SERIAL = 16_000  # voxels; fewer are not worth waking the threads
_STRIDE = 1104  # between scratch rows: MOST_COLUMNS and some, and off the beat of the cache
MOST_COLUMNS = 1024
_NONE, _PLAIN, _BENT, _REST, _STEP, _ONWARD = range(6)  # what becomes of K u


def ranges_of(shape: tuple[int, ...]) -> int:
    """Into how many ranges a pass is cut: one runs on this thread alone."""
    return 1 if prod(shape) < _SERIAL else int(get_num_threads())


# --- the product with the stiffness matrix ---------------------------------------------
#
# One slab of voxels at a time, in it one row of voxels along x, in it as many voxels as the
# processor takes at once (``lanes``). Each of these chunks reads its nodes, and what it does to
# them stays in registers until nothing more comes: the far nodes along x wait for the next chunk,
# the far row along y in ``rows`` (sum and difference along z, _STRIDE apart), the far plane in
# ``carry``. A void chunk only hands on what waits. What becomes of K u is decided there and then.
# A place ``i`` is four: in the row, in the plane that waits, among that plane's nodes and voxels.
# In ss, sd, ds and dd the first letter is the sum or difference along z, the second along y.


@njit(forceinline=True, error_model="numpy")
def _sums(m: Any, u: Any, plane: Any, row: Any, x: Any, nodes: Any) -> Any:
    """At the nodes from x on: ss, sd, ds and dd of four rows of nodes."""
    p, q = read_some(m, u, x, nodes), read_some(m, u, plane + x, nodes)
    t0, d0 = p + q, q - p
    p, q = read_some(m, u, row + x, nodes), read_some(m, u, plane + row + x, nodes)
    t, d = p + q, q - p
    return t0 + t, t - t0, d0 + d, d - d0


@njit(forceinline=True, error_model="numpy")
def _modes(m: Any, u: Any, plane: Any, row: Any, x: Any, nodes: Any) -> Any:
    """The modes x, y, xy, z, xz, yz, xyz of the voxels from x on.

    Nodes are read twice, in place and one further along: that is quicker than to shift them.
    """
    ss, sd, ds, dd = _sums(m, u, plane, row, x, nodes)
    ss1, sd1, ds1, dd1 = _sums(m, u, plane, row, x + 1, nodes - 1)
    return ss1 - ss, sd + sd1, sd1 - sd, ds + ds1, ds1 - ds, dd + dd1, dd1 - dd


@njit(forceinline=True, error_model="numpy")
def _law_of_cubes(l: Any, m: Any, third: Any, zs: Any, ys: Any, xs: Any) -> Any:
    """The forces on the modes of cubes; ``z_xy`` is mode xy of component z, ``gz_xy`` its force."""
    z_x, z_y, z_xy, z_z, z_xz, z_yz, z_xyz = zs
    y_x, y_y, y_xy, y_z, y_xz, y_yz, y_xyz = ys
    x_x, x_y, x_xy, x_z, x_xz, x_yz, x_xyz = xs
    # linear: strain that is the same throughout
    t, mm = l * (z_z + y_y + x_x), m + m
    gz_z, gy_y, gx_x = t + mm * z_z, t + mm * y_y, t + mm * x_x
    gzy, gzx, gyx = m * (z_y + y_z), m * (z_x + x_z), m * (y_x + x_y)
    # bilinear: bending and torsion
    l3, m3 = l * third, m * third
    t = l3 * (x_xy + z_yz)
    gx_xy, gz_yz = t + m * x_xy, t + m * z_yz
    t = l3 * (x_xz + y_yz)
    gx_xz, gy_yz = t + m * x_xz, t + m * y_yz
    t = l3 * (y_xy + z_xz)
    gy_xy, gz_xz = t + m * y_xy, t + m * z_xz
    t = x_yz + y_xz + z_xy
    gx_yz, gy_xz, gz_xy = m3 * (t + x_yz), m3 * (t + y_xz), m3 * (t + z_xy)
    # trilinear
    c = third * (l3 + m3 + m)
    return (
        (gzx, gzy, gz_xy, gz_z, gz_xz, gz_yz, c * z_xyz),
        (gyx, gy_y, gy_xy, gzy, gy_xz, gy_yz, c * y_xyz),
        (gx_x, gyx, gx_xy, gzx, gx_xz, gx_yz, c * x_xyz),
    )


@njit(forceinline=True, error_model="numpy")
def _law(
    l: Any, m: Any, third: Any, az: Any, ay: Any, ax: Any, zs: Any, ys: Any, xs: Any
) -> Any:  # fmt: skip
    """The same for voxels longer than wide: a_i = (h_x / h_i)^2 for every derivative along i."""
    z_x, z_y, z_xy, z_z, z_xz, z_yz, z_xyz = zs
    y_x, y_y, y_xy, y_z, y_xz, y_yz, y_xyz = ys
    x_x, x_y, x_xy, x_z, x_xz, x_yz, x_xyz = xs
    t, mm = l * (az * z_z + ay * y_y + ax * x_x), m + m
    gz_z = az * (t + mm * az * z_z)
    gy_y = ay * (t + mm * ay * y_y)
    gx_x = ax * (t + mm * ax * x_x)
    gzy = az * ay * m * (z_y + y_z)
    gzx = az * ax * m * (z_x + x_z)
    gyx = ay * ax * m * (y_x + x_y)
    l3, m3 = l * third, m * third
    t = l3 * (ax * x_xy + az * z_yz)
    gx_xy = ax * (t + m3 * (ax + ax + ay) * x_xy)
    gz_yz = az * (t + m3 * (az + az + ay) * z_yz)
    t = l3 * (ax * x_xz + ay * y_yz)
    gx_xz = ax * (t + m3 * (ax + ax + az) * x_xz)
    gy_yz = ay * (t + m3 * (ay + ay + az) * y_yz)
    t = l3 * (ay * y_xy + az * z_xz)
    gy_xy = ay * (t + m3 * (ay + ay + ax) * y_xy)
    gz_xz = az * (t + m3 * (az + az + ax) * z_xz)
    p, q, r = x_yz + y_xz, x_yz + z_xy, y_xz + z_xy
    gx_yz = m3 * ax * (ay * p + az * q)
    gy_xz = m3 * ay * (ax * p + az * r)
    gz_xy = m3 * az * (ax * q + ay * r)
    l9, m9 = l3 * third, m3 * third
    c = l9 + m9 + m9
    gz_xyz = az * (c * az + m9 * (ax + ay)) * z_xyz
    gy_xyz = ay * (c * ay + m9 * (ax + az)) * y_xyz
    gx_xyz = ax * (c * ax + m9 * (ay + az)) * x_xyz
    return (
        (gzx, gzy, gz_xy, gz_z, gz_xz, gz_yz, gz_xyz),
        (gyx, gy_y, gy_xy, gzy, gy_xz, gy_yz, gy_xyz),
        (gx_x, gyx, gx_xy, gzx, gx_xz, gx_yz, gx_xyz),
    )


@njit(forceinline=True, error_model="numpy")
def _ends_at(a: Any, k: Any, u: Any, b: Any, inverse: Any, out: Any) -> Any:
    at = a, k, 0
    return start(u, at), start(b, at), start(inverse, at), start(out, at)


@njit(forceinline=True, error_model="numpy")
def _become(value: Any, x: Any, here: Any, end: Any, at: Any, dot: Any) -> Any:
    """What becomes of K u at the nodes from x on, while it is at hand; see the passes below."""
    how, keep, again, weight = end
    u, b, inverse, out = at
    if how == _NONE:
        return dot
    if how == _BENT:
        dot = dot + in_double(value) * in_double(read_some(value, u, x, here))
    elif how != _PLAIN:
        load, free = read_some(value, b, x, here), read_some(value, inverse, x, here)
        value = load - value
        if how == _REST:
            value = where(free, value)
        else:
            value = weight * free * value + keep * read_some(value, u, x, here)
            if how == _ONWARD:
                value = value - again * read_some(value, out, x, here)
                dot = dot + in_double(value) * in_double(load)
    write_some(out, x, here, value)
    return dot


@njit(forceinline=True, error_model="numpy")
def _scatter(
    s: Any, carry: Any, g: Any, before: Any, i: Any, here: Any, end: Any, at: Any, dot: Any
) -> Any:  # fmt: skip
    """Back along x, y and z; gives what the voxels do to their far nodes, and the dot.

    ``before`` is what the voxels before did to theirs. The nodes below are done, those above wait
    in ``carry``.
    """
    far = g[0], g[1] + g[2], g[3] + g[4], g[5] + g[6]
    dot = _spread(
        s, carry, i, here, end, at, dot,
        behind(before[0], far[0]) - g[0],
        behind(before[1], far[1]) + (g[1] - g[2]),
        behind(before[2], far[2]) + (g[3] - g[4]),
        behind(before[3], far[3]) + (g[5] - g[6]),
    )  # fmt: skip
    return far, dot


@njit(forceinline=True, error_model="numpy")
def _pass(
    s: Any, carry: Any, none: Any, before: Any, i: Any, here: Any, end: Any, at: Any, dot: Any
) -> Any:  # fmt: skip
    """The same over void."""
    dot = _spread(
        s, carry, i, here, end, at, dot,
        behind(before[0], none), behind(before[1], none), behind(before[2], none),
        behind(before[3], none),
    )  # fmt: skip
    return (none, none, none, none), dot


@njit(forceinline=True, error_model="numpy")
def _spread(
    s: Any, carry: Any, i: Any, here: Any, end: Any, at: Any, dot: Any, ss: Any, sd: Any, ds: Any,
    dd: Any,
) -> Any:  # fmt: skip
    x, waits, node, _ = i
    t = read(ss, s, x) + (ss - sd)
    d = read(ss, s, _STRIDE + x) + (ds - dd)
    write(s, x, ss + sd)
    write(s, _STRIDE + x, ds + dd)
    value = read(ss, carry, waits) + (t - d)
    write(carry, waits, t + d)
    return _become(value, node, here, end, at, dot)


@njit(forceinline=True, error_model="numpy")
def _chunk(i: Any, here: Any, law: Any, end: Any, at: Any, state: Any) -> Any:
    """As many voxels of a row as go side by side, of which ``here`` nodes are left."""
    none, third, az, ay, ax, cubes = law
    (sz, sy, sx), (cz, cy, cx), plane, row, (lame, shear), (oz, oy, ox) = at
    fz, fy, fx, dot = state
    _, _, node, voxel = i
    m = read_some(none, shear, voxel, here - 1)
    if any_of(m):
        l = read_some(none, lame, voxel, here - 1)
        zs, ys = _modes(m, oz[0], plane, row, node, here), _modes(m, oy[0], plane, row, node, here)
        xs = _modes(m, ox[0], plane, row, node, here)
        if cubes:
            gz, gy, gx = _law_of_cubes(l, m, third, zs, ys, xs)
        else:
            gz, gy, gx = _law(l, m, third, az, ay, ax, zs, ys, xs)
        fz, dot = _scatter(sz, cz, gz, fz, i, here, end, oz, dot)
        fy, dot = _scatter(sy, cy, gy, fy, i, here, end, oy, dot)
        fx, dot = _scatter(sx, cx, gx, fx, i, here, end, ox, dot)
    else:
        fz, dot = _pass(sz, cz, none, fz, i, here, end, oz, dot)
        fy, dot = _pass(sy, cy, none, fy, i, here, end, oy, dot)
        fx, dot = _pass(sx, cx, none, fx, i, here, end, ox, dot)
    return fz, fy, fx, dot


@njit(forceinline=True, error_model="numpy")
def _last_node(i: Any, end: Any, at: Any, state: Any) -> Any:
    """The node after the last voxel, when it stands alone: as many lanes again would cost more."""
    (sz, sy, sx), (cz, cy, cx), _, _, _, (oz, oy, ox) = at
    fz, fy, fx, dot = state
    end = end[0], last_of(end[1]), last_of(end[2]), last_of(end[3])
    fz = last_of(fz[0]), last_of(fz[1]), last_of(fz[2]), last_of(fz[3])
    fy = last_of(fy[0]), last_of(fy[1]), last_of(fy[2]), last_of(fy[3])
    fx = last_of(fx[0]), last_of(fx[1]), last_of(fx[2]), last_of(fx[3])
    dot = _spread(sz, cz, i, 1, end, oz, dot, fz[0], fz[1], fz[2], fz[3])
    dot = _spread(sy, cy, i, 1, end, oy, dot, fy[0], fy[1], fy[2], fy[3])
    return _spread(sx, cx, i, 1, end, ox, dot, fx[0], fx[1], fx[2], fx[3])


@njit(forceinline=True, error_model="numpy")
def _slab(
    rows: Any, carry: Any, u: Any, lame: Any, shear: Any, ratio: Any, ends: Any, b: Any,
    inverse: Any, out: Any, k: Any,
) -> float:  # fmt: skip
    """One slab of voxels but the row of nodes at its end: K u at the plane of nodes before it."""
    one = u.dtype.type(1.0)
    cubes = ratio[0] == one and ratio[1] == one and ratio[2] == one
    none, third = everywhere(u.dtype.type(0.0)), everywhere(one / u.dtype.type(3.0))
    law = none, third, everywhere(ratio[0]), everywhere(ratio[1]), everywhere(ratio[2]), cubes
    end = ends[0], everywhere(ends[1]), everywhere(ends[2]), everywhere(ends[3])
    at = (
        (start(rows, (0, 0)), start(rows, (1, 0)), start(rows, (2, 0))),
        (start(carry, (0, 0)), start(carry, (1, 0)), start(carry, (2, 0))),
        u.shape[2] * u.shape[3], u.shape[3], (start(lame, (k, 0)), start(shear, (k, 0))),
        (
            _ends_at(0, k, u, b, inverse, out), _ends_at(1, k, u, b, inverse, out),
            _ends_at(2, k, u, b, inverse, out),
        ),
    )  # fmt: skip
    n, wide, step = u.shape[3], carry.shape[2], abreast(u)
    nones, dot, alone = (none, none, none, none), in_double(none), in_double(last_of(none))
    for j in range(lame.shape[1]):
        state = nones, nones, nones, dot
        waits, node, voxel, x = j * wide, j * n, j * (n - 1), 0
        while x + step < n:
            i = x, waits + x, node + x, voxel + x
            state = _chunk(i, step + 1, law, end, at, state)
            x += step
        fz, fy, fx, dot = state
        i = x, waits + x, node + x, voxel + x
        if n - x == 1:
            alone = _last_node(i, end, at, (fz, fy, fx, alone))
        else:
            _, _, _, dot = _chunk(i, n - x, law, end, at, state)
    return float(total(dot) + total(alone))


@njit(cache=True, nogil=True, error_model="numpy")
def _last_row(
    sums: Any, row: Any, ends: Any, u: Any, b: Any, inverse: Any, out: Any, k: Any, j: Any
) -> float:
    """The same where no voxels lie beyond: that row of ``sums`` is K u."""
    n, step = u.shape[3], abreast(u)
    end = ends[0], everywhere(ends[1]), everywhere(ends[2]), everywhere(ends[3])
    none = everywhere(u.dtype.type(0.0))
    dot = in_double(none)
    for a in range(3):
        at, s = _ends_at(a, k, u, b, inverse, out), start(sums, (a, row))
        for x in range(0, n, step):
            dot = _become(read(none, s, x), j * n + x, n - x, end, at, dot)
    return float(total(dot))


@njit(cache=True, nogil=True, error_model="numpy")
def _product_planes(
    u: Any, lame: Any, shear: Any, ratio: Any, ends: Any, b: Any, inverse: Any, out: Any,
    first: Any, last: Any,
) -> float:  # fmt: skip
    """Planes of nodes first .. last - 1; the slab of voxels before them is done again."""
    rows = np.zeros((3, 2, _STRIDE), u.dtype)
    carry = np.zeros((3, u.shape[2], u.shape[3] + abreast(u)), u.dtype)
    nz, ny, nx = lame.shape
    n, dot = nx + 1, 0.0
    for k in range(max(first - 1, 0), min(last, nz)):
        for a in range(3):
            s = rows[a]
            for x in range(n):
                s[0, x] = 0.0
                s[1, x] = 0.0
        this = (ends[0] if k >= first else _NONE, ends[1], ends[2], ends[3])
        dot += _slab(rows, carry, u, lame, shear, ratio, this, b, inverse, out, k)
        for a in range(3):
            s, up = rows[a], carry[a, ny]
            for x in range(n):
                t, d = s[0, x], s[1, x]
                s[0, x] = up[x] + (t - d)
                up[x] = t + d
        dot += _last_row(rows, 0, this, u, b, inverse, out, k, ny)
    if last == nz + 1:
        for j in range(ny + 1):
            dot += _last_row(carry, j, ends, u, b, inverse, out, nz, j)
    return dot


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _product_parallel(
    u: Any, lame: Any, shear: Any, ratio: Any, ends: Any, b: Any, inverse: Any, out: Any,
    parts: Any,
) -> None:  # fmt: skip
    n, ranges = u.shape[1], parts.size
    for i in prange(ranges):
        parts[i] = _product_planes(
            u, lame, shear, ratio, ends, b, inverse, out,
            n * i // ranges, n * (i + 1) // ranges,
        )  # fmt: skip


def _multiplied(
    how: int, u: Any, lame: Any, shear: Any, ratio: Any, out: Any, b: Any, inverse: Any,
    keep: float = 1.0, again: float = 0.0, weight: float = 0.0,
) -> float:  # fmt: skip
    ranges = min(ranges_of(lame.shape), lame.shape[0])
    of = u.dtype.type
    given = u, lame, shear, ratio, (how, of(keep), of(again), of(weight)), b, inverse, out
    if ranges == 1:
        return float(_product_planes(*given, 0, u.shape[1]))
    parts = np.zeros(ranges)
    _product_parallel(*given, parts)
    return float(parts.sum())


def product(u: Any, lame: Any, shear: Any, ratio: Any, out: Any) -> None:
    """out = K u, in the precision of its arguments. A voxel without shear is void."""
    _multiplied(_PLAIN, u, lame, shear, ratio, out, u, u)


def bent(u: Any, lame: Any, shear: Any, ratio: Any, out: Any) -> float:
    """out = K u, and u . K u, which is added up in float64."""
    return _multiplied(_BENT, u, lame, shear, ratio, out, u, u)


def unbalanced(u: Any, lame: Any, shear: Any, ratio: Any, b: Any, inverse: Any, out: Any) -> None:
    """out = b - K u where free, else 0."""
    _multiplied(_REST, u, lame, shear, ratio, out, b, inverse)


def stepped(
    u: Any, lame: Any, shear: Any, ratio: Any, b: Any, inverse: Any, out: Any, weight: float,
    again: float = 0.0, keep: float | None = None,
) -> float:  # fmt: skip
    """out = keep u - again out + weight D^-1 (b - K u), and out . b if ``again``.

    ``keep`` is 1 + again unless given: from ``out`` over ``u``, on by ``again`` of that step.
    """
    how = _ONWARD if again else _STEP
    keep = 1.0 + again if keep is None else keep
    return _multiplied(how, u, lame, shear, ratio, out, b, inverse, keep, again, weight)


# --- what a brick is made of ---------------------------------------------------------------------


@lru_cache(maxsize=8)
def brick_stiffness(ratio: tuple[float, ...]) -> tuple[Float, Float]:
    """What Lame's two numbers weigh in a brick's 24 x 24 stiffness: components, then corners."""
    one, none = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    out = np.zeros((2, 24, 24))
    for i in range(24):
        u, f = np.zeros((3, 2, 2, 2)), np.zeros((3, 2, 2, 2))
        u.flat[i] = 1.0
        for k, lame in enumerate((one, none)):
            product(u, lame, one, np.array(ratio), f)  # without shear it would be void
            out[k, :, i] = f.ravel()
    out[0] -= out[1]
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
