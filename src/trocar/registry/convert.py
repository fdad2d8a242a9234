"""From a row to its record and back, without loss. The only place that does either."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from trocar.model.columns import columns
from trocar.registry.columns import reference
from trocar.registry.models import Row


def to_record(row: Any) -> Any:
    """The record of a row, or of one state of it in its history."""
    cls: type[Row] = getattr(row, "instance_type", type(row))
    values = {}
    for c in columns(cls.record):
        to = reference(cls.table, c.name)
        if to is not None:
            other = getattr(row, to[1])
            value = None if other is None else getattr(other, c.name)
        else:
            value = getattr(row, c.name)
            if c.kind == "list" and value is not None:
                value = tuple(value)
        values[c.name] = value
    return cls.record(**values)


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


def canonical(value: Any) -> str:
    """JSON that is the same for the same value: keys sorted, no spaces, nothing escaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
