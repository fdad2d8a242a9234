"""Put the CT around the bone, its labels and the needles into the sheet for the interactive viewer.

The viewer (niivue) is brought in when the package is built; where it is missing the sheet says so
and its static figures stand alone. Everything is packed into the page, unpacked only on demand.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.facts import limits
from trocar.model.plan import Plan, Trajectory
from trocar.model.result import Anatomy, Scan
from trocar.model.space import Float, Grid, Mask, Slices, Volume
from trocar.report.figures import kind_shown

_VOXELS = 4_000_000  # as many as keep the page below some ten megabytes
_HU_STEP = 4  # HU are rounded to this for the viewer: below the noise of any CT, and packs well
_MARGIN_MM = 12.0
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SIDES = 20  # faces of a drawn needle

_COLOURS: Mapping[str, tuple[int, int, int]] = {
    "lesion": (235, 40, 80),
    "canal": (255, 200, 40),
    "nerve": (170, 230, 60),
    "artery": (240, 100, 60),
    "vein": (90, 150, 240),
    "pleura": (110, 215, 225),
    "bowel": (200, 150, 245),
    "joint": (255, 165, 60),
    "metal": (190, 195, 200),
}
_UNKNOWN_COLOUR = (160, 160, 160)


@dataclass(frozen=True, kw_only=True)
class Region:
    """One label in the viewer: its number, the structure and its colour."""

    number: int
    structure: str
    colour: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class NeedleModel:
    """One needle in the viewer: a surface (STL, RAS mm) and the points to jump to."""

    number: int
    route: str
    stl: str
    tip_ras_mm: tuple[float, ...]
    bone_ras_mm: tuple[float, ...]
    entry_ras_mm: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What the page carries for the viewer; long texts are base64."""

    program: str  # JavaScript, gzip
    starter: str  # our own few lines, plain
    ct: str  # NIfTI, gzip
    labels: str  # NIfTI, gzip
    regions: tuple[Region, ...]
    needles: tuple[NeedleModel, ...]
    spacing_mm: tuple[float, float, float]
    licences: str


def assets() -> Mapping[str, bytes] | None:
    """The viewer's program and licence texts, or None where it was not installed."""
    folder = resources.files("trocar.report").joinpath("assets")
    program, licences = folder.joinpath("niivue.umd.js"), folder.joinpath("LICENSES.txt")
    if not (program.is_file() and licences.is_file()):
        return None
    return {"program": program.read_bytes(), "licences": licences.read_bytes()}


def embed(scan: Scan, anatomy: Anatomy, plan: Plan) -> Embedded | None:
    """Everything the interactive viewer needs, or None where the viewer is not installed."""
    if assets() is None:
        return None
    ct = reduced(scan.volume.crop(region_of_interest(scan.volume.grid, anatomy, plan)))
    labels, regions = label_map(anatomy, plan.lesion.mask, ct.grid)
    needles = tuple(_model(k, option) for k, option in enumerate(plan.options))
    return packed(ct, labels, regions, needles)


def around(scan: Scan, points_mm: Float) -> Volume:
    """The CT around some points with a margin, reduced for the viewer."""
    return reduced(scan.volume.crop(scan.volume.grid.around(points_mm, _MARGIN_MM)))


def packed(
    ct: Volume,
    labels: NDArray[np.uint8],
    regions: Sequence[Region],
    needles: Sequence[NeedleModel] = (),
) -> Embedded | None:
    """A CT with labels on its grid as the page carries them; None without the viewer."""
    files = assets()
    if files is None:
        return None
    starter = resources.files("trocar.report").joinpath("viewer.js").read_text(encoding="utf-8")
    return Embedded(
        program=_packed(files["program"]),
        starter=starter,
        ct=_packed(nifti(ct.grid, ct.values)),
        labels=_packed(nifti(ct.grid, labels)),
        regions=tuple(regions),
        needles=tuple(needles),
        spacing_mm=ct.grid.spacing_mm,
        licences=files["licences"].decode("utf-8"),
    )


def region_of_interest(grid: Grid, anatomy: Anatomy, plan: Plan) -> Slices:
    """The box of the CT that holds the bone, the lesion and every needle with a margin."""
    points = [option.entry_mm for option in plan.options]
    points += [option.target_mm for option in plan.options]
    for mask in (anatomy.bone, plan.lesion.mask):
        if not mask.is_empty:
            box = mask.grid.crop(mask.box())
            corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.asarray(box.shape) - 1)
            points += list(box.to_world(corners))
    if not points:
        points = [anatomy.axes.origin_mm]
    return grid.around(np.asarray(points), _MARGIN_MM)


