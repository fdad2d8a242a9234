"""Which compartment a point outside the treated bone lies in, and what a leak there may harm.

Read from an anatomy alone, so that a simulated leak and one found on a CT get the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts.source import load
from trocar.kernels import field
from trocar.model.result import Anatomy
from trocar.model.space import Float, Grid, Mask, Segment

Bool = NDArray[np.bool_]
Kind = Literal["B", "S", "C", "D", ""]

CANAL, FORAMEN, JOINT, FACET = "epidural or canal", "foraminal", "intra-articular", "facet"
CAVA, VEIN = "vena cava or azygos vein", "segmental or paravertebral vein"
TRACK, SOFT, OTHER = "needle track", "soft tissue", "other"
ALARMS = (CANAL, FORAMEN, JOINT)
_STEP_MM = 1.0  # of the rays that look for end plates


def fact(name: str) -> float:
    """One number of ``cement_ct.toml`` by its name."""
    return float(load("cement_ct")[name])


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
class Surroundings:
    """What is needed to say where a point lies: the anatomy, needles, lesion."""

    anatomy: Anatomy
    tracks: tuple[NeedleTrack, ...] = ()
    lesion: Mask | None = None


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


def labelled(points: Float, around: Surroundings) -> NDArray[np.object_]:
    """Compartments by label, in the order canal, foramen, joint, vessel, disc, track; else ''."""
    names = np.full(len(points), "", dtype=object)

    def take(where: Bool, name: str) -> None:
        names[where & (names == "")] = name

    structures = around.anatomy.structures
    for wanted, name in (
        (("spinal_canal", "spinal_cord"), CANAL),
        (("foramen", "sacral_foramina", "nerve_root"), FORAMEN),
    ):
        for key, mask in structures.items():
            if key.startswith(wanted):
                take(mask.holds(points), name)
    for key, mask in structures.items():
        if "joint" in key:
            take(mask.holds(points), FACET if "facet" in key else JOINT)
    if around.anatomy.site.kind == "vertebra":
        take(_in_facet(points, around), FACET)
    for key, mask in structures.items():
        name = _vessel(key)
        if name:
            take(mask.holds(points), name)
    for key, mask in structures.items():
        if "disc" in key:
            take(mask.holds(points), _disc_side(points, around))
    if around.anatomy.site.kind == "vertebra":
        for name, where in _discs(points, around).items():
            take(where, name)
    for track in around.tracks:
        near = track.path.distance_mm(points) <= track.diameter_mm / 2 + fact("track_extra")
        take(near, TRACK)
    for key, mask in structures.items():
        if key.startswith(("lung", "pleura")):
            take(mask.holds(points), "pleural")
    return names


def _vessel(key: str) -> str:
    if key.startswith(("inferior_vena_cava", "superior_vena_cava", "azygos")):
        return CAVA
    if key.startswith("pulmonary"):
        return "pulmonary"
    if "vena" in key or "vein" in key:
        return VEIN
    return OTHER if "artery" in key or "vessels" in key or key == "aorta" else ""


def _disc_side(points: Float, around: Surroundings) -> str:
    height = float(around.anatomy.axes.local(points)[:, 2].mean())
    return "disc superior" if height > 0 else "disc inferior"


def _in_facet(points: Float, around: Surroundings) -> Bool:
    """Between the treated vertebra's arch and a neighbour's, behind the body."""
    other = around.anatomy.structures.get("other_bone")
    if other is None:
        return np.zeros(len(points), dtype=bool)
    behind = around.anatomy.axes.local(points)[:, 1] > _body(around)[1, 1]
    reach = fact("wall_reach")
    near = (gap_mm(points, around.anatomy.bone) <= reach) & (gap_mm(points, other) <= reach)
    out: Bool = behind & near
    return out


def _body(around: Surroundings) -> Float:
    """Lowest and highest local (left, posterior, superior) of the vertebral body, (2, 3)."""
    body = around.anatomy.regions.get("vertebral_body", around.anatomy.bone)
    local = around.anatomy.axes.local(body.points_mm())
    out: Float = np.percentile(local, [1, 99], axis=0)
    return out


def _discs(points: Float, around: Surroundings) -> dict[str, Bool]:
    """Points with the treated body on one side along its axis and another bone on the other."""
    body = around.anatomy.regions.get("vertebral_body")
    if body is None:
        return {}
    other = around.anatomy.structures.get("other_bone")
    up = around.anatomy.axes.superior
    reach = fact("disc_reach")
    column = _along_the_axis(points, body, around, reach)
    out = {}
    for name, sign in (("disc superior", 1.0), ("disc inferior", -1.0)):
        own = np.full(len(points), np.inf)
        own[column] = _first_hit(points[column], -sign * up, reach, body)
        near = np.flatnonzero(np.isfinite(own))
        next_one = np.full(len(near), np.inf)
        if other is not None:
            next_one = _first_hit(points[near], sign * up, reach, other)
        # Without the neighbour in the image half a disc above the body's own plate is disc.
        alone = other is None or not np.isfinite(next_one).any()
        between = np.isfinite(next_one) if not alone else own[near] <= reach / 2
        out[name] = np.zeros(len(points), bool)
        out[name][near] = between
    return out


def _along_the_axis(
    points: Float, body: Mask, around: Surroundings, reach_mm: float
) -> NDArray[np.int64]:
    """The points from which a way along the bone's axis can meet its body at all."""
    axes, voxel = around.anatomy.axes, max(body.grid.spacing_mm)
    own = axes.local(body.points_mm())
    low, high = own.min(axis=0) - voxel, own.max(axis=0) + voxel
    low[2], high[2] = low[2] - reach_mm, high[2] + reach_mm
    local = axes.local(points)
    return np.flatnonzero(np.all((local >= low) & (local <= high), axis=1))


