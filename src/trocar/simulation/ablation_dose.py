"""What an ablation did: dose to lesion and structures, their verdicts, and what there is to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from trocar.facts import ablation as facts
from trocar.facts import limits, thermal
from trocar.kernels import heat
from trocar.kernels.field import distance_to, signed_distance
from trocar.model.ablation import AblationPlan, StructureDose, ThermalDose
from trocar.model.case import Finding, Gravity, gravest_first
from trocar.model.plan import VERDICTS, Verdict, worst_verdict
from trocar.model.result import Anatomy
from trocar.model.space import Float, Mask, Volume
from trocar.simulation.ablation_scene import Constants, Scene
from trocar.simulation.exotherm import unknown_near

Bool = NDArray[np.bool_]

_NEIGHBOURS = ndimage.generate_binary_structure(3, 1)
_SIDES, _LEVELS = ("left", "right"), ("above", "below")  # of a vertebra's foramina
_MOST_MIN = 1e6  # of CEM43; beyond, dead is dead


@dataclass(eq=False)
class Course:
    """What is written down while an ablation is marched through; lists have an entry a look."""

    body: heat.Bioheat
    dead: Bool
    dead_s: Float
    ice: Bool
    times: list[float]
    warmest: dict[str, list[float]]
    coldest: dict[str, list[float]]
    warned: dict[str, float]
    harmed: dict[str, float]
    covered: list[float]
    power: list[list[float]]
    ohm: list[list[float]]
    surface: list[list[float]]
    pauses: int = 0  # of the generator, for impedance rose
    tripped: set[str] = field(default_factory=set)


def passed(name: str, heats: bool, peak: float, lowest: float, dose: float) -> tuple[bool, bool]:
    """Whether a structure is past its warning, and past harm."""
    if heats:
        limit = thermal.limit(name)
        if limit is None:
            return False, False
        return limit.warned(peak, dose), limit.harmed(peak, dose)
    cold = facts.cold_limit(name)
    if cold is None:
        return False, False
    return not lowest >= cold.warn_c, not lowest >= cold.harm_c


def reading(
    scene: Scene, course: Course, anatomy: Anatomy, plan: AblationPlan, scenario: str,
    used: Constants,
) -> ThermalDose:  # fmt: skip
    """The record of one run."""
    body, grid = course.body, scene.grid
    heats = plan.heats
    zone = course.dead if heats else course.ice
    far = distance_to(zone, grid.spacing_mm)
    structures = tuple(
        _structure(name, at, scene, course, float(far[at].min()), heats)
        for name, at in scene.structures.items()
        if limits.kind(name) not in ("other_bone", "metal")
    )
    structures += tuple(
        _out_of_reach(name, mask, zone, scene, course) for name, mask in scene.beyond.items()
    )
    points, margins = _margins(scene, course.dead)
    rim = _rim(scene, plan.margin_mm)
    unknown = unknown_near(anatomy)
    unknown += [n for n in scene.pieces_missing if n not in unknown]
    if plan.site.kind == "vertebra":
        told = {s.structure for s in structures}
        unknown += [
            f"foramen_{side}_{level}"
            for side in _SIDES
            for level in _LEVELS
            if f"foramen_{side}_{level}" not in told and f"foramen_{side}" not in scene.beyond
        ]
    findings = _warnings(plan, structures, unknown, course)
    unseen = ~scene.seen
    if unseen.any() and _reaches(unseen, course, heats):
        unknown.append("beyond the image")
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="Heat or cold reaches beyond the image: what lies there is not known.",
            )
        )
    if _at_the_edge(zone):
        unknown.append("beyond what was computed")
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="What dies or freezes reaches the edge of what was computed: it is larger "
                "than shown.",
            )
        )
    total = int(np.count_nonzero(scene.lesion))
    return ThermalDose(
        lesion_id=plan.lesion_id,
        site=plan.site,
        heats=heats,
        peak_c=Volume(grid=grid, values=body.peak_c.copy(), unit="degC"),
        lowest_c=Volume(grid=grid, values=body.lowest_c.copy(), unit="degC"),
        cem43_min=Volume(
            grid=grid, values=np.minimum(body.cem43_min, _MOST_MIN).astype(np.float32), unit="min"
        ),
        dead=Mask(grid=grid, values=course.dead.copy()),
        dead_s=Volume(grid=grid, values=course.dead_s.astype(np.float32), unit="s"),
        dead_ml=float(np.count_nonzero(course.dead)) * grid.voxel_ml,
        ice_ml=float(np.count_nonzero(course.ice)) * grid.voxel_ml,
        lesion_covered=course.covered[-1] if total else None,
        rim_covered=(
            float(np.count_nonzero(course.dead & rim)) / max(1, int(np.count_nonzero(rim)))
            if total
            else None
        ),
        margin_points_mm=points,
        margin_mm=margins,
        min_margin_mm=float(margins.min()) if margins.size else None,
        structures=structures,
        time_s=np.array(course.times),
        covered=np.array(course.covered),
        power_w=np.array(course.power),
        impedance_ohm=np.array(course.ohm),
        surface_c=np.array(course.surface),
        zone_mm=_zone(scene, plan, course.dead),
        scenario=scenario,
        constants={k: float(v) for k, v in vars(used).items()},
        unknown=tuple(dict.fromkeys(unknown)),
        findings=gravest_first(tuple(findings)),
    )


def _structure(
    name: str, at: Bool, scene: Scene, course: Course, distance_mm: float, heats: bool
) -> StructureDose:
    body = course.body
    peak = float(body.peak_c[at].max())
    lowest = float(body.lowest_c[at].min())
    dose = min(float(body.cem43_min[at].max()), _MOST_MIN)
    return StructureDose(
        structure=name,
        peak_c=peak,
        lowest_c=lowest,
        cem43_min=dose,
        verdict=_verdict(name, heats, peak, lowest, dose, distance_mm),
        distance_mm=distance_mm,
        warned_s=course.warned.get(name),
        harmed_s=course.harmed.get(name),
        warmest_c=np.array(course.warmest[name]),
        coldest_c=np.array(course.coldest[name]),
    )


def _out_of_reach(name: str, mask: Mask, zone: Bool, scene: Scene, course: Course) -> StructureDose:
    """Canal and nerves beyond what was computed: at body temperature, and how far away."""
    body_c = float(thermal.value("blood_temperature"))
    distance = float("inf")
    if zone.any():
        tree = spatial.cKDTree(scene.grid.to_world(np.argwhere(zone).astype(float)))
        distance = float(tree.query(mask.points_mm())[0].min())
    calm = np.full(len(course.times), body_c)
    return StructureDose(
        structure=name,
        peak_c=body_c,
        lowest_c=body_c,
        cem43_min=0.0,
        verdict=_verdict(name, True, body_c, body_c, 0.0, distance),
        distance_mm=distance,
        warmest_c=calm,
        coldest_c=calm,
    )


def _verdict(
    name: str, heats: bool, peak: float, lowest: float, dose: float, distance_mm: float
) -> Verdict:
    """From temperature, dose and, for what is neural, the distance to what dies or freezes."""
    warned, harmed = passed(name, heats, peak, lowest, dose)
    out: Verdict = "stop" if harmed else "caution" if warned else "ok"
    if limits.neural(name):
        out = worst_verdict([out, facts.nearness(distance_mm)])
    return out


def _margins(scene: Scene, dead: Bool) -> tuple[Float, Float]:
    """On the lesion's surface: how far what is dead reaches beyond it, mm; -inf: nothing died."""
    inside = scene.lesion
    if not inside.any():
        return np.zeros((0, 3)), np.zeros(0)
    skin = inside & ~ndimage.binary_erosion(inside, _NEIGHBOURS, border_value=0)
    half = 0.5 * scene.grid.spacing_mm[0]  # a voxel's centre lies inside the surface
    signed = signed_distance(dead, scene.grid.spacing_mm)
    reach = -signed - half
    index = np.argwhere(skin)
    return scene.grid.to_world(index.astype(float)), reach[skin].astype(np.float64)


