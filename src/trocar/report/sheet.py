"""Write the plan sheet: one self-contained HTML file a radiologist takes to the table.

The sheet says first whether there is a safe needle and what is grave, then the lesion, then every
needle with its angles and margins, and last where each number comes from. It asks nothing of a
network; every picture is inside it; it prints to A4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from trocar import NOTICE, __version__
from trocar.facts import limits, source
from trocar.model.case import Finding, Gravity, Lesion, gravest_first
from trocar.model.plan import Margin, NeedleSet, Plan, Refusal, Trajectory
from trocar.model.result import Anatomy, Run, Scan, VertebraMeasures, View
from trocar.model.space import Float
from trocar.planning.trajectory import SkinMap
from trocar.report import figures, scene, words
from trocar.report import viewer as interactive
from trocar.report.figures import Figure
from trocar.report.page import Speaker, render, spoken_language, write_whole
from trocar.report.viewer import NeedleModel, Region
from trocar.report.words import Language

_FAR_MM = 100.0  # structures farther than this are named on one line, not tabled
_SAID_FIRST = 4  # structures that were not identified, as named in the headline
_EVERY_PIXEL = 3  # needles whose pictures keep every pixel; those of later ones are compact
_LONG_BONES = ("femur", "humerus")  # of which Mirels' score speaks

_GENTLE_NAMES = {"click_mm": "click in the lesion", "count": "needles asked for"}


@dataclass(frozen=True, kw_only=True)
class Warned:
    """A warning as printed: its gravity, its sentence, the needles it is about."""

    gravity: str
    text: str
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: what, how much, and a remark in small print."""

    what: str
    value: str
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class MarginRow:
    """The distance from a needle to one structure, as printed."""

    structure: str
    distance: str
    required: str
    verdict: str  # ok, caution or stop
    is_verified: bool


@dataclass(frozen=True, kw_only=True)
class NeedlePage:
    """Everything printed about one needle."""

    number: int
    route: str
    verdict: str
    reason: str
    facts: tuple[Row, ...]
    room: tuple[Row, ...]
    margins: tuple[MarginRow, ...]
    far: str
    no_views: str
    findings: tuple[Warned, ...]
    figures: tuple[Figure, ...]
    overview: Mapping[str, str]


def write_plan_sheet(
    path: Path | str,
    *,
    scan: Scan,
    anatomy: Anatomy,
    plan: Plan,
    views: Mapping[int, tuple[View, View, View]],
    language: str = "en",
    viewer: bool = True,
    skin: Sequence[SkinMap] = (),
) -> Path:
    """Write the plan sheet of one lesion to ``path`` and return it.

    ``views`` holds the three radiographs of an option by its index (any may be missing);
    ``language`` is ``"en"`` or ``"zh-Hant"``. With ``viewer`` the CT around the bone is embedded
    for the interactive viewer, where that was installed; ``skin`` are the maps of the search, drawn
    when given. The file appears whole or not at all.
    Raises :class:`InputError` for an unknown language or a place that cannot be written.
    """
    html = plan_sheet(
        scan=scan,
        anatomy=anatomy,
        plan=plan,
        views=views,
        language=spoken_language(language),
        viewer=viewer,
        skin=skin,
    )
    return write_whole(Path(path), html)


def plan_sheet(
    *,
    scan: Scan,
    anatomy: Anatomy,
    plan: Plan,
    views: Mapping[int, tuple[View, View, View]],
    language: Language,
    viewer: bool = True,
    skin: Sequence[SkinMap] = (),
) -> str:
    """The plan sheet as HTML text; see :func:`write_plan_sheet`."""
    t = Speaker(language)
    shapes = figures.outlines(anatomy, plan.lesion.mask)
    pages = tuple(
        _needle_page(k, option, scan, anatomy, views, shapes, t)
        for k, option in enumerate(plan.options)
    )
    overview = [
        scene.scene(
            anatomy,
            plan.lesion.mask,
            plan.options,
            chosen=_proposed(plan),
            language=language,
        )
    ]
    mapped = None
    if skin and plan.options:
        mapped = figures.skin_map(skin, anatomy, plan, shapes, language=language)
    told = warnings(scan, anatomy, plan, t)
    embedded = interactive.embed(scan, anatomy, plan) if viewer else None
    return render(
        "plan.html.jinja",
        t=t,
        language=language,
        notice=NOTICE,
        version=__version__,
        plan=plan,
        title=_title(plan, t),
        site=words.site(plan.site, language),
        date=_date(plan.run),
        verdict=verdict(plan, anatomy, told, t),
        warnings=told,
        lesion=lesion_rows(plan.lesion, t),
        defects=defect_rows(plan.lesion, t),
        distances=distance_rows(plan.lesion, anatomy, t),
        far_from_lesion=far_line(plan.lesion, t),
        bone=bone_rows(scan, anatomy, t),
        pages=pages,
        sets=[set_row(s, plan.options, t) for s in plan.sets],
        refusals=[refusal_row(r, t) for r in plan.refusals],
        scenes=overview,
        skin_figure=mapped,
        provenance=provenance_rows(scan, anatomy, plan, t),
        unverified=unverified_rows(plan, t),
        viewer=embedded,
        viewer_regions=[_region(r, t) for r in embedded.regions] if embedded else [],
        viewer_needles=[_needle_places(n) for n in embedded.needles] if embedded else [],
        wants_viewer=viewer,
    )


