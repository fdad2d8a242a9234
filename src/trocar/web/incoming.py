"""Files that come in: how large they may be, what they must be, and where they wait for a yes.

Each check costs little and comes before the dearer one: the size told, the bytes counted while
they come, the first letters, the table of contents of a zip; only then is anything unpacked.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import StopUpload, TemporaryFileUploadHandler
from django.http import HttpRequest

from trocar.errors import InputError
from trocar.io.arrival import Limits, opened_zip

LARGEST = 32 << 20
LARGEST_UNPACKED = 128 << 20
_LARGEST_HEAD = 4 << 20
_ZIP = Limits(
    file_bytes=LARGEST_UNPACKED,
    total_bytes=LARGEST_UNPACKED,
    contents_bytes=1 << 20,  # a study has some 15 files
    most_times=200,  # a table of text shrinks ten- to fortyfold
    small_bytes=1 << 20,
)
_FORM = 1 << 16  # what a form adds around its file
_KEEP_S = 3600
_TOKEN = re.compile(r"^[A-Za-z0-9_-]{22}\.(zip|json)$")


def largest() -> int:
    """The most bytes a file may have."""
    return int(getattr(settings, "LARGEST_IMPORT", LARGEST))


def largest_request() -> int:
    """The most bytes a request may have: a file and the form around it."""
    return largest() + _FORM


class Counted(TemporaryFileUploadHandler):
    """Writes a file to disk as it comes and stops when it grows too large."""

    def __init__(self, request: HttpRequest | None = None) -> None:
        super().__init__(request)
        self.came = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """One more piece."""
        self.came += len(raw_data)
        if self.came > largest():
            raise StopUpload(connection_reset=True)
        super().receive_data_chunk(raw_data, start)

    def upload_interrupted(self) -> None:
        """Nothing half-written stays."""
        if hasattr(self, "file"):
            self.file.close()


def refuse_large(request: HttpRequest) -> None:
    """Raise InputError by the size the request tells, before any of it is read."""
    told = int(request.META.get("CONTENT_LENGTH") or 0)
    if told > largest_request():
        raise InputError(too_large(told))


def too_large(size: int) -> str:
    """The sentence for a file that is too large."""
    return (
        f"the file has {size / 2**20:.0f} MB; expected at most {largest() / 2**20:.0f} MB "
        "(larger studies are taken in on the server)"
    )


def put_aside(upload: Any) -> str:
    """Check what came and let it wait under a new name, which is returned.

    Raises InputError with one sentence when it is not a zip or JSON of bounded size.
    """
    if upload.size > largest():
        raise InputError(too_large(upload.size))
    if upload.size == 0:
        raise InputError("the file is empty; expected a zip of a study folder or its JSON file")
    folder = _folder()
    _forget_old(folder)
    upload.seek(0)
    start = upload.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    suffix = "zip" if start.startswith(b"PK") else "json" if start.startswith(b"{") else ""
    if not suffix:
        raise InputError(
            "the file is neither a zip nor JSON; expected a zip of a study folder or its JSON file"
        )
    name = f"{secrets.token_urlsafe(16)}.{suffix}"
    place = folder / name
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    upload.seek(0)
    with os.fdopen(handle, "wb") as stream:
        for piece in upload.chunks():
            stream.write(piece)
    try:
        if suffix == "zip":
            check_zip(place)
    except BaseException:
        place.unlink()
        raise
    return name


def check_zip(place: Path) -> None:
    """Raise InputError for an archive that would grow too large or leads outside."""
    with opened_zip(place, limits=_ZIP, holds="a study folder") as (_, members):
        for m in members:
            if m.filename.lower().endswith((".zip", ".gz", ".bz2", ".xz", ".7z")):
                raise InputError("the zip holds another archive; expected the tables of one study")
            if Path(m.filename).name == "study.json" and m.file_size > _LARGEST_HEAD:
                raise InputError(
                    "study.json is too large to be the head of a study; expected < 4 MB"
                )


def waiting(name: Any) -> Path:
    """Where a file waits; InputError when it does not any more."""
    if isinstance(name, str) and _TOKEN.match(name) and (_folder() / name).is_file():
        return _folder() / name
    raise InputError("the file is no longer here; give it once more")


def forget(name: Any) -> None:
    """Remove a file that waited."""
    if isinstance(name, str) and _TOKEN.match(name):
        (_folder() / name).unlink(missing_ok=True)


def sha256_of(place: Path) -> str:
    """The hash of a file's bytes."""
    with place.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folder() -> Path:
    folder = Path(settings.KEPT_FILES).parent / "incoming"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _forget_old(folder: Path) -> None:
    now = time.time()
    for place in folder.iterdir():
        if now - place.stat().st_mtime > _KEEP_S:
            place.unlink(missing_ok=True)
