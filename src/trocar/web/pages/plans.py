"""The versions of a lesion's plan: what differs, who signed, and the way to the next one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from trocar.errors import InputError
from trocar.model.care import PLANNED, PlanVersion
from trocar.model.columns import Column, columns
from trocar.registry import roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.web import cases
from trocar.web.forms import display, initial_of, row_form
from trocar.web.guard import case_of, needs

# What an editor types; a computed plan's hash comes with its file, and goes with what it tells.
_HASH = 8  # digits of a hash that are shown
_TYPED = tuple(name for name in PLANNED if name != "plan_sha256")
_OF_THE_PICTURE = ("route", "needles", "needle_gauge")
_RowForm = row_form("plans", only=(*_TYPED, "why"))


class PlanForm(_RowForm):  # type: ignore[misc, valid-type]
    """A plan as typed; more cement than the volume not to pass is told at its field."""

    def clean(self) -> dict[str, Any]:
        """Hold the cement against the volume not to pass."""
        typed: dict[str, Any] = super().clean()
        cement, stop = typed.get("cement_ml"), typed.get("stop_ml")
        if cement is not None and stop is not None and cement > stop:
            told = gettext("More than the volume not to pass, %(stop)s ml; lower one or raise it.")
            self.add_error("cement_ml", told % {"stop": f"{stop:g}"})
        return typed


@needs(roles.SEE)
@require_GET
def plan(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Every version, newest first, and what differs between two of them."""
    return _page(request, case_of(request, uid))


def _page(
    request: HttpRequest, lesion: Any, *, conflict: str = "", status: int = 200
) -> HttpResponse:
    rows = list(MODELS["plans"].objects.filter(lesion=lesion).order_by("-number"))
    versions = [(row, to_record(row)) for row in rows]
    by_number = {made.number: made for _, made in versions}
    newest = versions[0][1] if versions else None
    new = _asked(request.GET.get("to"), by_number) or newest
    old = _asked(request.GET.get("from"), by_number)
    if old is None and new is not None:
        old = by_number.get(new.number - 1)
    context = {
        "lesion": lesion,
        "versions": versions,
        "newest": newest,
        "old": old,
        "new": new,
        "differences": differences(old, new) if old and new and old != new else [],
        "conflict": conflict,
    }
    return render(request, "plans/plan.html", context, status=status)


@needs(roles.PLAN)
@require_http_methods(["GET", "POST"])
def write(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The next version, made from the newest; a second editor is shown what the first one made."""
    lesion = case_of(request, uid)
    row = MODELS["plans"].objects.filter(lesion=lesion).order_by("-number").first()
    newest = None if row is None else to_record(row)
    context: dict[str, Any] = {"lesion": lesion, "newest": newest}
    if request.method == "GET":
        context["form"] = PlanForm(
            initial={} if newest is None else initial_of(newest) | {"why": ""}
        )
        return render(request, "plans/write.html", context)
    form = context["form"] = PlanForm(request.POST)
    context["forms_of"] = [form]
    why = request.POST.get("why", "").strip()
    if not why:
        form.add_error("why", gettext("Say in a few words what is planned and why."))
    base = {} if newest is None else {n: getattr(newest, n) for n in PLANNED}
    base |= {"lesion_id": lesion.lesion_id, "number": 1, "why": why or None}
    made = form.to_record(base) if form.is_valid() else None
    if made is not None and any(getattr(made, n) != base.get(n) for n in _OF_THE_PICTURE):
        # The hash belongs to the needle it was computed for, not to one typed over it.
        made = replace(made, plan_sha256=None)
    if made is None or form.errors:
        return render(request, "plans/write.html", context, status=422)
    try:
        cases.plan(
            lesion, made, who=request.user.get_username(), why=why,
            parent=_number(request.POST.get("parent")),
        )  # fmt: skip
    except store.Conflict as clash:
        context |= {"clash": clash, "differences": differences(clash.theirs, made)}
        return render(request, "plans/write.html", context, status=409)
    except InputError as error:
        form.add_error(None, str(error))
        return render(request, "plans/write.html", context, status=422)
    messages.success(request, gettext("A new version of the plan was kept."))
    return redirect("plan", uid=lesion.uid)


@needs(roles.APPROVE)
@require_POST
def approve(request: HttpRequest, uid: UUID, version: UUID) -> HttpResponse:
    """Sign the newest version, as it was seen."""
    lesion = case_of(request, uid)
    row = _version(lesion, version)
    seen = _number(request.POST.get("version"))
    if seen is None:
        return _page(
            request, lesion, conflict=gettext("Which state was seen is not told."), status=422
        )
    why = request.POST.get("why", "")
    return _done(request, lesion, lambda who: cases.approve(row, who=who, why=why, expected=seen))


@needs(roles.APPROVE)
@require_POST
def revoke(request: HttpRequest, uid: UUID, version: UUID) -> HttpResponse:
    """Take back an approval, with a reason."""
    lesion = case_of(request, uid)
    row, why = _version(lesion, version), request.POST.get("why", "")
    return _done(request, lesion, lambda who: cases.revoke(row, who=who, why=why))


@needs(roles.PLAN)
@require_POST
def restore(request: HttpRequest, uid: UUID, version: UUID) -> HttpResponse:
    """Undo to an earlier version: its content becomes the next one."""
    lesion = case_of(request, uid)
    row, why = _version(lesion, version), request.POST.get("why", "").strip()
    parent = _number(request.POST.get("parent"))

    def undo(who: str) -> None:
        if not why:
            raise InputError(gettext("The reason is empty; say why this version is restored."))
        cases.restore_plan(lesion, row.number, who=who, why=why, parent=parent or 0)

    return _done(request, lesion, undo)


def _done(request: HttpRequest, lesion: Any, act: Any) -> HttpResponse:
    try:
        act(request.user.get_username())
    except store.Conflict as clash:
        return _page(request, lesion, conflict=str(clash), status=409)
    except InputError as error:
        return _page(request, lesion, conflict=str(error), status=422)
    return redirect("plan", uid=lesion.uid)


def differences(old: PlanVersion, new: PlanVersion) -> list[tuple[str, str, str]]:
    """What differs between two versions: the words of a column, the old value and the new."""
    return [
        (gettext(c.help), _short(c, getattr(old, c.name)), _short(c, getattr(new, c.name)))
        for c in columns(PlanVersion)
        if c.name in PLANNED and getattr(old, c.name) != getattr(new, c.name)
    ]


def _short(c: Column, value: Any) -> str:
    """A value with its unit; of a hash enough to see that it is another."""
    if c.name == "plan_sha256" and value:
        return f"{value[:_HASH]} …"
    return display(c, value)


def _version(lesion: Any, uid: UUID) -> Any:
    row = MODELS["plans"].objects.filter(lesion=lesion, uid=uid).first()
    if row is None:
        raise Http404
    return row


def _number(text: str | None) -> int | None:
    # More digits than any version has would overflow a database's column.
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def _asked(text: str | None, by_number: dict[int, PlanVersion]) -> PlanVersion | None:
    number = _number(text)
    return None if number is None else by_number.get(number)


urlpatterns = [
    path("case/<uuid:uid>/plan/", plan, name="plan"),
    path("case/<uuid:uid>/plan/new/", write, name="plan-new"),
    path("case/<uuid:uid>/plan/<uuid:version>/approve/", approve, name="plan-approve"),
    path("case/<uuid:uid>/plan/<uuid:version>/revoke/", revoke, name="plan-revoke"),
    path("case/<uuid:uid>/plan/<uuid:version>/restore/", restore, name="plan-restore"),
]
