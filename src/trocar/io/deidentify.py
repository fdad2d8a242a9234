"""A folder of images in which nobody can be recognised, made from one in which people can.

DICOM objects by :mod:`trocar.io.confidentiality`; of volume files (NIfTI, NRRD, MetaImage) the
numbers are kept and every text is emptied. Files get new names, for the old ones name people too.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trocar.errors import InputError
from trocar.io.arrival import why_not_inflated
from trocar.io.confidentiality import (
    Dates,
    deidentify,
    known_label,
    known_words,
    quiet,
    way_with_dates,
)
from trocar.io.files import MAX_MEMBER_BYTES, Item, open_items
from trocar.io.formats import (
    NIFTI,
    VOLUMES,
    read_volume,
    stem_of,
    suffix_of,
    write_text,
    write_volume,
)
from trocar.io.names import names_beside, names_inside
from trocar.io.pixels import Progress
from trocar.io.pseudonyms import Key

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Dates", "Key", "Told", "deidentify", "deidentify_folder", "way_with_dates"]

_PIXELS = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF  # a length that is told by an end mark
_MOST_ELEMENTS = 100_000
# What a NIfTI header says in numbers; its other fields are text, or unused and could hold some.
_NIFTI_NUMBERS = (
    *("dim_info", "dim", "intent_p1", "intent_p2", "intent_p3", "intent_code", "datatype"),
    *("bitpix", "slice_start", "pixdim", "slice_end", "slice_code"),
    *("xyzt_units", "cal_max", "cal_min", "slice_duration", "toffset", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of the files: their new names, whose they are, and what was refused and why.

    ``sources`` are the old names, in the order of ``files``; like those in ``refused`` they may
    name a person.
    """

    files: tuple[str, ...]
    sources: tuple[str, ...] = ()
    people: tuple[str, ...] = ()  # pseudonyms
    refused: tuple[tuple[str, str], ...] = ()  # the old name of a file, and a sentence
    dates: Dates = "shifted"

    def lines(self) -> tuple[str, ...]:
        """What was done, and each reason for which files were refused, a line each."""
        whose = f"{len(self.people)} patient{'s' if len(self.people) != 1 else ''}"
        done = (
            f"files: {len(self.files)} taken, {len(self.refused)} refused; of {whose}",
            f"pseudonyms: {', '.join(self.people) or 'none'}",
            f"dates: {self.dates}",
        )
        reasons: dict[str, list[str]] = {}
        for name, why in self.refused:
            reasons.setdefault(why, []).append(name)
        others = (
            f"refused: {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {why}"
            for why, names in reasons.items()
        )
        return (*done, *others)


@dataclass(eq=False)
class _Work:
    """Where the new files go, and how many of each there are."""

    folder: Path
    key: Key
    dates: Dates
    people: dict[str, dict[str, int]] = field(default_factory=dict)  # pseudonym -> series -> number
    files: dict[str, str] = field(default_factory=dict)  # new name -> old name
    counts: dict[str, int] = field(default_factory=dict)


def deidentify_folder(
    source: str | Path,
    out: str | Path,
    key: Key,
    *,
    dates: Dates = "shifted",
    progress: Progress | None = None,
) -> Told:
    """The images of a folder, zip or file, de-identified into a new folder ``out``.

    Files that are no images, or may not be taken, are left out and told; the folder is there whole
    or not at all. The key remembers the people it met; take it from :meth:`Key.at`, or keep it
    yourself, in another place. Raises InputError when ``out`` is there already or lies in the
    source, and when nothing could be taken.
    """
    place = Path(out)
    way_with_dates(dates)
    _require_new(place, Path(source))
    refused: list[tuple[str, str]] = []
    with (
        open_items(source) as items,
        tempfile.TemporaryDirectory(prefix=".trocar-", dir=place.parent) as folder,
    ):
        fresh = Path(folder) / "new"
        fresh.mkdir()
        work = _Work(fresh, key, dates)
        for done, item in enumerate(items):
            if progress is not None and done % 20 == 0:
                progress("de-identify", done / len(items))
            try:
                _take(item, work)
            except InputError as error:
                refused.append((item.name, str(error)))
        if not work.files:
            why = f": {refused[0][1]}" if refused else "; it holds no files"
            raise InputError(f"nothing in {Path(source).name} can be de-identified{why}")
        key.keep_what_it_met()  # the way back is there before what it leads back from
        os.replace(fresh, place)
    return Told(
        files=tuple(work.files),
        sources=tuple(work.files.values()),
        people=tuple(work.people),
        refused=tuple(refused),
        dates=dates,
    )


def _require_new(place: Path, source: Path) -> None:
    if place.exists() or place.is_symlink():
        raise InputError(f"{place} is there already; give a folder that is not there yet")
    if not place.parent.is_dir():
        raise InputError(f"{place.parent} is no folder; give a place in one that is there")
    if source.is_dir() and place.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{place} lies in the source {source}; give a folder outside it")


def _take(item: Item, work: _Work) -> None:
    suffix = suffix_of(item.name)
    if suffix in VOLUMES:
        _take_volume(item, suffix, work)
        return
    head = item.head(132)
    if head[128:] != b"DICM" and head[:2] not in (b"\x08\x00", b"\x00\x08"):
        raise InputError("it is neither DICOM nor a volume file (NIfTI, NRRD, MetaImage)")
    _take_object(item, work)


