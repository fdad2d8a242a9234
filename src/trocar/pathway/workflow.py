"""May a lesion go on to its next state, what stands in the way, and what is due?

A lesion goes forward one state at a time through the gates of the state it enters. A gate is a
result: open, closed, or not known, which never passes. Going back needs a reason and no gate.
After reopening only what was done since then counts: an old consent opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

from trocar.audit.governance import RULES as AUDIT_RULES
from trocar.audit.governance import Case, clauses
from trocar.audit.tables import NominalTime, nominal_time
from trocar.errors import InputError
from trocar.facts.source import Evidence, load
from trocar.model.care import STATES, Care, Consent, Meeting, Standing, Vote
from trocar.model.columns import is_date
from trocar.model.course import Device
from trocar.model.decision import Verdict
from trocar.model.study import Record
from trocar.selection.criteria import RULES, decide
from trocar.selection.rule import all_of, first_day, last_day

_FORWARD = ("referred", "selection", "meeting", "consent", "planning", "ready", "treated",
            "follow-up", "closed")  # fmt: skip
_TREATED = _FORWARD.index("treated")
# From each state to those that may follow: forward first, then back, then out of the way.
NEXT: Mapping[str, tuple[str, ...]] = {
    "referred": ("selection", "declined"),
    "selection": ("meeting", "referred", "declined"),
    "meeting": ("consent", "selection", "declined"),
    "consent": ("planning", "meeting", "declined"),
    "planning": ("ready", "consent", "declined"),
    "ready": ("treated", "planning", "declined"),
    "treated": ("follow-up", "ready", "closed"),
    "follow-up": ("closed", "treated"),
    "closed": ("follow-up", "selection"),
    "declined": ("selection",),
}
NOBODY: tuple[str, ...] = ()
RADIOLOGIST = ("radiologist",)
TREATS = (
    "cementoplasty",
    "ablation and cementoplasty",
    "ablation alone",
)  # of model.care.DECISIONS
_SPINAL_TEAM = ("radiology", "spinal surgery")
_LOCAL = "local arrangement"  # no clause asks for it in these words
# Missing for the patient's safety: a spinal surgeon at the meeting, the absence of an absolute
# contraindication. While it is not known a radiologist may answer for it; once known nobody may.
_SAFETY = ("E5", "E8")
# What a meeting cannot do without, and what may still change until the day.
_FOR_THE_MEETING = ("E1", "E2", "E3", "E8", "E10", "E11", "E12", "N1")
_BY_THE_DAY = ("E4", "E7", "E9")
# E6 holds the consent, which nobody may override, beside what a radiologist may: it is taken apart.
_JUDGED = tuple(rule for rule in RULES if rule.hard and rule.rule_id != "E6")
# What comes next when every gate is open.
_NEXT_WORDS: Mapping[str, str] = {
    "referred": "Begin the selection",
    "selection": "Put before the meeting",
    "meeting": "Ask for consent",
    "consent": "Begin the planning",
    "planning": "Make ready for the procedure",
    "ready": "Record that it was treated",
    "treated": "Begin the follow-up",
    "follow-up": "Close the case",
}
VISIT_WORDS: Mapping[str, str] = {
    "D3": "Pain and analgesics at 72 hours",
    "Wk1": "Visit at 1 week",
    "M1": "Visit at 1 month",
    "M3": "Visit at 3 months",
}


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One condition of entering a state.

    ``open`` is None when it is not known, which never passes. ``reason`` is an English sentence
    with ``str.format`` places for ``values``. ``hard`` gates stop the step unless one of the roles
    in ``overridable_by`` overrides them with a reason; soft ones warn.
    """

    gate: str
    title: str
    open: bool | None
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)
    clause: str
    hard: bool = True
    overridable_by: tuple[str, ...] = RADIOLOGIST
    evidence: Evidence = "verified"

    @property
    def text(self) -> str:
        """The reason with its values."""
        return self.reason.format(**self.values)


def forward(state: str) -> str | None:
    """The next state on the way, or None where the way has ended.

    >>> forward("ready"), forward("declined")
    ('treated', None)
    """
    return None if state in ("closed", "declined") else NEXT[state][0]


