from __future__ import annotations

import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from trocar.errors import FrameMismatch, InputError
from trocar.io.segmentation import fill_contours, read_regions, write_seg
from trocar.io.volumes import read_labels, read_mask, read_scan
from trocar.model.space import Grid, Labels

Array = np.ndarray[Any, Any]
GRID = Grid.from_spacing((5, 20, 24), (2.0, 1.0, 1.0))


# --- contours -----------------------------------------------------------------------------------


def ring(points: list[tuple[float, float]], k: int, grid: Grid = GRID) -> Array:
    """A polygon of (row, column) points on slice k as LPS points."""
    return grid.to_world([(k, r, c) for r, c in points])


def box(r0: float, r1: float, c0: float, c1: float) -> list[tuple[float, float]]:
    return [(r0, c0), (r0, c1), (r1, c1), (r1, c0)]


def slow_fill(points: list[tuple[float, float]], shape: tuple[int, int]) -> Array:
    """Crossing-number test of every pixel centre, one at a time."""
    out = np.zeros(shape, bool)
    for r in range(shape[0]):
        for c in range(shape[1]):
            for (r0, c0), (r1, c1) in zip(points, points[1:] + points[:1]):
                if (r0 <= r) != (r1 <= r) and c >= c0 + (r - r0) * (c1 - c0) / (r1 - r0):
                    out[r, c] ^= True
    return out


corner = st.tuples(st.floats(-3, 23), st.floats(-3, 27))


@settings(max_examples=60, deadline=None)
@given(points=st.lists(corner, min_size=3, max_size=9))
def test_filling_equals_the_slow_way(points: list[tuple[float, float]]) -> None:
    """Any polygon, self-crossing ones and ones that leave the image as well."""
    filled = fill_contours([ring(points, 2)], GRID).values
    assert not filled[[0, 1, 3, 4]].any()
    # A crossing within rounding of a centre may fall either way.
    nudged = [(r + 1e-7, c + 1e-7) for r, c in points]
    both = slow_fill(points, (20, 24)) == slow_fill(nudged, (20, 24))
    assert np.array_equal(filled[2][both], slow_fill(points, (20, 24))[both])


def test_the_centre_of_a_pixel_decides() -> None:
    filled = fill_contours([ring(box(3.5, 7.5, 4.5, 9.5), 1)], GRID).values[1]
    assert filled.sum() == 4 * 5
    assert filled[4:8, 5:10].all()


def test_a_contour_inside_another_is_a_hole_and_a_keyhole_is_the_same() -> None:
    outer, inner = box(2.5, 12.5, 2.5, 12.5), box(5.5, 8.5, 5.5, 8.5)
    holed = fill_contours([ring(outer, 0), ring(inner, 0)], GRID)
    keyhole = [*outer, outer[0], *inner, inner[0]]
    assert holed.voxels == 100 - 9
    assert np.array_equal(holed.values, fill_contours([ring(keyhole, 0)], GRID).values)


def test_contours_that_touch_share_no_pixel() -> None:
    left = fill_contours([ring(box(2, 9, 3, 8), 0)], GRID).values
    right = fill_contours([ring(box(2, 9, 8, 14), 0)], GRID).values
    assert not (left & right).any()
    assert (left | right).sum() == 7 * 11


def test_contours_that_do_not_belong_to_the_ct_are_refused() -> None:
    square = box(2, 9, 3, 8)
    with pytest.raises(InputError, match=r"1\.00 mm off the nearest slice"):
        fill_contours([ring(square, 0) + np.array([0, 0, 1.0])], GRID, "GTV")
    with pytest.raises(InputError, match="outside the CT"):
        fill_contours([ring(square, 9)], GRID, "GTV")
    with pytest.raises(InputError, match="every 2th slice only"):
        fill_contours([ring(square, k) for k in (0, 2, 4)], GRID, "GTV")


def rtstruct(path: Path, rois: dict[str, list[Array]], frame: str) -> None:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.3.4"
    d.Modality, d.SeriesInstanceUID = "RTSTRUCT", "1.2.3.5"
    d.StructureSetROISequence, d.ROIContourSequence = [], []
    for number, (name, polygons) in enumerate(rois.items(), start=4):
        roi, contour = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = frame
        contour.ReferencedROINumber, contour.ContourSequence = number, []
        for polygon in polygons:
            c = Dataset()
            c.ContourGeometricType, c.NumberOfContourPoints = "CLOSED_PLANAR", len(polygon)
            c.ContourData = [f"{v:.4f}" for v in polygon.ravel()]
            contour.ContourSequence.append(c)
        d.StructureSetROISequence.append(roi)
        d.ROIContourSequence.append(contour)
    d.save_as(path, enforce_file_format=True)


