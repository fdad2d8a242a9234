"""Strokes of the brush that corrects a lesion: read from a browser, laid over its voxels.

A stroke is drawn on a cut: a voxel belongs to it when its centre lies within the brush's radius of
the line that was drawn, measured in the cut, and within half a voxel of the cut. What the page
paints while one draws follows the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.model.space import Float, Grid, Mask

MOST_STROKES, MOST_POINTS = 2000, 40_000
_RADIUS_MM = (0.2, 40.0)
_FARTHEST_MM = 1e5


@dataclass(frozen=True, eq=False, kw_only=True)
class Stroke:
    """A line drawn on a cut: LPS points [n, 3], the cut's unit normal, to add or to take away."""

    points_mm: Float
    normal: Float
    radius_mm: float
    adds: bool


def read(told: Any) -> tuple[Stroke, ...]:
    """The strokes a browser sent, each ``{points, normal, radius, adds}``.

    Raises InputError for none, for too many, and for what is no stroke.
    """
    if not isinstance(told, list) or not told:
        raise InputError("nothing was drawn; draw on a slice first")
    if len(told) > MOST_STROKES:
        raise InputError(f"{len(told)} strokes came; expected at most {MOST_STROKES}: keep earlier")
    strokes = tuple(_one(t) for t in told)
    if sum(len(s.points_mm) for s in strokes) > MOST_POINTS:
        raise InputError(f"the strokes have more than {MOST_POINTS} points; keep earlier")
    return strokes


def _one(told: Any) -> Stroke:
    try:
        points = np.array(told["points"], np.float64).reshape(-1, 3)
        normal = np.array(told["normal"], np.float64)
        radius, adds = float(told["radius"]), told["adds"]
        length = float(np.linalg.norm(normal))
        sound = (
            len(points) > 0
            and isinstance(adds, bool)
            and normal.shape == (3,)
            and math.isfinite(length)
            and length > 0
            and _RADIUS_MM[0] <= radius <= _RADIUS_MM[1]
            and bool(np.all(np.abs(points) < _FARTHEST_MM))
        )
    except (KeyError, OverflowError, TypeError, ValueError):
        sound = False
    if not sound:
        raise InputError(
            "a stroke cannot be read; expected LPS points, the cut's normal, a radius from "
            f"{_RADIUS_MM[0]:g} to {_RADIUS_MM[1]:g} mm and whether it adds"
        )
    return Stroke(points_mm=points, normal=normal / length, radius_mm=radius, adds=adds)


def applied(mask: Mask, strokes: Sequence[Stroke]) -> Mask:
    """The mask with strokes laid over it one after another, on its own voxels."""
    values = mask.values.copy()
    for stroke in strokes:
        for box, inside in _reached(mask.grid, stroke):
            part = values[box]
            part[inside] = stroke.adds
    return Mask(grid=mask.grid, values=values)


def _reached(
    grid: Grid, stroke: Stroke
) -> Iterable[tuple[tuple[slice, slice, slice], NDArray[np.bool_]]]:
    """The voxels of each piece of a stroke."""
    half = float(np.abs(stroke.normal @ grid.affine[:3, :3]).sum()) / 2
    points = stroke.points_mm
    pieces = list(pairwise(points)) if len(points) > 1 else [(points[0], points[0])]
    for start, end in pieces:
        both = np.stack([start, end])
        if not _touches(grid, both, stroke.radius_mm + half):
            continue
        box = grid.around(both, stroke.radius_mm + half)
        own = grid.crop(box)
        index = np.moveaxis(np.indices(own.shape), 0, -1)
        yield box, _within(own.to_world(index) - start, end - start, stroke, half)


def _touches(grid: Grid, points_mm: Float, margin_mm: float) -> bool:
    """Whether any voxel can be near: ``Grid.around`` clips to the edge what lies beyond it."""
    index = grid.to_index(points_mm)
    pad = margin_mm * np.linalg.norm(grid.inverse[:3, :3], axis=1)
    low, high = index.min(axis=0) - pad, index.max(axis=0) + pad
    return bool(np.all(high >= 0) and np.all(low <= np.asarray(grid.shape) - 1))


def _within(offset_mm: Float, way_mm: Float, stroke: Stroke, half_mm: float) -> NDArray[np.bool_]:
    height = offset_mm @ stroke.normal
    flat = offset_mm - height[..., None] * stroke.normal
    way = way_mm - (way_mm @ stroke.normal) * stroke.normal
    length2 = float(way @ way)
    if length2 > 0:
        share = np.clip(flat @ way / length2, 0.0, 1.0)
        flat = flat - share[..., None] * way
    near = np.einsum("...k,...k", flat, flat) <= stroke.radius_mm**2
    # Half open, so that a cut between two slices of voxels belongs to one of them.
    out: NDArray[np.bool_] = near & (height > -half_mm) & (height <= half_mm)
    return out
