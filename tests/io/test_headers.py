from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from trocar.errors import InputError
from trocar.io.files import Item
from trocar.io.headers import _header, _quick, _thorough, read_headers


def _item(path: Path) -> Item:
    return Item(name=path.name, path=path)


def _nested(undefined: bool) -> Items:
    inner, outer = Dataset(), Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "deep"
    outer.ProcedureCodeSequence = Items([inner])
    outer.Modality = "MR"  # a value inside a sequence must not be taken for the image's own
    items = Items([outer, Dataset()])
    for d in (inner, outer):
        d.is_undefined_length_sequence_item = undefined
    outer["ProcedureCodeSequence"].is_undefined_length = undefined
    return items


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
@pytest.mark.parametrize("undefined", [False, True])
def test_the_quick_way_reads_what_pydicom_reads(
    tmp_path: Path, make_image: Any, syntax: str, undefined: bool
) -> None:
    d = make_image(np.zeros((4, 3)), (1, 2, 3), ContrastBolusAgent="X", SliceThickness="1.25")
    d.StudyInstanceUID, d.SeriesInstanceUID, d.InstanceNumber = "1.2.3", "1.2.4", 7
    d.RequestAttributesSequence = _nested(undefined)
    d["RequestAttributesSequence"].is_undefined_length = undefined
    d.add_new(0x00290010, "LO", "private")
    d.add_new(0x00291010, "OB", b"\x00" * 300)
    if syntax == "implicit":
        d.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    d.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    if undefined:  # old scanners write the length of the last group before the pixels
        kind = b"UL\x04\x00" if syntax == "explicit" else b"\x04\x00\x00\x00"
        group = b"\xe0\x7f\x00\x00" + kind + (32).to_bytes(4, "little")
        whole = (tmp_path / "a.dcm").read_bytes()
        at = whole.index(b"\xe0\x7f\x10\x00")
        (tmp_path / "a.dcm").write_bytes(whole[:at] + group + whole[at:])
    item = _item(tmp_path / "a.dcm")
    quick = _quick((tmp_path / "a.dcm").read_bytes())
    assert quick is not None
    thorough = _thorough(item)
    assert quick == thorough or vars(quick) == vars(thorough)
    header = _header(item, quick)
    assert header.modality == "CT"
    assert header.position_mm == (1, 2, 3)
    assert header.pixels_at + 4 * 3 * 2 == header.file_bytes


def test_text_is_read_in_its_own_alphabet(tmp_path: Path, make_image: Any) -> None:
    d = make_image(np.zeros((2, 2)), (0, 0, 0), SpecificCharacterSet="GB18030")
    d.SeriesDescription = "腰椎 1.0"
    d.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (header,) = read_headers(_item(tmp_path / "a.dcm")) or ()
    assert header.description == "腰椎 1.0"


def test_other_files_are_none(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image here")
    (tmp_path / "empty").write_bytes(b"")
    assert read_headers(_item(tmp_path / "note.txt")) is None
    assert read_headers(_item(tmp_path / "empty")) is None


def test_a_file_without_preamble_is_read(tmp_path: Path, make_image: Any) -> None:
    d = make_image(np.zeros((2, 2)), (0, 0, 5))
    d.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    d.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    whole = (tmp_path / "a.dcm").read_bytes()
    at = whole.index(b"\x08\x00\x08\x00")
    (tmp_path / "b.dcm").write_bytes(whole[at:])
    (header,) = read_headers(_item(tmp_path / "b.dcm")) or ()
    assert header.position_mm == (0, 0, 5)


def test_a_deflated_file_is_read_unless_it_grows_as_no_image_does(
    tmp_path: Path, make_image: Any
) -> None:
    d = make_image(np.zeros((2, 2)), (0, 0, 5))
    d.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    d.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (header,) = read_headers(_item(tmp_path / "a.dcm")) or ()
    assert header.position_mm == (0, 0, 5)

    whole = (tmp_path / "a.dcm").read_bytes()
    at = whole.index(b"1.2.840.10008.1.2.1.99") + 22
    meta = whole[: at + int.from_bytes(whole[140:144], "little") - (at - 144)]
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    data = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    (tmp_path / "b.dcm").write_bytes(meta + data)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"b\.dcm unpacks to more than"):
            read_headers(_item(tmp_path / "b.dcm"))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
