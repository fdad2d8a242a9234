from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar import followup as f
from trocar.errors import InputError
from trocar.model.study import Record
from trocar.stats.survival import aalen_johansen

Make = Callable[..., Record]
Records = Sequence[Record]


def test_ten_or_nine_of_eleven_by_the_meaning_of_relief(hong_kong: Records) -> None:
    default, strict, lowest, tested = f.relief_table(hong_kong)
    assert (default.rule.name, default.proportion.x, default.proportion.n) == (
        "not worse by day 7",
        10,
        11,
    )
    assert default.not_relieved == ("8",)
    assert (strict.proportion.x, strict.proportion.n) == (9, 11)
    assert strict.not_relieved == ("2", "8")
    assert "7" in strict.lesions  # judged from its day 1
    assert (lowest.proportion.x, lowest.proportion.n) == (10, 11)
    assert lowest.not_relieved == ("8",)
    assert (tested.proportion.x, tested.proportion.n) == (8, 10)  # as the sign test counts
    assert [x.lesion_id for x in tested.left_out] == ["7"]
    assert len({r.rule.sentence for r in f.relief_table(hong_kong)}) == 4


def test_median_follow_up_is_16_weeks(hong_kong: Records, hong_kong_calendar: Records) -> None:
    lesions = f.follow_up(hong_kong)
    assert (lesions.n, lesions.median_weeks) == (11, 16.0)
    patients = f.follow_up(hong_kong, unit="patient")
    assert (patients.n, patients.median_weeks) == (10, 16.0)
    relieved = f.follow_up(hong_kong, only=f.relieved(hong_kong).lesions)
    assert (relieved.n, relieved.median_weeks) == (10, 16.0)
    assert (lesions.shortest_days, lesions.longest_days) == (2, 252)
    calendar = f.follow_up(hong_kong_calendar).median_weeks
    assert f"{calendar:.1f}" == "17.4"


def test_where_the_row_of_lesion_6_ends_matters_only_before_month_4(
    hong_kong: Records, day_of: Mapping[str, float], make_record: Make
) -> None:
    def weeks(last: str, unit: str) -> float | None:
        other = make_record({0: 2, day_of[last]: 0}, lesion="6")
        rows = [other if r.lesion_id == "6" else r for r in hong_kong]
        return f.follow_up(rows, unit=unit).median_weeks  # type: ignore[arg-type]

    assert [weeks(c, "lesion") for c in ("M4", "M6", "M9")] == [16.0] * 3
    assert [weeks(c, "lesion") for c in ("M1", "M2")] == [8.0] * 2
    assert [weeks(c, "patient") for c in ("M1", "M2")] == [12.0] * 2


def test_relief_that_did_not_last(hong_kong: Records, day_of: Mapping[str, float]) -> None:
    found = f.persistence(hong_kong)
    (flag,) = found.flags
    assert (flag.lesion_id, flag.day, flag.score, flag.baseline) == ("6", day_of["M5"], 6, 2)
    assert flag.back_day == day_of["M6"]
    # relieved with a later score: all but 8 (not relieved) and 9 (last seen on day 2)
    assert found.checked == ("1", "2", "3", "4", "5", "6", "7", "10", "11")
    assert (found.persisted.x, found.persisted.n) == (8, 9)


def test_longest_relief_is_nine_months(hong_kong: Records, day_of: Mapping[str, float]) -> None:
    longest = f.relief_durations(hong_kong).longest
    assert longest is not None
    assert (longest.lesion_id, longest.last_relieved_day) == ("2", day_of["M9"])
    assert (longest.start_day, longest.ended) == (day_of["M1"], "last score")


def test_durations_of_the_series(hong_kong: Records) -> None:
    found = f.relief_durations(hong_kong, baseline=f.DAY_0_ELSE_1)
    told = {d.lesion_id: (d.start_day, d.end_day, d.ended) for d in found.durations}
    assert told == {
        "1": (7, 21, "last score"),
        "2": (28, 252, "last score"),
        "3": (1, 196, "last score"),
        "4": (1, 112, "last score"),
        "5": (1, 112, "last score"),
        "6": (2, 21, "lost"),  # back to its 2
        "7": (7, 112, "last score"),
        "8": (21, 21, "last score"),
        "9": (2, 2, "last score"),
        "10": (2, 56, "last score"),
        "11": (2, 14, "last score"),
    }
    assert [x.reason for x in f.relief_durations(hong_kong).left_out] == [
        "no baseline (day 0 only)"
    ]


def test_lesion_6_under_other_rules_of_loss(hong_kong: Records) -> None:
    (six,) = (r for r in hong_kong if r.lesion_id == "6")
    for loss, end in ((f.AboveBaseline(), 140), (f.RiseFromBest(), 21), (f.RiseFromBest(7), 168)):
        (d,) = f.relief_durations([six], loss=loss).durations
        assert d.end_day == end
        assert d.ended == ("last score" if end == 168 else "lost")
    (d,) = f.relief_durations([six], points=2).durations
    assert (d.start_day, d.days) == (2, 19)


COURSE = {0: 8, 1: 8, 7: 3, 14: 4, 28: 2}


