"""Hundreds of cases the same way: a table in, a sheet for each and one table out, and resumable.

:func:`run_cohort` is the whole of it. A case is done when its sheet is there; its outcome is kept
with a hash of all it rests on, so that a next start does only what is missing, changed or failed.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trocar import farm
from trocar.errors import InputError
from trocar.model.case import Finding, Gravity, gravest_first

if TYPE_CHECKING:
    from trocar.pathway import Planned

TABLE = "cases.csv"
# Column -> what stands in it. Files are told from the folder of the table.
COLUMNS = {
    "case": "name of the case, which its folder in the output gets; no patient's name",
    "ct": "CT: DICOM folder, zip or file, NIfTI, NRRD, MHA; or the folder of a plan to go on from",
    "site": "L1, sacrum, femur left; empty with the folder of a plan",
    "labels": "label map",
    "lesion": "mask of the lesion",
    "click": "a point in the lesion: x y z in LPS mm, ras:x y z, or ijk:column row slice",
    "ball": "x y z radius in LPS mm, for a lesion that cannot be outlined",
    "series": "series number or UID of ct when there are several",
    "post": "CT afterwards (assess)",
    "post_series": "series number or UID of post",
    "predicted": "folder of 'trocar cement', to compare with (assess)",
    "cement": "cement for strength: folders or masks, parted by ;",
    "weight_kg": "body weight, where loads depend on it (strength)",
}
SHEETS = {"plan": "plan.html", "cement": "cement.html", "assess": "result.html",
          "strength": "strength.html"}  # fmt: skip
RESULTS = (
    "case", "state", "verdict", "site", "lesion_ml", "route", "gauge", "depth_mm", "nearest",
    "margin_mm", "needles", "cement_ml", "low_ml", "high_ml", "stop_ml", "fill", "leaks",
    "leaked_ml", "load_over_strength", "of_intact", "weakest", "gravest", "tries", "seconds",
    "sheet", "error",
)  # fmt: skip
_KEPT = ".cohort"
_NAME = re.compile(r"^\w[\w .-]{0,79}$")
_FILES = ("ct", "labels", "lesion", "post", "predicted")
_IMAGES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".zip", ".dcm")
_VERDICTS = ("", "stop", "unknown", "caution", "ok")  # the first: not computed
_GRADES = {Gravity.STOP: "stop", Gravity.CAUTION: "caution", Gravity.NOTE: "ok"}

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """What became of every case, the worst first, and where it is written."""

    rows: tuple[Mapping[str, Any], ...]
    files: Mapping[str, Path]

    def of(self, verdict: str) -> tuple[Mapping[str, Any], ...]:
        """The rows of a verdict; "" for those that were not computed."""
        return tuple(r for r in self.rows if r["verdict"] == verdict)


def template(folder: Path | str) -> str:
    """The table of cases for a folder, as CSV to be filled in: one row for each that lies there.

    A sub-folder or image is a case. Files of it that are called ct, labels, lesion or post, with
    any ending, are entered as such.
    """
    home = _home(folder)
    out = io.StringIO(newline="")
    sheet = csv.DictWriter(out, list(COLUMNS), restval="", lineterminator="\n")
    sheet.writeheader()
    for place in sorted(home.iterdir()):
        if place.name.startswith(".") or not (place.is_dir() or place.name.endswith(_IMAGES)):
            continue
        named = {"ct": place.name}
        if place.is_dir():
            parts = {p.name.partition(".")[0].lower(): p for p in sorted(place.iterdir())}
            named |= {
                column: f"{place.name}/{parts[column].name}"
                for column in ("ct", "labels", "lesion", "post")
                if column in parts
            }
        sheet.writerow({"case": place.name.partition(".")[0], **named})
    return out.getvalue()


def read_table(table: Path | str) -> tuple[dict[str, str], ...]:
    """The rows of a table of cases, by column; InputError for what is not one."""
    from trocar.io.rows import Unreadable, text_of

    place = Path(table)
    if not place.is_file():
        raise InputError(
            f"there is no {place.name} in {place.parent}, which says what each case is; "
            f"'trocar cohort {place.parent} --template > {place}' makes one to fill in"
        )
    try:
        text = text_of(place.read_bytes())
        delimiter = ";" if ";" in text.partition("\n")[0] else ","
        names, *cells_of = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    except (Unreadable, csv.Error, ValueError) as error:
        came = (
            f"{error.came}; expected {error.expected}"
            if isinstance(error, Unreadable)
            else ("is no table of cells")
        )
        raise InputError(f"{place.name} {came}") from error
    names = [n.strip() for n in names]
    unknown = [n for n in names if n not in COLUMNS]
    if "case" not in names or unknown:
        wrong = f"has a column {unknown[0]!r}" if unknown else "has no column 'case'"
        raise InputError(f"{place.name} {wrong}; expected some of {', '.join(COLUMNS)}")
    rows = []
    for number, row in enumerate(cells_of, start=2):
        values = [v.strip() for v in row]
        if any(values[len(names) :]):
            raise InputError(
                f"{place.name}, row {number} has more cells than the {len(names)} columns; put "
                "cells with commas in quotes"
            )
        cells = dict(zip_longest(names, values[: len(names)], fillvalue=""))
        if any(cells.values()):
            rows.append(cells)
            if not _NAME.match(cells["case"]):
                raise InputError(
                    f"{place.name}, row {number}: the case is called {cells['case']!r}; expected a "
                    "name of letters, digits, dots, dashes and spaces, up to 80"
                )
    if not rows:
        raise InputError(f"{place.name} holds no case; enter one a row")
    seen: set[str] = set()
    for cells in rows:
        if cells["case"].lower() in seen:
            raise InputError(f"{place.name} holds the case {cells['case']} twice; name them apart")
        seen.add(cells["case"].lower())
    return tuple(rows)


def run_cohort(
    folder: Path | str,
    *,
    do: str = "plan",
    table: Path | str | None = None,
    out: Path | str,
    workers: int | None = None,
    scheduler: str | None = None,
    limit_s: float = farm.LIMIT_S,
    language: str = "en",
    viewer: bool = False,
    seed: int = 0,
    runs: int = 256,
    progress: Progress | None = None,
) -> Cohort:
    """Plan, cement, assess or load every case of a folder; sheets, a table and an overview in out.

    ``do`` is one of ``SHEETS``. ``table`` (left out: ``cases.csv`` in the folder) has the columns
    of ``COLUMNS``. ``workers`` and ``scheduler`` as in :func:`farm.run_all`; workers elsewhere must
    see both folders at the same place. No case stops another: what cannot be computed is a row
    with the sentence that says why. Interrupted, it writes what is there and raises again. Raises
    InputError for a table that cannot be read, and a scheduler that cannot be reached.
    """
    from trocar.pathway.runs import Clock

    home = _home(folder)
    if do not in SHEETS:
        raise InputError(f"{do!r} is nothing a cohort does; expected one of {', '.join(SHEETS)}")
    place = home / TABLE if table is None else Path(table)
    asked = read_table(place)
    whole = Path(out).absolute()
    clock = Clock("trocar cohort")
    options = {"language": language, "viewer": viewer, "seed": seed, "runs": runs}
    hashes = _Hashes(whole / _KEPT / "files.json")
    cases = (_case(do, home, row, whole, options, hashes) for row in asked)
    told = _Progress(progress, len(asked))
    by_name: dict[str, dict[str, Any]] = {
        row["case"]: {"case": row["case"], "site": row.get("site", ""), "state": "not done",
                      "error": "it was not begun"}
        for row in asked
    }  # fmt: skip

    def written() -> Cohort:
        rows = sorted(by_name.values(), key=_worst_first)
        run = clock.run(
            inputs={place.name: _hash(place)} | hashes.used(home),
            parameters={"do": do, "cases": len(asked), **options},
            seed=seed,
        )
        files = _written(whole, do, rows, language, run)
        return Cohort(rows=tuple(_full(r) for r in rows), files=files)

    try:
        for outcome in farm.run_all(
            do_case, cases, workers=workers, scheduler=scheduler, done=whole / _KEPT,
            holds=lambda o: (whole / o.name / SHEETS[do]).is_file(), limit_s=limit_s,
            news=told.hear,
        ):  # fmt: skip
            by_name[outcome.name] |= _row(do, outcome)
            told.ended(outcome)
    except BaseException:
        if told.count:
            written()
        raise
    return written()


# --- One case, on a worker ----------------------------------------------------------------------


def do_case(asked: Mapping[str, Any], tell: farm.Tell) -> dict[str, Any]:
    """Do one case of a cohort and write its sheet; the numbers of its row."""
    row, home, out = asked["row"], Path(asked["home"]), Path(asked["out"])
    arguments = _arguments(row, home)
    how = {"out": out, "progress": tell, **{k: asked["options"][k] for k in ("language", "viewer")}}
    return _DO[asked["do"]](row, home, arguments | how, asked["options"])


def _plan(row: Any, home: Path, how: dict[str, Any], options: Any) -> dict[str, Any]:
    from trocar.pathway import plan_case

    planned, _ = plan_case(
        _needed(row, home, "ct"), site=_said(row, "site"), case_id=row["case"],
        seed=options["seed"], **how,
    )  # fmt: skip
    return _needle(planned)


def _cement(row: Any, home: Path, how: dict[str, Any], options: Any) -> dict[str, Any]:
    from trocar.model.plan import worst_verdict
    from trocar.pathway.cement import cement_case

    site = row.get("site") or None
    case, _ = cement_case(
        _needed(row, home, "ct"), site=site, case_id=row["case"] if site else None,
        seed=options["seed"], options={"runs": options["runs"]}, **how,
    )  # fmt: skip
    fill, needle = case.injection.fill, _needle(case.planned)
    return needle | {
        "verdict": worst_verdict((needle["verdict"], case.plan.verdict)),
        "cement_ml": _number(case.plan.target_ml),
        "low_ml": _number(case.plan.low_ml),
        "high_ml": _number(case.plan.high_ml),
        "stop_ml": _number(case.plan.stop_ml),
        "fill": _number(fill.lesion_fill),
        "leaks": sorted({leak.compartment for leak in fill.leaks}),
        "leaked_ml": _number(fill.leaked_ml),
    }


def _assess(row: Any, home: Path, how: dict[str, Any], options: Any) -> dict[str, Any]:
    from trocar.pathway.cement import assess_case

    series = how.pop("series")
    case, _ = assess_case(
        _needed(row, home, "post"), site=_said(row, "site"), pre=_file(row, home, "ct"),
        predicted=_file(row, home, "predicted"), series=row.get("post_series") or None,
        pre_series=series, **how,
    )  # fmt: skip
    fill = case.fill
    found = (*fill.findings, *(case.lesion.findings if case.lesion else ()))
    return _gravest(found) | {
        "site": str(fill.site),
        "lesion_ml": None if case.lesion is None else _number(case.lesion.volume_ml),
        "cement_ml": _number(fill.volume_ml),
        "low_ml": _number(fill.low_ml),
        "high_ml": _number(fill.high_ml),
        "fill": _number(fill.lesion_fill),
        "leaks": sorted({leak.compartment for leak in fill.leaks}),
        "leaked_ml": _number(fill.leaked_ml),
    }


def _strength(row: Any, home: Path, how: dict[str, Any], options: Any) -> dict[str, Any]:
    from trocar.pathway.strength import strength_case

    cement = [home / p.strip() for p in row.get("cement", "").split(";") if p.strip()]
    weight = row.get("weight_kg", "")
    try:
        weight_kg = float(weight) if weight else None
    except ValueError:
        raise InputError(f"weight_kg is {weight!r}; expected a number") from None
    case, _ = strength_case(
        _needed(row, home, "ct"), site=row.get("site") or None, cement=cement,
        weight_kg=weight_kg, **how,
    )  # fmt: skip
    now = case.strength.bearing("now")
    return _gravest(case.told) | {
        "site": str(case.strength.site),
        "lesion_ml": _number(case.lesion.volume_ml),
        "load_over_strength": _number(now.ratio.mean),
        "of_intact": None if now.of_intact is None else _number(now.of_intact.mean),
        "weakest": now.weakest_in,
    }


_DO: dict[str, Callable[..., dict[str, Any]]] = {
    "plan": _plan, "cement": _cement, "assess": _assess, "strength": _strength,
}  # fmt: skip


def _needle(planned: Planned) -> dict[str, Any]:
    """The best needle of a plan, or that there is none, in the columns of the table."""
    plan = planned.plan
    row = _gravest(plan.findings) | {
        "site": str(plan.site),
        "lesion_ml": _number(plan.lesion.volume_ml),
        "needles": len(plan.options),
    }
    best = plan.best
    if best is None:
        reasons = "; ".join(f"{r.route}: {r.reason}" for r in plan.refusals)
        none = f"no needle is safe ({reasons})"
        return row | {"verdict": plan.verdict, "gravest": none, "finding": None}
    worst = best.worst
    return row | {
        "verdict": plan.verdict,
        "route": best.route,
        "gauge": best.needle.gauge,
        "depth_mm": _number(best.depth_mm),
        "nearest": None if worst is None else worst.structure,
        "margin_mm": None if worst is None else _number(worst.distance_mm),
    }


def _gravest(findings: Sequence[Finding]) -> dict[str, Any]:
    """The gravest finding, as a sentence and with its numbers apart for another language."""
    from trocar.io.exports import plain

    first = next(iter(gravest_first(tuple(findings))), None)
    if first is None or first.gravity is Gravity.NOTE:
        return {"verdict": "ok", "gravest": ""}
    found = {"message": first.message, "values": plain(first.values)}
    return {"verdict": _GRADES[first.gravity], "gravest": str(first), "finding": found}


def _arguments(row: Mapping[str, str], home: Path) -> dict[str, Any]:
    """What says where the lesion is, as the pathway takes it."""
    click, ball = row.get("click", ""), row.get("ball", "")
    return {
        "labels": _file(row, home, "labels"),
        "lesion": _file(row, home, "lesion"),
        "click": _point(click) if click else None,
        "ball_mm": _numbers(ball, 4, "ball", "x y z radius") if ball else None,
        "series": row.get("series") or None,
    }


def _point(text: str) -> tuple[str, tuple[float, ...]]:
    """A click with its kind of coordinates.

    >>> _point("ras:10 20.5 -3"), _point("1, 2, 3")
    (('ras', (10.0, 20.5, -3.0)), ('lps', (1.0, 2.0, 3.0)))
    """
    kind, colon, numbers = text.partition(":")
    if not colon:
        kind, numbers = "lps", text
    expected = "x y z, ras:x y z or ijk:column row slice"
    if kind not in ("lps", "ras", "ijk"):
        raise InputError(f"click is {text!r}; expected {expected}")
    return kind, _numbers(numbers, 3, "click", expected)


def _numbers(text: str, count: int, column: str, expected: str) -> Any:
    with suppress(ValueError):
        found = tuple(float(p) for p in re.split(r"[,\s]+", text.strip()))
        if len(found) == count and all(math.isfinite(v) for v in found):
            return found
    raise InputError(f"{column} is {text!r}; expected {expected}")


def _file(row: Mapping[str, str], home: Path, column: str) -> Path | None:
    return home / row[column] if row.get(column) else None


def _needed(row: Mapping[str, str], home: Path, column: str) -> Path:
    place = _file(row, home, column)
    if place is None:
        raise InputError(f"the column {column} is empty; expected {COLUMNS[column]}")
    return place


def _said(row: Mapping[str, str], column: str) -> str:
    if not row.get(column):
        raise InputError(f"the column {column} is empty; expected {COLUMNS[column]}")
    return row[column]


def _number(value: float | None) -> float | None:
    """A number that JSON knows; what is not finite is not known."""
    return None if value is None or not math.isfinite(value) else float(value)


# --- The table, here ----------------------------------------------------------------------------


def _home(folder: Path | str) -> Path:
    home = Path(folder).absolute()
    if not home.is_dir():
        raise InputError(f"{folder} is no folder; give the one that holds the cases")
    return home


def _case(
    do: str, home: Path, row: Mapping[str, str], out: Path, options: Mapping[str, Any],
    hashes: _Hashes,
) -> farm.Case:  # fmt: skip
    """A case with the hash of all its result rests on."""
    from trocar.io.exact import fingerprint
    from trocar.io.unfinished import program

    names = [row[c] for c in _FILES if row.get(c)]
    names += [p.strip() for p in row.get("cement", "").split(";") if p.strip()]
    content = {name: hashes.of(home / name) for name in names}
    key = fingerprint((do, dict(row), dict(options), content, program()))
    payload = {"do": do, "row": dict(row), "home": str(home), "out": str(out / row["case"]),
               "options": dict(options)}  # fmt: skip
    return farm.Case(name=row["case"], payload=payload, key=key)


class _Hashes:
    """Hashes of inputs; a file whose size and time are as they were is not read again."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._known: dict[str, list[str]] = {}
        self._used: dict[str, str] = {}
        with suppress(OSError, ValueError):
            self._known = json.loads(place.read_text(encoding="utf-8"))

    def of(self, path: Path) -> str:
        """The hash of a file or folder; "" for what is not there, which its case will tell."""
        from trocar.io.formats import write_text

        try:
            look = _look(path)
        except OSError:
            return ""
        known = self._known.get(str(path))
        if known is None or known[0] != look:
            self._known[str(path)] = known = [look, _hash(path)]
            with suppress(OSError):
                self._place.parent.mkdir(parents=True, exist_ok=True)
                write_text(self._place, json.dumps(self._known))
        self._used[str(path)] = known[1]
        return known[1]

    def used(self, home: Path) -> dict[str, str]:
        """Hashes by the name that the table has for a file."""
        short = {p: Path(p).relative_to(home) if home in Path(p).parents else p for p in self._used}
        return {str(short[p]): sha for p, sha in self._used.items()}


