"""Cement driven into porous bone: a free boundary moved through the filled voxels alone.

Cement is about a thousand times more viscous than marrow, so the marrow it drives out offers no
resistance worth counting: its pressure is known (that of the way out) and only the voxels already
filled with cement carry an unknown one. There Darcy's law holds,

    u = mobility * -grad p,   mobility = (permeability / apparent viscosity) * |u|^(1 - n),

with Christopher and Middleman's apparent viscosity of a power-law fluid in a porous medium. Fluxes
across faces balance in every filled voxel (p by conjugate gradients, started from the last step);
those into a partly filled voxel fill it. A voxel that is full joins the unknowns. The front inside
a partly filled voxel stands where its fill says, so pressures do not jump when a voxel joins.

Everything is in SI units (m, s, Pa, m3): the numbers come from elsewhere. Left out: marrow pressure
(ratio of viscosities), gravity, the heat of curing inside a step, bone that breaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from trocar.errors import InputError

Float = NDArray[np.floating[Any]]

# Why ``advance`` came back.
DONE, PRESSURE, WATCHED, CLOSED = range(4)
# Columns of the history: s, m3 injected, Pa at the needle's tip, Pa at the syringe, m3 beyond the
# open edge, m3/s injected.
TIME, VOLUME, TIP, SYRINGE, LOST, RATE = range(6)

# A point source in a cubic lattice: the potential at its own voxel is that of a ball of this radius
# (in voxels). From the lattice Green's function at the origin, 0.2527310 (Watson 1939).
WELL_RADIUS = 1.0 / (4.0 * np.pi * 0.252731009858)

_LEAST_RATE = 0.01  # of what was asked for; below it the cement does not move any more
_PAD = 3  # closed voxels around the grid: no walk needs to ask where it ends
_SHELL = (1.4, 2.5)  # voxels from the tip (in steps) that tell its pressure when cement thins
_NEW, _FRONT = -1, -2  # of ``slot``: untouched, partly filled; from 0 on the place of an unknown


@dataclass(frozen=True, eq=False, kw_only=True)
class Medium:
    """Where cement can go: pores, how easily it passes, what pushes back, where it is lost.

    Arrays are [slice, row, column] on one grid. ``porosity`` is the share of a voxel that cement
    can take (0: closed); ``permeability_m2`` [3, ...] along slices, rows and columns; ``back_pa``
    the pressure of what is driven out there; ``open_edge`` voxels swallow cement without limit (the
    way out of a vein, the edge of the image).
    """

    porosity: NDArray[np.float64]
    permeability_m2: NDArray[np.float64]
    spacing_m: tuple[float, float, float]
    back_pa: NDArray[np.float64]
    open_edge: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Cement:
    """How the cement flows: shear stress = consistency * rate^exponent, growing as it cures.

    ``consistency_pa_sn`` at ``reference_s`` after mixing, times e every ``growth_s``, never above
    what gives ``most_pa_s`` at a rate of 1 / s.
    """

    consistency_pa_sn: float
    exponent: float
    reference_s: float = 0.0
    growth_s: float = float("inf")
    most_pa_s: float = float("inf")

    def at(self, age_s: float) -> float:
        """Consistency (Pa s^n) so long after mixing."""
        grown = self.consistency_pa_sn * np.exp((age_s - self.reference_s) / self.growth_s)
        return float(min(grown, self.most_pa_s))


def medium(
    porosity: ArrayLike,
    permeability_m2: ArrayLike,
    spacing_m: tuple[float, float, float],
    *,
    back_pa: ArrayLike = 0.0,
    open_edge: ArrayLike = False,
) -> Medium:
    """A :class:`Medium` from arrays that may be scalars or lack the axis of direction.

    Raises InputError for shapes that do not agree or numbers that cannot be.
    """
    phi = np.ascontiguousarray(porosity, np.float64)
    if phi.ndim != 3:
        raise InputError(f"the porosity has {phi.ndim} axes; expected [slice, row, column]")
    k = np.asarray(permeability_m2, np.float64)
    try:
        k = np.ascontiguousarray(np.broadcast_to(k, (3, *phi.shape)))
        back = np.ascontiguousarray(np.broadcast_to(np.asarray(back_pa, np.float64), phi.shape))
        edge = np.ascontiguousarray(np.broadcast_to(np.asarray(open_edge, bool), phi.shape))
    except ValueError as error:
        raise InputError(
            f"permeability, back pressure or open edge do not fit the porosity's shape {phi.shape}"
        ) from error
    wrong = ~np.isfinite(phi) | (phi < 0) | (phi > 1)
    if wrong.any() or not np.all(k >= 0) or not np.all(np.isfinite(k)):
        raise InputError("porosity must be from 0 to 1 and permeability not negative")
    if not all(h > 0 for h in spacing_m):
        raise InputError(f"the spacing is {spacing_m}; expected three lengths above 0")
    return Medium(
        porosity=phi,
        permeability_m2=k,
        spacing_m=tuple(float(h) for h in spacing_m),  # type: ignore[arg-type]
        back_pa=back,
        open_edge=edge,
    )


class Invasion:
    """Cement on its way through a medium; ``advance`` moves it, the arrays say where it is.

    ``fill`` is the filled share of each voxel's pores, ``reached_s`` when a voxel became full (nan:
    not yet), both [slice, row, column]. ``history`` has a row a step, by the columns named above.
    Nothing else is kept: the same calls give the same cement.
    """

    def __init__(self, where: Medium) -> None:
        shape = tuple(n + 2 * _PAD for n in where.porosity.shape)

        def padded(values: NDArray[Any], outside: Any) -> NDArray[Any]:
            out = np.full(shape, outside, values.dtype)
            out[_PAD:-_PAD, _PAD:-_PAD, _PAD:-_PAD] = values
            return out.ravel()

        self.medium = where
        self._shape = shape
        hz, hy, hx = where.spacing_m
        self._voxel_m3 = hz * hy * hx
        # Face area over spacing along each axis: what turns a mobility into a conductance.
        self._shape_m = np.array([hy * hx / hz, hz * hx / hy, hz * hy / hx])
        self._area_m2 = np.array([hy * hx, hz * hx, hz * hy])
        index = np.indices((5, 5, 5)).reshape(3, -1).T - 2
        steps = np.linalg.norm(index, axis=1)
        index = index[(steps >= _SHELL[0]) & (steps <= _SHELL[1])]
        self._offsets = index @ np.array(self._strides())
        self._radii_m = np.linalg.norm(index * np.asarray(where.spacing_m), axis=1)
        self._pores_m3 = padded(where.porosity, 0.0) * self._voxel_m3
        self._phi = padded(where.porosity, 0.0)
        self._k = np.stack([padded(k, 0.0) for k in where.permeability_m2])
        self._back = padded(where.back_pa, 0.0)
        self._edge = padded(where.open_edge, False)
        size = self._phi.size
        self._fill = np.zeros(size)
        self._reached = np.full(size, np.nan)
        self._slot = np.full(size, _NEW, np.int32)
        room = int(np.count_nonzero(self._phi)) + 1
        self._active = np.empty(room, np.int64)
        self._front = np.empty(room, np.int64)
        self._p = np.zeros(room)
        self._speed = np.zeros(size)
        self._inflow = np.zeros(size)
        self._watch = np.zeros(size, np.int8)
        self._counts = np.zeros(2, np.int64)  # active, front
        self._shut = np.zeros(0, np.int64)  # cells that were closed with cement in them
        self._totals = np.zeros(3)  # s since mixing is the caller's; m3 injected, m3 lost, overfill
        self.history = np.zeros((0, 6))

    @property
    def fill(self) -> NDArray[np.float64]:
        """Filled share of the pores of each voxel, 0 to 1."""
        return self._inner(self._fill)

    @property
    def reached_s(self) -> NDArray[np.float64]:
        """When each voxel became full, in seconds on the caller's clock; nan where it did not."""
        return self._inner(self._reached)

    @property
    def pressure_pa(self) -> NDArray[np.float64]:
        """Pressure in the filled voxels at the end of the last step; nan elsewhere."""
        out = np.full(self._fill.size, np.nan)
        n = self._counts[0]
        out[self._active[:n]] = self._p[:n]
        return self._inner(out)

    @property
    def volume_m3(self) -> NDArray[np.float64]:
        """Cement in each voxel, m3."""
        return self._inner(self._fill * self._pores_m3)

    def held(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The voxels that hold cement, as flat indices into the grid, and how much (m3).

        The same as ``volume_m3`` where that is not zero, at the cost of these voxels alone.
        """
        na, nf = (int(n) for n in self._counts)
        cells = np.concatenate([self._active[:na], self._front[:nf], self._shut])
        m3 = self._fill[cells] * self._pores_m3[cells]
        cells, m3 = cells[m3 > 0], m3[m3 > 0]
        place = tuple(i - _PAD for i in np.unravel_index(cells, self._shape))
        inner = tuple(n - 2 * _PAD for n in self._shape)
        return np.ravel_multi_index(place, inner), m3

    @property
    def injected_m3(self) -> float:
        """All cement injected so far."""
        return float(self._totals[0])

    @property
    def lost_m3(self) -> float:
        """Cement that left over the open edge."""
        return float(self._totals[1])

    @property
    def overfill_m3(self) -> float:
        """Cement that stands above the pores of full voxels that have nowhere to pass it on."""
        return float(np.sum(np.maximum(self._fill - 1.0, 0.0) * self._pores_m3))

    @property
    def is_open(self) -> NDArray[np.bool_]:
        """Where cement can go or is, and has not been closed off."""
        return self._inner(self._phi > 0)

    def close(self, where: NDArray[np.bool_]) -> None:
        """Let nothing flow through these voxels any more; the cement in them stays where it is.

        What a leak that has hardened does to the way it took.
        """
        shut = np.zeros(self._fill.size, np.bool_)
        self._inner(shut)[...] = where
        shut &= self._phi > 0
        self._shut = np.concatenate([self._shut, np.flatnonzero(shut & (self._fill > 0))])
        self._phi[shut] = 0.0
        self._k[:, shut] = 0.0
        self._slot[shut] = _NEW
        for cells, i in ((self._active, 0), (self._front, 1)):
            n = int(self._counts[i])
            kept = ~shut[cells[:n]]
            m = int(np.count_nonzero(kept))
            if i == 0:
                self._p[:m] = self._p[:n][kept]
                self._slot[cells[:n][kept]] = np.arange(m)
            cells[:m] = cells[:n][kept]
            self._counts[i] = m

    def open(self, where: NDArray[np.bool_], porosity: float, permeability_m2: float) -> None:
        """Make room in these voxels, as a needle does that is pulled back.

        Voxels that hold cement become easier to pass and hold no more than before.
        """
        wide = np.zeros(self._fill.size, np.bool_)
        self._inner(wide)[...] = where
        wide &= (self._phi > 0) | (self._fill == 0)  # not through cement that has hardened
        self._k[:, wide] = np.maximum(self._k[:, wide], permeability_m2)
        fresh = wide & (self._slot == _NEW) & (self._fill == 0)
        self._phi[fresh] = np.maximum(self._phi[fresh], porosity)
        self._pores_m3[fresh] = self._phi[fresh] * self._voxel_m3
        grown = int(np.count_nonzero(self._phi)) + 1 - self._active.size
        if grown > 0:
            self._active = np.concatenate([self._active, np.empty(grown, np.int64)])
            self._front = np.concatenate([self._front, np.empty(grown, np.int64)])
            self._p = np.concatenate([self._p, np.zeros(grown)])
        cells = np.flatnonzero(fresh)
        beside = np.zeros(cells.size, np.bool_)
        for stride in self._strides():
            beside |= (self._slot[cells - stride] >= 0) | (self._slot[cells + stride] >= 0)
        joined = cells[beside]
        n = int(self._counts[1])
        self._front[n : n + joined.size] = joined
        self._slot[joined] = _FRONT
        self._counts[1] = n + joined.size

    def _inner(self, flat: NDArray[Any]) -> NDArray[Any]:
        return flat.reshape(self._shape)[_PAD:-_PAD, _PAD:-_PAD, _PAD:-_PAD]

    def _flat(self, voxel: ArrayLike) -> int:
        z, y, x = (int(v) + _PAD for v in np.asarray(voxel))
        return int(np.ravel_multi_index((z, y, x), self._shape))

    def advance(
        self,
        cement: Cement,
        *,
        tips: ArrayLike,
        rates_m3_s: ArrayLike,
        tip_radius_m: float,
        start_s: float,
        seconds: float,
        most_m3: float = float("inf"),
        most_pa: float = float("inf"),
        hold: bool = False,
        needle_per_s: ArrayLike = 0.0,
        watched: NDArray[Any] | None = None,
        watched_m3: ArrayLike = 0.0,
        share: float = 0.03,
        picard: int = 2,
        tolerance: float = 1e-5,
        longest_s: float = float("inf"),
    ) -> int:
        """Inject for so long, or until something stops it; returns why it came back.

        ``tips`` (n, 3) are voxels, ``rates_m3_s`` their rates; ``start_s`` is the age of the cement
        and the clock of ``reached_s``. ``needle_per_s`` is what each needle costs at its rate, as
        syringe pressure over consistency. Stops: ``most_m3`` injected in all (DONE), syringe
        pressure above ``most_pa`` (PRESSURE; with ``hold`` the rate gives way instead, until a
        hundredth is left), more than ``watched_m3`` in the ``watched`` voxels that are not closed
        (WATCHED; ``watched`` may number groups from 1, ``watched_m3`` then has one limit for each),
        no voxel left to fill (CLOSED). ``share`` of the front is filled a step; ``picard`` passes a
        step settle the shear thinning; no step is longer than ``longest_s``.
        Raises InputError for a tip outside the pores.
        """
        places = np.array([self._flat(v) for v in np.atleast_2d(np.asarray(tips))], np.int64)
        rates = np.broadcast_to(np.asarray(rates_m3_s, np.float64), places.shape).copy()
        if not np.all(self._phi[places] > 0):
            raise InputError("a needle tip lies where cement cannot go; move it into open bone")
        needle = np.broadcast_to(np.asarray(needle_per_s, np.float64), places.shape).copy()
        if not np.all(rates > 0):
            raise InputError(f"the rates are {rates.tolist()} m3/s; expected more than 0")
        self._inner(self._watch)[...] = 0 if watched is None else watched
        groups = 0 if watched is None else int(np.max(watched, initial=0))
        allowed = np.full(groups + 1, np.inf)
        allowed[1:] = watched_m3
        newtonian = cement.exponent == 1.0
        settings = np.array(
            [
                cement.consistency_pa_sn,
                cement.exponent,
                cement.reference_s,
                cement.growth_s,
                cement.most_pa_s,
                tip_radius_m,
                start_s,
                start_s + seconds,
                most_m3,
                most_pa,
                share,
                1.0 if newtonian else float(picard),
                tolerance,
                self._voxel_m3 ** (1 / 3),
                float(hold),
                longest_s,
            ]
        )
        rows = np.empty((4096, 6))
        history = [self.history]
        while True:
            why, n = _advance(
                settings,
                places,
                rates,
                needle,
                self._offsets,
                self._radii_m,
                np.array(self._strides()),
                self._shape_m,
                self._area_m2,
                self._phi,
                self._pores_m3,
                self._k,
                self._back,
                self._edge,
                self._watch,
                allowed,
                self._fill,
                self._reached,
                self._slot,
                self._active,
                self._front,
                self._p,
                self._speed,
                self._inflow,
                self._counts,
                self._totals,
                rows,
            )
            history.append(rows[:n].copy())
            if why != _MORE:
                break
            settings[6] = rows[n - 1, TIME]
        self.history = np.concatenate(history)
        return int(why)

    def _strides(self) -> tuple[int, int, int]:
        _, ny, nx = self._shape
        return ny * nx, nx, 1


_MORE = -1  # the rows are full: call again


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _join(
    cell: int, time: float, strides: Any, phi: Any, slot: Any, active: Any, front: Any, counts: Any,
    reached: Any, p: Any,
) -> None:  # fmt: skip
    """A full voxel becomes an unknown; its untouched open neighbours become the front."""
    n = counts[0]
    slot[cell] = n
    active[n] = cell
    reached[cell] = time
    total, seen = 0.0, 0
    for a in range(3):
        for way in (-strides[a], strides[a]):
            other = cell + way
            if phi[other] <= 0.0:
                continue
            if slot[other] == _NEW:
                slot[other] = _FRONT
                front[counts[1]] = other
                counts[1] += 1
            elif slot[other] >= 0:
                total += p[slot[other]]
                seen += 1
    p[n] = 0.5 * total / seen if seen else 0.0
    counts[0] = n + 1


@njit(cache=True, nogil=True, error_model="numpy")
def _mobility(k: float, phi: float, speed: float, consistency: float, n: float) -> float:
    """Darcy speed per pressure gradient of a power-law fluid (Christopher and Middleman 1965)."""
    if n == 1.0:
        return k / consistency
    apparent = consistency / 12.0 * (9.0 + 3.0 / n) ** n * (150.0 * k * phi) ** ((1.0 - n) / 2.0)
    return float(k / apparent * speed ** (1.0 - n))


@njit(cache=True, nogil=True, error_model="numpy")
def _conductances(
    consistency: float, n: float, floor: float, strides: Any, shape_m: Any, phi: Any, k: Any,
    slot: Any, active: Any, na: int, fill: Any, speed: Any, edge: Any, back: Any,
    near: Any, give: Any, diagonal: Any, right: Any,
) -> None:  # fmt: skip
    """Six conductances of every unknown; what leads to the front goes to the diagonal.

    The front in a partly filled voxel stands ``fill`` of a step beyond the face.
    """
    for i in range(na):
        cell = active[i]
        total, known = 0.0, 0.0
        mine_speed = max(speed[cell], floor)
        for f in range(6):
            a = f // 2
            other = cell + (strides[a] if f % 2 else -strides[a])
            j = slot[other]
            near[i, f] = -1
            give[i, f] = 0.0
            if phi[other] <= 0.0 or k[a, other] <= 0.0 or k[a, cell] <= 0.0:
                continue
            mine = _mobility(k[a, cell], phi[cell], mine_speed, consistency, n)
            theirs = _mobility(k[a, other], phi[other], max(speed[other], floor), consistency, n)
            if j >= 0:
                c = shape_m[a] / (0.5 / mine + 0.5 / theirs)
                near[i, f] = j
            else:
                reach = 0.0 if edge[other] else min(fill[other], 1.0)
                c = shape_m[a] / (0.5 / mine + reach / theirs)
                known += c * back[other]
            give[i, f] = c
            total += c
        diagonal[i] = total
        right[i] = known


@njit(cache=True, nogil=True, error_model="numpy")
def _solve(
    na: int, near: Any, give: Any, diagonal: Any, right: Any, p: Any, r: Any, z: Any, d: Any,
    q: Any, tolerance: float, most: int,
) -> int:  # fmt: skip
    """Conjugate gradients with the diagonal as preconditioner, from the pressures at hand."""
    size, rz = 0.0, 0.0
    for i in range(na):
        ap = diagonal[i] * p[i]
        for f in range(6):
            j = near[i, f]
            if j >= 0:
                ap -= give[i, f] * p[j]
        r[i] = right[i] - ap
        z[i] = r[i] / diagonal[i]
        d[i] = z[i]
        rz += r[i] * z[i]
        size += right[i] * right[i] / diagonal[i]
    stop = tolerance * tolerance * size
    for step in range(most):
        if rz <= stop:
            return step
        dq = 0.0
        for i in range(na):
            ad = diagonal[i] * d[i]
            for f in range(6):
                j = near[i, f]
                if j >= 0:
                    ad -= give[i, f] * d[j]
            q[i] = ad
            dq += d[i] * ad
        alpha = rz / dq
        fresh = 0.0
        for i in range(na):
            p[i] += alpha * d[i]
            r[i] -= alpha * q[i]
            z[i] = r[i] / diagonal[i]
            fresh += r[i] * z[i]
        beta = fresh / rz
        rz = fresh
        for i in range(na):
            d[i] = z[i] + beta * d[i]
    return most


@njit(cache=True, nogil=True, error_model="numpy")
def _speeds(
    strides: Any, area_m2: Any, slot: Any, active: Any, na: int, near: Any, give: Any, p: Any,
    back: Any, speed: Any, inflow: Any, front: Any, nf: int,
) -> None:  # fmt: skip
    """Darcy speed of every unknown and of the front; flux into the front."""
    for i in range(nf):
        inflow[front[i]] = 0.0
        speed[front[i]] = 0.0
    for i in range(na):
        cell = active[i]
        square = 0.0
        for a in range(3):
            first, second = 0.0, 0.0
            for side in range(2):
                f = 2 * a + side
                c = give[i, f]
                if c == 0.0:
                    continue
                j = near[i, f]
                other = cell + (strides[a] if side else -strides[a])
                flux = c * (p[i] - (p[j] if j >= 0 else back[other]))
                u = flux / area_m2[a]
                if side:
                    second = u
                else:
                    first = u
                if j < 0:
                    inflow[other] += flux
                    speed[other] += (flux / area_m2[a]) ** 2
            # Opposite faces by their product: speeds fall as the square of the distance from a
            # needle, and out of a source opposite faces would cancel as vectors. A cell that turns
            # the flow by a corner has one face only.
            square += max(abs(first * second), 0.25 * (first * first + second * second))
        speed[cell] = np.sqrt(square)
    for i in range(nf):
        speed[front[i]] = np.sqrt(speed[front[i]])


@njit(cache=True, nogil=True, error_model="numpy")
def _tip_pressure(
    rate: float, k: float, phi: float, p: float, tip: float, step: float, consistency: float,
    n: float,
) -> float:  # fmt: skip
    """Pressure at the needle's own radius from that of its voxel.

    The voxel holds the pressure of a ball of ``WELL_RADIUS`` steps. A needle wider than that
    presses less, a thinner one more.
    """
    r0 = WELL_RADIUS * step
    return float(p + _from_ball(rate, k, phi, tip, r0, consistency, n))


@njit(cache=True, nogil=True, error_model="numpy")
def _from_ball(
    rate: float, k: float, phi: float, near: float, far: float, consistency: float, n: float
) -> float:
    """Pressure lost by flow out of a ball between two radii (negative when near > far)."""
    if n == 1.0:
        return rate * consistency / (4.0 * np.pi * k) * (1.0 / near - 1.0 / far)
    apparent = consistency / 12.0 * (9.0 + 3.0 / n) ** n * (150.0 * k * phi) ** ((1.0 - n) / 2.0)
    e = 1.0 - 2.0 * n
    shape = np.log(far / near) if abs(e) < 1e-9 else (far**e - near**e) / e
    return float(apparent / k * (rate / (4.0 * np.pi)) ** n * shape)


@njit(cache=True, nogil=True, error_model="numpy")
def _shell_pressure(
    cell: int, rate: float, k: float, phi: float, tip: float, consistency: float, n: float,
    offsets: Any, radii: Any, slot: Any, p: Any,
) -> float:  # fmt: skip
    """Pressure at the needle's radius from filled voxels two steps away; nan if they are few.

    Beside a point source a thinning fluid's speed changes within a voxel more than its mean can
    tell; two voxels away the lattice agrees with the flow out of a ball.
    """
    total, seen = 0.0, 0
    for m in range(offsets.size):
        j = slot[cell + offsets[m]]
        if j >= 0:
            total += p[j] + _from_ball(rate, k, phi, tip, radii[m], consistency, n)
            seen += 1
    return total / seen if 2 * seen >= offsets.size else np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _kth(values: Any, n: int, k: int) -> float:
    """The k-th smallest of the first n values (k from 0); reorders them."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            return float(values[k])
    return float(values[k])


@njit(cache=True, nogil=True, error_model="numpy")
def _can_pass_on(cell: int, strides: Any, phi: Any, slot: Any, fill: Any, k: Any) -> bool:
    """Whether a voxel has an open neighbour that could take what is too much for it."""
    for f in range(6):
        a = f // 2
        other = cell + (strides[a] if f % 2 else -strides[a])
        if phi[other] > 0.0 and k[a, other] > 0.0 and slot[other] < 0 and fill[other] < 1.0:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _pass_on(
    cell: int, pores: Any, strides: Any, phi: Any, slot: Any, fill: Any, edge: Any, k: Any
) -> float:  # fmt: skip
    """Give what stands above a full voxel's pores to open neighbours that are not full.

    Returns what went over the open edge (m3). Where no neighbour can take it, it stays.
    """
    excess = (fill[cell] - 1.0) * pores[cell]
    weight = 0.0
    for f in range(6):
        a = f // 2
        other = cell + (strides[a] if f % 2 else -strides[a])
        if phi[other] > 0.0 and k[a, other] > 0.0 and slot[other] < 0 and fill[other] < 1.0:
            weight += k[a, other]
    if weight <= 0.0 or excess <= 0.0:
        return 0.0
    lost = 0.0
    for f in range(6):
        a = f // 2
        other = cell + (strides[a] if f % 2 else -strides[a])
        if phi[other] > 0.0 and k[a, other] > 0.0 and slot[other] < 0 and fill[other] < 1.0:
            part = excess * k[a, other] / weight
            if edge[other]:
                lost += part
            else:
                fill[other] += part / pores[other]
    fill[cell] = 1.0
    return lost


@njit(cache=True, nogil=True, error_model="numpy")
def _advance(
    settings: Any, places: Any, rates: Any, needle: Any, offsets: Any, radii: Any, strides: Any,
    shape_m: Any, area_m2: Any, phi: Any, pores: Any, k: Any, back: Any, edge: Any,
    watch: Any, allowed: Any, fill: Any, reached: Any, slot: Any, active: Any, front: Any, p: Any,
    speed: Any, inflow: Any, counts: Any, totals: Any, rows: Any,
) -> tuple[int, int]:  # fmt: skip
    """Steps until the time, volume, pressure or watch says stop; see ``Invasion.advance``."""
    (consistency0, n, reference, growth, most_eta, tip, now, end, most_m3, most_pa, share,
     picard, tolerance, step_m, hold, longest) = settings  # fmt: skip
    room = active.size
    near = np.empty((room, 6), np.int32)
    give = np.empty((room, 6))
    diagonal, right = np.empty(room), np.empty(room)
    r, z, d, q = np.empty(room), np.empty(room), np.empty(room), np.empty(room)
    times = np.empty(room)
    rate = rates.sum()
    for i in range(places.size):
        if slot[places[i]] < 0:
            # The needle stands in its voxel: it counts as full from the start, and what it takes
            # is injected.
            if slot[places[i]] == _FRONT:
                for j in range(counts[1]):
                    if front[j] == places[i]:
                        front[j] = front[counts[1] - 1]
                        counts[1] -= 1
                        break
            need = max(0.0, 1.0 - fill[places[i]]) * pores[places[i]]
            totals[0] += need
            now += need / rate
            fill[places[i]] = 1.0
            _join(places[i], now, strides, phi, slot, active, front, counts, reached, p)
    row = 0
    floor = rate / (area_m2.sum() * 1e4)  # a voxel at rest still flows a little: no zero mobility
    watched = np.zeros(allowed.size)
    for i in range(counts[0]):
        watched[watch[active[i]]] += fill[active[i]] * pores[active[i]]
    for i in range(counts[1]):
        watched[watch[front[i]]] += fill[front[i]] * pores[front[i]]
    # Slowest changes first: a fresh front has no speed yet.
    for i in range(counts[0]):
        if speed[active[i]] == 0.0:
            speed[active[i]] = rate / (2.0 * area_m2.sum())
    why = DONE
    while now < end and totals[0] < most_m3:
        if row == rows.shape[0]:
            return _MORE, row
        na, nf = counts[0], counts[1]
        if nf == 0:
            why = CLOSED
            break
        consistency = min(consistency0 * np.exp((now - reference) / growth), most_eta)
        for _sweep in range(int(picard)):
            _conductances(
                consistency, n, floor, strides, shape_m, phi, k, slot, active, na, fill, speed,
                edge, back, near, give, diagonal, right,
            )  # fmt: skip
            for i in range(places.size):
                right[slot[places[i]]] += rates[i]
            for i in range(na):
                if diagonal[i] <= 0.0:  # walled in: nothing flows through it
                    diagonal[i] = 1.0
            _solve(na, near, give, diagonal, right, p, r, z, d, q, tolerance, 2000)
            _speeds(
                strides, area_m2, slot, active, na, near, give, p, back, speed, inflow, front, nf
            )
        pressure, syringe = -np.inf, -np.inf
        for i in range(places.size):
            c = places[i]
            mean_k = (k[0, c] * k[1, c] * k[2, c]) ** (1.0 / 3.0)
            here = np.nan
            if n != 1.0:
                here = _shell_pressure(
                    c, rates[i], mean_k, phi[c], tip, consistency, n, offsets, radii, slot, p
                )
            if np.isnan(here):
                here = _tip_pressure(
                    rates[i], mean_k, phi[c], p[slot[c]], tip, step_m, consistency, n
                )
            pressure = max(pressure, here)
            syringe = max(syringe, here + consistency * needle[i])
        ease = 1.0
        if syringe > most_pa:
            # Every pressure grows with the rate to the power n, so the rate that the limit allows
            # is known without solving again (the back pressure, a trifle, is not scaled).
            ease = (most_pa / syringe) ** (1.0 / n)
            if hold == 0.0 or ease < _LEAST_RATE:
                why = PRESSURE
                break
            pressure, syringe = pressure * ease**n, most_pa
        # What flows out is what was injected, to the last bit, however far the solver went.
        out = 0.0
        for i in range(nf):
            inflow[front[i]] = max(inflow[front[i]], 0.0)
            out += inflow[front[i]]
        if out <= 0.0:
            why = CLOSED
            break
        scale = ease * rate / out
        m, bound = 0, longest
        for i in range(nf):
            c = front[i]
            flux = inflow[c] * scale
            inflow[c] = flux
            if flux > 0.0 and not edge[c]:
                times[m] = max(0.0, 1.0 - fill[c]) * pores[c] / flux
                # No more than one voxel of excess to hand on, none where nobody can take it.
                spare = 1.0 if _can_pass_on(c, strides, phi, slot, fill, k) else 0.0
                bound = min(bound, times[m] + spare * pores[c] / flux)
                m += 1
        step = min(end - now, bound)
        if m > 0:
            step = min(step, _kth(times, m, min(m - 1, int(share * m))))
        step = min(step, (most_m3 - totals[0]) / (ease * rate))
        step = max(step, 1e-9)
        now += step
        totals[0] += ease * rate * step
        lost = 0.0
        for i in range(nf):
            c = front[i]
            if edge[c]:
                lost += inflow[c] * step
                continue
            fill[c] += inflow[c] * step / pores[c]
            watched[watch[c]] += inflow[c] * step
        # Full ones join, then hand on what is too much; a neighbour may thereby become full too.
        for _round in range(8):
            joined = counts[0]
            i = 0
            while i < counts[1]:
                c = front[i]
                if not edge[c] and fill[c] >= 1.0 - 1e-12:
                    front[i] = front[counts[1] - 1]
                    counts[1] -= 1
                    _join(c, now, strides, phi, slot, active, front, counts, reached, p)
                else:
                    i += 1
            if counts[0] == joined:
                break
            for j in range(joined, counts[0]):
                if fill[active[j]] > 1.0:
                    lost += _pass_on(active[j], pores, strides, phi, slot, fill, edge, k)
        totals[1] += lost
        rows[row, TIME], rows[row, VOLUME] = now, totals[0]
        rows[row, TIP], rows[row, SYRINGE] = pressure, syringe
        rows[row, LOST], rows[row, RATE] = totals[1], ease * rate
        row += 1
        if (watched > allowed).any():
            why = WATCHED
            break
    return why, row


def needle_pressure_per_consistency(
    rate_m3_s: float, radius_m: float, length_m: float, exponent: float
) -> float:
    """Pressure lost along a needle over the cement's consistency (Pa per Pa s^n).

    Laminar pipe flow of a power-law fluid; for exponent 1 it is Hagen-Poiseuille's 8 L Q / (pi r4).

    >>> pa = 200 * needle_pressure_per_consistency(5e-8, 2.39e-3 / 2, 0.1, 1.0)
    >>> round(pa / 1e6, 3)  # 11 G, 100 mm, 200 Pa s, 0.05 ml/s
    1.249
    """
    n = exponent
    wall_rate = (3.0 * n + 1.0) / n * rate_m3_s / (np.pi * radius_m**3)
    return float(2.0 * length_m / radius_m * wall_rate**n)


def warm() -> None:
    """Compile the kernel for the types the simulation uses."""
    where = medium(np.full((3, 3, 3), 0.8), 1e-8, (1e-3, 1e-3, 1e-3))
    for n in (1.0, 0.5):
        Invasion(where).advance(
            Cement(consistency_pa_sn=200.0, exponent=n),
            tips=[1, 1, 1],
            rates_m3_s=5e-8,
            tip_radius_m=1e-3,
            start_s=0.0,
            seconds=0.02,
        )
