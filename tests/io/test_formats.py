from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from trocar.errors import InputError
from trocar.io.formats import read_volume, write_labels, write_mask, write_volume
from trocar.io.square import square_grid
from trocar.io.volumes import inspect, read_labels, read_mask, read_scan
from trocar.model.space import Grid, Labels, Mask, Volume

Array = np.ndarray[Any, Any]
ENDINGS = [".nii", ".nii.gz", ".nrrd", ".mha"]


def oblique(shape: tuple[int, int, int] = (4, 5, 6), seed: int = 3) -> Grid:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    turn = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    affine[:3, :3] = turn * np.array([2.5, 0.8, 0.7])
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return Grid(shape=shape, affine=affine)


def ct(grid: Grid, seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    return Volume(grid=grid, values=rng.integers(-1000, 1500, grid.shape).astype(np.int16))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1000), ending=st.sampled_from(ENDINGS))
def test_what_is_written_is_read(seed: int, ending: str) -> None:
    """Any orientation, mirrored ones as well: voxels equal, world places within a micrometre."""
    grid = oblique(seed=seed)
    if seed % 2:
        affine = grid.affine.copy()
        affine[:3, 2] *= -1
        grid = Grid(shape=grid.shape, affine=affine)
    volume = ct(grid)
    with tempfile.TemporaryDirectory() as name:
        path = write_volume(Path(name) / f"v{ending}", volume)
        assert [p.name for p in Path(name).iterdir()] == [f"v{ending}"]
        found = read_scan(path).volume
    assert found.values.dtype == np.int16
    assert np.array_equal(found.values, volume.values)
    last = np.asarray(grid.shape) - 1
    assert np.allclose(found.grid.to_world(last), grid.to_world(last), atol=2e-3 / 2)
    assert np.allclose(found.grid.affine, grid.affine, atol=1e-4)


@pytest.mark.parametrize("ending", ENDINGS)
def test_another_reader_sees_the_same_world(tmp_path: Path, ending: str) -> None:
    volume = ct(oblique())
    image = sitk.ReadImage(str(write_volume(tmp_path / f"v{ending}", volume)))
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.values)
    point = image.TransformIndexToPhysicalPoint((5, 4, 3))
    assert np.allclose(point, volume.grid.to_world([3, 4, 5]), atol=1e-3)


def test_nifti_is_right_anterior_superior_outside(tmp_path: Path) -> None:
    grid = Grid.from_spacing((3, 4, 5), (2, 1, 1), (10, 20, 30))
    path = write_volume(tmp_path / "v.nii.gz", ct(grid))
    assert np.allclose(nibabel.load(path).affine @ [0, 0, 0, 1], [-10, -20, 30, 1])


def _sheared(path: Path, values: Array, shear: float) -> Array:
    affine = np.diag([-0.8, -0.8, 2.0, 1.0])
    affine[1, 2] = 2.0 * np.tan(shear)
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(None, code=0)
    image.set_sform(affine, code=1)
    nibabel.save(image, path)
    return affine


def test_a_sheared_nifti_is_resampled_and_told(tmp_path: Path) -> None:
    """A field linear in the world stays that field wherever the file had voxels."""
    shape, slope = (30, 40, 20), np.array([3.0, -5.0, 7.0])
    index = np.moveaxis(np.indices(shape), 0, -1)
    affine = _sheared(tmp_path / "x.nii", np.zeros(shape, np.int16), np.radians(18))
    ras = index @ affine[:3, :3].T + affine[:3, 3]
    lps = ras * [-1, -1, 1]
    _sheared(tmp_path / "v.nii.gz", (lps @ slope).astype(np.float32), np.radians(18))
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(tmp_path / "v.nii.gz"))
    scan = read_scan(tmp_path / "v.nii.gz")
    assert scan.volume.grid.is_orthogonal
    assert "sheared by 18.0 degrees" in str(scan.findings[0])
    middle = lps[5:25, 8:32, 2:18].reshape(-1, 3)
    assert np.allclose(scan.volume.sample(middle), middle @ slope, atol=0.02)


def test_sheared_labels_keep_their_numbers(tmp_path: Path) -> None:
    values = np.zeros((30, 40, 20), np.uint8)
    values[10:20, 10:30, 5:15] = 7
    _sheared(tmp_path / "v.nii.gz", values, np.radians(18))
    labels = read_labels(tmp_path / "v.nii.gz", names={7: "sacrum"})
    assert set(np.unique(labels.values)) == {0, 7}
    assert labels.mask("sacrum").volume_ml == pytest.approx(2000 * 0.8 * 0.8 * 2 / 1000, rel=0.02)


