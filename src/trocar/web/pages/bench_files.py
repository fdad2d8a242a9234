"""The workbench's voxels, surfaces and pictures: what a browser draws, each looked up by its case.

They follow from kept files and are named by their hash. Looking at images is logged once a page; a
part of a CT that is asked for without the page is logged when it is given.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.http import require_GET

from trocar import __version__
from trocar.model.space import Mask, Volume
from trocar.pathway import Planned
from trocar.registry import chain, roles
from trocar.registry.models import MODELS
from trocar.report import viewer
from trocar.report.page import Speaker
from trocar.web import bench, kept, picture
from trocar.web.guard import case_of, needs
from trocar.web.looking import (
    ALONE,
    LAYERS,
    WORST_FIRST,
    grade,
    overlays_of,
    speaker,
    transform_of,
    word,
)
from trocar.web.pages.bench_work import answered, plan_row
from trocar.web.picture import Overlay

_MOST_PIXELS = 1024


def version_of(request: HttpRequest) -> str | None:
    """The number of the version an address asks for, None for the newest."""
    number = request.GET.get("version")
    return number if number and number.isascii() and number.isdigit() else None


def log_view(request: HttpRequest, image: Any) -> None:
    """Once for a page; a part of a CT that is asked for past the page is logged as well."""
    seen = set(request.session.get("images", ()))
    chain.log("view", request.user.get_username(), f"images:{image.uid}", what="workbench")
    request.session["images"] = sorted({*seen, str(image.uid)})[-200:]


def _image(request: HttpRequest, lesion: Any, uid: UUID) -> Any:
    """A kept image of the lesion; who did not come by the page is logged here."""
    row = next((i for i in bench.images(lesion) if i.uid == uid), None)
    if row is None:
        raise Http404
    if str(row.uid) not in request.session.get("images", ()):
        log_view(request, row)
    return row


def _held(request: HttpRequest, key: str, kind: str, make: Callable[[], bytes]) -> HttpResponse:
    """What follows from kept files: remembered here, asked for again only when it changed.

    A browser keeps it but asks each time, so that who may no longer see it does not.
    """
    whole = f"bench {__version__} {key}"
    tag = f'"{hashlib.sha256(whole.encode()).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == tag:
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(bench.remembered(whole, "bin", make), content_type=kind)
    response["ETag"] = tag
    response["Cache-Control"] = "private, no-cache"
    response["Vary"] = "Cookie"
    return response


@needs(roles.SEE)
@require_GET
def ct(request: HttpRequest, uid: UUID, image: UUID, part: str) -> HttpResponse:
    """A CT as gzipped NIfTI: what is worked on voxel by voxel, or all of it, reduced."""
    lesion = case_of(request, uid)
    row = _image(request, lesion, image)
    volume, case = _laid_over(lesion, row), _case_of_version(lesion, version_of(request))
    key = f"{row.sha256} {volume.grid.affine.tolist()}"
    if part == "whole":
        return _held(
            request, f"whole {key}", "application/gzip", lambda: _packed(viewer.reduced(volume))
        )
    if part != "around":
        raise Http404
    box = picture.part_to_show(volume.grid, case)
    return _held(
        request, f"around {key} {box}", "application/gzip",
        lambda: _packed(picture.ct_part(volume, box)),
    )  # fmt: skip


def _packed(volume: Volume) -> bytes:
    return picture.nifti_gz(volume.grid, volume.values)


def _case_of_version(lesion: Any, number: str | None) -> Planned | None:
    if number is None:
        return None
    rows = MODELS["plans"].objects.filter(lesion=lesion, number=int(number))
    row = next((r for r in rows if kept.holds(f"{r.plan_sha256}.zip")), None)
    if row is None:
        raise Http404
    return bench.planned(row)


@needs(roles.SEE)
@require_GET
def layer(request: HttpRequest, uid: UUID, table: str, row: UUID, key: str) -> HttpResponse:
    """The voxels of an overlay as gzipped NIfTI."""
    overlay = _layer(case_of(request, uid), table, row, key)
    return _held(
        request, f"layer {overlay.stamp}", "application/gzip",
        lambda: picture.overlay_nifti(overlay),
    )  # fmt: skip


@needs(roles.SEE)
@require_GET
def surface(
    request: HttpRequest, uid: UUID, table: str, row: UUID, key: str, number: int
) -> HttpResponse:
    """The surface of a region of an overlay, or of the bone, as STL."""
    lesion = case_of(request, uid)
    if table == "plans" and key == "bone":
        bone = bench.planned(_row(lesion, table, row)).anatomy.bone
        return _surface(request, picture.stamp(bone.grid, bone.values), lambda: bone)
    overlay = _layer(lesion, table, row, key)
    if number not in {r.number for r in overlay.regions}:
        raise Http404
    return _surface(request, f"{overlay.stamp} {number}", lambda: overlay.mask(number))


def _surface(request: HttpRequest, stamp: str, mask: Callable[[], Mask]) -> HttpResponse:
    return _held(request, f"surface {stamp}", "model/stl", lambda: picture.surface_stl(mask()))


def _row(lesion: Any, table: str, uid: UUID) -> Any:
    if table not in ("plans", "runs", "assessments"):
        raise Http404
    row = MODELS[table].objects.filter(lesion=lesion, uid=uid).first()
    if row is None:
        raise Http404
    return row


def _layer(lesion: Any, table: str, uid: UUID, key: str) -> Overlay:
    found = overlays_of(table, _row(lesion, table, uid))
    overlay = next((o for o in found if o.key == key), None)
    if overlay is None:
        raise Http404
    return overlay


@needs(roles.SEE)
@require_GET
def still(request: HttpRequest, uid: UUID, image: UUID) -> HttpResponse:
    """One cut through a CT as a PNG, with what lies over it: for pages without WebGL."""
    lesion = case_of(request, uid)
    row = _image(request, lesion, image)
    given = request.GET
    pane = picture.pane_of(
        _numbers(given.get("centre"), 3), _numbers(given.get("right"), 3),
        _numbers(given.get("down"), 3), _numbers(given.get("side"), 1)[0],
    )  # fmt: skip
    pixels = _numbers(given.get("px", "384"), 1)[0]
    window = _numbers(given.get("window", "400,1800"), 2)
    if pane is None or not 32 <= pixels <= _MOST_PIXELS or not window[1] > 0:
        return JsonResponse({"error": gettext("This is no cut through a CT.")}, status=422)
    case = _case_of_version(lesion, version_of(request)) if "needles" in given else None
    drawn = picture.png(
        _laid_over(lesion, row), pane, pixels=int(pixels),
        window=(window[0], window[1]), overlays=_asked_layers(lesion, given.get("layers", "")),
        needles=[] if case is None else [(o, grade(o)) for o in case.plan.options[:1]],
    )  # fmt: skip
    return HttpResponse(drawn, content_type="image/png")


def _named(overlay: Overlay, region: Any, t: Speaker) -> str:
    """A region by its name, and by its layer's where a share of what would be a riddle."""
    name = word(region.word, t)
    return name if overlay.key in ALONE else f"{LAYERS[overlay.key][0]}: {name}"


