"""Hip bone, sacrum and femur in parts: head and socket, columns, joints, foramina, canal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.facts import anatomy
from trocar.imaging import shapes
from trocar.imaging.vertebra import axes_from
from trocar.kernels import field as field_kernels
from trocar.model.case import Finding, Gravity
from trocar.model.result import Axes
from trocar.model.space import Float, Grid, Mask

_VOTE_MM = 2.0  # cell of the accumulator for sphere centres
_SEEK_MM = 4.0  # first spacing of the places tried for an unlabelled head; halved twice
_SPHERE_WAYS = 120  # directions in which such a sphere is looked at
_LOCAL_MM = 1.0  # cell of the sacrum's own grid
_SURFACE_POINTS = 20_000  # as many surface voxels vote at most


@dataclass(frozen=True, kw_only=True, eq=False)
class Ball:
    """A sphere fitted to a femoral head or its socket; ``support`` is the part of it seen."""

    centre_mm: Float
    radius_mm: float
    support: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """Axes, parts and joints of one bone; ``keep_out`` is what the bone's outline must spare."""

    axes: Axes
    structures: Mapping[str, Mask] = field(default_factory=dict)
    regions: Mapping[str, Mask] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    keep_out: shapes.Bool


def read_hip(hip: Mask, femur: Mask, sacrum: Mask, side: str) -> Reading:
    """Where is the socket, and which part of the hip bone is which?

    The frame stands in the centre of the femoral head with the patient's own directions. Without a
    femur label the head is inferred from the socket.
    """
    ball = find_ball([(hip, False), (femur, True)])
    if ball is None:
        return Reading(
            axes=_upright(hip.centroid_mm),
            findings=(_no_head(),),
            keep_out=femur.values | sacrum.values,
        )
    inside = ball_mask(ball.centre_mm, ball.radius_mm, hip.grid)
    space = femur if not femur.is_empty else inside
    structures = {f"hip_joint_{side}": _joint(hip, space, "joint_gap", ball)}
    if not sacrum.is_empty:
        structures[f"sacroiliac_joint_{side}"] = _joint(hip, sacrum, "sacroiliac_gap", None)
    # A socket grown over the head by closing must not swallow it.
    keep_out = femur.values | sacrum.values
    if femur.is_empty:
        keep_out = keep_out | inside.values
    return Reading(
        axes=_upright(ball.centre_mm),
        structures=structures,
        regions=_hip_regions(hip, ball, side),
        confidence={f"hip_joint_{side}": min(1.0, 2 * ball.support)},
        keep_out=keep_out,
    )


def read_femur(femur: Mask, hip: Mask, side: str) -> Reading:
    """Where are head, neck, trochanters and shaft, and how does the neck run?

    The frame stands in the centre of the head; superior runs along the shaft where it is seen.
    """
    ball = find_ball([(femur, True), (hip, False)])
    none = np.zeros(femur.grid.shape, dtype=bool)
    if ball is None:
        found = read_long_bone(femur)
        return Reading(
            axes=found.axes, regions=found.regions, findings=(_no_head(),), keep_out=none
        )
    points = femur.points_mm()
    below = (
        points[:, 2] < ball.centre_mm[2] - anatomy.value("shaft_below_head").mean * ball.radius_mm
    )
    shaft = _shaft(points[below]) if below.sum() > 100 else None
    axes = axes_from(
        ball.centre_mm, np.array([0.0, 0, 1]) if shaft is None else shaft[1], np.array([0.0, 1, 0])
    )
    structures = {}
    if not hip.is_empty:
        structures[f"hip_joint_{side}"] = _joint(femur, hip, "joint_gap", ball)
    return Reading(
        axes=axes,
        structures=structures,
        regions=_femur_regions(femur, ball, axes, shaft),
        confidence={f"hip_joint_{side}": min(1.0, 2 * ball.support)} if structures else {},
        keep_out=hip.values,
    )


