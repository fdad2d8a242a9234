"""Straight needles through a grid: which come too close, what they cross, how near they pass.

Everything here lives on one isotropic lattice. Points are in *index* units (slice, row, column) of
that lattice and ``step_mm`` is the length of one unit, so that a million candidates cost no
matrix product.

Two stages. ``screen`` walks each candidate from its tip outwards by sphere steps on a byte map
that never promises more room than there is, and rejects on the spot; about ten reads per
candidate. ``measure`` samples the survivors in full: smallest slack, bone crossed, first contact,
corridor.

What a read costs is mostly waiting: for the last one, which said where to look next, and for a
wrongly guessed branch. So neither stage lets one read wait for another, and what needs no look at
the map (where a sample lies, how far the next step goes, which byte is the least) is done for many
samples at once, in loops plain enough for the compiler to turn into vector instructions.
``screen`` moves all targets of an entry by one sphere step at a time. ``measure`` first copies the
byte map along the needle at even steps, then decides from the copy which samples to read in full.

Slack is the room left beyond every limit for a needle without thickness; a needle of
radius r is safe where slack >= r.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from trocar.kernels import field

Float = NDArray[np.floating[Any]]

QUANTUM_MM = 0.25  # of the byte map
# Status of a candidate after ``screen``.
CLEAR, TOO_DEEP, OFF_CONE, OVER_TILT, TOO_CLOSE = range(5)

# Columns of what ``measure`` returns.
SLACK, CONTACT, BONE, CORRIDOR, CORRIDOR_CLEARANCE, COSINE, AHEAD, SLACK_AT = range(8)

# Every byte of a word one; the top bit of every byte.
_ONES, _TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_BLOCKS = 128  # of entries handed to the threads in turn
_SERIAL_PAIRS = 64  # so few needles are not worth waking the threads


def _corners(values: NDArray[Any], pick: Any) -> NDArray[Any]:
    """``pick`` (a NumPy minimum or maximum) of the eight corners of each cell, named by its first.

    The last cell of a line, which has no far corner, takes its own.
    """
    out = values.copy()
    for axis in range(3):
        near: list[Any] = [slice(None)] * 3
        far: list[Any] = [slice(None)] * 3
        near[axis], far[axis] = slice(None, -1), slice(1, None)
        # In place is safe: NumPy buffers operands that overlap.
        pick(out[tuple(near)], out[tuple(far)], out=out[tuple(near)])
    return out


def byte_bound(slack_mm: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A map that never exceeds a positive slack anywhere in a cell, in steps of ``QUANTUM_MM``.

    A trilinear value is never below the least of its cell's corners. 0 says only that there may be
    no room. A cell is named by its corner of lowest index.
    """
    low = np.clip(np.floor(slack_mm / np.float32(QUANTUM_MM)), 0, 255).astype(np.uint8)
    return _corners(low, np.minimum)


def sure_steps(signed_mm: NDArray[np.float32], step_mm: float) -> NDArray[np.int8]:
    """For how many steps a walk surely stays outside (positive) or inside (negative) a shape.

    From anywhere in the cell; 0 where the corners of the cell do not agree.
    """
    steps = np.clip(np.trunc(signed_mm / np.float32(step_mm)), -127, 127).astype(np.int8)
    low, high = _corners(steps, np.minimum), _corners(steps, np.maximum)
    out: NDArray[np.int8] = np.maximum(low, 0) + np.minimum(high, 0)
    return out


def distance_below(
    mask: NDArray[np.bool_], step_mm: float, cap_mm: float
) -> tuple[NDArray[np.float32], tuple[slice, slice, slice]]:
    """Distance to the nearest set voxel centre up to ``cap_mm``, and the box where it is below it.

    Outside the returned box the distance is at least the cap. An empty mask gives an empty box.
    """
    box = _box(mask, int(np.ceil(cap_mm / step_mm)))
    inner = mask[box]
    if inner.size == 0:
        return np.empty(inner.shape, np.float32), box
    near = field.distance_to(np.ascontiguousarray(inner), (step_mm, step_mm, step_mm))
    return np.minimum(near, np.float32(cap_mm)), box


def _box(mask: NDArray[np.bool_], pad: int) -> tuple[slice, slice, slice]:
    planes = mask.any(axis=(1, 2)), mask.any(axis=(0, 2)), mask.any(axis=(0, 1))
    box = []
    for line in planes:
        hit = np.flatnonzero(line)
        if hit.size == 0:
            return slice(0, 0), slice(0, 0), slice(0, 0)
        box.append(slice(max(0, int(hit[0]) - pad), min(line.size, int(hit[-1]) + 1 + pad)))
    return box[0], box[1], box[2]


