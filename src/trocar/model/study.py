"""A study: the tables of a unit's cases, tied together, seen lesion by lesion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from operator import attrgetter
from typing import Any

from trocar.errors import InputError
from trocar.model.columns import checked, column, columns, shown
from trocar.model.course import (
    Complication,
    Course,
    Death,
    Device,
    Event,
    Exclusion,
    Leak,
    OpioidLine,
    OpioidSeries,
    PainScore,
    PainSeries,
    Procedure,
    Visit,
)
from trocar.model.patient import Baseline, PainfulLesion, Patient

# Table name (and CSV file) -> the class of its rows, in the order they are read.
TABLES: Mapping[str, type] = {
    "patients": Patient,
    "lesions": PainfulLesion,
    "selection": Baseline,
    "procedures": Procedure,
    "devices": Device,
    "pain": PainScore,
    "opioids": OpioidLine,
    "visits": Visit,
    "complications": Complication,
    "leaks": Leak,
    "events": Event,
    "deaths": Death,
    "exclusions": Exclusion,
}
# Columns that no two rows of a table may share.
KEYS: Mapping[str, tuple[str, ...]] = {
    "patients": ("patient_id",),
    "lesions": ("lesion_id",),
    "selection": ("lesion_id",),
    "procedures": ("procedure_id",),
    "pain": ("lesion_id", "day", "recall", "activity"),
    "opioids": ("lesion_id", "day", "drug", "route"),
    "visits": ("lesion_id", "day"),
    "deaths": ("patient_id",),
}
# Column -> table that must hold its value; exclusions may name who was never entered.
REFERENCES: Mapping[str, str] = {
    "patient_id": "patients",
    "lesion_id": "lesions",
    "procedure_id": "procedures",
}


@dataclass(frozen=True, kw_only=True)
class DataNote:
    """Something about the data that a reader must know; printed whenever the study is loaded."""

    note_id: str = column("name of the note", required=True, identifier=True)
    text: str = column("what is to be known", required=True)

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """What the study is: the head of ``study.json``."""

    study_id: str = column("name of the study", required=True, identifier=True)
    title: str = column("title", required=True)
    unit: str | None = column("where it was done")
    period_start: str | None = column("first day of recruitment", kind="date")
    period_end: str | None = column("last day of recruitment", kind="date")
    source: str | None = column("document the data come from")
    pain_recall: str | None = column(
        "which pain is analysed when several were asked for",
        choices=("worst", "average", "least", "now"),
    )
    pain_activity: str | None = column(
        "which pain is analysed when both were asked for", choices=("rest", "movement")
    )
    note: str | None = column("anything else, without names")

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One lesion with everything that belongs to it."""

    patient: Patient
    lesion: PainfulLesion
    baseline: Baseline | None
    procedures: tuple[Procedure, ...]
    course: Course

    @property
    def lesion_id(self) -> str:
        """The lesion this record is about."""
        return self.lesion.lesion_id


