"""Reads a CT around one bone into an Anatomy: the bone, its parts, and all a needle must avoid."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trocar.errors import InputError
from trocar.facts import anatomy as shape_facts
from trocar.facts import limits, tissue
from trocar.imaging import canal, classical, foreign, lungs, pelvis, shapes, skin
from trocar.imaging.calibration import calibrate
from trocar.imaging.vertebra import (
    Vertebra,
    body_mask,
    genant,
    heights_mm,
    neighbour_tangent,
    read_vertebra,
)
from trocar.model.case import Finding, Gravity, Site
from trocar.model.result import Anatomy, Axes, VertebraMeasures
from trocar.model.space import Float, Grid, Labels, Mask, Slices, Volume

Progress = Callable[[str, float], None]

_LEVEL = re.compile(r"^(?:vertebrae?_)?([CTL]\d{1,2})$", re.IGNORECASE)
_ORDER = {f"{letter}{n}": 100 * k + n for k, letter in enumerate("CTL") for n in range(1, 14)}
_JOINED = {  # labels that are parts of one structure
    "lung_upper_lobe": "lung",
    "lung_middle_lobe": "lung",
    "lung_lower_lobe": "lung",
    "kidney_cyst": "kidney",
    "hip_implant": "metal",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class _Parts:
    """What reading one kind of bone adds to the anatomy."""

    bone: Mask
    axes: Axes
    structures: Mapping[str, Mask] = field(default_factory=dict)
    regions: Mapping[str, Mask] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    vertebra: VertebraMeasures | None = None
    findings: tuple[Finding, ...] = ()


def read_anatomy(
    ct: Volume,
    site: Site,
    *,
    labels: Labels | None = None,
    click_mm: Float | None = None,
    lesion: Mask | None = None,
    kvp: float | None = None,
    progress: Progress | None = None,
) -> Anatomy:
    """Where is the bone to be treated, what are its parts, and what lies in a needle's way?

    ``labels`` carry TotalSegmentator names (any subset that holds the site's bone); without them
    the classical engine starts from one ``click_mm`` in the bone (LPS mm; for a vertebra in its
    body) or from the middle of ``lesion``. A given lesion is kept inside the bone's outline where
    labels leave it out. All masks share one grid: the CT's own voxels around the bone, out to the
    skin on the sides from which needles come. Raises :class:`InputError` when the site's bone is
    not labelled, or without labels and click.
    """
    tell = progress or (lambda step, done: None)
    tell("patient outline", 0.0)
    coarse = skin.find_body(ct)
    source = "given labels"
    findings: list[Finding] = []
    if labels is None:
        tell("bones from one click", 0.1)
        labels, seen = _outlined(ct, site, click_mm, lesion, coarse)
        source = "classical engine"
        findings += seen
    labels = _canonical(labels)
    ct.grid.require_frame(labels.grid, "the CT and its labels")
    wanted = _bone_label(labels, site)
    box = _working_box(ct.grid, coarse, labels.mask(wanted), site)
    view = ct.crop(box)
    local = labels.on(view.grid)
    findings += _cut_findings(ct.grid, labels.mask(wanted), str(site))
    tell("patient outline", 0.3)
    body = skin.body_on(view, coarse)
    metal = foreign.find_foreign(view, body)
    tell("structures", 0.4)
    named = _structures(local, wanted, metal)
    tell(f"{site}", 0.5)
    parts = _read_bone(view, site, local, wanted, lesion, named)
    tell("other bones", 0.8)
    structures = {**named, **parts.structures}
    structures["other_bone"] = _other_bone(view, body, parts.bone, metal, local, structures)
    if not metal.is_empty:
        structures["metal"] = metal
    bone = _without(parts.bone, metal.values)
    body = Mask(grid=body.grid, values=body.values | bone.values)
    findings += [*parts.findings, *_side_findings(local)]
    findings += foreign.foreign_findings(view, metal, bone=bone)
    findings += _open_side_findings(body)
    by_density: dict[str, Mask] = {}
    if lungs.beside(site) and not any(n.startswith("lung") for n in structures):
        by_density = lungs.find_lungs(view, body, parts.axes)
    structures = {n: m for n, m in (structures | by_density).items() if not m.is_empty}
    missing = _missing(site, structures, body, local)
    findings += _missing_findings(missing, str(site)) + _doubtful(parts.confidence)
    calibration = calibrate(view, kvp=kvp, body=body)
    if calibration.method == "none":
        findings.append(
            Finding(
                gravity=Gravity.NOTE,
                message="The density of this CT is not calibrated: neither rods nor air, fat and "
                "muscle were found to read it by.",
            )
        )
    tell("read", 1.0)
    return Anatomy(
        site=site,
        grid=view.grid,
        body=body,
        bone=bone,
        axes=parts.axes,
        structures=structures,
        regions={n: _within(m, bone) for n, m in parts.regions.items()},
        missing=missing,
        sources=dict.fromkeys(("bone", *structures), source)
        | dict.fromkeys(by_density, "read by density"),
        confidence=parts.confidence,
        vertebra=parts.vertebra,
        calibration=calibration,
        findings=tuple(findings),
    )


def _outlined(
    ct: Volume, site: Site, click_mm: Float | None, lesion: Mask | None, body: Mask
) -> tuple[Labels, tuple[Finding, ...]]:
    """The bone around the click, or around the middle of the lesion mask, saying which it was."""
    try:
        return classical.outline_bones(ct, site, _seed(click_mm, lesion), body)
    except InputError as error:
        if click_mm is not None:
            raise
        raise InputError(
            f"without labels the bone is sought from the middle of the lesion mask, and there: "
            f"{error}"
        ) from error


def _seed(click_mm: Float | None, lesion: Mask | None) -> Float:
    if click_mm is not None:
        return np.asarray(click_mm, dtype=np.float64)
    if lesion is not None and not lesion.is_empty:
        points = lesion.points_mm()
        # The voxel nearest to the middle: the middle of a curved lesion may lie outside it.
        nearest: Float = points[np.argmin(np.linalg.norm(points - lesion.centroid_mm, axis=1))]
        return nearest
    raise InputError(
        "there are neither labels nor a click; give a label map, or one point inside the bone"
    )


# --- Names -------------------------------------------------------------------------------------


def _canonical(labels: Labels) -> Labels:
    """The same labels with names in one spelling: lower case, ``vertebrae_L1``."""
    names = {}
    for number, name in labels.names.items():
        text = str(name).strip().lower().replace(" ", "_").replace("-", "_")
        level = _LEVEL.match(text)
        names[int(number)] = f"vertebrae_{level[1].upper()}" if level else text
    numbers = {name: number for number, name in names.items()}
    values = labels.values
    if "vertebrae_s1" in numbers and "sacrum" in numbers:  # S1 is carved out of the sacrum's label
        values = values.copy()
        values[values == numbers["vertebrae_s1"]] = numbers["sacrum"]
    return replace(labels, names=names, values=values)


def _bone_label(labels: Labels, site: Site) -> str:
    """The name of the treated bone's label; raises with the bones there are."""
    present = labels.present
    if site.bone_label in present:
        return site.bone_label
    bones = ", ".join(n for n in present if _is_bone(n)) or "none"
    raise InputError(
        f"the labels hold no {site.bone_label} for the site {site}; the bones they name: {bones}; "
        "choose one of these, or leave the labels out and give a click"
    )


def _is_bone(name: str) -> bool:
    return name.startswith(shape_facts.bones())


def _joined(name: str) -> str:
    for part, whole in _JOINED.items():
        if name.startswith(part):
            return whole + name[len(part) :]
    return name


def _level(name: str) -> str | None:
    found = _LEVEL.match(name)
    return found[1] if found else None


# --- Grid --------------------------------------------------------------------------------------


def _working_box(grid: Grid, coarse: Mask, bone: Mask, site: Site) -> Slices:
    """Index box around the bone that reaches the skin where needles come from.

    A needle tilted to the limit enters ``depth_limit * sin(tilt_limit)`` above or below the bone.
    """
    low, high = _extent(bone)
    reach = limits.value("depth_limit").mean
    across = shape_facts.value("reach_across").mean
    tilt = reach * np.sin(np.radians(limits.value("tilt_limit").mean))
    less = np.array([reach, across, tilt])
    more = np.array([reach, reach, tilt])
    if site.kind == "sacrum":
        less[2] = reach  # the long axis route comes from below
    if site.side:
        less[:], more[:] = reach, reach
        past = shape_facts.value("reach_past_midline").mean
        (less if site.side == "left" else more)[0] = past
    skin_low, skin_high = _extent(coarse)
    air = shape_facts.value("skin_air").mean + shape_facts.value("coarse_spacing").mean
    low = np.minimum(low, np.maximum(low - less, skin_low - air))
    high = np.maximum(high, np.minimum(high + more, skin_high + air))
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    return grid.around(low + corners * (high - low))


def _extent(mask: Mask) -> tuple[Float, Float]:
    box = shapes.box_of(mask.values)
    if box is None:
        raise InputError("nothing of the patient was found; is this a CT in Hounsfield units?")
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    start = np.array([s.start for s in box])
    stop = np.array([s.stop - 1 for s in box])
    points = mask.grid.to_world(start + corners * (stop - start))
    return points.min(axis=0), points.max(axis=0)


# --- Structures --------------------------------------------------------------------------------


def _structures(labels: Labels, wanted: str, metal: Mask) -> dict[str, Mask]:
    """Every labelled thing a needle must avoid, lobes joined, bones and muscles left aside."""
    numbers: dict[str, list[int]] = {}
    present = set(np.flatnonzero(np.bincount(labels.values.ravel())).tolist())
    for number, name in labels.names.items():
        if number not in present or number == 0 or name == wanted or _is_bone(name):
            continue
        if name.startswith(shape_facts.ignored()) or name == "spinal_cord":
            continue
        numbers.setdefault(_joined(name), []).append(number)
    return {
        name: Mask(grid=labels.grid, values=_isin(labels, many)) for name, many in numbers.items()
    }


def _isin(labels: Labels, numbers: list[int]) -> shapes.Bool:
    table = np.zeros(int(labels.values.max()) + 1, dtype=bool)
    table[[n for n in numbers if n < table.size]] = True
    out: shapes.Bool = table[labels.values]
    return out


def _named(labels: Labels, chosen: Callable[[str], bool]) -> Mask:
    numbers = [n for n, name in labels.names.items() if n != 0 and chosen(name)]
    return Mask(grid=labels.grid, values=_isin(labels, numbers))


def _other_bone(
    ct: Volume,
    body: Mask,
    bone: Mask,
    metal: Mask,
    labels: Labels,
    structures: Mapping[str, Mask],
) -> Mask:
    """Labelled bones that are not treated, and dense pieces no label explains."""
    given = _named(labels, _is_bone).values & ~bone.values
    free = body.values & (ct.values > tissue.value("hu_bone").mean)
    free &= ~shapes.near(bone, shape_facts.value("other_bone_gap").mean).values
    free &= (labels.values == 0) & ~metal.values
    for mask in structures.values():
        free &= ~mask.values
    pieces, sizes = _pieces(free)
    least = shape_facts.value("other_bone_ml").mean / ct.grid.voxel_ml
    big = np.flatnonzero(sizes >= least)
    table = np.zeros(len(sizes), dtype=bool)
    table[big[big > 0]] = True
    return Mask(grid=ct.grid, values=(given | table[pieces]) & ~metal.values)


def _pieces(values: shapes.Bool) -> tuple[Any, Any]:
    from scipy import ndimage

    pieces, _ = ndimage.label(values)
    return pieces, np.bincount(pieces.ravel())


def _without(mask: Mask, values: shapes.Bool) -> Mask:
    return Mask(grid=mask.grid, values=mask.values & ~values)


def _within(mask: Mask, bone: Mask) -> Mask:
    return Mask(grid=mask.grid, values=mask.values & bone.values)


# --- The treated bone --------------------------------------------------------------------------


def _outline(
    labels: Labels, wanted: str, lesion: Mask | None, keep_out: shapes.Bool, core: shapes.Bool
) -> Mask:
    """The treated bone filled: its label closed, with cavities and the given lesion's inner part.

    ``core`` (the vertebral body, else the whole bone) is closed more widely, because labels often
    leave a lytic lesion out; ``keep_out`` (canal, other bones) is never taken.
    """
    given = labels.mask(wanted)
    values = shapes.filled(shapes.closed(given, _mm("closing_radius")).values)
    core_mask = Mask(grid=given.grid, values=core)
    values |= shapes.closed(core_mask, _mm("closing_radius_body")).values
    if lesion is not None:
        inner = lesion.on(given.grid).values
        around = Mask(grid=given.grid, values=core | (inner & values))
        values |= inner & shapes.closed(around, _mm("lesion_closing_radius")).values
    return Mask(grid=given.grid, values=(values & ~keep_out) | given.values)


def _mm(name: str) -> float:
    return shape_facts.value(name).mean


def _read_bone(
    ct: Volume,
    site: Site,
    labels: Labels,
    wanted: str,
    lesion: Mask | None,
    named: Mapping[str, Mask],
) -> _Parts:
    if site.kind == "vertebra":
        return _read_spine(ct, labels, wanted, site.level, lesion, named)
    others = _named(labels, lambda n: _is_bone(n) and n != wanted)
    given = labels.mask(wanted).values
    bone = _outline(labels, wanted, lesion, others.values, np.zeros_like(given))

    def get(name: str) -> Mask:
        return _named(labels, lambda n: n == name)

    if site.kind == "sacrum":
        found = pelvis.read_sacrum(bone, get("hip_left"), get("hip_right"), get("spinal_cord"))
    elif site.kind == "femur":
        found = pelvis.read_femur(bone, get(f"hip_{site.side}"), site.side)
    elif site.kind == "humerus":
        found = pelvis.read_long_bone(bone)
    else:
        found = pelvis.read_hip(bone, get(f"femur_{site.side}"), get("sacrum"), site.side)
    return _Parts(
        bone=Mask(grid=bone.grid, values=bone.values & ~found.keep_out),
        axes=found.axes,
        structures={n: m for n, m in found.structures.items() if n not in named},
        regions=found.regions,
        confidence=found.confidence,
        findings=found.findings,
    )


def _read_spine(
    ct: Volume,
    labels: Labels,
    wanted: str,
    level: str,
    lesion: Mask | None,
    named: Mapping[str, Mask],
) -> _Parts:
    """The treated vertebra among its neighbours: canal, foramina, parts and heights."""
    cord = _named(labels, lambda n: n == "spinal_cord")
    column = _column(labels, cord)
    if level not in column:
        raise InputError(
            f"the label of {level} does not look like a vertebra with body and arch; check the "
            "labels, or leave them out and give a click in its body"
        )
    here = column[level]
    order = list(column)
    at = order.index(level)
    above = column[order[at - 1]] if at > 0 else None
    below = column[order[at + 1]] if at + 1 < len(order) else None
    vertebral = _named(labels, lambda n: _level(n) is not None or n == "sacrum")
    rings = canal.canal_rings(list(column.values()), vertebral)
    tube = canal.canal_mask(rings, labels.grid)
    others = _named(labels, lambda n: _is_bone(n) and n != wanted).values
    core = body_mask(here, labels.grid)
    bone = _outline(labels, wanted, lesion, tube & ~vertebral.values | others | cord.values, core)
    spinal_canal = Mask(
        grid=labels.grid, values=(tube | cord.values) & ~vertebral.values & ~bone.values
    )
    if "spinal_canal" in named:
        given = named["spinal_canal"].values
        spinal_canal = Mask(grid=labels.grid, values=given | (cord.values & ~bone.values))
    whole = replace(here, mask=bone)
    free = ~(bone.values | others | spinal_canal.values)
    structures = {"spinal_canal": spinal_canal}
    for side in ("left", "right"):
        hulls = canal.foramen_hulls(side, above, here, below)
        if hulls and f"foramen_{side}" not in named:
            space = np.logical_or.reduce([canal.hull_mask(h, labels.grid) for h in hulls])
            structures[f"foramen_{side}"] = Mask(grid=labels.grid, values=space & free)
    return _Parts(
        bone=bone,
        axes=here.axes,
        structures=structures,
        regions=_vertebra_regions(whole, labels.grid),
        confidence=_spine_confidence(here, rings, spinal_canal, above, below),
        vertebra=_measures(ct, here, above, below),
        findings=(*_order_findings(labels), *_measure_findings(here, level)),
    )


def _column(labels: Labels, cord: Mask) -> dict[str, Vertebra]:
    """Every vertebra of the label map that can be read, from head to foot."""
    masks = {
        lv: labels.mask(n) for n in labels.present if (lv := _level(n)) is not None and lv in _ORDER
    }
    order = sorted(masks, key=lambda lv: _ORDER[lv])
    centres = [masks[lv].centroid_mm for lv in order]
    column = {}
    for k, lv in enumerate(order):
        box = masks[lv].box(60.0)
        part = masks[lv].crop(masks[lv].box(5.0))
        found = read_vertebra(part, neighbour_tangent(centres, k), cord.crop(box))
        if found is not None:
            column[lv] = found
    return column


def _vertebra_regions(vertebra: Vertebra, grid: Grid) -> dict[str, Mask]:
    """Body, pedicles and arch (which share no voxel), and the front third of the body."""
    bone = vertebra.mask.values
    body = body_mask(vertebra, grid)
    regions = {"vertebral_body": Mask(grid=grid, values=body)}
    box = shapes.box_of(bone)
    assert box is not None
    points = grid.crop(box).to_world(np.moveaxis(np.indices(grid.crop(box).shape), 0, -1))
    local = vertebra.local(points)
    arch = bone & ~body
    for isthmus in vertebra.isthmuses:
        pedicle = np.zeros(grid.shape, dtype=bool)
        pedicle[box] = _around_isthmus(vertebra, isthmus, local)
        regions[f"pedicle_{isthmus.side}"] = Mask(grid=grid, values=pedicle & bone & ~body)
        arch &= ~pedicle
    regions["arch"] = Mask(grid=grid, values=arch)
    inside = local[body[box]]
    third = np.zeros(grid.shape, dtype=bool)
    if len(inside):
        front, back = np.percentile(inside[:, 1], [1, 99])
        third[box] = local[..., 1] <= front + (back - front) / 3
    regions["anterior_third"] = Mask(grid=grid, values=third & body)
    return regions


def _around_isthmus(vertebra: Vertebra, isthmus: Any, local: Float) -> shapes.Bool:
    """The stretch of bone about the isthmus: as long either way as the pedicle is wide."""
    away = local - vertebra.local(isthmus.centre_mm)
    way = vertebra.axes.local(vertebra.axes.origin_mm + isthmus.direction)[::-1]
    along = away @ way
    across = np.cross([1.0, 0.0, 0.0], way)
    across /= np.linalg.norm(across)
    up = np.cross(way, across)
    # Half as much again as measured: the pedicle widens towards both its ends.
    inside = np.abs(away @ across) <= 0.75 * isthmus.width_mm
    inside &= np.abs(away @ up) <= 0.75 * isthmus.height_mm
    reach = max(isthmus.width_mm, vertebra.canal[0] - vertebra.back) / 2
    out: shapes.Bool = inside & (along >= -reach)
    return out


def _measures(
    ct: Volume, here: Vertebra, above: Vertebra | None, below: Vertebra | None
) -> VertebraMeasures:
    """Heights and Genant grade; neighbours cut by the image edge are no yardstick."""
    heights = heights_mm(here, ct)
    whole = [v for v in (above, below) if v is not None and not _cut(v)]
    posterior = [heights_mm(v, ct)[2] for v in whole]
    return replace(genant(*heights, posterior), isthmuses=here.isthmuses)


def _cut(vertebra: Vertebra) -> bool:
    """Whether the mask touches the edge of its grid, that is, of the image."""
    values = vertebra.mask.values
    faces = [np.take(values, end, axis=a).any() for a in range(3) for end in (0, -1)]
    return bool(np.any(faces))


def _spine_confidence(
    here: Vertebra,
    rings: tuple[canal.Ring, ...],
    spinal_canal: Mask,
    above: Vertebra | None,
    below: Vertebra | None,
) -> dict[str, float]:
    """How far each reading rests on bone that was seen, 0 to 1.

    Canal: share of the wall seen in the best cut at this level. Foramina: the share of the two
    neighbouring pedicles that was found.
    """
    near = [r.seen for r in rings if abs(here.local(r.axes.origin_mm)[0]) < here.height_mm / 2]
    out = {"spinal_canal": max(near, default=0.0) if here.closed else max(near, default=0.0) / 2}
    for side in ("left", "right"):
        seen = [any(i.side == side for i in v.isthmuses) for v in (above, here, below) if v]
        out[f"foramen_{side}"] = sum(seen) / 3
        out[f"pedicle_{side}"] = 1.0 if any(i.side == side for i in here.isthmuses) else 0.0
    return out


# --- Findings ----------------------------------------------------------------------------------


def _order_findings(labels: Labels) -> tuple[Finding, ...]:
    """Vertebrae whose labels do not follow one another from head to foot, or miss one between."""
    masks = {lv: labels.mask(n) for n in labels.present if (lv := _level(n)) and lv in _ORDER}
    order = sorted(masks, key=lambda lv: _ORDER[lv])
    heights = [float(masks[lv].centroid_mm[2]) for lv in order]
    found = []
    for (upper, a), (lower, b) in zip(
        zip(order, heights, strict=True), list(zip(order, heights, strict=True))[1:], strict=False
    ):
        if a <= b:
            found.append(
                Finding(
                    gravity=Gravity.STOP,
                    message="The labels {upper} and {lower} stand in the wrong order along the "
                    "spine; the level may be wrong. Count the vertebrae before planning.",
                    values={"upper": upper, "lower": lower},
                )
            )
    return tuple(found)


def _side_findings(labels: Labels) -> tuple[Finding, ...]:
    """Pairs of bones whose left one does not lie on the patient's left."""
    found = []
    for bone in ("hip", "femur"):
        left = _named(labels, lambda n, b=bone: n == f"{b}_left")  # type: ignore[misc]
        right = _named(labels, lambda n, b=bone: n == f"{b}_right")  # type: ignore[misc]
        if left.is_empty or right.is_empty or left.centroid_mm[0] > right.centroid_mm[0]:
            continue
        found.append(
            Finding(
                gravity=Gravity.STOP,
                message="The labels of the left and right {bone} are swapped, or the image is "
                "mirrored; the side to be treated may be wrong.",
                values={"bone": bone},
            )
        )
    return tuple(found)


def _measure_findings(here: Vertebra, level: str) -> tuple[Finding, ...]:
    found = []
    if _cut(here):
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="{level} is cut by the edge of the image: its heights and Genant grade do "
                "not hold.",
                values={"level": level},
            )
        )
    for side in ("left", "right"):
        if not any(i.side == side for i in here.isthmuses):
            found.append(
                Finding(
                    gravity=Gravity.CAUTION,
                    message="The {side} pedicle of {level} was not found; it may be destroyed.",
                    values={"side": side, "level": level},
                )
            )
    if not here.closed:
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The bony ring around the spinal canal of {level} is not closed on this "
                "reading; the canal was placed by the cord and the neighbours.",
                values={"level": level},
            )
        )
    return tuple(found)


