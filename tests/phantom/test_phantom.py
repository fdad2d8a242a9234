"""Synthetic patients: their stated truth against counts, random points and a triangulation."""

from __future__ import annotations

from functools import cache
from math import pi

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import marching_cubes

from trocar import phantom
from trocar.errors import InputError
from trocar.facts import anatomy, tissue
from trocar.phantom import scene
from trocar.phantom.shapes import ball, block, capsule, cut, ellipsoid, grown, smooth_min, union
from trocar.phantom.spine import LUMBAR, PLANA

COARSE = (2.0, 1.6, 1.6)


@cache
def usual(name: str) -> phantom.Phantom:
    return phantom.make(name)


@cache
def every_wall(name: str) -> phantom.Phantom:
    return phantom.make(name, spacing_mm=COARSE, defects=phantom.walls(name), noise_hu=0.0)


def random_points(rng, centre, half, n):
    """About n points spread evenly over a box: one at random in each of equal cells."""
    k = round(n ** (1 / 3))
    cells = np.stack(np.meshgrid(*[np.arange(k)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return centre + ((cells + rng.uniform(0, 1, cells.shape)) / k * 2 - 1) * half


# --- what is true of a patient -------------------------------------------------------------------


@pytest.mark.parametrize("name", phantom.NAMES)
def test_labelled_bone_has_its_stated_volume_at_two_resolutions(name):
    # A plate 5 mm thick, counted in slices of 1 and 2 mm, may gain or lose part of a slice.
    fine, coarse = (0.02, 0.06) if name == "vertebra_t10_plana" else (0.005, 0.02)
    for p, tolerance in ((usual(name), fine), (every_wall(name), coarse)):
        bone = p.labels.mask(p.site.bone_label)
        assert bone.volume_ml == pytest.approx(p.truth.bone_ml, rel=tolerance)


@pytest.mark.parametrize("name", phantom.NAMES)
def test_volumes_agree_with_random_points(name):
    p = usual(name)
    rng = np.random.default_rng(3)
    grid = p.ct.grid
    corner = grid.to_world([-0.5, -0.5, -0.5])
    size = grid.to_world(np.asarray(grid.shape) - 0.5) - corner
    bone = p.labels.mask(p.site.bone_label)
    spread = np.ptp(bone.points_mm(), axis=0) / 2 + 6
    middle = bone.points_mm().min(axis=0) + spread - 6
    at = random_points(rng, middle, spread, 250_000)
    inside = np.all((at > corner) & (at < corner + size), axis=1)
    hits = np.mean(inside & (p.truth.bone_distance(at) < 0))
    assert hits * np.prod(2 * spread) / 1000 == pytest.approx(p.truth.bone_ml, rel=0.01)
    assert p.truth.lesion_distance is not None
    half = np.ptp(p.lesion.points_mm(), axis=0) / 2 + 3
    at = random_points(rng, p.lesion.points_mm().min(axis=0) - 3 + half, half, 300_000)
    hits = np.mean(p.truth.lesion_distance(at) < 0)
    assert hits * np.prod(2 * half) / 1000 == pytest.approx(p.truth.lesion_ml, rel=0.01)
    assert p.lesion.volume_ml == pytest.approx(p.truth.lesion_ml, rel=0.015)


def test_a_core_within_the_marrow_has_the_volume_of_its_sphere():
    truth = phantom.truth("vertebra_l3", defects=(), lesion_mm=16.0)
    assert truth.lesion_ml == pytest.approx(pi / 6 * 16**3 / 1000, rel=0.02)


def holes_apart(name):
    """The walls in groups whose holes lie so far apart that the nearest centre tells them."""
    walls = phantom.walls(name)
    pedicles = tuple(w for w in walls if "pedicle" in w)
    return [g for g in (tuple(w for w in walls if w not in pedicles), pedicles) if g]


@pytest.mark.parametrize("name", phantom.NAMES)
def test_hole_areas_agree_with_a_triangulated_outline(name):
    step = 0.3
    o = np.arange(-9.6, 9.601, step)
    lattice = np.stack(np.meshgrid(o, o, o, indexing="ij"), axis=-1)
    for walls in holes_apart(name):
        truth = phantom.truth(name, defects=walls)
        assert truth.lesion_distance is not None
        centres = np.array([truth.defect_centres_mm[w] for w in walls])
        for wall, centre in zip(walls, centres, strict=True):
            sd = truth.bone_distance(centre + lattice)
            corners, faces, _, _ = marching_cubes(sd, 0.0, spacing=(step,) * 3)
            triangle = (corners + centre + o[0])[faces]
            middle = triangle.mean(axis=1)
            nearest = np.argmin(np.linalg.norm(middle[:, None] - centres, axis=2), axis=1)
            # On the outline the lesion's distance is 0 in a hole and grows with the way to its rim.
            mine = (nearest == walls.index(wall)) & (truth.lesion_distance(middle) < 0.02)
            edges = triangle[:, 1:] - triangle[:, :1]
            area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)[mine].sum() / 2
            assert area == pytest.approx(truth.defects[wall], rel=0.03), wall


@pytest.mark.parametrize("name", ["vertebra_l3", "vertebra_t10_plana"])
def test_heights_agree_with_the_outline_and_the_voxels(name):
    p = usual(name)
    bone = p.labels.mask(p.site.bone_label)
    centre = phantom.ORIGIN_MM
    y = centre[1] + np.arange(-30.0, 12.0, 0.05)
    z = centre[2] - (1.5 if "plana" in name else 0.0)
    line = np.stack([np.full_like(y, centre[0]), y, np.full_like(y, z)], axis=1)
    front = y[p.truth.bone_distance(line) < 0].min()
    back = p.truth.canal_mm[1][1] - _gap(p, z)
    depth = back - front
    places = (front + 0.1 * depth, front + 0.5 * depth, back - 0.1 * depth)
    for place, height in zip(places, p.truth.heights_mm, strict=True):
        up = np.arange(-22.0, 22.0, 0.02)
        line = np.stack([0 * up + centre[0], 0 * up + place, up + z], axis=1)
        inside = p.truth.bone_distance(line) < 0
        # The run of bone through the middle, not the arch above or below it.
        run, _ = ndimage.label(inside)
        assert np.sum(run == run[len(up) // 2]) * 0.02 == pytest.approx(height, abs=0.1)
        voxels = bone.holds(line)
        run, _ = ndimage.label(voxels)
        assert np.sum(run == run[len(up) // 2]) * 0.02 == pytest.approx(height, abs=1.1)


def _gap(p, z):
    """Distance in front of the canal's centre line to the posterior wall, in the midline."""
    start = p.truth.canal_mm[1]
    t = np.arange(0.0, 30.0, 0.01)
    line = np.stack([0 * t + start[0], start[1] - t, 0 * t + z], axis=1)
    return float(t[np.argmax(p.truth.bone_distance(line) < 0)])


@pytest.mark.parametrize("name", ["vertebra_l3", "vertebra_t10_plana"])
def test_isthmus_is_the_narrowest_cut_across_the_pedicle(name):
    p = usual(name)
    for side, isthmus in p.truth.isthmuses.items():
        across = np.cross(isthmus.direction, [0, 0, 1.0])
        o = np.arange(-11.0, 11.001, 0.1)
        vv, ww = np.meshgrid(o, o, indexing="ij")
        widths = []
        for u in np.arange(-3.0, 3.01, 0.5):
            at = isthmus.centre_mm + u * isthmus.direction
            points = at + vv[..., None] * across + ww[..., None] * np.array([0, 0, 1.0])
            cutting, _ = ndimage.label(p.truth.bone_distance(points) < 0)
            piece = cutting == cutting[len(o) // 2, len(o) // 2]
            widths.append(piece[:, len(o) // 2].sum() * 0.1)
            if u == 0:
                assert piece.any(axis=1).sum() * 0.1 == pytest.approx(isthmus.width_mm, abs=0.4)
                assert piece.any(axis=0).sum() * 0.1 == pytest.approx(isthmus.height_mm, abs=0.5)
        assert min(widths) == pytest.approx(isthmus.width_mm, abs=0.15)
        expected = anatomy.pedicle_width_mm(p.site.level)
        assert expected is not None
        assert isthmus.width_mm == pytest.approx(expected, abs=0.5)
        assert (isthmus.centre_mm[0] > phantom.ORIGIN_MM[0]) == (side == "left")


@pytest.mark.parametrize(("name", "form"), [("vertebra_l3", LUMBAR), ("vertebra_t10_plana", PLANA)])
def test_heights_follow_from_the_sizes_given(name, form):
    anterior, middle, posterior = phantom.truth(name).heights_mm
    # The caps are planes: between the tenths of the depth lie eight tenths of the rims' difference.
    assert anterior - posterior == pytest.approx(0.8 * (form.anterior - form.posterior), abs=0.1)
    hollow = (form.anterior + form.posterior) / 2 - 2 * form.dish
    assert middle == pytest.approx(hollow, abs=0.1)


def test_plana_is_flat_and_l3_is_not():
    flat, normal = usual("vertebra_t10_plana").truth.vertebra, usual("vertebra_l3").truth.vertebra
    assert flat is not None
    assert flat.plana
    assert flat.genant_grade == 3
    assert normal is not None
    assert not normal.plana
    assert normal.genant_grade == 0
    with pytest.raises(ValueError, match="ask a vertebra"):
        usual("femur").truth.heights_mm  # noqa: B018


def test_joint_space_is_the_same_between_every_facing_pair_of_points():
    socket, head = usual("acetabulum").truth, usual("femur").truth
    centre = phantom.ORIGIN_MM + np.array([88.0, 0.0, 0.0])
    for way in ([0, 0, 1.0], [-0.3, 0.5, 0.8], [0.2, 0.6, 0.75]):
        t = np.arange(10.0, 40.0, 0.01)
        line = centre + t[:, None] * np.asarray(way) / np.linalg.norm(way)
        bone = t[np.argmax(socket.bone_distance(line) < 0)]
        end = t[np.argmax(head.bone_distance(line) > 0)]
        assert socket.joint_space_mm == pytest.approx(bone - end, abs=0.1)


# --- lesions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", phantom.NAMES)
def test_lesion_stays_in_the_bone_but_for_its_soft_tissue_part(name):
    p = usual(name)
    bone = p.labels.mask(p.site.bone_label)
    assert p.truth.soft_tissue_ml == 0
    assert not np.any(p.lesion.values & ~bone.values)
    assert bool(p.lesion.holds(p.click_mm))
    assert p.truth.lesion_distance is not None
    assert p.truth.lesion_distance(p.click_mm) < -1.0
    soft = phantom.make(name, spacing_mm=(1.2, 1.2, 1.2), soft_tissue=True)
    outside = soft.lesion.values & ~soft.labels.mask(p.site.bone_label).values
    volume = np.count_nonzero(outside) * soft.ct.grid.voxel_ml
    assert soft.truth.soft_tissue_ml > 0.05
    # A curtain 3 mm thick counted in voxels of 1.2 mm; random points tell it better.
    assert volume == pytest.approx(soft.truth.soft_tissue_ml, rel=0.08)
    assert soft.truth.lesion_distance is not None
    half = np.ptp(soft.lesion.points_mm(), axis=0) / 2 + 3
    at = random_points(
        np.random.default_rng(1), soft.lesion.points_mm().min(axis=0) - 3 + half, half, 300_000
    )
    hit = (soft.truth.lesion_distance(at) < 0) & (soft.truth.bone_distance(at) > 0)
    found = hit.mean() * np.prod(2 * half) / 1000
    assert found == pytest.approx(soft.truth.soft_tissue_ml, rel=0.015)
    others = [
        n
        for n in soft.labels.present
        if n.startswith(anatomy.bones()) and "joint" not in n and n != p.site.bone_label
    ]
    assert not np.any(soft.lesion.values & soft.labels.mask(*others).values)
    pieces, count = ndimage.label(soft.lesion.values)
    assert count == 1 or np.bincount(pieces.ravel())[1:].max() > 0.99 * soft.lesion.voxels


@pytest.mark.parametrize("name", phantom.NAMES)
def test_cortex_is_gone_in_a_hole_and_stands_beside_it(name):
    p = usual(name)
    whole = phantom.make(name, spacing_mm=(1.2, 1.0, 1.0), noise_hu=0.0, lesion=False)
    for wall, centre in p.truth.defect_centres_mm.items():
        inward = p.click_mm - centre
        at = centre + np.array([0.3, 0.9])[:, None] * inward / np.linalg.norm(inward)
        assert np.max(p.ct.sample(at)) < 250, wall
        assert np.min(whole.ct.sample(at)) > 350, wall


@pytest.mark.parametrize(
    ("name", "cortex_mm"), [("vertebra_l3", 1.1), ("femur", 1.7), ("acetabulum", 1.5)]
)
def test_a_huge_lesion_leaves_a_shell_of_cortex_where_no_wall_is_named(name, cortex_mm):
    p = phantom.make(name, spacing_mm=COARSE, noise_hu=0, defects=(), lesion_mm=40.0)
    depth = p.truth.bone_distance(p.lesion.points_mm())
    assert depth.max() < -cortex_mm
    assert depth.max() > -cortex_mm - 1.5
    assert not p.truth.defects


def test_without_a_lesion_nothing_is_eaten():
    p = phantom.make("femur", spacing_mm=COARSE, lesion=False)
    assert p.lesion.is_empty
    assert p.truth.lesion_ml == 0
    assert not p.truth.defects
    assert bool(p.labels.mask("femur_left").holds(p.click_mm))


# --- images --------------------------------------------------------------------------------------


def _core(p, *names, deep=3):
    return ndimage.binary_erosion(p.labels.mask(*names).values, iterations=deep)


def test_tissues_have_the_hounsfield_units_of_the_facts():
    p = phantom.make("vertebra_l3", lesion=False)
    values = p.ct.values
    for name, fact in (
        ("autochthon_left", "muscle"),
        ("aorta", "blood"),
        ("iliopsoas_right", "muscle"),
    ):
        value = tissue.value(f"hu_{fact}")
        assert value.low is not None
        assert value.high is not None
        assert value.low <= values[_core(p, name)].mean() <= value.high, name
    marrow = values[_core(p, "vertebrae_L3", deep=6)]
    assert marrow.mean() == pytest.approx(float(tissue.value("hu_trabecular")), abs=15)
    assert values[_core(p, "aorta")].std() == pytest.approx(20.0, rel=0.1)
    assert values[:, -3:, :].mean() == pytest.approx(float(tissue.value("hu_air")), abs=10)
    assert values.dtype == np.int16


def test_lesion_is_lytic_and_cortex_dense():
    p = usual("acetabulum")
    inside = ndimage.binary_erosion(p.lesion.values, iterations=3)
    assert p.ct.values[inside].mean() == pytest.approx(float(tissue.value("hu_lytic")), abs=5)
    assert np.percentile(p.ct.values[p.labels.mask("hip_left").values], 95) > 700


def test_blur_spreads_but_does_not_create():
    sharp = phantom.make("femur", spacing_mm=COARSE, noise_hu=0, blur_mm=0).ct.values.astype(float)
    soft = phantom.make("femur", spacing_mm=COARSE, noise_hu=0, blur_mm=3).ct.values.astype(float)
    inner = (slice(6, -6),) * 3
    assert soft[inner].mean() == pytest.approx(sharp[inner].mean(), abs=3.0)
    assert soft.max() < sharp.max()


def test_same_seed_same_patient_and_another_seed_another_noise():
    a, b = (phantom.make("pubic_ramus", spacing_mm=COARSE, seed=5) for _ in range(2))
    other = phantom.make("pubic_ramus", spacing_mm=COARSE, seed=6)
    assert np.array_equal(a.ct.values, b.ct.values)
    assert np.mean(a.ct.values != other.ct.values) > 0.9
    assert np.array_equal(a.labels.values, other.labels.values)
    assert np.array_equal(a.lesion.values, other.lesion.values)
    assert a.truth.lesion_ml == other.truth.lesion_ml


# --- anatomy -------------------------------------------------------------------------------------


def test_sides_are_the_patients():
    spine, chest, hip = usual("vertebra_l3"), usual("vertebra_t10_plana"), usual("acetabulum")

    def x(p, name):
        return p.labels.mask(name).centroid_mm[0]

    assert x(spine, "inferior_vena_cava") < x(spine, "vertebrae_L3") < x(spine, "aorta")
    assert x(spine, "kidney_right") < x(spine, "kidney_left")
    assert x(chest, "liver") < x(chest, "vertebrae_T10") < x(chest, "aorta")
    assert hip.site.side == "left"
    assert x(hip, "sacrum") < x(hip, "hip_left")
    z = {n: spine.labels.mask(f"vertebrae_{n}").centroid_mm[2] for n in ("L2", "L3", "L4")}
    assert z["L2"] > z["L3"] > z["L4"]
    assert (
        spine.labels.mask("spinal_canal").centroid_mm[1] > spine.labels.mask("aorta").centroid_mm[1]
    )


@pytest.mark.parametrize("name", phantom.NAMES)
def test_structures_of_the_facts_are_there(name):
    p = usual(name)
    key = {"vertebra": p.site.region if p.site.region == "lumbar" else "thoracic"}.get(
        p.site.kind, p.site.kind
    )
    alike = {"lung_left": "lung_lower_lobe_left", "lung_right": "lung_lower_lobe_right"}
    for structure in anatomy.at_risk(key):
        wanted = structure.format(side=p.site.side)
        assert alike.get(wanted, wanted) in p.labels.present, wanted
    for number, label in p.labels.names.items():
        assert p.labels.number(label) == number


@pytest.mark.parametrize("name", phantom.NAMES)
def test_bones_are_one_piece_and_the_skin_is_in_the_picture(name):
    p = usual(name)
    pieces, _ = ndimage.label(p.labels.mask(p.site.bone_label).values)
    assert np.bincount(pieces.ravel())[1:].max() > 0.99 * np.count_nonzero(pieces)
    behind = p.ct.values[:, -1, :] if name != "pubic_ramus" else p.ct.values[:, 0, :]
    assert np.percentile(behind, 95) < -900


def test_canal_runs_through_the_middle_of_the_canal():
    for name in ("vertebra_l3", "vertebra_t10_plana", "sacrum"):
        p = usual(name)
        inside = p.ct.grid.contains(p.truth.canal_mm)
        assert p.labels.mask("spinal_canal").holds(p.truth.canal_mm[inside]).all(), name


# --- errors and shapes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"name": "skull"}, "no phantom 'skull'"),
        ({"name": "femur", "defects": ("medial wall",)}, "no wall 'medial wall'"),
        ({"name": "femur", "defects": (), "soft_tissue": True}, "unbroken"),
        ({"name": "femur", "lesion_mm": (1.0, -1.0, 2.0)}, "three lengths"),
        ({"name": "femur", "spacing_mm": (1.0, 1.0)}, "three lengths"),
    ],
)
def test_wrong_wishes_are_refused(kwargs, text):
    with pytest.raises(InputError, match=text):
        phantom.make(**kwargs)


def _line(n=4001, half=20.0):
    x = np.linspace(-half, half, n).astype(np.float32)
    return x, np.zeros_like(x), np.zeros_like(x)


def test_partial_volume_gives_the_volume_of_a_sphere_on_any_lattice():
    box = ((-12.0, -12.0, -12.0), (12.0, 12.0, 12.0))
    for step in (0.5, 1.0, 1.7):
        found = scene.volume_ml(ball((0.3, -0.2, 0.1), 9.0), box, step)
        # A surface smeared evenly over h gains h^2 / 4R^2 where it is convex.
        exact = 4 / 3 * pi * 9**3 / 1000 * (1 + (step / 9 / 2) ** 2)
        assert found == pytest.approx(exact, rel=0.003)


def test_sparse_evaluation_equals_the_dense_one_near_the_surface():
    shape = union(ellipsoid((0, 0, 0), (12, 8, 6), 20.0), capsule((0, 0, 0), (9, 9, 9), 3, 2), k=2)
    lattice = scene.Lattice.over(((-20, -18, -16), (20, 18, 16)), (0.9, 0.8, 1.1))
    z, y, x = np.meshgrid(*(lattice.axis(k) for k in (2, 1, 0)), indexing="ij")
    dense = shape(x.ravel(), y.ravel(), z.ravel()).reshape(lattice.shape)
    sparse = scene.evaluate(shape, lattice, 2.0)
    near = np.abs(dense) < 2.0
    assert np.allclose(sparse[near], dense[near], atol=1e-4)
    assert np.array_equal(sparse < 0, dense < 0)


def test_shapes_have_the_sizes_they_were_given():
    x, o, _ = _line()
    for shape, half in (
        (ball((0, 0, 0), 5.0), 5.0),
        (ellipsoid((0, 0, 0), (7.0, 3.0, 2.0)), 7.0),
        (block((0, 0, 0), (6.0, 3.0, 3.0), 1.0), 6.0),
        (grown(ball((0, 0, 0), 5.0), 1.5), 6.5),
        (capsule((-4, 0, 0), (4, 0, 0), 2.0), 6.0),
        (cut(ball((0, 0, 0), 8.0), ball((0, 0, 0), 3.0)), 8.0),
    ):
        inside = x[shape(x, o, o) < 0]
        assert inside.max() == pytest.approx(half, abs=0.02)
        assert inside.min() == pytest.approx(-half, abs=0.02)
    a = np.array([0.0, 1.0, 5.0], np.float32)
    assert np.allclose(smooth_min(a, np.zeros(3, np.float32), 2.0), [-0.5, -0.125, 0.0])
