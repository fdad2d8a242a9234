"""A farm of this machine: one process that holds a scheduler and its workers, kept alive."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trocar.errors import InputError

PLACE, WANTED, LOG = "farm.json", "wanted", "farm.log"
READY_S = 60.0
_SCRATCH = "scratch"
_WORKER_BYTES = 6 << 30  # what a large case takes
_SHARE = 0.8  # of the memory that is there
_ENDING_S = 3.0
# Its keys are good for a year: long before that it is started anew, and what runs is sent again.
_RENEWED_S = 200 * 86400.0
_MOST_APART_S = 60.0
_STEADY_S = 20.0
_LOOK_S = 0.2
_WORKERLESS_S = 120.0
_HOST = "import json, sys; from trocar.farm.local import host; host(**json.loads(sys.argv[1]))"


def usual_workers() -> int:
    """One a core, as far as the memory reaches; ``TROCAR_WORKERS`` says another number."""
    named = os.environ.get("TROCAR_WORKERS", "")
    if named:
        if not named.isdigit() or int(named) < 1:
            raise InputError(f"TROCAR_WORKERS is {named!r}; expected a number from 1")
        return int(named)
    return max(1, min(_cores(), _memory() // _WORKER_BYTES))


class LocalFarm:
    """Scheduler and workers of this machine, in a process of their own that ends with this one.

    They answer this machine alone, and there only who can read ``place``: the file with their
    address and keys, in ``folder``.
    """

    def __init__(self, folder: Path | str, workers: int | None = None) -> None:
        self._folder = Path(folder).absolute()
        self._workers = usual_workers() if workers is None else workers
        if self._workers < 1:
            raise InputError(f"{self._workers} workers; expected 1 or more")
        self._process: subprocess.Popen[bytes] | None = None
        self._owner, self._ending = 0, threading.Event()

    @property
    def place(self) -> Path:
        """The file in which it tells where it is."""
        return self._folder / PLACE

    def prepare(self) -> None:
        """Make sure that it can begin, and forget an earlier one. InputError where it cannot."""
        if find_spec("distributed") is None:
            raise InputError(
                "long work goes through Dask, which is not installed here; "
                "pip install 'trocar[cohort]'"
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in (PLACE, WANTED):
                (self._folder / name).unlink(missing_ok=True)
            shutil.rmtree(self._folder / _SCRATCH, ignore_errors=True)
            (self._folder / LOG).touch()
        except OSError as error:
            raise InputError(
                f"the workers have no folder: {self._folder} cannot be used ({error.strerror})"
            ) from error
        self._owner = os.getpid()

    def start(self) -> None:
        """Begin; where it is can be read a few seconds later. InputError where it cannot be."""
        self.prepare()
        told = {
            "folder": str(self._folder),
            "workers": self._workers,
            "memory": int(_SHARE * _memory() / self._workers),
            "threads": max(1, _cores() // self._workers),
        }
        with (self._folder / LOG).open("wb") as log:
            # A session of its own: Ctrl-C at the terminal is for the one who started it.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _HOST, json.dumps(told)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait(self, seconds: float = READY_S) -> None:
        """Until it can be reached; InputError when it ends before, or is not there in time."""
        until = time.monotonic() + seconds
        while not self.place.is_file():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > until:
                raise InputError(
                    f"the workers of this machine did not start; see {self._folder / LOG}"
                )
            time.sleep(0.05)

    def keep(self, say: Callable[[str], None]) -> None:
        """Start it when somebody wants it, if it was not, and anew whenever it ends; from a thread.

        ``say`` gets a sentence when it ends, or cannot begin.
        """
        threading.Thread(target=self._kept, args=(say,), name="farm", daemon=True).start()

    def close(self) -> None:
        """End it with all its workers. In another process than that which started it: nothing."""
        if self._owner != os.getpid():
            return
        self._ending.set()
        self._end()

    def _kept(self, say: Callable[[str], None]) -> None:
        while self._process is None and not (self._folder / WANTED).exists():
            if self._ending.wait(_LOOK_S):
                return
        apart = 1.0
        if self._process is None:
            self._try_to_start(say)
        while not self._ending.is_set():
            process, began = self._process, time.monotonic()
            if process is not None:
                try:
                    process.wait(_RENEWED_S)
                except subprocess.TimeoutExpired:
                    self._end()
            if self._ending.is_set():
                return
            self.place.unlink(missing_ok=True)
            steady = time.monotonic() - began > _STEADY_S
            apart = 1.0 if steady else min(2 * apart, _MOST_APART_S)
            say(f"the workers of this machine ended and are started again in {apart:g} s")
            self._end()  # its workers, too
            if self._ending.wait(apart):
                return
            self._try_to_start(say)

    def _try_to_start(self, say: Callable[[str], None]) -> None:
        try:
            self.start()
        except InputError as error:
            say(str(error))

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_S)
        with suppress(OSError):  # all of them are gone
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._process = None


def host(folder: str, workers: int, memory: int, threads: int) -> None:
    """Be the process that holds scheduler and workers, until standard input ends."""
    import dask
    from distributed import LocalCluster
    from distributed.security import Security

    home = Path(folder)
    dask.config.set(
        {
            # The line counts the tries itself; a scheduler that tries by itself would hide them.
            "distributed.scheduler.allowed-failures": 0,
            "distributed.scheduler.worker-saturation": 1.0,
            # Silence is the line's to judge: a kernel may hold the interpreter for minutes.
            "distributed.scheduler.worker-ttl": None,
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
            "distributed.nanny.pre-spawn-environ.NUMBA_NUM_THREADS": threads,
            # A worker does the work of one case: what it holds is in use, not to be put on disk.
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": False,
            "distributed.comm.timeouts.connect": "30s",
            # A worker that died comes again, on a busy machine after a while; it is not given up.
            "distributed.deploy.lost-worker-timeout": "1 day",
        }
    )
    security = Security.temporary()
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1",
        protocol="tls://", security=security, dashboard_address="127.0.0.1:0",
        memory_limit=memory, local_directory=str(home / _SCRATCH), silence_logs="ERROR",
    )  # fmt: skip
    names = (f"tls_{what}" for what in ("ca_file", *(f"client_{x}" for x in ("key", "cert"))))
    told = {
        "address": cluster.scheduler_address,
        "security": {name: getattr(security, name) for name in names}
        | {"require_encryption": True},
    }
    part = home / f".{PLACE}.part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(told, stream)
    part.replace(home / PLACE)
    _until_alone(lambda: len(cluster.scheduler.workers))
    cluster.close(timeout=_ENDING_S)


def _until_alone(workers: Callable[[], int]) -> None:
    """Until standard input ends, or there was no worker for so long that none will come."""
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    seen = time.monotonic()
    while not ended.wait(1.0):
        if workers():
            seen = time.monotonic()
        if time.monotonic() - seen > _WORKERLESS_S:
            return


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    """Bytes of memory of this machine, or what its container may use."""
    try:
        from distributed.system import MEMORY_LIMIT
    except ImportError:
        return _WORKER_BYTES
    limit: Any = MEMORY_LIMIT
    return int(limit)
