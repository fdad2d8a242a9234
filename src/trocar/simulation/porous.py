"""What a CT says of where cement can go in a bone: pores, walls, holes, veins, and what is beyond.

Density gives porosity and, after Kozeny and Carman, permeability. The bone's outermost voxels are
its wall: closed, but where the CT shows a hole or a vein leaves. Beyond lie compartments.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar import places
from trocar.errors import InputError
from trocar.facts import tissue
from trocar.facts.source import Value, load
from trocar.kernels import flow
from trocar.model.case import Lesion, WallDefect
from trocar.model.result import Anatomy, Calibration
from trocar.model.space import Float, Grid, Mask, Volume
from trocar.simulation.cubes import averaged

Bool = NDArray[np.bool_]
Double = NDArray[np.float64]

# What a voxel is to cement.
CLOSED, SPONGY, VOID, HOLE, VEIN, OUTSIDE = range(6)

_FACES = ndimage.generate_binary_structure(3, 1)


def value(name: str) -> Value:
    """One number of ``injection.toml`` by its name, such as ``permeability``."""
    return load("injection")[name]


@dataclass(frozen=True, kw_only=True)
class Constants:
    """The uncertain numbers of one injection; the defaults are the best known ones.

    ``consistency`` scales the cement's, ``exponent`` replaces it (None keeps it), ``late_s`` shifts
    the start, ``off_mm`` displaces the needle's tip (across, across, along its axis).
    """

    permeability: float = 1.0  # times what the CT gives
    anisotropy: float = float(value("anisotropy"))
    vein_m2: float = float(value("vein_permeability"))
    outside_m2: float = float(value("outside_permeability"))
    back_pa: float = float(value("back_pressure"))
    consistency: float = 1.0
    exponent: float | None = None
    late_s: float = 0.0
    off_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The numbers that are drawn, one for each coordinate of a draw, in their order."""
        own = [f.name for f in fields(cls) if f.name != "off_mm"]
        return (*own, "off_first_mm", "off_second_mm", "off_along_mm")

    @classmethod
    def drawn(cls, share: Float, placement_mm: float) -> Constants:
        """Constants at the quantiles ``share`` (one in 0 to 1 for each of ``names``).

        What spans decades is drawn evenly in its logarithm; ``placement_mm`` is the standard
        deviation of a needle's tip along each axis.
        """
        from scipy.special import ndtri

        at = dict(zip(cls.names(), (float(s) for s in share), strict=True))
        k = value("permeability")

        def even(name: str, key: str, *, log: bool = False) -> float:
            known = value(name)
            low, high = _range(known)
            if log:
                return float(np.exp(np.log(low) + at[key] * (np.log(high) - np.log(low))))
            return low + at[key] * (high - low)

        low, high = _range(k)
        # Two halves of a bell in the logarithm: low and high are its 5th and 95th percentile.
        z = float(ndtri(at["permeability"])) / float(ndtri(0.95))
        spread = np.log(high / k.mean) if z > 0 else np.log(k.mean / low)
        off = tuple(
            placement_mm * float(ndtri(at[f"off_{name}_mm"]))
            for name in ("first", "second", "along")
        )
        return cls(
            permeability=float(np.exp(z * spread)),
            anisotropy=even("anisotropy", "anisotropy"),
            vein_m2=even("vein_permeability", "vein_m2", log=True),
            outside_m2=even("outside_permeability", "outside_m2", log=True),
            back_pa=even("back_pressure", "back_pa"),
            consistency=even("consistency_spread", "consistency", log=True),
            exponent=even("exponent_spread", "exponent"),
            late_s=even("start_spread", "late_s"),
            off_mm=(off[0], off[1], off[2]),
        )


def _range(known: Value) -> tuple[float, float]:
    if known.low is None or known.high is None:
        raise InputError(f"{known.name} has no low and high; it cannot be drawn")
    return known.low, known.high


