"""A registry to look at: the published Hong Kong series and synthetic patients in every state.

It lies in a folder of its own, is made anew every time and never touches a unit's registry. Every
row goes in the way a clinic's would, so that history, log and worklist are real; what a synthetic
patient's days would have brought before today is entered as from paper.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trocar.errors import InputError
from trocar.model.care import (
    AblationSession,
    Assessment,
    Consent,
    Imaging,
    Injection,
    InjectionEvent,
    Meeting,
    PlanVersion,
    Referral,
    SimulationRun,
    Step,
    Vote,
)
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
from trocar.model.patient import LONG_BONES, Baseline, PainfulLesion, Patient
from trocar.model.plan import worst_verdict
from trocar.model.study import StudyInfo

if TYPE_CHECKING:
    from trocar.demonstration import Carried
    from trocar.model.result import Run

STUDY_ID = "synthetic-patients"
PORT = 8000
# Role -> name of its account.
ACCOUNTS: Mapping[str, str] = {
    "radiologist": "radiologist",
    "coordinator": "coordinator",
    "specialist": "spinal-surgeon",
    "referrer": "referrer",
    "audit lead": "audit-lead",
    "researcher": "researcher",
    "administrator": "administrator",
}
_MARK = "made-by-trocar-demo"
_NEEDED = ("django", "csp", "allauth", "simple_history", "django_htmx", "waitress", "whitenoise")
_OWN_SETTINGS = (
    "TROCAR_DATABASE", "TROCAR_HOSTS", "TROCAR_HTTPS", "TROCAR_OIDC", "TROCAR_PROXY",
    "TROCAR_SECRET_KEY",
)  # fmt: skip
_WAY = ("selection", "meeting", "consent", "planning", "ready", "treated", "follow-up", "closed")
_SURGEON = ACCOUNTS["specialist"]
_SPECIALTIES = {
    "radiologist": "radiology", "specialist": "spinal surgery", "referrer": "oncology",
}  # fmt: skip
_VISIT_DAYS = (1, 3, 7, 28, 84)
_BY_TELEPHONE = "The spinal surgeon agreed by telephone and signs today; the pain does not wait."
_PAPER = "entered from the synthetic paper record"


@dataclass(frozen=True, kw_only=True)
class Filled:
    """The accounts of the demonstration, by role, with the password they share."""

    password: str
    accounts: Mapping[str, str]
    lesions: int


def show(home: Path, *, seed: int = 0, computed: Carried | None = None) -> None:
    """Fill a registry and answer the browser until interrupted, or say what is missing for it."""
    if any(find_spec(name) is None for name in _NEEDED):
        print("registry  not shown; install what it needs with: pip install 'trocar[web]'")
        return
    filled = fill(home, seed=seed, computed=computed)
    print(f"registry  {filled.lesions} lesions: the Hong Kong series and synthetic patients")
    print(f"logins    {', '.join(filled.accounts.values())}")
    print(f"password  {filled.password}   (the same for all; new every time)")
    from trocar.web.serve import run

    run("127.0.0.1", free_port(PORT))


def free_port(wished: int) -> int:
    """The wished port of this machine, or 0, which takes any, where it is in use."""
    try:
        with socket.create_server(("127.0.0.1", wished)):
            return wished
    except OSError:
        return 0


def fill(home: Path, *, seed: int = 0, computed: Carried | None = None) -> Filled:
    """Make the registry of the demonstration anew in ``home``, for this process to serve.

    Raises InputError when the folder holds something else, or when this process has begun to work
    on another registry.
    """
    home = home.resolve()
    _empty(home)
    _turn_to(home)
    from trocar.web.serve import prepare

    prepare()
    return populate(seed=seed, computed=computed)


def _empty(home: Path) -> None:
    """Take away an earlier demonstration; nothing else is ever removed."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        if not (home / _MARK).is_file():
            raise InputError(
                f"{home} holds something that is no demonstration of trocar; nothing was changed. "
                "Choose another folder with --out"
            )
        try:
            shutil.rmtree(home)
        except OSError as error:
            raise InputError(
                f"the earlier demonstration in {home} cannot be removed ({error.strerror}); "
                "is it still being served?"
            ) from error
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / _MARK).write_text("This folder is removed and made anew by 'trocar demo'.\n")


def _turn_to(home: Path) -> None:
    """Let this process, and those it starts, work on the demonstration alone."""
    from django.conf import settings

    if settings.configured and Path(settings.HOME) != home:
        raise InputError(
            f"this process works on the registry in {settings.HOME}; "
            "the demonstration needs a process of its own"
        )
    for name in _OWN_SETTINGS:  # of a unit's registry: never to be written to from here
        os.environ.pop(name, None)
    os.environ["TROCAR_HOME"] = str(home)
    os.environ["DJANGO_SETTINGS_MODULE"] = "trocar.web.settings"


