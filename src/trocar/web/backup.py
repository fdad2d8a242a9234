"""One file that holds a whole registry, and a registry made from it again.

The file is a zip: ``manifest.json``, one file of JSON lines per table (rows, their history, the
log, accounts) and the kept files. It is the same for both databases. Sessions and counters of
failed logins are not in it, nor is the site's secret key: after a restore everybody logs in anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any
from uuid import UUID

from trocar.errors import InputError

FORMAT = "trocar registry backup"
FORM = 1
_BATCH = 500
_BLOCK = 1 << 20
_MOST_MANIFEST = 64 << 20
_LONGEST_LINE = 16 << 20
_MOST_ENTRIES = 2_000_000
_SPARE = 64 << 20  # bytes left free on the disk beside what the files need
_PLAIN_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$")
_HASH = re.compile(r"^[0-9a-f]{64}$")
# Rows that are made by Django itself or live for an hour.
_LEFT_OUT = {"sessions.session", "contenttypes.contenttype", "auth.permission", "auth.group"}


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a backup holds: rows, files, the last link of its log, and where it lies."""

    path: Path
    rows: int
    files: int
    links: int
    head: str


def backup(path: Path, *, who: str = "trocar") -> Kept:
    """Write the whole registry as it is at one moment; other people go on working meanwhile."""
    from django.conf import settings

    from trocar.registry import chain

    path = Path(path)
    if path.exists():
        raise InputError(f"{path} is there already; give a name that is not")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} is not there; make it first")
    chain.log("export", who, "", what="backup")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".trocar-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            kept = _write(stream, path, Path(settings.KEPT_FILES))
            stream.flush()
            os.fsync(stream.fileno())
        _settle(Path(temporary), path)
    except FileExistsError:
        raise InputError(f"{path} is there already; give a name that is not") from None
    finally:
        os.unlink(temporary)
    return kept


def _settle(temporary: Path, path: Path) -> None:
    """Give a whole file its name, never over a file that came to be meanwhile."""
    try:
        os.link(temporary, path)
        return
    except FileExistsError:
        raise
    except OSError:
        pass  # a disk that knows no links, as of a memory stick
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(handle, "wb") as stream:
        try:
            with temporary.open("rb") as source:
                shutil.copyfileobj(source, stream, _BLOCK)
            stream.flush()
            os.fsync(stream.fileno())
        except BaseException:
            path.unlink()  # half a backup is none
            raise


def _write(stream: IO[bytes], path: Path, folder: Path) -> Kept:
    from trocar import __version__

    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        with _snapshot() as alias:
            parts = [_write_table(archive, alias, model) for model in _models()]
            head = _head(alias)
            migrations = _migrations(alias)
        # Files are only ever added: all that the rows of the snapshot name are there by now.
        files = [_write_file(archive, folder, file) for file in _kept_files(folder)]
        manifest = {
            "format": FORMAT, "form": FORM, "trocar": __version__,
            "made_at": datetime.now().astimezone().isoformat(timespec="seconds"),
            "migrations": migrations, "head": head, "parts": parts, "files": files,
        }  # fmt: skip
        archive.writestr("manifest.json", json.dumps(manifest, indent=1))
    return _kept(path, manifest)


def _kept(path: Path, manifest: dict[str, Any]) -> Kept:
    head = manifest["head"]
    rows = sum(p["rows"] for p in manifest["parts"])
    return Kept(
        path=path, rows=rows, files=len(manifest["files"]), links=head["number"],
        head=head["sha256"],
    )  # fmt: skip


@contextmanager
def _snapshot() -> Iterator[str]:
    """A second connection that sees one moment of the database and holds nobody up."""
    from django.db import connections, transaction

    alias = "snapshot"
    described = dict(connections["default"].settings_dict)
    # IMMEDIATE would keep the writers out for as long as it takes.
    described["OPTIONS"] = {**described["OPTIONS"], "transaction_mode": "DEFERRED"}
    if connections["default"].vendor == "postgresql":
        del described["OPTIONS"]["transaction_mode"]
    connections.databases[alias] = described
    try:
        with transaction.atomic(using=alias):
            if connections[alias].vendor == "postgresql":
                with connections[alias].cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.databases[alias]


