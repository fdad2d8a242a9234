"""Draw the static figures of a plan sheet: slices along a needle, radiographs, the skin map.

Every picture follows one rule: patient's right (or front) at image left, head up, letters on each
edge, a bar in millimetres, and structures told apart by line style and label as well as by colour.
Matplotlib is imported inside the functions; it draws into memory and needs no display.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trocar.facts import limits
from trocar.model.plan import Plan, Trajectory
from trocar.model.result import Anatomy, Scan, View
from trocar.model.space import Float, Grid, Mask, Volume
from trocar.planning.trajectory import SkinMap
from trocar.report.words import Language, fill, name, translate

LEFT, POSTERIOR, SUPERIOR = np.eye(3)
BONE_WINDOW = (400.0, 1800.0)  # display presets of a CT workstation: centre and width in HU
SOFT_WINDOW = (40.0, 400.0)
_STEP_MM = 0.4  # pixel of a reslice; finer than any CT voxel it shows
_DPI = 170
_AROUND_TIP_MM = 48.0  # what a radiograph shows around the tip at least
_SKIN_MM = 2.0  # raster of the skin map
_CALM = 1.2  # pixels of smoothing that take the steps of the voxels out of an outline
_CLOSE_MM = 56.0  # side of the cross-section
_NAMED_MM = 40.0  # structures farther from the needle are outlined on its slices, not named
_WORDS_MM = 38.0  # margin beyond the tip on a slice, for words
_ROWS = 26  # places for a word in each of the two columns of a picture
_ON_FILM = 4  # structures outlined on a radiograph beside lesion and canal
_QUALITY = 85  # of 100, of a compact picture
_GREY_SPREAD = 6  # red, green and blue closer than this (of 255) count as grey
_LEAST = "Across the needle where it has least room"
_SEEN = 0.3  # a letter of orientation is printed when the axis turns at least this much that way

Words = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture as a data URI with its title, its caption and words for those who do not see it."""

    uri: str
    title: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the outline of one kind of structure is drawn."""

    colour: str
    dashes: Any
    width: float = 1.3


_STYLES: Mapping[str, Style] = {
    "lesion": Style(colour="#ff4664", dashes="-", width=1.8),
    "canal": Style(colour="#ffd23f", dashes=(0, (5, 2))),
    "nerve": Style(colour="#b4f24a", dashes=(0, (1, 1.2)), width=1.8),
    "artery": Style(colour="#ff8a5c", dashes=(0, (6, 1.5, 1, 1.5))),
    "vein": Style(colour="#74b9ff", dashes=(0, (4, 1.2, 1, 1.2, 1, 1.2))),
    "pleura": Style(colour="#7fe7f0", dashes=(0, (9, 2))),
    "bowel": Style(colour="#d6a8ff", dashes=(0, (3, 1.5))),
    "joint": Style(colour="#ffb347", dashes=(0, (2, 2))),
    "metal": Style(colour="#ffffff", dashes="-", width=1.0),
    "unknown": Style(colour="#ffffff", dashes=(0, (1, 3))),
}
_NEEDLE = "#3fe0ff"


@dataclass(frozen=True, eq=False, kw_only=True)
class Pane:
    """A flat cut: its centre, the LPS directions of image right and image down, its size in mm."""

    centre_mm: Float
    right: Float
    down: Float
    size_mm: tuple[float, float]  # (height, width)

    def grid(self, step_mm: float = _STEP_MM) -> Grid:
        """One slice of pixels of ``step_mm``, the first at the upper left corner."""
        rows, columns = (max(2, round(s / step_mm)) for s in self.size_mm)
        corner = (
            self.centre_mm
            - self.right * step_mm * (columns - 1) / 2
            - self.down * step_mm * (rows - 1) / 2
        )
        affine = np.eye(4)
        affine[:3, 0] = np.cross(self.down, self.right)
        affine[:3, 1], affine[:3, 2] = self.down * step_mm, self.right * step_mm
        affine[:3, 3] = corner
        return Grid(shape=(1, rows, columns), affine=affine)

    def flat(self, points_mm: ArrayLike) -> Float:
        """(right, down) mm from the pane's centre of LPS points [..., 3]."""
        d = np.asarray(points_mm, dtype=np.float64) - self.centre_mm
        return np.stack([d @ self.right, d @ self.down], axis=-1)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edge in mm from the centre, as matplotlib wants them."""
        height, width = self.size_mm
        return (-width / 2, width / 2, height / 2, -height / 2)


def letters(direction: Float) -> str:
    """The side of the patient a direction points to, strongest first.

    >>> letters(np.array([1.0, 0, 0])), letters(np.array([0, -0.8, 0.6]))
    ('L', 'AH')
    """
    order = np.argsort(-np.abs(direction))
    pairs = ("RL", "AP", "FH")
    return "".join(
        pairs[axis][int(direction[axis] > 0)] for axis in order if abs(direction[axis]) >= _SEEN
    )[:2]


def _unit(vector: Float) -> Float:
    return vector / np.linalg.norm(vector)


def needle_planes(option: Trajectory) -> tuple[Float, Float]:
    """The normals of the two cuts that hold a needle: the tilted axial one and the one across it.

    The first cut is the CT slice tilted about the patient's left-right axis until the needle lies
    in it; for a needle along that axis, the plane nearest to axial. The second is perpendicular.
    """
    u = -option.path.direction
    across = np.cross(u, LEFT)
    if np.linalg.norm(across) < _SEEN:
        across = SUPERIOR - (SUPERIOR @ u) * u
    first = _unit(across)
    first = first if first @ SUPERIOR >= 0 else -first
    return first, _unit(np.cross(u, first))


def upright(normal: Float, *, down: Float | None = None) -> tuple[Float, Float]:
    """Image right and image down for a cut: patient's left (or back) to the right, head up.

    A cut that is nearly axial is shown with the back of the patient down.
    """
    if down is None:
        down = POSTERIOR if abs(normal @ SUPERIOR) > np.sqrt(0.5) else -SUPERIOR
    down = _unit(down - (down @ normal) * normal)
    right = np.cross(down, normal)
    seen_from_left = abs(right @ LEFT) < abs(right @ POSTERIOR)
    wanted = POSTERIOR if seen_from_left else LEFT
    return (right if right @ wanted > 0 else -right), down


def framed(normal: Float, points_mm: Float, *, margin_mm: float) -> Pane:
    """The cut through the first point that shows all points and a margin, nearly square."""
    right, down = upright(normal)
    start = points_mm[0]
    flat = np.stack([(points_mm - start) @ right, (points_mm - start) @ down], axis=-1)
    low, high = flat.min(axis=0) - margin_mm, flat.max(axis=0) + margin_mm
    middle = (low + high) / 2
    side = float(max(high - low))
    return Pane(
        centre_mm=start + middle[0] * right + middle[1] * down,
        right=right,
        down=down,
        size_mm=(side, side),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Outlines:
    """Structures as small smooth volumes, cut out once and sliced many times."""

    parts: Mapping[str, Volume]

    @classmethod
    def of(cls, masks: Mapping[str, Mask]) -> Outlines:
        """The masks that hold at least one voxel, each cropped to its own box."""
        parts = {key: part for key, mask in masks.items() if (part := _cut_out(mask)) is not None}
        return cls(parts=parts)

    def on(self, pane: Pane) -> dict[str, list[Float]]:
        """For every structure the pane meets, its outlines as (right, down) mm."""
        from scipy.ndimage import gaussian_filter
        from skimage.measure import find_contours

        grid = pane.grid()
        index_to_flat = pane.flat(grid.to_world([[0, 0, 0], [0, 1, 1]]))
        step = index_to_flat[1] - index_to_flat[0]
        found = {}
        for key, part in self.parts.items():
            image = gaussian_filter(part.on(grid, outside=0.0).values[0], _CALM)
            if image.max() > 0.5:
                rings = find_contours(np.pad(image, 1), 0.5)
                found[key] = [index_to_flat[0] + (ring[:, ::-1] - 1) * step for ring in rings]
        return found


def _cut_out(mask: Mask) -> Volume | None:
    spans = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        where = np.flatnonzero(mask.values.any(axis=others))
        if not where.size:
            return None
        spans.append(slice(max(0, int(where[0]) - 2), int(where[-1]) + 3))
    box = (spans[0], spans[1], spans[2])
    values = mask.values[box].astype(np.float32)
    return Volume(grid=mask.grid.crop(box), values=values, unit="1")


def outlines(anatomy: Anatomy, lesion: Mask) -> Outlines:
    """The lesion and every structure at risk; other bones speak for themselves on a CT."""
    shown = {k: m for k, m in anatomy.structures.items() if limits.kind(k) != "other_bone"}
    return Outlines.of({"lesion": lesion, **shown})


def style(structure: str) -> Style:
    """How a structure is outlined; what is of unknown kind has a style of its own."""
    return _STYLES.get(kind_shown(structure), _STYLES["unknown"])


def kind_shown(structure: str) -> str:
    """The kind whose colour a structure has; the vena cava keeps an artery's limit, not its red."""
    if structure in ("lesion", "bone"):
        return structure
    return "vein" if structure == "inferior_vena_cava" else limits.kind(structure)


