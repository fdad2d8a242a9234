"""The lesion: its outline from a click, a given mask or a proposal, and every measure of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.errors import InputError
from trocar.facts import tissue
from trocar.imaging import outline
from trocar.imaging.surface import triangulate
from trocar.imaging.wall import hull_points, wall_defects
from trocar.kernels import field
from trocar.model.case import Finding, Gravity, Lesion, WallDefect
from trocar.model.result import Anatomy
from trocar.model.space import Float, Mask, Slices, Volume

Bool = NDArray[np.bool_]
Kind = Literal["lytic", "mixed", "blastic", "unknown"]

# The method's own lengths and numbers; none describes a tissue.
_MARGIN_MM = 20.0  # room around the bone in which a lesion may grow out
_EVEN_MM = 1.0  # HU are averaged this far before a voxel is called lytic or sclerotic
_APART_MM = 3.0  # healthy bone starts this far from the lesion
_SEED_MM = 2.0  # a proposal needs a core this thick, half
_WIDTHS = 36  # directions in which a width is taken across the bone


def find_lesion(
    ct: Volume,
    anatomy: Anatomy,
    *,
    click_mm: Float | None = None,
    mask: Mask | None = None,
    lesion_id: str = "1",
) -> Lesion:
    """What is the lesion, and what does a reader measure of it?

    Give one point inside it (``click_mm``, LPS mm) or its ``mask`` (used as it is, on any grid of
    the same frame); a mask goes before a click. The result lies on ``anatomy.grid``. Raises
    InputError for a point or mask that is not in the treated bone or lies in healthy bone.
    """
    ct.grid.require_frame(anatomy.grid, "the CT and the anatomy")
    view = _view(ct, anatomy)
    drawn = None
    if mask is not None:
        held, findings = _given(anatomy, mask)
    elif click_mm is not None:
        held, drawn, findings = _clicked(view, anatomy, click_mm)
    else:
        raise InputError(
            "no lesion was pointed at; give a point inside it, its mask, or one of the proposals"
        )
    defects = wall_defects(view, anatomy, held)
    if drawn is not None and defects:
        findings = (*findings, *_outside_findings(drawn))
    found_by = "given mask" if drawn is None else "one click"
    return _measured(view, anatomy, held, defects, findings, found_by, lesion_id)


def propose(ct: Volume, anatomy: Anatomy) -> tuple[Mask, ...]:
    """Which regions of the treated bone look lytic? Candidates on ``anatomy.grid``, largest first.

    A candidate is marrow that reads like tumour tissue (denser than fat, below the lytic limit of
    this bone), is thick enough, stands out from the bone around it and leaves most of the marrow.
    """
    view = _view(ct, anatomy)
    if anatomy.bone.is_empty:
        return ()
    box = anatomy.bone.box(_MARGIN_MM)
    patch = _patch(view, anatomy, box)
    even = outline.smooth(patch.hu, _EVEN_MM, patch.spacing_mm)
    marrow = _marrow(patch)
    if not marrow.any():
        return ()
    dark = marrow & (even < _lytic_limit(even[marrow])) & (even > _fat_limit())
    core = outline.depth(dark, patch.spacing_mm)
    taken = np.zeros_like(dark)
    found: list[Mask] = []
    least = tissue.value("proposal_least").mean
    for seed in _seeds(core):
        if taken[seed]:
            continue
        drawn = outline.draw(patch, seed, tissue.value("cortex_shell").mean)
        new = drawn.inside & ~taken
        taken |= drawn.inside
        # A "lesion" that is nearly the whole marrow is osteopenic marrow, not a lesion.
        share = np.count_nonzero(drawn.inside & marrow) / np.count_nonzero(marrow)
        if drawn.is_clear and share < tissue.value("proposal_most").mean:
            values = np.zeros(anatomy.grid.shape, dtype=bool)
            values[box] = new | drawn.outside
            candidate = Mask(grid=anatomy.grid, values=values)
            if candidate.volume_ml >= least:
                found.append(candidate)
    return tuple(sorted(found, key=lambda m: -m.voxels))


def _view(ct: Volume, anatomy: Anatomy) -> Volume:
    """The CT on the anatomy's grid, cut out where the voxels are the same."""
    if ct.grid.matches(anatomy.grid):
        return ct
    start = ct.grid.to_index(anatomy.grid.to_world([0, 0, 0]))
    first = np.rint(start).astype(int)
    last = first + np.asarray(anatomy.grid.shape)
    if np.all(first >= 0) and np.all(last <= np.asarray(ct.grid.shape)):
        part = ct.crop(tuple(slice(int(a), int(b)) for a, b in zip(first, last)))  # type: ignore[arg-type]
        if part.grid.matches(anatomy.grid):
            return part
    return ct.on(anatomy.grid)


