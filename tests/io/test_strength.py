"""A strength written as JSON, NIfTI and Parametric Map says what it said before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from trocar.io.formats import read_volume
from trocar.io.strength import write_strength
from trocar.io.volumes import read_scan
from trocar.model.case import Finding, Gravity, Site
from trocar.model.result import Scan
from trocar.model.space import Grid, Mask, Volume
from trocar.model.strength import Bearing, Spread, Strength


def turned(frame: str = "") -> Grid:
    """Voxels that lie oblique to every axis of the patient."""
    a, b = np.radians(20.0), np.radians(-12.0)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (about_z @ about_x)[:, [2, 1, 0]] * 1.5  # slices up, rows back, columns left
    affine[:3, 3] = [-4.0, 3.5, 101.25]
    return Grid(shape=(4, 5, 6), affine=affine, frame=frame)


def strength(grid: Grid) -> Strength:
    values = np.random.default_rng(1).uniform(0, 1.5, grid.shape).astype(np.float32)

    def bearing(state: Any, share: float) -> Bearing:
        return Bearing(
            state=state,
            load="lumbar_compression",
            label="upright standing",
            load_n=Spread(low=800.0, mean=1000.0, high=1200.0),
            stiffness_n_mm=Spread(low=1e4, mean=2e4, high=3e4),
            failure_n={
                "effective strain": Spread(low=1e3 * share, mean=4e3 * share, high=6e3 * share),
                "yield strain": Spread(low=2e3, mean=3e3, high=5e3),
            },
            ratio=Spread(low=0.2, mean=0.25 / share, high=1.2),
            of_intact=Spread(low=share, mean=share, high=share),
            stiffness_of_intact=None,
            weakest_mm=np.array([1.0, 2.0, 3.0]),
            weakest_in="beside the lesion",
        )

    return Strength(
        lesion_id="1",
        site=Site.parse("L1"),
        bearings=(bearing("intact", 1.0), bearing("now", 0.75)),
        used={s: Volume(grid=grid, values=values, unit="1") for s in ("intact", "now")},
        modulus_mpa={
            s: Volume(grid=grid, values=300 * values, unit="MPa") for s in ("intact", "now")
        },
        bone=Mask(grid=grid, values=values > 0.5),
        law="a law",
        calibration="none",
        voxel_mm=1.5,
        constants={"density_slope": 0.0008},
        unknown=("density of this scanner",),
        findings=(
            Finding(gravity=Gravity.CAUTION, message="{n:.0f} newtons", values={"n": 4000.0}),
        ),
    )


def test_numbers_and_voxels_come_back_as_they_were(tmp_path: Path) -> None:
    grid = turned()
    made = strength(grid)
    ct = Volume(grid=grid, values=np.zeros(grid.shape))
    files = write_strength(tmp_path, scan=Scan(volume=ct, name="ct", sha256="00"), strength=made)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in files.values()}
    told = json.loads(files["strength"].read_text())
    assert told["format"] == "trocar strength 1"
    assert told["scan"] == {"name": "ct", "sha256": "00"}
    assert told["states"] == ["intact", "now"]
    assert told["loads"] == {"lumbar_compression": "upright standing"}
    assert told["criteria"] == ["effective strain", "yield strain"]
    one = told["bearings"][1]
    assert one["criterion"] == "effective strain"
    assert one["failure_n"]["effective strain"] == {"low": 750.0, "mean": 3000.0, "high": 4500.0}
    assert one["ratio"]["mean"] == pytest.approx(1 / 3)
    assert one["stiffness_of_intact"] is None
    assert (one["weakest_mm"], one["weakest_in"]) == ([1.0, 2.0, 3.0], "beside the lesion")
    assert told["bone"]["voxels"] == made.bone.voxels
    assert told["unknown"] == ["density of this scanner"]
    assert told["findings"][0]["text"] == "4000 newtons"
    assert "did not come as DICOM" in told["not_written"]["strain.dcm"]
    for name, volume in (("strain now", made.used["now"]), ("modulus", made.modulus_mpa["now"])):
        back = read_volume(files[name])[0]
        assert back.grid.affine == pytest.approx(grid.affine, abs=1e-5)
        assert np.array_equal(back.values, volume.values)


def test_a_dicom_scan_gets_an_oblique_map(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "ct", np.full((6, 12, 10), -50, np.int16))
    scan = read_scan(tmp_path / "ct")
    grid = turned(scan.volume.grid.frame)
    made = strength(grid)
    files = write_strength(tmp_path / "out", scan=scan, strength=made)
    assert json.loads(files["strength"].read_text())["not_written"] == {}
    d = dcmread(files["strain map"])
    assert d.FrameOfReferenceUID == scan.volume.grid.frame
    shared = d.SharedFunctionalGroupsSequence[0]
    unit = shared.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodeMeaning) == ("1", "no units")
    way = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    along = way[:3] * spacing[1], way[3:] * spacing[0]  # one column on, one row on
    frames = np.frombuffer(d.FloatPixelData, "<f4").reshape(-1, d.Rows, d.Columns)
    # Each value of the map lies at the LPS point where the strength has it.
    seen = 0
    for frame, groups in zip(frames, d.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in ((0, 0), (2, 1), (d.Rows - 1, d.Columns - 1)):
            at = grid.to_index(origin + column * along[0] + row * along[1])
            k, i, j = (int(v) for v in np.rint(at))
            assert at == pytest.approx([k, i, j], abs=1e-3)
            assert frame[row, column] == made.used["now"].values[k, i, j]
            seen += 1
    assert seen == 3 * grid.shape[0]
