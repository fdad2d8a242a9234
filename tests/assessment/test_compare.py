from __future__ import annotations

import numpy as np
import pytest

from trocar.assessment import compare_fills, compare_needle
from trocar.errors import InputError
from trocar.model.case import Site
from trocar.model.result import CementLeak, Fill
from trocar.model.space import Grid, Mask, Segment, Volume

GRID = Grid.from_spacing((10, 20, 20), (1.0, 1.0, 1.0))


def test_a_needle_shifted_sideways() -> None:
    planned = Segment(start_mm=np.array([0, 100, 0.0]), end_mm=np.array([0, 20, 0.0]))
    done = Segment(start_mm=np.array([3, 100, 4.0]), end_mm=np.array([3, 20, 4.0]))
    found = compare_needle(planned, done)
    assert (found.entry_mm, found.tip_mm, found.tip_lateral_mm) == (5.0, 5.0, 5.0)
    assert (found.tip_depth_mm, found.angle_deg, found.depth_mm) == (0.0, 0.0, 0.0)


def test_a_needle_turned_about_its_entry() -> None:
    planned = Segment(start_mm=np.zeros(3), end_mm=np.array([0.0, -80.0, 0.0]))
    angle = np.radians(5.0)
    done = Segment(start_mm=np.zeros(3), end_mm=80 * np.array([np.sin(angle), -np.cos(angle), 0.0]))
    found = compare_needle(planned, done)
    assert found.entry_mm == 0.0
    assert found.angle_deg == pytest.approx(5.0, abs=1e-9)
    assert found.tip_mm == pytest.approx(2 * 80 * np.sin(angle / 2), abs=1e-9)  # a chord
    assert found.tip_lateral_mm == pytest.approx(80 * np.sin(angle), abs=1e-9)
    assert found.tip_depth_mm == pytest.approx(-80 * (1 - np.cos(angle)), abs=1e-9)
    assert found.depth_mm == pytest.approx(0.0, abs=1e-9)


def test_a_needle_too_deep() -> None:
    planned = Segment(start_mm=np.zeros(3), end_mm=np.array([0.0, -80.0, 0.0]))
    done = Segment(start_mm=np.zeros(3), end_mm=np.array([0.0, -86.0, 0.0]))
    assert compare_needle(planned, done).tip_depth_mm == 6.0
    assert compare_needle(planned, done).depth_mm == 6.0


def fill(columns: slice, leaks: tuple[str, ...], lesion_id: str = "a", ml: float = 1.0) -> Fill:
    share = np.zeros(GRID.shape, np.float32)
    share[2:6, 5:15, columns] = 1.0
    return Fill(
        lesion_id=lesion_id,
        site=Site.parse("L1"),
        origin="simulated",
        fraction=Volume(grid=GRID, values=share, unit="1"),
        volume_ml=ml,
        low_ml=0.95 * ml,
        high_ml=1.05 * ml,
        in_bone_ml=ml,
        in_lesion_ml=None,
        lesion_fill=None,
        bone_fill=None,
        leaks=tuple(
            CementLeak(
                compartment=name,
                kind="",
                volume_ml=0.1,
                low_ml=0.1,
                high_ml=0.1,
                reach_mm=1.0,
                mask=Mask.empty(GRID),
            )
            for name in leaks
        ),
    )


def test_prediction_beside_outcome() -> None:
    predicted = fill(slice(0, 10), ("disc superior", "epidural or canal"))
    found = fill(slice(5, 15), ("epidural or canal", "foraminal"), ml=1.2)
    side = compare_fills(predicted, found)
    assert side.dice == pytest.approx(0.5)  # half of each lies in the other
    assert side.difference_ml == pytest.approx(0.2)
    assert not side.within_interval
    assert side.hit == ("epidural or canal",)
    assert side.missed == ("foraminal",)
    assert side.false_alarms == ("disc superior",)


def test_the_same_fill_agrees_with_itself_and_nothing_has_no_overlap() -> None:
    one = fill(slice(0, 10), ())
    assert compare_fills(one, one).dice == 1.0
    assert compare_fills(one, one).within_interval
    none = fill(slice(0, 0), ())
    assert compare_fills(none, none).dice is None


def test_two_lesions_are_not_compared() -> None:
    with pytest.raises(InputError, match="one lesion"):
        compare_fills(fill(slice(0, 9), ()), fill(slice(0, 9), (), lesion_id="b"))
