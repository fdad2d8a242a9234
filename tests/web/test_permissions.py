"""Every address against every role; an address without a rule, or one not thought of, fails."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver

from trocar.registry import roles
from trocar.registry.models import MODELS
from trocar.web.guard import ANYONE, FOREIGN, PUBLIC, rights_of
from trocar.web.pages.cases import OWN_PAGES, TABLE_RIGHTS

EVERY = set(roles.EVERY_RIGHT) | {ANYONE, PUBLIC}


def addresses(patterns: Any = None, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for p in get_resolver().url_patterns if patterns is None else patterns:
        here = before + str(p.pattern)
        if isinstance(p, URLResolver):
            yield from addresses(p.url_patterns, here)
        else:
            yield here, p


ADDRESSES = list(addresses())
IDS = [f"{p.name or ''} {route}" for route, p in ADDRESSES]
# The programming interface asks for a token, which its own tests hold against its scopes.
OURS = [
    (route, p) for route, p in ADDRESSES if not getattr(p.callback, "own_authentication", False)
]


def filled(p: URLPattern, route: str, lesion: Any) -> str:
    """The address with something in every place: a lesion where one is named, else nobody's."""
    values = {"uid": str(lesion.uid), "table": "lesions", "pk": "1", "index": "0", "form": "csv"}

    def value(match: re.Match[str]) -> str:
        kind, _, name = match[1].rpartition(":")
        held = values.get(name)
        if held is None:
            held = {"uuid": str(uuid.UUID(int=1)), "int": "1"}.get(kind, "x")
        return held

    return "/" + re.sub(r"<([^>]+)>", value, route)


@pytest.mark.parametrize(("route", "p"), ADDRESSES, ids=IDS)
def test_every_address_has_a_rule(route: str, p: URLPattern) -> None:
    if getattr(p.callback, "own_authentication", False):
        return
    rights = rights_of(p.callback, p.name)
    assert rights, f"{route} names no right"
    assert set(rights) <= EVERY, f"{route} names a right no role could have"


def test_no_rule_is_for_an_address_that_is_not_there() -> None:
    optional = {"openid_connect_login", "openid_connect_callback", "socialaccount_login_cancelled",
                "socialaccount_login_error"}  # fmt: skip
    there = {p.name for _, p in ADDRESSES}
    assert set(FOREIGN) - optional <= there


@pytest.mark.parametrize("role", ["", *roles.ROLES])
def test_the_matrix(role: str, clients: dict[str, Any], lesion: Any) -> None:
    """Refused means 403 or the login, whatever the method; allowed means neither."""
    wrong, seen = [], 0
    clients[role].raise_request_exception = False  # what breaks is told with the rest
    for route, p in OURS:
        rights = rights_of(p.callback, p.name)
        expected = may(role, rights)
        address = filled(p, route, lesion)
        if p.name in ("account_logout", "openid_connect_login", "openid_connect_callback"):
            continue  # would end the browser's session; asked for below
        for method in ("get", "post"):
            response = getattr(clients[role], method)(address)
            seen += 1
            login = response.status_code == 302 and response["Location"].startswith(
                "/accounts/login/"
            )
            refused = response.status_code == 403 or login
            own = p.name in NARROWED and response.status_code == 403
            own = own or (p.name == "mfa_authenticate" and login)  # no login was begun
            if not expected and not refused:
                wrong.append(f"{method} {p.name} lets in: {response.status_code}")
            if expected and refused and not own:
                wrong.append(f"{method} {p.name} refuses: {response.status_code}")
            if response.status_code >= 500:
                wrong.append(f"{method} {p.name} breaks: {response.status_code}")
    assert not wrong
    assert seen > 40


# Pages that any of several rights opens and that then ask for the one of the table at hand
# (test_tables holds those), or sign for oneself alone.
NARROWED = ("add", "row", "remove", "meeting", "meeting-sign")


def may(role: str, rights: tuple[str, ...]) -> bool:
    if PUBLIC in rights:
        return True
    return bool(role) and (ANYONE in rights or any(roles.may(role, r) for r in rights))


@pytest.mark.parametrize("role", ["", *roles.ROLES])
def test_tables(role: str, clients: dict[str, Any], lesion: Any) -> None:
    """The generic forms: every table against every role."""
    client = clients[role]
    for table in MODELS:
        right = TABLE_RIGHTS.get(table)
        status = client.get(f"/case/{lesion.uid}/add/{table}/").status_code
        fixed = table in ("patients", "lesions", *OWN_PAGES)
        if (
            right is not None
            and not fixed
            and roles.may(role, right)
            and roles.may(role, roles.SEE)
        ):
            assert status == 200, table
        else:
            # A referrer does not even learn that another's lesion is there.
            assert status in ((302,) if not role else (403, 404)), table
        row = MODELS[table].objects.first()
        if row is None or table == "exclusions":
            continue  # the series excludes one who was never entered: no case leads there
        status = client.get(f"/row/{table}/{row.uid}/").status_code
        allowed = right is not None and roles.may(role, right) and roles.may(role, roles.SEE)
        assert (status == 200) == allowed, table
        status = client.get(f"/row/{table}/{row.uid}/history/").status_code
        assert (status == 200) == roles.may(role, roles.HISTORY), table
        status = client.get(f"/row/{table}/{row.uid}/remove/").status_code
        assert (status == 200) == (roles.may(role, roles.CORRECT) and not fixed), table


def test_every_table_has_a_rule_or_a_page_of_its_own() -> None:
    assert set(TABLE_RIGHTS) | set(OWN_PAGES) == set(MODELS)
    assert not set(TABLE_RIGHTS) & set(OWN_PAGES)


def test_an_account_without_a_role_may_nothing(db: Any) -> None:
    from django.contrib.auth import get_user_model
    from django.test import Client

    user = get_user_model().objects.create_user("norole", password="x" * 20)
    client = Client(HTTP_HOST="localhost")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/work/").status_code == 403
    assert client.get("/").status_code == 403


def test_a_refusal_is_logged_without_values(clients: dict[str, Any], lesion: Any) -> None:
    from trocar.registry.models import ChainEvent

    clients["researcher"].get(f"/case/{lesion.uid}/")
    last = ChainEvent.objects.order_by("-number").first()
    assert (last.kind, last.who) == ("refused", "researcher")
    assert lesion.lesion_id not in last.detail.replace("address", "")
