"""What scan, labels or mask does a path hold, turned at the door into LPS and [slice, row, column]?

Reads DICOM (folder, zip, file; SEG and RTSTRUCT as labels or masks), NIfTI, NRRD and MetaImage.
Nothing is guessed in silence: what cannot be read rightly is refused in one sentence, and what
had to be changed on the way in is told in the scan's findings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.io import dicom
from trocar.io.dicom import Catalogue, Series, find_series
from trocar.io.files import Item, inside_zips, is_zip, open_items
from trocar.io.formats import (
    NIFTI,
    VOLUMES,
    are_whole,
    read_volume,
    stem_of,
    suffix_of,
    write_labels,
    write_mask,
    write_volume,
)
from trocar.io.names import Names, listed, names_beside, names_for, names_inside
from trocar.io.pixels import Progress, content_hash, fill_to_air
from trocar.io.square import square, square_grid
from trocar.kernels import field as field_kernels
from trocar.model.result import Scan
from trocar.model.space import Grid, Labels, Mask, Volume

__all__ = [
    "Inspection",
    "SeriesReport",
    "file_hash",
    "inspect",
    "read_labels",
    "read_mask",
    "read_scan",
    "write_labels",
    "write_mask",
    "write_volume",
]


@dataclass(frozen=True, kw_only=True)
class SeriesReport:
    """What the import doctor says of one series or volume file."""

    name: str
    what: str
    usable: bool
    why: str  # why it can or cannot be used as a CT, one sentence
    geometry: str = ""
    files: int = 1
    kernel: str = ""
    kvp: float | None = None
    contrast: bool | None = None
    series_uid: str = ""
    problems: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """``usable`` as a CT, ``regions`` for --labels or --lesion, or ``NOT usable``."""
        if self.usable:
            return "usable"
        regions = self.what in ("label map", "RT structure set", "segmentation")
        return "regions" if regions else "NOT usable"

    @property
    def description(self) -> str:
        """What it is and its geometry, on one line."""
        return ", ".join(part for part in (f"{self.what} '{self.name}'", self.geometry) if part)

    def lines(self) -> tuple[str, ...]:
        """The rest, line by line: how it was made, why, and each problem."""
        said = {None: "not stated", True: "given", False: "none"}[self.contrast]
        kvp = "not stated" if self.kvp is None else f"{self.kvp:g} kVp"
        made = (
            f"{self.files} files, tube {kvp}, kernel {self.kernel or 'not stated'}, contrast {said}"
        )
        first = (made,) if self.what == "CT" else ()
        return (*first, self.why, *self.problems)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Everything found at a path: one row per series or volume, and the files passed over."""

    path: str
    rows: tuple[SeriesReport, ...]
    passed_over: tuple[str, ...] = ()

    @property
    def usable(self) -> tuple[SeriesReport, ...]:
        """The rows that can be planned on."""
        return tuple(row for row in self.rows if row.usable)


# --- the import doctor --------------------------------------------------------------------------


def inspect(path: str | Path) -> Inspection:
    """What images are at this path, and why can or can't each be used as a CT volume?

    Raises InputError only when the path itself is not there or no archive; whatever the files hold
    becomes a row.
    """
    with _sorted(path) as (catalogue, volumes):
        rows = [_series_row(s) for s in catalogue.series] + [_volume_row(i) for i in volumes]
    for name, sentence in catalogue.broken.items():
        what = "zip archive" if name.lower().endswith(".zip") else "damaged file"
        rows.append(SeriesReport(name=name, what=what, usable=False, why=sentence))
    for item in catalogue.others:
        if is_zip(item):
            why = "a zip beside images or inside another zip is not opened; give this one by itself"
            rows.append(SeriesReport(name=item.name, what="zip archive", usable=False, why=why))
    if not rows:
        why = _nothing(catalogue)
        rows.append(SeriesReport(name=Path(path).name, what="no image", usable=False, why=why))
    return Inspection(
        path=str(path), rows=tuple(rows), passed_over=tuple(o.name for o in catalogue.others)
    )


