"""The interactive viewer of a sheet on cement: CT, structures, cement in the bone and outside."""

from __future__ import annotations

import numpy as np

from trocar.model.result import Anatomy, Fill, Scan
from trocar.model.space import Mask
from trocar.report import cement_figures as drawn
from trocar.report import viewer as interactive
from trocar.report.page import Speaker
from trocar.report.viewer import Embedded, Region

_CEMENT_COLOUR = (63, 224, 255)
_LEAK_COLOURS = (
    (255, 95, 210),
    (255, 160, 60),
    (190, 120, 255),
    (255, 235, 90),
    (120, 255, 150),
    (255, 120, 120),
)


def embed(
    scan: Scan, anatomy: Anatomy, fill: Fill, lesion: Mask | None, t: Speaker
) -> Embedded | None:
    """The CT around the bone with structures, cement and leaks; None without the viewer.

    ``fill`` lies in the space of ``scan`` and ``anatomy``.
    """
    if interactive.assets() is None:
        return None
    points = [anatomy.bone.points_mm()] if not anatomy.bone.is_empty else []
    points += [fill.fraction.grid.to_world(np.argwhere(fill.fraction.values >= 0.5))]
    ct = interactive.around(scan, np.vstack([*points, anatomy.axes.origin_mm[None]]))
    empty = Mask(grid=anatomy.grid, values=np.zeros(anatomy.grid.shape, bool))
    labels, regions = interactive.label_map(
        anatomy, empty if lesion is None else lesion.on(anatomy.grid), ct.grid
    )
    told = list(regions)
    number = int(labels.max(initial=0))
    for rank, part in enumerate(drawn.parts_of(fill)):
        here = part.share.on(ct.grid, outside=0.0).values >= 0.5
        if not here.any() or number >= np.iinfo(labels.dtype).max:
            continue
        number += 1
        labels[here] = number
        colour = _LEAK_COLOURS[(rank - 1) % len(_LEAK_COLOURS)] if rank else _CEMENT_COLOUR
        told.append(Region(number=number, structure=t(part.word), colour=colour))
    return interactive.packed(ct, labels, told)
