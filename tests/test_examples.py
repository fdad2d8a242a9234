"""Every example runs and says what its text promises."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_every_example_is_run_here() -> None:
    assert sorted(p.stem[:4] for p in EXAMPLES.glob("*.py")) == ["ex01", "ex02", "ex03"]


@pytest.mark.slow
def test_ex01_plans_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ex01", str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLES / "ex01_plan_a_synthetic_patient.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "hole in the posterior wall" in said
    assert (tmp_path / "out" / "plan.html").is_file()


@pytest.mark.slow
def test_ex02_turns_red_when_pushed_to_the_canal(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "ex02_score_a_needle_by_hand.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("verdict stop")
    assert not lines[0].endswith("verdict stop")


def test_ex03_keeps_a_study_and_tells_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ex03", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "ex03_keep_a_study.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "read back the same: True" in said
    assert "pain.csv, row 3, column low: is 'two'; expected a number from 0 to 10" in said
    assert "lesion 7, acetabulum: pain not known before, 0 on day 112" in said
