"""What every page knows: who looks at it, what they may, and what trocar is not."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from trocar import NOTICE, __version__
from trocar.registry import roles


def site(request: HttpRequest) -> dict[str, Any]:
    """The role, its rights, the notice and the version."""
    person = getattr(getattr(request, "user", None), "person", None)
    role = person.role if person is not None else ""
    return {
        "role": role,
        "rights": roles.RIGHTS.get(role, frozenset()),
        "notice": NOTICE,
        "version": __version__,
    }
