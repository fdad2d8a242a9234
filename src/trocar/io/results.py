"""How results on cement leave trocar and come back: JSON, fractions as NIfTI, DICOM SEG and SR."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trocar.errors import InputError
from trocar.io.exports import plain, write_json
from trocar.io.formats import read_volume, write_labels, write_volume
from trocar.io.measurements import write_measurements
from trocar.io.segmentation import write_seg
from trocar.model.case import Site
from trocar.model.plan import CementPlan
from trocar.model.result import CementLeak, Fill, Injection, LeakForecast, Run, Scan
from trocar.model.space import Grid, Labels, Mask, Segment, Volume

CEMENT_FORMAT = "trocar cement 1"  # raised when a reader of cement.json would have to change
RESULT_FORMAT = "trocar result 1"
_IN_BONE = "cement in bone"
_STEPS_ML = 40  # of the curve of safe millilitres


def write_cement_plan(
    folder: str | Path,
    *,
    plan: CementPlan,
    injection: Injection,
    forecast: LeakForecast | None = None,
    run: Run | None = None,
) -> dict[str, Path]:
    """Writes a cement plan and what was simulated of it; returns the files by name.

    ``cement`` cement.json (plan, rules, events, curve over time, chance of a leak by compartment
    and volume, heat); ``predicted`` predicted.nii.gz, the share of each voxel that is cement;
    ``order`` order.nii.gz, how many ml were in when a voxel filled (-1: never); ``reached`` the
    share of forecast runs that reach a voxel; ``leaks`` predicted_leaks.nii.gz with its names.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    fill = injection.fill
    files = {"predicted": write_volume(place / "predicted.nii.gz", fill.fraction)}
    order = np.nan_to_num(injection.order_ml.values.astype(np.float32), nan=-1.0)
    grid = injection.order_ml.grid
    files["order"] = write_volume(place / "order.nii.gz", Volume(grid=grid, values=order))
    files["leaks"] = write_labels(
        place / "predicted_leaks.nii.gz", _leak_labels(fill, fill.fraction.grid)
    )
    if forecast is not None:
        files["reached"] = write_volume(place / "reached.nii.gz", forecast.reached)
    content = {
        "format": CEMENT_FORMAT,
        "world": "LPS, millimetres",
        "plan": plan,
        "target_ml": plan.target_ml,
        "verdict": plan.verdict,
        "injection": injection,
        "safe_ml": None if forecast is None else _chances(forecast),
        "forecast": forecast,
        "files": {name: path.name for name, path in files.items()},
        "run": run,
    }
    files["cement"] = write_json(place / "cement.json", content)
    return files


def _chances(forecast: LeakForecast) -> dict[str, Any]:
    """The curve of safe millilitres as numbers: chance of a leak against injected volume."""
    at = np.linspace(0.0, forecast.volume_ml, _STEPS_ML + 1)
    return {
        "injected_ml": at,
        "anywhere": forecast.chance(at),
        "canal, foramen or joint": forecast.chance(at, *forecast.alarms),
        **{name: forecast.chance(at, name) for name in forecast.onset_ml},
    }


def read_predicted(folder: str | Path) -> Fill:
    """The fill that a cement plan in this folder predicts, to hold against what came.

    Raises InputError for a folder without a whole cement plan.
    """
    place = Path(folder)
    try:
        content = json.loads((place / "cement.json").read_text(encoding="utf-8"))
        if content["format"] != CEMENT_FORMAT:
            raise InputError(
                f"{place}/cement.json is {content['format']!r}; this version reads "
                f"{CEMENT_FORMAT!r}: make the cement plan again"
            )
        told = content["injection"]["fill"]
        site = Site(**told["site"])
        frame = told["fraction"]["grid"]["frame"]
        fraction = _framed(read_volume(place / "predicted.nii.gz")[0], frame)
        numbers = _framed(read_volume(place / "predicted_leaks.nii.gz")[0], frame)
        leaks = tuple(
            CementLeak(**{**row, "mask": Mask(grid=numbers.grid, values=numbers.values == k)})
            for k, row in enumerate(told["leaks"], start=2)
        )
        held = {
            key: told[key]
            for key in ("lesion_id", "volume_ml", "low_ml", "high_ml", "in_bone_ml", "in_lesion_ml",
                        "lesion_fill", "bone_fill", "crosses_midline", "old_cement_ml")
        }  # fmt: skip
    except FileNotFoundError as error:
        raise InputError(
            f"{place} holds no cement plan ({Path(str(error.filename)).name} is missing); give the "
            "folder that 'trocar cement' wrote"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{place}/cement.json cannot be read as a cement plan ({type(error).__name__}: {error})"
        ) from error
    return Fill(
        site=site,
        origin="simulated",
        fraction=fraction,
        leaks=leaks,
        touches_end_plates=tuple(told["touches_end_plates"]),
        unknown=tuple(told["unknown"]),
        **held,
    )


def _framed(volume: Volume, frame: str) -> Volume:
    """A volume with the frame of reference that its file could not hold."""
    own = volume.grid
    return Volume(
        grid=Grid(shape=own.shape, affine=own.affine, frame=frame),
        values=volume.values,
        unit=volume.unit,
    )


