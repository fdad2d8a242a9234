"""The overview of a cohort: every case in one table, the worst first, linked to its own sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trocar import NOTICE
from trocar.model.result import Run
from trocar.report.page import Speaker, render, spoken_language, write_whole
from trocar.report.words import fill, retell

_TITLES = {
    "plan": "Cohort: needles planned",
    "cement": "Cohort: needles and cement planned",
    "assess": "Cohort: cement found afterwards",
    "strength": "Cohort: strength of the bone",
}
# Heading, column, unit, digits.
_Column = tuple[str, str, str, int]
_LESION: tuple[_Column, ...] = (("Lesion", "lesion_ml", "ml", 1),)
_NEEDLE: tuple[_Column, ...] = (
    ("Route", "route", "", 0),
    ("Gauge", "gauge", "G", 0),
    ("Depth", "depth_mm", "mm", 0),
    ("Nearest structure", "nearest", "", 0),
    ("Distance", "margin_mm", "mm", 1),
)
_CEMENT: tuple[_Column, ...] = (
    ("Cement", "cement_ml", "ml", 1),
    ("Lesion filled", "fill", "%", 0),
    ("Leaks", "leaks", "", 0),
    ("Outside the bone", "leaked_ml", "ml", 2),
)
_SHOWN: Mapping[str, tuple[_Column, ...]] = {
    "plan": (*_LESION, *_NEEDLE),
    "cement": (*_LESION, *_NEEDLE, _CEMENT[0], ("Not past", "stop_ml", "ml", 1), *_CEMENT[1:]),
    "assess": (*_LESION, *_CEMENT),
    "strength": (
        *_LESION,
        ("Load over strength", "load_over_strength", "", 2),
        ("Of intact", "of_intact", "%", 0),
        ("Weakest in", "weakest", "", 0),
    ),
}
_NAMES = ("route", "nearest", "leaks", "weakest")
_GRADES = {"stop": "stop", "unknown": "caution", "caution": "caution", "ok": "ok"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One case as printed."""

    case: str
    sheet: str  # address beside this page
    grade: str
    verdict: str
    site: str
    cells: tuple[str, ...]
    remark: str


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A case that was not computed, and why."""

    case: str
    site: str
    state: str
    error: str


def write_cohort_page(
    path: Path | str,
    *,
    do: str,
    rows: Sequence[Mapping[str, Any]],
    run: Run,
    language: str = "en",
) -> Path:
    """Write the overview of a cohort, whose rows have the columns of ``cohort.csv``, in order.

    A row may hold its gravest ``finding`` with ``message`` and ``values`` apart, too.
    """
    t = Speaker(spoken_language(language))
    computed = [r for r in rows if r["state"] == "done"]
    counts = {v: sum(r["verdict"] == v for r in computed) for v in _GRADES}
    missing = tuple(
        Missing(case=r["case"], site=r["site"] or "", state=t(_STATES[r["state"]]),
                error=r["error"])
        for r in rows if r["state"] != "done"
    )  # fmt: skip
    html = render(
        "cohort.html.jinja",
        t=t,
        language=t.language,
        notice=NOTICE,
        title=t(_TITLES[do]),
        counts=[(g, t(v), counts[v]) for v, g in _GRADES.items() if counts[v]],
        total=len(rows),
        missing=missing,
        headings=[t(heading) for heading, *_ in _SHOWN[do]],
        lines=[_line(r, do, t) for r in computed],
        run=run,
    )
    return write_whole(Path(path), html, what="the overview of the cohort")


_STATES = {
    "failed": "not computed",
    "died": "its worker died",
    "hung": "it hung",
    "cancelled": "cancelled",
    "not done": "not begun or not finished",
}


def _line(row: Mapping[str, Any], do: str, t: Speaker) -> Line:
    return Line(
        case=row["case"],
        sheet=quote(row["sheet"]),
        grade=_GRADES[row["verdict"]],
        verdict=t(row["verdict"]),
        site=t.name(row["site"]),
        cells=tuple(
            _cell(row[name], name, unit, digits, t) for _, name, unit, digits in _SHOWN[do]
        ),
        remark=_remark(row, t),
    )


def _remark(row: Mapping[str, Any], t: Speaker) -> str:
    """The gravest finding in the reader's language, where its numbers came apart from its words."""
    found = row.get("finding")
    if found is not None:
        return fill(t(found["message"]), found["values"], t.language)
    return retell(row["gravest"] or "", t.language)


def _cell(value: Any, name: str, unit: str, digits: int, t: Speaker) -> str:
    if name == "leaks":
        return t("unknown") if value is None else t.listed(value) or t("none")
    if name in _NAMES:
        return t.name(value) if value else "–"
    if value is None:
        return "–"
    return t.number(100 * value if unit == "%" else value, unit, digits)
