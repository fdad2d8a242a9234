"""Every text the site says, gathered from where it is said, and what has no translation yet.

Templates and code are read by gettext's own rules; help and choices of the records' columns, states
and gates are words that are translated when they are shown. ``python docs/make_catalogue.py``
brings the catalogues up to date: new texts are entered empty (or as the sheets already say them),
old ones leave.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1] / "src" / "trocar" / "web"
LOCALE = HERE / "locale"
LANGUAGES = ("zh_Hant",)
_JOB_STATES = ("waiting", "running", "done", "failed", "interrupted", "cancelled")
_ASKING = {
    **dict.fromkeys(("gettext", "gettext_lazy", "gettext_noop", "_")),
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
}
# Codes that are the same in every language: L1, 1a, CT, PET-CT, VAS.
_CODE = re.compile(r"[A-Z]?\d*[a-z]?|[A-Z0-9-]{1,7}|[IV]+")


def messages() -> dict[str, tuple[str, ...]]:
    """Every text and where it is said: the key is the English text, plurals as ``one\\x00many``."""
    found: dict[str, set[str]] = {}
    for text, where in (
        *_of_templates(),
        *_of_code(),
        *_of_records(),
        *_of_rules(),
        *_of_facts(),
        *_of_decisions(),
        *_of_site(),
        *_of_work(),
        *_of_refusals(),
    ):
        if text.strip() and not _CODE.fullmatch(text):
            found.setdefault(text, set()).add(where)
    return {text: tuple(sorted(places)) for text, places in sorted(found.items())}


def _extracted(source: str, where: str) -> Iterator[tuple[str, str]]:
    from babel.messages.extract import extract

    for _, message, _, _ in extract("python", io.BytesIO(source.encode()), _ASKING):
        if isinstance(message, tuple):
            yield "\x00".join(m for m in message if m), where
        else:
            yield message, where


def _of_templates() -> Iterator[tuple[str, str]]:
    from django.utils.translation.template import templatize

    for path in sorted((HERE / "templates").rglob("*")):
        if path.suffix in (".html", ".txt"):
            where = path.relative_to(HERE).as_posix()
            yield from _extracted(templatize(path.read_text(encoding="utf-8"), where), where)


def _of_code() -> Iterator[tuple[str, str]]:
    for path in sorted(HERE.rglob("*.py")):
        where = path.relative_to(HERE).as_posix()
        yield from _extracted(path.read_text(encoding="utf-8"), where)


def _of_records() -> Iterator[tuple[str, str]]:
    from trocar.model.care import ALL_TABLES
    from trocar.model.columns import columns
    from trocar.model.study import DataNote, StudyInfo
    from trocar.registry import roles

    for table, record in {**ALL_TABLES, "study": StudyInfo, "notes": DataNote}.items():
        yield table.replace("_", " "), "records"
        for c in columns(record):
            yield c.help, f"records/{table}"
            if c.unit.isalpha() and len(c.unit) > 3:  # words, not symbols: days, years
                yield c.unit, f"records/{table}"
            yield from ((choice, f"records/{table}") for choice in c.choices)
    for word in (*roles.ROLES, *roles.EVERY_RIGHT):
        yield word, "roles"


def _of_rules() -> Iterator[tuple[str, str]]:
    """Literal sentences of gates, rules and scores: every text given by name in those modules."""
    import trocar.pathway.workflow as workflow
    from trocar import selection
    from trocar.followup import walking_labels

    named = {"reason", "title", "text", "meaning", "group", "label", "message"}
    folder = Path(str(selection.__file__)).parent
    here = Path(str(workflow.__file__))
    way = (here, here.with_name("gates.py"))
    for path in (*way, *sorted(folder.glob("*.py"))):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):  # what a rule asks for, by name, and what it answers
                keys = (k for k in node.keys if isinstance(k, ast.Constant))
                yield from ((k.value, path.name) for k in keys if " " in str(k.value))
            if isinstance(node, ast.keyword) and node.arg in named:
                yield from ((t, path.name) for t in _texts(node.value))
    yield from ((label, "followup") for label in walking_labels())
    yield "local arrangement", "workflow.py"  # what a gate names in place of a clause
    for words in (getattr(workflow, n, {}) for n in ("VISIT_WORDS", "_NEXT_WORDS")):
        values = words.values() if isinstance(words, dict) else words
        yield from ((str(v), "workflow.py") for v in values)


def _of_decisions() -> Iterator[tuple[str, str]]:
    """What a rule and a decision can come to."""
    from typing import get_args, get_type_hints

    from trocar.model.decision import Decision, Status

    for word in (*get_args(Status), *get_args(get_type_hints(Decision)["outcome"])):
        yield word, "decision.py"


def _of_site() -> Iterator[tuple[str, str]]:
    """Fixed words of pages: groups of sites, states of a job, kinds of log entries, outcomes."""
    from trocar.audit import comparison
    from trocar.registry import chain, store
    from trocar.web.pages.work import SITE_GROUPS

    yield from ((word, "work.py") for word in SITE_GROUPS)
    yield from ((text, "store.py") for text in store.THERE_ALREADY.values())
    yield from ((word, "jobs.py") for word in _JOB_STATES)
    yield from (("change", "log"), (chain.NOT_HERE, "log"))
    for path in sorted(HERE.parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "chain.log" and node.args:
                yield from ((t, "log") for t in _texts(node.args[0]))
    tree = ast.parse(Path(str(comparison.__file__)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "title":
            yield from ((t, "comparison.py") for t in _texts(node.value))


def _of_work() -> Iterator[tuple[str, str]]:
    """The steps that long work tells of while it is waited for."""
    here = HERE.parent
    rooms = ("imaging", "planning", "simulation", "pathway")
    files = [p for room in rooms for p in sorted((here / room).rglob("*.py"))]
    for path in (*files, here / "tasks.py", HERE / "pages" / "upload.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            if ast.unparse(node.func).rpartition(".")[2] in ("tell", "progress", "during"):
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value, path.name


def _of_refusals() -> Iterator[tuple[str, str]]:
    """What pages say when they refuse: whole sentences given to InputError."""
    for path in sorted(HERE.rglob("*.py")):
        if {"api", "backup.py", "serve.py", "demo.py"} & set(path.relative_to(HERE).parts):
            continue  # read by programs or on the command line
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError":
                where = path.relative_to(HERE).as_posix()
                yield from ((t, where) for a in node.args for t in _texts(a))


def _of_facts() -> Iterator[tuple[str, str]]:
    """Titles and standards of the audit's rules, which are gates of closing a case."""
    from trocar.facts.source import load

    for rule in load("governance").data["rules"]:
        yield rule["title"], "governance.toml"
        yield rule["standard"], "governance.toml"
    yield from ((text, "scores.toml") for text in _said_of_groups(load("scores").data))


