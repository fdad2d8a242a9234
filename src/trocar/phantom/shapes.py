"""Shapes as signed distances: functions of (x, y, z) in mm, negative inside, that compose.

A shape takes three arrays of equal shape (left, posterior, superior mm in the phantom's own frame)
and returns the signed distance to its surface in mm, exact for spheres and capsules and right to
first order near the surface for the others. That is what partial volume and thin cortex need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Shape = Callable[[Array, Array, Array], Array]
Point = Sequence[float]

_TINY = np.float32(1e-6)  # keeps a division by a vanishing length finite


def smooth_min(a: Array, b: Array, k: float) -> Array:
    """The smaller of two distances with the crease rounded over ``k`` mm (quadratic blend)."""
    h = np.maximum(k - np.abs(a - b), 0.0)
    out: Array = np.minimum(a, b) - h * h * np.float32(0.25 / k)
    return out


def smooth_max(a: Array, b: Array, k: float) -> Array:
    """The larger of two distances with the edge rounded over ``k`` mm."""
    return -smooth_min(-a, -b, k)


def union(*shapes: Shape, k: float = 0.0) -> Shape:
    """All shapes together, their creases filled over ``k`` mm."""

    def sd(x: Array, y: Array, z: Array) -> Array:
        out = shapes[0](x, y, z)
        for shape in shapes[1:]:
            other = shape(x, y, z)
            out = smooth_min(out, other, k) if k > 0 else np.minimum(out, other)
        return out

    return sd


def meet(*shapes: Shape, k: float = 0.0) -> Shape:
    """What lies in every shape, edges rounded over ``k`` mm."""

    def sd(x: Array, y: Array, z: Array) -> Array:
        out = shapes[0](x, y, z)
        for shape in shapes[1:]:
            other = shape(x, y, z)
            out = smooth_max(out, other, k) if k > 0 else np.maximum(out, other)
        return out

    return sd


def cut(shape: Shape, *tools: Shape, k: float = 0.0) -> Shape:
    """``shape`` without what lies in any of ``tools``."""
    return meet(shape, *(outside(t) for t in tools), k=k)


def outside(shape: Shape) -> Shape:
    """Everything but the shape."""
    return lambda x, y, z: -shape(x, y, z)


def grown(shape: Shape, by_mm: float) -> Shape:
    """The shape with its surface moved outward (inward when negative)."""
    return lambda x, y, z: shape(x, y, z) - np.float32(by_mm)


def both_sides(shape: Shape) -> Shape:
    """A shape drawn for the left (x > 0) and its mirror image on the right."""
    return lambda x, y, z: shape(np.abs(x), y, z)


def mirrored(shape: Shape) -> Shape:
    """The right-hand twin of a left-hand shape."""
    return lambda x, y, z: shape(-x, y, z)


def placed(shape: Shape, at: Point, nod_deg: float = 0.0) -> Shape:
    """The shape moved to ``at`` and nodded about the left axis (positive: its front goes up)."""
    c, s = np.float32(cos(radians(nod_deg))), np.float32(sin(radians(nod_deg)))

    def sd(x: Array, y: Array, z: Array) -> Array:
        v, w = y - np.float32(at[1]), z - np.float32(at[2])
        return shape(x - np.float32(at[0]), c * v - s * w, s * v + c * w)

    return sd


def half_space(point: Point, normal: Point) -> Shape:
    """Everything behind the plane through ``point`` whose normal points out of it."""
    n = np.asarray(normal, dtype=np.float64)
    n = (n / np.linalg.norm(n)).astype(np.float32)
    d = np.float32(n @ np.asarray(point, dtype=np.float32))
    return lambda x, y, z: n[0] * x + n[1] * y + n[2] * z - d


def ellipsoid(centre: Point, radii: Point, yaw_deg: float = 0.0, nod_deg: float = 0.0) -> Shape:
    """An ellipsoid, turned first about the vertical (yaw), then about the left axis (nod)."""
    c, s = np.float32(cos(radians(yaw_deg))), np.float32(sin(radians(yaw_deg)))
    p, q = np.float32(cos(radians(nod_deg))), np.float32(sin(radians(nod_deg)))
    r = np.asarray(radii, dtype=np.float32)
    o = np.asarray(centre, dtype=np.float32)

    def sd(x: Array, y: Array, z: Array) -> Array:
        u, v, w = x - o[0], y - o[1], z - o[2]
        if nod_deg:
            v, w = p * v - q * w, q * v + p * w
        if yaw_deg:
            u, v = c * u + s * v, c * v - s * u
        u, v, w = u / r[0], v / r[1], w / r[2]
        k = np.sqrt(u * u + v * v + w * w)
        g = np.sqrt((u / r[0]) ** 2 + (v / r[1]) ** 2 + (w / r[2]) ** 2)
        out: Array = k * (k - 1) / np.maximum(g, _TINY)
        return np.where(k < _TINY, -r.min(), out)

    return sd


def ball(centre: Point, radius: float) -> Shape:
    """A sphere."""
    o = np.asarray(centre, dtype=np.float32)

    def sd(x: Array, y: Array, z: Array) -> Array:
        out: Array = np.sqrt((x - o[0]) ** 2 + (y - o[1]) ** 2 + (z - o[2]) ** 2)
        return out - np.float32(radius)

    return sd


def capsule(a: Point, b: Point, start_radius: float, end_radius: float | None = None) -> Shape:
    """A rod with round ends whose radius changes evenly from ``a`` to ``b``."""
    p, q = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    d = q - p
    r0 = np.float32(start_radius)
    r1 = r0 if end_radius is None else np.float32(end_radius)
    scale = np.float32(1.0 / float(d @ d))

    def sd(x: Array, y: Array, z: Array) -> Array:
        u, v, w = x - p[0], y - p[1], z - p[2]
        t = np.clip((u * d[0] + v * d[1] + w * d[2]) * scale, 0.0, 1.0)
        away = np.sqrt((u - t * d[0]) ** 2 + (v - t * d[1]) ** 2 + (w - t * d[2]) ** 2)
        out: Array = away - (r0 + t * (r1 - r0))
        return out

    return sd


def tube(points: Sequence[Point], radii: float | Sequence[float], k: float = 0.0) -> Shape:
    """A bent rod through ``points``, with one radius or one per point."""
    r = [radii] * len(points) if isinstance(radii, int | float) else list(radii)
    rods = [capsule(p, q, s, e) for p, q, s, e in zip(points[:-1], points[1:], r[:-1], r[1:])]
    return union(*rods, k=k)


def squeezed(shape: Shape, centre: Point, factors: Point) -> Shape:
    """The shape stretched about ``centre`` by a factor per axis (distances become approximate)."""
    o = np.asarray(centre, dtype=np.float32)
    f = np.asarray(factors, dtype=np.float32)
    least = np.float32(f.min())

    def sd(x: Array, y: Array, z: Array) -> Array:
        out: Array = least * shape(
            (x - o[0]) / f[0] + o[0], (y - o[1]) / f[1] + o[1], (z - o[2]) / f[2] + o[2]
        )
        return out

    return sd


def block(
    centre: Point, half: Point, radius: float, yaw_deg: float = 0.0, shear: Point = (0.0, 0.0)
) -> Shape:
    """A box with rounded edges, turned about the vertical.

    ``half`` counts to the outside of the rounding. ``shear`` moves y by its first entry per mm of
    z, and z by its second entry per mm of y, before the box is drawn.
    """
    c, s = np.float32(cos(radians(yaw_deg))), np.float32(sin(radians(yaw_deg)))
    o = np.asarray(centre, dtype=np.float32)
    h = np.asarray(half, dtype=np.float32) - np.float32(radius)

    def sd(x: Array, y: Array, z: Array) -> Array:
        u, v, w = x - o[0], y - o[1], z - o[2]
        v, w = v - np.float32(shear[0]) * w, w - np.float32(shear[1]) * v
        if yaw_deg:
            u, v = c * u + s * v, c * v - s * u
        u, v, w = np.abs(u) - h[0], np.abs(v) - h[1], np.abs(w) - h[2]
        beyond = np.sqrt(np.maximum(u, 0) ** 2 + np.maximum(v, 0) ** 2 + np.maximum(w, 0) ** 2)
        out: Array = beyond + np.minimum(np.maximum(np.maximum(u, v), w), 0)
        return out - np.float32(radius)

    return sd


def pillar(centre: Point, half: Point, axis: Point = (0.0, 0.0), top: float = 1e3) -> Shape:
    """An upright elliptic column; its centre moves by ``axis`` (dx, dy) per mm of height."""
    o = np.asarray(centre, dtype=np.float32)
    a, b = np.float32(half[0]), np.float32(half[1])

    def sd(x: Array, y: Array, z: Array) -> Array:
        w = z - o[2]
        side = ellipse(x - o[0] - np.float32(axis[0]) * w, y - o[1] - np.float32(axis[1]) * w, a, b)
        out: Array = np.maximum(side, np.abs(w) - np.float32(top))
        return out

    return sd


def ellipse(u: Array, v: Array, a: Array | np.float32, b: Array | np.float32) -> Array:
    """Signed distance in a plane to an ellipse of semi-axes a and b, first order near it."""
    p, q = u / a, v / b
    k = np.sqrt(p * p + q * q)
    g = np.sqrt((p / a) ** 2 + (q / b) ** 2)
    out: Array = k * (k - 1) / np.maximum(g, _TINY)
    return np.where(k < _TINY, -np.minimum(a, b), out)


def even(value: float) -> Shape:
    """A field that has one value everywhere, such as a cortex of one thickness."""
    return lambda x, y, z: np.full_like(x, value)
