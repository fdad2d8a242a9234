"""The audit page: one self-contained HTML file on a study, for the audit lead and for the meeting.

What must be looked into stands first, then what became of the pain, then harm, then how it compares
with what is published, then governance clause by clause, then the cases, then the rules used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trocar import NOTICE, __version__
from trocar.audit import evidence
from trocar.audit.comparison import Benchmark, Funnel, Monitor
from trocar.audit.governance import RuleResult
from trocar.audit.summary import Audit, Curve
from trocar.audit.tables import CountRow, CountTable
from trocar.errors import InputError
from trocar.report import charts
from trocar.report.figures import Figure
from trocar.report.page import Speaker, render, spoken_language, write_whole

_MANY = 12  # cases named on one line of the governance table; the rest is counted
_MOST_ROWS = 60  # lines of a list of single lesions before it is folded away
_P_DIGITS = 3
_FEWEST_POOLED = 3  # series before a pooled estimate is drawn
_FEWEST_WATCHED = 5  # cases before a CUSUM is worth drawing
_UNKNOWN = re.compile(r"\bnot (known|recorded|graded)\b")


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something to be looked into, the gravest first."""

    grade: str  # stop, caution, note
    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table of counts as printed; a group's name stands on its first line only."""

    group: str
    label: str
    count: str
    share: str
    interval: str


@dataclass(frozen=True, kw_only=True)
class Block:
    """A table of counts as printed."""

    title: str
    lines: tuple[Line, ...]
    note: str


def write_audit_page(
    path: Path | str, audit: Audit, *, language: str = "en", date: str = "", seconds: float = 0.0
) -> Path:
    """Write the audit of a study to ``path``; the file appears whole or not at all.

    Raises :class:`InputError` for an unknown language or a place that cannot be written.
    """
    html = audit_page(audit, language=language, date=date, seconds=seconds)
    return write_whole(Path(path), html, what="the audit page")


def audit_page(audit: Audit, *, language: str = "en", date: str = "", seconds: float = 0.0) -> str:
    """The audit page as HTML text; see :func:`write_audit_page`."""
    t = Speaker(spoken_language(language))
    alerts = alerts_of(audit, t)
    worst = alerts[0].grade if alerts else "ok"
    return render(
        "audit.html.jinja",
        t=t,
        language=t.language,
        notice=NOTICE,
        version=__version__,
        info=audit.info,
        period=_period(audit),
        size=_size(audit, t),
        date=date,
        grade=worst,
        headline=headline(audit, t),
        details=_details(audit, t),
        alerts=alerts,
        notes=audit.notes,
        pain_figures=_pain_figures(audit, t),
        harm_figures=_harm_figures(audit, t),
        comparison_figures=_comparison_figures(audit, t),
        changes=change_rows(audit, t),
        sensitivity=[_change(row, t) for row in audit.sensitivity if row.unit != "lesion"],
        means=mean_rows(audit, t),
        walking=walking_rows(audit, t),
        pain_blocks=_blocks(audit, _PAIN, t),
        harm_blocks=_blocks(audit, _HARM, t),
        benchmarks=[_benchmark(b, t) for b in audit.benchmarks if b.word != "nothing recorded"],
        silent=_listed(
            dict.fromkeys(t(b.title) for b in audit.benchmarks if b.word == "nothing recorded"), t
        ),
        clusters=cluster_lines(audit, t),
        rules=governance_rows(audit, t),
        clauses=audit.governance.clauses,
        devices=device_rows(audit, t),
        notices=audit.governance.notices,
        people=_blocks(audit, ("sizes", "exclusions", "characteristics"), t),
        lists=audit.tables,
        most_rows=_MOST_ROWS,
        used=audit.rules,
        mixed=mixed_lines(audit, t),
        multiplicity=audit.multiplicity,
        facts=audit.facts,
        sha256=audit.sha256,
        seconds=seconds,
        suppress_below=audit.suppress_below,
        hidden=audit.hidden,
        level=f"{100 * audit.level:g} %",
    )


