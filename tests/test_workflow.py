"""The states of a lesion, the gates of each, who may override what, and what is due when."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar.audit.tables import nominal_time
from trocar.errors import InputError
from trocar.facts.source import load
from trocar.io.records import example_study
from trocar.model.care import (
    DECISIONS,
    STATES,
    Assessment,
    Care,
    Consent,
    Meeting,
    PlanVersion,
    Referral,
    Step,
    Vote,
)
from trocar.model.course import (
    Course,
    Death,
    Device,
    Event,
    OpioidSeries,
    PainScore,
    PainSeries,
    Procedure,
    Visit,
)
from trocar.model.patient import Baseline, PainfulLesion, Patient
from trocar.model.study import Record, Study, StudyInfo
from trocar.pathway import gates as gates_page
from trocar.pathway.gates import Gate, title_of
from trocar.pathway.underway import TREATS, VISIT_WORDS
from trocar.pathway.workflow import (
    NEXT,
    blocked,
    forward,
    gates,
    goes_back,
    may_override,
    needs_reason,
    standing,
)

STUDY = example_study()
ROLES = (
    "referrer", "coordinator", "radiologist", "specialist", "audit lead", "researcher",
    "administrator",
)  # fmt: skip
TODAY, DONE = "2026-03-20", "2026-03-16"
WAY = ("referred", "selection", "meeting", "consent", "planning", "ready", "treated", "follow-up",
       "closed")  # fmt: skip
BASELINE: dict[str, Any] = {
    "pain_present": True, "site_of_maximal_pain": True, "matches_imaging": True,
    "failed_treatments": ("opioids", "radiotherapy"), "radiotherapy_given": True,
    "radiotherapy_end": "2026-02-01", "mdt_date": "2026-03-02",
    "mdt_members": ("radiology", "spinal surgery"), "spinal_surgery_access": True,
    "audit_registered": True, "governance_approved": True, "operator_trained": True,
    "planned_ablation": "none", "infection": False, "uncorrectable_coagulopathy": False,
    "cement_allergy": False, "cord_compression_fragment": False, "asymptomatic_stable": False,
    "new_neuro_deficit": False, "inr": 1.1, "platelets_e9_l": 210.0,
    "expected_survival_months": 8.0, "sins_pain": "occasional", "sins_alignment": "normal",
    "sins_collapse_percent": 20.0, "sins_body_involved_percent": 60.0,
    "sins_posterolateral": "none", "escc": "0",
}  # fmt: skip
STEPS = tuple(
    Step(lesion_id="1", number=i + 1, at=f"2026-03-0{i + 1}T09:00:00Z", by="anna", state=state)
    for i, state in enumerate(WAY[1:])
)
PROCEDURE = Procedure(
    procedure_id="1", lesion_id="1", date=DONE, techniques=("cement",), leak_assessed="CT"
)
MEETING = Meeting(lesion_id="1", date="2026-03-02", decision="cementoplasty")
CONSENT = Consent(lesion_id="1", number=1, date="2026-03-05", techniques=("cement",), capacity=True)
PLAN = PlanVersion(
    lesion_id="1", number=1, techniques=("cement",), verdict="ok", made_at="2026-03-06T08:00:00Z",
    approved_by="anna", approved_at="2026-03-06T10:00:00Z",
)  # fmt: skip


def vote(specialty: str, said: str = "for", signed: str | None = "2026-03-02T17:00:00Z") -> Vote:
    name = specialty.replace(" ", "-")
    return Vote(
        lesion_id="1", date="2026-03-02", member_id=name, specialty=specialty, vote=said,
        signed_at=signed,
    )  # fmt: skip


VOTES = (vote("radiology"), vote("spinal surgery"))


def course(days: Iterable[float] = (), *, visits: tuple[Visit, ...] = (), **more: Any) -> Course:
    scores = tuple(PainScore(lesion_id="1", day=d, low=5) for d in days)
    return Course(
        lesion_id="1", pain=PainSeries(lesion_id="1", scores=scores),
        opioids=OpioidSeries(lesion_id="1"), visits=visits, **more,
    )  # fmt: skip


def record(site: str = "L3", **changes: Any) -> Record:
    """A lesion with all that selection asks for, not treated, with some columns changed."""
    lesion = PainfulLesion(
        lesion_id="1", patient_id="P", site=site, nature="lytic", posterior_wall_defect=False
    )
    held = {k: changes.pop(k) for k in ("procedures", "course") if k in changes}
    return Record(
        patient=Patient(patient_id="P", sex="female", age_years=61, primary="kidney"),
        lesion=replace(lesion, diagnosis=changes.pop("diagnosis", "metastasis")),
        baseline=Baseline(lesion_id="1", **{**BASELINE, **changes}),
        procedures=held.get("procedures", ()),
        course=held.get("course", course()),
    )


def care(state: str = "referred", **changes: Any) -> Care:
    """Care with every row in place, its lesion being in a state on the way."""
    rows = {
        "referrals": (Referral(lesion_id="1", date="2026-03-01"),), "meetings": (MEETING,),
        "votes": VOTES, "consents": (CONSENT,), "plans": (PLAN,),
        "steps": STEPS[: WAY.index(state)],
    }  # fmt: skip
    return Care(lesion_id="1", **{**rows, **changes})


def before(state: str) -> str:
    return WAY[WAY.index(state) - 1]


def of(state: str, r: Record, c: Care, today: str = TODAY) -> dict[str, Gate]:
    return {g.gate: g for g in gates(state, r, c, today=today)}


def stopped(state: str, r: Record, c: Care, today: str = TODAY) -> set[str]:
    return {g.gate for g in blocked(gates(state, r, c, today=today), (), "radiologist")}


TREATED = record(procedures=(PROCEDURE,), course=course((0, 3, 7, 28, 84)))

# --- The way ------------------------------------------------------------------------------------


def test_the_way_is_the_states_in_order() -> None:
    assert set(NEXT) == set(STATES)
    assert {s for after in NEXT.values() for s in after} == set(STATES)
    assert [forward(s) for s in WAY] == [*WAY[1:], None]
    assert {s for s in STATES if "declined" in NEXT[s]} == set(WAY[: WAY.index("treated")])
    assert {s for s in STATES if "closed" in NEXT[s]} == {"treated", "follow-up"}
    assert "selection" in NEXT["closed"]
    assert NEXT["declined"] == ("selection",)
    for a, b in pairwise(WAY):
        assert a in NEXT[b]
        assert goes_back(b, a)
        assert not goes_back(a, b)
        assert needs_reason(b, a)
        assert not needs_reason(a, b)
    assert needs_reason("consent", "declined")
    assert needs_reason("declined", "selection")


@pytest.mark.parametrize("state", WAY[1:])
def test_what_has_everything_goes_on(state: str) -> None:
    treated = WAY.index(state) >= WAY.index("treated")
    r = TREATED if treated else record()
    found = gates(state, r, care(before(state)), today="2026-07-01" if treated else TODAY)
    assert found
    assert blocked(found, (), "coordinator") == ()
    assert all(g.text and g.title and g.clause for g in found)
    assert len({g.gate for g in found}) == len(found)


@pytest.mark.parametrize("state", WAY[1:])
def test_what_has_nothing_stops(state: str) -> None:
    bare = replace(record(diagnosis=None), baseline=None)
    c = Care(lesion_id="1", steps=STEPS[: WAY.index(state) - 1])
    found = of(state, bare, c)
    expected = {
        "selection": set(),
        "meeting": {"E1", "E2", "E3", "E8", "E10", "E12", "N1"},
        "consent": {"meeting", "signatures", "E1", "E2", "E3", "E5", "E8", "E10", "E12", "N1"},
        "planning": {"consent", "arrangements", "meeting", "signatures"}
        | {"E1", "E2", "E3", "E5", "E8", "E10", "E12", "N1"},
        "ready": {"consent", "arrangements", "meeting", "signatures", "plan"}
        | {"E1", "E2", "E3", "E4", "E5", "E7", "E8", "E9", "E10", "E12", "N1"},
        "treated": {"consent", "plan", "procedure", "meeting", "signatures"},
        "follow-up": {"assessment"},
        "closed": {"ended"},
    }[state]
    assert {g.gate for g in blocked(found.values(), (), "")} == expected
    # Worst first: closed, then not known, hard before soft.
    keys = [(g.open is True, not g.hard, g.open is None) for g in found.values()]
    assert keys == sorted(keys)


def test_steps_back_and_declining_have_no_gates() -> None:
    bare = replace(record(), baseline=None)
    for a, b in pairwise(WAY):
        assert gates(a, bare, replace(care(b), consents=()), today=TODAY) == ()
    assert gates("declined", bare, care("ready"), today=TODAY) == ()
    assert gates("referred", bare, care(), today=TODAY) == ()


# --- One gate at a time -------------------------------------------------------------------------

SEEN = (Event(lesion_id="1", day=9, kind="last seen"),)
AWAY = (Visit(lesion_id="1", day=30, missing_reason="away"),)


def done(**changes: Any) -> dict[str, Any]:
    return {"procedures": (replace(PROCEDURE, **changes),)}


def followed(days: Iterable[float], **more: Any) -> dict[str, Any]:
    return {**done(), "course": course(days, **more)}


def met(**changes: Any) -> dict[str, Any]:
    return {"meetings": (replace(MEETING, **changes),)}


def signed(**changes: Any) -> dict[str, Any]:
    return {"consents": (replace(CONSENT, **changes),)}


def planned(**changes: Any) -> dict[str, Any]:
    return {"plans": (replace(PLAN, **changes),)}


def read(day: str) -> dict[str, Any]:
    return {"assessments": (Assessment(lesion_id="1", date=day),)}


DRAFT = replace(PLAN, number=2, parent=1, approved_by=None, approved_at=None)


@pytest.mark.parametrize(
    ("state", "changed", "cared", "gate", "opens"),
    [
        ("selection", {}, {"referrals": ()}, "referral", False),
        # what the meeting must know, whatever it will make of it
        ("meeting", {"pain_present": None}, {}, "E2", None),
        ("meeting", {"pain_present": False}, {}, "E2", True),
        ("meeting", {"inr": None}, {}, "E9", None),
        # what selection says
        ("consent", {"pain_present": False}, {}, "E2", False),
        ("consent", {"failed_treatments": None}, {}, "E3", None),
        ("consent", {"infection": True}, {}, "E8", False),
        ("consent", {"new_neuro_deficit": True}, {}, "N1", False),
        ("consent", {"surgical_opinion": "surgery first"}, {}, "S1", False),
        ("consent", {"mdt_members": ("radiology",)}, {}, "E5", False),
        ("consent", {"mdt_members": None}, {}, "E5", None),
        # SINS is 7: a grey zone, which a meeting that has decided has weighed
        ("consent", {}, {}, "E12", True),
        ("consent", {}, {"meetings": ()}, "E12", None),
        ("ready", {"radiotherapy_end": "2026-03-15"}, {}, "E4", False),
        ("ready", {"inr": 1.7}, {}, "E9", True),
        ("ready", {"inr": 4.0}, {}, "E9", False),
        ("ready", {"operator_trained": None}, {}, "E7", None),
        # the meeting and its signatures
        ("consent", {}, {"meetings": ()}, "meeting", None),
        ("consent", {}, met(decision=None), "meeting", None),
        ("consent", {}, met(decision="decide later"), "meeting", None),
        ("consent", {}, met(decision="radiotherapy"), "meeting", False),
        ("consent", {}, met(date="2026-04-01"), "meeting", None),
        (
            "consent",
            {},
            {"meetings": (MEETING, replace(MEETING, date="2026-03-10", decision="surgery first"))},
            "meeting",
            False,
        ),
        ("consent", {}, {"votes": (vote("radiology"), vote("oncology"))}, "signatures", False),
        (
            "consent",
            {},
            {"votes": (vote("radiology"), vote("spinal surgery", signed=None))},
            "signatures",
            False,
        ),
        ("consent", {}, {"votes": (vote("spinal surgery"), vote("oncology"))}, "signatures", False),
        (
            "consent",
            {},
            {"meetings": (MEETING, replace(MEETING, date="2026-03-10"))},
            "signatures",
            False,
        ),
        (
            "consent",
            {},
            {"votes": (vote("radiology"), vote("spinal surgery", "against"))},
            "dissent",
            False,
        ),
        # of a vertebra the radiologist and the spinal surgeon must be for it
        (
            "consent",
            {},
            {"votes": (vote("radiology"), vote("spinal surgery", "against"))},
            "signatures",
            False,
        ),
        (
            "consent",
            {},
            {"votes": (vote("radiology", "abstained"), vote("spinal surgery"))},
            "signatures",
            False,
        ),
        # consent
        ("planning", {}, {"consents": ()}, "consent", None),
        ("planning", {}, signed(date=None), "consent", False),
        ("planning", {}, signed(withdrawn="2026-03-09"), "consent", False),
        ("planning", {}, signed(date="2026-03-21"), "consent", False),
        ("planning", {}, signed(date="2026-03"), "consent", None),
        (
            "planning",
            {},
            {"consents": (replace(CONSENT, number=2, withdrawn="2026-03-09"), CONSENT)},
            "consent",
            False,
        ),
        (
            "planning",
            {},
            {"consents": (replace(CONSENT, withdrawn="2026-03-09"), replace(CONSENT, number=2))},
            "consent",
            True,
        ),
        ("planning", {}, signed(capacity=None), "capacity", None),
        ("planning", {}, signed(capacity=False), "capacity", False),
        ("planning", {"audit_registered": False}, {}, "arrangements", False),
        ("planning", {"governance_approved": None}, {}, "arrangements", None),
        ("ready", {}, signed(withdrawn="2026-03-09"), "consent", False),
        ("ready", {}, signed(techniques=None), "consent", None),
        ("ready", {}, planned(techniques=None), "consent", None),
        ("ready", {}, planned(techniques=("cryo", "cement")), "consent", False),
        # the plan
        ("ready", {}, {"plans": ()}, "plan", False),
        ("ready", {}, {"plans": (PLAN, DRAFT)}, "plan", False),
        ("ready", {}, {"plans": (DRAFT, PLAN)}, "plan", False),
        ("ready", {}, planned(revoked_at="2026-03-07T08:00:00Z"), "plan", False),
        ("ready", {}, planned(verdict="stop"), "plan verdict", False),
        ("ready", {}, planned(verdict="unknown"), "plan verdict", None),
        # the procedure
        ("treated", done(), {"plans": (PLAN, DRAFT)}, "plan", False),
        (
            "treated",
            done(),
            {"plans": (replace(PLAN, approved_at="2026-03-17T00:10:00Z"),)},
            "plan",
            False,
        ),
        (
            "treated",
            done(),
            {"plans": (replace(PLAN, approved_at="2026-03-16T07:00:00Z"),)},
            "plan",
            True,
        ),
        # the team, as it stood on the day
        (
            "treated",
            done(),
            {"meetings": (MEETING, replace(MEETING, date="2026-03-10", decision="radiotherapy"))},
            "meeting",
            False,
        ),
        (
            "treated",
            done(),
            {"meetings": (MEETING, replace(MEETING, date="2026-03-17", decision="radiotherapy"))},
            "meeting",
            True,
        ),
        (
            "treated",
            done(date="2026-03"),
            {"meetings": (MEETING, replace(MEETING, date="2026-03-17", decision="radiotherapy"))},
            "meeting",
            False,
        ),
        ("treated", done(), {"votes": ()}, "signatures", False),
        ("treated", {}, {}, "procedure", False),
        ("treated", done(date=None), {}, "procedure", None),
        ("treated", done(date="2026-03"), {}, "procedure", None),
        ("treated", done(date="2026-03-21"), {}, "procedure", False),
        ("treated", done(techniques=("cryo", "cement")), {}, "as consented", False),
        # the cement, held against the volume not to pass
        ("treated", done(cement_ml=5.2), planned(stop_ml=5), "cement volume", False),
        ("treated", done(cement_ml=5), planned(stop_ml=5), "cement volume", True),
        ("treated", done(), planned(stop_ml=5), "cement volume", None),
        (
            "treated",
            done(cement_ml=9),
            {"plans": (replace(DRAFT, stop_ml=5),)},
            "cement volume",
            None,
        ),
        ("treated", done(techniques=("cryo",)), {}, "cement volume", True),
        ("treated", done(), signed(date="2026-03-17"), "consent", False),
        ("treated", done(), signed(withdrawn=DONE), "consent", False),
        ("treated", done(), signed(withdrawn="2026-03-17"), "consent", True),
        # the CT afterwards
        ("follow-up", done(leak_assessed=None), {}, "assessment", None),
        ("follow-up", done(leak_assessed="not looked for"), {}, "assessment", False),
        ("follow-up", done(leak_assessed=None, techniques=("cryo",)), {}, "assessment", True),
        ("follow-up", done(leak_assessed=None), read(DONE), "assessment", True),
        ("follow-up", done(leak_assessed=None), read("2026-03-15"), "assessment", None),
        # the end
        ("closed", followed((0, 3, 7, 28)), {}, "ended", False),
        ("closed", followed((0, 3), death_day=20.0), {}, "ended", True),
        ("closed", followed((0,), events=SEEN), {}, "ended", True),
        ("closed", followed((0, 28), events=SEEN), {}, "ended", False),
        ("closed", followed((0, 3, 7, 84), visits=AWAY), {}, "ended", True),
        ("closed", followed((0, 3)), {}, "audit pain 1 month", False),
        ("closed", followed((0, 3)), {}, "audit pain before", True),
        ("closed", done(), {}, "audit anaesthesia", False),
        # death
        ("ready", {"course": course(death_day=3.0)}, {}, "alive", False),
        # on a day that nobody counted, before anything was done
        ("ready", {"course": course(death_recorded=True)}, {}, "alive", False),
        ("selection", {"course": course(death_recorded=True)}, {}, "alive", False),
    ],
)
def test_a_gate(
    state: str, changed: dict[str, Any], cared: dict[str, Any], gate: str, opens: bool | None
) -> None:
    r, c = record(**changed), care(before(state), **cared)
    found = of(state, r, c)[gate]
    assert found.open is opens, found.text
    # Closed and not known stop alike, if the gate is hard.
    assert (gate in stopped(state, r, c)) is (found.hard and opens is not True)


SOFT = ("referral", "dissent", "capacity", "as consented", "cement volume")


def test_which_gates_only_warn() -> None:
    for state in WAY[1:]:
        for g in gates(state, TREATED, care(before(state)), today=TODAY):
            waits = g.gate in ("E4", "E7", "E9") and state != "ready"
            assert g.hard is not (g.gate in SOFT or g.gate.startswith("audit ") or waits), g.gate
            assert g.hard or g.overridable_by == ()


def test_every_gate_has_its_title_by_its_key() -> None:
    for state in WAY[1:]:
        for g in gates(state, TREATED, care(before(state)), today=TODAY):
            assert title_of(g.gate) == g.title
    assert title_of("of another time") == "of another time"


def test_no_more_cement_is_planned_than_may_pass() -> None:
    with pytest.raises(InputError, match="cement_ml is 6; expected at most stop_ml, 5"):
        replace(PLAN, cement_ml=6, stop_ml=5)
    assert replace(PLAN, cement_ml=5, stop_ml=5).stop_ml == 5


def test_what_has_no_computed_plan_is_warned_of() -> None:
    found = of("ready", record(), care("planning", plans=(replace(PLAN, verdict=None),)))
    assert found["plan verdict"].open is None
    assert not found["plan verdict"].hard


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_refusal_of_the_team_is_not_overridden(decision: str) -> None:
    m = replace(MEETING, decision=decision)
    g = of("consent", record(), care("meeting", meetings=(m,)))["meeting"]
    refused = decision not in (*TREATS, "decide later")
    assert [r for r in ROLES if may_override(r, g)] == ([] if refused else ["radiologist"])


def test_devices_that_were_not_given_are_not_known() -> None:
    cement = Device(procedure_id="1", kind="cement", name="A", radiopacifier="barium sulphate")
    for devices, opens in ((None, None), ((), False), ((cement,), True)):
        found = gates("closed", TREATED, care("follow-up"), today=TODAY, devices=devices)
        assert next(g for g in found if g.gate == "audit cement").open is opens


# --- Who may override ---------------------------------------------------------------------------

BROKEN = (
    (), (replace(CONSENT, date=None),), (replace(CONSENT, withdrawn="2026-03-09"),),
    (replace(CONSENT, techniques=("biopsy",)),),
)  # fmt: skip


@pytest.mark.parametrize("consents", BROKEN)
@pytest.mark.parametrize("state", ["ready", "treated"])
@pytest.mark.parametrize("role", [*ROLES, "", "owner"])
def test_nobody_overrides_consent(consents: tuple[Consent, ...], state: str, role: str) -> None:
    r = record(procedures=(PROCEDURE,)) if state == "treated" else record()
    found = gates(state, r, care(before(state), consents=consents), today=TODAY)
    left = blocked(found, {g.gate for g in found}, role)
    assert "consent" in {g.gate for g in left}


@pytest.mark.parametrize(
    ("state", "gate", "roles"),
    [
        ("ready", "plan", {"radiologist"}),
        ("ready", "consent", set()),
        ("ready", "alive", set()),
        ("treated", "procedure", set()),
        ("consent", "signatures", {"radiologist"}),
        ("closed", "ended", {"radiologist"}),
    ],
)
def test_who_may_override(state: str, gate: str, roles: set[str]) -> None:
    g = of(state, record(), care(before(state)))[gate]
    assert {r for r in ROLES if may_override(r, g)} == roles


def test_a_vertebra_without_a_spinal_surgeon_stays_closed() -> None:
    votes = (vote("radiology"), vote("oncology"), vote("orthopaedics"))
    c = care("meeting", votes=votes)
    assert stopped("consent", record("L3"), c) == {"signatures"}
    assert "spinal surgery" in of("consent", record("L3"), c)["signatures"].text
    # The record of the study and the signatures must both say so.
    told = record("L3", mdt_members=("radiology", "oncology"))
    assert stopped("consent", told, care("meeting")) == {"E5"}
    assert stopped("consent", record("ilium"), c) == set()


@pytest.mark.parametrize(
    ("state", "changed", "cared", "gate"),
    [
        ("consent", {"mdt_members": ("radiology",)}, {}, "E5"),
        ("ready", {"infection": True}, {}, "E8"),
        ("ready", {}, planned(verdict="stop"), "plan verdict"),
        ("planning", {}, signed(capacity=False), "capacity"),
        ("ready", {}, signed(capacity=False), "capacity"),
        (
            "treated",
            done(),
            {"meetings": (MEETING, replace(MEETING, date="2026-03-10", decision="radiotherapy"))},
            "meeting",
        ),
    ],
)
def test_nobody_overrides_what_is_known_to_be_missing(
    state: str, changed: dict[str, Any], cared: dict[str, Any], gate: str
) -> None:
    r, c = record(**changed), care(before(state), **cared)
    for role in ROLES:
        found = gates(state, r, c, today=TODAY)
        left = blocked(found, {g.gate for g in found}, role)
        assert gate in {g.gate for g in left}, role


@pytest.mark.parametrize(
    ("state", "changed", "cared", "gate"),
    [
        ("consent", {"mdt_members": None}, {}, "E5"),
        ("ready", {"infection": None}, {}, "E8"),
        ("ready", {}, planned(verdict="unknown"), "plan verdict"),
    ],
)
def test_what_is_not_known_a_radiologist_may_answer_for(
    state: str, changed: dict[str, Any], cared: dict[str, Any], gate: str
) -> None:
    g = of(state, record(**changed), care(before(state), **cared))[gate]
    assert g.open is None
    assert [r for r in ROLES if may_override(r, g)] == ["radiologist"]


def test_of_who_died_untreated_nothing_is_due() -> None:
    """A death without a day that counts from a procedure is a death all the same."""
    lesion = record().lesion
    study = Study(
        info=StudyInfo(study_id="s", title="t"),
        patients=(record().patient,),
        lesions=(lesion,),
        deaths=(Death(patient_id="P", date="2026-03-12"),),
    )
    r = study.record("1")
    assert (r.course.died, r.course.death_day) == (True, None)
    coming = Meeting(lesion_id="1", date="2026-03-25")
    found = standing(r, care("meeting", meetings=(coming,)), today=TODAY)
    assert (found.next_due, found.due_what) == ("", "")
    assert "alive" in stopped("consent", r, care("meeting"))
    assert not record().course.died


GATE = st.builds(
    Gate,
    gate=st.sampled_from(["a", "b", "c", "d"]),
    title=st.just("t"),
    open=st.sampled_from([True, False, None]),
    reason=st.just("r"),
    clause=st.just("c"),
    hard=st.booleans(),
    overridable_by=st.lists(st.sampled_from(ROLES), unique=True).map(tuple),
)


@given(
    st.lists(GATE, max_size=4, unique_by=lambda g: g.gate),
    st.frozensets(st.sampled_from(["a", "b", "c", "d", "e"])),
    st.sampled_from(ROLES),
)
def test_nothing_stops_only_if_open_or_overridden(
    some: list[Gate], overridden: frozenset[str], role: str
) -> None:
    left = blocked(some, overridden, role)
    passes = [
        g.open is True or (g.gate in overridden and role in g.overridable_by)
        for g in some
        if g.hard
    ]
    assert (left == ()) is all(passes)
    assert len(left) == passes.count(False)


KNOWN = [name for name in BASELINE if name not in ("planned_ablation",)]


@given(st.frozensets(st.sampled_from(KNOWN)), st.sampled_from(WAY[1:7]), st.booleans())
def test_forgetting_never_opens_a_gate(lost: frozenset[str], state: str, cared: bool) -> None:
    c = care(before(state)) if cared else Care(lesion_id="1", steps=care(before(state)).steps)
    full = of(state, record(), c)
    less = of(state, record(**dict.fromkeys(lost)), c)
    assert {n for n, g in less.items() if g.open} <= {n for n, g in full.items() if g.open}


# --- Reopening ----------------------------------------------------------------------------------


def test_after_reopening_old_rows_open_nothing() -> None:
    again = [
        Step(lesion_id="1", number=20 + i, at=f"2026-06-01T0{i}:00:00Z", by="anna", state=s)
        for i, s in enumerate(WAY[1:6])
    ]
    r = TREATED
    c = care("closed", steps=(*STEPS, *again[:3]))
    assert c.state == "consent"
    left = stopped("planning", r, c, "2026-06-20")
    assert {"consent", "meeting", "signatures"} <= left
    c = replace(c, steps=(*STEPS, *again))
    stop = {"consent", "plan", "procedure", "meeting", "signatures"}
    assert stopped("treated", r, c, "2026-06-20") == stop
    new = replace(
        c,
        meetings=(MEETING, replace(MEETING, date="2026-06-02")),
        votes=tuple(replace(v, date="2026-06-02") for v in VOTES),
        consents=(CONSENT, replace(CONSENT, number=2, date="2026-06-03")),
        plans=(PLAN, replace(PLAN, number=2, made_at="2026-06-04T08:00:00Z")),
    )
    second = replace(PROCEDURE, procedure_id="2", date="2026-06-10")
    r = replace(r, procedures=(PROCEDURE, second))
    assert stopped("treated", r, new, "2026-06-20") == set()
    # Its visits count from the second procedure, day 86 of the course.
    steps = (
        *new.steps,
        Step(lesion_id="1", number=30, at="2026-06-10T12:00:00Z", by="anna", state="treated"),
    )
    found = standing(r, replace(new, steps=steps), today="2026-06-11")
    assert (found.next_due, found.missing_scores) == ("2026-06-13", 0)


def test_reopening_what_ended_by_death_is_stopped() -> None:
    dead = record(procedures=(PROCEDURE,), course=course(death_day=20.0))
    assert stopped("selection", dead, care("closed")) == {"alive"}
    assert stopped("selection", TREATED, care("closed")) == set()


# --- Standing -----------------------------------------------------------------------------------


def test_the_words_of_the_visits_are_those_of_the_facts() -> None:
    labels = [x for x in load("governance").data["mean_times"] if nominal_time(x).day > 0]
    assert list(VISIT_WORDS) == labels == ["D3", "Wk1", "M1", "M3"]


@pytest.mark.parametrize(
    ("days_after", "scores", "due", "what", "missing"),
    [
        (0, (), 3, "Pain and analgesics at 72 hours", 0),
        (4, (), 3, "Pain and analgesics at 72 hours", 0),  # late, but still within its window
        (4, (3,), 7, "Visit at 1 week", 0),
        (6, (), 7, "Visit at 1 week", 1),
        (6, (3,), 7, "Visit at 1 week", 0),
        (30, (3, 7), 28, "Visit at 1 month", 0),
        (43, (3, 7), 84, "Visit at 3 months", 1),
        (99, (3, 7, 28), None, "Close the case", 1),
        (99, (3, 7, 28, 84), None, "Close the case", 0),
    ],
)
def test_the_next_visit(
    days_after: int, scores: tuple[int, ...], due: int | None, what: str, missing: int
) -> None:
    def on(n: int) -> str:
        return (date.fromisoformat(DONE) + timedelta(days=n)).isoformat()

    r = record(procedures=(PROCEDURE,), course=course((0, *scores)))
    found = standing(r, care("follow-up"), today=on(days_after))
    assert found.next_due == ("" if due is None else on(due))
    assert (found.due_what, found.missing_scores) == (what, missing)


@pytest.mark.parametrize("state", ["closed", "follow-up", "declined"])
def test_nothing_is_due_after_the_end(state: str) -> None:
    ends = {"death_day": 10.0} if state == "follow-up" else {}
    r = record(procedures=(PROCEDURE,), course=course((0, 3), **ends))
    steps = (replace(STEPS[0], state=state),)
    found = standing(r, care(steps=steps), today="2026-12-01")
    assert (found.next_due, found.due_what) == ("", "")
    # Died on day 10, within the window of 1 week: no score is missing.
    assert found.missing_scores == (0 if ends else 3)


def test_no_score_is_missing_after_the_last_day_seen() -> None:
    events = (Event(lesion_id="1", day=30, kind="lost to follow-up"),)
    r = record(procedures=(PROCEDURE,), course=course((0, 3), events=events))
    found = standing(r, care("follow-up"), today="2026-12-01")
    assert (found.missing_scores, found.next_due, found.due_what) == (1, "", "Close the case")


def test_before_the_procedure_the_gate_is_named() -> None:
    found = standing(record(), care("consent", consents=()), today=TODAY)
    assert (found.state, found.since) == ("consent", "2026-03-03T09:00:00Z")
    assert (found.next_due, found.due_what, found.open_gates) == ("", "Consent holds", 1)
    found = standing(record(), care("consent"), today=TODAY)
    assert (found.due_what, found.open_gates) == ("Begin the planning", 0)
    found = standing(record(), Care(lesion_id="1"), today=TODAY)
    assert (found.state, found.since, found.due_what) == ("referred", "", "Begin the selection")


def test_a_coming_meeting_is_due() -> None:
    later = Meeting(lesion_id="1", date="2026-03-25")
    found = standing(record(), care("meeting", meetings=(later,)), today=TODAY)
    assert (found.next_due, found.due_what) == ("2026-03-25", "Multidisciplinary meeting")


def test_an_unsigned_plan_is_told() -> None:
    told = {s: standing(record(), care(s, plans=(PLAN, DRAFT)), today=TODAY) for s in WAY}
    assert {s for s in WAY if told[s].unsigned_plan} == set(WAY[: WAY.index("treated")])
    assert not standing(record(), care("planning"), today=TODAY).unsigned_plan


@pytest.mark.parametrize("r", STUDY.records, ids=lambda r: r.lesion_id)
def test_the_hong_kong_lesions(r: Record) -> None:
    """Nothing of the arrangements was published: no gate of theirs opens by itself."""
    for state in WAY[1:]:
        steps = tuple(replace(s, lesion_id=r.lesion_id) for s in STEPS[: WAY.index(state) - 1])
        c = Care(lesion_id=r.lesion_id, steps=steps)
        left = stopped(state, r, c)
        assert ("consent" in left) is (state in ("planning", "ready", "treated"))
        assert ("signatures" in left) is (state in ("consent", "planning", "ready", "treated"))
        # CT after the cement, and a dated procedure, are in the paper.
        assert not left & {"procedure", "assessment", "alive"}
    closed = Care(
        lesion_id=r.lesion_id, steps=tuple(replace(s, lesion_id=r.lesion_id) for s in STEPS)
    )
    found = standing(r, closed, today=TODAY)
    assert (found.next_due, found.open_gates) == ("", 0)
    last = r.course.pain.scores[-1].day
    # Months after a procedure with a month for its date, what was not scored is missing.
    assert found.missing_scores >= (last < nominal_time("M3").first)


@given(
    st.sampled_from(STUDY.records),
    st.sampled_from(STATES),
    st.dates(),
)
def test_standing_never_raises(r: Record, state: str, day: date) -> None:
    step = Step(lesion_id=r.lesion_id, number=1, at="2010-01-01T00:00:00Z", by="anna", state=state)
    found = standing(r, Care(lesion_id=r.lesion_id, steps=(step,)), today=day.isoformat())
    assert found.state == state
    assert 0 <= found.missing_scores <= len(VISIT_WORDS)


def test_a_mistyped_year_does_not_raise() -> None:
    r = record(procedures=(replace(PROCEDURE, date="9999-12-30"),))
    assert standing(r, care("treated"), today=TODAY).next_due == ""


def test_what_cannot_be_asked() -> None:
    with pytest.raises(InputError, match="expected one of referred"):
        gates("cured", record(), care(), today=TODAY)
    for today in ("2026-03", "tomorrow", "2026-02-30"):
        with pytest.raises(InputError, match="expected a day"):
            standing(record(), care(), today=today)
    with pytest.raises(InputError, match="expected the same"):
        standing(STUDY.records[1], care(), today=TODAY)


# --- Sentences ----------------------------------------------------------------------------------


def test_every_reason_is_a_literal_with_its_values() -> None:
    found = 0
    for node in ast.walk(ast.parse(Path(gates_page.__file__).read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_Said"):
            continue
        told = {k.arg: k.value for k in node.keywords}
        reason, values = told["reason"], told.get("values")
        if isinstance(reason, ast.Attribute):  # handed on from a rule of selection
            continue
        found += 1
        assert isinstance(reason, ast.Constant), node.lineno
        assert str(reason.value).endswith("."), node.lineno
        places = {f for _, f, _, _ in Formatter().parse(str(reason.value)) if f is not None}
        assert bool(places) == (values is not None), node.lineno
        if isinstance(values, ast.Dict):
            assert places == {k.value for k in values.keys if isinstance(k, ast.Constant)}
    assert found > 40