def test_regions_of_an_rtstruct(tmp_path: Path) -> None:
    path = tmp_path / "rs.dcm"
    rois = {
        "GTV": [ring(box(2.5, 9.5, 3.5, 8.5), k) for k in (1, 2)],
        "cord": [ring(box(12.5, 15.5, 3.5, 8.5), 1)],
    }
    rtstruct(path, rois, "1.2.3")
    grid = Grid(shape=GRID.shape, affine=GRID.affine, frame="1.2.3")
    assert read_mask(path, like=grid, name="GTV").voxels == 2 * 35
    assert read_mask(path, like=grid, name="5").voxels == 15
    assert read_labels(path, like=grid).present == ("GTV", "cord")
    with pytest.raises(InputError, match="2 regions"):
        read_mask(path, like=grid)
    with pytest.raises(InputError, match="give the CT they belong to"):
        read_mask(path, name="GTV")
    other = Grid(shape=GRID.shape, affine=GRID.affine, frame="9.9")
    with pytest.raises(FrameMismatch, match=r"'1\.2\.3'.*'9\.9'"):
        read_mask(path, like=other, name="GTV")
    rtstruct(path, {"a": rois["GTV"], "b": rois["GTV"]}, "1.2.3")
    with pytest.raises(InputError, match="overlaps 'a'"):
        read_labels(path, like=grid)
    assert set(read_regions(path, like=grid)) == {"a", "b"}


def test_contours_drawn_on_tilted_slices_fit_the_squared_ct(
    tmp_path: Path, write_series: Any
) -> None:
    """Squaring keeps every slice in its plane, so what was drawn there still lies in it."""
    a = np.radians(15)
    column = np.array([0, np.cos(a), np.sin(a)])
    images = write_series(
        tmp_path / "ct",
        np.full((6, 30, 20), -100, np.int16),
        ImageOrientationPatient=[1, 0, 0, *(round(float(v), 9) for v in column)],
        step=(0, 0, 5),
    )
    polygons = []
    for d in images[1:4]:
        at = np.array(d.ImagePositionPatient, float)
        corners = [(5.4, 6.4), (5.4, 12.6), (20.6, 12.6), (20.6, 6.4)]
        polygons.append(
            np.array([at + r * 0.8 * column + c * 0.7 * np.array([1, 0, 0]) for r, c in corners])
        )
    rtstruct(tmp_path / "rs.dcm", {"GTV": polygons}, images[0].FrameOfReferenceUID)
    grid = read_scan(tmp_path / "ct").volume.grid
    mask = read_mask(tmp_path / "rs.dcm", like=grid)
    assert mask.volume_ml == pytest.approx(3 * 15 * 6 * grid.voxel_ml, rel=0.08)
    centre = np.mean([p.mean(axis=0) for p in polygons], axis=0)
    assert np.linalg.norm(mask.centroid_mm - centre) < 0.5


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "ml"), [("07_hemipelvis_sts007", 544.32), ("08_hip_sts044", 641.15)]
)
def test_rtstruct_of_07_and_08_equals_the_published_mask(
    data: Path, folder: str, ml: float
) -> None:
    archive = data / folder / "dicom_ct_rtstruct.zip"
    grid = read_scan(archive).volume.grid
    mask = read_mask(archive, like=grid)
    published = read_mask(data / folder / "gtv_mask.nii.gz", like=grid)
    assert np.array_equal(mask.values, published.values)
    assert mask.volume_ml == pytest.approx(ml, abs=0.005)


# --- DICOM SEG ----------------------------------------------------------------------------------


@pytest.fixture
def blobs() -> Array:
    """Three regions of odd sizes in a 6 x 12 x 10 grid (a frame is not a whole number of bytes)."""
    values = np.zeros((6, 12, 10), np.uint8)
    values[1:4, 2:7, 3:6] = 1
    values[4, 8:11, 1:9] = 2
    values[2:5, 9, 7] = 9
    values[4, 9, 7] = 2
    return values


