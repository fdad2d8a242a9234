"""What a browser draws of a case: the CT, what lies over it, surfaces, and pictures without WebGL.

Everything over a CT (structures, cement, isotherms, strain) is an :class:`Overlay`: few numbers on
a grid of its own, each with a word and a colour. The viewer and the static pictures show the same
ones. Nothing here knows a row or a request.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.facts import ablation as ablation_facts
from trocar.facts import thermal
from trocar.io.formats import read_volume
from trocar.kernels import field
from trocar.model.case import WallDefect
from trocar.model.plan import Trajectory
from trocar.model.result import Scan
from trocar.model.space import Float, Grid, Labels, Mask, Slices, Volume
from trocar.pathway import Planned
from trocar.report import figures, viewer
from trocar.report.ablation_figures import isotherms
from trocar.report.cement_figures import is_alarm, rank
from trocar.report.figures import Pane
from trocar.report.strength_figures import LEVELS

Colour = tuple[int, int, int]
Read = Callable[[str], "bytes | None"]  # a file of a kept result by its name

PLANES = ("axial", "coronal", "sagittal")
AIR_HU = -1000.0
MOST_VOXELS = 24_000_000  # of a part of a CT that is shown voxel by voxel
_MARGIN_MM = 20.0
_SNAP = 16  # voxels: a needle that moves a little shows the same part of the CT
_SKIN_STEP_MM = 0.6  # how far apart points of a hole's edge may be drawn
_SURFACE_MM, _SURFACE_VOXELS = 1.2, 72  # finest step of a surface; most steps across it
_CALM = 0.8  # voxels of smoothing of a surface
_HALF = 0.5
_NEAR_MM = 1.5  # a needle this near to a slice is drawn as lying in it
_EDGE = 0.45  # how much more a region's edge is seen than its inside
_MOST_MM = 2000.0  # no CT is larger

NEEDLE_COLOURS: Mapping[str, Colour] = {
    "ok": (74, 222, 128),
    "caution": (255, 190, 60),
    "stop": (255, 92, 92),
    "unknown": (200, 205, 212),
}
_LESION, _DEFECT = (235, 40, 80), (255, 214, 10)
_DEAD, _CEMENT, _LEAK, _ALARM = (255, 140, 40), (63, 224, 255), (255, 95, 210), (255, 50, 120)
_WARM = ((255, 244, 160), (255, 190, 70), (240, 80, 40))
_COLD = ((190, 225, 255), (110, 170, 255), (80, 90, 240))
_DOSE = ((190, 235, 150), (255, 214, 90), (235, 90, 60))
_STRAIN = ((255, 224, 138), (255, 166, 61), (232, 69, 44), (160, 0, 122))
_REACHED = ((200, 190, 255), (160, 130, 250), (120, 70, 230))
_SHARES = (0.05, 0.25, 0.5)  # of the forecast's runs that reach a place


@dataclass(frozen=True, kw_only=True)
class Region:
    """One number of an overlay: what it is called and its colour."""

    number: int
    word: str  # a structure, wall or compartment by its name, or a phrase with a number
    colour: Colour


@dataclass(frozen=True, eq=False, kw_only=True)
class Overlay:
    """Regions to be shown over a CT, as numbers on a grid of their own; 0 is nothing."""

    key: str
    labels: Labels
    regions: tuple[Region, ...]

    @property
    def grid(self) -> Grid:
        """Where its voxels lie."""
        return self.labels.grid

    @cached_property
    def stamp(self) -> str:
        """A name of what is drawn: the same voxels of the same kind have the same."""
        return f"{self.key}-{stamp(self.grid, self.labels.values)}"

    def at(self, point_mm: Float) -> Region | None:
        """The region an LPS point lies in."""
        index = tuple(int(i) for i in np.rint(self.grid.to_index(point_mm)))
        inside = all(0 <= i < n for i, n in zip(index, self.grid.shape, strict=True))
        number = int(self.labels.values[index]) if inside else 0
        return next((r for r in self.regions if r.number == number), None)

    def mask(self, number: int) -> Mask:
        """One region."""
        return Mask(grid=self.grid, values=self.labels.values == number)


def stamp(grid: Grid, values: NDArray[Any]) -> str:
    """A short name of an array and where it lies."""
    told = hashlib.sha256(np.ascontiguousarray(grid.affine).tobytes())
    told.update(str(values.shape).encode() + np.ascontiguousarray(values).tobytes())
    return told.hexdigest()[:24]


# --- What lies over a CT --------------------------------------------------------------------------


def of_plan(planned: Planned) -> tuple[Overlay, ...]:
    """Structures at risk, the lesion and the holes in the bone's walls."""
    anatomy, lesion = planned.anatomy, planned.lesion
    none = Mask.empty(anatomy.grid)
    values, told = viewer.label_map(anatomy, none, anatomy.grid)
    regions = [Region(number=r.number, word=r.structure, colour=r.colour) for r in told]
    return _seen(
        _overlay("structures", anatomy.grid, values, regions),
        _overlay(
            "lesion",
            lesion.mask.grid,
            lesion.mask.values.astype(np.uint8),
            [Region(number=1, word="lesion", colour=_LESION)],
        ),
        _defects(lesion.defects, anatomy.grid),
    )


