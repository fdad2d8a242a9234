"""The tables of the record: every one under its lesion or study, every row by its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from django.db import transaction
from django.http import Http404, HttpRequest
from ninja import Query, Status
from ninja.errors import HttpError

from trocar.errors import InputError
from trocar.model.care import ALL_TABLES
from trocar.model.columns import columns
from trocar.registry import chain, roles, store
from trocar.registry.columns import OWN, reference
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, Person
from trocar.web import cases
from trocar.web.api import schemas
from trocar.web.api.access import (
    FARTHEST,
    LONGEST_PAGE,
    lesion_of,
    of_lesion,
    page,
    row_of,
    seen_rows,
    study_of,
    told,
)
from trocar.web.api.core import offer
from trocar.web.api.tokens import Caller
from trocar.web.pages.cases import TABLE_RIGHTS

# Which right writes a table: as on its pages. Plans and steps have operations of their own.
WRITE: dict[str, tuple[str, ...]] = {
    **{table: (right,) for table, right in TABLE_RIGHTS.items()},
    "votes": (roles.VOTE,),
}
SEEING = (roles.SEE, roles.SEE_OWN)
OF_STUDY = ("patients", "lesions", "exclusions")
OF_LESION = tuple(t for t in ALL_TABLES if t not in OF_STUDY)

Limit = Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="rows of one page")]
Offset = Annotated[int, Query(ge=0, le=FARTHEST, description="rows left out before")]


def _own_hand(table: str, record: Any, caller: Caller) -> None:
    """Refuses to vote or refer in another's name."""
    if table == "votes" and record.member_id != caller.who:
        raise HttpError(403, "a vote is written by its member alone; member_id is another's")
    if table == "referrals" and not caller.may(roles.SEE) and record.referrer_id != caller.who:
        raise HttpError(403, "referrer_id is not the account of this token; expected that")


def _own_specialty(table: str, record: Any, caller: Caller) -> None:
    """Refuses a vote of a specialty that is not the one administrators entered."""
    if table != "votes":
        return
    person = Person.objects.get(user__username=caller.who)
    if record.specialty != person.specialty:
        raise HttpError(403, "specialty is not that of the account; an administrator enters it")


def _keep(table: str, record: Any, caller: Caller, **how: Any) -> Any:
    """Keeps a record; a vote is signed by that, at this moment."""
    if table != "votes":
        return cases.save(table, record, who=caller.who, **how)
    with transaction.atomic():
        kept = cases.save(table, replace(record, signed_at=chain.now()), who=caller.who, **how)
        chain.log("sign", caller.who, f"votes:{kept.uid}", what="voted")
    return kept


def _of_its_lesion(record: Any, lesion: Any) -> None:
    """Refuses a procedure that is another lesion's."""
    name = getattr(record, "procedure_id", None)
    if record.__class__ is ALL_TABLES["procedures"] or name is None:
        return
    if not MODELS["procedures"].objects.filter(lesion=lesion, procedure_id=name).exists():
        raise InputError("procedure_id is not of this lesion; expected one of its procedures")


def _stays(table: str, old: Any, new: Any) -> None:
    """Refuses to hand a row to another lesion or to rename it: others refer to it by name."""
    for c in columns(type(old)):
        tied = reference(table, c.name) is not None or OWN.get(table) == c.name
        if tied and getattr(old, c.name) != getattr(new, c.name):
            raise InputError(
                f"{c.name} differs from what is kept; remove the row and enter it anew instead"
            )