def _patch(view: Volume, anatomy: Anatomy, box: Slices) -> outline.Patch:
    """The working box of the outline, with what a lesion can never be barred."""
    hu = view.values[box].astype(np.float32)
    barred = hu < _lung_limit()
    for name in ("other_bone", "metal"):
        mask = anatomy.structures.get(name)
        if mask is not None:
            barred |= mask.values[box]
    return outline.Patch(
        hu=hu, bone=anatomy.bone.values[box], barred=barred, spacing_mm=anatomy.grid.spacing_mm
    )


def _lung_limit() -> float:
    return tissue.value("hu_body").mean


def _fat_limit() -> float:
    """Half way between fat and muscle: below it is fatty marrow, not tumour."""
    return (tissue.value("hu_fat").mean + tissue.value("hu_muscle").mean) / 2


def _marrow(patch: outline.Patch) -> Bool:
    """Bone deeper than cortex."""
    depth = outline.depth(patch.bone, patch.spacing_mm)
    out: Bool = patch.bone & ~patch.barred & (depth > tissue.value("cortex_shell").mean)
    return out


def _lytic_limit(healthy_hu: NDArray[Any]) -> float:
    """Below this even marrow counts as lytic: min(100, healthy - 2 SD), never below soft tissue."""
    level, spread = _level(healthy_hu)
    soft = tissue.value("hu_lytic").high
    assert soft is not None
    return max(min(tissue.value("hu_lytic_limit").mean, level - 2 * spread), soft)


def _sclerotic_limit(healthy_hu: NDArray[Any]) -> float:
    """Above this counts as sclerotic: healthy + 3 SD, or the fixed limit if that is lower."""
    level, spread = _level(healthy_hu)
    return min(level + 3 * spread, tissue.value("hu_sclerotic").mean)


def _level(hu: NDArray[Any]) -> tuple[float, float]:
    """Median and robust standard deviation."""
    level = float(np.median(hu))
    return level, 1.4826 * float(np.median(np.abs(hu - level)))


def _seeds(core: NDArray[np.float32]) -> list[tuple[int, int, int]]:
    """Deepest point of every thick dark piece, largest piece first."""
    labels, sizes = field.components(core > _SEED_MM, connectivity=3)
    seeds = []
    for number in np.argsort(-sizes[1:]) + 1:
        here = np.where(labels == number, core, 0)
        z, y, x = np.unravel_index(int(np.argmax(here)), core.shape)
        seeds.append((int(z), int(y), int(x)))
    return seeds


def _given(anatomy: Anatomy, mask: Mask) -> tuple[Mask, tuple[Finding, ...]]:
    """A mask as it came, checked against the bone."""
    mask.grid.require_frame(anatomy.grid, "the lesion mask and the CT")
    if mask.is_empty:
        raise InputError("the lesion mask is empty; give a mask with the lesion set")
    held = mask.on(anatomy.grid)
    if held.is_empty:
        raise InputError(
            f"the lesion mask lies outside the part of the CT around the {anatomy.site}; "
            "check that mask and site belong together"
        )
    inside = np.count_nonzero(held.values & anatomy.bone.values)
    if inside == 0:
        gap = _gap_mm(held, anatomy.bone)
        raise InputError(
            f"the lesion mask does not touch the {anatomy.site} ({gap:.0f} mm away); check the "
            "site and the mask"
        )
    findings = []
    if held.volume_ml < 0.95 * mask.volume_ml:
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The lesion mask reaches beyond the part of the CT that was read; "
                "{lost_ml:.1f} ml of {all_ml:.1f} ml were left out.",
                values={"lost_ml": mask.volume_ml - held.volume_ml, "all_ml": mask.volume_ml},
            )
        )
    return held, tuple(findings)


