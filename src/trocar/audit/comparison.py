"""Own rates beside standards and published series, by operator, and over time.

An outcome is told of one lesion: yes, no, or None where it is not known. Everything here is counted
from that, so a rate, its funnel and its CUSUM cannot disagree about who counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trocar.audit.suppression import Sum
from trocar.audit.tables import (
    Cases,
    Counts,
    CountTable,
    interval,
    last_said,
    leak_said,
    leak_status,
    visit_near,
    vital_status,
)
from trocar.facts.source import Value, load
from trocar.model.study import Record

Word = Literal["compatible with", "above", "below", "too few to tell", "nothing recorded"]
FEWER = ("stopped", "at most half", "reduced")


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """A yes-or-no outcome of a lesion; ``good`` says whether more of it is better.

    ``standard`` is what NICE's documents let one expect; ``published`` names the outcome in
    ``audit.evidence``.
    """

    name: str
    title: str
    good: bool
    of: Callable[[Record], bool | None]
    among: Literal["treated", "analysed"]
    standard: Value | None = None
    published: str = ""
    rule: str = ""  # how it is judged, printed beside the rate


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The own rate of an outcome beside one standard or one published series.

    ``own_key`` is the own count, ``n_key`` its denominator. ``p_value`` is Fisher's exact test
    against a published series. ``word`` is the verdict; ``sentence`` says it in full.
    """

    outcome: str
    title: str
    good: bool
    own_key: str
    n_key: str
    x: int | None
    n: int | None
    low: float | None
    high: float | None
    against: str  # "HTG3 2.4.1: ..." or the series
    kind: Literal["standard", "series"]
    other_x: int | None
    other_n: int | None
    other_fraction: float | None
    other_low: float | None
    other_high: float | None
    p_value: float | None
    word: Word
    sentence: str


@dataclass(frozen=True, kw_only=True)
class ClusterRow:
    """One outcome told of lesions, of patients, and with lesions of a patient held together."""

    outcome: str
    title: str
    lesions: tuple[int, int] | None  # x, n
    lesions_interval: tuple[float, float] | None  # exact, as if independent
    cluster_interval: tuple[float, float] | None
    design_effect: float | None
    patients: tuple[int, int] | None  # any lesion of the patient
    patients_interval: tuple[float, float] | None
    first_lesions: tuple[int, int] | None
    first_interval: tuple[float, float] | None
    patient_average: float | None  # mean of the patients' own fractions
    method: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FunnelUnit:
    """One operator: x of n, and whether it lies beyond the limits around the target."""

    label: str
    x: int | None
    n: int | None
    fraction: float | None
    side_95: int  # -1 fewer, 1 more than chance explains, 0 neither
    side_998: int
    key: str
    n_key: str


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """Operators around a target; ``limits`` are (n, low 95, high 95, low 99.8, high 99.8)."""

    outcome: str
    title: str
    target: float
    target_from: str
    units: tuple[FunnelUnit, ...]
    limits: tuple[tuple[int, float, float, float, float], ...]
    operator_unknown: int | None


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """CUSUM and VLAD of an outcome in the order of the procedures.

    ``lesions`` are in that order; ``undated`` were left out for want of a date. ``ties`` counts
    those whose place among others of the same day or month is that of the file.
    """

    outcome: str
    title: str
    lesions: tuple[str, ...]
    outcomes: tuple[bool, ...]
    expected: float
    expected_from: str
    raised: float
    limit: float
    values: tuple[float, ...]
    vlad: tuple[float, ...]
    signals: tuple[int, ...]
    undated: int
    ties: int
    run_length_in_control: float


