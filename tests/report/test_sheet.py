"""The plan sheet: whole, self-contained, gravest first, and true to the plan."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from trocar import NOTICE
from trocar.errors import InputError
from trocar.model.case import Finding, Gravity, Site
from trocar.model.plan import GantryAngles, Margin
from trocar.model.space import Mask
from trocar.report import sheet as report
from trocar.report import viewer, words
from trocar.report.page import Speaker


class Text(HTMLParser):
    """The words a reader sees: no scripts, no styles, no data."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag, attrs) -> None:
        self._hidden += tag in ("script", "style", "pre")

    def handle_endtag(self, tag) -> None:
        self._hidden -= tag in ("script", "style", "pre")

    def handle_data(self, data) -> None:
        if not self._hidden:
            self.said.append(data)


def text_of(html: str) -> str:
    reader = Text()
    reader.feed(html)
    return re.sub(r"\s+", " ", " ".join(reader.said))


@pytest.fixture(scope="module")
def english(sheet, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("sheet") / "plan.html"
    assert report.write_plan_sheet(path, **sheet.parts) == path
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chinese(sheet) -> str:
    return report.plan_sheet(**sheet.parts, language="zh-Hant", viewer=False)


@pytest.fixture
def plain(sheet, monkeypatch):
    """Sheets without pictures, for tests of words."""
    blank = report.Figure(uri="data:,", title="t", caption="c")
    monkeypatch.setattr(report.figures, "needle_slices", lambda *a, **k: blank)
    monkeypatch.setattr(report.figures, "radiographs", lambda *a, **k: blank)
    monkeypatch.setattr(report.scene, "scene", lambda *a, **k: blank)

    def make(language="en", **changes) -> str:
        parts = sheet.parts | changes
        return report.plan_sheet(**parts, language=language, viewer=False)

    return make


def test_nothing_outside_the_file_is_asked_for(english: str) -> None:
    links = re.findall(r"""(?:src|href|srcset|action|poster)\s*=\s*["']([^"']*)""", english)
    assert links
    assert [x for x in links if not x.startswith(("data:", "#"))] == []
    style = "".join(re.findall(r"<style>(.*?)</style>", english, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    assert "connect-src data: blob:" in english  # and the browser is told to refuse the rest


def test_the_page_has_a_bearable_size(english: str) -> None:
    assert 100_000 < len(english) < 12_000_000


def test_the_notice_is_on_screen_and_on_every_printed_page(english: str, chinese: str) -> None:
    for html, notice in ((english, NOTICE), (chinese, words.translate(NOTICE, "zh-Hant"))):
        assert text_of(html).count(notice) >= 3
        assert re.search(r"@bottom-left\s*\{[^}]*content:", html)


def test_every_number_of_the_plan_is_there_with_its_unit(sheet, english: str) -> None:
    said = text_of(english)
    lesion, wanted = sheet.plan.lesion, ["11 gauge (3.05 mm outside), 125 mm long"]
    wanted += [f"{lesion.volume_ml:.2f} ml", f"{lesion.soft_tissue_ml:.2f} ml", "112 mm²"]
    wanted += ["26.3 × 24.1 × 21.8 mm", "17 %", "24.7 mm", "31.3 mm"]
    wanted += ["22.4 / 21.1 / 27.9 mm", "9.8 mm", "9.6 mm", "12.4 mm", "9.1 mm"]
    for option in sheet.plan.options:
        wanted += [f"{option.depth_mm:.1f} mm", f"{option.bone_length_mm:.1f} mm", "7.3 %"]
        wanted += [f"{m.distance_mm:.1f} mm" for m in option.margins if m.distance_mm > 0]
        wanted += [f"{m.required_mm:.1f} mm" for m in option.margins]
        wanted += [
            f"{abs(option.gantry.in_plane_deg):.0f}°",
            f"{abs(option.c_arm.oblique_deg):.0f}°",
        ]
    assert [w for w in wanted if w not in said] == []


def test_a_distance_that_is_not_known_is_said_and_stops(english: str) -> None:
    rows = re.findall(
        r'<tr class="(\w+)"><th scope="row">flux capacitor</th><td[^>]*>([^<]*)', english
    )
    assert rows == [("stop", "unknown")]


def test_what_was_not_found_is_named_at_the_top(english: str) -> None:
    top = text_of(english.split('<h2 id="lesion">')[0])
    assert "not checked: right nerve root" in top


def test_warnings_stand_gravest_first_and_only_once(english: str, plain, sheet) -> None:
    listed = english.split('id="warnings"')[1].split("</ul>")[0]
    grades = re.findall(r'<li class="(\w+)">', listed)
    assert grades == sorted(grades, key=["stop", "caution", "note"].index)
    assert grades[0] == "stop"
    assert len(grades) == 3
    doubled = replace(sheet.plan, findings=sheet.plan.findings + sheet.scan.findings)
    listed = plain(plan=doubled).split('id="warnings"')[1].split("</ul>")[0]
    assert len(re.findall("<li", listed)) == 3


def test_gravity_is_told_by_shape_and_word_too(english: str) -> None:
    for grade in ("stop", "caution", "note", "ok"):
        chip = re.search(rf'<span class="chip {grade}">(.*?)</span></span>', english, re.DOTALL)
        assert chip, grade
        assert "<svg" in chip[1]
        assert grade in chip[1]
    shapes = {
        re.search(rf'class="chip {g}">.*?<svg.*?</svg>', english, re.DOTALL)[0].split("viewBox")[1]
        for g in ("stop", "caution", "note", "ok")
    }
    assert len(shapes) == 4


def test_a_reason_to_stop_stops_the_verdict(english: str, plain, sheet) -> None:
    assert 'class="verdict stop"' in english
    assert (
        "One needle path keeps every limit that could be checked: left transpedicular; "
        "not identified: right nerve root." in text_of(english)
    )
    calm = replace(sheet.plan, findings=(), lesion=replace(sheet.plan.lesion, findings=()))
    known = replace(sheet.anatomy, missing=())
    option = replace(
        sheet.plan.options[0],
        margins=tuple(replace(m, distance_mm=50.0) for m in sheet.plan.options[0].margins),
    )
    html = plain(plan=replace(calm, options=(option,), sets=()), anatomy=known)
    assert 'class="verdict ok"' in html
    assert "One needle path keeps every limit: left transpedicular." in text_of(html)
    assert 'class="verdict caution"' in plain(plan=replace(calm, options=(option,), sets=()))


def test_a_needle_that_is_stopped_is_counted_apart(english: str) -> None:
    top = text_of(english.split('<h2 id="warnings">')[0])
    assert "One more path on this sheet breaks a limit or is stopped" in top


def test_the_verdict_holds_the_risk_and_says_what_it_leaves_out(plain, sheet) -> None:
    stop, best = sheet.plan.options[1], sheet.plan.options[0]
    wall = Margin(structure="pedicle_cortex", distance_mm=1.9, required_mm=0.5, caution_mm=1.0)
    pedicle = replace(best, margins=(*best.margins, wall))
    pairs = ((best, "a limit 7.3 %"), (pedicle, "a limit or leaving the pedicle 7.3 %"))
    for option, end in pairs:
        html = plain(plan=replace(sheet.plan, options=(option, stop)))
        top = text_of(html.split('<h2 id="warnings">')[0])
        assert f"vessel or organ 1.2 %, of passing {end}" in top
        assert "Structures that were not identified are not included." in top
        assert "not identified structures not included" in text_of(html)
        assert ("Clearance to the pedicle wall" in html) == (option is pedicle)
    known = text_of(plain(anatomy=replace(sheet.anatomy, missing=())))
    assert "not included" not in known


@pytest.mark.parametrize("tilt_deg", [0.0, 25.0])
def test_the_entry_is_told_along_the_patients_axes(sheet, tilt_deg: float) -> None:
    """A bone whose own axes are tilted does not move the place on the skin."""
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    axes = replace(
        sheet.anatomy.axes,
        left=np.array([c, s, 0.0]),
        posterior=np.array([-s * c, c * c, s]),
        superior=np.array([s * s, -c * s, c]),
    )
    anatomy = replace(sheet.anatomy, axes=axes)
    option = sheet.plan.options[0]
    away = option.entry_mm - axes.origin_mm
    told = report.landmark(option, anatomy, Speaker("en"))
    assert told == (
        f"{away[0]:.0f} mm to the patient's left of the midline, "
        f"{away[2]:.0f} mm towards the head from the bone's centre"
    )
    assert told.startswith("46 mm")


def test_mirels_is_for_long_bones(sheet) -> None:
    t = Speaker("en")
    long = replace(sheet.plan.lesion, site=Site.parse("femur left"))
    assert "54 %" in [row.value for row in report.lesion_rows(long, t)]
    assert "54 %" not in [row.value for row in report.lesion_rows(sheet.plan.lesion, t)]


def test_what_is_far_is_named_but_not_tabled(plain, sheet) -> None:
    far = Margin(structure="stomach", distance_mm=131.0, required_mm=5.0, caution_mm=10.0)
    best = sheet.plan.options[0]
    option = replace(best, margins=(*best.margins, far))
    lesion = replace(sheet.plan.lesion, distances_mm={"aorta": 24.7, "spleen": 140.2})
    html = plain(plan=replace(sheet.plan, options=(option,), sets=(), lesion=lesion))
    said = text_of(html)
    assert "farther than 100 mm: stomach" in said
    assert "farther than 100 mm: spleen" in said
    assert "131.0 mm" not in said
    assert "140.2 mm" not in said


def test_least_room_is_one_rule(plain, sheet) -> None:
    """The nearest structure need not be the one with least room beyond its limit."""
    near = Margin(structure="other_bone", distance_mm=1.2, required_mm=0.0, caution_mm=1.0)
    tight = Margin(structure="aorta", distance_mm=5.7, required_mm=5.0, caution_mm=10.0)
    option = replace(sheet.plan.options[0], margins=(near, tight))
    html = plain(plan=replace(sheet.plan, options=(option,), sets=()))
    assert "Least room beyond a limit: 0.7 mm, at the aorta (distance 5.7 mm" in text_of(html)
    assert "<td>0.7 mm, aorta</td>" in html
    names = re.findall(r'<tr class="\w+"><th scope="row">([^<]*)</th>', html)
    assert names == ["aorta", "another bone"]


def test_cautions_that_differ_in_numbers_stand_on_one_line(plain, sheet) -> None:
    def at(angle: float) -> Finding:
        message = (
            "the needle meets the bone {angle:.0f} degrees from its normal; below {preferred:.0f} "
            "it holds better"
        )
        return Finding(
            gravity=Gravity.CAUTION, message=message, values={"angle": angle, "preferred": 30.0}
        )

    options = tuple(
        replace(sheet.plan.options[0], findings=(at(angle),)) for angle in (39.0, 42.0, 39.0)
    )
    plan = replace(sheet.plan, options=options, sets=())
    for language, words_ in (("en", "bone 39, 42 degrees from"), ("zh-Hant", "39、42 度")):
        listed = plain(language, plan=plan, views={}).split('id="warnings"')[1].split("</ul>")[0]
        assert text_of(listed).count("30") == 1
        assert words_ in text_of(listed)
        assert ("1, 2, 3" if language == "en" else "1、2、3") in text_of(listed)


def test_needles_without_views_say_so(english: str) -> None:
    assert text_of(english).count("Fluoroscopic views are computed for needle 1 only.") == 1


def test_why_there_is_no_needle(plain, sheet) -> None:
    none = replace(sheet.plan, options=(), sets=())
    for language, words_ in (("en", "No safe needle path was found."), ("zh-Hant", "找不到安全")):
        said = text_of(plain(language, plan=none, views={}))
        assert words_ in said
    assert "Left posterolateral: every path comes too close to the aorta" in text_of(
        plain(plan=none, views={})
    )


def test_a_plan_whose_needles_all_break_a_limit_is_not_called_safe(plain, sheet) -> None:
    only = replace(sheet.plan, options=sheet.plan.options[1:], sets=())
    html = plain(plan=only, views={})
    assert "No safe needle: every path on this sheet breaks a limit." in text_of(html)
    assert 'class="verdict stop"' in html


def test_the_scene_is_drawn_without_needles_and_without_a_lesion(sheet) -> None:
    lesion = replace(sheet.plan.lesion, mask=Mask.empty(sheet.anatomy.grid), defects=())
    empty = replace(sheet.plan, options=(), sets=(), lesion=lesion, run=None)
    html = report.plan_sheet(
        **sheet.parts | {"plan": empty, "views": {}}, language="en", viewer=False
    )
    assert "None found." in html
    assert "data:image/webp" in html


def _number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_the_ct_room_numbers_give_the_needle_back(english: str, sheet) -> None:
    """Row P17: entry, angles and depth as printed re-derive the needle within 0.1 mm."""
    boxes = re.findall(r'<div class="room">(.*?)</div>', english, re.DOTALL)
    assert len(boxes) == len(sheet.plan.options)
    for box, option in zip(boxes, sheet.plan.options, strict=True):
        rows = dict(re.findall(r'<th scope="row">([^<]*)</th><td><span class="value">([^<]*)', box))
        entry = np.array(
            [_number(v) for v in rows["Entry (L, P, H)"].removesuffix(" mm").split(",")]
        )
        angles = GantryAngles(
            tilt_deg=_number(rows["Tilt"].removesuffix("°")),
            in_plane_deg=_number(rows["In-plane angle"].removesuffix("°")),
            from_behind="from behind" in box,
        )
        depth = _number(rows["Depth"].removesuffix(" mm"))
        tip = entry - depth * angles.direction()
        assert np.linalg.norm(entry - option.entry_mm) < 0.1
        assert np.linalg.norm(tip - option.target_mm) < 0.1
        assert (
            f"slice {round((option.entry_mm[2] + 7) / 2) + 1} of 48 from the feet" in rows["Table"]
        )


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</style><script>alert(1)</script>",
        "{{ 7 * 7 }}",
        '" } body { display: none',
    ],
)
def test_hostile_text_stays_text(plain, sheet, hostile: str) -> None:
    bad = Finding(gravity=Gravity.NOTE, message="{x}", values={"x": hostile})
    plan = replace(sheet.plan, case_id=hostile, findings=(bad,))
    scan = replace(sheet.scan, name=hostile)
    html = plain(plan=plan, scan=scan)
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert hostile in text_of(html)
    assert html.count("</style>") == 1
    assert (
        "} body {" not in re.findall(r"<style>(.*?)</style>", html, re.DOTALL)[0].split("@page")[-1]
    )


def test_no_machine_words_on_the_page(english: str, chinese: str) -> None:
    for html in (english, chinese):
        said = re.sub(r"[0-9a-f]{12,}", "", text_of(html))
        assert re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", said) == []
        assert "nan" not in re.findall(r"\b\w+\b", said)
        assert "None" not in re.findall(r"\b[A-Z]\w+\b", said.replace("None found", ""))


def test_chinese_says_what_english_says(sheet, chinese: str) -> None:
    said = text_of(chinese)
    assert '<html lang="zh-Hant">' in chinese
    for text in ("穿刺計劃", "L3 椎骨", "左側經椎弓根", "椎管", "後壁", "溶骨性", "停止", "注意"):
        assert text in said
    for option in sheet.plan.options:
        assert f"{option.depth_mm:.1f} mm" in said
    left_over = re.findall(r"\b[A-Za-z]{4,}(?: [a-z]{2,}){3,}", said.split("數據來源")[0])
    # What the hand-made patient says in words of its own has no translation.
    assert [
        x for x in left_over if not re.search(r"hole|lesion touches|scan was made|path", x)
    ] == []


def test_provenance_names_inputs_versions_and_what_is_not_verified(english: str, sheet) -> None:
    said = text_of(english.split('id="provenance"')[1])
    for value in (*sheet.plan.run.inputs.values(), *sheet.plan.run.facts.values()):
        assert value in said
    for value in ("20261121", "trocar 0.1.0", "placeholder"):
        assert value in said
    assert "default safe margin, needle surface to spinal canal or dura 2.0 mm placeholder" in said


def test_a_missing_viewer_is_said(sheet, monkeypatch) -> None:
    monkeypatch.setattr(viewer, "assets", lambda: None)
    html = report.plan_sheet(**sheet.parts | {"views": {}}, language="en", viewer=True)
    assert "The interactive viewer was not installed" in text_of(html)
    assert "<canvas" not in html
    assert html.count("data:image/") >= 3


def test_the_same_plan_gives_the_same_page(plain) -> None:
    assert plain() == plain()


def test_an_unknown_language_or_folder_is_refused_in_one_sentence(sheet, tmp_path) -> None:
    with pytest.raises(InputError, match="'de'"):
        report.write_plan_sheet(tmp_path / "x.html", **sheet.parts, language="de")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused_and_leaves_nothing(plain, sheet, tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        report.write_plan_sheet(tmp_path / "no" / "x.html", **sheet.parts, viewer=False)
    assert list(tmp_path.iterdir()) == []
