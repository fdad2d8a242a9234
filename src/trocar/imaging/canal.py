"""The spinal canal as a tube through the vertebral rings, and the foramina where roots leave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from trocar.facts import anatomy
from trocar.imaging import shapes
from trocar.imaging.vertebra import Vertebra, axes_from
from trocar.kernels import field
from trocar.model.result import Axes
from trocar.model.space import Float, Grid, Mask

_DIRECTIONS = 72  # rays per cut through the canal, every 5 degrees
_RAY_STEP_MM = 0.25
_RING_STEP_MM = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Ring:
    """One cut through the canal: its middle, its plane and the way to the wall in each direction.

    Direction 0 points left, a quarter turn later back. ``seen`` is the part of the directions in
    which bone was met (the rest is carried over from the cuts at the pedicles).
    """

    axes: Axes
    radius_mm: Float
    seen: float


def canal_rings(vertebrae: Sequence[Vertebra], bones: Mask) -> tuple[Ring, ...]:
    """Cuts through the canal from head to foot, a millimetre apart, bridged between vertebrae.

    Inside a vertebra rays run from the middle of the canal to the first bone. Where they leave
    through a foramen, or a disc or ligament closes the canal, the radius of the vertebra's own
    closed ring stands; between two vertebrae the cuts go over into one another.
    """
    parts = [part for v in vertebrae if (part := _rings_of(v, bones))]
    if not parts:
        return ()
    rings = _beyond(parts[0][0], vertebrae[0].height_mm, up=True)
    for k, part in enumerate(parts):
        rings += list(part)
        if k + 1 < len(parts):
            rings += _between(part[-1], parts[k + 1][0])
    return (*rings, *_beyond(parts[-1][-1], vertebrae[-1].height_mm, up=False))


def _rings_of(vertebra: Vertebra, bones: Mask) -> tuple[Ring, ...]:
    heights = np.arange(vertebra.top[0], vertebra.bottom[0], -_RING_STEP_MM)
    hits = _hits(vertebra, bones, heights)
    reference = _reference(hits)
    if reference is None:
        return ()
    slack = anatomy.value("canal_slack").mean
    rings = []
    for height, hit in zip(heights, hits, strict=True):
        met = hit <= slack * reference
        radius = np.where(met, hit, reference)
        middle = (vertebra.canal[1], vertebra.canal[0], height)
        axes = Axes(
            origin_mm=vertebra.axes.world(middle),
            left=vertebra.axes.left,
            posterior=vertebra.axes.posterior,
            superior=vertebra.axes.superior,
        )
        rings.append(Ring(axes=axes, radius_mm=radius, seen=float(met.mean())))
    return tuple(rings)


def _hits(vertebra: Vertebra, bones: Mask, heights: Float) -> Float:
    """Distance to the first bone (inf if none) for each height and direction, (n, directions)."""
    reach = anatomy.value("canal_reach").mean
    angle = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    along = np.arange(0.0, reach, _RAY_STEP_MM)
    p = vertebra.canal[0] + np.sin(angle)[:, None] * along
    l = vertebra.canal[1] + np.cos(angle)[:, None] * along
    s = np.broadcast_to(heights[:, None, None], (heights.size, *p.shape))
    local = np.stack(np.broadcast_arrays(s, p, l), axis=-1)
    taken = shapes.occupancy(bones, vertebra.grid)
    index = local / vertebra.grid.spacing_mm[0] + np.asarray(vertebra.grid.shape) // 2
    inside = field.sample_linear(taken, index, outside=0.0) > 0.5
    return np.where(inside.any(axis=2), along[inside.argmax(axis=2)], np.inf)


def _reference(hits: Float) -> Float | None:
    """Radius of the closed bony ring in each direction; None when hardly any bone was met.

    Cuts in which nearly all directions meet bone are the ring; without one, whatever was met.
    """
    whole = np.isfinite(hits).mean(axis=1)
    closed = hits[whole >= anatomy.value("ring_closed").mean]
    use = closed if len(closed) else hits
    use = np.where(np.isfinite(use) & (use > 0), use, np.nan)
    known = np.isfinite(use).any(axis=0)
    if known.mean() < 0.5:
        return None
    radius = np.full(hits.shape[1], np.nan)
    # The lower third: cuts at the edge of the ring already look out into the foramina.
    radius[known] = np.nanpercentile(use[:, known], 100 / 3, axis=0)
    turn = np.arange(radius.size)
    radius = np.interp(turn, turn[known], radius[known], period=radius.size)
    # One ray through a gap between pedicle and lamina must not make a spike.
    out: Float = ndimage.median_filter(radius, size=5, mode="wrap")
    return out


def _between(upper: Ring, lower: Ring) -> list[Ring]:
    gap = float(np.linalg.norm(lower.axes.origin_mm - upper.axes.origin_mm))
    return [
        _blend(upper, lower, part) for part in np.arange(_RING_STEP_MM, gap, _RING_STEP_MM) / gap
    ]


def _blend(a: Ring, b: Ring, part: float) -> Ring:
    def mix(x: Float, y: Float) -> Float:
        out: Float = (1 - part) * x + part * y
        return out

    axes = axes_from(
        mix(a.axes.origin_mm, b.axes.origin_mm),
        mix(a.axes.superior, b.axes.superior),
        mix(a.axes.posterior, b.axes.posterior),
    )
    return Ring(axes=axes, radius_mm=mix(a.radius_mm, b.radius_mm), seen=0.0)


def _beyond(ring: Ring, length_mm: float, *, up: bool) -> list[Ring]:
    """The end ring carried on straight for a length, ordered from head to foot."""
    out = []
    for k in np.arange(_RING_STEP_MM, length_mm, _RING_STEP_MM):
        origin = ring.axes.origin_mm + (k if up else -k) * ring.axes.superior
        axes = axes_from(origin, ring.axes.superior, ring.axes.posterior)
        out.append(Ring(axes=axes, radius_mm=ring.radius_mm, seen=0.0))
    return out[::-1] if up else out


def canal_mask(rings: Sequence[Ring], grid: Grid) -> shapes.Bool:
    """Which voxel centres lie inside the tube; bone is not taken off here."""
    out = np.zeros(grid.shape, dtype=bool)
    if not rings:
        return out
    origins = np.array([r.axes.origin_mm for r in rings])
    reach = anatomy.value("canal_reach").mean
    box = grid.around(origins, reach)
    part = grid.crop(box)
    points = part.to_world(np.moveaxis(np.indices(part.shape), 0, -1).reshape(-1, 3))
    found = spatial.cKDTree(origins).query(points, distance_upper_bound=reach)
    distance, nearest = np.asarray(found[0]), np.asarray(found[1])
    close = np.flatnonzero(np.isfinite(distance))
    inside = np.zeros(len(points), dtype=bool)
    inside[close] = _within(rings, points[close], nearest[close])
    out[box] = inside.reshape(part.shape)
    return out


def _within(rings: Sequence[Ring], points: Float, ring: NDArray[np.intp]) -> NDArray[np.bool_]:
    origins = np.array([r.axes.origin_mm for r in rings])
    left = np.array([r.axes.left for r in rings])
    back = np.array([r.axes.posterior for r in rings])
    up = np.array([r.axes.superior for r in rings])
    radii = np.array([r.radius_mm for r in rings])
    away = points - origins[ring]
    l = np.einsum("ij,ij->i", away, left[ring])
    p = np.einsum("ij,ij->i", away, back[ring])
    s = np.einsum("ij,ij->i", away, up[ring])
    turn = (np.arctan2(p, l) / (2 * np.pi) * _DIRECTIONS) % _DIRECTIONS
    first = np.floor(turn).astype(int) % _DIRECTIONS
    part = turn - np.floor(turn)
    wall = (1 - part) * radii[ring, first] + part * radii[ring, (first + 1) % _DIRECTIONS]
    # The end rings reach half a step beyond themselves, not a dome.
    out: NDArray[np.bool_] = (np.hypot(l, p) <= wall) & (np.abs(s) <= 2 * _RING_STEP_MM)
    return out


def foramen_hulls(
    side: str, above: Vertebra | None, here: Vertebra, below: Vertebra | None
) -> list[Float]:
    """Corner points of the spaces through which roots leave above and below a vertebra's pedicle.

    Each space stands between the pedicles of two neighbours, from the canal's side wall to just
    beside the pedicle, from the rear wall of the bodies to the middle of the canal's rear half.
    Below, where no neighbour is seen, it has the usual height.
    """
    hulls = []
    lower = _corners(here, side, bottom=True)
    if lower is not None:
        floor = None if below is None else _corners(below, side, bottom=False)
        if floor is None:
            floor = lower - anatomy.value("foramen_unseen").mean * here.axes.superior
        hulls.append(np.concatenate([lower, floor]))
    upper = _corners(here, side, bottom=False)
    ceiling = None if above is None else _corners(above, side, bottom=True)
    if upper is not None and ceiling is not None:
        hulls.append(np.concatenate([upper, ceiling]))
    return hulls


def _corners(vertebra: Vertebra, side: str, *, bottom: bool) -> Float | None:
    found = [i for i in vertebra.isthmuses if i.side == side]
    if not found:
        return None
    isthmus = found[0]
    sign = 1.0 if side == "left" else -1.0
    left, _, superior = vertebra.axes.local(isthmus.centre_mm)
    half = isthmus.height_mm / 2
    outer = left + sign * (isthmus.width_mm / 2 + anatomy.value("foramen_beyond_pedicle").mean)
    inner = left - sign * isthmus.width_mm / 2
    rear = vertebra.canal[0] + (vertebra.canal[0] - vertebra.back) / 2
    height = superior - half if bottom else superior + half
    corners = [(l, p, height) for l in (inner, outer) for p in (vertebra.back, rear)]
    return vertebra.axes.world(np.array(corners))


def hull_mask(corners_mm: Float, grid: Grid) -> shapes.Bool:
    """Which voxel centres lie in the convex hull of some points."""
    out = np.zeros(grid.shape, dtype=bool)
    box = grid.around(corners_mm, 0.0)
    part = grid.crop(box)
    faces = spatial.ConvexHull(corners_mm).equations
    points = part.to_world(np.moveaxis(np.indices(part.shape), 0, -1))
    out[box] = np.all(points @ faces[:, :3].T + faces[:, 3] <= 1e-6, axis=-1)
    return out
