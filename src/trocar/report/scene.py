"""Draw the bone, the lesion, what is near and the needles as a shaded picture in three dimensions.

Parallel projection without a graphics card: every structure is turned into the frame of the
eye, its first surface along each line of sight is found between voxels, lit by the slope of the
smoothed mask, and the surfaces are laid over one another from the nearest to the farthest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.facts import limits
from trocar.model.plan import Trajectory
from trocar.model.result import Anatomy
from trocar.model.space import Float, Grid, Mask, Slices, Volume
from trocar.report import figures
from trocar.report.figures import Figure, Label
from trocar.report.words import Language, translate

_STEP_MM = 0.6  # finest sampling of the turned volumes
_SAMPLES = 260  # across the picture at most; a large bone is sampled more coarsely
_NAMED = 6  # structures labelled beside the lesion
_ZOOM = 3  # picture pixels per sample
_AROUND_MM = 16.0  # how much is shown around the bone
_BLUR_MM = 0.7  # smoothing of a mask before it is lit
_LIGHT = np.array([-0.76, -0.55, -0.35])  # towards the light: to the eye, up, to the left
_FLAT = 0.5  # change of a smoothed mask over four samples below which a surface is a cut
_END_ON = 0.05  # sine of the angle between needle and line of sight below which it is a disc


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colour (red, green, blue) and opacity of one kind of surface."""

    colour: tuple[float, float, float]
    opacity: float


_LOOKS: Mapping[str, Look] = {
    "bone": Look(colour=(0.93, 0.87, 0.75), opacity=0.45),
    "lesion": Look(colour=(0.82, 0.08, 0.22), opacity=0.93),
    "canal": Look(colour=(0.97, 0.78, 0.20), opacity=0.62),
    "nerve": Look(colour=(0.58, 0.74, 0.16), opacity=0.95),
    "artery": Look(colour=(0.85, 0.33, 0.22), opacity=0.95),
    "vein": Look(colour=(0.30, 0.48, 0.80), opacity=0.95),
    "metal": Look(colour=(0.55, 0.58, 0.62), opacity=0.95),
    "other_bone": Look(colour=(0.84, 0.83, 0.80), opacity=0.30),
}
_NEEDLE = Look(colour=(0.04, 0.50, 0.66), opacity=1.0)
_OTHER_NEEDLE = Look(colour=(0.58, 0.62, 0.66), opacity=0.9)


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """One lit surface: its colour, its opacity 0 to 1 and its distance from the eye in mm."""

    colour: Float  # [row, column, rgb]
    opacity: Float
    depth_mm: Float


def scene(
    anatomy: Anatomy,
    lesion: Mask,
    options: Sequence[Trajectory],
    *,
    chosen: int | None,
    language: Language,
) -> Figure:
    """Two views of the bone with the lesion, what is near it and the needles; the chosen one dark.

    Raises nothing for a plan without needles: the bone and the lesion are shown alone.
    """
    best = options[chosen] if chosen is not None else None
    parts = _parts(anatomy, lesion)
    with figures.drawing(language) as (plt, t):
        figure, axes = figures.panes(plt, 1, 2)
        for axis, (title, eye) in zip(axes[0], _eyes(best), strict=True):
            grid = _eye_grid(anatomy.bone, eye)
            layers = [_surface(part, grid, _LOOKS[kind]) for kind, part in parts.items()]
            layers += _needle_layers(options, chosen, grid)
            axis.imshow(_compose(layers, grid.shape[1] * _ZOOM), aspect="equal")
            axis.set_title(t(title), fontsize=8, pad=3)
            labels = _anchors(anatomy, lesion, options, chosen, grid, language, t)
            figures.annotate_scene(axis, labels, (grid.shape[1] * _ZOOM,) * 2, grid.axes)
        uri = figures.picture(figure, plt, colours=None)
    return Figure(
        uri=uri,
        title=translate("Bone, lesion and needles in three dimensions", language),
        caption=translate(
            "Bone is drawn translucent. The proposed needle is dark blue, the alternatives grey. "
            "Letters name the side of the patient each edge of the picture points to.",
            language,
        ),
    )


