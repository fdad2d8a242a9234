"""Metal and old cement on a CT: where it is, how much, and whether it touches the treated bone.

What is far denser than the densest cortex was put there by somebody. It is reported, never called
bone, and never planned through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.facts import tissue
from trocar.kernels import field
from trocar.model.case import Finding, Gravity
from trocar.model.space import Float, Mask, Slices, Volume

Kind = Literal["metal", "cement-like", "dense"]

_CORNERS = 3  # connectivity: voxels that share a face, an edge or a corner belong together
_LISTED = 3  # so many pieces at the treated bone get a sentence of their own


@dataclass(frozen=True, eq=False, kw_only=True)
class ForeignBody:
    """One piece of dense foreign matter; ``kind`` is ``dense`` when metal and cement look alike."""

    kind: Kind
    mask: Mask  # cropped to the piece
    peak_hu: float
    core_hu: float  # median of its densest part
    half_thickness_mm: float  # radius of the largest ball inside

    @property
    def volume_ml(self) -> float:
        """Volume of the piece."""
        return self.mask.volume_ml

    @property
    def centre_mm(self) -> Float:
        """LPS centre of mass."""
        return self.mask.centroid_mm


def find_foreign(ct: Volume, body: Mask | None = None) -> Mask:
    """Which voxels are metal or old cement? All far denser than cortex, with its blurred rim.

    A piece needs a core above the densest cortical bone (``hu_dense_foreign``) of some volume
    (``foreign_least``); its outline lies at half its height above soft tissue, no farther than the
    blur reaches. Enhanced vessels, calcified plaques, stones and cortex stay below the core level.
    Cement that is no denser than cortex cannot be told from it by this rule. ``body`` leaves out
    what lies on or under the patient. The mask is on the grid of ``ct``.
    """
    seeds = ct.values > tissue.value("hu_dense_foreign").mean
    if body is not None:
        seeds &= body.on(ct.grid).values
    found = np.zeros(ct.grid.shape, dtype=bool)
    if not seeds.any():
        return Mask(grid=ct.grid, values=found)
    labels, sizes = _components(seeds)
    least = tissue.value("foreign_least").mean / ct.grid.voxel_ml
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or sizes[number - 1] < max(least, 1):
            continue
        wide = _widen(box, ct)
        found[wide] |= _with_rim(ct.values[wide], labels[wide] == number, ct.grid.spacing_mm)
    return Mask(grid=ct.grid, values=found)


def foreign_bodies(ct: Volume, foreign: Mask) -> tuple[ForeignBody, ...]:
    """The separate pieces in a mask of foreign matter, largest first, each with its likely kind."""
    ct.grid.require_match(foreign.grid, "the CT and the mask of foreign matter")
    labels, _ = _components(foreign.values)
    pieces = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            pieces.append(_describe(ct, box, labels[box] == number))
    return tuple(sorted(pieces, key=lambda piece: -piece.volume_ml))


def foreign_findings(ct: Volume, foreign: Mask, *, bone: Mask | None = None) -> tuple[Finding, ...]:
    """What a reader must be told about metal and old cement, nearest to the treated bone first.

    ``bone`` is the treated bone on any grid of the same frame; without it only amounts are given.
    """
    pieces = foreign_bodies(ct, foreign)
    if not pieces:
        return ()
    if bone is None or bone.is_empty:
        return (_in_all(pieces),)
    ranked = sorted(((_gap_mm(piece, bone), piece) for piece in pieces), key=lambda pair: pair[0])
    touch_mm = max(bone.grid.spacing_mm)
    touching = [piece for gap, piece in ranked if gap <= touch_mm]
    apart = [(gap, piece) for gap, piece in ranked if gap > touch_mm]
    findings = [_touches(piece) for piece in touching[:_LISTED]]
    if len(touching) > _LISTED:
        findings.append(_further(touching[_LISTED:]))
    if apart:
        findings.append(_elsewhere(apart, bone))
    return tuple(findings)


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, _CORNERS))
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]


def _widen(box: tuple[slice, ...], ct: Volume) -> Slices:
    """The box with room for the rim, inside the volume."""
    rim = tissue.value("foreign_rim").mean
    pad = [1 + int(np.ceil(rim / step)) for step in ct.grid.spacing_mm]
    a, b, c = (
        slice(max(0, s.start - p), min(n, s.stop + p))
        for s, p, n in zip(box, pad, ct.grid.shape, strict=True)
    )
    return a, b, c


def _with_rim(
    hu: NDArray[Any], core: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """The core and what lies beside it at more than half its height above soft tissue."""
    half = (float(np.median(hu[core])) + tissue.value("hu_muscle").mean) / 2
    dense = hu > max(half, tissue.value("hu_cement_floor").mean)
    # One voxel at least, however coarse the grid: the blur is never finer than the sampling.
    reach = max(tissue.value("foreign_rim").mean, min(spacing_mm))
    return core | (dense & (field.distance_to(core, spacing_mm) <= reach))


def _describe(whole: Volume, box: tuple[slice, ...], piece: NDArray[np.bool_]) -> ForeignBody:
    z, y, x = box
    ct = whole.crop((z, y, x))
    hu = ct.values[piece].astype(np.float64)
    padded = np.pad(piece, 1)
    inside = field.distance_to(~padded, ct.grid.spacing_mm)
    half_thickness = float(inside.max()) - min(ct.grid.spacing_mm) / 2
    core = float(np.median(hu[hu >= np.median(hu)]))
    return ForeignBody(
        kind=_kind(float(hu.max()), core, half_thickness),
        mask=Mask(grid=ct.grid, values=piece),
        peak_hu=float(hu.max()),
        core_hu=core,
        half_thickness_mm=half_thickness,
    )


def _kind(peak_hu: float, core_hu: float, half_thickness_mm: float) -> Kind:
    """Metal at the top of the scale; cement when thick enough for its level to be believed."""
    metal = tissue.value("hu_metal").low
    assert metal is not None
    if peak_hu >= metal:
        # Cement clipped at the top of a 12-bit scale is as bright as metal but never thin.
        thick = half_thickness_mm >= tissue.value("foreign_thin").mean
        return "metal" if core_hu >= metal or not thick else "dense"
    if half_thickness_mm >= tissue.value("foreign_thin").mean:
        return "cement-like"
    return "dense"


def _gap_mm(piece: ForeignBody, bone: Mask) -> float:
    """Least distance between voxel centres of the piece and of the bone."""
    box = bone.box()
    near = bone.grid.crop(box)
    points = piece.mask.points_mm()
    # The bone's map reaches only around its own box; farther points are measured to that box.
    distance = field.distance_to(bone.values[box], near.spacing_mm)
    index = near.to_index(points)
    held = np.clip(index, 0, np.asarray(near.shape) - 1)
    beyond = np.linalg.norm((index - held) * np.asarray(near.spacing_mm), axis=1)
    at = np.rint(held).astype(int)
    return float(np.min(np.hypot(beyond, distance[at[:, 0], at[:, 1], at[:, 2]])))


def _where(point_mm: Float, bone: Mask) -> str:
    """On which side of the bone a point lies, in the patient's directions, largest first."""
    offset = point_mm - bone.centroid_mm
    words = (("right", "left"), ("front", "back"), ("foot", "head"))
    order = np.argsort(-np.abs(offset))
    main = [int(k) for k in order if abs(offset[k]) >= np.abs(offset).max() / 2]
    return " and ".join(words[k][int(offset[k] > 0)] for k in main)


