"""What does each DICOM image say about itself: a short list of tags, read without the pixels."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from trocar.errors import InputError
from trocar.io.files import MAX_MEMBER_BYTES, Item

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Vector = tuple[float, ...]

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
# Plain, enhanced, legacy converted enhanced; some exports leave the class empty.
CT_CLASSES = (CT_IMAGE, f"{CT_IMAGE}.1", f"{CT_IMAGE}.2", "")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
DICOMDIR = "1.2.840.10008.1.3.10"

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4."
LOSSY = {f"{JPEG}50", f"{JPEG}51", f"{JPEG}81", f"{JPEG}91"}
DECODABLE = {
    IMPLICIT,
    EXPLICIT,
    DEFLATED,
    BIG_ENDIAN,
    "1.2.840.10008.1.2.5",  # RLE
    *(f"{JPEG}{n}" for n in (57, 70, 80, 90)),
    *LOSSY,
}

# What is read of every header; pixels and everything else is passed over.
_TAGS = {
    "charset": 0x00080005,
    "image_type": 0x00080008,
    "sop_class": 0x00080016,
    "sop_uid": 0x00080018,
    "modality": 0x00080060,
    "description": 0x0008103E,
    "agent": 0x00180010,
    "thickness": 0x00180050,
    "kvp": 0x00180060,
    "slice_step": 0x00180088,
    "tilt": 0x00181120,
    "kernel": 0x00181210,
    "study_uid": 0x0020000D,
    "series_uid": 0x0020000E,
    "series_number": 0x00200011,
    "acquisition": 0x00200012,
    "instance": 0x00200013,
    "position": 0x00200032,
    "orientation": 0x00200037,
    "frame_uid": 0x00200052,
    "samples": 0x00280002,
    "frames": 0x00280008,
    "rows": 0x00280010,
    "columns": 0x00280011,
    "spacing": 0x00280030,
    "bits_allocated": 0x00280100,
    "bits_stored": 0x00280101,
    "signed": 0x00280103,
    "intercept": 0x00281052,
    "slope": 0x00281053,
    "rescale_type": 0x00281054,
    "lossy": 0x00282110,
}
_SYNTAX, _STORED_CLASS = 0x00020010, 0x00020002
_WANTED = frozenset((*_TAGS.values(), _SYNTAX, _STORED_CLASS))

_HEAD_BYTES = 1 << 16  # a CT header is 2 to 20 kB; longer ones take the thorough way
# A deflated object is refused that unpacks to more than this and so many times its size, as a zip.
_SMALL_BYTES, _MOST_TIMES = 128 << 20, 200
_UNDEFINED = 0xFFFFFFFF
_TAG, _ITEM = struct.Struct("<HH"), struct.Struct("<HHI")
_SHORT_LENGTH, _LENGTH = struct.Struct("<H"), struct.Struct("<I")
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN"))
_LONG |= {b"UR", b"UT", b"UV"}
_SHORT = frozenset((b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO"))
_SHORT |= {b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Header:
    """What one image (a file, or one frame of a multi-frame file) says about itself.

    Lengths are mm; ``spacing_mm`` is (between rows, between columns). A value the file does not
    hold, or holds in a form that cannot be read, is None or empty.
    """

    item: Item
    frame: int = 0
    frames: int = 1
    transfer_syntax: str = ""
    sop_class: str = ""
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    frame_uid: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    description: str = ""
    kernel: str = ""
    agent: str | None = None
    series_number: str = ""
    acquisition: str = ""
    instance: str = ""
    rows: int = 0
    columns: int = 0
    samples: int = 1
    bits_allocated: int = 0
    bits_stored: int = 0
    signed: bool = False
    position_mm: Vector | None = None
    orientation: Vector | None = None
    spacing_mm: Vector | None = None
    thickness_mm: float | None = None
    slice_step_mm: float | None = None
    tilt_deg: float | None = None
    kvp: float | None = None
    slope: float | None = None
    intercept: float | None = None
    rescale_type: str = ""
    lossy: bool = False
    pixels_at: int = -1  # byte offset of the pixel values, -1 when the file has none
    pixel_bytes: int = 0  # as the file says; 0 for encapsulated (undefined length)
    file_bytes: int = 0

    @property
    def called(self) -> str:
        """What a message calls this image: file, number, frame."""
        number = f" (image {self.instance})" if self.instance else ""
        frame = f" frame {self.frame + 1}" if self.frames > 1 else ""
        return f"{self.item.name}{frame}{number}"

    @property
    def syntax_name(self) -> str:
        """The transfer syntax in words."""
        from pydicom.uid import UID

        return f"{UID(self.transfer_syntax).name}" if self.transfer_syntax else "no transfer syntax"

    @property
    def is_localizer(self) -> bool:
        """Whether this is a scout view."""
        return bool({"LOCALIZER", "SCOUT", "TOPOGRAM"} & set(self.image_type))

    @property
    def is_native(self) -> bool:
        """Whether pixel values lie in the file as little-endian 16-bit words."""
        return (
            self.transfer_syntax in (IMPLICIT, EXPLICIT)
            and self.bits_allocated == 16
            and self.samples == 1
            and self.pixels_at >= 0
        )


def read_headers(item: Item) -> tuple[Header, ...] | None:
    """The images a file holds, or None when it is no DICOM file; InputError when it is broken."""
    head = item.head(_HEAD_BYTES)
    marked = head[128:132] == b"DICM"
    if not marked and head[:2] not in (b"\x08\x00", b"\x02\x00", b"\x00\x08"):
        return None
    try:
        header = _header(item, _quick(head) or _thorough(item))
        if header.frames > 1 or header.sop_class in CT_CLASSES[1:3]:
            return _frames(header, _dataset(item))
    except InputError:
        raise
    except Exception as error:  # a parser can fail in any way on damaged bytes; none may pass
        if not marked:
            return None
        raise InputError(f"{item.name} is a damaged DICOM file ({brief(error)})") from error
    if not header.sop_class and not header.modality and not header.rows:
        if not marked:
            return None
        raise InputError(f"{item.name} is a DICOM file that holds neither an image nor a type")
    return (header,)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Raw:
    """The bytes of the wanted elements by tag, and where the pixels are."""

    values: dict[int, bytes]
    syntax: str
    stored_class: str
    pixels_at: int
    pixel_bytes: int
    little: bool = True

    def text(self, name: str) -> str:
        return self.values.get(_TAGS[name], b"").decode("latin-1").strip("\0 ")

    def number(self, name: str) -> float | None:
        found = numbers_in(self.text(name), 1)
        return None if found is None else found[0]

    def count(self, name: str, default: int = 0) -> int:
        raw = self.values.get(_TAGS[name])
        return int.from_bytes(raw[:2], "little" if self.little else "big") if raw else default

    def words(self, name: str) -> str:
        """Text in the file's own character set, such as a Chinese series description."""
        raw = self.values.get(_TAGS[name], b"")
        if raw.isascii() and b"\x1b" not in raw:
            return self.text(name)
        from pydicom.charset import convert_encodings, decode_bytes

        try:
            encodings = convert_encodings(self.text("charset").split("\\"))
            return str(decode_bytes(raw, encodings, {"\\", "^", "="})).strip("\0 ")
        except (LookupError, ValueError):
            return self.text(name)


