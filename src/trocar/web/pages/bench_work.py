"""Working on the workbench's picture: needles, the brush, and work of minutes that is asked for.

Each edit makes the next version of the plan, with its author and reason, or is told in one sentence
why it cannot: 409 when somebody made a version meanwhile, 422 for what cannot be used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from trocar.errors import InputError
from trocar.model.case import Site
from trocar.model.plan import Trajectory
from trocar.model.space import Float
from trocar.pathway import Planned
from trocar.registry import roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.web import bench, jobs, kept, strokes
from trocar.web.guard import case_of, needs
from trocar.web.looking import Look, look_at, needle_told, numbers_of, speaker

_MOST_JSON = 2 << 20
_MOST_REASON = 500
_FARTHEST_MM = 1e5


@dataclass(frozen=True, kw_only=True)
class Body:
    """What a script sent: JSON of bounded size, read with the errors a person can be told."""

    told: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, request: HttpRequest) -> Body:
        """Raises InputError for what is no JSON object."""
        if len(request.body) > _MOST_JSON:
            raise InputError(gettext("This is too much to be sent at once."))
        try:
            told = json.loads(request.body or b"{}")
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise InputError(gettext("What came is not what the workbench sends."))
        return cls(told=told)

    def point(self, name: str) -> Float:
        """An LPS point."""
        value = self.told.get(name)
        if not isinstance(value, list) or len(value) != 3:
            value = [math.nan]
        if not all(_is_number(v) and abs(v) < _FARTHEST_MM for v in value):
            raise InputError(gettext("%(name)s is no point in the CT.") % {"name": name})
        return np.asarray(value, np.float64)

    def number(self, name: str, *, least: float = -1e6, most: float = 1e6) -> float | None:
        """A number or nothing."""
        value = self.told.get(name)
        if value is None or value == "":
            return None
        if not _is_number(value) or not least <= value <= most:
            told = gettext("%(name)s is to be a number from %(least)s to %(most)s.")
            raise InputError(told % {"name": name, "least": f"{least:g}", "most": f"{most:g}"})
        return float(value)

    def whole(self, name: str, *, least: int = 0, most: int = 10**6) -> int | None:
        """A whole number or nothing."""
        value = self.number(name, least=least, most=most)
        return None if value is None else round(value)

    def word(self, name: str) -> str | None:
        """A short text or nothing."""
        value = self.told.get(name)
        return value[:_MOST_REASON] if isinstance(value, str) and value else None

    def why(self) -> str:
        """The reason of an edit, which nobody may leave out."""
        reason = (self.word("why") or "").strip()
        if not reason:
            raise InputError(gettext("Say in a few words what was changed and why."))
        return reason


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    # A whole number may be larger than any float; what is no number is not smaller than any.
    return is_real and abs(value) < 1e300


def answered(act: Callable[[], HttpResponse]) -> HttpResponse:
    """What a person is told when it cannot be done: 409 for another's version, 422 for a fault."""
    try:
        return act()
    except store.Conflict as clash:
        number = getattr(clash.theirs, "number", None)
        told = {"by": clash.by, "number": number, "error": str(clash)}
        return JsonResponse({"conflict": told}, status=409)
    except InputError as error:
        return JsonResponse({"error": gettext(str(error))}, status=422)


def _seen(lesion: Any, body: Body) -> tuple[Any, Planned, int | None]:
    """The version an edit is made on, its plan, and the newest version its editor saw."""
    number = body.whole("version", least=1, most=9999)
    look = look_at(lesion, None if number is None else str(number))
    if look.row is None or look.case is None:
        raise InputError(gettext("There is no plan to change yet; outline the lesion first."))
    parent = body.whole("parent", least=1, most=9999)
    if look.row.number != look.newest and parent == look.last:
        raise InputError(gettext("This version is not the newest; restore it first."))
    return look.row, look.case, parent


@needs(roles.PLAN)
@require_POST
def measure(request: HttpRequest, uid: UUID) -> HttpResponse:
    """How good and safe is this needle? Asked again and again while one is dragged."""
    lesion = case_of(request, uid)

    def act() -> HttpResponse:
        body = Body.of(request)
        number = body.whole("version", least=1, most=9999)
        row = plan_row(lesion, number)
        case = bench.planned(row)
        one = _measured(row, body)
        t = speaker()
        numbers = numbers_of(one, Look(lesion=lesion, row=row, case=case, scan=case.scan), t)
        told = needle_told(one) | {"numbers": numbers}
        told["html"] = render_to_string("bench/needle.html", {"n": numbers, "open": True})
        return JsonResponse(told)

    return answered(act)


def plan_row(lesion: Any, number: int | None) -> Any:
    """The row of a computed version; InputError where there is none."""
    rows = MODELS["plans"].objects.filter(lesion=lesion, number=number or 0)
    row = next((r for r in rows if kept.holds(f"{r.plan_sha256}.zip")), None)
    if row is None:
        raise InputError(gettext("There is no plan to change yet; outline the lesion first."))
    return row


def _measured(row: Any, body: Body) -> Trajectory:
    gauge = body.whole("gauge", least=1, most=40)
    return bench.live(row).measure(
        entry_mm=body.point("entry"), target_mm=body.point("target"), gauge=gauge,
        length_mm=body.number("length", least=1, most=1000), route=body.word("route"),
    )  # fmt: skip


def _edit(
    request: HttpRequest,
    uid: UUID,
    change: Callable[[Planned, Any, Body], Planned],
) -> HttpResponse:
    """Make the next version of a plan; what is answered is its number."""
    lesion = case_of(request, uid)

    def act() -> HttpResponse:
        body = Body.of(request)
        row, case, parent = _seen(lesion, body)
        made = change(case, row, body)
        new = bench.keep_version(
            lesion, made, who=request.user.get_username(), why=body.why(), parent=parent
        )
        return JsonResponse({"number": new.number})

    return answered(act)


