"""Say a finding, a structure or a heading in the reader's language, never in machine words.

English is the key: a sentence that has no entry in the catalogue of a language is printed in
English, and a test lists such sentences.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any, Literal, get_args

from trocar.errors import InputError
from trocar.model.case import Finding, Site

Language = Literal["en", "zh-Hant"]

_IDENTIFIER = re.compile(r"^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)+$")
_LEVEL = re.compile(r"^[CTLS]\d+$")
_SIDE_LAST = re.compile(r"^[a-z][a-z ]* (left|right)$")
_SIDES = {"left": "左側", "right": "右側"}


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """One language's sentences and names, each keyed by the English."""

    sentences: Mapping[str, str]
    names: Mapping[str, str]
    clauses: Mapping[str, str]  # of sentences that arrive with their numbers already in them


@cache
def catalogue(language: str) -> Catalogue:
    """The words of a language; empty for English, which needs none.

    Raises :class:`InputError` for a language the sheet does not speak.
    """
    if language not in get_args(Language):
        known = " or ".join(get_args(Language))
        raise InputError(f"the sheet cannot be written in {language!r}; choose {known}")
    if language == "en":
        return Catalogue(sentences={}, names={}, clauses={})
    stem = language.lower().replace("-", "_")
    folder = resources.files("trocar.report")
    parts = [f.name for f in folder.iterdir() if f.name.startswith(f"{stem}_")]
    # The first file has the last word; the others are the sheets' own, in any order.
    books = [_words(name) for name in (*sorted(parts), f"{stem}.toml")]

    def merged(section: str) -> dict[str, str]:
        return {k: v for book in books for k, v in book.get(section, {}).items()}

    return Catalogue(
        sentences=merged("sentences"), names=merged("names"), clauses=merged("clauses")
    )


def _words(file: str) -> dict[str, dict[str, str]]:
    text = resources.files("trocar.report").joinpath(file).read_text(encoding="utf-8")
    return dict(tomllib.loads(text))


def translate(text: str, language: Language) -> str:
    """The sentence in the language, or the English where there is none.

    >>> translate("Lesion", "zh-Hant")
    '病灶'
    """
    return _set(catalogue(language).sentences.get(text, text))


def _set(text: str) -> str:
    """Units as print sets them."""
    return text.replace(" mm2", " mm²").replace("degC", "°C")


def sentence(text: str) -> str:
    """With a capital: findings and names are written as clauses, and printed as sentences."""
    return text[:1].upper() + text[1:]


def say(finding: Finding, language: Language) -> str:
    """A finding as a sentence, its numbers filled in and the names among them translated.

    >>> from trocar.model.case import Gravity
    >>> values = {"what": "iliac_vena_left"}
    >>> say(Finding(gravity=Gravity.NOTE, message="{what} is near", values=values), "en")
    'left iliac vein is near'
    """
    return _set(fill(translate(finding.message, language), finding.values, language))


def say_together(findings: Sequence[Finding], language: Language) -> str:
    """Findings of one message as one sentence, the numbers that differ one after the other.

    >>> from trocar.model.case import Gravity
    >>> say_together([Finding(gravity=Gravity.NOTE, message="tilted {a:.0f} degrees",
    ...     values={"a": a}) for a in (39.2, 42.0)], "en")
    'tilted 39, 42 degrees'
    """
    if len(findings) == 1:
        return say(findings[0], language)
    template = translate(findings[0].message, language)
    pieces = []
    for before, field, spec, conversion in Formatter().parse(template):
        pieces.append(before)
        if field is not None:
            place = "{" + field + (f"!{conversion}" if conversion else "") + f":{spec or ''}" + "}"
            each = dict.fromkeys(fill(place, f.values, language) for f in findings)
            pieces.append(_joint(language).join(each))
    return _set("".join(pieces))


def fill(template: str, values: Mapping[str, Any], language: Language) -> str:
    """The template with its places filled; structure names among the values are put into words."""
    words = {key: _spoken(value, language) for key, value in values.items()}
    try:
        return template.format(**words)
    except (KeyError, IndexError, ValueError):
        # A finding that lost a number must still be read: nothing known is dropped.
        given = ", ".join(f"{key}: {value}" for key, value in words.items())
        return f"{template} ({given})" if given else template


def _spoken(value: Any, language: Language) -> Any:
    if isinstance(value, Site):
        return site(value, language)
    if isinstance(value, str):
        return _joint(language).join(_known_name(p, language) for p in value.split(", "))
    if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return _joint(language).join(_known_name(part, language) for part in value)
    return value


def _joint(language: Language) -> str:
    return ", " if language == "en" else "、"


def _known_name(text: str, language: Language) -> str:
    spoken = name(text, language)
    is_term = bool(_IDENTIFIER.match(text)) or spoken != text
    return spoken if is_term else translate(text, language)


