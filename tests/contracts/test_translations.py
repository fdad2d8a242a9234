"""Everything a plan sheet may say has its Chinese: findings of every room, headings, captions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import trocar
from trocar.facts import limits, source
from trocar.report import words

PACKAGE = Path(trocar.__file__).parent
ZH: words.Language = "zh-Hant"


def _calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
            yield name, node


def _literals(node: ast.expr) -> list[str]:
    """The text of a literal, or both texts of a choice between two."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return _literals(node.body) + _literals(node.orelse)
    return []


def findings() -> dict[str, str]:
    """Every literal ``message`` of a ``Finding(...)`` call in the package, and where it stands."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for name, call in _calls(file):
            for keyword in call.keywords:
                if name == "Finding" and keyword.arg == "message":
                    place = f"{file.relative_to(PACKAGE)}:{call.lineno}"
                    found |= dict.fromkeys(_literals(keyword.value), place)
    return found


def phrases() -> dict[str, str]:
    """Every literal that the report hands to its translator, in Python and in templates."""
    found = {}
    for file in sorted((PACKAGE / "report").rglob("*.py")):
        for name, call in _calls(file):
            if name in ("t", "translate") and call.args:
                found |= dict.fromkeys(_literals(call.args[0]), file.name)
    for file in sorted((PACKAGE / "report" / "templates").iterdir()):
        text = file.read_text(encoding="utf-8")
        found |= dict.fromkeys(re.findall(r'\bt\("((?:[^"\\]|\\.)*)"', text), file.name)
    return found


def test_messages_are_literals_so_that_they_can_be_translated() -> None:
    computed = [
        f"{file.relative_to(PACKAGE)}:{call.lineno}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for name, call in _calls(file)
        for keyword in call.keywords
        if name == "Finding" and keyword.arg == "message" and not _literals(keyword.value)
    ]
    assert computed == []


def test_the_collectors_find_something() -> None:
    assert len(findings()) > 20
    assert len(phrases()) > 100


def test_every_finding_has_its_chinese() -> None:
    found = findings()
    missing = words.untranslated(found, ZH)
    assert {text: found[text] for text in missing} == {}


def test_every_phrase_of_the_report_has_its_chinese() -> None:
    found = phrases()
    missing = words.untranslated(found, ZH)
    assert {text: found[text] for text in missing} == {}


def test_every_kind_of_structure_has_its_chinese_name() -> None:
    kinds = source.load("limits").data["kinds"]
    plain = {words.english(k) for k in kinds}
    known = words.catalogue(ZH).names
    assert sorted(k for k in plain if k not in known) == []


def test_the_sources_of_limits_have_their_chinese() -> None:
    used = {limits.margin(k).source for k in source.load("limits").data["kinds"]}
    used |= {limits.value(n).source for n in ("caution_factor", "placement_error")}
    assert words.untranslated(sorted(used), ZH) == ()


@pytest.mark.parametrize("route", sorted(source.load("routes").data["routes"]))
def test_every_route_has_its_chinese_name(route: str) -> None:
    plain = words.english(route)
    assert words.name(f"{plain} left", ZH) != f"{plain} left"


def reasons() -> dict[str, str]:
    """Every literal reason and title of a rule of selection."""
    found = {}
    for file in sorted((PACKAGE / "selection").glob("*.py")):
        for name, call in _calls(file):
            for keyword in call.keywords:
                if name in ("Answer", "Rule", "Verdict") and keyword.arg in ("reason", "title"):
                    found |= dict.fromkeys(_literals(keyword.value), file.name)
    return found


def test_every_reason_of_a_rule_has_its_chinese() -> None:
    found = reasons()
    assert len(found) > 50
    assert {text: found[text] for text in words.untranslated(found, ZH)} == {}


def test_every_class_of_a_score_has_its_chinese() -> None:
    said = [
        text
        for score in source.load("scores").data.values()
        if isinstance(score, dict)
        for group in score.get("groups", ())
        for text in (group["group"], group["meaning"])
    ]
    assert len(said) > 30
    assert words.untranslated(said, ZH) == ()


def test_what_an_audit_prints_of_the_example_has_its_chinese(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything handed to the translator while the page is made, tables and rules included."""
    from trocar.audit.summary import audit_study
    from trocar.io.records import example_study
    from trocar.report.audit import audit_page

    missing: dict[str, None] = {}
    known = words.catalogue(ZH).sentences
    spoken = words.translate

    def listen(text: str, language: words.Language) -> str:
        is_word = re.search("[A-Za-z]{4}", text) and not re.search("[\u4e00-\u9fff]", text)
        if language == ZH and is_word and text not in known:
            missing[text] = None
        return spoken(text, language)

    monkeypatch.setattr(words, "translate", listen)
    audit_page(audit_study(example_study()), language=ZH)
    assert list(missing) == []


def test_the_rules_of_a_cement_plan_have_their_chinese() -> None:
    file = PACKAGE / "planning" / "cement.py"
    rules = {text for name, call in _calls(file) if name == "_rule"
             for text in _literals(call.args[0])}  # fmt: skip
    assert len(rules) > 10
    assert words.untranslated(sorted(rules), ZH) == ()
    plan, injection = source.load("cement_plan"), source.load("injection")
    unused = {"rate", "pull_back_every", "pull_back"}  # these stand behind no rule
    said = {v.source for key, v in plan.values.items() if key not in unused}
    said |= {injection[key].source for key in ("accepted_alarm", "visible_leak")}
    assert words.untranslated(sorted(said), ZH) == ()
