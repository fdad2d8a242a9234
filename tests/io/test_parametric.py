"""Temperatures and doses written as DICOM Parametric Maps and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from trocar.errors import InputError
from trocar.io.parametric import write_parametric_map
from trocar.io.volumes import read_scan
from trocar.model.space import Grid, Volume


@pytest.fixture
def source(tmp_path: Path, write_series: Any) -> Any:
    write_series(tmp_path / "ct", np.full((6, 12, 10), -50, np.int16))
    return read_scan(tmp_path / "ct")


def test_a_map_comes_back_as_it_was(tmp_path: Path, source: Any) -> None:
    frame = source.volume.grid.frame
    grid = Grid.from_spacing((4, 5, 6), (1.0, 1.0, 1.0), (-3.0, 7.5, 20.0), frame)
    values = np.random.default_rng(0).uniform(30, 90, grid.shape).astype(np.float32)
    values[1, 2, 3] = np.nan
    path = tmp_path / "t.dcm"
    volume = Volume(grid=grid, values=values, unit="degC")
    write_parametric_map(path, volume, source.source, label="temperature", description="Highest")
    d = dcmread(path)
    assert d.SOPClassUID.name == "Parametric Map Storage"
    assert d.FrameOfReferenceUID == frame
    assert "Research use only" in d.ContentDescription
    assert d.StudyInstanceUID == dcmread(source.source[0]).StudyInstanceUID
    unit = d.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert unit.MeasurementUnitsCodeSequence[0].CodeValue == "Cel"
    assert (unit.RealWorldValueSlope, unit.RealWorldValueIntercept) == (1.0, 0.0)
    frames = np.frombuffer(d.FloatPixelData, "<f4").reshape(-1, d.Rows, d.Columns)
    # Frame by frame: where it says it lies, and what it holds.
    for k, groups in enumerate(d.PerFrameFunctionalGroupsSequence):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        at = np.rint(grid.to_index(origin)).astype(int)
        shared = d.SharedFunctionalGroupsSequence[0]
        way = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
        assert way == pytest.approx([1, 0, 0, 0, 1, 0])
        assert frames[k] == pytest.approx(np.nan_to_num(values[at[0]], nan=-1.0))
        assert (at[1], at[2]) == (0, 0)
    assert len(frames) == grid.shape[0]


def test_other_units_and_bare_headers_are_refused(tmp_path: Path, source: Any) -> None:
    grid = Grid.from_spacing((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    furlongs = Volume(grid=grid, values=np.ones(grid.shape), unit="furlong")
    with pytest.raises(InputError, match="expected one of degC, min, s, 1"):
        write_parametric_map(
            tmp_path / "t.dcm", furlongs, source.source, label="x", description="x"
        )
    assert not (tmp_path / "t.dcm").exists()