def test_a_file_without_orientation_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full((3, 3, 3), -5, np.int16), np.eye(4))
    image.set_qform(None, code=0)
    image.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "v.nii")
    with pytest.raises(InputError, match="left and right cannot be told"):
        read_scan(tmp_path / "v.nii")
    text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nendian: little\n\n"
    (tmp_path / "v.nrrd").write_bytes(text.encode() + np.full(8, -7, "<i2").tobytes())
    with pytest.raises(InputError, match="states no space"):
        read_scan(tmp_path / "v.nrrd")


def test_two_orientations_that_disagree_are_told(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full((9, 9, 9), -5, np.int16), np.eye(4))
    image.set_sform(np.diag([-1.0, 1, 1, 1]), code=1)
    image.set_qform(np.eye(4), code=1)
    nibabel.save(image, tmp_path / "v.nii")
    scan = read_scan(tmp_path / "v.nii")
    assert "two orientations (qform and sform) that differ by up to 18.0 mm" in str(
        scan.findings[0]
    )
    assert scan.volume.grid.affine[0, 2] == pytest.approx(1.0)  # -(-1): the sform, in LPS


def test_four_dimensions_are_refused_unless_the_last_is_one(tmp_path: Path) -> None:
    for n, name in ((1, "one.nii"), (3, "three.nii")):
        nibabel.save(
            nibabel.Nifti1Image(np.full((4, 4, 4, n), -5, np.int16), np.eye(4)), tmp_path / name
        )
    assert read_scan(tmp_path / "one.nii").volume.grid.shape == (4, 4, 4)
    with pytest.raises(InputError, match=r"4 dimensions \(4x4x4x3\)"):
        read_scan(tmp_path / "three.nii")
    colours = sitk.GetImageFromArray(np.zeros((3, 3, 3, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "rgb.mha"))
    with pytest.raises(InputError, match="several values per voxel"):
        read_scan(tmp_path / "rgb.mha")


def test_micrometres_are_honoured(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full((4, 4, 4), -5, np.int16), np.diag([500.0, 500, 500, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "v.nii")
    assert read_scan(tmp_path / "v.nii").volume.grid.spacing_mm == pytest.approx((0.5, 0.5, 0.5))


def test_whole_numbers_become_int16_and_others_float32(tmp_path: Path) -> None:
    grid = Grid.from_spacing((2, 2, 2), (1, 1, 1))
    for values, dtype in (
        (np.full(grid.shape, -3.0), np.int16),
        (np.full(grid.shape, -3.5), np.float32),
        (np.full(grid.shape, -3, np.int32), np.int16),
        (np.array([-70000.0, *[5] * 7]).reshape(2, 2, 2), np.float32),
    ):
        path = write_volume(tmp_path / "v.nii.gz", Volume(grid=grid, values=values))
        found = read_scan(path).volume.values
        assert found.dtype == dtype


def test_what_cannot_be_hounsfield_units_is_refused(tmp_path: Path) -> None:
    grid = Grid.from_spacing((2, 2, 2), (1, 1, 1))
    labels = Labels(grid=grid, values=np.full(grid.shape, 3, np.uint8), names={3: "x"})
    write_labels(tmp_path / "l.nii.gz", labels)
    write_volume(tmp_path / "raw.nii.gz", Volume(grid=grid, values=np.full(grid.shape, 1034)))
    with pytest.raises(InputError, match="a label map; give it as labels"):
        read_scan(tmp_path / "l.nii.gz")
    with pytest.raises(InputError, match="no value is below 0"):
        read_scan(tmp_path / "raw.nii.gz")
    rows = {row.name: row for row in inspect(tmp_path).rows}
    assert rows["l.nii.gz"].what == "label map"
    assert not any(row.usable for row in rows.values())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_end_in_a_sentence(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        ending = data.draw(st.sampled_from(ENDINGS))
        path = write_volume(Path(name) / f"v{ending}", ct(oblique()))
        raw = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
        else:
            for _ in range(3):
                raw[data.draw(st.integers(0, min(len(raw), 360) - 1))] ^= data.draw(
                    st.integers(1, 255)
                )
        path.write_bytes(bytes(raw))
        for read in (read_scan, read_mask, read_volume):
            try:
                read(path)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017 - any other error fails the test
        assert len(inspect(path).rows) == 1


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid.from_spacing((2, 2, 2), (1, 1, 1))
    path = write_mask(tmp_path / "m.nii.gz", Mask.empty(grid))
    before = path.read_bytes()

    def stop(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(nibabel, "save", stop)
    with pytest.raises(OSError, match="full"):
        write_mask(path, Mask(grid=grid, values=np.ones(grid.shape, bool)))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.nii.gz"]


def test_unknown_endings_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no known ending"):
        write_volume(tmp_path / "v.jpg", ct(oblique()))


def test_a_lattice_sheared_beyond_belief_is_refused() -> None:
    affine = np.eye(4)
    affine[:3, 0] = [1.0, 4000.0, 0.0]
    grid = Grid(shape=(8, 4, 4), affine=affine)
    with pytest.raises(InputError, match="so far from square"):
        square_grid(grid)
