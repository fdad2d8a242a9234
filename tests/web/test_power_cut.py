"""Killed at any moment, the site keeps every write it acknowledged and a log that holds.

Four clients save visits over the programming interface, each as fast as it is answered; the server
is killed with SIGKILL, it and whatever it started, at a random moment, fifty times. Then another
process looks at what is there. Some servers are started by ``trocar serve``; the others are the
same server forked from a process that has loaded it, which saves its seconds of loading.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
KILLS = 50
FROM_NOTHING = 4  # of them, by the command
LONGEST_S = 0.6  # from the first answer to the kill
COMMAND = [sys.executable, "-c", "from trocar.cli import main; main()"]
# Fills the registry, then does what it is told, a line at a time: serve, or look.
KEEPER = """
import json, os, sys
from trocar.web import serve
serve.prepare()
from django.db import connections
from trocar.io.records import example_study
from trocar.registry import chain, roles, store
from trocar.registry.models import ChainEvent, MODELS, Token
from trocar.web import daily, jobs, wsgi
from trocar.web.api.tokens import hash_of
import trocar.web.urls

clients = int(sys.argv[1])
serve.make_account("keeper", serve.new_password("keeper"), role="administrator", who="test")
serve.make_account("nurse", serve.new_password("nurse"), role="coordinator", who="test")
user = store.account("nurse")
for i in range(clients):
    Token.objects.create(user=user, name=str(i), sha256=hash_of(f"key-{i}"),
                         scopes=[roles.SEE, roles.FOLLOW], made_at=chain.now(),
                         ends_at="2999-01-01T00:00:00+00:00")
store.take_in(example_study(), who="test", why="example")
lesions = MODELS["lesions"].objects.order_by("pk")[:clients]
print(json.dumps([str(lesion.uid) for lesion in lesions]), flush=True)
for line in sys.stdin:
    connections.close_all()
    if line.strip() == "serve":
        child = os.fork()
        if child == 0:
            os.setsid()
            print(f"process {os.getpid()}", flush=True)
            serve.run("127.0.0.1", 0)
        os.waitpid(child, 0)
        print("ended", flush=True)
        continue
    told = set(json.loads(line))
    report = chain.verify()
    held = {str(u) for u in MODELS["visits"].objects.values_list("uid", flat=True)}
    linked = {s.removeprefix("visits:") for s in ChainEvent.objects.filter(
        kind="change", subject__startswith="visits:").values_list("subject", flat=True)}
    history = {str(u) for u in MODELS["visits"].history.values_list("uid", flat=True)}
    print(json.dumps({"lost": len(told - held), "sound": report.sound, "no link or row":
                      len(held ^ linked), "no history": len(held ^ history)}), flush=True)
"""


def surroundings(home: Path, database: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TROCAR_", "DJANGO_"))}
    more = {"TROCAR_DATABASE": database} if database else {}
    return kept | {"TROCAR_HOME": str(home), "PYTHONUNBUFFERED": "1"} | more


def until(lines: Any, pattern: str) -> str:
    """What the pattern finds in the first line that has it."""
    printed = ""
    for line in lines:
        printed += line
        found = re.match(pattern, line)
        if found:
            return found[1]
    raise AssertionError(f"no line {pattern}: {printed}")


@contextmanager
def by_the_command(env: dict[str, str]) -> Iterator[tuple[int, int]]:
    """``trocar serve``: its process group and port; it is dead when the block has ended."""
    run = subprocess.Popen(
        [*COMMAND, "serve", "--yes", "--port", "0"], env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    with run:
        try:
            yield run.pid, int(until(run.stdout, r"http://127\.0\.0\.1:(\d+)/"))
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


@contextmanager
def by_the_keeper(keeper: Any) -> Iterator[tuple[int, int]]:
    """The same server in a child of the keeper."""
    keeper.stdin.write("serve\n")
    keeper.stdin.flush()
    group = int(until(keeper.stdout, r"process (\d+)"))
    yield group, int(until(keeper.stdout, r"http://127\.0\.0\.1:(\d+)/"))
    until(keeper.stdout, "(ended)")


class Client(threading.Thread):
    """Saves visits until the connection breaks; knows which were acknowledged."""

    def __init__(self, port: int, key: str, lesion: str, first: int) -> None:
        super().__init__()
        self.port, self.key, self.address = port, key, f"/api/v1/lesions/{lesion}/visits/"
        self.first = first
        self.acknowledged: list[str] = []
        self.refused: list[str] = []

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            server = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            for day in range(self.first, self.first + 500):
                body = json.dumps({"record": {"day": day}, "why": "telephone visit"})
                server.request("POST", self.address, body, headers)
                answer = server.getresponse()
                said = json.loads(answer.read())
                if answer.status == 201:
                    self.acknowledged.append(said["uid"])
                else:
                    self.refused.append(f"{answer.status} {said}")
                    return
        except (OSError, http.client.HTTPException, ValueError):
            return  # killed in the middle: nothing was acknowledged


def throw_away() -> Any:
    """A PostgreSQL server, or a skip that says why there is none."""
    path = Path(__file__).parents[1] / "registry" / "postgres.py"
    spec = importlib.util.spec_from_file_location("postgres", path)
    assert spec is not None
    assert spec.loader is not None
    postgres = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(postgres)
    why = postgres.missing()
    if why:
        pytest.skip(why)
    return postgres.throw_away()


def cut(home: Path, database: str, clients: int = 4) -> tuple[int, set[str], dict[str, Any]]:
    """Kill the server KILLS times; kills that met a save, what was acknowledged, what is there."""
    env = surroundings(home, database)
    chance = random.Random(7)
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(clients)], env=env, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    acknowledged: set[str] = set()
    met, found = 0, {}
    with keeper:
        lesions = json.loads(keeper.stdout.readline())
        for turn in range(KILLS):
            asked = by_the_command(env) if turn < FROM_NOTHING else by_the_keeper(keeper)
            with asked as (group, port):
                first = 400 + 500 * turn
                works = [Client(port, f"key-{i}", x, first) for i, x in enumerate(lesions)]
                for c in works:
                    c.start()
                # The first acknowledged write starts the clock: the kill meets saves, not a start.
                begun = time.monotonic()
                while not any(c.acknowledged for c in works) and time.monotonic() < begun + 30:
                    time.sleep(0.005)
                time.sleep(chance.uniform(0, LONGEST_S))
                met += any(c.is_alive() for c in works)
                os.killpg(group, signal.SIGKILL)
                for c in works:
                    c.join(40)
            assert not [r for c in works for r in c.refused]
            acknowledged |= {uid for c in works for uid in c.acknowledged}
            keeper.stdin.write(json.dumps(sorted(acknowledged)) + "\n")
            keeper.stdin.flush()
            found = json.loads(keeper.stdout.readline())
            right = {"lost": 0, "sound": True, "no link or row": 0, "no history": 0}
            assert found == right, turn
        keeper.stdin.close()
    return met, acknowledged, found


@pytest.mark.parametrize("database", ["SQLite", "PostgreSQL"])
def test_nothing_acknowledged_is_lost(database: str, tmp_path: Path) -> None:
    if database == "SQLite":
        met, acknowledged, _ = cut(tmp_path, "")
    else:
        with throw_away() as url:
            met, acknowledged, _ = cut(tmp_path, url)
    print(f"{database}: {met} kills met saves, {len(acknowledged)} visits were acknowledged")
    assert met == KILLS
    assert len(acknowledged) >= KILLS