def _look(path: Path) -> str:
    """Names, sizes and times of a file or of all files below a folder, as one hash."""
    from trocar.io.exact import fingerprint

    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return fingerprint([(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files])


def _hash(path: Path) -> str:
    from trocar.io.volumes import file_hash

    return file_hash(path)


def _row(do: str, outcome: farm.Outcome) -> dict[str, Any]:
    """The row of a case that has ended."""
    row: dict[str, Any] = {"state": outcome.state, "error": outcome.error, "tries": outcome.tries}
    if outcome.seconds:
        row["seconds"] = round(outcome.seconds, 1)
    if outcome.state == "done":
        row |= outcome.value | {"sheet": f"{outcome.name}/{SHEETS[do]}"}
    return row


def _full(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with every column; what is not known is empty."""
    return {name: row.get(name, "" if name in ("verdict", "error") else None) for name in RESULTS}


def _worst_first(row: Mapping[str, Any]) -> tuple[Any, ...]:
    margin = row.get("margin_mm")
    return (
        _VERDICTS.index(row.get("verdict", "")),
        -(row.get("leaked_ml") or 0.0),
        -(row.get("load_over_strength") or 0.0),
        math.inf if margin is None else margin,
        row["case"],
    )


def _written(
    out: Path, do: str, rows: Sequence[Mapping[str, Any]], language: str, run: Any
) -> dict[str, Path]:
    from trocar.io.cells import unparse
    from trocar.io.exports import write_json
    from trocar.io.formats import write_text
    from trocar.report.cohort import write_cohort_page

    sheet = io.StringIO(newline="")
    table = csv.writer(sheet, lineterminator="\n")
    table.writerow(RESULTS)
    full = [_full(row) for row in rows]
    for row in full:
        cells = (tuple(v) if isinstance(v, list) else v for v in row.values())
        table.writerow([unparse(v) for v in cells])
    told = [one | {"finding": row.get("finding")} for one, row in zip(full, rows)]
    return {
        "table": write_text(out / "cohort.csv", "\ufeff" + sheet.getvalue()),
        "record": write_json(out / "cohort.json", {"run": run, "cases": full}),
        "overview": write_cohort_page(
            out / "cohort.html", do=do, rows=told, run=run, language=language
        ),
    }


class _Progress:
    """How many have ended, and how far those are that are under way."""

    def __init__(self, progress: Progress | None, count: int) -> None:
        self._progress, self._all = progress, count
        self.count = self._wrong = 0
        self._under_way: dict[str, float] = {}

    def hear(self, news: farm.News) -> None:
        """What the farm tells."""
        self._under_way[news.name] = news.fraction
        self._tell()

    def ended(self, outcome: farm.Outcome) -> None:
        """One more has ended."""
        self._under_way.pop(outcome.name, None)
        self.count += 1
        self._wrong += outcome.state != "done"
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            wrong = f", {self._wrong} not" if self._wrong else ""
            step = f"{self.count} of {self._all}{wrong}"
            self._progress(step, (self.count + sum(self._under_way.values())) / self._all)
