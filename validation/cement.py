"""Are the forecast chances of a leak borne out? 100 random synthetic patients, one injection each.

    python validation/cement.py [--cases 100] [--runs 32] [--first 0] [--keep rows.json]

For every patient leaks are forecast from a noisy CT of 1 mm voxels. Then one injection is made whose
constants are drawn anew (another seed) in a finer bed (0.75 mm) read from a sharper CT with other noise.
Written is how often what was given a chance came about.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from trocar.facts import limits
from trocar.facts.cement import cement
from trocar.facts.products import needle
from trocar.imaging.bone import read_anatomy
from trocar.imaging.lesion import find_lesion
from trocar.kernels import flow
from trocar.model.plan import CementNeedle, CementPlan
from trocar.model.space import Segment
from trocar.phantom import make, walls
from trocar.simulation.injection import forecast_leaks, inject
from trocar.simulation.porous import Bed, Constants, read_bed
from trocar.stats.exact import Proportion

PAGE = Path(__file__).with_suffix(".md")
NAMES = ("vertebra_l3", "vertebra_l3", "vertebra_l3", "acetabulum", "sacrum", "femur")
AT_ML = (1.5, 3.0, 4.5, 6.0)
MOST_ML = 6.0
BINS = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.0001)
HEAD = """# Cement injected in the computer

