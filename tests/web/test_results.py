"""What was computed stands where it can be read, and nobody's version is lost by it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trocar import tasks
from trocar.model.case import Finding, Gravity
from trocar.pathway import Planned, edits
from trocar.phantom import make
from trocar.phantom.files import as_scan
from trocar.registry import roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, ChainEvent, Job
from trocar.web import arrivals, bench, cases, jobs, kept, work_kinds
from trocar.web.pages.results import _jobs


@pytest.fixture(scope="module")
def outlined() -> Planned:
    """A synthetic patient's lesion with one needle by hand."""
    patient = make("vertebra_l3", seed=0)
    planned = edits.outlined(
        as_scan(patient), patient.site, click_mm=patient.click_mm, labels=patient.labels,
        case_id="one",
    )  # fmt: skip
    axes = planned.anatomy.axes
    tip = planned.lesion.mask.centroid_mm
    entry = tip + 90.0 * axes.posterior + 30.0 * axes.left
    one = edits.Live(planned).measure(entry_mm=entry, target_mm=tip)
    return edits.with_needle(planned, one)


@pytest.fixture
def files(settings: Any, tmp_path: Path) -> Path:
    settings.KEPT_FILES = tmp_path / "files"
    settings.JOBS_HERE = True
    return tmp_path


@pytest.fixture
def on_bench(files: Path, lesion: Any, outlined: Planned, people: Any) -> Any:
    """A lesion whose CT and plan are kept."""
    from trocar.model.care import Imaging

    image = Imaging(
        image_id="one", lesion_id=lesion.lesion_id, modality="CT", purpose="planning",
        sha256=bench.keep_image(outlined.scan),
    )  # fmt: skip
    cases.save("images", image, who="radiologist", why="added", study=lesion.study)
    bench.keep_version(
        lesion, outlined, who="radiologist", why="drawn", parent=bench.last_number(lesion)
    )
    return lesion


def test_a_plan_comes_back_as_it_was_drawn(on_bench: Any, outlined: Planned) -> None:
    found = bench.newest(on_bench)
    assert found is not None
    row, case = found
    assert bench.planned(row) is case  # held, not read twice
    assert [o.depth_mm for o in case.plan.options] == [o.depth_mm for o in outlined.plan.options]
    told = to_record(row)
    best = outlined.plan.best
    assert best is not None
    assert told.route == best.route.replace("_", " ")
    assert told.verdict == outlined.plan.verdict
    assert told.needles == 1


def test_a_plan_without_a_needle_is_never_ok(outlined: Planned) -> None:
    bare = edits.without_needle(outlined, 0)
    assert bench.said_of(bare) == {
        "route": None, "needles": None, "needle_gauge": None, "verdict": "unknown",
    }  # fmt: skip


def test_who_edits_an_old_version_is_told(on_bench: Any, outlined: Planned) -> None:
    parent = bench.last_number(on_bench)
    bench.keep_version(on_bench, outlined, who="radiologist", why="moved", parent=parent)
    with pytest.raises(store.Conflict, match="radiologist changed this"):
        bench.keep_version(on_bench, outlined, who="specialist", why="moved", parent=parent)


def test_a_typed_edit_keeps_the_needle_it_does_not_touch(on_bench: Any, clients: Any) -> None:
    address = f"/case/{on_bench.uid}/plan/new/"
    row = MODELS["plans"].objects.filter(lesion=on_bench).latest("number")
    typed = {
        "parent": row.number, "why": "more cement", "techniques": ["cement"], "route": row.route,
        "needles": row.needles, "needle_gauge": row.needle_gauge or "", "cement_ml": "2.5",
        "verdict": row.verdict,
    }  # fmt: skip
    assert clients["radiologist"].post(address, typed).status_code == 302
    new = MODELS["plans"].objects.filter(lesion=on_bench).latest("number")
    assert (new.cement_ml, new.plan_sha256) == (2.5, row.plan_sha256)
    typed |= {"parent": new.number, "route": "parapedicular"}
    assert clients["radiologist"].post(address, typed).status_code == 302
    assert MODELS["plans"].objects.filter(lesion=on_bench).latest("number").plan_sha256 is None
    found = bench.newest(on_bench)  # the picture goes on from the last computed one
    assert found is not None
    assert found[0].number == new.number


