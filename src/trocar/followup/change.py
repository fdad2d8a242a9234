"""How pain changed: pairs under a rule, the table of rules, the course over time.

The lesion is the unit unless said otherwise; a patient with several lesions can be made one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from trocar.errors import InputError
from trocar.facts.source import load
from trocar.followup.rules import (
    DAY_0,
    DAY_0_ELSE_1,
    BaselineRule,
    FirstAfter,
    HighestInWindow,
    LastInWindow,
    LowestInWindow,
    MeanInWindow,
    NextLater,
    ObservedOn,
    PainRule,
    Standing,
    at_most,
    default_rule,
)
from trocar.model.study import Record
from trocar.stats.exact import Proportion, sign_test

Unit = Literal["lesion", "patient mean", "first lesion"]

UNIT_SENTENCES: Mapping[Unit, str] = {
    "lesion": "Every lesion counts.",
    "patient mean": "Every patient counts once, with the mean over the patient's lesions.",
    "first lesion": "Every patient counts once, with the lesion treated first.",
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The score before and the score after of one lesion (or of one patient)."""

    lesion_id: str
    patient_id: str
    before: Standing
    after: Standing

    @cached_property
    def decrease(self) -> float:
        """Points of pain less than before; negative when worse."""
        return round(self.before.score - self.after.score, 9)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A lesion (or patient) that an analysis leaves out, and why."""

    lesion_id: str
    patient_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Pairs of pain before and after under named rules, with what was left out and why.

    ``before`` and ``after`` also hold the scores without a partner, by name of the lesion: a
    published median may rest on more lesions than its test.
    """

    rule: PainRule
    baseline: BaselineRule
    unit: Unit
    pairs: tuple[Pair, ...]
    left_out: tuple[LeftOut, ...]
    before: Mapping[str, Standing]
    after: Mapping[str, Standing]

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def decreases(self) -> tuple[float, ...]:
        """Points of pain less than before, one a pair."""
        return tuple(p.decrease for p in self.pairs)

    @property
    def improved(self) -> tuple[str, ...]:
        """The lesions with less pain than before."""
        return tuple(p.lesion_id for p in self.pairs if p.decrease > 0)

    @property
    def worse(self) -> tuple[str, ...]:
        """The lesions with more pain than before."""
        return tuple(p.lesion_id for p in self.pairs if p.decrease < 0)

    @property
    def tied(self) -> tuple[str, ...]:
        """The lesions with as much pain as before."""
        return tuple(p.lesion_id for p in self.pairs if p.decrease == 0)


@dataclass(frozen=True, kw_only=True)
class ChangeRow:
    """One row of the table of rules: medians with their n, signs, exact sign test."""

    day: float
    rule: str
    rule_sentence: str
    baseline: str
    baseline_sentence: str
    unit: Unit
    n_before: int
    median_before: float | None
    n_after: int
    median_after: float | None
    n_pairs: int
    median_before_paired: float | None
    median_after_paired: float | None
    mean_decrease: float | None
    sd_decrease: float | None
    median_decrease: float | None
    improved: int
    worse: int
    tied: int
    p_value: float | None  # two-sided exact sign test; None without pairs
    left_out: tuple[LeftOut, ...]

    @property
    def signs(self) -> str:
        """Improved / worse / tied as printed: ``8/1/1``."""
        return f"{self.improved}/{self.worse}/{self.tied}"


@dataclass(frozen=True, kw_only=True)
class CoursePoint:
    """The scores that stand at one time: their n, median, quartiles, ends."""

    day: float
    n: int
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None
    lowest: float | None
    highest: float | None


