"""What a column of the clinical record may hold: said once, used to check, read, write, describe.

A row of the record is a frozen dataclass whose fields are made by :func:`column`. The same words
check a row on birth, parse a spreadsheet and make the JSON Schema, so they cannot disagree.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import date
from functools import cache
from typing import Any, Literal, get_type_hints

from trocar.errors import InputError

Kind = Literal["text", "number", "whole", "yes/no", "date", "list"]

_DATE = re.compile(r"^\d{4}(-\d{2}(-\d{2})?)?$")
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: what it means and what it may hold.

    ``required`` columns may not be empty; every other empty cell means "not known" (None, or an
    empty list). ``identifier`` texts name a row and hold letters, digits, dot, dash, underscore.
    """

    name: str
    kind: Kind
    help: str
    required: bool
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    identifier: bool = False

    @property
    def expected(self) -> str:
        """What a cell may hold, in words: ``a number from 0 to 10``."""
        if self.choices:
            some = ", ".join(self.choices)
            return (
                f"one or more of {some}, parted by ;" if self.kind == "list" else f"one of {some}"
            )
        if self.kind == "yes/no":
            return "yes, no, or empty for not known"
        if self.kind == "date":
            return "a date written 2026-11-25, 2026-11 or 2026"
        if self.kind in ("number", "whole"):
            noun = "a whole number" if self.kind == "whole" else "a number"
            span = ""
            if self.low is not None and self.high is not None:
                span = f" from {self.low:g} to {self.high:g}"
            elif self.low is not None:
                span = f" of at least {self.low:g}"
            elif self.high is not None:
                span = f" of at most {self.high:g}"
            return f"{noun}{span}{f' ({self.unit})' if self.unit else ''}"
        if self.identifier:
            return "a name of letters, digits, dot, dash or underscore"
        return "text" if self.kind == "text" else "texts parted by ;"

    def fault(self, value: Any) -> str | None:
        """Why a value cannot stand in this column, or None when it can."""
        if value is None or value == ():
            return f"is empty; expected {self.expected}" if self.required else None
        if not self._right_type(value):
            return f"is {value!r}; expected {self.expected}"
        if self.kind == "list":
            wrong = [
                v for v in value if not isinstance(v, str) or not v or ";" in v or v != v.strip()
            ]
            wrong += [v for v in value if self.choices and v not in self.choices]
            if wrong or len(set(value)) < len(value):
                return f"is {'; '.join(map(str, value))!r}; expected {self.expected}, each once"
            return None
        if self.choices and value not in self.choices:
            return f"is {value!r}; expected {self.expected}"
        if self.kind in ("number", "whole"):
            below = self.low is not None and value < self.low
            above = self.high is not None and value > self.high
            if below or above or value != value or abs(value) == float("inf"):
                return f"is {value:g}; expected {self.expected}"
        if self.kind == "date" and not is_date(value):
            return f"is {value!r}; expected {self.expected}"
        if self.kind == "text" and (
            not value or value != value.strip() or (self.identifier and not _ID.match(value))
        ):
            return f"is {value!r}; expected {self.expected}"
        return None

    def _right_type(self, value: Any) -> bool:
        if self.kind == "yes/no":
            return isinstance(value, bool)
        if self.kind == "whole":
            return isinstance(value, int) and not isinstance(value, bool)
        if self.kind == "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        return isinstance(value, tuple) if self.kind == "list" else isinstance(value, str)


def is_date(text: str) -> bool:
    """Whether a text is an ISO date, month or year that exists.

    >>> is_date("2010-02"), is_date("2010-02-30"), is_date("Feb 2010")
    (True, False, False)
    """
    if not _DATE.match(text):
        return False
    try:
        date.fromisoformat(text + "-01-01"[(len(text) - 4) :] if len(text) < 10 else text)
    except ValueError:
        return False
    return True


def column(
    help: str,
    *,
    kind: Kind | None = None,
    required: bool = False,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    identifier: bool = False,
) -> Any:
    """A dataclass field that is a column; the kind follows from the annotation unless given."""
    said = {
        "help": help,
        "kind": kind,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "identifier": identifier,
    }
    if required:
        return field(metadata={"column": said})
    return field(default=None, metadata={"column": said})


def columns(row: type) -> tuple[Column, ...]:
    """The columns of a row's class, in order."""
    return _columns(row)


@cache
def _columns(row: type) -> tuple[Column, ...]:
    hints = get_type_hints(row)
    return tuple(_column(f, hints[f.name]) for f in fields(row) if "column" in f.metadata)


def _column(f: Field[Any], hint: Any) -> Column:
    said = dict(f.metadata["column"])
    text = str(hint)
    if said["kind"] is None:
        kinds: tuple[tuple[str, Kind], ...] = (
            ("tuple", "list"),
            ("bool", "yes/no"),
            ("float", "number"),
            ("int", "whole"),
            ("str", "text"),
        )
        said["kind"] = next(kind for word, kind in kinds if word in text)
    return Column(name=f.name, required=f.default is MISSING, **said)


def faults(row: Any) -> list[tuple[str, str]]:
    """Every (column, reason) that is wrong in a row, in the order of its columns."""
    found = []
    for c in columns(type(row)):
        fault = c.fault(getattr(row, c.name))
        if fault is not None:
            found.append((c.name, fault))
    return found


def checked(row: Any) -> None:
    """Raise InputError naming the first wrong column of a row; called once, on birth."""
    for c in columns(type(row)):
        fault = c.fault(getattr(row, c.name))
        if fault is not None:
            raise InputError(f"{type(row).__name__}: {c.name} {fault}")
