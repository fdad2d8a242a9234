"""Where the patient ends: everything inside the skin, without table, blankets and air around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.facts import anatomy, tissue
from trocar.imaging import shapes
from trocar.kernels import field
from trocar.model.space import Grid, Mask, Volume


def find_body(ct: Volume) -> Mask:
    """The patient on a coarse grid (about 3 mm): the largest dense piece with its cavities filled.

    Table tops and blankets are thin sheets and fall to an opening; lungs, gut and airways are
    filled, also where the image edge cuts them open.
    """
    step = [max(1, int(anatomy.value("coarse_spacing").mean / s)) for s in ct.grid.spacing_mm]
    values = ct.values[:: step[0], :: step[1], :: step[2]]
    affine = ct.grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * step
    grid = Grid(shape=values.shape, affine=affine, frame=ct.grid.frame)
    dense = values > tissue.value("hu_body").mean
    body = shapes.largest(_without_sheets(dense, grid))
    return Mask(grid=grid, values=_cavities_filled(body, values, grid))


def _without_sheets(dense: shapes.Bool, grid: Grid) -> shapes.Bool:
    """Opening with a ball; the image edge counts as tissue, not to eat a body cut there."""
    radius = anatomy.value("table_half_thickness").mean
    pad = [(int(np.ceil(radius / s)) + 1,) * 2 for s in grid.spacing_mm]
    solid = np.pad(dense, pad, mode="edge")
    core = field.distance_to(~solid, grid.spacing_mm) > radius
    back = field.distance_to(core, grid.spacing_mm) <= radius
    inner = tuple(slice(a, -a) for a, _ in pad)
    out: shapes.Bool = back[inner] & dense
    return out


def _cavities_filled(body: shapes.Bool, values: shapes.Bool, grid: Grid) -> shapes.Bool:
    """Holes closed in each cut across the patient, then lung that the image edge cuts open."""
    axial = int(np.argmax(np.abs(grid.axes[2])))
    cuts = np.moveaxis(body, axial, 0)
    whole = np.moveaxis(np.stack([ndimage.binary_fill_holes(c) for c in cuts]), 0, axial)
    air, count = ndimage.label(~whole)
    if count == 0:
        return whole
    # A mattress makes the air around the patient dense on the average, but air stays its thinnest.
    limit = tissue.value("hu_air").mean + anatomy.value("lung_over_air").mean
    thinnest = ndimage.labeled_comprehension(
        values, air, np.arange(1, count + 1), lambda v: np.percentile(v, 10), float, 0.0
    )
    out: shapes.Bool = whole | np.isin(air, np.flatnonzero(thinnest > limit) + 1)
    return out


def body_on(ct: Volume, coarse: Mask) -> Mask:
    """The patient on the CT's own voxels: the coarse body, its edge drawn at full detail."""
    edge = anatomy.value("coarse_spacing").mean
    padded = np.pad(coarse.values, 1, mode="edge")  # the image edge is not the skin
    deep = field.distance_to(~padded, coarse.grid.spacing_mm)[1:-1, 1:-1, 1:-1] > 1.5 * edge
    wide = field.distance_to(coarse.values, coarse.grid.spacing_mm) <= 1.5 * edge
    at = _places(coarse.grid, ct.grid)
    dense = ct.values > tissue.value("hu_body").mean
    return Mask(grid=ct.grid, values=deep[at] | (wide[at] & dense))


def _places(coarse: Grid, fine: Grid) -> tuple[NDArray[np.intp], ...]:
    """Open mesh of the coarse voxel nearest to each fine one; both grids have the same axes."""
    start = coarse.to_index(fine.to_world([0, 0, 0]))
    step = np.asarray(fine.spacing_mm) / np.asarray(coarse.spacing_mm)
    return np.ix_(
        *(
            np.clip(
                np.rint(start[a] + step[a] * np.arange(fine.shape[a])), 0, coarse.shape[a] - 1
            ).astype(np.intp)
            for a in range(3)
        )
    )


def open_sides(body: Mask) -> tuple[str, ...]:
    """The sides on which the image ends inside the patient: left, right, anterior, posterior."""
    names = {(0, 1): "left", (0, -1): "right", (1, 1): "posterior", (1, -1): "anterior"}
    found = []
    for axis in range(3):
        world = int(np.argmax(np.abs(body.grid.axes[:, axis])))
        for end in (0, -1):
            rising = (body.grid.axes[world, axis] > 0) == (end == -1)
            name = names.get((world, 1 if rising else -1))
            face = np.take(body.values, end, axis=axis)
            if name is not None and face.mean() > 0.02:  # a few voxels are noise
                found.append(name)
    return tuple(sorted(found))
