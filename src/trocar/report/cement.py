"""Write the cement sheet: how much, through what, from when to when, and where it may leak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trocar import NOTICE, __version__
from trocar.model.case import Finding, Lesion, gravest_first
from trocar.model.plan import CementPlan
from trocar.model.result import Anatomy, Injection, LeakForecast, Scan
from trocar.report import cement_figures as drawn
from trocar.report import words
from trocar.report.page import Speaker, render, spoken_language, write_whole
from trocar.report.sheet import Row, Verdict

_FRAMES = 9
_MINUTE_S = 60.0
_ORDER = ("stop", "unknown", "caution", "note", "ok")


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
    viewer: bool = False,
) -> Path:
    """Write the sheet on the planned cement of one lesion to ``path`` and return it.

    ``viewer`` is kept for the interactive viewer, which this sheet does not yet hold. Raises
    :class:`InputError` for an unknown language or a place that cannot be written.
    """
    t = Speaker(spoken_language(language))
    grades = [plan.verdict, *(w["grade"] for w in _warnings(plan, injection, forecast, t))]
    gravity = min((g for g in grades if g != "note"), key=_ORDER.index)
    heat = injection.heat
    unknown = dict.fromkeys(
        (
            *anatomy.missing,
            *injection.fill.unknown,
            *(forecast.unknown if forecast else (t("leaks were not forecast"),)),
            *(heat.unknown if heat else (t("heat was not computed"),)),
        )
    )
    if heat and heat.over_limit:
        gravity = "stop"
    if unknown and gravity in ("ok", "caution"):
        gravity = "unknown"
    site = words.site(plan.site, t.language)
    html = render(
        "cement.html.jinja",
        t=t,
        language=t.language,
        notice=NOTICE,
        version=__version__,
        title=t("Cement plan, {site}, lesion {lesion}", site=plan.site, lesion=plan.lesion_id),
        heading=t("Cement plan"),
        who=[Row(what=t("Site"), value=site), Row(what=t("Lesion"), value=plan.lesion_id)],
        site=site,
        lesion_id=plan.lesion_id,
        verdict=Verdict(gravity=gravity, headline=_headline(plan, t), details=_details(plan, t)),
        warnings=_warnings(plan, injection, forecast, t),
        sections=_sections(scan, anatomy, lesion, plan, injection, forecast, tuple(unknown), t),
        viewer_after="",
        wants_viewer=False,
    )
    return write_whole(Path(path), html, what="the cement sheet")


def _headline(plan: CementPlan, t: Speaker) -> str:
    return t(
        "{target:.1f} ml of cement ({low:.1f} to {high:.1f} ml)",
        target=plan.target_ml,
        low=plan.low_ml,
        high=plan.high_ml,
    )


def _details(plan: CementPlan, t: Speaker) -> tuple[str, ...]:
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
    return (stop, window, *through, *why)


def _grade(grade: str, t: Speaker) -> dict[str, str]:
    return {"grade": grade, "word": t(grade)}


def _warnings(
    plan: CementPlan, injection: Injection, forecast: LeakForecast | None, t: Speaker
) -> list[dict[str, str]]:
    heat = injection.heat.findings if injection.heat else ()
    told: list[Finding] = [*plan.findings, *injection.findings, *injection.fill.findings, *heat]
    told += forecast.findings if forecast else ()
    said = {words.say(f, t.language): f.gravity.value for f in reversed(gravest_first(tuple(told)))}
    out = [_grade(grade, t) | {"text": text} for text, grade in said.items()]
    return sorted(out, key=lambda w: _ORDER.index(w["grade"]))


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
    log = [
        t(
            "{minutes:.1f} min, {volume:.1f} ml: {state} {where}",
            minutes=e.age_s / _MINUTE_S,
            volume=e.injected_ml,
            state=t(e.state),
            where=t(e.compartment) if e.compartment else "",
        ).strip()
        for e in injection.events
    ]
    rules = [
        {
            "alarm": r.verdict == "stop",
            "cells": [
                t(r.rule),
                _grade(r.verdict, t),
                words.say(r.finding, t.language),
                t(r.source),
                t("verified") if r.verified else t("not verified"),
            ],
        }
        for r in sorted(plan.rules, key=lambda r: _ORDER.index(r.verdict))
    ]
    head = [t("Rule"), t("Verdict"), t("Finding"), t("Source"), t("Evidence")]
    out: list[dict[str, Any]] = [
        {"id": "chance", "title": t("Chance of a leak"), "blocks": chance},
        {
            "id": "filling-title",
            "title": t("Filling, step by step"),
            "blocks": [{"kind": "frames", "frames": shown, "chosen": len(shown) - 1}],
        },
        {
            "id": "course",
            "title": t("Pressure and volume over time"),
            "blocks": [
                {"kind": "picture", "figure": course, "look": "chart"},
                {"kind": "list", "lines": log},
            ],
        },
        {
            "id": "rules",
            "title": t("Rules"),
            "blocks": [{"kind": "table", "head": head, "rows": rules}],
        },
    ]
    if injection.heat is not None:
        out.append({"id": "heat", "title": t("Heat"), "blocks": [_heat(injection.heat, t)]})
    lines = [t.name(name) for name in unknown] or [t("None found.")]
    out.append(
        {"id": "unknown", "title": t("Unknown"), "blocks": [{"kind": "list", "lines": lines}]}
    )
    return out


def _chances(forecast: LeakForecast, t: Speaker) -> dict[str, Any]:
    volumes = [forecast.volume_ml * k / 4 for k in (1, 2, 3, 4)]
    rows = []
    for name in sorted(forecast.onset_ml, key=lambda n: (n not in forecast.alarms, n)):
        told = [drawn.interval_percent(forecast, v, name) for v in volumes]
        cells = [t(name), *(f"{p:.0f} % ({a:.0f}–{b:.0f})" for p, a, b in told)]
        rows.append({"alarm": name in forecast.alarms, "cells": cells})
    return {"kind": "table", "head": [t("Place"), *(f"{v:.1f} ml" for v in volumes)], "rows": rows}


def _heat(heat: Any, t: Speaker) -> dict[str, Any]:
    names = sorted(heat.structures_c, key=lambda n: n not in heat.over_limit)
    rows = [
        {
            "alarm": n in heat.over_limit,
            "cells": [
                t.name(n),
                f"{heat.structures_c[n]:.1f} °C",
                _grade("stop" if n in heat.over_limit else "ok", t),
            ],
        }
        for n in names
    ]
    rows += [
        {"alarm": False, "cells": [t.name(n), "–", _grade("unknown", t)]} for n in heat.unknown
    ]
    return {"kind": "table", "head": [t("Structure"), t("Highest"), t("Verdict")], "rows": rows}
