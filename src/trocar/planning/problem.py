"""What every step of one search shares: the patient, the needles in stock, the lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trocar.facts.products import Needle, gauges_for, lengths_mm, needle
from trocar.model.case import Lesion, Site
from trocar.model.result import Anatomy
from trocar.model.space import Float, Grid, Mask, Volume
from trocar.planning import margins, scene
from trocar.planning.routes import Route, guard, guards_of
from trocar.planning.scene import Scene

_PAD_MM = 3.0  # of the lattice beyond entries and targets: for the gradient, and a cell at the edge


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """One lesion to reach. ``lesion`` is its part inside the bone, on the anatomy's grid."""

    anatomy: Anatomy
    lesion: Mask
    stock: tuple[Needle, ...]
    lattice: Grid
    seed: int = 0
    accepted: tuple[str, ...] = ()
    ct: Volume | None = None
    _surfaces: dict[str, NDArray[np.int32]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        anatomy: Anatomy,
        lesion: Lesion,
        stock: Sequence[Needle],
        *,
        seed: int = 0,
        accepted: Sequence[str] = (),
        ct: Volume | None = None,
    ) -> Problem:
        """The problem of one lesion; raises when CT, anatomy and lesion are not of one frame."""
        lesion.mask.grid.require_frame(anatomy.grid, "the lesion and the anatomy")
        if ct is not None:
            ct.grid.require_frame(anatomy.grid, "the CT and the anatomy")
        inside = lesion.mask.on(anatomy.grid).values & anatomy.bone.values
        return cls(
            anatomy=anatomy,
            lesion=Mask(grid=anatomy.grid, values=inside),
            stock=tuple(stock),
            lattice=anatomy.grid.isotropic(scene.STEP_MM),
            seed=seed,
            accepted=tuple(accepted),
            ct=ct,
        )

    def surface(self, structure: str) -> NDArray[np.int32]:
        """Surface voxels of a structure, found once."""
        if structure not in self._surfaces:
            self._surfaces[structure] = margins.surface(self.anatomy.structures[structure])
        return self._surfaces[structure]

    def view(self, routes: Sequence[Route], points_mm: Float) -> Scene:
        """The maps around some points for routes that guard the same structures."""
        widest = max((guard(s).margin_mm for s in self.anatomy.structures), default=0.0)
        pad = widest + max(n.radius_mm for n in self.stock) + _PAD_MM
        return scene.build(
            self.anatomy,
            self.lattice.crop(self.lattice.around(points_mm, pad)),
            guards_of(routes[0], self.anatomy),
            corridors=[r.corridor for r in routes if r.corridor],
            with_other_bone=any(r.crosses for r in routes),
        )


def stock_for(site: Site) -> tuple[Needle, ...]:
    """The needles on the shelf for a site: every usual gauge in every length."""
    return tuple(needle(g, length) for g in gauges_for(site.region) for length in lengths_mm())
