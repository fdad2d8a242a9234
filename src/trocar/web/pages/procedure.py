"""One procedure with its devices, cement, ablation and what happened while injecting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_http_methods

from trocar.errors import InputError
from trocar.registry import roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.web import cases
from trocar.web.forms import row_form
from trocar.web.guard import allowed, case_of, needs
from trocar.web.pages.sheet import (
    LINES_READ,
    WHY,
    Part,
    after_clash,
    clash_of,
    demand,
    faulty,
    keep,
    line_of,
    lines_typed,
    lost,
    part,
    row_of,
    sound,
    too_many,
    why_of,
)

_LINES = {
    "devices": row_form("devices", leave_out=("procedure_id",)),
    "injections": row_form("injections", leave_out=("procedure_id", "number")),
    "injection_events": row_form("injection_events", leave_out=("procedure_id",)),
    "ablations": row_form("ablations", leave_out=("procedure_id", "number")),
}
_TITLES = {
    "devices": _("Devices and lots"),
    "injections": _("Cement: mix and times"),
    "injection_events": _("While cement was injected"),
    "ablations": _("Ablation"),
}
_NUMBERED = ("injections", "ablations")
_SAME_ML = 0.05  # volumes are read to the tenth
NewProcedureForm = row_form("procedures", leave_out=("lesion_id",))
ProcedureForm = row_form("procedures", leave_out=("lesion_id", "procedure_id"))


def _procedure_parts(
    request: HttpRequest, lesion: Any, held: Any, data: Any
) -> tuple[Part, dict[str, list[Part]]]:
    base = {"lesion_id": lesion.lesion_id}
    count = MODELS["procedures"].objects.filter(lesion=lesion).count()
    start = {
        "procedure_id": f"{lesion.lesion_id}-{count + 1}",
        "operator_id": request.user.get_username() if allowed(request, roles.VOTE) else None,
        "date": cases.today(),
    }
    form = NewProcedureForm if held is None else ProcedureForm
    head = part("procedures", form, "p", data, row=held, base=base, initial=start, line=False)
    lines: dict[str, list[Part]] = {}
    for table in _LINES:
        order = "second" if table == "injection_events" else "pk"
        found = MODELS[table].objects.filter(procedure=held).order_by(order, "pk")
        rows: list[Any] = [] if held is None else list(found)
        by_uid = {str(r.uid): r for r in rows}
        if data is None:
            lines[table] = [_line(table, i, r) for i, r in enumerate(rows)]
            lines[table].append(_line(table, len(rows)))
            continue
        typed = lines_typed(data, table, 0)
        lines[table] = [
            line_of(table, _LINES[table], f"{table}-{i}", data, by_uid) for i in range(typed)
        ]
        if request.POST.get("add") == table and typed < LINES_READ:
            lines[table].append(_line(table, typed))
        _number_lines(table, lines[table], rows)
    return head, lines


def _line(table: str, i: int, row: Any = None) -> Part:
    return part(table, _LINES[table], f"{table}-{i}", row=row)


def _number_lines(table: str, lines: Sequence[Part], rows: Sequence[Any]) -> None:
    """New lines of a numbered table count on from those that are kept."""
    if table in _NUMBERED:
        last = max((r.number for r in rows), default=0)
        for p in (p for p in lines if p.row is None and not p.blank):
            last += 1
            p.base["number"] = last


@needs(roles.TREAT)
@require_http_methods(["GET", "POST"])
def procedure(request: HttpRequest, uid: UUID, row: UUID | None = None) -> HttpResponse:
    """One procedure with its devices, cement, ablation and what happened while injecting."""
    lesion = case_of(request, uid)
    held = None if row is None else row_of("procedures", row, lesion=lesion)
    if request.method == "GET":
        return _procedure_page(
            request, lesion, held, *_procedure_parts(request, lesion, held, None)
        )
    data, why = request.POST, why_of(request)
    head, lines = _procedure_parts(request, lesion, held, data)
    below = [p for table in lines for p in lines[table]]
    if lost(below):
        return _procedure_page(request, lesion, held, head, lines, status=409)
    if "add" in data:  # without JavaScript a further line is asked for by the form itself
        return _procedure_page(request, lesion, held, head, lines)
    if any(p.removed for p in below):
        demand(request, roles.CORRECT)
    right = sound([head], why)
    name = getattr(head.record, "procedure_id", None) or "unknown"
    for p in below:
        p.base["procedure_id"] = name
    right = not any(too_many(head.form, lines[table]) for table in lines) and right
    right = sound(below, why) and right
    if not (right and _as_watched(head, lines["injection_events"], why)):
        return _procedure_page(request, lesion, held, head, lines, status=422)
    try:
        keep(request, lesion, [head, *below], why)
    except store.Conflict as error:
        again = after_clash(data, [head, *below], error)
        head, lines = _procedure_parts(request, lesion, held, again)
        lost(p for table in lines for p in lines[table])
        return _procedure_page(
            request, lesion, held, head, lines, clash=clash_of(error), status=409
        )
    except InputError as error:
        head.form.refuse(error)
        return _procedure_page(request, lesion, held, head, lines, status=422)
    messages.success(request, gettext("The procedure was kept."))
    _tell_of_volume(request, head.record, [p.record for p in lines["injections"]])
    return redirect("procedure-row", uid=lesion.uid, row=head.kept.uid)


def _as_watched(head: Part, lines: Sequence[Part], why: str) -> bool:
    """Hold the procedure against what was seen while injecting; what it went through is filled."""
    told = [p for p in lines if p.record is not None]
    seen = sorted((p.record for p in told), key=lambda e: e.second)
    if head.record.leak_found is False and any(e.event == "leak detected" for e in seen):
        said = gettext("A leak was seen while cement was injected: this cannot be no.")
        head.form.add_error("leak_found", said)
        return False
    new = any(p.row is None or to_record(p.row) != p.record for p in told)
    if head.record.leak_watch is None and new:
        watched = tuple(dict.fromkeys(e.event for e in seen))
        head.record = replace(head.record, leak_watch=watched)
        if head.row is not None and not why:
            head.form.add_error("why", gettext(WHY))
            return False
    return True


def _tell_of_volume(request: HttpRequest, kept: Any, injections: Sequence[Any]) -> None:
    """Warn when the injections do not add up to the cement of the procedure."""
    given = [i.volume_ml for i in injections if i is not None]
    if kept.cement_ml is None or not given or None in given:
        return
    total = sum(given)
    if abs(total - kept.cement_ml) > _SAME_ML:
        told = gettext(
            "The injections add up to %(total)s ml, while %(said)s ml are given for the procedure."
        )
        messages.warning(request, told % {"total": f"{total:g}", "said": f"{kept.cement_ml:g}"})


def _procedure_page(
    request: HttpRequest,
    lesion: Any,
    held: Any,
    head: Part,
    lines: dict[str, list[Part]],
    *,
    clash: Any = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "lesion": lesion,
        "row": held,
        "form": head.form,
        "sections": [(t, _TITLES[t], lines[t], len(lines[t])) for t in lines],
        **faulty([head.form, *(p.form for t in lines for p in lines[t] if not p.blank)]),
        "others": MODELS["procedures"].objects.filter(lesion=lesion).order_by("pk"),
        "may_remove": allowed(request, roles.CORRECT),
        "clash": clash,
    }
    return render(request, "clinic/procedure.html", context, status=status)


@needs(roles.TREAT)
@require_GET
def procedure_line(request: HttpRequest, uid: UUID, table: str, index: int) -> HttpResponse:
    """One more empty line of a table of the procedure's sheet."""
    lesion = case_of(request, uid)
    if table not in _LINES or index >= LINES_READ:
        raise Http404
    context = {
        "lesion": lesion,
        "table": table,
        "line": _line(table, index),
        "index": index,
        "count": index + 1,
    }
    return render(request, "clinic/line_added.html", context)


urlpatterns = [
    path("case/<uuid:uid>/procedure/", procedure, name="procedure"),
    path("case/<uuid:uid>/procedure/<uuid:row>/", procedure, name="procedure-row"),
    path(
        "case/<uuid:uid>/procedure/line/<slug:table>/<int:index>/",
        procedure_line,
        name="procedure-line",
    ),
]
