from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from trocar.errors import InputError
from trocar.io.dicom import Catalogue, find_series
from trocar.io.files import open_items
from trocar.io.volumes import inspect, read_scan, write_labels
from trocar.model.space import Labels

Array = np.ndarray[Any, Any]


def catalogue(path: Path) -> Catalogue:
    with open_items(path) as items:
        return find_series(items)


def refusal(path: Path) -> str:
    """The one reason, and that reading gives the same as a sentence."""
    (series,) = catalogue(path).series
    assert series.refusal
    with pytest.raises(InputError, match="cannot be used"):
        read_scan(path)
    (row,) = inspect(path).rows
    assert not row.usable
    assert row.why == series.refusal
    return series.refusal


def said(path: Path) -> str:
    return " | ".join(str(f) for f in read_scan(path).findings)


def turned(degrees: float, axis: str = "x") -> tuple[list[float], Array]:
    """ImageOrientationPatient and normal of a plane turned about an axis."""
    a = np.radians(degrees)
    row, column = np.array([1.0, 0, 0]), np.array([0.0, 1, 0])
    if axis == "x":
        column = np.array([0, np.cos(a), np.sin(a)])
    else:
        row = np.array([np.cos(a), np.sin(a), 0])
        column = np.array([-np.sin(a), np.cos(a), 0])
    return [round(float(v), 8) for v in (*row, *column)], np.cross(row, column)


# --- a right stack ------------------------------------------------------------------------------


def test_a_plain_series(tmp_path: Path, write_series: Any, hu: Array) -> None:
    images = write_series(tmp_path, hu, ContrastBolusAgent="OMNIPAQUE")
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.volume.values, hu)
    assert scan.volume.values.dtype == np.int16
    expected = np.array([[0, 0, 0.7, -30], [0, 0.8, 0, -40], [2.5, 0, 0, 100], [0, 0, 0, 1]])
    assert np.allclose(scan.volume.grid.affine, expected)
    assert (scan.kvp, scan.kernel, scan.contrast) == (120, "B70", True)
    assert scan.series_uid == images[0].SeriesInstanceUID
    assert scan.volume.grid.frame == images[0].FrameOfReferenceUID
    assert scan.findings == ()
    assert sorted(Path(s).name for s in scan.source) == sorted(p.name for p in tmp_path.iterdir())


def test_the_hash_is_of_contents_not_of_names(tmp_path: Path, write_series: Any, hu: Array) -> None:
    write_series(tmp_path / "a", hu)
    write_series(tmp_path / "b", hu, prefix="X")
    write_series(tmp_path / "c", hu + (np.arange(6) == 3)[:, None, None].astype(np.int16))
    write_series(tmp_path / "d", hu, step=(0, 0, 2.6))
    a, b, c, d = (read_scan(tmp_path / name).sha256 for name in "abcd")
    shutil.make_archive(str(tmp_path / "z"), "zip", tmp_path / "a")
    assert a == b == read_scan(tmp_path / "z.zip").sha256
    assert len({a, c, d}) == 3


def test_lone_zips_in_a_folder_are_read_as_if_unpacked(
    tmp_path: Path, write_series: Any, hu: Array
) -> None:
    write_series(tmp_path / "a", hu, SeriesDescription="bone")
    place = tmp_path / "study"
    place.mkdir()
    shutil.make_archive(str(place / "first"), "zip", tmp_path / "a")
    regions = Labels(
        grid=read_scan(tmp_path / "a").volume.grid,
        values=(hu > np.median(hu)).astype(np.uint8),
        names={1: "vertebrae_L3"},
    )
    write_labels(place / "regions.nii.gz", regions)  # no reason not to look into the zip
    scan = read_scan(place)
    assert np.array_equal(scan.volume.values, hu)
    assert scan.sha256 == read_scan(tmp_path / "a").sha256
    states = {row.name: row.state for row in inspect(place).rows}
    assert states == {"bone": "usable", "regions.nii.gz": "regions"}
    # Beside its own unpacked files a zip stays closed: every slice would be there twice.
    shutil.copytree(tmp_path / "a", place / "unpacked")
    assert np.array_equal(read_scan(place).volume.values, hu)
    shut = next(row for row in inspect(place).rows if row.name == "first.zip")
    assert (shut.what, shut.usable) == ("zip archive", False)
    assert "not opened" in shut.why


