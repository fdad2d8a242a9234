"""Holes in the cortex where a lesion has eaten through it: which wall, where, how large.

The outline of the bone is laid with triangles. From each corner the CT is read along the normal;
where it meets no cortex and the lesion lies beneath, the wall is open. What counts as cortex is
judged by the same bone: half way between the lesion and the walls the lesion has not reached.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.facts import tissue
from trocar.imaging import outline
from trocar.imaging.surface import Surface, triangulate
from trocar.kernels import field
from trocar.model.case import WallDefect
from trocar.model.result import Anatomy
from trocar.model.space import Float, Mask, Volume

Bool = NDArray[np.bool_]

# The method's own lengths; none describes a tissue.
_SMOOTH_MM = 1.0  # evens the voxel staircase of the outline
_FINE_MM = 0.4  # takes the finest noise off before a profile's peak is read
_PROFILE = 13  # samples along a profile
_CONTACT_MM = 1.0  # so near, and half a voxel, the lesion must come to the outline
_RIM_MM = (2.0, 5.0)  # the wall around a hole by which its edge is judged
_MINOR = 0.2  # a hole is split between walls when each has at least this share of it
_OUTER_MM = 0.75  # the outline may run this far inside the true surface
_REACH_MM = 40.0  # bone farther than this from the lesion is not looked at
_APART_MM = 4.0  # walls farther than this from the lesion are healthy reference
_FEW = 60  # fewer corners than this are no reference
_MIRRORED = {
    "left lateral wall": "right lateral wall",
    "left pedicle": "right pedicle",
    "superior end plate": "inferior end plate",
}
_PELVIC = ("ilium", "acetabulum", "ischium", "pubis")


def wall_defects(ct: Volume, anatomy: Anatomy, lesion_mask: Mask) -> tuple[WallDefect, ...]:
    """Where has the lesion broken the bone's wall? One record per hole, largest first.

    A hole is a connected patch of the bone's outline beneath which the lesion lies and along whose
    normals no cortex is met; its area is taken on the outer surface, its edge where the cortex
    falls to half. Walls are judged by the lesion-free walls of the same name and their mirror
    image, so that thin end plates and osteopenic cortex are not called holes. Needs a CT and a
    lesion on grids of the same frame; an empty lesion has no holes.
    """
    ct.grid.require_frame(anatomy.grid, "the CT and the anatomy")
    lesion = lesion_mask.on(anatomy.grid)
    if lesion.is_empty or anatomy.bone.is_empty:
        return ()
    box = lesion.box(_REACH_MM)
    bone, lesion = anatomy.bone.crop(box), lesion.crop(box)
    if not np.any(bone.values & lesion.values):
        return ()
    surface = _outer_surface(bone)
    if len(surface.faces) == 0:
        return ()
    view = ct.on(bone.grid) if not ct.grid.matches(bone.grid) else ct
    fine = outline.smooth(view.values, _FINE_MM, bone.grid.spacing_mm)
    step = np.abs(surface.normals @ bone.grid.axes) @ np.asarray(bone.grid.spacing_mm)
    level = _lesion_level(fine, bone, lesion)
    peak, mineral = _profiles(fine, surface, bone, step, level)
    gap = _gap(surface, lesion)
    walls = name_walls(anatomy, surface.points_mm, surface.normals)
    normal = _reference(peak, gap, walls)
    usual = _reference(mineral, gap, walls)
    keep = tissue.value("cortex_defect_fraction").mean
    contact = _CONTACT_MM + step / 2 - gap  # negative where the lesion does not come near enough
    # A thin plate across thick slices is a low peak but keeps its mineral: open needs both gone.
    least = (1 - keep / 2) * usual
    contact = np.minimum(contact, (least - mineral) / np.maximum(least, 1.0))
    lack = _lack(peak, level + keep * (normal - level), contact)
    for piece in _pieces(surface.faces, lack > 0):
        local = _rim(peak, surface, piece, normal, gap)
        near = local < normal
        lack[near] = _lack(peak, level + keep * (local - level), contact)[near]
    return _holes(surface, lack, _bare(surface, peak, step), walls)


def name_walls(anatomy: Anatomy, points_mm: Float, normals: Float) -> NDArray[np.str_]:
    """Which wall of the bone each point of its surface belongs to, by place and outward normal."""
    if anatomy.site.kind == "vertebra":
        return _vertebra_walls(anatomy, points_mm, normals)
    if anatomy.site.kind in _PELVIC:
        return _hip_walls(anatomy, points_mm, normals)
    return np.full(len(points_mm), "cortex", dtype="<U20")


def _outer_surface(bone: Mask) -> Surface:
    """The bone's outline in the box, without the faces where the box or the image cuts the bone."""
    inner = np.asarray(bone.grid.shape) - 1.5

    def keep(centres_mm: Float) -> Bool:
        index = bone.grid.to_index(centres_mm)
        out: Bool = np.all((index > 0.5) & (index < inner), axis=1)
        return out

    return triangulate(bone, smooth_mm=_SMOOTH_MM, keep=keep)


