"""One lesion on its way: referral, worklist, gates, steps, plans, decision."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from django.db import transaction
from django.db.models import Q, Value
from django.db.models.functions import NullIf
from django.http import HttpRequest
from ninja import Query, Status
from ninja.errors import HttpError

from trocar.errors import InputError
from trocar.model.care import STATES, PlanVersion, Referral
from trocar.model.patient import PainfulLesion, Patient
from trocar.pathway import workflow
from trocar.registry import roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, Case
from trocar.selection.criteria import decide, worst_first
from trocar.web import cases
from trocar.web.api import schemas
from trocar.web.api.access import lesion_of, own_lesions, page, row_of, study_of, told
from trocar.web.api.core import offer
from trocar.web.api.rows import SEEING, Limit, Offset
from trocar.web.api.tokens import Caller

State = Annotated[Literal[STATES] | None, Query(description="only lesions in this state")]  # type: ignore[valid-type]
_AT = "/lesions/{uid}/"
_PLAN = "/rows/plans/{uid}/"
# Whether it is taken is not for a referrer to find out about others: one sentence for all.
_NOT_USABLE = "this patient_id or lesion_id cannot be used; expected another"


@offer("GET", "/worklist/", *SEEING, gives=schemas.Worklist, name="worklist", tag="worklist")
def worklist(
    request: HttpRequest, state: State = None, limit: Limit = 50, offset: Offset = 0
) -> Any:
    """Lesions and what is due, the earliest first."""
    lines = Case.objects.filter(lesion__in=own_lesions(request.auth).values("pk"))
    if state is not None:
        lines = lines.filter(Q(state=state))
    lines = lines.select_related("lesion__study").annotate(due=NullIf("next_due", Value("")))
    return page(lines.order_by(_due_first(), "lesion_id"), limit, offset, _line)


def _due_first() -> Any:
    from django.db.models import F

    return F("due").asc(nulls_last=True)


def _standing_out(found: Any) -> dict[str, Any]:
    """A standing, or the line kept of it, under the names of the interface."""
    names = schemas.StandingOut.model_fields.keys() - {"closed_gates"}
    return {name: getattr(found, name) for name in names} | {"closed_gates": found.open_gates}


def _line(case: Any) -> dict[str, Any]:
    return _standing_out(case) | {
        "lesion": case.lesion.uid, "study": case.lesion.study.uid,
        "lesion_id": case.lesion.lesion_id, "site": case.lesion.site,
        "changed_at": case.changed_at,
    }  # fmt: skip


@offer("GET", _AT, *SEEING, gives=schemas.Lesion, name="lesion", tag="lesions")
def lesion(request: HttpRequest, uid: UUID) -> Any:
    """A lesion, and the names its patient and study are reached by."""
    row = lesion_of(request.auth, uid)
    return {"lesion": told(row), "patient": row.patient.uid, "study": row.study.uid}


@offer(
    "POST", "/studies/{uid}/refer/", roles.REFER, gives=schemas.Referred, made=201,
    name="refer", tag="worklist", body=schemas.Refer,
)  # fmt: skip
def refer(request: HttpRequest, uid: UUID, body: Any) -> Any:
    """Refer a lesion: the patient, the lesion and the referral, all of it or nothing."""
    caller: Caller = request.auth
    study = study_of(uid)
    patient = schemas.record_of("patients", Patient, body.patient)
    found = schemas.record_of("lesions", PainfulLesion, body.lesion, patient_id=patient.patient_id)
    fixed = {"lesion_id": found.lesion_id}
    if not caller.may(roles.SEE):
        fixed["referrer_id"] = caller.who
    referral = schemas.record_of("referrals", Referral, body.referral, **fixed)
    with transaction.atomic():
        held = MODELS["patients"].objects.filter(study=study, patient_id=patient.patient_id).first()
        if held is None:
            held = cases.save("patients", patient, who=caller.who, why="referral", study=study)
        elif not (caller.may(roles.SEE) or _referred(held, caller)) or to_record(held) != patient:
            raise InputError(_NOT_USABLE)
        try:
            row = cases.save("lesions", found, who=caller.who, why="referral", study=study)
        except InputError as error:
            if caller.may(roles.SEE):
                raise
            raise InputError(_NOT_USABLE) from error
        sent = cases.save("referrals", referral, who=caller.who, why="referral", study=study)
    return Status(201, {"patient": told(held), "lesion": told(row), "referral": told(sent)})


def _referred(patient: Any, caller: Caller) -> bool:
    """Whether a lesion of the patient was referred by who calls."""
    return bool(patient.lesions.filter(referrals__referrer_id=caller.who).exists())


# --- Where it stands ----------------------------------------------------------------------------


@offer(
    "GET", f"{_AT}standing/", *SEEING, gives=schemas.StandingOut, name="standing", tag="worklist"
)
def standing(request: HttpRequest, uid: UUID) -> Any:
    """Where a lesion stands in its care today."""
    row = lesion_of(request.auth, uid)
    return _standing_out(cases.standing(store.read_record(row), store.read_care(row)))


@offer("GET", f"{_AT}gates/", *SEEING, gives=schemas.Gates, name="gates", tag="worklist")
def gates(request: HttpRequest, uid: UUID) -> Any:
    """The states that may follow, each with its gates, worst first."""
    row = lesion_of(request.auth, uid)
    record, care = store.read_record(row), store.read_care(row)
    return {
        "state": care.state,
        "seen": care.steps[-1].number if care.steps else 0,
        "next": [
            {
                "state": state,
                "gates": [
                    {
                        "gate": g.gate, "title": g.title, "open": g.open, "hard": g.hard,
                        "reason": g.reason.format(**g.values),
                        "overridable_by": list(g.overridable_by),
                    }
                    for g in workflow.gates(state, record, care, today=cases.today())
                ],
            }
            for state in workflow.NEXT[care.state]
        ],
    }  # fmt: skip


@offer(
    "POST", f"{_AT}move/", roles.MOVE, gives=schemas.ROWS["steps"], made=201, clashes=True,
    name="move", tag="worklist",
)  # fmt: skip
def move(request: HttpRequest, uid: UUID, body: schemas.Move) -> Any:
    """Move a lesion to a state that may follow; closed gates are overridden by name."""
    caller: Caller = request.auth
    if body.overridden and not caller.may(roles.OVERRIDE):
        raise HttpError(403, f"gates are overridden; expected the right: {roles.OVERRIDE}")
    row = cases.move(
        lesion_of(caller, uid), body.state, who=caller.who, role=caller.role,
        reason=body.reason or "", overridden=body.overridden, seen=body.seen,
    )  # fmt: skip
    return Status(201, told(row))


@offer(
    "GET", f"{_AT}decision/", *SEEING, gives=schemas.DecisionOut, name="decision", tag="worklist"
)
def decision(request: HttpRequest, uid: UUID) -> Any:
    """Is cementoplasty of this lesion supported? Rules, the worst first, and scores."""
    made = decide(store.read_record(lesion_of(request.auth, uid)))
    verdicts = [
        {n: getattr(v, n) for n in schemas.Rule.model_fields} for v in worst_first(made.verdicts)
    ]
    scores = [
        {n: getattr(s, n) for n in schemas.ScoreOut.model_fields} | {"missing": list(s.missing)}
        for s in made.scores
    ]
    return {
        "lesion_id": made.lesion_id, "outcome": made.outcome, "verdicts": verdicts,
        "scores": scores, "facts": dict(made.facts),
    }  # fmt: skip


# --- Plans --------------------------------------------------------------------------------------


@offer(
    "POST", f"{_AT}plans/", roles.PLAN, gives=schemas.ROWS["plans"], made=201, clashes=True,
    name="plans_next", tag="plans",
)  # fmt: skip
def plans_next(request: HttpRequest, uid: UUID, body: schemas.PlanNext) -> Any:
    """Keep the next version of a plan; an approval of the version before is revoked."""
    lesion = lesion_of(request.auth, uid)
    plan = PlanVersion(lesion_id=lesion.lesion_id, number=1, **vars(body.record))
    return Status(
        201, told(cases.plan(lesion, plan, who=request.auth.who, why=body.why, parent=body.parent))
    )


@offer(
    "POST", f"{_AT}plans/restore/", roles.PLAN, gives=schemas.ROWS["plans"], made=201,
    clashes=True, name="plans_restore", tag="plans",
)  # fmt: skip
def plans_restore(request: HttpRequest, uid: UUID, body: schemas.PlanBack) -> Any:
    """Undo: an earlier version as the next one."""
    lesion = lesion_of(request.auth, uid)
    return Status(
        201,
        told(
            cases.restore_plan(
                lesion, body.number, who=request.auth.who, why=body.why, parent=body.parent
            )
        ),
    )


@offer(
    "POST", f"{_PLAN}approve/", roles.APPROVE, gives=schemas.ROWS["plans"], clashes=True,
    name="plans_approve", tag="plans",
)  # fmt: skip
def plans_approve(request: HttpRequest, uid: UUID, body: schemas.Signed) -> Any:
    """Sign the newest version of a plan; one that says stop or unknown with a reason."""
    row = row_of(request.auth, "plans", uid)
    signed = cases.approve(row, who=request.auth.who, why=body.why or "", expected=body.version)
    return told(signed)


@offer(
    "POST", f"{_PLAN}revoke/", roles.APPROVE, gives=schemas.ROWS["plans"], name="plans_revoke",
    tag="plans",
)  # fmt: skip
def plans_revoke(request: HttpRequest, uid: UUID, body: schemas.Reason) -> Any:
    """Take back the approval of a version."""
    return told(
        cases.revoke(row_of(request.auth, "plans", uid), who=request.auth.who, why=body.why)
    )