_HARM = ("leaks", "complications", "deaths", "events")
_PAIN = ("early", "important", "function", "opioids Wk1", "opioids M1")


# --- the first screen ----------------------------------------------------------------------------


def headline(audit: Audit, t: Speaker) -> str:
    """Pain before and in the first week, in one sentence, with the numbers behind it."""
    row = audit.changes[0] if audit.changes else None
    if row is None and audit.suppress_below is not None:
        return t("Change of pain in the first week: hidden, for the counts are small.")
    if row is None or row.median_before is None or row.median_after is None:
        return t("Change of pain in the first week: not known.")
    return t(
        "Median pain {before:g} before ({n0} lesions), {after:g} a week after ({n1} lesions); "
        "P {p}.",
        before=row.median_before,
        n0=row.n_before,
        after=row.median_after,
        n1=row.n_after,
        p=p_text(row.p_value),
    )


def _details(audit: Audit, t: Speaker) -> tuple[str, ...]:
    out = []
    if audit.changes:
        row = audit.changes[0]
        out.append(
            t(
                "Of {n} lesions with both scores {better} were better, {worse} worse, {same} the "
                "same (exact two-sided sign test).",
                n=row.n_pairs,
                better=row.improved,
                worse=row.worse,
                same=row.tied,
            )
        )
    followed = audit.follow_up
    if followed.median_days is not None:
        out.append(
            t(
                "Median follow-up {weeks:.1f} weeks ({n} lesions).",
                weeks=followed.median_days / 7,
                n=followed.n,
            )
        )
    if audit.suppress_below is not None:
        out.append(
            t(
                "Counts below {below}, and what would give them away, are hidden: {hidden} in all.",
                below=audit.suppress_below,
                hidden=audit.hidden,
            )
        )
    return tuple(out)


def alerts_of(audit: Audit, t: Speaker) -> tuple[Alert, ...]:
    """What must be looked into: sentinel cases, unreported devices, signals, broken clauses."""
    stop, caution, note = [], [], []
    grave = (
        (t(s.what) + (f" ({s.detail})" if s.detail else ""), s.lesion_id)
        for s in audit.governance.sentinels
    )
    for what, cases in _together(grave):
        stop.append(t("Lesion {lesion}: {what}", lesion=_cases(cases), what=what))
    unsaid = [d for d in audit.governance.device_reports if d.reported is not True]
    told = (
        (
            t("not reported") if d.reported is False else t("not known whether reported"),
            f"{d.lesion_id} ({t(d.event)})",
        )
        for d in unsaid
    )
    for said, cases in _together(told):
        caution.append(
            t(
                "Complications with a device, {said} to the Yellow Card scheme: {count}, "
                "lesions {cases}.",
                count=len(cases),
                said=said,
                cases=_cases(cases),
            )
        )
    for m in audit.monitors:
        if m.signals:
            stop.append(
                t(
                    "{title}: the CUSUM passed its limit at case {case}.",
                    title=t(m.title),
                    case=m.signals[0] + 1,
                )
            )
    for b in audit.benchmarks:
        if b.kind == "standard" and b.word == ("below" if b.good else "above"):
            stop.append(
                t(
                    "{title}: {x} of {n}, {word} the standard ({against}).",
                    title=t(b.title),
                    x=b.x,
                    n=b.n,
                    word=t(b.word),
                    against=t(b.against),
                )
            )
    for f in audit.funnels:
        for u in f.units:
            if u.side_998 > 0:
                stop.append(
                    t(
                        "{title}: operator {unit} lies beyond the 99.8 % limit ({x} of {n}).",
                        title=t(f.title),
                        unit=u.label,
                        x=u.x,
                        n=u.n,
                    )
                )
    recommended = [r for r in audit.governance.rules if _recommended(r)]
    for r in recommended:
        if r.not_met:
            caution.append(
                t(
                    "{title}: not met in {count} lesions ({cases}).",
                    title=t(r.title),
                    count=r.not_met,
                    cases=_cases(r.failing),
                )
            )
    unsure = [t(r.title) for r in recommended if r.unknown]
    if unsure:
        caution.append(t("Not recorded for every lesion: {names}.", names=_listed(unsure, t)))
    others = [r for r in audit.governance.rules if r.not_met and not _recommended(r)]
    if others:
        note.append(
            t(
                "{count} items that an audit should hold are missing for some lesions; see "
                "governance.",
                count=len(others),
            )
        )
    if audit.suppress_below is not None:
        note.append(t("Cases and small counts are hidden; what they would alert to is not said."))
    graded = (("stop", stop), ("caution", caution), ("note", note))
    return tuple(Alert(grade=g, text=text) for g, texts in graded for text in texts)


