"""Small patients made of simple solids, and the slow routine that margins are checked against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from trocar.model.case import Lesion, Site
from trocar.model.result import Anatomy, Axes
from trocar.model.space import Grid, Mask, Volume

Patient = tuple[Volume, Anatomy, Lesion]


def lesion_of(mask: Mask, site: Site) -> Lesion:
    return Lesion(
        lesion_id="1",
        site=site,
        mask=mask,
        kind="lytic",
        volume_ml=mask.volume_ml,
        diameters_mm=(10.0, 10.0, 10.0),
        mean_hu=30.0,
        bone_fraction=0.1,
        mirels_fraction=0.1,
        soft_tissue_ml=0.0,
    )


def patient(
    grid: Grid,
    solids: Mapping[str, Any],
    structures: Mapping[str, Any],
    regions: Mapping[str, Any],
    site: str,
    missing: tuple[str, ...] = (),
) -> Patient:
    """A patient from boolean arrays; ``solids`` are body, bone and lesion."""
    made = {k: Mask(grid=grid, values=v) for k, v in solids.items()}
    anatomy = Anatomy(
        site=Site.parse(site),
        grid=grid,
        body=made["body"],
        bone=made["bone"],
        axes=Axes(
            origin_mm=np.zeros(3),
            left=np.array([1.0, 0, 0]),
            posterior=np.array([0, 1.0, 0]),
            superior=np.array([0, 0, 1.0]),
        ),
        structures={k: Mask(grid=grid, values=v) for k, v in structures.items()},
        regions={k: Mask(grid=grid, values=v) for k, v in regions.items()},
        missing=missing,
    )
    ct = Volume(grid=grid, values=np.where(solids["body"], 40, -1000).astype(np.int16))
    return ct, anatomy, lesion_of(made["lesion"], anatomy.site)


def vertebra(
    *,
    pedicle_mm: float = 11.0,
    lesion_at: tuple[float, float, float] = (4.0, -4.0, 0.0),
    mirrored: bool = False,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    missing: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> Patient:
    """An L1 of an elliptic body, box pedicles and an arch, with canal, foramina and vessels."""
    side = -1.0 if mirrored else 1.0
    shape = [round(n / s) for n, s in zip((100, 120, 160), spacing_mm, strict=True)]
    first = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    grid = Grid.from_spacing(shape, spacing_mm, (first[2], first[1] + 15.0, first[0]))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    p = grid.to_world(index)
    x, y, z = side * p[..., 0], p[..., 1], p[..., 2]
    body = (x / 75) ** 2 + ((y - 15) / 55) ** 2 < 1
    corpus = ((x / 22) ** 2 + (y / 16) ** 2 < 1) & (abs(z) < 14)
    canal = (x / 11) ** 2 + ((y - 24) / 9) ** 2 < 1
    ped = {
        s: (abs(x - k * 16.5) < pedicle_mm / 2) & (y > 6) & (y < 32) & (abs(z - 4) < 8)
        for s, k in (("left", side), ("right", -side))
    }
    arch = (abs(x) < 25) & (y > 26) & (y < 38) & (abs(z - 2) < 12)
    bone = (corpus | ped["left"] | ped["right"] | arch) & ~canal
    necks = {f"pedicle_{s}": v & ~corpus & (y < 26) & ~canal for s, v in ped.items()}
    a, b, c = lesion_at
    structures = {
        "spinal_canal": canal,
        "aorta": (x - 8) ** 2 + (y + 26) ** 2 < 64,
        "inferior_vena_cava": (x + 12) ** 2 + (y + 26) ** 2 < 64,
    }
    for s, k in (("left", side), ("right", -side)):
        root = (abs(x - k * 20) < 8) & (abs(z + 14) < 5) & (y > 14) & (y < 26)
        structures[f"foramen_{s}"] = root & ~bone
    return patient(
        grid,
        {
            "body": body,
            "bone": bone,
            "lesion": ((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < 81) & corpus,
        },
        {k: v for k, v in structures.items() if k not in without},
        {
            "vertebral_body": corpus & ~canal,
            "anterior_third": corpus & (y < -5),
            "arch": bone & ~corpus & ~necks["pedicle_left"] & ~necks["pedicle_right"],
            **necks,
        },
        "L1",
        missing,
    )


def slow_axis_distance(mask: Mask, start: Any, end: Any) -> float:
    """Distance from an axis to a mask in plain NumPy: samples 0.05 mm apart against voxel boxes.

    Left out are only boxes whose centre is farther from the axis than the nearest centre by a whole
    diagonal: none of them can be the nearest box.
    """
    spacing = np.asarray(mask.grid.spacing_mm)
    boxes = (mask.grid.to_world(np.argwhere(mask.values)) - start) @ mask.grid.axes
    way = (np.asarray(end) - start) @ mask.grid.axes
    t = np.clip(boxes @ way / (way @ way), 0, 1)
    off = np.linalg.norm(boxes - t[:, None] * way, axis=1)
    boxes = boxes[off <= off.min() + np.linalg.norm(spacing)]
    samples = np.linspace(0, 1, int(np.linalg.norm(way) / 0.05) + 2)[:, None] * way
    best = np.inf
    for part in np.array_split(samples, max(1, len(samples) * len(boxes) // 500_000)):
        d = np.maximum(np.abs(part[:, None] - boxes[None]) - spacing / 2, 0.0)
        best = min(best, float(np.sqrt((d * d).sum(-1)).min()))
    return best


@pytest.fixture(scope="session")
def toy_vertebra() -> Callable[..., Patient]:
    return vertebra


@pytest.fixture(scope="session")
def toy_patient() -> Callable[..., Patient]:
    return patient


@pytest.fixture(scope="session")
def make_lesion() -> Callable[[Mask, Site], Lesion]:
    return lesion_of


@pytest.fixture(scope="session")
def slow_distance() -> Callable[[Mask, Any, Any], float]:
    return slow_axis_distance
