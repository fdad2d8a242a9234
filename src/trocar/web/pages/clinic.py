"""The sheets a clinic works with: meeting, consent, procedure, follow-up, complication.

A sheet keeps rows of several tables. All of them are kept in one transaction, or none is; what was
typed comes back with the faults at the fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from trocar.errors import InputError
from trocar.followup import omed, opioid_tables, walking_labels
from trocar.model.care import Vote
from trocar.model.columns import columns, is_date
from trocar.model.course import OpioidLine, PainScore
from trocar.model.decision import Decision
from trocar.model.patient import Baseline
from trocar.model.study import Record
from trocar.registry import chain, roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.selection import decide, worst_first
from trocar.selection.rule import first_day
from trocar.web import cases
from trocar.web.forms import RowForm, differences, initial_of, row_form, sentence
from trocar.web.guard import allowed, case_of, needs

MOST_LINES = 40  # new ones of one table at once
LINES_READ = 1000  # of one table on one sheet
GONE = _(
    "Somebody removed this after you opened the page. Nothing was saved; saving again enters it"
    " anew."
)

# --- A sheet of several rows --------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class Part:
    """One row of a sheet: its form, the row it changes if there is one, what the form omits."""

    table: str
    form: RowForm
    row: Any = None
    base: dict[str, Any] = field(default_factory=dict)
    line: bool = True  # one of several, which may stay blank
    record: Any = None
    kept: Any = None
    gone: bool = False  # it names a row that is no longer there
    zero: date | None = None  # day 0, where the form asks for a day

    @property
    def unwanted(self) -> bool:
        """Whether it was ticked to be taken out."""
        return bool(self.form.data.get(f"{self.form.prefix}-remove"))

    @property
    def blank(self) -> bool:
        """A new line in which nothing was typed."""
        return self.line and self.row is None and (self.unwanted or not self.form.has_changed())

    @property
    def removed(self) -> bool:
        """Whether a row was asked to be taken out."""
        return self.row is not None and self.unwanted


def part(
    table: str,
    form: type[RowForm],
    prefix: str,
    data: Any = None,
    *,
    row: Any = None,
    initial: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
    line: bool = True,
) -> Part:
    """A row of a sheet, as kept or as typed in ``data``."""
    version = None if row is None else row.version
    if data is None:
        shown = dict(initial or {}) if row is None else initial_of(to_record(row))
        # A line may stay blank: what it needs once something is typed is told by the answer.
        made = form(initial=shown, version=version, prefix=prefix, use_required_attribute=False)
    else:
        if row is not None and not data.get(f"{prefix}-version"):
            # The row came to be after the page was opened: no version was seen.
            data = data.copy()
            data[f"{prefix}-version"] = "0"
        # What the page began with was not typed by anybody: a row left at that is blank.
        began = dict(initial or {}) if row is None else {}
        made = form(
            data, initial=began, version=version, prefix=prefix, use_required_attribute=False
        )
    if row is not None:
        made.fields["why"].required = False  # asked for once a sheet, and only for a change
    said = {} if row is None else vars(to_record(row))
    return Part(table=table, form=made, row=row, base={**said, **(base or {})}, line=line)


def line_of(
    table: str, form: type[RowForm], prefix: str, data: Any, rows: Mapping[str, Any]
) -> Part:
    """A line as typed, over the row it names when that is still there."""
    named = str(data.get(f"{prefix}-uid", ""))
    made = part(table, form, prefix, data, row=rows.get(named))
    made.gone = bool(named) and made.row is None
    if made.blank:
        # Nothing is asked of a blank line, whatever is wrong elsewhere on the sheet.
        made.form = form(prefix=prefix, use_required_attribute=False)
    return made


def lost(parts: Iterable[Part]) -> bool:
    """Whether a line changes a row that was removed meanwhile; such a line says so."""
    gone = [p for p in parts if p.gone and not p.blank]
    for p in gone:
        p.form.add_error(None, gettext(GONE))
    return bool(gone)


def lines_typed(data: Any, name: str, usual: int) -> int:
    """How many lines of a table a sheet sent; a number no page gives is refused."""
    told = str(data.get(f"{name}-count", usual))
    if not (told.isascii() and told.isdigit()) or int(told[:9]) > LINES_READ:
        raise BadRequest
    return int(told)


def too_many(form: forms.Form, lines: Iterable[Part]) -> bool:
    """Whether more new lines of a table were typed than are kept at once; the form says so."""
    over = sum(p.row is None and not p.blank for p in lines) > MOST_LINES
    if over:
        told = gettext("One table has more than %(most)s new lines; save some of them first.")
        form.add_error(None, told % {"most": MOST_LINES})
    return over


# The dates that say what happened; that of a meeting may lie ahead.
HAPPENED = {
    "procedures": ("date",),
    "consents": ("date", "withdrawn"),
    "referrals": ("date",),
    "assessments": ("date",),
    "images": ("date",),
    "deaths": ("date",),
}
# Tables whose day counts from the lesion's procedure.
_BY_DAY = ("visits", "complications", "pain", "opioids", "events")
_AHEAD = _("This day is still to come.")


def ahead(told: str) -> bool:
    """Whether a date, perhaps without day or month, surely lies after today."""
    return first_day(told).isoformat() > cases.today()


def day_ahead(day: float, zero: date | None) -> bool:
    """Whether a day after the procedure lies after today."""
    return zero is not None and day >= (date.fromisoformat(cases.today()) - zero).days + 1


def happened(table: str, form: forms.Form, record: Any, zero: date | None = None) -> bool:
    """Whether what a row says has happened lies before tomorrow; else told at the field."""
    late = [
        name for name in HAPPENED.get(table, ())
        if getattr(record, name) is not None and ahead(getattr(record, name))
    ]  # fmt: skip
    if table in _BY_DAY and day_ahead(record.day, zero):
        late.append("day")
    for name in late:
        form.add_error(name if name in form.fields else None, gettext(_AHEAD))
    return not late


def sound(parts: Iterable[Part], why: str) -> bool:
    """Whether every row of a sheet may be kept; else the faults stand in the forms."""
    right = True
    for p in parts:
        if p.blank or p.removed:
            if p.removed and not why:
                p.form.add_error(None, gettext("Say why this row is removed."))
                right = False
            continue
        p.record = p.form.to_record(p.base)
        if p.record is None or not happened(p.table, p.form, p.record, p.zero):
            right = False
        elif p.row is not None and not why and to_record(p.row) != p.record:
            p.form.add_error("why", gettext("Say in a few words why this is changed."))
            right = False
    return right


def keep(request: HttpRequest, lesion: Any, parts: Iterable[Part], why: str) -> None:
    """Keep all rows of a sheet or none; Conflict and InputError as the store raises them."""
    who = request.user.get_username()
    with transaction.atomic():
        for p in parts:
            if p.removed:
                expected = int(p.form.data.get(f"{p.form.prefix}-version") or 0)
                cases.remove(p.row, who=who, why=why, expected=expected)
            elif p.record is not None and (p.row is None or to_record(p.row) != p.record):
                p.kept = cases.keep(
                    p.table, p.record, who=who, why=why, study=lesion.study, row=p.row,
                    expected=None if p.row is None else p.form.expected,
                )  # fmt: skip
            else:
                p.kept = p.row
        store.recount(lesion, cases.standing)  # once for all rows


def clash_of(error: store.Conflict) -> dict[str, Any]:
    """What a page tells of a conflict, column by column."""
    told = [] if error.yours is None else differences(error.theirs, error.yours)
    return {"by": error.by, "at": error.at, "differences": told}


def after_clash(data: Any, parts: Iterable[Part], error: store.Conflict) -> Any:
    """What was typed, now over the row as it stands: saving again is a decision."""
    again = data.copy()
    for p in parts:
        if p.row is not None and p.row.uid == error.row.uid:
            again[f"{p.form.prefix}-version"] = str(error.row.version)
    return again


def faulty(told: Sequence[forms.Form]) -> dict[str, Any]:
    """What a sheet says of its faults: whether there are any, and that a reason is lacking."""
    return {
        "forms_of": told,
        "wrong": any(f.is_bound and f.errors for f in told),
        "why_faults": next((f.errors["why"] for f in told if "why" in f.errors), None),
    }


def row_of(table: str, uid: Any, **where: Any) -> Any:
    """A row of the case by its opaque name, or 404."""
    row = MODELS[table].objects.filter(uid=uid, **where).first()
    if row is None:
        raise Http404
    return row


def why_of(request: HttpRequest) -> str:
    """The reason typed on a sheet."""
    return str(request.POST.get("why", "")).strip()


def demand(request: HttpRequest, right: str) -> None:
    """Refuse who lacks a right that a part of a page needs; the refusal is logged."""
    if not allowed(request, right):
        chain.log("refused", request.user.get_username(), "", address=right)
        raise PermissionDenied


# --- The meeting --------------------------------------------------------------------------------

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
        "own_specialty": getattr(getattr(request.user, "person", None), "specialty", ""),
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


def _specialty_of(user: Any, named: str) -> str:
    """What a member votes as: what administrators entered, not what is typed with the vote."""
    specialty = str(getattr(getattr(user, "person", None), "specialty", ""))
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
            cases.lock(lesion)
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


# --- Consent ------------------------------------------------------------------------------------

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


# --- The procedure ------------------------------------------------------------------------------

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
            lines[table] = [_line(table, i, None, r) for i, r in enumerate(rows)]
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


def _line(table: str, i: int, data: Any = None, row: Any = None) -> Part:
    return part(table, _LINES[table], f"{table}-{i}", data, row=row)


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
            head.form.add_error("why", gettext("Say in a few words why this is changed."))
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


# --- Follow-up ----------------------------------------------------------------------------------

VisitForm = row_form("visits", leave_out=("lesion_id", "day"))
OpioidForm = row_form("opioids", leave_out=("lesion_id", "day"))
OPIOID_LINES = 2
_FARTHEST = {"low": -365.0, "high": 36500.0}


class CallForm(forms.Form):  # type: ignore[misc]
    """When somebody was asked, and the pain: a number, or an interval such as 9-10."""

    date = forms.CharField(
        label=_("Date"), required=False, max_length=10,
        widget=forms.TextInput(attrs={"placeholder": "2026-11-25", "autocomplete": "off"}),
    )  # fmt: skip
    day = forms.FloatField(
        label=_("or day after the procedure"), required=False, min_value=_FARTHEST["low"],
        max_value=_FARTHEST["high"], widget=forms.TextInput(attrs={"inputmode": "decimal"}),
    )  # fmt: skip
    pain = forms.CharField(
        required=False, max_length=20,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )  # fmt: skip
    second = forms.CharField(
        required=False, max_length=20,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )  # fmt: skip
    recall = forms.ChoiceField(label=_("which pain was asked for"), required=False)
    instrument = forms.ChoiceField(label=_("instrument"), required=False)

    def __init__(self, *args: Any, record: Record, info: Any, **said: Any) -> None:
        super().__init__(*args, **said)
        self.analysed = info.pain_recall
        self.activity = info.pain_activity
        self.zero = zero_of(record)
        by_name = {c.name: c for c in columns(PainScore)}
        for name in ("recall", "instrument"):
            words = [(v, _(v)) for v in by_name[name].choices]
            self.fields[name].choices = [("", _("not known")), *words]
        self.other = "worst" if self.analysed == "average" else "average"
        if self.analysed is None:  # one score a day: which of two counts is not said
            del self.fields["second"]
            self.fields["pain"].label = _("Pain, 0 to 10")
        else:
            del self.fields["recall"]
            self.fields["pain"].label = f"{gettext('Pain')}: {gettext(self.analysed)}"
            self.fields["second"].label = f"{gettext('Pain')}: {gettext(self.other)}"

    def clean(self) -> dict[str, Any]:
        """One day, told by its date or its number; the scores as numbers."""
        typed: dict[str, Any] = super().clean() or self.cleaned_data
        typed["on"] = self._day(typed)
        for name in ("pain", "second"):
            if typed.get(name):
                try:
                    typed[name] = interval(typed[name])
                except InputError as error:
                    self.add_error(name, str(error))
        return typed

    def _day(self, typed: Mapping[str, Any]) -> float | None:
        day, told = typed.get("day"), (typed.get("date") or "").strip()
        if not told:
            if day is None and "day" not in self.errors:
                self.add_error("date", gettext("Give the date, or the day after the procedure."))
            if day is not None and day_ahead(day, self.zero):
                self.add_error("day", gettext(_AHEAD))
            return day
        if self.zero is None:
            if day is None:
                self.add_error("day", gettext("The procedure has no date: give the day instead."))
            return day
        if not is_date(told) or len(told) != len("2026-11-25"):
            self.add_error("date", gettext("expected a date written 2026-11-25"))
            return None
        counted = float((date.fromisoformat(told) - self.zero).days)
        if day is not None and day != counted:
            self.add_error(
                "day",
                gettext("The date is day %(counted)s; leave this empty or give the same.")
                % {"counted": f"{counted:g}"},
            )
        if not _FARTHEST["low"] <= counted <= _FARTHEST["high"]:
            self.add_error("date", gettext("The date is too far from the procedure."))
        elif ahead(told):
            self.add_error("date", gettext(_AHEAD))
        return counted

    def field_of(self, recall: str | None) -> str:
        """The field in which such a score is typed."""
        return "second" if self.analysed is not None and recall == self.other else "pain"

    def scores(self, lesion_id: str, day: float) -> list[PainScore]:
        """The pain scores that were typed."""
        said = self.cleaned_data
        asked = [("pain", self.analysed or said.get("recall") or None), ("second", self.other)]
        return [
            PainScore(
                lesion_id=lesion_id, day=day, low=said[name][0], high=said[name][1],
                instrument=said.get("instrument") or None, recall=recall, activity=self.activity,
            )
            for name, recall in asked
            if said.get(name)
        ]  # fmt: skip


def interval(text: str) -> tuple[float, float | None]:
    """A score or an interval as typed.

    >>> interval("7"), interval("9-10")
    ((7.0, None), (9.0, 10.0))
    """
    parts = text.replace("–", "-").split("-")
    try:
        numbers = [float(p.replace(",", ".")) for p in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2 or not all(0 <= n <= 10 for n in numbers):
        raise InputError(gettext("expected 0 to 10, or an interval such as 9-10"))
    if len(numbers) == 1:
        return numbers[0], None
    if numbers[1] < numbers[0]:
        raise InputError(gettext("the lower number comes first, as in 9-10"))
    return numbers[0], numbers[1]


def zero_of(record: Record) -> date | None:
    """Day 0: the first procedure, when every procedure has a full date."""
    days = [p.date or "" for p in record.procedures]
    full = bool(days) and all(len(d) == len("2026-11-25") for d in days)
    return date.fromisoformat(min(days)) if full else None


@dataclass(eq=False, kw_only=True)
class Call:
    """All that is asked at one follow-up."""

    form: CallForm
    visit: Part
    opioids: list[Part]
    pain: dict[str | None, Any]  # rows already kept for the day, by what was asked for
    shown: list[Any]  # those of them that stand in the fields

    @property
    def every(self) -> list[Any]:
        """The forms in which something may be wrong."""
        return [self.form, self.visit.form, *(p.form for p in self.opioids if not p.blank)]


def _call(request: HttpRequest, lesion: Any, record: Record, held: Any, data: Any) -> Call:
    info = to_record(lesion.study)
    day = None if held is None else held.day
    rows = {
        t: [] if held is None else list(MODELS[t].objects.filter(lesion=lesion, day=day))
        for t in ("pain", "opioids")
    }
    asked = info.pain_activity
    told = [r for r in rows["pain"] if asked is None or r.activity in (None, asked)]
    # Of two that differ in it alone, the one at the activity the study asks for.
    kept = {r.recall: r for r in sorted(told, key=lambda r: r.activity == asked)}
    start: dict[str, Any] = {}
    zero = zero_of(record)
    if held is None:
        last = record.course.pain.scores[-1] if len(record.course.pain) else None
        start = {
            "date": cases.today() if zero else "",
            "instrument": getattr(last, "instrument", ""),
        }
        start["recall"] = getattr(last, "recall", "") or ""
    else:
        start["day"] = f"{day:g}"
        first, other = _in_fields(info, kept)
        if first is not None:
            start |= {"pain": str(to_record(first)), "recall": first.recall or ""}
        if other is not None:
            start["second"] = str(to_record(other))
        start["instrument"] = getattr(first or other, "instrument", None) or ""
    form = CallForm(data, initial=start, record=record, info=info)
    base = {"lesion_id": lesion.lesion_id}
    visit = part("visits", VisitForm, "v", data, row=held, base=base)
    by_uid = {str(r.uid): r for r in rows["opioids"]}
    if data is None:
        count = max(OPIOID_LINES, len(by_uid) + 1)
        seen: list[Any] = [*by_uid.values(), *[None] * (count - len(by_uid))]
        opioids = [part("opioids", OpioidForm, f"o-{i}", row=r) for i, r in enumerate(seen)]
    else:
        count = lines_typed(data, "o", OPIOID_LINES)
        opioids = [line_of("opioids", OpioidForm, f"o-{i}", data, by_uid) for i in range(count)]
    shown = [r for r in _in_fields(info, kept) if r is not None]
    return Call(form=form, visit=visit, opioids=opioids, pain=kept, shown=shown)


def _in_fields(info: Any, kept: Mapping[Any, Any]) -> tuple[Any, Any]:
    """The kept scores that the two fields show; others of the day stay as they are."""
    if info.pain_recall is None:
        return next(iter(kept.values()), None), None
    # One that does not say what was asked for counts as the pain the study analyses.
    first = kept.get(info.pain_recall) or kept.get(None)
    return first, kept.get("worst" if info.pain_recall == "average" else "average")


@needs(roles.FOLLOW)
@require_http_methods(["GET", "POST"])
def visit(request: HttpRequest, uid: UUID, row: UUID | None = None) -> HttpResponse:
    """One follow-up on one screen: pain, opioids, walking, kept together or not at all."""
    lesion = case_of(request, uid)
    held = None if row is None else row_of("visits", row, lesion=lesion)
    record = store.read_record(lesion)
    if request.method == "GET":
        return _visit_page(
            request, lesion, record, held, _call(request, lesion, record, held, None)
        )
    data, why = request.POST, why_of(request)
    call = _call(request, lesion, record, held, data)
    seen, there = _versions(data), {str(r.uid) for r in call.pain.values()}
    if seen.keys() - there:
        data = data.copy()
        data["pain-seen"] = _told_versions({u: v for u, v in seen.items() if u in there})
        call = _call(request, lesion, record, held, data)
        call.form.add_error("pain", gettext(GONE))
    if lost(call.opioids) or seen.keys() - there:
        return _visit_page(request, lesion, record, held, call, status=409)
    if any(p.removed for p in call.opioids):
        demand(request, roles.CORRECT)
    call.form.is_valid()
    day = call.form.cleaned_data.get("on")
    for p in (call.visit, *call.opioids):
        p.base |= {"lesion_id": lesion.lesion_id, "day": 0.0 if day is None else day}
    right = call.form.is_valid()
    # The visit is kept even when nothing beside the pain was asked: it says that somebody asked.
    call.visit.record = call.visit.form.to_record(call.visit.base)
    right = call.visit.record is not None and right
    right = not too_many(call.form, call.opioids) and right
    right = sound(call.opioids, why) and right
    right = _asked_or_why(call, right) and right
    if held is not None and not why:
        call.visit.form.add_error("why", gettext("Say in a few words why this is changed."))
        right = False
    if not right or day is None:
        return _visit_page(request, lesion, record, held, call, status=422)
    pain = _pain_parts(call, lesion, day, data)
    emptied = [p.row.recall for p in pain if p.removed]
    if emptied and not allowed(request, roles.CORRECT):
        for recall in emptied:
            call.form.add_error(
                call.form.field_of(recall),
                gettext(
                    "A score is kept here already: who may correct and remove rows empties it."
                ),
            )
        return _visit_page(request, lesion, record, held, call, status=422)
    try:
        keep(request, lesion, [*pain, call.visit, *call.opioids], why)
    except store.Conflict as error:
        again = after_clash(data, [call.visit, *call.opioids], error)
        if error.row.table == "pain":
            again["pain-seen"] = _told_versions(
                _versions(data) | {str(error.row.uid): str(error.row.version)}
            )
        call = _call(request, lesion, record, held, again)
        lost(call.opioids)
        clash = clash_of(error)
        return _visit_page(request, lesion, record, held, call, clash=clash, status=409)
    except InputError as error:
        call.form.add_error(None, str(error))
        return _visit_page(request, lesion, record, held, call, status=422)
    messages.success(request, gettext("The visit was kept."))
    return redirect("visit", uid=lesion.uid)


def _asked_or_why(call: Call, right: bool) -> bool:
    """A visit without a score says why there is none."""
    if not right or call.form.cleaned_data.get("pain") or call.visit.record.missing_reason:
        return right
    call.visit.form.add_error("missing_reason", gettext("Give a pain score, or say why not."))
    return False


def _versions(data: Any) -> dict[str, str]:
    """The scores a page showed, and in which version each."""
    return dict(s.rpartition(":")[::2] for s in str(data.get("pain-seen", "")).split())


def _told_versions(versions: Mapping[str, Any]) -> str:
    return " ".join(f"{uid}:{version}" for uid, version in versions.items())


def _pain_parts(call: Call, lesion: Any, day: float, data: Any) -> list[Part]:
    """The scores as rows of the sheet; a score that was shown and emptied takes its row out."""
    seen = _versions(data)
    left = dict(call.pain)
    parts = []
    for score in call.form.scores(lesion.lesion_id, day):
        row = left.pop(score.recall, None)
        if row is None and call.form.field_of(score.recall) == "pain":
            # The score that was shown there does not say which pain it is, or that was corrected.
            old = [r for r in left.values() if str(r.uid) in seen]
            own = [r for r in old if call.form.analysed is None or r.recall is None]
            row = left.pop(own[0].recall) if own else None
        if row is not None:
            score = _over(to_record(row), score, call.form)
        form = PainForm(data, version=None if row is None else row.version, prefix="pain")
        told = seen.get("" if row is None else str(row.uid), "0")
        form.cleaned_data = {"version": int(told) if told.isdecimal() else 0}
        parts.append(Part(table="pain", form=form, row=row, record=score))
    for row in left.values():
        if str(row.uid) not in seen:
            continue  # nobody was shown it
        told = seen[str(row.uid)]
        form = PainForm({"pain-remove": "1", "pain-version": told}, prefix="pain")
        parts.append(Part(table="pain", form=form, row=row))
    return parts


def _over(kept: Any, typed: PainScore, form: CallForm) -> Any:
    """A kept score with what was typed; what was not asked for stays."""
    named = [n for n in ("instrument", "recall") if n in form.changed_data]
    said = {n: getattr(typed, n) for n in ("day", "low", "high", *named)}
    return replace(kept, **said)


PainForm = row_form("pain", only=())


def _visit_page(
    request: HttpRequest,
    lesion: Any,
    record: Record,
    held: Any,
    call: Call,
    *,
    clash: Any = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "lesion": lesion,
        "row": held,
        "call": call,
        "fields": [(f, _last_two(record, f.name)) for f in call.visit.form.visible_fields()
                   if f.name != "why"],
        "last": {n: _last_two(record, n) for n in ("pain", "second", "opioids")},
        **faulty(call.every),
        "count": len(call.opioids),
        "pain_seen": call.form.data.get("pain-seen", "") if call.form.is_bound
                     else _told_versions({r.uid: r.version for r in call.shown}),
        "may_remove": held is not None and allowed(request, roles.CORRECT),
        "case": MODELS["lesions"].objects.select_related("case").get(pk=lesion.pk),
        "visits": MODELS["visits"].objects.filter(lesion=lesion).order_by("-day"),
        "zero": zero_of(record),
        "walking": list(enumerate(walking_labels())),
        "clash": clash,
        **_reckoned(call, record),
    }  # fmt: skip
    return render(request, "clinic/visit.html", context, status=status)


def _last_two(record: Record, name: str) -> list[tuple[float, Any]]:
    """The last two answers, newest first, with their days."""
    course = record.course
    if name == "second":
        return []
    if name == "pain":
        return [(s.day, str(s)) for s in reversed(course.pain.scores[-2:])]
    if name == "opioids":
        days = course.opioids.days[-2:]
        return [(d, omed(course.opioids.on(d))) for d in reversed(days)]
    given = [(v.day, getattr(v, name)) for v in course.visits if getattr(v, name) is not None]
    return list(reversed(given[-2:]))


def _reckoned(call: Call, record: Record) -> dict[str, Any]:
    """The day both ways, and the opioids typed so far as oral morphine."""
    day, faults = None, []
    if call.form.is_bound:
        call.form.is_valid()
        day = call.form.cleaned_data.get("on")
    elif call.form.initial.get("day"):
        day = float(call.form.initial["day"])
    elif call.form.initial.get("date") and call.form.zero:
        day = float((date.fromisoformat(call.form.initial["date"]) - call.form.zero).days)
    lines: list[OpioidLine] = []
    for p in call.opioids:
        if not p.form.is_bound and p.row is not None:
            lines.append(replace(to_record(p.row), day=0.0))
        elif p.form.is_bound and not p.blank and not p.removed:
            made = p.form.to_record({"lesion_id": record.lesion_id, "day": 0.0})
            if made is None:
                faults.append(p.form.prefix)
            else:
                lines.append(made)
    zero = call.form.zero
    return {
        "day": day,
        "on_date": None if day is None or zero is None else zero + timedelta(days=int(day)),
        "omed": omed(lines),
        "omed_table": opioid_tables()[0],
        "opioid_faults": bool(faults),
    }


@needs(roles.FOLLOW)
@require_POST
def reckon(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The day and the oral morphine of what is typed so far; nothing is kept."""
    lesion = case_of(request, uid)
    record = store.read_record(lesion)
    call = _call(request, lesion, record, None, request.POST)
    return render(request, "clinic/reckoned.html", _reckoned(call, record))


