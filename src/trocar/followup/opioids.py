"""How much opioid is that: one regimen as mg of oral morphine a day, by a named table.

Equivalents compare and sum what is taken; they are not for changing one opioid to another. What a
table cannot convert is listed and leaves the total unknown; it never counts as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from trocar.errors import InputError
from trocar.facts.source import Value, load
from trocar.followup.rules import at_most, below
from trocar.model.course import OpioidLine, OpioidSeries
from trocar.model.study import Record
from trocar.stats.exact import Proportion

_UG_PER_MG = 1000.0
_H_PER_DAY = 24.0

OpioidWord = Literal[
    "none before or after",
    "started",
    "stopped",
    "at most half",
    "reduced",
    "same",
    "increased",
    "not known",
]


@dataclass(frozen=True, kw_only=True)
class OmedPart:
    """One line of a regimen with the factor that converts it."""

    line: OpioidLine
    factor: Value | None  # None for "none"
    mg_per_day: float


@dataclass(frozen=True, kw_only=True)
class NotConverted:
    """One line of a regimen that the table cannot convert, and why."""

    line: OpioidLine
    reason: str


@dataclass(frozen=True, kw_only=True)
class Omed:
    """A regimen as oral morphine, mg a day; unknown (None) while any line is not converted."""

    mg_per_day: float | None
    table: str
    version: str
    parts: tuple[OmedPart, ...]
    not_converted: tuple[NotConverted, ...]
    day: float | None

    @property
    def recorded(self) -> bool:
        """Whether anything was recorded; "none" counts, silence does not."""
        return bool(self.parts or self.not_converted)

    def __str__(self) -> str:
        if self.mg_per_day is not None:
            return f"{self.mg_per_day:g} mg/day"
        if not self.recorded:
            return "not recorded"
        return "not known: " + "; ".join(n.reason for n in self.not_converted)


@dataclass(frozen=True, kw_only=True)
class OpioidTable:
    """A published table of factors, by drug, route and unit of dose."""

    name: str
    title: str
    version: str
    factors: dict[tuple[str, str], tuple[str, Value]]  # (drug, route) -> (unit, factor)


def opioid_tables() -> tuple[str, ...]:
    """The names of the tables there are, the default first."""
    facts = load("opioids")
    default = str(facts.data["default"])
    return (default, *(t for t in facts.data["tables"] if t != default))


@cache
def opioid_table(name: str) -> OpioidTable:
    """A table of factors by its name; InputError naming the tables when there is no such one."""
    facts = load("opioids")
    if name not in facts.data["tables"]:
        raise InputError(
            f"there is no table of opioid equivalents {name!r}; choose one of "
            + ", ".join(opioid_tables())
        )
    head = facts.data["tables"][name]
    factors = dict(opioid_table(head["based_on"]).factors) if "based_on" in head else {}
    for row in facts.data["factors"]:
        if row["table"] == name:
            factors[row["drug"], row["route"]] = (row["unit"], facts[row["value"]])
    return OpioidTable(name=name, title=head["title"], version=facts.version, factors=factors)


def omed(
    lines: Iterable[OpioidLine], table: str | None = None, *, convert_methadone: bool = False
) -> Omed:
    """How many mg of oral morphine a day are these opioids worth?

    ``lines`` is one regimen: what one lesion's patient takes on one day. No line at all means that
    nothing was recorded and gives None; a line with drug "none" gives 0. A drug, route or unit
    without a factor is listed in ``not_converted`` and leaves the total None. Methadone is
    converted only when asked for, by a table that holds it. ``table`` is one of
    ``opioid_tables()``, by default ANZCA 2021. InputError for an unknown table and for lines of
    several days or lesions.

    >>> line = OpioidLine(
    ...     lesion_id="1", day=0, drug="oxycodone", route="oral", dose=40, unit="mg/day"
    ... )
    >>> omed([line]).mg_per_day
    60.0
    """
    regimen = tuple(lines)
    chosen = opioid_table(opioid_tables()[0] if table is None else table)
    _one_regimen(regimen)
    parts: list[OmedPart] = []
    left: list[NotConverted] = []
    for line in regimen:
        part = _convert(line, chosen, alone=len(regimen) == 1, methadone=convert_methadone)
        if isinstance(part, OmedPart):
            parts.append(part)
        else:
            left.append(part)
    total = None if left or not parts else sum(p.mg_per_day for p in parts)
    return Omed(
        mg_per_day=total,
        table=chosen.name,
        version=chosen.version,
        parts=tuple(parts),
        not_converted=tuple(left),
        day=regimen[0].day if regimen else None,
    )


def omed_before(series: OpioidSeries, table: str | None = None) -> Omed:
    """The last regimen recorded at or before day 0, as oral morphine."""
    days = [d for d in series.days if d <= 0]
    return omed(series.on(days[-1]) if days else (), table)


def omed_at(series: OpioidSeries, day: float, table: str | None = None) -> Omed:
    """The last regimen recorded after the procedure up to a day, as oral morphine.

    A regimen of before the procedure is never carried past it.
    """
    days = [d for d in series.days if 0 < d <= day]
    return omed(series.on(days[-1]) if days else (), table)


@dataclass(frozen=True, kw_only=True)
class OpioidChange:
    """What became of the opioids between two days, in the words of the visits table."""

    word: OpioidWord
    before: Omed
    after: Omed
    fraction: float | None  # of the baseline, negative when less is taken

    @property
    def at_most_half(self) -> bool | None:
        """Whether at most half of before is taken (reduction of 50 % or more)."""
        return self._among("stopped", "at most half")

    @property
    def decreased(self) -> bool | None:
        """Whether any less is taken than before."""
        return self._among("stopped", "at most half", "reduced")

    @property
    def stopped(self) -> bool | None:
        """Whether no opioid is taken any more."""
        return self._among("stopped")

    def _among(self, *words: str) -> bool | None:
        if self.word in ("not known", "none before or after", "started"):
            return None
        return self.word in words


def opioid_change(before: Omed, after: Omed) -> OpioidChange:
    """Were the opioids stopped, at most half, reduced, the same or increased?

    Questions of reduction have no answer (None) where none was taken before or an amount is not
    known. InputError when the two were converted by different tables.
    """
    if before.table != after.table:
        raise InputError(
            f"the opioids before were converted by {before.table} and those after by {after.table};"
            " convert both by one table"
        )
    fraction = None
    if before.mg_per_day is None or after.mg_per_day is None:
        word: OpioidWord = "not known"
    elif before.mg_per_day == 0:
        word = "started" if after.mg_per_day > 0 else "none before or after"
    else:
        fraction = after.mg_per_day / before.mg_per_day - 1.0
        word = _word(before.mg_per_day, after.mg_per_day)
    return OpioidChange(word=word, before=before, after=after, fraction=fraction)


@dataclass(frozen=True, kw_only=True)
class OpioidChanges:
    """What became of the opioids of all lesions by a day; proportions of those it can be said of.

    Those are the lesions whose patient took an opioid before and whose amounts are both known.
    """

    day: float
    table: str
    version: str
    sentence: str
    changes: dict[str, OpioidChange]

    @property
    def assessable(self) -> tuple[str, ...]:
        """The lesions with an opioid before and both amounts known."""
        return tuple(k for k, c in self.changes.items() if c.decreased is not None)

    @property
    def not_known(self) -> tuple[str, ...]:
        """The lesions with an amount that was not recorded or not converted."""
        return tuple(k for k, c in self.changes.items() if c.word == "not known")

    def proportion(self, which: Literal["stopped", "at most half", "any decrease"]) -> Proportion:
        """How many of the assessable lesions: opioids stopped, at most half, any decrease."""
        asked = {
            "stopped": [c.stopped for c in self.changes.values()],
            "at most half": [c.at_most_half for c in self.changes.values()],
            "any decrease": [c.decreased for c in self.changes.values()],
        }[which]
        return Proportion(sum(a is True for a in asked), len(self.assessable))


def opioid_changes(
    records: Iterable[Record], day: float, table: str | None = None
) -> OpioidChanges:
    """What became of the opioids of every lesion by a day?"""
    chosen = opioid_table(opioid_tables()[0] if table is None else table)
    changes = {
        r.lesion_id: opioid_change(
            omed_before(r.course.opioids, chosen.name), omed_at(r.course.opioids, day, chosen.name)
        )
        for r in records
    }
    sentence = (
        "The last regimen recorded at or before day 0 is compared with the last one recorded after "
        f"the procedure up to day {day:g}; amounts are oral morphine by {chosen.title}."
    )
    return OpioidChanges(
        day=day, table=chosen.name, version=chosen.version, sentence=sentence, changes=changes
    )


def _word(before_mg: float, after_mg: float) -> OpioidWord:
    half = float(load("response")["opioid_half"])
    if after_mg == 0:
        return "stopped"
    if at_most(after_mg, before_mg * (1.0 - half)):
        return "at most half"
    if below(after_mg, before_mg):
        return "reduced"
    return "increased" if below(before_mg, after_mg) else "same"


def _one_regimen(lines: Sequence[OpioidLine]) -> None:
    days = sorted({line.day for line in lines})
    lesions = sorted({line.lesion_id for line in lines})
    if len(days) > 1 or len(lesions) > 1:
        raise InputError(
            f"opioid lines of days {', '.join(f'{d:g}' for d in days)} and lesions "
            f"{', '.join(lesions)} came together; give the lines of one lesion on one day"
        )


def _convert(
    line: OpioidLine, table: OpioidTable, *, alone: bool, methadone: bool
) -> OmedPart | NotConverted:
    if line.drug == "none":
        if alone:
            return OmedPart(line=line, factor=None, mg_per_day=0.0)
        return NotConverted(line=line, reason="none is said beside other opioids of the day")
    if line.drug in load("opioids").data["not_automatic"] and not methadone:
        return NotConverted(line=line, reason=f"{line.drug} is not converted by itself")
    if line.route is None:
        return NotConverted(line=line, reason=f"the route of {line.drug} is not recorded")
    if (line.drug, line.route) not in table.factors:
        return NotConverted(
            line=line, reason=f"{table.title} has no factor for {line.route} {line.drug}"
        )
    unit, factor = table.factors[line.drug, line.route]
    dose = _dose_in(unit, line)
    if dose is None:
        return NotConverted(
            line=line, reason=f"{line.route} {line.drug} is in {line.unit}; expected {unit}"
        )
    return OmedPart(line=line, factor=factor, mg_per_day=dose * factor.mean)


def _dose_in(unit: str, line: OpioidLine) -> float | None:
    """The dose in the factor's unit, or None where the unit makes no sense for the route.

    A rate per hour belongs to patches and infusions; only an infusion's is a dose per day.
    """
    if line.unit == unit:
        return line.dose
    if unit == "ug/h" or (line.unit == "ug/h" and line.route != "parenteral"):
        return None
    if line.unit == "mg/day":
        return line.dose * _UG_PER_MG
    ug = line.dose * _H_PER_DAY if line.unit == "ug/h" else line.dose
    return ug if unit == "ug/day" else ug / _UG_PER_MG
