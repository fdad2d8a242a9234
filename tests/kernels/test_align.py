from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from trocar.kernels.align import Alignment, align_rigid, search_shifts

Float = NDArray[np.float64]
CENTRE = np.array([10.0, -20.0, 40.0])


@dataclass(frozen=True)
class Scene:
    """A bone as a formula: shell, marrow, an arm and lumps; no turn maps it on itself."""

    seed: int = 0

    def hu(self, world: Float) -> Float:
        rng = np.random.default_rng(self.seed)
        p = world - CENTRE
        radii = np.array([20.0, 14.0, 12.0]) * rng.uniform(0.85, 1.15, 3)
        r = np.sqrt(((p / radii) ** 2).sum(-1))
        out = 40.0 + 1000 * np.exp(-(((r - 1) / 0.07) ** 2)) + 110 / (1 + np.exp((r - 1) / 0.03))
        for _ in range(40):
            at, width = rng.uniform(-22, 22, 3), rng.uniform(2.0, 4.0)
            out += rng.uniform(-150, 400) * np.exp(-((p - at) ** 2).sum(-1) / (2 * width**2))
        arm = np.hypot(p[..., 0] - 8, p[..., 2] - 4)
        return out + 600 * np.exp(-((arm / 3.0) ** 2)) * (p[..., 1] > 0)


