"""How volume files (NIfTI, NRRD, MetaImage) are read and written; the world becomes LPS here.

Orientation is never guessed: a file that does not state it is refused.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.model.case import Finding, Gravity
from trocar.model.space import Float, Grid, Labels, Mask, Volume

NIFTI = (".nii", ".nii.gz")
VOLUMES = (*NIFTI, ".nrrd", ".nhdr", ".mha", ".mhd")

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI world is RAS
_TWO_ORIENTATIONS_MM = 0.1  # qform and sform that differ more at a corner disagree
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI xyzt_units: unknown, m, mm, um


def read_volume(path: Path) -> tuple[Volume, tuple[Finding, ...]]:
    """Values as stored (scaled as the file says) on their own, perhaps sheared, grid."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a folder, a zip or a file with images")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if suffix_of(path.name) in NIFTI:
                return _read_nifti(path)
            return _read_itk(path)
        except InputError:
            raise
        except Exception as error:  # readers fail in many ways on damaged files; none may pass
            raise InputError(
                f"{path.name} is damaged or not what its name says ({_brief(error)})"
            ) from error


def _read_nifti(path: Path) -> tuple[Volume, tuple[Finding, ...]]:
    import nibabel

    image: Any = nibabel.load(path)
    header, shape = image.header, _three(image.shape, path.name)
    findings: list[Finding] = []
    if not hasattr(header, "get_sform"):
        raise InputError(f"{path.name} states no orientation; convert the CT again from DICOM")
    qform, sform = image.get_qform(coded=True)[0], image.get_sform(coded=True)[0]
    if qform is None and sform is None:
        raise InputError(
            f"{path.name} states no orientation (its qform and sform codes are 0), so left and "
            "right cannot be told; convert the CT again from DICOM"
        )
    ras = sform if sform is not None else qform
    if qform is not None and sform is not None:
        findings += _two_orientations(qform, sform, shape)
    affine = _TO_LPS @ np.asarray(ras, dtype=np.float64)
    affine[:3] *= _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    values = np.asanyarray(image.dataobj).reshape(shape).transpose(2, 1, 0)
    grid = _grid(values.shape, affine[:, [2, 1, 0, 3]], path.name)
    return Volume(grid=grid, values=_plain(values, path.name)), (*findings, *_shear(grid))


def _two_orientations(qform: Float, sform: Float, shape: tuple[int, ...]) -> list[Finding]:
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * shape
    apart = (corners @ (qform - sform)[:3, :3].T) + (qform - sform)[:3, 3]
    off_mm = float(np.linalg.norm(apart, axis=1).max())
    if off_mm <= _TWO_ORIENTATIONS_MM:
        return []
    return [
        Finding(
            gravity=Gravity.CAUTION,
            message="the file states two orientations (qform and sform) that differ by up to "
            "{off_mm:.1f} mm; the sform was taken: check left and right",
            values={"off_mm": off_mm},
        )
    ]


def _read_itk(path: Path) -> tuple[Volume, tuple[Finding, ...]]:
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetNumberOfComponents() != 1:
        raise InputError(f"{path.name} has several values per voxel; give a CT with one")
    if suffix_of(path.name) in (".nrrd", ".nhdr") and not reader.HasMetaDataKey("NRRD_space"):
        raise InputError(
            f"{path.name} states no space, so left and right cannot be told; save it again as LPS"
        )
    _three(reader.GetSize(), path.name)
    image = reader.Execute()
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    values = sitk.GetArrayFromImage(image)
    grid = _grid(values.shape, affine, path.name)
    return Volume(grid=grid, values=_plain(values, path.name)), _shear(grid)


