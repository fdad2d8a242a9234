"""What radiofrequency, microwaves or ice do to a lesion in bone and to the nerves beside it.

Pennes' equation on cubes around the applicators, with the current's, the waves' or the probe's own
source, marched through the protocol; a generator that holds temperature, power and impedance; dose
to the lesion and to every structure that was identified. What was not identified is unknown, never
safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import ablation as facts
from trocar.facts import thermal
from trocar.kernels import heat
from trocar.kernels.dose import Arrhenius
from trocar.model.ablation import AblationPlan, Phase, Placed, Protection, ThermalDose
from trocar.model.result import Anatomy, Fill
from trocar.model.space import Float, Mask, Segment, Volume
from trocar.simulation.ablation_dose import Course, passed, reading, together
from trocar.simulation.ablation_scene import Constants, Scenario, Scene, build
from trocar.simulation.applicators import Antenna, Electrode, Look, Probes, Told
from trocar.simulation.exotherm import cem43_rule

__all__ = ["Constants", "Scenario", "ablate", "ablate_interval"]

Progress = Callable[[str, float], None]
Bool = NDArray[np.bool_]

_LOOK_S = 5.0  # between two looks at the generator; the first minute is looked at oftener
_EARLY_S, _EARLY_LOOK_S = 60.0, 1.0
_TOLERANCE_K = {"heat": 0.02, "boil": 0.2, "ice": 1.0}  # error of one step; halved: 0.1 K less
_BOILS_FROM_C = 95.0  # a target below this leaves water where it is


def ablate(
    ct: Volume,
    anatomy: Anatomy,
    plan: AblationPlan,
    *,
    lesion: Mask | None = None,
    filled: Fill | None = None,
    scenario: Scenario = "mean",
    constants: Constants | None = None,
    voxel_mm: float | None = None,
    progress: Progress | None = None,
) -> ThermalDose:
    """How much of the lesion dies, and how warm or cold does every structure get?

    ``ct`` tells bone, fat and muscle apart; ``lesion`` is taken as lytic tumour; ``filled`` is
    cement already in place. ``voxel_mm`` is the side of the cubes (1 mm for heat; for ice 1 to 2 mm
    by the size of what freezes). The box's outer faces let no heat out (the careful side).
    ``constants`` override those of ``scenario``.

    Raises InputError for applicators outside the image, metal that overlaps, numbers that cannot
    be. Sources: Pennes 1948; clinical.md E of the project's reference, by way of ``facts``.
    """
    used = constants or Constants.of(scenario)
    scene = build(ct, anatomy, plan, lesion, filled, used, voxel_mm)
    course = _march(scene, plan, used, progress)
    return reading(scene, course, anatomy, plan, scenario, used)


def ablate_interval(
    ct: Volume,
    anatomy: Anatomy,
    plan: AblationPlan,
    *,
    lesion: Mask | None = None,
    filled: Fill | None = None,
    voxel_mm: float | None = None,
    progress: Progress | None = None,
    run: Callable[..., ThermalDose] | None = None,
) -> ThermalDose:
    """The mean run, with what a low and a high run make of every structure and of the lesion.

    A neural structure's verdict is that of the worst of the three. Arguments and errors as for
    ``ablate``; ``run`` is who makes each run when it is not ``ablate`` itself (somebody who keeps
    them).
    """
    runs: dict[str, ThermalDose] = {}
    names: tuple[Scenario, ...] = ("mean", "low", "high")
    for i, name in enumerate(names):
        runs[name] = (run or ablate)(
            ct, anatomy, plan, lesion=lesion, filled=filled, scenario=name, voxel_mm=voxel_mm,
            progress=_part(progress, i / 3, (i + 1) / 3),
        )  # fmt: skip
    return together(runs["mean"], runs["low"], runs["high"])


def _part(progress: Progress | None, start: float, end: float) -> Progress | None:
    if progress is None:
        return None
    return lambda name, f: progress(name, start + (end - start) * f)


# --- the march ---------------------------------------------------------------------------------


def _march(scene: Scene, plan: AblationPlan, used: Constants, progress: Progress | None) -> Course:
    body, shape, n = _body(scene, plan), scene.grid.shape, len(plan.applicators)
    spots = {name: np.flatnonzero(m) for name, m in scene.structures.items()}
    guards = _guards(plan, spots)
    course = Course(
        body=body, dead=np.zeros(shape, bool), dead_s=np.full(shape, np.nan),
        ice=np.zeros(shape, bool), times=[], warmest={name: [] for name in spots},
        coldest={name: [] for name in spots}, warned={}, harmed={}, covered=[], power=[], ohm=[],
        surface=[],
    )  # fmt: skip
    cycles = np.zeros(shape, np.int8)  # freezes in which a voxel got lethally cold
    _record(scene, plan, course, spots, [Told()] * n)
    for phase in plan.phases:
        act = _Working(scene, plan, phase, used, body)
        before = body.lowest_c.copy()
        if phase.mode == "freeze":
            body.lowest_c[...] = body.temperature_c
        elapsed = 0.0
        while elapsed < phase.seconds - 1e-6:
            step = min(_EARLY_LOOK_S if elapsed < _EARLY_S else _LOOK_S, phase.seconds - elapsed)
            now = body.temperature_c
            look = Look(
                celsius=now, time_s=body.time_s, elapsed_s=elapsed, step_s=step,
                halted=_halted(guards, spots, now, plan.heats, course),
            )  # fmt: skip
            told = act(look)
            elapsed += step
            if not plan.heats:
                _ice(body, cycles, phase, course)
            _record(scene, plan, course, spots, told)
            if progress is not None:
                progress("ablation", body.time_s / plan.seconds)
        course.pauses += act.pauses
        if phase.mode == "freeze":
            lethal = body.lowest_c <= float(facts.value("lethal_twice_c"))
            cycles += lethal.astype(np.int8)
            body.shut_perfusion(lethal)  # frozen through, vessels do not come back
            np.minimum(body.lowest_c, before, out=body.lowest_c)
    return course


class _Working:
    """What is done at each look during one phase: heat, hold cold, or leave alone."""

    def __init__(
        self, scene: Scene, plan: AblationPlan, phase: Phase, used: Constants, body: heat.Bioheat
    ) -> None:
        self._phase, self._used, self._body = phase, used, body
        self._nothing = np.zeros(scene.grid.shape, bool)
        self._count = len(plan.applicators)
        self._heaters: list[Electrode | Antenna] = []
        self._probes: Probes | None = None
        if phase.mode not in ("heat", "freeze"):
            return
        parts = [p.active(phase.pulled_mm) for p in plan.applicators]
        _apart(plan, parts)
        if phase.mode == "freeze":
            self._probes = Probes(scene, plan.applicators, parts)
            return
        self._heaters = [
            Antenna(scene, p, s, used.efficiency_mw)
            if p.device.kind == "microwave"
            else Electrode(scene, p, s)
            for p, s in zip(plan.applicators, parts, strict=True)
        ]

    @property
    def pauses(self) -> int:
        """How often impedance ended the power of one of them."""
        return sum(h.pauses for h in self._heaters)

    def __call__(self, look: Look) -> list[Told]:
        """March on to the next look; what each applicator gave."""
        if self._probes is not None and not look.halted:
            return self._freeze(self._probes, look)
        if self._heaters:
            return self._heat(look)
        self._body.fix(self._nothing, 0.0)
        self._body.advance(look.step_s)
        return [Told()] * self._count

    def _freeze(self, probes: Probes, look: Look) -> list[Told]:
        celsius, told = probes.cold(look, self._phase, self._used)
        self._body.fix(
            probes.laid.every, celsius, laid=probes.laid, transfer_w_m2k=self._used.transfer_w_m2k
        )
        self._body.advance(look.step_s)
        return told

    def _heat(self, look: Look) -> list[Told]:
        source = sum(h.heat(look, self._phase) for h in self._heaters)
        held, celsius = self._nothing.copy(), np.zeros(self._nothing.shape)
        laid = None
        for one in self._heaters:
            if isinstance(one, Electrode) and one.device.cooled_c is not None:
                # The surface of one cooled electrode is known; of several, cubes stand for it.
                laid = one.laid if not held.any() else None
                held |= one.laid.every
                celsius[one.laid.every] = one.device.cooled_c
        source = np.where(held, 0.0, source)
        self._body.fix(held, celsius, laid=laid)
        self._body.advance(look.step_s, source_w_m3=source)
        return [h.told(look.celsius) for h in self._heaters]


def _body(scene: Scene, plan: AblationPlan) -> heat.Bioheat:
    h = scene.h_m
    tissue = heat.Tissue(
        shape=scene.grid.shape,
        spacing_m=(h, h, h),
        heat_capacity_j_m3k=scene.capacity,
        conductivity_w_mk=scene.conductivity,
        perfusion_w_m3k=scene.perfusion,
        blood_c=float(thermal.value("blood_temperature")),
    )
    phases = [facts.phase_change(n) for n in thermal.tissues()]
    names = scene.names
    rules: dict[str, Any] = {
        "cem43": cem43_rule(),
        "arrhenius": Arrhenius(
            a_per_s=float(facts.value("damage_frequency")),
            ea_j_mol=float(facts.value("damage_activation")),
        ),
        "shut_at_cem43": float(facts.value("dead_cem43")),
        "shut_at_omega": float(facts.value("damage_dead")),
    }
    kind = "heat"
    if not plan.heats:
        kind = "ice"
        rules = {
            "freezing": heat.Change(
                from_c=float(facts.value("freeze_from_c")),
                to_c=float(facts.value("freeze_to_c")),
                latent_j_m3=np.array([p.freezing_j_m3 for p in phases])[names],
                frozen_capacity_j_m3k=np.array([p.frozen_capacity_j_m3k for p in phases])[names],
                frozen_conductivity_w_mk=np.array(
                    [p.frozen_conductivity_w_mk for p in phases]
                )[names],
            ),
            "cem43": cem43_rule(),
        }  # fmt: skip
    elif any(_boils(p) for p in plan.applicators):
        kind = "boil"
        rules["boiling"] = heat.Change(
            from_c=float(facts.value("vapour_from_c")),
            to_c=float(facts.value("vapour_to_c")),
            latent_j_m3=np.array([p.boiling_j_m3 for p in phases])[names],
        )
    return heat.Bioheat(
        tissue,
        start_c=float(thermal.value("blood_temperature")),
        tolerance_k=_TOLERANCE_K[kind],
        **rules,
    )


def _boils(placed: Placed) -> bool:
    target = placed.device.target_c
    return target is None or target >= _BOILS_FROM_C


def _apart(plan: AblationPlan, parts: Sequence[Segment]) -> None:
    for i in range(len(parts)):
        for j in range(i):
            along = np.linspace(0.0, parts[i].length_mm, 41)
            gap = float(parts[j].distance_mm(parts[i].at_mm(along)).min())
            least = plan.applicators[i].device.radius_mm + plan.applicators[j].device.radius_mm
            if gap < least:
                raise InputError(
                    f"applicators {j + 1} and {i + 1} come within {gap:.1f} mm of each other: "
                    "metal overlaps; move one"
                )


def _guards(plan: AblationPlan, spots: Mapping[str, Any]) -> list[Protection]:
    """The thermocouples, each at a structure that is there."""
    out = [g for g in plan.protections if g.kind == "thermocouple"]
    for g in out:
        if g.structure not in spots:
            raise InputError(
                f"the thermocouple is to lie at {g.structure!r}, which was not identified near the "
                "ablation"
            )
    return out


def _halted(
    guards: Sequence[Protection], spots: Mapping[str, Any], now: Float, heats: bool, course: Course
) -> bool:
    """Whether a thermocouple says to stop for now."""
    flat = now.ravel()
    for g in guards:
        assert g.stop_c is not None  # a thermocouple has one
        t = flat[spots[g.structure]]
        if (heats and t.max() >= g.stop_c) or (not heats and t.min() <= g.stop_c):
            course.tripped.add(g.structure)
            return True
    return False


def _ice(body: heat.Bioheat, cycles: NDArray[np.int8], phase: Phase, course: Course) -> None:
    """Note what ice has killed and where there is any."""
    once, twice = float(facts.value("lethal_once_c")), float(facts.value("lethal_twice_c"))
    lowest = body.lowest_c
    course.dead |= lowest <= once
    if phase.mode == "freeze":
        course.dead |= (cycles >= 1) & (lowest <= twice)
    course.ice |= lowest <= float(facts.value("ice_edge_c"))


def _record(
    scene: Scene, plan: AblationPlan, course: Course, spots: Mapping[str, Any],
    told: Sequence[Told],
) -> None:  # fmt: skip
    """Write down how things stand now."""
    body = course.body
    now = body.temperature_c.ravel()
    t = body.time_s
    course.times.append(t)
    if plan.heats:
        course.dead |= (body.cem43_min >= float(facts.value("dead_cem43"))) | (
            body.peak_c >= float(facts.value("dead_c"))
        )
    course.dead_s[course.dead & np.isnan(course.dead_s)] = t
    peak, lowest, dose = body.peak_c.ravel(), body.lowest_c.ravel(), body.cem43_min.ravel()
    for name, at in spots.items():
        course.warmest[name].append(float(now[at].max()))
        course.coldest[name].append(float(now[at].min()))
        warned, harmed = passed(
            name, plan.heats, float(peak[at].max()), float(lowest[at].min()), float(dose[at].max())
        )
        if warned:
            course.warned.setdefault(name, t)
        if harmed:
            course.harmed.setdefault(name, t)
    inside = scene.lesion
    total = int(np.count_nonzero(inside))
    course.covered.append(
        float(np.count_nonzero(course.dead & inside)) / total if total else float("nan")
    )
    course.power.append([one.power_w for one in told])
    course.ohm.append([one.ohm for one in told])
    course.surface.append([one.surface_c for one in told])
