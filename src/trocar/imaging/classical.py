"""Bones from one click, without labels: threshold, shape, and the dark seams between bones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.errors import InputError
from trocar.facts import anatomy, tissue
from trocar.imaging import pelvis, shapes
from trocar.imaging.foreign import find_foreign
from trocar.imaging.vertebra import axes_from
from trocar.model.case import LEVELS, Finding, Gravity, Site
from trocar.model.space import Float, Grid, Labels, Mask, Volume

_CELL_MM = 1.0  # cell of the working grid; the seams between facets are about as wide
_WIDE_CELL_MM = 1.5  # for the pelvis and femur, which need twice the room
_BLUR_MM = 0.6  # takes the noise off thin cortex without closing the seams
_SEED_MM = 4.0  # bone this near to the click is surely the clicked one
_CANAL_CUTS = 6  # a hole seen in so many cuts at one place is the canal
_OFF_WAY_MM = 6.0  # a hole further from the canal's way is marrow or a lesion
_RING_NEAR_CUTS = 15  # cuts above and below the click in which a breached ring is looked for
_RING_STANDS = 0.9  # part of the rear two thirds of a ring that must be bone for it to count
_UPRIGHT = np.eye(3)[:, ::-1]
_TREATED, _OTHER = 1, 2


@dataclass(frozen=True, eq=False, kw_only=True)
class _Patch:
    """The surroundings of a click on an upright isotropic grid [superior, posterior, left]."""

    grid: Grid
    hu: NDArray[np.float32]  # smoothed
    bone: shapes.Bool  # above the threshold, metal left out
    metal: shapes.Bool

    def index(self, point_mm: Float) -> tuple[int, int, int]:
        a, b, c = np.rint(self.grid.to_index(point_mm)).astype(int).tolist()
        return a, b, c


def outline_bones(
    ct: Volume, site: Site, click_mm: Float, body: Mask
) -> tuple[Labels, tuple[Finding, ...]]:
    """Which voxels are the clicked bone, and which are its neighbours?

    The result is a label map on the CT's grid: the site's bone and ``other_bone``. A vertebra is
    cut from its neighbours at the discs and facet joints, a hip from its femur round the head;
    other bones at their narrow places only. Raises :class:`InputError` when the click lies outside
    the image, outside the patient or not in bone, or
    when hardly any bone can be outlined from it.
    """
    click = np.asarray(click_mm, dtype=np.float64)
    _check_click(ct, click, body)
    spine = site.kind == "vertebra"
    patch = _patch(ct, click, _UPRIGHT, _CELL_MM if spine else _WIDE_CELL_MM)
    if spine:
        patch, guide = _along_spine(ct, patch, click)
        treated = _vertebra(patch, click, site.level, guide)
    elif site.kind in ("femur", "ilium", "acetabulum", "ischium", "pubis"):
        treated = _hip_or_femur(patch, site, click)
    else:
        treated = _piece(patch, click)
    volume_ml = int(treated.sum()) * patch.grid.voxel_ml
    if volume_ml < anatomy.value("least_bone").mean:
        raise InputError(
            f"only {volume_ml:.1f} ml of bone could be outlined from this click; click in the "
            "middle of the marrow, away from joints and edges, or give labels"
        )
    values = np.where(treated, _TREATED, np.where(patch.bone, _OTHER, 0)).astype(np.uint8)
    names = {_TREATED: site.bone_label, _OTHER: "other_bone"}
    labels = Labels(grid=patch.grid, values=values, names=names).on(ct.grid)
    return labels, (_unaided(str(site)),)


def _unaided(site: str) -> Finding:
    return Finding(
        gravity=Gravity.CAUTION,
        message="No labels were given: {site} was outlined from one click by thresholds and shape. "
        "Compare the outline with the images; vessels, nerves, lungs and bowel were not sought.",
        values={"site": site},
    )


def _check_click(ct: Volume, click: Float, body: Mask) -> None:
    place = ", ".join(f"{v:.1f}" for v in click)
    if click.shape != (3,) or not bool(ct.grid.contains(click)):
        raise InputError(
            f"the click ({place}) mm lies outside the image; give LPS mm of a point in the bone"
        )
    if not bool(body.holds(click)):
        raise InputError(
            f"the click ({place}) mm lies outside the patient; give LPS mm of a point in the bone "
            "(first two signs are the other way round in RAS)"
        )


def _patch(ct: Volume, centre: Float, axes: Float, cell_mm: float = _CELL_MM) -> _Patch:
    """The CT around a point on the axes (columns: superior, posterior, left), inside the image."""
    half = anatomy.value("patch_half").mean * cell_mm / _CELL_MM
    grid = shapes.on_axes(centre, axes, (half, half, half), cell_mm, ct.grid.frame)
    ends = np.array(np.meshgrid(*((0, n - 1) for n in ct.grid.shape))).reshape(3, -1).T
    grid = grid.crop(grid.around(ct.grid.to_world(ends)))
    hu = ct.on(grid, outside=tissue.value("hu_air").mean).values
    hu = ndimage.gaussian_filter(hu, _BLUR_MM / cell_mm)
    metal = find_foreign(Volume(grid=grid, values=hu)).values
    patch = _Patch(grid=grid, hu=hu, bone=~metal, metal=metal)
    return _thresholded(patch, tissue.value("hu_bone").mean)


def _thresholded(patch: _Patch, hu: float) -> _Patch:
    return replace(patch, bone=(patch.hu > hu) & ~patch.metal)


# --- Vertebra ----------------------------------------------------------------------------------


def _along_spine(ct: Volume, upright: _Patch, click: Float) -> tuple[_Patch, Float]:
    """The surroundings again on axes along the canal, whose rings at all levels show its way.

    The second value is that way, points in mm from foot to head.
    """
    canal = _canal_holes(upright, click)
    if len(canal) < 3:
        raise InputError(
            "no bony ring with a canal was found behind the click; click in the middle of the "
            "vertebral body, or give labels"
        )
    points = upright.grid.to_world(canal[:, :3])
    here = points[np.abs(points[:, 2] - click[2]) <= anatomy.value("patch_half").mean / 2]
    z = here[:, 2] - here[:, 2].mean()
    slope = (z @ (here - here.mean(axis=0))) / max(float(z @ z), 1.0)
    axes = axes_from(click, np.array([slope[0], slope[1], 1.0]), np.array([0.0, 1.0, 0.0]))
    patch = _patch(ct, click, np.stack([axes.superior, axes.posterior, axes.left], axis=1))
    return patch, points


def _vertebra(patch: _Patch, click: Float, level: str, guide_mm: Float) -> shapes.Bool:
    """Canal ring first, then the discs above and below it, then body and arch between seams."""
    holes = _canal_holes(patch, click, guide_mm)
    if len(holes) == 0:
        raise InputError(
            "no bony ring with a canal was found behind the click; click in the middle of the "
            "vertebral body, or give labels"
        )
    at = patch.index(click)
    near = holes[np.abs(holes[:, 0] - _nearest_run(holes[:, 0], at[0])) <= 8]
    ring, row, column, front = np.median(near, axis=0)
    centre = np.array([ring, row - front - anatomy.value("body_half_depth").mean, column])
    place = np.moveaxis(np.indices(patch.grid.shape), 0, -1) - centre
    *planes, edge = _disc_planes(patch, centre, pitch_mm(level), np.array(at) - centre)
    bone = tissue.value("hu_bone").mean
    patch = _thresholded(patch, float(np.clip(edge, bone / 2, bone)))
    upper, lower = (
        place[..., 0] - plane[0] - place[..., 1] * plane[1] - place[..., 2] * plane[2]
        for plane in planes
    )
    before = place[..., 1] <= row - front - centre[1]
    slab = (upper < 0) & (lower > 0)
    body = _body(patch, place, slab, row - front - centre[1])
    markers = _markers(patch, place, body, upper, lower, holes, ring)
    return _with_arch(patch, body, markers, before)


def _canal_holes(patch: _Patch, click: Float, guide_mm: Float | None = None) -> Float:
    """Rings around the canal: (slice, row, column) of their middle and the way to their front.

    A hole in an axial cut of the bone, behind the click, as large as a canal, and in line with the
    holes of the cuts next to it. Lower thresholds close thin rings: each cut counts with the first
    threshold that shows a hole. A guide (the canal's way, mm) keeps marrow and lytic lesions out;
    with it, rings that a lesion has breached in front count as well.
    """
    at = patch.index(click)
    way = None if guide_mm is None else _way(patch, guide_mm)
    found: dict[int, list[Float]] = {}
    for part in (1.5, 1.0, 0.75, 0.5):
        level = part * tissue.value("hu_bone").mean
        for k in range(patch.grid.shape[0]):
            cut = [] if k in found else _holes_of_size(patch.hu[k] > level)
            if way is not None:
                cut = [h for h in cut if np.hypot(*(np.array(h[:2]) - way[k])) < _OFF_WAY_MM]
            if cut:
                found[k] = [np.array([k, *h]) for h in cut]
    holes = _in_line(found, np.array(at, dtype=float))
    return holes if way is None else _with_breached(patch, holes, way, at[0])


def _way(patch: _Patch, guide_mm: Float) -> Float:
    """(row, column) of the canal in every cut of the patch, from points along it."""
    index = patch.grid.to_index(guide_mm)
    index = index[np.argsort(index[:, 0])]
    cuts = np.arange(patch.grid.shape[0])
    return np.stack([np.interp(cuts, index[:, 0], index[:, axis]) for axis in (1, 2)], axis=1)


def _with_breached(patch: _Patch, holes: Float, way: Float, at: int) -> Float:
    """The holes and, near the click, cuts whose ring is whole but for its front.

    There the canal and a lesion that broke through the rear wall are one dark region. Arch and
    both pedicles still stand around the canal's way on three sides.
    """
    if len(holes) == 0:
        return holes
    turn = np.radians(np.arange(-120, 121, 10))  # 0 is behind; the front third may be missing
    reach = np.arange(0.0, anatomy.value("canal_reach").mean, 0.5)
    front = float(np.median(holes[:, 3]))
    bone = patch.hu > tissue.value("hu_bone").mean
    added = []
    for k in range(max(0, at - _RING_NEAR_CUTS), min(len(way), at + _RING_NEAR_CUTS + 1)):
        if k in holes[:, 0]:
            continue
        row = np.rint(way[k, 0] + np.cos(turn)[:, None] * reach).astype(int)
        column = np.rint(way[k, 1] + np.sin(turn)[:, None] * reach).astype(int)
        row = np.clip(row, 0, bone.shape[1] - 1)
        column = np.clip(column, 0, bone.shape[2] - 1)
        if bone[k, row, column].any(axis=1).mean() > _RING_STANDS:
            added.append([k, *way[k], front])
    if added:
        holes = np.concatenate([holes, np.array(added, dtype=np.float64)])
    out: Float = holes[np.argsort(holes[:, 0])]
    return out


def _holes_of_size(
    bone: shapes.Bool, cell_mm: float = _CELL_MM
) -> list[tuple[float, float, float]]:
    reach = anatomy.value("canal_reach").mean
    least = 2 * np.pi * anatomy.value("canal_radius_least").mean ** 2
    bone = ndimage.binary_closing(bone)
    pieces, _ = ndimage.label(ndimage.binary_fill_holes(bone) & ~bone)
    out = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        rows, columns = np.nonzero(pieces[box] == number)
        if not least < rows.size * cell_mm**2 < np.pi * (0.75 * reach) ** 2:
            continue
        rows, columns = rows + box[0].start, columns + box[1].start
        middle = np.abs(columns - columns.mean()) <= 3
        out.append((rows.mean(), columns.mean(), rows.mean() - rows[middle].min()))
    return out


def _in_line(found: dict[int, list[Float]], at: Float) -> Float:
    """One hole per cut, followed up and down from the best hole behind the click."""
    reach = anatomy.value("canal_reach").mean
    start = [
        h
        for holes in found.values()
        for h in holes
        if abs(h[0] - at[0]) <= 25 and 8 < h[1] - at[1] < 60 and abs(h[2] - at[2]) < reach
    ]
    if not start:
        return np.zeros((0, 4))
    # The right hole has the most company in the cuts around it: marrow and vessels do not repeat.
    company = [
        sum(np.abs(h[1:3] - g[1:3]).max() < 5 and abs(h[0] - g[0]) <= 6 for g in start)
        for h in start
    ]
    chain = {int(start[int(np.argmax(company))][0]): start[int(np.argmax(company))]}
    first = next(iter(chain))
    for step in (1, -1):
        last = chain[first]
        for k in sorted((k for k in found if (k - first) * step > 0), key=lambda k: k * step):
            gap = abs(k - last[0])
            near = [h for h in found[k] if np.abs(h[1:3] - last[1:3]).max() < 3 + 0.7 * gap]
            if near:
                last = min(near, key=lambda h: float(np.abs(h[1:3] - last[1:3]).max()))
                chain[k] = last
    return np.array([chain[k] for k in sorted(chain)])


def _nearest_run(cuts: Float, at: float) -> float:
    """The middle of the run of neighbouring cuts that lies nearest to the click."""
    runs = np.split(cuts, np.flatnonzero(np.diff(cuts) > 4) + 1)
    middles = np.array([r.mean() for r in runs if len(r) >= 2] or [float(np.median(cuts))])
    return float(middles[np.argmin(np.abs(middles - at))])


def _disc_planes(
    patch: _Patch, centre: Float, pitch: float, click: Float
) -> tuple[Float, Float, float]:
    """The discs above and below as planes s = a + b p + c l (voxels from the body's centre).

    A disc is a dark sheet between two bright end plates: at each height and tilt the mean along
    the sheet is compared with the brightest sheets on either side of it. The click, also in voxels
    from the centre, lies between the two: a lytic lesion is a dark sheet as well. The third value
    is the HU half way from disc to end plate, the edge of this vertebra's bone.
    """
    radius = anatomy.value("disc_probe_radius").mean / _CELL_MM
    pl = np.stack(np.meshgrid(*(np.arange(-radius, radius + 1, 2.0),) * 2), -1).reshape(-1, 2)
    pl = pl[np.hypot(pl[:, 0], pl[:, 1]) <= radius]
    s = np.arange(-60.0, 60.5, 1.0)
    scores, tilts, heights, darkest = [], [], [], np.full(s.size, np.inf)
    for sagittal in np.tan(np.radians(np.arange(-16, 17, 4))):
        for coronal in np.tan(np.radians(np.arange(-12, 13, 4))):
            tilt = np.array([sagittal, coronal])
            height = s[:, None] + pl @ tilt + centre[0]
            index = np.empty((s.size, len(pl), 3), dtype=int)
            index[..., 0] = np.rint(height)
            index[..., 1:] = np.rint(pl + centre[1:])
            profile = _means(patch, index)
            darkest = np.fmin(darkest, profile)
            scores.append(_seam(profile))
            heights.append(click[0] - click[1:] @ tilt)
            tilts.append(tilt)
    table = np.array(scores)
    a, b = _best_pair(table.max(axis=0), s, pitch, float(np.median(heights)))
    planes = [np.array([s[k], *tilts[int(np.argmax(table[:, k]))]]) for k in (a, b)]
    seen = [darkest[k] + table[:, k].max() / 2 for k in (a, b) if table[:, k].max() > 0]
    return planes[0], planes[1], float(min(seen, default=tissue.value("hu_bone").mean))


def _means(patch: _Patch, index: NDArray[np.intp]) -> Float:
    """Mean HU of each row of voxels; NaN where most of a row lies outside the patch."""
    shape = np.array(patch.grid.shape)
    inside = np.all((index >= 0) & (index < shape), axis=-1)
    index = np.clip(index, 0, shape - 1)
    hu = patch.hu[index[..., 0], index[..., 1], index[..., 2]]
    inside &= hu > 0.9 * tissue.value("hu_air").mean  # beyond the image there is nothing to see
    hu = np.where(inside, hu, np.nan)
    out = np.full(len(hu), np.nan)
    known = inside.mean(axis=1) > 0.5
    out[known] = np.nanmean(hu[known], axis=1)
    return out


def _seam(profile: Float) -> Float:
    """How much darker each place of a profile is than the brighter plates 2 to 7 mm either side."""
    out = np.full(profile.size, -np.inf)
    for k in range(7, profile.size - 7):
        sides = profile[k - 7 : k - 1], profile[k + 2 : k + 8]
        if np.isfinite(profile[k]) and all(np.isfinite(s).any() for s in sides):
            out[k] = min(np.nanmax(s) for s in sides) - profile[k]
    return out


def _best_pair(depth: Float, s: Float, pitch: float, click: float) -> tuple[int, int]:
    """Heights of the two seams that are deepest together and about one vertebra apart."""
    upper = np.flatnonzero((s >= 1.0) & (s <= 24.0) & (s > click))
    lower = np.flatnonzero((s >= -36.0) & (s <= -8.0) & (s < click))
    if upper.size == 0 or lower.size == 0:  # the ring seen is not that of the clicked vertebra
        upper, lower = np.flatnonzero(s > click), np.flatnonzero(s < click)
    gap = s[upper][:, None] - s[lower][None, :]
    misfit = np.maximum(0.0, np.abs(gap - pitch) - anatomy.value("pitch_slack").mean)
    # Where the image ends no seam is seen: as good as none, and placed by the pitch alone.
    both = np.maximum(depth[upper], 0.0)[:, None] + np.maximum(depth[lower], 0.0)[None, :]
    both = both - anatomy.value("pitch_weight").mean * misfit
    a, b = np.unravel_index(int(np.argmax(both)), both.shape)
    return int(upper[a]), int(lower[b])


def pitch_mm(level: str) -> float:
    """Usual distance from disc to disc at a level, between those of C3, T1 and L5.

    >>> round(pitch_mm("T1")), round(pitch_mm("L5"))
    (20, 37)
    """
    names = [*LEVELS]
    at = names.index(level) if level in names else names.index("L5")
    known = ("C3", "T1", "L5")
    places = [names.index(n) for n in known]
    return float(np.interp(at, places, [anatomy.value(f"pitch_{n.lower()}").mean for n in known]))


def _body(patch: _Patch, place: Float, slab: shapes.Bool, wall: float) -> shapes.Bool:
    """The body between the discs: the dense voxels around the middle and what they enclose.

    An opening first drops vessels that touch the body. Each axial cut is then filled to its convex
    outline, with marrow, lesion and breaches: the body bulges everywhere but at its rear wall.
    """
    back = place[..., 1]
    half = anatomy.value("body_half_depth").mean
    bone = patch.bone & slab & (back <= wall)
    bone &= (back > -1.7 * half) & (np.abs(place[..., 2]) < 2.2 * half)
    core = ndimage.binary_opening(bone, iterations=2)
    pieces, _ = ndimage.label(core)
    radius = anatomy.value("disc_probe_radius").mean
    middle = np.hypot(place[..., 1], place[..., 2]) <= 1.5 * radius
    sizes = np.bincount(pieces[middle & core].ravel(), minlength=int(pieces.max()) + 1)
    sizes[0] = 0
    shell = (sizes >= 0.2 * max(1, sizes.max()))[pieces]
    shell = shapes.near(Mask(grid=patch.grid, values=shell), 2.5).values & bone
    whole = np.stack([_hull(cut) for cut in shell]) & (back <= wall) & slab
    # Each column ends at its uppermost and lowest bone: the disc's halves are not body.
    below = np.maximum.accumulate(bone, axis=0)
    above = np.maximum.accumulate(bone[::-1], axis=0)[::-1]
    body = shapes.largest(whole & below & above)
    # Columns that met no end plate (Schmorl's nodes, lysis) follow those around them.
    closing = anatomy.value("closing_radius_body").mean
    return shapes.closed(Mask(grid=patch.grid, values=body), closing).values & whole


def _hull(cut: shapes.Bool) -> shapes.Bool:
    """Convex hull of an axial cut of the body's shell, the rear wall drawn straight."""
    from skimage.morphology import convex_hull_image

    if cut.sum() < 3:
        return cut
    out: shapes.Bool = convex_hull_image(cut)
    return out


def _markers(
    patch: _Patch,
    place: Float,
    body: shapes.Bool,
    upper: Float,
    lower: Float,
    holes: Float,
    ring: float,
) -> NDArray[np.int32]:
    """Where flooding starts: bodies, rings round the canal at each level's pedicles, ribs."""
    markers = np.zeros(patch.grid.shape, dtype=np.int32)
    l = place[..., 2]
    wide = anatomy.value("arch_half_width").mean
    middle = np.hypot(place[..., 1], l) < anatomy.value("disc_probe_radius").mean
    markers[patch.bone & (np.abs(l) > wide)] = _OTHER
    markers[middle & ((upper > 2) | (lower < -2))] = _OTHER
    # At the midline behind the canal no part of a vertebra rises above the disc over it.
    spinous = (np.abs(l) < 10) & (place[..., 1] > anatomy.value("body_half_depth").mean)
    markers[patch.bone & spinous & (upper > 2)] = _OTHER
    rows, columns = np.indices(patch.grid.shape[1:])
    for run in np.split(holes, np.flatnonzero(np.diff(holes[:, 0]) > 4) + 1):
        if len(run) < 3:
            continue
        # In the lower half of a run the wall behind is the level's own lamina.
        k = int(np.median(run[:, 0])) - 1
        row, column = np.median(run[:, 1:3], axis=0)
        around = np.hypot(rows - row, columns - column) < anatomy.value("canal_reach").mean
        own = abs(k + 1 - ring) <= 6
        for cut in range(max(0, k - 2), min(patch.grid.shape[0], k + 3)):
            part = around & patch.bone[cut] & (rows < row + 15)
            markers[cut][part] = _TREATED if own else _OTHER
    markers[ndimage.binary_erosion(body)] = _TREATED
    return markers


def _with_arch(
    patch: _Patch, body: shapes.Bool, markers: NDArray[np.int32], before: shapes.Bool
) -> shapes.Bool:
    """Body and arch: what of the bone behind lies nearest to this body without crossing a seam."""
    bone = shapes.closed(Mask(grid=patch.grid, values=patch.bone), 1.0).values | body
    out = _flood_to_seams(patch, markers, bone)
    arch = (out == _TREATED) & ~before
    arch = shapes.closed(Mask(grid=patch.grid, values=arch), 2.0).values & ~before & (out != _OTHER)
    return shapes.largest(body | arch)


def _ball(radius: int) -> shapes.Bool:
    r = np.arange(-radius, radius + 1)
    out: shapes.Bool = r[:, None, None] ** 2 + r[:, None] ** 2 + r**2 <= radius**2
    return out


def _flood_to_seams(
    patch: _Patch, markers: NDArray[np.int32], bone: shapes.Bool
) -> NDArray[np.int32]:
    """Each voxel of bone to the marker that reaches it first without crossing a seam.

    The relief is flat in bone and raised in thin dark seams (joints), so that flooding goes by way
    through bone and meets in the seams.
    """
    from skimage.segmentation import watershed

    seam = ndimage.grey_closing(patch.hu, footprint=_ball(2)) - patch.hu
    relief = np.clip(np.round(seam / anatomy.value("seam_step").mean) - 1, 0, 20).astype(np.uint8)
    out: NDArray[np.int32] = watershed(relief, markers, mask=bone)
    return out


# --- Hip, femur, others ------------------------------------------------------------------------


def _filled_bone(patch: _Patch) -> shapes.Bool:
    """Bone with its marrow: closed a little and filled in axial, coronal and sagittal cuts."""
    shell = shapes.closed(Mask(grid=patch.grid, values=patch.bone), 2.0).values
    out = shell.copy()
    for axis in range(3):
        cuts = np.moveaxis(shell, axis, 0)
        out |= np.moveaxis(np.stack([ndimage.binary_fill_holes(c) for c in cuts]), 0, axis)
    soft = patch.hu > tissue.value("hu_fat").mean * 1.5
    return out & soft


def _hip_or_femur(patch: _Patch, site: Site, click: Float) -> shapes.Bool:
    """Femur and hip bone told apart round the femoral head."""
    patch = _thresholded(patch, 0.7 * tissue.value("hu_bone").mean)  # thin cortex is blurred
    bone = _filled_bone(patch)
    _require_bone(bone, patch, click)
    sign = 1.0 if site.side == "left" else -1.0
    place = patch.grid.to_world(np.moveaxis(np.indices(patch.grid.shape), 0, -1))
    # A head lies lateral of the click or a little medial of it; the sacrum, also round, does not.
    allowed = (place[..., 0] - click[0]) * sign > -anatomy.value("head_medial_of_click").mean
    ball = pelvis.find_ball_in_image(
        patch.hu, patch.grid, 0.7 * tissue.value("hu_bone").mean, allowed
    )
    if ball is None:
        return (
            _piece(patch, click) if site.kind == "femur" else _hip_alone(patch, bone, click, sign)
        )
    bone |= pelvis.ball_mask(ball.centre_mm, ball.radius_mm, patch.grid).values
    away = place - ball.centre_mm
    lateral = away[..., 0] * sign
    up, R = away[..., 2], ball.radius_mm
    distance = np.linalg.norm(away, axis=-1)
    markers = np.zeros(patch.grid.shape, dtype=np.int32)
    rim = anatomy.value("joint_gap").mean
    hip = (distance > R + rim) & ((up > R / 2) & (lateral < R) | (lateral < -R - rim))
    femur = (distance < 0.9 * R) | ((lateral > R / 2) & (up < -R / 2) & (distance > R))
    markers[bone & hip] = 1
    markers[bone & femur] = 2
    # Sacrum, spine and the other side: far enough medial of the click to be beyond the joints.
    markers[bone & (lateral < _sacrum_edge(patch, click, sign, ball.centre_mm[0]))] = 3
    markers[bone & (np.linalg.norm(place - click, axis=-1) < _SEED_MM)] = (
        2 if site.kind == "femur" else 1
    )
    out = _flood_to_seams(patch, markers, bone)
    inside = distance <= R
    femoral = (out == 2) & ((distance > R) | inside) | (bone & inside)
    chosen = femoral if site.kind == "femur" else (out == 1) & ~femoral
    return shapes.filled(_piece_at(ndimage.binary_opening(chosen), patch, click))


def _hip_alone(patch: _Patch, bone: shapes.Bool, click: Float, sign: float) -> shapes.Bool:
    """A hip bone whose socket is not in the image: from the click to the seam of the sacrum."""
    place = patch.grid.to_world(np.moveaxis(np.indices(patch.grid.shape), 0, -1))
    lateral = (place[..., 0] - click[0]) * sign
    markers = np.zeros(patch.grid.shape, dtype=np.int32)
    markers[bone & (lateral < _sacrum_edge(patch, click, sign, float(click[0])))] = _OTHER
    markers[bone & (np.linalg.norm(place - click, axis=-1) < _SEED_MM)] = _TREATED
    out = _flood_to_seams(patch, markers, bone)
    return shapes.filled(_piece_at(ndimage.binary_opening(out == _TREATED), patch, click))


def _sacrum_edge(patch: _Patch, click: Float, sign: float, origin: float) -> float:
    """How far lateral of ``origin`` (mm) bone is surely sacrum, spine or the other side.

    The spinal canal shows the midline where the image holds it: the same hole in many axial cuts,
    well medial of the click. Else a distance from the click must do.
    """
    far = anatomy.value("midline_medial_of_click").mean
    found = []
    for cut in patch.hu:
        for _, column, _ in _holes_of_size(cut > tissue.value("hu_bone").mean, _WIDE_CELL_MM):
            found.append(float(patch.grid.to_world([0, 0, column])[0]))
    x = np.array([v for v in found if (v - click[0]) * sign < -far / 2])
    company = (np.abs(x[:, None] - x) < _SEED_MM).sum(axis=1) if x.size else np.zeros(1)
    if company.max() >= _CANAL_CUTS:
        midline = float(np.median(x[np.abs(x - x[company.argmax()]) < _SEED_MM]))
        edge = (midline - origin) * sign + anatomy.value("sacrum_sure_half_width").mean
    else:
        edge = (click[0] - origin) * sign - far
    return float(edge)


def _piece_at(values: shapes.Bool, patch: _Patch, click: Float) -> shapes.Bool:
    """The connected piece nearest to the click among those that are no crumbs of the largest."""
    pieces, _ = ndimage.label(values)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    big = np.flatnonzero(sizes > 0.2 * max(1, sizes.max()))
    index = np.argwhere(np.isin(pieces, big))
    if len(index) == 0:
        return values
    near = index[np.argmin(np.abs(index - np.array(patch.index(click))).max(axis=1))]
    out: shapes.Bool = pieces == pieces[tuple(near)]
    return out


def _piece(patch: _Patch, click: Float) -> shapes.Bool:
    """The bone around the click, cut from others at its narrow places."""
    from skimage.segmentation import watershed

    bone = _filled_bone(patch)
    _require_bone(bone, patch, click)
    depth = ndimage.distance_transform_edt(bone)
    cores, _ = ndimage.label(depth > 0.4 * depth[bone].max())
    pieces = watershed(-depth, cores, mask=bone)
    at = patch.index(click)
    number = pieces[at]
    return shapes.filled((pieces == number) & (number > 0))


def _require_bone(bone: shapes.Bool, patch: _Patch, click: Float) -> None:
    a, b, c = patch.index(click)
    if not bone[max(0, a - 3) : a + 4, max(0, b - 3) : b + 4, max(0, c - 3) : c + 4].any():
        place = ", ".join(f"{v:.1f}" for v in click)
        raise InputError(
            f"there is no bone within 3 mm of the click ({place}) mm; click inside the bone"
        )
