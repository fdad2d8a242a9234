"""A study from its files: a folder of CSV tables, a zip of it, or one JSON file, read strictly.

Every fault is found in one pass and told with file, row and column; nothing is half loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from trocar.errors import InputError
from trocar.io.cells import close, split
from trocar.io.keeping import HEAD, SCHEMA, VERSION, study_schema, template, write_study
from trocar.io.rows import (
    MOST_COUNTED,
    Found,
    Object,
    Problem,
    Rows,
    TooMany,
    Unreadable,
    csv_rows,
    json_rows,
    said,
    text_of,
    unknown,
)
from trocar.model.columns import shown
from trocar.model.study import REFERENCES, TABLES, DataNote, Study, StudyInfo, study_faults

__all__ = [
    "Problem",
    "example_study",
    "problems",
    "read_study",
    "study_schema",
    "template",
    "write_study",
]

# Guards: a study of 20 000 lesions is some 50 MB. Sizes are counted while reading, not believed.
MAX_BYTES = 128 << 20
MAX_FILES = 10_000
MOST_TOLD = 50


def read_study(path: str | Path) -> Study:
    """The study kept in a folder, a zip of that folder, or one JSON file.

    Raises InputError that lists every fault, the first 50 in full.
    """
    return _sound(*_read(Path(path)), Path(path).name or str(path))


def problems(path: str | Path) -> tuple[Problem, ...]:
    """Every fault of a study's files, at most 1000; empty when :func:`read_study` would read it."""
    return tuple(_read(Path(path))[1].kept)


@cache
def example_study() -> Study:
    """The Hong Kong series (Leung 2013, Tables 1 and 2): 10 patients, 11 lesions."""
    folder = resources.files("trocar.facts").joinpath("studies", "hong_kong_2013")
    files = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}
    found = Found()
    return _sound(_parse(files, found, "example"), found, "the example")


def _sound(study: Study | None, found: Found, name: str) -> Study:
    """The study, or an InputError that tells all that was found."""
    if study is not None:
        return study
    told = found.kept[:MOST_TOLD]
    more = found.count - len(told)
    least = "at least " if found.count >= MOST_COUNTED else ""
    lines = [f"  {p}" for p in told] + ([f"  and {least}{more} more"] if more else [])
    count = "1 problem" if found.count == 1 else f"{least}{found.count} problems"
    raise InputError(f"{shown(name)} cannot be read as a study, {count}:\n" + "\n".join(lines))


# --- Which files ------------------------------------------------------------------------------

_WANTED = "a study folder, a zip of one, or its JSON file"


def _read(place: Path) -> tuple[Study | None, Found]:
    found = Found()
    try:
        return _opened(place, found), found
    except TooMany:
        return None, found
    except Unreadable as fault:
        came, expected = fault.came, fault.expected
    except (OSError, ValueError) as error:  # ValueError: a path no file can have
        came, expected = f"cannot be read ({said(error)})", _WANTED
    found.add(place.name or str(place), came, expected)
    return None, found


def _opened(place: Path, found: Found) -> Study | None:
    if place.name == HEAD and place.is_file() and _beside_tables(place):
        place = place.parent  # the head was given for the folder
    if place.is_dir():
        return _parse(_in_folder(place, found), found, str(place))
    if not place.is_file():
        raise Unreadable("is not there", _WANTED)
    if place.suffix.lower() == ".json":
        return _parse_one(place.name, _bytes(place, MAX_BYTES), found, str(place))
    if zipfile.is_zipfile(place):
        return _parse(_in_zip(place, found), found, str(place))
    raise Unreadable("is no study", _WANTED)


def _beside_tables(head: Path) -> bool:
    names = (p.name.lower() for p in head.parent.iterdir())
    return any(name.endswith(".csv") and name[:-4] in TABLES for name in names)


def _bytes(place: Path, left: int) -> bytes:
    with place.open("rb") as stream:
        return _within(stream.read(left + 1), left)


def _within(data: bytes, left: int) -> bytes:
    if len(data) > left:
        raise Unreadable(f"holds more than {MAX_BYTES >> 20} MB", "a study, which is smaller")
    return data


def _in_folder(folder: Path, found: Found) -> dict[str, bytes]:
    names = sorted(entry.name for entry in os.scandir(folder))
    if len(names) > MAX_FILES:
        raise Unreadable(f"holds {len(names)} files", "the folder of one study")
    files: dict[str, bytes] = {}
    for name in _of_study(names, found):
        try:
            if not (folder / name).is_file():
                raise Unreadable("is no file", "a file with this name")
            files[name] = _bytes(folder / name, MAX_BYTES - sum(map(len, files.values())))
        except Unreadable as fault:
            found.add(name, fault.came, fault.expected)
        except OSError as error:
            found.add(name, f"cannot be read ({error.strerror})", "a file that can be opened")
    return files