def paired(
    records: Iterable[Record],
    rule: PainRule | None = None,
    baseline: BaselineRule = DAY_0,
    *,
    unit: Unit = "lesion",
) -> Paired:
    """What was the pain of each lesion before, and what stands for it after?

    ``rule`` is by default the last score after the procedure up to day 7. With ``unit`` "patient
    mean" lesions of one patient are averaged over the lesions that have both scores; with "first
    lesion" only the lesion treated first counts (by date, where every date of the patient's
    lesions is known; else by the order of the records). InputError for another unit.
    """
    if unit not in UNIT_SENTENCES:
        raise InputError(f"unit is {unit!r}; expected one of {', '.join(UNIT_SENTENCES)}")
    chosen = default_rule() if rule is None else rule
    rows = tuple(records)
    if unit == "first lesion":
        rows = first_lesions(rows)
    before: dict[str, Standing] = {}
    after: dict[str, Standing] = {}
    pairs: list[Pair] = []
    left: list[LeftOut] = []
    for r in rows:
        b, a = baseline.apply(r.course.pain), chosen.apply(r.course.pain)
        if b is not None:
            before[r.lesion_id] = b
        if a is not None:
            after[r.lesion_id] = a
        who = (r.lesion_id, r.patient.patient_id)
        if b is None or a is None:
            reason = _reason(r, b, a, chosen, baseline)
            left.append(LeftOut(lesion_id=who[0], patient_id=who[1], reason=reason))
        else:
            pairs.append(Pair(lesion_id=who[0], patient_id=who[1], before=b, after=a))
    if unit == "patient mean":
        patients = {r.lesion_id: r.patient.patient_id for r in rows}
        pairs = _by_patient(pairs)
        before, after = _patient_means(before, patients), _patient_means(after, patients)
    return Paired(
        rule=chosen,
        baseline=baseline,
        unit=unit,
        pairs=tuple(pairs),
        left_out=tuple(left),
        before=before,
        after=after,
    )


def change_row(
    records: Iterable[Record],
    rule: PainRule | None = None,
    baseline: BaselineRule = DAY_0,
    *,
    unit: Unit = "lesion",
) -> ChangeRow:
    """One row of the table of rules: medians, signs and exact sign test under one rule."""
    return change_row_of(paired(records, rule, baseline, unit=unit))


def change_row_of(pairs: Paired) -> ChangeRow:
    """The row that pairs make; ties are left out of the sign test, as usual."""
    improved, worse = len(pairs.improved), len(pairs.worse)
    d = np.array(pairs.decreases)
    return ChangeRow(
        day=pairs.rule.day,
        rule=pairs.rule.name,
        rule_sentence=pairs.rule.sentence,
        baseline=pairs.baseline.name,
        baseline_sentence=pairs.baseline.sentence,
        unit=pairs.unit,
        n_before=len(pairs.before),
        median_before=_median([s.score for s in pairs.before.values()]),
        n_after=len(pairs.after),
        median_after=_median([s.score for s in pairs.after.values()]),
        n_pairs=len(pairs),
        median_before_paired=_median([p.before.score for p in pairs.pairs]),
        median_after_paired=_median([p.after.score for p in pairs.pairs]),
        mean_decrease=float(d.mean()) if d.size else None,
        sd_decrease=float(d.std(ddof=1)) if d.size > 1 else None,
        median_decrease=_median(pairs.decreases),
        improved=improved,
        worse=worse,
        tied=len(pairs.tied),
        p_value=sign_test(improved, worse, len(pairs.tied)).p_value if d.size else None,
        left_out=pairs.left_out,
    )


def rules_at(
    day: float | None = None, next_until_day: float | None = None
) -> tuple[tuple[PainRule, BaselineRule], ...]:
    """The rules an audit lays side by side for one time, the default first.

    ``day`` is by default week 1, ``next_until_day`` (for the score carried backward) month 1 or,
    for later times, four times the day.
    """
    facts = load("response")
    at = float(facts["week_1"]) if day is None else day
    ratio = facts["month_1"].mean / facts["week_1"].mean
    later = at * ratio if next_until_day is None else next_until_day
    return (
        (LastInWindow(at), DAY_0),
        (LowestInWindow(at), DAY_0),
        (NextLater(at, later), DAY_0),
        (ObservedOn(at), DAY_0),
        (FirstAfter(at), DAY_0),
        (HighestInWindow(at), DAY_0),
        (MeanInWindow(at), DAY_0),
        (LastInWindow(at), DAY_0_ELSE_1),
    )


