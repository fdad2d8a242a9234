"""What a column of the clinical record may hold: said once, used to check, read, write, describe.

A row of the record is a frozen dataclass whose fields are made by :func:`column`. The same words
check a row on birth, parse a spreadsheet and make the JSON Schema, so they cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import date
from functools import cache, lru_cache
from typing import Any, Literal, get_type_hints

from trocar.errors import InputError

_INFINITE = float("inf")
_LARGE = 1e300
Kind = Literal["text", "number", "whole", "yes/no", "date", "list"]

_DATE = re.compile(r"^\d{4}(-\d{2}(-\d{2})?)?$")
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
# What a text file cannot carry unharmed: control characters but tab and newline, lone surrogates.
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
LONGEST_TEXT = 32767  # what one cell of a spreadsheet holds
NONE_OF_THEM = "none"  # a list that is known to be empty, in a cell


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: what it means and what it may hold.

    ``required`` columns may not be empty; every other empty cell means "not known" (None). A list
    known to be empty is ``()``, in a cell the word none. ``identifier`` texts name a row and hold
    letters, digits, dot, dash, underscore.
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
                f"one or more of {some}, parted by ; (or none)"
                if self.kind == "list"
                else f"one of {some}"
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
        return "text" if self.kind == "text" else "texts parted by ; (or none)"

    def fault(self, value: Any) -> str | None:
        """Why a value cannot stand in this column, or None when it can."""
        if value is None or (self.required and isinstance(value, tuple) and not value):
            return f"is empty; expected {self.expected}" if self.required else None
        if not self._right_type(value):
            return f"is {shown(value)}; expected {self.expected}"
        if isinstance(value, tuple):
            return self._list_fault(value)
        unkept = _text_fault(value) if isinstance(value, str) else None
        if unkept or self._right_value(value):
            return unkept
        return f"is {shown(value)}; expected {self.expected}"

    def _right_value(self, value: Any) -> bool:
        if self.kind in ("number", "whole"):
            below = self.low is not None and value < self.low
            above = self.high is not None and value > self.high
            return not (below or above or value != value or abs(value) == _INFINITE)
        return self.kind == "yes/no" or self._right_text(value)

    def _right_text(self, value: str) -> bool:
        if self.choices:
            return value in self.choices
        if self.kind == "date":
            return is_date(value)
        named = not self.identifier or _ID.match(value) is not None
        return bool(value) and value == value.strip() and named

    def _list_fault(self, value: tuple[Any, ...]) -> str | None:
        if not all(isinstance(v, str) for v in value):
            return f"is a list of more than texts; expected {self.expected}"
        unkept = next(filter(None, map(_text_fault, value)), None)
        if unkept:
            return unkept
        parted = any(not v or ";" in v or v != v.strip() for v in value)
        unknown = any(v not in self.choices for v in value) if self.choices else False
        if parted or unknown or NONE_OF_THEM in value:
            return f"is {shown('; '.join(value))}; expected {self.expected}"
        if len(set(value)) < len(value):
            return f"is {shown('; '.join(value))}; expected {self.expected}, each once"
        return None

    def _right_type(self, value: Any) -> bool:
        if self.kind == "yes/no":
            return isinstance(value, bool)
        if self.kind == "whole":
            return isinstance(value, int) and not isinstance(value, bool)
        if self.kind == "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        return isinstance(value, tuple) if self.kind == "list" else isinstance(value, str)


def shown(value: Any) -> str:
    """A value as a message shows it, cut when long.

    >>> shown("seven"), shown(7.0), shown({"a": 1})
    ("'seven'", '7', 'an object')
    """
    if isinstance(value, dict | list | tuple):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    text = repr(value[:61] if isinstance(value, str) else value)
    return text if len(text) <= 64 else f"{text[:60]}..."


def _text_fault(text: str) -> str | None:
    """Why a text cannot be kept in a file, whatever its column."""
    if len(text) > LONGEST_TEXT:
        return f"is {len(text)} characters long; expected at most {LONGEST_TEXT}"
    bad = _UNWRITABLE.search(text)
    if bad:
        return f"holds the character U+{ord(bad[0]):04X}; expected text without control characters"
    return None


@lru_cache(maxsize=4096)
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
    held = row.__dict__
    cls: type = type(row)
    for c, required, sound in _plan(cls):
        value = held[c.name]
        if (value is None and not required) or (value is not None and sound(value)):
            continue
        fault = c.fault(value)
        if fault is not None:
            raise InputError(f"{type(row).__name__}: {c.name} {fault}")


# A study has millions of cells: most pass a cheap test, and only the others are looked at closely.
@cache
def _plan(row: type) -> tuple[tuple[Column, bool, Callable[[Any], bool]], ...]:
    return tuple((c, c.required, _sound(c)) for c in columns(row))


def _sound(c: Column) -> Callable[[Any], bool]:
    """A cheap test; what passes is right, what fails is still judged by :meth:`Column.fault`."""
    if c.kind == "yes/no":
        return lambda value: value is True or value is False
    if c.kind in ("number", "whole"):
        low = -_LARGE if c.low is None else c.low
        high = _LARGE if c.high is None else c.high
        types = (int,) if c.kind == "whole" else (int, float)
        return lambda value: type(value) in types and low <= value <= high
    if c.choices and c.kind == "text":
        among = frozenset(c.choices)
        return lambda value: type(value) is str and value in among
    if c.kind == "date":
        return lambda value: type(value) is str and is_date(value)
    if c.identifier:
        matches = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}").fullmatch
        return lambda value: type(value) is str and matches(value) is not None
    return lambda value: False
