"""How a sheared lattice of voxels becomes a square one: the grid to use and the values on it."""

from __future__ import annotations

import numpy as np

from trocar.errors import InputError
from trocar.facts import tissue
from trocar.kernels import field as field_kernels
from trocar.model.space import Float, Grid, Volume

_MOST_GROWTH = 16  # a gantry tilted by 30 degrees needs less than 3 times the voxels
_RIGHT_ANGLE = 1e-3  # the cosine below which two directions count as perpendicular, as in Grid


def sideways_mm(affine: Float) -> Float:
    """The part of the slice step that lies in the slice plane, an LPS vector in mm."""
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    normal = normal / np.linalg.norm(normal)
    step = affine[:3, 0]
    out: Float = step - (step @ normal) * normal
    return out


def square_grid(grid: Grid) -> Grid:
    """The square grid that covers a sheared one with the same spacing.

    Where rows and columns stand at right angles (a tilted gantry) every slice keeps its plane, and
    only rows and columns are added. Otherwise the nearest rotation gives the directions.
    """
    if abs(grid.axes[:, 1] @ grid.axes[:, 2]) < _RIGHT_ANGLE:
        affine = grid.affine.copy()
        affine[:3, 0] -= sideways_mm(affine)
    else:
        u, _, v = np.linalg.svd(grid.axes)
        affine = grid.affine.copy()
        affine[:3, :3] = (u @ v) * np.asarray(grid.spacing_mm)
    return _cover(grid, affine)


def _cover(grid: Grid, affine: Float) -> Grid:
    """The lattice of ``affine`` moved and sized so that it holds every voxel of ``grid``."""
    last = np.asarray(grid.shape) - 1
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * last
    index = (grid.to_world(corners) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    low = np.floor(index.min(axis=0) + 1e-6)  # a corner on a lattice point adds no voxel
    high = np.ceil(index.max(axis=0) - 1e-6)
    counts = high - low + 1
    if not np.all(np.isfinite(counts)) or np.prod(counts) > _MOST_GROWTH * np.prod(grid.shape):
        raise InputError(
            f"the voxels are so far from square ({grid.describe()}) that a square grid would need "
            f"more than {_MOST_GROWTH} times as many; check the orientation stored in the file"
        )
    shape = counts.astype(int)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ low
    return Grid(shape=(int(shape[0]), int(shape[1]), int(shape[2])), affine=moved, frame=grid.frame)


def square(volume: Volume) -> Volume:
    """A sheared volume on its square grid, linearly; what was never imaged becomes air.

    Whole HU stay whole numbers (rounded).
    """
    target = square_grid(volume.grid)
    values = field_kernels.resample_linear(
        volume.values,
        volume.grid.index_map(target),
        target.shape,
        tissue.value("hu_air").mean,
    )
    if np.issubdtype(volume.values.dtype, np.integer):
        values = np.rint(values).astype(volume.values.dtype)
    return Volume(grid=target, values=values, unit=volume.unit)
