"""What each voxel is to heat: bone by its HU, structures by their names, the rest fat or muscle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trocar.facts import thermal
from trocar.facts.tissue import value as hu
from trocar.model.result import Anatomy
from trocar.model.space import Float, Grid, Mask


def tissue_numbers(
    grid: Grid, values: Float, anatomy: Anatomy, lesion: Mask | None
) -> NDArray[np.intp]:
    """Which of ``facts.thermal.tissues()`` is each voxel of ``grid``, whose HU are ``values``?

    ``lesion`` is taken as lytic tumour. Air and lung share a number.
    """
    number = {n: i for i, n in enumerate(thermal.tissues())}
    air_below = float(hu("hu_body"))
    fat_below = (float(hu("hu_fat")) + float(hu("hu_muscle"))) / 2
    cortical_from = float(hu("hu_cortical").low or hu("hu_cortical").mean)
    bone = np.where(values >= cortical_from, number["cortical_bone"], number["cancellous_bone"])
    out = np.where(values < fat_below, number["fat"], number["muscle"])
    out[values < air_below] = number["lung"]
    # Wide masks first: a nerve root inside its foramen stays a nerve root.
    for name in sorted(anatomy.structures, key=lambda n: -anatomy.structures[n].voxels):
        here = anatomy.structures[name].on(grid).values
        tissue = thermal.tissue_of(name)
        out[here] = bone[here] if tissue == thermal.BONE else number[tissue]
    inside = anatomy.bone.on(grid).values
    out[inside] = bone[inside]
    if lesion is not None:
        out[lesion.on(grid).values] = number["lytic_tumour"]
    return out
