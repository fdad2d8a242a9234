"""Maps on a grid: resampling, sampling, distance, components.

Every public function takes any numeric dtype, any memory order and read-only arrays, and changes no
argument. What runs is compiled once for each of a few dtypes (:func:`warm` does so beforehand):
serial functions work on a range of rows, thin parallel ones hand the ranges out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

LANES = 64  # columns that a distance pass carries through together; fixed so that loops unroll
TRACKED = 8  # of so many rows the best sites are kept; it is cheaper to search a little more
_SLACK = 1e-6  # voxels; a point that far beyond the outer face still counts as on it
_SERIAL_POINTS = 4096  # fewer points than this are not worth waking the threads
_INF = np.float32(np.inf)
_COMPILED = (np.dtype(np.int16), np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64))
_NEVER = 1 << 30  # voxels; no axis is that long


def resample_linear(
    values: NDArray[Any], index_map: NDArray[Any], shape: tuple[int, int, int], outside: float
) -> NDArray[np.float32]:
    """What are the values on another grid, trilinearly between the voxel centres?

    ``index_map`` (3x4) takes an output index to an input index, both (slice, row, column). Between
    the outer voxel centres and the outer *faces* the edge value is held; beyond the faces the
    result is ``outside``. Axis-aligned maps, flipped or not, take a separable path that gives the
    same values. Returns float32 of ``shape``.
    """
    a, m = _numbers(values), np.ascontiguousarray(index_map, dtype=np.float64)
    out = np.empty(_counts(shape), np.float32)
    if _is_diagonal(m):
        tables = [_linear_table(m[k, k], m[k, 3], out.shape[k], a.shape[k]) for k in range(3)]
        (z0, z1, wz), (y0, y1, wy), (x0, x1, wx) = tables
        _separable(a, z0, z1, wz, y0, y1, wy, x0, x1, wx, np.float32(outside), out, _ranges())
    else:
        _general(a, m, np.float32(outside), out, _ranges())
    return out


def resample_nearest(
    values: NDArray[Any], index_map: NDArray[Any], shape: tuple[int, int, int], outside: float
) -> NDArray[Any]:
    """What is the value of the voxel each point of another grid lies in?

    As :func:`resample_linear` without mixing: output has the input's dtype, and every point belongs
    to exactly one voxel (its lower faces included, its upper faces not).
    """
    a, m = _native(values), np.ascontiguousarray(index_map, dtype=np.float64)
    fill = np.full(1, outside).astype(values.dtype.newbyteorder("=")).view(a.dtype)
    words = np.dtype(f"u{a.dtype.itemsize}")  # only bytes are moved: one version for each width
    out = np.empty(_counts(shape), words)
    bits, fill_bits = _frozen(a.view(words)), fill.view(words)[0]
    if _is_diagonal(m):
        z, y, x = (_nearest_table(m[k, k], m[k, 3], out.shape[k], a.shape[k]) for k in range(3))
        _separable_nearest(bits, z, y, x, fill_bits, out, _ranges())
    else:
        _general_nearest(bits, m, fill_bits, out, _ranges())
    return out.view(values.dtype.newbyteorder("="))


def sample_linear(
    values: NDArray[Any], index: NDArray[Any], outside: float = float("nan")
) -> NDArray[np.float64]:
    """What are the trilinear values at fractional indices [..., (slice, row, column)]?

    The rule at the edge is that of :func:`resample_linear`: held up to the outer voxel faces,
    ``outside`` beyond them (and for an index that is not a number). Returns float64 [...].
    """
    i = np.asarray(index, dtype=np.float64)
    points = _frozen(np.ascontiguousarray(i.reshape(-1, 3)))
    out = np.empty(len(points), np.float64)
    a = _numbers(values)
    if len(points) < _SERIAL_POINTS:
        _sample_range(a, points, float(outside), out, 0, len(points))
    else:
        _sample(a, points, float(outside), out, _ranges())
    return out.reshape(i.shape[:-1])


def signed_distance(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """How far is each voxel centre from the surface of the mask, in mm, negative inside?

    It is the larger of two exact distances to the voxels on the other side: to their boxes, and to
    their centres less half of the largest step. So the zero lies half way between the last centre
    inside and the first outside along each axis, whatever the spacing there; two neighbouring
    values never differ by more than the step between them; and with equal steps the value is the
    distance between centres less half a step. Against the smooth body that was cut into voxels it
    is right to half a voxel's diagonal and short rather than long on average (with 0.8 mm voxels by
    0.2 mm), for the corners of voxels stick out where the surface runs oblique. The border of the
    array is not a surface: an empty mask is +inf everywhere, a full one -inf.
    """
    half = np.float32(max(spacing_mm) / 2)
    m = _native(np.asarray(mask, dtype=np.bool_))
    distance = _distance(m, spacing_mm, faces=False, both=True)
    if max(spacing_mm) - min(spacing_mm) < _SLACK * half:
        _sign(m, distance, half, distance, False, _ranges())
    else:
        boxes = _distance(m, spacing_mm, faces=True, both=True)
        _sign(m, distance, half, boxes, True, _ranges())
    return distance


def distance_to(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """How far is each voxel centre from the centre of the nearest set voxel, in mm?

    Exact for any spacing; 0 in set voxels and inf everywhere when none is set.
    """
    m = _native(np.asarray(mask, dtype=np.bool_))
    return _distance(m, spacing_mm, faces=False, both=False)


def components(
    mask: NDArray[np.bool_], connectivity: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Which set voxels hang together, and how many voxels has each piece?

    ``connectivity`` 1 joins across faces, 2 also across edges, 3 also across corners. Returns
    labels (0 where nothing is set, then 1, 2, ... in order of the first voxel) and ``sizes`` with
    ``sizes[k]`` the voxels of component ``k``; ``sizes[0]`` is 0, so that ``sizes.argmax()`` is
    the largest component (0 if there is none).
    """
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(mask.ndim, connectivity)
    labels = np.zeros(mask.shape, np.int32)
    count = ndimage.label(mask, structure, output=labels)
    sizes = np.bincount(labels.ravel(), minlength=count + 1).astype(np.int64)
    sizes[0] = 0
    return labels, sizes


