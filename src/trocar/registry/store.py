"""Writing and reading whole records: the only way a clinical row comes to be or to change.

Every write says who and why, is refused when the row was changed in between, leaves the row's whole
state in its history and a link in the log, or leaves nothing at all.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ObjectDoesNotExist
from django.db import DataError, IntegrityError, OperationalError, connection, models, transaction
from simple_history.utils import bulk_create_with_history

from trocar.errors import InputError, TrocarError
from trocar.model.care import (
    CARE_TABLES,
    PLANNED,
    Care,
    PlanVersion,
    Standing,
    Step,
)
from trocar.model.columns import columns, shown
from trocar.model.study import KEYS, TABLES, Record, Study
from trocar.registry import chain
from trocar.registry.chain import Happened
from trocar.registry.columns import OWN, reference
from trocar.registry.convert import canonical, digest, to_fields, to_record, told
from trocar.registry.models import (
    MODELS,
    MODELS_AND_HEADS,
    Case,
    ChainEvent,
    ChainHead,
    Row,
)
from trocar.registry.models import Study as StudyRow

_BATCH = 500
_READ = 2000
_LIMITS = "54"  # how PostgreSQL's codes of exceeded limits begin (too long for an index)


# What is said where a second row would have the key of one that is there.
THERE_ALREADY: Mapping[str, str] = {
    "": "such a row is there already; change that one instead",
    "patients": "a patient of this pseudonym is there already; choose another or change that one",
    "lesions": "a lesion of this name is there already; choose another or change that one",
    "selection": "what is known before the decision is there already; change that one instead",
    "procedures": "a procedure of this name is there already; choose another or change that one",
    "pain": "a score of this day is there already; change that one instead",
    "opioids": "this drug is there already on this day by this route; change that one instead",
    "visits": "a visit of this day is there already; change that one instead",
    "deaths": "the death of this patient is there already; change that one instead",
    "meetings": "a meeting of this day is there already; change that one instead",
    "votes": "a vote of this member in this meeting is there already; change that one instead",
    "consents": "a consent of this number is there already; change that one instead",
    "images": "an image study of this name is there already; choose another or change that one",
    "plans": "a version of the plan with this number is there already; open the newest one",
    "runs": "a computation of this name is there already; choose another or change that one",
    "injections": "an injection of this number is there already; change that one instead",
    "ablations": "an application of this number is there already; change that one instead",
    "assessments": "an assessment of this day is there already; change that one instead",
    "steps": "somebody moved the case meanwhile; look again before it is moved on",
}


class Conflict(TrocarError):
    """The row was changed by somebody else since it was read; both states are at hand."""

    def __init__(self, row: Row, yours: Any, by: str, at: str) -> None:
        super().__init__(
            f"{row.table}: {by} changed this at {at}, after it was opened here; nothing was saved. "
            "Compare both and save again."
        )
        self.row, self.yours, self.theirs, self.by, self.at = row, yours, to_record(row), by, at


class Changed(InputError):
    """What was looked at before is not what would be done now."""


@dataclass(frozen=True, kw_only=True)
class ItemChange:
    """One column of one row at one moment: from what to what, by whom and why."""

    table: str
    uid: str
    at: str
    who: str
    why: str
    column: str
    old: Any
    new: Any
    version: int


# --- Accounts -----------------------------------------------------------------------------------


def account(who: str) -> Any:
    """The account of a name; one without a password is made for the command line's own name."""
    users = get_user_model()
    # Two writers may meet a new name at once; the second then finds what the first made.
    return users.objects.get_or_create(
        username=who, defaults={"is_active": False, "password": make_password(None)}
    )[0]


# --- One row ------------------------------------------------------------------------------------


def find(study: StudyRow, table: str, name: str) -> Any:
    """The patient, lesion or procedure of a name; InputError when the study has none."""
    row = MODELS[table].objects.filter(study=study, **{OWN[table]: name}).first()
    if row is None:
        raise InputError(f"{OWN[table]} is {shown(name)}; expected one of the table {table}")
    return row


