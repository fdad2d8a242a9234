"""A synthetic patient as files, and as the scan a reader would have handed over."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import numpy as np

from trocar import NOTICE
from trocar.errors import InputError
from trocar.io.exports import plain
from trocar.io.formats import write_labels, write_mask, write_text, write_volume
from trocar.model.case import Finding, Gravity
from trocar.model.result import Scan
from trocar.model.space import Volume
from trocar.phantom import Phantom


def as_scan(phantom: Phantom, *, later: Volume | None = None) -> Scan:
    """The patient's CT, or a ``later`` one, as if it had come through the door; it says so."""
    volume = phantom.ct if later is None else later
    values = np.ascontiguousarray(volume.values)
    return Scan(
        volume=volume,
        name=f"synthetic {phantom.name}" + ("" if later is None else ", later"),
        sha256=hashlib.sha256(values.tobytes()).hexdigest(),
        kernel="synthetic",
        findings=(
            Finding(gravity=Gravity.NOTE, message="this patient is synthetic, made by the program"),
        ),
    )


def write(out: Path | str, phantom: Phantom) -> dict[str, Path]:
    """Write a synthetic patient into a folder: CT, labels with names, lesion and the truth."""
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the synthetic patient")
    folder.mkdir(parents=True, exist_ok=True)
    known = {f.name: getattr(phantom.truth, f.name) for f in fields(phantom.truth)}
    truth = {
        "notice": NOTICE,
        "site": str(phantom.site),
        "click_mm": plain(phantom.click_mm),
        **{name: plain(value) for name, value in known.items() if not callable(value)},
    }
    return {
        "ct": write_volume(folder / "ct.nii.gz", phantom.ct),
        "labels": write_labels(folder / "labels.nii.gz", phantom.labels),
        "lesion": write_mask(folder / "lesion.nii.gz", phantom.lesion),
        "truth": write_text(folder / "truth.json", json.dumps(truth, indent=1)),
    }
