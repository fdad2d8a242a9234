"""A registry that holds the Hong Kong series, and one browser a role."""

from __future__ import annotations

from typing import Any

import pytest

PASSWORD = "a long enough pass phrase"  # of accounts that live for one test
BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def _plain_cache(settings: Any) -> None:
    """Counted logins of one test do not stop another; the cache's table is not made in tests."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def registry(db: Any) -> Any:
    """The Hong Kong series in a registry; its study row."""
    from trocar.io.records import example_study
    from trocar.registry import store
    from trocar.registry.models import Study
    from trocar.web import cases

    store.take_in(example_study(), who="trocar", why="example")
    study = Study.objects.get()
    store.recount_all(study, cases.standing)
    return study


@pytest.fixture
def people(db: Any) -> dict[str, Any]:
    """One account a role, named like it."""
    from django.contrib.auth import get_user_model

    from trocar.registry import roles
    from trocar.registry.models import Person

    made = {}
    for role in roles.ROLES:
        user = get_user_model().objects.create_user(role.replace(" ", "-"), password=PASSWORD)
        Person.objects.create(user=user, role=role)
        made[role] = user
    return made


@pytest.fixture
def clients(people: dict[str, Any]) -> dict[str, Any]:
    """One browser a role, logged in; "" is nobody."""
    from django.test import Client

    made = {"": Client(HTTP_HOST="localhost")}
    for role, user in people.items():
        made[role] = Client(HTTP_HOST="localhost")
        made[role].force_login(user, backend=BACKEND)
    return made


@pytest.fixture
def lesion(registry: Any) -> Any:
    """The first lesion of the series."""
    from trocar.registry.models import MODELS

    return MODELS["lesions"].objects.order_by("pk").first()
