from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar import followup as f
from trocar.errors import InputError
from trocar.model.course import PainScore, PainSeries


def series(scores: dict[float, float]) -> PainSeries:
    return PainSeries(
        lesion_id="1",
        scores=tuple(PainScore(lesion_id="1", day=d, low=scores[d]) for d in sorted(scores)),
    )


def stands(rule: f.PainRule | f.BaselineRule, scores: dict[float, float]) -> object:
    found = rule.apply(series(scores))
    return None if found is None else (found.score, *found.days)


LESION_2 = {0.0: 2.0, 1.0: 7.0, 2.0: 2.0, 28.0: 1.0, 84.0: 1.0}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (f.LastInWindow(7), (2, 2)),
        (f.LastInWindow(28), (1, 28)),
        (f.LastInWindow(56, after_day=28), None),
        (f.LastInWindow(84, after_day=28), (1, 84)),
        (f.LowestInWindow(7), (2, 2)),
        (f.HighestInWindow(7), (7, 1)),
        (f.MeanInWindow(7), (4.5, 1, 2)),
        (f.FirstAfter(7), (7, 1)),
        (f.FirstAfter(0.5), None),
        (f.ObservedOn(7), None),
        (f.ObservedOn(28), (1, 28)),
        (f.ObservedOn(0), (2, 0)),
        (f.ObservedOn(1.5, within_days=0.5), (7, 1)),
        (f.NextLater(7, 28), (1, 28)),
        (f.NextLater(7, 27), None),
        (f.NextLater(2, 28), (2, 2)),
        (f.LastObservationCarried(0), (2, 0)),
        (f.LastObservationCarried(0.5), (2, 0)),
        (f.LastObservationCarried(7), (2, 2)),
        (f.WorstCase(f.LastInWindow(7)), (2, 2)),
        (f.WorstCase(f.ObservedOn(7)), (10,)),
        (f.WorstCase(f.ObservedOn(7), "baseline"), (2,)),
        (f.WorstCase(f.ObservedOn(7), worst=0.0), (0,)),
        (f.DAY_0, (2, 0)),
        (f.DAY_0_ELSE_1, (2, 0)),
        (f.HighestBefore(1), (7, 1)),
    ],
)
def test_what_stands_for_lesion_2(rule: f.PainRule | f.BaselineRule, expected: object) -> None:
    assert stands(rule, LESION_2) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (f.DAY_0, None),
        (f.DAY_0_ELSE_1, (3, 1)),
        (f.ScoreBeforeElse(0.5), None),
        (f.HighestBefore(1), (3, 1)),
        (f.WorstCase(f.ObservedOn(9), "baseline"), None),
    ],
)
def test_a_lesion_without_baseline(rule: f.PainRule | f.BaselineRule, expected: object) -> None:
    assert stands(rule, {1.0: 3.0, 2.0: 4.0}) == expected


def test_an_old_score_is_a_baseline_unless_forbidden_and_its_age_is_said() -> None:
    found = f.DAY_0.apply(series({-40.0: 8.0, 7.0: 2.0}))
    assert found is not None
    assert found.how == "carried from day -40"
    assert stands(f.ScoreBefore(since_day=-14), {-40.0: 8.0, 7.0: 2.0}) is None


def test_before_and_after_never_stand_for_each_other() -> None:
    assert stands(f.ObservedOn(1, within_days=3), {0.0: 9.0, 3.0: 1.0}) == (1, 3)
    assert stands(f.ObservedOn(0, within_days=3), {-2.0: 9.0, 1.0: 1.0}) == (9, -2)


def test_how_says_where_a_score_comes_from() -> None:
    for rule, how in (
        (f.LastInWindow(7), "carried from day 2"),
        (f.LastInWindow(28), "observed on day 28"),
        (f.NextLater(7, 28), "carried back from day 28"),
        (f.HighestInWindow(7), "highest, of days 1, 2; from day 1"),
        (f.MeanInWindow(7), "mean, of days 1, 2"),
        (f.WorstCase(f.ObservedOn(7)), "missing, counted as 10"),
    ):
        found = rule.apply(series(LESION_2))
        assert found is not None
        assert found.how == how
        assert found.put_in == (not found.days)


