"""How a simulated ablation leaves trocar: JSON, NIfTI, DICOM Parametric Map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trocar.errors import InputError
from trocar.io.exports import write_json
from trocar.io.formats import write_labels, write_volume
from trocar.io.parametric import write_parametric_map
from trocar.model.ablation import AblationPlan, ThermalDose
from trocar.model.result import Run, Scan
from trocar.model.space import Labels, Volume

ABLATION_FORMAT = "trocar ablation 1"  # raised when a reader of ablation.json would have to change


def write_ablation(
    folder: str | Path,
    *,
    scan: Scan,
    plan: AblationPlan,
    dose: ThermalDose,
    alternatives: Sequence[tuple[str, AblationPlan, ThermalDose]] = (),
    run: Run | None = None,
) -> dict[str, Path]:
    """Writes an ablation plan and its thermal dose; returns the files by name.

    ``ablation`` ablation.json (plan, rules, dose by structure, curves, protections that were
    computed); ``peak`` (or ``lowest`` for ice) temperature_c.nii.gz; ``dose`` cem43_min.nii.gz;
    ``died`` died_s.nii.gz, when each voxel died (-1: never); ``dead`` dead.nii.gz. A scan that came
    as DICOM also gets temperature.dcm and, for heat, dose.dcm (Parametric Maps; ablation.json says
    why when they are left out). ``alternatives`` are changes in words with their plan and dose.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    extreme = dose.peak_c if dose.heats else dose.lowest_c
    died = Volume(
        grid=dose.dead_s.grid, values=np.nan_to_num(dose.dead_s.values, nan=-1.0), unit="s"
    )
    files = {
        "temperature": write_volume(place / "temperature_c.nii.gz", extreme),
        "died": write_volume(place / "died_s.nii.gz", died),
        "dead": write_labels(
            place / "dead.nii.gz",
            Labels(
                grid=dose.dead.grid, values=dose.dead.values.astype(np.uint8), names={1: "dead"}
            ),
        ),
    }
    if dose.heats:
        files["dose"] = write_volume(place / "cem43_min.nii.gz", dose.cem43_min)
    left_out = _write_dicom(place, files, scan, dose, extreme)
    content: dict[str, Any] = {
        "format": ABLATION_FORMAT,
        "world": "LPS, millimetres",
        "scan": {"name": scan.name, "sha256": scan.sha256},
        "plan": plan,
        "dose": dose,
        "verdict": dose.verdict,
        "alternatives": [
            {
                "change": text,
                "phases": changed.phases,
                "protections": changed.protections,
                "applicators": changed.applicators,
                "verdict": after.verdict,
                "lesion_covered": after.lesion_covered,
                "structures": after.structures,
            }
            for text, changed, after in alternatives
        ],
        "files": {name: path.name for name, path in files.items()},
        "not_written": left_out,
        "run": run,
    }
    files["ablation"] = write_json(place / "ablation.json", content)
    return files


def _write_dicom(
    place: Path, files: dict[str, Path], scan: Scan, dose: ThermalDose, extreme: Volume
) -> dict[str, str]:
    """The Parametric Maps, added to ``files``; and why one was left out."""
    wanted = [("temperature map", "temperature.dcm", extreme, "Highest temperature")]
    if dose.heats:
        wanted.append(("dose map", "dose.dcm", dose.cem43_min, "Minutes at 43 degC"))
    else:
        wanted[0] = ("temperature map", "temperature.dcm", extreme, "Lowest temperature")
    if not scan.source:
        why = "the CT did not come as DICOM, and a DICOM object must refer to its images"
        return {file: why for _, file, _, _ in wanted}
    out = {}
    for name, file, volume, what in wanted:
        try:
            write_parametric_map(
                place / file, volume, scan.source, label=file.removesuffix(".dcm"), description=what
            )
            files[name] = place / file
        except InputError as error:
            (place / file).unlink(missing_ok=True)
            out[file] = str(error)
    return out
