"""How weak is this bone, and what does the cement give back? Finite elements from the CT itself.

Each cube is one element; HU become density, density becomes stiffness by the law of the site. The
bone is loaded as facts say it usually is, intact (its lesion filled in the computer), as it is, and
with cement; strains under that load tell at which load it fails. All that is uncertain is taken at
its mean and at both ends. Linear: it says when the bone begins to give way, not how it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.errors import InputError
from trocar.facts import strength as facts
from trocar.facts.strength import LoadCase
from trocar.kernels import elastic
from trocar.kernels.field import distance_to
from trocar.model.case import Finding, Gravity, Site, gravest_first
from trocar.model.result import Anatomy, Fill
from trocar.model.space import Float, Mask, Volume
from trocar.model.strength import BONE_STATES, Bearing, BoneState, Spread, Strength
from trocar.simulation.bone_loads import N_MM, Grip, grip
from trocar.simulation.bone_model import Bone, Constants, Scenario, build

Bool = NDArray[np.bool_]
Progress = Callable[[str, float], None]

_SCENARIOS: tuple[Scenario, ...] = ("mean", "low", "high")
_FULL = 0.5  # share of a cube from which it is asked as cement, not as bone
_TOLERANCE = 1e-5  # of the solver; strengths are those of 1e-8 to 0.02 %
_TOP = 0.005  # the share of the bone nearest to yield in which its weakest part is looked for
_BESIDE_MM = 3.0  # from the lesion: called beside it
_FOREIGN_ML = 0.1  # of metal or old cement in or against the bone, from which it is said
_MANY_LOOSE = 0.01  # share of the bone that hangs on nothing, from which it is said
_WELL = 0.75  # of the intact bone: below it, with cement, it is said that much is missing

PISTOIA, STRAIN, HEIGHT = "effective strain", "yield strain", "stiffness and height"


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
    if weight_kg is not None and not 20.0 <= weight_kg <= 350.0:
        raise InputError(f"a body weight of {weight_kg:g} kg; expected 20 to 350 kg")
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
    findings, unknown = _told(
        bone, anatomy, bearings, cases, weight_kg, asked["now"],
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


@dataclass(frozen=True, eq=False, kw_only=True)
class _Loaded:
    """One state under one load in one run."""

    load_n: float
    stiffness_n_mm: float | None
    failure_n: Mapping[str, float]
    used: Float
    asked: Bool
    young: Float
    cement_used: float | None
    loose: int


def _run(
    bone: Bone,
    anatomy: Anatomy,
    cases: Sequence[LoadCase],
    states: Sequence[BoneState],
    interval: bool,
    weight_kg: float | None,
    progress: Progress | None,
) -> dict[tuple[BoneState, str, Scenario], _Loaded]:
    grips = {c.name: grip(c, bone, anatomy, weight_kg) for c in cases}
    scenarios = _SCENARIOS if interval else ("mean",)
    out: dict[tuple[BoneState, str, Scenario], _Loaded] = {}
    total, done = len(grips) * len(states) * len(scenarios), 0
    bodies: dict[bytes, elastic.Body] = {}
    guesses: dict[tuple[BoneState, bytes], _Guess] = {}
    cap = facts.material("cap")
    for state in states:
        for scenario in scenarios:
            used = Constants.of(scenario, bone.calibration.method)
            young, poisson = bone.stiffness(state, used)
            moved: dict[bytes, list[NDArray[np.float64]]] = {}
            for case in cases:
                held = grips[case.name]
                e = np.where(held.cap, float(cap.modulus_mpa), young)
                nu = np.where(held.cap, float(cap.poisson), poisson)
                key = held.held.tobytes()
                if key not in bodies:
                    bodies[key] = elastic.Body(
                        e, nu, spacing_mm=bone.grid.spacing_mm, held=held.held
                    )
                elif key not in moved:
                    bodies[key].stiffen(e, nu)
                guess = guesses.setdefault((state, key), _Guess())
                out[state, case.name, scenario] = _loaded(
                    bodies[key], guess, moved.setdefault(key, []), held, case, bone, e, state,
                    weight_kg,
                )  # fmt: skip
                done += 1
                if progress is not None:
                    progress("strength", done / total)
    return out


class _Guess:
    """Where the bone went in an earlier run; the next begins there, stiffer or softer than that."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[NDArray[np.float64], float]] = {}

    def start(self, name: str, young: float) -> NDArray[np.float64] | None:
        """A displacement to begin with; ``young`` is 1 where displacement itself is given."""
        if name not in self._held:
            return None
        u, before = self._held[name]
        return u * (before / young)

    def keep(self, name: str, u: NDArray[np.float64], young: float) -> None:
        """For the next run."""
        self._held[name] = (u, young)


