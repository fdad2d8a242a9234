"""Two plans of one lesion side by side: what is better in which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from typing import Literal

from trocar.errors import InputError
from trocar.model.case import Finding, Gravity
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
    verdicts: tuple[str | None, str | None] = (None, None)  # of a distance, and of the whole


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

    First the verdict of the whole plan and what of it is a stop or a caution, one thing a line;
    then measures of the needle, the distance of its surface to each structure with its verdict, the
    worst first, and notes. A chance is called better only where the intervals lie apart; a distance
    where its verdict is, or where both are short of ok. Raises InputError for plans of two sites.
    """
    if a.plan.site != b.plan.site:
        raise InputError(
            f"one plan is of the {a.plan.site}, the other of the {b.plan.site}; give two plans of "
            "one site"
        )
    one, other = a.plan.best, b.plan.best
    return (
        _verdicts(a, b),
        *_told(a, b, Gravity.STOP),
        *_told(a, b, Gravity.CAUTION),
        *_words(one, other),
        *(_measure(one, other, *row) for row in _MEASURES),
        *(_chance(one, other, *row) for row in _CHANCES),
        *_distances(one, other),
        *_told(a, b, Gravity.NOTE),
    )


def _verdicts(a: Planned, b: Planned) -> Compared:
    """The worst of all that each plan says: a wrong level stops it, however good its needle."""
    ours, theirs = a.plan.verdict, b.plan.verdict
    better = None
    if a.plan.best is not None and b.plan.best is not None:
        better = _less(-VERDICTS.index(ours), -VERDICTS.index(theirs))
    return Compared(what="verdict", a=ours, b=theirs, better=better, verdicts=(ours, theirs))


def _words(a: Trajectory | None, b: Trajectory | None) -> tuple[Compared, ...]:
    def said(one: Trajectory | None) -> tuple[str | None, str | None]:
        return (None, None) if one is None else (one.route, _SET[one.made_by])

    pairs = zip(("route", "set"), said(a), said(b), strict=True)
    return tuple(Compared(what=what, a=x, b=y) for what, x, y in pairs)


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

    def worst(name: str) -> int:
        each = (side[name].verdict for side in (ours, theirs) if name in side)
        return min(map(VERDICTS.index, each))

    names = sorted(dict.fromkeys((*ours, *theirs)), key=worst)
    return tuple(_distance(name, ours.get(name), theirs.get(name)) for name in names)


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


def _told(a: Planned, b: Planned, gravity: Gravity) -> tuple[Compared, ...]:
    """What of one gravity each plan says, its margins first, then one finding a line.

    What both say stands in one line. The first line tells which plan has fewer of them.
    """
    (near, ours), (close, theirs) = ((_margins(p, gravity), _said(p, gravity)) for p in (a, b))
    pairs = [(_named(near, gravity), _named(close, gravity))] if near or close else []
    pairs += [(ours.get(k, ()), theirs.get(k, ())) for k in dict.fromkeys((*ours, *theirs))]
    better = None
    if gravity is not Gravity.NOTE:
        better = _less(len(near) + len(ours), len(close) + len(theirs))
    return tuple(
        Compared(what=gravity.value, a=x, b=y, better=None if k else better)
        for k, (x, y) in enumerate(pairs or [((), ())])
    )


def _margins(one: Planned, gravity: Gravity) -> tuple[str, ...]:
    """The structures that the best needle passes too near, by how grave that is."""
    best = one.plan.best
    return () if best is None else tuple(m.structure for m in best.margins if m.verdict == gravity)


def _named(structures: tuple[str, ...], gravity: Gravity) -> tuple[Finding, ...]:
    """Structures as one thing that is said; how near they are has lines of its own."""
    if not structures:
        return ()
    told = Finding(
        gravity=gravity,
        message="Within the limit: {what}."
        if gravity is Gravity.STOP
        else "Near the limit: {what}.",
        values={"what": structures},
    )
    return (told,)


def _said(one: Planned, gravity: Gravity) -> dict[str, tuple[Finding]]:
    """What a plan says of its best needle and of all, each sentence once."""
    best = one.plan.best
    every = (*one.plan.findings, *(() if best is None else best.findings))
    return {str(f): (f,) for f in every if f.gravity is gravity}


def _less(a: float | None, b: float | None) -> Side | None:
    if a is None or b is None or a == b or isnan(a) or isnan(b):
        return None
    return "a" if a < b else "b"
