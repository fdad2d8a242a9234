"""The loops that march heat on: rates, Legendre stages, explicit steps, and what is kept of a step.

Arrays are padded by one voxel all round; the loops take slices or rows first..last of the inner
ones. Sums are taken in pairs of opposite faces and nothing is reassociated, so that a mirrored
problem gives the mirrored answer to the last bit. Slices are read as lines: columns outside the
grid have no 1 / capacity and stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange

from trocar.kernels import dose
from trocar.kernels.bits import as_bits, as_float

_SERIAL = 30_000  # voxels; fewer are not worth waking the threads
_LINE = 2048  # voxels written at a time where a loop must not write what it reads
_STRIP = 64  # rows of a slice that stay in the nearest memory while several steps are taken


def ranges_of(shape: tuple[int, int, int]) -> int:
    """Into how many ranges of rows work is cut; 1 for a small grid."""
    return 1 if np.prod(shape) < _SERIAL else 4 * int(get_num_threads())


def strips_of(shape: tuple[int, int, int]) -> int:
    """Into how many strips of rows explicit steps are cut; 1 for a small grid."""
    if np.prod(shape) < _SERIAL:
        return 1
    threads = int(get_num_threads())
    return min(shape[1], threads * max(1, round(shape[1] / (threads * _STRIP))))


# --- one step or stage ---------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _flat(a: Any) -> Any:
    """Each slice as one line."""
    return a.reshape(a.shape[0], a.shape[1] * a.shape[2])


@njit(cache=True, nogil=True, error_model="numpy")
def _near(
    below: Any, below_o: int, mid: Any, mid_o: int, above: Any, above_o: int, gz0: Any, gz1: Any,
    gy: Any, gx: Any, o: int, m: int, row: int,
) -> Any:  # fmt: skip
    """A line of m voxels from o on: itself, its six neighbours, and the faces to each of them.

    The slices of temperature may begin elsewhere than those of the faces (``..._o``).
    """
    a, e, n = mid_o, o + m, mid_o + m
    return (
        mid[a:n], mid[a - 1 : n - 1], mid[a + 1 : n + 1], mid[a - row : n - row],
        mid[a + row : n + row], below[below_o : below_o + m], above[above_o : above_o + m],
        gx[o - 1 : e - 1], gx[o:e], gy[o - row : e - row], gy[o:e], gz0[o:e], gz1[o:e],
    )  # fmt: skip


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def _spread(
    c: Any, left: Any, right: Any, front: Any, back: Any, below: Any, above: Any, g_left: Any,
    g_right: Any, g_front: Any, g_back: Any, g_below: Any, g_above: Any, x: int,
) -> Any:  # fmt: skip
    """div(g grad c) at one voxel of a line."""
    u = c[x]
    along_x = g_left[x] * (left[x] - u) + g_right[x] * (right[x] - u)
    along_y = g_front[x] * (front[x] - u) + g_back[x] * (back[x] - u)
    along_z = g_below[x] * (below[x] - u) + g_above[x] * (above[x] - u)
    return along_x + along_y + along_z


@njit(cache=True, nogil=True, error_model="numpy")
def _slope_line(
    c: Any, left: Any, right: Any, front: Any, back: Any, below: Any, above: Any, g_left: Any,
    g_right: Any, g_front: Any, g_back: Any, g_below: Any, g_above: Any, inverse: Any, w: Any,
    q: Any, out: Any,
) -> None:  # fmt: skip
    """out = inverse (div(g grad c) - w c + q)."""
    for x in range(out.size):
        u = c[x]
        flow = _spread(
            c, left, right, front, back, below, above, g_left, g_right, g_front, g_back, g_below,
            g_above, x,
        )  # fmt: skip
        out[x] = inverse[x] * (flow - w[x] * u + q[x])


@njit(cache=True, nogil=True, error_model="numpy")
def _slope_part(
    t: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any, q: Any, out: Any, first: int, last: int
) -> None:
    """The rate in slices first..last (padded)."""
    row, o, m = t.shape[2], t.shape[2] + 1, (t.shape[1] - 2) * t.shape[2] - 2
    e = o + m
    t, gz, gy, gx = _flat(t), _flat(gz), _flat(gy), _flat(gx)
    inverse, w, q, out = _flat(inverse), _flat(w), _flat(q), _flat(out)
    for z in range(first, last):
        near = _near(t[z - 1], o, t[z], o, t[z + 1], o, gz[z - 1], gz[z], gy[z], gx[z], o, m, row)
        _slope_line(*near, inverse[z, o:e], w[z, o:e], q[z, o:e], out[z, o:e])


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _slope_parallel(
    t: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any, q: Any, out: Any, ranges: int
) -> None:
    nz = t.shape[0] - 2
    for k in prange(ranges):
        _slope_part(
            t, gz, gy, gx, inverse, w, q, out, nz * k // ranges + 1, nz * (k + 1) // ranges + 1
        )


def slope(t: Any, *rest: Any) -> None:
    """The rate everywhere: as ``_slope_part``, then into how many ranges the work is cut."""
    *arrays, ranges = rest
    if ranges == 1:
        _slope_part(t, *arrays, 1, t.shape[0] - 1)
    else:
        _slope_parallel(t, *arrays, ranges)


@njit(cache=True, nogil=True, error_model="numpy")
def _stage_line(
    c: Any, left: Any, right: Any, front: Any, back: Any, below: Any, above: Any, g_left: Any,
    g_right: Any, g_front: Any, g_back: Any, g_below: Any, g_above: Any, inverse: Any, w: Any,
    last_d: Any, older: Any, f0: Any, weights: Any, out: Any,
) -> None:  # fmt: skip
    mu, nu, mut, rest = weights[0], weights[1], weights[2], weights[3]
    for x in range(out.size):
        u = c[x]
        flow = _spread(
            c, left, right, front, back, below, above, g_left, g_right, g_front, g_back, g_below,
            g_above, x,
        )  # fmt: skip
        slope = flow - w[x] * u
        out[x] = mu * last_d[x] + nu * older[x] + mut * (inverse[x] * slope) + rest * f0[x]


@njit(cache=True, nogil=True, error_model="numpy")
def _stage_part(
    t: Any, last_d: Any, older: Any, f0: Any, out: Any, gz: Any, gy: Any, gx: Any, inverse: Any,
    w: Any, weights: Any, first: int, last: int,
) -> None:  # fmt: skip
    """One Legendre stage of what a step adds, in slices first..last; ``out`` may be ``older``.

    So it is written by way of a short line: a loop that may overwrite what it reads does not run
    in lanes.
    """
    row, start, end = t.shape[2], t.shape[2] + 1, (t.shape[1] - 1) * t.shape[2] - 1
    line = np.empty(min(_LINE, end - start), t.dtype)
    t, gz, gy, gx, inverse, w = _flat(t), _flat(gz), _flat(gy), _flat(gx), _flat(inverse), _flat(w)
    last_d, older, f0, out = _flat(last_d), _flat(older), _flat(f0), _flat(out)
    for z in range(first, last):
        for o in range(start, end, _LINE):
            e = min(o + _LINE, end)
            near = _near(
                t[z - 1], o, t[z], o, t[z + 1], o, gz[z - 1], gz[z], gy[z], gx[z], o, e - o, row
            )
            _stage_line(
                *near, inverse[z, o:e], w[z, o:e], last_d[z, o:e], older[z, o:e], f0[z, o:e],
                weights, line[: e - o],
            )  # fmt: skip
            out[z, o:e] = line[: e - o]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _stage_parallel(
    t: Any, last_d: Any, older: Any, f0: Any, out: Any, gz: Any, gy: Any, gx: Any, inverse: Any,
    w: Any, weights: Any, ranges: int,
) -> None:  # fmt: skip
    nz = t.shape[0] - 2
    for k in prange(ranges):
        _stage_part(
            t, last_d, older, f0, out, gz, gy, gx, inverse, w, weights,
            nz * k // ranges + 1, nz * (k + 1) // ranges + 1,
        )  # fmt: skip


def stage(t: Any, *rest: Any) -> None:
    """One Legendre stage: as ``_stage_part``, then the ranges."""
    *arrays, ranges = rest
    if ranges == 1:
        _stage_part(t, *arrays, 1, t.shape[0] - 1)
    else:
        _stage_parallel(t, *arrays, ranges)


@njit(cache=True, nogil=True, error_model="numpy")
def _largest(d: Any, f0: Any, f1: Any, quarter: Any) -> float:
    """max |0.8 d - 0.4 step (f0 + f1)| / 0.8; compared by bits, which runs in lanes."""
    worst = as_bits(quarter) * 0
    double = quarter + quarter
    for x in range(d.size):
        bits = as_bits(abs(double * (f0[x] + f1[x]) - d[x]))
        worst = bits if bits > worst else worst
    return float(as_float(worst))


@njit(cache=True, nogil=True, error_model="numpy")
def _finish_part(
    t: Any, d: Any, f0: Any, f1: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any, q: Any,
    slope: Any, step: Any, error: Any, first: int, last: int,
) -> None:  # fmt: skip
    """The rate at the end of a step, and by how much step and rates disagree, in each slice.

    After Sommeijer, Shampine and Verwer: 0.8 |d - step (f0 + f1) / 2|.
    """
    for z in range(first, last):
        _slope_part(t, gz, gy, gx, inverse, w, q, f1, z, z + 1)
        a, b, c = d[z].ravel(), f0[z].ravel(), f1[z].ravel()
        if slope.size == 0:
            error[z - 1, 0] = 0.8 * _largest(a, b, c, step[0] / 4)
        else:
            k, worst = slope[z].ravel(), 0.0
            for x in range(k.size):
                worst = max(worst, abs(a[x] - step[0] / 2 * (b[x] + c[x])) * k[x])
            error[z - 1, 0] = 0.8 * worst


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _finish_parallel(
    t: Any, d: Any, f0: Any, f1: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any, q: Any,
    slope: Any, step: Any, error: Any, ranges: int,
) -> None:  # fmt: skip
    nz = t.shape[0] - 2
    for k in prange(ranges):
        _finish_part(
            t, d, f0, f1, gz, gy, gx, inverse, w, q, slope, step, error,
            nz * k // ranges + 1, nz * (k + 1) // ranges + 1,
        )  # fmt: skip


def finish(t: Any, *rest: Any) -> None:
    """The end of a step: as ``_finish_part``, then the ranges."""
    *arrays, ranges = rest
    if ranges == 1:
        _finish_part(t, *arrays, 1, t.shape[0] - 1)
    else:
        _finish_parallel(t, *arrays, ranges)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _plus_parallel(y: Any, x: Any, f: Any, out: Any) -> None:
    for z in prange(out.shape[0]):
        out[z] = y[z] + x * f[z]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _times_parallel(x: Any, f: Any, out: Any) -> None:
    for z in prange(out.shape[0]):
        out[z] = x * f[z]


def plus(y: Any, x: float, f: Any, out: Any, ranges: int) -> None:
    """out = y + x f; the outer layer stays, for there f is 0."""
    factor = y.dtype.type(x)
    if ranges == 1:
        np.multiply(f, factor, out=out)
        np.add(out, y, out=out)
    else:
        _plus_parallel(y, factor, f, out)


def times(x: float, f: Any, out: Any, ranges: int) -> None:
    """out = x f."""
    factor = f.dtype.type(x)
    if ranges == 1:
        np.multiply(f, factor, out=out)
    else:
        _times_parallel(factor, f, out)


# --- what is kept of every step ------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _extremes(old: Any, new: Any, blood: Any, peak: Any, lowest: Any, level: Any) -> int:
    """Keep them; how many voxels are so far above the blood before or after.

    Counted and not compared for the greatest, which would not run in lanes.
    """
    warm = 0
    for x in range(new.size):
        t = np.float32(new[x] + blood)
        peak[x] = t if t > peak[x] else peak[x]
        lowest[x] = t if t < lowest[x] else lowest[x]
        warm += (old[x] >= level) | (new[x] >= level)
    return warm


@njit(cache=True, nogil=True, error_model="numpy")
def _watch_rows(
    old: Any, before: int, new: Any, after: int, z: int, first: int, last: int, inverse: Any,
    w: Any, rate: Any, blood: Any, step: float, rules: Any, stops: Any, peak: Any, lowest: Any,
    cem: Any, omega: Any, shut: Any,
) -> None:  # fmt: skip
    """What is kept of a step, in rows first..last (padded) of slice z.

    ``old`` and ``new`` are flat; their rows begin at ``before`` and ``after``. The rows are taken
    as one line for their extremes, and one by one only where one of them is warm enough: cutting
    a row out costs as much as reading it.
    """
    n = shut.shape[2]
    row = n + 2
    o, m = first * row + 1, (last - first) * row - 2
    level = old.dtype.type(min(rules[2], rules[5]) - blood)
    warm = _extremes(
        old[before : before + m], new[after : after + m], blood, peak[z, o : o + m],
        lowest[z, o : o + m], level,
    )  # fmt: skip
    if warm == 0:
        return
    none = np.zeros(0)
    for j in range(first, last):
        a, b, c = before + (j - first) * row, after + (j - first) * row, j * row + 1
        old_row, new_row = old[a : a + n], new[b : b + n]
        minutes = cem[z - 1, j - 1] if cem.size else none
        damage = omega[z - 1, j - 1] if omega.size else none
        added = dose.add_row(old_row, new_row, np.float64(blood), step, rules, minutes, damage)
        if added and (stops[0] < np.inf or stops[1] < np.inf):
            f = rate[z, c : c + n] if rate.size else rate[0]
            _stop_blood(
                new_row, minutes, damage, stops, shut[z - 1, j - 1], w[z, c : c + n],
                inverse[z, c : c + n], f,
            )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _stop_blood(
    new: Any, cem: Any, omega: Any, stops: Any, shut: Any, w: Any, inverse: Any, rate: Any
) -> None:
    """End the perfusion of a row where a dose has passed its limit, and its share of the rate."""
    for x in range(new.size):
        dead = (cem.size > 0 and cem[x] >= stops[0]) or (omega.size > 0 and omega[x] >= stops[1])
        if dead and not shut[x]:
            shut[x] = True
            if rate.size > 0:
                rate[x] += inverse[x] * (w[x] * new[x])
            w[x] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _watch_part(
    old: Any, new: Any, inverse: Any, w: Any, rate: Any, blood: Any, step: float, rules: Any,
    stops: Any, peak: Any, lowest: Any, cem: Any, omega: Any, shut: Any, first: int, last: int,
) -> None:  # fmt: skip
    """What is kept of a step, in slices first..last (padded)."""
    ny, n = shut.shape[1:]
    olds, news = _flat(old), _flat(new)
    rest = (_flat(inverse), _flat(w), _flat(rate))
    extremes = (_flat(peak), _flat(lowest))
    for z in range(first, last):
        _watch_rows(
            olds[z], n + 3, news[z], n + 3, z, 1, ny + 1, *rest, blood, step, rules, stops,
            *extremes, cem, omega, shut,
        )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _watch_parallel(
    old: Any, new: Any, inverse: Any, w: Any, rate: Any, blood: Any, step: float, rules: Any,
    stops: Any, peak: Any, lowest: Any, cem: Any, omega: Any, shut: Any, ranges: int,
) -> None:  # fmt: skip
    nz = shut.shape[0]
    for k in prange(ranges):
        _watch_part(
            old, new, inverse, w, rate, blood, step, rules, stops, peak, lowest, cem, omega, shut,
            nz * k // ranges + 1, nz * (k + 1) // ranges + 1,
        )  # fmt: skip


def watch(*arrays: Any) -> None:
    """Keep extremes and doses of a step: as ``_watch_part``, then the ranges."""
    *rest, ranges = arrays
    if ranges == 1:
        _watch_part(*rest, 1, rest[-1].shape[0] + 1)
    else:
        _watch_parallel(*rest, ranges)


# --- several steps or stages in one pass through memory ------------------------------------------
#
# A pass over all slices takes several steps: while the first has come to slice z, the second is at
# z - 1, and so on; what lies between is kept of three slices only. Slices are cut into strips of
# rows, so that all this stays in the nearest memory. A strip takes its earlier steps in a few rows
# of its neighbours, too, and so needs no word from them. Slices are read as lines: columns outside
# the grid have no 1 / capacity and stay as they are.


@njit(cache=True, nogil=True, error_model="numpy")
def _explicit_line(
    c: Any, left: Any, right: Any, front: Any, back: Any, below: Any, above: Any, g_left: Any,
    g_right: Any, g_front: Any, g_back: Any, g_below: Any, g_above: Any, inverse: Any, w: Any,
    q: Any, step: Any, out: Any,
) -> None:  # fmt: skip
    """out = c + step inverse (div(g grad c) - w c + q)."""
    for x in range(out.size):
        u = c[x]
        flow = _spread(
            c, left, right, front, back, below, above, g_left, g_right, g_front, g_back, g_below,
            g_above, x,
        )  # fmt: skip
        out[x] = u + step * (inverse[x] * (flow - w[x] * u + q[x]))


@njit(cache=True, nogil=True, error_model="numpy")
def _slices(before: Any, ring: Any, k: int, z: int, o: int, a: int) -> Any:
    """Slices z - 1, z, z + 1 of what step k begins with, and where the line at o lies in them.

    The first step begins with the whole ``before``; the others with the ring of the step before,
    in which the line lies at a. Beyond the grid nothing changes.
    """
    nz = before.shape[0] - 2
    if k == 1:
        return before[z - 1], o, before[z], o, before[z + 1], o
    below, above = before[z - 1], before[z + 1]
    below_o, above_o = o, o
    if z > 1:
        below, below_o = ring[k - 2, (z - 1) % 3], a
    if z < nz:
        above, above_o = ring[k - 2, (z + 1) % 3], a
    return below, below_o, ring[k - 2, z % 3], a, above, above_o


@njit(cache=True, nogil=True, error_model="numpy")
def _march_strip(
    y: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any, q: Any, out: Any, ring: Any,
    blood: Any, step: float, rules: Any, stops: Any, peak: Any, lowest: Any, cem: Any, omega: Any,
    shut: Any, together: int, first: int, last: int,
) -> None:  # fmt: skip
    """So many steps for rows first..last (padded) of every slice."""
    nz, ny, n = shut.shape
    row = n + 2
    y2, out2, gz2, gy2, gx2 = _flat(y), _flat(out), _flat(gz), _flat(gy), _flat(gx)
    i2, w2, q2, peak2, lowest2 = _flat(inverse), _flat(w), _flat(q), _flat(peak), _flat(lowest)
    dt = y.dtype.type(step)
    no_rate = y2[:1, :0]
    start = max(0, first - together) * row  # where the ring's slices begin
    ring[:] = y2[0, 0]  # rows outside the grid are never written
    for s in range(1, nz + together):
        for k in range(1, together + 1):
            z = s - (k - 1)
            if z < 1 or z > nz:
                continue
            beyond = together - k
            low, high = max(1, first - beyond), min(ny + 1, last + beyond)
            o = low * row + 1
            m = (high - low) * row - 2
            at = _slices(y2, ring, k, z, o, o - start)
            into, e = out2[z], o
            if k < together:
                into, e = ring[k - 1, z % 3], o - start
            near = _near(*at, gz2[z - 1], gz2[z], gy2[z], gx2[z], o, m, row)
            _explicit_line(
                *near, i2[z, o : o + m], w2[z, o : o + m], q2[z, o : o + m], dt, into[e : e + m]
            )
            mid, a = at[2], at[3]
            b = first * row + 1
            _watch_rows(
                mid, b + a - o, into, b + e - o, z, first, last, i2, w2, no_rate, blood, step,
                rules, stops, peak2, lowest2, cem, omega, shut,
            )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _march_parallel(
    y: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any, q: Any, out: Any, rings: Any,
    blood: Any, step: float, rules: Any, stops: Any, peak: Any, lowest: Any, cem: Any, omega: Any,
    shut: Any, together: int, strips: int,
) -> None:  # fmt: skip
    ny = shut.shape[1]
    for k in prange(strips):
        _march_strip(
            y, gz, gy, gx, inverse, w, q, out, rings[k], blood, step, rules, stops, peak, lowest,
            cem, omega, shut, together, ny * k // strips + 1, ny * (k + 1) // strips + 1,
        )  # fmt: skip


def march(*arrays: Any) -> None:
    """Several explicit steps: as ``_march_parallel``, then the strips."""
    *rest, strips = arrays
    if strips == 1:
        y, gz, gy, gx, inverse, w, q, out, rings, *watched = rest
        ny = y.shape[1] - 2
        _march_strip(y, gz, gy, gx, inverse, w, q, out, rings[0], *watched, 1, ny + 1)
    else:
        _march_parallel(*rest, strips)


@njit(cache=True, nogil=True, error_model="numpy")
def _legendre_strip(
    before: Any, latest: Any, f0: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any,
    weights: Any, out_before: Any, out: Any, ring: Any, first: int, last: int,
) -> None:  # fmt: skip
    """Two and more Legendre stages for rows first..last (padded) of every slice.

    They go on from the last two, ``before`` and ``latest``, and leave the last two.
    """
    together = weights.shape[0]
    row, nz, ny = latest.shape[2], latest.shape[0] - 2, latest.shape[1] - 2
    gz2, gy2, gx2, i2, w2 = _flat(gz), _flat(gy), _flat(gx), _flat(inverse), _flat(w)
    before2, latest2, f2 = _flat(before), _flat(latest), _flat(f0)
    out_before2, out2 = _flat(out_before), _flat(out)
    start = max(0, first - together) * row
    ring[:] = 0.0  # nothing is added outside the grid
    for s in range(1, nz + together):
        for k in range(1, together + 1):
            z = s - (k - 1)
            if z < 1 or z > nz:
                continue
            beyond = together - k
            low, high = max(1, first - beyond), min(ny + 1, last + beyond)
            o = low * row + 1
            m = (high - low) * row - 2
            at = _slices(latest2, ring, k, z, o, o - start)
            # What was added two stages ago.
            older, b = before2[z], o
            if k == 2:
                older, b = latest2[z], o
            if k > 2:
                older, b = ring[k - 3, z % 3], o - start
            into, e = out2[z], o
            if k < together:
                into, e = ring[k - 1, z % 3], o - start
            near = _near(*at, gz2[z - 1], gz2[z], gy2[z], gx2[z], o, m, row)
            _stage_line(
                *near, i2[z, o : o + m], w2[z, o : o + m], near[0], older[b : b + m],
                f2[z, o : o + m], weights[k - 1], into[e : e + m],
            )  # fmt: skip
            if k == together - 1:
                o, m = first * row + 1, (last - first) * row - 2
                out_before2[z, o : o + m] = into[o - start : o - start + m]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _legendre_parallel(
    before: Any, latest: Any, f0: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any,
    weights: Any, out_before: Any, out: Any, rings: Any, strips: int,
) -> None:  # fmt: skip
    ny = latest.shape[1] - 2
    for k in prange(strips):
        _legendre_strip(
            before, latest, f0, gz, gy, gx, inverse, w, weights, out_before, out, rings[k],
            ny * k // strips + 1, ny * (k + 1) // strips + 1,
        )  # fmt: skip


def legendre(*arrays: Any) -> None:
    """Several Legendre stages: as ``_legendre_parallel``, then the strips."""
    *rest, rings, strips = arrays
    if strips == 1:
        _legendre_strip(*rest, rings[0], 1, rest[0].shape[1] - 1)
    else:
        _legendre_parallel(*rest, rings, strips)
