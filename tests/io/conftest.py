"""A maker of small CT series with known geometry and contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
Series = Callable[..., list[Dataset]]


def ct_image(pixels: np.ndarray[Any, Any], position: Sequence[float], **tags: Any) -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = CT, generate_uid()
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = "Test^A", "T1", "", ""
    d.StudyDate, d.StudyTime, d.AccessionNumber, d.ReferringPhysicianName = "", "", "", ""
    d.StudyID, d.SeriesNumber = "1", 3
    d.Modality, d.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.SeriesDescription, d.KVP, d.ConvolutionKernel = "Spine 1.0", 120, "B70"
    d.ImagePositionPatient = [round(float(v), 6) for v in position]
    d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    d.PixelSpacing = [0.8, 0.7]
    d.Rows, d.Columns = pixels.shape
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation, d.SamplesPerPixel = 15, 1, 1
    d.PhotometricInterpretation = "MONOCHROME2"
    d.RescaleSlope, d.RescaleIntercept, d.RescaleType = 1, -1024, "HU"
    d.PixelData = (pixels + 1024).astype("<i2").tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(d, name)
        else:
            setattr(d, name, value)
    d.file_meta.MediaStorageSOPClassUID = d.get("SOPClassUID") or CT
    d.file_meta.MediaStorageSOPInstanceUID = d.get("SOPInstanceUID") or generate_uid()
    return d


@pytest.fixture(scope="session")
def make_image() -> Callable[..., Dataset]:
    return ct_image


@pytest.fixture(scope="session")
def write_series() -> Series:
    """Writes ``hu`` (slices, rows, columns) as a series; slice k lies at first + k * step."""

    def write(
        folder: Path,
        hu: np.ndarray[Any, Any],
        *,
        first: Sequence[float] = (-30.0, -40.0, 100.0),
        step: Sequence[float] = (0.0, 0.0, 2.5),
        prefix: str = "IM",
        **tags: Any,
    ) -> list[Dataset]:
        folder.mkdir(parents=True, exist_ok=True)
        uids = {
            "StudyInstanceUID": generate_uid(),
            "SeriesInstanceUID": generate_uid(),
            "FrameOfReferenceUID": generate_uid(),
        }
        images = []
        for k, pixels in enumerate(hu):
            place = np.asarray(first) + k * np.asarray(step)
            d = ct_image(pixels, place, **(uids | {"InstanceNumber": k + 1} | tags))
            d.save_as(folder / f"{prefix}{(7 * k) % 101:04d}.dcm", enforce_file_format=True)
            d.filename = str(folder / f"{prefix}{(7 * k) % 101:04d}.dcm")
            images.append(d)
        return images

    return write


@pytest.fixture(scope="session")
def hu() -> np.ndarray[Any, Any]:
    """Six slices of whole HU, each voxel different from its neighbours."""
    rng = np.random.default_rng(1)
    return rng.integers(-1000, 1500, (6, 12, 10)).astype(np.int16)