def _clicked(
    view: Volume, anatomy: Anatomy, click_mm: Float
) -> tuple[Mask, outline.Outline, tuple[Finding, ...]]:
    """The outline of the lesion around one point."""
    click = np.asarray(click_mm, dtype=np.float64)
    _check_click(anatomy, click)
    box = anatomy.bone.box(_MARGIN_MM)
    patch = _patch(view, anatomy, box)
    x, y, z = (float(v) for v in anatomy.grid.crop(box).to_index(click))
    drawn = outline.draw(patch, (x, y, z), tissue.value("cortex_shell").mean)
    _check_drawn(anatomy, patch, drawn, click)
    values = np.zeros(anatomy.grid.shape, dtype=bool)
    values[box] = drawn.inside | drawn.outside
    held = Mask(grid=anatomy.grid, values=values)
    return held, drawn, _outline_findings(patch, drawn, bool(held.holds(click)))


def _check_click(anatomy: Anatomy, click: Float) -> None:
    if click.shape != (3,) or not np.all(np.isfinite(click)):
        raise InputError(f"the click is {click.tolist()}; expected one point as three LPS mm")
    where = ", ".join(f"{v:.0f}" for v in click)
    if anatomy.bone.is_empty:
        raise InputError(f"no {anatomy.site} was found in the CT; give labels or another site")
    if not bool(anatomy.grid.contains(click)):
        raise InputError(
            f"the click (LPS {where} mm) lies outside the CT around the {anatomy.site}; click "
            "inside the lesion"
        )
    if not bool(anatomy.bone.holds(click)):
        gap = float(np.linalg.norm(anatomy.bone.points_mm() - click, axis=1).min())
        reach = tissue.value("click_reach").mean
        if gap > reach:
            raise InputError(
                f"the click (LPS {where} mm) lies {gap:.0f} mm outside the {anatomy.site}; click "
                "inside the part of the lesion that lies in the bone, or give a mask"
            )


def _check_drawn(
    anatomy: Anatomy, patch: outline.Patch, drawn: outline.Outline, click: Float
) -> None:
    where = ", ".join(f"{v:.0f}" for v in click)
    if not drawn.inside.any():
        raise InputError(
            f"no lesion could be outlined around the click (LPS {where} mm) in the {anatomy.site}; "
            "click nearer its middle or give a mask"
        )
    even = outline.smooth(patch.hu, _EVEN_MM, patch.spacing_mm)
    healthy = even[_marrow(patch) & ~drawn.inside]
    if healthy.size == 0:
        return
    level = drawn.level_hu
    lytic, sclerotic = _lytic_limit(healthy), _sclerotic_limit(healthy)
    usual = float(np.median(healthy))
    # In a collapsed body cortex is everywhere and the spread is no guide: half the usual is lytic.
    lytic = max(lytic, tissue.value("lytic_fraction").mean * usual)
    if lytic < level < sclerotic or not drawn.is_clear:
        raise InputError(
            f"the bone at the click (LPS {where} mm) reads {level:.0f} HU like healthy bone of the "
            f"{anatomy.site} ({usual:.0f} HU); lytic would be below {lytic:.0f}, "
            f"sclerotic above {sclerotic:.0f}; click inside the lesion or give a mask"
        )


def _outline_findings(
    patch: outline.Patch, drawn: outline.Outline, holds_click: bool
) -> tuple[Finding, ...]:
    findings = []
    marrow = _marrow(patch)
    share = float(np.count_nonzero(drawn.inside & marrow)) / max(int(np.count_nonzero(marrow)), 1)
    if share >= tissue.value("proposal_most").mean:
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The outlined region takes {percent:.0f} % of the marrow of the bone; a "
                "lesion that has replaced it all looks like osteopenic marrow. Check the outline.",
                values={"percent": 100 * share},
            )
        )
    if not holds_click:
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The click lies just beside the region that was outlined. "
                "Check that it is the lesion meant.",
            )
        )
    return tuple(findings)


def _outside_findings(drawn: outline.Outline) -> tuple[Finding, ...]:
    """How far the outline outside a broken bone can be trusted."""
    if drawn.outside.any() and drawn.outside_is_doubtful:
        return (
            Finding(
                gravity=Gravity.NOTE,
                message="Tumour outside the bone differs little from its neighbours on this CT; "
                "its outline there is a cautious guess.",
            ),
        )
    if drawn.outside_is_clear:
        return ()
    return (
        Finding(
            gravity=Gravity.CAUTION,
            message="The lesion opens the bone; whether it goes on outside cannot be told on this "
            "CT, tumour and neighbours look alike. Volumes are those inside the bone.",
        ),
    )


