from __future__ import annotations

from collections.abc import Callable

from trocar import followup as f
from trocar.model.study import Record


def test_who_walks_better(make_record: Callable[..., Record]) -> None:
    rows = [
        make_record({}, lesion="better", walking={0: 1, 28: 3}),
        make_record({}, lesion="same", walking={-2: 2, 7: 4, 27: 2}),
        make_record({}, lesion="worse", walking={0: 4, 14: 0}),
        make_record({}, lesion="late", walking={0: 4, 29: 0}),
        make_record({}, lesion="after", walking={28: 3}),
        make_record({}, lesion="nothing"),
    ]
    found = f.walking_change(rows)
    assert (found.improved, found.same, found.worse) == (("better",), ("same",), ("worse",))
    assert (found.proportion.x, found.proportion.n) == (1, 3)
    assert [x.reason for x in found.left_out] == [
        "no walking score after",
        "no walking score before",
        "no walking score before and after",
    ]
    assert found.rule == "last up to day 28"
    first = f.walking_change(rows, f.FirstAfter(28))
    assert first.improved == ("better", "same")


def test_five_labels() -> None:
    assert len(f.walking_labels()) == 5
