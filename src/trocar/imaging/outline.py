"""The outline of a lesion from one click: classical, no weights, the same wherever the click falls.

A lesion is told from marrow by two things a reader uses as well: its level and its evenness. Every
voxel votes with the logarithm of how much likelier its HU is in the lesion (a normal curve fitted
at the click) than in the bone around (a histogram). Votes are bounded, so that neither cortex nor a
speck decides, and averaged over the neighbourhood. What hangs on the lesion only by a neck is cut
off. Last, the surface settles half way between the lesion's level and that of the bone just beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.kernels import field

Array = NDArray[Any]
Bool = NDArray[np.bool_]
Spacing = tuple[float, float, float]

# The method's own lengths and numbers; none describes a tissue.
_SMOOTH_MM = 0.6  # takes the finest grain off before voting
_EVIDENCE_MM = 1.5  # neighbourhood over which votes are averaged
_CLICK_MM = 3.0  # the first guess is this ball around the click
_WIDE_MM = 25.0  # surroundings of the first guess ...
_RING_MM = 10.0  # ... and of the later ones
_DOOR_MM = 6.0  # surroundings of a hole in the bone
_RIM_MM = 1.5  # surroundings and bone depth start this far off: nearer, tissues are mixed
_SHARE_MM = 1.5  # evens the lesion's share of each voxel before the surface is set
_ALIKE = 3.0  # spreads by which a voxel may differ from the lesion's level and still be alike
_CORTEX = 2.5  # bone this many times as far from the lesion's level as marrow is cortex
_DENSE = 2.0  # bone beyond counts at most this many times as dense as its median, above the lesion
_BAND_MM = 1.2  # how far the last step may move the surface
_LOCAL_MM = 3.0  # radius of "the bone just beyond"
_NECK = 0.6  # what is thinner than this part of the lesion's main ball is cut off ...
_NECK_MM = 6.0  # ... but a limb thicker than twice this always belongs
_SHEET_MM = 1.5  # half thickness below which tissue outside the bone is no tumour
_SURE = 0.15  # votes this near to the lesion's own (in parts of the contrast) leave no doubt ...
_ARM_MM = 2.0  # ... so that even an arm of this half thickness belongs to the lesion
_VOTE_LOW, _VOTE_HIGH = -1.5, 1.0
_FLOOR = 1e-4  # likelihood of a level never seen
_BIN_HU = 5.0
_LEAST_SPREAD_HU = 6.0
_STEPS = 12
_SETTLED = 10  # voxels that still change
_DOUBT = 0.5  # below that, votes must come this much nearer to the lesion's own
_PLAIN = 1.2  # difference of mean votes that leaves no doubt
_SEPARATE = 0.45  # least difference of mean votes between lesion and surroundings


@dataclass(frozen=True, eq=False, kw_only=True)
class Patch:
    """The working box: HU, the filled bone, what may not be entered, and voxel steps in mm."""

    hu: NDArray[np.float32]
    bone: Bool
    barred: Bool  # other bones, metal, air: never lesion
    spacing_mm: Spacing

    def part(self, box: tuple[slice, ...]) -> Patch:
        """The same inside a smaller box."""
        return Patch(
            hu=self.hu[box],
            bone=self.bone[box],
            barred=self.barred[box],
            spacing_mm=self.spacing_mm,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Outline:
    """What was found: lesion in the bone, its part outside, and how clearly each stands out.

    A contrast is the difference between the mean votes of lesion and surroundings, 0 (alike) to
    2.5 (nothing in common).
    """

    inside: Bool
    outside: Bool
    contrast: float
    outside_contrast: float | None  # None: no tumour-like tissue outside the bone touches it
    level_hu: float

    @property
    def is_clear(self) -> bool:
        """Whether the lesion differs from the bone around it."""
        return self.contrast >= _SEPARATE

    @property
    def outside_is_clear(self) -> bool:
        """Whether tumour outside the bone could be told from its neighbours."""
        return self.outside_contrast is not None and self.outside_contrast >= _SEPARATE

    @property
    def outside_is_doubtful(self) -> bool:
        """Whether tumour outside the bone could be told from its neighbours only just."""
        return self.outside_contrast is not None and self.outside_contrast < _PLAIN


def draw(patch: Patch, click: tuple[float, float, float], shell_mm: float) -> Outline:
    """Which voxels belong to the lesion that was clicked?

    ``click`` is a fractional index in the patch; ``shell_mm`` the depth of cortex to look through
    where the lesion may leave the bone.
    """
    core, contrast, level = _core(patch, click)
    open_bone = patch.bone & ~patch.barred
    inside = _settle(patch, core, np.zeros_like(core), open_bone)
    loose = inside & ~_main_part(inside, _heart(core, patch.spacing_mm), patch.spacing_mm)
    inside = _touching((inside & ~loose) | core, core)
    inside |= _tongues(patch, inside, shell_mm)
    outside, beyond = _leave(patch, inside, shell_mm)
    return Outline(
        inside=inside,
        outside=outside,
        contrast=contrast,
        outside_contrast=beyond,
        level_hu=level,
    )


def smooth(values: Array, sigma_mm: float, spacing_mm: Spacing) -> NDArray[np.float32]:
    """Gaussian smoothing with a standard deviation in mm."""
    sigma = [sigma_mm / s for s in spacing_mm]
    out: NDArray[np.float32] = ndimage.gaussian_filter(
        values.astype(np.float32, copy=False), sigma, truncate=3.0, mode="nearest"
    )
    return out


def depth(mask: Bool, spacing_mm: Spacing) -> NDArray[np.float32]:
    """Distance in mm from every set voxel to the nearest one that is not (0 where not set)."""
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    return field.distance_to(~mask, spacing_mm)


def _core(patch: Patch, click: tuple[float, float, float]) -> tuple[Bool, float, float]:
    """Lesion by votes, its contrast and its level; slightly too small, as votes are cautious."""
    hu = smooth(patch.hu, _SMOOTH_MM, patch.spacing_mm)
    away = _away(patch.bone.shape, click, patch.spacing_mm)
    lesion = (away <= max(_CLICK_MM, *patch.spacing_mm)) & patch.bone & ~patch.barred
    contrast, level = 0.0, float("nan")
    for step in range(_STEPS):
        reach = _RING_MM if step else _WIDE_MM
        box = _around(lesion, reach + _RIM_MM, patch.spacing_mm)
        near, held = patch.part(box), lesion[box]
        new, contrast, level = _vote(near, hu[box], held, away[box], reach)
        changed = int(np.count_nonzero(new ^ held))
        lesion = np.zeros_like(lesion)
        lesion[box] = new
        if changed < _SETTLED or not new.any():
            break
    return lesion, contrast, level


def _vote(
    patch: Patch, hu: Array, lesion: Bool, away: Array, reach_mm: float
) -> tuple[Bool, float, float]:
    """One round: learn both tissues from the present outline, vote, redraw."""
    inner = depth(lesion, patch.spacing_mm)
    heart = lesion & (inner >= inner.max() / 2)
    level, spread = _level(hu[heart])
    outer = field.distance_to(lesion, patch.spacing_mm)
    marrow = patch.bone & ~patch.barred & (depth(patch.bone, patch.spacing_mm) > _RIM_MM)
    ring = marrow & (outer > 1.0) & (outer <= reach_mm)
    if not ring.any():
        return lesion, 0.0, level
    vote = _votes(hu, level, spread, hu[ring])
    # Cortex is plainly no lesion; were it averaged in, thin lesions beside it would vanish.
    cortex = level + _CORTEX * max(abs(float(np.median(hu[ring])) - level), spread)
    open_bone = patch.bone & ~patch.barred & (hu < cortex)
    mean = _mean_over(vote, open_bone, _EVIDENCE_MM, patch.spacing_mm)
    ring &= open_bone
    body = lesion & (inner > 1.0) if np.any(inner > 1.0) else lesion
    high, low = float(mean[body].mean()), float(mean[ring].mean())
    voted = open_bone & (mean > (high + low) / 2)
    start = heart & voted
    if not start.any():
        start = voted & (away <= 2 * _CLICK_MM)
    sure = voted & (mean > high - _SURE * (high - low))
    new = _main_part(voted, start, patch.spacing_mm)
    new |= _main_part(sure, start & sure, patch.spacing_mm, _ARM_MM)
    return new, high - low, level


def _heart(lesion: Bool, spacing_mm: Spacing) -> Bool:
    """The inner half of a lesion, where its level is not mixed with the surroundings'."""
    inner = depth(lesion, spacing_mm)
    out: Bool = lesion & (inner >= inner.max() / 2)
    return out