def _proposed(plan: Plan) -> int | None:
    """The needle drawn as the proposed one: the first that is not stopped, else the first."""
    passing = [k for k, o in enumerate(plan.options) if o.verdict is not Gravity.STOP]
    return next(iter([*passing, *range(len(plan.options))]), None)


def _region(region: Region, t: Speaker) -> dict[str, Any]:
    spoken = t("lesion") if region.structure == "lesion" else t.name(region.structure)
    return {"number": region.number, "name": spoken, "colour": region.colour}


def _needle_places(needle: NeedleModel) -> dict[str, Any]:
    return {
        "number": needle.number,
        "tip": needle.tip_ras_mm,
        "bone": needle.bone_ras_mm,
        "entry": needle.entry_ras_mm,
    }


def _title(plan: Plan, t: Speaker) -> str:
    return t("Needle plan, {site}, {case}", site=plan.site, case=plan.case_id)


def _date(run: Run | None) -> str:
    if run is None:
        return ""
    try:
        return datetime.fromisoformat(run.started).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return run.started


# --- the verdict and what is grave ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The first thing a reader sees: may a needle go in, and which."""

    gravity: str  # ok, caution or stop; note where no needle is planned yet
    headline: str
    details: tuple[str, ...]


def verdict(plan: Plan, anatomy: Anatomy, all_warnings: Sequence[Warned], t: Speaker) -> Verdict:
    """May a needle go in? The number of needles that pass, the best one, or why there is none.

    Its gravity is that of the best needle and of every warning that is not about one needle only.
    """
    passing = [o for o in plan.options if o.verdict is not Gravity.STOP]
    unknown = _unchecked(anatomy, t)
    if not plan.options and not plan.searched:
        return _nothing_yet(all_warnings, unknown, t)
    if not passing:
        return Verdict(
            gravity="stop", headline=_no_needle(plan, t), details=(*_why_none(plan, t), *unknown)
        )
    best = passing[0]
    detail = t(
        "{depth:.0f} mm from skin to tip, {gauge} gauge, needle of {length:.0f} mm.",
        depth=best.depth_mm,
        gauge=best.needle.gauge,
        length=best.needle.length_mm,
    )
    graves = [w.gravity for w in all_warnings if not w.about]
    first = (t("There is a reason to stop; read the warnings first."),) if "stop" in graves else ()
    careful = best.verdict is Gravity.CAUTION or bool(unknown) or "caution" in graves
    stopped = _stopped(len(plan.options) - len(passing), t)
    return Verdict(
        gravity="stop" if first else "caution" if careful else "ok",
        headline=_headline(passing, anatomy, t),
        details=(*first, detail, _closest(best, t), _risk(best, anatomy, t), *stopped, *unknown),
    )


def _nothing_yet(all_warnings: Sequence[Warned], unknown: tuple[str, ...], t: Speaker) -> Verdict:
    """The verdict of a plan in which nobody has looked for a needle, or left one."""
    worst = min((Gravity(w.gravity) for w in all_warnings), key=lambda g: g.rank, default=None)
    return Verdict(
        gravity="stop" if worst is Gravity.STOP else "note",
        headline=t("No needle is planned yet."),
        details=(
            t("This sheet shows the bone and its lesion; set a needle, or have one searched for."),
            *unknown,
        ),
    )