def path_to_study(table: str) -> str:
    """The lookup that leads from a table's rows to their study.

    >>> path_to_study("devices"), path_to_study("patients")
    ('procedure__study', 'study')
    """
    model = MODELS_AND_HEADS[table]
    names = {f.name for f in model._meta.fields}
    if "study" in names:
        return "study"
    for way in ("lesion", "patient", "procedure"):
        if way in names:
            return f"{way}__study"
    raise AssertionError(table)


def put(
    table: str,
    record: Any,
    *,
    who: str,
    why: str = "",
    study: StudyRow | None = None,
    row: Row | None = None,
    expected: int | None = None,
) -> Any:
    """Make a row of a record, or change ``row`` to it; returns the row as kept.

    A change needs ``why`` and the ``expected`` version that was read. Raises Conflict when the row
    was changed since, InputError for a reference that does not exist, a key that does or a change
    without a reason.
    """
    model = MODELS_AND_HEADS[table]
    with transaction.atomic():
        chain.turn()
        if row is None:
            row = model(**_fields(table, record, study))
            _set_study(row, study)
            kind = "created"
        else:
            held = _still_there(row)
            _may_change(held, record, why, expected)
            old = to_record(held)
            if old == record:
                return held
            study = study or _study_of_row(held)
            for name, value in _fields(table, record, study).items():
                setattr(held, name, value)
            held.version += 1
            row, kind = held, "changed"
        _save(row, who, why)
        _tell([row], who, kind, why)
    return row


def remove(row: Row, *, who: str, why: str, expected: int | None = None) -> None:
    """Take a row out of the record; its history and the log keep it for good."""
    with transaction.atomic():
        chain.turn()
        held = _still_there(row)
        _may_change(held, None, why, expected)
        held._history_user, held._change_reason = account(who), why
        held._history_date = datetime.now(UTC)
        gone = _happened(held, who, "removed", why)
        try:
            held.delete()
        except models.ProtectedError as error:
            raise InputError(
                f"{held.table}: other rows belong to this one; remove those first"
            ) from error
        chain.append([gone])


def history(row: Row) -> tuple[ItemChange, ...]:
    """Every change of every column of a row, newest first; what it began with as well."""
    return _items(type(row), row.uid)


def _items(model: type[Row], uid: Any) -> tuple[ItemChange, ...]:
    states = list(
        model.history.filter(uid=uid)  # type: ignore[attr-defined]
        .select_related("history_user")
        .order_by("history_date", "history_id")
    )
    told: list[ItemChange] = []
    before: dict[str, Any] = {}
    names = [c.name for c in columns(model.record)]
    for state in states:
        record = to_record(state)
        now = dict.fromkeys(names) if state.history_type == "-" else vars(record)
        for name in names:
            first = not before
            if first or before[name] != now[name]:
                told.append(
                    ItemChange(
                        table=model.table, uid=str(uid), at=state.history_date.isoformat(),
                        who=str(state.history_user or ""), why=state.history_change_reason or "",
                        column=name, old=before.get(name), new=now[name], version=state.version,
                    )
                )  # fmt: skip
        before = dict(now)
    return tuple(reversed(told))


def _still_there(row: Row) -> Any:
    held = type(row).objects.filter(pk=row.pk).first()
    if held is None:
        raise InputError(f"{row.table}: somebody removed this after it was opened here")
    return held


def _may_change(held: Any, record: Any, why: str, expected: int | None) -> None:
    if expected is not None and held.version != expected:
        last = held.history.select_related("history_user").first()
        raise Conflict(
            held, record, str(last.history_user or ""), last.history_date.isoformat("T", "seconds")
        )
    if not why.strip():
        raise InputError("the reason of the change is empty; expected why, in a few words")
    own = "study_id" if held.table == "study" else OWN.get(held.table)
    if own is not None and record is not None and getattr(record, own) != getattr(held, own):
        # Rows below it and links of the log tell of it by this name.
        raise InputError(
            f"{own} is {shown(getattr(record, own))}; a name does not change, expected "
            f"{shown(getattr(held, own))}"
        )
    if isinstance(record, PlanVersion):
        old = to_record(held)
        if any(getattr(old, n) != getattr(record, n) for n in (*PLANNED, "number", "parent")):
            raise InputError(
                "a version of a plan does not change; make the next version from it instead"
            )


