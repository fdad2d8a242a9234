"""A study into files: a folder of CSV tables, a zip of it, or one JSON file, whole or not at all.

Also what a person or a program needs to make one: an empty study and its JSON Schema.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from trocar.errors import InputError
from trocar.io.cells import plain, unparse
from trocar.model.columns import LONGEST_TEXT, Column, columns
from trocar.model.study import TABLES, DataNote, Study, StudyInfo

SCHEMA, VERSION = "trocar-study", 1
HEAD, README = "study.json", "README.txt"
# What desktops drop into folders; it may go when a study is written anew.
_DROPPED = (".DS_Store", "Thumbs.db", "desktop.ini")


def write_study(path: str | Path, study: Study) -> Path:
    """Keep a study: one file when the name ends in .json, a zip for .zip, else a folder.

    It is made under another name and renamed when whole. A study there before is replaced (its
    README.txt stays); raises InputError when the folder holds anything else or cannot be written.
    """
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix.lower() == ".json":
            _put(place, _one_file(study).encode())
        elif place.suffix.lower() == ".zip":
            _put(place, _zipped(_files(study), place.stem))
        else:
            _put_folder(place, _files(study))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the study cannot be written to {place} ({error}); give another place"
        ) from error
    return place


def template(path: str | Path) -> Path:
    """An empty study folder to start from: every table with its header, and what it may hold.

    Raises InputError when there is something at that place already.
    """
    place = Path(path)
    info = StudyInfo(study_id="my-study", title="Title of the study")
    files = {HEAD: _head(info, ()) + "\n", README: readme()}
    for table, cls in TABLES.items():
        files[f"{table}.csv"] = ",".join(c.name for c in columns(cls)) + "\n"
    try:
        if place.exists() and not (place.is_dir() and not any(place.iterdir())):
            raise InputError(f"{place} is there already; give a folder that is not, or is empty")
        place.parent.mkdir(parents=True, exist_ok=True)
        _put_folder(place, files)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the study cannot be written to {place} ({error}); give another place"
        ) from error
    return place


# --- Text -------------------------------------------------------------------------------------


def _files(study: Study) -> dict[str, str]:
    """The files of a study's folder; empty tables are left out."""
    files = {HEAD: _head(study.info, study.notes) + "\n"}
    for table, cls in TABLES.items():
        rows = getattr(study, table)
        if rows:
            files[f"{table}.csv"] = _csv(cls, rows)
    return files


def _csv(cls: type, rows: Sequence[Any]) -> str:
    """A table with the columns that hold something."""
    held = [c.name for c in columns(cls) if any(getattr(row, c.name) is not None for row in rows)]
    out = io.StringIO(newline="")
    sheet = csv.writer(out, lineterminator="\n")
    sheet.writerow(held)
    sheet.writerows([unparse(getattr(row, name)) for name in held] for row in rows)
    text = out.getvalue()
    # Without a mark Excel would take letters beyond ASCII for others.
    return text if text.isascii() else "\ufeff" + text


def _row(row: Any) -> dict[str, Any]:
    values = {c.name: getattr(row, c.name) for c in columns(type(row))}
    return {name: plain(value) for name, value in values.items() if value is not None}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _listed(rows: Sequence[Any], indent: str) -> str:
    """A list of rows, one a line, so that a change of one row is a change of one line."""
    if not rows:
        return "[]"
    lines = (f"\n{indent}  {_json(_row(row))}" for row in rows)
    return f"[{','.join(lines)}\n{indent}]"


def _head(info: StudyInfo, notes: Sequence[DataNote], tables: str = "") -> str:
    about = json.dumps(_row(info), ensure_ascii=False, indent=2).replace("\n", "\n  ")
    return (
        f'{{\n  "schema": "{SCHEMA}",\n  "version": {VERSION},\n  "study": {about},\n'
        f'  "notes": {_listed(notes, "  ")}{tables}\n}}'
    )


def _one_file(study: Study) -> str:
    held = {table: getattr(study, table) for table in TABLES if getattr(study, table)}
    tables = ",".join(f'\n    "{t}": {_listed(rows, "    ")}' for t, rows in held.items())
    return _head(study.info, study.notes, f',\n  "tables": {{{tables}\n  }}') + "\n"


# --- Files ------------------------------------------------------------------------------------