def test_a_zip_in_a_zip_and_a_damaged_one_are_named(
    tmp_path: Path, write_series: Any, hu: Array
) -> None:
    write_series(tmp_path / "a", hu)
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    shutil.make_archive(str(tmp_path / "b" / "in"), "zip", tmp_path / "a")
    shutil.make_archive(str(tmp_path / "c" / "out"), "zip", tmp_path / "b")
    with pytest.raises(InputError, match=r"a zip inside a zip; unpack out\.zip/in\.zip first"):
        read_scan(tmp_path / "c")
    (tmp_path / "c" / "out.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"out\.zip is a damaged zip archive"):
        read_scan(tmp_path / "c")


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-80, 80),
    axis=st.sampled_from("xz"),
    spacing=st.tuples(st.floats(0.3, 2), st.floats(0.3, 2)),
    step_mm=st.floats(0.4, 6),
    reverse=st.booleans(),
    flip=st.booleans(),
)
def test_any_square_stack_puts_each_voxel_where_its_header_says(
    write_series: Any,
    hu: Array,
    angle: float,
    axis: str,
    spacing: tuple[float, float],
    step_mm: float,
    reverse: bool,
    flip: bool,
) -> None:
    orientation, normal = turned(angle, axis)
    if flip:  # rows run the other way, as in some exports
        orientation[3:] = [-v for v in orientation[3:]]
    sign = -1 if reverse else 1
    with tempfile.TemporaryDirectory() as name:
        images = write_series(
            Path(name),
            hu,
            step=sign * step_mm * normal,
            ImageOrientationPatient=orientation,
            PixelSpacing=[round(s, 5) for s in spacing],
        )
        volume = read_scan(name).volume
    assert volume.grid.is_orthogonal
    for k in (0, 5):
        d = images[k]
        row, column = np.array(d.ImageOrientationPatient).reshape(2, 3)
        at = np.array(d.ImagePositionPatient, float)
        at = at + 3 * d.PixelSpacing[0] * column + 7 * d.PixelSpacing[1] * row
        index = volume.grid.to_index(at)
        assert np.allclose(index, np.rint(index), atol=1e-3)
        i = tuple(np.rint(index).astype(int))
        assert volume.values[i] == hu[k, 3, 7]


def test_positions_win_over_every_other_tag(tmp_path: Path, write_series: Any, hu: Array) -> None:
    images = write_series(tmp_path, hu, SpacingBetweenSlices=9, SliceThickness=3)
    for k, d in enumerate(images):
        d.InstanceNumber = [3, 1, 2, 6, 5, 4][k]
        d.SliceLocation = -d.ImagePositionPatient[2]
        d.save_as(d.filename, enforce_file_format=True)
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.volume.values, hu)
    assert scan.volume.grid.spacing_mm[0] == pytest.approx(2.5)
    text = said(tmp_path)
    assert "the header says 9.000 mm between slices" in text
    assert "image numbers do not follow the positions" in text


def test_slices_thinner_than_their_distance_are_told(
    tmp_path: Path, write_series: Any, hu: Array
) -> None:
    write_series(tmp_path, hu, SliceThickness=1)
    assert "slices are 1.00 mm thick but 2.50 mm apart" in said(tmp_path)


def test_rounded_positions_are_even_and_told(tmp_path: Path, write_series: Any) -> None:
    images = write_series(tmp_path, np.zeros((9, 4, 4), np.int16) - 10, step=(0, 0, 0.625))
    for d in images:
        d.ImagePositionPatient[2] = round(float(d.ImagePositionPatient[2]), 1)
        d.save_as(d.filename, enforce_file_format=True)
    assert read_scan(tmp_path).volume.grid.spacing_mm[0] == pytest.approx(0.625, abs=0.01)
    assert "slice positions vary by up to" in said(tmp_path)


def test_copies_are_taken_once(tmp_path: Path, write_series: Any, hu: Array) -> None:
    images = write_series(tmp_path, hu)
    images[2].save_as(tmp_path / "copy.dcm", enforce_file_format=True)
    assert np.array_equal(read_scan(tmp_path).volume.values, hu)
    assert "1 slices were there twice" in said(tmp_path)