def test_a_wrong_level_is_a_stop_whatever_the_needle(outlined: Planned) -> None:
    wrong = Finding(gravity=Gravity.STOP, message="the level may be wrong")
    plan = replace(outlined.plan, findings=(wrong,))
    assert bench.said_of(replace(outlined, plan=plan))["verdict"] == "stop"


def test_cement_of_one_needle_is_not_that_of_another(on_bench: Any, outlined: Planned) -> None:
    """A plan that is kept as it was keeps its volumes; a needle that moved does not."""
    last = MODELS["plans"].objects.filter(lesion=on_bench).latest("number")
    typed = replace(to_record(last), cement_ml=2.0, stop_ml=3.0, ablation="18 G, 5 min")
    cases.plan(on_bench, typed, who="radiologist", why="typed", parent=last.number)
    number = bench.last_number(on_bench)
    same = bench.keep_version(on_bench, outlined, who="radiologist", why="seen", parent=number)
    assert (same.cement_ml, same.stop_ml, same.ablation) == (2.0, 3.0, "18 G, 5 min")
    tip = outlined.lesion.mask.centroid_mm
    entry = outlined.plan.options[0].entry_mm
    moved = edits.Live(outlined).measure(
        entry_mm=entry, target_mm=tip - 2.0 * outlined.anatomy.axes.posterior
    )
    other = edits.with_needle(outlined, moved, replacing=0)
    kept_ = bench.keep_version(on_bench, other, who="radiologist", why="moved", parent=same.number)
    assert (kept_.cement_ml, kept_.stop_ml, kept_.ablation) == (None, None, None)


def made_run(files: bytes = b"", verdict: str = "caution") -> tasks.Made:
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("cement.html", "<!doctype html><title>cement</title><p>the sheet")
        archive.writestr("cement.zh-Hant.html", "<!doctype html><title>x</title><p>骨水泥")
        told = {"target_ml": 1.31, "plan": {"cement": {"name": "low viscosity"}, "stop_ml": 2.04}}
        archive.writestr("cement.json", json.dumps(told))
        archive.writestr("extra.bin", files)
    return tasks.Made(
        files=out.getvalue(),
        told={
            "kind": "leak forecast", "verdict": verdict, "cement": "low viscosity",
            "target_ml": 1.31, "stop_ml": 2.04, "started": "2026-01-02T03:04:05+00:00",
            "seconds": 12.34, "seed": 7, "version": "0.1.0", "inputs_sha256": "a" * 64,
            "facts_sha256": "b" * 64,
        },
    )  # fmt: skip


def test_a_run_and_its_sheet_are_read_and_logged(on_bench: Any, clients: Any) -> None:
    told = work_kinds._keep_run(
        {"lesion": str(on_bench.uid), "parent": 1}, "radiologist", made_run()
    )
    uid = json.loads(told)["run"]
    page = clients["radiologist"].get(f"/case/{on_bench.uid}/results/").content.decode()
    assert f"/case/{on_bench.uid}/run/{uid}/" in page
    assert "low viscosity: 1.3 ml planned; stop at 2.0 ml" in page
    page = clients["radiologist"].get(f"/case/{on_bench.uid}/run/{uid}/").content.decode()
    row = MODELS["runs"].objects.get(uid=uid)
    address = f"/case/{on_bench.uid}/result/{row.result_sha256}/cement.html"
    assert f'src="{address}"' in page
    assert ChainEvent.objects.filter(kind="view", subject=f"runs:{uid}").count() == 1
    sheet = clients["radiologist"].get(address)
    assert b"the sheet" in sheet.content
    policy = sheet["Content-Security-Policy"]
    assert "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy
    chinese = clients["radiologist"].get(
        f"/case/{on_bench.uid}/run/{uid}/", headers={"accept-language": "zh-hant"}
    )
    assert "cement.zh-Hant.html" in chinese.content.decode()


