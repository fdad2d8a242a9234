"""The cases of the sources as they would come to a meeting, and which scores apply to which site.

What a source does not say of a case is left unknown: none of them is decided by what is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from trocar.io.records import example_study
from trocar.model.patient import Baseline
from trocar.model.study import Record
from trocar.selection import decide

Make = Callable[..., Record]
# What a unit would add to a printed case so that it can be decided.
CASE_1 = {
    "primary": "lung",
    "sex": "male",
    "age_years": 62,
    "nature": "lytic",
    "soft_tissue": False,
    "planned_ablation": "cryo",
    "cortical_defect": True,
}
CASE_2 = {"primary": "breast", "age_years": 47, "nature": "lytic", "harrington": "II"}
CASE_3 = {
    "primary": "prostate",
    "sex": "male",
    "age_years": 81,
    "sins_pain": "mechanical",
    "sins_collapse_percent": 90.0,
    "sins_posterolateral": "unilateral",
    "skeletal_lesions": 4,
    "vertebral_lesions": 4,
    "hormone_dependent": True,
}
PRINTED = ("pain_present", "failed_treatments", "planned_ablation")


def _as_printed(record: Record) -> Record:
    """Only what the article says: there is pain, and drugs have failed."""
    b = record.baseline
    assert b is not None
    told = {name: getattr(b, name) for name in PRINTED}
    return replace(record, baseline=Baseline(lesion_id="1", **told), procedures=())


@pytest.mark.parametrize(
    ("site", "case"),
    [("acetabulum", CASE_1), ("acetabulum", CASE_2), ("L3", CASE_3)],
    ids=["1 ilium and acetabulum", "2 acetabulum and ramus", "3 T10"],
)
def test_no_printed_case_can_be_decided_from_its_print(
    make: Make, site: str, case: dict[str, Any]
) -> None:
    record = make(site, **case, failed_treatments=("analgesia",))
    decision = decide(_as_printed(record))
    assert decision.outcome == "incomplete"
    assert [v.rule for v in decision.of("met") if v.hard] == ["E1", "E3"]
    assert {"E2", "E5", "E6", "E7", "E8", "E9", "E10"} <= {v.rule for v in decision.of("unknown")}


def test_case_1_with_the_rest_known(make: Make) -> None:
    decision = decide(make("acetabulum", **CASE_1, joint_surface=True))
    assert decision.outcome == "eligible"
    assert [v.rule for v in decision.of("discuss")] == ["R1"]
    said = {v.rule: v.text for v in decision.verdicts}
    assert said["R1"] == "Present: cortical defect, lesion in a joint surface."
    assert [s.name for s in decision.scores] == ["Harrington", "Katagiri"]


def test_case_2_with_the_rest_known(make: Make) -> None:
    decision = decide(make("acetabulum", **CASE_2))
    assert decision.outcome == "eligible"
    assert [v.rule for v in decision.of("discuss")] == ["P3"]
    assert "screws" in decision.of("discuss")[0].text


def test_case_3_with_the_rest_known(make: Make) -> None:
    """A vertebra plana of T10: SINS 10, so a surgeon must have been asked."""
    record = make("L3", **CASE_3)
    record = replace(record, lesion=replace(record.lesion, site="T10"))
    decision = decide(record)
    assert decision.outcome == "eligible"
    scores = {s.name: s for s in decision.scores}
    assert (scores["SINS"].points, scores["SINS"].group) == (10, "potentially unstable")
    # Karnofsky 60, no foci outside the spine, 4 vertebrae, no organs, Frankel E, prostate
    assert scores["Revised Tokuhashi"].points == 1 + 2 + 0 + 2 + 2 + 5
    assert scores["Tomita"].points == 1 + 0 + 2
    assert [v.rule for v in decision.of("discuss")] == ["R1"]
    assert "vertebra plana" in decision.of("discuss")[0].text
    assert record.baseline is not None
    unasked = replace(record, baseline=replace(record.baseline, surgical_opinion=None))
    assert decide(unasked).outcome == "incomplete"


# --- Hong Kong ---------------------------------------------------------------------------------


def test_the_hong_kong_lesions_cannot_be_decided_from_their_print() -> None:
    for record in example_study().records:
        decision = decide(record)
        assert decision.outcome == "incomplete"
        met = {v.rule for v in decision.of("met")}
        assert {"E1", "E3"} <= met
        strict = next(v for v in decision.verdicts if v.rule == "E3").values["strict"]
        assert strict == "unknown"  # 10 of 12 patients were irradiated, not said which


def test_only_the_lesion_that_was_paralysed_is_cautioned_for_radiofrequency() -> None:
    warned = []
    for record in example_study().records:
        found = next(v for v in decide(record).verdicts if v.rule == "P1")
        if found.status == "discuss":
            warned.append(record.lesion_id)
    assert warned == ["5"]


def test_a_lesion_like_the_fifth(make: Make) -> None:
    """L1, renal cell carcinoma, radiofrequency: 11 points of Tokuhashi, and cautions."""
    record = make(
        "L3",
        primary="kidney",
        soft_tissue=True,
        planned_ablation="radiofrequency",
        karnofsky=60,
        ecog=None,
        skeletal_lesions=2,
        vertebral_lesions=1,
    )
    record = replace(record, lesion=replace(record.lesion, site="L1"))
    decision = decide(record)
    assert decision.outcome == "eligible"
    scores = {s.name: s for s in decision.scores}
    assert (scores["Revised Tokuhashi"].points, scores["SINS"].points) == (11, 8)
    assert scores["ECOG from Karnofsky"].points == 2
    assert [v.rule for v in decision.of("discuss")] == ["P1"]


def test_a_lesion_like_the_seventh(make: Make) -> None:
    """Rectal cancer in an acetabulum, 7 points of Katagiri: a poor outlook is no cut-off."""
    record = make(
        "acetabulum",
        primary="rectum",
        visceral="nodular unremovable",
        crp_mg_dl=2.0,
        calcium_mg_dl=9.0,
        bilirubin_mg_dl=0.5,
        previous_chemotherapy=True,
        skeletal_lesions=5,
        expected_survival_months=None,
    )
    decision = decide(record)
    assert decision.outcome == "eligible"
    expected = next(v for v in decision.verdicts if v.rule == "E10")
    assert expected.text == "Katagiri has 7 points: poor."
    assert expected.evidence == "general knowledge"


# --- Which scores apply ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "changes", "names"),
    [
        ("L3", {}, ["SINS", "ESCC (Bilsky)", "Katagiri", "Revised Tokuhashi", "Tomita"]),
        ("L3", {"diagnosis": "osteoporotic fracture"}, []),
        ("L3", {"diagnosis": "haemangioma"}, ["SINS", "ESCC (Bilsky)"]),
        ("L3", {"diagnosis": "primary malignant bone tumour"}, ["SINS", "ESCC (Bilsky)"]),
        ("S2", {}, ["SINS", "Katagiri"]),
        ("acetabulum", {}, ["Harrington", "Katagiri"]),
        ("humerus", {}, ["Mirels", "Katagiri"]),
        ("rib", {}, ["Katagiri"]),
        ("rib", {"ecog": None}, ["Katagiri", "ECOG from Karnofsky"]),
        ("rib", {"diagnosis": "primary malignant bone tumour"}, []),
    ],
)
def test_scores_that_apply(
    make: Make, site: str, changes: dict[str, Any], names: list[str]
) -> None:
    assert [s.name for s in decide(make(site, **changes)).scores] == names


def test_a_sacrum_without_its_level_has_no_sins(make: Make) -> None:
    record = make("S2")
    record = replace(record, lesion=replace(record.lesion, site="sacrum"))
    assert [s.name for s in decide(record).scores] == ["Katagiri"]


def test_myeloma_is_its_own_primary(make: Make) -> None:
    score = decide(make("rib", diagnosis="myeloma", primary=None)).scores[0]
    assert score.parts["primary"] == 0


def test_counts_that_contradict_each_other_are_not_known(make: Make) -> None:
    for skeletal, vertebral in ((1, 3), (2, 0)):
        record = make("L3", skeletal_lesions=skeletal, vertebral_lesions=vertebral)
        score = next(s for s in decide(record).scores if s.name == "Revised Tokuhashi")
        assert score.points is None
        assert "number of skeletal metastases" in score.missing


def test_ecog_as_recorded_comes_before_karnofsky(make: Make) -> None:
    poor = decide(make("rib", ecog=3, karnofsky=90)).scores[0]
    assert poor.parts["ecog"] == 1
    assert decide(make("rib", ecog=None, karnofsky=90)).scores[0].parts["ecog"] == 0
    assert "ECOG" in decide(make("rib", ecog=None, karnofsky=None)).scores[0].missing


def test_a_femur_asks_whether_it_is_peritrochanteric(make: Make) -> None:
    sites = {True: 3, False: 2}
    for answer, points in sites.items():
        score = decide(make("femur", peritrochanteric=answer)).scores[0]
        assert score.parts["site"] == points
    assert "site" in decide(make("femur", peritrochanteric=None)).scores[0].missing
    tibia = make("femur", peritrochanteric=None)
    tibia = replace(tibia, lesion=replace(tibia.lesion, site="tibia"))
    assert decide(tibia).scores[0].parts["site"] == 2


def test_mirels_says_that_the_bone_was_irradiated(make: Make) -> None:
    assert "irradiated" in decide(make("humerus")).scores[0].note
    before = make("humerus", radiotherapy_given=None)
    assert "irradiated" in decide(before).scores[0].note
    never = make("humerus", radiotherapy_given=False, failed_treatments=("opioids",))
    assert decide(never).scores[0].note == ""
