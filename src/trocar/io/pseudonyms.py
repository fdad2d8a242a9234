"""Who is behind a pseudonym, which day behind a shifted date? The key that alone can tell.

Everything new is derived from the key's secret, so that one key gives the same answer for the same
question wherever and whenever it is asked: objects of one patient keep referring to each other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from trocar.errors import InputError

SCHEMA, VERSION = "trocar-deidentification-key", 1

# Dates move by 130 to 230 years. What was scanned since there are CTs lands after 2100, where no
# real date lies: a shifted date can never be taken for a real one, nor be shifted twice.
_FIRST_YEAR, _SHIFTED_YEAR, _LAST_YEAR = 1970, 2100, 2399
_LEAST_DAYS, _SPREAD_DAYS = 130 * 366, 100 * 365

_UUID_ROOT = "2.25."  # identifiers that need no registered root
_BODY, _CHECK = 12, 4  # bytes of an identifier of ours: derived, and the proof that we derived it
# Identifiers of the standard: short numbers under its root, so that nobody's can hide there.
_OF_THE_STANDARD = re.compile(r"1\.2\.840\.10008(\.\d{1,4}){1,10}")
_PSEUDONYM = re.compile(r"TR-([A-Z2-7]{10})-([A-Z2-7]{4})")


@dataclass(eq=False)
class Key:
    """A secret, and the people and studies it has met: pseudonym to what stood there before.

    Whoever has it can go back from pseudonym to patient; without it nobody can. It belongs to a
    place of its own, never beside the de-identified data.
    """

    secret: bytes
    people: dict[str, dict[str, str]] = field(default_factory=dict)
    studies: dict[str, str] = field(default_factory=dict)
    _known: dict[str, str] = field(default_factory=dict, repr=False)
    _place: Path | None = None

    @classmethod
    def make(cls) -> Key:
        """A new key, unlike any other."""
        return cls(secret=secrets.token_bytes(32))

    @classmethod
    @contextmanager
    def at(cls, path: str | Path) -> Iterator[Key]:
        """The key kept in a file, or a new one for it; what it learns meanwhile is kept there.

        A new key that met nobody leaves no file.
        """
        place = Path(path)
        there = place.exists() or place.is_symlink()
        key = cls.read(place) if there else cls.make()
        key._place = place
        try:
            yield key
        finally:
            key.keep_what_it_met()

    @classmethod
    def read(cls, path: str | Path) -> Key:
        """The key kept in a file; InputError when it is none, or others on the machine can read it.

        A key that others can read protects nobody.
        """
        place = Path(path)
        try:
            mode, text = place.stat().st_mode, place.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(
                f"the key {place} cannot be read ({error}); give a key file"
            ) from error
        if os.name == "posix" and mode & 0o077:
            raise InputError(
                f"the key {place} can be read by others on this machine; make it yours alone "
                "(chmod 600) and ask who has seen it"
            )
        return _key_in(text, place.name)

    def keep(self, path: str | Path) -> Path:
        """Keep the key in a file that its owner alone can read; whole or not at all.

        What the file already knows under the same secret is kept as well. Raises InputError when
        another key lies there: it would be lost, and with it the way back.
        """
        place = Path(path)
        try:
            with _alone(place):
                if place.exists() or place.is_symlink():
                    self._join(Key.read(place), place)
                _put(place, json.dumps(self._told(), indent=1, sort_keys=True, ensure_ascii=False))
        except OSError as error:
            raise InputError(
                f"the key cannot be kept at {place} ({error}); give another place"
            ) from error
        return place

    def keep_what_it_met(self) -> None:
        """Keep the key at its place, where it has one, before what it made is seen by anybody."""
        if self._place is not None and (self.people or self.studies):
            self.keep(self._place)

    def _join(self, there: Key, place: Path) -> None:
        if not hmac.compare_digest(there.secret, self.secret):
            raise InputError(
                f"{place} holds another key, which would be lost; give another place for this one"
            )
        self.people = there.people | self.people
        self.studies = there.studies | self.studies

    def _told(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "secret": self.secret.hex(),
            "people": self.people,
            "studies": self.studies,
        }

    # --- identifiers ----------------------------------------------------------------------------

    def uid(self, text: str) -> str:
        """The identifier that stands for another: always the same, and not to be turned back.

        One of the standard itself, or one made by this key, stays as it is.
        """
        text = text.strip(" \0")
        if not text or _OF_THE_STANDARD.fullmatch(text):
            return text
        if text not in self._known:
            self._known[text] = text if self._made(text) else self._new_uid(text)
        return self._known[text]

    def _new_uid(self, text: str) -> str:
        body = bytearray(self._derived("uid", text)[:_BODY])
        body[6] = body[6] & 0x0F | 0x80  # a UUID of version 8: made by its owner's own rule
        body[8] = body[8] & 0x3F | 0x80
        return _UUID_ROOT + str(int.from_bytes(body + self._proof(bytes(body)), "big"))

    def _made(self, text: str) -> bool:
        number = text.removeprefix(_UUID_ROOT)
        if number == text or not re.fullmatch(r"[1-9]\d{0,38}", number) or int(number) >> 128:
            return False
        whole = int(number).to_bytes(_BODY + _CHECK, "big")
        return hmac.compare_digest(whole[_BODY:], self._proof(whole[:_BODY]))

    def _proof(self, body: bytes) -> bytes:
        return self._derived("proof", body.hex())[:_CHECK]

    # --- people ---------------------------------------------------------------------------------

    def pseudonym(self, patient_id: str, name: str = "") -> str:
        """What a patient is called from now on; the key remembers who it was.

        A pseudonym of this key stays as it is.
        """
        patient_id = patient_id.strip(" \0")
        if self.is_pseudonym(patient_id):
            return patient_id
        made = _letters(self._derived("person", patient_id), 10)
        made = f"TR-{made}-{_letters(self._derived('person proof', made), 4)}"
        if patient_id:
            self.people.setdefault(made, {"patient_id": patient_id, "name": name.strip(" \0")})
        return made

    def is_pseudonym(self, text: str) -> bool:
        """Whether this key made a pseudonym."""
        found = _PSEUDONYM.fullmatch(text)
        if not found:
            return False
        proof = _letters(self._derived("person proof", found.group(1)), 4)
        return hmac.compare_digest(proof, found.group(2))

    def study(self, text: str) -> str:
        """The identifier of a study, which the key remembers for the way back to the archive."""
        made = self.uid(text)
        if made and made != text.strip(" \0"):
            self.studies[made] = text.strip(" \0")
        return made

    # --- days -----------------------------------------------------------------------------------

    def days(self, pseudonym: str) -> int:
        """By how many days the dates of a patient are moved; intervals stay what they were."""
        number = int.from_bytes(self._derived("days", pseudonym)[:8], "big")
        return _LEAST_DAYS + number % _SPREAD_DAYS

    def _derived(self, what: str, text: str) -> bytes:
        return hmac.new(self.secret, f"{what}\0{text}".encode(), hashlib.sha256).digest()


def moved(text: str, days: int) -> str:
    """A DICOM date (YYYYMMDD, more is cut off) moved by days; "" when it is none that can be moved.

    A date from 2100 on was moved before and stays.

    >>> moved("20240229", 50000)
    '21610121'
    >>> moved("21610121", 50000)
    '21610121'
    >>> moved("19530101", 50000)
    ''
    """
    if not re.fullmatch(r"[0-9]{8}", text[:8]):
        return ""
    with suppress(ValueError):  # a 30 February
        day = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
        if _FIRST_YEAR <= day.year < _SHIFTED_YEAR:
            return (day + timedelta(days=days)).strftime("%Y%m%d")
        if _SHIFTED_YEAR <= day.year <= _LAST_YEAR:
            return text[:8]
    return ""


def _letters(digest: bytes, count: int) -> str:
    return base64.b32encode(digest).decode()[:count]


def _key_in(text: str, what: str) -> Key:
    try:
        told = json.loads(text)
        if told["schema"] != SCHEMA or told["version"] != VERSION:
            raise ValueError(f"schema {told['schema']!r}, version {told['version']!r}")
        key = Key(
            secret=bytes.fromhex(told["secret"]),
            people={
                str(k): {str(a): str(b) for a, b in v.items()} for k, v in told["people"].items()
            },
            studies={str(k): str(v) for k, v in told["studies"].items()},
        )
        if len(key.secret) != 32:
            raise ValueError("a secret that is not 32 bytes long")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{what} is no key of de-identification ({error}); give the file that trocar made"
        ) from error
    return key


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Let nobody else join the same key file between reading and renaming it."""
    import fcntl

    handle = os.open(place.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _put(place: Path, text: str) -> None:
    # mkstemp's files are their owner's alone from the first byte on.
    handle, name = tempfile.mkstemp(prefix=".trocar-key-", dir=place.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, place)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
