"""Two plans of one lesion side by side: what is better in which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from typing import Literal

from trocar.errors import InputError
from trocar.model.case import Finding, Gravity, gravest_first
from trocar.model.plan import VERDICTS, Margin, Trajectory
from trocar.pathway import Planned

Side = Literal["a", "b"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Compared:
    """One line of two plans side by side.

    ``what`` is a measure of the needle, the name of a structure, or a gravity; values are None
    where that plan has no needle or measured no such distance. ``better`` is None where neither is.
    """

    what: str
    a: float | str | tuple[Finding, ...] | None
    b: float | str | tuple[Finding, ...] | None
    unit: str = ""
    better: Side | None = None
    verdicts: tuple[str | None, str | None] = (None, None)  # of a distance


# Of a needle: how it is called, its unit, whether less is better, and where it stands.
_MEASURES: tuple[tuple[str, str, bool, Callable[[Trajectory], float]], ...] = (
    ("depth", "mm", True, lambda o: o.depth_mm),
    ("through bone", "mm", False, lambda o: o.bone_length_mm),
    ("angle to the cortex", "°", True, lambda o: o.cortex_angle_deg),
    ("gauge", "G", False, lambda o: o.needle.gauge),
    ("length", "mm", False, lambda o: o.needle.length_mm),
    ("gantry tilt", "°", False, lambda o: o.gantry.tilt_deg),
    ("in-plane angle", "°", False, lambda o: o.gantry.in_plane_deg),
    ("C-arm oblique", "°", False, lambda o: o.c_arm.oblique_deg),
    ("C-arm cranial", "°", False, lambda o: o.c_arm.cranial_deg),
    ("cost", "", True, lambda o: o.cost),
)
_SET = {"search": "by the search", "hand": "by hand"}
_Chance = Callable[[Trajectory], tuple[float, tuple[float, float]]]
_CHANCES: tuple[tuple[str, _Chance], ...] = (
    ("chance of contact", lambda o: (o.contact_probability, o.contact_interval)),
    ("chance of passing a limit", lambda o: (o.breach_probability, o.breach_interval)),
)


def compared(a: Planned, b: Planned) -> tuple[Compared, ...]:
    """Two plans of one site by their best needles, line by line.

    First measures of the needle, then the distance of its surface to each structure with its
    verdict, then what a person must be told, by gravity. A chance is called better only where the
    intervals lie apart; a distance where its verdict is, or where both are short of ok. Raises
    InputError for plans of two sites.
    """
    if a.plan.site != b.plan.site:
        raise InputError(
            f"one plan is of the {a.plan.site}, the other of the {b.plan.site}; give two plans of "
            "one site"
        )
    one, other = a.plan.best, b.plan.best
    return (
        *_words(one, other),
        *(_measure(one, other, *row) for row in _MEASURES),
        *(_chance(one, other, *row) for row in _CHANCES),
        *_distances(one, other),
        *(_told(a, b, gravity) for gravity in Gravity),
    )


def _words(a: Trajectory | None, b: Trajectory | None) -> tuple[Compared, ...]:
    def said(one: Trajectory | None) -> tuple[str | None, str | None, str | None]:
        return (None,) * 3 if one is None else (_verdict(one), one.route, _SET[one.made_by])

    better = None
    if a is not None and b is not None:
        better = _less(-a.verdict.rank, -b.verdict.rank)
    pairs = zip(("verdict", "route", "set"), said(a), said(b), strict=True)
    return tuple(
        Compared(what=what, a=x, b=y, better=better if what == "verdict" else None)
        for what, x, y in pairs
    )


def _verdict(one: Trajectory) -> str:
    return "ok" if one.verdict is Gravity.NOTE else one.verdict.value


def _measure(
    a: Trajectory | None,
    b: Trajectory | None,
    what: str,
    unit: str,
    less_is_better: bool,
    value: Callable[[Trajectory], float],
) -> Compared:
    x, y = (None if one is None else value(one) for one in (a, b))
    return Compared(what=what, a=x, b=y, unit=unit, better=_less(x, y) if less_is_better else None)


def _chance(a: Trajectory | None, b: Trajectory | None, what: str, of: _Chance) -> Compared:
    (x, between), (y, other) = ((None, None) if one is None else of(one) for one in (a, b))
    apart = (
        between is not None
        and other is not None
        and (between[1] < other[0] or other[1] < between[0])
    )
    better = _less(x, y) if apart else None
    each = [None if chance is None else 100 * chance for chance in (x, y)]
    return Compared(what=what, a=each[0], b=each[1], unit="%", better=better)


def _distances(a: Trajectory | None, b: Trajectory | None) -> tuple[Compared, ...]:
    ours, theirs = ({} if one is None else {m.structure: m for m in one.margins} for one in (a, b))
    return tuple(
        _distance(name, ours.get(name), theirs.get(name))
        for name in dict.fromkeys((*ours, *theirs))
    )


def _distance(name: str, a: Margin | None, b: Margin | None) -> Compared:
    better = None
    if a is not None and b is not None:
        better = _less(-VERDICTS.index(a.verdict), -VERDICTS.index(b.verdict))
        if better is None and a.verdict != "ok":
            better = _less(-a.distance_mm, -b.distance_mm)
    return Compared(
        what=name,
        a=None if a is None else a.distance_mm,
        b=None if b is None else b.distance_mm,
        unit="mm",
        better=better,
        verdicts=(None if a is None else a.verdict, None if b is None else b.verdict),
    )


def _told(a: Planned, b: Planned, gravity: Gravity) -> Compared:
    """What of one gravity each plan says, of its best needle and of all; fewer is better."""
    ours, theirs = (tuple(f for f in _all_findings(one) if f.gravity is gravity) for one in (a, b))
    better = None if gravity is Gravity.NOTE else _less(len(ours), len(theirs))
    return Compared(what=gravity.value, a=ours, b=theirs, better=better)


def _all_findings(one: Planned) -> tuple[Finding, ...]:
    best = one.plan.best
    return gravest_first((*one.plan.findings, *(() if best is None else best.findings)))


def _less(a: float | None, b: float | None) -> Side | None:
    if a is None or b is None or a == b or isnan(a) or isnan(b):
        return None
    return "a" if a < b else "b"
