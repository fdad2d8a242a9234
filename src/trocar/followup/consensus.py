"""Did the pain respond: International Consensus categories from pain and opioids together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from trocar.errors import InputError
from trocar.facts.source import load
from trocar.followup.opioids import Omed, omed_at, omed_before, opioid_table, opioid_tables
from trocar.followup.rules import (
    DAY_0,
    BaselineRule,
    PainRule,
    Standing,
    at_most,
    default_rule,
)
from trocar.model.study import Record
from trocar.stats.exact import Proportion

Kind = Literal["CR", "PR", "PP", "IR", "not evaluable"]

KINDS: dict[Kind, str] = {
    "CR": "complete response",
    "PR": "partial response",
    "PP": "pain progression",
    "IR": "indeterminate response",
    "not evaluable": "not evaluable",
}


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """The thresholds of a response, by default those of ``facts/response.toml``."""

    points: float
    less_opioid: float  # fraction of the baseline
    more_opioid: float  # fraction of the baseline

    @classmethod
    def consensus(cls) -> Criteria:
        """International Consensus of 2012: 2 points, 25 % less, 25 % more opioid."""
        facts = load("response")
        return cls(
            points=facts["response_points"].mean,
            less_opioid=facts["response_less_opioid"].mean,
            more_opioid=facts["response_more_opioid"].mean,
        )


@dataclass(frozen=True, kw_only=True)
class Response:
    """The response of one lesion, why, and whether opioids could be taken into account."""

    kind: Kind
    reason: str
    pain_only: bool

    @property
    def responder(self) -> bool | None:
        """Complete or partial response; None when not evaluable."""
        return None if self.kind == "not evaluable" else self.kind in ("CR", "PR")


def response(
    pain_before: float | None,
    pain: float | None,
    omed_before_mg: float | None = None,
    omed_mg: float | None = None,
    *,
    criteria: Criteria | None = None,
) -> Response:
    """Did this lesion respond, by pain (0 to 10) and opioids (oral morphine, mg a day)?

    CR: no pain, opioids not more. PR: pain at least 2 points less with opioids not more, or
    opioids at least 25 % less with pain not more. PP: pain at least 2 points more, or opioids at
    least 25 % more with pain not less. IR: the rest. Not evaluable without a score, or without
    pain before. "Not more" is at or below the baseline; any opioid after none is more. Pain 2
    points higher is PP also with more opioid, which the text does not name, and IR with 25 % less.

    Without both amounts of opioid the pain alone decides, and ``pain_only`` and the reason say so.
    InputError for a score outside 0 to 10 or a negative amount. Source: Chow, Int J Radiat Oncol
    Biol Phys 2012;82:1730-7.

    >>> response(5, 3, 40, 40).kind, response(5, 5, 40, 31).kind
    ('PR', 'IR')
    """
    _check(pain_before, pain, omed_before_mg, omed_mg)
    limits = Criteria.consensus() if criteria is None else criteria
    known = omed_before_mg is not None and omed_mg is not None
    if pain_before is None or pain is None:
        when = "before" if pain_before is None else "after"
        return Response(
            kind="not evaluable", reason=f"no pain score {when} the procedure", pain_only=not known
        )
    if pain_before == 0:
        return Response(kind="not evaluable", reason="no pain before", pain_only=not known)
    if omed_before_mg is None or omed_mg is None:  # as if the opioids were the same
        kind = _kind(pain_before, pain, 0.0, 0.0, limits)
    else:
        kind = _kind(pain_before, pain, omed_before_mg, omed_mg, limits)
    return Response(
        kind=kind,
        reason=_said(pain_before, pain, omed_before_mg, omed_mg),
        pain_only=not known,
    )


@dataclass(frozen=True, kw_only=True)
class LesionResponse:
    """The response of one lesion with the scores and regimens it rests on."""

    lesion_id: str
    patient_id: str
    before: Standing | None
    after: Standing | None
    omed_before: Omed
    omed_after: Omed
    response: Response


@dataclass(frozen=True, kw_only=True)
class Responses:
    """The responses of all lesions at one time; proportions are of the evaluable ones."""

    day: float
    rule: str
    baseline: str
    opioid_table: str
    opioid_version: str
    sentence: str
    rows: tuple[LesionResponse, ...]

    @property
    def counts(self) -> dict[Kind, int]:
        """How many lesions of each kind, also of those with none."""
        found = Counter(r.response.kind for r in self.rows)
        return {kind: found[kind] for kind in KINDS}

    @property
    def evaluable(self) -> int:
        """How many lesions have a response."""
        return len(self.rows) - self.counts["not evaluable"]

    @property
    def pain_only(self) -> int:
        """How many evaluable lesions were judged by pain alone."""
        return sum(r.response.pain_only and r.response.kind != "not evaluable" for r in self.rows)

    def lesions(self, kind: Kind) -> tuple[str, ...]:
        """The lesions of a kind."""
        return tuple(r.lesion_id for r in self.rows if r.response.kind == kind)

    def proportion(self, kind: Kind) -> Proportion:
        """How many of the evaluable lesions are of a kind."""
        return Proportion(self.counts[kind], self.evaluable)

    @property
    def responders(self) -> Proportion:
        """How many of the evaluable lesions responded completely or partially."""
        return Proportion(self.counts["CR"] + self.counts["PR"], self.evaluable)


def responses(
    records: Iterable[Record],
    day: float | None = None,
    rule: PainRule | None = None,
    baseline: BaselineRule = DAY_0,
    *,
    table: str | None = None,
    criteria: Criteria | None = None,
) -> Responses:
    """How did every lesion respond by a day (default: week 1, last score up to it)?

    Opioids: the last regimen recorded at or before day 0 against the last one recorded after the
    procedure up to the day. InputError when both a day and a rule of another day are given.
    """
    chosen = rule if rule is not None else default_rule(day)
    if day is not None and chosen.day != day:
        raise InputError(
            f"the rule {chosen.name!r} looks at day {chosen.day:g} but day {day:g} was asked for; "
            "give a rule of that day, or no day"
        )
    factors = opioid_table(opioid_tables()[0] if table is None else table)
    limits = Criteria.consensus() if criteria is None else criteria
    rows = []
    for r in records:
        before, after = baseline.apply(r.course.pain), chosen.apply(r.course.pain)
        opioid = omed_before(r.course.opioids, factors.name)
        opioid_after = omed_at(r.course.opioids, chosen.day, factors.name)
        found = response(
            before.score if before else None,
            after.score if after else None,
            opioid.mg_per_day,
            opioid_after.mg_per_day,
            criteria=limits,
        )
        if found.pain_only and (opioid.recorded or opioid_after.recorded):
            why = f"opioids before {opioid}, after {opioid_after}"
            found = Response(kind=found.kind, reason=f"{found.reason}; {why}", pain_only=True)
        rows.append(
            LesionResponse(
                lesion_id=r.lesion_id,
                patient_id=r.patient.patient_id,
                before=before,
                after=after,
                omed_before=opioid,
                omed_after=opioid_after,
                response=found,
            )
        )
    return Responses(
        day=chosen.day,
        rule=chosen.name,
        baseline=baseline.name,
        opioid_table=factors.name,
        opioid_version=factors.version,
        sentence=(
            f"International Consensus response; opioids as oral morphine by {factors.title}, the "
            "last regimen at or before day 0 against the last after the procedure up to day "
            f"{chosen.day:g}; where one is not known, pain alone decides. {chosen.sentence} "
            f"{baseline.sentence}"
        ),
        rows=tuple(rows),
    )


@dataclass(frozen=True, kw_only=True)
class Decrease:
    """Whether one decrease of pain matters; None where a fraction cannot be taken (no pain)."""

    points: float
    fraction: float | None
    by_points: bool
    by_fraction: bool | None
    by_half: bool | None


def decrease(pain_before: float, pain: float) -> Decrease:
    """Is this decrease clinically important: 2 points, 30 %, 50 % less than before?

    InputError for a score outside 0 to 10.

    >>> decrease(5, 3).by_points, decrease(5, 3).fraction
    (True, 0.4)
    """
    _check(pain_before, pain, None, None)
    facts = load("response")
    points = round(pain_before - pain, 9)

    def fell(name: str) -> bool | None:
        return at_most(pain, pain_before * (1.0 - facts[name].mean)) if pain_before > 0 else None

    return Decrease(
        points=points,
        fraction=points / pain_before if pain_before > 0 else None,
        by_points=at_most(facts["important_points"].mean, points),
        by_fraction=fell("important_fraction"),
        by_half=fell("substantial_fraction"),
    )


def acceptable(pain: float) -> bool:
    """Whether a pain is one that patients find acceptable (at most 3 of 10)."""
    _check(pain, None, None, None)
    return at_most(pain, load("response")["acceptable_pain"].mean)


def band(pain: float) -> str:
    """The band of a pain: none, mild, moderate, severe or worst.

    A score between two bands belongs to the lower one, any pain at all is at least mild.

    >>> [band(p) for p in (0, 0.5, 3.5, 4, 9.5, 10)]
    ['none', 'mild', 'mild', 'moderate', 'severe', 'worst']
    """
    _check(pain, None, None, None)
    facts = load("response")
    if pain == 0:
        return "none"
    for word in ("worst", "severe", "moderate"):
        if at_most(facts[f"band_{word}"].mean, pain):
            return word
    return "mild"


def _kind(p0: float, p: float, o0: float, o: float, c: Criteria) -> Kind:
    not_more = at_most(o, o0)
    less = o0 > 0 and at_most(o, o0 * (1.0 - c.less_opioid))
    more = at_most(o0 * (1.0 + c.more_opioid), o) if o0 > 0 else o > 0
    if p == 0 and not_more:
        return "CR"
    if (at_most(p, p0 - c.points) and not_more) or (less and at_most(p, p0)):
        return "PR"
    if (at_most(p0 + c.points, p) and not less) or (more and at_most(p0, p)):
        return "PP"
    return "IR"


def _said(p0: float, p: float, o0: float | None, o: float | None) -> str:
    pain = f"pain {p0:g} to {p:g}"
    if o0 is not None and o is not None:
        return f"{pain}, opioids {o0:g} to {o:g} mg/day"
    if o0 is None and o is None:
        return f"{pain}; by pain alone, opioids are not known"
    when = "before" if o0 is None else "after"
    return f"{pain}; by pain alone, opioids {when} the procedure are not known"


def _check(p0: float | None, p: float | None, o0: float | None, o: float | None) -> None:
    top = load("response")["scale_top"].mean
    for value in (p0, p):
        if value is not None and not 0 <= value <= top:
            raise InputError(f"the pain score is {value:g}; expected a number from 0 to {top:g}")
    for value in (o0, o):
        if value is not None and not 0 <= value < float("inf"):
            raise InputError(f"the opioids are {value:g} mg/day; expected a number of at least 0")
