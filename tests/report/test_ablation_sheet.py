"""The ablation sheet says what its records say, in both languages, and hides nothing unknown."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

import trocar
from trocar.facts import ablation as facts
from trocar.facts import thermal
from trocar.facts.ablation import applicator
from trocar.facts.source import load
from trocar.model.ablation import (
    AblationPlan,
    Phase,
    Placed,
    Protection,
    StructureDose,
    ThermalDose,
)
from trocar.model.case import Finding, Gravity
from trocar.model.plan import PlanRule
from trocar.model.result import Run
from trocar.model.space import Grid, Mask, Segment, Volume
from trocar.planning.ablation import AblationSearch, Alternative
from trocar.report import ablation_figures, cement_figures, figures, viewer, words
from trocar.report.ablation import write_ablation_sheet

_ROOTS = (
    "One patient of twelve in the Hong Kong series lost the strength of a leg after "
    "radiofrequency in L1: the needle lay well, no cement was in the canal, heated nerve roots "
    "were blamed. Test the legs before and after."
)


def _dose(sheet, **changes) -> ThermalDose:
    """A ball that dies from its middle outwards, 3 mm short of the lesion's far side."""
    lesion = sheet.plan.lesion
    centre = lesion.mask.centroid_mm
    grid = Grid.from_spacing((20, 22, 22), (2.0,) * 3, (centre - 21.0).tolist())
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    r = np.linalg.norm(grid.to_world(index) - centre, axis=-1)
    dead = r <= 10.0
    inside = lesion.mask.on(grid).values
    points = grid.to_world(np.argwhere(inside).astype(float))
    margins = np.linspace(-3.4, 7.0, len(points))
    time = np.linspace(0, 600, 25)
    given = {
        "lesion_id": "1",
        "site": sheet.plan.site,
        "heats": True,
        "peak_c": Volume(grid=grid, values=(37 + 50 * np.exp(-((r / 9) ** 2))), unit="degC"),
        "lowest_c": Volume(grid=grid, values=np.full(grid.shape, 37.0), unit="degC"),
        "cem43_min": Volume(grid=grid, values=np.where(dead, 500.0, 0.0), unit="min"),
        "dead": Mask(grid=grid, values=dead),
        "dead_s": Volume(grid=grid, values=np.where(dead, 60 * r, np.nan), unit="s"),
        "dead_ml": np.count_nonzero(dead) * grid.voxel_ml,
        "ice_ml": 0.0,
        "lesion_covered": 0.931,
        "rim_covered": 0.612,
        "covered_low": 0.874,
        "covered_high": 0.958,
        "margin_points_mm": points,
        "margin_mm": margins,
        "min_margin_mm": -3.4,
        "structures": (
            _structure("aorta", 38.2, 0.1, "ok", 19.4, time),
            _structure("spinal_canal", 46.3, 34.5, "stop", 1.4, time, warned_s=90.0, harmed_s=252),
            _structure("foramen_left_above", 40.2, 0.2, "caution", 5.7, time),
        ),
        "time_s": time,
        "covered": np.linspace(0, 0.931, 25),
        "power_w": np.full((25, 2), 7.0),
        "impedance_ohm": np.full((25, 2), 120.0),
        "surface_c": np.full((25, 2), 70.0),
        "unknown": ("nerve_root_right",),
        "findings": (
            Finding(gravity=Gravity.CAUTION, message=_ROOTS),
            Finding(
                gravity=Gravity.STOP,
                message="The ablation warms {structure} to {peak:.1f} degC ({dose:.1f} min at 43 "
                "degC); it is harmed from {limit:.0f} degC or {most:.0f} min.",
                values={
                    "structure": "spinal_canal", "peak": 46.3, "dose": 34.5, "limit": 45.0,
                    "most": 10.0,
                },
            ),
        ),
    }  # fmt: skip
    return ThermalDose(**(given | changes))


def _structure(name, peak, dose, verdict, distance, time, **more) -> StructureDose:
    lowest = more.pop("lowest_c", 37.0)
    return StructureDose(
        structure=name, peak_c=peak, lowest_c=lowest, cem43_min=dose, verdict=verdict,
        distance_mm=distance, warmest_c=np.linspace(37, peak, len(time)),
        coldest_c=np.linspace(37, lowest, len(time)), low_c=peak - 1.1, high_c=peak + 0.6, **more,
    )  # fmt: skip