@njit(cache=True, nogil=True, error_model="numpy")
def _linear(values: Any, z: float, y: float, x: float) -> float:
    """Trilinear value; beyond the outer centres the edge value is held."""
    nz, ny, nx = values.shape
    z = min(max(z, 0.0), nz - 1.0)
    y = min(max(y, 0.0), ny - 1.0)
    x = min(max(x, 0.0), nx - 1.0)
    k, j, i = min(int(z), max(nz - 2, 0)), min(int(y), max(ny - 2, 0)), min(int(x), max(nx - 2, 0))
    k1, j1, i1 = min(k + 1, nz - 1), min(j + 1, ny - 1), min(i + 1, nx - 1)
    fz, fy, fx = z - k, y - j, x - i
    a = values[k, j, i] + fx * (values[k, j, i1] - values[k, j, i])
    b = values[k, j1, i] + fx * (values[k, j1, i1] - values[k, j1, i])
    c = values[k1, j, i] + fx * (values[k1, j, i1] - values[k1, j, i])
    d = values[k1, j1, i] + fx * (values[k1, j1, i1] - values[k1, j1, i])
    e = a + fy * (b - a)
    f = c + fy * (d - c)
    return float(e + fz * (f - e))


@njit(cache=True, nogil=True, error_model="numpy")
def _within(values: Any, z: float, y: float, x: float) -> float:
    """Trilinear value of a point inside the outer centres; unchecked, for the inner loops."""
    k, j, i = np.uint64(z), np.uint64(y), np.uint64(x)
    one = np.uint64(1)
    fz, fy, fx = z - k, y - j, x - i
    a = values[k, j, i] + fx * (values[k, j, i + one] - values[k, j, i])
    b = values[k, j + one, i] + fx * (values[k, j + one, i + one] - values[k, j + one, i])
    c = values[k + one, j, i] + fx * (values[k + one, j, i + one] - values[k + one, j, i])
    d = values[k + one, j + one, i] + fx * (
        values[k + one, j + one, i + one] - values[k + one, j + one, i]
    )
    e = a + fy * (b - a)
    f = c + fy * (d - c)
    return float(e + fz * (f - e))


@njit(cache=True, nogil=True, error_model="numpy")
def _cell(values: Any, z: float, y: float, x: float) -> int:
    """Value of the cell that holds a point inside the outer centres; unchecked."""
    return int(values[np.uint64(z), np.uint64(y), np.uint64(x)])


@njit(cache=True, nogil=True, error_model="numpy")
def _voxel(values: Any, z: float, y: float, x: float) -> int:
    """Value of the voxel that holds a point inside the outer centres; unchecked."""
    return int(values[np.uint64(z + 0.5), np.uint64(y + 0.5), np.uint64(x + 0.5)])


