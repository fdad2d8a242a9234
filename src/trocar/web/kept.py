"""Files kept by their hash: the same content is one file, and a name that was told stays true."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
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


def holds(name: str) -> bool:
    """Whether a file of this name is kept."""
    return _NAME.match(name) is not None and (Path(settings.KEPT_FILES) / name).is_file()


def kept(name: str) -> bytes:
    """The content of a name, or 404 when it is none or not what its name tells."""
    place = Path(settings.KEPT_FILES) / name
    if not _NAME.match(name) or not place.is_file():
        raise Http404
    data = place.read_bytes()
    if hashlib.sha256(data).hexdigest() != name.partition(".")[0]:
        raise Http404
    return data
