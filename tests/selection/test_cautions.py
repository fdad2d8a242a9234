"""Soft rules: relative contraindications, what the sources saw of choices, the letters of NOMS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from trocar.model.course import Procedure
from trocar.model.decision import Verdict
from trocar.model.study import Record
from trocar.selection import decide

Make = Callable[..., Record]
Find = Callable[..., Verdict]


@pytest.mark.parametrize(
    ("site", "changes", "status", "says"),
    [
        ("L3", {}, "met", "None of 10 is present ("),
        ("rib", {}, "met", "None of 6"),
        ("rib", {"sex": "male", "pregnancy": None}, "met", "None of 5"),
        ("rib", {"sex": "male", "pregnancy": True}, "discuss", "pregnancy"),
        ("rib", {"sex": None, "pregnancy": None}, "unknown", "pregnancy"),
        ("L3", {"posterior_wall_defect": True}, "discuss", "defect of the posterior wall"),
        ("L3", {"cortical_defect": True, "escc": None}, "discuss", "Not known: epidural"),
        ("L3", {"nature": "blastic"}, "discuss", "Present: blastic lesion."),
        ("L3", {"sins_collapse_percent": 70}, "met", "None"),
        ("L3", {"sins_collapse_percent": 71}, "discuss", "vertebra plana"),
        ("L3", {"levels_per_session": 3}, "met", "None"),
        ("L3", {"levels_per_session": 4}, "discuss", "many levels in one session"),
        ("L3", {"radicular_dominant": True}, "discuss", "radicular"),
        ("L3", {"myelopathy": True}, "discuss", "myelopathy"),
        ("L3", {"escc": "1a"}, "met", "None"),
        ("L3", {"escc": "1b"}, "discuss", "epidural extension"),
        ("L3", {"escc": "1c"}, "discuss", "epidural extension"),
        ("L3", {"diagnosis": "osteoporotic fracture", "escc": None}, "met", "None of 9"),
        ("acetabulum", {"joint_surface": True}, "discuss", "joint surface"),
        ("rib", {"severe_cardiopulmonary": True}, "discuss", "cardiopulmonary"),
        ("rib", {"severe_cardiopulmonary": None}, "unknown", "cardiopulmonary"),
    ],
)
def test_relative_contraindications(
    verdict: Find, site: str, changes: dict[str, Any], status: str, says: str
) -> None:
    found = verdict("R1", site, **changes)
    assert (found.status, found.hard, found.evidence) == (status, False, "general knowledge")
    assert says in found.text


@pytest.mark.parametrize(
    ("rule", "site", "changes", "status", "says"),
    [
        ("P1", "L3", {"planned_ablation": "radiofrequency"}, "discuss", "1 of 3 lesions"),
        ("P1", "L3", {"planned_ablation": "radiofrequency"}, "discuss", "thermal report"),
        ("P1", "L3", {"planned_ablation": "cryo"}, "discuss", "(cryo): a thermal report"),
        ("P1", "S2", {"planned_ablation": "radiofrequency"}, "discuss", "(radiofrequency)"),
        ("P1", "L3", {"planned_ablation": None, "procedures": ()}, "unknown", "not known"),
        ("P1", "L3", {}, "not applicable", "No ablation"),
        ("P1", "rib", {"planned_ablation": "cryo"}, "not applicable", "not in spine"),
        ("P2", "L3", {"posterior_wall_defect": True}, "discuss", "of 157 such levels 9 %"),
        ("P2", "L3", {"posterior_wall_defect": None}, "unknown", "not known"),
        ("P2", "L3", {}, "met", "whole"),
        ("P2", "rib", {}, "not applicable", "vertebra"),
        ("P3", "acetabulum", {}, "met", "class I:"),
        ("P3", "acetabulum", {"harrington": "II"}, "discuss", "consider screws"),
        ("P3", "acetabulum", {"harrington": "III"}, "discuss", "consider screws"),
        ("P3", "acetabulum", {"harrington": "IV"}, "discuss", "resected for cure"),
        ("P3", "acetabulum", {"harrington": None}, "unknown", "not known"),
        ("P3", "L3", {}, "not applicable", "acetabulum"),
        ("P4", "rib", {"soft_tissue": True}, "discuss", "without ablation"),
        ("P4", "rib", {"soft_tissue": True, "planned_ablation": "cryo"}, "met", "(cryo)"),
        ("P4", "rib", {"soft_tissue": None}, "unknown", "soft-tissue"),
        (
            "P4",
            "rib",
            {"soft_tissue": True, "planned_ablation": None, "procedures": ()},
            "unknown",
            "ablation is planned",
        ),
        ("P4", "rib", {}, "not applicable", "No large"),
        ("NOMS", "L3", {}, "met", "N: ESCC 0, myelopathy no. O: radioresistant. M: potentially"),
        ("NOMS", "L3", {"ecog": None, "karnofsky": 40}, "met", "S: ECOG 3"),
        ("NOMS", "L3", {"escc": None}, "unknown", "N: ESCC not known"),
        ("NOMS", "rib", {}, "not applicable", "no malignant spinal"),
        ("NOMS", "L3", {"diagnosis": "haemangioma"}, "not applicable", "no malignant spinal"),
    ],
)
def test_notes_on_choices(
    verdict: Find, rule: str, site: str, changes: dict[str, Any], status: str, says: str
) -> None:
    found = verdict(rule, site, **changes)
    assert (found.status, found.hard) == (status, False)
    assert says in found.text


def test_the_paralysis_is_from_its_source(verdict: Find) -> None:
    found = verdict("P1", planned_ablation="radiofrequency")
    assert found.clause == "Hong Kong Med J 2013;19:317-22"
    assert found.evidence == "verified"
    assert verdict("P1", planned_ablation="cryo").evidence == "general knowledge"


def test_what_was_done_counts_over_what_was_planned(verdict: Find) -> None:
    done = Procedure(procedure_id="1", lesion_id="1", date="2026-03-06")
    for techniques, planned, status in (
        (("radiofrequency", "cement"), "none", "discuss"),
        (("cement",), None, "not applicable"),
        (None, None, "unknown"),
        (None, "cryo", "discuss"),
    ):
        procedures = (replace(done, techniques=techniques),)
        found = verdict("P1", planned_ablation=planned, procedures=procedures)
        assert found.status == status


def test_soft_rules_do_not_change_the_outcome(make: Make) -> None:
    record = make(
        planned_ablation="radiofrequency",
        posterior_wall_defect=True,
        soft_tissue=None,
        severe_cardiopulmonary=True,
        myelopathy=None,
        expected_survival_months=0.5,
    )
    decision = decide(record)
    assert decision.outcome == "eligible"
    assert {v.rule for v in decision.of("discuss")} == {"R1", "P1", "P2", "E10"}
    assert {v.rule for v in decision.of("unknown")} == {"P4", "NOMS"}