def test_only_sheets_of_this_lesion_are_shown(on_bench: Any, clients: Any) -> None:
    told = work_kinds._keep_run(
        {"lesion": str(on_bench.uid), "parent": 1}, "radiologist", made_run(b"1")
    )
    row = MODELS["runs"].objects.get(uid=json.loads(told)["run"])
    other = MODELS["lesions"].objects.exclude(pk=on_bench.pk).first()
    see = clients["radiologist"]
    for path in (
        f"/case/{other.uid}/result/{row.result_sha256}/cement.html",
        f"/case/{on_bench.uid}/result/{row.result_sha256}/cement.json",
        f"/case/{on_bench.uid}/result/{row.result_sha256}/none.html",
        f"/case/{on_bench.uid}/result/{'0' * 64}/cement.html",
        f"/case/{other.uid}/run/{row.uid}/",
    ):
        assert see.get(path).status_code == 404, path


def test_a_run_is_taken_over_into_the_plan(on_bench: Any, clients: Any) -> None:
    told = work_kinds._keep_run(
        {"lesion": str(on_bench.uid), "parent": 1}, "radiologist", made_run(b"2")
    )
    uid = json.loads(told)["run"]
    last = MODELS["plans"].objects.filter(lesion=on_bench).latest("number")
    assert MODELS["runs"].objects.get(uid=uid).plan_number == last.number
    cases.approve(last, who="radiologist", why="seen on the images")  # its needle is a stop
    address = f"/case/{on_bench.uid}/run/{uid}/take/"
    answer = clients["radiologist"].post(address, {"parent": last.number})
    assert answer.status_code == 302
    new = to_record(MODELS["plans"].objects.filter(lesion=on_bench).latest("number"))
    assert (new.cement, new.cement_ml, new.stop_ml) == ("low viscosity", 1.3, 2.0)
    assert new.plan_sha256 == last.plan_sha256
    assert not new.approved
    last.refresh_from_db()
    assert to_record(last).revoked_at
    clash = clients["radiologist"].post(address, {"parent": last.number}, follow=True)
    assert "changed this" in clash.content.decode()


def run_of(lesion: Any, made: tasks.Made) -> Any:
    asked = {"lesion": str(lesion.uid), "parent": bench.last_number(lesion)}
    told = work_kinds._keep_run(asked, "radiologist", made)
    return MODELS["runs"].objects.get(uid=json.loads(told)["run"])


def test_what_a_run_forbids_the_plan_forbids(on_bench: Any, clients: Any) -> None:
    run = run_of(on_bench, made_run(b"3", verdict="stop"))
    number = bench.last_number(on_bench)
    address = f"/case/{on_bench.uid}/run/{run.uid}/take/"
    assert clients["radiologist"].post(address, {"parent": number}).status_code == 302
    new = to_record(MODELS["plans"].objects.filter(lesion=on_bench).latest("number"))
    assert (new.number, new.verdict) == (number + 1, "stop")


def test_a_run_of_another_needle_is_not_taken(
    on_bench: Any, clients: Any, outlined: Planned
) -> None:
    run = run_of(on_bench, made_run(b"4"))
    bare = edits.without_needle(outlined, 0)
    number = bench.last_number(on_bench)
    bench.keep_version(on_bench, bare, who="radiologist", why="out", parent=number)
    address = f"/case/{on_bench.uid}/run/{run.uid}/take/"
    page = clients["radiologist"].post(address, {"parent": number + 1}, follow=True)
    assert "simulated for another needle" in page.content.decode()
    assert bench.last_number(on_bench) == number + 1
    # Nor does the bone bear the cement of another needle.
    asked = {"lesion": str(on_bench.uid), "parent": number + 1}
    assert work_kinds.LOAD.gather(asked).predicted is None
    assert work_kinds.LOAD.gather(asked | {"parent": number}).predicted is not None


def test_volumes_not_to_pass_are_never_rounded_up(on_bench: Any) -> None:
    told = dict(made_run().told) | {"target_ml": 2.96, "stop_ml": 2.99}
    assert work_kinds.summary(told) == "low viscosity: 2.9 ml planned; stop at 2.9 ml"
    heat = {"kind": "ablation", "device": "18 G", "seconds_on": 300.0, "covered": 0.996}
    assert work_kinds.summary(heat) == "18 G, 5.0 min; 99 % of the lesion dies"


