"""Practising at the C-arm in a real browser: the clock, the space bar, the score."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any

import browsing
import made_training as drawn
import numpy as np
import pytest
from browsing import PASSWORD

from trocar.pathway.training import Training, make_training, score, write_training

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_FILL = """
from pathlib import Path
from trocar.web import serve
serve.prepare()
from trocar.io.records import example_study
from trocar.model.care import SimulationRun
from trocar.registry import store
from trocar.registry.models import MODELS
from trocar.web import cases, kept
serve.make_account("trainee", {password!r}, role="specialist", who="trocar", specialty="radiology")
store.take_in(example_study(), who="trocar", why="example")
lesion = MODELS["lesions"].objects.order_by("pk").first()
sha256 = kept.keep(Path({result!r}).read_bytes(), "zip").partition(".")[0]
record = SimulationRun(
    run_id="leak-1", lesion_id=lesion.lesion_id, kind="leak forecast", result_sha256=sha256
)
cases.save("runs", record, who="trocar", why="computed", study=lesion.study)
print(f"case/{{lesion.uid}}/training/{{sha256}}/")
"""
_OUTSIDE = """() => [...document.querySelectorAll('main *')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.width && !e.closest('.scroll, .visually-hidden, svg')
    && (r.right > innerWidth + 1 || r.left < -1);
}).map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""
# How many pixels of each view are coloured: grey alone before the stop.
_COLOURED = """() => [...document.querySelectorAll('figure canvas')].map(c => {
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let n = 0;
  for (let i = 0; i < d.length; i += 4) if (Math.abs(d[i] - d[i + 1]) > 8) n += 1;
  return n;
})"""


@pytest.fixture(scope="module")
def exercise() -> Training:
    case = drawn.case()
    return make_training(case, injection=case.injection, frames=25)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, exercise: Training) -> Iterator[str]:
    """The exercise's page on a running ``trocar serve``."""
    folder = tmp_path_factory.mktemp("practice")
    write_training(folder / "result", exercise)
    result = folder / "result.zip"
    with zipfile.ZipFile(result, "w") as archive:
        for place in sorted((folder / "result").iterdir()):
            archive.write(place, place.name)
    filling = _FILL.format(password=PASSWORD, result=str(result))
    with browsing.served(folder / "home", filling) as (address, told):
        yield address + told.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browsing.launched() as browser:
        yield browser


def opened(chromium: Any, address: str, **context: Any) -> tuple[Any, list[str]]:
    """The exercise in a tab that remembers what it complained of."""
    page = chromium.new_context(**context).new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(address)
    page.fill("[name=login]", "trainee")
    page.fill("[name=password]", PASSWORD)
    with page.expect_navigation():
        page.click("main form button")
    page.goto(address)
    return page, complaints


def faults(page: Any) -> list[str]:
    """What axe finds that is serious, and what sticks out of the page."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is missing"
    ).Axe()
    found = axe.run(page).response["violations"]
    serious = [f"{v['id']}: {n['html']}" for v in found for n in v["nodes"]
               if v["impact"] in ("serious", "critical")]  # fmt: skip
    return serious + list(page.evaluate(_OUTSIDE))


def test_a_trainee_watches_stops_and_is_told(
    chromium: Any, address: str, exercise: Training
) -> None:
    page, complaints = opened(chromium, address, viewport={"width": 1280, "height": 900})
    page.wait_for_selector("[data-start]:enabled")
    assert faults(page) == []
    assert page.evaluate(_COLOURED) == [0, 0, 0]
    page.uncheck("[name=view][value=barrel]")
    page.select_option("[data-speed]", "4")
    page.focus("[data-start]")
    page.keyboard.press("Enter")
    # Until the clock is past the moment from which the leak can be told.
    first = exercise.pane("lateral").told_s["epidural or canal"]
    assert first is not None
    page.wait_for_function(
        "s => { const [m, t] = document.querySelector('[data-clock]').value.split(':');"
        " return 60 * m + 1 * t >= s; }", arg=first + 2, timeout=60_000,
    )  # fmt: skip
    assert page.evaluate(_COLOURED) == [0, 0, 0]
    assert page.locator("[name=view][value=ap]").is_disabled()
    with page.expect_response("**/stop/") as answer:
        page.keyboard.press("Space")
    told = answer.value.json()["score"]
    page.wait_for_selector("#came-out")
    made = score(exercise, told["stopped_s"], views=["ap", "lateral"])
    assert (told["mark"], told["injected_ml"]) == (made.mark, made.injected_ml)
    assert page.inner_text("dd strong") == str(made.mark)
    assert "Only one view showed it: Lateral." in page.inner_text("#result")
    # Now the leak is marked in every view, the one that was off as well.
    assert min(page.evaluate(_COLOURED)) > 20
    assert faults(page) == []
    page.uncheck("[data-marks]")
    assert page.evaluate(_COLOURED) == [0, 0, 0]
    page.check("[data-marks]")
    page.focus("#moment")
    page.keyboard.press("End")
    outside = exercise.leaked_ml["epidural or canal"][-1]
    assert page.inner_text("[data-moment]").endswith(f"{outside:.2f} ml")
    page.keyboard.press("Home")
    assert page.evaluate(_COLOURED) == [0, 0, 0]
    page.focus("[data-again]")
    page.keyboard.press("Enter")
    assert page.inner_text("#result") == ""
    assert page.locator("[data-start]").is_enabled()
    assert complaints == []
    page.context.close()


@pytest.mark.parametrize("alarm", [True, False])
def test_the_alarm_tells_of_the_volume_not_to_pass_unless_it_is_off(
    chromium: Any, address: str, exercise: Training, alarm: bool
) -> None:
    page, complaints = opened(chromium, address, viewport={"width": 820, "height": 1100})
    page.wait_for_selector("[data-start]:enabled")
    assert faults(page) == []
    page.set_checked("[name=alarm]", alarm)
    page.select_option("[data-speed]", "4")
    page.click("[data-start]")
    at = float(exercise.age_s[np.argmax(np.array(exercise.alarm) == "stop")])
    state = "stop" if alarm else "silent"
    page.wait_for_selector(f".forecast.{state}", timeout=60_000, state="attached")
    if alarm:
        assert "The volume not to pass is reached." in page.inner_text(".forecast")
    with page.expect_response("**/stop/") as answer:
        page.click("button[data-stop]")
    stopped = answer.value.json()["score"]["stopped_s"]
    assert stopped >= at if alarm else stopped < at
    page.wait_for_selector("#came-out")
    assert faults(page) == []
    assert complaints == []
    page.context.close()


def test_without_a_script_there_are_stills(chromium: Any, address: str) -> None:
    page, _ = opened(chromium, address, java_script_enabled=False)
    assert not page.is_visible("#exercise")
    page.click("noscript a")
    assert page.locator(".stills img").count() == 15
    assert page.locator("tbody tr").count() == 25
    page.context.close()
