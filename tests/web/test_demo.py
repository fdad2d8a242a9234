"""The registry of the demonstration: every state is there, all of it real, nobody's own touched."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import made_training
import pytest
from django.db import transaction
from django.test import Client, TestCase

from trocar import tasks
from trocar.demonstration import Carried
from trocar.errors import InputError
from trocar.model.care import CARE_TABLES, STATES
from trocar.model.columns import columns
from trocar.model.study import TABLES
from trocar.pathway import workflow
from trocar.pathway.cement import write_cement, write_result
from trocar.registry import chain, roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, Case, Person, Study
from trocar.web import cases, demo


def synthetic() -> Any:
    return MODELS["lesions"].objects.filter(study__study_id=demo.STUDY_ID).order_by("pk")


class TestFilled(TestCase):
    """What the demonstration holds; filled once for all of these."""

    filled: demo.Filled

    @classmethod
    def setUpTestData(cls) -> None:
        cls.filled = demo.populate()

    def test_every_state_holds_a_synthetic_lesion(self) -> None:
        there = set(Case.objects.filter(lesion__in=synthetic()).values_list("state", flat=True))
        assert there == set(STATES)
        for lesion in synthetic():
            assert lesion.lesion_id.startswith("synthetic-")
            assert store.read_care(lesion).state == lesion.case.state
            planned = next(p.state for p in demo.PATIENTS if p.name == lesion.lesion_id)
            assert lesion.case.state == planned

    def test_the_series_is_a_finished_cohort(self) -> None:
        from trocar.io.records import example_study

        row = Study.objects.get(study_id="hong-kong-2013")
        held, series = store.read_study(row), example_study()
        assert all(getattr(held, table) == getattr(series, table) for table in TABLES)
        lines = Case.objects.filter(lesion__study=row)
        assert {(c.state, c.next_due) for c in lines} == {("closed", "")}
        assert len(lines) == len(series)
        assert self.filled.lesions == len(series) + len(demo.PATIENTS)

    def test_every_gate_of_every_lesion_gives_an_answer(self) -> None:
        for lesion in MODELS["lesions"].objects.all():
            record, care = store.read_record(lesion), store.read_care(lesion)
            for state in workflow.NEXT[care.state]:
                for gate in workflow.gates(state, record, care, today=cases.today()):
                    assert gate.text, gate.gate
                    assert "{" not in gate.text, gate.gate

    def test_history_and_log_are_real(self) -> None:
        report = chain.verify()
        assert report.sound, report.why
        assert report.rows == sum(m.objects.count() for m in MODELS.values()) + 2 + len(
            store.read_study(Study.objects.get(study_id="hong-kong-2013")).notes
        )
        plan = MODELS["plans"].objects.get(lesion__lesion_id="synthetic-06", number=1)
        assert to_record(plan).revoked_at is not None
        told = {change.column for change in store.history(plan)}
        assert {"approved_by", "revoked_at"} <= told

    def test_there_is_something_of_every_table_and_every_trouble(self) -> None:
        empty = {t for t in (*TABLES, *CARE_TABLES) if not MODELS[t].objects.exists()}
        assert empty <= {"runs", "exclusions"}  # runs come with what was computed
        lines = Case.objects.filter(lesion__in=synthetic())
        today = cases.today()
        assert lines.filter(next_due__gt="", next_due__lt=today).exists(), "an overdue visit"
        assert lines.filter(next_due__gte=today).exists(), "a visit to come"
        assert lines.filter(missing_scores__gt=0).exists()
        assert lines.filter(unsigned_plan=True).exists()
        assert lines.filter(open_gates__gt=0).exists()
        over = [s for s in map(to_record, MODELS["steps"].objects.all()) if s.overridden]
        assert over
        assert all(s.reason for s in over)
        assert MODELS["votes"].objects.filter(signed_at__isnull=False).exists()

    def test_the_logins_work(self) -> None:
        assert set(self.filled.accounts) == set(roles.ROLES)
        for role, name in self.filled.accounts.items():
            client = Client(HTTP_HOST="localhost")
            assert client.login(username=name, password=self.filled.password)
            assert Person.objects.get(user__username=name).role == role
        assert not Client(HTTP_HOST="localhost").login(
            username="radiologist", password="another one"
        )


def _rows() -> dict[str, list[Any]]:
    """Every row of the synthetic study; moments are those of the filling and are left out."""
    out: dict[str, list[Any]] = {}
    for table, model in MODELS.items():
        where = {store.path_to_study(table) + "__study_id": demo.STUDY_ID}
        moments = {c.name for c in columns(model.record) if "moment" in c.help or "UTC" in c.help}
        out[table] = [
            {k: v for k, v in vars(to_record(row)).items() if k not in moments}
            for row in model.objects.filter(**where).order_by("pk")
        ]
    return out


@pytest.mark.slow
def test_one_seed_gives_the_same_rows(db: Any) -> None:
    seen = []
    for seed in (4, 4, 5):
        with transaction.atomic():
            demo.populate(seed=seed)
            seen.append(_rows())
            transaction.set_rollback(True)
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "registry.sqlite3"
    mine.write_text("a unit's own")
    with pytest.raises(InputError, match="no demonstration"):
        demo.fill(tmp_path)
    assert mine.read_text() == "a unit's own"


def test_a_process_that_serves_another_registry_does_not_fill_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a process of its own"):
        demo.fill(tmp_path / "registry")


@pytest.mark.slow
def test_it_is_filled_twice_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """In processes of their own, as the command does; the unit's registry is not touched."""
    home, own = tmp_path / "out" / "registry", tmp_path / "own"
    own.mkdir()
    code = (
        "import sys, json, pathlib; from trocar.web import demo;"
        "f = demo.fill(pathlib.Path(sys.argv[1]));"
        "from django.conf import settings; from trocar.registry.models import Case;"
        "print(json.dumps([f.lesions, Case.objects.count(), str(settings.HOME),"
        " settings.DATABASES['default']['ENGINE']]))"
    )
    environment = os.environ | {
        "TROCAR_HOME": str(own), "TROCAR_DATABASE": "postgresql://nobody@127.0.0.1:1/none",
    }  # fmt: skip
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, str(home)], env=environment, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        lesions, lines, at, engine = json.loads(done.stdout)
        assert lesions == lines == len(demo.PATIENTS) + 11
        assert (Path(at), engine) == (home.resolve(), "django.db.backends.sqlite3")
    assert list(own.iterdir()) == []


