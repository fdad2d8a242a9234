"""Each rule of the guidance on cases made to meet it, to break it, and to leave it open."""

from __future__ import annotations

from typing import Any

import pytest

from trocar.audit.governance import (
    ANSWERS,
    RULES,
    Case,
    clauses,
    governance,
    not_after,
)
from trocar.audit.tables import Cases
from trocar.facts.source import load
from trocar.io.records import example_study
from trocar.model.course import (
    Complication,
    Death,
    Device,
    Event,
    Leak,
    OpioidLine,
    PainScore,
    Procedure,
    Visit,
)
from trocar.model.patient import Baseline, PainfulLesion, Patient
from trocar.model.study import Study, StudyInfo

L = "1"


def answer(rule: str, **rows: Any) -> str:
    """The answer of a rule on one lesion, L1 unless said, treated on 2020-03-10."""
    lesion = {"site": "L1", "diagnosis": "metastasis", **rows.pop("lesion", {})}
    procedure = {"date": "2020-03-10", "techniques": ("cement",), **rows.pop("procedure", {})}
    baseline = rows.pop("baseline", {})
    death = rows.pop("death", None)
    study = Study(
        info=StudyInfo(study_id="T", title="made for a test"),
        patients=(Patient(patient_id="A"),),
        lesions=(PainfulLesion(lesion_id=L, patient_id="A", **lesion),),
        selection=(Baseline(lesion_id=L, **baseline),),
        procedures=(Procedure(procedure_id="x", lesion_id=L, **procedure),),
        deaths=() if death is None else (Death(patient_id="A", day=death),),
        **rows,
    )
    devices = study.devices
    return RULES[rule](Case(record=study.records[0], devices=devices))


def pain(*days: float) -> tuple[PainScore, ...]:
    return tuple(PainScore(lesion_id=L, day=d, low=3) for d in days)


def leak(**said: Any) -> tuple[Leak, ...]:
    return (Leak(lesion_id=L, **{"compartment": "disc", **said}),)


def harm(**said: Any) -> tuple[Complication, ...]:
    return (Complication(lesion_id=L, **{"day": 1, "event": "fever", **said}),)


def visit(day: float, **said: Any) -> tuple[Visit, ...]:
    return (Visit(lesion_id=L, day=day, **said),)


def cement(**said: Any) -> tuple[Device, ...]:
    return (Device(procedure_id="x", kind="cement", name="A", **said),)


def b(**said: Any) -> dict[str, Any]:
    return {"baseline": said}


def p(**said: Any) -> dict[str, Any]:
    return {"procedure": said}


