"""What the workbench shows of a lesion: which CT, which plan, what lies over it, in which numbers.

Everything here is read; nothing is changed and no request is known.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from django.http import Http404
from django.urls import reverse
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from trocar.errors import InputError
from trocar.model.case import Finding, Gravity
from trocar.model.plan import Margin, Trajectory
from trocar.model.result import Scan
from trocar.model.space import Float, Mask
from trocar.pathway import Planned
from trocar.registry.models import MODELS
from trocar.report import figures, sheet, viewer, words
from trocar.report.page import Speaker
from trocar.web import bench, kept, picture
from trocar.web.picture import Overlay

# What lies over the CT by its key: title, whether it is shown at first, how opaque.
LAYERS = {
    "structures": (_("Structures at risk"), True, 0.35),
    "lesion": (_("Lesion"), True, 0.45),
    "defects": (_("Holes in the bone's walls"), True, 0.9),
    "dead": (_("Tissue that dies"), True, 0.4),
    "heat": (_("Isotherms"), False, 0.4),
    "dose": (_("Thermal dose (CEM43)"), False, 0.4),
    "cement": (_("Cement as foretold"), True, 0.7),
    "reached": (_("How often cement gets there"), False, 0.4),
    "found": (_("Cement found"), True, 0.7),
    "strain-now": (_("Share of the yield strain, now"), False, 0.6),
    "strain-planned": (_("Share of the yield strain, with the cement foretold"), False, 0.6),
    "strain-found": (_("Share of the yield strain, with the cement found"), False, 0.6),
}
# Whose regions' names tell what they are without the layer's.
ALONE = ("structures", "lesion", "defects", "dead")
_OF_RUN: Mapping[str, Callable[[picture.Read], tuple[Overlay, ...]]] = {
    "ablation": picture.of_ablation,
    "leak forecast": picture.of_cement,
    "injection": picture.of_cement,
    "strength": picture.of_strength,
}
RUN_NAMES = {
    "ablation": _("Ablation"), "leak forecast": _("Injection"), "injection": _("Injection"),
    "strength": _("Strength"),
}  # fmt: skip
SIGNS = {"ok": "✓", "caution": "!", "stop": "✕", "unknown": "?"}
WORST_FIRST = ("stop", "unknown", "caution", "ok")
# Kinds of structures that are shown as surfaces; organs would hide what lies between them.
_SOLID = ("canal", "nerve", "artery", "vein", "joint", "metal", "unknown")
WINDOWS = {"bone": figures.BONE_WINDOW, "soft": figures.SOFT_WINDOW}


# --- What is looked at ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Look:
    """A lesion, the CT that is shown and the version of its plan that lies over it, if any."""

    lesion: Any
    image: Any = None
    scan: Scan | None = None
    row: Any = None
    case: Planned | None = None
    after: tuple[Any, ...] = ()
    others: tuple[Any, ...] = ()  # further CTs before, to be chosen
    fault: str = ""  # why the plan cannot be shown
    last: int | None = None  # the newest version of all, typed ones among them
    newest: int | None = None  # the newest that was computed


def look_at(lesion: Any, number: str | None = None, image: str | None = None) -> Look:
    """The plan of a version (else of the newest that was computed) on its CT; else the CT alone."""
    rows = [
        row
        for row in MODELS["plans"].objects.filter(lesion=lesion).order_by("-number")
        if kept.holds(f"{row.plan_sha256}.zip")
    ]
    row = next((r for r in rows if number is None or str(r.number) == number), None)
    if number is not None and row is None:
        raise Http404
    images = bench.images(lesion)
    after = tuple(i for i in images if i.purpose == "after")
    before = [i for i in images if i not in after]
    case, fault = None, ""
    shown = next((i for i in before if str(i.uid) == image), None)
    if row is not None:
        try:
            made = bench.planned(row)
            if shown is None or bench.scan(shown).sha256 == made.scan.sha256:
                case, shown = made, bench.image_of(lesion, made)
        except InputError as error:
            # Who chose a CT starts anew on it, whatever became of the plan's.
            fault = "" if shown is not None else gettext(str(error))
    if shown is None and before:
        shown = next((i for i in reversed(before) if i.purpose == "planning"), before[-1])
    return Look(
        lesion=lesion,
        image=shown,
        scan=None if shown is None else bench.scan(shown),
        row=row if case is not None else None,
        case=case,
        after=after,
        others=tuple(i for i in before if i != shown),
        fault=fault,
        last=bench.last_number(lesion),
        newest=int(rows[0].number) if rows else None,
    )


def speaker() -> Speaker:
    """Who says the sheets' words in the reader's language."""
    return Speaker("en" if (get_language() or "en").startswith("en") else "zh-Hant")


def word(term: str, t: Speaker) -> str:
    """A structure, a wall, a compartment or a phrase in the reader's words."""
    return t("{what}", what=term)


