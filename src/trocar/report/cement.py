"""Write the cement sheet: how much, through what, from when to when, and where it may leak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trocar.facts import thermal
from trocar.model.case import Finding, Lesion
from trocar.model.plan import CementPlan
from trocar.model.result import (
    Anatomy,
    CementHeat,
    Injection,
    InjectionEvent,
    LeakForecast,
    Run,
    Scan,
)
from trocar.model.strength import Strength
from trocar.report import cement_figures as drawn
from trocar.report import words
from trocar.report.cement_viewer import embed
from trocar.report.page import Speaker, spoken_language
from trocar.report.sections import (
    ORDER,
    evidence,
    grade,
    listed_rules,
    listed_unknown,
    named,
    provenance,
    warned,
    with_rules,
    worst,
    write_sections,
)  # fmt: skip
from trocar.report.sheet import Row, Verdict
from trocar.report.strength import strength_section

_FRAMES = 9
_MINUTE_S = 60.0


def write_cement_sheet(
    path: Path | str,
    *,
    scan: Scan,
    anatomy: Anatomy,
    lesion: Lesion,
    plan: CementPlan,
    injection: Injection,
    forecast: LeakForecast | None,
    language: str = "en",
    viewer: bool = True,
    run: Run | None = None,
    strength: Strength | None = None,
) -> Path:
    """Write the sheet on the planned cement of one lesion to ``path`` and return it.

    With ``viewer`` the CT around the bone and the simulated cement are embedded for the interactive
    viewer, where that was installed; ``run`` says how the plan came about; ``strength`` adds what
    the bone bears. Raises :class:`InputError` for an unknown language or a place that cannot be
    written.
    """
    t = Speaker(spoken_language(language))
    warnings = _warnings(plan, injection, forecast, t)
    heat = injection.heat
    unknown = dict.fromkeys(
        (
            *anatomy.missing,
            *injection.fill.unknown,
            *(forecast.unknown if forecast else (t("leaks were not forecast"),)),
            *(heat.unknown if heat else (t("heat was not computed"),)),
        )
    )
    harmed = ("stop",) if heat and heat.over_limit else ()
    gravity = worst([plan.verdict, *harmed, *(w["grade"] for w in warnings)], unknown)
    return write_sections(
        path,
        t=t,
        what="the cement sheet",
        title=t("Cement plan, {site}, lesion {lesion}", site=plan.site, lesion=plan.lesion_id),
        heading=t("Cement plan"),
        site=plan.site,
        lesion_id=plan.lesion_id,
        verdict=Verdict(
            gravity=gravity, headline=_headline(plan, t), details=_details(plan, injection, t)
        ),
        warnings=warnings,
        sections=[
            *_sections(scan, anatomy, lesion, plan, injection, forecast, tuple(unknown), t),
            *([strength_section(strength, t)] if strength else []),
            provenance(scan, run, t),
        ],
        wants_viewer=viewer,
        embedded=embed(scan, anatomy, injection.fill, lesion.mask, t) if viewer else None,
        viewer_after="filling-title",
    )


def _headline(plan: CementPlan, t: Speaker) -> str:
    return t(
        "{target:.1f} ml of cement ({low:.1f} to {high:.1f} ml)",
        target=plan.target_ml,
        low=plan.low_ml,
        high=plan.high_ml,
    )


def _details(plan: CementPlan, injection: Injection, t: Speaker) -> tuple[str, ...]:
    heat = injection.heat
    hot = (
        (t("Too warm, as computed: {names}.", names=t.listed(heat.over_limit)),)
        if heat and heat.over_limit
        else ()
    )
    stop = (
        t("Not to pass: unknown, for no leak was forecast.")
        if plan.stop_ml is None
        else t("Not to pass: {stop:.1f} ml.", stop=plan.stop_ml)
    )
    window = t(
        "Inject from {start:.1f} to {latest:.1f} minutes after mixing, at {room:.0f} °C.",
        start=plan.start_s / _MINUTE_S,
        latest=plan.latest_s / _MINUTE_S,
        room=plan.room_c,
    )
    through = tuple(
        t(
            "Needle {number}: {gauge} gauge, {volume:.1f} ml.",
            number=k,
            gauge=n.needle.gauge,
            volume=n.volume_ml,
        )
        for k, n in enumerate(plan.needles, start=1)
    )
    why = () if plan.reason is None else (words.say(plan.reason, t.language),)
    return (*hot, stop, window, *through, *why)


def _warnings(
    plan: CementPlan, injection: Injection, forecast: LeakForecast | None, t: Speaker
) -> list[dict[str, str]]:
    heat = injection.heat.findings if injection.heat else ()
    told: list[Finding] = [*plan.findings, *injection.findings, *injection.fill.findings, *heat]
    told += forecast.findings if forecast else ()
    return with_rules(warned(told, t), plan.rules, t)


def _sections(
    scan: Scan,
    anatomy: Anatomy,
    lesion: Lesion,
    plan: CementPlan,
    injection: Injection,
    forecast: LeakForecast | None,
    unknown: tuple[str, ...],
    t: Speaker,
) -> list[dict[str, Any]]:
    volumes = np.linspace(0, float(injection.injected_ml[-1]), _FRAMES + 1)[1:]
    uris = drawn.frames(scan.volume, anatomy, lesion.mask, injection, list(volumes), t)
    shown = [
        {"ml": f"{v:.1f} ml", "uri": u, "caption": t("{volume:.1f} ml injected", volume=v)}
        for v, u in zip(volumes, uris, strict=True)
    ]
    chance: list[dict[str, Any]] = [{"kind": "remark", "text": t("No leak was forecast.")}]
    if forecast is not None:
        figure = drawn.chance_chart(forecast, target_ml=plan.target_ml, stop_ml=plan.stop_ml, t=t)
        chance = [{"kind": "picture", "figure": figure, "look": "chart"}, _chances(forecast, t)]
    course = drawn.course_chart(injection, plan, t)
    log = [_told(e, len(plan.needles) > 1, t) for e in injection.events]
    out: list[dict[str, Any]] = [
        {"id": "chance", "title": t("Chance of a leak"), "blocks": chance},
        {
            "id": "filling-title",
            "title": t("Filling, step by step"),
            "blocks": [
                {
                    "kind": "frames",
                    "label": t("Injected"),
                    "frames": shown,
                    "chosen": len(shown) - 1,
                }
            ],
        },
        {
            "id": "course",
            "title": t("Pressure and volume over time"),
            "blocks": [
                {"kind": "picture", "figure": course, "look": "chart"},
                {"kind": "remark", "text": _ended(injection, t)},
                {"kind": "list", "lines": log},
            ],
        },
        listed_rules(plan.rules, t),
    ]
    if injection.heat is not None:
        out.append({"id": "heat", "title": t("Heat"), "blocks": _heat(injection.heat, t)})
    return [*out, listed_unknown(unknown, t)]


def _told(event: InjectionEvent, several: bool, t: Speaker) -> str:
    """One line of the log: when, how much was in, what happened, where, with which needle."""
    said = t(
        "{minutes:.1f} min, {volume:.1f} ml: {state}",
        minutes=event.age_s / _MINUTE_S,
        volume=event.injected_ml,
        state=t(event.state),
    )
    more = [t(event.compartment)] if event.compartment else []
    if event.moved_mm:
        more.append(t("pulled back {mm:.1f} mm", mm=event.moved_mm))
    if several:
        more.append(t("needle {numbers}", numbers=event.needle + 1))
    return (", " if t.language == "en" else "，").join([said, *more])


def _ended(injection: Injection, t: Speaker) -> str:
    return {
        "planned volume": t("The injection ended when the planned volume was in."),
        "leak": t("The injection ended because of a leak."),
        "pressure": t("The injection ended when the hand's force was spent."),
        "working window": t("The injection ended when the cement had become too stiff."),
        "no room": t("The injection ended when no room was left around the needle."),
    }[injection.stopped_by]


def _chances(forecast: LeakForecast, t: Speaker) -> dict[str, Any]:
    volumes = [forecast.volume_ml * k / 4 for k in (1, 2, 3, 4)]
    rows = []
    for name in sorted(forecast.onset_ml, key=lambda n: (n not in forecast.alarms, n)):
        told = [drawn.interval_percent(forecast, v, name) for v in volumes]
        cells = [t(name), *(f"{p:.0f} % ({a:.0f}–{b:.0f})" for p, a, b in told)]
        rows.append({"alarm": name in forecast.alarms, "cells": cells})
    return {"kind": "table", "head": [t("Place"), *(f"{v:.1f} ml" for v in volumes)], "rows": rows}


def _heat(heat: CementHeat, t: Speaker) -> list[dict[str, Any]]:
    """The cement's own heat, then every structure beside its limit, the worst first."""
    hottest_first = sorted(heat.structures_c, key=lambda n: -heat.structures_c[n])
    rows = [_warmed(name, heat, t) for name in hottest_first]
    rows += [
        {"alarm": False, "cells": [named(n, t), "–", "–", "–", "–", grade("unknown", t), "–"]}
        for n in heat.unknown
    ]
    rows.sort(key=lambda r: ORDER.index(r["cells"][5]["grade"]))
    head = [
        t("Structure"),
        t("Highest"),
        t("Harmed from"),
        t("Dose (min at 43 °C)"),
        t("Harmful dose"),
        t("Verdict"),
        t("Evidence"),
    ]
    own = [
        Row(what=t("Cement, highest"), value=f"{heat.cement_peak_c:.1f} °C"),
        Row(what=t("Bone beside it, highest"), value=f"{heat.interface_peak_c:.1f} °C"),
        Row(what=t("Bone that dies of heat"), value=f"{heat.dead_bone_ml:.1f} ml"),
    ]
    return [{"kind": "facts", "rows": own}, {"kind": "table", "head": head, "rows": rows}]


def _warmed(name: str, heat: CementHeat, t: Speaker) -> dict[str, Any]:
    peak, dose = heat.structures_c[name], heat.structures_cem43.get(name)
    limit = thermal.limit(name)
    over = name in heat.over_limit
    if over:
        verdict = "stop"
    elif limit is None:
        verdict = "note"  # bone and metal bear what is near them
    elif dose is None:
        verdict = "unknown"
    else:
        verdict = "caution" if limit.warned(peak, dose) else "ok"
    return {
        "alarm": over,
        "cells": [
            t.name(name),
            f"{peak:.1f} °C",
            "–" if limit is None else f"{limit.harm_c:.0f} °C",
            t.number(dose, ""),
            "–" if limit is None else f"{limit.harm_cem43:.0f}",
            grade(verdict, t),
            "–" if limit is None else evidence(limit.evidence == "verified", t),
        ],
    }