def _together(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """What is said of several cases, once, with the cases."""
    out: dict[str, list[str]] = {}
    for said, case in pairs:
        out.setdefault(said, []).append(case)
    return list(out.items())


def _cases(names: Sequence[str]) -> str:
    """The first cases by name, and how many more there are."""
    more = f" +{len(names) - _MANY}" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more


def p_text(p: float | None) -> str:
    """A P value as papers print it: three digits, or '< 0.001'."""
    if p is None:
        return "–"
    if p < 10**-_P_DIGITS:
        return f"< {10**-_P_DIGITS:g}"
    return f"= {p:.{_P_DIGITS}f}"


def _recommended(r: RuleResult) -> bool:
    """Whether a rule rests on a recommendation (section 1 of the guidance), not on its text."""
    return any(re.match(r"(IPG179|HTG3|NG234) 1\.|NG234", clause) for clause in r.clauses)


def _listed(texts: Iterable[str], t: Speaker) -> str:
    return (", " if t.language == "en" else "、").join(texts)


def _period(audit: Audit) -> str:
    ends = (audit.info.period_start, audit.info.period_end)
    return " – ".join(e for e in ends if e)


def _size(audit: Audit, t: Speaker) -> str:
    if audit.n_patients is None or audit.n_analysed is None:
        return t("hidden")
    return t(
        "{patients} patients, {treated} lesions treated, {analysed} analysed",
        patients=audit.n_patients,
        treated=audit.n_treated,
        analysed=audit.n_analysed,
    )


# --- tables --------------------------------------------------------------------------------------


def _blocks(audit: Audit, names: Iterable[str], t: Speaker) -> tuple[Block, ...]:
    """The tables of counts of those names (or whose name starts so) that have lines."""
    found = [
        table
        for name in names
        for key, table in audit.counts.items()
        if key == name or key.startswith(name + " ")
    ]
    return tuple(block(table, t) for table in found if table.rows)


def block(table: CountTable, t: Speaker) -> Block:
    """A table of counts as printed: x / n, per cent, exact interval, group by group.

    A group of which nothing is known is one line that says so, not a column of noughts.
    """
    groups: dict[str, list[CountRow]] = {}
    for row in table.rows:
        groups.setdefault(row.group, []).append(row)
    lines = []
    for group, rows in groups.items():
        shown = t(group) if group else ""
        kept = _worth_printing(rows)
        if not kept:
            lines.append(
                Line(group=shown, label=t("nothing recorded"), count="", share="", interval="")
            )
        for k, row in enumerate(kept):
            lines.append(
                Line(
                    group=shown if k == 0 else "",
                    label=t(row.label),
                    count=count_text(row, t),
                    share="" if row.fraction is None else f"{100 * row.fraction:.0f} %",
                    interval=interval_text(row.low, row.high),
                )
            )
    return Block(title=t(table.title), lines=tuple(lines), note=t(table.note) if table.note else "")


def _worth_printing(rows: Sequence[CountRow]) -> list[CountRow]:
    """The rows of a group that say something: none when nothing is known of anybody.

    Hidden counts always stay, so that what is printed does not tell what was hidden.
    """
    if any(row.hidden for row in rows):
        return [row for row in rows if row.hidden or row.n]
    unknown = [r for r in rows if r.n and r.x == r.n and _UNKNOWN.search(r.label)]
    if unknown:
        return unknown
    asked = [r for r in rows if r.label == "answered"]
    if asked and not any(r.x for r in asked):
        return []
    return [r for r in rows if r.n]


def count_text(row: CountRow, t: Speaker) -> str:
    """'9/18', or the word for hidden."""
    return t("hidden") if row.hidden else f"{row.x}/{row.n}"


def interval_text(low: float | None, high: float | None) -> str:
    """'26.0 to 74.0 %' of two fractions; empty when there is none."""
    if low is None or high is None:
        return ""
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def change_rows(audit: Audit, t: Speaker) -> list[dict[str, str]]:
    """Every named rule with the medians, signs and P it gives."""
    return [_change(row, t) for row in audit.changes]


def _change(row: Any, t: Speaker) -> dict[str, str]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:g}"

    return {
        "rule": t(row.rule),
        "baseline": t(row.baseline),
        "unit": t(row.unit),
        "before": f"{number(row.median_before)} ({row.n_before})",
        "after": f"{number(row.median_after)} ({row.n_after})",
        "signs": row.signs,
        "p": "–" if row.p_value is None else f"{row.p_value:.4g}",
        "sentence": t(row.rule_sentence),
    }


