"""Synthetic CT before and after cement: one finely drawn patient, scanned twice, with exact truth.

The patient is drawn once on a fine lattice without blur and noise; each scan moves it, blurs it,
averages it over its slices and adds noise. So both scans show the same trabeculae.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from trocar.facts import tissue
from trocar.kernels import field
from trocar.model.result import Fill
from trocar.model.space import Float, Grid, Labels, Mask, Volume
from trocar.phantom import Phantom, make
from trocar.phantom.scene import FWHM_PER_SIGMA, ORIGIN_MM, ct_noise

_FINE_MM = 0.6
_ROOM_MM = 32.0  # around the treated bone


@dataclass(frozen=True, eq=False, kw_only=True)
class Cemented:
    """A scan after the procedure and what is true of it.

    ``pose`` (4x4) takes a point of the patient before to the same place after. ``fraction`` is the
    share of each voxel that is cement, without blur. ``parts_ml`` are the exact volumes by name;
    ``shares`` where each part is, on the grid of the scan.
    """

    ct: Volume
    pose: Float
    fraction: Volume
    parts_ml: Mapping[str, float]
    shares: Mapping[str, Volume]

    @property
    def volume_ml(self) -> float:
        """All cement."""
        return float(sum(self.parts_ml.values()))


def fine(name: str, *, seed: int = 0, lesion: bool = True) -> Phantom:
    """A synthetic patient around its treated bone on a fine lattice, without blur and noise."""
    whole = make(
        name, seed=seed, spacing_mm=(_FINE_MM,) * 3, noise_hu=0.0, blur_mm=0.0, lesion=lesion
    )
    box = whole.labels.mask(whole.site.bone_label).box(_ROOM_MM)
    return replace(
        whole,
        ct=whole.ct.crop(box),
        labels=whole.labels.crop(box),
        lesion=whole.lesion.crop(box),
    )


def scan(
    ct: Volume,
    grid: Grid,
    *,
    pose: Float | None = None,
    blur_mm: float = 1.2,
    noise_hu: float = 20.0,
    seed: int = 0,
) -> Volume:
    """What a scanner makes of a finely drawn patient that was moved by ``pose``.

    Point spread of ``blur_mm`` (full width at half maximum), slices averaged over their thickness.
    """
    spacing = np.asarray(grid.spacing_mm)
    values = ct.values.astype(np.float32)
    values = ndimage.gaussian_filter(values, blur_mm / FWHM_PER_SIGMA / _FINE_MM, mode="nearest")
    values = _averaged(values, np.array([spacing[0], 0.0, 0.0]))
    seen = _taken(values, ct.grid, grid, pose, float(tissue.value("hu_muscle")))
    if noise_hu > 0:
        seen = seen + ct_noise(grid.shape, noise_hu, np.random.default_rng([seed, 77]))
    return Volume(grid=grid, values=np.clip(np.rint(seen), -1024, 3071).astype(np.int16))


def scan_grid(patient: Phantom, spacing_mm: Sequence[float], room_mm: float = 24.0) -> Grid:
    """A grid of voxels around the treated bone with ``room_mm`` on all sides."""
    bone = patient.labels.mask(patient.site.bone_label)
    box = patient.ct.grid.crop(bone.box(room_mm))
    low, high = box.corners_mm
    n = np.floor((high - low) / np.asarray(spacing_mm)[::-1]).astype(int) + 1
    return Grid.from_spacing((int(n[2]), int(n[1]), int(n[0])), spacing_mm, low)


def inject(
    patient: Phantom,
    parts: Mapping[str, NDArray[np.float32]],
    grid: Grid,
    *,
    cement_hu: float = 2000.0,
    pose: Float | None = None,
    blur_mm: float = 1.2,
    noise_hu: float = 20.0,
    cupping: float = 0.0,
    streak_hu: float = 0.0,
    seed: int = 0,
) -> Cemented:
    """The patient after cement: ``parts`` are shares (0 to 1) of its fine voxels, by name.

    ``cupping`` is the share of brightness lost in the deepest cement and ``streak_hu`` how dark the
    bands beside it get, along the rows of the image (beam hardening, drawn and not computed).
    """
    share = np.clip(np.sum(list(parts.values()), axis=0), 0.0, 1.0).astype(np.float32)
    half = share > 0.5
    hu = np.full(share.shape, cement_hu, np.float32)
    image = patient.ct.values.astype(np.float32)
    if cupping and half.any():
        depth = np.maximum(-field.signed_distance(half, patient.ct.grid.spacing_mm), 0.0)
        hu -= np.float32(cupping * cement_hu) * depth / depth.max()
    if streak_hu and half.any():
        image = image - np.float32(streak_hu) * _streaks(half, patient.ct.grid)
    image += share * (hu - image)
    ct = scan(
        replace(patient.ct, values=image),
        grid,
        pose=pose,
        blur_mm=blur_mm,
        noise_hu=noise_hu,
        seed=seed,
    )
    spacing = np.asarray(grid.spacing_mm)
    shares = {}
    for name, part in parts.items():
        seen = _taken(_averaged(part, spacing), patient.ct.grid, grid, pose, 0.0)
        shares[name] = Volume(grid=grid, values=seen, unit="1")
    total = np.clip(np.sum([v.values for v in shares.values()], axis=0), 0.0, 1.0)
    return Cemented(
        ct=ct,
        pose=np.eye(4) if pose is None else pose,
        fraction=Volume(grid=grid, values=total, unit="1"),
        parts_ml={n: float(p.sum(dtype=np.float64)) * _FINE_MM**3 / 1000 for n, p in parts.items()},
        shares=shares,
    )


def after(
    name: str,
    fill: Fill,
    *,
    seed: int = 0,
    spacing_mm: Sequence[float] = (1.0, 0.8, 0.8),
    shift_mm: Sequence[float] = (2.0, -1.0, 3.0),
    degrees: Sequence[float] = (2.0, -1.0, 1.5),
) -> Cemented:
    """The synthetic patient scanned after a simulated fill: moved, blurred, with other noise.

    Cement in spongy bone leaves the trabeculae where they are; drawn is the share of each voxel.
    """
    patient = fine(name, seed=seed)
    own = patient.ct.grid
    share = fill.fraction.on(own, outside=0.0).values.astype(np.float32)
    parts, rest = {}, share.copy()
    for leak in fill.leaks:
        held = leak.mask.on(own).values
        parts[leak.compartment] = np.where(held, share, np.float32(0.0))
        rest[held] = 0.0
    middle = patient.labels.mask(patient.site.bone_label).centroid_mm
    return inject(
        patient,
        {"in bone": rest, **parts},
        scan_grid(patient, spacing_mm, room_mm=_ROOM_MM - 8.0),
        pose=turned(middle, degrees, shift_mm),
        seed=seed + 1,
    )


def turned(centre_mm: Float, degrees: Sequence[float], shift_mm: Sequence[float]) -> Float:
    """4x4 of a turn about a centre by a rotation vector in degrees, followed by a shift."""
    vector = np.radians(np.asarray(degrees, dtype=np.float64))
    angle = float(np.linalg.norm(vector))
    k = vector / max(angle, 1e-12)
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    out = np.eye(4)
    out[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    out[:3, 3] = centre_mm - out[:3, :3] @ centre_mm + np.asarray(shift_mm)
    return out


def ball(patient: Phantom, centre_mm: Float, radii_mm: ArrayLike) -> NDArray[np.float32]:
    """Share of each fine voxel inside an ellipsoid (half axes left, posterior, superior)."""
    radii = np.asarray(radii_mm, dtype=np.float64)

    def distance(p: Float) -> Float:
        k = np.linalg.norm((p - centre_mm) / radii, axis=-1)
        slope = np.linalg.norm((p - centre_mm) / radii**2, axis=-1)
        out: Float = k * (k - 1) / np.maximum(slope, 1e-9)
        return out

    return _share(patient.ct.grid, distance, np.array([centre_mm - radii, centre_mm + radii]))


def rod(patient: Phantom, start_mm: Float, end_mm: Float, radius_mm: float) -> NDArray[np.float32]:
    """Share of each fine voxel inside a straight rod with round ends."""
    a, b = np.asarray(start_mm, dtype=np.float64), np.asarray(end_mm, dtype=np.float64)

    def distance(p: Float) -> Float:
        along = np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0.0, 1.0)
        out: Float = np.linalg.norm(p - a - along[..., None] * (b - a), axis=-1) - radius_mm
        return out

    corners = np.array([np.minimum(a, b) - radius_mm, np.maximum(a, b) + radius_mm])
    return _share(patient.ct.grid, distance, corners)


def without(share: NDArray[np.float32], labels: Labels, *names: str) -> NDArray[np.float32]:
    """A share cut off where the named labels are."""
    present = [n for n in names if n in labels.present]
    out: NDArray[np.float32] = np.where(labels.mask(*present).values, np.float32(0.0), share)
    return out


def within(share: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """A share kept only inside a mask."""
    out: NDArray[np.float32] = np.where(mask.values, share, np.float32(0.0))
    return out


def _share(
    grid: Grid, distance: Callable[[Float], Float], corners_mm: Float
) -> NDArray[np.float32]:
    box = grid.around(corners_mm, 2 * _FINE_MM)
    part = grid.crop(box)
    points = part.to_world(np.moveaxis(np.indices(part.shape), 0, -1))
    out = np.zeros(grid.shape, np.float32)
    out[box] = np.clip(0.5 - distance(points) / _FINE_MM, 0.0, 1.0)
    return out


def _averaged(values: NDArray[np.float32], over_mm: Float) -> NDArray[np.float32]:
    """A box average over lengths that need not be whole numbers of fine voxels."""
    out = values
    for axis, length in enumerate(over_mm):
        n = length / _FINE_MM
        if n <= 1.0:
            continue
        half = int(np.ceil((n - 1) / 2))
        kernel = np.ones(2 * half + 1)
        kernel[0] = kernel[-1] = (n - (2 * half - 1)) / 2
        out = ndimage.correlate1d(out, kernel / kernel.sum(), axis=axis, mode="nearest")
    return out


def _taken(
    values: NDArray[np.float32], source: Grid, grid: Grid, pose: Float | None, outside: float
) -> NDArray[np.float32]:
    back = np.eye(4) if pose is None else np.linalg.inv(pose)
    way = (source.inverse @ back @ grid.affine)[:3]
    return field.resample_linear(values, way, grid.shape, outside)


def _streaks(half: NDArray[np.bool_], grid: Grid) -> NDArray[np.float32]:
    """0 to 1: dark bands beside dense matter, strongest along the rows and fading within 8 mm."""
    along = ndimage.gaussian_filter(half.astype(np.float32), (0.5, 1.5, 12.0), mode="nearest")
    spread = ndimage.gaussian_filter(half.astype(np.float32), 3.0 / _FINE_MM / 2, mode="nearest")
    out = np.maximum(along, 0.5 * spread)
    top = float(out[~half].max()) if (~half).any() else 1.0
    bands: NDArray[np.float32] = (out / max(top, 1e-6)).astype(np.float32)
    return bands


# --- random cases --------------------------------------------------------------------------------

_BONES = ("vertebrae_L2", "vertebrae_L3", "vertebrae_L4", "hip_left", "femur_left", "sacrum")
_VESSELS = ("aorta", "inferior_vena_cava", "iliac_artery_left", "iliac_artery_right")
SPINE_LEAKS = (
    "epidural or canal",
    "foraminal",
    "disc superior",
    "disc inferior",
    "vena cava or azygos vein",
    "segmental or paravertebral vein",
    "cortical anterior",
    "cortical lateral",
    "needle track",
    "soft tissue",
)
# From the back of the left pedicle of the lumbar phantom towards the skin, its own millimetres.
TRACK = (np.array([19.0, 33.0, 7.0]), np.array([27.0, 62.0, 13.0]))


def main_part(patient: Phantom, rng: np.random.Generator, size_mm: float) -> NDArray[np.float32]:
    """A lumpy mass of cement about the lesion, inside the bone: balls of up to ``size_mm``."""
    out = np.zeros(patient.ct.grid.shape, np.float32)
    for k in range(int(rng.integers(2, 5))):
        centre = patient.click_mm + rng.normal(0.0, 0.45 * size_mm, 3) * (k > 0)
        out = np.maximum(out, ball(patient, centre, size_mm * rng.uniform(0.55, 1.0, 3)))
    return within(out, patient.labels.mask(patient.site.bone_label))


def leak_part(patient: Phantom, name: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """A leak of the lumbar phantom in a named compartment, 0.1 ml or more."""
    o = np.asarray(ORIGIN_MM, dtype=np.float64)
    side = float(rng.choice([-1.0, 1.0]))
    labels = patient.labels
    if name == "epidural or canal":
        out = _inside(
            patient, ("spinal_canal",), rng, o + np.array([0, 17, 0]), 12.0, rng.uniform(3.2, 4.5)
        )
    elif name == "foraminal":
        word = "left" if side > 0 else "right"
        wanted = (f"foramen_{word}", f"nerve_root_{word}")
        out = _inside(patient, wanted, rng, o + np.array([19 * side, 21, -13]), 5.0, 4.5)
    elif name == "vena cava or azygos vein":
        out = _inside(patient, ("inferior_vena_cava",), rng, o, 60.0, rng.uniform(3.2, 4.5))
    elif name.startswith("disc"):
        up = 1.0 if name.endswith("superior") else -1.0
        centre = o + np.array([rng.uniform(-9, 9), rng.uniform(-7, 5), 19.0 * up])
        out = ball(patient, centre, rng.uniform([4, 4, 3], [7, 6, 4]))
    elif name == "segmental or paravertebral vein":
        start = o + np.array([21.0 * side, rng.uniform(-2, 4), rng.uniform(-5, 5)])
        end = start + np.array([11 * side, -12, rng.uniform(-4, 4)])
        out = rod(patient, start, end, rng.uniform(1.5, 2))
    elif name == "cortical anterior":
        centre = o + np.array([rng.uniform(-3, 9), -20.5, rng.uniform(-6, 6)])
        out = ball(patient, centre, rng.uniform([4.5, 3, 4], [6, 3.6, 6]))
    elif name == "cortical lateral":
        centre = o + np.array([25.0 * side, rng.uniform(0, 5), rng.uniform(-6, 6)])
        out = ball(patient, centre, rng.uniform([4.5, 3.5, 3.5], [5, 5, 5]))
    elif name == "needle track":
        start, end = (o + p for p in TRACK)
        out = rod(patient, start, start + (end - start) * rng.uniform(0.5, 0.9), 1.6)
    else:
        centre = o + np.array([40.0 * side, rng.uniform(-6, 6), rng.uniform(-8, 8)])
        out = ball(patient, centre, rng.uniform(3.0, 4.5, 3))
    keep = {"vena cava or azygos vein": ("inferior_vena_cava",)}.get(name, ())
    cut = [n for n in (*_BONES, *_VESSELS) if n in labels.present and n not in keep]
    return without(out, labels, *cut)


def _inside(
    patient: Phantom,
    names: tuple[str, ...],
    rng: np.random.Generator,
    near_mm: Float,
    reach_mm: float,
    radius_mm: float,
) -> NDArray[np.float32]:
    """A ball about a random place of some labels, kept inside them."""
    mask = patient.labels.mask(*names)
    points = mask.points_mm()
    gap = np.linalg.norm(points - near_mm, axis=1)
    points = points[gap <= max(reach_mm, float(gap.min()) + 1.0)]
    centre = points[int(rng.integers(len(points)))]
    return within(ball(patient, centre, (radius_mm,) * 3), mask)
