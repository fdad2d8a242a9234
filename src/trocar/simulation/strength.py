"""How weak is this bone, and what does the cement give back? Finite elements from the CT itself.

Each cube is one element; HU become density, density becomes stiffness by the law of the site. The
bone is loaded as facts say it usually is, intact (its lesion filled in the computer), as it is, and
with cement; strains under that load tell at which load it fails. All that is uncertain is taken at
its mean and at both ends. Linear: it says when the bone begins to give way, not how it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.errors import InputError
from trocar.facts import strength as facts
from trocar.facts.strength import LoadCase
from trocar.kernels.field import distance_to
from trocar.model.case import Site, gravest_first
from trocar.model.result import Anatomy, Fill
from trocar.model.space import Float, Mask, Volume
from trocar.model.strength import BONE_STATES, Bearing, BoneState, Spread, Strength
from trocar.simulation.bone_findings import told
from trocar.simulation.bone_loads import N_MM, grip
from trocar.simulation.bone_model import Bone, Constants, Scenario, build
from trocar.simulation.bone_press import Loaded, Specimen

Bool = NDArray[np.bool_]
Progress = Callable[[str, float], None]

_SCENARIOS: tuple[Scenario, ...] = ("mean", "low", "high")
_TOP = 0.005  # the share of the bone nearest to yield in which its weakest part is looked for
_BESIDE_MM = 3.0  # from the lesion: called beside it


def bone_strength(
    ct: Volume,
    anatomy: Anatomy,
    *,
    lesion: Mask | None = None,
    planned: Fill | None = None,
    found: Fill | None = None,
    loads: Sequence[LoadCase] | None = None,
    weight_kg: float | None = None,
    interval: bool = True,
    voxel_mm: float | None = None,
    lesion_id: str = "1",
    progress: Progress | None = None,
) -> Strength:
    """How strong is the treated bone intact, as it is, and with planned or found cement?

    ``ct`` is the CT before treatment in HU; cubes have ``voxel_mm`` (1 mm, more for a large bone).
    ``loads`` are those usual at the site (``facts.strength.loads_for``) unless given. With
    ``interval`` all that is uncertain is run at its weak and its strong end, too. Raises InputError
    for a bone that cannot be loaded: not identified, its joints or ends not in the image.
    """
    site = anatomy.site
    cases = tuple(loads) if loads is not None else _usual(site)
    if not cases:
        raise InputError("no load to lay on the bone; leave loads out for the usual ones")
    if len({c.name for c in cases}) < len(cases):
        raise InputError("two loads have the same name; give each its own")
    frames = {c.frame for c in cases}
    if len(frames) > 1:
        raise InputError("loads along the bone's axes and the patient's cannot be run together")
    least, most = (float(facts.value(f"weight_{end}")) for end in ("least", "most"))
    if weight_kg is not None and not least <= weight_kg <= most:
        raise InputError(f"a body weight of {weight_kg:g} kg; expected {least:g} to {most:g} kg")
    cements: dict[BoneState, Fill | None] = {"planned": planned, "found": found}
    fills = {state: fill for state, fill in cements.items() if fill is not None}
    plates = any(c.fixed == "lower end plate" for c in cases)
    bone = build(
        ct, anatomy, lesion, fills, frame=frames.pop(), voxel_mm=voxel_mm,
        room_mm=float(facts.value("cap_thickness")) if plates else 0.0,
    )  # fmt: skip
    states = [s for s in BONE_STATES if s in ("intact", "now") or s in fills]
    runs = _run(bone, anatomy, cases, states, interval, weight_kg, progress)
    bearings = tuple(
        _bearing(state, case, runs, bone, anatomy, weight_kg) for case in cases for state in states
    )
    first = cases[0].name
    asked = {s: runs[s, first, "mean"] for s in states}
    findings, unknown = told(
        bone, bearings, cases, weight_kg, asked["now"].loose,
        {state: fill.volume_ml for state, fill in fills.items()},
    )  # fmt: skip
    return Strength(
        lesion_id=lesion_id,
        site=site,
        bearings=bearings,
        used={
            s: Volume(grid=bone.grid, values=r.used.astype(np.float32), unit="1")
            for s, r in asked.items()
        },
        modulus_mpa={
            s: Volume(grid=bone.grid, values=r.young.astype(np.float32), unit="MPa")
            for s, r in asked.items()
        },
        bone=Mask(grid=bone.grid, values=bone.bone),
        law=facts.site(site.kind).law.label,
        calibration=bone.calibration.method,
        voxel_mm=round(float(bone.grid.spacing_mm[0]), 6),
        constants={
            "law": facts.site(site.kind).law.name,
            "density_slope": bone.calibration.slope,
            "density_offset": bone.calibration.offset,
            "weight_kg": float(facts.value("body_weight")) if weight_kg is None else weight_kg,
        },
        unknown=unknown,
        findings=gravest_first(findings),
    )


def _usual(site: Site) -> tuple[LoadCase, ...]:
    """The first two loads of a site that differ in more than their size."""
    first, *others = facts.loads_for(site.kind, site.region)

    def ways(case: LoadCase) -> list[tuple[object, ...]]:
        pushes = [(f.on, f.up, f.lateral_deg, f.posterior_deg) for f in case.forces]
        return [*pushes, *((m.on, m.about) for m in case.moments)]

    return (first, *[c for c in others if ways(c) != ways(first)][:1])


# --- runs ----------------------------------------------------------------------------------------


def _run(
    bone: Bone,
    anatomy: Anatomy,
    cases: Sequence[LoadCase],
    states: Sequence[BoneState],
    interval: bool,
    weight_kg: float | None,
    progress: Progress | None,
) -> dict[tuple[BoneState, str, Scenario], Loaded]:
    grips = {c.name: grip(c, bone, anatomy, weight_kg) for c in cases}
    held = {name: g.held.tobytes() for name, g in grips.items()}  # loads that hold it alike
    specimens = {held[name]: Specimen(bone, g) for name, g in grips.items()}
    scenarios = _SCENARIOS if interval else ("mean",)
    out: dict[tuple[BoneState, str, Scenario], Loaded] = {}
    total = len(cases) * len(states) * len(scenarios)
    for state in states:
        for scenario in scenarios:
            used = Constants.of(scenario, bone.calibration.method)
            for specimen in specimens.values():
                specimen.stiffen(state, used)
            for case in cases:
                specimen = specimens[held[case.name]]
                out[state, case.name, scenario] = specimen.load(case, grips[case.name], weight_kg)
                if progress is not None:
                    progress("strength", len(out) / total)
    return out


# --- reading -------------------------------------------------------------------------------------


def _bearing(
    state: BoneState,
    case: LoadCase,
    runs: Mapping[tuple[BoneState, str, Scenario], Loaded],
    bone: Bone,
    anatomy: Anatomy,
    weight_kg: float | None,
) -> Bearing:
    mine = {s: runs[state, case.name, s] for s in _SCENARIOS if (state, case.name, s) in runs}
    sound = {s: runs["intact", case.name, s] for s in mine}
    middle = mine["mean"]
    failure = {
        name: _spread({s: r.failure_n[name] for s, r in mine.items()}) for name in middle.failure_n
    }
    main = next(iter(failure))
    load = _load(case, middle, weight_kg)
    stiff = {s: r.stiffness_n_mm for s, r in mine.items()}
    intact = {s: r.stiffness_n_mm for s, r in sound.items()}
    stiffness = _spread_if_known(stiff)
    of_stiffness = _spread_if_known(
        {s: v / intact[s] if v and intact[s] else None for s, v in stiff.items()}  # type: ignore[operator]
    )
    weakest, name = _weakest(middle, bone, anatomy, state)
    cement = None
    if middle.cement_used is not None:
        cement = _spread({s: float(r.cement_used or 0.0) for s, r in mine.items()})
    return Bearing(
        state=state,
        load=case.name,
        label=case.label,
        load_n=load,
        stiffness_n_mm=stiffness,
        failure_n=failure,
        ratio=Spread(
            low=load.low / failure[main].high,
            mean=load.mean / failure[main].mean,
            high=load.high / failure[main].low,
        ),
        of_intact=_spread(
            {s: r.failure_n[main] / sound[s].failure_n[main] for s, r in mine.items()}
        ),
        stiffness_of_intact=of_stiffness,
        weakest_mm=weakest,
        weakest_in=name,
        cement_used=cement,
    )


def _load(case: LoadCase, middle: Loaded, weight_kg: float | None) -> Spread:
    first = case.forces[0] if case.forces else None
    low, high = (
        N_MM * facts.bound(case.moments[0].size_nm, at)
        if first is None
        else first.newton(weight_kg, at)
        for at in ("low", "high")
    )
    return Spread(low=low, mean=middle.load_n, high=high)


def _spread(of: Mapping[Scenario, float]) -> Spread:
    values = list(of.values())
    return Spread(low=min(values), mean=of["mean"], high=max(values))


def _spread_if_known(of: Mapping[Scenario, float | None]) -> Spread | None:
    known = {s: v for s, v in of.items() if v is not None}
    return _spread(known) if len(known) == len(of) else None


def _weakest(run: Loaded, bone: Bone, anatomy: Anatomy, state: BoneState) -> tuple[Float, str]:
    """Middle and name of the largest of the parts that are nearest to yield."""
    used = np.where(run.asked, run.used, 0.0)
    least = float(np.quantile(used[run.asked], 1.0 - _TOP))
    parts, _ = ndimage.label(run.asked & (used >= least))
    inside = parts == int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    at = np.argwhere(inside).mean(axis=0)
    point = bone.grid.to_world(at)
    if bone.lesion.any() and state != "intact":
        near = distance_to(bone.lesion, bone.grid.spacing_mm)
        if float(near[inside].min()) <= _BESIDE_MM:
            return point, "beside the lesion"
    best, name = 0, ""
    for region, mask in anatomy.regions.items():
        here = int(np.count_nonzero(mask.on(bone.grid).values & inside))
        if here > best:
            best, name = here, region
    return point, name or "bone"
