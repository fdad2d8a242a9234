"""Where cement outside the bone lies: every voxel in exactly one compartment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.assessment.amount import Amount
from trocar.assessment.match import fact
from trocar.errors import InputError
from trocar.kernels import field
from trocar.model.result import Anatomy, CementLeak
from trocar.model.space import Float, Grid, Mask, Segment

Bool = NDArray[np.bool_]
Kind = Literal["B", "S", "C", "D", ""]

ALARMS = ("epidural or canal", "foraminal", "intra-articular")
_CORNERS = np.ones((3, 3, 3), dtype=bool)
_CANAL, _FORAMEN, _JOINT, _FACET = "epidural or canal", "foraminal", "intra-articular", "facet"
_CAVA, _VEIN = "vena cava or azygos vein", "segmental or paravertebral vein"
_TRACK, _SOFT, _OTHER = "needle track", "soft tissue", "other"
_STEP_MM = 1.0  # of the rays that look for end plates


@dataclass(frozen=True, kw_only=True)
class NeedleTrack:
    """Where a needle lay: its axis from skin to tip in the space of the plan, and its diameter."""

    path: Segment
    diameter_mm: float

    def __post_init__(self) -> None:
        if not self.diameter_mm > 0:
            raise InputError(
                f"the needle's diameter is {self.diameter_mm} mm; expected a number above 0"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """What is needed to say where a point lies: the anatomy, needles, lesion."""

    anatomy: Anatomy
    tracks: tuple[NeedleTrack, ...] = ()
    lesion: Mask | None = None


def outside_bone(amount: Amount, bone: Bool) -> Bool:
    """Voxels of leaks: cement beyond doubt outside ``bone`` (with one voxel around) and its rim.

    Pieces smaller than ``piece_least`` are the blur of cement at the surface and stay with the
    bone.
    """
    return amount.strong & ~bone


def find_leaks(
    amount: Amount, grid: Grid, around: Bool, scene: Scene
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
    gap = _gap_mm(points, scene.anatomy.bone)
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
                kind=_kind(str(name), own, gap[mine], scene),
                volume_ml=volume,
                low_ml=low,
                high_ml=high,
                reach_mm=float(max(0.0, gap[mine & solid].max(initial=0.0))),
                mask=Mask(grid=grid, values=mask),
                distances_mm=_distances(own, grid, scene.anatomy),
            )
        )
    order = {name: k for k, name in enumerate(ALARMS)}
    leaks.sort(key=lambda leak: (order.get(leak.compartment, len(order)), -leak.volume_ml))
    return tuple(leaks), rim


def touched_end_plates(points_mm: Float, anatomy: Anatomy) -> tuple[str, ...]:
    """Which end plates of the body does cement touch? ``points_mm`` are its voxels."""
    body = anatomy.regions.get("vertebral_body")
    if body is None or len(points_mm) == 0:
        return ()
    inside = points_mm[body.holds(points_mm)]
    if len(inside) == 0:
        return ()
    way = anatomy.axes.superior * (fact("plate_contact") + anatomy.grid.spacing_mm[0] / 2)
    found = []
    for name, sign in (("superior", 1), ("inferior", -1)):
        beyond = ~anatomy.bone.holds(inside + sign * way)
        least = fact("piece_least") / 1000
        if np.count_nonzero(beyond) * anatomy.grid.voxel_ml >= least and beyond.sum() >= 3:
            found.append(name)
    return tuple(found)


def crosses_midline(points_mm: Float, share: Float, anatomy: Anatomy) -> bool | None:
    """Whether cement lies on both sides of the midline; None for a bone without one."""
    if anatomy.site.kind not in ("vertebra", "sacrum"):
        return None
    if len(points_mm) == 0:
        return False
    left = anatomy.axes.local(points_mm)[:, 0] > 0
    part = float(share[left].sum() / share.sum())
    return bool(min(part, 1 - part) >= fact("midline_least"))


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
    scene: Scene,
    voxel_mm3: float,
) -> NDArray[np.object_]:
    """The name for each point: what is labelled there, else where its part of the piece lies."""
    names = _labelled(points, scene)
    for number in np.unique(piece):
        mine = piece == number
        names[mine] = _rest(points[mine], names[mine], solid[mine], share[mine], scene, voxel_mm3)
    return names


def _labelled(points: Float, scene: Scene) -> NDArray[np.object_]:
    """Compartments by label, in the order canal, foramen, joint, vessel, disc, track; else ''."""
    names = np.full(len(points), "", dtype=object)

    def take(where: Bool, name: str) -> None:
        names[where & (names == "")] = name

    structures = scene.anatomy.structures
    for wanted, name in (
        (("spinal_canal", "spinal_cord"), _CANAL),
        (("foramen", "sacral_foramina", "nerve_root"), _FORAMEN),
    ):
        for key, mask in structures.items():
            if key.startswith(wanted):
                take(mask.holds(points), name)
    for key, mask in structures.items():
        if "joint" in key:
            take(mask.holds(points), _FACET if "facet" in key else _JOINT)
    if scene.anatomy.site.kind == "vertebra":
        take(_in_facet(points, scene), _FACET)
    for key, mask in structures.items():
        name = _vessel(key)
        if name:
            take(mask.holds(points), name)
    for key, mask in structures.items():
        if "disc" in key:
            take(mask.holds(points), _disc_side(points, scene))
    if scene.anatomy.site.kind == "vertebra":
        for name, where in _discs(points, scene).items():
            take(where, name)
    for track in scene.tracks:
        near = track.path.distance_mm(points) <= track.diameter_mm / 2 + fact("track_extra")
        take(near, _TRACK)
    for key, mask in structures.items():
        if key.startswith(("lung", "pleura")):
            take(mask.holds(points), "pleural")
    return names


def _vessel(key: str) -> str:
    if key.startswith(("inferior_vena_cava", "superior_vena_cava", "azygos")):
        return _CAVA
    if key.startswith("pulmonary"):
        return "pulmonary"
    if "vena" in key or "vein" in key:
        return _VEIN
    return _OTHER if "artery" in key or "vessels" in key or key == "aorta" else ""


def _disc_side(points: Float, scene: Scene) -> str:
    height = float(scene.anatomy.axes.local(points)[:, 2].mean())
    return "disc superior" if height > 0 else "disc inferior"


def _in_facet(points: Float, scene: Scene) -> Bool:
    """Between the treated vertebra's arch and a neighbour's, behind the body."""
    other = scene.anatomy.structures.get("other_bone")
    if other is None:
        return np.zeros(len(points), dtype=bool)
    behind = scene.anatomy.axes.local(points)[:, 1] > _body(scene)[1, 1]
    reach = fact("wall_reach")
    near = (_gap_mm(points, scene.anatomy.bone) <= reach) & (_gap_mm(points, other) <= reach)
    out: Bool = behind & near
    return out


def _body(scene: Scene) -> Float:
    """Lowest and highest local (left, posterior, superior) of the vertebral body, (2, 3)."""
    body = scene.anatomy.regions.get("vertebral_body", scene.anatomy.bone)
    local = scene.anatomy.axes.local(body.points_mm())
    out: Float = np.percentile(local, [1, 99], axis=0)
    return out


def _discs(points: Float, scene: Scene) -> dict[str, Bool]:
    """Points with the treated body on one side along its axis and another bone on the other."""
    body = scene.anatomy.regions.get("vertebral_body")
    if body is None:
        return {}
    other = scene.anatomy.structures.get("other_bone")
    up = scene.anatomy.axes.superior
    reach = fact("disc_reach")
    out = {}
    for name, sign in (("disc superior", 1.0), ("disc inferior", -1.0)):
        own = _first_hit(points, -sign * up, reach, body)
        next_one = np.full(len(points), np.inf)
        if other is not None:
            next_one = _first_hit(points, sign * up, reach, other)
        # Without the neighbour in the image half a disc above the body's own plate is disc.
        alone = other is None or not np.isfinite(next_one).any()
        between = np.isfinite(next_one) if not alone else own <= reach / 2
        out[name] = np.isfinite(own) & between
    return out


def _first_hit(points: Float, way: Float, reach_mm: float, mask: Mask) -> Float:
    """How far along ``way`` each point first meets the mask; inf if not within reach."""
    out = np.full(len(points), np.inf)
    for t in np.arange(0.0, reach_mm + _STEP_MM, _STEP_MM):
        hit = np.isinf(out) & mask.holds(points + t * way)
        out[hit] = t
    return out


def _rest(
    points: Float,
    names: NDArray[np.object_],
    solid: Bool,
    share: Float,
    scene: Scene,
    voxel_mm3: float,
) -> NDArray[np.object_]:
    """One piece: crumbs join its main part, what no label explains is named by shape and place."""
    names = names.copy()
    free = names == ""
    if free.any():
        use = points[free & solid] if np.count_nonzero(free & solid) >= 4 else points[free]
        names[free] = _by_place(use, scene)
    total = share.sum()
    parts = {str(n): float(share[names == n].sum()) for n in np.unique(names.astype(str))}
    main = max(parts, key=lambda n: parts[n])
    for name, part in parts.items():
        # Of an alarm only what may be the unevenness of a label is given up.
        least = fact("alarm_crumb") if name in ALARMS else fact("piece_least")
        small = part * voxel_mm3 < least
        crumb = small or (name not in ALARMS and part < fact("crumb_share") * total)
        if name != main and crumb:
            names[names == name] = main
    return names


def _by_place(points: Float, scene: Scene) -> str:
    """What a part of a leak is that lies in no labelled structure."""
    anatomy = scene.anatomy
    lengths, way = _shape(points, anatomy.grid)
    touches = float(_gap_mm(points, scene.anatomy.bone).min()) <= fact("wall_reach")
    if anatomy.site.kind != "vertebra":
        return _SOFT
    local = anatomy.axes.local(points).mean(axis=0)
    low, high = _body(scene)
    if local[1] > high[1]:
        straight = lengths[0] >= fact("track_ratio") * lengths[1]
        return _TRACK if straight and abs(way @ anatomy.axes.posterior) > 1 / 3 else _SOFT
    if lengths[0] >= fact("tube_ratio") * lengths[1]:
        return _VEIN
    if not touches:
        return _SOFT
    middle = (low + high) / 2
    half = (high - low) / 2
    aside, ahead = abs(local[0] - middle[0]) / half[0], (middle[1] - local[1]) / half[1]
    return "cortical anterior" if ahead > aside else "cortical lateral"


def _shape(points: Float, grid: Grid) -> tuple[Float, Float]:
    """Spread along the main axes, longest first, voxel size taken off; and the longest axis."""
    if len(points) < 4:
        return np.ones(3), np.array([0.0, 0.0, 1.0])
    centred = points - points.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred / len(points))
    least = (min(grid.spacing_mm) / 4) ** 2
    out: Float = np.sqrt(np.maximum(values[::-1], least))
    return out, axes[:, -1]


# --- kinds and distances -------------------------------------------------------------------------


def _kind(name: str, points: Float, gap: Float, scene: Scene) -> Kind:
    """Yeom's type: basivertebral, segmental, cortical or (added later) disc."""
    if name.startswith("disc"):
        return "D"
    if name in (_VEIN, _CAVA, "pulmonary"):
        return "S"
    if name.startswith("cortical"):
        return "C"
    if name in (_CANAL, _FORAMEN):
        if scene.lesion is not None and not scene.lesion.is_empty:
            near = float(_gap_mm(points, scene.lesion).min())
            if near <= fact("wall_reach"):
                return "C"
        aside = abs(float(scene.anatomy.axes.local(points)[:, 0].mean()))
        return "B" if name == _CANAL and aside <= fact("midline_band") else "S"
    if name == _SOFT and float(gap.min()) <= fact("wall_reach"):
        return "C"
    return "C" if name in (_JOINT, _FACET) else ""