def _models() -> list[Any]:
    """Every table that is backed up, accounts first."""
    from django.apps import apps

    every = [m for m in apps.get_models() if m._meta.managed and not m._meta.proxy]
    return sorted(
        (m for m in every if m._meta.label_lower not in _LEFT_OUT),
        key=lambda m: (m._meta.app_label != "auth", m._meta.label_lower),
    )


def _columns(model: Any) -> list[str]:
    return [f.attname for f in model._meta.concrete_fields]


def _head(alias: str) -> dict[str, Any]:
    from trocar.registry.models import ChainHead

    head = ChainHead.objects.using(alias).filter(pk=1).first()
    return {"number": head.number if head else 0, "sha256": head.sha256 if head else ""}


def _migrations(alias: str) -> list[list[str]]:
    from django.db import connections
    from django.db.migrations.recorder import MigrationRecorder

    return [list(key) for key in sorted(MigrationRecorder(connections[alias]).applied_migrations())]


class _Counted:
    """Counts and hashes what is written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.bytes, self.sum = stream, 0, hashlib.sha256()

    def write(self, block: bytes) -> None:
        self.stream.write(block)
        self.bytes += len(block)
        self.sum.update(block)


def _write_table(archive: zipfile.ZipFile, alias: str, model: Any) -> dict[str, Any]:
    label, names = model._meta.label_lower, _columns(model)
    rows = model._base_manager.using(alias).order_by("pk").values_list(*names)
    name, count = f"tables/{label}.jsonl", 0
    with archive.open(name, "w", force_zip64=True) as stream:
        out = _Counted(stream)
        for row in rows.iterator(_BATCH):
            # The order of an object's keys is not kept by every database.
            line = json.dumps(row, default=_plain, ensure_ascii=False, sort_keys=True)
            out.write(line.encode() + b"\n")
            count += 1
    return {
        "name": name, "model": label, "columns": names, "rows": count, "bytes": out.bytes,
        "sha256": out.sum.hexdigest(),
    }  # fmt: skip


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        from datetime import UTC

        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(type(value).__name__)


def _kept_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    found = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    names = [p.relative_to(folder).as_posix() for p in found]
    return [name for name in names if _is_plain(name)]  # others are half-written: ".part"


def _is_plain(name: str) -> bool:
    return all(_PLAIN_NAME.match(part) for part in name.split("/"))


def _write_file(archive: zipfile.ZipFile, folder: Path, file: str) -> dict[str, Any]:
    name = f"files/{file}"
    with (
        (folder / file).open("rb") as source,
        archive.open(name, "w", force_zip64=True) as stream,
    ):
        out = _Counted(stream)
        while block := source.read(_BLOCK):
            out.write(block)
    return {"name": name, "bytes": out.bytes, "sha256": out.sum.hexdigest()}


# --- Back again -----------------------------------------------------------------------------------


def restore(path: Path, *, who: str = "trocar", head: str | None = None) -> Kept:
    """Make the registry of a backup in an empty database: all of it, or nothing.

    ``head`` is the hash that was printed when the backup was made; with it, a backup that somebody
    wrote anew is refused. Raises InputError, before anything is written, for a file that is
    damaged, not a backup, of a newer trocar, or made to harm.
    """
    from django.conf import settings
    from django.db import DatabaseError, connection, transaction

    from trocar.registry import chain

    path = Path(path)
    with _opened(path) as archive:
        manifest = _manifest(archive, path)
        if head is not None and head != manifest["head"]["sha256"]:
            raise InputError(f"{path} ends with another link of the log than {head[:12]}…")
        _check_versions(manifest, path)
        for part in (*manifest["parts"], *manifest["files"]):
            for _ in _blocks(archive, part, path):
                pass  # the sum of every part is right before anything is written
        _check_empty()
        folder = Path(settings.KEPT_FILES)
        with _files_aside(archive, manifest, path, folder) as aside:
            try:
                with transaction.atomic():
                    models = [_load(archive, part, path) for part in manifest["parts"]]
                    connection.check_constraints()
                    _reset_sequences(models)
                    told = manifest["head"]["sha256"] or None
                    report = chain.verify(rows=True, known_head=told)
                    if not report.sound:
                        why = report.why or f"changed past trocar: {report.changed_rows[0]}"
                        raise InputError(f"{path}: its log does not hold: {why}")
                    if report.head != (told or report.head):
                        raise InputError(f"{path}: its log does not end where its manifest says")
                    _put_files(aside, folder)
            except DatabaseError as error:
                # Its own words may hold values of patients.
                raise InputError(
                    f"{path}: the database does not take its rows ({type(error).__name__}); "
                    "nothing was restored"
                ) from error
        chain.log("restore", who, "", links=report.links, head=report.head)
    return _kept(path, manifest)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise InputError(f"{path} is not there") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise InputError(f"{path} is damaged or no backup of trocar ({error})") from error


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """The manifest, when it describes exactly what the zip holds."""
    entries = archive.infolist()
    names = [e.filename for e in entries]
    if len(entries) > _MOST_ENTRIES or len(set(names)) != len(names):
        raise InputError(f"{path} is no backup of trocar: too many entries, or one of them twice")
    if "manifest.json" not in names:
        raise InputError(f"{path} is no backup of trocar: it has no manifest.json")
    with archive.open("manifest.json") as stream:
        text = stream.read(_MOST_MANIFEST + 1)
    if len(text) > _MOST_MANIFEST:
        raise InputError(f"{path}: its manifest is larger than any backup's")
    try:
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise ValueError
        if manifest["form"] > FORM:
            raise InputError(
                f"{path} was made by trocar {manifest['trocar']}, newer than this one; update first"
            )
        _check_shape(manifest)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path} is no backup of trocar: its manifest is not one") from None
    told = {p["name"]: p["bytes"] for p in (*manifest["parts"], *manifest["files"])}
    held = {e.filename: e.file_size for e in entries if e.filename != "manifest.json"}
    if told != held:
        odd = sorted(k for k in told.keys() | held.keys() if told.get(k) != held.get(k))
        raise InputError(f"{path}: {odd[0]!r} is not as the manifest says; it was changed")
    for part in manifest["files"]:
        name = part["name"].removeprefix("files/")
        if not part["name"].startswith("files/") or not _is_plain(name):
            raise InputError(f"{path}: {part['name']!r} is no name of a kept file; refused")
    for part in manifest["parts"]:
        if part["name"] != f"tables/{part['model']}.jsonl":
            raise InputError(f"{path}: {part['name']!r} is no name of a table; refused")
    return manifest  # type: ignore[no-any-return]


def _check_shape(manifest: dict[str, Any]) -> None:
    """TypeError or ValueError when the manifest is not of the shape :func:`_write` gives it."""
    for part in (*manifest["parts"], *manifest["files"]):
        right = (
            isinstance(part["name"], str)
            and type(part["bytes"]) is int
            and isinstance(part["sha256"], str)
            and _HASH.match(part["sha256"])
        )
        if not right:
            raise ValueError
    for part in manifest["parts"]:
        if type(part["rows"]) is not int or not isinstance(part["model"], str):
            raise ValueError
        if not all(isinstance(c, str) for c in part["columns"]):
            raise ValueError
    head = manifest["head"]
    if type(head["number"]) is not int or not isinstance(head["sha256"], str):
        raise ValueError
    for app, name in manifest["migrations"]:
        if not isinstance(app, str) or not isinstance(name, str):
            raise ValueError
    if not isinstance(manifest["trocar"], str):
        raise ValueError


def _check_versions(manifest: dict[str, Any], path: Path) -> None:
    from django.apps import apps

    ours = {tuple(m) for m in _migrations("default")}
    theirs = {tuple(m) for m in manifest["migrations"]}
    made = manifest["trocar"]
    strange = sorted(f"{a}.{n}" for a, n in theirs - ours if a == "registry")
    if strange:
        raise InputError(
            f"{path} was made by trocar {made}, newer than this one ({strange[0]}); update first"
        )
    missing = sorted(f"{a}.{n}" for a, n in ours - theirs if a == "registry")
    if missing:
        raise InputError(
            f"{path} was made by trocar {made}, older than this one (before {missing[0]}); "
            "restore it with that version and update then"
        )
    known = {m._meta.label_lower: m for m in _models()}
    for part in manifest["parts"]:
        label = part["model"]
        if label not in known:
            app = label.partition(".")[0]
            why = "set TROCAR_OIDC as it was" if app == "socialaccount" else "it was changed"
            if apps.is_installed(f"allauth.{app}"):
                why = "its version of allauth is another"
            raise InputError(f"{path} holds a table {label!r} this registry has not: {why}")
        if part["columns"] != _columns(known[label]):
            raise InputError(
                f"{path}: the columns of {label} are not those of trocar {made} here; restore it "
                "with the versions of the packages it was made with"
            )


def _check_empty() -> None:
    for model in _models():
        if model._base_manager.exists():
            raise InputError(
                f"the database holds rows already ({model._meta.label_lower}); a backup is "
                "restored into an empty one only: set TROCAR_HOME or TROCAR_DATABASE to a new one"
            )


def _blocks(archive: zipfile.ZipFile, part: dict[str, Any], path: Path) -> Iterator[bytes]:
    """A part in blocks; InputError when it is longer than told or its sum is wrong."""
    total, sum_ = 0, hashlib.sha256()
    try:
        with archive.open(part["name"]) as stream:
            while block := stream.read(_BLOCK):
                total += len(block)
                if total > part["bytes"]:
                    break
                sum_.update(block)
                yield block
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged at {part['name']} ({error})") from error
    except Exception as error:  # zlib.error and what other decoders raise
        raise InputError(f"{path} is damaged at {part['name']} ({error})") from error
    if total != part["bytes"] or sum_.hexdigest() != part["sha256"]:
        raise InputError(f"{path} is damaged: {part['name']} has not the sum the manifest tells")


def _lines(archive: zipfile.ZipFile, part: dict[str, Any], path: Path) -> Iterator[bytes]:
    rest = b""
    for block in _blocks(archive, part, path):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
        if len(rest) > _LONGEST_LINE:
            raise InputError(f"{path}: a row of {part['name']} is longer than any; refused")
    if rest:
        yield rest


def _load(archive: zipfile.ZipFile, part: dict[str, Any], path: Path) -> Any:
    """Enter the rows of one table as they were; returns its model."""
    from django.core.exceptions import ValidationError

    model = {m._meta.label_lower: m for m in _models()}[part["model"]]
    read = [_reader(f) for f in model._meta.concrete_fields]
    batch: list[Any] = []
    count = 0
    for line in _lines(archive, part, path):
        try:
            values = json.loads(line)
            if not isinstance(values, list) or len(values) != len(read):
                raise ValueError
            fields = {n: f(v) for n, f, v in zip(part["columns"], read, values)}
        except (ValueError, TypeError, RecursionError, ValidationError):
            raise InputError(
                f"{path}: row {count + 1} of {part['name']} is not one; nothing was restored"
            ) from None
        batch.append(model(**fields))
        count += 1
        if len(batch) == _BATCH:
            model._base_manager.bulk_create(batch)
            batch = []
    model._base_manager.bulk_create(batch)
    if count != part["rows"]:
        raise InputError(f"{path}: {part['name']} has {count} rows, its manifest {part['rows']}")
    return model


def _reader(field: Any) -> Any:
    """What turns a value of a JSON line into one the field takes."""
    while field.is_relation:
        field = field.target_field
    return field.to_python


def _reset_sequences(models: list[Any]) -> None:
    """Numbers that are given next follow the highest there is."""
    from django.core.management.color import no_style
    from django.db import connection

    with connection.cursor() as cursor:
        for sql in connection.ops.sequence_reset_sql(no_style(), models):
            cursor.execute(sql)


@contextmanager
def _files_aside(
    archive: zipfile.ZipFile, manifest: dict[str, Any], path: Path, folder: Path
) -> Iterator[Path]:
    """The kept files in a folder beside the one they belong in."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(f["bytes"] for f in manifest["files"])
    free = shutil.disk_usage(folder.parent).free
    if needed + _SPARE > free:
        raise InputError(f"{path} needs {needed >> 20} MB for its files; {free >> 20} MB are free")
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".restore-"))
    try:
        for part in manifest["files"]:
            target = aside / PurePosixPath(part["name"]).relative_to("files")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                for block in _blocks(archive, part, path):
                    stream.write(block)
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_files(aside: Path, folder: Path) -> None:
    for file in aside.rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
