"""Aerated lung, which a CT shows by its density alone, so that no label is needed to see it."""

from __future__ import annotations

import numpy as np

from trocar.facts import tissue
from trocar.imaging import shapes
from trocar.kernels import field
from trocar.model.case import Site
from trocar.model.result import Axes
from trocar.model.space import Mask, Volume


def find_lungs(ct: Volume, body: Mask, axes: Axes) -> dict[str, Mask]:
    """Where is aerated lung, left and right of the bone? ``lung_left`` and ``lung_right``.

    ``body`` is the filled patient on the CT's grid. Lung is what reads between lung and soft
    tissue in pieces of the size of a lobe; gas in bowel reads emptier or is smaller. Sides are
    told from the bone's midline. Only the sides that hold lung are returned.
    """
    value = tissue.value("hu_lung")
    dark = body.values & (ct.values < (value.high or value.mean))
    parts, sizes = field.components(dark, 1)
    least = tissue.value("lung_least").mean / ct.grid.voxel_ml
    kept = np.zeros(len(sizes), dtype=bool)
    for number in np.flatnonzero(sizes >= least):
        if number:
            level = float(np.median(ct.values[parts == number]))
            kept[number] = level > tissue.value("hu_lung_emptiest").mean
    if not kept.any():
        return {}
    lung = shapes.closed(Mask(grid=ct.grid, values=kept[parts]), tissue.value("lung_vessel").mean)
    index = np.argwhere(lung.values)
    on_left = axes.local(ct.grid.to_world(index))[:, 0] > 0
    out = {}
    for name, side in (("lung_left", on_left), ("lung_right", ~on_left)):
        values = np.zeros(ct.grid.shape, dtype=bool)
        values[tuple(index[side].T)] = True
        if side.any():
            out[name] = Mask(grid=ct.grid, values=values)
    return out


def beside(site: Site) -> bool:
    """Whether lung lies beside this bone in most people."""
    return site.kind == "vertebra" and site.region in ("upper_thoracic", "lower_thoracic")
