"""Lays the CT after the procedure against the planning image, bone to bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trocar.errors import InputError
from trocar.facts import tissue
from trocar.facts.source import load
from trocar.kernels import align, field
from trocar.model.case import Finding, Gravity
from trocar.model.result import Anatomy, Registration
from trocar.model.space import Float, Grid, Mask, Volume


def fact(name: str) -> float:
    """One number of ``cement_ct.toml``."""
    return load("cement_ct")[name].mean


def register(
    pre: Volume, post: Volume, anatomy: Anatomy
) -> tuple[Registration, tuple[Finding, ...]]:
    """Where does the treated bone of the planning CT lie in the later CT?

    The bone and a few millimetres of what surrounds it, without neighbouring bones (they move by
    themselves), are compared; cement and metal are left out. The images need no common frame: when
    they do not agree where they are, the bone is looked for in the whole later CT. Raises
    :class:`InputError` when it is not there.
    """
    box = anatomy.bone.box(_room_mm())
    corners = anatomy.grid.crop(box).corners_mm
    view = pre.crop(pre.grid.around(corners))
    around = _around(anatomy, view.grid)
    wide = pre.crop(pre.grid.around(corners, fact("search_around")))
    found = _best(view, post, around, wide)
    moved = _moved(found)
    steps_mm = (*pre.grid.spacing_mm, *post.grid.spacing_mm)
    registration = Registration(
        transform=found.transform,
        # Trilinear reading between voxels errs alike everywhere, which no residual shows.
        error_mm=float(np.hypot(found.error_mm, fact("error_floor") * max(*steps_mm))),
        correlation=found.correlation,
        overlap=found.overlap,
        shift_mm=moved[0],
        turn_deg=moved[1],
    )
    _require_same_bone(registration, anatomy)
    return registration, _doubts(registration, anatomy)


def laid_over(post: Volume, registration: Registration, frame: str) -> Volume:
    """The later CT in the space of the planning image: the same voxels, laid differently.

    Nothing is resampled; only the grid's affine changes.
    """
    affine = np.linalg.inv(registration.transform) @ post.grid.affine
    return replace(post, grid=Grid(shape=post.grid.shape, affine=affine, frame=frame))


def _room_mm() -> float:
    return fact("registration_rim") + 1.0


def _around(anatomy: Anatomy, grid: Grid) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    bone = anatomy.bone.on(grid).values
    near = field.distance_to(bone, grid.spacing_mm) <= fact("registration_rim")
    other = anatomy.structures.get("other_bone")
    if other is not None:
        # A rim of it is left out too: the neighbour's edge is what moves.
        gap = field.distance_to(other.on(grid).values, grid.spacing_mm)
        near &= (gap > fact("registration_rim") / 2) | bone
    out: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = near
    return out


def _best(
    view: Volume,
    post: Volume,
    around: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    wide: Volume,
) -> align.Alignment:
    """From where it is if that agrees well, else the best of the starts a search gives.

    The search compares a ``wide`` part of the image, for vertebrae look like their neighbours.
    """
    dark, bright = fact("registration_darkest"), tissue.value("hu_dense_foreign").mean

    def from_start(start: Float) -> align.Alignment:
        return align.align_rigid(
            view.values,
            view.grid.affine,
            post.values,
            post.grid.affine,
            around,
            darkest=dark,
            brightest=bright,
            brighter=fact("registration_brighter"),
            start=start,
        )

    best = from_start(np.eye(4))
    if best.correlation >= fact("correlation_good") and best.overlap >= fact("overlap_least"):
        return best
    starts = align.search_shifts(
        wide.values,
        wide.grid.affine,
        post.values,
        post.grid.affine,
        np.ones(wide.grid.shape, dtype=bool),
        darkest=dark,
        brightest=bright,
    )
    for start, _ in starts:
        other = from_start(start)
        if other.correlation * other.overlap > best.correlation * best.overlap:
            best = other
    return best


def _moved(found: align.Alignment) -> tuple[float, float]:
    rotation = found.transform[:3, :3]
    shift = rotation @ found.centre_mm + found.transform[:3, 3] - found.centre_mm
    cosine = float(np.clip((np.trace(rotation) - 1) / 2, -1.0, 1.0))
    return float(np.linalg.norm(shift)), float(np.degrees(np.arccos(cosine)))


def _require_same_bone(registration: Registration, anatomy: Anatomy) -> None:
    if registration.overlap < fact("overlap_least"):
        raise InputError(
            f"the later CT holds {registration.overlap:.0%} of {anatomy.site}; expected the "
            "treated bone in both images; give the CT that shows it"
        )
    if registration.correlation < fact("correlation_least"):
        raise InputError(
            f"around {anatomy.site} the two CTs do not look alike (correlation "
            f"{registration.correlation:.2f}, at least {fact('correlation_least'):.2f} expected); "
            "check that both are of the same patient and show the same bone, or assess the later "
            "CT alone"
        )


def _doubts(registration: Registration, anatomy: Anatomy) -> tuple[Finding, ...]:
    found = []
    if registration.overlap < fact("overlap_whole"):
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The CT after the procedure holds only {overlap:.0%} of {site}; cement "
                "beyond its edge is not seen.",
                values={"overlap": registration.overlap, "site": str(anatomy.site)},
            )
        )
    if registration.error_mm > fact("error_most"):
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The two CTs were aligned at {site} to no better than {error_mm:.1f} mm; "
                "volumes and leaks near cortex are doubtful.",
                values={"error_mm": registration.error_mm, "site": str(anatomy.site)},
            )
        )
    if registration.shift_mm > fact("shift_far"):
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="{site} was found in the CT after the procedure by its look alone, "
                "{shift_mm:.0f} mm from where it was; check that it is the same level.",
                values={"site": str(anatomy.site), "shift_mm": registration.shift_mm},
            )
        )
    return tuple(found)


def filled_bone(anatomy: Anatomy) -> Mask:
    """The treated bone with the cement that a reading of the later CT has left out as metal."""
    metal = anatomy.structures.get("metal")
    if metal is None:
        return anatomy.bone
    from scipy import ndimage

    bone = anatomy.bone.values
    box = anatomy.bone.box(fact("blur_reach") * 4)
    part, dense = bone[box], metal.on(anatomy.grid).values[box]
    spacing = anatomy.grid.spacing_mm
    reach = fact("search_reach") / 10
    grown = field.distance_to(part, spacing) <= reach
    closed = field.distance_to(~grown, spacing) > reach
    closed = ndimage.binary_fill_holes(part | (closed & dense)) & (part | dense)
    for name, mask in anatomy.structures.items():
        if name not in ("metal", "other_bone"):
            closed &= ~mask.on(anatomy.grid).values[box] | part
    out = bone.copy()
    out[box] |= closed
    return Mask(grid=anatomy.grid, values=out)
