"""A browser, and a site of its own that it looks at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "a long enough pass phrase"  # of accounts that live for one file of tests
WIDE, TABLET = {"width": 1280, "height": 900}, {"width": 820, "height": 1100}
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_GL = ("--disable-gpu", "--disable-3d-apis")
# No network chatter of the browser's own.
_QUIET = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
_TROCAR = [sys.executable, "-c", "from trocar.cli import main; main()"]
_STOP_S = 30


@contextmanager
def launching() -> Iterator[Callable[..., Any]]:
    """What starts Chromium with some flags, each choice of them once; or a skip that says why."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next((p for p in map(shutil.which, ("chromium", "chromium-browser")) if p), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        held: dict[tuple[str, ...], Any] = {}

        def launch(*flags: str) -> Any:
            if flags not in held:
                held[flags] = driver.chromium.launch(
                    executable_path=program, args=[*_QUIET, *flags]
                )
            return held[flags]

        yield launch
        for browser in held.values():
            browser.close()


@contextmanager
def launched(*flags: str) -> Iterator[Any]:
    """Chromium with some flags, or a skip that says what is missing."""
    with launching() as launch:
        yield launch(*flags)


@contextmanager
def served(home: Path, filling: str) -> Iterator[tuple[str, str]]:
    """The address of a running ``trocar serve``, and what the program that filled it printed.

    Nothing of the surroundings' own settings reaches it.
    """
    around = {k: v for k, v in os.environ.items() if not k.startswith(("TROCAR_", "DJANGO_"))}
    around |= {"TROCAR_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    filled = subprocess.run(
        [sys.executable, "-c", filling], env=around, check=True, timeout=300, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    run = subprocess.Popen(
        [*_TROCAR, "serve", "--port", "0", "--yes"], env=around, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert run.stdout is not None
        printed = ""
        for line in run.stdout:
            printed += line
            if line.startswith("http://"):
                yield line.strip(), filled.stdout
                break
        else:
            raise AssertionError(printed)
    finally:
        run.terminate()
        run.wait(_STOP_S)


def logged_in(tab: Any, address: str, who: str) -> None:
    """Log in as somebody whose password is that of these tests."""
    tab.goto(f"{address}accounts/login/")
    tab.fill("[name=login]", who)
    tab.fill("[name=password]", PASSWORD)
    tab.click("main form button")
    tab.wait_for_selector(".who")
