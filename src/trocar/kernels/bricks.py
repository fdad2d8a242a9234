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
    fetch,
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
from trocar.kernels.turns import claimed, cuts

Float = NDArray[np.floating[Any]]

_SERIAL = 16_000  # voxels; fewer are not worth waking the threads
MOST_COLUMNS = 1024
_STRIDE = 1104  # between scratch rows: MOST_COLUMNS and some, and off the beat of the cache
_Z, _Y, _X = 0, 4 * _STRIDE, 8 * _STRIDE  # where a component's scratch rows begin: its sums;
_OF_X, _OF_Z, _OF_XZ = _STRIDE, 2 * _STRIDE, 3 * _STRIDE  # then differences along x, z and both
_PAST = 16  # numbers that may be read after a row: as many as go side by side at most
_AHEAD = 128  # numbers; so far before its use a row is fetched
_PLAIN, _BENT, _REST, _STEP, _ONWARD = range(5)  # what becomes of K u


def ranges_of(shape: tuple[int, ...]) -> int:
    """Into how many ranges a pass is cut: one runs on this thread alone."""
    return 1 if prod(shape) < _SERIAL else int(get_num_threads())


# --- the product with the stiffness matrix ---------------------------------------------
#
# One slab of voxels at a time, in it one row of voxels along x, in it as many voxels as the
# processor takes at once (``lanes``). Two loops go over every row:
#
# - ``_gather`` puts sums and differences, along z and x, of the row of nodes beyond into ``far``.
#   For the next row of voxels they are ``near``: within a slab they are made once.
# - ``_chunk`` takes these along y, which gives the modes, and the forces on the modes back along y,
#   x and z. What comes to the far row of nodes ``waits`` for the next row of voxels, what comes to
#   the far nodes along x for the next chunk, and what comes to the far plane, in ``carry``, for the
#   next slab. A void chunk only hands on what waits. What becomes of K u is decided there and then.
#
# A thread's scratch rows are one array, so that the compiler knows where each begins: ``near``,
# ``far`` and ``waits`` have four for each component, ``_STRIDE`` apart.


@njit(forceinline=True, error_model="numpy")
def _sums(like: Any, s: Any, c: Any, u: Any, plane: Any, node: Any, here: Any) -> None:
    """Sums and differences of one component's nodes along z and x, to place c of ``s``."""
    p, p1 = read_some(like, u, node, here), read_some(like, u, node + 1, here - 1)
    fetch(u, node + _AHEAD)
    node += plane
    q, q1 = read_some(like, u, node, here), read_some(like, u, node + 1, here - 1)
    fetch(u, node + _AHEAD)
    s_p, x_p, s_q, x_q = p + p1, p1 - p, q + q1, q1 - q
    write(s, c, s_p + s_q)
    write(s, c + _OF_X, x_p + x_q)
    write(s, c + _OF_Z, s_q - s_p)
    write(s, c + _OF_XZ, x_q - x_p)


@njit(forceinline=True, error_model="numpy")
def _gather(
    none: Any, s: Any, x: Any, at: Any, node: Any, before: Any, after: Any, here: Any
) -> None:
    """The same of all three, unless the rows of voxels before and after are void here."""
    shear, plane, (uz, uy, ux) = at
    if any_of(read_some(none, shear, before, here - 1)) or any_of(
        read_some(none, shear, after, here - 1)
    ):
        _sums(none, s, _Z + x, uz, plane, node, here)
        _sums(none, s, _Y + x, uy, plane, node, here)
        _sums(none, s, _X + x, ux, plane, node, here)


# ``s`` is near and far; the sum or difference of the two is the mode of a component, without or
# with y.


@njit(forceinline=True, error_model="numpy")
def _plus(like: Any, s: Any, c: Any) -> Any:
    return read(like, s[0], c) + read(like, s[1], c)


@njit(forceinline=True, error_model="numpy")
def _minus(like: Any, s: Any, c: Any) -> Any:
    return read(like, s[1], c) - read(like, s[0], c)


@njit(forceinline=True, error_model="numpy")
def _meet(waits: Any, c: Any, force: Any, force_y: Any) -> Any:
    """Back along y, from the forces on a mode without and with y.

    Gives what comes to the near nodes; the far ones' part waits.
    """
    near = read(force, waits, c) + (force - force_y)
    write(waits, c, force + force_y)
    return near


@njit(forceinline=True, error_model="numpy")
def _meet_alone(waits: Any, c: Any, force_y: Any) -> Any:
    near = read(force_y, waits, c) - force_y
    write(waits, c, force_y)
    return near