def populate(*, seed: int = 0, computed: Carried | None = None) -> Filled:
    """Enter accounts, the Hong Kong series and the synthetic patients into an empty registry."""
    from django.db import transaction

    from trocar.registry import store
    from trocar.registry.models import Study
    from trocar.web import cases
    from trocar.web.serve import make_account, new_password

    password = new_password(*ACCOUNTS.values())
    with transaction.atomic():  # all of it, or an empty registry
        for role, name in ACCOUNTS.items():
            make_account(
                name, password, role=role, who="trocar", specialty=_SPECIALTIES.get(role, "")
            )
        _hong_kong()
        info = StudyInfo(
            study_id=STUDY_ID,
            title="Synthetic patients of the demonstration",
            unit="no unit: every patient is made up by a program",
            note="Nobody described here exists. Visits and procedures before today are entered as "
            "from paper; moves and signatures bear the day the demonstration was made.",
        )
        study = store.put("study", info, who="trocar", why="demonstration")
        for patient in PATIENTS:
            _Entering(study, patient, seed).carry()
        if computed is not None:
            _Computing(study, _of_computed(computed), seed, computed).carry()
        lesions = sum(store.recount_all(held, cases.standing) for held in Study.objects.all())
    return Filled(password=password, accounts=dict(ACCOUNTS), lesions=lesions)


def _hong_kong() -> None:
    """The series as it was published, each lesion closed: nothing of it is to be done any more."""
    from trocar.io.records import example_study
    from trocar.registry import chain, store
    from trocar.registry.models import MODELS

    series = example_study()
    store.take_in(series, who="trocar", why="published series")
    name = series.info.study_id
    for lesion in MODELS["lesions"].objects.filter(study__study_id=name).order_by("pk"):
        # Its way through meeting, consent and plan is not published: no gate can be asked.
        step = Step(
            lesion_id=lesion.lesion_id, number=1, at=chain.now(), by="trocar", state="closed",
            reason="finished before it was entered: taken in as published",
        )  # fmt: skip
        store.put("steps", step, who="trocar", why="published series", study=lesion.study)


# --- The synthetic patients ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """One made-up patient: who, where it hurts, how far the case has come and what went amiss."""

    number: int
    state: str
    ago: int  # days since the procedure; negative while it is still to come
    primary: str
    site: str
    side: str | None = None
    nature: str = "lytic"
    techniques: tuple[str, ...] = ("cement",)
    leaks: tuple[str, ...] = ()
    harm: tuple[tuple[float, str], ...] = ()  # day and event
    unscored: tuple[int, ...] = ()  # visits at which nothing was asked
    excused: tuple[int, ...] = ()  # visits without a score, with the reason
    died: int | None = None  # day after the procedure
    unknown: tuple[str, ...] = ()  # columns of the baseline still empty
    surgeon_late: bool = False  # did not sign in time; a gate was overridden
    revised: bool = False  # an edit of the plan revoked its approval
    urgency: str = "soon"

    @property
    def name(self) -> str:
        """Pseudonym of patient and lesion."""
        return f"synthetic-{self.number:02d}"


_RF = ("radiofrequency", "cement")
PATIENTS = (
    Synthetic(number=1, state="referred", ago=-29, primary="breast", site="T10", urgency="urgent"),
    Synthetic(
        number=2, state="selection", ago=-22, primary="kidney", site="L2",
        unknown=("sins_body_involved_percent", "escc", "inr", "platelets_e9_l"),
    ),
    Synthetic(number=3, state="selection", ago=-17, primary="lung", site="ilium", side="left"),
    Synthetic(number=4, state="meeting", ago=-15, primary="prostate", site="T12", nature="mixed"),
    Synthetic(
        number=5, state="consent", ago=-10, primary="lung", site="acetabulum", side="right",
        techniques=_RF,
    ),
    Synthetic(
        number=6, state="planning", ago=-4, primary="colon", site="sacrum", revised=True,
        techniques=_RF,
    ),
    Synthetic(number=7, state="ready", ago=-2, primary="myeloma", site="L1"),
    Synthetic(
        number=8, state="treated", ago=1, primary="thyroid", site="L4", techniques=_RF,
        leaks=("segmental or paravertebral vein",),
    ),
    Synthetic(number=9, state="follow-up", ago=6, primary="breast", site="L3"),
    Synthetic(
        number=10, state="follow-up", ago=9, primary="kidney", site="acetabulum", side="left",
        techniques=_RF, harm=((1, "fever"),), unscored=(7,),
    ),
    Synthetic(
        number=11, state="follow-up", ago=50, primary="liver", site="T9", surgeon_late=True,
        leaks=("disc superior", "segmental or paravertebral vein"), harm=((2, "cement embolus"),),
        unscored=(7, 28),
    ),
    Synthetic(
        number=12, state="closed", ago=130, primary="breast", site="L5",
        leaks=("disc inferior",), excused=(28,),
    ),
    Synthetic(
        number=13, state="closed", ago=75, primary="lung", site="T8",
        harm=((0, "transient worsening of pain"),), died=41,
    ),
    Synthetic(
        number=14, state="declined", ago=-8, primary="kidney", site="femur", side="left",
    ),
)  # fmt: skip


