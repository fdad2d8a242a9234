"""Which CT series are here, can each be used, and what is it as a volume?

Images are grouped by series *and* geometry, sorted by position along the slice normal, and checked:
what the positions say wins over every other tag. A series that is no regular stack is refused in
one sentence that names the slice; a tilted stack is resampled onto a square grid and says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from math import atan2, degrees
from typing import Any

import numpy as np

from trocar.errors import InputError
from trocar.io.files import Item
from trocar.io.headers import (
    CT_CLASSES,
    DECODABLE,
    DICOMDIR,
    EXPLICIT,
    IMPLICIT,
    LOSSY,
    RTSTRUCT,
    SECONDARY_CAPTURE,
    SEGMENTATIONS,
    Header,
    numbers_in,
    read_headers,
)
from trocar.io.pixels import Decoder, Progress, content_hash, fill_to_air, read_pixels
from trocar.io.square import sideways_mm, square
from trocar.model.case import Finding, Gravity
from trocar.model.result import Scan
from trocar.model.space import Float, Grid, Volume

# Tolerances. A stack is regular when no voxel lies further than 0.1 mm from where the affine says:
# positions in headers are often rounded to 0.1 mm, and a needle is placed to a millimetre.
GEOMETRY_MM = 0.1
SAID_ABOVE_MM = 0.01  # smaller irregularities are rounding and are not worth a line
ONE_ORIENTATION = 2e-4  # direction cosines that differ less are one (0.05 mm over 250 mm)
RIGHT_ANGLE = 1e-3  # error of unit length and right angle that a rounded header may have
ONE_SPACING = 1e-4  # relative; 0.05 mm over 500 mm


@dataclass(frozen=True, eq=False, kw_only=True)
class Series:
    """Images of one series that share one geometry, in order along their normal.

    ``refusal`` is empty for a usable CT; ``affine`` (index slice, row, column to LPS mm, perhaps
    sheared) is there whenever the positions make a regular stack.
    """

    images: tuple[Header, ...]
    what: str
    refusal: str = ""
    affine: Float | None = None
    findings: tuple[Finding, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def first(self) -> Header:
        """The image that speaks for the series."""
        return self.images[0]

    @property
    def name(self) -> str:
        """What a person calls it."""
        number = f"series {self.first.series_number}" if self.first.series_number else ""
        return self.first.description or number or self.first.item.name

    @property
    def contrast(self) -> bool | None:
        """Whether a contrast agent was given; None when the header does not say."""
        agent = self.first.agent
        if not agent:
            return None
        return agent.upper() not in ("NO", "NONE", "NO CONTRAST", "WITHOUT")

    @cached_property
    def shear_mm(self) -> float:
        """How far the last slice lies sideways from where a square stack would have it."""
        if self.affine is None:
            return 0.0
        return float(np.linalg.norm(sideways_mm(self.affine)) * (len(self.images) - 1))

    @property
    def geometry(self) -> str:
        """Size, spacing and tilt in words."""
        h = self.first
        size = f"{len(self.images)} x {h.rows} x {h.columns}" if h.rows else "no pixels"
        if self.affine is None or h.spacing_mm is None:
            return size
        n = np.cross(self.affine[:3, 2], self.affine[:3, 1])
        step = abs(float(self.affine[:3, 0] @ n) / float(np.linalg.norm(n)))
        text = f"{size}, {step:.3f} x {h.spacing_mm[0]:.3f} x {h.spacing_mm[1]:.3f} mm"
        if self.shear_mm > GEOMETRY_MM:
            text += f", tilted {_tilt_deg(self.affine):.1f} deg"
        return text


@dataclass(frozen=True, eq=False, kw_only=True)
class Catalogue:
    """Everything found among some files: series, files that are broken, files of other kinds."""

    series: tuple[Series, ...]
    broken: Mapping[str, str] = field(default_factory=dict)  # file name -> what is wrong with it
    others: tuple[Item, ...] = ()


def find_series(items: Sequence[Item], progress: Progress | None = None) -> Catalogue:
    """Which DICOM series are among these files, and can each be used as a CT volume?

    Reads headers only. Never raises for what a file holds: a broken file goes to ``broken``.
    """
    headers: list[Header] = []
    broken: dict[str, str] = {}
    others: list[Item] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of each odd value; we check them ourselves
        for done, item in enumerate(items):
            if progress is not None and done % 50 == 0:
                progress("read headers", done / len(items))
            try:
                found = read_headers(item)
            except InputError as error:
                broken[item.name] = str(error)
                continue
            if found is None:
                others.append(item)
            headers.extend(h for h in found or () if h.sop_class != DICOMDIR)
        series = [s for group in _group(headers) for s in _judge(group)]
    return Catalogue(series=tuple(_tell_left_out(series)), broken=broken, others=tuple(others))


def read_series(series: Series, progress: Progress | None = None) -> Scan:
    """The CT of a usable series in HU, on a square grid; raises InputError when it is refused."""
    if series.refusal or series.affine is None:
        raise InputError(f"{series.name!r} cannot be used: {series.refusal}")
    values = read_pixels(series.images, progress)
    digest = content_hash(values, series.affine)
    values, filled = fill_to_air(values)
    h = series.first
    grid = Grid(shape=values.shape, affine=series.affine, frame=h.frame_uid)
    volume = Volume(grid=grid, values=values)
    if series.shear_mm > GEOMETRY_MM:
        volume = square(volume)
    return Scan(
        volume=volume,
        name=series.name,
        sha256=digest,
        kvp=h.kvp,
        kernel=h.kernel,
        contrast=series.contrast,
        series_uid=h.series_uid,
        findings=series.findings + filled,
        source=tuple(image.item.source for image in series.images),
    )


def _group(headers: Sequence[Header]) -> list[list[Header]]:
    """Images that belong together: one series, one size, one orientation, one pixel spacing."""
    groups: dict[Any, list[list[Header]]] = {}
    for h in headers:
        # Some exports leave the series UID empty; number, description and kernel stand in for it.
        series = h.series_uid or (h.series_number, h.description, h.kernel)
        key = (
            *(h.study_uid, series, h.frame_uid, h.modality, h.sop_class),
            *(h.rows, h.columns, h.samples, h.is_localizer),
        )
        for group in groups.setdefault(key, []):
            if _one_geometry(group[0], h):
                group.append(h)
                break
        else:
            groups[key].append([h])
    return [group for found in groups.values() for group in found]


def _one_geometry(a: Header, b: Header) -> bool:
    if (a.orientation is None) != (b.orientation is None):
        return False
    turns = zip(a.orientation or (), b.orientation or ())
    if any(abs(x - y) > ONE_ORIENTATION for x, y in turns):
        return False
    if a.spacing_mm is None or b.spacing_mm is None:
        return a.spacing_mm is b.spacing_mm
    return all(abs(x - y) <= ONE_SPACING * abs(x) for x, y in zip(a.spacing_mm, b.spacing_mm))


def _judge(images: Sequence[Header]) -> list[Series]:
    """The group as a series with its verdict; several when it holds several phases."""
    what, reason = _kind(images[0])
    if reason:
        return [Series(images=tuple(images), what=what, refusal=reason)]
    return [_as_volume(what, phase) for phase in _phases(images)]


def _kind(h: Header) -> tuple[str, str]:
    """What an image is, and why it cannot be a CT volume ("" when it may be one)."""
    if h.sop_class == RTSTRUCT:
        return "RT structure set", "these are contours, not images; give them as labels or lesion"
    if h.sop_class in SEGMENTATIONS:
        return "segmentation", "this is a segmentation, not a CT; give it as labels or lesion"
    if h.modality != "CT":
        name = h.modality or "no modality"
        pixels = "" if h.pixels_at >= 0 else ", without pixels"
        return f"{name} object", f"this is not a CT image ({name}{pixels})"
    if h.sop_class.startswith(SECONDARY_CAPTURE) or h.samples != 1:
        return "screen capture", "this is a picture of a screen, such as a dose report, not a CT"
    if h.sop_class not in CT_CLASSES:
        return "CT-related object", "this is made from a CT but is not a CT image"
    if h.is_localizer:
        return "localizer", "this is a localizer (scout view), not a stack of slices"
    if h.rescale_type.upper() not in ("", "HU", "US"):
        return "derived map", f"its values are in {h.rescale_type}, not in Hounsfield units"
    derived = {"PERFUSION", "RCBF", "RCBV", "MTT", "TTP", "FLOW_MAP"} & set(h.image_type)
    if derived:
        return "derived map", "this is a perfusion map, not a CT in Hounsfield units"
    return "CT", ""


def _phases(images: Sequence[Header]) -> list[list[Header]]:
    """Slices at one position told apart by acquisition or image type, where these do so fully."""
    if not _coincide(images):
        return [list(images)]
    keys: tuple[Callable[[Header], Any], ...] = (
        lambda h: h.acquisition,
        lambda h: h.kernel,
        lambda h: h.image_type,
    )
    for key in keys:
        parts = [list(g) for _, g in groupby(sorted(images, key=key), key=key)]
        if len(parts) > 1 and all(len(p) > 1 and not _coincide(p) for p in parts):
            return parts
    return [list(images)]


def _coincide(images: Sequence[Header]) -> bool:
    return len({h.position_mm for h in images}) < len(images)


def _as_volume(what: str, images: Sequence[Header]) -> Series:
    """The images as a stack, or with the reason why they are none."""
    try:
        for h in images:
            _require_readable(h)
        ordered, copies = _in_order(images)
    except InputError as error:
        return Series(images=tuple(images), what=what, refusal=str(error))
    try:
        affine, residual_mm = _fit(ordered)
    except InputError as error:
        return Series(images=tuple(ordered), what=what, refusal=str(error))
    stack = Series(images=tuple(ordered), what=what, affine=affine)
    return replace(stack, findings=_remarks(stack, copies, residual_mm))


def _require_readable(h: Header) -> None:
    """Raises, naming the slice, when something needed to place or scale its pixels is missing."""
    lacking = {
        "ImagePositionPatient": h.position_mm,
        "ImageOrientationPatient": h.orientation,
        "PixelSpacing": h.spacing_mm,
        "RescaleSlope": h.slope,
        "RescaleIntercept": h.intercept,
    }
    for name, value in lacking.items():
        if value is None:
            raise InputError(f"{h.called} has no readable {name}; export the series again")
    assert h.spacing_mm is not None
    if min(h.spacing_mm) <= 0 or h.slope == 0:
        raise InputError(f"{h.called} has a zero or negative PixelSpacing or RescaleSlope")
    if not h.rows or not h.columns or h.pixels_at < 0:
        raise InputError(f"{h.called} has no pixels; export the series again")
    if h.bits_allocated not in (8, 16, 32) or not 0 < h.bits_stored <= h.bits_allocated:
        raise InputError(
            f"{h.called} stores {h.bits_stored} of {h.bits_allocated} bits; expected up to 16 of 16"
        )
    if h.transfer_syntax not in DECODABLE:
        raise InputError(
            f"{h.called} is compressed in a way trocar cannot read ({h.syntax_name}); "
            "export the series uncompressed"
        )
    if h.transfer_syntax in (IMPLICIT, EXPLICIT):
        _require_whole(h)


def _require_whole(h: Header) -> None:
    expected = h.rows * h.columns * h.frames * (h.bits_allocated // 8)
    there = min(h.pixel_bytes, h.file_bytes - h.pixels_at)
    if there < expected:
        raise InputError(
            f"{h.called} is cut off: it holds {there} of {expected} bytes of pixels; copy it again"
        )


def _in_order(images: Sequence[Header]) -> tuple[list[Header], int]:
    """Images sorted along their normal without exact copies, and how many copies there were."""
    h = images[0]
    assert h.orientation is not None
    row, column = np.array(h.orientation[:3]), np.array(h.orientation[3:])
    both = np.stack([row, column])
    if not np.allclose(both @ both.T, np.eye(2), rtol=0, atol=RIGHT_ANGLE):
        raise InputError(
            f"{h.called} has an ImageOrientationPatient that is not two directions at right angles "
            f"({', '.join(f'{v:g}' for v in h.orientation)}); export the series again"
        )
    along = np.array([h.position_mm for h in images]) @ np.cross(row, column)
    kept: list[int] = []
    for k in map(int, np.argsort(along, kind="stable")):
        if kept and along[k] - along[kept[-1]] < SAID_ABOVE_MM:
            _require_copy(images[kept[-1]], images[k])
            continue
        kept.append(k)
    if len(kept) < 2:
        raise InputError(f"there is only one slice ({h.called}); a volume needs at least two")
    return [images[k] for k in kept], len(images) - len(kept)


def _require_copy(a: Header, b: Header) -> None:
    """Raises unless two images at one position hold the same pixels."""
    decoder = Decoder()
    at_once = a.position_mm == b.position_mm
    if at_once and np.array_equal(decoder.stored(a), decoder.stored(b)):
        return
    raise InputError(
        f"{a.called} and {b.called} lie at one position but differ, so this is not one volume; "
        "export one phase, or one reconstruction, alone"
    )


def _fit(images: Sequence[Header]) -> tuple[Float, float]:
    """The affine of a regular stack and the largest distance of a slice from it in mm; raises."""
    h = images[0]
    assert h.orientation is not None
    assert h.spacing_mm is not None
    row, column = np.array(h.orientation[:3]), np.array(h.orientation[3:])
    normal = np.cross(row, column)
    places = np.array([image.position_mm for image in images])
    _require_even(images, places @ normal)
    k = np.arange(len(images)) - (len(images) - 1) / 2
    step = k @ places / (k @ k)
    origin = places.mean(axis=0) + k[0] * step
    away = np.linalg.norm(places - (origin + np.arange(len(images))[:, None] * step), axis=1)
    worst = int(away.argmax())
    if away[worst] > GEOMETRY_MM:
        raise InputError(
            f"{images[worst].called} lies {away[worst]:.2f} mm off the line of the other slices; "
            "this is not one straight stack"
        )
    sideways = step - (step @ normal) * normal
    if np.linalg.norm(sideways) * (len(images) - 1) <= GEOMETRY_MM:
        step = step - sideways
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = step, column * h.spacing_mm[0]
    affine[:3, 2], affine[:3, 3] = row * h.spacing_mm[1], origin
    return affine, float(away[worst])


def _require_even(images: Sequence[Header], along_mm: Float) -> None:
    gaps = np.diff(along_mm)
    usual = float(np.median(gaps))
    k = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[k] - usual) <= 2 * GEOMETRY_MM:  # each end may be rounded by half a tolerance
        return
    between = f"between {images[k].called} and {images[k + 1].called}"
    times = gaps[k] / usual
    if gaps[k] > usual and abs(times - round(times)) * usual <= 2 * GEOMETRY_MM:
        n = round(times) - 1
        raise InputError(
            f"{n} slice{'s are' if n > 1 else ' is'} missing {between} ({gaps[k]:.2f} mm apart "
            f"where the others are {usual:.2f} mm); export the whole series"
        )
    raise InputError(
        f"slices are not evenly spaced: {gaps[k]:.2f} mm {between}, {usual:.2f} mm elsewhere; "
        "export one reconstruction with one slice spacing"
    )


def _tilt_deg(affine: Float) -> float:
    side = float(np.linalg.norm(sideways_mm(affine)))
    whole = float(np.linalg.norm(affine[:3, 0]))
    return degrees(atan2(side, float(np.sqrt(max(whole**2 - side**2, 0.0)))))


def _remarks(stack: Series, copies: int, residual_mm: float) -> tuple[Finding, ...]:
    """What a person should know about a usable stack."""
    assert stack.affine is not None
    images, h = stack.images, stack.first
    side = sideways_mm(stack.affine)
    step = float(np.linalg.norm(stack.affine[:3, 0] - side))
    found: list[Finding] = []
    if stack.shear_mm > GEOMETRY_MM:
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="the slices are tilted by {tilt_deg:.1f} degrees (they slide "
                "{shear_mm:.1f} mm sideways over the stack); the CT was resampled onto a "
                "square grid, linearly",
                values={"tilt_deg": _tilt_deg(stack.affine), "shear_mm": stack.shear_mm},
            )
        )
    elif residual_mm > SAID_ABOVE_MM:
        found.append(
            Finding(
                gravity=Gravity.NOTE,
                message="slice positions vary by up to {residual_mm:.2f} mm about an even spacing "
                "of {step_mm:.3f} mm, which was taken",
                values={"residual_mm": residual_mm, "step_mm": step},
            )
        )
    if copies:
        found.append(
            Finding(
                gravity=Gravity.NOTE,
                message="{count} slices were there twice with the same pixels; each was taken once",
                values={"count": copies},
            )
        )
    said = h.slice_step_mm
    if said is not None and abs(abs(said) - step) > max(SAID_ABOVE_MM, 0.005 * step):
        found.append(
            Finding(
                gravity=Gravity.NOTE,
                message="the header says {said_mm:.3f} mm between slices, but their positions are "
                "{step_mm:.3f} mm apart; the positions were taken",
                values={"said_mm": abs(said), "step_mm": step},
            )
        )
    thick = h.thickness_mm
    if thick is not None and 0 < thick < 0.95 * step:
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="slices are {thick_mm:.2f} mm thick but {step_mm:.2f} mm apart: what lies "
                "between them was not imaged",
                values={"thick_mm": thick, "step_mm": step},
            )
        )
    if any(image.lossy or image.transfer_syntax in LOSSY for image in images):
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="the images were compressed with loss: Hounsfield units are not exact",
            )
        )
    if h.rescale_type.upper() not in ("", "HU"):
        found.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="the header does not state that values are Hounsfield units (it says "
                "{rescale_type!r}); they were taken as such",
                values={"rescale_type": h.rescale_type},
            )
        )
    if not h.series_uid or not h.sop_uid:
        found.append(
            Finding(
                gravity=Gravity.NOTE,
                message="the images carry no identifiers of their own (empty UIDs), so no DICOM "
                "object can refer to them",
            )
        )
    if not _follow(images):
        found.append(
            Finding(
                gravity=Gravity.NOTE,
                message="the image numbers do not follow the positions; the positions were taken",
            )
        )
    return tuple(found)


def _follow(images: Sequence[Header]) -> bool:
    """Whether image numbers rise or fall all along the stack (or are not there)."""
    numbers = [numbers_in(h.instance, 1) for h in images if h.frames == 1]
    if None in numbers or len(numbers) < 2:
        return True
    steps = np.diff([n[0] for n in numbers if n is not None])
    return bool(np.all(steps > 0) or np.all(steps < 0))


def _tell_left_out(series: list[Series]) -> list[Series]:
    """Adds to each usable stack how many images of its own series did not fit it."""
    out = []
    for s in series:
        rest = sum(
            len(o.images)
            for o in series
            if o is not s and o.what == "CT" and s.first.series_uid
            and o.first.series_uid == s.first.series_uid
        )  # fmt: skip
        if rest and not s.refusal:
            left = Finding(
                gravity=Gravity.CAUTION,
                message="{count} images of the same series have another orientation, size, spacing "
                "or phase and are not part of this volume",
                values={"count": rest},
            )
            s = replace(s, findings=(*s.findings, left))
        out.append(s)
    return out