def _fields(table: str, record: Any, study: StudyRow | None) -> dict[str, Any]:
    related: dict[str, Any] = {}
    for c in columns(type(record)):
        to, value = reference(table, c.name), getattr(record, c.name)
        if to is not None and value is not None:
            if study is None:
                raise InputError("no study is given; expected the one the row belongs to")
            related[to[1]] = find(study, f"{to[1]}s", value)
    return to_fields(record, table, related)


def _set_study(row: Any, study: StudyRow | None) -> None:
    if any(f.name == "study" for f in row._meta.fields):
        if study is None:
            raise InputError("no study is given; expected the one the row belongs to")
        row.study = study


def _study_of_row(row: Any) -> StudyRow | None:
    if isinstance(row, StudyRow):
        return row
    value = row
    for part in path_to_study(row.table).split("__"):
        value = getattr(value, part)
    return value  # type: ignore[no-any-return]


def _save(row: Any, who: str, why: str) -> None:
    row._history_user, row._change_reason = account(who), why or None
    row._history_date = datetime.now(UTC)
    with _told_in_words(row.table):
        row.save()


@contextmanager
def _told_in_words(table: str) -> Iterator[None]:
    """Writes that leave nothing behind when the database refuses a value, and say InputError."""
    try:
        with transaction.atomic():
            yield
    except (IntegrityError, DataError, OverflowError) as error:
        raise InputError(_what_broke(table, error)) from error
    except OperationalError as error:
        # A database that is gone or locked is no fault of the row.
        if not str(getattr(error.__cause__, "sqlstate", "")).startswith(_LIMITS):
            raise
        raise InputError(_what_broke(table, error)) from error


def _what_broke(table: str, error: Exception) -> str:
    """A database's complaint as a sentence; its own words may hold values and are not shown."""
    if not isinstance(error, IntegrityError):
        return f"{table}: a value is longer or larger than the database keeps; expected less of it"
    if "unique" in str(error).lower():
        return THERE_ALREADY.get(table, THERE_ALREADY[""])
    return f"{table}: the database does not take these values; expected what the columns allow"


def _tell(rows: Iterable[Any], who: str, what: str, why: str) -> None:
    """A link for each row that was written: its content, and the story its history tells."""
    chain.append(_happened(r, who, what, why) for r in rows)


def _happened(row: Any, who: str, what: str, why: str) -> Happened:
    held = digest(to_record(row))
    study = str(row.study.uid) if "study" in {f.name for f in row._meta.fields} else ""
    at = row._history_date.isoformat(timespec="microseconds")
    detail = {
        "what": what, "version": row.version, "digest": None if what == "removed" else held,
        "told": told(held, who, why, at, study),
    }  # fmt: skip
    return Happened(kind="change", who=who, subject=f"{row.table}:{row.uid}", detail=detail)


# --- Plans --------------------------------------------------------------------------------------


def content_sha256(plan: PlanVersion) -> str:
    """A hash of what is planned, whoever wrote it and whenever."""
    content = {name: getattr(plan, name) for name in PLANNED}
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def next_plan(
    lesion: Any, plan: PlanVersion, *, who: str, why: str, parent: int | None = None
) -> Any:
    """Keep a plan as the next version; an approval of the version before is revoked by it.

    ``parent`` is the newest version the writer saw: Conflict when there is a newer one.
    """
    with transaction.atomic():
        chain.turn()
        last = MODELS["plans"].objects.filter(lesion=lesion).order_by("-number").first()
        if last is not None and parent != last.number:
            made = to_record(last)
            raise Conflict(last, plan, made.made_by or "", made.made_at or "")
        if last is not None and to_record(last).approved:
            revoke(last, who=who, why=f"a newer version was made: {why}")
        number = 1 if last is None else last.number + 1
        made = replace(
            plan, lesion_id=lesion.lesion_id, number=number,
            parent=plan.parent if plan.parent is not None else parent, made_by=who,
            made_at=chain.now(), why=why, approved_by=None, approved_at=None, revoked_at=None,
        )  # fmt: skip
        return put("plans", made, who=who, why=why, study=lesion.study)


