"""The decision sheet: what stops stands first, nothing unknown passes, both languages."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trocar import NOTICE
from trocar.cli import app
from trocar.io.records import example_study
from trocar.model.decision import Decision, Verdict
from trocar.model.study import Record
from trocar.report import decision as report
from trocar.report.page import Speaker
from trocar.selection.criteria import decide

run = CliRunner()


@pytest.fixture(scope="module")
def record() -> Record:
    return example_study().record("5")


def verdict(status: str, hard: bool = True, rule: str = "E1") -> Verdict:
    return Verdict(
        rule=rule, title=f"title {rule}", status=status, clause="IPG179 1.1",  # type: ignore[arg-type]
        reason="because {why}", values={"why": status}, hard=hard,
    )  # fmt: skip


def made(outcome: str, *verdicts: Verdict) -> Decision:
    return Decision(lesion_id="5", outcome=outcome, verdicts=verdicts)  # type: ignore[arg-type]


def test_what_is_not_met_stands_before_what_is_unknown_before_what_is_met(record: Record) -> None:
    names = ("met", "discuss", "unknown", "not applicable", "not met")
    decision = made("not eligible", *(verdict(s, rule=f"R{k}") for k, s in enumerate(names)))
    html = report.decision_sheet(record, decision)
    places = [html.index(f"title R{k}") for k in (4, 2, 1, 0, 3)]
    assert places == sorted(places)
    assert 'class="verdict stop"' in html
    assert html.index("because not met") < html.index("Rule by rule")


@pytest.mark.parametrize(
    ("outcome", "grade", "words"),
    [
        ("eligible", "ok", "Eligible: every rule that applies is met."),
        ("not eligible", "stop", "Not eligible as it stands: 1 of the rules not met."),
        ("incomplete", "caution", "Not decided: 2 of the rules not known or to be discussed."),
    ],
)
def test_the_outcome_is_one_sentence(record: Record, outcome: str, grade: str, words: str) -> None:
    verdicts = {
        "eligible": (verdict("met"),),
        "not eligible": (verdict("not met"), verdict("not met", hard=False), verdict("unknown")),
        "incomplete": (verdict("unknown"), verdict("discuss"), verdict("met")),
    }[outcome]
    html = report.decision_sheet(record, made(outcome, *verdicts))
    assert words in html
    assert f'class="verdict {grade}"' in html


def test_a_soft_rule_not_met_warns_and_does_not_stop(record: Record) -> None:
    html = report.decision_sheet(record, made("eligible", verdict("not met", hard=False)))
    assert 'class="chip caution"' in html
    assert 'class="chip stop"' not in html


def test_a_spinal_lesion_asks_for_the_spinal_surgeon(record: Record) -> None:
    decision = decide(record)
    assert ">spinal surgery</th>" in report.decision_sheet(record, decision)
    pelvic = example_study().record("1")
    assert ">spinal surgery</th>" not in report.decision_sheet(pelvic, decide(pelvic))


def test_a_score_from_a_table_nobody_verified_says_so(record: Record) -> None:
    html = report.decision_sheet(record, decide(record))
    assert re.search(r"Katagiri <sup>†</sup>", html)
    assert not re.search(r"SINS <sup>†</sup>", html)
    assert "Not computed; missing:" in html


def test_the_hong_kong_lesion_with_ablation_in_a_vertebra_is_told_of_the_leg(
    record: Record,
) -> None:
    html = report.decision_sheet(record, decide(record))
    assert "lasting paralysis of a leg" in html
    assert html.count(NOTICE) >= 2


def test_an_unknown_reason_keeps_its_numbers(record: Record) -> None:
    odd = replace(verdict("met"), reason="never translated {why}")
    html = report.decision_sheet(record, made("eligible", odd), language="zh-Hant")
    assert "never translated met" in html or "never translated 符合" in html


def test_a_place_has_its_side_in_both_languages(record: Record) -> None:
    lesion = replace(record.lesion, site="acetabulum", side="left")
    placed = replace(record, lesion=lesion)
    assert report.place(placed, Speaker("en")) == "left acetabulum"
    assert report.place(placed, Speaker("zh-Hant")) == "左髖臼"


def test_select_prints_and_writes_a_sheet_for_every_lesion(tmp_path: Path) -> None:
    out = tmp_path / "sheets"
    told = run.invoke(app, ["select", "--example", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert len(list(out.iterdir())) == 11
    assert told.stdout.count("INCOMPLETE") == 11  # the document does not say enough to decide
    one = run.invoke(app, ["select", "--example", "--lesion", "5", "--json"])
    assert '"outcome": "incomplete"' in one.stdout
