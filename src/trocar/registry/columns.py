"""From a column of a record to a field of a table and the constraints that keep it in the database.

What a column may hold is said once, in the record. The database is told the same: types, ranges,
choices and what may not be empty, so that a row written past trocar is held to it as well.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce

from trocar.model.care import CARE_KEYS
from trocar.model.columns import Column, columns
from trocar.model.study import KEYS

LONGEST_NAME = 100
_DATE_LENGTHS = (4, 7, 10)

# Which table a reference leads to, and what the column is called there and here.
REFERENCES = {
    "patient_id": ("Patient", "patient"),
    "lesion_id": ("Lesion", "lesion"),
    "procedure_id": ("Procedure", "procedure"),
}
# Tables in which such a column is the row's own name, not a reference.
OWN = {"patients": "patient_id", "lesions": "lesion_id", "procedures": "procedure_id"}
# Exclusions may name who was never entered.
_UNTIED = ("exclusions",)


def reference(table: str, name: str) -> tuple[str, str] | None:
    """The model a column refers to and the field that does, or None for a plain column."""
    if OWN.get(table) == name or table in _UNTIED:
        return None
    return REFERENCES.get(name)


def field(table: str, c: Column) -> models.Field[Any, Any]:
    """The field that holds one column; every empty cell is NULL."""
    said: dict[str, Any] = {"null": not c.required, "blank": not c.required, "help_text": c.help}
    to = reference(table, c.name)
    if to is not None:
        return models.ForeignKey(
            f"registry.{to[0]}", on_delete=models.PROTECT, related_name=table, **said
        )
    if c.kind == "yes/no":
        return models.BooleanField(**said)
    if c.kind == "number":
        return models.FloatField(**said)
    if c.kind == "whole":
        large = c.high is None or c.high > 2**31 - 1
        return (models.BigIntegerField if large else models.IntegerField)(**said)
    if c.kind == "list":
        return models.JSONField(**said)
    if c.choices:
        return models.CharField(
            max_length=LONGEST_NAME, choices=[(v, v) for v in c.choices], **said
        )
    if c.kind == "date":
        return models.CharField(max_length=10, **said)
    return models.TextField(**said)


def constraints(table: str, record: type) -> list[models.BaseConstraint]:
    """Ranges, choices and keys of a table, as the database enforces them."""
    found: list[models.BaseConstraint] = []
    for c in columns(record):
        if reference(table, c.name) is not None:
            continue
        checks = []
        if c.low is not None:
            checks.append(Q(**{f"{c.name}__gte": c.low}))
        if c.high is not None and c.high < 2**63 - 1:
            checks.append(Q(**{f"{c.name}__lte": c.high}))
        if c.choices and c.kind == "text":
            checks.append(Q(**{f"{c.name}__in": c.choices}))
        if c.kind == "text" and not c.choices:
            checks.append(~Q(**{c.name: ""}))
        for check, suffix in zip(checks, "abc", strict=False):
            found.append(models.CheckConstraint(condition=check, name=f"{table}_{c.name}_{suffix}"))
    return found + _keys(table, record)


def _keys(table: str, record: type) -> list[models.BaseConstraint]:
    key = {**KEYS, **CARE_KEYS}.get(table)
    if key is None:
        return []
    kinds = {c.name: c for c in columns(record)}
    parts: list[Any] = []
    if OWN.get(table) in key or table in ("images", "runs"):
        parts.append(F("study"))  # names are unique within a study
    for name in key:
        to = reference(table, name)
        if to is not None:
            parts.append(F(to[1]))
        elif kinds[name].required:
            parts.append(F(name))
        else:  # two empty cells are the same, which NULLs are not
            parts.append(Coalesce(F(name), Value("")))
    return [models.UniqueConstraint(*parts, name=f"{table}_once")]