def restore_plan(lesion: Any, number: int, *, who: str, why: str, parent: int) -> Any:
    """Undo: the content of an earlier version as the next one, with the same hash."""
    row = MODELS["plans"].objects.filter(lesion=lesion, number=number).first()
    if row is None:
        raise InputError(f"the plan has no version {number}; expected one that was made")
    return next_plan(
        lesion, replace(to_record(row), parent=number), who=who, why=why, parent=parent
    )


def approve(row: Any, *, who: str, why: str = "", expected: int | None = None) -> Any:
    """Sign a version of a plan; only the newest can be signed, and against a stop with a reason.

    What is not known is no better than a stop here: it never passes silently.
    """
    with transaction.atomic():
        chain.turn()
        # Judged as it is now, not as it was when the page was opened.
        row = MODELS["plans"].objects.get(pk=row.pk)
        plan = to_record(row)
        if MODELS["plans"].objects.filter(lesion=row.lesion, number__gt=plan.number).exists():
            raise InputError(
                f"version {plan.number} is not the newest; only the newest is approved"
            )
        if plan.approved:
            raise InputError(f"version {plan.number} is approved already, by {plan.approved_by}")
        if plan.verdict in ("stop", "unknown") and not why.strip():
            raise InputError(
                f"the verdict of version {plan.number} is {plan.verdict}; write why it is approved "
                "all the same"
            )
        signed = replace(plan, approved_by=who, approved_at=chain.now(), revoked_at=None)
        kept = put("plans", signed, who=who, why=why or "approved", row=row, expected=expected)
        chain.log("sign", who, f"plans:{row.uid}", what="approved", content=content_sha256(plan))
        return kept


def revoke(row: Any, *, who: str, why: str) -> Any:
    """Take back the approval of a version."""
    with transaction.atomic():
        chain.turn()
        row = MODELS["plans"].objects.get(pk=row.pk)
        plan = to_record(row)
        if not plan.approved:
            raise InputError(f"version {plan.number} is not approved; expected one that is")
        kept = put("plans", replace(plan, revoked_at=chain.now()), who=who, why=why, row=row)
        chain.log("sign", who, f"plans:{row.uid}", what="revoked", content=content_sha256(plan))
    return kept


# --- Whole records ------------------------------------------------------------------------------


def _rows(table: str, **where: Any) -> list[Any]:
    model = MODELS_AND_HEADS[table]
    related = [f.name for f in model._meta.fields if f.many_to_one and f.name != "study"]
    return list(model.objects.filter(**where).select_related(*related).order_by("pk"))


def _records(table: str, study: StudyRow, digest_of: Any = None) -> tuple[Any, ...]:
    """The records of a table of a study, in the order they were entered, without making rows."""
    record = MODELS[table].record
    cols = columns(record)
    lookups = []
    for c in cols:
        to = reference(table, c.name)
        lookups.append(f"{to[1]}__{c.name}" if to is not None else c.name)
    names = [c.name for c in cols]
    lists = [i for i, c in enumerate(cols) if c.kind == "list"]
    found = MODELS[table].objects.filter(**{path_to_study(table): study}).order_by("pk")
    out = []
    for values in found.values_list(*lookups).iterator(_READ):
        cells = list(values)
        for i in lists:
            if cells[i] is not None:
                cells[i] = tuple(cells[i])
        if digest_of is not None:
            digest_of.update(repr(cells).encode())
        out.append(record(**dict(zip(names, cells, strict=True))))
    return tuple(out)


