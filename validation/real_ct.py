"""Plan on real CT and write down what came out; needs the development data, writes real_ct.md."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from trocar import pathway
from trocar.io.volumes import read_labels, read_mask, read_scan
from trocar.model.case import Site
from trocar.model.space import Float, Grid, Labels, Mask

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("TROCAR_DATA", HERE.parents[1] / "shared" / "data"))
HEAD = """# Real CT

Written by `real_ct.py` on the development data beside the checkout (described in its own README;
labels of sets 01 and 03 were made by a neural network and are plausible, not truth). People in
these images are real; nothing of them is in this repository.

"""

# Points inside cancellous bone, found by eye (LPS mm of the files).
INSIDE_MM = {
    "07_hemipelvis_sts007 ilium right": (-66.0, 80.0, -616.0),
    "08_hip_sts044 femur right": (-114.3, 10.7, -765.2),
    "08_hip_sts044 acetabulum right": (-63.5, 15.6, -706.3),
}


def ball(grid: Grid, centre_mm: Float, radius_mm: float) -> Mask:
    """A ball that stands for a lesion where the CT shows none."""
    points = grid.to_world(np.indices(grid.shape).transpose(1, 2, 3, 0))
    return Mask(grid=grid, values=np.linalg.norm(points - centre_mm, axis=-1) <= radius_mm)


def plan_row(name: str, planned: pathway.Planned, seconds: float) -> str:
    """One line about a plan."""
    plan, best = planned.plan, planned.plan.best
    if best is None:
        reasons = "; ".join(f"{r.route}: {r.reason}" for r in plan.refusals)
        return f"| {name} | {plan.site} | none: {reasons} | | | {seconds:.0f} |"
    near = ", ".join(
        f"{m.structure.replace('_', ' ')} {m.distance_mm:.1f}"
        for m in sorted(best.margins, key=lambda m: m.distance_mm - m.required_mm)[:3]
    )
    missing = ", ".join(m.replace("_", " ") for m in planned.anatomy.missing) or "nothing"
    return (
        f"| {name} | {plan.site} | {len(plan.options)} options; {best.route}, "
        f"{best.needle.gauge} G, {best.depth_mm:.0f} mm deep | {near} | {missing} | {seconds:.0f} |"
    )


def lesion_section() -> list[str]:
    """Set 04: the drawn lesion from clicks all over it."""
    folder = DATA / "04_l1_lytic_cement_semisynthetic"
    scan = read_scan(folder / "pre_ct.nii.gz")
    grid = scan.volume.grid
    labels = read_labels(
        folder / "labels.nii.gz", names=DATA / "03_t9_l3_lidc0001" / "structures.csv", like=grid
    )
    names = {1: "lesion", 2: "filled lesion"}
    truth = read_labels(folder / "truth_labels.nii.gz", names=names, like=grid).mask(
        *names.values()
    )
    points = truth.points_mm()
    centre = truth.centroid_mm
    order = np.argsort(np.linalg.norm(points - centre, axis=1))
    lines = [
        "## Lesion of set 04 from one click (truth 5.343 ml, posterior wall breached)\n",
        "| click, mm from the centre | volume ml | off by | Dice | wall defects | s |",
        "|---|---|---|---|---|---|",
    ]
    for share in (0.0, 0.25, 0.5):
        click = points[order[int(share * (len(order) - 1))]]
        clock = time.perf_counter()
        planned = pathway.plan_lesion(scan, Site.parse("L1"), labels=labels, click_mm=click)
        took = time.perf_counter() - clock
        lesion = planned.lesion
        found = lesion.mask.values
        true = truth.on(lesion.mask.grid).values
        dice = 2 * np.count_nonzero(found & true) / (found.sum() + true.sum())
        walls = "; ".join(f"{d.wall} {d.area_mm2:.0f} mm²" for d in lesion.defects) or "none"
        off = 100 * (lesion.volume_ml / 5.343 - 1)
        lines.append(
            f"| {np.linalg.norm(click - centre):.1f} | {lesion.volume_ml:.2f} | {off:+.1f} % "
            f"| {dice:.3f} | {walls} | {took:.0f} |"
        )
        if share == 0.0:
            first = plan_row("04", planned, took)
    return [*lines, "", *PLAN_HEAD, first]


PLAN_HEAD = [
    "## Plans\n",
    "| set | site | best needle | three tightest margins, mm | not identified | s |",
    "|---|---|---|---|---|---|",
]


def spine_rows() -> list[str]:
    """Set 03: healthy L1 and L2 into a ball; set 01: L3, both hips beside the nail."""
    rows = []
    for name, ct, labels_file, names, sites in (
        ("03", "03_t9_l3_lidc0001/ct.nii.gz", "03_t9_l3_lidc0001/labels.nii.gz",
         "03_t9_l3_lidc0001/structures.csv", ("L1", "T11")),
        ("01", "01_lumbar_pelvis_totalseg/ct.nii.gz",
         "01_lumbar_pelvis_totalseg/labels_total.nii.gz",
         "01_lumbar_pelvis_totalseg/labels_total.csv",
         ("L3", "sacrum", "acetabulum left", "femur left", "femur right")),
    ):  # fmt: skip
        scan = read_scan(DATA / ct)
        labels: Labels = read_labels(DATA / labels_file, names=DATA / names, like=scan.volume.grid)
        for text in sites:
            site = Site.parse(text)
            bone = labels.mask(site.bone_label).points_mm()
            inside = bone[bone[:, 1] < np.percentile(bone[:, 1], 35)].mean(axis=0)
            nearest = bone[np.argmin(np.linalg.norm(bone - inside, axis=1))]
            clock = time.perf_counter()
            planned = pathway.plan_lesion(
                scan, site, labels=labels, lesion_mask=ball(scan.volume.grid, nearest, 8.0)
            )
            rows.append(plan_row(name, planned, time.perf_counter() - clock))
    return rows


def pelvis_rows() -> list[str]:
    """Sets 07 and 08 without labels: the classical engine from one click."""
    rows = []
    for key, point in INSIDE_MM.items():
        name, _, text = key.partition(" ")
        scan = read_scan(DATA / name / "dicom_ct_rtstruct.zip")
        clock = time.perf_counter()
        planned = pathway.plan_lesion(
            scan,
            Site.parse(text),
            click_mm=np.asarray(point),
            lesion_mask=ball(scan.volume.grid, np.asarray(point), 8.0),
        )
        rows.append(plan_row(name[:2] + ", no labels", planned, time.perf_counter() - clock))
    return rows


def contour_section() -> list[str]:
    """The published tumour masks against the contours filled here."""
    lines = [
        "\n## RTSTRUCT contours against the published masks\n",
        "| set | ours ml | published ml | voxels that differ |",
        "|---|---|---|---|",
    ]
    for name in ("07_hemipelvis_sts007", "08_hip_sts044"):
        file = DATA / name / "dicom_ct_rtstruct.zip"
        grid = read_scan(file).volume.grid
        ours = read_mask(file, like=grid)
        published = read_mask(DATA / name / "gtv_mask.nii.gz", like=grid)
        differ = int(np.count_nonzero(ours.values != published.values))
        lines.append(f"| {name} | {ours.volume_ml:.2f} | {published.volume_ml:.2f} | {differ} |")
    return lines


def main() -> int:
    if not (DATA / "README.md").is_file():
        print("the development data are not beside the checkout; nothing written")
        return 1
    lines = [*lesion_section(), *spine_rows(), *pelvis_rows(), *contour_section()]
    (HERE / "real_ct.md").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    print("real_ct.md written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
