"""Cement outside the bone: its pieces, and every voxel of them in exactly one compartment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar import places
from trocar.assessment.amount import Amount
from trocar.model.result import CementLeak
from trocar.model.space import Float, Grid, Mask
from trocar.places import fact

Bool = NDArray[np.bool_]

_CORNERS = np.ones((3, 3, 3), dtype=bool)


def outside_bone(amount: Amount, bone: Bool) -> Bool:
    """Voxels of leaks: cement beyond doubt outside ``bone`` (with one voxel around) and its rim.

    Pieces smaller than ``piece_least`` are the blur of cement at the surface and stay with the
    bone.
    """
    return amount.strong & ~bone


def find_leaks(
    amount: Amount, grid: Grid, around: Bool, scene: places.Surroundings
) -> tuple[tuple[CementLeak, ...], Bool]:
    """The leaks by compartment, gravest first, and all their voxels.

    ``around`` is the treated bone on ``grid`` with one voxel around it. A leak is a connected piece
    of cement out there of at least ``piece_least``; its blurred rim goes with it.
    """
    seeds, labels = _pieces(amount, grid, around)
    if not seeds.any():
        return (), np.zeros_like(around)
    rim = ndimage.binary_dilation(seeds) & (amount.fraction > 0) & ~around
    index = np.argwhere(rim)
    points = grid.to_world(index)
    nearest = ndimage.distance_transform_edt(
        ~seeds, sampling=grid.spacing_mm, return_distances=False, return_indices=True
    )
    piece = labels[tuple(nearest[:, rim])]
    solid = seeds[rim]
    share = amount.fraction[rim].astype(np.float64)
    names = _compartments(points, piece, solid, share, scene, grid.voxel_ml * 1000)
    gap = places.gap_mm(points, scene.anatomy.bone)
    leaks = []
    for name in dict.fromkeys(names):
        mine = names == name
        mask = np.zeros_like(around)
        mask[tuple(index[mine].T)] = True
        volume, low, high = amount.interval_ml(mask, grid.voxel_ml)
        own = points[mine & solid] if (mine & solid).any() else points[mine]
        leaks.append(
            CementLeak(
                compartment=str(name),
                kind=places.kind_of_leak(str(name), own, gap[mine], scene),
                volume_ml=volume,
                low_ml=low,
                high_ml=high,
                reach_mm=float(max(0.0, gap[mine & solid].max(initial=0.0))),
                mask=Mask(grid=grid, values=mask),
                distances_mm=places.distances_at_risk(own, grid, scene.anatomy),
            )
        )
    order = {name: k for k, name in enumerate(places.ALARMS)}
    leaks.sort(key=lambda leak: (order.get(leak.compartment, len(order)), -leak.volume_ml))
    return tuple(leaks), rim


# --- pieces --------------------------------------------------------------------------------------


def _pieces(amount: Amount, grid: Grid, around: Bool) -> tuple[Bool, NDArray[np.int32]]:
    labels, count = ndimage.label(outside_bone(amount, around), _CORNERS)
    volume = ndimage.sum_labels(amount.fraction, labels, np.arange(count + 1)) * grid.voxel_ml
    small = volume * 1000 < fact("piece_least")
    small[0] = True
    labels[small[labels]] = 0
    return labels > 0, labels


# --- compartments --------------------------------------------------------------------------------


def _compartments(
    points: Float,
    piece: NDArray[np.int32],
    solid: Bool,
    share: Float,
    scene: places.Surroundings,
    voxel_mm3: float,
) -> NDArray[np.object_]:
    """The name for each point: what is labelled there, else where its part of the piece lies."""
    names = places.labelled(points, scene)
    for number in np.unique(piece):
        mine = piece == number
        names[mine] = _rest(points[mine], names[mine], solid[mine], share[mine], scene, voxel_mm3)
    return names


def _rest(
    points: Float,
    names: NDArray[np.object_],
    solid: Bool,
    share: Float,
    scene: places.Surroundings,
    voxel_mm3: float,
) -> NDArray[np.object_]:
    """One piece: crumbs join its main part, what no label explains is named by shape and place."""
    names = names.copy()
    free = names == ""
    if free.any():
        use = points[free & solid] if np.count_nonzero(free & solid) >= 4 else points[free]
        names[free] = places.by_place(use, scene)
    total = share.sum()
    parts = {str(n): float(share[names == n].sum()) for n in np.unique(names.astype(str))}
    main = max(parts, key=lambda n: parts[n])
    for name, part in parts.items():
        # Of an alarm only what may be the unevenness of a label is given up.
        least = fact("alarm_crumb") if name in places.ALARMS else fact("piece_least")
        small = part * voxel_mm3 < least
        crumb = small or (name not in places.ALARMS and part < fact("crumb_share") * total)
        if name != main and crumb:
            names[names == name] = main
    return names
