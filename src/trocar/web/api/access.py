"""What a caller may reach: as ``guard.case_of`` says of a page, with the token's own rights."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import Http404

from trocar.registry import roles
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, MODELS_AND_HEADS, Study
from trocar.web.api.core import FARTHEST, LONGEST_PAGE
from trocar.web.api.schemas import plain_record
from trocar.web.api.tokens import Caller

_ROW_RELATED = ("lesion", "patient", "procedure", "procedure__lesion", "study")


def lesion_of(caller: Caller, uid: UUID) -> Any:
    """The lesion of an opaque name, if the caller may see it; else 404."""
    lesion = own_lesions(caller).select_related("patient", "study", "case").filter(uid=uid).first()
    if lesion is None:
        raise Http404
    return lesion


def own_lesions(caller: Caller) -> QuerySet[Any]:
    """The lesions a caller may see."""
    every = MODELS["lesions"].objects.all()
    if caller.may(roles.SEE):
        return every
    if caller.may(roles.SEE_OWN):
        mine = MODELS["referrals"].objects.filter(referrer_id=caller.who)
        return every.filter(pk__in=mine.values("lesion"))
    return every.none()


def study_of(uid: UUID) -> Study:
    """The study of an opaque name; 404 when there is none."""
    study = Study.objects.filter(uid=uid).first()
    if study is None:
        raise Http404
    return study


def seen_rows(caller: Caller, table: str) -> QuerySet[Any]:
    """The rows of a table a caller may see."""
    model = MODELS_AND_HEADS[table]
    names = {f.name for f in model._meta.fields}
    related = [r for r in _ROW_RELATED if r.partition("__")[0] in names]
    rows = model.objects.select_related(*related).order_by("pk")
    if caller.may(roles.SEE):
        return rows
    lesions = own_lesions(caller).values("pk")
    if table == "lesions":
        return rows.filter(pk__in=lesions)
    if table == "patients":
        return rows.filter(Q(lesions__in=lesions)).distinct()
    if "lesion" in names:
        return rows.filter(lesion__in=lesions)
    if "procedure" in names:
        return rows.filter(procedure__lesion__in=lesions)
    if "patient" in names:
        return rows.filter(patient__lesions__in=lesions).distinct()
    return rows.none()


def row_of(caller: Caller, table: str, uid: UUID) -> Any:
    """A row by its opaque name, if the caller may see it; else 404."""
    row = seen_rows(caller, table).filter(uid=uid).first()
    if row is None:
        raise Http404
    return row


def of_lesion(rows: QuerySet[Any], table: str, lesion: Any) -> QuerySet[Any]:
    """Those rows of a table that belong to a lesion; deaths are its patient's."""
    names = {f.name for f in rows.model._meta.fields}
    if "lesion" in names:
        return rows.filter(lesion=lesion)
    if "procedure" in names:
        return rows.filter(procedure__lesion=lesion)
    return rows.filter(patient=lesion.patient)


def told(row: Any) -> dict[str, Any]:
    """A row as it is answered."""
    return {
        "table": row.table, "uid": row.uid, "version": row.version,
        "record": plain_record(to_record(row)),
    }  # fmt: skip


def page(rows: QuerySet[Any], limit: int, offset: int, tell: Any = told) -> dict[str, Any]:
    """Part of a list, and how long it is."""
    held = [tell(r) for r in rows[offset : offset + limit]]
    return {"total": rows.count(), "limit": limit, "offset": offset, "rows": held}


__all__ = [
    "FARTHEST", "LONGEST_PAGE", "lesion_of", "of_lesion", "own_lesions", "page", "row_of",
    "seen_rows", "study_of", "told",
]  # fmt: skip
