"""What a rule of selection is: a value with a function, asked about one candidate.

A reason is always a literal text with places for its values, so that it can be translated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from trocar.errors import InputError
from trocar.facts.source import Evidence, load
from trocar.model.columns import is_date
from trocar.model.course import Procedure
from trocar.model.decision import Score, Status, Verdict
from trocar.model.patient import PELVIC, Baseline, PainfulLesion, Patient
from trocar.model.study import Record
from trocar.selection.applied import applied_scores, malignant

FACTS = "selection"
_MONTHS = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One lesion for which cementoplasty is considered: all that a rule may look at.

    ``procedure_date`` is the day of the (first) procedure, None when it is not known; with no
    ``procedures`` the procedure is still to come. ``scores`` are those that apply, by the
    name of their function.
    """

    patient: Patient
    lesion: PainfulLesion
    baseline: Baseline
    procedures: tuple[Procedure, ...] = ()
    procedure_date: str | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Record, *, procedure_date: str | None = None) -> Candidate:
        """The candidate of a record; InputError when the date given is none.

        Without a date given, that of the first procedure counts, if all of them have one.
        """
        if procedure_date is not None and not is_date(procedure_date):
            raise InputError(
                f"procedure_date is {procedure_date!r}; expected a date written 2026-11-25, "
                "2026-11 or 2026"
            )
        dates = [p.date for p in record.procedures]
        known = [d for d in dates if d is not None]
        if procedure_date is None and known and len(known) == len(dates):
            procedure_date = min(known, key=first_day)
        baseline = record.baseline or Baseline(lesion_id=record.lesion_id)
        return cls(
            patient=record.patient,
            lesion=record.lesion,
            baseline=baseline,
            procedures=record.procedures,
            procedure_date=procedure_date,
            scores=applied_scores(record.patient, record.lesion, baseline),
        )

    @property
    def malignant(self) -> bool | None:
        """Whether the lesion is a malignant tumour; None when the diagnosis is not known."""
        return malignant(self.lesion)

    @property
    def pelvic(self) -> bool:
        """Whether the lesion sits in the pelvis, the sacrum left out."""
        return self.lesion.site in PELVIC

    @property
    def ablation(self) -> str | None:
        """The ablation done or planned with the cement, "none", or None when not known."""
        done = [a for p in self.procedures for a in p.ablation]
        if done or self.baseline.planned_ablation is not None:
            return done[0] if done else self.baseline.planned_ablation
        told = bool(self.procedures) and all(p.techniques is not None for p in self.procedures)
        return "none" if told else None

    def before_procedure(self, day: str | None) -> bool | None:
        """Whether something came on or before the day of the procedure; None when not known.

        What has a date came before a procedure that is still to come.
        """
        if day is None or (self.procedure_date is None and self.procedures):
            return None
        if self.procedure_date is None or last_day(day) <= first_day(self.procedure_date):
            return True
        return False if first_day(day) > last_day(self.procedure_date) else None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a rule says of a candidate; ``evidence`` and ``hard`` only where not the rule's own."""

    status: Status
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None
    hard: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of selection, as a value: a unit can make its own and give it to ``decide``.

    ``hard``: not met means not eligible, and not known or to be discussed means not decided. A
    soft rule is printed and does not change the outcome.
    """

    rule_id: str
    title: str
    clause: str
    function: Callable[[Candidate], Answer]
    evidence: Evidence = "verified"
    hard: bool = True

    def __call__(self, candidate: Candidate) -> Verdict:
        """The verdict of this rule on a candidate."""
        answer = self.function(candidate)
        return Verdict(
            rule=self.rule_id,
            title=self.title,
            status=answer.status,
            clause=self.clause,
            reason=answer.reason,
            values=answer.values,
            evidence=answer.evidence or self.evidence,
            hard=self.hard if answer.hard is None else answer.hard,
        )


def all_of(checks: Mapping[str, bool | None]) -> Answer:
    """Met when all hold; else what is lacking and what is not known, by name."""
    lacking, unknown = said(checks, False), said(checks, None)
    if lacking and unknown:
        return Answer(
            status="not met",
            reason="Lacking: {lacking}. Not known: {unknown}.",
            values={"lacking": lacking, "unknown": unknown},
        )
    if lacking:
        return Answer(status="not met", reason="Lacking: {lacking}.", values={"lacking": lacking})
    if unknown:
        return Answer(status="unknown", reason="Not known: {unknown}.", values={"unknown": unknown})
    return Answer(status="met", reason="Given: {given}.", values={"given": said(checks, True)})


def none_of(checks: Mapping[str, bool | None], *, found_is: Status) -> Answer:
    """Met when none is present; else what is present (with the status given) or not known."""
    found, unknown = said(checks, True), said(checks, None)
    if found and unknown:
        return Answer(
            status=found_is,
            reason="Present: {found}. Not known: {unknown}.",
            values={"found": found, "unknown": unknown},
        )
    if found:
        return Answer(status=found_is, reason="Present: {found}.", values={"found": found})
    if unknown:
        return Answer(status="unknown", reason="Not known: {unknown}.", values={"unknown": unknown})
    return Answer(
        status="met",
        reason="None of {count} is present ({absent}).",
        values={"count": len(checks), "absent": said(checks, False)},
    )


def said(checks: Mapping[str, bool | None], answer: bool | None) -> str:
    """The names with one answer, parted by commas."""
    return ", ".join(name for name, value in checks.items() if value is answer)


def any_of(values: Iterable[bool | None]) -> bool | None:
    """True if any is, else None if any is not known, else False.

    >>> any_of([False, None]), any_of([None, True]), any_of([False])
    (None, True, False)
    """
    found = set(values)
    return True if True in found else None if None in found else False


def fact(name: str) -> float:
    """A threshold of the rules, by its name in ``selection.toml``."""
    return load(FACTS)[name].mean


def first_day(day: str) -> date:
    """The earliest day a date, month or year can mean.

    >>> first_day("2010-02")
    datetime.date(2010, 2, 1)
    """
    return date.fromisoformat((day + "-01-01")[: len("2010-02-28")])


def last_day(day: str) -> date:
    """The latest day a date, month or year can mean.

    >>> last_day("2010-02"), last_day("2010")
    (datetime.date(2010, 2, 28), datetime.date(2010, 12, 31))
    """
    parts = [int(p) for p in day.split("-")]
    if len(parts) > 2:
        return date(*parts)
    year, month = parts[0], parts[1] if len(parts) > 1 else _MONTHS
    if month == _MONTHS:
        return date(year, month, 31)
    return date(year, month + 1, 1) - timedelta(days=1)