# --- slices along one needle ---------------------------------------------------------------------


def needle_slices(
    scan: Scan,
    anatomy: Anatomy,
    option: Trajectory,
    shapes: Outlines,
    *,
    language: Language,
    compact: bool = False,
) -> Figure:
    """Four cuts for one needle: tilted axial in two windows, across it, and a cross-section."""
    tilted, across = needle_planes(option)
    bone = np.asarray(_corners(shapes.parts.get("lesion"), option))
    points = np.vstack([option.entry_mm, option.target_mm, bone])
    wide = framed(tilted, _with_margin(tilted, points, option), margin_mm=22.0)
    side = framed(across, _with_margin(across, points, option), margin_mm=22.0)
    solid = _cut_out(anatomy.bone)
    near = _named_on(shapes, option)
    place, why = narrowest(anatomy, option)
    section = _cross_section(option, place)
    with drawing(language) as (plt, t):
        figure, axes = panes(plt, 2, 2)
        for axis, pane, window, title in (
            (axes[0, 0], wide, BONE_WINDOW, t("Slice along the needle, bone window")),
            (axes[0, 1], wide, SOFT_WINDOW, t("Same slice, soft-tissue window")),
            (axes[1, 0], side, BONE_WINDOW, t("Slice along the needle, across the first")),
            (axes[1, 1], section, BONE_WINDOW, why),
        ):
            drawn = (scan.volume, shapes, option)
            _slice(axis, drawn, pane, window, solid, near, language=language, t=t)
            axis.set_title(title if axis is not axes[1, 1] else t(why), fontsize=8, pad=3)
        uri = picture(figure, plt, compact=compact)
    return Figure(
        uri=uri,
        title=translate("Slices along the needle", language),
        caption=translate(
            "The needle is drawn at its true thickness, with a tick every 10 mm from the skin. "
            "Cuts that are nearly axial show the patient's right at image left, others the front; "
            "the letters say so: R right, L left, H head, F feet, A front, P back.",
            language,
        ),
    )


def _with_margin(normal: Float, points_mm: Float, option: Trajectory) -> Float:
    """The points and one beyond the tip, so that words find a margin outside the bone there."""
    right, _ = upright(normal)
    way = float(option.path.direction @ right)
    beyond = option.target_mm + np.sign(way) * min(1.0, 2 * abs(way)) * _WORDS_MM * right
    return np.vstack([points_mm, beyond])


def _named_on(shapes: Outlines, option: Trajectory) -> frozenset[str]:
    """The structures worth a name on a slice: all but those far from the needle."""
    far = {m.structure for m in option.margins if m.distance_mm > _NAMED_MM}
    return frozenset(shapes.parts) - far


def _corners(part: Volume | None, option: Trajectory) -> Float:
    """The box of the lesion (or the tip alone), so that a cut shows it whole."""
    if part is None:
        return option.target_mm[None]
    n = np.asarray(part.grid.shape) - 1
    return part.grid.to_world(np.stack([np.zeros(3), n]))


