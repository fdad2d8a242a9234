"""What a bone is made of, cube by cube: density from HU, stiffness by site, lesion and cement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.errors import InputError
from trocar.facts import strength as facts
from trocar.facts import tissue
from trocar.kernels.field import distance_to
from trocar.model.case import Site
from trocar.model.result import Anatomy, Calibration, Fill
from trocar.model.space import Float, Grid, Mask, Volume
from trocar.model.strength import BoneState
from trocar.simulation.cubes import along, averaged

Bool = NDArray[np.bool_]
Scenario = Literal["low", "mean", "high"]

_SIDES_MM = (1.0, 1.5, 2.0)  # of the cubes, the first with which they are few enough
_MOST_VOXELS = 2_500_000
_ROOM_MM = 2.0  # around the bone, beside what is laid on it
_BINS_MM = 1.0  # of depth below the surface, for what bone like this is like
_RIM = 2.0  # cubes around a lesion that may hold some of it
_FEW = 30  # voxels in a bin of depth; fewer are no sample


@dataclass(frozen=True, kw_only=True)
class Constants:
    """The uncertain numbers of one run; ``of("low")`` makes everything weakest."""

    density_factor: float
    law_factor: float
    cement_mpa: float
    infiltrated_mpa: float
    tumour_mpa: float

    @classmethod
    def of(cls, scenario: Scenario, calibration: str) -> Constants:
        """Those of facts: all mean, or all at their weak (low) or strong (high) end."""
        if scenario not in ("low", "mean", "high"):
            raise InputError(f"there is no run {scenario!r}; choose low, mean or high")
        return cls(
            density_factor=facts.bound(facts.density_factor(calibration), scenario),
            law_factor=facts.bound(facts.value("law_factor"), scenario),
            cement_mpa=facts.bound(facts.material("pmma").modulus_mpa, scenario),
            infiltrated_mpa=facts.bound(facts.material("infiltrated").modulus_mpa, scenario),
            tumour_mpa=facts.bound(facts.material("tumour").modulus_mpa, scenario),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Bone:
    """One bone on cubes along its own axes (or the patient's), before it is given a stiffness.

    ``density`` is HA density as it is, ``sound`` the same with the lesion filled by bone like that
    around it. ``lytic`` is soft lesion, ``lesion`` all of it inside the bone; ``cement`` the share
    of each cube by state.
    """

    grid: Grid
    site: Site
    bone: Bool
    lesion: Bool
    lytic: Bool
    density: Float
    sound: Float
    cement: Mapping[BoneState, Float]
    calibration: Calibration
    cut: bool  # whether the bone runs out of the image
    loose: int  # cubes that hang on nothing and were left out
    foreign_ml: float  # metal or old cement in the bone or against it

    def stiffness(self, state: BoneState, used: Constants) -> tuple[Float, Float]:
        """Young's modulus (MPa, 0 where there is no bone) and Poisson's ratio of every cube."""
        rule = facts.site(self.site.kind)
        density = self.sound if state == "intact" else self.density
        young = rule.law.modulus_mpa(density * used.density_factor, of="ha")
        if rule.shell is not None:
            young = young + self._shell(density) * np.maximum(
                float(rule.shell.modulus_mpa) - young, 0.0
            )
        young = used.law_factor * young
        poisson = np.full(self.grid.shape, float(facts.value("bone_poisson")))
        if state != "intact":
            tumour = facts.material("tumour")
            young = np.where(self.lytic, used.tumour_mpa, young)
            poisson[self.lytic] = float(tumour.poisson)
        if state in self.cement:
            share = self.cement[state]
            filled = np.where(self.lytic, used.cement_mpa, used.infiltrated_mpa)
            # Cement does not weaken bone that is stiffer than itself.
            young = young + share * np.maximum(filled - young, 0.0)
            own = float(facts.material("pmma").poisson)
            poisson = poisson + share * (own - poisson)
        return np.where(self.bone, young, 0.0), poisson

    def _shell(self, density: Float) -> Float:
        """How much of a cube is shell: near the surface, by its density between both bones'."""
        spongy, solid = (
            float(self.calibration.density(hu))
            for hu in (facts.bound(tissue.value("hu_trabecular"), "high"),
                       float(tissue.value("hu_cortical")))
        )  # fmt: skip
        share = np.clip((density - spongy) / max(solid - spongy, 1e-6), 0.0, 1.0)
        depth = distance_to(~self.bone, self.grid.spacing_mm)
        return np.where(depth <= float(facts.value("shell_depth")), share, 0.0)


def build(
    ct: Volume,
    anatomy: Anatomy,
    lesion: Mask | None,
    fills: Mapping[BoneState, Fill],
    *,
    frame: str,
    voxel_mm: float | None = None,
    room_mm: float = 0.0,
) -> Bone:
    """The bone of an anatomy on cubes: along its own axes (``frame`` "bone") or the patient's.

    ``room_mm`` is laid free above and below for what is put on the bone. Raises InputError for a
    bone that is empty or finer or larger than can be computed.
    """
    if anatomy.bone.is_empty:
        raise InputError("no bone was identified here, so there is nothing to load; give labels")
    grid = _grid(anatomy, frame, voxel_mm, room_mm)
    whole = anatomy.bone.on(grid).values
    if not whole.any():
        raise InputError("the bone is smaller than one cube; choose a smaller voxel_mm")
    bone = _largest(whole)
    hu = averaged(ct, grid)
    calibration = anatomy.calibration or Calibration(
        method="none", slope=float(tissue.value("density_slope_uncalibrated")), offset=0.0
    )
    inside = bone & (np.zeros(grid.shape, bool) if lesion is None else lesion.on(grid).values)
    density = calibration.density(hu)
    lytic = inside & (hu < float(tissue.value("hu_lytic_limit")))
    cement = {
        state: np.clip(averaged(fill.fraction, grid, 0.0).astype(np.float64), 0.0, 1.0)
        for state, fill in fills.items()
    }
    edge = np.zeros(anatomy.grid.shape, bool)
    for axis in range(3):
        np.moveaxis(edge, axis, 0)[[0, -1]] = True
    at_edge = anatomy.grid.to_world(np.argwhere(edge & anatomy.bone.values))
    return Bone(
        grid=grid,
        site=anatomy.site,
        bone=bone,
        lesion=inside,
        lytic=lytic,
        density=density,
        sound=_sound(density, bone, inside, grid.spacing_mm),
        cement=cement,
        calibration=calibration,
        cut=bool(at_edge.size and not np.all(_within(ct.grid, at_edge))),
        loose=int(np.count_nonzero(whole) - np.count_nonzero(bone)),
        foreign_ml=_foreign_ml(anatomy),
    )


def _largest(bone: Bool) -> Bool:
    """The largest part that hangs together through faces; specks would only be in the way."""
    parts, count = ndimage.label(bone)
    if count <= 1:
        return bone
    out: Bool = parts == int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    return out


def _foreign_ml(anatomy: Anatomy) -> float:
    """Metal or old cement in the bone or right beside it: then this CT is of neither state."""
    metal = anatomy.structures.get("metal")
    if metal is None or metal.is_empty:
        return 0.0
    grid = anatomy.grid
    box = anatomy.bone.box(2 * max(grid.spacing_mm))
    near = distance_to(anatomy.bone.crop(box).values, grid.spacing_mm) <= max(grid.spacing_mm)
    return float(np.count_nonzero(near & metal.on(grid).crop(box).values) * grid.voxel_ml)


def _within(grid: Grid, points_mm: Float) -> NDArray[np.bool_]:
    """Which points have a whole voxel of the image beyond them."""
    i = grid.to_index(points_mm)
    out: NDArray[np.bool_] = np.all((i >= 0.5) & (i <= np.array(grid.shape) - 1.5), axis=-1)
    return out


def _grid(anatomy: Anatomy, frame: str, voxel_mm: float | None, room_mm: float) -> Grid:
    axes = anatomy.axes
    ways = (
        (axes.superior, axes.posterior, axes.left)
        if frame == "bone"
        else (np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]))
    )
    points = anatomy.bone.points_mm()
    most = float(facts.value("voxel_most"))
    if voxel_mm is not None and not 0.2 <= voxel_mm <= most:
        raise InputError(f"voxels of {voxel_mm:g} mm; expected 0.2 to {most:g} mm")
    for side in _SIDES_MM if voxel_mm is None else (voxel_mm,):
        grid = along(points, ways, side, _ROOM_MM + room_mm, anatomy.grid.frame)
        if int(np.prod(grid.shape)) <= _MOST_VOXELS:
            return grid
    raise InputError(
        f"the bone takes {grid.describe()}, more than {_MOST_VOXELS:,} voxels; choose a larger "
        "voxel_mm or crop the bone"
    )


