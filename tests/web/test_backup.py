"""A registry in one file and back, on either database; what a hostile or damaged file meets."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from trocar.cli import main; main()"]
FILL = """
from trocar.web import serve
serve.prepare()
serve.make_account("keeper", "four-quiet-lanterns", role="administrator", who="test")
from pathlib import Path
from trocar.io.records import example_study
from trocar.registry import store
from trocar.registry.models import MODELS, SiteKey, Token
from trocar.registry.convert import to_record
from dataclasses import replace
from django.conf import settings
store.take_in(example_study(), who="keeper", why="example")
row = MODELS["pain"].objects.first()
store.put("pain", replace(to_record(row), low=0.0), who="keeper", why="read again", row=row,
          expected=1)
gone = MODELS["pain"].objects.last()
store.remove(gone, who="keeper", why="entered twice", expected=1)
Token.objects.create(user=store.account("keeper"), name="é 骨", sha256="a" * 64,
                     scopes=["see cases"], made_at="2026-01-01", ends_at="2026-02-01")
SiteKey.objects.create(name="pseudonyms", key="of-this-registry")
kept = Path(settings.KEPT_FILES) / "ab"
kept.mkdir(parents=True)
(kept / ("ab" * 32)).write_bytes(bytes(range(256)) * 9000)
"""
GO_ON = """
from trocar.web import serve
serve.prepare()
serve.make_account("second", "nine-slow-harbours", role="researcher", who="test")
from trocar.io.records import example_study
from trocar.registry import store, chain
from dataclasses import replace
study = example_study()
store.take_in(replace(study, info=replace(study.info, study_id="other")), who="second", why="more")
assert chain.verify().sound
"""


def run(home: Path, *command: str, database: str = "", code: str = "") -> Any:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TROCAR_", "DJANGO_"))}
    env = kept | {"TROCAR_HOME": str(home)} | ({"TROCAR_DATABASE": database} if database else {})
    return subprocess.run(
        [sys.executable, "-c", code] if code else [*COMMAND, *command],
        env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def right(done: Any) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def content(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The backup of a small registry, and the head that was printed."""
    home = tmp_path_factory.mktemp("filled")
    right(run(home, code=FILL))
    path = home / "one.zip"
    told = right(run(home, "backup", str(path)))
    return path, told.split("head ")[1].split()[0]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL database that is empty, or a skip that says why there is none."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "postgres", Path(__file__).parents[1] / "registry" / "postgres.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    why = module.missing()
    if why:
        pytest.skip(why)
    with module.throw_away() as url:
        yield url


def same(one: Path, other: Path) -> None:
    """Two backups hold the same rows; the later one's log goes on from the earlier one's."""
    a, b = content(one), content(other)
    grown = {"manifest.json", "tables/registry.chainevent.jsonl", "tables/registry.chainhead.jsonl"}
    assert a.keys() == b.keys()
    assert len(a) > 60
    for name in a.keys() - grown:
        assert a[name] == b[name], name
    log = "tables/registry.chainevent.jsonl"
    assert b[log].startswith(a[log])
    assert a["tables/registry.historicalpainscore.jsonl"].count(b"\n") > 100 or a[log]


def test_back_again_on_the_same_database(filled: tuple[Path, str], tmp_path: Path) -> None:
    path, head = filled
    assert "the log holds" in right(run(tmp_path, "restore", str(path), "--head", head))
    assert "sound" in right(run(tmp_path, "verify", "--head", head))
    right(run(tmp_path, "backup", str(tmp_path / "two.zip")))
    same(path, tmp_path / "two.zip")
    # What the pseudonyms of shared tables are made with came back.
    assert b"of-this-registry" in content(tmp_path / "two.zip")["tables/registry.sitekey.jsonl"]
    right(run(tmp_path, code=GO_ON))
    again = run(tmp_path, "restore", str(path))
    assert again.returncode == 1
    assert "into an empty one only" in again.stderr


