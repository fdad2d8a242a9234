"""What tissue does as it warms and cools: its phase, what its faces conduct, how its blood flows.

Arrays of temperatures and conductances are padded by one voxel all round.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange

# --- phase ---------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _temperature(h: float, a: float, b: float, d: float, e: float, c: Any) -> float:
    """The temperature of an enthalpy on five straight pieces."""
    out = b + h / c[1]  # freezing
    if h < c[1] * (a - b):
        out = a + (h - c[1] * (a - b)) / c[0]  # frozen
    elif h > 0.0:
        out = b + h / c[2]  # thawed
        more = h - c[2] * (d - b)
        if more > 0.0:
            out = d + more / c[3]  # boiling
        if more > c[3] * (e - d):
            out = e + (more - c[3] * (e - d)) / c[2]
    return float(out)


@njit(cache=True, nogil=True, error_model="numpy")
def _rise_rows(
    y: Any, d: Any, t0: Any, curve: Any, knots: Any, out: Any, first: int, last: int
) -> None:
    """The temperature of y + d less t0."""
    ny, n = y.shape[1] - 2, y.shape[2] - 2
    a, b, c, e = knots[0], knots[1], knots[2], knots[3]
    for r in range(first, last):
        i, j = r // ny, r % ny
        y_row, d_row = y[i + 1, j + 1, 1 : n + 1], d[i + 1, j + 1, 1 : n + 1]
        t_row, o = t0[i + 1, j + 1, 1 : n + 1], out[i + 1, j + 1, 1 : n + 1]
        for x in range(n):
            o[x] = _temperature(y_row[x] + d_row[x], a, b, c, e, curve[i, j, x]) - t_row[x]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _rise_parallel(y: Any, d: Any, t0: Any, curve: Any, knots: Any, out: Any, ranges: int) -> None:
    rows = (y.shape[0] - 2) * (y.shape[1] - 2)
    for k in prange(ranges):
        _rise_rows(y, d, t0, curve, knots, out, rows * k // ranges, rows * (k + 1) // ranges)


def rises(y: Any, *rest: Any) -> None:
    """By how much temperatures rise: as ``_rise_rows``, then into how many ranges it is cut."""
    *arrays, ranges = rest
    if ranges == 1:
        _rise_rows(y, *arrays, 0, (y.shape[0] - 2) * (y.shape[1] - 2))
    else:
        _rise_parallel(y, *arrays, ranges)


@njit(cache=True, nogil=True, error_model="numpy")
def _piece(u: Any, knots: Any, c: Any) -> Any:
    """The capacity of the piece of the enthalpy's curve on which a temperature lies."""
    if u <= knots[0]:
        return c[0]
    if u <= knots[1]:
        return c[1]
    return c[3] if knots[2] < u <= knots[3] else c[2]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def flattest(t0: Any, t1: Any, curve: Any, knots: Any, out: Any, ranges: int) -> None:
    """Degrees for each unit of enthalpy, the fewer of two temperatures'."""
    nz, ny, nx = curve.shape[:3]
    for part in prange(ranges):
        for r in range(nz * ny * part // ranges, nz * ny * (part + 1) // ranges):
            z, y = r // ny, r % ny
            for x in range(nx):
                c = curve[z, y, x]
                most = max(
                    _piece(t0[z + 1, y + 1, x + 1], knots, c),
                    _piece(t1[z + 1, y + 1, x + 1], knots, c),
                )
                out[z + 1, y + 1, x + 1] = 1.0 / most


# --- conduction and blood ------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _face(t0: Any, t1: Any, k0: Any, k1: Any, i0: Any, i1: Any, a: float, b: float) -> Any:
    """What a face conducts, as a conductivity: the harmonic mean of both sides'.

    A voxel in which the ice's edge lies looks to its frozen neighbour like ice and to its thawed
    one like thawed tissue: averaged over the time the edge takes to cross it, that is the
    resistance on each side. Mixing both would hold the edge back by a third of a voxel.
    """
    f0 = min(max((b - t0) / (b - a), 0.0), 1.0)
    f1 = min(max((b - t1) / (b - a), 0.0), 1.0)
    edge0, edge1 = 0.0 < f0 < 1.0, 0.0 < f1 < 1.0
    near = k0 + (f1 if edge0 and not edge1 else f0) * (i0 - k0)
    far = k1 + (f0 if edge1 and not edge0 else f1) * (i1 - k1)
    return 2.0 * near * far / (near + far)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def conducts(
    t: Any, k: Any, ice: Any, a: float, b: float, over: Any, gz: Any, gy: Any, gx: Any, ranges: int
) -> None:
    """Write what every face between two voxels conducts; outer faces are insulated."""
    nz, ny, nx = k.shape
    for part in prange(ranges):
        for r in range(nz * ny * part // ranges, nz * ny * (part + 1) // ranges):
            z, y = r // ny, r % ny
            for x in range(nx):
                t0, k0, i0 = t[z + 1, y + 1, x + 1], k[z, y, x], ice[z, y, x]
                if z == 0:
                    gz[0, y + 1, x + 1] = 0.0
                if y == 0:
                    gy[z + 1, 0, x + 1] = 0.0
                if x == 0:
                    gx[z + 1, y + 1, 0] = 0.0
                gz[z + 1, y + 1, x + 1] = (
                    0.0
                    if z + 1 == nz
                    else over[0]
                    * _face(
                        t0, t[z + 2, y + 1, x + 1], k0, k[z + 1, y, x], i0, ice[z + 1, y, x], a, b
                    )
                )
                gy[z + 1, y + 1, x + 1] = (
                    0.0
                    if y + 1 == ny
                    else over[1]
                    * _face(
                        t0, t[z + 1, y + 2, x + 1], k0, k[z, y + 1, x], i0, ice[z, y + 1, x], a, b
                    )
                )
                gx[z + 1, y + 1, x + 1] = (
                    0.0
                    if x + 1 == nx
                    else over[2]
                    * _face(
                        t0, t[z + 1, y + 1, x + 2], k0, k[z, y, x + 1], i0, ice[z, y, x + 1], a, b
                    )
                )


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def fastest(
    gz: Any, gy: Any, gx: Any, w: Any, capacity: Any, fixed: Any, out: Any, ranges: int
) -> None:
    """The fastest rate of each row's voxels, 1/s."""
    nz, ny, nx = w.shape
    for part in prange(ranges):
        for r in range(nz * ny * part // ranges, nz * ny * (part + 1) // ranges):
            z, y = r // ny, r % ny
            worst = 0.0
            for x in range(nx):
                if fixed[z, y, x]:
                    continue
                total = (
                    (gz[z, y + 1, x + 1] + gz[z + 1, y + 1, x + 1])
                    + (gy[z + 1, y, x + 1] + gy[z + 1, y + 1, x + 1])
                    + (gx[z + 1, y + 1, x] + gx[z + 1, y + 1, x + 1])
                    + w[z, y, x]
                )
                worst = max(worst, total / capacity[z, y, x])
            out[z, y] = worst


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def perfuse(t: Any, cold: float, shut: Any, alive: Any, out: Any, ranges: int) -> None:
    """Blood flows where tissue is neither dead nor frozen."""
    nz, ny, nx = alive.shape
    for part in prange(ranges):
        for r in range(nz * ny * part // ranges, nz * ny * (part + 1) // ranges):
            z, y = r // ny, r % ny
            for x in range(nx):
                still = shut[z, y, x] or t[z + 1, y + 1, x + 1] < cold
                out[z + 1, y + 1, x + 1] = 0.0 if still else alive[z, y, x]
