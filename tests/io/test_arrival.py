"""What comes from outside is refused early where it is hostile, and memory stays bounded."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.io.arrival import (
    PIECE,
    Gate,
    Limits,
    check_name,
    opened_zip,
    refuse_first_block,
    require_ct,
    unpack,
    why_not_inflated,
)
from trocar.io.volumes import read_scan, write_volume
from trocar.model.space import Grid, Volume

GRID = Grid.from_spacing((4, 5, 6), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0))
SMALL = 64 << 20  # more than any refusal may take


@contextmanager
def quick(seconds: float = 5.0, memory: int = SMALL) -> Iterator[None]:
    """What happens within takes little time and little memory."""
    start = time.perf_counter()
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < memory
    assert time.perf_counter() - start < seconds


def refused(place: Path, into: Path, **how: Any) -> str:
    """The sentence, and that nothing is left behind."""
    before = set(into.parent.iterdir())
    with quick(), pytest.raises(InputError) as caught:
        unpack(place, into, **how)
    assert set(into.parent.iterdir()) == before
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 250
    return sentence


def zipped(place: Path, files: dict[str, bytes], **how: Any) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, **how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return place


@pytest.fixture
def ct(tmp_path: Path, write_series: Any, hu: Any) -> Path:
    write_series(tmp_path / "ct", hu)
    return tmp_path / "ct"


@pytest.fixture
def slice_(ct: Path) -> bytes:
    """One image of a CT as bytes."""
    return next(iter(sorted(ct.iterdir()))).read_bytes()


# --- what is taken -------------------------------------------------------------------------------


def test_a_folder_a_zip_and_a_file_come_in_whole(ct: Path, tmp_path: Path, hu: Any) -> None:
    names = sorted(p.name for p in ct.iterdir())
    (ct / "autorun.inf").write_text("[autorun]")
    (ct / ".hidden").write_text("x")
    packed = zipped(tmp_path / "z.zip", {f"a/b/{p.name}": p.read_bytes() for p in ct.iterdir()})
    told: list[float] = []
    for source in (ct, packed):
        into = tmp_path / f"in-{source.name}"
        arrived = unpack(source, into, progress=lambda step, f: told.append(f))
        assert sorted(n.rsplit("/", 1)[-1] for n in arrived.files) == names
        ((passed, why),) = arrived.passed_over
        assert passed.endswith("autorun.inf")
        assert why.startswith("is no image")
        assert arrived.total_bytes == sum((ct / n).stat().st_size for n in names)
        assert np.array_equal(read_scan(into).volume.values, hu)
        assert require_ct(into).usable
    assert told
    one = unpack(ct / names[0], tmp_path / "one")
    assert one.files == (names[0],)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_volume_files_come_in(tmp_path: Path, ending: str) -> None:
    values = np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6)
    place = write_volume(tmp_path / f"ct{ending}", Volume(grid=GRID, values=values))
    unpack(place, tmp_path / "in")
    assert np.array_equal(read_scan(tmp_path / "in" / f"ct{ending}").volume.values, values)
    refuse_first_block(place.read_bytes()[:PIECE], ending)


@given(st.binary(max_size=200_000), st.integers(1, 70_000))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_taken_is_byte_for_byte_what_came(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int
) -> None:
    data = bytes(128) + b"DICM\x08\0" + data
    folder = tmp_path_factory.mktemp("gate")
    with Gate(folder / "in") as gate:
        pieces = (data[k : k + size] for k in range(0, len(data), size))
        assert gate.take("a/b.dcm", pieces) == ""
    assert (folder / "in" / "a" / "b.dcm").read_bytes() == data


def test_what_goes_wrong_inside_leaves_nothing(tmp_path: Path, slice_: bytes) -> None:
    def broken() -> Iterator[bytes]:
        yield slice_
        raise ConnectionResetError

    before = set(tmp_path.iterdir())
    with pytest.raises(ConnectionResetError), Gate(tmp_path / "in") as gate:
        assert [gate.take("a.dcm", [slice_]), gate.take("b.dcm", broken())]
    assert set(tmp_path.iterdir()) == before


def test_a_folder_that_holds_something_is_not_written_into(ct: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not empty"):
        unpack(ct, ct)
    (tmp_path / "empty").mkdir()
    assert unpack(ct, tmp_path / "empty").files


# --- names ---------------------------------------------------------------------------------------

BAD_NAMES = [
    *("../evil.dcm", "a/../../evil.dcm", "/etc/evil.dcm", "C:\\evil.dcm", "C:/evil.dcm"),
    *("a\\..\\evil.dcm", "a//b.dcm", "./a.dcm", "..", "a/.."),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_outside_are_refused(tmp_path: Path, slice_: bytes, name: str) -> None:
    bad = zipped(tmp_path / "z.zip", {"good.dcm": slice_, name: slice_})
    assert "points outside" in refused(bad, tmp_path / "in")
    assert not (tmp_path.parent / "evil.dcm").exists()


def test_a_name_with_a_zero_in_it_is_refused(tmp_path: Path, slice_: bytes) -> None:
    place = zipped(tmp_path / "z.zip", {"a.dcmXevil": slice_})
    place.write_bytes(place.read_bytes().replace(b"a.dcmXevil", b"a.dcm\0evil"))
    assert "zero in it" in refused(place, tmp_path / "in")


@pytest.mark.parametrize(
    "name", ["a\nb.dcm", "a\x1b[31m.dcm", "a\u202eb.dcm", "x/" * 40 + "a", "x" * 250]
)
def test_names_no_file_should_have_are_refused(tmp_path: Path, slice_: bytes, name: str) -> None:
    bad = zipped(tmp_path / "z.zip", {name: slice_})
    sentence = refused(bad, tmp_path / "in")
    assert "control characters" in sentence or "too long or too deep" in sentence
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A/im.dcm", "a/IM.dcm"),
        ("a.dcm", "a.dcm/b.dcm"),
        ("a/b.dcm", "a"),
        ("é.dcm", "e\u0301.dcm"),
    ],
)
def test_names_that_collide_are_refused(
    tmp_path: Path, slice_: bytes, one: str, other: str
) -> None:
    bad = zipped(tmp_path / "z.zip", {one: slice_, other: slice_})
    assert "two files are called" in refused(bad, tmp_path / "in")


@given(st.text(max_size=60))
def test_a_name_that_is_let_through_lies_in_its_folder(name: str) -> None:
    try:
        check_name(name)
    except InputError:
        return
    home = "/home/in"
    assert os.path.normpath(os.path.join(home, name)).startswith(f"{home}/")
    assert "\0" not in name
    assert "\\" not in name


# --- links and other files that are none ---------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]
)
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, slice_: bytes, kind: int) -> None:
    place = zipped(tmp_path / "z.zip", {"a.dcm": slice_})
    with zipfile.ZipFile(place, "a") as archive:
        info = zipfile.ZipInfo("b.dcm")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert "link or a device" in refused(place, tmp_path / "in")


@pytest.mark.parametrize(
    "extra",
    [
        struct.pack("<HH", 0x000D, 18) + bytes(12) + b"target",
        struct.pack("<HH", 0x756E, 20) + bytes(6) + struct.pack("<I", 6) + bytes(4) + b"target",
    ],
)
def test_hard_links_in_a_zip_are_refused(tmp_path: Path, slice_: bytes, extra: bytes) -> None:
    place = tmp_path / "z.zip"
    with zipfile.ZipFile(place, "w") as archive:
        info = zipfile.ZipInfo("a.dcm")
        info.extra = extra
        archive.writestr(info, slice_)
    assert "link or a device" in refused(place, tmp_path / "in")


def test_links_and_pipes_in_a_folder_are_passed_over(ct: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.dcm"
    secret.write_bytes(next(iter(ct.iterdir())).read_bytes())
    (ct / "link.dcm").symlink_to(secret)
    (ct / "loop").symlink_to(ct)
    os.mkfifo(ct / "pipe.dcm")
    with quick():
        arrived = unpack(ct, tmp_path / "in")
    passed = dict(arrived.passed_over)
    assert passed.keys() == {"link.dcm", "pipe.dcm"}
    assert "is no file but a link, a pipe" in passed["pipe.dcm"]
    assert "link.dcm" not in arrived.files
    assert len(arrived.files) == 6


# --- bombs ---------------------------------------------------------------------------------------


def squeezed_zeros(size: int) -> tuple[bytes, int]:
    """A deflated run of zeros and its checksum, made in pieces."""
    squeeze, crc, out = zlib.compressobj(9, zlib.DEFLATED, -15), 0, []
    piece = bytes(1 << 20)
    for _ in range(size >> 20):
        crc = zlib.crc32(piece, crc)
        out.append(squeeze.compress(piece))
    return b"".join((*out, squeeze.flush())), crc


def made_zip(entries: list[tuple[str, bytes, int, int]], shared: bool = False) -> bytes:
    """A zip from names, deflated bytes, checksums and the sizes they claim; no writer's scruples.

    ``shared`` lets every entry point at the first one's bytes.
    """
    body, directory = b"", b""
    for name, data, crc, size in entries:
        raw = name.encode()
        head = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, crc, len(data), size, len(raw), 0)
        at = 0 if shared else len(body)
        if not (shared and body):
            body += b"PK\3\4" + head + raw + data
        directory += b"PK\1\2" + struct.pack("<H", 20) + head
        directory += struct.pack("<HHHII", 0, 0, 0, 0, at) + raw
    count = len(entries)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + end


@pytest.fixture(scope="module")
def gigabytes() -> tuple[bytes, int, int]:
    """256 MB of zeros, deflated, with checksum and size."""
    data, crc = squeezed_zeros(1 << 28)
    return data, crc, 1 << 28


def test_a_zip_that_grows_a_thousandfold_is_refused_by_its_contents(
    tmp_path: Path, gigabytes: tuple[bytes, int, int]
) -> None:
    data, crc, size = gigabytes
    place = tmp_path / "z.zip"
    place.write_bytes(made_zip([(f"{n}.dcm", data, crc, size) for n in range(4)]))
    assert "would unpack to 1024 MB" in refused(place, tmp_path / "in")


def test_a_zip_that_lies_about_its_size_is_refused_when_it_shows(
    tmp_path: Path, gigabytes: tuple[bytes, int, int]
) -> None:
    data, crc, _ = gigabytes
    place = tmp_path / "z.zip"
    place.write_bytes(made_zip([("a.dcm", data, crc, 10)]))  # says 10 bytes
    assert "not what it says" in refused(place, tmp_path / "in")
    head = bytes(128) + b"DICM\x02\0" + bytes(200)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    image = squeeze.compress(head + bytes(1 << 24)) + squeeze.flush()
    place.write_bytes(made_zip([("a.dcm", image, zlib.crc32(head), len(head) - 20)]))
    assert "not what it says" in refused(place, tmp_path / "in")
    place.write_bytes(made_zip([("a.dcm", image, 7, 1 << 24)]))
    assert "not what it says" in refused(place, tmp_path / "in")


def test_entries_that_share_their_bytes_are_refused(
    tmp_path: Path, gigabytes: tuple[bytes, int, int]
) -> None:
    """A hundred files of 256 MB in one whose packed bytes are there once."""
    data, crc, size = gigabytes
    place = tmp_path / "z.zip"
    entries = [("a.dcm", data, crc, size), *(("a.dcm", data, crc, 10) for _ in range(99))]
    place.write_bytes(made_zip(entries, shared=True))
    limits = Limits(most_times=10_000)
    assert "overlap" in refused(place, tmp_path / "in", limits=limits)
    # One entry within another: the outer's packed bytes hold the inner's head.
    inner = made_zip([("b.dcm", data[:100], 0, 100)])[: 30 + 5 + 100]
    whole = made_zip([("a.dcm", inner, 0, 50), ("b.dcm", data[:100], 0, 100)])
    at = whole.index(b"PK\1\2", whole.index(b"PK\1\2") + 4) + 42
    place.write_bytes(whole[:at] + struct.pack("<I", 35) + whole[at + 4 :])
    assert "overlap" in refused(place, tmp_path / "in")


def test_a_zip_in_a_zip_is_not_opened(tmp_path: Path, slice_: bytes) -> None:
    inner = zipped(tmp_path / "inner.zip", {"a.dcm": slice_}).read_bytes()
    alone = zipped(tmp_path / "z.zip", {"inner.zip": inner})
    assert "archive within" in refused(alone, tmp_path / "in")
    both = zipped(tmp_path / "y.zip", {"inner.dcm": inner, "a.dcm": slice_})
    assert unpack(both, tmp_path / "in").files == ("a.dcm",)


def test_too_much_of_anything_is_refused(tmp_path: Path, slice_: bytes) -> None:
    many = zipped(tmp_path / "z.zip", {f"{n}.dcm": slice_ for n in range(12)})
    into, size = tmp_path / "in", len(slice_)
    assert "too many files" in refused(many, into, limits=Limits(files=11))
    assert "too many files" in refused(many, into, limits=Limits(contents_bytes=200))
    assert "unpack to" in refused(many, into, limits=Limits(total_bytes=12 * size - 1))
    assert "unpack to" in refused(many, into, limits=Limits(file_bytes=size - 1))
    assert len(unpack(many, into, limits=Limits(files=12, total_bytes=12 * size)).files) == 12
    again = tmp_path / "again"
    assert "files came" in refused(into, again, limits=Limits(files=11))
    assert "came" in refused(into, again, limits=Limits(total_bytes=12 * size - 1))
    assert "no CT image is as large" in refused(into, again, limits=Limits(file_bytes=size - 1))


def test_a_zip_of_a_million_names_is_refused_before_they_are_read(tmp_path: Path) -> None:
    place = tmp_path / "z.zip"
    entry = b"PK\1\2" + bytes(24) + struct.pack("<H", 8) + bytes(16)
    with place.open("wb") as stream:
        for n in range(200_000):
            stream.write(entry + b"%08d" % n)
        size = stream.tell()
        stream.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 100, 100, size, 0, 0))
    with quick(), pytest.raises(InputError, match="too many files"):
        opened_zip(place, limits=Limits(), holds="an examination").__enter__()
    # The same, in the 64-bit form.
    with place.open("r+b") as stream:
        stream.seek(size)
        stream.write(
            b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 200_000, 200_000, size, 0)
        )
        stream.write(b"PK\6\7" + struct.pack("<IQI", 0, size, 1))
        stream.write(
            b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
        )
    with quick(), pytest.raises(InputError, match="too many files"):
        opened_zip(place, limits=Limits(), holds="an examination").__enter__()


def test_a_small_zip_in_the_64_bit_form_is_taken(tmp_path: Path, slice_: bytes) -> None:
    data = zipped(tmp_path / "z.zip", {"a.dcm": slice_}).read_bytes()
    at = data.rindex(b"PK\5\6")
    size, start = struct.unpack_from("<II", data, at + 12)
    end = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, size, start)
    end += b"PK\6\7" + struct.pack("<IQI", 0, at, 1)
    end += b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, *(0xFFFF,) * 2, *(2**32 - 1,) * 2, 0)
    (tmp_path / "z.zip").write_bytes(data[:at] + end)
    assert unpack(tmp_path / "z.zip", tmp_path / "in").files == ("a.dcm",)


def test_encrypted_unusual_and_damaged_zips_are_refused(tmp_path: Path, slice_: bytes) -> None:
    place = zipped(tmp_path / "z.zip", {"a.dcm": slice_})
    good, into = place.read_bytes(), tmp_path / "in"
    at = good.index(b"PK\1\2")
    for flag in (1, 0x40):
        place.write_bytes(good[: at + 8] + struct.pack("<H", flag) + good[at + 10 :])
        assert "encrypted" in refused(place, into)
    for method in (12, 14, 9, 99):
        place.write_bytes(good[: at + 10] + struct.pack("<H", method) + good[at + 12 :])
        assert "unusual" in refused(place, into)
    for cut in (4, 30, len(good) // 2, len(good) - 5):
        place.write_bytes(good[:cut])
        assert "damaged" in refused(place, into)
    place.write_bytes(good[:60] + bytes(40) + good[100:])
    assert "damaged" in refused(place, into) or "no image" in refused(place, into)


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_fuzzed_zip_is_taken_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    image = bytes(128) + b"DICM\x02\0\0\0" + bytes(range(256)) * 4
    whole = bytearray(zipped(folder / "z.zip", {"a.dcm": image, "b/c.dcm": image}).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / "z.zip").write_bytes(whole)
    with suppress(InputError):
        for name in unpack(folder / "z.zip", folder / "in").files:
            assert (folder / "in" / name).resolve().is_relative_to(folder / "in")
        shutil.rmtree(folder / "in")
    assert sorted(p.name for p in folder.iterdir()) == ["z.zip"]


# --- the first block -----------------------------------------------------------------------------


class Zeros:
    """Many zeros that are nowhere; knows how many were asked for."""

    def __init__(self, size: int, front: bytes = b"") -> None:
        self.left, self.came, self.front = size, 0, front

    def pieces(self) -> Iterator[bytes]:
        if self.front:
            yield self.front
        while self.left > 0:
            self.left -= PIECE
            self.came += PIECE
            yield bytes(PIECE)


def test_two_gigabytes_of_zeros_are_refused_by_their_first_block(tmp_path: Path) -> None:
    zeros = Zeros(2 << 30)
    with quick(), pytest.raises(InputError, match="nothing but zeros"), Gate(tmp_path / "in") as g:
        g.take("a.dcm", zeros.pieces())
    assert zeros.came == PIECE
    with pytest.raises(InputError, match="nothing but zeros"):
        refuse_first_block(bytes(100), ".dcm")


def test_a_sparse_file_of_two_gigabytes_costs_nothing(tmp_path: Path) -> None:
    place = tmp_path / "big.dcm"
    with place.open("wb") as stream:
        stream.truncate(2 << 30)
    for name in ("big.dcm", "big.nii", "big.nii.gz", "big.nrrd", "big.mha"):
        other = tmp_path / name
        if not other.exists():
            os.link(place, other)
        sentence = refused(other, tmp_path / "in")
        assert "zeros" in sentence


def test_an_image_that_goes_on_in_zeros_is_stopped_at_the_limit(tmp_path: Path) -> None:
    zeros = Zeros(2 << 30, front=bytes(128) + b"DICM\x02\0")
    limits = Limits(file_bytes=8 << 20)
    with (
        quick(),
        pytest.raises(InputError, match="more than 8 MB"),
        Gate(tmp_path / "in", limits=limits) as gate,
    ):
        gate.take("a.dcm", zeros.pieces())
    assert zeros.came <= 9 << 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.dcm", b"", "empty"),
        ("a.dcm", b"%PDF-1.4 and more", "no image"),
        ("a.dcm", b"<html><script>", "no image"),
        ("a.dcm", b"MZ" + bytes(500), "no image"),
        ("a.dcm", bytes(128) + b"DICMevil", "no DICOM"),
        ("a.dcm", b"\x1f\x8b\x08" + bytes(50), "archive"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "archive"),
        ("a.mhd", b"ObjectType = Image\n", "another file"),
        ("a.nii", b"\x5c\x01\0\0" + bytes(400), "not what its name says"),
        ("a.nii.gz", b"hello", "not what its name says"),
        ("a.nrrd", b"NRRD0004\nsizes: 3 3 3\n", "not what its name says"),
        ("a.nrrd", b"NRRD0004\ntype: short\nsizes: 3 3 3\ndata file: /etc/passwd\n\n", "not what"),
        ("a.mha", b"DimSize = 3 3 3\nElementDataFile = /etc/passwd\n", "not what its name says"),
        ("a.nrrd", b"NRRD0004\ntype: double\nsizes: 99999 99999 99\n\n", "claims"),
        (
            "a.mha",
            b"ElementType = MET_SHORT\nDimSize = 9999 9999 999\nElementDataFile = LOCAL\n",
            "claims",
        ),
    ],
)
def test_what_is_no_image_is_told_by_its_first_bytes(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert says in refused(tmp_path / name, tmp_path / "in")
    with pytest.raises(InputError, match=says):
        refuse_first_block(data, name[1:])


NRRD = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 3 3 3\nencoding: raw\n"
MHA = b"ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_SHORT\n"
VOXELS = bytes(54)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("plain.nrrd", NRRD + b"\n" + VOXELS),
        ("plain.mha", MHA + b"ElementDataFile = LOCAL\n" + VOXELS),
    ],
)
def test_a_plain_volume_file_passes(tmp_path: Path, name: str, data: bytes) -> None:
    """The base of the hostile files below is itself taken: it is what was added that is refused."""
    (tmp_path / name).write_bytes(data)
    assert unpack(tmp_path / name, tmp_path / "in").files == (name,)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        # a line that ends in a carriage return alone, as the reader has it
        ("a.nrrd", NRRD + b"# \rdata file: {}\n\n" + VOXELS),
        ("a.nrrd", NRRD + b"datafile: {}\n\n" + VOXELS),
        ("a.nrrd", NRRD + b"  Data File: {}\n\n" + VOXELS),
        # which of two counts is another matter for each reader
        ("a.nrrd", NRRD + b"sizes: 9 9 9\n\n" + VOXELS),
        ("a.nrrd", NRRD + b"type: double\n\n" + VOXELS),
        ("a.nrrd", NRRD + b"x" * 400 + b": 1\n\n" + VOXELS),
        ("a.mha", MHA + b"ElementDataFile = {}\n" + VOXELS),
        ("a.mha", MHA + b"Comment = \rElementDataFile = {}\nElementDataFile = LOCAL\n" + VOXELS),
        ("a.mha", MHA + b"no line\nElementDataFile = LOCAL\n" + VOXELS),
        ("a.mha", MHA + b"DimSize = 9 9 9\nElementDataFile = LOCAL\n" + VOXELS),
        ("a.mha", MHA + b"ElementDataFile = LOCAL\nElementDataFile = {}\n" + VOXELS),
        # beyond the first block
        (
            "a.mha",
            MHA + b"ElementDataFile = LOCAL\n" + bytes(1 << 20) + b"\nElementDataFile = {}\n",
        ),
        # that is HDF5 as well, whose reader looks for its mark at every doubling
        ("a.mha", (MHA + b"ElementDataFile = LOCAL\n").ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n"),
        ("a.nrrd", (NRRD + b"\n").ljust(1 << 18, b"\0") + b"\x89HDF\r\n\x1a\n" + VOXELS),
    ],
)
def test_a_volume_file_leads_to_no_other_file(tmp_path: Path, name: str, data: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x2a" * 54)
    (tmp_path / name).write_bytes(data.replace(b"{}", str(secret).encode()))
    assert "is not what its name says" in refused(tmp_path / name, tmp_path / "in")


def test_a_zip_by_its_ending_must_be_one(tmp_path: Path, slice_: bytes) -> None:
    refuse_first_block(b"PK\3\4" + bytes(50), ".zip")
    with pytest.raises(InputError, match="no zip"):
        refuse_first_block(slice_, ".zip")
    refuse_first_block(slice_, ".dcm")


def nifti(**fields: Any) -> bytes:
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape((3, 3, 3))
    header.set_data_dtype(np.int16)
    for name, value in fields.items():
        header[name] = value
    header["magic"] = b"n+1"
    return bytes(header.binaryblock)


def test_a_nifti_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    dim = np.array([3, 32000, 32000, 32000, 1, 1, 1, 1], np.int16)
    for pack in (bytes, gzip.compress):
        for data, says in (
            (nifti(dim=dim) + bytes(4), "claims"),
            (nifti(vox_offset=1e9) + bytes(4), "not what its name says"),
            # an extension of 2 GB, which a reader would unpack in one go
            (nifti(vox_offset=4096) + b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 4), "not what"),
        ):
            place = tmp_path / ("a.nii" if pack is bytes else "a.nii.gz")
            place.write_bytes(pack(data + bytes(8000)))
            assert says in refused(place, tmp_path / "in")


def deflated(data: bytes, syntax: str = "1.2.840.10008.1.2.1.99", group: int = 0) -> bytes:
    """A DICOM file with a deflated part; ``group`` falsifies the length of its meta header."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, group or len(meta))
    return bytes(128) + b"DICM" + length + meta + data


