"""What the meeting must weigh: relative contraindications, and what the sources saw of choices.

These rules are soft: they are printed with their evidence and do not change the outcome.
"""

from __future__ import annotations

from trocar.facts.source import load
from trocar.selection.applied import NO_TUMOUR, noms_of
from trocar.selection.rule import FACTS, Answer, Candidate, Rule, fact, none_of

_HEATS = ("radiofrequency", "microwave", "HIFU", "plasma", "cryo")


def _relative(c: Candidate) -> Answer:
    b = c.baseline
    checks = {
        "cortical defect": b.cortical_defect,
        "blastic lesion": None if c.lesion.nature is None else c.lesion.nature == "blastic",
        "severe cardiopulmonary disease": b.severe_cardiopulmonary,
        "many levels in one session": _above(b.levels_per_session, "levels_relative"),
    }
    if c.patient.sex != "male" or b.pregnancy:
        checks["pregnancy"] = b.pregnancy
    if not c.lesion.spinal:
        checks["lesion in a joint surface"] = b.joint_surface
        return none_of(checks, found_is="discuss")
    checks |= {
        "defect of the posterior wall": c.lesion.posterior_wall_defect,
        "severe collapse or vertebra plana": _above(b.sins_collapse_percent, "collapse_relative"),
        "radicular pain above axial pain": b.radicular_dominant,
        "myelopathy": b.myelopathy,
    }
    if c.lesion.diagnosis not in NO_TUMOUR:
        # Above 1c the rules E12 and N1 have already said no.
        checks["epidural extension"] = None if b.escc is None else b.escc in ("1b", "1c", "2", "3")
    return none_of(checks, found_is="discuss")


def _above(value: float | None, name: str) -> bool | None:
    return None if value is None else value > fact(name)


def _spinal_ablation(c: Candidate) -> Answer:
    if not (c.lesion.spinal or c.lesion.sacral):
        return Answer(status="not applicable", reason="The lesion is not in spine or sacrum.")
    if c.ablation is None:
        return Answer(status="unknown", reason="Whether ablation is planned is not known.")
    if c.ablation == "none":
        return Answer(status="not applicable", reason="No ablation is planned.")
    if c.ablation == "radiofrequency" and c.lesion.spinal:
        return Answer(
            status="discuss",
            reason="Radiofrequency in a vertebra: in the Hong Kong series {paralysed:g} of "
            "{treated:g} lesions treated so, the only spinal one, was followed by lasting "
            "paralysis of a leg without leak or canal breach. Use with caution; a thermal report "
            "on cord and nerve roots is required.",
            values={
                "paralysed": fact("spinal_ablation_paralysed"),
                "treated": fact("ablation_treated"),
            },
            evidence=load(FACTS)["spinal_ablation_paralysed"].evidence,
        )
    return Answer(
        status="discuss",
        reason="Ablation beside nerves ({ablation}): a thermal report on cord and nerve roots is "
        "required.",
        values={"ablation": c.ablation},
        evidence="general knowledge",
    )


def _posterior_wall(c: Candidate) -> Answer:
    if not c.lesion.spinal:
        return Answer(status="not applicable", reason="The lesion is not in a vertebra.")
    if c.lesion.posterior_wall_defect is None:
        return Answer(
            status="unknown", reason="Whether the posterior wall has a defect is not known."
        )
    if not c.lesion.posterior_wall_defect:
        return Answer(status="met", reason="The posterior wall is whole.")
    return Answer(
        status="discuss",
        reason="Defect of the posterior wall: inject late, when the cement is more viscous, under "
        "close fluoroscopy. It does not exclude treatment: of {levels:g} such levels {leak:g} % "
        "leaked without symptoms.",
        values={"levels": fact("wall_defect_levels"), "leak": fact("wall_defect_leak")},
    )


def _acetabulum(c: Candidate) -> Answer:
    if c.lesion.site != "acetabulum":
        return Answer(status="not applicable", reason="The lesion is not in an acetabulum.")
    score = c.scores["harrington"]
    values = {"group": score.group}
    if score.points is None:
        return Answer(status="unknown", reason="The Harrington class is not known.")
    if score.group in ("class II", "class III"):
        return Answer(
            status="discuss",
            reason="Harrington {group}: cement may leak into the pelvis or the joint, and alone "
            "may not hold; consider screws, and measure the distance to the joint.",
            values=values,
        )
    if score.group == "class IV":
        return Answer(
            status="discuss",
            reason="Harrington {group}: an isolated lesion that could be resected for cure.",
            values=values,
        )
    return Answer(status="met", reason="Harrington {group}: the walls are whole.", values=values)


def _soft_tissue(c: Candidate) -> Answer:
    if c.lesion.soft_tissue is None:
        return Answer(
            status="unknown",
            reason="Whether the lesion has a large soft-tissue component is not known.",
        )
    if not c.lesion.soft_tissue:
        return Answer(status="not applicable", reason="No large soft-tissue component.")
    if c.ablation is None:
        return Answer(status="unknown", reason="Whether ablation is planned is not known.")
    if c.ablation == "none":
        return Answer(
            status="discuss",
            reason="Large soft-tissue component without ablation: the Hong Kong series ablated "
            "such lesions through the same needle path before the cement.",
        )
    return Answer(
        status="met",
        reason="Large soft-tissue component with ablation before the cement ({ablation}).",
        values={"ablation": c.ablation},
    )


def _noms(c: Candidate) -> Answer:
    if not c.lesion.spinal or c.malignant is False:
        return Answer(status="not applicable", reason="The lesion is no malignant spinal tumour.")
    letters = noms_of(c.patient, c.lesion, c.baseline)
    known = {True: "yes", False: "no", None: "not known"}
    missing = ", ".join(letters.missing)
    values = {
        "escc": letters.escc or "not known",
        "myelopathy": known[letters.myelopathy],
        "sensitivity": letters.radiosensitivity or "not known",
        "stability": letters.stability or "not known",
        "ecog": "not known" if letters.ecog is None else str(letters.ecog),
        "visceral": letters.visceral or "not known",
    }
    return Answer(
        status="unknown" if missing else "met",
        reason="N: ESCC {escc}, myelopathy {myelopathy}. O: {sensitivity}. M: {stability}. S: "
        "ECOG {ecog}, visceral metastases {visceral}. For reading; nothing follows from it.",
        values=values,
        evidence=letters.evidence,
    )


CAUTIONS: tuple[Rule, ...] = (
    Rule(
        rule_id="R1",
        title="Relative contraindications",
        clause="CIRSE, CVIR 2017;40:331-42",
        function=_relative,
        evidence="general knowledge",
        hard=False,
    ),
    Rule(
        rule_id="P1",
        title="Ablation beside the cord and nerve roots",
        clause="Hong Kong Med J 2013;19:317-22",
        function=_spinal_ablation,
        hard=False,
    ),
    Rule(
        rule_id="P2",
        title="Posterior wall",
        clause="Hong Kong Med J 2013;19:317-22; Int J Spine Surg 2021;15:353",
        function=_posterior_wall,
        hard=False,
    ),
    Rule(
        rule_id="P3",
        title="Walls of the acetabulum",
        clause="Harrington 1981; IPG179 2.4.1",
        function=_acetabulum,
        hard=False,
    ),
    Rule(
        rule_id="P4",
        title="Soft-tissue component",
        clause="Hong Kong Med J 2013;19:317-22",
        function=_soft_tissue,
        hard=False,
    ),
    Rule(
        rule_id="NOMS",
        title="Letters of NOMS",
        clause="Laufer 2013",
        function=_noms,
        evidence="general knowledge",
        hard=False,
    ),
)