def change_table(
    records: Iterable[Record],
    rules: Sequence[tuple[PainRule, BaselineRule]] | None = None,
    *,
    unit: Unit = "lesion",
) -> tuple[ChangeRow, ...]:
    """How much do the result and its P hang on the rule for missing scores? One row a rule."""
    rows = tuple(records)
    chosen = rules_at() if rules is None else rules
    return tuple(change_row(rows, rule, baseline, unit=unit) for rule, baseline in chosen)


def change_course(
    records: Iterable[Record],
    days: Sequence[float] | None = None,
    rule_at: Callable[[float], PainRule] = LastInWindow,
    baseline: BaselineRule = DAY_0,
    *,
    unit: Unit = "lesion",
) -> tuple[ChangeRow, ...]:
    """How did pain change from baseline by each day? One row a day after the procedure.

    ``rule_at`` makes the rule of a day. Without ``days``, every day with a score. The tests of
    several days are not independent and not corrected for their number.
    """
    rows = tuple(records)
    chosen = [d for d in days_of(rows) if d > 0] if days is None else list(days)
    return tuple(change_row(rows, rule_at(day), baseline, unit=unit) for day in chosen)


def pain_course(
    records: Iterable[Record],
    days: Sequence[float] | None = None,
    rule_at: Callable[[float], PainRule] = ObservedOn,
) -> tuple[CoursePoint, ...]:
    """What was the median pain at each day, and of how many lesions?

    By default of the scores observed on the day alone. Quartiles interpolate linearly.
    """
    rows = tuple(records)
    points = []
    for day in days_of(rows) if days is None else days:
        rule = rule_at(day)
        found = [s.score for r in rows if (s := rule.apply(r.course.pain)) is not None]
        cuts = np.quantile(found, (0.0, 0.25, 0.5, 0.75, 1.0)).tolist() if found else [None] * 5
        points.append(
            CoursePoint(
                day=day,
                n=len(found),
                median=cuts[2],
                lower_quartile=cuts[1],
                upper_quartile=cuts[3],
                lowest=cuts[0],
                highest=cuts[4],
            )
        )
    return tuple(points)


def days_of(records: Iterable[Record]) -> tuple[float, ...]:
    """The days from day 0 on with any pain score, earliest first."""
    return tuple(sorted({s.day for r in records for s in r.course.pain if s.day >= 0}))


def without(records: Iterable[Record], lesions: Collection[str]) -> tuple[Record, ...]:
    """The records less some lesions, to see how much hangs on them.

    InputError when a name is not among the records.
    """
    rows = tuple(records)
    unknown = set(lesions) - {r.lesion_id for r in rows}
    if unknown:
        raise InputError(
            f"there is no lesion {', '.join(sorted(unknown))} to leave out; the records hold "
            + ", ".join([r.lesion_id for r in rows][:12])
        )
    return tuple(r for r in rows if r.lesion_id not in lesions)


def first_lesions(records: Iterable[Record]) -> tuple[Record, ...]:
    """The lesion of each patient that was treated first, in the order of the records.

    By the date of the first procedure where it is known for every lesion of the patient, to the
    month or year if one is known no better; else, and among equals, by the order of the records.
    """
    groups: dict[str, list[Record]] = {}
    rows = tuple(records)
    for r in rows:
        groups.setdefault(r.patient.patient_id, []).append(r)
    if len(groups) == len(rows):
        return rows
    kept = {(g[0] if len(g) == 1 else _first(g)).lesion_id for g in groups.values()}
    return tuple(r for r in rows if r.lesion_id in kept)