def test_what_a_person_read_on_a_ct_stands(on_bench: Any) -> None:
    """The program fills what was left open, and adds its sheet."""
    from trocar.model.care import Assessment, Imaging

    image = Imaging(
        image_id="after", lesion_id=on_bench.lesion_id, modality="CT", purpose="after",
        date="2026-01-05", sha256=MODELS["images"].objects.get(image_id="one").sha256,
    )  # fmt: skip
    row = cases.save("images", image, who="radiologist", why="added", study=on_bench.study)
    read = Assessment(
        lesion_id=on_bench.lesion_id, date="2026-01-05", read_by="radiologist", leak_found=True,
        compartments=("epidural or canal",), note="Seen beside the root.",
    )  # fmt: skip
    cases.save("assessments", read, who="radiologist", why="read", study=on_bench.study)
    found = {
        "cement_ml": 2.5, "low_ml": 2.4, "high_ml": 2.6, "lesion_fill": 0.4, "compartments": [],
    }  # fmt: skip
    made = replace(made_run(b"5"), told=made_run().told | found)
    asked = {"lesion": str(on_bench.uid), "image": str(row.uid)}
    work_kinds.ASSESS.keep(asked, "coordinator", made)
    kept_ = to_record(MODELS["assessments"].objects.get(lesion=on_bench))
    assert (kept_.leak_found, kept_.compartments) == (True, ("epidural or canal",))
    assert (kept_.note, kept_.read_by) == ("Seen beside the root.", "radiologist")
    assert (kept_.cement_ml, kept_.image_id) == (2.5, "after")
    assert kept_.result_sha256


def after_ct(lesion: Any, day: str) -> Any:
    """A CT afterwards, of a day; the row."""
    from trocar.model.care import Imaging

    image = Imaging(
        image_id="after", lesion_id=lesion.lesion_id, modality="CT", purpose="after", date=day,
        sha256=MODELS["images"].objects.get(image_id="one").sha256,
    )  # fmt: skip
    return cases.save("images", image, who="radiologist", why="added", study=lesion.study)


def looked(parts: str = "", leaks: tuple[str, ...] = (), ml: float = 2.5) -> tasks.Made:
    """A result as a worker packs it, with the parts of its sheet that are named."""
    import io
    import zipfile

    out = io.BytesIO()
    fill = {
        "volume_ml": ml, "low_ml": 2.4, "high_ml": 2.6, "lesion_fill": 0.41,
        "leaks": [{"compartment": name} for name in leaks],
    }  # fmt: skip
    with zipfile.ZipFile(out, "w") as archive:
        ids = "".join(f'<h2 id="{part}">' for part in parts.split())
        archive.writestr("result.html", f"<!doctype html><title>x</title>{ids}")
        archive.writestr("result.json", json.dumps({"fill": fill}))
    told = {
        "cement_ml": ml, "low_ml": 2.4, "high_ml": 2.6, "lesion_fill": 0.41,
        "compartments": list(leaks),
    }  # fmt: skip
    return tasks.Made(files=out.getvalue(), told=told)


def look(lesion: Any, image: Any, made: tasks.Made, who: str = "radiologist") -> Any:
    """Keep it; the record and its row."""
    work_kinds.ASSESS.keep({"lesion": str(lesion.uid), "image": str(image.uid)}, who, made)
    row = MODELS["assessments"].objects.get(lesion=lesion)
    return to_record(row), row


def page_of(lesion: Any, row: Any) -> str:
    assert row.lesion_id == lesion.pk
    return bench.result_file(row.result_sha256, "result.html").decode()


def test_a_second_look_loses_nothing_that_was_known(on_bench: Any) -> None:
    image = after_ct(on_bench, "2026-01-05")
    record, row = look(on_bench, image, looked("foreseen strength"))
    assert (record.leak_found, record.compartments) == (False, ())  # none of them
    record, row = look(on_bench, image, looked("foreseen"))
    assert (record.leak_found, record.compartments) == (False, ())
    assert 'id="strength"' in page_of(on_bench, row)  # the same was found, and less is said of it
    record, row = look(on_bench, image, looked("foreseen", ("disc",), 2.55))
    assert (record.cement_ml, record.compartments) == (2.55, ("disc",))
    assert 'id="strength"' not in page_of(on_bench, row)  # of another amount of cement
    record, row = look(on_bench, image, looked("foreseen strength", ("disc",), 2.55))
    assert 'id="strength"' in page_of(on_bench, row)


