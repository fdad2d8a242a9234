"""Files kept by their hash: the same content is one file, and a name that was told stays true."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from functools import cache
from pathlib import Path

from csp.constants import NONE, SELF, UNSAFE_INLINE
from django.conf import settings
from django.http import Http404

_NAME = re.compile(r"^[0-9a-f]{64}\.[a-z]{2,4}$")


def keep(data: bytes, suffix: str) -> str:
    """Keep content; returns its name, the hash with the suffix."""
    name = f"{hashlib.sha256(data).hexdigest()}.{suffix}"
    folder = Path(settings.KEPT_FILES)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = folder / name
    if not place.exists():
        handle, part = tempfile.mkstemp(prefix=".part-", dir=folder)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(part, place)
    return name


def keep_file(place: Path) -> str:
    """Keep a whole file that lies in the folder of kept files already, by renaming it."""
    with place.open("rb") as stream:
        name = f"{hashlib.file_digest(stream, 'sha256').hexdigest()}{place.suffix}"
    os.replace(place, Path(settings.KEPT_FILES) / name)
    return name


# How a self-contained sheet is shown: it runs nothing and asks nobody for anything.
SHEET_POLICY = {
    "default-src": [NONE],
    "img-src": ["data:"],
    "style-src": [UNSAFE_INLINE],
    "base-uri": [NONE],
    "form-action": [NONE],
    "frame-ancestors": [SELF],
    "sandbox": [""],
}
# One of a plan or a result: its own sliders and viewer run, apart from the site (a sandbox has no
# cookies and is of no origin), and still it asks nobody for anything.
MOVING_SHEET_POLICY = SHEET_POLICY | {
    "img-src": ["data:", "blob:"],
    "script-src": [UNSAFE_INLINE, "blob:"],
    "connect-src": ["data:", "blob:"],
    "sandbox": ["allow-scripts", "allow-modals"],
}


def holds(name: str) -> bool:
    """Whether a file of this name is kept."""
    return _NAME.match(name) is not None and (Path(settings.KEPT_FILES) / name).is_file()


@cache
def _whole(name: str, size: int, changed_ns: int) -> bool:
    """Whether a file is what its name tells; asked once as long as it stays as it is."""
    with (Path(settings.KEPT_FILES) / name).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == name.partition(".")[0]


def place(name: str) -> Path:
    """Where the file of a name lies, or 404 when it is none or not what its name tells."""
    at = Path(settings.KEPT_FILES) / name
    if not holds(name):
        raise Http404
    about = at.stat()
    if not _whole(name, about.st_size, about.st_mtime_ns):
        raise Http404
    return at


def kept(name: str) -> bytes:
    """The content of a name, or 404 when it is none or not what its name tells."""
    if not holds(name):
        raise Http404
    data = (Path(settings.KEPT_FILES) / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != name.partition(".")[0]:
        raise Http404
    return data