def write_assessment(
    folder: str | Path,
    *,
    post: Scan,
    fill: Fill,
    comparison: Any = None,
    needles: Sequence[Any] = (),
    run: Run | None = None,
) -> dict[str, Path]:
    """Writes what was found on the CT after the procedure; returns the files by name.

    ``result`` result.json, every number with its unit in the key; ``cement`` cement.nii.gz, the
    share of each voxel that is cement, and ``leaks`` leaks.nii.gz, both in the space of ``post``
    as it was scanned; ``seg`` cement.dcm (DICOM SEG) and ``sr`` measurements.dcm (DICOM SR, TID
    1500) only when ``post`` came as DICOM (result.json says why when they are left out).
    ``comparison`` and ``needles`` are records of how the outcome compares with the plan.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    grid = as_scanned(fill, post.volume.grid)
    share = Volume(grid=grid, values=fill.fraction.values, unit="1")
    labels = _leak_labels(fill, grid)
    files = {
        "cement": write_volume(place / "cement.nii.gz", share),
        "leaks": write_labels(place / "leaks.nii.gz", labels),
    }
    left_out = _write_dicom(place, files, post, fill, labels)
    content: Mapping[str, Any] = {
        "format": RESULT_FORMAT,
        "world": "LPS, millimetres; voxel files in the space of the CT after the procedure",
        "scan": {
            "name": post.name,
            "sha256": post.sha256,
            "series_uid": post.series_uid,
            "kvp": post.kvp,
            "kernel": post.kernel,
            "grid": post.volume.grid,
            "findings": post.findings,
        },
        "fill": fill,
        "leaked_ml": fill.leaked_ml,
        "comparison": comparison,
        "needles": tuple(needles),
        "labels": {str(k): v for k, v in sorted(labels.names.items())},
        "files": {name: path.name for name, path in files.items()},
        "not_written": left_out,
        "run": run,
    }
    files["result"] = write_json(place / "result.json", content)
    return files


def _write_dicom(
    place: Path, files: dict[str, Path], post: Scan, fill: Fill, labels: Labels
) -> dict[str, str]:
    """The DICOM objects, added to ``files``; and why one was left out."""
    if not post.source:
        why = "the CT did not come as DICOM, and a DICOM object must refer to its images"
        return {"cement.dcm": why, "measurements.dcm": why}
    if not labels.values.any():
        why = "there is no cement to outline"
        return {"cement.dcm": why, "measurements.dcm": why}
    seg, sr = place / "cement.dcm", place / "measurements.dcm"
    try:
        write_seg(seg, labels, post.source)
        write_measurements(sr, fill, seg, post.source)
    except InputError as error:
        for path in (seg, sr):
            path.unlink(missing_ok=True)
        return {"cement.dcm": str(error), "measurements.dcm": str(error)}
    files["seg"], files["sr"] = seg, sr
    return {}


def as_scanned(fill: Fill, post: Grid) -> Grid:
    """The voxels of a measured fill where they lay when the patient was scanned.

    A fill lies in the space of the planning CT; its registration leads back. The result is a crop
    of ``post`` to rounding, and is made so exactly.
    """
    own = fill.fraction.grid
    moved = own.affine if fill.registration is None else fill.registration.transform @ own.affine
    there = Grid(shape=own.shape, affine=moved, frame=post.frame)
    start = np.rint(post.to_index(there.to_world(np.zeros(3)))).astype(int)
    box = tuple(slice(int(a), int(a) + n) for a, n in zip(start, own.shape, strict=True))
    inside = all(b.start >= 0 and b.stop <= n for b, n in zip(box, post.shape, strict=True))
    if inside:
        crop = post.crop((box[0], box[1], box[2]))
        if np.allclose(crop.affine, moved, atol=1e-3):
            return crop
    return there


def _leak_labels(fill: Fill, grid: Grid) -> Labels:
    """1: cement in the bone; from 2 on each leak in the order of the record."""
    values = np.zeros(grid.shape, np.uint8)
    values[fill.fraction.values >= 1 / 2] = 1
    names = {1: _IN_BONE}
    for k, leak in enumerate(fill.leaks, start=2):
        values[leak.mask.on(fill.fraction.grid).values] = k
        names[k] = f"cement leak, {leak.compartment}"
    return Labels(grid=grid, values=values, names=names)


def summary_lines(fill: Fill) -> list[str]:
    """A fill in a few lines for a terminal, the worst first."""
    out = [f"{f.gravity.value.upper():8}{f}" for f in fill.findings if f.gravity != "note"]
    interval = f" ({fill.low_ml:.1f} to {fill.high_ml:.1f})" if fill.high_ml > fill.low_ml else ""
    out.append(f"cement  {fill.volume_ml:.1f} ml{interval}")
    if fill.lesion_fill is not None:
        out.append(f"lesion  {100 * fill.lesion_fill:.0f} % filled")
    if fill.bone_fill is not None:
        out.append(f"bone    {100 * fill.bone_fill:.0f} % filled")
    for leak in fill.leaks:
        kind = f", type {leak.kind}" if leak.kind else ""
        out.append(
            f"leak    {leak.compartment}{kind}: {leak.volume_ml:.2f} ml, reaches "
            f"{leak.reach_mm:.0f} mm beyond the bone"
        )
    if fill.unknown:
        out.append("unknown " + ", ".join(str(plain(u)).replace("_", " ") for u in fill.unknown))
    return out


def read_needles_used(folder: str | Path) -> tuple[tuple[Segment, float], ...]:
    """The needles of a cement plan in this folder: skin to tip in LPS mm, outer diameter in mm.

    Raises InputError for a folder without a whole cement plan.
    """
    place = Path(folder) / "cement.json"
    try:
        rows = json.loads(place.read_text(encoding="utf-8"))["plan"]["needles"]
        return tuple(
            (
                Segment(start_mm=r["path"]["start_mm"], end_mm=r["path"]["end_mm"]),
                float(r["needle"]["outer_mm"]),
            )
            for r in rows
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{place} cannot be read as a cement plan ({error})") from error