def read_study(row: StudyRow, tables: Sequence[str] = tuple(TABLES)) -> Study:
    """A whole study as the audit takes it, in the order its rows were entered."""
    content = hashlib.sha256()
    held = {t: _records(t, row, content) for t in tables}
    notes = tuple(map(to_record, _rows("notes", study=row)))
    return Study(
        info=to_record(row), notes=notes, sha256=content.hexdigest(), origin="registry", **held
    )  # type: ignore[arg-type]


def gather(lesion: Any) -> dict[str, list[Any]]:
    """Every row of a lesion by its table, in the order they were entered.

    Most tables hold nothing of most lesions: one question finds out which are worth asking.
    """
    held: dict[str, list[Any]] = {table: [] for table in MODELS}
    with connection.cursor() as cursor:
        cursor.execute(*_which(lesion))
        there = dict(zip(_BELOW, cursor.fetchone(), strict=True))
    order = sorted(_BELOW, key=lambda t: t != "procedures")  # others refer to these
    procedures: dict[int, Any] = {}
    for table in order:
        if not there[table]:
            continue
        by = _BELOW[table]
        where = {by: lesion.patient} if by == "patient" else {by: lesion}
        if by == "procedure":
            where = {"procedure__in": list(procedures)}
        held[table] = list(MODELS[table].objects.filter(**where).order_by("pk"))
        for row in held[table]:  # what it refers to is at hand
            if by == "procedure":
                row.procedure = procedures[row.procedure_id]
            else:
                setattr(row, by, lesion.patient if by == "patient" else lesion)
        if table == "procedures":
            procedures = {row.pk: row for row in held[table]}
    # An exclusion names its patient or lesion without being tied to either.
    untied = MODELS["exclusions"].objects.filter(
        study=lesion.study, patient_id=lesion.patient.patient_id
    )
    held["exclusions"] = [r for r in untied if r.lesion_id in (None, lesion.lesion_id)]  # type: ignore[attr-defined]
    return held


def _by(table: str) -> str:
    names = {f.name for f in MODELS[table]._meta.fields}
    return next(n for n in ("lesion", "procedure", "patient") if n in names)


# Table -> by what its rows belong to a lesion.
_BELOW = {t: _by(t) for t in MODELS if t not in ("patients", "lesions", "exclusions")}


def _which(lesion: Any) -> tuple[str, list[int]]:
    """One question: which tables hold a row of a lesion?"""
    parts, given = [], []
    procedure = MODELS["procedures"]._meta.db_table
    for table, by in _BELOW.items():
        name = MODELS[table]._meta.db_table
        if by == "procedure":
            parts.append(
                f"EXISTS(SELECT 1 FROM {name} x JOIN {procedure} p ON p.id = x.procedure_id "
                "WHERE p.lesion_id = %s)"
            )
        else:
            parts.append(f"EXISTS(SELECT 1 FROM {name} WHERE {by}_id = %s)")
        given.append(lesion.patient_id if by == "patient" else lesion.pk)
    return "SELECT " + ", ".join(parts), given


def read_record(lesion: Any, held: Mapping[str, list[Any]] | None = None) -> Record:
    """One lesion with everything a study knows of it; ``held`` is what :func:`gather` gave."""
    held, patient = gather(lesion) if held is None else held, lesion.patient
    # Days of death count from the first procedure of the patient, of whichever lesion.
    others = list(MODELS["lesions"].objects.filter(patient=patient).exclude(pk=lesion.pk))
    elsewhere = _rows("procedures", lesion__in=others) if others else []
    for other in others:
        other.patient = patient
    tables: dict[str, tuple[Any, ...]] = {
        "patients": (to_record(patient),),
        "lesions": tuple(map(to_record, sorted([lesion, *others], key=lambda r: r.pk))),
        "procedures": tuple(map(to_record, [*held["procedures"], *elsewhere])),
    }
    for t in ("selection", "pain", "opioids", "visits", "complications", "leaks", "events",
              "deaths"):  # fmt: skip
        tables[t] = tuple(map(to_record, held[t]))
    study = Study(info=to_record(lesion.study), **tables)  # type: ignore[arg-type]
    return study.record(lesion.lesion_id)


