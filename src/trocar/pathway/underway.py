"""One lesion on its way, on one day: what was done so far, as the gates and the worklist read it.

After reopening only what was done since then counts: an old consent opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache, cached_property
from itertools import pairwise

from trocar.audit.tables import NominalTime, nominal_time
from trocar.errors import InputError
from trocar.facts.source import load
from trocar.model.care import Care, Consent, Meeting, Vote
from trocar.model.columns import is_date
from trocar.model.course import Device
from trocar.model.decision import Verdict
from trocar.model.study import Record
from trocar.selection.criteria import RULES, decide
from trocar.selection.rule import first_day, last_day

TREATS = (
    "cementoplasty",
    "ablation and cementoplasty",
    "ablation alone",
)  # of model.care.DECISIONS
VISIT_WORDS: Mapping[str, str] = {
    "D3": "Pain and analgesics at 72 hours",
    "Wk1": "Visit at 1 week",
    "M1": "Visit at 1 month",
    "M3": "Visit at 3 months",
}
# E6 holds the consent, which nobody may override, beside what a radiologist may: it is taken apart.
_JUDGED = tuple(rule for rule in RULES if rule.hard and rule.rule_id != "E6")


@dataclass(frozen=True, kw_only=True, eq=False)
class Underway:
    """One lesion on one day; ``record`` and ``care`` hold what was done since it was reopened."""

    record: Record
    care: Care
    today: str
    zero: str | None  # the day that course days count from: the first procedure of all
    devices: tuple[Device, ...] | None

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """What the hard rules of selection say; a procedure still to come counts as today's."""
        day = None if self.record.procedures else self.today
        found = decide(self.record, procedure_date=day, rules=_JUDGED).verdicts
        return {v.rule: v for v in found}

    @cached_property
    def meeting(self) -> Meeting | None:
        """The last meeting held."""
        held = [m for m in self.care.meetings if by(m.date, self.today)]
        return max(held, key=lambda m: last_day(m.date), default=None)

    @cached_property
    def coming(self) -> Meeting | None:
        """The next meeting on a known day, today's included until it has decided."""
        days = [
            m
            for m in self.care.meetings
            if len(m.date) == len(self.today) and m.date >= self.today and m.decision is None
        ]
        return min(days, key=lambda m: m.date, default=None)

    @cached_property
    def votes(self) -> tuple[Vote, ...]:
        """The signed votes of the last meeting."""
        day = None if self.meeting is None else self.meeting.date
        return tuple(v for v in self.care.votes if v.date == day and v.signed_at is not None)

    @cached_property
    def consent(self) -> Consent | None:
        """The newest consent; a new form that is not signed yet stands before an older one."""
        return max(self.care.consents, key=lambda c: c.number, default=None)

    @property
    def decided(self) -> bool:
        """Whether the last meeting decided on a treatment that is planned here."""
        return self.meeting is not None and self.meeting.decision in TREATS

    @cached_property
    def start(self) -> str | None:
        """The day of the first procedure since reopening, as exact as it is known."""
        return first_procedure(self.record)

    @property
    def died(self) -> bool:
        """Whether a death is recorded."""
        return self.record.course.died

    @property
    def shift(self) -> int:
        """Days from the first procedure of all to the first since reopening."""
        if self.start is None or self.zero is None:
            return 0
        return (last_day(self.start) - last_day(self.zero)).days

    @cached_property
    def visits(self) -> tuple[NominalTime, ...]:
        """The visits of the audit's minimum set after the procedure, in days of the course."""
        if self.start is None or self.zero is None:
            return ()
        shift = self.shift
        return tuple(
            replace(t, day=t.day + shift, first=t.first + shift, last=t.last + shift)
            for t in _schedule()
        )

    @cached_property
    def end(self) -> float | None:
        """The day of death, or the last day seen when nobody saw the patient after it."""
        course = self.record.course
        if course.death_day is not None:
            return course.death_day
        seen = [s.day for s in course.pain] + [v.day for v in course.visits]
        said = [e.day for e in course.events if e.kind in ("last seen", "lost to follow-up")]
        after = max([self.shift, *seen])
        return max(said) if said and max(said) >= after else None

    @property
    def expected(self) -> tuple[NominalTime, ...]:
        """The visits whose time had passed before the end, or all where there is none."""
        return tuple(v for v in self.visits if self.end is None or v.last < self.end)

    def past(self, visit: NominalTime) -> bool:
        """Whether the window of a visit has surely passed."""
        if self.zero is None:
            return False
        return (last_day(self.today) - last_day(self.zero)).days > visit.last

    def scored(self, visit: NominalTime) -> bool:
        """Whether a pain score was taken within the window of a visit."""
        return any(visit.first < s.day <= visit.last for s in self.record.course.pain)

    def answered(self, visit: NominalTime) -> bool:
        """Whether a visit has its score, or the reason why there is none."""
        return self.scored(visit) or any(
            visit.first < v.day <= visit.last and v.missing_reason is not None
            for v in self.record.course.visits
        )

    def day_of(self, visit: NominalTime) -> str:
        """The ISO day of a visit; empty where that of the procedure is not known."""
        if self.zero is None or len(self.zero) < len(self.today):
            return ""
        try:
            return (date.fromisoformat(self.zero) + timedelta(days=visit.day)).isoformat()
        except OverflowError:  # a year mistyped as 9999 must not stop a worklist
            return ""