def test_what_a_person_corrected_stands_whenever_it_is_looked_again(on_bench: Any) -> None:
    image = after_ct(on_bench, "2026-01-05")
    record, row = look(on_bench, image, looked("foreseen", ("disc",)))
    mine = replace(record, nearest_joint_mm=4.0, cement_ml=2.2, note="Seen beside the root.")
    cases.save("assessments", mine, who="radiologist", why="read", study=on_bench.study, row=row)
    record, row = look(on_bench, image, looked("foreseen", ("other",), 2.7), "coordinator")
    assert (record.cement_ml, record.nearest_joint_mm) == (2.2, 4.0)
    assert (record.note, record.read_by) == ("Seen beside the root.", "radiologist")
    assert record.compartments == ("other",)  # nobody touched these


def test_places_of_a_leak_that_a_person_saw_are_not_made_none(on_bench: Any) -> None:
    from trocar.model.care import Assessment

    image = after_ct(on_bench, "2026-01-05")
    read = Assessment(lesion_id=on_bench.lesion_id, date="2026-01-05", leak_found=True)
    cases.save("assessments", read, who="radiologist", why="read", study=on_bench.study)
    record, _ = look(on_bench, image, looked())
    assert (record.leak_found, record.compartments) == (True, None)


def asked_of(lesion: Any, image: Any) -> tuple[str, str | None]:
    """The plan and the forecast that a CT afterwards is held against."""
    asked = work_kinds.ASSESS.gather({"lesion": str(lesion.uid), "image": str(image.uid)})
    assert asked.plan is not None
    return (
        Path(asked.plan.place).stem,
        None if asked.predicted is None else Path(asked.predicted.place).stem,
    )


def newest_plan(lesion: Any) -> Any:
    return MODELS["plans"].objects.filter(lesion=lesion).latest("number")


def test_a_ct_afterwards_is_held_against_the_plan_that_was_carried_out(
    on_bench: Any, outlined: Planned
) -> None:
    """A needle dragged since then made a version with no forecast; it was not that."""
    from trocar.model.course import Procedure

    first, run = newest_plan(on_bench), run_of(on_bench, made_run(b"6"))
    cases.approve(first, who="radiologist", why="seen")
    today = cases.today()
    done = Procedure(procedure_id="P-now", lesion_id=on_bench.lesion_id, date=today)
    cases.save("procedures", done, who="radiologist", why="done", study=on_bench.study)
    image = after_ct(on_bench, today)
    bare = edits.without_needle(outlined, 0)
    number = bench.last_number(on_bench)
    bench.keep_version(on_bench, bare, who="radiologist", why="dragged", parent=number)
    first.refresh_from_db()
    assert first.revoked_at  # by the version after it
    assert asked_of(on_bench, image) == (first.plan_sha256, run.result_sha256)
    later = run_of(on_bench, made_run(b"7"))
    assert later.plan_number == number + 1
    assert asked_of(on_bench, image) == (first.plan_sha256, run.result_sha256)
    cases.approve(newest_plan(on_bench), who="radiologist", why="this one")
    second = newest_plan(on_bench)
    assert asked_of(on_bench, image) == (second.plan_sha256, later.result_sha256)


def test_where_no_plan_was_signed_the_one_with_a_forecast_counts(
    on_bench: Any, outlined: Planned
) -> None:
    first, run = newest_plan(on_bench), run_of(on_bench, made_run(b"8"))
    bare = edits.without_needle(outlined, 0)
    bench.keep_version(
        on_bench, bare, who="radiologist", why="dragged", parent=bench.last_number(on_bench)
    )
    for day in ("2026-01-05", cases.today()):
        MODELS["images"].objects.filter(image_id="after").delete()
        image = after_ct(on_bench, day)
        assert asked_of(on_bench, image) == (first.plan_sha256, run.result_sha256)
    MODELS["runs"].objects.filter(pk=run.pk).delete()
    assert asked_of(on_bench, image) == (newest_plan(on_bench).plan_sha256, None)