def test_empty_identifiers_do_not_stop_a_stack(
    tmp_path: Path, write_series: Any, hu: Array
) -> None:
    write_series(tmp_path, hu, SOPInstanceUID="", SeriesInstanceUID="", PatientID="")
    scan = read_scan(tmp_path)
    assert scan.series_uid == ""
    assert "no identifiers" in said(tmp_path)


# --- the tilted gantry --------------------------------------------------------------------------


def test_a_tilted_stack_is_squared_to_a_tenth_of_a_millimetre(
    tmp_path: Path, write_series: Any
) -> None:
    """Blobs at known places, imaged by a gantry tilted 20 degrees while the table moves along z."""
    orientation, _ = turned(-20)
    row, column = np.array(orientation).reshape(2, 3)
    first, step = np.array([-40.0, -35.0, 60.0]), np.array([0.0, 0, 2.0])
    k, r, c = np.meshgrid(np.arange(40), np.arange(100), np.arange(110), indexing="ij")
    world = first + k[..., None] * step + (0.8 * r[..., None]) * column + (0.7 * c[..., None]) * row
    rng = np.random.default_rng(5)
    middle = first + 20 * step + 40 * column + 38 * row
    blobs = middle + np.array([[a, b, d] for a in (-16, 16) for b in (-14, 14) for d in (-16, 16)])
    blobs = blobs + rng.uniform(-1, 1, blobs.shape)
    field = np.zeros(k.shape)
    for blob in blobs:
        field += 1000 * np.exp(-np.sum((world - blob) ** 2, axis=-1) / (2 * 2.5**2))
    hu = np.rint(field - 1000).astype(np.int16)
    write_series(
        tmp_path,
        hu,
        first=first,
        step=step,
        ImageOrientationPatient=orientation,
        GantryDetectorTilt=-20,
        SpacingBetweenSlices=2.0,
    )

    volume = read_scan(tmp_path).volume
    assert volume.grid.is_orthogonal
    assert volume.grid.spacing_mm[0] == pytest.approx(2 * np.cos(np.radians(20)), abs=1e-6)
    weight = volume.values.astype(float) + 1000
    points = volume.grid.to_world(np.argwhere(weight > 5))
    mass = weight[weight > 5]
    errors = []
    for blob in blobs:
        near = np.linalg.norm(points - blob, axis=1) < 9
        found = np.average(points[near], axis=0, weights=mass[near])
        errors.append(np.linalg.norm(found - blob))
    assert max(errors) < 0.1, errors
    text = said(tmp_path)
    assert "tilted by 20.0 degrees" in text
    assert "the header says 2.000 mm between slices, but their positions are 1.879" in text


def test_squaring_loses_no_voxel_and_adds_only_air(tmp_path: Path, write_series: Any) -> None:
    orientation, _ = turned(15)
    hu = np.full((5, 20, 8), 300, np.int16)
    write_series(tmp_path, hu, ImageOrientationPatient=orientation, step=(0, 0, 10))
    values = read_scan(tmp_path).volume.values
    shift = 4 * 10 * np.sin(np.radians(15)) / 0.8
    assert values.shape == (5, 20 + int(np.ceil(shift)), 8)
    assert np.all(values == 300, axis=2).sum(axis=1).min() >= 19  # 20 rows less one edge
    assert set(np.unique(values)) <= set(range(-1000, 301))
    assert values[0].max() == values[-1].max() == 300


# --- what is refused ----------------------------------------------------------------------------


def test_a_missing_slice(tmp_path: Path, write_series: Any, hu: Array) -> None:
    images = write_series(tmp_path, hu)
    Path(images[3].filename).unlink()
    text = refusal(tmp_path)
    assert "1 slice is missing between" in text
    assert "(image 3)" in text
    assert "(image 5)" in text


def test_uneven_spacing(tmp_path: Path, write_series: Any, hu: Array) -> None:
    images = write_series(tmp_path, hu)
    for k in (4, 5):
        images[k].ImagePositionPatient[2] += 1.0
        images[k].save_as(images[k].filename, enforce_file_format=True)
    text = refusal(tmp_path)
    assert "not evenly spaced: 3.50 mm between" in text
    assert "(image 4)" in text