@dataclass(frozen=True, eq=False, kw_only=True)
class Bed:
    """A bone as cement meets it, on an isotropic grid with room around the bone.

    ``kind`` says what each voxel is (CLOSED to OUTSIDE), ``porosity`` the share cement can take,
    ``permeability_m2`` that of spongy bone before direction and spread. ``place`` is 0 in the bone
    and k for the k-th of ``compartments`` outside; ``openings`` what stands open, in words.
    """

    grid: Grid
    anatomy: Anatomy
    kind: NDArray[np.int8]
    porosity: NDArray[np.float64]
    permeability_m2: NDArray[np.float64]
    place: NDArray[np.int8]
    compartments: tuple[str, ...]
    bone: Mask
    lesion: Mask | None
    openings: tuple[str, ...] = ()

    def medium(self, constants: Constants | None = None) -> flow.Medium:
        """The pores and permeabilities for one set of constants."""
        c = constants or Constants()
        k = self.permeability_m2 * c.permeability
        k[self.kind == VOID] = k[self.kind == HOLE] = float(value("void_permeability"))
        k[self.kind == VEIN] = c.vein_m2
        k[self.kind == OUTSIDE] = c.outside_m2
        way = np.ones(3)
        if self.anatomy.site.kind == "vertebra":
            # One number along the bone's axis, another across it, the same on average.
            along, across = c.anisotropy ** (2 / 3), c.anisotropy ** (-1 / 3)
            share = (self.grid.axes.T @ self.anatomy.axes.superior) ** 2
            way = across + (along - across) * share
        directed = np.where(self.kind == SPONGY, k * way[:, None, None, None], k)
        # Marrow inside the bone pushes back; a vein, a hole and what lies outside give way.
        back = np.where(np.isin(self.kind, (SPONGY, VOID)), c.back_pa, 0.0)
        size = self.grid.spacing_mm
        spacing_m = (size[0] / 1000, size[1] / 1000, size[2] / 1000)
        return flow.medium(self.porosity, directed, spacing_m, back_pa=back)

    def nearest_open(self, point_mm: Float) -> tuple[int, int, int]:
        """The voxel inside the bone nearest to a point into which cement can be injected."""
        inside = np.argwhere((self.porosity > 0) & (self.place == 0))
        if len(inside) == 0:
            raise InputError(
                f"{self.anatomy.site} has no voxel that cement could fill; is this the right bone?"
            )
        gap = np.linalg.norm(self.grid.to_world(inside) - point_mm, axis=1)
        z, y, x = (int(v) for v in inside[np.argmin(gap)])
        return z, y, x


def read_bed(
    ct: Volume,
    anatomy: Anatomy,
    lesion: Lesion | None = None,
    *,
    voxel_mm: float = 1.0,
    tracks: tuple[places.NeedleTrack, ...] = (),
) -> Bed:
    """How can cement pass through this bone, and where can it leave?

    ``ct`` in HU and the anatomy share one frame; the bed has ``voxel_mm`` voxels. Inside the bone
    the lesion counts as a void where it is dark, compact bone as closed, the rest by its density
    (clinical.md F.4). The wall is open at the lesion's defects and where veins leave a vertebra.
    Raises InputError for a bone that the CT does not hold or a voxel size that cannot be.
    """
    if not voxel_mm > 0:
        raise InputError(f"the voxel size is {voxel_mm} mm; expected a number above 0")
    ct.grid.require_frame(anatomy.grid, "the CT and the anatomy")
    if anatomy.bone.is_empty:
        raise InputError(f"{anatomy.site} was not found on this CT; nothing can be injected")
    room_mm = float(value("room"))
    low, high = anatomy.grid.crop(anatomy.bone.box()).corners_mm
    low, high = np.minimum(low, high) - room_mm, np.maximum(low, high) + room_mm
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    grid = anatomy.grid.crop(anatomy.grid.around(low + corners * (high - low))).isotropic(voxel_mm)
    hu = averaged(ct, grid)
    bone = anatomy.bone.on(grid).values
    kind = np.full(grid.shape, OUTSIDE, np.int8)
    metal = _held(anatomy, grid, "metal")
    kind[metal | _held(anatomy, grid, "other_bone")] = CLOSED
    kind[~anatomy.body.on(grid).values & ~bone] = CLOSED
    kind[bone] = SPONGY
    kind[bone & (hu >= float(value("closed_from")))] = CLOSED
    within = None if lesion is None else lesion.mask.on(grid).values
    if within is not None:
        dark = hu < float(tissue.value("hu_cortex_defect"))
        kind[bone & within & dark] = VOID
    wall = bone & ndimage.binary_dilation(~bone, _FACES)
    kind[wall] = CLOSED
    openings = []
    for defect in lesion.defects if lesion is not None else ():
        kind[wall & _hole(defect, grid)] = HOLE
        openings.append(defect.wall)
    vein_place = np.zeros(grid.shape, bool)
    if anatomy.site.kind == "vertebra":
        vein, vein_place = _veins(anatomy, grid, bone)
        kind[vein & (kind != VOID) & (kind != HOLE)] = VEIN
        openings += ["basivertebral vein", "segmental veins"]
    kind[metal] = CLOSED
    porosity, permeability = _pores(hu, anatomy.calibration)
    collapse = _collapse(anatomy)
    permeability *= (1 - collapse) ** 3
    porosity[kind != SPONGY] = 1.0
    porosity[kind == CLOSED] = 0.0
    names, place = _compartments(grid, bone, kind, vein_place, anatomy, lesion, tracks)
    return Bed(
        grid=grid,
        anatomy=anatomy,
        kind=kind,
        porosity=porosity,
        permeability_m2=permeability,
        place=place,
        compartments=names,
        bone=Mask(grid=grid, values=bone),
        lesion=None if within is None else Mask(grid=grid, values=within),
        openings=tuple(openings),
    )


