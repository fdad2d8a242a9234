"""The whole audit of a study as one record: everything a report prints, and the rules it used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trocar.audit.comparison import (
    Benchmark,
    ClusterRow,
    Funnel,
    Monitor,
    Outcome,
    benchmarks,
    cluster_rows,
    funnel,
    monitor,
    outcome_counts,
    outcomes,
    told,
)
from trocar.audit.governance import Governance, governance, without_small
from trocar.audit.suppression import Sum, hidden_counts
from trocar.audit.tables import (
    ANALYSED,
    LESIONS,
    PATIENTS,
    Cases,
    Counts,
    CountTable,
    CourseRow,
    MeanRow,
    NominalTime,
    Table,
    WalkingRow,
    characteristics,
    complication_table,
    course_counts,
    death_table,
    early_outcome,
    event_table,
    function_table,
    last_day,
    leak_table,
    lesions_table,
    mean_counts,
    mean_table,
    nominal_time,
    opioid_counts,
    pain_course,
    pain_table,
    walking_counts,
    walking_table,
)
from trocar.errors import InputError
from trocar.facts.source import load, versions
from trocar.model.study import DataNote, Record, Study, StudyInfo

if TYPE_CHECKING:
    from trocar.followup.change import ChangeRow
    from trocar.stats.mixed import PainCourse

Tell = Callable[[str, float], None]

MULTIPLICITY = (
    "Several times, rules and outcomes are tested on the same lesions. P values are two-sided and "
    "not corrected, except those of the paired means, which are also given after Holm's correction "
    "for the number of times. None of them was chosen in advance unless the study's protocol says "
    "so; read them together, not the smallest alone."
)


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """How long the lesions were followed, under a named rule; days are None when hidden."""

    name: str
    sentence: str
    n: int | None
    median_days: float | None
    shortest_days: float | None
    longest_days: float | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A step curve over days from 0, as fractions, with the number at risk at some days.

    ``low`` and ``high`` are None where the curve has no limits. With hidden small counts the curve
    is given only at times between which nothing or many things happened, and nobody at risk.
    """

    name: str
    title: str
    days: tuple[float, ...]
    fractions: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    at_risk: tuple[tuple[float, int], ...]
    n: int | None
    events: int | None
    median_days: float | None
    note: str
    happened: tuple[tuple[int, ...], ...] = ()  # events of each cause on each day
    left: tuple[int, ...] = ()  # at risk just before each day


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One lesion over time: followed until, spans of relief (from day, to day), what happened."""

    lesion_id: str
    end_day: float
    relieved: tuple[tuple[float, float], ...]
    marks: tuple[tuple[float, str], ...]
    open_end: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Audit:
    """Everything an audit prints.

    ``counts`` holds every table of counts by name; ``tables`` the lists of single lesions, empty
    where small counts are hidden. ``rules`` are (what for, name, sentence). ``hidden`` counts how
    many counts were taken out.
    """

    info: StudyInfo
    notes: tuple[DataNote, ...]
    sha256: str
    level: float
    suppress_below: int | None
    hidden: int
    n_patients: int | None
    n_treated: int | None
    n_analysed: int | None
    rules: tuple[tuple[str, str, str], ...]
    tables: tuple[Table, ...]
    counts: Mapping[str, CountTable]
    course: tuple[CourseRow, ...]
    means: tuple[MeanRow, ...]
    walking: tuple[WalkingRow, ...]
    changes: tuple[ChangeRow, ...]
    sensitivity: tuple[ChangeRow, ...]
    mixed: PainCourse | None
    mixed_note: str
    follow_up: FollowUp
    survival: Curve | None
    recurrence: tuple[Curve, ...]
    lanes: tuple[Lane, ...]
    outcomes: tuple[Outcome, ...]
    clusters: tuple[ClusterRow, ...]
    governance: Governance
    benchmarks: tuple[Benchmark, ...]
    funnels: tuple[Funnel, ...]
    monitors: tuple[Monitor, ...]
    multiplicity: str
    facts: Mapping[str, str]

    def table(self, name: str) -> Table:
        """A list of single lesions by its name; KeyError when there is none."""
        for t in self.tables:
            if t.name == name:
                return t
        raise KeyError(f"there is no table {name!r}")


def audit_study(
    study: Study,
    *,
    week1_rule: Any = None,
    opioid_table: str | None = None,
    level: float = 0.95,
    suppress_below: int | None = None,
    progress: Tell | None = None,
) -> Audit:
    """How did the cases of a study go, and did the service meet what NICE asks?

    ``week1_rule`` is a ``followup.rules.PainRule`` saying which score stands for week 1 (default:
    the last one after the procedure up to day 7); ``opioid_table`` names the table of opioid
    equivalents; ``level`` is that of every interval. With ``suppress_below`` (5 is usual when
    counts are shared outside a unit) small counts, and what would give them away, are taken out of
    every table, and lists of cases are left out. ``progress`` is told (step, fraction done).

    Raises InputError for a study without lesions, a level not between 0 and 1, and a threshold
    below 2.
    """
    from trocar.followup.change import change_table, rules_at, sensitivity
    from trocar.followup.rules import DAY_0, default_rule

    if not study.lesions:
        raise InputError("the study holds no lesions; expected at least one to audit")
    if not 0 < level < 1:
        raise InputError(f"the level is {level:g}; expected more than 0 and less than 1, as 0.95")
    if suppress_below is not None and suppress_below < 2:
        raise InputError(f"suppress_below is {suppress_below}; expected 2 or more, usually 5")
    tell: Tell = progress or (lambda step, fraction: None)
    cases = Cases(study=study, level=level)
    rule = default_rule() if week1_rule is None else week1_rule

    tell("tables", 0.0)
    course, means, walking = pain_course(cases), mean_table(cases), walking_table(cases)
    tables = [
        sizes(cases),
        exclusions(cases),
        characteristics(cases),
        course_counts(cases, course),
        mean_counts(cases, means),
        early_outcome(cases, opioid_table),
        function_table(cases),
        walking_counts(cases, walking),
        opioid_counts(cases, "Wk1", opioid_table),
        opioid_counts(cases, "M1", opioid_table),
        *responses(cases, rule, opioid_table),
        leak_table(cases),
        complication_table(cases),
        death_table(cases),
        event_table(cases),
    ]
    tell("change of pain", 0.15)
    chosen = rules_at()
    if week1_rule is not None:
        chosen = ((week1_rule, DAY_0), *chosen)
    changes = change_table(cases.analysed, chosen)
    by_unit = sensitivity(cases.analysed, rule)
    tables += [change_counts(cases, "changes", changes), change_counts(cases, "units", by_unit)]
    tables.append(important(cases, rule))
    mixed, mixed_note = mixed_course(cases)

    tell("governance", 0.35)
    pack, governed = governance(cases, lambda part: tell("governance", 0.35 + 0.35 * part))
    tables.append(governed)

    tell("comparison", 0.7)
    all_outcomes = outcomes(cases, week1_rule=week1_rule, opioid_table=opioid_table)
    answers = {o.name: told(cases, o) for o in all_outcomes}
    tables.append(outcome_counts(cases, all_outcomes, answers))
    funnels, monitors = [], []
    facts = load("governance")
    for o in all_outcomes:
        if o.name not in ("leak", "complication"):
            continue
        expected = o.standard or facts["complication_expected"]
        shown, counted = funnel(cases, o, answers[o.name])
        funnels.append(shown)
        tables.append(counted)
        watched = monitor(cases, o, answers[o.name], expected)
        if watched is not None:
            monitors.append(watched)
    tell("courses", 0.9)
    audit = Audit(
        info=study.info,
        notes=study.notes,
        sha256=study.sha256,
        level=level,
        suppress_below=suppress_below,
        hidden=0,
        n_patients=len(cases.patients),
        n_treated=len(cases.treated),
        n_analysed=len(cases.analysed),
        rules=rules_used(rule, all_outcomes, changes),
        tables=(lesions_table(cases), pain_table(cases)),
        counts={t.name: t for t in tables},
        course=course,
        means=means,
        walking=walking,
        changes=changes,
        sensitivity=by_unit,
        mixed=mixed,
        mixed_note=mixed_note,
        follow_up=follow_up(cases),
        survival=survival(cases),
        recurrence=recurrence(cases),
        lanes=lanes(cases),
        outcomes=all_outcomes,
        clusters=cluster_rows(cases, all_outcomes, answers),
        governance=pack,
        benchmarks=benchmarks(cases, all_outcomes, answers),
        funnels=tuple(funnels),
        monitors=tuple(monitors),
        multiplicity=MULTIPLICITY,
        facts=versions(),
    )
    if suppress_below is not None:
        tell("hiding small counts", 0.95)
        audit = without_small_counts(audit, suppress_below)
    tell("done", 1.0)
    return audit


# ------------------------------------------------------------------------------ single parts


def sizes(cases: Cases) -> CountTable:
    """How many patients and lesions: in the study, treated, analysed."""
    c = Counts("sizes", "Patients and lesions", "patients and lesions", cases.level)
    people = {r.patient.patient_id for r in cases.analysed}
    c.add("lesions", "treated", len(cases.treated), len(cases.study.lesions), "lesions", LESIONS)
    c.add("lesions", "analysed", len(cases.analysed), len(cases.treated), LESIONS, ANALYSED)
    n = len(cases.study.patients)
    c.add("patients", "treated", len(cases.patients), n, "patients", PATIENTS)
    c.add("patients", "analysed", len(people), len(cases.patients), PATIENTS, "patients analysed")
    note = "Exclusions that never entered the tables of the study are counted apart."
    return replace(c.done(note), public=True)


def exclusions(cases: Cases) -> CountTable:
    """Who was recruited and left out, when, and why."""
    c = Counts("exclusions", "Exclusions", "exclusions", cases.level)
    rows = cases.study.exclusions
    for stage in ("before treatment", "from analysis"):
        found = [e.reason for e in rows if e.stage == stage]
        total = c.add("", stage, len(found), len(rows), "exclusions")
        if found:
            reasons = {r: found.count(r) for r in sorted(set(found))}
            c.parts(stage, reasons, total)
    return c.done()


def responses(cases: Cases, rule: Any, opioid_table: str | None) -> tuple[CountTable, ...]:
    """International Consensus responses at 1 week (by its rule) and at 1, 2 and 3 months."""
    from trocar.followup.consensus import KINDS
    from trocar.followup.consensus import responses as respond

    tables = []
    for label in load("governance").data["response_times"]:
        time = nominal_time(str(label))
        at = rule if label == "Wk1" else _within(time)
        found = respond(cases.analysed, rule=at, table=opioid_table)
        c = Counts(f"response {label}", f"Response at {label}", "lesions", cases.level)
        c.parts("all lesions", {str(k): n for k, n in found.counts.items()}, ANALYSED)
        kinds = [c.key("all lesions", str(k)) for k in KINDS if k != "not evaluable"]
        of = c.add("", "evaluable", found.evaluable, len(found.rows), ANALYSED)
        hit = c.add("of those evaluable", "responders (CR or PR)", found.responders.x,
                    found.responders.n, of)  # fmt: skip
        c.add("of those evaluable", "judged by pain alone", found.pain_only, found.evaluable, of)
        both = tuple(c.key("all lesions", k) for k in ("CR", "PR"))
        c.sums += [Sum(of, tuple(kinds)), Sum(hit, both)]
        tables.append(c.done(found.sentence))
    return tuple(tables)


def _within(time: NominalTime) -> Any:
    """The last score within the window of a nominal time: observed then, not carried forward."""
    from trocar.followup.rules import LastInWindow

    return LastInWindow(time.last, after_day=max(0.0, time.first))


def change_counts(cases: Cases, name: str, rows: Sequence[ChangeRow]) -> CountTable:
    """How many got better, worse, stayed, under each rule (or unit)."""
    title = {"changes": "Change of pain by rule", "units": "Change of pain by unit"}[name]
    c = Counts(name, title, "lesions", cases.level)
    for r in rows:
        group = row_name(r)
        n = len(cases.analysed)
        whole = ANALYSED
        if r.unit != "lesion":
            whole, n = "patients analysed", len({x.patient.patient_id for x in cases.analysed})
        pairs = c.add(group, "pairs", r.n_pairs, n, whole)
        c.add(group, "baseline", r.n_before, n, whole)
        c.add(group, "score after", r.n_after, n, whole)
        signs = {"improved": r.improved, "worse": r.worse, "as before": r.tied}
        keys = tuple(c.add(group, word, x, r.n_pairs, pairs) for word, x in signs.items())
        c.sums.append(Sum(pairs, keys))
    return c.done("A pair is a lesion (or patient) with a score before and one after.")


def row_name(row: ChangeRow) -> str:
    """What tells a row of a change table from the others."""
    return f"{row.rule}; {row.baseline}; {row.unit}"


def important(cases: Cases, rule: Any) -> CountTable:
    """How many have an important decrease at week 1: by points, by fractions, acceptable pain."""
    from trocar.followup.change import important_decreases, paired

    found = important_decreases(paired(cases.analysed, rule))
    c = Counts("important", "Important decrease of pain at 1 week", "lesions", cases.level)
    facts = load("response")
    pairs, painful = "important | pairs", "important | pain before"
    c.unprinted.update({pairs: found.by_points.n, painful: found.by_fraction.n})
    rows = (
        (f"by {facts['important_points'].mean:g} points or more", found.by_points, pairs),
        (f"by {facts['important_fraction'].mean:.0%} or more", found.by_fraction, painful),
        (f"by {facts['substantial_fraction'].mean:.0%} or more", found.by_half, painful),
        (f"pain of {facts['acceptable_pain'].mean:g} or less", found.acceptable, pairs),
    )
    for label, p, of in rows:
        c.add("", label, p.x, p.n, of)
    return c.done(found.sentence)


def mixed_course(cases: Cases) -> tuple[PainCourse | None, str]:
    """Mean pain at each nominal time from a mixed model with patients and lesions within them."""
    from trocar.stats.mixed import mixed_pain_course

    rows = [
        (score.score, label, r.patient.patient_id, r.lesion_id)
        for r in cases.analysed
        for label, score in cases.seen[r.lesion_id].items()
    ]
    used = {label for _, label, _, _ in rows}
    order = [t.label for t in cases.times if t.label in used]
    name = (
        "Linear mixed model of all scores: fixed effect of time, random intercepts of patients and "
        "of lesions within them, REML; missing scores are taken to be missing at random."
    )
    if len(order) < 2 or len(rows) <= len(order) + 2:
        return None, f"{name} Not fitted: too few scores."
    score, label, patient, lesion = zip(*rows, strict=True)
    try:
        found = mixed_pain_course(score, label, patient, lesion, order=order, level=cases.level)
    except InputError as error:
        return None, f"{name} Not fitted: {error}"
    return found, name


def follow_up(cases: Cases) -> FollowUp:
    """Median follow-up by the last pain score recorded; a month counts 28 days."""
    from trocar.followup import relief

    found = relief.follow_up(cases.analysed)
    silent = len(found.without_score)
    return FollowUp(
        name="last recorded pain score",
        sentence=found.sentence
        + (f" {silent} lesions without a score after it are not counted." if silent else ""),
        n=found.n,
        median_days=found.median_days,
        shortest_days=found.shortest_days,
        longest_days=found.longest_days,
    )


def survival(cases: Cases) -> Curve | None:
    """Survival of patients from their first procedure (Kaplan-Meier)."""
    from trocar.stats.survival import kaplan_meier

    dead = {d.patient_id for d in cases.study.deaths}
    if not dead:
        return None  # a flat line would say that all lived
    times, events = [], []
    for patient, records in cases.patients.items():
        died = [r.course.death_day for r in records if r.course.death_day is not None]
        end = max(died) if died else max(last_day(r) for r in records)
        if patient in dead and not died:
            continue  # dead, nobody knows when
        if end > 0:
            times.append(end)
            events.append(bool(died))
    if not times:
        return None
    found = kaplan_meier(times, events, level=cases.level)
    silent = len(cases.patients) - len(times)
    return Curve(
        name="survival", title="Survival of patients", days=(0.0, *found.times.tolist()),
        fractions=(1.0, *found.survival.tolist()), low=(1.0, *_maybe(found.low)),
        high=(1.0, *_maybe(found.high)), at_risk=_at_risk(times), n=len(times),
        events=sum(events), median_days=found.median.value,
        happened=((0,), *((int(d),) for d in found.events)),
        left=(found.n, *found.at_risk.tolist()),
        note="Kaplan-Meier from the first procedure; the living leave when last seen"
        + (f"; {silent} patients without any day are left out." if silent else "."),
    )  # fmt: skip


def recurrence(cases: Cases) -> tuple[Curve, ...]:
    """Loss of relief, with death before it as a competing event (Aalen-Johansen)."""
    from trocar.followup import relief
    from trocar.stats.survival import aalen_johansen

    told_ = relief.recurrence(relief.relief_durations(cases.analysed))
    times, causes = told_.times_days, told_.causes
    if not times.size:
        return ()
    found = aalen_johansen(times, causes, n_causes=2, level=cases.level)
    titles = {1: ("recurrence", "Pain came back"), 2: ("death", "Died before pain came back")}
    per_time = tuple(zip(*(c.events.tolist() for c in found.causes), strict=True))
    return tuple(
        Curve(
            name=titles[c.cause][0], title=titles[c.cause][1],
            days=(0.0, *c.times.tolist()), fractions=(0.0, *c.incidence.tolist()),
            low=(0.0, *_maybe(c.low)), high=(0.0, *_maybe(c.high)),
            at_risk=_at_risk(times.tolist()), n=len(times), events=int((causes == c.cause).sum()),
            median_days=None, happened=((0, 0), *per_time), left=(c.n, *c.at_risk.tolist()),
            note=f"Cumulative incidence by Aalen and Johansen, per lesion. {told_.sentence}",
        )
        for c in found.causes
    )  # fmt: skip


def _maybe(values: Iterable[float]) -> tuple[float | None, ...]:
    return tuple(None if v != v else float(v) for v in values)


def _at_risk(times: Sequence[float]) -> tuple[tuple[float, int], ...]:
    import numpy as np

    step = load("governance")["month"].mean
    last = max(times)
    while last / step > 12:
        step *= 2
    ordered = np.sort(np.asarray(times, dtype=float))
    grid = np.arange(0.0, last + step / 2, step)
    left = ordered.size - np.searchsorted(ordered, grid, side="left")
    return tuple((float(d), int(n)) for d, n in zip(grid, left, strict=True) if n)


def lanes(cases: Cases) -> tuple[Lane, ...]:
    """Each analysed lesion over time: relief as far as scored, and what happened.

    Relief holds from a score below the one before the procedure until the next score that is not.
    """
    words = {
        "pain recurrence": "recurrence",
        "new fracture adjacent": "fracture",
        "new fracture elsewhere": "fracture",
        "retreatment": "retreatment",
        "conversion to surgery": "retreatment",
    }
    out = []
    for r in cases.analysed:
        spans, going = _relief(r)
        marks = [(e.day, words[e.kind]) for e in r.course.events if e.kind in words]
        marks += [(x.day, "complication") for x in r.course.complications]
        died = r.course.death_day
        if died is not None:
            marks.append((died, "death"))
        end = last_day(r) if died is None else died
        out.append(
            Lane(
                lesion_id=r.lesion_id,
                end_day=end,
                relieved=spans,
                marks=tuple(sorted(marks)),
                open_end=going,
            )
        )
    return tuple(out)


def _relief(record: Record) -> tuple[tuple[tuple[float, float], ...], bool]:
    before = record.course.pain.before
    if before is None:
        return (), False
    spans: list[tuple[float, float]] = []
    start: float | None = None
    last = 0.0
    for s in record.course.pain.after:
        last = s.day
        if s.score < before.score:
            start = s.day if start is None else start
        elif start is not None:
            spans.append((start, s.day))
            start = None
    if start is not None:
        spans.append((start, last))
    return tuple(spans), start is not None


def rules_used(
    rule: Any, chosen: Sequence[Outcome], changes: Sequence[ChangeRow]
) -> tuple[tuple[str, str, str], ...]:
    """(what for, name, sentence) of every rule that fills a gap or judges an outcome."""
    rows = [("pain at 1 week", rule.name, rule.sentence)]
    rows += [("outcome", o.title, o.rule) for o in chosen]
    seen = {rule.name}
    for r in changes:
        if r.rule not in seen:
            seen.add(r.rule)
            rows.append(("table of rules", r.rule, r.rule_sentence))
    rows.append(
        (
            "nominal times",
            "nearest nominal time",
            "A score or visit belongs to the nominal time whose window holds it; windows meet "
            "half-way between times, and of several the nearest stands.",
        )
    )
    return tuple(rows)


# ------------------------------------------------------------------------------ small counts

# Counts of different tables that are the same count.
_SAME = (
    ("leaks | leak | any leak", "outcomes | lesions | leak"),
    ("leaks | result | looked for, result recorded", "outcomes | known | leak by lesions"),
    ("leaks | leak | symptomatic leak", "outcomes | lesions | symptomatic leak"),
    ("leaks | known | symptomatic leak", "outcomes | known | symptomatic leak by lesions"),
    ("leaks | leak | leak needing intervention", "outcomes | lesions | leak intervention"),
    (
        "leaks | known | leak needing intervention",
        "outcomes | known | leak intervention by lesions",
    ),
    ("complications | lesions | any complication", "outcomes | lesions | complication"),
    (LESIONS, "outcomes | known | complication by lesions"),
    ("complications | patients | any complication", "outcomes | patients | complication"),
    (PATIENTS, "outcomes | known | complication by patients"),
    ("function | mobility at 1 week | improved", "outcomes | lesions | mobility"),
    ("function | mobility at 1 week | answered", "outcomes | known | mobility by lesions"),
    ("function | satisfied and would have it again | yes", "outcomes | lesions | satisfaction"),
    (
        "function | satisfied and would have it again | answered",
        "outcomes | known | satisfaction by lesions",
    ),
)


def ledger(tables: Iterable[CountTable]) -> tuple[dict[str, int], tuple[Sum, ...]]:
    """Every count of an audit by its name, and how they hang together."""
    counts: dict[str, int] = {}
    sums: list[Sum] = []
    for t in tables:
        for key, x in t.counts().items():
            if counts.setdefault(key, x) != x:
                raise AssertionError(f"{key} is {counts[key]} and {x}")
        sums += [s for s in t.all_sums() if all(k in t.counts() or k in counts for k in s.keys)]
    same = [Sum(a, (b,)) for a, b in _SAME if a in counts and b in counts]
    return counts, tuple(dict.fromkeys([*sums, *same]))


def without_small_counts(audit: Audit, below: int) -> Audit:
    """The audit with counts below a threshold, and what would give them away, taken out.

    Lists of single lesions, lanes and CUSUMs (one step a case) are left out altogether.
    """
    counts, sums = ledger(audit.counts.values())
    public = {k for t in audit.counts.values() if t.public for k in t.counts()}
    gone = hidden_counts(counts, sums, below=below, public=frozenset(public))
    tables = {name: t.without(gone) for name, t in audit.counts.items()}

    def open_(*keys: str) -> bool:
        return not gone & set(keys)

    def kept_changes(name: str, rows: Sequence[ChangeRow]) -> tuple[ChangeRow, ...]:
        words = ("pairs", "baseline", "score after", "improved", "worse", "as before")
        shown = (r for r in rows if open_(*(f"{name} | {row_name(r)} | {word}" for word in words)))
        return tuple(replace(r, left_out=()) for r in shown)

    course = tuple(
        r
        if open_(r.key, r.key.replace("scored", "scored by then", 1))
        else replace(
            r, n=None, median=None, lower_quartile=None, upper_quartile=None, n_carried=None,
            median_carried=None,
        )
        for r in audit.course
    )  # fmt: skip
    means = tuple(
        r
        if open_(r.key, f"course | scored | {r.label}")
        else replace(
            r, n=None, mean=None, sd=None, n_pairs=None, mean_before=None, mean_change=None,
            sd_change=None, sign_p=None, rank_p=None, holm_p=None, how="",
        )
        for r in audit.means
    )  # fmt: skip
    walking = tuple(
        r if open_(r.key) else replace(r, n=None, mean=None, sd=None) for r in audit.walking
    )
    few = audit.follow_up.n is not None and audit.follow_up.n < below
    return replace(
        audit,
        hidden=len(gone),
        n_patients=audit.n_patients if open_(PATIENTS) else None,
        n_treated=audit.n_treated if open_(LESIONS) else None,
        n_analysed=audit.n_analysed if open_(ANALYSED) else None,
        tables=(),
        counts=tables,
        course=course,
        means=means,
        walking=walking,
        changes=kept_changes("changes", audit.changes),
        sensitivity=kept_changes("units", audit.sensitivity),
        mixed=audit.mixed if all(r.n is not None for r in course) else None,
        # The shortest and the longest are each one person's.
        follow_up=replace(
            audit.follow_up,
            n=None,
            median_days=None if few else audit.follow_up.median_days,
            shortest_days=None,
            longest_days=None,
        ),
        survival=None if audit.survival is None else coarse(audit.survival, below),
        recurrence=tuple(coarse(c, below) for c in audit.recurrence),
        lanes=(),
        clusters=tuple(r for r in audit.clusters if open_(*r.keys, *_known(r))),
        governance=without_small(audit.governance, tables["governance"]),
        benchmarks=tuple(b for b in audit.benchmarks if open_(b.own_key, b.n_key)),
        funnels=tuple(
            replace(
                f,
                units=tuple(
                    u
                    if open_(u.key, u.n_key)
                    else replace(u, x=None, n=None, fraction=None, side_95=0, side_998=0)
                    for u in f.units
                ),
                operator_unknown=None,
            )
            for f in audit.funnels
        ),
        monitors=(),
    )


def _known(row: ClusterRow) -> tuple[str, ...]:
    return tuple(
        f"outcomes | known | {row.outcome} by {group}"
        for group in ("lesions", "patients", "first lesions")
    )


def coarse(curve: Curve, below: int) -> Curve:
    """A curve at the days between which, of each cause, nothing or at least ``below`` happened.

    It ends where fewer than ``below`` are at risk. Fractions are rounded to whole per cent, limits
    and numbers at risk left out, and every other trace of single cases with them.
    """
    kept = [0]
    since = [0] * len(curve.happened[0])
    for i in range(1, len(curve.days)):
        since = [a + b for a, b in zip(since, curve.happened[i], strict=True)]
        enough = any(since) and all(k == 0 or k >= below for k in since)
        if enough and curve.left[i] - sum(curve.happened[i]) >= below:
            kept.append(i)
            since = [0] * len(since)
    days = tuple(curve.days[i] for i in kept)
    fractions = tuple(round(curve.fractions[i], 2) for i in kept)
    many = curve.events is not None and curve.events >= below
    told_ = curve.median_days is not None and curve.median_days <= days[-1]
    return replace(
        curve, days=days, fractions=fractions, low=(None,) * len(days), high=(None,) * len(days),
        at_risk=(), n=None, events=None, happened=(), left=(),
        median_days=curve.median_days if many and told_ else None,
    )  # fmt: skip
