"""May this lesion be treated by cementoplasty? The criteria of IPG179 and HTG3 as rules.

Each rule is a small function of one candidate. What is not known is never taken as met. The words
of the clauses are in the guidance; here stands what a record can show of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

from trocar.facts.source import load
from trocar.model.decision import Decision, Score, Status, Verdict
from trocar.model.study import Record
from trocar.selection.applied import MALIGNANT
from trocar.selection.cautions import CAUTIONS
from trocar.selection.rule import (
    Answer,
    Candidate,
    Rule,
    all_of,
    any_of,
    fact,
    first_day,
    last_day,
    none_of,
)

Coagulation = Literal["pass", "discuss", "fail", "unknown"]
_WORST_FIRST: tuple[Status, ...] = ("not met", "unknown", "discuss", "met", "not applicable")
_PROGNOSIS = ("katagiri", "tokuhashi", "tomita")


def decide(
    record: Record, *, procedure_date: str | None = None, rules: Sequence[Rule] | None = None
) -> Decision:
    """Is cementoplasty of this lesion supported? Every rule applied, and the scores that apply.

    ``procedure_date`` (ISO, may be a month) overrides that of the first procedure on record.
    ``rules`` are those of :data:`RULES` unless given: ``decide(record, rules=(*RULES, mine))``.
    A hard rule not met: not eligible. Else a hard rule not known or to be discussed: incomplete.
    Else eligible; soft rules are printed and change nothing. InputError for a date that is none.
    """
    candidate = Candidate.of(record, procedure_date=procedure_date)
    verdicts = tuple(rule(candidate) for rule in (RULES if rules is None else rules))
    return Decision(
        lesion_id=record.lesion_id,
        outcome=outcome(verdicts),
        verdicts=verdicts,
        scores=tuple(candidate.scores.values()),
        facts=_versions(),
    )


def outcome(verdicts: Iterable[Verdict]) -> Literal["eligible", "not eligible", "incomplete"]:
    """What the hard rules together say: the worst of them decides."""
    hard = {v.status for v in verdicts if v.hard}
    if "not met" in hard:
        return "not eligible"
    return "incomplete" if hard & {"unknown", "discuss"} else "eligible"


def worst_first(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts as a meeting must see them: not met, unknown, discuss, met; hard before soft."""
    return tuple(sorted(verdicts, key=lambda v: (_WORST_FIRST.index(v.status), not v.hard)))


def coagulation(*, inr: float | None, platelets_e9_l: float | None, high_risk: bool) -> Coagulation:
    """Does blood clot well enough? pass, discuss (a grey zone of INR), fail, or unknown.

    Source: SIR 2019 (Patel, JVIR 2019;30:1168-84).

    >>> coagulation(inr=1.6, platelets_e9_l=60, high_risk=True)
    'discuss'
    """
    risk = "high" if high_risk else "low"
    few = None if platelets_e9_l is None else platelets_e9_l < fact(f"platelets_{risk}")
    slow = None if inr is None else inr > fact(f"inr_{risk}_fail")
    if few or slow:
        return "fail"
    if inr is None or few is None:
        return "unknown"
    return "discuss" if inr > fact(f"inr_{risk}_pass") else "pass"


@cache
def _versions() -> dict[str, str]:
    tables = (load(name) for name in ("governance", "scores", "selection"))
    return {t.name: f"{t.version} ({t.sha256[:12]})" for t in tables}


# --- The rules ----------------------------------------------------------------------------------


def _diagnosis(c: Candidate) -> Answer:
    found = c.lesion.diagnosis
    if found is None:
        return Answer(status="unknown", reason="The diagnosis is not known.")
    if found in MALIGNANT or (
        found in ("osteoporotic fracture", "haemangioma") and c.lesion.spinal
    ):
        return Answer(
            status="met", reason="The lesion is: {diagnosis}.", values={"diagnosis": found}
        )
    if found == "benign cyst":
        return Answer(
            status="not met",
            reason="A benign cyst is no indication; very few data exist (IPG179 2.5.1).",
        )
    return Answer(
        status="not met",
        reason="No indication at this site: {diagnosis}.",
        values={"diagnosis": found},
    )


def _pain(c: Candidate) -> Answer:
    return all_of(
        {
            "pain": c.baseline.pain_present,
            "site of maximal pain": c.baseline.site_of_maximal_pain,
            "pain and imaging agree": c.baseline.matches_imaging,
        }
    )


