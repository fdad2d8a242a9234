"""Cases on workers: what ends well, what does not, what dies, hangs or is not wanted any more."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from farm_work import work

from trocar import farm
from trocar.errors import InputError
from trocar.farm import Case, LocalFarm, News, Outcome
from trocar.farm import line as lines
from trocar.farm import worker as on_worker

# Where a worker finds the work.
SHARED = os.pathsep.join(
    p for p in (str(Path(__file__).parent / "shared"), os.environ.get("PYTHONPATH")) if p
)
BIN = Path(sys.executable).parent


def case(n: int, do: str = "square", **more: Any) -> Case:
    return Case(name=str(n), payload={"do": do, "n": n} | more)


def by_name(outcomes: Iterator[Outcome]) -> dict[str, Outcome]:
    found = {}
    for outcome in outcomes:
        assert outcome.name not in found
        found[outcome.name] = outcome
    return found


def until(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def pids(line: farm.Line) -> set[int]:
    """The workers that answer."""
    return {o.value["pid"] for o in line.run(work, [case(n, "threads") for n in range(8)])}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFarm]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SHARED)
        made = LocalFarm(tmp_path_factory.mktemp("farm"), 2)
        made.start()
        made.wait()
        made.keep(lambda sentence: None)
        yield made
        made.close()


@pytest.fixture(scope="module")
def line(local: LocalFarm) -> Iterator[farm.Line]:
    made = farm.Line(local.place)
    yield made
    made.close()


# --- What one case comes to -------------------------------------------------------------------


def test_serial_and_two_workers_give_the_same_bits(line: farm.Line) -> None:
    cases = [case(n, "sums") for n in range(12)]
    told = by_name(line.run(work, cases))
    serial = by_name(farm.run_all(work, cases, workers=0))
    assert set(told) == {c.name for c in cases}
    for name, one in told.items():
        assert (one.state, one.tries, serial[name].state) == ("done", 1, "done")
        assert one.value["sum"].hex() == serial[name].value["sum"].hex()
        assert one.value["values"].tobytes() == serial[name].value["values"].tobytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_case_is_told_in_a_sentence_and_stops_no_other(workers: int, line: farm.Line) -> None:
    cases = [case(0), case(1, "bad"), case(2, "fault"), case(3, "exit"), case(4)]
    told = by_name(line.run(work, cases) if workers else farm.run_all(work, cases, workers=0))
    assert [told[str(n)].state for n in range(5)] == ["done", *["failed"] * 3, "done"]
    assert told["1"].error == "case 1 has no lesion; expected one"
    assert told["2"].error == "it stopped at a fault of the program (KeyError)"
    assert told["2"].place.startswith("_fault:")
    assert "K-1234" not in str(told["2"])  # a patient's number in the words of the error
    assert "SystemExit" in told["3"].error


def test_what_cannot_travel_is_told(line: farm.Line) -> None:
    told = by_name(line.run(work, [case(0, "strange"), case(1, bad=threading.Lock()), case(2)]))
    assert [told[n].state for n in "012"] == ["failed", "failed", "done"]
    assert "TypeError" in told["0"].error
    assert "TypeError" in told["1"].error


def test_a_worker_of_another_version_is_refused() -> None:
    answer = pickle.loads(on_worker.perform(b"", "0.0.1", "topic", "token", 1.0))
    assert answer.state == "failed"
    assert "0.0.1" in answer.error


def test_a_worker_has_its_share_of_the_cores(line: farm.Line) -> None:
    told = list(line.run(work, [case(n, "threads") for n in range(8)]))
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {o.value["numba"] for o in told} == {share}
    assert len({o.value["pid"] for o in told}) == 2


# --- Death, silence, second thoughts ------------------------------------------------------------


@pytest.mark.slow
def test_a_case_that_takes_its_worker_down_is_tried_three_times_and_named(
    line: farm.Line, tmp_path: Path
) -> None:
    news: list[News] = []
    cases = [case(n) for n in range(8)] + [
        case(100, "killed"),
        case(101, "killed", folder=str(tmp_path), until=2),
    ]
    told = by_name(line.run(work, cases, news=news.append))
    dead = told.pop("100")
    assert (dead.state, dead.tries) == ("died", 3)
    assert dead.error.startswith("its worker died 3 times")
    assert (told["101"].value, told["101"].tries) == (101**2, 3)
    assert (tmp_path / "tried-101").read_text() == "3"
    assert all(told[str(n)].value == n**2 and told[str(n)].tries == 1 for n in range(8))
    begun = [n.tries for n in news if n.name == "100" and n.what == "begun"]
    assert begun == [1, 2, 3]
    assert sum(n.name == "100" and n.what == "died" for n in news) == 3


@pytest.mark.slow
def test_silence_is_ended_and_named(line: farm.Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "STOPPING_S", 600.0)  # the worker sees to it by itself
    cases = [case(0, "hang"), *(case(n) for n in range(1, 5)), case(5, "steps", seconds=2.5)]
    told = by_name(line.run(work, cases, limit_s=1.0))
    assert told.pop("0").error == "it told nothing for 1 s and was ended"
    assert {o.state for o in told.values()} == {"done"}  # 2.5 s, but never silent
    until(lambda: len(pids(line)) == 2)


def test_a_case_that_nobody_wants_stops_at_its_next_word(line: farm.Line, tmp_path: Path) -> None:
    begun = threading.Event()
    asked = case(7, "steps", seconds=60, folder=str(tmp_path))
    told = next(
        line.run(
            work, [asked], cancelled=lambda name: name == "7" and begun.is_set(),
            news=lambda n: begun.set() if n.what == "step" else None,
        )
    )  # fmt: skip
    assert told.state == "cancelled"
    until((tmp_path / "stopped-7").exists)


@pytest.mark.slow
def test_a_worker_that_will_not_stop_is_started_anew(
    line: farm.Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "STOPPING_S", 0.5)
    before = until(lambda: both if len(both := pids(line)) == 2 else set())
    begun = threading.Event()
    told = next(
        line.run(
            work, [case(0, "hang")], cancelled=lambda _: begun.is_set(),
            news=lambda n: begun.set() if n.what == "begun" else None,
        )
    )  # fmt: skip
    assert told.state == "cancelled"

    def both_free() -> set[int]:
        both = pids(line)
        return both if len(both) == 2 and both != before else set()

    assert len(until(both_free) & before) == 1


def test_leaving_early_leaves_nothing_behind(line: farm.Line, tmp_path: Path) -> None:
    taken: list[int] = []

    def endless() -> Iterator[Case]:
        for n in range(10_000):
            taken.append(n)
            yield case(n, "steps", seconds=0.0 if n < 4 else 60.0, folder=str(tmp_path))

    outcomes = line.run(work, endless())
    assert next(outcomes).state == "done"
    assert len(taken) <= 8  # as workers become free, not all at once
    time.sleep(0.5)
    outcomes.close()
    assert line.one(work, {"n": 3}).value == 9


# --- What carries it ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_farm_of_this_machine_answers_this_machine_and_who_has_its_key(
    local: LocalFarm, tmp_path: Path
) -> None:
    assert local.place.stat().st_mode & 0o077 == 0
    assert local._process is not None
    host = psutil.Process(local._process.pid)
    ports = [c.laddr for p in (host, *host.children(recursive=True))
             for c in p.net_connections() if c.status == "LISTEN"]  # fmt: skip
    assert len(ports) > 3
    assert {address.ip for address in ports} == {"127.0.0.1"}
    told = json.loads(local.place.read_text())
    pems = [tmp_path / name for name in ("cert", "key")]
    for pem, name in zip(pems, ("tls_client_cert", "tls_client_key"), strict=True):
        pem.write_text(told["security"][name])
    stranger, friend = (ssl.create_default_context() for _ in range(2))
    friend.load_cert_chain(*pems)
    assert _first_byte(told["address"], friend)
    assert not _first_byte(told["address"], stranger)


def _first_byte(address: str, context: ssl.SSLContext) -> bytes:
    """What a farm says first; nothing to whom it does not know."""
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _, port = address.removeprefix("tls://").partition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain) as spoken,
        ):
            return spoken.recv(1)
    except (ssl.SSLError, ConnectionError):
        return b""


@pytest.mark.slow
def test_it_begins_when_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", SHARED)
    lazy, said = LocalFarm(tmp_path, 1), list[str]()
    lazy.prepare()
    lazy.keep(said.append)
    time.sleep(1.0)
    assert lazy._process is None
    way = farm.Line(lazy.place)
    try:
        assert way.one(work, {"n": 3}).value == 9
    finally:
        way.close()
        lazy.close()
    assert said == []


@pytest.mark.slow
def test_when_the_farm_dies_it_comes_again_and_nothing_is_lost(
    local: LocalFarm, line: farm.Line
) -> None:
    news: list[News] = []
    assert local._process is not None
    old, killed = local._process.pid, threading.Event()

    def hear(one: News) -> None:
        news.append(one)
        if one.name == "1" and one.what == "begun" and not killed.is_set():
            killed.set()
            os.kill(old, signal.SIGKILL)

    workers = [p.pid for p in psutil.Process(old).children(recursive=True)]
    told = by_name(line.run(work, [case(n, "steps", seconds=0.3) for n in range(6)], news=hear))
    assert {n: o.value for n, o in told.items()} == {str(n): n**2 for n in range(6)}
    assert {o.tries for o in told.values()} == {1}  # that was no fault of theirs
    assert any(n.what == "lost" for n in news)
    assert not any(psutil.pid_exists(pid) for pid in workers)
    assert local._process.pid != old


def test_without_a_scheduler_one_sentence_says_so(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = farm.Line(f"tcp://127.0.0.1:{free.getsockname()[1]}")
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_CONNECT_S", 0.5)
        with pytest.raises(farm.Unreachable, match="no scheduler can be reached at tcp://127"):
            next(nobody.run(work, [case(1)], wait_s=0.1))
    assert time.monotonic() - began < 20
    with pytest.raises(InputError, match="did not start"):
        LocalFarm(tmp_path, 1).wait(0.1)
    with pytest.raises(InputError, match="0 workers"):
        LocalFarm(tmp_path, 0)


def test_without_dask_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trocar.farm.local.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'trocar\[cohort\]'"):
        LocalFarm(tmp_path, 1).start()
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'trocar\[cohort\]'"):
        next(farm.Line("tcp://127.0.0.1:1").run(work, [case(1)], wait_s=0.0))


@pytest.mark.parametrize("said", ["0", "two", "-1"])
def test_a_number_of_workers_that_is_none_is_refused(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROCAR_WORKERS", said)
    with pytest.raises(InputError, match="TROCAR_WORKERS"):
        farm.usual_workers()


# --- Many: kept and gone on from ------------------------------------------------------------------


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    notes, kept = tmp_path / "notes", tmp_path / "kept"

    def run(cases: list[Case], **how: Any) -> tuple[list[int], dict[str, Outcome]]:
        notes.write_text("")
        told = by_name(farm.run_all(work, cases, workers=0, done=kept, **how))
        return [int(n) for n in notes.read_text().split()], told

    def noted(n: int, key: str = "a", **more: Any) -> Case:
        return Case(name=str(n), key=key, payload={"do": "noted", "n": n, "in": str(notes)} | more)

    cases = [noted(0), noted(1), noted(2, then="bad"), noted(3)]
    seen, first = run(cases)
    assert seen == [0, 1, 2, 3]
    assert [first[str(n)].state for n in range(4)] == ["done", "done", "failed", "done"]
    seen, again = run(cases)
    assert seen == [2]  # what failed is tried again
    assert {n for n, o in again.items() if o.before} == {"0", "1", "3"}
    assert (again["3"].value, again["3"].seconds) == (9, first["3"].seconds)
    assert run([*cases[:3], noted(3, "b")])[0] == [2, 3]  # and what rests on something else
    assert run(cases[:2], holds=lambda o: o.name != "1")[0] == [1]  # and what is no longer there
    for place in kept.glob("*.json"):
        place.write_text("{")
    assert run(cases[:1])[0] == [0]


def test_what_was_done_before_needs_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [Case(name=str(n), key="a", payload={"n": n}) for n in range(3)]
    list(farm.run_all(work, cases, workers=0, done=tmp_path))
    monkeypatch.setattr("trocar.farm.batch.opened", lambda *a: pytest.fail("it was opened"))
    told = by_name(farm.run_all(work, cases, done=tmp_path))
    assert {n: o.value for n, o in told.items()} == {"0": 0, "1": 1, "2": 4}


# --- The whole storm ------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_hundred_cases_with_crashes_faults_and_a_hang_all_end_or_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", SHARED)
    once = {"folder": str(tmp_path), "until": 1}
    strange: dict[int, dict[str, Any]] = {
        **{n: {"do": "killed"} for n in (7, 90)},
        **{n: {"do": "killed"} | once for n in (13, 55, 120, 180)},
        **{n: {"do": "bad"} for n in (20, 21, 150)},
        **{n: {"do": "fault"} for n in (33, 34, 199)},
        **{n: {"do": "exit"} for n in (70,)},
        **{n: {"do": "hang"} for n in (50,)},
    }
    cases = [case(n, **({"do": "sums"} | strange.get(n, {}))) for n in range(200)]
    calm = [c for c in cases if c.payload["do"] == "sums"]
    told = by_name(farm.run_all(work, cases, workers=2, limit_s=4.0))
    assert len(told) == 200
    serial = by_name(farm.run_all(work, calm, workers=0))
    for name, one in serial.items():
        assert told[name].value["values"].tobytes() == one.value["values"].tobytes()
    expected = {"killed": "died", "bad": "failed", "fault": "failed", "exit": "failed",
                "hang": "hung"}  # fmt: skip
    for n, what in strange.items():
        one = told[str(n)]
        if "until" in what:
            assert (one.state, one.value, one.tries) == ("done", n**2, 2)
        else:
            assert one.state == expected[what["do"]]
            assert one.error


@pytest.mark.slow
def test_a_scheduler_elsewhere_is_killed_and_comes_again(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    surroundings = os.environ | {"PYTHONPATH": SHARED}
    running: dict[str, subprocess.Popen[bytes]] = {}

    def start(what: str, *arguments: str) -> None:
        running[what] = subprocess.Popen(
            [str(BIN / "dask"), what, *arguments, "--no-dashboard"], env=surroundings,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
        )  # fmt: skip

    def scheduler() -> None:
        start("scheduler", "--host", "127.0.0.1", "--port", str(port))

    def worker() -> None:
        start("worker", address, "--nworkers", "2", "--nthreads", "1", "--death-timeout", "20")

    ended = threading.Event()

    def supervise() -> None:
        """As a service manager does: what ends is started again."""
        while not ended.wait(0.2):
            for what, again in (("scheduler", scheduler), ("worker", worker)):
                if running[what].poll() is not None:
                    again()

    scheduler()
    worker()
    threading.Thread(target=supervise, daemon=True).start()
    struck: list[str] = []

    def strike(news: News) -> None:
        if news.what == "begun" and news.name == "4" and "scheduler" not in struck:
            struck.append("scheduler")
            running["scheduler"].kill()
        if news.what == "begun" and news.name == "12" and "worker" not in struck:
            struck.append("worker")
            nannies = psutil.Process(running["worker"].pid).children(recursive=True)
            min(nannies, key=lambda p: p.pid).send_signal(signal.SIGKILL)

    try:
        cases = [case(n, "steps", seconds=0.3) for n in range(16)]
        told = by_name(farm.run_all(work, cases, scheduler=address, news=strike))
    finally:
        ended.set()
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait(20)
    assert struck == ["scheduler", "worker"]
    assert {n: o.value for n, o in told.items()} == {str(n): n**2 for n in range(16)}
    assert np.sum([o.tries for o in told.values()]) <= 18  # a dead scheduler is nobody's try
