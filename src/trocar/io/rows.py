"""The rows of one table, from the text of a CSV file or from JSON, with every fault in them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from trocar.errors import InputError
from trocar.io.cells import Wrong, close, from_json, parse, split
from trocar.model.columns import Column, columns, shown
from trocar.model.study import KEYS, REFERENCES, TABLES

# Of the faults of a study so many are kept; at the second number reading stops.
MOST_KEPT, MOST_COUNTED = 1000, 10_000
Tell = Callable[[str, str, str], None]  # column, what came, what was expected


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault of a study's files: where, what came, what was expected.

    ``row`` is the row a spreadsheet shows (the header is 1); in JSON the place in the table from 1,
    or the line of a file that is not JSON at all. None when the fault is no row's.
    """

    file: str
    came: str
    expected: str
    table: str = ""
    row: int | None = None
    column: str = ""

    @property
    def where(self) -> str:
        """The place in words: ``pain.csv, row 7, column low``."""
        parts = [self.file]
        if self.table and self.file.lower() != f"{self.table}.csv":
            parts.append(f"table {self.table}")
        if self.row is not None:
            parts.append(f"row {self.row}")
        if self.column:
            parts.append(f"column {self.column}")
        return ", ".join(parts)

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" if self.expected else ""
        return f"{self.where}: {self.came}{expected}"


class TooMany(Exception):
    """Stops the reading of files in which nearly everything is wrong."""


class Unreadable(Exception):
    """Stops the reading of one file: what came, what was expected, at which line."""

    def __init__(self, came: str, expected: str, line: int | None = None) -> None:
        self.came, self.expected, self.line = came, expected, line


@dataclass
class Found:
    """The faults so far: the first are kept, all are counted."""

    kept: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, file: str, came: str, expected: str, **place: Any) -> None:
        """One more fault; raises TooMany when there are so many that no one would read them."""
        self.count += 1
        if len(self.kept) < MOST_KEPT:
            # A name on disk that is not UTF-8 could not be printed.
            name = file.encode("utf-8", "backslashreplace").decode("utf-8")
            self.kept.append(Problem(file=name, came=came, expected=expected, **place))
        if self.count >= MOST_COUNTED:
            raise TooMany


@dataclass
class Rows:
    """The rows of one table that could be made, with their numbers, and stand-ins for the rest.

    A stand-in carries the names of a faulty row, so that one wrong cell in lesions.csv does not
    make every score of that lesion point to nothing; ``broken`` says that names may be missing.
    """

    table: str = ""
    made: list[Any] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    stand_ins: list[tuple[SimpleNamespace, int]] = field(default_factory=list)
    broken: bool = False

    def add(self, cls: type, values: dict[str, Any], number: int, tell: Tell, faulty: bool) -> None:
        """One row from its values; what the row itself finds wrong is told."""
        if not faulty:
            try:
                self.made.append(cls(**values))
                self.numbers.append(number)
                return
            except InputError as error:  # "PainScore: high is 1; expected at least low, 3"
                said = str(error).removeprefix(f"{cls.__name__}: ")
                column, _, why = said.partition(" ")
                tell(column, *split(why)) if column in values else tell("", said, "")
        if self.table not in REFERENCES.values():
            return
        if values.get(KEYS[self.table][0]) is None:
            self.broken = True
            return
        names = {n: values[n] for n in REFERENCES if n in values}
        self.stand_ins.append((SimpleNamespace(**names), number))


def unknown(key: str, known: Sequence[str], what: str) -> tuple[str, str, str]:
    """The fault of a name that is none of those known: column, what came, what was expected."""
    guess = close(key, known) or f"one of {', '.join(known)}"
    return shown(key).strip("'"), f"is no {what}", guess


# --- JSON -------------------------------------------------------------------------------------


class Object(dict[str, Any]):
    """A JSON object that remembers which of its keys were given twice."""

    twice: tuple[str, ...] = ()

    @classmethod
    def paired(cls, pairs: list[tuple[str, Any]]) -> Object:
        """For ``json.loads(object_pairs_hook=...)``."""
        out = cls(pairs)
        if len(out) < len(pairs):
            out.twice = tuple(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)
        return out


def json_rows(name: str, table: str, given: Any, found: Found, cls: type, only: str = "") -> Rows:
    """Rows from a list of JSON objects; ``only`` is the key of the one object that is no table."""
    out = Rows(table=table)
    if not isinstance(given, list):
        found.add(name, f"is {shown(given)}", "a list of rows", table=table)
        out.broken = True
        return out
    known = {c.name: c for c in columns(cls)}
    for number, row in enumerate(given, start=1):
        place = {"table": table, "row": None if only else number}

        def tell(column: str, came: str, expected: str, place: dict[str, Any] = place) -> None:
            inside = f"{only}.{column}" if only else column
            found.add(name, came, expected, column=inside, **place)

        if isinstance(row, dict):
            _json_row(row, known, out, cls, number, tell)
        else:
            found.add(name, f"is {shown(row)}", "an object, one value a column", **place)
            out.broken = True
    return out