def goes_back(state: str, state_to: str) -> bool:
    """Whether a step undoes the one before it.

    >>> goes_back("ready", "planning"), goes_back("closed", "selection")
    (True, False)
    """
    return state in _FORWARD[1:] and state_to == _FORWARD[_FORWARD.index(state) - 1]


def needs_reason(state: str, state_to: str) -> bool:
    """Whether a step must say why even with every gate open: all but one step forward."""
    return state_to != forward(state)


def gates(
    state_to: str,
    record: Record,
    care: Care,
    *,
    today: str,
    devices: tuple[Device, ...] | None = None,
) -> tuple[Gate, ...]:
    """The gates of a state for one lesion, worst first; none for a step back or for declining.

    ``today`` is an ISO day. ``devices`` are those of the lesion's procedures; without them what
    rests on them is not known. Raises InputError for an unknown state, another day or lesion.
    """
    if state_to not in STATES:
        raise InputError(f"state is {state_to!r}; expected one of {', '.join(STATES)}")
    case = _case(record, care, today, devices)
    if goes_back(care.state, state_to):
        return ()
    found = [gate for rule in _GATES.get(state_to, ()) for gate in rule(case)]
    return tuple(sorted(found, key=lambda g: (g.open is True, not g.hard, g.open is None)))


def title_of(gate: str) -> str:
    """The title of a gate by its key; a key that no gate bears is its own title.

    >>> title_of("plan verdict"), title_of("E2")
    ('Verdict of the plan', 'Pain comes from this lesion')
    """
    return _titles().get(gate, gate)


@cache
def _titles() -> Mapping[str, str]:
    rules = (rule for some in _GATES.values() for rule in some if isinstance(rule, _Rule))
    return {
        **{rule.gate: rule.title for rule in rules},
        **{rule.rule_id: rule.title for rule in RULES},
        **{f"audit {b['id']}": b["title"] for b, _ in _audited()},
    }


def may_override(role: str, gate: Gate) -> bool:
    """Whether a role may override a gate; whoever does must give a reason."""
    return gate.hard and role in gate.overridable_by


def blocked(gates: Iterable[Gate], overridden: Collection[str], role: str) -> tuple[Gate, ...]:
    """The hard gates that still stop a step which ``role`` takes, overriding those named."""
    return tuple(
        g
        for g in gates
        if g.hard and g.open is not True and not (g.gate in overridden and may_override(role, g))
    )


def standing(record: Record, care: Care, *, today: str) -> Standing:
    """Where a lesion stands on an ISO day, and what is due next.

    ``next_due`` is empty where nothing is due or where its day is not known; before the procedure
    ``due_what`` names the gate the next step waits for. ``open_gates`` counts the hard gates of
    the next step that do not let it pass. Raises InputError for another day or lesion.
    """
    case = _case(record, care, today, None)
    state_to = forward(care.state)
    shut = () if state_to is None else blocked(gates(state_to, record, care, today=today), (), "")
    next_due, due_what = _due(case, shut)
    plan = case.care.plan
    untreated = care.state in _FORWARD[:_TREATED]
    return Standing(
        state=care.state,
        since=care.steps[-1].at if care.steps else "",
        next_due=next_due,
        due_what=due_what,
        unsigned_plan=untreated and plan is not None and not plan.approved,
        missing_scores=sum(case.past(v) and not case.scored(v) for v in case.expected),
        open_gates=len(shut),
    )


def _due(case: _Case, shut: tuple[Gate, ...]) -> tuple[str, str]:
    """Day and words of what is due first."""
    state = case.care.state
    if forward(state) is None or case.died:
        return "", ""
    if state in ("treated", "follow-up"):
        for visit in case.expected:
            if not case.past(visit) and not case.answered(visit):
                return case.day_of(visit), VISIT_WORDS[visit.label]
        if state == "follow-up":
            return "", _NEXT_WORDS[state]
    if state in ("selection", "meeting") and case.coming is not None:
        return case.coming.date, "Multidisciplinary meeting"
    return "", shut[0].title if shut else _NEXT_WORDS[state]