# Both laws go through the modes in the order that keeps the fewest numbers at hand. ``y_xz`` is
# mode xz of component y, ``gyx`` the force on its mode x and on mode y of component x.


@njit(forceinline=True, error_model="numpy")
def _cubes(l: Any, m: Any, third: Any, s: Any, waits: Any, x: Any) -> Any:
    """What cubes do to the nodes near along y: by component its sum and modes x, z and xz."""
    z, y, x = _Z + x, _Y + x, _X + x
    l3, m3 = l * third, m * third
    c = third * (l3 + m3 + m)
    x_yz, y_xz, z_xy = _minus(m, s, x + _OF_Z), _plus(m, s, y + _OF_XZ), _minus(m, s, z + _OF_X)
    t = x_yz + y_xz + z_xy
    gzx = m * (_plus(m, s, z + _OF_X) + _plus(m, s, x + _OF_Z))
    fz_x = _meet(waits, z + _OF_X, gzx, m3 * (t + z_xy))
    fx_z = _meet(waits, x + _OF_Z, gzx, m3 * (t + x_yz))
    fy_xz = _meet(waits, y + _OF_XZ, m3 * (t + y_xz), c * _minus(m, s, y + _OF_XZ))

    gyx = m * (_plus(m, s, y + _OF_X) + _minus(m, s, x))
    fx = _meet_alone(waits, x, gyx)
    y_xy, z_xz = _minus(m, s, y + _OF_X), _plus(m, s, z + _OF_XZ)
    t = l3 * (y_xy + z_xz)
    fy_x = _meet(waits, y + _OF_X, gyx, t + m * y_xy)
    fz_xz = _meet(waits, z + _OF_XZ, t + m * z_xz, c * _minus(m, s, z + _OF_XZ))

    gzy = m * (_minus(m, s, z) + _plus(m, s, y + _OF_Z))
    fz = _meet_alone(waits, z, gzy)
    x_xz, y_yz = _plus(m, s, x + _OF_XZ), _minus(m, s, y + _OF_Z)
    t = l3 * (x_xz + y_yz)
    fy_z = _meet(waits, y + _OF_Z, gzy, t + m * y_yz)
    fx_xz = _meet(waits, x + _OF_XZ, t + m * x_xz, c * _minus(m, s, x + _OF_XZ))

    z_z, y_y, x_x = _plus(m, s, z + _OF_Z), _minus(m, s, y), _plus(m, s, x + _OF_X)
    x_xy, z_yz = _minus(m, s, x + _OF_X), _minus(m, s, z + _OF_Z)
    t, mm = l * (z_z + y_y + x_x), m + m
    fy = _meet_alone(waits, y, t + mm * y_y)
    t3 = l3 * (x_xy + z_yz)
    fz_z = _meet(waits, z + _OF_Z, t + mm * z_z, t3 + m * z_yz)
    fx_x = _meet(waits, x + _OF_X, t + mm * x_x, t3 + m * x_xy)
    return (fz, fz_x, fz_z, fz_xz), (fy, fy_x, fy_z, fy_xz), (fx, fx_x, fx_z, fx_xz)


