"""The workbench: a lesion's CT with all that was planned, computed and found on it, to work on.

The page draws; what it draws and every number on it comes from the server. Its voxels and pictures
are given by ``bench_files``, what is done on it is taken by ``bench_work``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_GET

from trocar.errors import InputError
from trocar.facts import ablation as ablation_facts
from trocar.model.care import PlanVersion
from trocar.model.case import LEVELS, Gravity, Site
from trocar.planning.routes import routes_for
from trocar.planning.trajectory import stock_for
from trocar.registry import roles
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.report import figures, sheet, viewer, words
from trocar.report.page import Speaker
from trocar.web import kept, picture
from trocar.web.guard import allowed, case_of, needs
from trocar.web.looking import (
    LAYERS,
    RUN_NAMES,
    SIGNS,
    Look,
    finding_told,
    look_at,
    numbers_of,
    overlays_of,
    said,
    scene_of,
    speaker,
    word,
)
from trocar.web.pages import bench_files, bench_work
from trocar.web.pages.bench_files import log_view, version_of

_SIDED = ("ilium", "acetabulum", "ischium", "pubis", "femur", "humerus")
_CEMENTS = ("low", "medium", "high")
_SIDE_MM = 160.0  # of a picture of a version without a needle


@needs(roles.SEE)
@require_GET
def page(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The workbench of a lesion; looking at its images is logged."""
    lesion = case_of(request, uid)
    look = look_at(lesion, version_of(request), request.GET.get("image"))
    if look.scan is None:
        return render(request, "bench/empty.html", {"lesion": lesion, "fault": look.fault})
    for row in (look.image, *look.after):
        log_view(request, row)
    t = speaker()
    told = _side(request, look, t) | {
        "viewer": viewer.assets() is not None,
        "words": _words(),
    }
    return render(request, "bench/bench.html", told)


