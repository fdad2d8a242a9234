"""What goes in and out, made from the records' own columns.

A column checks a value here with the same function and the same words as in a form or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from trocar.model.care import ALL_TABLES, PLANNED, STATES, PlanVersion
from trocar.model.columns import LONGEST_TEXT, Column, columns
from trocar.model.study import StudyInfo
from trocar.registry.columns import reference
from trocar.registry.models import NAMES

# Fields that are made at run time are beyond the overloads.
_model: Any = create_model
_LONGEST_VERSION = 2**31 - 1
_DATE = r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Strict(BaseModel):
    """A body: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid")


class Out(BaseModel):
    """An answer."""


class Problem(Out):
    """Why a call was refused, as a sentence."""

    detail: str


class Clash(Problem):
    """Somebody changed the row in between: who, when, and both states."""

    by: str
    at: str
    version: int
    yours: dict[str, Any] | None
    theirs: dict[str, Any]


# --- Columns ------------------------------------------------------------------------------------


def column_schema(c: Column) -> dict[str, Any]:
    """The JSON Schema of a column, its unit and what it may hold in the description."""
    kind = {"number": "number", "whole": "integer", "yes/no": "boolean", "list": "array"}.get(
        c.kind, "string"
    )
    out: dict[str, Any] = {"description": f"{c.help}; {c.expected}"}
    out["type"] = kind if c.required else [kind, "null"]
    if c.kind == "list":
        items: dict[str, Any] = {"type": "string", "minLength": 1}
        if c.choices:
            items = {"enum": list(c.choices)}
        out |= {"items": items, "uniqueItems": True} | ({"minItems": 1} if c.required else {})
    elif c.choices:
        out["enum"] = [*c.choices] if c.required else [*c.choices, None]
    elif c.kind in ("number", "whole"):
        bounds = {"minimum": c.low, "maximum": c.high}
        out |= {name: bound for name, bound in bounds.items() if bound is not None}
    elif c.kind == "date":
        out["pattern"] = _DATE
    elif c.kind == "text":
        out |= {"minLength": 1, "maxLength": LONGEST_TEXT}
        if c.identifier:
            out["pattern"] = _NAME
    return out


def _sound(c: Column, value: Any) -> Any:
    if c.kind == "list" and isinstance(value, list):
        value = tuple(value)
    fault = c.fault(value)
    if fault is not None:
        raise PydanticCustomError("column", "{fault}", {"fault": fault})
    return value


def typed(c: Column) -> Any:
    """The type of a column: its own check, its own description."""
    return Annotated[Any, BeforeValidator(partial(_sound, c)), WithJsonSchema(column_schema(c))]


def text(name: str, help: str) -> Any:
    """A text that must be given, checked as every text column is."""
    return typed(Column(name=name, kind="text", help=help, required=True))


Why = text("why", "why, in a few words, without names")
Version = Annotated[int, Field(strict=True, ge=1, le=_LONGEST_VERSION)]


# --- Tables -------------------------------------------------------------------------------------


def model_name(table: str) -> str:
    """How the schema of a table is called.

    >>> model_name("pain"), model_name("events")
    ('PainScore', 'CourseEvent')
    """
    return "StudyInfo" if table == "study" else NAMES.get(table, ALL_TABLES[table].__name__)


def _record_schema(table: str, record: type) -> type[BaseModel]:
    told: dict[str, Any] = {}
    for c in columns(record):
        # Whose row it is follows from the address.
        free = c.name in ("lesion_id", "patient_id") and reference(table, c.name) is not None
        if table == "lesions":
            free = False  # it is entered under a study, and must say whose it is
        told[c.name] = (typed(c), None if free or not c.required else ...)
    return _model(
        model_name(table), __base__=Strict, __doc__=(record.__doc__ or "").strip(), **told
    )


RECORDS: Mapping[str, type[BaseModel]] = {
    t: _record_schema(t, r) for t, r in {"study": StudyInfo, **ALL_TABLES}.items()
}


def _made(suffix: str, base: type[BaseModel], **more: Any) -> dict[str, type[BaseModel]]:
    return {
        t: _model(f"{model_name(t)}{suffix}", __base__=base, record=(m, ...), **more)
        for t, m in RECORDS.items()
    }


# A row as kept; what makes one; what replaces one; a page of them.
ROWS = _made("Row", Out, table=(str, ...), uid=(UUID, ...), version=(int, ...))
NEW = _made("New", Strict, why=(Why, "entered"))
CHANGES = _made("Change", Strict, why=(Why, ...), version=(Version, ...))
PAGES: dict[str, type[BaseModel]] = {
    t: _model(
        f"{model_name(t)}Page", __base__=Out, total=(int, ...), limit=(int, ...),
        offset=(int, ...), rows=(list[m], ...),  # type: ignore[valid-type]
    )
    for t, m in ROWS.items()
}  # fmt: skip


StudyNew = NEW["study"]


class Removal(Strict):
    """Why a row goes, and which version of it was seen."""

    why: Why  # type: ignore[valid-type]
    version: Version


class Item(Out):
    """One column of one row at one moment: from what to what, by whom and why."""

    at: str
    who: str
    why: str
    column: str
    old: Any
    new: Any
    version: int


class History(Out):
    """Every change of a row, newest first."""

    total: int
    limit: int
    offset: int
    rows: list[Item]


# --- Plans, steps, what is worked out ---------------------------------------------------------