def mean_rows(audit: Audit, t: Speaker) -> list[dict[str, str]]:
    """Mean and SD at each time with the tests of the pairs."""

    def pair(mean: float | None, sd: float | None) -> str:
        if mean is None:
            return "–"
        return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"

    return [
        {
            "label": t(row.label),
            "n": "–" if row.n is None else str(row.n),
            "mean": pair(row.mean, row.sd),
            "pairs": "–" if row.n_pairs is None else str(row.n_pairs),
            "change": pair(row.mean_change, row.sd_change).replace("-", "−"),
            "sign": "–" if row.sign_p is None else f"{row.sign_p:.4g}",
            "rank": "–" if row.rank_p is None else f"{row.rank_p:.4g}",
            "holm": "–" if row.holm_p is None else f"{row.holm_p:.4g}",
        }
        for row in audit.means
        if row.n or row.n is None
    ]


def walking_rows(audit: Audit, t: Speaker) -> list[dict[str, str]]:
    """Mean walking score, when anybody was scored."""
    return [
        {
            "label": t(row.label),
            "n": "–" if row.n is None else str(row.n),
            "mean": "–" if row.mean is None else f"{row.mean:.2f}",
            "sd": "" if row.sd is None else f"± {row.sd:.2f}",
        }
        for row in audit.walking
        if row.n
    ]


def _benchmark(b: Benchmark, t: Speaker) -> dict[str, str]:
    wrong = b.word == ("below" if b.good else "above")
    better = b.word == ("above" if b.good else "below")
    grade = "stop" if wrong and b.kind == "standard" else "caution" if wrong else "note"
    if b.word == "compatible with" or better:
        grade = "ok"
    other = "–" if b.other_fraction is None else f"{100 * b.other_fraction:.0f} %"
    if b.other_x is not None and b.other_n is not None:
        other = f"{b.other_x}/{b.other_n}, {other}"
    return {
        "title": t(b.title),
        "own": t("hidden") if b.x is None else f"{b.x}/{b.n}",
        "interval": interval_text(b.low, b.high),
        "against": b.against,
        "other": other,
        "p": "" if b.p_value is None else f"{b.p_value:.3f}",
        "grade": grade,
        "word": t(b.word),
    }


def cluster_lines(audit: Audit, t: Speaker) -> list[dict[str, str]]:
    """Each outcome told of lesions, of lesions with patients held together, and of patients."""

    def count(pair: tuple[int, int] | None) -> str:
        return "–" if pair is None else f"{pair[0]}/{pair[1]}"

    def span(pair: tuple[float, float] | None) -> str:
        return "–" if pair is None else interval_text(*pair)

    return [
        {
            "title": t(c.title),
            "lesions": count(c.lesions),
            "interval": span(c.lesions_interval),
            "cluster": span(c.cluster_interval),
            "patients": count(c.patients),
            "patients_interval": span(c.patients_interval),
            "first": count(c.first_lesions),
        }
        for c in audit.clusters
        if c.lesions is not None
    ]


