"""Which lesions of a study are audited: those of a time, a part of the body, an operator."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from datetime import date
from typing import Any

from trocar.errors import InputError
from trocar.model.columns import is_date
from trocar.model.study import TABLES, DataNote, Record, Study

NOTE = "choice"


def only(
    study: Study,
    *,
    first: str | None = None,
    last: str | None = None,
    regions: Collection[str] = (),
    operator: str | None = None,
) -> Study:
    """The lesions of a study whose first procedure fits, each with everything that belongs to it.

    ``first`` and ``last`` are whole days, both included; a procedure known to the month is inside
    when its whole month is, one without a date is not. ``regions`` are those of
    ``PainfulLesion.region``. A note says what was chosen. Without any choice the study itself.
    Raises InputError for a day that is none, or a last day before the first.
    """
    for name, day in (("first", first), ("last", last)):
        if day is not None and not (len(day) == 10 and is_date(day)):
            raise InputError(f"the {name} day is {day!r}; expected a day written 2026-11-25")
    if first is not None and last is not None and last < first:
        raise InputError(f"the last day is {last}, before the first, {first}; expected it later")
    if not (first or last or regions or operator):
        return study
    kept = [r for r in study.records if _fits(r, first, last, regions, operator)]
    lesions = {r.lesion_id for r in kept}
    patients = {r.patient.patient_id for r in kept}
    procedures = {p.procedure_id for r in kept for p in r.procedures}
    held: dict[str, tuple[Any, ...]] = {}
    for table in TABLES:
        rows = getattr(study, table)
        if table == "exclusions":
            held[table] = tuple(
                e
                for e in rows
                if (e.patient_id in patients if e.lesion_id is None else e.lesion_id in lesions)
            )
        elif table in ("patients", "deaths"):
            held[table] = tuple(r for r in rows if r.patient_id in patients)
        elif table == "devices":
            held[table] = tuple(r for r in rows if r.procedure_id in procedures)
        else:
            held[table] = tuple(r for r in rows if r.lesion_id in lesions)
    held["deaths"] = _counted_anew(held["deaths"], study, kept)
    said = _said(first, last, regions, operator, len(kept), len(study))
    sha256 = hashlib.sha256(f"{study.sha256} {said}".encode()).hexdigest()
    info = replace(
        study.info,
        period_start=first or study.info.period_start,
        period_end=last or study.info.period_end,
    )
    notes = tuple(n for n in study.notes if n.note_id != NOTE)
    notes = (DataNote(note_id=NOTE, text=said), *notes)
    return Study(info=info, notes=notes, sha256=sha256, origin=study.origin, **held)


def operators(study: Study) -> tuple[str, ...]:
    """The operators of the lesions' first procedures, in order of their names."""
    return tuple(sorted({o for r in study.records if (o := _operator(r)) is not None}))


def regions_of(study: Study) -> tuple[str, ...]:
    """The parts of the body that lesions of a study lie in, in order of their names."""
    return tuple(sorted({r.lesion.region for r in study.records}))


def _operator(record: Record) -> str | None:
    # As the funnel counts: the operator of the first procedure.
    return record.procedures[0].operator_id if record.procedures else None


def _fits(
    record: Record,
    first: str | None,
    last: str | None,
    regions: Collection[str],
    operator: str | None,
) -> bool:
    if regions and record.lesion.region not in regions:
        return False
    if operator and _operator(record) != operator:
        return False
    if first is None and last is None:
        return True
    day = record.procedures[0].date if record.procedures else None
    if day is None:
        return False
    start, end = _span(day)
    return (first is None or start >= first) and (last is None or end <= last)


def _span(day: str) -> tuple[str, str]:
    """The first and the last day a date may mean; the 31st of any month is late enough."""
    return f"{day}-01-01"[:10] if len(day) == 4 else f"{day}-01"[:10], {
        4: f"{day}-12-31",
        7: f"{day}-31",
        10: day,
    }[len(day)]


def _counted_anew(deaths: tuple[Any, ...], study: Study, kept: list[Record]) -> tuple[Any, ...]:
    """Days of death counted from the first procedure that is left of a patient.

    A day of death counts from the patient's first procedure; when the lesion of that procedure is
    not chosen, the same day would otherwise be read as later than it was.
    """
    before, after = _firsts(study.records), _firsts(tuple(kept))
    out = []
    for d in deaths:
        was, is_now = before.get(d.patient_id), after.get(d.patient_id)
        apart = (date.fromisoformat(is_now) - date.fromisoformat(was)).days if was and is_now else 0
        if d.day is not None and apart:
            d = replace(d, day=max(d.day - apart, 0.0))
        out.append(d)
    return tuple(out)


def _firsts(records: tuple[Record, ...]) -> dict[str, str]:
    out: dict[str, str] = {}
    for r in records:
        days = [p.date for p in r.procedures if p.date]
        if days and all(len(d) == 10 for d in days):
            who = r.patient.patient_id
            out[who] = min(out.get(who, min(days)), min(days))
    return out


def _said(
    first: str | None,
    last: str | None,
    regions: Collection[str],
    operator: str | None,
    n: int,
    of: int,
) -> str:
    parts = []
    if first or last:
        parts.append(f"first procedure {f'from {first}' if first else ''} "
                     f"{f'to {last}' if last else ''}".strip())  # fmt: skip
    if regions:
        parts.append(f"in {', '.join(sorted(regions))}")
    if operator:
        parts.append(f"operator {operator}")
    said = "; ".join(" ".join(p.split()) for p in parts)
    return f"A part of the study: {n} of {of} lesions ({said})."
