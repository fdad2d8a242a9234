"""Long work: asked for, told, cancelled, and found again after the server died."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trocar.errors import InputError
from trocar.registry.models import Job
from trocar.web import jobs

pytestmark = pytest.mark.django_db
SEEN: list[tuple[str, float, str]] = []


def steady(parameters: Mapping[str, Any], who: str, tell: jobs.Tell) -> str:
    for i in range(5):
        tell("counting", i / 4)
        SEEN.append((who, i / 4, Job.objects.get().state))
    return str(parameters["n"])


def cancelled_half_way(parameters: Mapping[str, Any], who: str, tell: jobs.Tell) -> str:
    jobs.cancel(Job.objects.get())
    tell("half", 1.0)
    raise AssertionError("it went on")


def wrong(parameters: Mapping[str, Any], who: str, tell: jobs.Tell) -> str:
    raise InputError("no lesion fits; expected one")


def broken(parameters: Mapping[str, Any], who: str, tell: jobs.Tell) -> str:
    raise KeyError("patient K-1234")


@pytest.fixture(autouse=True)
def _here(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_HERE = True
    for work in (steady, cancelled_half_way, wrong, broken):
        monkeypatch.setitem(jobs.KINDS, work.__name__, f"{__name__}:{work.__name__}")
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this())


def _this() -> Any:
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


def run(kind: str, capture: Any, **parameters: Any) -> Job:
    with capture(execute=True):
        job = jobs.submit(kind, parameters, "ann")
    job.refresh_from_db()
    return job


def test_work_ends_with_its_result(django_capture_on_commit_callbacks: Any) -> None:
    SEEN.clear()
    job = run("steady", django_capture_on_commit_callbacks, n=7)
    assert (job.state, job.result, job.fraction) == ("done", "7", 1.0)
    assert job.ended_at
    assert SEEN[-1] == ("ann", 1.0, "running")


def test_nothing_begins_before_it_is_kept() -> None:
    job = jobs.submit("steady", {"n": 1}, "ann")  # the test's transaction never ends
    job.refresh_from_db()
    assert job.state == "waiting"


def test_cancel_stops_at_the_next_step(django_capture_on_commit_callbacks: Any) -> None:
    job = run("cancelled_half_way", django_capture_on_commit_callbacks)
    assert (job.state, job.result) == ("cancelled", "")
    assert not jobs.cancel(job)


def test_a_job_cancelled_while_it_waits_never_begins() -> None:
    job = jobs.submit("broken", {}, "ann")
    assert jobs.cancel(job)
    jobs.perform(str(job.uid))
    job.refresh_from_db()
    assert (job.state, job.error) == ("cancelled", "")


def test_faults_are_told_without_what_they_held(
    django_capture_on_commit_callbacks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job = run("broken", django_capture_on_commit_callbacks)
    assert job.state == "failed"
    assert "K-1234" not in job.error + caplog.text
    assert "KeyError" in caplog.text
    Job.objects.all().delete()
    assert "expected one" in run("wrong", django_capture_on_commit_callbacks).error


def test_what_a_dead_server_left_is_interrupted_and_can_run_again(
    django_capture_on_commit_callbacks: Any,
) -> None:
    Job.objects.create(kind="steady", parameters={"n": 3}, asked_by="ann", asked_at="2026",
                       state="running")  # fmt: skip
    assert jobs.recover() == 1
    job = Job.objects.get()
    assert job.state == "interrupted"
    with django_capture_on_commit_callbacks(execute=True):
        new = jobs.again(job, "bob")
    # `steady` looks at the only job there is; two are there now, which is a fault of the test's
    # work and not of the runner: it must be told as failed, not lost.
    new.refresh_from_db()
    assert new.state == "failed"
    assert new.asked_by == "bob"
    assert new.parameters == {"n": 3}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="audit"):
        jobs.submit("nonsense", {}, "ann")


_SCRIPT = """
import time, django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from trocar.io.records import example_study
from trocar.registry import store
from trocar.registry.models import Job, Study
from trocar.web import jobs
store.take_in(example_study(), who="ann", why="test")
study = str(Study.objects.get().uid)
job = jobs.submit("audit", {"study": study}, "ann")
for _ in range(600):
    job.refresh_from_db()
    if job.state not in jobs.OPEN:
        break
    time.sleep(0.1)
print(job.state, job.error)
"""


@pytest.mark.slow
def test_a_process_of_its_own_makes_an_audit(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TROCAR_DATABASE"}
    environment |= {"TROCAR_HOME": str(tmp_path), "DJANGO_SETTINGS_MODULE": "trocar.web.settings"}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "done", done.stderr[-2000:]