def _cut_findings(grid: Grid, bone: Mask, site: str) -> list[Finding]:
    on_ct = bone.on(grid).values
    faces = [np.take(on_ct, end, axis=a).any() for a in range(3) for end in (0, -1)]
    if not any(faces):
        return []
    return [
        Finding(
            gravity=Gravity.CAUTION,
            message="The {site} is cut off by the edge of the image; what lies beyond is unknown.",
            values={"site": site},
        )
    ]


def _open_side_findings(body: Mask) -> list[Finding]:
    sides = skin.open_sides(body)
    if not sides:
        return []
    return [
        Finding(
            gravity=Gravity.CAUTION,
            message="The image ends inside the patient ({sides}): no skin is seen there and no "
            "needle can be planned from there.",
            values={"sides": ", ".join(sides)},
        )
    ]


def _missing(
    site: Site, structures: Mapping[str, Mask], body: Mask, labels: Labels
) -> tuple[str, ...]:
    """Structures that matter at this site and were not found in the image."""
    kind = site.kind if site.kind != "vertebra" else _stretch(site.level)
    wanted = [name.format(side=site.side) for name in shape_facts.at_risk(kind)]
    if site.kind == "vertebra" and site.level in ("T11", "T12"):
        wanted.append("inferior_vena_cava")
    return tuple(dict.fromkeys(n for n in wanted if not _found(n, structures)))


