"""Pages made of a verdict, warnings and sections: what the sheets on cement and ablation share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from trocar import NOTICE, __version__
from trocar.model.case import Finding, Site, gravest_first
from trocar.model.plan import PlanRule
from trocar.model.result import Run, Scan
from trocar.report import sheet, words
from trocar.report.page import Speaker, render, write_whole
from trocar.report.sheet import Row, Verdict
from trocar.report.viewer import Embedded

ORDER = ("stop", "unknown", "caution", "note", "ok")  # worst first


def write_sections(
    path: Path | str,
    *,
    t: Speaker,
    what: str,
    title: str,
    heading: str,
    site: Site,
    lesion_id: str,
    verdict: Verdict,
    warnings: Sequence[dict[str, str]],
    sections: Sequence[dict[str, Any]],
    wants_viewer: bool,
    embedded: Embedded | None,
    viewer_after: str,
) -> Path:
    """Write a page to ``path`` and return it; the viewer stands after the section of that id.

    Raises :class:`InputError` for a place that cannot be written, naming ``what``.
    """
    spoken = words.site(site, t.language)
    html = render(
        "sections.html.jinja",
        t=t,
        language=t.language,
        notice=NOTICE,
        version=__version__,
        title=title,
        heading=heading,
        who=[
            Row(what=t("Site"), value=spoken),
            Row(what=t("Lesion"), value=lesion_id or t("not stated")),
        ],
        site=spoken,
        lesion_id=lesion_id,
        verdict=verdict,
        verdict_word=t(verdict.gravity),
        warnings=warnings,
        sections=sections,
        viewer_after=viewer_after,
        wants_viewer=wants_viewer,
        viewer=embedded,
        viewer_regions=[
            {"number": r.number, "name": named(r.structure, t), "colour": r.colour}
            for r in (embedded.regions if embedded else ())
        ],
        viewer_needles=[],
    )
    return write_whole(Path(path), html, what=what)


def worst(grades: Iterable[str], unknown: Collection[str]) -> str:
    """The worst of the grades; what is unknown makes "ok" and "caution" unknown.

    >>> worst(["note", "caution"], ["spinal_canal"]), worst(["stop"], ["aorta"]), worst([], [])
    ('unknown', 'stop', 'ok')
    """
    told = [g for g in grades if g != "note"] + (["unknown"] if unknown else [])
    return min(told, key=ORDER.index, default="ok")


def grade(name: str, t: Speaker) -> dict[str, str]:
    """A grade for a cell of a table: its sign and its word."""
    return {"grade": name, "word": t(name)}


def named(name: str, t: Speaker) -> str:
    """A structure, or another thing that is not known, in words."""
    spoken = t.name(name)
    return t(name) if spoken == name else spoken


def warned(findings: Sequence[Finding], t: Speaker) -> list[dict[str, str]]:
    """Each finding once, the gravest first."""
    said: dict[str, str] = {}
    for f in gravest_first(tuple(findings)):
        said.setdefault(words.say(f, t.language), f.gravity.value)
    return [grade(gravity, t) | {"text": words.sentence(text)} for text, gravity in said.items()]


def with_rules(
    told: Sequence[dict[str, str]], rules: Sequence[PlanRule], t: Speaker
) -> list[dict[str, str]]:
    """Warnings with every rule that does not pass and is not among them, the worst first."""
    said = {w["text"] for w in told}
    out = list(told)
    for rule in rules:  # by its own verdict
        text = words.sentence(words.say(rule.finding, t.language))
        if rule.verdict != "ok" and text not in said:
            out.append(
                grade(rule.verdict, t) | {"text": words.sentence(t(rule.rule)) + t.colon + text}
            )
    return sorted(out, key=lambda w: ORDER.index(w["grade"]))


def listed_rules(rules: Sequence[PlanRule], t: Speaker) -> dict[str, Any]:
    """The section on the rules a plan was held against, the worst first."""
    rows = [
        {
            "alarm": r.verdict == "stop",
            "cells": [
                words.sentence(t(r.rule)),
                grade(r.verdict, t),
                words.say(r.finding, t.language),
                t(r.source) if r.source else "–",
                evidence(r.verified, t),
            ],
        }
        for r in sorted(rules, key=lambda r: ORDER.index(r.verdict))
    ]
    head = [t("Rule"), t("Verdict"), t("Finding"), t("Source"), t("Evidence")]
    blocks = [{"kind": "table", "head": head, "rows": rows}]
    return {"id": "rules", "title": t("Rules"), "blocks": blocks}


def listed_unknown(unknown: Sequence[str], t: Speaker) -> dict[str, Any]:
    """The section on what could not be told."""
    lines = [named(name, t) for name in unknown] or [t("None found.")]
    blocks = [{"kind": "list", "lines": lines}]
    return {"id": "unknown", "title": t("Unknown"), "blocks": blocks}


def provenance(scan: Scan, run: Run | None, t: Speaker) -> dict[str, Any]:
    """The section that says from what, and with what, the sheet was made."""
    rows = [
        Row(what=t("CT"), value=scan.name),
        Row(what=t("CT, SHA-256"), value=scan.sha256),
    ]
    if run is None:
        rows.append(Row(what=t("Run"), value=t("not recorded")))
    else:
        rows += [
            Row(what=t("Input {name}, SHA-256", name=key), value=value)
            for key, value in run.inputs.items()
            if value != scan.sha256
        ]
        rows += [
            Row(what=t("Program"), value=f"trocar {run.version}", remark=run.command),
            Row(what=t("Made"), value=run.started),
            Row(what=t("Seed"), value=str(run.seed)),
            Row(what=t("Parameters"), value=sheet._pairs(run.parameters)),
            Row(what=t("Facts"), value=sheet._pairs(run.facts)),
            Row(what=t("Packages"), value=sheet._pairs(run.packages)),
        ]
    blocks = [{"kind": "facts", "rows": rows}]
    return {"id": "provenance", "title": t("Where the numbers come from"), "blocks": blocks}


def evidence(verified: bool, t: Speaker) -> str:
    """Whether a number was read in its source, in a word."""
    return t("verified") if verified else t("not verified")