# --- the quick way: walk the elements of a little-endian header -----------------------------------


def _quick(head: bytes) -> _Raw | None:
    """The wanted elements from the first bytes of a file, or None where anything is unusual.

    Walks over elements by their lengths and keeps bytes; an examination has thousands of files, and
    a general parser takes longer over a header than the disk over its pixels.
    """
    if head[128:132] != b"DICM":
        return None
    try:
        meta, at = _walk(head, 132, explicit=True, end_group=0x0003)
        syntax = meta.get(_SYNTAX, b"").decode("ascii").rstrip("\0 ")
        if syntax not in DECODABLE or syntax in (DEFLATED, BIG_ENDIAN):
            return None
        values, at = _walk(head, at, explicit=syntax != IMPLICIT, end_group=0x7FE0)
        if head[at : at + 4] == b"\xe0\x7f\x00\x00":
            at += 12  # the group length old scanners write before the pixels
        pixels_at, size = _pixel_element(head[at : at + 12], at, "little")
    except (ValueError, struct.error, RecursionError):
        return None
    return _Raw(
        values=values,
        syntax=syntax,
        stored_class=meta.get(_STORED_CLASS, b"").decode("latin-1").rstrip("\0 "),
        pixels_at=pixels_at,
        pixel_bytes=size,
    )


def _walk(data: bytes, at: int, *, explicit: bool, end_group: int) -> tuple[dict[int, bytes], int]:
    """Elements from ``at`` up to the first of ``end_group`` or later; ValueError when unusual."""
    found: dict[int, bytes] = {}
    last = -1
    while True:
        group, element = _TAG.unpack_from(data, at)
        if group >= end_group:
            return found, at
        tag = group << 16 | element
        if tag <= last:
            raise ValueError("elements are out of order")
        last = tag
        kind = data[at + 4 : at + 6] if explicit else b""
        if kind in _SHORT:
            length, at = _SHORT_LENGTH.unpack_from(data, at + 6)[0], at + 8
        elif kind in _LONG:
            length, at = _LENGTH.unpack_from(data, at + 8)[0], at + 12
        elif explicit:
            raise ValueError(f"unknown value representation {kind!r}")
        else:
            length, at = _LENGTH.unpack_from(data, at + 4)[0], at + 8
        if length == _UNDEFINED:
            if kind == b"UN":
                raise ValueError("a sequence of unknown kind")
            at = _past_sequence(data, at, explicit)
            continue
        if tag in _WANTED:
            found[tag] = data[at : at + length]
        at += length


