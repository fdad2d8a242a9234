"""From shapes to a CT: sparse evaluation, partial volume, paint, blur and noise on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, log, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trocar.facts import tissue
from trocar.model.space import Float, Grid
from trocar.phantom.shapes import Array, Shape, even

Box = tuple[Sequence[float], Sequence[float]]  # lowest and highest (x, y, z) in mm

# World LPS mm of the phantom's own origin: away from 0 so that an index taken for a point, or a
# forgotten offset, shows. Chosen here; it means nothing.
ORIGIN_MM = np.array([12.0, -141.0, 356.0])

_Any = TypeVar("_Any", bound=np.generic)

_BLOCK = 4  # voxels along an edge of the blocks in which shapes are evaluated
_CHUNK_BLOCKS = 1024  # blocks evaluated at once: 65 536 points stay in a core's cache
_TILE = 96  # voxels along an edge of the tile of mottle
_STEEPEST = 1.35  # shapes that are not exact distances are at most this much too steep
FWHM_PER_SIGMA = sqrt(8 * log(2))


@dataclass(frozen=True, kw_only=True)
class Bone:
    """Solid bone: a cortex of ``cortex_mm`` (a field) round marrow, fatty by ``fatty``."""

    cortex_mm: Shape = field(default_factory=lambda: even(1.0))
    thickest_mm: float = 2.0  # no cortex of this bone is thicker
    cortical_hu: float = float(tissue.value("hu_cortical"))
    marrow_hu: float = float(tissue.value("hu_trabecular"))
    fatty: Shape | None = None  # a field from 0 to 1


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing in the patient; later parts are painted over earlier ones."""

    name: str  # label, "" for what carries none
    shape: Shape
    box: Box
    hu: float = 0.0
    bone: Bone | None = None


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Points on which shapes are evaluated: start and step of x, y, z with counts [z, y, x]."""

    start_mm: tuple[float, float, float]  # x, y, z of the first point, phantom frame
    step_mm: tuple[float, float, float]
    shape: tuple[int, int, int]  # slices, rows, columns

    @classmethod
    def over(cls, box: Box, step_mm: Sequence[float]) -> Lattice:
        """Cells of ``step_mm`` (x, y, z) that cover a box; points are their centres."""
        low, high = np.asarray(box[0], float), np.asarray(box[1], float)
        n = np.maximum(1, np.ceil((high - low) / np.asarray(step_mm) - 1e-9).astype(int))
        first = low + np.asarray(step_mm) / 2
        return cls(
            start_mm=(float(first[0]), float(first[1]), float(first[2])),
            step_mm=(float(step_mm[0]), float(step_mm[1]), float(step_mm[2])),
            shape=(int(n[2]), int(n[1]), int(n[0])),
        )

    @property
    def cell_mm3(self) -> float:
        """Volume of one cell."""
        return self.step_mm[0] * self.step_mm[1] * self.step_mm[2]

    def axis(self, k: int) -> Array:
        """Coordinates along x (0), y (1) or z (2)."""
        n = self.shape[2 - k]
        return (self.start_mm[k] + self.step_mm[k] * np.arange(n)).astype(np.float32)

    def window(self, box: Box) -> tuple[slice, slice, slice]:
        """Index slices [z, y, x] of the points in a box, clipped; may be empty."""
        out = []
        for k in (2, 1, 0):
            n = self.shape[2 - k]
            a = ceil((box[0][k] - self.start_mm[k]) / self.step_mm[k])
            b = ceil((box[1][k] - self.start_mm[k]) / self.step_mm[k])
            a, b = min(max(a, 0), n), min(max(b, 0), n)
            out.append(slice(a, max(a, b)))
        return out[0], out[1], out[2]

    def part(self, where: tuple[slice, slice, slice]) -> Lattice:
        """The lattice of the points in ``where``."""
        z, y, x = where
        start = [self.start_mm[k] + self.step_mm[k] * s.start for k, s in enumerate((x, y, z))]
        return Lattice(
            start_mm=(start[0], start[1], start[2]),
            step_mm=self.step_mm,
            shape=(z.stop - z.start, y.stop - y.start, x.stop - x.start),
        )

    def grid(self) -> Grid:
        """The same points as a grid in world LPS."""
        affine = np.eye(4)
        affine[:3, :3] = np.diag(self.step_mm)[:, ::-1]
        affine[:3, 3] = np.asarray(self.start_mm) + ORIGIN_MM
        return Grid(shape=self.shape, affine=affine, frame="")


@dataclass(frozen=True, eq=False, kw_only=True)
class _Blocks:
    """A lattice cut into cubes of voxels, so that a shape is evaluated only where it matters."""

    lattice: Lattice
    counts: tuple[int, int, int]  # blocks along z, y, x
    axes: tuple[Array, Array, Array]  # block centres along z, y, x
    offsets: tuple[Array, Array, Array]  # of a block's voxels from its centre: z, y, x

    @classmethod
    def of(cls, lattice: Lattice) -> _Blocks:
        counts = [-(-n // _BLOCK) for n in lattice.shape]
        step = np.asarray(lattice.step_mm[::-1], dtype=np.float32)
        start = np.asarray(lattice.start_mm[::-1], dtype=np.float32)
        axes: list[Array] = [
            start[i]
            + step[i] * (np.arange(counts[i], dtype=np.float32) * _BLOCK + (_BLOCK - 1) / 2)
            for i in range(3)
        ]
        o = np.arange(_BLOCK, dtype=np.float32) - (_BLOCK - 1) / 2
        dz, dy, dx = (d.ravel() for d in np.meshgrid(*(o * s for s in step), indexing="ij"))
        return cls(
            lattice=lattice,
            counts=(counts[0], counts[1], counts[2]),
            axes=(
                axes[0].astype(np.float32),
                axes[1].astype(np.float32),
                axes[2].astype(np.float32),
            ),
            offsets=(dz.astype(np.float32), dy.astype(np.float32), dx.astype(np.float32)),
        )

    def reach(self, band_mm: float) -> float:
        """How near a block's centre lies to a surface when one of its voxels is in the band."""
        half = float(np.linalg.norm(self.lattice.step_mm)) * _BLOCK / 2
        return (band_mm + half) * _STEEPEST

    def inside(self, box: Box | None = None) -> NDArray[np.intp]:
        """Flat numbers of the blocks that have a voxel in a box (all without a box)."""
        spans = []
        for i, k in enumerate((2, 1, 0)):
            keep = np.ones(self.counts[i], bool)
            if box is not None:
                half = abs(self.lattice.step_mm[k]) * _BLOCK / 2
                keep = (self.axes[i] > box[0][k] - half) & (self.axes[i] < box[1][k] + half)
            spans.append(np.flatnonzero(keep))
        z, y, x = np.meshgrid(*spans, indexing="ij")
        return np.ravel_multi_index((z.ravel(), y.ravel(), x.ravel()), self.counts)

    def place(self, b: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """Centres x, y, z of blocks."""
        i, j, k = np.unravel_index(b, self.counts)
        return self.axes[2][k], self.axes[1][j], self.axes[0][i]

    def centres(self, shape: Shape, b: NDArray[np.intp]) -> Array:
        """A shape's signed distance at the centres of blocks."""
        x, y, z = self.place(b)
        n = _CHUNK_BLOCKS * _BLOCK**3
        found = [shape(x[i : i + n], y[i : i + n], z[i : i + n]) for i in _starts(b, n)]
        return np.concatenate(found).astype(np.float32)

    def points(self, b: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """Voxels x, y, z of blocks, each (blocks, voxels in a block)."""
        x, y, z = self.place(b)
        dz, dy, dx = self.offsets
        return x[:, None] + dx, y[:, None] + dy, z[:, None] + dz

    def join(self, values: NDArray[_Any]) -> NDArray[_Any]:
        """Blocked values as one array [z, y, x]."""
        n = self.lattice.shape
        full = values.reshape(*self.counts, _BLOCK, _BLOCK, _BLOCK).transpose(0, 3, 1, 4, 2, 5)
        full = full.reshape([c * _BLOCK for c in self.counts])
        return np.ascontiguousarray(full[: n[0], : n[1], : n[2]])

    def split(self, values: Array) -> Array:
        """An array [z, y, x] in blocks, edge values repeated to fill the last ones."""
        c = self.counts
        pad = [(0, k * _BLOCK - n) for k, n in zip(c, values.shape, strict=True)]
        full = np.pad(values, pad, mode="edge")
        full = full.reshape(c[0], _BLOCK, c[1], _BLOCK, c[2], _BLOCK).transpose(0, 2, 4, 1, 3, 5)
        return np.ascontiguousarray(full).reshape(-1, _BLOCK**3)


def evaluate(shape: Shape, lattice: Lattice, band_mm: float) -> Array:
    """Signed distances on a lattice [z, y, x], right within ``band_mm`` of the surface.

    Blocks farther from the surface than the band get the one value of their centre, which has the
    right sign and exceeds the band.
    """
    blocks = _Blocks.of(lattice)
    every = blocks.inside()
    coarse = blocks.centres(shape, every)
    values = np.repeat(coarse[:, None], _BLOCK**3, axis=1)
    near = every[np.abs(coarse) < blocks.reach(band_mm)]
    for i in _starts(near, _CHUNK_BLOCKS):
        b = near[i : i + _CHUNK_BLOCKS]
        x, y, z = blocks.points(b)
        values[b] = shape(x.ravel(), y.ravel(), z.ravel()).reshape(x.shape)
    return blocks.join(values)


def _starts(array: NDArray[np.generic], size: int) -> range:
    return range(0, len(array), size)


def at_points(shape: Shape, points_mm: Float) -> Float:
    """Signed distances at points [..., 3] (x, y, z) of the phantom's frame."""
    p = np.asarray(points_mm, dtype=np.float32)
    flat = p.reshape(-1, 3)
    sd = [
        shape(flat[i : i + 65536, 0], flat[i : i + 65536, 1], flat[i : i + 65536, 2])
        for i in range(0, max(len(flat), 1), 65536)
    ]
    out: Float = np.concatenate(sd).reshape(p.shape[:-1]).astype(np.float64)
    return out


def coverage(sd: Array, width_mm: float) -> Array:
    """Part of a voxel that lies inside a surface at signed distance ``sd`` from its centre."""
    out: Array = np.clip(0.5 - sd / np.float32(width_mm), 0.0, 1.0)
    return out


def volume_ml(shape: Shape, box: Box, step_mm: float) -> float:
    """Volume of a shape inside a box by partial-volume integration, free of any image grid."""
    low, high = np.asarray(box[0], float), np.asarray(box[1], float)
    n = np.maximum(1, np.round((high - low) / step_mm))
    lattice = Lattice.over(box, (high - low) / n)  # whole cells, so that the box is exact
    sd = evaluate(shape, lattice, step_mm)
    width = float(np.mean(lattice.step_mm))
    return float(coverage(sd, width).sum(dtype=np.float64)) * lattice.cell_mm3 / 1000


class Canvas:
    """The CT under construction, image in HU and label numbers, kept in blocks while painted.

    A part touches only the blocks near its surface voxel by voxel; blocks wholly inside it are
    filled in one go, and all others are left alone.
    """

    def __init__(self, lattice: Lattice, names: Mapping[str, int], mottle: Array) -> None:
        self.lattice = lattice
        self.names = names
        self.blocks = _Blocks.of(lattice)
        count = int(np.prod(self.blocks.counts))
        self._image = np.full((count, _BLOCK**3), float(tissue.value("hu_air")), np.float32)
        self._labels = np.zeros((count, _BLOCK**3), np.uint8)
        self._mottle = self.blocks.split(mottle)

    @property
    def image(self) -> Array:
        """The painted image, [slice, row, column]."""
        return self.blocks.join(self._image)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The label numbers, [slice, row, column]."""
        return self.blocks.join(self._labels)

    def paint(self, part: Part) -> None:
        """Draw one part over what is there and give its voxels its label."""
        where = self.blocks.inside(part.box)
        if not len(where):
            return
        bone = part.bone
        width = float(np.mean(self.lattice.step_mm))
        band = width if bone is None else width + bone.thickest_mm
        sd = self.blocks.centres(part.shape, where)
        reach = self.blocks.reach(band)
        deep, near = where[sd < -reach], where[np.abs(sd) <= reach]
        number = self.names.get(part.name, 0)
        if bone is None:
            self._image[deep] = part.hu
        elif len(deep):
            self._image[deep] = self._marrow(bone, deep, *self.blocks.points(deep))
        if part.name:
            self._labels[deep] = number
        for i in _starts(near, _CHUNK_BLOCKS):
            self._paint_near(part, near[i : i + _CHUNK_BLOCKS], number, width)

    def _paint_near(self, part: Part, b: NDArray[np.intp], number: int, width: float) -> None:
        x, y, z = self.blocks.points(b)
        sd = part.shape(x.ravel(), y.ravel(), z.ravel()).reshape(x.shape)
        image = self._image[b]
        if part.bone is None:
            image += coverage(sd, width) * (np.float32(part.hu) - image)
        else:
            thick = part.bone.cortex_mm(x.ravel(), y.ravel(), z.ravel()).reshape(x.shape)
            image += coverage(sd, width) * (np.float32(part.bone.cortical_hu) - image)
            marrow = self._marrow(part.bone, b, x, y, z)
            image += coverage(sd + thick, width) * (marrow - image)
        self._image[b] = image
        if part.name:
            labels = self._labels[b]
            labels[sd < 0] = number
            self._labels[b] = labels

    def _marrow(self, bone: Bone, b: NDArray[np.intp], x: Array, y: Array, z: Array) -> Array:
        hu = np.float32(bone.marrow_hu) + self._mottle[b]
        if bone.fatty is None:
            return hu
        share = bone.fatty(x.ravel(), y.ravel(), z.ravel()).reshape(x.shape)
        out: Array = hu + share * (np.float32(tissue.value("hu_marrow_fatty")) - hu)
        return out


def texture(shape: tuple[int, int, int], spread_hu: float, rng: np.random.Generator) -> Array:
    """Trabecular mottle: zero mean, standard deviation ``spread_hu``, a few voxels coarse.

    One tile is made and repeated, larger than most bones, with seams that match.
    """
    from scipy import ndimage

    rough = rng.standard_normal((_TILE,) * 3, dtype=np.float32)
    tile = ndimage.gaussian_filter(rough, (0.8, 1.1, 1.1), mode="wrap", truncate=3.0)
    tile *= np.float32(spread_hu / float(tile.std()))
    repeats = [-(-n // _TILE) for n in shape]
    return np.ascontiguousarray(np.tile(tile, repeats)[: shape[0], : shape[1], : shape[2]])


def smooth(values: Array, sigma: Sequence[float], *, keep_spread: bool = False) -> Array:
    """Gaussian blur, sigma in voxels per axis; optionally scaled back to the old spread."""
    from scipy import ndimage

    out: Array = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=3.0)
    if keep_spread:
        out *= np.float32(float(values.std()) / max(float(out.std()), 1e-6))
    return out


def ct_noise(shape: tuple[int, int, int], spread_hu: float, rng: np.random.Generator) -> Array:
    """CT noise: standard deviation ``spread_hu``, correlated in the slice as a soft kernel does."""
    white = rng.standard_normal(shape, dtype=np.float32)
    return np.float32(spread_hu) * smooth(white, (0.0, 0.6, 0.6), keep_spread=True)


def develop(
    image: Array,
    lattice: Lattice,
    blur_mm: float,
    noise_hu: float,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """The painted image seen through a scanner: point spread of ``blur_mm`` FWHM, noise, int16."""
    if blur_mm > 0:
        sigma = [blur_mm / FWHM_PER_SIGMA / s for s in lattice.step_mm[::-1]]
        image = smooth(image, sigma)
    if noise_hu > 0:
        image = image + ct_noise(lattice.shape, noise_hu, rng)
    out: NDArray[np.int16] = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    return out
