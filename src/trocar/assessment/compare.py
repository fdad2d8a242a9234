"""What was planned beside what was done: the needle, and where cement went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trocar.errors import InputError
from trocar.model.result import Fill
from trocar.model.space import Segment


@dataclass(frozen=True, kw_only=True)
class NeedleDeviation:
    """By how much a needle missed its plan.

    ``entry_mm`` and ``tip_mm`` are the distances between the two entries and the two tips;
    ``tip_lateral_mm`` is the tip's distance from the planned axis and ``tip_depth_mm`` how much
    deeper (positive) or shallower it lies along it. ``depth_mm`` is achieved less planned length.
    """

    entry_mm: float
    tip_mm: float
    tip_lateral_mm: float
    tip_depth_mm: float
    angle_deg: float
    depth_mm: float


def compare_needle(planned: Segment, achieved: Segment) -> NeedleDeviation:
    """How far does the achieved needle lie from the planned one? Both from skin to tip.

    >>> plan = Segment(start_mm=[0, 0, 0], end_mm=[0, -80, 0])
    >>> done = Segment(start_mm=[3, 0, 4], end_mm=[0, -82, 0])
    >>> compare_needle(plan, done).entry_mm, compare_needle(plan, done).tip_depth_mm
    (5.0, 2.0)
    """
    miss = achieved.end_mm - planned.end_mm
    along = float(miss @ planned.direction)
    return NeedleDeviation(
        entry_mm=float(np.linalg.norm(achieved.start_mm - planned.start_mm)),
        tip_mm=float(np.linalg.norm(miss)),
        tip_lateral_mm=float(np.linalg.norm(miss - along * planned.direction)),
        tip_depth_mm=along,
        angle_deg=planned.angle_deg(achieved),
        depth_mm=achieved.length_mm - planned.length_mm,
    )


@dataclass(frozen=True, kw_only=True)
class FillComparison:
    """A prediction beside the outcome.

    ``dice`` is the overlap of the voxels that are at least half cement, None when neither has any.
    Compartments of leaks that were predicted and came (``hit``), came unforeseen (``missed``) or
    were predicted and did not come (``false_alarms``).
    """

    dice: float | None
    predicted_ml: float
    found_ml: float
    difference_ml: float  # found less predicted
    within_interval: bool  # the predicted volume lies in the interval of the found one
    hit: tuple[str, ...]
    missed: tuple[str, ...]
    false_alarms: tuple[str, ...]


def compare_fills(predicted: Fill, found: Fill) -> FillComparison:
    """Did cement go where it was predicted to go?

    The overlap is taken on the grid of ``found``. Raises :class:`InputError` for fills of two
    lesions.
    """
    if predicted.lesion_id != found.lesion_id:
        raise InputError(
            f"the prediction is for lesion {predicted.lesion_id!r}, the outcome for "
            f"{found.lesion_id!r}; give two fills of one lesion"
        )
    a = predicted.fraction.on(found.fraction.grid, outside=0.0).values >= 1 / 2
    b = found.fraction.values >= 1 / 2
    both = int(a.sum()) + int(b.sum())
    foreseen = tuple(dict.fromkeys(leak.compartment for leak in predicted.leaks))
    came = tuple(dict.fromkeys(leak.compartment for leak in found.leaks))
    return FillComparison(
        dice=2 * int((a & b).sum()) / both if both else None,
        predicted_ml=predicted.volume_ml,
        found_ml=found.volume_ml,
        difference_ml=found.volume_ml - predicted.volume_ml,
        within_interval=found.low_ml <= predicted.volume_ml <= found.high_ml,
        hit=tuple(c for c in came if c in foreseen),
        missed=tuple(c for c in came if c not in foreseen),
        false_alarms=tuple(c for c in foreseen if c not in came),
    )