Written by `cement.py`. {cases} random patients (vertebra, acetabulum, sacrum, femur; 0 to 2 holes; lesions
of 12 to 22 mm; needle 0 to 3 mm off the lesion's middle; thin, medium and thick cement). Leaks of 0.1 ml
are forecast from {runs} injections at 1 mm, then one injection with constants of its own is made at
0.75 mm from a sharper CT with other noise. This asks whether reading, grid and statistics are sound. It
does not ask whether the model's constants are true: nature is drawn from the same ranges.

"""


def case(seed: int, runs: int) -> dict[str, Any]:
    """One patient: what was forecast and what came about, for any leak and for the alarms."""
    rng = np.random.default_rng([4, seed])
    name = str(rng.choice(NAMES))
    known = walls(name)
    holes = tuple(rng.choice(known, size=min(len(known), int(rng.integers(0, 3))), replace=False))
    size = float(rng.uniform(12, 22))
    off = rng.uniform(-1, 1, 3)
    off *= rng.uniform(0, 3) / np.linalg.norm(off)
    kind = str(rng.choice(["low", "medium", "high"]))

    def bed(noise: int, spacing: tuple[float, float, float], voxel: float) -> tuple[Bed, Any, Any]:
        patient = make(name, seed=noise, defects=holes, lesion_mm=size, spacing_mm=spacing)
        anatomy = read_anatomy(patient.ct, patient.site, labels=patient.labels)
        lesion = find_lesion(patient.ct, anatomy, mask=patient.lesion)
        return read_bed(patient.ct, anatomy, lesion, voxel_mm=voxel), anatomy, lesion

    read, anatomy, lesion = bed(2 * seed, (1.0, 0.8, 0.8), 1.0)
    tip = lesion.centre_mm + off
    way = 0.9 * anatomy.axes.posterior + 0.44 * anatomy.axes.left
    made = cement(kind)
    start, end = made.window_s(room_c=22.0)
    plan = CementPlan(
        lesion_id=str(seed),
        site=anatomy.site,
        cement=made,
        room_c=22.0,
        needles=(
            CementNeedle(
                needle=needle(10, 125.0),
                path=Segment(start_mm=tip + 80 * way, end_mm=tip),
                volume_ml=MOST_ML,
            ),
        ),
        rate_ml_s=0.05,
        start_s=start,
        latest_s=end,
        pressure_limit_pa=5e6,
        low_ml=1.0,
        high_ml=MOST_ML,
    )
    foreseen = forecast_leaks(read, plan, runs=runs, seed=seed, threads=1)
    truth, _, _ = bed(2 * seed + 1, (0.7, 0.6, 0.6), 0.75)
    drawn = Constants.drawn(
        rng.uniform(0.001, 0.999, len(Constants.names())), float(limits.value("placement_error"))
    )
    happened = inject(truth, replace(plan, lesion_id="truth"), constants=drawn, watch=False)
    onset = {
        n: float(np.interp(foreseen.least_ml, ml, happened.injected_ml))
        for n, ml in happened.leaked_ml.items()
        if ml[-1] >= foreseen.least_ml
    }
    alarm = [onset[n] for n in onset if n in foreseen.alarms]
    return {
        "seed": seed,
        "name": name,
        "holes": [str(h) for h in holes],
        "any": [float(v) for v in foreseen.chance(AT_ML)],
        "alarm": [float(v) for v in foreseen.chance(AT_ML, *foreseen.alarms)],
        "first_any": min(onset.values(), default=None),
        "first_alarm": min(alarm, default=None),
        "safe": foreseen.safe_ml(0.05, *foreseen.alarms),
        "balance": abs(
            float(happened.in_bone_ml[-1])
            + sum(float(v[-1]) for v in happened.leaked_ml.values())
            - float(happened.injected_ml[-1])
        )
        / float(happened.injected_ml[-1]),
    }


def table(rows: list[dict[str, Any]], what: str) -> tuple[list[str], float]:
    """Reliability: forecast chance against how often it came about; and Brier's score."""
    chance = np.array([r[what] for r in rows]).ravel()
    came = np.array(
        [[r[f"first_{what}"] is not None and r[f"first_{what}"] <= v for v in AT_ML] for r in rows]
    ).ravel()
    lines = [
        "| forecast chance | forecasts | mean of them | came about | share (95 % interval) | |",
        "|---|---|---|---|---|---|",
    ]
    for low, high in pairwise(BINS):
        here = (chance >= low) & (chance < high)
        if not here.any():
            continue
        x, n, mean = int(came[here].sum()), int(here.sum()), float(chance[here].mean())
        interval = Proportion(x, n).wilson()
        a, b = interval.low, interval.high
        within = "agrees" if a <= mean <= b else "**does not**"
        lines.append(
            f"| {low:.2f} to {min(high, 1.0):.2f} | {n} | {mean:.3f} | {x} | {x / n:.3f} "
            f"({a:.3f} to {b:.3f}) | {within} |"
        )
    return lines, float(np.mean((chance - came) ** 2))


def orders() -> list[str]:
    """Pressure in a ball of cement against its closed form (F.5), on finer and finer voxels."""
    flow_m3_s, permeability, porosity, consistency, radius = 5e-8, 1e-8, 0.8, 200.0, 8e-3
    lines = ["| exponent | voxel, mm | error 4 to 6 mm from the needle | observed order |",
             "|---|---|---|---|"]  # fmt: skip
    for n in (1.0, 0.5):
        apparent = consistency
        if n != 1.0:
            apparent = (
                consistency
                / 12
                * (9 + 3 / n) ** n
                * (150 * permeability * porosity) ** ((1 - n) / 2)
            )

        def exact(r: Any, n: float = n, apparent: float = apparent) -> Any:
            if n == 1.0:
                return flow_m3_s * consistency / (4 * np.pi * permeability) * (1 / r - 1 / radius)
            return apparent / permeability * (flow_m3_s / (4 * np.pi)) ** n * np.log(radius / r)

        before = None
        for h_mm in (2.0, 1.0, 0.5):
            count = int(2 * (radius * 1e3 + 2) / h_mm) | 1
            phi = np.full((count,) * 3, porosity)
            inv = flow.Invasion(flow.medium(phi, permeability, (h_mm * 1e-3,) * 3))
            inv.advance(
                flow.Cement(consistency_pa_sn=consistency, exponent=n),
                tips=[count // 2] * 3, rates_m3_s=flow_m3_s, tip_radius_m=1.5e-3, start_s=0.0,
                seconds=1e5, most_m3=4 / 3 * np.pi * radius**3 * porosity,
            )  # fmt: skip
            index = np.argwhere(~np.isnan(inv.pressure_pa))
            r = np.linalg.norm(index - count // 2, axis=1) * h_mm * 1e-3
            near = (r >= 3.9e-3) & (r <= 6.1e-3)
            gap = inv.pressure_pa[tuple(index[near].T)] - exact(r[near])
            error = float(np.sqrt(np.mean(gap**2))) / exact(4e-3)
            told = "" if before is None else f"{np.log2(before / error):.1f}"
            lines.append(f"| {n:g} | {h_mm:g} | {100 * error:.2f} % | {told} |")
            before = error
    return lines


def bench() -> list[str]:
    """Habib's four mixtures through the same hole of the same vertebra."""
    patient = make("vertebra_l3", defects=("posterior wall",))
    anatomy = read_anatomy(patient.ct, patient.site, labels=patient.labels)
    lesion = find_lesion(patient.ct, anatomy, mask=patient.lesion)
    bed = read_bed(patient.ct, anatomy, lesion)
    tip = lesion.centre_mm
    way = 0.9 * anatomy.axes.posterior + 0.44 * anatomy.axes.left
    lines = ["| cement | minutes | viscosity here, Pa s | leaked there, g | leaked here, ml |",
             "|---|---|---|---|---|"]  # fmt: skip
    for kind, minutes, grams in (("low", 3.5, "4.0 ± 1.2"), ("low", 9.5, "2.6 ± 1.2"),
                                 ("high", 3.5, "1.5 ± 1.2"), ("high", 6.5, "0.92 ± 0.6")):  # fmt: skip
        made = cement(kind)
        plan = CementPlan(
            lesion_id="1", site=anatomy.site, cement=made, room_c=22.0,
            needles=(CementNeedle(needle=needle(8, 125.0), volume_ml=9.0,
                                  path=Segment(start_mm=tip + 80 * way, end_mm=tip)),),
            rate_ml_s=0.1, start_s=60 * minutes, latest_s=60 * minutes + 2000,
            pressure_limit_pa=5e7, low_ml=1.0, high_ml=9.0,
        )  # fmt: skip
        leaked = inject(bed, plan, watch=False).fill.leaked_ml
        stiff = made.viscosity_pa_s(60 * minutes, room_c=22.0)
        lines.append(f"| {kind} | {minutes:g} | {stiff:.0f} | {grams} | {leaked:.2f} |")
    return lines


def page(rows: list[dict[str, Any]], runs: int) -> str:
    """The whole page from what was measured."""
    out = [HEAD.format(cases=len(rows), runs=runs)]
    for what, title in (("any", "A leak anywhere"), ("alarm", "Into canal, foramen or joint")):
        lines, brier = table(rows, what)
        out.append(f"## {title}\n\n" + "\n".join(lines) + f"\n\nBrier score {brier:.3f}. ")
        base = np.mean(
            [
                [r[f"first_{what}"] is not None and r[f"first_{what}"] <= v for v in AT_ML]
                for r in rows
            ]
        )
        out.append(
            f"Always saying the average ({base:.3f}) would score {base * (1 - base):.3f}.\n\n"
        )
    below = [r for r in rows if r["first_alarm"] is not None and r["first_alarm"] <= r["safe"]]
    out.append(
        "## The volume called safe\n\n"
        f"Up to `safe_ml(0.05)` a leak into canal, foramen or joint came about in {len(below)} of "
        f"{len(rows)} patients; 5 % are accepted.\n\n"
        f"Volume kept: injected and found again differ by at most "
        f"{max(r['balance'] for r in rows):.0e} of it.\n\n"
        "The forecasts at 1.5, 3, 4.5 and 6 ml of one patient hang together, so the intervals, which "
        "take them for independent, are too narrow.\n\n"
    )
    out.append("## A closed form on finer and finer voxels\n\n" + "\n".join(orders()) + "\n\n")
    out.append(
        "## Thin and thick cement\n\n" + "\n".join(bench()) + "\n\n"
        "Leaked cement falls as viscosity rises. The order of the bench (Habib 2010) is not "
        "reproduced in one place: the thin class at 9.5 minutes is here the stiffest of the four, "
        "for its consistency, a stand-in, doubles every minute. The fall is less steep than there.\n"
    )
    return "".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--runs", type=int, default=32)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a file to keep the rows in and go on from")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if options.keep and options.keep.exists():
        rows = json.loads(options.keep.read_text())
    done = {r["seed"] for r in rows}
    for seed in range(options.first, options.first + options.cases):
        if seed in done:
            continue
        rows.append(case(seed, options.runs))
        print(json.dumps(rows[-1]), flush=True)
        if options.keep:
            options.keep.write_text(json.dumps(rows))
    PAGE.write_text(page(rows, options.runs))


if __name__ == "__main__":
    main()
