"""A consent, beside what the newest plan intends."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from trocar.errors import InputError
from trocar.registry import roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.web.forms import row_form
from trocar.web.guard import case_of, needs
from trocar.web.pages.sheet import (
    after_clash,
    clash_of,
    faulty,
    keep,
    part,
    row_of,
    sound,
    why_of,
)

ConsentForm = row_form("consents", leave_out=("lesion_id", "number"))


@needs(roles.CONSENT)
@require_http_methods(["GET", "POST"])
def consent(request: HttpRequest, uid: UUID, row: UUID | None = None) -> HttpResponse:
    """A consent, beside what the newest plan intends."""
    lesion = case_of(request, uid)
    held = None if row is None else row_of("consents", row, lesion=lesion)
    all_rows = list(MODELS["consents"].objects.filter(lesion=lesion).order_by("-number"))
    base = {"lesion_id": lesion.lesion_id}
    if held is None:
        base["number"] = 1 + (all_rows[0].number if all_rows else 0)
    start = {"taken_by": request.user.get_username()}
    data, status, clash = (request.POST if request.method == "POST" else None), 200, None
    one = part("consents", ConsentForm, "c", data, row=held, base=base, initial=start, line=False)
    if data is not None:
        right = sound([one], why_of(request))
        if right and one.record.withdrawn and not one.record.note:
            one.form.add_error("note", gettext("Say why the consent was withdrawn."))
            right = False
        status = 422
        if right:
            try:
                keep(request, lesion, [one], why_of(request))
                messages.success(request, gettext("The consent was kept."))
                return redirect("consent", uid=lesion.uid)
            except store.Conflict as error:
                clash, status = clash_of(error), 409
                again = after_clash(data, [one], error)
                one = part("consents", ConsentForm, "c", again, row=held, base=base, line=False)
            except InputError as error:
                one.form.refuse(error)
    care = store.read_care(lesion)
    # As the gates look at it: the newest stands before an older one, whatever became of it.
    newest = max(care.consents, key=lambda c: c.number, default=None)
    holding = newest if newest is not None and newest.holds else None
    context = {
        "lesion": lesion,
        "form": one.form,
        **faulty([one.form]),
        "row": held,
        "number": base.get("number") or getattr(held, "number", None),
        "rows": [(r, to_record(r)) for r in all_rows],
        "plan": care.plan,
        "compared": consented_and_planned(
            holding.techniques if holding is not None else None,
            care.plan.techniques if care.plan is not None else None,
        ),
        "holding": holding,
        "clash": clash,
    }
    return render(request, "clinic/consent.html", context, status=status)


def consented_and_planned(
    consented: Sequence[str] | None, intended: Sequence[str] | None
) -> list[tuple[str, bool, bool, str]]:
    """Technique, whether consented, whether planned, how grave; worst first.

    >>> consented_and_planned(("cement",), ("microwave", "cement"))
    [('microwave', False, True, 'stop'), ('cement', True, True, 'ok')]
    """
    yes, plan = tuple(consented or ()), tuple(intended or ())
    told = []
    for technique in dict.fromkeys((*plan, *yes)):
        grave = "ok" if technique in yes and technique in plan else "note"
        if technique not in yes:
            grave = "stop"
        told.append((technique, technique in yes, technique in plan, grave))
    return sorted(told, key=lambda t: ("stop", "note", "ok").index(t[3]))


urlpatterns = [
    path("case/<uuid:uid>/consent/", consent, name="consent"),
    path("case/<uuid:uid>/consent/<uuid:row>/", consent, name="consent-row"),
]
