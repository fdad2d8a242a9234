"""The plan that a folder holds, to go on from: anatomy and plan kept exactly beside the sheet.

``plan.npz`` belongs to the ``plan.json`` it lies beside (by its hash) and, unlike that, remembers
where the CT was: it is for this machine.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trocar.errors import InputError
from trocar.io.exact import read_exact, write_exact
from trocar.model.plan import Plan
from trocar.model.result import Anatomy, Scan

KEPT_FORMAT = "trocar kept plan 1"  # raised when an older one could not be gone on from
_KEPT, _TOLD = "plan.npz", "plan.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class KeptPlan:
    """A plan with its anatomy, the hash of the CT, and where that may lie, likeliest first."""

    anatomy: Anatomy
    plan: Plan
    sha256: str
    places: tuple[Path, ...]
    series: str | None


def holds_plan(path: str | Path) -> bool:
    """Whether this is a folder that a plan was written into."""
    return (Path(path) / _TOLD).is_file()


def keep_plan(
    folder: str | Path,
    scan: Scan,
    anatomy: Anatomy,
    plan: Plan,
    *,
    ct: str | Path | None = None,
    series: str | None = None,
    home: str | Path | None = None,
) -> Path:
    """Writes what is needed to go on from the plan whose ``plan.json`` lies in ``folder``.

    ``ct`` is the path the scan was read from (None: it never was a file), ``series`` which of it.
    ``home`` is the folder that the files will be moved into, where it is another.
    """
    place = Path(folder)
    kept = {
        "format": KEPT_FORMAT,
        "told": _hash(place / _TOLD),
        "sha256": scan.sha256,
        "places": () if ct is None else _places(Path(ct), place if home is None else Path(home)),
        "series": series,
        "anatomy": anatomy,
        "plan": plan,
    }
    return write_exact(place / _KEPT, kept)


def read_plan(folder: str | Path) -> KeptPlan:
    """The plan in a folder, equal bit for bit to what was planned.

    Raises InputError when there is none, when its ``plan.json`` is another's or was changed, or
    when another version of trocar wrote it.
    """
    place = Path(folder)
    again = "plan again, or give the CT itself with --site and --lesion"
    if not holds_plan(place):
        raise InputError(f"{place} holds no plan; give the folder that 'trocar plan' wrote")
    if not (place / _KEPT).is_file():
        raise InputError(f"{place} holds a plan but no {_KEPT} to go on from; {again}")
    try:
        kept: dict[str, Any] = read_exact(place / _KEPT)
        if kept["format"] != KEPT_FORMAT:
            raise InputError(f"it is {kept['format']!r}; this version reads {KEPT_FORMAT!r}")
        same = kept["told"] == _hash(place / _TOLD)
        found = KeptPlan(
            anatomy=kept["anatomy"],
            plan=kept["plan"],
            sha256=kept["sha256"],
            places=tuple(Path(os.path.abspath(place / p)) for p in kept["places"]),
            series=kept["series"],
        )
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"the plan in {place} cannot be gone on from ({error}); {again}") from None
    if not same:
        raise InputError(
            f"{place / _TOLD} is not as it was written with this plan, so the two may differ; "
            f"{again}"
        )
    return found


def _places(ct: Path, folder: Path) -> tuple[str, ...]:
    """Where the CT lies: seen from the folder (both may move together), then as it was given."""
    seen = []
    with suppress(ValueError):  # on another drive
        seen.append(os.path.relpath(ct, folder))
    return (*seen, str(ct)) if ct.is_absolute() else tuple(seen)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