# --- What a gate may look at --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
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
        held = [m for m in self.care.meetings if _by(m.date, self.today)]
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
        return _first(self.record)

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


def _case(record: Record, care: Care, today: str, devices: tuple[Device, ...] | None) -> _Case:
    if record.lesion_id != care.lesion_id:
        raise InputError(
            f"the record is of lesion {record.lesion_id}, the care of lesion {care.lesion_id}; "
            "expected the same"
        )
    if not is_date(today) or len(today) != len("2026-11-25"):
        raise InputError(f"today is {today!r}; expected a day written 2026-11-25")
    zero = _first(record)
    record, care = _since_reopened(record, care)
    return _Case(record=record, care=care, today=today, zero=zero, devices=devices)


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


def _first(record: Record) -> str | None:
    """The day of the first procedure; None where one of them has no date."""
    days = [p.date for p in record.procedures if p.date is not None]
    return min(days, key=last_day) if days and len(days) == len(record.procedures) else None


def _by(day: str | None, limit: str) -> bool | None:
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


# --- The gates ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What a gate's function says; ``hard`` and ``overridable_by`` where not the gate's own."""

    open: bool | None
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)
    hard: bool | None = None
    overridable_by: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class _Rule:
    gate: str
    title: str
    clause: str
    function: Callable[[_Case], _Said]
    hard: bool = True
    overridable_by: tuple[str, ...] = RADIOLOGIST

    def __call__(self, case: _Case) -> tuple[Gate, ...]:
        said = self.function(case)
        hard = self.hard if said.hard is None else said.hard
        roles = self.overridable_by if said.overridable_by is None else said.overridable_by
        gate = Gate(
            gate=self.gate,
            title=self.title,
            open=said.open,
            reason=said.reason,
            values=said.values,
            clause=self.clause,
            hard=hard,
            overridable_by=roles if hard else NOBODY,
        )
        return (gate,)


def _alive(c: _Case) -> _Said:
    if c.died:
        return _Said(open=False, reason="The patient has died.")
    return _Said(open=True, reason="No death is recorded.")


def _referral(c: _Case) -> _Said:
    if c.care.referrals:
        return _Said(open=True, reason="A referral is recorded.")
    return _Said(open=False, reason="No referral is recorded.")


def _verdict_gate(v: Verdict, said: bool | None, *, hard: bool) -> Gate:
    missing = v.rule in _SAFETY and said is False
    return Gate(
        gate=v.rule,
        title=v.title,
        open=said,
        reason=v.reason,
        values=v.values,
        clause=v.clause,
        hard=hard and v.hard,
        overridable_by=RADIOLOGIST if hard and v.hard and not missing else NOBODY,
        evidence=v.evidence,
    )


def _known(c: _Case) -> tuple[Gate, ...]:
    """What the meeting needs to know; what it makes of it is its own."""
    return tuple(
        _verdict_gate(v, None if v.status == "unknown" else True, hard=rule in _FOR_THE_MEETING)
        for rule, v in c.verdicts.items()
        if rule in (*_FOR_THE_MEETING, "E4", "E9")
    )


def _judged(c: _Case) -> tuple[Gate, ...]:
    """The rules of selection, while what hangs on the day of the procedure may still change."""
    return tuple(
        _verdict_gate(v, _passes(c, v), hard=rule not in _BY_THE_DAY)
        for rule, v in c.verdicts.items()
    )


def _judged_by_the_day(c: _Case) -> tuple[Gate, ...]:
    """All the hard rules of selection."""
    return tuple(_verdict_gate(v, _passes(c, v), hard=True) for v in c.verdicts.values())


def _passes(c: _Case, v: Verdict) -> bool | None:
    """A grey zone passes when a meeting has decided on the treatment."""
    if v.status == "discuss":
        return True if c.decided else None
    return {"met": True, "not applicable": True, "not met": False}.get(v.status)