def _held(anatomy: Anatomy, grid: Grid, name: str) -> Bool:
    mask = anatomy.structures.get(name)
    return np.zeros(grid.shape, bool) if mask is None else mask.on(grid).values


def _pores(hu: NDArray[Any], calibration: Calibration | None) -> tuple[Double, Double]:
    """Porosity and permeability (m2) of spongy bone from HU: clinical.md C.2 and F.4."""
    slope = tissue.value("density_slope_uncalibrated").mean
    ha = np.maximum(hu * slope, 0.0) if calibration is None else calibration.density(hu)
    ash = float(value("ash_slope")) * np.asarray(ha, np.float64) + float(value("ash_offset"))
    apparent = ash / float(value("ash_share"))
    low, high = _range(value("porosity"))
    porosity: Double = np.clip(1 - apparent / float(value("solid_density")), low, high)
    surface = float(value("surface_per_volume"))
    return porosity, porosity**3 / (5 * surface**2)


def _collapse(anatomy: Anatomy) -> float:
    """Share of the body's height that is lost, by the worst of the three ways to lose it."""
    body = anatomy.vertebra
    if body is None:
        return 0.0
    losses = (body.wedge_loss, body.biconcave_loss, body.crush_loss or 0.0)
    return float(np.clip(max(losses), 0.0, 1.0))


def _hole(defect: WallDefect, grid: Grid) -> Bool:
    """Voxels at a hole in the wall: near one of its points, or within its area if it has none."""
    if defect.points_mm is None or len(defect.points_mm) == 0:
        points = np.atleast_2d(defect.centre_mm)
        reach = float(np.sqrt(defect.area_mm2 / np.pi))
    else:
        points, reach = defect.points_mm, max(grid.spacing_mm)
    from scipy.spatial import cKDTree

    box = grid.around(points, reach + max(grid.spacing_mm))
    out = np.zeros(grid.shape, bool)
    part = grid.crop(box)
    centres = part.to_world(np.indices(part.shape).reshape(3, -1).T)
    gap, _ = cKDTree(points).query(centres, distance_upper_bound=reach)
    out[box] = (gap <= reach).reshape(part.shape)
    return out


def _veins(anatomy: Anatomy, grid: Grid, bone: Bool) -> tuple[Bool, Bool]:
    """The ways of the basivertebral and segmental veins in the bone, and of the latter outside.

    Straight, at the waist of the body: from its depths to the middle of the posterior wall, and to
    both lateral walls and on through the room beyond.
    """
    body = anatomy.regions.get("vertebral_body", anatomy.bone)
    local = anatomy.axes.local(body.points_mm())
    low, high = np.percentile(local, [1, 99], axis=0)
    middle = (low + high) / 2
    depth = float(value("vein_depth"))
    at = anatomy.axes.local(grid.to_world(np.indices(grid.shape).transpose(1, 2, 3, 0)))
    half = max(grid.spacing_mm) / 2
    # However the voxels lie, no vein falls between them.
    least = max(grid.spacing_mm) * np.sqrt(0.5)
    wide = max(float(value("basivertebral_radius")), least)
    narrow = max(float(value("segmental_radius")), least)
    behind = at[..., 1] >= high[1] - depth * (high[1] - low[1]) / 2
    in_front_of_canal = at[..., 1] <= high[1] + 2 * half
    across = np.hypot(at[..., 0] - middle[0], at[..., 2] - middle[2])
    basivertebral = bone & behind & in_front_of_canal & (across <= wide)
    around = np.hypot(at[..., 1] - middle[1], at[..., 2] - middle[2])
    aside = np.abs(at[..., 0] - middle[0])
    far = aside >= (1 - depth) * (high[0] - low[0]) / 2
    tube = far & (around <= narrow)
    return basivertebral | (tube & bone), tube & ~bone


def _compartments(
    grid: Grid,
    bone: Bool,
    kind: NDArray[np.int8],
    vein: Bool,
    anatomy: Anatomy,
    lesion: Lesion | None,
    tracks: tuple[places.NeedleTrack, ...],
) -> tuple[tuple[str, ...], NDArray[np.int8]]:
    """The compartment of every open voxel outside the bone, numbered from 1."""
    out = np.zeros(grid.shape, np.int8)
    open_ = (kind == OUTSIDE) & ~bone
    index = np.argwhere(open_)
    points = grid.to_world(index)
    around = places.Surroundings(
        anatomy=anatomy, tracks=tracks, lesion=None if lesion is None else lesion.mask
    )
    names = places.labelled(points, around)
    tube = vein[open_] & (names == "")
    names[tube] = places.VEIN
    rest = names == ""
    names[rest] = places.by_side(points[rest], around)
    known = tuple(sorted(set(names.tolist())))
    number = {name: k for k, name in enumerate(known, start=1)}
    out[open_] = [number[n] for n in names]
    return known, out
