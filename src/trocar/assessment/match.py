"""Lays the CT after the procedure against the planning image, bone to bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trocar.errors import InputError
from trocar.facts import tissue
from trocar.kernels import align, field
from trocar.model.case import Finding, Gravity
from trocar.model.result import Anatomy, Registration
from trocar.model.space import Float, Grid, Mask, Volume
from trocar.places import fact


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
    found, rival = _best(view, post, around, wide)
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
    return registration, (*_doubts(registration, anatomy), *_look_alike(rival, found, anatomy))


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
) -> tuple[align.Alignment, align.Alignment | None]:
    """From where it is if that agrees well, else the best of the starts a search gives.

    With it comes the best of those that lie elsewhere, if a search was made. It compares a ``wide``
    part of the image, for vertebrae look like their neighbours.
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
        return best, None
    starts = align.search_shifts(
        wide.values,
        wide.grid.affine,
        post.values,
        post.grid.affine,
        np.ones(wide.grid.shape, dtype=bool),
        darkest=dark,
        brightest=bright,
    )
    tried = [best, *(from_start(start) for start, _ in starts)]
    tried.sort(key=lambda a: -a.correlation * a.overlap)
    best = tried[0]
    elsewhere = [a for a in tried[1:] if _apart_mm(a, best) > fact("rival_apart")]
    return best, elsewhere[0] if elsewhere else None


def _apart_mm(one: align.Alignment, other: align.Alignment) -> float:
    """How far apart two alignments put the middle of the bone."""
    there = [a.transform[:3, :3] @ one.centre_mm + a.transform[:3, 3] for a in (one, other)]
    return float(np.linalg.norm(there[0] - there[1]))


def _look_alike(
    rival: align.Alignment | None, found: align.Alignment, anatomy: Anatomy
) -> tuple[Finding, ...]:
    """A word of doubt when another place of the later CT looks almost as much like the bone."""
    share = 0.0
    if rival is not None and found.correlation > 0:
        share = rival.correlation * rival.overlap / (found.correlation * found.overlap)
    if rival is None or share < fact("rival_share"):
        return ()
    return (
        Finding(
            gravity=Gravity.CAUTION,
            message="Another place {apart_mm:.0f} mm away looks almost as much like {site} "
            "(correlation {other:.2f} against {own:.2f}): check that the level is right.",
            values={
                "apart_mm": _apart_mm(rival, found),
                "site": str(anatomy.site),
                "other": rival.correlation,
                "own": found.correlation,
            },
        ),
    )


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


def with_cement(anatomy: Anatomy) -> Anatomy:
    """The anatomy read on a CT with cement, its bone filled where that was taken for metal.

    Dense matter belongs inside the bone's outline when most directions from it meet bone.
    """
    metal = anatomy.structures.get("metal")
    if metal is None:
        return anatomy
    grid = anatomy.grid
    near = field.distance_to(anatomy.bone.values, grid.spacing_mm) <= fact("enclosed_reach")
    dense = metal.on(grid).values & near & ~anatomy.bone.values
    for name, mask in anatomy.structures.items():
        if name != "metal":
            dense &= ~mask.on(grid).values
    index = np.argwhere(dense)
    if len(index) == 0:
        return anatomy
    inside = _enclosed(grid.to_world(index), anatomy.bone) >= fact("enclosed_share")
    added = np.zeros(grid.shape, dtype=bool)
    added[tuple(index[inside].T)] = True
    regions = dict(anatomy.regions)
    if "vertebral_body" in regions:
        body = regions["vertebral_body"]
        box = body.box()
        in_body = np.zeros(grid.shape, dtype=bool)
        in_body[box] = added[box]
        regions["vertebral_body"] = Mask(grid=grid, values=body.values | in_body)
    bone = Mask(grid=grid, values=anatomy.bone.values | added)
    return replace(anatomy, bone=bone, regions=regions)


def _enclosed(points: Float, bone: Mask) -> Float:
    """Share of the 26 directions to a voxel's neighbours in which a point meets bone."""
    steps = np.arange(1.0, fact("enclosed_reach") + 1.0)
    ways = [np.array([x, y, z]) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
    ways = [w / np.linalg.norm(w) for w in ways if np.any(w)]
    met = np.zeros(len(points))
    for way in ways:
        hit = np.zeros(len(points), dtype=bool)
        for step in steps:
            hit |= bone.holds(points + step * way)
        met += hit
    out: Float = met / len(ways)
    return out


def bright_by_itself(
    anatomy: Anatomy, grid: Grid
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Other bones and arteries (which calcify), with the blur around them."""
    out = np.zeros(grid.shape, dtype=bool)
    for name, mask in anatomy.structures.items():
        if name in ("other_bone", "aorta") or "artery" in name:
            out |= mask.on(grid).values
    near: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = field.distance_to(
        out, grid.spacing_mm
    ) <= fact("rim_reach")
    return near
