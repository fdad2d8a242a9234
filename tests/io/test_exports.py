from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trocar import NOTICE
from trocar.errors import InputError
from trocar.facts.products import needle
from trocar.io.exports import plain, plan_labels, read_needles, write_needles, write_plan
from trocar.io.volumes import Inspection, SeriesReport, read_labels, read_mask, read_scan
from trocar.model.case import Finding, Gravity, Lesion, Site
from trocar.model.plan import Margin, NeedleSet, Plan, Refusal, Trajectory
from trocar.model.result import Anatomy, Axes, Run, Scan
from trocar.model.space import Grid, Mask, Volume

Array = np.ndarray[Any, Any]
WHOLE = Grid.from_spacing((20, 30, 32), (2.0, 0.8, 0.7), (-10.123456789, 20.0, -300.0))


def a_mask(grid: Grid, *box: slice) -> Mask:
    values = np.zeros(grid.shape, bool)
    values[box] = True
    return Mask(grid=grid, values=values)


def trajectory(route: str, shift: float) -> Trajectory:
    return Trajectory(
        route=route,
        needle=needle(13, 100),
        entry_mm=np.array([1 / 3 + shift, 90.1, -280.25]),
        target_mm=np.array([-2.7, 30.0 + shift, -281.0]),
        position="prone",
        bone_entry_mm=np.array([0.0, 50.0, -280.5]),
        bone_length_mm=21.5,
        cortex_angle_deg=12.0,
        margins=(
            Margin(structure="spinal_canal", distance_mm=3.1, required_mm=2.0, caution_mm=4.0),
            Margin(structure="lung_left", distance_mm=float("inf"), required_mm=3, caution_mm=5),
        ),
        findings=(
            Finding(
                gravity=Gravity.CAUTION, message="{gap_mm:.1f} mm to go", values={"gap_mm": 3.14159}
            ),
        ),
    )


def case(scan: Scan) -> tuple[Anatomy, Plan]:
    """An anatomy on a crop of the scan's grid, with structures that overlap."""
    grid = scan.volume.grid.crop((slice(4, 16), slice(5, 25), slice(6, 30)))
    bone = a_mask(grid, slice(2, 10), slice(4, 16), slice(4, 20))
    structures = {
        "spinal_canal": a_mask(grid, slice(2, 10), slice(14, 18), slice(9, 14)),
        "other_bone": a_mask(grid, slice(0, 12), slice(12, 19), slice(0, 24)),
        "aorta": Mask.empty(grid),
    }
    axes = Axes(origin_mm=grid.centre_mm, left=np.eye(3)[0], posterior=np.eye(3)[1],
                superior=np.eye(3)[2])  # fmt: skip
    anatomy = Anatomy(
        site=Site.parse("L1"), grid=grid, body=Mask(grid=grid, values=np.ones(grid.shape, bool)),
        bone=bone, axes=axes, structures=structures, regions={}, missing=("aorta",),
    )  # fmt: skip
    lesion = Lesion(
        lesion_id="1", site=anatomy.site,
        mask=a_mask(grid, slice(4, 7), slice(6, 12), slice(6, 12)),
        kind="lytic", volume_ml=1.2, diameters_mm=(9.0, 8.0, 7.0), mean_hu=40.0, bone_fraction=0.1,
        mirels_fraction=0.3, soft_tissue_ml=0.0,
    )  # fmt: skip
    plan = Plan(
        case_id="Case 7", site=anatomy.site, lesion=lesion,
        options=(trajectory("transpedicular left", 0.0), trajectory("transpedicular right", 4.0)),
        sets=(NeedleSet(members=(0, 1), tip_spacing_mm=9.0, shaft_spacing_mm=7.0),),
        refusals=(Refusal(route="parapedicular", reason="the rib is in the way", candidates=9),),
        run=Run(version="0.1.0", command="test", inputs={"ct": "ab"}, facts={}, parameters={"n": 1},
                seed=0, started="2026-01-02T03:04:05Z", peak_mb=float("nan")),
    )  # fmt: skip
    return anatomy, plan


def nifti_scan() -> Scan:
    return Scan(
        volume=Volume(grid=WHOLE, values=np.zeros(WHOLE.shape, np.int16)), name="x", sha256="0"
    )


def test_needles_come_back_to_the_last_bit(tmp_path: Path) -> None:
    _, plan = case(nifti_scan())
    path = write_needles(tmp_path / "n.mrk.json", plan)
    found = read_needles(path)
    assert len(found) == 2
    for segment, option in zip(found, plan.options):
        assert np.array_equal(segment.start_mm, option.entry_mm)
        assert np.array_equal(segment.end_mm, option.target_mm)
    content = json.loads(path.read_text())
    assert "markups-schema" in content["@schema"]
    for line in content["markups"]:
        assert (line["type"], line["coordinateSystem"]) == ("Line", "LPS")
        assert [p["label"].split()[1] for p in line["controlPoints"]] == ["entry", "target"]


def test_needles_from_slicer_in_ras_are_turned(tmp_path: Path) -> None:
    points = [{"position": [1, 2, 3]}, {"position": [4, 5, 6]}]
    line = {"type": "Line", "coordinateSystem": "RAS", "controlPoints": points}
    (tmp_path / "n.json").write_text(json.dumps({"markups": [{"type": "Plane"}, line]}))
    (segment,) = read_needles(tmp_path / "n.json")
    assert segment.start_mm.tolist() == [-1, -2, 3]
    for text in ("{}", "no json", '{"markups": [{"type": "Line", "controlPoints": []}]}'):
        (tmp_path / "n.json").write_text(text)
        with pytest.raises(InputError, match="not a Slicer markups file"):
            read_needles(tmp_path / "n.json")