def _decision(c: _Case) -> _Said:
    m = c.meeting
    if m is None:
        return _Said(
            open=None,
            reason="No meeting on or before {today} is registered.",
            values={"today": c.today},
        )
    if m.decision is None or m.decision == "decide later":
        return _Said(
            open=None,
            reason="The meeting of {date} has not decided.",
            values={"date": m.date},
        )
    # One person does not set aside what a team has refused; the team can meet again.
    return _Said(
        open=m.decision in TREATS,
        reason="The meeting of {date} decided: {decision}.",
        values={"date": m.date, "decision": m.decision},
        overridable_by=None if m.decision in TREATS else NOBODY,
    )


def _signatures(c: _Case) -> _Said:
    if c.meeting is None:
        return _Said(
            open=None,
            reason="No meeting on or before {today} is registered.",
            values={"today": c.today},
        )
    signed = list(dict.fromkeys(v.specialty for v in c.votes))
    said = ", ".join(signed) or "none"
    if c.record.lesion.spinal:
        agreed = [v.specialty for v in c.votes if v.vote == "for"]
        lacking = [s for s in _SPINAL_TEAM if s not in agreed]
        if lacking:
            return _Said(
                open=False,
                reason="A vertebra: no signed vote for it by {lacking}. Signed: {signed}.",
                values={"lacking": ", ".join(lacking), "signed": said},
            )
    least = load("governance")["mdt_specialties"].mean
    return _Said(
        open=len(signed) >= least,
        reason="Signed: {signed}; at least {least:.0f} specialties are needed.",
        values={"signed": said, "least": least},
    )


def _dissent(c: _Case) -> _Said:
    against = [v.specialty for v in c.votes if v.vote == "against"]
    if against:
        return _Said(
            open=False, reason="Signed against: {against}.", values={"against": ", ".join(against)}
        )
    if not c.votes:
        return _Said(open=None, reason="Nobody has signed.")
    return _Said(open=True, reason="Nobody signed against.")


def _before_it(function: Callable[[_Case], _Said]) -> Callable[[_Case], _Said]:
    """The same question as it stood on the day of the procedure: who met later did not stop it."""

    def asked(c: _Case) -> _Said:
        if c.start is None or len(c.start) != len(c.today):
            return function(c)  # a month does not tell which meetings came first: all count
        return function(replace(c, today=min(c.start, c.today)))

    return asked


def _arrangements(c: _Case) -> _Said:
    b = c.record.baseline
    answer = all_of(
        {
            "entry into the audit": None if b is None else b.audit_registered,
            "approval by clinical governance": None if b is None else b.governance_approved,
        }
    )
    opens = {"met": True, "not met": False}.get(answer.status)
    return _Said(open=opens, reason=answer.reason, values=answer.values)


def _capacity(c: _Case) -> _Said:
    said = None if c.consent is None else c.consent.capacity
    if said is None:
        return _Said(open=None, reason="Whether the patient had capacity is not recorded.")
    if not said:
        return _Said(
            open=False,
            reason="The patient had no capacity to consent.",
            hard=True,
            overridable_by=NOBODY,
        )
    return _Said(open=True, reason="The patient had capacity to consent.")


def _consent_now(c: _Case) -> _Said:
    return _consent(c, c.today)


def _consent_to_plan(c: _Case) -> _Said:
    return _covered(c, _consent(c, c.today))


def _consent_on_the_day(c: _Case) -> _Said:
    """As it stood on the day of the procedure: what was withdrawn later held then."""
    day = c.start or c.today
    w = None if c.consent is None else c.consent.withdrawn
    if c.consent is not None and w is not None and first_day(w) > last_day(day):
        held = replace(c.consent, withdrawn=None)
        c = replace(c, care=replace(c.care, consents=(held,)))
    return _covered(c, _consent(c, day))