class _Entering:
    """Enters one synthetic patient, step by step, as far as the case has come."""

    def __init__(self, study: Any, patient: Synthetic, seed: int) -> None:
        from trocar.registry import store
        from trocar.registry.convert import to_record
        from trocar.web import cases

        self.record_of = to_record
        self.cases, self.store, self.study, self.of = cases, store, study, patient
        self.draw = random.Random(f"{seed}-{patient.number}")
        self.zero = date.fromisoformat(cases.today()) - timedelta(days=patient.ago)
        self.name = patient.name
        self.procedure_id = f"{patient.name}-1"

    def carry(self) -> None:
        """Everything up to the state the patient is in."""
        self.lesion = self.begin()
        acts = {
            "selection": self.select,
            "meeting": self.meet,
            "consent": self.consent,
            "planning": self.plan,
            "ready": self.treat,
            "treated": self.assess,
            "follow-up": self.follow,
        }
        last = "meeting" if self.of.state == "declined" else self.of.state
        if last == "referred":
            return
        for state in _WAY[: _WAY.index(last) + 1]:
            if state == "consent" and self.of.surgeon_late:
                self.go(state, reason=_BY_TELEPHONE, overridden=("signatures",))
            else:
                self.go(state)
            if state in acts and not (state == self.of.state == "treated"):
                acts[state]()
        if self.of.state == "declined":
            self.go("declined", reason="The meeting decided: surgery first.")

    # -- Writing ---------------------------------------------------------------------------------

    def day(self, day: int) -> str:
        """The ISO day so many days after the procedure."""
        return (self.zero + timedelta(days=day)).isoformat()

    def moment(self, day: int, hour: int) -> str:
        """A moment of a day, as rows entered from paper tell it."""
        return f"{self.day(day)}T{hour:02d}:00:00.000000+00:00"

    def put(self, table: str, record: Any, who: str = "coordinator", why: str = _PAPER) -> Any:
        """Enter one row; the worklist is counted with the next move."""
        return self.store.put(table, record, who=who, why=why, study=self.study)

    def change(self, row: Any, why: str, who: str = "coordinator", **changes: Any) -> Any:
        """Change columns of a row."""
        changed = replace(self.record_of(row), **changes)
        return self.store.put(
            row.table, changed, who=who, why=why, row=row, expected=row.version, study=self.study
        )

    def go(self, state: str, *, reason: str = "", overridden: Sequence[str] = ()) -> None:
        """Move the case on."""
        who = "radiologist" if overridden or state == "ready" else "coordinator"
        self.cases.move(self.lesion, state, who=who, role=who, reason=reason, overridden=overridden)

    # -- The way ---------------------------------------------------------------------------------

    def begin(self) -> Any:
        """Patient, lesion, referral and the images that came with it; returns the lesion."""
        of, draw = self.of, self.draw
        self.before = draw.choice((7.0, 8.0, 8.0, 9.0))
        woman = of.primary == "breast" or (of.primary != "prostate" and draw.random() < 0.5)
        who = Patient(
            patient_id=self.name, sex="female" if woman else "male", primary=of.primary,
            age_years=float(draw.randint(48, 81)), note="Synthetic patient.",
        )  # fmt: skip
        self.put("patients", who)
        lesion = PainfulLesion(
            lesion_id=self.name, patient_id=self.name, site=of.site, side=of.side,
            diagnosis="myeloma" if of.primary == "myeloma" else "metastasis", nature=of.nature,
            soft_tissue=False, posterior_wall_defect=self.wall_defect(), volume_ml=self.volume(),
        )  # fmt: skip
        self.spinal = lesion.spinal
        row = self.put("lesions", lesion)
        asked = Referral(
            lesion_id=self.name, date=self.day(-30), referrer_id="referrer", specialty="oncology",
            urgency=of.urgency, pain_now=self.before, can_lie_prone=True, anticoagulant=False,
            question="Pain on loading in spite of opioids; is cementoplasty an option?",
        )  # fmt: skip
        self.put("referrals", asked, who="referrer", why="referral")
        for kind, day in (("MR", -36), ("CT", -33)):
            image = Imaging(
                image_id=f"{self.name}-{kind.lower()}", lesion_id=self.name, date=self.day(day),
                modality=kind, purpose="planning" if kind == "CT" else "diagnosis",
                deidentified=True, **self.picture("planning" if kind == "CT" else "diagnosis"),
            )  # fmt: skip
            self.put("images", image)
        return row

    def picture(self, purpose: str) -> dict[str, Any]:
        """What is known of an image study beside its day."""
        slices = self.draw.randint(30, 60) if purpose == "diagnosis" else 310
        return {"slices": slices, "thickness_mm": 3.0 if purpose == "diagnosis" else 1.0}

    def volume(self) -> float:
        """Volume of the lesion, ml."""
        return round(self.draw.uniform(5.0, 16.0), 1)

    def wall_defect(self) -> bool:
        """Whether the posterior wall has a hole."""
        return False

    def select(self) -> None:
        """What is known before the meeting, and the meeting it is put before."""
        of, draw = self.of, self.draw
        known: dict[str, Any] = {
            "pain_present": True, "site_of_maximal_pain": True, "matches_imaging": True,
            "failed_treatments": ("analgesia", "opioids", "radiotherapy"),
            "analgesia_maximised": True, "radiotherapy_given": True,
            "radiotherapy_end": self.day(-62), "spinal_surgery_access": True,
            "audit_registered": True, "governance_approved": True, "operator_trained": True,
            "operator_cases": 64, "infection": False, "uncorrectable_coagulopathy": False,
            "cement_allergy": False, "cord_compression_fragment": False,
            "asymptomatic_stable": False, "new_neuro_deficit": False, "myelopathy": False,
            "radicular_dominant": False, "pregnancy": False, "severe_cardiopulmonary": False,
            "levels_per_session": 1, "inr": round(draw.uniform(0.95, 1.3), 2),
            "platelets_e9_l": float(draw.randint(120, 330)), "ecog": draw.choice((1, 2, 2, 3)),
            "karnofsky": draw.choice((60, 70, 70, 80)),
            "expected_survival_months": float(draw.choice((6, 8, 10, 14))),
            "visceral": "none", "skeletal_lesions": draw.randint(2, 7),
            "goals": "To sit and walk with less pain.",
            "planned_ablation": "radiofrequency" if "radiofrequency" in of.techniques else "none",
        }  # fmt: skip
        if self.spinal:
            known |= {
                "sins_pain": "occasional", "sins_alignment": "normal",
                "sins_collapse_percent": float(draw.choice((10, 20, 30))),
                "sins_body_involved_percent": float(draw.choice((40, 60, 70))),
                "sins_posterolateral": "none", "escc": "0", "frankel": "E",
            }  # fmt: skip
        elif of.state == "declined":
            known |= {
                "mirels_size_fraction": 0.7, "mirels_pain": "functional",
                "peritrochanteric": True, "surgical_opinion": "surgery first",
            }  # fmt: skip
        elif of.site in LONG_BONES:
            known |= {
                "mirels_size_fraction": 0.3, "mirels_pain": "moderate", "peritrochanteric": False,
            }  # fmt: skip
        elif of.site == "acetabulum":
            known["harrington"] = "II"
        known |= dict.fromkeys(of.unknown)
        self.baseline = self.put("selection", Baseline(lesion_id=self.name, **known))
        if not of.unknown:
            meeting = Meeting(
                lesion_id=self.name, date=self.day(-14), chair_id="radiologist",
                note="Imaging and pain charts are to be shown.",
            )  # fmt: skip
            self.meeting = self.put("meetings", meeting)

    def meet(self) -> None:
        """The decision and the signatures, once the day of the meeting has come."""
        of = self.of
        if self.day(-14) > self.cases.today() or of.state == "meeting":
            return
        surgery = of.state == "declined"
        ablated = "radiofrequency" in of.techniques
        decision = "ablation and cementoplasty" if ablated else "cementoplasty"
        self.meeting = self.change(
            self.meeting, "decision of the meeting", who="radiologist",
            decision="surgery first" if surgery else decision,
            reason="The bone is likely to break; a nail first." if surgery
            else "Pain, examination and imaging point to this lesion; nothing else has helped.",
            conditions=None if surgery else "Platelets and INR again on the day before.",
        )  # fmt: skip
        members = [("radiologist", "radiology"), ("referrer", "oncology")]
        if surgery:
            members.append(("orthopaedic-surgeon", "orthopaedics"))
        elif self.spinal and not of.surgeon_late:
            members.append((_SURGEON, "spinal surgery"))
        self.sign(members, "against" if surgery else "for")
        seats = tuple(s for _, s in members)
        if of.surgeon_late:
            seats = (*seats, "spinal surgery")
        self.baseline = self.change(
            self.baseline, "the meeting was held", mdt_date=self.day(-14), mdt_members=seats
        )

    def sign(self, members: Iterable[tuple[str, str]], said: str) -> None:
        """Votes, each entered by the one who signs."""
        from trocar.registry import chain

        for who, specialty in members:
            vote = Vote(
                lesion_id=self.name, date=self.day(-14), member_id=who, specialty=specialty,
                vote=said, signed_at=self.moment(-14, 17),
            )  # fmt: skip
            row = self.put("votes", vote, who=who, why="signed")
            chain.log("sign", who, f"votes:{row.uid}", what="voted")

    def consent(self) -> None:
        """The form, and the signature where it was given."""
        signed = self.of.state != "consent"
        form = Consent(
            lesion_id=self.name, number=1, form_version="3.1", taken_by="radiologist",
            techniques=self.of.techniques,
            risks=("cement leak", "cement embolus", "nerve injury or paralysis", "infection",
                   "bleeding", "more pain for some days", "pain may not improve"),
            capacity=True, interpreter=self.draw.random() < 0.2,
        )  # fmt: skip
        row = self.put("consents", form)
        if signed:
            self.change(row, "signed by the patient", date=self.day(-7))
            self.baseline = self.change(
                self.baseline, "the consent was signed", consent_date=self.day(-7)
            )
        if self.of.surgeon_late:
            self.sign([(_SURGEON, "spinal surgery")], "for")

    def planned(self) -> PlanVersion:
        """The first version of the plan."""
        of = self.of
        ml = round(self.draw.uniform(2.5, 5.5), 1)
        ways = {"sacrum": "posterior, long axis", "acetabulum": "lateral, above the joint"}
        heat = "radiofrequency, 10 W for 7.5 min" if "radiofrequency" in of.techniques else None
        return PlanVersion(
            lesion_id=self.name, number=1, techniques=of.techniques,
            route=ways.get(of.site, "transpedicular" if self.spinal else "lateral"),
            guidance=("CT", "fluoroscopy"), needles=1, needle_gauge=11, cement="medium",
            cement_ml=ml, stop_ml=round(ml + 1.2, 1), ablation=heat,
            protection="thermocouple at the nerve root" if heat else None, verdict="caution",
            why="first plan",
        )  # fmt: skip

    def plan(self) -> None:
        """The plan: signed here while the patient waits, entered from paper where it is past."""
        first = self.made = self.planned()
        if self.of.ago > 0:
            self.put(
                "plans",
                replace(
                    first, made_by="radiologist", made_at=self.moment(-5, 10),
                    approved_by="radiologist", approved_at=self.moment(-4, 9),
                ),
                who="radiologist",
            )  # fmt: skip
            return
        row = self.cases.plan(self.lesion, first, who="radiologist", why="first plan", parent=None)
        self.cases.approve(row, who="radiologist")
        if self.of.revised:
            edited = replace(
                first, cement_ml=round((first.cement_ml or 0) - 1, 1),
                stop_ml=round((first.stop_ml or 0) - 1, 1), parent=None,
            )  # fmt: skip
            self.cases.plan(
                self.lesion, edited, who="radiologist", parent=1,
                why="less cement: the foramen wall is thinner on the new CT",
            )  # fmt: skip

    def treat(self) -> None:
        """The procedure with its devices, mixes, heat and what was seen while cement went in."""
        if self.of.ago < 0:
            return
        of, draw, made = self.of, self.draw, self.made
        ml = self.injected()
        done = Procedure(
            procedure_id=self.procedure_id, lesion_id=self.name, date=self.day(0),
            techniques=of.techniques, operator_id="radiologist",
            anaesthesia=draw.choice(("general", "sedation and local")), guidance=made.guidance,
            needles=made.needles, needle_gauge=made.needle_gauge, cement_ml=ml,
            injection_start_s=self.started(), cement_instructions_followed=True,
            leak_watch=tuple(e.event for e in self.watched(ml)), technical_success=True,
            success_definition="cement in the lesion, no leak into canal or joint",
            mobilised_h=float(draw.choice((4, 6, 24))),
            fluoroscopy_min=round(draw.uniform(6, 18), 1),
        )  # fmt: skip
        self.procedure = self.put("procedures", done)
        self.dose = float(draw.choice((40, 60, 80, 120)))
        self.opioid(0, self.dose)
        self.pain(0, self.before)
        lot = f"SYN-{draw.randint(1000, 9999)}"
        devices = [
            Device(procedure_id=self.procedure_id, kind="needle", lot=f"{lot}-N",
                   name=f"synthetic bone needle {made.needle_gauge or 11} G"),
            Device(procedure_id=self.procedure_id, kind="cement", lot=f"{lot}-C",
                   name="synthetic PMMA, medium viscosity", radiopacifier="barium sulphate"),
        ]  # fmt: skip
        if "radiofrequency" in of.techniques:
            devices.append(
                Device(procedure_id=self.procedure_id, kind="electrode", lot=f"{lot}-E",
                       name="synthetic radiofrequency electrode 10 mm")
            )  # fmt: skip
            heat = AblationSession(
                procedure_id=self.procedure_id, number=1, kind="radiofrequency", probes=1,
                device="synthetic radiofrequency electrode 10 mm", power_w=10.0, target_c=70.0,
                seconds=450.0, same_track=True, nerve_c=round(draw.uniform(37.5, 41.0), 1),
            )  # fmt: skip
            self.put("ablations", heat)
        for device in devices:
            self.put("devices", device)
        watched = self.watched(ml)
        mix = Injection(
            procedure_id=self.procedure_id, number=1, cement=made.cement, lot=f"{lot}-C",
            room_c=21.0, start_s=watched[0].second, end_s=watched[-1].second, volume_ml=ml,
        )  # fmt: skip
        self.put("injections", mix)
        for seen in watched:
            self.put("injection_events", seen)

    def injected(self) -> float:
        """Cement that went in, ml."""
        return round((self.made.cement_ml or 4.0) * self.draw.uniform(0.8, 1.0), 1)

    def started(self) -> float:
        """Seconds from mixing to the start of the injection."""
        return 240.0

    def watched(self, ml: float) -> list[InjectionEvent]:
        """What happened while cement went in; a leak is waited for and passed by."""
        start, where = self.started(), next(iter(self.of.leaks), None)
        seen: list[tuple[float, str, float, str | None]] = [(0, "injecting", 0.0, None)]
        if where is not None:
            seen += [
                (70, "leak detected", ml * 0.4, where),
                (75, "waiting to harden", ml * 0.4, None),
                (135, "repositioning", ml * 0.4, None),
                (150, "resumed", ml * 0.4, None),
            ]
        seen.append((240, "finished", ml, None))
        return [
            InjectionEvent(
                procedure_id=self.procedure_id, second=start + second, event=event,
                compartment=at, volume_ml=round(so_far, 1),
            )
            for second, event, so_far, at in seen
        ]  # fmt: skip

    def assess(self) -> None:
        """The CT afterwards: how much cement, how full, what leaked."""
        found = bool(self.of.leaks)
        image = f"{self.name}-ct-after"
        self.put(
            "images",
            Imaging(image_id=image, lesion_id=self.name, date=self.day(0), modality="CT",
                    purpose="after", deidentified=True, **self.picture("after")),
        )  # fmt: skip
        read = self.read(image, found)
        self.put("assessments", read, who="radiologist")
        self.procedure = self.change(
            self.procedure, "CT afterwards read", who="radiologist", leak_assessed="CT",
            leak_found=read.leak_found, filling=self.draw.choice(("good", "good", "fair")),
        )  # fmt: skip
        for where in read.compartments or ():
            leak = Leak(
                lesion_id=self.name, compartment=where, definition="any cement outside the bone",
                symptomatic=False, sequelae=False, intervention=False,
                volume_ml=self.leaked(where),
            )  # fmt: skip
            self.put("leaks", leak, who="radiologist")

    def leaked(self, where: str) -> float:
        """Cement in a compartment, ml."""
        return round(self.draw.uniform(0.1, 0.4), 1)

    def read(self, image: str, found: bool) -> Assessment:
        """What was read on the CT afterwards."""
        ml = self.record_of(self.procedure).cement_ml or 0.0
        return Assessment(
            lesion_id=self.name, date=self.day(0), image_id=image, read_by="radiologist",
            cement_ml=ml, cement_low_ml=round(ml * 0.9, 1), cement_high_ml=round(ml * 1.1, 1),
            fill_fraction=round(self.draw.uniform(0.35, 0.8), 2), leak_found=found,
            compartments=self.of.leaks,
        )  # fmt: skip

    def follow(self) -> None:
        """Pain, opioids and visits until today, death or the end; and what harm was done."""
        of, draw = self.of, self.draw
        end = of.ago if of.died is None else min(of.ago, of.died - 1)
        dose, pain = self.dose, self.before
        for day in _VISIT_DAYS:
            if day > end or day in of.unscored:
                continue
            if day in of.excused:
                gone = Visit(
                    lesion_id=self.name, day=day, missing_reason="in hospital elsewhere",
                    note="Telephoned twice.",
                )  # fmt: skip
                self.put("visits", gone)
                continue
            pain = max(0.0, min(pain, pain - draw.choice((0, 1, 2, 2))))
            self.pain(day, pain)
            if day < _VISIT_DAYS[2]:
                continue
            dose = round(dose * draw.choice((0.5, 0.75, 1.0)), 0)
            self.opioid(day, dose)
            visit = Visit(
                lesion_id=self.name, day=day, walking=draw.choice((2, 3, 3, 4)),
                ecog=draw.choice((1, 1, 2)), mobility=draw.choice(("improved", "same")),
                medication=draw.choice(("at most half", "reduced", "same")),
                satisfied=True, would_have_again=True,
            )  # fmt: skip
            self.put("visits", visit)
        self.harm()
        if of.died is not None:
            died = Death(
                patient_id=self.name, date=self.day(of.died), day=of.died, cause="the tumour",
                related=False,
            )  # fmt: skip
            self.put("deaths", died)
        elif of.state == "closed":
            self.put("events", Event(lesion_id=self.name, day=of.ago - 20, kind="last seen"))

    def pain(self, day: int, score: float) -> None:
        """One score."""
        told = PainScore(
            lesion_id=self.name, day=day, low=score, instrument="NRS", recall="worst",
            activity="movement",
        )  # fmt: skip
        self.put("pain", told)

    def opioid(self, day: int, mg: float) -> None:
        """One day's morphine."""
        line = OpioidLine(
            lesion_id=self.name, day=day, drug="morphine", route="oral", dose=mg, unit="mg/day"
        )
        self.put("opioids", line)

    def harm(self) -> None:
        """Complications, graded."""
        grades: dict[str, dict[str, Any]] = {
            "fever": {"cirse": 2, "sir": 1, "ctcae": 1, "relation": "ablation",
                      "temperature_c": 38.4, "note": "Gone after two days of paracetamol."},
            "cement embolus": {"cirse": 1, "sir": 1, "ctcae": 1, "relation": "cement",
                               "device_related": True, "yellow_card": True,
                               "note": "Seen by chance on a staging CT; no complaint."},
            "transient worsening of pain": {"cirse": 2, "sir": 1, "ctcae": 1,
                                            "relation": "needle"},
        }  # fmt: skip
        for day, event in self.of.harm:
            told = Complication(
                lesion_id=self.name, day=day, event=event, sequelae=False, **grades[event]
            )
            self.put("complications", told)


