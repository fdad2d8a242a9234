"""How a load case grips a bone: which nodes are held, which are pushed, and with what.

Components are along the cubes' slices, rows and columns (up, back, left), as in the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import strength as facts
from trocar.facts.strength import LoadCase
from trocar.kernels import elastic
from trocar.kernels.field import distance_to
from trocar.model.result import Anatomy
from trocar.model.space import Float
from trocar.simulation.bone_model import Bone

Bool = NDArray[np.bool_]
N_MM = 1000.0  # in one N m

END_PLATE = "upper end plate"


@dataclass(frozen=True, eq=False, kw_only=True)
class Grip:
    """What is added to the bone, what of it is held, and what is pushed.

    ``cap`` are the test plates of a vertebra. ``held`` is [3, ...] of nodes. With ``platen`` nodes
    a stiff plate lies on them and moves up and down and nods; else ``force_n`` bears on nodes and
    ``pushed`` says where and which way (z, y, x) the first force goes. ``aside`` is bone too near
    to be asked.
    """

    cap: Bool
    held: Bool
    aside: Bool
    platen: Bool | None = None
    force_n: Float | None = None
    pushed: tuple[Bool, Float] | None = None


def grip(case: LoadCase, bone: Bone, anatomy: Anatomy, weight_kg: float | None) -> Grip:
    """Lay a load case on a bone. Raises InputError when what it grips is not in the image."""
    if case.fixed == "lower end plate":
        _require_plain(case)
        return _between_plates(bone, anatomy)
    fixed = _surface(case.fixed, bone, anatomy, np.zeros(3))
    nodes = elastic.nodes_of(bone.bone)
    held = elastic.hold(elastic.nodes_of(fixed) & nodes)
    total = np.zeros((3, *nodes.shape))
    touched, pushed = fixed.copy(), None
    for force in case.forces:
        way = _components(force.direction(bone.site.side), case, bone)
        where = _surface(force.on, bone, anatomy, way)
        patch = elastic.nodes_of(where) & nodes
        total += force.newton(weight_kg) / np.count_nonzero(patch) * way.reshape(3, 1, 1, 1) * patch
        touched |= where
        pushed = pushed or (patch, way)
    for moment in case.moments:
        way = _components(moment.about, case, bone)
        where = _surface(moment.on, bone, anatomy, np.array([-1.0, 0.0, 0.0]))
        total += _twist(elastic.nodes_of(where) & nodes, way, N_MM * float(moment.size_nm), bone)
        touched |= where
    if bool((total[held] != 0).any()):
        raise InputError(
            f"{case.label}: what bears the load and what is held overlap on this bone; its parts "
            "are too near each other, or too little of the bone is in the image"
        )
    aside = distance_to(touched, bone.grid.spacing_mm) <= float(facts.value("aside"))
    return Grip(cap=np.zeros_like(bone.bone), held=held, aside=aside, force_n=total, pushed=pushed)


def _require_plain(case: LoadCase) -> None:
    """Two plates press and bend forward or backward; nothing else."""
    pressed = all(
        f.on == END_PLATE and not (f.up or f.lateral_deg or f.posterior_deg) for f in case.forces
    )
    bent = all(m.on == END_PLATE and not any(m.about[1:]) for m in case.moments)
    if not (case.forces and pressed and bent):
        raise InputError(
            f"the load {case.name!r} cannot be laid on a vertebra between plates: they press "
            "straight down on the upper end plate and bend about the left-right axis"
        )


def _components(way_lps: tuple[float, float, float], case: LoadCase, bone: Bone) -> Float:
    """A direction along slices, rows and columns: of the bone's own axes, or of the patient's."""
    x, y, z = way_lps
    if case.frame == "bone":  # its own left, back and up are the grid's
        return np.array([z, y, x])
    out: Float = bone.grid.axes.T @ np.array([x, y, z])
    return out


def _between_plates(bone: Bone, anatomy: Anatomy) -> Grip:
    """A vertebra's body between two plates that fill the hollows of its end plates."""
    region = anatomy.regions.get("vertebral_body")
    if region is None or region.is_empty:
        raise InputError("the vertebra's body was not told from its arch; give labels of it")
    body = region.on(bone.grid).values & bone.bone
    thick = max(1, round(float(facts.value("cap_thickness")) / bone.grid.spacing_mm[0]))
    slices = np.flatnonzero(body.any(axis=(1, 2)))
    bottom, top = max(0, slices[0] - thick), min(body.shape[0] - 1, slices[-1] + thick)
    at = np.arange(body.shape[0])[:, None, None]
    column = body.any(axis=0)
    first = np.where(column, body.argmax(axis=0), -1)
    last = np.where(column, body.shape[0] - 1 - body[::-1].argmax(axis=0), -1)
    above, below = (at > last) & (at <= top), (at < first) & (at >= bottom)
    cap = (above | below) & column & ~bone.bone
    ends = np.zeros(bone.grid.shape, bool)
    ends[top], ends[bottom] = (cap | body)[top], (cap | body)[bottom]
    upper = np.zeros([n + 1 for n in bone.grid.shape], bool)
    upper[top + 1] = elastic.nodes_of(ends)[top + 1]
    lower = np.zeros_like(upper)
    lower[bottom] = elastic.nodes_of(ends)[bottom]
    return Grip(
        cap=cap,
        held=elastic.hold(lower) | elastic.hold(upper, (0,)),
        aside=np.zeros_like(bone.bone),
        platen=upper,
    )


