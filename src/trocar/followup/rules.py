"""Which pain score stands for a lesion at a time: every rule has a name and is called in sight.

A visit without a score is absent; it never becomes 0. A rule says which recorded score stands in
its place, or that none does. The Hong Kong series gives P from 0.0039 to 1 by the rule chosen, so
an audit prints the name and the sentence of the rule it used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from trocar.errors import InputError
from trocar.facts.source import load

_ROUNDING = 1e-9  # relative; scores and doses are given to a few digits


class Observed(Protocol):
    """Anything seen on a day with a number: a pain score, a walking score."""

    @property
    def day(self) -> float:
        """Day after the procedure; 0 is just before it."""

    @property
    def score(self) -> float:
        """The number seen."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The score that stands for a lesion under a rule, and where it comes from.

    ``days`` are the days of the scores it rests on; empty when nothing was observed and the rule
    put a value in the gap. ``how`` says it in words: ``carried from day 2``.
    """

    score: float
    days: tuple[float, ...]
    how: str

    @property
    def day(self) -> float | None:
        """The last day the score rests on, or None when it was put in."""
        return self.days[-1] if self.days else None

    @property
    def put_in(self) -> bool:
        """Whether nothing was observed and the rule put a value in the gap."""
        return not self.days


class PainRule(Protocol):
    """Which score stands at ``day``, the last day the rule looks at. Anybody may write another."""

    @property
    def day(self) -> float:
        """The time the score shall stand for, in days after the procedure."""

    @property
    def name(self) -> str:
        """A few words for the head of a table."""

    @property
    def sentence(self) -> str:
        """The rule in one sentence, printed in every audit."""

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands, or None when the rule finds none."""


class BaselineRule(Protocol):
    """Which score is the one before the procedure."""

    @property
    def name(self) -> str:
        """A few words for the head of a table."""

    @property
    def sentence(self) -> str:
        """The rule in one sentence, printed in every audit."""

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The baseline, or None when there is none."""


@dataclass(frozen=True)
class _Window:
    """Scores after ``after_day`` (default: after the procedure) up to and with ``day``."""

    day: float
    after_day: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 <= self.after_day < self.day:
            raise InputError(
                f"the window runs from day {self.after_day:g} to day {self.day:g}; expected "
                "a start of at least 0 and an end after it"
            )

    def _within(self, series: Iterable[Observed]) -> list[Observed]:
        return [s for s in series if self.after_day < s.day <= self.day]

    @property
    def _span(self) -> str:
        start = f"day {self.after_day:g}" if self.after_day else "the procedure"
        return f"after {start} up to day {self.day:g}"

    def _title(self, word: str) -> str:
        start = f"after day {self.after_day:g} " if self.after_day else ""
        return f"{word} {start}up to day {self.day:g}"


@dataclass(frozen=True)
class LastInWindow(_Window):
    """The last score after the procedure up to a day: carried forward inside the window only.

    >>> LastInWindow(7).name
    'last up to day 7'
    """

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return self._title("last")

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return (
            f"The last score {self._span} stands; a score from before the procedure is never "
            "carried forward."
        )

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands, or None when the window holds none."""
        seen = self._within(series)
        return _taken(seen[-1], self.day) if seen else None


@dataclass(frozen=True)
class FirstAfter(_Window):
    """The first score after the procedure, if it comes by the day."""

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return self._title("first")

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return f"The first score {self._span} stands."

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands, or None when the window holds none."""
        seen = self._within(series)
        return _taken(seen[0], self.day) if seen else None


@dataclass(frozen=True)
class LowestInWindow(_Window):
    """The lowest score after the procedure up to a day: flatters the treatment."""

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return self._title("lowest")

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return f"The lowest score {self._span} stands, which favours the treatment."

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands, or None when the window holds none."""
        seen = self._within(series)
        if not seen:
            return None
        best = min(seen, key=lambda s: s.score)
        return Standing(
            score=best.score, days=(best.day,), how=f"lowest, {_of(seen)}; from day {best.day:g}"
        )