def _put(place: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{place.name[:40]}.", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, place)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _zipped(files: Mapping[str, str], top: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            # A fixed date: the same study gives the same bytes.
            info = zipfile.ZipInfo(f"{top}/{name}", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text.encode())
    return out.getvalue()


def _put_folder(place: Path, files: Mapping[str, str]) -> None:
    there = place.exists() or place.is_symlink()
    if there:
        _only_a_study(place)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name[:40]}.", dir=place.parent))
    try:
        fresh, old = work / "new", work / "old"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_bytes(text.encode())
        if there and (place / README).is_file():
            shutil.copy2(place / README, fresh / README)
        if there:
            place.rename(old)
        try:
            fresh.rename(place)
        except OSError:
            if there:
                old.rename(place)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _only_a_study(place: Path) -> None:
    """Raise InputError unless a folder is empty or holds one study's files and nothing else."""
    if not place.is_dir() or place.is_symlink():
        raise InputError(f"{place} is no folder; give a folder, or a name ending in .json or .zip")
    ours = {HEAD, README, *_DROPPED, *(f"{table}.csv" for table in TABLES)}
    names = sorted(p.name for p in place.iterdir())
    others = [name for name in names if name not in ours]
    others += [name for name in names if name in ours and not (place / name).is_file()]
    if names and HEAD not in names:
        others = others or names
    if others:
        some = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        raise InputError(
            f"{place} holds what is no part of a study ({some}); give an empty or a new folder"
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- What a study may hold --------------------------------------------------------------------

_LEAD = """A trocar study
==============

study.json says what the study is; each other file is one table. Open the tables in a spreadsheet
and save them as CSV UTF-8 under the same names. A table without rows may be left out.

- The first row names the columns; their order is free, and those not needed may be left out.
- An empty cell means "not known". Never write 0 or "-" for it.
- yes or no; numbers with a decimal point; lists parted by ";" (none = known to be none of them).
- Dates as 2026-11-25, 2026-11 or 2026. Spreadsheets like to change these, and names such as 007:
  format the columns as text before typing.
- Days count from the lesion's procedure: 0 is just before it, 1 the day after.
- Write nothing that names a person.

"trocar" finds every mistake in one go and says file, row and column.
"""


def readme() -> str:
    """What the tables of a study may hold, as plain text for the folder itself."""
    parts = [_LEAD]
    for table, cls in TABLES.items():
        parts.append(f"\n{table}.csv\n{'-' * (len(table) + 4)}\n{_first_line(cls)}\n\n")
        for c in columns(cls):
            must = " (required)" if c.required else ""
            parts.append(f"{c.name}{must}: {c.help}.\n    {c.expected}\n")
    return "".join(parts)


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


def study_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a study in the one-file form.

    It says what single values may be; that names are unique and references exist, that an interval
    has its ends in order and that a date exists, :func:`trocar.io.records.read_study` checks.
    """
    tables = {
        table: {
            "type": "array",
            "description": _first_line(cls),
            "items": {"$ref": f"#/$defs/{cls.__name__}"},
        }
        for table, cls in TABLES.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "trocar study",
        "type": "object",
        "required": ["schema", "version", "study", "tables"],
        "additionalProperties": False,
        "properties": {
            "schema": {"const": SCHEMA},
            "version": {"const": VERSION},
            "study": {"$ref": "#/$defs/StudyInfo"},
            "notes": {"type": "array", "items": {"$ref": "#/$defs/DataNote"}},
            "tables": {"type": "object", "additionalProperties": False, "properties": tables},
        },
        "$defs": {
            cls.__name__: _row_schema(cls) for cls in (StudyInfo, DataNote, *TABLES.values())
        },
    }


def _row_schema(cls: type) -> dict[str, Any]:
    return {
        "type": "object",
        "description": _first_line(cls),
        "required": [c.name for c in columns(cls) if c.required],
        "additionalProperties": False,
        "properties": {c.name: _column_schema(c) for c in columns(cls)},
    }


def _column_schema(c: Column) -> dict[str, Any]:
    unit = f" ({c.unit})" if c.unit else ""
    kinds = {"number": "number", "whole": "integer", "yes/no": "boolean", "list": "array"}
    kind = kinds.get(c.kind, "string")
    out: dict[str, Any] = {"description": f"{c.help}{unit}"}
    out["type"] = kind if c.required else [kind, "null"]
    if c.kind == "list":
        items = {"enum": list(c.choices)} if c.choices else {"type": "string", "minLength": 1}
        out |= {"items": items, "uniqueItems": True} | ({"minItems": 1} if c.required else {})
    elif c.choices:
        out["enum"] = [*c.choices] if c.required else [*c.choices, None]
    elif c.kind in ("number", "whole"):
        bounds = {"minimum": c.low, "maximum": c.high}
        out |= {name: bound for name, bound in bounds.items() if bound is not None}
    elif c.kind == "date":
        out["pattern"] = r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$"
    elif c.identifier:
        out |= {"pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": LONGEST_TEXT}
    else:
        out |= {"minLength": 1, "maxLength": LONGEST_TEXT}
    return out