def read_long_bone(bone: Mask) -> Reading:
    """The axis of a long bone: along its greatest length, towards the head."""
    points = bone.points_mm()
    middle, way = _shaft(points)
    return Reading(
        axes=axes_from(middle, way, np.array([0.0, 1.0, 0.0])),
        regions={"shaft": bone},
        keep_out=np.zeros(bone.grid.shape, dtype=bool),
    )


def read_sacrum(sacrum: Mask, hip_left: Mask, hip_right: Mask, cord: Mask) -> Reading:
    """Where are the sacral canal, the foramina, the alae and the body?

    The frame follows the slope of the upper sacrum. Foramina are holes in its own coronal cuts, the
    canal the hole in its own axial cuts.
    """
    axes = _sacral_axes(sacrum)
    grid = _own_grid(sacrum, axes)
    taken = shapes.occupancy(sacrum, grid) > 0.5
    _, p, l = _own_places(grid)
    canal = _holes(taken, 0) & (np.abs(l) <= anatomy.value("sacral_canal_half_width").mean * 1.5)
    canal &= np.abs(p)[:, None] <= 40
    foramina = _foramina(taken, l, canal, grid)
    both = [f for f in foramina.values() if f.any()]
    side_at = anatomy.value("sacral_ala_from").mean
    if both:
        where = np.nonzero(np.logical_or.reduce(both))[2]
        side_at = float(np.median(np.abs(l[where])))
    structures = {
        "spinal_canal": _back_on(canal, grid, sacrum, cord.values),
        **{
            f"sacral_foramina_{s}": _back_on(f, grid, sacrum, np.zeros_like(cord.values))
            for s, f in foramina.items()
        },
    }
    for side, hip in (("left", hip_left), ("right", hip_right)):
        if not hip.is_empty:
            structures[f"sacroiliac_joint_{side}"] = _joint(sacrum, hip, "sacroiliac_gap", None)
    kept = np.logical_or.reduce([structures[n].values for n in list(structures)[:3]])
    return Reading(
        axes=axes,
        structures={n: m for n, m in structures.items() if not m.is_empty},
        regions=_sacral_regions(sacrum, axes, side_at),
        keep_out=kept | hip_left.values | hip_right.values,
    )


def _no_head() -> Finding:
    return Finding(
        gravity=Gravity.CAUTION,
        message="No femoral head or socket was found in the image; the hip joint and the parts of "
        "the bone around it are unknown.",
        values={},
    )


def _upright(origin_mm: Float) -> Axes:
    return axes_from(np.asarray(origin_mm), np.array([0.0, 0, 1]), np.array([0.0, 1, 0]))


# --- Sphere ------------------------------------------------------------------------------------


def find_ball(bones: list[tuple[Mask, bool]]) -> Ball | None:
    """Where is the ball of the hip, as the surfaces of given bones show it?

    Each bone comes with whether its centre lies inward of its surface (a head) or outward (a
    socket). None when less than a tenth of a sphere agrees.
    """
    surfaces = [_surface(mask, inward) for mask, inward in bones if not mask.is_empty]
    return _ball_by_votes([s for s in surfaces if s is not None])


