"""Write the ablation sheet: what dies, what becomes of the nerves, and what would protect them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trocar.facts import limits, thermal
from trocar.model.ablation import AblationPlan, Phase, Placed, StructureDose, ThermalDose
from trocar.model.case import Finding, Lesion
from trocar.model.result import Anatomy, Run, Scan
from trocar.planning.ablation import AblationSearch, Alternative, neural_verdict
from trocar.report import ablation_figures as drawn
from trocar.report import viewer as interactive
from trocar.report import words
from trocar.report.page import Speaker, spoken_language
from trocar.report.sections import (
    ORDER,
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
from trocar.report.viewer import Embedded, Region

_FRAMES = 6
_MINUTE_S = 60.0
_PERCENT = 100.0
_DEAD_COLOUR = (63, 224, 255)


def write_ablation_sheet(
    path: Path | str,
    *,
    scan: Scan,
    anatomy: Anatomy,
    lesion: Lesion,
    search: AblationSearch,
    language: str = "en",
    viewer: bool = True,
    run: Run | None = None,
) -> Path:
    """Write the sheet on the planned ablation of one lesion to ``path`` and return it.

    With ``viewer`` the CT around the bone and what dies are embedded for the interactive viewer,
    where that was installed; ``run`` says how the plan came about. Raises :class:`InputError` for
    an unknown language or a place that cannot be written.
    """
    t = Speaker(spoken_language(language))
    plan, dose = search.plan, search.dose
    warnings = with_rules(warned([*plan.findings, *dose.findings], t), plan.rules, t)
    unknown = tuple(dict.fromkeys((*anatomy.missing, *dose.unknown)))
    rules = [r.verdict for r in plan.rules]
    gravity = worst([dose.verdict, *rules, *(w["grade"] for w in warnings)], unknown)
    return write_sections(
        path,
        t=t,
        what="the ablation sheet",
        title=t("Ablation plan, {site}, lesion {lesion}", site=plan.site, lesion=plan.lesion_id),
        heading=t("Ablation plan"),
        site=plan.site,
        lesion_id=plan.lesion_id,
        verdict=Verdict(
            gravity=gravity, headline=_headline(plan, dose, t), details=_details(search, t)
        ),
        warnings=warnings,
        sections=[
            *_sections(scan, anatomy, lesion, search, t),
            listed_unknown(unknown, t),
            provenance(scan, run, t),
        ],
        wants_viewer=viewer,
        embedded=embed(scan, anatomy, lesion, dose, t) if viewer else None,
        viewer_after="dying",
    )


# --- verdict and warnings ----------------------------------------------------------------------


def _headline(plan: AblationPlan, dose: ThermalDose, t: Speaker) -> str:
    n = len(plan.applicators)
    many = (
        t("1 applicator, {minutes:g} min", minutes=_minutes(plan.seconds))
        if n == 1
        else t("{n} applicators, {minutes:g} min", n=n, minutes=_minutes(plan.seconds))
    )
    return f"{many}{t.colon}{_killed(dose, t)}"


def _killed(dose: ThermalDose, t: Speaker) -> str:
    if dose.lesion_covered is None:
        return t("how much of the lesion dies is unknown")
    return t("{covered:.0f} % of the lesion dies", covered=_PERCENT * dose.lesion_covered)


def _comma(t: Speaker) -> str:
    return ", " if t.language == "en" else "，"


def _end(t: Speaker) -> str:
    return "." if t.language == "en" else "。"


def _minutes(seconds: float) -> float:
    return round(seconds / _MINUTE_S, 1)


def _say(finding: Finding, t: Speaker) -> str:
    return words.sentence(words.say(finding, t.language))


def _details(search: AblationSearch, t: Speaker) -> tuple[str, ...]:
    plan, dose = search.plan, search.dose
    out = [_applicator(k, p, t) for k, p in enumerate(plan.applicators, start=1)]
    steps = _comma(t).join(_phase(p, t) for p in plan.phases)
    out.append(f"{t('Protocol')}{t.colon}{steps}{_end(t)}")
    out += [_protection(g, t) for g in plan.protections]
    out.append(_covered(plan, dose, t))
    out.append(
        t(
            "Least margin on the lesion's surface: {margin}; asked for: {wanted:g} mm.",
            margin=_margin(dose, t),
            wanted=plan.margin_mm,
        )
    )
    out.append(
        t("Dead in all: {ml}.", ml=_ml(dose.dead_ml))
        if dose.heats
        else t("Dead in all: {ml}; ice: {ice}.", ml=_ml(dose.dead_ml), ice=_ml(dose.ice_ml))
    )
    if search.suggested is not None:
        out.append(f"{t('Suggested change')}{t.colon}{_becomes(search.suggested, t)}")
    return tuple(out)


def _ml(value: float) -> str:
    return f"{value:.1f} ml"


def _applicator(number: int, placed: Placed, t: Speaker) -> str:
    device = placed.device
    said = t(
        "Applicator {number}: {device}, {route}, {depth:.0f} mm from skin to tip, {active:g} mm of "
        "it works.",
        number=number,
        device=t(device.called),
        route=t.name(placed.route) if placed.route else t("placed by hand"),
        depth=placed.path.length_mm,
        active=device.active_mm,
    )
    return said if device.verified else f"{said} {t('The data of this device are NOT verified.')}"


def _phase(phase: Phase, t: Speaker) -> str:
    said = {
        "heat": t("heat {minutes:g} min", minutes=_minutes(phase.seconds)),
        "freeze": t("freeze {minutes:g} min", minutes=_minutes(phase.seconds)),
        "thaw": t("thaw {minutes:g} min", minutes=_minutes(phase.seconds)),
        "rest": t("rest {minutes:g} min", minutes=_minutes(phase.seconds)),
    }[phase.mode]
    more = []
    if phase.mode in ("heat", "freeze") and phase.level < 1:
        more.append(t("at {percent:.0f} %", percent=_PERCENT * phase.level))
    if phase.pulled_mm:
        more.append(t("pulled back {mm:.1f} mm", mm=phase.pulled_mm))
    return " ".join([said, *more])


def _protection(guard: Any, t: Speaker) -> str:
    if guard.kind == "thermocouple":
        return t(
            "Protection: thermocouple at {structure}, stops at {limit:.0f} °C.",
            structure=guard.structure,
            limit=guard.stop_c,
        )
    layer = (
        "Protection: {gap:.0f} mm of carbon dioxide before {structure}."
        if guard.kind == "gas"
        else "Protection: {gap:.0f} mm of dextrose 5 % before {structure}."
    )
    return t(layer, gap=guard.gap_mm, structure=guard.structure)


def _covered(plan: AblationPlan, dose: ThermalDose, t: Speaker) -> str:
    if dose.lesion_covered is None:
        return t("Lesion covered: unknown, for its outline is not known.")
    said = t("Lesion covered: {share:.0f} %", share=_PERCENT * dose.lesion_covered)
    if dose.covered_low is not None and dose.covered_high is not None:
        said += t(
            " ({low:.0f} to {high:.0f} % as constants differ)",
            low=_PERCENT * dose.covered_low,
            high=_PERCENT * dose.covered_high,
        )
    else:
        said += t(" (mean constants only; the span was not computed)")
    if dose.rim_covered is not None:
        said += t(
            "; with a margin of {margin:g} mm: {rim:.0f} %",
            margin=plan.margin_mm,
            rim=_PERCENT * dose.rim_covered,
        )
    return said + _end(t)


def _margin(dose: ThermalDose, t: Speaker) -> str:
    value = dose.min_margin_mm
    if value == -np.inf:
        return t("none, for nothing dies")
    return t.mm(float("nan") if value is None else value)


def _becomes(one: Alternative, t: Speaker) -> str:
    """A change and what it makes of nerves and lesion."""
    killed = _killed(one.dose, t)
    then = t("Then, as computed, at the nerves: {verdict}", verdict=t(one.verdict))
    return f"{_say(one.change, t)} {then}{_comma(t)}{killed}{_end(t)}"


# --- sections ------------------------------------------------------------------------------------


def _sections(
    scan: Scan, anatomy: Anatomy, lesion: Lesion, search: AblationSearch, t: Speaker
) -> list[dict[str, Any]]:
    plan, dose = search.plan, search.dose
    return [
        {"id": "dying", "title": t("What dies, step by step"),
         "blocks": _dying(scan, anatomy, lesion, plan, dose, t)},
        {"id": "margin", "title": t("Margin"), "blocks": _margins(plan, dose, t)},
        {"id": "nerves", "title": t("Temperature at the nerves over time"),
         "blocks": _nerves(dose, t)},
        {"id": "limits", "title": t("Limits"), "blocks": _limits(dose, t)},
        {"id": "generator",
         "title": t("Generator") if plan.heats else t("Probe temperature"),
         "blocks": [_picture(drawn.generator_chart(plan, dose, t), "chart")]},
        {"id": "protection", "title": t("Protection, as computed"),
         "blocks": _alternatives(search, t)},
        listed_rules(plan.rules, t),
    ]  # fmt: skip


def _picture(figure: Any, look: str) -> dict[str, Any]:
    return {"kind": "picture", "figure": figure, "look": look}


def _dying(
    scan: Scan,
    anatomy: Anatomy,
    lesion: Lesion,
    plan: AblationPlan,
    dose: ThermalDose,
    t: Speaker,
) -> list[dict[str, Any]]:
    seconds = np.linspace(0, float(dose.time_s[-1]), _FRAMES + 1)[1:]
    uris = drawn.frames(scan.volume, anatomy, lesion.mask, plan, dose, list(seconds), t)
    died = dose.dead_s.values
    shown = []
    for second, uri in zip(seconds, uris, strict=True):
        ml = float(np.count_nonzero(died <= second)) * dose.dead_s.grid.voxel_ml
        caption = t("After {minutes:.1f} min: {ml:.1f} ml dead", minutes=second / _MINUTE_S, ml=ml)
        share = _share_at(dose, float(second))
        if share is not None:
            caption += _comma(t) + t("{share:.0f} % of the lesion", share=_PERCENT * share)
        told = t("{minutes:.1f} min", minutes=second / _MINUTE_S)
        shown.append({"ml": told, "uri": uri, "caption": caption})
    remark = (
        t(
            "Hatched: dead by then. Numbered lines: the highest temperature of the whole "
            "treatment, the same at every time. Applicators are drawn where the cut passes within "
            "5 mm of them, dotted elsewhere."
        )
        if dose.heats
        else t(
            "Hatched: dead by then. Numbered lines: the lowest temperature of the whole "
            "treatment, the same at every time; 0 °C is the edge of the ice. Applicators are drawn "
            "where the cut passes within 5 mm of them, dotted elsewhere."
        )
    )
    return [
        {"kind": "frames", "label": t("Time"), "frames": shown, "chosen": len(shown) - 1},
        {"kind": "remark", "text": remark},
    ]


def _share_at(dose: ThermalDose, second: float) -> float | None:
    if dose.lesion_covered is None or not len(dose.covered):
        return None
    at = max(0, int(np.searchsorted(dose.time_s, second + 1e-6, side="right")) - 1)
    return float(dose.covered[at])


def _margins(plan: AblationPlan, dose: ThermalDose, t: Speaker) -> list[dict[str, Any]]:
    figure = drawn.margin_map(dose, plan.margin_mm, t)
    if figure is None:
        return [{"kind": "remark", "text": t("The lesion's outline is not known.")}]
    counts = drawn.margin_classes(dose, plan.margin_mm)
    rows = [Row(what=t("Least margin"), value=_margin(dose, t))]
    for count, word in zip(counts, drawn.margin_words(plan.margin_mm), strict=True):
        share = _PERCENT * count / len(dose.margin_mm)
        of = t("{count} of {all} points", count=count, all=len(dose.margin_mm))
        what = words.sentence(t(word, low=0.0, high=plan.margin_mm))
        rows.append(Row(what=what, value=f"{share:.0f} %", remark=of))
    return [_picture(figure, "cuts"), {"kind": "facts", "rows": rows}]


def _nerves(dose: ThermalDose, t: Speaker) -> list[dict[str, Any]]:
    figure = drawn.nerve_chart(dose, t)
    if figure is None:
        text = t("No nerve was identified within reach, so there is no curve: unknown, not safe.")
        return [{"kind": "remark", "text": text}]
    return [_picture(figure, "chart")]


def _limits(dose: ThermalDose, t: Speaker) -> list[dict[str, Any]]:
    """Every structure beside what it bears, the worst first; unknown ones among them."""
    ranked = drawn.worst_first(dose.structures, heats=dose.heats)
    rows = [_limit_row(s, dose, t) for s in ranked]
    blank = 7 if dose.heats else 6
    for name in dose.unknown:
        cells = [named(name, t), grade("unknown", t), *["–"] * blank]
        rows.append({"alarm": False, "cells": cells})
    rows.sort(key=lambda r: ORDER.index(r["cells"][1]["grade"]))
    head = [
        t("Structure"),
        t("Verdict"),
        t("Highest") if dose.heats else t("Lowest"),
        *([t("Dose (min at 43 °C)")] if dose.heats else []),
        t("Warned from"),
        t("Harmed from"),
        t("First passed"),
        t("From what dies") if dose.heats else t("From the ice"),
        t("Evidence of the limit"),
    ]
    said: dict[str, list[str]] = {}
    for one in ranked:
        limit = drawn.limit_of(one.structure, heats=dose.heats)
        if limit is not None:
            said.setdefault(limit.source, []).append(one.structure)
    sources = [f"{t.listed(names)}{t.colon}{t(source)}" for source, names in said.items()]
    blocks: list[dict[str, Any]] = [{"kind": "table", "head": head, "rows": rows}]
    if sources:
        blocks.append({"kind": "remark", "text": t("Where the limits come from:")})
        blocks.append({"kind": "list", "lines": sources})
    return blocks


def _limit_row(one: StructureDose, dose: ThermalDose, t: Speaker) -> dict[str, Any]:
    heats = dose.heats
    limit = drawn.limit_of(one.structure, heats=heats)
    warm = limit if isinstance(limit, thermal.HeatLimit) else None
    passed = []
    if one.warned_s is not None:
        passed.append(t("warning at {minutes:.1f} min", minutes=one.warned_s / _MINUTE_S))
    if one.harmed_s is not None:
        passed.append(t("harm at {minutes:.1f} min", minutes=one.harmed_s / _MINUTE_S))
    return {
        "alarm": one.verdict == "stop",
        "cells": [
            named(one.structure, t),
            grade(one.verdict, t),
            _spanned(one, heats, t),
            *([_dosed(one, t)] if heats else []),
            _from(limit.warn_c, warm.warn_cem43 if warm else None, t) if limit else "–",
            _from(limit.harm_c, warm.harm_cem43 if warm else None, t) if limit else "–",
            _comma(t).join(passed) or "–",
            t.mm(one.distance_mm) if np.isfinite(one.distance_mm) else "–",
            t(limit.evidence) if limit else "–",
        ],
    }


def _from(celsius: float, minutes: float | None, t: Speaker) -> str:
    at = t.number(celsius, "°C", 0)
    return at if minutes is None else t("{at} or {minutes:g} min", at=at, minutes=minutes)


def _spanned(one: StructureDose, heats: bool, t: Speaker) -> str:
    said = t.number(one.peak_c if heats else one.lowest_c, "°C")
    if one.low_c is None or one.high_c is None:
        return said
    span = f"{t.number(one.low_c, '')}–{t.number(one.high_c, '')}"
    return f"{said} ({span})" if t.language == "en" else f"{said}（{span}）"


def _dosed(one: StructureDose, t: Speaker) -> str:
    said = _minutes_at_43(one.cem43_min)
    if one.high_cem43 is None:
        return said
    return t("{dose}, up to {most}", dose=said, most=_minutes_at_43(one.high_cem43))


def _minutes_at_43(minutes: float) -> str:
    """A dose; one beyond any meaning only says so."""
    return "> 10 000" if minutes > 1e4 else f"{minutes:.1f}"


def _alternatives(search: AblationSearch, t: Speaker) -> list[dict[str, Any]]:
    if not search.alternatives:
        if neural_verdict(search.dose) == "ok":
            return [{"kind": "remark", "text": t("No nerve is warned of, so no change was tried.")}]
        return [{"kind": "remark", "text": t("No change was tried.")}]
    own = [t("The plan as it is"), *_outcome(search.dose, t)]
    rows = [{"alarm": False, "cells": own}]
    for one in search.alternatives:
        rows.append(
            {
                "alarm": one is search.suggested,
                "cells": [_say(one.change, t), *_outcome(one.dose, t)],
            }
        )
    head = [
        t("Change"),
        t("At the nerves"),
        t("Hottest neural structure") if search.dose.heats else t("Coldest neural structure"),
        t("Lesion covered"),
        t("Least margin"),
    ]
    remark = (
        t("None of these changes makes the verdict at the nerves better.")
        if search.suggested is None
        else f"{t('Suggested change')}{t.colon}{_becomes(search.suggested, t)}"
    )
    more = [t("Gas and fluid move, and a thermocouple tells of one place only.")]
    if any(a.dose.covered_low is None for a in search.alternatives):
        more.insert(0, _mean_only(search.dose, t))
    return [
        {"kind": "table", "head": head, "rows": rows},
        {"kind": "remark", "text": remark},
        *({"kind": "remark", "text": text} for text in more),
    ]


def _mean_only(dose: ThermalDose, t: Speaker) -> str:
    """That the changes were computed once: they may look better than they are."""
    if dose.covered_low is None:
        return t("The plan and each change were computed with mean constants only.")
    return t(
        "The plan is judged by the worst of three runs, a change by the run with mean constants "
        "alone: part of what it seems to gain may be that. Compute it with all three before use."
    )


def _outcome(dose: ThermalDose, t: Speaker) -> list[Any]:
    neural = [s for s in dose.structures if limits.neural(s.structure)]
    extreme = "–"
    if neural:
        one = (
            max(neural, key=lambda s: s.peak_c)
            if dose.heats
            else min(neural, key=lambda s: s.lowest_c)
        )
        degrees = t.number(one.peak_c if dose.heats else one.lowest_c, "°C")
        extreme = f"{named(one.structure, t)}{_comma(t)}{degrees}"
    covered = dose.lesion_covered
    return [
        grade(neural_verdict(dose), t),
        extreme,
        t("unknown") if covered is None else f"{_PERCENT * covered:.0f} %",
        _margin(dose, t),
    ]


# --- the interactive viewer ----------------------------------------------------------------------


def embed(
    scan: Scan, anatomy: Anatomy, lesion: Lesion, dose: ThermalDose, t: Speaker
) -> Embedded | None:
    """The CT around the bone with structures and what dies; None without the viewer."""
    if interactive.assets() is None:
        return None
    points = [m.points_mm() for m in (anatomy.bone, dose.dead) if not m.is_empty]
    ct = interactive.around(scan, np.vstack([*points, anatomy.axes.origin_mm[None]]))
    labels, regions = interactive.label_map(anatomy, lesion.mask.on(anatomy.grid), ct.grid)
    number = int(labels.max(initial=0)) + 1
    here = dose.dead.on(ct.grid).values
    if here.any() and number <= np.iinfo(labels.dtype).max:
        labels[here] = number
        more = Region(number=number, structure=t("what dies"), colour=_DEAD_COLOUR)
        regions = (*regions, more)
    return interactive.packed(ct, labels, regions)
