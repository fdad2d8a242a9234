"""How a lesion is cared for between the tables of a study: who asked, decided, planned.

Rows like those of ``model.course``, kept by the registry. People appear by the name of their
account or a pseudonym. A moment is an ISO time in UTC; a day is a date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trocar.errors import InputError
from trocar.model.columns import checked, column
from trocar.model.course import COMPARTMENTS, GUIDANCE, LEAK_WATCH, TECHNIQUES
from trocar.model.patient import ABLATIONS, SPECIALTIES
from trocar.model.study import TABLES

STATES = (
    "referred",
    "selection",
    "meeting",
    "consent",
    "planning",
    "ready",
    "treated",
    "follow-up",
    "closed",
    "declined",
)
DECISIONS = (
    "cementoplasty",
    "ablation and cementoplasty",
    "ablation alone",
    "surgery first",
    "radiotherapy",
    "other treatment",
    "decide later",
    "no treatment",
)
RISKS = (
    "cement leak",
    "cement embolus",
    "nerve injury or paralysis",
    "infection",
    "bleeding",
    "fracture",
    "fever",
    "more pain for some days",
    "death",
    "pain may not improve",
)
_MOMENT = "moment, UTC"


@dataclass(frozen=True, kw_only=True)
class Referral:
    """Who sent the patient for this lesion, when, and what was asked."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    date: str = column("day of the referral", kind="date", required=True)
    referrer_id: str | None = column("who refers, by the name of the account", identifier=True)
    specialty: str | None = column("specialty of who refers", choices=SPECIALTIES)
    urgency: str | None = column("urgency", choices=("routine", "soon", "urgent"))
    question: str | None = column("what is asked, without names")
    pain_now: float | None = column("pain at referral", low=0, high=10)
    can_lie_prone: bool | None = column("can lie prone")
    anticoagulant: bool | None = column("takes an anticoagulant or antiplatelet drug")
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """One discussion of a lesion by the multidisciplinary team, and what it decided."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    date: str = column("day of the meeting", kind="date", required=True)
    chair_id: str | None = column("who led the meeting", identifier=True)
    decision: str | None = column("what was decided", choices=DECISIONS)
    reason: str | None = column("why, without names")
    conditions: str | None = column("what must be done before")
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What one member of a meeting thought, and when it was signed."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    date: str = column("day of the meeting", kind="date", required=True)
    member_id: str = column("member, by the name of the account", required=True, identifier=True)
    specialty: str = column("specialty of the member", required=True, choices=SPECIALTIES)
    vote: str | None = column("vote", choices=("for", "against", "abstained"))
    signed_at: str | None = column(f"signed: {_MOMENT}")
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Consent:
    """One consent: which version of which form, what was spoken of, and whether it still holds."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    number: int = column("first, second, ... consent of the lesion", required=True, low=1, high=99)
    date: str | None = column("day it was signed; empty while it is not", kind="date")
    form_version: str | None = column("version of the consent form")
    taken_by: str | None = column("who spoke with the patient", identifier=True)
    techniques: tuple[str, ...] | None = column("consented to", choices=TECHNIQUES)
    risks: tuple[str, ...] | None = column("risks spoken of", choices=RISKS)
    capacity: bool | None = column("the patient had capacity to consent")
    interpreter: bool | None = column("an interpreter helped")
    withdrawn: str | None = column("day it was withdrawn", kind="date")
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)
        if self.withdrawn is not None and self.date is None:
            raise InputError(
                "Consent: withdrawn is given while date is empty; expected the day it was signed"
            )

    @property
    def holds(self) -> bool:
        """Whether it was signed and not withdrawn."""
        return self.date is not None and self.withdrawn is None


