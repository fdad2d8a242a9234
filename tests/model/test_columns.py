from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.model.columns import (
    LONGEST_TEXT,
    Column,
    _sound,
    checked,
    column,
    columns,
    faults,
    shown,
)
from trocar.model.study import TABLES, DataNote, StudyInfo

CLASSES = (*TABLES.values(), DataNote, StudyInfo)
COLUMNS = [
    pytest.param(cls, c, id=f"{cls.__name__}.{c.name}") for cls in CLASSES for c in columns(cls)
]


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str = column("a name", required=True, identifier=True)
    dose: float | None = column("a dose", unit="mg", low=0, high=10)
    count: int | None = column("a count", low=1)
    colour: str | None = column("a colour", choices=("red", "green"))
    tools: tuple[str, ...] | None = column("tools", choices=("saw", "file"))
    words: tuple[str, ...] | None = column("words")
    seen: bool | None = column("seen")
    day: str | None = column("a day", kind="date")
    note: str | None = column("a note")

    def __post_init__(self) -> None:
        checked(self)


BY_NAME = {c.name: c for c in columns(Row)}


def test_kinds_follow_from_annotations() -> None:
    assert [c.kind for c in columns(Row)] == [
        "text", "number", "whole", "text", "list", "list", "yes/no", "date", "text",
    ]  # fmt: skip
    assert [c.required for c in columns(Row)] == [True] + [False] * 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "A.1_b-2"),
        ("dose", 0),
        ("dose", 10.0),
        ("dose", None),
        ("count", 1),
        ("colour", "green"),
        ("tools", ()),
        ("tools", ("file", "saw")),
        ("words", ("a, b", "c")),
        ("seen", False),
        ("day", "2024-02-29"),
        ("day", "0001"),
        ("note", 'two\nlines, "quoted"; \u2028 =1+1'),
        ("note", "x" * LONGEST_TEXT),
    ],
)
def test_right_values_pass(name: str, value: Any) -> None:
    assert BY_NAME[name].fault(value) is None
    assert faults(Row(**{"name": "a", name: value})) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("name", None, "is empty; expected a name of letters, digits, dot, dash or underscore"),
        ("name", "", "is ''; expected a name of letters"),
        ("name", "-a", "is '-a'; expected a name"),
        ("name", "a\n", r"is 'a\n'; expected a name"),
        ("dose", -0.1, "is -0.1; expected a number from 0 to 10 (mg)"),
        ("dose", 10.5, "is 10.5; expected a number from 0 to 10 (mg)"),
        ("dose", math.nan, "is nan; expected a number"),
        ("dose", True, "is yes; expected a number"),
        ("dose", "7", "is '7'; expected a number"),
        ("count", 0, "is 0; expected a whole number of at least 1"),
        ("count", 2.0, "is 2; expected a whole number"),
        ("colour", "Red", "is 'Red'; expected one of red, green"),
        ("tools", ("saw", "axe"), "is 'saw; axe'; expected one or more of saw, file"),
        ("tools", ("saw", "saw"), "parted by ; (or none), each once"),
        ("tools", ["saw"], "is a list; expected one or more"),
        ("tools", (1,), "is a list of more than texts"),
        ("tools", ("none",), "is 'none'; expected one or more"),
        ("words", ("none",), "is 'none'; expected texts parted by ;"),
        ("words", ("a;b",), "is 'a;b'; expected texts parted by ;"),
        ("words", (" a",), "is ' a'; expected texts"),
        ("words", ("a\0",), "holds the character U+0000"),
        ("seen", 1, "is 1; expected yes, no, or empty for not known"),
        ("day", "2023-02-29", "is '2023-02-29'; expected a date written 2026-11-25"),
        ("day", "28/02/2010", "is '28/02/2010'; expected a date"),
        ("day", "2010-W01", "is '2010-W01'; expected a date"),
        ("note", " a", "is ' a'; expected text"),
        ("note", "", "is ''; expected text"),
        ("note", "a\rb", "holds the character U+000D"),
        ("note", "\ud800", "holds the character U+D800"),
        ("note", "x" * (LONGEST_TEXT + 1), "is 32768 characters long; expected at most 32767"),
    ],
)
def test_wrong_values_are_told(name: str, value: Any, said: str) -> None:
    fault = BY_NAME[name].fault(value)
    assert fault is not None
    assert said in fault
    with pytest.raises(InputError) as told:
        Row(**{"name": "a", name: value})
    assert str(told.value) == f"Row: {name} {fault}"


def test_infinite_is_refused_without_bounds() -> None:
    free = Column(name="x", kind="number", help="", required=False)
    assert free.fault(-math.inf) == "is -inf; expected a number"
    assert free.fault(10**400) is None


def test_a_huge_number_is_cut() -> None:
    fault = BY_NAME["dose"].fault(10**400)
    assert fault is not None
    assert fault.startswith("is 1000")
    assert len(fault) < 120


def test_a_long_text_is_cut() -> None:
    assert len(shown("x" * 10_000)) == 63
    assert shown(["a"]) == "a list"


ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["none", "yes", "lung", "2010-02", "L1", "cement", "0", "1a"])
    | st.lists(st.sampled_from(["cement", "opioids", "none", "CT", ""]) | st.text(max_size=3)).map(
        tuple
    )
)


@pytest.mark.parametrize("cls", CLASSES)
@given(data=st.data())
def test_the_quick_check_agrees_with_the_slow_one(cls: type, data: st.DataObject) -> None:
    c = data.draw(st.sampled_from(columns(cls)))
    value = data.draw(ANY)
    if value is not None and _sound(c)(value):
        assert c.fault(value) is None


@pytest.mark.parametrize(("cls", "c"), COLUMNS)
def test_every_column_says_what_it_holds(cls: type, c: Column) -> None:
    assert c.help
    assert not c.help.endswith(".")
    if c.kind in ("number", "whole"):
        assert c.low is not None
        assert c.high is not None
        assert c.low < c.high
    if c.choices:
        assert len(set(c.choices)) == len(c.choices)
        assert not any(";" in choice or choice != choice.strip() for choice in c.choices)
        assert c.kind != "list" or "none" not in c.choices