def _headline(passing: Sequence[Trajectory], anatomy: Anatomy, t: Speaker) -> str:
    """How many needles pass; never without naming what could not be checked."""
    route, count = passing[0].route, len(passing)
    if not anatomy.missing:
        if count == 1:
            return t("One needle path keeps every limit: {route}.", route=route)
        return t("{count} needle paths keep every limit; best: {route}.", count=count, route=route)
    names = t.listed(anatomy.missing[:_SAID_FIRST])
    names += " …" if len(anatomy.missing) > _SAID_FIRST else ""
    if count == 1:
        return t(
            "One needle path keeps every limit that could be checked: {route}; not identified: "
            "{names}.",
            route=route,
            names=names,
        )
    return t(
        "{count} needle paths keep every limit that could be checked; best: {route}; not "
        "identified: {names}.",
        count=count,
        route=route,
        names=names,
    )


def _stopped(count: int, t: Speaker) -> tuple[str, ...]:
    """The line on needles shown that may not be used, if there are any."""
    if not count:
        return ()
    if count == 1:
        return (t("One more path on this sheet breaks a limit or is stopped; do not use it."),)
    return (
        t(
            "{count} more paths on this sheet break a limit or are stopped; do not use them.",
            count=count,
        ),
    )


def _risk(option: Trajectory, anatomy: Anatomy, t: Speaker) -> str:
    """What may happen to a needle that is not placed exactly."""
    if not math.isfinite(option.placement_error_mm):
        return t("The chance of touching a structure is not known: placement error not stated.")
    given = {
        "error": option.placement_error_mm,
        "contact": _percent_fine(option.contact_probability, t),
        "breach": _percent_fine(option.breach_probability, t),
    }
    text = (
        t(
            "If the tip strays by {error:.1f} mm (SD, unguided): chance of touching a canal, "
            "nerve, vessel or organ {contact}, of passing a limit or leaving the pedicle {breach}.",
            **given,
        )
        if _has_pedicle(option)
        else t(
            "If the tip strays by {error:.1f} mm (SD, unguided): chance of touching a canal, "
            "nerve, vessel or organ {contact}, of passing a limit {breach}.",
            **given,
        )
    )
    if anatomy.missing:
        space = " " if t.language == "en" else ""
        text += space + t("Structures that were not identified are not included.")
    return text


def _has_pedicle(option: Trajectory) -> bool:
    return any(m.structure == "pedicle_cortex" for m in option.margins)


def _no_needle(plan: Plan, t: Speaker) -> str:
    if plan.options:
        return t("No safe needle: every path on this sheet breaks a limit.")
    return t("No safe needle path was found.")


def _why_none(plan: Plan, t: Speaker) -> tuple[str, ...]:
    return tuple(
        f"{words.sentence(t.name(r.route))}{t.colon}{words.retell(r.reason, t.language)}"
        for r in plan.refusals
    )


def _unchecked(anatomy: Anatomy, t: Speaker) -> tuple[str, ...]:
    if not anatomy.missing:
        return ()
    names = t.listed(anatomy.missing)
    return (t("Not found on this CT and therefore not checked: {names}.", names=names),)


def _closest(option: Trajectory, t: Speaker) -> str:
    worst = _worst(option)
    if worst is None:
        return t("No distance to any structure was measured.")
    return t(
        "Least room beyond a limit: {room}, at {structure} (distance {distance}, limit {limit}).",
        room=t.mm(worst.distance_mm - worst.required_mm),
        distance=t.mm(worst.distance_mm),
        structure=t.the(worst.structure),
        limit=t.mm(worst.required_mm),
    )


def _worst(option: Trajectory) -> Margin | None:
    """The margin with least room beyond its limit; one that is not known is worse than any."""
    return next(iter(_by_slack(option.margins)), None)


def warnings(scan: Scan, anatomy: Anatomy, plan: Plan, t: Speaker) -> tuple[Warned, ...]:
    """Everything a person must be told, each once, the gravest first."""
    general = (*plan.findings, *scan.findings, *anatomy.findings, *plan.lesion.findings)
    about: dict[tuple[Gravity, str], list[int]] = {}
    meant: dict[tuple[Gravity, str], Finding] = {}
    for number, findings in enumerate((general, *(o.findings for o in plan.options))):
        for finding in findings:
            key = (finding.gravity, words.say(finding, t.language))
            meant.setdefault(key, finding)
            if number == 0:
                about.setdefault(key, [])
            elif key not in about or about[key]:
                about.setdefault(key, []).append(number)
    groups: dict[object, list[tuple[Gravity, str]]] = {}
    for key, numbers in about.items():
        groups.setdefault(_alike(meant[key]) if numbers else key, []).append(key)
    told = [
        Warned(
            gravity=keys[0][0].value,
            text=words.sentence(words.say_together([meant[key] for key in keys], t.language)),
            about=_about(sorted({n for key in keys for n in about[key]}), t),
        )
        for keys in groups.values()
    ]
    return tuple(sorted(told, key=lambda item: Gravity(item.gravity).rank))