@dataclass(frozen=True)
class HighestInWindow(_Window):
    """The highest score after the procedure up to a day: speaks against the treatment."""

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return self._title("highest")

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return f"The highest score {self._span} stands, which speaks against the treatment."

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands, or None when the window holds none."""
        seen = self._within(series)
        if not seen:
            return None
        worst = max(seen, key=lambda s: s.score)
        return Standing(
            score=worst.score,
            days=(worst.day,),
            how=f"highest, {_of(seen)}; from day {worst.day:g}",
        )


@dataclass(frozen=True)
class MeanInWindow(_Window):
    """The mean of the scores after the procedure up to a day."""

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return self._title("mean")

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return f"The mean of the scores {self._span} stands."

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands, or None when the window holds none."""
        seen = self._within(series)
        if not seen:
            return None
        mean = sum(s.score for s in seen) / len(seen)
        return Standing(score=mean, days=tuple(s.day for s in seen), how=f"mean, {_of(seen)}")


@dataclass(frozen=True)
class ObservedOn:
    """The score of the day itself, or nothing: the complete cases.

    ``within_days`` widens the day for real visits: the nearest score at most that far away stands,
    of two equally near the earlier. Scores before and after the procedure never stand for each
    other.
    """

    day: float
    within_days: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if not self.within_days >= 0:
            raise InputError(f"within_days is {self.within_days:g}; expected 0 or more days")

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return f"observed on day {self.day:g}" + self._give

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return f"Only a score observed on day {self.day:g}{self._give} counts; no gap is filled."

    @property
    def _give(self) -> str:
        return f" ± {self.within_days:g}" if self.within_days else ""

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands, or None when none was observed."""
        near = [
            s
            for s in series
            if abs(s.day - self.day) <= self.within_days and (s.day > 0) == (self.day > 0)
        ]
        if not near:
            return None
        best = min(near, key=lambda s: (abs(s.day - self.day), s.day))
        return Standing(score=best.score, days=(best.day,), how=f"observed on day {best.day:g}")


@dataclass(frozen=True)
class NextLater:
    """The score of the day, else the next later one up to ``until_day`` (carried backward)."""

    day: float
    until_day: float

    def __post_init__(self) -> None:
        if not 0 < self.day <= self.until_day:
            raise InputError(
                f"the rule runs from day {self.day:g} to day {self.until_day:g}; expected a day "
                "after 0 and an end not before it"
            )

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return f"day {self.day:g}, else next up to day {self.until_day:g}"

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return (
            f"The score of day {self.day:g} stands, else the next later one up to day "
            f"{self.until_day:g}, carried backward."
        )

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands, or None when the span holds none."""
        first = next((s for s in series if self.day <= s.day <= self.until_day), None)
        return None if first is None else _taken(first, self.day)


@dataclass(frozen=True)
class LastObservationCarried:
    """The last score of all up to a day, the one before the procedure included."""

    day: float

    def __post_init__(self) -> None:
        if not self.day >= 0:
            raise InputError(f"day is {self.day:g}; expected 0 or a day after the procedure")

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return f"last up to day {self.day:g}, baseline included"

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return (
            f"The last score up to day {self.day:g} stands, the one before the procedure included "
            "when there is no later one."
        )

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands, or None when there was none by the day."""
        seen = [s for s in series if s.day <= self.day]
        return _taken(seen[-1], self.day) if seen else None


@dataclass(frozen=True)
class WorstCase:
    """Another rule's score; where it finds none, the worst score, or the baseline (no relief).

    ``worst`` is the worst score there is, by default the top of the pain scale. A lesion whose
    patient has died counts as worst too.
    """

    rule: PainRule
    missing: Literal["worst score", "baseline"] = "worst score"
    worst: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.missing not in ("worst score", "baseline"):
            raise InputError(
                f"missing is {self.missing!r}; expected 'worst score' or 'baseline' as what a "
                "missing score counts as"
            )

    @property
    def day(self) -> float:
        """The day of the inner rule."""
        return self.rule.day

    @property
    def _value(self) -> float:
        return float(load("response")["scale_top"]) if self.worst is None else self.worst

    @property
    def _counts_as(self) -> str:
        return f"{self._value:g}" if self.missing == "worst score" else "the baseline"

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return f"{self.rule.name}, missing = {self._counts_as.removeprefix('the ')}"

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return f"{self.rule.sentence.rstrip('.')}; a missing score counts as {self._counts_as}."

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The score that stands; None only when the baseline is asked for and missing too."""
        scores = tuple(series)
        found = self.rule.apply(scores)
        if found is not None:
            return found
        if self.missing == "worst score":
            return Standing(score=self._value, days=(), how=f"missing, counted as {self._value:g}")
        before = ScoreBefore().apply(scores)
        if before is None:
            return None
        return Standing(score=before.score, days=(), how="missing, counted as the baseline")