@needs(roles.SEE)
@require_GET
def side(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The panel of words and numbers, made anew after an edit, with the scene for the script."""
    look = look_at(case_of(request, uid), version_of(request), request.GET.get("image"))
    if look.scan is None:
        raise Http404
    return render(request, "bench/side.html", _side(request, look, speaker()))


def _side(request: HttpRequest, look: Look, t: Speaker) -> dict[str, Any]:
    case = look.case
    rows = list(MODELS["plans"].objects.filter(lesion=look.lesion).order_by("-number"))
    versions = [(row, to_record(row)) for row in rows]
    scene = scene_of(look, t, may_plan=allowed(request, roles.PLAN))
    newest = versions[0] if versions else None
    shown = None if look.row is None else to_record(look.row)
    scene["approval"] = _approval(shown, None if newest is None else newest[1])
    site = _site(look)
    return {
        "lesion": look.lesion,
        "look": look,
        "scene": scene,
        "editable": scene["editable"],
        "versions": versions,
        "newest_row": None if newest is None else newest[0],
        "newest": None if newest is None else newest[1],
        "before_newest": rows[1] if len(rows) > 1 else None,
        "computed": [(r, v) for r, v in versions if kept.holds(f"{r.plan_sha256}.zip")],
        "needles": [] if case is None else [numbers_of(o, look, t) for o in case.plan.options],
        "lesion_rows": [] if case is None else sheet.lesion_rows(case.lesion, t),
        "defect_rows": [] if case is None else sheet.defect_rows(case.lesion, t),
        "distance_rows": [] if case is None else sheet.distance_rows(case.lesion, case.anatomy, t),
        "refusals": [] if case is None else [sheet.refusal_row(r, t) for r in case.plan.refusals],
        "findings": _plan_findings(look, t),
        "searched": case is not None and case.plan.searched,
        "sites": [(s, words.site(Site.parse(s), t.language)) for s in _sites()],
        "site": site,
        **_choices(site, t),
        "devices": _devices(t),
        "cements": [(c, t(c)) for c in _CEMENTS],
        "runs": _runs(look),
    }


def _approval(shown: PlanVersion | None, newest: PlanVersion | None) -> dict[str, str]:
    """Where the version that is shown stands, in a few words that are always seen."""
    if shown is None and newest is None:
        return {"tone": "unknown", "text": gettext("no plan yet")}
    plan = shown or newest
    assert plan is not None
    told: dict[str, Any] = {"number": plan.number, "by": plan.approved_by}
    if not plan.approved:
        tone, text = "caution", gettext("version %(number)s not approved") % told
    elif plan.verdict in ("stop", "unknown"):
        tone, text = (
            plan.verdict,
            gettext("version %(number)s approved all the same by %(by)s") % told,
        )
    else:
        tone, text = "ok", gettext("version %(number)s approved by %(by)s") % told
    if newest is not None and newest.number != plan.number:
        # Approved or not, it is not the one that counts.
        tone = "stop" if tone == "stop" else "caution"
        text += "; " + gettext("version %(number)s is newer") % {"number": newest.number}
    return {"tone": tone, "text": f"{SIGNS[tone]} {text}"}


def _choices(site: str, t: Speaker) -> dict[str, Any]:
    """Needles in stock for a bone and the routes that lead into it."""
    if not site:
        return {"gauges": [], "routes": []}
    place = Site.parse(site)
    gauges = {n.gauge for n in stock_for(place) if n.gauge is not None}
    routes = [(r.name, t.name(r.name)) for r in routes_for(place)]
    return {"gauges": sorted(gauges), "routes": routes}


def _plan_findings(look: Look, t: Speaker) -> list[dict[str, str]]:
    if look.case is None:
        return []
    return [finding_told(f, t) for f in look.case.plan.findings if f.gravity is not Gravity.NOTE]


def _runs(look: Look) -> list[dict[str, Any]]:
    """What was computed, newest first, and where it is seen."""
    rows = MODELS["runs"].objects.filter(lesion=look.lesion).exclude(kind="plan").order_by("-pk")
    return [
        {
            "row": row,
            "kind": str(RUN_NAMES.get(row.kind, row.kind)),
            "other": look.row is not None and row.plan_number != look.row.number,
            "href": reverse("run", args=[look.lesion.uid, row.uid])
            if kept.holds(f"{row.result_sha256}.zip")
            else "",
        }
        for row in rows[:6]
    ]


def _sites() -> list[str]:
    """The bones that can be outlined, by the names their words are parsed from."""
    sided = [f"{bone} {way}" for bone in _SIDED for way in ("left", "right")]
    return [*LEVELS, "sacrum", *sided]


def _site(look: Look) -> str:
    """The bone of the lesion as it is outlined; "" where its row does not say one bone."""
    if look.case is not None:
        told = look.case.plan.site
        return f"{told.kind} {told.side}" if told.side else str(told)
    bone = {"pubic ramus": "pubis", "pelvis": "ilium"}.get(look.lesion.site, look.lesion.site)
    text = f"{bone} {look.lesion.side}" if look.lesion.side in ("left", "right") else bone
    try:
        Site.parse(text)
    except InputError:
        return ""
    return text if text in _sites() else "sacrum" if text.startswith("S") else ""


def _devices(t: Speaker) -> list[tuple[str, str]]:
    return [
        (name, t(tool.label or name))
        for name in ablation_facts.applicators()
        for tool in (ablation_facts.applicator(name),)
    ]


def _words() -> dict[str, str]:
    """What the page's script says."""
    return {
        "loading": gettext("Loading the CT …"),
        "no_webgl": gettext("WebGL is not available here: still pictures are shown; clicks work."),
        "no_viewer": gettext(
            "The viewer was not installed: still pictures are shown; clicks work."
        ),
        "failed": gettext("It did not work: %(why)s"),
        "lost": gettext("The server did not answer; what you drew is still here. Try again."),
        "axial": gettext("Axial"),
        "coronal": gettext("Coronal"),
        "sagittal": gettext("Sagittal"),
        "along0": gettext("Along the needle"),
        "along1": gettext("Along it, turned by 90°"),
        "entry": gettext("entry"),
        "target": gettext("tip"),
        "moved": gettext("Needle %(number)s moved"),
        "added": gettext("Needle drawn by hand"),
        "removed": gettext("Needle %(number)s taken out"),
        "preferred": gettext("Needle %(number)s put first"),
        "kept": gettext("Kept as version %(number)s."),
        "conflict": gettext(
            "%(by)s made version %(number)s meanwhile. Nothing was lost: look at it, then keep "
            "yours on top of it."
        ),
        "working": gettext("%(step)s … %(percent)s %%"),
        "left": gettext("about %(seconds)s s left"),
        "left_min": gettext("about %(minutes)s min left"),
        "waits": gettext("It waits for a free worker …"),
        "done": gettext("Done."),
        "stopped": gettext("It stopped: %(why)s"),
        "waiting": gettext(
            "Somebody made another version meanwhile; the result waits to be taken."
        ),
        "see": gettext("See the result"),
        "place": gettext("L %(l)s  P %(p)s  H %(h)s mm"),
        "hu": gettext("%(hu)s HU"),
        "pick_needle": gettext("Set the entry on the skin, then the tip; or choose a needle."),
        "set_entry": gettext("Click the entry on the skin."),
        "set_target": gettext("Click where the tip is to lie."),
        "drag": gettext("Drag either end, or move it with the arrow keys."),
        "click_lesion": gettext("Click inside the lesion."),
        "brush": gettext("Draw on a slice; what you drew is kept when you say so."),
        "look": gettext(
            "Drag to look around; wheel: slices; right button: window; Ctrl and wheel: zoom."
        ),
        "bone": gettext("Bone"),
        "needles": gettext("Needles"),
        "skin": gettext("Skin map of entries"),
        "skin_ok": gettext("roomy"),
        "skin_caution": gettext("little room"),
        "skin_stop": gettext("no needle from here"),
        "verdict_ok": gettext("keeps every limit"),
        "verdict_caution": gettext("caution"),
        "verdict_stop": gettext("breaks a limit"),
        "opacity": gettext("opacity"),
        "solid": gettext("Three dimensions"),
        "no_solid": gettext("Three dimensions need WebGL."),
        "previous": gettext("previous slice"),
        "next": gettext("next slice"),
        "registered": gettext("laid over the CT before, bone on bone"),
        "not_registered": gettext(
            "not laid over the CT before: the same place in the scanner is shown, not in the bone"
        ),
        "reading": gettext("%(ok)s of %(all)s points of the skin allow a needle."),
    }


# --- Two versions --------------------------------------------------------------------------------


@needs(roles.SEE)
@require_GET
def compare(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Two versions side by side: the same cuts, and line by line what is better."""
    from trocar.pathway import comparison

    lesion = case_of(request, uid)
    numbers = [n for n in (request.GET.get("from"), request.GET.get("to")) if n and n.isdigit()]
    if len(numbers) != 2:
        raise Http404
    looks = [look_at(lesion, n) for n in numbers]
    if any(look.case is None for look in looks):
        raise Http404
    t = speaker()
    for row in {look.image.pk: look.image for look in looks}.values():
        log_view(request, row)
    cases = [look.case for look in looks if look.case is not None]
    lines, fault = [], ""
    try:
        lines = [_compared(c, t) for c in comparison.compared(*cases)]
    except InputError as error:
        fault = gettext(str(error))
    told = {
        "lesion": lesion,
        "fault": fault,
        "lines": lines,
        "sides": [_compared_side(look, t) for look in looks],
        "computed": [
            r.number
            for r in MODELS["plans"].objects.filter(lesion=lesion).order_by("-number")
            if kept.holds(f"{r.plan_sha256}.zip")
        ],
        "from": int(numbers[0]),
        "to": int(numbers[1]),
    }
    return render(request, "bench/compare.html", told)


def _compared(line: Any, t: Speaker) -> dict[str, Any]:
    verdicts = [
        "" if v is None else {"verdict": v, "sign": SIGNS.get(v, ""), "word": t(v)}
        for v in line.verdicts
    ]
    return {
        "what": _sentence(word(line.what, t)),
        "a": _value(line.a, line.unit, t),
        "b": _value(line.b, line.unit, t),
        "better": line.better,
        "verdicts": verdicts,
    }


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _value(value: Any, unit: str, t: Speaker) -> str:
    if value is None:
        return "–"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return t.number(float(value), unit, 0 if unit == "G" else 1)
    if isinstance(value, tuple):
        return "; ".join(said(f, t) for f in value) or "–"
    return word(str(value), t)


def _compared_side(look: Look, t: Speaker) -> dict[str, Any]:
    """The pictures of one version: the cuts along its first needle, else through the lesion."""
    assert look.case is not None
    assert look.row is not None
    best = look.case.plan.best
    if best is None:
        panes = [picture.plane(n, look.case.lesion.centre_mm, _SIDE_MM) for n in picture.PLANES[:2]]
    else:
        panes = list(picture.along(best))
    overlays = [
        f"plans.{look.row.uid}.{o.key}:{LAYERS[o.key][2]}" for o in overlays_of("plans", look.row)
    ]
    address = reverse("bench-picture", args=[look.lesion.uid, look.image.uid])
    return {
        "row": look.row,
        "told": to_record(look.row),
        "needle": None if best is None else numbers_of(best, look, t),
        "pictures": [_still_address(address, p, look.row.number, overlays) for p in panes],
    }


def _still_address(address: str, pane: figures.Pane, number: int, overlays: Sequence[str]) -> str:
    given = {
        name: ",".join(f"{v:.3f}" for v in vector)
        for name, vector in (
            ("centre", pane.centre_mm), ("right", pane.right), ("down", pane.down)
        )
    }  # fmt: skip
    given |= {"side": f"{pane.size_mm[0]:.3f}", "px": "480", "version": str(number), "needles": "1"}
    return f"{address}?{urlencode(given | {'layers': ','.join(overlays)})}"


urlpatterns = [
    path("case/<uuid:uid>/bench/", page, name="bench"),
    path("case/<uuid:uid>/bench/side/", side, name="bench-side"),
    path("case/<uuid:uid>/bench/compare/", compare, name="bench-compare"),
    *bench_files.urlpatterns,
    *bench_work.urlpatterns,
]