def test_labels_lie_on_the_ct_with_the_lesion_on_top(tmp_path: Path) -> None:
    scan = nifti_scan()
    anatomy, plan = case(scan)
    files = write_plan(tmp_path, scan, anatomy, plan)
    labels = read_labels(files["labels"])
    assert labels.grid.matches(WHOLE)
    assert np.array_equal(labels.mask("lesion").values, plan.lesion.mask.on(WHOLE).values)
    canal = anatomy.structures["spinal_canal"].on(WHOLE).values
    assert np.array_equal(labels.mask("spinal_canal").values, canal)
    bone = labels.mask("bone").values
    others = anatomy.structures["other_bone"].on(WHOLE).values | canal
    expected = anatomy.bone.on(WHOLE).values & ~others & ~plan.lesion.mask.on(WHOLE).values
    assert np.array_equal(bone, expected)
    assert "aorta" not in labels.names.values()
    assert labels.number("lesion") == 1
    assert labels.number("bone") == 2
    table = json.loads(files["names"].read_text())
    assert table["notice"] == NOTICE
    assert {row["name"]: row["id"] for row in table["labels"]} == {
        name: number for number, name in labels.names.items()
    }
    assert all(len(row["color"]) == 3 for row in table["labels"])


def test_a_grid_that_is_no_crop_is_resampled() -> None:
    scan = nifti_scan()
    anatomy, plan = case(scan)
    coarse = Grid.from_spacing((10, 15, 16), (4.0, 1.6, 1.4), WHOLE.affine[:3, 3])
    labels = plan_labels(coarse, anatomy, plan)
    assert labels.mask("bone").volume_ml == pytest.approx(
        plan_labels(WHOLE, anatomy, plan).mask("bone").volume_ml, rel=0.2
    )


def test_the_plan_is_faithful_json(tmp_path: Path) -> None:
    scan = nifti_scan()
    anatomy, plan = case(scan)
    files = write_plan(tmp_path, scan, anatomy, plan)
    content = json.loads(files["plan"].read_text(encoding="utf-8"))
    assert content["notice"] == NOTICE
    assert content["site"] == "L1"
    assert set(content["needles"][0]) >= {"entry_mm", "target_mm", "depth_mm", "gantry", "c_arm"}
    for found, option in zip(content["needles"], plan.options):
        assert found["entry_mm"] == option.entry_mm.tolist()
        assert found["depth_mm"] == option.depth_mm
        assert found["gantry"]["in_plane_deg"] == option.gantry.in_plane_deg
        assert found["margins"][0]["verdict"] == "caution"
        assert found["margins"][1]["distance_mm"] is None  # not there: no number, not infinity
        assert found["verdict"] == "caution"
        assert found["findings"][0]["text"] == "3.1 mm to go"
        assert found["findings"][0]["values"] == {"gap_mm": 3.14159}
        assert found["needle"]["outer_mm"] == option.needle.outer_mm
    assert content["refusals"][0]["reason"] == "the rib is in the way"
    assert content["lesion"]["volume_ml"] == 1.2
    assert content["lesion"]["mask"]["voxels"] == plan.lesion.mask.voxels
    assert content["anatomy"]["missing"] == ["aorta"]
    assert content["run"]["peak_mb"] is None
    assert set(content["facts"]) >= {"limits", "tissue", "labels"}
    assert set(content["files"].values()) == {p.name for p in tmp_path.iterdir()} - {"plan.json"}
    assert "must refer to the images" in content["not_written"]["labels.dcm"]
    assert not (tmp_path / "labels.dcm").exists()


def test_a_dicom_ct_gets_a_dicom_seg(tmp_path: Path, write_series: Any) -> None:
    rng = np.random.default_rng(0)
    write_series(tmp_path / "ct", rng.integers(-900, 900, (20, 30, 32)).astype(np.int16))
    scan = read_scan(tmp_path / "ct")
    anatomy, plan = case(scan)
    files = write_plan(tmp_path / "out", scan, anatomy, plan)
    assert set(files) == {"plan", "needles", "labels", "names", "seg"}
    ct = scan.volume.grid
    nifti, seg = read_labels(files["labels"], like=ct), read_labels(files["seg"], like=ct)
    for name in ("lesion", "bone", "spinal_canal", "other_bone"):
        assert np.array_equal(nifti.mask(name).values, seg.mask(name).values), name
        assert read_mask(files["seg"], name=name).voxels == seg.mask(name).voxels
    # What names files on this machine stays on it.
    assert str(tmp_path) not in files["plan"].read_text()


def test_a_ct_that_was_moved_away_costs_only_the_seg(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "ct", np.full((20, 30, 32), -5, np.int16))
    scan = read_scan(tmp_path / "ct")
    (tmp_path / "ct").rename(tmp_path / "gone")
    files = write_plan(tmp_path / "out", scan, *case(scan))
    assert "seg" not in files
    assert (
        "no longer where it was read"
        in json.loads(files["plan"].read_text())["not_written"]["labels.dcm"]
    )


def test_what_is_plain() -> None:
    row = SeriesReport(name="a", what="CT", usable=True, why="because", problems=("b",))
    found = plain(Inspection(path="p", rows=(row,)))
    assert found["rows"][0]["problems"] == ["b"]
    assert plain({Gravity.STOP: np.float32("nan"), 3: np.int64(4)}) == {"stop": None, "3": 4}
    with pytest.raises(TypeError, match="no plain form"):
        plain(object())
