"""The Hong Kong series as records, typed from its Table 2, and a maker of small records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from trocar.model.course import Death, Event, OpioidLine, PainScore, Procedure, Visit
from trocar.model.patient import PainfulLesion, Patient
from trocar.model.study import Record, Study, StudyInfo

COLUMNS = ("D0", "D1", "D2", "Wk1", "Wk2", "Wk3", *(f"M{k}" for k in range(1, 10)))
TABLE_2 = """\
1,6,,,1,,2,,,,,,,,,
2,2,7,2,,,,1,,1,,0,,0,,1
3,8,3,,,,,4,2,2,,0,,0,,
4,5,2,0,0,0,0,0,0,0,0,,,,,
5,7,4,4,4,4,,,,4,4,,,,,
6,2,2,0,1,1,2,2,,,,6,0,,,
7,,3,4,0,0,0,0,0,0,0,,,,,
8,2,3,4,4,3,0,,,,,,,,,
9,3,3,2,,,,,,,,,,,,
10,5,5,3,3,,,3,3,,,,,,,
11,5,,4,4,3,,,,,,,,,,
"""
DATES = (
    "2006-10",
    "2009-01",
    "2009-05",
    "2009-09",
    "2009-09",
    "2010-01",
    "2010-02",
    "2010-02",
    "2010-02",
    "2010-04",
    "2010-05",
)


def nominal_days(month_days: float = 28.0) -> tuple[float, ...]:
    return (0, 1, 2, 7, 14, 21, *(month_days * k for k in range(1, 10)))


def hong_kong_study(month_days: float = 28.0) -> Study:
    days = nominal_days(month_days)
    rows = [line.split(",") for line in TABLE_2.splitlines()]
    # Lesions 2 and 8 are of one patient.
    owner = {row[0]: "P2" if row[0] == "8" else f"P{row[0]}" for row in rows}
    return Study(
        info=StudyInfo(study_id="hk", title="Table 2"),
        patients=tuple(Patient(patient_id=p) for p in dict.fromkeys(owner.values())),
        lesions=tuple(
            PainfulLesion(lesion_id=k, patient_id=p, site="other") for k, p in owner.items()
        ),
        procedures=tuple(
            Procedure(procedure_id=f"X{k}", lesion_id=k, date=DATES[int(k) - 1]) for k in owner
        ),
        pain=tuple(
            PainScore(lesion_id=row[0], day=day, low=float(cell))
            for row in rows
            for day, cell in zip(days, row[1:], strict=True)
            if cell
        ),
    )


@pytest.fixture(scope="session")
def hong_kong() -> tuple[Record, ...]:
    return hong_kong_study().records


@pytest.fixture(scope="session")
def hong_kong_calendar() -> tuple[Record, ...]:
    """The same with months of 365.25/12 days."""
    return hong_kong_study(365.25 / 12).records


@pytest.fixture(scope="session")
def day_of() -> Mapping[str, float]:
    """Nominal day of each column of Table 2."""
    return dict(zip(COLUMNS, nominal_days(), strict=True))


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A record of one lesion: pain {day: score}, walking {day: score}, opioids, events, death."""

    def make(
        pain: Mapping[float, float | tuple[float, float]],
        *,
        lesion: str = "1",
        death_day: float | None = None,
        recurrence_day: float | None = None,
        walking: Mapping[float, int] | None = None,
        opioids: Sequence[tuple[float, str, str | None, float, str]] = (),
    ) -> Record:
        def score(day: float, value: float | tuple[float, float]) -> PainScore:
            low, high = value if isinstance(value, tuple) else (value, None)
            return PainScore(lesion_id=lesion, day=day, low=low, high=high)

        tables: dict[str, Any] = {
            "patients": (Patient(patient_id="P"),),
            "lesions": (PainfulLesion(lesion_id=lesion, patient_id="P", site="L1"),),
            "pain": tuple(score(d, v) for d, v in pain.items()),
            "visits": tuple(
                Visit(lesion_id=lesion, day=d, walking=w) for d, w in (walking or {}).items()
            ),
            "opioids": tuple(
                OpioidLine(lesion_id=lesion, day=d, drug=drug, route=route, dose=dose, unit=unit)
                for d, drug, route, dose, unit in opioids
            ),
        }
        if death_day is not None:
            tables["deaths"] = (Death(patient_id="P", day=death_day),)
        if recurrence_day is not None:
            tables["events"] = (
                Event(lesion_id=lesion, day=recurrence_day, kind="pain recurrence"),
            )
        return Study(info=StudyInfo(study_id="s", title="s"), **tables).records[0]

    return make
