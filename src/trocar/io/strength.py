"""How strength leaves trocar: JSON, NIfTI on the bone's cubes, a DICOM Parametric Map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trocar.errors import InputError
from trocar.io.exports import plain, write_json
from trocar.io.formats import write_volume
from trocar.io.parametric import write_parametric_map
from trocar.model.case import Finding
from trocar.model.result import Run, Scan
from trocar.model.strength import Bearing, Strength

STRENGTH_FORMAT = "trocar strength 1"  # raised when a reader of strength.json would have to change
_MAP = "strain.dcm"


def write_strength(
    folder: str | Path,
    *,
    scan: Scan,
    strength: Strength,
    run: Run | None = None,
    findings: Sequence[Finding] | None = None,
) -> dict[str, Path]:
    """Writes how strong a bone is; returns the files by name. ``findings``: of the reading, too.

    ``strength`` strength.json (each state under each load with low, mean and high, findings, what
    is unknown); ``strain now`` strain_now.nii.gz and so on for each state: the share of the yield
    strain that each voxel uses under the first load; ``modulus`` modulus_now.nii.gz in MPa. Voxels
    are the cubes of the computation, mostly oblique to the CT's. A scan that came as DICOM also
    gets strain.dcm, the Parametric Map of the state ``now`` (strength.json says why when it is left
    out).
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    files = {
        f"strain {state}": write_volume(place / f"strain_{state}.nii.gz", strength.used[state])
        for state in strength.states
    }
    if "now" in strength.modulus_mpa:
        files["modulus"] = write_volume(place / "modulus_now.nii.gz", strength.modulus_mpa["now"])
    left_out = _write_dicom(place, files, scan, strength)
    content: dict[str, Any] = {
        "format": STRENGTH_FORMAT,
        "world": "LPS, millimetres; voxel files on the cubes that were computed",
        "scan": {"name": scan.name, "sha256": scan.sha256},
        "lesion_id": strength.lesion_id,
        "site": str(strength.site),
        "states": strength.states,
        "loads": {b.load: b.label for b in strength.bearings},
        "criteria": list(dict.fromkeys(c for b in strength.bearings for c in b.failure_n)),
        "bearings": [_bearing(b) for b in strength.bearings],
        "bone": strength.bone,
        "grid": strength.bone.grid,
        "voxel_mm": strength.voxel_mm,
        "law": strength.law,
        "calibration": strength.calibration,
        "constants": strength.constants,
        "unknown": strength.unknown,
        "findings": strength.findings if findings is None else findings,
        "files": {name: path.name for name, path in files.items()},
        "not_written": left_out,
        "run": run,
    }
    files["strength"] = write_json(place / "strength.json", content)
    return files


def _bearing(one: Bearing) -> dict[str, Any]:
    """A bearing with the criterion that makes its ratio."""
    told: dict[str, Any] = plain(one)
    return told | {"criterion": one.criterion}


def _write_dicom(
    place: Path, files: dict[str, Path], scan: Scan, strength: Strength
) -> dict[str, str]:
    """The Parametric Map, added to ``files``; or why it was left out."""
    if not scan.source:
        return {_MAP: "the CT did not come as DICOM, and a DICOM object must refer to its images"}
    if "now" not in strength.used:
        return {_MAP: "the bone as it is was not computed"}
    try:
        write_parametric_map(
            place / _MAP, strength.used["now"], scan.source, label="strain",
            description="Share of the yield strain used",
        )  # fmt: skip
    except InputError as error:
        (place / _MAP).unlink(missing_ok=True)
        return {_MAP: str(error)}
    files["strain map"] = place / _MAP
    return {}