def sensitivity(
    records: Iterable[Record], rule: PainRule | None = None, baseline: BaselineRule = DAY_0
) -> tuple[ChangeRow, ...]:
    """Does the result hold when a patient with several lesions counts once? One row a unit."""
    rows = tuple(records)
    return tuple(change_row(rows, rule, baseline, unit=unit) for unit in UNIT_SENTENCES)


@dataclass(frozen=True, kw_only=True)
class ImportantDecreases:
    """How many lesions have a decrease that matters, by points and by fractions.

    Fractions leave out lesions without pain before, which cannot fall.
    """

    sentence: str
    by_points: Proportion
    by_fraction: Proportion
    by_half: Proportion
    acceptable: Proportion  # pain after at or below what patients find acceptable


def important_decreases(pairs: Paired) -> ImportantDecreases:
    """How many lesions have at least 2 points, 30 % and 50 % less pain than before?

    The thresholds come from ``facts/response.toml``.
    """
    facts = load("response")
    points, part = facts["important_points"].mean, facts["important_fraction"].mean
    half, acceptable = facts["substantial_fraction"].mean, facts["acceptable_pain"].mean
    painful = [p for p in pairs.pairs if p.before.score > 0]

    def fell(fraction: float) -> Proportion:
        hits = (at_most(p.after.score, p.before.score * (1.0 - fraction)) for p in painful)
        return Proportion(sum(hits), len(painful))

    return ImportantDecreases(
        sentence=(
            f"A decrease counts from {points:g} points, {part:.0%} and {half:.0%} of the score "
            f"before; pain of at most {acceptable:g} is acceptable. {pairs.rule.sentence} "
            f"{pairs.baseline.sentence}"
        ),
        by_points=Proportion(sum(at_most(points, p.decrease) for p in pairs.pairs), len(pairs)),
        by_fraction=fell(part),
        by_half=fell(half),
        acceptable=Proportion(
            sum(at_most(p.after.score, acceptable) for p in pairs.pairs), len(pairs)
        ),
    )


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None


def _reason(
    r: Record,
    before: Standing | None,
    after: Standing | None,
    rule: PainRule,
    baseline: BaselineRule,
) -> str:
    reasons = []
    if before is None:
        reasons.append(f"no baseline ({baseline.name})")
    if after is None:
        reasons.append(f"no score ({rule.name})")
        died = r.course.death_day
        if died is not None and died <= rule.day:
            reasons.append(f"died on day {died:g}")
    return ", ".join(reasons)


def _by_patient(pairs: Iterable[Pair]) -> list[Pair]:
    groups: dict[str, list[Pair]] = {}
    for p in pairs:
        groups.setdefault(p.patient_id, []).append(p)
    out = []
    for patient, group in groups.items():
        names = [p.lesion_id for p in group]
        out.append(
            group[0]
            if len(group) == 1
            else Pair(
                lesion_id="+".join(names),
                patient_id=patient,
                before=_mean([p.before for p in group], names),
                after=_mean([p.after for p in group], names),
            )
        )
    return out


def _patient_means(
    standings: Mapping[str, Standing], patients: Mapping[str, str]
) -> dict[str, Standing]:
    groups: dict[str, list[str]] = {}
    for lesion in standings:
        groups.setdefault(patients[lesion], []).append(lesion)
    return {
        "+".join(names): standings[names[0]]
        if len(names) == 1
        else _mean([standings[n] for n in names], names)
        for names in groups.values()
    }


def _mean(standings: Sequence[Standing], names: Sequence[str]) -> Standing:
    days = sorted({d for s in standings for d in s.days})
    return Standing(
        score=sum(s.score for s in standings) / len(standings),
        days=tuple(days),
        how=f"mean of lesions {', '.join(names)}",
    )


def _first(group: Sequence[Record]) -> Record:
    dates = [min((p.date for p in r.procedures if p.date), default="") for r in group]
    known = min(map(len, dates))  # a month and a day are compared as months
    order = [d[:known] for d in dates]
    return group[order.index(min(order))]
