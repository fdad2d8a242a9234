"""A needle under the mouse: making the maps ready, then every answer while it is dragged.

Three synthetic bones at 0.8 mm and a patient set into a CT of full size (300x512x512). Each answer
names route, thickest needle that fits, depth, angles, every margin and the chances when misplaced.
The gate: the same digits as ``score_path``, which makes its maps anew for each needle.
"""

from __future__ import annotations

import os

# Before Numba starts its threads: a spinning OpenMP team collapses beside a busy neighbour.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import resource
import time
from typing import Any

import numpy as np

from plan_full import SHAPE, SPACING_MM
from trocar import phantom
from trocar.io.exact import fingerprint
from trocar.model.result import Scan
from trocar.model.space import Grid, Volume
from trocar.pathway import Planned, edits
from trocar.planning.routes import routes_for
from trocar.planning.trajectory import score_path

BAR_MS, AIM_MS = 100.0, 30.0
STEPS = 200  # of the mouse
CHECKED = 5  # of them against score_path
BEYOND_HU = -3000.0  # stands for what the small CT does not hold


def main() -> None:
    print(f"load {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    for name in ("vertebra_l3", "acetabulum", "femur"):
        made = phantom.make(name, seed=5, spacing_mm=(1.0, 0.8, 0.8))
        told(name, outlined(made, made.ct))
    made = phantom.make("vertebra_l3", seed=5)
    told("full size", outlined(made, full_size(made)))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory at most {peak_gb:.2f} GB, CT and anatomy included")


def full_size(made: phantom.Phantom) -> Volume:
    """The patient in a CT whose body reaches to all sides: as many voxels as there can be."""
    centre = made.ct.grid.centre_mm
    origin = centre - (np.asarray(SHAPE[::-1]) - 1) / 2 * np.asarray(SPACING_MM[::-1])
    grid = Grid.from_spacing(SHAPE, SPACING_MM, origin)
    row, column = np.indices(SHAPE[1:])
    x, y, _ = np.moveaxis(grid.to_world(np.stack([0 * row, row, column], axis=-1)) - centre, -1, 0)
    trunk = np.where((x / 185) ** 2 + (y / 130) ** 2 < 1, 40.0, -1000.0)
    values = made.ct.on(grid, outside=BEYOND_HU).values
    values = np.where(values == BEYOND_HU, trunk, values)
    return Volume(grid=grid, values=np.rint(values).astype(np.int16))


def outlined(made: phantom.Phantom, ct: Volume) -> Planned:
    scan = Scan(volume=ct, name=made.name, sha256="0" * 64)
    labels, lesion = made.labels.on(ct.grid), made.lesion.on(ct.grid)
    return edits.outlined(scan, made.site, labels=labels, lesion_mask=lesion, case_id="bench")


def told(name: str, planned: Planned) -> None:
    """Prints what one bone took."""
    clock = time.perf_counter()
    live = edits.Live(planned)
    ready_s = time.perf_counter() - clock
    steps, took = dragged(planned), []
    work = time.process_time()
    for step in steps:
        clock = time.perf_counter()
        live.measure(**step)
        took.append(1000 * (time.perf_counter() - clock))
    cpu_ms = 1000 * (time.process_time() - work) / len(steps)
    clock = time.perf_counter()
    points = len(live.skin(live.routes[0]).points_mm)
    skin_s = time.perf_counter() - clock
    same = all(equal(live, planned, step) for step in steps[:: STEPS // CHECKED])
    first, middle, worst = took[0], float(np.median(took)), max(took)
    met = "met" if worst < BAR_MS and middle < AIM_MS else "MISSED"
    shape = planned.anatomy.grid.isotropic(1.0).shape
    print(f"{name:<12} maps {' x '.join(map(str, shape))} mm ready in {ready_s:.2f} s")
    print(
        f"{'':<12} answer first {first:.1f}, median {middle:.1f}, worst {worst:.1f} ms, "
        f"CPU {cpu_ms:.1f} ms | bar {BAR_MS:.0f} ms, aim {AIM_MS:.0f} ms in the middle {met}"
    )
    print(f"{'':<12} skin of a route in {skin_s:.2f} s, {points} points")
    print(f"{'':<12} gate {'passed' if same else 'FAILED'}: digits of score_path")


def dragged(planned: Planned) -> list[dict[str, Any]]:
    """A hand that leads entry and tip about, a millimetre or so at a time."""
    rng = np.random.default_rng(1)
    target = planned.lesion.mask.centroid_mm
    way = routes_for(planned.plan.site)[0].direction(planned.anatomy.axes)
    entry = target + 95.0 * way
    wander = rng.normal(0.0, 1.0, (STEPS, 2, 3)).cumsum(axis=0)
    return [{"entry_mm": entry + a, "target_mm": target + 0.3 * b} for a, b in wander]


def equal(live: edits.Live, planned: Planned, step: dict[str, Any]) -> bool:
    one = live.measure(**step)
    route = next(r for r in routes_for(planned.plan.site) if r.name == one.route)
    other = score_path(planned.anatomy, planned.lesion, needle=one.needle, route=route, **step)
    return fingerprint(one) == fingerprint(other)


if __name__ == "__main__":
    main()