def read_care(lesion: Any, held: Mapping[str, list[Any]] | None = None) -> Care:
    """All that is kept about the care of one lesion; ``held`` is what :func:`gather` gave."""
    held = gather(lesion) if held is None else held
    rows = {t: tuple(map(to_record, held[t])) for t in CARE_TABLES}
    return Care(lesion_id=lesion.lesion_id, **rows)  # type: ignore[arg-type]


Standing_of = Callable[[Record, Care], Standing]


def recount(lesion: Any, standing: Standing_of) -> Case:
    """Bring the worklist's line of a lesion up to date with its rows."""
    held = gather(lesion)
    values = _line(read_record(lesion, held), read_care(lesion, held), standing)
    return Case.objects.update_or_create(lesion=lesion, defaults=values)[0]


def lesions_of(row: Any) -> list[Any]:
    """The lesions whose line in the worklist a row may change."""
    names = {f.name for f in row._meta.fields}
    if row.table == "lesions":
        return [row]
    if row.table == "patients":
        return list(row.lesions.all())
    if "lesion" in names:
        return [row.lesion]
    if "patient" in names:
        return list(row.patient.lesions.all())
    if "procedure" in names:
        return [row.procedure.lesion]
    return []


def _touched_since(link: int, study: StudyRow) -> list[Any]:
    """The lesions of a study of which a row was written after a link of the log."""
    touched = {}
    links = ChainEvent.objects.filter(number__gt=link, kind="change")
    for subject, detail in links.values_list("subject", "detail"):
        table, _, uid = subject.partition(":")
        model: Any = MODELS_AND_HEADS[table]
        gone = json.loads(detail)["digest"] is None
        # A row that was removed is known by its last state, which tells whose it was.
        row = (model.history if gone else model.objects).filter(uid=uid).first()
        row = row.instance if gone and row is not None else row
        if row is None or (gone and table == "lesions"):
            continue
        with suppress(ObjectDoesNotExist):  # what it belonged to is gone as well
            found = (lesion for lesion in lesions_of(row) if lesion.study_id == study.pk)
            touched.update({lesion.pk: lesion for lesion in found})
    return list(touched.values())


def recount_all(
    row: StudyRow, standing: Standing_of, progress: Callable[[float], None] | None = None
) -> int:
    """The same for every lesion of a study, as a day that passes makes necessary; how many."""
    head = ChainHead.objects.filter(pk=1).values_list("number", flat=True).first() or 0
    study = read_study(row)
    held: dict[str, dict[str, list[Any]]] = {}
    of_procedure = {p.procedure_id: p.lesion_id for p in study.procedures}
    for table in CARE_TABLES:
        for record in _records(table, row):
            name = getattr(record, "lesion_id", None) or of_procedure[record.procedure_id]
            held.setdefault(name, {}).setdefault(table, []).append(record)
    keys = dict(MODELS["lesions"].objects.filter(study=row).values_list("lesion_id", "pk"))
    lines = []
    for i, record in enumerate(study.records):
        if record.lesion_id not in keys:
            continue  # removed meanwhile
        mine = {t: tuple(rows) for t, rows in held.get(record.lesion_id, {}).items()}
        care = Care(lesion_id=record.lesion_id, **mine)  # type: ignore[arg-type]
        lines.append(Case(lesion_id=keys[record.lesion_id], **_line(record, care, standing)))
        if progress is not None and i % _BATCH == 0:
            progress(i / len(study.records))
    changing = [f.name for f in Case._meta.fields if f.name != "lesion"]
    # Most lines are as they were: writing them again would keep others waiting for nothing.
    told = [name for name in changing if name != "changed_at"]
    kept = {
        values[0]: values[1:]
        for values in Case.objects.filter(lesion__study=row).values_list("lesion_id", *told)
    }
    count = len(lines)
    lines = [c for c in lines if kept.get(c.lesion_id) != tuple(getattr(c, n) for n in told)]
    for lo in range(0, len(lines), _BATCH):  # short turns: others may save in between
        with transaction.atomic():
            chain.turn()
            part = lines[lo : lo + _BATCH]
            there = MODELS["lesions"].objects.filter(pk__in=[c.lesion_id for c in part])
            still = set(there.values_list("pk", flat=True))
            Case.objects.bulk_create(
                [c for c in part if c.lesion_id in still], update_conflicts=True,
                unique_fields=["lesion"], update_fields=changing,
            )  # fmt: skip
    # What was saved meanwhile was overwritten by what had been read before it.
    for lesion in _touched_since(head, row):
        with transaction.atomic():
            chain.turn()
            recount(lesion, standing)
    return count