def _alike(finding: Finding) -> tuple[object, ...]:
    """Equal for findings on different needles that differ in their numbers only."""
    names = tuple((k, str(v)) for k, v in finding.values.items() if not isinstance(v, float))
    return finding.gravity, finding.message, names


def _about(numbers: Sequence[int], t: Speaker) -> str:
    if not numbers:
        return ""
    return t("needle {numbers}", numbers=", ".join(str(n) for n in numbers))


# --- the lesion and the bone ---------------------------------------------------------------------


def lesion_rows(lesion: Lesion, t: Speaker) -> tuple[Row, ...]:
    """The lesion in numbers: how large, of what kind, how much of the bone it takes."""
    across = " × ".join(f"{d:.1f}" for d in lesion.diameters_mm)
    mirels = Row(
        what=t("Largest part of the bone's diameter"),
        value=_percent(lesion.mirels_fraction, t),
        remark=t("size as in Mirels' score"),
    )
    return (
        Row(what=t("Volume"), value=t.number(lesion.volume_ml, "ml", 2)),
        Row(what=t("Diameters"), value=f"{across} mm"),
        Row(
            what=t("Kind"),
            value=t.name(lesion.kind),
            remark=t("mean {hu:.0f} HU", hu=lesion.mean_hu)
            if math.isfinite(lesion.mean_hu)
            else "",
        ),
        Row(what=t("Part of the bone's volume"), value=_percent(lesion.bone_fraction, t)),
        *((mirels,) if lesion.site.kind in _LONG_BONES else ()),
        Row(what=t("Soft tissue outside the bone"), value=t.number(lesion.soft_tissue_ml, "ml", 2)),
        Row(what=t("Found by"), value=t(lesion.found_by) if lesion.found_by else t("unknown")),
    )


def defect_rows(lesion: Lesion, t: Speaker) -> tuple[Row, ...]:
    """The holes in the cortex, largest first."""
    found = sorted(lesion.defects, key=lambda d: -d.area_mm2)
    return tuple(
        Row(
            what=t.name(d.wall),
            value=t.number(d.area_mm2, "mm²", 0 if d.area_mm2 >= 10 else 1),
            remark=t("{extent:.1f} mm across", extent=d.extent_mm) if d.extent_mm else "",
        )
        for d in found
    )


def distance_rows(lesion: Lesion, anatomy: Anatomy, t: Speaker) -> tuple[Row, ...]:
    """From the lesion's surface to each structure, the nearest first, unknown ones named."""
    near = sorted(lesion.distances_mm.items(), key=lambda item: item[1])
    rows = [
        Row(what=t.name(k), value=t("touches") if d <= 0 else t.mm(d), remark=_trust(k, anatomy, t))
        for k, d in near
        if not d > _FAR_MM
    ]
    rows += [Row(what=t.name(m), value=t("not found")) for m in anatomy.missing]
    return tuple(rows)


def far_line(lesion: Lesion, t: Speaker) -> str:
    """The structures that are too far from the lesion to be tabled, in one line."""
    near = sorted(lesion.distances_mm.items(), key=lambda item: item[1])
    return named_far([k for k, d in near if d > _FAR_MM], t)


def _trust(structure: str, anatomy: Anatomy, t: Speaker) -> str:
    parts = []
    if structure in anatomy.sources:
        parts.append(t(anatomy.sources[structure]))
    confidence = anatomy.confidence.get(structure, 1.0)
    if confidence < 1.0:
        parts.append(t("confidence {value:.0%}", value=confidence))
    return ", ".join(parts)


def bone_rows(scan: Scan, anatomy: Anatomy, t: Speaker) -> tuple[Row, ...]:
    """The treated bone and the CT it was read from."""
    rows = list(_vertebra_rows(anatomy.vertebra, t)) if anatomy.vertebra else []
    grid = scan.volume.grid
    spacing = " × ".join(f"{s:.2f}" for s in grid.spacing_mm[::-1])
    rows += [
        Row(what=t("CT series"), value=scan.name),
        Row(what=t("Voxel"), value=f"{spacing} mm"),
        Row(
            what=t("Tube voltage"),
            value=t.number(scan.kvp, "kV", 0),
            remark=t("kernel {kernel}", kernel=scan.kernel) if scan.kernel else "",
        ),
        Row(what=t("Contrast medium"), value=t(_YES_NO[scan.contrast])),
    ]
    if anatomy.calibration is not None:
        rows.append(
            Row(what=t("HU calibration"), value=t(_CALIBRATION[anatomy.calibration.method]))
        )
    return tuple(rows)


