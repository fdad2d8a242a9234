"""The charts of an audit draw what was given, with words and shapes, not colour alone."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from trocar.report import charts
from trocar.report.figures import Figure

_KEYS = (
    *("score", "observed", "carried", "quartiles", "weeks", "followed", "relieved", "goes on"),
    *("share", "at risk", "axis", "prediction", "rate", "target", "95", "99.8"),
    *("case", "cusum", "limit", "vlad", "CR", "PR", *charts.MARKS),
)
WORDS = {key: f"<{key}>" for key in _KEYS} | {"n": "n"}


def svg(figure: Figure) -> str:
    head, _, data = figure.uri.partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode("utf-8")


def texts(figure: Figure) -> list[str]:
    found = re.findall(r"<text[^>]*>(.*?)</text>", svg(figure), flags=re.S)
    plain = [re.sub(r"<[^>]+>", "", text) for text in found]
    return [p.replace("&lt;", "<").replace("&gt;", ">").strip() for p in plain]


def labels() -> dict[str, Any]:
    return {"title": "a title", "caption": "a caption", "words": WORDS}


def test_the_pain_course_prints_every_median_and_n() -> None:
    points = [
        charts.PainPoint(label="D0", n=10, median=5.0, low=2.0, high=6.0),
        charts.PainPoint(label="Wk1", n=8, median=2.0),
        charts.PainPoint(label="M8", n=0, median=None),
    ]
    figure = charts.pain_course(points, carried=[5.0, 2.0, 1.5], **labels())
    said = texts(figure)
    assert {"5", "2", "D0", "n 10", "n 8", "n 0", "<observed>", "<carried>"} <= set(said)
    assert (figure.title, figure.caption) == ("a title", "a caption")


def test_single_courses_are_drawn_only_while_they_can_be_told_apart() -> None:
    points = [charts.PainPoint(label=str(k), n=1, median=1.0) for k in range(3)]
    few = svg(charts.pain_course(points, courses=[[1.0, 2.0, None]] * 5, **labels()))
    many = svg(charts.pain_course(points, courses=[[1.0, 2.0, None]] * 500, **labels()))
    assert few.count(charts.LINE) > many.count(charts.LINE)


def test_swimmers_show_the_longest_and_name_the_marks_that_occur() -> None:
    lanes = [charts.Lane(label=f"L{k}", end_day=k, relieved=((0.0, k / 2),)) for k in range(1, 100)]
    lanes.append(charts.Lane(label="last", end_day=500.0, marks=((100.0, "death"),), open_end=True))
    said = texts(charts.swimmers(lanes, **labels()))
    assert "last" in said
    assert "L40" not in said  # the 60 longest are L41 to L99 and the last
    assert "L41" in said
    assert {"<death>", "<goes on>", "<relieved>", "<weeks>"} <= set(said)
    assert "<recurrence>" not in said


def test_response_bars_carry_counts_hatching_and_totals() -> None:
    figure = charts.response_bars(["1 week", "1 month"], {"CR": [2, 0], "PR": [3, 4]}, **labels())
    said = texts(figure)
    assert {"1 week (n 5)", "1 month (n 4)", "2", "3", "4"} <= set(said)
    assert said.count("0") == 1  # on the axis; an empty part carries no number
    assert "<pattern" in svg(figure)


def test_a_forest_prints_counts_estimates_and_limits() -> None:
    rows = [
        charts.ForestRow(label="series", estimate=9 / 18, low=0.26, high=0.74, text="9/18"),
        charts.ForestRow(
            label="pooled", estimate=0.2125, low=0.0835, high=0.4444, pooled=True,
            prediction=(0.01, 0.9),
        ),
    ]  # fmt: skip
    said = texts(charts.forest(rows, reference=0.27, **labels()))
    assert "9/18  50.0 % (26.0 to 74.0)" in said
    assert any(s.startswith("21.2 % (8.3 to 44.4)") or s.startswith("21.3") for s in said)


def test_a_funnel_names_who_is_out_of_it_even_among_many() -> None:
    points = [charts.FunnelPoint(label=f"op{k}", x=1, n=10) for k in range(20)]
    points.append(charts.FunnelPoint(label="far", x=9, n=10))
    limits = [(10, 0.0, 0.28, 0.0, 0.44)]
    said = texts(charts.funnel(points, limits, 0.1, **labels()))
    assert "far" in said
    assert "op3" not in said


@pytest.mark.parametrize("vlad", [(), (0.1, 0.2, -0.7)])
def test_a_cusum_shows_limit_signal_and_vlad(vlad: tuple[float, ...]) -> None:
    figure = charts.cusum([0.0, 0.7, 4.0], 3.5, signals=[2], vlad=vlad, **labels())
    said = texts(figure)
    assert "<limit>" in said
    assert ("<vlad>" in said) == bool(vlad)


def test_step_curves_differ_by_dash_and_print_who_is_at_risk() -> None:
    curves = {"alive": ([0, 10], [1.0, 0.9]), "recurred": ([0, 30], [0.0, 0.1])}
    figure = charts.steps(curves, at_risk=[(0, 10), (28, 7)], **labels())
    assert {"alive", "recurred"} <= set(texts(figure))
    assert any("4: 7" in s for s in texts(figure))
    assert "stroke-dasharray" in svg(figure)


def test_the_same_chart_is_the_same_file() -> None:
    one, two = (charts.funnel([], [(5, 0.0, 0.5, 0.0, 0.7)], 0.1, **labels()).uri for _ in range(2))
    assert one == two
