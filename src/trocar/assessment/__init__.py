"""Reads the CT after the procedure: how much cement, where, what leaked, what was foreseen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar import places
from trocar.assessment import amount as amounts
from trocar.assessment import leaks as leaks_of
from trocar.assessment import match
from trocar.assessment.amount import Amount, cement_fraction
from trocar.assessment.compare import (
    FillComparison,
    NeedleDeviation,
    compare_fills,
    compare_needle,
)
from trocar.assessment.match import laid_over, register
from trocar.errors import InputError
from trocar.facts.source import load
from trocar.model.case import Finding, Gravity, gravest_first
from trocar.model.result import Anatomy, CementLeak, Fill, Registration
from trocar.model.space import Grid, Mask, Volume
from trocar.places import NeedleTrack, fact

__all__ = [
    "FillComparison",
    "NeedleDeviation",
    "NeedleTrack",
    "cement_fraction",
    "compare_fills",
    "compare_needle",
    "find_cement",
    "laid_over",
    "register",
]

Bool = NDArray[np.bool_]


def find_cement(
    post: Volume,
    anatomy: Anatomy,
    *,
    lesion: Mask | None = None,
    pre: Volume | None = None,
    lesion_id: str = "",
    needle_tracks: Sequence[NeedleTrack] = (),
) -> Fill:
    """How much cement is in the bone, how full is the lesion, and what leaked where?

    With ``pre`` the anatomy, the lesion and the tracks are those of the planning CT: the bone is
    found again in ``post``, and cement is what is brighter there, each voxel by its share
    ``(HU - before) / (core - before)``. The result lies in the space of the planning CT on the
    voxels of ``post``. Without ``pre`` the anatomy was read on ``post`` itself and the background
    is what surrounds the cement: cement no denser than cortex, and thin leaks beside bone, cannot
    be told apart then.

    Leaks are cement outside the bone and one voxel around it, each voxel in one compartment. What
    has no label is named in ``unknown``. Raises :class:`InputError` when the two CTs do not show
    the same bone, or the later one does not show it at all.
    """
    registration: Registration | None = None
    findings: list[Finding] = []
    whole = post
    if pre is not None:
        registration, doubts = register(pre, post, anatomy)
        findings += doubts
        whole = laid_over(post, registration, anatomy.grid.frame)
    else:
        _require_bone(post, anatomy)
        anatomy = match.with_cement(anatomy)
    view = whole.crop(whole.grid.around(_reach(anatomy)))
    around = ndimage.binary_dilation(anatomy.bone.on(view.grid).values)
    error_mm = registration.error_mm if registration else 0.0
    if pre is None:
        found = _alone(view, anatomy)
        old_ml = 0.0
    else:
        before = amounts.on_one_grid(pre, view)
        found = amounts.against_before(view, before, around, error_mm)
        old_ml = _old_ml(pre, anatomy)
    findings += _unknown_findings(_unknown(anatomy, lesion), anatomy)
    if old_ml > 0:
        findings.append(_old(old_ml))
    if not isinstance(found, Amount):
        findings += [*found, _nothing(anatomy)]
        return _empty(view.grid, anatomy, lesion, lesion_id, old_ml, findings, registration)
    findings += found.findings
    findings += _edge_findings(found, view.grid, whole.grid)
    scene = places.Surroundings(anatomy=anatomy, tracks=tuple(needle_tracks), lesion=lesion)
    leaks, out = leaks_of.find_leaks(found, view.grid, around, scene)
    findings += [_leak_finding(leak) for leak in leaks]
    return _fill(
        found,
        view.grid,
        out,
        anatomy,
        lesion,
        lesion_id,
        leaks,
        old_ml,
        findings,
        registration,
    )


def _fill(
    found: Amount,
    grid: Grid,
    out: Bool,
    anatomy: Anatomy,
    lesion: Mask | None,
    lesion_id: str,
    leaks: tuple[CementLeak, ...],
    old_ml: float,
    findings: list[Finding],
    registration: Registration | None,
) -> Fill:
    volume, low, high = found.interval_ml(found.fraction > 0, grid.voxel_ml)
    share = np.where(out, np.float32(0.0), found.fraction)
    in_bone = float(share.sum(dtype=np.float64)) * grid.voxel_ml
    in_lesion = None
    if lesion is not None:
        held = lesion.on(grid).values
        in_lesion = float(found.fraction[held].sum(dtype=np.float64)) * grid.voxel_ml
    findings = [*findings, *_body_filled(share, grid, anatomy, old_ml)]
    half = share >= 1 / 2
    points, weight = grid.to_world(np.argwhere(half)), share[half]
    return Fill(
        lesion_id=lesion_id,
        site=anatomy.site,
        origin="measured",
        fraction=Volume(grid=grid, values=found.fraction, unit="1"),
        volume_ml=volume,
        low_ml=low,
        high_ml=high,
        in_bone_ml=in_bone,
        in_lesion_ml=in_lesion,
        lesion_fill=in_lesion / lesion.volume_ml if in_lesion is not None and lesion else None,
        bone_fill=in_bone / anatomy.bone.volume_ml,
        leaks=leaks,
        crosses_midline=places.crosses_midline(points, weight, anatomy),
        touches_end_plates=places.touched_end_plates(points, anatomy),
        old_cement_ml=old_ml,
        unknown=_unknown(anatomy, lesion),
        findings=gravest_first(tuple(findings)),
        registration=registration,
    )


def _body_filled(
    share: NDArray[np.float32], grid: Grid, anatomy: Anatomy, old_ml: float
) -> list[Finding]:
    """How much of a vertebral body holds cement, beside what restored its strength.

    A note and no caution: how well pain is relieved does not follow from it.
    """
    body = anatomy.regions.get("vertebral_body")
    if body is None or body.is_empty:
        return []
    within = float(share[body.on(grid).values].sum(dtype=np.float64)) * grid.voxel_ml
    filled = (within + old_ml) / body.volume_ml
    strength, stiffness = (load("cement_plan")[f"{n}_fill"].mean for n in ("strength", "stiffness"))
    return [
        Finding(
            gravity=Gravity.NOTE,
            message="{percent:.0f} % of the body is filled: less than the {strength:.0f} % "
            "that restored strength."
            if filled < strength
            else "{percent:.0f} % of the body is filled; {strength:.0f} % restored strength and "
            "{stiffness:.0f} % stiffness.",
            values={
                "percent": 100 * filled,
                "strength": 100 * strength,
                "stiffness": 100 * stiffness,
            },
        )
    ]


def _empty(
    grid: Grid,
    anatomy: Anatomy,
    lesion: Mask | None,
    lesion_id: str,
    old_ml: float,
    findings: list[Finding],
    registration: Registration | None,
) -> Fill:
    return Fill(
        lesion_id=lesion_id,
        site=anatomy.site,
        origin="measured",
        fraction=Volume(grid=grid, values=np.zeros(grid.shape, np.float32), unit="1"),
        volume_ml=0.0,
        low_ml=0.0,
        high_ml=0.0,
        in_bone_ml=0.0,
        in_lesion_ml=None if lesion is None else 0.0,
        lesion_fill=None if lesion is None else 0.0,
        bone_fill=0.0,
        old_cement_ml=old_ml,
        unknown=_unknown(anatomy, lesion),
        findings=gravest_first(tuple(findings)),
        registration=registration,
    )


def _require_bone(post: Volume, anatomy: Anatomy) -> None:
    post.grid.require_frame(anatomy.grid, "the CT after the procedure and the anatomy")
    inside = post.grid.contains(anatomy.bone.points_mm())
    if inside.mean() < fact("overlap_least"):
        raise InputError(
            f"the CT after the procedure holds {inside.mean():.0%} of {anatomy.site}; expected the "
            "anatomy read on this very CT, or the planning CT beside it"
        )


def _reach(anatomy: Anatomy) -> NDArray[np.float64]:
    box = anatomy.bone.box()
    low, high = anatomy.grid.crop(box).corners_mm
    low, high = np.minimum(low, high), np.maximum(low, high)
    reach = fact("search_reach")
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    out: NDArray[np.float64] = low - reach + corners * (high - low + 2 * reach)
    return out


def _alone(view: Volume, anatomy: Anatomy) -> Amount | tuple[Finding, ...]:
    return amounts.alone(
        view,
        ndimage.binary_dilation(anatomy.bone.on(view.grid).values),
        match.bright_by_itself(anatomy, view.grid),
        thin_cortex=anatomy.site.kind in ("vertebra", "sacrum"),
    )


def _old_ml(pre: Volume, anatomy: Anatomy) -> float:
    """Cement that was in the bone before the procedure."""
    corners = anatomy.grid.crop(anatomy.bone.box()).corners_mm
    view = pre.crop(pre.grid.around(corners, fact("search_around")))
    found = _alone(view, match.with_cement(anatomy))
    if not isinstance(found, Amount):
        return 0.0
    return float(found.fraction.sum(dtype=np.float64)) * view.grid.voxel_ml


def _unknown(anatomy: Anatomy, lesion: Mask | None) -> tuple[str, ...]:
    unknown = list(anatomy.missing)
    spinal = anatomy.site.kind in ("vertebra", "sacrum")
    if spinal and "spinal_canal" not in anatomy.structures:
        unknown.insert(0, "spinal_canal")
    if lesion is None or lesion.is_empty:
        unknown.append("lesion")
    return tuple(dict.fromkeys(unknown))


# --- what a reader must be told ------------------------------------------------------------------


def _unknown_findings(unknown: tuple[str, ...], anatomy: Anatomy) -> list[Finding]:
    names = [n.replace("_", " ") for n in unknown if n != "lesion"]
    found = []
    if "spinal_canal" in unknown:
        found.append(
            Finding(
                gravity=Gravity.STOP,
                message="The spinal canal at {site} is not known: whether cement lies in it cannot "
                "be said. Look at the images.",
                values={"site": str(anatomy.site)},
            )
        )
    if names:
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="Leaks into these structures cannot be told, for they were not found: "
                "{names}.",
                values={"names": ", ".join(names)},
            )
        )
    return found


def _nothing(anatomy: Anatomy) -> Finding:
    return Finding(
        gravity=Gravity.NOTE,
        message="No cement was found in or around {site}.",
        values={"site": str(anatomy.site)},
    )


def _old(old_ml: float) -> Finding:
    return Finding(
        gravity=Gravity.NOTE,
        message="{volume_ml:.1f} ml of cement were there before the procedure; they are not "
        "counted.",
        values={"volume_ml": old_ml},
    )


def _edge_findings(found: Amount, grid: Grid, image: Grid) -> list[Finding]:
    """Cement in the outermost voxels of the image (not of the part that was looked at)."""
    at = image.to_index(grid.to_world(np.argwhere(found.fraction >= 1 / 2)))
    last = np.asarray(image.shape) - 1
    if not np.any((at < 1 / 2) | (at > last - 1 / 2)):
        return []
    return [
        Finding(
            gravity=Gravity.CAUTION,
            message="Cement reaches the edge of the image; there is more of it than was seen.",
        )
    ]


def _leak_finding(leak: CementLeak) -> Finding:
    values = {"volume_ml": leak.volume_ml, "reach_mm": leak.reach_mm}
    if leak.compartment == "epidural or canal":
        return Finding(
            gravity=Gravity.STOP,
            message="Cement lies in the spinal canal: {volume_ml:.2f} ml, reaching {reach_mm:.0f} "
            "mm beyond the bone.",
            values=values,
        )
    if leak.compartment == "foraminal":
        return Finding(
            gravity=Gravity.STOP,
            message="Cement lies in a foramen or on a nerve root: {volume_ml:.2f} ml, reaching "
            "{reach_mm:.0f} mm beyond the bone.",
            values=values,
        )
    if leak.compartment == "intra-articular":
        return Finding(
            gravity=Gravity.STOP,
            message="Cement lies in a joint: {volume_ml:.2f} ml, reaching {reach_mm:.0f} mm beyond "
            "the bone.",
            values=values,
        )
    return Finding(
        gravity=Gravity.CAUTION,
        message="Cement leaked ({compartment}): {volume_ml:.2f} ml, reaching {reach_mm:.0f} mm "
        "beyond the bone.",
        values={"compartment": leak.compartment, **values},
    )