@njit(forceinline=True, error_model="numpy")
def _boxes(l: Any, m: Any, third: Any, ratio: Any, s: Any, waits: Any, x: Any) -> Any:
    """The same for voxels longer than wide: a_i = (h_x / h_i)^2 for every derivative along i."""
    az, ay, ax = ratio
    z, y, x = _Z + x, _Y + x, _X + x
    l3, m3 = l * third, m * third
    l9, m9 = l3 * third, m3 * third
    c = l9 + m9 + m9
    x_yz, y_xz, z_xy = _minus(m, s, x + _OF_Z), _plus(m, s, y + _OF_XZ), _minus(m, s, z + _OF_X)
    p, q, r = x_yz + y_xz, x_yz + z_xy, y_xz + z_xy
    gzx = az * ax * m * (_plus(m, s, z + _OF_X) + _plus(m, s, x + _OF_Z))
    fz_x = _meet(waits, z + _OF_X, gzx, m3 * az * (ax * q + ay * r))
    fx_z = _meet(waits, x + _OF_Z, gzx, m3 * ax * (ay * p + az * q))
    g = ay * (c * ay + m9 * (ax + az)) * _minus(m, s, y + _OF_XZ)
    fy_xz = _meet(waits, y + _OF_XZ, m3 * ay * (ax * p + az * r), g)

    gyx = ay * ax * m * (_plus(m, s, y + _OF_X) + _minus(m, s, x))
    fx = _meet_alone(waits, x, gyx)
    y_xy, z_xz = _minus(m, s, y + _OF_X), _plus(m, s, z + _OF_XZ)
    t = l3 * (ay * y_xy + az * z_xz)
    fy_x = _meet(waits, y + _OF_X, gyx, ay * (t + m3 * (ay + ay + ax) * y_xy))
    g = az * (c * az + m9 * (ax + ay)) * _minus(m, s, z + _OF_XZ)
    fz_xz = _meet(waits, z + _OF_XZ, az * (t + m3 * (az + az + ax) * z_xz), g)

    gzy = az * ay * m * (_minus(m, s, z) + _plus(m, s, y + _OF_Z))
    fz = _meet_alone(waits, z, gzy)
    x_xz, y_yz = _plus(m, s, x + _OF_XZ), _minus(m, s, y + _OF_Z)
    t = l3 * (ax * x_xz + ay * y_yz)
    fy_z = _meet(waits, y + _OF_Z, gzy, ay * (t + m3 * (ay + ay + az) * y_yz))
    g = ax * (c * ax + m9 * (ay + az)) * _minus(m, s, x + _OF_XZ)
    fx_xz = _meet(waits, x + _OF_XZ, ax * (t + m3 * (ax + ax + az) * x_xz), g)

    z_z, y_y, x_x = _plus(m, s, z + _OF_Z), _minus(m, s, y), _plus(m, s, x + _OF_X)
    x_xy, z_yz = _minus(m, s, x + _OF_X), _minus(m, s, z + _OF_Z)
    t, mm = l * (az * z_z + ay * y_y + ax * x_x), m + m
    fy = _meet_alone(waits, y, ay * (t + mm * ay * y_y))
    t3 = l3 * (ax * x_xy + az * z_yz)
    g = az * (t3 + m3 * (az + az + ay) * z_yz)
    fz_z = _meet(waits, z + _OF_Z, az * (t + mm * az * z_z), g)
    g = ax * (t3 + m3 * (ax + ax + ay) * x_xy)
    fx_x = _meet(waits, x + _OF_X, ax * (t + mm * ax * x_x), g)
    return (fz, fz_x, fz_z, fz_xz), (fy, fy_x, fy_z, fy_xz), (fx, fx_x, fx_z, fx_xz)


@njit(forceinline=True, error_model="numpy")
def _handed_on(none: Any, waits: Any, c: Any) -> Any:
    """What void does to the nodes near along y: what waited comes to them."""
    f, f_x = read(none, waits, c), read(none, waits, c + _OF_X)
    f_z, f_xz = read(none, waits, c + _OF_Z), read(none, waits, c + _OF_XZ)
    write(waits, c, none)
    write(waits, c + _OF_X, none)
    write(waits, c + _OF_Z, none)
    write(waits, c + _OF_XZ, none)
    return f, f_x, f_z, f_xz


@njit(forceinline=True, error_model="numpy")
def _along(forces: Any, before: Any, carry: Any, carried: Any) -> Any:
    """Back along x and z: what comes to the nodes far along x, and K u at the near ones.

    ``before`` is the former of the chunk before.
    """
    f, f_x, f_z, f_xz = forces
    far = f + f_x, f_z + f_xz
    t, d = behind(before[0], far[0]) + (f - f_x), behind(before[1], far[1]) + (f_z - f_xz)
    return far, _nodes(carry, carried, t, d)


@njit(forceinline=True, error_model="numpy")
def _nodes(carry: Any, carried: Any, t: Any, d: Any) -> Any:
    """Back along z: K u at nodes of this plane. What comes to those of the next waits."""
    value = read(t, carry, carried) + (t - d)
    write(carry, carried, t + d)
    return value


@njit(forceinline=True, error_model="numpy")
def _become(value: Any, x: Any, here: Any, end: Any, at: Any, dot: Any) -> Any:
    """What becomes of K u at the nodes from x on, while it is at hand; see the passes below."""
    how, keep, again, weight = end
    u, b, inverse, out = at
    if how == _BENT:
        dot = dot + in_double(value) * in_double(read_some(value, u, x, here))
    elif how != _PLAIN:
        fetch(b, x + _AHEAD)
        fetch(inverse, x + _AHEAD)
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
def _chunk(inside: Any, i: Any, here: Any, law: Any, end: Any, at: Any, state: Any) -> Any:
    """As many voxels of a row as go side by side, of which ``here`` nodes are left.

    A place ``i`` is four: in the row, in the plane that waits, among that plane's nodes and voxels.
    """
    none, third, ratio, cubes = law
    s, waits, (cz, cy, cx), (lame, shear), (oz, oy, ox) = at
    fz, fy, fx, dot = state
    x, carried, node, voxel = i
    m = read_some(none, shear, voxel, here - 1)
    if inside and any_of(m):
        l = read_some(none, lame, voxel, here - 1)
        if cubes:
            gz, gy, gx = _cubes(l, m, third, s, waits, x)
        else:
            gz, gy, gx = _boxes(l, m, third, ratio, s, waits, x)
    else:
        gz, gy = _handed_on(none, waits, _Z + x), _handed_on(none, waits, _Y + x)
        gx = _handed_on(none, waits, _X + x)
    (fz, kz), (fy, ky) = _along(gz, fz, cz, carried), _along(gy, fy, cy, carried)
    fx, kx = _along(gx, fx, cx, carried)
    dot = _become(kz, node, here, end, oz, dot)
    dot = _become(ky, node, here, end, oy, dot)
    return fz, fy, fx, _become(kx, node, here, end, ox, dot)


