"""Images on their way in: file by file into a folder of their own, until they are taken in.

What lies there may name a patient. It is out of everybody's reach but the site's, is freed of names
before anything of it is kept, and goes when it was taken in or has waited an hour.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings

from trocar.errors import InputError
from trocar.io import arrival
from trocar.io.pseudonyms import Key

LARGEST = 4 << 30
MOST_FILES = 20_000
_PIECE = 1 << 20
_KEEP_S = 3600
_TOKEN = re.compile(r"^[A-Za-z0-9_-]{22}$")
_ABOUT = "about.json"
# What a file's name ends with says how it is read; nothing else of its name is kept.
_ENDINGS = (".zip", ".nii.gz", ".nii", ".nrrd", ".mha")


class NoImage(InputError):
    """A file of a folder that is no image by its first block, nor is called one."""


def begin(lesion: str, who: str) -> str:
    """A new folder for the images of a lesion; its name, which cannot be guessed."""
    forget_old()
    token = secrets.token_urlsafe(16)
    folder = _home() / token
    folder.mkdir(mode=0o700)
    (folder / "files").mkdir(mode=0o700)
    (folder / _ABOUT).write_text(json.dumps({"lesion": lesion, "who": who}))
    return token


def folder_of(token: Any, lesion: str, who: str | None = None) -> Path:
    """The folder of images that wait; InputError when they do not, or are another's."""
    if isinstance(token, str) and _TOKEN.match(token):
        about = _home() / token / _ABOUT
        if about.is_file():
            told = json.loads(about.read_text())
            if told["lesion"] == lesion and who in (None, told["who"]):
                return about.parent / "files"
    raise InputError("the images are no longer here; give them once more")


def wait(token: Any, lesion: str) -> bool:
    """Whether images of a lesion still wait."""
    try:
        folder_of(token, lesion)
    except InputError:
        return False
    return True


def receive(
    folder: Path, number: int, name: str, stream: BinaryIO, *, size: int, at: int = 0, of: int
) -> bool:
    """Write a piece of a file as it comes; whether the file is whole with it.

    ``size`` is what the sender says of the piece, ``at`` where it belongs in the file's ``of``
    bytes; a large file comes in several, so that no request is large. What a file is shows its
    first block. Raises :class:`NoImage` for what a disc holds beside its images, InputError for
    the rest; no half-written file is ever taken for a whole one.
    """
    if not 0 <= number < MOST_FILES:
        raise InputError(f"there are more than {MOST_FILES} files; expected one CT")
    ending = next((e for e in _ENDINGS if name.lower().endswith(e)), ".dcm")
    part = folder.parent / f".part-{number}"
    here = part.stat().st_size if at and part.is_file() else 0
    if at != here:
        raise InputError(f"a piece at {at} came where {here} was expected; send the file once more")
    others = sum(p.stat().st_size for p in folder.iterdir())
    if not 0 < at + size <= of or others + of > LARGEST:
        raise InputError(
            f"the files have more than {LARGEST / 2**30:.0f} GB together, or a size that is none; "
            "expected one CT"
        )
    came = 0
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | (0 if at else os.O_TRUNC), 0o600)
        with os.fdopen(handle, "wb") as out:
            out.seek(at)
            while came < size and (piece := stream.read(min(_PIECE, size - came))):
                if at + came == 0:
                    _refuse_first_block(piece, ending)
                came += len(piece)
                out.write(piece)
        if came != size:
            raise InputError(f"of {size} bytes {came} came; send the file once more")
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if at + size < of:
        return False
    os.replace(part, folder / f"{number:06d}{ending}")
    return True


def _refuse_first_block(block: bytes, ending: str) -> None:
    try:
        arrival.refuse_first_block(block, ending)
    except InputError as error:
        if ending in _ENDINGS:  # what is called an image or a zip was meant to be read
            raise
        raise NoImage(str(error)) from error


def remove(token: str) -> None:
    """Take images that waited away."""
    if _TOKEN.match(token):
        shutil.rmtree(_home() / token, ignore_errors=True)


def forget_old() -> None:
    """Take away what nobody took in within an hour."""
    for place in _home().iterdir():
        with suppress(FileNotFoundError):  # another process took it away
            if time.time() - place.stat().st_mtime > _KEEP_S:
                shutil.rmtree(place, ignore_errors=True)


def _home() -> Path:
    folder = Path(settings.KEPT_FILES).parent / "arriving"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def key_place() -> Path:
    """The key by which pseudonyms can be undone, apart from the images; made when first asked for.

    Else two who came first at once would each make one, and only one of them could be kept.
    """
    place = Path(settings.KEPT_FILES).parent / "deidentification-key.json"
    if not place.exists():
        with suppress(InputError):  # another was quicker, and it is theirs that counts
            Key.make().keep(place)
    return place


def parameters_of(posted: Mapping[str, str]) -> dict[str, str]:
    """What a form says of the images."""
    return {name: posted.get(name, "").strip() for name in ("purpose", "date", "series")}
