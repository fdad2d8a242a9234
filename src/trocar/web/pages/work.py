"""The worklist: every lesion one may see, what is due first on top; and entering a new one.

Filtered and sorted by the database over ``registry.models.Case``, which the store keeps up to date.
A page never counts more than it shows.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from trocar.errors import InputError
from trocar.model.care import STATES
from trocar.model.case import LEVELS
from trocar.model.patient import FLAT_BONES, LONG_BONES, PELVIC, SACRAL, SPINE_REGIONS
from trocar.registry import roles
from trocar.registry.models import MODELS, Case, Study
from trocar.web import cases
from trocar.web.forms import RowForm, row_form
from trocar.web.guard import allowed, needs

PAGE = 50
OPEN = tuple(s for s in STATES if s not in ("closed", "declined"))
SITE_GROUPS = {
    "cervical": (*(s for s in LEVELS if s[0] == "C"), SPINE_REGIONS[0]),
    "thoracic": (*(s for s in LEVELS if s[0] == "T"), "T13", SPINE_REGIONS[1]),
    "lumbar": (*(s for s in LEVELS if s[0] == "L"), "L6", SPINE_REGIONS[2]),
    "sacrum": SACRAL,
    "pelvis": PELVIC,
    "long bone": LONG_BONES,
    "flat bone": FLAT_BONES,
    "other": ("other",),
}
DUE = (("overdue", _("overdue")), ("today", _("until today")), ("week", _("within 7 days")))


class Filters(forms.Form):  # type: ignore[misc]
    """What the worklist is narrowed to. The pseudonym looked for is sent in the body, not here."""

    state = forms.ChoiceField(
        label=_("State"), required=False,
        choices=[("", _("open ones")), ("all", _("all")), *((s, _(s)) for s in STATES)],
    )  # fmt: skip
    site = forms.ChoiceField(
        label=_("Site"), required=False,
        choices=[("", _("all")), *((s, _(s)) for s in SITE_GROUPS)],
    )  # fmt: skip
    due = forms.ChoiceField(label=_("Due"), required=False, choices=[("", _("all")), *DUE])
    operator = forms.CharField(label=_("Operator"), required=False, max_length=100)
    # A browser that goes back fills in what was typed, though the lines are not narrowed to it.
    search = forms.CharField(
        label=_("Pseudonym or lesion"), required=False, max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip
    unsigned = forms.BooleanField(label=_("plan not signed"), required=False)
    gates = forms.BooleanField(label=_("gates closed"), required=False)
    scores = forms.BooleanField(label=_("scores missing"), required=False)


def mine(request: HttpRequest) -> QuerySet[Case]:
    """The lines of the worklist who asks may see."""
    found = Case.objects.all()
    if not allowed(request, roles.SEE):
        # A referral says whose a lesion is; a lesion may be referred more than once.
        referred = MODELS["referrals"].objects.filter(referrer_id=request.user.get_username())
        found = found.filter(lesion__in=referred.values("lesion"))
    return found


def narrowed(found: QuerySet[Case], wanted: dict[str, Any]) -> QuerySet[Case]:
    """Those lines that fit the filters."""
    state = wanted.get("state", "")
    if state == "":
        found = found.filter(state__in=OPEN)
    elif state != "all":
        found = found.filter(state=state)
    if wanted.get("site"):
        found = found.filter(lesion__site__in=SITE_GROUPS[wanted["site"]])
    today = cases.today()
    if wanted.get("due"):
        week = (date.fromisoformat(today) + timedelta(days=7)).isoformat()
        last = {"overdue": Q(next_due__lt=today), "today": Q(next_due__lte=today)}
        found = found.filter(next_due__gt="").filter(last.get(wanted["due"], Q(next_due__lte=week)))
    if wanted.get("operator"):
        found = found.filter(operator=wanted["operator"])
    if wanted.get("search"):
        text = wanted["search"]
        named = Q(lesion__lesion_id__istartswith=text)
        found = found.filter(named | Q(lesion__patient__patient_id__istartswith=text))
    if wanted.get("unsigned"):
        found = found.filter(unsigned_plan=True)
    if wanted.get("gates"):
        found = found.filter(open_gates__gt=0)
    if wanted.get("scores"):
        found = found.filter(missing_scores__gt=0)
    return found


def page_of(found: QuerySet[Case], number: int) -> tuple[list[Case], bool]:
    """The lines of a page, what is due first on top, and whether more follow.

    Lines with nothing due follow those with a day, in two queries that both walk an index; one
    query over an expression would sort every lesion for every look.
    """
    start, stop = (number - 1) * PAGE, number * PAGE + 1
    related = found.select_related("lesion", "lesion__patient")
    dated = list(related.filter(next_due__gt="").order_by("next_due", "pk")[start:stop])
    if len(dated) < stop - start:
        before = start + len(dated)
        if not dated:
            before = found.filter(next_due__gt="").count()
        skip = max(0, start - before) if not dated else 0
        rest = related.filter(next_due="").order_by("pk")
        dated += list(rest[skip : skip + stop - start - len(dated)])
    return dated[:PAGE], len(dated) > PAGE


@needs(roles.SEE, roles.SEE_OWN)
@require_http_methods(["GET", "POST"])
def worklist(request: HttpRequest) -> HttpResponse:
    """The worklist; what is looked for comes in the body, so that no address holds a pseudonym.

    The other filters stand in the address as well, where Back finds them.
    """
    given = (request.POST if request.method == "POST" else request.GET).copy()
    if request.method == "GET":
        given.pop("search", None)
    form = Filters(given or None)
    wanted: dict[str, Any] = form.cleaned_data if form.is_valid() else {}
    try:
        number = min(max(1, int(given.get("page", "1"))), 10**6)
    except ValueError:
        number = 1
    lines, more = page_of(narrowed(mine(request), wanted), number)
    told = {
        "form": form, "lines": lines, "more": more, "number": number, "today": cases.today(),
        "previous": number - 1, "following": number + 1, "may_refer": allowed(request, roles.REFER),
    }  # fmt: skip
    part = request.htmx and request.htmx.target == "lines"  # type: ignore[attr-defined]
    response = render(request, "work/lines.html" if part else "work/worklist.html", told)
    if part and request.method == "POST":
        at = address_of(wanted, number)
        if at != request.htmx.current_url_abs_path:  # type: ignore[attr-defined]
            response["HX-Push-Url"] = at
    return response


def address_of(wanted: dict[str, Any], number: int) -> str:
    """The address of the worklist with its filters, without what is looked for."""
    told = {n: "on" if v is True else v for n, v in wanted.items() if v and n != "search"}
    if number > 1:
        told["page"] = number
    return reverse("worklist") + (f"?{urlencode(told)}" if told else "")


PATIENT = row_form("patients", leave_out=("patient_id",))
LESION = row_form("lesions", leave_out=("lesion_id", "patient_id"))
REFERRAL = row_form("referrals", leave_out=("lesion_id", "referrer_id"))


class Whose(forms.Form):  # type: ignore[misc]
    """Which register, and which patient when the patient is known already."""

    study = forms.ModelChoiceField(
        label=_("Register"), queryset=Study.objects.order_by("pk"), to_field_name="uid",
        empty_label=None,
    )  # fmt: skip
    patient_id = forms.RegexField(
        r"^[A-Za-z0-9][A-Za-z0-9._-]*$", label=_("Pseudonym of the patient"), required=False,
        max_length=100,
        help_text=_("Leave empty for a new patient: a pseudonym is made. Never a name or number "
                    "of the hospital."),
    )  # fmt: skip
    study.label_from_instance = lambda row: row.title  # type: ignore[attr-defined]


def fresh(prefix: str) -> str:
    """A new pseudonym; it says nothing of whom it names."""
    letters = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
    return f"{prefix}-{''.join(secrets.choice(letters) for _ in range(8))}"


@needs(roles.REFER)
@require_http_methods(["GET", "POST"])
def refer(request: HttpRequest) -> HttpResponse:
    """Enter a referral: the patient, the lesion and what is asked, in one go."""
    data = request.POST if request.method == "POST" else None
    whose = Whose(data, prefix="whose", initial={"study": Study.objects.order_by("pk").first()})
    patient = PATIENT(data, prefix="patient")
    lesion = LESION(data, prefix="lesion")
    referral = REFERRAL(data, prefix="referral", initial={"date": cases.today()})
    # Every form is asked, so that all faults are told at once.
    sound = data is not None and [f.is_valid() for f in (whose, patient, lesion, referral)]
    if sound and all(sound):
        try:
            row = _enter(request, whose, patient, lesion, referral)
        except InputError as error:
            whose.add_error(None, gettext(str(error)))
        else:
            messages.success(request, gettext("The referral was kept."))
            return redirect(reverse("case", args=[row.uid]))
    status = 422 if data is not None else 200
    told = {"whose": whose, "patient": patient, "lesion": lesion, "referral": referral,
            "studies": Study.objects.exists()}  # fmt: skip
    return render(request, "work/refer.html", told, status=status)


def _enter(
    request: HttpRequest, whose: Whose, patient: RowForm, lesion: RowForm, referral: RowForm
) -> Any:
    who, study = request.user.get_username(), whose.cleaned_data["study"]
    named = whose.cleaned_data["patient_id"]
    with transaction.atomic():
        if named:
            known = MODELS["patients"].objects.filter(study=study, patient_id=named).first()
            if known is not None and not allowed(request, roles.SEE):
                # Whether a pseudonym is taken is not for a referrer to find out about others.
                own = known.lesions.filter(referrals__referrer_id=who)  # type: ignore[attr-defined]
                if not own.exists():
                    raise InputError("this pseudonym cannot be used; leave it empty for a new one")
        else:
            known, named = None, fresh("P")
        if known is None:
            made = patient.to_record({"patient_id": named})
            cases.save("patients", made, who=who, why="referral", study=study)
        base = {"patient_id": named, "lesion_id": fresh("L")}
        row = cases.save("lesions", lesion.to_record(base), who=who, why="referral", study=study)
        said = referral.to_record({"lesion_id": row.lesion_id, "referrer_id": who})
        cases.save("referrals", replace(said, referrer_id=who), who=who, why="referral",
                   study=study)  # fmt: skip
    return row


urlpatterns: list[Any] = [
    path("work/", worklist, name="worklist"),
    path("refer/", refer, name="refer"),
]
