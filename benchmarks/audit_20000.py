"""Audit a synthetic study of 20 000 lesions: seconds and memory, alone and with counts hidden."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time

from trocar.audit.summary import audit_study
from trocar.phantom.cohort import synthetic_study

BAR_S, BAR_MB = 60.0, 2000.0


def peak_mb() -> float:
    """Most memory this process has held so far."""
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lesions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f}, python {sys.version.split()[0]}")
    clock = time.perf_counter()
    cohort = synthetic_study(asked.lesions, asked.seed)
    rows = sum(len(getattr(cohort.study, t)) for t in ("pain", "visits", "opioids"))
    print(f"study of {asked.lesions} lesions, {rows} scores, visits and opioid lines: "
          f"{time.perf_counter() - clock:.1f} s")  # fmt: skip
    for below in (None, 5):
        clock, spent = time.perf_counter(), time.process_time()
        audit = audit_study(cohort.study, suppress_below=below)
        took, spent = time.perf_counter() - clock, time.process_time() - spent
        name = "audit" if below is None else f"audit, counts below {below} hidden"
        met = took <= BAR_S and peak_mb() <= BAR_MB
        print(f"{name:32} {took:6.1f} s ({spent:.1f} s of one core), peak {peak_mb():.0f} MB; "
              f"bar {BAR_S:.0f} s, {BAR_MB:.0f} MB: {'met' if met else 'MISSED'}")  # fmt: skip
        for row in audit.clusters:
            if below is None and row.lesions is not None and row.outcome in cohort.truth:
                x, n = row.lesions
                print(f"    {row.title:32} {x:6} of {n:6} = {x / n:.4f}, "
                      f"drawn with {cohort.truth[row.outcome]:.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
