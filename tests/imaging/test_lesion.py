"""One click gives the lesion; its measures agree with closed forms and with slow counting."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from trocar import phantom
from trocar.errors import InputError
from trocar.imaging.bone import read_anatomy
from trocar.imaging.lesion import diameters_mm, find_lesion, mirels_fraction, propose
from trocar.model.case import Lesion, Site
from trocar.model.result import Anatomy, Axes
from trocar.model.space import Grid, Mask, Volume

UP = Axes(
    origin_mm=np.zeros(3),
    left=np.array([1.0, 0, 0]),
    posterior=np.array([0, 1.0, 0]),
    superior=np.array([0, 0, 1.0]),
)


def _anatomy(grid: Grid, bone: np.ndarray, **structures: np.ndarray) -> Anatomy:
    """An upright anatomy of one bone, by hand."""
    return Anatomy(
        site=Site.parse("femur left"),
        grid=grid,
        body=Mask(grid=grid, values=np.ones(grid.shape, dtype=bool)),
        bone=Mask(grid=grid, values=bone),
        axes=UP,
        structures={name: Mask(grid=grid, values=values) for name, values in structures.items()},
        regions={},
    )


@cache
def _made(name: str, **how: object) -> tuple[phantom.Phantom, Anatomy]:
    p = phantom.make(name, **how)  # type: ignore[arg-type]
    return p, read_anatomy(p.ct, p.site, labels=p.labels)


def _dice(a: Mask, b: Mask) -> float:
    both = np.count_nonzero(a.values & b.values)
    return 2 * both / (a.voxels + b.voxels)


def _coordinates(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return points[..., 0], points[..., 1], points[..., 2]


# --- the outline -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "noise_hu"),
    [
        ("vertebra_l3", 20.0),
        pytest.param("femur", 40.0, marks=pytest.mark.slow),
        pytest.param("vertebra_l3", 40.0, marks=pytest.mark.slow),
        pytest.param("femur", 20.0, marks=pytest.mark.slow),
    ],
)
def test_one_click_outlines_a_noisy_lesion(name: str, noise_hu: float) -> None:
    p, anatomy = _made(name, noise_hu=noise_hu)
    lesion = find_lesion(p.ct, anatomy, click_mm=p.click_mm)
    assert _dice(lesion.mask, p.lesion.on(anatomy.grid)) >= 0.9
    assert lesion.volume_ml == pytest.approx(p.truth.lesion_ml, rel=0.10)
    assert lesion.kind == "lytic"
    assert lesion.found_by == "one click"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sacrum", "pubic_ramus", "vertebra_l3", "femur"])
@pytest.mark.parametrize("slice_mm", [1.0, 2.5])
def test_one_click_on_thin_and_thick_slices(name: str, slice_mm: float) -> None:
    p, anatomy = _made(name, spacing_mm=(slice_mm, 0.8, 0.8), seed=4)
    lesion = find_lesion(p.ct, anatomy, click_mm=p.click_mm)
    assert _dice(lesion.mask, p.lesion.on(anatomy.grid)) >= 0.85
    assert lesion.volume_ml == pytest.approx(p.truth.lesion_ml, rel=0.10)


@pytest.mark.slow
def test_the_outline_does_not_depend_on_where_in_the_lesion_the_click_falls() -> None:
    p, anatomy = _made("vertebra_l3", noise_hu=20.0)
    first = find_lesion(p.ct, anatomy, click_mm=p.click_mm).mask
    inside = p.lesion.on(anatomy.grid).values & anatomy.bone.values
    deep = np.argwhere(ndimage.distance_transform_edt(inside, anatomy.grid.spacing_mm) > 2.5)
    for k in np.random.default_rng(0).choice(len(deep), 2, replace=False):
        again = find_lesion(p.ct, anatomy, click_mm=anatomy.grid.to_world(deep[k])).mask
        assert _dice(first, again) > 0.98


@pytest.mark.slow
def test_epidural_tumour_is_followed_out_of_the_bone_and_no_farther() -> None:
    p, anatomy = _made("vertebra_l3", soft_tissue=True)
    lesion = find_lesion(p.ct, anatomy, click_mm=p.click_mm)
    assert _dice(lesion.mask, p.lesion.on(anatomy.grid)) >= 0.85
    assert 0.4 * p.truth.soft_tissue_ml < lesion.soft_tissue_ml < 1.2 * p.truth.soft_tissue_ml
    said = " ".join(map(str, lesion.findings))
    assert "posterior wall" in said
    assert "spinal canal" in said


@pytest.mark.slow
def test_tumour_in_muscle_of_its_own_density_is_not_guessed_at_but_said() -> None:
    p, anatomy = _made("femur", soft_tissue=True)
    lesion = find_lesion(p.ct, anatomy, click_mm=p.click_mm)
    assert lesion.soft_tissue_ml < 0.1 * p.truth.soft_tissue_ml
    assert any("cannot be told" in str(f) for f in lesion.findings)


@pytest.mark.slow
def test_a_blastic_lesion_is_called_so_and_healthy_bone_is_no_lesion() -> None:
    p, anatomy = _made("femur", noise_hu=20.0)
    values = p.ct.values.copy()
    inside = ndimage.binary_erosion(p.lesion.values, iterations=1)
    values[inside] += 850
    dense = Volume(grid=p.ct.grid, values=values)
    assert find_lesion(dense, anatomy, mask=p.lesion).kind == "blastic"
    upper = np.indices(inside.shape)[0] > np.argwhere(inside).mean(axis=0)[0]
    half = inside & upper
    values = p.ct.values.copy()
    values[half] += 850
    assert (
        find_lesion(Volume(grid=p.ct.grid, values=values), anatomy, mask=p.lesion).kind == "mixed"
    )
    marrow = ndimage.distance_transform_edt(anatomy.bone.values, anatomy.grid.spacing_mm)
    apart = ndimage.distance_transform_edt(
        ~p.lesion.on(anatomy.grid).values, anatomy.grid.spacing_mm
    )
    away = np.unravel_index(np.argmax(np.where(apart > 15, marrow, 0)), marrow.shape)
    with pytest.raises(InputError, match="like healthy bone"):
        find_lesion(p.ct, anatomy, click_mm=anatomy.grid.to_world(away))


def test_clicks_and_masks_that_miss_are_refused_in_plain_words() -> None:
    p, anatomy = _made("femur", noise_hu=20.0)
    with pytest.raises(InputError, match="no lesion was pointed at"):
        find_lesion(p.ct, anatomy)
    with pytest.raises(InputError, match="lies outside the CT"):
        find_lesion(p.ct, anatomy, click_mm=np.array([9e3, 0, 0]))
    with pytest.raises(InputError, match="three LPS mm"):
        find_lesion(p.ct, anatomy, click_mm=np.array([np.nan, 0, 0]))
    far = np.where(anatomy.body.values & ~anatomy.bone.values)
    out = np.argmax(ndimage.distance_transform_edt(~anatomy.bone.values)[far])
    beside = anatomy.grid.to_world([axis[out] for axis in far])
    with pytest.raises(InputError, match="mm outside the left femur"):
        find_lesion(p.ct, anatomy, click_mm=beside)
    apart = np.zeros(anatomy.grid.shape, dtype=bool)
    apart[far[0][out], far[1][out], far[2][out]] = True
    with pytest.raises(InputError, match="does not touch the left femur"):
        find_lesion(p.ct, anatomy, mask=Mask(grid=anatomy.grid, values=apart))
    with pytest.raises(InputError, match="empty"):
        find_lesion(p.ct, anatomy, mask=Mask.empty(anatomy.grid))


def test_a_lesion_is_proposed_where_there_is_one_and_none_where_not() -> None:
    p, anatomy = _made("vertebra_l3", noise_hu=20.0)
    best = propose(p.ct, anatomy)[0]
    assert _dice(best, p.lesion.on(anatomy.grid)) > 0.85
    healthy, its_anatomy = _made("vertebra_l3", lesion=False)
    assert propose(healthy.ct, its_anatomy) == ()


# --- the measures ------------------------------------------------------------------------------


def _lesion_of(
    grid: Grid, bone: np.ndarray, lesion: np.ndarray, **structures: np.ndarray
) -> Lesion:
    hu = np.where(bone, 150.0, -80.0)
    hu[lesion] = 50.0
    ct = Volume(grid=grid, values=hu.astype(np.float32))
    return find_lesion(ct, _anatomy(grid, bone, **structures), mask=Mask(grid=grid, values=lesion))


@pytest.mark.parametrize("radii_mm", [(6, 6, 6), (10, 7, 5), (5, 12, 8)])
def test_diameters_of_an_ellipsoid_on_an_oblique_anisotropic_grid(
    radii_mm: tuple[float, float, float],
) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array([1.2, 0.7, 0.7])
    grid = Grid(shape=(40, 60, 60), affine=affine)
    tilt, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    points = np.stack(_coordinates(grid), axis=-1) - grid.centre_mm
    values = np.sum((points @ tilt / np.array(radii_mm)) ** 2, axis=-1) <= 1
    found = diameters_mm(Mask(grid=grid, values=values))
    np.testing.assert_allclose(found, sorted([2 * r for r in radii_mm], reverse=True), atol=1.0)
    assert found[0] >= found[1]


@pytest.mark.parametrize(("lesion_mm", "aside_mm"), [(6.0, 0.0), (8.0, 4.0), (10.0, 2.0)])
def test_mirels_fraction_of_a_cylinder_in_a_cylinder(lesion_mm: float, aside_mm: float) -> None:
    """A round lesion takes its diameter over the bone's, wherever it sits: within 2 %."""
    grid = Grid.from_spacing((40, 90, 90), (1.0, 0.5, 0.5), (-22.25, -22.25, 0))
    x, y, z = _coordinates(grid)
    bone = x**2 + y**2 <= 15**2
    lesion = ((x - aside_mm) ** 2 + y**2 <= lesion_mm**2) & (np.abs(z - 20) < 8)
    found = mirels_fraction(_anatomy(grid, bone), Mask(grid=grid, values=lesion))
    assert found == pytest.approx(lesion_mm / 15, abs=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "pubic_ramus",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("vertebra_l3", "femur", "sacrum", "acetabulum")
        ),
    ],
)
def test_soft_tissue_and_bone_fraction_are_those_drawn(name: str) -> None:
    p = phantom.make(name, soft_tissue=True)
    bone = p.labels.mask(p.site.bone_label).values
    lesion = find_lesion(p.ct, _anatomy(p.ct.grid, bone), mask=p.lesion)
    assert lesion.soft_tissue_ml == pytest.approx(p.truth.soft_tissue_ml, rel=0.05)
    assert lesion.volume_ml == pytest.approx(p.truth.lesion_ml, rel=0.02)
    inside_ml = p.truth.lesion_ml - p.truth.soft_tissue_ml
    assert lesion.bone_fraction == pytest.approx(inside_ml / p.truth.bone_ml, rel=0.03)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_distances_are_those_between_voxel_faces(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid.from_spacing((9, 11, 12), rng.uniform(0.5, 3.0, 3))
    bone = np.zeros(grid.shape, dtype=bool)
    bone[2:6, 2:7, 2:7] = True
    lesion = bone & (rng.random(grid.shape) < 0.2)
    lesion[3, 4, 4] = True
    artery = (rng.random(grid.shape) < 0.01) & ~bone
    artery[8, 10, 11] = True
    found = _lesion_of(grid, bone, lesion, aorta=artery).distances_mm["aorta"]
    gaps = np.abs(np.argwhere(lesion)[:, None] - np.argwhere(artery)[None])
    slow = np.linalg.norm(np.maximum(gaps - 1, 0) * np.array(grid.spacing_mm), axis=2).min()
    assert found == pytest.approx(slow, abs=1e-4)


def test_a_lesion_in_the_canal_and_at_the_edge_is_told() -> None:
    grid = Grid.from_spacing((30, 40, 40), (1.0, 1.0, 1.0))
    bone, canal, lesion = (np.zeros(grid.shape, dtype=bool) for _ in range(3))
    bone[0:28, 5:25, 5:35] = True
    canal[:, 25:35, 12:28] = True
    lesion[10:20, 15:28, 15:25] = True
    said = " ".join(map(str, _lesion_of(grid, bone, lesion, spinal_canal=canal).findings))
    assert "0.3 ml of epidural soft tissue" in said
    assert "edge of the image" not in said
    lesion[:, 25:] = False
    touching = _lesion_of(grid, bone, lesion, spinal_canal=canal)
    assert touching.distances_mm["spinal_canal"] == 0.0
    assert "touches the spinal canal" in " ".join(map(str, touching.findings))
    lesion[0:12, 16:20, 16:20] = True
    assert "edge of the image" in " ".join(map(str, _lesion_of(grid, bone, lesion).findings))


# --- a real patient ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.data
def test_set_04_from_one_click(data: Path) -> None:
    """Dice >= 0.85 and volume within 10 % of the truth, wherever in the lesion the click falls."""
    from trocar.io.volumes import read_labels, read_scan

    folder = data / "04_l1_lytic_cement_semisynthetic"
    ct = read_scan(folder / "pre_ct.nii.gz").volume
    table = (data / "03_t9_l3_lidc0001" / "structures.csv").read_text().splitlines()[1:]
    names = {int(row.split(",")[3]): row.split(",")[2] for row in table}
    labels = read_labels(folder / "labels.nii.gz", names=names, like=ct.grid)
    anatomy = read_anatomy(ct, Site.parse("L1"), labels=labels)
    parts = read_labels(folder / "truth_labels.nii.gz", names={1: "rest", 2: "cement"})
    truth = Mask(grid=parts.grid, values=np.isin(parts.values, (1, 2))).on(anatomy.grid)
    inside = ndimage.binary_erosion(truth.values & anatomy.bone.values)
    places = np.argwhere(inside)[np.random.default_rng(0).choice(np.count_nonzero(inside), 4)]
    for click_mm in (truth.centroid_mm, *anatomy.grid.to_world(places)):
        lesion = find_lesion(ct, anatomy, click_mm=click_mm)
        assert _dice(lesion.mask, truth) >= 0.85
        assert lesion.volume_ml == pytest.approx(5.343, rel=0.10)
        assert lesion.kind == "lytic"
        assert {d.wall for d in lesion.defects} == {"posterior wall"}
        assert lesion.distances_mm["spinal_canal"] == 0.0
        assert lesion.distances_mm["aorta"] > 5
    (first, *_) = propose(ct, anatomy)
    assert _dice(first, truth) >= 0.85