def test_two_images_at_one_position(tmp_path: Path, write_series: Any, hu: Array) -> None:
    images = write_series(tmp_path, hu)
    images[2].PixelData = images[3].PixelData
    images[2].save_as(tmp_path / "other.dcm", enforce_file_format=True)
    assert "lie at one position but differ" in refusal(tmp_path)


def test_a_slice_pushed_sideways(tmp_path: Path, write_series: Any, hu: Array) -> None:
    images = write_series(tmp_path, hu)
    images[2].ImagePositionPatient[0] += 1.5
    images[2].save_as(images[2].filename, enforce_file_format=True)
    text = refusal(tmp_path)
    assert "off the line of the other slices" in text
    assert "(image 3)" in text


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"RescaleIntercept": None}, "has no readable RescaleIntercept"),
        ({"RescaleSlope": None}, "has no readable RescaleSlope"),
        ({"ImageOrientationPatient": None}, "has no readable ImageOrientationPatient"),
        ({"ImagePositionPatient": None}, "has no readable ImagePositionPatient"),
        ({"PixelSpacing": None}, "has no readable PixelSpacing"),
        ({"PixelData": None}, "has no pixels"),
        ({"RescaleSlope": 0}, "zero or negative"),
        ({"PixelSpacing": [0, 0.7]}, "zero or negative"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "two directions at right angles"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "two directions at right angles"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"RescaleType": "MGML"}, "MGML, not in Hounsfield"),
        ({"Modality": "MR"}, "not a CT image"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "picture of a screen"),
        ({"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]}, "perfusion map"),
    ],
)
def test_what_lacks_something_or_is_something_else(
    tmp_path: Path, write_series: Any, hu: Array, tags: dict[str, Any], reason: str
) -> None:
    write_series(tmp_path, hu, **tags)
    assert reason in refusal(tmp_path)


def test_one_slice_is_no_volume(tmp_path: Path, write_series: Any, hu: Array) -> None:
    write_series(tmp_path, hu[:1])
    assert "only one slice" in refusal(tmp_path)


def test_a_cut_off_slice(tmp_path: Path, write_series: Any, hu: Array) -> None:
    images = write_series(tmp_path, hu)
    path = Path(images[4].filename)
    path.write_bytes(path.read_bytes()[:-50])
    text = refusal(tmp_path)
    assert path.name in text
    assert "cut off: it holds 190 of 240 bytes" in text


# --- mixtures -----------------------------------------------------------------------------------


def test_any_mix_is_told_apart(tmp_path: Path, write_series: Any, hu: Array) -> None:
    write_series(tmp_path / "a", hu, SeriesDescription="bone")
    write_series(tmp_path / "b", hu + 1, SeriesDescription="soft", ConvolutionKernel="B30")
    write_series(tmp_path / "c", hu[:1], SeriesDescription="scout", ImageType=["LOCALIZER"])
    write_series(
        tmp_path / "d", hu[:1], SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SeriesDescription="dose"
    )
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "more.zip").write_bytes(b"PK")
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\x08\x00\x05\x00CS")
    found = inspect(tmp_path)
    kinds = {row.name: (row.what, row.usable) for row in found.rows}
    assert kinds["bone"] == ("CT", True)
    assert kinds["soft"] == ("CT", True)
    assert kinds["scout"] == ("localizer", False)
    assert kinds["dose"] == ("screen capture", False)
    assert kinds["more.zip"] == ("zip archive", False)
    assert kinds["broken.dcm"] == ("damaged file", False)
    assert found.passed_over == ("more.zip", "readme.txt")
    with pytest.raises(InputError, match="2 CT series; choose one"):
        read_scan(tmp_path)
    assert np.array_equal(read_scan(tmp_path, series="soft").volume.values, hu + 1)
    uid = next(r.series_uid for r in found.rows if r.name == "bone")
    assert np.array_equal(read_scan(tmp_path, series=uid[-8:]).volume.values, hu)
    number = 1 + [r.name for r in found.rows].index("soft")
    assert read_scan(tmp_path, series=str(number)).kernel == "B30"
    with pytest.raises(InputError, match="answers to 'lung'"):
        read_scan(tmp_path, series="lung")