@njit(forceinline=True, error_model="numpy")
def _last_node(i: Any, end: Any, at: Any, state: Any) -> Any:
    """The node after the last voxel, when it stands alone: as many lanes again would cost more."""
    _, _, (cz, cy, cx), _, (oz, oy, ox) = at
    (tz, dz), (ty, dy), (tx, dx), dot = state
    _, carried, node, _ = i
    end = end[0], last_of(end[1]), last_of(end[2]), last_of(end[3])
    dot = _become(_nodes(cz, carried, last_of(tz), last_of(dz)), node, 1, end, oz, dot)
    dot = _become(_nodes(cy, carried, last_of(ty), last_of(dy)), node, 1, end, oy, dot)
    return _become(_nodes(cx, carried, last_of(tx), last_of(dx)), node, 1, end, ox, dot)


@njit(forceinline=True, error_model="numpy")
def _ends_at(a: Any, k: Any, at: Any, u: Any, b: Any, inverse: Any, out: Any) -> Any:
    here = a, k, 0
    return start(u, here), start(b, here), start(inverse, here), start(out, (a, at, 0))


@njit(forceinline=True, error_model="numpy")
def _slab(
    scratch: Any, carry: Any, part: Any, u: Any, lame: Any, shear: Any, ratio: Any, ends: Any,
    b: Any, inverse: Any, out: Any, k: Any, at: Any,
) -> float:  # fmt: skip
    """One slab of voxels: K u at the plane ``k`` of nodes before it, which goes to plane ``at``."""
    kind = u.dtype.type
    none, third = everywhere(kind(0.0)), everywhere(kind(1.0) / kind(3.0))
    cubes = ratio[0] == kind(1.0) and ratio[1] == kind(1.0) and ratio[2] == kind(1.0)
    law = none, third, (everywhere(ratio[0]), everywhere(ratio[1]), everywhere(ratio[2])), cubes
    end = ends[0], everywhere(ends[1]), everywhere(ends[2]), everywhere(ends[3])
    carries = start(carry, (part, 0, 0)), start(carry, (part, 1, 0)), start(carry, (part, 2, 0))
    bones = start(lame, (k, 0)), start(shear, (k, 0))
    places = (
        _ends_at(0, k, at, u, b, inverse, out), _ends_at(1, k, at, u, b, inverse, out),
        _ends_at(2, k, at, u, b, inverse, out),
    )  # fmt: skip
    moved = bones[1], u.shape[2] * u.shape[3], (places[0][0], places[1][0], places[2][0])
    near, far, waits = start(scratch, (0, 0)), start(scratch, (1, 0)), start(scratch, (2, 0))
    n, wide, step, ny = u.shape[3], carry.shape[3], abreast(u), lame.shape[1]
    nones, dot, alone = (none, none), in_double(none), in_double(last_of(none))
    for j in range(-1, ny + 1):
        x = 0
        if j < ny:  # there are nodes beyond
            node, before, after = (j + 1) * n, max(j, 0) * (n - 1), min(j + 1, ny - 1) * (n - 1)
            while x + step < n:
                _gather(none, far, x, moved, node + x, before + x, after + x, step + 1)
                x += step
            if n - x > 1:
                _gather(none, far, x, moved, node + x, before + x, after + x, n - x)
        if j >= 0:
            inside, here = j < ny, ((near, far), waits, carries, bones, places)
            state, x = (nones, nones, nones, dot), 0
            carried, node, voxel = j * wide, j * n, min(j, ny - 1) * (n - 1)
            while x + step < n:
                i = x, carried + x, node + x, voxel + x
                state = _chunk(inside, i, step + 1, law, end, here, state)
                x += step
            fz, fy, fx, dot = state
            i = x, carried + x, node + x, voxel + x
            if n - x == 1:
                alone = _last_node(i, end, here, (fz, fy, fx, alone))
            else:
                _, _, _, dot = _chunk(inside, i, n - x, law, end, here, state)
        near, far = far, near
    return float(total(dot) + total(alone))


