"""Rigid alignment of two images of one bone, however much of it has turned bright in between.

What is compared is the image around the bone, blurred to one sharpness, up to a gain and an offset.
Voxels that are brighter than bone in either image (cement, metal) are left out and what lies behind
their blur counts less; the rest is weighed by Tukey's biweight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from trocar.kernels import field

Float = NDArray[np.floating[Any]]

_POINTS = 30_000  # more voxels than this add time and no accuracy
_ROUNDS = 20  # Gauss-Newton steps of one level at most
_STILL_MM = 2e-3  # a step that moves the bone by less ends a level
_TUKEY = 4.685  # 95 % efficient on Gaussian residuals (Holland and Welsch 1977)
_MAD = 1.4826  # standard deviations in a median absolute deviation
_SEARCH_MM = 4.0  # voxel of the search for a start
_STARTS = 3  # so many of the best shifts of a search are followed up
_RIM_MM = 2.0  # the blurred rim of something bright; left out with it
_LUMP_MM = 1.5  # standard deviation over which a change is averaged to tell lumps from edges
_FINEST = 0.5  # of the longest voxel edge: a finer blur would compare samplings, not images
_HOPELESS = 0.2  # correlation at a level below which finer levels are not tried
_LEAST = 64  # fewer points than this hold no pose


@dataclass(frozen=True, eq=False, kw_only=True)
class Alignment:
    """How one image lies against another around a bone.

    ``transform`` (4x4) takes a world point of the fixed image to the same place of the bone in the
    moving one. ``covariance`` is that of (rotation in rad about ``centre_mm``, translation in mm),
    rotations and shifts along world axes; ``error_mm`` the root mean square standard error over the
    bone that follows. ``correlation`` is that of the two blurred images where both were compared,
    ``overlap`` the share of the bone's voxels that lie inside the moving image, ``used`` the share
    of those that counted (was not bright and not an outlier).
    """

    transform: Float
    centre_mm: Float
    covariance: Float
    error_mm: float
    correlation: float
    overlap: float
    used: float
    gain: float
    offset: float


def align_rigid(
    fixed: NDArray[Any],
    fixed_affine: Float,
    moving: NDArray[Any],
    moving_affine: Float,
    around: NDArray[np.bool_],
    *,
    darkest: float,
    brightest: float,
    brighter: float = np.inf,
    start: Float | None = None,
    blur_mm: Sequence[float] = (4.0, 2.0, 1.0),
) -> Alignment:
    """How did the bone move between two images?

    ``around`` marks the voxels of ``fixed`` in and around the bone; the affines (4x4) take indices
    (slice, row, column) to world mm. Values below ``darkest`` are held there (air, gas), those
    above ``brightest`` left out, as are lumps that are by more than ``brighter`` brighter in the
    moving image. ``start`` (4x4, fixed to moving world) is where to begin. The
    levels blur both images to ``blur_mm`` (standard deviation), coarse to fine: the first sets how
    far a start may be off (about three times as far). Finds the least weighed sum of squares of
    fixed - gain * moving - offset by Gauss-Newton steps with the mean of both images' slopes. When
    nothing can be compared, overlap or correlation are 0 and the error is infinite.
    """
    pose: Float = np.eye(4) if start is None else np.array(start, dtype=np.float64)
    index = _points(around)
    world = index @ fixed_affine[:3, :3].T + fixed_affine[:3, 3]
    centre: Float = world.mean(axis=0) if len(world) else np.zeros(3)
    result = _nothing(pose, centre)
    if len(index) < _LEAST:
        return result
    f = _Image.around(fixed, fixed_affine, world, 6 * max(blur_mm), darkest, brightest)
    m = _Image.around(
        moving, moving_affine, _moved(pose, world), 9 * max(blur_mm), darkest, brightest
    )
    if f is None or m is None:
        return result
    cell = _cell_mm3(around, fixed_affine, index)
    finest = _FINEST * float(max(f.spacing_mm.max(), m.spacing_mm.max()))
    for blur in [max(b, finest) for b in blur_mm]:
        # What is bright in one image is left out of both, or their blurs would not be comparable.
        back = np.linalg.inv(pose)
        same = f.kept & m.mask_on(m.kept, f, pose) & ~_brightened(f, m, pose, brighter)
        f_blurred = f.blurred(blur, same)
        m_blurred = m.blurred(blur, m.kept & f.mask_on(same, m, back))
        result = _descend(f_blurred, m_blurred, world, centre, pose, blur, cell)
        if not np.isfinite(result.error_mm) or result.correlation < _HOPELESS:
            return result
        pose = result.transform
    return result


def search_shifts(
    fixed: NDArray[Any],
    fixed_affine: Float,
    moving: NDArray[Any],
    moving_affine: Float,
    around: NDArray[np.bool_],
    *,
    darkest: float,
    brightest: float,
) -> list[tuple[Float, float]]:
    """Where else in the moving image may the bone lie, without turning it?

    The normalised cross-correlation of what ``around`` marks with every place of the moving image,
    at 4 mm. Returns up to three (4x4 transform, correlation), best first, as starts for
    :func:`align_rigid`.
    """
    from scipy.signal import fftconvolve

    template, weight, low = _coarse(fixed, fixed_affine, darkest, brightest, around)
    image, seen, corner = _coarse(moving, moving_affine, darkest, brightest, None)
    total = float(weight.sum())
    if total < 1 or not seen.any():
        return []

    def slide(values: Float, kernel: Float) -> Float:
        out: Float = fftconvolve(values, kernel[::-1, ::-1, ::-1], mode="full")
        return out

    # Sums over what both images hold at each lag; the template is cut where the image ends.
    template = template - float((weight * template).sum()) / total
    image = np.where(seen > 0, image - float(image[seen > 0].mean()), 0.0)
    count = np.maximum(slide(seen, weight), 1e-6)
    mean, template_mean = slide(image, weight) / count, slide(seen, weight * template) / count
    spread = slide(image * image, weight) / count - mean**2
    template_spread = slide(seen, weight * template**2) / count - template_mean**2
    cross = slide(image, weight * template) / count - mean * template_mean
    score = cross / np.sqrt(np.maximum(spread * template_spread, 1e-6))
    flat = (spread < 1e-2 * spread.max()) | (template_spread < 1e-2 * template_spread.max())
    score[(count < 0.7 * total) | flat] = -1.0
    found: list[tuple[Float, float]] = []
    for _ in range(_STARTS):
        at = np.unravel_index(int(np.argmax(score)), score.shape)
        if score[at] <= 0:
            break
        lag = np.array(at) - (np.array(template.shape) - 1)
        pose = np.eye(4)
        pose[:3, 3] = (corner + lag[::-1] * _SEARCH_MM) - low
        found.append((pose, float(score[at])))
        score[tuple(slice(max(0, i - 3), i + 4) for i in at)] = -1.0
    return found


# --- inside --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class _Image:
    """A part of an image, and which of its voxels are neither bright nor beside a bright one."""

    values: NDArray[np.float32]
    kept: NDArray[np.bool_]
    affine: Float
    spacing_mm: Float

    @classmethod
    def around(
        cls,
        values: NDArray[Any],
        affine: Float,
        world: Float,
        room_mm: float,
        darkest: float,
        brightest: float,
    ) -> _Image | None:
        """The image around some world points with room to move, None where it does not reach."""
        inverse = np.linalg.inv(affine)
        index = world @ inverse[:3, :3].T + inverse[:3, 3]
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        room = np.ceil(room_mm / spacing).astype(int)
        low = np.maximum(np.floor(index.min(axis=0)).astype(int) - room, 0)
        high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + room + 1, values.shape)
        if np.any(high - low < 2):
            return None
        part = values[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        bright = part > brightest
        moved = np.array(affine, dtype=np.float64)
        moved[:3, 3] += affine[:3, :3] @ low
        return cls(
            values=np.clip(part, darkest, brightest).astype(np.float32),
            kept=~_near(bright, spacing, _RIM_MM),
            affine=moved,
            spacing_mm=spacing,
        )

    def mask_on(self, mask: NDArray[np.bool_], other: _Image, pose: Float) -> NDArray[np.bool_]:
        """A mask of this image on another's voxels; ``pose`` takes its world to this one's."""
        way = (np.linalg.inv(self.affine) @ pose @ other.affine)[:3]
        n = other.values.shape
        return field.resample_nearest(mask, way, (n[0], n[1], n[2]), 1).astype(bool)

    def blurred(self, blur_mm: float, kept: NDArray[np.bool_]) -> _Blurred:
        """The image blurred without what is not kept (a normalised convolution).

        Voxels much finer than the blur are averaged in blocks first: what is left out is smaller
        than the blur by far, and there are a hundred times fewer of them.
        """
        from scipy import ndimage

        block = np.maximum(1, (blur_mm / (2 * self.spacing_mm)).astype(int))
        weight = kept.astype(np.float32)
        sums, left = _blocks(self.values * weight, block), _blocks(weight, block)
        affine = _block_affine(self.affine, block)
        sigma = blur_mm / (self.spacing_mm * block)
        left = ndimage.gaussian_filter(left, sigma, mode="nearest", truncate=3.0)
        sums = ndimage.gaussian_filter(sums, sigma, mode="nearest", truncate=3.0)
        return _Blurred(
            values=sums / np.maximum(left, np.float32(0.01)),
            left=left,
            inverse=np.linalg.inv(affine),
        )


def _near(mask: NDArray[np.bool_], spacing_mm: Float, reach_mm: float) -> NDArray[np.bool_]:
    """What lies within a distance of a mask; looked for around it only."""
    out = np.zeros(mask.shape, bool)
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        at = np.flatnonzero(mask.any(axis=others))
        if at.size == 0:
            return out
        room = int(np.ceil(reach_mm / spacing_mm[axis])) + 1
        box.append(slice(max(0, int(at[0]) - room), int(at[-1]) + room + 1))
    part = (box[0], box[1], box[2])
    out[part] = field.distance_to(mask[part], tuple(spacing_mm)) <= reach_mm
    return out


def _blocks(values: NDArray[np.float32], block: NDArray[np.int_]) -> NDArray[np.float32]:
    """The mean of each block of voxels; what is left over at the far ends is dropped."""
    if np.all(block == 1):
        return values
    for axis, b in enumerate(block):
        n = values.shape[axis] // int(b)
        if b == 1 or n == 0:
            continue
        cut = np.moveaxis(values, axis, 0)[: n * int(b)]
        mean = cut.reshape(n, int(b), *cut.shape[1:]).mean(axis=1, dtype=np.float32)
        values = np.moveaxis(mean, 0, axis)
    return np.ascontiguousarray(values)


def _block_affine(affine: Float, block: NDArray[np.int_]) -> Float:
    """Index of a block to the world: its middle lies between its voxels."""
    out = np.array(affine, dtype=np.float64)
    out[:3, 3] += affine[:3, :3] @ ((block - 1) / 2)
    out[:3, :3] = affine[:3, :3] * block
    return out


def _brightened(f: _Image, m: _Image, pose: Float, by: float) -> NDArray[np.bool_]:
    """Where a lump of the moving image is brighter than the fixed one; a shifted cortex is thin."""
    from scipy import ndimage

    way = (np.linalg.inv(m.affine) @ pose @ f.affine)[:3]
    n = f.values.shape
    there = field.resample_linear(m.values, way, (n[0], n[1], n[2]), float("nan"))
    more = np.nan_to_num(there - f.values)
    lump = ndimage.gaussian_filter(more, _LUMP_MM / f.spacing_mm, truncate=3.0) > by
    return _near(lump, f.spacing_mm, _RIM_MM)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Blurred:
    """A blurred image, and how much of each place was left to blur."""

    values: NDArray[np.float32]
    left: NDArray[np.float32]
    inverse: Float  # world to index

    def at(self, world: Float) -> tuple[Float, Float, Float]:
        """Values (nan outside), slopes per mm along world axes and weights at points."""
        index = world @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        value = np.empty(len(index))
        slope = np.empty((len(index), 3))
        weight = np.empty(len(index))
        _look(self.values, self.left, index, value, slope, weight)
        return value, slope @ self.inverse[:3, :3], weight


@njit(cache=True, parallel=True)
def _look(a: Any, left: Any, index: Any, value: Any, slope: Any, weight: Any) -> None:
    """Trilinear values with the slopes of the interpolant, per voxel."""
    nz, ny, nx = a.shape
    for i in prange(len(index)):
        z, y, x = index[i, 0], index[i, 1], index[i, 2]
        inside = 0 <= z <= nz - 1 and 0 <= y <= ny - 1 and 0 <= x <= nx - 1
        if not inside:
            value[i], weight[i] = np.nan, 0.0
            slope[i, 0] = slope[i, 1] = slope[i, 2] = 0.0
            continue
        k, j, h = min(int(z), nz - 2), min(int(y), ny - 2), min(int(x), nx - 2)
        p, q, r = z - k, y - j, x - h
        c00 = a[k, j, h] * (1 - r) + a[k, j, h + 1] * r
        c01 = a[k, j + 1, h] * (1 - r) + a[k, j + 1, h + 1] * r
        c10 = a[k + 1, j, h] * (1 - r) + a[k + 1, j, h + 1] * r
        c11 = a[k + 1, j + 1, h] * (1 - r) + a[k + 1, j + 1, h + 1] * r
        b0, b1 = c00 * (1 - q) + c01 * q, c10 * (1 - q) + c11 * q
        value[i] = b0 * (1 - p) + b1 * p
        slope[i, 0] = b1 - b0
        slope[i, 1] = (c01 - c00) * (1 - p) + (c11 - c10) * p
        d0 = (a[k, j, h + 1] - a[k, j, h]) * (1 - q) + (a[k, j + 1, h + 1] - a[k, j + 1, h]) * q
        e0 = a[k + 1, j, h + 1] - a[k + 1, j, h]
        e1 = a[k + 1, j + 1, h + 1] - a[k + 1, j + 1, h]
        slope[i, 2] = d0 * (1 - p) + (e0 * (1 - q) + e1 * q) * p
        weight[i] = left[min(int(z + 0.5), nz - 1), min(int(y + 0.5), ny - 1), int(x + 0.5)]


def _descend(
    f: _Blurred, m: _Blurred, world: Float, centre: Float, start: Float, blur_mm: float, cell: float
) -> Alignment:
    """Gauss-Newton at one blur."""
    pose = start
    fixed, fixed_slope, fixed_left = f.at(world)
    arm = world - centre
    reach = float(np.sqrt((arm**2).sum(axis=1).mean()))
    normal, inside = np.eye(8), np.zeros(len(world), dtype=bool)
    clear, weight, residual = np.zeros(len(world)), np.zeros(len(world)), np.zeros(len(world))
    moving = fixed
    gain, offset = 1.0, 0.0
    for _ in range(_ROUNDS):
        moving, slope, moving_left = m.at(_moved(pose, world))
        inside = np.isfinite(moving) & np.isfinite(fixed)
        # The square makes the rim of what was left out count little: its blur is uneven there.
        clear = np.where(inside, (fixed_left * moving_left) ** 2, 0.0)
        if np.count_nonzero(clear > 0.5) < _LEAST:
            return _nothing(pose, centre, overlap=float(inside.mean()))
        gain, offset = _level(fixed, moving, clear)
        residual = np.where(inside, fixed - gain * moving - offset, 0.0)
        weight = clear * _biweight(residual, clear)
        turned = slope @ pose[:3, :3]  # the moving image's slopes along fixed axes
        mean = (fixed_slope + gain * turned) / 2
        # A small turn w about the centre and a shift t move a point by w x arm + t.
        jacobian = np.concatenate(
            [
                np.cross(arm, mean),
                mean,
                np.where(inside, moving, 0.0)[:, None],
                np.ones((len(world), 1)),
            ],
            axis=1,
        )
        weighted = jacobian * weight[:, None]
        normal = weighted.T @ jacobian
        step = np.linalg.lstsq(normal, weighted.T @ residual, rcond=None)[0]
        far = reach * float(np.linalg.norm(step[:3])) + float(np.linalg.norm(step[3:6]))
        step *= min(1.0, blur_mm / max(far, 1e-12))  # beyond the blur the slopes say nothing
        pose = pose @ _small(step[:3], step[3:6], centre)
        if far < _STILL_MM:
            break
    covariance = _covariance(normal, residual, weight, blur_mm, cell)
    return Alignment(
        transform=pose,
        centre_mm=centre,
        covariance=covariance,
        error_mm=_error_mm(covariance, arm),
        correlation=_correlation(fixed, moving, clear),
        overlap=float(inside.mean()),
        used=int(np.count_nonzero(weight > 0.25)) / max(int(np.count_nonzero(inside)), 1),
        gain=gain,
        offset=offset,
    )


def _points(around: NDArray[np.bool_]) -> Float:
    """Indices of the marked voxels, thinned evenly to at most ``_POINTS``."""
    flat = np.flatnonzero(around)
    if len(flat) > _POINTS:
        flat = np.random.default_rng(0).choice(flat, _POINTS, replace=False)
    out: Float = np.stack(np.unravel_index(np.sort(flat), around.shape), axis=1).astype(np.float64)
    return out


def _cell_mm3(around: NDArray[np.bool_], affine: Float, index: Float) -> float:
    """Volume that one of the points stands for."""
    voxel = float(abs(np.linalg.det(affine[:3, :3])))
    return voxel * float(np.count_nonzero(around)) / len(index)


def _moved(pose: Float, world: Float) -> Float:
    out: Float = world @ pose[:3, :3].T + pose[:3, 3]
    return out


def _small(turn: Float, shift: Float, centre: Float) -> Float:
    """4x4 of a turn (rotation vector, rad) about the centre followed by a shift."""
    angle = float(np.linalg.norm(turn))
    rotation = np.eye(3)
    if angle > 0:  # Rodrigues
        k = turn / angle
        cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
        rotation += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = centre - rotation @ centre + shift
    return out


def _level(fixed: Float, moving: Float, weight: Float) -> tuple[float, float]:
    """Gain and offset between two images by least squares; a gain at or below 0 is no gain."""
    on = weight > 0
    w, f, m = weight[on], fixed[on], moving[on]
    total = w.sum()
    f0, m0 = float((w * f).sum() / total), float((w * m).sum() / total)
    spread = float((w * (m - m0) ** 2).sum())
    gain = float((w * (m - m0) * (f - f0)).sum()) / spread if spread > 0 else 1.0
    gain = gain if gain > 0.2 else 0.2
    return gain, f0 - gain * m0


def _biweight(residual: Float, clear: Float) -> Float:
    scale = _MAD * float(np.median(np.abs(residual[clear > 0.5])))
    u = residual / max(_TUKEY * scale, 1e-6)
    out: Float = np.where(np.abs(u) < 1, (1 - u**2) ** 2, 0.0)
    return out


def _correlation(fixed: Float, moving: Float, clear: Float) -> float:
    on = clear > 0.5
    if np.count_nonzero(on) < _LEAST:
        return 0.0
    f, m = fixed[on], moving[on]
    if f.std() == 0 or m.std() == 0:
        return 0.0
    return float(np.corrcoef(f, m)[0, 1])


def _covariance(
    normal: Float, residual: Float, weight: Float, blur_mm: float, cell_mm3: float
) -> Float:
    """Of turn and shift; neighbours within the blur are not independent of each other."""
    total = float(weight.sum())
    variance = float((weight * residual**2).sum()) / max(total - 8, 1.0)
    together = (4 * np.pi) ** 1.5 * blur_mm**3 / cell_mm3  # points in one blurred noise grain
    out: Float = np.linalg.pinv(normal)[:6, :6] * variance * max(1.0, together)
    return out


def _error_mm(covariance: Float, arm: Float) -> float:
    """Root mean square over the points of the standard error of where they lie."""
    some = arm[:: max(1, len(arm) // 500)]
    total = 0.0
    for a in some:
        j = np.concatenate([np.cross(np.eye(3), a).T, np.eye(3)], axis=1)
        total += float(np.trace(j @ covariance @ j.T))
    return float(np.sqrt(total / len(some)))


def _nothing(pose: Float, centre: Float, overlap: float = 0.0) -> Alignment:
    return Alignment(
        transform=pose,
        centre_mm=centre,
        covariance=np.full((6, 6), np.inf),
        error_mm=float("inf"),
        correlation=0.0,
        overlap=overlap,
        used=0.0,
        gain=1.0,
        offset=0.0,
    )


def _coarse(
    values: NDArray[Any],
    affine: Float,
    darkest: float,
    brightest: float,
    around: NDArray[np.bool_] | None,
) -> tuple[Float, Float, Float]:
    """Image and weight on a coarse lattice along world axes, and its first point."""
    from scipy import ndimage

    fine_mm = np.linalg.norm(affine[:3, :3], axis=0)
    block = np.maximum(1, (_SEARCH_MM / 2 / fine_mm).astype(int))
    # A block that holds anything bright is bright; the rest are means.
    bright = _blocks((values > brightest).astype(np.float32), block) > 0
    values = _blocks(np.clip(values, darkest, brightest).astype(np.float32), block)
    if around is not None:
        around = _blocks(around.astype(np.float32), block) >= 1 / 2
    affine = _block_affine(affine, block)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    bright = field.distance_to(bright, tuple(spacing)) <= _RIM_MM
    held = values
    # What is bright must not draw the other image's cortex to it: it is taken for marrow.
    held[bright] = np.median(held[~bright] if around is None else held[around & ~bright])
    held = ndimage.gaussian_filter(held, _SEARCH_MM / 2 / spacing, mode="nearest", truncate=2.0)
    if around is None:
        shape = np.asarray(values.shape) - 1
        corners = [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
        index = np.array(corners) * shape
    else:
        index = np.argwhere(around)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    low = world.min(axis=0)
    n = np.maximum(1, np.floor((world.max(axis=0) - low) / _SEARCH_MM).astype(int) + 1)[::-1]
    lattice = np.eye(4)
    lattice[:3, :3] = np.eye(3)[::-1] * _SEARCH_MM
    lattice[:3, 3] = low
    way = (np.linalg.inv(affine) @ lattice)[:3]
    shape3 = (int(n[0]), int(n[1]), int(n[2]))
    image = field.resample_linear(held, way, shape3, darkest)
    marks = np.ones(values.shape, np.float32) if around is None else around.astype(np.float32)
    weight = field.resample_linear(marks, way, shape3, 0.0)
    return image.astype(np.float64), weight.astype(np.float64), low