def _offer_lists(table: str, head: str) -> None:
    record, under = ALL_TABLES[table], f"/{head}/{{uid}}/{table}/"

    def rows_of(caller: Caller, uid: UUID) -> Any:
        rows = seen_rows(caller, table)
        if head == "lesions":
            return of_lesion(rows, table, lesion_of(caller, uid))
        return rows.filter(study=study_of(uid))

    def listed(request: HttpRequest, uid: UUID, limit: Limit = 50, offset: Offset = 0) -> Any:
        return page(rows_of(request.auth, uid), limit, offset)

    listed.__doc__ = f"List the rows of {table}"
    offer("GET", under, *SEEING, gives=schemas.PAGES[table], name=f"{table}_list", tag=table)(
        listed
    )
    if table not in WRITE:
        return

    def create(request: HttpRequest, uid: UUID, body: Any) -> Any:
        caller: Caller = request.auth
        fixed = {}
        if head == "lesions":
            lesion = lesion_of(caller, uid)
            study = lesion.study
            for c in columns(record):
                if c.name in ("lesion_id", "patient_id") and reference(table, c.name):
                    fixed[c.name] = getattr(
                        lesion if c.name == "lesion_id" else lesion.patient, c.name
                    )
        else:
            if not caller.may(roles.SEE):  # whoever sees only own cases refers them
                raise HttpError(403, "expected the right to see cases; refer the case instead")
            study = study_of(uid)
        made = schemas.record_of(table, record, body.record, **fixed)
        _own_hand(table, made, caller)
        _own_specialty(table, made, caller)
        if head == "lesions":
            _of_its_lesion(made, lesion)
        return Status(201, told(_keep(table, made, caller, why=body.why, study=study)))

    create.__doc__ = f"Enter a row of {table}"
    offer(
        "POST", under, *WRITE[table], gives=schemas.ROWS[table], made=201, name=f"{table}_create",
        tag=table, body=schemas.NEW[table],
    )(create)  # fmt: skip


def _offer_rows(table: str) -> None:
    record, at = ALL_TABLES[table], f"/rows/{table}/{{uid}}/"

    def one(request: HttpRequest, uid: UUID) -> Any:
        return told(row_of(request.auth, table, uid))

    one.__doc__ = f"Read a row of {table}"
    offer("GET", at, *SEEING, gives=schemas.ROWS[table], name=f"{table}_read", tag=table)(one)

    def history(request: HttpRequest, uid: UUID, limit: Limit = 50, offset: Offset = 0) -> Any:
        return _history(request.auth, table, uid, limit, offset)

    history.__doc__ = f"Every change of a row of {table}, newest first; of a removed row as well"
    offer(
        "GET", f"{at}history/", roles.HISTORY, gives=schemas.History, name=f"{table}_history",
        tag=table,
    )(history)  # fmt: skip
    if table not in WRITE:
        return

    def change(request: HttpRequest, uid: UUID, body: Any) -> Any:
        caller: Caller = request.auth
        with transaction.atomic():
            row = row_of(caller, table, uid)
            old = to_record(row)
            fixed = {
                c.name: getattr(old, c.name)
                for c in columns(record)
                if reference(table, c.name) is not None and getattr(body.record, c.name) is None
            }
            new = schemas.record_of(table, record, body.record, **fixed)
            _stays(table, old, new)
            _own_hand(table, old, caller)
            _own_hand(table, new, caller)
            _own_specialty(table, new, caller)
            return told(_keep(table, new, caller, why=body.why, row=row, expected=body.version))

    change.__doc__ = f"Replace a row of {table}"
    offer(
        "PUT", at, *WRITE[table], gives=schemas.ROWS[table], clashes=True, name=f"{table}_replace",
        tag=table, body=schemas.CHANGES[table],
    )(change)  # fmt: skip

    def remove(request: HttpRequest, uid: UUID, body: schemas.Removal) -> Any:
        row = row_of(request.auth, table, uid)
        if table == "votes":
            _own_hand(table, to_record(row), request.auth)
        cases.remove(row, who=request.auth.who, why=body.why, expected=body.version)
        return {"detail": "removed; its history is kept"}

    remove.__doc__ = f"Take a row of {table} out of the record"
    offer(
        "DELETE", at, roles.CORRECT, gives=schemas.Problem, clashes=True, name=f"{table}_remove",
        tag=table,
    )(remove)  # fmt: skip


def _history(caller: Caller, table: str, uid: UUID, limit: int, offset: int) -> Any:
    if not caller.may(roles.SEE):
        row_of(caller, table, uid)
    if not MODELS[table].history.filter(uid=uid).exists():
        raise Http404
    items = store.history(MODELS[table](uid=uid))
    told = [
        {name: getattr(i, name) for name in schemas.Item.model_fields}
        for i in items[offset : offset + limit]
    ]
    return {"total": len(items), "limit": limit, "offset": offset, "rows": told}


for _table in OF_STUDY:
    _offer_lists(_table, "studies")
for _table in OF_LESION:
    _offer_lists(_table, "lesions")
for _table in ALL_TABLES:
    _offer_rows(_table)