def narrowest(anatomy: Anatomy, option: Trajectory) -> tuple[Float, str]:
    """Where along the needle it is tightest, and what to call that place.

    The nearest point of the worst margin when known, else the pedicle isthmus it passes, else
    where it enters the bone.
    """
    path = option.path
    worst = option.worst
    if worst is not None and worst.nearest_mm is not None:
        near = float((worst.nearest_mm - path.start_mm) @ path.direction)
        return path.at_mm(min(max(near, 0.0), path.length_mm)), _LEAST
    for isthmus in anatomy.vertebra.isthmuses if anatomy.vertebra else ():
        if path.distance_mm(isthmus.centre_mm) < isthmus.width_mm:
            along = float((isthmus.centre_mm - path.start_mm) @ path.direction)
            return path.at_mm(along), "Across the needle at the pedicle isthmus"
    return option.bone_entry_mm, "Across the needle where it enters the bone"


def _cross_section(option: Trajectory, place_mm: Float) -> Pane:
    u = option.path.direction
    wanted = -SUPERIOR if abs(u @ SUPERIOR) < np.sqrt(0.5) else POSTERIOR
    right, down = upright(u, down=wanted)
    return Pane(centre_mm=place_mm, right=right, down=down, size_mm=(_CLOSE_MM, _CLOSE_MM))


def _slice(
    axis: Any,
    drawn: tuple[Volume, Outlines, Trajectory],
    pane: Pane,
    window: tuple[float, float],
    bone: Volume | None,
    named: frozenset[str],
    *,
    language: Language,
    t: Words,
) -> None:
    ct, shapes, option = drawn
    image = ct.on(pane.grid(), outside=-1000.0).values[0]
    low = window[0] - window[1] / 2
    axis.imshow(
        image, cmap="gray", vmin=low, vmax=low + window[1], extent=pane.extent, aspect="equal"
    )
    found = shapes.on(pane)
    labels = _draw_outlines(axis, found, pane.extent, language, t, named=named)
    labels += _draw_needle(axis, pane, option, t)
    _letters(axis, pane.right, pane.down)
    _bar(axis, pane.extent, 50.0 if pane.size_mm[1] > 90 else 10.0)
    needle = pane.flat(option.path.at_mm(np.arange(0.0, option.depth_mm, 2.0)))
    sacred = np.vstack([needle, *_dense(found.get("lesion", []))])
    if abs(np.cross(pane.down, pane.right) @ option.path.direction) > 0.9:
        sacred = needle[:1]
    _labels(axis, labels, pane.extent, keep=Keep(sacred=sacred, clear=_bone_points(bone, pane)))
    _fit(axis, pane.extent)


def _dense(rings: Sequence[Float]) -> list[Float]:
    """The outline of a thing and what is inside it, as points."""
    out = []
    for ring in rings:
        middle = ring.mean(axis=0)
        out += [middle + part * (ring[::4] - middle) for part in (1.0, 0.6, 0.2)]
    return out


def _bone_points(bone: Volume | None, pane: Pane) -> Float:
    """Where the treated bone is on a cut, (right, down) mm every few mm."""
    if bone is None:
        return np.empty((0, 2))
    grid = pane.grid(2.5)
    rows, columns = np.nonzero(bone.on(grid, outside=0.0).values[0] > 0.5)
    index = np.stack([np.zeros(len(rows)), rows, columns], axis=-1)
    return pane.flat(grid.to_world(index)) if len(rows) else np.empty((0, 2))


def _fit(axis: Any, extent: tuple[float, float, float, float]) -> None:
    axis.set_xlim(extent[0], extent[1])
    axis.set_ylim(extent[2], extent[3])


@dataclass(frozen=True, eq=False, kw_only=True)
class Keep:
    """Places in a picture that words leave free: ``sacred`` in any case, ``clear`` if they can."""

    sacred: Float  # points [n, 2]
    clear: Float


@dataclass(frozen=True, kw_only=True)
class Label:
    """A word and the place in the picture it belongs to."""

    text: str
    at: tuple[float, float]
    colour: str


def _draw_outlines(
    axis: Any,
    found: Mapping[str, list[Float]],
    extent: tuple[float, float, float, float],
    language: Language,
    t: Words,
    *,
    named: frozenset[str] | None = None,
) -> list[Label]:
    labels = []
    for key, rings in sorted(found.items(), key=lambda item: item[0] == "lesion"):
        look = style(key)
        for ring in rings:
            axis.plot(
                ring[:, 0],
                ring[:, 1],
                color=look.colour,
                linestyle=look.dashes,
                linewidth=look.width,
                path_effects=_halo(look.width + 1.2),
            )
        if named is not None and key not in named:
            continue
        ring = max(rings, key=len)
        inside = _inside(ring, extent)
        if inside.size:
            word = t("lesion") if key == "lesion" else structure_word(key, language, t)
            labels.append(Label(text=word, at=_nearest_edge(inside, extent), colour=look.colour))
    return labels


def structure_word(key: str, language: Language, t: Words) -> str:
    """A structure's name in the language the pictures can be lettered in."""
    return name(key, language if t("lesion") != "lesion" else "en")


def _inside(ring: Float, extent: tuple[float, float, float, float]) -> Float:
    left, right, bottom, top = extent
    keep = (ring[:, 0] > left) & (ring[:, 0] < right) & (ring[:, 1] > top) & (ring[:, 1] < bottom)
    return ring[keep]


def _nearest_edge(ring: Float, extent: tuple[float, float, float, float]) -> tuple[float, float]:
    """The point of an outline nearest to the left or right edge of the picture."""
    middle = ring[:, 0].mean() - (extent[0] + extent[1]) / 2
    k = int(np.argmax(ring[:, 0]) if middle > 0 else np.argmin(ring[:, 0]))
    return float(ring[k, 0]), float(ring[k, 1])


