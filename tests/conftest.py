"""Fixtures every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
