"""What the text of a spreadsheet cell means in its column, and how a value is written there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from trocar.model.columns import NONE_OF_THEM, Column

_NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,18}(\.0{1,9})?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_SPAN = re.compile(r"\d+(\.\d+)?\s*[-–]\s*\d+(\.\d+)?", re.ASCII)
# What a spreadsheet would run as a formula, perhaps behind apostrophes of the text's own.
_FORMULA = re.compile(r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_EXACT = 1e15  # whole numbers below it are written without a point and read back the same

Wrong = tuple[str, str]  # what came, what was expected


def parse(c: Column, text: str) -> tuple[Any, Wrong | None]:
    """The value of a cell's text (stripped; empty is None) and, when there is one, its fault."""
    if not text:
        return None, wrong(c, None)
    if text[0] == "'" and _FORMULA.match(text, 1):
        text = text[1:]  # the apostrophe that unparse set before it
    value: Any = text.replace("\r\n", "\n").replace("\r", "\n")
    if c.kind in ("number", "whole"):
        value = _number(c, text)
    elif c.kind == "yes/no":
        value = {"yes": True, "no": False}.get(text.lower(), text)
    elif c.kind == "list":
        value = () if text.lower() == NONE_OF_THEM else tuple(p.strip() for p in text.split(";"))
    return value, wrong(c, value)


def from_json(c: Column, value: Any) -> tuple[Any, Wrong | None]:
    """The value of a JSON value and, when there is one, its fault; null is not known."""
    if isinstance(value, list) and c.kind == "list":
        value = tuple(value)
    elif isinstance(value, float) and c.kind == "whole" and value.is_integer():
        value = int(value)
    return value, wrong(c, value)


def wrong(c: Column, value: Any) -> Wrong | None:
    """Why a value cannot stand in its column, with a guess at what was meant."""
    fault = c.fault(value)
    if fault is None:
        return None
    came, expected = split(fault)
    if isinstance(value, str) and c.kind in ("number", "whole"):
        if _COMMA.fullmatch(value):
            expected += ", written with a decimal point, not a comma"
        elif _SPAN.fullmatch(value):
            expected += "; the ends of an interval go into two columns"
    for part in value if isinstance(value, tuple) else (value,):
        if c.choices and isinstance(part, str) and part not in c.choices:
            guess = close(part, c.choices)
            expected += f"; did you mean {guess!r}?" if guess else ""
    return came, expected


def split(fault: str) -> Wrong:
    """What came and what was expected, from a sentence that says both."""
    came, parts, expected = fault.rpartition("; expected ")  # what came may hold the words itself
    return (came, expected) if parts else (fault, "")


def close(word: str, words: Sequence[str]) -> str | None:
    """The word that was probably meant, or None.

    >>> close("age", ("patient_id", "age_years")), close("Femal", ("female", "male"))
    ('age_years', 'female')
    """
    low = {w.lower(): w for w in reversed(words)}
    given = word[:80].lower().strip()
    begun = [w for w in low if len(given) > 1 and w.startswith(given)]
    found = begun if len(begun) == 1 else get_close_matches(given, list(low), n=1)
    return low[found[0]] if found else None


def unparse(value: Any) -> str:
    """The text of a value; :func:`parse` reads it back as the same value.

    A text that a spreadsheet would run as a formula gets an apostrophe before it.

    >>> unparse(None), unparse(True), unparse(9.50), unparse(("cement", "screws")), unparse(())
    ('', 'yes', '9.5', 'cement;screws', 'none')
    >>> unparse("=1+1"), unparse(-7.0)
    ("'=1+1", '-7')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        value = ";".join(value) if value else NONE_OF_THEM
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else str(value)
    return repr(plain(value))


def plain(value: Any) -> Any:
    """A value as JSON writes it: lists for tuples, whole numbers without a point."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else float(value)
    return value


def _number(c: Column, text: str) -> Any:
    """The number of a text, or the text itself when it is none."""
    if c.kind == "whole":
        return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else text
    return float(text) if _NUMBER.fullmatch(text) else text
