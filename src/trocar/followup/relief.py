"""Was pain relieved, did it last, for how long, and what ended it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts.source import load
from trocar.followup.change import LeftOut, paired
from trocar.followup.rules import (
    DAY_0,
    DAY_0_ELSE_1,
    BaselineRule,
    HighestBefore,
    LastInWindow,
    LowestInWindow,
    PainRule,
    at_most,
    below,
)
from trocar.model.study import Record
from trocar.stats.exact import Proportion

_DAYS_PER_WEEK = 7.0


@dataclass(frozen=True, kw_only=True)
class ReliefRule:
    """What "relieved" means: which score, against which baseline, and whether a tie counts."""

    name: str
    rule: PainRule
    baseline: BaselineRule
    tie_counts: bool

    @property
    def sentence(self) -> str:
        """The rule in sentences, printed in every audit."""
        how = "not above" if self.tie_counts else "below"
        return (
            f"A lesion is relieved when its score is {how} the baseline. {self.rule.sentence} "
            f"{self.baseline.sentence}"
        )


@dataclass(frozen=True, kw_only=True)
class Relieved:
    """Which lesions were relieved under a rule."""

    rule: ReliefRule
    lesions: tuple[str, ...]
    not_relieved: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def proportion(self) -> Proportion:
        """How many of the lesions it can be said of."""
        return Proportion(len(self.lesions), len(self.lesions) + len(self.not_relieved))


def relief_rules(day: float | None = None) -> tuple[ReliefRule, ...]:
    """The meanings of "relieved" laid side by side, by default at week 1; the default first."""
    facts = load("response")
    at = float(facts["week_1"]) if day is None else day
    first = float(facts["first_days"])
    return (
        ReliefRule(
            name=f"not worse by day {at:g}",
            rule=LastInWindow(at),
            baseline=DAY_0_ELSE_1,
            tie_counts=True,
        ),
        ReliefRule(
            name=f"less pain by day {at:g}",
            rule=LastInWindow(at),
            baseline=DAY_0_ELSE_1,
            tie_counts=False,
        ),
        ReliefRule(
            name=f"lowest by day {at:g} below highest of day 0 to {first:g}",
            rule=LowestInWindow(at),
            baseline=HighestBefore(first),
            tie_counts=False,
        ),
        ReliefRule(
            name=f"less pain by day {at:g}, with a score of day 0",
            rule=LastInWindow(at),
            baseline=DAY_0,
            tie_counts=False,
        ),
    )


def relieved(records: Iterable[Record], rule: ReliefRule | None = None) -> Relieved:
    """Which lesions were relieved (default: not worse by week 1)?"""
    chosen = relief_rules()[0] if rule is None else rule
    pairs = paired(records, chosen.rule, chosen.baseline)
    hit = {p.lesion_id for p in pairs.pairs if p.decrease > 0}
    if chosen.tie_counts:
        hit |= set(pairs.tied)
    names = [p.lesion_id for p in pairs.pairs]
    return Relieved(
        rule=chosen,
        lesions=tuple(n for n in names if n in hit),
        not_relieved=tuple(n for n in names if n not in hit),
        left_out=pairs.left_out,
    )


def relief_table(records: Iterable[Record], day: float | None = None) -> tuple[Relieved, ...]:
    """How many lesions were relieved, by every meaning of the word? The default first."""
    rows = tuple(records)
    return tuple(relieved(rows, rule) for rule in relief_rules(day))


@dataclass(frozen=True, kw_only=True)
class PersistenceFlag:
    """A relieved lesion whose pain later rose above its baseline, and when it came back."""

    lesion_id: str
    day: float
    score: float
    baseline: float
    back_day: float | None


@dataclass(frozen=True, kw_only=True)
class Persistence:
    """Whether relief lasted in the relieved lesions with a later score."""

    sentence: str
    checked: tuple[str, ...]
    flags: tuple[PersistenceFlag, ...]

    @property
    def persisted(self) -> Proportion:
        """How many of the lesions that can be checked never rose above their baseline again."""
        return Proportion(len(self.checked) - len(self.flags), len(self.checked))


def persistence(records: Iterable[Record], rule: ReliefRule | None = None) -> Persistence:
    """Did relief last: which relieved lesion later had more pain than before the procedure?"""
    rows = tuple(records)
    found = relieved(rows, rule)
    names = set(found.lesions)
    checked, flags = [], []
    for r in rows:
        base = found.rule.baseline.apply(r.course.pain)
        later = [s for s in r.course.pain if s.day > found.rule.rule.day]
        if r.lesion_id not in names or base is None or not later:
            continue
        checked.append(r.lesion_id)
        rise = next((s for s in later if below(base.score, s.score)), None)
        if rise is not None:
            back = (s.day for s in later if s.day > rise.day and at_most(s.score, base.score))
            flags.append(
                PersistenceFlag(
                    lesion_id=r.lesion_id,
                    day=rise.day,
                    score=rise.score,
                    baseline=base.score,
                    back_day=next(back, None),
                )
            )
    sentence = (
        f"Relief lasted when no score after day {found.rule.rule.day:g} is above the baseline; "
        f"relieved: {found.rule.name}."
    )
    return Persistence(sentence=sentence, checked=tuple(checked), flags=tuple(flags))


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """How long pain was followed: from the procedure to the last recorded score."""

    unit: Literal["lesion", "patient"]
    n: int
    median_days: float | None
    shortest_days: float | None
    longest_days: float | None
    without_score: tuple[str, ...]  # lesions with no score after the procedure, not counted

    @property
    def median_weeks(self) -> float | None:
        """The median in weeks."""
        return None if self.median_days is None else self.median_days / _DAYS_PER_WEEK

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        each = "" if self.unit == "lesion" else ", the longest of a patient's lesions"
        return f"Follow-up ends with the last recorded pain score after the procedure{each}."


def follow_up(
    records: Iterable[Record],
    *,
    unit: Literal["lesion", "patient"] = "lesion",
    only: Collection[str] | None = None,
) -> FollowUp:
    """How long were lesions (or patients) followed, by their last recorded score?

    ``only`` keeps the named lesions. Lesions without a score after the procedure are named and not
    counted. InputError for another unit.
    """
    if unit not in ("lesion", "patient"):
        raise InputError(f"unit is {unit!r}; expected 'lesion' or 'patient'")
    longest: dict[str, float] = {}
    without: list[str] = []
    for r in records:
        if only is not None and r.lesion_id not in only:
            continue
        after = r.course.pain.after
        if not after:
            without.append(r.lesion_id)
            continue
        key = r.lesion_id if unit == "lesion" else r.patient.patient_id
        longest[key] = max(longest.get(key, 0.0), after[-1].day)
    days = list(longest.values())
    return FollowUp(
        unit=unit,
        n=len(days),
        median_days=float(np.median(days)) if days else None,
        shortest_days=min(days, default=None),
        longest_days=max(days, default=None),
        without_score=tuple(without),
    )


class LossRule(Protocol):
    """When relief is over. Anybody may write another."""

    @property
    def sentence(self) -> str:
        """The rule in one sentence, printed in every audit."""

    def lost(self, baseline: float, best: float, score: float) -> bool:
        """Whether a score ends the relief; ``best`` is the lowest since it began."""


@dataclass(frozen=True)
class BackToBaseline:
    """Relief is over with the first score at or above the baseline."""

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return "Relief is over with the first later score at or above the baseline."

    def lost(self, baseline: float, best: float, score: float) -> bool:
        """Whether a score ends the relief."""
        return at_most(baseline, score)


@dataclass(frozen=True)
class AboveBaseline:
    """Relief is over with the first score above the baseline."""

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return "Relief is over with the first later score above the baseline."

    def lost(self, baseline: float, best: float, score: float) -> bool:
        """Whether a score ends the relief."""
        return below(baseline, score)


@dataclass(frozen=True)
class RiseFromBest:
    """Relief is over with a score some points above the best since it began.

    ``points`` by default those of pain progression in the International Consensus.
    """

    points: float | None = None

    @property
    def _limit(self) -> float:
        return float(load("response")["response_points"]) if self.points is None else self.points

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return (
            f"Relief is over with the first later score {self._limit:g} points or more above the "
            "best since it began."
        )

    def lost(self, baseline: float, best: float, score: float) -> bool:
        """Whether a score ends the relief."""
        return at_most(best + self._limit, score)


@dataclass(frozen=True, kw_only=True)
class Duration:
    """One lesion's relief: when it began, how far it was seen, what ended it.

    ``ended`` is "lost" (by the rule or a recorded recurrence), "died", or "last score" (still
    relieved when last asked). ``end_day`` is that of the loss, death or last score.
    """

    lesion_id: str
    patient_id: str
    start_day: float
    last_relieved_day: float
    end_day: float
    ended: Literal["lost", "died", "last score"]

    @property
    def days(self) -> float:
        """From the first relieved score to the end."""
        return self.end_day - self.start_day


@dataclass(frozen=True, kw_only=True)
class Durations:
    """The relief of all lesions that had any, and why the others have none."""

    sentence: str
    durations: tuple[Duration, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def longest(self) -> Duration | None:
        """The relief seen last after the procedure: "at least so long"."""
        return max(self.durations, key=lambda d: d.last_relieved_day, default=None)


def relief_durations(
    records: Iterable[Record],
    *,
    points: float = 0.0,
    loss: LossRule | None = None,
    baseline: BaselineRule = DAY_0,
) -> Durations:
    """How long did relief last in each lesion, and what ended it?

    Relief begins with the first score after the procedure below the baseline, by at least
    ``points`` when given. It ends with the first later score that ``loss`` (default
    ``BackToBaseline``) calls lost or with a recorded "pain recurrence", whichever is first; else
    it is cut off by death, else by the last score. Only the first spell of relief counts. Lesions
    without baseline, relief or sense (a score after death) are named in ``left_out``. InputError
    for negative points.
    """
    if not points >= 0:
        raise InputError(f"points is {points:g}; expected 0 or more points of 10")
    rule = BackToBaseline() if loss is None else loss
    found, left = [], []
    for r in records:
        one = _duration(r, points, rule, baseline)
        if isinstance(one, Duration):
            found.append(one)
        else:
            left.append(LeftOut(lesion_id=r.lesion_id, patient_id=r.patient.patient_id, reason=one))
    least = f" by at least {points:g} points" if points else ""
    return Durations(
        sentence=(
            f"Relief begins with the first score after the procedure below the baseline{least}. "
            f"{rule.sentence} A recorded recurrence ends it too; death and the last score cut it "
            f"off. {baseline.sentence}"
        ),
        durations=tuple(found),
        left_out=tuple(left),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Recurrence:
    """Times and causes for ``stats.survival.aalen_johansen``: 1 recurrence, 2 death, 0 cut off."""

    times_days: NDArray[np.float64]  # [n]
    causes: NDArray[np.int64]  # [n]
    lesion_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    sentence: str


def recurrence(
    durations: Durations, *, since: Literal["relief", "procedure"] = "relief"
) -> Recurrence:
    """When did pain come back in relieved lesions, death being the other way out?

    Times are days since the first relieved score, or since the procedure. One lesion a row: lesions
    of one patient die together, so that intervals that take them for independent are too narrow.
    """
    if since not in ("relief", "procedure"):
        raise InputError(f"since is {since!r}; expected 'relief' or 'procedure'")
    rows = durations.durations
    code = {"lost": 1, "died": 2, "last score": 0}
    start = "the first relieved score" if since == "relief" else "the procedure"
    return Recurrence(
        times_days=np.array([d.days if since == "relief" else d.end_day for d in rows], float),
        causes=np.array([code[d.ended] for d in rows], np.int64),
        lesion_ids=tuple(d.lesion_id for d in rows),
        patient_ids=tuple(d.patient_id for d in rows),
        left_out=durations.left_out,
        sentence=f"Time runs from {start}; death competes with recurrence. {durations.sentence}",
    )


@dataclass(frozen=True, kw_only=True)
class NetRelief:
    """Days of relief as a share of the days lived after the procedure."""

    sentence: str
    relief_days: float
    survival_days: float
    lesions: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def ratio(self) -> float | None:
        """Net pain relief, 0 to 1; None when nobody lived a day."""
        return self.relief_days / self.survival_days if self.survival_days > 0 else None


def net_relief(
    records: Iterable[Record], durations: Durations, *, to_death: bool = False
) -> NetRelief:
    """Which share of the life after the procedure was spent in relief?

    Over the lesions whose patient died on a known day; a lesion never relieved counts with 0 days.
    Relief counts to the last relieved score, or with ``to_death`` up to death when it was never
    seen lost. The living, and those without a baseline, are left out and named.
    """
    by_lesion = {d.lesion_id: d for d in durations.durations}
    why = {one.lesion_id: one.reason for one in durations.left_out}
    relief = survival = 0.0
    names, left = [], []
    for r in records:
        died = r.course.death_day
        reason = why.get(r.lesion_id)
        if died is None:
            reason = "death not recorded, or its day not known"
        if died is None or reason not in (None, _NEVER):
            who = (r.lesion_id, r.patient.patient_id)
            left.append(LeftOut(lesion_id=who[0], patient_id=who[1], reason=str(reason)))
            continue
        names.append(r.lesion_id)
        survival += died
        d = by_lesion.get(r.lesion_id)
        if d is not None:
            seen = d.end_day if to_death or d.ended != "died" else d.last_relieved_day
            relief += seen - d.start_day
    until = "death when it was never seen lost" if to_death else "the last relieved score"
    return NetRelief(
        sentence=(
            "Net pain relief is the sum of the days of relief over the sum of the days from "
            f"procedure to death, of lesions whose patient died; relief runs to {until}. "
            f"{durations.sentence}"
        ),
        relief_days=relief,
        survival_days=survival,
        lesions=tuple(names),
        left_out=tuple(left),
    )


_NEVER = "never relieved"


def _duration(r: Record, points: float, rule: LossRule, baseline: BaselineRule) -> Duration | str:
    base = baseline.apply(r.course.pain)
    # A score that serves as baseline cannot be relief from it.
    since = max(0.0, base.day or 0.0) if base is not None else 0.0
    after = [s for s in r.course.pain if s.day > since]
    died = r.course.death_day
    if base is None:
        return f"no baseline ({baseline.name})"
    if not after:
        return "no score after the procedure"
    if died is not None and after[-1].day > died:
        return f"a score on day {after[-1].day:g} is later than the death on day {died:g}"
    begins = next(
        (
            i
            for i, s in enumerate(after)
            if below(s.score, base.score) and at_most(points, base.score - s.score)
        ),
        None,
    )
    if begins is None:
        return _NEVER
    start = after[begins].day
    told = min(
        (e.day for e in r.course.events if e.kind == "pain recurrence" and e.day > start),
        default=float("inf"),
    )
    best, last, lost = after[begins].score, start, told
    for s in after[begins + 1 :]:
        if s.day >= told:
            break
        if rule.lost(base.score, best, s.score):
            lost = s.day
            break
        best, last = min(best, s.score), s.day
    if lost < float("inf"):
        end, ended = lost, "lost"
    elif died is not None:
        end, ended = died, "died"
    else:
        end, ended = last, "last score"
    return Duration(
        lesion_id=r.lesion_id,
        patient_id=r.patient.patient_id,
        start_day=start,
        last_relieved_day=last,
        end_day=end,
        ended=ended,  # type: ignore[arg-type]
    )