def _eyes(best: Trajectory | None) -> tuple[tuple[str, Float], tuple[str, Float]]:
    """Two directions of sight (into the picture): over the hub, and from the needle's side."""
    hub = -best.path.direction if best is not None else figures.POSTERIOR
    level = hub - (hub @ figures.SUPERIOR) * figures.SUPERIOR
    level = level if np.linalg.norm(level) > 0.3 else figures.POSTERIOR
    level = level / np.linalg.norm(level)
    side = np.cross(figures.SUPERIOR, level)
    side = side if side @ hub >= 0 and side @ figures.LEFT * (hub @ figures.LEFT) >= 0 else -side
    first = -(level - 0.35 * side + 0.45 * figures.SUPERIOR)
    second = -(0.15 * level + side + 0.3 * figures.SUPERIOR)
    return (
        ("Seen from the side of the hub", first / np.linalg.norm(first)),
        ("Seen from beside the needle", second / np.linalg.norm(second)),
    )


def _eye_grid(bone: Mask, away: Float) -> Grid:
    """A grid whose slices go away from the eye, rows down and columns right, around the bone."""
    down = -figures.SUPERIOR - (-figures.SUPERIOR @ away) * away
    down /= np.linalg.norm(down)
    right = np.cross(down, away)
    turn = np.stack([away, down, right], axis=1)
    points = _surface_mm(bone) @ turn
    low, high = points.min(axis=0) - _AROUND_MM, points.max(axis=0) + _AROUND_MM
    step = max(_STEP_MM, float((high - low)[1:].max()) / _SAMPLES)
    shape = np.ceil((high - low) / step).astype(int) + 1
    square = int(max(shape[1], shape[2]))
    low[1:] -= (square - shape[1:]) * step / 2
    affine = np.eye(4)
    affine[:3, :3] = turn * step
    affine[:3, 3] = turn @ low
    return Grid(shape=(int(shape[0]), square, square), affine=affine)


def _surface_mm(mask: Mask) -> Float:
    """Corners enough to find the box of a mask from any side: the ends of its rows of voxels."""
    if mask.is_empty:
        return mask.grid.to_world(np.stack([np.zeros(3), _last(mask.grid)]))
    rows = np.argwhere(mask.values.any(axis=2))
    lines = mask.values[rows[:, 0], rows[:, 1]]
    first = lines.argmax(axis=1)
    last = lines.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
    ends = [np.column_stack([rows, first]), np.column_stack([rows, last])]
    return mask.grid.to_world(np.vstack(ends))


def _parts(anatomy: Anatomy, lesion: Mask) -> dict[str, Volume]:
    """What is shown, joined by kind and smoothed, near the bone."""
    box = anatomy.bone.box(_AROUND_MM + 6) if not anatomy.bone.is_empty else anatomy.body.box()
    near: dict[str, NDArray[np.bool_]] = {}
    for key, mask in _shown(anatomy, lesion).items():
        kind = key if key in ("bone", "lesion") else figures.kind_shown(key)
        values = mask.on(anatomy.grid).crop(box).values
        near[kind] = near[kind] | values if kind in near else values
    grid = anatomy.grid.crop(box)
    return {
        kind: _smoothed(Mask(grid=grid, values=values))
        for kind, values in near.items()
        if values.any()
    }


def _shown(anatomy: Anatomy, lesion: Mask) -> dict[str, Mask]:
    """The masks worth a surface; openings such as foramina are places, not things."""
    shown = {"bone": anatomy.bone, "lesion": lesion}
    things = {k: m for k, m in anatomy.structures.items() if "foram" not in k}
    return shown | {k: m for k, m in things.items() if limits.kind(k) in _LOOKS}


