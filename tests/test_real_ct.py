"""Plans on real CT: every margin recomputed by a slow routine that shares no code with ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trocar import pathway
from trocar.facts import limits
from trocar.io.volumes import read_labels, read_mask, read_scan
from trocar.model.case import Site
from trocar.model.plan import Trajectory
from trocar.model.result import Scan
from trocar.model.space import Grid, Labels, Mask

pytestmark = pytest.mark.data


def slow_distance_mm(mask: Mask, start: np.ndarray, end: np.ndarray, radius_mm: float) -> float:
    """Needle surface to a structure: dense points on the axis against every voxel box.

    Point-to-box distance in the box's own axes, step 0.1 mm along the needle; nothing is shared
    with the kernels but the definition.
    """
    grid = mask.grid
    length = float(np.linalg.norm(end - start))
    axis = start + np.linspace(0, 1, int(length / 0.1) + 2)[:, None] * (end - start)
    index = np.argwhere(mask.values).astype(float)
    best = np.inf
    for block in np.array_split(axis, 40):  # only the voxels near this piece of the needle
        centre = grid.to_index(block.mean(axis=0))
        away = np.linalg.norm((index - centre) * grid.spacing_mm, axis=1)
        reach = np.linalg.norm(block[0] - block[-1]) + 2 * max(grid.spacing_mm)
        near = index[away <= min(away.min() + reach, away.max())]
        gap = np.abs(grid.to_index(block)[:, None, :] - near[None]) - 0.5
        gap = np.maximum(gap, 0) * np.asarray(grid.spacing_mm)
        best = min(best, float(np.sqrt((gap**2).sum(-1)).min()))
    return best - radius_mm


def assert_margins_are_right(
    planned: pathway.Planned, option: Trajectory, tolerance_mm: float = 0.1
) -> None:
    assert option.margins
    for margin in option.margins:
        if margin.structure in ("far_wall", "pedicle_cortex"):
            continue  # inside the bone, not to a structure: see tests/planning
        mask = planned.anatomy.structures[margin.structure]
        slow = slow_distance_mm(mask, option.entry_mm, option.target_mm, option.needle.radius_mm)
        if margin.distance_mm < 0:  # inside: the slow routine knows only that it touches
            assert slow <= 0
        elif slow < 30:  # far structures may be cut off by the crop of the anatomy
            assert margin.distance_mm == pytest.approx(slow, abs=tolerance_mm), margin.structure


def touches(labels: Labels, names: tuple[str, ...], option: Trajectory) -> bool:
    """Whether any point of the needle's axis lies in a voxel of the named labels."""
    points = option.path.at_mm(np.arange(0.0, option.depth_mm, 0.1))
    return bool(labels.mask(*names).holds(points).any())


def ball(grid: Grid, centre_mm: np.ndarray, radius_mm: float) -> Mask:
    points = grid.to_world(np.indices(grid.shape).transpose(1, 2, 3, 0))
    return Mask(grid=grid, values=np.linalg.norm(points - centre_mm, axis=-1) <= radius_mm)


@pytest.fixture(scope="module")
def set04(data: Path) -> tuple[Scan, Labels, dict[str, object], Mask]:
    folder = data / "04_l1_lytic_cement_semisynthetic"
    scan = read_scan(folder / "pre_ct.nii.gz")
    labels = read_labels(
        folder / "labels.nii.gz",
        names=data / "03_t9_l3_lidc0001" / "structures.csv",
        like=scan.volume.grid,
    )
    truth = json.loads((folder / "truth.json").read_text())
    # 1 is lesion without cement after the procedure, 2 the part that was filled.
    drawn = read_labels(
        folder / "truth_labels.nii.gz",
        names={1: "lesion", 2: "filled lesion"},
        like=scan.volume.grid,
    )
    return scan, labels, truth, drawn.mask("lesion", "filled lesion")


@pytest.fixture(scope="module")
def plan04(set04: tuple[Scan, Labels, dict[str, object], Mask]) -> pathway.Planned:
    scan, labels, _, lesion = set04
    return pathway.plan_lesion(scan, Site.parse("L1"), labels=labels, click_mm=lesion.centroid_mm)


def test_l1_of_set_04_lesion_from_one_click(
    set04: tuple[Scan, Labels, dict[str, object], Mask], plan04: pathway.Planned
) -> None:
    truth = set04[3].on(plan04.anatomy.grid).values
    found = plan04.lesion.mask.values
    dice = 2 * np.count_nonzero(truth & found) / (truth.sum() + found.sum())
    assert dice >= 0.85
    assert plan04.lesion.volume_ml == pytest.approx(5.343, rel=0.10)
    assert "posterior wall" in {d.wall for d in plan04.lesion.defects}


def test_l1_of_set_04_has_a_transpedicular_plan_with_true_margins(
    set04: tuple[Scan, Labels, dict[str, object], Mask], plan04: pathway.Planned
) -> None:
    labels = set04[1]
    routes = [o.route for o in plan04.plan.options]
    assert any("transpedicular" in r for r in routes), routes
    for option in plan04.plan.options:
        assert_margins_are_right(plan04, option)
        assert not touches(labels, ("spinal_cord", "aorta", "inferior_vena_cava"), option)
        assert all(m.verdict != "stop" for m in option.margins)