def _in_zip(place: Path, found: Found) -> dict[str, bytes]:
    """The study's files in a zip, read in place, so that names in it can lead nowhere."""
    try:
        with zipfile.ZipFile(place) as archive:
            return _members(archive, found)
    except (Unreadable, TooMany):
        raise
    except Exception as error:  # a damaged archive makes zipfile raise nearly anything
        raise Unreadable(f"is a damaged zip archive ({said(error)})", "a zip of a study") from error


def _members(archive: zipfile.ZipFile, found: Found) -> dict[str, bytes]:
    members = [m for m in archive.infolist() if not m.is_dir()]
    # The shadow files a Mac adds to an archive are no part of it.
    members = [m for m in members if not m.filename.startswith("__MACOSX/")]
    if len(members) > MAX_FILES:
        raise Unreadable(f"holds {len(members)} files", "a zip of one study")
    for m in members:
        parts = m.filename.split("/")
        if ".." in parts or not parts[0] or any(sign in m.filename for sign in "\\:"):
            raise Unreadable(f"holds {shown(m.filename)}, which points outside", "plain names")
    tops = {m.filename.partition("/")[0] for m in members}
    inside = len(tops) == 1 and all("/" in m.filename for m in members)
    by_name: dict[str, zipfile.ZipInfo] = {}
    for m in members:
        name = m.filename.partition("/")[2] if inside else m.filename
        if name in by_name:
            found.add(name, "stands twice in the archive", "each file once")
        by_name[name] = m
    files: dict[str, bytes] = {}
    for name in _of_study(sorted(n for n in by_name if "/" not in n), found):
        left = MAX_BYTES - sum(map(len, files.values()))
        try:
            with archive.open(by_name[name]) as stream:
                files[name] = _within(stream.read(left + 1), left)
        except Unreadable as fault:
            found.add(name, fault.came, fault.expected)
        except Exception as error:  # as above
            found.add(name, f"cannot be unpacked ({said(error)})", "a file of a whole zip")
    return files


def _of_study(names: Sequence[str], found: Found) -> list[str]:
    """The files that belong to a study; those that look like a table and are none are told."""
    kept: dict[str, str] = {}
    for name in names:
        stem, suffix = PurePosixPath(name).stem.lower(), PurePosixPath(name).suffix.lower()
        if name.startswith((".", "~$")):
            continue  # hidden files and those an open spreadsheet leaves
        if name == HEAD or (suffix == ".csv" and stem in TABLES):
            if name.lower() in kept:
                found.add(name, f"stands beside {kept[name.lower()]}", "each table once")
            kept[name.lower()] = name
        elif suffix in (".csv", ".json", ".tsv"):
            every = f"one of {HEAD}, " + ", ".join(f"{t}.csv" for t in TABLES)
            guess = close(stem, tuple(TABLES))
            found.add(name, "is no table of a study", f"{guess}.csv" if guess else every)
        elif stem in TABLES:
            found.add(name, "is no CSV file", f"{stem}.csv; save it as 'CSV UTF-8'")
    return list(kept.values())


# --- From files to a study --------------------------------------------------------------------


def _parse(files: Mapping[str, bytes], found: Found, origin: str) -> Study | None:
    """The study of a folder's files by name."""
    names = {t: n for n in files for t in TABLES if n.lower() == f"{t}.csv"}
    # A file told of before may be the table that seems to be missing.
    doubt = found.count > 0
    info: StudyInfo | None = None
    notes: tuple[DataNote, ...] = ()
    if HEAD in files:
        head = _object(HEAD, files[HEAD], found)
        if head is not None:
            info, notes = _head(HEAD, head, found)
    elif HEAD not in {p.file for p in found.kept}:
        found.add(HEAD, "is missing", "the head of the study beside its CSV tables")
    tables = {
        t: csv_rows(n, t, files[n], found) if (n := names.get(t)) else Rows(table=t, broken=doubt)
        for t in TABLES
    }
    lines = [
        f"{n} {hashlib.sha256(files[n]).hexdigest()}" for n in (HEAD, *names.values()) if n in files
    ]
    sha256 = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    place = {t: names.get(t, f"{t}.csv") for t in TABLES}
    return _tied(info, notes, tables, place, found, sha256, origin)