def _first_hit(points: Float, way: Float, reach_mm: float, mask: Mask) -> Float:
    """How far along ``way`` each point first meets the mask; inf if not within reach."""
    out = np.full(len(points), np.inf)
    rest = np.arange(len(points))
    for t in np.arange(0.0, reach_mm + _STEP_MM, _STEP_MM):
        hit = mask.holds(points[rest] + t * way)
        out[rest[hit]] = t
        rest = rest[~hit]
    return out


def by_place(points: Float, around: Surroundings) -> str:
    """What a part of a leak is that lies in no labelled structure."""
    anatomy = around.anatomy
    lengths, way = _shape(points, anatomy.grid)
    touches = float(gap_mm(points, around.anatomy.bone).min()) <= fact("wall_reach")
    if anatomy.site.kind != "vertebra":
        return SOFT
    local = anatomy.axes.local(points).mean(axis=0)
    low, high = _body(around)
    if local[1] > high[1]:
        straight = lengths[0] >= fact("track_ratio") * lengths[1]
        return TRACK if straight and abs(way @ anatomy.axes.posterior) > 1 / 3 else SOFT
    if lengths[0] >= fact("tube_ratio") * lengths[1]:
        return VEIN
    if not touches:
        return SOFT
    middle = (low + high) / 2
    half = (high - low) / 2
    aside, ahead = abs(local[0] - middle[0]) / half[0], (middle[1] - local[1]) / half[1]
    return "cortical anterior" if ahead > aside else "cortical lateral"


def by_side(points: Float, around: Surroundings) -> NDArray[np.object_]:
    """For single points in no labelled structure: the wall of a vertebral body they lie before.

    Between a body and the canal behind it is the epidural space; elsewhere behind a body, and
    around any other bone, that is soft tissue.
    """
    names = np.full(len(points), SOFT, dtype=object)
    if around.anatomy.site.kind != "vertebra" or len(points) == 0:
        return names
    local = around.anatomy.axes.local(points)
    low, high = _body(around)
    middle, half = (low + high) / 2, (high - low) / 2
    aside = np.abs(local[:, 0] - middle[0]) / half[0]
    ahead = (middle[1] - local[:, 1]) / half[1]
    beside = local[:, 1] <= high[1]
    names[beside & (ahead > aside)] = "cortical anterior"
    names[beside & (ahead <= aside)] = "cortical lateral"
    canal = around.anatomy.structures.get("spinal_canal")
    if canal is not None and not canal.is_empty:
        far = around.anatomy.axes.local(canal.points_mm())
        first, last = np.percentile(far, [1, 99], axis=0)
        in_front = (local[:, 1] > middle[1]) & (local[:, 1] < last[1])
        within = (local[:, 0] >= first[0]) & (local[:, 0] <= last[0])
        names[in_front & within] = CANAL
    return names


def _shape(points: Float, grid: Grid) -> tuple[Float, Float]:
    """Spread along the main axes, longest first, voxel size taken off; and the longest axis."""
    if len(points) < 4:
        return np.ones(3), np.array([0.0, 0.0, 1.0])
    centred = points - points.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred / len(points))
    least = (min(grid.spacing_mm) / 4) ** 2
    out: Float = np.sqrt(np.maximum(values[::-1], least))
    return out, axes[:, -1]


def kind_of_leak(name: str, points: Float, gap: Float, around: Surroundings) -> Kind:
    """Yeom's type: basivertebral, segmental, cortical or (added later) disc."""
    if name.startswith("disc"):
        return "D"
    if name in (VEIN, CAVA, "pulmonary"):
        return "S"
    if name.startswith("cortical"):
        return "C"
    if name in (CANAL, FORAMEN):
        if around.lesion is not None and not around.lesion.is_empty:
            near = float(gap_mm(points, around.lesion).min())
            if near <= fact("wall_reach"):
                return "C"
        aside = abs(float(around.anatomy.axes.local(points)[:, 0].mean()))
        return "B" if name == CANAL and aside <= fact("midline_band") else "S"
    if name == SOFT and float(gap.min()) <= fact("wall_reach"):
        return "C"
    return "C" if name in (JOINT, FACET) else ""


def gap_mm(points: Float, mask: Mask) -> Float:
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


def distances_at_risk(points: Float, grid: Grid, anatomy: Anatomy) -> dict[str, float]:
    """From the leak's surface to what it may harm; what is too far to be measured is left out."""
    out = {}
    for name, mask in anatomy.structures.items():
        if not _at_risk(name):
            continue
        gap = float(gap_mm(points, mask).min()) - min(grid.spacing_mm) / 2
        if np.isfinite(gap):
            out[name] = max(0.0, gap)
    return out


def _at_risk(name: str) -> bool:
    words = ("spinal_c", "foram", "nerve", "joint", "lung")
    return any(w in name for w in words) or bool(_vessel(name))
