"""The log that cannot be changed unseen: every event holds the hash of the one before.

Views of images, exports, sign-offs, logins and every change of a row are links. A link that was
changed, removed or put in between breaks the chain at a place :func:`verify` names; a row that was
changed past trocar no longer has the hash its last link tells, a state of its history no longer
that of its own link.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import Max, Subquery

from trocar.registry.convert import canonical, digest, every_name, to_record, told
from trocar.registry.models import MODELS_AND_HEADS, ChainEvent, ChainHead, Study

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


def turn() -> ChainHead:
    """Wait for one's turn to write: the first thing a transaction that writes rows does.

    Whoever took a row first and its turn later could wait for one who holds the turn and wants the
    row: neither would ever go on.
    """
    head: ChainHead = ChainHead.objects.select_for_update().get_or_create(pk=1)[0]
    return head


def append(events: Iterable[Happened]) -> list[ChainEvent]:
    """Append events in order; they are kept with whatever else the transaction keeps, or not."""
    with transaction.atomic():
        # Writers take turns here, so that no two links have the same one before them.
        head = turn()
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


# Why a chain that holds in itself is not the one that was asked about.
NOT_HERE = "this head is not in this log: the log was written anew, or the head is another's"


def verify(
    *,
    rows: bool = True,
    known_head: str | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> ChainReport:
    """Walk the chain from its start; with ``rows``, hold rows and history against it too.

    ``known_head`` is the hash a backup or a printed page told: it must stand in the chain.
    ``progress`` is told what is looked at, the log or a table, and the fraction done. Others may
    write meanwhile: what they wrote is walked at the end.
    """
    walk = _Walk(rows, known_head)
    tell = progress or (lambda step, fraction: None)
    report = walk.on(tell)
    if report is not None:
        return report
    wrong, count = _look(walk, tell) if rows else (set(), 0)
    report = walk.on(tell)  # to what was written since
    if report is not None:
        return report
    if not walk.seen:
        return ChainReport(
            links=walk.number, head=walk.before, broken_at=walk.number + 1, why=NOT_HERE
        )
    names, studies = (every_name(), _studies()) if wrong else ({}, {})
    again = filter(None, (_still(subject, walk, names, studies) for subject in sorted(wrong)))
    return ChainReport(
        links=walk.number, head=walk.before, changed_rows=tuple(islice(again, MOST_TOLD)),
        rows=count,
    )  # fmt: skip


class _Walk:
    """How far the chain was walked and what its links tell of rows and their history."""

    def __init__(self, rows: bool, known_head: str | None) -> None:
        self.before, self.number = _START, 0
        self.rows, self.known_head = rows, known_head
        self.seen = known_head in (None, _START)
        self.last: dict[str, str | None] = {}  # subject -> digest of the row
        self.states: dict[bytes, str] = {}  # one state of a row, as hashed -> subject
        self.old: set[tuple[str, int]] = set()  # states of links that do not tell their story

    def on(self, tell: Callable[[str, float], None]) -> ChainReport | None:
        """Walk on to the head as it stands now; a report when a link does not hold."""
        ends = ChainHead.objects.filter(pk=1).annotate(
            newest=Subquery(ChainEvent.objects.order_by("-number").values("number")[:1])
        )
        # One statement: a link that comes between two would seem to be too many.
        at = ends.values_list("number", "sha256", "newest").first()
        number, sha256, newest = at or (0, "", ChainEvent.objects.aggregate(n=Max("number"))["n"])
        links = ChainEvent.objects.filter(number__gt=self.number, number__lte=number)
        for link in links.order_by("number").iterator(_BATCH):
            why = ""
            if link.number != self.number + 1:
                why = f"expected link {self.number + 1}: one was removed or put in between"
            elif link.before != self.before:
                why = "it does not follow from the link before: one was changed, removed or put in"
            elif hash_of(link) != link.sha256:
                why = "its content is not what was written"
            if why:
                return self._broken(link.number, why)
            self.number, self.before = link.number, link.sha256
            self.seen = self.seen or self.before == self.known_head
            if self.number % _BATCH == 0:
                tell("Log", self.number / number / 2)
            if self.rows and link.kind == "change":
                self._take(link)
        if self.number != number or (newest or 0) != number:
            end = max(self.number, newest or 0)
            why = f"the chain ends at link {end}, its head tells {number}: the end was cut off"
            return self._broken(end + 1, why)
        if number and self.before != sha256:
            return self._broken(
                number + 1, "the head of the chain is not the hash of its last link"
            )
        return None

    def _broken(self, number: int, why: str) -> ChainReport:
        return ChainReport(links=self.number, head=self.before, broken_at=number, why=why)

    def _take(self, link: ChainEvent) -> None:
        detail = json.loads(link.detail)
        self.last[link.subject] = detail.get("digest")
        if "told" in detail:
            state = _state(link.subject, detail["version"], detail["what"], detail["told"])
            self.states[state] = link.subject
        else:
            self.old.add((link.subject, detail["version"]))


def _state(subject: str, version: int, what: str, story: str) -> bytes:
    return hashlib.sha256(f"{subject} {version} {what} {story}".encode()).digest()[:16]


_WHAT = {"+": "created", "~": "changed", "-": "removed"}


def _look(walk: _Walk, tell: Callable[[str, float], None]) -> tuple[set[str], int]:
    """Rows and states of history that are not as the links tell, by subject; how many rows."""
    wrong: set[str] = set()
    last, states = dict(walk.last), dict(walk.states)
    names, studies = every_name(), _studies()
    count, expected = 0, max(len(last) + len(states), 1)
    done = 0
    for table, model in MODELS_AND_HEADS.items():
        for row in model.objects.order_by("pk").iterator(_BATCH):
            count, done = count + 1, done + 1
            subject = f"{table}:{row.uid}"
            if last.pop(subject, None) != _digest_of(row, names):
                wrong.add(subject)
        for state in _history(model).iterator(_BATCH):
            done += 1
            if done % _BATCH == 0:
                tell(table.replace("_", " "), 0.5 + min(done / expected, 1.0) / 2 * 0.99)
            subject = f"{table}:{state.uid}"
            told_of = (subject, state.version) in walk.old
            if not told_of and states.pop(_state_of(state, names, studies), None) is None:
                wrong.add(subject)
    wrong |= {subject for subject, held in last.items() if held is not None}
    return wrong | set(states.values()), count


def _still(
    subject: str, walk: _Walk, names: Mapping[str, Mapping[int, str]], studies: Mapping[int, str]
) -> str:
    """A row that seemed wrong, looked at once more: others may have written it meanwhile."""
    table, _, uid = subject.partition(":")
    model: Any = MODELS_AND_HEADS.get(table)
    if model is None:
        return subject
    row = model.objects.filter(uid=uid).first()
    held = None if row is None else _digest_of(row, names)
    if held != walk.last.get(subject):
        return f"{subject} (gone)" if row is None else subject
    mine = {state for state, of in walk.states.items() if of == subject}
    found = [s for s in _history(model).filter(uid=uid) if (subject, s.version) not in walk.old]
    kept = {_state_of(s, names, studies) for s in found}
    return "" if kept == mine and len(found) == len(mine) else f"{subject} (history)"


def _history(model: Any) -> Any:
    return model.history.select_related("history_user").order_by("history_id")


def _studies() -> dict[int, str]:
    return {pk: str(uid) for pk, uid in Study.objects.values_list("pk", "uid")}


def _digest_of(row: Any, names: Mapping[str, Mapping[int, str]]) -> str:
    try:
        return digest(to_record(row, names))
    except Exception:  # a value no record may have was written past trocar
        return "impossible"


def _state_of(state: Any, names: Mapping[str, Any], studies: Mapping[int, str]) -> bytes:
    story = told(
        _digest_of(state, names), str(state.history_user or ""), state.history_change_reason,
        state.history_date.astimezone(UTC).isoformat(timespec="microseconds"),
        studies.get(getattr(state, "study_id", None) or 0, ""),
    )  # fmt: skip
    subject = f"{state.instance_type.table}:{state.uid}"
    return _state(subject, state.version, _WHAT[state.history_type], story)