def _in_all(pieces: tuple[ForeignBody, ...]) -> Finding:
    return Finding(
        gravity=Gravity.CAUTION,
        message="Metal or old cement is in the scan: {pieces} piece(s), {volume_ml:.1f} ml in all, "
        "up to {peak_hu:.0f} HU. It is not counted as bone.",
        values=_amounts(pieces),
    )


def _touches(piece: ForeignBody) -> Finding:
    values = {"volume_ml": piece.volume_ml, "peak_hu": piece.peak_hu}
    if piece.kind == "metal":
        return Finding(
            gravity=Gravity.CAUTION,
            message="Metal touches the treated bone: {volume_ml:.1f} ml, up to {peak_hu:.0f} HU. "
            "It is not counted as bone; streaks make the HU around it unreliable.",
            values=values,
        )
    if piece.kind == "cement-like":
        return Finding(
            gravity=Gravity.CAUTION,
            message="Dense matter that looks like old cement lies in or against the treated bone: "
            "{volume_ml:.1f} ml, up to {peak_hu:.0f} HU. It is not counted as bone.",
            values=values,
        )
    return Finding(
        gravity=Gravity.CAUTION,
        message="Dense foreign matter, metal or old cement, touches the treated bone: "
        "{volume_ml:.2f} ml, up to {peak_hu:.0f} HU. It is not counted as bone.",
        values=values,
    )


def _further(pieces: list[ForeignBody]) -> Finding:
    return Finding(
        gravity=Gravity.CAUTION,
        message="{pieces} further piece(s) of metal or old cement touch the treated bone, "
        "{volume_ml:.2f} ml in all, up to {peak_hu:.0f} HU.",
        values=_amounts(tuple(pieces)),
    )


def _elsewhere(apart: list[tuple[float, ForeignBody]], bone: Mask) -> Finding:
    pieces = tuple(piece for _, piece in apart)
    gap_mm, nearest = apart[0]
    return Finding(
        gravity=Gravity.NOTE,
        message="Metal or old cement away from the treated bone: {pieces} piece(s), "
        "{volume_ml:.1f} ml in all, up to {peak_hu:.0f} HU; the nearest lies {gap_mm:.0f} mm off, "
        "towards the {where}.",
        values={
            **_amounts(pieces),
            "gap_mm": gap_mm,
            "where": _where(nearest.centre_mm, bone),
        },
    )


def _amounts(pieces: tuple[ForeignBody, ...]) -> dict[str, float]:
    return {
        "pieces": len(pieces),
        "volume_ml": sum(piece.volume_ml for piece in pieces),
        "peak_hu": max(piece.peak_hu for piece in pieces),
    }
