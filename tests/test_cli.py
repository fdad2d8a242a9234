"""The command line: what it understands, what it says when it does not, what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trocar import NOTICE, cli
from trocar.errors import InputError, TrocarError

runner = CliRunner()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (None, None)),
        ("lesion.nii.gz", (Path("lesion.nii.gz"), None)),
        ("1,2,3", (None, ("lps", (1.0, 2.0, 3.0)))),
        ("-1,-2.5,3", (None, ("lps", (-1.0, -2.5, 3.0)))),
        ("ras:1,2,3", (None, ("ras", (1.0, 2.0, 3.0)))),
        ("ijk:10,20,30", (None, ("ijk", (10.0, 20.0, 30.0)))),
        ("ball:1,2,3,8", (None, ("ball", (1.0, 2.0, 3.0, 8.0)))),
    ],
)
def test_a_lesion_is_a_file_a_point_or_a_ball(text: str | None, expected: object) -> None:
    assert cli._lesion_argument(text) == expected


@pytest.mark.parametrize("text", ["1,2", "ras:1,2", "ball:1,2,3", "1,2,3,4", "ijk:a,b,c"])
def test_half_a_point_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="x,y,z"):
        cli._lesion_argument(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "nowhere.nii.gz", "--site", "L1"],
        ["plan", "nowhere", "--site", "L1", "--lesion", "1,2,3"],
        ["inspect", "nowhere"],
        ["phantom", "unicorn"],
    ],
)
def test_what_cannot_be_used_ends_in_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    result = runner.invoke(cli.app, arguments)
    assert isinstance(result.exception, InputError)
    text = str(result.exception)
    assert arguments[1].split(".")[0] in text
    assert "\n" not in text


def test_main_turns_errors_into_a_sentence_and_exit_code_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["trocar", "plan", "nowhere.nii.gz", "--site", "L1"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("trocar: ")
    assert error.count("\n") == 1


def test_a_stop_by_hand_says_that_nothing_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trocar.pathway.plan_case", stopped)
    result = runner.invoke(cli.app, ["plan", "ct", "--site", "L1"])
    assert isinstance(result.exception, TrocarError)
    assert "nothing was changed" in str(result.exception)


def test_wrong_usage_exits_with_two() -> None:
    assert runner.invoke(cli.app, ["plan"]).exit_code == 2
    assert runner.invoke(cli.app, ["demo", "--language", "tlh"]).exit_code == 2


def test_the_notice_stands_in_help_and_version() -> None:
    assert NOTICE in " ".join(runner.invoke(cli.app, ["--help"]).output.split())
    assert NOTICE in runner.invoke(cli.app, ["--version"]).output


def test_phantom_lists_and_writes(tmp_path: Path) -> None:
    names = runner.invoke(cli.app, ["phantom"]).output.split()
    assert "vertebra_l3" in names
    result = runner.invoke(cli.app, ["phantom", "vertebra_l3", "--out", str(tmp_path / "p")])
    assert result.exit_code == 0, result.output
    written = [Path(line) for line in result.output.split()]
    assert all(path.is_file() for path in written)
    truth = json.loads((tmp_path / "p" / "truth.json").read_text())
    assert truth["lesion_ml"] > 0

    shown = runner.invoke(cli.app, ["inspect", str(tmp_path / "p"), "--json"])
    rows = json.loads(shown.output)["rows"]
    assert any(row["usable"] for row in rows)
