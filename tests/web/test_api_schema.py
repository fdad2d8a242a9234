"""Does every answer of the interface stand in its schema? Asked with made-up data, good and bad."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.contrib.auth import get_user_model
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from trocar.io.records import example_study
from trocar.registry import chain, roles, store
from trocar.registry.models import MODELS, Person, Study, Token
from trocar.web.api.core import API_RIGHTS
from trocar.web.api.tokens import hash_of
from trocar.web.wsgi import application

pytestmark = pytest.mark.django_db
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
_KEY = "a-key-that-may-everything"
# Tables alike go the same way through the code: a quick run takes some of each kind.
QUICK = (
    "patients_create", "lesions_list", "pain_list", "pain_create", "pain_read", "pain_replace",
    "pain_remove", "pain_history", "devices_create", "votes_create", "consents_replace",
    "deaths_create", "exclusions_create", "procedures_create", "studies", "study_create", "study",
    "export", "worklist", "lesion", "refer", "standing", "gates", "move", "decision",
    "plans_next", "plans_restore", "plans_approve", "plans_revoke", "log_head", "log_verify",
)  # fmt: skip


@pytest.fixture
def every_right(db: None, monkeypatch: Any, settings: Any) -> Iterator[None]:
    """The example, and a token of a role that may everything, so that no call ends at a refusal."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)  # it would close what the test's rows live in
    settings.API_CALLS_A_MINUTE = 10**9
    store.take_in(example_study(), who="trocar", why="example")
    monkeypatch.setattr(roles, "RIGHTS", {"all": roles.EVERY_RIGHT})
    user = get_user_model().objects.create_user("tester")
    Person.objects.create(user=user, role="all")
    Token.objects.create(
        user=user, name="test", sha256=hash_of(_KEY), scopes=sorted(roles.EVERY_RIGHT),
        made_at=chain.now(), ends_at="2999-01-01T00:00:00+00:00",
    )  # fmt: skip
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def names_of(path: str) -> list[str]:
    """Opaque names of rows an address leads to, so that calls reach what lies behind it."""
    parts = path.strip("/").split("/")
    at = parts.index("{uid}") if "{uid}" in parts else None
    if at is None:
        return []
    model = Study if parts[at - 1] == "studies" else MODELS[parts[at - 1]]
    return [str(uid) for uid in model.objects.values_list("uid", flat=True)[:5]]


def try_operation(operation: Any, examples: int, mode: Any) -> int:
    """Call an operation with made-up data; returns how many calls were made."""
    uids = names_of(operation.path.removeprefix("/api/v1"))
    calls = 0

    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        derandomize=True, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def try_one(case: Any, data: Any) -> None:
        nonlocal calls
        if uids and data.draw(st.integers(0, 3)):
            case.path_parameters["uid"] = data.draw(st.sampled_from(uids))
        case.call_and_validate(
            checks=CHECKS, headers={"Authorization": f"Bearer {_KEY}", "Host": "localhost"}
        )
        calls += 1

    try_one()
    return calls


def try_operations(names: Any, examples: int, mode: Any) -> int:
    """Call each operation, or those named, with made-up data."""
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)
    calls = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if names is None or operation.definition.raw["operationId"] in names:
            calls += try_operation(operation, examples, mode)
    return calls


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda m: m.value)
def test_no_answer_is_undocumented(every_right: None, mode: Any) -> None:
    assert try_operations(QUICK, 4, mode) > 4 * len(QUICK) // 2
    assert chain.verify().sound


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda m: m.value)
def test_no_answer_of_any_operation_is_undocumented(every_right: None, mode: Any) -> None:
    assert try_operations(None, 12, mode) > len(API_RIGHTS)
    assert chain.verify().sound


def test_calls_without_a_token_are_documented_too(every_right: None) -> None:
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        uid = {"uid": "00000000-0000-4000-8000-000000000000"} if "{uid}" in operation.path else {}
        case = operation.Case(path_parameters=uid)
        response = case.call(headers={"Host": "localhost"})
        assert response.status_code == 401
        case.validate_response(response, checks=CHECKS)
        tried += 1
    assert tried == len(API_RIGHTS)
