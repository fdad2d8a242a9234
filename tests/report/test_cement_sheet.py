"""The cement sheet says what its records say, in both languages, and asks for nothing outside."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from trocar.facts import thermal
from trocar.facts.cement import cement
from trocar.facts.products import needle
from trocar.model.case import Finding, Gravity
from trocar.model.plan import CementNeedle, CementPlan, PlanRule
from trocar.model.result import CementHeat, Fill, Injection, InjectionEvent, LeakForecast, Run
from trocar.model.space import Segment, Volume
from trocar.report import cement_figures, viewer
from trocar.report.cement import worst, write_cement_sheet


@pytest.fixture(scope="module")
def parts(sheet):
    anatomy, lesion = sheet.anatomy, sheet.plan.lesion
    grid = anatomy.grid
    away = np.full(grid.shape, np.nan)
    points = lesion.mask.points_mm()
    r = np.linalg.norm(points - lesion.mask.centroid_mm, axis=1)
    away[lesion.mask.values] = 3.7 * r / r.max()
    share = Volume(grid=grid, values=lesion.mask.values.astype(np.float32), unit="1")
    common = {"lesion_id": "1", "site": sheet.plan.site}
    fill = Fill(
        **common, origin="simulated", fraction=share, volume_ml=3.7, low_ml=3.7, high_ml=3.7,
        in_bone_ml=3.7, in_lesion_ml=3.7, lesion_fill=0.5, bone_fill=0.1,
    )  # fmt: skip
    age, ml = np.linspace(300, 500, 20), np.linspace(0, 3.7, 20)
    injection = Injection(
        **common, cement="medium", fill=fill, order_ml=Volume(grid=grid, values=away, unit="ml"),
        age_s=age, injected_ml=ml, rate_ml_s=ml * 0 + 0.02, tip_pa=ml * 1e4, syringe_pa=ml * 2e5,
        in_bone_ml=ml, in_lesion_ml=ml, leaked_ml={}, stopped_by="planned volume",
        events=(InjectionEvent(state="finished", age_s=500, injected_ml=3.7, needle=0),),
    )  # fmt: skip
    note = Finding(gravity=Gravity.NOTE, message="None found.")
    best = sheet.plan.options[0]
    plan = CementPlan(
        **common, cement=cement("medium"), room_c=21.0, rate_ml_s=0.02, start_s=300.0,
        latest_s=570.0, pressure_limit_pa=1.2e6, low_ml=2.9, high_ml=4.6, stop_ml=4.1,
        needles=(
            CementNeedle(
                needle=needle(best.needle.key) if hasattr(best.needle, "key") else best.needle,
                path=Segment(start_mm=best.entry_mm, end_mm=best.target_mm), volume_ml=3.7,
            ),
        ),
        rules=(
            PlanRule(rule="Heat", verdict="ok", finding=note, source="s"),
            PlanRule(rule="Place", verdict="caution", finding=note, source="s"),
        ),
    )  # fmt: skip
    forecast = LeakForecast(
        **common, runs=40, seed=1, volume_ml=4.0, least_ml=0.1, ended_ml=np.full(40, 4.0),
        onset_ml={"epidural or canal": np.r_[np.full(10, 1.5), np.full(30, np.inf)]},
        reached=share, alarms=("epidural or canal",), drawn={},
    )  # fmt: skip
    return {
        "scan": sheet.scan, "anatomy": anatomy, "lesion": lesion,
        "plan": plan, "injection": injection, "forecast": forecast, "viewer": False,
    }  # fmt: skip


def test_it_says_what_the_plan_says(parts, tmp_path) -> None:
    html = write_cement_sheet(tmp_path / "a.html", **parts).read_text()
    for said in ("3.7 ml of cement (2.9 to 4.6 ml)", "Not to pass: 4.1 ml", "5.0 to 9.5 minutes"):
        assert said in html
    assert "25 % (14–40)" in html  # Wilson of 10 in 40
    assert html.count("data-ml=") == 9
    assert ">Injected</label>" in html
    assert 'class="verdict unknown"' in html  # a nerve root was not found
    links = re.findall(r'(?:src|href)="([^"]*)', html)
    assert all(x.startswith(("data:", "#")) for x in links)
    assert len(html) < 3e6


def test_too_much_heat_is_a_stop_and_no_forecast_is_unknown(parts, tmp_path) -> None:
    zh = write_cement_sheet(tmp_path / "z.html", **parts | {"forecast": None}, language="zh-Hant")
    assert "未有預測滲漏" in zh.read_text()
    peak = parts["injection"].fill.fraction
    heat = CementHeat(
        peak_c=peak, cement_peak_c=70, interface_peak_c=50, structures_c={"spinal_canal": 46.2},
        structures_cem43={}, dead_bone_ml=0, time_s=np.zeros(1), cement_mean_c=np.zeros(1),
        over_limit=("spinal_canal",),
    )  # fmt: skip
    hot = replace(parts["injection"], heat=heat)
    html = write_cement_sheet(tmp_path / "h.html", **parts | {"injection": hot}).read_text()
    assert 'class="verdict stop"' in html
    assert "46.2 °C" in html


def plain(html: str) -> str:
    """What a reader reads: no styles, no scripts, no tags, plain spaces."""
    body = re.sub(r"(?s)<(style|script)\b.*?</\1>", " ", html)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def hot(parts) -> dict:
    """Warm, harmed and unknown structures, an injection that leaked and was halted, a run."""
    heat = CementHeat(
        peak_c=parts["injection"].fill.fraction, cement_peak_c=71.3, interface_peak_c=52.4,
        structures_c={"aorta": 38.1, "spinal_canal": 46.2, "nerve_root_left": 40.9},
        structures_cem43={"aorta": 0.1, "spinal_canal": 31.7, "nerve_root_left": 2.4},
        dead_bone_ml=1.6, time_s=np.zeros(1), cement_mean_c=np.zeros(1),
        over_limit=("spinal_canal",), unknown=("nerve_root_right",),
    )  # fmt: skip
    step = {"age_s": 420.0, "injected_ml": 2.2, "needle": 0}
    injection = replace(
        parts["injection"],
        heat=heat,
        stopped_by="leak",
        events=(
            InjectionEvent(state="leak detected", compartment="epidural or canal", **step),
            InjectionEvent(state="repositioned", moved_mm=5.0, **step),
        ),
    )
    run = Run(
        version="9.8.7", command="trocar cement", inputs={"CT": "ab" * 32}, seed=4711,
        facts={"cement": "1a2b"}, parameters={"count": 3}, started="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    return parts | {"injection": injection, "run": run}


def test_the_verdict_is_a_word_and_the_worst_grade_wins(hot, parts, tmp_path) -> None:
    text = plain(write_cement_sheet(tmp_path / "a.html", **hot).read_text())
    assert "stop 3.7 ml of cement" in text
    assert "Too warm, as computed: spinal canal." in text
    text = plain(write_cement_sheet(tmp_path / "b.html", **parts).read_text())
    assert "unknown 3.7 ml of cement" in text
    assert worst(["note", "ok", "caution"], ()) == "caution"
    assert worst(["caution", "unknown"], ()) == "unknown"
    assert worst(["unknown", "stop"], ["aorta"]) == "stop"
    assert worst(["note"], ()) == "ok"


def test_a_rule_that_does_not_pass_is_among_the_warnings(parts, tmp_path) -> None:
    rule = replace(parts["plan"].rules[0], rule="heat", verdict="stop")
    plan = replace(parts["plan"], rules=(*parts["plan"].rules, rule))
    text = plain(write_cement_sheet(tmp_path / "a.html", **parts | {"plan": plan}).read_text())
    warned = text[text.index("Warnings") : text.index("Chance of a leak")]
    assert warned.index("stop Heat: None found.") < warned.index("caution Place: None found.")


def test_why_it_ended_and_how_far_the_needle_was_pulled_back(hot, tmp_path) -> None:
    text = plain(write_cement_sheet(tmp_path / "a.html", **hot).read_text())
    assert "The injection ended because of a leak." in text
    assert "7.0 min, 2.2 ml: leak detected, epidural or canal" in text
    assert "7.0 min, 2.2 ml: repositioned, pulled back 5.0 mm" in text


def test_heat_stands_beside_its_limits_and_the_worst_is_first(hot, tmp_path) -> None:
    text = plain(write_cement_sheet(tmp_path / "a.html", **hot).read_text())
    canal, aorta = thermal.limit("spinal_canal"), thermal.limit("aorta")
    assert canal is not None
    assert aorta is not None
    rows = (
        f"spinal canal 46.2 °C {canal.harm_c:.0f} °C 31.7 {canal.harm_cem43:.0f} stop",
        "right nerve root – – – – unknown",
        "left nerve root 40.9 °C",
        f"aorta 38.1 °C {aorta.harm_c:.0f} °C 0.1 {aorta.harm_cem43:.0f} ok",
    )
    heat = text[text.index("Cement, highest") :]
    assert sorted(rows, key=heat.index) == list(rows)
    for said in ("Cement, highest 71.3 °C", "it, highest 52.4 °C", "dies of heat 1.6 ml"):
        assert said in heat
    # A dose that was not computed is not called fine.
    lost = replace(hot["injection"].heat, structures_cem43={}, over_limit=())
    more = hot | {"injection": replace(hot["injection"], heat=lost)}
    text = plain(write_cement_sheet(tmp_path / "b.html", **more).read_text())
    assert f"aorta 38.1 °C {aorta.harm_c:.0f} °C unknown {aorta.harm_cem43:.0f} unknown" in text


def test_it_says_where_its_numbers_come_from(hot, parts, tmp_path) -> None:
    text = plain(write_cement_sheet(tmp_path / "a.html", **hot).read_text())
    for said in (hot["scan"].sha256, "trocar 9.8.7", "4711", "1a2b", "trocar cement"):
        assert said in text
    text = plain(write_cement_sheet(tmp_path / "b.html", **parts).read_text())
    assert "not recorded" in text


def test_chinese_leaves_nothing_untranslated(hot, tmp_path, untranslated) -> None:
    missing = untranslated(cement_figures)
    html = write_cement_sheet(tmp_path / "z.html", **hot, language="zh-Hant").read_text()
    assert list(missing) == []
    text = re.sub(r"[0-9a-f]{64}", "", plain(html)).replace(hot["scan"].name, "")
    text = text[: text.index("數據來源")]  # names of parameters and of files stay as they are
    assert set(re.findall(r"[A-Za-z]{4,}", text)) <= {"trocar", "Wilson"}


def test_the_viewer_holds_the_simulated_cement(parts, tmp_path) -> None:
    html = write_cement_sheet(tmp_path / "v.html", **parts | {"viewer": True}).read_text()
    assert 'id="viewer"' in html
    if viewer.assets() is None:
        return
    scene = re.search(r'id="viewer-scene">(.*?)</script>', html)
    assert scene
    names = [r["name"] for r in json.loads(scene.group(1))["regions"]]
    assert "cement in bone" in names
