"""What are the voxels of DICOM images in Hounsfield units, and are they whole?

Uncompressed words go straight from the file into one array; everything else through a decoder.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import tissue
from trocar.io.files import Item
from trocar.io.headers import CT_IMAGE, JPEG, Header, brief
from trocar.model.case import Finding, Gravity
from trocar.model.space import Float

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Progress = Callable[[str, float], None]


def read_pixels(images: Sequence[Header], progress: Progress | None = None) -> NDArray[Any]:
    """HU of images stacked in the order given: int16 where they are whole numbers, else float32."""
    whole = all(h.slope == 1 and float(h.intercept or 0).is_integer() for h in images)
    if whole:
        try:
            return _stack(images, np.dtype(np.int16), progress)
        except OverflowError:  # values beyond 16 bits signed
            pass
    return _stack(images, np.dtype(np.float32), progress)


def _stack(
    images: Sequence[Header], dtype: np.dtype[Any], progress: Progress | None
) -> NDArray[Any]:
    first = images[0]
    decoder = Decoder()
    if not first.is_native:
        decoder.stored(first)  # a header may claim any size: see one image before making room
    try:
        values = np.empty((len(images), first.rows, first.columns), dtype)
    except (MemoryError, ValueError) as error:
        need = len(images) * first.rows * first.columns * dtype.itemsize / 2**30
        raise InputError(f"{first.called} and its series need {need:.0f} GB of memory") from error
    for k, h in enumerate(images):
        if progress is not None and k % 20 == 0:
            progress("read pixels", k / len(images))
        if dtype == np.int16 and h.is_native:
            decoder.words(h, values[k])
            _to_hu(h, values[k])
        else:
            _scale_into(h, decoder.stored(h), values[k])
    return values


def _to_hu(h: Header, out: NDArray[np.int16]) -> None:
    """Stored 16-bit words to HU in place; OverflowError when they do not fit."""
    intercept = int(h.intercept or 0)
    words = out if h.signed else out.view(np.uint16)
    if abs(intercept) > 32767 or int(words.max()) + intercept > 32767:
        raise OverflowError
    if int(words.min()) + intercept < -32768:
        # Only a fill value can lie there; it stays the lowest value instead of wrapping round.
        np.maximum(out, -32768 - intercept, out=out)
    out += np.int16(intercept)


def _keep_stored_bits(h: Header, out: NDArray[np.int16]) -> None:
    """Clears what old files keep above the stored bits (overlays), and restores the sign."""
    spare = 16 - h.bits_stored
    if spare == 0:
        return
    if h.signed:
        out <<= spare
        out >>= spare
    else:
        out &= np.int16((1 << h.bits_stored) - 1)


def _scale_into(h: Header, stored: NDArray[Any], out: NDArray[Any]) -> None:
    if stored.shape != out.shape:
        raise InputError(
            f"{h.called} decodes to {stored.shape} pixels where {out.shape} were expected"
        )
    hu = stored * np.float64(h.slope or 1.0) + np.float64(h.intercept or 0.0)
    if out.dtype == np.int16:
        if hu.max() > 32767:
            raise OverflowError
        np.maximum(hu, -32768.0, out=hu)
    out[...] = hu


class Decoder:
    """Stored values of images, one after another.

    Keeps the last file open, because a multi-frame file is asked for every frame.
    """

    def __init__(self) -> None:
        self._item: Item | None = None
        self._data: bytes = b""
        self._dataset: Dataset | None = None

    def words(self, h: Header, out: NDArray[np.int16]) -> None:
        """The 16-bit words of a native image straight from the file into ``out``."""
        at = h.pixels_at + h.frame * out.nbytes
        if h.item.archive is None:
            count = h.item.read_into(at, out.data.cast("B"))
        else:
            part = self._bytes(h.item)[at : at + out.nbytes]
            count = len(part)
            out.reshape(-1)[: count // 2] = np.frombuffer(part[: count // 2 * 2], np.int16)
        if count != out.nbytes:
            raise InputError(f"{h.called} is cut off; copy it again")
        if sys.byteorder == "big":
            out.byteswap(inplace=True)
        _keep_stored_bits(h, out)

    def stored(self, h: Header) -> NDArray[Any]:
        """Stored values (before slope and intercept), rows by columns; InputError when it fails."""
        if h.is_native:
            plain = np.empty((h.rows, h.columns), np.int16)
            self.words(h, plain)
            return plain if h.signed else plain.view(np.uint16)
        try:
            values = _decode(self._open(h.item), h)
        except InputError:
            raise
        except Exception as error:  # decoders fail in many ways on damaged streams
            raise InputError(
                f"the pixels of {h.called} cannot be decoded ({h.syntax_name}: {brief(error)})"
            ) from error
        if values.shape != (h.rows, h.columns):
            raise InputError(
                f"{h.called} decodes to {values.shape} pixels, not {(h.rows, h.columns)}"
            )
        return values

    def _bytes(self, item: Item) -> bytes:
        if self._item is not item:
            self._data, self._dataset, self._item = item.read(), None, item
        return self._data

    def _open(self, item: Item) -> Dataset:
        data = self._bytes(item)
        if self._dataset is None:
            from pydicom import dcmread

            self._dataset = dcmread(BytesIO(data), force=True)
        return self._dataset


def _decode(dataset: Dataset, h: Header) -> NDArray[Any]:
    from pydicom.pixels import pixel_array

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if h.transfer_syntax.startswith(JPEG):
            _require_end(dataset, h)
            if h.transfer_syntax in (f"{JPEG}51", f"{JPEG}57", f"{JPEG}70"):
                return _decode_by_itk(dataset, h)
        values = pixel_array(dataset, index=h.frame if h.frames > 1 else None, raw=True)
    return np.asarray(values)


def _codestream(dataset: Dataset, h: Header) -> bytes:
    from pydicom.encaps import get_frame

    return bytes(get_frame(dataset.PixelData, h.frame, number_of_frames=h.frames))


def _require_end(dataset: Dataset, h: Header) -> None:
    # Some decoders fill the rest of a truncated stream with grey and say nothing.
    if not _codestream(dataset, h).rstrip(b"\0").endswith(b"\xff\xd9"):
        raise InputError(f"{h.called} is cut off: its compressed pixels have no end; copy it again")


def _decode_by_itk(dataset: Dataset, h: Header) -> NDArray[Any]:
    """Stored values by SimpleITK, through a temporary file that holds pixels and nothing else."""
    import SimpleITK as sitk  # noqa: N813
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, generate_uid

    bare = Dataset()
    bare.SOPClassUID, bare.SOPInstanceUID = UID(CT_IMAGE), generate_uid()
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        setattr(bare, name, dataset[name].value)
    bare.PixelRepresentation = dataset.PixelRepresentation
    bare.SamplesPerPixel, bare.PhotometricInterpretation = 1, "MONOCHROME2"
    bare.PixelData = encapsulate([_codestream(dataset, h)])
    bare["PixelData"].is_undefined_length = True
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = UID(h.transfer_syntax)
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        bare.save_as(path, enforce_file_format=True)
        image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    return np.asarray(sitk.GetArrayFromImage(image)[0])


def content_hash(values: NDArray[Any], affine: Float) -> str:
    """SHA-256 of voxel values and geometry, the same however the files are named or packed."""
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape} ".encode())
    digest.update(np.round(affine, 6).astype("<f8").tobytes())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def fill_to_air(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[Finding, ...]]:
    """Turns values that mean "nothing was measured here" into air, and says so.

    Scanners fill the corners of the image with numbers such as -3024 or -2048. Left in place they
    would pull every mean and every interpolation near them; air is what lies there. The array is
    changed in place, as it was just read.
    """
    limit = tissue.value("hu_fill").mean
    lowest = float(values.min())
    if lowest >= limit:  # false for NaN as well, which minimum() passes on
        return values, ()
    fill = ~(values >= limit)
    if np.isnan(lowest):
        lowest = float(np.nanmin(values)) if not fill.all() else lowest
    share = float(np.count_nonzero(fill)) / fill.size
    values[fill] = tissue.value("hu_air").mean
    return values, (
        Finding(
            gravity=Gravity.NOTE,
            message="{percent:.1f} % of the voxels hold a fill value (down to {lowest_hu:.0f}), "
            "outside what the scanner measured; they were taken as air",
            values={"percent": 100 * share, "lowest_hu": lowest},
        ),
    )