def warm() -> None:
    """Compile what a CT, its maps and its labels need, or load it from the cache.

    Left to be compiled on demand: linear values of uint8 and float64, nearest ones of 8 bytes.
    """
    straight = np.eye(3, 4)
    oblique = straight.copy()
    oblique[0, 1] = 0.5
    index = np.zeros((_SERIAL_POINTS, 3))
    for index_map in (straight, oblique):
        for linear in (np.int16, np.float32):
            resample_linear(np.zeros((2, 2, 2), linear), index_map, (2, 2, 2), 0.0)
        for nearest in (np.uint8, np.int16, np.int32):
            resample_nearest(np.zeros((2, 2, 2), nearest), index_map, (2, 2, 2), 0)
    for points in (index, index[:1]):
        for linear in (np.int16, np.float32):
            sample_linear(np.zeros((2, 2, 2), linear), points)
    half = np.arange(8).reshape(2, 2, 2) < 3
    signed_distance(half, (1.0, 2.0, 3.0))
    distance_to(half, (1.0, 2.0, 3.0))


# --- ways in: one memory layout, so that each kernel is compiled once for each dtype --------------


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    """A read-only view: to the compiler read-only and writable arrays are two types."""
    view = values.view()
    view.setflags(write=False)
    return view


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """The values as a read-only C-ordered array of this machine's byte order; bool as bytes."""
    a = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return _frozen(a.view(np.uint8) if a.dtype == np.bool_ else a)


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    """The same in one of the dtypes that are compiled for; rarer ones become float64."""
    a = _native(values)
    return a if a.dtype in _COMPILED else _frozen(a.astype(np.float64))


def _counts(shape: Sequence[int]) -> tuple[int, int, int]:
    return int(shape[0]), int(shape[1]), int(shape[2])


