"""International Consensus response: every worked example, and its text as an oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar import followup as f
from trocar.errors import InputError
from trocar.model.study import Record

Make = Callable[..., Record]


@pytest.mark.parametrize(
    ("p0", "p", "o0", "o", "kind"),
    [
        (5, 0, 40, 40, "CR"),
        (5, 0, 40, 50, "IR"),  # pain gone, but with more opioid
        (5, 3, 40, 40, "PR"),
        (5, 4, 40, 30, "PR"),  # 25 % less
        (5, 5, 40, 31, "IR"),  # 22.5 % less
        (5, 7, 40, 40, "PP"),
        (5, 6, 40, 50, "PP"),  # 25 % more
        (5, 6, 40, 40, "IR"),
        (9.5, 2, 60, 0, "PR"),  # the article's case 2: 9-10 to 2, opioid stopped
        (5, 7, 40, 50, "PP"),  # both worse: not named by the text
        (5, 7, 40, 30, "IR"),  # worse pain with less opioid
        (5, 3, 40, 41, "IR"),  # any more opioid forbids a response
        (5, 5, 0, 10, "PP"),  # an opioid after none is more
        (5, 0, 0, 0, "CR"),
        (5, 4, 0, 0, "IR"),
    ],
)
def test_worked_examples(p0: float, p: float, o0: float, o: float, kind: str) -> None:
    found = f.response(p0, p, o0, o)
    assert found.kind == kind
    assert not found.pain_only
    assert found.responder == (kind in ("CR", "PR"))
    assert found.reason == f"pain {p0:g} to {p:g}, opioids {o0:g} to {o:g} mg/day"


@pytest.mark.parametrize(
    ("p0", "p", "reason"),
    [
        (None, 3, "no pain score before the procedure"),
        (5, None, "no pain score after the procedure"),
        (None, None, "no pain score before the procedure"),
        (0, 3, "no pain before"),
    ],
)
def test_not_evaluable(p0: float | None, p: float | None, reason: str) -> None:
    found = f.response(p0, p, 40, 40)
    assert (found.kind, found.reason, found.responder) == ("not evaluable", reason, None)


def test_pain_alone_says_so() -> None:
    assert f.response(5, 3).reason == "pain 5 to 3; by pain alone, opioids are not known"
    assert f.response(5, 3).pain_only
    half = f.response(5, 3, 40, None)
    assert (half.kind, half.pain_only) == ("PR", True)
    assert half.reason == "pain 5 to 3; by pain alone, opioids after the procedure are not known"


@pytest.mark.parametrize("wrong", [(-1, 3, 1, 1), (5, 10.5, 1, 1), (5, 3, -1, 1)])
def test_impossible_numbers_are_refused(wrong: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="expected a number"):
        f.response(*wrong)


def test_hong_kong_by_pain_alone(hong_kong: Sequence[Record]) -> None:
    found = f.responses(hong_kong)
    assert found.lesions("CR") == ("4",)
    assert found.lesions("PR") == ("1", "3", "5", "10")
    assert found.lesions("IR") == ("2", "6", "9", "11")
    assert found.lesions("PP") == ("8",)
    assert found.lesions("not evaluable") == ("7",)
    assert (found.responders.x, found.responders.n) == (5, 10)
    assert (found.evaluable, found.pain_only) == (10, 10)
    assert sum(found.counts.values()) == 11
    other = f.responses(hong_kong, baseline=f.DAY_0_ELSE_1)
    assert other.lesions("CR") == ("4", "7")


def test_opioids_of_the_record_decide(make_record: Make) -> None:
    def oxycodone(lesion: str, before: float, after: float) -> Record:
        return make_record(
            {0: 5, 7: 4},
            lesion=lesion,
            opioids=[
                (0, "oxycodone", "oral", before, "mg/day"),
                (5, "oxycodone", "oral", after, "mg/day"),
            ],
        )

    patch = make_record(
        {0: 5, 7: 3},
        lesion="methadone",
        opioids=[(0, "methadone", "oral", 10, "mg/day"), (7, "none", None, 0, "mg/day")],
    )
    found = f.responses([oxycodone("a", 40, 30), oxycodone("b", 40, 31), patch], 7)
    assert [r.response.kind for r in found.rows] == ["PR", "IR", "PR"]
    assert [r.response.pain_only for r in found.rows] == [False, False, True]
    assert found.rows[0].response.reason == "pain 5 to 4, opioids 60 to 45 mg/day"
    assert found.rows[2].response.reason.endswith(
        "opioids before not known: methadone is not converted by itself, after 0 mg/day"
    )
    assert found.pain_only == 1
    assert (found.opioid_table, found.day) == ("anzca-2021", 7)


def test_a_day_and_a_rule_must_agree(hong_kong: Sequence[Record]) -> None:
    assert f.responses(hong_kong, 28).day == 28
    with pytest.raises(InputError, match="day 28 was asked for"):
        f.responses(hong_kong, 28, f.LastInWindow(7))


# Text of the consensus on whole points and per cent, written apart from the code.
def by_the_text(p0: int, p: int, o0: int, o: int) -> str:
    stable_or_less, rise = o <= o0, (o > 0 if o0 == 0 else 4 * o >= 5 * o0)
    cut = o0 > 0 and 4 * o <= 3 * o0
    complete = p == 0 and stable_or_less
    partial = (p0 - p >= 2 and stable_or_less) or (cut and p <= p0)
    worse = (p - p0 >= 2 and not cut) or (p >= p0 and rise)
    assert not (partial and worse)
    return "CR" if complete else "PR" if partial else "PP" if worse else "IR"


def test_the_categories_cover_the_whole_plane() -> None:
    doses = (0, 1, 29, 30, 31, 39, 40, 41, 49, 50, 51, 200)
    for p0 in range(1, 11):
        for p in range(11):
            for o0 in doses:
                for o in doses:
                    assert f.response(p0, p, o0, o).kind == by_the_text(p0, p, o0, o)


PAIN = st.integers(1, 100).map(lambda x: x / 10)
DOSE = st.integers(0, 4000).map(lambda x: x / 10)


@given(PAIN, PAIN, PAIN, DOSE, DOSE)
def test_less_pain_is_never_a_worse_response(
    p0: float, p: float, q: float, o0: float, o: float
) -> None:
    order = ("PP", "IR", "PR", "CR")
    low, high = sorted((p, q))
    better, worse = (order.index(f.response(p0, x, o0, o).kind) for x in (low, high))
    assert better >= worse


@given(PAIN, PAIN, DOSE)
def test_the_same_opioids_are_as_pain_alone(p0: float, p: float, dose: float) -> None:
    assert f.response(p0, p, dose, dose).kind == f.response(p0, p).kind


def test_other_thresholds_can_be_asked_for() -> None:
    older = f.Criteria(points=2, less_opioid=0.5, more_opioid=0.25)
    assert f.response(5, 4, 40, 30, criteria=older).kind == "IR"
    assert f.response(5, 4, 40, 20, criteria=older).kind == "PR"


@pytest.mark.parametrize(
    ("p0", "p", "points", "fraction", "half"),
    [
        (5, 3, True, True, False),
        (10, 7, True, True, False),
        (3.3, 2.31, False, True, False),  # exactly 30 %
        (8, 6, True, False, False),
        (2, 1, False, True, True),
        (5, 6, False, False, False),
        (0, 0, False, None, None),
    ],
)
def test_important_decrease(
    p0: float, p: float, points: bool, fraction: bool | None, half: bool | None
) -> None:
    found = f.decrease(p0, p)
    assert (found.by_points, found.by_fraction, found.by_half) == (points, fraction, half)
    assert found.points == pytest.approx(p0 - p, abs=1e-9)


def test_bands_and_acceptable_pain() -> None:
    words = ["none", *["mild"] * 3, *["moderate"] * 3, *["severe"] * 3, "worst"]
    assert [f.band(p) for p in range(11)] == words
    assert [p for p in range(11) if f.acceptable(p)] == [0, 1, 2, 3]
    assert not f.acceptable(3.5)
    with pytest.raises(InputError, match="expected a number from 0 to 10"):
        f.band(11)
