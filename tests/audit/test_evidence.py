"""Published figures as data: each with its source, each patient once, pooled as the reference."""

from __future__ import annotations

import dataclasses
import re

import pytest

from trocar.audit import evidence as published
from trocar.audit.evidence import (
    EVERY_WAY,
    Count,
    Item,
    Mean,
    Percent,
    benchmarks,
    documents,
    evidence,
    item,
    pooled,
    pooled_every_way,
    standard,
)
from trocar.errors import InputError
from trocar.facts.source import load

ALL = evidence()


def percent(fraction: float | None) -> str:
    assert fraction is not None
    return f"{fraction:.4f}"


# ---- the data


@pytest.mark.parametrize("figure", ALL, ids=[i.key for i in ALL])
def test_every_figure_has_a_source_a_unit_and_a_grade(figure: Item) -> None:
    assert figure.document in documents()
    assert figure.clause
    assert figure.what
    assert figure.unit
    assert figure.outcome
    assert figure.evidence in ("verified", "general knowledge", "placeholder")
    if isinstance(figure, Count):
        assert 0 <= figure.x <= figure.n
    if isinstance(figure, Count | Percent | Mean) and figure.n is not None:
        assert figure.n > 0
    for other in (figure.same_as, *getattr(figure, "of", ())):
        assert not other or item(other).outcome


def test_printed_figures_are_text_and_keys_unique() -> None:
    blocks = [b for s in load("evidence").data["sections"] for b in s["items"]]
    assert len({b["key"] for b in blocks}) == len(blocks) == len(ALL)
    for block in blocks:
        for name in ("printed", "low", "high", "mean", "sd", "total", "step"):
            value = block.get(name, "")
            assert isinstance(value, str), (block["key"], name)
            assert re.fullmatch(r"|<?-?\d+(\.\d+)?|\d{4}-\d{2}", value), (block["key"], name)
        for value in (*block.get("parts", {}).values(), *block.get("told", {}).values()):
            assert isinstance(value, str), block["key"]


def test_every_document_says_where_to_find_it_and_has_figures() -> None:
    for document in documents():
        assert len(document.cite) > 20
        assert document.link
        assert evidence(document=document.key)
        assert evidence(document=document.name) == evidence(document=document.key)


def test_records_are_frozen_and_found_by_key() -> None:
    leak = item("S0-leak-4")
    assert isinstance(leak, Count)
    assert (leak.x, leak.n, leak.printed) == (9, 18, "50")
    assert leak.label == "IPG179 2.4.1, 9 of 18"
    with pytest.raises(dataclasses.FrozenInstanceError):
        leak.x = 0  # type: ignore[misc]