def _defects(defects: Sequence[WallDefect], grid: Grid) -> Overlay:
    values = np.zeros(grid.shape, np.uint8)
    regions = []
    for number, defect in enumerate(defects[:255], start=1):
        points = defect.points_mm
        if points is None or not len(points):
            points = defect.centre_mm[None]
        # A hole is a surface: its points and what touches them, or a slice between would miss it.
        reach = max(_SKIN_STEP_MM, max(grid.spacing_mm) * _HALF)
        steps = reach * np.array([-1.0, 0.0, 1.0])
        around = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
        near = np.rint(grid.to_index(points[:, None] + around)).astype(int).reshape(-1, 3)
        inside = np.all((near >= 0) & (near < np.asarray(grid.shape)), axis=1)
        values[tuple(near[inside].T)] = number
        regions.append(Region(number=number, word=defect.wall, colour=_DEFECT))
    return _overlay("defects", grid, values, regions)


def of_ablation(read: Read) -> tuple[Overlay, ...]:
    """What dies, isotherms and thermal dose of an ablation's folder."""
    temperature = _volume(read("temperature_c.nii.gz"))
    dead, dose = _volume(read("dead.nii.gz")), _volume(read("cem43_min.nii.gz"))
    out = []
    if dead is not None:
        region = Region(number=1, word="dead", colour=_DEAD)
        out.append(_overlay("dead", dead.grid, dead.values.astype(np.uint8), [region]))
    if temperature is not None:
        heats = dose is not None
        levels, sign = isotherms(heats), "≥" if heats else "≤"
        words = [f"{sign} {level:.0f} °C".replace("-", "−") for level in levels]
        side = 1.0 if heats else -1.0
        bands = _bands(side * temperature.values, [side * level for level in levels])
        colours = _WARM if heats else _COLD
        out.append(_overlay("heat", temperature.grid, bands, _told(words, colours)))
    if dose is not None:
        strict = thermal.limit("spinal_cord")
        assert strict is not None
        minutes = (
            strict.warn_cem43,
            strict.harm_cem43,
            float(ablation_facts.value("dead_cem43")),
        )
        bands = _bands(dose.values, minutes)
        words = [f"≥ {m:.0f} min" for m in minutes]
        out.append(_overlay("dose", dose.grid, bands, _told(words, _DOSE)))
    return _seen(*out)


def of_cement(read: Read) -> tuple[Overlay, ...]:
    """Cement as foretold, its leaks by compartment, and how often a place is reached."""
    labels, names = _volume(read("predicted_leaks.nii.gz")), read("predicted_leaks.json")
    out = [_cement("cement", labels, names)] if labels is not None else []
    reached = _volume(read("reached.nii.gz"))
    if reached is not None:
        words = [f"≥ {100 * s:.0f} %" for s in _SHARES]
        bands = _bands(reached.values, _SHARES)
        out.append(_overlay("reached", reached.grid, bands, _told(words, _REACHED)))
    return _seen(*out)


def of_assessment(read: Read, transform: Float | None = None) -> tuple[Overlay, ...]:
    """Cement found on the CT afterwards and its leaks, laid into the space of the planning CT."""
    labels = _volume(read("leaks.nii.gz"))
    if labels is None:
        return ()
    found = _cement("found", labels, read("leaks.json"))
    return _seen(replace(found, labels=replace(found.labels, grid=moved(found.grid, transform))))


def of_strength(read: Read) -> tuple[Overlay, ...]:
    """The share of its yield strain that bone uses, in each state that was computed."""
    out = []
    for state in ("now", "planned", "found"):
        used = _volume(read(f"strain_{state}.nii.gz"))
        if used is not None:
            words = [f"≥ {100 * level:.0f} %" for level in LEVELS]
            bands = _bands(used.values, LEVELS)
            out.append(_overlay(f"strain-{state}", used.grid, bands, _told(words, _STRAIN)))
    return _seen(*out)


