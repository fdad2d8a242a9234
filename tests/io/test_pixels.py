from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from trocar.errors import InputError
from trocar.io.files import open_items
from trocar.io.headers import Header, read_headers
from trocar.io.pixels import Decoder, fill_to_air, read_pixels
from trocar.io.volumes import read_scan

Array = np.ndarray[Any, Any]


# --- synthetic ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
        JPEGLSLossless,
    ],
)
def test_every_lossless_way_gives_the_same_voxels(
    tmp_path: Path, write_series: Any, hu: Array, syntax: str
) -> None:
    images = write_series(tmp_path, hu, PixelRepresentation=0, BitsStored=16)
    for d in images:
        if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
            try:
                d.compress(syntax, generate_instance_uid=False)
            except RuntimeError:
                pytest.skip("no encoder for this syntax is installed")
        else:
            d.file_meta.TransferSyntaxUID = syntax
        d.save_as(d.filename, enforce_file_format=True)
    assert np.array_equal(read_scan(tmp_path).volume.values, hu)


def test_big_endian_words(tmp_path: Path, write_series: Any, hu: Array) -> None:
    from pydicom.uid import ExplicitVRBigEndian

    for d, pixels in zip(write_series(tmp_path, hu), hu):
        d.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        d.PixelData = (pixels + 1024).astype(">i2").tobytes()
        d.save_as(d.filename, enforce_file_format=True, implicit_vr=False, little_endian=False)
    assert np.array_equal(read_scan(tmp_path).volume.values, hu)


def test_what_lies_above_the_stored_bits_is_cleared(
    tmp_path: Path, write_series: Any, hu: Array
) -> None:
    """Old files keep overlays in the four bits above a 12-bit image."""
    images = write_series(
        tmp_path / "u", hu, BitsStored=12, HighBit=11, PixelRepresentation=0, RescaleIntercept=-1024
    )
    for d, pixels in zip(images, hu):
        d.PixelData = ((pixels + 1024).astype("<u2") | 0x5000).tobytes()
        d.save_as(d.filename, enforce_file_format=True)
    assert np.array_equal(read_scan(tmp_path / "u").volume.values, hu)
    images = write_series(tmp_path / "s", hu, BitsStored=12, HighBit=11, RescaleIntercept=0)
    for d, pixels in zip(images, hu):
        d.PixelData = (pixels.astype("<i2") & 0x0FFF).tobytes()
        d.save_as(d.filename, enforce_file_format=True)
    assert np.array_equal(read_scan(tmp_path / "s").volume.values, hu)


def test_fractional_slopes_become_float(tmp_path: Path, write_series: Any, hu: Array) -> None:
    write_series(tmp_path, hu, RescaleSlope="0.5", RescaleIntercept="-1024.25")
    values = read_scan(tmp_path).volume.values
    assert values.dtype == np.float32
    assert np.allclose(values, (hu + 1024) * 0.5 - 1024.25)


def test_values_beyond_16_bits_do_not_wrap(tmp_path: Path, write_series: Any, hu: Array) -> None:
    images = write_series(tmp_path, hu, PixelRepresentation=0)
    words = np.full((12, 10), 40000, "<u2")
    images[0].PixelData = words.tobytes()
    images[0].save_as(images[0].filename, enforce_file_format=True)
    values = read_scan(tmp_path).volume.values
    assert values[0].min() == values[0].max() == 40000 - 1024
    assert np.array_equal(values[1:], hu[1:])


def test_a_fill_word_does_not_wrap_to_bone(tmp_path: Path, write_series: Any, hu: Array) -> None:
    """-32768 - 1024 is below 16 bits; wrapped round it would be +31744 HU."""
    images = write_series(tmp_path, hu)
    words = (hu[0] + 1024).astype("<i2")
    words[:3] = -32768
    images[0].PixelData = words.tobytes()
    images[0].save_as(images[0].filename, enforce_file_format=True)
    scan = read_scan(tmp_path)
    assert np.all(scan.volume.values[0, :3] == -1000)
    assert np.array_equal(scan.volume.values[0, 3:], hu[0, 3:])
    assert "4.2 % of the voxels hold a fill value (down to -32768)" in str(scan.findings[0])