def sheet_run(kind: str, name: str, said: str, verdict: str | None) -> tasks.Made:
    """A simulation whose sheet says a verdict."""
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        banner = f'<section id="verdict" class="verdict {said}" aria-labelledby="verdict-line">'
        archive.writestr(name, f"<!doctype html><title>x</title>{banner}")
    told = dict(made_run().told) | {"kind": kind, "verdict": verdict}
    told |= {"device": "18 G", "seconds_on": 300.0, "covered": 1.0}
    return tasks.Made(files=out.getvalue(), told=told)


def test_the_list_says_the_verdict_that_the_sheet_says(on_bench: Any, clients: Any) -> None:
    rows = {
        "Ablation": run_of(on_bench, sheet_run("ablation", "ablation.html", "caution", None)),
        "Strength": run_of(on_bench, sheet_run("strength", "strength.html", "unknown", None)),
        "Injection": run_of(on_bench, sheet_run("leak forecast", "cement.html", "ok", "stop")),
    }
    see = clients["radiologist"]
    listed = see.get(f"/case/{on_bench.uid}/results/")
    said = {r["title"]: r["verdict"] for r in listed.context["runs"]}
    assert said == {
        "Ablation": {"verdict": "caution", "sign": "!"},
        "Strength": {"verdict": "unknown", "sign": "?"},
        "Injection": {"verdict": "stop", "sign": "✕"},
    }
    page = listed.content.decode()
    assert '<span class="pill caution"><span aria-hidden="true">!</span> caution</span>' in page
    assert "leak forecast" not in page
    for title, row in rows.items():
        page = see.get(f"/case/{on_bench.uid}/run/{row.uid}/").content.decode()
        assert f"<h1>{title}</h1>" in page
        assert f"{said[title]['sign']}</span> {said[title]['verdict']}</span>" in page


def test_a_share_is_in_per_cent_as_on_its_sheet(on_bench: Any, clients: Any) -> None:
    look(on_bench, after_ct(on_bench, "2026-01-05"), looked())
    page = clients["radiologist"].get(f"/case/{on_bench.uid}/results/").content.decode()
    assert "<td>41 %</td>" in page
    assert "0.41" not in page


def test_two_versions_say_their_verdicts_and_what_stops_them(
    on_bench: Any, clients: Any, outlined: Planned
) -> None:
    one = outlined.plan.options[0]
    level = Finding(gravity=Gravity.STOP, message="The level may be wrong.")
    cautions = tuple(Finding(gravity=Gravity.CAUTION, message=f"Remark {n}.") for n in (1, 2))
    close = tuple(replace(m, distance_mm=0.0, required_mm=2.0) for m in one.margins[:2])
    needle = replace(one, margins=(*close, *one.margins[2:]), findings=cautions)
    worse = replace(outlined, plan=replace(outlined.plan, options=(needle,), findings=(level,)))
    number = bench.last_number(on_bench)
    bench.keep_version(on_bench, worse, who="radiologist", why="dragged", parent=number)
    page = clients["radiologist"].get(
        f"/case/{on_bench.uid}/bench/compare/", {"from": number, "to": number + 1}
    )
    said = [(x["what"], x["b"]) for x in page.context["lines"] if x["b"] != "–"]
    stops = [b for what, b in said if what == "Stop"]
    assert stops[0].count(",") == 1  # the two margins
    assert stops[1:] == ["The level may be wrong."]
    assert [b for what, b in said if what == "Caution"][-2:] == ["Remark 1.", "Remark 2."]
    text = page.content.decode()
    assert ".;" not in text
    mark = '<strong class="mark stop"><span aria-hidden="true">✕</span> stop</strong>'
    assert mark in text
    assert "stop <span" not in text  # the word once


def test_a_result_that_comes_too_late_waits(on_bench: Any, clients: Any, outlined: Planned) -> None:
    """Somebody made a version while the search ran: theirs stands, the result is kept."""
    parent = bench.last_number(on_bench)
    bench.keep_version(on_bench, outlined, who="specialist", why="moved", parent=parent)
    asked = {"lesion": str(on_bench.uid), "parent": parent, "why": "searched"}
    told = work_kinds._keep_plan(
        asked, "radiologist", tasks.kept_plan(edits.preferred(outlined, 0))
    )
    result = json.loads(told)
    assert result["by"] == "specialist"
    assert kept.holds(result["waiting"])
    assert bench.last_number(on_bench) == result["number"]
    job = Job.objects.create(
        kind="search", asked_by="radiologist", asked_at="2026-01-02T03:04:05+00:00",
        parameters=asked, state="done", result=told, fraction=1.0,
    )  # fmt: skip
    see = clients["radiologist"]
    page = see.get(f"/case/{on_bench.uid}/job/{job.uid}/").content.decode()
    assert "specialist made version" in page
    see.post(f"/case/{on_bench.uid}/job/{job.uid}/take/", {"parent": result["number"]})
    assert bench.last_number(on_bench) == result["number"] + 1