def _smoothed(mask: Mask) -> Volume:
    from scipy.ndimage import gaussian_filter

    sigma = [min(_BLUR_MM, s) / s for s in mask.grid.spacing_mm]
    values = gaussian_filter(mask.values.astype(np.float32), sigma, truncate=3)
    return Volume(grid=mask.grid, values=values, unit="1")


def _surface(part: Volume, grid: Grid, look: Look) -> Layer:
    """The first crossing of one half along each line of sight, lit by the slope there."""
    corners = part.grid.to_world(np.indices((2, 2, 2)).reshape(3, -1).T * _last(part.grid))
    box = grid.around(corners)
    values = part.on(grid.crop(box), outside=0.0).values
    level = min(0.5, 0.9 * float(values.max())) or 0.5
    inside = values >= level
    hit: NDArray[np.bool_] = np.asarray(inside.any(axis=0))
    k = np.where(hit, inside.argmax(axis=0), 0)
    rows, columns = np.indices(k.shape)
    here = values[k, rows, columns]
    before = values[np.maximum(k - 1, 0), rows, columns]
    part_way = np.where(k > 0, (level - before) / np.maximum(here - before, 1e-6), 0.0)
    depth = (box[0].start + k - 1 + np.clip(part_way, 0, 1)) * grid.spacing_mm[0]
    normal = _normals(values, k, hit)
    # Wider than one sample, so that rims come out smooth when the picture is enlarged.
    coverage = np.clip((values.max(axis=0) - level) / (1.2 * level) + 0.5, 0, 1)
    depth, normal = _continued(depth, normal, hit)
    colour, opacity = _lit(normal, look)
    colour = colour * (1 - _hollow(depth, coverage))[..., None]
    return _placed(Layer(colour=colour, opacity=opacity, depth_mm=depth), coverage, box, grid)


def _last(grid: Grid) -> Float:
    return np.asarray(grid.shape, dtype=np.float64) - 1


def _normals(values: Any, k: Any, hit: NDArray[np.bool_]) -> Float:
    """Unit normals at the hits, from differences over four samples, a little smoothed."""
    from scipy.ndimage import gaussian_filter

    rows, columns = np.indices(k.shape)
    out = np.zeros((*k.shape, 3))
    for axis in range(3):
        ahead, behind = [k, rows, columns], [k, rows, columns]
        ahead[axis] = np.minimum(ahead[axis] + 2, values.shape[axis] - 1)
        behind[axis] = np.maximum(behind[axis] - 2, 0)
        slope = values[tuple(behind)].astype(np.float64) - values[tuple(ahead)]
        out[..., axis] = gaussian_filter(np.where(hit, slope, 0.0), 0.8)
    # A cut surface has no slope and a back face looks away: both are lit as if they faced the eye.
    out *= np.where(out[..., :1] > 0, -1.0, 1.0)
    out[..., 0] -= 2 * np.maximum(_FLAT - np.linalg.norm(out, axis=-1), 0.0)
    unit: Float = out / np.maximum(np.linalg.norm(out, axis=-1, keepdims=True), 1e-6)
    return unit


def _continued(depth: Float, normal: Float, hit: NDArray[np.bool_]) -> tuple[Float, Float]:
    """Beyond an edge the nearest surface goes on: enlarging must not mix it with nothing."""
    from scipy.ndimage import distance_transform_edt

    if hit.all() or not hit.any():
        return depth, normal
    nearest = tuple(distance_transform_edt(~hit, return_distances=False, return_indices=True))
    return depth[nearest], normal[nearest]


def _lit(normal: Float, look: Look) -> tuple[Float, Float]:
    """Colour and opacity under one soft light, with a highlight and denser rims.

    Rims are lifted out of the shade: a dark one, a pixel wide, looks like a line drawn by hand.
    """
    light = _LIGHT / np.linalg.norm(_LIGHT)
    facing = np.clip(-normal[..., 0], 0, 1)
    half = light + np.array([-1.0, 0, 0])
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 40
    value = 0.42 + 0.58 * np.clip(normal @ light, 0, 1)
    rim = (1 - facing) ** 3
    colour = np.asarray(look.colour) * (value + 0.3 * rim * (1 - value))[..., None]
    return colour + 0.14 * shine[..., None], look.opacity + (1 - look.opacity) * 0.5 * rim