def outcomes(
    cases: Cases, *, week1_rule: Any = None, opioid_table: str | None = None
) -> tuple[Outcome, ...]:
    """The outcomes an audit compares, with the standard of each."""
    from trocar.followup.opioids import omed_at, omed_before, opioid_change
    from trocar.followup.rules import DAY_0, DAY_0_ELSE_1, default_rule

    facts = load("governance")
    rule = default_rule() if week1_rule is None else week1_rule

    def relieved(record: Record) -> bool | None:
        before, after = DAY_0.apply(record.course.pain), rule.apply(record.course.pain)
        return None if before is None or after is None else after.score < before.score

    def not_worse(record: Record) -> bool | None:
        before, after = DAY_0_ELSE_1.apply(record.course.pain), rule.apply(record.course.pain)
        return None if before is None or after is None else after.score <= before.score

    def less_medication(record: Record) -> bool | None:
        word = visit_near(record, "Wk1", "medication")
        if word is not None:
            return word in FEWER
        series = record.course.opioids
        return opioid_change(
            omed_before(series, opioid_table), omed_at(series, rule.day, opioid_table)
        ).decreased

    def mobile(record: Record) -> bool | None:
        word = visit_near(record, "Wk1", "mobility")
        return None if word is None else word == "improved"

    def happy(record: Record) -> bool | None:
        both = last_said(record, "satisfied"), last_said(record, "would_have_again")
        return None if None in both else all(both)

    early = facts["early_death"].mean
    return (
        Outcome(
            name="leak", title="any leak of cement", good=False, of=leak_status, among="treated",
            standard=facts["leak_at_most"], published="leak",
            rule="Per lesion in which leakage was looked for and the result recorded.",
        ),
        Outcome(
            name="symptomatic leak", title="symptomatic leak", good=False,
            of=lambda r: leak_said(r, "symptomatic"), among="treated",
            standard=facts["symptomatic_leak_at_most"], published="symptomatic leak",
            rule="Per lesion in which leakage was looked for and its symptoms recorded.",
        ),
        Outcome(
            name="leak intervention", title="leak needing intervention", good=False,
            of=lambda r: leak_said(r, "intervention"), among="treated",
            standard=facts["leak_intervention_at_most"],
            rule="Per lesion in which leakage was looked for and what it needed recorded.",
        ),
        Outcome(
            name="pain relief", title="less pain at 1 week", good=True, of=relieved,
            among="analysed", standard=facts["pain_relief_at_least"], published="pain relief",
            rule=f"{rule.sentence} {DAY_0.sentence} Relief is any lower score.",
        ),
        Outcome(
            name="not worse", title="not worse at 1 week", good=True, of=not_worse,
            among="analysed", published="",
            rule=f"{rule.sentence} {DAY_0_ELSE_1.sentence} An equal score counts.",
        ),
        Outcome(
            name="less medication", title="less analgesia", good=True, of=less_medication,
            among="analysed", standard=facts["less_medication_at_least"],
            published="less medication",
            rule="The visit's word on analgesics at 1 week, else the opioids before and after.",
        ),
        Outcome(
            name="mobility", title="mobility improved at 1 week", good=True, of=mobile,
            among="analysed", standard=facts["mobility_at_least"], published="mobility",
            rule="Of those asked within the window of 1 week.",
        ),
        Outcome(
            name="satisfaction", title="satisfied and would have it again", good=True, of=happy,
            among="analysed", standard=facts["satisfied_at_least"], published="satisfaction",
            rule="Of those who answered both questions, their last answers.",
        ),
        Outcome(
            name="complication", title="any complication", good=False,
            of=lambda r: bool(r.course.complications), among="treated", published="complication",
            rule="A lesion without a complication written down counts as free of them.",
        ),
        Outcome(
            name="death", title=f"death within {early:.0f} days", good=False,
            of=lambda r: vital_status(r, early), among="treated",
            rule="Of those seen on or after the day, or known to have died.",
        ),
    )  # fmt: skip


def told(cases: Cases, outcome: Outcome) -> tuple[tuple[Record, bool], ...]:
    """The lesions of which an outcome is known, with the answer."""
    found = ((r, outcome.of(r)) for r in getattr(cases, outcome.among))
    return tuple((r, bool(a)) for r, a in found if a is not None)


Told = Mapping[str, tuple[tuple[Record, bool], ...]]


def outcome_counts(cases: Cases, chosen: Sequence[Outcome], answers: Told) -> CountTable:
    """Each outcome: lesions, patients, first lesions that have it, of those known."""
    c = Counts("outcomes", "Outcomes by lesion and by patient", "lesions and patients", cases.level)
    for o in chosen:
        for group, found in units(answers[o.name]).items():
            n_key = f"outcomes | known | {o.name} by {group}"
            c.add(group, o.title, sum(found), len(found), n_key, _key(o.name, group))
    return c.done("Of patients: any of their lesions. First: the lesion treated first.")


def _key(outcome: str, group: str) -> str:
    return f"outcomes | {group} | {outcome}"