def _profiles(
    fine: NDArray[Any], surface: Surface, bone: Mask, step: Float, level: float
) -> tuple[Float, Float]:
    """Along each normal, from just outside to the depth of cortex: the highest HU, and the mineral.

    The mineral is what stands above the lesion's level, summed along the profile (HU mm). Where
    slices are coarse along the normal (``step`` in mm) the outline itself is uncertain by half a
    step, so the profile is that much longer on both sides.
    """
    spare = np.maximum(step - 1.0, 0.0) / 2
    low, high = -_OUTER_MM - spare, tissue.value("cortex_shell").mean + spare
    peak = np.full(len(surface.points_mm), -np.inf)
    mineral = np.zeros(len(surface.points_mm))
    for part in np.linspace(0.0, 1.0, _PROFILE):
        t = low + part * (high - low)
        index = bone.grid.to_index(surface.points_mm - t[:, None] * surface.normals)
        hu = field.sample_linear(fine, index, -np.inf)
        peak = np.maximum(peak, hu)
        mineral += np.maximum(hu - level, 0.0) * (high - low) / _PROFILE
    return peak, mineral


def _gap(surface: Surface, lesion: Mask) -> Float:
    """Distance from each corner of the surface to the lesion's own surface, 0 inside it."""
    distance = field.signed_distance(lesion.values, lesion.grid.spacing_mm)
    index = lesion.grid.to_index(surface.points_mm)
    return np.maximum(field.sample_linear(distance, index, np.inf), 0.0)


def _lesion_level(fine: NDArray[Any], bone: Mask, lesion: Mask) -> float:
    inside = bone.values & lesion.values
    depth = outline.depth(inside, bone.grid.spacing_mm)
    return float(np.median(fine[inside & (depth >= depth.max() / 2)]))


def _reference(peak: Float, gap: Float, walls: NDArray[np.str_]) -> Float:
    """What cortex reads where it is whole: the wall itself beyond the lesion, or its mirror image.

    Where neither shows enough of itself, all walls away from the lesion serve.
    """
    healthy = gap > _APART_MM
    twins = {**_MIRRORED, **{b: a for a, b in _MIRRORED.items()}}
    everywhere = float(np.median(peak[healthy])) if healthy.any() else np.nan
    out = np.full(len(peak), everywhere)
    for wall in np.unique(walls):
        here = walls == wall
        alike = healthy & (here | (walls == twins.get(str(wall), "")))
        if np.count_nonzero(alike) >= _FEW:
            out[here] = np.median(peak[alike])
    return np.where(np.isnan(out), tissue.value("hu_cortical").mean, out)


def _lack(peak: Float, half: Float, contact: Float) -> Float:
    """How far below half each corner reads, in parts of it; negative where nothing touches."""
    out: Float = np.minimum((half - peak) / np.maximum(np.abs(half), 1.0), contact)
    return out