def english(term: str) -> str:
    """A structure, region or route in plain English.

    >>> english("iliac_vena_left"), english("rib_left_12"), english("vertebrae_L2")
    ('left iliac vein', 'left rib 12', 'L2 vertebra')
    """
    if not (_IDENTIFIER.match(term) or _SIDE_LAST.match(term)):
        return _PLAIN.get(term, term)
    parts = re.split("[_ ]", term)
    if parts[0] == "vertebrae" and len(parts) == 2:
        return f"{parts[1]} vertebra"
    side = [p for p in parts if p in ("left", "right")]
    rest = " ".join(p for p in parts if p not in ("left", "right"))
    rest = _PLAIN.get(rest, rest).replace("supra acetabular", "supra-acetabular")
    return " ".join([*side, rest])


_PLAIN = {
    "iliac vena": "iliac vein",
    "autochthon": "muscle of the back",
    "hip": "hip bone",
    "other bone": "another bone",
    "far wall": "bone wall beyond the tip",
    "pedicle cortex": "pedicle wall",
    "ends too near the far wall": "ends too near the bone wall beyond the tip",
    "ends too near far wall": "ends too near the bone wall beyond the tip",
}
# The same words in sentences that arrive whole.
_REWORDED = {
    "iliac vena ": "iliac vein ",
    "the other bone": "another bone",
    "the far wall of the bone": "the bone wall beyond the tip",
}


def name(term: str, language: Language) -> str:
    """A structure, region, wall, bone or route in the reader's words.

    >>> name("spinal_canal", "zh-Hant"), name("left pedicle", "zh-Hant")
    ('椎管', '左側椎弓根')
    """
    plain = english(term)
    names = catalogue(language).names
    if language == "en" or plain in names:
        return names.get(plain, plain)
    words = plain.split(" ")
    sides = [w for w in words if w in _SIDES]
    base = " ".join(w for w in words if w not in _SIDES)
    numbered = re.match(r"^(.*) (\d+)$", base)
    if sides and base in names:
        return _SIDES[sides[0]] + names[base]
    if numbered and numbered[1] in names:
        return (_SIDES[sides[0]] if sides else "") + f"第{numbered[2]}{names[numbered[1]]}"
    level = words[0]
    if len(words) == 2 and _LEVEL.match(level) and words[1] in names:
        return f"{level} {names[words[1]]}"
    return plain


def site(place: Site, language: Language) -> str:
    """The treated bone, such as 'L3 vertebra' or 'right acetabulum'."""
    if place.kind == "vertebra":
        return name(f"{place.level} vertebra", language)
    if place.kind == "sacrum":
        return name("sacrum", language) + (f" ({place.level})" if place.level else "")
    return name(f"{place.side} {place.kind}".strip(), language)


def retell(text: str, language: Language) -> str:
    """A sentence whose numbers are already filled in, put into the language clause by clause.

    What no pattern of the catalogue fits stays as it came.

    >>> retell("32 mm outside the bone, 20 mm in it; 10 G is the thickest in stock.", "zh-Hant")
    '骨外 32 mm，骨內 20 mm；10 G 為現有最粗'
    """
    for old, new in _REWORDED.items():
        text = text.replace(old, new)
    if language == "en" or not text:
        return text
    whole = text.rstrip(".")
    if "; " in whole:
        return "；".join(retell(part, language) for part in whole.split("; "))
    if whole in catalogue(language).names:
        return name(whole, language)
    for pattern, clause in _patterns(language):
        found = pattern.fullmatch(whole)
        if found:
            parts = {key: retell(value, language) for key, value in found.groupdict().items()}
            if parts.get("rest") != found.groupdict().get("rest") or "rest" not in parts:
                return clause.format(**parts)
    if ", " in whole:
        return "，".join(retell(part, language) for part in whole.split(", "))
    return _known_name(whole, language)


@cache
def _patterns(language: Language) -> tuple[tuple[re.Pattern[str], str], ...]:
    """The clauses as regular expressions; ``{rest}`` may hold commas, ``{n}`` is a count."""
    out = []
    for english_clause, clause in catalogue(language).clauses.items():
        text = "".join(
            re.escape(before) + (_place(field) if field else "")
            for before, field, _, _ in Formatter().parse(english_clause)
        )
        out.append((re.compile(text, re.IGNORECASE), clause))
    return tuple(out)


def _place(field: str) -> str:
    if field == "rest":
        return "(?P<rest>.+)"
    return r"(?P<n>[\d ]+)" if field == "n" else f"(?P<{field}>[^;,]+?)"


def untranslated(texts: Iterable[str], language: Language) -> tuple[str, ...]:
    """Those of the sentences that the language has no entry for, or an entry with other places."""
    sentences = catalogue(language).sentences
    return tuple(
        text
        for text in dict.fromkeys(texts)
        if text not in sentences or _places(sentences[text]) != _places(text)
    )


def _places(template: str) -> set[str]:
    return {field for _, field, _, _ in Formatter().parse(template) if field is not None}
