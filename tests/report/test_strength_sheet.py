"""The strength sheet says what its record says, in both languages, and hides nothing unknown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.facts import strength as facts
from trocar.facts.cement import cement
from trocar.facts.source import load
from trocar.model.case import Finding, Gravity, Site
from trocar.model.plan import CementNeedle, CementPlan
from trocar.model.result import Fill, Injection, Run
from trocar.model.space import Mask, Volume
from trocar.model.strength import Bearing, BoneState, Spread, Strength
from trocar.report import (
    cement_figures,
    figures,
    sections,
    strength_figures,
    viewer,
    words,
)
from trocar.report.cement import write_cement_sheet
from trocar.report.page import Speaker
from trocar.report.result import write_result_sheet
from trocar.report.strength import strength_section, write_strength_sheet
from trocar.report.strength_scores import scores_on_ct
from trocar.simulation.bone_press import HEIGHT, PISTOIA, STRAIN

LABELS = {"lumbar_compression": "lumbar compression",
          "lumbar_flexion": "lumbar compression and flexion"}  # fmt: skip
TUMOUR = float(facts.material("tumour").modulus_mpa)
PMMA = float(facts.material("pmma").modulus_mpa)
WALKING = (
    "Strength is computed for single loads on a bone alone, without muscles, "
    "ligaments and neighbours, and says nothing of falls or of many steps. It "
    "is no verdict on walking."
)


def spread(mean: float, off: float = 0.25) -> Spread:
    return Spread(low=mean * (1 - off), mean=mean, high=mean * (1 + off))


def bearing(state: BoneState, load_name: str, failure: float, intact: float, at_mm: Any,
            **changes: Any) -> Bearing:  # fmt: skip
    asked = 1000.0
    criteria = {PISTOIA: spread(failure), STRAIN: spread(1.2 * failure)}
    if load_name == "lumbar_compression":
        criteria[HEIGHT] = spread(1.6 * failure)
    given = {
        "state": state, "load": load_name, "label": LABELS.get(load_name, load_name),
        "load_n": Spread(low=asked, mean=asked, high=asked),
        "stiffness_n_mm": spread(6.5 * failure), "failure_n": criteria,
        "ratio": Spread(low=asked / (1.25 * failure), mean=asked / failure,
                        high=asked / (0.75 * failure)),
        "of_intact": spread(failure / intact, 0.03),
        "stiffness_of_intact": spread(1.05 * failure / intact, 0.02),
        "weakest_mm": np.asarray(at_mm, float),
        "weakest_in": "vertebral_body" if state == "intact" else "beside the lesion",
        "cement_used": spread(0.31, 0.1) if state in ("planned", "found") else None,
    }  # fmt: skip
    return Bearing(**(given | changes))


def strength_of(
    sheet: Any,
    failure: Mapping[BoneState, float] = {"intact": 4378.0, "now": 3302.0, "planned": 3572.0},
    **changes: Any,
) -> Strength:
    """Made by hand: strained beside the lesion, cement in its upper half, no solver."""
    bone, lesion = sheet.anatomy.bone, sheet.plan.lesion.mask
    grid = bone.grid.crop(bone.box(4.0))
    solid, hole = bone.on(grid).values, lesion.on(grid).values & bone.on(grid).values
    r = np.linalg.norm(
        grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) - lesion.centroid_mm, axis=-1
    )
    modulus, used = {}, {}
    for state, newton in failure.items():
        e = np.where(solid, 700.0, 0.0)
        if state != "intact":
            e[hole] = TUMOUR
        if state in ("planned", "found"):
            e[hole & (np.indices(grid.shape)[0] > np.argwhere(hole)[:, 0].mean())] = PMMA
        modulus[state] = Volume(grid=grid, values=e.astype(np.float32), unit="MPa")
        share = np.where(solid, 1400.0 / newton * np.exp(-((r / 25) ** 2)), 0.0)
        share[hole] = 7.0  # tumour gives way; nobody asks it
        used[state] = Volume(grid=grid, values=share.astype(np.float32), unit="1")
    edge = lesion.centroid_mm + np.array([-13.0, 0.0, 0.0])
    given = {
        "lesion_id": "1", "site": sheet.plan.site,
        "bearings": tuple(
            bearing(s, name, n * part, failure.get("intact", n) * part, edge)
            for name, part in (("lumbar_compression", 1.0), ("lumbar_flexion", 0.6))
            for s, n in failure.items()
        ),
        "used": used, "modulus_mpa": modulus, "bone": Mask(grid=grid, values=solid),
        "law": facts.law("kopperdahl").label, "calibration": "internal", "voxel_mm": 2.0,
        "constants": {"law": "kopperdahl", "weight_kg": 70.0}, "unknown": (),
        "findings": (Finding(gravity=Gravity.NOTE, message=WALKING),),
    }  # fmt: skip
    return Strength(**(given | changes))


def plain(html: str) -> str:
    """What a reader reads: no styles, no scripts, no tags, plain spaces."""
    body = re.sub(r"(?s)<(style|script)\b.*?</\1>", " ", html)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def parts(sheet) -> dict[str, Any]:
    scan = replace(sheet.scan, findings=())
    return {
        "scan": scan, "anatomy": sheet.anatomy, "lesion": sheet.plan.lesion,
        "strength": strength_of(sheet), "viewer": False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def html(parts, tmp_path_factory) -> str:
    return write_strength_sheet(tmp_path_factory.mktemp("s") / "s.html", **parts).read_text()


def written(tmp_path, parts, **changes: Any) -> str:
    return write_strength_sheet(tmp_path / "w.html", **parts | changes).read_text()


# --- verdict -------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_record(parts, html) -> None:
    text = plain(html)
    for one in parts["strength"].bearings:
        for failure in one.failure_n.values():
            assert f"{failure.mean:.0f} N ({failure.low:.0f}–{failure.high:.0f})" in text
        k = one.stiffness_n_mm
        assert f"{k.mean:.0f} N/mm ({k.low:.0f}–{k.high:.0f})" in text
        ratio, of = one.ratio, one.of_intact
        assert f"{ratio.mean:.2f} ({ratio.low:.2f}–{ratio.high:.2f}) {100 * of.mean:.0f} %" in text
    assert (
        "As it is: bears 1981 N under lumbar compression and flexion; load 1000 N, "
        "ratio 0.50 (0.40 to 0.67)" in text
    )
    assert "As it is: bears 3302 N under lumbar compression, 75 % of the intact bone" in text
    assert "Lumbar compression: 1000 N expected." in text
    assert "31 % (28–34)" in text  # of the cement's own strength
    assert 'class="verdict ok"' in html


def test_a_bone_that_is_expected_to_break_is_stop_and_comes_first(parts, sheet, tmp_path) -> None:
    note, stop = strength_of(sheet).findings[0], Finding(
        gravity=Gravity.STOP,
        message="As it is, the bone is expected to break under {load}: {newton:.0f}"
        " N are more than the {failure:.0f} N it bears.",
        values={"load": "lumbar compression and flexion", "newton": 1000.0, "failure": 840.0},
    )  # fmt: skip
    weak = strength_of(sheet, {"intact": 2400.0, "now": 1400.0}, findings=(note, stop))
    html = written(tmp_path, parts, strength=weak)
    assert 'class="verdict stop"' in html
    text = plain(html)
    # The load by which it breaks is spoken of first, not the usual one.
    assert text.index("bears 840 N under lumbar compression and flexion") < text.index(
        "bears 1400 N"
    )
    warnings = text[text.index("Warnings") :]
    assert warnings.index("expected to break") < warnings.index("no verdict on walking")
    assert html.count('<tr class="alarm">') == 1
    # Without the finding it is no better.
    silent = replace(weak, findings=())
    assert 'class="verdict stop"' in written(tmp_path, parts, strength=silent)


def test_what_may_break_at_its_weak_end_is_caution(parts, sheet, tmp_path) -> None:
    may = strength_of(sheet, {"intact": 4000.0, "now": 2100.0})
    assert 'class="verdict caution"' in written(tmp_path, parts, strength=may)


@pytest.mark.parametrize("change", ["unknown", "one run", "no lesion", "absurd"])
def test_what_is_not_known_is_not_ok(change, parts, sheet, tmp_path) -> None:
    more: dict[str, Any] = {}
    if change == "unknown":
        more["strength"] = replace(parts["strength"], unknown=("density of this scanner",))
        said = "density of this scanner"
    elif change == "one run":
        single = tuple(
            replace(b, failure_n={k: spread(v.mean, 0) for k, v in b.failure_n.items()},
                    ratio=spread(b.ratio.mean, 0))
            for b in parts["strength"].bearings
        )  # fmt: skip
        more["strength"] = replace(parts["strength"], bearings=single)
        said = "how far the numbers may be off"
    elif change == "no lesion":
        more["lesion"] = None
        said = "outline of the lesion"
    else:  # a model by which the intact bone breaks is not believed of any other state
        more["strength"] = strength_of(sheet, {"intact": 900.0, "now": 700.0})
        said = "ratio"
    html = written(tmp_path, parts, **more)
    assert 'class="verdict unknown"' in html
    assert said in plain(html)
    assert said in plain(html.partition('id="warnings"')[0])  # beside the word itself


def test_with_cement_found_that_is_what_is_spoken_of(parts, sheet, tmp_path) -> None:
    four = strength_of(sheet, {"intact": 4378.0, "now": 3302.0, "planned": 3572.0, "found": 3400.0})
    text = plain(written(tmp_path, parts, strength=four))
    assert "OK With the cement found: bears 2040 N" in text.replace("ok With", "OK With")
    # Nor when it would have broken without: that bone is no longer there.
    held = strength_of(sheet, {"intact": 4378.0, "now": 1500.0, "found": 4000.0})
    text = plain(written(tmp_path, parts, strength=held))
    assert "With the cement found: bears 2400 N" in text
    assert "stop As it is" not in text


def test_a_twist_is_told_in_newton_metres(parts, sheet, tmp_path) -> None:
    at = sheet.anatomy.axes.origin_mm
    told = tuple(
        bearing(s, "humerus_torsion", n, 30_000.0, at, label="twist of the humerus",
                load_n=spread(10_000.0, 0), ratio=spread(10_000.0 / n), stiffness_n_mm=None,
                stiffness_of_intact=None)
        for s, n in (("intact", 30_000.0), ("now", 25_000.0))
    )  # fmt: skip
    two = strength_of(sheet, {"intact": 30_000.0, "now": 25_000.0})
    twisted = replace(two, bearings=told)
    text = plain(written(tmp_path, parts, strength=twisted))
    assert "bears 25.0 N m under twist of the humerus; load 10.0 N m" in text
    assert "25000" not in text
    assert "N/mm" not in text


# --- sections ------------------------------------------------------------------------------------


def test_a_table_of_each_load_has_a_row_of_each_state(parts, html) -> None:
    part = html[html.index('id="strength"') : html.index('id="weakest"')]
    rows = re.findall(r'<th scope="row">([^<]+)</th>', part)
    assert rows == 2 * ["Intact", "As it is", "Cement planned"]
    heads = [re.findall(r'<th scope="col">([^<]+)</th>', h)
             for h in re.findall(r"<thead>.*?</thead>", part)]  # fmt: skip
    assert "Fails by stiffness and height" in heads[0]
    assert "Fails by stiffness and height" not in heads[1]
    assert plain(part).count("beside the lesion") == 4


def test_its_figures_stand_in_the_page(html) -> None:
    bars = html[html.index('id="strength"') : html.index('id="weakest"')]
    assert bars.count('<img src="data:image/svg+xml') == 1
    maps = html[html.index('id="weakest"') : html.index('id="beside"')]
    assert maps.count('<img src="data:image/') == 1
    links = re.findall(r'(?:src|href)="([^"]*)', html)
    assert all(x.startswith(("data:", "#")) for x in links)


def test_tumour_and_cement_are_not_shown_as_strained_bone(parts, sheet) -> None:
    told = parts["strength"]
    hole = sheet.plan.lesion.mask.on(told.bone.grid).values & told.bone.values
    assert strength_figures.strained(told, "now").values[hole].max() == 0.0
    assert strength_figures.strained(told, "planned").values[hole].max() == 0.0
    assert 0.3 < strength_figures.strained(told, "now").values.max() < 1.0
    share = strength_figures.cement(told, "planned")
    assert set(np.unique(share[hole])) == {0.0, 1.0}
    assert share[~hole].max() == 0.0
    assert strength_figures.cement(told, "now").max() == 0.0


def test_what_the_numbers_are_not_is_said(parts, html, tmp_path) -> None:
    text = plain(html)
    lines = text[text.index("What these numbers are not") :]
    for said in ("no muscles", "Linear", "not all verified", "41 to 44 %", "Not validated",
                 "may be off by 10 %", "One load at a time"):  # fmt: skip
        assert said in lines
    none = replace(parts["strength"], calibration="none")
    assert "The CT is not calibrated: grey" in plain(written(tmp_path, parts, strength=none))


def test_a_weight_is_printed_only_where_a_load_goes_with_it(parts, html, tmp_path) -> None:
    assert "Body weight" not in plain(html)
    own = tuple(replace(b, load="of my own") for b in parts["strength"].bearings[:3])
    told = replace(parts["strength"], bearings=own, unknown=("body weight",))
    assert "Body weight 70 kg taken, not known" in plain(written(tmp_path, parts, strength=told))


# --- scores --------------------------------------------------------------------------------------


def test_sins_is_a_range_of_what_a_ct_cannot_tell(parts, html) -> None:
    (sins,) = scores_on_ct(parts["anatomy"], parts["lesion"])
    assert sins.items["location"] == (2, 2)  # L3: mobile
    assert sins.items["lesion"] == (2, 2)  # lytic
    assert sins.items["pain"] == (0, 3)
    assert sins.items["alignment"] == (0, 4)
    assert sins.least.points == sum(a for a, _ in sins.items.values())
    assert sins.most.points == sum(b for _, b in sins.items.values())
    assert {"pain", "alignment"} <= set(sins.not_told)
    text = plain(html)
    assert f"SINS {sins.least.points:g} to {sins.most.points:g}" in text
    assert "Pain 0 to 3 not told by the CT alone" in text
    assert "Location 2 as told by the CT" in text
    assert "need the patient’s pain" in text


def test_a_body_that_is_seen_to_have_collapsed_scores(parts) -> None:
    anatomy = parts["anatomy"]
    seen = replace(anatomy.vertebra, anterior_mm=12.0, middle_mm=13.0, posterior_mm=26.0)
    for crush, points in ((0.0, (3, 3)), (None, (3, 3))):
        broken = replace(anatomy, vertebra=replace(seen, crush_loss=crush))
        (sins,) = scores_on_ct(broken, parts["lesion"])
        assert sins.items["collapse"] == points
    (unseen,) = scores_on_ct(replace(anatomy, vertebra=None), parts["lesion"])
    assert unseen.items["collapse"][1] == 3
    assert unseen.items["collapse"][0] <= 1


def test_pedicles_that_are_lesion_count_as_posterolateral(parts) -> None:
    anatomy, lesion = parts["anatomy"], parts["lesion"]
    arch = Mask.empty(anatomy.grid)
    side = lesion.mask.values & (np.indices(anatomy.grid.shape)[0] % 2 == 0)

    def points(left: Any, right: Any) -> tuple[float, float]:
        regions = {"pedicle_left": Mask(grid=anatomy.grid, values=left), "arch": arch,
                   "pedicle_right": Mask(grid=anatomy.grid, values=right)}  # fmt: skip
        one = replace(anatomy, regions=regions)
        return scores_on_ct(one, lesion)[0].items["posterolateral"]

    free = anatomy.bone.values & ~lesion.mask.values
    touched = free | side
    assert points(side, free) == (1, 1)
    assert points(side, side) == (3, 3)
    assert points(free, free) == (0, 0)
    assert points(free, touched) == (0, 1)


def test_mirels_of_a_long_bone_and_none_of_a_pelvis(parts) -> None:
    anatomy, lesion = parts["anatomy"], parts["lesion"]
    femur = replace(lesion, site=Site.parse("femur left"), kind="unknown")
    (mirels,) = scores_on_ct(replace(anatomy, site=femur.site, regions={}), femur)
    assert mirels.items == {"site": (2, 3), "size": (2, 2), "nature": (1, 3), "pain": (1, 3)}
    assert (mirels.least.points, mirels.most.points) == (6, 11)
    shaft = {"shaft": anatomy.bone, "trochanteric": Mask.empty(anatomy.grid)}
    (told,) = scores_on_ct(replace(anatomy, site=femur.site, regions=shaft), femur)
    assert told.items["site"] == (2, 2)
    pubis = replace(lesion, site=Site.parse("pubis left"))
    assert scores_on_ct(replace(anatomy, site=pubis.site), pubis) == ()


# --- the sheets on cement ------------------------------------------------------------------------


def test_the_section_alone_says_its_warnings(parts) -> None:
    told = replace(parts["strength"], unknown=("body weight",))
    section = strength_section(told, Speaker("en"))
    assert section["id"] == "strength"
    assert section["blocks"][0]["lines"] == [f"note: {WALKING}", "unknown: body weight"]
    assert [b["kind"] for b in section["blocks"]].count("table") == 2


def filled(parts: dict[str, Any], origin: Any) -> Fill:
    lesion = parts["lesion"].mask
    share = Volume(grid=lesion.grid, values=lesion.values.astype(np.float32), unit="1")
    return Fill(
        lesion_id="1", site=parts["anatomy"].site, origin=origin, fraction=share, volume_ml=3.7,
        low_ml=3.6, high_ml=3.8, in_bone_ml=3.7, in_lesion_ml=3.7, lesion_fill=0.5, bone_fill=0.1,
    )  # fmt: skip


def cement_parts(parts: dict[str, Any], option: Any) -> dict[str, Any]:
    fill, lesion = filled(parts, "simulated"), parts["lesion"].mask
    common = {"lesion_id": "1", "site": fill.site}
    order = np.where(lesion.values, 1.0, np.nan)
    age, ml = np.linspace(300, 500, 5), np.linspace(0, 3.7, 5)
    injection = Injection(
        **common, cement="medium", fill=fill, age_s=age, injected_ml=ml, rate_ml_s=ml, tip_pa=ml,
        syringe_pa=ml, in_bone_ml=ml, in_lesion_ml=ml, leaked_ml={}, events=(),
        order_ml=Volume(grid=lesion.grid, values=order, unit="ml"), stopped_by="planned volume",
    )  # fmt: skip
    plan = CementPlan(
        **common, cement=cement("medium"), room_c=21.0, rate_ml_s=0.02, start_s=300.0,
        latest_s=570.0, pressure_limit_pa=1.2e6, low_ml=2.9, high_ml=4.6, stop_ml=4.1,
        needles=(CementNeedle(needle=option.needle, path=option.path, volume_ml=3.7),), rules=(),
    )  # fmt: skip
    return {"scan": parts["scan"], "anatomy": parts["anatomy"], "lesion": parts["lesion"],
            "plan": plan, "injection": injection, "forecast": None, "viewer": False}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cement", "result"])
def test_a_cement_sheet_takes_a_strength_and_is_the_same_without(
    kind, parts, sheet, tmp_path
) -> None:
    write: Any = write_cement_sheet if kind == "cement" else write_result_sheet
    given = (
        cement_parts(parts, sheet.plan.options[0])
        if kind == "cement"
        else {"post": parts["scan"], "anatomy": parts["anatomy"], "viewer": False,
              "fill": filled(parts, "measured"), "lesion": parts["lesion"].mask}
    )  # fmt: skip
    without = write(tmp_path / "a.html", **given).read_text()
    none = write(tmp_path / "b.html", **given, strength=None).read_text()
    with_it = write(tmp_path / "c.html", **given, strength=parts["strength"]).read_text()
    assert none == without
    assert "What the bone bears" not in without
    i = with_it.index('<section aria-labelledby="strength">')
    j = with_it.index("</section>", i) + len("</section>")
    assert "3302 N (2476–4128)" in with_it[i:j]
    assert WALKING in plain(with_it[i:j])
    # Beside the section nothing is changed.
    assert re.sub(r"\s+", " ", with_it[:i] + with_it[j:]) == re.sub(r"\s+", " ", without)


# --- languages, viewer, doors --------------------------------------------------------------------


def test_chinese_leaves_nothing_untranslated(parts, sheet, tmp_path, untranslated) -> None:
    missing = untranslated(cement_figures, figures)
    share = Finding(
        gravity=Gravity.CAUTION,
        message="With cement ({state}) the bone bears {share:.0%} of what it "
        "would bear intact under {load}.",
        values={"state": "found", "share": 0.71, "load": "lumbar compression and flexion"},
    )
    four = strength_of(
        sheet, {"intact": 4378.0, "now": 3302.0, "planned": 3572.0, "found": 3110.0},
        unknown=("body weight", "density of this scanner", "bone beyond the image"),
        findings=(share, *parts["strength"].findings),
    )  # fmt: skip
    run = Run(
        version="9.8.7", command="trocar strength", inputs={"CT": "ab" * 32}, seed=4711,
        facts={}, parameters={}, started="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    given = parts | {"strength": four, "run": run, "language": "zh-Hant"}
    text = plain(write_strength_sheet(tmp_path / "z.html", **given).read_text())
    assert list(missing) == []
    assert "注入骨水泥後（所見），骨在腰椎壓縮加前屈下可承受完整時的 71%。" in text
    assert "現況：在腰椎壓縮下可承受 3302 N，為完整骨的 75 %" in text
    assert "病灶旁" in text
    assert "SINS" in text
    text = text[: text.index("數據來源")]
    names = {"trocar", "Kopperdahl", "SINS", "Fisher", "Spine"}
    assert set(re.findall(r"[A-Za-z]{4,}", text)) <= names


def test_words_in_the_pictures_have_their_chinese() -> None:
    code = Path(strength_figures.__file__).read_text(encoding="utf-8")
    said = re.findall(r'\bsay\("([^"]+)"\)', code)
    assert len(said) >= 4
    assert words.untranslated(said, "zh-Hant") == ()


def test_every_label_of_the_facts_has_its_chinese() -> None:
    data = load("strength").data
    said = [row["label"] for table in ("loads", "laws", "materials", "strains")
            for row in data[table].values()]  # fmt: skip
    said += [PISTOIA, STRAIN, HEIGHT, "beside the lesion", *strength_figures.STATES.values()]
    said += ["now", "planned", "found", "intact", "density of this scanner", "body weight",
             "bone beyond the image"]  # fmt: skip
    assert len(said) > 60
    zh = words.catalogue("zh-Hant")
    assert [s for s in said if s not in zh.sentences and s not in zh.names] == []


def test_the_viewer_holds_the_most_strained_bone(parts, sheet, tmp_path) -> None:
    weak = strength_of(sheet, {"intact": 2400.0, "now": 1100.0})
    html = written(tmp_path, parts, strength=weak, viewer=True)
    assert 'id="viewer"' in html
    if viewer.assets() is None:
        pytest.skip("the viewer was not installed with this copy")
    scene = re.search(r'id="viewer-scene">(.*?)</script>', html)
    assert scene
    names = [r["name"] for r in json.loads(scene.group(1))["regions"]]
    assert {"most strained bone", "bone expected to yield", "lesion"} <= set(names)


def test_hostile_names_stay_text(parts, tmp_path) -> None:
    bad = "<script>alert(1)</script>"
    told = replace(parts["strength"], lesion_id=bad, law=bad, unknown=(bad,))
    html = written(tmp_path, parts, strength=told)
    assert bad not in html
    assert "&lt;script&gt;alert(1)" in html


def test_what_cannot_be_written_is_said(parts, tmp_path) -> None:
    with pytest.raises(InputError, match="the strength sheet cannot be written"):
        write_strength_sheet(tmp_path / "none" / "s.html", **parts)
    with pytest.raises(InputError, match="cannot be written in 'fr'"):
        write_strength_sheet(tmp_path / "s.html", **parts | {"language": "fr"})
    assert sections.worst(["ok"], ["x"]) == "unknown"