# --- What lies over it ----------------------------------------------------------------------------


@lru_cache(maxsize=12)
def _over(table: str, pk: int, sha256: str) -> tuple[Overlay, ...]:
    """The overlays of a plan, a run or an assessment; a row's content is named by its hash."""
    row = MODELS[table].objects.get(pk=pk)
    if table == "plans":
        return picture.of_plan(bench.planned(row))

    def read(name: str) -> bytes | None:
        try:
            return bench.result_file(sha256, name)
        except Http404:
            return None

    if table == "assessments":
        return picture.of_assessment(read, _transform(sha256))
    made = _OF_RUN.get(row.kind)
    return () if made is None else made(read)


def overlays_of(table: str, row: Any) -> tuple[Overlay, ...]:
    """What a row's kept file lays over the CT; nothing where it keeps none."""
    sha256 = row.plan_sha256 if table == "plans" else row.result_sha256
    if not sha256 or not kept.holds(f"{sha256}.zip"):
        return ()
    return _over(table, row.pk, sha256)


@lru_cache(maxsize=32)
def _transform(sha256: str) -> Any:
    """How the bone of a CT afterwards lies against that before; None where it is not told."""
    try:
        told = json.loads(bench.result_file(sha256, "result.json"))
    except (Http404, ValueError):
        return None
    registration = (told.get("fill") or {}).get("registration") or {}
    return registration.get("transform")


def transform_of(lesion: Any, image: Any) -> Float | None:
    """The same for the image that was assessed."""
    rows = MODELS["assessments"].objects.filter(lesion=lesion, image_id=image.image_id)
    for row in rows.order_by("-pk"):
        if row.result_sha256 and (told := _transform(row.result_sha256)) is not None:
            return np.asarray(told, np.float64)
    return None


def _sources(look: Look) -> list[tuple[str, Any]]:
    """The rows whose overlays are shown: the plan, the newest run of each kind, what was found."""
    out: list[tuple[str, Any]] = [] if look.row is None else [("plans", look.row)]
    if look.case is None:
        return out
    seen: set[str] = set()
    for run in MODELS["runs"].objects.filter(lesion=look.lesion).order_by("-pk"):
        name = RUN_NAMES.get(run.kind)
        if name and name not in seen and kept.holds(f"{run.result_sha256}.zip"):
            seen.add(name)
            out.append(("runs", run))
    found = MODELS["assessments"].objects.filter(lesion=look.lesion).order_by("-pk")
    out += [("assessments", row) for row in found if kept.holds(f"{row.result_sha256}.zip")][:1]
    return out


def _layers(look: Look, t: Speaker) -> list[dict[str, Any]]:
    """What the page may show over the CT, each with its legend and where its voxels are."""
    out = []
    for table, row in _sources(look):
        is_run = look.row is not None and table == "runs"
        is_other = is_run and row.plan_number != look.row.number
        for overlay in overlays_of(table, row):
            title, on, opacity = LAYERS[overlay.key]
            args = [look.lesion.uid, table, row.uid, overlay.key]
            out.append(
                {
                    "key": f"{table}.{row.uid}.{overlay.key}",
                    "kind": overlay.key,
                    "stamp": overlay.stamp,
                    "title": str(title),
                    "alone": overlay.key in ALONE,
                    "from": _from(table, row, look),
                    "other": is_other,
                    "on": on and not is_other,  # of another plan: to be looked at knowingly
                    "opacity": opacity,
                    "url": reverse("bench-layer", args=args),
                    "regions": [
                        {
                            "number": r.number,
                            "name": word(r.word, t),
                            "colour": r.colour,
                            "solid": overlay.key != "structures"
                            or figures.kind_shown(r.word) in _SOLID,
                            "surface": reverse("bench-surface", args=[*args, r.number]),
                        }
                        for r in overlay.regions
                    ],
                }
            )
    return out


