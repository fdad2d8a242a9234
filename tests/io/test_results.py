"""Results on cement written and read again: JSON, voxels, DICOM SEG and SR."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.facts.cement import cement
from trocar.facts.products import needle
from trocar.io.formats import read_volume
from trocar.io.results import (
    as_scanned,
    read_predicted,
    summary_lines,
    write_assessment,
    write_cement_plan,
)
from trocar.io.segmentation import read_regions
from trocar.io.volumes import read_scan
from trocar.model.case import Finding, Gravity, Site
from trocar.model.plan import CementNeedle, CementPlan
from trocar.model.result import (
    CementLeak,
    Fill,
    Injection,
    InjectionEvent,
    LeakForecast,
    Registration,
    Scan,
)
from trocar.model.space import Grid, Mask, Segment, Volume


def fill_on(
    grid: Grid, origin: Any = "simulated", registration: Registration | None = None
) -> Fill:
    """A box of cement with a leak at each of two sides, one of them unbounded in a distance."""
    share = np.zeros(grid.shape, np.float32)
    share[2:5, 3:8, 3:7] = 0.9
    share[2, 3, 2] = 0.3
    masks = [np.zeros(grid.shape, bool) for _ in range(2)]
    masks[0][3, 8:10, 4] = True
    masks[1][3, 4, 7:9] = True
    share[masks[0] | masks[1]] = 1.0
    leaks = tuple(
        CementLeak(
            compartment=name, kind=kind, volume_ml=ml, low_ml=ml / 2, high_ml=2 * ml,
            reach_mm=reach, mask=Mask(grid=grid, values=m), distances_mm=near,
        )
        for name, kind, ml, reach, m, near in (
            ("epidural or canal", "B", 0.11, 2.5, masks[0], {"spinal_canal": 0.0}),
            ("disc superior", "D", 0.4, 5.0, masks[1], {"aorta": 31.25}),
        )
    )  # fmt: skip
    return Fill(
        lesion_id="1", site=Site.parse("L3"), origin=origin,
        fraction=Volume(grid=grid, values=share, unit="1"), volume_ml=4.5, low_ml=4.1, high_ml=4.9,
        in_bone_ml=3.99, in_lesion_ml=None, lesion_fill=None, bone_fill=0.21, leaks=leaks,
        crosses_midline=True, touches_end_plates=("superior",), unknown=("spinal_cord",),
        findings=(Finding(gravity=Gravity.STOP, message="Cement lies in {where}.",
                          values={"where": "the canal"}),),
        registration=registration,
    )  # fmt: skip


GRID = Grid.from_spacing((9, 12, 10), (2.5, 0.8, 0.7), (-30.0, -40.0, 100.0), frame="1.2.3")


def injection_of(fill: Fill) -> Injection:
    steps = np.linspace(0, 1, 5)
    order = np.where(fill.fraction.values > 0.5, 2.0, np.nan)
    return Injection(
        lesion_id="1", site=fill.site, cement="medium viscosity", fill=fill,
        order_ml=Volume(grid=fill.fraction.grid, values=order, unit="ml"),
        age_s=200 + 100 * steps, injected_ml=4.5 * steps, rate_ml_s=np.full(5, 0.05),
        tip_pa=1e4 * steps, syringe_pa=1e6 * steps, in_bone_ml=4.0 * steps, in_lesion_ml=steps,
        leaked_ml={"disc superior": 0.4 * steps},
        events=(InjectionEvent(state="injecting", age_s=200.0, injected_ml=0.0, needle=0),),
        stopped_by="planned volume",
    )  # fmt: skip


def plan_of(fill: Fill) -> CementPlan:
    return CementPlan(
        lesion_id="1", site=fill.site, cement=cement("medium"), room_c=21.0,
        needles=(CementNeedle(needle=needle(11, 125.0), volume_ml=4.5,
                              path=Segment(start_mm=np.zeros(3), end_mm=np.array([0, 0, 80.0]))),),
        rate_ml_s=0.05, start_s=135.0, latest_s=459.0, pressure_limit_pa=5e6, low_ml=3.0,
        high_ml=6.0,
    )  # fmt: skip


def forecast_of(fill: Fill) -> LeakForecast:
    return LeakForecast(
        lesion_id="1", site=fill.site, runs=4, seed=7, volume_ml=6.0, least_ml=0.1,
        onset_ml={"disc superior": np.array([2.0, np.inf, 3.0, 5.0])}, ended_ml=np.full(4, 6.0),
        reached=fill.fraction, alarms=("epidural or canal",), drawn={"permeability": np.ones(4)},
    )  # fmt: skip


def test_a_cement_plan_says_everything_and_comes_back(tmp_path: Path) -> None:
    fill = fill_on(GRID)
    files = write_cement_plan(
        tmp_path / "c", plan=plan_of(fill), injection=injection_of(fill), forecast=forecast_of(fill)
    )
    told = json.loads(files["cement"].read_text(encoding="utf-8"))
    assert told["target_ml"] == 4.5
    assert told["plan"]["needles"][0]["needle"]["gauge"] == 11
    assert told["injection"]["events"][0]["state"] == "injecting"
    assert told["forecast"]["onset_ml"]["disc superior"] == [2.0, None, 3.0, 5.0]
    curve = told["safe_ml"]
    at = curve["injected_ml"].index(3.0)
    assert curve["disc superior"][at] == 0.5
    assert curve["canal, foramen or joint"][-1] == 0.0
    order = read_volume(files["order"])[0].values
    np.testing.assert_array_equal(order == -1, fill.fraction.values <= 0.5)

    back = read_predicted(tmp_path / "c")
    np.testing.assert_array_equal(back.fraction.values, fill.fraction.values)
    np.testing.assert_allclose(back.fraction.grid.affine, GRID.affine, atol=1e-5)
    assert back.fraction.grid.frame == GRID.frame
    for name in ("volume_ml", "in_bone_ml", "in_lesion_ml", "bone_fill", "unknown", "site",
                 "touches_end_plates", "lesion_id", "crosses_midline"):  # fmt: skip
        assert getattr(back, name) == getattr(fill, name), name
    for mine, theirs in zip(back.leaks, fill.leaks, strict=True):
        np.testing.assert_array_equal(mine.mask.values, theirs.mask.values)
        for name in ("compartment", "kind", "volume_ml", "reach_mm", "distances_mm"):
            assert getattr(mine, name) == getattr(theirs, name), name


def test_a_folder_without_a_cement_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no cement plan \(cement.json is missing\)"):
        read_predicted(tmp_path)
    (tmp_path / "cement.json").write_text('{"format": "trocar cement 99"}')
    with pytest.raises(InputError, match="make the cement plan again"):
        read_predicted(tmp_path)
    (tmp_path / "cement.json").write_text('{"format": "trocar cement 1"}')
    with pytest.raises(InputError, match="cannot be read as a cement plan"):
        read_predicted(tmp_path)


def moved() -> Registration:
    a = np.radians(4.0)
    transform = np.eye(4)
    transform[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    transform[:3, 3] = [3.0, -2.0, 5.0]
    return Registration(
        transform=transform, error_mm=0.2, correlation=0.9, overlap=1.0, shift_mm=6.2, turn_deg=4.0
    )


def measured(post: Scan) -> Fill:
    """A fill on a crop of the CT's voxels, laid into the planning space as an assessment does."""
    there = post.volume.grid.crop((slice(1, 9), slice(1, 12), slice(0, 10)))
    registration = moved()
    back = np.linalg.inv(registration.transform) @ there.affine
    return fill_on(Grid(shape=there.shape, affine=back, frame="planning"), "measured", registration)


