"""dicom-600: 600 uncompressed slices of 512x512 into one volume in HU, beside SimpleITK's reader.

Ours does all that a reader must: finds the files, reads the headers, groups, sorts and checks them,
reads the pixels to int16 HU. The peer lists the files of the series, sorts them and reads them.
A second problem is the whole door, ``read_scan``, which adds the content hash, the search for fill
values and the findings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import Problem, main

SLICES, SIDE = 600, 512


def write_series(folder: Path, slices: int = SLICES, side: int = SIDE) -> None:
    """A CT series of smooth anatomy-like noise, explicit little endian, names out of order."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    rng = np.random.default_rng(0)
    base = rng.integers(0, 2200, (side, side)).astype(np.int16)
    ct = "1.2.840.10008.5.1.4.1.1.2"
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for k, name in enumerate(rng.permutation(slices)):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.SOPClassUID, d.SOPInstanceUID = ct, generate_uid()
        d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
        d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = study, series, frame
        d.Modality, d.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        d.PatientName, d.PatientID, d.InstanceNumber = "bench", "bench", k + 1
        d.ImagePositionPatient = [-180.0, -170.0, round(-300.0 + 0.625 * k, 4)]
        d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        d.PixelSpacing, d.SliceThickness = [0.7, 0.7], 0.625
        d.Rows = d.Columns = side
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit, d.PixelRepresentation, d.SamplesPerPixel = 15, 1, 1
        d.PhotometricInterpretation = "MONOCHROME2"
        d.RescaleSlope, d.RescaleIntercept, d.RescaleType = 1, -1024, "HU"
        _as_scanners_do(d)
        d.PixelData = np.roll(base, k, axis=0).tobytes()
        d.save_as(folder / f"IM{name:05d}", enforce_file_format=True)


def _as_scanners_do(d: Any) -> None:
    """Fills the header up to the 120 elements and 5 kB of a real CT, two sequences among them.

    (Real CT of four makers have 72 to 268 elements before the pixels; the reader must pass them.)
    """
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTABD", "LOCAL", "CT abdomen"
    d.ProcedureCodeSequence, d.RequestAttributesSequence = [code], [code]
    d.StudyDate = d.SeriesDate = d.ContentDate = "20260102"
    d.StudyTime = d.SeriesTime = d.ContentTime = "101112.130"
    d.Manufacturer, d.KVP, d.ConvolutionKernel = "none", 120, "STANDARD"
    d.add_new(0x00190010, "LO", "SCANNER_01")
    for k in range(78):
        d.add_new(0x00191020 + k, "LO", f"private value {k:03d} of a scanner")


def read_series(folder: Path) -> NDArray[Any]:
    """Ours: find, check, sort, read."""
    from trocar.io.dicom import find_series
    from trocar.io.files import open_items
    from trocar.io.pixels import read_pixels

    with open_items(folder) as items:
        (series,) = find_series(items).series
        assert not series.refusal, series.refusal
        return read_pixels(series.images)


def read_door(folder: Path) -> NDArray[Any]:
    """Ours, the whole door."""
    from trocar.io.volumes import read_scan

    return read_scan(folder).volume.values


def read_itk(folder: Path) -> Any:
    """The peer: SimpleITK's series reader, with its own search and order."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def identical(ours: NDArray[Any], peers: Mapping[str, Any]) -> tuple[bool, str]:
    """The gate: every voxel the same HU, in the same place of the stack."""
    import SimpleITK as sitk  # noqa: N813

    theirs = sitk.GetArrayViewFromImage(peers["SimpleITK series"])
    differ = sum(int(np.count_nonzero(a != b)) for a, b in zip(ours, theirs))
    same = ours.shape == theirs.shape and differ == 0
    return same, f"{differ} of {ours.size} voxels differ; ours {ours.dtype}, peer {theirs.dtype}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_series(place)
        peers = {"SimpleITK series": lambda: read_itk(place)}
        main(
            [
                Problem(
                    name="dicom-600",
                    ours=lambda: read_series(place),
                    peers=peers,
                    check=identical,
                    target_ratio={"SimpleITK series": 4.0},
                ),
                Problem(
                    name="dicom-600 door",
                    ours=lambda: read_door(place),
                    peers=peers,
                    check=identical,
                ),
            ]
        )
