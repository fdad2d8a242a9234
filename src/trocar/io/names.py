"""What do the numbers of a label map mean: names in the file, beside it, or told by their order."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts.source import load
from trocar.io.formats import stem_of
from trocar.model.space import Grid

Names = Mapping[int, str] | str | Path


def names_for(
    given: Names | None, path: Path, inside: dict[int, str], values: NDArray[Any], grid: Grid
) -> dict[int, str]:
    """Names of the labels of a file: those given, else inside it, beside it, or by their order."""
    if isinstance(given, Mapping):
        return {int(k): str(v) for k, v in given.items()}
    if given is not None:
        return _names_in(Path(given))
    return inside or names_beside(path) or _names_by_order(path.name, values, grid)


def names_inside(path: Path) -> dict[int, str]:
    """Names from the label table TotalSegmentator and Connectome tools keep in a NIfTI header."""
    import nibabel

    for extension in nibabel.load(path).header.extensions:
        text = extension.get_content()
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        found = re.findall(r'<Label\s[^>]*Key="(\d+)"[^>]*>\s*<!\[CDATA\[(.*?)\]\]>', text)
        if found:
            return {int(key): name for key, name in found if int(key)}
    return {}


def names_beside(path: Path) -> dict[int, str]:
    """Names from a CSV or JSON beside the file with its name (or ``structures`` beside ``labels``).

    A table with another name may belong to another map in the folder and is not taken.
    """
    stems = (stem_of(path), *(("structures",) if stem_of(path) == "labels" else ()))
    for stem in stems:
        for suffix in (".json", ".csv"):
            beside = path.parent / f"{stem}{suffix}"
            if beside.is_file():
                return _names_in(beside)
    return {}


def _names_in(path: Path) -> dict[int, str]:
    """Numbers and names from a CSV (columns id and structure or name) or a JSON table."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _json_rows(json.loads(text)) if path.suffix == ".json" else _csv_rows(text)
        found = {int(number): str(name) for number, name in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path.name} does not name labels ({error}); give a CSV with the columns id and name, "
            'or a JSON such as {"1": "vertebrae_L1"}'
        ) from error
    return {number: name for number, name in found.items() if number > 0}


def _csv_rows(text: str) -> list[tuple[Any, Any]]:
    table = list(csv.DictReader(text.splitlines()))
    columns = {str(c).strip().lower(): c for c in (table[0] if table else {})}
    number = _one_of(columns, ("id", "label", "value", "number", "index"))
    name = _one_of(columns, ("structure", "name", "class"))
    return [(row[number], row[name]) for row in table]


def _one_of(columns: Mapping[str, str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in columns:
            return columns[name]
    raise KeyError(f"no column {' or '.join(wanted)}")


def _json_rows(content: Any) -> list[tuple[Any, Any]]:
    if isinstance(content, Mapping) and "labels" in content:
        content = content["labels"]
    if isinstance(content, Mapping):
        numbered = all(str(key).lstrip("-").isdigit() for key in content)
        return [
            (k, v["name"] if isinstance(v, Mapping) else v) if numbered else (v, k)
            for k, v in content.items()
        ]
    return [(row.get("value", row.get("id")), row["name"]) for row in content]


def _names_by_order(what: str, values: NDArray[Any], grid: Grid) -> dict[int, str]:
    """Whose numbers are these? VerSe counts vertebrae downward, TotalSegmentator upward.

    A numbering is believed only when the vertebrae it names lie along the spine in its order.
    """
    numbers = [int(v) for v in np.unique(values) if v]
    up_mm = {n: _height_mm(values == n, grid) for n in numbers}
    for key in ("verse", "totalsegmentator"):
        table = dict(enumerate(load("labels").data[key], start=1))
        spine = [n for n in numbers if table.get(n, "").startswith(("vertebrae_", "sacrum"))]
        heights = [up_mm[n] for n in sorted(spine, key=lambda n: _level(table[n]))]
        falls = all(a > b for a, b in pairwise(heights))
        if len(spine) > 1 and falls and all(n in table for n in numbers):
            return table
    raise InputError(
        f"{what} holds the labels {listed(numbers)} without names, and they run along the spine "
        "neither as TotalSegmentator's nor as VerSe's do; put a CSV with the columns id and name "
        "beside it"
    )


def _height_mm(inside: NDArray[np.bool_], grid: Grid) -> float:
    index = [float(i.mean()) for i in np.nonzero(inside)]
    return float(grid.to_world(index)[2])


def _level(name: str) -> float:
    """Rank of a vertebra from head to foot."""
    letter, digits = re.match(r"(?:vertebrae_)?([A-Za-z])[a-z]*(\d*)", name).groups()  # type: ignore[union-attr]
    # The sacrum as a whole has its centre below S1.
    return {"C": 0, "T": 100, "L": 200, "S": 300}[letter.upper()] + int(digits or 50)


def listed(numbers: list[int]) -> str:
    """Numbers in words, cut after a dozen."""
    return ", ".join(map(str, numbers[:12])) + (", ..." if len(numbers) > 12 else "")