def _consent(c: _Case, day: str) -> _Said:
    """Whether the newest consent holds on a day."""
    consent = c.consent
    if consent is None:
        return _Said(open=None, reason="No consent is recorded.")
    values = {"number": consent.number, "date": consent.date, "day": day}
    if consent.date is None:
        return _Said(
            open=False,
            reason="Consent {number} is not signed.",
            values={"number": consent.number},
        )
    if not consent.holds:
        return _Said(
            open=False,
            reason="Consent {number} was withdrawn ({withdrawn}).",
            values={"number": consent.number, "withdrawn": consent.withdrawn},
        )
    signed = _by(consent.date, day)
    if signed is None:
        return _Said(
            open=None,
            reason="Consent {number} is dated {date}; whether it was signed by {day} is not known.",
            values=values,
        )
    if not signed:
        return _Said(
            open=False, reason="Consent {number} is dated {date}, after {day}.", values=values
        )
    return _Said(
        open=True,
        reason="Consent {number} of {date} holds.",
        values={"number": consent.number, "date": consent.date},
    )


def _covered(c: _Case, said: _Said) -> _Said:
    """The same, if the consent covers what the newest plan holds."""
    consent, plan = c.consent, c.care.plan
    if not said.open or consent is None or plan is None:
        return said
    if plan.techniques is None or consent.techniques is None:
        return _Said(
            open=None,
            reason="Whether consent {number} covers version {version} of the plan is not known: "
            "techniques are not recorded.",
            values={"number": consent.number, "version": plan.number},
        )
    beyond = [t for t in plan.techniques if t not in consent.techniques]
    if beyond:
        return _Said(
            open=False,
            reason="Consent {number} does not cover: {beyond}.",
            values={"number": consent.number, "beyond": ", ".join(beyond)},
        )
    return said


def _approved(c: _Case) -> _Said:
    plan = c.care.plan
    if plan is None:
        return _Said(open=False, reason="No plan has been made.")
    if plan.approved:
        return _Said(
            open=True,
            reason="Version {number} of the plan is approved by {who}.",
            values={"number": plan.number, "who": plan.approved_by},
        )
    if plan.revoked_at is not None:
        return _Said(
            open=False,
            reason="The approval of version {number} of the plan was revoked.",
            values={"number": plan.number},
        )
    return _Said(
        open=False,
        reason="Version {number} of the plan, the newest, is not approved.",
        values={"number": plan.number},
    )


def _approved_by_the_day(c: _Case) -> _Said:
    """The same, if the approval is not later than the procedure."""
    said, plan = _approved(c), c.care.plan
    if not said.open or plan is None or plan.approved_at is None or c.start is None:
        return said
    day = plan.approved_at[: len("2026-11-25")]
    if first_day(day) > last_day(c.start):
        return _Said(
            open=False,
            reason="Version {number} of the plan was approved on {date}, after the procedure of "
            "{day}.",
            values={"number": plan.number, "date": day, "day": c.start},
        )
    return said


def _plan_verdict(c: _Case) -> _Said:
    plan = c.care.plan
    if plan is None or plan.verdict is None:
        return _Said(open=None, reason="No plan was computed.", hard=False)
    return _Said(
        open=None if plan.verdict == "unknown" else plan.verdict != "stop",
        reason="Worst verdict of version {number} of the plan: {verdict}.",
        values={"number": plan.number, "verdict": plan.verdict},
        overridable_by=NOBODY if plan.verdict == "stop" else None,
    )


def _procedure(c: _Case) -> _Said:
    if not c.record.procedures:
        return _Said(open=False, reason="No procedure is recorded.")
    if c.start is None:
        return _Said(open=None, reason="The day of the procedure is not recorded.")
    done = _by(c.start, c.today)
    if done is None:
        return _Said(
            open=None,
            reason="Whether the procedure of {date} was done by {today} is not known.",
            values={"date": c.start, "today": c.today},
        )
    if not done:
        return _Said(
            open=False,
            reason="The procedure is dated {date}, after {today}.",
            values={"date": c.start, "today": c.today},
        )
    return _Said(open=True, reason="The procedure of {date} is recorded.", values={"date": c.start})


