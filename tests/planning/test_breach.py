"""Breach probability against the closed form of a flat wall."""

from __future__ import annotations

from math import erf, sqrt
from typing import Any

import numpy as np
import pytest

from trocar.model.space import Segment
from trocar.planning import breach

PATH = Segment(start_mm=np.array([0.0, 80.0, 0.0]), end_mm=np.zeros(3))


def normal_tail(z: float) -> float:
    return 0.5 * (1 - erf(z / sqrt(2)))


def beyond(wall_mm: float) -> Any:
    """A wall parallel to the needle: it breaches when any part lies farther left than the wall."""
    return lambda entries, tips: np.maximum(entries[:, 0], tips[:, 0]) > wall_mm


@pytest.mark.parametrize("wall_mm", [0.0, 1.0, 2.5, 5.0])
def test_a_shift_past_a_flat_wall_has_the_probability_of_the_normal_tail(wall_mm: float) -> None:
    placed = breach.misplaced(PATH, tip_mm=2.5, angle_deg=0.0, samples=40_000, seed=1)
    chance, (low, high) = breach.share(beyond(wall_mm)(*placed))
    # 0.0075 is three standard errors at 40 000 samples, at worst.
    assert chance == pytest.approx(normal_tail(wall_mm / 2.5), abs=0.0075)
    assert low <= chance <= high


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    exact = normal_tail(1.0)
    inside = 0
    for seed in range(200):
        placed = breach.misplaced(PATH, tip_mm=2.5, angle_deg=0.0, samples=500, seed=seed)
        _, (low, high) = breach.share(beyond(2.5)(*placed))
        inside += low <= exact <= high
    assert 0.90 <= inside / 200 <= 0.99


def test_a_turn_about_the_tip_moves_the_entry_and_not_the_tip() -> None:
    entries, tips = breach.misplaced(PATH, tip_mm=0.0, angle_deg=2.0, samples=20_000, seed=0)
    assert np.allclose(tips, PATH.end_mm)
    assert entries[:, 0].std() == pytest.approx(80 * np.radians(2.0), rel=0.03)
    assert np.allclose(np.linalg.norm(entries - tips, axis=1), 80.0)


def test_the_tip_moves_across_the_axis_only_and_equally_in_both_directions() -> None:
    oblique = Segment(start_mm=np.array([30.0, 60.0, -20.0]), end_mm=np.array([1.0, 2.0, 3.0]))
    _, tips = breach.misplaced(oblique, tip_mm=3.0, angle_deg=0.0, samples=20_000, seed=0)
    off = tips - oblique.end_mm
    assert np.abs(off @ oblique.direction).max() < 1e-9
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(off.T))[1:])
    assert spread == pytest.approx([3.0, 3.0], rel=0.03)


def test_the_same_seed_gives_the_same_needles() -> None:
    a = breach.misplaced(PATH, tip_mm=2.0, angle_deg=1.0, samples=50, seed=7)
    b = breach.misplaced(PATH, tip_mm=2.0, angle_deg=1.0, samples=50, seed=7)
    c = breach.misplaced(PATH, tip_mm=2.0, angle_deg=1.0, samples=50, seed=8)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
