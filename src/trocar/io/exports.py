"""How does a plan leave trocar: as JSON, needles for 3D Slicer, labels as NIfTI and DICOM SEG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from trocar import NOTICE, __version__
from trocar.errors import InputError
from trocar.facts import source as facts_source
from trocar.io.formats import write_labels, write_text
from trocar.io.segmentation import write_seg
from trocar.model.case import Finding, Lesion, WallDefect
from trocar.model.plan import Plan, Trajectory
from trocar.model.result import Anatomy, Scan
from trocar.model.space import Grid, Labels, Mask, Segment, Volume

PLAN_FORMAT = 1  # raised when a reader of plan.json would have to change

_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
# One hue per label: steps of the golden angle keep neighbours apart however many there are.
_GOLDEN_TURN = 0.61803398875


def write_plan(folder: str | Path, scan: Scan, anatomy: Anatomy, plan: Plan) -> dict[str, Path]:
    """Writes what a plan says in forms other programs read; returns the files by name.

    ``plan`` plan.json, every number with its unit in the key; ``needles`` needles.mrk.json, one
    Line from entry to target each, LPS; ``labels`` labels.nii.gz with ``names`` labels.json on the
    grid of the CT; ``seg`` labels.dcm, a DICOM SEG, only when the CT came as DICOM images it can
    refer to (plan.json says why when it is left out). Each file is written whole or not at all.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    labels = plan_labels(scan.volume.grid, anatomy, plan)
    files = {"needles": write_needles(place / "needles.mrk.json", plan)}
    files["labels"] = write_labels(place / "labels.nii.gz", labels)
    files["names"] = write_text(place / "labels.json", _dump(_label_table(labels)))
    note = _write_seg(place / "labels.dcm", scan, labels)
    if note is None:
        files["seg"] = place / "labels.dcm"
    content = plan_content(scan, anatomy, plan)
    content["files"] = {name: path.name for name, path in files.items()}
    content["not_written"] = {} if note is None else {"labels.dcm": note}
    files["plan"] = write_text(place / "plan.json", _dump(content))
    return files


