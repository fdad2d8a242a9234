"""Long work: asked for, told, cancelled, and found again after the server died."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import farm_kinds
import psutil
import pytest
from farm_work import work

from trocar import farm
from trocar.errors import InputError
from trocar.registry.models import Job, SiteKey
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
    for one in (steady, cancelled_half_way, wrong, broken):
        monkeypatch.setitem(jobs.KINDS, one.__name__, f"{__name__}:{one.__name__}")
    for kind, place in farm_kinds.KINDS.items():
        monkeypatch.setitem(jobs.KINDS, kind, place)
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


# --- Work for the farm --------------------------------------------------------------------------

MADE_UP = "made up"


class Here:
    """A line whose only worker is this process; ``before`` tells what happens on the way."""

    def __init__(self, *before: farm.News, outcome: farm.Outcome | None = None) -> None:
        self.before, self.outcome, self.sent = before, outcome, 0
        self.seen: list[tuple[str, int]] = []

    def one(self, compute: Any, payload: Any, *, news: Any, cancelled: Any, **how: Any) -> Any:
        self.sent += 1
        for one in self.before:
            news(one)
            row = Job.objects.get()
            self.seen.append((row.state, row.tries))
        if cancelled(""):
            return farm.Outcome(name="", state="cancelled")
        if self.outcome is not None:
            return self.outcome
        value = compute(payload, lambda step, f: news(news_of("step", step=step, fraction=f)))
        return farm.Outcome(name="", state="done", value=value, tries=1)


def news_of(what: Any, **more: Any) -> farm.News:
    return farm.News(name="", what=what, **more)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Here]:
    def laid(*before: farm.News, outcome: farm.Outcome | None = None) -> Here:
        made = Here(*before, outcome=outcome)
        monkeypatch.setattr(jobs, "_line", lambda: made)
        return made

    return laid


def asked(n: int = 3, **more: Any) -> Job:
    given = {"kind": MADE_UP, "asked_by": "ann", "asked_at": "2026", "parameters": {"n": n}} | more
    return Job.objects.create(**given)


def test_farmed_work_is_gathered_computed_and_kept(
    django_capture_on_commit_callbacks: Any,
) -> None:
    job = run(MADE_UP, django_capture_on_commit_callbacks, n=3)
    assert (job.state, job.result, job.tries) == ("done", "9", 1)
    assert SiteKey.objects.get(name="kept 3").key == "ann"


def test_the_farm_gives_what_this_process_gives(line: Any) -> None:
    line()
    job = asked()
    jobs.watch(str(job.uid))
    job.refresh_from_db()
    assert (job.state, job.result, job.fraction, job.step) == ("done", "9", 1.0, "done")
    assert job.result == str(work({"n": 3}, lambda step, fraction: None))
    assert "at work" in job.log


def test_what_happens_on_the_way_is_in_the_row_and_the_log(line: Any) -> None:
    way = line(
        news_of("waits", step="no scheduler can be reached"),
        news_of("begun", tries=1),
        news_of("died", tries=1),
        news_of("begun", tries=2),
        news_of("lost", tries=2),
        news_of("begun", tries=2),
    )
    job = asked()
    jobs.watch(str(job.uid))
    states = ["waiting", "running", "waiting", "running", "waiting", "running"]
    assert way.seen == list(zip(states, [0, 1, 1, 2, 2, 2], strict=True))
    job.refresh_from_db()
    lines = [text.partition(" ")[2] for text in job.log.splitlines()]
    assert lines == [
        "no scheduler can be reached", "try 1 begun by a worker", "its worker died at try 1",
        "try 2 begun by a worker", "its scheduler or worker was lost; it is sent again",
        "try 2 begun by a worker", "at work", "keeping", "done",
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["failed", "died", "hung"])
def test_why_there_is_no_result_is_told(state: Any, line: Any) -> None:
    line(outcome=farm.Outcome(name="", state=state, error="its worker died 3 times", tries=3))
    job = asked()
    jobs.watch(str(job.uid))
    job.refresh_from_db()
    assert (job.state, job.error) == ("failed", "its worker died 3 times")
    assert job.ended_at
    assert not SiteKey.objects.exists()


def test_a_job_is_watched_by_one_process_alone(line: Any) -> None:
    way = line()
    job = asked()
    for _ in range(2):
        jobs.watch(str(job.uid))
    assert way.sent == 1
    other = asked(4, claim="another process")
    jobs.watch(str(other.uid))
    assert way.sent == 1


def test_who_lost_its_claim_writes_nothing_more(line: Any) -> None:
    class Robbed(Here):
        def one(self, compute: Any, payload: Any, **how: Any) -> Any:
            Job.objects.update(claim="another process")
            return super().one(compute, payload, **how)

    way = line()
    way.__class__ = Robbed
    job = asked()
    jobs.watch(str(job.uid))
    job.refresh_from_db()
    assert (job.state, job.result) == ("waiting", "")
    assert not SiteKey.objects.exists()


def test_cancelled_work_is_not_kept(line: Any) -> None:
    class Late(Here):
        def one(self, *a: Any, **how: Any) -> Any:
            jobs.cancel(Job.objects.get())
            assert how["cancelled"]("")
            return farm.Outcome(name="", state="done", value=9, tries=1)

    way = line()
    way.__class__ = Late
    job = asked()
    jobs.watch(str(job.uid))
    job.refresh_from_db()
    assert (job.state, job.result) == ("cancelled", "")
    assert not SiteKey.objects.exists()


def test_what_cannot_be_kept_leaves_no_half(line: Any) -> None:
    line()
    SiteKey.objects.create(name="kept 3", key="x")  # a second of this name cannot be
    job = asked()
    jobs.watch(str(job.uid))
    job.refresh_from_db()
    assert job.state == "failed"
    assert job.error == "it stopped at a fault of the program (IntegrityError)"
    assert SiteKey.objects.get().key == "x"


def test_the_log_keeps_its_newest_lines() -> None:
    log = ""
    for n in range(1000):
        log = jobs._longer(log, f"line {n} " + 40 * "x")
    assert len(log) <= jobs.LONGEST_LOG
    assert log.splitlines()[-1].split()[2] == "999"
    assert log.splitlines()[0].split()[1] == "line"  # whole


def test_the_time_left_goes_by_the_pace_so_far() -> None:
    begun = (datetime.now(UTC) - timedelta(seconds=30)).isoformat()
    job = Job(state="running", begun_at=begun, fraction=0.25)
    assert job.seconds_left == pytest.approx(90, abs=2)
    assert Job(state="running", begun_at=begun, fraction=0.0).seconds_left is None
    assert Job(state="waiting", begun_at=begun, fraction=0.5).seconds_left is None


def test_after_a_restart_farmed_work_waits_again_and_the_rest_is_told(
    settings: Any, line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_HERE = False
    running = asked(1, state="running", claim="dead server", fraction=0.5)
    waiting, table = asked(2), asked(3, kind="audit", state="running")
    done = asked(4, state="done")
    assert jobs.recover() == 3
    for job in (running, waiting, table, done):
        job.refresh_from_db()
    assert [j.state for j in (running, waiting, table, done)] == [
        "waiting", "waiting", "interrupted", "done"
    ]  # fmt: skip
    assert (running.claim, running.fraction) == ("", 0.0)
    started: list[str] = []
    monkeypatch.setattr(jobs, "_start", lambda uid, kind: started.append(uid))
    assert jobs.rescue() == 2
    assert started == [str(running.uid), str(waiting.uid)]


def test_work_whose_watcher_is_gone_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(jobs, "_start", lambda uid, kind: started.append(uid))

    def ago(seconds: float) -> str:
        moment = datetime.now(UTC) - timedelta(seconds=seconds)
        return moment.isoformat(timespec="microseconds")

    left = asked(1, state="running", claim="gone", watched_at=ago(jobs._FORGOTTEN_S + 30))
    asked(2, state="running", claim="well", watched_at=ago(5))
    # Nobody signs while an outcome comes: one that comes slowly is not computed again.
    slowly = farm.line.COMES_S + jobs._SEEN_S
    asked(3, state="running", claim="fetching", watched_at=ago(slowly))
    assert jobs.rescue() == 1
    assert started == [str(left.uid)]
    left.refresh_from_db()
    assert (left.state, left.claim) == ("waiting", "")


def test_jobs_that_begin_at_once_start_one_farm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any
) -> None:
    started: list[Path] = []

    class Slow:
        def __init__(self, place: Path) -> None:
            self.place = place

        def start(self) -> None:
            time.sleep(0.2)
            started.append(self.place)

        def close(self) -> None:
            pass

        def keep(self, tell: Any) -> None:
            pass

    for name in (jobs.ADDRESS, jobs.PLACE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(farm, "LocalFarm", Slow)
    settings.HOME = tmp_path
    jobs._laid.cache_clear()
    try:
        with ThreadPoolExecutor(8) as pool:
            lines = [asked.result() for asked in [pool.submit(jobs._line) for _ in range(8)]]
    finally:
        jobs._laid.cache_clear()
    assert len(started) == 1
    assert len(set(map(id, lines))) == 1


def test_seconds_of_silence_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROCAR_SILENCE_S", "60")
    assert jobs._limit_s() == 60.0
    monkeypatch.setenv("TROCAR_SILENCE_S", "long")
    with pytest.raises(InputError, match="TROCAR_SILENCE_S"):
        jobs._limit_s()


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


# --- A whole site ---------------------------------------------------------------------------------


def _rows(home: Path) -> list[tuple[str, str, int, str]]:
    with sqlite3.connect(f"file:{home}/registry.sqlite3?mode=ro", uri=True) as base:
        told = base.execute("SELECT state, result, tries, log FROM registry_job ORDER BY id")
        return list(told.fetchall())


def _until(what: Callable[[], Any], seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := what():
                return found
        except sqlite3.OperationalError:
            pass  # no table yet
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Starts the site of ``farm_kinds`` with so many jobs that wait."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TROCAR_", "DJANGO_"))}
    shared = Path(farm_kinds.__file__)
    paths = os.pathsep.join(p for p in (str(shared.parent), os.environ.get("PYTHONPATH")) if p)
    kept |= {"TROCAR_HOME": str(tmp_path), "PYTHONPATH": paths, "TROCAR_WORKERS": "2",
             "DJANGO_SETTINGS_MODULE": "trocar.web.settings"}  # fmt: skip
    running: list[subprocess.Popen[str]] = []

    def start(jobs_: int) -> subprocess.Popen[str]:
        running.append(
            subprocess.Popen([sys.executable, str(shared), str(jobs_)], env=kept, text=True)
        )
        return running[-1]

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_a_site_that_is_killed_goes_on_where_it_was(
    site: Callable[[int], subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = site(6)
    _until(
        lambda: (
            sum(r[0] == "done" for r in _rows(tmp_path)) >= 1
            and any(r[0] == "running" for r in _rows(tmp_path))
        )
    )
    family = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.wait()
    gone, left = psutil.wait_procs(family, timeout=15)
    assert not left  # neither answering processes nor workers outlive the site
    assert len(gone) >= 3
    second = site(0)
    workers = _until(
        lambda: [p for p in psutil.Process(second.pid).children(recursive=True)
                 if "spawn_main" in " ".join(p.cmdline())]
    )  # fmt: skip
    _until(lambda: any(r[0] == "running" for r in _rows(tmp_path)))
    workers[0].send_signal(signal.SIGKILL)
    rows = _until(lambda: all(r[0] == "done" for r in _rows(tmp_path)) and _rows(tmp_path))
    assert [r[1] for r in rows] == [str(n**2) for n in range(6)]
    assert any("the server was started again" in r[3] for r in rows)
    with sqlite3.connect(f"file:{tmp_path}/registry.sqlite3?mode=ro", uri=True) as base:
        names = base.execute("SELECT name FROM registry_sitekey WHERE name LIKE 'kept%'")
        assert sorted(n for (n,) in names) == [f"kept {n}" for n in range(6)]  # each once