def _hollow(depth: Float, coverage: Float) -> Float:
    """How much darker a place is because it lies deeper than what surrounds it."""
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(coverage, 4) + 1e-3
    around = gaussian_filter(coverage * depth, 4) / weight
    out: Float = np.clip((depth - around) / 9.0, -0.12, 0.4)
    return out


def _placed(layer: Layer, coverage: Float, box: Slices, grid: Grid) -> Layer:
    """The layer enlarged and put at its place in the whole picture."""
    from scipy.ndimage import zoom

    def grown(a: Float) -> Float:
        out: Float = zoom(a.astype(np.float32), _ZOOM, order=1, grid_mode=True, mode="nearest")
        return out

    size = grid.shape[1] * _ZOOM
    where = (
        slice(box[1].start * _ZOOM, box[1].stop * _ZOOM),
        slice(box[2].start * _ZOOM, box[2].stop * _ZOOM),
    )
    whole = _blank(size)
    for channel in range(3):
        whole.colour[(*where, channel)] = grown(layer.colour[..., channel])
    edge = np.clip((grown(coverage) - 0.5) * 2.4 * _ZOOM + 0.5, 0, 1)
    whole.opacity[where] = grown(layer.opacity) * edge
    whole.depth_mm[where] = np.where(edge > 0, grown(layer.depth_mm), np.inf)
    return whole


def _needle_layers(options: Sequence[Trajectory], chosen: int | None, grid: Grid) -> list[Layer]:
    return [
        _cylinder(option, grid, _NEEDLE if number == chosen else _OTHER_NEEDLE)
        for number, option in enumerate(options)
    ]


def _cylinder(option: Trajectory, grid: Grid, look: Look) -> Layer:
    """A needle seen from the eye: exact for its true thickness, flat at both ends."""
    step = grid.spacing_mm[0]
    tip, skin = (grid.to_index(p) * step for p in (option.target_mm, option.entry_mm))
    axis = (skin - tip) / np.linalg.norm(skin - tip)
    hub = tip + axis * max(option.needle.length_mm, option.depth_mm)
    pixel = step / _ZOOM
    box = _reach(tip, hub, option.needle.outer_mm, pixel, grid.shape[1] * _ZOOM)
    y, x = (np.mgrid[box] + 0.5) * pixel - step / 2
    flat = np.stack([y, x], axis=-1) - tip[1:]
    radius, length = option.needle.radius_mm, float(np.linalg.norm(axis[1:]))
    if length < _END_ON:
        aside = np.linalg.norm(flat, axis=-1)
        edge = np.clip((radius - aside) / pixel + 0.5, 0, 1)
        depth = np.full(edge.shape, min(tip[0], hub[0]))
        normal = np.zeros((*edge.shape, 3)) - [1.0, 0, 0]
    else:
        along2 = axis[1:] / length
        aside = flat @ np.array([-along2[1], along2[0]])
        rise = np.sqrt(np.maximum(radius**2 - aside**2, 0.0))
        along = (flat @ along2) / length  # mm of needle from the tip, of the axis behind the pixel
        depth = tip[0] + along * axis[0] - rise / length
        end = np.minimum(along, float(np.linalg.norm(hub - tip)) - along) * length
        edge = np.clip((radius - np.abs(aside)) / pixel + 0.5, 0, 1)
        edge = edge * np.clip(end / pixel + 0.5, 0, 1)
        normal = _cylinder_normal(aside, rise, axis, along2, radius)
    colour, opacity = _lit(normal, look)
    layer = _blank(grid.shape[1] * _ZOOM)
    layer.colour[box] = colour
    layer.opacity[box] = edge * opacity
    layer.depth_mm[box] = np.where(edge > 0, depth, np.inf)
    return layer


