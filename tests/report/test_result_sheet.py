"""The result sheet prints what its records hold, the worst first, and asks for nothing outside."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import Any

import numpy as np
import pytest

from trocar.assessment import find_cement
from trocar.assessment.compare import FillComparison, NeedleDeviation
from trocar.errors import FrameMismatch, InputError
from trocar.imaging.bone import read_anatomy
from trocar.model.case import Finding, Gravity
from trocar.model.result import CementLeak, Fill, Injection, Registration, Run, Scan
from trocar.model.space import Mask, Volume
from trocar.phantom import cement
from trocar.report import cement_figures, viewer
from trocar.report.cement_figures import leaks_by_compartment, parts_of
from trocar.report.result import write_result_sheet


def ball(grid, centre_mm, radius_mm) -> np.ndarray:
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.linalg.norm(points - np.asarray(centre_mm), axis=-1) <= radius_mm


def leak(grid, compartment, centre_mm, radius_mm, **more: Any) -> CementLeak:
    mask = Mask(grid=grid, values=ball(grid, centre_mm, radius_mm))
    ml = mask.volume_ml
    told = {"kind": "", "reach_mm": 3.4, "low_ml": 0.9 * ml, "high_ml": 1.2 * ml} | more
    return CementLeak(compartment=compartment, volume_ml=ml, mask=mask, **told)


@pytest.fixture(scope="module")
def found(sheet) -> dict[str, Any]:
    anatomy, lesion = sheet.anatomy, sheet.plan.lesion.mask
    grid = anatomy.grid
    middle = lesion.centroid_mm
    inside = ball(grid, middle, 8.0) & anatomy.bone.values
    leaks = (
        leak(grid, "disc superior", middle + np.array([0, 0, 20]), 5.0, kind="D"),
        leak(
            grid,
            "epidural or canal",
            anatomy.structures["spinal_canal"].centroid_mm,
            3.0,
            kind="B",
            distances_mm={"nerve_root_left": 6.3, "spinal_canal": 0.0},
        ),
        leak(grid, "foraminal", middle + np.array([14, 16, 0]), 2.5),
    )
    share = inside.astype(np.float32)
    for one in leaks:
        share[one.mask.values] = 1
    fill = Fill(
        lesion_id="1",
        site=anatomy.site,
        origin="measured",
        fraction=Volume(grid=grid, values=share, unit="1"),
        volume_ml=4.26,
        low_ml=4.04,
        high_ml=4.51,
        in_bone_ml=3.18,
        in_lesion_ml=2.37,
        lesion_fill=0.331,
        bone_fill=0.083,
        leaks=leaks,
        crosses_midline=False,
        touches_end_plates=("superior",),
        old_cement_ml=0.71,
        unknown=("nerve_root_right",),
        findings=(
            Finding(
                gravity=Gravity.NOTE,
                message="No cement was found in or around {site}.",
                values={"site": str(anatomy.site)},
            ),
            Finding(
                gravity=Gravity.STOP,
                message="Cement lies in the spinal canal: {volume_ml:.2f} ml, reaching "
                "{reach_mm:.0f} mm beyond the bone.",
                values={"volume_ml": 0.11, "reach_mm": 3.4},
            ),
        ),
        registration=Registration(
            transform=np.eye(4),
            error_mm=0.27,
            correlation=0.93,
            overlap=0.98,
            shift_mm=3.6,
            turn_deg=2.2,
        ),
    )
    return {"post": sheet.scan, "anatomy": anatomy, "fill": fill, "lesion": lesion, "viewer": False}


@pytest.fixture(scope="module")
def predicted(found) -> Injection:
    fill: Fill = found["fill"]
    grid = fill.fraction.grid
    moved = np.roll(fill.fraction.values, 3, axis=2)
    guess = replace(
        fill,
        origin="simulated",
        fraction=Volume(grid=grid, values=moved, unit="1"),
        volume_ml=3.92,
        in_bone_ml=3.05,
        in_lesion_ml=2.81,
        lesion_fill=0.44,
        leaks=(fill.leaks[0], leak(grid, "needle track", fill.leaks[0].mask.centroid_mm, 3.0)),
        registration=None,
    )
    age = np.linspace(300, 500, 4)
    ml = np.linspace(0, 3.92, 4)
    return Injection(
        lesion_id="1",
        site=fill.site,
        cement="medium",
        fill=guess,
        order_ml=Volume(grid=grid, values=np.where(moved > 0.5, 1.0, np.nan), unit="ml"),
        age_s=age,
        injected_ml=ml,
        rate_ml_s=ml,
        tip_pa=ml,
        syringe_pa=ml,
        in_bone_ml=ml,
        in_lesion_ml=ml,
        leaked_ml={},
        events=(),
        stopped_by="planned volume",
    )


def text_of(html: str) -> str:
    """What a reader reads: no styles, no scripts, no tags, plain spaces."""
    body = re.sub(r"(?s)<(style|script)\b.*?</\1>", " ", html)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def page(found, predicted, tmp_path_factory) -> str:
    needle = NeedleDeviation(
        entry_mm=4.1, tip_mm=2.6, tip_lateral_mm=1.7, tip_depth_mm=-1.9, angle_deg=3.3, depth_mm=0.8
    )
    run = Run(
        version="9.8.7",
        command="trocar result",
        inputs={"post": "ef" * 32},
        facts={"cement": "12ab"},
        parameters={"speed": 3},
        seed=4711,
        started="2026-01-02T03:04:05+00:00",
    )
    out = tmp_path_factory.mktemp("result") / "a.html"
    more = {"predicted": predicted.fill, "needles": (needle,), "run": run}
    return write_result_sheet(out, **found, **more).read_text(encoding="utf-8")


def test_every_number_is_that_of_the_record(page, found, predicted) -> None:
    text, fill = text_of(page), found["fill"]
    said = [
        "4.3 ml of cement found (4.0 to 4.5 ml)",
        "4.26 ml 4.04–4.51 ml",
        "Fill of the lesion: a quarter or more (33 %), 2.4 ml in it.",
        "Fill of the bone: less than a quarter (8 %), 3.2 ml in it.",
        "Crosses the midline no",
        "End plates touched superior",
        "not counted 0.71 ml",
        "Error over the bone 0.27 mm",
        "Correlation around the bone 0.93",
        "Share of the bone on this CT 98 %",
        "Bone moved by 3.6 mm",
        "Bone turned by 2.2°",
        "1 4.1 mm 2.6 mm 1.7 mm −1.9 mm 3.3° 0.8 mm",
        "spinal canal 0.0 mm (touches), left nerve root 6.3 mm",
        "trocar 9.8.7",
        "4711",
        "ef" * 32,
        found["post"].sha256,
        f"Outside the bone {predicted.fill.leaked_ml:.2f} ml {fill.leaked_ml:.2f} ml",
        "Cement, all 3.92 ml 4.26 ml 0.34 ml",
        "Share of the lesion filled 44 % 33 % −11 %",
        "the interval found not inside it",
        "Leaks foreseen that came disc superior",
        "Leaks not foreseen epidural or canal, foraminal",
        "Leaks foreseen that did not come needle track",
    ]
    for one in fill.leaks:
        numbers = (
            f"{one.volume_ml:.2f} ml ({one.low_ml:.2f}–{one.high_ml:.2f}) {one.reach_mm:.1f} mm"
        )
        said.append(numbers)
    assert [s for s in said if s not in text] == []


def test_the_overlap_is_that_of_the_voxels(page, found, predicted) -> None:
    a, b = (f.fraction.values >= 0.5 for f in (found["fill"], predicted.fill))
    dice = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert f"Overlap (Dice, 0 to 1) {dice:.2f}" in text_of(page)


def test_the_worst_comes_first(page) -> None:
    text = text_of(page)
    assert text.index("stop") < text.index("4.3 ml of cement found")
    warned = text[text.index("Warnings") : text.index("Where the cement is")]
    assert warned.index("Cement lies in the spinal canal") < warned.index("No cement was found")
    details = text[text.index("4.3 ml of cement") : text.index("Warnings")]
    order = ("epidural or canal", "foraminal", "Fill of the lesion", "disc superior")
    assert sorted(order, key=details.index) == list(order)
    table = page[page.index('id="leaks"') :]
    assert table.index("epidural or canal") < table.index("foraminal") < table.index("disc sup")


def test_an_alarm_leak_gets_a_picture_of_its_own(page, found, tmp_path, monkeypatch) -> None:
    part = page[page.index('id="alarms"') : page.index('id="leaks"')]
    assert part.count("<img") == 2
    assert len(set(re.findall(r'<img src="([^"]+)"', part))) == 2
    places = []
    drawn = cement_figures.reslices

    def listen(*args: Any, **more: Any) -> str:
        places.extend(args[3])
        return drawn(*args, **more)

    monkeypatch.setattr(cement_figures, "reslices", listen)
    write_result_sheet(tmp_path / "a.html", **found)
    for one in (found["fill"].leaks[1], found["fill"].leaks[2]):
        assert any(one.mask.holds(p[None])[0] for p in places)
    assert not any(found["fill"].leaks[0].mask.holds(p[None])[0] for p in places)


def test_nothing_is_asked_of_a_network(page) -> None:
    links = re.findall(r'(?:src|href)="([^"]*)', page)
    assert links
    assert all(x.startswith(("data:", "#")) for x in links)
    assert "http" not in re.sub(r"data:[^\"]+", "", page).replace("http-equiv", "")


def test_the_viewer_holds_cement_and_leaks(found, tmp_path) -> None:
    html = write_result_sheet(tmp_path / "v.html", **found | {"viewer": True}).read_text()
    assert 'id="viewer"' in html
    if viewer.assets() is None:
        assert "was not installed" in html
        return
    scene = re.search(r'id="viewer-scene">(.*?)</script>', html)
    assert scene
    for name in ("cement in bone", "epidural or canal", "foraminal", "disc superior", "lesion"):
        assert f'"{name}"' in scene[1]
    numbers = re.findall(r'"number": ?(\d+)', scene[1])
    assert len(set(numbers)) == len(numbers)


def test_what_is_unknown_is_no_all_clear(found, tmp_path) -> None:
    plain = replace(found["fill"], leaks=(), findings=(), unknown=())
    anatomy = replace(found["anatomy"], missing=())
    post = replace(found["post"], findings=())
    quiet = found | {"fill": plain, "anatomy": anatomy, "post": post}
    html = write_result_sheet(tmp_path / "a.html", **quiet).read_text()
    assert 'class="verdict ok"' in html
    assert "No leak was found." in html
    for more in (
        {"fill": replace(plain, unknown=("spinal_canal",))},
        {"anatomy": found["anatomy"]},
    ):
        html = write_result_sheet(tmp_path / "b.html", **quiet | more).read_text()
        assert 'class="verdict unknown"' in html
    bare = replace(plain, lesion_fill=None, in_lesion_ml=None, registration=None)
    text = text_of(
        write_result_sheet(
            tmp_path / "c.html", **quiet | {"fill": bare, "lesion": None}
        ).read_text()
    )
    assert "Fill of the lesion: unknown" in text
    assert "Not laid over a planning CT" in text


def test_a_leak_into_a_joint_stops_even_without_a_finding(found, tmp_path) -> None:
    one = replace(found["fill"].leaks[0], compartment="intra-articular")
    fill = replace(found["fill"], leaks=(one,), findings=())
    html = write_result_sheet(tmp_path / "a.html", **found | {"fill": fill}).read_text()
    assert 'class="verdict stop"' in html


def test_no_cement_is_said(found, tmp_path) -> None:
    grid = found["fill"].fraction.grid
    none = Volume(grid=grid, values=np.zeros(grid.shape, np.float32), unit="1")
    fill = replace(
        found["fill"], fraction=none, volume_ml=0, low_ml=0, high_ml=0, leaks=(), findings=()
    )
    html = write_result_sheet(tmp_path / "a.html", **found | {"fill": fill}).read_text()
    assert "No cement was found" in html


def test_chinese_leaves_nothing_untranslated(found, predicted, tmp_path, untranslated) -> None:
    missing = untranslated(cement_figures)
    post = replace(found["post"], findings=())
    more = {"predicted": predicted.fill, "language": "zh-Hant", "post": post}
    html = write_result_sheet(tmp_path / "z.html", **found | more).read_text(encoding="utf-8")
    assert list(missing) == []
    text = re.sub(r"[0-9a-f]{64}", "", text_of(html)).replace(found["post"].name, "")
    known_latin = {"trocar", "Dice", "Yeom"}
    assert set(re.findall(r"[A-Za-z]{4,}", text)) <= known_latin


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"origin": "simulated"}, "simulated fill"),
        ({"site": "other"}, "of one bone"),
    ],
)
def test_a_wrong_fill_is_refused(found, tmp_path, change, said) -> None:
    if "site" in change:
        change = {"site": replace(found["fill"].site, level="L1")}
    fill = replace(found["fill"], **change)
    with pytest.raises(InputError, match=said):
        write_result_sheet(tmp_path / "a.html", **found | {"fill": fill})


def test_a_ct_in_another_place_is_refused(found, tmp_path) -> None:
    grid = found["post"].volume.grid
    affine = grid.affine.copy()
    affine[:3, 3] += 500.0
    away = replace(
        found["post"], volume=replace(found["post"].volume, grid=replace(grid, affine=affine))
    )
    with pytest.raises(InputError, match="lay that CT over"):
        write_result_sheet(tmp_path / "a.html", **found | {"post": away})
    fill = found["fill"]
    share = replace(fill.fraction, grid=replace(grid, frame="first"))
    volume = replace(found["post"].volume, grid=replace(grid, frame="second"))
    other = {
        "post": replace(found["post"], volume=volume),
        "fill": replace(fill, fraction=share),
    }
    with pytest.raises(FrameMismatch):
        write_result_sheet(tmp_path / "a.html", **found | other)


def test_a_comparison_alone_is_enough(found, tmp_path) -> None:
    given = FillComparison(
        dice=None,
        predicted_ml=1.23,
        found_ml=4.26,
        difference_ml=3.03,
        within_interval=True,
        hit=(),
        missed=("disc superior", "epidural or canal"),
        false_alarms=(),
    )
    html = write_result_sheet(tmp_path / "a.html", **found | {"comparison": given}).read_text()
    text = text_of(html)
    assert "Cement, all 1.23 ml 4.26 ml 3.03 ml" in text
    assert "Overlap (Dice, 0 to 1) unknown" in text
    assert "Leaks not foreseen epidural or canal, disc superior" in text


# --- the parts of the drawings ---------------------------------------------------------------


def test_the_parts_share_out_the_cement(found) -> None:
    fill = found["fill"]
    parts = parts_of(fill)
    assert [p.word for p in parts] == [
        "cement in bone",
        "epidural or canal",
        "foraminal",
        "disc superior",
    ]
    together = np.sum([p.share.values for p in parts], axis=0)
    assert np.array_equal(together, fill.fraction.values)
    assert len({p.hatch for p in parts}) == len(parts)


def test_leaks_of_one_place_are_summed(found) -> None:
    fill = found["fill"]
    twice = replace(fill, leaks=(*fill.leaks, fill.leaks[0]))
    sums = leaks_by_compartment(twice)
    assert sums["disc superior"] == pytest.approx(2 * fill.leaks[0].volume_ml)
    assert list(sums)[-1] == "disc superior"
    assert sum(sums.values()) == pytest.approx(twice.leaked_ml)


# --- a real reading of a phantom -------------------------------------------------------------


@pytest.mark.slow
def test_a_reading_of_a_phantom(tmp_path) -> None:
    patient = cement.fine("vertebra_l3")
    grid = cement.scan_grid(patient, (1.0, 0.8, 0.8), room_mm=30.0)
    pre = cement.scan(patient.ct, grid, seed=1)
    lesion = patient.lesion.on(grid)
    anatomy = read_anatomy(pre, patient.site, labels=patient.labels.on(grid), lesion=lesion)
    rng = np.random.default_rng(4)
    parts = {"bone": cement.main_part(patient, rng, 9.0)}
    parts["epidural or canal"] = cement.leak_part(patient, "epidural or canal", rng)
    after = cement.inject(patient, parts, grid, seed=4)
    fill = find_cement(after.ct, anatomy, lesion=lesion, pre=pre, lesion_id="1")
    assert any(k.compartment == "epidural or canal" for k in fill.leaks)
    from trocar.assessment import laid_over

    assert fill.registration is not None
    laid = laid_over(after.ct, fill.registration, anatomy.grid.frame)
    post = Scan(volume=laid, name="after", sha256="cd" * 32)
    html = write_result_sheet(
        tmp_path / "a.html", post=post, anatomy=anatomy, fill=fill, lesion=lesion, viewer=False
    ).read_text()
    text = text_of(html)
    assert f"{fill.volume_ml:.1f} ml of cement found" in text
    assert 'class="verdict stop"' in html
    assert html.count("<img") >= 3
