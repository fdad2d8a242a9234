"""How much of each voxel is cement: by its brightness against what was there before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from trocar.facts import tissue
from trocar.kernels import field as maps
from trocar.model.case import Finding, Gravity
from trocar.model.space import Float, Mask, Volume
from trocar.places import fact

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

_CORNERS = np.ones((3, 3, 3), dtype=bool)
_MAD = 1.4826  # standard deviations in a median absolute deviation
_LEAST_CONTRAST = 0.2  # of the cement's brightness; below it bone and cement look alike
_CLEAR = 6.0  # standard deviations of noise that a new voxel must rise by
_REACH = 3.0  # standard deviations at which a blur ends
_TWO_SIDED = 1.96  # standard deviations of a 95 % interval


def cement_fraction(hu: ArrayLike, background_hu: ArrayLike, cement_hu: float) -> Float:
    """What share of a voxel is cement? ``clip((HU - background) / (cement - background), 0, 1)``.

    The background is the voxel before the procedure, ``cement_hu`` the median of the cement's core.

    >>> float(cement_fraction(1030.0, 60.0, 2000.0))
    0.5
    """
    h, b = np.asarray(hu, dtype=np.float64), np.asarray(background_hu, dtype=np.float64)
    out: Float = np.clip((h - b) / np.maximum(cement_hu - b, 1.0), 0.0, 1.0)
    return out


@dataclass(frozen=True, eq=False, kw_only=True)
class Amount:
    """Cement on one image: its share of each voxel, and what the interval of a sum rests on."""

    fraction: Image
    strong: Bool  # voxels that are cement beyond doubt, outside bone also thin ones
    cement_hu: float
    noise: float  # standard deviation of one voxel's share
    slope: Image  # by how much a share changes with one HU more of ``cement_hu``, per voxel
    edge: Image  # by how much a share may be off for the registration error, per voxel
    level_hu: float  # standard error of ``cement_hu``
    lowest_hu: float | None = None  # None unless the core reaches the top of the scale
    findings: tuple[Finding, ...] = field(default=())

    def interval_ml(self, where: Bool, voxel_ml: float) -> tuple[float, float, float]:
        """Volume in ``where`` with the ends of its 95 % interval, in ml."""
        f = self.fraction[where]
        total = float(f.sum(dtype=np.float64))
        level = self.level_hu * float(self.slope[where].sum(dtype=np.float64))
        touched = int(np.count_nonzero((f > 0) & (f < 1)))
        noise = self.noise * np.sqrt(touched)
        # Errors of an edge go together over about a neighbourhood of voxels.
        edge = np.sqrt(float((self.edge[where].astype(np.float64) ** 2).sum()) * _CORNERS.size)
        spread = _TWO_SIDED * np.sqrt(level**2 + noise**2 + edge**2)
        spread += fact("volume_floor") * total
        low, high = max(0.0, total - spread), total + spread
        if self.lowest_hu is not None:
            brighter = self.lowest_hu - self.cement_hu
            low = max(0.0, low - brighter * float(self.slope[where].sum(dtype=np.float64)))
        return total * voxel_ml, low * voxel_ml, high * voxel_ml


def against_before(
    post: Volume, pre: Volume, bone: Bool, error_mm: float
) -> Amount | tuple[Finding, ...]:
    """Cement that a later image shows and an earlier one does not; findings alone if there is none.

    Both volumes are on one grid; where the earlier one ends its values are not a number. ``bone``
    is the treated bone there and one voxel around it.
    """
    hu, before = post.values.astype(np.float32), pre.values.astype(np.float32)
    seen = np.isfinite(before)
    before = np.where(seen, before, np.float32(tissue.value("hu_muscle")))
    new = np.where(seen, hu - before, np.float32(0.0))
    noise = _spread(new[bone & (np.abs(new) < fact("artefact_most"))])
    step = max(fact("soft_tissue_floor"), _CLEAR * noise)
    fresh = (new > step) & (hu > _highest_near(before, post.grid.spacing_mm, error_mm) + step / 2)
    metal = before >= tissue.value("hu_metal").mean  # its edges and streaks differ between scans
    if metal.any():
        fresh &= maps.distance_to(metal, post.grid.spacing_mm) > fact("blur_reach")
    strong = fresh & (hu > np.where(bone, fact("outline_floor"), fact("soft_tissue_floor")))
    pieces, findings = _pieces(post, strong, bone)
    if not pieces.any():
        return findings
    return _shares(post, before, pieces, bone, noise, error_mm, findings)


def alone(
    post: Volume, bone: Bool, elsewhere: Bool, *, thin_cortex: bool
) -> Amount | tuple[Finding, ...]:
    """Cement on one image by itself: denser than any cortex inside the bone, and what hangs on it.

    Where there is such cement, pieces outside bone that are as bright as cement are leaks of it.
    ``elsewhere`` marks what may be bright by itself: other bones and calcified arteries. With
    ``thin_cortex`` what is thicker than any cortex of this bone need not be denser than all.
    """
    hu, spacing = post.values.astype(np.float32), post.grid.spacing_mm
    core = hu > tissue.value("hu_dense_foreign").mean
    if thin_cortex:
        core |= _thick(bone & (hu > fact("thick_level")), spacing)
    pieces, findings = _pieces(post, core, bone, inside_only=True)
    if not pieces.any():
        return findings
    level = float(np.median(hu[pieces]))
    half = max((level + tissue.value("hu_muscle").mean) / 2, fact("outline_floor"))
    rim = max(fact("rim_reach"), min(spacing))
    outline = pieces | (hu > half) & (maps.distance_to(pieces, spacing) <= rim)
    if thin_cortex:  # a thick mass is no cortex, though a reading may have called it other bone
        elsewhere = elsewhere & ~_thick((hu > half) & ~bone, spacing)
    free = (hu > half) & ~bone & ~elsewhere & ~ndimage.binary_dilation(outline, _CORNERS)
    leaked, more = _pieces(post, free, bone)
    outline |= leaked
    before = _surroundings(hu, outline, spacing)
    noise = _spread((hu - before)[bone & ~outline & (hu < half)])
    return _shares(post, before, outline, bone, noise, 0.0, (*findings, *more))


# --- inside --------------------------------------------------------------------------------------


def _spread(values: NDArray[Any]) -> float:
    if values.size == 0:
        return 0.0
    return _MAD * float(np.median(np.abs(values - np.median(values))))


def _highest_near(before: Image, spacing_mm: tuple[float, float, float], error_mm: float) -> Image:
    """The brightest that lay within the distance an edge may have moved."""
    reach = max(fact("moved_edge"), 2 * error_mm)
    size = [2 * max(1, int(reach / s + 0.25)) + 1 for s in spacing_mm]
    out: Image = ndimage.maximum_filter(before, size=size)
    return out


def _pieces(
    post: Volume, strong: Bool, bone: Bool, *, inside_only: bool = False
) -> tuple[Bool, tuple[Finding, ...]]:
    """The connected pieces that are cement: not specks, not contrast medium, not metal."""
    labels, _ = ndimage.label(strong, _CORNERS)
    kept = np.zeros_like(strong)
    metal_ml, faint_ml = 0.0, 0.0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        piece = labels[box] == number
        volume_mm3 = np.count_nonzero(piece) * post.grid.voxel_ml * 1000
        if volume_mm3 < fact("piece_least"):
            continue
        hu = post.values[box][piece]
        within = np.count_nonzero(bone[box][piece]) / piece.sum()
        if _is_metal(post, box, piece, hu):
            metal_ml += volume_mm3 / 1000
        elif inside_only and within < 1 / 2:
            continue
        elif hu.max() < (fact("piece_peak") if within < 1 / 2 else tissue.value("hu_cement").low):
            faint_ml += volume_mm3 / 1000
        else:
            kept[box] |= piece
    return kept, _not_counted(metal_ml, faint_ml)


def _is_metal(post: Volume, box: tuple[slice, ...], piece: Bool, hu: NDArray[Any]) -> bool:
    """Whether a piece reaches the brightness of metal and is no cement cut off by the scale."""
    peak = float(hu.max())
    if peak < tissue.value("hu_metal").mean:
        return False
    clipped = peak <= fact("top_of_scale") and np.mean(hu >= peak) > 0.01
    if not clipped:
        return True
    padded = np.pad(piece, 1)
    depth = float(maps.distance_to(~padded, post.grid.spacing_mm).max())
    return depth < tissue.value("foreign_thin").mean


def _not_counted(metal_ml: float, faint_ml: float) -> tuple[Finding, ...]:
    found = []
    if metal_ml > 0:
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="Metal lies in the CT after the procedure ({volume_ml:.1f} ml); it is not "
                "counted as cement, and streaks around it make cement there doubtful.",
                values={"volume_ml": metal_ml},
            )
        )
    if faint_ml >= tissue.value("soft_tissue_least").mean:
        found.append(
            Finding(
                gravity=Gravity.NOTE,
                message="{volume_ml:.1f} ml are brighter than before but not as bright as cement "
                "(contrast medium, or tissue that moved); they are not counted.",
                values={"volume_ml": faint_ml},
            )
        )
    return tuple(found)


def _shares(
    post: Volume,
    before: Image,
    pieces: Bool,
    bone: Bool,
    noise_hu: float,
    error_mm: float,
    findings: tuple[Finding, ...],
) -> Amount:
    whole, spacing = post.grid.shape, post.grid.spacing_mm
    # Nothing beyond this reaches the shares, so nothing beyond it is computed.
    reach = fact("blur_reach") + _REACH * fact("artefact_spread")
    box = Mask(grid=post.grid, values=pieces).box(reach)
    hu, before, pieces = post.values[box].astype(np.float32), before[box], pieces[box]
    core_hu, spread_hu, count = _core(hu, before, pieces, spacing)
    near = _with_blur(pieces, spacing)
    background = before + _shading(hu - before, near, spacing)
    contrast = np.maximum(core_hu - background, np.float32(_LEAST_CONTRAST * core_hu))
    raw = np.where(near, (hu - background) / contrast, np.float32(0.0))
    share = np.clip(raw, 0.0, 1.0)
    deep = _eroded(raw > 0.5, spacing)
    full = deep & (raw > fact("core_full"))
    share[full] = 1.0
    share = _without_noise(share, float(np.where(full, 1.0, np.minimum(raw, 1.0)).sum()))
    inner = (share > 0) & ~full
    saturated = _saturated(hu[full] if full.any() else hu[pieces])
    slope = np.where(inner, share / contrast, np.float32(0.0))
    edge = np.zeros_like(share)
    if error_mm > 0:
        steep = np.sqrt(sum(np.square(g) for g in np.gradient(before, *spacing)))
        edge = np.where(inner, steep * np.float32(error_mm) / contrast, np.float32(0.0))
    if saturated:
        findings = (*findings, _at_the_top())

    def put_back(values: NDArray[Any]) -> NDArray[Any]:
        out = np.zeros(whole, values.dtype)
        out[box] = values
        return out

    return Amount(
        fraction=put_back(share.astype(np.float32)),
        strong=put_back(pieces & (share > 0)),
        cement_hu=core_hu,
        noise=noise_hu / max(core_hu - tissue.value("hu_muscle").mean, 1.0),
        slope=put_back(slope.astype(np.float32)),
        edge=put_back(edge.astype(np.float32)),
        level_hu=max(spread_hu / 4, spread_hu / np.sqrt(max(count, 1))),
        lowest_hu=fact("brightest_cement") if saturated else None,
        findings=findings,
    )


def _with_blur(pieces: Bool, spacing_mm: tuple[float, float, float]) -> Bool:
    """Cement and as far around it as blur and slices carry it: one voxel at least."""
    out: Bool = ndimage.binary_dilation(pieces)
    out |= maps.distance_to(pieces, spacing_mm) <= fact("blur_reach")
    return out


def _core(
    hu: Image, before: Image, pieces: Bool, spacing_mm: tuple[float, float, float]
) -> tuple[float, float, int]:
    """Median brightness of the cement's core, its spread and how many voxels it has."""
    top = float(np.percentile(hu[pieces], 90))
    inside = _eroded(pieces & (hu - before > (top - before) / 2), spacing_mm)
    core = hu[inside]
    if core.size < _CORNERS.size:  # thin cement has no core; its brightest quarter stands for it
        bright = hu[pieces]
        core = bright[bright >= np.percentile(bright, 75)]
    return float(np.median(core)), _spread(core), int(core.size)


