"""Every text of the site is said in both languages, with the same places for values."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LANGUAGE = "zh_Hant"
# What a value is put in place of: {name}, {0:.1f}, %(name)s, %s; not the sign in "95 %".
_PLACE = re.compile(r"\{[^{}]*\}|%\([^)]+\)[a-z]|%[sd]")


@pytest.fixture(scope="session")
def maker() -> ModuleType:
    pytest.importorskip("babel", reason="babel is not installed")
    where = importlib.util.spec_from_file_location("maker", ROOT / "docs" / "make_catalogue.py")
    assert where is not None
    assert where.loader is not None
    made = importlib.util.module_from_spec(where)
    where.loader.exec_module(made)
    return made


@pytest.fixture(scope="session")
def compiled(maker: ModuleType) -> Path:
    """What Django reads, made from the catalogue as it stands."""
    path: Path = maker.build(LANGUAGE)
    return path


def _forms(said: Any) -> tuple[str, ...]:
    return (said,) if isinstance(said, str) else tuple(said)


def entries(maker: ModuleType) -> list[tuple[str, str]]:
    """English text and translation, each form of a plural against the form it is made from."""
    told = []
    for entry in maker.read(LANGUAGE):
        if not entry.id:
            continue
        # Chinese has one form, which serves one as well as many.
        told += [(_forms(entry.id)[-1], one) for one in _forms(entry.string)]
    return told


def test_no_text_lacks_a_translation(maker: ModuleType) -> None:
    assert maker.missing(LANGUAGE) == []
    assert len(maker.messages()) > 500  # it was the site's texts that were asked about


def test_a_translation_has_the_places_of_its_text(maker: ModuleType) -> None:
    def places(text: str) -> Counter[str]:
        return Counter(_PLACE.findall(text))

    assert {t: z for t, z in entries(maker) if places(t) != places(z)} == {}


def test_what_is_read_is_what_is_written(maker: ModuleType, compiled: Path) -> None:
    from babel.messages.mofile import read_mo

    assert compiled.stat().st_mtime >= maker.path_of(LANGUAGE).stat().st_mtime
    with compiled.open("rb") as stream:
        told = read_mo(stream)

    def held(catalogue: Any) -> dict[tuple[str, ...], tuple[str, ...]]:
        return {_forms(e.id): _forms(e.string) for e in catalogue if e.id}

    assert held(told) == held(maker.read(LANGUAGE))


@pytest.mark.parametrize("code", ["en", "zh-hant"])
def test_a_language_is_called_by_its_own_name(code: str) -> None:
    """The way out of a language nobody here reads is written in the other one."""
    from django.utils.translation import get_language_info

    named: Any = {"en": "English", "zh-hant": "繁體中文"}
    assert get_language_info(code)["name_local"] == named[code]
