"""Logging in, what is refused, what the log keeps of it, and a second factor."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from allauth.core.internal import ratelimit
from allauth.mfa.totp.internal.auth import (
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.urls import NoReverseMatch, reverse

from trocar.registry import chain, roles
from trocar.registry.models import ChainEvent, Token
from trocar.web.pages.people import token_hash
from trocar.web.serve import first_administrator, make_account, new_password

PASSWORD = "four-quiet-lanterns"
LOGIN = "/accounts/login/"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nobody_counted() -> None:
    cache.clear()


@pytest.fixture
def boss() -> Any:
    return make_account("keeper", PASSWORD, role="administrator", who="test")


def browser(**more: Any) -> Client:
    return Client(HTTP_HOST="localhost", **more)


def log_in(client: Client, name: str = "keeper", password: str = PASSWORD, at: str = LOGIN) -> Any:
    return client.post(at, {"login": name, "password": password})


def is_in(client: Client) -> bool:
    return client.get("/accounts/password/").status_code == 200


def events(kind: str) -> list[ChainEvent]:
    return list(ChainEvent.objects.filter(kind=kind).order_by("number"))


def test_logins_failures_and_logouts_are_links_of_the_log(boss: Any) -> None:
    client = browser()
    log_in(client, password="not this one")
    assert not is_in(client)
    assert log_in(client).status_code == 302
    assert is_in(client)
    client.post("/accounts/logout/")
    assert not is_in(client)
    told = [(e.kind, e.who) for e in ChainEvent.objects.order_by("number")][1:]
    assert told == [("login failed", "keeper"), ("login", "keeper"), ("logout", "keeper")]
    assert chain.verify().sound


def test_a_password_typed_as_the_name_is_not_kept(boss: Any) -> None:
    log_in(browser(), name=PASSWORD, password="x")
    (failed,) = events("login failed")
    assert failed.who == "unknown"
    assert PASSWORD not in repr([vars(e) for e in ChainEvent.objects.all()])


def test_five_failures_shut_an_account_for_five_minutes(
    boss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        log_in(browser(), password="not this one")
    client = browser()
    log_in(client)  # the right one, too late
    assert not is_in(client)
    now = time.time()
    monkeypatch.setattr(ratelimit.time, "time", lambda: now + 301)
    log_in(client)
    assert is_in(client)


def test_passwords_are_held_to_rules(boss: Any) -> None:
    client = browser()
    log_in(client)
    for bad in ("short-one", "123456789012345", "keeper-keeper", "password1234"):
        form = {"oldpassword": PASSWORD, "password1": bad, "password2": bad}
        assert client.post("/accounts/password/", form).status_code == 200
        boss.refresh_from_db()
        cache.clear()
        assert boss.check_password(PASSWORD), bad
    good = "nine-slow-harbours"
    form = {"oldpassword": PASSWORD, "password1": good, "password2": good}
    client.post("/accounts/password/", form)
    boss.refresh_from_db()
    assert boss.check_password(good)
    assert "password changed" in events("account")[-1].detail


def test_nobody_signs_up_or_asks_for_a_password_by_mail() -> None:
    for name in ("account_signup", "account_reset_password", "account_email"):
        with pytest.raises(NoReverseMatch):
            reverse(name)
    assert browser().get("/accounts/signup/").status_code == 404


@pytest.mark.parametrize(
    "there", ["https://example.org/", "//example.org/", "/\\example.org", "javascript:alert(1)"]
)
def test_a_login_leads_nowhere_else(boss: Any, there: str) -> None:
    client = browser()
    answer = client.post(LOGIN, {"login": "keeper", "password": PASSWORD, "next": there})
    assert answer.status_code == 302
    assert answer["Location"] == "/"


def test_an_idle_session_ends(boss: Any) -> None:
    client = browser()
    log_in(client)
    session = client.session
    assert session.get_expiry_age() <= settings.SESSION_COOKIE_AGE == 30 * 60
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    assert is_in(client)
    left = Session.objects.get(pk=session.session_key).expire_date - timezone.now()
    assert left.total_seconds() <= 30 * 60  # kept by the server, whatever the browser keeps
    Session.objects.update(expire_date=timezone.now())
    assert not is_in(client)


def test_a_busy_session_ends_too(boss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = browser()
    log_in(client)
    assert is_in(client)
    session = client.session
    session["began"] = time.time() - settings.SESSION_LONGEST_S - 1
    session.save()
    assert not is_in(client)


def test_an_account_without_a_role_opens_nothing(django_user_model: Any) -> None:
    django_user_model.objects.create_user("nobody", password=PASSWORD)
    client = browser()
    log_in(client, name="nobody")
    answer = client.get("/people/")
    assert answer.status_code == 403
    assert "no role yet" in answer.content.decode()


def test_every_page_says_what_a_browser_may_load(boss: Any) -> None:
    answer = browser().get(LOGIN)
    policy = answer["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer["X-Content-Type-Options"] == "nosniff"
    page = answer.content.decode()
    assert "Research use only" in page
    assert not re.search(r"<script(?![^>]*src=)|\sstyle=|<style|\son\w+=", page)


def test_a_form_from_elsewhere_is_refused(boss: Any) -> None:
    client = browser(enforce_csrf_checks=True)
    assert log_in(client).status_code == 403


def _code(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))


def test_a_second_factor_is_asked_for_once_it_is_on(
    boss: Any, django_capture_on_commit_callbacks: Any
) -> None:
    client = browser()
    log_in(client)
    page = client.get("/accounts/2fa/totp/activate/")
    if page.status_code == 302:
        client.post(page["Location"], {"password": PASSWORD})
        page = client.get("/accounts/2fa/totp/activate/")
    assert page.status_code == 200
    secret = page.context["form"].secret
    assert secret in page.content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/2fa/totp/activate/", {"code": _code(secret)})
    assert boss.authenticator_set.filter(type="totp").exists()
    assert client.get("/accounts/2fa/").status_code == 200
    assert client.get("/accounts/2fa/recovery-codes/").status_code == 200
    cache.clear()  # a code works once; this is another moment

    again = browser()
    asked = log_in(again)
    assert not is_in(again)
    assert again.get(asked["Location"]).status_code == 200
    again.post(asked["Location"], {"code": "000000"})
    assert not is_in(again)
    assert "second factor" in events("login failed")[-1].detail
    again.post(asked["Location"], {"code": _code(secret)})
    assert is_in(again)
    assert [e.who for e in events("login")] == ["keeper", "keeper"]
    told = [e.detail for e in events("account")]
    assert any("totp added" in d for d in told), told


def test_an_administrator_enters_changes_and_shuts_an_account(boss: Any) -> None:
    client = browser()
    log_in(client)
    made = client.post("/people/new/", {"name": "reader", "role": "researcher", "language": "en"})
    (password,) = re.findall(r"<code>(.+?)</code>", made.content.decode())
    theirs = browser()
    log_in(theirs, "reader", password)
    assert is_in(theirs)
    change(theirs, password, GOOD)
    password = GOOD
    assert theirs.get("/people/").status_code == 403
    assert theirs.post("/people/new/", {"name": "x", "role": "administrator"}).status_code == 403
    user = type(boss).objects.get(username="reader")
    client.post(f"/people/{user.pk}/role/", {"role": "audit lead"})
    assert theirs.get("/log/").status_code == 200
    client.post(f"/people/{user.pk}/role/", {"role": "king"})
    user.person.refresh_from_db()
    assert user.person.role == "audit lead"
    client.post(f"/people/{user.pk}/deactivate/")
    assert not is_in(theirs)  # at once, not at the next login
    late = browser()
    assert log_in(late, "reader", password).status_code == 403
    assert not is_in(late)
    assert events("login failed")[-1].who == "reader"
    client.post(f"/people/{user.pk}/activate/")
    reset = client.post(f"/people/{user.pk}/password/")
    (fresh,) = re.findall(r"<code>(.+?)</code>", reset.content.decode())
    assert fresh != password
    log_in(late, "reader", fresh)
    assert is_in(late)
    told = [e.detail for e in events("account") if e.subject == f"accounts:{user.pk}"]
    for what in ("created", "audit lead", "deactivated", "activated", "password reset"):
        assert any(what in d for d in told), what
    assert password not in repr(told)
    assert fresh not in repr(told)


GOOD = "nine-slow-harbours"


def change(client: Client, old: str, new: str) -> Any:
    form = {"oldpassword": old, "password1": new, "password2": new}
    return client.post("/accounts/password/", form)


def test_a_password_somebody_else_knows_opens_nothing_but_its_change(boss: Any) -> None:
    client = browser()
    log_in(client)
    made = client.post("/people/new/", {"name": "rad", "role": "radiologist", "language": "en"})
    (password,) = re.findall(r"<code>(.+?)</code>", made.content.decode())
    theirs = browser()
    log_in(theirs, "rad", password)
    for at in ("/", "/work/", "/tokens/", "/accounts/2fa/"):
        answer = theirs.get(at)
        assert (answer.status_code, answer["Location"]) == (302, "/accounts/password/"), at
    assert theirs.post("/tokens/", {"name": "t", "days": 3})["Location"] == "/accounts/password/"
    assert "Somebody else knows" in theirs.get("/accounts/password/").content.decode()
    assert change(theirs, password, password).status_code == 200  # the same is no other
    assert theirs.get("/work/").status_code == 302
    assert change(theirs, password, GOOD).status_code == 302
    assert theirs.get("/work/").status_code == 200
    # A password that is set anew asks once more.
    user = type(boss).objects.get(username="rad")
    again = client.post(f"/people/{user.pk}/password/")
    (fresh,) = re.findall(r"<code>(.+?)</code>", again.content.decode())
    log_in(theirs, "rad", fresh)
    assert theirs.get("/work/")["Location"] == "/accounts/password/"


def a_token(user: Any, name: str = "t", ends_at: str = "2999-01-01T00:00:00+00:00") -> Token:
    made: Token = Token.objects.create(
        user=user, name=name, sha256=token_hash(f"{user.pk}{name}"), scopes=[roles.SEE],
        made_at=chain.now(), ends_at=ends_at,
    )  # fmt: skip
    return made


@pytest.mark.parametrize("what", ["password", "deactivate"])
def test_an_account_that_is_shut_or_set_anew_keeps_no_token(boss: Any, what: str) -> None:
    client = browser()
    log_in(client)
    user = make_account("rad", PASSWORD, role="radiologist", who="test")
    other = make_account("coord", PASSWORD, role="coordinator", who="test")
    mine, theirs = a_token(user), a_token(other)
    client.post(f"/people/{user.pk}/{what}/")
    mine.refresh_from_db()
    theirs.refresh_from_db()
    assert mine.revoked_at
    assert not theirs.revoked_at
    assert [(e.who, e.subject) for e in events("token")] == [("keeper", f"tokens:{mine.pk}")]


def test_administrators_see_and_revoke_tokens(boss: Any) -> None:
    client = browser()
    log_in(client)
    user = make_account("rad", PASSWORD, role="radiologist", who="test")
    kept = a_token(user, "nightly worklist")
    a_token(user, "ended before", ends_at="2020-01-01T00:00:00+00:00")
    page = client.get("/people/").content.decode()
    assert "nightly worklist" in page
    assert "ended before" not in page
    at = reverse("revoke_any_token", args=[kept.pk])
    theirs = browser()
    log_in(theirs, "rad")
    assert theirs.post(at).status_code == 403
    assert client.post(at).status_code == 302
    client.post(at)  # is not logged twice
    kept.refresh_from_db()
    assert kept.revoked_at
    assert [(e.who, e.subject) for e in events("token")] == [("keeper", f"tokens:{kept.pk}")]
    assert "nightly worklist" not in client.get("/people/").content.decode()


def test_nobody_shuts_himself_out(boss: Any) -> None:
    client = browser()
    log_in(client)
    client.post(f"/people/{boss.pk}/deactivate/")
    client.post(f"/people/{boss.pk}/role/", {"role": "referrer"})
    boss.refresh_from_db()
    assert boss.is_active
    assert boss.person.role == "administrator"


@pytest.mark.parametrize("name", ["<b>", "a b", "", "-x", "x" * 51, "KEEPER"])
def test_names_of_accounts_are_plain_and_differ(boss: Any, name: str) -> None:
    client = browser()
    log_in(client)
    answer = client.post("/people/new/", {"name": name, "role": "referrer", "language": "en"})
    assert answer.status_code == 422
    assert type(boss).objects.count() == 1


def test_a_token_has_no_more_rights_than_its_owner(boss: Any) -> None:
    client = browser()
    log_in(client)
    for scope in (roles.SEE, roles.PEOPLE, roles.TOKENS, "all"):
        answer = client.post("/tokens/", {"name": "t", "scopes": [scope], "days": 3})
        assert answer.status_code == 422, scope
    assert (
        client.post("/tokens/", {"name": "t", "scopes": [roles.LOG], "days": 999}).status_code
        == 422
    )
    answer = client.post("/tokens/", {"name": "t", "scopes": [roles.LOG], "days": 3})
    (shown,) = re.findall(r"<code>(.+?)</code>", answer.content.decode())
    kept = Token.objects.get()
    assert kept.sha256 == token_hash(shown)
    assert kept.scopes == [roles.LOG]
    assert shown not in client.get("/tokens/").content.decode()
    make_account("other", PASSWORD, role="administrator", who="test")
    theirs = browser()
    log_in(theirs, "other")
    assert theirs.post(f"/tokens/{kept.pk}/revoke/").status_code == 404
    client.post(f"/tokens/{kept.pk}/revoke/")
    kept.refresh_from_db()
    assert kept.revoked_at
    assert len(events("token")) == 2


def test_the_log_page_filters_and_verifies(
    boss: Any, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    client = browser()
    log_in(client)
    log_in(browser(), password="wrong")
    page = client.get("/log/", {"kind": "login failed"}).context["rows"]
    assert [r["event"].kind for r in page] == ["login failed"]
    assert not client.get("/log/", {"who": "nobody"}).context["rows"]
    settings.JOBS_HERE = True

    def verified(head: str = "") -> Any:
        with django_capture_on_commit_callbacks(execute=True):
            at = client.post("/log/verify/", {"head": head})["Location"]
        return client.get(at).context["report"]

    assert verified().sound
    assert verified(events("login")[0].sha256).sound
    assert not verified("f" * 64).sound
    assert len(events("verify")) == 3


def test_verifying_is_told_while_it_goes_on_and_can_be_stopped(boss: Any) -> None:
    client = browser()
    log_in(client)
    at = client.post("/log/verify/")["Location"]  # the test's transaction never ends: it waits
    page = client.get(at)
    assert f'hx-get="{at}"' in page.content.decode()
    assert "report" not in page.context
    moving = client.get(at, headers={"hx-request": "true"})
    assert "<progress" in moving.content.decode()
    assert "HX-Refresh" not in moving
    client.post(f"{at}cancel/")
    assert client.get(at, headers={"hx-request": "true"})["HX-Refresh"] == "true"
    assert "It was cancelled" in client.get(at).content.decode()
    assert not events("verify")


def test_the_first_administrator_is_made_once() -> None:
    made = first_administrator(ask=False)
    assert made is not None
    name, password = made
    assert len(password) >= 20
    client = browser()
    log_in(client, name, password)
    assert is_in(client)
    assert client.get("/people/")["Location"] == "/accounts/password/"  # the log shows it
    change(client, password, GOOD)
    assert client.get("/people/").status_code == 200
    assert first_administrator(ask=False) is None
    assert new_password() != new_password()


def test_a_password_that_is_made_up_is_never_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    like = iter(["administrator-4Qx9Zk", "v8Jq2Lw7Xy5Pz3Kf6Gh1"])  # the first holds the name
    monkeypatch.setattr("trocar.web.serve.secrets.token_urlsafe", lambda n: next(like))
    make_account("administrator", new_password("administrator"), role="referrer", who="test")