def _sound(density: Float, bone: Bool, lesion: Bool, spacing_mm: tuple[float, ...]) -> Float:
    """Density with the lesion filled: at each depth below the surface as in bone around it."""
    rest = bone & ~lesion
    if not lesion.any():
        return density
    if np.count_nonzero(rest) < _FEW:
        raise InputError(
            "the lesion takes the whole bone, so there is no sound bone to tell what it was like "
            "intact; check that the lesion was outlined inside the bone"
        )
    depth = distance_to(~bone, spacing_mm)  # type: ignore[arg-type]
    away = distance_to(lesion, spacing_mm)  # type: ignore[arg-type]
    rim = rest & (away <= _RIM * max(spacing_mm))  # cubes beside the lesion hold some of it, too
    near = rest & ~rim & (away <= float(facts.value("likened_within")))
    if np.count_nonzero(near) < _FEW:
        near = rest
    bins = np.floor(depth / _BINS_MM).astype(int)
    profile, known = np.zeros(int(bins.max()) + 1), []
    for b in range(profile.size):
        sample = density[near & (bins == b)]
        if sample.size >= _FEW:
            profile[b] = float(np.median(sample))
            known.append(b)
    if not known:
        profile[:] = float(np.median(density[near]))
    else:
        # Deeper than any sound bone reaches, as at the deepest.
        profile = np.interp(np.arange(profile.size), known, profile[known])
    out = density.copy()
    out[lesion] = profile[bins[lesion]]
    out[rim] = np.maximum(density[rim], profile[bins[rim]])
    return out
