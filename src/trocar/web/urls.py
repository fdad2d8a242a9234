"""Every address of the site."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from allauth.account import views as account
from django.apps import apps
from django.urls import include, path

_PAGES = (
    "work", "cases", "plans", "meeting", "consent", "procedure", "visit", "complication", "audit",
    "exchange", "people", "home", "training", "results", "upload", "bench",
)  # fmt: skip


def _pages() -> list[Any]:
    found: list[Any] = []
    for name in _PAGES:
        found += import_module(f"trocar.web.pages.{name}").urlpatterns
    return found


urlpatterns = [
    *_pages(),
    path("api/v1/", include("trocar.web.api.urls")),
    path("accounts/login/", account.login, name="account_login"),
    path("accounts/logout/", account.logout, name="account_logout"),
    path("accounts/password/", account.password_change, name="account_change_password"),
    path("accounts/reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("accounts/2fa/", include("allauth.mfa.urls")),
]

if apps.is_installed("allauth.socialaccount"):  # only where OpenID Connect is set up
    urlpatterns += [
        path("accounts/", include("allauth.socialaccount.providers.openid_connect.urls")),
        path("accounts/social/", include("allauth.socialaccount.urls")),
    ]