_YES_NO = {True: "yes", False: "no", None: "unknown"}
_CALIBRATION = {
    "phantom": "by a phantom in the scan",
    "internal": "by air, fat and muscle in the scan",
    "none": "none: densities are approximate",
}


def _vertebra_rows(body: VertebraMeasures, t: Speaker) -> tuple[Row, ...]:
    heights = f"{body.anterior_mm:.1f} / {body.middle_mm:.1f} / {body.posterior_mm:.1f} mm"
    loss = max(body.wedge_loss, body.biconcave_loss, body.crush_loss or 0.0)
    rows = [
        Row(what=t("Body height, front / middle / back"), value=heights),
        Row(
            what=t("Genant grade"),
            value=t("vertebra plana") if body.plana else str(body.genant_grade),
            remark=t("largest loss of height {loss:.0%}", loss=max(loss, 0.0)),
        ),
    ]
    for isthmus in body.isthmuses:
        rows.append(
            Row(
                what=t("Pedicle width, left")
                if isthmus.side == "left"
                else t("Pedicle width, right"),
                value=t.mm(isthmus.width_mm),
                remark=t("height {height:.1f} mm", height=isthmus.height_mm),
            )
        )
    return tuple(rows)


def _percent(fraction: float, t: Speaker) -> str:
    return t.number(100 * fraction, "%", 0)


# --- one needle ----------------------------------------------------------------------------------


def _needle_page(
    index: int,
    option: Trajectory,
    scan: Scan,
    anatomy: Anatomy,
    views: Mapping[int, tuple[View, View, View]],
    shapes: figures.Outlines,
    t: Speaker,
) -> NeedlePage:
    own_views = views.get(index)
    compact = index >= _EVERY_PIXEL
    drawn = []
    if own_views:
        drawn = [
            figures.radiographs(own_views, option, shapes, language=t.language, compact=compact)
        ]
    drawn.append(
        figures.needle_slices(scan, anatomy, option, shapes, language=t.language, compact=compact)
    )
    own = gravest_first(option.findings)
    return NeedlePage(
        number=index + 1,
        route=t.name(option.route),
        verdict=_grade(option),
        reason=words.sentence(words.retell(option.reason, t.language)) if option.reason else "",
        facts=needle_rows(option, anatomy, t),
        room=room_rows(option, scan, t),
        margins=tuple(margin_row(m, t) for m in _by_slack(option.margins) if not is_far(m)),
        far=named_far([m.structure for m in _by_slack(option.margins) if is_far(m)], t),
        no_views="" if own_views else _no_views(views, t),
        findings=tuple(
            Warned(gravity=f.gravity.value, text=words.sentence(words.say(f, t.language)))
            for f in own
        ),
        figures=tuple(drawn),
        overview=overview_row(option, t),
    )


def _no_views(views: Mapping[int, tuple[View, View, View]], t: Speaker) -> str:
    if not views:
        return ""
    shown = sorted(k + 1 for k in views)
    if shown == list(range(1, len(shown) + 1)) and len(shown) > 1:
        return t(
            "Fluoroscopic views are computed for the first {count} needles only.", count=len(shown)
        )
    numbers = ", ".join(str(n) for n in shown)
    return t("Fluoroscopic views are computed for needle {numbers} only.", numbers=numbers)


def is_far(margin: Margin) -> bool:
    """Whether a structure is so far from a needle that it is named and not tabled."""
    return margin.distance_mm > _FAR_MM and margin.verdict == "ok"


def named_far(structures: Sequence[str], t: Speaker) -> str:
    """The line that names what is too far away to be tabled; "" for none."""
    if not structures:
        return ""
    return t("farther than {limit:.0f} mm: {names}", limit=_FAR_MM, names=t.listed(structures))


def _grade(option: Trajectory) -> str:
    return "ok" if option.verdict is Gravity.NOTE else option.verdict.value


def _by_slack(margins: Sequence[Margin]) -> list[Margin]:
    """Unknown distances first, then the one with least to spare."""
    return sorted(
        margins,
        key=lambda m: -math.inf if math.isnan(m.distance_mm) else m.distance_mm - m.required_mm,
    )


