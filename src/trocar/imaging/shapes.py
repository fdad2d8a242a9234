"""Sets of voxels worked on in millimetres: growing, closing, filling, largest piece."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.kernels import field
from trocar.model.space import Float, Grid, Mask, Slices, Volume

Bool = NDArray[np.bool_]


def box_of(values: Bool, margin: tuple[int, int, int] = (0, 0, 0)) -> Slices | None:
    """Index slices around the set voxels with a margin in voxels; None when nothing is set."""
    out = []
    for axis in range(3):
        line = np.flatnonzero(values.any(axis=tuple(a for a in range(3) if a != axis)))
        if line.size == 0:
            return None
        low = max(0, int(line[0]) - margin[axis])
        out.append(slice(low, min(values.shape[axis], int(line[-1]) + 1 + margin[axis])))
    return out[0], out[1], out[2]


def _voxels(grid: Grid, distance_mm: float) -> tuple[int, int, int]:
    a, b, c = (int(np.ceil(distance_mm / s)) + 1 for s in grid.spacing_mm)
    return a, b, c


def near(mask: Mask, distance_mm: float) -> Mask:
    """Which voxels lie within ``distance_mm`` of a mask (the mask grown by a ball)."""
    out = np.zeros(mask.grid.shape, dtype=bool)
    box = box_of(mask.values, _voxels(mask.grid, distance_mm))
    if box is not None:
        out[box] = field.distance_to(mask.values[box], mask.grid.spacing_mm) <= distance_mm
    return Mask(grid=mask.grid, values=out)


def closed(mask: Mask, radius_mm: float) -> Mask:
    """The mask with gaps narrower than twice the radius filled (closing with a ball).

    The mask is padded with emptiness, so that a bone cut by the image edge is not glued to it.
    """
    out = mask.values.copy()
    box = box_of(mask.values)
    if box is not None:
        pad = _voxels(mask.grid, radius_mm)
        part = np.pad(mask.values[box], [(n, n) for n in pad])
        grown = field.distance_to(part, mask.grid.spacing_mm) <= radius_mm
        shut = field.distance_to(~grown, mask.grid.spacing_mm) > radius_mm
        inner = tuple(slice(n, n + s.stop - s.start) for n, s in zip(pad, box, strict=True))
        out[box] |= shut[inner]
    return Mask(grid=mask.grid, values=out)


def filled(values: Bool) -> Bool:
    """The set with its enclosed cavities filled, worked out inside its own box."""
    box = box_of(values)
    out = values.copy()
    if box is not None:
        out[box] = ndimage.binary_fill_holes(values[box])
    return out


def largest(values: Bool) -> Bool:
    """The largest face-connected piece of a set."""
    out = np.zeros_like(values)
    box = box_of(values)
    if box is not None:
        pieces, _ = ndimage.label(values[box])
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        out[box] = pieces == int(np.argmax(sizes))
    return out


def occupancy(mask: Mask, grid: Grid) -> NDArray[np.float32]:
    """How far each voxel of another grid is taken by a mask: 0 to 1, trilinear.

    The half level runs midway between set and unset voxel centres, finer than the voxels.
    """
    box = box_of(mask.values, (1, 1, 1))
    if box is None:
        return np.zeros(grid.shape, dtype=np.float32)
    part = Volume(grid=mask.grid.crop(box), values=mask.values[box].astype(np.float32))
    out: NDArray[np.float32] = part.on(grid, outside=0.0).values
    return out


def on_axes(
    centre_mm: Float,
    axes: Float,
    half_mm: tuple[float, float, float],
    spacing_mm: float,
    frame: str,
) -> Grid:
    """A cube-celled grid centred at a point whose index axes are the columns of ``axes``."""
    half = np.ceil(np.asarray(half_mm) / spacing_mm).astype(int)
    affine: NDArray[Any] = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ half
    n = 2 * half + 1
    return Grid(shape=(int(n[0]), int(n[1]), int(n[2])), affine=affine, frame=frame)