@needs(roles.FOLLOW)
@require_GET
def opioid_line(request: HttpRequest, uid: UUID, index: int) -> HttpResponse:
    """One more empty line for an opioid."""
    lesion = case_of(request, uid)
    if index >= LINES_READ:
        raise Http404
    line = part("opioids", OpioidForm, f"o-{index}")
    context = {"lesion": lesion, "line": line, "index": index, "count": index + 1}
    return render(request, "clinic/opioid_added.html", context)


# --- Complications ------------------------------------------------------------------------------

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


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Http404 from error


urlpatterns = [
    path("case/<uuid:uid>/meeting/", meeting, name="meeting"),
    path("case/<uuid:uid>/meeting/scores/", scores, name="meeting-scores"),
    path("case/<uuid:uid>/meeting/<uuid:row>/member/", member, name="meeting-member"),
    path("case/<uuid:uid>/meeting/<uuid:row>/sign/", sign, name="meeting-sign"),
    path("case/<uuid:uid>/consent/", consent, name="consent"),
    path("case/<uuid:uid>/consent/<uuid:row>/", consent, name="consent-row"),
    path("case/<uuid:uid>/procedure/", procedure, name="procedure"),
    path("case/<uuid:uid>/procedure/<uuid:row>/", procedure, name="procedure-row"),
    path(
        "case/<uuid:uid>/procedure/line/<slug:table>/<int:index>/",
        procedure_line,
        name="procedure-line",
    ),
    path("case/<uuid:uid>/visit/", visit, name="visit"),
    path("case/<uuid:uid>/visit/reckon/", reckon, name="visit-reckon"),
    path("case/<uuid:uid>/visit/opioid/<int:index>/", opioid_line, name="visit-opioid"),
    path("case/<uuid:uid>/visit/<uuid:row>/", visit, name="visit-row"),
    path("case/<uuid:uid>/complication/", complication, name="complication"),
    path("case/<uuid:uid>/complication/<uuid:row>/", complication, name="complication-row"),
]