def _json_row(
    row: dict[str, Any], known: Mapping[str, Column], out: Rows, cls: type, number: int, tell: Tell
) -> None:
    values: dict[str, Any] = dict.fromkeys(known)
    faulty = False
    for key in getattr(row, "twice", ()):
        tell(shown(key).strip("'"), "is given twice", "each column once")
        faulty = True
    for key, cell in row.items():
        c = known.get(key)
        if c is None:
            tell(*unknown(key, tuple(known), f"column of {out.table or 'a study'}"))
            faulty = True
            continue
        value, wrong = from_json(c, cell)
        values[key] = None if wrong else value
        if wrong:
            tell(key, *wrong)
            faulty = True
    for c in known.values():
        if c.required and c.name not in row:
            tell(c.name, "is missing", c.expected)
            faulty = True
    out.add(cls, values, number, tell, faulty)


# --- CSV --------------------------------------------------------------------------------------


def text_of(data: bytes) -> str:
    """The text of a file, with or without a byte order mark; raises Unreadable when it is none."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Unreadable("is UTF-16 text", "UTF-8; in a spreadsheet save it as 'CSV UTF-8'")
    at = data.find(b"\0")
    if at >= 0:
        raise Unreadable("is not text (NUL bytes)", "UTF-8 text", data.count(b"\n", 0, at) + 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        came = f"is not UTF-8 (byte 0x{error.object[error.start]:02X})"
        line = error.object.count(b"\n", 0, error.start) + 1
        expected = "UTF-8 text; in a spreadsheet save it as 'CSV UTF-8'"
        raise Unreadable(came, expected, line) from error


def csv_rows(name: str, table: str, data: bytes, found: Found) -> Rows:
    """Rows from a CSV table as spreadsheets write it: commas, semicolons or tabs, any line end."""
    out = Rows(table=table)
    try:
        text = text_of(data)
    except Unreadable as fault:
        found.add(name, fault.came, fault.expected, table=table, row=fault.line)
        out.broken = True
        return out
    known = {c.name: c for c in columns(TABLES[table])}
    skip, delimiter = _delimiter(text, known)
    reader = csv.reader(io.StringIO(text[skip:], newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        header = [cell.strip() for cell in next(reader, [])]
        number = 1
        sheet = _Sheet(name, out, header, known, found)
        for number, cells in enumerate(reader, start=2):
            if any(cells) and any(cell.strip() for cell in cells):
                sheet.row(number, cells)
    except csv.Error as error:
        came = f"cannot be parted into cells ({said(error)})"
        expected = "quotes around whole cells only, each closed again, and no huge cells"
        found.add(name, came, expected, table=table, row=number + 1)
        out.broken = True
    return out


def _delimiter(text: str, known: Mapping[str, Column]) -> tuple[int, str]:
    """How many characters to skip, and what parts the cells: that which makes known columns."""
    first = text.partition("\n")[0]
    if first.startswith("sep=") and len(first.rstrip("\r")) == 5 and first[4] in ",;\t|":
        return len(first) + 1, first[4]  # Excel's own hint, which it does not show as a row
    first = first.partition("\r")[0]

    def score(delimiter: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:
            return 0, 0
        return len({cell.strip() for cell in cells} & set(known)), first.count(delimiter)

    return 0, max(",;\t", key=score)


class _Sheet:
    """A CSV table being read: its header, and what each cell's text was found to mean."""

    def __init__(
        self,
        name: str,
        out: Rows,
        header: Sequence[str],
        known: Mapping[str, Column],
        found: Found,
    ) -> None:
        self.name, self.out, self.found = name, out, found
        self.blank: dict[str, Any] = dict.fromkeys(known)
        self.width = len(header)
        # A place, its column (None: not known) and its cells met before: most are met often.
        self.places: list[tuple[Column | None, str, dict[str, tuple[Any, Wrong | None]]]] = []
        seen: set[str] = set()
        for title in header:
            if title in seen:
                self._tell(1, shown(title).strip("'"), "stands twice in the header", "each once")
            elif title and title not in known:
                self._tell(1, *unknown(title, tuple(known), f"column of {out.table}"))
            self.places.append((known.get(title) if title not in seen else None, title, {}))
            if title:
                seen.add(title)
        self.missing = [c for c in known.values() if c.required and c.name not in seen]
        for c in self.missing:
            self._tell(1, c.name, "is missing from the header", f"a column with {c.expected}")
        out.broken = bool(self.missing)

    def row(self, number: int, cells: Sequence[str]) -> None:
        """One row that is not empty."""

        def tell(column: str, came: str, expected: str) -> None:
            self._tell(number, column, came, expected)

        values = self.blank.copy()
        faulty = bool(self.missing)
        if len(cells) < self.width:  # what a short row lacks is empty
            cells = [*cells, *[""] * (self.width - len(cells))]
        for (c, title, met), cell in zip(self.places, cells):
            if c is None:
                if not title and cell.strip():
                    tell("", f"is {shown(cell.strip())} below no name", "a column with a name")
                    faulty = True
                continue
            meant = met.get(cell)
            if meant is None:
                meant = met[cell] = parse(c, cell.strip())
            value, wrong = meant
            if wrong:
                tell(c.name, *wrong)
                faulty = True
            else:
                values[c.name] = value
        extra = [cell.strip() for cell in cells[self.width :] if cell.strip()]
        if extra:
            came = f"has {len(cells)} cells, the last {shown(extra[-1])}"
            tell(
                "", came, f"{self.width}; write decimals with a point, texts with {','!r} in quotes"
            )
            faulty = True
        self.out.add(TABLES[self.out.table], values, number, tell, faulty)

    def _tell(self, number: int, column: str, came: str, expected: str) -> None:
        place = {"table": self.out.table, "row": number, "column": column}
        self.found.add(self.name, came, expected, **place)


def said(error: Exception) -> str:
    """What an error of a library says, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
