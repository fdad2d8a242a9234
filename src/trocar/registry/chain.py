"""The log that cannot be changed unseen: every event holds the hash of the one before.

Views of images, exports, sign-offs, logins and every change of a row are links. A link that was
changed, removed or put in between breaks the chain at a place :func:`verify` names; a row that was
changed past trocar no longer has the hash its last link tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from trocar.registry.convert import canonical, digest, to_record
from trocar.registry.models import MODELS_AND_HEADS, ChainEvent, ChainHead

_START = "0" * 64
_BATCH = 2000
MOST_TOLD = 20


@dataclass(frozen=True, kw_only=True)
class Happened:
    """Something to be logged; ``subject`` is a table and uid, ``detail`` holds no patient value."""

    kind: str
    who: str
    subject: str = ""
    detail: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ChainReport:
    """What verifying found; sound when nothing is broken and no row differs."""

    links: int
    head: str
    broken_at: int | None = None  # number of the first link that does not hold
    why: str = ""
    changed_rows: tuple[str, ...] = ()  # rows that are not as their last link tells, the first 20
    rows: int = 0

    @property
    def sound(self) -> bool:
        """Whether every link and every row holds."""
        return self.broken_at is None and not self.changed_rows


def now() -> str:
    """This moment, as every table and link writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def log(kind: str, who: str, subject: str = "", **detail: Any) -> ChainEvent:
    """Append one event."""
    return append([Happened(kind=kind, who=who, subject=subject, detail=detail)])[-1]


def append(events: Iterable[Happened]) -> list[ChainEvent]:
    """Append events in order; they are kept with whatever else the transaction keeps, or not."""
    with transaction.atomic():
        # Writers take turns here, so that no two links have the same one before them.
        head = ChainHead.objects.select_for_update().get_or_create(pk=1)[0]
        number, before = head.number, head.sha256 or _START
        links = []
        for e in events:
            number += 1
            link = ChainEvent(
                number=number, at=now(), who=e.who, kind=e.kind, subject=e.subject,
                detail=canonical(dict(e.detail)), before=before,
            )  # fmt: skip
            link.sha256 = before = hash_of(link)
            links.append(link)
        ChainEvent.objects.bulk_create(links, batch_size=_BATCH)
        head.number, head.sha256 = number, before
        head.save()
    return links


def hash_of(link: ChainEvent) -> str:
    """The hash of a link: of all it says and of the hash before it."""
    parts = (link.before, str(link.number), link.at, link.who, link.kind, link.subject, link.detail)
    # Lengths keep one text from running into the next.
    text = "".join(f"{len(p)}:{p}" for p in parts)
    return hashlib.sha256(text.encode()).hexdigest()


def verify(
    *,
    rows: bool = True,
    known_head: str | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> ChainReport:
    """Walk the chain from its start; with ``rows``, hold every row against its last link too.

    ``known_head`` is the hash a backup or a printed page told: it must stand in the chain.
    ``progress`` is told what is looked at, the log or a table, and the fraction done.
    """
    import json

    tell = progress or (lambda step, fraction: None)
    expected = max(ChainHead.objects.filter(pk=1).values_list("number", flat=True).first() or 0, 1)

    before, number, seen_head = _START, 0, known_head in (None, _START)
    last: dict[str, str | None] = {}
    for link in ChainEvent.objects.order_by("number").iterator(_BATCH):
        why = ""
        if link.number != number + 1:
            why = f"expected link {number + 1}: one was removed or put in between"
        elif link.before != before:
            why = "it does not follow from the link before: one was changed, removed or put in"
        elif hash_of(link) != link.sha256:
            why = "its content is not what was written"
        if why:
            return ChainReport(links=number, head=before, broken_at=link.number, why=why)
        number, before = link.number, link.sha256
        if number % _BATCH == 0:
            tell("Log", min(number / expected, 1.0) / 2)
        seen_head = seen_head or before == known_head
        if rows and link.kind == "change":
            told = json.loads(link.detail)
            last[link.subject] = told.get("digest")
    head = ChainHead.objects.filter(pk=1).first()
    at_end = (head.number, head.sha256) if head is not None else (0, "")
    if at_end != (number, before if number else ""):
        why = f"the chain ends at link {number}, its head tells {at_end[0]}: the end was cut off"
        return ChainReport(links=number, head=before, broken_at=number + 1, why=why)
    if not seen_head:
        why = "the hash told does not stand in this chain: it was written anew, or is another's"
        return ChainReport(links=number, head=before, broken_at=number + 1, why=why)
    changed, count = _changed_rows(last, tell) if rows else ((), 0)
    return ChainReport(links=number, head=before, changed_rows=changed, rows=count)


def _changed_rows(
    last: dict[str, str | None], tell: Callable[[str, float], None]
) -> tuple[tuple[str, ...], int]:
    """Rows that are not as their last link says, or are there without one, or are gone."""
    wrong: list[str] = []
    count, expected = 0, max(len(last), 1)
    for table, model in MODELS_AND_HEADS.items():
        related = [f.name for f in model._meta.fields if f.many_to_one]
        for row in model.objects.select_related(*related).iterator(_BATCH):
            count += 1
            if count % _BATCH == 0:
                tell(table.replace("_", " "), 0.5 + min(count / expected, 1.0) / 2 * 0.99)
            subject = f"{table}:{row.uid}"
            try:
                held = digest(to_record(row))
            except Exception:  # a value no record may have was written past trocar
                held = "impossible"
            if last.pop(subject, None) != held:
                wrong.append(subject)
    wrong += [f"{subject} (gone)" for subject, told in last.items() if told is not None]
    return tuple(wrong[:MOST_TOLD]), count
