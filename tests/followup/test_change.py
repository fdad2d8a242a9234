"""Table 2 of the Hong Kong series under every rule, also those that do not give its P."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar import followup as f
from trocar.errors import InputError
from trocar.model.study import Record
from trocar.stats.exact import hodges_lehmann, median_interval, paired_t, signed_rank

Make = Callable[..., Record]
Records = Sequence[Record]


def test_the_scores_of_week_1(hong_kong: Records) -> None:
    pairs = f.paired(hong_kong)
    week_1 = [1, 2, 3, 0, 4, 1, 0, 4, 2, 3, 4]
    assert [pairs.after[str(k)].score for k in range(1, 12)] == week_1
    assert sorted(s.score for s in pairs.before.values()) == [2, 2, 2, 3, 5, 5, 5, 6, 7, 8]
    assert pairs.improved == ("1", "3", "4", "5", "6", "9", "10", "11")
    assert pairs.worse == ("8",)
    assert pairs.tied == ("2",)
    assert [(x.lesion_id, x.reason) for x in pairs.left_out] == [("7", "no baseline (day 0 only)")]


def test_the_published_result(hong_kong: Records) -> None:
    row = f.change_row(hong_kong)
    assert (row.median_before, row.n_before) == (5, 10)
    assert (row.median_after, row.n_after) == (2, 11)
    assert (row.n_pairs, row.median_before_paired, row.median_after_paired) == (10, 5, 2.5)
    assert row.signs == "8/1/1"
    assert row.p_value == 0.0390625
    assert f"{row.p_value:.3f}" == "0.039"


# rule: median after, n after, signs, P as printed in the reference, median before
TABLE = {
    "last up to day 7": (2, 11, "8/1/1", "0.0390625", 5),
    "lowest up to day 7": (2, 11, "8/1/1", "0.0390625", 5),
    "day 7, else next up to day 28": (2, 10, "8/1/0", "0.0390625", 5),
    "observed on day 7": (2, 8, "6/1/0", "0.125", 5),
    "first up to day 7": (3, 11, "5/2/3", "0.453", 5),
    "highest up to day 7": (4, 11, "5/2/3", "0.453", 5),
    "mean up to day 7": (3, 11, "8/2/0", "0.109", 5),
    "last up to day 7; day 0, else day 1": (2, 11, "9/1/1", "0.0215", 5),
}


def test_the_whole_table_of_rules(hong_kong: Records) -> None:
    found = f.change_table(hong_kong)
    assert len(found) == len(TABLE)
    for row, (name, (median, n, signs, p, before)) in zip(found, TABLE.items(), strict=True):
        assert name.startswith(row.rule)
        assert (row.median_after, row.n_after, row.signs) == (median, n, signs), name
        assert row.median_before == before
        assert f"{row.p_value:.{len(p) - 2}f}" == p, name
    assert [r.lesion_id for r in found[2].left_out] == ["7", "9"]
    assert found[2].left_out[1].reason == "no score (day 7, else next up to day 28)"


# LOCF after the procedure, each column against D0.
SIGNS = {
    "D1": ("3/2/3", "1.0000"),
    "D2": ("7/1/1", "0.0703"),
    "Wk1": ("8/1/1", "0.0391"),
    "Wk2": ("8/1/1", "0.0391"),
    "Wk3": ("8/0/2", "0.0078"),
    **{f"M{k}": ("9/0/1", "0.0039") for k in range(1, 5)},
    "M5": ("9/1/0", "0.0215"),
    **{f"M{k}": ("10/0/0", "0.0020") for k in range(6, 10)},
}


def test_the_sign_test_at_each_column(hong_kong: Records, day_of: Mapping[str, float]) -> None:
    rows = f.change_course(hong_kong, [day_of[c] for c in SIGNS])
    for row, (column, (signs, p)) in zip(rows, SIGNS.items(), strict=True):
        assert row.day == day_of[column]
        assert (row.signs, f"{row.p_value:.4f}") == (signs, p), column
    assert rows[-1].p_value == 0.001953125


FIGURE_4 = {
    "D0": (5, 10), "D1": (3, 9), "D2": (3, 9), "Wk1": (2, 8), "Wk2": (2, 6), "Wk3": (0, 5),
    "M1": (1.5, 6), "M2": (1, 4), "M3": (1, 5), "M4": (0, 3), "M5": (0, 3), "M6": (0, 1),
    "M7": (0, 2), "M9": (1, 1),
}  # fmt: skip


def test_figure_4(hong_kong: Records, day_of: Mapping[str, float]) -> None:
    points = f.pain_course(hong_kong)
    assert {p.day: (p.median, p.n) for p in points} == {day_of[c]: v for c, v in FIGURE_4.items()}
    (empty,) = f.pain_course(hong_kong, [day_of["M8"]])
    assert (empty.n, empty.median, empty.lower_quartile) == (0, None, None)
    assert (points[0].lowest, points[0].highest) == (2, 8)
    # {2,2,2,3,5,5,5,6,7,8}: a quarter of the way from the 1st to the 10th, and three quarters
    assert (points[0].lower_quartile, points[0].upper_quartile) == (2.25, 5.75)


def test_medians_of_all_lesions_carried(hong_kong: Records, day_of: Mapping[str, float]) -> None:
    columns = ("D1", "D2", "Wk1", "Wk2", "Wk3", *(f"M{k}" for k in range(1, 10)))
    points = f.pain_course(hong_kong, [day_of[c] for c in columns], f.LastObservationCarried)
    assert [p.median for p in points] == [3, 3, *[2] * 8, 0, 0, 0, 1]
    assert {p.n for p in points} == {11}


def test_sensitivity(hong_kong: Records) -> None:
    dropped = f.change_row(f.without(hong_kong, ["8"]))
    assert (dropped.signs, dropped.p_value) == ("8/0/1", 0.0078125)
    whole, mean, first = f.sensitivity(hong_kong)
    assert (whole.signs, whole.p_value) == ("8/1/1", 0.0390625)
    assert (mean.signs, mean.p_value, mean.n_pairs) == ("8/1/0", 0.0390625, 9)
    assert (first.signs, first.p_value) == ("8/0/1", 0.0078125)  # lesion 2 came before lesion 8
    assert (mean.n_after, mean.unit) == (10, "patient mean")


def test_the_lesion_treated_first_is_found_by_date(hong_kong: Records) -> None:
    kept = f.first_lesions(tuple(reversed(hong_kong)))
    assert [r.lesion_id for r in kept] == ["11", "10", "9", "7", "6", "5", "4", "3", "2", "1"]


def test_paired_differences(hong_kong: Records) -> None:
    pairs = f.paired(hong_kong)
    row = f.change_row_of(pairs)
    assert sorted(pairs.decreases) == [-2, 0, 1, 1, 1, 2, 3, 5, 5, 5]
    assert row.mean_decrease == pytest.approx(2.1, abs=1e-12)
    assert f"{row.sd_decrease:.3f}" == "2.378"
    assert row.median_decrease == 1.5
    assert f"{paired_t(pairs.decreases).p_value:.4f}" == "0.0210"
    assert signed_rank(pairs.decreases).p_value == 0.03515625
    assert signed_rank(pairs.decreases, zeros="pratt").p_value == 0.0234375
    assert hodges_lehmann(pairs.decreases).estimate == 2.0
    interval = median_interval(pairs.decreases).interval
    assert interval is not None
    assert (interval.low, interval.high) == (0, 5)
    assert f"{interval.level:.3f}" == "0.979"


def test_important_decreases(hong_kong: Records) -> None:
    found = f.important_decreases(f.paired(hong_kong))
    assert str(found.by_points).startswith("5/10")
    assert str(found.by_fraction).startswith("7/10")
    assert str(found.by_half).startswith("4/10")
    assert "2 points, 30% and 50%" in found.sentence


def test_no_pain_before_cannot_fall(make_record: Make) -> None:
    pairs = f.paired(
        [make_record({0: 0, 7: 0}, lesion="a"), make_record({0: 10, 7: 7}, lesion="b")]
    )
    found = f.important_decreases(pairs)
    assert (found.by_points.x, found.by_points.n) == (1, 2)
    assert (found.by_fraction.x, found.by_fraction.n) == (1, 1)  # exactly 30 %
    assert (found.acceptable.x, found.acceptable.n) == (1, 2)


def test_intervals_count_with_their_middle(make_record: Make) -> None:
    (pair,) = f.paired([make_record({0: (9, 10), 7: 2})]).pairs
    assert pair.decrease == 7.5


def test_what_is_left_out_says_why(make_record: Make) -> None:
    rows = [
        make_record({0: 5}, lesion="gone", death_day=3),
        make_record({}, lesion="empty"),
        make_record({0: 5, 14: 2}, lesion="late"),
    ]
    pairs = f.paired(rows)
    assert [x.reason for x in pairs.left_out] == [
        "no score (last up to day 7), died on day 3",
        "no baseline (day 0 only), no score (last up to day 7)",
        "no score (last up to day 7)",
    ]
    row = f.change_row(rows)
    assert (row.n_pairs, row.p_value, row.median_after, row.median_before) == (0, None, None, 5)


def test_wrong_words_are_refused(hong_kong: Records) -> None:
    with pytest.raises(InputError, match="unit is 'patients'; expected one of lesion, patient"):
        f.paired(hong_kong, unit="patients")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no lesion 12 to leave out"):
        f.without(hong_kong, ["12"])


def test_rules_at_other_times() -> None:
    names = [rule.name for rule, _ in f.rules_at(28)]
    assert "day 28, else next up to day 112" in names
    assert [rule.name for rule, _ in f.rules_at(28, 84)][2] == "day 28, else next up to day 84"


COURSES: Any = st.lists(
    st.dictionaries(
        st.sampled_from([0.0, 1.0, 2.0, 7.0, 28.0]), st.integers(0, 100).map(lambda x: x / 10)
    ),
    min_size=1,
    max_size=8,
)


@given(courses=COURSES)
def test_every_lesion_is_a_pair_or_left_out(
    make_record: Make, courses: list[dict[float, float]]
) -> None:
    rows = [make_record(c, lesion=f"L{i}") for i, c in enumerate(courses)]
    for rule, baseline in f.rules_at(7):
        pairs = f.paired(rows, rule, baseline)
        names = {p.lesion_id for p in pairs.pairs} | {x.lesion_id for x in pairs.left_out}
        assert names == {r.lesion_id for r in rows}
        assert len(pairs) + len(pairs.left_out) == len(rows)
        signs = len(pairs.improved) + len(pairs.worse) + len(pairs.tied)
        assert signs == len(pairs)
        assert len(f.paired(rows, rule, baseline, unit="patient mean")) == min(1, len(pairs))