def _loaded(
    body: elastic.Body,
    guess: _Guess,
    moved: list[NDArray[np.float64]],
    held: Grip,
    case: LoadCase,
    bone: Bone,
    young: Float,
    state: BoneState,
    weight_kg: float | None,
) -> _Loaded:
    """Solve and read; ``moved`` keeps what the plate's two own motions make, for the next case."""
    if held.platen is not None:
        stiffness: float | None
        u, load, stiffness = _pressed(body, guess, moved, held.platen, case, bone, weight_kg)
    else:
        assert held.force_n is not None
        mean = float(young[bone.bone].mean())
        u = body.solve(
            force_n=held.force_n, tolerance=_TOLERANCE, start_mm=guess.start(case.name, mean)
        ).displacement_mm
        guess.keep(case.name, u, mean)
        load, stiffness = _stiffness(u, held, case, weight_kg)
    strain = body.strain(u)
    lanes = elastic.principal(strain)
    cement = bone.cement.get(state)
    filled = np.zeros_like(bone.bone) if cement is None else (cement >= _FULL) & bone.bone
    soft = bone.lytic & ~filled if state != "intact" else np.zeros_like(bone.bone)
    asked = bone.bone & body.kept & ~soft & ~filled & ~held.aside
    if not asked.any():
        raise InputError("no bone is left to be asked: all of it is lesion, cement or under a load")
    limit = facts.site(bone.site.kind).strain
    used = limit.used(lanes[0], lanes[2])
    share = 1.0 - float(facts.value("pistoia_share"))
    # Rounding may leave a whiff below 0 where nothing is strained.
    energy = np.maximum(body.energy_mj(u), 0.0) / float(np.prod(bone.grid.spacing_mm))
    effective = np.sqrt(2.0 * energy[asked] / young[asked])
    failure = {
        PISTOIA: facts.pistoia_load_n(load, float(np.quantile(effective, share))),
        STRAIN: load / float(np.quantile(used[asked], share)),
    }
    if held.platen is not None and not case.moments and stiffness is not None:
        failure[HEIGHT] = facts.height_load_n(stiffness, _height_mm(held, bone))
    in_cement = None
    if filled.any():
        stress = elastic.principal(body.stress(u)[:, filled])
        pmma = facts.material("pmma")
        assert pmma.compression_mpa is not None
        assert pmma.tension_mpa is not None
        most = np.maximum(
            -stress[0] / float(pmma.compression_mpa), stress[2] / float(pmma.tension_mpa)
        )
        in_cement = float(np.quantile(np.maximum(most, 0.0), share))
    return _Loaded(
        load_n=load,
        stiffness_n_mm=stiffness,
        failure_n=failure,
        used=np.where(bone.bone & body.kept, used, 0.0),
        asked=asked,
        young=young,
        cement_used=in_cement,
        loose=body.loose_voxels,
    )


def _pressed(
    body: elastic.Body,
    guess: _Guess,
    moved: list[NDArray[np.float64]],
    platen: Bool,
    case: LoadCase,
    bone: Bone,
    weight_kg: float | None,
) -> tuple[NDArray[np.float64], float, float]:
    """A stiff plate pressed down on the vertebra, and bent forward where the case says so.

    Without a moment it stays level; with one it nods freely. Both are sums of two motions, one
    down and one nod, which are solved once.
    """
    rows = np.arange(platen.shape[1]) * bone.grid.spacing_mm[1]
    where = np.argwhere(platen)
    middle = float(rows[where[:, 1]].mean())
    arm = (rows - middle)[None, :, None]  # backward from the plate's middle
    ways = (np.ones_like(arm), arm / max(float(np.abs(arm).max()), 1.0))
    wanted = (1,) if not case.moments else (1, 2)
    answers = []
    for k, way in enumerate(ways[: len(wanted)]):
        if len(moved) <= k:
            given = np.zeros((3, *platen.shape))
            given[0] = platen * way
            name = "down" if k == 0 else "nod"
            u = body.solve(
                given, tolerance=_TOLERANCE, start_mm=guess.start(name, 1.0)
            ).displacement_mm
            guess.keep(name, u, 1.0)
            moved.append(u)
        hold = body.internal_n(moved[k])[0] * platen
        answers.append((float(hold.sum()), float((hold * arm).sum())))
    force = case.forces[0].newton(weight_kg)
    if len(wanted) == 1:
        down, nod = -force / answers[0][0], 0.0
        u = down * moved[0]
    else:
        bend = N_MM * sum(float(m.size_nm) * m.about[0] for m in case.moments)
        # About the left axis a force upward at an arm backward turns forward.
        down, nod = np.linalg.solve(np.array(answers).T, np.array([-force, bend]))
        u = down * moved[0] + nod * moved[1]
    return u, force, float(force / -down)


