"""Read every synthetic patient and compare with its exact truth; writes phantoms.md."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from trocar.imaging.bone import read_anatomy
from trocar.imaging.lesion import find_lesion
from trocar.phantom import NAMES, make

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Synthetic patients: what is read against the truth

Written by `phantoms.py`. Every patient is made with noise and blur, read from its labels and one
click in the lesion. Bars: wall-defect area within 10 %, soft-tissue volume within 5 %, heights
within 0.5 mm, isthmus within 1 mm, lesion Dice at least 0.85.

| patient | seed | quantity | truth | read | difference | bar | |
|---|---|---|---|---|---|---|---|
"""


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two boolean arrays, 0 to 1."""
    return 2 * np.count_nonzero(a & b) / max(np.count_nonzero(a) + np.count_nonzero(b), 1)


def rows(name: str, seed: int) -> list[str]:
    """All comparisons of one patient as table rows."""
    patient = make(name, seed=seed)
    truth, out = patient.truth, []

    def row(what: str, true: float, got: float, bar: float, relative: bool) -> None:
        difference = (got - true) / true if relative else got - true
        text = f"{100 * difference:+.1f} %" if relative else f"{difference:+.2f}"
        limit = f"{100 * bar:.0f} %" if relative else f"{bar:g} mm"
        verdict = "agrees" if abs(difference) <= bar else "**does not**"
        out.append(
            f"| {name} | {seed} | {what} | {true:.2f} | {got:.2f} | {text} | {limit} | {verdict} |"
        )

    clock = time.perf_counter()
    anatomy = read_anatomy(patient.ct, patient.site, labels=patient.labels)
    ct = patient.ct.on(anatomy.grid)
    lesion = find_lesion(ct, anatomy, click_mm=patient.click_mm)
    took = time.perf_counter() - clock
    overlap = dice(lesion.mask.values, patient.lesion.on(anatomy.grid).values)
    verdict = "agrees" if overlap >= 0.85 else "**does not**"
    out.append(
        f"| {name} | {seed} | lesion Dice ({took:.1f} s) | 1 | {overlap:.3f} | | 0.85 | {verdict} |"
    )
    row("lesion ml, from the click", truth.lesion_ml, lesion.volume_ml, 0.10, True)
    given = find_lesion(ct, anatomy, mask=patient.lesion)
    for read, how in ((given, "true mask given"), (lesion, "from the click")):
        for wall, area in truth.defects.items():
            got = sum(d.area_mm2 for d in read.defects if d.wall == wall)
            row(f"{wall} hole mm2, {how}", area, got, 0.10, True)
        extra = sorted({d.wall for d in read.defects} - set(truth.defects))
        if extra:
            out.append(
                f"| {name} | {seed} | false holes, {how} | 0 | {len(extra)} | | "
                f"| {', '.join(extra)} |"
            )
    grown = make(name, seed=seed, soft_tissue=True)
    grown_ct = grown.ct.on(anatomy.grid)
    soft = find_lesion(grown_ct, anatomy, mask=grown.lesion)
    row(
        "soft tissue ml, true mask given",
        grown.truth.soft_tissue_ml,
        soft.soft_tissue_ml,
        0.05,
        True,
    )
    if anatomy.vertebra is not None:
        v = anatomy.vertebra
        for what, true, got in zip(
            ("anterior", "middle", "posterior"),
            truth.heights_mm,
            (v.anterior_mm, v.middle_mm, v.posterior_mm),
        ):
            row(f"{what} height mm", true, got, 0.5, False)
        for got_i in v.isthmuses:
            true_i = truth.isthmuses[got_i.side]
            distance = float(np.linalg.norm(got_i.centre_mm - true_i.centre_mm))
            row(f"{got_i.side} isthmus off by mm", 0.0, distance, 1.0, False)
            row(f"{got_i.side} isthmus width mm", true_i.width_mm, got_i.width_mm, 1.0, False)
    return out


def main() -> None:
    lines = [line for name in NAMES for seed in (0, 1) for line in rows(name, seed)]
    good = sum("agrees" in line for line in lines)
    PAGE.write_text(
        HEAD + "\n".join(lines) + f"\n\n{good} of {len(lines)} rows agree.\n", encoding="utf-8"
    )
    print(f"{good} of {len(lines)} rows agree; see {PAGE.name}")


if __name__ == "__main__":
    main()
