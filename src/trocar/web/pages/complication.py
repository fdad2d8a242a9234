"""A complication with its grades."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from trocar.errors import InputError
from trocar.registry import roles, store
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
    zero_of,
)

ComplicationForm = row_form("complications", leave_out=("lesion_id",))
# In short, after Filippiadis, CVIR 2017;40:1141-6; Khalilzadeh, JVIR 2017;28:1432-7; CTCAE 5.0.
# The wording of SIR and CTCAE was not checked against the papers.
GRADES = {
    "cirse": (
        _("1: solved within the same procedure"),
        _("2: prolonged observation under 48 h, no therapy"),
        _("3: further therapy or stay over 48 h, no sequelae"),
        _("4: mild permanent sequelae"),
        _("5: severe permanent sequelae, help needed in daily life"),
        _("6: death"),
    ),
    "sir": (
        _("1: mild, no or nominal therapy"),
        _("2: moderate, substantial treatment"),
        _("3: severe, admission or longer stay, complex intervention"),
        _("4: life-threatening or disabling"),
        _("5: death"),
    ),
    "ctcae": (
        _("1: mild, no intervention"),
        _("2: moderate, local or non-invasive intervention"),
        _("3: severe, not immediately life-threatening"),
        _("4: life-threatening, urgent intervention"),
        _("5: death"),
    ),
}
DEATH = "death from cement embolus"  # the last grade of every scale


class GradedForm(ComplicationForm):  # type: ignore[misc, valid-type]
    """A complication, the words of each grade beside the choice."""

    def __init__(self, *args: Any, **said: Any) -> None:
        super().__init__(*args, **said)
        for name, words in GRADES.items():
            old = self.fields[name]
            chosen = [("", _("not graded")), *enumerate(words, 1)]
            self.fields[name] = forms.TypedChoiceField(
                label=old.label, choices=chosen, coerce=int, empty_value=None, required=False
            )

    def clean(self) -> dict[str, Any]:
        """Where a device was involved, whether it was reported must be said."""
        typed: dict[str, Any] = super().clean()
        silent = typed.get("yellow_card") is None and "yellow_card" not in self.errors
        if typed.get("device_related") is True and silent:
            self.add_error(
                "yellow_card",
                gettext("A device was involved: say whether it was reported (Yellow Card)."),
            )
        if typed.get("event") == DEATH:
            for name, words in GRADES.items():
                if typed.get(name) not in (None, len(words)):
                    told = gettext("The event is a death: only “%(grade)s” fits.")
                    self.add_error(name, told % {"grade": words[-1]})
        return typed


def _tell_of_death(request: HttpRequest, lesion: Any, kept: Any) -> None:
    """After a fatal complication, lead to the row of the death when there is none."""
    there = MODELS["deaths"].objects.filter(patient=lesion.patient).exists()
    if kept.event == DEATH and not there:
        href = reverse("add", args=[lesion.uid, "deaths"])
        said, link = gettext("The patient died:"), gettext("enter the death as well")
        messages.warning(request, format_html('{} <a href="{}">{}</a>', said, href, link))


@needs(roles.HARM)
@require_http_methods(["GET", "POST"])
def complication(request: HttpRequest, uid: UUID, row: UUID | None = None) -> HttpResponse:
    """A complication with its grades."""
    lesion = case_of(request, uid)
    held = None if row is None else row_of("complications", row, lesion=lesion)
    base = {"lesion_id": lesion.lesion_id}
    data, status, clash = (request.POST if request.method == "POST" else None), 200, None
    one = part("complications", GradedForm, "h", data, row=held, base=base, line=False)
    if data is not None:
        status = 422
        one.zero = zero_of(store.read_record(lesion))
        if sound([one], why_of(request)):
            try:
                keep(request, lesion, [one], why_of(request))
                if one.record.device_related and not one.record.yellow_card:
                    messages.warning(
                        request,
                        gettext("Report the device to the Yellow Card scheme, then say so here."),
                    )
                messages.success(request, gettext("The complication was kept."))
                _tell_of_death(request, lesion, one.record)
                return redirect("complication", uid=lesion.uid)
            except store.Conflict as error:
                clash, status = clash_of(error), 409
                again = after_clash(data, [one], error)
                one = part("complications", GradedForm, "h", again, row=held, base=base, line=False)
            except InputError as error:
                one.form.refuse(error)
    rows = MODELS["complications"].objects.filter(lesion=lesion).order_by("day")
    context = {
        "lesion": lesion,
        "form": one.form,
        **faulty([one.form]),
        "row": held,
        "rows": rows,
        "unreported": [r for r in rows if r.device_related and not r.yellow_card],
        "clash": clash,
    }
    return render(request, "clinic/complication.html", context, status=status)


urlpatterns = [
    path("case/<uuid:uid>/complication/", complication, name="complication"),
    path("case/<uuid:uid>/complication/<uuid:row>/", complication, name="complication-row"),
]
