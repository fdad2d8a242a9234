"""Heat in living tissue: Pennes' equation marched in time, with thermal dose and phase change.

    rho c dT/dt = div(k grad T) + W (T_blood - T) + Q

on a regular [slice, row, column] grid: one flux through each face between two voxels (harmonic mean
of k), so what leaves one voxel enters the next. Time is stepped with the second-order
Runge-Kutta-Legendre scheme of Meyer, Balsara and Aslam (J Comput Phys 2014;257:594): s cheap
explicit stages make one step (s^2 + s - 2) / 4 times as long as an explicit Euler step may be. The
step follows an estimate of its own error (as Sommeijer, Shampine and Verwer 1998 do). Freezing and
boiling are met by marching the enthalpy instead of the temperature.

SI units but for temperatures, which are degC, and CEM43, which is minutes. No number of a tissue
lives here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import ArrayLike, DTypeLike, NDArray

from trocar.errors import InputError
from trocar.kernels import dose
from trocar.kernels.bits import as_bits, as_float
from trocar.kernels.dose import Arrhenius, Cem43
from trocar.kernels.rod import Laid, sides

Float = NDArray[np.floating[Any]]
Method = Literal["rkl2", "euler"]

_SERIAL = 30_000  # voxels; fewer are not worth waking the threads
_STAGES = 101  # the most stages of a step; far beyond, float32 rounding would add up
_LEAST = 1 / 64  # of an explicit step; where even this errs (a jump) time must go on all the same
_GROW, _SHRINK, _SAFETY = 2.0, 0.2, 0.8  # of the step control, as usual for such schemes
_TOGETHER = 8  # explicit steps taken in one pass through memory
_LINE = 2048  # voxels written at a time where a loop must not write what it reads
_STRIP = 64  # rows of a slice that stay in the nearest memory while those steps are taken


@dataclass(frozen=True, eq=False, kw_only=True)
class Tissue:
    """What heat meets in each voxel: arrays [slice, row, column] or numbers for all.

    ``perfusion_w_m3k`` is W = omega rho_b c_b, the heat blood carries off a cubic metre for each
    degree above ``blood_c``.
    """

    shape: tuple[int, int, int]
    spacing_m: tuple[float, float, float]
    heat_capacity_j_m3k: ArrayLike  # rho c
    conductivity_w_mk: ArrayLike
    perfusion_w_m3k: ArrayLike
    blood_c: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Change:
    """A change of phase over an interval of temperature, and what the tissue is below it.

    ``latent_j_m3`` is taken up between ``from_c`` and ``to_c`` (arrays or numbers). For freezing,
    the capacity and conductivity of the frozen tissue are given, too.
    """

    from_c: float
    to_c: float
    latent_j_m3: ArrayLike
    frozen_capacity_j_m3k: ArrayLike | None = None
    frozen_conductivity_w_mk: ArrayLike | None = None


class Bioheat:
    """Tissue that is heated or cooled; ``advance`` moves it on, the properties say how warm it is.

    ``start_c`` is a number or an array. ``edge_c`` is the temperature held at the outer faces of
    the grid; None insulates them. ``freezing`` and ``boiling`` switch to enthalpy. With ``cem43``
    or ``arrhenius`` doses add up. Perfusion ends for good where a dose passes
    ``shut_at_cem43`` (minutes) or ``shut_at_omega``, rests where tissue is frozen, and can be shut
    by hand. ``tolerance_k`` is the error allowed in one step, ``longest_s`` its longest; method
    ``euler`` takes explicit steps of at most ``longest_s`` within the limit of stability.

    Temperatures are stored as differences from the blood's: float32 (the default without phase
    change) then resolves a microkelvin; doses and sums are float64.
    Raises InputError for shapes that do not agree and numbers that cannot be.
    """

    def __init__(
        self,
        tissue: Tissue,
        *,
        start_c: ArrayLike,
        edge_c: float | None = None,
        freezing: Change | None = None,
        boiling: Change | None = None,
        cem43: Cem43 | None = None,
        arrhenius: Arrhenius | None = None,
        shut_at_cem43: float | None = None,
        shut_at_omega: float | None = None,
        method: Method = "rkl2",
        tolerance_k: float = 0.01,
        longest_s: float = float("inf"),
        dtype: DTypeLike | None = None,
    ) -> None:
        if not (tolerance_k > 0 and longest_s > 0 and all(h > 0 for h in tissue.spacing_m)):
            raise InputError("tolerance, longest step and spacing must be above 0")
        if shut_at_cem43 is not None and cem43 is None:
            raise InputError("perfusion cannot end at a CEM43 that is not counted; give cem43")
        if shut_at_omega is not None and arrhenius is None:
            raise InputError("perfusion cannot end at a damage not counted; give arrhenius")
        self.shape = tissue.shape
        self.spacing_m = tissue.spacing_m
        self.blood_c = float(tissue.blood_c)
        self.enthalpy = freezing is not None or boiling is not None
        self._type = np.dtype(dtype or (np.float64 if self.enthalpy else np.float32))
        self._method, self._tolerance, self._longest = method, float(tolerance_k), float(longest_s)
        self._capacity = self._given(tissue.heat_capacity_j_m3k, "heat capacity", above=True)
        self._k = self._given(tissue.conductivity_w_mk, "conductivity", above=True)
        self._w_alive = self._given(tissue.perfusion_w_m3k, "perfusion")
        self._freezing, self._boiling = freezing, boiling
        self._set_phase(freezing, boiling)
        self._edge = edge_c
        padded = tuple(n + 2 for n in self.shape)
        self._g = [np.zeros(padded, self._type) for _ in range(3)]
        self._inverse = np.zeros(padded, self._type)
        self._w = np.zeros(padded, self._type)
        self._q = np.zeros(padded, self._type)
        ghost = 0.0 if edge_c is None else edge_c - self.blood_c
        # State and temperature above the blood's, now and after a trial step; without change of
        # phase they are the same arrays.
        self._y, self._new = (np.full(padded, ghost, self._type) for _ in range(2))
        self._t, self._t_new = self._y, self._new
        if self.enthalpy:
            self._t, self._t_new = (np.full(padded, ghost, self._type) for _ in range(2))
        # What a step has added so far, in the last two stages (0 outside).
        self._d = [np.zeros(padded, self._type) for _ in range(2 if self.enthalpy else 4)]
        self._rings = np.zeros((0, 0, 0, 0), self._type)
        self._theta = np.zeros(padded if self.enthalpy else (0, 0, 0), self._type)
        self._f, self._f_new = (np.zeros(padded, self._type) for _ in range(2))
        self._row_error = np.zeros(self.shape[:2])
        self._flat = np.zeros(padded if self.enthalpy else (0, 0, 0), self._type)
        self._fixed = np.zeros(self.shape, np.bool_)
        self._inverse_of: NDArray[np.bool_] | None = None
        self._laid: tuple[Laid | None, float] = (None, float("inf"))
        self._cuts: list[tuple[int, Any, Any, Any, Any]] = []
        self._shut = np.zeros(self.shape, np.bool_)
        start = np.broadcast_to(np.asarray(start_c, np.float64), self.shape)
        self._put(start, np.ones(self.shape, np.bool_))
        self._peak, self._lowest = (np.zeros(padded, np.float32) for _ in range(2))
        self.peak_c[...] = self.lowest_c[...] = start
        never = float("inf")
        self._rules = dose.numbers(cem43, arrhenius)
        self._stops = np.array(
            [never if at is None else at for at in (shut_at_cem43, shut_at_omega)]
        )
        none = np.zeros((0, 0, 0))
        self.cem43_min = np.zeros(self.shape) if cem43 else none
        self.omega = np.zeros(self.shape) if arrhenius else none
        self.time_s = 0.0
        self.steps = self.stages = 0
        self._next_s = 0.0  # the step the error control would take
        self._refresh()

    # --- what it says --------------------------------------------------------------------------

    @property
    def temperature_c(self) -> NDArray[np.float64]:
        """How warm each voxel is now, degC."""
        return _inner(self._t).astype(np.float64) + self.blood_c

    @property
    def peak_c(self) -> NDArray[np.float32]:
        """The highest temperature each voxel has had, degC: a window on it, not a copy."""
        return _inner(self._peak)

    @property
    def lowest_c(self) -> NDArray[np.float32]:
        """The lowest temperature each voxel has had, degC: a window on it, not a copy."""
        return _inner(self._lowest)

    @property
    def heat_j(self) -> float:
        """Heat held above blood temperature (unfrozen, not boiled), J; fixed voxels not counted."""
        y = _inner(self._y).astype(np.float64)
        volume = float(np.prod(self.spacing_m))
        if self.enthalpy:
            origin = self._enthalpy_at(np.zeros(self.shape))
            return float((y - origin)[~self._fixed].sum() * volume)
        return float((y * self._capacity)[~self._fixed].sum() * volume)

    @property
    def explicit_s(self) -> float:
        """The longest step that explicit Euler may take here (Gershgorin's bound), s."""
        return self._limit_s

    # --- what one does to it -------------------------------------------------------------------

    def fix(
        self,
        where: NDArray[np.bool_],
        celsius: ArrayLike,
        *,
        laid: Laid | None = None,
        transfer_w_m2k: float = float("inf"),
    ) -> None:
        """Hold these voxels at a temperature from now on (a probe); others are free again.

        ``laid`` tells how thin rods meet the grid (``rod.lay``), so that what they hold warms or
        cools as their true surface does; ``transfer_w_m2k`` is what that surface passes on for
        each degree. Without it the surface runs through the held voxels' faces.
        """
        if where.shape != self.shape:
            raise InputError(f"the fixed voxels have shape {where.shape}; expected {self.shape}")
        if not transfer_w_m2k > 0:
            raise InputError(f"a heat transfer of {transfer_w_m2k} W/m2K; expected more than 0")
        if laid is not None and laid.held[0].shape != self.shape:
            raise InputError(
                f"the rods were laid on shape {laid.held[0].shape}; expected {self.shape}"
            )
        same = laid is self._laid[0] and transfer_w_m2k == self._laid[1]
        values = np.broadcast_to(np.asarray(celsius, np.float64), self.shape)
        moved = not same or not np.array_equal(self._fixed, where)
        self._fixed = where.copy()
        self._laid = (laid, transfer_w_m2k)
        if moved:
            self._cut()
        self._put(values, where)
        self._widen(where)
        if moved:
            self._refresh()

    def shut_perfusion(self, where: NDArray[np.bool_]) -> None:
        """No blood flows through these voxels any more."""
        self._shut |= where
        self._set_perfusion()

    def advance(self, seconds: float, *, source_w_m3: ArrayLike = 0.0) -> int:
        """March on by so many seconds with this heat source; returns the steps taken.

        ``source_w_m3`` is constant during the call: an array, or a number for all.
        """
        if not seconds > 0:
            raise InputError(f"an advance of {seconds} s; expected more than 0")
        _inner(self._q)[...] = source_w_m3
        end, before = self.time_s + seconds, self.steps
        if self._method == "euler" and not self.enthalpy:
            self._explicit(seconds)
        else:
            self._rate(self._f)
            while end - self.time_s > 1e-9 * max(1.0, seconds):
                self._one(end - self.time_s)
        self.time_s = end
        return self.steps - before

    # --- one step ------------------------------------------------------------------------------

    def _one(self, left: float) -> None:
        """One accepted step of at most ``left`` seconds."""
        if self._method == "euler":
            most = min(self._limit_s, self._longest)
            step = _even(left, most)
            self._euler(step)
            self._accept(step)
            return
        most, least = (_STAGES**2 + _STAGES - 2) / 4 * self._limit_s, _LEAST * self._limit_s
        while True:
            wanted = min(self._next_s or self._limit_s, self._longest, most)
            step = _even(left, wanted)
            error = self._super(step) / self._tolerance
            better = _SAFETY * max(error, 1e-12) ** (-1 / 3)
            if error <= 1.0 or step <= least:
                break
            self._next_s = max(least, step * max(_SHRINK, better))
        suggested = step * min(_GROW, max(_SHRINK, better))
        cut_short = step < wanted
        self._next_s = max(suggested, self._next_s) if cut_short and error <= 1.0 else suggested
        self._next_s = max(self._next_s, least)
        self._accept(step)

    def _explicit(self, seconds: float) -> None:
        """Explicit steps without change of phase, several in one pass through memory.

        Where a dose may stop the blood each step stands alone, for its neighbours must know.
        """
        step = _even(seconds, min(self._limit_s, self._longest))
        left = round(seconds / step)
        alone = bool(np.isfinite(self._stops).any())
        strips = _strips(self.shape)
        while left:
            together = 1 if alone else min(left, _TOGETHER)
            _march(
                self._y, *self._g, self._inverse, self._w, self._q, self._new,
                self._scratch(together, strips), *self._watched(step), together, strips,
            )  # fmt: skip
            self._y, self._new = self._new, self._y
            self._t, self._t_new = self._y, self._new
            self.time_s += together * step
            self.steps += together
            self.stages += together
            left -= together

    def _scratch(self, together: int, strips: int) -> Float:
        """Three slices of each step between the first and the last, for each strip of rows."""
        rows = -(-self.shape[1] // strips) + 2 * together
        shape = (strips, max(together - 1, 1), 3, rows * (self.shape[2] + 2))
        if self._rings.shape != shape:
            self._rings = np.zeros(shape, self._type)
        return self._rings

    def _euler(self, step: float) -> None:
        _plus(self._y, step, self._f, self._new, _ranges(self.shape))
        self._to_temperature(self._new)
        self.stages += 1

    def _super(self, step: float) -> float:
        """A trial step into ``_new``; returns the estimate of its error, K.

        Only what the step adds is carried through the stages, so that float32 rounds the change and
        not the temperature: with d = Y - Y0 the rate is F0 + L (T - T0), for it is linear in T.
        """
        s = max(3, int(np.ceil((np.sqrt(9.0 + 16.0 * step / self._limit_s) - 1.0) / 2.0)))
        s += 1 - s % 2  # an odd number damps best
        self.stages += s
        w1 = 4.0 / (s * s + s - 2.0)
        weights = np.zeros((s + 1, 4), self._type)
        for j in range(2, s + 1):
            b, b1, b2 = _b(j), _b(j - 1), _b(j - 2)
            mu = (2.0 * j - 1.0) / j * b / b1
            nu = 0.0 if j == 2 else -(j - 1.0) / j * b / b2  # nothing was added in stage 0
            mut = mu * w1 * step
            weights[j] = mu, nu, mut, mut - (1.0 - b1) * mut
        ranges = _ranges(self.shape)
        _times(w1 / 3.0 * step, self._f, self._d[1], ranges)
        last = self._by_enthalpy(weights) if self.enthalpy else self._together(weights)
        _plus(self._y, 1.0, last, self._new, ranges)
        self._to_temperature(self._new)
        slope = self._slopes() if self.enthalpy else np.zeros((0, 0, 0), self._type)
        _end(
            self._t_new, last, self._f, self._f_new, *self._g, self._inverse, self._w, self._q,
            slope, np.array([step], self._type), self._row_error, ranges,
        )  # fmt: skip
        return float(self._row_error[:, 0].max())

    def _together(self, weights: Float) -> Float:
        """All stages of a step, several in one pass through memory; what they add."""
        (before, last), (other, more) = self._d[:2], self._d[2:]
        strips, stages = _strips(self.shape), len(weights) - 2
        passes = -(-stages // _TOGETHER)
        for k in range(passes):
            part = weights[2 + stages * k // passes : 2 + stages * (k + 1) // passes]
            _legendre(
                last if k == 0 else before, last, self._f, *self._g, self._inverse, self._w, part,
                other, more, self._scratch(len(part), strips), strips,
            )  # fmt: skip
            before, last, other, more = other, more, before, last
        self._d = [before, last, other, more]
        return last

    def _by_enthalpy(self, weights: Float) -> Float:
        """All stages of a step, each with the temperatures of its own state."""
        before, last = self._d
        for j in range(2, len(weights)):
            _stage(
                self._rise(last), last, last if j == 2 else before, self._f, before, *self._g,
                self._inverse, self._w, weights[j], _ranges(self.shape),
            )  # fmt: skip
            before, last = last, before
        return last

    def _rise(self, d: Float) -> Float:
        """By how much the temperature has risen in the step, for what was added to the state."""
        _rises(self._y, d, self._t, self._curve, self._knots, self._theta, _ranges(self.shape))
        return self._theta

    def _accept(self, step: float) -> None:
        """Take the trial step as done; add up doses; see to perfusion, frozen and shut."""
        self._y, self._new = self._new, self._y
        self._t, self._t_new = self._t_new, self._t
        self.time_s += step
        self.steps += 1
        # What of the rate the blood carries off ends where the dose stops it.
        _watch(
            self._t_new, self._t, self._inverse, self._w, self._f_new, *self._watched(step),
            _ranges(self.shape),
        )  # fmt: skip
        if self.enthalpy:
            self._refresh()
            self._rate(self._f)
        else:
            self._f, self._f_new = self._f_new, self._f

    def _watched(self, step: float) -> tuple[Any, ...]:
        """What is kept of every step: extremes, doses, and where they stopped the blood."""
        return (
            np.full(1, self.blood_c, self._type)[0], step, self._rules, self._stops, self._peak,
            self._lowest, self.cem43_min, self.omega, self._shut,
        )  # fmt: skip

    def _rate(self, out: Float) -> None:
        _slope(self._t, *self._g, self._inverse, self._w, self._q, out, _ranges(self.shape))

    # --- enthalpy ------------------------------------------------------------------------------

    def _to_temperature(self, y: Float) -> None:
        """Temperatures of a state after a trial step."""
        if self.enthalpy:
            nothing = np.zeros_like(y)
            ghosts = self._t_new
            _rises(y, nothing, nothing, self._curve, self._knots, ghosts, _ranges(self.shape))

    def _set_phase(self, freezing: Change | None, boiling: Change | None) -> None:
        """Enthalpy against temperature: five straight pieces, 0 where freezing begins."""
        for change in (freezing, boiling):
            if change is not None and not change.from_c < change.to_c:
                raise InputError(
                    f"a change of phase from {change.from_c} to {change.to_c} degC; expected an "
                    "interval"
                )
        if freezing and boiling and freezing.to_c >= boiling.from_c:
            raise InputError("tissue cannot boil before it has thawed; check the two intervals")
        c = self._capacity
        cold = c
        self._k_frozen = self._k
        if freezing is not None and freezing.frozen_capacity_j_m3k is not None:
            cold = self._given(freezing.frozen_capacity_j_m3k, "frozen capacity", above=True)
        if freezing is not None and freezing.frozen_conductivity_w_mk is not None:
            given = freezing.frozen_conductivity_w_mk
            self._k_frozen = self._given(given, "frozen conductivity", above=True)
        self._slowest = np.minimum(c, cold)
        if not self.enthalpy:
            return
        ice = self._given(freezing.latent_j_m3, "latent heat") if freezing else np.zeros(self.shape)
        gas = self._given(boiling.latent_j_m3, "latent heat") if boiling else np.zeros(self.shape)
        # Without a change its interval lies where no temperature is.
        ends = (freezing.from_c, freezing.to_c) if freezing else (-1001.0, -1000.0)
        tops = (boiling.from_c, boiling.to_c) if boiling else (1e6, 1e6 + 1.0)
        self._knots = np.array([*ends, *tops]) - self.blood_c
        melting = ice / (ends[1] - ends[0]) + (c + cold) / 2.0
        seething = gas / (tops[1] - tops[0]) + c
        # Capacities of the pieces: frozen, freezing, thawed, boiling; boiled as thawed.
        self._curve = np.stack([cold, melting, c, seething], axis=-1)

    def _enthalpy_at(self, u: Float) -> NDArray[np.float64]:
        a, b, d, e = self._knots
        cold, melting, c, seething = np.moveaxis(self._curve, -1, 0)
        out: NDArray[np.float64] = (
            cold * np.minimum(u - a, 0.0)
            + melting * (np.clip(u, a, b) - b)
            + c * (np.clip(u, b, d) - b + np.maximum(u - e, 0.0))
            + seething * (np.clip(u, d, e) - d)
        )
        return out

    def _slopes(self) -> Float:
        """Degrees for each unit of enthalpy: the least at both ends of a step, for its error."""
        _flattest(
            self._t, self._t_new, self._curve, self._knots, self._flat, _ranges(self.shape)
        )  # fmt: skip
        return self._flat

    # --- setting up ----------------------------------------------------------------------------

    def _given(self, values: ArrayLike, what: str, above: bool = False) -> NDArray[np.float64]:
        a = np.asarray(values, np.float64)
        try:
            a = np.ascontiguousarray(np.broadcast_to(a, self.shape))
        except ValueError as error:
            raise InputError(f"the {what} has shape {a.shape}; expected {self.shape}") from error
        if not np.all(np.isfinite(a)) or np.any(a <= 0 if above else a < 0):
            least = "above 0" if above else "not below 0"
            raise InputError(f"the {what} must be finite and {least} in every voxel")
        return a

    def _put(self, celsius: NDArray[np.float64], where: NDArray[np.bool_]) -> None:
        """Write temperatures into the state."""
        u = celsius - self.blood_c
        y = self._enthalpy_at(u) if self.enthalpy else u
        _inner(self._y)[where] = y[where]
        if self.enthalpy:
            _inner(self._t)[where] = u[where]

    def _widen(self, where: NDArray[np.bool_]) -> None:
        """The extremes include what was put in by hand."""
        now = self.temperature_c[where].astype(np.float32)
        self.peak_c[where] = np.maximum(self.peak_c[where], now)
        self.lowest_c[where] = np.minimum(self.lowest_c[where], now)

    def _refresh(self) -> None:
        """Conductances, capacities, perfusion and the limit of an explicit step, as things are."""
        if self.enthalpy:
            a, b = self._knots[0], self._knots[1]
        else:  # nothing is frozen
            a, b = -1e9, -1e9 + 1.0
        over = np.array([1.0 / h**2 for h in self.spacing_m])
        ranges = _ranges(self.shape)
        _conducts(self._t, self._k, self._k_frozen, a, b, over, *self._g, ranges)
        if self._edge is not None:
            self._lay_edges(a, b)
        self._lay_cuts(a, b)
        if self._inverse_of is not self._fixed:
            _inner(self._inverse)[...] = np.where(
                self._fixed, 0.0, 1.0 if self.enthalpy else 1.0 / self._capacity
            )
            self._inverse_of = self._fixed
        self._set_perfusion()
        # The fastest rate of any voxel: all its conductances and its perfusion.
        _fastest(*self._g, self._w_alive, self._slowest, self._fixed, self._row_error, ranges)
        fastest = float(self._row_error.max())
        self._limit_s = 1.0 / fastest if fastest > 0 else 1e9

    def _lay_edges(self, a: float, b: float) -> None:
        """The outer faces, half a voxel from what is held there."""
        for axis, h in enumerate(self.spacing_m):
            for face, end in zip(
                _faces(_inner_along(self._g[axis], axis), axis), (0, -1), strict=True
            ):
                t, k, ice = (
                    np.take(v, end, axis) for v in (_inner(self._t), self._k, self._k_frozen)
                )
                face[...] = 2.0 * (k + np.clip((b - t) / (b - a), 0.0, 1.0) * (ice - k)) / h**2

    def _cut(self) -> None:
        """Faces between free and held voxels beside rods: where, the free voxel, the factors."""
        self._cuts = []
        laid = self._laid[0]
        if laid is None:
            return
        number = np.arange(self._fixed.size).reshape(self.shape)
        for axis in range(3):
            held, ids = sides(self._fixed, axis), sides(number, axis)
            rods = sides(laid.every, axis)
            for free, fixed in ((0, 1), (1, 0)):
                at = ~held[free] & held[fixed] & rods[fixed]
                self._cuts.append(
                    (axis, np.nonzero(at), ids[free][at], laid.factor[axis][at],
                     laid.skin[axis][at])
                )  # fmt: skip

    def _lay_cuts(self, a: float, b: float) -> None:
        """To a rod's surface the free voxel's own k counts, then what the surface passes on."""
        laid, transfer = self._laid
        if laid is None:
            return
        for axis in range(3):
            g = _between(_inner_along(self._g[axis], axis), axis)
            g *= laid.factor[axis]
        for axis, faces, free, factor, skin in self._cuts:
            h = self.spacing_m[axis]
            k, thawing = self._k.ravel()[free], _inner(self._t)[np.unravel_index(free, self.shape)]
            ice = np.clip((b - thawing) / (b - a), 0.0, 1.0)
            k = k + ice * (self._k_frozen.ravel()[free] - k)
            g = _between(_inner_along(self._g[axis], axis), axis)
            g[faces] = 1.0 / (h / (k * factor) + 1.0 / (transfer * skin)) / h

    def _set_perfusion(self) -> None:
        cold = self._knots[1] if self._freezing is not None else -np.inf
        _perfuse(self._t, cold, self._shut, self._w_alive, self._w, _ranges(self.shape))


def warm() -> None:
    """Compile what heating (float32 and float64) and phase change need."""
    shape = (4, 4, 4)
    rules = {
        "cem43": Cem43(above=0.5, below=0.25, from_c=39.0),
        "arrhenius": Arrhenius(a_per_s=1.0, ea_j_mol=1.0),
    }
    for big in (False, True):
        n = shape if not big else (32, 32, 32)
        tissue = Tissue(
            shape=n, spacing_m=(1e-3, 1e-3, 1e-3), heat_capacity_j_m3k=1e6, conductivity_w_mk=1.0,
            perfusion_w_m3k=0.0, blood_c=0.0,
        )  # fmt: skip
        ice = Change(from_c=-2.0, to_c=-1.0, latent_j_m3=1.0)
        for dtype in (np.float32, np.float64):
            for method in ("rkl2", "euler"):
                body = Bioheat(tissue, start_c=0.0, dtype=dtype, method=method, **rules)  # type: ignore[arg-type]
                body.advance(1.0)
        Bioheat(tissue, start_c=0.0, freezing=ice, **rules).advance(1.0)  # type: ignore[arg-type]


# --- views of a padded array ------------------------------------------------------------------


def _inner(a: NDArray[Any]) -> NDArray[Any]:
    return a[1:-1, 1:-1, 1:-1]


def _inner_along(g: NDArray[Any], axis: int) -> NDArray[Any]:
    """Faces along one axis from the first outer to the last outer one; face i lies before cell i.

    ``g`` [z, y, x] of axis z is the conductance between padded voxels z and z + 1.
    """
    cut = [slice(1, -1)] * 3
    cut[axis] = slice(0, -1)
    return g[tuple(cut)]


def _faces(g: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    first: list[Any] = [slice(None)] * 3
    last: list[Any] = [slice(None)] * 3
    first[axis], last[axis] = 0, -1
    return g[tuple(first)], g[tuple(last)]


def _between(g: NDArray[Any], axis: int) -> NDArray[Any]:
    cut = [slice(None)] * 3
    cut[axis] = slice(1, -1)
    return g[tuple(cut)]


def _even(left: float, most: float) -> float:
    """The longest step of at most ``most`` of which a whole number fills what is left."""
    return left / max(1.0, float(np.ceil(left / most - 1e-9)))


def _b(j: int) -> float:
    return 1.0 / 3.0 if j < 2 else (j * j + j - 2.0) / (2.0 * j * (j + 1.0))


def _ranges(shape: tuple[int, int, int]) -> int:
    """Into how many ranges of rows work is cut; 1 for a small grid."""
    return 1 if np.prod(shape) < _SERIAL else 4 * int(get_num_threads())


def _strips(shape: tuple[int, int, int]) -> int:
    """Into how many strips of rows explicit steps are cut; 1 for a small grid."""
    if np.prod(shape) < _SERIAL:
        return 1
    threads = int(get_num_threads())
    return min(shape[1], threads * max(1, round(shape[1] / (threads * _STRIP))))


# --- kernels: padded arrays; the loops take rows first..last of the inner ones -------------------
#
# Sums are taken in pairs of opposite faces and nothing is reassociated, so that a mirrored problem
# gives the mirrored answer to the last bit.


@njit(cache=True, nogil=True, error_model="numpy")
def _flat(a: Any) -> Any:
    """Each slice as one line."""
    return a.reshape(a.shape[0], a.shape[1] * a.shape[2])


@njit(cache=True, nogil=True, error_model="numpy")
def _slope_line(
    c: Any, left: Any, right: Any, front: Any, back: Any, below: Any, above: Any, g_left: Any,
    g_right: Any, g_front: Any, g_back: Any, g_below: Any, g_above: Any, inverse: Any, w: Any,
    q: Any, out: Any,
) -> None:  # fmt: skip
    """out = inverse (div(g grad c) - w c + q)."""
    for x in range(out.size):
        u = c[x]
        along_x = g_left[x] * (left[x] - u) + g_right[x] * (right[x] - u)
        along_y = g_front[x] * (front[x] - u) + g_back[x] * (back[x] - u)
        along_z = g_below[x] * (below[x] - u) + g_above[x] * (above[x] - u)
        out[x] = inverse[x] * (along_x + along_y + along_z - w[x] * u + q[x])


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
        u, g, h = t[z], gy[z], gx[z]
        _slope_line(
            u[o:e], u[o - 1 : e - 1], u[o + 1 : e + 1], u[o - row : e - row], u[o + row : e + row],
            t[z - 1, o:e], t[z + 1, o:e], h[o - 1 : e - 1], h[o:e], g[o - row : e - row], g[o:e],
            gz[z - 1, o:e], gz[z, o:e], inverse[z, o:e], w[z, o:e], q[z, o:e], out[z, o:e],
        )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _slope_parallel(
    t: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any, q: Any, out: Any, ranges: int
) -> None:
    nz = t.shape[0] - 2
    for k in prange(ranges):
        _slope_part(
            t, gz, gy, gx, inverse, w, q, out, nz * k // ranges + 1, nz * (k + 1) // ranges + 1
        )


def _slope(t: Any, *rest: Any) -> None:
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
        along_x = g_left[x] * (left[x] - u) + g_right[x] * (right[x] - u)
        along_y = g_front[x] * (front[x] - u) + g_back[x] * (back[x] - u)
        along_z = g_below[x] * (below[x] - u) + g_above[x] * (above[x] - u)
        slope = along_x + along_y + along_z - w[x] * u
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
        u, g, h = t[z], gy[z], gx[z]
        for o in range(start, end, _LINE):
            e = min(o + _LINE, end)
            _stage_line(
                u[o:e], u[o - 1 : e - 1], u[o + 1 : e + 1], u[o - row : e - row],
                u[o + row : e + row], t[z - 1, o:e], t[z + 1, o:e], h[o - 1 : e - 1], h[o:e],
                g[o - row : e - row], g[o:e], gz[z - 1, o:e], gz[z, o:e], inverse[z, o:e],
                w[z, o:e], last_d[z, o:e], older[z, o:e], f0[z, o:e], weights, line[: e - o],
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


def _stage(t: Any, *rest: Any) -> None:
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
def _end_part(
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
def _end_parallel(
    t: Any, d: Any, f0: Any, f1: Any, gz: Any, gy: Any, gx: Any, inverse: Any, w: Any, q: Any,
    slope: Any, step: Any, error: Any, ranges: int,
) -> None:  # fmt: skip
    nz = t.shape[0] - 2
    for k in prange(ranges):
        _end_part(
            t, d, f0, f1, gz, gy, gx, inverse, w, q, slope, step, error,
            nz * k // ranges + 1, nz * (k + 1) // ranges + 1,
        )  # fmt: skip


def _end(t: Any, *rest: Any) -> None:
    *arrays, ranges = rest
    if ranges == 1:
        _end_part(t, *arrays, 1, t.shape[0] - 1)
    else:
        _end_parallel(t, *arrays, ranges)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _plus_parallel(y: Any, x: Any, f: Any, out: Any) -> None:
    for z in prange(out.shape[0]):
        out[z] = y[z] + x * f[z]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _times_parallel(x: Any, f: Any, out: Any) -> None:
    for z in prange(out.shape[0]):
        out[z] = x * f[z]


def _plus(y: Any, x: float, f: Any, out: Any, ranges: int) -> None:
    """out = y + x f; the outer layer stays, for there f is 0."""
    factor = y.dtype.type(x)
    if ranges == 1:
        np.multiply(f, factor, out=out)
        np.add(out, y, out=out)
    else:
        _plus_parallel(y, factor, f, out)


def _times(x: float, f: Any, out: Any, ranges: int) -> None:
    """out = x f."""
    factor = f.dtype.type(x)
    if ranges == 1:
        np.multiply(f, factor, out=out)
    else:
        _times_parallel(factor, f, out)


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


def _rises(y: Any, *rest: Any) -> None:
    *arrays, ranges = rest
    if ranges == 1:
        _rise_rows(y, *arrays, 0, (y.shape[0] - 2) * (y.shape[1] - 2))
    else:
        _rise_parallel(y, *arrays, ranges)


# --- explicit steps, and what is kept of every step -----------------------------------------------
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
        along_x = g_left[x] * (left[x] - u) + g_right[x] * (right[x] - u)
        along_y = g_front[x] * (front[x] - u) + g_back[x] * (back[x] - u)
        along_z = g_below[x] * (below[x] - u) + g_above[x] * (above[x] - u)
        out[x] = u + step * (inverse[x] * (along_x + along_y + along_z - w[x] * u + q[x]))


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


def _watch(*arrays: Any) -> None:
    *rest, ranges = arrays
    if ranges == 1:
        _watch_part(*rest, 1, rest[-1].shape[0] + 1)
    else:
        _watch_parallel(*rest, ranges)


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
            below, mid, above = y2[z - 1], y2[z], y2[z + 1]
            a = o
            if k > 1:
                a = o - start
                mid = ring[k - 2, z % 3]
                if z > 1:
                    below = ring[k - 2, (z - 1) % 3]
                if z < nz:
                    above = ring[k - 2, (z + 1) % 3]
            into, e = out2[z], o
            if k < together:
                into, e = ring[k - 1, z % 3], o - start
            g, h = gy2[z], gx2[z]
            below_o = o if z == 1 else a
            above_o = o if z == nz else a
            _explicit_line(
                mid[a : a + m], mid[a - 1 : a - 1 + m], mid[a + 1 : a + 1 + m],
                mid[a - row : a - row + m], mid[a + row : a + row + m],
                below[below_o : below_o + m], above[above_o : above_o + m],
                h[o - 1 : o - 1 + m], h[o : o + m], g[o - row : o - row + m], g[o : o + m],
                gz2[z - 1, o : o + m], gz2[z, o : o + m], i2[z, o : o + m], w2[z, o : o + m],
                q2[z, o : o + m], dt, into[e : e + m],
            )  # fmt: skip
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


def _march(*arrays: Any) -> None:
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
            below, mid, above, a = latest2[z - 1], latest2[z], latest2[z + 1], o
            older, b = before2[z], o
            if k > 1:
                a = o - start
                mid = ring[k - 2, z % 3]
                older, b = latest2[z], o
                if z > 1:
                    below = ring[k - 2, (z - 1) % 3]
                if z < nz:
                    above = ring[k - 2, (z + 1) % 3]
            if k > 2:
                older, b = ring[k - 3, z % 3], a
            into, e = out2[z], o
            if k < together:
                into, e = ring[k - 1, z % 3], o - start
            g, h = gy2[z], gx2[z]
            below_o = o if z == 1 else a
            above_o = o if z == nz else a
            _stage_line(
                mid[a : a + m], mid[a - 1 : a - 1 + m], mid[a + 1 : a + 1 + m],
                mid[a - row : a - row + m], mid[a + row : a + row + m],
                below[below_o : below_o + m], above[above_o : above_o + m],
                h[o - 1 : o - 1 + m], h[o : o + m], g[o - row : o - row + m], g[o : o + m],
                gz2[z - 1, o : o + m], gz2[z, o : o + m], i2[z, o : o + m], w2[z, o : o + m],
                mid[a : a + m], older[b : b + m], f2[z, o : o + m], weights[k - 1],
                into[e : e + m],
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


def _legendre(*arrays: Any) -> None:
    *rest, rings, strips = arrays
    if strips == 1:
        _legendre_strip(*rest, rings[0], 1, rest[0].shape[1] - 1)
    else:
        _legendre_parallel(*rest, rings, strips)


# --- what changes with the temperature -----------------------------------------------------------


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
def _conducts(
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
def _fastest(
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
def _perfuse(t: Any, cold: float, shut: Any, alive: Any, out: Any, ranges: int) -> None:
    """Blood flows where tissue is neither dead nor frozen."""
    nz, ny, nx = alive.shape
    for part in prange(ranges):
        for r in range(nz * ny * part // ranges, nz * ny * (part + 1) // ranges):
            z, y = r // ny, r % ny
            for x in range(nx):
                still = shut[z, y, x] or t[z + 1, y + 1, x + 1] < cold
                out[z + 1, y + 1, x + 1] = 0.0 if still else alive[z, y, x]


@njit(cache=True, nogil=True, error_model="numpy")
def _piece(u: Any, knots: Any, c: Any) -> Any:
    """The capacity of the piece of the enthalpy's curve on which a temperature lies."""
    if u <= knots[0]:
        return c[0]
    if u <= knots[1]:
        return c[1]
    return c[3] if knots[2] < u <= knots[3] else c[2]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _flattest(t0: Any, t1: Any, curve: Any, knots: Any, out: Any, ranges: int) -> None:
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