def test_a_disk_without_links_takes_a_backup_and_nothing_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trocar.web import backup

    def refuses(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    made, there = tmp_path / ".part", tmp_path / "one.zip"
    made.write_bytes(b"all of it")
    backup._settle(made, there)
    assert there.read_bytes() == b"all of it"
    assert there.stat().st_mode & 0o077 == 0
    made.write_bytes(b"another")
    with pytest.raises(FileExistsError):
        backup._settle(made, there)
    assert there.read_bytes() == b"all of it"

    def breaks(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup.shutil, "copyfileobj", breaks)
    with pytest.raises(OSError, match="No space"):
        backup._settle(made, tmp_path / "two.zip")
    assert not (tmp_path / "two.zip").exists()  # half a backup is none


def test_to_postgresql_and_back(filled: tuple[Path, str], postgres: str, tmp_path: Path) -> None:
    path, head = filled
    there, back = tmp_path / "there", tmp_path / "back"
    right(run(there, "restore", str(path), database=postgres))
    right(run(there, "backup", str(tmp_path / "two.zip"), database=postgres))
    same(path, tmp_path / "two.zip")
    right(run(back, "restore", str(tmp_path / "two.zip")))
    right(run(back, "backup", str(tmp_path / "three.zip")))
    same(tmp_path / "two.zip", tmp_path / "three.zip")
    assert "sound" in right(run(there, "verify", "--head", head, database=postgres))
    right(run(there, code=GO_ON, database=postgres))  # new rows get numbers that are free


def written(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def told_anew(parts: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest changed as somebody would who knows the form."""
    manifest = json.loads(parts["manifest.json"])
    change(manifest)
    parts["manifest.json"] = json.dumps(manifest).encode()


def put(parts: dict[str, bytes], name: str, data: bytes) -> None:
    """A part changed together with its sum and length in the manifest."""
    parts[name] = data

    def change(manifest: dict[str, Any]) -> None:
        for part in (*manifest["parts"], *manifest["files"]):
            if part["name"] == name:
                part |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    told_anew(parts, change)


PAIN = "tables/registry.painscore.jsonl"
LOG = "tables/registry.chainevent.jsonl"


def _flipped(p: dict[str, bytes]) -> None:
    p[PAIN] = p[PAIN].replace(b"0", b"1", 1)


def _other_program(p: dict[str, bytes]) -> None:
    told_anew(p, lambda m: m.update(format="something else"))


def _newer_form(p: dict[str, bytes]) -> None:
    told_anew(p, lambda m: m.update(form=2, trocar="99.0"))


def _newer_tables(p: dict[str, bytes]) -> None:
    told_anew(p, lambda m: m["migrations"].append(["registry", "0999_later"]))


def _older_tables(p: dict[str, bytes]) -> None:
    told_anew(p, lambda m: m.update(migrations=[["registry", "0001_tables"]]))


def _climbs(p: dict[str, bytes]) -> None:
    name = "files/../../climbed"
    p[name] = b"x"
    told = {"name": name, "bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    told_anew(p, lambda m: m["files"].append(told))


def _more_than_told(p: dict[str, bytes]) -> None:
    p["files/more"] = b"x"


def _not_json(p: dict[str, bytes]) -> None:
    p["manifest.json"] = b"[" * 100_000


def _rewritten_row(p: dict[str, bytes]) -> None:
    rows = p[PAIN].splitlines()
    first = json.loads(rows[0])
    columns = next(
        m for m in json.loads(p["manifest.json"])["parts"] if m["name"] == PAIN
    )["columns"]  # fmt: skip
    first[columns.index("low")] = 1.5 if first[columns.index("low")] != 1.5 else 1.0
    put(p, PAIN, b"\n".join([json.dumps(first).encode(), *rows[1:]]) + b"\n")


def _rewritten_link(p: dict[str, bytes]) -> None:
    put(p, LOG, p[LOG].replace(b'"keeper"', b'"sleeper"', 1))


def _shape(p: dict[str, bytes]) -> None:
    put(p, PAIN, b'{"a": 1}\n' + p[PAIN].split(b"\n", 1)[1])


BAD = {
    "changed": (_flipped, "damaged|not as the manifest"),
    "another program's": (_other_program, "no backup of trocar"),
    "a newer form": (_newer_form, "newer than this one"),
    "newer tables": (_newer_tables, "newer than this one"),
    "older tables": (_older_tables, "older than this one"),
    "climbing": (_climbs, "refused"),
    "more than told": (_more_than_told, "not as the manifest says"),
    "deep": (_not_json, "no backup of trocar"),
    "a row rewritten": (_rewritten_row, "its log does not hold"),
    "a link rewritten": (_rewritten_link, "its log does not hold"),
    "rows of another shape": (_shape, "is not one"),
}
# One process for all: each starts from the same empty database and must leave it empty.
TRY = """
import json, sys
from pathlib import Path
from trocar.web import serve
serve.prepare()
from trocar.errors import InputError
from trocar.web import backup
told = {}
for path in sys.argv[1:]:
    try:
        backup.restore(Path(path))
        told[path] = "TAKEN"
    except InputError as error:
        told[path] = str(error)
    backup._check_empty()
# Not getrusage: its peak begins with that of the process that started this one.
peak = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
told["memory"] = int(peak.split()[1]) / 1024
print(json.dumps(told))
"""


def test_what_is_damaged_foreign_newer_or_hostile_is_refused(
    filled: tuple[Path, str], tmp_path: Path
) -> None:
    paths = {}
    for what, (spoil, _) in BAD.items():
        parts = content(filled[0])
        spoil(parts)
        paths[what] = written(tmp_path / f"{what.replace(' ', '-')}.zip", parts)
    half = tmp_path / "half.zip"
    half.write_bytes(filled[0].read_bytes()[:-3000])
    bomb = tmp_path / "bomb.zip"
    parts = content(filled[0])
    zeros = b"\x00" * (300 << 20)
    put(parts, PAIN, zeros)
    written(bomb, parts)
    del zeros, parts
    assert bomb.stat().st_size < 4 << 20
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TROCAR_", "DJANGO_"))}
    home = tmp_path / "home"
    every = [str(p) for p in (*paths.values(), half, bomb, tmp_path / "none.zip")]
    done = subprocess.run(
        [sys.executable, "-c", TRY, *every], env=kept | {"TROCAR_HOME": str(home)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    told = json.loads(right(done))
    import re

    for what, (_, says) in BAD.items():
        assert re.search(says, told[str(paths[what])]), (what, told[str(paths[what])])
    assert "damaged or no backup" in told[str(half)]
    assert "longer than any" in told[str(bomb)]
    assert "not there" in told[str(tmp_path / "none.zip")]
    print(told["memory"], "MB")
    assert told["memory"] < 400  # MB: the bomb is 300 MB of one row
    assert not (tmp_path / "climbed").exists()
    assert not list(home.glob("files/**/*"))


def test_another_head_is_refused_and_nothing_is_written_over(
    filled: tuple[Path, str], tmp_path: Path
) -> None:
    done = run(tmp_path, "restore", str(filled[0]), "--head", "f" * 64)
    assert done.returncode == 1
    assert "another link" in done.stderr
    before = filled[0].read_bytes()
    done = run(tmp_path, "backup", str(filled[0]))
    assert done.returncode == 1
    assert filled[0].read_bytes() == before
    assert not list(filled[0].parent.glob("*.part"))


@pytest.mark.parametrize("command", ["backup", "verify"])
def test_where_no_registry_is_none_is_made(tmp_path: Path, command: str) -> None:
    home, target = tmp_path / "home", tmp_path / "one.zip"
    done = run(home, command, *([str(target)] if command == "backup" else []))
    assert done.returncode != 0
    assert "there is no registry in" in done.stderr
    assert not home.exists()
    assert not target.exists()
    home.mkdir()
    (home / "registry.sqlite3").touch()
    done = run(home, command, *([str(target)] if command == "backup" else []))
    assert done.returncode != 0
    assert "there is no registry in" in done.stderr
    assert not target.exists()
    assert not (home / "secret-key").exists()


def test_a_refused_restore_leaves_no_new_files(tmp_path: Path) -> None:
    home, wrong = tmp_path / "home", tmp_path / "wrong.zip"
    assert run(home, "restore", str(wrong)).returncode != 0
    assert not home.exists()
    wrong.write_bytes(b"no zip")
    done = run(home, "restore", str(wrong))
    assert done.returncode != 0
    assert "damaged or no backup" in done.stderr
    assert not home.exists()