def _rim(scene: Scene, margin_mm: float) -> Bool:
    """The lesion and the margin around it, nerves and canal left out."""
    out = distance_to(scene.lesion, scene.grid.spacing_mm) <= margin_mm
    for name, at in scene.structures.items():
        if limits.neural(name):
            out &= ~at
    return out


def _zone(scene: Scene, plan: AblationPlan, dead: Bool) -> tuple[float, float] | None:
    """Length along the first needle and mean width across it at its thickest."""
    if not dead.any():
        return None
    part = plan.applicators[0].active()
    p = scene.grid.to_world(np.argwhere(dead).astype(float)) - part.end_mm
    along = p @ part.direction
    h = scene.grid.spacing_mm[0]
    length = float(along.max() - along.min()) + h
    counts = np.bincount(np.floor((along - along.min()) / h).astype(int))
    return length, 2.0 * float(np.sqrt(counts.max() * h**2 / np.pi))


def _at_the_edge(zone: Bool) -> bool:
    return any(bool(np.take(zone, end, axis).any()) for axis in range(3) for end in (0, -1))


def _reaches(unseen: Bool, course: Course, heats: bool) -> bool:
    body = course.body
    peak, dose = float(body.peak_c[unseen].max()), float(body.cem43_min[unseen].max())
    return passed("unknown structure", heats, peak, float(body.lowest_c[unseen].min()), dose)[0]