def _refractory(c: Candidate) -> Answer:
    failed = c.baseline.failed_treatments
    strict = {True: "met", False: "not met", None: "unknown"}[hong_kong_refractory(c)]
    if failed is None:
        return Answer(
            status="unknown",
            reason="What was tried before is not known. Analgesia maximised and radiotherapy "
            "failed (the Hong Kong reading): {strict}.",
            values={"strict": strict},
        )
    if not failed:
        return Answer(
            status="not met",
            reason="No other treatment has failed. Analgesia maximised and radiotherapy failed "
            "(the Hong Kong reading): {strict}.",
            values={"strict": strict},
        )
    return Answer(
        status="met",
        reason="Failed: {failed}. Analgesia maximised and radiotherapy failed (the Hong Kong "
        "reading): {strict}.",
        values={"failed": ", ".join(failed), "strict": strict},
    )


def hong_kong_refractory(c: Candidate) -> bool | None:
    """The strict reading: analgesia maximised, radiotherapy to the lesion given and failed.

    A list of failures without radiotherapy says nothing where it may not have been given.
    Source: Hong Kong Med J 2013;19:317-22, subject selection.
    """
    b = c.baseline
    listed = None if b.failed_treatments is None else "radiotherapy" in b.failed_treatments
    failed = listed if b.radiotherapy_given else None
    if listed and b.radiotherapy_given is None:
        failed = True
    if not listed and b.radiotherapy_given is False:
        failed = False
    lacks = any_of(None if x is None else not x for x in (b.analgesia_maximised, failed))
    return None if lacks is None else not lacks


def _radiotherapy(c: Candidate) -> Answer:
    b = c.baseline
    told = b.radiotherapy_end is not None or "radiotherapy" in (b.failed_treatments or ())
    if told and b.radiotherapy_given is False:
        return Answer(
            status="unknown",
            reason="The record contradicts itself on whether the lesion was irradiated.",
        )
    if not told and b.radiotherapy_given is None:
        return Answer(status="unknown", reason="Whether the lesion was irradiated is not known.")
    if not told and not b.radiotherapy_given:
        return Answer(status="not applicable", reason="The lesion was not irradiated.")
    if b.radiotherapy_end is None:
        return Answer(
            status="unknown", reason="The last day of radiotherapy to the lesion is not known."
        )
    # Pain is scored just before the procedure; a decision made earlier stands in for it.
    day = b.decided_on if c.procedure_date is None else c.procedure_date
    if day is None:
        return Answer(
            status="unknown",
            reason="Neither the day of the procedure nor that of the decision is known, so the "
            "time since radiotherapy is not.",
        )
    wait = fact("radiotherapy_wait")
    least = (first_day(day) - last_day(b.radiotherapy_end)).days
    most = (last_day(day) - first_day(b.radiotherapy_end)).days
    if least >= wait:
        return Answer(
            status="met",
            reason="Radiotherapy ended {days} days before or more, at least {wait:.0f}.",
            values={"days": least, "wait": wait},
        )
    if b.radiotherapy_override is not None:
        return Answer(
            status="met",
            reason="Radiotherapy may have ended less than {wait:.0f} days before; reason not to "
            "wait: {why}.",
            values={"wait": wait, "why": b.radiotherapy_override},
        )
    if most < wait:
        return Answer(
            status="not met",
            reason="Response to radiotherapy cannot be judged yet: {wait:.0f} days must have "
            "passed, it was {days} at most.",
            values={"wait": wait, "days": most},
        )
    return Answer(
        status="unknown",
        reason="Dates without a day do not tell whether {wait:.0f} days have passed since "
        "radiotherapy.",
        values={"wait": wait},
    )


def _meeting(c: Candidate) -> Answer:
    b = c.baseline
    members = b.mdt_members
    checks = {"multidisciplinary meeting before the procedure": c.before_procedure(b.mdt_date)}
    if c.lesion.spinal:
        checks |= {
            "radiologist in the meeting": None if members is None else "radiology" in members,
            "spinal surgeon in the meeting": (
                None if members is None else "spinal surgery" in members
            ),
            "good access to spinal surgery": b.spinal_surgery_access,
        }
    else:
        least = load("governance")["mdt_specialties"].mean
        checks["several specialties in the meeting"] = (
            None if members is None else len(members) >= least
        )
    return all_of(checks)


def _arrangements(c: Candidate) -> Answer:
    return all_of(
        {
            "consent before the procedure": c.before_procedure(c.baseline.consent_date),
            "entry into the audit": c.baseline.audit_registered,
            "approval by clinical governance": c.baseline.governance_approved,
        }
    )


def _operator(c: Candidate) -> Answer:
    return all_of({"trained operator": c.baseline.operator_trained})