def _draw_needle(axis: Any, pane: Pane, option: Trajectory, t: Words) -> list[Label]:
    """The needle at its true thickness; a circle where the cut stands across it."""
    normal = np.cross(pane.down, pane.right)
    if abs(normal @ option.path.direction) > 0.9:
        return _needle_circle(axis, pane, option, t)
    tip, entry, bone = pane.flat([option.target_mm, option.entry_mm, option.bone_entry_mm])
    back = _unit(entry - tip)
    _shaft(axis, tip, entry, option.needle.outer_mm, filled=True)
    hub = tip + back * max(option.needle.length_mm, option.depth_mm)
    _shaft(axis, entry, hub, option.needle.outer_mm, filled=False)
    _ticks(axis, entry, -back, option)
    to_bone = float(np.linalg.norm(option.bone_entry_mm - option.entry_mm))
    return [
        Label(text=t("skin"), at=(float(entry[0]), float(entry[1])), colour="white"),
        Label(text=_at(t("bone"), to_bone), at=(float(bone[0]), float(bone[1])), colour="white"),
        Label(
            text=_at(t("tip"), option.depth_mm), at=(float(tip[0]), float(tip[1])), colour=_NEEDLE
        ),
    ]


def _at(word: str, distance_mm: float) -> str:
    return f"{word} {distance_mm:.0f} mm"


def _shaft(axis: Any, start: Float, end: Float, outer_mm: float, *, filled: bool) -> None:
    from matplotlib.patches import Polygon

    along = _unit(end - start)
    side = np.array([-along[1], along[0]]) * outer_mm / 2
    tip = [start] if filled else []
    shoulder = start + along * outer_mm if filled else start
    corners = [*tip, shoulder + side, end + side, end - side, shoulder - side]
    axis.add_patch(
        Polygon(
            corners,
            closed=True,
            facecolor=(0.25, 0.88, 1.0, 0.28) if filled else "none",
            edgecolor=_NEEDLE,
            linewidth=0.9 if filled else 0.6,
            linestyle="-" if filled else (0, (4, 2)),
            path_effects=_halo(2.0) if filled else None,
        )
    )


def _ticks(axis: Any, entry: Float, forward: Float, option: Trajectory) -> None:
    side = np.array([-forward[1], forward[0]])
    for depth in range(10, int(option.depth_mm) + 1, 10):
        long = 1.7 if depth % 50 == 0 else 0.9
        at = entry + forward * depth
        ends = np.stack(
            [at - side * option.needle.outer_mm * long, at + side * option.needle.outer_mm * long]
        )
        axis.plot(ends[:, 0], ends[:, 1], color=_NEEDLE, linewidth=0.7)
        if depth % 50 == 0:
            axis.text(*(at + side * option.needle.outer_mm * 3), str(depth), **_text(6, _NEEDLE))


def _needle_circle(axis: Any, pane: Pane, option: Trajectory, t: Words) -> list[Label]:
    from matplotlib.patches import Circle

    along = float((pane.centre_mm - option.path.start_mm) @ option.path.direction)
    x, y = pane.flat(option.path.at_mm(along))
    axis.add_patch(
        Circle(
            (x, y), option.needle.radius_mm, facecolor=(0.25, 0.88, 1.0, 0.35), edgecolor=_NEEDLE
        )
    )
    labels = [Label(text=t("needle"), at=(float(x), float(y)), colour=_NEEDLE)]
    if np.isfinite(option.placement_error_mm):
        around = option.needle.radius_mm + option.placement_error_mm
        axis.add_patch(
            Circle((x, y), around, fill=False, edgecolor="white", linestyle=":", linewidth=1.0)
        )
        text = f"{t('placement error')} {option.placement_error_mm:.1f} mm"
        labels.append(Label(text=text, at=(float(x + around), float(y)), colour="white"))
    return labels


# --- radiographs ---------------------------------------------------------------------------------


def radiographs(
    views: Sequence[View],
    option: Trajectory,
    shapes: Outlines,
    *,
    language: Language,
    compact: bool = False,
) -> Figure:
    """The fluoroscopic views of one needle: needle, lesion and structures drawn on each."""
    with drawing(language) as (plt, t):
        figure, axes = panes(plt, 1, len(views), title_lines=2)
        for axis, view in zip(axes[0], views, strict=True):
            _radiograph(axis, view, option, shapes, language=language, t=t)
            axis.set_title(f"{t(view.name)}\n{_c_arm(view, t)}", fontsize=7.5, pad=3)
        uri = picture(figure, plt, compact=compact)
    return Figure(
        uri=uri,
        title=translate("Fluoroscopic views computed from the CT", language),
        caption=translate(
            "Needle from skin to tip, outline of the lesion and of the structures at risk, as the "
            "C-arm would see them at the angles printed above each view.",
            language,
        ),
    )


def _c_arm(view: View, t: Words) -> str:
    side = t("left") if view.oblique_deg >= 0 else t("right")
    way = t("head") if view.cranial_deg >= 0 else t("feet")
    return f"{abs(view.oblique_deg):.0f}° {side}, {abs(view.cranial_deg):.0f}° {way}"


def _radiograph(
    axis: Any, view: View, option: Trajectory, shapes: Outlines, *, language: Language, t: Words
) -> None:
    rows, columns = view.image.shape
    image, flip = _radiological(view)

    def place(points_mm: ArrayLike) -> Float:
        pixel = view.project(points_mm)
        r = np.where(flip[0], rows - 1 - pixel[..., 0], pixel[..., 0])
        c = np.where(flip[1], columns - 1 - pixel[..., 1], pixel[..., 1])
        return np.stack([c, r], axis=-1)

    extent = _collimated(view, option, place)
    whole = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    axis.set_facecolor("black")
    axis.imshow(_film(image, extent), cmap="gray", vmin=0, vmax=1, extent=whole, aspect="equal")
    found = {}
    for key, part in _near(shapes, option).items():
        rings = _shadow(part, place, image.shape)
        if rings:
            found[key] = rings
    labels = _draw_outlines(axis, found, extent, language, t)
    labels += _projected_needle(axis, view, option, place, t)
    shaft = place(option.path.at_mm(np.linspace(0.0, option.depth_mm, 40)))
    sacred = np.vstack([shaft, _ring(shaft[0], 4.5 * _radius(view, option))])
    keep = Keep(sacred=sacred, clear=np.vstack([sacred[:1], *_dense(found.get("lesion", []))]))
    right = view.column_step_mm * (-1 if flip[1] else 1)
    down = view.row_step_mm * (-1 if flip[0] else 1)
    _letters(axis, _unit(right), _unit(down))
    _labels(axis, labels, extent, inset=0.12, keep=keep)
    _fit(axis, extent)


