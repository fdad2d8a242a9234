"""What somebody sends from outside, on disk: refused early where it is hostile, or no image.

Everything comes in pieces through one :class:`Gate`. It looks at a name before it opens a file, at
the first piece before it takes a second, and counts what comes instead of believing what is said;
so what is refused costs neither memory nor time, however large it claims, or claims not, to be.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

from trocar.errors import InputError
from trocar.io.formats import NIFTI, VOLUMES, suffix_of
from trocar.io.headers import why_not_inflated as why_not_inflated  # for who takes in
from trocar.io.pixels import Progress
from trocar.io.volumes import Inspection, inspect

PIECE = 1 << 16
_EXPECTED = "expected DICOM, NIfTI, NRRD or MetaImage"
_NOT_ITS_NAME = "is not what its name says; save it again"
_DATA_FILE, _HDF5 = b"ElementDataFile", b"\x89HDF\r\n\x1a\n"
_DEEPEST, _LONGEST = 32, 200  # folders within folders; bytes of one name
_MOST_HEADER = 1 << 20  # of a NIfTI file, with its extensions

# Zip: "end of central directory", its 64-bit form, and what a file's own head looks like.
_END, _END_64, _WHERE_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_LONGEST_TAIL = 22 + 65_535 + 20
_LOCAL = struct.Struct("<4s22xHH")
_UNIX_LINK, _ASI_LINK = 0x000D, 0x756E  # extra fields that make an entry a link
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ", b"\x1f\x8b")


# A damaged archive makes zipfile raise nearly anything.
_DAMAGED: tuple[type[Exception], ...] = (
    *(OSError, EOFError, RuntimeError, NotImplementedError, ValueError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may come. The defaults hold a whole examination of thin slices twice."""

    files: int = 20_000
    file_bytes: int = 2 << 30
    total_bytes: int = 8 << 30
    contents_bytes: int = 8 << 20  # a zip's table of contents
    most_times: int = 200  # how much larger a zip may unpack, once it is more than `small_bytes`
    small_bytes: int = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """What lies in the folder now, and what was passed over and why."""

    files: tuple[str, ...]
    passed_over: tuple[tuple[str, str], ...] = ()
    total_bytes: int = 0


class Gate:
    """Takes files one after another, each in pieces, into a folder that is there at the end.

    Use as a context: what went wrong inside leaves nothing behind. ``take`` returns why a file was
    passed over, "" when it is in; it raises InputError when the whole must be refused.
    """

    def __init__(self, into: str | Path, *, limits: Limits | None = None) -> None:
        self._into = Path(into)
        self._limits = limits or Limits()
        self._files: list[str] = []
        self._passed: list[tuple[str, str]] = []
        self._names: set[str] = set()
        self._folders: set[str] = set()
        self._seen = self._total = 0
        self._work: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Gate:
        if self._into.is_symlink() or (self._into.exists() and any(self._into.iterdir())):
            raise InputError(f"{self._into} is not empty; give a folder that is, or is not there")
        try:
            self._work = tempfile.TemporaryDirectory(prefix=".trocar-", dir=self._into.parent)
        except OSError as error:
            raise InputError(f"nothing can be written beside {self._into} ({error})") from error
        self._fresh = Path(self._work.name) / "new"
        self._fresh.mkdir(mode=0o700)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._work is not None
        try:
            if kind is None:
                if not self._files:
                    raise InputError(self._nothing())
                os.replace(self._fresh, self._into)
        finally:
            self._work.cleanup()

    @property
    def arrived(self) -> Arrived:
        """What was taken up to now."""
        return Arrived(
            files=tuple(self._files),
            passed_over=tuple(self._passed),
            total_bytes=self._total,
        )

    def take(self, name: str, pieces: Iterable[bytes]) -> str:
        """One file, by the name its sender gives it and its bytes as they come."""
        self._seen += 1
        if self._seen > self._limits.files:
            raise InputError(
                f"more than {self._limits.files} files came; send one examination at a time"
            )
        self._check(name)
        stream = iter(pieces)
        first = _first(stream)
        why = _no_image(name, first, self._limits)
        if not why:
            why = self._write(name, first, stream)
        if why:
            self._passed.append((name, why))
        else:
            self._files.append(name)
        return why

    def pass_over(self, name: str, why: str) -> None:
        """Tell of a file that is not even looked at."""
        self._passed.append((name, why))

    def _nothing(self) -> str:
        if not self._passed:
            return f"no file came; {_EXPECTED}"
        name, why = self._passed[0]
        more = f" (and {len(self._passed) - 1} more)" if len(self._passed) > 1 else ""
        return f"no image came: {_called(name)}{more} {why}"

    def _check(self, name: str) -> None:
        check_name(name)
        folded = unicodedata.normalize("NFKC", name).casefold()
        parts = folded.split("/")
        above = {"/".join(parts[:k]) for k in range(1, len(parts))}
        if folded in self._names or folded in self._folders or above & self._names:
            raise InputError(
                f"two files are called {_called(name)}, or differ in capitals only; rename one"
            )
        self._names.add(folded)
        self._folders |= above

    def _write(self, name: str, first: bytes, rest: Iterator[bytes]) -> str:
        place = self._fresh / name
        place.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        try:
            with place.open("xb") as stream:
                while first:
                    size += len(first)
                    self._count(name, len(first), size)
                    stream.write(first)
                    first = next(rest, b"")
            with place.open("rb") as stream:
                why = why_not_inflated(stream, self._limits.file_bytes)
            why = why or _leads_elsewhere(place)
            if why:
                place.unlink()
        except OSError as error:
            raise InputError(f"{_called(name)} cannot be written ({error.strerror})") from error
        return why

    def _count(self, name: str, more: int, size: int) -> None:
        self._total += more
        if size > self._limits.file_bytes:
            raise InputError(
                f"{_called(name)} has more than {_mb(self._limits.file_bytes)}; no CT image is as "
                "large, leave it out"
            )
        if self._total > self._limits.total_bytes:
            raise InputError(
                f"more than {_mb(self._limits.total_bytes)} came; send one examination at a time"
            )