def _series_row(series: Series) -> SeriesReport:
    why = series.refusal or "a regular stack of CT slices"
    return SeriesReport(
        name=series.name,
        what=series.what,
        usable=not series.refusal,
        why=why,
        geometry=series.geometry,
        files=len({h.item.name for h in series.images}),
        kernel=series.first.kernel,
        kvp=series.first.kvp,
        contrast=series.contrast,
        series_uid=series.first.series_uid,
        problems=tuple(str(f) for f in series.findings),
    )


def _volume_row(item: Item) -> SeriesReport:
    if item.archive is not None:
        why = "volume files are not read inside a zip; unpack it first"
        return SeriesReport(name=item.name, what="volume file", usable=False, why=why)
    try:
        volume, findings = read_volume(item.path)
    except InputError as error:
        return SeriesReport(name=item.name, what="volume file", usable=False, why=str(error))
    reason = _not_hounsfield(volume)
    labels = bool(reason) and are_whole(volume.values)
    return SeriesReport(
        name=item.name,
        what="label map" if labels else "volume file" if reason else "CT",
        usable=not reason,
        why=reason or "a volume with values that can be Hounsfield units",
        geometry=volume.grid.describe(),
        problems=tuple(str(f) for f in findings),
    )


# --- CT -----------------------------------------------------------------------------------------


def read_scan(
    path: str | Path, *, series: str | None = None, progress: Progress | None = None
) -> Scan:
    """The CT at a path, in Hounsfield units on a square grid.

    ``series`` chooses among several in a DICOM folder or zip: a series UID or its end, a series
    description, or the number of the row that :func:`inspect` prints. Raises InputError with the
    reason when nothing usable is there, and with the list when there are several.
    """
    if suffix_of(str(path)) in VOLUMES:
        return _scan_of_file(Path(path))
    with _sorted(path, progress) as (catalogue, volumes):
        files = [i for i in volumes if i.archive is None]
        if files and not catalogue.series:
            # Labels and masks often lie beside the CT that they were drawn on.
            cts = files if len(files) == 1 else [i for i in files if _may_be_ct(i)]
            if len(cts) == 1:
                return _scan_of_file(cts[0].path)
            raise InputError(
                f"there are {len(files)} volume files here, {len(cts) or 'none'} of which can be "
                "a CT; give the CT alone"
            )
        return dicom.read_series(_chosen(catalogue, series, path), progress)


@contextmanager
def _sorted(
    path: str | Path, progress: Progress | None = None
) -> Iterator[tuple[Catalogue, list[Item]]]:
    """The DICOM series at a path, and the volume files.

    Zips in a folder are opened when no image that can be a CT lies beside them: a zip next to its
    own unpacked files would give every slice twice.
    """
    with ExitStack() as stack:
        items = stack.enter_context(open_items(path))
        catalogue, volumes = _apart(items, progress)
        zips = any(is_zip(item) and item.archive is None for item in catalogue.others)
        if zips and not catalogue.series and not any(map(_may_be_ct, volumes)):
            items, refused = stack.enter_context(inside_zips(items))
            catalogue, volumes = _apart(items, progress)
            catalogue = replace(catalogue, broken={**catalogue.broken, **refused})
        yield catalogue, volumes


def _apart(items: Sequence[Item], progress: Progress | None) -> tuple[Catalogue, list[Item]]:
    volumes = [i for i in items if suffix_of(i.name) in VOLUMES]
    return find_series([i for i in items if suffix_of(i.name) not in VOLUMES], progress), volumes


def _may_be_ct(item: Item) -> bool:
    """Whether a volume file is no label map, as far as it can be read."""
    try:
        return item.archive is None and not _not_hounsfield(read_volume(item.path)[0])
    except InputError:
        return True  # a damaged one is told of, not passed over


