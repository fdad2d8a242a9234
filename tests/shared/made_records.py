"""Records of every table, made from their columns: drawn at random, or one value at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.model.care import ALL_TABLES
from trocar.model.columns import LONGEST_TEXT, Column, columns
from trocar.model.study import TABLES, DataNote, Study, StudyInfo
from trocar.registry import store
from trocar.registry.columns import OWN, reference

WHO = "dr.who"
EVERY_TABLE: Mapping[str, type] = {"study": StudyInfo, "notes": DataNote, **ALL_TABLES}
_WHOLE = 2**31 - 1
_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
_TRICKY = (
    "'; DROP TABLE registry_patient; --", "<b>&amp;</b>", "=1+1", "骨轉移", "e\u0301", "🦴", "null",
    "%s %(x)s {}", "\\", "a\tb\nc", "\u202eabc", "x" * LONGEST_TEXT,
)  # fmt: skip
_MOMENTS = ("2026-11-25T09:30:00.000001+00:00", "2026-11-26T00:00:00+00:00")


# --- Drawn at random ----------------------------------------------------------------------------


def values(c: Column) -> st.SearchStrategy[Any]:
    """Every value a column may hold: None where it may, and its extremes."""
    found = _held(c).filter(lambda v: c.fault(v) is None)
    return found if c.required else st.none() | found


def _held(c: Column) -> st.SearchStrategy[Any]:
    if c.kind == "yes/no":
        return st.booleans()
    if c.kind == "number":
        ends = [v for v in (c.low, c.high, -0.0) if v is not None]
        among = st.floats(c.low, c.high, allow_nan=False, allow_infinity=False)
        near = st.integers(
            -9 if c.low is None else int(c.low), 9 if c.high is None else int(c.high)
        )
        return st.one_of(among, near, *([st.sampled_from(ends)] if ends else []))
    if c.kind == "whole":
        low = -_WHOLE if c.low is None else int(c.low)
        return st.integers(low, _WHOLE if c.high is None else int(c.high))
    if c.kind == "date":
        parts = st.dates().map(lambda d: d.isoformat())
        return st.tuples(parts, st.sampled_from((4, 7, 10))).map(lambda p: p[0][: p[1]])
    if c.kind == "list":
        one = st.sampled_from(c.choices) if c.choices else _texts()
        return st.lists(one, max_size=4, unique=True).map(tuple)
    if c.choices:
        return st.sampled_from(c.choices)
    if c.identifier:
        return st.text(_NAME, min_size=1, max_size=60)
    return _texts()


def _texts() -> st.SearchStrategy[str]:
    return st.text(min_size=1, max_size=30) | st.sampled_from(_TRICKY)


@st.composite
def records(draw: st.DrawFn, table: str, refers: Mapping[str, str]) -> Any:
    """A record of a table; its references are those given, and its own name is drawn."""
    record = EVERY_TABLE[table]
    drawn = {}
    for c in columns(record):
        to = reference(table, c.name)
        drawn[c.name] = refers[c.name] if to is not None else draw(values(c))
    return sound(record, drawn)


def sound(record: type, drawn: dict[str, Any]) -> Any:
    """The record, with columns that cannot stand beside one another left empty."""
    for _ in range(4):
        try:
            return record(**drawn)
        except InputError as error:
            told = str(error)
            clash = [c.name for c in columns(record) if not c.required and c.name in told]
            if not clash:
                break
            drawn = {**drawn, **dict.fromkeys(clash)}
    return reject()


# --- One value at a time ------------------------------------------------------------------------


def two_values(c: Column) -> tuple[Any, Any]:
    """Two different values a column may hold."""
    if c.kind == "yes/no":
        return True, False
    if c.kind in ("number", "whole"):
        low = c.low if c.low is not None else 1
        high = c.high if c.high is not None else low + 7
        middle = low + (high - low) / 2  # a bound may mean something of its own, as a dose of 0
        return (middle, high) if c.kind == "number" else (int(middle), int(high))
    if c.kind == "date":
        return "2026-01-31", "2026-02"
    if c.kind == "list":
        return (c.choices[:2], ()) if c.choices else (("one", "two"), ())
    if c.choices:
        said = [v for v in c.choices if v != "none"]  # "none" allows nothing beside it
        return said[0], said[1]
    if c.name.endswith("_at") or c.name == "at":
        return _MOMENTS
    return ("one", "two") if c.identifier else ("a sentence, 骨", "another")


def plain(table: str, refers: Mapping[str, str], *, full: bool) -> dict[str, Any]:
    """The cells of a row: the required ones, or with ``full`` all."""
    cells: dict[str, Any] = {}
    for c in columns(EVERY_TABLE[table]):
        if reference(table, c.name) is not None:
            cells[c.name] = refers[c.name]
        elif c.required or full:
            cells[c.name] = two_values(c)[0]
        else:
            cells[c.name] = None
    return cells


def backgrounds(table: str, refers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows in which a column may be tried: bare, full, and bare with one more cell or two."""
    bare = plain(table, refers, full=False)
    full = plain(table, refers, full=True)
    more = [{**bare, n: v} for n, v in full.items() if bare[n] != v]
    others = [
        {**full, c.name: two_values(c)[1]}
        for c in columns(EVERY_TABLE[table])
        if reference(table, c.name) is None
    ]
    without = [{**full, n: None} for n in full if bare[n] is None]
    return [bare, full, *more, *others, *without]


# --- Rows that others refer to ------------------------------------------------------------------


@dataclass
class Ground:
    """A study with two patients, two lesions and two procedures, to which rows may belong."""

    study: Any
    first: dict[str, str] = field(default_factory=dict)
    second: dict[str, str] = field(default_factory=dict)

    def lesion(self, name: str | None = None) -> Any:
        """The row of a lesion."""
        return store.find(self.study, "lesions", name or self.first["lesion_id"])

    def put(self, table: str, record: Any, **more: Any) -> Any:
        """Keep a record in this study."""
        study = None if table == "study" else self.study
        return store.put(table, record, who=WHO, why=more.pop("why", "test"), study=study, **more)


def ground(name: str = "ground") -> Ground:
    """Make the rows a test's own rows refer to."""
    study = store.put("study", StudyInfo(study_id=name, title="a study"), who=WHO, why="test")
    made = Ground(study)
    for refers, mark in ((made.first, "ground1"), (made.second, "ground2")):
        for table, column in OWN.items():
            cells = {**plain(table, {**refers}, full=False), column: mark}
            made.put(table, EVERY_TABLE[table](**cells))
            refers[column] = mark
    return made


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """A whole study: lesions of patients, procedures of lesions, rows of each."""
    info = draw(records("study", {}))
    names = {}
    held: dict[str, list[Any]] = {}
    for table, column in OWN.items():
        names[column] = draw(st.lists(st.text(_NAME[:62], min_size=1, max_size=8), min_size=1,
                                      max_size=3, unique=True))  # fmt: skip
        held[table] = []
        for name in names[column]:
            refers = {k: draw(st.sampled_from(v)) for k, v in names.items() if k != column}
            held[table].append(replace(draw(records(table, refers)), **{column: name}))
    for table in TABLES:
        if table in OWN:
            continue
        count = draw(st.integers(0, 3))
        held[table] = [
            draw(records(table, {k: draw(st.sampled_from(v)) for k, v in names.items()}))
            for _ in range(count)
        ]
    notes = [draw(records("notes", {})) for _ in range(draw(st.integers(0, 2)))]
    try:
        return Study(info=info, notes=tuple(notes), **{t: tuple(r) for t, r in held.items()})
    except InputError:  # two rows of one key, or a leak where none was found
        return reject()