def _stiffness(
    u: NDArray[np.float64], held: Grip, case: LoadCase, weight_kg: float | None
) -> tuple[float, float | None]:
    """Force over how far the pushed surface goes its way; N m of a twist alone has none."""
    if held.pushed is None:
        return N_MM * float(case.moments[0].size_nm), None
    nodes, way = held.pushed
    force = case.forces[0].newton(weight_kg)
    gone = float((u[:, nodes] * way[:, None]).sum(axis=0).mean())
    return force, force / gone if gone > 0 else None


def _height_mm(held: Grip, bone: Bone) -> float:
    """From plate to plate, where the vertebra's body and its caps lie."""
    slices = np.flatnonzero(held.held[0].any(axis=(1, 2)))
    return float((slices[-1] - slices[0]) * bone.grid.spacing_mm[0])


# --- reading -------------------------------------------------------------------------------------


def _bearing(
    state: BoneState,
    case: LoadCase,
    runs: Mapping[tuple[BoneState, str, Scenario], _Loaded],
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


def _load(case: LoadCase, middle: _Loaded, weight_kg: float | None) -> Spread:
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


def _weakest(run: _Loaded, bone: Bone, anatomy: Anatomy, state: BoneState) -> tuple[Float, str]:
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


def _told(
    bone: Bone,
    anatomy: Anatomy,
    bearings: Iterable[Bearing],
    cases: Sequence[LoadCase],
    weight_kg: float | None,
    now: _Loaded,
    given_ml: Mapping[BoneState, float],
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """What a person must know before believing the numbers; what is grave about them."""
    findings, unknown = [], []
    bearings = tuple(bearings)
    real = "found" if any(b.state == "found" for b in bearings) else "now"  # the bone of today
    before = {b.load: b.failure_n[b.criterion].mean for b in bearings if b.state == "now"}
    if bone.foreign_ml >= _FOREIGN_ML:
        unknown.append("bone under metal or old cement")
        findings.append(
            Finding(
                gravity=Gravity.STOP,
                message="Metal or old cement lies in this bone or against it ({ml:.1f} ml): this "
                "CT shows it neither as it was nor what it bears. Give the CT from before the "
                "cement, and the cement beside it.",
                values={"ml": bone.foreign_ml},
            )
        )
    for state, share in bone.cement.items():
        inside = float(share[bone.bone].sum()) * bone.grid.voxel_ml
        findings.append(
            Finding(
                gravity=Gravity.NOTE,
                message="Of the cement ({state}) {inside:.1f} ml lie in the bone and are counted; "
                "what leaked, {outside:.1f} ml, bears nothing.",
                values={
                    "state": state,
                    "inside": inside,
                    "outside": max(0.0, given_ml[state] - inside),
                },
            )
        )
    # A model by which even the intact bone breaks knows nothing of when this one does.
    absurd = {
        b.load for b in bearings if b.state == "intact" and facts.at_high_risk(b.ratio.mean, 1.0)
    }
    if absurd:
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="By this model even the intact bone would break under the usual load: "
                "law, load or support do not fit this bone. Compare the states with "
                "each other only.",
            )
        )
    for one in bearings:
        if one.state == real and one.load not in absurd:
            findings += _breaks(one)
        if one.state in ("planned", "found") and one.of_intact is not None:
            if one.of_intact.mean < _WELL:
                findings.append(
                    Finding(
                        gravity=Gravity.CAUTION,
                        message="With cement ({state}) the bone bears {share:.0%} of what it "
                        "would bear intact under {load}.",
                        values={"state": one.state, "share": one.of_intact.mean, "load": one.label},
                    )
                )
            if one.failure_n[one.criterion].mean < before[one.load]:
                findings.append(
                    Finding(
                        gravity=Gravity.NOTE,
                        message="By {criterion} the cement ({state}) seems to weaken the bone "
                        "under {load}: bone beside stiff cement is strained more. Look at the "
                        "stiffness and the other criteria, too.",
                        values={
                            "criterion": one.criterion,
                            "state": one.state,
                            "load": one.label,
                        },
                    )
                )
            if one.cement_used is not None and one.cement_used.mean >= 1.0:
                findings.append(
                    Finding(
                        gravity=Gravity.CAUTION,
                        message="Under {load} the cement itself ({state}) reaches its strength.",
                        values={"load": one.label, "state": one.state},
                    )
                )
    if bone.calibration.method == "none":
        unknown.append("density of this scanner")
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The CT is not calibrated: density may be off by a fifth, and strength "
                "by more. Compare the states with each other; do not read the newtons "
                "as this patient's.",
            )
        )
    if bone.cut:
        unknown.append("bone beyond the image")
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The bone runs out of the image; only the part that is seen is loaded.",
            )
        )
    rest = (now.loose + bone.loose) / max(1, int(np.count_nonzero(bone.bone)) + bone.loose)
    if rest > _MANY_LOOSE:
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="{share:.0%} of the bone hangs on nothing that is held and bears no load.",
                values={"share": rest},
            )
        )
    if any(c.by_weight() for c in cases) and weight_kg is None:
        unknown.append("body weight")
        findings.append(
            Finding(
                gravity=Gravity.NOTE,
                message="The body weight is not known; {kg:.0f} kg is taken.",
                values={"kg": float(facts.value("body_weight"))},
            )
        )
    rule = facts.site(bone.site.kind)
    if not rule.law.verified or rule.evidence == "placeholder":
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The law from density to stiffness ({law}) is not verified for this site.",
                values={"law": rule.law.label},
            )
        )
    if any(c.evidence == "placeholder" for c in cases):
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The load itself is a placeholder: no source was at hand for this site.",
            )
        )
    run = {c.name for c in cases}
    others = [c for c in facts.loads_for(bone.site.kind, bone.site.region) if c.name not in run]
    if others:
        findings.append(
            Finding(
                gravity=Gravity.NOTE,
                message="Not computed: {loads}.",
                values={"loads": ", ".join(c.label for c in others)},
            )
        )
    findings.append(
        Finding(
            gravity=Gravity.NOTE,
            message="Strength is computed for single loads on a bone alone, without muscles, "
            "ligaments and neighbours, and says nothing of falls or of many steps. It "
            "is no verdict on walking.",
        )
    )
    return tuple(findings), tuple(unknown)


