"""An injection to practise on: what is shown, when a leak can be told, what a stop is worth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import made_training as drawn
import numpy as np
import pytest

from trocar.errors import InputError
from trocar.pathway import training as practice
from trocar.pathway.training import (
    Training,
    make_training,
    read_training,
    score,
    signal_to_noise,
    training_from,
    write_training,
)

FRAMES = 25  # 5 s and 0.25 ml apart


@pytest.fixture(scope="module")
def exercise() -> Training:
    case = drawn.case()
    return make_training(case, injection=case.injection, frames=FRAMES)


def told(exercise: Training, key: str) -> float | None:
    return exercise.pane(key).told_s[drawn.CANAL]


def points(made: practice.Score) -> dict[str, float]:
    return {loss.what: loss.points for loss in made.losses}


# --- when a leak can be told ---------------------------------------------------------------------


def test_a_leak_behind_the_body_is_told_in_the_lateral_view_alone(exercise: Training) -> None:
    assert told(exercise, "ap") is None
    assert told(exercise, "barrel") is None
    first = told(exercise, "lateral")
    assert first is not None
    # From the frame on which it holds the 0.05 ml that an operator sees.
    at = exercise.leaked_ml[drawn.CANAL]
    assert first == exercise.age_s[np.argmax(at >= 0.05)]
    made = score(exercise, first + 1.0)
    assert made.told_in == {drawn.CANAL: ("lateral",)}
    assert made.only_view == "lateral"


def test_a_leak_beside_the_body_is_told_in_the_ap_view_too() -> None:
    case = drawn.case()
    turned = drawn.ball(case.planned.anatomy)
    # The same ball, called a leak where it comes out at the side of a narrower body.
    anatomy = case.planned.anatomy
    points = anatomy.grid.to_world(np.moveaxis(np.indices(anatomy.grid.shape), 0, -1))
    narrow = (points[..., 0] < -3.0) & anatomy.bone.values
    body = replace(anatomy.bone, values=narrow)
    case = replace(
        case,
        planned=replace(
            case.planned, anatomy=replace(anatomy, regions={"vertebral_body": body}, bone=body)
        ),
    )
    share = turned.fill.fraction
    here = share.grid.to_world(np.moveaxis(np.indices(share.grid.shape), 0, -1))[..., 0] > 0
    leak = replace(turned.fill.leaks[0], mask=replace(turned.fill.leaks[0].mask, values=here))
    grown = np.array(
        [(here & (turned.order_ml.values <= v)).sum() / 1000 for v in turned.injected_ml + 1e-6]
    )
    turned = replace(
        turned, fill=replace(turned.fill, leaks=(leak,)), leaked_ml={drawn.CANAL: grown}
    )
    made = make_training(case, injection=turned, frames=FRAMES)
    assert told(made, "ap") is not None


def test_signal_is_the_lost_photons_over_their_noise(exercise: Training) -> None:
    from trocar.model.result import View
    from trocar.simulation.cine import MovingView
    from trocar.simulation.fluoroscopy import photons

    rest = np.ones((8, 8), np.float32)
    view = View(
        name="AP", image=rest, source_mm=np.zeros(3), detector_mm=np.array([0, 100.0, 0]),
        row_step_mm=np.array([0, 0, -0.5]), column_step_mm=np.array([0.5, 0, 0]),
    )  # fmt: skip
    leak = np.zeros((1, 8, 8), np.float32)
    leak[0, 2:4, 2:5] = 0.3
    moving = MovingView(
        view=view, metal=(np.zeros_like(rest),), kept=np.zeros_like(leak), leaked={"x": leak}
    )
    count = float(photons(rest, view)[0, 0])
    free = np.ones((8, 8), bool)
    expected = np.sqrt(6 * count) * (1 - np.exp(-0.3))
    assert signal_to_noise(moving, "x", 0, free) == pytest.approx(expected, rel=1e-5)
    free[2, 2:5] = False  # half of it lies within the body's shadow
    assert signal_to_noise(moving, "x", 0, free) == pytest.approx(expected / np.sqrt(2), rel=1e-5)
    hidden = replace(moving, kept=np.full_like(leak, 0.5))  # in front of cement in the bone
    assert signal_to_noise(hidden, "x", 0, np.ones((8, 8), bool)) == 0.0


def test_the_marks_lie_where_the_leak_is(exercise: Training) -> None:
    for key in practice.KEYS:
        truth = exercise.truth(key)
        assert truth.shape == exercise.pictures(key).shape == (FRAMES, 256, 256)
        assert not truth[0].any()
        assert set(np.unique(truth[-1])) == {0, 1}
    # In the lateral view the leak lies behind the wall: to the image's right of it.
    rows, columns = np.nonzero(exercise.truth("lateral")[-1])
    per = exercise.pane("lateral").mm_per_px
    wall = 127.5 + (drawn.WALL_MM - drawn.TIP_MM[1]) / per
    assert columns.min() >= wall - 3 / per
    assert columns.max() > wall + 3 / per
    assert abs(rows.mean() - 127.5) < 2


def test_the_frames_show_what_is_injected_and_the_alarm(exercise: Training) -> None:
    np.testing.assert_allclose(
        exercise.injected_ml, drawn.ML_PER_S * (exercise.age_s - drawn.START_S), atol=1e-9
    )
    assert exercise.alarm[12] == "stop"  # at 3 ml
    assert set(exercise.alarm[:12]) == {"ok"}
    np.testing.assert_allclose(exercise.safe["alarms"][[0, -1]], [0.0, 0.75])
    assert exercise.safe["injected_ml"][-1] == 6.0


# --- what a stop is worth ------------------------------------------------------------------------


def test_stopped_in_time(exercise: Training) -> None:
    first = told(exercise, "lateral")
    assert first is not None
    made = score(exercise, first + 1.5)
    assert (made.word, made.reaction_s) == ("in time", 1.5)
    given = drawn.ML_PER_S * (first + 1.5 - drawn.START_S)
    assert made.injected_ml == pytest.approx(given)
    fresh = made.outside_ml - made.before_ml[drawn.CANAL]
    assert fresh > 0
    assert points(made) == pytest.approx({"alarm": 100 * fresh})
    assert made.mark == round(100 - 100 * fresh)


def test_stopped_late_loses_by_the_second_and_by_the_ml(exercise: Training) -> None:
    first = told(exercise, "lateral")
    assert first is not None
    made = score(exercise, first + 12.0)
    assert made.word == "late"
    fresh = made.leaked_ml[drawn.CANAL] - made.before_ml[drawn.CANAL]
    expected = {"reaction": 2.0 * 10.0, "alarm": 100 * fresh}
    assert points(made) == pytest.approx(expected)
    assert made.mark == round(100 - sum(expected.values()))


def test_nobody_stopped(exercise: Training) -> None:
    end = float(exercise.age_s[-1])
    for stop in (None, end, end + 100):
        made = score(exercise, stop)
        assert (made.word, made.stopped, made.stopped_s) == ("not stopped", False, end)
        assert made.reaction_s is None
        assert made.mark == 0
        assert points(made)["over"] == pytest.approx(10 * (6.0 - 3.0 - 0.25))


def test_stopped_too_early(exercise: Training) -> None:
    made = score(exercise, 130.0)
    assert (made.word, made.told_s) == ("too early", None)
    assert points(made) == pytest.approx({"short": 100 * (2.0 - 0.5) / 2.0})
    assert made.mark == 25
    assert score(exercise, 3.0).injected_ml == 0.0
    assert score(exercise, 3.0).mark == 0


def test_who_switches_a_view_off_answers_for_what_it_would_have_shown(exercise: Training) -> None:
    first = told(exercise, "lateral")
    assert first is not None
    made = score(exercise, 175.0, views=["ap"])  # 2.75 ml are in, and some in the canal
    assert (made.word, made.told_s, made.any_s) == ("unseen", None, first)
    assert made.before_ml == score(exercise, 175.0).before_ml
    fresh = made.outside_ml - made.before_ml[drawn.CANAL]
    assert fresh > 0
    assert points(made) == pytest.approx({"alarm": 100 * fresh})
    assert made.mark == round(100 - 100 * fresh)
    assert score(exercise, 200.0, views=["ap", "barrel"]).word == "unseen"
    assert score(exercise, 175.0).word == "late"


def test_a_leak_that_no_view_has_told_yet_costs_nothing(exercise: Training) -> None:
    first = told(exercise, "lateral")
    assert first is not None
    made, every = score(exercise, first - 0.1, views=["ap"]), score(exercise, first - 0.1)
    assert (made.word, made.mark) == (every.word, every.mark)
    assert made.before_ml == made.leaked_ml


def test_the_least_wanted_volume_has_a_hands_tolerance(exercise: Training) -> None:
    # 1.75 ml are within a quarter of a millilitre of the 2 that are wanted at the least.
    assert score(exercise, 155.01, views=["ap"]).word == "enough"
    assert score(exercise, 154.9, views=["ap"]).word == "too early"


def test_a_leak_elsewhere_costs_less() -> None:
    case = drawn.case(name=drawn.SOFT)
    exercise = make_training(case, injection=case.injection, frames=FRAMES)
    first = exercise.pane("lateral").told_s[drawn.SOFT]
    assert first is not None
    made = score(exercise, first + 2.0)
    fresh = made.leaked_ml[drawn.SOFT] - made.before_ml[drawn.SOFT]
    assert points(made) == pytest.approx({"leak": 25 * fresh})


def test_where_no_volume_is_safe_the_plans_limit_counts() -> None:
    case = drawn.case(stop_ml=None)
    exercise = make_training(case, injection=case.injection, frames=FRAMES)
    assert exercise.most_ml == 3.5
    assert set(exercise.alarm) == {"unknown"}
    assert points(score(exercise, None))["over"] == pytest.approx(10 * (6.0 - 3.5 - 0.25))


def test_what_cannot_be_scored_is_refused(exercise: Training) -> None:
    with pytest.raises(InputError, match="no view was on"):
        score(exercise, 150.0, views=[])
    with pytest.raises(InputError, match="there is no view 'oblique'"):
        score(exercise, 150.0, views=["oblique"])
    for wrong in (float("nan"), float("inf"), -1.0):
        with pytest.raises(InputError, match="expected the cement's age"):
            score(exercise, wrong)


# --- as files ------------------------------------------------------------------------------------


def test_an_exercise_is_kept_to_the_last_digit(exercise: Training, tmp_path: Path) -> None:
    files = write_training(tmp_path, exercise)
    assert set(files) == {"training", *exercise.strips}
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 8e6
    again = read_training(tmp_path)
    for stop in (None, 130.0, 161.3, 177.77):
        assert score(again, stop) == score(exercise, stop)
    for key in practice.KEYS:
        np.testing.assert_array_equal(again.truth(key), exercise.truth(key))
        np.testing.assert_array_equal(again.pictures(key), exercise.pictures(key))
    assert again.panes == exercise.panes
    other = tmp_path / "other"
    write_training(other, again)
    for place in files.values():
        assert (other / place.name).read_bytes() == place.read_bytes()
    assert json.loads(files["training"].read_text())["notice"].startswith("Research use only")


def test_the_same_case_gives_the_same_bytes(exercise: Training, tmp_path: Path) -> None:
    case = drawn.case()
    again = make_training(case, injection=case.injection, frames=FRAMES)
    one, two = write_training(tmp_path / "1", exercise), write_training(tmp_path / "2", again)
    assert {n: p.read_bytes() for n, p in one.items()} == {
        n: p.read_bytes() for n, p in two.items()
    }


def test_a_folder_without_a_whole_exercise_is_refused(exercise: Training, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training\.json is missing"):
        read_training(tmp_path)
    files = write_training(tmp_path, exercise)
    told = json.loads(files["training"].read_text())
    for wrong in (
        {**told, "format": "trocar training 9"}, {**told, "files": ["../secret"]},
        {**told, "alarm": ["loud"]}, {k: v for k, v in told.items() if k != "panes"}, [],
    ):  # fmt: skip
        with pytest.raises(InputError):
            training_from(json.dumps(wrong).encode())
    files["training-ap.png"].unlink()
    with pytest.raises(InputError, match=r"training-ap\.png is missing"):
        read_training(tmp_path)


# --- from a plan ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_synthetic_patient_makes_an_exercise_that_leaks_into_the_canal() -> None:
    from trocar.model.result import Scan
    from trocar.pathway import plan_lesion
    from trocar.pathway.cement import cement_lesion
    from trocar.phantom import make

    patient = make("vertebra_l3")
    scan = Scan(volume=patient.ct, name="phantom", sha256="0" * 64)
    planned = plan_lesion(
        scan, patient.site, labels=patient.labels, lesion_mask=patient.lesion, count=1
    )
    case = cement_lesion(planned, runs=4)
    heard: list[float] = []
    exercise = make_training(case, progress=lambda _step, f: heard.append(f))
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    # It goes on beyond the volume not to pass, which the plan itself does not.
    assert exercise.stop_ml is not None
    assert exercise.injected_ml[-1] > 1.2 * exercise.stop_ml
    assert case.injection.injected_ml[-1] <= exercise.stop_ml + 1e-6
    assert exercise.marked == (drawn.CANAL,)
    assert exercise.pane("lateral").told_s[drawn.CANAL] is not None
    assert exercise.pane("ap").told_s[drawn.CANAL] is None
    assert "stop" in exercise.alarm
    assert sum(len(data) for data in exercise.strips.values()) < 8e6
    at = float(np.interp(exercise.target_ml, exercise.injected_ml, exercise.age_s))
    assert score(exercise, at).mark == 100