def test_filters() -> None:
    both = evidence("leak", "S0")
    assert [i.key for i in both] == ["S0-leak-1", "S0-leak-2", "S0-leak-3", "S0-leak-4"]
    assert set(both) == set(evidence("leak")) & set(evidence(document="IPG179"))
    assert evidence("leak compartment", "S0") == ()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: evidence("leek"), "leek.*leak"),
        (lambda: evidence(document="S9"), "S9.*IPG179"),
        (lambda: item("S0-leak-9"), "S0-leak-9"),
        (lambda: benchmarks("leek"), "leek"),
        (lambda: pooled("leak"), "lesions and of levels and of patients; say which"),
        (lambda: pooled("leak", document="S2"), "1 series"),
        (lambda: pooled("satisfaction"), "0 series"),
        (lambda: pooled("leak", document="S0", method="magic"), "magic"),  # type: ignore[arg-type]
    ],
)
def test_what_is_not_there_is_said(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()  # type: ignore[operator]


# ---- benchmarks


def test_benchmarks_keep_counts_and_name_their_clause() -> None:
    rows = {b.label: b for b in benchmarks("symptomatic leak")}
    two = rows["IPG179 2.4.1, 2 of 18"]
    assert (two.x, two.n, two.printed) == (2, 18, "11")
    assert two.interval is not None
    assert two.interval.percent_text() == "1.4–34.7"
    none = rows["Sun 2014 Abstract, Results"]
    assert (none.x, none.n, none.fraction) == (0, 65, 0.0)


def test_rates_without_counts_have_no_interval() -> None:
    ranges = {b.printed for b in benchmarks("pain relief") if b.x is None}
    assert ranges == {"58–97"}
    (only,) = benchmarks("satisfaction")
    assert (only.x, only.n, only.fraction, only.interval) == (None, None, None, None)
    assert [b.printed for b in benchmarks("leak") if b.item.document.key == "S3"] == ["≤27"]


def test_osteoporosis_and_the_same_patients_twice_are_no_benchmark() -> None:
    assert item("T06-osteoporotic") not in [b.item for b in benchmarks("leak")]
    assert item("T06-osteolytic") in [b.item for b in benchmarks("leak")]
    twins = [b.item.key for b in benchmarks("total improvement")]
    assert "S0-total" in twins
    assert "T20-total" not in twins  # the 18 patients of IPG179


def test_the_standards_are_those_of_the_documents() -> None:
    """clinical.md H.8: leak < 27 %, symptoms <= 11 %, pain relief >= 58 %, mobility 93 %."""
    expected = {"leak": 0.27, "symptomatic leak": 0.11, "pain relief": 0.58, "mobility": 0.93}
    for outcome, fraction in expected.items():
        value = standard(outcome)
        assert value is not None
        assert value.mean == fraction
        printed = {
            f
            for i in evidence(outcome)
            if i.document.key in ("S0", "S3")
            for f in (getattr(i, "printed", ""), getattr(i, "low", ""), getattr(i, "high", ""))
        }
        assert f"{100 * fraction:.0f}" in printed
    assert standard("walking score") is None
    assert all(standard(o) is not None for o in published._STANDARDS)


# ---- pooled


def test_leaks_of_ipg179_by_every_way() -> None:
    """clinical.md H.6, to the digits given there."""
    expected = {
        ("glmm", False): ("0.2125", "0.0835", "0.4444"),
        ("logit-dl", False): ("0.2317", "0.0863", "0.4908"),
        ("logit-reml", False): ("0.2323", "0.0873", "0.4892"),
        ("logit-reml", True): ("0.2323", "0.0446", "0.6625"),
        ("freeman-tukey", False): ("0.2242", "0.0532", "0.4539"),
        ("crude", False): ("0.2459", "0.1551", "0.3668"),
    }
    assert set(EVERY_WAY) == set(expected)
    forests = pooled_every_way("leak", document="IPG179")
    for way, forest in zip(EVERY_WAY, forests, strict=True):
        p = forest.pooled
        assert (percent(p.estimate), percent(p.low), percent(p.high)) == expected[way], way
        assert (p.events, p.total, p.k) == (15, 61, 4)


def test_the_default_is_the_glmm_with_its_prediction() -> None:
    forest = pooled("leak", document="S0")
    assert forest.pooled.method == "glmm"
    assert forest.pooled.on_scale is not None
    assert f"{forest.pooled.on_scale.estimate:.5f}" == "-1.30963"
    assert f"{forest.pooled.tau2:.4f}" == "0.7195"
    assert f"{forest.pooled.minus_log_likelihood:.4f}" == "9.0221"
    assert forest.prediction is not None
    low, high = forest.prediction
    assert low < forest.pooled.low < forest.pooled.high < high
    assert pooled("leak", "crude", document="S0").prediction is None


def test_i2_and_q_of_the_leaks() -> None:
    p = pooled("leak", "logit-dl", document="S0").pooled
    assert f"{p.q:.4f} {p.i2_percent:.2f} {p.tau2:.5f}" == "8.5234 64.80 0.88334"


def test_a_forest_tells_what_its_rows_have_in_common() -> None:
    forest = pooled("leak", document="S0")
    assert [b.item.key for b in forest.rows] == [f"S0-leak-{k}" for k in (1, 2, 3, 4)]
    assert forest.unit == "patients"
    assert forest.note.startswith("4 series, 61 patients; I²")
    assert "definition differed" in forest.note
    assert "Hartung-Knapp" in pooled_every_way("leak", document="S0")[3].method


def test_one_unit_at_a_time() -> None:
    patients = pooled("leak", unit="patients")
    lesions = pooled("leak", unit="lesions")
    assert {b.item.unit for b in patients.rows} == {"patients"}
    assert [(b.x, b.n) for b in lesions.rows] == [(8, 65), (20, 44)]
    assert patients.pooled.k == 5  # IPG179's four, and the osteolytic ones under CT fluoroscopy
    assert "definitions differ" in pooled("complication", unit="patients").note