def plan_content(scan: Scan, anatomy: Anatomy, plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values: the record faithfully, with what a reader would derive."""
    return {
        "notice": NOTICE,
        "format": f"trocar plan {PLAN_FORMAT}",
        "version": __version__,
        "world": "LPS, millimetres",
        "case_id": plan.case_id,
        "site": str(plan.site),
        "scan": {
            "name": scan.name,
            "sha256": scan.sha256,
            "series_uid": scan.series_uid,
            "kvp": scan.kvp,
            "kernel": scan.kernel,
            "contrast": scan.contrast,
            "grid": plain(scan.volume.grid),
            "findings": plain(scan.findings),
        },
        "anatomy": {
            "structures_ml": {name: mask.volume_ml for name, mask in anatomy.structures.items()},
            "bone_ml": anatomy.bone.volume_ml,
            "missing": list(anatomy.missing),
            "sources": plain(anatomy.sources),
            "confidence": plain(anatomy.confidence),
            "vertebra": plain(anatomy.vertebra),
            "calibration": plain(anatomy.calibration),
            "findings": plain(anatomy.findings),
        },
        "lesion": plain(plan.lesion),
        "needles": [plain(option) for option in plan.options],
        "needle_sets": plain(plan.sets),
        "searched": plan.searched,
        "refusals": plain(plan.refusals),
        "findings": plain(plan.findings),
        "facts": facts_source.versions(),
        "run": plain(plan.run),
    }


def plain(value: Any) -> Any:
    """A record as JSON values: voxels become counts and volumes, findings sentences, NaN null."""
    if value is None or (isinstance(value, (bool, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if isfinite(value) else None
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, Path):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return _record(value)
    raise TypeError(f"{type(value).__name__} has no plain form")


def _record(value: Any) -> Any:
    if isinstance(value, Grid):
        return {
            "shape": list(value.shape),
            "spacing_mm": list(value.spacing_mm),
            "index_to_lps_mm": value.affine.tolist(),
            "frame": value.frame,
        }
    if isinstance(value, Mask):
        centre = None if value.is_empty else plain(value.centroid_mm)
        return {"voxels": value.voxels, "volume_ml": value.volume_ml, "centre_mm": centre}
    if isinstance(value, (Volume, Labels)):
        return {"grid": _record(value.grid)}
    if isinstance(value, Finding):
        return {
            "gravity": value.gravity.value,
            "text": str(value),
            "message": value.message,
            "values": plain(value.values),
        }
    held = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, WallDefect):
        del held["points_mm"]  # hundreds of them; area, centre and extent say it
    # A record may carry the function that judged it; its result is here, the code is not.
    out = {name: plain(v) for name, v in held.items() if not callable(v)}
    return out | {name: plain(getattr(value, name)) for name in _derived(value)}


def _derived(value: Any) -> tuple[str, ...]:
    """Properties a reader of the file should not have to work out."""
    if isinstance(value, Trajectory):
        return ("depth_mm", "gantry", "c_arm", "verdict")
    if isinstance(value, Lesion):
        return ("centre_mm",)
    return ("verdict",) if hasattr(value, "required_mm") else ()


def write_json(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Writes records as one JSON object, with the notice first; whole or not at all."""
    told = {"notice": NOTICE, "version": __version__, **plain(content)}
    return write_text(Path(path), _dump(told))


def _dump(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


# --- needles ------------------------------------------------------------------------------------


def write_needles(path: str | Path, plan: Plan) -> Path:
    """Writes the needles as 3D Slicer markups: one Line each, entry first, then target, LPS mm."""
    lines = [_line(k, option) for k, option in enumerate(plan.options, start=1)]
    return write_text(path, _dump({"@schema": _MARKUPS_SCHEMA, "markups": lines}))


def _line(number: int, option: Trajectory) -> dict[str, Any]:
    ends = (("entry", option.entry_mm), ("target", option.target_mm))
    return {
        "type": "Line",
        "name": f"needle {number} {option.route}",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "labelFormat": "%N-%d",
        "controlPoints": [
            {
                "id": str(k),
                "label": f"{number} {label}",
                "description": f"{option.needle}",
                "position": plain(np.asarray(point, dtype=np.float64)),
                "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
                "selected": True,
                "locked": True,
                "visibility": True,
                "positionStatus": "defined",
            }
            for k, (label, point) in enumerate(ends, start=1)
        ],
    }


def read_needles(path: str | Path) -> tuple[Segment, ...]:
    """Needles from a Slicer markups file, entry to target, in LPS mm whichever way they are stored.

    Raises InputError for a file that is no markups JSON or holds a Line without two points.
    """
    place = Path(path)
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        lines = [m for m in content["markups"] if m["type"] == "Line"]
        return tuple(_segment(line) for line in lines)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{place.name} is not a Slicer markups file with lines of two points ({error})"
        ) from error


def _segment(line: Mapping[str, Any]) -> Segment:
    points = [np.array(p["position"], dtype=np.float64) for p in line["controlPoints"][:2]]
    # Old files may be in RAS; without a word Slicer means LPS since 2020.
    turn = np.array([-1.0, -1.0, 1.0]) if line.get("coordinateSystem") == "RAS" else np.ones(3)
    return Segment(start_mm=points[0] * turn, end_mm=points[1] * turn)


# --- labels -------------------------------------------------------------------------------------


def plan_labels(grid: Grid, anatomy: Anatomy, plan: Plan) -> Labels:
    """Lesion, structures and bone as one label map on the CT's grid.

    Where they overlap the lesion wins over a structure and a structure over the treated bone;
    of two structures the smaller one wins, so that nothing narrow disappears.
    """
    own = anatomy.grid
    values = np.zeros(own.shape, np.uint8)
    named = [("bone", anatomy.bone)]
    by_size = sorted(anatomy.structures.items(), key=lambda pair: -pair[1].voxels)
    named += [(name, mask) for name, mask in by_size if not mask.is_empty]
    named += [("lesion", plan.lesion.mask)]
    if len(named) > 255:
        raise InputError(f"{len(named)} regions do not fit into one label map; name fewer than 256")
    names = {}
    for number, (name, mask) in enumerate(named, start=1):
        # The lesion is 1 and the bone 2, so that a viewer shows the same colours for every patient.
        number = {"lesion": 1, "bone": 2}.get(name, number + 1)
        names[number] = name
        values[mask.on(own).values] = number
    return Labels(grid=grid, values=_embed(values, own, grid), names=names)


def _embed(values: Any, own: Grid, grid: Grid) -> Any:
    """The values of a crop put back where they belong in the whole grid."""
    start = np.rint(grid.to_index(own.to_world([0, 0, 0]))).astype(int)
    box = tuple(slice(int(a), int(a) + n) for a, n in zip(start, own.shape))
    inside = all(s.start >= 0 and s.stop <= n for s, n in zip(box, grid.shape))
    if inside and grid.crop((box[0], box[1], box[2])).matches(own):
        whole = np.zeros(grid.shape, values.dtype)
        whole[box] = values
        return whole
    return Labels(grid=own, values=values).on(grid).values


def _label_table(labels: Labels) -> dict[str, Any]:
    return {
        "notice": NOTICE,
        "labels": [
            {"id": number, "name": name, "color": _colour(number)}
            for number, name in sorted(labels.names.items())
        ],
    }


def _colour(number: int) -> list[int]:
    """Red, green, blue (0-255): the lesion red, the bone ivory, others along the golden angle."""
    from colorsys import hsv_to_rgb

    fixed = {1: [214, 39, 40], 2: [241, 230, 200]}
    rgb = hsv_to_rgb((number * _GOLDEN_TURN) % 1.0, 0.65, 0.9)
    return fixed.get(number, [round(255 * v) for v in rgb])


def _write_seg(path: Path, scan: Scan, labels: Labels) -> str | None:
    """Writes the DICOM SEG, or says why there is none."""
    if not scan.source:
        return (
            "the CT did not come as DICOM, and a DICOM SEG must refer to the images it was drawn on"
        )
    part = path.with_name(f".{path.name}")
    try:
        write_seg(part, labels, scan.source)
        part.replace(path)
    except InputError as error:
        return str(error)
    finally:
        part.unlink(missing_ok=True)
    return None
