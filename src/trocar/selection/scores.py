"""Scores of the lesion itself: fracture risk, stability, cord compression, walls, vertebral height.

Every function takes plain arguments, each None when not known, and returns a
:class:`~trocar.model.decision.Score`. Points, boundaries and words stand in ``facts/scores.toml``.
A score whose table was not checked in its paper has a note that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from trocar.errors import InputError
from trocar.facts import tissue
from trocar.facts.source import Evidence, load
from trocar.model.columns import shown
from trocar.model.decision import Score

FACTS = "scores"
_WEAKEST_FIRST: tuple[Evidence, ...] = ("placeholder", "general knowledge", "verified")


def weakest(*grades: Evidence) -> Evidence:
    """The weakest of some evidence grades; verified when there are none.

    >>> weakest("verified", "general knowledge")
    'general knowledge'
    """
    return min(grades, key=_WEAKEST_FIRST.index, default="verified")


def table(name: str) -> Mapping[str, Any]:
    """The published table of one score: its source, evidence, points and classes."""
    found: Mapping[str, Any] = load(FACTS).data[name]
    return found


def limit(name: str) -> float:
    """A boundary of an item of a score, by its name in ``scores.toml``."""
    return load(FACTS)[name].mean


def one_of(what: str, value: str | None, choices: Mapping[str, Any] | Sequence[str]) -> str | None:
    """The value if it is among the choices or None; InputError naming them otherwise."""
    if value is None or value in choices:
        return value
    raise InputError(f"{what} is {shown(value)}; expected one of {', '.join(choices)}, or None")


def number_from(what: str, value: float | None, low: float, high: float) -> float | None:
    """The number if it lies within the bounds or is None; InputError otherwise."""
    if value is None or low <= value <= high:
        return value
    raise InputError(f"{what} is {value:g}; expected {low:g} to {high:g}, or None")


def points_of(
    items: Mapping[str, Mapping[str, float]], key: str, value: str | None
) -> float | None:
    """The points of one item, None when not known; InputError for a value it does not have."""
    value = one_of(key, value, items[key])
    return None if value is None else float(items[key][value])


def summed(
    name: str,
    parts: Mapping[str, float | None],
    *,
    missing: Mapping[str, Sequence[str]] | None = None,
    evidence: Sequence[Evidence] = (),
    note: str = "",
) -> Score:
    """A score that is a sum of points, in the class the paper puts the sum in.

    ``parts`` are the points by item. An item without points makes the whole score not known, and
    is named in ``missing`` by itself or, where given, by the ingredients it lacks.
    """
    said = table(name)
    lacking = [
        n for item, p in parts.items() if p is None for n in (missing or {}).get(item, (item,))
    ]
    total = None if lacking else sum(p for p in parts.values() if p is not None)
    group: Mapping[str, Any] = {}
    if total is not None:
        group = next(g for g in said["groups"] if g["low"] <= total <= g["high"])
    return Score(
        name=said["name"],
        points=total,
        group=group.get("group", ""),
        meaning=group.get("meaning", ""),
        source=said["source"],
        evidence=weakest(said["evidence"], *evidence),
        parts={item: p for item, p in parts.items() if p is not None},
        missing=tuple(dict.fromkeys(lacking)),
        note=note or said["note"],
    )


def graded(
    name: str,
    grade: Mapping[str, Any] | None,
    *,
    missing: Sequence[str] = (),
    points: float | None = None,
    parts: Mapping[str, float] | None = None,
    note: str = "",
) -> Score:
    """A score that is a grade looked up in its table; None when the grade is not known."""
    said = table(name)
    found = grade or {}
    return Score(
        name=said["name"],
        points=float(found["points"]) if points is None and grade is not None else points,
        group=found.get("group", ""),
        meaning=found.get("meaning", ""),
        source=said["source"],
        evidence=said["evidence"],
        parts=parts or {},
        missing=tuple(missing),
        note=note or said["note"],
    )


def mirels(
    *,
    site: str | None,
    size_fraction: float | None,
    nature: str | None,
    pain: str | None,
    humerus: bool = False,
    irradiated: bool | None = None,
) -> Score:
    """Will a long bone with this lesion break? 4 to 12 points.

    ``site`` upper limb, lower limb, trochanteric; ``size_fraction`` lesion over bone diameter (one
    and two thirds exactly score 2); ``nature`` blastic, mixed, lytic; ``pain`` mild, moderate,
    functional. In the humerus 8 points are said to count as high. Not for spine or pelvis.
    Source: Mirels, Clin Orthop 1989;249:256-64.

    >>> s = mirels(site="lower limb", size_fraction=0.5, nature="mixed", pain="moderate")
    >>> s.points, s.group
    (8.0, 'borderline')
    """
    said = table("mirels")
    size = number_from("size_fraction", size_fraction, 0.0, 1.0)
    word = None
    if size is not None:
        word = "middle"
        if size < limit("mirels_size_small"):
            word = "small"
        elif size > limit("mirels_size_large"):
            word = "large"
    parts = {
        "site": points_of(said["points"], "site", site),
        "size": points_of(said["points"], "size", word),
        "nature": points_of(said["points"], "nature", nature),
        "pain": points_of(said["points"], "pain", pain),
    }
    score = summed("mirels", parts, note=said["irradiated"] if irradiated else "")
    # Above 8 every bone is of the highest class already.
    if humerus and score.points == limit("mirels_humerus"):
        return replace(score, **said["humerus"])
    return score


def sins_location(level: str) -> str | None:
    """The kind of level SINS counts: junctional, mobile, semirigid, rigid; None if not named.

    >>> sins_location("L1"), sins_location("lumbar spine")
    ('junctional', None)
    """
    levels: Mapping[str, Sequence[str]] = table("sins")["levels"]
    return next((kind for kind, those in levels.items() if level in those), None)


def sins(
    *,
    level: str | None,
    pain: str | None,
    nature: str | None,
    alignment: str | None,
    collapse_percent: float | None,
    body_involved_percent: float | None,
    posterolateral: str | None,
) -> Score:
    """Is a spine with this tumour stable? 0 to 18 points; from 7 a surgeon is to be consulted.

    ``level`` C1 to S5 (a region such as "lumbar spine" is not enough and counts as not known);
    ``pain`` mechanical, occasional, none; ``nature`` lytic, mixed, blastic; ``alignment``
    subluxation, deformity, normal; ``posterolateral`` bilateral, unilateral, none. The share of
    the body involved matters only without collapse. Source: Fisher, Spine 2010;35:E1221-9.

    >>> sins(level="T10", pain="mechanical", nature="lytic", alignment="normal",
    ...      collapse_percent=90, body_involved_percent=None, posterolateral="unilateral").points
    10.0
    """
    said = table("sins")
    collapse = number_from("collapse_percent", collapse_percent, 0.0, 100.0)
    involved = number_from("body_involved_percent", body_involved_percent, 0.0, 100.0)
    lacks = "collapse" if collapse is None else "body involved"
    parts = {
        "location": points_of(
            said["points"], "location", None if level is None else sins_location(level)
        ),
        "pain": points_of(said["points"], "pain", pain),
        "lesion": points_of(said["points"], "lesion", nature),
        "alignment": points_of(said["points"], "alignment", alignment),
        "collapse": points_of(said["points"], "collapse", _collapse(collapse, involved)),
        "posterolateral": points_of(said["points"], "posterolateral", posterolateral),
    }
    exact = collapse is not None and collapse == limit("sins_collapse_exact")
    return summed(
        "sins",
        parts,
        missing={"location": ("level",), "lesion": ("nature",), "collapse": (lacks,)},
        evidence=(load(FACTS)["sins_collapse_exact"].evidence,) if exact else (),
        note=said["exact"] if exact else "",
    )


def _collapse(collapse: float | None, involved: float | None) -> str | None:
    if collapse is None:
        return None
    if collapse > limit("sins_collapse"):
        return "above 50 %"
    if collapse > 0:
        return "to 50 %"
    if involved is None:
        return None
    much = involved > limit("sins_body_involved")
    return "none, more than half involved" if much else "none"


def escc(*, grade: str | None) -> Score:
    """How far does tumour press on the cord? ESCC grade 0, 1a, 1b, 1c, 2 or 3.

    ``points`` is the grade without its letter. Low grade to 1b, high grade from 2.
    Source: Bilsky, J Neurosurg Spine 2010;13:324-8.

    >>> escc(grade="2").group
    'grade 2 (high)'
    """
    grades = table("escc")["grades"]
    grade = one_of("grade", grade, grades)
    if grade is None:
        return graded("escc", None, missing=("ESCC grade",))
    return graded("escc", grades[grade])


bilsky = escc


def harrington(*, grade: str | None) -> Score:
    """Which walls of the acetabulum are left? Class I to IV, ``points`` 1 to 4.

    Source: Harrington 1981.

    >>> harrington(grade="III").points
    3.0
    """
    classes = table("harrington")["classes"]
    grade = one_of("grade", grade, classes)
    if grade is None:
        return graded("harrington", None, missing=("Harrington class",))
    return graded("harrington", classes[grade])


def genant(
    *,
    anterior_mm: float | None,
    middle_mm: float | None,
    posterior_mm: float | None,
    neighbours_posterior_mm: Sequence[float] = (),
) -> Score:
    """How collapsed is a vertebral body, from its heights? Grade 0 to 3 in ``points``.

    ``parts`` holds the losses in percent: wedge 1 - Ha/Hp, biconcave 1 - Hm/Hp and, where the
    neighbours' posterior heights are given, crush 1 - Hp over their mean. The worst one grades.
    InputError for a height that is not above 0. Source: Genant, J Bone Miner Res 1993;8:1137-48.

    >>> s = genant(anterior_mm=18, middle_mm=20, posterior_mm=25)
    >>> s.points, s.parts["wedge"], s.parts["biconcave"]
    (2.0, 28.0, 20.0)
    """
    said = table("genant")
    heights = {"anterior": anterior_mm, "middle": middle_mm, "posterior": posterior_mm}
    for name, h in [
        *heights.items(),
        *(("neighbours_posterior", h) for h in neighbours_posterior_mm),
    ]:
        if h is not None and not 0 < h < inf:
            raise InputError(f"{name}_mm is {h:g}; expected a height above 0 mm, or None")
    parts = {}
    if posterior_mm is not None:
        for name, h in (("wedge", anterior_mm), ("biconcave", middle_mm)):
            if h is not None:
                parts[name] = _loss_percent(h, posterior_mm)
        if neighbours_posterior_mm:
            parts["crush"] = _loss_percent(posterior_mm, _mean(neighbours_posterior_mm))
    missing = tuple(f"{name} height" for name, h in heights.items() if h is None)
    note = "" if neighbours_posterior_mm else said["no_neighbour"]
    if missing:
        return graded("genant", None, missing=missing, parts=parts, note=note)
    grade = max(map(genant_grade, parts.values()))
    return graded("genant", said["grades"][str(grade)], points=float(grade), parts=parts, note=note)


def genant_grade(loss_percent: float) -> int:
    """Grade 0 to 3 of one height loss in percent.

    >>> [genant_grade(x) for x in (19.9, 20, 24.9, 25, 40, 40.1)]
    [0, 1, 1, 2, 2, 3]
    """
    if loss_percent > tissue.value("genant_severe").mean:
        return 3
    if loss_percent >= tissue.value("genant_moderate").mean:
        return 2
    return 1 if loss_percent >= tissue.value("genant_mild").mean else 0


def collapse_percent(*, heights_mm: Sequence[float], neighbours_mm: Sequence[float]) -> float:
    """How far has a body collapsed for SINS? 1 - its least height over the neighbours' mean, in %.

    A body higher than its neighbours has collapsed by 0. InputError without heights above 0.

    >>> collapse_percent(heights_mm=[18, 20, 25], neighbours_mm=[24, 26])
    28.0
    """
    every = (*heights_mm, *neighbours_mm)
    if not heights_mm or not neighbours_mm or not all(0 < h < inf for h in every):
        raise InputError(
            "the heights of the body or of its neighbours are missing or not above 0 mm; "
            "give at least one of each"
        )
    return max(0.0, _loss_percent(min(heights_mm), _mean(neighbours_mm)))


def _loss_percent(height: float, reference: float) -> float:
    # 20 of 25 is a loss of 20 %, not of 19.999999999999996 %: boundaries are judged to 9 digits.
    return round(100.0 * (1.0 - height / reference), 9)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
