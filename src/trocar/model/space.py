"""Where things are: grids, volumes, masks, labels and straight segments in LPS millimetres.

One frame everywhere. World points are LPS millimetres (left, posterior, superior positive, as in
DICOM). Arrays are indexed [slice, row, column]. A :class:`Grid` ties the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trocar.errors import FrameMismatch, InputError
from trocar.kernels import field as field_kernels

Float = NDArray[np.floating[Any]]
Slices = tuple[slice, slice, slice]

_AFFINE_TOLERANCE_MM = 1e-3  # two affines that agree to a micrometre are one


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """A lattice of voxels: its shape and the way from index to world.

    ``affine`` maps the homogeneous index (slice, row, column, 1) of a voxel *centre* to LPS mm.
    ``frame`` names the frame of reference (a DICOM UID, or "" when the file does not say);
    an empty frame is compatible with every other.
    """

    shape: tuple[int, int, int]
    affine: Float
    frame: str = ""

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        shape = tuple(int(n) for n in self.shape)
        if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
            raise InputError(
                f"the index-to-world matrix is {affine.shape} or not finite; give 4x4 numbers"
            )
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"the grid shape is {shape}; expected three positive counts")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise InputError("the grid is flat (zero voxel volume); check spacing and orientation")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", shape)

    @classmethod
    def from_spacing(
        cls,
        shape: Sequence[int],
        spacing_mm: Sequence[float],
        origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
        frame: str = "",
    ) -> Grid:
        """An axis-aligned grid: columns run to the left, rows to the back, slices to the head.

        ``spacing_mm`` is (slice, row, column); ``origin_mm`` the LPS centre of voxel [0, 0, 0].
        """
        affine = np.eye(4)
        affine[:3, :3] = 0.0
        affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
        affine[:3, 3] = origin_mm
        return cls(shape=(int(shape[0]), int(shape[1]), int(shape[2])), affine=affine, frame=frame)

    @cached_property
    def inverse(self) -> Float:
        """World-to-index matrix (4x4)."""
        return np.linalg.inv(self.affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Step along (slice, row, column) in mm."""
        s = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(s[0]), float(s[1]), float(s[2])

    @cached_property
    def axes(self) -> Float:
        """3x3 matrix whose columns are the unit LPS directions of slice, row, column."""
        out: Float = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        return out

    @cached_property
    def is_orthogonal(self) -> bool:
        """Whether the three index directions stand at right angles (to 0.06 degrees)."""
        return bool(np.allclose(self.axes.T @ self.axes, np.eye(3), atol=1e-3))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @property
    def centre_mm(self) -> Float:
        """LPS centre of the whole grid."""
        return self.to_world((np.asarray(self.shape) - 1) / 2.0)

    @property
    def corners_mm(self) -> Float:
        """LPS centres of the first and the last voxel, (2, 3)."""
        return self.to_world(np.array([np.zeros(3), np.asarray(self.shape) - 1.0]))

    def to_world(self, index: ArrayLike) -> Float:
        """LPS mm of (fractional) indices [..., (slice, row, column)]."""
        i = np.asarray(index, dtype=np.float64)
        out: Float = i @ self.affine[:3, :3].T + self.affine[:3, 3]
        return out

    def to_index(self, points_mm: ArrayLike) -> Float:
        """Fractional index (slice, row, column) of LPS points [..., 3]."""
        p = np.asarray(points_mm, dtype=np.float64)
        out: Float = p @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        return out

    def contains(self, points_mm: ArrayLike) -> NDArray[np.bool_]:
        """Whether points lie inside the voxels of the grid (half a voxel beyond the centres)."""
        i = self.to_index(points_mm)
        out: NDArray[np.bool_] = np.all((i >= -0.5) & (i <= np.asarray(self.shape) - 0.5), axis=-1)
        return out

    def matches(self, other: Grid) -> bool:
        """Whether both grids have the same voxels at the same places in the same frame."""
        return (
            self.shape == other.shape
            and self.shares_frame(other)
            and np.allclose(self.affine, other.affine, rtol=0, atol=_AFFINE_TOLERANCE_MM)
        )

    def shares_frame(self, other: Grid) -> bool:
        """Whether both live in one frame of reference (an unnamed frame fits every frame)."""
        return not self.frame or not other.frame or self.frame == other.frame

    def require_frame(self, other: Grid, what: str = "two volumes") -> None:
        """Raise :class:`FrameMismatch` naming both frames unless they are one."""
        if not self.shares_frame(other):
            raise FrameMismatch(
                f"{what} lie in different frames of reference, {self.frame!r} and {other.frame!r}; "
                "register them or give images of one examination"
            )

    def require_match(self, other: Grid, what: str = "two volumes") -> None:
        """Raise :class:`FrameMismatch` unless both grids are the same voxels."""
        self.require_frame(other, what)
        if not self.matches(other):
            raise FrameMismatch(
                f"{what} lie on different grids, {self.describe()} in frame {self.frame!r} and "
                f"{other.describe()} in frame {other.frame!r}; resample one onto the other first"
            )

    def describe(self) -> str:
        """Shape and spacing in words, slowest axis first."""
        n = "x".join(str(v) for v in self.shape)
        s = "x".join(f"{v:.3g}" for v in self.spacing_mm)
        return f"{n} voxels of {s} mm"

    def crop(self, slices: Slices) -> Grid:
        """The grid of ``array[slices]`` (step 1, clipped to the array as NumPy does)."""
        start, shape = [], []
        for s, n in zip(slices, self.shape, strict=True):
            a, b, step = s.indices(n)
            if step != 1 or b <= a:
                raise InputError(f"crop {s} leaves nothing of an axis of {n} voxels")
            start.append(a)
            shape.append(b - a)
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world(start)
        return Grid(shape=(shape[0], shape[1], shape[2]), affine=affine, frame=self.frame)

    def around(self, points_mm: ArrayLike, margin_mm: float = 0.0) -> Slices:
        """Index slices of the smallest box that holds the points and a margin, inside the grid."""
        i = np.atleast_2d(self.to_index(points_mm))
        # A margin in mm along each index axis; for oblique cells measured across the cell faces.
        pad = margin_mm * np.linalg.norm(self.inverse[:3, :3], axis=1)
        low = np.floor(i.min(axis=0) - pad).astype(int)
        high = np.ceil(i.max(axis=0) + pad).astype(int) + 1
        low = np.clip(low, 0, np.asarray(self.shape) - 1)
        high = np.clip(high, low + 1, np.asarray(self.shape))
        return (
            slice(int(low[0]), int(high[0])),
            slice(int(low[1]), int(high[1])),
            slice(int(low[2]), int(high[2])),
        )

    def isotropic(self, spacing_mm: float) -> Grid:
        """An isotropic grid with the same directions that covers the same box of voxels."""
        if not self.is_orthogonal:
            raise InputError(f"a sheared grid ({self.describe()}) has no isotropic twin; square it")
        s = np.asarray(self.spacing_mm)
        extent = s * np.asarray(self.shape)
        shape = np.maximum(1, np.round(extent / spacing_mm).astype(int))
        affine = np.eye(4)
        affine[:3, :3] = self.axes * spacing_mm
        first = self.to_world([-0.5, -0.5, -0.5])
        slack = self.axes @ ((extent - shape * spacing_mm) / 2)
        affine[:3, 3] = first + slack + self.axes @ np.full(3, spacing_mm / 2)
        return Grid(
            shape=(int(shape[0]), int(shape[1]), int(shape[2])), affine=affine, frame=self.frame
        )

    def index_map(self, other: Grid) -> Float:
        """3x4 matrix from an index of ``other`` to the index of the same point in this grid."""
        out: Float = (self.inverse @ other.affine)[:3]
        return out


