"""Fixtures every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Property-based tests look for new examples at a desk; in CI they are the same each time, so that
# a run fails for what was changed and not for what was drawn. No example is timed: a kernel that is
# compiled, or a busy machine, is not a fault (speed is judged in benchmarks/).
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# What a test starts as a process of its own is the site as it is, in the throw-away folder that
# tests/shared chose.
os.environ["DJANGO_SETTINGS_MODULE"] = "trocar.web.settings"


@pytest.fixture(scope="session", autouse=True)
def _emptied_between_tests() -> None:
    """Let the test runner empty tables that the registry itself lets nobody empty.

    Tests that need real transactions (threads, a live server) are followed by a flush of every
    table, which the triggers of history and log refuse, as they should; for the flush alone they
    are taken away.
    """
    from django.db import connection

    flush = connection.ops.execute_sql_flush

    def without_triggers(statements: Iterable[str]) -> Any:
        if connection.vendor == "postgresql":
            return flush(["SET LOCAL session_replication_role = replica", *statements])
        with connection.cursor() as cursor:
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            triggers = cursor.fetchall()
        dropped = [f'DROP TRIGGER "{name}"' for name, _ in triggers]
        return flush([*dropped, *statements, *(sql for _, sql in triggers)])

    connection.ops.execute_sql_flush = without_triggers


@pytest.fixture(scope="session")
def data() -> Path:
    """The development data beside the checkout, or a skip that says they are absent.

    ``TROCAR_DATA`` names another place.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TROCAR_DATA", default))
    if not (folder / "README.md").is_file():
        pytest.skip(f"development data not found at {folder.name!r} beside the checkout")
    return folder