def _contraindications(c: Candidate) -> Answer:
    b = c.baseline
    checks = {
        "active infection": b.infection,
        "coagulopathy that cannot be corrected": b.uncorrectable_coagulopathy,
        "allergy to cement": b.cement_allergy,
        "stable lesion that does not hurt": b.asymptomatic_stable,
    }
    if c.lesion.spinal:
        checks["fracture or fragment compressing the cord"] = b.cord_compression_fragment
    return none_of(checks, found_is="not met")


def _clotting(c: Candidate) -> Answer:
    b = c.baseline
    ablated = any(p.techniques is None or p.ablation for p in c.procedures)
    axial = c.lesion.spinal or c.lesion.sacral or c.pelvic
    low = bool(b.superficial_extremity) and b.planned_ablation == "none"
    high_risk = axial or ablated or not low
    found = coagulation(inr=b.inr, platelets_e9_l=b.platelets_e9_l, high_risk=high_risk)
    values = {
        "risk": "high-risk procedure" if high_risk else "low-risk procedure",
        "inr": "not known" if b.inr is None else f"{b.inr:g}",
        "platelets": "not known" if b.platelets_e9_l is None else f"{b.platelets_e9_l:g} ×10⁹/L",
    }
    if found == "discuss":
        return Answer(
            status="discuss",
            reason="INR {inr} is in the grey zone, platelets {platelets}; {risk}.",
            values=values,
        )
    statuses: dict[Coagulation, Status] = {"pass": "met", "fail": "not met", "unknown": "unknown"}
    return Answer(
        status=statuses[found],
        reason="INR {inr}, platelets {platelets}; {risk}.",
        values=values,
    )


def _expectation(c: Candidate) -> Answer:
    if c.malignant is False:
        return Answer(status="not applicable", reason="The lesion is no malignant tumour.")
    months = c.baseline.expected_survival_months
    if months is not None:
        if months < fact("short_survival"):
            return Answer(
                status="discuss",
                reason="Expected survival is {months:g} months, below {limit:g}; the sources give "
                "no cut-off, the meeting weighs the gain.",
                values={"months": months, "limit": fact("short_survival")},
                evidence="general knowledge",
                hard=False,  # a warning: no source has a cut-off
            )
        return Answer(
            status="met",
            reason="Expected survival is {months:g} months.",
            values={"months": months},
        )
    scored = next((s for n in _PROGNOSIS if (s := _known(c, n)) is not None), None)
    if scored is not None:
        return Answer(
            status="met",
            reason="{score} has {points:g} points: {group}.",
            values={"score": scored.name, "points": scored.points, "group": scored.group},
            evidence=scored.evidence,
        )
    return Answer(
        status="unknown", reason="No expected survival and no prognosis score was recorded."
    )


def _fracture_risk(c: Candidate) -> Answer:
    score = c.scores.get("mirels")
    if score is None:
        return Answer(status="not applicable", reason="The lesion is not in a long bone.")
    if score.points is None:
        return Answer(
            status="unknown",
            reason="Mirels is not known; lacking: {missing}.",
            values={"missing": ", ".join(score.missing)},
        )
    values = {"points": score.points, "group": score.group}
    if score.points < fact("mirels_consider"):
        return Answer(status="met", reason="Mirels has {points:g} points: {group}.", values=values)
    if c.baseline.surgical_opinion == "cementoplasty":
        return Answer(
            status="met",
            reason="Mirels has {points:g} points: {group}. A surgeon advised cementoplasty.",
            values=values,
        )
    if score.points < fact("mirels_fixation") and c.lesion.site != "humerus":
        return Answer(
            status="discuss",
            reason="Mirels has {points:g} points: {group}. Consider fixation.",
            values=values,
        )
    return Answer(
        status="discuss",
        reason="Mirels has {points:g} points: {group}. A surgeon must advise on fixation before "
        "cement alone.",
        values=values,
    )


def _stability(c: Candidate) -> Answer:
    sins, cord = c.scores.get("sins"), c.scores.get("escc")
    if sins is None:
        return Answer(status="not applicable", reason="SINS and ESCC do not apply to this lesion.")
    # SINS reaches into the sacrum; where it is known there it counts, but only a vertebra needs it.
    if cord is None and sins.points is None:
        return Answer(status="not applicable", reason="The lesion is not in a vertebra.")
    if cord is not None and cord.points is not None and cord.points >= fact("escc_high"):
        return Answer(
            status="not met",
            reason="ESCC {group}: urgent surgery or radiotherapy, not cementoplasty alone.",
            values={"group": cord.group},
        )
    missing = (*sins.missing, *(cord.missing if cord is not None else ()))
    if missing or sins.points is None:
        return Answer(
            status="unknown",
            reason="SINS or ESCC is not known; lacking: {missing}.",
            values={"missing": ", ".join(missing)},
        )
    values = {"points": sins.points, "group": sins.group}
    if sins.points < fact("sins_consultation"):
        return Answer(
            status="met",
            reason="SINS has {points:g} points: {group}.",
            values=values,
            evidence=sins.evidence,
        )
    if c.baseline.surgical_opinion == "cementoplasty":
        return Answer(
            status="met",
            reason="SINS has {points:g} points: {group}. A surgeon advised cementoplasty.",
            values=values,
            evidence=sins.evidence,
        )
    return Answer(
        status="discuss",
        reason="SINS has {points:g} points: {group}. A surgeon is to be consulted.",
        values=values,
        evidence=sins.evidence,
    )