def test_every_rule_has_its_own_name_and_one_sentence() -> None:
    rules = (
        *(r for r, _ in f.rules_at(7)),
        f.LastObservationCarried(7),
        f.WorstCase(f.LastInWindow(7)),
        f.WorstCase(f.LastInWindow(7), "baseline"),
        f.LastInWindow(7, after_day=2),
        f.ObservedOn(7, within_days=2),
        f.DAY_0,
        f.DAY_0_ELSE_1,
        f.HighestBefore(1),
        f.ScoreBefore(since_day=-14),
    )
    assert len({r.name for r in rules}) == len(rules) - 1  # the table has its default twice
    for r in rules:
        assert r.sentence.endswith(".")
        assert r.sentence.count(". ") == 0
        assert r.sentence[0].isupper()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: f.LastInWindow(0),
        lambda: f.MeanInWindow(7, after_day=7),
        lambda: f.LowestInWindow(7, after_day=-1),
        lambda: f.NextLater(7, 6),
        lambda: f.ObservedOn(7, within_days=-1),
        lambda: f.LastObservationCarried(-1),
        lambda: f.WorstCase(f.LastInWindow(7), "zero"),  # type: ignore[arg-type]
        lambda: f.LastInWindow(float("nan")),
    ],
)
def test_a_senseless_rule_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match="expected"):
        wrong()  # type: ignore[operator]


DAYS = st.sampled_from([-30.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 7.0, 7.5, 14.0, 28.0, 56.0])
SCORES = st.integers(0, 20).map(lambda x: x / 2)
COURSES = st.dictionaries(DAYS, SCORES, max_size=10)
WINDOWED = st.sampled_from(
    [f.LastInWindow, f.FirstAfter, f.LowestInWindow, f.HighestInWindow, f.MeanInWindow]
)


@given(COURSES, WINDOWED, st.sampled_from([1.0, 2.0, 7.0]), SCORES)
def test_what_lies_outside_the_window_never_matters(
    course: dict[float, float], rule: type[f.LastInWindow], until: float, extra: float
) -> None:
    inside = {d: s for d, s in course.items() if 0 < d <= until}
    more = {**course, until + 0.25: extra, 100.0: extra, -3.0: extra, 0.0: extra}
    assert rule(until).apply(series(more)) == rule(until).apply(series(inside))


@given(COURSES, st.sampled_from([1.0, 7.0, 28.0]))
def test_the_rules_lie_between_lowest_and_highest_and_miss_together(
    course: dict[float, float], until: float
) -> None:
    low = f.LowestInWindow(until).apply(series(course))
    high = f.HighestInWindow(until).apply(series(course))
    for rule in (f.LastInWindow, f.FirstAfter, f.MeanInWindow):
        found = rule(until).apply(series(course))
        assert (found is None) == (low is None) == (not any(0 < d <= until for d in course))
        if found is not None and low is not None and high is not None:
            assert low.score - 1e-12 <= found.score <= high.score + 1e-12


@given(COURSES, st.sampled_from([1.0, 7.0, 28.0]))
def test_an_observed_score_wins_under_every_carrying_rule(
    course: dict[float, float], day: float
) -> None:
    seen = f.ObservedOn(day).apply(series(course))
    carrying = (
        f.LastInWindow(day),
        f.LastObservationCarried(day),
        f.NextLater(day, 56),
        f.WorstCase(f.ObservedOn(day)),
    )
    for rule in carrying:
        found = rule.apply(series(course))
        if seen is not None:
            assert found is not None
            assert (found.score, found.days) == (seen.score, seen.days)
        if isinstance(rule, f.WorstCase):
            assert found is not None
