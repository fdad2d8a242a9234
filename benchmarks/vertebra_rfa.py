"""`vertebra-rfa`: ten minutes of radiofrequency in a vertebra, and its low, mean and high run.

The synthetic L3 with its lesion, a needle through the left pedicle: one pole of 10 mm to a pad
(`rf_10`) or both poles on the needle (`osteocool_10`); 1 mm, conductivity that follows temperature,
a generator that holds its target, dose in every voxel and curves at canal and roots. The clock runs
from CT and anatomy to dose; kernels are warm. There is no peer to run beside it.

    python benchmarks/vertebra_rfa.py --threads 2 --repeats 3
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from harness import Problem, main
from trocar.facts.ablation import applicator
from trocar.imaging.bone import read_anatomy
from trocar.model.ablation import AblationPlan, Phase, Placed, ThermalDose
from trocar.model.space import Segment
from trocar.phantom import make
from trocar.simulation.ablation import ablate, ablate_interval

SECONDS, VOXEL_MM = 600.0, 1.0
WARM_UP_S, WITHIN_K = 120.0, 2.0


def scene() -> tuple[Any, Any, Any, dict[str, AblationPlan]]:
    patient = make("vertebra_l3")
    anatomy = read_anatomy(
        patient.ct, patient.site, labels=patient.labels, click_mm=patient.click_mm
    )
    assert anatomy.vertebra is not None
    pedicle = next(i for i in anatomy.vertebra.isthmuses if i.side == "left")
    tip = pedicle.centre_mm + 22.0 * pedicle.direction
    path = Segment(start_mm=pedicle.centre_mm - 45.0 * pedicle.direction, end_mm=tip)
    plans = {
        name: AblationPlan(
            lesion_id="1", site=patient.site,
            applicators=(Placed(device=applicator(name), path=path),),
            phases=(Phase(mode="heat", seconds=SECONDS),), margin_mm=5.0,
        )
        for name in ("rf_10", "osteocool_10")
    }  # fmt: skip
    return patient.ct, anatomy, patient.lesion, plans


def held(
    target_c: float, active_mm: float, dose: ThermalDose, _: Mapping[str, Any]
) -> tuple[bool, str]:
    """The generator holds its target; what died would fill a ball as wide as what heats is long."""
    least_ml = np.pi / 6 * (active_mm / 10) ** 3
    late = dose.surface_c[dose.time_s > WARM_UP_S]
    off = float(np.abs(late - target_c).max())
    return bool(off < WITHIN_K and dose.dead_ml >= least_ml), (
        f"{dose.dead.values.size} voxels, {len(dose.time_s) - 1} steps of the generator; "
        f"{target_c:g} degC held to {off:.1f} K, {dose.dead_ml:.2f} ml dead "
        f"(at least {least_ml:.2f}), {len(dose.structures)} structures"
    )


def run() -> None:
    ct, anatomy, lesion, plans = scene()
    problems = []
    for name, plan in plans.items():
        device = plan.applicators[0].device
        assert device.target_c is not None
        for way, word, most_s in ((ablate, "mean", 30.0), (ablate_interval, "low-mean-high", 90.0)):
            problems.append(
                Problem(
                    name=f"vertebra-rfa {name}, {word}:",
                    ours=partial(way, ct, anatomy, plan, lesion=lesion, voxel_mm=VOXEL_MM),
                    check=partial(held, device.target_c, device.active_mm),
                    target_s=most_s,
                )
            )
    main(problems)


if __name__ == "__main__":
    run()