def margin_row(margin: Margin, t: Speaker) -> MarginRow:
    """One distance with its limit and whether the limit was read in a source."""
    return MarginRow(
        structure=t.name(margin.structure),
        distance=t.mm(margin.distance_mm),
        required=t.mm(margin.required_mm),
        verdict=margin.verdict,
        is_verified=_limit(margin.structure).verified,
    )


def _limit(structure: str) -> source.Value:
    """The fact behind a limit: of the walls of the treated bone, else of the structure's kind."""
    walls = {"pedicle_cortex": "margin_pedicle_cortex", "far_wall": "margin_anterior_wall"}
    return limits.value(walls[structure]) if structure in walls else limits.margin(structure)


def overview_row(option: Trajectory, t: Speaker) -> dict[str, str]:
    """The numbers by which needles are compared."""
    worst = _worst(option)
    return {
        "needle": f"{option.needle.gauge} G × {option.needle.length_mm:g} mm",
        "depth": t.mm(option.depth_mm),
        "bone": t.mm(option.bone_length_mm),
        "gantry": _brief_gantry(option, t),
        "c_arm": _brief_c_arm(option, t),
        "closest": t("none measured")
        if worst is None
        else f"{t.mm(worst.distance_mm - worst.required_mm)}, {t.name(worst.structure)}",
        "contact": _percent_fine(option.contact_probability, t),
    }


def _brief_gantry(option: Trajectory, t: Speaker) -> str:
    angles = option.gantry
    way = t("head side") if angles.tilt_deg >= 0 else t("foot side")
    side = t("left") if angles.in_plane_deg >= 0 else t("right")
    tilt, lean = (t.number(abs(a), "°", 0) for a in (angles.tilt_deg, angles.in_plane_deg))
    return t("tilt {tilt} {way}, {lean} {side}", tilt=tilt, way=way, lean=lean, side=side)


def _brief_c_arm(option: Trajectory, t: Speaker) -> str:
    arm = option.c_arm
    side = t("left") if arm.oblique_deg >= 0 else t("right")
    way = t("head") if arm.cranial_deg >= 0 else t("feet")
    oblique, cranial = (t.number(abs(a), "°", 0) for a in (arm.oblique_deg, arm.cranial_deg))
    return t(
        "{oblique} {side}, {cranial} {way}", oblique=oblique, side=side, cranial=cranial, way=way
    )


def _percent_fine(fraction: float, t: Speaker) -> str:
    return t.number(100 * fraction, "%", 1)


def needle_rows(option: Trajectory, anatomy: Anatomy, t: Speaker) -> tuple[Row, ...]:
    """What the operator needs to know of one needle, in words."""
    skin_bone = float(np.linalg.norm(option.bone_entry_mm - option.entry_mm))
    clearance = option.corridor_clearance_mm
    rows = [
        *_maker_row(option, t),
        Row(what=t("Skin entry"), value=landmark(option, anatomy, t)),
        Row(
            what=t("Depth, skin to tip"),
            value=t.mm(option.depth_mm),
            remark=t("bone is reached at {depth:.1f} mm", depth=skin_bone),
        ),
        Row(
            what=t("Through bone"),
            value=t.mm(option.bone_length_mm),
            remark=t(
                "meets the cortex at {angle:.0f}° from its normal", angle=option.cortex_angle_deg
            )
            if math.isfinite(option.cortex_angle_deg)
            else "",
        ),
        Row(
            what=t("Needle"),
            value=t(
                "{gauge} gauge ({outer:.2f} mm outside), {length:g} mm long",
                gauge=option.needle.gauge,
                outer=option.needle.outer_mm,
                length=option.needle.length_mm,
            ),
            remark=t(
                "{spare:.0f} mm stay outside the skin",
                spare=option.needle.length_mm - option.depth_mm,
            )
            if option.needle.length_mm >= option.depth_mm
            else t("too short by {lack:.0f} mm", lack=option.depth_mm - option.needle.length_mm),
        ),
        Row(what=t("CT gantry"), value=gantry_tilt(option, t), remark=in_plane(option, t)),
        Row(
            what=t("C-arm, down the needle"),
            value=c_arm_words(option, t),
            remark=t(option.position),
        ),
    ]
    if clearance is not None:
        clear = (
            t("Clearance to the pedicle wall")
            if _has_pedicle(option)
            else t("Clearance to the corridor's cortex")
        )
        rows.append(Row(what=clear, value=t.mm(clearance)))
    touching = _chance_remark(option, option.contact_interval, t)
    if anatomy.missing:
        touching += "; " + t("not identified structures not included")
    rows.append(
        Row(
            what=t("Chance of touching a canal, nerve, vessel or organ"),
            value=_percent_fine(option.contact_probability, t),
            remark=touching,
        )
    )
    rows.append(
        Row(
            what=t("Chance of passing a limit or leaving the pedicle")
            if _has_pedicle(option)
            else t("Chance of passing a limit"),
            value=_percent_fine(option.breach_probability, t),
            remark=_chance_remark(option, option.breach_interval, t),
        )
    )
    return tuple(rows)