def _collimated(
    view: View, option: Trajectory, place: Callable[[ArrayLike], Float]
) -> tuple[float, float, float, float]:
    """A square on the film that holds the needle and what is around its tip, in pixels."""
    scale = _pixels_per_mm(view, option.target_mm)
    tip, entry = place([option.target_mm, option.entry_mm])
    corners = np.stack([tip - _AROUND_TIP_MM * scale, tip + _AROUND_TIP_MM * scale, entry])
    low, high = corners.min(axis=0), corners.max(axis=0)
    low, high = np.minimum(low, entry - 8 * scale), np.maximum(high, entry + 8 * scale)
    x, y = (low + high) / 2
    half = float((high - low).max()) / 2
    return (x - half, x + half, y + half, y - half)


def _near(shapes: Outlines, option: Trajectory) -> dict[str, Volume]:
    """The lesion, the canal and the few structures with least to spare: films stay legible."""
    tight = sorted(option.margins, key=lambda m: m.distance_mm - m.required_mm)
    names = [m.structure for m in tight if "foram" not in m.structure][:_ON_FILM]
    canals = [k for k in shapes.parts if limits.kind(k) == "canal"]
    wanted = dict.fromkeys(["lesion", *canals, *names])
    return {key: shapes.parts[key] for key in wanted if key in shapes.parts}


def _radiological(view: View) -> tuple[NDArray[np.float32], tuple[bool, bool]]:
    """The image turned so that patient's left (or back) is at the right and the head is up."""
    c, r = _unit(view.column_step_mm), _unit(view.row_step_mm)
    rightward = LEFT if abs(c @ LEFT) >= abs(c @ POSTERIOR) else POSTERIOR
    downward = -SUPERIOR if abs(r @ SUPERIOR) >= abs(r @ POSTERIOR) else POSTERIOR
    flip = (bool(r @ downward < 0), bool(c @ rightward < 0))
    image = view.image[:: -1 if flip[0] else 1, :: -1 if flip[1] else 1]
    return image, flip


def _film(image: NDArray[np.float32], extent: tuple[float, float, float, float]) -> Float:
    """Line integrals as a film: bone bright, slow changes of thickness evened out."""
    from scipy.ndimage import gaussian_filter

    left, right, bottom, top = (round(v) for v in extent)
    field = (slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right)))
    air = image <= 0.05 * float(np.nanmax(image))
    size = max(image.shape)
    even = image - 0.55 * gaussian_filter(image, size / 12)
    even += 0.8 * (image - gaussian_filter(image, size / 90))
    seen = even[field][~air[field]]
    if not seen.size:
        return np.zeros(image.shape)
    low, high = np.percentile(seen, (2, 99.6))
    out: Float = np.clip((even - low) / max(float(high - low), 1e-6), 0, 1)
    return np.where(air, 0.0, out)


def _shadow(
    part: Volume, place: Callable[[ArrayLike], Float], shape: tuple[int, ...]
) -> list[Float]:
    """The outline of a structure's shadow on the film, as (column, row)."""
    from scipy.ndimage import binary_closing, binary_dilation, gaussian_filter
    from skimage.measure import find_contours

    inside = part.values > 0.5
    core = inside.copy()
    for axis in range(3):
        core &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    flat = place(part.grid.to_world(np.argwhere(inside & ~core)))
    pixel = np.rint(flat[:, ::-1]).astype(int)
    keep = np.all((pixel >= 0) & (pixel < np.asarray(shape)), axis=1)
    if keep.sum() < 3:
        return []
    film = np.zeros(shape, dtype=bool)
    film[tuple(pixel[keep].T)] = True
    gap = _gap(part, place)
    film = binary_closing(np.pad(film, gap + 2), iterations=gap)
    film = _filled(binary_dilation(film))[gap + 2 : -gap - 2, gap + 2 : -gap - 2]
    rings = find_contours(gaussian_filter(np.pad(film, 1).astype(np.float32), 1.0), 0.5)
    return [ring[:, ::-1] - 1 for ring in rings if len(ring) > 8]


