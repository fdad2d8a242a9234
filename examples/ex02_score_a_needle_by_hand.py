"""Score a needle drawn by hand with the code that scores the automatic ones, then spoil it.

Run: python examples/ex02_score_a_needle_by_hand.py
"""

from __future__ import annotations

import numpy as np

from trocar import find_lesion, find_paths, read_anatomy, score_path
from trocar.facts.products import needle
from trocar.phantom import make
from trocar.planning.routes import routes_for


def main() -> None:
    patient = make("vertebra_l3", seed=2)
    anatomy = read_anatomy(patient.ct, patient.site, labels=patient.labels)
    ct = patient.ct.on(anatomy.grid)
    lesion = find_lesion(ct, anatomy, click_mm=patient.click_mm)

    best = find_paths(ct, anatomy, lesion, count=1).options[0]
    route = next(r for r in routes_for(patient.site) if r.name == best.route)
    print(f"automatic: {best.route}, verdict {best.verdict.value}")

    # The same needle pushed step by step towards the midline, until it must turn red.
    towards_midline = anatomy.axes.origin_mm - best.entry_mm
    towards_midline = np.sign(towards_midline @ anatomy.axes.left) * anatomy.axes.left
    for shift_mm in (0.0, 3.0, 6.0, 9.0):
        shift = shift_mm * towards_midline
        moved = score_path(
            anatomy,
            lesion,
            entry_mm=best.entry_mm + shift,
            target_mm=best.target_mm + shift,
            needle=needle(11, 125.0),
            route=route,
        )
        canal = next(m for m in moved.margins if m.structure == "spinal_canal")
        print(
            f"moved {shift_mm:.0f} mm to the midline: canal {canal.distance_mm:.1f} mm, "
            f"verdict {moved.verdict.value}"
        )


if __name__ == "__main__":
    main()
