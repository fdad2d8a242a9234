"""The worksheet of the multidisciplinary team: factors, scores, decision, votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST

from trocar.errors import InputError
from trocar.model.care import Vote
from trocar.model.columns import columns
from trocar.model.decision import Decision
from trocar.model.patient import Baseline
from trocar.model.study import Record
from trocar.registry import chain, roles, store
from trocar.registry.models import MODELS
from trocar.selection import decide, worst_first
from trocar.web import cases
from trocar.web.forms import RowForm, row_form, sentence
from trocar.web.guard import allowed, case_of, needs
from trocar.web.pages.sheet import (
    Part,
    after_clash,
    ahead,
    clash_of,
    demand,
    faulty,
    keep,
    part,
    row_of,
    sound,
    why_of,
)

# The first column of each group of the case-selection list, as model/patient.py orders them.
_GROUPS = (
    ("pain_present", _("Pain site against imaging, and what was tried")),
    ("mdt_date", _("Arrangements")),
    ("planned_ablation", _("Whether it may be done")),
    ("ecog", _("Ingredients of the scores")),
)
BaselineForm = row_form("selection", leave_out=("lesion_id",))
MeetingForm = row_form("meetings", leave_out=("lesion_id",))


def grouped(form: forms.Form) -> list[tuple[Any, list[Any]]]:
    """The fields of the case-selection list in its groups."""
    starts = dict(_GROUPS)
    groups: list[tuple[Any, list[Any]]] = []
    for c in columns(Baseline):
        if c.name in starts:
            groups.append((starts[c.name], []))
        if groups and c.name in form.fields:
            groups[-1][1].append(form[c.name])
    groups[-1][1].append(form["decided_on"])
    return groups


def _meeting_parts(request: HttpRequest, lesion: Any, data: Any) -> tuple[Part, Part]:
    base = {"lesion_id": lesion.lesion_id}
    baseline = MODELS["selection"].objects.filter(lesion=lesion).first()
    meetings = MODELS["meetings"].objects.filter(lesion=lesion)
    if data is not None:
        named = data.get("meeting", "")
        meeting = row_of("meetings", _uuid(named), lesion=lesion) if named else None
    else:
        meeting = None if "new" in request.GET else meetings.order_by("-date").first()
    start = {"chair_id": request.user.get_username(), "date": cases.today()}
    return (
        part("selection", BaselineForm, "b", data, row=baseline, base=base),
        _meeting_part(data, meeting, base, start),
    )


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Http404 from error


def _meeting_part(data: Any, row: Any, base: Mapping[str, Any], start: Mapping[str, Any]) -> Part:
    """The meeting; a new one whose date was cleared and of which nothing is told stays out."""
    told = () if data is None else [n for n in MeetingForm.base_fields if data.get(f"m-{n}")]
    if data is not None and row is None and set(told) <= {"chair_id"}:
        return part("meetings", MeetingForm, "m", base=base)
    return part("meetings", MeetingForm, "m", data, row=row, base=base, initial=start)


@needs(roles.MEET, roles.VOTE)
@require_http_methods(["GET", "POST"])
def meeting(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The worksheet of the multidisciplinary team: factors, scores, decision, votes."""
    lesion = case_of(request, uid)
    if request.method == "GET":
        return _meeting_page(request, lesion, _meeting_parts(request, lesion, None))
    demand(request, roles.MEET)
    data, why = request.POST, why_of(request)
    parts = _meeting_parts(request, lesion, data)
    if not sound(parts, why):
        return _meeting_page(request, lesion, parts, status=422)
    try:
        keep(request, lesion, parts, why)
    except store.Conflict as error:
        parts = _meeting_parts(request, lesion, after_clash(data, parts, error))
        return _meeting_page(request, lesion, parts, clash=clash_of(error), status=409)
    except InputError as error:
        parts[1].form.refuse(error)
        return _meeting_page(request, lesion, parts, status=422)
    messages.success(request, gettext("The worksheet was kept."))
    return redirect("meeting", uid=lesion.uid)