def _filled(film: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_fill_holes

    out: NDArray[np.bool_] = binary_fill_holes(film)
    return out


def _gap(part: Volume, place: Callable[[ArrayLike], Float]) -> int:
    """How many pixels apart the shadows of neighbouring voxels fall."""
    middle = (np.asarray(part.grid.shape) - 1) / 2
    flat = place(part.grid.to_world(np.vstack([middle, middle + np.eye(3)])))
    return int(np.clip(np.ceil(np.linalg.norm(flat[1:] - flat[0], axis=1).max()), 1, 12))


def _projected_needle(
    axis: Any, view: View, option: Trajectory, place: Callable[[ArrayLike], Float], t: Words
) -> list[Label]:
    """The needle's two edges as the beam sees them; a dot and a ring when seen end on."""
    path = option.path
    tip, entry, bone = place([option.target_mm, option.entry_mm, option.bone_entry_mm])
    scale = _pixels_per_mm(view, option.target_mm)
    label = Label(text=t("tip"), at=(float(tip[0]), float(tip[1])), colour=_NEEDLE)
    if np.linalg.norm(entry - tip) < 4 * option.needle.outer_mm * scale:
        radius = _radius(view, option)
        _end_on(axis, tip, radius)
        rim = (float(tip[0]), float(tip[1] - 4 * radius))  # the spot itself stays free
        return [Label(text=t("needle end on"), at=rim, colour=_NEEDLE)]
    beam = _unit(path.at_mm(path.length_mm / 2) - view.source_mm)
    side = _unit(np.cross(path.direction, beam)) * option.needle.radius_mm
    ends = np.stack(
        [path.start_mm + side, path.end_mm + side, path.end_mm - side, path.start_mm - side]
    )
    from matplotlib.patches import Polygon

    axis.add_patch(
        Polygon(
            place(ends),
            closed=True,
            facecolor=(0.25, 0.88, 1.0, 0.35),
            edgecolor=_NEEDLE,
            linewidth=0.8,
            path_effects=_halo(1.8),
        )
    )
    return [
        label,
        Label(text=t("skin"), at=(float(entry[0]), float(entry[1])), colour="white"),
        Label(text=t("bone"), at=(float(bone[0]), float(bone[1])), colour="white"),
    ]


def _end_on(axis: Any, at: Float, radius: float) -> None:
    from matplotlib.patches import Circle

    axis.add_patch(Circle(tuple(at), radius, facecolor=(0.25, 0.88, 1.0, 0.5), edgecolor=_NEEDLE))
    axis.add_patch(Circle(tuple(at), radius * 4, fill=False, edgecolor=_NEEDLE, linewidth=0.8))


def _radius(view: View, option: Trajectory) -> float:
    """The radius of the needle at its tip, in pixels of the film."""
    return option.needle.radius_mm * _pixels_per_mm(view, option.target_mm)


def _ring(centre: Float, radius: float) -> Float:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return centre + radius * np.stack([np.cos(turn), np.sin(turn)], axis=-1)


def _pixels_per_mm(view: View, point_mm: Float) -> float:
    near = view.project([point_mm, point_mm + 0.5 * _unit(view.column_step_mm)])
    return float(np.linalg.norm(near[1] - near[0]) / 0.5)


# --- the skin ------------------------------------------------------------------------------------


def skin_map(
    maps: Sequence[SkinMap],
    anatomy: Anatomy,
    plan: Plan,
    shapes: Outlines,
    *,
    language: Language,
) -> Figure | None:
    """How much room each skin point leaves, on the side of the best needle; None if nowhere any.

    Seen by somebody who looks at that side of the patient; bone and lesion shine through.
    """
    face = _face(-plan.options[0].path.direction)
    points = np.concatenate([m.points_mm for m in maps])
    room = np.concatenate([m.slack_mm for m in maps])
    ahead = (points - anatomy.axes.origin_mm) @ face > 0
    points, room = points[ahead], room[ahead]
    allowed = np.isfinite(room)
    if not allowed.any():
        return None
    right = np.cross(face, -SUPERIOR) if abs(face @ SUPERIOR) < 0.5 else LEFT
    frame = Pane(centre_mm=anatomy.axes.origin_mm, right=right, down=-SUPERIOR, size_mm=(1, 1))
    with drawing(language) as (plt, t):
        figure, axis = plt.subplots(figsize=(7.2, 3.7), layout="constrained")
        _draw_skin(figure, axis, frame.flat(points), room, t)
        _draw_shadows(
            axis, frame, {"bone": _cut_out(anatomy.bone), "lesion": shapes.parts.get("lesion")}, t
        )
        _draw_entries(axis, frame, plan.options, face)
        _fit_skin(axis, frame.flat(points[allowed]), frame, plan.options, face)
        _letters(axis, right, -SUPERIOR, dark=True)
        uri = picture(figure, plt, colours=None)
    return Figure(
        uri=uri,
        title=translate("Skin map", language),
        caption=_skin_caption(face, plan.options, language),
    )


def _skin_caption(face: Float, options: Sequence[Trajectory], language: Language) -> str:
    """How to read the map: from where it is seen, what its colour is, whose entry is not on it."""
    parts = [
        _seen_from(face, language),
        translate(
            "Brighter skin leaves more room, beyond their limits, between the best needle from "
            "there and the structures at risk (not to the bone's own walls), capped at 20 mm; "
            "white skin allows no needle. Circles mark the entries of the numbered needles; bone "
            "(thin) and lesion (thick) shine through. Scale in mm from the centre of the bone.",
            language,
        ),
    ]
    away = [k for k, o in enumerate(options, start=1) if -o.path.direction @ face <= 0]
    if away:
        numbers = ", ".join(str(k) for k in away)
        text = translate("Needle {numbers} enters from another side and is not shown.", language)
        parts.append(fill(text, {"numbers": numbers}, language))
    return (" " if language == "en" else "").join(parts)


def _seen_from(face: Float, language: Language) -> str:
    if abs(face @ POSTERIOR) > 0.5:
        behind = bool(face @ POSTERIOR > 0)
        return translate("Seen from behind." if behind else "Seen from the front.", language)
    is_left = bool(face @ LEFT > 0)
    return translate(
        "Seen from the patient's left." if is_left else "Seen from the patient's right.", language
    )


def _face(toward_skin: Float) -> Float:
    """The side of the patient (back, front, left or right) the needle comes from."""
    level = toward_skin * [1.0, 1.0, 0.0]
    axis = int(np.argmax(np.abs(level)))
    out: Float = np.sign(level[axis]) * np.eye(3)[axis]
    return out


def _draw_skin(figure: Any, axis: Any, flat: Float, room: Float, t: Words) -> None:
    order = np.argsort(np.nan_to_num(room, nan=-np.inf))
    order = order[np.isfinite(room[order])]
    # The map is drawn as the best of all routes on a 2 mm raster: the last written is the best.
    cell = np.rint(flat[order] / _SKIN_MM).astype(int)
    low = cell.min(axis=0) - 1
    raster = np.full(cell.max(axis=0) - low + 2, np.nan)
    raster[tuple((cell - low).T)] = room[order]
    edges = [(low[a] - 0.5 + np.arange(raster.shape[a] + 1)) * _SKIN_MM for a in (0, 1)]
    shown = axis.pcolormesh(edges[0], edges[1], raster.T, cmap="cividis", vmin=0.0)
    bar = figure.colorbar(shown, ax=axis, shrink=0.8, pad=0.02)
    bar.set_label(t("room to structures at risk, mm"), fontsize=7)
    bar.ax.tick_params(labelsize=7)
    axis.set_aspect("equal")


def _draw_shadows(axis: Any, frame: Pane, parts: Mapping[str, Volume | None], t: Words) -> None:
    step = 0.5  # mm per pixel of the shadow
    for key, part in parts.items():
        if part is None:
            continue
        corners = part.grid.to_world(
            np.indices((2, 2, 2)).reshape(3, -1).T * (np.asarray(part.grid.shape) - 1)
        )
        low = frame.flat(corners).min(axis=0) - 5
        size = np.ceil((frame.flat(corners).max(axis=0) + 5 - low) / step).astype(int)

        def place(p: ArrayLike, low: Float = low) -> Float:
            return (frame.flat(p) - low) / step

        for ring in _shadow(part, place, (int(size[1]), int(size[0]))):
            points = low + ring * step
            width = 1.6 if key == "lesion" else 0.7
            colour = _STYLES["lesion"].colour if key == "lesion" else "#222222"
            axis.plot(points[:, 0], points[:, 1], color=colour, linewidth=width)


def _draw_entries(axis: Any, frame: Pane, options: Sequence[Trajectory], face: Float) -> None:
    for number, option in enumerate(options, start=1):
        if -option.path.direction @ face <= 0:
            continue
        x, y = frame.flat(option.entry_mm)
        axis.plot([x], [y], "o", markersize=11, markerfacecolor="white", markeredgecolor="black")
        axis.text(x, y, str(number), ha="center", va="center_baseline", fontsize=7, color="black")


def _fit_skin(
    axis: Any, flat: Float, frame: Pane, options: Sequence[Trajectory], face: Float
) -> None:
    entries = [frame.flat(o.entry_mm) for o in options if -o.path.direction @ face > 0]
    seen = np.vstack([flat, *entries, [[-30.0, -30.0], [30.0, 30.0]]])
    low, high = seen.min(axis=0) - 12, seen.max(axis=0) + 12
    axis.set_xlim(low[0], high[0])
    axis.set_ylim(high[1], low[1])
    axis.tick_params(labelsize=7, length=2)
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axis.set_facecolor("white")


# --- letters, bars and labels --------------------------------------------------------------------


def _letters(axis: Any, right: Float, down: Float, *, dark: bool = False) -> None:
    where = (
        (0.015, 0.5, "left", "center", -right),
        (0.985, 0.5, "right", "center", right),
        (0.5, 0.985, "center", "top", -down),
        (0.5, 0.015, "center", "bottom", down),
    )
    for x, y, ha, va, direction in where:
        axis.text(
            x,
            y,
            letters(direction),
            transform=axis.transAxes,
            ha=ha,
            va=va,
            **_text(9, "black" if dark else "white", dark=dark, weight="bold"),
        )


def annotate_scene(axis: Any, labels: Sequence[Label], shape: tuple[int, ...], axes: Float) -> None:
    """Letters and labels on a three-dimensional picture (dark on white)."""
    rows, columns = shape
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    _letters(axis, axes[:, 2], axes[:, 1], dark=True)
    _labels(axis, labels, extent, dark=True)
    _fit(axis, extent)


def _bar(axis: Any, extent: tuple[float, float, float, float], length_mm: float) -> None:
    left, right, bottom, top = extent
    x, y = left + 0.04 * (right - left), bottom - 0.045 * (bottom - top)
    axis.plot([x, x + length_mm], [y, y], color="white", linewidth=2, path_effects=_halo(3.4))
    axis.text(
        x, y - 0.015 * (bottom - top), f"{length_mm:.0f} mm", va="bottom", **_text(6.5, "white")
    )


def _labels(
    axis: Any,
    labels: Sequence[Label],
    extent: tuple[float, float, float, float],
    *,
    dark: bool = False,
    inset: float = 0.075,
    keep: Keep | None = None,
) -> None:
    """Words in two columns near the edges, each joined to its place by a thin line.

    ``inset`` is the part of the width kept free for the letters of orientation; ``keep`` says what
    the words must not cover.
    """
    left, right, bottom, top = extent
    seen = [item for item in labels if left < item.at[0] < right and top < item.at[1] < bottom]
    seen.sort(key=lambda item: item.at[1])
    columns = (left + inset * (right - left), right - inset * (right - left))
    if keep is None:
        places = _two_columns(seen, extent)
    else:
        places = _free_places(seen, extent, columns, keep)
    for item, (is_right, row) in zip(seen, places, strict=True):
        axis.annotate(
            item.text,
            xy=item.at,
            xytext=(columns[is_right], row),
            ha="right" if is_right else "left",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": item.colour,
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 0,
                "path_effects": _halo(1.4, dark=dark),
            },
            **_text(6.8, item.colour, dark=dark),
        )


