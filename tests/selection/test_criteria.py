"""Each rule of eligibility in each status, the outcome, coagulation, and what forgetting may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.model.columns import Column, columns
from trocar.model.course import Procedure
from trocar.model.decision import Verdict
from trocar.model.patient import SITES, Baseline, PainfulLesion, Patient
from trocar.model.study import Record
from trocar.selection import RULES, Answer, Candidate, Rule, coagulation, decide, worst_first

Make = Callable[..., Record]
Find = Callable[..., Verdict]
HERE = ("L3", "acetabulum", "S2", "humerus", "femur", "rib")
E_AND_N = ("E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10", "E11", "E12", "N1")


@pytest.mark.parametrize("site", HERE)
def test_what_has_everything_is_eligible(make: Make, site: str) -> None:
    decision = decide(make(site))
    assert decision.outcome == "eligible"
    assert decision.of("unknown") == decision.of("discuss") == decision.of("not met") == ()
    assert tuple(v.rule for v in decision.verdicts if v.rule in E_AND_N) == E_AND_N


def test_what_has_nothing_is_not_known(make: Make) -> None:
    record = replace(make(), baseline=None)
    decision = decide(record)
    assert decision.outcome == "incomplete"
    # The list of the lesion still tells the diagnosis; no rule is met for want of a fact.
    assert [v.rule for v in decision.of("met")] == ["E1", "P2"]
    assert decision.of("not met") == ()
    assert all(s.points is None for s in decision.scores)


# --- Each rule in each status -------------------------------------------------------------------

MDT = "multidisciplinary meeting before the procedure"


@pytest.mark.parametrize(
    ("rule", "site", "changes", "status", "says"),
    [
        # E1 indication
        ("E1", "L3", {}, "met", "metastasis"),
        ("E1", "rib", {"diagnosis": "primary malignant bone tumour"}, "met", "primary malignant"),
        ("E1", "rib", {"diagnosis": "myeloma"}, "met", "myeloma"),
        ("E1", "L3", {"diagnosis": "osteoporotic fracture"}, "met", "osteoporotic"),
        ("E1", "L3", {"diagnosis": "haemangioma"}, "met", "haemangioma"),
        ("E1", "S2", {"diagnosis": "osteoporotic fracture"}, "not met", "at this site"),
        ("E1", "rib", {"diagnosis": "haemangioma"}, "not met", "at this site"),
        ("E1", "rib", {"diagnosis": "benign cyst"}, "not met", "very few data"),
        ("E1", "L3", {"diagnosis": "other"}, "not met", "other"),
        ("E1", "L3", {"diagnosis": None}, "unknown", "not known"),
        # E2 pain
        ("E2", "L3", {}, "met", "pain"),
        ("E2", "L3", {"pain_present": False}, "not met", "Lacking: pain."),
        ("E2", "L3", {"site_of_maximal_pain": False}, "not met", "site of maximal pain"),
        ("E2", "L3", {"matches_imaging": False}, "not met", "imaging"),
        ("E2", "L3", {"matches_imaging": None}, "unknown", "Not known: pain and imaging agree."),
        (
            "E2",
            "L3",
            {"pain_present": None, "matches_imaging": False},
            "not met",
            "Lacking: pain and imaging agree. Not known: pain.",
        ),
        # E3 refractory, with the strict reading beside it
        ("E3", "L3", {}, "met", "opioids, radiotherapy. Analgesia maximised"),
        ("E3", "L3", {}, "met", "(the Hong Kong reading): met."),
        ("E3", "L3", {"analgesia_maximised": False}, "met", "reading): not met."),
        ("E3", "L3", {"analgesia_maximised": None}, "met", "reading): unknown."),
        ("E3", "L3", {"failed_treatments": ("opioids",)}, "met", "reading): not met."),
        (
            "E3",
            "L3",
            {"failed_treatments": ("opioids",), "radiotherapy_given": None},
            "met",
            "reading): unknown.",
        ),
        (
            "E3",
            "L3",
            {"failed_treatments": ("opioids",), "radiotherapy_given": False},
            "met",
            "reading): not met.",
        ),
        ("E3", "L3", {"radiotherapy_given": None}, "met", "reading): met."),
        ("E3", "L3", {"radiotherapy_given": False}, "met", "reading): unknown."),
        ("E3", "L3", {"failed_treatments": ()}, "not met", "No other treatment has failed."),
        ("E3", "L3", {"failed_treatments": None}, "unknown", "not known"),
        # E4 radiotherapy: the procedure is on 6 March
        ("E4", "L3", {"radiotherapy_end": "2026-02-20"}, "met", "ended 14 days"),
        ("E4", "L3", {"radiotherapy_end": "2026-02-21"}, "not met", "it was 13 at most"),
        ("E4", "L3", {"radiotherapy_end": "2026-03-20"}, "not met", "it was -14 at most"),
        ("E4", "L3", {"radiotherapy_end": "2026-01"}, "met", "ended 34 days"),
        ("E4", "L3", {"radiotherapy_end": "2026-02"}, "unknown", "Dates without a day"),
        ("E4", "L3", {"radiotherapy_end": "2026"}, "unknown", "Dates without a day"),
        (
            "E4",
            "L3",
            {"radiotherapy_end": "2026-03-01", "radiotherapy_override": "screams"},
            "met",
            "reason not to wait: screams",
        ),
        ("E4", "L3", {"radiotherapy_end": None}, "unknown", "last day of radiotherapy"),
        (
            "E4",
            "L3",
            {
                "radiotherapy_given": None,
                "radiotherapy_end": None,
                "failed_treatments": ("opioids",),
            },
            "unknown",
            "irradiated is not known",
        ),
        (
            "E4",
            "L3",
            {
                "radiotherapy_given": False,
                "radiotherapy_end": None,
                "failed_treatments": ("opioids",),
            },
            "not applicable",
            "not irradiated",
        ),
        ("E4", "L3", {"radiotherapy_given": False}, "unknown", "contradicts itself"),
        (
            "E4",
            "L3",
            {"radiotherapy_given": False, "radiotherapy_end": None},
            "unknown",
            "contradicts itself",
        ),
        (
            "E4",
            "L3",
            {"radiotherapy_given": None, "failed_treatments": ("opioids",)},
            "met",
            "ended 33 days",
        ),
        (
            "E4",
            "L3",
            {"radiotherapy_given": None, "radiotherapy_end": None},
            "unknown",
            "last day of radiotherapy",
        ),
        (
            "E4",
            "L3",
            {"radiotherapy_end": None, "failed_treatments": ("opioids",)},
            "unknown",
            "last day of radiotherapy",
        ),
        ("E4", "L3", {"procedures": (), "decided_on": None}, "unknown", "Neither the day"),
        (
            "E4",
            "L3",
            {"procedures": (), "decided_on": "2026-02-14"},
            "not met",
            "it was 13 at most",
        ),
        # E5 meeting
        ("E5", "L3", {}, "met", MDT),
        ("E5", "L3", {"mdt_date": "2026-03-06"}, "met", MDT),
        ("E5", "L3", {"mdt_date": "2026-03-07"}, "not met", f"Lacking: {MDT}."),
        ("E5", "L3", {"mdt_date": None}, "unknown", MDT),
        ("E5", "L3", {"mdt_date": "2026-03"}, "unknown", MDT),
        ("E5", "L3", {"mdt_date": "2026-02"}, "met", MDT),
        ("E5", "L3", {"mdt_members": ("radiology", "oncology")}, "not met", "spinal surgeon"),
        ("E5", "L3", {"mdt_members": ("spinal surgery",)}, "not met", "radiologist"),
        ("E5", "L3", {"mdt_members": None}, "unknown", "radiologist in the meeting, spinal"),
        ("E5", "L3", {"spinal_surgery_access": False}, "not met", "access to spinal surgery"),
        ("E5", "L3", {"spinal_surgery_access": None}, "unknown", "access to spinal surgery"),
        ("E5", "rib", {"spinal_surgery_access": False}, "met", "several specialties"),
        ("E5", "rib", {"mdt_members": ("oncology", "radiotherapy")}, "met", "several"),
        ("E5", "rib", {"mdt_members": ("oncology",)}, "not met", "several specialties"),
        ("E5", "rib", {"mdt_members": ()}, "not met", "several specialties"),
        ("E5", "rib", {"mdt_members": None}, "unknown", "several specialties"),
        # E6 arrangements
        ("E6", "L3", {}, "met", "consent"),
        ("E6", "L3", {"consent_date": "2026-03-07"}, "not met", "consent before the procedure"),
        ("E6", "L3", {"consent_date": None}, "unknown", "consent before the procedure"),
        ("E6", "L3", {"audit_registered": False}, "not met", "entry into the audit"),
        ("E6", "L3", {"audit_registered": None}, "unknown", "entry into the audit"),
        ("E6", "L3", {"governance_approved": False}, "not met", "approval"),
        ("E6", "L3", {"governance_approved": None}, "unknown", "approval"),
        # E7 operator
        ("E7", "L3", {}, "met", "trained"),
        ("E7", "L3", {"operator_trained": False}, "not met", "trained"),
        ("E7", "L3", {"operator_trained": None}, "unknown", "trained"),
        # E8 absolute contraindications
        ("E8", "L3", {}, "met", "None of 5 is present (active infection, "),
        ("E8", "rib", {"cord_compression_fragment": None}, "met", "None of 4"),
        ("E8", "L3", {"infection": True}, "not met", "Present: active infection."),
        ("E8", "L3", {"uncorrectable_coagulopathy": True}, "not met", "coagulopathy"),
        ("E8", "L3", {"cement_allergy": True, "infection": None}, "not met", "allergy to cement."),
        ("E8", "L3", {"cord_compression_fragment": True}, "not met", "fragment"),
        ("E8", "L3", {"asymptomatic_stable": True}, "not met", "does not hurt"),
        *[
            ("E8", "L3", {c: None}, "unknown", "Not known")
            for c in (
                "infection",
                "uncorrectable_coagulopathy",
                "cement_allergy",
                "cord_compression_fragment",
                "asymptomatic_stable",
            )
        ],
        # E9 coagulation
        ("E9", "L3", {"inr": 1.5, "platelets_e9_l": 50}, "met", "high-risk"),
        ("E9", "L3", {"inr": 1.6, "platelets_e9_l": 60}, "discuss", "grey zone"),
        ("E9", "L3", {"inr": 1.4, "platelets_e9_l": 49}, "not met", "platelets 49 ×10⁹/L"),
        ("E9", "L3", {"inr": None}, "unknown", "INR not known"),
        ("E9", "L3", {"platelets_e9_l": None}, "unknown", "platelets not known;"),
        ("E9", "humerus", {"inr": 2.5, "superficial_extremity": True}, "met", "low-risk"),
        ("E9", "humerus", {"inr": 2.5, "superficial_extremity": None}, "not met", "high-risk"),
        ("E9", "acetabulum", {"inr": 2.5, "superficial_extremity": True}, "not met", "high-risk"),
        ("E9", "S2", {"inr": 2.5, "superficial_extremity": True}, "not met", "high-risk"),
        (
            "E9",
            "humerus",
            {"inr": 2.5, "superficial_extremity": True, "planned_ablation": "cryo"},
            "not met",
            "high-risk",
        ),
        (
            "E9",
            "humerus",
            {"inr": 2.5, "superficial_extremity": True, "planned_ablation": None},
            "not met",
            "high-risk",
        ),
        # E10 prognosis
        ("E10", "L3", {}, "met", "8 months"),
        ("E10", "L3", {"expected_survival_months": 1}, "met", "1 months"),
        ("E10", "L3", {"expected_survival_months": 0.9}, "discuss", "no cut-off"),
        ("E10", "L3", {"expected_survival_months": None}, "met", "Revised Tokuhashi has 11"),
        ("E10", "rib", {"expected_survival_months": None}, "unknown", "no prognosis score"),
        ("E10", "L3", {"diagnosis": "haemangioma"}, "not applicable", "no malignant"),
        # E11 long bone
        ("E11", "humerus", {}, "met", "Mirels has 6 points: low risk."),
        ("E11", "L3", {}, "not applicable", "long bone"),
        ("E11", "femur", {"peritrochanteric": None}, "unknown", "lacking: site"),
        ("E11", "femur", {"nature": None, "mirels_pain": None}, "unknown", "nature, pain"),
        ("E11", "femur", {"mirels_size_fraction": 0.5}, "discuss", "8 points: borderline. Cons"),
        ("E11", "femur", {"mirels_pain": "functional"}, "discuss", "must advise on fixation"),
        ("E11", "humerus", {"mirels_pain": "functional"}, "discuss", "must advise on fixation"),
        (
            "E11",
            "femur",
            {"mirels_pain": "functional", "surgical_opinion": "cementoplasty"},
            "met",
            "A surgeon advised cementoplasty",
        ),
        # E12 spine
        ("E12", "L3", {}, "met", "SINS has 7"),
        ("E12", "rib", {}, "not applicable", "do not apply"),
        ("E12", "L3", {"diagnosis": "osteoporotic fracture"}, "not applicable", "do not apply"),
        ("E12", "L3", {"sins_pain": None}, "unknown", "lacking: pain"),
        ("E12", "L3", {"escc": None}, "unknown", "ESCC grade"),
        ("E12", "L3", {"escc": "2", "sins_pain": None}, "not met", "grade 2 (high)"),
        ("E12", "L3", {"escc": "3"}, "not met", "not cementoplasty alone"),
        ("E12", "L3", {"escc": "1c"}, "met", "SINS has 7"),
        ("E12", "L3", {"surgical_opinion": None}, "discuss", "A surgeon is to be consulted"),
        ("E12", "S2", {}, "not applicable", "not in a vertebra"),
        # N1
        ("N1", "L3", {}, "met", "None of 3"),
        ("N1", "rib", {}, "not applicable", "no malignant spinal"),
        ("N1", "L3", {"diagnosis": "haemangioma", "escc": "3"}, "not applicable", "no malignant"),
        ("N1", "L3", {"escc": "2"}, "not met", "cord compression"),
        ("N1", "L3", {"new_neuro_deficit": True}, "not met", "new neurological deficit"),
        (
            "N1",
            "L3",
            {"sins_alignment": "subluxation", "sins_pain": "mechanical"},
            "not met",
            "unstable spine by SINS",
        ),
        ("N1", "L3", {"escc": None}, "unknown", "cord compression by ESCC"),
        ("N1", "L3", {"sins_pain": None}, "unknown", "unstable spine by SINS"),
        ("N1", "L3", {"new_neuro_deficit": None}, "unknown", "new neurological deficit"),
        ("N1", "L3", {"diagnosis": None, "escc": "2"}, "unknown", "if it is"),
        ("N1", "L3", {"diagnosis": None}, "met", "None of 3"),
        # S1
        ("S1", "rib", {}, "not applicable", "No surgeon's opinion"),
        ("S1", "rib", {"surgical_opinion": "surgery first"}, "not met", "surgery first"),
        ("S1", "rib", {"surgical_opinion": "cementoplasty"}, "met", "cementoplasty"),
    ],
)
def test_a_rule_in_each_status(
    verdict: Find, rule: str, site: str, changes: dict[str, Any], status: str, says: str
) -> None:
    found = verdict(rule, site, **changes)
    assert found.status == status
    assert says in found.text
    assert found.clause
    assert found.hard == (not (rule == "E10" and status == "discuss"))


def test_months_leave_the_wait_open_where_they_can_mean_either(verdict: Find) -> None:
    """From 1 February it is 14 days to 15 February and 13 to the 14th."""
    for day, status in (("2026-02-15", "unknown"), ("2026-02-14", "not met")):
        assert verdict("E4", radiotherapy_end="2026-02", procedure_date=day).status == status
    for day, status in (("2026-03-14", "met"), ("2026-03-13", "unknown")):
        assert verdict("E4", radiotherapy_end="2026-02", procedure_date=day).status == status


def test_sins_decides_at_7_and_13(verdict: Find) -> None:
    """L3 lytic with occasional pain: 2 + 1 + 2, and 0 to 3 for the collapse, 0 to 3 behind it."""
    opinion = {"surgical_opinion": None}
    for collapse, involved, behind, points, status in (
        (0, 10, "none", 5, "met"),
        (0, 60, "none", 6, "met"),
        (20, 60, "none", 7, "discuss"),
        (80, 60, "bilateral", 11, "discuss"),
    ):
        found = verdict(
            "E12",
            sins_collapse_percent=collapse,
            sins_body_involved_percent=involved,
            sins_posterolateral=behind,
            **opinion,
        )
        assert (found.values["points"], found.status) == (points, status)
    high = {"sins_pain": "mechanical", "sins_alignment": "deformity", **opinion}
    assert verdict("N1", **high, sins_collapse_percent=20).status == "met"  # 11
    twelve = verdict("N1", **high, sins_collapse_percent=80)
    thirteen = verdict("N1", **high, sins_collapse_percent=80, sins_posterolateral="unilateral")
    assert (twelve.status, thirteen.status) == ("met", "not met")


def test_a_sacral_sins_counts_where_it_is_known(verdict: Find) -> None:
    known = {
        "sins_pain": "mechanical",
        "sins_alignment": "normal",
        "sins_collapse_percent": 60.0,
        "sins_posterolateral": "none",
    }
    assert verdict("E12", "S2", **known).status == "discuss"  # 0 + 3 + 2 + 0 + 3 + 0 = 8
    assert verdict("E12", "S2", **known, surgical_opinion="cementoplasty").status == "met"
    assert verdict("E12", "S2", **{**known, "sins_pain": "none"}).status == "met"


def test_mirels_decides_at_8_and_9_and_in_the_humerus_at_8(verdict: Find) -> None:
    for site, least in (("humerus", 6), ("femur", 7)):
        for more, size in enumerate((0.25, 0.5, 0.8)):
            found = verdict("E11", site, mirels_size_fraction=size)
            assert found.values["points"] == least + more
            assert found.status == ("met" if least + more < 8 else "discuss")
    assert verdict("E11", "humerus", mirels_size_fraction=0.8).text.endswith("cement alone.")
    assert verdict("E11", "femur", mirels_size_fraction=0.5).text.endswith("Consider fixation.")


def test_exactly_half_a_body_weakens_the_evidence(verdict: Find) -> None:
    assert verdict("E12", sins_collapse_percent=50.0).evidence == "general knowledge"
    assert verdict("N1", sins_collapse_percent=50.0).evidence == "general knowledge"
    assert verdict("E12", sins_collapse_percent=49.0).evidence == "verified"


def test_evidence_of_the_other_rules(verdict: Find) -> None:
    assert verdict("E8").evidence == "general knowledge"
    assert verdict("E10", expected_survival_months=0.5).evidence == "general knowledge"
    assert verdict("E10", expected_survival_months=None).evidence == "verified"
    for rule in ("E1", "E2", "E3", "E4", "E5", "E6", "E7", "E9", "E11"):
        assert verdict(rule).evidence == "verified"


# --- The day of the procedure ---------------------------------------------------------------------


def _done(*dates: str | None) -> tuple[Procedure, ...]:
    return tuple(
        Procedure(procedure_id=str(i), lesion_id="1", date=d, techniques=("cement",))
        for i, d in enumerate(dates)
    )


@pytest.mark.parametrize(
    ("dates", "given", "status"),
    [
        ((), None, "met"),  # still to come
        (("2026-03-06",), None, "met"),
        (("2026-04-06", "2026-03-01"), None, "not met"),  # the first counts
        ((None,), None, "unknown"),
        (("2026-03-06", None), None, "unknown"),  # the one without a date may be the first
        ((None,), "2026-03-06", "met"),
        (("2026-03-06",), "2026-03-01", "not met"),
        (("2026-03-06",), "2026-03", "unknown"),
        (("2026-03-06",), "2027", "met"),
    ],
)
def test_the_meeting_must_come_before_the_procedure(
    verdict: Find, dates: tuple[str | None, ...], given: str | None, status: str
) -> None:
    found = verdict("E5", procedures=_done(*dates), procedure_date=given)
    assert found.status == status


def test_a_day_that_is_none_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="procedure_date is '6 March'; expected a date written"):
        decide(make(), procedure_date="6 March")


def test_a_done_ablation_counts_whatever_was_planned(verdict: Find) -> None:
    done = _done("2026-03-06")[0]
    low = {"inr": 2.5, "superficial_extremity": True, "planned_ablation": "none"}
    for techniques, status in ((("cement",), "met"), (("cryo", "cement"), "not met")):
        procedures = (replace(done, techniques=techniques),)
        assert verdict("E9", "humerus", **low, procedures=procedures).status == status
    procedures = (replace(done, techniques=None),)
    assert verdict("E9", "humerus", **low, procedures=procedures).status == "not met"


# --- Coagulation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inr", "platelets", "high", "low"),
    [
        (1.5, 50, "pass", "pass"),
        (1.51, 50, "discuss", "pass"),
        (1.8, 50, "discuss", "pass"),
        (1.81, 50, "fail", "pass"),
        (1.0, 49.9, "fail", "pass"),
        (3.0, 20, "fail", "pass"),
        (3.01, 20, "fail", "fail"),
        (3.0, 19.9, "fail", "fail"),
        (1.6, 60, "discuss", "pass"),
        (1.4, 49, "fail", "pass"),
        (None, 200, "unknown", "unknown"),
        (1.0, None, "unknown", "unknown"),
        (None, None, "unknown", "unknown"),
        (None, 10, "fail", "fail"),
        (3.5, None, "fail", "fail"),
        (1.6, None, "unknown", "unknown"),
    ],
)
def test_coagulation(inr: float | None, platelets: float | None, high: str, low: str) -> None:
    assert coagulation(inr=inr, platelets_e9_l=platelets, high_risk=True) == high
    assert coagulation(inr=inr, platelets_e9_l=platelets, high_risk=False) == low


# --- Outcome, order, own rules ------------------------------------------------------------------


def _rule(status: str, *, hard: bool = True) -> Rule:
    return Rule(
        rule_id=f"{status} {hard}",
        title="Made up",
        clause="none",
        function=lambda _: Answer(status=status, reason="Because."),  # type: ignore[arg-type]
        hard=hard,
    )


@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        ([], "eligible"),
        ([_rule("met"), _rule("not applicable")], "eligible"),
        ([_rule("met"), _rule("unknown")], "incomplete"),
        ([_rule("met"), _rule("discuss")], "incomplete"),
        ([_rule("unknown"), _rule("not met")], "not eligible"),
        ([_rule(s, hard=False) for s in ("not met", "unknown", "discuss")], "eligible"),
    ],
)
def test_the_worst_hard_rule_decides(make: Make, rules: list[Rule], outcome: str) -> None:
    assert decide(make(), rules=rules).outcome == outcome


def test_a_unit_adds_its_own_rule(make: Make) -> None:
    def lives_near(c: Candidate) -> Answer:
        if c.patient.age_years is None:
            return Answer(status="unknown", reason="The age is not known.")
        return Answer(status="not met", reason="Aged {age:g}.", values={"age": c.patient.age_years})

    mine = Rule(rule_id="X1", title="Age", clause="our unit", function=lives_near)
    decision = decide(make(), rules=(*RULES, mine))
    assert decision.outcome == "not eligible"
    assert decision.verdicts[-1].text == "Aged 61."


def test_worst_first() -> None:
    statuses = ("met", "not applicable", "discuss", "not met", "unknown")
    verdicts = [
        _rule(s, hard=h)(Candidate.__new__(Candidate)) for h in (False, True) for s in statuses
    ]
    assert [(v.status, v.hard) for v in worst_first(verdicts)] == [
        (s, h)
        for s in ("not met", "unknown", "discuss", "met", "not applicable")
        for h in (True, False)
    ]


def test_the_versions_of_the_tables_are_said(make: Make) -> None:
    assert set(decide(make()).facts) == {"governance", "scores", "selection"}


# --- What forgetting a fact may do ----------------------------------------------------------------

_KINDS = {"patient": Patient, "lesion": PainfulLesion, "baseline": Baseline}
FACTS = [
    (table, c)
    for table, cls in _KINDS.items()
    for c in columns(cls)
    if not c.required and c.name != "note"
]
EVERYWHERE = (
    "diagnosis",
    "pain_present",
    "site_of_maximal_pain",
    "matches_imaging",
    "failed_treatments",
    "radiotherapy_end",
    "mdt_date",
    "mdt_members",
    "consent_date",
    "audit_registered",
    "governance_approved",
    "operator_trained",
    "infection",
    "uncorrectable_coagulopathy",
    "cement_allergy",
    "asymptomatic_stable",
    "inr",
    "platelets_e9_l",
)
SPINE = (
    "nature",
    "spinal_surgery_access",
    "surgical_opinion",
    "cord_compression_fragment",
    "new_neuro_deficit",
    "sins_pain",
    "sins_alignment",
    "sins_collapse_percent",
    "sins_posterolateral",
    "escc",
)
NEEDED = {
    "L3": SPINE,
    "acetabulum": ("expected_survival_months",),
    "S2": ("expected_survival_months",),
    "humerus": ("expected_survival_months", "nature", "mirels_size_fraction", "mirels_pain"),
    "femur": (
        "expected_survival_months",
        "nature",
        "mirels_size_fraction",
        "mirels_pain",
        "peritrochanteric",
    ),
    "rib": ("expected_survival_months",),
}
# Soft rules say that they are not known; the outcome stays.
SHOWN = {
    "soft_tissue": HERE,
    "cortical_defect": HERE,
    "pregnancy": HERE,
    "severe_cardiopulmonary": HERE,
    "levels_per_session": HERE,
    "nature": ("acetabulum", "S2", "rib"),
    "joint_surface": ("acetabulum", "S2", "humerus", "femur", "rib"),
    "harrington": ("acetabulum",),
    "posterior_wall_defect": ("L3",),
    "radicular_dominant": ("L3",),
    "myelopathy": ("L3",),
    "visceral": ("L3",),  # NOMS
    "primary": ("L3",),  # NOMS
}


def forgotten(record: Record, table: str, name: str) -> Record:
    """The record with one fact not known."""
    row = replace(getattr(record, table), **{name: None})
    return replace(record, **{table: row})


@pytest.mark.parametrize("site", HERE)
@pytest.mark.parametrize(("table", "column"), FACTS, ids=[c.name for _, c in FACTS])
def test_forgetting_a_needed_fact_is_never_silent(
    make: Make, site: str, table: str, column: Column
) -> None:
    name = column.name
    after = decide(forgotten(make(site), table, name))
    if name in (*EVERYWHERE, *NEEDED[site]):
        assert after.outcome == "incomplete"
        assert any(v.hard for v in (*after.of("unknown"), *after.of("discuss")))
    else:
        assert after.outcome == "eligible"
        assert bool(after.of("unknown")) == (site in SHOWN.get(name, ()))
    assert after.of("not met") == ()


def cells(c: Column) -> st.SearchStrategy[Any]:
    """What a column of a made-up record may hold, often nothing."""
    if c.kind == "yes/no":
        some: st.SearchStrategy[Any] = st.booleans()
    elif c.kind == "list":
        some = st.lists(st.sampled_from(c.choices), unique=True, max_size=3).map(tuple)
    elif c.choices:
        some = st.sampled_from(c.choices)
    elif c.kind == "date":
        some = st.sampled_from(["2026", "2026-02", "2026-02-20", "2026-03-06", "2026-03-09"])
    elif c.kind == "whole":
        some = st.integers(int(c.low or 0), int(min(c.high or 5, 100)))
    elif c.kind == "number":
        some = st.sampled_from([1.0, 1.7, 3.0, 49.0, 80.0]).map(
            lambda x: min(max(x, c.low or 0), c.high or x)
        )
    else:
        some = st.just("some words")
    return some


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_forgetting_never_makes_a_lesion_eligible(make: Make, data: st.DataObject) -> None:
    """From any record: dropping one fact may lose eligibility, and never wins it."""
    record = _drawn(make, data)
    before = decide(record)
    # Of two facts that contradict each other one may be forgotten, which settles an open question.
    torn = any("contradicts" in v.text for v in before.verdicts)
    if before.outcome == "eligible" or (before.outcome == "incomplete" and torn):
        return
    for table, column in FACTS:
        row = getattr(record, table)
        # Asked of a surgeon or not: where no score asks for it, not asking is no gap.
        if getattr(row, column.name) is None or column.name == "surgical_opinion":
            continue
        assert decide(forgotten(record, table, column.name)).outcome != "eligible", column.name
    for p in record.procedures:
        for f in ("date", "techniques"):
            lost = replace(record, procedures=(replace(p, **{f: None}),))
            assert decide(lost).outcome != "eligible", f


def _drawn(make: Make, data: st.DataObject) -> Record:
    """A good record at some site with a few facts drawn anew."""
    base = make(data.draw(st.sampled_from(HERE)))
    changed = data.draw(st.lists(st.sampled_from(FACTS), min_size=1, max_size=4, unique_by=_name))
    for table, column in changed:
        value = data.draw(cells(column))
        row = replace(getattr(base, table), **{column.name: value})
        base = replace(base, **{table: row})
    return base


def _name(fact: tuple[str, Column]) -> str:
    return fact[1].name


def test_every_site_can_be_decided(make: Make) -> None:
    for site in SITES:
        record = make()
        decision = decide(replace(record, lesion=replace(record.lesion, site=site)))
        assert {v.rule for v in decision.verdicts} >= set(E_AND_N)
