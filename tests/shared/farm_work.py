"""Work for a farm in tests: a module that a worker can import, and that needs no site."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from trocar.errors import InputError
from trocar.farm import Tell


def work(asked: dict[str, Any], tell: Tell) -> Any:
    """Whatever ``do`` says, with the number ``n``."""
    tell("at work", 0.1)
    return DO[asked.get("do", "square")](asked, tell)


def _square(asked: dict[str, Any], tell: Tell) -> Any:
    return asked["n"] ** 2


def _sums(asked: dict[str, Any], tell: Tell) -> Any:
    """Sums whose last bits depend on every step before."""
    draw = np.random.default_rng(asked["n"])
    values = draw.normal(size=2000)
    return {"sum": float(np.sum(np.exp(values))), "values": np.cumsum(values * np.sin(values))}


def _killed(asked: dict[str, Any], tell: Tell) -> Any:
    """Takes its worker down, as a lack of memory does; ``until`` so many tries, told by a file."""
    tried = Path(asked["folder"]) / f"tried-{asked['n']}" if "folder" in asked else None
    if tried is not None:
        count = int(tried.read_text()) + 1 if tried.is_file() else 1
        tried.write_text(str(count))
        if count > asked["until"]:
            return asked["n"] ** 2
    time.sleep(0.5)  # a lack of memory, too, lets it say first that it has begun
    os.kill(os.getpid(), signal.SIGKILL)


def _bad(asked: dict[str, Any], tell: Tell) -> Any:
    raise InputError(f"case {asked['n']} has no lesion; expected one")


def _fault(asked: dict[str, Any], tell: Tell) -> Any:
    raise KeyError("patient K-1234")


def _exit(asked: dict[str, Any], tell: Tell) -> Any:
    raise SystemExit(3)


def _hang(asked: dict[str, Any], tell: Tell) -> Any:
    time.sleep(600)


def _strange(asked: dict[str, Any], tell: Tell) -> Any:
    return threading.Lock()  # cannot travel


def _steps(asked: dict[str, Any], tell: Tell) -> Any:
    """``seconds`` long, telling all the time; leaves a file when it was stopped."""
    until = time.monotonic() + asked["seconds"]
    began = time.monotonic()
    try:
        while time.monotonic() < until:
            time.sleep(0.02)
            tell("walking", (time.monotonic() - began) / asked["seconds"])
    except BaseException:
        if "folder" in asked:
            (Path(asked["folder"]) / f"stopped-{asked['n']}").touch()
        raise
    return asked["n"] ** 2


def _noted(asked: dict[str, Any], tell: Tell) -> Any:
    """Leaves its number in a file, then goes on as ``then`` says."""
    with Path(asked["in"]).open("a") as notes:
        notes.write(f"{asked['n']}\n")
    return DO[asked.get("then", "square")](asked, tell)


def _threads(asked: dict[str, Any], tell: Tell) -> Any:
    import numba

    return {"numba": numba.get_num_threads(), "pid": os.getpid()}


DO = {
    "square": _square, "sums": _sums, "killed": _killed, "bad": _bad, "fault": _fault,
    "exit": _exit, "hang": _hang, "strange": _strange, "steps": _steps,
    "noted": _noted, "threads": _threads,
}  # fmt: skip