def find_ball_in_image(
    hu: NDArray[np.float32], grid: Grid, bone_hu: float, allowed: shapes.Bool | None = None
) -> Ball | None:
    """Where is the femoral head in an unlabelled image, given the HU from which bone begins?

    Every sphere about a place deep in bone is tried: ``support`` is the part of its directions in
    which the image falls from bone to joint space, fat or muscle just where the sphere ends. Only
    the neck lacks that fall on a head. None when every sphere has too little of it
    (``head_support``). ``allowed`` limits where the centre may lie.
    """
    fact = anatomy.value("femoral_head_radius")
    low, high = fact.low or fact.mean, fact.high or fact.mean
    cells = [max(1, round(2 * low / np.sqrt(3) / s)) for s in grid.spacing_mm]
    deep = ndimage.uniform_filter((hu > bone_hu / 2).astype(np.float32), cells) > 0.9
    if allowed is not None:
        deep &= allowed
    step = [max(1, round(_SEEK_MM / s)) for s in grid.spacing_mm]
    index = np.argwhere(deep[:: step[0], :: step[1], :: step[2]]) * step
    if len(index) == 0:
        return None
    radii = np.arange(low, high + 0.1, 1.0)
    centres = grid.to_world(index)
    for reach in (_SEEK_MM / 2, _SEEK_MM / 4, None):
        support = _support(hu, grid, centres, radii, bone_hu, strict=True)
        row, column = np.unravel_index(int(np.argmax(support)), support.shape)
        if reach is not None:
            offset = np.stack(np.meshgrid(*([np.array([-reach, 0.0, reach])] * 3)), -1)
            centres = centres[row] + offset.reshape(-1, 3)
    centre = centres[row]
    if support[row, column] < anatomy.value("head_support").mean:
        return None
    soft = _support(hu, grid, centre[None], radii, bone_hu, strict=False)[0]
    best = int(np.argmax(soft))
    return Ball(centre_mm=centre, radius_mm=float(radii[best]), support=float(soft[best]))


def _support(
    hu: NDArray[np.float32],
    grid: Grid,
    centres: Float,
    radii: Float,
    bone_hu: float,
    *,
    strict: bool,
) -> Float:
    """Part of the directions with a fall at each sphere's surface, (centres, radii).

    Strict asks for a deep fall, which tells a head from other bone; the other way also counts
    the shallow falls of blurred joint spaces, which tell its radius.
    """
    k = np.arange(_SPHERE_WAYS) + 0.5  # golden spiral: even over the sphere
    z, turn = 1 - 2 * k / _SPHERE_WAYS, np.pi * (1 + np.sqrt(5)) * k
    flat = np.sqrt(1 - z**2)
    ways = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
    out = np.zeros((len(centres), len(radii)))

    def at(radius: float) -> Float:
        points = centres[:, None] + radius * ways
        values: Float = field_kernels.sample_linear(hu, grid.to_index(points), outside=0.0)
        return values

    for column, radius in enumerate(radii):
        if strict:
            inner = np.maximum(at(radius - 1.5), at(radius - 3.0))
            outer = np.minimum(at(radius + 1.0), at(radius + 2.5))
        else:
            inner = np.maximum(at(radius), at(radius - 2.0))
            outer = np.minimum(at(radius + 2.0), at(radius + 4.0))
        fall = (inner - outer > (0.5 if strict else 0.3) * bone_hu) & (inner > bone_hu)
        out[:, column] = fall.mean(axis=1)
    return out


def _ball_by_votes(surfaces: list[tuple[Float, Float, Float]]) -> Ball | None:
    """Points vote along their normals for a centre; most votes per area win the radius."""
    if not surfaces:
        return None
    fact = anatomy.value("femoral_head_radius")
    low, high = fact.low or fact.mean, fact.high or fact.mean
    points, towards, area = (np.concatenate([s[k] for s in surfaces]) for k in range(3))
    start = points.min(axis=0) - high
    shape = np.ceil((points.max(axis=0) + high - start) / _VOTE_MM).astype(int) + 1
    best: tuple[float, Float, float] | None = None
    for radius in np.arange(low, high + 0.5, 1.0):
        cells = np.rint((points + radius * towards - start) / _VOTE_MM).astype(int)
        flat = np.ravel_multi_index(tuple(cells.T), tuple(shape))
        votes = np.bincount(flat, weights=area, minlength=int(np.prod(shape))).reshape(shape)
        votes = ndimage.gaussian_filter(votes, 1.0)
        top = np.unravel_index(int(np.argmax(votes)), votes.shape)
        score = float(votes[top]) / radius**2
        if best is None or score > best[0]:
            best = score, start + _VOTE_MM * np.array(top), float(radius)
    assert best is not None
    return _fitted(points, towards, area, best[1], best[2])