def _two_columns(
    labels: Sequence[Label], extent: tuple[float, float, float, float]
) -> list[tuple[bool, float]]:
    """Column (right or left) and row of each word: the nearer column, at its own height."""
    left, right, bottom, top = extent
    height = bottom - top
    sides = [item.at[0] > (left + right) / 2 for item in labels]
    rows = [0.0] * len(labels)
    for side in (False, True):
        mine = [k for k, is_right in enumerate(sides) if is_right == side]
        wanted = [labels[k].at[1] for k in mine]
        spread = _spread(wanted, 0.055 * height, top + 0.09 * height, bottom - 0.13 * height)
        for k, row in zip(mine, spread, strict=True):
            rows[k] = row
    return list(zip(sides, rows, strict=True))


def _free_places(
    labels: Sequence[Label],
    extent: tuple[float, float, float, float],
    columns: tuple[float, float],
    keep: Keep,
) -> list[tuple[bool, float]]:
    """Column and row of each word, near its thing but over nothing that must be seen.

    Words are placed one after the other from the top, each where it costs least: a word over the
    needle, the lesion or another word costs more than any distance, one over bone a little.
    """
    left, right, bottom, top = extent
    width, height = right - left, bottom - top
    rows = np.linspace(top + 0.09 * height, bottom - 0.13 * height, _ROWS)
    taken: list[tuple[bool, float, float]] = []
    for item in labels:
        long = _word_width(item.text) * width
        best = (np.inf, False, float(rows[0]))
        for is_right in (False, True):
            near, far = columns[is_right], columns[is_right] + (-long if is_right else long)
            x0, x1 = min(near, far), max(near, far)
            for row in rows:
                box = (x0, x1, row - 0.028 * height, row + 0.028 * height)
                clash = sum(
                    abs(row - r) < 0.052 * height
                    and (side == is_right or wide + long > 0.8 * width)
                    for side, r, wide in taken
                )
                cost = (
                    np.hypot(item.at[0] - far, 1.5 * (item.at[1] - row)) / width
                    + 20.0 * clash
                    + 3.0 * (_within(keep.sacred, box) > 0)
                    + 0.6 * min(_within(keep.clear, box), 5) / 5
                )
                best = min(best, (float(cost), is_right, float(row)))
        taken.append((best[1], best[2], long))
    return [(side, row) for side, row, _ in taken]


