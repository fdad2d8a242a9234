"""A box of bone in which a ball of cement grows through the back wall: every ml can be reckoned."""

from __future__ import annotations

from typing import Any

import numpy as np

from trocar.facts.cement import cement
from trocar.facts.products import needle
from trocar.model.case import Lesion, Site
from trocar.model.plan import CementNeedle, CementPlan, Plan, Trajectory
from trocar.model.result import (
    Anatomy,
    Axes,
    CementLeak,
    Fill,
    Injection,
    InjectionEvent,
    LeakForecast,
    Run,
    Scan,
)
from trocar.model.space import Grid, Mask, Volume
from trocar.pathway import Planned
from trocar.pathway.cement import CementCase

SIDE_MM, WALL_MM = 15.0, 15.0  # half the box's width; where its back wall is
TIP_MM = np.array([0.0, 9.0, 0.0])
CANAL, SOFT = "epidural or canal", "soft tissue"
ML_PER_S = 0.05
START_S = 120.0
RUN = Run(version="0", command="test", inputs={}, facts={}, parameters={}, seed=0, started="")


def scene(spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> tuple[Volume, Anatomy]:
    """Muscle with a box of spongy bone in it, and a canal behind."""
    half = 40.0
    shape = [round(2 * half / s) for s in spacing_mm]
    origin = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    grid = Grid.from_spacing(shape, spacing_mm, origin[::-1])
    p = np.abs(grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    bone = (p < SIDE_MM).all(axis=-1)
    values = np.where(bone, 200, 50).astype(np.int16)
    behind = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))[..., 1] > WALL_MM
    canal = behind & (p[..., 0] < 8) & (p[..., 1] < WALL_MM + 14)
    whole = Mask(grid=grid, values=bone)
    anatomy = Anatomy(
        site=Site.parse("L3"), grid=grid, body=Mask(grid=grid, values=np.ones(grid.shape, bool)),
        bone=whole, axes=Axes(origin_mm=np.zeros(3), left=np.eye(3)[0], posterior=np.eye(3)[1],
                              superior=np.eye(3)[2]),
        structures={"spinal_canal": Mask(grid=grid, values=canal)},
        regions={"vertebral_body": whole},
    )  # fmt: skip
    return Volume(grid=grid, values=values), anatomy


def ball(anatomy: Anatomy, *, ml: float = 6.0, name: str = CANAL, rows: int = 60) -> Injection:
    """A ball about the tip that fills all there is at once, voxel by voxel in order of distance.

    What lies behind the wall is a leak into the compartment ``name``.
    """
    low, high = (np.floor(anatomy.grid.to_index(TIP_MM + d)).astype(int) for d in (-14.0, 14.0))
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    grid = anatomy.grid.crop((box[0], box[1], box[2]))
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    turn = np.argsort(np.linalg.norm(points - TIP_MM, axis=-1), axis=None, kind="stable")
    order = np.full(points.shape[:-1], np.nan)
    count = round(ml / grid.voxel_ml)
    order.ravel()[turn[:count]] = (np.arange(count) + 1) * grid.voxel_ml
    filled = ~np.isnan(order)
    out = filled & (points[..., 1] > WALL_MM)
    leak = CementLeak(
        compartment=name, kind="", volume_ml=float(out.sum() * grid.voxel_ml), low_ml=0.0,
        high_ml=9.0, reach_mm=5.0, mask=Mask(grid=grid, values=out),
    )  # fmt: skip
    at = np.linspace(0, ml, rows + 1)[1:]
    ages = START_S + at / ML_PER_S
    leaked = np.array([(order[out] <= v).sum() for v in at + 1e-9]) * grid.voxel_ml
    fill = Fill(
        lesion_id="1", site=anatomy.site, origin="simulated",
        fraction=Volume(grid=grid, values=filled.astype(np.float32), unit="1"), volume_ml=ml,
        low_ml=ml, high_ml=ml, in_bone_ml=ml - leak.volume_ml, in_lesion_ml=None,
        lesion_fill=None, bone_fill=0.2, leaks=(leak,),
    )  # fmt: skip
    flat = np.zeros(rows)
    events = tuple(
        InjectionEvent(state=state, age_s=age, injected_ml=given, needle=0)
        for state, age, given in (
            ("injecting", START_S, 0.0), ("finished", float(ages[-1]), ml),
        )
    )  # fmt: skip
    return Injection(
        lesion_id="1", site=anatomy.site, cement="medium", fill=fill,
        order_ml=Volume(grid=grid, values=order.astype(np.float32), unit="ml"), age_s=ages,
        injected_ml=at, rate_ml_s=flat, tip_pa=flat, syringe_pa=flat, in_bone_ml=at - leaked,
        in_lesion_ml=flat, leaked_ml={name: leaked}, events=events, stopped_by="planned volume",
    )  # fmt: skip


def trajectory() -> Trajectory:
    """A needle from behind and the left."""
    entry = TIP_MM + 70.0 * np.array([0.48, 0.84, 0.25])
    return Trajectory(
        route="transpedicular", needle=needle(11, 125.0), entry_mm=entry, target_mm=TIP_MM,
        position="prone", bone_entry_mm=TIP_MM + 5.0, bone_length_mm=10.0, cortex_angle_deg=0.0,
        margins=(),
    )  # fmt: skip


def case(
    *,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    stop_ml: float | None = 3.0,
    name: str = CANAL,
) -> CementCase:
    """An injection of 2.5 ml into the box, 2 at the least; the forecast leaks from 3 on."""
    ct, anatomy = scene(spacing_mm)
    way = trajectory()
    mask = Mask(grid=anatomy.grid, values=np.zeros(anatomy.grid.shape, bool))
    lesion = Lesion(
        lesion_id="1", site=anatomy.site, mask=mask, kind="lytic", volume_ml=1.0,
        diameters_mm=(9.0, 9.0, 9.0), mean_hu=30.0, bone_fraction=0.1, mirels_fraction=0.1,
        soft_tissue_ml=0.0,
    )  # fmt: skip
    plan = CementPlan(
        lesion_id="1", site=anatomy.site, cement=cement("medium"), room_c=22.0,
        needles=(CementNeedle(needle=way.needle, path=way.path, volume_ml=2.5),),
        rate_ml_s=ML_PER_S, start_s=START_S, latest_s=600.0, pressure_limit_pa=5e6, low_ml=2.0,
        high_ml=3.5, stop_ml=stop_ml,
    )  # fmt: skip
    onset: dict[str, Any] = {CANAL: np.array([3.2, 3.4, 4.0, np.inf])}
    forecast = LeakForecast(
        lesion_id="1", site=anatomy.site, runs=4, seed=0, volume_ml=6.0, least_ml=0.1,
        onset_ml=onset, ended_ml=np.full(4, 6.0), reached=Volume(grid=anatomy.grid,
        values=np.zeros(anatomy.grid.shape, np.float32), unit="1"), alarms=(CANAL,), drawn={},
    )  # fmt: skip
    planned = Planned(
        scan=Scan(volume=ct, name="box", sha256="0" * 64), anatomy=anatomy,
        plan=Plan(case_id="box", site=anatomy.site, lesion=lesion, options=(way,)), views={},
    )  # fmt: skip
    return CementCase(
        planned=planned, needles=(way,), plan=plan, forecast=forecast,
        injection=ball(anatomy, name=name), run=RUN,
    )  # fmt: skip
