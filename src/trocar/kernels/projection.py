"""Line integrals through a volume, as an X-ray tube and a flat receptor would see them.

Joseph's method (1982): a ray is followed plane by plane along the axis it crosses fastest, with
bilinear values in the two other axes, each plane standing for the slab of one voxel around it. The
volume ends at the outer voxel *faces*: the part of the first and the last slab that the ray really
crosses is what counts, and between the outer centres and faces the edge value is held. So the
integral through a uniform block is exact for every ray, whatever its direction. (RTK's projectors
end the volume at the outer voxel *centres*: n voxels of 1 mm are n - 1 mm long to them. The two
agree where the outermost layer of voxels attenuates nothing.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import ArrayLike, NDArray

TILE = 16  # pixels; rays of one tile cross the same voxels, which then stay in the cache


def project(
    values: NDArray[Any],
    affine: ArrayLike,
    *,
    source_mm: ArrayLike,
    detector_mm: ArrayLike,
    row_step_mm: ArrayLike,
    column_step_mm: ArrayLike,
    shape: tuple[int, int],
    slope: float = 1.0,
    intercept: float = 0.0,
) -> NDArray[np.float32]:
    """What is the integral of max(0, intercept + slope * value) along the ray to each pixel?

    ``values`` [slice, row, column] is read as it is (int16 and float32 without a copy). ``affine``
    (4x4) takes its index to world mm and may be any invertible matrix. Rays run from ``source_mm``
    to the pixel centres ``detector_mm + row * row_step_mm + column * column_step_mm``; nothing
    before the source or behind the receptor is seen, and there is nothing outside the voxels. Where
    values are so low that the attenuation would be negative, it is 0. Returns float32 [row, column]
    in (unit of the attenuation) x mm.
    """
    if not slope > 0:
        raise ValueError(f"slope is {slope}; expected more than 0")
    a = np.asarray(values)
    kind = np.int16 if a.dtype in (np.int16, np.dtype(">i2")) else np.float32
    a = np.ascontiguousarray(a, dtype=kind).view()
    a.setflags(write=False)
    matrix = np.array(affine, dtype=np.float64)
    inverse = np.linalg.inv(matrix)
    points = np.stack([np.asarray(source_mm), np.asarray(detector_mm)]).astype(np.float64)
    source, corner = points @ inverse[:3, :3].T + inverse[:3, 3]
    steps = np.stack([np.asarray(row_step_mm), np.asarray(column_step_mm)]).astype(np.float64)
    row_step, column_step = steps @ inverse[:3, :3].T
    out = np.empty((int(shape[0]), int(shape[1])), np.float32)
    # In units of the values: attenuation = slope * (max(value, floor) - floor).
    floor = np.float32(-intercept / slope)
    _project(a, matrix[:3, :3].copy(), source, corner, row_step, column_step, floor,
             float(slope), out, int(get_num_threads()))  # fmt: skip
    return out


def warm() -> None:
    """Compile the projector for the dtypes in use, or load it from the cache."""
    for dtype in (np.int16, np.float32):
        project(
            np.zeros((2, 2, 2), dtype), np.eye(4), source_mm=(-9, 0, 0), detector_mm=(9, 0, 0),
            row_step_mm=(0, 1, 0), column_step_mm=(0, 0, 1), shape=(2, 2),
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _clip(start: float, step: float, size: int, low: float, high: float) -> tuple[float, float]:
    """The part of [low, high] in which start + t * step lies between the outer faces."""
    a, b = -0.5, size - 0.5
    if abs(step) < 1e-12:  # parallel to the faces: all or nothing
        if start < a or start > b:
            return 1.0, 0.0
        return low, high
    t0, t1 = (a - start) / step, (b - start) / step
    return max(low, min(t0, t1)), min(high, max(t0, t1))


@njit(cache=True, nogil=True)
def _held(
    flat: Any, base: Any, u: float, v: float, nu: int, nv: int, su: int, sv: int, floor: Any
) -> Any:
    """Bilinear value in one plane, the edge held beyond the outer centres."""
    u, v = min(max(u, 0.0), nu - 1.0), min(max(v, 0.0), nv - 1.0)
    iu, iv = int(u), int(v)
    fu, fv = np.float32(u - iu), np.float32(v - iv)
    du = su if iu + 1 < nu else 0
    dv = sv if iv + 1 < nv else 0
    o = base + iu * su + iv * sv
    a00 = np.float32(flat[np.uint64(o)])
    a01 = np.float32(flat[np.uint64(o + dv)])
    a10 = np.float32(flat[np.uint64(o + du)])
    a11 = np.float32(flat[np.uint64(o + du + dv)])
    top = a00 + fv * (a01 - a00)
    bottom = a10 + fv * (a11 - a10)
    return max(top + fu * (bottom - top), floor) - floor


@njit(cache=True, nogil=True)
def _free(start: float, step: float, size: int, first: int, last: int) -> tuple[int, int]:
    """Planes first..last at which start + plane * step needs no care: 0 <= it < size - 1."""
    if size < 2:
        return 1, 0
    if abs(step) < 1e-12:
        if start < 0.0 or start >= size - 1.0:
            return 1, 0
        return first, last
    t0, t1 = -start / step, (size - 1.0 - start) / step
    # A whole plane is given away at each end, so that rounding cannot step outside.
    return max(first, int(np.floor(min(t0, t1))) + 2), min(last, int(np.ceil(max(t0, t1))) - 2)


# Sums may be reordered, so that several planes are done at once; no other fast math is let in.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _along(
    flat: Any, sm: int, u0: float, du: float, nu: int, su: int, v0: float, dv: float, nv: int,
    sv: int, enter: float, leave: float, nm: int, floor: Any,
) -> float:  # fmt: skip
    """Sum over the planes of the main axis from one position on it to another, in plane steps."""
    first = min(max(int(np.floor(enter + 0.5)), 0), nm - 1)
    last = min(max(int(np.floor(leave + 0.5)), 0), nm - 1)
    a, b = _free(u0, du, nu, first + 1, last - 1)
    c, d = _free(v0, dv, nv, first + 1, last - 1)
    a, b = max(a, c), min(b, d)
    if a > b:
        a, b = last + 1, last
    total = 0.0
    for k in range(first, min(a, last + 1)):
        weight = min(leave, k + 0.5) - max(enter, k - 0.5)
        total += weight * _held(flat, k * sm, u0 + k * du, v0 + k * dv, nu, nv, su, sv, floor)
    for k in range(a, b + 1):
        u, v = u0 + k * du, v0 + k * dv
        iu, iv = int(u), int(v)
        fu, fv = np.float32(u - iu), np.float32(v - iv)
        o = k * sm + iu * su + iv * sv
        a00 = np.float32(flat[np.uint64(o)])
        a01 = np.float32(flat[np.uint64(o + sv)])
        a10 = np.float32(flat[np.uint64(o + su)])
        a11 = np.float32(flat[np.uint64(o + su + sv)])
        top = a00 + fv * (a01 - a00)
        bottom = a10 + fv * (a11 - a10)
        total += max(top + fu * (bottom - top), floor) - floor
    for k in range(b + 1, last + 1):
        weight = min(leave, k + 0.5) - max(enter, k - 0.5)
        total += weight * _held(flat, k * sm, u0 + k * du, v0 + k * dv, nu, nv, su, sv, floor)
    return total


@njit(cache=True, nogil=True)
def _ray(
    flat: Any, shape: Any, matrix: Any, s: Any, dz: float, dy: float, dx: float, floor: Any
) -> Any:
    """Integral over one ray from ``s`` to ``s + d`` (indices), in value x mm."""
    nz, ny, nx = shape
    low, high = _clip(s[0], dz, nz, 0.0, 1.0)
    low, high = _clip(s[1], dy, ny, low, high)
    low, high = _clip(s[2], dx, nx, low, high)
    if not high > low:
        return 0.0
    along_x = matrix[0, 0] * dz + matrix[0, 1] * dy + matrix[0, 2] * dx
    along_y = matrix[1, 0] * dz + matrix[1, 1] * dy + matrix[1, 2] * dx
    along_z = matrix[2, 0] * dz + matrix[2, 1] * dy + matrix[2, 2] * dx
    length = np.sqrt(along_x * along_x + along_y * along_y + along_z * along_z)
    sy, sz = nx, nx * ny
    az, ay, ax = abs(dz), abs(dy), abs(dx)
    if az >= ay and az >= ax:
        p0, dm, nm, sm = s[0], dz, nz, sz
        q0, du, nu, su, r0, dv, nv, sv = s[1], dy, ny, sy, s[2], dx, nx, 1
    elif ay >= ax:
        p0, dm, nm, sm = s[1], dy, ny, sy
        q0, du, nu, su, r0, dv, nv, sv = s[0], dz, nz, sz, s[2], dx, nx, 1
    else:
        p0, dm, nm, sm = s[2], dx, nx, 1
        q0, du, nu, su, r0, dv, nv, sv = s[0], dz, nz, sz, s[1], dy, ny, sy
    du /= dm  # per plane of the main axis
    dv /= dm
    enter, leave = p0 + low * dm, p0 + high * dm
    if leave < enter:
        enter, leave = leave, enter
    total = _along(
        flat, sm, q0 - p0 * du, du, nu, su, r0 - p0 * dv, dv, nv, sv, enter, leave, nm, floor
    )
    return total * length / abs(dm)


@njit(cache=True, nogil=True)
def _tile(
    a: Any, matrix: Any, source: Any, corner: Any, row_step: Any, column_step: Any, floor: Any,
    slope: float, out: Any, r0: int, c0: int,
) -> None:  # fmt: skip
    flat = a.reshape(a.size)
    for r in range(r0, min(r0 + TILE, out.shape[0])):
        for c in range(c0, min(c0 + TILE, out.shape[1])):
            dz = corner[0] + r * row_step[0] + c * column_step[0] - source[0]
            dy = corner[1] + r * row_step[1] + c * column_step[1] - source[1]
            dx = corner[2] + r * row_step[2] + c * column_step[2] - source[2]
            out[r, c] = slope * _ray(flat, a.shape, matrix, source, dz, dy, dx, floor)


@njit(cache=True, parallel=True)
def _project(
    a: Any, matrix: Any, source: Any, corner: Any, row_step: Any, column_step: Any, floor: Any,
    slope: float, out: Any, threads: int,
) -> None:  # fmt: skip
    down, across = -(-out.shape[0] // TILE), -(-out.shape[1] // TILE)
    # Threads take tiles in turn and not in blocks: the middle of a patient is slower than its rim.
    for t in prange(threads):
        for k in range(t, down * across, threads):
            _tile(
                a, matrix, source, corner, row_step, column_step, floor, slope, out,
                TILE * (k // across), TILE * (k % across),
            )  # fmt: skip
