"""What a meeting can sign: each rule met, not met or not known, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trocar.facts.source import Evidence

Status = Literal["met", "not met", "unknown", "discuss", "not applicable"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One rule applied to one lesion.

    ``rule`` is its id (E1 ... E12, N1); ``clause`` what it rests on ("IPG179 2.1.2; HTG3 2.1.1");
    ``reason`` an English sentence with ``str.format`` places for ``values``, as in a Finding.
    ``unknown`` never counts as met; ``discuss`` is a grey zone that a person must decide.
    """

    rule: str
    title: str
    status: Status
    clause: str
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence = "verified"
    hard: bool = True  # not met: not eligible; a soft rule warns only

    @property
    def text(self) -> str:
        """The reason with its numbers."""
        return self.reason.format(**self.values)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A published score of one lesion or patient.

    ``points`` is None when an ingredient is not known; ``missing`` then names what. ``evidence``
    is the weakest grade of the table it rests on: anything but ``verified`` must be said.
    """

    name: str
    points: float | None
    group: str  # the published class, e.g. "potentially unstable"; "" when not known
    meaning: str  # what the paper says of the class
    source: str
    evidence: Evidence
    parts: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Is cementoplasty of this lesion supported? For a multidisciplinary meeting to sign.

    ``outcome``: ``eligible`` (every hard rule met or not applicable), ``not eligible`` (a hard
    rule is not met), ``incomplete`` (none broken, but something is not known or to be discussed).
    """

    lesion_id: str
    outcome: Literal["eligible", "not eligible", "incomplete"]
    verdicts: tuple[Verdict, ...]
    scores: tuple[Score, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)  # versions of the tables used

    def of(self, status: Status) -> tuple[Verdict, ...]:
        """The verdicts with one status, in the order of the rules."""
        return tuple(v for v in self.verdicts if v.status == status)