def _surface(mask: Mask, inward: bool) -> tuple[Float, Float, Float] | None:
    """Surface points of a mask, the unit way to the presumed centre, and the area of each."""
    box = shapes.box_of(mask.values, (3, 3, 3))
    if box is None:
        return None
    grid = mask.grid.crop(box)
    sigma = [1.5 / s for s in grid.spacing_mm]
    smooth = ndimage.gaussian_filter(mask.values[box].astype(np.float32), sigma)
    edge = mask.values[box] & ~ndimage.binary_erosion(mask.values[box], border_value=1)
    index = np.argwhere(edge)
    slope = np.stack(list(np.gradient(smooth)), axis=-1)[edge]
    normal = slope @ grid.inverse[:3, :3]  # towards the inside of the bone
    length = np.linalg.norm(normal, axis=1)
    good = length > 1e-6
    index, normal = index[good], normal[good] / length[good][:, None]
    skip = max(1, len(index) // _SURFACE_POINTS)
    index, normal = index[::skip], normal[::skip]
    # A surface voxel stands for its volume over its thickness along the normal.
    thick = np.abs(normal @ grid.axes) @ np.asarray(grid.spacing_mm)
    area = skip * grid.voxel_ml * 1000.0 / thick
    points = grid.to_world(index)
    return points, normal if inward else -normal, area


def _fitted(
    points: Float, towards: Float, area: Float, centre: Float, radius: float
) -> Ball | None:
    """Least squares sphere through the points near the voted one whose normals agree."""
    near = np.zeros(len(points), dtype=bool)
    for _ in range(4):
        way = centre - points
        away = np.linalg.norm(way, axis=1)
        agree = np.einsum("ij,ij->i", way, towards) > 0.8 * away
        near = (np.abs(away - radius) < 3.0) & agree
        if near.sum() < 30:
            return None
        design = np.column_stack([2 * points[near], np.ones(near.sum())])
        answer, *_ = np.linalg.lstsq(design, (points[near] ** 2).sum(axis=1), rcond=None)
        centre = answer[:3]
        radius = float(np.sqrt(max(answer[3] + centre @ centre, 1.0)))
    support = float(area[near].sum() / (4 * np.pi * radius**2))
    fact = anatomy.value("femoral_head_radius")
    plausible = 0.7 * (fact.low or 0) < radius < 1.3 * (fact.high or np.inf)
    if support < 0.1 or not plausible:
        return None
    return Ball(centre_mm=centre, radius_mm=radius, support=support)


def ball_mask(centre_mm: Float, radius_mm: float, grid: Grid) -> Mask:
    """Which voxel centres lie within a sphere."""
    out = np.zeros(grid.shape, dtype=bool)
    box = grid.around(centre_mm, radius_mm)
    part = grid.crop(box)
    points = part.to_world(np.moveaxis(np.indices(part.shape), 0, -1))
    out[box] = np.linalg.norm(points - centre_mm, axis=-1) <= radius_mm
    return Mask(grid=grid, values=out)


# --- Joints ------------------------------------------------------------------------------------


def _joint(treated: Mask, other: Mask, gap: str, ball: Ball | None) -> Mask:
    """The space between two bones and the subchondral sheet of the one that is not treated."""
    width = anatomy.value(gap).mean
    sheet = anatomy.value("joint_surface").mean
    out = np.zeros(treated.grid.shape, dtype=bool)
    pad = tuple(int(np.ceil(2 * width / s)) + 1 for s in treated.grid.spacing_mm)
    a, b = shapes.box_of(treated.values, pad), shapes.box_of(other.values, pad)  # type: ignore[arg-type]
    if a is None or b is None:
        return Mask(grid=treated.grid, values=out)
    box = tuple(
        slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True)
    )
    if any(s.stop <= s.start for s in box):
        return Mask(grid=treated.grid, values=out)
    spacing = treated.grid.spacing_mm
    one, two = treated.values[box], other.values[box] & ~treated.values[box]
    to_one = field_kernels.distance_to(one, spacing)
    to_two = field_kernels.distance_to(two, spacing)
    # Voxel centres of two bones in contact are one voxel apart: the surfaces lie half way.
    half = max(spacing) / 2
    joint = (
        ~one & ~two & (to_one <= width) & (to_two <= width) & (to_one + to_two <= width + 2 * half)
    )
    depth = field_kernels.distance_to(~two, spacing)
    joint |= two & (depth <= sheet + half) & (to_one <= width + sheet)
    out[box] = joint
    if ball is not None:
        out &= ball_mask(ball.centre_mm, ball.radius_mm + width, treated.grid).values
    return Mask(grid=treated.grid, values=out)


