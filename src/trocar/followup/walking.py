"""Did the patient walk better: the walking score 0 to 4, of which only the order is sure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trocar.facts.source import load
from trocar.followup.change import LeftOut
from trocar.followup.rules import DAY_0, BaselineRule, LastInWindow, PainRule, Standing
from trocar.model.study import Record
from trocar.stats.exact import Proportion


@dataclass(frozen=True, kw_only=True)
class WalkingSeen:
    """A walking score as any rule for missing scores can read it."""

    day: float
    score: float


@dataclass(frozen=True, kw_only=True)
class WalkingChange:
    """Walking before and after, by lesion; no mean, since the steps are not of equal height."""

    rule: str
    sentence: str
    before: dict[str, Standing]
    after: dict[str, Standing]
    improved: tuple[str, ...]
    same: tuple[str, ...]
    worse: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def proportion(self) -> Proportion:
        """How many of the lesions with both scores walk better."""
        return Proportion(len(self.improved), len(self.improved) + len(self.same) + len(self.worse))


def walking_labels() -> tuple[str, ...]:
    """Words for the scores 0 to 4; a stand-in, the source gives none."""
    return tuple(load("response").data["walking"]["labels"])


def walking_change(
    records: Iterable[Record], rule: PainRule | None = None, baseline: BaselineRule = DAY_0
) -> WalkingChange:
    """Who walks better, the same or worse (default: last score up to month 1)?

    Higher is better. Lesions without both scores are left out and named.
    """
    chosen = LastInWindow(float(load("response")["month_1"])) if rule is None else rule
    before: dict[str, Standing] = {}
    after: dict[str, Standing] = {}
    words: dict[str, list[str]] = {"improved": [], "same": [], "worse": []}
    left = []
    for r in records:
        seen = [
            WalkingSeen(day=v.day, score=float(v.walking))
            for v in r.course.visits
            if v.walking is not None
        ]
        b, a = baseline.apply(seen), chosen.apply(seen)
        if b is not None:
            before[r.lesion_id] = b
        if a is not None:
            after[r.lesion_id] = a
        if b is None or a is None:
            when = " and ".join(w for w, s in (("before", b), ("after", a)) if s is None)
            reason = f"no walking score {when}"
            left.append(
                LeftOut(lesion_id=r.lesion_id, patient_id=r.patient.patient_id, reason=reason)
            )
            continue
        word = "same" if a.score == b.score else "improved" if a.score > b.score else "worse"
        words[word].append(r.lesion_id)
    return WalkingChange(
        rule=chosen.name,
        sentence=f"Walking score 0 to 4, higher is better. {chosen.sentence} {baseline.sentence}",
        before=before,
        after=after,
        improved=tuple(words["improved"]),
        same=tuple(words["same"]),
        worse=tuple(words["worse"]),
        left_out=tuple(left),
    )
