"""Cement injected into one patient's bone in the computer: where it goes, when, at what pressure.

One injection follows the plan as an operator would: it watches for leaks, waits, pulls the needle
back, stops. A forecast repeats it with every uncertain number drawn anew and counts the leaks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar import places
from trocar.errors import InputError
from trocar.facts import limits
from trocar.kernels import flow
from trocar.model.case import Finding, Gravity, gravest_first
from trocar.model.plan import CementNeedle, CementPlan
from trocar.model.result import (
    CementLeak,
    Fill,
    Injection,
    InjectionEvent,
    InjectionState,
    LeakForecast,
    StopReason,
)
from trocar.model.space import Float, Mask, Volume
from trocar.simulation.porous import HOLE, SPONGY, VOID, Bed, Constants, value

Bool = NDArray[np.bool_]
Progress = Callable[[str, float], None]

_ML = 1e-6  # m3
_MM = 1e-3  # m
# One run of many may step coarser: its leaks begin at the same volume to a tenth of a ml.
_COARSE = {"share": 0.06, "tolerance": 1e-4}
_SNAPSHOTS = 80  # entries of the curve for the planned volume


def inject(
    bed: Bed,
    plan: CementPlan,
    *,
    constants: Constants | None = None,
    watch: bool = True,
    progress: Progress | None = None,
) -> Injection:
    """What happens when this plan is carried out in this bone?

    Needles are injected one after the other at the planned rate; a hand gives way where the
    syringe's limit is met. With ``watch``, the first cement seen outside the bone halts the
    injection (IPG179 2.2.3): in the canal, a foramen or a joint it ends there; elsewhere one waits
    for that cement to harden, then pulls the needle back, then gives up. It also ends when the
    planned volume is in, when the cement is too old, when nothing yields any more.
    Raises InputError for a needle that does not reach the bone.
    """
    run = _Operator(bed=bed, plan=plan, constants=constants or Constants(), watch=watch)
    why = run.carry_out(progress)
    return run.injection(why)


def forecast_leaks(
    bed: Bed,
    plan: CementPlan,
    *,
    runs: int | None = None,
    volume_ml: float | None = None,
    seed: int = 0,
    threads: int = 2,
    progress: Progress | None = None,
) -> LeakForecast:
    """How likely is a leak, by compartment and volume, when what is not known varies?

    ``runs`` injections without leak watching, each with constants from a scrambled Sobol sequence
    (``Constants.drawn``) and the needle's tip displaced, up to ``volume_ml`` (the plan's high
    limit). The same ``seed`` gives the same forecast, however many ``threads`` work on it.
    """
    from scipy.stats import qmc

    count = int(float(value("runs"))) if runs is None else runs
    if count < 2:
        raise InputError(f"a forecast of {count} runs says nothing; give two or more")
    most = max(plan.high_ml, plan.target_ml) if volume_ml is None else volume_ml
    needles = tuple(replace(n, volume_ml=n.volume_ml * most / plan.target_ml) for n in plan.needles)
    longer = replace(plan, needles=needles)
    shares = qmc.Sobol(len(Constants.names()), seed=np.random.default_rng(seed)).random(
        1 << int(np.ceil(np.log2(count)))
    )[:count]
    placement = float(limits.value("placement_error"))
    drawn = [Constants.drawn(np.clip(s, 1e-6, 1 - 1e-6), placement) for s in shares]
    onset = np.full((count, len(bed.compartments)), np.inf)
    ended = np.zeros(count)
    reached = np.zeros(bed.grid.shape, np.float32)

    def one(i: int) -> tuple[int, Float, float, Bool]:
        run = _Operator(
            bed=bed, plan=longer, constants=drawn[i], watch=False, trace=False, scheme=_COARSE
        )
        run.carry_out(None)
        return i, run.onsets_ml(), run.injected_ml, run.flow.fill >= 1 / 2

    pool = ThreadPoolExecutor(max_workers=max(1, threads))
    try:
        jobs = [pool.submit(one, i) for i in range(count)]
        for done, job in enumerate(as_completed(jobs), start=1):
            i, onset[i], ended[i], held = job.result()
            reached += held
            if progress is not None:
                progress("leak forecast", done / count)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    leaked = np.isfinite(onset).any(axis=0)
    return LeakForecast(
        lesion_id=plan.lesion_id,
        site=plan.site,
        runs=count,
        seed=seed,
        volume_ml=most,
        least_ml=float(value("counted_leak")),
        onset_ml={n: onset[:, k] for k, n in enumerate(bed.compartments) if leaked[k]},
        ended_ml=ended,
        reached=Volume(grid=bed.grid, values=reached / np.float32(count), unit="1"),
        alarms=places.ALARMS,
        drawn=_table(drawn),
        unknown=_unknown(bed),
        findings=_forecast_findings(bed),
    )


def _table(drawn: list[Constants]) -> dict[str, Float]:
    out = {}
    for k, name in enumerate(Constants.names()):
        if name.startswith("off_"):
            axis = ("off_first_mm", "off_second_mm", "off_along_mm").index(name)
            out[name] = np.array([c.off_mm[axis] for c in drawn])
        else:
            out[Constants.names()[k]] = np.array([getattr(c, name) for c in drawn], np.float64)
    return out


@dataclass(eq=False, kw_only=True)
class _Operator:
    """Somebody who carries out a plan: what has been done so far and what is seen."""

    bed: Bed
    plan: CementPlan
    constants: Constants
    watch: bool
    trace: bool = True  # keep the curve
    scheme: dict[str, Any] = field(default_factory=dict)  # how finely the kernel steps
    age_s: float = 0.0
    rows: list[tuple[float, ...]] = field(default_factory=list)
    events: list[InjectionEvent] = field(default_factory=list)
    waits: int = 0

    def __post_init__(self) -> None:
        plan, c = self.plan, self.constants
        self.flow = flow.Invasion(self.bed.medium(c))
        self.age_s = max(0.0, plan.start_s + c.late_s)
        self.latest_s = plan.latest_s
        cement = plan.cement
        self.cement = flow.Cement(
            consistency_pa_sn=cement.consistency_pa_sn * c.consistency,
            exponent=c.exponent if c.exponent is not None else cement.exponent,
            reference_s=cement.reference_s,
            growth_s=cement.growth_s(plan.room_c),
            most_pa_s=cement.most_pa_s,
        )
        self.chunk_ml = plan.target_ml / _SNAPSHOTS
        self.outside = self.bed.place > 0
        # In each compartment: what has set and is no longer in play, and what is soft and known.
        self.hardened_ml: Float = np.zeros(len(self.bed.compartments))
        self.known_ml: Float = np.zeros(len(self.bed.compartments))

    @property
    def injected_ml(self) -> float:
        return self.flow.injected_m3 / _ML

    def carry_out(self, progress: Progress | None) -> StopReason:
        """Every needle in turn; why it ended."""
        why: StopReason = "planned volume"
        for number, needle in enumerate(self.plan.needles):
            why = self._needle(number, needle, progress)
            if why in ("leak", "working window"):
                break
        self._note("finished", len(self.plan.needles) - 1 if why == "planned volume" else number)
        return why

    def _needle(self, number: int, needle: CementNeedle, progress: Progress | None) -> StopReason:
        start_ml = self.injected_ml
        back_mm = 0.0
        pulls = list(needle.pull_backs)
        self._note("injecting", number)
        spares = int(float(value("most_waits")))  # moves beyond the plan's own
        while True:
            done_ml = self.injected_ml - start_ml
            goal_ml = min(needle.volume_ml, pulls[0][0] if pulls else np.inf)
            why = self._push(number, needle, back_mm, start_ml + goal_ml, progress)
            done_ml = self.injected_ml - start_ml
            if why == flow.DONE and done_ml < goal_ml - 1e-9:
                return "working window"
            if (why == flow.DONE and not pulls) or done_ml >= needle.volume_ml - 1e-9:
                return "planned volume"
            if why == flow.DONE:
                move_mm = pulls.pop(0)[1]
            elif why == flow.WATCHED:
                leak = self._see_leak(number)
                if leak in places.ALARMS:
                    return "leak"
                if self._wait(number):
                    continue
                move_mm, spares = float(value("reposition")), spares - 1
            else:  # nothing yields: try further back
                move_mm, spares = float(value("reposition")), spares - 1
            moved = self._pull_back(needle, back_mm, move_mm) if spares >= 0 else 0.0
            if moved == 0.0:
                stuck: dict[int, StopReason] = {flow.WATCHED: "leak", flow.PRESSURE: "pressure"}
                if why == flow.DONE:
                    continue  # no bone left behind the tip: go on from where it is
                return stuck.get(why, "no room")
            back_mm += moved
            self._note("repositioned", number, moved_mm=moved)
            if why == flow.WATCHED:
                self._note("resumed", number)

    def _push(
        self,
        number: int,
        needle: CementNeedle,
        back_mm: float,
        goal_ml: float,
        progress: Progress | None,
    ) -> int:
        """Inject in small steps until a goal, a leak, the hand's limit or the clock."""
        tip = self._tip(needle, back_mm)
        radius_m = needle.needle.inner_mm / 2 * _MM
        rate = self.plan.rate_ml_s * _ML
        per = flow.needle_pressure_per_consistency(
            rate, radius_m, needle.needle.length_mm * _MM, self.cement.exponent
        )
        seen_m3 = (self.known_ml + float(value("visible_leak"))) * _ML
        step_ml = self.chunk_ml if self.trace else np.inf
        while True:
            aim_ml = min(goal_ml, self.injected_ml + step_ml)
            why = self.flow.advance(
                self.cement,
                tips=tip,
                rates_m3_s=rate,
                tip_radius_m=radius_m,
                start_s=self.age_s,
                seconds=max(0.0, self.latest_s - self.age_s),
                most_m3=aim_ml * _ML,
                most_pa=self.plan.pressure_limit_pa,
                hold=True,
                needle_per_s=per,
                watched=self.bed.place if self.watch else None,
                watched_m3=seen_m3 if self.watch else 0.0,
                **self.scheme,
            )
            if len(self.flow.history):
                self.age_s = max(self.age_s, float(self.flow.history[-1, flow.TIME]))
            if self.trace:
                self._snapshot()
            if progress is not None:
                progress("injection", min(1.0, self.injected_ml / self.plan.target_ml))
            late = self.age_s >= self.latest_s - 1e-6
            if why != flow.DONE or late or self.injected_ml >= goal_ml - 1e-9:
                return why

    def _tip(self, needle: CementNeedle, back_mm: float) -> tuple[int, int, int]:
        """The voxel of the tip: displaced as drawn, pulled back, and where cement can go."""
        way = needle.path.direction
        first = np.cross(way, np.eye(3)[int(np.argmin(np.abs(way)))])
        first /= np.linalg.norm(first)
        a, b, along = self.constants.off_mm
        tip = needle.path.end_mm - back_mm * way
        tip = tip + a * first + b * np.cross(way, first) + along * way
        voxel = self.bed.nearest_open(tip)
        gap = float(np.linalg.norm(self.bed.grid.to_world(np.array(voxel)) - tip))
        if gap > float(value("room")):
            raise InputError(
                f"the needle's tip is {gap:.0f} mm from the nearest open part of {self.plan.site}; "
                "give a needle that ends in the bone"
            )
        if not self.flow.is_open[voxel]:  # hardened there: the nearest place that is not
            voxel = self._nearest_free(tip)
        return voxel

    def _nearest_free(self, tip_mm: Float) -> tuple[int, int, int]:
        free = np.argwhere(self.flow.is_open & (self.bed.place == 0))
        if len(free) == 0:
            raise InputError(f"no open place is left in {self.plan.site}; plan less cement")
        gap = np.linalg.norm(self.bed.grid.to_world(free) - tip_mm, axis=1)
        z, y, x = (int(v) for v in free[np.argmin(gap)])
        return z, y, x

    def _see_leak(self, number: int) -> str:
        """Which compartment shows cement that was not known; the gravest if several do."""
        soft = self._by_place_ml()[1:] - self.hardened_ml
        fresh = soft - self.known_ml
        names = self.bed.compartments
        seen = {names[k] for k in np.flatnonzero(fresh > float(value("visible_leak")))}
        name = next((n for n in places.ALARMS if n in seen), names[int(np.argmax(fresh))])
        self.known_ml = soft
        self._note("leak detected", number, compartment=name)
        return name

    def _wait(self, number: int) -> bool:
        """Wait until what leaked has hardened in the warm body, if the rest stays usable so long.

        Hardened means as stiff as cement that can no longer be injected. It fills the way it took.
        """
        cement, plan = self.plan.cement, self.plan
        if self.waits >= int(float(value("most_waits"))):
            return False
        warm = float(value("body_temperature"))
        now = self.cement.at(self.age_s)
        stiff = cement.viscosity_pa_s(cement.window_s(room_c=plan.room_c)[1], room_c=plan.room_c)
        seconds = max(0.0, cement.growth_s(warm) * float(np.log(stiff / now)))
        seconds = min(seconds, float(value("longest_wait")))
        if self.age_s + seconds >= self.latest_s:
            return False
        self.waits += 1
        self._note("waiting to harden", number)
        self.age_s += seconds
        set_ = self.flow.fill > 0
        self.flow.close(set_ & self.outside)
        # The plug reaches into the hole itself.
        self.flow.close(set_ & (self.bed.kind == HOLE) & self._touches(set_ & self.outside))
        self.hardened_ml = self._by_place_ml()[1:]
        self.known_ml = np.zeros_like(self.hardened_ml)
        self._note("resumed", number)
        return True

    @staticmethod
    def _touches(mask: Bool) -> Bool:
        from scipy import ndimage

        out: Bool = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 3))
        return out

    def _pull_back(self, needle: CementNeedle, back_mm: float, move_mm: float) -> float:
        """Pull the needle back inside the bone; its track stays open. Returns how far it moved."""
        way = needle.path.direction
        steps = np.arange(0.0, move_mm + 1e-9, min(self.bed.grid.spacing_mm) / 2)
        line = needle.path.end_mm - (back_mm + steps)[:, None] * way
        kind = self.bed.kind[self._index(line)]
        inside = self.bed.bone.holds(line) & np.isin(kind, (SPONGY, VOID, HOLE))
        end = int(np.argmin(inside)) if not inside.all() else len(steps)
        if end <= 1:
            return 0.0
        tunnel = np.zeros(self.bed.grid.shape, bool)
        tunnel[self._index(line[:end])] = True
        self.flow.open(tunnel, 1.0, float(value("void_permeability")))
        return float(steps[end - 1])

    def _index(self, points_mm: Float) -> tuple[NDArray[np.int64], ...]:
        index = np.rint(self.bed.grid.to_index(points_mm)).astype(np.int64)
        index = np.clip(index, 0, np.array(self.bed.grid.shape) - 1)
        return tuple(index.T)

    # --- what is seen and kept ------------------------------------------------------------------

    def _note(
        self, state: InjectionState, number: int, compartment: str = "", moved_mm: float = 0.0
    ) -> None:
        self.events.append(
            InjectionEvent(
                state=state,
                age_s=self.age_s,
                injected_ml=self.injected_ml,
                needle=number,
                compartment=compartment,
                moved_mm=moved_mm,
            )
        )

    def _by_place_ml(self) -> Float:
        index, m3 = self.flow.held()
        sums = np.bincount(
            self.bed.place.ravel()[index],
            weights=m3 / _ML,
            minlength=len(self.bed.compartments) + 1,
        )
        return sums.astype(np.float64)

    def _snapshot(self) -> None:
        history = self.flow.history
        sums = self._by_place_ml()
        lesion = 0.0
        if self.bed.lesion is not None:
            index, m3 = self.flow.held()
            lesion = float(m3[self.bed.lesion.values.ravel()[index]].sum()) / _ML
        # Where nothing moved, the syringe stands at its limit.
        still = np.array([0.0, 0.0, 0.0, self.plan.pressure_limit_pa, 0.0, 0.0])
        last = history[-1] if len(history) else still
        self.rows.append(
            (
                self.age_s,
                self.injected_ml,
                float(last[flow.RATE]) / _ML,
                float(last[flow.TIP]),
                float(last[flow.SYRINGE]),
                float(sums[0]),
                lesion,
                *(float(v) for v in sums[1:]),
            )
        )

    def order_ml(self) -> NDArray[np.float64]:
        """How much had been injected when each voxel was full (at the end: half full)."""
        history = self.flow.history
        reached = self.flow.reached_s
        if len(history) == 0:
            return np.full(reached.shape, np.nan)
        order = np.interp(reached, history[:, flow.TIME], history[:, flow.VOLUME] / _ML)
        order[np.isnan(reached)] = np.nan
        late = np.isnan(reached) & (self.flow.fill >= 1 / 2)
        order[late] = self.injected_ml
        return order

    def onsets_ml(self) -> Float:
        """For each compartment the injected volume at which it held enough to count as a leak."""
        if len(self.flow.history) == 0:
            return np.full(len(self.bed.compartments), np.inf)
        order, volume = self.order_ml(), self.flow.volume_m3 / _ML
        least = float(value("counted_leak"))
        out = np.full(len(self.bed.compartments), np.inf)
        filled = (self.bed.place > 0) & (volume > 0)
        order_out = np.where(np.isnan(order), self.injected_ml, order)[filled]
        place, held = self.bed.place[filled], volume[filled]
        sequence = np.argsort(order_out, kind="stable")
        for k in range(len(out)):
            mine = sequence[place[sequence] == k + 1]
            total = np.cumsum(held[mine])
            if len(total) and total[-1] >= least:
                out[k] = order_out[mine[int(np.searchsorted(total, least))]]
        return out

    def injection(self, why: StopReason) -> Injection:
        """The record of what happened."""
        bed, plan = self.bed, self.plan
        rows = np.array(self.rows, np.float64).reshape(-1, 7 + len(bed.compartments))
        fill = self._fill()
        kept = [k for k in range(len(bed.compartments)) if len(rows) and rows[-1, 7 + k] > 0]
        order = Volume(grid=bed.grid, values=self.order_ml().astype(np.float32), unit="ml")
        return Injection(
            lesion_id=plan.lesion_id,
            site=plan.site,
            cement=plan.cement.name,
            fill=fill,
            order_ml=order,
            age_s=rows[:, 0],
            injected_ml=rows[:, 1],
            rate_ml_s=rows[:, 2],
            tip_pa=rows[:, 3],
            syringe_pa=rows[:, 4],
            in_bone_ml=rows[:, 5],
            in_lesion_ml=rows[:, 6],
            leaked_ml={bed.compartments[k]: rows[:, 7 + k] for k in kept},
            events=tuple(self.events),
            stopped_by=why,
            findings=gravest_first((*fill.findings, *self._findings(why))),
        )

    def _fill(self) -> Fill:
        bed, plan = self.bed, self.plan
        ml = self.flow.volume_m3 / _ML
        share = (ml / bed.grid.voxel_ml).astype(np.float32)
        total = float(ml.sum())
        in_bone = float(ml[bed.bone.values].sum())
        in_lesion = None if bed.lesion is None else float(ml[bed.lesion.values].sum())
        lesion_ml = 0.0 if bed.lesion is None else bed.lesion.volume_ml
        inside = (self.flow.fill >= 1 / 2) & bed.bone.values
        points = bed.grid.to_world(np.argwhere(inside))
        leaks = self._leaks(ml)
        return Fill(
            lesion_id=plan.lesion_id,
            site=plan.site,
            origin="simulated",
            fraction=Volume(grid=bed.grid, values=share, unit="1"),
            volume_ml=total,
            low_ml=total,
            high_ml=total,
            in_bone_ml=in_bone,
            in_lesion_ml=in_lesion,
            lesion_fill=in_lesion / lesion_ml if in_lesion is not None and lesion_ml else None,
            bone_fill=in_bone / bed.bone.volume_ml,
            leaks=leaks,
            crosses_midline=places.crosses_midline(points, share[inside], bed.anatomy),
            touches_end_plates=places.touched_end_plates(points, bed.anatomy),
            unknown=_unknown(bed),
            findings=tuple(_leak_finding(leak) for leak in leaks),
        )

    def _leaks(self, ml: NDArray[np.float64]) -> tuple[CementLeak, ...]:
        bed = self.bed
        around = places.Surroundings(anatomy=bed.anatomy, lesion=bed.lesion, tracks=())
        found = []
        for k, name in enumerate(bed.compartments, start=1):
            mine = (bed.place == k) & (ml > 0)
            volume = float(ml[mine].sum())
            if volume < float(value("visible_leak")):
                continue
            solid = mine & (self.flow.fill >= 1 / 2)
            points = bed.grid.to_world(np.argwhere(solid if solid.any() else mine))
            gap = places.gap_mm(points, bed.anatomy.bone)
            found.append(
                CementLeak(
                    compartment=name,
                    kind=places.kind_of_leak(name, points, gap, around),
                    volume_ml=volume,
                    low_ml=volume,
                    high_ml=volume,
                    reach_mm=float(max(0.0, gap.max(initial=0.0))),
                    mask=Mask(grid=bed.grid, values=mine),
                    distances_mm=places.distances_at_risk(points, bed.grid, bed.anatomy),
                )
            )
        order = {name: k for k, name in enumerate(places.ALARMS)}
        found.sort(key=lambda leak: (order.get(leak.compartment, len(order)), -leak.volume_ml))
        return tuple(found)

    def _findings(self, why: StopReason) -> tuple[Finding, ...]:
        told = []
        values = {
            "injected_ml": self.injected_ml,
            "target_ml": self.plan.target_ml,
            "minutes": self.age_s / 60,
        }
        if why == "leak":
            told.append(
                Finding(
                    gravity=Gravity.CAUTION,
                    message="The simulated injection was ended by a leak after {injected_ml:.1f} "
                    "of {target_ml:.1f} ml.",
                    values=values,
                )
            )
        elif why == "pressure":
            told.append(
                Finding(
                    gravity=Gravity.CAUTION,
                    message="The syringe's force was spent after {injected_ml:.1f} of "
                    "{target_ml:.1f} ml: take a wider needle or begin earlier.",
                    values=values,
                )
            )
        elif why == "working window":
            told.append(
                Finding(
                    gravity=Gravity.CAUTION,
                    message="The cement was too stiff after {injected_ml:.1f} of {target_ml:.1f} "
                    "ml ({minutes:.1f} min after mixing): inject faster or begin earlier.",
                    values=values,
                )
            )
        elif why == "no room":
            told.append(
                Finding(
                    gravity=Gravity.CAUTION,
                    message="No room was left around the needle after {injected_ml:.1f} of "
                    "{target_ml:.1f} ml.",
                    values=values,
                )
            )
        return tuple(told)