def _eroded(mask: Bool, spacing_mm: tuple[float, float, float]) -> Bool:
    """What lies two voxels inside, measured in the finest voxels, one at least along each axis."""
    depth = fact("core_depth") * min(spacing_mm)
    size = [2 * max(1, round(depth / s)) + 1 for s in spacing_mm]
    out: Bool = ndimage.minimum_filter(mask.view(np.uint8), size=size).astype(bool)
    return out


def _shading(new: Image, near: Bool, spacing_mm: tuple[float, float, float]) -> Image:
    """What an artefact adds beside cement, carried on into the blurred rim."""
    ring = maps.distance_to(near, spacing_mm) <= 2 * fact("artefact_spread")
    use = (ring & ~near & (np.abs(new) < fact("artefact_most"))).astype(np.float32)
    sigma = [fact("artefact_spread") / s for s in spacing_mm]
    weight = ndimage.gaussian_filter(use, sigma, truncate=_REACH)
    total = ndimage.gaussian_filter(new * use, sigma, truncate=_REACH)
    out: Image = np.where(near, total / np.maximum(weight, 1e-3), np.float32(0.0))
    return out


def _thick(mask: Bool, spacing_mm: tuple[float, float, float]) -> Bool:
    """The part of a mask that a ball of ``foreign_thin`` reaches without leaving it."""
    reach = tissue.value("foreign_thin").mean
    deep = maps.distance_to(~mask, spacing_mm) > reach
    out: Bool = mask & (maps.distance_to(deep, spacing_mm) <= reach)
    return out


