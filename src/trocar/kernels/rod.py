"""Rods thinner than a few voxels: how electrodes and cryoprobes meet a regular grid.

Around a thin rod the field falls so steeply that a plain grid gets the flux wrong by several
percent, and differently for each way the rod may lie between the voxel centres. The field of a line
of sources is known in closed form; the conductance of each face near a rod is multiplied by what
makes the grid carry just that field: the mean slope through the face over the difference between
the two centres. Far away the factor is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

_HELD = 0.75  # of a spacing: so near the axis a voxel is held even by a thinner rod
_CLOSE = 0.15  # of a spacing: a centre nearer to the surface than this is held as well
_REACH = 5.0  # spacings (and radii) beyond which the factor is 1
_FLAT = 0.15  # of the steepest slope; less difference across a face tells nothing
_LEAST, _MOST = 0.1, 10.0  # of a factor
_THIN = 1e-3  # least share of a face that the surface behind it makes up
_POINTS = (-0.4306, -0.17, 0.17, 0.4306)  # of four-point quadrature across a face, in its width
_WEIGHTS = (0.1739, 0.3261, 0.3261, 0.1739)


@dataclass(frozen=True, eq=False, kw_only=True)
class Rod:
    """A straight round rod: both ends of its axis (slice, row, column; m) and its radius (m).

    Metres count from the centre of the grid's first voxel.
    """

    start_m: Float
    end_m: Float
    radius_m: float

    def distance_m(self, points_m: Float) -> Float:
        """How far points are from the rod's axis."""
        return np.asarray(np.linalg.norm(points_m - self._foot(points_m), axis=-1))

    def around(
        self, reach_m: float, shape: tuple[int, int, int], spacing_m: Sequence[float]
    ) -> tuple[tuple[slice, ...], Float]:
        """The box of a grid that holds all within reach of the axis, and its voxels' centres (m).

        Both are empty where the rod lies off the grid.
        """
        steps = np.asarray(spacing_m, np.float64)
        ends = np.stack([self.start_m, self.end_m])
        low = np.clip(np.floor((ends.min(axis=0) - reach_m) / steps), 0, shape).astype(int)
        high = np.clip(np.ceil((ends.max(axis=0) + reach_m) / steps) + 1, low, shape).astype(int)
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        points = np.moveaxis(np.asarray(np.mgrid[box], np.float64), 0, -1) * steps
        return box, points

    def _foot(self, p: Float) -> Float:
        along = self.end_m - self.start_m
        length_sq = max(float(along @ along), 1e-18)
        t = np.clip((p - self.start_m) @ along / length_sq, 0.0, 1.0)
        out: Float = self.start_m + t[..., None] * along
        return out

    def _surface(self, p: Float) -> Float:
        """The point of the rod's surface that is nearest."""
        foot = self._foot(p)
        away = p - foot
        far = np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-12)
        out: Float = foot + away / far * self.radius_m
        return out

    def _potential(self, p: Float) -> tuple[Float, Float]:
        """Of a line of sources along the axis, falling outwards, and its slope."""
        length = float(np.linalg.norm(self.end_m - self.start_m))
        a, b = p - self.start_m, p - self.end_m
        ra = np.maximum(np.linalg.norm(a, axis=-1), 1e-12)
        rb = np.maximum(np.linalg.norm(b, axis=-1), 1e-12)
        # s - L without loss of figures where the rod is long: (s^2 - L^2) / (s + L), and
        # s^2 - L^2 = 2 (ra rb + a . b).
        square = np.maximum(2.0 * (ra * rb + np.einsum("...i,...i->...", a, b)), 1e-18)
        s = ra + rb
        value = np.log((s + length) ** 2 / square) / length
        slope = (-2.0 / square)[..., None] * (a / ra[..., None] + b / rb[..., None])
        return value, slope


@dataclass(frozen=True, eq=False, kw_only=True)
class Laid:
    """Rods on a grid: the voxels each holds and what faces near them conduct.

    ``factor`` has for each axis one number for every face between two voxels, ``skin`` how much of
    the rod's surface (as a share of the face) the flux through a face comes from.
    """

    held: tuple[Bool, ...]
    factor: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    skin: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

    @property
    def every(self) -> Bool:
        """All voxels that are held."""
        out: Bool = np.logical_or.reduce(self.held)
        return out