def test_work_is_done_on_the_version_that_was_seen(on_bench: Any, outlined: Planned) -> None:
    seen = MODELS["plans"].objects.filter(lesion=on_bench).latest("number")
    bare = edits.without_needle(outlined, 0)
    bench.keep_version(on_bench, bare, who="specialist", why="out", parent=seen.number)
    asked = work_kinds.INJECT.gather({"lesion": str(on_bench.uid), "parent": seen.number})
    assert asked.plan is not None
    assert Path(asked.plan.place).name == f"{seen.plan_sha256}.zip"


def test_a_job_tells_the_workbench_and_another_lesion_nothing(on_bench: Any, clients: Any) -> None:
    job = Job.objects.create(
        kind="search", asked_by="radiologist", asked_at="2026-01-02T03:04:05+00:00",
        parameters={"lesion": str(on_bench.uid)}, state="failed", error="no needle fits",
    )  # fmt: skip
    see = clients["radiologist"]
    told = see.get(f"/case/{on_bench.uid}/job/{job.uid}/?json").json()
    assert (told["state"], told["error"]) == ("failed", "no needle fits")
    other = MODELS["lesions"].objects.exclude(pk=on_bench.pk).first()
    assert see.get(f"/case/{other.uid}/job/{job.uid}/").status_code == 404


@pytest.mark.slow
def test_a_sheet_is_drawn_once_and_then_read(
    on_bench: Any, clients: Any, django_capture_on_commit_callbacks: Any
) -> None:
    row = MODELS["plans"].objects.filter(lesion=on_bench).latest("number")
    see = clients["radiologist"]
    address = f"/case/{on_bench.uid}/plan/{row.uid}/sheet/"
    with django_capture_on_commit_callbacks(execute=True):
        assert "/job/" in see.get(address)["Location"]
    assert Job.objects.get(kind="sheet").state == "done"
    page = see.get(address).content.decode()
    assert f"/case/{on_bench.uid}/plan/{row.uid}/sheet.html" in page
    assert see.get(f"/case/{on_bench.uid}/plan/{row.uid}/sheet.html").status_code == 200
    assert Job.objects.filter(kind="sheet").count() == 1


def test_work_asks_for_what_it_needs(
    on_bench: Any, outlined: Planned, django_capture_on_commit_callbacks: Any
) -> None:
    asked = work_kinds.SEARCH.gather({"lesion": str(on_bench.uid), "count": 3, "seed": 9})
    assert asked.options == {"count": 3}
    assert tasks.open_scan(asked.scan.place).sha256 == outlined.scan.sha256
    assert asked.scan.data is None
    gone = {"lesion": "00000000-0000-0000-0000-000000000000"}
    with django_capture_on_commit_callbacks(execute=True):
        cut = jobs.submit("search", gone, "radiologist")
    cut.refresh_from_db()
    assert cut.error == "the lesion is no longer in the registry"


def test_the_two_scans_are_kept_apart(on_bench: Any, outlined: Planned) -> None:
    other = replace(outlined.scan, sha256="0" * 64)
    assert bench.keep_image(other) != bench.keep_image(outlined.scan)


def _job(kind: str, lesion: Any, **more: Any) -> Job:
    given = {"asked_by": "radiologist", "asked_at": "2026-01-02T03:04:05+00:00"} | more
    parameters = {"lesion": str(lesion.uid), "token": "", "series": ""} | given.pop("asked", {})
    return Job.objects.create(kind=kind, parameters=parameters, **given)