@njit(cache=True, nogil=True, error_model="numpy")
def _part(
    u: Any, lame: Any, shear: Any, ratio: Any, ends: Any, b: Any, inverse: Any, out: Any,
    planes: Any, i: Any, carry: Any, begun: Any,
) -> float:  # fmt: skip
    """The slabs of part i. Two planes of nodes are left to be joined with what lies beyond.

    The first goes to ``begun`` as it is, the last waits in ``carry``.
    """
    scratch, dot = np.empty((3, 12, _STRIDE), u.dtype), 0.0
    carry[i] = 0
    for k in range(planes[i], planes[i + 1]):
        scratch[2, :, : u.shape[3] + abreast(u)] = 0
        half = i > 0 and k == planes[i]
        how, to, at = (_PLAIN, begun, i) if half else (ends[0], out, k)
        this = how, ends[1], ends[2], ends[3]
        dot += _slab(scratch, carry, i, u, lame, shear, ratio, this, b, inverse, to, k, at)
    return dot


@njit(cache=True, nogil=True, error_model="numpy")
def _joined(
    u: Any, ends: Any, b: Any, inverse: Any, out: Any, planes: Any, i: Any, carry: Any, begun: Any
) -> float:
    """K u at the plane of nodes where part i begins, or after the last part."""
    n, step, k, parts = u.shape[3], abreast(u), planes[i], carry.shape[0]
    end = ends[0], everywhere(ends[1]), everywhere(ends[2]), everywhere(ends[3])
    none = everywhere(u.dtype.type(0.0))
    dot = in_double(none)
    for a in range(3):
        at = _ends_at(a, k, k, u, b, inverse, out)
        for j in range(u.shape[2]):
            waits = start(carry, (i - 1, a, j))
            half = start(begun, (a, i % parts, j))  # not read after the last part
            for x in range(0, n, step):
                value = read(none, waits, x)
                if i < parts:
                    value = value + read_some(none, half, x, n - x)
                dot = _become(value, j * n + x, n - x, end, at, dot)
    return float(total(dot))


@njit(cache=True, nogil=True, error_model="numpy")
def _parts(
    u: Any, lame: Any, shear: Any, ratio: Any, ends: Any, b: Any, inverse: Any, out: Any,
    planes: Any, carry: Any, begun: Any, turns: Any, dots: Any,
) -> None:  # fmt: skip
    """Parts as long as there are any. Who ends second of two neighbours joins them."""
    count = carry.shape[0]
    i = claimed(turns, 0)
    while i < count:
        dots[2 * i] = _part(
            u, lame, shear, ratio, ends, b, inverse, out, planes, i, carry, begun
        )  # fmt: skip
        for side in (i, i + 1):
            if side == count or (side > 0 and claimed(turns, side) == 1):
                dots[2 * side - 1] = _joined(
                    u, ends, b, inverse, out, planes, side, carry, begun
                )  # fmt: skip
        i = claimed(turns, 0)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _parts_parallel(
    u: Any, lame: Any, shear: Any, ratio: Any, ends: Any, b: Any, inverse: Any, out: Any,
    planes: Any, carry: Any, begun: Any, turns: Any, dots: Any, threads: Any,
) -> None:  # fmt: skip
    for _ in prange(threads):
        _parts(
            u, lame, shear, ratio, ends, b, inverse, out, planes, carry, begun, turns, dots
        )  # fmt: skip


def _multiplied(
    how: int, u: Any, lame: Any, shear: Any, ratio: Any, out: Any, b: Any, inverse: Any,
    keep: float = 1.0, again: float = 0.0, weight: float = 0.0,
) -> float:  # fmt: skip
    threads, of = ranges_of(lame.shape), u.dtype.type
    given = u, lame, shear, ratio, (how, of(keep), of(again), of(weight)), b, inverse, out
    planes = cuts(lame.shape[0], threads)
    count, rows, n = planes.size - 1, u.shape[2], u.shape[3]
    wide = (n // _PAST + 2) * _PAST  # whole lanes, and lanes past the last node
    carry, begun = np.empty((count, 3, rows, wide), of), np.empty((3, count, rows, n), of)
    turns, dots = np.zeros(count + 1, np.int64), np.zeros(2 * count + 1)
    work = planes, carry, begun, turns, dots
    if threads == 1:
        _parts(*given, *work)
    else:
        _parts_parallel(*given, *work, threads)
    return float(dots.sum())


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