def _maker_row(option: Trajectory, t: Speaker) -> tuple[Row, ...]:
    """Who chose the way of a needle, where it was not the search."""
    if option.made_by == "search":
        return ()
    remark = t("not chosen by the search; measured like its needles")
    return (Row(what=t("Way"), value=t("set by hand"), remark=remark),)


def _chance_remark(option: Trajectory, interval: tuple[float, float], t: Speaker) -> str:
    if not math.isfinite(option.placement_error_mm):
        return t("placement error not stated")
    low, high = interval
    text = t("unguided, if the tip strays by {error:.1f} mm (SD)", error=option.placement_error_mm)
    if math.isfinite(low) and math.isfinite(high):
        text += "; " + t("95 % interval {low:.1f} to {high:.1f} %", low=100 * low, high=100 * high)
    return text


def landmark(option: Trajectory, anatomy: Anatomy, t: Speaker) -> str:
    """Where the skin is punctured, from the middle of the treated bone.

    Along the patient's axes (LPS), as a ruler on the skin and the skin map measure; the bone's own
    axes may be tilted against them.
    """
    left, _, up = (float(v) for v in option.entry_mm - anatomy.axes.origin_mm)
    is_midline = anatomy.site.kind in ("vertebra", "sacrum")
    if is_midline:
        side = (
            t("{d:.0f} mm to the patient's left of the midline", d=left)
            if left >= 0
            else t("{d:.0f} mm to the patient's right of the midline", d=-left)
        )
    else:
        side = (
            t("{d:.0f} mm to the patient's left of the bone's centre", d=left)
            if left >= 0
            else t("{d:.0f} mm to the patient's right of the bone's centre", d=-left)
        )
    height = (
        t("{d:.0f} mm towards the head from the bone's centre", d=up)
        if up >= 0
        else t("{d:.0f} mm towards the feet from the bone's centre", d=-up)
    )
    return f"{side}, {height}"


def gantry_tilt(option: Trajectory, t: Speaker, digits: int = 0) -> str:
    """The tilt of the slice in words."""
    tilt = option.gantry.tilt_deg
    angle = t.number(abs(tilt), "°", digits)
    if round(tilt, digits) == 0:
        return t("no tilt")
    if tilt > 0:
        return t("tilt {angle}, needle from the head side", angle=angle)
    return t("tilt {angle}, needle from the foot side", angle=angle)


def in_plane(option: Trajectory, t: Speaker, digits: int = 0) -> str:
    """The angle from the vertical within the slice, in words."""
    lean = option.gantry.in_plane_deg
    angle = t.number(abs(lean), "°", digits)
    if round(lean, digits) == 0:
        return t("vertical in the slice")
    if lean > 0:
        return t("{angle} from the vertical, from the patient's left", angle=angle)
    return t("{angle} from the vertical, from the patient's right", angle=angle)


def c_arm_words(option: Trajectory, t: Speaker, digits: int = 0) -> str:
    """The receptor's place for the view down the needle, in words."""
    arm = option.c_arm
    oblique, cranial = (t.number(abs(a), "°", digits) for a in (arm.oblique_deg, arm.cranial_deg))
    side = (
        t("receptor {angle} to the patient's left", angle=oblique)
        if arm.oblique_deg >= 0
        else t("receptor {angle} to the patient's right", angle=oblique)
    )
    way = (
        t("{angle} towards the head", angle=cranial)
        if arm.cranial_deg >= 0
        else t("{angle} towards the feet", angle=cranial)
    )
    return f"{side}, {way}"