def _level(hu: Array) -> tuple[float, float]:
    """Median and robust spread of a tissue's HU."""
    level = float(np.median(hu))
    spread = 1.4826 * float(np.median(np.abs(hu - level)))
    return level, max(spread, _LEAST_SPREAD_HU)


def _votes(hu: Array, level: float, spread: float, around_hu: Array) -> NDArray[np.float32]:
    """Bounded log likelihood ratio of every voxel, lesion against surroundings."""
    low = min(float(around_hu.min()), level - 4 * spread)
    high = max(float(around_hu.max()), level + 4 * spread)
    count = int(np.ceil((high - low) / _BIN_HU)) + 1
    centres = low + (np.arange(count) + 0.5) * _BIN_HU
    held = np.bincount(_bins(around_hu, low, count), minlength=count).astype(np.float64)
    held = ndimage.gaussian_filter1d(held, 2.0)
    around = held / held.sum() + _FLOOR
    z = (centres - level) / spread
    lesion = np.exp(-z * z / 2) * _BIN_HU / (spread * np.sqrt(2 * np.pi)) + _FLOOR
    table = np.clip(np.log(lesion / around), _VOTE_LOW, _VOTE_HIGH).astype(np.float32)
    out: NDArray[np.float32] = table[_bins(hu, low, count)]
    return out