def _past_sequence(data: bytes, at: int, explicit: bool) -> int:
    """Where a sequence of undefined length ends."""
    while True:
        group, element, length = _ITEM.unpack_from(data, at)
        at += 8
        if group != 0xFFFE:
            raise ValueError("a sequence without items")
        if element == 0xE0DD:
            return at
        if length != _UNDEFINED:
            at += length
        else:  # the item's own delimiter is then passed as if it were an empty item
            _, at = _walk(data, at, explicit=explicit, end_group=0xFFFE)


def _pixel_element(element: bytes, at: int, order: Literal["little", "big"]) -> tuple[int, int]:
    """Byte offset and length of the pixel values (0: encapsulated); -1 when there are none."""
    tag = b"\x7f\xe0\x00\x10" if order == "big" else b"\xe0\x7f\x10\x00"
    if element[:4] != tag:
        return -1, 0
    explicit = element[4:6] in (b"OW", b"OB", b"UN")
    size = int.from_bytes(element[8:12] if explicit else element[4:8], order)
    return at + (12 if explicit else 8), 0 if size == _UNDEFINED else size


# --- the thorough way: pydicom ------------------------------------------------------------------


def why_not_inflated(stream: BinaryIO, limit: int) -> str:
    """Why a deflated DICOM object may not be parsed, as what follows its name; "" when it may.

    The parser unpacks it in one go, and would take whatever memory it asks for: more than ``limit``
    bytes are too many. An object that is not deflated may. The stream is left at its start.
    """
    at = _deflated_at(stream.read(_HEAD_BYTES))
    stream.seek(max(at, 0))
    if at < 0:
        return "has a header that leads nowhere; copy it again"
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        for piece in iter(lambda: stream.read(_HEAD_BYTES) if at else b"", b""):
            while piece and not unpacker.eof:
                size += len(unpacker.decompress(piece, 1 << 20))
                piece = unpacker.unconsumed_tail
                if size > limit:
                    return f"unpacks to more than {limit >> 20} MB; leave it out"
    except zlib.error:
        return "is deflated, and damaged; copy it again"
    finally:
        stream.seek(0)
    return ""


def _deflated_at(head: bytes) -> int:
    """Where the deflated part of a DICOM object begins; 0: it is not deflated, -1: nobody knows."""
    at = start = 132 if head[128:132] == b"DICM" else 0
    deflated = False
    while head[at : at + 2] == b"\x02\x00" and at + 12 <= len(head):
        kind = head[at + 4 : at + 6]
        if kind in _LONG:
            begin, length = at + 12, _LENGTH.unpack_from(head, at + 8)[0]
        elif kind in _SHORT:
            begin, length = at + 8, _SHORT_LENGTH.unpack_from(head, at + 6)[0]
        else:
            return -1  # the parser would read it otherwise than is done here
        if head[at + 2 : at + 4] == b"\x10\x00":
            syntax = head[begin : begin + length].strip(b" \0")
            if not re.fullmatch(rb"[0-9.]*", syntax):
                return -1  # the parser takes some of these for a plain one
            deflated = syntax == DEFLATED.encode()
        at = begin + length
    if (start or at) and (at >= len(head) or head[at : at + 2] == b"\x02\x00"):
        return -1
    return at if deflated else 0


def _check_inflated(item: Item, stream: BinaryIO) -> None:
    """Raise InputError for a deflated object that grows as no image does, before it is parsed."""
    why = why_not_inflated(
        stream, min(MAX_MEMBER_BYTES, max(_SMALL_BYTES, _MOST_TIMES * item.size))
    )
    if why:
        raise InputError(f"{item.name} {why}")


def _thorough(item: Item) -> _Raw:
    """The wanted elements by pydicom: any transfer syntax, no preamble, odd headers."""
    from pydicom import dcmread

    with item.open() as stream:
        _check_inflated(item, stream)
        dataset = dcmread(
            stream, stop_before_pixels=True, force=True, specific_tags=list(_TAGS.values())
        )
        at = stream.tell()
        element = stream.read(12)
    meta = getattr(dataset, "file_meta", {})
    syntax = str(meta.get("TransferSyntaxUID", IMPLICIT))
    order: Literal["little", "big"] = "big" if syntax == BIG_ENDIAN else "little"
    # Within a deflated stream the place says nothing; the decoder finds the pixels.
    pixels_at, size = (0, 0) if syntax == DEFLATED else _pixel_element(element, at, order)
    values = {}
    for tag in _TAGS.values():
        if tag in dataset:
            values[tag] = _bytes(dataset.get_item(tag).value, order)
    return _Raw(
        values=values,
        syntax=syntax,
        stored_class=str(meta.get("MediaStorageSOPClassUID", "")),
        pixels_at=pixels_at,
        pixel_bytes=size,
        little=order == "little",
    )