def _said_of_groups(data: Any) -> Iterator[str]:
    """The group and meaning of every range of points, wherever it stands."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("group", "meaning") and isinstance(value, str):
                yield value
            else:
                yield from _said_of_groups(value)
    elif isinstance(data, list):
        for value in data:
            yield from _said_of_groups(value)


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def path_of(language: str) -> Path:
    """The catalogue of a language."""
    return LOCALE / language / "LC_MESSAGES" / "django.po"


def read(language: str) -> Any:
    """The catalogue as it stands; an empty one where there is none."""
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import read_po

    path = path_of(language)
    if not path.exists():
        return Catalog(locale=language, project="trocar", charset="utf-8")
    with path.open("rb") as stream:
        return read_po(stream, locale=language)


def missing(language: str) -> list[str]:
    """The texts without a translation."""
    held = read(language)
    out = []
    for text in messages():
        entry = held.get(text.split("\x00")[0])
        told = entry.string if entry is not None else ""
        if not told or (isinstance(told, tuple) and not all(told)):
            out.append(text.replace("\x00", " / "))
    return out


def update(language: str) -> None:
    """Enter new texts, as the sheets already say them where they do; let old ones go."""
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import write_po

    held, sheets = read(language), _of_sheets()
    fresh = Catalog(locale=language, project="trocar", charset="utf-8")
    for text, places in messages().items():
        key: Any = tuple(text.split("\x00")) if "\x00" in text else text
        one = key if isinstance(key, str) else key[0]
        entry = held.get(one)
        told: Any = "" if entry is None else entry.string
        if not told or (isinstance(told, tuple) and not all(told)):
            told = sheets.get(one, "")
        if isinstance(key, tuple):
            told = told if isinstance(told, tuple) else (told,)
        elif isinstance(told, tuple):
            told = told[0]
        flags = ["python-brace-format"] if "{" in one else []
        fresh.add(key, told, locations=[(p, 1) for p in places], flags=flags)
    path = path_of(language)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        write_po(stream, fresh, width=100, sort_output=True, omit_header=False)
    part.replace(path)
    build(language)


def build(language: str) -> Path:
    """What Django reads, from the catalogue."""
    from babel.messages.mofile import write_mo

    path = path_of(language).with_suffix(".mo")
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        write_mo(stream, read(language))
    part.replace(path)
    return path


def _of_sheets() -> dict[str, str]:
    """What the sheets already say in Chinese."""
    import tomllib

    from trocar import report

    out: dict[str, str] = {}
    for path in sorted(Path(str(report.__file__)).parent.glob("zh_hant*.toml")):
        for value in tomllib.loads(path.read_text(encoding="utf-8")).values():
            if isinstance(value, dict):
                out |= {str(k): v for k, v in value.items() if isinstance(v, str)}
    return out


if __name__ == "__main__":
    import os
    import tempfile

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trocar.web.settings")
    os.environ.setdefault("TROCAR_HOME", tempfile.mkdtemp())
    django.setup()
    for name in LANGUAGES:
        update(name)
        lacking = missing(name)
        print(f"{name}: {len(messages())} texts, {len(lacking)} without a translation")
        sys.stdout.writelines(f"  {text}\n" for text in lacking[:20])