BOTH = ("radiology", "spinal surgery")
ALL3 = {"consent_date": "2020-03-10", "audit_registered": True, "governance_approved": True}
CASES: dict[str, dict[str, list[dict[str, Any]]]] = {
    "consent": {
        "met": [b(consent_date="2020-03-10"), b(consent_date="2020-02")],
        "not met": [b(consent_date="2020-03-11")],
        "unknown": [
            {},
            b(consent_date="2020-03"),
            {**b(consent_date="2020-01-01"), **p(date=None)},
        ],
    },
    "audit": {
        "met": [b(audit_registered=True)],
        "not met": [b(audit_registered=False)],
        "unknown": [{}],
    },
    "governance": {
        "met": [b(governance_approved=True)],
        "not met": [b(governance_approved=False)],
        "unknown": [{}],
    },
    "complete": {
        "met": [b(**ALL3)],
        "not met": [b(**{**ALL3, "audit_registered": False}), b(governance_approved=False)],
        "unknown": [b(**{**ALL3, "consent_date": None})],
    },
    "refractory": {
        "met": [b(failed_treatments=("opioids",))],
        "not met": [b(failed_treatments=())],
        "unknown": [{}],
    },
    "mdt": {
        "met": [b(mdt_date="2020-03-01", mdt_members=("radiology", "oncology"))],
        "not met": [
            b(mdt_date="2020-03-12", mdt_members=BOTH),
            b(mdt_date="2020-03-01", mdt_members=("radiology",)),
            b(mdt_members=()),
        ],
        "unknown": [{}, b(mdt_date="2020-03-01"), b(mdt_members=BOTH)],
    },
    "treatment history": {
        "met": [b(failed_treatments=(), radiotherapy_given=False)],
        "not met": [{}],
    },
    "radiotherapy wait": {
        "met": [b(radiotherapy_given=True, radiotherapy_end="2020-01-01")],
        "not met": [b(radiotherapy_given=True, radiotherapy_end="2020-03-05")],
        "unknown": [{}],
        "not applicable": [b(radiotherapy_given=False)],
    },
    "indication": {
        "met": [{}],
        "not met": [{"lesion": {"site": "ilium", "diagnosis": "haemangioma"}}],
        "unknown": [{"lesion": {"diagnosis": None}}],
    },
    "goals": {"met": [b(goals="to walk")], "not met": [{}]},
    "anaesthesia": {"met": [p(anaesthesia="local")], "not met": [{}]},
    "needle": {
        "met": [p(needle_gauge=10), p(needle_gauge=12)],
        "not met": [p(needle_gauge=13), p(needle_gauge=8)],
        "unknown": [{}],
    },
    "guidance": {
        "met": [p(guidance=("CT", "fluoroscopy")), p(guidance=("cone-beam CT",))],
        "not met": [p(guidance=("CT",))],
        "unknown": [{}],
    },
    "cement": {
        "met": [{"devices": cement(radiopacifier="barium sulphate")}],
        "not met": [{}, {"devices": cement()}],
        "not applicable": [p(techniques=("cryo",))],
    },
    "cement lot": {
        "met": [{"devices": cement(lot="7")}],
        "not met": [{"devices": cement()}],
        "not applicable": [p(techniques=("cryo",))],
    },
    "injection start": {
        "met": [p(injection_start_s=240)],
        "not met": [{}],
        "not applicable": [p(techniques=("cryo",))],
    },
    "leak handling": {
        "met": [
            p(leak_watch=("injecting", "leak detected", "waiting to harden", "resumed")),
            p(leak_watch=("injecting", "leak detected", "finished")),
        ],
        "not met": [p(leak_watch=("injecting", "leak detected", "resumed", "finished"))],
        "unknown": [{}],
        "not applicable": [p(leak_watch=("injecting", "finished")), p(leak_found=False)],
    },
    "mobilisation": {"met": [p(mobilised_h=4)], "not met": [{}]},
    "pain before": {"met": [{"pain": pain(-2)}], "not met": [{"pain": pain(1)}]},
    "outcome 72 h": {
        "met": [
            {"pain": pain(3), "visits": visit(4, medication="same")},
            {
                "pain": pain(3),
                "opioids": (OpioidLine(lesion_id=L, day=3, drug="none", dose=0, unit="mg/day"),),
            },
        ],
        "not met": [{}, {"pain": pain(3)}, {"visits": visit(3, medication="same")}],
        "not applicable": [{"death": 2}],
    },
    "pain 1 week": {
        "met": [{"pain": pain(10)}],
        "not met": [{"pain": pain(3)}],
        "not applicable": [{"death": 9}],
    },
    "pain 1 month": {
        "met": [{"pain": pain(28)}],
        "not met": [{}],
        "not applicable": [{"death": 9}],
    },
    "pain 3 months": {
        "met": [{"pain": pain(84)}],
        "not met": [{"pain": pain(60)}],
        "not applicable": [{"death": 60}],
    },
    "mobility 1 week": {
        "met": [{"visits": visit(7, mobility="same")}],
        "not met": [{"visits": visit(7)}, {"visits": visit(28, mobility="same")}],
        "not applicable": [{"death": 1}],
    },
    "walking": {
        "met": [{"visits": visit(0, walking=1) + visit(28, walking=2)}],
        "not met": [{"visits": visit(28, walking=2)}, {"visits": visit(0, walking=1)}],
        "not applicable": [{"visits": visit(0, walking=1), "death": 20}],
    },
    "success definition": {
        "met": [p(technical_success=True, success_definition="whole lesion filled")],
        "not met": [p(technical_success=True), {}],
    },
    "filling": {
        "met": [p(filling="poor")],
        "not met": [{}],
        "not applicable": [p(techniques=("cryo",))],
    },
    "leak search": {
        "met": [
            p(leak_assessed="CT", leak_found=False),
            {**p(leak_assessed="CT"), "leaks": leak()},
        ],
        "not met": [
            p(leak_assessed="radiograph", leak_found=False),
            p(leak_assessed="not looked for"),
        ],
        "unknown": [{}, p(leak_assessed="CT")],
        "not applicable": [p(techniques=("cryo",))],
    },
    "leak symptoms": {
        "met": [{"leaks": leak(symptomatic=False, sequelae=False, intervention=False)}],
        "not met": [{"leaks": leak(symptomatic=False)}, p(leak_found=True)],
        "unknown": [{}],
        "not applicable": [p(leak_found=False)],
    },
    "leak definition": {
        "met": [{"leaks": leak(definition="any cement outside")}],
        "not met": [{"leaks": leak()}],
        "unknown": [{}],
        "not applicable": [p(leak_found=False)],
    },
    "intra-articular": {
        "met": [p(leak_found=False), {"leaks": leak()}],
        "not met": [{"leaks": leak(compartment="intra-articular")}],
        "unknown": [{}, {"leaks": leak(compartment="not stated")}, p(leak_found=True)],
        "not applicable": [p(techniques=("cryo",))],
    },
    "fever": {
        "met": [{"complications": harm(temperature_c=38.4)}],
        "not met": [{"complications": harm(temperature_c=39.0)}],
        "unknown": [{"complications": harm()}],
        "not applicable": [{}, {"complications": harm(event="bleeding")}],
    },
    "graded": {
        "met": [{"complications": harm(sir=1, relation="cement")}],
        "not met": [{"complications": harm(sir=1)}, {"complications": harm(relation="cement")}],
        "not applicable": [{}],
    },
    "seen at 30 days": {
        "met": [
            {"pain": pain(30)},
            {"death": 12},
            {"events": (Event(lesion_id=L, day=31, kind="last seen"),)},
        ],
        "not met": [{"pain": pain(29)}],
    },
    "benign": {
        "met": [{}],
        "not met": [{"lesion": {"diagnosis": "benign cyst"}}],
        "unknown": [{"lesion": {"diagnosis": None}}],
    },
    "yellow card": {
        "met": [{"complications": harm(device_related=True, yellow_card=True)}],
        "not met": [{"complications": harm(device_related=True, yellow_card=False)}],
        "unknown": [{"complications": harm(device_related=True)}, {"complications": harm()}],
        "not applicable": [{}, {"complications": harm(device_related=False)}],
    },
    "spinal surgery": {
        "met": [b(spinal_surgery_access=True)],
        "not met": [b(spinal_surgery_access=False)],
        "unknown": [{}],
        "not applicable": [{"lesion": {"site": "ilium"}}],
    },
    "spinal mdt": {
        "met": [b(mdt_date="2020-03-01", mdt_members=BOTH)],
        "not met": [b(mdt_date="2020-03-01", mdt_members=("radiology", "orthopaedics"))],
        "unknown": [{}, b(mdt_members=BOTH)],
        "not applicable": [{"lesion": {"site": "ilium"}}],
    },
    "trained": {
        "met": [b(operator_trained=True)],
        "not met": [b(operator_trained=False)],
        "unknown": [{}],
    },
    "experience": {"met": [b(operator_cases=0)], "not met": [{}]},
    "cement instructions": {
        "met": [p(cement_instructions_followed=True)],
        "not met": [p(cement_instructions_followed=False)],
        "unknown": [{}],
        "not applicable": [p(techniques=("cryo",))],
    },
    "unstable spine": {
        "not met": [b(escc="2"), b(new_neuro_deficit=True)],
        "unknown": [{}],
        "not applicable": [{"lesion": {"site": "ilium"}}],
    },
    "medication": {
        "met": [{"visits": visit(7, medication="same")}],
        "not met": [{}],
        "not applicable": [{"death": 2}],
    },
    "satisfaction": {
        "met": [{"visits": visit(28, satisfied=False, would_have_again=False)}],
        "not met": [{"visits": visit(28, satisfied=True)}],
        "not applicable": [{"death": 2}],
    },
    "fracture level": {
        "met": [
            {"events": (Event(lesion_id=L, day=50, kind="new fracture adjacent", level="T12"),)}
        ],
        "not met": [{"events": (Event(lesion_id=L, day=50, kind="new fracture elsewhere"),)}],
        "not applicable": [{}],
    },
}


