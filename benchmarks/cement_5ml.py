"""`cement-5ml`: 5 ml of curing, thinning cement into an uneven vertebra with a hollow and a hole.

Ours solves in the filled voxels only; the peer is the slow way, both fluids on the whole grid, that
the tests keep as their oracle (`tests/kernels/two_phase.py`). No package that does this could be
found. Also here: the same at 0.5 mm, and a forecast of 256 injections into a synthetic patient.

    python benchmarks/cement_5ml.py --threads 1 --repeats 1
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from harness import Problem, main
from trocar.facts.cement import cement
from trocar.facts.products import needle
from trocar.imaging.bone import read_anatomy
from trocar.imaging.lesion import find_lesion
from trocar.kernels import flow
from trocar.model.plan import CementNeedle, CementPlan
from trocar.model.space import Segment
from trocar.phantom import make
from trocar.simulation.injection import forecast_leaks
from trocar.simulation.porous import read_bed

PEER = "two-phase on the whole grid"
RATE_M3_S, VOLUME_M3, CONSISTENCY, EXPONENT = 5e-8, 5e-6, 200.0, 0.6
SIDE_MM = 48.0
Double = NDArray[np.float64]


def oracle() -> Any:
    """The tests' own slow solver, loaded from its file."""
    place = Path(__file__).parents[1] / "tests" / "kernels" / "two_phase.py"
    spec = importlib.util.spec_from_file_location("two_phase", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["two_phase"] = module
    spec.loader.exec_module(module)
    return module


@cache
def vertebra(h_mm: float) -> tuple[Double, Double]:
    """Porosity and permeability of a closed body with a hollow and one hole, [n, n, n]."""
    n = round(SIDE_MM / h_mm)
    rng = np.random.default_rng(7)
    z, y, x = (np.indices((n, n, n)) + 0.5) * h_mm - SIDE_MM / 2
    body = ((x / 21) ** 2 + (y / 17) ** 2 < 1) & (np.abs(z) < 14)
    texture = ndimage.gaussian_filter(rng.normal(size=(n, n, n)), 1.5 / h_mm)
    phi = np.clip(0.8 + 0.08 * texture / texture.std(), 0.6, 0.98)
    k = phi**3 / (5 * 3000.0**2)
    hollow = ((x - 5) / 8) ** 2 + (y / 7) ** 2 + (z / 7) ** 2 < 1
    phi, k = np.where(hollow, 1.0, phi), np.where(hollow, 1e-6, k)
    open_ = body | ((np.abs(z) < 2) & (np.abs(x) < 2) & (y > 0))
    return np.where(open_, phi, 0.0), np.where(open_, k, 0.0)


def ours(h_mm: float) -> flow.Invasion:
    phi, k = vertebra(h_mm)
    inv = flow.Invasion(flow.medium(phi, k, (h_mm * 1e-3,) * 3))
    middle = len(phi) // 2
    inv.advance(
        flow.Cement(consistency_pa_sn=CONSISTENCY, exponent=EXPONENT),
        tips=(middle, middle, middle),
        rates_m3_s=RATE_M3_S,
        tip_radius_m=1e-3,
        start_s=0.0,
        seconds=1e5,
        most_m3=VOLUME_M3,
    )
    return inv


def slow(h_mm: float) -> Any:
    phi, k = vertebra(h_mm)
    middle = len(phi) // 2
    return oracle().inject(
        phi,
        k,
        h_mm * 1e-3,
        tip=(middle, middle, middle),
        rate_m3_s=RATE_M3_S,
        volume_m3=VOLUME_M3,
        consistency=CONSISTENCY,
        exponent=EXPONENT,
    )


def sound(inv: flow.Invasion) -> tuple[bool, str]:
    """Volume kept, and how much stands above full."""
    kept = abs(inv.volume_m3.sum() + inv.lost_m3 - inv.injected_m3) / inv.injected_m3
    over = inv.overfill_m3 / inv.injected_m3
    return kept <= 1e-9 and over <= 0.01, (
        f"{len(inv.history)} steps, volume kept to {kept:.0e}, overfill {100 * over:.3f} %"
    )


def agree(inv: flow.Invasion, peers: Mapping[str, Any]) -> tuple[bool, str]:
    good, line = sound(inv)
    if PEER in peers:
        other = peers[PEER]
        pores = vertebra(1.0)[0] * 1e-9
        both = (np.minimum(inv.fill, other.fill) * pores).sum()
        dice = 2 * both / ((inv.fill * pores).sum() + (other.fill * pores).sum())
        good &= dice > 0.95
        line += f"; Dice with the peer {dice:.3f}, its steps {other.steps}"
    return good, line


@cache
def patient() -> tuple[Any, CementPlan]:
    made = make("vertebra_l3")
    anatomy = read_anatomy(made.ct, made.site, labels=made.labels)
    lesion = find_lesion(made.ct, anatomy, mask=made.lesion)
    tip = lesion.centre_mm
    way = 0.9 * anatomy.axes.posterior + 0.44 * anatomy.axes.left
    mix = cement("medium")
    start, end = mix.window_s(room_c=22.0)
    plan = CementPlan(
        lesion_id="1",
        site=made.site,
        cement=mix,
        room_c=22.0,
        needles=(
            CementNeedle(
                needle=needle(11, 125.0),
                path=Segment(start_mm=tip + 80 * way, end_mm=tip),
                volume_ml=5.0,
            ),
        ),
        rate_ml_s=0.05,
        start_s=start,
        latest_s=end,
        pressure_limit_pa=5e6,
        low_ml=3.0,
        high_ml=6.0,
    )
    return read_bed(made.ct, anatomy, lesion), plan


def forecast() -> Any:
    bed, plan = patient()
    return forecast_leaks(bed, plan, runs=256, threads=numba.get_num_threads())


def counted(found: Any, peers: Mapping[str, Any]) -> tuple[bool, str]:
    reached = float(found.ended_ml.mean())
    return found.runs == 256, (
        f"256 runs of up to {found.volume_ml:g} ml, {reached:.1f} ml on average; "
        f"a leak in {100 * float(found.chance(found.volume_ml)):.0f} %"
    )


def five_ml() -> Problem:
    return Problem(
        name="cement-5ml",
        ours=lambda: ours(1.0),
        peers={PEER: lambda: slow(1.0)},
        check=agree,
        target_s=0.6,
        target_ratio={PEER: 20.0},
    )


def half_mm() -> Problem:
    return Problem(
        name="cement-5ml-half-mm",
        ours=lambda: ours(0.5),
        check=lambda got, _: sound(got),
        target_s=15.0,
    )


def leaks() -> Problem:
    """256 injections, each on one thread: as many at a time as threads are asked for."""
    return Problem(name="leak-256", ours=forecast, check=counted, target_s=180.0)


if __name__ == "__main__":
    main([five_ml, half_mm, leaks])
