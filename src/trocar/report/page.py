"""What every page shares: one translator, one template engine, one way to reach the disk."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from trocar.errors import InputError
from trocar.report import words
from trocar.report.words import Language


class Speaker:
    """Says a template in one language: ``t("{depth:.0f} mm deep", depth=92.4)``."""

    def __init__(self, language: Language) -> None:
        words.catalogue(language)
        self.language = language

    def __call__(self, text: str, **values: Any) -> str:
        """The template in the language with its places filled."""
        spoken = words.translate(text, self.language)
        return words.fill(spoken, values, self.language) if values else spoken

    def name(self, term: str) -> str:
        """A structure, wall, region or route in words."""
        return words.name(term, self.language)

    def the(self, term: str) -> str:
        """A structure as it stands in a sentence: "the aorta", "another bone"."""
        spoken = self.name(term)
        if self.language != "en" or spoken.startswith("another "):
            return spoken
        return f"the {spoken}"

    @property
    def colon(self) -> str:
        """Between a word and what is said of it."""
        return ": " if self.language == "en" else "："

    def listed(self, terms: Sequence[str]) -> str:
        """Structures one after the other."""
        return (", " if self.language == "en" else "、").join(self.name(term) for term in terms)

    def mm(self, value: float, digits: int = 1) -> str:
        """Millimetres, or the word for unknown."""
        return self.number(value, "mm", digits)

    def number(self, value: float | None, unit: str, digits: int = 1) -> str:
        """A number with its unit and a true minus sign, or the word for unknown."""
        if value is None or not math.isfinite(value):
            return self("unknown")
        space = "" if unit in ("°", "") else " "
        return f"{value:.{digits}f}{space}{unit}".replace("-", "−")


def spoken_language(language: str) -> Language:
    """The language as the catalogue knows it; InputError for one no page speaks."""
    words.catalogue(language)
    return "zh-Hant" if language == "zh-Hant" else "en"


def render(template: str, **context: Any) -> str:
    """A template of this package with the house style in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("trocar.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["css"] = css_string
    style = resources.files("trocar.report").joinpath("plan.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **context)


def css_string(text: str) -> str:
    """Text as a CSS string that cannot end early, whatever it holds.

    >>> css_string('a"<b')
    '"a\\\\22 \\\\3c b"'
    """
    safe = (c if c.isalnum() or c in " .,-" else f"\\{ord(c):x} " for c in text)
    return '"' + "".join(safe) + '"'


def write_whole(path: Path, html: str, *, what: str = "the plan sheet") -> Path:
    """Write a page so that it appears whole or not at all; InputError when it cannot."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(html, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{what} cannot be written to {path}: {error.strerror}; give a file in a "
            "folder that exists and may be written"
        ) from error
    return path
