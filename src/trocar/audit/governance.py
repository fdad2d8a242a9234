"""Did the service meet what NICE asks, clause by clause, and in which cases did it not?

Each rule gives one answer for each treated lesion: met, not met, unknown or not applicable.
Unknown never counts as met. The clauses, their rules and what cannot be seen in a record stand in
``facts/governance.toml``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from trocar.audit.tables import (
    LESIONS,
    Cases,
    Counts,
    CountTable,
    last_day,
    last_said,
    leak_status,
    nominal_time,
    visit_near,
    walking_before,
)
from trocar.facts.source import load
from trocar.model.course import Device, Leak
from trocar.model.decision import Decision
from trocar.model.patient import Baseline
from trocar.model.study import Record

Answer = Literal["met", "not met", "unknown", "not applicable"]
ANSWERS: tuple[Answer, ...] = ("met", "not met", "unknown", "not applicable")


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """One rule over all treated lesions; None in place of a count was hidden on purpose.

    ``failing`` and ``unknown_ids`` name the lesions, except where small counts are hidden.
    ``minimum_set`` says whether the rule is of the smallest set an audit should hold.
    """

    rule: str
    title: str
    standard: str
    exceptions: str
    minimum_set: bool
    clauses: tuple[str, ...]  # "IPG179 1.1"
    met: int | None
    not_met: int | None
    unknown: int | None
    not_applicable: int | None
    failing: tuple[str, ...]
    unknown_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One clause of a guidance document: its rules, and what of it a record cannot show."""

    clause_id: str
    document: str
    clause: str
    standard: str
    rules: tuple[str, ...]
    not_auditable: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A safety notice that the unit should know."""

    notice_id: str
    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Sentinel:
    """A case that must be looked into, whatever the rates say."""

    lesion_id: str
    what: str
    detail: str = ""  # its grades


@dataclass(frozen=True, kw_only=True)
class DeviceReport:
    """A complication in which a device was involved, or may have been, and whether it was reported.

    ``device_related`` and ``reported`` are None where that was not recorded.
    """

    lesion_id: str
    day: float
    event: str
    device_related: bool | None
    reported: bool | None


@dataclass(frozen=True, kw_only=True)
class Governance:
    """The governance pack: every clause, every rule with its cases, sentinels, device reports."""

    clauses: tuple[Clause, ...]
    rules: tuple[RuleResult, ...]
    notices: tuple[Notice, ...]
    sentinels: tuple[Sentinel, ...]
    device_reports: tuple[DeviceReport, ...]

    def rule(self, name: str) -> RuleResult:
        """The result of a rule; KeyError when there is none of the name."""
        for r in self.rules:
            if r.rule == name:
                return r
        raise KeyError(f"there is no rule {name!r}")


def clauses() -> tuple[Clause, ...]:
    """Every clause of IPG179 and HTG3 that the reference traces, in its order."""
    return tuple(
        Clause(
            clause_id=c["id"],
            document=c["document"],
            clause=c["clause"],
            standard=c["standard"],
            rules=tuple(c["rules"]),
            not_auditable=c["not_auditable"],
        )
        for c in load("governance").data["clauses"]
    )


def governance(
    cases: Cases, progress: Callable[[float], None] | None = None
) -> tuple[Governance, CountTable]:
    """The governance pack of a study, and its counts as a table that can be suppressed.

    ``progress`` is told the fraction done.
    """
    said = {name: {} for name in RULES}  # type: dict[str, dict[str, Answer]]
    devices = _devices(cases)
    total = max(1, len(cases.treated))
    for i, record in enumerate(cases.treated):
        case = Case(record=record, devices=devices.get(record.lesion_id, ()))
        for name, rule in RULES.items():
            said[name][record.lesion_id] = rule(case)
        if progress is not None and i % 256 == 0:
            progress(i / total)
    all_clauses = clauses()
    c = Counts("governance", "Rules of the guidance", "lesions", cases.level)
    results = []
    for block in load("governance").data["rules"]:
        name = str(block["id"])
        answers = said[name]
        found = Counter(answers.values())
        c.parts(name, {a: found[a] for a in ANSWERS}, LESIONS)
        results.append(
            RuleResult(
                rule=name,
                title=block["title"],
                standard=block["standard"],
                exceptions=block["exceptions"],
                minimum_set=block["minimum_set"],
                clauses=tuple(f"{k.document} {k.clause}" for k in all_clauses if name in k.rules),
                met=found["met"],
                not_met=found["not met"],
                unknown=found["unknown"],
                not_applicable=found["not applicable"],
                failing=tuple(k for k, a in answers.items() if a == "not met"),
                unknown_ids=tuple(k for k, a in answers.items() if a == "unknown"),
            )
        )
    pack = Governance(
        clauses=all_clauses,
        rules=tuple(results),
        notices=tuple(
            Notice(notice_id=n["id"], text=n["text"], source=n["source"])
            for n in load("governance").data["notices"]
        ),
        sentinels=sentinels(cases.treated),
        device_reports=device_reports(cases.treated),
    )
    return pack, c.done("Per treated lesion; what is unknown is not counted as met.")


def without_small(pack: Governance, counts: CountTable) -> Governance:
    """The pack with hidden counts taken out and without any list of cases."""

    def left(rule: RuleResult) -> RuleResult:
        x = {a: counts.row(a, rule.rule).x for a in ANSWERS}
        return replace(
            rule,
            met=x["met"],
            not_met=x["not met"],
            unknown=x["unknown"],
            not_applicable=x["not applicable"],
            failing=(),
            unknown_ids=(),
        )

    return replace(pack, rules=tuple(map(left, pack.rules)), sentinels=(), device_reports=())


def sentinels(records: Iterable[Record]) -> tuple[Sentinel, ...]:
    """Lesions with cement in a joint, or a complication that killed, disabled or left sequelae."""
    facts = load("governance")
    limits = {name: facts[f"grave_{name}"].mean for name in ("cirse", "sir", "ctcae")}
    out = []
    for r in records:
        for x in r.course.complications:
            grades = {name: getattr(x, name) for name in limits}
            if any(g is not None and g >= limits[name] for name, g in grades.items()):
                said = [f"{n.upper()} {g}" for n, g in grades.items() if g is not None]
                out.append(Sentinel(lesion_id=r.lesion_id, what=x.event, detail=", ".join(said)))
        if any(leak.compartment == "intra-articular" for leak in r.course.leaks):
            out.append(Sentinel(lesion_id=r.lesion_id, what="intra-articular leak"))
        if any(x.event == "death from cement embolus" for x in r.course.complications):
            out.append(Sentinel(lesion_id=r.lesion_id, what="death from cement embolus"))
    return tuple(out)


def device_reports(records: Iterable[Record]) -> tuple[DeviceReport, ...]:
    """The complications in which a device was, or may have been, involved."""
    return tuple(
        DeviceReport(
            lesion_id=r.lesion_id,
            day=x.day,
            event=x.event,
            device_related=x.device_related,
            reported=x.yellow_card,
        )
        for r in records
        for x in r.course.complications
        if x.device_related is not False
    )


def _devices(cases: Cases) -> dict[str, tuple[Device, ...]]:
    lesion = {p.procedure_id: p.lesion_id for p in cases.study.procedures}
    out: dict[str, list[Device]] = {}
    for d in cases.study.devices:
        out.setdefault(lesion[d.procedure_id], []).append(d)
    return {k: tuple(v) for k, v in out.items()}


# ------------------------------------------------------------------------------------- rules


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """One treated lesion as the rules see it."""

    record: Record
    devices: tuple[Device, ...] = ()

    @property
    def baseline(self) -> Baseline:
        """What was known before; everything unknown where nothing was recorded."""
        return self.record.baseline or Baseline(lesion_id=self.record.lesion_id)

    @cached_property
    def decision(self) -> Decision:
        """What selection says of the lesion, by the rules that stand for a clause here."""
        from trocar.selection.criteria import RULES as ALL
        from trocar.selection.criteria import decide

        return decide(self.record, rules=[r for r in ALL if r.rule_id in _SELECTION])

    @cached_property
    def date(self) -> str | None:
        """The earliest date of a procedure, as exact as it is known."""
        dates = [p.date for p in self.record.procedures]
        return min((d for d in dates if d), default=None) if all(dates) else None

    @property
    def cemented(self) -> bool | None:
        """Whether cement was used; None where the technique was not recorded."""
        techniques = [p.techniques for p in self.record.procedures]
        if any(
            t in ("cement", "cement-filled catheter", "kyphoplasty balloon")
            for done in techniques
            for t in done or ()
        ):
            return True
        return False if techniques and None not in techniques else None


def not_after(first: str | None, second: str | None) -> Answer:
    """Whether one date is on or before another; partial dates that could be either are unknown.

    >>> not_after("2010-02", "2010-03-01"), not_after("2010-02", "2010-02-14")
    ('met', 'unknown')
    """
    if first is None or second is None:
        return "unknown"
    k = min(len(first), len(second))
    if first[:k] != second[:k]:
        return "met" if first[:k] < second[:k] else "not met"
    return "met" if len(first) == len(second) == len("2010-02-14") else "unknown"


def _answer(said: bool | None) -> Answer:
    return "unknown" if said is None else "met" if said else "not met"


def _recorded(*values: object) -> Answer:
    """Met when everything was recorded: here an empty cell is the failing, so it is not met."""
    return "met" if all(v is not None for v in values) else "not met"


def _worst(answers: Iterable[Answer]) -> Answer:
    """Not met if any is not met, unknown if any is unknown, met if any is met."""
    found = set(answers)
    for a in ("not met", "unknown", "met"):
        if a in found:
            return a  # type: ignore[return-value]
    return "not applicable"


def _verdict(rule: str) -> Callable[[Case], Answer]:
    """The answer of a rule of selection; a grey zone that a person must decide is unknown."""

    def rule_of(case: Case) -> Answer:
        for v in case.decision.verdicts:
            if v.rule == rule:
                return "unknown" if v.status == "discuss" else v.status
        return "unknown"

    return rule_of


def _consent(case: Case) -> Answer:
    return not_after(case.baseline.consent_date, case.date)


def _complete(case: Case) -> Answer:
    b = case.baseline
    return _worst((_consent(case), _answer(b.audit_registered), _answer(b.governance_approved)))


def _mdt(case: Case) -> Answer:
    members = case.baseline.mdt_members
    enough = None if members is None else len(members) >= load("governance")["mdt_specialties"].mean
    return _worst((not_after(case.baseline.mdt_date, case.date), _answer(enough)))


def _spinal_mdt(case: Case) -> Answer:
    if not case.record.lesion.spinal:
        return "not applicable"
    members = case.baseline.mdt_members
    both = None if members is None else {"radiology", "spinal surgery"} <= set(members)
    return _worst((not_after(case.baseline.mdt_date, case.date), _answer(both)))


def _spinal_surgery(case: Case) -> Answer:
    if not case.record.lesion.spinal:
        return "not applicable"
    return _answer(case.baseline.spinal_surgery_access)


def _treatment_history(case: Case) -> Answer:
    return _recorded(case.baseline.failed_treatments, case.baseline.radiotherapy_given)


def _each_procedure(*names: str, cement_only: bool = False) -> Callable[[Case], Answer]:
    """Whether columns of every procedure were recorded."""

    def rule(case: Case) -> Answer:
        if cement_only and case.cemented is False:
            return "not applicable"
        procedures = case.record.procedures
        if not procedures:
            return "unknown"
        return _worst(_recorded(*(getattr(p, n) for n in names)) for p in procedures)

    return rule


def _needle(case: Case) -> Answer:
    facts = load("governance")
    thick, thin = facts["needle_thickest"].mean, facts["needle_thinnest"].mean
    gauges = [p.needle_gauge for p in case.record.procedures] or [None]
    return _worst(_answer(None if g is None else thick <= g <= thin) for g in gauges)


def _guidance(case: Case) -> Answer:
    live = {"fluoroscopy", "CT fluoroscopy", "cone-beam CT"}
    ways = [p.guidance for p in case.record.procedures] or [None]
    return _worst(_answer(None if w is None else bool(live & set(w))) for w in ways)


def _cement(*columns: str) -> Callable[[Case], Answer]:
    def rule(case: Case) -> Answer:
        if case.cemented is False:
            return "not applicable"
        cements = [d for d in case.devices if d.kind == "cement"]
        if not cements:
            return "not met"
        return _worst(_recorded(*(getattr(d, c) for c in columns)) for d in cements)

    return rule


def _leak_handling(case: Case) -> Answer:
    answers: list[Answer] = []
    for p in case.record.procedures:
        if p.leak_watch is None:
            answers.append("unknown" if p.leak_found is not False else "not applicable")
            continue
        steps = list(p.leak_watch)
        if "leak detected" not in steps:
            answers.append("not applicable")
            continue
        after = steps[steps.index("leak detected") + 1 :]
        stopped = not after or after[0] in ("waiting to harden", "repositioning", "finished")
        answers.append(_answer(stopped))
    return _worst(answers) if answers else "unknown"


def _instructions(case: Case) -> Answer:
    if case.cemented is False:
        return "not applicable"
    said = [p.cement_instructions_followed for p in case.record.procedures] or [None]
    return _worst(_answer(s) for s in said)


def _leak_search(case: Case) -> Answer:
    if case.cemented is False:
        return "not applicable"
    ways = [p.leak_assessed for p in case.record.procedures]
    if not ways or all(w is None for w in ways):
        return "unknown"
    on_ct = any(w in ("CT", "cone-beam CT") for w in ways)
    return _worst((_answer(on_ct), _answer(leak_status(case.record) is not None or None)))


def _each_leak(*columns: str) -> Callable[[Case], Answer]:
    def rule(case: Case) -> Answer:
        leaks: tuple[Leak, ...] = case.record.course.leaks
        if not leaks:
            status = leak_status(case.record)
            return "not applicable" if status is False else "not met" if status else "unknown"
        return _worst(_recorded(*(getattr(x, c) for c in columns)) for x in leaks)

    return rule


def _intra_articular(case: Case) -> Answer:
    if any(leak.compartment == "intra-articular" for leak in case.record.course.leaks):
        return "not met"
    if case.cemented is False:
        return "not applicable"
    vague = any(leak.compartment in ("not stated", "other") for leak in case.record.course.leaks)
    status = leak_status(case.record)
    if status is None or vague or (status and not case.record.course.leaks):
        return "unknown"
    return "met"


def _fever(case: Case) -> Answer:
    limit = load("governance")["fever_below"].mean
    found = [x for x in case.record.course.complications if x.event == "fever"]
    if not found:
        return "not applicable"
    heat = [x.temperature_c for x in found]
    return _worst(_answer(None if t is None else t < limit) for t in heat)


def _graded(case: Case) -> Answer:
    found = case.record.course.complications
    if not found:
        return "not applicable"
    return _worst(_answer(x.relation is not None and any((x.cirse, x.sir, x.ctcae))) for x in found)


def _seen(case: Case) -> Answer:
    day = load("governance")["early_death"].mean
    died = case.record.course.death_day
    return _answer(last_day(case.record) >= day or (died is not None and died <= day))


def _yellow_card(case: Case) -> Answer:
    answers: list[Answer] = []
    for x in case.record.course.complications:
        if x.device_related is None:
            answers.append("met" if x.yellow_card else "unknown")
        elif x.device_related:
            answers.append(_answer(x.yellow_card))
    return _worst(answers)


def _pain_before(case: Case) -> Answer:
    return _answer(case.record.course.pain.before is not None)


def _died_before(case: Case, label: str) -> bool:
    died = case.record.course.death_day
    return died is not None and died <= nominal_time(label).last


def _pain_at(label: str) -> Callable[[Case], Answer]:
    def rule(case: Case) -> Answer:
        time = nominal_time(label)
        if any(time.first < s.day <= time.last for s in case.record.course.pain):
            return "met"
        return "not applicable" if _died_before(case, label) else "not met"

    return rule


def _asked_at(label: str, column: str) -> Callable[[Case], Answer]:
    def rule(case: Case) -> Answer:
        if visit_near(case.record, label, column) is not None:
            return "met"
        return "not applicable" if _died_before(case, label) else "not met"

    return rule


def _opioids_at(case: Case, label: str) -> bool:
    time = nominal_time(label)
    return any(time.first < d <= time.last for d in case.record.course.opioids.days)


def _outcome_72h(case: Case) -> Answer:
    pain = _pain_at("D3")(case)
    told = _opioids_at(case, "D3") or visit_near(case.record, "D3", "medication") is not None
    if pain == "not applicable":
        return pain
    return _answer(pain == "met" and told)


def _walking(case: Case) -> Answer:
    after = _asked_at("M1", "walking")(case)
    if after == "not applicable":
        return after
    return _answer(after == "met" and walking_before(case.record) is not None)


def _medication(case: Case) -> Answer:
    days = case.record.course.opioids.days
    told = any(d <= 0 for d in days) and any(d > 0 for d in days)
    if told or last_said(case.record, "medication") is not None:
        return "met"
    return "not applicable" if _died_before(case, "Wk1") else "not met"


def _satisfaction(case: Case) -> Answer:
    asked = [last_said(case.record, a) for a in ("satisfied", "would_have_again")]
    if None not in asked:
        return "met"
    return "not applicable" if _died_before(case, "Wk1") else "not met"


def _fracture_level(case: Case) -> Answer:
    found = [e for e in case.record.course.events if e.kind.startswith("new fracture")]
    return _worst(_answer(e.level is not None) for e in found)


_SELECTION = ("E1", "E3", "E4", "N1")
RULES: Mapping[str, Callable[[Case], Answer]] = {
    "consent": _consent,
    "audit": lambda c: _answer(c.baseline.audit_registered),
    "governance": lambda c: _answer(c.baseline.governance_approved),
    "complete": _complete,
    "refractory": _verdict("E3"),
    "mdt": _mdt,
    "treatment history": _treatment_history,
    "radiotherapy wait": _verdict("E4"),
    "indication": _verdict("E1"),
    "goals": lambda c: _recorded(c.baseline.goals),
    "anaesthesia": _each_procedure("anaesthesia"),
    "needle": _needle,
    "guidance": _guidance,
    "cement": _cement("radiopacifier"),  # a device always has a name
    "cement lot": _cement("lot"),
    "injection start": _each_procedure("injection_start_s", cement_only=True),
    "leak handling": _leak_handling,
    "mobilisation": _each_procedure("mobilised_h"),
    "pain before": _pain_before,
    "outcome 72 h": _outcome_72h,
    "pain 1 week": _pain_at("Wk1"),
    "pain 1 month": _pain_at("M1"),
    "pain 3 months": _pain_at("M3"),
    "mobility 1 week": _asked_at("Wk1", "mobility"),
    "walking": _walking,
    "success definition": _each_procedure("technical_success", "success_definition"),
    "filling": _each_procedure("filling", cement_only=True),
    "leak search": _leak_search,
    "leak symptoms": _each_leak("symptomatic", "sequelae", "intervention"),
    "leak definition": _each_leak("definition"),
    "intra-articular": _intra_articular,
    "fever": _fever,
    "graded": _graded,
    "seen at 30 days": _seen,
    "benign": lambda c: _answer(
        None if c.record.lesion.diagnosis is None else c.record.lesion.diagnosis != "benign cyst"
    ),
    "yellow card": _yellow_card,
    "spinal surgery": _spinal_surgery,
    "spinal mdt": _spinal_mdt,
    "trained": lambda c: _answer(c.baseline.operator_trained),
    "experience": lambda c: _recorded(c.baseline.operator_cases),
    "cement instructions": _instructions,
    "unstable spine": _verdict("N1"),
    "medication": _medication,
    "satisfaction": _satisfaction,
    "fracture level": _fracture_level,
}