def test_what_ends_relief(make_record: Make) -> None:
    def end(**more: float) -> tuple[float, float, float, str]:
        (d,) = f.relief_durations([make_record(COURSE, **more)]).durations
        return d.start_day, d.last_relieved_day, d.end_day, d.ended

    assert end() == (7, 28, 28, "last score")
    assert end(death_day=60) == (7, 28, 60, "died")
    assert end(recurrence_day=40) == (7, 28, 40, "lost")
    assert end(recurrence_day=40, death_day=60) == (7, 28, 40, "lost")
    assert end(recurrence_day=10) == (7, 7, 10, "lost")
    assert end(recurrence_day=3) == (7, 28, 28, "last score")  # before relief began
    (d,) = f.relief_durations([make_record({**COURSE, 56: 8, 84: 1})]).durations
    assert (d.last_relieved_day, d.end_day, d.ended, d.days) == (28, 56, "lost", 49)


@pytest.mark.parametrize(
    ("pain", "death", "reason"),
    [
        ({7: 3}, None, "no baseline (day 0 only)"),
        ({0: 3}, None, "no score after the procedure"),
        ({0: 3, 7: 3, 14: 5}, None, "never relieved"),
        ({0: 3, 7: 2}, 5, "a score on day 7 is later than the death on day 5"),
    ],
)
def test_without_relief_there_is_a_reason(
    make_record: Make, pain: dict[float, float], death: float | None, reason: str
) -> None:
    found = f.relief_durations([make_record(pain, death_day=death)])
    assert found.durations == ()
    assert [x.reason for x in found.left_out] == [reason]


def test_recurrence_with_death_as_a_competing_event(make_record: Make) -> None:
    # The worked example: (time, cause), relief seen first on day 1.
    example = [(3, 1), (5, 2), (6, 0), (8, 1), (10, 2), (12, 0), (14, 2), (16, 1), (20, 0), (24, 2)]
    rows = []
    for i, (time, cause) in enumerate(example):
        day = 1 + time
        pain = {0: 8, 1: 2, day: 9 if cause == 1 else 2} if cause != 2 else {0: 8, 1: 2}
        rows.append(make_record(pain, lesion=f"L{i}", death_day=day if cause == 2 else None))
    rows.append(make_record({0: 8, 1: 8}, lesion="none"))
    found = f.recurrence(f.relief_durations(rows))
    assert list(zip(found.times_days, found.causes, strict=True)) == example
    assert [x.lesion_id for x in found.left_out] == ["none"]
    risks = aalen_johansen(found.times_days, found.causes)
    recur, death = (dict(zip(c.times, c.incidence, strict=True)) for c in risks.causes)
    assert [round(recur[t], 6) for t in (3, 8, 16)] == [0.1, 0.214286, 0.357143]
    assert [round(death[t], 6) for t in (5, 10, 14, 24)] == [0.1, 0.214286, 0.357143, 0.642857]
    procedure = f.recurrence(f.relief_durations(rows), since="procedure")
    assert list(procedure.times_days) == [t + 1 for t, _ in example]


def test_net_relief(make_record: Make) -> None:
    rows = [
        make_record({0: 8, 10: 2, 50: 3}, lesion="held", death_day=100),
        make_record({0: 8, 10: 2, 40: 8}, lesion="lost", death_day=60),
        make_record({0: 8, 10: 9}, lesion="never", death_day=40),
        make_record({0: 8, 10: 2}, lesion="alive"),
        make_record({10: 2}, lesion="after", death_day=40),
    ]
    durations = f.relief_durations(rows)
    found = f.net_relief(rows, durations)
    assert (found.relief_days, found.survival_days) == (40 + 30 + 0, 200)
    assert found.ratio == 0.35
    assert found.lesions == ("held", "lost", "never")
    assert [x.reason for x in found.left_out] == [
        "death not recorded, or its day not known",
        "no baseline (day 0 only)",
    ]
    assert f.net_relief(rows, durations, to_death=True).ratio == (90 + 30) / 200
    assert f.net_relief([], durations).ratio is None


def test_wrong_words_are_refused(hong_kong: Records) -> None:
    with pytest.raises(InputError, match="unit is 'month'"):
        f.follow_up(hong_kong, unit="month")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="since is 'birth'"):
        f.recurrence(f.relief_durations(hong_kong), since="birth")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="points is -1"):
        f.relief_durations(hong_kong, points=-1)


def test_no_follow_up_is_named(make_record: Make) -> None:
    found = f.follow_up([make_record({0: 5}, lesion="a"), make_record({0: 5, 7: 1}, lesion="b")])
    assert (found.n, found.median_days, found.without_score) == (1, 7, ("a",))
    assert f.follow_up([]).median_weeks is None


@given(
    st.dictionaries(
        st.sampled_from([0.0, 1.0, 2.0, 7.0, 28.0, 56.0]), st.integers(0, 10), min_size=1
    ),
    st.sampled_from([None, 60.0, 90.0]),
)
def test_relief_runs_forward(
    make_record: Make, pain: dict[float, float], death: float | None
) -> None:
    rows = [make_record(pain, death_day=death)]
    for loss in (f.BackToBaseline(), f.AboveBaseline(), f.RiseFromBest()):
        found = f.relief_durations(rows, loss=loss)
        assert len(found.durations) + len(found.left_out) == 1
        for d in found.durations:
            assert 0 < d.start_day <= d.last_relieved_day <= d.end_day
            assert pain[d.start_day] < pain[0.0]
            if d.ended == "lost":
                assert d.last_relieved_day < d.end_day
            if death is not None:
                assert d.ended in ("lost", "died")
                share = f.net_relief(rows, found, to_death=True)
                assert share.ratio is not None
                assert 0 <= share.ratio <= 1
