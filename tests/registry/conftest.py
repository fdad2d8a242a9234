"""What the registry's tests share."""

from __future__ import annotations

import pytest
from made_records import Ground, ground


@pytest.fixture
def unit(db: None) -> Ground:
    """A study with two patients, lesions and procedures."""
    return ground()