_PLAN = {c.name: c for c in columns(PlanVersion)}
_NUMBER = typed(_PLAN["number"])
PlanContent = _model(
    "PlanContent",
    __base__=Strict,
    __doc__="What is planned; who made it and when the registry says itself.",
    **{name: (typed(_PLAN[name]), None) for name in PLANNED},
)


class PlanNext(Strict):
    """The next version of a plan; ``parent`` is the newest version that was seen."""

    record: PlanContent  # type: ignore[valid-type]
    why: Why  # type: ignore[valid-type]
    parent: Annotated[int, Field(strict=True, ge=1, le=9999)] | None = None


class PlanBack(Strict):
    """An earlier version made the next one."""

    number: Annotated[int, Field(strict=True, ge=1, le=9999)]
    parent: Annotated[int, Field(strict=True, ge=1, le=9999)]
    why: Why  # type: ignore[valid-type]


class Seen(Strict):
    """Which version of the row was seen."""

    version: Version


class Signed(Seen):
    """Which version of the plan was seen, and why it is signed: asked of one that says stop."""

    why: Why | None = None  # type: ignore[valid-type]


class Reason(Strict):
    """Why, in a few words."""

    why: Why  # type: ignore[valid-type]


Refer = _model(
    "Refer",
    __base__=Strict,
    __doc__="A referral with whom and what it is about; a patient known by all it says is not "
    "made anew. Whoever sees only own cases becomes the referrer.",
    patient=(RECORDS["patients"], ...),
    lesion=(RECORDS["lesions"], ...),
    referral=(RECORDS["referrals"], ...),
)
Referred = _model(
    "Referred",
    __base__=Out,
    __doc__="The three rows of a referral.",
    patient=(ROWS["patients"], ...),
    lesion=(ROWS["lesions"], ...),
    referral=(ROWS["referrals"], ...),
)


class Move(Strict):
    """Where to; gates overridden by name need a reason. ``seen`` is the last step that was seen."""

    state: typed(  # type: ignore[valid-type]
        Column(name="state", kind="text", help="state to enter", required=True, choices=STATES)
    )
    reason: typed(  # type: ignore[valid-type]
        Column(name="reason", kind="text", help="why this step", required=False)
    ) = None
    overridden: Annotated[
        list[text("gate", "name of a gate")],  # type: ignore[valid-type]
        Field(max_length=100),
    ] = []
    seen: Annotated[int, Field(strict=True, ge=0, le=9999)] | None = None


class GateOut(Out):
    """One condition of a step; ``open`` is null when it is not known, which never passes."""

    gate: str
    title: str
    open: bool | None
    reason: str
    hard: bool
    overridable_by: list[str]


class NextState(Out):
    """A state that may follow, with its gates, worst first."""

    state: str
    gates: list[GateOut]


class Gates(Out):
    """The state of a lesion, the number of its last step, and what may follow."""

    state: str
    seen: int
    next: list[NextState]


class StandingOut(Out):
    """Where a lesion stands in its care today."""

    state: str
    since: str
    next_due: str
    due_what: str
    unsigned_plan: bool
    missing_scores: int
    closed_gates: int = Field(description="Hard gates of the next step that are not open.")


class Rule(Out):
    """One rule of selection applied to the lesion."""

    rule: str
    title: str
    status: str
    clause: str
    text: str
    evidence: str
    hard: bool


class ScoreOut(Out):
    """A published score of the lesion."""

    name: str
    points: float | None
    group: str
    meaning: str
    source: str
    evidence: str
    missing: list[str]


class DecisionOut(Out):
    """Is cementoplasty of this lesion supported? For a meeting to sign."""

    lesion_id: str
    outcome: str
    verdicts: list[Rule]
    scores: list[ScoreOut]
    facts: dict[str, str]


class Line(StandingOut):
    """One line of the worklist."""

    lesion: UUID
    study: UUID
    lesion_id: str
    site: str
    changed_at: str


class Worklist(Out):
    """Lesions and what is due, the earliest first."""

    total: int
    limit: int
    offset: int
    rows: list[Line]


Lesion = _model(
    "Lesion",
    __base__=Out,
    __doc__="A lesion with the names its patient and study are reached by.",
    lesion=(ROWS["lesions"], ...),
    patient=(UUID, ...),
    study=(UUID, ...),
)


class Head(Out):
    """The last link of the log."""

    number: int
    sha256: str


class Verify(Strict):
    """What to hold the log against."""

    rows: Annotated[bool, Field(strict=True)] = True
    known_head: Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")] | None = None


class Verified(Out):
    """Whether every link and every row holds, and where not."""

    sound: bool
    links: int
    head: str
    broken_at: int | None
    why: str
    changed_rows: list[str]
    rows: int


def record_of(table: str, record: type, body: BaseModel, **fixed: Any) -> Any:
    """The record a body tells, with what its address fixes.

    Raises InputError for what no record may hold, or a body that names another than its address.
    """
    from trocar.errors import InputError

    values = {c.name: getattr(body, c.name) for c in columns(record)}
    for name, value in fixed.items():
        if values[name] is not None and values[name] != value:
            raise InputError(f"{name} is not that of the address; expected it left out, or equal")
        values[name] = value
    return record(**values)


def plain_record(record: Any) -> dict[str, Any]:
    """Every column of a record as JSON takes it, empty ones included."""
    held = {c.name: getattr(record, c.name) for c in columns(type(record))}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in held.items()}
