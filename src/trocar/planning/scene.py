"""The maps a search runs on: how much room there is around every point, and where the bone is.

One isotropic lattice in the directions of the CT, over the whole anatomy. Structures are the CT's
own label voxels seen at the lattice points; the margins finally printed come from the labels
themselves (``planning.margins``), never from these maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.errors import InputError
from trocar.facts import limits
from trocar.facts.source import load
from trocar.kernels import field, rays
from trocar.model.plan import Guard
from trocar.model.result import Anatomy
from trocar.model.space import Float, Grid, Mask

STEP_MM = 1.0  # of the lattice
REACH_MM = 20.0  # distances beyond this are all "far"; only the length of a sphere step hangs on it
SMOOTH_MM = 1.5  # of the surface whose gradient is the cortex normal: evens out voxel stairs
OUTSIDE = "outside of the body"
_HARMLESS = ("other_bone", "metal")  # to touch; to run through them is another matter


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """Maps on one lattice; ``names[offender]`` is the structure whose limit is nearest.

    ``slack_mm`` is the smallest distance beyond a limit, for a needle of no thickness;
    ``room_mm`` the smallest distance to a structure that contact would harm, whatever its limit.
    ``bone_mm`` is the signed distance of the treated bone, ``other_mm`` of the other bones. The
    bounds and sure steps are what :mod:`kernels.rays` makes of those maps.
    """

    grid: Grid
    names: tuple[str, ...]
    slack_mm: NDArray[np.float32]
    bound: NDArray[np.uint8]
    room_mm: NDArray[np.float32]
    room_bound: NDArray[np.uint8]
    offender: NDArray[np.uint8]
    bone_mm: NDArray[np.float32]
    surface_mm: NDArray[np.float32]
    sure: NDArray[np.int8]
    parts: NDArray[np.uint8]
    bits: Mapping[str, int]
    other_mm: NDArray[np.float32] | None = None
    other_sure: NDArray[np.int8] | None = None

    def screen(
        self,
        entries_mm: Float,
        targets_mm: Float,
        *,
        radius_mm: float,
        depth_mm: float,
        toward: Float,
        cone_deg: float,
        tilt_deg: float,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """:func:`kernels.rays.screen` of LPS points; ``tilt_deg`` is against the patient's axis."""
        return rays.screen(
            self.grid.to_index(entries_mm),
            self.grid.to_index(targets_mm),
            slack_mm=self.slack_mm,
            bound=self.bound,
            offender=self.offender,
            step_mm=STEP_MM,
            radius_mm=radius_mm,
            depth_mm=depth_mm,
            cone=self.grid.axes.T @ toward,
            cone_deg=cone_deg,
            up=self.grid.axes.T @ np.array([0.0, 0.0, 1.0]),
            tilt_deg=tilt_deg,
        )

    def measure(
        self,
        pairs: NDArray[np.int64],
        entries_mm: Float,
        targets_mm: Float,
        *,
        corridor: str = "",
        settle_mm: float = 0.0,
        ahead_mm: float = 0.0,
    ) -> NDArray[np.float32]:
        """:func:`kernels.rays.measure` of LPS points."""
        return rays.measure(
            pairs,
            self.grid.to_index(entries_mm),
            self.grid.to_index(targets_mm),
            slack_mm=self.slack_mm,
            bound=self.bound,
            bone_mm=self.bone_mm,
            sure=self.sure,
            surface_mm=self.surface_mm,
            parts=self.parts,
            part=self.bits.get(corridor, 0),
            step_mm=STEP_MM,
            settle_mm=settle_mm,
            ahead_mm=ahead_mm,
        )

    def room_along_mm(
        self, pairs: NDArray[np.int64], entries_mm: Float, targets_mm: Float
    ) -> NDArray[np.float32]:
        """Smallest distance of each needle's axis to any structure that contact would harm."""
        rows = rays.measure(
            pairs,
            self.grid.to_index(entries_mm),
            self.grid.to_index(targets_mm),
            slack_mm=self.room_mm,
            bound=self.room_bound,
            bone_mm=self.bone_mm,
            sure=self.sure,
            surface_mm=self.surface_mm,
            parts=self.parts,
            part=0,
            step_mm=STEP_MM,
            settle_mm=0.0,
            ahead_mm=0.0,
        )
        out: NDArray[np.float32] = rows[:, rays.SLACK]
        return out

    def through_other_bone_mm(
        self, pairs: NDArray[np.int64], entries_mm: Float, targets_mm: Float
    ) -> NDArray[np.float32]:
        """How far each needle runs through bones that are not treated."""
        if self.other_mm is None or self.other_sure is None:
            return np.zeros(len(pairs), np.float32)
        rows = rays.measure(
            pairs,
            self.grid.to_index(entries_mm),
            self.grid.to_index(targets_mm),
            slack_mm=self.slack_mm,
            bound=self.bound,
            bone_mm=self.other_mm,
            sure=self.other_sure,
            surface_mm=self.other_mm,
            parts=self.parts,
            part=0,
            step_mm=STEP_MM,
            settle_mm=0.0,
            ahead_mm=0.0,
        )
        out: NDArray[np.float32] = rows[:, rays.BONE]
        return out


