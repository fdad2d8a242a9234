"""What was done and what became of it: procedures, devices, pain, opioids, visits, harm, death.

Times are days after the lesion's procedure: day 0 is just before it, day 1 the day after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from trocar.errors import InputError
from trocar.model.columns import checked, column
from trocar.model.patient import ABLATIONS

TECHNIQUES = (
    "cement",
    *ABLATIONS,
    "cement-filled catheter",
    "screws",
    "kyphoplasty balloon",
    "biopsy",
    "nerve root block",
    "epidural injection",
    "facet injection",
)
GUIDANCE = ("fluoroscopy", "CT", "CT fluoroscopy", "cone-beam CT", "ultrasound", "MR")
COMPARTMENTS = (
    "basivertebral vein",
    "segmental or paravertebral vein",
    "vena cava or azygos vein",
    "pulmonary",
    "cortical anterior",
    "cortical lateral",
    "disc superior",
    "disc inferior",
    "disc",
    "epidural or canal",
    "foraminal",
    "facet",
    "intra-articular",
    "soft tissue",
    "pleural",
    "needle track",
    "other",
    "not stated",
)
COMPLICATIONS = (
    "transient worsening of pain",
    "fever",
    "creatinine increase",
    "cement embolus",
    "death from cement embolus",
    "nerve injury",
    "paralysis",
    "vascular injury",
    "pathological fracture",
    "infection",
    "bleeding",
    "thermal damage",
    "joint damage",
    "pneumothorax",
    "skin injury",
    "device problem",
    "other",
)
EVENTS = (
    "pain recurrence",
    "new fracture adjacent",
    "new fracture elsewhere",
    "retreatment",
    "conversion to surgery",
    "lost to follow-up",
    "last seen",
)
OPIOIDS = (
    "none",
    "morphine",
    "oxycodone",
    "hydromorphone",
    "codeine",
    "dextropropoxyphene",
    "tramadol",
    "tapentadol",
    "hydrocodone",
    "oxymorphone",
    "methadone",
    "buprenorphine",
    "fentanyl",
    "sufentanil",
    "pethidine",
)
LEAK_WATCH = (
    "injecting",
    "leak detected",
    "waiting to harden",
    "repositioning",
    "resumed",
    "finished",
)
_DAY = "day after the procedure; 0 is just before it"


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """One session on one lesion."""

    procedure_id: str = column("name of the procedure", required=True, identifier=True)
    lesion_id: str = column("which lesion", required=True, identifier=True)
    date: str | None = column("day of the procedure", kind="date")
    techniques: tuple[str, ...] | None = column("in the order done", choices=TECHNIQUES)
    operator_id: str | None = column("operator, by pseudonym", identifier=True)
    anaesthesia: str | None = column(
        "anaesthesia", choices=("general", "sedation and local", "local", "regional", "other")
    )
    guidance: tuple[str, ...] | None = column("image guidance", choices=GUIDANCE)
    needles: int | None = column("number of bone needles", low=1, high=20)
    needle_gauge: int | None = column("gauge of the thickest needle", unit="G", low=8, high=20)
    cement_ml: float | None = column("cement injected", unit="ml", low=0, high=100)
    injection_start_s: float | None = column(
        "start of injection after mixing", unit="s", low=0, high=7200
    )
    cement_instructions_followed: bool | None = column("cement made as its maker instructs")
    leak_watch: tuple[str, ...] | None = column(
        "what the injection went through, in order",
        choices=LEAK_WATCH,
    )
    technical_success: bool | None = column("technically successful")
    success_definition: str | None = column("what was called success")
    filling: str | None = column("filling on the CT afterwards", choices=("good", "fair", "poor"))
    leak_assessed: str | None = column(
        "how leakage was looked for", choices=("CT", "cone-beam CT", "radiograph", "not looked for")
    )
    leak_found: bool | None = column("cement outside the bone was found")
    mobilised_h: float | None = column("first mobilised after", unit="h", low=0, high=2400)
    fluoroscopy_min: float | None = column("fluoroscopy time", unit="min", low=0, high=600)
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)

    @property
    def ablation(self) -> tuple[str, ...]:
        """The ablations among the techniques."""
        return tuple(t for t in self.techniques or () if t in ABLATIONS)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A needle, electrode, probe or cement that was used."""

    procedure_id: str = column("which procedure", required=True, identifier=True)
    kind: str = column(
        "what it is",
        required=True,
        choices=(
            "needle",
            "cement",
            "electrode",
            "antenna",
            "cryoprobe",
            "catheter",
            "screw",
            "other",
        ),
    )
    name: str = column("maker's name of it", required=True)
    maker: str | None = column("maker")
    lot: str | None = column("lot number")
    udi: str | None = column("unique device identifier")
    radiopacifier: str | None = column("radiopacifier of a cement")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class PainScore:
    """One pain score, 0 to 10: a point (high empty) or an interval such as 9-10."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    day: float = column(_DAY, required=True, unit="days", low=-365, high=36500)
    low: float = column("score, or the lower end of an interval", required=True, low=0, high=10)
    high: float | None = column("upper end of an interval", low=0, high=10)
    instrument: str | None = column("instrument", choices=("VAS", "NRS", "VRS"))
    recall: str | None = column("what was asked for", choices=("worst", "average", "least", "now"))
    activity: str | None = column("at rest or on movement", choices=("rest", "movement"))

    def __post_init__(self) -> None:
        checked(self)
        if self.high is not None and self.high < self.low:
            raise InputError(
                f"PainScore: high is {self.high:g}; expected at least low, {self.low:g}"
            )

    @property
    def score(self) -> float:
        """The point used in analyses: the score, or the middle of an interval.

        >>> PainScore(lesion_id="1", day=0, low=9, high=10).score
        9.5
        """
        return self.low if self.high is None else (self.low + self.high) / 2

    def __str__(self) -> str:
        return f"{self.low:g}" if self.high is None else f"{self.low:g}-{self.high:g}"


@dataclass(frozen=True, kw_only=True)
class OpioidLine:
    """One opioid as taken on a day; several lines of one day are one regimen.

    A line with drug "none" says that no opioid was taken, which an absent line does not say.
    """

    lesion_id: str = column("which lesion", required=True, identifier=True)
    day: float = column(_DAY, required=True, unit="days", low=-365, high=36500)
    drug: str = column("opioid", required=True, choices=OPIOIDS)
    route: str | None = column(
        "route", choices=("oral", "rectal", "parenteral", "sublingual", "transdermal")
    )
    dose: float = column(
        "dose: per day, or per hour for a patch", required=True, low=0, high=100000
    )
    unit: str = column("unit of the dose", required=True, choices=("mg/day", "ug/day", "ug/h"))

    def __post_init__(self) -> None:
        checked(self)
        if (self.drug == "none") != (self.dose == 0):
            raise InputError(
                f"OpioidLine: drug is {self.drug!r} with dose {self.dose:g}; expected dose 0 with "
                "drug none, and more than 0 with any other"
            )


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One visit after (or on the day before) the procedure; what was not asked stays empty."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    day: float = column(_DAY, required=True, unit="days", low=-365, high=36500)
    walking: int | None = column("walking score, 4 is best", low=0, high=4)
    ecog: int | None = column("ECOG performance status", low=0, high=5)
    karnofsky: int | None = column("Karnofsky index", unit="%", low=0, high=100)
    mobility: str | None = column("mobility since before", choices=("improved", "same", "worse"))
    medication: str | None = column(
        "analgesics since before",
        choices=("stopped", "at most half", "reduced", "same", "increased"),
    )
    activities_restored: bool | None = column("normal activities of daily living restored")
    satisfied: bool | None = column("satisfied with the procedure")
    would_have_again: bool | None = column("would have the procedure again")
    missing_reason: str | None = column("why no score was taken")
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Complication:
    """An adverse event, in the grades of CIRSE 2017, SIR 2017 and CTCAE 5."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    day: float = column(_DAY, required=True, unit="days", low=0, high=36500)
    event: str = column("what happened", required=True, choices=COMPLICATIONS)
    cirse: int | None = column("CIRSE 2017 grade", low=1, high=6)
    sir: int | None = column("SIR 2017 grade", low=1, high=5)
    ctcae: int | None = column("CTCAE 5 grade", low=1, high=5)
    relation: str | None = column(
        "thought to come from",
        choices=("needle", "ablation", "cement", "anaesthesia", "disease", "unknown"),
    )
    device_related: bool | None = column("a device was involved")
    yellow_card: bool | None = column("reported to the MHRA Yellow Card scheme")
    sequelae: bool | None = column("sequelae at 30 days")
    temperature_c: float | None = column("highest temperature", unit="degC", low=30, high=45)
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Cement found outside the bone, one row a compartment."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    compartment: str = column("where", required=True, choices=COMPARTMENTS)
    definition: str | None = column("what counted as a leak")
    symptomatic: bool | None = column("it caused symptoms")
    sequelae: bool | None = column("it left sequelae")
    intervention: bool | None = column("it needed a further intervention")
    volume_ml: float | None = column("volume", unit="ml", low=0, high=100)
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something on the way: recurrence, new fracture, retreatment, the last time seen."""

    lesion_id: str = column("which lesion", required=True, identifier=True)
    day: float = column(_DAY, required=True, unit="days", low=0, high=36500)
    kind: str = column("what happened", required=True, choices=EVENTS)
    level: str | None = column("level of a new fracture")
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Death:
    """Death of a patient; the day counts from the patient's first procedure."""

    patient_id: str = column("who", required=True, identifier=True)
    date: str | None = column("day of death", kind="date")
    day: float | None = column(
        "days after the patient's first procedure", unit="days", low=0, high=36500
    )
    cause: str | None = column("cause")
    related: bool | None = column("related to the procedure")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A recruited patient or lesion that is not analysed, and why."""

    patient_id: str = column("who", required=True, identifier=True)
    lesion_id: str | None = column("which lesion, if one only", identifier=True)
    stage: str = column("when", required=True, choices=("before treatment", "from analysis"))
    reason: str = column("why", required=True)

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class PainSeries:
    """The pain of one lesion over time, earliest first; a visit without a score is absent."""

    lesion_id: str
    scores: tuple[PainScore, ...] = ()

    def __post_init__(self) -> None:
        days = [s.day for s in self.scores]
        if any(b <= a for a, b in pairwise(days)):
            raise InputError(
                f"lesion {self.lesion_id} has two pain scores on one day or out of order "
                f"(days {', '.join(f'{d:g}' for d in days)}); give one a day, earliest first"
            )

    def __iter__(self) -> Iterator[PainScore]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def on(self, day: float) -> PainScore | None:
        """The score of exactly that day, or None."""
        return next((s for s in self.scores if s.day == day), None)

    @property
    def before(self) -> PainScore | None:
        """The last score at or before day 0, or None."""
        return next((s for s in reversed(self.scores) if s.day <= 0), None)

    @property
    def after(self) -> tuple[PainScore, ...]:
        """The scores after day 0."""
        return tuple(s for s in self.scores if s.day > 0)


@dataclass(frozen=True, kw_only=True)
class OpioidSeries:
    """The opioids of one lesion's patient over time: lines sorted by day."""

    lesion_id: str
    lines: tuple[OpioidLine, ...] = ()

    def on(self, day: float) -> tuple[OpioidLine, ...]:
        """The regimen of exactly that day; empty when nothing was recorded."""
        return tuple(line for line in self.lines if line.day == day)

    @cached_property
    def days(self) -> tuple[float, ...]:
        """The days with a recorded regimen, earliest first."""
        return tuple(sorted({line.day for line in self.lines}))


@dataclass(frozen=True, kw_only=True)
class Course:
    """Everything that happened to one lesion."""

    lesion_id: str
    pain: PainSeries
    opioids: OpioidSeries
    visits: tuple[Visit, ...] = ()
    complications: tuple[Complication, ...] = ()
    leaks: tuple[Leak, ...] = ()
    events: tuple[Event, ...] = ()
    death_day: float | None = None  # days after this lesion's first procedure
    death_recorded: bool = False  # also where the day is not known or nothing was done

    @property
    def died(self) -> bool:
        """Whether a death is recorded, on whatever day."""
        return self.death_recorded or self.death_day is not None