def _bins(hu: Array, low: float, count: int) -> NDArray[np.int64]:
    return np.clip((hu - low) / _BIN_HU, 0, count - 1).astype(np.int64)


def _mean_over(values: Array, where: Bool, sigma_mm: float, spacing_mm: Spacing) -> Array:
    """Gaussian mean of the values over ``where`` only."""
    weight = smooth(where, sigma_mm, spacing_mm)
    total = smooth(np.where(where, values, 0), sigma_mm, spacing_mm)
    out: Array = total / np.maximum(weight, 0.05)
    return out


def _main_part(mask: Bool, start: Bool, spacing_mm: Spacing, thickest_mm: float = _NECK_MM) -> Bool:
    """The part around ``start``, without what hangs on it by a neck thinner than the part itself.

    What is thicker than twice ``thickest_mm`` is never cut off.
    """
    if not start.any():
        return np.zeros_like(mask)
    inner = depth(mask, spacing_mm)
    neck = min(max(_NECK * float(inner[start].max()), 1.0), thickest_mm)
    thick = _touching(inner >= neck, start)
    if not thick.any():
        return _touching(mask, start)
    near = field.distance_to(thick, spacing_mm) <= neck + 1.0
    return _touching(mask & near, thick)


def _touching(mask: Bool, start: Bool) -> Bool:
    """The connected parts of the mask that hold a voxel of ``start``."""
    labels, _ = field.components(mask, connectivity=1)
    wanted = np.unique(labels[start & mask])
    out: Bool = np.isin(labels, wanted[wanted != 0])
    return out


def _settle(patch: Patch, lesion: Bool, held: Bool, where: Bool) -> Bool:
    """Move the surface to half way between the lesion's level and that of what lies beyond.

    Only voxels of ``where`` may change; ``held`` is lesion whatever happens.
    """
    if not lesion.any():
        return lesion
    box = _around(lesion, 3 * _LOCAL_MM, patch.spacing_mm)
    near, whole, open_to = patch.part(box), (lesion | held)[box], where[box]
    inner, outer = depth(whole, near.spacing_mm), field.distance_to(whole, near.spacing_mm)
    heart = whole & (inner >= inner.max() / 2)
    level = float(np.median(near.hu[heart]))
    beyond = open_to & (outer > _RIM_MM) & (outer <= 2 * _LOCAL_MM)
    if not beyond.any():
        return lesion
    # Cortex beyond is far denser than marrow; it must not outweigh the marrow beside it.
    span = _DENSE * abs(float(np.median(near.hu[beyond])) - level) + _BIN_HU
    bounded = np.clip(near.hu, level - span, level + span)
    around = _mean_over(bounded, beyond, _LOCAL_MM, near.spacing_mm)
    fine = smooth(near.hu, _SMOOTH_MM, near.spacing_mm)
    share = (around - fine) / np.where(np.abs(around - level) < 1, 1, around - level)
    share = _mean_over(np.clip(share, -0.5, 1.5), open_to | held[box], _SHARE_MM, near.spacing_mm)
    band = _within_band(whole, near.spacing_mm)
    out = np.zeros_like(lesion)
    out[box] = (open_to & np.where(band, share > 0.5, whole)) | held[box]
    return out


def _within_band(mask: Bool, spacing_mm: Spacing) -> Bool:
    """Voxels the surface may cross: a band in mm, and one slice where slices are farther apart."""
    z, y, x = (min(s, _BAND_MM) for s in spacing_mm)
    near = field.distance_to(mask, (z, y, x)) <= _BAND_MM
    out: Bool = near & (depth(mask, (z, y, x)) <= _BAND_MM)
    return out