@pytest.mark.parametrize("kind", ["outline", "search", "ablate", "assess", "sheet", "read"])
def test_who_may_not_ask_for_work_cannot_repeat_or_stop_it(
    lesion: Any, clients: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Images are the coordinator's; what plans, or goes into a plan, is the radiologist's."""
    only_plans = roles.RIGHTS["specialist"] | {roles.PLAN}
    monkeypatch.setattr(roles, "RIGHTS", {**roles.RIGHTS, "specialist": only_plans})
    may = {
        "radiologist": True, "coordinator": kind == "read", "specialist": kind != "read"
    }  # fmt: skip
    for who, allowed in may.items():
        done, open_ = _job(kind, lesion, state="done"), _job(kind, lesion)
        waits = {"token": arrivals.begin(str(lesion.uid), who)} if kind == "read" else {}
        failed = _job(kind, lesion, state="failed", asked=waits)
        jobs_before = Job.objects.count()
        base, status = f"/case/{lesion.uid}/job/", 302 if allowed else 404
        assert clients[who].post(f"{base}{done.uid}/again/").status_code == status, who
        assert Job.objects.count() == jobs_before + allowed
        assert clients[who].post(f"{base}{open_.uid}/cancel/").status_code == status, who
        open_.refresh_from_db()
        assert open_.state == ("cancelled" if allowed else "waiting")
        page = clients[who].get(f"{base}{failed.uid}/").content.decode()
        assert (f"{base}{failed.uid}/again/" in page) == allowed  # nor is it offered


def test_what_was_refused_and_taken_away_is_not_offered_again(lesion: Any, clients: Any) -> None:
    failed = _job("read", lesion, state="failed", error="this is no CT")
    page = clients["coordinator"].get(f"/case/{lesion.uid}/job/{failed.uid}/").content.decode()
    assert "this is no CT" in page
    assert "/again/" not in page


def test_a_late_result_is_taken_after_further_versions_and_once(
    on_bench: Any, clients: Any, outlined: Planned
) -> None:
    parent = bench.last_number(on_bench)
    bench.keep_version(on_bench, outlined, who="specialist", why="moved", parent=parent)
    asked = {"lesion": str(on_bench.uid), "parent": parent, "why": "searched"}
    told = work_kinds._keep_plan(
        asked, "radiologist", tasks.kept_plan(edits.preferred(outlined, 0))
    )
    job = _job("search", on_bench, state="done", result=told, fraction=1.0, asked=asked)
    clash = json.loads(told)["number"]
    bench.keep_version(on_bench, outlined, who="specialist", why="moved again", parent=clash)
    see, address = clients["radiologist"], f"/case/{on_bench.uid}/job/{job.uid}/"
    newest = bench.last_number(on_bench)
    assert newest == clash + 1

    def forget_the_second() -> None:
        """Another plan than the one that waits stands in the version after the clash."""
        rows = MODELS["plans"].objects.filter(lesion=on_bench, number=newest)
        rows.update(plan_sha256="0" * 64)

    forget_the_second()
    page = see.get(address).content.decode()
    assert f'name="parent" value="{newest}"' in page
    results = f"/case/{on_bench.uid}/results/"
    assert "waits to be taken" in see.get(results).content.decode()
    assert see.post(f"{address}take/", {"parent": newest}).status_code == 302
    assert bench.last_number(on_bench) == newest + 1
    assert "take/" not in see.get(address).content.decode()
    assert "waits to be taken" not in see.get(results).content.decode()
    told_now = see.get(f"{address}?json").json()
    assert "waiting" not in told_now["result"]
    assert told_now["target"] == f"/case/{on_bench.uid}/bench/"
    assert see.post(f"{address}take/", {"parent": newest + 1}).status_code == 404
    assert bench.last_number(on_bench) == newest + 1


def test_the_last_jobs_are_read_without_their_logs(
    lesion: Any, clients: Any, django_assert_num_queries: Any
) -> None:
    for n in range(25):
        _job("ablate", lesion, state="failed", error=f"fault {n}.", log="x" * 1000)
    with django_assert_num_queries(1) as asked:
        found = _jobs(lesion)
        assert [j.error for j in found] == [f"fault {n}." for n in range(24, 4, -1)]
    assert '"log"' not in asked[0]["sql"]
    assert "LIMIT 20" in asked[0]["sql"]
    page = clients["radiologist"].get(f"/case/{lesion.uid}/results/").content.decode()
    assert page.count("fault ") == 20