def underway(
    record: Record, care: Care, today: str, devices: tuple[Device, ...] | None
) -> Underway:
    """What is known of a lesion on an ISO day; InputError for another day or lesion."""
    if record.lesion_id != care.lesion_id:
        raise InputError(
            f"the record is of lesion {record.lesion_id}, the care of lesion {care.lesion_id}; "
            "expected the same"
        )
    if not is_date(today) or len(today) != len("2026-11-25"):
        raise InputError(f"today is {today!r}; expected a day written 2026-11-25")
    zero = first_procedure(record)
    record, care = _since_reopened(record, care)
    return Underway(record=record, care=care, today=today, zero=zero, devices=devices)


def _since_reopened(record: Record, care: Care) -> tuple[Record, Care]:
    """What was done since the lesion was last closed or declined and then opened again."""
    steps = care.steps
    opened = [
        now.at[: len("2026-11-25")]
        for before, now in pairwise(steps)
        if before.state in ("closed", "declined") and now.state == "selection"
    ]
    if not opened:
        return record, care

    def since(day: str | None) -> bool:
        """A date that may lie before the reopening does not count."""
        return day is not None and first_day(day).isoformat() >= opened[-1]

    return (
        replace(
            record,
            procedures=tuple(p for p in record.procedures if p.date is None or since(p.date)),
        ),
        replace(
            care,
            meetings=tuple(m for m in care.meetings if since(m.date)),
            consents=tuple(c for c in care.consents if c.date is None or since(c.date)),
            plans=tuple(p for p in care.plans if p.made_at is not None and p.made_at >= opened[-1]),
            assessments=tuple(a for a in care.assessments if since(a.date)),
        ),
    )


def first_procedure(record: Record) -> str | None:
    """The day of the first procedure; None where one of them has no date."""
    days = [p.date for p in record.procedures if p.date is not None]
    return min(days, key=last_day) if days and len(days) == len(record.procedures) else None


def by(day: str | None, limit: str) -> bool | None:
    """Whether a day is on or before another; None where dates without a day do not tell."""
    if day is None:
        return None
    if last_day(day) <= first_day(limit):
        return True
    return False if first_day(day) > last_day(limit) else None


@cache
def _schedule() -> tuple[NominalTime, ...]:
    """72 hours, 1 week, 1 and 3 months: the times of the audit's minimum set after day 0."""
    times = [nominal_time(label) for label in load("governance").data["mean_times"]]
    return tuple(t for t in times if t.day > 0)
