"""Made-up records, each with everything known that its rules ask for, to be changed one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from trocar.model.course import Course, OpioidSeries, PainSeries, Procedure
from trocar.model.decision import Verdict
from trocar.model.patient import Baseline, PainfulLesion, Patient
from trocar.model.study import Record
from trocar.selection import decide

Make = Callable[..., Record]

ARRANGED: dict[str, Any] = {
    "decided_on": "2026-03-02",
    "pain_present": True,
    "site_of_maximal_pain": True,
    "matches_imaging": True,
    "failed_treatments": ("opioids", "radiotherapy"),
    "analgesia_maximised": True,
    "radiotherapy_given": True,
    "radiotherapy_end": "2026-02-01",
    "mdt_date": "2026-03-02",
    "mdt_members": ("radiology", "oncology", "spinal surgery"),
    "spinal_surgery_access": True,
    "consent_date": "2026-03-05",
    "audit_registered": True,
    "governance_approved": True,
    "operator_trained": True,
    "operator_cases": 40,
    "planned_ablation": "none",
    "infection": False,
    "uncorrectable_coagulopathy": False,
    "cement_allergy": False,
    "cord_compression_fragment": False,
    "asymptomatic_stable": False,
    "new_neuro_deficit": False,
    "myelopathy": False,
    "radicular_dominant": False,
    "cortical_defect": False,
    "joint_surface": False,
    "pregnancy": False,
    "severe_cardiopulmonary": False,
    "levels_per_session": 1,
    "inr": 1.1,
    "platelets_e9_l": 210.0,
    "ecog": 2,
    "karnofsky": 60,
    "expected_survival_months": 8.0,
}
SPINAL: dict[str, Any] = {
    "sins_pain": "occasional",
    "sins_alignment": "normal",
    "sins_collapse_percent": 20.0,
    "sins_body_involved_percent": 60.0,
    "sins_posterolateral": "none",
    "escc": "0",
    "visceral": "none",
    "skeletal_lesions": 2,
    "vertebral_lesions": 1,
    "frankel": "E",
    "surgical_opinion": "cementoplasty",  # SINS is 7
}
LONG: dict[str, Any] = {"mirels_size_fraction": 0.25, "mirels_pain": "mild"}
SITES: dict[str, dict[str, Any]] = {
    "L3": SPINAL,
    "acetabulum": {"harrington": "I"},
    "S2": {},
    "humerus": LONG,
    "femur": {**LONG, "peritrochanteric": False},
    "rib": {},
}
_CLASSES = (Patient, PainfulLesion, Baseline)


@pytest.fixture
def make() -> Make:
    """A record that is eligible at one of ``SITES``, with some columns changed by name."""
    return made


def made(site: str = "L3", **changes: Any) -> Record:
    """See the fixture ``make``; ``procedures`` are a column here, too."""
    patient = Patient(patient_id="P", sex="female", age_years=61, primary="kidney")
    lesion = PainfulLesion(
        lesion_id="1",
        patient_id="P",
        site=site,
        diagnosis="metastasis",
        nature="lytic",
        soft_tissue=False,
        posterior_wall_defect=False,
    )
    baseline = Baseline(lesion_id="1", **{**ARRANGED, **SITES[site]})
    procedures = changes.pop(
        "procedures",
        (Procedure(procedure_id="1", lesion_id="1", date="2026-03-06", techniques=("cement",)),),
    )
    rows = []
    for row in (patient, lesion, baseline):
        mine = {f.name: changes.pop(f.name) for f in fields(row) if f.name in changes}
        rows.append(replace(row, **mine))
    assert not changes, f"no such column: {changes}"
    return Record(
        patient=rows[0],
        lesion=rows[1],
        baseline=rows[2],
        procedures=procedures,
        course=Course(
            lesion_id="1", pain=PainSeries(lesion_id="1"), opioids=OpioidSeries(lesion_id="1")
        ),
    )


@pytest.fixture
def verdict(make: Make) -> Callable[..., Verdict]:
    """The verdict of one rule on an eligible record with some columns changed."""

    def of(rule: str, site: str = "L3", *, procedure_date: str | None = None, **c: Any) -> Verdict:
        found = decide(make(site, **c), procedure_date=procedure_date).verdicts
        return next(v for v in found if v.rule == rule)

    return of
