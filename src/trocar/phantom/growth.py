"""A lytic lesion of known size with known holes in the cortex, and what grows out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trocar.model.space import Float
from trocar.phantom.scene import Box, at_points
from trocar.phantom.shapes import (
    Array,
    Point,
    Shape,
    capsule,
    cut,
    ellipse,
    ellipsoid,
    half_space,
    meet,
    union,
)

_RAY_STEP_MM = 0.1  # along a channel, to bracket the outer surface before it is bisected
_RAY_LENGTH_MM = 60.0
_CELLS = 96  # across a hole when its area is integrated
_EDGE_MM = 1.5  # a channel ends this far beyond the surface it opens
_SLACK_MM = 3.0  # kept free around a lesion's box
_BACK_MM = 3.0  # soft tissue reaches back this far past the mouth of its hole, not behind the wall
_LOBE_MM = 0.5  # unevenness of a lesion's edge


@dataclass(frozen=True, kw_only=True)
class Port:
    """Where a lesion can break through a wall: an elliptic channel and the blob beyond it.

    The channel runs from ``start`` along ``outward`` with semi-axes ``half_mm`` across (the first
    along ``across``). ``soft_mm`` are the semi-axes of the soft-tissue blob (across, up, outward)
    and ``soft_offset_mm`` its centre's distance beyond the wall.
    """

    wall: str
    start: Point
    outward: Point
    half_mm: tuple[float, float]
    soft_mm: tuple[float, float, float]
    soft_offset_mm: float = 0.0
    across: Point = (1.0, 0.0, 0.0)

    def frame(self) -> tuple[Float, Float, Float]:
        """Unit vectors across, up and outward."""
        w = np.asarray(self.outward, float) / np.linalg.norm(self.outward)
        u = np.asarray(self.across, float)
        u = u - (u @ w) * w
        u = u / np.linalg.norm(u)
        return u, np.cross(w, u), w


@dataclass(frozen=True, eq=False, kw_only=True)
class Hole:
    """An opened port: its channel, where it leaves the bone, and the area of that hole."""

    port: Port
    channel: Shape
    centre: Float  # on the outer surface, phantom frame
    area_mm2: float


def exits(bone: Shape, port: Port, across_mm: Float, up_mm: Float) -> Float:
    """How far from a port's start rays along it first leave the bone, to a micrometre.

    Rays start at (``across_mm``, ``up_mm``) from the channel's axis; a ray that starts outside the
    bone or never leaves it is NaN.
    """
    u, v, w = port.frame()
    start = np.asarray(port.start) + across_mm[:, None] * u + up_mm[:, None] * v
    t = np.arange(0.0, _RAY_LENGTH_MM, _RAY_STEP_MM * 10)
    first = _first_outside(bone, start, w, t[None, :])
    t = first[:, None] - _RAY_STEP_MM * 10 + np.arange(0.0, 1.05, 0.1)[None, :]
    high = _first_outside(bone, start, w, t)
    low = high - _RAY_STEP_MM
    for _ in range(14):
        middle = (low + high) / 2
        inside = at_points(bone, start + middle[:, None] * w) < 0
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    out: Float = np.where(first <= 0, np.nan, high)
    return out


def _first_outside(bone: Shape, start: Float, w: Float, t: Float) -> Float:
    sd = at_points(bone, start[:, None, :] + t[..., None] * w)
    t = np.broadcast_to(t, sd.shape)
    k = np.argmax(sd >= 0, axis=1)
    found = np.take_along_axis(sd, k[:, None], 1)[:, 0] >= 0
    return np.where(found, np.take_along_axis(t, k[:, None], 1)[:, 0], np.nan)


def open_port(bone: Shape, port: Port) -> Hole:
    """The channel through a wall and the area of the hole on the outer surface.

    The surface inside the channel is a height field t(u, v) over the channel's cross-section, so
    the area is the integral of sqrt(1 + t_u^2 + t_v^2) over the ellipse.
    """
    a, b = port.half_mm
    u = (np.arange(_CELLS + 1) / _CELLS - 0.5) * 2.2 * a
    v = (np.arange(_CELLS + 1) / _CELLS - 0.5) * 2.2 * b
    uu, vv = np.meshgrid(u, v, indexing="ij")
    t = exits(bone, port, uu.ravel(), vv.ravel()).reshape(uu.shape)
    du, dv = u[1] - u[0], v[1] - v[0]
    tu = (t[1:, :-1] + t[1:, 1:] - t[:-1, :-1] - t[:-1, 1:]) / (2 * du)
    tv = (t[:-1, 1:] + t[1:, 1:] - t[:-1, :-1] - t[1:, :-1]) / (2 * dv)
    cu, cv = np.meshgrid((u[:-1] + u[1:]) / 2, (v[:-1] + v[1:]) / 2, indexing="ij")
    rim = ellipse(cu.astype(np.float32), cv.astype(np.float32), np.float32(a), np.float32(b))
    part = np.clip(0.5 - rim / np.sqrt(du * dv), 0, 1)
    inside = part > 0
    slant = np.sqrt(1 + tu**2 + tv**2)
    area = float(np.nansum((part * slant)[inside]) * du * dv)
    ellipse_t = t[(uu / a) ** 2 + (vv / b) ** 2 <= 1]
    if not np.all(np.isfinite(ellipse_t)):
        raise ValueError(f"the channel through the {port.wall} does not start inside the bone")
    middle = float(exits(bone, port, np.zeros(1), np.zeros(1))[0])
    _, _, w = port.frame()
    return Hole(
        port=port,
        channel=_channel(port, float(np.max(ellipse_t)) + _EDGE_MM),
        centre=np.asarray(port.start) + middle * w,
        area_mm2=area,
    )


def _channel(port: Port, length_mm: float) -> Shape:
    across, up, out = (e.astype(np.float32) for e in port.frame())
    o = np.asarray(port.start, dtype=np.float32)
    a, b = (np.float32(h) for h in port.half_mm)

    def sd(x: Array, y: Array, z: Array) -> Array:
        p, q, r = x - o[0], y - o[1], z - o[2]
        u = p * across[0] + q * across[1] + r * across[2]
        v = p * up[0] + q * up[1] + r * up[2]
        w = p * out[0] + q * out[1] + r * out[2]
        ends = np.maximum(-w, w - np.float32(length_mm))
        inside: Array = np.maximum(ellipse(u, v, a, b), ends)
        return inside

    return sd


def _blob(hole: Hole) -> Shape:
    port = hole.port
    across, up, out = port.frame()
    o = hole.centre + port.soft_offset_mm * out
    axes = [e.astype(np.float32) for e in (across, up, out)]
    r = np.asarray(port.soft_mm, dtype=np.float32)

    def sd(x: Array, y: Array, z: Array) -> Array:
        p, q, s = (c - np.float32(v) for c, v in zip((x, y, z), o))
        u, v, w = (p * e[0] + q * e[1] + s * e[2] for e in axes)
        u, v, w = u / r[0], v / r[1], w / r[2]
        k = np.sqrt(u * u + v * v + w * w)
        g = np.sqrt((u / r[0]) ** 2 + (v / r[1]) ** 2 + (w / r[2]) ** 2)
        out_sd: Array = k * (k - 1) / np.maximum(g, np.float32(1e-6))
        return np.where(k < 1e-6, -r.min(), out_sd)

    return sd


def lumpy(shape: Shape) -> Shape:
    """The shape with a gently uneven surface, as tumours have."""
    a = np.float32(_LOBE_MM)

    def sd(x: Array, y: Array, z: Array) -> Array:
        out: Array = shape(x, y, z) + a * np.sin(0.55 * x + 1.0) * np.sin(0.5 * y) * np.cos(0.6 * z)
        return out

    return sd


def _apart(a: Point, b: Point) -> bool:
    return not np.allclose(a, b)


def _around(centre: Point, radii: Float, holes: Sequence[Hole]) -> Box:
    """A box that holds the core, the channels and whatever may grow out of them."""
    low, high = [np.asarray(centre) - radii], [np.asarray(centre) + radii]
    for hole in holes:
        reach = max(*hole.port.soft_mm, *hole.port.half_mm) + hole.port.soft_offset_mm
        for point in (np.asarray(hole.port.start, float), hole.centre):
            low.append(point - reach)
            high.append(point + reach)
    return tuple(np.min(low, axis=0) - _SLACK_MM), tuple(np.max(high, axis=0) + _SLACK_MM)


@dataclass(frozen=True, eq=False, kw_only=True)
class Growth:
    """A lesion as shapes: its part inside the bone's outline, its part outside, and both."""

    inside: Shape
    soft: Shape | None
    holes: tuple[Hole, ...]
    box: Box

    @property
    def whole(self) -> Shape:
        """The lesion with its soft-tissue part."""
        return self.inside if self.soft is None else union(self.inside, self.soft)