def _as_consented(c: _Case) -> _Said:
    allowed = None if c.consent is None else c.consent.techniques
    done = [p.techniques for p in c.record.procedures]
    if allowed is None or not done or None in done:
        return _Said(open=None, reason="What was done or consented to is not recorded.")
    beyond = [t for row in done for t in row or () if t not in allowed]
    if beyond:
        return _Said(
            open=False,
            reason="Done without being consented to: {beyond}.",
            values={"beyond": ", ".join(dict.fromkeys(beyond))},
        )
    return _Said(open=True, reason="What was done had been consented to.")


def _volume(c: _Case) -> _Said:
    """Whether no more cement went in than the approved plan lets pass."""
    if Case(record=c.record).cemented is False:
        return _Said(open=True, reason="No cement was used.")
    plan = c.care.plan
    if plan is None or not plan.approved or plan.stop_ml is None:
        return _Said(open=None, reason="No approved plan says which volume not to pass.")
    done = [p.cement_ml for p in c.record.procedures]
    known = round(sum(ml for ml in done if ml is not None), 6)
    values = {"ml": known, "stop": plan.stop_ml}
    if known > plan.stop_ml:
        return _Said(
            open=False,
            reason="{ml:g} ml of cement were injected; the plan says not to pass {stop:g} ml.",
            values=values,
        )
    if not done or None in done:
        return _Said(open=None, reason="How much cement was injected is not recorded.")
    return _Said(
        open=True,
        reason="{ml:g} ml of cement were injected; {stop:g} ml were not to be passed.",
        values=values,
    )


def _assessed(c: _Case) -> _Said:
    if Case(record=c.record).cemented is False:
        return _Said(open=True, reason="No cement was used.")
    # A CT read before the procedure says nothing of its cement.
    after = [a.date for a in c.care.assessments if c.start and _by(c.start, a.date)]
    if after:
        return _Said(open=True, reason="The CT of {date} was read.", values={"date": max(after)})
    ways = [p.leak_assessed for p in c.record.procedures if p.leak_assessed is not None]
    looked = [w for w in ways if w != "not looked for"]
    if looked:
        return _Said(
            open=True, reason="Leakage was looked for on: {how}.", values={"how": looked[0]}
        )
    if ways:
        return _Said(open=False, reason="Leakage was not looked for.")
    return _Said(open=None, reason="Whether leakage was looked for is not recorded.")


def _ended(c: _Case) -> _Said:
    if c.died:
        return _Said(open=True, reason="The patient has died.")
    if c.end is not None:
        return _Said(open=True, reason="Last seen on day {day:g}.", values={"day": c.end})
    if not c.visits:
        return _Said(open=None, reason="The day of the procedure is not recorded.")
    left = [VISIT_WORDS[v.label] for v in c.visits if not c.answered(v)]
    if left:
        return _Said(
            open=False,
            reason="Without a score or the reason why there is none: {left}.",
            values={"left": ", ".join(left)},
        )
    return _Said(open=True, reason="Every visit has its score, or the reason why there is none.")


def _minimum_set(c: _Case) -> tuple[Gate, ...]:
    """What the smallest set of an audit holds; closing with gaps warns."""
    case = Case(record=c.record, devices=c.devices or ())
    found = []
    for block, clause in _audited():
        name, answer = block["id"], AUDIT_RULES[block["id"]](case)
        if name == "cement" and c.devices is None and answer == "not met":
            answer = "unknown"
        said = _minimum(answer, block["standard"])
        gate = Gate(
            gate=f"audit {name}",
            title=block["title"],
            open=said.open,
            reason=said.reason,
            values=said.values,
            clause=clause,
            hard=False,
            overridable_by=NOBODY,
        )
        found.append(gate)
    return tuple(found)


def _minimum(answer: str, standard: str) -> _Said:
    values = {"standard": standard}
    if answer == "not met":
        return _Said(open=False, reason="The record does not show: {standard}.", values=values)
    if answer == "unknown":
        return _Said(open=None, reason="Not known: {standard}.", values=values)
    if answer == "not applicable":
        return _Said(open=True, reason="Does not apply: {standard}.", values=values)
    return _Said(open=True, reason="The record shows: {standard}.", values=values)


