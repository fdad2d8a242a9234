"""A CT that is kept comes back bit for bit, and only what is looked at is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trocar.errors import InputError
from trocar.io.kept_scan import keep_scan, open_scan
from trocar.model.case import Finding, Gravity
from trocar.model.result import Scan
from trocar.model.space import Grid, Volume

AFFINE = np.array([[0, 0, 0.7, -31.3], [0, 0.7, 0, 12.1], [1.25, 0, 0, 1000.0], [0, 0, 0, 1]])


def scan(values: np.ndarray) -> Scan:
    grid = Grid(shape=values.shape, affine=AFFINE, frame="1.2.3")
    note = Finding(gravity=Gravity.CAUTION, message="{n} slices", values={"n": 3})
    return Scan(
        volume=Volume(grid=grid, values=values), name="Thorax", sha256="ab" * 32, kvp=120.0,
        kernel="B60f", contrast=None, series_uid="1.2.3.4", findings=(note,), source=("a.dcm",),
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    values=arrays.arrays(
        st.sampled_from([np.dtype("<i2"), np.dtype(">i2"), np.dtype("<f4")]),
        st.tuples(*[st.integers(1, 5)] * 3),
    )
)
def test_it_comes_back_as_it_was(
    values: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    given_, place = scan(values), tmp_path_factory.mktemp("kept") / "x.ct"
    back = open_scan(keep_scan(place, given_))
    np.testing.assert_array_equal(back.volume.values, values)
    assert back.volume.grid.matches(given_.volume.grid)
    for name in ("name", "sha256", "kvp", "kernel", "contrast", "series_uid", "findings"):
        assert getattr(back, name) == getattr(given_, name)
    assert back.source == ()  # where the files lay is of no use elsewhere, and may be a name


def test_the_same_ct_makes_the_same_file(tmp_path: Path) -> None:
    one = scan(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    assert (
        keep_scan(tmp_path / "a.ct", one).read_bytes()
        == keep_scan(tmp_path / "b.ct", one).read_bytes()
    )


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.ct cannot be read .* expected a CT"):
        open_scan(tmp_path / "gone.ct")


@pytest.mark.parametrize("cut", [4, 18, 200, -1])
def test_a_damaged_file_is_told(tmp_path: Path, cut: int) -> None:
    place = keep_scan(tmp_path / "x.ct", scan(np.zeros((2, 3, 4), np.int16)))
    place.write_bytes(place.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"x\.ct is"):
        open_scan(place)


def test_no_more_is_read_than_is_looked_at(tmp_path: Path) -> None:
    place = keep_scan(tmp_path / "x.ct", scan(np.zeros((8, 64, 64), np.int16)))
    values = open_scan(place).volume.values
    assert type(values) is np.ndarray
    assert isinstance(values.base, np.memmap)
    values[:] = 1  # private: the file is as it was
    assert not open_scan(place).volume.values.any()
