"""What of a DICOM object may stay when nobody may be recognised in it?

An allow-list (``deid_profile.toml``): an attribute without a row is removed, whether it is free
text, a name, private, or unknown to the standard, at every depth. The value of one with a row must
look like what the row promises, or it goes as well. So nothing written into a text field, by a
person or by a program, comes through: what stays are numbers, pixels, terms and words from lists,
and identifiers and dates made anew by the :class:`~trocar.io.pseudonyms.Key`.
"""

from __future__ import annotations

import logging
import re
import struct
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from trocar.errors import InputError
from trocar.facts.source import load
from trocar.io import measurements
from trocar.io.headers import BIG_ENDIAN, CT_IMAGE, EXPLICIT, IMPLICIT, SECONDARY_CAPTURE
from trocar.io.pseudonyms import Key, moved
from trocar.io.segmentation import SCHEME

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

Dates = Literal["shifted", "removed"]
DATES: tuple[Dates, ...] = ("shifted", "removed")

_OTHER, _REMOVED = "OTHER", "REMOVED"
_DUMMY = {
    "DA": "22000101",
    "DT": "22000101",
    "TM": "000000",
}  # what must be there, when nothing may
_TEXT = frozenset(("CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DAY = re.compile(r"(1[89]|2[0-3])\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_WORD = re.compile(r"[^\W_]+(?:\.\d+)?")
_BETWEEN = re.compile(r"[ _\-.,/()+:;]*")
_LEVEL = re.compile(r"(?i)[ctls]\d{1,2}")  # a vertebra
_SMALL = re.compile(r"\d{1,3}(\.\d{1,2})?")
_MOST_DIGITS = 4  # in one name: enough for a segment's number, too few for a date
_DEEPEST = 64


@dataclass(frozen=True, eq=False)
class _Kind:
    """What an object is called, and the attributes it must have, or have at least empty."""

    name: str
    must: frozenset[int]
    empty: frozenset[int]


@dataclass(frozen=True, eq=False)
class _Profile:
    rules: Mapping[int, str]  # tag -> kind of row
    terms: Mapping[int, frozenset[str]]
    patterns: Mapping[int, re.Pattern[str]]
    objects: Mapping[str, _Kind]
    inside: _Kind  # items of sequences
    words: frozenset[str]
    screens: frozenset[str]
    units: Mapping[str, str]
    method: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class _Work:
    """What stays the same from the top of an object down to its deepest item."""

    key: Key
    days: int | None  # None: dates are removed
    kind: _Kind
    depth: int = 0


def deidentify(dataset: Dataset, key: Key, *, dates: Dates = "shifted") -> Dataset:
    """A DICOM object in which nobody can be recognised, made anew; the one given is not changed.

    By the Basic Application Level Confidentiality Profile (PS3.15 Annex E) and stricter: what is
    not on trocar's list is removed. Pixels stay bit for bit. Identifiers become those the key
    makes of them, so that objects treated with one key still refer to each other; ``dates`` are
    shifted by the patient's own number of days, or removed. Treating the result again changes
    nothing. The key remembers patient and study. Raises InputError for an object of a kind trocar
    has no use for, and when its pixels may show who it is.
    """
    way_with_dates(dates)
    with quiet():
        try:
            return _deidentified(dataset, key, dates)
        except InputError:
            raise
        except Exception as error:  # fuzzed objects break a parser in any way; none may pass
            # The parser's own words could quote what it was reading.
            raise InputError(
                f"it cannot be read to its end ({type(error).__name__}); export it again"
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Let pydicom neither warn nor log: it quotes odd values, and a name must not end in a log."""
    logger = logging.getLogger("pydicom")

    def silent(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeFilter(silent)


def way_with_dates(text: str) -> Dates:
    """What is to become of dates, from its name; raises InputError for another."""
    for dates in DATES:
        if text == dates:
            return dates
    raise InputError(f"dates were to be {text!r}; expected {' or '.join(DATES)}")


def _deidentified(dataset: Dataset, key: Key, dates: Dates) -> Dataset:
    kind = _accepted(dataset)
    _refuse_burned_in(dataset)
    patient = _text(dataset, "PatientID") or _text(dataset, "StudyInstanceUID")
    who = key.pseudonym(patient, _text(dataset, "PatientName"))
    key.study(_text(dataset, "StudyInstanceUID"))
    days = key.days(who) if dates == "shifted" else None
    made = _treated(dataset, _Work(key, days, kind))
    made.PatientID = made.PatientName = who
    _say_so(made, shifted=days is not None, report="ContentSequence" in made)
    made.file_meta = _meta(dataset, made, key)
    return made


# --- which objects -------------------------------------------------------------------------------


def _accepted(dataset: Dataset) -> _Kind:
    from pydicom.uid import UID

    uid = _class(dataset)
    objects = _profile().objects
    if uid in objects:
        return objects[uid]
    if not uid and _text(dataset, "Modality") == "CT":
        return objects[CT_IMAGE]  # some exports leave the class out
    name = UID(uid).name if uid in _standard_uids() else "an object of a kind unknown to DICOM"
    raise InputError(
        f"it is not taken: {name if uid else 'an object without a class'}; expected a CT image, "
        "a segmentation, an RT structure set, a report or a parametric map"
    )


def _class(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    stored = "" if meta is None else _text(meta, "MediaStorageSOPClassUID")
    return _text(dataset, "SOPClassUID") or stored


def _refuse_burned_in(dataset: Dataset) -> None:
    """Raise InputError when a name may be drawn into the pixels, where no list can find it."""
    burned = _text(dataset, "BurnedInAnnotation").upper()
    if burned == "YES":
        raise InputError("its pixels are said to show writing (Burned In Annotation); leave it out")
    samples = _text(dataset, "SamplesPerPixel")
    screen = (
        _class(dataset).startswith(SECONDARY_CAPTURE)
        or bool(_text(dataset, "ConversionType"))
        or (samples.isdigit() and int(samples) > 1)
        or bool(_profile().screens & set(_text(dataset, "ImageType").upper().split("\\")))
    )
    if screen and burned != "NO":
        raise InputError(
            "it is a picture of a screen, which may show a name, and does not say that it shows "
            "none (Burned In Annotation NO); leave it out"
        )
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset would parse every element
        placed = tag.group & 0xFF00 == 0x6000 and tag.element == 0x0102
        if placed and (tag.group << 16 | 0x3000) not in dataset:
            raise InputError(
                "an overlay is drawn into spare bits of its pixels, which may be a name; "
                "leave it out"
            )


# --- one data set after another ------------------------------------------------------------------


def _treated(dataset: Dataset, work: _Work) -> Dataset:
    """The part of a data set that may stay, and stand-ins for what must be there."""
    from pydicom.dataset import Dataset

    if work.depth > _DEEPEST:
        raise InputError(f"its sequences lie more than {_DEEPEST} deep; no image is made like that")
    profile, made = _profile(), Dataset()
    for tag in sorted(dataset.keys()):
        found = None
        if tag in profile.rules:
            found = _KINDS[profile.rules[tag]](dataset, tag, work)
        if found is None:
            found = _stand_in(tag, work.kind)
        if found is not None:
            made[tag] = found
    return made


def _stand_in(tag: int, kind: _Kind) -> DataElement | None:
    if tag in kind.must:
        vr = _vr(tag)
        return _element(tag, _DUMMY.get(vr, _REMOVED))
    return _element(tag, None) if tag in kind.empty else None


def _element(tag: int, value: Any) -> DataElement:
    from pydicom.dataelem import DataElement

    vr = _vr(tag)
    return DataElement(tag, vr, [] if vr == "SQ" and value is None else value)


@cache
def _vr(tag: int) -> str:
    from pydicom.datadict import dictionary_VR

    return str(dictionary_VR(tag))


def _read(dataset: Dataset, tag: int) -> DataElement | None:
    """An element with its value, or None when the bytes are no such value."""
    try:
        return dataset[tag]
    except Exception:  # each kind of value fails in its own ways; what cannot be read is removed
        return None


def _several(value: Any) -> list[str]:
    """The values of an element as texts."""
    if value is None:
        return []
    if isinstance(value, bytes):
        return [value.decode("latin-1")]
    many = value if not isinstance(value, str) and hasattr(value, "__iter__") else [value]
    if hasattr(value, "components"):  # a person's name
        many = [value]
    return [str(v).strip(" \0") for v in many]


def _text(dataset: Dataset, keyword: str) -> str:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return ""
    element = _read(dataset, tag)
    return "" if element is None else "\\".join(_several(element.value)).strip(" \0")


def _one_or_many(values: list[str]) -> Any:
    return values if len(values) > 1 else values[0] if values else None


# --- what each kind of row lets through ----------------------------------------------------------


def _number(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    element = _read(dataset, tag)
    if element is None or element.VR not in (*_vr(tag).split(" or "), _vr(tag)):
        return None
    least, most = _how_many(tag)
    if not (element.is_empty or least <= element.VM <= most):
        return None
    if element.VR in ("DS", "IS"):
        return element if all(map(_is_number, _several(element.value))) else None
    if element.VR == "OV":
        return element if _are_offsets(element.value, dataset) else None
    if isinstance(element.value, bytes) and len(element.value) > 6:
        return None  # one to three words whose sign is told elsewhere; no place for more
    return element


def _are_offsets(value: Any, dataset: Dataset) -> bool:
    """Whether bytes are places within the pixels: text would point far beyond them."""
    pixels = _read(dataset, _tag("PixelData")) if "PixelData" in dataset else None
    if pixels is None or not isinstance(value, bytes) or len(value) % 8:
        return False
    return all(at <= len(pixels.value) for (at,) in struct.iter_unpack("<Q", value))


@cache
def _how_many(tag: int) -> tuple[int, float]:
    """How many values an attribute has at least and at most, by the standard."""
    from pydicom.datadict import dictionary_VM

    least, _, most = str(dictionary_VM(tag)).partition("-")
    return int(least), inf if "n" in most else int(most or least)


def _is_number(text: str) -> bool:
    return not text or (bool(_NUMBER.fullmatch(text)) and not _DAY.fullmatch(text))


def _pixels(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    element = _read(dataset, tag)
    if element is None or not isinstance(element.value, bytes) or work.depth:
        return None  # pixels within a sequence are a small picture of the whole
    return element if element.VR in ("OB", "OW", "OF", "OD", "OB or OW") else None


def _colours(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    """A table of colours, when it is as long as its descriptor says."""
    element = _pixels(dataset, tag, work)
    described = _read(dataset, tag - 0x100) if tag - 0x100 in dataset else None
    said = [] if described is None else [int(v) for v in _several(described.value) if v.isdigit()]
    if element is None or len(said) != 3 or said[2] not in (8, 16):
        return None
    return element if len(element.value) == (said[0] or 1 << 16) * said[2] // 8 else None


def _uid(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    element = _read(dataset, tag)
    if element is None or element.VR == "SQ":
        return None
    return _element(tag, _one_or_many([work.key.uid(v) for v in _several(element.value)]))


def _date(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    element = _read(dataset, tag)
    if element is None or element.VR == "SQ" or work.days is None:
        return None
    days = [moved(v, work.days) for v in _several(element.value)]
    return _element(tag, _one_or_many(days)) if days and all(days) else None


def _terms(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    element = _read(dataset, tag)
    if element is None or element.VR == "SQ":
        return None
    profile = _profile()
    known, pattern = profile.terms[tag], profile.patterns.get(tag)

    def term(value: str) -> str:
        stays = not value or value in known or (pattern and pattern.fullmatch(value))
        return value if stays else _OTHER

    return _element(tag, _one_or_many([term(v) for v in _several(element.value)]))


def _label(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    element = _read(dataset, tag)
    if element is None or element.VR == "SQ":
        return None
    text = "\\".join(_several(element.value))
    number = _text(dataset, "SegmentNumber") or _text(dataset, "ROINumber")
    other = f"region {number}" if re.fullmatch(r"\d{1,4}", number) else _REMOVED
    return _element(tag, text if not text or known_label(text) else other)


def _phrase(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    element = _read(dataset, tag)
    if element is None or element.VR == "SQ":
        return None
    text = known_words("\\".join(_several(element.value)))
    return _element(tag, text) if text else None


def _contrast(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    """Whether an agent was given, without what was typed there."""
    text = _text(dataset, "ContrastBolusAgent")
    none = text.upper() in ("NO", "NONE", "NO CONTRAST", "WITHOUT")
    return _element(tag, "NO" if none else "YES" if text else None)


def _items(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    from pydicom.sequence import Sequence

    below = replace(work, kind=_profile().inside, depth=work.depth + 1)
    return _sequence(dataset, tag, lambda item: _treated(item, below), Sequence)


def _codes(dataset: Dataset, tag: int, work: _Work) -> DataElement | None:
    from pydicom.sequence import Sequence

    below = replace(work, kind=_profile().inside, depth=work.depth + 1)

    def coded(item: Dataset) -> Dataset:
        made = _treated(item, below)
        for keyword, value in zip(_CODE, _code(item), strict=True):
            setattr(made, keyword, value)
        return made

    return _sequence(dataset, tag, coded, Sequence)


def _sequence(
    dataset: Dataset, tag: int, treat: Callable[[Dataset], Dataset], kind: Any
) -> DataElement | None:
    element = _read(dataset, tag)
    if element is None or element.VR != "SQ":
        return None
    return _element(tag, kind([treat(item) for item in element.value]))


_KINDS: dict[str, Callable[[Any, int, _Work], Any]] = {
    "numbers": _number,
    "pixels": _pixels,
    "colours": _colours,
    "uids": _uid,
    "dates": _date,
    "terms": _terms,
    "labels": _label,
    "phrases": _phrase,
    "contrast": _contrast,
    "items": _items,
    "codes": _codes,
}


# --- words and codes -----------------------------------------------------------------------------


def known_label(text: str) -> bool:
    """Whether the name of a region is made of known words and a few digits alone.

    >>> known_label("vertebrae_L3"), known_label("GTV_Mass_CT"), known_label("Tumour Mr Smith")
    (True, True, False)
    """
    words = _WORD.findall(text)
    return (
        bool(words)
        and _digits(text) <= _MOST_DIGITS
        and bool(_BETWEEN.fullmatch(_WORD.sub("", text)))
        and all(map(_is_known, words))
    )


def known_words(text: str) -> str:
    """The known words of a description, in their order.

    >>> known_words("Smith Spine 1.0 B70s 19530407")
    'Spine 1.0'
    """
    kept: list[str] = []
    for word in _WORD.findall(text):
        lone = word.isdigit()  # a slice thickness has a point; other numbers could be anything
        if _is_known(word) and not lone and _digits("".join((*kept, word))) <= _MOST_DIGITS:
            kept.append(word)
    return " ".join(kept)


def _digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


def _is_known(word: str) -> bool:
    letters = word.isascii() and word.lower() in _profile().words
    return letters or bool(_LEVEL.fullmatch(word) or _SMALL.fullmatch(word))


_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")


def _code(item: Dataset) -> tuple[str, str, str]:
    """A code as its scheme gives it; one that is not known there becomes "removed"."""
    value, scheme = _text(item, "CodeValue"), _text(item, "CodingSchemeDesignator")
    meaning = _known_codes().get((scheme, value))
    if meaning is None and scheme == SCHEME and _is_ours(value, _text(item, "CodeMeaning")):
        meaning = _text(item, "CodeMeaning")
    return (value, scheme, meaning) if meaning else (_REMOVED, SCHEME, "Removed")


def _is_ours(value: str, meaning: str) -> bool:
    """Whether a code of trocar's own scheme is one that trocar writes.

    Its values are the letters of their meaning, or of what is at risk at a distance.
    """
    if measurements._OWN.get(value) == meaning:
        return True
    letters = {_letters(meaning), "D" + _letters(meaning.partition(": ")[2])}
    return known_label(meaning) and value in {text[:16] for text in letters}


def _letters(text: str) -> str:
    return "".join(c for c in text.upper() if c.isalnum())


@cache
def _known_codes() -> dict[tuple[str, str], str]:
    """Scheme and value to meaning, of every code pydicom's copy of the standard holds."""
    from pydicom.sr.codedict import codes

    found = {("UCUM", unit): name for unit, name in _profile().units.items()}
    for scheme in ("DCM", "SCT", "UCUM", "LN", "FMA", "RADLEX", "UMLS", "NCIt", "IBSI"):
        every = getattr(codes, scheme)
        for name in every.dir():
            code = getattr(every, name)
            found[scheme, code.value] = _short(code.meaning)
    return found


def _short(meaning: str) -> str:
    return meaning.encode("ascii", "replace").decode()[:64].strip()


@cache
def _standard_uids() -> frozenset[str]:
    from pydicom.uid import UID_dictionary

    return frozenset(UID_dictionary)


# --- what the result says of itself --------------------------------------------------------------


def _say_so(made: Dataset, *, shifted: bool, report: bool) -> None:
    from pydicom.dataset import Dataset

    method = _profile().method
    codes = [*method["always"], *(method["report"] if report else ())]
    codes += method["shifted"] if shifted else ()
    items = []
    for value, meaning in sorted(codes):
        items.append(Dataset())
        items[-1].CodeValue, items[-1].CodingSchemeDesignator = value, "DCM"
        items[-1].CodeMeaning = meaning
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethodCodeSequence = items
    made.LongitudinalTemporalInformationModified = "MODIFIED" if shifted else "REMOVED"


def _meta(dataset: Dataset, made: Dataset, key: Key) -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID

    before = getattr(dataset, "file_meta", None)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(_class(dataset) or CT_IMAGE)
    stored = "" if before is None else _text(before, "MediaStorageSOPInstanceUID")
    uid = _text(made, "SOPInstanceUID") or key.uid(stored)
    meta.MediaStorageSOPInstanceUID = UID(uid or key.uid("without an identifier"))
    meta.TransferSyntaxUID = UID(
        _syntax(dataset, "" if before is None else _text(before, "TransferSyntaxUID"))
    )
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = "TROCAR"
    return meta


def _syntax(dataset: Dataset, stated: str) -> str:
    """How the object is encoded; it stays so, that the pixels need not be touched."""
    from pydicom.uid import UID

    if not stated:
        implicit, little = dataset.original_encoding
        return IMPLICIT if implicit else BIG_ENDIAN if little is False else EXPLICIT
    if stated not in _standard_uids() or not UID(stated).is_transfer_syntax:
        raise InputError(
            "it is encoded in a way of its maker's own, which trocar cannot read; export it again "
            "uncompressed"
        )
    return stated


# --- the list ------------------------------------------------------------------------------------


@cache
def _profile() -> _Profile:
    raw = resources.files("trocar.io").joinpath("deid_profile.toml").read_text(encoding="utf-8")
    told = tomllib.loads(raw)
    rules = {_tag(k): kind for kind, names in told["keep"].items() for k in names}
    rules |= dict.fromkeys(map(_tag, told["terms"]), "terms")
    rules[_tag("ContrastBolusAgent")] = "contrast"
    objects = {o["class"]: _kind(o, told["every_object"]) for o in told["object"]}
    return _Profile(
        rules=rules,
        terms={_tag(k): frozenset(values) for k, values in told["terms"].items()},
        patterns={_tag(k): re.compile(p) for k, p in told["patterns"].items()},
        objects=objects,
        inside=_kind({"name": "item", **told["items_of_sequences"]}, {}),
        words=frozenset(_vocabulary(told["words"]["known"])),
        screens=frozenset(told["screens"]["words"]),
        units=told["units"],
        method=told["method"],
    )


def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(f"{keyword} in deid_profile.toml is no attribute that pydicom knows")
    return int(tag)


def _kind(told: Mapping[str, Any], common: Mapping[str, Any]) -> _Kind:
    empty = (*told.get("empty", ()), *common.get("empty", ()))
    return _Kind(
        name=told["name"],
        must=frozenset(map(_tag, told.get("must", ()))),
        empty=frozenset(map(_tag, empty)),
    )


def _vocabulary(text: str) -> Iterator[str]:
    yield from text.split()
    labels = load("labels").data
    for table in ("totalsegmentator", "verse"):
        for name in labels[table]:
            yield from (word for word in name.lower().split("_") if word.isalpha())