def governance_rows(audit: Audit, t: Speaker) -> list[dict[str, str]]:
    """The rules, broken ones first, then those not known, with the cases that fail."""

    def order(r: RuleResult) -> tuple[bool, bool, bool, bool]:
        """What NICE recommends first, broken before unknown; then what an audit should hold."""
        open_ = bool(r.not_met or r.unknown)
        first = open_ and _recommended(r)
        return not first, not r.not_met, not r.unknown, not r.minimum_set

    return [_governed(r, t) for r in sorted(audit.governance.rules, key=order)]


def _governed(r: RuleResult, t: Speaker) -> dict[str, str]:
    def count(value: int | None) -> str:
        return t("hidden") if value is None else str(value)

    grade = "stop" if r.not_met else "caution" if r.unknown else "ok" if r.met else "note"
    words = {"stop": "not met", "caution": "unknown", "ok": "met", "note": "not applicable"}
    if r.not_met and not _recommended(r):
        grade = "caution"  # something not written down, not a recommendation broken
        words["caution"] = "not met"
    if None in (r.met, r.not_met, r.unknown):
        grade, words["note"] = "note", "hidden"
    return {
        "title": t(r.title),
        "standard": t(r.standard),
        "clauses": "; ".join(r.clauses),
        "grade": grade,
        "word": t(words[grade]),
        "met": count(r.met),
        "not_met": count(r.not_met),
        "unknown": count(r.unknown),
        "failing": _cases(r.failing),
        "unknown_ids": _cases(r.unknown_ids),
        "minimum": "●" if r.minimum_set else "",
    }


def device_rows(audit: Audit, t: Speaker) -> list[dict[str, str]]:
    """Complications with a device, and whether they were reported."""
    said = {True: t("yes, reported"), False: t("not reported"), None: t("unknown")}
    involved = {True: t("yes, involved"), False: t("not involved"), None: t("unknown")}
    return [
        {
            "lesion": d.lesion_id,
            "day": f"{d.day:g}",
            "event": t(d.event),
            "device": involved[d.device_related],
            "reported": said[d.reported],
        }
        for d in audit.governance.device_reports
    ]


def mixed_lines(audit: Audit, t: Speaker) -> dict[str, Any]:
    """The mixed model's change of pain against before, with its limits."""
    points = []
    if audit.mixed is not None:
        for p in audit.mixed.points:
            if p.change is not None and p.change_low is not None and p.change_high is not None:
                points.append(
                    {
                        "label": t(str(p.time)),
                        "n": str(p.n_lesions),
                        "change": f"{p.change:+.2f}".replace("-", "−"),
                        "interval": f"{p.change_low:+.2f} – {p.change_high:+.2f}".replace("-", "−"),
                    }
                )
    return {"points": points, "note": t(audit.mixed_note) if audit.mixed_note else ""}


# --- figures -------------------------------------------------------------------------------------


def _pain_figures(audit: Audit, t: Speaker) -> tuple[Figure, ...]:
    figures = []
    if any(row.median is not None for row in audit.course):
        shown = [row for row in audit.course if row.n is not None]
        labels = [row.label for row in shown]
        figures.append(
            charts.pain_course(
                [
                    charts.PainPoint(
                        label=t(row.label),
                        n=row.n or 0,
                        median=row.median,
                        low=row.lower_quartile,
                        high=row.upper_quartile,
                    )
                    for row in shown
                ],
                courses=_courses(audit, labels),
                carried=[row.median_carried for row in shown],
                title=t("Pain over time"),
                caption=t(
                    "Median of the scores observed at each time, quartiles, and how many lesions "
                    "stand behind it; dashed, with the last score carried forward. Single lesions "
                    "in grey where they are few."
                ),
                words={
                    "score": t("pain, 0 to 10"),
                    "observed": t("median observed"),
                    "carried": t("last score carried forward"),
                    "quartiles": t("quartiles"),
                    "n": "n",
                },
            )
        )
    if audit.lanes:
        many = len(audit.lanes) - charts.MOST_SWIMMERS
        note = t(" The {count} with the shortest follow-up are not drawn.", count=many)
        figures.append(
            charts.swimmers(
                [
                    charts.Lane(
                        label=lane.lesion_id,
                        end_day=lane.end_day,
                        relieved=lane.relieved,
                        marks=tuple((d, k) for d, k in lane.marks if k in charts.MARKS),
                        open_end=lane.open_end,
                    )
                    for lane in audit.lanes
                ],
                title=t("Lesion by lesion"),
                caption=t(
                    "Each lane is a lesion from its procedure to its last score; hatched while its "
                    "pain was below that before the procedure."
                )
                + (note if many > 0 else ""),
                words={
                    "weeks": t("weeks after the procedure"),
                    "followed": t("followed"),
                    "relieved": t("pain less than before"),
                    "goes on": t("relief goes on when last seen"),
                    "death": t("death"),
                    "recurrence": t("pain recurrence"),
                    "fracture": t("new fracture"),
                    "retreatment": t("retreatment"),
                    "complication": t("complication"),
                },
            )
        )
    bars = _responses(audit, t)
    return (*figures, *([bars] if bars is not None else []))


