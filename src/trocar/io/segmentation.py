"""Which regions does a DICOM SEG or RTSTRUCT hold, as masks; and masks written as a DICOM SEG."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trocar import NOTICE, __version__
from trocar.errors import FrameMismatch, InputError
from trocar.io.dicom import GEOMETRY_MM, Series, find_series
from trocar.io.files import Item, open_items, open_source
from trocar.io.headers import brief
from trocar.model.space import Float, Grid, Labels, Mask, Slices

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Attributes every DICOM object must have, though they may be empty (type 2).
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber"),
)

SCHEME = "99TROCAR"  # codes of our own, where no standard has one
HALF = 0.5  # a fractional segment holds a voxel from this share on


def read_dicom_mask(
    path: str | Path, *, like: Grid | None = None, name: str | None = None, threshold: float = HALF
) -> Mask:
    """One region of a SEG or RTSTRUCT as a mask, on ``like`` or (SEG only) its own grid.

    ``name`` is a segment label, an ROI name or its number; it may be left out when there is one.
    """
    with _object(path) as (item, contours):
        names = _names(item, contours)
        number = _pick(names, name, item.name)
        for _, mask in _regions(item, contours, {number: names[number]}, like, threshold):
            return mask
    raise InputError(f"{Path(path).name} holds nothing for {name!r}")


def read_seg_labels(
    path: str | Path, *, like: Grid | None = None, threshold: float = HALF
) -> Labels:
    """All regions of a SEG or RTSTRUCT as one label map; regions that overlap are refused."""
    values: NDArray[np.uint16] | None = None
    grid: Grid | None = None
    with _object(path) as (item, contours):
        names = _names(item, contours)
        for number, mask in _regions(item, contours, names, like, threshold):
            if values is None or grid is None:
                grid, values = mask.grid, np.zeros(mask.grid.shape, np.uint16)
            mask = mask.on(grid)
            other = np.unique(values[mask.values])
            if other.any():
                raise InputError(
                    f"{item.name}: {names[number]!r} overlaps {names[int(other[-1])]!r}, which a "
                    "label map cannot hold; give one region by its name"
                )
            values[mask.values] = number
    if values is None or grid is None:
        raise InputError(f"{Path(path).name} holds no region; give a segmentation with one")
    return Labels(grid=grid, values=values, names=names)


def read_regions(
    path: str | Path, *, like: Grid | None = None, threshold: float = HALF
) -> dict[str, Mask]:
    """Every region of a SEG or RTSTRUCT by its name; they may overlap."""
    with _object(path) as (item, contours):
        names = _names(item, contours)
        found = _regions(item, contours, names, like, threshold)
        return {names[number]: mask for number, mask in found}


@contextmanager
def _object(path: str | Path) -> Iterator[tuple[Item, bool]]:
    """The one SEG or RTSTRUCT at a path, and whether it holds contours."""
    with open_items(path) as items:
        catalogue = find_series(items)
        kinds = ("segmentation", "RT structure set")
        found = {
            h.item.name: (h.item, s.what == kinds[1])
            for s in catalogue.series
            if s.what in kinds
            for h in s.images
        }
        if len(found) != 1:
            here = f"{len(found)} segmentations ({', '.join(found)})" if found else _what(catalogue)
            raise InputError(
                f"{Path(path).name} holds {here}; give one DICOM SEG, RTSTRUCT, NIfTI, NRRD or "
                "MetaImage file"
            )
        item, contours = next(iter(found.values()))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield item, contours
        except InputError:
            raise
        except Exception as error:  # fuzzed sequences break pydicom and highdicom in many ways
            raise InputError(
                f"{item.name} cannot be read as a segmentation ({brief(error)})"
            ) from error


def _what(catalogue: Any) -> str:
    series: tuple[Series, ...] = catalogue.series
    if series:
        return f"no segmentation but {series[0].what}"
    return next(iter(catalogue.broken.values()), "no segmentation")


def _pick(names: Mapping[int, str], wanted: str | None, what: str) -> int:
    listed = ", ".join(f"{k} {v!r}" for k, v in names.items())
    if wanted is None and len(names) == 1:
        return next(iter(names))
    found = [k for k, v in names.items() if wanted is not None and wanted in (v, str(k))]
    if len(found) == 1:
        return found[0]
    if wanted is None:
        raise InputError(f"{what} holds {len(names)} regions ({listed}); say which is meant")
    raise InputError(f"{what} holds no single region {wanted!r}; it holds {listed or 'nothing'}")


def _names(item: Item, contours: bool) -> dict[int, str]:
    dataset = _read(item, stop=True)
    if contours:
        rois = dataset.get("StructureSetROISequence") or []
        return {int(r.ROINumber): str(r.get("ROIName", r.ROINumber)) for r in rois}
    segments = dataset.get("SegmentSequence") or []
    named = {int(s.SegmentNumber): str(s.get("SegmentLabel", s.SegmentNumber)) for s in segments}
    return {k: v for k, v in named.items() if k > 0}  # a label map lists its background as 0


def _read(item: Item, stop: bool) -> Dataset:
    from pydicom import dcmread

    with item.open() as stream:
        return dcmread(stream, force=True, stop_before_pixels=stop)


def _regions(
    item: Item, contours: bool, names: Mapping[int, str], like: Grid | None, threshold: float
) -> Iterator[tuple[int, Mask]]:
    if contours:
        yield from _contoured(item, names, like)
    else:
        yield from _segments(item, names, like, threshold)


# --- DICOM SEG ----------------------------------------------------------------------------------


def _segments(
    item: Item, names: Mapping[int, str], like: Grid | None, threshold: float
) -> Iterator[tuple[int, Mask]]:
    from highdicom.seg import segread

    with item.open() as stream:
        seg = segread(stream)
    frame = str(seg.get("FrameOfReferenceUID", ""))
    for number in names:
        # One segment at a time: together they can be larger than memory.
        volume = seg.get_volume(segment_numbers=[number], combine_segments=False)
        values = np.asarray(volume.array)[..., 0] >= threshold
        grid = Grid(shape=values.shape, affine=volume.affine, frame=frame)
        mask = Mask(grid=grid, values=values)
        if like is not None:
            there = mask.on(like)
            if there.is_empty and not mask.is_empty:
                raise InputError(f"{names[number]!r} of {item.name} lies outside the CT")
            mask = Mask(grid=like, values=there.values)
        yield number, mask


# --- RTSTRUCT -----------------------------------------------------------------------------------


def _contoured(
    item: Item, names: Mapping[int, str], like: Grid | None
) -> Iterator[tuple[int, Mask]]:
    if like is None:
        raise InputError(f"{item.name} holds contours without voxels; give the CT they belong to")
    dataset = _read(item, stop=False)
    frames = {
        int(r.ROINumber): str(r.get("ReferencedFrameOfReferenceUID", ""))
        for r in dataset.get("StructureSetROISequence") or []
    }
    for roi in dataset.get("ROIContourSequence") or []:
        number = int(roi.ReferencedROINumber)
        if number not in names:
            continue
        if like.frame and frames.get(number) and frames[number] != like.frame:
            raise FrameMismatch(
                f"{names[number]!r} was drawn in the frame of reference {frames[number]!r} but the "
                f"CT is in {like.frame!r}; give the CT it was drawn on"
            )
        polygons = [
            np.asarray(c.ContourData, dtype=np.float64).reshape(-1, 3)
            for c in roi.get("ContourSequence") or []
            if str(c.get("ContourGeometricType", "")).startswith("CLOSED")
        ]
        yield number, fill_contours(polygons, like, names[number])


def fill_contours(polygons_mm: Sequence[Float], grid: Grid, name: str = "the contour") -> Mask:
    """Voxels whose centre lies inside closed planar contours, by the exclusive-or rule.

    ``polygons_mm`` are LPS points (n, 3), each polygon in one slice plane of ``grid``. A polygon
    inside another on the same slice cuts a hole; keyhole contours work as well. A centre on an
    edge belongs to the region on its right and below, so that adjoining contours share none.
    Raises InputError for contours between slices, outside the grid, or only on every n-th slice.
    """
    values = np.zeros(grid.shape, dtype=bool)
    slices: list[int] = []
    for polygon in polygons_mm:
        index = grid.to_index(polygon)
        k = round(float(index[:, 0].mean()))
        off_mm = float(np.abs(index[:, 0] - k).max()) * grid.spacing_mm[0]
        if off_mm > 2 * GEOMETRY_MM:
            raise InputError(
                f"{name} has a contour {off_mm:.2f} mm off the nearest slice of the CT; give the "
                "CT it was drawn on"
            )
        if not 0 <= k < grid.shape[0]:
            raise InputError(f"{name} has a contour outside the CT; give the CT it was drawn on")
        values[k] ^= _fill(index[:, 1:], grid.shape[1:])
        slices.append(k)
    steps = np.diff(np.unique(slices)) if slices else np.array([])
    if len(steps) and np.median(steps) > 1:
        raise InputError(
            f"{name} is drawn on every {np.median(steps):g}th slice only, which would leave gaps; "
            "interpolate the contours and export again"
        )
    return Mask(grid=grid, values=values)


def _fill(polygon: Float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Even-odd fill of (row, column) points: an edge toggles what lies right of it in its rows."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    first = np.ceil(np.minimum(start[:, 0], end[:, 0])).astype(int)
    count = np.ceil(np.maximum(start[:, 0], end[:, 0])).astype(int) - first
    edge = np.repeat(np.arange(len(start)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    a, b = start[edge], end[edge]
    crossing = a[:, 1] + (row - a[:, 0]) * (b[:, 1] - a[:, 1]) / (b[:, 0] - a[:, 0])
    column = np.clip(np.ceil(crossing), 0, shape[1]).astype(int)
    toggles = np.zeros((shape[0], shape[1] + 1), dtype=np.uint8)
    inside = (row >= 0) & (row < shape[0])
    np.add.at(toggles, (row[inside], column[inside]), 1)
    out: NDArray[np.bool_] = np.bitwise_xor.accumulate(toggles & 1, axis=1)[:, :-1].astype(bool)
    return out


_SHORT_STRING = 16  # characters of DICOM's SH


# --- writing ------------------------------------------------------------------------------------


def write_seg(path: Path, labels: Labels, source: Sequence[str], lesion: str = "lesion") -> None:
    """Writes a label map as a BINARY DICOM SEG that refers to the CT images in ``source``.

    Regions whose name begins with ``lesion`` are coded as lesions, those that begin with "cement"
    as bone cement, the rest as anatomical structures; the exact name is the segment label. Raises
    InputError when the CT's headers lack what a DICOM object must carry over from them.
    """
    from highdicom.seg import Segmentation

    images = image_headers(source, labels.grid.spacing_mm[0])
    part = labels.crop(_box(labels.values))
    present = [int(v) for v in np.unique(part.values) if v]
    renumbered = np.zeros(int(part.values.max()) + 1, np.uint8)
    renumbered[present] = np.arange(1, len(present) + 1)
    names = [labels.names.get(v, f"label {v}") for v in present]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seg = Segmentation(
                source_images=images,
                pixel_array=_as_volume(renumbered[part.values], part.grid, images[0]),
                segmentation_type="BINARY",
                segment_descriptions=[
                    _description(k, n, lesion) for k, n in enumerate(names, start=1)
                ],
                omit_empty_frames=True,
                **identity(),
                content_description=NOTICE,
            )
            # Some scanners write more than a short string may hold; the object must be valid.
            seg.StudyID = str(getattr(seg, "StudyID", None) or "")[:_SHORT_STRING]
            seg.save_as(path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the CT's headers do not allow a DICOM SEG to refer to them ({error})"
        ) from error


def _box(values: NDArray[Any]) -> Slices:
    """The smallest box with every label in it; InputError when there is none."""
    # By projections: a list of all labelled voxels would be larger than the map.
    at = [np.flatnonzero(np.any(values, axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not at[0].size:
        raise InputError("there is no region to write; give labels with at least one voxel")
    k, r, c = (slice(int(i[0]), int(i[-1]) + 1) for i in at)
    return k, r, c


def image_headers(source: Sequence[str], slice_mm: float) -> list[Dataset]:
    """Headers of the CT images; what may be empty in DICOM and was left out is made empty."""
    from pydicom import dcmread

    images = []
    for text in dict.fromkeys(source):
        with open_source(text) as stream:
            image = dcmread(stream, stop_before_pixels=True, force=True)
        for name in _MAY_BE_EMPTY:
            if name not in image:
                setattr(image, name, None)
        if not image.get("SliceThickness"):
            image.SliceThickness = slice_mm  # the frames of the SEG are as far apart
        images.append(image)
    if not images or any(not i.get("SOPInstanceUID") or not i.get("SOPClassUID") for i in images):
        raise InputError("the CT's images carry no identifiers a DICOM SEG could refer to")
    return images


def _as_volume(values: NDArray[np.uint8], grid: Grid, image: Dataset) -> Any:
    from highdicom import Volume

    return Volume(
        array=values,
        affine=grid.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=str(image.FrameOfReferenceUID),
    )


def _description(number: int, name: str, lesion: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    kinds, sct = codes.cid7150, codes.SCT
    is_lesion = name.startswith(lesion)
    category = kinds.MorphologicallyAbnormalStructure if is_lesion else kinds.AnatomicalStructure
    what = sct.Lesion if is_lesion else sct.AnatomicalStructure
    if name.startswith("cement"):
        category, what = kinds.PhysicalObject, CodedConcept("CEMENT", SCHEME, "Bone cement")
    return SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=category,
        segmented_property_type=what,
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name="trocar", family=codes.cid7162.MorphologicalOperations, version=__version__
        ),
    )


def identity(description: str = "trocar plan", series: int = 900) -> dict[str, Any]:
    """What every DICOM object of ours says of itself: new identifiers, maker, version."""
    from highdicom import UID

    return {
        "series_instance_uid": UID(),
        "series_number": series,
        "sop_instance_uid": UID(),
        "instance_number": 1,
        "manufacturer": "trocar",
        "manufacturer_model_name": "trocar",
        "software_versions": __version__,
        "device_serial_number": "0",
        "series_description": description,
    }
