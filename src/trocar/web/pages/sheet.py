"""A sheet: a page that keeps rows of several tables.

All of them are kept in one transaction, or none is; what was typed comes back with the faults at
the fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trocar.model.study import Record
from trocar.registry import chain, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.selection.rule import first_day
from trocar.web import cases
from trocar.web.forms import RowForm, differences, initial_of
from trocar.web.guard import allowed

MOST_LINES = 40  # new ones of one table at once
LINES_READ = 1000  # of one table on one sheet
GONE = _(
    "Somebody removed this after you opened the page. Nothing was saved; saving again enters it"
    " anew."
)
WHY = _("Say in a few words why this is changed.")


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
AHEAD = _("This day is still to come.")


def ahead(told: str) -> bool:
    """Whether a date, perhaps without day or month, surely lies after today."""
    return first_day(told).isoformat() > cases.today()


def day_ahead(day: float, zero: date | None) -> bool:
    """Whether a day after the procedure lies after today."""
    return zero is not None and day >= (date.fromisoformat(cases.today()) - zero).days + 1


def zero_of(record: Record) -> date | None:
    """Day 0: the first procedure, when every procedure has a full date."""
    days = [p.date or "" for p in record.procedures]
    full = bool(days) and all(len(d) == len("2026-11-25") for d in days)
    return date.fromisoformat(min(days)) if full else None


def happened(table: str, form: forms.Form, record: Any, zero: date | None = None) -> bool:
    """Whether what a row says has happened lies before tomorrow; else told at the field."""
    late = [
        name for name in HAPPENED.get(table, ())
        if getattr(record, name) is not None and ahead(getattr(record, name))
    ]  # fmt: skip
    if table in _BY_DAY and day_ahead(record.day, zero):
        late.append("day")
    for name in late:
        form.add_error(name if name in form.fields else None, gettext(AHEAD))
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
            p.form.add_error("why", gettext(WHY))
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