def _warnings(
    plan: AblationPlan, structures: Sequence[StructureDose], unknown: Sequence[str], course: Course
) -> list[Finding]:
    worst_first = sorted(structures, key=lambda s: (VERDICTS.index(s.verdict), s.distance_mm))
    out = [f for f in (_told(s, plan.heats) for s in worst_first) if f is not None]
    if plan.heats and plan.site.kind == "vertebra":
        out.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="One patient of twelve in the Hong Kong series lost the strength of a leg "
                "after radiofrequency in L1: the needle lay well, no cement was in the canal, "
                "heated nerve roots were blamed. Test the legs before and after.",
            )
        )
    neural = [n for n in unknown if limits.neural(n)]
    rest = [n for n in unknown if n not in neural]
    for gravity, names in ((Gravity.STOP, neural), (Gravity.CAUTION, rest)):
        if names:
            out.append(
                Finding(
                    gravity=gravity,
                    message="Not identified, so nobody knows how warm or cold the ablation makes "
                    "it: {names}.",
                    values={"names": ", ".join(names)},
                )
            )
    doubtful = sorted({p.device.called for p in plan.applicators if not p.device.verified})
    if doubtful:
        out.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="Not verified: the data of {devices}. Compare them with the maker's "
                "leaflet before use.",
                values={"devices": ", ".join(doubtful)},
            )
        )
    if any(p.device.kind == "microwave" for p in plan.applicators):
        out.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="Microwaves make zones too large in this model (twice the printed volume "
                "and more): do not count on the coverage it shows.",
            )
        )
    if course.pauses:
        out.append(
            Finding(
                gravity=Gravity.NOTE,
                message="Impedance rose and the generator paused {times} times.",
                values={"times": course.pauses},
            )
        )
    for name in sorted(course.tripped):
        out.append(
            Finding(
                gravity=Gravity.NOTE,
                message="The thermocouple at {structure} ended the power for a while.",
                values={"structure": name},
            )
        )
    return out


def _told(one: StructureDose, heats: bool) -> Finding | None:
    """What there is to say about one structure."""
    if one.verdict == "ok":
        return None
    neural = limits.neural(one.structure)
    worst = Gravity.STOP if one.verdict == "stop" and neural else Gravity.CAUTION
    values: dict[str, Any] = {
        "structure": one.structure,
        "peak": one.peak_c,
        "lowest": one.lowest_c,
        "dose": one.cem43_min,
        "distance": one.distance_mm,
    }
    warned, harmed = passed(one.structure, heats, one.peak_c, one.lowest_c, one.cem43_min)
    if heats and warned:
        limit = thermal.limit(one.structure)
        assert limit is not None
        if harmed:
            return Finding(
                gravity=worst,
                message="The ablation warms {structure} to {peak:.1f} degC ({dose:.1f} min at 43 "
                "degC); it is harmed from {limit:.0f} degC or {most:.0f} min.",
                values=values | {"limit": limit.harm_c, "most": limit.harm_cem43},
            )
        return Finding(
            gravity=worst if neural else Gravity.NOTE,
            message="The ablation warms {structure} to {peak:.1f} degC ({dose:.1f} min at 43 "
            "degC); a warning stands from {limit:.0f} degC or {most:.0f} min.",
            values=values | {"limit": limit.warn_c, "most": limit.warn_cem43},
        )
    if not heats and warned:
        cold = facts.cold_limit(one.structure)
        assert cold is not None
        return Finding(
            gravity=worst,
            message="The ablation cools {structure} to {lowest:.1f} degC; it is to stay at "
            "{limit:.0f} degC or above.",
            values=values | {"limit": cold.warn_c},
        )
    return Finding(
        gravity=worst,
        message="What dies or freezes ends {distance:.1f} mm from {structure}; below "
        "{ok:.0f} mm protection and monitoring are needed, below {least:.0f} mm it is too near.",
        values=values
        | {"ok": float(facts.value("distance_ok")), "least": float(facts.value("distance_stop"))},
    )


def together(mean: ThermalDose, low: ThermalDose, high: ThermalDose) -> ThermalDose:
    """The mean run with the span of the three."""
    runs = (mean, low, high)
    out = []
    for one in mean.structures:
        same = [r.structure(one.structure) for r in runs]
        worst = [s.peak_c if mean.heats else s.lowest_c for s in same]
        neural = limits.neural(one.structure)
        verdict = worst_verdict(s.verdict for s in same) if neural else one.verdict
        out.append(
            replace(
                one, verdict=verdict, low_c=min(worst), high_c=max(worst),
                high_cem43=max(s.cem43_min for s in same),
            )
        )  # fmt: skip
    told = list(mean.findings)
    for one, before in zip(out, mean.structures, strict=True):
        if one.verdict != before.verdict:
            told.append(
                Finding(
                    gravity=Gravity.STOP if one.verdict == "stop" else Gravity.CAUTION,
                    message="With less blood flow than usual {structure} fares worse: between "
                    "{low:.1f} and {high:.1f} degC.",
                    values={"structure": one.structure, "low": one.low_c, "high": one.high_c},
                )
            )
    covered = [r.lesion_covered for r in runs if r.lesion_covered is not None]
    return replace(
        mean,
        structures=tuple(out),
        covered_low=min(covered) if covered else None,
        covered_high=max(covered) if covered else None,
        unknown=tuple(dict.fromkeys(n for r in runs for n in r.unknown)),
        findings=gravest_first(tuple(told)),
    )