def room_rows(option: Trajectory, scan: Scan, t: Speaker) -> tuple[Row, ...]:
    """The CT-room numbers, with digits enough to recompute the needle to a tenth of a mm."""
    gantry = option.gantry
    side = t("from behind") if gantry.from_behind else t("from the front")
    return (
        Row(what=t("Table"), value=_table_position(option, scan, t)),
        Row(what=t("Entry (L, P, H)"), value=_point(option.entry_mm, t)),
        Row(what=t("Tip (L, P, H)"), value=_point(option.target_mm, t)),
        Row(
            what=t("Tilt"),
            value=t.number(gantry.tilt_deg, "°", 2),
            remark=t("positive: from the head side"),
        ),
        Row(
            what=t("In-plane angle"),
            value=t.number(gantry.in_plane_deg, "°", 2),
            remark=t("positive: from the patient's left; the needle comes {side}", side=side),
        ),
        Row(what=t("Depth"), value=t.mm(option.depth_mm, 2)),
        Row(
            what=t("C-arm"),
            value=t.number(option.c_arm.oblique_deg, "°", 2)
            + " / "
            + t.number(option.c_arm.cranial_deg, "°", 2),
            remark=t("positive: to the patient's left / towards the head"),
        ),
    )


def _point(point_mm: Float, t: Speaker) -> str:
    return ", ".join(t.number(float(v), "", 2) for v in point_mm) + " mm"


def _table_position(option: Trajectory, scan: Scan, t: Speaker) -> str:
    """The slice through the skin entry: its place and its number, counted from the feet."""
    grid = scan.volume.grid
    k = int(np.clip(round(float(grid.to_index(option.entry_mm)[0])), 0, grid.shape[0] - 1))
    from_feet = k if grid.axes[2, 0] > 0 else grid.shape[0] - 1 - k
    return t(
        "slice {number} of {total} from the feet, at {height} mm",
        number=from_feet + 1,
        total=grid.shape[0],
        height=t.number(float(option.entry_mm[2]), "", 1),
    )


def set_row(group: NeedleSet, options: Sequence[Trajectory], t: Speaker) -> dict[str, str]:
    """A set of needles used together."""
    members = [f"{k + 1} ({t.name(options[k].route)})" for k in group.members if k < len(options)]
    return {
        "name": t.name(group.name) if group.name else "",
        "members": ", ".join(members),
        "tips": t.mm(group.tip_spacing_mm),
        "shafts": t.mm(group.shaft_spacing_mm),
    }


def refusal_row(refusal: Refusal, t: Speaker) -> dict[str, Any]:
    """Why a route gave no needle, with the structures that stopped most candidates first."""
    stops = sorted(refusal.stopped_by.items(), key=lambda item: -item[1])
    return {
        "route": t.name(refusal.route),
        "reason": words.sentence(words.retell(refusal.reason, t.language)),
        "candidates": f"{refusal.candidates:,}",
        "stops": [f"{t.name(k)} {n:,}" for k, n in stops],
    }


# --- where the numbers come from -----------------------------------------------------------------


def provenance_rows(scan: Scan, anatomy: Anatomy, plan: Plan, t: Speaker) -> tuple[Row, ...]:
    """With what this sheet was made, so that it can be made again."""
    rows = [Row(what=t("CT, SHA-256"), value=scan.sha256)]
    run = plan.run
    if run is None:
        return (*rows, Row(what=t("Run"), value=t("not recorded")))
    rows += [
        Row(what=t("Input {name}, SHA-256", name=key), value=value)
        for key, value in run.inputs.items()
        if value != scan.sha256
    ]
    rows += [
        Row(what=t("Program"), value=f"trocar {run.version}", remark=run.command),
        Row(
            what=t("Made"),
            value=run.started,
            remark=t("{seconds:.0f} s, {memory:.0f} MB", seconds=run.seconds, memory=run.peak_mb),
        ),
        Row(what=t("Seed"), value=str(run.seed)),
        Row(what=t("Parameters"), value=_pairs(run.parameters)),
        Row(what=t("Facts"), value=_pairs(run.facts)),
        Row(what=t("Packages"), value=_pairs(run.packages)),
    ]
    return tuple(rows)


def _pairs(items: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{_GENTLE_NAMES.get(k, words.english(k))} {_plain(v)}" for k, v in items.items()
    )


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "(" + "; ".join(_plain(v) for v in value) + ")"
    return str(value)


def unverified_rows(plan: Plan, t: Speaker) -> tuple[Row, ...]:
    """The limits used on this sheet that nobody has yet read in a source, each once."""
    used: dict[str, source.Value] = {}
    for option in plan.options:
        for margin in option.margins:
            value = _limit(margin.structure)
            used[value.name] = value
    if plan.options:
        used |= {n: limits.value(n) for n in ("caution_factor", "placement_error")}
    return tuple(
        Row(
            what=t(value.source),
            value=t.number(value.mean, "" if value.unit == "1" else value.unit),
            remark=t(value.evidence),
        )
        for value in used.values()
        if not value.verified
    )
