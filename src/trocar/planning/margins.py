"""How far is a needle from each structure: exactly, on the voxels in which the structure was drawn.

A structure is the union of its voxels' boxes on the CT's own grid. The margin is the distance from
the needle's axis to that union less the needle's radius; no resampling, no distance map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.kernels import rays
from trocar.model.plan import Guard, Margin
from trocar.model.space import Float, Mask, Segment

Surfaces = Mapping[str, NDArray[np.int32]]


def surface(mask: Mask) -> NDArray[np.int32]:
    """Indices (n, 3) of the set voxels with a face that is not shared with another set voxel."""
    if mask.is_empty:
        return np.empty((0, 3), np.int32)
    box = mask.box()
    inner = np.pad(mask.values[box], 1)
    core = inner.copy()
    for axis in range(3):
        core &= np.roll(inner, 1, axis) & np.roll(inner, -1, axis)
    found = np.argwhere((inner & ~core)[1:-1, 1:-1, 1:-1])
    out: NDArray[np.int32] = (found + [s.start for s in box]).astype(np.int32)
    return out


def axis_distance(
    path: Segment, mask: Mask, voxels: NDArray[np.int32] | None = None
) -> tuple[float, Float]:
    """Distance in mm from a segment to a mask and the mask's nearest point (LPS).

    0 where the segment touches or enters a set voxel; infinity and nan for an empty mask.
    ``voxels`` is ``surface(mask)`` where it is already known.
    """
    grid = mask.grid
    if not grid.is_orthogonal:
        raise InputError(
            f"margins need square voxels; the grid ({grid.describe()}) is sheared, square it first"
        )
    if bool(mask.holds(path.end_mm)):
        return 0.0, path.end_mm
    spacing = np.asarray(grid.spacing_mm)
    start, end = grid.to_index(np.stack([path.start_mm, path.end_mm])) * spacing
    found = surface(mask) if voxels is None else voxels
    distance, nearest = rays.segment_to_voxels(start, end, found, spacing)
    return distance, grid.to_world(nearest / spacing)


def margins(
    path: Segment,
    radius_mm: float,
    guards: Sequence[Guard],
    structures: Mapping[str, Mask],
    surfaces: Surfaces,
) -> tuple[Margin, ...]:
    """The margin of a needle of one radius to every guarded structure, tightest first."""
    out = []
    for g in guards:
        mask = structures[g.structure]
        distance, nearest = axis_distance(path, mask, surfaces.get(g.structure))
        out.append(
            Margin(
                structure=g.structure,
                distance_mm=distance - radius_mm,
                required_mm=g.margin_mm,
                caution_mm=g.caution_mm,
                nearest_mm=nearest,
            )
        )
    return tuple(sorted(out, key=lambda m: m.distance_mm - m.required_mm))