def test_a_reformat_inside_the_series_is_left_out_and_told(
    tmp_path: Path, write_series: Any, hu: Array
) -> None:
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    uids["FrameOfReferenceUID"] = generate_uid()
    write_series(tmp_path, hu, **uids)
    write_series(tmp_path, hu[:1], prefix="X", ImageOrientationPatient=[1, 0, 0, 0, 0, -1], **uids)
    assert np.array_equal(read_scan(tmp_path).volume.values, hu)
    assert "1 images of the same series have another orientation" in said(tmp_path)


def test_two_acquisitions_in_one_series_become_two_volumes(
    tmp_path: Path, write_series: Any, hu: Array
) -> None:
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    uids["FrameOfReferenceUID"] = generate_uid()
    write_series(tmp_path, hu, AcquisitionNumber=1, **uids)
    write_series(tmp_path, hu + 5, prefix="X", AcquisitionNumber=2, **uids)
    found = catalogue(tmp_path).series
    assert [len(s.images) for s in found if not s.refusal] == [6, 6]
    second = read_scan(tmp_path, series="2").volume.values
    assert np.array_equal(second, hu + 5)


# --- fuzz ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, write_series: Any) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_series(folder, np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5) - 500)
    return folder


def _survives(folder: Path) -> None:
    inspect(folder)
    try:
        read_scan(folder)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - any other error fails the test


LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")


def _elements(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes, bytes]]]:
    """Preamble with file meta, and (tag, kind, value) of the rest of an explicit file."""
    at = 144 + int.from_bytes(data[140:144], "little")
    head, found = data[:at], []
    while at < len(data):
        tag, kind = data[at : at + 4], data[at + 4 : at + 6]
        long = kind in LONG
        start = at + (12 if long else 8)
        size = int.from_bytes(data[at + 8 : start] if long else data[at + 6 : start], "little")
        found.append((tag, kind, data[start : start + size]))
        at = start + size
    return head, found


def _joined(head: bytes, elements: list[tuple[bytes, bytes, bytes]]) -> bytes:
    for tag, kind, value in elements:
        long = kind in LONG
        size = len(value).to_bytes(4 if long else 2, "little")
        head += tag + kind + (b"\0\0" if long else b"") + size + value
    return head


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_fuzzed_header_ends_in_a_sentence(small: Path, data: st.DataObject) -> None:
    """Some elements of one image deleted, or given a value that means nothing or something else."""
    name = data.draw(st.sampled_from(sorted(p.name for p in small.iterdir())))
    junk = st.one_of(
        st.binary(max_size=12),
        st.sampled_from([b"", b"0", b"-1", b"1e30", b"nan", b"inf\\inf\\inf", b"2147483648"]),
        st.sampled_from([b"1\\2", b"0\\0", b"1\\0\\0\\0\\0\\1", b"\xff\xff", b"\0\0", b"1.2.3"]),
    ).map(lambda b: b + b" " * (len(b) % 2))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "s"
        shutil.copytree(small, folder)
        head, elements = _elements((folder / name).read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            k = data.draw(st.integers(0, len(elements) - 1))
            if data.draw(st.booleans()):
                del elements[k]
            else:
                elements[k] = (*elements[k][:2], data.draw(junk))
        (folder / name).write_bytes(_joined(head, elements))
        _survives(folder)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_bytes_end_in_a_sentence(small: Path, data: st.DataObject) -> None:
    """One image truncated anywhere, or some of its bytes overwritten."""
    name = data.draw(st.sampled_from(sorted(p.name for p in small.iterdir())))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "s"
        shutil.copytree(small, folder)
        raw = bytearray((folder / name).read_bytes())
        if data.draw(st.booleans()):
            raw = raw[: data.draw(st.integers(0, len(raw)))]
        else:
            for _ in range(data.draw(st.integers(1, 6))):
                raw[data.draw(st.integers(128, len(raw) - 1))] = data.draw(st.integers(0, 255))
        (folder / name).write_bytes(bytes(raw))
        _survives(folder)
