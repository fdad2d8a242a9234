"""Cement to compute with, on the CT before it: from a folder of trocar's, or from any mask file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trocar.errors import InputError
from trocar.io.formats import VOLUMES, read_volume, suffix_of
from trocar.io.results import RESULT_FORMAT, read_predicted
from trocar.io.volumes import read_mask
from trocar.model.case import Site
from trocar.model.result import Fill, Scan
from trocar.model.space import Float, Grid, Volume

_PLANNED, _FOUND = "cement.json", "result.json"


def read_fills(path: str | Path, scan: Scan, site: Site) -> tuple[Fill, ...]:
    """The cement that a path names, each fill in the space of ``scan``, the CT before it.

    ``path`` is a folder that ``trocar cement`` (a simulated fill) or ``trocar assess`` (a measured
    one) wrote, or both; or a file in the space of ``scan``: a mask, or the share of each voxel that
    is cement. Raises InputError for what is none of these, and for cement of another bone or CT.
    """
    place = Path(path)
    if not place.is_dir():
        return (_of_file(place, scan, site),)
    fills = []
    if (place / _PLANNED).is_file():
        _require_same(_told(place / _PLANNED), place, scan, None)
        fills.append(read_predicted(place))
    if (place / _FOUND).is_file():
        fills.append(_found(place, scan))
    if not fills:
        raise InputError(
            f"{place} holds no cement ({_PLANNED} and {_FOUND} are missing); give the folder that "
            "'trocar cement' or 'trocar assess' wrote, or a mask of the cement"
        )
    for fill in fills:
        if fill.site != site:
            raise InputError(f"the cement in {place} is in {fill.site}, not in {site}")
    return tuple(fills)


def _found(place: Path, scan: Scan) -> Fill:
    told = _told(place / _FOUND)
    try:
        if told["format"] != RESULT_FORMAT:
            raise InputError(
                f"{place / _FOUND} is {told['format']!r}; this version reads {RESULT_FORMAT!r}: "
                "assess again"
            )
        held = told["fill"]
        if held["registration"] is None:
            raise InputError(
                f"the cement in {place} was found without the CT before it, so where it lies in "
                "that CT is not known; assess again with --pre"
            )
        before = (told.get("run") or {}).get("parameters", {}).get("before")
        _require_same(told, place, scan, before)
        there = read_volume(place / "cement.nii.gz")[0]
        # The file lies as the patient was scanned; the case lies in the space of the CT before.
        back = np.linalg.inv(np.asarray(held["registration"]["transform"], np.float64))
        return Fill(
            site=Site(**held["site"]),
            origin="measured",
            fraction=_laid(there, back @ there.grid.affine, scan),
            **{
                key: held[key]
                for key in ("lesion_id", "volume_ml", "low_ml", "high_ml", "in_bone_ml",
                            "in_lesion_ml", "lesion_fill", "bone_fill")
            },
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{place / _FOUND} cannot be read as an assessment ({type(error).__name__}: {error})"
        ) from error


def _of_file(path: Path, scan: Scan, site: Site) -> Fill:
    """Cement from a mask or from shares, 0 to 1, of any program."""
    if suffix_of(path.name) in VOLUMES:
        there = read_volume(path)[0]
        values = there.values
        kinds = np.unique(values[values > 0])
        if values.min() < 0 or (values.max() > 1 and kinds.size > 1):
            raise InputError(
                f"{path.name} holds values from {values.min():g} to {values.max():g}; expected a "
                "mask of the cement, or the share of each voxel that is cement, from 0 to 1"
            )
        # A mask may count 255.
        values = (values > 0).astype(np.float32) if values.max() > 1 else values
        share = Volume(grid=there.grid, values=values)
    else:
        mask = read_mask(path, like=scan.volume.grid)
        share = Volume(grid=mask.grid, values=mask.values)
    fraction = _laid(share, share.grid.affine, scan)
    volume = float(fraction.values.sum(dtype=np.float64)) * fraction.grid.voxel_ml
    if not volume > 0:
        raise InputError(f"{path.name} holds no cement: all its voxels are 0")
    return Fill(
        lesion_id="",
        site=site,
        origin="measured",
        fraction=fraction,
        volume_ml=volume,
        low_ml=volume,
        high_ml=volume,
        in_bone_ml=None,
        in_lesion_ml=None,
        lesion_fill=None,
        bone_fill=None,
    )


def _laid(share: Volume, affine: Float, scan: Scan) -> Volume:
    """Shares on voxels that lie elsewhere, in the frame of the CT; NaN counts as no cement."""
    return Volume(
        grid=Grid(shape=share.grid.shape, affine=affine, frame=scan.volume.grid.frame),
        values=np.nan_to_num(share.values.astype(np.float32)),
        unit="1",
    )


def _told(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    if not isinstance(told, dict):
        raise InputError(f"{path} is no record of trocar's")
    return told


def _require_same(told: dict[str, Any], place: Path, scan: Scan, name: str | None) -> None:
    """That the cement belongs to this CT, by its hash; of several, to that of this name."""
    run = told.get("run")
    inputs = (run or {}).get("inputs", {}) if isinstance(run or {}, dict) else {}
    known = inputs.values() if name is None else (inputs.get(name),)
    if scan.sha256 not in known:
        raise InputError(
            f"the cement in {place} belongs to another CT than {scan.name} (its content differs); "
            "give the CT before the cement, on which it was planned or with which it was assessed"
        )