def _three(shape: tuple[int, ...], what: str) -> tuple[int, int, int]:
    kept = tuple(int(n) for n in shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept = kept[:-1]
    if len(kept) != 3:
        n = "x".join(map(str, shape))
        raise InputError(
            f"{what} has {len(shape)} dimensions ({n}), such as time points; give one 3-D volume"
        )
    return kept[0], kept[1], kept[2]


def _grid(shape: tuple[int, ...], affine: Float, what: str) -> Grid:
    try:
        return Grid(shape=(shape[0], shape[1], shape[2]), affine=affine)
    except InputError as error:
        raise InputError(f"{what} has an unusable geometry: {error}") from error


def _plain(values: NDArray[Any], what: str) -> NDArray[Any]:
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
        raise InputError(f"{what} holds {values.dtype} voxels; give a CT with one number per voxel")
    return values


def _shear(grid: Grid) -> tuple[Finding, ...]:
    if grid.is_orthogonal:
        return ()
    cosines = np.abs(grid.axes.T @ grid.axes - np.eye(3))
    off_deg = float(np.degrees(np.arcsin(min(float(cosines.max()), 1.0))))
    return (
        Finding(
            gravity=Gravity.CAUTION,
            message="the voxels of this file are sheared by {off_deg:.1f} degrees, as after a "
            "tilted gantry; it was resampled onto a square grid, linearly",
            values={"off_deg": off_deg},
        ),
    )


def write_volume(path: str | Path, volume: Volume) -> Path:
    """Writes a volume as NIfTI, NRRD or MetaImage (by its suffix); whole or not at all."""
    place = Path(path)
    suffix = suffix_of(place.name)
    if suffix not in VOLUMES or suffix in (".nhdr", ".mhd"):
        raise InputError(f"{place.name} has no known ending; use .nii.gz, .nrrd or .mha")
    return write_whole(
        place, lambda part: (_save_nifti if suffix in NIFTI else _save_itk)(part, volume)
    )


def write_labels(path: str | Path, labels: Labels) -> Path:
    """Writes a label map and, beside it, its names as JSON (same name, ending ``.json``)."""
    place = Path(path)
    top = int(labels.values.max(initial=0))
    values = labels.values.astype(np.uint8 if top < 256 else np.uint16)
    write_volume(place, Volume(grid=labels.grid, values=values, unit=""))
    text = json.dumps({str(k): v for k, v in sorted(labels.names.items())}, indent=1)
    write_text(place.with_name(f"{stem_of(place)}.json"), text)
    return place


def write_mask(path: str | Path, mask: Mask) -> Path:
    """Writes a mask as a label map of 0 and 1."""
    return write_volume(path, Volume(grid=mask.grid, values=mask.values.astype(np.uint8), unit=""))


def write_text(path: str | Path, text: str) -> Path:
    """Writes a text file whole or not at all."""
    return write_whole(Path(path), lambda part: part.write_text(text, encoding="utf-8"))


def write_whole(place: Path, write: Callable[[Path], Any]) -> Path:
    """Has ``write`` make a file under another name, and renames it when it is whole."""
    # The unfinished file lies in the same folder, so that the last step is a rename.
    with tempfile.TemporaryDirectory(prefix=".trocar-", dir=place.parent) as folder:
        part = Path(folder) / place.name
        write(part)
        os.replace(part, place)
    return place


def _save_nifti(path: Path, volume: Volume) -> None:
    import nibabel

    affine = _TO_LPS @ volume.grid.affine[:, [2, 1, 0, 3]]
    narrower = {"bool": np.uint8, "int64": np.int32, "uint64": np.uint32, "float16": np.float32}
    values = volume.values.astype(narrower.get(volume.values.dtype.name, volume.values.dtype))
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    if volume.grid.is_orthogonal:
        image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    nibabel.save(image, path)


def _save_itk(path: Path, volume: Volume) -> None:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(volume.values)
    image.SetSpacing(volume.grid.spacing_mm[::-1])
    image.SetDirection(volume.grid.axes[:, ::-1].ravel().tolist())
    image.SetOrigin(volume.grid.affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def suffix_of(name: str) -> str:
    """The ending of a file name in lower case; ``.nii.gz`` is one ending."""
    low = name.lower()
    return ".nii.gz" if low.endswith(".nii.gz") else os.path.splitext(low)[1]


def stem_of(path: Path) -> str:
    """The file name without its ending."""
    return path.name[: -len(suffix_of(path.name))] if suffix_of(path.name) else path.name


def _brief(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1].strip() if lines else type(error).__name__)[:160]


def are_whole(values: NDArray[Any]) -> bool:
    """Whether every value is a whole number."""
    if np.issubdtype(values.dtype, np.integer):
        return True
    # Slice by slice, so that no second copy of a large volume is made.
    return all(bool(np.all(np.rint(s) == s)) for s in values)