def build(
    anatomy: Anatomy,
    grid: Grid,
    guards: Sequence[Guard],
    *,
    corridors: Sequence[str] = (),
    with_other_bone: bool = False,
) -> Scene:
    """The maps of ``anatomy`` on an isotropic ``grid`` of ``STEP_MM`` for the given guards."""
    if min(grid.shape) < 4:
        raise InputError(
            f"the image is only {min(grid.shape) * STEP_MM:.0f} mm deep where needles would pass "
            f"({grid.describe()}); give a CT with more slices"
        )
    slack, room, offender, names = _room(anatomy, grid, guards)
    bone = signed(anatomy.bone.on(grid))
    other = anatomy.structures.get("other_bone") if with_other_bone else None
    other_mm = None if other is None else signed(other.on(grid))
    parts, bits = _parts(anatomy, grid, corridors)
    return Scene(
        grid=grid,
        names=names,
        slack_mm=slack,
        bound=rays.byte_bound(slack),
        room_mm=room,
        room_bound=rays.byte_bound(room),
        offender=offender,
        bone_mm=bone,
        surface_mm=_smooth(bone),
        sure=rays.sure_steps(bone, STEP_MM),
        parts=parts,
        bits=bits,
        other_mm=other_mm,
        other_sure=None if other_mm is None else rays.sure_steps(other_mm, STEP_MM),
    )


def _room(
    anatomy: Anatomy, grid: Grid, guards: Sequence[Guard]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8], tuple[str, ...]]:
    """Smallest slack, smallest room, the index of the structure the slack is to, their names."""
    slack = np.full(grid.shape, REACH_MM, np.float32)
    room = np.full(grid.shape, REACH_MM, np.float32)
    offender = np.full(grid.shape, 255, np.uint8)
    obstacles = [
        (g.structure, anatomy.structures[g.structure].on(grid), g.margin_mm) for g in guards
    ]
    obstacles.append((OUTSIDE, _far_outside(anatomy.body.on(grid)), 0.0))
    if len(obstacles) > 254:
        raise InputError(
            f"{len(obstacles)} structures to keep away from; at most 254 fit, join some of them"
        )
    for code, (name, mask, margin_mm) in enumerate(obstacles):
        near, box = rays.distance_below(mask.values, STEP_MM, REACH_MM + margin_mm + STEP_MM / 2)
        # Half a step from a voxel's centre lies its face, where the structure begins.
        near -= np.float32(STEP_MM / 2)
        if name != OUTSIDE and limits.kind(name) not in _HARMLESS:
            np.minimum(room[box], near, out=room[box])
        near -= np.float32(margin_mm)
        closer = near < slack[box]
        slack[box][closer] = near[closer]
        offender[box][closer] = code
    return slack, room, offender, tuple(name for name, _, _ in obstacles)


def _far_outside(body: Mask) -> Mask:
    """Air deeper than the limit outside the skin: a path that goes there has left the patient."""
    limit = float(load("routes")["outside_limit"])
    if not body.values.any():
        return Mask.empty(body.grid)
    away = field.distance_to(body.values, (STEP_MM, STEP_MM, STEP_MM))
    return Mask(grid=body.grid, values=away > limit)


def signed(mask: Mask) -> NDArray[np.float32]:
    """Signed distance of a mask on the lattice; ``REACH_MM`` wherever it is farther than that."""
    out = np.full(mask.grid.shape, REACH_MM, np.float32)
    if mask.is_empty:
        return out
    box = mask.box(REACH_MM)
    inner = field.signed_distance(np.ascontiguousarray(mask.values[box]), (STEP_MM,) * 3)
    out[box] = np.minimum(inner, np.float32(REACH_MM))
    return out


def _smooth(bone_mm: NDArray[np.float32]) -> NDArray[np.float32]:
    near = Mask(grid=Grid.from_spacing(bone_mm.shape, (STEP_MM,) * 3), values=bone_mm < REACH_MM)
    out = bone_mm.copy()
    if not near.is_empty:
        box = near.box()
        out[box] = ndimage.gaussian_filter(bone_mm[box], SMOOTH_MM / STEP_MM, truncate=3.0)
    return out


def _parts(
    anatomy: Anatomy, grid: Grid, corridors: Sequence[str]
) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """A map with one bit for each corridor region."""
    names = sorted({c for c in corridors if c in anatomy.regions})
    if len(names) > 8:
        raise InputError(f"{len(names)} corridors in one search; at most 8, give fewer routes")
    parts = np.zeros(grid.shape, np.uint8)
    for k, name in enumerate(names):
        parts[anatomy.regions[name].on(grid).values] |= np.uint8(1 << k)
    return parts, {name: 1 << k for k, name in enumerate(names)}


def skin(body: Mask) -> NDArray[np.int64]:
    """Indices of the voxels of a body that touch the air around it.

    Only air that reaches the border of the box counts, so gas inside the body is no skin; where
    the body runs out of the box there is no skin either.
    """
    labels, _ = field.components(~body.values, 1)
    rim = np.concatenate(
        [np.unique(side) for a in range(3) for side in (labels.take(0, a), labels.take(-1, a))]
    )
    air = np.isin(labels, rim[rim > 0])
    beside = np.zeros_like(air)
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        beside[low] |= air[high]
        beside[high] |= air[low]
    out: NDArray[np.int64] = np.argwhere(body.values & beside)
    return out