def _plan(sheet, name: str = "osteocool_15", **changes) -> AblationPlan:
    device = applicator(name)
    option = sheet.plan.options[0]
    path = Segment(start_mm=option.entry_mm, end_mm=option.target_mm)
    mode = "heat" if device.heats else "freeze"
    ok = Finding(
        gravity=Gravity.CAUTION,
        message="What dies or freezes ends {distance:.1f} mm from {structure}; below {ok:.0f} mm "
        "protection and monitoring are needed, below {least:.0f} mm it is too near.",
        values={"distance": 1.4, "structure": "spinal_canal", "ok": 10.0, "least": 5.0},
    )
    given = {
        "lesion_id": "1",
        "site": sheet.plan.site,
        "applicators": (
            Placed(device=device, path=path, route="transpedicular left"),
            Placed(device=device, path=path),
        ),
        "phases": (Phase(mode=mode, seconds=600.0),),
        "margin_mm": 5.0,
        "rules": (
            PlanRule(
                rule="distance to nerves", verdict="stop", finding=ok,
                source=facts.value("distance_ok").source,
            ),
        ),
    }  # fmt: skip
    return AblationPlan(**(given | changes))


@pytest.fixture(scope="module")
def parts(sheet) -> dict:
    plan, dose = _plan(sheet), _dose(sheet)
    cooler = _structure("spinal_canal", 39.9, 0.3, "ok", 10.4, dose.time_s)
    gas = Finding(
        gravity=Gravity.NOTE,
        message="Carbon dioxide, a layer of {gap:.0f} mm before {names} (gas moves: look again).",
        values={"gap": 5.0, "names": "spinal canal, foramen left above"},
    )
    slow = Finding(
        gravity=Gravity.NOTE,
        message="Shorter: {percent:.0f} % of the time.",
        values={"percent": 50.0},
    )
    guarded = replace(
        plan, protections=(Protection(kind="gas", structure="spinal_canal", gap_mm=5.0),)
    )
    search = AblationSearch(
        plan=plan,
        dose=dose,
        alternatives=(
            Alternative(change=slow, plan=plan, dose=replace(dose, lesion_covered=0.551)),
            Alternative(
                change=gas, plan=guarded,
                dose=replace(dose, structures=(cooler,), unknown=(), lesion_covered=0.917),
            ),
        ),
    )  # fmt: skip
    return {
        "scan": sheet.scan, "anatomy": sheet.anatomy, "lesion": sheet.plan.lesion,
        "search": search, "viewer": False,
    }  # fmt: skip


def plain(html: str) -> str:
    """What a reader reads: no styles, no scripts, no tags, plain spaces."""
    body = re.sub(r"(?s)<(style|script)\b.*?</\1>", " ", html)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def html(parts, tmp_path_factory) -> str:
    return write_ablation_sheet(tmp_path_factory.mktemp("a") / "a.html", **parts).read_text()


def test_it_says_stop_warns_of_the_roots_and_of_what_is_unknown(html) -> None:
    text = plain(html)
    assert 'class="verdict stop"' in html
    warned = text[text.index("Warnings") : text.index("What dies, step by step")]
    assert warned.index("46.3 °C") < warned.index(_ROOTS)  # stop before caution
    assert (
        "Distance to nerves: What dies or freezes ends 1.4 mm from spinal canal; below 10 mm "
        "protection and monitoring are needed, below 5 mm it is too near." in warned
    )
    assert text.count("right nerve root") == 2  # in the limits and in the list
    assert "degC" not in text


def test_the_numbers_are_those_of_the_record(parts, html) -> None:
    text = plain(html)
    assert f"Dead in all: {parts['search'].dose.dead_ml:.1f} ml." in text
    for said in (
        "2 applicators, 10 min: 93 % of the lesion dies",
        "Lesion covered: 93 % (87 to 96 % as constants differ); with a margin of 5 mm: 61 %.",
        "Least margin on the lesion's surface: −3.4 mm; asked for: 5 mm.",
        "15 mm of it works. The data of this device are NOT verified.",
        "Protocol: heat 10 min.",
    ):
        assert said in text
    assert text.count("NOT verified") == 2
    assert "placed by hand" in text


def test_limits_stand_beside_what_was_reached_the_worst_first(html) -> None:
    text = plain(html)
    canal, aorta = thermal.limit("spinal_canal"), thermal.limit("aorta")
    assert canal is not None
    assert aorta is not None
    rows = (
        f"spinal canal stop 46.3 °C (45.2–46.9) 34.5 {canal.warn_c:.0f} °C or "
        f"{canal.warn_cem43:g} min {canal.harm_c:.0f} °C or {canal.harm_cem43:g} min "
        f"warning at 1.5 min, harm at 4.2 min 1.4 mm placeholder",
        "right nerve root unknown –",
        "left foramen above caution 40.2 °C",
        f"aorta ok 38.2 °C (37.1–38.8) 0.1 {aorta.warn_c:.0f} °C",
    )
    told = text[text.index("Warned from") :]
    assert sorted(rows, key=told.index) == list(rows)
    assert f"spinal canal: {canal.source.replace('degC', '°C')}" in told