def _cement(key: str, labels: Volume, names: bytes | None) -> Overlay:
    """Cement in the bone is one region, each compartment with a leak another."""
    import json

    told: dict[str, str] = json.loads(names or b"{}")
    values = np.rint(labels.values).astype(np.uint8)
    regions, merged = [], np.zeros(values.shape, np.uint8)
    by_word: dict[str, list[int]] = {}
    for number in sorted(int(v) for v in np.unique(values) if v):
        word = told.get(str(number), f"label {number}").removeprefix("cement leak, ")
        by_word.setdefault(word, []).append(number)
    order = sorted(by_word, key=lambda w: (min(by_word[w]) != 1, rank(w), w))
    for new, word in enumerate(order, start=1):
        merged[np.isin(values, by_word[word])] = new
        colour = _CEMENT if 1 in by_word[word] else _ALARM if is_alarm(word) else _LEAK
        regions.append(Region(number=new, word=word, colour=colour))
    return _overlay(key, labels.grid, merged, regions)


def _volume(data: bytes | None) -> Volume | None:
    if data is None:
        return None
    with tempfile.TemporaryDirectory(prefix="trocar-") as folder:
        place = Path(folder) / "values.nii.gz"
        place.write_bytes(data)
        volume, _ = read_volume(place)
        return replace(volume, values=np.array(volume.values))


def _bands(values: NDArray[Any], levels: Sequence[float]) -> NDArray[np.uint8]:
    """How many of the levels, lowest first, each value reaches; what is no number reaches none."""
    known = np.nan_to_num(values, nan=-np.inf)
    # Kept values are of single precision: one that stands for a level must reach it.
    edges = np.asarray(levels, np.float32)
    return np.searchsorted(edges, known.astype(np.float32), side="right").astype(np.uint8)


def _told(words: Sequence[str], colours: Sequence[Colour]) -> list[Region]:
    return [
        Region(number=k, word=w, colour=c)
        for k, (w, c) in enumerate(zip(words, colours, strict=True), start=1)
    ]


def _overlay(key: str, grid: Grid, values: NDArray[np.uint8], regions: Sequence[Region]) -> Overlay:
    """The part of the grid that holds something, and the regions that are there."""
    there = Mask(grid=grid, values=values > 0)
    if there.is_empty:
        labels = Labels(grid=grid.crop((slice(0, 1),) * 3), values=np.zeros((1, 1, 1), np.uint8))
        return Overlay(key=key, labels=labels, regions=())
    box = there.box()
    cut = np.ascontiguousarray(values[box])
    present = {int(v) for v in np.unique(cut)}
    return Overlay(
        key=key,
        labels=Labels(grid=grid.crop(box), values=cut),
        regions=tuple(r for r in regions if r.number in present),
    )


def _seen(*overlays: Overlay) -> tuple[Overlay, ...]:
    return tuple(o for o in overlays if o.regions)


# --- Files for the viewer -------------------------------------------------------------------------


def moved(grid: Grid, transform: Float | None) -> Grid:
    """A grid of a later CT laid into the planning CT's space; ``transform`` leads the other way."""
    if transform is None:
        return grid
    back = np.linalg.inv(np.asarray(transform, np.float64))
    return Grid(shape=grid.shape, affine=back @ grid.affine, frame="")


