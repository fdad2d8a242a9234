"""The audit page: the published numbers stand on it, the worst first, in both languages."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trocar import NOTICE
from trocar.audit.summary import Audit, audit_study
from trocar.audit.tables import CountRow, CountTable
from trocar.cli import app
from trocar.errors import InputError
from trocar.io.records import example_study
from trocar.report import audit as report
from trocar.report.page import Speaker

run = CliRunner()


@pytest.fixture(scope="module")
def audited() -> Audit:
    return audit_study(example_study())


@pytest.fixture(scope="module")
def page(audited: Audit) -> str:
    return report.audit_page(audited, date="2026-11-25", seconds=1.0)


class Balanced(HTMLParser):
    """Complains when tags do not close in order; collects what can be read."""

    VOID = ("meta", "img", "br", "link", "path", "circle", "col")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open, f"</{tag}> without a start"
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def read(html: str) -> str:
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return re.sub(r"\s+", " ", " ".join(parser.text))


def test_the_published_results_stand_in_the_first_lines(page: str) -> None:
    text = read(page)
    assert "Median pain 5 before (10 lesions), 2 a week after (11 lesions); P = 0.039." in text
    assert "8 were better, 1 worse, 1 the same" in text
    assert "Median follow-up 16.0 weeks (11 lesions)." in text
    assert text.index("To be looked into") < text.index("Pain over time")


def test_every_rule_that_does_not_give_the_printed_p_is_on_the_page(page: str) -> None:
    text = read(page)
    for signs, p in (("6/1/0", "0.125"), ("5/2/3", "0.4531"), ("8/2/0", "0.1094")):
        assert f"{signs} {p}" in text
    assert "9/1/1 0.02148" in text


def test_data_flags_research_notice_and_sources_are_told(page: str) -> None:
    text = read(page)
    for flag in ("F1", "F2", "F3", "F4", "F5", "F6", "F7"):
        assert f" {flag} " in text
    assert text.count(NOTICE) >= 2
    assert "hkmj133743" in text
    assert "governance 20" in text


def test_the_page_is_one_file_that_asks_nothing_of_a_network(page: str) -> None:
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert page.count("data:image/svg+xml") >= 5


def test_every_picture_has_words_for_those_who_do_not_see_it(page: str) -> None:
    assert all(re.findall(r'<img src="[^"]*" alt="([^"]+)"', page))
    assert page.count("<img") == len(re.findall(r'<img src="[^"]*" alt="[^"]{20,}"', page))


def test_what_is_gravest_comes_first_on_the_page(audited: Audit, page: str) -> None:
    grades = [a.grade for a in report.alerts_of(audited, Speaker("en"))]
    order = ["stop", "caution", "note"]
    assert grades == sorted(grades, key=order.index)
    assert grades[0] == "stop"
    text = read(page)
    # A leg lost stands before the pain that was won.
    assert text.index("Lesion 5: paralysis (CIRSE 5, SIR 4)") < text.index("Median pain 5 before")


def test_of_governance_what_is_recommended_stands_before_what_is_merely_not_written(
    page: str,
) -> None:
    text = read(page)
    text = text[text.index("Governance, clause by clause Research") :]
    assert text.index("Consent before the procedure") < text.index("Lot of the cement recorded")


def test_in_chinese_the_same_numbers_stand(audited: Audit) -> None:
    text = read(report.audit_page(audited, language="zh-Hant"))
    assert "術前疼痛中位數 5（10 個病灶），一週後 2（11 個病灶）；P = 0.039。" in text
    assert "8/1/1" in text
    with pytest.raises(InputError, match="choose"):
        report.audit_page(audited, language="fr")


def row(group: str, label: str, x: int | None, n: int | None) -> CountRow:
    return CountRow(group=group, label=label, key=f"{group}{label}", of="all", x=x, n=n)


def lines(*rows: CountRow) -> list[tuple[str, str, str]]:
    table = CountTable(name="t", title="T", unit="lesions", rows=rows)
    return [(i.group, i.label, i.count) for i in report.block(table, Speaker("en")).lines]


def test_a_group_of_which_nothing_is_known_is_one_line() -> None:
    assert lines(row("a", "answered", 0, 9), row("a", "yes", 0, 0)) == [
        ("a", "nothing recorded", "")
    ]
    assert lines(row("a", "stopped", 0, 9), row("a", "not known", 9, 9)) == [
        ("a", "not known", "9/9")
    ]
    kept = lines(row("a", "stopped", 1, 9), row("a", "not known", 8, 9))
    assert [k[2] for k in kept] == ["1/9", "8/9"]


def test_a_hidden_count_is_said_to_be_hidden_and_keeps_its_neighbours() -> None:
    found = lines(row("a", "yes", None, 9), row("a", "no", 0, 9), row("a", "not known", 9, 9))
    assert [f[2] for f in found] == ["hidden", "0/9", "9/9"]


@pytest.mark.parametrize(
    ("p", "printed"), [(0.0390625, "= 0.039"), (0.0004, "< 0.001"), (None, "–"), (1.0, "= 1.000")]
)
def test_p_values_are_printed_as_papers_do(p: float | None, printed: str) -> None:
    assert report.p_text(p) == printed


def test_the_command_writes_page_and_numbers_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    told = run.invoke(app, ["audit", "--example", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert sorted(p.name for p in out.iterdir()) == ["audit.html", "audit.json"]
    assert [p.name for p in out.parent.iterdir()] == ["b"]
    assert "P = 0.039" in told.stdout
    numbers = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert numbers["notice"] == NOTICE
    assert numbers["audit"]["changes"][0]["p_value"] == 0.0390625
    assert numbers["run"]["command"] == "trocar audit"


def test_a_page_that_cannot_be_written_leaves_nothing(audited: Audit, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="audit page"):
        report.write_audit_page(tmp_path / "none" / "audit.html", audited)
    assert list(tmp_path.iterdir()) == []