def test_the_change_that_helps_is_suggested_with_what_it_makes_of_the_lesion(parts, html) -> None:
    text = plain(html)
    said = "(gas moves: look again). Then, as computed, at the nerves: ok, 92 % of the lesion dies."
    assert text.count(said) == 2  # in the verdict and below the table
    table = text[text.index("The plan as it is") :]
    assert table.startswith("The plan as it is stop spinal canal, 46.3 °C 93 % −3.4 mm")
    assert "Shorter: 50 % of the time. stop spinal canal, 46.3 °C 55 %" in table
    search = parts["search"]
    assert search.suggested is search.alternatives[1]


def test_a_change_computed_once_is_not_called_as_sure_as_the_plan(parts, tmp_path) -> None:
    search = parts["search"]
    once = tuple(replace(a, dose=replace(a.dose, covered_low=None)) for a in search.alternatives)
    said = "The plan is judged by the worst of three runs, a change by the run with mean constants"
    for number, (alternatives, count) in enumerate(((once, 1), (search.alternatives, 0))):
        more = parts | {"search": replace(search, alternatives=alternatives)}
        html = write_ablation_sheet(tmp_path / f"{number}.html", **more).read_text()
        assert plain(html).count(said) == count


def test_what_dies_is_shown_over_time(parts, html) -> None:
    told = re.findall(r'data-ml="([^"]+)"', html)
    assert told == ["1.7 min", "3.3 min", "5.0 min", "6.7 min", "8.3 min", "10.0 min"]
    pictures = re.findall(r'data-ml="[^"]+"><img src="(data:[^"]+)"', html)
    assert len(set(pictures)) == 6  # it grows, so no two are the same
    dead_ml = parts["search"].dose.dead_ml
    assert f"After 10.0 min: {dead_ml:.1f} ml dead, 93 % of the lesion" in plain(html)
    assert '<label for="injected">Time</label>' in html
    links = re.findall(r'(?:src|href)="([^"]*)', html)
    assert all(x.startswith(("data:", "#")) for x in links)
    assert len(html) < 4e6


def test_the_margin_is_counted_by_class(parts, html) -> None:
    dose = parts["search"].dose
    counts = ablation_figures.margin_classes(dose, 5.0)
    m = dose.margin_mm
    assert counts == (np.sum(m < 0), np.sum((m >= 0) & (m < 5)), np.sum(m >= 5))
    for count in counts:
        assert f"{count} of {len(m)} points" in plain(html)
    lost = replace(dose, margin_mm=np.full(len(m), np.nan))
    assert ablation_figures.margin_classes(lost, 5.0) == (len(m), 0, 0)  # not known is not dead


def test_hostile_names_stay_text(parts, tmp_path) -> None:
    search = parts["search"]
    bad = "<script>alert(1)</script>"
    device = replace(applicator("osteocool_15"), name=bad)
    placed = replace(search.plan.applicators[0], device=device, route=bad)
    dose = replace(search.dose, unknown=(bad,))
    plan = replace(search.plan, applicators=(placed,), lesion_id=bad)
    more = parts | {"search": AblationSearch(plan=plan, dose=dose)}
    html = write_ablation_sheet(tmp_path / "h.html", **more).read_text()
    assert bad not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "1 applicator, 10 min" in html
    assert "No change was tried." in html


def test_ice_has_its_own_words_and_limits(parts, sheet, tmp_path) -> None:
    plan = _plan(
        sheet, "cryo_17",
        phases=(
            Phase(mode="freeze", seconds=600), Phase(mode="thaw", seconds=300),
            Phase(mode="freeze", seconds=600),
        ),
    )  # fmt: skip
    base = _dose(sheet)
    cold = Volume(
        grid=base.peak_c.grid, values=(74 - base.peak_c.values * 1.5).astype(float), unit="degC"
    )
    canal = _structure("spinal_canal", 37.0, 0.0, "stop", 2.0, base.time_s, lowest_c=-3.2)
    canal = replace(canal, low_c=-6.1, high_c=2.4)
    dose = replace(
        base, heats=False, lowest_c=cold, structures=(canal,), ice_ml=21.4, findings=(),
        impedance_ohm=np.full((25, 2), np.nan), surface_c=np.full((25, 2), -120.0),
    )  # fmt: skip
    more = parts | {"search": AblationSearch(plan=plan, dose=dose)}
    text = plain(write_ablation_sheet(tmp_path / "i.html", **more).read_text())
    assert "Protocol: freeze 10 min, thaw 5 min, freeze 10 min." in text
    assert f"Dead in all: {base.dead_ml:.1f} ml; ice: 21.4 ml." in text
    assert "spinal canal stop −3.2 °C (−6.1–2.4) 10 °C 10 °C" in text
    assert "Probe temperature" in text
    assert "Generator" not in text