def unpack(
    place: str | Path,
    into: str | Path,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Arrived:
    """The images of a folder, a zip or one file, copied into the new or empty folder ``into``.

    Files that are no images are passed over after their first bytes. Raises InputError, and leaves
    nothing behind, when there is no image at all and when a zip is made to harm: names that lead
    outside, links, entries that overlap or unpack to more than they say, too much of anything.
    """
    source, limits = Path(place), limits or Limits()
    with Gate(into, limits=limits) as gate:
        if source.is_dir() and not source.is_symlink():
            _from_folder(source, gate, progress)
        elif _is_zip(source):
            _from_zip(source, gate, limits, progress)
        else:
            _from_file(source, source.name, gate)
    return gate.arrived


def require_ct(folder: str | Path) -> Inspection:
    """What the import doctor finds in a folder; InputError, with its reason, when it is no CT.

    Headers are read, not pixels, but for volume files. Of several of these, one may be a CT by its
    values: label maps and masks lie beside it.
    """
    found = inspect(folder)
    files = [r for r in found.usable if not r.series_uid and suffix_of(r.name) in VOLUMES]
    if len(files) > 1 and len(files) == len(found.usable):
        told = "; ".join(row.geometry for row in files[:8])
        raise InputError(
            f"{len(files)} volume files came that can be a CT ({told}); give the CT alone"
        )
    if found.usable:
        return found
    first = next((row for row in found.rows if row.what == "CT"), found.rows[0])
    more = f"; {len(found.rows) - 1} more found" if len(found.rows) > 1 else ""
    raise InputError(f"no CT came, but {first.description}: {first.why}{more}")


def refuse_first_block(block: bytes, name: str, *, limits: Limits | None = None) -> None:
    """Raise InputError when a file is neither an image nor a zip, by its first bytes.

    For what comes over the network, before the rest of it does; ``name`` may be the ending alone.
    """
    if suffix_of(f"x{name}") == ".zip":
        why = "" if block[:4] in (b"PK\x03\x04", _END) else "is no zip, though it is called so"
    else:
        why = _no_image(f"x{name}", block[:PIECE], limits or Limits())
    if why:
        raise InputError(f"the file {why}")


# --- names ---------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """Raise InputError for a name that leads outside a folder, or lies otherwise on other systems.

    A name is folders and a file with "/" between, as in a zip.
    """
    parts = name.split("/")
    if not all(parts) or {".", ".."} & set(parts) or any(c in name for c in "\\:") or not name:
        raise InputError(
            f"the name {_called(name)} points outside its folder; expected plain names"
        )
    if any(ord(c) < 32 or ord(c) == 127 for c in name) or not name.isprintable():
        raise InputError(f"the name {_called(name)} has control characters; expected plain names")
    if len(parts) > _DEEPEST or max(len(p.encode("utf-8", "replace")) for p in parts) > _LONGEST:
        raise InputError(f"the name {_called(name)} is too long or too deep; rename it")


def _called(name: str) -> str:
    """A name as it may stand in a sentence, whatever is in it."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return repr(shown if len(shown) <= 60 else f"...{shown[-57:]}")


def _mb(count: int) -> str:
    return f"{count >> 20} MB" if count < 1 << 30 else f"{count / 2**30:g} GB"


# --- the first piece of a file -------------------------------------------------------------------


def _first(stream: Iterator[bytes]) -> bytes:
    """Enough bytes from the front to tell what a file is."""
    first = b""
    for piece in stream:
        first += piece
        if len(first) >= PIECE:
            break
    return first


def _no_image(name: str, first: bytes, limits: Limits) -> str:
    """Why a file is no image that trocar reads, from its first bytes; "" when it may be one."""
    suffix = suffix_of(name)
    if not first:
        return "is empty"
    if not first.strip(b"\0"):
        return f"holds nothing but zeros where an image begins; {_EXPECTED}"
    if suffix in (".nhdr", ".mhd"):
        return "has its voxels in another file; save it as one file (.nrrd, .mha)"
    if suffix in VOLUMES:
        return _no_volume(suffix, first, limits)
    if first.startswith(_ARCHIVES):
        return "is an archive within what came; unpack it and send what is in it"
    if first[128:132] == b"DICM":
        group = first[132:134]
        return "" if group in (b"\x02\x00", b"\x08\x00") else "is no DICOM, though it says so"
    if re.match(rb"\x08\x00[\x00-\x18]\x00|\x00\x08\x00[\x00-\x18]", first):
        return ""  # DICOM without a preamble
    return f"is no image; {_EXPECTED}"


def _no_volume(suffix: str, first: bytes, limits: Limits) -> str:
    """Why a volume file is none, or claims more voxels than may come; readers believe its claim."""
    reader = _nifti_bytes if suffix in NIFTI else _nrrd_bytes if suffix == ".nrrd" else _mha_bytes
    try:
        claimed = reader(first)
    except (ValueError, struct.error, zlib.error, OverflowError):
        return _NOT_ITS_NAME
    if claimed > limits.file_bytes:
        return f"claims {_mb(claimed)} of voxels, more than {_mb(limits.file_bytes)}"
    return ""


def _nifti_bytes(first: bytes) -> int:
    if first[:2] == b"\x1f\x8b":
        first = zlib.decompressobj(31).decompress(first, _MOST_HEADER)
    for order in "<>":
        size = struct.unpack(f"{order}i", first[:4])[0]
        if size == 348 and first[344:348] == b"n+1\0":
            dim = struct.unpack_from(f"{order}8h", first, 40)
            bits = struct.unpack_from(f"{order}h", first, 72)[0]
            at = int(struct.unpack_from(f"{order}f", first, 108)[0])
        elif size == 540 and first[4:8] == b"n+2\0":
            dim = struct.unpack_from(f"{order}8q", first, 16)
            bits = struct.unpack_from(f"{order}h", first, 14)[0]
            at = struct.unpack_from(f"{order}q", first, 168)[0]
        else:
            continue
        if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1 or bits < 1:
            raise ValueError
        _check_extensions(first, size, at, order)
        return int(prod(dim[1 : dim[0] + 1]) * bits // 8)
    raise ValueError


def _check_extensions(first: bytes, size: int, at: int, order: str) -> None:
    """Raise ValueError unless what lies between header and voxels is as long as it says.

    The reader takes each extension's word for its length, and unpacks as much.
    """
    if not 0 <= at <= _MOST_HEADER:
        raise ValueError
    here = size + 4
    while any(first[size : size + 1]) and here + 16 <= at:
        length = struct.unpack_from(f"{order}i", first, here)[0]
        if length < 8 or here + length > at:
            raise ValueError
        here += length


def _nrrd_bytes(first: bytes) -> int:
    # The reader ends a line, too, where a carriage return stands alone.
    first = first.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    head = first.split(b"\n\n", maxsplit=1)
    # Voxels in another file could be any file of this machine.
    apart = re.search(rb"(?im)^\s*data\s*file\s*:", head[0])
    # The reader writes a field that it cannot make out past the end of its message.
    long = re.search(rb"(?m)^(?!#|[^:\n]*:=).{300}", head[0])
    if not first.startswith(b"NRRD000") or len(head) < 2 or apart or long:
        raise ValueError
    return prod(_numbers(rb"sizes", head[0])) * _word(rb"type", head[0])


def _mha_bytes(first: bytes) -> int:
    head, found, rest = first.partition(_DATA_FILE)
    # What is no whole "name = value" line could hide the reader's own ElementDataFile from us.
    lines = re.fullmatch(rb"(?:[^=:\r\n]+=[^\r\n]*\r?\n)+", head)
    if not (found and lines and re.match(rb" *= *LOCAL\s*\n", rest)) or _DATA_FILE in rest:
        raise ValueError
    sizes = _numbers(rb"DimSize", head)
    if b"ElementNumberOfChannels" in head:
        sizes += _numbers(rb"ElementNumberOfChannels", head)
    return prod(sizes) * _word(rb"ElementType", head)


def _numbers(name: bytes, head: bytes) -> list[int]:
    told = _only(name, head)
    if len(told) > 200 or not re.fullmatch(rb"[ \d]+", told):
        raise ValueError
    sizes = [int(n) for n in told.split()]
    if not sizes or min(sizes) < 1:
        raise ValueError
    return sizes


def _only(name: bytes, head: bytes) -> bytes:
    """What a header says under a name; ValueError unless once: readers differ in which counts."""
    (told,) = re.findall(rb"(?im)^\s*" + name + rb"\s*[:=](.*)$", head.replace(b"\r", b""))
    return bytes(told)


def _word(name: bytes, head: bytes) -> int:
    """Bytes of a voxel, from the name of its type."""
    told = _only(name, head).lower()
    if any(n in told for n in (b"double", b"64", b"long")):
        return 8
    return 4 if any(n in told for n in (b"float", b"32", b"int")) and b"16" not in told else 2


def _leads_elsewhere(place: Path) -> str:
    """Why a volume file could make its reader open another file, wherever in it that is said.

    The reader of MetaImage goes on past what it cannot make out, to any later ElementDataFile; and
    a file that is HDF5 as well, which begins at any doubling of 512, is read as that.
    """
    if suffix_of(place.name) not in (".mha", ".nrrd"):
        return ""
    with place.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        twice = data.find(_DATA_FILE, data.find(_DATA_FILE) + 1) > 0
        starts = (512 << k for k in range(len(data).bit_length()))
        other = any(data[at : at + len(_HDF5)] == _HDF5 for at in starts)
    return _NOT_ITS_NAME if other or (twice and suffix_of(place.name) == ".mha") else ""


# --- folders and single files --------------------------------------------------------------------


def _from_folder(folder: Path, gate: Gate, progress: Progress | None) -> None:
    names = sorted(_names_below(folder))
    for done, name in enumerate(names):
        if progress is not None and done % 20 == 0:
            progress("take in", done / len(names))
        _from_file(folder / name, name, gate)


def _names_below(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [d for d in folders if not d.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(root) / name).relative_to(folder).as_posix()


def _from_file(place: Path, name: str, gate: Gate) -> None:
    try:
        # A link would bring in what lies elsewhere; a pipe would never end.
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        gate.pass_over(name, f"cannot be read ({error.strerror})")
        return
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            gate.pass_over(name, "is no file but a link, a pipe or a device")
            return
        gate.take(name, iter(lambda: stream.read(PIECE), b""))


# --- zip -----------------------------------------------------------------------------------------


def _is_zip(place: Path) -> bool:
    try:
        with place.open("rb") as stream:
            return stream.read(4) in (b"PK\x03\x04", _END)
    except OSError as error:
        raise InputError(f"{place.name} cannot be read ({error.strerror})") from error


def _from_zip(place: Path, gate: Gate, limits: Limits, progress: Progress | None) -> None:
    with opened_zip(place, limits=limits, holds="an examination") as (archive, members):
        for done, member in enumerate(members):
            if progress is not None and done % 20 == 0:
                progress("unpack", done / len(members))
            name = member.filename
            if name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1].startswith("."):
                continue  # what a Mac adds
            with archive.open(member) as stream:
                gate.take(name, iter(lambda s=stream: s.read(PIECE), b""))  # type: ignore[misc]


@contextmanager
def opened_zip(
    place: Path, *, limits: Limits, holds: str
) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """A zip whose table of contents was checked, and its files; ``holds`` is what was expected.

    Raises InputError for one that would grow too large, leads outside, hides files under one
    another, is damaged or encrypted, and for whatever its contents turn out to be while they are
    read. Nothing is unpacked here.
    """
    _check_contents(place, limits, holds)
    try:
        with zipfile.ZipFile(place) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            for m in archive.infolist():
                _check_member(m, holds)
            _check_sizes(place, members, limits, holds)
            _check_apart(archive, members)
            yield archive, members
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(
            f"the zip archive is damaged, or its contents are not what it says; expected a zip of "
            f"{holds}"
        ) from error


def _check_contents(place: Path, limits: Limits, holds: str) -> None:
    """The table of contents is read whole by whoever opens a zip: not when it is huge."""
    with place.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _LONGEST_TAIL))
        tail = stream.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) < at + 22:
            raise InputError(f"the zip archive is damaged; expected a zip of {holds}")
        count, length = struct.unpack_from("<HL", tail, at + 10)
        if tail[max(0, at - 20) : at - 16] == _WHERE_64:
            stream.seek(min(size, struct.unpack_from("<Q", tail, at - 12)[0]))
            end = stream.read(56)
            if len(end) < 56 or end[:4] != _END_64:
                raise InputError(f"the zip archive is damaged; expected a zip of {holds}")
            count, length = struct.unpack_from("<QQ", end, 32)
    if count > limits.files or length > limits.contents_bytes:
        raise InputError(f"the zip holds too many files; expected {holds}")