def lay(
    rods: Sequence[Rod], *, shape: tuple[int, int, int], spacing_m: tuple[float, float, float]
) -> Laid:
    """Which voxels do these rods hold, and what do the faces beside them conduct?

    Raises InputError for no rod, one outside the grid, and rods that overlap.
    """
    if not rods:
        raise InputError("no rod was given; give at least one")
    factor = tuple(np.ones(_face_shape(shape, a), np.float32) for a in range(3))
    skin = tuple(np.ones(_face_shape(shape, a), np.float32) for a in range(3))
    steps = np.asarray(spacing_m, np.float64)
    held = []
    for number, rod in enumerate(rods, start=1):
        if not rod.radius_m > 0:
            raise InputError(f"rod {number} has a radius of {rod.radius_m} m; expected more than 0")
        widest = float(steps.max())
        reach = _REACH * max(widest, rod.radius_m) + rod.radius_m
        box, points = rod.around(reach, shape, spacing_m)
        far = rod.distance_m(points)
        mask = np.zeros(shape, np.bool_)
        mask[box] = far <= max(rod.radius_m + _CLOSE * widest, _HELD * widest)
        _weigh(rod, points, mask[box], far, steps, reach, box, factor, skin)
        if not mask.any():
            raise InputError(f"rod {number} holds no voxel; it lies outside the grid")
        held.append(mask)
    together = np.sum(held, axis=0)
    if together.max() > 1:
        raise InputError("two rods hold the same voxel: metal overlaps; move one")
    return Laid(held=tuple(held), factor=factor, skin=skin)  # type: ignore[arg-type]


def _face_shape(shape: tuple[int, int, int], axis: int) -> tuple[int, ...]:
    return tuple(n - 1 if a == axis else n for a, n in enumerate(shape))


def _weigh(
    rod: Rod, points: Float, held: Bool, far: Float, steps: Float, reach: float,
    box: tuple[slice, ...], factor: Any, skin: Any,
) -> None:  # fmt: skip
    """Write the factors of the faces in one box around a rod."""
    value, _ = rod._potential(points)
    touch = rod._surface(points)
    at_skin, slope_at_skin = rod._potential(touch)
    steep = np.linalg.norm(slope_at_skin, axis=-1)
    for axis in range(3):
        if points.shape[axis] < 2:
            continue
        one, two = sides(held, axis)
        near = np.minimum(*sides(far, axis)) <= reach
        use = near & ~(one & two)
        v1, v2 = sides(value, axis)
        s1, s2 = sides(at_skin, axis)
        start = np.where(one, s2, v1)  # a held side counts from the surface the other side sees
        end = np.where(two, s1, v2)
        e1, e2 = sides(steep, axis)
        p1, _ = sides(points, axis)
        flux, slope = _through(rod, p1[use], axis, steps)
        rise = (end - start)[use] / steps[axis]
        cut = (one ^ two)[use]
        tells = cut | (np.abs(rise) > _FLAT * slope)
        with np.errstate(divide="ignore", invalid="ignore"):
            w = np.where(tells & (flux * rise > 0), flux / rise, 1.0)
            share = np.abs(flux) / np.where(one, e2, e1)[use]
        w = np.clip(np.where(np.isfinite(w), w, 1.0), _LEAST, _MOST)
        # A centre on the very surface has next to no way to go.
        w = np.where(cut & ~(flux * rise > 0), np.where(np.abs(rise) < 1e-12, _MOST, _LEAST), w)
        part = list(box)
        part[axis] = slice(box[axis].start, box[axis].stop - 1)
        target = factor[axis][tuple(part)]
        target[use] *= w
        surface = skin[axis][tuple(part)]
        surface[use] = np.where(cut, np.clip(share, _THIN, _MOST), surface[use])


def _through(rod: Rod, first: Float, axis: int, steps: Float) -> tuple[Float, Float]:
    """The mean slope through each face (four by four points), and the steepest at its middle."""
    middle = first.copy()
    middle[:, axis] += 0.5 * steps[axis]
    others = [a for a in range(3) if a != axis]
    out = np.zeros(len(first))
    for u, wu in zip(_POINTS, _WEIGHTS, strict=True):
        for v, wv in zip(_POINTS, _WEIGHTS, strict=True):
            p = middle.copy()
            p[:, others[0]] += u * steps[others[0]]
            p[:, others[1]] += v * steps[others[1]]
            out += wu * wv * rod._potential(p)[1][:, axis]
    return out, np.linalg.norm(rod._potential(middle)[1], axis=-1)


def sides(a: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What lies before and behind each face between two voxels along an axis: two views."""
    near, far = [slice(None)] * 3, [slice(None)] * 3
    near[axis], far[axis] = slice(None, -1), slice(1, None)
    return a[tuple(near)], a[tuple(far)]
