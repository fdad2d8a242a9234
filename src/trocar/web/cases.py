"""Changing a case: the store and the rules of the way through treatment, in one transaction.

Pages and the programming interface come here; nothing else calls ``store.put`` for a case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction

from trocar.errors import InputError
from trocar.model.care import Care, Standing, Step
from trocar.model.patient import SPECIALTIES, Baseline
from trocar.model.study import Record, Study
from trocar.pathway import workflow
from trocar.registry import chain, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, MODELS_AND_HEADS, Case, Row


def today() -> str:
    """This day where the clinic is (TROCAR_TIMEZONE, else this machine's own), ISO."""
    zone = settings.CLINIC_TIME_ZONE
    return datetime.now(ZoneInfo(zone) if zone else None).date().isoformat()


def standing(record: Record, care: Care) -> Standing:
    """Where a lesion stands today."""
    return workflow.standing(record, care, today=today())


def enter(
    study: Study,
    *,
    who: str,
    why: str,
    as_seen: Callable[[store.Incoming], bool] | None = None,
) -> Any:
    """Take in a study and put its treated lesions where they stand; the row of the study.

    A new lesion with a procedure is in follow-up; where the study's own time is over, or the
    patient has died, it is closed. One that was there before stays where it is: it goes through
    its gates. The worklist's lines are not counted yet: ``store.recount_all`` does.
    """
    with transaction.atomic():
        chain.turn()
        here = MODELS["lesions"].objects.filter(study__study_id=study.info.study_id)
        before = set(here.values_list("lesion_id", flat=True))
        store.take_in(study, who=who, why=why, as_seen=as_seen)
        row = MODELS_AND_HEADS["study"].objects.get(study_id=study.info.study_id)
        end = study.info.period_end
        over = end is not None and end < today()[: len(end)]

        def state_of(record: Record) -> str | None:
            if not record.procedures or record.lesion_id in before:
                return None
            return "closed" if over or record.course.died else "follow-up"

        placed = store.place_all(row, state_of, who=who, why=why)
        chain.log("move", who, f"study:{row.uid}", placed=placed, stayed=len(before))
    return row


def save(
    table: str,
    record: Any,
    *,
    who: str,
    why: str = "",
    study: Any = None,
    row: Row | None = None,
    expected: int | None = None,
) -> Any:
    """Keep a record and bring the worklist up to date; see :func:`trocar.registry.store.put`.

    Who signed a meeting signed what it decided: see :func:`keep`.
    """
    with transaction.atomic():
        kept = keep(table, record, who=who, why=why, study=study, row=row, expected=expected)
        for lesion in store.lesions_of(kept):
            store.recount(lesion, standing)
    return kept


# What of a meeting its members sign.
_SIGNED = ("date", "decision", "conditions")


def keep(
    table: str,
    record: Any,
    *,
    who: str,
    why: str = "",
    study: Any = None,
    row: Row | None = None,
    expected: int | None = None,
) -> Any:
    """The same where the caller counts the worklist himself, once for many rows.

    Where the day, the decision or the conditions of a meeting change, its votes go with it, empty
    and unsigned, for the same reason; so do votes that were there before the meeting was. What the
    decision and the audit read of consent and meeting is brought up to date with them.
    """
    with transaction.atomic():
        chain.turn()  # who signs while a meeting is changed waits, and is told
        old = None if row is None else to_record(type(row).objects.get(pk=row.pk))
        kept = store.put(table, record, who=who, why=why, study=study, row=row, expected=expected)
        if table == "meetings" and any(
            getattr(old, name, None) != getattr(record, name) for name in _SIGNED
        ):
            days = {record.date} if old is None else {old.date, record.date}
            for vote in MODELS["votes"].objects.filter(lesion=kept.lesion, date__in=days):
                _unsign(vote, record.date, who=who, why=why)
        if table in _ARRANGED:
            _arrange(table, kept.lesion, who=who)
    return kept


# What the decision and the audit read of a lesion is told by rows of these tables, and why.
_ARRANGED = {
    "consents": "from the consent",
    "meetings": "from the meeting",
    "votes": "from the meeting",
}


def _arrange(table: str, lesion: Any, *, who: str, emptied: bool = False) -> None:
    """Bring the days of consent and meeting in the lesion's baseline in line with their rows.

    Those before the first procedure count: a later meeting does not undo the one before it.
    Without such rows the baseline stays as it was entered, unless the last was just taken out.
    """
    care, record = store.read_care(lesion), store.read_record(lesion)
    treated = min((p.date for p in record.procedures if p.date), default=None)
    row = MODELS["selection"].objects.filter(lesion=lesion).first()
    old = Baseline(lesion_id=lesion.lesion_id) if row is None else to_record(row)
    if table == "consents":
        if not care.consents and not emptied:
            return
        holding = [
            c.date
            for c in care.consents
            if c.date is not None and (c.holds or (treated and str(c.withdrawn) > treated))
        ]
        new = replace(old, consent_date=_last(holding, treated))
    else:
        # One that is only planned was not held; its day is no answer yet.
        held = [m.date for m in care.meetings if m.date <= today()]
        if not held and not emptied:
            return
        day = _last(held, treated)
        there = {v.specialty for v in care.votes if v.date == day and v.signed_at is not None}
        members = tuple(s for s in SPECIALTIES if s in there)
        new = replace(old, mdt_date=day, mdt_members=members or None)
    if new != old:
        store.put("selection", new, who=who, why=_ARRANGED[table], study=lesion.study, row=row)


def _last(days: Collection[str], treated: str | None) -> str | None:
    """The last day up to the first procedure; the last of all where none is."""
    before = [d for d in days if treated is None or d <= treated]
    return max(before or days, default=None)


def _unsign(row: Any, day: str, *, who: str, why: str) -> None:
    """Carry a vote to the day of its meeting, without what was voted."""
    old = to_record(row)
    new = replace(old, date=day, vote=None, signed_at=None)
    if new == old:
        return
    reason = why.strip() or "the meeting was entered anew"
    store.put("votes", new, who=who, why=reason, study=row.lesion.study, row=row)
    if old.signed_at is not None:
        chain.log("sign", who, f"votes:{row.uid}", what="unsigned")


def remove(row: Any, *, who: str, why: str, expected: int | None = None) -> None:
    """Take a row out and bring the worklist up to date.

    Raises InputError for a consent that was ever signed: what a patient gave or took back is
    corrected with a reason, and stays.
    """
    with transaction.atomic():
        if row.table == "consents" and row.history.filter(date__isnull=False).exists():
            raise InputError(
                "the consent was signed; it is not taken out, expected a correction with its reason"
            )
        touched = [] if row.table == "lesions" else store.lesions_of(row)
        if row.table == "lesions":
            Case.objects.filter(lesion=row).delete()  # its line is derived, and goes with it
        store.remove(row, who=who, why=why, expected=expected)
        if row.table in _ARRANGED:
            left = MODELS[row.table].objects.filter(lesion=row.lesion)
            emptied = row.table != "votes" and not left.exists()
            _arrange(row.table, row.lesion, who=who, emptied=emptied)
        for lesion in touched:
            store.recount(lesion, standing)


def move(
    lesion: Any,
    state: str,
    *,
    who: str,
    role: str,
    reason: str = "",
    overridden: Collection[str] = (),
    seen: int | None = None,
) -> Any:
    """Move a case to a state that may follow; gates that are closed must be overridden by name.

    ``seen`` is the number of the last step the mover saw: Conflict when there is a newer one.
    Raises InputError naming the gates that stay closed.
    """
    with transaction.atomic():
        chain.turn()
        record, care = store.read_record(lesion), store.read_care(lesion)
        last = care.steps[-1].number if care.steps else 0
        if seen is not None and seen > last:
            raise InputError(f"seen is step {seen}; expected at most {last}, the last there is")
        if seen is not None and seen != last:
            row = MODELS["steps"].objects.get(lesion=lesion, number=last)
            raise store.Conflict(row, None, care.steps[-1].by, care.steps[-1].at)
        if state not in workflow.NEXT[care.state]:
            every = ", ".join(workflow.NEXT[care.state])
            raise InputError(f"from {care.state} a case goes to {every}; not to {state}")
        if workflow.needs_reason(care.state, state) and not reason.strip():
            raise InputError("the reason is empty; expected why the case goes there")
        gates = workflow.gates(state, record, care, today=today())
        closed = workflow.blocked(gates, overridden, role)
        if closed:
            told = "; ".join(f"{g.gate}: {g.reason.format(**g.values)}" for g in closed)
            raise InputError(f"the case cannot go to {state}: {told}")
        used = tuple(g.gate for g in gates if g.hard and g.open is not True)
        if used and not reason.strip():
            raise InputError("the reason is empty; expected why gates are overridden")
        step = Step(
            lesion_id=lesion.lesion_id, number=last + 1, at=chain.now(), by=who, state=state,
            overridden=used or None, reason=reason.strip() or None,
        )  # fmt: skip
        row = store.put("steps", step, who=who, why=reason, study=lesion.study)
        chain.log("move", who, f"lesions:{lesion.uid}", state=state, overridden=list(used))
        store.recount(lesion, standing)
        return row


def plan(lesion: Any, made: Any, *, who: str, why: str, parent: int | None) -> Any:
    """Keep the next version of a plan; see :func:`trocar.registry.store.next_plan`."""
    with transaction.atomic():
        row = store.next_plan(lesion, made, who=who, why=why, parent=parent)
        store.recount(lesion, standing)
    return row


def restore_plan(lesion: Any, number: int, *, who: str, why: str, parent: int) -> Any:
    """Undo to an earlier version of the plan, as the next one."""
    with transaction.atomic():
        row = store.restore_plan(lesion, number, who=who, why=why, parent=parent)
        store.recount(lesion, standing)
    return row


def approve(row: Any, *, who: str, why: str = "", expected: int | None = None) -> Any:
    """Sign a version of a plan; against a stop, or what is not known, with a reason."""
    with transaction.atomic():
        kept = store.approve(row, who=who, why=why, expected=expected)
        store.recount(row.lesion, standing)
    return kept


def revoke(row: Any, *, who: str, why: str) -> Any:
    """Take back an approval."""
    with transaction.atomic():
        kept = store.revoke(row, who=who, why=why)
        store.recount(row.lesion, standing)
    return kept