def _gap_mm(points: Float, mask: Mask) -> Float:
    """From each point to the surface of a mask, negative inside; 0 or more outside its grid."""
    box = mask.grid.around(points, 2 * fact("disc_reach"))
    part = mask.crop(box)
    if part.is_empty:
        return np.full(len(points), np.inf)
    map_mm = field.signed_distance(part.values, part.grid.spacing_mm)
    index = part.grid.to_index(points)
    held = np.clip(index, 0, np.asarray(part.grid.shape) - 1)
    beyond = np.linalg.norm((index - held) * np.asarray(part.grid.spacing_mm), axis=1)
    out: Float = field.sample_linear(map_mm, held) + beyond
    return out


def _distances(points: Float, grid: Grid, anatomy: Anatomy) -> dict[str, float]:
    """From the leak's surface to what it may harm; what is too far to be measured is left out."""
    out = {}
    for name, mask in anatomy.structures.items():
        if not _at_risk(name):
            continue
        gap = float(_gap_mm(points, mask).min()) - min(grid.spacing_mm) / 2
        if np.isfinite(gap):
            out[name] = max(0.0, gap)
    return out


def _at_risk(name: str) -> bool:
    words = ("spinal_c", "foram", "nerve", "joint", "lung")
    return any(w in name for w in words) or bool(_vessel(name))