@pytest.mark.parametrize("rule", sorted(CASES))
def test_each_answer_of_each_rule(rule: str) -> None:
    for expected, made in CASES[rule].items():
        for rows in made:
            given = {k: dict(v) if isinstance(v, dict) else v for k, v in rows.items()}
            assert answer(rule, **given) == expected, rows


def test_every_rule_is_tested_and_described() -> None:
    described = [r["id"] for r in load("governance").data["rules"]]
    assert sorted(described) == sorted(RULES) == sorted(CASES)


def test_every_clause_has_a_rule_or_a_reason() -> None:
    found = clauses()
    assert [c.clause_id for c in found] == [f"T{i}" for i in range(1, 32)]
    assert [c.document for c in found] == ["IPG179"] * 17 + ["HTG3"] * 14
    for c in found:
        assert c.rules or c.not_auditable, c.clause_id
        assert set(c.rules) <= set(RULES)
    used = {rule for c in found for rule in c.rules}
    assert used == set(RULES)


def test_the_clauses_of_the_documents() -> None:
    by_id = {c.clause_id: c.clause for c in clauses()}
    assert [by_id[t] for t in ("T1", "T2", "T9", "T13")] == ["1.1", "1.2", "2.3.1", "2.4.1"]
    assert [by_id[t] for t in ("T27", "T29", "T31")] == ["2.3.1", "2.4.1", "2.5.1-2.5.2"]