def affine(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Float:
    out = np.eye(4)
    out[:3, :3] = np.eye(3)[::-1] * np.array(spacing)
    out[:3, 3] = CENTRE - np.array(spacing)[::-1] * (np.array(shape)[::-1] - 1) / 2
    return out


def points(matrix: Float, shape: tuple[int, int, int]) -> Float:
    index = np.moveaxis(np.indices(shape), 0, -1).astype(float)
    return index @ matrix[:3, :3].T + matrix[:3, 3]


def turned(degrees: Float, shift: Float) -> Float:
    """Turn about the scene's centre by a rotation vector, then shift."""
    angle = np.radians(np.linalg.norm(degrees))
    k = np.asarray(degrees) / max(np.linalg.norm(degrees), 1e-12)
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    out = np.eye(4)
    out[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    out[:3, 3] = CENTRE - out[:3, :3] @ CENTRE + shift
    return out


@dataclass(frozen=True)
class Pair:
    fixed: Float
    fixed_affine: Float
    moving: Float
    moving_affine: Float
    around: NDArray[np.bool_]
    truth: Float

    def align(self, **how: object) -> Alignment:
        keys = {"darkest": -200.0, "brightest": 1800.0} | how
        return align_rigid(
            self.fixed, self.fixed_affine, self.moving, self.moving_affine, self.around, **keys
        )


def pair(
    truth: Float,
    *,
    noise: float = 30.0,
    cement_mm: float = 0.0,
    seed: int = 0,
    other: int | None = None,
    spacing: tuple[float, float, float] = (1.5, 0.9, 0.9),
    gain: float = 1.0,
) -> Pair:
    """The scene twice: each image evaluates the formula itself, so nothing was interpolated."""
    rng = np.random.default_rng(seed)
    shape, shape2 = (60, 64, 72), (44, 76, 80)
    a, b = affine((1.0, 1.0, 1.0), shape), affine(spacing, shape2)
    p, q = points(a, shape), points(b, shape2)
    back = np.linalg.inv(truth)
    q = q @ back[:3, :3].T + back[:3, 3]
    moving = gain * Scene(seed if other is None else other).hu(q)
    if cement_mm:
        r = np.linalg.norm(q - CENTRE - [5, -2, 1], axis=-1)
        moving += (2000 - moving) / (1 + np.exp((r - cement_mm) / 0.4))
    around = np.linalg.norm((p - CENTRE) / [26, 20, 18], axis=-1) < 1
    return Pair(
        fixed=Scene(seed).hu(p) + rng.normal(0, noise, shape),
        fixed_affine=a,
        moving=moving + rng.normal(0, noise, shape2),
        moving_affine=b,
        around=around,
        truth=truth,
    )


def off(found: Float, truth: Float) -> tuple[float, float]:
    """How far a recovered pose puts the centre (mm) and how far it is turned (degrees)."""
    at = np.append(CENTRE, 1.0)
    turn = found[:3, :3].T @ truth[:3, :3]
    angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return float(np.linalg.norm((found @ at - truth @ at)[:3])), float(angle)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cement_mm", [0.0, 9.0])
def test_five_mm_and_five_degrees_are_recovered(seed: int, cement_mm: float) -> None:
    rng = np.random.default_rng(100 + seed)
    way, axis = rng.normal(size=3), rng.normal(size=3)
    truth = turned(5 * axis / np.linalg.norm(axis), 5 * way / np.linalg.norm(way))
    found = pair(truth, cement_mm=cement_mm, seed=seed).align()
    shift, angle = off(found.transform, truth)
    assert shift < 0.1, (shift, found.error_mm)  # asked for: 0.3 mm and 0.3 degrees
    assert angle < 0.25, angle
    assert found.correlation > 0.97
    assert found.overlap == 1.0


def test_the_rotation_is_a_rotation() -> None:
    found = pair(turned(np.array([3.0, -4.0, 1.0]), np.array([1.0, 2.0, -3.0]))).align()
    r = found.transform[:3, :3]
    assert np.allclose(r @ r.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(r) == pytest.approx(1.0)


def test_gain_and_offset_are_found_and_do_no_harm() -> None:
    truth = turned(np.array([0.0, 2.0, 0.0]), np.array([2.0, 0.0, 0.0]))
    found = pair(truth, gain=0.8).align()
    assert off(found.transform, truth)[0] < 0.1
    assert found.gain == pytest.approx(1 / 0.8, rel=0.1)


def test_an_image_lies_on_itself() -> None:
    p = pair(np.eye(4), noise=0.0)
    found = align_rigid(
        p.fixed, p.fixed_affine, p.fixed, p.fixed_affine, p.around, darkest=-200, brightest=1800
    )
    assert np.allclose(found.transform, np.eye(4), atol=1e-6)
    assert found.correlation == pytest.approx(1.0)


def test_the_standard_error_tells_the_size_of_the_errors() -> None:
    """Over noise alone errors scatter less than is said, which counts what differs otherwise."""
    truth = turned(np.array([1.0, -2.0, 1.5]), np.array([1.0, 0.5, -2.0]))
    base = [pair(truth, noise=150.0, seed=0)]
    rng = np.random.default_rng(9)
    poses, said = [], []
    for _ in range(12):
        p = base[0]
        again = Pair(
            fixed=p.fixed + rng.normal(0, 150, p.fixed.shape),
            fixed_affine=p.fixed_affine,
            moving=p.moving + rng.normal(0, 150, p.moving.shape),
            moving_affine=p.moving_affine,
            around=p.around,
            truth=truth,
        )
        found = again.align(start=truth, blur_mm=(1.0,))
        poses.append(found.transform @ np.append(CENTRE, 1.0))
        said.append(np.sqrt(np.trace(found.covariance[3:, 3:])))
    scatter = np.sqrt(np.var(np.array(poses)[:, :3], axis=0, ddof=1).sum())
    assert 1.0 < np.mean(said) / scatter < 3.0


def test_another_bone_correlates_poorly() -> None:
    found = pair(np.eye(4), other=7).align()
    assert found.correlation < 0.8


def test_no_overlap_is_said() -> None:
    p = pair(np.eye(4))
    away = p.moving_affine.copy()
    away[:3, 3] += 300
    found = align_rigid(
        p.fixed, p.fixed_affine, p.moving, away, p.around, darkest=-200, brightest=1800
    )
    assert found.overlap == 0.0
    assert not np.isfinite(found.error_mm)


def test_a_far_shift_is_found_by_search() -> None:
    p = pair(turned(np.array([3.0, 0.0, 2.0]), np.array([0.0, 0.0, 0.0])), cement_mm=8.0)
    away = p.moving_affine.copy()
    away[:3, 3] += [120.0, -75.0, 333.0]
    starts = search_shifts(
        p.fixed, p.fixed_affine, p.moving, away, p.around, darkest=-200, brightest=1800
    )
    assert starts
    found = align_rigid(
        p.fixed,
        p.fixed_affine,
        p.moving,
        away,
        p.around,
        darkest=-200,
        brightest=1800,
        start=starts[0][0],
    )
    wanted = p.truth.copy()
    wanted[:3, 3] += [120.0, -75.0, 333.0]
    shift, angle = off(found.transform, wanted)
    assert shift < 0.1
    assert angle < 0.25
