"""Tables in the form of the published ones: who was treated, their pain, leaks, harm, death.

Every count keeps its denominator, and what was not recorded is a row of its own. A table of counts
also says how its counts add up, so that small ones can be hidden for good (see ``suppression``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from trocar.audit.suppression import Sum
from trocar.facts.source import load
from trocar.model.course import COMPARTMENTS, COMPLICATIONS, PainScore, Procedure
from trocar.model.study import Record, Study

UNKNOWN = "not recorded"
# Names of the counts that tables divide by.
LESIONS, PATIENTS, ANALYSED = "lesions treated", "patients treated", "lesions analysed"
_LONG_DAYS = 1000.0  # past every time that a table names
ABLATIONS = ("radiofrequency", "microwave", "cryo", "HIFU", "plasma")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table to be printed as it stands; an empty text is an empty cell."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class CountRow:
    """``x`` of ``n`` with the exact interval of the fraction; None was hidden on purpose.

    ``key`` and ``of`` name the two counts; the same name elsewhere is the same count.
    """

    group: str
    label: str
    key: str
    of: str
    x: int | None
    n: int | None
    low: float | None = None
    high: float | None = None

    @property
    def hidden(self) -> bool:
        """Whether the row is not to be printed."""
        return self.x is None or self.n is None

    @property
    def rest(self) -> str:
        """The name of what is left of ``of``: not printed, but anybody can subtract."""
        return f"{self.of} but not {self.key}"

    @property
    def fraction(self) -> float | None:
        """x / n, or None when hidden or when n is 0."""
        return None if self.x is None or not self.n else self.x / self.n


@dataclass(frozen=True, kw_only=True)
class CountTable:
    """Counts of one kind, in groups, with the sums that tie them."""

    name: str
    title: str
    unit: str  # what is counted: lesions, patients, complications
    rows: tuple[CountRow, ...]
    sums: tuple[Sum, ...] = ()
    unprinted: Mapping[str, int] = field(default_factory=dict)  # counts that only sums mention
    note: str = ""
    public: bool = False  # sizes of the study, which are told in any case

    def row(self, label: str, group: str = "") -> CountRow:
        """The row of a label, within a group when labels repeat; KeyError when there is none."""
        for r in self.rows:
            if r.label == label and (not group or r.group == group):
                return r
        raise KeyError(f"{self.name} has no row {group} {label}".strip())

    def counts(self) -> dict[str, int]:
        """Every count by key, with the rest of each row."""
        out = dict(self.unprinted)
        for r in self.rows:
            if r.x is not None and r.n is not None:
                out.update({r.key: r.x, r.of: r.n})
                if not self.public:
                    out[r.rest] = r.n - r.x
        return out

    def all_sums(self) -> tuple[Sum, ...]:
        """The sums of the table, and that each count and its rest make the denominator."""
        rest = () if self.public else (Sum(r.of, (r.key, r.rest)) for r in self.rows)
        return (*self.sums, *rest)

    def without(self, hidden: frozenset[str]) -> CountTable:
        """The same table with hidden counts taken out, and intervals that would tell them."""
        rows = tuple(
            replace(r, x=None, n=None if r.of in hidden else r.n, low=None, high=None)
            if hidden & {r.key, r.of, r.rest}
            else r
            for r in self.rows
        )
        left = {k: v for k, v in self.unprinted.items() if k not in hidden}
        return replace(self, rows=rows, unprinted=left)


@dataclass(frozen=True)
class NominalTime:
    """A time at which pain is asked for; visits from after ``first`` to ``last`` belong to it."""

    label: str
    day: float
    first: float
    last: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Cases:
    """The cases of a study as an audit counts them.

    ``treated`` are the lesions with a procedure (all, where the study holds no procedures); harm is
    counted among them. ``analysed`` are those not excluded from analysis; pain is told of them.
    """

    study: Study
    level: float = 0.95

    @cached_property
    def treated(self) -> tuple[Record, ...]:
        """The lesions with a procedure, in the order of the study."""
        if not self.study.procedures:
            return self.study.records
        return tuple(r for r in self.study.records if r.procedures)

    @cached_property
    def analysed(self) -> tuple[Record, ...]:
        """The treated lesions that no exclusion names."""
        lesions = {e.lesion_id for e in self.study.exclusions if e.lesion_id is not None}
        patients = {e.patient_id for e in self.study.exclusions if e.lesion_id is None}
        return tuple(
            r
            for r in self.treated
            if r.lesion_id not in lesions and r.patient.patient_id not in patients
        )

    @cached_property
    def patients(self) -> Mapping[str, tuple[Record, ...]]:
        """The treated lesions of each patient."""
        groups: dict[str, list[Record]] = {}
        for r in self.treated:
            groups.setdefault(r.patient.patient_id, []).append(r)
        return {k: tuple(v) for k, v in groups.items()}

    @cached_property
    def times(self) -> tuple[NominalTime, ...]:
        """The nominal times up to the last score."""
        days = [r.course.pain.scores[-1].day for r in self.treated if len(r.course.pain)]
        return nominal_times(max(days, default=0.0))

    @cached_property
    def seen(self) -> Mapping[str, Mapping[str, PainScore]]:
        """For each analysed lesion the score that belongs to each nominal time."""
        return {r.lesion_id: scores_at(r, self.times) for r in self.analysed}


def nominal_times(last_day: float) -> tuple[NominalTime, ...]:
    """The times of ``facts/governance.toml`` and months after them, windows meeting half-way.

    >>> [t.label for t in nominal_times(30)]
    ['D0', 'D1', 'D2', 'D3', 'Wk1', 'Wk2', 'Wk3', 'M1']
    """
    facts = load("governance")
    named = [(str(t["label"]), float(t["day"])) for t in facts.data["times"]]
    month = facts["month"].mean
    while named[-1][1] + month / 2 < last_day:
        day = named[-1][1] + month
        named.append((f"M{day / month:.0f}", day))
    half = [(a[1] + b[1]) / 2 for a, b in pairwise(named)]
    edges = [float("-inf"), 0.0, *half[1:], named[-1][1] + month / 2]
    times = [
        NominalTime(label=label, day=day, first=edges[i], last=edges[i + 1])
        for i, (label, day) in enumerate(named)
    ]
    return tuple(t for t in times if t.first < last_day or t.day <= 0)


def scores_at(record: Record, times: Sequence[NominalTime]) -> dict[str, PainScore]:
    """The score nearest to each nominal time within its window; of two as near the earlier."""
    out: dict[str, PainScore] = {}
    edges = [t.last for t in times]
    for score in record.course.pain:
        i = bisect_left(edges, score.day)
        if i == len(times):
            continue
        time = times[i]
        held = out.get(time.label)
        if held is None or abs(score.day - time.day) < abs(held.day - time.day):
            out[time.label] = score
    return out


class Counts:
    """Gathers the rows of one table of counts."""

    def __init__(self, name: str, title: str, unit: str, level: float) -> None:
        self.name, self.title, self.unit, self.level = name, title, unit, level
        self.rows: list[CountRow] = []
        self.sums: list[Sum] = []
        self.unprinted: dict[str, int] = {}

    def key(self, group: str, label: str) -> str:
        """The name of a count within the audit."""
        return f"{self.name} | {group} | {label}"

    def add(self, group: str, label: str, x: int, n: int, of: str, key: str = "") -> str:
        """One row; returns the key of its count."""
        name = key or self.key(group, label)
        low, high = interval(x, n, self.level)
        self.rows.append(
            CountRow(group=group, label=label, key=name, of=of, x=x, n=n, low=low, high=high)
        )
        return name

    def parts(self, group: str, counted: Mapping[str, int], of: str) -> None:
        """Rows that exclude each other and add up to the count named ``of``."""
        n = sum(counted.values())
        keys = [self.add(group, label, x, n, of) for label, x in counted.items()]
        if keys:
            self.sums.append(Sum(of, tuple(keys)))

    def shares(self, group: str, counted: Mapping[str, int], n: int, of: str) -> tuple[str, ...]:
        """Rows that may overlap, each of the same ``n``."""
        return tuple(self.add(group, label, x, n, of) for label, x in counted.items())

    def done(self, note: str = "") -> CountTable:
        """The table."""
        return CountTable(
            name=self.name, title=self.title, unit=self.unit, rows=tuple(self.rows),
            sums=tuple(self.sums), unprinted=self.unprinted, note=note,
        )  # fmt: skip


def interval(x: int, n: int, level: float) -> tuple[float | None, float | None]:
    """The exact (Clopper-Pearson) interval of x / n; nothing where n is 0."""
    from trocar.stats.exact import Proportion

    if n == 0:
        return None, None
    found = Proportion(x, n).clopper_pearson(level)
    return found.low, found.high


# ------------------------------------------------------------------------------- who and what


def procedure_words(procedures: Iterable[Procedure]) -> str:
    """What was done to a lesion, in the order done: ``radiofrequency, then cement``."""
    said = [", then ".join(p.techniques) if p.techniques else UNKNOWN for p in procedures]
    return "; ".join(said) if said else UNKNOWN


def lesions_table(cases: Cases) -> Table:
    """Table 1: one row a lesion: number, sex, age, primary, site, date, procedure."""
    rows = []
    for r in cases.analysed:
        side = f"{r.lesion.side} " if r.lesion.side in ("left", "right") else ""
        dates = [p.date for p in r.procedures if p.date]
        rows.append(
            (
                r.lesion_id,
                r.patient.patient_id,
                r.patient.sex or "",
                "" if r.patient.age_years is None else f"{r.patient.age_years:g}",
                r.patient.primary or "",
                f"{side}{r.lesion.site}",
                min(dates) if dates else "",
                procedure_words(r.procedures),
            )
        )
    return Table(
        name="lesions",
        title="Patients and lesions",
        columns=("lesion", "patient", "sex", "age", "primary", "site", "date", "procedure"),
        rows=tuple(rows),
        note="An empty cell was not recorded.",
    )


def pain_table(cases: Cases) -> Table:
    """Table 2: the pain score of every lesion at every nominal time; empty where none was taken."""
    used = [t for t in cases.times if any(t.label in s for s in cases.seen.values())]
    rows = []
    for r in cases.analysed:
        scores = cases.seen[r.lesion_id]
        cells = (str(scores[t.label]) if t.label in scores else "" for t in used)
        rows.append((r.lesion_id, *cells))
    return Table(
        name="pain",
        title="Pain score by lesion and visit",
        columns=("lesion", *(t.label for t in used)),
        rows=tuple(rows),
        note="0 to 10; D0 is just before the procedure; an empty cell is a visit without a score, "
        "not a score of 0. A score belongs to the nearest nominal time.",
    )


def characteristics(cases: Cases) -> CountTable:
    """How many patients and lesions of each kind?"""
    c = Counts("characteristics", "Characteristics", "patients and lesions", cases.level)
    records = cases.analysed
    patients = list({r.patient.patient_id: r.patient for r in records}.values())
    many = Counter(Counter(r.patient.patient_id for r in records).values())
    analysed, people = ANALYSED, "patients analysed"
    c.parts("sex", _tally(p.sex for p in patients), people)
    c.parts("age, years", _tally((_decade(p.age_years) for p in patients), ordered=True), people)
    c.parts("primary tumour", _tally(p.primary for p in patients), people)
    c.parts("lesions a patient", {f"{k}": many[k] for k in sorted(many)}, people)
    c.parts("region", _tally(r.lesion.region for r in records), analysed)
    c.parts("site", _tally(r.lesion.site for r in records), analysed)
    c.parts("diagnosis", _tally(r.lesion.diagnosis for r in records), analysed)
    c.parts("nature", _tally(r.lesion.nature for r in records), analysed)
    c.parts("procedure", _tally(technique_group(r) for r in records), analysed)
    first = [r.procedures[0] if r.procedures else None for r in records]
    c.parts("anaesthesia", _tally(p.anaesthesia if p else None for p in first), analysed)
    guidance = Counter(g for p in first if p is not None for g in set(p.guidance or (UNKNOWN,)))
    c.shares("guidance", dict(sorted(guidance.items())), len(records), analysed)
    return c.done("Patients counted once; guidance may be of several kinds.")


def technique_group(record: Record) -> str | None:
    """``radiofrequency and cement``, ``cement alone``, ...; None where nothing was recorded."""
    done = {t for p in record.procedures for t in p.techniques or ()}
    if not done:
        return None
    ablations = [a for a in ABLATIONS if a in done]
    cement = bool(done & {"cement", "cement-filled catheter", "kyphoplasty balloon"})
    if ablations:
        return " and ".join([*ablations, *(["cement"] if cement else [])])
    return "cement alone" if cement else "other"


def _decade(age: float | None) -> str | None:
    if age is None:
        return None
    ten = int(age // 10) * 10
    return f"{ten}-{ten + 9}"


def _tally(values: Iterable[str | None], *, ordered: bool = False) -> dict[str, int]:
    """Counts, largest first (or in order); what was not recorded comes last."""
    found = Counter(UNKNOWN if v is None else v for v in values)
    order = sorted(found, key=lambda k: (k == UNKNOWN, k if ordered else (-found[k], k)))
    return {k: found[k] for k in order}


# ------------------------------------------------------------------------------------- pain


@dataclass(frozen=True, kw_only=True)
class CourseRow:
    """Pain at one nominal time: of the scores observed, and with the last one carried forward.

    None where there is no score, or where small numbers are hidden (``n`` is None then).
    """

    label: str
    day: float
    n: int | None
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None
    n_carried: int | None
    median_carried: float | None
    key: str


def pain_course(cases: Cases) -> tuple[CourseRow, ...]:
    """What was the median pain at each nominal time, and of how many lesions?

    Observed scores alone; beside them the median with the last score carried forward, the one
    before the procedure included.
    """
    held: dict[str, float] = {}
    rows = []
    for time in cases.times:
        found = []
        for r in cases.analysed:
            score = cases.seen[r.lesion_id].get(time.label)
            if score is not None:
                found.append(score.score)
                held[r.lesion_id] = score.score
        if not found:
            continue
        low, mid, high = np.quantile(found, (0.25, 0.5, 0.75)).tolist()
        carried = list(held.values())
        rows.append(
            CourseRow(
                label=time.label, day=time.day, n=len(found), median=mid, lower_quartile=low,
                upper_quartile=high, n_carried=len(carried),
                median_carried=float(np.median(carried)), key=f"course | scored | {time.label}",
            )
        )  # fmt: skip
    return tuple(rows)


def course_counts(cases: Cases, rows: Sequence[CourseRow]) -> CountTable:
    """How many lesions were scored at each time, and how many had a score by then?"""
    c = Counts("course", "Lesions with a pain score", "lesions", cases.level)
    n = len(cases.analysed)
    for r in rows:
        c.add("scored", r.label, r.n or 0, n, ANALYSED)
        c.add("scored by then", r.label, r.n_carried or 0, n, ANALYSED)
    return c.done("The others died, were not seen, or were not asked.")


@dataclass(frozen=True, kw_only=True)
class MeanRow:
    """Mean pain at a time beside the pain before, in the lesions that have both.

    ``sign_p`` and ``rank_p`` are two-sided P of the sign test and the signed-rank test; the
    ``holm_p`` is the rank test's, corrected for the number of times tested. ``how`` says how the
    signed-rank P was found.
    """

    label: str
    day: float
    n: int | None
    mean: float | None
    sd: float | None
    n_pairs: int | None
    mean_before: float | None  # of the pairs
    mean_change: float | None
    sd_change: float | None
    sign_p: float | None
    rank_p: float | None
    holm_p: float | None
    how: str
    key: str


def mean_table(cases: Cases) -> tuple[MeanRow, ...]:
    """Mean and SD of pain before, at 3 days, 1 week, 1 month and 3 months, with paired tests."""
    wanted = [str(label) for label in load("governance").data["mean_times"]]
    rows = [_mean_row(cases, nominal_time(label)) for label in wanted]
    adjusted = holm([r.rank_p for r in rows])
    return tuple(replace(r, holm_p=p) for r, p in zip(rows, adjusted, strict=True))


def _mean_row(cases: Cases, time: NominalTime) -> MeanRow:
    from trocar.stats.exact import sign_test_of

    seen = cases.seen.values()
    at = [s[time.label].score for s in seen if time.label in s]
    both = [(s["D0"].score, s[time.label].score) for s in seen if "D0" in s and time.label in s]
    baseline = time.label == "D0"
    d = np.array([a - b for b, a in both], dtype=float)
    tested = bool(d.size) and not baseline
    sign = sign_test_of(d).p_value if tested else None
    rank, how = signed_rank_p(d) if tested else (None, "")
    return MeanRow(
        label=time.label,
        day=time.day,
        n=len(at),
        mean=_mean(at),
        sd=_sd(at),
        n_pairs=len(both),
        mean_before=_mean([b for b, _ in both]),
        mean_change=_mean(d) if not baseline else None,
        sd_change=_sd(d) if not baseline else None,
        sign_p=sign,
        rank_p=rank,
        holm_p=None,
        how=how,
        key=f"means | pairs | {time.label}",
    )


def mean_counts(cases: Cases, rows: Sequence[MeanRow]) -> CountTable:
    """How many lesions stand behind each mean?"""
    c = Counts("means", "Lesions behind the means", "lesions", cases.level)
    n = len(cases.analysed)
    for r in rows:
        c.add("pairs", r.label, r.n_pairs or 0, n, ANALYSED)
        c.add("scores", r.label, r.n or 0, n, ANALYSED, f"course | scored | {r.label}")
    return c.done()


def signed_rank_p(d: Sequence[float] | np.ndarray[Any, Any]) -> tuple[float | None, str]:
    """Two-sided P of the signed-rank test, exact in small samples, and how it was found."""
    from trocar.stats.exact import signed_rank

    if not np.any(np.asarray(d) != 0):
        return None, "no difference is other than 0"
    found = signed_rank(d)
    return found.p_value, found.method


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """P values corrected for their number (Holm, Scand J Stat 1979;6:65-70); None stays None.

    >>> holm([0.01, None, 0.04, 0.03])
    (0.03, None, 0.06, 0.06)
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    out: list[float | None] = [None] * len(p_values)
    worst = 0.0
    for rank, (p, i) in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p))
        out[i] = worst
    return tuple(out)


