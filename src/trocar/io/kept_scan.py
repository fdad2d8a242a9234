"""A CT in one file that is opened without being read: its header, then its voxels as they are.

A page that shows a part of a large CT reads that part alone. For trocar's own keeping; what others
read is written by ``volumes`` and ``exports``.
"""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from trocar.errors import InputError
from trocar.io.exact import read_exact, write_exact
from trocar.io.formats import write_whole
from trocar.model.result import Scan
from trocar.model.space import Volume

_MAGIC = b"trocar CT 1\n"
_PAGE = 4096  # voxels begin at a page of memory
_LONGEST_HEAD = 16 << 20
_TYPES = ("<i2", "<f4")
_TOLD = tuple(f.name for f in fields(Scan) if f.name not in ("volume", "source"))


def keep_scan(path: str | Path, scan: Scan) -> Path:
    """Writes a CT, whole or not at all; what it was read from is left out."""
    values = np.ascontiguousarray(scan.volume.values)
    kind = values.dtype.newbyteorder("<").str
    if kind not in _TYPES:
        values = values.astype("<f4")
        kind = "<f4"
    told = {name: getattr(scan, name) for name in _TOLD}
    told |= {"grid": scan.volume.grid, "unit": scan.volume.unit, "type": kind}

    def write(part: Path) -> None:
        with tempfile.TemporaryDirectory(dir=part.parent) as folder:
            head = write_exact(Path(folder) / "head.npz", told).read_bytes()
        with part.open("wb") as stream:
            stream.write(_MAGIC + len(head).to_bytes(8, "little") + head)
            stream.write(b"\0" * (-stream.tell() % _PAGE))
            values.astype(kind, copy=False).tofile(stream)

    return write_whole(Path(path), write)


def open_scan(path: str | Path) -> Scan:
    """The CT of a file, its voxels read only where they are looked at.

    Raises InputError for a file that is not there or does not hold one whole.
    """
    place = Path(path)
    try:
        opened = place.open("rb")
    except OSError as error:
        raise InputError(
            f"{place.name} cannot be read ({error.strerror}); expected a CT that trocar kept"
        ) from error
    with opened as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise InputError(f"{place.name} is no kept CT; expected one that trocar kept")
        length = int.from_bytes(stream.read(8), "little")
        if length > _LONGEST_HEAD:
            raise InputError(f"{place.name} is damaged; its header claims {length} bytes")
        with tempfile.TemporaryDirectory() as folder:
            head = Path(folder) / "head.npz"
            head.write_bytes(stream.read(length))
            try:
                told = read_exact(head)
            except InputError as error:
                raise InputError(f"{place.name} is damaged: {error}") from error
        begin = stream.tell() + -stream.tell() % _PAGE
    try:
        grid, unit, kind = (told.pop(name) for name in ("grid", "unit", "type"))
        # A plain array, private to who opened it: kernels take no other kind.
        mapped = np.memmap(place, dtype=kind, mode="c", offset=begin, shape=grid.shape)
        values = mapped.view(np.ndarray)
        return Scan(volume=Volume(grid=grid, values=values, unit=unit), **told)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{place.name} is damaged ({error})") from error