# --- The patient that was computed --------------------------------------------------------------


def _of_computed(computed: Carried) -> Synthetic:
    """The synthetic patient of a computed plan: treated today, or planned where cement stops it."""
    plan = computed.planned.plan
    case = computed.cemented
    treated = case is not None and computed.assessed is not None and case.plan.verdict != "stop"
    kind = computed.planned.lesion.kind
    return Synthetic(
        number=len(PATIENTS) + 1, state="treated" if treated else "planning",
        ago=0 if treated else -4, primary="kidney", site=plan.site.level or plan.site.kind,
        side=plan.site.side or None, nature=kind if kind in ("mixed", "blastic") else "lytic",
        techniques=("radiofrequency", "cement") if computed.ablated is not None else ("cement",),
    )  # fmt: skip


def _packed(computed: Carried, kind: str) -> bytes:
    """A result's folder as work of the site keeps it: with its sheet in every language.

    It was written in one, under the plain name whichever it is.
    """
    from trocar import tasks
    from trocar.pathway.ablation import write_ablation_case
    from trocar.pathway.cement import write_cement, write_result
    from trocar.pathway.strength import write_strength_case

    how: Mapping[str, tuple[str, Any, Callable[..., object]]] = {
        "ablation": ("ablation.html", computed.ablated, write_ablation_case),
        "leak forecast": ("cement.html", computed.cemented, write_cement),
        "assessment": ("result.html", computed.assessed, write_result),
        "strength": ("strength.html", computed.loaded, write_strength_case),
    }
    name, case, write = how[kind]
    with tempfile.TemporaryDirectory(prefix="trocar-") as folder:
        out, other = Path(folder), Path(folder) / "other"
        for place in computed.folders[kind]:
            shutil.copy(place, out)
        sheet = (out / name).read_text(encoding="utf-8")
        written = next(one for one in tasks.LANGUAGES if f'<html lang="{one}">' in sheet)
        (out / name).rename(out / tasks.translated(name, written))
        for language in tasks.LANGUAGES:
            if language != written:
                write(other, case, language=language, viewer='<section id="viewer"' in sheet)
                (other / name).rename(out / tasks.translated(name, language))
        return tasks.packed(out.iterdir())


