"""What the page carries for the interactive viewer: geometry first."""

from __future__ import annotations

import base64
import gzip

import nibabel
import numpy as np
import pytest

from trocar.model.space import Grid, Volume
from trocar.report import viewer


def _unpacked(text: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_a_nifti_puts_every_voxel_where_the_grid_says() -> None:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.5, 0.7, 0.9]
    affine[:3, 3] = [12.0, -40.0, 7.0]
    grid = Grid(shape=(4, 5, 6), affine=affine)
    values = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    image = nibabel.Nifti1Image.from_bytes(viewer.nifti(grid, values))
    for index in ((0, 0, 0), (3, 1, 5), (2, 4, 0)):
        there = image.affine @ [*index[::-1], 1.0]
        np.testing.assert_allclose(there[:3] * [-1, -1, 1], grid.to_world(index), atol=1e-4)
        assert image.get_fdata()[index[::-1]] == values[index]


def test_a_large_ct_is_averaged_without_moving_anything() -> None:
    grid = Grid.from_spacing((60, 300, 300), (2.0, 0.5, 0.5), (5.0, 6.0, 7.0))
    points = np.indices(grid.shape)
    values = (points[1] * 8.0).astype(np.float32)  # linear: the mean is the centre
    small = viewer.reduced(Volume(grid=grid, values=values))
    assert small.values.size <= viewer._VOXELS
    assert small.values.dtype == np.int16
    place = small.grid.to_world([10, 20, 30])
    before = Volume(grid=grid, values=values).sample(place)
    assert abs(float(small.values[10, 20, 30]) - float(before)) <= viewer._HU_STEP / 2


def test_voxels_are_joined_towards_cubes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "_VOXELS", 10_000)
    grid = Grid.from_spacing((30, 60, 60), (2.0, 1.0, 1.0))
    small = viewer.reduced(Volume(grid=grid, values=np.zeros(grid.shape)))
    assert small.values.size <= 10_000
    assert max(small.grid.spacing_mm) <= 1.6 * min(small.grid.spacing_mm)


def test_the_needle_model_is_as_long_and_thick_as_the_needle(sheet) -> None:
    option = sheet.plan.options[0]
    content = viewer.needle_stl(option)
    count = int(np.frombuffer(content[80:84], "<u4")[0])
    faces = np.frombuffer(content[84:], [("n", "<f4", 3), ("p", "<f4", (3, 3)), ("x", "<u2")])
    assert len(faces) == count
    lps = faces["p"].reshape(-1, 3) * [-1, -1, 1]
    along = (lps - option.target_mm) @ -option.path.direction
    aside = np.linalg.norm(lps - option.target_mm - along[:, None] * -option.path.direction, axis=1)
    assert along.min() == pytest.approx(0, abs=1e-3)
    assert along.max() == pytest.approx(option.needle.length_mm, abs=1e-3)
    assert aside.max() == pytest.approx(option.needle.radius_mm, abs=1e-3)


def test_labels_and_ct_share_one_grid_and_the_lesion_is_named(sheet, monkeypatch) -> None:
    monkeypatch.setattr(viewer, "assets", lambda: {"program": b"//", "licences": b"BSD"})
    carried = viewer.embed(sheet.scan, sheet.anatomy, sheet.plan)
    ct, labels = _unpacked(carried.ct), _unpacked(carried.labels)
    np.testing.assert_allclose(ct.affine, labels.affine)
    numbers = {r.structure: r.number for r in carried.regions}
    centre = sheet.plan.lesion.centre_mm * [-1, -1, 1]
    index = np.rint(np.linalg.inv(labels.affine) @ [*centre, 1.0]).astype(int)[:3]
    assert labels.get_fdata()[tuple(index)] == numbers["lesion"]
    assert len(carried.needles) == len(sheet.plan.options)


def test_without_assets_nothing_is_embedded(sheet, monkeypatch) -> None:
    monkeypatch.setattr(viewer, "assets", lambda: None)
    assert viewer.embed(sheet.scan, sheet.anatomy, sheet.plan) is None