@needs(roles.SEE)
@require_GET
def value(request: HttpRequest, uid: UUID, image: UUID) -> HttpResponse:
    """What lies at a point: its HU (None outside the CT) and the names of regions over it."""
    lesion = case_of(request, uid)
    row = _image(request, lesion, image)
    at = np.array(_numbers(request.GET.get("at"), 3))
    if not np.isfinite(at).all():
        return JsonResponse({"error": gettext("This is no point in the CT.")}, status=422)
    t = speaker()
    over = [o for o, _ in _asked_layers(lesion, request.GET.get("layers", ""))]
    names = [_named(o, region, t) for o in over if (region := o.at(at)) is not None]
    hu = float(_laid_over(lesion, row).sample(at))
    return JsonResponse({"hu": round(hu) if math.isfinite(hu) else None, "names": names})


def _laid_over(lesion: Any, row: Any) -> Volume:
    """A CT of the lesion; one afterwards where its bone lay before."""
    transform = transform_of(lesion, row) if row.purpose == "after" else None
    return picture.in_space(bench.scan(row), transform)


def _asked_layers(lesion: Any, text: str) -> list[tuple[Overlay, float]]:
    """``table.uid.key:opacity`` parted by commas, drawn in that order."""
    out = []
    for one in filter(None, text.split(",")[: len(LAYERS)]):
        name, _, opacity = one.rpartition(":")
        parts = name.split(".")
        if len(parts) != 3:
            raise Http404
        try:
            uid, share = UUID(parts[1]), float(opacity)
        except ValueError:
            raise Http404 from None
        if not 0 <= share <= 1:
            raise Http404
        out.append((_layer(lesion, parts[0], uid, parts[2]), share))
    return out


def _numbers(text: str | None, count: int) -> list[float]:
    """So many numbers parted by commas; not-a-number for what is none."""
    try:
        found = [float(v) for v in (text or "").split(",")]
    except ValueError:
        found = []
    return found if len(found) == count else [math.nan] * count


@needs(roles.SEE)
@require_GET
def skin(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Where on the skin a needle may go in, as points with a verdict each."""
    lesion = case_of(request, uid)

    def act() -> HttpResponse:
        number = version_of(request)
        row = plan_row(lesion, None if number is None else int(number))
        found = bench.live(row).skin(request.GET.get("route") or None)
        verdicts = found.verdicts
        return JsonResponse(
            {
                "points": np.round(found.points_mm, 1).tolist(),
                "verdicts": [WORST_FIRST.index(str(v)) for v in verdicts],
                "names": list(WORST_FIRST),
            }
        )

    return answered(act)


urlpatterns = [
    path("case/<uuid:uid>/bench/skin/", skin, name="bench-skin"),
    path("case/<uuid:uid>/bench/ct/<uuid:image>/<slug:part>.nii.gz", ct, name="bench-ct"),
    path("case/<uuid:uid>/bench/picture/<uuid:image>.png", still, name="bench-picture"),
    path("case/<uuid:uid>/bench/picture/<uuid:image>.json", value, name="bench-value"),
    path(
        "case/<uuid:uid>/bench/layer/<slug:table>/<uuid:row>/<slug:key>.nii.gz", layer,
        name="bench-layer",
    ),
    path(
        "case/<uuid:uid>/bench/surface/<slug:table>/<uuid:row>/<slug:key>/<int:number>.stl",
        surface, name="bench-surface",
    ),
]  # fmt: skip