def _measured(
    view: Volume,
    anatomy: Anatomy,
    held: Mask,
    defects: tuple[WallDefect, ...],
    findings: tuple[Finding, ...],
    found_by: str,
    lesion_id: str,
) -> Lesion:
    """The record of a lesion whose outline stands."""
    inside = held.values & anatomy.bone.values
    outside_ml = (held.voxels - int(np.count_nonzero(inside))) * anatomy.grid.voxel_ml
    distances = _distances_mm(anatomy, held)
    more = _findings(anatomy, held, outside_ml, defects, distances)
    return Lesion(
        lesion_id=lesion_id,
        site=anatomy.site,
        mask=held,
        kind=_kind(view, anatomy, held),
        volume_ml=held.volume_ml,
        diameters_mm=diameters_mm(held),
        mean_hu=float(view.values[held.values].mean()),
        bone_fraction=float(np.count_nonzero(inside) / max(anatomy.bone.voxels, 1)),
        mirels_fraction=mirels_fraction(anatomy, held),
        soft_tissue_ml=outside_ml,
        defects=defects,
        distances_mm=distances,
        found_by=found_by,
        findings=(*findings, *more),
    )


def diameters_mm(lesion: Mask) -> tuple[float, float, float]:
    """Three perpendicular diameters: the longest of all, the longest across it, and the third.

    Taken on the surface half way between voxels, so a ball reads its own diameter.
    """
    points = hull_points(triangulate(lesion).points_mm)
    if len(points) < 2:
        return 0.0, 0.0, 0.0
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    a, b = np.unravel_index(int(np.argmax(gaps)), gaps.shape)
    first = (points[a] - points[b]) / gaps[a, b]
    flat = points @ _across(first)
    gaps2 = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    c, d = np.unravel_index(int(np.argmax(gaps2)), gaps2.shape)
    second = (flat[c] - flat[d]) / max(gaps2[c, d], 1e-9)
    third = flat @ np.array([-second[1], second[0]])
    return float(gaps[a, b]), float(gaps2[c, d]), float(np.ptp(third))


def mirels_fraction(anatomy: Anatomy, lesion: Mask) -> float:
    """Largest share of the bone's diameter the lesion takes in any cut across the bone's axis.

    In each cut (as thick as the coarsest voxel step) and each direction within it, the lesion's
    width inside the bone over the width of that piece of the bone it lies in.
    """
    inside = Mask(grid=anatomy.grid, values=lesion.values & anatomy.bone.values)
    if inside.is_empty:
        return 0.0
    axis = anatomy.axes.superior
    part = triangulate(inside).points_mm
    whole = triangulate(_near(anatomy.bone, inside)).points_mm
    across = _across(axis)
    step = max(anatomy.grid.spacing_mm)
    angles = np.arange(_WIDTHS) * np.pi / _WIDTHS
    ways = across @ np.stack([np.cos(angles), np.sin(angles)])
    best = 0.0
    heights, bone_heights = part @ axis, whole @ axis
    for low in np.arange(heights.min(), heights.max(), step):
        cut = part[(heights >= low) & (heights <= low + step)]
        bone = whole[(bone_heights >= low) & (bone_heights <= low + step)]
        if len(cut) > 2 and len(bone) > 2:
            widths = np.ptp(cut @ ways, axis=0) / np.maximum(np.ptp(bone @ ways, axis=0), 1e-6)
            best = max(best, float(widths.max()))
    return min(best, 1.0)


def _near(bone: Mask, lesion: Mask) -> Mask:
    """The bone slice by slice, keeping only the pieces the lesion lies in."""
    box = lesion.box(1.0)
    low, high = box[0].start, box[0].stop
    values = np.zeros_like(bone.values)
    for k in range(low, high):
        pieces, _ = ndimage.label(bone.values[k])
        wanted = np.unique(pieces[lesion.values[k]])
        values[k] = np.isin(pieces, wanted[wanted > 0])
    return Mask(grid=bone.grid, values=values)


def _across(axis: Float) -> Float:
    """3x2 matrix of two unit vectors across an axis."""
    aside = np.eye(3)[int(np.argmin(np.abs(axis)))]
    u = np.cross(axis, aside)
    u = u / np.linalg.norm(u)
    return np.stack([u, np.cross(axis, u)], axis=1)


