"""`vertebra-rfa`: ten minutes of radiofrequency in a vertebra, and its low, mean and high run.

The synthetic L3, an electrode of 10 mm to a pad at 80 degC through the left pedicle; 1 mm,
conductivity that follows temperature, a generator that holds its target, dose in every voxel and
curves at canal and roots. There is no peer to run beside it.

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

SECONDS = 600.0


def scene() -> tuple[Any, Any, Any, AblationPlan]:
    patient = make("vertebra_l3")
    anatomy = read_anatomy(
        patient.ct, patient.site, labels=patient.labels, click_mm=patient.click_mm
    )
    assert anatomy.vertebra is not None
    pedicle = next(i for i in anatomy.vertebra.isthmuses if i.side == "left")
    tip = pedicle.centre_mm + 22.0 * pedicle.direction
    path = Segment(start_mm=pedicle.centre_mm - 45.0 * pedicle.direction, end_mm=tip)
    plan = AblationPlan(
        lesion_id="1", site=patient.site,
        applicators=(Placed(device=applicator("rf_10"), path=path),),
        phases=(Phase(mode="heat", seconds=SECONDS),), margin_mm=5.0,
    )  # fmt: skip
    return patient.ct, anatomy, patient.lesion, plan


def held(dose: ThermalDose, _: Mapping[str, Any]) -> tuple[bool, str]:
    """The generator holds its target, and what died is more than a millilitre."""
    late = dose.surface_c[dose.time_s > 120]
    off = float(np.abs(late - 80.0).max())
    text = (
        f"{dose.dead.values.size} voxels, {len(dose.time_s)} looks; target held to {off:.1f} K, "
        f"{dose.dead_ml:.1f} ml dead, {len(dose.structures)} structures"
    )
    return bool(off < 2.0 and dose.dead_ml > 1.0), text


if __name__ == "__main__":
    ct, anatomy, lesion, plan = scene()
    main(
        [
            Problem(
                name="vertebra-rfa",
                ours=partial(ablate, ct, anatomy, plan, lesion=lesion),
                check=held,
                target_s=30.0,
            ),
            Problem(
                name="vertebra-rfa-3",
                ours=partial(ablate_interval, ct, anatomy, plan, lesion=lesion),
                check=held,
                target_s=90.0,
            ),
        ]
    )
