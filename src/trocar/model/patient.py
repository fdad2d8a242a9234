"""Who is treated and for what: the patient, the painful lesion, what was known before the day."""

from __future__ import annotations

from dataclasses import dataclass

from trocar.model.case import LEVELS
from trocar.model.columns import checked, column

SPINE_REGIONS = ("cervical spine", "thoracic spine", "lumbar spine")
SACRAL = ("sacrum", "S1", "S2", "S3", "S4", "S5")
PELVIC = ("pelvis", "ilium", "acetabulum", "ischium", "pubis", "pubic ramus")
LONG_BONES = ("humerus", "femur", "tibia")
FLAT_BONES = ("scapula", "sternum", "rib", "clavicle")
SITES = (*LEVELS, "T13", "L6", *SPINE_REGIONS, *SACRAL, *PELVIC, *LONG_BONES, *FLAT_BONES, "other")

PRIMARIES = (
    "lung",
    "breast",
    "prostate",
    "kidney",
    "thyroid",
    "myeloma",
    "lymphoma",
    "colon",
    "rectum",
    "stomach",
    "oesophagus",
    "pancreas",
    "liver",
    "gallbladder",
    "bladder",
    "other urological",
    "uterus",
    "cervix",
    "ovary",
    "head and neck",
    "melanoma",
    "sarcoma",
    "osteosarcoma",
    "carcinoid",
    "seminoma",
    "unknown",
    "other",
)
DIAGNOSES = (
    "metastasis",
    "primary malignant bone tumour",
    "myeloma",
    "osteoporotic fracture",
    "haemangioma",
    "benign cyst",
    "other",
)
FAILED_TREATMENTS = (
    "analgesia",
    "opioids",
    "radiotherapy",
    "bed rest",
    "bracing",
    "systemic therapy",
    "nerve block",
    "surgery",
    "other",
)
ABLATIONS = ("radiofrequency", "microwave", "cryo", "HIFU", "plasma")
SPECIALTIES = (
    "radiology",
    "oncology",
    "radiotherapy",
    "orthopaedics",
    "spinal surgery",
    "pain management",
    "palliative care",
    "other",
)


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One person, by pseudonym; holds nothing that names anybody."""

    patient_id: str = column("pseudonym", required=True, identifier=True)
    sex: str | None = column("sex", choices=("female", "male", "other"))
    age_years: float | None = column("age at the first procedure", unit="years", low=0, high=120)
    primary: str | None = column("primary tumour", choices=PRIMARIES)
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class PainfulLesion:
    """One painful lesion: the unit of treatment and of pain. A patient may have several."""

    lesion_id: str = column("name of the lesion within the study", required=True, identifier=True)
    patient_id: str = column("whose lesion", required=True, identifier=True)
    site: str = column("bone or vertebral level", required=True, choices=SITES)
    side: str | None = column("side", choices=("left", "right", "both", "midline"))
    diagnosis: str | None = column("what the lesion is", choices=DIAGNOSES)
    nature: str | None = column("lytic, mixed or blastic", choices=("lytic", "mixed", "blastic"))
    soft_tissue: bool | None = column("significant soft-tissue component")
    posterior_wall_defect: bool | None = column("defect of the posterior vertebral wall")
    volume_ml: float | None = column("volume of the lesion", unit="ml", low=0, high=2000)
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)

    @property
    def spinal(self) -> bool:
        """Whether the lesion sits in a vertebra above the sacrum."""
        return self.site in (*LEVELS, "T13", "L6", *SPINE_REGIONS)

    @property
    def sacral(self) -> bool:
        """Whether the lesion sits in the sacrum."""
        return self.site in SACRAL

    @property
    def long_bone(self) -> bool:
        """Whether the lesion sits in humerus, femur or tibia."""
        return self.site in LONG_BONES

    @property
    def region(self) -> str:
        """Group used in tables: cervical, thoracic, lumbar, sacrum, pelvis, long bone, ...

        >>> PainfulLesion(lesion_id="1", patient_id="A", site="ischium").region
        'pelvis'
        """
        if self.spinal:
            words = {"C": "cervical", "T": "thoracic", "L": "lumbar"}
            return words[self.site[0].upper()]
        if self.sacral:
            return "sacrum"
        if self.site in PELVIC:
            return "pelvis"
        if self.long_bone:
            return "long bone"
        return self.site


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What is known about one lesion when the meeting decides. Everything may be unknown (None)."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    decided_on: str | None = column("day of the decision", kind="date")
    # Pain and what was tried
    pain_present: bool | None = column("the lesion hurts")
    site_of_maximal_pain: bool | None = column("it is the site of maximal pain")
    matches_imaging: bool | None = column("pain and imaging point to the same place")
    failed_treatments: tuple[str, ...] | None = column(
        "treatments that failed to control the pain", choices=FAILED_TREATMENTS
    )
    analgesia_maximised: bool | None = column("oral or parenteral analgesia was maximised")
    radiotherapy_given: bool | None = column("radiotherapy was given to this lesion")
    radiotherapy_end: str | None = column("last day of radiotherapy to this lesion", kind="date")
    radiotherapy_override: str | None = column("why not to wait for the effect of radiotherapy")
    # Arrangements
    mdt_date: str | None = column("day of the multidisciplinary meeting", kind="date")
    mdt_members: tuple[str, ...] | None = column("specialties that took part", choices=SPECIALTIES)
    spinal_surgery_access: bool | None = column("good access to a spinal surgery service")
    surgical_opinion: str | None = column(
        "what a surgeon advised when asked about fixation or stabilisation",
        choices=("cementoplasty", "surgery first"),
    )
    consent_date: str | None = column("day the consent was signed", kind="date")
    audit_registered: bool | None = column("entered into the unit's audit")
    governance_approved: bool | None = column("approved by clinical governance")
    operator_trained: bool | None = column("operator trained to the appropriate level")
    operator_cases: int | None = column(
        "procedures the operator has done before", low=0, high=100000
    )
    # Whether it may be done
    planned_ablation: str | None = column(
        "ablation planned with the cement",
        choices=("none", *ABLATIONS),
    )
    infection: bool | None = column("active local or systemic infection")
    uncorrectable_coagulopathy: bool | None = column("coagulopathy that cannot be corrected")
    cement_allergy: bool | None = column("allergy to cement")
    cord_compression_fragment: bool | None = column(
        "unstable fracture with deficit, or retropulsed fragment compressing the cord"
    )
    asymptomatic_stable: bool | None = column("the lesion is stable and does not hurt")
    new_neuro_deficit: bool | None = column("new neurological deficit")
    myelopathy: bool | None = column("myelopathy")
    radicular_dominant: bool | None = column("radicular pain greater than axial pain")
    cortical_defect: bool | None = column("cortical defect other than the posterior wall")
    joint_surface: bool | None = column("lesion reaches a joint surface")
    pregnancy: bool | None = column("pregnancy")
    severe_cardiopulmonary: bool | None = column("severe cardiopulmonary disease")
    levels_per_session: int | None = column(
        "levels or lesions to be treated together", low=1, high=30
    )
    inr: float | None = column("international normalised ratio", low=0.5, high=20)
    platelets_e9_l: float | None = column("platelets", unit="10^9/L", low=0, high=3000)
    superficial_extremity: bool | None = column("superficial bone of an extremity, no ablation")
    # Scores' ingredients
    ecog: int | None = column("ECOG performance status", low=0, high=5)
    karnofsky: int | None = column("Karnofsky index", unit="%", low=0, high=100)
    expected_survival_months: float | None = column(
        "expected survival by the meeting", unit="months", low=0, high=600
    )
    mirels_size_fraction: float | None = column("lesion over bone diameter", low=0, high=1)
    mirels_pain: str | None = column("Mirels pain", choices=("mild", "moderate", "functional"))
    peritrochanteric: bool | None = column("the lesion is peritrochanteric")
    sins_pain: str | None = column("SINS pain", choices=("mechanical", "occasional", "none"))
    sins_alignment: str | None = column(
        "SINS alignment", choices=("normal", "deformity", "subluxation")
    )
    sins_collapse_percent: float | None = column(
        "vertebral body collapse", unit="%", low=0, high=100
    )
    sins_body_involved_percent: float | None = column(
        "share of the body involved", unit="%", low=0, high=100
    )
    sins_posterolateral: str | None = column(
        "SINS posterolateral involvement", choices=("none", "unilateral", "bilateral")
    )
    escc: str | None = column(
        "epidural compression (ESCC, Bilsky)", choices=("0", "1a", "1b", "1c", "2", "3")
    )
    harrington: str | None = column("Harrington acetabular class", choices=("I", "II", "III", "IV"))
    visceral: str | None = column(
        "visceral or cerebral metastases",
        choices=("none", "nodular removable", "nodular unremovable", "disseminated"),
    )
    skeletal_lesions: int | None = column(
        "number of skeletal metastases, this one included", low=1, high=1000
    )
    vertebral_lesions: int | None = column(
        "number of vertebral bodies with metastases", low=0, high=30
    )
    frankel: str | None = column("Frankel grade", choices=("A", "B", "C", "D", "E"))
    previous_chemotherapy: bool | None = column("chemotherapy was given before")
    targeted_drug: bool | None = column("lung: treated with a molecular targeted drug")
    hormone_dependent: bool | None = column("breast, prostate: hormone dependent")
    crp_mg_dl: float | None = column("C-reactive protein", unit="mg/dL", low=0, high=100)
    ldh_iu_l: float | None = column("lactate dehydrogenase", unit="IU/L", low=0, high=20000)
    albumin_g_dl: float | None = column("albumin", unit="g/dL", low=0, high=10)
    calcium_mg_dl: float | None = column("calcium, corrected", unit="mg/dL", low=0, high=30)
    bilirubin_mg_dl: float | None = column("total bilirubin", unit="mg/dL", low=0, high=80)
    goals: str | None = column("the patient's goals")
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)