def _bare(surface: Surface, peak: Float, step: Float) -> Bool:
    """Corners without any cortex, and none beside them within half a voxel step.

    Where a dome crosses thick slices its cortex is cut into steps, and between two of them a
    profile can slip through; a hole is wider than that.
    """
    from scipy.spatial import cKDTree

    out: Bool = peak < tissue.value("hu_cortex_defect").mean
    index = np.flatnonzero(out)
    tree = cKDTree(surface.points_mm)
    beside = tree.query_ball_point(surface.points_mm[index], step[index] / 2)
    kept = [bool(out[near].all()) for near in beside]
    out[index] = kept
    return out


def _rim(
    peak: Float, surface: Surface, piece: NDArray[np.int64], normal: Float, gap: Float
) -> Float:
    """The reference around one hole, where the wall beside it is thinner than walls elsewhere.

    The wall just beyond the hole knows best how thick the cortex was; it may lower the reference
    near the hole but never raise it, nor lower it beyond what still counts as cortex.
    """
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(surface.points_mm[piece]).query(
        surface.points_mm, distance_upper_bound=_RIM_MM[1]
    )
    rim = (distance >= _RIM_MM[0]) & (distance <= _RIM_MM[1])
    out = normal.copy()
    if np.count_nonzero(rim) >= _FEW // 4:
        local = max(float(np.median(peak[rim])), tissue.value("hu_cortex_defect").mean)
        near = distance <= _RIM_MM[0]
        out[near] = np.minimum(normal[near], local)
    return out


def _holes(
    surface: Surface, lack: Float, bare: Bool, walls: NDArray[np.str_]
) -> tuple[WallDefect, ...]:
    """Connected open patches that hold at least one corner without any cortex, wall by wall."""
    weight = _positive_share(lack[surface.faces]) * surface.areas_mm2
    found = []
    for piece in _pieces(surface.faces[weight > 0], lack > 0):
        if not bare[piece].any():
            continue
        corner = np.zeros(len(lack), dtype=bool)
        corner[piece] = True
        patch = weight * corner[surface.faces].any(axis=1)
        if patch.sum() >= tissue.value("defect_least").mean:
            found += _by_wall(surface, patch, corner, walls)
    return tuple(sorted(found, key=lambda d: -d.area_mm2))


def _by_wall(
    surface: Surface, patch: Float, corner: Bool, walls: NDArray[np.str_]
) -> list[WallDefect]:
    """One defect per wall that has a fair share of the patch; small shares join the largest."""
    names = walls[surface.faces[:, 0]]
    areas = {str(n): float(patch[names == n].sum()) for n in np.unique(names[patch > 0])}
    main = max(areas, key=lambda n: areas[n])
    least = max(_MINOR * patch.sum(), tissue.value("defect_least").mean)
    owner = np.array([n if areas.get(str(n), 0.0) >= least else main for n in names])
    found = []
    for wall in np.unique(owner[patch > 0]):
        part = np.where(owner == wall, patch, 0.0)
        used = np.unique(surface.faces[part > 0])
        found.append(
            WallDefect(
                wall=str(wall),
                area_mm2=float(part.sum()),
                centre_mm=np.average(surface.centres_mm, axis=0, weights=part),
                extent_mm=longest_mm(surface.points_mm[used[corner[used]]]),
                points_mm=surface.points_mm[used[corner[used]]],
            )
        )
    return found


def _positive_share(corners: Float) -> Float:
    """Share of each triangle in which a quantity, linear between its corners (m, 3), is positive.

    >>> _positive_share(np.array([[1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])).tolist()
    [0.25, 1.0, 0.75]
    """
    # Seen from the corner that stands alone: the small triangle cut off there.
    ordered = np.sort(corners, axis=1)
    low, middle, high = ordered.T
    one = (high > 0) & (middle <= 0)
    two = (middle > 0) & (low <= 0)
    top = high**2 / np.maximum((high - middle) * (high - low), 1e-12)
    bottom = low**2 / np.maximum((middle - low) * (high - low), 1e-12)
    out: Float = np.where(one, top, np.where(two, 1 - bottom, (low > 0).astype(float)))
    return out