def _kind(view: Volume, anatomy: Anatomy, lesion: Mask) -> Kind:
    """Lytic, blastic or mixed, by how much of it is denser or less dense than healthy bone."""
    box = anatomy.bone.box(_MARGIN_MM)
    patch = _patch(view, anatomy, box)
    held = lesion.values[box] & patch.bone
    even = outline.smooth(patch.hu, _EVEN_MM, patch.spacing_mm)
    apart = field.distance_to(lesion.values[box], patch.spacing_mm) > _APART_MM
    marrow = _marrow(patch)
    healthy = even[marrow & apart]
    # Its rim is blurred with cortex; what lies deeper speaks for the lesion, if there is any.
    deep = held & marrow
    hu = even[deep if deep.any() else held]
    if healthy.size == 0 or hu.size == 0:
        return "unknown"
    lytic = float(np.mean(hu <= _lytic_limit(healthy)))
    blastic = float(np.mean(hu >= _sclerotic_limit(healthy)))
    least = tissue.value("kind_share").mean
    if lytic >= least and blastic >= least:
        return "mixed"
    if lytic >= least:
        return "lytic"
    return "blastic" if blastic >= least else "unknown"


def _distances_mm(anatomy: Anatomy, lesion: Mask) -> Mapping[str, float]:
    """Distance from the lesion to every structure, between the faces of their voxels; 0 touches."""
    # The gap between two voxel boxes is the centre distance after one of them has grown by its
    # 26 neighbours, so one map of the grown lesion serves every structure exactly.
    grown = ndimage.binary_dilation(
        lesion.values, ndimage.generate_binary_structure(3, 3), iterations=1
    )
    distance = field.distance_to(grown, anatomy.grid.spacing_mm)
    return {
        name: float(distance[mask.values].min())
        for name, mask in anatomy.structures.items()
        if not mask.is_empty
    }


def _gap_mm(a: Mask, b: Mask) -> float:
    distance = field.distance_to(a.values, a.grid.spacing_mm)
    return float(distance[b.values].min()) if not b.is_empty else float("inf")


def _findings(
    anatomy: Anatomy,
    lesion: Mask,
    outside_ml: float,
    defects: tuple[WallDefect, ...],
    distances: Mapping[str, float],
) -> tuple[Finding, ...]:
    """What a reader must be told about the lesion, beyond its numbers."""
    findings = [_defect_finding(d) for d in defects]
    findings += _canal_findings(anatomy, lesion, distances)
    if outside_ml >= tissue.value("soft_tissue_least").mean:
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="A soft-tissue part of {volume_ml:.1f} ml lies outside the bone.",
                values={"volume_ml": outside_ml},
            )
        )
    findings += _edge_findings(lesion)
    return tuple(findings)


def _defect_finding(defect: WallDefect) -> Finding:
    return Finding(
        gravity=Gravity.CAUTION,
        message="Cortical defect, {wall}: {area_mm2:.0f} mm2, {extent_mm:.0f} mm across. "
        "Cement can leak through it.",
        values={
            "wall": defect.wall,
            "area_mm2": defect.area_mm2,
            "extent_mm": defect.extent_mm,
        },
    )


def _canal_findings(
    anatomy: Anatomy, lesion: Mask, distances: Mapping[str, float]
) -> list[Finding]:
    canal = anatomy.structures.get("spinal_canal")
    if canal is None or "spinal_canal" not in distances:
        return []
    shared_ml = np.count_nonzero(canal.values & lesion.values) * anatomy.grid.voxel_ml
    if shared_ml >= tissue.value("soft_tissue_least").mean:
        return [
            Finding(
                gravity=Gravity.CAUTION,
                message="The lesion reaches into the spinal canal: {volume_ml:.1f} ml of epidural "
                "soft tissue. Check for cord or root compression.",
                values={"volume_ml": shared_ml},
            )
        ]
    if distances["spinal_canal"] == 0.0:
        return [Finding(gravity=Gravity.CAUTION, message="The lesion touches the spinal canal.")]
    return []


def _edge_findings(lesion: Mask) -> list[Finding]:
    values = lesion.values
    cut = any(bool(np.take(values, k, axis=axis).any()) for axis in range(3) for k in (0, -1))
    if not cut:
        return []
    return [
        Finding(
            gravity=Gravity.CAUTION,
            message="The lesion is cut by the edge of the image; its true size is larger.",
        )
    ]