def reduced(ct: Volume) -> Volume:
    """The CT as whole HU in few enough voxels, averaged over small blocks if need be."""
    step = 1
    values = ct.values
    grid = ct.grid
    while np.prod([n // s for n, s in zip(grid.shape, _steps(grid, step), strict=True)]) > _VOXELS:
        step += 1
    steps = _steps(grid, step)
    if max(steps) > 1:
        values, grid = _averaged(values, grid, steps)
    rounded = np.rint(np.clip(values, -1024, 3071) / _HU_STEP) * _HU_STEP
    return Volume(grid=grid, values=rounded.astype(np.int16))


def _steps(grid: Grid, step: int) -> tuple[int, int, int]:
    """How many voxels to join along each axis so that the result is nearly isotropic."""
    wanted = step * min(grid.spacing_mm)
    a, b, c = (max(1, min(step, int(wanted / s + 0.5))) for s in grid.spacing_mm)
    return a, b, c


def _averaged(values: NDArray[Any], grid: Grid, steps: tuple[int, int, int]) -> tuple[Float, Grid]:
    kept = [n // s for n, s in zip(values.shape, steps, strict=True)]
    trimmed = values[tuple(slice(0, n * s) for n, s in zip(kept, steps, strict=True))]
    shape = [v for n, s in zip(kept, steps, strict=True) for v in (n, s)]
    mean = trimmed.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * np.asarray(steps)
    affine[:3, 3] = grid.to_world((np.asarray(steps) - 1) / 2)
    return mean, Grid(shape=(kept[0], kept[1], kept[2]), affine=affine, frame=grid.frame)


def label_map(
    anatomy: Anatomy, lesion: Mask, grid: Grid
) -> tuple[NDArray[np.uint8], tuple[Region, ...]]:
    """Structures at risk and the lesion as one label map; where they overlap the lesion shows."""
    values = np.zeros(grid.shape, dtype=np.uint8)
    regions = []
    shown = [(k, m) for k, m in anatomy.structures.items() if limits.kind(k) != "other_bone"]
    for number, (key, mask) in enumerate([*shown, ("lesion", lesion)][:255], start=1):
        here = mask.on(grid).values
        if not here.any():
            continue
        values[here] = number
        colour = _COLOURS.get(kind_shown(key), _UNKNOWN_COLOUR)
        regions.append(Region(number=number, structure=key, colour=colour))
    return values, tuple(regions)


def nifti(grid: Grid, values: NDArray[Any]) -> bytes:
    """The array as an uncompressed NIfTI-1 file: (x, y, z) order, affine turned to RAS."""
    import nibabel as nib

    affine = _RAS @ grid.affine[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    return content


def _packed(content: bytes) -> str:
    # A fixed time stamp: the same plan gives the same page.
    return base64.b64encode(gzip.compress(content, compresslevel=6, mtime=0)).decode("ascii")


def _model(index: int, option: Trajectory) -> NeedleModel:
    def ras(point: Float) -> tuple[float, ...]:
        return tuple(round(float(v), 3) for v in _RAS[:3, :3] @ point)

    return NeedleModel(
        number=index + 1,
        route=option.route,
        stl=base64.b64encode(needle_stl(option)).decode("ascii"),
        tip_ras_mm=ras(option.target_mm),
        bone_ras_mm=ras(option.bone_entry_mm),
        entry_ras_mm=ras(option.entry_mm),
    )


def needle_stl(option: Trajectory) -> bytes:
    """The needle from tip to hub as a binary STL in RAS mm, at its true thickness, pointed."""
    u = -option.path.direction
    aside = np.cross(u, np.eye(3)[int(np.argmin(np.abs(u)))])
    aside /= np.linalg.norm(aside)
    turn = np.linspace(0, 2 * np.pi, _SIDES, endpoint=False)[:, None]
    ring = option.needle.radius_mm * (np.cos(turn) * aside + np.sin(turn) * np.cross(u, aside))
    tip = option.target_mm
    hub = tip + u * max(option.needle.length_mm, option.depth_mm)
    low, high = tip + u * option.needle.outer_mm + ring, hub + ring
    low_next, high_next = np.roll(low, -1, axis=0), np.roll(high, -1, axis=0)
    ends = [np.broadcast_to(p, low.shape) for p in (tip, hub)]
    faces = np.concatenate(
        [
            np.stack([low, low_next, high], axis=1),
            np.stack([low_next, high_next, high], axis=1),
            np.stack([ends[0], low_next, low], axis=1),
            np.stack([ends[1], high, high_next], axis=1),
        ]
    )
    triangles = np.zeros(
        len(faces), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("none", "<u2")]
    )
    triangles["corners"] = faces @ _RAS[:3, :3]
    return b"\0" * 80 + np.uint32(len(faces)).tobytes() + triangles.tobytes()
