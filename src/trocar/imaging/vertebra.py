"""One vertebra in its own frame: body, end plates, heights and Genant grade, pedicle isthmuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.facts import anatomy, limits, tissue
from trocar.imaging import shapes
from trocar.kernels import field
from trocar.model.result import Axes, Isthmus, VertebraMeasures
from trocar.model.space import Float, Grid, Mask, Volume

_STEP_MM = 1.0  # cell of the local grid; surfaces are found between cells by interpolation
_FINE_MM = 0.1  # step along a profile across an end plate
_PLANE_STEP_MM = 0.25  # cell of the cut across a pedicle
_HALF_MM = (48.0, 72.0, 60.0)  # half the local grid along superior, posterior, left
_TILTS_DEG = (0, -10, 10, -20, 20, -30, 30)
_ROUNDS = 3  # the frame settles after two; the third confirms


@dataclass(frozen=True, eq=False, kw_only=True)
class Vertebra:
    """A vertebra as read from its mask; lengths in mm in its own frame (origin: body centre).

    ``taken`` is the occupancy on ``grid`` [superior, posterior, left]. ``canal`` is the (posterior,
    left) place of the middle of the canal, ``back`` the posterior coordinate of the rear wall.
    ``closed`` tells whether a bony ring was seen around the canal.
    """

    mask: Mask
    axes: Axes
    grid: Grid
    taken: NDArray[np.float32]
    canal: tuple[float, float]
    back: float
    top: Float  # end plate plane: superior = top @ (1, posterior, left)
    bottom: Float
    closed: bool
    isthmuses: tuple[Isthmus, ...] = ()

    @property
    def height_mm(self) -> float:
        """Distance between the end plates at the middle of the body."""
        return float(self.top[0] - self.bottom[0])

    def local(self, points_mm: Float) -> Float:
        """(superior, posterior, left) mm of LPS points from the centre of the body."""
        out: Float = self.axes.local(points_mm)[..., ::-1]
        return out


def read_vertebra(mask: Mask, tangent: Float | None, cord: Mask | None) -> Vertebra | None:
    """What is the frame of this vertebra, where are its body, canal and pedicles?

    ``tangent`` is the way of the spine towards the head where neighbours show it; ``cord`` helps to
    find the canal where the arch is open. None when neither a ring nor a cord is found.
    """
    start = _start(mask, tangent, cord)
    if start is None:
        return None
    vertebra: Vertebra | None = start
    for _ in range(_ROUNDS):
        assert vertebra is not None
        vertebra = _settled(vertebra, cord)
        if vertebra is None:
            return None
    assert vertebra is not None
    found = tuple(i for side in ("left", "right") if (i := _isthmus(vertebra, side)))  # type: ignore[arg-type]
    return replace(vertebra, isthmuses=found)


def axes_from(origin_mm: Float, superior: Float, posterior: Float) -> Axes:
    """A right-handed frame with the given way up and, across it, the given way back."""
    s = superior / np.linalg.norm(superior)
    p = posterior - (posterior @ s) * s
    p = p / np.linalg.norm(p)
    return Axes(origin_mm=np.asarray(origin_mm), left=np.cross(p, s), posterior=p, superior=s)


def _matrix(axes: Axes) -> Float:
    return np.stack([axes.superior, axes.posterior, axes.left], axis=1)


def _sampled(mask: Mask, axes: Axes) -> tuple[Grid, NDArray[np.float32]]:
    grid = shapes.on_axes(axes.origin_mm, _matrix(axes), _HALF_MM, _STEP_MM, mask.grid.frame)
    return grid, shapes.occupancy(mask, grid)


def _coordinates(grid: Grid) -> tuple[Float, Float, Float]:
    """Local mm along superior, posterior and left of the local grid's index axes."""
    s, p, l = ((np.arange(n) - n // 2) * _STEP_MM for n in grid.shape)
    return s, p, l


def _start(mask: Mask, tangent: Float | None, cord: Mask | None) -> Vertebra | None:
    """The tilt at which most light falls through the vertebral foramen, and the canal there."""
    up = np.array([0.0, 0.0, 1.0]) if tangent is None else tangent
    back = np.array([0.0, 1.0, 0.0])
    left = axes_from(mask.centroid_mm, up, back).left
    best: tuple[float, Vertebra] | None = None
    for tilt in _TILTS_DEG:
        angle = np.radians(tilt)
        turned = np.cos(angle) * up + np.sin(angle) * np.cross(left, up)
        axes = axes_from(mask.centroid_mm, turned, back)
        grid, taken = _sampled(mask, axes)
        canal = _canal(taken > 0.5, grid, axes, cord)
        if canal is None:
            continue
        centre, front, area = canal
        score = area * np.cos(angle)  # a hole seen aslant is no better than one seen straight
        if best is None or score > best[0]:
            none = np.zeros(3)
            best = score, Vertebra(
                mask=mask, axes=axes, grid=grid, taken=taken, canal=centre, back=front,
                top=none, bottom=none, closed=area > 0,
            )  # fmt: skip
        if tilt == 0 and tangent is not None and area > 0:
            break
    return None if best is None else best[1]


def _canal(
    taken: shapes.Bool, grid: Grid, axes: Axes, cord: Mask | None
) -> tuple[tuple[float, float], float, float] | None:
    """Centre (posterior, left), front and area of the hole seen along the superior axis."""
    _, p, l = _coordinates(grid)
    seen: shapes.Bool = np.any(taken, axis=0)
    pieces, count = ndimage.label(ndimage.binary_fill_holes(seen) & ~seen)
    least = np.pi * anatomy.value("canal_radius_least").mean ** 2
    best: tuple[tuple[float, float], float, float] | None = None
    for piece in range(1, count + 1):
        rows, columns = np.nonzero(pieces == piece)
        area = rows.size * _STEP_MM**2
        if area >= least and (best is None or area > best[2]):
            centre = float(p[rows].mean()), float(l[columns].mean())
            middle = np.abs(l[columns] - centre[1]) <= anatomy.value("midline_band").mean
            best = centre, float(p[rows[middle]].min()) - _STEP_MM / 2, area
    return best or _canal_of_cord(taken, grid, axes, cord)


def _canal_of_cord(
    taken: shapes.Bool, grid: Grid, axes: Axes, cord: Mask | None
) -> tuple[tuple[float, float], float, float] | None:
    """The canal by the cord alone: its centre, and the bone in front of it."""
    if cord is None or cord.is_empty:
        return None
    s, p, l = _coordinates(grid)
    inside = shapes.occupancy(cord, grid) > 0.5
    inside[np.abs(s) > anatomy.value("canal_reach").mean / 2] = False
    if not inside.any():
        return None
    _, rows, columns = np.nonzero(inside)
    centre = float(p[rows].mean()), float(l[columns].mean())
    band = np.abs(l - centre[1]) <= anatomy.value("midline_band").mean
    column = taken[:, :, band].any(axis=(0, 2)) & (p < centre[0])
    front = float(p[column].max()) + _STEP_MM / 2 if column.any() else float(p[rows].min())
    return centre, front, 0.0


def _settled(rough: Vertebra, cord: Mask | None) -> Vertebra | None:
    """The frame turned to the end plates and to the canal, and everything read in it again."""
    plates = _end_plates(rough.taken, rough.grid, rough.back)
    if plates is None:
        return None
    top, bottom, middle = plates
    up = np.array([2.0, -(top[1] + bottom[1]), -(top[2] + bottom[2])])
    superior = _matrix(rough.axes) @ (up / np.linalg.norm(up))
    at = np.array([1.0, *middle])
    centre = rough.grid.to_world(np.asarray(rough.grid.shape) // 2)
    origin = centre + _matrix(rough.axes) @ np.array([(top @ at + bottom @ at) / 2, *middle])
    canal = centre + _matrix(rough.axes) @ np.array([0.0, *rough.canal])
    axes = axes_from(origin, superior, canal - origin)
    grid, taken = _sampled(rough.mask, axes)
    seen = _canal(taken > 0.5, grid, axes, cord)
    if seen is None:  # the turn closed the view through the foramen: keep what was seen
        place = axes.local(canal)
        seen = (float(place[1]), float(place[0])), float(rough.back - middle[0]), 0.0
    plates = _end_plates(taken, grid, seen[1])
    if plates is None:
        return None
    return Vertebra(
        mask=rough.mask, axes=axes, grid=grid, taken=taken, canal=seen[0], back=seen[1],
        top=plates[0], bottom=plates[1], closed=seen[2] > 0,
    )  # fmt: skip


def _surfaces(
    taken: NDArray[np.float32], grid: Grid, back: float
) -> tuple[Float, Float, shapes.Bool] | None:
    """Top and bottom (mm along superior) of each body column, and which columns are body.

    A column belongs to the body when it stands before the rear wall and is at least half as high
    as the body is in the middle: transverse processes and rib heads are lower.
    """
    s, p, _ = _coordinates(grid)
    inside = taken > 0.5
    inside[:, p > back] = False
    inside = shapes.largest(inside)
    any_column = inside.any(axis=0)
    if not any_column.any():
        return None
    first = inside.argmax(axis=0)
    last = inside.shape[0] - 1 - inside[::-1].argmax(axis=0)
    top = _crossing(taken, last, +1) * _STEP_MM + s[0]
    bottom = _crossing(taken, first, -1) * _STEP_MM + s[0]
    height = np.where(any_column, top - bottom, 0.0)
    body = any_column & (height > np.median(height[any_column]) / 2)
    return top, bottom, shapes.largest(body[None])[0]


def _crossing(taken: NDArray[np.float32], index: NDArray[np.intp], step: int) -> Float:
    """Where occupancy falls to a half between ``index`` and its neighbour above or below."""
    beyond = np.clip(index + step, 0, taken.shape[0] - 1)
    inner = np.take_along_axis(taken, index[None], axis=0)[0].astype(np.float64)
    outer = np.take_along_axis(taken, beyond[None], axis=0)[0].astype(np.float64)
    part = (inner - 0.5) / np.maximum(inner - outer, 1e-6)
    out: Float = index + step * np.clip(part, 0.0, 1.0)
    return out


def _end_plates(
    taken: NDArray[np.float32], grid: Grid, back: float
) -> tuple[Float, Float, Float] | None:
    """Planes of the upper and lower end plate and the (posterior, left) middle of the body."""
    surfaces = _surfaces(taken, grid, back)
    if surfaces is None:
        return None
    top, bottom, body = surfaces
    _, p, l = _coordinates(grid)
    rows, columns = np.nonzero(body)
    middle = np.array([p[rows].mean(), l[columns].mean()])
    rim = anatomy.value("endplate_rim").mean * np.sqrt(rows.size) * _STEP_MM
    deep = ndimage.distance_transform_edt(np.pad(body, 1))[1:-1, 1:-1] * _STEP_MM > rim
    rows, columns = np.nonzero(deep)
    if rows.size < 9:
        return None
    design = np.stack([np.ones(rows.size), p[rows], l[columns]], axis=1)
    return _plane(design, top[deep]), _plane(design, bottom[deep]), middle


def _plane(design: Float, height: Float) -> Float:
    """Least squares plane, twice fitted again without the worst residuals (Schmorl's nodes)."""
    keep = np.ones(len(height), dtype=bool)
    for _ in range(3):
        plane, *_rest = np.linalg.lstsq(design[keep], height[keep], rcond=None)
        residual = np.abs(height - design @ plane)
        keep = residual <= max(0.5, 2.5 * float(np.median(residual)))
    out: Float = plane
    return out


def body_mask(vertebra: Vertebra, grid: Grid) -> shapes.Bool:
    """Which voxels of the vertebra lie before the rear wall and between the pedicles' roots."""
    _, p, _ = _coordinates(vertebra.grid)
    surfaces = _surfaces(vertebra.taken, vertebra.grid, vertebra.back)
    assert surfaces is not None
    columns = ndimage.binary_dilation(surfaces[2], iterations=2)
    local = np.zeros(vertebra.grid.shape, dtype=np.float32)
    local[:] = columns[None] & (p <= vertebra.back)[None, :, None]
    part = Mask(grid=vertebra.grid, values=local > 0)
    return part.on(grid).values & vertebra.mask.on(grid).values


def heights_mm(vertebra: Vertebra, ct: Volume | None = None) -> tuple[float, float, float]:
    """Anterior, middle and posterior height of the body in the midline strip.

    A label map knows its end plates to a voxel only; with the CT each is drawn again where the
    image falls from end plate to disc.
    """
    surfaces = _surfaces(vertebra.taken, vertebra.grid, vertebra.back)
    assert surfaces is not None
    top, bottom, body = surfaces
    if ct is not None:
        hu = ct.on(vertebra.grid, outside=tissue.value("hu_air").mean).values
        reach = max(ct.grid.spacing_mm) + _STEP_MM
        top = _plate_edge(hu, top, +1, reach)
        bottom = _plate_edge(hu, bottom, -1, reach)
    _, p, l = _coordinates(vertebra.grid)
    strip = np.abs(l) <= anatomy.value("midline_band").mean
    seen = body[:, strip].mean(axis=1) > 0.5
    where = np.flatnonzero(seen)
    height = np.where(body, top - bottom, np.nan)[:, strip]
    front, back = p[where[0]] - _STEP_MM / 2, p[where[-1]] + _STEP_MM / 2
    inset = anatomy.value("height_edge").mean * (back - front)
    places = (front + inset, (front + back) / 2, back - inset)
    # A strip as wide as the inset, so that one stair of a coarse scan does not decide.
    out = [float(np.nanmedian(height[np.abs(p - at) <= max(inset / 2, _STEP_MM)])) for at in places]
    return out[0], out[1], out[2]


def _plate_edge(hu: NDArray[np.float32], surface: Float, step: int, reach_mm: float) -> Float:
    """The surface (mm) moved to where HU begins to fall from end plate to disc, column by column.

    A plate thinner than the blur loses height but keeps its place, so its edge lies well above half
    of what is left of it. The profile is smoothed over neighbouring columns; where no end plate
    stands out (lysis) or the fall lies further off than ``reach_mm``, the surface stays.
    """
    smooth = ndimage.gaussian_filter(hu, (0.0, 1.5, 1.5))
    n = hu.shape[0]
    along = np.arange(-reach_mm - 2, reach_mm + 2.01, _FINE_MM)
    place = (surface / _STEP_MM + n // 2)[None] + step * along[:, None, None] / _STEP_MM
    rows, columns = np.meshgrid(*(np.arange(k) for k in surface.shape), indexing="ij")
    index = np.stack(np.broadcast_arrays(place, rows[None], columns[None]), axis=-1)
    profile = field.sample_linear(smooth, index, outside=tissue.value("hu_air").mean)
    inner, outer = profile[along <= 0.5], profile[along >= 0.0]
    high, low = inner.max(axis=0), outer.min(axis=0)
    half = low + anatomy.value("endplate_edge").mean * (high - low)
    peak = inner.argmax(axis=0)
    below = (profile < half) & (np.arange(len(along))[:, None, None] > peak)
    k = below.argmax(axis=0)
    moved = np.where(below.any(axis=0), along[k] - _FINE_MM / 2, 0.0)
    sure = (high - low > tissue.value("hu_lytic_limit").mean) & (np.abs(moved) <= reach_mm)
    out: Float = surface + step * np.where(sure, moved, 0.0)
    return out


def genant(
    anterior_mm: float,
    middle_mm: float,
    posterior_mm: float,
    neighbours_posterior_mm: Sequence[float] = (),
) -> VertebraMeasures:
    """How collapsed is the body? Genant's wedge, biconcave and crush loss; the worst grades it.

    wedge = 1 - Ha/Hp, biconcave = 1 - Hm/Hp, crush = 1 - Hp / mean of the neighbours' Hp (Genant, J
    Bone Miner Res 1993;8:1137). Grade 1 from 20 %, 2 from 25 %, 3 above 40 %. A body whose
    highest height is below the fact ``plana_ratio`` of the neighbours' is a vertebra plana.

    >>> m = genant(18.0, 20.0, 25.0)
    >>> round(m.wedge_loss, 2), round(m.biconcave_loss, 2), m.genant_grade
    (0.28, 0.2, 2)
    """
    wedge = 1.0 - anterior_mm / posterior_mm
    biconcave = 1.0 - middle_mm / posterior_mm
    expected = float(np.mean(neighbours_posterior_mm)) if len(neighbours_posterior_mm) else None
    crush = None if expected is None else 1.0 - posterior_mm / expected
    heights = (anterior_mm, middle_mm, posterior_mm)
    losses = [wedge, biconcave] + ([] if crush is None else [crush])
    return VertebraMeasures(
        anterior_mm=anterior_mm,
        middle_mm=middle_mm,
        posterior_mm=posterior_mm,
        genant_grade=max(genant_grade(x) for x in losses),
        wedge_loss=wedge,
        biconcave_loss=biconcave,
        crush_loss=crush,
        plana=expected is not None and max(heights) < limits.value("plana_ratio").mean * expected,
    )


def genant_grade(loss: float) -> int:
    """Grade 0 to 3 of one height loss (0 to 1).

    >>> [genant_grade(x) for x in (0.199, 0.20, 0.249, 0.25, 0.40, 0.401)]
    [0, 1, 1, 2, 2, 3]
    """
    percent = round(100.0 * loss, 9)  # 0.2 computed from heights may be 0.19999999999999996
    if percent > tissue.value("genant_severe").mean:
        return 3
    if percent >= tissue.value("genant_moderate").mean:
        return 2
    return 1 if percent >= tissue.value("genant_mild").mean else 0


def _isthmus(vertebra: Vertebra, side: Literal["left", "right"]) -> Isthmus | None:
    """The narrowest place of a pedicle: coronal cuts first, then cuts across its own axis."""
    cuts = list(_coronal_cuts(vertebra, side))
    if len(cuts) < 3:
        return None
    areas = np.array([c[0] for c in cuts])
    centres = np.array([c[1] for c in cuts])
    least = int(np.argmin(areas))
    near = np.abs(centres[:, 1] - centres[least, 1]) <= 4.0
    way = _forwards(centres[near])
    return _narrowest(vertebra, side, centres[least], way)


def _forwards(points: Float) -> Float:
    """Direction of the regression line through (superior, posterior, left) points, going forwards.

    Steeper than 45 degrees to the sagittal it is the shape of the arch, not of the pedicle.
    """
    p = points[:, 1] - points[:, 1].mean()
    slope = (p @ (points - points.mean(axis=0))) / max(float(p @ p), 1e-9)
    slope = np.clip(slope, -1.0, 1.0)
    way = -np.array([slope[0], 1.0, slope[2]])
    out: Float = way / np.linalg.norm(way)
    return out


def _coronal_cuts(vertebra: Vertebra, side: str) -> Iterator[tuple[float, Float]]:
    """Area and centre of the pedicle in coronal cuts from the rear wall backwards.

    The pedicle is the piece beside the canal in the upper half of the body, followed from cut to
    cut; it ends where it loses itself in the arch.
    """
    s, p, l = _coordinates(vertebra.grid)
    sign = 1.0 if side == "left" else -1.0
    beside = (l - vertebra.canal[1]) * sign > 0
    at = np.array([vertebra.height_mm / 4, vertebra.canal[1]])
    reach = vertebra.canal[0] + anatomy.value("isthmus_reach").mean
    for k in np.flatnonzero((p > vertebra.back) & (p < reach)):
        cut = (vertebra.taken[:, k] > 0.5) & beside
        pieces, count = ndimage.label(cut)
        if count == 0:
            return
        best, best_distance = 0, np.inf
        for piece in range(1, count + 1):
            rows, columns = np.nonzero(pieces == piece)
            if rows.size < 12:  # specks of a few mm2 are not a pedicle
                continue
            away = np.hypot(s[rows] - at[0], l[columns] - at[1]).min()
            away += abs(s[rows].mean() - at[0])  # prefer the piece at the pedicle's own height
            if away < best_distance:
                best, best_distance = piece, away
        if best == 0:
            continue
        rows, columns = np.nonzero(pieces == best)
        centre = np.array([s[rows].mean(), p[k], l[columns].mean()])
        yield rows.size * _STEP_MM**2, centre


def _narrowest(
    vertebra: Vertebra, side: Literal["left", "right"], centre: Float, way: Float
) -> Isthmus | None:
    """The least cut across the pedicle's axis near a first guess, with its width and height."""
    best: tuple[float, Float, float, float] | None = None
    for along in np.arange(-3.0, 3.01, 0.5):
        cut = _across(vertebra, centre + along * way, way)
        if cut is not None and (best is None or cut[0] < best[0]):
            best = cut
    if best is None:
        return None
    _, middle, width, height = best
    axes = _matrix(vertebra.axes)
    return Isthmus(
        side=side,
        centre_mm=vertebra.axes.origin_mm + axes @ middle,
        direction=axes @ way,
        width_mm=width,
        height_mm=height,
    )


def _across(
    vertebra: Vertebra, point: Float, way: Float
) -> tuple[float, Float, float, float] | None:
    """Area, centre, width and height of the piece around a point in the plane across ``way``."""
    u = np.cross(np.array([1.0, 0.0, 0.0]), way)
    u /= np.linalg.norm(u)
    v = np.cross(way, u)
    v *= np.sign(v[0])
    half = np.arange(-14.0, 14.01, _PLANE_STEP_MM)
    plane = point + half[:, None, None] * v + half[None, :, None] * u
    index = plane / _STEP_MM + np.asarray(vertebra.grid.shape) // 2
    taken = field.sample_linear(vertebra.taken, index, outside=0.0) > 0.5
    # The canal is no part of the plane: a cut must not run round it to the other pedicle.
    pieces, _ = ndimage.label(taken)
    middle = half.size // 2
    here = pieces[middle - 4 : middle + 5, middle - 4 : middle + 5]
    numbers = here[here > 0]
    if numbers.size == 0:
        return None
    piece = pieces == np.bincount(numbers).argmax()
    rows, columns = np.nonzero(piece)
    centre = np.array([half[rows].mean(), half[columns].mean()])
    r, c = round(float(rows.mean())), round(float(columns.mean()))
    width = piece[r - 2 : r + 3].sum(axis=1).mean() * _PLANE_STEP_MM
    height = piece[:, c - 2 : c + 3].sum(axis=0).mean() * _PLANE_STEP_MM
    area = rows.size * _PLANE_STEP_MM**2
    return area, point + centre[0] * v + centre[1] * u, float(width), float(height)


def neighbour_tangent(centres_mm: Sequence[Any], index: int) -> Float | None:
    """The way of the spine towards the head at one vertebra of a list ordered from head to foot."""
    above, below = max(0, index - 1), min(len(centres_mm) - 1, index + 1)
    if above == below:
        return None
    way = np.asarray(centres_mm[above]) - np.asarray(centres_mm[below])
    out: Float = way / np.linalg.norm(way)
    return out
