from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.io.volumes import read_labels, read_mask, write_labels, write_mask, write_volume
from trocar.model.space import Grid, Labels, Mask, Volume

GRID = Grid.from_spacing((12, 4, 4), (2.0, 1.0, 1.0))
Array = np.ndarray[Any, Any]


def stacked(*numbers: int) -> Array:
    """Labels one above the other, the first lowest."""
    values = np.zeros(GRID.shape, np.uint8)
    for k, number in enumerate(numbers):
        values[2 * k : 2 * k + 2] = number
    return values


def save(path: Path, values: Array) -> Path:
    return write_volume(path, Volume(grid=GRID, values=values, unit=""))


def test_verse_counts_down_and_totalsegmentator_up(tmp_path: Path) -> None:
    verse = read_labels(save(tmp_path / "v.nii.gz", stacked(22, 21, 20)))
    assert verse.present == ("vertebrae_L1", "vertebrae_L2", "vertebrae_L3")
    total = read_labels(save(tmp_path / "t.nii.gz", stacked(25, 26, 27, 31)))
    assert total.present == ("sacrum", "vertebrae_S1", "vertebrae_L5", "vertebrae_L1")
    odd = read_labels(save(tmp_path / "o.nii.gz", stacked(20, 28, 19)))
    assert odd.present == ("vertebrae_T12", "vertebrae_L1", "vertebrae_T13")


@pytest.mark.parametrize("numbers", [(41, 50, 42), (1,), (22, 20, 21), (1, 2, 3), (200, 201)])
def test_numbers_that_follow_neither_are_refused(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="without names"):
        read_labels(save(tmp_path / "v.nii.gz", stacked(*numbers)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v.csv", "id,structure\n41,arch\n50,corpus\n"),
        ("v.csv", "group,original_idx,structure,id\nx,1,arch,41\nx,2,corpus,50\n"),
        ("v.json", '{"41": "arch", "50": "corpus"}'),
        ("v.json", '{"arch": 41, "corpus": 50}'),
        ("v.json", '{"labels": {"background": 0, "arch": 41, "corpus": 50}}'),
        ("v.json", '{"labels": [{"id": 41, "name": "arch"}, {"id": 50, "name": "corpus"}]}'),
        ("v.csv", "value;x,name\n"),
    ],
)
def test_names_beside_the_file(tmp_path: Path, name: str, text: str) -> None:
    path = save(tmp_path / "v.nii.gz", stacked(41, 50))
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    if "value;x" in text:
        with pytest.raises(InputError, match=r"v\.csv does not name labels"):
            read_labels(path)
        return
    assert read_labels(path).present == ("arch", "corpus")
    assert read_mask(path, name="corpus").voxels == 32


def test_a_table_of_another_map_is_not_taken(tmp_path: Path) -> None:
    """Set 01 has a TotalSegmentator table beside maps with VerSe numbers."""
    table = "id,structure\n22,prostate\n21,urinary_bladder\n"
    for name in ("labels_total.csv", "labels.csv", "structures.csv"):
        (tmp_path / name).write_text(table)
    path = save(tmp_path / "bodies.nii.gz", stacked(22, 21))
    assert read_labels(path).present == ("vertebrae_L2", "vertebrae_L3")
    assert "prostate" in read_labels(save(tmp_path / "labels.nii.gz", stacked(22, 21))).present


def test_names_given_by_hand_win(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", stacked(22, 21))
    assert read_labels(path, names={22: "a", 21: "b"}).present == ("b", "a")
    (tmp_path / "n.json").write_text(json.dumps({"21": "x", "22": "y"}))
    assert read_labels(path, names=tmp_path / "n.json").present == ("x", "y")


def test_a_written_map_brings_its_names(tmp_path: Path) -> None:
    labels = Labels(grid=GRID, values=stacked(3, 9), names={3: "tumour", 9: "nerve"})
    found = read_labels(write_labels(tmp_path / "x.nrrd", labels))
    assert found.names == labels.names
    assert np.array_equal(found.values, labels.values)


def test_a_folder_with_one_mask_per_class(tmp_path: Path) -> None:
    for name, number in (("vertebrae_L1", 5), ("aorta", 6)):
        write_mask(tmp_path / f"{name}.nii.gz", Mask(grid=GRID, values=stacked(5, 6) == number))
    labels = read_labels(tmp_path, like=GRID)
    assert labels.present == ("aorta", "vertebrae_L1")
    assert np.array_equal(labels.mask("aorta").values, stacked(5, 6) == 6)


def test_one_mask_of_several_must_be_named(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", stacked(1, 4))
    with pytest.raises(InputError, match=r"2 labels \(1, 4\); say which"):
        read_mask(path)
    assert read_mask(path, name="4").voxels == 32
    with pytest.raises(InputError, match="no label '7'"):
        read_mask(path, name="7")


def test_labels_are_brought_onto_the_ct_or_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", stacked(22, 21))
    fine = Grid.from_spacing((24, 8, 8), (1.0, 0.5, 0.5), (-0.25, -0.25, -0.5))
    labels = read_labels(path, like=fine)
    assert labels.grid is fine
    assert labels.mask("vertebrae_L3").volume_ml == pytest.approx(0.064)
    far = Grid.from_spacing((5, 5, 5), (1, 1, 1), (500, 0, 0))
    with pytest.raises(InputError, match="lies outside the CT: its centre is at"):
        read_labels(path, like=far)
    with pytest.raises(InputError, match="lies outside the CT"):
        read_mask(path, like=far, name="22")


def test_fractions_are_no_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", np.full(GRID.shape, 0.5, np.float32))
    with pytest.raises(InputError, match="a label map holds whole numbers"):
        read_labels(path)
