"""Runs that an interrupted work had finished: one file each, in a hidden folder, until all is done.

A run is known by a hash of all it rests on, so that what is read back is what would be computed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import trocar
from trocar.errors import InputError
from trocar.facts import source as facts_source
from trocar.io.exact import fingerprint, read_exact, write_exact

T = TypeVar("T")

FOLDER = ".unfinished"
_COMPUTING = ("numpy", "scipy", "numba")  # packages whose arithmetic a result rests on


class Unfinished:
    """Makes each run once, and keeps it in ``folder`` for a next start.

    ``given`` is what all runs rest on (records, arrays, plain values); the program, its facts and
    the packages that compute are counted in.
    """

    def __init__(self, folder: str | Path, *given: Any) -> None:
        self._place = Path(folder) / FOLDER
        self._given = fingerprint((given, program()))
        self._before = {p.name for p in self._place.glob("*.npz")}
        self._asked: set[str] = set()
        self._read: set[str] = set()

    @property
    def runs(self) -> int:
        """How many different runs were asked for."""
        return len(self._asked)

    @property
    def resumed(self) -> int:
        """How many of them an earlier start had finished."""
        return len(self._read)

    def once(self, asked: Any, make: Callable[[], T], kind: type[T]) -> T:
        """The run that ``asked`` names: read if it was finished, else made and kept.

        A file that is damaged, or holds no ``kind``, is made anew.
        """
        path = self._place / f"{fingerprint((self._given, asked))}.npz"
        self._asked.add(path.name)
        with suppress(InputError):
            found = read_exact(path)
            if isinstance(found, kind):
                self._read |= {path.name} & self._before
                return found
        self._before.discard(path.name)
        made = make()
        with suppress(OSError):  # a full disk must not cost the run itself
            self._place.mkdir(parents=True, exist_ok=True)
            write_exact(path, made)
        return made


def kept_runs(folder: str | Path) -> int:
    """How many finished runs lie in a folder from an earlier start, whatever they belong to."""
    return len(list((Path(folder) / FOLDER).glob("*.npz")))


def forget(folder: str | Path) -> None:
    """Remove what was kept: the work is done."""
    shutil.rmtree(Path(folder) / FOLDER, ignore_errors=True)


@cache
def program() -> tuple[Any, ...]:
    """Version and code of trocar, its facts, and the packages that compute."""
    code = hashlib.sha256()
    for file in sorted(Path(trocar.__file__).parent.rglob("*.py")):
        code.update(file.read_bytes())  # a checkout changes without its version
    packages = {name: metadata.version(name) for name in _COMPUTING}
    return trocar.__version__, code.hexdigest(), facts_source.versions(), packages
