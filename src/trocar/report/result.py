"""Write the result sheet: how much cement there is, what it fills, what leaked, what was foreseen.

The sheet says first whether cement lies where it must not (canal, foramen, joint), then shows it,
and last where each number comes from. It asks nothing of a network and prints to A4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trocar.assessment.compare import FillComparison, NeedleDeviation, compare_fills
from trocar.errors import InputError
from trocar.model.result import Anatomy, CementLeak, Fill, Registration, Run, Scan
from trocar.model.space import Float, Mask
from trocar.model.strength import Strength
from trocar.report import cement_figures as drawn
from trocar.report.cement_viewer import embed
from trocar.report.figures import Figure
from trocar.report.page import Speaker, spoken_language
from trocar.report.sections import (
    grade,
    listed_unknown,
    provenance,
    warned,
    worst,
    write_sections,
)  # fmt: skip
from trocar.report.sheet import Row, Verdict
from trocar.report.strength import strength_section

_NEAR_MM = 56.0  # side of a picture of one leak, at least
_ROOM_MM = 12.0  # shown beyond a leak
_PREDICTED = "predicted"


def write_result_sheet(
    path: Path | str,
    *,
    post: Scan,
    anatomy: Anatomy,
    fill: Fill,
    lesion: Mask | None = None,
    predicted: Fill | None = None,
    comparison: FillComparison | None = None,
    needles: Sequence[NeedleDeviation] = (),
    language: str = "en",
    viewer: bool = True,
    run: Run | None = None,
    strength: Strength | None = None,
) -> Path:
    """Write the sheet on the cement found after the procedure to ``path`` and return it.

    ``post`` is the CT after the procedure, laid into the space of the anatomy, where the measured
    ``fill`` lies. ``predicted`` is the fill as it was simulated; its ``comparison`` is made here
    when it is not given. ``needles`` hold by how much each needle missed its plan. With ``viewer``
    the CT around the bone is embedded for the interactive viewer, where that was installed.
    ``strength`` adds what the bone bears.
    Raises :class:`InputError` for a fill that was not measured, or of another bone than the
    anatomy, or in another space than ``post``; for an unknown language; for a place that cannot be
    written.
    """
    t = Speaker(spoken_language(language))
    _require_measured(fill, anatomy, post)
    if predicted is not None and comparison is None:
        comparison = compare_fills(predicted, fill)
    # What the reading warned of was for the plan; what matters here the fill says itself.
    warnings = warned((*fill.findings, *post.findings), t)
    unknown = tuple(dict.fromkeys((*fill.unknown, *anatomy.missing)))
    alarms = _alarms(fill)
    grades = [w["grade"] for w in warnings] + (["stop"] if alarms else [])
    grades += ["caution"] if fill.leaks else []
    gravity = worst(grades, unknown)
    return write_sections(
        path,
        t=t,
        what="the result sheet",
        title=t("Cement found, {site}, lesion {lesion}", site=fill.site, lesion=fill.lesion_id),
        heading=t("Cement found after the procedure"),
        site=fill.site,
        lesion_id=fill.lesion_id,
        verdict=Verdict(gravity=gravity, headline=_headline(fill, t), details=_details(fill, t)),
        warnings=warnings,
        sections=[
            _pictures(post, anatomy, fill, lesion, t),
            *_near_leaks(post, anatomy, fill, lesion, t),
            _leaks(fill, t),
            _amounts(fill, t),
            *_foreseen(post, anatomy, fill, lesion, predicted, comparison, t),
            *_needles(needles, t),
            _solid(anatomy, fill, t),
            *([strength_section(strength, t)] if strength else []),
            listed_unknown(unknown, t),
            _laid(fill.registration, t),
            provenance(post, run, t),
        ],
        wants_viewer=viewer,
        embedded=embed(post, anatomy, fill, lesion, t) if viewer else None,
        viewer_after="solid",
    )


def _require_measured(fill: Fill, anatomy: Anatomy, post: Scan) -> None:
    if fill.origin != "measured":
        raise InputError(
            "the result sheet was given a simulated fill; give the cement that was measured on the "
            "CT after the procedure, and the simulation as what was predicted"
        )
    if fill.site != anatomy.site:
        raise InputError(
            f"the cement was measured at {fill.site} and the anatomy is of {anatomy.site}; give "
            "both of one bone"
        )
    post.volume.grid.require_frame(fill.fraction.grid, "the CT after the procedure and the cement")
    if not _seen(fill, post):
        raise InputError(
            "the cement does not lie inside the CT after the procedure; lay that CT over the "
            "planning CT first, as the cement is"
        )


def _seen(fill: Fill, post: Scan) -> bool:
    points = fill.fraction.grid.to_world(np.argwhere(fill.fraction.values > 0))
    return bool(post.volume.grid.contains(points).all())


# --- what is said first ----------------------------------------------------------------------


def _alarms(fill: Fill) -> list[CementLeak]:
    """Leaks into canal, foramen or joint, the worst place and the largest first."""
    return [leak for leak in _ranked(fill) if drawn.is_alarm(leak.compartment)]


def _ranked(fill: Fill) -> list[CementLeak]:
    return sorted(fill.leaks, key=lambda k: (drawn.rank(k.compartment), -k.volume_ml))


def _headline(fill: Fill, t: Speaker) -> str:
    if fill.volume_ml <= 0:
        return t("No cement was found")
    return t(
        "{volume:.1f} ml of cement found ({low:.1f} to {high:.1f} ml)",
        volume=fill.volume_ml,
        low=fill.low_ml,
        high=fill.high_ml,
    )


def _details(fill: Fill, t: Speaker) -> tuple[str, ...]:
    alarms = tuple(
        t(
            "Cement where it must not be: {place}, {volume:.2f} ml ({low:.2f} to {high:.2f} ml).",
            place=t(leak.compartment),
            volume=leak.volume_ml,
            low=leak.low_ml,
            high=leak.high_ml,
        )
        for leak in _alarms(fill)
    )
    others = [
        f"{t(name)} {volume:.2f} ml"
        for name, volume in drawn.leaks_by_compartment(fill).items()
        if not drawn.is_alarm(name)
    ]
    rest = (
        (t("Other leaks: {places}.", places=(", " if t.language == "en" else "、").join(others)),)
        if others
        else ()
    )
    none = () if fill.leaks else (t("No leak was found."),)
    return (*alarms, _filled_lesion(fill, t), _filled_bone(fill, t), *rest, *none)


def _filled_lesion(fill: Fill, t: Speaker) -> str:
    if fill.lesion_fill is None or fill.in_lesion_ml is None:
        return t("Fill of the lesion: unknown, for the lesion is not known.")
    return t(
        "Fill of the lesion: {share}, {volume:.1f} ml in it.",
        share=_share(fill.lesion_fill, t),
        volume=fill.in_lesion_ml,
    )


def _filled_bone(fill: Fill, t: Speaker) -> str:
    if fill.bone_fill is None or fill.in_bone_ml is None:
        return t("Fill of the bone: unknown.")
    return t(
        "Fill of the bone: {share}, {volume:.1f} ml in it.",
        share=_share(fill.bone_fill, t),
        volume=fill.in_bone_ml,
    )


def _share(share: float, t: Speaker) -> str:
    """A share in words and in per cent; the words are those of the printed number."""
    percent = round(100 * share)
    word = (
        t("three quarters or more")
        if percent >= 75
        else t("half or more")
        if percent >= 50
        else t("a quarter or more")
        if percent >= 25
        else t("less than a quarter")
    )
    return f"{word} ({percent} %)" if t.language == "en" else f"{word}（{percent} %）"


# --- pictures --------------------------------------------------------------------------------


def _pictures(
    post: Scan, anatomy: Anatomy, fill: Fill, lesion: Mask | None, t: Speaker
) -> dict[str, Any]:
    solid = Mask(grid=fill.fraction.grid, values=fill.fraction.values >= 0.5)
    _, side = drawn.side_of(anatomy, [solid])
    place = anatomy.axes.origin_mm if solid.is_empty else _middle(solid)
    figure = Figure(
        uri=drawn.reslices(
            post.volume,
            drawn.shown_shapes(anatomy, lesion),
            drawn.parts_of(fill),
            [place],
            side_mm=side,
            titles=[""],
            language=t.language,
        ),
        title=t("Through the middle of the cement"),
        caption=t(
            "CT after the procedure. Plain: cement in bone. Hatched: cement outside the bone, each "
            "place with its own pattern. Lines: bone, lesion and what must stay free."
        ),
    )
    blocks = [{"kind": "picture", "figure": figure, "look": "cuts"}]
    return {"id": "cement", "title": t("Where the cement is"), "blocks": blocks}


def _near_leaks(
    post: Scan, anatomy: Anatomy, fill: Fill, lesion: Mask | None, t: Speaker
) -> list[dict[str, Any]]:
    """A picture of its own for every leak into canal, foramen or joint."""
    shapes, parts = drawn.shown_shapes(anatomy, lesion), drawn.parts_of(fill)
    blocks = []
    for leak in _alarms(fill):
        points = leak.mask.points_mm()
        side = max(_NEAR_MM, float(np.ptp(points, axis=0).max()) + 2 * _ROOM_MM)
        uri = drawn.reslices(
            post.volume,
            shapes,
            parts,
            [_middle(leak.mask)],
            side_mm=side,
            titles=[""],
            language=t.language,
        )
        title = t(
            "Leak: {place}, {volume:.2f} ml", place=t(leak.compartment), volume=leak.volume_ml
        )
        caption = t("Three cuts through the middle of this leak.")
        figure = Figure(uri=uri, title=title, caption=caption)
        blocks.append({"kind": "picture", "figure": figure, "look": "cuts alarm"})
    if not blocks:
        return []
    return [{"id": "alarms", "title": t("Cement where it must not be"), "blocks": blocks}]


def _middle(mask: Mask) -> Float:
    """The voxel of the mask nearest to its middle: the middle itself may lie outside it."""
    points = mask.points_mm()
    away = np.linalg.norm(points - points.mean(axis=0), axis=1)
    out: Float = points[int(np.argmin(away))]
    return out


def _solid(anatomy: Anatomy, fill: Fill, t: Speaker) -> dict[str, Any]:
    figure = drawn.cement_scene(anatomy, fill, t)
    blocks = [{"kind": "picture", "figure": figure, "look": "scene"}]
    return {"id": "solid", "title": t("In three dimensions"), "blocks": blocks}


# --- tables ----------------------------------------------------------------------------------


def _leaks(fill: Fill, t: Speaker) -> dict[str, Any]:
    rows = [
        {
            "alarm": drawn.is_alarm(leak.compartment),
            "cells": [
                t(leak.compartment),
                grade("stop" if drawn.is_alarm(leak.compartment) else "caution", t),
                _kind(leak, t),
                f"{leak.volume_ml:.2f}\u00a0ml ({leak.low_ml:.2f}–{leak.high_ml:.2f})",
                f"{leak.reach_mm:.1f}\u00a0mm",
                _distances(leak, t),
            ],
        }
        for leak in _ranked(fill)
    ]
    head = [
        t("Place"),
        t("Verdict"),
        t("Type (Yeom)"),
        t("Volume"),
        t("Beyond the bone"),
        t("Distance to structures"),
    ]
    blocks: list[dict[str, Any]] = [{"kind": "remark", "text": t("No leak was found.")}]
    if rows:
        told = t("A structure that was not identified has no distance; it is unknown, not far.")
        blocks = [
            {"kind": "table", "head": head, "rows": rows},
            {"kind": "remark", "text": told},
        ]
    return {"id": "leaks", "title": t("Leaks"), "blocks": blocks}


def _kind(leak: CementLeak, t: Speaker) -> str:
    return {
        "B": t("B: basivertebral vein"),
        "S": t("S: segmental vein"),
        "C": t("C: cortical defect"),
        "D": t("D: disc"),
        "": "–",
    }[leak.kind]


def _distances(leak: CementLeak, t: Speaker) -> str:
    near = sorted(leak.distances_mm.items(), key=lambda item: item[1])
    said = [
        f"{t.name(name)} {mm:.1f}\u00a0mm" + (f" ({t('touches')})" if mm <= 0 else "")
        for name, mm in near
    ]
    return (", " if t.language == "en" else "、").join(said) or t("unknown")


def _amounts(fill: Fill, t: Speaker) -> dict[str, Any]:
    yes = {True: t("yes"), False: t("no"), None: t("unknown")}
    plates = [t("superior") if p == "superior" else t("inferior") for p in fill.touches_end_plates]
    rows = [
        Row(
            what=t("Cement, all"),
            value=f"{fill.volume_ml:.2f} ml",
            remark=f"{fill.low_ml:.2f}–{fill.high_ml:.2f} ml",
        ),
        Row(what=t("In the bone"), value=t.number(fill.in_bone_ml, "ml", 2)),
        Row(what=t("In the lesion"), value=t.number(fill.in_lesion_ml, "ml", 2)),
        Row(what=t("Share of the lesion filled"), value=_percent(fill.lesion_fill, t)),
        Row(what=t("Share of the bone filled"), value=_percent(fill.bone_fill, t)),
        Row(what=t("Outside the bone"), value=f"{fill.leaked_ml:.2f} ml"),
    ]
    if fill.site.kind == "vertebra":
        rows += [
            Row(what=t("Crosses the midline"), value=yes[fill.crosses_midline]),
            Row(what=t("End plates touched"), value=", ".join(plates) or t("none")),
        ]
    if fill.old_cement_ml > 0:
        old = f"{fill.old_cement_ml:.2f} ml"
        rows.append(Row(what=t("Cement before the procedure, not counted"), value=old))
    return {"id": "amounts", "title": t("Amounts"), "blocks": [{"kind": "facts", "rows": rows}]}


def _percent(share: float | None, t: Speaker) -> str:
    return t.number(None if share is None else 100 * share, "%", 0)


def _foreseen(
    post: Scan,
    anatomy: Anatomy,
    fill: Fill,
    lesion: Mask | None,
    predicted: Fill | None,
    comparison: FillComparison | None,
    t: Speaker,
) -> list[dict[str, Any]]:
    """What was predicted beside what was found."""
    if comparison is None:
        return []
    c = comparison
    rows = [
        _beside(
            t("Cement, all"),
            f"{c.predicted_ml:.2f} ml",
            f"{c.found_ml:.2f} ml",
            t.number(c.difference_ml, "ml", 2),
        )
    ]
    blocks: list[dict[str, Any]] = []
    if predicted is not None:
        guess = predicted
        pairs = (
            (t("In the bone"), guess.in_bone_ml, fill.in_bone_ml, "ml", 2, 1),
            (t("In the lesion"), guess.in_lesion_ml, fill.in_lesion_ml, "ml", 2, 1),
            (t("Share of the lesion filled"), guess.lesion_fill, fill.lesion_fill, "%", 0, 100),
            (t("Share of the bone filled"), guess.bone_fill, fill.bone_fill, "%", 0, 100),
            (t("Outside the bone"), guess.leaked_ml, fill.leaked_ml, "ml", 2, 1),
        )
        for what, a, b, unit, digits, times in pairs:
            gap = None if a is None or b is None else times * (b - a)
            told = (None if v is None else times * v for v in (a, b))
            cells = [t.number(v, unit, digits) for v in told]
            rows.append(_beside(what, *cells, t.number(gap, unit, digits)))
        blocks.append(
            {"kind": "picture", "figure": _overlay(post, anatomy, fill, lesion, guess, t)}
        )
        blocks[0]["look"] = "cuts"
    head = [t("What"), t("Predicted"), t("Found"), t("Difference")]
    within = t("inside it") if c.within_interval else t("not inside it")
    facts = [
        Row(what=t("Predicted volume and the interval found"), value=within),
        Row(
            what=t("Overlap (Dice, 0 to 1)"),
            value=t.number(c.dice, "", 2),
            remark=t("of the voxels that are at least half cement"),
        ),
        Row(what=t("Leaks foreseen that came"), value=_places(c.hit, t)),
        Row(what=t("Leaks not foreseen"), value=_places(c.missed, t)),
        Row(what=t("Leaks foreseen that did not come"), value=_places(c.false_alarms, t)),
    ]
    table = {"kind": "table", "head": head, "rows": rows}
    blocks = [table, {"kind": "facts", "rows": facts}, *blocks]
    return [{"id": "foreseen", "title": t("Predicted and found"), "blocks": blocks}]


def _beside(*cells: str) -> dict[str, Any]:
    return {"alarm": False, "cells": list(cells)}


def _places(names: Sequence[str], t: Speaker) -> str:
    ranked = sorted(names, key=drawn.rank)
    return (", " if t.language == "en" else "、").join(t(n) for n in ranked) or t("none")


def _overlay(
    post: Scan, anatomy: Anatomy, fill: Fill, lesion: Mask | None, guess: Fill, t: Speaker
) -> Figure:
    masks = [
        Mask(grid=f.fraction.grid, values=f.fraction.values >= 0.5)
        for f in (fill, guess)
        if f.volume_ml > 0
    ]
    masks = [m for m in masks if not m.is_empty]
    _, side = drawn.side_of(anatomy, masks)
    uri = drawn.reslices(
        post.volume,
        drawn.shown_shapes(anatomy, lesion),
        drawn.parts_of(fill),
        [_middle(masks[0]) if masks else anatomy.axes.origin_mm],
        side_mm=side,
        titles=[""],
        outlined=[(guess.fraction, _PREDICTED)],
        language=t.language,
    )
    return Figure(
        uri=uri,
        title=t("Predicted over found"),
        caption=t("The dashed white line is the cement as it was predicted; filled is what came."),
    )


def _needles(needles: Sequence[NeedleDeviation], t: Speaker) -> list[dict[str, Any]]:
    if not needles:
        return []
    rows = [
        _beside(
            str(number),
            t.mm(n.entry_mm),
            t.mm(n.tip_mm),
            t.mm(n.tip_lateral_mm),
            t.mm(n.tip_depth_mm),
            t.number(n.angle_deg, "°"),
            t.mm(n.depth_mm),
        )
        for number, n in enumerate(needles, start=1)
    ]
    head = [
        t("Needle"),
        t("Entry, off by"),
        t("Tip, off by"),
        t("Tip, aside"),
        t("Tip, deeper"),
        t("Angle"),
        t("Length, longer"),
    ]
    blocks = [{"kind": "table", "head": head, "rows": rows}]
    return [{"id": "needles", "title": t("Needles, achieved less planned"), "blocks": blocks}]


def _laid(registration: Registration | None, t: Speaker) -> dict[str, Any]:
    """How well the CT after the procedure was laid over the planning CT."""
    blocks: list[dict[str, Any]]
    if registration is None:
        text = t("Not laid over a planning CT: the cement was read on this CT alone.")
        blocks = [{"kind": "remark", "text": text}]
    else:
        r = registration
        rows = [
            Row(what=t("Error over the bone"), value=t.mm(r.error_mm, 2)),
            Row(what=t("Correlation around the bone"), value=t.number(r.correlation, "", 2)),
            Row(what=t("Share of the bone on this CT"), value=_percent(r.overlap, t)),
            Row(what=t("Bone moved by"), value=t.mm(r.shift_mm)),
            Row(what=t("Bone turned by"), value=t.number(r.turn_deg, "°")),
        ]
        blocks = [{"kind": "facts", "rows": rows}]
    return {"id": "laid", "title": t("Laid over the planning CT"), "blocks": blocks}
