"""What every step of one search shares: the patient, the needles in stock, the lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts.products import Needle, gauges_for, lengths_mm, needle
from trocar.model.case import Lesion, Site
from trocar.model.result import Anatomy
from trocar.model.space import Grid, Mask, Volume
from trocar.planning import margins, scene
from trocar.planning.routes import Route, guards_of
from trocar.planning.scene import Scene


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Views:
    """The maps for some routes, each made when it is first asked for.

    They cover the whole anatomy. A map cut to some needles would end where others still go: what
    lies beyond the cut is not seen, and a needle's numbers would hang on which needles it is looked
    at with.
    """

    problem: Problem
    routes: tuple[Route, ...]
    _made: dict[tuple[str, ...], Scene] = field(default_factory=dict)

    def named(self, name: str) -> Route:
        """One of the routes by its name; raises with the names there are."""
        for route in self.routes:
            if route.name == name:
                return route
        raise InputError(
            f"there is no route {name!r} to the {self.problem.anatomy.site}; give one of: "
            f"{', '.join(r.name for r in self.routes)}"
        )

    def of(self, route: Route) -> Scene:
        """The maps for one of the routes; those that cross the same structures share them."""
        if route.crosses not in self._made:
            anatomy = self.problem.anatomy
            alike = [r for r in self.routes if r.crosses == route.crosses]
            self._made[route.crosses] = scene.build(
                anatomy,
                self.problem.lattice,
                guards_of(route, anatomy),
                corridors=[r.corridor for r in alike if r.corridor],
                with_other_bone=bool(route.crosses),
            )
        return self._made[route.crosses]


def stock_for(site: Site) -> tuple[Needle, ...]:
    """The needles on the shelf for a site: every usual gauge in every length."""
    return tuple(needle(g, length) for g in gauges_for(site.region) for length in lengths_mm())