def _pieces(faces: NDArray[np.int64], is_open: Bool) -> list[NDArray[np.int64]]:
    """The connected patches of open corners, each as the numbers of its corners."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[is_open[edges].all(axis=1)]
    if len(edges) == 0:
        return []
    n = len(is_open)
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    _, number = connected_components(graph, directed=False)
    used = np.unique(edges)
    return [used[number[used] == k] for k in np.unique(number[used])]


def longest_mm(points_mm: Float) -> float:
    """Longest distance between any two of the points."""
    corners = hull_points(points_mm)
    if len(corners) < 2:
        return 0.0
    gaps = np.linalg.norm(corners[:, None] - corners[None], axis=2)
    return float(gaps.max())


def hull_points(points: Float) -> Float:
    """The points on the convex hull (all of them where they are too few or flat for one)."""
    from scipy.spatial import ConvexHull, QhullError

    if len(points) <= points.shape[1] + 1:
        return points
    try:
        out: Float = points[ConvexHull(points).vertices]
    except QhullError:
        return points[:: max(1, len(points) // 2000)]
    return out


def _vertebra_walls(anatomy: Anatomy, points_mm: Float, normals: Float) -> NDArray[np.str_]:
    """Body walls by the normal in the vertebra's own axes; pedicles by their regions."""
    axes = anatomy.axes
    local = normals @ np.stack([axes.left, axes.posterior, axes.superior], axis=1)
    names = np.array(
        [
            ["right lateral wall", "left lateral wall"],
            ["anterior wall", "posterior wall"],
            ["inferior end plate", "superior end plate"],
        ]
    )
    main = np.argmax(np.abs(local), axis=1)
    positive = local[np.arange(len(local)), main] > 0
    out: NDArray[np.str_] = names[main, positive.astype(int)].astype("<U20")
    regions = ("vertebral_body", "pedicle_left", "pedicle_right", "arch")
    nearest = _nearest_region(anatomy, points_mm, regions)
    for region, wall in (
        ("pedicle_left", "left pedicle"),
        ("pedicle_right", "right pedicle"),
        ("arch", "cortex"),
    ):
        out[nearest == region] = wall
    return out


def _hip_walls(anatomy: Anatomy, points_mm: Float, normals: Float) -> NDArray[np.str_]:
    """Hip bone: the joint side by its distance to the joint space, the others by their normal."""
    side = anatomy.site.side
    outward = normals @ anatomy.axes.left * (1.0 if side == "left" else -1.0)
    back = normals @ anatomy.axes.posterior
    lateral = np.abs(outward) >= np.abs(back)
    out = np.where(
        lateral,
        np.where(outward > 0, "lateral wall", "medial wall"),
        np.where(back > 0, "posterior wall", "anterior wall"),
    ).astype("<U20")
    joint = anatomy.structures.get(f"hip_joint_{side}")
    if joint is not None and not joint.is_empty:
        gap = _distance_at(joint, points_mm)
        out[gap <= tissue.value("joint_reach").mean] = "articular surface"
    return out


def _nearest_region(
    anatomy: Anatomy, points_mm: Float, regions: tuple[str, ...]
) -> NDArray[np.str_]:
    """Name of the region nearest to each point ("" where there are no regions)."""
    best = np.full(len(points_mm), np.inf)
    out = np.full(len(points_mm), "", dtype="<U20")
    for name in regions:
        mask = anatomy.regions.get(name)
        if mask is None or mask.is_empty:
            continue
        # Earlier names go first where two regions meet: a wall of the body is not arch.
        gap = _distance_at(mask, points_mm) + (
            np.linalg.norm(mask.grid.spacing_mm) if out.any() else 0
        )
        out[gap < best] = name
        best = np.minimum(best, gap)
    return out


def _distance_at(mask: Mask, points_mm: Float) -> Float:
    """Distance from points to a mask, worked out in the box of the points and a margin."""
    box = mask.grid.around(points_mm, _REACH_MM)
    part = mask.crop(box)
    distance = field.distance_to(part.values, part.grid.spacing_mm)
    return np.nan_to_num(
        field.sample_linear(distance, part.grid.to_index(points_mm), np.inf), nan=np.inf
    )
