"""The decision sheet: one A4 page on one lesion that a multidisciplinary meeting can sign."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trocar import NOTICE, __version__
from trocar.model.decision import Decision, Score, Verdict
from trocar.model.study import Record
from trocar.report import words
from trocar.report.page import Speaker, render, spoken_language, write_whole

# The order in which a meeting must see the rules: what stops, what is open, what is fine.
_ORDER = ("not met", "unknown", "discuss", "met", "not applicable")
_GRADES = {
    "not met": "stop",
    "unknown": "caution",
    "discuss": "caution",
    "met": "ok",
    "not applicable": "note",
}


@dataclass(frozen=True, kw_only=True)
class RuleRow:
    """One rule as printed."""

    rule: str
    title: str
    grade: str
    status: str
    reason: str
    clause: str
    evidence: str  # "" when verified


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One score as printed."""

    name: str
    points: str
    group: str
    meaning: str
    source: str
    evidence: str


def write_decision_sheet(
    path: Path | str, record: Record, decision: Decision, *, language: str = "en", date: str = ""
) -> Path:
    """Write the decision on one lesion to ``path`` (HTML, prints to one or two A4 pages).

    Raises :class:`InputError` for an unknown language or a place that cannot be written.
    """
    html = decision_sheet(record, decision, language=language, date=date)
    return write_whole(Path(path), html, what="the decision sheet")


def decision_sheet(
    record: Record, decision: Decision, *, language: str = "en", date: str = ""
) -> str:
    """The decision sheet as HTML text; see :func:`write_decision_sheet`."""
    t = Speaker(spoken_language(language))
    ordered = sorted(decision.verdicts, key=_rank)
    spinal = record.lesion.spinal
    asked = ["radiology", *(["spinal surgery"] if spinal else []), "oncology"]
    present = (record.baseline.mdt_members if record.baseline else None) or ()
    members = list(dict.fromkeys([*asked, *present]))
    return render(
        "decision.html.jinja",
        t=t,
        language=t.language,
        notice=NOTICE,
        version=__version__,
        lesion=record.lesion,
        patient=record.patient,
        site=place(record, t),
        outcome=decision.outcome,
        grade={"eligible": "ok", "not eligible": "stop", "incomplete": "caution"}[decision.outcome],
        headline=headline(decision, t),
        known=known_rows(record, t),
        details=tuple(reason(v, t) for v in ordered if v.status == "not met" and v.hard),
        rules=tuple(_rule(v, t) for v in ordered),
        scores=tuple(_score(s, t) for s in decision.scores),
        members=[t(m) for m in members],
        facts=decision.facts,
        date=date,
    )


def known_rows(record: Record, t: Speaker) -> tuple[tuple[str, str], ...]:
    """What a signer must have before the eyes: pain, age, meeting, treatments, goals."""
    b = record.baseline
    pain = record.course.pain.before
    age = record.patient.age_years
    unknown = t("unknown")
    failed = None if b is None else b.failed_treatments
    return (
        (t("Pain before, 0 to 10"), unknown if pain is None else str(pain)),
        (t("Age"), unknown if age is None else f"{age:g}"),
        (t("Meeting"), (b.mdt_date if b else None) or unknown),
        (t("Decided on"), (b.decided_on if b else None) or unknown),
        (
            t("Treatments that failed"),
            unknown if failed is None else ", ".join(t(f) for f in failed) or t("none"),
        ),
        (t("The patient's goals"), (b.goals if b else None) or unknown),
    )


def place(record: Record, t: Speaker) -> str:
    """The treated bone with its side, in words."""
    side = record.lesion.side
    site = t(record.lesion.site)
    if side is None:
        return site
    return f"{t(side)} {site}" if t.language == "en" else f"{t(side)}{site}"


def headline(decision: Decision, t: Speaker) -> str:
    """The outcome in one sentence, with the counts that make it."""
    broken = sum(v.hard for v in decision.of("not met"))
    open_ = len(decision.of("unknown")) + len(decision.of("discuss"))
    if decision.outcome == "eligible":
        return t("Eligible: every rule that applies is met.")
    if decision.outcome == "not eligible":
        return t("Not eligible as it stands: {count} of the rules not met.", count=broken)
    return t("Not decided: {count} of the rules not known or to be discussed.", count=open_)


def reason(verdict: Verdict, t: Speaker) -> str:
    """Why a rule is met or not, in the reader's language."""
    return words.fill(t(verdict.reason), verdict.values, t.language)


def _rank(verdict: Verdict) -> tuple[int, bool]:
    return _ORDER.index(verdict.status), not verdict.hard


def _rule(verdict: Verdict, t: Speaker) -> RuleRow:
    soft = verdict.status == "not met" and not verdict.hard
    return RuleRow(
        rule=verdict.rule,
        title=t(verdict.title),
        grade="caution" if soft else _GRADES[verdict.status],
        status=t(verdict.status),
        reason=reason(verdict, t),
        clause=verdict.clause,
        evidence="" if verdict.evidence == "verified" else t(verdict.evidence),
    )


def _score(score: Score, t: Speaker) -> ScoreRow:
    meaning = t(score.meaning) if score.meaning else ""
    if score.points is None:
        missing = ", ".join(t(m.replace("_", " ")) for m in score.missing)
        meaning = t("Not computed; missing: {names}.", names=missing)
    note = f" {t(score.note)}" if score.note else ""
    return ScoreRow(
        name=t(score.name),
        points="" if score.points is None else f"{score.points:g}",
        group=t(score.group) if score.group else "",
        meaning=meaning + note,
        source=score.source,
        evidence="" if score.evidence == "verified" else t(score.evidence),
    )