def _found(name: str, structures: Mapping[str, Mask]) -> bool:
    """Whether a structure is there by its own name or as its parts (artery and vein of vessels)."""
    if name in structures:
        return True
    stem, _, side = name.rpartition("_")
    if stem.endswith("_vessels"):
        what = stem.removesuffix("_vessels")
        return all(
            any(n in structures for n in (f"{what}_{kind}_{side}" for kind in kinds))
            for kinds in (("artery",), ("vein", "vena"))
        )
    return False


def _stretch(level: str) -> str:
    if level.startswith("C"):
        return "cervical"
    if level.startswith("T"):
        return "thoracic"
    return "lumbar_low" if level in ("L5", "L6") else "lumbar"


def _missing_findings(missing: tuple[str, ...], site: str) -> list[Finding]:
    if not missing:
        return []
    return [
        Finding(
            gravity=Gravity.CAUTION,
            message="Not found in this reading although they matter at {site}: {names}. Their "
            "place is unknown, not safe; check them on the images.",
            values={"site": site, "names": ", ".join(n.replace("_", " ") for n in missing)},
        )
    ]


def _doubtful(confidence: Mapping[str, float]) -> list[Finding]:
    limit = shape_facts.value("low_confidence").mean
    weak = {n: c for n, c in confidence.items() if c < limit}
    return [
        Finding(
            gravity=Gravity.CAUTION,
            message="The reading of the {name} is uncertain (confidence {confidence:.0%}); compare "
            "it with the images before relying on a distance to it.",
            values={"name": name.replace("_", " "), "confidence": value},
        )
        for name, value in weak.items()
    ]