@pytest.fixture
def post(tmp_path: Path, write_series: Callable[..., Any]) -> Scan:
    hu = np.full((10, 14, 12), 40, np.int16)
    write_series(tmp_path / "ct", hu, StudyID="1", AccessionNumber="")
    return read_scan(tmp_path / "ct")


def test_an_assessment_lies_where_the_patient_was_scanned(tmp_path: Path, post: Scan) -> None:
    fill = measured(post)
    files = write_assessment(tmp_path / "r", post=post, fill=fill)
    grid = as_scanned(fill, post.volume.grid)
    np.testing.assert_array_equal(grid.affine[:3, :3], post.volume.grid.affine[:3, :3])
    whole = read_volume(files["cement"])[0].on(post.volume.grid, outside=0.0).values
    np.testing.assert_allclose(whole[1:9, 1:12, 0:10], fill.fraction.values, atol=1e-6)
    told = json.loads(files["result"].read_text(encoding="utf-8"))
    assert told["fill"]["leaks"][0]["distances_mm"] == {"spinal_canal": 0.0}
    assert told["fill"]["lesion_fill"] is None
    assert told["leaked_ml"] == pytest.approx(0.51)
    assert told["fill"]["findings"][0]["text"] == "Cement lies in the canal."
    assert told["not_written"] == {}


