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
from numpy.typing import ArrayLike, DTypeLike, NDArray

from trocar.errors import InputError
from trocar.kernels import dose
from trocar.kernels.dose import Arrhenius, Cem43
from trocar.kernels.heat_loops import (
    finish,
    legendre,
    march,
    plus,
    ranges_of,
    slope,
    stage,
    strips_of,
    times,
    watch,
)
from trocar.kernels.heat_tissue import conducts, fastest, flattest, perfuse, rises
from trocar.kernels.rod import Laid, sides

Float = NDArray[np.floating[Any]]
Method = Literal["rkl2", "euler"]

_STAGES = 101  # the most stages of a step; far beyond, float32 rounding would add up
_LEAST = 1 / 64  # of an explicit step; where even this errs (a jump) time must go on all the same
_GROW, _SHRINK, _SAFETY = 2.0, 0.2, 0.8  # of the step control, as usual for such schemes
_TOGETHER = 8  # explicit steps taken in one pass through memory


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
        strips = strips_of(self.shape)
        while left:
            together = 1 if alone else min(left, _TOGETHER)
            march(
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
        plus(self._y, step, self._f, self._new, ranges_of(self.shape))
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
        ranges = ranges_of(self.shape)
        times(w1 / 3.0 * step, self._f, self._d[1], ranges)
        last = self._by_enthalpy(weights) if self.enthalpy else self._together(weights)
        plus(self._y, 1.0, last, self._new, ranges)
        self._to_temperature(self._new)
        slope = self._slopes() if self.enthalpy else np.zeros((0, 0, 0), self._type)
        finish(
            self._t_new, last, self._f, self._f_new, *self._g, self._inverse, self._w, self._q,
            slope, np.array([step], self._type), self._row_error, ranges,
        )  # fmt: skip
        return float(self._row_error[:, 0].max())

    def _together(self, weights: Float) -> Float:
        """All stages of a step, several in one pass through memory; what they add."""
        (before, last), (other, more) = self._d[:2], self._d[2:]
        strips, stages = strips_of(self.shape), len(weights) - 2
        passes = -(-stages // _TOGETHER)
        for k in range(passes):
            part = weights[2 + stages * k // passes : 2 + stages * (k + 1) // passes]
            legendre(
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
            stage(
                self._rise(last), last, last if j == 2 else before, self._f, before, *self._g,
                self._inverse, self._w, weights[j], ranges_of(self.shape),
            )  # fmt: skip
            before, last = last, before
        return last

    def _rise(self, d: Float) -> Float:
        """By how much the temperature has risen in the step, for what was added to the state."""
        rises(self._y, d, self._t, self._curve, self._knots, self._theta, ranges_of(self.shape))
        return self._theta

    def _accept(self, step: float) -> None:
        """Take the trial step as done; add up doses; see to perfusion, frozen and shut."""
        self._y, self._new = self._new, self._y
        self._t, self._t_new = self._t_new, self._t
        self.time_s += step
        self.steps += 1
        # What of the rate the blood carries off ends where the dose stops it.
        watch(
            self._t_new, self._t, self._inverse, self._w, self._f_new, *self._watched(step),
            ranges_of(self.shape),
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
        slope(self._t, *self._g, self._inverse, self._w, self._q, out, ranges_of(self.shape))

    # --- enthalpy ------------------------------------------------------------------------------

    def _to_temperature(self, y: Float) -> None:
        """Temperatures of a state after a trial step."""
        if self.enthalpy:
            nothing = np.zeros_like(y)
            ghosts = self._t_new
            rises(y, nothing, nothing, self._curve, self._knots, ghosts, ranges_of(self.shape))

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
        flattest(
            self._t, self._t_new, self._curve, self._knots, self._flat, ranges_of(self.shape)
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
        ranges = ranges_of(self.shape)
        conducts(self._t, self._k, self._k_frozen, a, b, over, *self._g, ranges)
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
        fastest(*self._g, self._w_alive, self._slowest, self._fixed, self._row_error, ranges)
        most = float(self._row_error.max())
        self._limit_s = 1.0 / most if most > 0 else 1e9

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
        perfuse(self._t, cold, self._shut, self._w_alive, self._w, ranges_of(self.shape))


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