def _meeting_page(
    request: HttpRequest,
    lesion: Any,
    parts: tuple[Part, Part],
    *,
    clash: Any = None,
    fault: str = "",
    status: int = 200,
) -> HttpResponse:
    baseline, held = parts
    me = request.user.get_username()
    votes: list[Any] = []
    if held.row is not None:
        votes = list(MODELS["votes"].objects.filter(lesion=lesion, date=held.row.date))
    record = store.read_record(lesion)
    if baseline.form.is_bound:
        record = replace(record, baseline=typed_baseline(baseline.form, record))
    people = get_user_model().objects.filter(is_active=True, person__isnull=False)
    context = {
        "lesion": lesion,
        "parts": parts,
        **faulty([baseline.form, held.form]),
        "groups": grouped(baseline.form),
        "meeting": held.row,
        "meeting_form": held.form,
        "earlier": MODELS["meetings"].objects.filter(lesion=lesion).order_by("-date"),
        "votes": votes,
        "mine": next((v for v in votes if v.member_id == me), None),
        "own_specialty": _entered_specialty(request.user),
        "people": [
            u.username
            for u in people.select_related("person").order_by("username")
            if roles.may(u.person.role, roles.VOTE)
        ],
        "may_write": allowed(request, roles.MEET),
        "may_vote": allowed(request, roles.VOTE),
        "not_yet": None if held.row is None else unsigned_as(held.row),
        "clash": clash,
        "fault": fault,
        **_decided(record),
    }
    return render(request, "clinic/meeting.html", context, status=status)


def typed_baseline(form: RowForm, record: Record) -> Baseline:
    """What is typed so far; a field with a fault counts as not known."""
    form.is_valid()
    read = [c.name for c in form.asked if c.name not in form.errors]
    values = {name: form.cleaned_data.get(name) for name in read}
    return Baseline(lesion_id=record.lesion_id, **values)


def _decided(record: Record) -> dict[str, Any]:
    decision: Decision = decide(record)
    pills = {"eligible": "ok", "not eligible": "stop", "incomplete": "unknown"}
    grades = {"met": "ok", "not met": "stop", "unknown": "unknown", "discuss": "caution"}
    return {
        "decision": decision,
        "outcome_pill": pills[decision.outcome],
        "verdicts": [
            (
                "caution" if v.status == "not met" and not v.hard else grades.get(v.status, ""),
                v,
                sentence(v.reason, v.values),
            )
            for v in worst_first(decision.verdicts)
        ],
    }


@needs(roles.MEET, roles.VOTE)
@require_POST
def scores(request: HttpRequest, uid: UUID) -> HttpResponse:
    """What the rules and scores say of the values typed so far; nothing is kept."""
    lesion = case_of(request, uid)
    record = store.read_record(lesion)
    form = BaselineForm(request.POST, prefix="b")
    baseline = typed_baseline(form, record)
    context = _decided(replace(record, baseline=baseline))
    context["left_out"] = [form[name].label for name in form.errors if name in form.fields]
    return render(request, "clinic/scores.html", context)


@needs(roles.MEET)
@require_POST
def member(request: HttpRequest, uid: UUID, row: UUID) -> HttpResponse:
    """Name a member of the meeting; the vote is that member's own to give."""
    lesion = case_of(request, uid)
    held = row_of("meetings", row, lesion=lesion)
    name = request.POST.get("member_id", "")
    try:
        known = get_user_model().objects.filter(username=name, person__isnull=False).first()
        if known is None:
            raise InputError(gettext("There is no such account."))
        specialty = _specialty_of(known, request.POST.get("specialty", ""))
        invited = Vote(
            lesion_id=lesion.lesion_id, date=held.date, member_id=name, specialty=specialty
        )
        cases.save("votes", invited, who=request.user.get_username(), study=lesion.study)
    except InputError as error:
        parts = _meeting_parts(request, lesion, None)
        return _meeting_page(request, lesion, parts, fault=str(error), status=422)
    return redirect("meeting", uid=lesion.uid)


