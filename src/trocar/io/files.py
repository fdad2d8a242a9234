"""Which files are in a folder, a zip or one file? Opened one by one, never unpacked to disk."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from trocar.errors import InputError

# Guards against archives made to exhaust a machine. A CT examination is a few GB in all and one
# enhanced multi-frame object below 2 GB; the sizes are counted while reading, not believed.
MAX_MEMBER_BYTES = 2 << 30
MAX_TOTAL_BYTES = 16 << 30
MAX_FILES = 200_000
MAX_ARCHIVES = 64  # in one folder; each stays open while it is read

# What reading raises for a damaged or encrypted file or archive.
_UNREADABLE = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)

IN_ZIP = "::"  # between the archive and the member in a source text


@dataclass(frozen=True, eq=False, kw_only=True)
class Item:
    """One file, on disk or inside a zip; ``name`` is what a message calls it."""

    name: str
    path: Path
    archive: zipfile.ZipFile | None = None
    member: str = ""

    @property
    def source(self) -> str:
        """Where the file lies, as text from which :func:`open_source` finds it again."""
        return f"{self.path}{IN_ZIP}{self.member}" if self.archive else str(self.path)

    @property
    def size(self) -> int:
        """Bytes of the file (for a zip: as its directory claims)."""
        return (
            self.archive.getinfo(self.member).file_size
            if self.archive
            else os.stat(self.path).st_size
        )

    def head(self, count: int) -> bytes:
        """The first bytes, for telling what kind of file it is."""
        return self._first(count)

    def open(self) -> BinaryIO:
        """A seekable stream: the file itself, or the zip member unpacked in memory."""
        if self.archive is not None:
            return BytesIO(self.read())
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {error}") from error

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from a place in a file on disk; returns how many bytes there were."""
        try:
            with open(self.path, "rb", buffering=0) as stream:
                stream.seek(offset)
                return stream.readinto(buffer) or 0
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {error}") from error

    def read(self) -> bytes:
        """All bytes; raises InputError above the size guard."""
        data = self._first(MAX_MEMBER_BYTES + 1)
        if len(data) > MAX_MEMBER_BYTES:
            raise InputError(
                f"{self.name} unpacks to more than {MAX_MEMBER_BYTES >> 30} GB; "
                "this is no CT image; take it out of the archive"
            )
        return data

    def _first(self, count: int) -> bytes:
        try:
            if self.archive is None:
                with open(self.path, "rb") as stream:
                    return stream.read(count)
            with self.archive.open(self.member) as member:
                return member.read(count)
        except _UNREADABLE as error:
            why = "it is encrypted" if "password" in str(error) else str(error)
            raise InputError(f"{self.name} cannot be read: {why}") from error


@contextmanager
def open_items(path: str | Path) -> Iterator[tuple[Item, ...]]:
    """The files behind a path (a folder with all below it, a zip, or one file), in name order.

    A zip is read in place: nothing is written to disk, so that names in it can lead nowhere.
    Raises InputError when there is nothing there or the archive is larger than the guards allow.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(f"{place} does not exist; give a folder, a zip or a file with images")
    if place.is_dir():
        yield _in_folder(place)
    elif zipfile.is_zipfile(place):
        try:
            archive = zipfile.ZipFile(place)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise InputError(f"{place.name} is a damaged zip archive ({error})") from error
        with archive:
            yield _in_zip(place, archive)
    else:
        yield (Item(name=place.name, path=place),)


def is_zip(item: Item) -> bool:
    """Is this, by its name, an archive of other files?"""
    return item.name.lower().endswith(".zip")


@contextmanager
def inside_zips(items: Sequence[Item]) -> Iterator[tuple[tuple[Item, ...], dict[str, str]]]:
    """The same files with what is in the zips among them, and why a zip could not be opened.

    Zips on disk only: one inside another is left closed. All together keep within the guards of
    one archive, and none is opened when there are more than ``MAX_ARCHIVES``.
    """
    zips = [item for item in items if is_zip(item) and item.archive is None]
    found = [item for item in items if not is_zip(item) or item.archive is not None]
    refused: dict[str, str] = {}
    if len(zips) > MAX_ARCHIVES:
        refused = {z.name: f"one of {len(zips)} zips; give it by itself" for z in zips}
        zips = []
    left = MAX_TOTAL_BYTES
    with ExitStack() as stack:
        for place in zips:
            try:
                inner = stack.enter_context(open_items(place.path))
            except InputError as error:
                refused[place.name] = str(error)
                continue
            size = sum(item.size for item in inner if item.archive is not None)
            if inner[:1] and inner[0].archive is None:
                refused[place.name] = f"{place.name} is a damaged zip archive"
            elif size > left or len(found) + len(inner) > MAX_FILES:
                refused[place.name] = "the zips of this folder hold too much; give this by itself"
            else:
                left -= size
                found += [replace(item, name=f"{place.name}/{item.name}") for item in inner]
        yield tuple(found), refused


def open_source(source: str) -> BinaryIO:
    """The stream of a file named by :attr:`Item.source`."""
    place, _, member = source.partition(IN_ZIP)
    try:
        if not member:
            return Path(place).open("rb")
        with zipfile.ZipFile(place) as archive:
            return BytesIO(archive.read(member))
    except (*_UNREADABLE, KeyError) as error:
        raise InputError(
            f"the source image {Path(place).name} is no longer where it was read ({error}); "
            "put it back or plan again"
        ) from error


def _in_folder(folder: Path) -> tuple[Item, ...]:
    # Links to folders are not followed: they can run in circles.
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(d for d in folders if not d.startswith("."))
        here = Path(root)
        for name in sorted(names):
            if not name.startswith(".") and (here / name).is_file():
                found.append(
                    Item(name=(here / name).relative_to(folder).as_posix(), path=here / name)
                )
        if len(found) > MAX_FILES:
            raise InputError(
                f"{folder} holds more than {MAX_FILES} files; give the folder of one examination"
            )
    return tuple(found)


def _in_zip(place: Path, archive: zipfile.ZipFile) -> tuple[Item, ...]:
    members = [m for m in archive.infolist() if not m.is_dir()]
    if len(members) > MAX_FILES:
        raise InputError(
            f"{place.name} holds {len(members)} files; give an archive of one examination"
        )
    total = sum(m.file_size for m in members)
    if total > MAX_TOTAL_BYTES:
        raise InputError(
            f"{place.name} would unpack to {total / 2**30:.0f} GB, more than the "
            f"{MAX_TOTAL_BYTES >> 30} GB trocar reads; give an archive of one examination"
        )
    # Hidden files and the shadow files a Mac adds to an archive.
    names = {m.filename for m in members if not m.filename.startswith("__MACOSX/")}
    names = {n for n in names if not n.split("/")[-1].startswith(".")}
    return tuple(Item(name=n, path=place, archive=archive, member=n) for n in sorted(names))
