"""Every route in a synthetic patient that has it: found, and never through the canal."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from trocar import phantom
from trocar.imaging.bone import read_anatomy
from trocar.model.case import Gravity, Site
from trocar.model.space import Grid, Mask
from trocar.planning.routes import routes_for
from trocar.planning.trajectory import PathSearch, find_paths

pytestmark = pytest.mark.slow


@cache
def made(name: str) -> phantom.Phantom:
    return phantom.make(name)


def ball(grid: Grid, centre_mm: Any, radius_mm: float, within: Mask) -> Mask:
    box = grid.around(np.asarray(centre_mm)[None], radius_mm)
    out = np.zeros(grid.shape, bool)
    index = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in box], indexing="ij"), -1)
    near = np.linalg.norm(grid.to_world(index) - centre_mm, axis=-1) <= radius_mm
    out[box] = near
    return Mask(grid=grid, values=out & within.on(grid).values)


def search(name: str, make_lesion: Any, site: str = "", region: str = "", **options: Any) -> Any:
    """Plan a phantom's own lesion, or a ball put into a region of its bone."""
    case = made(name)
    where = Site.parse(site) if site else case.site
    if region:
        bare = read_anatomy(case.ct, where, labels=case.labels)
        part = bare.regions[region]
        inside = part.points_mm()
        centre = inside[np.argmin(np.linalg.norm(inside - part.centroid_mm, axis=1))]
        lesion, anatomy = ball(bare.grid, centre, 7.0, bare.bone), bare
    else:
        lesion = case.lesion
        anatomy = read_anatomy(case.ct, where, labels=case.labels, lesion=lesion)
    return anatomy, find_paths(case.ct, anatomy, make_lesion(lesion, where), count=12, **options)


CASES = [
    ("vertebra_l3", "", "", {"transpedicular left", "transpedicular right", "posterolateral left"}),
    ("vertebra_t10_plana", "", "", {"transpedicular left", "transpedicular right"}),
    ("sacrum", "", "", {"sacral short axis left", "sacral long axis left", "transiliac left"}),
    (
        "acetabulum",
        "",
        "",
        {
            "supra acetabular anterior left",
            "supra acetabular lateral left",
            "iliac posterior left",
            "posterior column left",
        },
    ),
    ("acetabulum", "ischium left", "ischium", {"ischial left"}),
    ("acetabulum", "ilium left", "iliac_wing", {"iliac lateral left"}),
    ("pubic_ramus", "", "", {"pubic ramus medial left", "pubic ramus lateral left"}),
    ("femur", "", "", {"along femoral neck left", "femur lateral left"}),
]


@pytest.mark.parametrize(("name", "site", "region", "expected"), CASES)
def test_the_routes_of_a_site_are_found_and_respect_every_limit(
    name: str, site: str, region: str, expected: set[str], make_lesion: Any, slow_distance: Any
) -> None:
    anatomy, found = search(name, make_lesion, site, region)
    check(anatomy, found, expected, slow_distance)


@pytest.mark.parametrize("kind", ["parapedicular", "transcostovertebral"])
def test_a_thoracic_way_beside_the_pedicle_is_found_where_no_rib_bars_it(
    kind: str, make_lesion: Any, slow_distance: Any
) -> None:
    routes = [r for r in routes_for(Site.parse("T11")) if r.name.startswith(kind)]
    anatomy, found = search("vertebra_l3", make_lesion, routes=routes)
    check(anatomy, found, {f"{kind} left", f"{kind} right"}, slow_distance)


def check(anatomy: Any, found: PathSearch, expected: set[str], slow_distance: Any) -> None:
    refused = {r.route: r.reason for r in found.refusals}
    # Looked at and not refused: it has a needle (one that another route has, too, is shown once).
    assert expected <= set(found.looked_at) - set(refused), refused
    assert found.options
    for option in found.options:
        assert not [m for m in option.margins if m.verdict == "stop"]
        assert not [f for f in option.findings if f.gravity is Gravity.STOP]
        assert anatomy.bone.holds(option.target_mm)
        for name in {"spinal_canal"} & set(anatomy.structures):
            canal = anatomy.structures[name]
            axis = option.path.at_mm(np.arange(0.0, option.depth_mm, 0.1))
            assert not canal.holds(axis).any()
            slow = slow_distance(canal, option.entry_mm, option.target_mm)
            margin = {m.structure: m for m in option.margins}[name]
            assert margin.distance_mm == pytest.approx(slow - option.needle.radius_mm, abs=0.1)
            assert margin.distance_mm >= margin.required_mm