@dataclass(frozen=True)
class ScoreBefore:
    """The last score at or before day 0, not older than ``since_day`` if that is given.

    >>> ScoreBefore().name
    'day 0 only'
    """

    since_day: float | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return "day 0 only" if self.since_day is None else f"day {self.since_day:g} to 0"

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        old = "" if self.since_day is None else f" and not before day {self.since_day:g}"
        return (
            f"The last score at or before day 0{old} is the baseline; a lesion without one is left "
            "out of every pair."
        )

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The baseline, or None when there is none."""
        start = float("-inf") if self.since_day is None else self.since_day
        seen = [s for s in series if start <= s.day <= 0]
        return _taken(seen[-1], 0.0) if seen else None


@dataclass(frozen=True)
class ScoreBeforeElse:
    """The last score at or before day 0, else the first one up to ``until_day`` after it."""

    until_day: float = 1.0

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return f"day 0, else day {self.until_day:g}"

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return (
            "The last score at or before day 0 is the baseline, else the first one up to day "
            f"{self.until_day:g}."
        )

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The baseline, or None when there is none."""
        scores = tuple(series)
        before = ScoreBefore().apply(scores)
        return before if before is not None else FirstAfter(self.until_day).apply(scores)


@dataclass(frozen=True)
class HighestBefore:
    """The higher of the last score at or before day 0 and those up to ``until_day`` after it.

    A flattering baseline: pain of the needle itself counts as pain to be relieved.
    """

    until_day: float = 1.0

    @property
    def name(self) -> str:
        """A few words for the head of a table."""
        return f"highest of day 0 to {self.until_day:g}"

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return (
            "The highest of the last score at or before day 0 and the scores up to day "
            f"{self.until_day:g} is the baseline, which favours the treatment."
        )

    def apply(self, series: Iterable[Observed]) -> Standing | None:
        """The baseline, or None when there is none."""
        scores = tuple(series)
        both = (ScoreBefore().apply(scores), HighestInWindow(self.until_day).apply(scores))
        found = [s for s in both if s is not None]
        return max(found, key=lambda s: s.score) if found else None


DAY_0 = ScoreBefore()
DAY_0_ELSE_1 = ScoreBeforeElse(1.0)


def default_rule(day: float | None = None) -> LastInWindow:
    """The rule used where none is given: the last score after the procedure up to the day.

    Without a day: up to the end of week 1.

    >>> default_rule().day
    7.0
    """
    return LastInWindow(float(load("response")["week_1"]) if day is None else day)


def at_most(a: float, b: float) -> bool:
    """Whether a <= b; means and sums of doses that differ only by rounding count as equal."""
    return a <= b + _ROUNDING * max(1.0, abs(b))


def below(a: float, b: float) -> bool:
    """Whether a < b by more than rounding."""
    return not at_most(b, a)


def _taken(seen: Observed, day: float) -> Standing:
    if seen.day == day:
        how = f"observed on day {seen.day:g}"
    elif seen.day < day:
        how = f"carried from day {seen.day:g}"
    else:
        how = f"carried back from day {seen.day:g}"
    return Standing(score=seen.score, days=(seen.day,), how=how)


def _of(seen: list[Observed]) -> str:
    days = ", ".join(f"{s.day:g}" for s in seen)
    return f"of day {days}" if len(seen) == 1 else f"of days {days}"
