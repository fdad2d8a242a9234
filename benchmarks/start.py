"""How long until something happens: help, the first result, compiling everything."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST_RESULT = """
import numpy as np
from trocar.kernels import field
ball = np.linalg.norm(np.indices((48, 48, 48)) - 24, axis=0) < 15
print(field.signed_distance(ball, (1.0, 1.0, 1.0)).min())
"""


def seconds(command: list[str], repeats: int = 5, **environment: str) -> float:
    """Best wall time of a command in its own process."""
    best = float("inf")
    for _ in range(repeats):
        clock = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
        best = min(best, time.perf_counter() - clock)
    return best


def main() -> None:
    trocar = str(Path(sys.executable).with_name("trocar"))
    print(f"load {os.getloadavg()[0]:.2f}, python {sys.version.split()[0]}")
    rows = [("trocar --help", seconds([trocar, "--help"]), 0.5)]
    with tempfile.TemporaryDirectory() as cache:
        cold = seconds([trocar, "warmup"], repeats=1, NUMBA_CACHE_DIR=cache)
        rows.append(("compile every kernel, cold (trocar warmup)", cold, 60.0))
        first = seconds([sys.executable, "-c", FIRST_RESULT], NUMBA_CACHE_DIR=cache)
        rows.append(("first result, warm cache (distance map)", first, 1.0))
    for name, took, bar in rows:
        print(f"{name:48} {took:7.2f} s   bar {bar:5.1f} s   {'met' if took <= bar else 'MISSED'}")


if __name__ == "__main__":
    main()