def grow(
    bone: Shape,
    cortex: Shape,
    centre: Point,
    diameters_mm: Point,
    ports: Sequence[Port],
    other_bone: Shape | None,
    *,
    soft_tissue: bool,
) -> Growth:
    """The lesion: its core eats marrow up to the cortex, and only the ports open the cortex.

    Soft tissue grows through the first port and stops at bone.
    """
    holes = tuple(open_port(bone, p) for p in ports)
    # A port away from the centre is reached by a strand of tumour through the marrow.
    strands = [capsule(centre, p.start, min(p.half_mm)) for p in ports if _apart(p.start, centre)]
    radii = np.asarray(diameters_mm, float) / 2
    core = lumpy(union(ellipsoid(centre, radii.tolist()), *strands, k=4.0))

    def inside(x: Array, y: Array, z: Array) -> Array:
        outer = bone(x, y, z)
        out: Array = np.maximum(core(x, y, z), outer + cortex(x, y, z))
        for hole in holes:
            tongue = np.maximum(hole.channel(x, y, z), outer)
            out = np.minimum(out, tongue)
        return out

    soft = None
    if soft_tissue:
        walls = [bone] if other_bone is None else [bone, other_bone]
        mouth = holes[0].centre - _BACK_MM * holes[0].port.frame()[2]
        beyond = half_space(mouth.tolist(), [-v for v in holes[0].port.outward])
        soft = meet(cut(lumpy(_blob(holes[0])), *walls), beyond)
    return Growth(inside=inside, soft=soft, holes=holes, box=_around(centre, radii, holes))