def units(answers: Sequence[tuple[Record, bool]]) -> dict[str, tuple[bool, ...]]:
    """The answers of lesions, of patients (any lesion) and of first lesions."""
    from trocar.followup.change import first_lesions

    patients: dict[str, bool] = {}
    for r, a in answers:
        patients[r.patient.patient_id] = patients.get(r.patient.patient_id, False) or a
    by_lesion = {r.lesion_id: a for r, a in answers}
    first = first_lesions(r for r, _ in answers)
    return {
        "lesions": tuple(a for _, a in answers),
        "patients": tuple(patients.values()),
        "first lesions": tuple(by_lesion[r.lesion_id] for r in first),
    }


def cluster_rows(cases: Cases, chosen: Sequence[Outcome], answers: Told) -> tuple[ClusterRow, ...]:
    """Do the rates hold when a patient with several lesions is not counted as several people?"""
    from trocar.stats.clusters import cluster_proportion

    rows = []
    for o in chosen:
        known = answers[o.name]
        if not known:
            continue
        by = units(known)
        who = [r.patient.patient_id for r, _ in known]
        held = cluster_proportion([a for _, a in known], who, level=cases.level)
        own: dict[str, list[bool]] = {}
        for name, (_, a) in zip(who, known, strict=True):
            own.setdefault(name, []).append(a)
        average = sum(sum(v) / len(v) for v in own.values()) / len(own)
        counted = {g: (sum(v), len(v)) for g, v in by.items()}
        limits = {g: interval(x, n, cases.level) for g, (x, n) in counted.items()}
        rows.append(
            ClusterRow(
                outcome=o.name,
                title=o.title,
                lesions=counted["lesions"],
                lesions_interval=_both(limits["lesions"]),
                cluster_interval=(held.low, held.high),
                design_effect=held.design_effect,
                patients=counted["patients"],
                patients_interval=_both(limits["patients"]),
                first_lesions=counted["first lesions"],
                first_interval=_both(limits["first lesions"]),
                patient_average=average,
                method=held.method,
                keys=tuple(_key(o.name, g) for g in counted),
            )
        )
    return tuple(rows)


def _both(limits: tuple[float | None, float | None]) -> tuple[float, float] | None:
    low, high = limits
    return None if low is None or high is None else (low, high)


# -------------------------------------------------------------------------------- benchmarks


def verdict(x: int, n: int, standard: float, level: float) -> Word:
    """Is a rate above or below a standard, or compatible with it, or can nobody tell?

    Too few to tell: not even none, nor all, of so many cases would lie apart from the standard, or
    the side that would be good or bad news cannot be reached. A standard of 0 or 1 has one side.

    >>> verdict(0, 3, 0.27, 0.95), verdict(9, 11, 0.27, 0.95), verdict(15, 61, 0.27, 0.95)
    ('too few to tell', 'above', 'compatible with')
    """
    if n == 0:
        return "nothing recorded"
    low, high = interval(x, n, level)
    assert low is not None
    assert high is not None
    if low > standard:
        return "above"
    if high < standard:
        return "below"
    none, all_ = interval(0, n, level)[1], interval(n, n, level)[0]
    assert none is not None
    assert all_ is not None
    can_be_below, can_be_above = none < standard, all_ > standard
    fair = (can_be_below or standard <= 0) and (can_be_above or standard >= 1)
    return "compatible with" if fair else "too few to tell"


def benchmarks(cases: Cases, chosen: Sequence[Outcome], answers: Told) -> tuple[Benchmark, ...]:
    """Own rates beside the standards of the guidance and the series that were published."""
    rows: list[Benchmark] = []
    for o in chosen:
        by_unit = units(answers[o.name])
        x, n = sum(by_unit["lesions"]), len(by_unit["lesions"])
        if o.standard is not None:
            v = o.standard
            rows.append(
                _row(
                    o,
                    _Own(x=x, n=n, group="lesions", limits=interval(x, n, cases.level)),
                    verdict(x, n, v.mean, cases.level),
                    kind="standard",
                    against=v.source,
                    other=(None, None, v.mean, v.low, v.high),
                )
            )
        for label, unit, a, b in published(o.published):
            group = "patients" if unit == "patients" else "lesions"
            x, n = sum(by_unit[group]), len(by_unit[group])
            p = fisher_p(x, n, a, b)
            low, high = interval(a, b, cases.level)
            rows.append(
                _row(
                    o,
                    _Own(x=x, n=n, group=group, limits=interval(x, n, cases.level)),
                    _series_word(x, n, a, b, p, cases.level),
                    kind="series",
                    against=f"{label} ({unit})",
                    other=(a, b, a / b, low, high),
                    p_value=p,
                )
            )
    return tuple(rows)


