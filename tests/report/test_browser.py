"""The sheet in a real browser: quiet, within its width, printable, and its viewer opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsing
import pytest

from trocar.report import sheet as report
from trocar.report import viewer

pytestmark = pytest.mark.browser

_OVERFLOWING = """() => [...document.querySelectorAll('main *')].filter(e => {
  const r = e.getBoundingClientRect();
  const inside = r.right <= innerWidth + 1 && r.left >= -1;
  return r.width && !e.closest('svg, pre, .wide, script') && !inside;
}).map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""

_OVERLAPPING = """() => {
  const boxes = [...document.querySelectorAll('h1, h2, h3, table, figure, .verdict, .warnings')]
    .filter(e => e.getBoundingClientRect().height);
  const clash = [];
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
    if (a.contains(b) || b.contains(a)) return;
    const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    const w = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const h = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (w > 1 && h > 1) clash.push(a.textContent.slice(0, 30) + ' / ' + b.textContent.slice(0, 30));
  }));
  return clash;
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browsing.launched(*browsing.SOFTWARE_GL) as browser:
        yield browser


@pytest.fixture(scope="module", params=["en", "zh-Hant"])
def page(request, chromium, sheet, tmp_path_factory) -> Iterator[Any]:
    path: Path = tmp_path_factory.mktemp("browser") / f"plan-{request.param}.html"
    report.write_plan_sheet(path, **sheet.parts, language=request.param)
    tab = chromium.new_page(viewport={"width": 1280, "height": 900})
    tab.asked, tab.complaints = [], []
    tab.on("request", lambda r: tab.asked.append(r.url))
    tab.on("console", lambda m: tab.complaints.append(f"{m.type}: {m.text}"))
    tab.on("pageerror", lambda e: tab.complaints.append(str(e)))
    tab.goto(path.as_uri())
    yield tab
    tab.close()


def _outside(page: Any) -> list[str]:
    return [u for u in page.asked if not u.startswith(("file:", "data:", "blob:"))]


def test_the_page_is_quiet_and_asks_for_nothing(page) -> None:
    assert _outside(page) == []
    assert page.complaints == []
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


@pytest.mark.parametrize("width", [1280, 1024, 600])
def test_nothing_overflows_or_overlaps(page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(_OVERFLOWING) == []
        assert page.evaluate(_OVERLAPPING) == []
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})


def test_the_button_is_reached_by_the_keyboard(page) -> None:
    if viewer.assets() is None:
        pytest.skip("the interactive viewer was not installed")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "viewer-open":
            return
    pytest.fail("the viewer's button was not reached with the Tab key")


@pytest.mark.slow
def test_the_viewer_opens_and_asks_for_nothing(page) -> None:
    if viewer.assets() is None:
        pytest.skip("the interactive viewer was not installed")
    page.click("#viewer-open")
    page.wait_for_selector("#viewer[data-state]", timeout=90_000)
    assert page.get_attribute("#viewer", "data-state") == "ready"
    assert "mm" in page.inner_text("#viewer-where")
    assert _outside(page) == []
    assert page.complaints == []


def test_it_prints_on_a4_with_one_needle_per_opening(page, sheet) -> None:
    content = page.pdf(format="A4", prefer_css_page_size=True, print_background=True)
    count = content.count(b"/Type /Page\n") or content.count(b"/Type /Page ")
    assert content.count(b"MediaBox [0 0 595") or content.count(b"MediaBox [0 0 594")
    assert 1 + len(sheet.plan.options) <= count <= 4 + 3 * len(sheet.plan.options)