def _unknown(bed: Bed) -> tuple[str, ...]:
    unknown = list(bed.anatomy.missing)
    spinal = bed.anatomy.site.kind in ("vertebra", "sacrum")
    if spinal and "spinal_canal" not in bed.anatomy.structures:
        unknown.insert(0, "spinal_canal")
    if bed.lesion is None:
        unknown.append("lesion")
    return tuple(dict.fromkeys(unknown))


def _leak_finding(leak: CementLeak) -> Finding:
    values = {
        "compartment": leak.compartment,
        "volume_ml": leak.volume_ml,
        "reach_mm": leak.reach_mm,
    }
    if leak.compartment in places.ALARMS:
        return Finding(
            gravity=Gravity.STOP,
            message="In the simulation cement enters a place that must stay free ({compartment}): "
            "{volume_ml:.2f} ml, reaching {reach_mm:.0f} mm beyond the bone.",
            values=values,
        )
    return Finding(
        gravity=Gravity.CAUTION,
        message="In the simulation cement leaks ({compartment}): {volume_ml:.2f} ml, reaching "
        "{reach_mm:.0f} mm beyond the bone.",
        values=values,
    )


def _forecast_findings(bed: Bed) -> tuple[Finding, ...]:
    if "spinal_canal" not in _unknown(bed):
        return ()
    return (
        Finding(
            gravity=Gravity.STOP,
            message="The spinal canal of {site} was not found: no leak into it can be "
            "forecast, and no volume is called safe.",
            values={"site": str(bed.anatomy.site)},
        ),
    )
