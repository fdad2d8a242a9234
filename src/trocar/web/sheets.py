"""Tables as CSV and as Excel workbooks, in which no text is ever run as a formula."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from trocar.io.cells import unparse
from trocar.io.exports import plain
from trocar.model.columns import columns
from trocar.model.study import TABLES, Study

Sheet = tuple[str, Sequence[str], Iterable[Sequence[Any]]]  # name, header, rows
_LONGEST_CELL = 32767
_LONGEST_TITLE = 31


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """One table as CSV with a mark that tells spreadsheets of UTF-8."""
    out = io.StringIO(newline="")
    sheet = csv.writer(out, lineterminator="\n")
    sheet.writerow([unparse(name) for name in header])
    sheet.writerows([unparse(_cell(v)) for v in row] for row in rows)
    return "\ufeff" + out.getvalue()


def zipped(files: Mapping[str, str]) -> bytes:
    """Texts as a zip; the same texts give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text.encode())
    return out.getvalue()


def workbook(sheets: Iterable[Sheet]) -> bytes:
    """An Excel workbook; every text is a text, whatever it begins with."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    book = Workbook(write_only=True)
    for title, header, rows in sheets:
        sheet = book.create_sheet(title[:_LONGEST_TITLE])
        sheet.freeze_panes = "A2"

        def cell(value: Any, sheet: Any = sheet) -> Any:
            if value is None:
                return None
            made = WriteOnlyCell(sheet, value=None)
            if isinstance(value, str):
                # A text is set past openpyxl's guess, which takes "=" for a formula.
                made._value, made.data_type = _excel(value)[:_LONGEST_CELL], "s"
            else:
                made.value = value
            return made

        sheet.append([cell(name) for name in header])
        for row in rows:
            sheet.append([cell(_yes_no(_cell(v))) for v in row])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def study_sheets(study: Study) -> list[Sheet]:
    """A study as the sheets of a workbook; empty tables are left out."""
    info = [(c.name, getattr(study.info, c.name)) for c in columns(type(study.info))]
    sheets: list[Sheet] = [("study", ("name", "value"), info)]
    if study.notes:
        sheets.append(("notes", ("note_id", "text"), [(n.note_id, n.text) for n in study.notes]))
    for table, cls in TABLES.items():
        rows = getattr(study, table)
        if rows:
            names = [c.name for c in columns(cls)]
            sheets.append((table, names, [[getattr(r, n) for n in names] for r in rows]))
    return sheets


def records_sheet(name: str, records: Sequence[Any]) -> Sheet:
    """Records as a sheet, one a row; what is no single value stands in its cell as JSON."""
    first = next((r for r in records if is_dataclass(r)), None)
    if first is None:
        return name, (), ()
    names = [f.name for f in fields(first) if not callable(getattr(first, f.name))]
    return name, names, [[plain(getattr(r, n)) for n in names] for r in records]


def _cell(value: Any) -> Any:
    if isinstance(value, tuple) and all(isinstance(v, str) for v in value):
        return unparse(value) if not value or unparse(value)[0] != "'" else ";".join(value)
    if isinstance(value, list | dict | tuple):
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return "; ".join(value)
        return json.dumps(plain(value), ensure_ascii=False)
    return value


def _yes_no(value: Any) -> Any:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _excel(text: str) -> str:
    """A text without what XML cannot hold."""
    return "".join(c for c in text if c >= " " or c in "\t\n")