@pytest.mark.slow
def test_l1_of_set_03_without_a_visible_lesion_is_planned_into_a_ball(data: Path) -> None:
    folder = data / "03_t9_l3_lidc0001"
    scan = read_scan(folder / "ct.nii.gz")
    labels = read_labels(
        folder / "labels.nii.gz", names=folder / "structures.csv", like=scan.volume.grid
    )
    bone = labels.mask("vertebrae_L1")
    front = bone.points_mm()
    centre = front[front[:, 1] < np.percentile(front[:, 1], 35)].mean(axis=0)
    planned = pathway.plan_lesion(
        scan,
        Site.parse("L1"),
        labels=labels,
        lesion_mask=ball(scan.volume.grid, centre, 8.0),
    )
    assert any("transpedicular" in o.route for o in planned.plan.options)
    for option in planned.plan.options:
        assert_margins_are_right(planned, option)
        assert not touches(labels, ("spinal_cord", "aorta", "inferior_vena_cava"), option)


# Points inside cancellous bone, found by eye on the two scans (LPS mm of the files).
CLICKS_MM = {
    "ilium": np.array([-66.0, 80.0, -616.0]),
    "roof": np.array([-63.5, 15.6, -706.3]),
    "femur": np.array([-114.3, 10.7, -765.2]),
}


def planned_from_click(scan: Scan, site: str, inside_mm: np.ndarray) -> pathway.Planned:
    return pathway.plan_lesion(
        scan,
        Site.parse(site),
        click_mm=inside_mm,
        lesion_mask=ball(scan.volume.grid, inside_mm, 8.0),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "site", "where"),
    [
        ("07_hemipelvis_sts007", "ilium right", "ilium"),
        ("08_hip_sts044", "acetabulum right", "roof"),
        ("08_hip_sts044", "femur right", "femur"),
    ],
)
def test_pelvis_and_femur_without_labels(data: Path, name: str, site: str, where: str) -> None:
    scan = read_scan(data / name / "dicom_ct_rtstruct.zip")
    planned = planned_from_click(scan, site, CLICKS_MM[where])
    assert planned.plan.options, [f"{r.route}: {r.reason}" for r in planned.plan.refusals]
    for option in planned.plan.options:
        assert_margins_are_right(planned, option)
        assert bool(planned.anatomy.bone.holds(option.target_mm))
    said = " ".join(str(f) for f in planned.plan.findings)
    assert planned.anatomy.missing  # no labels: the great vessels are not known,
    assert any(m.replace("_", " ") in said or m in said for m in planned.anatomy.missing)


def test_the_published_tumour_masks_come_out_of_the_contours(data: Path) -> None:
    for name, ml in (("07_hemipelvis_sts007", 544.32), ("08_hip_sts044", 641.15)):
        scan = read_scan(data / name / "dicom_ct_rtstruct.zip")
        mask = read_mask(data / name / "dicom_ct_rtstruct.zip", like=scan.volume.grid)
        published = read_mask(data / name / "gtv_mask.nii.gz", like=scan.volume.grid)
        assert np.array_equal(mask.values, published.values)
        assert mask.volume_ml == pytest.approx(ml, abs=0.01)


def assert_metal_is_said_and_avoided(planned: pathway.Planned) -> None:
    metal = planned.anatomy.structures["metal"]
    assert not (metal.values & planned.anatomy.bone.values).any()
    assert any("metal" in str(f).lower() for f in planned.plan.findings)
    assert planned.plan.options
    for option in planned.plan.options:
        gap = slow_distance_mm(metal, option.entry_mm, option.target_mm, option.needle.radius_mm)
        assert gap >= float(limits.margin("metal"))


def test_the_nail_of_set_01_is_reported_and_not_planned_through(data: Path) -> None:
    folder = data / "01_lumbar_pelvis_totalseg"
    scan = read_scan(folder / "ct.nii.gz")
    labels = read_labels(
        folder / "labels_total.nii.gz", names=folder / "labels_total.csv", like=scan.volume.grid
    )
    bone = labels.mask("femur_left").points_mm()
    inside = bone[bone[:, 1] < np.percentile(bone[:, 1], 35)].mean(axis=0)
    nearest = bone[np.argmin(np.linalg.norm(bone - inside, axis=1))]
    planned = pathway.plan_lesion(
        scan,
        Site.parse("femur left"),
        labels=labels,
        lesion_mask=ball(scan.volume.grid, nearest, 8.0),
    )
    assert_metal_is_said_and_avoided(planned)


@pytest.mark.slow
def test_the_metal_of_set_14_is_reported_and_not_planned_through(data: Path) -> None:
    scan = read_scan(data / "14_thoracic_metal_contrast_totalseg" / "ct.nii.gz")
    inside = np.array([-7.2, -113.2, 675.2])  # in a thoracic body, found by eye
    planned = pathway.plan_lesion(
        scan,
        Site.parse("T9"),
        click_mm=inside,
        lesion_mask=ball(scan.volume.grid, inside, 6.0),
    )
    assert_metal_is_said_and_avoided(planned)
    assert {"lung_left", "lung_right"} & set(planned.anatomy.structures)  # by density, unlabelled
    assert "aorta" in planned.anatomy.missing
