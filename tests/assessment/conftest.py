"""Random synthetic cases before and after cement, and how well a reading of them does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from trocar.assessment import NeedleTrack
from trocar.imaging.bone import read_anatomy
from trocar.model.result import Anatomy, Fill
from trocar.model.space import Float, Mask, Segment, Volume
from trocar.phantom import Phantom, cement
from trocar.phantom.scene import ORIGIN_MM


@dataclass(frozen=True, eq=False)
class Before:
    """A patient, its planning CT and what was read on it."""

    patient: Phantom
    ct: Volume
    anatomy: Anatomy
    lesion: Mask


@cache
def before(name: str = "vertebra_l3") -> Before:
    patient = cement.fine(name)
    grid = cement.scan_grid(patient, (1.0, 0.8, 0.8), room_mm=30.0)
    ct = cement.scan(patient.ct, grid, seed=1)
    anatomy = read_anatomy(
        ct, patient.site, labels=patient.labels.on(grid), lesion=patient.lesion.on(grid)
    )
    return Before(patient, ct, anatomy, patient.lesion.on(anatomy.grid))


@dataclass(frozen=True, eq=False)
class Case:
    seed: int
    leaks: tuple[str, ...]
    post: cement.Cemented
    tracks: tuple[NeedleTrack, ...]


TRACK = NeedleTrack(
    path=Segment(
        start_mm=ORIGIN_MM + cement.TRACK[1] + (cement.TRACK[1] - cement.TRACK[0]),
        end_mm=ORIGIN_MM + cement.TRACK[0],
    ),
    diameter_mm=3.0,
)


def case(seed: int) -> Case:
    """A lumbar vertebra with 0 to 3 leaks, moved by up to 5 mm and 5 degrees, any scanner."""
    rng = np.random.default_rng([seed, 2024])
    patient = before().patient
    names = tuple(rng.choice(cement.SPINE_LEAKS, int(rng.integers(0, 4)), replace=False))
    parts = {"bone": cement.main_part(patient, rng, rng.uniform(7.5, 11.0))}
    for name in names:
        parts[str(name)] = _apart(patient, str(name), rng, parts)
    direction, axis = rng.normal(size=3), rng.normal(size=3)
    pose = cement.turned(
        patient.labels.mask(patient.site.bone_label).centroid_mm,
        axis / np.linalg.norm(axis) * rng.uniform(0, 5),
        direction / np.linalg.norm(direction) * rng.uniform(0, 5),
    )
    in_plane = rng.uniform(0.6, 1.0)
    grid = cement.scan_grid(patient, (rng.uniform(1.0, 3.0), in_plane, in_plane), room_mm=22.0)
    post = cement.inject(
        patient,
        parts,
        grid,
        cement_hu=rng.uniform(1600.0, 2700.0),
        pose=pose,
        blur_mm=rng.uniform(1.0, 1.8),
        noise_hu=rng.uniform(15.0, 40.0),
        cupping=rng.uniform(0.0, 0.08),
        streak_hu=rng.uniform(0.0, 80.0),
        seed=seed,
    )
    tracks = (TRACK,) if "needle track" in names and rng.random() < 0.5 else ()
    return Case(seed, tuple(str(n) for n in names), post, tracks)


def _apart(
    patient: Phantom,
    name: str,
    rng: np.random.Generator,
    parts: dict[str, NDArray[np.float32]],
) -> NDArray[np.float32]:
    """A leak of at least 0.1 ml that does not run into another one (that would be one leak)."""
    others = [p for n, p in parts.items() if n != "bone"]
    taken = np.max(others, axis=0) > 0 if others else np.zeros(patient.ct.grid.shape, bool)
    for _ in range(50):
        leak = cement.leak_part(patient, name, rng)
        wide = ndimage.binary_dilation(leak > 0, iterations=8)  # 5 mm
        if leak.sum() * patient.ct.grid.voxel_ml >= 0.1 and not (wide & taken).any():
            return leak
    raise AssertionError(f"no room for a leak into {name}")


@dataclass(frozen=True)
class Score:
    dice: float
    volume_error: float  # found / true - 1
    inside_interval: bool
    error_mm: float  # of the pose at the bone
    said_mm: float
    found: tuple[bool, ...]  # each leak of 0.1 ml or more, in order
    placed: tuple[bool, ...]
    where: tuple[str, ...]
    spurious: tuple[str, ...]  # compartments reported where no leak was drawn


def score(case: Case, fill: Fill, bone_points: Float | None = None) -> Score:
    truth = case.post.fraction.values
    # The fill has the voxels of the scan (perhaps a part of them), laid elsewhere.
    offset = _offset(fill, case.post)
    t = truth[offset]
    a, b = t >= 0.5, fill.fraction.values >= 0.5
    found, placed, where = [], [], []
    big = [n for n in case.leaks if case.post.parts_ml[n] >= 0.1]
    for name in big:
        own = case.post.shares[name].values[offset] >= 0.5
        hits = {k.compartment: int((k.mask.values & own).sum()) for k in fill.leaks}
        best = max(hits, key=lambda k: hits[k]) if hits else ""
        found.append(bool(hits) and sum(hits.values()) >= 0.25 * own.sum())
        placed.append(best == name and hits[best] > 0)
        where.append(f"{name} -> {best}" if best != name else name)
    drawn = np.zeros_like(t)
    for name in case.leaks:
        drawn = np.maximum(drawn, case.post.shares[name].values[offset])
    spurious = [k.compartment for k in fill.leaks if not (k.mask.values & (drawn > 0.01)).any()]
    pose_error, said = float("nan"), float("nan")
    if fill.registration is not None:
        p = before().anatomy.bone.points_mm()[::50] if bone_points is None else bone_points
        r, q = fill.registration.transform, case.post.pose
        away = (p @ (r - q)[:3, :3].T) + (r - q)[:3, 3]
        pose_error = float(np.sqrt((away**2).sum(1).mean()))
        said = fill.registration.error_mm
    return Score(
        dice=2 * float((a & b).sum()) / float(a.sum() + b.sum()),
        volume_error=fill.volume_ml / case.post.volume_ml - 1,
        inside_interval=fill.low_ml <= case.post.volume_ml <= fill.high_ml,
        error_mm=pose_error,
        said_mm=said,
        found=tuple(found),
        placed=tuple(placed),
        where=tuple(where),
        spurious=tuple(spurious),
    )


def _offset(fill: Fill, post: cement.Cemented) -> tuple[slice, slice, slice]:
    pose = np.eye(4) if fill.registration is None else fill.registration.transform
    first = pose @ np.append(fill.fraction.grid.affine[:3, 3], 1.0)
    start = np.rint(post.ct.grid.to_index(first[:3])).astype(int)
    a, b, c = (slice(int(s), int(s) + n) for s, n in zip(start, fill.fraction.grid.shape))
    return a, b, c


@pytest.fixture(scope="session")
def planned() -> Before:
    """The lumbar phantom before the procedure."""
    return before()


@pytest.fixture(scope="session")
def planned_as() -> Callable[[str], Before]:
    """Any phantom before the procedure, by its name."""
    return before


@pytest.fixture(scope="session")
def draw() -> Callable[[int], Case]:
    """A random case by its seed."""
    return case


@pytest.fixture(scope="session")
def judge() -> Callable[[Case, Fill], Score]:
    """How well a reading did."""
    return score


@pytest.fixture(scope="session")
def track() -> NeedleTrack:
    """Where the needle lay when a phantom leaks along it."""
    return TRACK