def test_a_deflated_object_that_grows_is_refused(
    tmp_path: Path, slice_: bytes, gigabytes: tuple[bytes, int, int]
) -> None:
    bomb = deflated(gigabytes[0])
    limits = Limits(file_bytes=64 << 20)
    for data in (bomb, deflated(gigabytes[0], group=5)):
        (tmp_path / "a.dcm").write_bytes(data)
        sentence = refused(tmp_path / "a.dcm", tmp_path / "in", limits=limits)
        assert "unpacks to more than 64 MB" in sentence
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "a.dcm").write_bytes(bomb)
    (tmp_path / "both" / "b.dcm").write_bytes(slice_)
    assert unpack(tmp_path / "both", tmp_path / "in", limits=limits).files == ("b.dcm",)
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["b.dcm"]
    stream = io.BytesIO(bomb)
    assert why_not_inflated(stream, 1 << 28) == ""
    assert stream.tell() == 0
    assert "damaged" in why_not_inflated(io.BytesIO(deflated(b"\xff" * 100)), 1 << 28)
    for cut in (140, 150, len(deflated(b""))):
        assert "leads nowhere" in why_not_inflated(io.BytesIO(bomb[:cut]), 1 << 28)


def test_a_meta_header_that_a_parser_reads_otherwise_is_refused(slice_: bytes) -> None:
    """Else a deflated part behind it would pass unseen."""
    name = b"1.2.840.10008.1.2.1.99"
    implicit = struct.pack("<HHI", 2, 0x10, len(name)) + name
    for data in (
        bytes(128) + b"DICM" + implicit + bytes(100),
        implicit + bytes(100),  # without a preamble
        deflated(b"", syntax=name.decode() + "\\1.2"),
        deflated(b"", syntax=name.decode() + "\t"),
    ):
        assert "leads nowhere" in why_not_inflated(io.BytesIO(data), 1 << 28)
    assert why_not_inflated(io.BytesIO(slice_), 1 << 28) == ""