def _tongues(patch: Patch, inside: Bool, shell_mm: float) -> Bool:
    """What of the cortex beside the lesion has turned into lesion: the way out of the bone."""
    out = np.zeros_like(inside)
    if not inside.any():
        return out
    box = _around(inside, 3 * shell_mm, patch.spacing_mm)
    near, held = patch.part(box), inside[box]
    fine = smooth(near.hu, _SMOOTH_MM, near.spacing_mm)
    level, spread = _level(fine[_heart(held, near.spacing_mm)])
    shell = near.bone & (depth(near.bone, near.spacing_mm) <= shell_mm + max(near.spacing_mm) / 2)
    alike = shell & ~near.barred
    alike &= np.abs(fine - level) <= _ALIKE * spread
    alike &= field.distance_to(held, near.spacing_mm) <= 2 * shell_mm
    out[box] = _touching(alike | held, held)
    return out


def _leave(patch: Patch, inside: Bool, shell_mm: float) -> tuple[Bool, float | None]:
    """Tumour beyond the bone's outline: reached through a hole, and only where it stands out."""
    nothing = np.zeros_like(inside)
    if not inside.any():
        return nothing, None
    box = _around(inside, _RING_MM + _RIM_MM, patch.spacing_mm)
    near, held = patch.part(box), inside[box]
    fine = smooth(near.hu, _SMOOTH_MM, near.spacing_mm)
    inner, outer = depth(held, near.spacing_mm), field.distance_to(held, near.spacing_mm)
    level, spread = _level(fine[held & (inner >= inner.max() / 2)])
    free = ~near.bone & ~near.barred
    door = free & (outer <= max(near.spacing_mm))
    door &= np.abs(fine - level) <= _ALIKE * spread
    reach = free & (field.distance_to(door, near.spacing_mm) <= _RING_MM)
    if not door.any():
        return nothing, None
    core = held & (inner > 1.0)
    mean, contrast, half = _evidence(fine, level, spread, core, reach & (outer > 1.0), near)
    if contrast < _SEPARATE:
        return nothing, contrast
    if contrast < _PLAIN:
        # Hardly told apart: believed only as far as the lesion's own roundness carries it.
        sure = half + _DOUBT * contrast / 2
        new = _main_part(held | (reach & (mean > sure)), core, near.spacing_mm)
    else:
        new = _through(reach & (mean > half), door, near.spacing_mm)
        ring = reach & (field.distance_to(held | new, near.spacing_mm) > 1.0)
        mean, _, half = _evidence(fine, level, spread, core, ring, near)
        new = _through(reach & (mean > half), door, near.spacing_mm)
        new = _settle(near, new, held, reach)
    nothing[box] = new & reach
    return nothing, contrast


def _evidence(
    hu: Array, level: float, spread: float, core: Bool, ring: Bool, patch: Patch
) -> tuple[Array, float, float]:
    """Mean votes outside the bone, lesion against ring; their difference and their middle."""
    if not ring.any() or not core.any():
        return np.full(hu.shape, -np.inf), 0.0, 0.0
    vote = _votes(hu, level, spread, hu[ring])
    free = (~patch.bone | core) & ~patch.barred
    mean = _mean_over(vote, free, _EVIDENCE_MM, patch.spacing_mm)
    high, low = float(mean[core].mean()), float(mean[ring].mean())
    return mean, high - low, (high + low) / 2


def _through(mask: Bool, door: Bool, spacing_mm: Spacing) -> Bool:
    """What hangs on a hole in the bone, without the thin sheets that leak along its neighbours."""
    hanging = _touching(mask, door)
    thick = depth(hanging, spacing_mm) > _SHEET_MM
    near = field.distance_to(thick, spacing_mm) <= _SHEET_MM + max(spacing_mm) / 2
    return _touching(hanging & near, door)


def _away(shape: tuple[int, ...], click: tuple[float, ...], spacing_mm: Spacing) -> Array:
    """Distance in mm of every voxel centre from a fractional index."""
    axes = [
        ((np.arange(n, dtype=np.float32) - c) * s) ** 2
        for n, c, s in zip(shape, click, spacing_mm, strict=True)
    ]
    total = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    out: Array = np.sqrt(total)
    return out


def _around(mask: Bool, margin_mm: float, spacing_mm: Spacing) -> tuple[slice, ...]:
    """The box around a mask with a margin, inside the array (the whole array for an empty mask)."""
    if not mask.any():
        return tuple(slice(0, n) for n in mask.shape)
    box = []
    for k, (n, s) in enumerate(zip(mask.shape, spacing_mm, strict=True)):
        seen = np.flatnonzero(mask.any(axis=tuple(j for j in range(3) if j != k)))
        pad = int(np.ceil(margin_mm / s)) + 1
        box.append(slice(max(0, int(seen[0]) - pad), min(n, int(seen[-1]) + 1 + pad)))
    return tuple(box)
