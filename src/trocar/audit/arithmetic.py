"""Can a printed number be right? Percentages, totals, means, SDs, changes, limits and P, checked.

Nothing here says that somebody erred on purpose; most of what it finds are slips of the pen and
percentages cut off instead of rounded. Printed numbers are given as text, because their digits
count: "5.0" is another claim than "5". All is done in whole numbers and fractions, so that no
rounding of ours is blamed on a paper.

A mean of whole scores can only be some whole sum over n (GRIM: Brown and Heathers, Soc Psychol
Personal Sci 2017;8:363-9); an SD then needs scores whose squares add up too (GRIMMER: Anaya,
PeerJ Preprints 2016;4:e2400). Published GRIMMER tests look at whole numbers and parity; here, for
small series, whether there *are* such scores is counted out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Literal

from trocar.audit import evidence as published
from trocar.audit.evidence import (
    Change,
    Count,
    Item,
    Mean,
    Percent,
    PValue,
    Total,
    Twice,
)
from trocar.errors import InputError

Verdict = Literal["possible", "only if", "impossible", "cannot be checked"]
Rounding = Literal["half up", "half even", "cut off"]
Number = str | int | float | Decimal

LONGEST_COUNT = 3e7  # elementary steps spent on counting out which SDs there are: about a second


@dataclass(frozen=True, kw_only=True)
class Flag:
    """What became of checking one printed number.

    ``verdict``: "possible"; "only if" something holds that nobody printed (``why`` says what);
    "impossible"; "cannot be checked". ``should_be`` is the right figure as it would be printed, ""
    where it does not follow. ``roundings`` are those that give a printed percentage;
    ``candidates`` what it could have come from: counts, a part that would close a total, the P of
    tests. ``item`` is the key of the published figure.
    """

    check: str
    printed: str
    verdict: Verdict
    why: str
    should_be: str = ""
    roundings: tuple[Rounding, ...] = ()
    candidates: tuple[str, ...] = ()
    item: str = ""

    @property
    def flagged(self) -> bool:
        """Whether somebody should look at it."""
        return self.verdict in ("impossible", "only if")


# ---- rounding


def rounded(value: Fraction, digits: int, how: Rounding) -> str:
    """A fraction as it is printed with so many decimals; away from 0 where it is half (half up).

    >>> [rounded(Fraction(1, 8), 2, how) for how in ("half up", "half even", "cut off")]
    ['0.13', '0.12', '0.12']
    """
    whole, rest = divmod(abs(value) * 10**digits, 1)
    half = Fraction(1, 2)
    up = {"half up": rest >= half, "half even": rest > half or (rest == half and whole % 2 == 1),
          "cut off": False}[how]  # fmt: skip
    steps = int(whole) + up
    text = f"{steps // 10**digits}" + (f".{steps % 10**digits:0{digits}d}" if digits else "")
    return f"-{text}" if value < 0 and steps else text


_ROUNDINGS: tuple[Rounding, ...] = ("half up", "half even", "cut off")


def _roundings(value: Fraction, printed: str, digits: int) -> tuple[Rounding, ...]:
    """The ways of rounding that print a value so."""
    shown = Fraction(printed)
    return tuple(h for h in _ROUNDINGS if Fraction(rounded(value, digits, h)) == shown)


def _read(printed: Number, digits: int | None, what: str) -> tuple[str, int]:
    """The text of a printed number and its decimals."""
    try:
        number = Decimal(str(printed).strip().removesuffix("%").strip())
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise InputError(f'{what} is "{printed}"; expected a number as it was printed, as "56.63"')
    text = format(number, "f")
    decimals = len(text.partition(".")[2])
    if digits is not None:
        if digits < decimals:
            raise InputError(f"{what} is {text}, which has more than the {digits} decimals given")
        text = format(number.quantize(Decimal(1).scaleb(-digits)), "f")
    return text, decimals if digits is None else digits


def _size(n: int, what: str = "n") -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"{what} is {n!r}; expected a whole number from 1 up")
    return n


# ---- counts


def check_percent(x: int, n: int, printed: Number, digits: int | None = None) -> Flag:
    """Is x of n what the printed percentage says?

    ``printed`` as text carries its own ``digits``. Both ways of rounding a half are accepted;
    a figure that comes only by cutting digits off is possible "only if" that was done.
    ``candidates`` are the counts of n that would print so. Raises InputError unless 0 <= x <= n.

    >>> flag = check_percent(64, 113, "56.63")
    >>> flag.verdict, flag.should_be, flag.roundings
    ('only if', '56.64', ('cut off',))
    """
    text, digits = _read(printed, digits, "the percentage")
    _size(n)
    if not 0 <= x <= n:
        raise InputError(f"{x} of {n} was given; expected 0 to n events")
    exact = Fraction(100 * x, n)
    ways = _roundings(exact, text, digits)
    should = rounded(exact, digits, "half up")
    verdict: Verdict = "possible"
    why = f"{x}/{n} is {float(exact):.{digits + 2}f} %"
    if ways == ("cut off",):
        verdict, why = "only if", f"{why}: only if digits were cut off, not rounded"
    elif not ways:
        verdict = "impossible"
    return Flag(
        check="percent", printed=text, verdict=verdict, why=why, should_be=should, roundings=ways,
        candidates=tuple(map(str, possible_counts(n, text))),
    )  # fmt: skip


def possible_counts(n: int, printed: Number, digits: int | None = None) -> tuple[int, ...]:
    """Which counts of n does rounding turn into the printed percentage?

    >>> possible_counts(25, "59"), possible_counts(18, "6")
    ((), (1,))
    """
    text, digits = _read(printed, digits, "the percentage")
    near = math.floor(Fraction(text) * _size(n) / 100)
    reach = math.ceil(Fraction(n, 100 * 10**digits))
    tried = range(max(0, near - reach), min(n, near + reach + 1) + 1)
    return tuple(
        x
        for x in tried
        if {"half up", "half even"} & set(_roundings(Fraction(100 * x, n), text, digits))
    )


def check_total(
    parts: Mapping[str, Number] | Iterable[Number], total: Number, *, rounded_parts: bool = False
) -> Flag:
    """Do the parts add up to the total?

    With ``rounded_parts`` each may be half its last digit off, and so may the total.
    ``candidates`` are single parts that would close it and differ from what is printed by one
    digit added, lost or changed, or two swapped: likely slips.

    >>> check_total({"a": 664, "b": 67, "c": 30}, 861).candidates
    ('a 764 for 664', 'b 167 for 67', 'c 130 for 30')
    """
    named = (
        dict(parts)
        if isinstance(parts, Mapping)
        else {f"part {i}": p for i, p in enumerate(parts, 1)}
    )
    read = {name: _read(p, None, name) for name, p in named.items()}
    text, digits = _read(total, None, "the total")
    added = sum((Fraction(t) for t, _ in read.values()), Fraction())
    places = max([digits, *(d for _, d in read.values())])
    should = rounded(added, places, "half up")
    off = Fraction(text) - added
    slack = Fraction()
    if rounded_parts:
        slack = sum((_half(d) for _, d in read.values()), _half(digits))
    sum_text = " + ".join(t for t, _ in read.values()) + f" = {should}"
    if abs(off) <= slack:
        why = sum_text + ("" if off == 0 else ", as near as rounded parts allow")
        return Flag(check="total", printed=text, verdict="possible", why=why, should_be=text)
    slips = []
    for name, (t, d) in read.items():
        needed = rounded(Fraction(t) + off, d, "half up")
        if Fraction(t) + off >= 0 and _one_slip(t, needed):
            slips.append(f"{name} {needed} for {t}")
    return Flag(
        check="total", printed=text, verdict="impossible", why=f"{sum_text}, not {text}",
        should_be=should, candidates=tuple(slips),
    )  # fmt: skip


def _half(digits: int) -> Fraction:
    return Fraction(1, 2 * 10**digits)


def _one_slip(a: str, b: str) -> bool:
    """One digit added, lost or changed, or two neighbours swapped."""
    if a == b:
        return False
    short, long = sorted((a, b), key=len)
    if len(long) == len(short):
        differ = [i for i in range(len(a)) if a[i] != b[i]]
        swapped = (
            len(differ) == 2
            and differ[1] == differ[0] + 1
            and a[differ[0]] == b[differ[1]]
            and a[differ[1]] == b[differ[0]]
        )
        return len(differ) == 1 or swapped
    return len(long) == len(short) + 1 and any(
        long[:i] + long[i + 1 :] == short for i in range(len(long))
    )


# ---- means and SDs of scores in steps


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """n scores in steps of ``grain`` from ``low``: ``top`` steps to the highest, None without."""

    n: int
    grain: Fraction
    low: Fraction
    top: int | None

    def sums(self, mean: str, digits: int, ways: tuple[Rounding, ...]) -> tuple[int, ...]:
        """The sums, in steps above n times the lowest, whose mean is printed so."""
        per_step = self.grain / self.n
        near = math.floor((Fraction(mean) - self.low) / per_step)
        reach = math.ceil(2 * _half(digits) / per_step)
        most = None if self.top is None else self.n * self.top
        tried = range(max(0, near - reach) if most is not None else near - reach, near + reach + 2)
        return tuple(
            t
            for t in tried
            if (most is None or t <= most)
            and set(ways) & set(_roundings(self.low + t * per_step, mean, digits))
        )


def _scale(n: int, items: int, step: Number, low: Number | None, high: Number | None) -> _Scale:
    _size(n)
    grain = Fraction(_read(step, None, "the step")[0]) / _size(items, "items")
    if grain <= 0:
        raise InputError(f"the step of the scale is {step}; expected more than 0")
    bottom = Fraction(0) if low is None else Fraction(_read(low, None, "the lowest score")[0])
    if low is None or high is None:
        return _Scale(n=n, grain=grain, low=bottom, top=None)
    top = (Fraction(_read(high, None, "the highest score")[0]) - bottom) / grain
    if top < 0 or top.denominator != 1:
        raise InputError(
            f"a scale from {low} to {high} in steps of {step} was given; expected the highest "
            "score a whole number of steps above the lowest"
        )
    return _Scale(n=n, grain=grain, low=bottom, top=int(top))


_ROUND: tuple[Rounding, ...] = ("half up", "half even")


def check_mean(
    mean: Number,
    n: int | None,
    digits: int | None = None,
    items: int = 1,
    low: Number | None = 0,
    high: Number | None = 10,
    *,
    step: Number = 1,
) -> Flag:
    """Can n people's scores have this mean? (GRIM)

    Scores go from ``low`` to ``high`` (None: without end) in steps of ``step``; each person's is
    itself the mean of ``items`` such scores. Without n it cannot be checked. Where so many people
    reach every mean of so many digits, ``why`` says that the check tells nothing.

    >>> check_mean("5.19", 28).verdict, check_mean("5.18", 28).verdict
    ('impossible', 'possible')
    """
    text, digits = _read(mean, digits, "the mean")
    if n is None:
        return Flag(check="mean", printed=text, verdict="cannot be checked", why="n is not printed")
    scale = _scale(n, items, step, low, high)
    if scale.sums(text, digits, _ROUND):
        blind = scale.grain / n <= Fraction(1, 10**digits)
        why = f"{n} scores can have the mean {text}"
        return Flag(
            check="mean", printed=text, verdict="possible", should_be=text,
            why=f"{why}, as any of so few decimals" if blind else why,
        )  # fmt: skip
    near = _nearest_means(scale, text, digits)
    why = f"{n} scores in steps of {step}" + (f" by {items} items" if items > 1 else "")
    why += f" can have a mean of {' or '.join(near)}, not of {text}"
    if scale.sums(text, digits, ("cut off",)):
        return Flag(
            check="mean", printed=text, verdict="only if", candidates=near, roundings=("cut off",),
            why=f"{why}: only if digits were cut off, not rounded",
        )  # fmt: skip
    return Flag(check="mean", printed=text, verdict="impossible", why=why, candidates=near)


def _nearest_means(scale: _Scale, mean: str, digits: int) -> tuple[str, ...]:
    """The means next to the printed one that there are."""
    at = math.floor((Fraction(mean) - scale.low) * scale.n / scale.grain)
    most = math.inf if scale.top is None else scale.n * scale.top
    least = -math.inf if scale.top is None else 0
    kept = sorted({min(max(t, least), most) for t in (at, at + 1)})
    return tuple(
        rounded(scale.low + int(t) * scale.grain / scale.n, digits, "half up") for t in kept
    )


def check_sd(
    mean: Number,
    sd: Number,
    n: int | None,
    digits: int | None = None,
    items: int = 1,
    low: Number = 0,
    high: Number = 10,
    *,
    step: Number = 1,
) -> Flag:
    """Can n people's scores have this mean and this SD? (GRIMMER)

    ``digits`` are the decimals of the SD; the scale is as for :func:`check_mean`. For small series
    every set of scores is counted out (as sums and sums of squares); for larger ones only what no
    scores can have is called impossible: squares outside the scale's reach, or of wrong parity.
    An SD with n in place of n - 1 is possible "only if" it was meant so. Raises InputError for a
    negative SD.

    >>> check_sd("5.0", "0.3", 10).verdict, check_sd("5.0", "0.5", 10).verdict
    ('impossible', 'possible')
    """
    text, digits = _read(sd, digits, "the SD")
    shown = f"{_read(mean, None, 'the mean')[0]} ± {text}"
    if Fraction(text) < 0:
        raise InputError(f"the SD is {text}; expected 0 or more")
    if n is None:
        return Flag(check="sd", printed=shown, verdict="cannot be checked", why="n is not printed")
    scale = _scale(n, items, step, low, high)
    mean_text, mean_digits = _read(mean, None, "the mean")
    sums = scale.sums(mean_text, mean_digits, _ROUND)
    if not sums:
        why = f"no {n} scores have the mean {mean_text}, whatever the SD"
        return Flag(check="sd", printed=shown, verdict="impossible", why=why)
    if n == 1:
        why = "one score has no SD"
        return Flag(check="sd", printed=shown, verdict="cannot be checked", why=why)
    if any(_squares(scale, t, text, digits, n - 1) for t in sums):
        why = f"there are {n} scores with this mean and SD"
        if not _counted_out(scale):
            why = f"nothing forbids {n} scores with this mean and SD"
        return Flag(check="sd", printed=shown, verdict="possible", why=why, should_be=shown)
    if any(_squares(scale, t, text, digits, n) for t in sums):
        why = "only if it is the SD over n, not over n - 1"
        return Flag(check="sd", printed=shown, verdict="only if", why=why)
    why = f"no {n} scores from {low} to {high} in steps of {step} have this mean and SD"
    return Flag(check="sd", printed=shown, verdict="impossible", why=why)


def _squares(scale: _Scale, t: int, sd: str, digits: int, divisor: int) -> bool:
    """Are there scores with sum t (in steps) whose SD over ``divisor`` is printed so?"""
    assert scale.top is not None
    half, even = _half(digits), int(sd[-1]) % 2 == 0
    lowest, highest = max(Fraction(0), Fraction(sd) - half), Fraction(sd) + half
    around, unit = Fraction(t * t, scale.n), Fraction(divisor) / scale.grain**2
    first = math.ceil(around + lowest**2 * unit)
    end = around + highest**2 * unit
    # an SD just half-way is rounded up, or to the even digit
    last = math.floor(end) if even or end.denominator != 1 else int(end) - 1
    least, most = _reach(scale.n, scale.top, t)
    first, last = max(first, least), min(last, most)
    if first > last:
        return False
    if _counted_out(scale):
        return bool(
            _sums_of_squares(scale.n, scale.top)[t] >> first & ((1 << last - first + 1) - 1)
        )
    return last > first or (first - t) % 2 == 0  # a square is odd where its root is


def _reach(n: int, top: int, t: int) -> tuple[int, int]:
    """The least and the most that n squares of 0..top can add up to when their roots add up to t.

    Least when all are as equal, most when all are as far apart, as they can be.
    """
    each, more = divmod(t, n)
    least = (n - more) * each**2 + more * (each + 1) ** 2
    full, rest = divmod(t, top) if top else (0, 0)
    return least, full * top**2 + rest**2


def _counted_out(scale: _Scale) -> bool:
    assert scale.top is not None
    n, top = scale.n, scale.top
    return (n * top) ** 2 / 2 * (1 + n * top**2 / 4096) < LONGEST_COUNT


@lru_cache(maxsize=8)
def _sums_of_squares(n: int, top: int) -> tuple[int, ...]:
    """For each sum of n whole numbers 0..top, the sums of their squares, as bits of one integer."""
    found = [1]
    for _ in range(n):
        longer = [0] * (len(found) + top)
        for (t, squares), score in product(enumerate(found), range(top + 1)):
            longer[t + score] |= squares << score * score
        found = longer
    return tuple(found)


def check_change(mean0: Number, mean1: Number, printed: Number) -> Flag:
    """Is the printed change the mean before less the mean after, given that all three are rounded?

    >>> check_change("84.2", "45.6", "38.6").verdict, check_change("84.2", "45.6", "39.6").verdict
    ('possible', 'impossible')
    """
    (a, d0), (b, d1) = (
        _read(m, None, w) for m, w in ((mean0, "the mean before"), (mean1, "the mean after"))
    )
    text, digits = _read(printed, None, "the change")
    change = Fraction(a) - Fraction(b)
    should = rounded(change, max(d0, d1), "half up")
    off = abs(Fraction(text) - change)
    why = f"{a} - {b} = {should}"
    if off <= _half(d0) + _half(d1) + _half(digits):
        why += "" if off == 0 else ", as near as rounded means allow"
        return Flag(check="change", printed=text, verdict="possible", why=why, should_be=text)
    return Flag(
        check="change", printed=text, verdict="impossible", why=f"{why}, not {text}",
        should_be=should,
    )  # fmt: skip


def check_interval(x: int, n: int, low: Number, high: Number, level: float = 0.95) -> Flag:
    """Which interval are the printed limits (in per cent) of x of n?

    Clopper and Pearson's, Wilson's and the mid-P one are tried; ``candidates`` are those that
    print so, or would "only if" a limit was rounded twice (47.648 to 47.65 to 47.7). Other methods
    exist: where none fits it "cannot be checked".

    >>> check_interval(19, 28, "47.7", "84.1").candidates
    ('Clopper-Pearson',)
    """
    from trocar.stats.exact import Proportion

    share = Proportion(x, n)
    (a, d0), (b, d1) = _read(low, None, "the lower limit"), _read(high, None, "the upper limit")
    ends = {
        i.method: (Fraction(100 * i.low), Fraction(100 * i.high))
        for i in (share.clopper_pearson(level), share.wilson(level), share.mid_p(level))
    }
    shown = {
        m: f"{rounded(p, d0, 'half up')}–{rounded(q, d1, 'half up')}" for m, (p, q) in ends.items()
    }
    fits = tuple(m for m, text in shown.items() if text == f"{a}–{b}")
    mixed = tuple(
        m
        for m, (p, q) in ends.items()
        if a in (rounded(p, d0, "half up"), _rounded_twice(p, d0))
        and b in (rounded(q, d1, "half up"), _rounded_twice(q, d1))
    )
    verdict: Verdict = "possible" if fits else "only if" if mixed else "cannot be checked"
    why = {
        "possible": " and ".join(fits),
        "only if": f"{' and '.join(mixed)}, only if a limit was rounded twice",
    }.get(verdict, f"neither of {', '.join(shown)}; another method may give it")
    return Flag(
        check="interval", printed=f"{a}–{b}", verdict=verdict, why=why,
        should_be=shown["Clopper-Pearson"], candidates=fits or mixed,
    )  # fmt: skip


def _rounded_twice(value: Fraction, digits: int) -> str:
    """47.648 to 47.65 to 47.7: wrong, and common."""
    return rounded(Fraction(rounded(value, digits + 1, "half up")), digits, "half up")


# ---- P


def check_p_value(
    printed: str,
    *,
    better: int | None = None,
    worse: int | None = None,
    ties: int = 0,
    n: int | None = None,
) -> Flag:
    """Is a printed P that of a sign test (a binomial test against one half)?

    ``printed`` is a figure ("0.039") or a bound ("<0.01"). With ``better`` and ``worse`` pairs the
    P is computed and compared. With n alone nothing follows; ``candidates`` then are the P of
    tests of n pairs, and of one pair fewer (a tie), if all or all but one got better: a reader
    sees which could be meant. Raises InputError for a P that is none.

    >>> check_p_value("0.039", better=8, worse=1, ties=1).verdict
    'possible'
    """
    from trocar.stats.exact import sign_test

    if better is None or worse is None:
        candidates = () if n is None else _p_values(n)
        told = f"of the {n} pairs " if n is not None else ""
        why = f"not derivable: how many {told}got better, and the test, are not known"
        return Flag(
            check="p value", printed=_p_text(printed), verdict="cannot be checked", why=why,
            candidates=candidates,
        )  # fmt: skip
    p = sign_test(better, worse, ties).p_value
    return _compared(printed, p, f"sign test of {better} better, {worse} worse: P = {p:.4g}")


def _p_text(printed: str) -> str:
    bound, text, _ = _p(printed)
    return bound + text


def _p(printed: str) -> tuple[str, str, int]:
    """ "<" or "", the figure, its decimals."""
    bare = printed.strip().lstrip("Pp").strip().removeprefix("=").strip()
    bound = "<" if bare.startswith("<") else ""
    text, digits = _read(bare.removeprefix("<").strip(), None, "P")
    if not 0 <= Fraction(text) <= 1:
        raise InputError(f'P is "{printed}"; expected 0 to 1')
    return bound, text, digits


def _compared(printed: str, p: float, words: str) -> Flag:
    bound, text, digits = _p(printed)
    exact = Fraction(p)
    good = exact < Fraction(text) if bound else bool(_roundings(exact, text, digits))
    should = bound + text if good else rounded(exact, digits, "half up")
    return Flag(
        check="p value", printed=bound + text, verdict="possible" if good else "impossible",
        why=words, should_be=should,
    )  # fmt: skip


def _p_values(n: int) -> tuple[str, ...]:
    """P of the usual tests when all pairs, or all but one, got better; also with one tie."""
    from trocar.stats.exact import sign_test, signed_rank

    found = []
    for pairs in (p for p in (_size(n), n - 1) if p >= 1):
        steps = list(range(1, pairs + 1))
        rank = {
            "exact": signed_rank(steps, method="exact" if pairs <= 300 else None),
            "normal": signed_rank(steps, method="normal"),
            "normal with continuity correction": signed_rank(steps, method="normal-continuity"),
        }
        found.append((f"sign test, {pairs} of {pairs} better", sign_test(pairs, 0).p_value))
        found += [
            (f"signed rank, {how}, {pairs} of {pairs} better", r.p_value) for how, r in rank.items()
        ]
    if n > 1:
        found.append((f"sign test, {n - 1} of {n} better", sign_test(n - 1, 1).p_value))
    return tuple(f"{words}: {p:.3g}" for words, p in found)


# ---- all that was published


def check_all(items: Iterable[Item] | None = None) -> tuple[Flag, ...]:
    """Which of the published figures can be right? One verdict for each that makes a claim.

    ``items`` default to all of :func:`trocar.audit.evidence.evidence`. A count printed without a
    percentage makes none, nor does a bare number. Means are checked as GRIM and, with an SD, as
    GRIMMER do. ``[f for f in check_all() if f.flagged]`` are those to look at.
    """
    chosen = published.evidence() if items is None else tuple(items)
    by_key = {i.key: i for i in (*published.evidence(), *chosen)}
    found: list[Flag] = []
    for i in chosen:
        found += [replace(f, item=i.key) for f in _check(i, by_key)]
    return tuple(found)


def _check(i: Item, by_key: Mapping[str, Item]) -> list[Flag]:
    if isinstance(i, Count):
        flags = [_assumed(check_percent(i.x, i.n, i.printed), i)] if i.printed else []
        if i.limits is not None:
            flags.append(check_interval(i.x, i.n, *i.limits))
        twin = by_key.get(i.same_as)
        if isinstance(twin, Count) and (twin.what, twin.unit) == (i.what, i.unit):
            flags.append(_agree({twin.label: f"{twin.x}/{twin.n}", i.label: f"{i.x}/{i.n}"}))
        return flags
    if isinstance(i, Percent):
        return [_bare_percent(i)]
    if isinstance(i, Mean):
        return _mean_flags(i)
    if isinstance(i, Change):
        before, after = (by_key[k] for k in i.of)
        assert isinstance(before, Mean)
        assert isinstance(after, Mean)
        return [check_change(before.mean, after.mean, i.printed)]
    if isinstance(i, Total):
        return [check_total(i.parts, i.total, rounded_parts=i.rounded)]
    if isinstance(i, PValue):
        return [_p_flag(i, by_key)]
    if isinstance(i, Twice):
        return [_agree(i.told, i.because)]
    return []


def _assumed(flag: Flag, i: Count | Mean) -> Flag:
    """What is impossible with an n that is not printed beside the figure is so only with that n."""
    if flag.verdict != "impossible" or not i.n_assumed:
        return flag
    return replace(flag, verdict="only if", why=f"{flag.why}: only if n is not {i.n}")


def _bare_percent(i: Percent) -> Flag:
    printed = i.printed or "–".join(p for p in (i.low, i.high) if p)
    if i.n is None or not i.printed:
        why = "no counts are printed"
        return Flag(check="percent", printed=printed, verdict="cannot be checked", why=why)
    counts = possible_counts(i.n, i.printed)
    why = f"{' or '.join(map(str, counts)) or 'no count'} of {i.n} is {i.printed} %"
    return Flag(
        check="percent", printed=printed, verdict="possible" if counts else "impossible", why=why,
        should_be=printed if counts else "", candidates=tuple(map(str, counts)),
    )  # fmt: skip


def _mean_flags(i: Mean) -> list[Flag]:
    low, high = i.scale if i.scale is not None else (None, None)
    mean = check_mean(i.mean, i.n, low=low, high=high, step=i.step or 1)
    if mean.verdict in ("only if", "impossible"):
        ways = ["digits were cut off, not rounded"] if mean.verdict == "only if" else []
        ways += [] if i.step else ["scores were not whole numbers"]
        ways += [f"not all {i.n} had one"] if i.n_assumed else []
        if ways:
            why = f"{mean.why.partition(': only if')[0]}: only if {', or '.join(ways)}"
            mean = replace(mean, verdict="only if", why=why)
        return [mean]
    if not i.sd or low is None or high is None or i.n is None:
        return [mean]
    sd = check_sd(i.mean, i.sd, i.n, low=low, high=high, step=i.step or 1)
    return [mean, _assumed(sd, i)]


def _p_flag(i: PValue, by_key: Mapping[str, Item]) -> Flag:
    of = [by_key[k] for k in i.of]
    if i.test == "fisher" and all(isinstance(o, Count) for o in of):
        from trocar.stats.exact import fisher

        table = [[o.x, o.n - o.x] for o in of if isinstance(o, Count)]
        p = fisher(table).p_value
        return _compared(i.printed, p, f"Fisher's exact test: P = {p:.3g}")
    if i.test == "means" and i.n is not None:
        return _means_p(i, [o for o in of if isinstance(o, Mean)])
    if i.test in ("", "sign"):
        return check_p_value(i.printed, better=i.better, worse=i.worse, ties=i.ties, n=i.n)
    why = f"not derivable: the scores for {i.test} are not printed"
    return Flag(check="p value", printed=i.printed, verdict="cannot be checked", why=why)


def _means_p(i: PValue, means: list[Mean]) -> Flag:
    """A bound on P that holds for every correlation of the visits, or does not."""
    from trocar.stats.exact import unpaired_change

    assert i.n is not None
    before, *after = means
    worst = 0.0
    for m in after:
        change = unpaired_change(
            float(before.mean), float(before.sd), float(m.mean), float(m.sd), i.n
        )
        worst = max(worst, change.at(-1).p_value or 0.0)
    if i.printed.startswith("<") and worst < float(i.printed[1:]):
        why = f"holds for any pairing of the scores: t test with correlation -1, P = {worst:.1g}"
        return Flag(
            check="p value", printed=i.printed, verdict="possible", why=why, should_be=i.printed
        )
    why = f"not derivable: P is at most {worst:.2g}, by the correlation of the visits"
    return Flag(check="p value", printed=i.printed, verdict="cannot be checked", why=why)


def _agree(told: Mapping[str, str], because: str = "") -> Flag:
    """The same thing told twice: do both say the same?"""
    printed = ", ".join(f"{where}: {value}" for where, value in told.items())
    if len(set(told.values())) == 1:
        why = "told alike"
        return Flag(check="twice", printed=printed, verdict="possible", why=why)
    if because:
        return Flag(check="twice", printed=printed, verdict="only if", why=because)
    why = "not all of these can be right"
    return Flag(check="twice", printed=printed, verdict="impossible", why=why)