def test_fill_becomes_air_and_nothing_else_changes() -> None:
    values = np.array([[[-3024, -2048, -1207, -1000, 40]]], np.int16)
    out, (finding,) = fill_to_air(values.copy())
    assert out.tolist() == [[[-1000, -1000, -1207, -1000, 40]]]
    assert (finding.values["lowest_hu"], finding.values["percent"]) == (-3024, 40)
    assert fill_to_air(np.array([[[-1207, 5]]]))[1] == ()
    out, (finding,) = fill_to_air(np.array([[[np.nan, 5.0, -np.inf]]], np.float32))
    assert out.tolist() == [[[-1000, 5, -1000]]]


# --- the sixteen encodings of one slice ---------------------------------------------------------

SLICES = "11_dicom_conformance/ct_one_slice_all_transfer_syntaxes.zip"
WORST_HU = {  # lossless unless named
    "1.2.840.10008.1.2.4.81": 1,
    "1.2.840.10008.1.2.4.91": 5,
    "1.2.840.10008.1.2.4.51": 36,
    "1.2.840.10008.1.2.4.50": 65,
}


@pytest.fixture(scope="module")
def encodings(data: Path) -> Any:
    with open_items(data / SLICES) as items:
        headers = [h for i in items for h in read_headers(i) or ()]
        assert len(headers) == 16
        yield {h.item.name: h for h in headers}


def _undecodable(h: Header) -> bool:
    return h.transfer_syntax.endswith((".4.53", ".4.55"))


@pytest.mark.data
def test_all_transfer_syntaxes_give_the_same_hounsfield_units(
    encodings: dict[str, Header],
) -> None:
    reference = read_pixels([encodings["CTImage.dcm"]])
    assert (reference.min(), reference.max()) == (-3024, 1378)
    seen = set()
    for h in encodings.values():
        if _undecodable(h):
            continue
        found = read_pixels([h]).astype(float)
        worst = float(np.abs(found - reference).max())
        assert worst <= WORST_HU.get(h.transfer_syntax, 0), h.item.name
        assert (h.transfer_syntax in WORST_HU) == (worst > 0), h.item.name
        seen.add(h.transfer_syntax)
    assert len(seen) == 13  # 16 files; implicit twice; two that cannot be read


@pytest.mark.data
def test_a_syntax_that_cannot_be_read_is_named(
    encodings: dict[str, Header], tmp_path: Path, data: Path
) -> None:
    for name, h in encodings.items():
        if not _undecodable(h):
            continue
        folder = tmp_path / h.transfer_syntax
        folder.mkdir()
        with zipfile.ZipFile(data / SLICES) as archive:
            (folder / "a.dcm").write_bytes(archive.read(name))
        with pytest.raises(InputError, match=r"compressed in a way trocar cannot read \(JPEG"):
            read_scan(folder)


@pytest.mark.data
@pytest.mark.parametrize("end", [".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.90"])
def test_a_stream_without_its_end_is_never_filled_with_grey(
    encodings: dict[str, Header], data: Path, tmp_path: Path, end: str
) -> None:
    """The file is whole, but the compressed stream inside stops half way."""
    from pydicom import dcmread
    from pydicom.encaps import encapsulate, get_frame

    name = next(n for n, h in encodings.items() if h.transfer_syntax.endswith(end))
    with zipfile.ZipFile(data / SLICES) as archive, archive.open(name) as member:
        d = dcmread(member)
    stream = get_frame(d.PixelData, 0, number_of_frames=1)
    d.PixelData = encapsulate([stream[: len(stream) // 4 * 2]])
    d.save_as(tmp_path / "a.dcm")
    with open_items(tmp_path) as (item,):
        (h,) = read_headers(item) or ()
        with pytest.raises(InputError, match="have no end"):
            Decoder().stored(h)


@pytest.mark.data
@pytest.mark.parametrize("end", [".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.90", ".2.5"])
def test_a_truncated_file_is_never_filled_with_grey(
    encodings: dict[str, Header], data: Path, tmp_path: Path, end: str
) -> None:
    name = next(n for n, h in encodings.items() if h.transfer_syntax.endswith(end))
    with zipfile.ZipFile(data / SLICES) as archive:
        whole = archive.read(name)
    (tmp_path / "a.dcm").write_bytes(whole[: len(whole) - 9000])
    with open_items(tmp_path) as (item,):
        (h,) = read_headers(item) or ()
        with pytest.raises(InputError):
            Decoder().stored(h)