def _reach(tip: Float, hub: Float, margin: float, pixel: float, size: int) -> tuple[slice, slice]:
    """The pixels a needle may cover; at least one, so that a needle out of sight is no error."""
    ends = np.stack([tip[1:], hub[1:]])
    low = np.clip(((ends.min(axis=0) - margin) / pixel).astype(int), 0, size - 1)
    high = np.clip(((ends.max(axis=0) + margin) / pixel).astype(int) + 2, low + 1, size)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def _blank(size: int) -> Layer:
    """A layer with nothing on it yet."""
    return Layer(
        colour=np.zeros((size, size, 3), dtype=np.float32),
        opacity=np.zeros((size, size), dtype=np.float32),
        depth_mm=np.full((size, size), np.inf, dtype=np.float32),
    )


def _cylinder_normal(aside: Float, rise: Float, axis: Float, along2: Float, radius: float) -> Float:
    across = np.array([0.0, -along2[1], along2[0]])
    toward = np.cross(axis, across)
    toward = toward if toward[0] < 0 else -toward
    normal = (aside[..., None] * across + rise[..., None] * toward) / radius
    out: Float = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    return out


def _compose(layers: Sequence[Layer], size: int) -> Float:
    """The picture [row, column, rgb]: surfaces laid over white, the farthest first."""
    picture = np.ones((size, size, 3), dtype=np.float32)
    depth = np.stack([layer.depth_mm for layer in layers])
    order = np.argsort(-depth, axis=0)
    for rank in range(len(layers)):
        which = order[rank]
        for number, layer in enumerate(layers):
            here = (which == number) & (layer.opacity > 0)
            alpha = layer.opacity[here][:, None]
            picture[here] = picture[here] * (1 - alpha) + layer.colour[here] * alpha
    return np.clip(picture, 0, 1)


def _anchors(
    anatomy: Anatomy,
    lesion: Mask,
    options: Sequence[Trajectory],
    chosen: int | None,
    grid: Grid,
    language: Language,
    t: figures.Words,
) -> list[Label]:
    """Labels for the lesion, the chosen needle and the structures that are nearest to it."""
    labels = []
    near = [m.structure for m in options[chosen].margins] if chosen is not None else []
    shown = {k: m for k, m in _shown(anatomy, lesion).items() if k != "bone"}
    things = [k for k in shown if limits.kind(k) != "other_bone" and k != "lesion"]
    things.sort(key=lambda k: near.index(k) if k in near else len(near))
    for key in ["lesion", *things[:_NAMED]]:
        mask = shown[key]
        middle = _middle_on(mask, grid)
        if middle is not None:
            word = t("lesion") if key == "lesion" else figures.structure_word(key, language, t)
            labels.append(Label(text=word, at=middle, colour="#222222"))
    size = grid.shape[1] * _ZOOM
    for number in () if chosen is None else (chosen,):
        option = options[number]
        points = option.path.at_mm(np.linspace(0, option.depth_mm, 200))
        place = (grid.to_index(points)[:, 1:] + 0.5) * _ZOOM
        seen = place[np.all((place > 0.06 * size) & (place < 0.94 * size), axis=1)]
        if len(seen):
            at = (float(seen[0][1]), float(seen[0][0]))
            labels.append(Label(text=f"{t('needle')} {number + 1}", at=at, colour="#0b5a75"))
    return labels


def _middle_on(mask: Mask, grid: Grid) -> tuple[float, float] | None:
    """The (column, row) in the picture of a mask's voxel nearest to the middle of those shown."""
    points = mask.points_mm()[::7] if mask.voxels > 700 else mask.points_mm()
    index = grid.to_index(points)
    index = index[np.all((index >= 0) & (index < grid.shape), axis=1)][:, 1:]
    if not len(index):
        return None
    best = index[np.argmin(np.sum((index - index.mean(axis=0)) ** 2, axis=1))]
    return float((best[1] + 0.5) * _ZOOM), float((best[0] + 0.5) * _ZOOM)
