"""The workbench in a real browser: sides, a needle under the mouse, the brush, and no WebGL."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import browsing
import numpy as np
import pytest
from browsing import TABLET, WIDE

from trocar.model.space import Grid, Mask
from trocar.report import viewer
from trocar.web import strokes

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MARK_MM = (12.0, -8.0, 10.0)  # to the patient's left, to the front, to the head
_FILL = """
import numpy as np
from trocar.web import serve
serve.prepare()
from dataclasses import replace
from trocar import phantom
from trocar.io.records import example_study
from trocar.model.care import Imaging
from trocar.model.result import Scan
from trocar.model.space import Grid, Volume
from trocar.pathway import edits
from trocar.phantom.files import as_scan
from trocar.registry import store
from trocar.registry.models import MODELS
from trocar.web import bench, cases

for name in ("radiologist", "surgeon"):
    serve.make_account(name, {password!r}, role="radiologist", who="trocar", specialty="radiology")
store.take_in(example_study(), who="trocar", why="example")
first, second = MODELS["lesions"].objects.order_by("pk")[:2]

def keep(lesion, scan, name, purpose):
    image = Imaging(
        image_id=name, lesion_id=lesion.lesion_id, modality="CT", purpose=purpose,
        date="2026-11-20", sha256=bench.keep_image(scan),
    )
    cases.save("images", image, who="radiologist", why="added", study=lesion.study)

made = phantom.make("vertebra_l3", spacing_mm=(2.0, 1.6, 1.6))
case = edits.outlined(
    as_scan(made), made.site, labels=made.labels, lesion_mask=made.lesion, case_id="one"
)
case = edits.searched(case, count=2)
keep(first, case.scan, "before", "planning")
bench.keep_version(first, case, who="radiologist", why="drawn", parent=None)

