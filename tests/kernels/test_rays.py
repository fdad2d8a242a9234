"""The needle kernels against dense sampling, closed forms and slow versions of themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from trocar.kernels import rays

N = 64
UP = np.array([1.0, 0.0, 0.0])
BACK = np.array([0.0, 1.0, 0.0])


def coordinates(n: int = N) -> Any:
    axis = np.arange(n, dtype=np.float64)
    return np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)


def ball(centre: Any, radius: float, n: int = N) -> Any:
    z, y, x = coordinates(n)
    a, b, c = centre
    return (np.sqrt((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) - radius).astype(np.float32)


def screen(entries: Any, targets: Any, slack: Any, step_mm: float = 1.0, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "radius_mm": 1.0,
        "depth_mm": 1000.0,
        "cone": BACK,
        "cone_deg": 180.0,
        "up": UP,
        "tilt_deg": 90.0,
        "offender": np.zeros(slack.shape, np.uint8),
    }
    return rays.screen(
        entries,
        targets,
        slack_mm=slack,
        bound=rays.byte_bound(slack),
        step_mm=step_mm,
        **{**settings, **changes},
    )


def measure(pairs: Any, entries: Any, targets: Any, slack: Any, bone: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "surface_mm": bone,
        "parts": np.zeros(bone.shape, np.uint8),
        "part": 0,
        "step_mm": 1.0,
        "settle_mm": 0.0,
        "ahead_mm": 10.0,
    }
    settings.update(changes)
    step = settings["step_mm"]
    return rays.measure(
        np.asarray(pairs),
        entries,
        targets,
        slack_mm=slack,
        bound=rays.byte_bound(slack),
        bone_mm=bone,
        sure=rays.sure_steps(bone, step),
        **settings,
    )


def sampled(slack: Any, a: Any, b: Any, spacing: float = 0.05) -> float:
    """The slow, obvious smallest slack: trilinear samples all along the needle."""
    n = int(np.linalg.norm(b - a) / spacing) + 2
    points = a[:, None] + np.linspace(0, 1, n) * (b - a)[:, None]
    return float(ndimage.map_coordinates(slack, points, order=1, mode="nearest").min())


@pytest.fixture(scope="module")
def tubes() -> Any:
    """Slack to eight tubes of different radius with a margin of 2 mm, on 64^3."""
    rng = np.random.default_rng(3)
    z, y, x = coordinates()
    slack = np.full((N, N, N), 60.0, np.float32)
    for _ in range(8):
        p, d = rng.uniform(10, 54, 3), rng.normal(size=3)
        d /= np.linalg.norm(d)
        a, b, c = z - p[0], y - p[1], x - p[2]
        dot = a * d[0] + b * d[1] + c * d[2]
        near = np.sqrt(np.maximum(a * a + b * b + c * c - dot * dot, 0)) - rng.uniform(1, 4) - 2.0
        slack = np.minimum(slack, near.astype(np.float32))
    return slack


def needles(n: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return rng.uniform([2, 60, 2], [61, 62, 61], (n, 3)), rng.uniform(20, 40, (12, 3))


def test_the_byte_map_never_promises_more_room_than_trilinear_interpolation_finds(
    tubes: Any,
) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0.0, N - 1.0, (20_000, 3))
    value = ndimage.map_coordinates(tubes, points.T, order=1)
    bound = rays.byte_bound(tubes)[tuple(points.astype(int).T)] * rays.QUANTUM_MM
    assert np.all(bound <= np.maximum(value, 0.0) + 1e-5)
    assert np.median(value[bound > 0] - bound[bound > 0]) < 1.0  # and it is of use


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), step=st.sampled_from([0.5, 1.0, 1.5]))
def test_byte_maps_hold_throughout_the_cell_for_any_values(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(-40, 90, (6, 5, 7)).astype(np.float32)
    values[rng.random(values.shape) < 0.5] += 50.0  # some cells wholly on one side
    points = rng.uniform(0, np.array(values.shape) - 1.001, (400, 3))
    value = ndimage.map_coordinates(values, points.T, order=1)
    cell = tuple(points.astype(int).T)
    assert np.all(rays.byte_bound(values)[cell] * rays.QUANTUM_MM <= np.maximum(value, 0) + 1e-4)
    sure = rays.sure_steps(values, step)[cell].astype(float)
    known = sure != 0
    assert np.all(np.sign(sure[known]) == np.sign(value[known]))
    assert np.all(np.abs(sure) * step <= np.abs(value) + 1e-4)


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_one_target_and_many_at_once_give_the_same_verdicts(tubes: Any, limit: float) -> None:
    entries, targets = needles(60, 5)
    status, blame = screen(entries, targets, tubes, radius_mm=limit, depth_mm=45, cone_deg=50)
    assert set(np.unique(status)) >= {rays.CLEAR, rays.TOO_DEEP, rays.TOO_CLOSE}
    for k in range(len(targets)):
        one, by = screen(
            entries, targets[k : k + 1], tubes, radius_mm=limit, depth_mm=45, cone_deg=50
        )
        assert np.array_equal(one[:, 0], status[:, k])
        assert np.array_equal(by[:, 0], blame[:, k])


def test_verdicts_agree_with_dense_sampling_and_accept_nothing_unsafe(tubes: Any) -> None:
    entries, targets = needles(400, 1)
    status, _ = screen(entries, targets, tubes)
    pairs = np.argwhere(status == rays.CLEAR)
    rows = measure(pairs, entries, targets, tubes, ball((32, 32, 32), 10))
    accepted = np.zeros(status.shape, bool)
    accepted[tuple(pairs[rows[:, rays.SLACK] >= 1.0].T)] = True
    dense = np.array([[sampled(tubes, e, t, 0.25) for t in targets] for e in entries])
    assert 0.05 < accepted.mean() < 0.95
    assert np.mean((dense >= 1.0) == accepted) >= 0.999
    assert dense[accepted].min() >= 1.0 - 0.02


def test_the_least_slack_and_its_place_equal_dense_sampling(tubes: Any) -> None:
    entries, targets = needles(30, 2)
    pairs = np.argwhere(np.ones((30, 12), bool))
    rows = measure(pairs, entries, targets, tubes, ball((32, 32, 32), 10))
    for (e, t), row in zip(pairs, rows, strict=True):
        a, b = entries[e], targets[t]
        assert abs(row[rays.SLACK] - sampled(tubes, a, b)) < 0.06
        way = (a - b) / np.linalg.norm(a - b)
        spot = (b + row[rays.SLACK_AT] * way)[:, None]
        there = ndimage.map_coordinates(tubes, spot, order=1)[0]
        assert abs(there - row[rays.SLACK]) < 1e-3


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=60),
    limit=st.integers(1, 255),
)
def test_bytes_are_found_eight_at_a_time_as_one_by_one(values: list[int], limit: int) -> None:
    n = len(values) - 1
    words = np.zeros(n // 8 + 2, np.uint64)
    low = words.view(np.uint8)
    low[: n + 1], low[n + 1 : n + 8] = values, 255
    least = rays._lowest(low, n + 1)
    assert least == min(values)
    assert rays._find(low, words, n, least) == values.index(least)
    places, hits = np.empty(n + 2, np.int64), np.empty(n + 2, np.int64)
    count = rays._below(low, words, n, limit, hits, places)
    assert places[:count].tolist() == [k for k, v in enumerate(values) if v < limit]


@pytest.mark.parametrize("length", [7.0, 8.0, 9.0, 40.5])
def test_more_room_than_the_byte_map_can_say_is_still_measured(length: float) -> None:
    z, y, x = np.broadcast_arrays(*coordinates())
    slack = (90.0 + z + 0 * (y + x)).astype(np.float32)
    entry, target = np.array([[20.0, 60, 30]]), np.array([[20.0, 60 - length, 30]])
    row = measure([[0, 0]], entry, target, slack, ball((32, 32, 32), 10))[0]
    assert row[rays.SLACK] == pytest.approx(110.0, abs=1e-4)


def test_a_rejected_needle_names_the_structure_it_ran_into() -> None:
    left, right = ball((32, 40, 16), 6), ball((32, 40, 48), 6)
    slack = np.minimum(left, right)
    offender = np.where(left < right, 7, 9).astype(np.uint8)
    entries = np.array([[32.0, 60, 16], [32.0, 60, 48], [32.0, 60, 32]])
    targets = entries - [0, 50, 0]
    status, blame = screen(entries, targets, slack, offender=offender)
    assert status.diagonal().tolist() == [rays.TOO_CLOSE, rays.TOO_CLOSE, rays.CLEAR]
    assert blame.diagonal().tolist() == [7, 9, 255]


def test_depth_cone_and_tilt_are_told_apart() -> None:
    slack = np.full((N, N, N), 50, np.float32)
    target = np.array([20.0, 20, 20])
    lean = 20 * np.tan(np.radians([41, 31, 29]))
    ways = np.array([[0, 31.0, 0], [0, 20, lean[0]], [lean[1], 20, 0], [lean[2], 20, 0]])
    status, _ = screen(target + ways, target[None], slack, depth_mm=30, cone_deg=40, tilt_deg=30)
    assert status[:, 0].tolist() == [rays.TOO_DEEP, rays.OFF_CONE, rays.OVER_TILT, rays.CLEAR]


@settings(max_examples=60, deadline=None)
@given(
    offset=st.floats(0.0, 11.5),
    angle=st.floats(0.0, 6.28),
    step=st.sampled_from([0.5, 1.0, 1.5]),
)
def test_a_ball_of_bone_is_crossed_along_its_chord(
    offset: float, angle: float, step: float
) -> None:
    radius, middle = 12.0, np.array([32.0, 32.0, 32.0])
    bone = ball(middle, radius) * np.float32(step)
    side = offset * np.array([np.cos(angle), 0, np.sin(angle)])
    entry, target = middle + side + [0, 28, 0], middle + side - [0, 28, 0]
    row = measure([[0, 0]], entry[None], target[None], bone * 0 + 50, bone, step_mm=step)[0]
    half = np.sqrt(radius**2 - offset**2)
    assert row[rays.BONE] == pytest.approx(2 * half * step, abs=0.35 * step)
    assert row[rays.CONTACT] == pytest.approx((28 - half) * step, abs=0.2 * step)
    assert row[rays.COSINE] == pytest.approx(half / radius, abs=0.04)
    assert row[rays.AHEAD] == 0.0  # the tip is out of the bone again


def test_room_ahead_of_the_tip_ends_at_the_far_wall() -> None:
    bone = ball((32, 32, 32), 12)
    entry = np.array([[32.0, 60, 32]])
    tips = np.array([[32.0, 40, 32], [32.0, 24, 32], [32.0, 21.5, 32]])
    pairs = [[0, 0], [0, 1], [0, 2]]
    rows = measure(pairs, entry, tips, bone * 0 + 50, bone, ahead_mm=10.0)
    assert rows[:, rays.AHEAD] == pytest.approx([10.0, 4.0, 1.5], abs=0.05)


def test_corridor_clearance_is_the_distance_to_the_outside_after_settling() -> None:
    z, _, x = np.broadcast_arrays(*coordinates())
    wide = np.sqrt((z - 32.0) ** 2 + (x - 30.0) ** 2)
    bone = (wide - 5.0).astype(np.float32)  # a rod of radius 5 along the rows
    parts = np.zeros(bone.shape, np.uint8)
    parts[:, 20:40] = 2
    entry, target = np.array([[32.0, 60, 31]]), np.array([[32.0, 10, 31]])
    row = measure([[0, 0]], entry, target, bone * 0 + 50, bone, parts=parts, part=2)[0]
    assert row[rays.CORRIDOR] == pytest.approx(20.0, abs=1.0)
    assert row[rays.CORRIDOR_CLEARANCE] == pytest.approx(4.0, abs=0.05)
    none = measure([[0, 0]], entry, target, bone * 0 + 50, bone, parts=parts, part=4)[0]
    assert none[rays.CORRIDOR] == 0.0
    assert np.isinf(none[rays.CORRIDOR_CLEARANCE])


def test_the_face_a_needle_came_through_does_not_count_as_the_corridors_wall() -> None:
    _, y, _ = np.broadcast_arrays(*coordinates())
    bone = (y - 40.0).astype(np.float32)  # all bone in front of a flat face
    parts = np.ones(bone.shape, np.uint8)
    entry, target = np.array([[32.0, 60, 32]]), np.array([[32.0, 10, 32]])
    for settle, expected in ((0.0, 0.5), (6.0, 6.5)):
        row = measure(
            [[0, 0]], entry, target, bone + 99, bone, parts=parts, part=1, settle_mm=settle
        )[0]
        assert row[rays.CORRIDOR_CLEARANCE] == pytest.approx(expected, abs=0.6)


def test_a_needle_that_misses_the_bone_has_no_contact() -> None:
    bone = ball((32, 32, 32), 8)
    row = measure([[0, 0]], np.array([[5.0, 60, 5]]), np.array([[5.0, 5, 5]]), bone + 50, bone)[0]
    assert np.isnan(row[rays.CONTACT])
    assert row[rays.BONE] == 0.0


def test_empty_and_full_masks_give_empty_and_near_boxes() -> None:
    none, box = rays.distance_below(np.zeros((9, 9, 9), bool), 1.0, 5.0)
    assert none.size == 0
    assert np.zeros((9, 9, 9))[box].size == 0
    mask = np.zeros((40, 40, 40), bool)
    mask[20, 20, 20] = True
    near, box = rays.distance_below(mask, 1.0, 5.0)
    full = np.full(mask.shape, 5.0, np.float32)
    full[box] = near
    assert np.allclose(full, np.minimum(ndimage.distance_transform_edt(~mask), 5.0), atol=1e-5)


# --- segments, boxes, shafts ----------------------------------------------------------------------

point = st.tuples(*[st.floats(-20, 20)] * 3).map(np.array)


def slow_to_voxels(a: Any, b: Any, voxels: Any, spacing: Any) -> float:
    """Every box against points 0.05 mm apart on the segment, in NumPy."""
    n = max(2, int(np.linalg.norm(b - a) / 0.05) + 2)
    p = a + np.linspace(0, 1, n)[:, None] * (b - a)
    best = np.inf
    for v in voxels:
        d = np.maximum(np.abs(p - v * spacing) - spacing / 2, 0.0)
        best = min(best, float(np.sqrt((d * d).sum(axis=1).min())))
    return best


@settings(max_examples=80, deadline=None)
@given(
    a=point,
    b=point,
    spacing=st.tuples(*[st.floats(0.4, 3.0)] * 3).map(np.array),
    seed=st.integers(0, 10_000),
)
def test_segment_to_voxels_equals_dense_sampling(a: Any, b: Any, spacing: Any, seed: int) -> None:
    voxels = np.random.default_rng(seed).integers(-6, 7, (25, 3))
    found, nearest = rays.segment_to_voxels(a, b, voxels, spacing)
    slow = slow_to_voxels(a, b, voxels, spacing)
    assert slow - 0.03 <= found <= slow + 1e-9
    inside = np.abs(nearest - voxels * spacing) <= spacing / 2 + 1e-9
    assert np.any(np.all(inside, axis=1))  # the nearest point belongs to a box
    assert rays.point_to_segment(nearest, a, b) == pytest.approx(found, abs=1e-6)


def test_segment_to_a_box_by_hand() -> None:
    one = np.array([[0, 0, 0]])
    spacing = np.array([2.0, 2.0, 2.0])
    # An edge of the box passed at a distance of (3 - 2) / sqrt 2.
    far, near = rays.segment_to_voxels(
        np.array([-10.0, 13, 0]), np.array([13.0, -10, 0]), one, spacing
    )
    assert far == pytest.approx(1 / np.sqrt(2), abs=1e-9)
    assert near == pytest.approx([1, 1, 0], abs=1e-9)
    assert rays.segment_to_voxels(np.zeros(3), np.full(3, 9.0), one, spacing)[0] == 0.0
    assert rays.segment_to_voxels(np.zeros(3), np.ones(3), one[:0], spacing)[0] == np.inf


@settings(max_examples=100, deadline=None)
@given(a0=point, a1=point, b0=point, b1=point)
def test_segment_to_segment_equals_a_fine_search(a0: Any, a1: Any, b0: Any, b1: Any) -> None:
    found = rays.segment_to_segment(a0, a1, b0, b1)
    t = np.linspace(0, 1, 400)[:, None]
    slow = min(rays.point_to_segment(p, b0, b1) for p in a0 + t * (a1 - a0))
    assert found <= slow + 1e-9
    assert found >= slow - np.linalg.norm(a1 - a0) / 399


def test_places_keep_every_point_once() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (500, 3))
    assert sorted(rays.by_place(points).tolist()) == list(range(500))


def test_warm_compiles_all_that_the_planner_calls() -> None:
    rays.warm()
    assert len(rays._screen_blocks.signatures) == 1
    assert len(rays._measure_blocks.signatures) == 1
