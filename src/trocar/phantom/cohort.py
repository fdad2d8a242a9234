"""A synthetic study of any size with known rates: nobody in it ever lived.

Every chance is drawn on its own and what is missing is missing at random, so that an audit must
find the rates again within the error of counting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from trocar.errors import InputError
from trocar.model.course import (
    COMPARTMENTS,
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
from trocar.model.patient import PRIMARIES, Baseline, PainfulLesion, Patient
from trocar.model.study import DataNote, Study, StudyInfo

_SITES = ("T10", "T12", "L1", "L2", "L3", "L4", "sacrum", "acetabulum", "ilium", "femur")
_EVENTS = ("transient worsening of pain", "fever", "nerve injury", "infection", "bleeding", "other")
_FIRST_DAY = date(2015, 1, 5)
_LAST_DAY = 365.0  # days that everybody alive is followed


@dataclass(frozen=True, kw_only=True)
class CohortRates:
    """The chances a cohort is drawn with. Invented, of a plausible size, and no one's results.

    Of a lesion unless said otherwise: ``leak`` varies between patients (beta, ``leak_icc`` is the
    correlation of two lesions of one patient); ``symptomatic`` is of leaks, ``intervention`` of
    symptomatic leaks; ``better`` and ``worse`` compare pain in the first week with before;
    ``opioid`` is taken before, ``less_opioid`` of those at week 1; ``death_median_days`` of
    patients (exponential). ``missing`` is any one score, visit or optional cell not recorded.
    """

    leak: float = 0.22
    leak_icc: float = 0.10
    symptomatic: float = 0.20
    intervention: float = 0.25
    not_looked_for: float = 0.06
    better: float = 0.72
    worse: float = 0.11
    opioid: float = 0.80
    less_opioid: float = 0.60
    mobile: float = 0.65
    satisfied: float = 0.85
    complication: float = 0.07
    device: float = 0.40  # of complications
    reported: float = 0.60  # of complications with a device
    consent: float = 0.97
    recurrence: float = 0.15
    death_median_days: float = 270.0
    missing: float = 0.12


@dataclass(frozen=True, eq=False, kw_only=True)
class Cohort:
    """A synthetic study and the truth behind it.

    ``truth`` maps outcomes of ``trocar.audit`` to the exact chance each lesion had of them. ("Not
    worse" has none: without a score before, its rule takes a later one as the baseline.)
    """

    study: Study
    rates: CohortRates
    truth: Mapping[str, float]
    seed: int


def synthetic_study(lesions: int, seed: int = 0, *, rates: CohortRates | None = None) -> Cohort:
    """A study of ``lesions`` lesions, the same for the same seed, with the truth of its rates.

    Patients have one to three lesions, treated in one session. Raises InputError for less than one
    lesion.

    >>> cohort = synthetic_study(5)
    >>> len(cohort.study), cohort.truth["leak"]
    (5, 0.22)
    """
    if lesions < 1:
        raise InputError(f"{lesions} lesions were asked for; expected at least 1")
    chosen = CohortRates() if rates is None else rates
    draw = _Draw(np.random.default_rng(seed), chosen)
    left, number = lesions, 0
    while left > 0:
        number += 1
        many = min(left, int(draw.pick((1, 2, 3), (0.75, 0.18, 0.07))))
        draw.patient(number, many)
        left -= many
    info = StudyInfo(
        study_id=f"synthetic-{lesions}-{seed}",
        title="A synthetic cohort",
        unit="no unit",
        note="drawn by chance; nobody in it ever lived",
    )
    note = DataNote(note_id="S1", text="Every row is drawn by chance and describes nobody.")
    tables: dict[str, Any] = {name: tuple(rows) for name, rows in draw.tables.items()}
    study = Study(info=info, notes=(note,), **tables)
    return Cohort(study=study, rates=chosen, truth=_truth(chosen), seed=seed)


def _truth(r: CohortRates) -> dict[str, float]:
    early = 30.0
    return {
        "leak": r.leak,
        "symptomatic leak": r.leak * r.symptomatic,
        "leak intervention": r.leak * r.symptomatic * r.intervention,
        "pain relief": r.better,
        "less medication": r.less_opioid,
        "mobility": r.mobile,
        "satisfaction": r.satisfied,
        "complication": r.complication,
        "death": 1.0 - 0.5 ** (early / r.death_median_days),
    }


class _Draw:
    """Draws patients one by one into tables; random numbers are taken in large lots for speed."""

    def __init__(self, rng: np.random.Generator, rates: CohortRates) -> None:
        self.rng, self.rates = rng, rates
        self.lot: list[float] = []
        self.tables: dict[str, list[Any]] = {
            name: []
            for name in (
                "patients", "lesions", "selection", "procedures", "devices", "pain", "opioids",
                "visits", "complications", "leaks", "events", "deaths",
            )
        }  # fmt: skip
        a_plus_b = 1.0 / rates.leak_icc - 1.0
        self.beta = (rates.leak * a_plus_b, (1.0 - rates.leak) * a_plus_b)

    def u(self) -> float:
        """A number from 0 up to 1."""
        if not self.lot:
            self.lot = self.rng.random(8192).tolist()
        return self.lot.pop()

    def hit(self, chance: float) -> bool:
        return self.u() < chance

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both possible."""
        return low + int(self.u() * (high - low + 1))

    def pick(self, among: Any, weights: tuple[float, ...] = ()) -> Any:
        if not weights:
            return among[self.whole(0, len(among) - 1)]
        at = self.u()
        for value, weight in zip(among, weights, strict=True):
            at -= weight
            if at < 0:
                return value
        return among[-1]

    def kept(self, value: Any) -> Any:
        """The value, or None when it is missing."""
        return None if self.hit(self.rates.missing) else value

    def patient(self, number: int, many: int) -> None:
        name = f"P{number}"
        r, t = self.rates, self.tables
        t["patients"].append(
            Patient(
                patient_id=name,
                sex=self.pick(("female", "male")),
                age_years=self.kept(self.whole(30, 88)),
                primary=self.kept(self.pick(PRIMARIES)),
            )
        )
        day = _FIRST_DAY + timedelta(days=self.whole(0, 3600))
        dies = -r.death_median_days * float(np.log2(1.0 - self.u()))
        alive = min(dies, _LAST_DAY)
        if dies < _LAST_DAY:
            t["deaths"].append(Death(patient_id=name, day=round(dies, 3)))
        leaky = float(self.rng.beta(*self.beta))
        operator = f"O{self.whole(1, 12)}"
        for k in range(many):
            self.lesion(f"L{number}.{k + 1}", name, day, alive, leaky, operator)

    def lesion(
        self, name: str, patient: str, day: date, alive: float, leaky: float, operator: str
    ) -> None:
        r, t = self.rates, self.tables
        site = self.pick(_SITES)
        t["lesions"].append(
            PainfulLesion(
                lesion_id=name,
                patient_id=patient,
                site=site,
                side=self.pick(("left", "right")) if site in ("acetabulum", "ilium") else None,
                diagnosis=self.pick(("metastasis", "myeloma"), (0.85, 0.15)),
                nature=self.kept(self.pick(("lytic", "mixed", "blastic"))),
            )
        )
        t["selection"].append(self.baseline(name, day))
        self.procedure(name, day, leaky, operator)
        self.course(name, alive)
        if self.hit(r.complication):
            device = self.hit(r.device)
            t["complications"].append(
                Complication(
                    lesion_id=name,
                    day=0.0,
                    event=self.pick(_EVENTS),
                    cirse=self.kept(self.whole(1, 5)),
                    sir=self.kept(self.whole(1, 4)),
                    ctcae=self.kept(self.whole(1, 4)),
                    relation=self.kept(self.pick(("needle", "ablation", "cement"))),
                    device_related=device,
                    yellow_card=self.kept(self.hit(r.reported)) if device else None,
                )
            )
        t["events"].append(Event(lesion_id=name, day=round(alive, 3), kind="last seen"))

    def baseline(self, name: str, day: date) -> Baseline:
        before = (day - timedelta(days=self.whole(1, 14))).isoformat()
        late = (day + timedelta(days=1)).isoformat()
        return Baseline(
            lesion_id=name,
            decided_on=before,
            pain_present=True,
            failed_treatments=self.kept(("analgesia", "radiotherapy")),
            analgesia_maximised=self.kept(True),
            radiotherapy_given=self.kept(self.hit(0.7)),
            mdt_date=self.kept(before),
            mdt_members=("radiology", "oncology", "spinal surgery"),
            spinal_surgery_access=self.kept(True),
            consent_date=before if self.hit(self.rates.consent) else late,
            audit_registered=self.kept(True),
            governance_approved=self.kept(True),
            operator_trained=self.kept(self.hit(0.98)),
            operator_cases=self.kept(self.whole(0, 400)),
            ecog=self.kept(self.whole(0, 3)),
            inr=self.kept(round(0.9 + 0.5 * self.u(), 2)),
            platelets_e9_l=self.kept(self.whole(60, 400)),
        )

    def procedure(self, name: str, day: date, leaky: float, operator: str) -> None:
        r, t = self.rates, self.tables
        looked = not self.hit(r.not_looked_for)
        leak = self.hit(leaky)
        told = looked and not self.hit(r.missing)
        procedure = f"X{name[1:]}"
        heated = self.hit(0.3)
        t["procedures"].append(
            Procedure(
                procedure_id=procedure,
                lesion_id=name,
                date=day.isoformat(),
                techniques=("radiofrequency", "cement") if heated else ("cement",),
                operator_id=operator,
                anaesthesia=self.kept(self.pick(("general", "sedation and local"))),
                guidance=self.kept(("fluoroscopy",)),
                needle_gauge=self.kept(self.pick((10, 11, 13))),
                cement_ml=self.kept(round(1 + 6 * self.u(), 1)),
                leak_assessed="CT" if looked else "not looked for",
                leak_found=leak if told else None,
                filling=self.kept(self.pick(("good", "fair", "poor"))),
            )
        )
        t["devices"].append(
            Device(
                procedure_id=procedure,
                kind="cement",
                name="cement A",
                lot=self.kept(f"{self.whole(100, 999)}"),
                radiopacifier=self.kept("barium sulphate"),
            )
        )
        if leak and told:
            symptomatic = self.hit(r.symptomatic)
            t["leaks"].append(
                Leak(
                    lesion_id=name,
                    compartment=self.pick(COMPARTMENTS[:-2]),
                    symptomatic=symptomatic,
                    sequelae=self.kept(symptomatic and self.hit(0.3)),
                    intervention=symptomatic and self.hit(r.intervention),
                )
            )

    def course(self, name: str, alive: float) -> None:
        r, t = self.rates, self.tables
        before = self.whole(4, 9)
        fate = self.pick(("better", "worse", "same"), (r.better, r.worse, 1 - r.better - r.worse))
        back = self.hit(r.recurrence) and fate == "better"
        returns = 60.0 + 300.0 * self.u() if back else float("inf")
        dose = float(10 * self.whole(2, 12)) if self.hit(r.opioid) else 0.0
        less = self.hit(r.less_opioid)
        after = dose * self.pick((0.0, 0.5, 0.75)) if less else dose * self.pick((1.0, 1.5))
        for day in (0.0, 1.0, 3.0, 7.0, 28.0, 84.0, 168.0, 336.0):
            if day > alive:
                break
            if not self.hit(r.missing):
                pain = self.pain(before, fate, day, day >= returns)
                t["pain"].append(PainScore(lesion_id=name, day=day, low=pain, instrument="NRS"))
            if day in (0.0, 7.0, 28.0) and not self.hit(r.missing):
                t["opioids"].append(_morphine(name, day, after if day else dose))
            if day in (0.0, 3.0, 7.0, 28.0) and not self.hit(r.missing):
                t["visits"].append(self.visit(name, day, dose, after))
        if returns < alive:
            t["events"].append(Event(lesion_id=name, day=round(returns, 3), kind="pain recurrence"))

    def pain(self, before: int, fate: str, day: float, returned: bool) -> float:
        if day == 0 or fate == "same" or returned:
            return float(before)
        return float(self.whole(0, before - 1) if fate == "better" else self.whole(before + 1, 10))

    def visit(self, name: str, day: float, dose: float, after: float) -> Visit:
        r = self.rates
        if day == 0:
            return Visit(lesion_id=name, day=day, walking=self.kept(self.whole(0, 3)))
        happy = self.hit(r.satisfied)
        month = day == 28.0
        return Visit(
            lesion_id=name,
            day=day,
            walking=self.kept(self.whole(1, 4)) if month else None,
            mobility=self.kept("improved" if self.hit(r.mobile) else "same"),
            medication=self.kept(_word(dose, after)) if dose else None,
            satisfied=happy if month else None,
            would_have_again=happy if month else None,
        )


def _morphine(name: str, day: float, dose: float) -> OpioidLine:
    return OpioidLine(
        lesion_id=name,
        day=day,
        drug="morphine" if dose else "none",
        route="oral" if dose else None,
        dose=dose,
        unit="mg/day",
    )


def _word(before: float, after: float) -> str:
    if after == 0:
        return "stopped"
    if after <= before / 2:
        return "at most half"
    return "reduced" if after < before else "same" if after == before else "increased"
