"""Write the strength sheet: what the bone bears, where it is weakest, what that does not say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trocar.facts import strength as facts
from trocar.model.case import Finding, Lesion
from trocar.model.result import Anatomy, Run, Scan
from trocar.model.space import Mask
from trocar.model.strength import Bearing, BoneState, Spread, Strength
from trocar.report import strength_figures as drawn
from trocar.report import viewer as interactive
from trocar.report import words
from trocar.report.page import Speaker, spoken_language
from trocar.report.sections import (
    ORDER,
    listed_unknown,
    named,
    provenance,
    warned,
    worst,
    write_sections,
)  # fmt: skip
from trocar.report.sheet import Row, Verdict
from trocar.report.strength_scores import ScoreRange, scores_on_ct
from trocar.report.viewer import Embedded, Region

_PERCENT = 100.0
_NEAR = 0.5  # of the greatest strain: shown as most strained in the viewer
_NEAR_COLOUR = (255, 166, 61)
_YIELDS_COLOUR = (200, 0, 150)
_PLACES = {"head": "femoral head", "neck": "femoral neck"}  # regions that need their bone
_HIGH = 1e5  # N: a larger one has no meaning


def write_strength_sheet(
    path: Path | str,
    *,
    scan: Scan,
    anatomy: Anatomy,
    lesion: Lesion | None,
    strength: Strength,
    findings: Sequence[Finding] | None = None,
    language: str = "en",
    viewer: bool = True,
    run: Run | None = None,
) -> Path:
    """Write the sheet on the strength of one bone to ``path`` and return it.

    ``lesion`` is None where none was outlined. ``findings`` is all that must be said (of the
    reading, too); left out, what strength and scan say. With ``viewer`` the CT around the bone and
    its most strained parts are embedded for the interactive viewer, where that was installed;
    ``run`` says how the numbers came about. Raises :class:`InputError` for an unknown language or
    a place that cannot be written.
    """
    t = Speaker(spoken_language(language))
    told = (*strength.findings, *scan.findings) if findings is None else findings
    warnings = warned(told, t)
    unknown = _unknown(strength, lesion)
    grades = [_grade(b, strength) for b in _judged(strength)]
    gravity = worst([*grades, *(w["grade"] for w in warnings)], unknown)
    return write_sections(
        path,
        t=t,
        what="the strength sheet",
        title=t(
            "Strength of the bone, {site}, lesion {lesion}",
            site=strength.site,
            lesion=strength.lesion_id,
        ),
        heading=t("Strength of the bone"),
        site=strength.site,
        lesion_id=strength.lesion_id,
        verdict=Verdict(
            gravity=gravity,
            headline=_headline(strength, t),
            details=(*_why_unknown(gravity, unknown, t), *_details(strength, t)),
        ),
        warnings=warnings,
        sections=[
            strength_section(strength, t, findings=False),
            _weakest(strength, anatomy, lesion, t),
            _beside(strength, anatomy, lesion, t),
            _not(strength, t),
            _model(strength, t),
            listed_unknown(unknown, t),
            provenance(scan, run, t),
        ],
        wants_viewer=viewer,
        embedded=embed(scan, anatomy, lesion, strength, t) if viewer else None,
        viewer_after="weakest",
    )


def strength_section(strength: Strength, t: Speaker, *, findings: bool = True) -> dict[str, Any]:
    """A section with the bars and the tables, for this sheet and for those on cement.

    With ``findings`` it says itself what must be known before the numbers are believed, and what
    is unknown: a sheet that judges the cement does not judge the bone by it.
    """
    blocks: list[dict[str, Any]] = [
        {"kind": "picture", "figure": drawn.bars(strength, t), "look": "chart"}
    ]
    for load in strength.loads:
        told = [strength.bearing(s, load) for s in strength.states]
        asked = t(
            "{load}: {newton} expected.",
            load=t(told[0].label),
            newton=_newton(told[0].load_n, told[0]),
        )
        blocks += [{"kind": "remark", "text": words.sentence(asked)}, _table(told, strength, t)]
    if not _spanned(strength):
        text = t("Computed once, with mean constants; how far the numbers may be off is not known.")
        blocks.append({"kind": "remark", "text": text})
    text = t("The ratio is by the first criterion: at 1 and more the bone is expected to break.")
    blocks.append({"kind": "remark", "text": text})
    if findings:
        lines = [f"{w['word']}{t.colon}{w['text']}" for w in warned(strength.findings, t)]
        lines += [f"{t('unknown')}{t.colon}{named(name, t)}" for name in strength.unknown]
        blocks.insert(0, {"kind": "list", "lines": lines})
    return {"id": "strength", "title": t("What the bone bears"), "blocks": blocks}


# --- verdict -------------------------------------------------------------------------------------


def _judged(strength: Strength) -> list[Bearing]:
    """The bone of today under every load: with the cement that was found, else as it is."""
    today = "found" if "found" in strength.states else "now"
    return [b for b in strength.bearings if b.state == today]


def _grade(one: Bearing, strength: Strength) -> str:
    """What load over strength means; unknown where even the intact bone would break."""
    sound = strength.bearing("intact", one.load) if "intact" in strength.states else None
    if sound is not None and facts.at_high_risk(sound.ratio.mean, 1.0):
        return "unknown"
    if facts.at_high_risk(one.ratio.mean, 1.0):
        return "stop"
    return "caution" if facts.at_high_risk(one.ratio.high, 1.0) else "ok"


def _unknown(strength: Strength, lesion: Lesion | None) -> tuple[str, ...]:
    out = list(strength.unknown)
    if not _spanned(strength):
        out.append("how far the numbers may be off")
    if lesion is None:
        out.append("outline of the lesion")
    if not _judged(strength):
        out.append("strength of the bone as it is")
    return tuple(dict.fromkeys(out))


def _spanned(strength: Strength) -> bool:
    """Whether the weak and the strong end were computed."""
    return any(s.high > s.low for b in strength.bearings for s in b.failure_n.values())


def _worst(strength: Strength) -> Bearing:
    """The load that is to be spoken of first."""

    def rank(one: Bearing) -> tuple[int, float]:
        return ORDER.index(_grade(one, strength)), -one.ratio.mean

    return min(_judged(strength) or strength.bearings, key=rank)


def _headline(strength: Strength, t: Speaker) -> str:
    one = _worst(strength)
    values = {
        "failure": _newton_of(one.failure_n[one.criterion].mean, one),
        "load": t(one.label),
        "asked": _newton_of(one.load_n.mean, one),
        "ratio": _ratio(one.ratio, t),
    }
    return {
        "intact": t("Intact: bears {failure} under {load}; load {asked}, {ratio}", **values),
        "now": t("As it is: bears {failure} under {load}; load {asked}, {ratio}", **values),
        "planned": t(
            "With the cement planned: bears {failure} under {load}; load {asked}, {ratio}", **values
        ),
        "found": t(
            "With the cement found: bears {failure} under {load}; load {asked}, {ratio}", **values
        ),
    }[one.state]


def _ratio(ratio: Spread, t: Speaker) -> str:
    if ratio.high > ratio.low:
        return t(
            "ratio {ratio:.2f} ({low:.2f} to {high:.2f})",
            ratio=ratio.mean,
            low=ratio.low,
            high=ratio.high,
        )
    return t("ratio {ratio:.2f}", ratio=ratio.mean)


def _why_unknown(gravity: str, unknown: tuple[str, ...], t: Speaker) -> tuple[str, ...]:
    """What makes the verdict unknown, beside the word itself."""
    if gravity != "unknown" or not unknown:
        return ()
    return (f"{t('Unknown')}{t.colon}{t.listed([named(name, t) for name in unknown])}",)


def _details(strength: Strength, t: Speaker) -> tuple[str, ...]:
    """The other states under the load of the headline, then the other loads."""
    first = _worst(strength)
    rest = [b for b in strength.bearings if b.load == first.load and b is not first]
    rest += [b for b in strength.bearings if b.load != first.load and b.state != "intact"]
    return tuple(_line(b, t) for b in rest)


def _line(one: Bearing, t: Speaker) -> str:
    values = {
        "state": words.sentence(t(drawn.STATES[one.state])),
        "failure": _newton_of(one.failure_n[one.criterion].mean, one),
        "load": t(one.label),
        "ratio": _ratio(one.ratio, t),
    }
    if one.of_intact is None or one.state == "intact":
        return t("{state}: bears {failure} under {load}, {ratio}.", **values)
    return t(
        "{state}: bears {failure} under {load}, {share} of the intact bone, {ratio}.",
        share=_percent(one.of_intact.mean),
        **values,
    )


# --- numbers -------------------------------------------------------------------------------------


def _newton_of(value: float, one: Bearing) -> str:
    by, unit = drawn.told_in(one)
    if not np.isfinite(value) or value / by >= _HIGH:
        return f"> {_HIGH:.0f} {unit}"
    return f"{value / by:.0f} {unit}" if by == 1 else f"{value / by:.1f} {unit}"


def _newton(of: Spread, one: Bearing) -> str:
    by, _ = drawn.told_in(one)
    return _newton_of(of.mean, one) + _span(of.low / by, of.high / by, 0 if by == 1 else 1)


def _span(low: float, high: float, digits: int, times: float = 1.0) -> str:
    """``" (low–high)"``, nothing where both print alike, as where only one run was made."""
    a, b = (f"{times * v:.{digits}f}" for v in (low, high))
    return "" if a == b else f" ({a}–{b})"


def _percent(share: float) -> str:
    return f"{_PERCENT * share:.0f} %"


def _shared(of: Spread | None) -> str:
    return "–" if of is None else _percent(of.mean) + _span(of.low, of.high, 0, _PERCENT)


# --- sections ------------------------------------------------------------------------------------


def _table(told: list[Bearing], strength: Strength, t: Speaker) -> dict[str, Any]:
    criteria = list(told[0].failure_n)
    cemented = any(b.cement_used is not None for b in told)
    stiff = any(b.stiffness_n_mm is not None for b in told)
    head = [
        t("State"),
        *([t("Stiffness"), t("Stiffness, of intact")] if stiff else []),
        *(t("Fails by {criterion}", criterion=t(c)) for c in criteria),
        t("Load over strength"),
        t("Strength, of intact"),
        t("Weakest"),
        *([t("Share of the cement's strength")] if cemented else []),
    ]
    rows = []
    for one in told:
        broken = one.state in ("now", "found") and _grade(one, strength) == "stop"
        k = one.stiffness_n_mm
        stiffness = "–" if k is None else f"{k.mean:.0f} N/mm" + _span(k.low, k.high, 0)
        ratio = f"{one.ratio.mean:.2f}" + _span(one.ratio.low, one.ratio.high, 2)
        cells = [
            words.sentence(t(drawn.STATES[one.state])),
            *([stiffness, _shared(one.stiffness_of_intact)] if stiff else []),
            *(_newton(one.failure_n[c], one) if c in one.failure_n else "–" for c in criteria),
            ratio,
            _shared(one.of_intact),
            named(_PLACES.get(one.weakest_in, one.weakest_in), t),
            *([_shared(one.cement_used)] if cemented else []),
        ]
        rows.append({"alarm": broken, "cells": cells})
    return {"kind": "table", "head": head, "rows": rows}


def _weakest(
    strength: Strength, anatomy: Anatomy, lesion: Lesion | None, t: Speaker
) -> dict[str, Any]:
    figure = drawn.strain_map(strength, anatomy, None if lesion is None else lesion.mask, t)
    blocks = [{"kind": "picture", "figure": figure, "look": "cuts"}]
    return {"id": "weakest", "title": t("Where it is weakest"), "blocks": blocks}


def _beside(
    strength: Strength, anatomy: Anatomy, lesion: Lesion | None, t: Speaker
) -> dict[str, Any]:
    """What the scores say of the same lesion, as far as a CT tells them."""
    title = t("Beside it: scores")
    ranges = () if lesion is None else scores_on_ct(anatomy, lesion)
    blocks: list[dict[str, Any]] = []
    for one in ranges:
        blocks.append(_score_table(one, t))
        if one.not_told:
            names = (", " if t.language == "en" else "、").join(t(n) for n in one.not_told)
            blocks.append(
                {"kind": "remark", "text": t("Not told by this CT: {names}.", names=names)}
            )
        blocks.append({"kind": "remark", "text": one.least.source})
    if strength.site.kind == "femur" and "now" in strength.states:
        blocks.append({"kind": "facts", "rows": [_strength_class(strength, t)]})
    if ranges:
        text = t(
            "The scores need the patient’s pain, which no CT shows: ask, and score anew. They and "
            "the computed strength were made for different questions; neither replaces the other."
        )
    elif lesion is None:
        text = t("No lesion was outlined, so no score was made.")
    else:
        text = t("Neither Mirels nor SINS is made for this site.")
    return {"id": "beside", "title": title, "blocks": [*blocks, {"kind": "remark", "text": text}]}


def _score_table(one: ScoreRange, t: Speaker) -> dict[str, Any]:
    low, high = one.least, one.most
    groups = list(dict.fromkeys(t(s.group) for s in (low, high)))
    group = groups[0]
    if len(groups) > 1:
        group = t("{low} to {high}", low=groups[0], high=groups[1])
    total = _points(low.points or 0.0, high.points or 0.0, t)
    rows = [{"alarm": False, "cells": [t(one.least.name), total, group]}]
    for item, (least, most) in one.items.items():
        told = t("as told by the CT") if least == most else t("not told by the CT alone")
        rows.append(
            {"alarm": False, "cells": [words.sentence(t(item)), _points(least, most, t), told]}
        )
    return {"kind": "table", "head": [t("Score"), t("Points"), t("Class")], "rows": rows}


def _points(low: float, high: float, t: Speaker) -> str:
    if low == high:
        return f"{low:g}"
    return t("{low:g} to {high:g}", low=low, high=high)


def _strength_class(strength: Strength, t: Speaker) -> Row:
    now = strength.bearing("now").of_intact
    share = float("nan") if now is None else _PERCENT * now.mean
    return Row(
        what=t("Class of strength (Amendola 2023)"),
        value=str(facts.strength_class(share)),
        remark=t("of 3, the third the weakest; made for the proximal femur only"),
    )


def _not(strength: Strength, t: Speaker) -> dict[str, Any]:
    """In plain words, what a reader must not take the numbers for."""
    calibrated = {
        "none": t(
            "The CT is not calibrated: grey values were turned into density with usual constants. "
            "Newtons may be far off; compare states with each other."
        ),
        "internal": t(
            "The CT was calibrated by the patient’s own tissues, not by rods of known density: "
            "density may be off by {percent:.0f} %.",
            percent=_PERCENT * (facts.bound(facts.density_factor("internal"), "high") - 1),
        ),
    }.get(strength.calibration)
    lines = [
        *([calibrated] if calibrated else []),
        t(
            "One load at a time, at rest. Not a fall, not a twist of the trunk, not thousands of "
            "steps."
        ),
        t(
            "The bone alone: no muscles, no ligaments, no discs, no neighbours that take over part "
            "of the load."
        ),
        t(
            "Linear: it says when bone begins to give way, not how it breaks or how far it sinks "
            "in."
        ),
        t(
            "The laws from density to stiffness come from bone of others, often without tumour, "
            "and were not all verified in their papers; cement and bone are taken as bonded."
        ),
        t(
            "Not validated on patients. A published model of this kind (X-FEM), calibrated on its "
            "own specimens, erred by 41 to 44 %; this one was calibrated on none."
        ),
        t("No permission to walk or to load, and no reason to withhold a fixation."),
    ]
    blocks = [{"kind": "list", "lines": lines}]
    return {"id": "not", "title": t("What these numbers are not"), "blocks": blocks}


def _model(strength: Strength, t: Speaker) -> dict[str, Any]:
    method = {
        "phantom": t("by rods in the scan"),
        "internal": t("by the patient’s own tissues"),
        "none": t("none"),
    }.get(strength.calibration, strength.calibration)
    rows = [
        Row(what=t("Law from density to stiffness"), value=t(strength.law)),
        Row(what=t("Calibration of the CT"), value=method),
        Row(what=t("Size of an element"), value=f"{strength.voxel_mm:g} mm"),
    ]
    weight = strength.constants.get("weight_kg")
    if isinstance(weight, float) and any(_by_weight(load) for load in strength.loads):
        taken = t("taken, not known") if "body weight" in strength.unknown else ""
        rows.append(Row(what=t("Body weight"), value=f"{weight:g} kg", remark=taken))
    blocks = [{"kind": "facts", "rows": rows}]
    return {"id": "model", "title": t("How it was computed"), "blocks": blocks}


def _by_weight(load: str) -> bool:
    """Whether a load goes with the patient's weight; one of the user's own may."""
    return load not in facts.loads() or facts.load_case(load).by_weight()


# --- the interactive viewer ----------------------------------------------------------------------


def embed(
    scan: Scan, anatomy: Anatomy, lesion: Lesion | None, strength: Strength, t: Speaker
) -> Embedded | None:
    """The CT around the bone with structures and its most strained parts; None without the viewer.

    The parts are of the bone as it is, under the first load.
    """
    if interactive.assets() is None:
        return None
    points = [m.points_mm() for m in (anatomy.bone, strength.bone) if not m.is_empty]
    ct = interactive.around(scan, np.vstack([*points, anatomy.axes.origin_mm[None]]))
    empty = Mask.empty(anatomy.grid)
    seen = empty if lesion is None else lesion.mask.on(anatomy.grid)
    labels, regions = interactive.label_map(anatomy, seen, ct.grid)
    told = list(regions)
    number = int(labels.max(initial=0))
    for name, colour, mask in _strained(strength, t):
        here = mask.on(ct.grid).values
        if here.any() and number < np.iinfo(labels.dtype).max:
            number += 1
            labels[here] = number
            told.append(Region(number=number, structure=name, colour=colour))
    return interactive.packed(ct, labels, told)


def _strained(strength: Strength, t: Speaker) -> list[tuple[str, tuple[int, int, int], Mask]]:
    state: BoneState = "now" if "now" in strength.states else strength.states[-1]
    share = drawn.strained(strength, state)
    most = float(share.values.max(initial=0.0))
    if most <= 0:
        return []
    near = Mask(grid=share.grid, values=share.values >= min(1.0, _NEAR * most))
    yields = Mask(grid=share.grid, values=share.values >= 1.0)
    return [
        (t("most strained bone"), _NEAR_COLOUR, near),
        (t("bone expected to yield"), _YIELDS_COLOUR, yields),
    ]