def test_the_minimum_set_is_marked() -> None:
    minimum = {r["id"] for r in load("governance").data["rules"] if r["minimum_set"]}
    # clinical.md H.8: consent, MDT, indications, refractory, anaesthesia, needle, cement, leakage
    # and symptoms, pain at five times, analgesics, mobility, walking, complications, satisfaction
    assert {
        "consent", "mdt", "indication", "refractory", "anaesthesia", "needle", "cement",
        "leak search", "leak symptoms", "pain before", "outcome 72 h", "pain 1 week",
        "pain 1 month", "pain 3 months", "medication", "mobility 1 week", "walking", "graded",
        "seen at 30 days", "satisfaction",
    } <= minimum  # fmt: skip


def test_dates_that_could_be_either_are_unknown() -> None:
    assert not_after("2020-03-01", "2020-03-01") == "met"
    assert not_after("2020-03-02", "2020-03-01") == "not met"
    assert not_after("2020", "2020-03-01") == "unknown"
    assert not_after("2019", "2020-03") == "met"
    assert not_after("2020-03", "2020-03") == "unknown"
    assert not_after(None, "2020") == "unknown"


def two_lesions(**rows: Any) -> Study:
    return Study(
        info=StudyInfo(study_id="T", title="made for a test"),
        patients=(Patient(patient_id="A"), Patient(patient_id="B")),
        lesions=(
            PainfulLesion(lesion_id="1", patient_id="A", site="acetabulum"),
            PainfulLesion(lesion_id="2", patient_id="B", site="L1"),
        ),
        procedures=(
            Procedure(procedure_id="x", lesion_id="1", date="2020-03-10"),
            Procedure(procedure_id="y", lesion_id="2", date="2020-03-10"),
        ),
        **rows,
    )


def test_the_pack_names_the_cases() -> None:
    study = two_lesions(
        selection=(
            Baseline(lesion_id="1", consent_date="2020-04-01"),
            Baseline(lesion_id="2", mdt_date="2020-03-01", mdt_members=("oncology", "radiology")),
        ),
        leaks=(Leak(lesion_id="1", compartment="intra-articular"),),
        complications=(
            Complication(lesion_id="2", day=1, event="nerve injury", device_related=True),
            Complication(lesion_id="1", day=1, event="fever", device_related=False),
        ),
    )
    pack, counts = governance(Cases(study=study))
    consent = pack.rule("consent")
    assert (consent.met, consent.not_met, consent.unknown) == (0, 1, 1)
    assert (consent.failing, consent.unknown_ids) == (("1",), ("2",))
    assert consent.clauses == ("IPG179 1.1", "IPG179 3.1 and information for patients", "HTG3 1.1")
    assert pack.rule("spinal mdt").failing == ("2",)
    assert pack.rule("spinal mdt").not_applicable == 1
    assert [(s.lesion_id, s.what) for s in pack.sentinels] == [("1", "intra-articular leak")]
    assert [(d.lesion_id, d.event, d.reported) for d in pack.device_reports] == [
        ("2", "nerve injury", None)
    ]
    assert [n.notice_id for n in pack.notices] == ["MDA/2007/088", "MDA/2003/021"]
    for rule in pack.rules:
        total = sum(x for x in (rule.met, rule.not_met, rule.unknown, rule.not_applicable) if x)
        assert total == 2
        assert [counts.row(a, rule.rule).x for a in ANSWERS] == [
            rule.met, rule.not_met, rule.unknown, rule.not_applicable,
        ]  # fmt: skip


def test_hong_kong_cannot_show_what_it_did_not_record() -> None:
    pack, _ = governance(Cases(study=example_study()))
    assert pack.rule("refractory").met == 11
    assert pack.rule("consent").unknown == 11
    assert pack.rule("yellow card").unknown_ids == ("5",)
    assert pack.rule("spinal surgery").unknown_ids == ("4", "5", "8", "9")
    assert pack.rule("pain before").failing == ("7",)
    grave = [(s.lesion_id, s.what, s.detail) for s in pack.sentinels]
    assert grave == [("5", "paralysis", "CIRSE 5, SIR 4")]