@dataclass(frozen=True, eq=False, kw_only=True)
class Study:
    """All tables of a study; rows keep the order of their file.

    Building one checks that keys are unique and that every reference exists.
    """

    info: StudyInfo
    notes: tuple[DataNote, ...] = ()
    patients: tuple[Patient, ...] = ()
    lesions: tuple[PainfulLesion, ...] = ()
    selection: tuple[Baseline, ...] = ()
    procedures: tuple[Procedure, ...] = ()
    devices: tuple[Device, ...] = ()
    pain: tuple[PainScore, ...] = ()
    opioids: tuple[OpioidLine, ...] = ()
    visits: tuple[Visit, ...] = ()
    complications: tuple[Complication, ...] = ()
    leaks: tuple[Leak, ...] = ()
    events: tuple[Event, ...] = ()
    deaths: tuple[Death, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    sha256: str = ""  # of the files it was read from
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        wrong = self.faults()
        if wrong:
            table, row, name, why = wrong[0]
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise InputError(f"{table}, row {row + 1}: {name} {why}{more}")

    def faults(self) -> list[tuple[str, int, str, str]]:
        """Every (table, row from 0, column, reason) where a key repeats or a reference is empty."""
        return study_faults(self.info, {name: getattr(self, name) for name in TABLES})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Study):
            return NotImplemented
        same = self.info == other.info and self.notes == other.notes
        return same and all(getattr(self, t) == getattr(other, t) for t in TABLES)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.lesions)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """One record a lesion, in the order of the lesions."""
        by_patient = {p.patient_id: p for p in self.patients}
        baseline = {b.lesion_id: b for b in self.selection}
        groups = {
            name: _grouped(getattr(self, name))
            for name in (
                "procedures",
                "pain",
                "opioids",
                "visits",
                "complications",
                "leaks",
                "events",
            )
        }
        deaths = {d.patient_id: d for d in self.deaths}
        first = self._first_dates(groups["procedures"])
        out = []
        for lesion in self.lesions:
            name = lesion.lesion_id
            mine = {table: tuple(rows.get(name, ())) for table, rows in groups.items()}
            death = deaths.get(lesion.patient_id)
            course = Course(
                lesion_id=name,
                pain=PainSeries(
                    lesion_id=name,
                    scores=tuple(
                        sorted(
                            (s for s in mine["pain"] if _analysed(self.info, s)),
                            key=lambda s: s.day,
                        )
                    ),
                ),
                opioids=OpioidSeries(
                    lesion_id=name, lines=tuple(sorted(mine["opioids"], key=lambda s: s.day))
                ),
                visits=tuple(sorted(mine["visits"], key=lambda s: s.day)),
                complications=mine["complications"],
                leaks=mine["leaks"],
                events=tuple(sorted(mine["events"], key=lambda s: s.day)),
                death_day=_death_day(death, first, lesion),
                death_recorded=death is not None,
            )
            out.append(
                Record(
                    patient=by_patient[lesion.patient_id],
                    lesion=lesion,
                    baseline=baseline.get(name),
                    procedures=mine["procedures"],
                    course=course,
                )
            )
        return tuple(out)

    def record(self, lesion_id: str) -> Record:
        """The record of one lesion; InputError naming the lesions there are when it is not one."""
        for r in self.records:
            if r.lesion_id == lesion_id:
                return r
        some = ", ".join(lesion.lesion_id for lesion in self.lesions[:12])
        raise InputError(f"the study has no lesion {lesion_id!r}; its lesions are {some}")

    def _first_dates(self, procedures: Mapping[str, list[Procedure]]) -> dict[str, str | None]:
        """Earliest full date of a procedure, by lesion id and by ``patient:`` and patient id."""
        out: dict[str, str | None] = {}
        for lesion in self.lesions:
            days = [p.date for p in procedures.get(lesion.lesion_id, ()) if p.date]
            full = [d for d in days if len(d) == 10]
            mine = min(full) if full and len(full) == len(days) else None
            out[lesion.lesion_id] = mine
            key = f"patient:{lesion.patient_id}"
            known = [d for d in (out.get(key), mine) if d]
            out[key] = min(known) if known else None
        return out


def study_faults(
    info: StudyInfo,
    tables: Mapping[str, Sequence[Any]],
    lines: Mapping[str, Sequence[int]] | None = None,
) -> list[tuple[str, int, str, str]]:
    """Every (table, row from 0, column, reason) where a key repeats or a reference is empty.

    A reason that points to another row gives its number in ``lines``, else counts from 1.
    """

    def line(table: str, i: int) -> int:
        return i + 1 if lines is None else lines[table][i]

    wrong = [*_two_scores(info, tables.get("pain", ()), line), *_contradictions(tables)]
    for table, key in KEYS.items():
        seen: dict[Any, int] = {}
        value_of = attrgetter(*key)
        for i, row in enumerate(tables.get(table, ())):
            value = value_of(row)
            first = seen.setdefault(value, i)
            if first != i:
                parts = value if len(key) > 1 else (value,)
                said = ", ".join(shown(v).strip("'") for v in parts if v is not None)
                why = f"{said} stands already in row {line(table, first)}; expected each once"
                wrong.append((table, i, "+".join(key), why))
    known = {
        name: {getattr(r, name) for r in tables.get(table, ())}
        for name, table in REFERENCES.items()
    }
    for table, cls in TABLES.items():
        held = {c.name for c in columns(cls)}
        names = [n for n in REFERENCES if n in held and REFERENCES[n] != table]
        if table == "exclusions":
            continue
        for n in names:
            value_of = attrgetter(n)
            for i, row in enumerate(tables.get(table, ())):
                if value_of(row) not in known[n]:
                    why = f"is {shown(value_of(row))}; expected a {n} of the table {REFERENCES[n]}"
                    wrong.append((table, i, n, why))
    return wrong