def _courses(audit: Audit, labels: Sequence[str]) -> list[list[float | None]]:
    """Single lesions at the drawn times, read from the table of scores; none where it is hidden."""
    for table in audit.tables:
        if table.name == "pain":
            where = [
                table.columns.index(label) if label in table.columns else None for label in labels
            ]
            return [[_score(row, k) for k in where] for row in table.rows]
    return []


def _score(row: Sequence[str], k: int | None) -> float | None:
    if k is None or not row[k]:
        return None
    ends = [float(part) for part in row[k].split("-")]
    return sum(ends) / len(ends)


_KINDS = ("CR", "PR", "IR", "PP", "not evaluable")


def _responses(audit: Audit, t: Speaker) -> Figure | None:
    tables = [c for name, c in audit.counts.items() if name.startswith("response")]
    times, counts = [], {kind: [] for kind in _KINDS}  # type: ignore[var-annotated]
    for table in tables:
        found = {row.label: row.x for row in table.rows}
        if any(found.get(kind) is None for kind in _KINDS) or not any(found.values()):
            continue
        times.append(t(table.name.removeprefix("response ")))
        for kind in _KINDS:
            counts[kind].append(found[kind])
    if not times:
        return None
    return charts.response_bars(
        times,
        counts,
        title=t("Response"),
        caption=t(
            "International Consensus response of each lesion at each time, with its count. Where "
            "no opioids were recorded the pain alone decides."
        ),
        words={
            "CR": t("complete response"),
            "PR": t("partial response"),
            "IR": t("indeterminate"),
            "PP": t("pain progression"),
            "not evaluable": t("not evaluable"),
            "share": t("% of lesions"),
            "n": "n",
        },
    )


def _harm_figures(audit: Audit, t: Speaker) -> tuple[Figure, ...]:
    curves = [c for c in (audit.survival, *audit.recurrence) if c is not None and len(c.days) > 1]
    if not curves:
        return ()
    return (
        charts.steps(
            {t(c.title): (c.days, c.fractions) for c in curves},
            title=t("Survival and recurrence of pain"),
            caption=t(
                "Survival (Kaplan-Meier) from the procedure, where deaths are known. Recurrence of "
                "pain from the first relieved score, with death as a competing event "
                "(Aalen-Johansen), which one minus Kaplan-Meier would overstate."
            ),
            words={
                "weeks": t("weeks"),
                "share": t("% of lesions"),
                "at risk": t("at risk, week: lesions"),
            },
            at_risk=_at_risk(curves[0]),
        ),
    )


def _at_risk(curve: Curve) -> tuple[tuple[float, int], ...]:
    return tuple(curve.at_risk)


def _comparison_figures(audit: Audit, t: Speaker) -> tuple[Figure, ...]:
    figures = [f for f in (_forest(audit, name, t) for name in _series(audit)) if f is not None]
    figures += [_funnel(f, t) for f in audit.funnels if len(f.units) > 1]
    figures += [_monitor(m, t) for m in audit.monitors if len(m.values) >= _FEWEST_WATCHED]
    return tuple(figures)


