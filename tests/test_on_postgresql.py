"""The registry's tests and those of what the site writes and asks, once more, on PostgreSQL.

Tests of pages' words, forms and hostile files ask nothing of a database that SQLite does not tell.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
SITE = (
    "together",
    "accounts",
    "api",
    "cases",
    "clinic",
    "daily",
    "exchange",
    "jobs",
    "plans_pages",
    "work",
)


@pytest.mark.slow
def test_the_same_tests_pass_on_postgresql() -> None:
    spec = importlib.util.spec_from_file_location("postgres", TESTS / "registry" / "postgres.py")
    assert spec is not None
    assert spec.loader is not None
    postgres = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(postgres)
    why = postgres.missing()
    if why is not None:
        pytest.skip(why)
    asked = [str(TESTS / "registry"), *(str(TESTS / "web" / f"test_{name}.py") for name in SITE)]
    # The settings of the tests are found by the ini file, as for any other run.
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    with postgres.throw_away() as url:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                *asked,
                "-m",
                "not browser and not slow",
                "-x",
            ],
            cwd=TESTS.parent,
            env={**environment, "TROCAR_DATABASE": url},
            capture_output=True,
            text=True,
            timeout=1800,
        )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert " passed" in done.stdout
