"""A CT on the cubes of a computation: along a bone's own axes, averaged where the CT is finer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.model.space import Float, Grid, Volume

_FWHM_PER_SIGMA = 2.3548200450309493  # 2 sqrt(2 ln 2), of a Gaussian


def averaged(ct: Volume, grid: Grid, outside: float = -1000.0) -> NDArray[np.float32]:
    """HU, or any volume, on the voxels of ``grid``; what is finer is averaged, not skipped."""
    last = np.array(grid.shape) - 1
    ends = [(a, b, c) for a in (0, last[0]) for b in (0, last[1]) for c in (0, last[2])]
    part = ct.crop(ct.grid.around(grid.to_world(np.array(ends)), 2 * max(grid.spacing_mm)))
    step = np.array(grid.spacing_mm) / np.array(part.grid.spacing_mm)
    sigma = np.where(step > 1, np.sqrt(np.maximum(step**2 - 1, 0.0)) / _FWHM_PER_SIGMA, 0.0)
    values = ndimage.gaussian_filter(part.values.astype(np.float32), sigma)
    out: NDArray[np.float32] = replace(part, values=values).on(grid, outside).values
    return out


def along(
    points_mm: Float, ways: Sequence[Float], side_mm: float, room_mm: float, frame: str = ""
) -> Grid:
    """Cubes around LPS points whose slices, rows and columns run along three unit LPS vectors."""
    axes = np.stack(ways, axis=1)  # columns: slice, row, column
    local = points_mm @ axes
    low, high = local.min(axis=0) - room_mm, local.max(axis=0) + room_mm
    count = np.maximum(1, np.ceil((high - low) / side_mm)).astype(int)
    first = (low + high) / 2 - (count - 1) / 2 * side_mm
    affine = np.eye(4)
    affine[:3, :3] = axes * side_mm
    affine[:3, 3] = axes @ first
    return Grid(shape=(int(count[0]), int(count[1]), int(count[2])), affine=affine, frame=frame)