def published(outcome: str) -> tuple[tuple[str, str, int, int], ...]:
    """The published series of an outcome that have counts: (document and clause, unit, x, n)."""
    from trocar.audit import evidence

    if outcome not in evidence.outcomes():
        return ()
    found = evidence.benchmarks(outcome)
    return tuple((b.label, b.item.unit, b.x, b.n) for b in found if b.x is not None and b.n)


def fisher_p(x: int, n: int, other_x: int, other_n: int) -> float | None:
    """Two-sided P of Fisher's exact test of two proportions; None where one has no cases.

    Straight from SciPy: ``stats.exact.fisher`` also seeks the odds ratio, which is slow in large
    studies.
    """
    from scipy.stats import fisher_exact

    if not n or not other_n:
        return None
    return float(fisher_exact([[x, n - x], [other_x, other_n - other_x]]).pvalue)


def _series_word(x: int, n: int, a: int, b: int, p: float | None, level: float) -> Word:
    """As ``verdict``, with Fisher's test in place of the interval."""
    if p is None:
        return "nothing recorded"
    if p <= 1 - level:
        return "above" if x / n > a / b else "below"
    if n < load("governance")["fewest_to_compare"].mean:
        return "too few to tell"
    ends = [fisher_p(k, n, a, b) for k in (0, n)]
    apart = [e is not None and e <= 1 - level for e in ends]
    fair = (apart[0] or a == 0) and (apart[1] or a == b)
    return "compatible with" if fair else "too few to tell"


@dataclass(frozen=True, kw_only=True)
class _Own:
    x: int
    n: int
    group: str  # lesions or patients
    limits: tuple[float | None, float | None]


def _row(
    o: Outcome,
    own: _Own,
    word: Word,
    *,
    kind: Literal["standard", "series"],
    against: str,
    other: tuple[int | None, int | None, float | None, float | None, float | None],
    p_value: float | None = None,
) -> Benchmark:
    return Benchmark(
        outcome=o.name,
        title=o.title,
        good=o.good,
        own_key=_key(o.name, own.group),
        n_key=f"outcomes | known | {o.name} by {own.group}",
        x=own.x,
        n=own.n,
        low=own.limits[0],
        high=own.limits[1],
        against=against,
        kind=kind,
        other_x=other[0],
        other_n=other[1],
        other_fraction=other[2],
        other_low=other[3],
        other_high=other[4],
        p_value=p_value,
        word=word,
        sentence=_sentence(o.title, own, word, kind, 100 * (other[2] or 0.0)),
    )


def _sentence(title: str, own: _Own, word: Word, kind: str, percent: float) -> str:
    aim = (
        f"the standard of {percent:.3g} %"
        if kind == "standard"
        else f"the {percent:.0f} % of the published series"
    )
    if word == "nothing recorded":
        return f"{title}: nothing was recorded to compare with {aim}"
    rate = f"{title}: {own.x} of {own.n} {own.group} ({100 * own.x / own.n:.0f} %)"
    if word == "too few to tell":
        return f"{rate}, too few to tell from {aim}"
    return f"{rate}, {word} {aim}"


# ---------------------------------------------------------------------- operators and time