def _check_member(m: zipfile.ZipInfo, holds: str) -> None:
    if "\0" in m.orig_filename:
        raise InputError("the zip holds a name with a zero in it; expected plain names")
    check_name(m.filename.removesuffix("/"))
    kind = stat.S_IFMT(m.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or _links(m.extra):
        raise InputError("the zip holds a link or a device; expected plain files")
    if m.flag_bits & 0x41:
        raise InputError(f"the zip is encrypted; unpack it, or pack {holds} without a password")
    if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError("the zip is packed in an unusual way; pack it with plain zip (deflate)")


def _links(extra: bytes) -> bool:
    """Whether an entry's extra fields make it a link to another."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        data, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNIX_LINK and length > 12:
            return True
        if kind == _ASI_LINK and length >= 14 and struct.unpack_from("<I", data, 6)[0]:
            return True
    return False


def _check_sizes(
    place: Path, members: Sequence[zipfile.ZipInfo], limits: Limits, holds: str
) -> None:
    if len(members) > limits.files:
        raise InputError(f"the zip holds too many files; expected {holds}")
    whole = sum(m.file_size for m in members)
    packed = sum(m.compress_size for m in members)
    most = max((m.file_size for m in members), default=0)
    bomb = whole > limits.small_bytes and whole > limits.most_times * max(packed, 1)
    if whole > limits.total_bytes or most > limits.file_bytes or bomb:
        raise InputError(
            f"the zip would unpack to {whole / 2**20:.0f} MB from {packed / 2**20:.1f} MB; "
            f"expected {holds} of at most {_mb(limits.total_bytes)}"
        )
    if packed > place.stat().st_size:
        raise InputError("the zip's files overlap; pack it again")


def _check_apart(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> None:
    """Entries that share bytes unpack to far more than a file of that size can hold."""
    assert archive.fp is not None
    end = 0
    for m in sorted(members, key=lambda m: m.header_offset):
        if m.header_offset < end:
            raise InputError("the zip's files overlap; pack it again")
        archive.fp.seek(m.header_offset)
        sign, name, extra = _LOCAL.unpack(archive.fp.read(_LOCAL.size))
        if sign != b"PK\x03\x04":
            raise zipfile.BadZipFile
        end = m.header_offset + _LOCAL.size + name + extra + m.compress_size
    if end > archive.start_dir:
        raise InputError("the zip's files overlap; pack it again")