# --- DICOM --------------------------------------------------------------------------------------


def _take_object(item: Item, work: _Work) -> None:
    from pydicom import dcmwrite

    made = deidentify(_read(item), work.key, dates=work.dates)
    who, series = str(made.PatientID), str(made.get("SeriesInstanceUID", ""))
    known = work.people.setdefault(who, {})
    where = f"{who}/series{known.setdefault(series, len(known) + 1):02d}"
    name = f"{where}/{_next(work, where):05d}.dcm"
    place = work.folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with quiet():
            dcmwrite(place, made, enforce_file_format=True)
    except Exception as error:  # a value that no writer takes
        place.unlink(missing_ok=True)
        raise InputError(
            f"it cannot be written again ({type(error).__name__}); export it again"
        ) from error
    work.files[name] = item.name


def _read(item: Item) -> Dataset:
    """A DICOM object; what follows its pixels is not read."""
    from pydicom.filereader import read_partial

    with item.open() as stream, quiet():
        why = why_not_inflated(stream, MAX_MEMBER_BYTES)
        if why:
            raise InputError(f"it {why}")
        try:
            found = read_partial(stream, _after_pixels(), force=True)
            _require_whole(found)
            return found
        except InputError:
            raise
        except Exception as error:  # a parser can fail in any way on damaged bytes; none may pass
            raise InputError(
                f"it is damaged, or no DICOM ({type(error).__name__}); export it again"
            ) from error


def _require_whole(dataset: Dataset) -> None:
    """Raise InputError when the file ended within a value; the parser takes what there is.

    An attribute that DICOM does not have is what somebody appended.
    """
    from pydicom.datadict import dictionary_has_tag

    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset would parse every element
        one: Any = dataset.get_item(tag)
        said = getattr(one, "length", _UNDEFINED)
        short = said != _UNDEFINED and len(one.value or b"") != said
        if short and dictionary_has_tag(tag):
            raise InputError("it is cut off; copy it again")


def _after_pixels() -> Any:
    """Tells the parser to stop once the pixels are behind it: nothing that is kept comes after."""
    behind, count = False, 0

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal behind, count
        ends, behind, count = behind, behind or tag == _PIXELS, count + 1
        if count > _MOST_ELEMENTS:  # each costs a hundred times the memory of its eight bytes
            raise InputError(f"it has more than {_MOST_ELEMENTS} attributes; no image has as many")
        return ends

    return stop


def _next(work: _Work, where: str) -> int:
    work.counts[where] = work.counts.get(where, 0) + 1
    return work.counts[where]


# --- volume files -------------------------------------------------------------------------------


def _take_volume(item: Item, suffix: str, work: _Work) -> None:
    if item.archive is not None:
        raise InputError("volume files are not read inside a zip; unpack it first")
    if suffix in (".nhdr", ".mhd"):
        raise InputError("its voxels lie in another file; save it as one file (.nrrd, .mha)")
    stem = known_words(stem_of(Path(item.name))).replace(" ", "_") or "volume"
    count = _next(work, f"{stem}{suffix}")
    name = f"{stem}{suffix}" if count == 1 else f"{stem}_{count}{suffix}"
    place = work.folder / name
    if suffix in NIFTI:
        _bare_nifti(item.path, place)
    else:
        write_volume(place, read_volume(item.path)[0])
    _clean_names(item.path, place)
    work.files[name] = item.name


def _bare_nifti(path: Path, place: Path) -> None:
    """The voxels and the numbers of a header, without texts, extensions and packer's notes."""
    import nibabel

    try:
        image: Any = nibabel.load(path)
        header = image.header
        bare = type(header)(endianness=header.endianness)
        for name in _NIFTI_NUMBERS:
            bare[name] = header[name]
        # The reader takes the scale out of the header it shows.
        bare["scl_slope"], bare["scl_inter"] = image.dataobj.slope, image.dataobj.inter
        bare.set_data_offset(bare.single_vox_offset)
        stored = np.asanyarray(image.dataobj.get_unscaled())
    except Exception as error:  # readers fail in many ways on damaged files; none may pass
        raise InputError(
            f"it is damaged, or no NIfTI ({type(error).__name__}); convert it again"
        ) from error
    with place.open("wb") as plain:
        if place.name.endswith(".gz"):
            # An empty name and no time: a packer writes both into the file else.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=plain, mtime=0) as packed:
                _write_nifti(packed, bare, stored)
        else:
            _write_nifti(plain, bare, stored)


def _write_nifti(stream: Any, bare: Any, stored: Any) -> None:
    head = bare.binaryblock
    stream.write(head + bytes(int(bare.single_vox_offset) - len(head)))
    order = stored.dtype.newbyteorder(bare.endianness)
    for part in np.moveaxis(stored, -1, 0):  # NIfTI's last axis varies slowest
        stream.write(part.astype(order, copy=False).tobytes(order="F"))


def _clean_names(path: Path, place: Path) -> None:
    """Names of labels, from within the file or a table beside it, as a table beside the new one."""
    names: dict[int, str] = {}
    with suppress(InputError):  # what lies beside it with its name need not name labels
        names = (names_inside(path) if suffix_of(path.name) in NIFTI else {}) or names_beside(path)
    if names:
        clean = {str(k): v if known_label(v) else f"region {k}" for k, v in sorted(names.items())}
        write_text(place.with_name(f"{stem_of(place)}.json"), json.dumps(clean, indent=1))
