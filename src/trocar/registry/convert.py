"""From a row to its record and back, without loss. The only place that does either."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ObjectDoesNotExist

from trocar.model.columns import columns
from trocar.registry.columns import OWN, reference
from trocar.registry.models import MODELS, Row


def to_record(row: Any, names: Mapping[str, Mapping[int, str]] | None = None) -> Any:
    """The record of a row, or of one state of it in its history.

    ``names`` may hold the names of what rows refer to, by field and key, where many are read.
    """
    cls: type[Row] = getattr(row, "instance_type", type(row))
    values = {}
    for c in columns(cls.record):
        to = reference(cls.table, c.name)
        if to is not None:
            value = _name(row, to[1], c.name, names)
        else:
            value = getattr(row, c.name)
            if c.kind == "list" and value is not None:
                value = tuple(value)
        values[c.name] = value
    return cls.record(**values)


def _name(row: Any, field: str, own: str, names: Mapping[str, Mapping[int, str]] | None) -> Any:
    """The name of the row a field refers to; that of a row that was removed is in its history."""
    key = getattr(row, f"{field}_id")
    if key is None:
        return None
    if names is not None:
        return names[field][key]
    try:
        return getattr(getattr(row, field), own)
    except ObjectDoesNotExist:
        table = f"{field}s"
        state = MODELS[table].history.filter(id=key).first()  # type: ignore[attr-defined]
        return getattr(state, own)


def every_name() -> dict[str, dict[int, str]]:
    """The names of all patients, lesions and procedures there are or were, by field and key."""
    found = {}
    for table, own in OWN.items():
        past = MODELS[table].history.values_list("id", own)  # type: ignore[attr-defined]
        found[own.removesuffix("_id")] = dict(past.iterator(2000))
    return found


def to_fields(record: Any, table: str, related: dict[str, Any]) -> dict[str, Any]:
    """What the fields of a row hold for a record; ``related`` are the rows it refers to."""
    values: dict[str, Any] = {}
    for c in columns(type(record)):
        value = getattr(record, c.name)
        to = reference(table, c.name)
        if to is not None:
            values[to[1]] = None if value is None else related[to[1]]
        else:
            values[c.name] = list(value) if isinstance(value, tuple) else value
    return values


def digest(record: Any) -> str:
    """A hash of every column of a record, empty ones included."""
    values = {c.name: getattr(record, c.name) for c in columns(type(record))}
    for c in columns(type(record)):
        if c.kind == "number" and values[c.name] is not None:
            # A database gives 1.0 back for 1, and some give 0.0 for -0.0, which are equal.
            values[c.name] = float(values[c.name]) + 0.0
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def told(held: str, who: str, why: str | None, at: str, study: str) -> str:
    """A hash of a state of a row and its story: what it was, who made it so, why, when, where."""
    return hashlib.sha256(canonical([held, who, why or "", at, study]).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON that is the same for the same value: keys sorted, no spaces, nothing escaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