# --- not a CT ------------------------------------------------------------------------------------


def test_what_is_no_ct_is_refused_with_the_doctors_reason(
    tmp_path: Path, write_series: Any, hu: Any
) -> None:
    write_series(tmp_path / "mr", hu, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    with pytest.raises(InputError, match=r"no CT came, but MR object .*this is not a CT image"):
        require_ct(tmp_path / "mr")
    write_series(tmp_path / "scout", hu, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(InputError, match="scout view"):
        require_ct(tmp_path / "scout")
    write_series(tmp_path / "gap", np.delete(hu, 2, axis=0))
    for place in sorted((tmp_path / "gap").iterdir())[1:2]:
        place.unlink()
    with pytest.raises(InputError, match="missing between"):
        require_ct(tmp_path / "gap")


def test_of_several_volume_files_one_may_be_the_ct(
    tmp_path: Path, write_series: Any, hu: Any
) -> None:
    (tmp_path / "in").mkdir()
    ct = np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6)
    for name, values in (("labels", ct % 7), ("ct", ct), ("lesion", ct % 2)):
        write_volume(tmp_path / "in" / f"{name}.nii.gz", Volume(grid=GRID, values=values))
    assert [r.name for r in require_ct(tmp_path / "in").usable] == ["ct.nii.gz"]
    np.testing.assert_array_equal(read_scan(tmp_path / "in").volume.values, ct)
    write_volume(tmp_path / "in" / "later.nrrd", Volume(grid=GRID, values=ct))
    with pytest.raises(InputError, match=r"2 volume files came .*; give the CT alone"):
        require_ct(tmp_path / "in")
    write_series(tmp_path / "in" / "dicom", hu)  # what both were made from
    require_ct(tmp_path / "in")
    assert read_scan(tmp_path / "in").series_uid


# --- with little memory, for real ----------------------------------------------------------------

LIMITED = """
import resource, sys, time
from pathlib import Path
from trocar.errors import InputError
from trocar.io import arrival, deidentify
import trocar.io.volumes, numpy, pydicom, nibabel, SimpleITK
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (192 << 20),) * 2)
start = time.perf_counter()
for place in sys.argv[2:]:
    try:
        arrival.unpack(place, Path(sys.argv[1]) / "in")
    except InputError as error:
        print(error)
    else:
        sys.exit(f"{place} was let in")
print(f"{time.perf_counter() - start:.1f} s")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_hostile_files_are_refused_with_little_memory(
    tmp_path: Path, gigabytes: tuple[bytes, int, int]
) -> None:
    """In a process that may take 192 MB beyond what its libraries do."""
    data, crc, size = gigabytes
    with (tmp_path / "zeros.dcm").open("wb") as stream:
        stream.truncate(2 << 30)
    (tmp_path / "bomb.zip").write_bytes(made_zip([(f"{n}.dcm", data, crc, size) for n in range(8)]))
    one = made_zip([("a.dcm", data, crc, size)])  # under the ratio's floor: unpacked, if anything
    (tmp_path / "one.zip").write_bytes(one)
    squeeze = gzip.compress(
        nifti(vox_offset=4096) + b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 4)
    )
    (tmp_path / "a.nii.gz").write_bytes(squeeze)
    names = ["zeros.dcm", "bomb.zip", "one.zip", "a.nii.gz"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), *(str(tmp_path / n) for n in names)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    *sentences, seconds = done.stdout.splitlines()
    assert len(sentences) == len(names)
    assert float(seconds.split()[0]) < 5