def _mean(values: Sequence[float] | np.ndarray[Any, Any]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _sd(values: Sequence[float] | np.ndarray[Any, Any]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


# -------------------------------------------------------------------- what else became of them


def visit_near(record: Record, label: str, asked: str) -> Any:
    """What a lesion's visit at a nominal time says in one column; the nearest answer stands.

    None where nothing was recorded within the window of the time.
    """
    time = nominal_time(label)
    near = [
        (abs(v.day - time.day), v.day, getattr(v, asked))
        for v in record.course.visits
        if time.first < v.day <= time.last and getattr(v, asked) is not None
    ]
    return min(near, key=lambda t: t[:2])[2] if near else None


@cache
def nominal_time(label: str) -> NominalTime:
    """The nominal time of a label: ``D0``, ``D3``, ``Wk1``, ``M1`` ..."""
    return next(t for t in nominal_times(_LONG_DAYS) if t.label == label)


def early_outcome(cases: Cases, opioid_table: str | None) -> CountTable:
    """Pain and analgesics together at 72 hours (IPG179 2.3.1)."""
    c = Counts("early", "Outcome at 72 hours", "lesions", cases.level)
    found = Counter(_early(r, cases, opioid_table) for r in cases.analysed)
    order = (
        "no pain without analgesics",
        "important decrease of pain",
        "neither",
        "pain or analgesics not known",
    )
    counted = {k: found[k] for k in order}
    c.parts("all lesions", counted, ANALYSED)
    n = sum(counted[k] for k in order[:3])
    of = c.key("", "known")
    c.add("", "known", n, len(cases.analysed), ANALYSED, of)
    keys = [c.key("all lesions", k) for k in order[:3]]
    c.sums.append(Sum(of, tuple(keys)))
    for label, key in zip(order[:2], keys, strict=False):
        c.add("of those known", label, counted[label], n, of, key)
    return c.done(
        "Total improvement is no pain without analgesics. The source gives no rule for its 'clear "
        "improvement'; here it is a fall by the important number of points of facts/response.toml."
    )


def _early(record: Record, cases: Cases, opioid_table: str | None) -> str:
    from trocar.followup.opioids import omed

    scores = cases.seen[record.lesion_id]
    before, after = scores.get("D0"), scores.get("D3")
    time = nominal_time("D3")
    drugs = [d for d in record.course.opioids.days if time.first < d <= time.last]
    taken = omed(record.course.opioids.on(drugs[-1]), opioid_table).mg_per_day if drugs else None
    word = visit_near(record, "D3", "medication")
    if after is None or (taken is None and word is None):
        return "pain or analgesics not known"
    # A visit's word speaks of all analgesics, an opioid line of opioids alone.
    free = word == "stopped" if word is not None else taken == 0
    if after.score == 0 and free:
        return "no pain without analgesics"
    if before is None:
        return "pain or analgesics not known"
    fell = before.score - after.score
    return (
        "important decrease of pain"
        if fell >= load("response")["important_points"].mean
        else "neither"
    )


def function_table(cases: Cases) -> CountTable:
    """Mobility at one week, walking score a month later, activities, medication, satisfaction."""
    c = Counts("function", "Mobility, medication, satisfaction", "lesions", cases.level)
    records = cases.analysed
    of = ANALYSED

    def asked(group: str, values: Sequence[Any], words: Mapping[Any, str]) -> None:
        found = Counter(values)
        counted = {word: found[value] for value, word in words.items()}
        n = sum(counted.values())
        known = c.add(group, "answered", n, len(values), of)
        keys = [c.add(group, word, x, n, known) for word, x in counted.items()]
        c.sums.append(Sum(known, tuple(keys)))

    week = [visit_near(r, "Wk1", "mobility") for r in records]
    asked("mobility at 1 week", week, {w: w for w in ("improved", "same", "worse")})
    walked = [walking_change(r) for r in records]
    asked(
        "walking score at 1 month",
        [None if w is None else (w > 0) - (w < 0) for w in walked],
        {1: "better", 0: "same", -1: "worse"},
    )
    words = ("stopped", "at most half", "reduced", "same", "increased")
    said = [visit_near(r, "Wk1", "medication") for r in records]
    asked("analgesics at 1 week", said, {w: w for w in words})
    yes_no = {True: "yes", False: "no"}
    restored = [last_said(r, "activities_restored") for r in records]
    asked("activities of daily living restored", restored, yes_no)
    happy = [last_said(r, "satisfied") for r in records]
    again = [last_said(r, "would_have_again") for r in records]
    asked("satisfied", happy, yes_no)
    asked("would have it again", again, yes_no)
    both = [None if a is None or b is None else a and b for a, b in zip(happy, again, strict=True)]
    asked("satisfied and would have it again", both, yes_no)
    return c.done("Of each question the answer nearest to the time, or the last answer.")


def walking_change(record: Record) -> int | None:
    """Walking score at one month less the one before the procedure; None where one is missing."""
    before, after = walking_before(record), visit_near(record, "M1", "walking")
    return None if before is None or after is None else after - before


def walking_before(record: Record) -> int | None:
    """The last walking score at or before day 0."""
    found = [v.walking for v in record.course.visits if v.day <= 0 and v.walking is not None]
    return found[-1] if found else None


def last_said(record: Record, asked: str) -> Any:
    """The last answer to a question after the procedure, or None."""
    found = [getattr(v, asked) for v in record.course.visits if v.day > 0]
    return next((a for a in reversed(found) if a is not None), None)


@dataclass(frozen=True, kw_only=True)
class WalkingRow:
    """Mean walking score (0 to 4, 4 is best) at a time."""

    label: str
    n: int | None
    mean: float | None
    sd: float | None
    key: str


def walking_table(cases: Cases) -> tuple[WalkingRow, ...]:
    """Mean walking score before and at one month, and of those scored at both times."""
    before = [walking_before(r) for r in cases.analysed]
    after = [visit_near(r, "M1", "walking") for r in cases.analysed]
    both = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    columns: tuple[tuple[str, list[int]], ...] = (
        ("before", [b for b in before if b is not None]),
        ("1 month", [a for a in after if a is not None]),
        ("before, of those scored twice", [b for b, _ in both]),
        ("1 month, of those scored twice", [a for _, a in both]),
    )
    return tuple(
        WalkingRow(
            label=label, n=len(v), mean=_mean(v), sd=_sd(v), key=f"walking | scored | {label}"
        )
        for label, v in columns
    )


def walking_counts(cases: Cases, rows: Sequence[WalkingRow]) -> CountTable:
    """How many lesions stand behind each mean walking score?"""
    c = Counts("walking", "Lesions with a walking score", "lesions", cases.level)
    for r in rows:
        c.add("scored", r.label, r.n or 0, len(cases.analysed), ANALYSED, r.key)
    return c.done()


def opioid_counts(cases: Cases, label: str, table: str | None) -> CountTable:
    """What became of the opioids by a nominal time: stopped, at most half, ... increased."""
    from trocar.followup.opioids import opioid_changes

    changes = opioid_changes(cases.analysed, nominal_time(label).day, table)
    c = Counts(f"opioids {label}", f"Opioids by {label}", "lesions", cases.level)
    order = (
        "stopped", "at most half", "reduced", "same", "increased", "started",
        "none before or after", "not known",
    )  # fmt: skip
    found = Counter(str(change.word) for change in changes.changes.values())
    counted = {k: found[k] for k in order}
    c.parts("all lesions", counted, ANALYSED)
    taken = order[:5]
    n = sum(counted[k] for k in taken)
    known = c.add("", "opioid before, both amounts known", n, len(cases.analysed), ANALYSED)
    c.sums.append(Sum(known, tuple(c.key("all lesions", k) for k in taken)))
    fewer = sum(counted[k] for k in order[:3])
    half = sum(counted[k] for k in order[:2])
    any_key = c.add("of those", "any decrease", fewer, n, known)
    half_key = c.add("of those", "at most half of before", half, n, known)
    c.sums.append(Sum(any_key, tuple(c.key("all lesions", k) for k in order[:3])))
    c.sums.append(Sum(half_key, tuple(c.key("all lesions", k) for k in order[:2])))
    return c.done(changes.sentence)


# ------------------------------------------------------------------------------------- harm


def leak_status(record: Record) -> bool | None:
    """Was cement outside the bone found? None where it was not looked for or not recorded."""
    if record.course.leaks:
        return True
    looked = [p for p in record.procedures if p.leak_assessed != "not looked for"]
    found = [p.leak_found for p in looked]
    if any(f is True for f in found):
        return True
    return False if found and all(f is False for f in found) else None


def leak_search(record: Record) -> str:
    """How leakage was looked for: the best way used, or that it was not, or is not recorded."""
    ways = [p.leak_assessed for p in record.procedures]
    for way in ("CT", "cone-beam CT", "radiograph"):
        if way in ways:
            return way
    if leak_status(record) is not None:
        return "looked for, way not recorded"
    return "not looked for" if "not looked for" in ways else UNKNOWN


def leak_said(record: Record, asked: str) -> bool | None:
    """Whether any leak of a lesion was symptomatic (needed intervention ...); None: not known."""
    status = leak_status(record)
    if status is not True:
        return False if status is False else None
    answers = [getattr(leak, asked) for leak in record.course.leaks]
    if any(a is True for a in answers):
        return True
    return False if answers and all(a is False for a in answers) else None


def leak_table(cases: Cases) -> CountTable:
    """Cement outside the bone: any, by compartment, symptomatic, needing intervention.

    Rates are per lesion in which leakage was looked for and the result is known.
    """
    c = Counts("leaks", "Leaks of cement", "lesions", cases.level)
    records = cases.treated
    ways = (
        "CT", "cone-beam CT", "radiograph", "looked for, way not recorded", "not looked for",
        UNKNOWN,
    )  # fmt: skip
    found = Counter(leak_search(r) for r in records)
    c.parts("how looked for", {w: found[w] for w in ways}, LESIONS)
    looked = [r for r in records if leak_search(r) not in ways[-2:]]
    of = c.add("result", "looked for", len(looked), len(records), LESIONS)
    c.sums.append(Sum(of, tuple(c.key("how looked for", w) for w in ways[:4])))
    leaky = [r for r in looked if leak_status(r) is True]
    clean = [r for r in looked if leak_status(r) is False]
    known = c.add("result", "looked for, result recorded", len(leaky) + len(clean), len(looked), of)
    leak = c.add("leak", "any leak", len(leaky), len(leaky) + len(clean), known)
    n = len(leaky) + len(clean)
    where = Counter(w for r in leaky for w in {leak.compartment for leak in r.course.leaks})
    bare = sum(not r.course.leaks for r in leaky)
    named = {w: where[w] for w in COMPARTMENTS if where[w]}
    if bare:
        named["compartment not recorded"] = bare
    keys = c.shares("by compartment", named, n, known)
    if keys:
        c.sums.append(Sum(leak, keys, overlapping=True))
    for asked, title in (
        ("symptomatic", "symptomatic leak"),
        ("intervention", "leak needing intervention"),
        ("sequelae", "leak with sequelae"),
    ):
        answers = [leak_said(r, asked) for r in leaky]
        yes, no = answers.count(True), answers.count(False)
        silent = len(leaky) - yes - no
        open_ = c.add("not recorded", title, silent, len(leaky), leak)
        base, without = f"leaks | known | {title}", f"leaks | no | {title}"
        key = c.add("leak", title, yes, n - silent, base)
        c.unprinted[without] = no
        told = f"leaks | recorded | {title}"
        if yes + no:
            c.add("of lesions with a leak", title, yes, yes + no, told, key)
            c.sums.append(Sum(told, (key, without)))
        c.sums += [Sum(known, (base, open_)), Sum(leak, (key, without, open_))]
    return c.done(
        "Per lesion in which leakage was looked for and the result recorded; lesions not looked at "
        "are counted apart and never as free of leakage. One lesion may leak into several "
        "compartments. Where consequences were not recorded, the rate among all is a little low "
        "and that among leaks is not."
    )


def complication_lesions(record: Record, event: str | None = None) -> bool:
    """Whether a complication (of a kind) was recorded for a lesion."""
    return any(event in (None, x.event) for x in record.course.complications)


def complication_table(cases: Cases) -> CountTable:
    """Lesions with complications by kind and procedure; complications by grade and reporting."""
    c = Counts("complications", "Complications", "lesions", cases.level)
    records = cases.treated
    n = len(records)
    harmed = [r for r in records if r.course.complications]
    some = c.add("lesions", "any complication", len(harmed), n, LESIONS)
    kinds = {e: sum(complication_lesions(r, e) for r in harmed) for e in COMPLICATIONS}
    keys = c.shares("lesions by kind", {k: v for k, v in kinds.items() if v}, n, LESIONS)
    if keys:
        c.sums.append(Sum(some, keys, overlapping=True))
    groups = _tally(technique_group(r) for r in records)
    group_keys = {g: f"complications | lesions of | {g}" for g in groups}
    c.sums.append(Sum(LESIONS, tuple(group_keys.values())))
    hit = {g: sum((technique_group(r) or UNKNOWN) == g for r in harmed) for g in groups}
    hit_keys = [c.add("lesions by procedure", g, hit[g], groups[g], group_keys[g]) for g in groups]
    c.sums.append(Sum(some, tuple(hit_keys)))
    hurt = {r.patient.patient_id for r in harmed}
    c.add("patients", "any complication", len(hurt), len(cases.patients), PATIENTS)
    events = [x for r in records for x in r.course.complications]
    total = "complications"
    for name, most in (("CIRSE", 6), ("SIR", 5), ("CTCAE", 5)):
        grades = [getattr(x, name.lower()) for x in events]
        counted = {f"grade {g}": grades.count(g) for g in range(1, most + 1)}
        counted["not graded"] = grades.count(None)
        c.parts(f"complications by {name} grade", counted, total)
    words = {True: "yes", False: "no", None: UNKNOWN}
    for group, asked in (
        ("a device was involved", "device_related"),
        ("sequelae at 30 days", "sequelae"),
    ):
        tally = Counter(words[getattr(x, asked)] for x in events)
        c.parts(group, {w: tally[w] for w in words.values()}, total)
    device = [x for x in events if x.device_related]
    tally = Counter(words[x.yellow_card] for x in device)
    c.parts(
        "device involved: reported to Yellow Card",
        {w: tally[w] for w in words.values()},
        c.key("a device was involved", "yes"),
    )
    return c.done(
        "Complications are those written down; a lesion without a row is counted as free of them. "
        "A leak without symptoms is a leak and not a complication. Grades: CIRSE 2017, SIR 2017, "
        "CTCAE 5."
    )


def vital_status(record: Record, day: float) -> bool | None:
    """Whether a lesion's patient had died by a day; None where nobody can tell."""
    course = record.course
    if course.death_day is not None:
        return course.death_day <= day
    return False if last_day(record) >= day else None


def last_day(record: Record) -> float:
    """The last day on which anything was recorded of a lesion; 0 where nothing was."""
    course = record.course
    days = [0.0, *(s.day for s in course.pain), *course.opioids.days]
    days += [v.day for v in course.visits] + [e.day for e in course.events]
    days += [x.day for x in course.complications]
    return max(days)


def death_table(cases: Cases) -> CountTable:
    """Deaths: at all, and within 30 days of any of the patient's procedures."""
    c = Counts("deaths", "Deaths", "patients", cases.level)
    day = load("governance")["early_death"].mean
    dead = {d.patient_id for d in cases.study.deaths}
    groups = cases.patients
    c.add("patients", "death recorded", sum(p in dead for p in groups), len(groups), PATIENTS)
    status = []
    for patient, records in groups.items():
        said = [vital_status(r, day) for r in records]
        if any(s is True for s in said):
            status.append("died")
        elif patient in dead and all(r.course.death_day is None for r in records):
            status.append("not known")  # dead, but when is not recorded
        else:
            status.append("alive" if any(s is False for s in said) else "not known")
    found = Counter(status)
    group = f"{day:.0f} days after a procedure"
    known = found["died"] + found["alive"]
    c.parts(group, {k: found[k] for k in ("died", "alive", "not known")}, PATIENTS)
    of = c.add("", "status known", known, len(groups), PATIENTS)
    c.sums.append(Sum(of, (c.key(group, "died"), c.key(group, "alive"))))
    c.add(f"{group}, of those known", "died", found["died"], known, of, c.key(group, "died"))
    return c.done("A patient last seen before the day is not known, and not counted as alive.")


def event_table(cases: Cases) -> CountTable:
    """New fractures, retreatment, conversion to surgery, recurrence, loss to follow-up."""
    c = Counts("events", "Events in the course", "lesions", cases.level)
    kinds = (
        "pain recurrence",
        "new fracture adjacent",
        "new fracture elsewhere",
        "retreatment",
        "conversion to surgery",
        "lost to follow-up",
    )
    had = [{e.kind for e in r.course.events} for r in cases.treated]
    c.shares("", {k: sum(k in h for h in had) for k in kinds}, len(had), LESIONS)
    return c.done("Events are those written down; follow-up differs between lesions.")
