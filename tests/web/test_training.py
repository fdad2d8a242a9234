"""Practising in the browser: nothing of the leak before the stop, all of it after, in the library's
own numbers."""

from __future__ import annotations

import html
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import browsing
import made_training as drawn
import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image
from sheets_sent import client_of, hong_kong

from trocar.io.exports import plain
from trocar.model.care import SimulationRun
from trocar.pathway.training import KEYS, Training, make_training, score, write_training
from trocar.registry.models import MODELS, ChainEvent
from trocar.web import cases, kept
from trocar.web.pages import training
from trocar.web.pages.training import safe_curve

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def exercise() -> Training:
    case = drawn.case()
    return make_training(case, injection=case.injection, frames=13)


@pytest.fixture(scope="module")
def result(exercise: Training) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_training(folder, exercise)
        return packed(Path(folder))


def packed(folder: Path) -> bytes:
    """A folder as the zip in which a result is kept."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for place in sorted(folder.iterdir()):
            archive.write(place, place.name)
    return out.getvalue()


@pytest.fixture(autouse=True)
def _place(settings: Any, tmp_path: Path) -> None:
    settings.KEPT_FILES = str(tmp_path / "kept")


def keep(lesion: Any, data: bytes) -> str:
    sha256 = kept.keep(data, "zip").partition(".")[0]
    record = SimulationRun(
        run_id=f"leak-{sha256[:8]}", lesion_id=lesion.lesion_id, kind="leak forecast",
        result_sha256=sha256,
    )  # fmt: skip
    cases.save("runs", record, who="trocar", why="computed", study=lesion.study)
    return sha256


@pytest.fixture
def lesion() -> Any:
    return hong_kong()


@pytest.fixture
def sha256(lesion: Any, result: bytes) -> str:
    return keep(lesion, result)


@pytest.fixture
def trainee() -> Iterator[Client]:
    return client_of("specialist-1", "specialist")


def send(client: Client, lesion: Any, sha256: str, **sent: Any) -> Any:
    return client.post(reverse("training-stop", args=[lesion.uid, sha256]), sent)


def test_before_the_stop_the_browser_knows_frames_times_and_alarm_alone(
    trainee: Client, lesion: Any, sha256: str, exercise: Training
) -> None:
    page = trainee.get(reverse("training", args=[lesion.uid, sha256]))
    text = html.unescape(page.content.decode())
    shown = json.loads(
        re.search(r'data-frames="(.*?)"\n', page.content.decode())[1].replace("&quot;", '"')
    )  # type: ignore[index]
    assert set(shown) == {"age_s", "injected_ml", "alarm", "chance"}
    assert shown["age_s"] == exercise.age_s.tolist()
    assert shown["alarm"] == list(exercise.alarm)
    for secret in (drawn.CANAL, "training-truth", "told_s", "leaked_ml", "outside_ml"):
        assert secret not in text
    for key, (left, top, right, bottom) in zip(
        KEYS, [p.letters for p in exercise.panes], strict=True
    ):
        figure = text[text.index(f'data-view="{key}"') :]
        for edge, letter in (("left", left), ("top", top), ("right", right), ("bottom", bottom)):
            assert (
                f'<span class="letter {edge}">{letter}</span>' in figure.partition("</figure>")[0]
            )
        strip = trainee.get(reverse("training-strip", args=[lesion.uid, sha256, key]))
        assert strip["Content-Type"] == "image/png"
        with Image.open(io.BytesIO(strip.content)) as image:
            values = np.asarray(image).reshape(13, 256, 256)
        np.testing.assert_array_equal(values, exercise.pictures(key))
    assert "style=" not in text
    assert not re.search(r"<script(?![^>]*src=)", text)


@pytest.mark.parametrize("stop", ["", "150.004", "163.317", "175.61", "400"])
def test_the_score_is_the_librarys_to_the_last_digit(
    trainee: Client, lesion: Any, sha256: str, exercise: Training, stop: str
) -> None:
    answer = send(trainee, lesion, sha256, stopped_s=stop, view=list(KEYS), alarm="on")
    made = score(exercise, float(stop) if stop else None)
    told = answer.json()
    assert told["score"] == json.loads(json.dumps(plain(made)))
    assert f"<strong>{made.mark}</strong> / 100" in told["html"]
    assert f"{made.injected_ml:.2f} ml" in told["html"]
    assert f"{made.outside_ml:.2f} ml" in told["html"]
    assert ("Only one view showed it: Lateral." in told["html"]) == (made.only_view == "lateral")
    for loss in (k for k in made.losses if k.points >= 0.05):
        assert f"{loss.amount:.2f} {loss.unit}" in told["html"]


def test_with_views_off_the_others_are_told_of(
    trainee: Client, lesion: Any, sha256: str, exercise: Training
) -> None:
    told = send(trainee, lesion, sha256, stopped_s="200", view=["ap"]).json()
    assert told["score"] == json.loads(json.dumps(plain(score(exercise, 200.0, views=["ap"]))))
    assert told["score"]["word"] == "unseen"
    assert "A leak went unseen." in told["html"]
    sooner = 200.0 - score(exercise, 200.0).told_s  # type: ignore[operator]
    assert f"could have been told {sooner:.1f} s earlier" in told["html"]


def test_the_truth_comes_with_the_score(
    trainee: Client, lesion: Any, sha256: str, exercise: Training
) -> None:
    truth = send(trainee, lesion, sha256, stopped_s="150", view=list(KEYS)).json()["truth"]
    np.testing.assert_array_equal(truth["outside_ml"], exercise.leaked_ml[drawn.CANAL])
    for key in KEYS:
        assert truth["marks"][key].startswith("data:image/png;base64,")
        places = truth["places"][key]
        assert places[0] == []
        ((number, row, column),) = places[-1]
        rows, columns = np.nonzero(exercise.truth(key)[-1])
        assert number == 1
        assert (row, column) == (round(rows.mean(), 1), round(columns.mean(), 1))


def test_what_cannot_be_scored_is_said(trainee: Client, lesion: Any, sha256: str) -> None:
    for sent in (
        {"stopped_s": "soon", "view": ["ap"]}, {"stopped_s": "nan", "view": ["ap"]},
        {"stopped_s": "150"}, {"stopped_s": "150", "view": ["oblique"]},
    ):  # fmt: skip
        answer = send(trainee, lesion, sha256, **sent)
        assert answer.status_code == 422
        assert answer.json()["error"]
    assert not ChainEvent.objects.filter(kind="train").exists()


def test_practising_is_logged_and_nothing_else_is_kept(
    trainee: Client, lesion: Any, sha256: str
) -> None:
    before = {table: model.objects.count() for table, model in MODELS.items()}
    trainee.get(reverse("training", args=[lesion.uid, sha256]))
    send(trainee, lesion, sha256, stopped_s="175.55", view=["ap", "lateral"], alarm="on")
    assert {table: model.objects.count() for table, model in MODELS.items()} == before
    seen, trained = ChainEvent.objects.order_by("-number")[:2][::-1]
    row = MODELS["runs"].objects.get(result_sha256=sha256)
    assert (seen.kind, trained.kind) == ("view", "train")
    assert trained.subject == f"runs:{row.uid}"
    assert trained.who == "specialist-1"
    assert json.loads(trained.detail) == {
        "word": "late", "mark": json.loads(trained.detail)["mark"], "stopped_s": 175.6,
        "views": ["ap", "lateral"], "alarm": True,
    }  # fmt: skip


def test_without_a_script_there_are_stills_and_a_table(
    trainee: Client, lesion: Any, sha256: str, exercise: Training
) -> None:
    page = trainee.get(reverse("training", args=[lesion.uid, sha256])).content.decode()
    at = reverse("training-stills", args=[lesion.uid, sha256])
    assert f'<noscript><p class="alert caution">' in page  # noqa: F541
    assert at in page
    text = trainee.get(at).content.decode()
    assert text.count("<tr>") == 1 + 13
    for ml in exercise.leaked_ml[drawn.CANAL]:
        assert f'<td class="number">{ml:.2f}</td>' in text
    stills = re.findall(r'<img src="([^"]+)"', text)
    assert len(stills) == 15
    with Image.open(io.BytesIO(trainee.get(stills[9]).content)) as image:  # lateral, the last
        values = np.asarray(image)
    here = exercise.truth("lateral")[-1] > 0
    grey = values[..., 0] == values[..., 1]
    assert not grey[here].any()
    assert grey[~here].all()


def test_where_nothing_leaked_at_the_stop_nothing_looks_like_an_alarm(
    trainee: Client, lesion: Any, sha256: str, exercise: Training
) -> None:
    def rows(stopped_s: float) -> tuple[str, str]:
        sent = send(trainee, lesion, sha256, stopped_s=stopped_s, view=list(KEYS)).json()
        return re.search(r"<tbody>(.*?)</tbody>", sent["html"])[1], sent["html"]  # type: ignore[index]

    assert score(exercise, 130.0).outside_ml == 0
    row, page = rows(130.0)
    assert drawn.CANAL in row  # its mark is drawn in later frames
    assert '<td class="number">0.00</td>' in row
    assert '"stop"' not in row
    assert "pill stop" not in row
    assert "No cement was outside the bone." in page
    row, page = rows(230.0)
    assert '<tr class="stop">' in row
    assert "pill stop" in row
    assert "No cement was outside the bone." not in page


def test_volumes_that_are_printed_the_same_are_told_once(
    trainee: Client, lesion: Any, exercise: Training, tmp_path: Path
) -> None:
    same = replace(exercise, low_ml=2.3, target_ml=2.32, stop_ml=2.34)
    for number, (made, said) in enumerate(
        [
            (same, "Stop it in time: 2.3 ml are wanted, and no more.</p>"),
            (replace(same, stop_ml=2.4), "2.3 ml at the least. The volume not to pass is 2.4 ml."),
            (replace(same, low_ml=2.0), "2.0 ml at the least. The volume not to pass is 2.3 ml."),
            (replace(same, stop_ml=None), "2.3 ml at the least. No volume was called safe."),
        ]
    ):
        write_training(tmp_path / f"{number}", made)
        sha256 = keep(lesion, packed(tmp_path / f"{number}"))
        page = trainee.get(reverse("training", args=[lesion.uid, sha256])).content.decode()
        assert said in page


@pytest.mark.browser
@pytest.mark.slow
def test_looking_back_begins_at_the_frame_nearest_to_the_stop(
    trainee: Client, lesion: Any, sha256: str, exercise: Training
) -> None:
    """Without a server: what it would answer was asked before."""
    at = reverse("training", args=[lesion.uid, sha256])
    page = trainee.get(at).content.decode()
    answer = send(trainee, lesion, sha256, stopped_s="130", view=list(KEYS)).content
    strips = {
        address: trainee.get(address).content
        for key in KEYS
        for address in [reverse("training-strip", args=[lesion.uid, sha256, key])]
    }
    script = (Path(training.__file__).parents[1] / "static/trocar/training.js").read_text()
    sent: list[str] = []

    def serve(route: Any) -> None:
        where = urlsplit(route.request.url).path
        if where == at:
            route.fulfill(body=page, content_type="text/html")
        elif where in strips:
            route.fulfill(body=strips[where], content_type="image/png")
        elif where.endswith("/training.js"):
            route.fulfill(body=script, content_type="text/javascript")
        elif where.endswith("/stop/"):
            sent.append(route.request.post_data)
            route.fulfill(body=answer, content_type="application/json")
        else:
            route.abort()

    with browsing.launched() as chromium:
        tab = chromium.new_page()
        tab.route("**/*", serve)
        tab.goto(f"http://trocar.test{at}")
        tab.wait_for_selector("[data-start]:enabled")
        tab.select_option("[data-speed]", "4")
        tab.click("[data-start]")
        late = exercise.age_s[0] + 0.6 * (exercise.age_s[1] - exercise.age_s[0])
        tab.wait_for_function(
            "s => { const [m, t] = document.querySelector('[data-clock]').value.split(':');"
            " return 60 * m + 1 * t >= s; }", arg=float(late),
        )  # fmt: skip
        tab.click("button[data-stop]")
        tab.wait_for_selector(".replay:not([hidden])")
        shown = int(tab.input_value("#moment"))
    stopped = float(re.search(r'name="stopped_s"\s+([\d.]+)', sent[0])[1])  # type: ignore[index]
    assert stopped >= late
    assert shown == np.abs(exercise.age_s - stopped).argmin()


def test_the_curve_of_safe_millilitres_is_the_forecasts(exercise: Training) -> None:
    curve = safe_curve(exercise, 2.75)
    forecast = drawn.case().forecast
    steps = re.findall(r"H([\d.]+) V([\d.]+)", curve["alarms"])
    at = (np.array([float(x) for x, _ in steps]) - 48) / (620 - 48) * 6.0
    share = (220 - np.array([float(y) for _, y in steps])) / (220 - 26)
    exact = exercise.safe["injected_ml"][1:]
    np.testing.assert_allclose(at, exact, atol=0.01)
    np.testing.assert_allclose(share, forecast.chance(exact, drawn.CANAL), atol=1e-3)
    assert curve["said"] == "target 2.5 ml; not to pass 3.0 ml; given 2.8 ml"


def test_a_result_of_another_lesion_or_without_an_exercise_is_not_there(
    trainee: Client, lesion: Any, sha256: str, tmp_path: Path
) -> None:
    other = MODELS["lesions"].objects.get(lesion_id="2")
    names = ("training", "training-stills", "training-stop")
    for name in names:
        method = trainee.post if name == "training-stop" else trainee.get
        assert method(reverse(name, args=[other.uid, sha256])).status_code == 404
    for key in ("ap-truth", "training", "ap2"):
        at = reverse("training-strip", args=[lesion.uid, sha256, key])
        assert trainee.get(at).status_code == 404
    assert (
        trainee.get(reverse("training-still", args=[lesion.uid, sha256, "ap", 13])).status_code
        == 404
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "cement.json").write_text("{}")
    bare = keep(lesion, packed(tmp_path / "empty"))
    assert trainee.get(reverse("training", args=[lesion.uid, bare])).status_code == 404


def test_a_stop_is_asked_for_by_post(trainee: Client, lesion: Any, sha256: str) -> None:
    assert trainee.get(reverse("training-stop", args=[lesion.uid, sha256])).status_code == 405
    researcher = client_of("researcher-1", "researcher")
    assert researcher.get(reverse("training", args=[lesion.uid, sha256])).status_code == 403
    assert send(researcher, lesion, sha256, stopped_s="150", view="ap").status_code == 403


def test_an_exercise_without_a_leak_says_so(trainee: Client, lesion: Any, tmp_path: Path) -> None:
    case = drawn.case()
    fill = replace(case.injection.fill, leaks=())
    dry = replace(case.injection, fill=fill, leaked_ml={})
    exercise = make_training(case, injection=dry, frames=4)
    write_training(tmp_path / "dry", exercise)
    sha256 = keep(lesion, packed(tmp_path / "dry"))
    told = send(trainee, lesion, sha256, stopped_s="165", view=list(KEYS)).json()
    assert told["score"]["word"] == "enough"
    assert "No cement was outside the bone." in told["html"]
    stills = trainee.get(reverse("training-stills", args=[lesion.uid, sha256])).content.decode()
    assert "No cement leaves the bone." in stills