# --- Parts -------------------------------------------------------------------------------------


def _split(mask: Mask, part_of: NDArray[np.intp], names: tuple[str, ...]) -> dict[str, Mask]:
    """Masks of the numbered parts; ``part_of`` runs over the set voxels in array order."""
    where = np.nonzero(mask.values)
    out = {}
    for number, name in enumerate(names):
        values = np.zeros(mask.grid.shape, dtype=bool)
        values[where] = part_of == number
        out[name] = Mask(grid=mask.grid, values=values)
    return {n: m for n, m in out.items() if not m.is_empty}


def _hip_regions(hip: Mask, ball: Ball, side: str) -> dict[str, Mask]:
    """The hip bone in parts that share no voxel, by place relative to the femoral head.

    Measured in head radii R from its centre: above R + ``roof_height`` wing, above R/2 roof; beside
    it the columns in front and behind; medial in front the superior ramus; below behind the ischium
    with its tuberosity; what is left below in front is the inferior ramus.
    """
    names = (
        "iliac_wing", "supra_acetabular", "anterior_column", "posterior_column",
        "superior_ramus", "ischium", "tuberosity", "inferior_ramus",
    )  # fmt: skip
    R = ball.radius_mm
    away = hip.points_mm() - ball.centre_mm
    lateral = away[:, 0] * (1.0 if side == "left" else -1.0)
    back, up = away[:, 1], away[:, 2]
    behind_below = (up < -R / 2) & (back > -R / 4)
    floor = up[behind_below].min() if behind_below.any() else 0.0
    ramus = (back < 0) & (lateral < -R) & (up <= R / 2) & (up > -1.6 * R)
    part = np.select(
        [
            up > R + anatomy.value("roof_height").mean,
            up > R / 2,
            ramus,
            behind_below
            & (up < floor + anatomy.value("tuberosity_height").mean)
            & (lateral > -1.6 * R),
            behind_below & (lateral > -1.6 * R),
            (up <= -R / 2) & (lateral < -R / 2) & (back < 0) & (up > -1.6 * R),
            up <= -R / 2,
            back < 0,
        ],
        [0, 1, 4, 6, 5, 4, 7, 2],
        default=3,
    )
    return _split(hip, part, names)


def _femur_regions(
    femur: Mask, ball: Ball, axes: Axes, shaft: tuple[Float, Float] | None
) -> dict[str, Mask]:
    R = ball.radius_mm
    points = femur.points_mm()
    away = points - ball.centre_mm
    below = -(away @ axes.superior)
    way = neck_axis(points, ball, axes, shaft)
    along = away @ way
    start = anatomy.value("shaft_below_head").mean * R
    part = np.select(
        [
            below > start,
            (along < 0.75 * R) & (np.linalg.norm(away, axis=1) < 1.25 * R),
            along < 1.6 * R,
        ],
        [3, 0, 1],
        default=2,
    )
    return _split(femur, part, ("head", "neck", "trochanteric", "shaft"))


