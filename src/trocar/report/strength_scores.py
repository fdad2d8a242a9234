"""What a CT alone tells of the scores of fracture and stability: from how many points to how many.

Mirels and SINS ask for pain, SINS for alignment, too; no CT shows those. What is not known is run
through all its answers, so that a score stands between the least and the most it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from trocar.facts import tissue
from trocar.model.case import Lesion
from trocar.model.decision import Score
from trocar.model.result import Anatomy
from trocar.model.space import Mask
from trocar.selection import scores

_SIDES = ("left", "right")


@dataclass(frozen=True, kw_only=True)
class ScoreRange:
    """A score as far as a CT tells it: the scores of fewest and most points, what is not told.

    ``items`` are for each item the fewest and most points it may have.
    """

    least: Score
    most: Score
    items: Mapping[str, tuple[float, float]]
    not_told: tuple[str, ...]


def scores_on_ct(anatomy: Anatomy, lesion: Lesion) -> tuple[ScoreRange, ...]:
    """Mirels of a long bone, SINS of the spine (of the sacrum with its level); else none."""
    site = lesion.site
    if site.kind in ("femur", "humerus"):
        return (_mirels(anatomy, lesion),)
    if scores.sins_location(site.level) is not None:
        return (_sins(anatomy, lesion),)
    return ()


def _ranged(score: Callable[..., Score], choices: Mapping[str, Sequence[Any]]) -> ScoreRange:
    """Every answer with every other; items of one answer, or of one count of points, are known."""
    every = [score(**dict(zip(choices, one, strict=True))) for one in product(*choices.values())]
    # Answers a score has no points for count as not known: no such run has a sum.
    told = [s for s in every if s.points is not None]
    items = {
        item: (min(s.parts[item] for s in told), max(s.parts[item] for s in told))
        for item in told[0].parts
    }
    return ScoreRange(
        least=min(told, key=_points),
        most=max(told, key=_points),
        items=items,
        not_told=tuple(name for name, (a, b) in items.items() if a != b),
    )


def _points(score: Score) -> float:
    return score.points or 0.0


def _natures(lesion: Lesion) -> tuple[str, ...]:
    return ("lytic", "mixed", "blastic") if lesion.kind == "unknown" else (lesion.kind,)


# --- Mirels --------------------------------------------------------------------------------------


def _mirels(anatomy: Anatomy, lesion: Lesion) -> ScoreRange:
    return _ranged(
        lambda **given: scores.mirels(**given, humerus=lesion.site.kind == "humerus"),
        {
            "site": _mirels_sites(anatomy, lesion),
            "size_fraction": (
                (min(lesion.mirels_fraction, 1.0),)
                if np.isfinite(lesion.mirels_fraction)
                else (0.0, 1.0)
            ),
            "nature": _natures(lesion),
            "pain": tuple(scores.table("mirels")["points"]["pain"]),
        },
    )


def _mirels_sites(anatomy: Anatomy, lesion: Lesion) -> tuple[str, ...]:
    """Wholly in the shaft is lower limb; what reaches neck or trochanter may be trochanteric."""
    if lesion.site.kind == "humerus":
        return ("upper limb",)
    shaft = anatomy.regions.get("shaft")
    known = {"shaft", "trochanteric"} <= set(anatomy.regions)
    if shaft is not None and known and _share_in(lesion.mask, shaft, anatomy.bone) >= 1:
        return ("lower limb",)
    inside = anatomy.regions.get("trochanteric")
    if inside is not None and _share_in(lesion.mask, inside, anatomy.bone) >= 1:
        return ("trochanteric",)
    return ("lower limb", "trochanteric")


def _share_in(lesion: Mask, region: Mask, bone: Mask) -> float:
    """The share of the lesion's part in the bone that lies in a region; 0 where there is none."""
    here = lesion.on(region.grid).values & bone.on(region.grid).values
    count = int(np.count_nonzero(here))
    return int(np.count_nonzero(here & region.values)) / count if count else 0.0


# --- SINS ----------------------------------------------------------------------------------------


def _sins(anatomy: Anatomy, lesion: Lesion) -> ScoreRange:
    points = scores.table("sins")["points"]
    return _ranged(
        scores.sins,
        {
            "level": (lesion.site.level,),
            "pain": tuple(points["pain"]),
            "nature": _natures(lesion),
            "alignment": tuple(points["alignment"]),
            "collapse_percent": _collapses(anatomy),
            "body_involved_percent": _involved(anatomy, lesion),
            "posterolateral": _posterolateral(anatomy, lesion),
        },
    )


def _collapses(anatomy: Anatomy) -> tuple[float, ...]:
    """How far the body has collapsed, in percent; ends of what it may be where that is not told.

    Heights differ a little between sound neighbours: below Genant's mildest grade both "none" and
    "collapsed" are held possible.
    """
    seen = anatomy.vertebra
    if seen is None:
        return (0.0, 1.0, 100.0)
    heights = (seen.anterior_mm, seen.middle_mm, seen.posterior_mm)
    if not all(np.isfinite(h) and h > 0 for h in heights):
        return (0.0, 1.0, 100.0)
    crush = seen.crush_loss
    if crush is None or not np.isfinite(crush) or crush >= 1:
        # Without neighbours the least loss is that against the body's own tallest height.
        own = scores.collapse_percent(heights_mm=heights, neighbours_mm=(max(heights),))
        mild = float(tissue.value("genant_mild"))
        return (own, 100.0) if own >= mild else (0.0, own, 100.0)
    loss = scores.collapse_percent(
        heights_mm=heights, neighbours_mm=(seen.posterior_mm / (1 - crush),)
    )
    return (loss,) if loss >= float(tissue.value("genant_mild")) else (0.0, loss)


def _involved(anatomy: Anatomy, lesion: Lesion) -> tuple[float, ...]:
    """The share of the body that is lesion, in percent."""
    body = anatomy.regions.get("vertebral_body")
    if body is None or body.is_empty:
        return (0.0, 100.0)
    return (100.0 * _filled(lesion.mask, body),)


def _posterolateral(anatomy: Anatomy, lesion: Lesion) -> tuple[str, ...]:
    """Sides on which pedicle or joints are taken: surely where a pedicle is lesion for its half.

    A lesion that only touches a pedicle, or that lies elsewhere in the arch (where the joints are),
    may or may not count.
    """
    pedicles = [anatomy.regions.get(f"pedicle_{side}") for side in _SIDES]
    parts = [p for p in pedicles if p is not None and not p.is_empty]
    if not parts:
        return ("none", "unilateral", "bilateral")
    shares = [_filled(lesion.mask, p) for p in parts]
    sure, perhaps = sum(s > 1 / 2 for s in shares), sum(s > 0 for s in shares)
    perhaps += len(_SIDES) - len(parts)  # a pedicle that was not told apart
    arch = anatomy.regions.get("arch")
    if arch is None or _filled(lesion.mask, arch) > 0:
        perhaps = len(_SIDES)
    return ("none", "unilateral", "bilateral")[sure : perhaps + 1]


def _filled(lesion: Mask, region: Mask) -> float:
    """The share of a region that is lesion."""
    count = int(np.count_nonzero(region.values))
    return int(np.count_nonzero(lesion.on(region.grid).values & region.values)) / max(count, 1)