@needs(roles.PLAN)
@require_POST
def keep_needle(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The needle that was drawn or moved, as the next version."""
    from trocar.pathway import edits

    def change(case: Planned, row: Any, body: Body) -> Planned:
        replacing = body.whole("replacing", most=99)
        return edits.with_needle(case, _measured(row, body), replacing=replacing)

    return _edit(request, uid, change)


@needs(roles.PLAN)
@require_POST
def remove_needle(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The plan without one of its needles."""
    from trocar.pathway import edits

    def change(case: Planned, row: Any, body: Body) -> Planned:
        return edits.without_needle(case, _index(body))

    return _edit(request, uid, change)


@needs(roles.PLAN)
@require_POST
def prefer_needle(request: HttpRequest, uid: UUID) -> HttpResponse:
    """One of the needles as the first: the one that is used."""
    from trocar.pathway import edits

    def change(case: Planned, row: Any, body: Body) -> Planned:
        return edits.preferred(case, _index(body))

    return _edit(request, uid, change)


def _index(body: Body) -> int:
    index = body.whole("index", most=99)
    if index is None:
        raise InputError(gettext("Which needle is meant is not told."))
    return index


@needs(roles.PLAN)
@require_POST
def brush(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The lesion as it was corrected with the brush, as the next version."""
    from trocar.pathway import edits

    def change(case: Planned, row: Any, body: Body) -> Planned:
        drawn = strokes.read(body.told.get("strokes"))
        mask = strokes.applied(case.lesion.mask, drawn)
        return edits.relesioned(case, mask)

    return _edit(request, uid, change)


@needs(roles.PLAN)
@require_POST
def outline(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Have the bone and the lesion outlined from a click; a job."""
    lesion = case_of(request, uid)

    def act() -> HttpResponse:
        body = Body.of(request)
        image = next((i for i in bench.images(lesion) if str(i.uid) == body.word("image")), None)
        site = body.word("site")
        if image is None:
            raise InputError(gettext("The image is no longer kept; add the CT once more."))
        if not site:
            raise InputError(gettext("Say which bone the lesion is in."))
        Site.parse(site)
        click = body.point("click")
        if not bool(bench.scan(image).volume.grid.contains(click)):
            raise InputError(gettext("The click lies outside the CT."))
        return _submit(
            request, lesion, "outline", body,
            {"image": str(image.uid), "click_mm": click.tolist(), "site": site},
        )  # fmt: skip

    return answered(act)


def _submit(
    request: HttpRequest, lesion: Any, kind: str, body: Body, asked: Mapping[str, Any]
) -> HttpResponse:
    parameters = {
        "lesion": str(lesion.uid),
        "parent": body.whole("parent", least=1, most=9999),
        "why": body.why(),
        **{k: v for k, v in asked.items() if v is not None},
    }
    job = jobs.submit(kind, parameters, request.user.get_username())
    return JsonResponse({"job": reverse("lesion-job", args=[lesion.uid, job.uid])})


@needs(roles.PLAN)
@require_POST
def compute(request: HttpRequest, uid: UUID, kind: str) -> HttpResponse:
    """Have needles searched, or the ablation, the injection or the load simulated; a job."""
    lesion = case_of(request, uid)

    def act() -> HttpResponse:
        body = Body.of(request)
        _, case, parent = _seen(lesion, body)
        if parent != bench.last_number(lesion):
            row = MODELS["plans"].objects.filter(lesion=lesion).order_by("-number").first()
            made = to_record(row)
            raise store.Conflict(row, None, made.made_by or "", made.made_at or "")
        if kind != "search" and kind != "load" and not case.plan.options:
            raise InputError(gettext("The plan has no needle yet; draw one or search."))
        return _submit(request, lesion, kind, body, _OPTIONS[kind](body))

    if kind not in _OPTIONS:
        raise Http404
    return answered(act)


_OPTIONS: Mapping[str, Callable[[Body], dict[str, Any]]] = {
    "search": lambda b: {"count": b.whole("count", least=1, most=12)},
    "ablate": lambda b: {
        "device": b.word("device"),
        "place": "needle" if b.word("place") == "needle" else "search",
        "applicators": b.whole("applicators", least=1, most=5),
        "seconds": b.number("seconds", least=1, most=7200),
        "pulled_back_mm": b.number("pulled_back", least=0, most=100),
        "margin_mm": b.number("margin", least=0, most=30),
    },
    "inject": lambda b: {
        "cement": b.word("cement"),
        "target_ml": b.number("target_ml", least=0.1, most=50),
        "needles": b.whole("needles", least=1, most=4),
        "runs": b.whole("runs", least=2, most=400),
    },
    "load": lambda b: {"weight_kg": b.number("weight", least=20, most=300)},
}

urlpatterns = [
    path("case/<uuid:uid>/bench/measure/", measure, name="bench-measure"),
    path("case/<uuid:uid>/bench/needle/", keep_needle, name="bench-needle"),
    path("case/<uuid:uid>/bench/needle/remove/", remove_needle, name="bench-remove"),
    path("case/<uuid:uid>/bench/needle/prefer/", prefer_needle, name="bench-prefer"),
    path("case/<uuid:uid>/bench/brush/", brush, name="bench-brush"),
    path("case/<uuid:uid>/bench/outline/", outline, name="bench-outline"),
    path("case/<uuid:uid>/bench/compute/<slug:kind>/", compute, name="bench-compute"),
]