def _entered_specialty(user: Any) -> str:
    """The specialty that administrators entered for an account, "" for none."""
    return str(getattr(getattr(user, "person", None), "specialty", ""))


def _specialty_of(user: Any, named: str) -> str:
    """What a member votes as: what administrators entered, not what is typed with the vote."""
    specialty = _entered_specialty(user)
    if not specialty:
        raise InputError(gettext("The account has no specialty; an administrator enters it."))
    if named not in ("", specialty):
        raise InputError(gettext("The account is of another specialty; a vote bears its own."))
    return specialty


def unsigned_as(held: Any) -> str:
    """Why no vote of a meeting can be signed yet, or nothing."""
    if ahead(held.date):
        told = gettext("The meeting is on %(date)s; votes are signed on that day or later.")
        return str(told % {"date": held.date})
    if not held.decision:
        return str(gettext("The meeting has no decision yet; votes are signed once it has one."))
    return ""


@needs(roles.VOTE)
@require_POST
def sign(request: HttpRequest, uid: UUID, row: UUID) -> HttpResponse:
    """Give and sign one's own vote; a signed vote changes only with a reason."""
    lesion = case_of(request, uid)
    held = row_of("meetings", row, lesion=lesion)
    me = request.user.get_username()
    if request.POST.get("member_id", me) != me:
        chain.log("refused", me, f"meetings:{held.uid}", address="meeting-sign")
        raise PermissionDenied
    own = MODELS["votes"].objects.filter(lesion=lesion, date=held.date, member_id=me).first()
    why = why_of(request)
    try:
        specialty = _specialty_of(request.user, request.POST.get("specialty", ""))
        if not request.POST.get("vote"):
            raise InputError(gettext("The vote is empty; choose for, against or abstained."))
        if own is not None and own.signed_at and not why:
            raise InputError(gettext("The vote is signed already; say why it is changed."))
        vote = Vote(
            lesion_id=lesion.lesion_id, date=held.date, member_id=me, specialty=specialty,
            vote=request.POST["vote"], signed_at=chain.now(),
            note=request.POST.get("note", "").strip() or None,
        )  # fmt: skip
        seen = request.POST.get("version", "")
        with transaction.atomic():
            chain.turn()
            held.refresh_from_db()
            if request.POST.get("seen", str(held.version)) != str(held.version):
                told = gettext("The meeting was changed in between; read it and vote again.")
                raise InputError(told)
            if unsigned_as(held):
                raise InputError(unsigned_as(held))
            kept = cases.save(
                "votes", vote, who=me, why=why or "signed", study=lesion.study, row=own,
                expected=None if own is None else int(seen) if seen.isdecimal() else 0,
            )  # fmt: skip
            chain.log("sign", me, f"votes:{kept.uid}", what="voted")
    except store.Conflict as error:
        parts = _meeting_parts(request, lesion, None)
        return _meeting_page(request, lesion, parts, clash=clash_of(error), status=409)
    except InputError as error:
        parts = _meeting_parts(request, lesion, None)
        return _meeting_page(request, lesion, parts, fault=str(error), status=422)
    messages.success(request, gettext("Your vote is signed."))
    return redirect("meeting", uid=lesion.uid)


urlpatterns = [
    path("case/<uuid:uid>/meeting/", meeting, name="meeting"),
    path("case/<uuid:uid>/meeting/scores/", scores, name="meeting-scores"),
    path("case/<uuid:uid>/meeting/<uuid:row>/member/", member, name="meeting-member"),
    path("case/<uuid:uid>/meeting/<uuid:row>/sign/", sign, name="meeting-sign"),
]
