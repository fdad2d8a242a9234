"""Hidden counts cannot be worked out: every small table is solved by brute force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trocar.audit.suppression import Sum, hidden_counts, solvable
from trocar.errors import InputError


def fits(counts: Mapping[str, int], sums: Sequence[Sum]) -> bool:
    for s in sums:
        parts = [counts[p] for p in s.parts]
        if s.overlapping:
            if not max(parts) <= counts[s.total] <= sum(parts):
                return False
        elif sum(parts) != counts[s.total]:
            return False
    return True


def solutions(
    counts: Mapping[str, int], sums: Sequence[Sum], hidden: frozenset[str], most: int
) -> Iterator[dict[str, int]]:
    """Every way to fill the hidden counts with 1 to ``most`` that fits what is printed."""
    names = sorted(hidden)
    for values in product(range(1, most + 1), repeat=len(names)):
        tried = {**counts, **dict(zip(names, values, strict=True))}
        if fits(tried, sums):
            yield tried


def assert_safe(counts: Mapping[str, int], sums: Sequence[Sum], below: int) -> frozenset[str]:
    hidden = hidden_counts(counts, sums, below=below)
    assert {k for k, v in counts.items() if 0 < v < below} <= hidden
    assert all(counts[k] > 0 for k in hidden)
    most = max((counts[k] for k in hidden), default=0) + 2  # two values are proof enough
    found = list(solutions(counts, sums, hidden, most))
    for name in hidden:
        assert len({s[name] for s in found}) > 1, f"{name} can be worked out"
    return hidden


def test_one_small_part_takes_a_second_with_it() -> None:
    counts = {"all": 40, "a": 2, "b": 7, "c": 31}
    sums = [Sum("all", ("a", "b", "c"))]
    assert assert_safe(counts, sums, 5) == {"a", "b"}


def test_two_ones_of_two_are_not_enough() -> None:
    # 9 of 11 printed would say that the two hidden counts are 1 and 1
    counts = {"all": 11, "a": 1, "b": 1, "c": 9}
    assert assert_safe(counts, [Sum("all", ("a", "b", "c"))], 5) == {"a", "b", "c"}


def test_zeros_are_printed_and_large_counts_stay() -> None:
    counts = {"all": 40, "a": 0, "b": 17, "c": 23}
    assert assert_safe(counts, [Sum("all", ("a", "b", "c"))], 5) == frozenset()


def test_a_rate_whose_rest_is_small_is_hidden() -> None:
    counts = {"all": 40, "with": 38, "without": 2}
    assert assert_safe(counts, [Sum("all", ("with", "without"))], 5) == {"with", "without"}


def test_the_same_count_in_two_tables() -> None:
    # hidden in the first table, and printed by other words in the second: it must go there too
    counts = {"all": 23, "a": 3, "b": 8, "c": 12, "operator 1": 3, "operator 2": 9, "hits": 12}
    sums = [
        Sum("all", ("a", "b", "c")),
        Sum("hits", ("operator 1", "operator 2")),
        Sum("c", ("hits",)),
    ]
    hidden = assert_safe(counts, sums, 5)
    assert {"a", "b", "operator 1", "operator 2"} == hidden


def test_a_two_way_table() -> None:
    cells = {"11": 1, "12": 8, "21": 9, "22": 12}
    counts = {**cells, "r1": 9, "r2": 21, "c1": 10, "c2": 20, "all": 30}
    sums = [
        Sum("r1", ("11", "12")), Sum("r2", ("21", "22")), Sum("c1", ("11", "21")),
        Sum("c2", ("12", "22")), Sum("all", ("r1", "r2")), Sum("all", ("c1", "c2")),
    ]  # fmt: skip
    assert set(cells) <= assert_safe(counts, sums, 5)


def test_overlapping_parts_that_bound_a_count() -> None:
    # A single compartment would say how many lesions leaked
    counts = {"any": 3, "epidural": 3, "clean": 37, "all": 40}
    sums = [Sum("any", ("epidural",), overlapping=True), Sum("all", ("any", "clean"))]
    assert {"any", "epidural", "clean"} <= assert_safe(counts, sums, 5)


def test_one_compartment_tells_itself() -> None:
    counts, sums = {"any": 7, "a": 7}, [Sum("any", ("a",), overlapping=True)]
    assert solvable(counts, sums, frozenset({"a"})) == {"a"}  # at most 7, and at least 7
    two = {"any": 7, "a": 7, "b": 2}
    assert not solvable(two, [Sum("any", ("a", "b"), overlapping=True)], frozenset({"a", "b"}))


def test_public_totals_are_kept() -> None:
    counts = {"all": 11, "a": 1, "b": 10}
    sums = [Sum("all", ("a", "b"))]
    assert hidden_counts(counts, sums, below=5, public=frozenset({"all"})) == {"a", "b"}
    tiny = {"all": 2, "a": 1, "b": 1}
    assert "all" in hidden_counts(tiny, sums, below=5, public=frozenset({"all"}))


def test_solvable_by_chain() -> None:
    # a = 10 - b, b = 7 - c, c printed: both hidden counts follow
    counts = {"t": 10, "a": 6, "b": 4, "u": 7, "c": 3}
    sums = [Sum("t", ("a", "b")), Sum("u", ("b", "c"))]
    assert solvable(counts, sums, frozenset({"a", "b"})) == {"a", "b"}
    assert solvable(counts, sums, frozenset({"a", "b", "c"})) == frozenset()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=4, max_size=4),
    st.integers(2, 4),
    st.booleans(),
)
def test_random_two_way_tables(cells: list[int], below: int, margins: bool) -> None:
    a, b, c, d = cells
    counts = {"a": a, "b": b, "c": c, "d": d, "r1": a + b, "r2": c + d, "all": sum(cells)}
    sums = [Sum("r1", ("a", "b")), Sum("r2", ("c", "d")), Sum("all", ("r1", "r2"))]
    if margins:
        counts.update({"c1": a + c})
        sums.append(Sum("c1", ("a", "c")))
    hidden = hidden_counts(counts, sums, below=below)
    assert {k for k, v in counts.items() if 0 < v < below} <= hidden
    if 0 < len(hidden) <= 4:
        found = list(solutions(counts, sums, hidden, max(counts[k] for k in hidden) + 2))
        for name in hidden:
            assert len({s[name] for s in found}) > 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=4), st.integers(2, 5))
def test_random_partitions(parts: list[int], below: int) -> None:
    names = [f"p{i}" for i in range(len(parts))]
    counts = dict(zip(names, parts, strict=True)) | {"all": sum(parts)}
    if sum(parts):
        assert_safe(counts, [Sum("all", tuple(names))], below)


def test_what_cannot_be_used() -> None:
    counts = {"all": 3, "a": 1, "b": 1}
    with pytest.raises(InputError, match="parts that make the total"):
        hidden_counts(counts, [Sum("all", ("a", "b"))], below=5)
    with pytest.raises(InputError, match="not there"):
        hidden_counts(counts, [Sum("all", ("a", "c"))], below=5)
    with pytest.raises(InputError, match="threshold of 2"):
        hidden_counts({}, [], below=1)