def _line(record: Record, care: Care, standing: Standing_of) -> dict[str, Any]:
    """What the worklist shows of a lesion."""
    now = standing(record, care)
    dates = [p.date for p in record.procedures if p.date]
    days = [s.day for s in record.course.pain] + [v.day for v in record.course.visits]
    return {
        "state": now.state,
        "since": now.since,
        "operator": next((p.operator_id for p in record.procedures if p.operator_id), ""),
        "referrer": next((r.referrer_id for r in care.referrals if r.referrer_id), ""),
        "procedure_date": min(dates, default=""),
        "last_visit_day": max(days, default=None),
        "next_due": now.next_due,
        "due_what": now.due_what,
        "unsigned_plan": now.unsigned_plan,
        "missing_scores": now.missing_scores,
        "open_gates": now.open_gates,
        "changed_at": chain.now(),
    }


def _enter(rows: list[Any], table: str, who: str, why: str) -> list[Any]:
    """Make many rows at once, each with its history."""
    at = datetime.now(UTC)
    with _told_in_words(table):
        made = bulk_create_with_history(
            rows, MODELS[table], batch_size=_BATCH, default_user=account(who),
            default_change_reason=why, default_date=at,
        )  # fmt: skip
    for row in made:
        row._history_date = at
    return list(made)


def place_all(
    row: StudyRow, state_of: Callable[[Record], str | None], *, who: str, why: str
) -> int:
    """Give every lesion of a study that never moved the state it is in; how many were placed.

    ``state_of`` says which, None for one that has only been referred. Each gets its step, with its
    history and link, as if it had been moved there.
    """
    with transaction.atomic():
        chain.turn()
        moved = set(
            MODELS["steps"].objects.filter(lesion__study=row).values_list("lesion_id", flat=True)
        )
        rows = {r.lesion_id: r for r in MODELS["lesions"].objects.filter(study=row)}
        steps = []
        for record in read_study(row).records:
            lesion, state = rows[record.lesion_id], state_of(record)
            if lesion.pk in moved or state is None:
                continue
            step = Step(
                lesion_id=record.lesion_id, number=1, at=chain.now(), by=who, state=state,
                reason=why,
            )  # fmt: skip
            steps.append(MODELS["steps"](**to_fields(step, "steps", {"lesion": lesion})))
        if steps:
            _tell(_enter(steps, "steps", who, why), who, "created", why)
    return len(steps)


# --- A study from outside -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """What taking in a study would do, table by table; ``changes`` names rows and columns."""

    new: Mapping[str, int]
    same: Mapping[str, int]
    changes: tuple[tuple[str, str, str, Any, Any], ...]  # table, key, column, old, new
    title: str


def compare(study: Study) -> Incoming:
    """What :func:`take_in` would do, without doing it."""
    return _compare(study)[0]


