"""The cement sheet says what its records say, in both languages, and asks for nothing outside."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from trocar.facts.cement import cement
from trocar.facts.products import needle
from trocar.model.case import Finding, Gravity
from trocar.model.plan import CementNeedle, CementPlan, CementRule
from trocar.model.result import CementHeat, Fill, Injection, InjectionEvent, LeakForecast
from trocar.model.space import Segment, Volume
from trocar.report.cement import write_cement_sheet


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
            CementRule(rule="Heat", verdict="ok", finding=note, source="s"),
            CementRule(rule="Place", verdict="caution", finding=note, source="s"),
        ),
    )  # fmt: skip
    forecast = LeakForecast(
        **common, runs=40, seed=1, volume_ml=4.0, least_ml=0.1, ended_ml=np.full(40, 4.0),
        onset_ml={"epidural or canal": np.r_[np.full(10, 1.5), np.full(30, np.inf)]},
        reached=share, alarms=("epidural or canal",), drawn={},
    )  # fmt: skip
    return {
        "scan": sheet.scan, "anatomy": anatomy, "lesion": lesion,
        "plan": plan, "injection": injection, "forecast": forecast,
    }  # fmt: skip


def test_it_says_what_the_plan_says(parts, tmp_path) -> None:
    html = write_cement_sheet(tmp_path / "a.html", **parts).read_text()
    for said in ("3.7 ml of cement (2.9 to 4.6 ml)", "Not to pass: 4.1 ml", "5.0 to 9.5 minutes"):
        assert said in html
    assert "25 % (14–40)" in html  # Wilson of 10 in 40
    assert html.count("data-ml=") == 9
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