def funnel(
    cases: Cases, outcome: Outcome, known: Sequence[tuple[Record, bool]]
) -> tuple[Funnel, CountTable]:
    """How does each operator stand against the standard, or the unit's own rate without one?

    Operators are those of the first procedure of each lesion.
    """
    from trocar.stats.monitoring import funnel_limits

    c = Counts(
        f"operators, {outcome.name}", f"By operator: {outcome.title}", "lesions", cases.level
    )
    groups: dict[str, list[bool]] = {}
    silent: list[bool] = []
    for r, a in known:
        operator = r.procedures[0].operator_id if r.procedures else None
        (silent if operator is None else groups.setdefault(operator, [])).append(a)
    overall = [a for _, a in known]
    if outcome.standard is not None:
        target, origin = outcome.standard.mean, outcome.standard.source
    else:
        target = sum(overall) / len(overall) if overall else 0.0
        origin = "the unit's own rate"
    drawn = 0 < target < 1
    sizes = sorted({len(v) for v in groups.values()})
    smooth = sorted({*sizes, *_ladder(max(sizes, default=0))})
    limits: list[tuple[int, float, float, float, float]] = []
    sides: dict[str, tuple[int, int]] = {}
    if drawn and smooth:
        inner = funnel_limits(target, smooth)
        outer = funnel_limits(target, smooth, level=0.998)
        limits = [
            (n, float(a), float(b), float(p), float(q))
            for n, a, b, p, q in zip(
                smooth, inner.low, inner.high, outer.low, outer.high, strict=True
            )
        ]
        ns = [len(v) for v in groups.values()]
        xs = [sum(v) for v in groups.values()]
        a95 = funnel_limits(target, ns).side(xs)
        a998 = funnel_limits(target, ns, level=0.998).side(xs)
        sides = {k: (int(p), int(q)) for k, p, q in zip(groups, a95, a998, strict=True)}
    table = [
        FunnelUnit(
            label=name, x=sum(v), n=len(v), fraction=sum(v) / len(v),
            side_95=sides.get(name, (0, 0))[0], side_998=sides.get(name, (0, 0))[1],
            key=c.key(name, "had it"), n_key=c.key(name, "known"),
        )
        for name, v in sorted(groups.items())
    ]  # fmt: skip
    total, hits = f"outcomes | known | {outcome.name} by lesions", _key(outcome.name, "lesions")
    rest_n, rest_x = (
        c.key("operator not recorded", "known"),
        c.key("operator not recorded", "had it"),
    )
    for u in table:
        c.add("by operator", u.label, u.x or 0, u.n or 0, u.n_key, u.key)
    c.add("by operator", "operator not recorded", sum(silent), len(silent), rest_n, rest_x)
    if known:
        c.sums.append(Sum(total, (*(u.n_key for u in table), rest_n)))
        c.sums.append(Sum(hits, (*(u.key for u in table), rest_x)))
        c.unprinted.update({total: len(known), hits: sum(overall)})
    return Funnel(
        outcome=outcome.name, title=outcome.title, target=target, target_from=origin,
        units=tuple(table), limits=tuple(limits), operator_unknown=len(silent),
    ), c.done(outcome.rule)  # fmt: skip


def _ladder(largest: int) -> list[int]:
    """Sizes at which the limits are drawn: every one while small, then sparser."""
    out, n = [], 1
    while n <= largest:
        out.append(n)
        n += max(1, n // 20)
    return out


def monitor(
    cases: Cases, outcome: Outcome, known: Sequence[tuple[Record, bool]], expected: Value
) -> Monitor | None:
    """Has the rate risen since the unit began? CUSUM and VLAD in the order of the procedures.

    Against ``expected`` and a rate raised by the ratio of ``facts/governance.toml``. None where no
    lesion has a date.
    """
    from trocar.stats.monitoring import cusum, cusum_run_length, vlad

    facts = load("governance")
    p0 = expected.mean
    p1 = min(facts["cusum_ratio"].mean * p0, (1 + p0) / 2)
    limit = facts["cusum_limit"].mean
    dated = []
    for r, a in known:
        dates = [p.date for p in r.procedures]
        if dates and all(dates):
            dated.append((min(d for d in dates if d), r.lesion_id, a))
    if not dated:
        return None
    dated.sort(key=lambda row: row[0])
    order = [row[0] for row in dated]
    hits = [row[2] for row in dated]
    found = cusum(hits, p0, p1, limit=limit)
    days = Counter(order)
    return Monitor(
        outcome=outcome.name,
        title=outcome.title,
        lesions=tuple(row[1] for row in dated),
        outcomes=tuple(hits),
        expected=p0,
        expected_from=expected.source,
        raised=p1,
        limit=limit,
        values=tuple(found.values.tolist()),
        vlad=tuple(vlad(hits, p0).tolist()),
        signals=found.signals,
        undated=len(known) - len(dated),
        ties=sum(k for k in days.values() if k > 1),
        run_length_in_control=float(cusum_run_length(p0, p1, limit)),
    )