def test_nothing_dead_and_no_lesion_are_said(parts, tmp_path) -> None:
    search = parts["search"]
    dose = search.dose
    grid = dose.dead.grid
    none = replace(
        dose,
        dead=Mask(grid=grid, values=np.zeros(grid.shape, bool)),
        dead_s=Volume(grid=grid, values=np.full(grid.shape, np.nan), unit="s"),
        dead_ml=0.0, lesion_covered=0.0, min_margin_mm=-np.inf,
        margin_mm=np.full(len(dose.margin_mm), -np.inf),
    )  # fmt: skip
    more = parts | {"search": AblationSearch(plan=search.plan, dose=none)}
    text = plain(write_ablation_sheet(tmp_path / "n.html", **more).read_text())
    assert "surface: none, for nothing dies" in text
    lost = replace(
        dose, lesion_covered=None, rim_covered=None, margin_points_mm=np.zeros((0, 3)),
        margin_mm=np.zeros(0), min_margin_mm=None, structures=(), covered_low=None,
    )  # fmt: skip
    more = parts | {"search": AblationSearch(plan=search.plan, dose=lost)}
    text = plain(write_ablation_sheet(tmp_path / "l.html", **more).read_text())
    assert "how much of the lesion dies is unknown" in text
    assert "unknown, not safe" in text
    assert "The lesion's outline is not known." in text


def test_each_isotherm_has_dashes_of_its_own() -> None:
    dashes = [str(d) for d in ablation_figures._ISO_DASHES]
    assert len(set(dashes)) == 3
    assert str(figures.style("spinal_canal").dashes) not in dashes


def test_chinese_leaves_nothing_untranslated(parts, tmp_path, untranslated) -> None:
    missing = untranslated(cement_figures, ablation_figures, figures)
    run = Run(
        version="9.8.7", command="trocar ablation", inputs={"CT": "ab" * 32}, seed=4711,
        facts={}, parameters={}, started="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    html = write_ablation_sheet(tmp_path / "z.html", **parts, run=run, language="zh-Hant")
    device = "OsteoCool"
    assert [m for m in missing if device not in m] == []
    text = plain(html.read_text())
    assert "2 支消融針，10 分鐘：病灶壞死 93 %" in text
    assert "左側上方椎間孔" in text
    text = text[: text.index("數據來源")]
    assert set(re.findall(r"[A-Za-z]{4,}", text)) <= {"trocar", device, "Dupuy"}


def test_every_sentence_of_the_ablation_has_its_chinese() -> None:
    root = Path(trocar.__file__).parent
    said: set[str] = set()
    for file in ("simulation/ablation.py", "planning/ablation.py", "pathway/ablation.py",
                 "report/ablation.py", "report/ablation_figures.py"):  # fmt: skip
        for call in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                said |= {text for text in _spoken(call) if text}
    said |= {row["source"] for row in load("thermal").data["limits"].values()}
    said |= {facts.value(n).source for n in ("cold_harm_c", "cold_harm_neural_c", "distance_ok",
                                             "margin_heat", "spacing_most")}  # fmt: skip
    said |= set(ablation_figures.margin_words(5.0))
    assert len(said) > 100
    assert words.untranslated(sorted(said), "zh-Hant") == ()


def _spoken(call: ast.Call) -> set[str]:
    """The texts of ``t("...")``, of a finding's message, of a rule's name."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    nodes: list[ast.AST] = []
    if name in ("t", "say", "translate"):
        nodes = [n for a in call.args[:1] for n in ast.walk(a)]
    elif name in ("Finding", "PlanRule"):
        nodes = [k.value for k in call.keywords if k.arg in ("message", "rule")]
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_the_viewer_holds_what_dies(parts, tmp_path) -> None:
    html = write_ablation_sheet(tmp_path / "v.html", **parts | {"viewer": True}).read_text()
    assert 'id="viewer"' in html
    if viewer.assets() is None:
        pytest.skip("the viewer was not installed with this copy")
    scene = re.search(r'id="viewer-scene">(.*?)</script>', html)
    assert scene
    names = [r["name"] for r in json.loads(scene.group(1))["regions"]]
    assert "what dies" in names


def test_the_slider_runs_over_time(html) -> None:
    assert ">Time</label>" in html
    assert "Injected" not in html