def _ranges() -> int:
    """Into how many ranges work is cut: a few for each thread, so that no slow one stalls."""
    return 8 * int(get_num_threads())


def _is_diagonal(m: NDArray[np.float64]) -> bool:
    """Whether output axes run along input axes, to a rounding error over the largest grids."""
    off = np.abs(m[:, :3] - np.diag(np.diag(m[:, :3])))
    return bool(off.max() * 1e4 < _SLACK)


def _linear_table(
    scale: float, shift: float, count: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each output index along one axis: both input neighbours and the weight of the second.

    The first neighbour is -1 beyond the outer faces.
    """
    position = scale * np.arange(count) + shift
    inside = (position >= -0.5 - _SLACK) & (position <= size - 0.5 + _SLACK)
    held = np.clip(position, 0.0, size - 1.0)
    first = np.minimum(np.floor(held).astype(np.int64), max(size - 2, 0))
    second = np.minimum(first + 1, size - 1)
    return np.where(inside, first, -1), second, (held - first).astype(np.float32)


def _nearest_table(scale: float, shift: float, count: int, size: int) -> NDArray[np.int64]:
    """For each output index along one axis: the input voxel it lies in, -1 beyond the grid."""
    i = np.floor(scale * np.arange(count) + shift + 0.5)
    return np.where((i >= 0) & (i < size), i, -1).astype(np.int64)


# --- resampling ----------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _mix_row(a: Any, z0: int, z1: int, wz: Any, y0: int, y1: int, wy: Any, row: Any) -> None:
    """Four input rows mixed into one float32 row; equal values stay exactly what they are."""
    r00, r01, r10, r11 = a[z0, y0], a[z0, y1], a[z1, y0], a[z1, y1]
    for x in range(row.size):
        p, q = np.float32(r00[x]), np.float32(r10[x])
        p += wy * (np.float32(r01[x]) - p)
        q += wy * (np.float32(r11[x]) - q)
        row[x] = p + wz * (q - p)


@njit(cache=True, nogil=True)
def _separable_range(
    a: Any, z0: Any, z1: Any, wz: Any, y0: Any, y1: Any, wy: Any, x0: Any, x1: Any, wx: Any,
    outside: Any, out: Any, first: int, last: int,
) -> None:  # fmt: skip
    rows, columns = out.shape[1], out.shape[2]
    row = np.empty(a.shape[2], np.float32)
    low, high = 0, columns  # the columns inside; they hang together
    while low < columns and x0[low] < 0:
        low += 1
    while high > low and x0[high - 1] < 0:
        high -= 1
    n = high - low
    left, right, weight = x0[low:high], x1[low:high], wx[low:high]
    for r in range(first, last):
        z, y = r // rows, r % rows
        line = out[z, y]
        if z0[z] < 0 or y0[y] < 0:
            line[:] = outside
            continue
        _mix_row(a, z0[z], z1[z], wz[z], y0[y], y1[y], wy[y], row)
        line[:low] = outside
        line[high:] = outside
        inner = line[low:high]
        for x in range(n):
            p = row[np.uint64(left[x])]
            inner[x] = p + weight[x] * (row[np.uint64(right[x])] - p)


@njit(cache=True, parallel=True)
def _separable(
    a: Any, z0: Any, z1: Any, wz: Any, y0: Any, y1: Any, wy: Any, x0: Any, x1: Any, wx: Any,
    outside: Any, out: Any, ranges: int,
) -> None:  # fmt: skip
    rows = out.shape[0] * out.shape[1]
    for k in prange(ranges):
        _separable_range(
            a, z0, z1, wz, y0, y1, wy, x0, x1, wx, outside, out,
            rows * k // ranges, rows * (k + 1) // ranges,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _separable_nearest_range(
    a: Any, z: Any, y: Any, x: Any, fill: Any, out: Any, first: int, last: int
) -> None:
    rows, columns = out.shape[1], out.shape[2]
    for r in range(first, last):
        k, j = r // rows, r % rows
        line = out[k, j]
        if z[k] < 0 or y[j] < 0:
            line[:] = fill
            continue
        row = a[z[k], y[j]]
        for i in range(columns):
            line[i] = row[x[i]] if x[i] >= 0 else fill


@njit(cache=True, parallel=True)
def _separable_nearest(a: Any, z: Any, y: Any, x: Any, fill: Any, out: Any, ranges: int) -> None:
    rows = out.shape[0] * out.shape[1]
    for k in prange(ranges):
        _separable_nearest_range(
            a, z, y, x, fill, out, rows * k // ranges, rows * (k + 1) // ranges
        )


@njit(cache=True, nogil=True)
def _trilinear(a: Any, z: float, y: float, x: float) -> Any:
    """Trilinear value at a fractional index, the edge held beyond the outer centres."""
    nz, ny, nx = a.shape
    z, y, x = min(max(z, 0.0), nz - 1.0), min(max(y, 0.0), ny - 1.0), min(max(x, 0.0), nx - 1.0)
    z0, y0, x0 = (
        min(int(z), max(nz - 2, 0)),
        min(int(y), max(ny - 2, 0)),
        min(int(x), max(nx - 2, 0)),
    )
    z1, y1, x1 = min(z0 + 1, nz - 1), min(y0 + 1, ny - 1), min(x0 + 1, nx - 1)
    wz, wy, wx = z - z0, y - y0, x - x0
    v00 = a[z0, y0, x0] * (1.0 - wx) + a[z0, y0, x1] * wx
    v01 = a[z0, y1, x0] * (1.0 - wx) + a[z0, y1, x1] * wx
    v10 = a[z1, y0, x0] * (1.0 - wx) + a[z1, y0, x1] * wx
    v11 = a[z1, y1, x0] * (1.0 - wx) + a[z1, y1, x1] * wx
    return (v00 * (1.0 - wy) + v01 * wy) * (1.0 - wz) + (v10 * (1.0 - wy) + v11 * wy) * wz


@njit(cache=True, nogil=True)
def _within(p: float, size: int) -> bool:
    """Whether a position along one axis lies between the outer faces; not a number does not."""
    return p >= -0.5 - _SLACK and p <= size - 0.5 + _SLACK


@njit(cache=True, nogil=True)
def _general_range(a: Any, m: Any, outside: Any, out: Any, first: int, last: int) -> None:
    nz, ny, nx = a.shape
    rows, columns = out.shape[1], out.shape[2]
    for r in range(first, last):
        k, j = r // rows, r % rows
        line = out[k, j]
        z_start = m[0, 0] * k + m[0, 1] * j + m[0, 3]
        y_start = m[1, 0] * k + m[1, 1] * j + m[1, 3]
        x_start = m[2, 0] * k + m[2, 1] * j + m[2, 3]
        for i in range(columns):
            z, y, x = z_start + m[0, 2] * i, y_start + m[1, 2] * i, x_start + m[2, 2] * i
            if _within(z, nz) and _within(y, ny) and _within(x, nx):
                line[i] = _trilinear(a, z, y, x)
            else:
                line[i] = outside


@njit(cache=True, parallel=True)
def _general(a: Any, m: Any, outside: Any, out: Any, ranges: int) -> None:
    rows = out.shape[0] * out.shape[1]
    for k in prange(ranges):
        _general_range(a, m, outside, out, rows * k // ranges, rows * (k + 1) // ranges)


@njit(cache=True, nogil=True)
def _general_nearest_range(a: Any, m: Any, fill: Any, out: Any, first: int, last: int) -> None:
    nz, ny, nx = a.shape
    rows, columns = out.shape[1], out.shape[2]
    for r in range(first, last):
        k, j = r // rows, r % rows
        line = out[k, j]
        z_start = m[0, 0] * k + m[0, 1] * j + m[0, 3] + 0.5
        y_start = m[1, 0] * k + m[1, 1] * j + m[1, 3] + 0.5
        x_start = m[2, 0] * k + m[2, 1] * j + m[2, 3] + 0.5
        for i in range(columns):
            z, y, x = z_start + m[0, 2] * i, y_start + m[1, 2] * i, x_start + m[2, 2] * i
            inside = z >= 0.0 and z < nz and y >= 0.0 and y < ny and x >= 0.0 and x < nx
            line[i] = a[int(z), int(y), int(x)] if inside else fill


@njit(cache=True, parallel=True)
def _general_nearest(a: Any, m: Any, fill: Any, out: Any, ranges: int) -> None:
    rows = out.shape[0] * out.shape[1]
    for k in prange(ranges):
        _general_nearest_range(a, m, fill, out, rows * k // ranges, rows * (k + 1) // ranges)


@njit(cache=True, nogil=True)
def _sample_range(a: Any, points: Any, outside: float, out: Any, first: int, last: int) -> None:
    nz, ny, nx = a.shape
    for i in range(first, last):
        z, y, x = points[i, 0], points[i, 1], points[i, 2]
        if _within(z, nz) and _within(y, ny) and _within(x, nx):
            out[i] = _trilinear(a, z, y, x)
        else:
            out[i] = outside


@njit(cache=True, parallel=True)
def _sample(a: Any, points: Any, outside: float, out: Any, ranges: int) -> None:
    n = out.size
    for k in prange(ranges):
        _sample_range(a, points, outside, out, n * k // ranges, n * (k + 1) // ranges)


# --- distance ------------------------------------------------------------------------------------
#
# Three passes, along columns (x), rows (y) and slices (z), each of which turns squared distances
# within the axes done so far into squared distances with one axis more:
#
#     out(p) = min( in(p), min over sites s of  site(s) + h^2 (p - s)^2 )
#
# To voxel *centres* a site is a centre, with site(s) = in(s). To voxel *boxes* a site is the face
# between two voxels, at s + 1/2, with the smaller of the two values: the box of voxel j, seen from
# outside its slab, is nearest at the face turned to us, and the other face only adds what is larger
# than the truth. Inside and outside are two such problems in one array, as each voxel is on one
# side: seen from one label, voxels of the other count as 0.
#
# The best site s(p) never goes back as p goes on (all parabolas are alike), so the rows are done
# coarse to fine: the best sites of two done rows bound the search in the row between them. LANES
# neighbouring columns go together with common bounds, the inner loops being plain SIMD; of the last
# rows, TRACKED - 1 out of TRACKED, only the least value is wanted and not its site. About log2(n) +
# spread sites are looked at for each voxel instead of n. (Monotone matrix search as in
# Aggarwal et al. 1987; the separable passes as in Felzenszwalb and Huttenlocher 2012.)


def _distance(
    mask: NDArray[np.uint8], spacing_mm: Sequence[float], *, faces: bool, both: bool
) -> NDArray[np.float32]:
    """To the nearest voxel of the other label, box or centre; 0 in the mask unless ``both``."""
    hz, hy, hx = (np.float32(h) for h in spacing_mm)
    out = np.empty(mask.shape, np.float32)
    _pass(mask, hy, hx, 1, faces, both, out, _ranges())
    _pass(mask, hz, hx, 0, faces, both, out, _ranges())
    return out


@njit(cache=True, nogil=True)
def _along_row(mask: Any, h: Any, faces: bool, steps: Any, out: Any) -> None:
    """Squared distance within one row to the nearest voxel of the other label."""
    n = mask.size
    changes = 0
    for x in range(n - 1):
        changes += 1 if mask[x] != mask[x + 1] else 0
    if changes == 0:
        out[:] = _INF
        return
    count = np.int32(_NEVER)  # voxels to the last one of the other label; whole numbers are faster
    for x in range(n):
        if x > 0 and mask[x] != mask[x - 1]:
            count = np.int32(0)
        count += np.int32(1)
        steps[x] = count
    count = np.int32(_NEVER)
    for i in range(n):
        x = n - 1 - i
        if i > 0 and mask[x] != mask[x + 1]:
            count = np.int32(0)
        count += np.int32(1)
        steps[x] = min(steps[x], count)
    shift = np.float32(0.5) if faces else np.float32(0.0)
    for x in range(n):
        d = (np.float32(steps[x]) - shift) * h
        out[x] = d * d


@njit(cache=True, nogil=True)
def _search(
    values: Any, labels: Any, label: int, faces: bool, low: int, high: int, h: Any,
    sites: Any, best: Any, where: Any, lows: Any, highs: Any, result: Any,
) -> None:  # fmt: skip
    """The least of site + cost for the voxels of one label in rows low..high of a tile."""
    n = values.shape[0]
    zero = np.float32(0.0)
    if faces:
        first, last, shift = max(low - 1, 0), min(high, n - 2), np.float32(0.5)
        for s in range(first, last + 1):
            site, v0, v1, m0, m1 = sites[s], values[s], values[s + 1], labels[s], labels[s + 1]
            for x in range(LANES):
                a = v0[x] if m0[x] == label else zero
                b = v1[x] if m1[x] == label else zero
                site[x] = min(a, b)
    else:
        first, last, shift = max(low - 1, 0), min(high + 1, n - 1), zero
        for s in range(first, last + 1):
            site, v0, m0 = sites[s], values[s], labels[s]
            for x in range(LANES):
                site[x] = v0[x] if m0[x] == label else zero
    count = high - low + 1
    lows[0] = first
    stride = TRACKED
    while stride <= count:
        stride *= 2
    while stride >= TRACKED:
        for r in range(stride, count + 1, 2 * stride):
            row = low + r - 1
            start = lows[r - stride]
            stop = highs[r + stride] if r + stride <= count else last
            lows[r], highs[r] = _track(sites, row, start, stop, shift, h, best, where)
            _keep(best, values[row], labels[row], label, result[row])
        stride //= 2
    for r in range(1, count + 1):
        below = r - r % TRACKED
        if r > below:
            row = low + r - 1
            stop = highs[below + TRACKED] if below + TRACKED <= count else last
            _least(sites, row, lows[below], stop, shift, h, best)
            _keep(best, values[row], labels[row], label, result[row])


@njit(cache=True, nogil=True)
def _track(
    sites: Any, row: int, start: int, stop: int, shift: Any, h: Any, best: Any, where: Any
) -> tuple[int, int]:
    """The least of site + cost in one row, and the first and last best site of all columns."""
    best[:] = _INF
    where[:] = start
    for s in range(start, stop + 1):
        d = (np.float32(row - s) - shift) * h
        cost = d * d
        site = sites[s]
        for x in range(LANES):
            v = site[x] + cost
            better = v < best[x]
            best[x] = v if better else best[x]
            where[x] = np.int32(s) if better else where[x]
    least, most = np.int32(_NEVER), np.int32(-1)
    for x in range(LANES):  # columns without any site have no say
        reached = best[x] < _INF
        least = min(least, where[x] if reached else np.int32(_NEVER))
        most = max(most, where[x] if reached else np.int32(-1))
    if most < 0:
        return start, stop
    return int(least), int(most)


@njit(cache=True, nogil=True)
def _least(sites: Any, row: int, start: int, stop: int, shift: Any, h: Any, best: Any) -> None:
    """The least of site + cost in one row, four sites at a time."""
    best[:] = _INF
    s = start
    while s + 3 <= stop:
        d = (np.float32(row - s) - shift) * h
        d1, d2, d3 = d - h, d - h - h, d - h - h - h
        c0, c1, c2, c3 = d * d, d1 * d1, d2 * d2, d3 * d3
        s0, s1, s2, s3 = sites[s], sites[s + 1], sites[s + 2], sites[s + 3]
        for x in range(LANES):
            a = min(s0[x] + c0, s1[x] + c1)
            b = min(s2[x] + c2, s3[x] + c3)
            best[x] = min(best[x], min(a, b))
        s += 4
    while s <= stop:
        d = (np.float32(row - s) - shift) * h
        cost = d * d
        site = sites[s]
        for x in range(LANES):
            best[x] = min(best[x], site[x] + cost)
        s += 1


@njit(cache=True, nogil=True)
def _keep(best: Any, values: Any, labels: Any, label: int, result: Any) -> None:
    for x in range(LANES):
        v = min(values[x], best[x])
        result[x] = v if labels[x] == label else result[x]


@njit(cache=True, nogil=True)
def _solve(
    values: Any, labels: Any, faces: bool, both: bool, h: Any,
    sites: Any, best: Any, where: Any, lows: Any, highs: Any, result: Any,
) -> None:  # fmt: skip
    """One pass through a tile of n rows by LANES columns; label 1 is left at 0 unless ``both``."""
    n = values.shape[0]
    result[:] = np.float32(0.0)
    for label in range(2 if both else 1):
        low, high = n, -1
        for i in range(n):
            mine = labels[i]
            found = 0
            for x in range(LANES):
                found += 1 if mine[x] == label else 0
            if found > 0:
                low, high = min(low, i), i
        if high >= low:
            _search(
                values, labels, label, faces, low, high, h,
                sites, best, where, lows, highs, result,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _pass_range(
    mask: Any, h: Any, hx: Any, axis: int, faces: bool, both: bool, out: Any, first: int, last: int
) -> None:
    """One pass along rows (axis 1) of some slices, or along slices (axis 0) of some rows.

    The pass along rows begins with that along columns; the one along slices ends with the root.
    """
    n, columns = mask.shape[axis], mask.shape[2]
    values, result = np.empty((n, LANES), np.float32), np.empty((n, LANES), np.float32)
    sites, labels = np.empty((n, LANES), np.float32), np.zeros((n, LANES), np.uint8)
    best, where = np.empty(LANES, np.float32), np.empty(LANES, np.int32)
    lows, highs = np.zeros(n + 2, np.int64), np.zeros(n + 2, np.int64)
    steps = np.empty(columns, np.int32)
    for fixed in range(first, last):
        if axis == 1:
            for y in range(n):
                _along_row(mask[fixed, y], hx, faces, steps, out[fixed, y])
        for x0 in range(0, columns, LANES):
            width = min(LANES, columns - x0)
            values[:, width:] = _INF
            for i in range(n):
                z, y = (fixed, i) if axis == 1 else (i, fixed)
                values[i, :width] = out[z, y, x0 : x0 + width]
                labels[i, :width] = mask[z, y, x0 : x0 + width]
            _solve(values, labels, faces, both, h, sites, best, where, lows, highs, result)
            for i in range(n):
                z, y = (fixed, i) if axis == 1 else (i, fixed)
                goal, found = out[z, y, x0 : x0 + width], result[i]
                for x in range(width):
                    goal[x] = found[x] if axis == 1 else np.sqrt(found[x])


@njit(cache=True, parallel=True)
def _pass(
    mask: Any, h: Any, hx: Any, axis: int, faces: bool, both: bool, out: Any, ranges: int
) -> None:
    n = mask.shape[1 - axis]
    for k in prange(ranges):
        _pass_range(mask, h, hx, axis, faces, both, out, n * k // ranges, n * (k + 1) // ranges)


@njit(cache=True, nogil=True)
def _sign_row(mask: Any, distance: Any, half: Any, boxes: Any, uneven: bool) -> None:
    for x in range(mask.size):
        d = distance[x] - half
        if uneven:
            d = max(d, boxes[x])
        distance[x] = -d if mask[x] else d


@njit(cache=True, parallel=True)
def _sign(mask: Any, distance: Any, half: Any, boxes: Any, uneven: bool, ranges: int) -> None:
    rows, columns = mask.shape[0] * mask.shape[1], mask.shape[2]
    flat = mask.reshape((rows, columns))
    to, box = distance.reshape((rows, columns)), boxes.reshape((rows, columns))
    for k in prange(ranges):
        for r in range(rows * k // ranges, rows * (k + 1) // ranges):
            _sign_row(flat[r], to[r], half, box[r], uneven)