def _inside(points: Float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Points moved into the box of voxel centres, so that the walks need no check at each step."""
    most = np.asarray(shape) - 1 - 1e-6
    return np.ascontiguousarray(np.clip(np.asarray(points, np.float64), 1e-6, most))


@njit(cache=True, nogil=True, error_model="numpy")
def _set_out(
    entry: Any, tips: Any, cone: Any, up: Any, limits: Any, status: Any, lane: Any
) -> None:
    """Verdicts of all tips, and their ways into ``lane``: tip, unit vector, length, place 0."""
    step_mm, _, depth, cos_cone, sin_tilt = limits
    e0, e1, e2 = entry[0], entry[1], entry[2]
    c0, c1, c2 = cone[0], cone[1], cone[2]
    u0, u1, u2 = up[0], up[1], up[2]
    for k in range(tips.shape[1]):
        z, y, x = e0 - tips[0, k], e1 - tips[1, k], e2 - tips[2, k]
        length = np.sqrt(z * z + y * y + x * x)
        per = 1.0 / max(length, 1e-9)
        z, y, x = z * per, y * per, x * per
        lane[0, k], lane[1, k], lane[2, k] = tips[0, k], tips[1, k], tips[2, k]
        lane[3, k], lane[4, k], lane[5, k] = z, y, x
        lane[6, k], lane[7, k] = length, 0.0
        verdict = CLEAR
        verdict = OVER_TILT if abs(z * u0 + y * u1 + x * u2) > sin_tilt else verdict
        verdict = OFF_CONE if z * c0 + y * c1 + x * c2 < cos_cone else verdict
        verdict = TOO_DEEP if length * step_mm > depth else verdict
        status[k] = verdict


@njit(cache=True, nogil=True, error_model="numpy")
def _keep(lane: Any, name: Any, n: int, going: Any) -> int:
    """Close the ranks: only those of the n needles that are ``going``; how many."""
    m = 0
    for i in range(n):
        if going[i]:
            if m < i:
                for a in range(8):
                    lane[a, m] = lane[a, i]
                name[m] = name[i]
            m += 1
    return m


@njit(cache=True, nogil=True, error_model="numpy")
def _place(lane: Any, i: int) -> tuple[float, float, float]:
    """Where a needle stands on its way."""
    t = lane[7, i]
    return lane[0, i] + t * lane[3, i], lane[1, i] + t * lane[4, i], lane[2, i] + t * lane[5, i]


@njit(cache=True, nogil=True, error_model="numpy")
def _look(lane: Any, n: int, shape: Any, cell: Any) -> None:
    """Flat index of the cell in which each of n needles stands."""
    ny, nx = shape[1], shape[2]
    for i in range(n):
        z, y, x = _place(lane, i)
        cell[i] = (np.int32(z) * ny + np.int32(y)) * nx + np.int32(x)


@njit(cache=True, nogil=True, error_model="numpy")
def _advance(
    lane: Any, n: int, byte: Any, least: int, step_mm: float, radius_mm: float, going: Any
) -> int:
    """One sphere step of n needles by the bytes they stand on; how many arrived.

    Up to the byte ``least`` a needle is in doubt and stays.
    """
    per_byte, radius = QUANTUM_MM / step_mm, radius_mm / step_mm
    arrived = 0
    for i in range(n):
        t, length = lane[7, i], lane[6, i]
        room = byte[i] * per_byte - radius
        on = t < length
        arrived += not on
        going[i] = on
        ahead = min(t + max(room, 0.5), length)
        lane[7, i] = ahead if byte[i] > least else t
    return arrived


@njit(cache=True, nogil=True, error_model="numpy")
def _screen_entries(
    first: int,
    last: int,
    entries: Any,
    tips: Any,
    slack: Any,
    bound: Any,
    offender: Any,
    cone: Any,
    up: Any,
    limits: Any,
    status: Any,
    blame: Any,
) -> None:
    """Screen every target of the entries first..last; see ``screen`` for the arguments."""
    step_mm, radius_mm = limits[0], limits[1]
    count = tips.shape[1]
    bounds = bound.reshape(-1)
    lane = np.empty((8, count))
    name, doubt = np.empty(count, np.int64), np.empty(count, np.int64)
    cell, byte = np.empty(count, np.int64), np.empty(count, np.uint8)
    going = np.empty(count, np.bool_)
    least = 0  # the largest byte that leaves a needle in doubt
    while least < 255 and (least + 1) * (QUANTUM_MM / step_mm) <= radius_mm / step_mm:
        least += 1
    for e in range(first, last):
        _set_out(entries[e], tips, cone, up, limits, status[e], lane)
        for k in range(count):
            name[k] = k
            going[k] = status[e, k] == CLEAR
        n = _keep(lane, name, count, going)
        while n > 0:
            _look(lane, n, bound.shape, cell)
            doubts = 0
            for i in range(n):
                b = bounds[np.uint64(cell[i])]
                byte[i] = b
                doubt[doubts] = i
                doubts += b <= least
            gone = _advance(lane, n, byte, least, step_mm, radius_mm, going)
            for j in range(doubts):
                i = doubt[j]
                t, length = lane[7, i], lane[6, i]
                z, y, x = _place(lane, i)
                room = (_within(slack, z, y, x) - radius_mm) / step_mm
                if room < 0.0:
                    status[e, name[i]] = TOO_CLOSE
                    blame[e, name[i]] = _voxel(offender, z, y, x)
                    gone += going[i]
                    going[i] = False
                elif t < length:
                    lane[7, i] = min(t + max(room, 0.5), length)
            if gone > 0:
                n = _keep(lane, name, n, going)


@njit(cache=True, parallel=True, nogil=True)
def _screen_blocks(
    blocks: Any,
    entries: Any,
    tips: Any,
    slack: Any,
    bound: Any,
    offender: Any,
    cone: Any,
    up: Any,
    limits: Any,
    status: Any,
    blame: Any,
) -> None:
    for b in prange(blocks.shape[0]):
        _screen_entries(
            blocks[b, 0],
            blocks[b, 1],
            entries,
            tips,
            slack,
            bound,
            offender,
            cone,
            up,
            limits,
            status,
            blame,
        )


def _dealt(n: int, threads: int = 2) -> NDArray[np.int64]:
    """Blocks (first, last) of n items, dealt so that each thread gets every other one.

    Threads take contiguous runs of blocks, and neighbours in space cost alike; without dealing
    one thread would get the hard half.
    """
    edges = np.linspace(0, n, min(_BLOCKS, max(1, n)) + 1).astype(np.int64)
    blocks = np.stack([edges[:-1], edges[1:]], axis=1)
    return np.concatenate([blocks[i::threads] for i in range(threads)])


def screen(
    entries: Float,
    targets: Float,
    *,
    slack_mm: NDArray[np.float32],
    bound: NDArray[np.uint8],
    offender: NDArray[np.uint8],
    step_mm: float,
    radius_mm: float,
    depth_mm: float,
    cone: Float,
    cone_deg: float,
    up: Float,
    tilt_deg: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Which of all entry x target needles may be safe, and what stopped each that is not.

    ``entries`` (E, 3) and ``targets`` (T, 3) are index points; ``cone`` the unit direction (in
    index axes) about which a needle may come within ``cone_deg``; ``up`` the direction along which
    it may lean no more than ``tilt_deg``. Returns (E, T) bytes: the status, and for ``TOO_CLOSE``
    the value of the ``offender`` map where the walk was stopped (255 else). A ``CLEAR`` candidate
    is to be confirmed by ``measure``; every other verdict is final.
    """
    shape = (len(entries), len(targets))
    status = np.empty(shape, np.uint8)
    blame = np.full(shape, 255, np.uint8)
    limits = np.array(
        [
            step_mm,
            radius_mm,
            depth_mm,
            np.cos(np.radians(cone_deg)) - 1e-12,
            np.sin(np.radians(min(tilt_deg, 90.0))) + 1e-12,
        ]
    )
    _screen_blocks(
        _dealt(len(entries)),
        _inside(entries, slack_mm.shape),
        np.ascontiguousarray(_inside(targets, slack_mm.shape).T),
        np.ascontiguousarray(slack_mm),
        np.ascontiguousarray(bound),
        offender,
        np.ascontiguousarray(cone, np.float64),
        np.ascontiguousarray(up, np.float64),
        limits,
        status,
        blame,
    )
    return status, blame


@njit(cache=True, nogil=True, error_model="numpy")
def _cells(tip: Any, u: Any, h: float, n: int, shape: Any, cell: Any) -> None:
    """Flat index of the cell of each of the n + 1 samples h apart from the tip outwards."""
    ny, nx = shape[1], shape[2]
    z0, y0, x0 = tip[0], tip[1], tip[2]
    z1, y1, x1 = h * u[0], h * u[1], h * u[2]
    for k in range(n + 1):  # 32 bits: few processors convert longer integers several at once
        z, y, x = np.int32(z0 + k * z1), np.int32(y0 + k * y1), np.int32(x0 + k * x1)
        cell[k] = (z * ny + y) * nx + x


@njit(cache=True, nogil=True, error_model="numpy")
def _in_cell(values: Any, cell: int, row: int, plane: int, z: float, y: float, x: float) -> float:
    """Trilinear value at a point of a known cell of a flat map with these strides."""
    i, one = np.uint64(cell), np.uint64(1)
    j, k = i + np.uint64(row), i + np.uint64(plane)
    m = k + np.uint64(row)
    fz, fy, fx = z - np.floor(z), y - np.floor(y), x - np.floor(x)
    a = values[i] + fx * (values[i + one] - values[i])
    b = values[j] + fx * (values[j + one] - values[j])
    c = values[k] + fx * (values[k + one] - values[k])
    d = values[m] + fx * (values[m + one] - values[m])
    e = a + fy * (b - a)
    f = c + fy * (d - c)
    return float(e + fz * (f - e))


@njit(cache=True, nogil=True, error_model="numpy")
def _lowest(low: Any, n: int) -> int:
    """The least of the first n bytes."""
    best = np.uint8(255)
    for k in range(n):  # typed so that many bytes are compared at once
        v = low[k]
        best = v if v < best else best
    return int(best)


@njit(cache=True, nogil=True, error_model="numpy")
def _find(low: Any, words: Any, n: int, value: int) -> int:
    """First place of a value found in ``low[:n + 1]``; ``words`` are the bytes, eight by eight."""
    pattern = np.uint64(value) * _ONES
    w = 0
    for i in range(n // 8, -1, -1):
        x = words[i] ^ pattern
        w = i if (x - _ONES) & ~x & _TOPS else w  # a byte of x is zero
    k = 8 * w
    for j in range(8 * w + 7, 8 * w - 1, -1):
        k = j if low[j] == value else k
    return k


@njit(cache=True, nogil=True, error_model="numpy")
def _below(low: Any, words: Any, n: int, limit: int, hits: Any, out: Any) -> int:
    """Places of the first n + 1 bytes below ``limit`` (1 to 255) into ``out``; how many.

    Eight bytes at a time are looked at by their upper seven bits, then each byte of those words
    that may hold one.
    """
    half = np.uint64((limit + 1) // 2) * _ONES
    found = 0
    for i in range(n // 8 + 1):
        x = (words[i] >> np.uint64(1)) & ~_TOPS
        hits[found] = i
        found += ((x - half) & ~x & _TOPS) != 0  # a byte of x is below half
    count = 0
    for i in range(found):
        for k in range(8 * hits[i], 8 * hits[i] + 8):
            out[count] = k
            count += low[k] < limit
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _least_slack(
    tip: Any,
    u: Any,
    h: float,
    n: int,
    slack: Any,
    flat: Any,
    bound: Any,
    cell: Any,
    low: Any,
    words: Any,
    hits: Any,
    doubt: Any,
    step_mm: float,
    out: Any,
) -> None:
    """Smallest trilinear slack and where (distance from the tip, mm), into ``out``.

    The sample with the lowest byte gives a first value; samples whose byte cannot rule out a lower
    one are read in full. Then quarter steps about the smallest.
    """
    row, plane = slack.shape[2], slack.shape[1] * slack.shape[2]
    z0, y0, x0 = tip[0], tip[1], tip[2]
    z1, y1, x1 = h * u[0], h * u[1], h * u[2]
    for k in range(n + 1):
        low[k] = bound[np.uint64(cell[k])]
    for k in range(n + 1, n + 8):
        low[k] = 255  # the rest of the last word
    place = _find(low, words, n, _lowest(low, n + 1))
    z, y, x = z0 + place * z1, y0 + place * y1, x0 + place * x1
    least = _in_cell(flat, cell[place], row, plane, z, y, x)
    # 0 says nothing: the slack may be below it.
    limit = int(min(max(np.ceil(least / QUANTUM_MM), 1.0), 255.0))
    for i in range(_below(low, words, n, limit, hits, doubt)):
        k = doubt[i]
        v = _in_cell(flat, cell[k], row, plane, z0 + k * z1, y0 + k * y1, x0 + k * x1)
        place = k if v < least else place
        least = min(least, v)
    at = place * h
    for q in (-3, -2, -1, 1, 2, 3):
        t = min(max((place + 0.25 * q) * h, 0.0), n * h)
        v = _within(slack, z0 + t * u[0], y0 + t * u[1], x0 + t * u[2])
        at = t if v < least else at
        least = min(least, v)
    out[SLACK], out[SLACK_AT] = least, at * step_mm


@njit(cache=True, nogil=True, error_model="numpy")
def _cosine(surface: Any, z: float, y: float, x: float, w: Any) -> float:
    """Cosine between the walking direction and the inward normal of a signed distance."""
    nz, ny, nx = surface.shape
    if 1.0 <= z < nz - 2.0 and 1.0 <= y < ny - 2.0 and 1.0 <= x < nx - 2.0:
        gz = _within(surface, z + 1, y, x) - _within(surface, z - 1, y, x)
        gy = _within(surface, z, y + 1, x) - _within(surface, z, y - 1, x)
        gx = _within(surface, z, y, x + 1) - _within(surface, z, y, x - 1)
    else:
        gz = _linear(surface, z + 1, y, x) - _linear(surface, z - 1, y, x)
        gy = _linear(surface, z, y + 1, x) - _linear(surface, z, y - 1, x)
        gx = _linear(surface, z, y, x + 1) - _linear(surface, z, y, x - 1)
    size = np.sqrt(gz * gz + gy * gy + gx * gx)
    if size == 0.0:
        return 0.0
    return float(-(gz * w[0] + gy * w[1] + gx * w[2]) / size)


@njit(cache=True, nogil=True, error_model="numpy")
def _cross_bone(
    entry: Any,
    w: Any,
    h: float,
    n: int,
    bone: Any,
    sure: Any,
    cell: Any,
    surface: Any,
    parts: Any,
    part: int,
    settle: float,
    step_mm: float,
    out: Any,
) -> None:
    """Walk from the skin along ``w``: contact, bone and corridor lengths, clearance, cosine.

    Between samples the signed distance is taken as linear. ``settle`` steps after the first
    contact the clearance to the corridor's cortex begins to count.
    """
    contact, inside, corridor, clearance = -1.0, 0.0, 0.0, np.inf
    before, k_before, k = 1.0, 0, 0
    while k <= n:
        t = k * h
        z, y, x = entry[0] + t * w[0], entry[1] + t * w[1], entry[2] + t * w[2]
        free = int(sure[np.uint64(cell[n - k])])
        hop = 1
        if free >= 2 or (free <= -2 and part == 0):
            v = float(free)
            hop = abs(free) - 1
        else:
            v = _within(bone, z, y, x)
        if k == 0:
            if v < 0.0:
                contact = 0.0
        elif v < 0.0 and before < 0.0:
            inside += (k - k_before) * h
        elif v < 0.0:
            f = before / (before - v)
            inside += (1.0 - f) * h
            if contact < 0.0:
                contact = (k_before + f) * h
        elif before < 0.0:
            inside += before / (before - v) * h
        if part != 0 and v < 0.0 and _voxel(parts, z, y, x) & part:
            corridor += h
            if t - contact >= settle:
                clearance = min(clearance, -v)
        before, k_before = v, k
        k = min(k + hop, n) if k < n else n + 1
    out[CONTACT] = contact * step_mm if contact >= 0.0 else np.nan
    out[BONE] = inside * step_mm
    out[CORRIDOR] = corridor * step_mm
    out[CORRIDOR_CLEARANCE] = clearance * step_mm
    out[COSINE] = np.nan
    if contact >= 0.0:
        z, y, x = entry[0] + contact * w[0], entry[1] + contact * w[1], entry[2] + contact * w[2]
        out[COSINE] = _cosine(surface, z, y, x, w)


@njit(cache=True, nogil=True, error_model="numpy")
def _room_ahead(tip: Any, w: Any, bone: Any, sure: Any, most: float) -> float:
    """How far (in steps, up to ``most``) bone goes on beyond the tip."""
    if -_cell(sure, tip[0], tip[1], tip[2]) >= most:
        return most
    t, before = 0.0, _linear(bone, tip[0], tip[1], tip[2])
    if before >= 0.0:
        return 0.0
    while t < most:
        v = _linear(
            bone,
            tip[0] + (t + 0.5) * w[0],
            tip[1] + (t + 0.5) * w[1],
            tip[2] + (t + 0.5) * w[2],
        )
        if v >= 0.0:
            return float(min(t + 0.5 * before / (before - v), most))
        before = v
        t += 0.5
    return most


@njit(cache=True, nogil=True, error_model="numpy")
def _measure_some(
    first: int,
    last: int,
    pairs: Any,
    entries: Any,
    targets: Any,
    slack: Any,
    bound: Any,
    bone: Any,
    sure: Any,
    surface: Any,
    parts: Any,
    part: int,
    settings: Any,
    out: Any,
) -> None:
    step_mm, settle, ahead = settings
    flat, bounds, sures = slack.reshape(-1), bound.reshape(-1), sure.reshape(-1)
    u = np.empty(3)
    w = np.empty(3)
    nz, ny, nx = slack.shape
    most = int(np.sqrt(nz * nz + ny * ny + nx * nx)) + 2
    cell, hits, doubt = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    words = np.empty(most // 8 + 2, np.uint64)
    low = words.view(np.uint8)
    for p in range(first, last):
        e, t = pairs[p, 0], pairs[p, 1]
        for a in range(3):
            u[a] = entries[e, a] - targets[t, a]
        length = np.sqrt(u[0] * u[0] + u[1] * u[1] + u[2] * u[2])
        for a in range(3):
            u[a] /= max(length, 1e-9)
            w[a] = -u[a]
        row = out[p]
        n = max(1, int(np.ceil(length)))
        h = length / n
        _cells(targets[t], u, h, n, slack.shape, cell)
        _least_slack(
            targets[t], u, h, n, slack, flat, bounds, cell, low, words, hits, doubt, step_mm, row
        )
        _cross_bone(
            entries[e], w, h, n, bone, sures, cell, surface, parts, part, settle, step_mm, row
        )
        row[AHEAD] = _room_ahead(targets[t], w, bone, sure, ahead) * step_mm


@njit(cache=True, parallel=True, nogil=True)
def _measure_blocks(
    blocks: Any,
    pairs: Any,
    entries: Any,
    targets: Any,
    slack: Any,
    bound: Any,
    bone: Any,
    sure: Any,
    surface: Any,
    parts: Any,
    part: int,
    settings: Any,
    out: Any,
) -> None:
    for b in prange(blocks.shape[0]):
        _measure_some(
            blocks[b, 0],
            blocks[b, 1],
            pairs,
            entries,
            targets,
            slack,
            bound,
            bone,
            sure,
            surface,
            parts,
            part,
            settings,
            out,
        )


def measure(
    pairs: NDArray[np.integer[Any]],
    entries: Float,
    targets: Float,
    *,
    slack_mm: NDArray[np.float32],
    bound: NDArray[np.uint8],
    bone_mm: NDArray[np.float32],
    sure: NDArray[np.int8],
    surface_mm: NDArray[np.float32],
    parts: NDArray[np.uint8],
    part: int,
    step_mm: float,
    settle_mm: float,
    ahead_mm: float,
) -> NDArray[np.float32]:
    """What each needle (entry, target) of ``pairs`` (n, 2) crosses: one row of eight numbers.

    ``bone_mm`` is the signed distance of the treated bone (negative inside), ``sure`` what
    :func:`sure_steps` makes of it, ``surface_mm`` a smoothed copy whose gradient is the cortex
    normal, ``parts`` a map of bits of which ``part`` is the corridor (0: none). Columns: smallest
    ``SLACK``; ``CONTACT``, depth of the first bone (nan if none); ``BONE`` crossed; ``CORRIDOR``
    crossed; ``CORRIDOR_CLEARANCE`` from the axis to the outside of the bone within the corridor,
    from ``settle_mm`` after first contact on (inf if none); ``COSINE`` between needle and inward
    normal at contact; ``AHEAD``, bone beyond the tip up to ``ahead_mm``; ``SLACK_AT``, distance
    from the tip to the tightest place. All mm.
    """
    out = np.empty((len(pairs), 8), np.float32)
    settings = np.array([step_mm, settle_mm / step_mm, ahead_mm / step_mm])
    given = (
        np.ascontiguousarray(pairs, np.int64),
        _inside(entries, slack_mm.shape),
        _inside(targets, slack_mm.shape),
        np.ascontiguousarray(slack_mm),
        np.ascontiguousarray(bound),
        bone_mm,
        np.ascontiguousarray(sure),
        surface_mm,
        parts,
        part,
        settings,
        out,
    )
    if len(pairs) <= _SERIAL_PAIRS:
        _measure_some(0, len(pairs), *given)
    else:
        _measure_blocks(_dealt(len(pairs)), *given)
    return out


def by_place(points: Float, cell: float = 8.0) -> NDArray[np.int64]:
    """An order that keeps neighbours in space near in memory: cell by cell of ``cell`` units."""
    c = np.floor(np.asarray(points) / cell).astype(np.int64)
    order: NDArray[np.int64] = np.lexsort((c[:, 2], c[:, 1], c[:, 0]))
    return order


@njit(cache=True, nogil=True, error_model="numpy")
def _to_box(start: Any, way: Any, centre: Any, half: Any) -> tuple[float, float]:
    """Squared distance from the segment start + t way, t in [0, 1], to a box; and that t.

    The squared distance is convex in t and quadratic between the (at most six) places where the
    line passes a face plane, so its derivative rises piecewise linearly and has one zero.
    """
    t = np.empty(8)
    t[0], t[1] = 0.0, 1.0
    n = 2
    for a in range(3):
        if way[a] != 0.0:
            for s in (-1.0, 1.0):
                b = (centre[a] + s * half[a] - start[a]) / way[a]
                if 0.0 < b < 1.0:
                    k = n
                    while k > 0 and t[k - 1] > b:
                        t[k] = t[k - 1]
                        k -= 1
                    t[k] = b
                    n += 1
    best, before = 0.0, 0.0
    for k in range(n):
        slope = _box_slope(start, way, centre, half, t[k])
        best = t[k]
        if slope >= 0.0:
            if k > 0 and slope > 0.0:
                best = t[k - 1] + (t[k] - t[k - 1]) * (-before) / (slope - before)
            break
        before = slope
    total = 0.0
    for a in range(3):
        out = max(abs(start[a] + best * way[a] - centre[a]) - half[a], 0.0)
        total += out * out
    return total, best


@njit(cache=True, nogil=True, error_model="numpy")
def _box_slope(start: Any, way: Any, centre: Any, half: Any, t: float) -> float:
    total = 0.0
    for a in range(3):
        d = start[a] + t * way[a] - centre[a]
        if d > half[a]:
            total += (d - half[a]) * way[a]
        elif d < -half[a]:
            total += (d + half[a]) * way[a]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _to_voxels(start: Any, end: Any, voxels: Any, half: Any, out: Any) -> float:
    way = end - start
    square = way[0] ** 2 + way[1] ** 2 + way[2] ** 2
    reach = np.sqrt(half[0] ** 2 + half[1] ** 2 + half[2] ** 2)
    best, best_t, best_k = np.inf, 0.0, -1
    centre = np.empty(3)
    for k in range(voxels.shape[0]):
        dot, away = 0.0, 0.0
        for a in range(3):
            centre[a] = voxels[k, a] * 2.0 * half[a]
            dot += (centre[a] - start[a]) * way[a]
        t = min(max(dot / square, 0.0), 1.0) if square > 0.0 else 0.0
        for a in range(3):
            away += (start[a] + t * way[a] - centre[a]) ** 2
        # A box is never nearer than its centre less half its diagonal.
        if best_k >= 0 and away > (np.sqrt(best) + reach) ** 2:
            continue
        d, t = _to_box(start, way, centre, half)
        if d < best:
            best, best_t, best_k = d, t, k
            if best == 0.0:
                break
    for a in range(3):
        p = start[a] + best_t * way[a]
        c = voxels[best_k, a] * 2.0 * half[a]
        out[a] = min(max(p, c - half[a]), c + half[a])
    return float(np.sqrt(best))


def segment_to_voxels(
    start_mm: Float, end_mm: Float, voxels: NDArray[np.integer[Any]], spacing_mm: Float
) -> tuple[float, Float]:
    """Exact distance from a segment to a union of voxel boxes, and the nearest point of the union.

    ``voxels`` (n, 3) are indices whose box is centred at index * spacing; the segment is in the
    same frame (mm along slice, row, column from the centre of voxel 0). 0 when the segment touches
    or enters a box. Without voxels: infinity and a point of nan.
    """
    nearest = np.full(3, np.nan)
    if len(voxels) == 0:
        return float("inf"), nearest
    distance = _to_voxels(
        np.asarray(start_mm, np.float64),
        np.asarray(end_mm, np.float64),
        np.ascontiguousarray(voxels, np.int32),
        np.asarray(spacing_mm, np.float64) / 2.0,
        nearest,
    )
    return float(distance), nearest


def segment_to_segment(a0: Float, a1: Float, b0: Float, b1: Float) -> float:
    """Shortest distance between two segments in space (mm in, mm out).

    >>> import numpy as np
    >>> x, y, z = np.eye(3)
    >>> segment_to_segment(-x, x, z - y, z + y)
    1.0
    """
    a0, a1, b0, b1 = (np.asarray(p, np.float64) for p in (a0, a1, b0, b1))
    u, v, w = a1 - a0, b1 - b0, a0 - b0
    a, b, c, d, e = u @ u, u @ v, v @ v, u @ w, v @ w
    ends = [
        point_to_segment(a0, b0, b1),
        point_to_segment(a1, b0, b1),
        point_to_segment(b0, a0, a1),
        point_to_segment(b1, a0, a1),
    ]
    bend = a * c - b * b
    if bend > 1e-12 * a * c:  # not parallel: the lines have one nearest pair
        s, t = (b * e - c * d) / bend, (a * e - b * d) / bend
        if 0.0 <= s <= 1.0 and 0.0 <= t <= 1.0:
            ends.append(float(np.linalg.norm(w + s * u - t * v)))
    return min(ends)


def point_to_segment(point: Float, start: Float, end: Float) -> float:
    """Shortest distance from a point to a segment."""
    p, a, b = (np.asarray(q, np.float64) for q in (point, start, end))
    way = b - a
    square = way @ way
    t = 0.0 if square == 0.0 else float(np.clip((p - a) @ way / square, 0.0, 1.0))
    return float(np.linalg.norm(p - a - t * way))


def warm() -> None:
    """Compile every kernel of this module for the types the planner uses."""
    shape = (4, 4, 4)
    room = np.ones(shape, np.float32)
    flat = np.zeros(shape, np.uint8)
    point, other = np.ones((1, 3)), np.full((1, 3), 2.0)
    axis = np.array([1.0, 0.0, 0.0])
    common: dict[str, Any] = {"slack_mm": room, "bound": flat, "step_mm": 1.0}
    screen(
        point,
        other,
        offender=flat,
        radius_mm=0.5,
        depth_mm=10.0,
        cone=axis,
        cone_deg=180.0,
        up=axis,
        tilt_deg=90.0,
        **common,
    )
    for count in (1, _SERIAL_PAIRS + 1):
        measure(
            np.zeros((count, 2), np.int64),
            point,
            other,
            bone_mm=room,
            sure=np.zeros(shape, np.int8),
            surface_mm=room,
            parts=flat,
            part=0,
            settle_mm=1.0,
            ahead_mm=1.0,
            **common,
        )
    segment_to_voxels(point[0], other[0], np.zeros((1, 3), np.int32), np.ones(3))