def _from(table: str, row: Any, look: Look) -> str:
    """Whose result an overlay is."""
    if table == "plans":
        return gettext("version %(number)s") % {"number": row.number}
    if table == "assessments":
        return gettext("CT of %(day)s") % {"day": row.date}
    name = str(RUN_NAMES[row.kind])
    if row.plan_number is None:
        return name
    told = gettext("%(what)s, version %(number)s")
    return told % {"what": name, "number": row.plan_number}


# --- The scene: all that the page's script needs --------------------------------------------------


def scene_of(look: Look, t: Speaker, *, may_plan: bool) -> dict[str, Any]:
    """All that the page's script needs: addresses, places, needles, layers; no words of its own."""
    scan, lesion = look.scan, look.lesion
    assert scan is not None
    box = picture.part_to_show(scan.volume.grid, look.case)
    grid = scan.volume.grid.crop(box)
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.asarray(grid.shape) - 1)
    points = grid.to_world(corners)
    low, high = points.min(axis=0), points.max(axis=0)
    whole = scan.volume.grid.to_world(
        np.indices((2, 2, 2)).reshape(3, -1).T * (np.asarray(scan.volume.grid.shape) - 1)
    )
    needles = [] if look.case is None else look.case.plan.options
    args = [lesion.uid, look.image.uid]
    return {
        "version": None if look.row is None else look.row.number,
        "newest": look.newest,
        "last": look.last,
        "editable": may_plan and is_newest(look),
        "image": str(look.image.uid),
        "ct": {
            part: reverse("bench-ct", args=[*args, part])
            + ("" if look.row is None else f"?version={look.row.number}")
            for part in ("around", "whole")
        },
        "low": low.tolist(),
        "high": high.tolist(),
        "whole_low": whole.min(axis=0).tolist(),
        "whole_high": whole.max(axis=0).tolist(),
        "reduced": math.prod(grid.shape) > picture.MOST_VOXELS,
        "spacing": list(scan.volume.grid.spacing_mm),
        "axes": scan.volume.grid.axes.T.tolist(),
        "at": _start(look).tolist(),
        "panes": {
            name: _pane_told(picture.plane(name, np.zeros(3), 1.0)) for name in picture.PLANES
        },
        "picture": reverse("bench-picture", args=args),
        "layers": _layers(look, t),
        "bone": None if look.case is None else _bone_told(look, look.case.anatomy.bone),
        "needles": [needle_told(o, k) for k, o in enumerate(needles)],
        "windows": {name: list(window) for name, window in WINDOWS.items()},
        "after": [after_told(look, row) for row in look.after],
    }


def _start(look: Look) -> Float:
    """Where one looks first: the lesion, else the middle of the CT."""
    assert look.scan is not None
    if look.case is not None:
        return look.case.lesion.centre_mm
    return look.scan.volume.grid.centre_mm


def _bone_told(look: Look, bone: Mask) -> dict[str, str]:
    args = [look.lesion.uid, "plans", look.row.uid, "bone", 1]
    return {
        "address": reverse("bench-surface", args=args),
        "stamp": picture.stamp(bone.grid, bone.values),
    }


def is_newest(look: Look) -> bool:
    """Whether what is shown may be changed: it is the newest that was computed, if any was."""
    return (look.row is None or look.row.number == look.newest) and not look.fault