def test_the_segments_overlay_the_fill_voxel_by_voxel(tmp_path: Path, post: Scan) -> None:
    fill = measured(post)
    files = write_assessment(tmp_path / "r", post=post, fill=fill)
    regions = read_regions(files["seg"], like=post.volume.grid)
    assert list(regions) == [
        "cement in bone", "cement leak, epidural or canal", "cement leak, disc superior"
    ]  # fmt: skip
    for leak in fill.leaks:
        got = regions[f"cement leak, {leak.compartment}"].values[1:9, 1:12, 0:10]
        np.testing.assert_array_equal(got, leak.mask.values)


def test_the_report_holds_the_numbers_of_the_record(tmp_path: Path, post: Scan) -> None:
    from highdicom.sr import srread

    fill = measured(post)
    files = write_assessment(tmp_path / "r", post=post, fill=fill)
    groups = srread(files["sr"]).content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 3
    got = [{m.name.meaning: (m.value, m.unit.value) for m in g.get_measurements()} for g in groups]
    assert got[0]["Volume"] == (3.99, "ml")
    assert got[0]["Share of the bone that is filled"] == (21.0, "%")
    assert "Share of the lesion that is filled" not in got[0]  # not known
    assert got[1]["Volume"] == (0.11, "ml")
    assert got[1]["Reach beyond the surface of the bone"] == (2.5, "mm")
    assert got[1]["Distance to structure at risk: spinal canal"] == (0.0, "mm")
    assert got[2]["Volume, upper end of interval"] == (0.8, "ml")
    said = {q.name.meaning: q.value.meaning for q in groups[1].get_qualitative_evaluations()}
    assert said["Compartment of leaked cement"] == "epidural or canal"
    assert said["Type of leak (Yeom 2003; D intradiscal)"] == "type B"


@pytest.mark.parametrize("name", ["seg", "sr"])
def test_the_standards_own_checker_finds_no_error(name: str, tmp_path: Path, post: Scan) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed; apt-get install dicom3tools")
    files = write_assessment(tmp_path / "r", post=post, fill=measured(post))
    said = subprocess.run([program, str(files[name])], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    assert {"seg": "Segmentation", "sr": "Comprehensive3DSR"}[name] in lines  # what it looks at
    assert [line for line in lines if line.startswith("Error")] == []


def test_without_dicom_the_reason_is_written(tmp_path: Path, post: Scan) -> None:
    files = write_assessment(tmp_path / "r", post=replace(post, source=()), fill=measured(post))
    told = json.loads(files["result"].read_text(encoding="utf-8"))
    assert "did not come as DICOM" in told["not_written"]["cement.dcm"]
    assert "seg" not in files


def test_no_cement_writes_no_segments(tmp_path: Path, post: Scan) -> None:
    fill = measured(post)
    grid = fill.fraction.grid
    none = Volume(grid=grid, values=np.zeros(grid.shape, np.float32), unit="1")
    files = write_assessment(
        tmp_path / "r", post=post, fill=replace(fill, fraction=none, leaks=(), volume_ml=0.0)
    )
    assert "seg" not in files
    assert not list((tmp_path / "r").glob("*.dcm"))


def test_the_worst_is_said_first() -> None:
    lines = summary_lines(fill_on(GRID))
    assert lines[0] == "STOP    Cement lies in the canal."
    assert "leak    epidural or canal, type B: 0.11 ml, reaches 2 mm beyond the bone" in lines
    assert lines[-1] == "unknown spinal cord"