def _compare(study: Study) -> tuple[Incoming, dict[str, list[Any]], list[tuple[str, Any, Any]]]:
    held = StudyRow.objects.filter(study_id=study.info.study_id).first()
    new: dict[str, list[Any]] = {}
    same: dict[str, int] = {}
    changed: list[tuple[str, Any, Any]] = []
    told: list[tuple[str, str, str, Any, Any]] = []
    for table in TABLES:
        rows = () if held is None else _rows(table, **{path_to_study(table): held})
        fresh: list[Any] = []
        alike = 0
        if table in KEYS:
            by_key = {_key(table, to_record(r)): r for r in rows}
            for record in getattr(study, table):
                row = by_key.get(_key(table, record))
                if row is None:
                    fresh.append(record)
                elif to_record(row) == record:
                    alike += 1
                else:
                    old = to_record(row)
                    changed.append((table, row, record))
                    key = ", ".join(shown(v).strip("'") for v in _key(table, record))
                    told += [
                        (table, key, f.name, getattr(old, f.name), getattr(record, f.name))
                        for f in fields(record)
                        if getattr(old, f.name) != getattr(record, f.name)
                    ]
        else:  # no key: a row is known by all it says, and may stand there several times
            left: dict[Any, int] = defaultdict(int)
            for r in rows:
                left[to_record(r)] += 1
            for record in getattr(study, table):
                if left[record] > 0:
                    left[record] -= 1
                    alike += 1
                else:
                    fresh.append(record)
        new[table], same[table] = fresh, alike
    incoming = Incoming(
        new={t: len(v) for t, v in new.items()}, same=same, changes=tuple(told),
        title=study.info.title,
    )  # fmt: skip
    return incoming, new, changed


def _key(table: str, record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in KEYS[table])


def take_in(
    study: Study,
    *,
    who: str,
    why: str,
    progress: Callable[[str, float], None] | None = None,
    as_seen: Callable[[Incoming], bool] | None = None,
) -> Incoming:
    """Enter a study: new rows are added, rows of a known key are changed, none is removed.

    All of it or nothing. Every row gets its history and its link, as if typed. ``as_seen`` says
    whether what would be done now is what somebody looked at before; Changed when it is not.
    """
    with transaction.atomic():
        chain.turn()  # nobody writes between the comparing and the writing
        incoming, new, changed = _compare(study)
        if as_seen is not None and not as_seen(incoming):
            raise Changed("the registry has changed since this was looked at; look once more")
        head = StudyRow.objects.filter(study_id=study.info.study_id).first()
        if head is None:
            head = put("study", study.info, who=who, why=why)
        elif to_record(head) != study.info:
            head = put("study", study.info, who=who, why=why, row=head)
        known = {to_record(n) for n in _rows("notes", study=head)}
        for note in study.notes:
            if note not in known:
                put("notes", note, who=who, why=why, study=head)
        names: dict[str, dict[str, Any]] = {"patient": {}, "lesion": {}, "procedure": {}}
        for field_name, own in (("patient", "patients"), ("lesion", "lesions"),
                                ("procedure", "procedures")):  # fmt: skip
            for r in MODELS[own].objects.filter(study=head):
                names[field_name][getattr(r, OWN[own])] = r
        for i, table in enumerate(TABLES):
            if progress is not None:
                progress(table, i / len(TABLES))
            made = []
            for record in new[table]:
                related = {}
                for c in columns(type(record)):
                    to, value = reference(table, c.name), getattr(record, c.name)
                    if to is not None and value is not None:
                        related[to[1]] = names[to[1]][value]
                row = MODELS[table](**to_fields(record, table, related))
                if table in OWN or table == "exclusions":
                    row.study = head  # type: ignore[attr-defined]
                made.append(row)
            if made:
                made = _enter(made, table, who, why)
                _tell(made, who, "created", why)
            if table in OWN:
                field_name = OWN[table].removesuffix("_id")
                names[field_name].update({getattr(r, OWN[table]): r for r in made})
        for table, row, record in changed:
            put(table, record, who=who, why=why, row=row, study=head)
        chain.log("import", who, f"study:{head.uid}", sha256=study.sha256,
                  new=dict(incoming.new), changed=len(changed))  # fmt: skip
    return incoming