def _word_width(text: str) -> float:
    """About how much of a pane's width a word takes; a Chinese character counts twice."""
    from unicodedata import east_asian_width

    return 0.0155 * sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def _within(points: Float, box: tuple[float, float, float, float]) -> int:
    x, y = points[:, 0], points[:, 1]
    return int(np.sum((x > box[0]) & (x < box[1]) & (y > box[2]) & (y < box[3])))


def _spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The positions nearest to those wanted that keep a gap and stay between the limits.

    >>> _spread([5.0, 5.0], 2.0, 0.0, 10.0)
    [4.0, 6.0]
    """
    count = len(wanted)
    if not count:
        return []
    gap = min(gap, (high - low) / max(1, count))
    # Least squares under a minimum gap is isotonic regression of the shifted positions.
    blocks: list[list[float]] = []
    for k, value in enumerate(wanted):
        blocks.append([value - k * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, n = blocks.pop()
            m0, n0 = blocks.pop()
            blocks.append([(m0 * n0 + mean * n) / (n0 + n), n0 + n])
    flat = [mean for mean, n in blocks for _ in range(int(n))]
    top = high - gap * (count - 1)
    return [float(np.clip(value, low, max(low, top))) + k * gap for k, value in enumerate(flat)]


def _text(size: float, colour: str, *, dark: bool = False, **more: Any) -> dict[str, Any]:
    return {"fontsize": size, "color": colour, "path_effects": _halo(2.2, dark=dark), **more}


def _halo(width: float, *, dark: bool = False) -> list[Any]:
    """A rim that lets lines and words stand out: dark round bright ones, white round dark ones."""
    from matplotlib import patheffects

    rim = "white" if dark else "#101418"
    return [patheffects.Stroke(linewidth=width, foreground=rim), patheffects.Normal()]


# --- matplotlib, without a display and without leaving traces ------------------------------------


@contextmanager
def drawing(language: Language) -> Iterator[tuple[Any, Words]]:
    """pyplot on the Agg back end with our fonts, and a translator that knows which font there is.

    Without a font that has Chinese characters the labels inside pictures stay English.
    """
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    font = _chinese_font() if language != "en" else None
    spoken: Language = language if font else "en"
    family = [*([font] if font else []), "DejaVu Sans"]
    with mpl.rc_context({"font.family": family, "axes.linewidth": 0.0}):
        backend = mpl.get_backend()
        plt.switch_backend("agg")
        try:
            yield plt, lambda text: translate(text, spoken)
        finally:
            if backend.lower() != "agg":
                plt.switch_backend(backend)


@cache
def _chinese_font() -> str | None:
    from matplotlib import font_manager

    known = {entry.name for entry in font_manager.fontManager.ttflist}
    wanted = (
        "Noto Sans CJK HK",
        "Noto Sans CJK TC",
        "Noto Sans CJK JP",
        "Noto Sans TC",
        "PingFang HK",
        "PingFang TC",
        "Microsoft JhengHei",
        "Heiti TC",
    )
    return next((font for font in wanted if font in known), None)


def panes(plt: Any, rows: int, columns: int, *, title_lines: int = 1) -> tuple[Any, Any]:
    """A figure as wide as the page with square panes, a title above each, and no waste."""
    width, gap, head = 7.2, 0.08, 0.06 + 0.135 * title_lines
    side = (width - gap * (columns - 1)) / columns
    height = rows * (side + head) + 0.04
    figure = plt.figure(figsize=(width, height))
    axes: NDArray[np.object_] = np.empty((rows, columns), dtype=object)
    for r, c in np.ndindex(rows, columns):
        bottom = height - (r + 1) * (side + head) - 0.02
        box = (c * (side + gap) / width, bottom / height, side / width, side / height)
        axis = figure.add_axes(box)
        axis.set_xticks([])
        axis.set_yticks([])
        axes[r, c] = axis
    return figure, axes


def picture(figure: Any, plt: Any, *, colours: int | None = 64, compact: bool = False) -> str:
    """The figure as a data URI: greys and at most so many colours (PNG), or all (WebP).

    Both keep every pixel. ``compact`` need not, where that takes less room: a third for a CT.
    """
    from PIL import Image

    figure.set_dpi(_DPI)
    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    plt.close(figure)
    if colours:
        uris = [_encoded(_paletted(image, colours), "PNG")]
    else:
        uris = [_encoded(image, "WEBP", lossless=True)]
    if compact:
        uris.append(_encoded(image, "WEBP", quality=_QUALITY))
    return min(uris, key=len)


def _encoded(image: Any, kind: str, **settings: Any) -> str:
    packed = BytesIO()
    image.save(packed, kind, **settings)
    return data_uri(packed.getvalue(), f"image/{kind.lower()}")


def _paletted(image: Any, colours: int) -> Any:
    """An image of greys with a few coloured lines in one byte per pixel: CT grey stays smooth."""
    from PIL import Image

    rgb = np.asarray(image)
    is_grey = np.ptp(rgb.astype(np.int16), axis=-1) <= _GREY_SPREAD
    greys = 256 - colours
    index = np.rint(rgb[..., 1] * ((greys - 1) / 255)).astype(np.uint8)
    palette = [v for k in range(greys) for v in [round(k * 255 / (greys - 1))] * 3]
    if not is_grey.all():
        lines = Image.fromarray(rgb[~is_grey][None]).quantize(colours, dither=Image.Dither.NONE)
        index[~is_grey] = greys + np.asarray(lines)[0]
        palette += (lines.getpalette() or [])[: 3 * colours]
    out = Image.fromarray(index, mode="P")
    out.putpalette(palette)
    return out


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that carries its own content."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