def _surface(name: str, bone: Bone, anatomy: Anatomy, way: Float) -> Bool:
    """Cubes of a surface by its name in the load case; ``way`` is where the force goes."""
    grid, side = bone.grid, bone.site.side
    if name in ("distal end", "humeral head") or name == END_PLATE:
        return _end(bone, anatomy, name)
    if name in ("femoral head", "acetabular cup"):
        return _ball(name, bone, anatomy, way)
    if name == "greater trochanter":
        part = _region("trochanteric", bone, anatomy)
        # What of it lies highest along up and out together.
        out = 1.0 if side == "left" else -1.0
        index = np.argwhere(part)
        far = (index * grid.spacing_mm) @ np.array([1.0, 0.0, out])
        chosen = np.zeros_like(part)
        least = np.quantile(far, 1.0 - float(facts.value("trochanter_share")))
        chosen[tuple(index[far >= least].T)] = True
        return _skin(chosen, bone)
    if name == "sacroiliac joint":
        names = [f"sacroiliac_joint_{s}" for s in ((side,) if side else ("left", "right"))]
        found = [_joint(n, bone, anatomy) for n in names]
        out_of: Bool = np.any(found, axis=0)
        return out_of
    raise InputError(f"no surface {name!r} of a bone is known")


def _end(bone: Bone, anatomy: Anatomy, name: str) -> Bool:
    """One end of the bone along its own long axis (of the sacrum: of its middle)."""
    points = bone.grid.to_world(np.argwhere(bone.bone))
    local = anatomy.axes.local(points)
    up = local[:, 2]
    length = float(facts.value("end_length"))
    if name == END_PLATE:
        body = _region("sacral_body", bone, anatomy)[bone.bone]
        chosen = body & (up >= up[body].max() - length)
    elif name == "distal end":
        chosen = up <= up.min() + length
    else:
        chosen = up >= up.max() - length
    out = np.zeros_like(bone.bone)
    out[bone.bone] = chosen
    return out


def _ball(name: str, bone: Bone, anatomy: Anatomy, way: Float) -> Bool:
    """The part of a joint's ball or socket that bears a force."""
    joint = f"hip_joint_{bone.site.side}"
    if name == "femoral head":
        skin, sense = _skin(_region("head", bone, anatomy), bone), -1.0
    else:
        skin = _joint(joint, bone, anatomy)
        sense = 1.0  # the head pushes the cup the way the force goes
    index = np.argwhere(skin)
    # The ball's centre is where a hip bone's and a femur's own axes begin.
    out = (index - bone.grid.to_index(anatomy.axes.origin_mm)) * bone.grid.spacing_mm
    cosine = sense * (out @ way) / np.maximum(np.linalg.norm(out, axis=1), 1e-9)
    chosen = cosine >= np.cos(np.radians(float(facts.value("patch_half_angle"))))
    if not chosen.any():
        raise InputError(f"the part of the {name} that bears this load is not in the image")
    at = np.zeros_like(bone.bone)
    at[tuple(index[chosen].T)] = True
    return at


def _region(name: str, bone: Bone, anatomy: Anatomy) -> Bool:
    region = anatomy.regions.get(name)
    at = None if region is None else region.on(bone.grid).values & bone.bone
    if at is None or not at.any():
        raise InputError(
            f"the {name.replace('_', ' ')} of the {bone.site} was not identified in this image, "
            "so this load cannot be laid on it; give an image or labels that show it"
        )
    return at


def _joint(name: str, bone: Bone, anatomy: Anatomy) -> Bool:
    """Bone beside a joint's space."""
    space = anatomy.structures.get(name)
    at = None if space is None else space.on(bone.grid).values
    if at is not None and at.any():
        near = distance_to(at, bone.grid.spacing_mm) <= float(facts.value("joint_depth"))
        touching: Bool = near & bone.bone
        if touching.any():
            return touching
    raise InputError(
        f"the {name.replace('_', ' ')} was not identified in this image, so the bone has nothing "
        "to rest on; give an image or labels that show both bones of the joint"
    )


def _skin(part: Bool, bone: Bone) -> Bool:
    """The outermost cubes of a part that face what is not bone."""
    out: Bool = part & (
        distance_to(~bone.bone, bone.grid.spacing_mm) < 1.5 * bone.grid.spacing_mm[0]
    )
    return out if out.any() else part


def _twist(nodes: Bool, about: Float, moment_n_mm: float, bone: Bone) -> Float:
    """Forces on nodes that add up to a moment and to nothing else (z, y, x components)."""
    index = np.argwhere(nodes)
    r = ((index - index.mean(axis=0)) * bone.grid.spacing_mm)[:, ::-1]  # left, back, up
    turned = (r**2).sum() * np.eye(3) - r.T @ r
    way = about[::-1] / np.linalg.norm(about)
    if np.linalg.matrix_rank(turned) < 3:
        raise InputError("the surface is too small to be twisted; choose a smaller voxel_mm")
    force = np.cross(np.linalg.solve(turned, moment_n_mm * way), r)
    out = np.zeros((3, *nodes.shape))
    for c in range(3):
        out[c][nodes] = force[:, 2 - c]
    return out