def test_without_its_packages_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    demo.show(tmp_path / "registry")
    said = capsys.readouterr().out
    assert "pip install 'trocar[web]'" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "registry").exists()


def test_a_port_in_use_is_not_taken() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert demo.free_port(port) == 0
    assert demo.free_port(port) == port


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh-Hant"])
def test_a_computed_sheet_is_kept_in_every_language(tmp_path: Path, language: str) -> None:
    """Whichever it was written in, it lies where the page of a result looks for it."""
    case = made_training.case()
    files = write_cement(tmp_path, case, language=language, viewer=False)
    computed = Carried(
        planned=case.planned, files=files, cemented=case,
        folders={"leak forecast": tuple(files.values())},
    )  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(demo._packed(computed, "leak forecast"))) as archive:
        held = {p.name for p in files.values()}
        assert set(archive.namelist()) == held | {"cement.zh-Hant.html"}
        for name, one in (("cement.html", "en"), ("cement.zh-Hant.html", "zh-Hant")):
            sheet = archive.read(name).decode()
            assert f'<html lang="{one}">' in sheet
            assert '<section id="viewer"' not in sheet  # none was wanted
        as_written = archive.read(tasks.translated("cement.html", language))
    assert as_written == files["cement sheet"].read_bytes()


@pytest.mark.slow
def test_what_was_computed_is_one_of_the_patients(db: Any, settings: Any, tmp_path: Path) -> None:
    """The numbers, the sheets and their hashes are those of the computation."""
    from trocar import demonstration, pathway
    from trocar.io.exact import fingerprint
    from trocar.phantom import make
    from trocar.phantom.files import as_scan
    from trocar.web import bench

    settings.KEPT_FILES = tmp_path / "kept"
    patient = make("vertebra_l3", seed=0)
    planned = pathway.plan_lesion(
        as_scan(patient), patient.site, labels=patient.labels, click_mm=patient.click_mm
    )
    files = pathway.write_case(tmp_path / "out", planned, viewer=False)
    case, assessed = demonstration.cement_and_look(planned, patient, runs=4, seed=0)
    found = write_result(tmp_path / "out", assessed, viewer=False)
    for computed in (
        Carried(
            planned=planned, files=files, cemented=case, assessed=assessed,
            folders={"assessment": tuple(found.values())},
        ),
        Carried(planned=planned, files=files),
    ):  # fmt: skip
        with transaction.atomic():
            demo.populate(computed=computed)
            lesion = synthetic().last()
            plan = to_record(MODELS["plans"].objects.get(lesion=lesion))
            row = MODELS["plans"].objects.get(lesion=lesion)
            assert fingerprint(bench.planned(row).plan) == fingerprint(planned.plan)
            assert len(bench.images(lesion)) == (1 if computed.cemented is None else 2)
            assert lesion.site == "L3"
            assert lesion.posterior_wall_defect is True  # as the plan sheet says
            assert chain.verify().sound
            if computed.cemented is None:
                assert (lesion.case.state, lesion.case.unsigned_plan) == ("planning", True)
                assert plan.cement_ml is None
            else:
                assert lesion.case.state == "treated"
                assert plan.cement_ml == pytest.approx(case.plan.target_ml, abs=0.05)
                read = to_record(MODELS["assessments"].objects.get(lesion=lesion))
                assert read.cement_ml == pytest.approx(assessed.fill.volume_ml, abs=0.005)
                assert read.leak_found == bool(assessed.fill.leaks)
                names = bench.result_names(read.result_sha256)
                assert {"result.html", "result.zh-Hant.html"} <= set(names)
                run = MODELS["runs"].objects.get(lesion=lesion, kind="plan")
                assert run.result_sha256 == plan.plan_sha256
            transaction.set_rollback(True)