def _check(grid: Grid, values: NDArray[Any], what: str) -> None:
    if values.shape != grid.shape:
        raise InputError(f"{what} has shape {values.shape} but its grid has shape {grid.shape}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Volume:
    """A scalar on a grid, such as a CT in Hounsfield units."""

    grid: Grid
    values: NDArray[Any]
    unit: str = "HU"

    def __post_init__(self) -> None:
        _check(self.grid, self.values, "the volume")

    def crop(self, slices: Slices) -> Volume:
        """The part inside ``slices``, sharing memory with the whole."""
        return replace(self, grid=self.grid.crop(slices), values=self.values[slices])

    def on(self, grid: Grid, outside: float = -1000.0) -> Volume:
        """The volume resampled trilinearly onto another grid; ``outside`` beyond its voxels."""
        self.grid.require_frame(grid, "the volume and the grid it is resampled onto")
        values = field_kernels.resample_linear(
            self.values, self.grid.index_map(grid), grid.shape, outside
        )
        return replace(self, grid=grid, values=values)

    def sample(self, points_mm: ArrayLike, outside: float = float("nan")) -> Float:
        """Trilinear values at LPS points [..., 3]; ``outside`` beyond the outer voxel faces."""
        return field_kernels.sample_linear(
            self.values, self.grid.to_index(points_mm), outside=outside
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Mask:
    """A set of voxels: boolean values on a grid."""

    grid: Grid
    values: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.values.dtype != np.bool_:
            object.__setattr__(self, "values", self.values.astype(bool))
        _check(self.grid, self.values, "the mask")

    @classmethod
    def empty(cls, grid: Grid) -> Mask:
        """A mask with no voxel set."""
        return cls(grid=grid, values=np.zeros(grid.shape, dtype=bool))

    @cached_property
    def voxels(self) -> int:
        """How many voxels are set."""
        return int(np.count_nonzero(self.values))

    @property
    def is_empty(self) -> bool:
        """Whether no voxel is set."""
        return self.voxels == 0

    @property
    def volume_ml(self) -> float:
        """Volume of the set voxels in millilitres."""
        return self.voxels * self.grid.voxel_ml

    def points_mm(self) -> Float:
        """LPS centres of the set voxels, (n, 3)."""
        return self.grid.to_world(np.argwhere(self.values))

    @property
    def centroid_mm(self) -> Float:
        """LPS centre of mass; raises on an empty mask."""
        if self.is_empty:
            raise InputError("an empty mask has no centre; give a mask with at least one voxel")
        out: Float = self.points_mm().mean(axis=0)
        return out

    def box(self, margin_mm: float = 0.0) -> Slices:
        """Index slices around the set voxels with a margin."""
        if self.is_empty:
            raise InputError("an empty mask has no extent; give a mask with at least one voxel")
        # By projections: a list of all set voxels would be larger than the mask.
        flat = [np.flatnonzero(self.values.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        corners = np.array([[i[0] for i in flat], [i[-1] for i in flat]])
        return self.grid.around(self.grid.to_world(corners), margin_mm)

    def crop(self, slices: Slices) -> Mask:
        """The part inside ``slices``."""
        return Mask(grid=self.grid.crop(slices), values=self.values[slices])

    def on(self, grid: Grid) -> Mask:
        """The mask on another grid by nearest voxel; beyond its own voxels nothing is set."""
        if self.grid.matches(grid):
            return self
        self.grid.require_frame(grid, "the mask and the grid it is resampled onto")
        values = field_kernels.resample_nearest(
            self.values.view(np.uint8), self.grid.index_map(grid), grid.shape, 0
        )
        return Mask(grid=grid, values=values.astype(bool))

    def holds(self, points_mm: ArrayLike) -> NDArray[np.bool_]:
        """Whether each LPS point lies in a set voxel."""
        i = np.rint(self.grid.to_index(points_mm)).astype(int)
        inside = np.all((i >= 0) & (i < np.asarray(self.grid.shape)), axis=-1)
        j = np.clip(i, 0, np.asarray(self.grid.shape) - 1)
        out: NDArray[np.bool_] = inside & self.values[j[..., 0], j[..., 1], j[..., 2]]
        return out


@dataclass(frozen=True, eq=False, kw_only=True)
class Labels:
    """Named regions that do not overlap: integer values on a grid, 0 for none."""

    grid: Grid
    values: NDArray[Any]
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.grid, self.values, "the label map")
        if not np.issubdtype(self.values.dtype, np.integer):
            raise InputError(
                f"the label map holds {self.values.dtype}; expected whole numbers, one per region"
            )

    @cached_property
    def present(self) -> tuple[str, ...]:
        """Names of the labels that have at least one voxel, in order of their number."""
        found = np.unique(self.values)
        return tuple(self.names.get(int(v), f"label {int(v)}") for v in found if v != 0)

    def number(self, name: str) -> int:
        """The number that carries ``name``; raises with the names there are."""
        for value, label in self.names.items():
            if label == name:
                return int(value)
        raise InputError(f"there is no label {name!r}; the map names {', '.join(self.present)}")

    def mask(self, *names: str) -> Mask:
        """The union of the named regions (names that are not in the map raise)."""
        wanted = [self.number(n) for n in names]
        return Mask(grid=self.grid, values=np.isin(self.values, wanted))

    def crop(self, slices: Slices) -> Labels:
        """The part inside ``slices``."""
        return replace(self, grid=self.grid.crop(slices), values=self.values[slices])

    def on(self, grid: Grid) -> Labels:
        """The labels on another grid by nearest voxel."""
        if self.grid.matches(grid):
            return self
        self.grid.require_frame(grid, "the label map and the grid it is resampled onto")
        values = field_kernels.resample_nearest(
            self.values, self.grid.index_map(grid), grid.shape, 0
        )
        return replace(self, grid=grid, values=values)


@dataclass(frozen=True, eq=False, kw_only=True)
class Segment:
    """A straight line from one LPS point to another, such as a needle from skin to tip."""

    start_mm: Float
    end_mm: Float

    def __post_init__(self) -> None:
        for name in ("start_mm", "end_mm"):
            point = np.array(getattr(self, name), dtype=np.float64)
            if point.shape != (3,) or not np.all(np.isfinite(point)):
                raise InputError(f"{name} is {point.tolist()}; expected three finite LPS mm")
            point.setflags(write=False)
            object.__setattr__(self, name, point)
        if self.length_mm == 0.0:
            raise InputError("a segment from a point to itself has no direction; give two points")

    @property
    def length_mm(self) -> float:
        """Distance from start to end in mm."""
        return float(np.linalg.norm(self.end_mm - self.start_mm))

    @property
    def direction(self) -> Float:
        """Unit LPS vector from start to end."""
        out: Float = (self.end_mm - self.start_mm) / self.length_mm
        return out

    def at_mm(self, distance_mm: ArrayLike) -> Float:
        """Points at given distances from the start along the line."""
        d = np.asarray(distance_mm, dtype=np.float64)
        out: Float = self.start_mm + d[..., None] * self.direction
        return out

    def angle_deg(self, other: Segment) -> float:
        """Angle between the directions of two segments, 0 to 180 degrees."""
        c = float(np.clip(self.direction @ other.direction, -1.0, 1.0))
        return float(np.degrees(np.arccos(c)))

    def distance_mm(self, points_mm: ArrayLike) -> Float:
        """Shortest distance from each point to the segment, in mm."""
        p = np.asarray(points_mm, dtype=np.float64) - self.start_mm
        t = np.clip(p @ self.direction, 0.0, self.length_mm)
        out: Float = np.linalg.norm(p - t[..., None] * self.direction, axis=-1)
        return out