def _breaks(one: Bearing) -> list[Finding]:
    """Whether the bone as it is today, with the cement that is in it, is expected to break."""
    values = {"load": one.label, "ratio": one.ratio.mean, "high": one.ratio.high}
    found = one.state == "found"
    if facts.at_high_risk(one.ratio.mean, 1.0):
        if found:
            return [
                Finding(
                    gravity=Gravity.STOP,
                    message="Even with the cement found, the bone is expected to break under "
                    "{load}: the load is {ratio:.2f} times what it bears.",
                    values=values,
                )
            ]
        return [
            Finding(
                gravity=Gravity.STOP,
                message="As it is, the bone is expected to break under {load}: the load is "
                "{ratio:.2f} times what it bears.",
                values=values,
            )
        ]
    if not facts.at_high_risk(one.ratio.high, 1.0):
        return []
    if found:
        return [
            Finding(
                gravity=Gravity.CAUTION,
                message="With the cement found, the bone may still break under {load}: the load is "
                "{ratio:.2f} times what it bears, up to {high:.2f} at the weak end.",
                values=values,
            )
        ]
    return [
        Finding(
            gravity=Gravity.CAUTION,
            message="As it is, the bone may break under {load}: the load is {ratio:.2f} times what "
            "it bears, up to {high:.2f} at the weak end.",
            values=values,
        )
    ]
