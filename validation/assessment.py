"""Find cement in random synthetic cases with known truth and write down what came out.

    python validation/assessment.py [--cases 50] [--fresh 20] [--keep rows.json]

The cases are those of the tests (``tests/assessment/conftest.py``); fresh ones, on which nothing was
tuned, have seeds from 1000 on. Real CT need the development data and are left out without it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trocar.assessment import find_cement, register
from trocar.imaging.bone import read_anatomy
from trocar.io.volumes import read_labels, read_scan
from trocar.model.case import Site
from trocar.model.space import Grid
from trocar.phantom import cement

HERE = Path(__file__).resolve().parent
FRESH = 1000  # seeds from here on were never looked at while the reading was made
HEAD = """# Cement on a CT

Written by `assessment.py`: a lumbar phantom before and after cement, with noise, blur, cupping,
streaks, slices of 1 to 3 mm, moved by up to 5 mm and 5 degrees, 0 to 3 leaks.

"""


def cases() -> Any:
    """The random cases of the tests."""
    file = HERE.parent / "tests" / "assessment" / "conftest.py"
    spec = importlib.util.spec_from_file_location("assessment_cases", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["assessment_cases"] = module
    spec.loader.exec_module(module)
    return module


def measure(drawn: Any, seed: int, how: str) -> dict[str, Any]:
    """One case, read with the CT before or ("alone") from the CT afterwards by itself."""
    planned, case = drawn.before(), drawn.case(seed)
    if how == "alone":
        patient, pose = planned.patient, case.post.pose
        labels, lesion = (
            moved(v, pose, case.post.ct.grid) for v in (patient.labels, patient.lesion)
        )
        anatomy = read_anatomy(case.post.ct, patient.site, labels=labels, lesion=lesion)
        fill = find_cement(case.post.ct, anatomy, lesion=lesion.on(anatomy.grid), lesion_id="a")
    else:
        fill = find_cement(
            case.post.ct,
            planned.anatomy,
            lesion=planned.lesion,
            pre=planned.ct,
            lesion_id="a",
            needle_tracks=case.tracks,
        )
    s = drawn.score(case, fill)
    return {
        "how": how,
        "seed": seed,
        "dice": s.dice,
        "vol": s.volume_error,
        "ins": bool(s.inside_interval),
        "err": s.error_mm,
        "found": [bool(x) for x in s.found],
        "placed": [bool(x) for x in s.placed],
        "where": list(s.where),
        "spur": list(s.spurious),
    }


def moved(drawn: Any, pose: Any, grid: Grid) -> Any:
    """Labels or a mask of the patient before, as they lie after the move."""
    own = drawn.grid
    there = replace(drawn, grid=Grid(shape=own.shape, affine=pose @ own.affine, frame=grid.frame))
    return there.on(grid)


def known_move(drawn: Any) -> list[dict[str, Any]]:
    """5 mm and 5 degrees in four directions, nothing else but noise: how well are they found?"""
    planned = drawn.before()
    patient = planned.patient
    bone = patient.labels.mask(patient.site.bone_label)
    out = []
    for k, (way, axis) in enumerate((((1, 0, 0), (0, 0, 1)), ((0, 1, 0), (1, 0, 0)),
                                     ((0, 0, 1), (0, 1, 0)), ((1, 1, 1), (1, -1, 1)))):  # fmt: skip
        shift, turn = (5 * np.array(v) / np.linalg.norm(v) for v in (way, axis))
        pose = cement.turned(bone.centroid_mm, turn, shift)
        grid = cement.scan_grid(patient, (1.0, 0.8, 0.8), room_mm=24.0)
        mass = cement.within(cement.ball(patient, patient.lesion.centroid_mm, (9, 9, 9)), bone)
        post = cement.inject(patient, {"in bone": mass}, grid, pose=pose, seed=50 + k)
        found = register(planned.ct, post.ct, planned.anatomy)[0].transform
        rest = np.linalg.inv(pose) @ found
        points = bone.centroid_mm
        angle = np.degrees(np.arccos(np.clip((np.trace(rest[:3, :3]) - 1) / 2, -1, 1)))
        gap = float(np.linalg.norm(rest[:3, :3] @ points + rest[:3, 3] - points))
        out.append({"shift": shift.round(1).tolist(), "turn": turn.round(1).tolist(),
                    "gap_mm": gap, "angle_deg": float(angle)})  # fmt: skip
    return out


def real(data: Path) -> list[str]:
    """Table rows of the real CT: set 04 and those without cement."""
    names = data / "03_t9_l3_lidc0001" / "structures.csv"
    folder = data / "04_l1_lytic_cement_semisynthetic"
    pre, post = (read_scan(folder / f"{n}_ct.nii.gz").volume for n in ("pre", "post"))
    labels = read_labels(folder / "labels.nii.gz", names=names, like=pre.grid)
    drawn = read_labels(
        folder / "truth_labels.nii.gz",
        names={1: "lesion", 2: "cement", 3: "canal", 4: "vein", 5: "track"},
        like=pre.grid,
    )
    lesion = drawn.mask("lesion", "cement")
    anatomy = read_anatomy(pre, Site.parse("L1"), labels=labels, lesion=lesion)
    rows = []

    def row(what: str, bar: str, got: str, good: bool) -> None:
        rows.append(f"| {what} | {bar} | {got} | {'met' if good else '**not met**'} |")

    ml = 4.1527  # as its README prints
    wanted = {"epidural or canal", "segmental or paravertebral vein", "needle track"}
    fill = find_cement(post, anatomy, lesion=lesion, pre=pre, lesion_id="a")
    error = 100 * (fill.volume_ml / ml - 1)
    row("set 04, CT before and after: volume", "within 5 %", f"{error:+.1f} %", abs(error) <= 5)
    got = {k.compartment for k in fill.leaks}
    row("set 04: its three leaks in their compartments", "3 of 3 and no other",
        f"{len(got & wanted)} of 3, {len(got - wanted)} others", got == wanted)  # fmt: skip
    alone = find_cement(
        post, read_anatomy(post, Site.parse("L1"), labels=labels, lesion=lesion), lesion=lesion
    )
    error = 100 * (alone.volume_ml / ml - 1)
    row("set 04, CT after alone: volume", "within 10 %", f"{error:+.1f} %", abs(error) <= 10)
    ct = read_scan(data / "14_thoracic_metal_contrast_totalseg" / "ct.nii.gz").volume
    inside = np.array([-7.2, -113.2, 675.2])
    thorax = read_anatomy(ct, Site.parse("T9"), click_mm=inside)
    found = find_cement(ct, thorax).volume_ml
    row("set 14 (stent, wires, contrast), T9", "nothing", f"{found:.2f} ml", found == 0)
    folder = data / "01_lumbar_pelvis_totalseg"
    ct = read_scan(folder / "ct.nii.gz").volume
    labels = read_labels(
        folder / "labels_total.nii.gz", names=folder / "labels_total.csv", like=ct.grid
    )
    for site in ("femur left", "L3", "acetabulum left", "sacrum"):
        found = find_cement(ct, read_anatomy(ct, Site.parse(site), labels=labels)).volume_ml
        row(f"set 01 (nail), {site}", "nothing", f"{found:.2f} ml", found == 0)
    return rows


def table(rows: Sequence[dict[str, Any]], volume_bar: float) -> list[str]:
    """What a group of cases gave, each line beside its bar."""
    dice = np.array([r["dice"] for r in rows])
    vol = 100 * np.array([r["vol"] for r in rows])
    error = np.array([r["err"] for r in rows])
    seeds = [r["seed"] for r in rows]
    found = [x for r in rows for x in r["found"]]
    placed = [x for r in rows for x in r["placed"]]
    v, d = int(abs(vol).argmax()), int(dice.argmin())
    alone = bool(np.isnan(error).all())
    lines = [
        f"{len(rows)} cases, seeds {min(seeds)} to {max(seeds)}.",
        "",
        "| | bar | median | worst (seed) | cases that miss |",
        "|---|---|---|---|---|",
        f"| volume error, % | within {volume_bar:g} | {np.median(vol):+.2f} "
        f"| {vol[v]:+.2f} ({seeds[v]}) | {(abs(vol) > volume_bar).sum()} |",
        f"| Dice | {'none set' if alone else '>= 0.95'} | {np.median(dice):.3f} "
        f"| {dice[d]:.3f} ({seeds[d]}) | {'-' if alone else (dice < 0.95).sum()} |",
    ]
    if not alone:
        e = int(error.argmax())
        lines.append(
            f"| registration at the bone, mm | < 0.3 | {np.median(error):.3f} "
            f"| {error[e]:.3f} ({seeds[e]}) | {(error >= 0.3).sum()} |"
        )
    wrong = [f"- seed {r['seed']}: {w}" for r in rows for w in r["where"] if "->" in w]
    lines += [
        "",
        f"Leaks of 0.1 ml or more: {sum(found)} of {len(found)} found, {sum(placed)} of "
        f"{len(placed)} in their compartment. Leaks where none was drawn: "
        f"{sum(len(r['spur']) for r in rows)}. True volume inside the stated interval: "
        f"{sum(r['ins'] for r in rows)} of {len(rows)}.",
        "",
        *wrong,
        "",
    ]
    return lines


def page(
    rows: Sequence[dict[str, Any]], moves: Sequence[dict[str, Any]], real_rows: Sequence[str]
) -> str:
    """The whole page."""
    groups = (
        ("With the CT before", [r for r in rows if r["how"] == "pair" and r["seed"] < FRESH], 3.0),
        ("Fresh cases, with the CT before",
         [r for r in rows if r["how"] == "pair" and r["seed"] >= FRESH], 3.0),
        ("The CT afterwards alone", [r for r in rows if r["how"] == "alone"], 10.0),
    )  # fmt: skip
    lines = []
    for title, some, bar in groups:
        if some:
            lines += [f"## {title}", "", *table(some, bar)]
    lines += [
        "## A known move of 5 mm and 5 degrees",
        "",
        "| shift, mm | turn, degrees | left over, mm | left over, degrees | bar 0.3 and 0.3 |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {m['shift']} | {m['turn']} | {m['gap_mm']:.3f} | {m['angle_deg']:.3f} | "
        f"{'met' if max(m['gap_mm'], m['angle_deg']) <= 0.3 else '**not met**'} |"
        for m in moves
    ]
    lines += ["", "## Real CT", "", "| what | bar | found | |", "|---|---|---|---|"]
    lines += real_rows or ["| left out: the development data are not here | | | |"]
    return HEAD + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--fresh", type=int, default=20)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--keep", type=Path, help="a file to keep the rows in and go on from")
    options = parser.parse_args()
    drawn = cases()
    rows: list[dict[str, Any]] = []
    if options.keep and options.keep.exists():
        rows = json.loads(options.keep.read_text())
    done = {(r["how"], r["seed"]) for r in rows}
    seeds = [("pair", s) for s in range(options.cases)]
    seeds += [("pair", FRESH + s) for s in range(options.fresh)]
    seeds += [("alone", s) for s in range(options.cases)]
    for how, seed in seeds:
        if (how, seed) in done:
            continue
        rows.append(measure(drawn, seed, how))
        print(json.dumps(rows[-1]), flush=True)
        if options.keep:
            options.keep.write_text(json.dumps(rows))
    real_rows = real(options.data) if options.data.is_dir() else []
    text = page(rows, known_move(drawn), real_rows)
    (HERE / "assessment.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