@dataclass(frozen=True, kw_only=True)
class Imaging:
    """One image study of a lesion: what, when, why, and the hash by which its file is found."""

    image_id: str = column("name of the image study", required=True, identifier=True)
    lesion_id: str = column("which lesion", required=True, identifier=True)
    date: str | None = column("day it was made", kind="date")
    modality: str = column(
        "modality",
        required=True,
        choices=("CT", "MR", "PET-CT", "radiograph", "cone-beam CT", "bone scan", "other"),
    )
    purpose: str | None = column(
        "what for", choices=("diagnosis", "planning", "during", "after", "follow-up")
    )
    sha256: str | None = column("hash of the image as it is kept", identifier=True)
    slices: int | None = column("number of slices", low=1, high=20000)
    thickness_mm: float | None = column("slice thickness", unit="mm", low=0.05, high=50)
    deidentified: bool | None = column("freed of what names the patient")
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class PlanVersion:
    """One version of the plan for a lesion; a version never changes, an edit makes the next."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    number: int = column("version, from 1", required=True, low=1, high=9999)
    parent: int | None = column("version it was made from", low=1, high=9999)
    made_by: str | None = column("who made it", identifier=True)
    made_at: str | None = column(f"made: {_MOMENT}")
    why: str | None = column("what was changed and why")
    techniques: tuple[str, ...] | None = column("in the order to be done", choices=TECHNIQUES)
    route: str | None = column("way of the needle")
    guidance: tuple[str, ...] | None = column("image guidance", choices=GUIDANCE)
    needles: int | None = column("number of bone needles", low=1, high=20)
    needle_gauge: int | None = column("gauge of the thickest needle", unit="G", low=8, high=20)
    cement: str | None = column("cement")
    cement_ml: float | None = column("cement to be injected", unit="ml", low=0, high=100)
    stop_ml: float | None = column("volume not to pass", unit="ml", low=0, high=100)
    ablation: str | None = column("ablation: device, power, time")
    protection: str | None = column("protection of nerves and skin")
    verdict: str | None = column(
        "worst verdict of the plan", choices=("ok", "caution", "stop", "unknown")
    )
    plan_sha256: str | None = column("hash of the computed plan's file", identifier=True)
    approved_by: str | None = column("who approved it", identifier=True)
    approved_at: str | None = column(f"approved: {_MOMENT}")
    revoked_at: str | None = column(f"approval revoked: {_MOMENT}")

    def __post_init__(self) -> None:
        checked(self)
        if (
            self.cement_ml is not None
            and self.stop_ml is not None
            and self.cement_ml > self.stop_ml
        ):
            raise InputError(
                f"PlanVersion: cement_ml is {self.cement_ml:g}; expected at most stop_ml, "
                f"{self.stop_ml:g}"
            )
        if (self.approved_at is None) != (self.approved_by is None):
            raise InputError(
                "PlanVersion: expected approved_by and approved_at both given or both empty"
            )
        if self.revoked_at is not None and self.approved_at is None:
            raise InputError("PlanVersion: revoked_at is given; expected an approval before it")

    @property
    def approved(self) -> bool:
        """Whether it is approved and the approval was not revoked."""
        return self.approved_at is not None and self.revoked_at is None


# What of a plan version is the plan itself, and not its story.
PLANNED = (
    "techniques", "route", "guidance", "needles", "needle_gauge", "cement", "cement_ml", "stop_ml",
    "ablation", "protection", "verdict", "plan_sha256",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SimulationRun:
    """One computed result: what of, from which inputs and seed, so that it can be repeated."""

    run_id: str = column("name of the run", required=True, identifier=True)
    lesion_id: str = column("which lesion", required=True, identifier=True)
    plan_number: int | None = column("version of the plan it belongs to", low=1, high=9999)
    kind: str = column(
        "what was computed",
        required=True,
        choices=("plan", "ablation", "injection", "leak forecast", "strength", "assessment"),
    )
    started_at: str | None = column(f"started: {_MOMENT}")
    seconds: float | None = column("time it took", unit="s", low=0, high=10000000)
    seed: int | None = column("seed", low=0, high=9223372036854775807)
    trocar_version: str | None = column("version of trocar")
    inputs_sha256: str | None = column("hash of its inputs", identifier=True)
    facts_sha256: str | None = column("hash of the tables of facts it used", identifier=True)
    verdict: str | None = column("worst verdict", choices=("ok", "caution", "stop", "unknown"))
    result_sha256: str | None = column("hash of its result's file", identifier=True)
    summary: str | None = column("what it found, in a sentence")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Injection:
    """One mix of cement through one needle: product, times after mixing, volume."""

    procedure_id: str = column("which procedure", required=True, identifier=True)
    number: int = column("first, second, ... injection", required=True, low=1, high=99)
    cement: str | None = column("cement")
    lot: str | None = column("lot number")
    room_c: float | None = column("temperature of the room", unit="degC", low=5, high=40)
    start_s: float | None = column("start after mixing", unit="s", low=0, high=7200)
    end_s: float | None = column("end after mixing", unit="s", low=0, high=7200)
    volume_ml: float | None = column("cement injected", unit="ml", low=0, high=100)
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)
        if self.start_s is not None and self.end_s is not None and self.end_s < self.start_s:
            raise InputError(
                f"Injection: end_s is {self.end_s:g}; expected at least start_s, {self.start_s:g}"
            )


@dataclass(frozen=True, kw_only=True)
class InjectionEvent:
    """One thing that happened while cement was injected: a leak seen, a halt, a needle moved."""

    procedure_id: str = column("which procedure", required=True, identifier=True)
    second: float = column("time after mixing", required=True, unit="s", low=0, high=7200)
    event: str = column("what happened", required=True, choices=LEAK_WATCH)
    compartment: str | None = column("where the leak was seen", choices=COMPARTMENTS)
    volume_ml: float | None = column("injected until then", unit="ml", low=0, high=100)
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class AblationSession:
    """One application of heat or cold: device, power or ice, time, what was watched."""

    procedure_id: str = column("which procedure", required=True, identifier=True)
    number: int = column("first, second, ... application", required=True, low=1, high=99)
    kind: str = column("kind", required=True, choices=ABLATIONS)
    device: str | None = column("device")
    probes: int | None = column("number of probes", low=1, high=20)
    power_w: float | None = column("power", unit="W", low=0, high=1000)
    target_c: float | None = column("target temperature", unit="degC", low=-200, high=150)
    seconds: float | None = column("time at power or freezing", unit="s", low=0, high=36000)
    cycles: int | None = column("freezing cycles", low=1, high=10)
    same_track: bool | None = column("cement went in by the same track")
    nerve_c: float | None = column(
        "warmest or coldest at a nerve, measured", unit="degC", low=-60, high=100
    )
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What the CT after the procedure shows: cement, how much of the lesion it fills, leaks."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    date: str = column("day of the CT", kind="date", required=True)
    image_id: str | None = column("which image study", identifier=True)
    read_by: str | None = column("who read it", identifier=True)
    cement_ml: float | None = column("cement found", unit="ml", low=0, high=200)
    cement_low_ml: float | None = column("at least", unit="ml", low=0, high=200)
    cement_high_ml: float | None = column("at most", unit="ml", low=0, high=200)
    fill_fraction: float | None = column("share of the lesion that is filled", low=0, high=1)
    leak_found: bool | None = column("cement outside the bone was found")
    compartments: tuple[str, ...] | None = column("where", choices=COMPARTMENTS)
    nearest_joint_mm: float | None = column("cement to joint", unit="mm", low=0, high=500)
    result_sha256: str | None = column("hash of the result's file", identifier=True)
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A lesion moved from one state to the next: who, when, and what was overridden and why."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    number: int = column("first, second, ... step", required=True, low=1, high=9999)
    at: str = column(f"moved: {_MOMENT}", required=True)
    by: str = column("who moved it", required=True, identifier=True)
    state: str = column("state it is in since", required=True, choices=STATES)
    overridden: tuple[str, ...] | None = column("gates that were not open")
    reason: str | None = column("why they were overridden, or why this step")

    def __post_init__(self) -> None:
        checked(self)
        if self.overridden and self.reason is None:
            raise InputError("Step: reason is empty; expected why the gates were overridden")


# Table name -> the class of its rows, in the order they are read; beside those of a study.
CARE_TABLES: Mapping[str, type] = {
    "referrals": Referral,
    "meetings": Meeting,
    "votes": Vote,
    "consents": Consent,
    "images": Imaging,
    "plans": PlanVersion,
    "runs": SimulationRun,
    "injections": Injection,
    "injection_events": InjectionEvent,
    "ablations": AblationSession,
    "assessments": Assessment,
    "steps": Step,
}
ALL_TABLES: Mapping[str, type] = {**TABLES, **CARE_TABLES}
# Columns that no two rows of a table may share, within one study.
CARE_KEYS: Mapping[str, tuple[str, ...]] = {
    "meetings": ("lesion_id", "date"),
    "votes": ("lesion_id", "date", "member_id"),
    "consents": ("lesion_id", "number"),
    "images": ("image_id",),
    "plans": ("lesion_id", "number"),
    "runs": ("run_id",),
    "injections": ("procedure_id", "number"),
    "ablations": ("procedure_id", "number"),
    "assessments": ("lesion_id", "date"),
    "steps": ("lesion_id", "number"),
}


@dataclass(frozen=True, kw_only=True)
class Care:
    """All that is kept about the care of one lesion, each table in the order it was entered."""

    lesion_id: str
    referrals: tuple[Referral, ...] = ()
    meetings: tuple[Meeting, ...] = ()
    votes: tuple[Vote, ...] = ()
    consents: tuple[Consent, ...] = ()
    images: tuple[Imaging, ...] = ()
    plans: tuple[PlanVersion, ...] = ()
    runs: tuple[SimulationRun, ...] = ()
    injections: tuple[Injection, ...] = ()
    injection_events: tuple[InjectionEvent, ...] = ()
    ablations: tuple[AblationSession, ...] = ()
    assessments: tuple[Assessment, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def state(self) -> str:
        """The state of the last step; a lesion without one has only been referred."""
        return self.steps[-1].state if self.steps else STATES[0]

    @property
    def plan(self) -> PlanVersion | None:
        """The newest version of the plan, or None."""
        return max(self.plans, key=lambda p: p.number, default=None)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a lesion stands in its care, as a worklist shows it."""

    state: str
    since: str  # moment of the last step, or "" when there is none
    next_due: str = ""  # ISO day of what is due first, "" when nothing is
    due_what: str = ""
    unsigned_plan: bool = False
    missing_scores: int = 0  # visits that are past without a score
    open_gates: int = 0  # of the next step