class _Computing(_Entering):
    """Enters the patient that was computed: numbers, files and hashes in place of drawn ones."""

    def __init__(self, study: Any, patient: Synthetic, seed: int, computed: Carried) -> None:
        super().__init__(study, patient, seed)
        self.computed = computed
        self.hashes: dict[str, str] = {}

    def carry(self) -> None:
        """Up to the CT afterwards, which stands in the computer."""
        from trocar import tasks
        from trocar.web import bench, kept

        done = self.computed.assessed
        self.scans = {"planning": self.computed.planned.scan}
        if done is not None:
            self.scans["after"] = done.post
        self.pictures = {purpose: bench.keep_image(scan) for purpose, scan in self.scans.items()}
        made = {"plan": tasks.kept_plan(self.computed.planned).files}
        made |= {kind: _packed(self.computed, kind) for kind in self.computed.folders}
        for name, data in made.items():
            self.hashes[name] = kept.keep(data, "zip").partition(".")[0]
        super().carry()
        if self.of.state == "treated":
            self.assess()

    def picture(self, purpose: str) -> dict[str, Any]:
        """The synthetic CT, which is kept and can be looked at."""
        if purpose not in self.pictures:
            return super().picture(purpose)
        grid = self.scans[purpose].volume.grid
        thickness_mm = _rounded(grid.spacing_mm[0], 3)
        return {
            "sha256": self.pictures[purpose], "slices": grid.shape[0],
            "thickness_mm": thickness_mm,
        }  # fmt: skip

    def wall_defect(self) -> bool:
        """As found on the synthetic CT."""
        return any(d.wall == "posterior wall" for d in self.computed.planned.lesion.defects)

    def volume(self) -> float:
        """As measured on the synthetic CT."""
        return _rounded(self.computed.planned.lesion.volume_ml, 1)

    def planned(self) -> PlanVersion:
        """The computed plan."""
        plan, case = self.computed.planned.plan, self.computed.cemented
        cement = None if case is None else case.plan
        best, stop = plan.best, None if cement is None else cement.stop_ml
        gauge = None if best is None else best.needle.gauge
        verdict = worst_verdict((plan.verdict, "ok" if cement is None else cement.verdict))
        return PlanVersion(
            lesion_id=self.name, number=1, techniques=self.of.techniques, why="computed",
            route=None if best is None else best.route.replace("_", " "), guidance=("CT",),
            needles=None if best is None else len(case.needles) if case else 1,
            needle_gauge=gauge if gauge is not None and 8 <= gauge <= 20 else None,
            cement=None if cement is None else cement.cement.name,
            cement_ml=None if cement is None else _rounded(cement.target_ml, 1),
            stop_ml=None if stop is None else _rounded(stop, 1), ablation=self.heat(),
            verdict=verdict,
            plan_sha256=self.hashes.get("plan"),
        )  # fmt: skip

    def heat(self) -> str | None:
        """The computed ablation in words."""
        done = self.computed.ablated
        if done is None:
            return None
        seconds = sum(phase.seconds for phase in done.plan.phases)
        return f"{done.plan.applicators[0].device.name}, {seconds / 60:.1f} min"

    def plan(self) -> None:
        """The computed plan and the runs behind it; signed where the procedure followed."""
        made = self.made = self.planned()
        row = self.cases.plan(self.lesion, made, who="radiologist", why="computed", parent=None)
        c = self.computed
        self.ran("plan", c.planned.plan.run, "plan", made.verdict)
        if c.ablated is not None:
            self.ran("ablation", c.ablated.run, "ablation")
        if c.cemented is not None:
            said = f"{made.cement_ml} ml planned; stop at {made.stop_ml} ml"
            self.ran("leak forecast", c.cemented.run, "leak forecast", made.verdict, said)
        if c.loaded is not None:
            self.ran("strength", c.loaded.run, "strength")
        if self.of.state == "treated":
            self.cases.approve(row, who="radiologist")

    def ran(
        self, kind: str, run: Run | None, sheet: str, verdict: str | None = None, said: str = ""
    ) -> None:
        """One computation, so that it can be repeated."""
        from trocar.registry.convert import canonical

        if run is None:
            return
        told = SimulationRun(
            run_id=f"{self.name}-{kind.replace(' ', '-')}", lesion_id=self.name, plan_number=1,
            kind=kind, started_at=run.started, seconds=_rounded(run.seconds, 1), seed=run.seed,
            trocar_version=run.version, inputs_sha256=_sha256(canonical(dict(run.inputs))),
            facts_sha256=_sha256(canonical(dict(run.facts))), verdict=verdict,
            result_sha256=self.hashes.get(sheet), summary=said or None,
        )  # fmt: skip
        self.put("runs", told, who="radiologist", why="computed")

    def go(self, state: str, *, reason: str = "", overridden: Sequence[str] = ()) -> None:
        """Move on; a verdict that is not known is overridden, as somebody would have to."""
        if state == "ready" and self.made.verdict == "unknown":
            reason = "What the plan does not know was looked at on the images."
            overridden = ("plan verdict",)
        super().go(state, reason=reason, overridden=overridden)

    def injected(self) -> float:
        """What the simulated hand injected."""
        case = self.computed.cemented
        assert case is not None
        return _rounded(case.injection.injected_ml[-1], 1)

    def started(self) -> float:
        """The planned start."""
        case = self.computed.cemented
        return 240.0 if case is None else _rounded(case.plan.start_s, 0)

    def watched(self, ml: float) -> list[InjectionEvent]:
        """What the simulated injection went through."""
        case = self.computed.cemented
        assert case is not None
        seen = [
            InjectionEvent(
                procedure_id=self.procedure_id, second=_rounded(e.age_s, 0),
                event="repositioning" if e.state == "repositioned" else e.state,
                compartment=_compartment(e.compartment) if e.compartment else None,
                volume_ml=_rounded(e.injected_ml, 1),
            )
            for e in case.injection.events
        ]  # fmt: skip
        return seen or super().watched(ml)

    def read(self, image: str, found: bool) -> Assessment:
        """What was found on the synthetic CT afterwards."""
        done = self.computed.assessed
        assert done is not None
        fill = done.fill
        self.ran("assessment", done.run, "assessment")
        full = fill.lesion_fill
        return Assessment(
            lesion_id=self.name, date=self.day(0), image_id=image, read_by="radiologist",
            cement_ml=_rounded(fill.volume_ml, 2), cement_low_ml=_rounded(fill.low_ml, 2),
            cement_high_ml=_rounded(fill.high_ml, 2),
            fill_fraction=None if full is None else _rounded(min(max(full, 0.0), 1.0), 2),
            leak_found=bool(fill.leaks), result_sha256=self.hashes.get("assessment"),
            compartments=tuple(dict.fromkeys(_compartment(k.compartment) for k in fill.leaks)),
        )  # fmt: skip

    def leaked(self, where: str) -> float:
        """As found on the synthetic CT."""
        done = self.computed.assessed
        assert done is not None
        found = [k for k in done.fill.leaks if _compartment(k.compartment) == where]
        return _rounded(sum(k.volume_ml for k in found), 2)


def _rounded(value: float, digits: int) -> float:
    """A plain number, whatever kind of number the computation gave."""
    return round(float(value), digits)


def _compartment(name: str) -> str:
    return name if name in COMPARTMENTS else "other"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
