"""One follow-up on one screen: pain, opioids, walking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from trocar.errors import InputError
from trocar.followup import omed, opioid_tables, walking_labels
from trocar.model.columns import columns, is_date
from trocar.model.course import OpioidLine, PainScore
from trocar.model.study import Record
from trocar.registry import roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.web import cases
from trocar.web.forms import row_form
from trocar.web.guard import allowed, case_of, needs
from trocar.web.pages.sheet import (
    AHEAD,
    GONE,
    LINES_READ,
    WHY,
    Part,
    after_clash,
    ahead,
    clash_of,
    day_ahead,
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
    zero_of,
)

VisitForm = row_form("visits", leave_out=("lesion_id", "day"))
OpioidForm = row_form("opioids", leave_out=("lesion_id", "day"))
PainForm = row_form("pain", only=())
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
                self.add_error("day", gettext(AHEAD))
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
            self.add_error("date", gettext(AHEAD))
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
        call.visit.form.add_error("why", gettext(WHY))
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
        "last": {n: _last_two(record, n) for n in ("pain", "opioids")},
        **faulty(call.every),
        "count": len(call.opioids),
        "pain_seen": call.form.data.get("pain-seen", "") if call.form.is_bound
                     else _told_versions({r.uid: r.version for r in call.shown}),
        "may_remove": held is not None and allowed(request, roles.CORRECT),
        "case": MODELS["lesions"].objects.select_related("case").get(pk=lesion.pk),
        "visits": MODELS["visits"].objects.filter(lesion=lesion).order_by("-day"),
        "walking": list(enumerate(walking_labels())),
        "clash": clash,
        **_reckoned(call, record),
    }  # fmt: skip
    return render(request, "clinic/visit.html", context, status=status)


def _last_two(record: Record, name: str) -> list[tuple[float, Any]]:
    """The last two answers, newest first, with their days."""
    course = record.course
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


urlpatterns = [
    path("case/<uuid:uid>/visit/", visit, name="visit"),
    path("case/<uuid:uid>/visit/reckon/", reckon, name="visit-reckon"),
    path("case/<uuid:uid>/visit/opioid/<int:index>/", opioid_line, name="visit-opioid"),
    path("case/<uuid:uid>/visit/<uuid:row>/", visit, name="visit-row"),
]