def _chosen(catalogue: Catalogue, wanted: str | None, path: str | Path) -> Series:
    found = catalogue.series
    if wanted is not None:
        found = tuple(s for k, s in enumerate(found, start=1) if _answers_to(s, k, wanted))
        if not found:
            raise InputError(
                f"no series at {path} answers to {wanted!r}; see trocar inspect {path}"
            )
    usable = [s for s in found if not s.refusal]
    if len(usable) == 1:
        return usable[0]
    if usable:
        listed = "; ".join(
            f"{1 + catalogue.series.index(s)}: {s.name}, {s.geometry}" for s in usable[:8]
        )
        raise InputError(f"there are {len(usable)} CT series; choose one with --series ({listed})")
    if len(found) == 1:
        raise InputError(f"{found[0].name!r} cannot be used: {found[0].refusal}")
    reasons = [s.refusal for s in found if s.what == "CT"] or [s.refusal for s in found]
    reasons += list(catalogue.broken.values())
    why = reasons[0] if reasons else _nothing(catalogue)
    raise InputError(f"no CT volume at {path}: {why}")


def _nothing(catalogue: Catalogue) -> str:
    zips = [item.name for item in catalogue.others if is_zip(item)]
    if any(is_zip(item) and item.archive is not None for item in catalogue.others):
        return f"there is no image here but a zip inside a zip; unpack {zips[0]} first"
    if zips:
        return f"there is no image here but {len(zips)} zip archives; give one, such as {zips[0]}"
    return "there is no DICOM, NIfTI, NRRD or MetaImage file here; give the folder of a CT"


def _answers_to(series: Series, number: int, wanted: str) -> bool:
    uid = series.first.series_uid
    names = (series.name, series.first.description, str(number), f"#{number}")
    return wanted in names or (bool(uid) and uid.endswith(wanted) and len(wanted) > 3)


def _scan_of_file(path: Path) -> Scan:
    volume, findings = read_volume(path)
    reason = _not_hounsfield(volume)
    if reason:
        raise InputError(f"{path.name} cannot be used as a CT: {reason}")
    values = _narrow(volume.values)
    digest = content_hash(values, volume.grid.affine)
    values, filled = fill_to_air(values)
    volume = replace(volume, values=values)
    if not volume.grid.is_orthogonal:
        volume = square(volume)
    return Scan(volume=volume, name=stem_of(path), sha256=digest, findings=findings + filled)


def _not_hounsfield(volume: Volume) -> str:
    """Why values cannot be Hounsfield units, or "": a CT always has something below water."""
    low, high = float(np.nanmin(volume.values)), float(np.nanmax(volume.values))
    if not np.isfinite(low):
        return "it holds no finite value"
    if low >= 0 and high < 256 and are_whole(volume.values):
        return f"it holds whole numbers from {low:g} to {high:g}: a label map; give it as labels"
    if low >= 0:
        return f"no value is below 0 (they go from {low:g} to {high:g}), so these are not HU"
    return ""


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """A writable copy as int16 where values are whole numbers that fit, else float32."""
    if are_whole(values):
        low, high = values.min(), values.max()
        if low >= -32768 and high <= 32767:
            return np.array(values, dtype=np.int16, order="C")
    return np.array(values, dtype=np.float32, order="C")


# --- labels and masks ---------------------------------------------------------------------------


def read_labels(
    path: str | Path, *, names: Names | None = None, like: Grid | None = None
) -> Labels:
    """Named regions from a label map, a DICOM SEG, or a folder with one mask file per region.

    ``names`` maps numbers to names, or is a CSV or JSON file that does. Without it they are looked
    for inside the file (TotalSegmentator writes them there), in a CSV or JSON beside it, and last
    by checking whether the numbers run along the spine as TotalSegmentator's or VerSe's do.
    With ``like`` the result lies on that grid, by nearest voxel. Raises InputError when numbers
    cannot be given names, or when the labels lie outside the grid.
    """
    place = Path(path)
    if place.is_dir():
        per_class = sorted(p for p in place.iterdir() if suffix_of(p.name) in VOLUMES)
        if per_class:
            return _labels_of_folder(per_class, like)
    if suffix_of(place.name) not in VOLUMES:
        from trocar.io.segmentation import read_seg_labels

        return read_seg_labels(place, like=like)
    volume, inside = _read_label_volume(place)
    values = _as_labels(volume.values, place.name)
    table = names_for(names, place, inside, values, volume.grid)
    return _onto(Labels(grid=volume.grid, values=values, names=table), like, place.name)


