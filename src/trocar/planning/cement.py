"""How much cement for one lesion, through which needles, when, and when to stop.

The volume serves strength and stiffness and what a lytic hollow takes; it does not serve pain, for
which no series found that more is better. Every rule says what it gave and where it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trocar import places
from trocar.errors import InputError
from trocar.facts import cement as known
from trocar.facts import products
from trocar.facts.cement import BoneCement
from trocar.facts.products import Needle
from trocar.facts.source import Value, load
from trocar.kernels import flow
from trocar.model.case import Finding, Gravity, Lesion, Site, WallDefect, gravest_first
from trocar.model.plan import CementNeedle, CementPlan, PlanRule, Trajectory
from trocar.model.result import Anatomy, Injection, LeakForecast
from trocar.model.space import Float
from trocar.planning.needle import way_rule

_ML = 1e-6  # m3
_MM = 1e-3  # m
_MINUTE_S = 60.0
_PIECES_MM = 0.5


def value(name: str) -> Value:
    """One number of ``cement_plan.toml`` by its name, such as ``target_fill``."""
    return load("cement_plan")[name]


def typical_ml(site: Site) -> tuple[float, float]:
    """The usual volume at a site in ml, lowest and highest.

    >>> typical_ml(Site.parse("L3"))
    (3.0, 6.0)
    """
    table = load("cement_plan").data["typical_ml"]
    key = {"upper_thoracic": "thoracic", "lower_thoracic": "thoracic", "cervical": "thoracic"}
    region = key.get(site.region, site.region)
    low, high = table[site.kind if site.kind in table else region]
    return float(low), float(high)


def needle_pressure_pa(
    needle: Needle, cement: BoneCement, *, age_s: float, rate_ml_s: float, room_c: float
) -> float:
    """What the needle alone costs at the syringe: pipe flow of a power-law fluid (F.5 no. 4)."""
    per = flow.needle_pressure_per_consistency(
        rate_ml_s * _ML, needle.inner_mm / 2 * _MM, needle.length_mm * _MM, cement.exponent
    )
    return per * cement.viscosity_pa_s(age_s, room_c=room_c)


def plan_cement(
    anatomy: Anatomy,
    lesion: Lesion | None,
    needles: Sequence[Trajectory],
    *,
    cement: BoneCement,
    room_c: float,
    rate_ml_s: float | None = None,
    pressure_limit_pa: float | None = None,
    target_ml: float | None = None,
    given_ml_this_session: float = 0.0,
    old_cement_ml: float = 0.0,
) -> CementPlan:
    """How much cement should go through these needles, when, and what must stop it?

    Needles are injected in the order given, with equal volumes. Without ``target_ml`` the volume
    follows from body and lesion (``reason`` says how); ``old_cement_ml`` already in the bone counts
    towards its fill, ``given_ml_this_session`` towards the session's limit. The limit of pressure
    is that of a hand screw unless given. No rule passes on what is unknown.
    Raises InputError without needles and for volumes, rates or temperatures that cannot be.
    """
    rate = float(value("rate")) if rate_ml_s is None else rate_ml_s
    limit = (
        float(known.value("hand_screw_limit")) if pressure_limit_pa is None else pressure_limit_pa
    )
    _require(needles, target_ml, given_ml_this_session, old_cement_ml, rate, room_c)
    aim = _aim(anatomy, lesion, old_cement_ml)
    target = aim.target_ml if target_ml is None else target_ml
    first, last = cement.window_s(room_c=room_c)
    narrowest = min(needles, key=lambda t: t.needle.inner_mm).needle
    rules = [
        _volume_rule(aim, target, anatomy.site),
        _void_rule(aim, target),
        _session_rule(target, given_ml_this_session),
        _time_rule(cement, room_c, target, rate),
        _pressure_rule(narrowest, cement, room_c, rate, first, last, target, limit),
        *_place_rules(anatomy, lesion, needles),
        _signs_rule(anatomy.site),
    ]
    latest = min(last, _too_stiff_s(narrowest, cement, room_c, rate, limit))
    if not latest > first:
        latest = last  # the rule on pressure says that it cannot be done
    made = tuple(
        CementNeedle(
            needle=t.needle,
            path=t.path,
            volume_ml=target / len(needles),
            pull_backs=_pull_backs(anatomy, t, target / len(needles)),
        )
        for t in needles
    )
    return CementPlan(
        lesion_id="" if lesion is None else lesion.lesion_id,
        site=anatomy.site,
        cement=cement,
        room_c=room_c,
        needles=made,
        rate_ml_s=rate,
        start_s=first,
        latest_s=latest,
        pressure_limit_pa=limit,
        low_ml=min(aim.low_ml, target),
        high_ml=max(aim.high_ml, target),
        reason=aim.reason,
        rules=tuple(rules),
        findings=gravest_first((*_grades(cement), _not_for_pain())),
    )


def with_forecast(
    plan: CementPlan, forecast: LeakForecast, injection: Injection | None = None
) -> CementPlan:
    """The plan with its volume kept below the leak that was forecast.

    ``stop_ml`` becomes the least of the plan's upper limit, of the volume up to which canal,
    foramen and joint stay free in all but an accepted share of the forecast, and of the first leak
    of the planned ``injection``, the latter two less a tenth. A target above it is lowered, the
    needles' volumes with it. Where the canal is unknown nothing is safe: ``stop_ml`` is None.
    """
    rules, stop = [], plan.high_ml
    accepted = load("injection")["accepted_alarm"]
    margin = 1 - float(value("onset_margin"))
    if "spinal_canal" in forecast.unknown:
        rules.append(
            _rule(
                "forecast leak",
                "unknown",
                Finding(
                    gravity=Gravity.STOP,
                    message="The canal of {site} is not known, so no volume can be called safe.",
                    values={"site": str(plan.site)},
                ),
                accepted,
            )
        )
    else:
        safe = forecast.safe_ml(float(accepted), *forecast.alarms)
        share = float(forecast.chance(forecast.volume_ml, *forecast.alarms))
        leaks = safe < forecast.volume_ml
        if leaks:
            stop = min(stop, margin * safe)
        rules.append(
            _rule(
                "forecast leak",
                "caution" if leaks else "ok",
                Finding(
                    gravity=Gravity.CAUTION if leaks else Gravity.NOTE,
                    message="Of {runs} simulated injections of {volume_ml:.1f} ml, {percent:.0f} % "
                    "reach canal, foramen or joint; up to {safe_ml:.1f} ml at most {accepted:.0f} "
                    "% do.",
                    values={
                        "runs": forecast.runs,
                        "volume_ml": forecast.volume_ml,
                        "percent": 100 * share,
                        "safe_ml": safe,
                        "accepted": 100 * float(accepted),
                    },
                ),
                accepted,
            )
        )
    if injection is not None:
        rules.append(rule := _simulated_rule(injection))
        if rule.verdict in ("caution", "stop"):
            stop = min(stop, margin * float(rule.finding.values["injected_ml"]))
    lowered = plan
    least = float(value("least_useful"))
    if stop < plan.target_ml:
        enough = stop >= least
        rules.append(
            _rule(
                "volume before a leak",
                "caution" if enough else "stop",
                Finding(
                    gravity=Gravity.CAUTION if enough else Gravity.STOP,
                    message="The target of {target_ml:.1f} ml is lowered to {stop_ml:.1f} ml, a "
                    "tenth below the {leak_ml:.1f} ml from which a leak is foreseen."
                    if enough
                    else "A leak is foreseen almost at once: {stop_ml:.1f} of {target_ml:.1f} ml "
                    "can go in before it.",
                    values={
                        "target_ml": plan.target_ml,
                        "stop_ml": stop,
                        "leak_ml": stop / margin,
                    },
                ),
                value("onset_margin") if enough else value("least_useful"),
            )
        )
        if enough:
            lowered = _scaled(plan, stop / plan.target_ml)
    canal_known = "spinal_canal" not in forecast.unknown
    return replace(
        lowered,
        low_ml=min(plan.low_ml, lowered.target_ml),
        high_ml=max(lowered.target_ml, min(plan.high_ml, stop)),
        stop_ml=stop if canal_known else None,
        rules=(*_judged_again(plan, lowered.target_ml), *rules),
    )


# --- how much -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Aim:
    low_ml: float
    high_ml: float
    target_ml: float
    reason: Finding
    body_ml: float | None  # of a vertebra
    void_ml: float | None  # of a lytic lesion inside the bone
    old_ml: float


def _aim(anatomy: Anatomy, lesion: Lesion | None, old_ml: float) -> _Aim:
    """The volume that strength, stiffness and the hollow ask for."""
    void = None
    if lesion is not None and lesion.kind in ("lytic", "mixed"):
        inside = lesion.mask.on(anatomy.grid).values & anatomy.bone.values
        void = float(np.count_nonzero(inside)) * anatomy.grid.voxel_ml
    body = anatomy.regions.get("vertebral_body")
    known_body = body is not None and not body.is_empty
    usual_low, usual_high = typical_ml(anatomy.site)
    if body is not None and known_body:
        fill = value("target_fill")
        low, mean, high = (_share(fill, end) * body.volume_ml - old_ml for end in _ENDS)
        low, high = max(low, 0.0), max(high, void or 0.0, 0.0)
        # A hollow that the advised share can fill is filled; the rest waits for a reason.
        target = float(np.clip(mean if void is None else void, low, max(mean, low)))
    elif void is not None and void > 0:
        share = value("void_fill")
        low, high = share.mean * void, _share(share, "high") * void
        target = min(high, max(usual_high, low))
    else:
        low, high = usual_low, usual_high
        target = (low + high) / 2
    reason = Finding(
        gravity=Gravity.NOTE,
        message="A fifth to three tenths of the body of {body_ml:.0f} ml restore strength and "
        "stiffness; the hollow of the lesion holds {void_ml:.1f} ml."
        if known_body and void is not None
        else "A fifth to three tenths of the body of {body_ml:.0f} ml restore strength and "
        "stiffness."
        if known_body
        else "The hollow of the lesion holds {void_ml:.1f} ml; half of such hollows was filled on "
        "average, and {usual_low:.0f} to {usual_high:.0f} ml are usual here."
        if void
        else "Neither a vertebral body nor a hollow is known to measure the volume by; "
        "{usual_low:.0f} to {usual_high:.0f} ml are usual here.",
        values={
            "body_ml": 0.0 if body is None else body.volume_ml,
            "void_ml": void or 0.0,
            "low_ml": low,
            "high_ml": high,
            "usual_low": usual_low,
            "usual_high": usual_high,
        },
    )
    least = float(value("least_useful"))
    return _Aim(
        low_ml=low,
        high_ml=max(high, least),
        target_ml=max(target, least),
        reason=reason,
        body_ml=None if body is None or body.is_empty else body.volume_ml,
        void_ml=void,
        old_ml=old_ml,
    )


_ENDS = ("low", "mean", "high")


def _share(known_: Value, end: str) -> float:
    number = getattr(known_, end)
    assert number is not None, known_.name
    return float(number)


def _volume_rule(aim: _Aim, target_ml: float, site: Site) -> PlanRule:
    """Strength and stiffness of a body; the usual volume elsewhere."""
    if aim.body_ml is None:
        low, high = typical_ml(site)
        usual = low <= target_ml <= high
        return _rule(
            "volume",
            "ok" if usual else "caution",
            Finding(
                gravity=Gravity.NOTE if usual else Gravity.CAUTION,
                message="{target_ml:.1f} ml; {low_ml:.0f} to {high_ml:.0f} ml are usual here.",
                values={"target_ml": target_ml, "low_ml": low, "high_ml": high},
            ),
            _usual(),
        )
    fill = (target_ml + aim.old_ml) / aim.body_ml
    strength, stiffness = value("strength_fill"), value("stiffness_fill")
    most = value("target_fill")
    values = {
        "percent": 100 * fill,
        "strength": 100 * strength.mean,
        "stiffness": 100 * stiffness.mean,
        "most": 100 * _share(most, "high"),
    }
    if fill < strength.mean:
        return _rule(
            "volume",
            "caution",
            Finding(
                gravity=Gravity.CAUTION,
                message="{percent:.0f} % of the body is filled: less than the {strength:.0f} % "
                "that restored "
                "strength.",
                values={**values},
            ),
            strength,
        )
    if fill > _share(most, "high") + 1e-9 and target_ml > (aim.void_ml or 0.0) + 1e-9:
        return _rule(
            "volume",
            "caution",
            Finding(
                gravity=Gravity.CAUTION,
                message="{percent:.0f} % of the body is filled: more than the {most:.0f} % that "
                "is advised, "
                "and more than the lesion holds.",
                values={**values},
            ),
            most,
        )
    return _rule(
        "volume",
        "ok",
        Finding(
            gravity=Gravity.NOTE,
            message="{percent:.0f} % of the body is filled; {strength:.0f} % restored strength and "
            "{stiffness:.0f} % stiffness.",
            values={**values},
        ),
        stiffness,
    )


def _void_rule(aim: _Aim, target_ml: float) -> PlanRule:
    if aim.void_ml is None or aim.void_ml == 0:
        return _rule(
            "hollow",
            "ok",
            Finding(
                gravity=Gravity.NOTE,
                message="No lytic hollow is known in the bone, so none is to be filled.",
            ),
            value("void_fill"),
        )
    share = target_ml / aim.void_ml
    short = share < value("void_fill").mean
    return _rule(
        "hollow",
        "caution" if short else "ok",
        Finding(
            gravity=Gravity.CAUTION if short else Gravity.NOTE,
            message="{target_ml:.1f} ml for a hollow of {void_ml:.1f} ml.",
            values={"target_ml": target_ml, "void_ml": aim.void_ml},
        ),
        value("void_fill"),
    )


def _session_rule(target_ml: float, given_ml: float) -> PlanRule:
    limit = value("session_limit")
    total = target_ml + given_ml
    verdict = "ok" if total < _share(limit, "low") else "caution"
    if total > _share(limit, "high"):
        verdict = "stop"
    return _rule(
        "cement of the session",
        verdict,
        Finding(
            gravity={"ok": Gravity.NOTE, "caution": Gravity.CAUTION, "stop": Gravity.STOP}[verdict],
            message="{total_ml:.1f} ml in this session; caution from {low_ml:.0f} ml, no more than "
            "{high_ml:.0f} ml.",
            values={"total_ml": total, "low_ml": limit.low, "high_ml": limit.high},
        ),
        limit,
    )


# --- when -----------------------------------------------------------------------------------------


def _time_rule(cement: BoneCement, room_c: float, target_ml: float, rate: float) -> PlanRule:
    first, last = cement.window_s(room_c=room_c)
    needed = target_ml / rate
    fits = needed <= last - first
    return _rule(
        "working time",
        "ok" if fits else "stop",
        Finding(
            gravity=Gravity.NOTE if fits else Gravity.STOP,
            message="{target_ml:.1f} ml at {rate:.2f} ml/s take {needed:.1f} minutes; "
            "{window:.1f} minutes "
            "are there."
            if fits
            else "{target_ml:.1f} ml at {rate:.2f} ml/s take {needed:.1f} minutes but only "
            "{window:.1f} are there: mix a second batch, inject faster or take a slower cement.",
            values={
                "target_ml": target_ml,
                "rate": rate,
                "needed": needed / _MINUTE_S,
                "window": max(0.0, last - first) / _MINUTE_S,
            },
        ),
        known.value("usable_to"),
    )


def _too_stiff_s(
    needle: Needle, cement: BoneCement, room_c: float, rate: float, limit_pa: float
) -> float:
    """The age from which the needle alone takes all the force there is."""
    per = needle_pressure_pa(
        needle, cement, age_s=cement.reference_s, rate_ml_s=rate, room_c=room_c
    ) / cement.viscosity_pa_s(cement.reference_s, room_c=room_c)
    return cement.age_at_s(limit_pa / per, room_c=room_c)


def _pressure_rule(
    needle: Needle,
    cement: BoneCement,
    room_c: float,
    rate: float,
    first_s: float,
    last_s: float,
    target_ml: float,
    limit_pa: float,
) -> PlanRule:
    """The needle by flow: what it costs when the last of the cement goes through."""
    end = min(last_s, first_s + target_ml / rate)

    def cost(one: Needle) -> float:
        return needle_pressure_pa(one, cement, age_s=end, rate_ml_s=rate, room_c=room_c)

    here = cost(needle)
    if here <= limit_pa:
        return _rule(
            "syringe pressure",
            "ok",
            Finding(
                gravity=Gravity.NOTE,
                message="The {gauge} G needle takes {mpa:.1f} MPa at the end of the injection, of "
                "the "
                "{limit_mpa:.1f} MPa that the syringe gives; the bone adds to it.",
                values={"gauge": needle.gauge, "mpa": here / 1e6, "limit_mpa": limit_pa / 1e6},
            ),
            known.value("hand_screw_limit"),
        )
    wider = [
        g
        for g in sorted((int(g) for g in load("products").data["gauges"]), reverse=True)
        if g < needle.gauge and cost(products.needle(g, needle.length_mm)) <= limit_pa
    ]
    return _rule(
        "syringe pressure",
        "stop",
        Finding(
            gravity=Gravity.STOP,
            message="The {gauge} G needle takes {mpa:.1f} MPa at the end of the injection and the "
            "syringe "
            "gives {limit_mpa:.1f} MPa: take {wider} G or wider, inject slower or begin earlier."
            if wider
            else "The {gauge} G needle takes {mpa:.1f} MPa at the end of the injection and the "
            "syringe "
            "gives {limit_mpa:.1f} MPa; no wider needle is enough: inject slower or begin earlier.",
            values={
                "gauge": needle.gauge,
                "mpa": here / 1e6,
                "limit_mpa": limit_pa / 1e6,
                "wider": wider[0] if wider else 0,
            },
        ),
        known.value("hand_screw_limit"),
    )


# --- where ----------------------------------------------------------------------------------------


def _place_rules(
    anatomy: Anatomy, lesion: Lesion | None, needles: Sequence[Trajectory]
) -> list[PlanRule]:
    rules = [_canal_rule(anatomy)] if _has_canal(anatomy.site) else []
    tips = np.array([t.target_mm for t in needles])
    inside = anatomy.bone.holds(tips)
    if not inside.all():
        rules.append(
            _rule(
                "needle tip",
                "stop",
                Finding(
                    gravity=Gravity.STOP,
                    message="The tip of needle {number} is not in the bone: cement would come out "
                    "beside it.",
                    values={"number": int(np.argmin(inside)) + 1},
                ),
                value("posterior_share"),
            )
        )
    way = way_rule(needles)
    if way is not None:
        rules.append(way)
    behind = _posterior_share(anatomy, tips)
    if behind is not None:
        last = float(value("posterior_share"))
        worst = float(behind.max())
        far = worst > 1 - last
        rules.append(
            _rule(
                "posterior quarter",
                "caution" if far else "ok",
                Finding(
                    gravity=Gravity.CAUTION if far else Gravity.NOTE,
                    message="The tip of needle {number} lies in the posterior quarter of the "
                    "body: cement "
                    "there is a reason to stop."
                    if far
                    else "No needle tip lies in the posterior quarter of the body; stop when "
                    "cement "
                    "gets there.",
                    values={"number": int(np.argmax(behind)) + 1},
                ),
                value("posterior_share"),
            )
        )
    if lesion is None:
        rules.append(
            _rule(
                "walls of the lesion",
                "unknown",
                Finding(
                    gravity=Gravity.CAUTION,
                    message="No lesion is known, so neither are holes in its walls.",
                ),
                _usual(),
            )
        )
    else:
        rules += [_hole_rule(d) for d in lesion.defects]
    return rules


def _has_canal(site: Site) -> bool:
    return site.kind in ("vertebra", "sacrum")


def _canal_rule(anatomy: Anatomy) -> PlanRule:
    canal = anatomy.structures.get("spinal_canal")
    seen = canal is not None and not canal.is_empty and "spinal_canal" not in anatomy.missing
    return _rule(
        "canal",
        "ok" if seen else "unknown",
        Finding(
            gravity=Gravity.NOTE if seen else Gravity.STOP,
            message="The canal is known and watched."
            if seen
            else "The spinal canal of {site} was not found: cement in it could not be foreseen.",
            values={"site": str(anatomy.site)},
        ),
        value("posterior_share"),
    )


def _posterior_share(anatomy: Anatomy, points: Float) -> Float | None:
    """How far back points lie in the body: 0 at its front, 1 at its posterior wall."""
    body = anatomy.regions.get("vertebral_body")
    if body is None or body.is_empty:
        return None
    depth = anatomy.axes.local(body.points_mm())[:, 1]
    front, back = np.percentile(depth, [1, 99])
    out: Float = (anatomy.axes.local(points)[:, 1] - front) / (back - front)
    return out


_BEYOND = {
    "posterior wall": "the spinal canal",
    "articular surface": "the joint",
    "superior end plate": "the disc",
    "inferior end plate": "the disc",
}


def _hole_rule(defect: WallDefect) -> PlanRule:
    """A hole in a wall, and what cement gets into through it."""
    beyond = _BEYOND.get(defect.wall)
    if beyond is None and "pedicle" in defect.wall:
        beyond = "the canal or the foramen"
    return _rule(
        "hole in the wall",
        "caution",
        Finding(
            gravity=Gravity.CAUTION,
            message="The {wall} has a hole of {area_mm2:.0f} mm2: stop at the first cement beyond "
            "it "
            "({beyond}).",
            values={
                "wall": defect.wall,
                "area_mm2": defect.area_mm2,
                "beyond": beyond or "soft tissue",
            },
        ),
        value("posterior_share"),
    )


def _signs_rule(site: Site) -> PlanRule:
    spinal = site.kind in ("vertebra", "sacrum")
    return _rule(
        "stop signs",
        "ok",
        Finding(
            gravity=Gravity.NOTE,
            message="Stop at cement in the posterior quarter of the body, in canal, foramen or "
            "disc, in a "
            "vein, or when the syringe takes all force."
            if spinal
            else "Stop at cement in the joint, in a vein, beyond the bone, or when the syringe "
            "takes "
            "all force.",
        ),
        value("posterior_share"),
    )


def _pull_backs(
    anatomy: Anatomy, trajectory: Trajectory, volume_ml: float
) -> tuple[tuple[float, float], ...]:
    """Where the needle moves back: inside the bone and not into the posterior quarter."""
    every, step = float(value("pull_back_every")), float(value("pull_back"))
    way = trajectory.path.direction
    out: list[tuple[float, float]] = []
    for k in range(1, int(np.ceil(volume_ml / every - 1e-9))):
        back = np.arange((k - 1) * step, k * step + 1e-9, _PIECES_MM)
        points = trajectory.target_mm - back[:, None] * way
        behind = _posterior_share(anatomy, points)
        in_front = behind is None or bool((behind <= 1 - float(value("posterior_share"))).all())
        if not (anatomy.bone.holds(points).all() and in_front):
            break
        out.append((k * every, step))
    return tuple(out)


# --- words ----------------------------------------------------------------------------------------


def _rule(name: str, verdict: str, finding: Finding, source: Value) -> PlanRule:
    return PlanRule(
        rule=name,
        verdict=verdict,  # type: ignore[arg-type]
        finding=finding,
        source=source.source,
        verified=source.verified,
    )


def _usual() -> Value:
    return Value(
        name="typical_ml", mean=0.0, unit="ml", source="usual volumes by site",
        evidence="general knowledge",
    )  # fmt: skip


def _simulated_rule(injection: Injection) -> PlanRule:
    """The first leak that the watched injection showed, or that there was none."""
    source = load("injection")["visible_leak"]
    seen = [e for e in injection.events if e.state == "leak detected"]
    if not seen:
        return _rule(
            "simulated injection",
            "ok",
            Finding(
                gravity=Gravity.NOTE,
                message="The simulated injection of {injected_ml:.1f} ml shows no leak.",
                values={"injected_ml": float(injection.injected_ml[-1])},
            ),
            source,
        )
    grave = next((e for e in seen if e.compartment in places.ALARMS), None)
    event = grave or seen[0]
    return _rule(
        "simulated injection",
        "stop" if grave and event.injected_ml < float(value("least_useful")) else "caution",
        Finding(
            gravity=Gravity.CAUTION,
            message="The simulated injection leaks at {injected_ml:.1f} ml ({compartment}).",
            values={
                "injected_ml": min(e.injected_ml for e in seen),
                "compartment": event.compartment,
            },
        ),
        source,
    )


def _grades(cement: BoneCement) -> tuple[Finding, ...]:
    if cement.evidence == "verified":
        return ()
    return (
        Finding(
            gravity=Gravity.CAUTION,
            message="The flow of {name} cement is a stand-in, not measured: the maker's times go "
            "before these.",
            values={"name": cement.name},
        ),
    )


def _not_for_pain() -> Finding:
    return Finding(
        gravity=Gravity.NOTE,
        message="More cement is not less pain: in 158 patients (Kaufmann 2006) and 44 pelvic "
        "lesions relief did not follow the volume.",
    )


def _judged_again(plan: CementPlan, target_ml: float) -> tuple[PlanRule, ...]:
    """The plan's rules, those on its volume held against another target."""
    if target_ml == plan.target_ml or plan.reason is None:
        return plan.rules
    told = plan.reason.values
    body, void = (float(told[key]) or None for key in ("body_ml", "void_ml"))
    by_name = {r.rule: r.finding.values for r in plan.rules}
    percent = by_name["volume"].get("percent")
    old = 0.0 if body is None or percent is None else percent / 100 * body - plan.target_ml
    aim = _Aim(
        low_ml=plan.low_ml,
        high_ml=plan.high_ml,
        target_ml=target_ml,
        reason=plan.reason,
        body_ml=body,
        void_ml=void,
        old_ml=max(0.0, old),
    )
    given = float(by_name["cement of the session"]["total_ml"]) - plan.target_ml
    fresh = (
        _volume_rule(aim, target_ml, plan.site),
        _void_rule(aim, target_ml),
        _session_rule(target_ml, max(0.0, given)),
        _time_rule(plan.cement, plan.room_c, target_ml, plan.rate_ml_s),
    )
    new = {r.rule: r for r in fresh}
    return tuple(new.get(r.rule, r) for r in plan.rules)


def _scaled(plan: CementPlan, share: float) -> CementPlan:
    needles = tuple(
        replace(
            n,
            volume_ml=n.volume_ml * share,
            pull_backs=tuple(p for p in n.pull_backs if p[0] < n.volume_ml * share),
        )
        for n in plan.needles
    )
    return replace(plan, needles=needles)


def _require(
    needles: Sequence[Trajectory],
    target_ml: float | None,
    given_ml: float,
    old_ml: float,
    rate: float,
    room_c: float,
) -> None:
    if not needles:
        raise InputError("no needle was given to inject through; plan one that reaches the lesion")
    if target_ml is not None and not target_ml > 0:
        raise InputError(f"the target is {target_ml} ml; expected more than 0")
    if not (given_ml >= 0 and old_ml >= 0):
        raise InputError(
            f"{given_ml} ml given before and {old_ml} ml of old cement; expected 0 or more"
        )
    if not rate > 0:
        raise InputError(f"the rate is {rate} ml/s; expected more than 0")
    if not 10 <= room_c <= 40:
        raise InputError(f"the room is at {room_c} degC; expected 10 to 40")
