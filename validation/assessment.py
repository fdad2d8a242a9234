"""Find cement in random synthetic cases with known truth and write down what came out.

    python validation/assessment.py [--cases 50] [--first 0]

The cases are those of the tests (``tests/assessment/conftest.py``); ``--first`` draws fresh ones.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trocar.assessment import find_cement

HERE = Path(__file__).resolve().parent
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


def measure(drawn: Any, seed: int) -> dict[str, Any]:
    """One case, read with the CT before."""
    planned, case = drawn.before(), drawn.case(seed)
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


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The whole page."""
    dice = np.array([r["dice"] for r in rows])
    vol = 100 * np.array([r["vol"] for r in rows])
    error = np.array([r["err"] for r in rows])
    seeds = [r["seed"] for r in rows]
    found = [x for r in rows for x in r["found"]]
    placed = [x for r in rows for x in r["placed"]]
    inside = sum(r["ins"] for r in rows)
    spurious = sum(len(r["spur"]) for r in rows)
    v, d, e = int(abs(vol).argmax()), int(dice.argmin()), int(error.argmax())
    lines = [
        f"{len(rows)} cases, seeds {min(seeds)} to {max(seeds)}.",
        "",
        "| | bar | median | worst (seed) | cases that miss |",
        "|---|---|---|---|---|",
        f"| Dice | >= 0.95 | {np.median(dice):.3f} | {dice[d]:.3f} ({seeds[d]}) "
        f"| {(dice < 0.95).sum()} |",
        f"| volume error, % | within 3 | {np.median(vol):+.2f} | {vol[v]:+.2f} ({seeds[v]}) "
        f"| {(abs(vol) > 3).sum()} |",
        f"| registration at the bone, mm | < 0.3 | {np.median(error):.3f} "
        f"| {error[e]:.3f} ({seeds[e]}) | {(error >= 0.3).sum()} |",
        "",
        f"Leaks of 0.1 ml or more: {sum(found)} of {len(found)} found, {sum(placed)} of "
        f"{len(placed)} in their compartment. Leaks where none was drawn: {spurious}. "
        f"True volume inside the stated interval: {inside} of {len(rows)}.",
        "",
        "## What does not agree",
        "",
    ]
    wrong = [f"- seed {r['seed']}: {w}" for r in rows for w in r["where"] if "->" in w]
    lines += wrong or ["- no leak was put in another compartment"]
    lines += [
        "",
        "Not measured on this page: reading without the CT before, other bones, real CT.",
        "",
    ]
    return HEAD + "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "assessment.md")
    options = parser.parse_args()
    drawn = cases()
    rows = []
    for seed in range(options.first, options.first + options.cases):
        rows.append(measure(drawn, seed))
        print(json.dumps(rows[-1]), flush=True)
    options.out.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
