"""The whole way on a full-size CT: 300 slices of 512x512, from file to sheet, time and memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SHAPE, SPACING_MM = (300, 512, 512), (1.0, 0.78, 0.78)


def full_size_ct(folder: Path) -> tuple[Path, Path, str]:
    """A synthetic lumbar patient set into a CT of full size; CT file, label file, click."""
    from trocar.io.volumes import write_labels, write_volume
    from trocar.model.space import Grid, Labels, Volume
    from trocar.phantom import make

    patient = make("vertebra_l3", seed=5)
    centre = patient.ct.grid.centre_mm
    origin = centre - (np.asarray(SHAPE[::-1]) - 1) / 2 * np.asarray(SPACING_MM[::-1])
    grid = Grid.from_spacing(SHAPE, SPACING_MM, origin)
    values = patient.ct.on(grid, outside=-1000.0).values
    rng = np.random.default_rng(0)
    values += rng.normal(0, 5, SHAPE).astype(np.float32)
    ct = Volume(grid=grid, values=np.rint(values).astype(np.int16))
    labels: Labels = patient.labels.on(grid)
    click = ",".join(f"{v:.1f}" for v in patient.click_mm)
    return (
        write_volume(folder / "ct.nii.gz", ct),
        write_labels(folder / "labels.nii.gz", labels),
        click,
    )


def main() -> None:
    trocar = str(Path(sys.executable).with_name("trocar"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ct, labels, click = full_size_ct(folder)
        command = [trocar, "plan", str(ct), "--site", "L3", "--labels", str(labels)]
        command += [f"--lesion={click}", "--out", str(folder / "out"), "--json"]
        clock = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        took = time.perf_counter() - clock
        peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        said = json.loads(done.stdout)
        sheet_mb = Path(said["files"]["sheet"]).stat().st_size / 2**20
        print(f"load {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores, CT {SHAPE} voxels")
        print(f"options {said['options']}, sheet {sheet_mb:.1f} MB")
        print(f"time   {took:6.1f} s   bar 60 s   {'met' if took < 60 else 'MISSED'}")
        print(f"memory {peak_gb:6.2f} GB  bar 6 GB   {'met' if peak_gb < 6 else 'MISSED'}")


if __name__ == "__main__":
    main()