def _surroundings(hu: Image, cement: Bool, spacing_mm: tuple[float, float, float]) -> Image:
    """What would be in the place of cement: the mean of what is around it."""
    wide = _with_blur(cement, spacing_mm)
    # Cortex beside it would make thin rims of cement look empty.
    use = (~wide & (hu < tissue.value("hu_sclerotic").mean)).astype(np.float32)
    sigma = [fact("artefact_spread") / s for s in spacing_mm]
    weight = ndimage.gaussian_filter(use, sigma, truncate=4.0)
    total = ndimage.gaussian_filter(hu * use, sigma, truncate=4.0)
    mean = np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), tissue.value("hu_lytic").mean)
    out: Image = np.where(wide, mean, hu).astype(np.float32)
    return out


def _without_noise(share: Image, total: float) -> Image:
    """Shares without the faintest ones that clipping at 0 has turned from noise into cement."""
    extra = float(share.sum(dtype=np.float64)) - total
    if extra <= 0:
        return share
    partial = np.sort(share[(share > 0) & (share < 1)])
    sums = np.cumsum(partial, dtype=np.float64)
    at = int(np.searchsorted(sums, extra))
    if at == 0 or at >= partial.size:
        return share
    out: Image = np.where(share <= partial[at - 1], np.float32(0.0), share)
    return out


def _saturated(core: NDArray[Any]) -> bool:
    return bool(core.size and np.mean(core >= fact("top_of_scale")) > fact("top_share"))


def _at_the_top() -> Finding:
    return Finding(
        gravity=Gravity.CAUTION,
        message="The cement reaches the top of the CT's scale ({top_hu:.0f} HU): it may be "
        "brighter in truth, and the volume smaller than the sum says.",
        values={"top_hu": fact("top_of_scale")},
    )


def on_one_grid(pre: Volume, post: Volume) -> Volume:
    """The earlier CT on the voxels of the later one, not a number where it ends."""
    return replace(pre.on(post.grid, outside=float("nan")), unit=pre.unit)
