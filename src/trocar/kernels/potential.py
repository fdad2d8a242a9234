"""Electric potential in tissue: div(sigma grad u) = 0 around electrodes, and the heat it makes.

    current through a face between two voxels = conductance of the face x difference of potential

on a regular [slice, row, column] grid with one conductance a face (harmonic mean of sigma), so
that what leaves one voxel enters the next. Electrodes are voxels held at a potential; where the
electrode's surface is given, the faces around it know how far it really is. Solved by conjugate
gradients in float64, preconditioned by one float32 multigrid cycle: Chebyshev smoothing, plain
injection, and coarse faces that are half the sum of the four they replace, which keeps the number
of iterations bounded where conductivity jumps by orders of magnitude.

The same equation describes steady heat and flow in porous bone. SI units. No number of a tissue
lives here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import ArrayLike, NDArray

from trocar.errors import InputError
from trocar.kernels.rod import Laid

Float = NDArray[np.floating[Any]]
Bool = NDArray[np.bool_]

_SERIAL = 30_000  # voxels; fewer are not worth waking the threads
_COARSEST = 400  # voxels of the grid that is solved outright
_LOWEST, _HIGHEST = 0.24, 2.0  # of the smoother: eigenvalues of D^-1 A that it damps
_CLOSEST = 0.1  # of a voxel; a surface nearer to a voxel's centre than this counts as this far


@dataclass(frozen=True, eq=False, kw_only=True)
class Field:
    """What a potential does: arrays [slice, row, column] and sums.

    ``current_a`` leaves each electrode, in the order given; ``power_w`` is what all of them put
    in, ``far_w`` the part of it that turns to heat beyond the grid. ``joule_w_m3`` is 0 inside
    electrodes.
    """

    volts: NDArray[np.float64]
    joule_w_m3: NDArray[np.float64]
    current_a: NDArray[np.float64]
    power_w: float
    far_w: float
    iterations: int
    residual: float


class Conductor:
    """Tissue with electrodes in it, ready to be solved for their potentials.

    ``conductivity_s_m`` is an array of ``shape`` or a number; 0 insulates. ``electrodes`` are masks
    of voxels that touch no other's. ``outside_m`` is each voxel centre's distance from the nearest
    electrode's surface, negative inside (m); without it an electrode's surface runs through the
    centres of its outermost voxels. Thin rods are laid on the grid by ``rod.lay``; ``laid`` is
    what it gave, its held voxels the electrodes. ``far_from_m``, a point in the grid's own m
    (slice, row, column; the first voxel's centre is 0), lets the tissue go on beyond the grid with
    the potential
    falling as 1/r from there: a ground pad far away. Without it the outer faces insulate.

    Raises InputError for shapes that do not agree and conductivities that cannot be.
    """

    def __init__(
        self,
        conductivity_s_m: ArrayLike,
        *,
        shape: tuple[int, int, int],
        spacing_m: tuple[float, float, float],
        electrodes: Sequence[Bool],
        outside_m: Float | None = None,
        laid: Laid | None = None,
        far_from_m: Sequence[float] | None = None,
    ) -> None:
        if not electrodes:
            raise InputError("no electrode was given; give at least one mask of voxels")
        if not all(h > 0 for h in spacing_m):
            raise InputError(f"a spacing of {spacing_m} m; expected numbers above 0")
        for i, one in enumerate(electrodes):
            if one.shape != shape:
                raise InputError(f"electrode {i + 1} has shape {one.shape}; expected {shape}")
            if not one.any():
                raise InputError(f"electrode {i + 1} holds no voxel; it lies outside the grid")
        if outside_m is not None and outside_m.shape != shape:
            raise InputError(f"the distances have shape {outside_m.shape}; expected {shape}")
        self.shape, self.spacing_m = shape, spacing_m
        self._electrodes = [np.ascontiguousarray(e, dtype=np.bool_) for e in electrodes]
        self._fixed = np.logical_or.reduce(self._electrodes)
        if int(sum(np.count_nonzero(e) for e in electrodes)) != int(self._fixed.sum()):
            raise InputError("two electrodes hold the same voxel: metal overlaps; move one")
        if laid is not None and laid.held[0].shape != shape:
            raise InputError(f"rods were laid on shape {laid.held[0].shape}; expected {shape}")
        if laid is not None and outside_m is not None:
            raise InputError("give outside_m or laid, not both: each says where a surface is")
        self._laid = laid
        self._outside = np.ones((0, 0, 0)) if outside_m is None else np.asarray(outside_m, float)
        self._far = None if far_from_m is None else tuple(float(v) for v in far_from_m)
        self.conduct(conductivity_s_m)

    def conduct(self, conductivity_s_m: ArrayLike) -> None:
        """Give the tissue another conductivity (it follows temperature)."""
        given = np.asarray(conductivity_s_m, np.float32)
        try:
            sigma = np.ascontiguousarray(np.broadcast_to(given, self.shape))
        except ValueError as error:
            raise InputError(
                f"the conductivity has shape {given.shape}; expected {self.shape}"
            ) from error
        if not np.all(np.isfinite(sigma)) or sigma.min() < 0:
            raise InputError("the conductivity must be finite and not below 0 in every voxel")
        self._sigma = sigma
        fine = _Level.empty(self.shape)
        areas = np.array([np.prod(self.spacing_m) / h**2 for h in self.spacing_m])
        _faces(sigma, self._fixed, self._outside, areas, fine.gz, fine.gy, fine.gx, self.shape[0])
        if self._laid is not None:
            fine.gz[1:-1] *= self._laid.factor[0]
            fine.gy[:, 1:-1] *= self._laid.factor[1]
            fine.gx[:, :, 1:-1] *= self._laid.factor[2]
        if self._far is not None:
            self._open(fine.d, sigma)
        self._beyond = fine.d.copy()  # to the far ground alone
        self._levels = _levels(fine, self._fixed)
        if not any(level.d.any() for level in self._levels[:1]):
            raise InputError(
                "no electrode touches conducting tissue; check where it lies and what is there"
            )

    def solve(
        self,
        volts: Sequence[float],
        *,
        start: Float | None = None,
        tolerance: float = 1e-6,
        most: int = 200,
    ) -> Field:
        """The potential with each electrode held at so many volts (the far ground at 0).

        ``start`` is a guess, such as an earlier solution; ``tolerance`` ends the iteration when
        the residual has fallen to that share of what the electrodes drive. Raises InputError when
        it does not get there in ``most`` iterations.
        """
        if len(volts) != len(self._electrodes):
            raise InputError(f"{len(volts)} voltages for {len(self._electrodes)} electrodes")
        u = np.zeros(tuple(n + 2 for n in self.shape))
        held = np.zeros_like(u)
        for one, v in zip(self._electrodes, volts, strict=True):
            if not np.isfinite(v):
                raise InputError(f"an electrode at {v} V; expected a finite number")
            _inner(held)[one] = v
        fine, ranges = self._levels[0], _ranges(self.shape)
        b = np.zeros(self.shape)
        _drive(held, fine.hz, fine.hy, fine.hx, b, ranges)
        if start is not None:
            _inner(u)[...] = np.where(self._fixed, 0.0, start)
        iterations, residual = self._iterate(u, b, tolerance, most)
        _inner(u)[self._fixed] = _inner(held)[self._fixed]
        return self._read(u, iterations, residual)

    # --- iteration -----------------------------------------------------------------------------

    def _iterate(self, u: Float, b: Float, tolerance: float, most: int) -> tuple[int, float]:
        fine, ranges = self._levels[0], _ranges(self.shape)
        parts = np.zeros(self.shape[0] * self.shape[1])
        scale = float(np.sqrt(np.vdot(b, b)))
        if scale == 0.0:
            u[...] = 0.0
            return 0, 0.0
        q, p = np.zeros(self.shape), np.zeros_like(u)
        _apply(u, fine.gz, fine.gy, fine.gx, fine.d, q, parts, ranges)
        r = (b - q) * fine.free
        rest = float(np.sqrt(np.vdot(r, r)))
        rho_old = 0.0
        for done in range(most):
            if rest <= tolerance * scale:
                return done, rest / scale
            fine.b[...] = r
            z = self._cycle(0)
            rho = _dot(_inner(z), r, parts, ranges)
            _onward(p, z, 0.0 if done == 0 else rho / rho_old, ranges)
            rho_old = rho
            _apply(p, fine.gz, fine.gy, fine.gx, fine.d, q, parts, ranges)
            along = rho / float(parts.sum())
            _advance(u, r, p, q, along, parts, ranges)
            rest = float(np.sqrt(parts.sum()))
        if rest <= tolerance * scale:
            return most, rest / scale
        raise InputError(
            f"the potential has not settled after {most} iterations (residual {rest / scale:.1e}); "
            "check the conductivities"
        )

    def _cycle(self, i: int) -> Float:
        """One V-cycle on level i for its right-hand side; the result is that level's array."""
        level = self._levels[i]
        if level.inverse is not None:
            _inner(level.x)[...] = (level.inverse @ level.b.ravel()).reshape(level.shape)
            return level.x
        ranges, below = _ranges(level.shape), self._levels[i + 1]
        _smooth_from_zero(level, ranges)
        _rest(level.x, level.b, level.gz, level.gy, level.gx, level.d, level.free, below.b, ranges)
        coarse = self._cycle(i + 1)
        _correct(level.x, coarse, level.free, ranges)
        _smooth(level, ranges)
        return level.x

    # --- set-up and reading --------------------------------------------------------------------

    def _open(self, d: Float, sigma: NDArray[np.float32]) -> None:
        """Tissue beyond the outer faces, seen from inside as a conductance to ground."""
        assert self._far is not None
        volume = float(np.prod(self.spacing_m))
        for axis, h in enumerate(self.spacing_m):
            n, area = self.shape[axis], volume / h
            others = [a for a in range(3) if a != axis]
            squares = [
                (np.arange(self.shape[a]) * self.spacing_m[a] - self._far[a]) ** 2 for a in others
            ]
            across = squares[0][:, None] + squares[1][None, :]
            for end, at in ((0, -0.5 * h), (-1, (n - 0.5) * h)):
                away = abs(at - self._far[axis])
                distance_sq = across + away**2
                edge = [slice(None)] * 3
                edge[axis] = end  # type: ignore[call-overload]
                s = sigma[tuple(edge)].astype(np.float64)
                beyond = s * area * away / distance_sq  # sigma A cos / r
                half = 2.0 * s * area / h
                both = beyond + half
                d[tuple(edge)] += np.where(both > 0, beyond * half / np.where(both > 0, both, 1), 0)
        d[self._fixed] = 0.0

    def _read(self, u: Float, iterations: int, residual: float) -> Field:
        fine, ranges = self._levels[0], _ranges(self.shape)
        joule, out = np.zeros(self.shape), np.zeros(self.shape)
        _joule(
            u, self._sigma, self._fixed, fine.gz, fine.gy, fine.gx, fine.hz, fine.hy, fine.hx,
            joule, out, ranges,
        )  # fmt: skip
        joule /= float(np.prod(self.spacing_m))
        volts = np.array(_inner(u), np.float64)
        current = np.array([out[e].sum() for e in self._electrodes])
        held = np.array([volts[e].flat[0] for e in self._electrodes])
        # The part that leaves through the far ground; its potential there is 0.
        far = float((self._beyond * volts**2 * ~self._fixed).sum())
        return Field(
            volts=volts,
            joule_w_m3=joule,
            current_a=current,
            power_w=float(current @ held),
            far_w=far,
            iterations=iterations,
            residual=residual,
        )


@dataclass(eq=False)
class _Level:
    """One grid of the multigrid: conductances between free voxels and what lies on the diagonal.

    ``d`` is what a voxel conducts to things held (electrodes, ground); ``hz``, ``hy``, ``hx`` (of
    the finest alone) are the faces between free and held voxels.
    """

    gz: NDArray[np.float32]
    gy: NDArray[np.float32]
    gx: NDArray[np.float32]
    d: NDArray[np.float32]
    hz: NDArray[np.float32]
    hy: NDArray[np.float32]
    hx: NDArray[np.float32]
    over: NDArray[np.float32]  # 1 / diagonal; 0 for voxels that are held or conduct nothing
    free: NDArray[np.float32]
    b: NDArray[np.float32]
    x: NDArray[np.float32]
    other: NDArray[np.float32]
    step: NDArray[np.float32]
    inverse: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.d.shape
        return z, y, x

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> _Level:
        z, y, x = shape
        padded, none = (z + 2, y + 2, x + 2), np.zeros((0, 0, 0), np.float32)

        def zeros(*n: int) -> NDArray[np.float32]:
            return np.zeros(n, np.float32)

        return cls(
            gz=zeros(z + 1, y, x), gy=zeros(z, y + 1, x), gx=zeros(z, y, x + 1),
            d=zeros(*shape), hz=none, hy=none, hx=none, over=zeros(*shape), free=zeros(*shape),
            b=zeros(*shape), x=zeros(*padded), other=zeros(*padded), step=zeros(*shape),
        )  # fmt: skip


def _levels(fine: _Level, fixed: Bool) -> list[_Level]:
    """The finest grid, its held voxels taken out, and every coarser one below it."""
    z, y, x = fine.shape
    fine.hz, fine.hy, fine.hx = (np.zeros_like(g) for g in (fine.gz, fine.gy, fine.gx))
    _split(fixed, fine.gz, fine.gy, fine.gx, fine.hz, fine.hy, fine.hx, fine.d)
    levels = [fine]
    while True:
        level = levels[-1]
        _diagonal(level.gz, level.gy, level.gx, level.d, level.over, level.free)
        if np.prod(level.shape) <= _COARSEST or max(level.shape) <= 2:
            break
        z, y, x = ((n + 1) // 2 for n in level.shape)
        coarse = _Level.empty((z, y, x))
        _coarsen(level.gz, level.gy, level.gx, level.d, coarse.gz, coarse.gy, coarse.gx, coarse.d)
        levels.append(coarse)
    levels[-1].inverse = _dense_inverse(levels[-1])
    return levels


def _dense_inverse(level: _Level) -> NDArray[np.float32]:
    """The inverse of the coarsest grid; voxels that conduct nothing stay 0."""
    number = np.arange(level.d.size).reshape(level.shape)
    a = np.diag(level.d.ravel().astype(np.float64))
    for axis, g in enumerate((level.gz, level.gy, level.gx)):
        n = level.shape[axis]
        near = np.take(number, range(n - 1), axis).ravel()
        far = np.take(number, range(1, n), axis).ravel()
        k = np.take(g, range(1, n), axis).ravel().astype(np.float64)
        a[near, near] += k
        a[far, far] += k
        a[near, far] -= k
        a[far, near] -= k
    live = np.flatnonzero(level.free.ravel())
    out = np.zeros_like(a)
    if live.size:
        part = a[np.ix_(live, live)]
        part += 1e-9 * np.diag(np.diag(part))  # an island that nothing holds may take any value
        out[np.ix_(live, live)] = np.linalg.inv(part)
    return out.astype(np.float32)


def _smooth_from_zero(level: _Level, ranges: int) -> None:
    """Two Chebyshev steps from 0."""
    (_, c0), (a1, c1) = _CHEBYSHEV
    _first(level.b, level.over, c0, level.step, level.other, ranges)
    _chebyshev(
        level.other, level.step, level.b, level.over, level.gz, level.gy, level.gx, level.d,
        np.array([a1, c1], np.float32), level.x, ranges,
    )  # fmt: skip


def _smooth(level: _Level, ranges: int) -> None:
    """Two Chebyshev steps from where ``x`` is."""
    (a0, c0), (a1, c1) = _CHEBYSHEV
    for (a, c), source, target in (
        ((a0, c0), level.x, level.other),
        ((a1, c1), level.other, level.x),
    ):
        _chebyshev(
            source, level.step, level.b, level.over, level.gz, level.gy, level.gx, level.d,
            np.array([a, c], np.float32), target, ranges,
        )  # fmt: skip


def _chebyshev_weights() -> tuple[tuple[float, float], tuple[float, float]]:
    """What the last step and the residual weigh in each of two steps."""
    middle, half = (_HIGHEST + _LOWEST) / 2, (_HIGHEST - _LOWEST) / 2
    rho0 = half / middle
    rho1 = 1.0 / (2.0 * middle / half - rho0)
    return (0.0, 1.0 / middle), (rho1 * rho0, 2.0 * rho1 / half)


_CHEBYSHEV = _chebyshev_weights()


def warm() -> None:
    """Compile everything, so that the first use is quick."""
    for n in (8, 36):  # few voxels run on one thread, many on all
        one = np.zeros((n, n, n), bool)
        one[n // 2, n // 2, n // 2] = True
        tissue = Conductor(
            1.0, shape=(n, n, n), spacing_m=(1.0, 1.0, 1.0), electrodes=[one],
            outside_m=np.where(one, -0.5, 0.5), far_from_m=(n / 2, n / 2, n / 2),
        )  # fmt: skip
        tissue.solve([1.0])


def _inner(a: Float) -> Float:
    return a[1:-1, 1:-1, 1:-1]


def _ranges(shape: tuple[int, ...]) -> int:
    """Into how many ranges of rows a pass is cut: one runs on this thread alone."""
    return 1 if int(np.prod(shape)) < _SERIAL else 4 * int(get_num_threads())


# --- compiled: set-up ----------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _conductance(s0: Any, s1: Any, held0: bool, held1: bool, o0: Any, o1: Any, area: Any) -> Any:
    """Of a face between two voxels whose centres lie one spacing apart.

    Between a free and a held voxel it counts from the free one's centre to the surface.
    """
    if held0 and held1:
        return 0.0
    if held0 or held1:
        out, inside = (o1, o0) if held0 else (o0, o1)
        part = 1.0
        if out > inside:
            part = min(1.0, max(_CLOSEST, out / (out - inside)))
        return (s1 if held0 else s0) * area / part
    both = s0 + s1
    return 2.0 * s0 * s1 / both * area if both > 0.0 else 0.0


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _faces(
    s: Any, fixed: Any, outside: Any, areas: Any, gz: Any, gy: Any, gx: Any, slices: int
) -> None:
    ny, nx = s.shape[1], s.shape[2]
    near = outside.size > 0
    for z in prange(slices):
        for y in range(ny):
            for x in range(nx):
                s0, f0 = s[z, y, x], fixed[z, y, x]
                o0 = outside[z, y, x] if near else 0.0
                if z + 1 < slices:
                    o1 = outside[z + 1, y, x] if near else 0.0
                    gz[z + 1, y, x] = _conductance(
                        s0, s[z + 1, y, x], f0, fixed[z + 1, y, x], o0, o1, areas[0]
                    )
                if y + 1 < ny:
                    o1 = outside[z, y + 1, x] if near else 0.0
                    gy[z, y + 1, x] = _conductance(
                        s0, s[z, y + 1, x], f0, fixed[z, y + 1, x], o0, o1, areas[1]
                    )
                if x + 1 < nx:
                    o1 = outside[z, y, x + 1] if near else 0.0
                    gx[z, y, x + 1] = _conductance(
                        s0, s[z, y, x + 1], f0, fixed[z, y, x + 1], o0, o1, areas[2]
                    )


@njit(cache=True, nogil=True, error_model="numpy")
def _split(fixed: Any, gz: Any, gy: Any, gx: Any, hz: Any, hy: Any, hx: Any, d: Any) -> None:
    """Move the faces of held voxels from g to h, and onto the free voxels' diagonals."""
    nz, ny, nx = fixed.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if not fixed[z, y, x]:
                    continue
                for side in range(2):
                    n = z - 1 + 2 * side
                    if 0 <= n < nz:
                        g = gz[z + side, y, x]
                        hz[z + side, y, x] = g
                        gz[z + side, y, x] = 0.0
                        d[n, y, x] += 0.0 if fixed[n, y, x] else g
                    n = y - 1 + 2 * side
                    if 0 <= n < ny:
                        g = gy[z, y + side, x]
                        hy[z, y + side, x] = g
                        gy[z, y + side, x] = 0.0
                        d[z, n, x] += 0.0 if fixed[z, n, x] else g
                    n = x - 1 + 2 * side
                    if 0 <= n < nx:
                        g = gx[z, y, x + side]
                        hx[z, y, x + side] = g
                        gx[z, y, x + side] = 0.0
                        d[z, y, n] += 0.0 if fixed[z, y, n] else g


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _diagonal(gz: Any, gy: Any, gx: Any, d: Any, over: Any, free: Any) -> None:
    nz, ny, nx = d.shape
    for z in prange(nz):
        for y in range(ny):
            for x in range(nx):
                a = gz[z, y, x] + gz[z + 1, y, x] + gy[z, y, x] + gy[z, y + 1, x]
                a += gx[z, y, x] + gx[z, y, x + 1] + d[z, y, x]
                over[z, y, x] = 1.0 / a if a > 0.0 else 0.0
                free[z, y, x] = 1.0 if a > 0.0 else 0.0


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _coarsen(gz: Any, gy: Any, gx: Any, d: Any, cz: Any, cy: Any, cx: Any, cd: Any) -> None:
    """Coarse faces are half the sum of the four they replace; ground is the sum of eight."""
    nz, ny, nx = d.shape
    mz, my, mx = cd.shape
    for k in prange(mz):
        for j in range(my):
            for i in range(mx):
                z, y, x = 2 * k, 2 * j, 2 * i
                ground = 0.0
                below, before, left = 0.0, 0.0, 0.0
                for a in range(2):
                    for b in range(2):
                        for c in range(2):
                            if z + a < nz and y + b < ny and x + c < nx:
                                ground += d[z + a, y + b, x + c]
                        if y + a < ny and x + b < nx:
                            below += gz[z, y + a, x + b]
                        if z + a < nz and x + b < nx:
                            before += gy[z + a, y, x + b]
                        if z + a < nz and y + b < ny:
                            left += gx[z + a, y + b, x]
                cd[k, j, i] = ground
                cz[k, j, i], cy[k, j, i], cx[k, j, i] = below / 2, before / 2, left / 2


# --- compiled: rows ------------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _row(u: Any, gz: Any, gy: Any, gx: Any, d: Any, z: int, y: int, out: Any) -> None:
    """out = A u for one row; every slice begins at 0, or the loop would not run in lanes."""
    n = out.size
    c = u[z + 1, y + 1, 1 : n + 1]
    left, right = u[z + 1, y + 1, 0:n], u[z + 1, y + 1, 2 : n + 2]
    front, back = u[z + 1, y, 1 : n + 1], u[z + 1, y + 2, 1 : n + 1]
    below, above = u[z, y + 1, 1 : n + 1], u[z + 2, y + 1, 1 : n + 1]
    gl, gr = gx[z, y, 0:n], gx[z, y, 1 : n + 1]
    gf, gb = gy[z, y], gy[z, y + 1]
    gu, go = gz[z, y], gz[z + 1, y]
    dd = d[z, y]
    for x in range(n):
        v = c[x]
        along_x = gl[x] * (v - left[x]) + gr[x] * (v - right[x])
        along_y = gf[x] * (v - front[x]) + gb[x] * (v - back[x])
        along_z = gu[x] * (v - below[x]) + go[x] * (v - above[x])
        out[x] = along_x + along_y + along_z + dd[x] * v


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _sum_of_products(a: Any, b: Any) -> float:
    total = 0.0
    for x in range(a.size):
        total += a[x] * b[x]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _apply_rows(
    u: Any, gz: Any, gy: Any, gx: Any, d: Any, out: Any, parts: Any, first: int, last: int
) -> None:
    ny, n = out.shape[1], out.shape[2]
    for r in range(first, last):
        z, y = r // ny, r % ny
        _row(u, gz, gy, gx, d, z, y, out[z, y])
        parts[r] = _sum_of_products(u[z + 1, y + 1, 1 : n + 1], out[z, y])


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _apply(u: Any, gz: Any, gy: Any, gx: Any, d: Any, out: Any, parts: Any, ranges: int) -> None:
    """out = A u; ``parts`` gets u . A u of each row."""
    rows = out.shape[0] * out.shape[1]
    for k in prange(ranges):
        _apply_rows(
            u, gz, gy, gx, d, out, parts, rows * k // ranges, rows * (k + 1) // ranges
        )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _onward(p: Any, z: Any, beta: float, ranges: int) -> None:
    """p = z + beta p."""
    ny, n = p.shape[1] - 2, p.shape[2] - 2
    rows = (p.shape[0] - 2) * ny
    for k in prange(ranges):
        for r in range(rows * k // ranges, rows * (k + 1) // ranges):
            a, b = p[r // ny + 1, r % ny + 1, 1 : n + 1], z[r // ny + 1, r % ny + 1, 1 : n + 1]
            for x in range(n):
                a[x] = b[x] + beta * a[x]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _advance(u: Any, r: Any, p: Any, q: Any, along: float, parts: Any, ranges: int) -> None:
    """u += along p; r -= along q; ``parts`` gets r . r of each row."""
    ny, n = r.shape[1], r.shape[2]
    rows = r.shape[0] * ny
    for k in prange(ranges):
        for i in range(rows * k // ranges, rows * (k + 1) // ranges):
            z, y = i // ny, i % ny
            a, b = u[z + 1, y + 1, 1 : n + 1], p[z + 1, y + 1, 1 : n + 1]
            c, e = r[z, y], q[z, y]
            for x in range(n):
                a[x] += along * b[x]
                c[x] -= along * e[x]
            parts[i] = _sum_of_products(c, c)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _dots(a: Any, b: Any, parts: Any, ranges: int) -> None:
    ny = b.shape[1]
    rows = b.shape[0] * ny
    for k in prange(ranges):
        for i in range(rows * k // ranges, rows * (k + 1) // ranges):
            parts[i] = _sum_of_products(a[i // ny, i % ny], b[i // ny, i % ny])


def _dot(a: Float, b: Float, parts: Float, ranges: int) -> float:
    _dots(a, b, parts, ranges)
    return float(parts.sum())


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _first(b: Any, over: Any, weight: float, step: Any, out: Any, ranges: int) -> None:
    """The first smoothing step from 0, which needs no neighbour."""
    ny, n = b.shape[1], b.shape[2]
    rows = b.shape[0] * ny
    w = b.dtype.type(weight)
    for k in prange(ranges):
        for i in range(rows * k // ranges, rows * (k + 1) // ranges):
            z, y = i // ny, i % ny
            s, o, bb, oo = step[z, y], out[z + 1, y + 1, 1 : n + 1], b[z, y], over[z, y]
            for x in range(n):
                s[x] = w * oo[x] * bb[x]
                o[x] = s[x]


@njit(cache=True, nogil=True, error_model="numpy")
def _chebyshev_rows(
    u: Any, step: Any, b: Any, over: Any, gz: Any, gy: Any, gx: Any, d: Any, weights: Any,
    out: Any, first: int, last: int,
) -> None:  # fmt: skip
    ny, n = b.shape[1], b.shape[2]
    a, c = weights[0], weights[1]
    line = np.empty(n, u.dtype)
    for i in range(first, last):
        z, y = i // ny, i % ny
        _row(u, gz, gy, gx, d, z, y, line)
        s, bb, oo = step[z, y], b[z, y], over[z, y]
        v, o = u[z + 1, y + 1, 1 : n + 1], out[z + 1, y + 1, 1 : n + 1]
        for x in range(n):
            s[x] = a * s[x] + c * oo[x] * (bb[x] - line[x])
            o[x] = v[x] + s[x]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _chebyshev(
    u: Any, step: Any, b: Any, over: Any, gz: Any, gy: Any, gx: Any, d: Any, weights: Any,
    out: Any, ranges: int,
) -> None:  # fmt: skip
    """out = u + step, step = a step + c D^-1 (b - A u)."""
    rows = b.shape[0] * b.shape[1]
    for k in prange(ranges):
        _chebyshev_rows(
            u, step, b, over, gz, gy, gx, d, weights, out,
            rows * k // ranges, rows * (k + 1) // ranges,
        )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _rest_rows(
    u: Any, b: Any, gz: Any, gy: Any, gx: Any, d: Any, free: Any, out: Any, first: int, last: int
) -> None:
    nz, ny, n = b.shape
    my, m = out.shape[1], out.shape[2]
    line = np.zeros(2 * m, u.dtype)
    total = np.zeros(2 * m, u.dtype)
    for i in range(first, last):
        k, j = i // my, i % my
        total[:] = 0.0
        for z in range(2 * k, min(2 * k + 2, nz)):
            for y in range(2 * j, min(2 * j + 2, ny)):
                _row(u, gz, gy, gx, d, z, y, line[:n])
                bb, ff = b[z, y], free[z, y]
                for x in range(n):
                    total[x] += ff[x] * (bb[x] - line[x])
        o = out[k, j]
        for x in range(m):
            o[x] = total[2 * x] + total[2 * x + 1]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _rest(
    u: Any, b: Any, gz: Any, gy: Any, gx: Any, d: Any, free: Any, out: Any, ranges: int
) -> None:
    """What is left of b, summed over the eight voxels of each coarse one."""
    rows = out.shape[0] * out.shape[1]
    for k in prange(ranges):
        _rest_rows(
            u, b, gz, gy, gx, d, free, out, rows * k // ranges, rows * (k + 1) // ranges
        )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _correct(u: Any, coarse: Any, free: Any, ranges: int) -> None:
    """Add to each voxel what its coarse voxel says."""
    ny, n = free.shape[1], free.shape[2]
    rows = free.shape[0] * ny
    for k in prange(ranges):
        for i in range(rows * k // ranges, rows * (k + 1) // ranges):
            z, y = i // ny, i % ny
            a, f = u[z + 1, y + 1, 1 : n + 1], free[z, y]
            c = coarse[z // 2 + 1, y // 2 + 1, 1:]
            for x in range(n):
                a[x] += f[x] * c[x // 2]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _drive(held: Any, hz: Any, hy: Any, hx: Any, b: Any, ranges: int) -> None:
    """What the held voxels push into their free neighbours."""
    ny, n = b.shape[1], b.shape[2]
    rows = b.shape[0] * ny
    for k in prange(ranges):
        for i in range(rows * k // ranges, rows * (k + 1) // ranges):
            z, y = i // ny, i % ny
            for x in range(n):
                b[z, y, x] = (
                    hz[z, y, x] * held[z, y + 1, x + 1]
                    + hz[z + 1, y, x] * held[z + 2, y + 1, x + 1]
                    + hy[z, y, x] * held[z + 1, y, x + 1]
                    + hy[z, y + 1, x] * held[z + 1, y + 2, x + 1]
                    + hx[z, y, x] * held[z + 1, y + 1, x]
                    + hx[z, y, x + 1] * held[z + 1, y + 1, x + 2]
                )


@njit(cache=True, nogil=True, error_model="numpy")
def _share(s0: Any, s1: Any, held0: bool, held1: bool) -> float:
    """How much of a face's heat falls into the first voxel: as its part of the resistance."""
    if held0:
        return 0.0
    if held1:
        return 1.0
    return float(s1 / (s0 + s1)) if s0 + s1 > 0.0 else 0.0


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _joule(
    u: Any, s: Any, fixed: Any, gz: Any, gy: Any, gx: Any, hz: Any, hy: Any, hx: Any, heat: Any,
    out: Any, ranges: int,
) -> None:  # fmt: skip
    """Heat in each voxel, W, and the current that leaves each held one, A."""
    nz, ny, nx = s.shape
    rows = nz * ny
    for k in prange(ranges):
        for i in range(rows * k // ranges, rows * (k + 1) // ranges):
            z, y = i // ny, i % ny
            for x in range(nx):
                v, s0, f0 = u[z + 1, y + 1, x + 1], s[z, y, x], fixed[z, y, x]
                watts, amps = 0.0, 0.0
                for side in range(2):
                    n = z - 1 + 2 * side
                    if 0 <= n < nz:
                        fall = v - u[n + 1, y + 1, x + 1]
                        flow = (gz[z + side, y, x] + hz[z + side, y, x]) * fall
                        watts += flow * fall * _share(s0, s[n, y, x], f0, fixed[n, y, x])
                        amps += flow
                    n = y - 1 + 2 * side
                    if 0 <= n < ny:
                        fall = v - u[z + 1, n + 1, x + 1]
                        flow = (gy[z, y + side, x] + hy[z, y + side, x]) * fall
                        watts += flow * fall * _share(s0, s[z, n, x], f0, fixed[z, n, x])
                        amps += flow
                    n = x - 1 + 2 * side
                    if 0 <= n < nx:
                        fall = v - u[z + 1, y + 1, n + 1]
                        flow = (gx[z, y, x + side] + hx[z, y, x + side]) * fall
                        watts += flow * fall * _share(s0, s[z, y, n], f0, fixed[z, y, n])
                        amps += flow
                heat[z, y, x] = watts
                out[z, y, x] = amps if f0 else 0.0