def part_to_show(grid: Grid, planned: Planned | None) -> Slices:
    """The box of a CT that holds bone, lesion and needles with a margin; all of it without a plan.

    Its sides lie on every 16th voxel, so that edits seldom change it.
    """
    if planned is None:
        return (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
    own = planned.anatomy.grid
    box = own.crop(viewer.region_of_interest(own, planned.anatomy, planned.plan))
    ends = [p for o in planned.plan.options for p in (o.entry_mm, o.target_mm)]
    points = np.vstack([box.corners_mm, *ends]) if ends else box.corners_mm
    around = grid.around(points, _MARGIN_MM)
    snapped = [
        slice(s.start // _SNAP * _SNAP, min(n, -(-s.stop // _SNAP) * _SNAP))
        for s, n in zip(around, grid.shape, strict=True)
    ]
    return snapped[0], snapped[1], snapped[2]


def ct_part(ct: Volume, box: Slices) -> Volume:
    """A part of a CT voxel by voxel, in whole HU; reduced where it has too many."""
    part = ct.crop(box)
    if part.values.size > MOST_VOXELS:
        return viewer.reduced(part)
    values = part.values
    if values.dtype != np.int16:
        values = np.rint(np.clip(values, -32768, 32767)).astype(np.int16)
    return replace(part, values=values)


def nifti_gz(grid: Grid, values: NDArray[Any]) -> bytes:
    """The array as a gzipped NIfTI file, quickly packed; the same array gives the same bytes."""
    return gzip.compress(viewer.nifti(grid, values), compresslevel=1, mtime=0)


def overlay_nifti(overlay: Overlay) -> bytes:
    """An overlay as a gzipped NIfTI file."""
    return nifti_gz(overlay.grid, overlay.labels.values)


def surface_stl(mask: Mask) -> bytes:
    """The surface of a mask as a binary STL in RAS mm, smoothed; empty where there is none."""
    from scipy.ndimage import gaussian_filter
    from skimage.measure import marching_cubes

    if mask.is_empty:
        return _stl(np.zeros((0, 3, 3)))
    cut = mask.crop(mask.box())
    extent = max(n * s for n, s in zip(cut.grid.shape, cut.grid.spacing_mm, strict=True))
    step = max(_SURFACE_MM, extent / _SURFACE_VOXELS)
    fine = np.pad(cut.values.astype(np.float32), 2)
    affine = cut.grid.affine.copy()
    affine[:3, 3] = cut.grid.to_world([-2, -2, -2])
    padded = Grid(shape=fine.shape, affine=affine)
    even = Volume(grid=padded, values=fine).on(padded.isotropic(step), outside=0.0)
    calm = gaussian_filter(np.pad(even.values, 1), _CALM)
    if not calm.min() < _HALF < calm.max():
        return _stl(np.zeros((0, 3, 3)))
    corners, faces, _, _ = marching_cubes(calm, _HALF)
    return _stl(even.grid.to_world(corners - 1)[faces])


def _stl(triangles_mm: Float) -> bytes:
    """Triangles [n, corner, LPS] as a binary STL in RAS."""
    kind = [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("none", "<u2")]
    out = np.zeros(len(triangles_mm), dtype=kind)
    out["corners"] = triangles_mm * [-1.0, -1.0, 1.0]
    return b"\0" * 80 + np.uint32(len(out)).tobytes() + out.tobytes()


# --- Pictures -------------------------------------------------------------------------------------


def plane(name: str, centre_mm: Float, side_mm: float) -> Pane:
    """A square axial, coronal or sagittal cut, the patient's right (or front) at its left."""
    normal = {
        "axial": figures.SUPERIOR,
        "coronal": figures.POSTERIOR,
        "sagittal": figures.LEFT,
    }[name]
    right, down = figures.upright(normal)
    return Pane(centre_mm=np.asarray(centre_mm), right=right, down=down, size_mm=(side_mm, side_mm))


def along(needle: Trajectory) -> tuple[Pane, Pane]:
    """The two cuts that hold a needle, as on the plan sheet: tilted axial, and across that."""
    points = np.stack([needle.entry_mm, needle.target_mm])
    first, second = (
        figures.framed(normal, points, margin_mm=_MARGIN_MM)
        for normal in figures.needle_planes(needle)
    )
    return first, second


def pane_of(
    centre_mm: Sequence[float], right: Sequence[float], down: Sequence[float], side_mm: float
) -> Pane | None:
    """A cut from numbers that came from a browser; None for what is no cut."""
    vectors = [np.asarray(v, np.float64) for v in (centre_mm, right, down)]
    if any(v.shape != (3,) or not np.isfinite(v).all() for v in vectors):
        return None
    centre, along_row, along_column = vectors
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if not np.allclose(lengths, 1.0, atol=1e-3) or abs(along_row @ along_column) > 1e-3:
        return None
    if not 1.0 <= side_mm <= _MOST_MM or np.abs(centre).max() > 10 * _MOST_MM:
        return None
    return Pane(centre_mm=centre, right=along_row, down=along_column, size_mm=(side_mm, side_mm))


def edges(pane: Pane) -> tuple[str, str, str, str]:
    """Which side of the patient the left, top, right and bottom edge of a picture point to."""
    told = (-pane.right, -pane.down, pane.right, pane.down)
    left, top, right, bottom = (figures.letters(d) for d in told)
    return left, top, right, bottom


def png(
    ct: Volume,
    pane: Pane,
    *,
    pixels: int,
    window: tuple[float, float],
    overlays: Sequence[tuple[Overlay, float]] = (),
    needles: Sequence[tuple[Trajectory, str]] = (),
) -> bytes:
    """One cut through a CT as a PNG: overlays (each with its opacity), letters, a bar in mm.

    ``needles`` are drawn at their true thickness in the colour of their verdict.
    """
    from PIL import Image

    grid = pane.grid(pane.size_mm[0] / pixels)
    low = window[0] - window[1] / 2
    hu = ct.on(grid, outside=AIR_HU).values[0]
    grey = np.clip((hu - low) / max(window[1], 1.0), 0.0, 1.0) * 255
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    for overlay, opacity in overlays:
        _paint(rgb, overlay, grid, opacity)
    image = Image.fromarray(np.rint(rgb).astype(np.uint8))
    _mark(image, pane, needles)
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _paint(rgb: Float, overlay: Overlay, grid: Grid, opacity: float) -> None:
    numbers = field.resample_nearest(
        overlay.labels.values, overlay.grid.index_map(grid), grid.shape, 0
    )[0]
    if not numbers.any():
        return
    table = np.zeros((256, 3))
    for region in overlay.regions:
        table[region.number] = region.colour
    round_it = np.pad(numbers, 1)
    edge = np.zeros(numbers.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            edge |= np.roll(round_it, step, axis)[1:-1, 1:-1] != numbers
    share = np.where(edge, min(1.0, opacity + _EDGE), opacity)[..., None] * (numbers > 0)[..., None]
    rgb += share * (table[numbers] - rgb)


def _mark(image: Any, pane: Pane, needles: Sequence[tuple[Trajectory, str]]) -> None:
    """Needles, the letters of orientation and the bar."""
    from PIL import ImageDraw

    draw, side = ImageDraw.Draw(image), image.width
    scale = side / pane.size_mm[0]
    for needle, verdict in needles:
        _needle(draw, pane, needle, NEEDLE_COLOURS[verdict], scale, side)
    font, small = _font(max(11, side // 24)), _font(max(9, side // 36))
    rim: dict[str, Any] = {"stroke_width": 2, "stroke_fill": "#101418", "fill": "white"}
    left, top, right, bottom = edges(pane)
    middle, gap = side / 2, max(3, side // 100)
    draw.text((gap, middle), left, font=font, anchor="lm", **rim)
    draw.text((middle, gap), top, font=font, anchor="ma", **rim)
    draw.text((side - gap, middle), right, font=font, anchor="rm", **rim)
    draw.text((middle, side - gap), bottom, font=font, anchor="md", **rim)
    long = 50.0 if pane.size_mm[0] > 120 else 10.0
    y, x = side - 3 * gap, 3 * gap
    draw.line((x, y, x + long * scale, y), fill="#101418", width=4)
    draw.line((x, y, x + long * scale, y), fill="white", width=2)
    draw.text((x, y - gap), f"{long:.0f} mm", font=small, anchor="ls", **rim)


def _needle(
    draw: Any, pane: Pane, needle: Trajectory, colour: Colour, scale: float, side: int
) -> None:
    """The needle's shadow on the cut: filled where it lies in it, its outline elsewhere."""
    normal = np.cross(pane.down, pane.right)
    path = needle.path
    hub = path.end_mm - path.direction * max(needle.needle.length_mm, path.length_mm)
    radius = needle.needle.radius_mm

    def at(points_mm: Float) -> Float:
        return pane.flat(points_mm) * scale + side / 2

    ends = at(np.stack([path.end_mm, hub]))
    way = ends[1] - ends[0]
    if np.linalg.norm(way) < 2 * radius * scale:
        x, y = ends[0]
        r = radius * scale
        draw.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=2)
        return
    aside = np.array([-way[1], way[0]]) / np.linalg.norm(way) * radius * scale
    draw.polygon(
        [tuple(p) for p in (ends[0] + aside, ends[1] + aside, ends[1] - aside, ends[0] - aside)],
        outline=colour,
    )
    steps = path.at_mm(np.linspace(0.0, path.length_mm, 200))
    inside = steps[np.abs((steps - pane.centre_mm) @ normal) <= max(radius, _NEAR_MM)]
    if len(inside) > 1:
        first, last = at(inside[[0, -1]])
        draw.line((*first, *last), fill=colour, width=max(1, round(2 * radius * scale)))


@cache
def _font(size: int) -> Any:
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf", size)


def in_space(scan: Scan, transform: Float | None) -> Volume:
    """The voxels of a later CT where they lie in the planning CT's space."""
    return replace(scan.volume, grid=moved(scan.volume.grid, transform))