def _parse_one(name: str, data: bytes, found: Found, origin: str) -> Study | None:
    """The study of a file in the one-file form."""
    whole = _object(name, data, found)
    if whole is None:
        return None
    info, notes = _head(name, whole, found, "tables")
    given = whole.get("tables")
    if not isinstance(given, dict):
        found.add(name, _came(whole, "tables"), "an object of tables", column="tables")
        given = {}
    _twice(name, given, found)
    tables: dict[str, Rows] = {}
    for table, rows in given.items():
        if table in TABLES:
            tables[table] = json_rows(name, table, rows, found, TABLES[table])
        else:
            column, came, expected = unknown(table, tuple(TABLES), "table of a study")
            found.add(name, came, expected, column=f"tables.{column}")
    sha256 = hashlib.sha256(data).hexdigest()
    return _tied(info, notes, tables, dict.fromkeys(TABLES, name), found, sha256, origin)


def _tied(
    info: StudyInfo | None,
    notes: tuple[DataNote, ...],
    tables: Mapping[str, Rows],
    place: Mapping[str, str],
    found: Found,
    sha256: str,
    origin: str,
) -> Study | None:
    """The study when keys and references hold and nothing was wrong before."""
    # Stand-ins go last: no sound row is told to repeat one.
    rows = {t: [*held.made, *(row for row, _ in held.stand_ins)] for t, held in tables.items()}
    lines = {t: [*held.numbers, *(n for _, n in held.stand_ins)] for t, held in tables.items()}
    broken = {t for t, held in tables.items() if held.broken}
    known = info or StudyInfo(study_id="unknown", title="unknown")
    for table, i, name, why in study_faults(known, rows, lines):
        row = rows[table][i]
        told_before = isinstance(row, SimpleNamespace) and getattr(row, name) is None
        # Without a head it is not known which of two scores of one day is analysed.
        unsure = REFERENCES.get(name) in broken or (info is None and name == "day")
        if not told_before and not unsure:
            found.add(place[table], *split(why), table=table, row=lines[table][i], column=name)
    if found.count or info is None:
        return None
    held = {table: tuple(made) for table, made in rows.items()}
    return Study(info=info, notes=notes, sha256=sha256, origin=origin, **held)


# --- The head ---------------------------------------------------------------------------------


def _object(name: str, data: bytes, found: Found) -> dict[str, Any] | None:
    """The JSON object of a file, or None with the fault told."""
    wanted = "JSON as trocar writes it"
    try:
        content = json.loads(text_of(data), object_pairs_hook=Object.paired)
    except Unreadable as fault:
        found.add(name, fault.came, fault.expected, row=fault.line)
    except json.JSONDecodeError as error:
        came = f"is not JSON ({error.msg}, character {error.colno})"
        found.add(name, came, wanted, row=error.lineno)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, deep nesting
        deep = isinstance(error, RecursionError)
        found.add(name, f"is not JSON ({'nested too deep' if deep else said(error)})", wanted)
    else:
        if isinstance(content, dict):
            return content
        found.add(name, f"is {shown(content)}", "an object with schema, version and study")
    return None


def _head(
    name: str, head: dict[str, Any], found: Found, *more: str
) -> tuple[StudyInfo | None, tuple[DataNote, ...]]:
    """What a study is, from the head of its JSON."""
    _twice(name, head, found)
    keys = ("schema", "version", "study", "notes", *more)
    for key in head:
        if key == "tables" and key not in keys:
            found.add(name, "stand in the head", "the tables in CSV files beside it", column=key)
        elif key not in keys:
            column, came, expected = unknown(key, keys, "part of a study")
            found.add(name, came, expected, column=column)
    version = head.get("version")
    if head.get("schema") != SCHEMA:
        found.add(name, _came(head, "schema"), repr(SCHEMA), column="schema")
    elif type(version) is not int or version != VERSION:
        newer = type(version) is int and version > VERSION
        hint = "; a newer trocar wrote it, so update trocar" if newer else ""
        found.add(name, _came(head, "version"), f"{VERSION}{hint}", column="version")
    info: list[StudyInfo] = []
    if isinstance(head.get("study"), dict):
        info = json_rows(name, "", [head["study"]], found, StudyInfo, only="study").made
    else:
        found.add(name, _came(head, "study"), "an object that says what it is", column="study")
    notes = json_rows(name, "notes", head.get("notes", []), found, DataNote).made
    return (info[0] if info else None), tuple(notes)


def _came(head: Mapping[str, Any], key: str) -> str:
    return f"is {shown(head[key])}" if head.get(key) is not None else "is missing"


def _twice(name: str, given: Any, found: Found) -> None:
    for key in getattr(given, "twice", ()):
        found.add(name, "is given twice", "each once", column=shown(key).strip("'"))