def read_mask(path: str | Path, *, like: Grid | None = None, name: str | None = None) -> Mask:
    """One region as a mask: a mask file, one label of a map, a SEG segment, an RTSTRUCT contour.

    ``name`` chooses where the file holds several (a name or a number). An RTSTRUCT needs ``like``,
    the grid of its CT.
    """
    place = Path(path)
    if suffix_of(place.name) not in VOLUMES:
        from trocar.io.segmentation import read_dicom_mask

        return read_dicom_mask(place, like=like, name=name)
    volume, inside = _read_label_volume(place)
    values = _as_labels(volume.values, place.name)
    labels = Labels(grid=volume.grid, values=values, names=inside)
    present = [int(v) for v in np.unique(values) if v]
    chosen = present
    if name is not None:
        table = inside or names_beside(place)
        chosen = [v for v in present if name in (str(v), table.get(v))]
        if not chosen:
            raise InputError(f"{place.name} has no label {name!r}; it holds {listed(present)}")
    elif len(present) > 1:
        raise InputError(
            f"{place.name} holds {len(present)} labels ({listed(present)}); say which is meant"
        )
    mask = Mask(grid=labels.grid, values=np.isin(values, chosen))
    return _mask_onto(mask, like, place.name)


def _read_label_volume(path: Path) -> tuple[Volume, dict[int, str]]:
    volume, _ = read_volume(path)
    if not volume.grid.is_orthogonal:
        target = square_grid(volume.grid)
        values = field_kernels.resample_nearest(
            np.ascontiguousarray(volume.values), volume.grid.index_map(target), target.shape, 0
        )
        volume = Volume(grid=target, values=values, unit="")
    inside = names_inside(path) if suffix_of(path.name) in NIFTI else {}
    return volume, inside


def _as_labels(values: NDArray[Any], what: str) -> NDArray[Any]:
    if not are_whole(values) or values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"{what} holds values from {values.min():g} to {values.max():g}; a label map holds "
            "whole numbers, 0 for nothing and one number per region"
        )
    dtype = np.uint8 if values.max() < 256 else np.uint16
    return np.array(values, dtype=dtype, order="C")


def _onto(labels: Labels, like: Grid | None, what: str) -> Labels:
    if like is None:
        return labels
    there = labels.on(like)
    if labels.values.any() and not there.values.any():
        raise InputError(_elsewhere(what, labels.grid, like))
    return replace(there, grid=like)


def _mask_onto(mask: Mask, like: Grid | None, what: str) -> Mask:
    if like is None:
        return mask
    there = mask.on(like)
    if not mask.is_empty and there.is_empty:
        raise InputError(_elsewhere(what, mask.grid, like))
    return Mask(grid=like, values=there.values)


def _elsewhere(what: str, own: Grid, ct: Grid) -> str:
    def words(grid: Grid) -> str:
        return ", ".join(f"{v:.0f}" for v in grid.centre_mm)

    return (
        f"{what} lies outside the CT: its centre is at ({words(own)}) mm and that of the CT at "
        f"({words(ct)}) mm (LPS); check that both are of one examination"
    )


def _labels_of_folder(files: list[Path], like: Grid | None) -> Labels:
    """TotalSegmentator's other way: a folder with one mask per class, named by class."""
    names: dict[int, str] = {}
    values: NDArray[Any] | None = None
    grid: Grid | None = like
    for number, file in enumerate(files, start=1):
        mask = read_mask(file, like=grid) if grid else read_mask(file)
        grid = grid or mask.grid
        if values is None:
            values = np.zeros(grid.shape, np.uint16)
        values[mask.values] = number
        names[number] = stem_of(file)
    assert grid is not None
    assert values is not None
    return Labels(grid=grid, values=values, names=names)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, or of all files below a folder with their names."""
    place, digest = Path(path), hashlib.sha256()
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    for file in files:
        if place.is_dir():
            digest.update(file.relative_to(place).as_posix().encode())
        try:
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            raise InputError(f"{file.name} cannot be read: {error}") from error
    return digest.hexdigest()