def after_told(look: Look, row: Any) -> dict[str, Any]:
    """A CT afterwards for the script, cut as the CT before and laid into its space."""
    version = "" if look.row is None else f"?version={look.row.number}"
    return {
        "image": str(row.uid),
        "ct": reverse("bench-ct", args=[look.lesion.uid, row.uid, "around"]) + version,
        "picture": reverse("bench-picture", args=[look.lesion.uid, row.uid]),
        "name": " ".join(filter(None, (row.image_id, row.date))),
        "registered": transform_of(look.lesion, row) is not None,
    }


def _pane_told(pane: figures.Pane) -> dict[str, Any]:
    return {
        "centre": pane.centre_mm.tolist(),
        "right": pane.right.tolist(),
        "down": pane.down.tolist(),
        "side": pane.size_mm[0],
    }


def needle_told(option: Trajectory, index: int | None = None) -> dict[str, Any]:
    """A needle for the picture: its points, how it is drawn, the cuts that hold it."""
    first, second = picture.along(option)
    hub = option.target_mm - option.path.direction * max(option.needle.length_mm, option.depth_mm)
    return {
        "index": index,
        "entry": option.entry_mm.tolist(),
        "target": option.target_mm.tolist(),
        "bone": option.bone_entry_mm.tolist(),
        "hub": hub.tolist(),
        "outer": option.needle.outer_mm,
        "gauge": option.needle.gauge,
        "length": option.needle.length_mm,
        "route": option.route,
        "verdict": grade(option),
        "stl": base64.b64encode(viewer.needle_stl(option)).decode("ascii"),
        "along": [_pane_told(first), _pane_told(second)],
    }


def grade(option: Trajectory) -> str:
    """A needle's verdict as the pages colour it: ok, caution or stop."""
    return "ok" if option.verdict is Gravity.NOTE else option.verdict.value


# --- Numbers, as the plan sheet prints them -------------------------------------------------------


def numbers_of(option: Trajectory, look: Look, t: Speaker) -> dict[str, Any]:
    """Everything the plan sheet says of a needle, worst first, in the same digits."""
    assert look.case is not None
    anatomy, scan = look.case.anatomy, look.case.scan
    margins = sorted(option.margins, key=_room)
    far = [m.structure for m in margins if sheet.is_far(m)]
    return {
        "verdict": grade(option),
        "sign": SIGNS[grade(option)],
        "word": t(grade(option)),
        "route": t.name(option.route),
        "by_hand": option.made_by == "hand",
        "brief": sheet.overview_row(option, t),
        "facts": [
            {"what": r.what, "value": r.value, "remark": r.remark}
            for r in (*sheet.needle_rows(option, anatomy, t), *sheet.room_rows(option, scan, t))
        ],
        "margins": [_margin_told(m, t) for m in margins if not sheet.is_far(m)],
        "far": sheet.named_far(far, t),
        "missing": t.listed(anatomy.missing) if anatomy.missing else "",
        "findings": [finding_told(f, t) for f in option.findings],
    }


def said(finding: Finding, t: Speaker) -> str:
    """A finding as a sentence."""
    text = words.say(finding, t.language)
    return text[:1].upper() + text[1:]


def finding_told(finding: Finding, t: Speaker) -> dict[str, str]:
    """A finding with its gravity and the sign of it."""
    gravity = finding.gravity.value
    return {"gravity": gravity, "sign": SIGNS.get(gravity, "i"), "text": said(finding, t)}


def _room(margin: Margin) -> tuple[int, float]:
    """Worst verdict first; then what is not known, then what has least to spare."""
    room = margin.distance_mm - margin.required_mm
    return WORST_FIRST.index(margin.verdict), -math.inf if math.isnan(room) else room


def _margin_told(margin: Margin, t: Speaker) -> dict[str, Any]:
    row = sheet.margin_row(margin, t)
    return {
        "structure": row.structure,
        "distance": row.distance,
        "required": row.required,
        # A limit that is kept and a caution all the same would be a riddle.
        "below": t("caution below {limit:.1f} mm", limit=margin.caution_mm)
        if margin.verdict == "caution"
        else "",
        "verdict": row.verdict,
        "sign": SIGNS[row.verdict],
        "word": t(row.verdict),
        "verified": row.is_verified,
    }