def _analysed(info: StudyInfo, score: PainScore) -> bool:
    """Whether a score is of the pain the study analyses; one that does not say is."""
    return (info.pain_recall is None or score.recall in (None, info.pain_recall)) and (
        info.pain_activity is None or score.activity in (None, info.pain_activity)
    )


def _contradictions(tables: Mapping[str, Sequence[Any]]) -> list[tuple[str, int, str, str]]:
    """Rows of two tables that cannot both be true: leaks where none was found, death before.

    A reader may hand in stand-ins for rows that are wrong in themselves; they are told of already.
    """
    wrong = []
    leaking = {x.lesion_id for x in tables.get("leaks", ()) if isinstance(x, Leak)}
    lesions = [x for x in tables.get("lesions", ()) if isinstance(x, PainfulLesion)]
    patient = {lesion.lesion_id: lesion.patient_id for lesion in lesions}
    first: dict[str, str] = {}
    for i, p in enumerate(tables.get("procedures", ())):
        if not isinstance(p, Procedure):
            continue
        if p.leak_found is False and p.lesion_id in leaking:
            why = "is no, but the table leaks has a leak of the lesion; expected one or the other"
            wrong.append(("procedures", i, "leak_found", why))
        if p.leak_found is not None and p.leak_assessed == "not looked for":
            why = "is given, but leak_assessed says not looked for; expected it empty"
            wrong.append(("procedures", i, "leak_found", why))
        who = patient.get(p.lesion_id)
        if who is not None and p.date is not None and len(p.date) == 10:
            first[who] = min(first.get(who, p.date), p.date)
    for i, d in enumerate(tables.get("deaths", ())):
        if not isinstance(d, Death):
            continue
        if d.date is not None and len(d.date) == 10 and d.date < first.get(d.patient_id, d.date):
            why = f"is {d.date}, before the patient's first procedure on {first[d.patient_id]}"
            wrong.append(("deaths", i, "date", f"{why}; expected that day or later"))
    return wrong


def _two_scores(
    info: StudyInfo, pain: Sequence[PainScore], line: Callable[[str, int], int]
) -> list[tuple[str, int, str, str]]:
    if len({(score.recall, score.activity) for score in pain}) < 2:
        return []  # all alike: two of one day are told as a repeated key
    wrong = []
    seen: dict[tuple[str, float], tuple[PainScore, int]] = {}
    for i, score in enumerate(pain):
        if not _analysed(info, score):
            continue
        first, where = seen.setdefault((score.lesion_id, score.day), (score, i))
        alike = (first.recall, first.activity) == (score.recall, score.activity)
        if where != i and not alike:
            why = (
                f"{score.day:g} has a second score of the lesion beside row {line('pain', where)}; "
                "expected one a day, or pain_recall or pain_activity given in study.json"
            )
            wrong.append(("pain", i, "day", why))
    return wrong


def _grouped(rows: tuple[Any, ...]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for row in rows:
        out.setdefault(row.lesion_id, []).append(row)
    return out


def _death_day(
    death: Death | None, first: Mapping[str, str | None], lesion: PainfulLesion
) -> float | None:
    """Days from this lesion's first procedure to death, when the dates tell."""
    if death is None:
        return None
    mine, patients = first[lesion.lesion_id], first[f"patient:{lesion.patient_id}"]
    if death.date is not None and len(death.date) == 10 and mine is not None:
        return float((date.fromisoformat(death.date) - date.fromisoformat(mine)).days)
    if death.day is None:
        return None
    if mine is not None and patients is not None:
        apart = (date.fromisoformat(mine) - date.fromisoformat(patients)).days
        return float(death.day - apart)
    return death.day