def _bytes(value: Any, order: Literal["little", "big"]) -> bytes:
    """An element's raw bytes; pydicom has already converted a few of them."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return (value & 0xFFFF).to_bytes(2, order)
    several = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return "\\".join("" if v is None else str(v) for v in several).encode("latin-1", "replace")


def _dataset(item: Item) -> Dataset:
    from pydicom import dcmread

    with item.open() as stream:
        _check_inflated(item, stream)
        return dcmread(stream, stop_before_pixels=True, force=True)


def _header(item: Item, raw: _Raw) -> Header:
    text, number, count = raw.text, raw.number, raw.count
    return Header(
        item=item,
        file_bytes=item.size,
        pixels_at=raw.pixels_at,
        pixel_bytes=raw.pixel_bytes,
        transfer_syntax=raw.syntax,
        sop_class=text("sop_class") or raw.stored_class,
        sop_uid=text("sop_uid"),
        study_uid=text("study_uid"),
        series_uid=text("series_uid"),
        frame_uid=text("frame_uid"),
        modality=text("modality"),
        image_type=tuple(part.strip() for part in text("image_type").upper().split("\\")),
        description=raw.words("description"),
        kernel=text("kernel").replace("\\", " "),
        agent=raw.words("agent") if _TAGS["agent"] in raw.values else None,
        series_number=text("series_number"),
        acquisition=text("acquisition"),
        instance=text("instance"),
        rows=count("rows"),
        columns=count("columns"),
        samples=count("samples", 1),
        bits_allocated=count("bits_allocated"),
        bits_stored=count("bits_stored"),
        signed=count("signed") == 1,
        frames=max(1, int(number("frames") or 1)),
        position_mm=numbers_in(text("position"), 3),
        orientation=numbers_in(text("orientation"), 6),
        spacing_mm=numbers_in(text("spacing"), 2),
        thickness_mm=number("thickness"),
        slice_step_mm=number("slice_step"),
        tilt_deg=number("tilt"),
        kvp=number("kvp"),
        slope=number("slope"),
        intercept=number("intercept"),
        rescale_type=text("rescale_type"),
        lossy=text("lossy") == "01",
    )


def _frames(header: Header, dataset: Dataset) -> tuple[Header, ...]:
    """One header per frame of a multi-frame image, from its functional groups."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if not each:
        return (header,)  # without places; what is missing is said when it is judged
    if len(each) != header.frames:
        raise InputError(
            f"{header.item.name} says {header.frames} frames but describes {len(each)}; "
            "export the series again"
        )
    return tuple(_frame(header, k, (each[k], shared)) for k in range(header.frames))


def _frame(header: Header, k: int, groups: tuple[Any, Any]) -> Header:
    def look(sequence: str, attribute: str) -> Any:
        for group in groups:
            inner = group.get(sequence)
            if inner and inner[0].get(attribute) is not None:
                return inner[0].get(attribute)
        return None

    def numbers(sequence: str, attribute: str, n: int) -> Vector | None:
        value = look(sequence, attribute)
        several = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        return numbers_in("\\".join(str(v) for v in several), n)

    def number(sequence: str, attribute: str) -> float | None:
        found = numbers(sequence, attribute, 1)
        return None if found is None else found[0]

    kernel = look("CTReconstructionSequence", "ConvolutionKernel")
    kind = look("CTImageFrameTypeSequence", "FrameType")
    return replace(
        header,
        frame=k,
        position_mm=numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        orientation=numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        spacing_mm=numbers("PixelMeasuresSequence", "PixelSpacing", 2),
        thickness_mm=number("PixelMeasuresSequence", "SliceThickness"),
        slice_step_mm=number("PixelMeasuresSequence", "SpacingBetweenSlices"),
        slope=number("PixelValueTransformationSequence", "RescaleSlope"),
        intercept=number("PixelValueTransformationSequence", "RescaleIntercept"),
        rescale_type=str(look("PixelValueTransformationSequence", "RescaleType") or ""),
        kvp=number("CTXRayDetailsSequence", "KVP") or header.kvp,
        kernel=header.kernel if kernel is None else str(kernel),
        image_type=header.image_type if kind is None else tuple(str(v).upper() for v in kind),
    )


def numbers_in(text: str, n: int) -> Vector | None:
    """The first ``n`` finite numbers of a backslash-separated value, or None."""
    try:
        found = tuple(float(part) for part in text.split("\\")[:n])
    except ValueError:
        return None
    return found if len(found) == n and all(isfinite(v) for v in found) else None


def brief(error: Exception) -> str:
    """The first line of an error, cut to fit into a sentence."""
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]