grid = Grid.from_spacing((64, 64, 64), (2.0, 2.0, 2.0), (-63.0, -63.0, -63.0))
points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
ball = np.linalg.norm(points - {mark!r}, axis=-1) < 7
values = np.where(ball, 1400, 30).astype(np.int16)
marked = Scan(volume=Volume(grid=grid, values=values), name="marked", sha256="2" * 64)
keep(second, marked, "marked", "planning")
keep(second, replace(marked, sha256="3" * 64), "marked-after", "after")
print(first.uid, second.uid)
"""
_OUTSIDE = """() => [...document.querySelectorAll('main *')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.width && !e.closest('.scroll, .visually-hidden, svg, .bench-side')
    && (r.right > innerWidth + 1 || r.left < -1);
}).map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""
# What stands over a letter of orientation.
_COVERED = """pane => {
  const el = document.querySelector(pane);
  const box = el.getBoundingClientRect();
  const middle = [box.left + box.width / 2, box.top + 12];
  return [...el.querySelectorAll('.pane-title, .step')].filter(e => {
    const r = e.getBoundingClientRect();
    return r.left < middle[0] + 9 && r.right > middle[0] - 9 && r.top < middle[1] + 9;
  }).map(e => e.textContent);
}"""
# What the page paints of strokes on a grid of its own.
_PAINTED = """async ({ strokes, dims, steps, origin }) => {
  const own = document.querySelector('script[src*="/bench."]').src;
  const { NiivueStage } = await import(own.replace('/bench.', '/bench-niivue.'));
  const drawBitmap = new Uint8Array(dims[0] * dims[1] * dims[2]);
  const stage = { nv: { drawBitmap }, drawingGrid: () => ({ dims, steps, origin }) };
  for (const stroke of strokes) NiivueStage.prototype.lay.call(stage, stroke);
  return [...drawBitmap];
}"""
_LONG = 120_000  # ms; a machine without a graphics card compiles shaders for a while


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running site and the pages of its two lesions."""

    address: str
    planned: str
    marked: str


@dataclass(kw_only=True)
class Tab:
    """A tab of a browser that remembers what it complained of."""

    page: Any
    site: Site
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str, *, solid: bool = False) -> None:
        self.page.goto(self.site.address + path)
        self.page.wait_for_selector("#bench[data-state=ready]", timeout=_LONG)
        if solid:
            self.page.wait_for_selector("#bench[data-solid=ready]", timeout=_LONG)

    def box(self, selector: str) -> dict[str, float]:
        found: dict[str, float] = self.page.locator(selector).first.bounding_box()
        return found

    def middle(self, selector: str) -> tuple[float, float]:
        self.page.locator(selector).first.scroll_into_view_if_needed()
        b = self.box(selector)
        return b["x"] + b["width"] / 2, b["y"] + b["height"] / 2

    def where(self) -> str:
        return str(self.page.locator("#where").inner_text())

    def press(self, key: str, times: int = 1) -> None:
        self.page.focus("#stage")
        for _ in range(times):
            self.page.keyboard.press(key)

    def measured(self) -> None:
        """Wait until the numbers are those of the needle as it lies."""
        self.page.wait_for_timeout(60)
        self.page.wait_for_selector("#bench[data-asking=no]")

    def drag(self, start: tuple[float, float], by: tuple[float, float], steps: int = 8) -> None:
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(start[0] + by[0], start[1] + by[1], steps=steps)


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    with browsing.launching() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, launch: Callable[..., Any]) -> Iterator[Site]:
    filling = _FILL.format(password=browsing.PASSWORD, mark=MARK_MM)
    with browsing.served(tmp_path_factory.mktemp("bench"), filling) as (address, told):
        planned, marked = told.split()[-2:]
        yield Site(
            address=address, planned=f"case/{planned}/bench/", marked=f"case/{marked}/bench/"
        )


@pytest.fixture(scope="module")
def browsers(site: Site, launch: Callable[..., Any]) -> Callable[..., Tab]:
    """Tabs with and without WebGL, logged in."""

    def tab(name: str = "radiologist", *, webgl: bool = True, **context: Any) -> Tab:
        browser = launch(*(browsing.SOFTWARE_GL if webgl else browsing.NO_GL))
        page = browser.new_context(**({"viewport": WIDE} | context)).new_page()
        made = Tab(page=page, site=site)
        page.set_default_timeout(_LONG)
        page.on("dialog", lambda d: d.accept())
        page.on("pageerror", lambda e: made.complaints.append(str(e)))
        page.on(
            "console",
            lambda m: made.complaints.append(m.text) if m.type in ("error", "warning") else None,
        )
        browsing.logged_in(page, site.address, name)
        return made

    return tab


# --- Which side is which --------------------------------------------------------------------------


def brightest(page: Any, box: dict[str, float]) -> tuple[float, float]:
    """Where in a pane the largest white thing is: pixels right of and below its middle."""
    from PIL import Image
    from scipy.ndimage import label

    shot = Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")
    white = np.asarray(shot).min(axis=-1) > 200
    parts, count = label(white)
    sizes = np.bincount(parts.ravel())[1:]
    assert count
    rows, columns = np.nonzero(parts == 1 + int(np.argmax(sizes)))
    assert sizes.max() > 200  # the ball, and no letter
    return float(columns.mean()) - box["width"] / 2, float(rows.mean()) - box["height"] / 2


def letters(page: Any, pane: str) -> dict[str, str]:
    return {
        edge: page.locator(f"{pane} .marks .letter.{edge}").inner_html()
        for edge in ("left", "top", "right", "bottom")
    }


SIDES = {
    "axial": ("R", "A", "L", "P", 0, 1, 1),
    "coronal": ("R", "H", "L", "F", 0, 2, -1),
    "sagittal": ("A", "H", "P", "F", 1, 2, -1),
}


def check_sides(tab: Tab, stage: str, *, drawn: bool) -> None:
    """The ball lies where the letters say it does, on every pane of a stage."""
    for plane, (left, top, right, bottom, across, down, sign) in SIDES.items():
        pane = f"{stage} .pane[data-plane={plane}]"
        box = tab.box(pane)
        x, y = brightest(tab.page, box)
        scale = min(box["width"], box["height"]) / 130  # pixels in a mm, about
        assert x / scale == pytest.approx(MARK_MM[across], abs=4), plane
        assert y / scale == pytest.approx(sign * MARK_MM[down], abs=4), plane
        over = tab.page.evaluate(_COVERED, pane)
        assert not over, over
        if drawn:
            assert letters(tab.page, pane) == {
                "left": left, "top": top, "right": right, "bottom": bottom
            }  # fmt: skip


@pytest.mark.skipif(viewer.assets() is None, reason="the viewer was not installed")
def test_the_pictures_left_is_the_patients_right(browsers: Callable[..., Tab]) -> None:
    tab = browsers()
    tab.open(tab.site.marked)
    assert tab.page.get_attribute("#bench", "data-drawn") == "niivue"
    tab.press("ArrowRight", 12)  # to the patient's left, which is the picture's right
    tab.press("ArrowUp", 8)
    tab.press("PageUp", 10)
    assert tab.where().startswith("L 12.0  P −8.0  H 10.0 mm · 1400 HU".replace("  ", " "))
    check_sides(tab, "#stage", drawn=True)
    # Of a CT whose voxels were joined and rounded, the server tells what lies there.
    tab.press("ArrowLeft", 24)
    assert tab.where().endswith(" 30 HU")
    tab.page.click("[data-view=whole]")
    tab.press("ArrowLeft")
    tab.page.wait_for_selector("#where:has-text('HU')")
    assert tab.where().startswith("L −13.0")
    assert tab.where().endswith(" 30 HU")
    tab.page.click("[data-view=whole]")
    tab.press("ArrowRight", 25)
    # Beside it the CT afterwards, at the same place, as it is told: not laid bone on bone.
    tab.page.click("[data-view=after]")
    tab.page.wait_for_selector("#beside[data-state=ready]")
    assert "not laid over" in tab.page.locator("#registered").inner_text()
    check_sides(tab, "#after-stage", drawn=True)
    # What is clicked there is looked at here, and is no lesion of the CT before.
    tab.page.click("button[data-mode=lesion]")
    box = tab.box("#after-stage .pane[data-plane=axial]")
    tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.page.wait_for_timeout(300)
    l, p = (float(v.replace("−", "-")) for v in re.findall(r"[LP] ([−\d.]+)", tab.where()))
    assert abs(l) < 2
    assert abs(p) < 2
    assert tab.page.locator("#click-at").inner_text() == "–"
    assert not tab.complaints
    tab.page.context.close()


# --- A needle under the mouse ---------------------------------------------------------------------


def shown(tab: Tab) -> dict[str, tuple[str, str]]:
    """Structure -> distance and verdict, as the page prints them for the needle that is moved."""
    rows = tab.page.evaluate(
        """() => [...document.querySelectorAll("#live .margins tbody tr")]
        .map(r => [...r.children].map(c => c.innerText.trim()))"""
    )
    return {name: (distance, verdict) for name, distance, _, verdict in rows}


@pytest.mark.skipif(viewer.assets() is None, reason="the viewer was not installed")
def test_a_needle_is_dragged_until_it_turns_red(browsers: Callable[..., Tab]) -> None:
    answers: list[dict[str, Any]] = []
    tab = browsers()
    tab.page.on(
        "response",
        lambda r: answers.append(r.json()) if r.url.endswith("/measure/") and r.ok else None,
    )
    tab.open(tab.site.planned, solid=True)
    tab.page.locator("#side [data-act=move]").first.click()
    tab.page.wait_for_selector("#live .verdict")
    before = shown(tab)
    assert tab.page.get_attribute("#bench", "data-verdict") != "stop"
    # Its tip towards the canal: back and to the midline.
    tab.drag(tab.middle("#stage .pane[data-plane=axial] circle.hold.target"), (-5, 55), steps=12)
    tab.page.wait_for_selector("#bench[data-verdict=stop]")
    tab.page.mouse.up()
    tab.measured()
    after = shown(tab)
    assert after["spinal canal"][1] == "✕ stop"
    assert before["spinal canal"][1] != after["spinal canal"][1]
    assert next(iter(after.values()))[1] == "✕ stop"  # worst first
    # The page says what the library measured, to the last digit; the picture turned red.
    told = {m["structure"]: m["distance"] for m in answers[-1]["numbers"]["margins"]}
    assert {k: v[0] for k, v in after.items()} == told
    text = tab.page.locator("#live").inner_text()
    assert all(f["value"] in text for f in answers[-1]["numbers"]["facts"])
    assert tab.page.locator("#stage .needle.chosen.stop").count() == 3
    # Back by the keyboard alone, a millimetre a key, until nothing is broken; then kept.
    tab.press("t")
    for _ in range(40):
        tab.press("ArrowUp")
        tab.measured()
        if tab.page.get_attribute("#bench", "data-verdict") != "stop":
            break
    assert tab.page.get_attribute("#bench", "data-verdict") != "stop"
    tab.page.fill("#why-needle", "away from the canal")
    tab.page.click("[data-act=keep-needle]")
    tab.page.wait_for_selector("#notice.ok")
    assert "Kept as version 2." in tab.page.locator("#notice").inner_text()
    side = tab.page.locator("#side").inner_text()
    assert "away from the canal" in side
    kept = answers[-1]["numbers"]
    assert all(f["value"] in side for f in kept["facts"] if f["value"])
    # A stroke of the brush is drawn, and taken back.
    tab.page.click("button[data-mode=brush]")
    lesion = tab.middle("#stage .pane[data-plane=axial]")
    tab.drag((lesion[0] - 10, lesion[1] - 40), (20, 0), steps=4)
    tab.page.mouse.up()
    tab.page.wait_for_selector("#bench[data-strokes='1']")
    tab.press("u")
    tab.page.wait_for_selector("#bench[data-strokes='0']")
    # Nothing for a reader of screens to stumble over, nothing beyond the edge on a tablet.
    driven = pytest.importorskip("axe_playwright_python.sync_playwright")
    grave = [
        (v["id"], v["impact"], [n["html"][:80] for n in v["nodes"]])
        for v in driven.Axe().run(tab.page).response["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert not grave
    tab.page.set_viewport_size(TABLET)
    tab.page.wait_for_timeout(300)
    assert not tab.page.evaluate(_OUTSIDE)
    assert not tab.complaints
    tab.page.context.close()


# --- The brush ------------------------------------------------------------------------------------


def test_the_page_paints_by_the_rule_that_the_server_keeps_by(browsers: Callable[..., Tab]) -> None:
    tab, rng = browsers(webgl=False), np.random.default_rng(0)
    tab.open(tab.site.marked)
    grid = Grid.from_spacing((12, 15, 14), (2.5, 1.25, 1.5), (-8.1, -7.3, -12.7))
    for normal in np.eye(3):
        told = [
            {"points": (rng.uniform(-9, 9, (n, 3)) * (1 - normal)).tolist(),
             "normal": normal.tolist(), "radius": radius, "adds": adds}
            for n, radius, adds in ((1, 3.3, True), (4, 4.1, True), (3, 1.9, False))
        ]  # fmt: skip
        steps = grid.affine[:3, 2::-1].T  # of columns, rows, slices: the drawing's order
        given = {"strokes": told, "dims": grid.shape[::-1], "steps": steps.tolist(),
                 "origin": grid.affine[:3, 3].tolist()}  # fmt: skip
        painted = np.array(tab.page.evaluate(_PAINTED, given), bool).reshape(grid.shape)
        blank = Mask(grid=grid, values=np.zeros(grid.shape, bool))
        kept = strokes.applied(blank, strokes.read(told)).values
        assert np.count_nonzero(kept) > 50
        assert np.array_equal(painted, kept)
    tab.page.context.close()


# --- Without WebGL --------------------------------------------------------------------------------


def test_without_webgl_everything_can_be_done(browsers: Callable[..., Tab]) -> None:
    tab = browsers(webgl=False)
    tab.open(tab.site.marked)
    assert tab.page.get_attribute("#bench", "data-drawn") == "still"
    assert "WebGL is not available" in tab.page.locator("#notice").inner_text()
    tab.press("ArrowRight", 12)
    tab.press("ArrowUp", 8)
    tab.press("PageUp", 10)
    tab.page.wait_for_timeout(1500)
    assert re.sub(" +", " ", tab.where()) == "L 12.0 P −8.0 H 10.0 mm · 1400 HU"
    check_sides(tab, "#stage", drawn=False)
    # A click inside the lesion, on the picture, is the point that is sent.
    tab.page.click("button[data-mode=lesion]")
    box = tab.box("#stage .pane[data-plane=coronal]")
    x, y = brightest(tab.page, box)
    tab.page.mouse.click(box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 + y)
    point = [float(v.replace("−", "-")) for v in re.findall(
        r"[LPH] ([−\d.]+)", tab.page.locator("#click-at").inner_text()
    )]  # fmt: skip
    np.testing.assert_allclose(point, MARK_MM, atol=1.5)
    assert tab.page.locator("[data-act=outline]").is_enabled()
    # A new needle by two clicks, measured and kept.
    tab.open(tab.site.planned)
    needles = tab.page.locator("#side details.needle").count()
    tab.page.click("button[data-mode=needle]")
    tab.page.click("[data-act=new-needle]")
    box = tab.box("#stage .pane[data-plane=axial]")
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.page.mouse.click(middle[0] + 60, middle[1] + 60)
    tab.page.mouse.click(middle[0] + 10, middle[1] - 20)
    tab.page.wait_for_selector("#live .verdict")
    depth = tab.page.locator("#live .numbers").inner_text()
    assert re.search(r"\d+\.\d mm", depth)
    tab.page.wait_for_selector("#obliques .pane[data-state=drawn]")
    # The skin map is of one version: it does not stay over the next.
    tab.page.click("[data-view=skin]")
    tab.page.wait_for_selector(".stage circle.skin", state="attached")
    tab.page.click("[data-act=keep-needle]")
    tab.page.wait_for_selector("#notice.ok")
    assert tab.page.locator("circle.skin").count() == 0
    assert tab.page.get_attribute("[data-view=skin]", "aria-pressed") == "false"
    assert tab.page.locator("#side details.needle").count() == needles + 1
    # Where it goes in is dragged on the cut along it.
    tab.page.locator("#side [data-act=move]").last.click()
    tab.page.wait_for_selector("#live .verdict")
    hold = "#obliques .pane[data-plane=along0] circle.hold.entry"
    before = tab.page.locator("#live .numbers").inner_text()
    tab.drag(tab.middle(hold), (25, 0))
    tab.page.mouse.up()
    tab.measured()
    assert tab.page.locator("#live .numbers").inner_text() != before
    assert not tab.complaints
    # Where it cannot be measured no verdict of another place stays, until it can be again.
    tab.page.route("**/measure/", lambda route: route.abort())
    tab.press("ArrowLeft")
    tab.page.wait_for_selector("#bench[data-verdict=unknown]")
    tab.measured()
    assert tab.page.locator("#stage .needle.chosen.unknown").count() == 3
    assert "did not answer" in tab.page.locator("#live").inner_text()
    tab.page.unroute("**/measure/")
    tab.press("ArrowLeft")
    tab.page.wait_for_selector("#live .verdict:not(.unknown)")
    assert tab.page.get_attribute("#bench", "data-verdict") in ("ok", "caution", "stop")
    # A needle of the plan keeps its own verdict, whatever gauge is chosen for the next.
    tab.page.click("[data-act=drop-needle]")
    asked: list[str] = []
    tab.page.on("request", lambda r: asked.append(r.url) if "/measure/" in r.url else None)
    tab.page.select_option("#gauge", index=1)
    tab.page.wait_for_timeout(200)
    assert not asked
    tab.page.context.close()


def test_two_people_at_one_lesion_and_nothing_is_lost(browsers: Callable[..., Tab]) -> None:
    """The second to keep is told by whom and what; their strokes stay and are kept on top."""
    one, two = browsers(webgl=False), browsers("surgeon", webgl=False)
    for tab in (one, two):
        tab.open(tab.site.planned)
        tab.page.click("button[data-mode=brush]")
        x, y = tab.middle("#stage .pane[data-plane=axial]")
        tab.drag((x, y - 20), (20, 5), steps=4)
        tab.page.mouse.up()
        assert tab.page.locator("#stage polyline.stroke").count() == 1
    one.page.click("[data-act=keep-strokes]")
    one.page.wait_for_selector("#notice.ok")
    two.page.click("[data-act=keep-strokes]")
    two.page.wait_for_selector("#notice.stop")
    told = two.page.locator("#notice").inner_text()
    version = int(re.findall(r"version (\d+)", one.page.locator("#notice").inner_text())[0])
    assert f"radiologist made version {version}" in told
    assert two.page.get_attribute("#bench", "data-strokes") == "1"
    assert f"Newest version: {version}" in two.page.locator("#side").inner_text()
    two.page.click("[data-act=keep-strokes]")
    two.page.wait_for_selector("#notice.ok")
    assert f"version {version + 1}" in two.page.locator("#notice").inner_text()
    # The browser tells of the refusal itself; nothing else is wrong.
    assert not one.complaints
    assert all("409" in c for c in two.complaints)
    # The last edit is undone by one button, and the other language says the same.
    two.page.click("text=Undo the last edit")
    two.page.wait_for_selector(f"text=Newest version: {version + 2}")
    for tab in (one, two):
        tab.page.context.close()
