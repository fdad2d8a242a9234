"""A small hand-made patient and plan, so that the sheet is tested without the other rooms."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from trocar.facts.products import needle
from trocar.model.case import Finding, Gravity, Lesion, Site, WallDefect
from trocar.model.plan import Margin, NeedleSet, Plan, Refusal, Trajectory
from trocar.model.result import (
    Anatomy,
    Axes,
    Calibration,
    Isthmus,
    Run,
    Scan,
    VertebraMeasures,
    View,
)
from trocar.model.space import Grid, Mask, Volume
from trocar.report import words


@dataclass(frozen=True)
class Sheet:
    """What a plan sheet is made of."""

    scan: Scan
    anatomy: Anatomy
    plan: Plan
    views: dict[int, tuple[View, View, View]]

    @property
    def parts(self) -> dict[str, object]:
        return {
            "scan": self.scan,
            "anatomy": self.anatomy,
            "plan": self.plan,
            "views": self.views,
        }


SITE = Site(kind="vertebra", level="L3")
CENTRE = np.array([3.0, -12.0, 40.0])


def _at(left: float, back: float, head: float) -> np.ndarray:
    return CENTRE + np.array([left, back, head])


def _coordinates(grid: Grid) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    return grid.to_world(index)


def _shapes(grid: Grid) -> dict[str, np.ndarray]:
    x, y, z = np.moveaxis(_coordinates(grid) - CENTRE, -1, 0)
    body = (x / 24) ** 2 + ((y + 2) / 17) ** 2 < 1
    canal = (x / 10) ** 2 + ((y - 24) / 8) ** 2 < 1
    pedicle = (np.abs(np.abs(x) - 15) < 5) & (y > 8) & (y < 34) & (z > 0) & (z < 13)
    arch = (x / 19) ** 2 + ((y - 24) / 16) ** 2 < 1
    spinous = (np.abs(x) < 3.5) & (y > 36) & (y < 66) & (np.abs(z) < 9)
    bone = (body & (np.abs(z) < 14)) | pedicle | (arch & ~canal & (y > 24) & (np.abs(z) < 13))
    next_bone = body & (np.abs(np.abs(z) - 38) < 14)
    return {
        "skin": ((x - 2) / 105) ** 2 + ((y - 5) / 78) ** 2 < 1,
        "bone": (bone | spinous) & ~canal,
        "canal": canal,
        "other": next_bone,
        "lesion": ((x - 7) / 13) ** 2 + ((y - 8) / 12) ** 2 + (z / 11) ** 2 < 1,
        "aorta": ((x - 8) / 10) ** 2 + ((y + 32) / 10) ** 2 < 1,
        "cava": ((x + 18) / 11) ** 2 + ((y + 29) / 9) ** 2 < 1,
        "nerve_left": ((x - 21) / 3) ** 2 + ((y - 18) / 4) ** 2 + ((z + 9) / 5) ** 2 < 1,
    }


def _scan(grid: Grid, shape: dict[str, np.ndarray]) -> Scan:
    rng = np.random.default_rng(7)
    hu = np.full(grid.shape, -1000.0)
    hu[shape["skin"]] = -90.0
    x, y, _ = np.moveaxis(_coordinates(grid) - CENTRE, -1, 0)
    hu[shape["skin"] & (((x - 2) / 90) ** 2 + ((y - 5) / 64) ** 2 < 1)] = 55.0
    for part in (shape["bone"], shape["other"]):
        core = part.copy()
        for axis in range(3):
            core &= np.roll(part, 1, axis) & np.roll(part, -1, axis)
        hu[part] = 750.0
        hu[core] = 190.0
    hu[shape["canal"]] = 25.0
    hu[shape["aorta"] | shape["cava"]] = 45.0
    hu[shape["lesion"]] = 60.0
    hu += rng.normal(0, 18, grid.shape)
    return Scan(
        volume=Volume(grid=grid, values=np.rint(hu).astype(np.int16)),
        name="Abdomen 1.5 B60s",
        sha256="ab" * 32,
        kvp=120.0,
        kernel="B60s",
        contrast=False,
        findings=(
            Finding(
                gravity=Gravity.NOTE,
                message="the scan was made at {kvp:.0f} kV",
                values={"kvp": 120.0},
            ),
        ),
    )


def _anatomy(grid: Grid, shape: dict[str, np.ndarray]) -> Anatomy:
    def mask(name: str) -> Mask:
        return Mask(grid=grid, values=shape[name])

    x, y, z = np.moveaxis(_coordinates(grid) - CENTRE, -1, 0)
    return Anatomy(
        site=SITE,
        grid=grid,
        body=mask("skin"),
        bone=mask("bone"),
        axes=Axes(
            origin_mm=CENTRE,
            left=np.array([1.0, 0, 0]),
            posterior=np.array([0, 1.0, 0]),
            superior=np.array([0, 0, 1.0]),
        ),
        structures={
            "spinal_canal": mask("canal"),
            "aorta": mask("aorta"),
            "inferior_vena_cava": mask("cava"),
            "nerve_root_left": mask("nerve_left"),
            "other_bone": mask("other"),
        },
        regions={
            "vertebral_body": Mask(grid=grid, values=shape["bone"] & (y < 12)),
            "pedicle_left": Mask(grid=grid, values=shape["bone"] & (y >= 12) & (x > 8) & (z > 0)),
        },
        missing=("nerve_root_right",),
        sources={"aorta": "given labels", "spinal_canal": "given labels"},
        confidence={"spinal_canal": 0.93, "nerve_root_left": 0.41},
        vertebra=VertebraMeasures(
            anterior_mm=22.4,
            middle_mm=21.1,
            posterior_mm=27.9,
            genant_grade=1,
            wedge_loss=0.197,
            biconcave_loss=0.244,
            crush_loss=None,
            isthmuses=(
                Isthmus(
                    side="left",
                    centre_mm=_at(15, 18, 6),
                    direction=np.array([0, -1.0, 0]),
                    width_mm=9.8,
                    height_mm=13.2,
                ),
                Isthmus(
                    side="right",
                    centre_mm=_at(-15, 18, 6),
                    direction=np.array([0, -1.0, 0]),
                    width_mm=9.6,
                    height_mm=13.1,
                ),
            ),
        ),
        calibration=Calibration(method="none", slope=0.0008, offset=0.0),
    )


def _lesion(grid: Grid, shape: dict[str, np.ndarray]) -> Lesion:
    lesion = Mask(grid=grid, values=shape["lesion"])
    return Lesion(
        lesion_id="1",
        site=SITE,
        mask=lesion,
        kind="lytic",
        volume_ml=7.19,
        diameters_mm=(26.3, 24.1, 21.8),
        mean_hu=61.4,
        bone_fraction=0.173,
        mirels_fraction=0.542,
        soft_tissue_ml=0.83,
        defects=(
            WallDefect(
                wall="posterior wall", area_mm2=112.4, centre_mm=_at(7, 16, 0), extent_mm=14.6
            ),
        ),
        distances_mm={"spinal_canal": 0.0, "aorta": 24.7, "inferior_vena_cava": 31.3},
        found_by="one click",
        findings=(
            Finding(
                gravity=Gravity.CAUTION,
                message="the {wall} has a hole of {area_mm2:.0f} mm²",
                values={"wall": "posterior wall", "area_mm2": 112.4},
            ),
        ),
    )


def option(
    side: str = "left", *, lateral: float = 46.0, head: float = 14.0, **changes
) -> Trajectory:
    """A transpedicular needle of the hand-made patient; its numbers are not to be believed."""
    sign = 1.0 if side == "left" else -1.0
    target = _at(sign * 6.0, -4.0, 0.37)
    entry = _at(sign * lateral, 75.123, head)
    margins = (
        Margin(structure="spinal_canal", distance_mm=2.31, required_mm=2.0, caution_mm=4.0),
        Margin(structure="nerve_root_left", distance_mm=6.84, required_mm=3.0, caution_mm=6.0),
        Margin(structure="aorta", distance_mm=19.57, required_mm=5.0, caution_mm=10.0),
        Margin(structure="inferior_vena_cava", distance_mm=28.46, required_mm=5.0, caution_mm=10.0),
    )
    given = {
        "route": f"transpedicular {side}",
        "needle": needle(11, 125),
        "entry_mm": entry,
        "target_mm": target,
        "position": "prone",
        "bone_entry_mm": entry + 0.46 * (target - entry),
        "bone_length_mm": 41.62,
        "cortex_angle_deg": 21.3,
        "margins": margins,
        "corridor_clearance_mm": 1.94,
        "breach_probability": 0.0734,
        "breach_interval": (0.0651, 0.0822),
        "contact_probability": 0.0123,
        "contact_interval": (0.0091, 0.0166),
        "placement_error_mm": 2.5,
        "cost": 0.31,
        "reason": "Shortest path through bone that keeps every margin.",
        "cost_parts": {"bone length": 0.1},
    }
    return Trajectory(**(given | changes))


def flat_view(name: str, scan: Scan, oblique_deg: float) -> View:
    """A parallel projection (a source very far away) of the scan from the back or the side."""
    grid, volume = scan.volume.grid, scan.volume
    mu = np.clip(volume.values.astype(np.float32) / 1000 + 1, 0, None) * 0.019
    first, last = grid.to_world([0, 0, 0]), grid.to_world(np.asarray(grid.shape) - 1)
    centre = (first + last) / 2
    if oblique_deg == 0:
        image, column = mu.sum(axis=1) * grid.spacing_mm[1], grid.axes[:, 2] * grid.spacing_mm[2]
        away, corner = np.array([0, 1.0, 0]), np.array([first[0], centre[1], last[2]])
    else:
        image, column = mu.sum(axis=2) * grid.spacing_mm[2], grid.axes[:, 1] * grid.spacing_mm[1]
        away, corner = np.array([1.0, 0, 0]), np.array([centre[0], first[1], last[2]])
    return View(
        name=name,
        image=image[::-1].astype(np.float32),
        source_mm=centre - 1e6 * away,
        detector_mm=corner + 100 * away,
        row_step_mm=-grid.axes[:, 0] * grid.spacing_mm[0],
        column_step_mm=column,
        oblique_deg=oblique_deg,
    )


@pytest.fixture(scope="session")
def sheet() -> Sheet:
    """A patient with an L3 lesion, two needles of which one asks for caution, and a refusal."""
    grid = Grid.from_spacing((48, 84, 112), (2.0, 2.0, 2.0), (-108.0, -90.0, -7.0))
    shape = _shapes(grid)
    scan, anatomy, lesion = _scan(grid, shape), _anatomy(grid, shape), _lesion(grid, shape)
    stop = Finding(
        gravity=Gravity.STOP,
        message="the lesion touches the {what}",
        values={"what": "spinal_canal"},
    )
    right = option(
        "right",
        lateral=52.0,
        head=-3.0,
        margins=(
            option().margins[0],
            Margin(structure="aorta", distance_mm=31.02, required_mm=5.0, caution_mm=10.0),
            Margin(
                structure="flux_capacitor",
                distance_mm=float("nan"),
                required_mm=5.0,
                caution_mm=10.0,
            ),
        ),
    )
    run = Run(
        version="0.1.0",
        command="trocar plan",
        inputs={"ct": "ab" * 32, "labels": "cd" * 32},
        facts={"limits": "2026.11 (0123456789ab)", "products": "2026.11 (ba9876543210)"},
        parameters={"count": 6, "placement_error_mm": 2.5},
        seed=20261121,
        started="2026-11-21T09:30:00+00:00",
        seconds=12.3,
        peak_mb=812.0,
        packages={"numpy": "2.4.6"},
    )
    plan = Plan(
        case_id="CASE-017",
        site=SITE,
        lesion=lesion,
        options=(option(), right),
        sets=(
            NeedleSet(
                members=(0, 1), tip_spacing_mm=12.4, shaft_spacing_mm=9.1, name="bipedicular"
            ),
        ),
        refusals=(
            Refusal(
                route="posterolateral left",
                reason="every path comes too close to the aorta",
                candidates=15233,
                stopped_by={"aorta": 9120, "nerve_root_left": 6113},
            ),
        ),
        findings=(stop,),
        run=run,
    )
    pair = (flat_view("AP", scan, 0.0), flat_view("lateral", scan, 90.0))
    views = {0: (*pair, replace(pair[0], name="down the barrel"))}
    return Sheet(scan=scan, anatomy=anatomy, plan=plan, views=views)


@pytest.fixture
def untranslated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, None]]:
    """Listens to what is translated, in ``words`` and the modules given; what has no Chinese."""

    def to(*modules: Any) -> dict[str, None]:
        missing: dict[str, None] = {}
        known = words.catalogue("zh-Hant").sentences
        spoken = words.translate

        def listen(text: str, language: words.Language) -> str:
            is_word = re.search("[A-Za-z]{4}", text) and not re.search("[\u4e00-\u9fff]", text)
            if language == "zh-Hant" and is_word and text not in known:
                missing[text] = None
            return spoken(text, language)

        for module in (words, *modules):
            monkeypatch.setattr(module, "translate", listen)
        return missing

    return to
