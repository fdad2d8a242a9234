"""Fixtures every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Property-based tests look for new examples at a desk; in CI they are the same each time, so that
# a run fails for what was changed and not for what was drawn. No example is timed: a kernel that is
# compiled, or a busy machine, is not a fault (speed is judged in benchmarks/).
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


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
