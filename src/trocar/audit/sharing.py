"""A study as a researcher outside the unit may see it: no names, no dates, no free text.

Pseudonyms are made anew, dates become days, ages groups of five years. Sex, age group, primary
tumour and region are blanked until every combination is shared by enough patients; the few that
stay rare are left out. Counts are those of the audit with small ones hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from trocar.errors import InputError
from trocar.model.columns import Column, columns
from trocar.model.study import TABLES, Study

FEWEST = 5  # usual where counts leave a unit
NamedAnew = Callable[[str, str], str]  # (column, pseudonym) -> pseudonym
_NAMES = ("patient_id", "lesion_id", "procedure_id", "operator_id")
# What might single somebody out; blanked in this order where a combination is rare.
_TELLING = ("primary", "age_group", "region", "sex")
_OLDEST_YEARS = 90
_GROUP_YEARS = 5
# Exact values of the lesion and of the meeting that with the rest would name one person; sites are
# told as regions.
_LEFT_OUT = ("age_years", "site", "primary", "sex", "side", "level")


@dataclass(frozen=True, kw_only=True)
class SharedTable:
    """One table of texts and numbers to be shared; None is an empty cell."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def age_group(years: float | None) -> str | None:
    """The five years an age lies in.

    >>> age_group(67.0), age_group(93), age_group(None)
    ('65-69', '90 or more', None)
    """
    if years is None:
        return None
    if years >= _OLDEST_YEARS:
        return f"{_OLDEST_YEARS} or more"
    low = int(years // _GROUP_YEARS) * _GROUP_YEARS
    return f"{low}-{low + _GROUP_YEARS - 1}"


def shared_tables(
    study: Study, *, renamed: NamedAnew, below: int = FEWEST
) -> tuple[SharedTable, ...]:
    """The tables of a study for a researcher; rows in the order of their new names.

    Raises InputError when ``below`` is less than 2.
    """
    if below < 2:
        raise InputError(f"the least number is {below}; expected 2 or more, usually {FEWEST}")
    telling = _shared_by(below, _telling(study))
    first = {
        r.lesion_id: next((p.date for p in r.procedures if p.date and len(p.date) == 10), None)
        for r in study.records
    }
    whose = {x.lesion_id: x.patient_id for x in study.lesions}
    lesion_of = {p.procedure_id: p.lesion_id for p in study.procedures}
    kept_patients = {whose[x] for x in telling}
    death_day = {
        r.patient.patient_id: r.course.death_day
        for r in reversed(study.records)
        if r.lesion_id in telling
    }
    out = []
    for table, cls in TABLES.items():
        shown = [c for c in columns(cls) if _shareable(table, c)]
        extra = {"patients": ("sex", "age_group", "primary"), "lesions": ("region",)}.get(table, ())
        rows = []
        for row in getattr(study, table):
            lesion = getattr(row, "lesion_id", None) or lesion_of.get(
                getattr(row, "procedure_id", "")
            )
            who = getattr(row, "patient_id", None)
            if (lesion is not None and lesion not in telling) or (
                who is not None and who not in kept_patients
            ):
                continue
            day0 = first.get(lesion) if lesion is not None else None
            cells = [_cell(c, getattr(row, c.name), renamed, day0) for c in shown]
            if table == "patients":
                mine = next(v for k, v in telling.items() if whose[k] == row.patient_id)
                cells += [mine[name] for name in extra]
            elif table == "lesions":
                cells += [telling[row.lesion_id][name] for name in extra]
            elif table == "deaths":
                cells[[c.name for c in shown].index("day")] = death_day.get(row.patient_id)
            rows.append(tuple(cells))
        rows.sort(key=lambda cells: tuple(str(v) for v in cells))
        names = tuple(_titled(c) for c in shown) + extra
        out.append(SharedTable(name=table, columns=names, rows=tuple(rows)))
    return tuple(out)


def _shareable(table: str, c: Column) -> bool:
    if c.name in _NAMES:
        return True
    if c.name in _LEFT_OUT or c.identifier:
        return False
    if c.kind == "date":  # a death is told by its day
        return table != "deaths"
    return c.kind in ("number", "whole", "yes/no") or bool(c.choices)


def _titled(c: Column) -> str:
    if c.kind != "date":
        return c.name
    stem = c.name.removesuffix("_date").removesuffix("_on")
    return "day" if stem == "date" else f"{stem}_day"


def _cell(c: Column, value: Any, renamed: NamedAnew, day0: str | None) -> Any:
    if value is None:
        return None
    if c.name in _NAMES:
        return renamed(c.name, value)
    if c.kind == "date":
        if day0 is None or len(value) < 10:
            return None
        return (date.fromisoformat(value) - date.fromisoformat(day0)).days
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ";".join(value) if value else "none"
    return value


def _telling(study: Study) -> dict[str, dict[str, Any]]:
    """What might single out the patient of each lesion."""
    return {
        r.lesion_id: {
            "patient": r.patient.patient_id,
            "primary": r.patient.primary,
            "age_group": age_group(r.patient.age_years),
            "sex": r.patient.sex,
            "region": r.lesion.region,
        }
        for r in study.records
    }


def _shared_by(below: int, telling: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The lesions, blanked until each combination is that of ``below`` patients or more.

    A patient's own values are blanked for all lesions of the patient, so that two lesions do not
    give back what one of them hides.
    """
    rows = {lesion: dict(values) for lesion, values in telling.items()}
    for name in _TELLING:
        rare = _rare(rows, below)
        people = {rows[lesion]["patient"] for lesion in rare}
        for lesion, values in rows.items():
            if lesion in rare or values["patient"] in people:
                values[name] = None
    while rare := _rare(rows, below):
        people = {rows[lesion]["patient"] for lesion in rare}
        rows = {k: v for k, v in rows.items() if v["patient"] not in people}
    return rows


def _rare(rows: Mapping[str, Mapping[str, Any]], below: int) -> set[str]:
    groups: dict[Sequence[Any], set[str]] = {}
    for values in rows.values():
        groups.setdefault(tuple(values[n] for n in _TELLING), set()).add(values["patient"])
    return {
        lesion
        for lesion, values in rows.items()
        if len(groups[tuple(values[n] for n in _TELLING)]) < below
    }
