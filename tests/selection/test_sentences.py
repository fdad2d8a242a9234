"""Everything the room says is a literal with places, so that it can be said in another language."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import trocar.selection
from trocar.facts.source import load
from trocar.model.study import Record
from trocar.selection import RULES, decide

ROOM = Path(trocar.selection.__file__).parent


def reasons() -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    """Every ``Answer(reason=..., values=...)`` of the room, and where it stands."""
    for file in sorted(ROOM.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Answer":
                given = {k.arg: k.value for k in node.keywords}
                place = f"{file.name}:{node.lineno}"
                yield place, given["reason"], given.get("values")


def test_every_reason_is_a_literal() -> None:
    found = list(reasons())
    assert len(found) > 60
    computed = [
        place
        for place, reason, _ in found
        if not (isinstance(reason, ast.Constant) and isinstance(reason.value, str))
    ]
    assert computed == []


def test_every_literal_has_its_values() -> None:
    for place, reason, values in reasons():
        assert isinstance(reason, ast.Constant)
        places = {f for _, f, _, _ in Formatter().parse(reason.value) if f is not None}
        assert bool(places) == (values is not None), place
        if isinstance(values, ast.Dict):
            keys = {k.value for k in values.keys if isinstance(k, ast.Constant)}
            assert places == keys, place


def test_every_reason_and_title_is_a_sentence() -> None:
    for place, reason, _ in reasons():
        assert isinstance(reason, ast.Constant)
        assert reason.value[0] in "{ABCDEFGHIJKLMNOPQRSTUVWXYZ", place
        assert reason.value.endswith("."), place
    assert len({r.rule_id for r in RULES}) == len(RULES)
    assert all(r.title and r.clause for r in RULES)


def test_names_in_lists_hold_no_comma(make: Callable[..., Record]) -> None:
    """A reader of the values parts a list of names by its commas."""
    scores = load("scores").data
    groups: list[Any] = []
    for name in ("mirels", "sins", "katagiri", "tokuhashi", "tomita"):
        groups += [g["group"] for g in scores[name]["groups"]]
    groups += [g["group"] for g in scores["escc"]["grades"].values()]
    groups += [g["group"] for g in scores["ecog"]["grades"]]
    groups += [scores["mirels"]["humerus"]["group"]]
    assert [g for g in groups if "," in g] == []
    for site in ("L3", "acetabulum", "femur"):
        for score in decide(make(site)).scores:
            assert "," not in score.name


def test_a_table_that_was_not_checked_says_so() -> None:
    scores = load("scores").data
    for name, said in scores.items():
        if isinstance(said, dict) and said.get("evidence", "verified") != "verified":
            told = said.get("note", "not checked") if name != "noms" else "not checked"
            assert "not checked" in told or "stand-in" in told, name
