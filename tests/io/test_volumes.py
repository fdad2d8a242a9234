"""The development data read as their README says."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom.uid import generate_uid

from trocar.errors import InputError
from trocar.io.files import open_items
from trocar.io.headers import read_headers
from trocar.io.pixels import read_pixels
from trocar.io.volumes import (
    file_hash,
    inspect,
    read_labels,
    read_mask,
    read_scan,
    write_volume,
)
from trocar.model.space import Grid, Volume

pytestmark = pytest.mark.data
Array = np.ndarray[Any, Any]


def unpacked(archive: Path, folder: Path, start: str = "") -> Path:
    with zipfile.ZipFile(archive) as z:
        z.extractall(folder, [n for n in z.namelist() if n.startswith(start)])
    return folder


# NIfTI: folder, file, size as the README gives it (x y z of the file), spacing, lowest, highest.
NIFTI = [
    ("01_lumbar_pelvis_totalseg", "ct.nii.gz", (122, 101, 112), 3.0, -1207, 3382),
    ("02_l3_subregions_tptbox", "ct.nii.gz", (73, 47, 73), 1.5, -1030, 1961),
    # The README gives the range of the whole CT (from -2048); this crop begins at -1024.
    ("03_t9_l3_lidc0001", "ct.nii.gz", (256, 256, 69), (0.703, 0.703, 2.5), -1024, 3071),
    ("04_l1_lytic_cement_semisynthetic", "pre_ct.nii.gz", (160, 200, 42), 2.5, -1024, 1718),
    ("04_l1_lytic_cement_semisynthetic", "post_ct.nii.gz", (160, 200, 42), 2.5, -1024, 2580),
    ("14_thoracic_metal_contrast_totalseg", "ct.nii.gz", (120, 167, 160), 1.5, -1069, 3343),
]


@pytest.mark.parametrize(("folder", "file", "size", "spacing", "low", "high"), NIFTI)
def test_nifti_sets(
    data: Path, folder: str, file: str, size: Any, spacing: Any, low: int, high: int
) -> None:
    scan = read_scan(data / folder / file)
    values = scan.volume.values
    assert values.shape == tuple(reversed(size))
    assert values.dtype == np.int16
    assert (values.min(), values.max()) == (low, high)
    wanted = spacing if isinstance(spacing, tuple) else (spacing,)
    assert scan.volume.grid.spacing_mm[::-1][-len(wanted) :] == pytest.approx(wanted, abs=1e-3)
    # An independent way to the same place: nibabel's own affine, RAS to LPS by hand.
    image = nibabel.load(data / folder / file)
    index = np.array([3, 5, 7])
    x, y, z = nibabel.affines.apply_affine(image.affine, index)
    assert np.allclose(scan.volume.grid.to_world(index[::-1]), [-x, -y, z], atol=1e-3)
    assert values[7, 5, 3] == image.dataobj[3, 5, 7]


def test_orientation_of_01_is_told_by_its_organs(data: Path) -> None:
    """Liver right, spleen left, bladder below the kidneys: the world is LPS."""
    labels = read_labels(data / "01_lumbar_pelvis_totalseg" / "labels_total.nii.gz")
    assert len(labels.present) == 61
    liver, left_hip, right_hip, bladder, kidney, sacrum = (
        labels.mask(n).centroid_mm
        for n in (
            "liver", "hip_left", "hip_right", "urinary_bladder", "kidney_left", "sacrum",
        )
    )  # fmt: skip
    assert left_hip[0] > right_hip[0] + 100
    assert liver[0] < left_hip[0]
    assert bladder[2] < kidney[2]
    assert sacrum[1] > bladder[1]


def test_body_volumes_of_01(data: Path) -> None:
    bodies = read_labels(data / "01_lumbar_pelvis_totalseg" / "vertebral_bodies_refined.nii.gz")
    assert bodies.present == tuple(f"vertebrae_{v}" for v in ("T12", "L1", "L2", "L3", "L4", "L5"))
    assert bodies.mask("vertebrae_L1").volume_ml == pytest.approx(35.6, abs=0.05)


def test_verse_numbers_of_02_and_06(data: Path) -> None:
    folder = data / "02_l3_subregions_tptbox"
    labels = read_labels(folder / "vertebrae.nii.gz")
    assert labels.present == ("vertebrae_L2", "vertebrae_L3", "vertebrae_L4")
    with pytest.raises(InputError, match="without names"):
        read_labels(folder / "subregions.nii.gz")
    parts = read_labels(
        folder / "subregions.nii.gz", names={41: "arch", 49: "corpus_border", 50: "corpus"}
    )
    ct = read_scan(folder / "ct.nii.gz").volume
    assert ct.grid.matches(parts.grid)
    l3 = labels.mask("vertebrae_L3").values
    regions = ("corpus", "corpus_border", "arch")
    means = {n: ct.values[parts.mask(n).values & l3].mean() for n in regions}
    assert [round(float(v)) for v in means.values()] == [54, 249, 511]
    body = np.argwhere(parts.mask("corpus", "corpus_border").values & l3)
    extent = np.ptp(parts.grid.to_world(body), axis=0) + 1.5
    assert extent == pytest.approx([55.5, 39.0, 33.0])  # left-right, front-back, height
    spine = read_labels(data / "06_vertebra_masks" / "verse004_t9_l5_vertebrae.nii.gz")
    assert spine.present[0] == "vertebrae_T9"
    assert spine.present[-1] == "vertebrae_L5"


def test_names_of_03_and_04(data: Path) -> None:
    three = read_labels(data / "03_t9_l3_lidc0001" / "labels.nii.gz")
    assert {"vertebrae_L1", "aorta", "inferior_vena_cava", "spinal_cord"} <= set(three.present)
    four = read_labels(data / "04_l1_lytic_cement_semisynthetic" / "labels.nii.gz")
    assert {"vertebrae_L1", "aorta", "inferior_vena_cava", "spinal_cord"} <= set(four.present)
    # Both are crops of one CT, so the same vertebra lies at the same place in the world.
    assert np.allclose(
        three.mask("vertebrae_L1").centroid_mm, four.mask("vertebrae_L1").centroid_mm, atol=1.5
    )


def test_truth_of_04(data: Path) -> None:
    folder = data / "04_l1_lytic_cement_semisynthetic"
    truth = json.loads((folder / "truth.json").read_text())
    lesion = read_mask(folder / "truth_labels.nii.gz", name="1")
    cement = read_mask(folder / "truth_labels.nii.gz", name="2")
    both = lesion.values | cement.values
    centre = lesion.grid.to_world(np.argwhere(both)).mean(axis=0)
    x, y, z = truth["lesion"]["centroid_ras_mm"]
    assert np.allclose(centre, [-x, -y, z], atol=1.0)


@pytest.mark.parametrize(
    ("folder", "shape", "spacing", "low", "high"),
    [
        ("07_hemipelvis_sts007", (70, 215, 249), (3.27, 0.977, 0.977), -1000, 1310),
        ("08_hip_sts044", (53, 216, 234), (3.27, 0.977, 0.977), -1000, 1482),
    ],
)
def test_dicom_07_and_08(
    data: Path, folder: str, shape: Any, spacing: Any, low: int, high: int
) -> None:
    archive = data / folder / "dicom_ct_rtstruct.zip"
    scan = read_scan(archive)
    assert scan.volume.values.shape == shape
    assert scan.volume.grid.spacing_mm == pytest.approx(spacing, abs=1e-3)
    assert (scan.volume.values.min(), scan.volume.values.max()) == (low, high)
    assert (scan.kvp, scan.kernel, scan.contrast) == (140, "SOFT", None)
    assert scan.findings == ()
    # The published mask is NIfTI of the same grid: DICOM and NIfTI doors lead to one world.
    mask = read_mask(data / folder / "gtv_mask.nii.gz")
    assert mask.grid.matches(scan.volume.grid)
    what = [(row.what, row.usable) for row in inspect(archive).rows]
    assert what == [("CT", True), ("RT structure set", False)]


def test_dicom_09_with_fill(data: Path) -> None:
    archive = data / "09_abdomen_ge_crlm1006" / "dicom_ct.zip"
    scan = read_scan(archive)
    assert scan.volume.values.shape == (24, 512, 512)
    assert scan.volume.grid.spacing_mm == pytest.approx((5, 0.804688, 0.804688), abs=1e-4)
    assert scan.contrast is True
    (fill,) = scan.findings
    assert fill.values["lowest_hu"] == -3024
    assert scan.volume.values.max() == 1184
    assert scan.volume.values.min() == -1024
    with open_items(archive) as items:
        raw = read_pixels([h for i in items for h in read_headers(i) or ()])
    assert (raw.min(), raw.max()) == (-3024, 1184)
    assert fill.values["percent"] == pytest.approx(100 * np.mean(raw < -1500))


def test_dicom_10_with_empty_identifiers(data: Path) -> None:
    folder = data / "10_thoracolumbar_j2k_totalseg"
    scan = read_scan(folder / "dicom_ct_jpeg2000.zip")
    assert scan.volume.values.shape == (20, 512, 512)
    # SliceThickness says 3; the slices overlap and lie 2 mm apart.
    assert scan.volume.grid.spacing_mm == pytest.approx((2, 0.9765625, 0.9765625))
    assert (scan.volume.values.min(), scan.volume.values.max()) == (-1024, 1839)
    assert "empty UIDs" in str(scan.findings[0])
    labels = read_labels(folder / "labels_total.nii.gz", like=scan.volume.grid)
    assert labels.grid.matches(scan.volume.grid)
    spine = [name for name in labels.present if name.startswith("vertebrae_")]
    bone = scan.volume.values[labels.mask(*spine).values]
    assert bone.mean() > 100  # the labels lie on bone: same side, same height


def test_11_gantry_tilt(data: Path) -> None:
    folder = data / "11_dicom_conformance"
    (row,) = inspect(folder / "gantrytilting_001.zip").rows
    assert row.usable
    assert "4 x 512 x 512, 4.851 x 0.418 x 0.418 mm, tilted 14.0 deg" in row.geometry
    scan = read_scan(folder / "gantrytilting_001.zip")
    assert scan.findings[0].values["shear_mm"] == pytest.approx(3.63, abs=0.005)
    assert scan.volume.grid.is_orthogonal

    scan = read_scan(folder / "head_phantom_gantry_tilt.zip")
    assert scan.findings[0].values["tilt_deg"] == pytest.approx(18.5, abs=0.01)
    assert scan.findings[0].values["shear_mm"] == pytest.approx(18.25, abs=0.01)
    assert scan.volume.grid.spacing_mm[0] == pytest.approx(2.371, abs=0.001)
    assert scan.findings[1].values["said_mm"] == 2.5
    assert scan.volume.grid.is_orthogonal


def test_11_refusals(data: Path) -> None:
    folder = data / "11_dicom_conformance"
    for name, reason in (
        ("notavolume_001.zip", "lie at one position but differ"),
        ("missing_attributes.zip", "not a CT image"),
        ("ct_one_slice_all_transfer_syntaxes.zip", "compressed in a way trocar cannot read"),
        ("enhanced_multiframe_and_flipped.zip", "only one slice"),
    ):
        with pytest.raises(InputError, match=reason):
            read_scan(folder / name)
        assert inspect(folder / name).usable == ()


def test_11_enhanced_geometry_is_in_the_functional_groups(data: Path) -> None:
    archive = data / "11_dicom_conformance" / "enhanced_multiframe_and_flipped.zip"
    with open_items(archive) as items:
        frames = read_headers(next(i for i in items if i.name.startswith("eCT"))) or ()
    assert len(frames) == 2
    assert [len(h.position_mm or ()) for h in frames] == [3, 3]
    assert frames[0].position_mm != frames[1].position_mm
    assert all(h.orientation and h.spacing_mm for h in frames)
    (row,) = [r for r in inspect(archive).rows if r.what == "derived map"]
    assert "perfusion map" in row.why
    # A multi-frame object and its plain twin are one volume.
    archive = data / "11_dicom_conformance" / "ct3_liver_spine_seg.zip"
    for size in ("23x38x3", "24x38x3"):
        one = read_scan(archive, series=f"Image {size}")
        many = read_scan(archive, series=f"Multiframe image {size}")
        assert np.array_equal(one.volume.values, many.volume.values)
        assert np.allclose(one.volume.grid.affine, many.volume.grid.affine)
        assert one.sha256 == many.sha256


def test_11_a_flipped_column_direction_is_honoured(data: Path, tmp_path: Path) -> None:
    """Three copies of the flipped slice, 2 mm apart, become a stack with mirrored rows."""
    from pydicom import dcmread

    unpacked(data / "11_dicom_conformance" / "enhanced_multiframe_and_flipped.zip", tmp_path / "z")
    for k in range(3):
        d = dcmread(tmp_path / "z" / "explicit_VR-UN.dcm")
        d.ImagePositionPatient = [0, 0, -121 + 2 * k]
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        (tmp_path / "s").mkdir(exist_ok=True)
        d.save_as(tmp_path / "s" / f"{k}.dcm")
    volume = read_scan(tmp_path / "s").volume
    a = volume.grid.affine
    assert np.allclose(a[:3, 1], [0, -0.859375, 0])
    assert np.allclose(a[:3, 2], [0.859375, 0, 0])
    assert np.allclose(a[:3, 0], [0, 0, -2])  # along the normal, which points to the feet
    assert np.allclose(a[:3, 3], [0, 0, -117])


def test_a_folder_of_everything_is_inspected(data: Path) -> None:
    rows = inspect(data / "03_t9_l3_lidc0001").rows
    assert {(row.name, row.what, row.usable) for row in rows} == {
        ("ct.nii.gz", "CT", True),
        ("labels.nii.gz", "label map", False),
    }
    assert "a label map" in next(r.why for r in rows if not r.usable)
    with pytest.raises(InputError, match="cannot be used as a CT"):
        read_scan(data / "12_microct_trabecular_lhdl" / "microct.nii.gz")


def test_file_hash_is_the_listed_one(data: Path) -> None:
    line = next(
        text for text in (data / "SHA256SUMS").read_text().splitlines()
        if text.endswith("14_thoracic_metal_contrast_totalseg/ct.nii.gz")
    )  # fmt: skip
    path = data / "14_thoracic_metal_contrast_totalseg" / "ct.nii.gz"
    assert file_hash(path) == line.split()[0]


def test_of_a_folder_of_volume_files_the_one_ct_is_read(tmp_path: Path) -> None:
    grid = Grid.from_spacing((6, 7, 8), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    hu = np.random.default_rng(0).normal(100, 300, grid.shape).astype(np.int16)
    write_volume(tmp_path / "ct.nii.gz", Volume(grid=grid, values=hu))
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:4] = 20
    write_volume(tmp_path / "labels.nii.gz", Volume(grid=grid, values=labels))
    np.testing.assert_array_equal(read_scan(tmp_path).volume.values, hu)
    write_volume(tmp_path / "later.nii.gz", Volume(grid=grid, values=hu + 1))
    with pytest.raises(InputError, match="3 volume files here, 2 of which can be a CT; give the"):
        read_scan(tmp_path)
    for name in ("ct", "later"):
        (tmp_path / f"{name}.nii.gz").unlink()
    write_volume(tmp_path / "lesion.nii.gz", Volume(grid=grid, values=labels))
    with pytest.raises(InputError, match="2 volume files here, none of which can be a CT"):
        read_scan(tmp_path)
