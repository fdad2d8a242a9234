"""Which scores apply to a lesion, and their ingredients taken from its record."""

from __future__ import annotations

from trocar.model.decision import Score
from trocar.model.patient import Baseline, PainfulLesion, Patient
from trocar.selection.prognosis import (
    Noms,
    ecog_from_karnofsky,
    katagiri,
    noms,
    tokuhashi,
    tomita,
)
from trocar.selection.scores import escc, harrington, mirels, sins, sins_location

MALIGNANT = ("metastasis", "primary malignant bone tumour", "myeloma")
# Scores of the spine grade tumours; a fracture of porous bone has none.
NO_TUMOUR = ("osteoporotic fracture",)
SPREAD = ("metastasis", "myeloma")


def malignant(lesion: PainfulLesion) -> bool | None:
    """Whether a lesion is a malignant tumour; None when the diagnosis is not known."""
    return None if lesion.diagnosis is None else lesion.diagnosis in MALIGNANT


def applied_scores(patient: Patient, lesion: PainfulLesion, baseline: Baseline) -> dict[str, Score]:
    """The scores that apply to the site and the diagnosis; what is not known stays not known.

    Long bone: mirels. Spine: sins, escc. Sacrum with its level: sins. Acetabulum: harrington.
    Metastasis or myeloma, or no diagnosis: katagiri, in the spine also tokuhashi and tomita. ecog
    from Karnofsky where only the latter was recorded. Bollen is not among them.
    """
    b = baseline
    scores: dict[str, Score] = {}
    if lesion.long_bone:
        scores["mirels"] = mirels_of(lesion, b)
    if lesion.diagnosis not in NO_TUMOUR:
        if lesion.spinal or (lesion.sacral and sins_location(lesion.site) is not None):
            scores["sins"] = sins_of(lesion, b)
        if lesion.spinal:
            scores["escc"] = escc(grade=b.escc)
    if lesion.site == "acetabulum":
        scores["harrington"] = harrington(grade=b.harrington)
    if lesion.diagnosis in (None, *SPREAD):
        scores |= _prognosis(patient, lesion, b)
    if b.ecog is None and b.karnofsky is not None:
        scores["ecog"] = ecog_from_karnofsky(karnofsky=b.karnofsky)
    return scores


def mirels_of(lesion: PainfulLesion, b: Baseline) -> Score:
    """Mirels of a long bone; a femur needs to be known as peritrochanteric or not."""
    site: str | None = {"humerus": "upper limb", "tibia": "lower limb"}.get(lesion.site)
    if lesion.site == "femur" and b.peritrochanteric is not None:
        site = "trochanteric" if b.peritrochanteric else "lower limb"
    return mirels(
        site=site,
        size_fraction=b.mirels_size_fraction,
        nature=lesion.nature,
        pain=b.mirels_pain,
        humerus=lesion.site == "humerus",
        irradiated=b.radiotherapy_given or "radiotherapy" in (b.failed_treatments or ()),
    )


def sins_of(lesion: PainfulLesion, b: Baseline) -> Score:
    """SINS of a vertebra or a sacral level."""
    return sins(
        level=lesion.site,
        pain=b.sins_pain,
        nature=lesion.nature,
        alignment=b.sins_alignment,
        collapse_percent=b.sins_collapse_percent,
        body_involved_percent=b.sins_body_involved_percent,
        posterolateral=b.sins_posterolateral,
    )


def noms_of(patient: Patient, lesion: PainfulLesion, b: Baseline) -> Noms:
    """The four letters of NOMS of a spinal tumour."""
    return noms(
        escc=b.escc,
        myelopathy=b.myelopathy,
        primary=_primary(patient, lesion),
        sins=sins_of(lesion, b),
        ecog=_ecog(b),
        visceral=b.visceral,
    )


def _prognosis(patient: Patient, lesion: PainfulLesion, b: Baseline) -> dict[str, Score]:
    primary = _primary(patient, lesion)
    scores = {
        "katagiri": katagiri(
            primary=primary,
            visceral=b.visceral,
            ecog=_ecog(b),
            previous_chemotherapy=b.previous_chemotherapy,
            skeletal_lesions=b.skeletal_lesions,
            crp_mg_dl=b.crp_mg_dl,
            ldh_iu_l=b.ldh_iu_l,
            albumin_g_dl=b.albumin_g_dl,
            platelets_e9_l=b.platelets_e9_l,
            calcium_mg_dl=b.calcium_mg_dl,
            bilirubin_mg_dl=b.bilirubin_mg_dl,
            hormone_dependent=b.hormone_dependent,
            targeted_drug=b.targeted_drug,
        )
    }
    if not lesion.spinal:
        return scores
    # Counts that contradict each other or the lesion itself are as good as not known.
    vertebral = b.vertebral_lesions or None
    outside = None
    if b.skeletal_lesions is not None and vertebral is not None:
        outside = b.skeletal_lesions - vertebral
    scores["tokuhashi"] = tokuhashi(
        karnofsky=b.karnofsky,
        extraspinal_lesions=outside if outside is None or outside >= 0 else None,
        vertebral_lesions=vertebral,
        visceral=b.visceral,
        frankel=b.frankel,
        primary=primary,
    )
    scores["tomita"] = tomita(
        primary=primary, visceral=b.visceral, skeletal_lesions=b.skeletal_lesions
    )
    return scores


def _primary(patient: Patient, lesion: PainfulLesion) -> str | None:
    """The primary tumour; myeloma is its own."""
    return "myeloma" if lesion.diagnosis == "myeloma" else patient.primary


def _ecog(b: Baseline) -> int | None:
    """ECOG as recorded, or from Karnofsky."""
    if b.ecog is not None or b.karnofsky is None:
        return b.ecog
    points = ecog_from_karnofsky(karnofsky=b.karnofsky).points
    return None if points is None else int(points)