def neck_axis(points: Float, ball: Ball, axes: Axes, shaft: tuple[Float, Float] | None) -> Float:
    """Unit way from the head's centre down the neck: to the middle of the bone beyond the head.

    The middle of what lies between one and a half and two radii from the centre on the shaft's
    side is the base of the neck.
    """
    away = points - ball.centre_mm
    distance = np.linalg.norm(away, axis=1) / ball.radius_mm
    ring = (distance > 1.2) & (distance < 1.7)
    way = away[ring].mean(axis=0) if ring.any() else -axes.superior
    out: Float = way / np.linalg.norm(way)
    return out


def _shaft(points: Float) -> tuple[Float, Float]:
    """A point on a long bone's axis and its unit way towards the head."""
    middle = points.mean(axis=0)
    _, v = np.linalg.eigh(np.cov((points - middle).T))
    way = v[:, -1]
    return middle, way if way[2] > 0 else -way


# --- Sacrum ------------------------------------------------------------------------------------


def _sacral_axes(sacrum: Mask) -> Axes:
    """Frame along the upper sacrum: the line through the middles of its midline strip."""
    points = sacrum.points_mm()
    x = float(np.median(points[:, 0]))
    strip = points[np.abs(points[:, 0] - x) <= anatomy.value("sacral_canal_half_width").mean]
    top = np.percentile(strip[:, 2], 99)
    height = top - np.percentile(strip[:, 2], 1)
    upper = strip[strip[:, 2] > top - 0.6 * height]
    z = np.round(upper[:, 2])
    levels = np.unique(z)
    middles = np.array([[x, upper[z == k, 1].mean(), k] for k in levels])
    _, _, v = np.linalg.svd(middles - middles.mean(axis=0))
    way = v[0] if v[0][2] > 0 else -v[0]
    return axes_from(middles[len(middles) // 2 :].mean(axis=0), way, np.array([0.0, 1.0, 0.0]))


def _own_grid(sacrum: Mask, axes: Axes) -> Grid:
    local = np.abs(axes.local(sacrum.points_mm())).max(axis=0)[::-1] + 5.0
    matrix = np.stack([axes.superior, axes.posterior, axes.left], axis=1)
    half = (float(local[0]), float(local[1]), float(local[2]))
    return shapes.on_axes(axes.origin_mm, matrix, half, _LOCAL_MM, sacrum.grid.frame)


def _own_places(grid: Grid) -> tuple[Float, Float, Float]:
    s, p, l = ((np.arange(n) - n // 2) * _LOCAL_MM for n in grid.shape)
    return s, p, l


def _holes(taken: shapes.Bool, axis: int) -> shapes.Bool:
    """What is enclosed by bone in the cuts across one axis."""
    cuts = np.moveaxis(taken, axis, 0)
    out = np.stack([ndimage.binary_fill_holes(c) & ~c for c in cuts])
    return np.moveaxis(out, 0, axis)


def _foramina(
    taken: shapes.Bool, l: Float, canal: shapes.Bool, grid: Grid
) -> dict[str, shapes.Bool]:
    least = anatomy.value("sacral_foramen_least").mean / grid.voxel_ml
    holes = ndimage.binary_closing(_holes(taken, 1), iterations=1) & ~canal & ~taken
    out = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        beside = (l * sign > 6.0) & (l * sign < 40.0)
        pieces, count = ndimage.label(holes & beside)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        keep = sizes >= least
        keep[0] = False
        out[side] = keep[pieces]
    return out


def _back_on(local: shapes.Bool, grid: Grid, sacrum: Mask, more: shapes.Bool) -> Mask:
    near = shapes.near(sacrum, 5.0).values
    values = shapes.occupancy(Mask(grid=grid, values=local), sacrum.grid) > 0.5
    return Mask(grid=sacrum.grid, values=(values | (more & near)) & (~sacrum.values | more))


def _sacral_regions(sacrum: Mask, axes: Axes, side_at: float) -> dict[str, Mask]:
    left = axes.local(sacrum.points_mm())[:, 0]
    part = np.where(np.abs(left) <= side_at, 2, np.where(left > 0, 0, 1))
    return _split(sacrum, part, ("ala_left", "ala_right", "sacral_body"))