@cache
def _audited() -> tuple[tuple[Mapping[str, Any], str], ...]:
    """The rules of the minimum set, each with the clauses it serves."""
    served = clauses()
    return tuple(
        (b, "; ".join(f"{k.document} {k.clause}" for k in served if b["id"] in k.rules))
        for b in load("governance").data["rules"]
        if b["minimum_set"]
    )


_ALIVE = _Rule(
    # A death entered by mistake is corrected in the record, not overridden.
    gate="alive",
    title="The patient lives",
    clause=_LOCAL,
    function=_alive,
    overridable_by=NOBODY,
)
_TEAM = (
    _Rule(
        gate="meeting",
        title="Decision of the meeting",
        clause="IPG179 1.2",
        function=_decision,
    ),
    _Rule(
        gate="signatures",
        title="Meeting signed",
        clause="IPG179 1.2; HTG3 1.2",
        function=_signatures,
    ),
    _Rule(
        gate="dissent",
        title="Votes against",
        clause="IPG179 1.2",
        function=_dissent,
        hard=False,
    ),
)


def _consent_rule(function: Callable[[_Case], _Said]) -> _Rule:
    # The patient's consent is the patient's alone to give: no role may stand in for it. Where one
    # was signed but not entered, it is entered; the step does not go round it.
    return _Rule(
        gate="consent",
        title="Consent holds",
        clause="IPG179 1.1; HTG3 1.1",
        function=function,
        overridable_by=NOBODY,
    )


_CAPACITY = _Rule(
    gate="capacity",
    title="Capacity to consent",
    clause="IPG179 1.1; HTG3 1.1",
    function=_capacity,
    hard=False,
)
_ARRANGEMENTS = _Rule(
    gate="arrangements",
    title="Audit and clinical governance",
    clause="IPG179 1.1; HTG3 1.1",
    function=_arrangements,
)
_PLAN = _Rule(gate="plan", title="Plan approved", clause=_LOCAL, function=_approved)
# By the state that is entered; the order breaks ties among gates that are equally bad.
_GATES: Mapping[str, tuple[Callable[[_Case], tuple[Gate, ...]], ...]] = {
    "selection": (
        _ALIVE,
        _Rule(gate="referral", title="Referral", clause=_LOCAL, function=_referral, hard=False),
    ),
    "meeting": (_ALIVE, _known),
    "consent": (_ALIVE, *_TEAM, _judged),
    "planning": (
        _ALIVE,
        _consent_rule(_consent_now),
        _CAPACITY,
        *_TEAM,
        _ARRANGEMENTS,
        _judged,
    ),
    "ready": (
        _ALIVE,
        _consent_rule(_consent_to_plan),
        _CAPACITY,
        _PLAN,
        _Rule(
            gate="plan verdict",
            title="Verdict of the plan",
            clause=_LOCAL,
            function=_plan_verdict,
        ),
        *_TEAM,
        _ARRANGEMENTS,
        _judged_by_the_day,
    ),
    "treated": (
        _consent_rule(_consent_on_the_day),
        _Rule(gate="plan", title="Plan approved", clause=_LOCAL, function=_approved_by_the_day),
        *(replace(rule, function=_before_it(rule.function)) for rule in _TEAM),
        _Rule(
            # What was not done cannot be declared done.
            gate="procedure",
            title="Procedure recorded",
            clause=_LOCAL,
            function=_procedure,
            overridable_by=NOBODY,
        ),
        _Rule(
            gate="as consented",
            title="Done as consented",
            clause="IPG179 1.1; HTG3 1.1",
            function=_as_consented,
            hard=False,
        ),
        _Rule(
            gate="cement volume",
            title="Cement within the plan",
            clause=_LOCAL,
            function=_volume,
            hard=False,
        ),
    ),
    "follow-up": (
        _Rule(
            gate="assessment",
            title="Leakage looked for after the procedure",
            clause="IPG179 2.4.1; HTG3 2.4.1",
            function=_assessed,
        ),
    ),
    "closed": (
        _Rule(
            gate="ended",
            title="Follow-up has ended",
            clause=_LOCAL,
            function=_ended,
        ),
        _minimum_set,
    ),
}
