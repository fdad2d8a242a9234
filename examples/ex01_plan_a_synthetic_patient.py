"""Plan a synthetic patient from Python and read the numbers off the plan.

Run: python examples/ex01_plan_a_synthetic_patient.py [folder]
"""

from __future__ import annotations

import sys

from trocar import plan_lesion, write_case
from trocar.phantom import make
from trocar.phantom.files import as_scan


def main(folder: str = "trocar-out") -> None:
    patient = make("vertebra_l3", seed=7, defects=("posterior wall",))
    planned = plan_lesion(
        as_scan(patient),
        patient.site,
        labels=patient.labels,
        click_mm=patient.click_mm,
        case_id="Example 1",
    )

    lesion = planned.lesion
    print(f"{planned.plan.site}: {lesion.kind} lesion of {lesion.volume_ml:.1f} ml")
    print(f"truth of the synthetic patient: {patient.truth.lesion_ml:.1f} ml")
    for defect in lesion.defects:
        print(f"hole in the {defect.wall}: {defect.area_mm2:.0f} mm2")

    for number, needle in enumerate(planned.plan.options, start=1):
        worst = needle.worst
        assert worst is not None
        print(
            f"{number}. {needle.route}: {needle.needle.gauge} G, {needle.depth_mm:.0f} mm deep, "
            f"tightest {worst.structure.replace('_', ' ')} {worst.distance_mm:.1f} mm"
        )
    for refusal in planned.plan.refusals:
        print(f"no {refusal.route}: {refusal.reason}")

    files = write_case(folder, planned)
    print(f"sheet: {files['sheet']}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
