"""What must be so before a lesion enters a state: every gate, and who may override it.

A gate is a result: open, closed, or not known, which never passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from trocar.audit.governance import RULES as AUDIT_RULES
from trocar.audit.governance import Case, clauses
from trocar.facts.source import Evidence, load
from trocar.model.decision import Verdict
from trocar.pathway.underway import TREATS, VISIT_WORDS, Underway, by
from trocar.selection.criteria import RULES
from trocar.selection.rule import all_of, first_day, last_day

NOBODY: tuple[str, ...] = ()
RADIOLOGIST = ("radiologist",)
_SPINAL_TEAM = ("radiology", "spinal surgery")
_LOCAL = "local arrangement"  # no clause asks for it in these words
# Missing for the patient's safety: a spinal surgeon at the meeting, the absence of an absolute
# contraindication. While it is not known a radiologist may answer for it; once known nobody may.
_SAFETY = ("E5", "E8")
# What a meeting cannot do without, and what may still change until the day.
_FOR_THE_MEETING = ("E1", "E2", "E3", "E8", "E10", "E11", "E12", "N1")
_BY_THE_DAY = ("E4", "E7", "E9")


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
    function: Callable[[Underway], _Said]
    hard: bool = True
    overridable_by: tuple[str, ...] = RADIOLOGIST

    def __call__(self, case: Underway) -> tuple[Gate, ...]:
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


def _alive(c: Underway) -> _Said:
    if c.died:
        return _Said(open=False, reason="The patient has died.")
    return _Said(open=True, reason="No death is recorded.")


def _referral(c: Underway) -> _Said:
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


def _known(c: Underway) -> tuple[Gate, ...]:
    """What the meeting needs to know; what it makes of it is its own."""
    return tuple(
        _verdict_gate(v, None if v.status == "unknown" else True, hard=rule in _FOR_THE_MEETING)
        for rule, v in c.verdicts.items()
        if rule in (*_FOR_THE_MEETING, "E4", "E9")
    )


def _judged(c: Underway) -> tuple[Gate, ...]:
    """The rules of selection, while what hangs on the day of the procedure may still change."""
    return tuple(
        _verdict_gate(v, _passes(c, v), hard=rule not in _BY_THE_DAY)
        for rule, v in c.verdicts.items()
    )


def _judged_by_the_day(c: Underway) -> tuple[Gate, ...]:
    """All the hard rules of selection."""
    return tuple(_verdict_gate(v, _passes(c, v), hard=True) for v in c.verdicts.values())


def _passes(c: Underway, v: Verdict) -> bool | None:
    """A grey zone passes when a meeting has decided on the treatment."""
    if v.status == "discuss":
        return True if c.decided else None
    return {"met": True, "not applicable": True, "not met": False}.get(v.status)


def _decision(c: Underway) -> _Said:
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


def _signatures(c: Underway) -> _Said:
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


def _dissent(c: Underway) -> _Said:
    against = [v.specialty for v in c.votes if v.vote == "against"]
    if against:
        return _Said(
            open=False, reason="Signed against: {against}.", values={"against": ", ".join(against)}
        )
    if not c.votes:
        return _Said(open=None, reason="Nobody has signed.")
    return _Said(open=True, reason="Nobody signed against.")


def _before_it(function: Callable[[Underway], _Said]) -> Callable[[Underway], _Said]:
    """The same question as it stood on the day of the procedure: who met later did not stop it."""

    def asked(c: Underway) -> _Said:
        if c.start is None or len(c.start) != len(c.today):
            return function(c)  # a month does not tell which meetings came first: all count
        return function(replace(c, today=min(c.start, c.today)))

    return asked


def _arrangements(c: Underway) -> _Said:
    b = c.record.baseline
    answer = all_of(
        {
            "entry into the audit": None if b is None else b.audit_registered,
            "approval by clinical governance": None if b is None else b.governance_approved,
        }
    )
    opens = {"met": True, "not met": False}.get(answer.status)
    return _Said(open=opens, reason=answer.reason, values=answer.values)


def _capacity(c: Underway) -> _Said:
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


def _consent_now(c: Underway) -> _Said:
    return _consent(c, c.today)


def _consent_to_plan(c: Underway) -> _Said:
    return _covered(c, _consent(c, c.today))


def _consent_on_the_day(c: Underway) -> _Said:
    """As it stood on the day of the procedure: what was withdrawn later held then."""
    day = c.start or c.today
    w = None if c.consent is None else c.consent.withdrawn
    if c.consent is not None and w is not None and first_day(w) > last_day(day):
        held = replace(c.consent, withdrawn=None)
        c = replace(c, care=replace(c.care, consents=(held,)))
    return _covered(c, _consent(c, day))


def _consent(c: Underway, day: str) -> _Said:
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
    signed = by(consent.date, day)
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


def _covered(c: Underway, said: _Said) -> _Said:
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


def _approved(c: Underway) -> _Said:
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


def _approved_by_the_day(c: Underway) -> _Said:
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


def _plan_verdict(c: Underway) -> _Said:
    plan = c.care.plan
    if plan is None or plan.verdict is None:
        return _Said(open=None, reason="No plan was computed.", hard=False)
    return _Said(
        open=None if plan.verdict == "unknown" else plan.verdict != "stop",
        reason="Worst verdict of version {number} of the plan: {verdict}.",
        values={"number": plan.number, "verdict": plan.verdict},
        overridable_by=NOBODY if plan.verdict == "stop" else None,
    )


def _procedure(c: Underway) -> _Said:
    if not c.record.procedures:
        return _Said(open=False, reason="No procedure is recorded.")
    if c.start is None:
        return _Said(open=None, reason="The day of the procedure is not recorded.")
    done = by(c.start, c.today)
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


def _as_consented(c: Underway) -> _Said:
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


def _volume(c: Underway) -> _Said:
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


def _assessed(c: Underway) -> _Said:
    if Case(record=c.record).cemented is False:
        return _Said(open=True, reason="No cement was used.")
    # A CT read before the procedure says nothing of its cement.
    after = [a.date for a in c.care.assessments if c.start and by(c.start, a.date)]
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


def _ended(c: Underway) -> _Said:
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


def _minimum_set(c: Underway) -> tuple[Gate, ...]:
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


def _consent_rule(function: Callable[[Underway], _Said]) -> _Rule:
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
GATES: Mapping[str, tuple[Callable[[Underway], tuple[Gate, ...]], ...]] = {
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


def title_of(gate: str) -> str:
    """The title of a gate by its key; a key that no gate bears is its own title.

    >>> title_of("plan verdict"), title_of("E2")
    ('Verdict of the plan', 'Pain comes from this lesion')
    """
    return _titles().get(gate, gate)


@cache
def _titles() -> Mapping[str, str]:
    rules = (rule for some in GATES.values() for rule in some if isinstance(rule, _Rule))
    return {
        **{rule.gate: rule.title for rule in rules},
        **{rule.rule_id: rule.title for rule in RULES},
        **{f"audit {b['id']}": b["title"] for b, _ in _audited()},
    }