def _series(audit: Audit) -> tuple[str, ...]:
    return tuple(dict.fromkeys(b.outcome for b in audit.benchmarks if b.kind == "series"))


def _forest(audit: Audit, outcome: str, t: Speaker) -> Figure | None:
    """Published series of an outcome with our own rate under them."""
    rows, title = [], ""
    standard = None
    for b in audit.benchmarks:
        if b.outcome != outcome:
            continue
        title = t(b.title)
        if b.kind == "standard":
            standard = b.other_fraction
        elif b.other_fraction is not None and b.other_low is not None and b.other_high is not None:
            rows.append(
                charts.ForestRow(
                    label=b.against,
                    estimate=b.other_fraction,
                    low=b.other_low,
                    high=b.other_high,
                    text="" if b.other_x is None else f"{b.other_x}/{b.other_n}",
                    weight=min(1.0, (b.other_n or 1) / 100),
                )
            )
    rows += _pooled(audit, outcome, t)
    own = next((b for b in audit.benchmarks if b.outcome == outcome and b.low is not None), None)
    if own is not None and own.n and own.x is not None and own.low is not None:
        rows.append(
            charts.ForestRow(
                label=t("this study"),
                estimate=own.x / own.n,
                low=own.low,
                high=own.high if own.high is not None else own.low,
                text=f"{own.x}/{own.n}",
                pooled=True,
            )
        )
    if len(rows) < 2:
        return None
    return charts.forest(
        rows,
        title=title,
        caption=t(
            "Published series with exact intervals, those of patients pooled by a binomial-normal "
            "model (dotted: where one further series is expected); this study at the foot."
        ),
        words={"axis": "%", "prediction": t("prediction")},
        reference=standard,
    )


def _pooled(audit: Audit, outcome: str, t: Speaker) -> list[charts.ForestRow]:
    """What the published series that count patients show together; nothing when they are few."""
    published = next((o.published for o in audit.outcomes if o.name == outcome), "")
    if not published:
        return []
    try:
        together = evidence.pooled(published, unit="patients", level=audit.level)
    except InputError:  # fewer than two such series, or none with an event
        return []
    if len(together.rows) < _FEWEST_POOLED:
        return []
    p = together.pooled
    return [
        charts.ForestRow(
            label=t("{count} series of patients, pooled", count=len(together.rows)),
            estimate=p.estimate,
            low=p.low,
            high=p.high,
            text=f"{p.events}/{p.total}",
            pooled=True,
            prediction=together.prediction,
        )
    ]


def _funnel(f: Funnel, t: Speaker) -> Figure:
    return charts.funnel(
        [
            charts.FunnelPoint(label=u.label, x=u.x, n=u.n)
            for u in f.units
            if u.x is not None and u.n
        ],
        f.limits,
        f.target,
        title=t("{title} by operator", title=t(f.title)),
        caption=t(
            "Limits of chance around the target (exact binomial, interpolated). Target: {source}.",
            source=f.target_from,
        ),
        words={
            "n": t("lesions treated"),
            "rate": "%",
            "target": t("target"),
            "95": "95 %",
            "99.8": "99.8 %",
        },
    )


def _monitor(m: Monitor, t: Speaker) -> Figure:
    return charts.cusum(
        m.values,
        m.limit,
        signals=m.signals,
        vlad=m.vlad,
        title=t("{title} over time", title=t(m.title)),
        caption=t(
            "Log-likelihood CUSUM against a rise from {expected:.0f} % to {raised:.0f} %, and "
            "expected less observed cases beneath. With the expected rate a false alarm comes "
            "about every {run:.0f} cases. Expected: {source}.",
            expected=100 * m.expected,
            raised=100 * m.raised,
            run=m.run_length_in_control,
            source=m.expected_from,
        ),
        words={
            "case": t("case"),
            "cusum": "CUSUM",
            "limit": t("limit"),
            "vlad": t("expected − observed"),
        },
    )