def test_a_seg_comes_back_as_it_was(
    tmp_path: Path, write_series: Any, hu: Array, blobs: Array
) -> None:
    write_series(tmp_path / "ct", hu)
    scan = read_scan(tmp_path / "ct")
    names = {1: "lesion", 2: "spinal_canal", 9: "aorta"}
    labels = Labels(grid=scan.volume.grid, values=blobs, names=names)
    write_seg(tmp_path / "seg.dcm", labels, scan.source)
    found = read_labels(tmp_path / "seg.dcm", like=scan.volume.grid)
    assert sorted(found.present) == sorted(names.values())
    for name in names.values():
        assert np.array_equal(found.mask(name).values, labels.mask(name).values)
        alone = read_mask(tmp_path / "seg.dcm", name=name)
        assert np.array_equal(alone.on(scan.volume.grid).values, labels.mask(name).values)
    d = dcmread(tmp_path / "seg.dcm")
    assert d.SegmentationType == "BINARY"
    assert "Research use only" in d.ContentDescription
    assert d.FrameOfReferenceUID == scan.volume.grid.frame
    referenced = {
        r.ReferencedSOPInstanceUID for r in d.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referenced <= {dcmread(p).SOPInstanceUID for p in (tmp_path / "ct").iterdir()}


def test_a_seg_of_an_oblique_tilted_ct_goes_by_the_affine(
    tmp_path: Path, write_series: Any, blobs: Array
) -> None:
    a = np.radians(12)
    write_series(
        tmp_path / "ct",
        np.full((6, 12, 10), -50, np.int16),
        ImageOrientationPatient=[1, 0, 0, 0, round(np.cos(a), 9), round(-np.sin(a), 9)],
        step=(0, 0, -3),
    )
    scan = read_scan(tmp_path / "ct")
    values = np.zeros(scan.volume.grid.shape, np.uint8)
    values[:, : blobs.shape[1]] = blobs
    labels = Labels(grid=scan.volume.grid, values=values, names={1: "x", 2: "y", 9: "z"})
    write_seg(tmp_path / "seg.dcm", labels, scan.source)
    for name in "xyz":
        found = read_mask(tmp_path / "seg.dcm", name=name, like=scan.volume.grid)
        assert np.array_equal(found.values, labels.mask(name).values)


def _standard_errors(path: Path) -> list[str]:
    """What dciodvfy finds wrong by the DICOM standard (errors; it also warns)."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed; apt-get install dicom3tools")
    said = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    assert "Segmentation" in lines  # it knows what it looks at
    return [line for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("tilt_deg", [0, 12])
def test_the_standards_own_checker_finds_no_error_in_a_seg(
    tmp_path: Path, write_series: Any, blobs: Array, tilt_deg: float
) -> None:
    a = np.radians(tilt_deg)
    way = [1, 0, 0, 0, round(float(np.cos(a)), 9), round(float(-np.sin(a)), 9)]
    pixels = np.full((6, 12, 10), -50, np.int16)
    write_series(tmp_path / "ct", pixels, ImageOrientationPatient=way, step=(0, 0, -3))
    scan = read_scan(tmp_path / "ct")
    values = np.zeros(scan.volume.grid.shape, np.uint8)
    values[:, : blobs.shape[1]] = blobs
    names = {1: "lesion", 2: "spinal_canal", 9: "vertebrae_L3"}
    labels = Labels(grid=scan.volume.grid, values=values, names=names)
    seg = tmp_path / "seg.dcm"
    write_seg(seg, labels, scan.source)
    assert _standard_errors(seg) == []
    worse = dcmread(seg)
    del worse.SegmentSequence[0].SegmentLabel
    worse.save_as(tmp_path / "worse.dcm")
    assert any("SegmentLabel" in line for line in _standard_errors(tmp_path / "worse.dcm"))


@pytest.mark.data
def test_the_standards_own_checker_finds_no_error_in_a_seg_of_a_real_ct(
    data: Path, tmp_path: Path
) -> None:
    place = data / "07_hemipelvis_sts007"
    scan = read_scan(place / "dicom_ct_rtstruct.zip")
    lesion = read_mask(place / "gtv_mask.nii.gz", like=scan.volume.grid)
    labels = Labels(grid=lesion.grid, values=lesion.values.astype(np.uint8), names={1: "lesion"})
    write_seg(tmp_path / "seg.dcm", labels, scan.source)
    assert _standard_errors(tmp_path / "seg.dcm") == []


def test_a_ct_without_identifiers_gets_no_seg(
    tmp_path: Path, write_series: Any, hu: Array, blobs: Array
) -> None:
    write_series(tmp_path / "ct", hu, SOPInstanceUID="", SeriesInstanceUID="")
    scan = read_scan(tmp_path / "ct")
    with pytest.raises(InputError, match="no identifiers"):
        write_seg(tmp_path / "s.dcm", Labels(grid=scan.volume.grid, values=blobs), scan.source)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_segmentations_end_in_a_sentence(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rs.dcm"
        rtstruct(path, {"GTV": [ring(box(2.5, 9.5, 3.5, 8.5), 1)]}, "1.2.3")
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 5))):
            raw[data.draw(st.integers(132, len(raw) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(raw[: data.draw(st.integers(200, len(raw)))]))
        for read in (read_mask, read_labels):
            try:
                read(path, like=GRID)
            except InputError as error:
                assert str(error)  # noqa: PT017 - any other error fails the test


@pytest.fixture(scope="module")
def segs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seg")
    for name in ("ct3_liver_spine_seg", "seg_variants_highdicom"):
        with zipfile.ZipFile(data / "11_dicom_conformance" / f"{name}.zip") as z:
            z.extractall(folder / name)
    return folder


@pytest.mark.data
def test_liver_on_the_ct_and_as_nrrd(segs: Path) -> None:
    folder = segs / "ct3_liver_spine_seg"
    grid = read_scan(folder / "ct-3slice").volume.grid
    liver = read_mask(folder / "liver.dcm", like=grid)
    assert liver.voxels == 107098
    for number in ("1", "2"):
        drawn = read_mask(folder / "liver_spine_seg.nrrd", name=number, like=grid)
        if drawn.values[liver.values].mean() > 0.5:
            assert np.array_equal(drawn.values, liver.values)
            return
    pytest.fail("neither label of the NRRD is the liver")


@pytest.mark.data
@pytest.mark.parametrize(("size", "voxels"), [("23x38x3", 322), ("24x38x3", 315)])
def test_frames_that_are_not_whole_bytes(segs: Path, size: str, voxels: int) -> None:
    folder = segs / "ct3_liver_spine_seg" / size
    grid = read_scan(folder / "image").volume.grid
    mask = read_mask(folder / "seg" / "label.seg", like=grid)
    assert mask.voxels == voxels
    assert np.array_equal(mask.values, read_mask(folder / "nrrd" / "label.nrrd", like=grid).values)


@pytest.mark.data
def test_overlapping_segments_are_kept_apart(segs: Path) -> None:
    path = segs / "ct3_liver_spine_seg" / "partial_overlaps.dcm"
    regions = read_regions(path)
    assert {name: mask.voxels for name, mask in regions.items()} == {
        "GREEN": 9602, "ORANGE": 11888, "PURPLE": 10743, "LIGHT_BLUE": 6693, "DARK_BLUE": 4713,
    }  # fmt: skip
    with pytest.raises(InputError, match="overlaps"):
        read_labels(path)
    assert read_mask(path, name="PURPLE").voxels == 10743


@pytest.mark.data
def test_label_map_segs(segs: Path) -> None:
    folder = segs / "ct3_liver_spine_seg"
    for name in ("sparse-labelmap-noppv.dcm", "sparse-labelmap-ppv5.dcm"):
        labels = read_labels(folder / name)
        assert labels.present == ("Liver",)
        assert labels.mask("Liver").voxels == 630


@pytest.mark.data
def test_fractional_segments_by_threshold(segs: Path) -> None:
    folder = segs / "seg_variants_highdicom"
    binary = read_mask(folder / "seg_image_ct_binary.dcm")
    fractional = read_mask(folder / "seg_image_ct_binary_fractional.dcm")
    assert binary.voxels == fractional.voxels == 638
    assert np.array_equal(binary.values, fractional.values)
    true = {
        t: read_regions(folder / "seg_image_ct_true_fractional.dcm", threshold=t)["first segment"]
        for t in (0.25, 0.5, 0.75)
    }
    assert [true[t].voxels for t in (0.25, 0.5, 0.75)] == [638 + 23, 638, 0]


def test_two_segmentations_are_one_too_many(tmp_path: Path) -> None:
    rtstruct(tmp_path / "a.dcm", {"GTV": []}, "1.2")
    shutil.copy(tmp_path / "a.dcm", tmp_path / "b.dcm")
    with pytest.raises(InputError, match="2 segmentations"):
        read_mask(tmp_path, like=GRID)
    (tmp_path / "b.dcm").unlink()
    assert read_mask(tmp_path, like=GRID, name="GTV").is_empty
    with pytest.raises(InputError, match="no single region 'x'"):
        read_mask(tmp_path, like=GRID, name="x")
