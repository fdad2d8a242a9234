"""Which ways lead into a bone: each route as a value that names entry, target and what to avoid.

The routes that come with trocar stand in ``facts/routes.toml``. A new route is a ``Route(...)``
anybody can make; the search treats it like the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trocar.errors import InputError
from trocar.facts import limits
from trocar.facts.source import load
from trocar.model.case import Side, Site, SiteKind
from trocar.model.plan import Guard, Position
from trocar.model.result import Anatomy, Axes
from trocar.model.space import Float

_TWO_SIDED: tuple[SiteKind, ...] = ("vertebra", "sacrum")
_SIGN = {"left": 1.0, "right": -1.0, "": 1.0}


@dataclass(frozen=True, kw_only=True)
class Route:
    """One way into a bone.

    ``toward`` points from the target to the skin in the bone's own axes (lateral, posterior,
    superior), lateral being away from the midline on the ``side`` of the route; a needle may come
    from within ``cone_deg`` of it. It must run through the region ``corridor`` (if any) and meet
    the bone first in one of the regions ``contact`` (if any). The tip lies in the lesion within
    the first of ``targets`` that holds a part of it ("" = anywhere in the bone). Every structure
    is guarded except those the route ``crosses``; ``avoid`` names the ones whose absence from the
    anatomy is grave, ``requires`` those without which there is no route at all. ``through_mm``
    is the least way through another bone of a route that is named after it. ``detour`` is added
    to the cost: more than 0 for what is the second choice at a site.
    """

    name: str
    toward: tuple[float, float, float]
    cone_deg: float
    position: Position
    side: Side = ""
    targets: tuple[str, ...] = ("",)
    corridor: str = ""
    contact: tuple[str, ...] = ()
    tip: Literal["free", "own side"] = "free"
    crosses: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    tilt_limited: bool = True
    through_mm: float = 0.0
    detour: float = 0.0
    source: str = ""
    evidence: str = "placeholder"

    def __post_init__(self) -> None:
        if np.linalg.norm(self.toward) == 0.0:
            raise InputError(
                f"route {self.name!r}: the direction to the skin is zero; give three numbers "
                "(lateral, posterior, superior), not all 0"
            )
        if not 0.0 < self.cone_deg <= 180.0:
            raise InputError(
                f"route {self.name!r}: a cone of {self.cone_deg} degrees; expected more than 0 and "
                "at most 180"
            )

    def direction(self, axes: Axes) -> Float:
        """Unit LPS vector from the target to the skin in the middle of the cone."""
        lateral, posterior, superior = self.toward
        way = (
            _SIGN[self.side] * lateral * axes.left
            + posterior * axes.posterior
            + superior * axes.superior
        )
        out: Float = way / np.linalg.norm(way)
        return out

    def lateral_mm(self, axes: Axes, points_mm: Float) -> Float:
        """How far points lie from the bone's midline towards the side of the route."""
        out: Float = _SIGN[self.side] * axes.local(points_mm)[..., 0]
        return out

    def passes(self, structure: str) -> bool:
        """Whether the route goes through a structure on purpose."""
        return _named(structure, self.crosses)

    def guards(self, structure: str) -> bool:
        """Whether the reference names the structure among those this route must avoid."""
        return _named(structure, self.avoid)


def _named(structure: str, names: tuple[str, ...]) -> bool:
    return any(structure == n or structure.startswith(n + "_") for n in names)


def guard(structure: str) -> Guard:
    """How far a needle keeps from a structure, from the table of limits.

    >>> guard("aorta").margin_mm, guard("aorta").caution_mm
    (5.0, 10.0)
    """
    limit = limits.margin(structure)
    factor = float(limits.value("caution_factor"))
    return Guard(
        structure=structure,
        margin_mm=limit.mean,
        caution_mm=limit.mean * factor,
        source=limit.source,
        verified=limit.verified,
    )


def guards_of(route: Route, anatomy: Anatomy) -> tuple[Guard, ...]:
    """Every structure of the anatomy that the route must keep away from, with its margin."""
    return tuple(
        guard(name)
        for name, mask in anatomy.structures.items()
        if not route.passes(name) and not mask.is_empty
    )


def routes_for(site: Site) -> tuple[Route, ...]:
    """The routes that come with trocar for a site; one for each side where the bone has two.

    >>> [r.name for r in routes_for(Site.parse("T3"))][:2]
    ['transpedicular left', 'transpedicular right']
    """
    out = []
    for name, block in load("routes").data["routes"].items():
        if not _fits(site, block):
            continue
        sides: tuple[Side, ...] = ("left", "right") if site.kind in _TWO_SIDED else (site.side,)
        out += [_route(name, block, side) for side in sides]
    return tuple(out)


def _fits(site: Site, block: Mapping[str, Any]) -> bool:
    return (
        site.kind in block["kinds"]
        and site.region in block.get("regions", [site.region])
        and site.level in block.get("levels", [site.level])
    )


def _route(name: str, block: Mapping[str, Any], side: Side) -> Route:
    def fill(key: str) -> tuple[str, ...]:
        return tuple(text.format(side=side) for text in block.get(key, ()))

    a, b, c = block["toward"]
    table = load("routes").data
    return Route(
        name=f"{name.replace('_', ' ')} {side}".strip(),
        toward=(a, b, c),
        cone_deg=block["cone_deg"],
        position=block["position"],
        side=side,
        targets=fill("targets") or ("",),
        corridor=block.get("corridor", "").format(side=side),
        contact=fill("contact"),
        tip=block.get("tip", "free"),
        crosses=fill("crosses"),
        avoid=fill("avoid"),
        requires=fill("requires"),
        tilt_limited=block.get("tilt", True),
        through_mm=block.get("through_mm", 0.0),
        detour=block.get("detour", 0.0),
        source=table["source"],
        evidence=table["evidence"],
    )
