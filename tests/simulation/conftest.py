"""A bone that is a box with a hollow in it: where cement goes can be read off the drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from trocar.facts.cement import cement
from trocar.facts.products import needle
from trocar.model.case import Lesion, Site, WallDefect
from trocar.model.plan import CementNeedle, CementPlan
from trocar.model.result import Anatomy, Axes
from trocar.model.space import Grid, Mask, Segment, Volume

SIDE = 14.0  # half the bone's width, mm
WALLS = {
    "left": (0, 1.0),
    "right": (0, -1.0),
    "posterior": (1, 1.0),
    "anterior": (1, -1.0),
    "superior": (2, 1.0),
    "inferior": (2, -1.0),
}

BoxBone = tuple[Volume, Anatomy, Lesion]


def box_bone(
    site: str = "femur left",
    *,
    hole: Sequence[str] = (),
    hollow_mm: float = 7.0,
    without: Sequence[str] = (),
    spongy_hu: float = 150.0,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    turn: Any = None,
) -> BoxBone:
    """A cube of spongy bone in soft tissue; a hollow in its middle reaches to every wall with a
    hole. Behind it lies a canal, above and below a neighbour."""
    half = 34.0
    shape = [round(2 * half / s) for s in spacing_mm]
    first = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    grid = Grid.from_spacing(shape, spacing_mm, (first[2], first[1], first[0]))
    p = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    if turn is not None:
        p = p @ np.asarray(turn)
    bone = (np.abs(p) < SIDE).all(axis=-1)
    hollow = np.linalg.norm(p, axis=-1) < hollow_mm
    defects = []
    for name in hole:
        axis, sign = WALLS[name]
        centre = np.zeros(3)
        centre[axis] = sign * SIDE
        across = np.linalg.norm(np.delete(p, axis, axis=-1), axis=-1)
        along = sign * p[..., axis]
        hollow |= (across < 4.0) & (along > 0) & (along < SIDE)
        if turn is not None:
            centre = np.asarray(turn) @ centre
        defects.append(WallDefect(wall=f"{name} wall", area_mm2=28.0, centre_mm=centre))
    hu = np.where(bone, spongy_hu, 40.0)
    hu[hollow] = 30.0
    structures = {
        "spinal_canal": (np.abs(p[..., 0]) < 10) & (p[..., 1] > SIDE + 2) & (p[..., 1] < SIDE + 14),
        "other_bone": (np.abs(p[..., :2]) < SIDE).all(axis=-1) & (np.abs(p[..., 2]) > SIDE + 6),
    }
    if not site.startswith("L"):
        structures = {}
    masks = {k: Mask(grid=grid, values=v) for k, v in structures.items() if k not in without}
    bone_mask = Mask(grid=grid, values=bone)
    way = np.eye(3) if turn is None else np.asarray(turn)
    anatomy = Anatomy(
        site=Site.parse(site),
        grid=grid,
        body=Mask(grid=grid, values=np.ones(grid.shape, bool)),
        bone=bone_mask,
        axes=Axes(origin_mm=np.zeros(3), left=way[:, 0], posterior=way[:, 1], superior=way[:, 2]),
        structures=masks,
        regions={"vertebral_body": bone_mask} if site.startswith("L") else {},
    )
    mask = Mask(grid=grid, values=hollow & bone)
    lesion = Lesion(
        lesion_id="1",
        site=anatomy.site,
        mask=mask,
        kind="lytic",
        volume_ml=mask.volume_ml,
        diameters_mm=(14.0, 14.0, 14.0),
        mean_hu=30.0,
        bone_fraction=0.1,
        mirels_fraction=0.1,
        soft_tissue_ml=0.0,
        defects=tuple(defects),
    )
    return Volume(grid=grid, values=hu.astype(np.int16)), anatomy, lesion


def plan_for(site: str = "femur left", *, ml: Sequence[float] = (4.0,), **changes: Any) -> Any:
    """A plan with needles from behind and above that end in the middle of the hollow."""
    kind = changes.pop("cement", "medium")
    pulls = changes.pop("pull_backs", ())
    tip = np.asarray(changes.pop("tip_mm", (0.0, 0.0, 0.0)))
    way = np.array([0.0, 0.8, 0.6])
    needles = tuple(
        CementNeedle(
            needle=needle(changes.get("gauge", 11), 125.0),
            path=Segment(start_mm=tip + 80 * way, end_mm=tip + shift * np.array([3.0, 0, 0])),
            volume_ml=v,
            pull_backs=pulls,
        )
        for shift, v in enumerate(ml)
    )
    changes.pop("gauge", None)
    made = cement(kind)
    first, last = made.window_s(room_c=22.0)
    values = {
        "lesion_id": "1",
        "site": Site.parse(site),
        "cement": made,
        "room_c": 22.0,
        "needles": needles,
        "rate_ml_s": 0.05,
        "start_s": first,
        "latest_s": last,
        "pressure_limit_pa": 5e6,
        "low_ml": 1.0,
        "high_ml": 2 * sum(ml),
    }
    return CementPlan(**{**values, **changes})


@pytest.fixture(scope="session")
def make_bone() -> Callable[..., BoxBone]:
    return box_bone


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., CementPlan]:
    return plan_for