def _surgeon(c: Candidate) -> Answer:
    opinion = c.baseline.surgical_opinion
    if opinion is None:
        return Answer(status="not applicable", reason="No surgeon's opinion is recorded.")
    if opinion == "surgery first":
        return Answer(status="not met", reason="A surgeon advised surgery first.")
    return Answer(status="met", reason="A surgeon advised cementoplasty.")


def _unstable_spine(c: Candidate) -> Answer:
    if not c.lesion.spinal or c.malignant is False:
        return Answer(status="not applicable", reason="The lesion is no malignant spinal tumour.")
    sins, cord = c.scores["sins"], c.scores["escc"]
    checks = {
        "unstable spine by SINS": (
            None if sins.points is None else sins.points >= fact("sins_unstable")
        ),
        "cord compression by ESCC": (
            None if cord.points is None else cord.points >= fact("escc_high")
        ),
        "new neurological deficit": c.baseline.new_neuro_deficit,
    }
    if c.malignant is None and True in checks.values():
        return Answer(
            status="unknown",
            reason="Whether the lesion is malignant is not known; if it is, it is not to be "
            "treated by cement alone.",
        )
    return replace(none_of(checks, found_is="not met"), evidence=sins.evidence)


def _known(c: Candidate, name: str) -> Score | None:
    """A score of the candidate that has points."""
    score = c.scores.get(name)
    return None if score is None or score.points is None else score


RULES: tuple[Rule, ...] = (
    Rule(
        rule_id="E1",
        title="Indication",
        clause="IPG179 2.1.2; HTG3 2.1.1",
        function=_diagnosis,
    ),
    Rule(
        rule_id="E2",
        title="Pain comes from this lesion",
        clause="Ablation and cementoplasty article, case selection",
        function=_pain,
    ),
    Rule(
        rule_id="E3",
        title="Other treatments have failed",
        clause="IPG179 1.1; HTG3 1.2; Hong Kong Med J 2013;19:317-22",
        function=_refractory,
    ),
    Rule(
        rule_id="E4",
        title="Radiotherapy has had its time",
        clause="IPG179 2.1.1",
        function=_radiotherapy,
    ),
    Rule(
        rule_id="E5",
        title="Multidisciplinary meeting",
        clause="IPG179 1.2; HTG3 1.2",
        function=_meeting,
    ),
    Rule(
        rule_id="E6",
        title="Consent, audit, governance",
        clause="IPG179 1.1; HTG3 1.1",
        function=_arrangements,
    ),
    Rule(rule_id="E7", title="Trained operator", clause="HTG3 1.2", function=_operator),
    Rule(
        rule_id="E8",
        title="No absolute contraindication",
        clause="CIRSE, CVIR 2017;40:331-42",
        function=_contraindications,
        evidence="general knowledge",
    ),
    Rule(
        rule_id="E9",
        title="Coagulation",
        clause="SIR, JVIR 2019;30:1168-84",
        function=_clotting,
    ),
    Rule(
        rule_id="E10",
        title="Prognosis recorded",
        clause="Ablation and cementoplasty article, case selection",
        function=_expectation,
    ),
    Rule(
        rule_id="E11",
        title="Fracture risk of a long bone",
        clause="Mirels 1989; Eur Radiol 2014;24:731-7",
        function=_fracture_risk,
    ),
    Rule(
        rule_id="E12",
        title="Stability and cord of the spine",
        clause="Fisher 2010 (SINS); Bilsky 2010 (ESCC)",
        function=_stability,
    ),
    Rule(
        rule_id="N1",
        title="Not unstable, not compressing the cord",
        clause="NICE NG234, read with HTG3",
        function=_unstable_spine,
    ),
    Rule(
        rule_id="S1",
        title="Surgeon's opinion",
        clause="Mirels 1989; Fisher 2010 (SINS)",
        function=_surgeon,
    ),
    *CAUTIONS,
)
