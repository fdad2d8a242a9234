"""Every address names the right it needs; one that names none is refused.

``@needs(right)`` on a view says it. The guard runs before every view: not logged in leads to the
login, a missing right to a plain refusal, which is logged. Rights that end in "own cases" are
narrowed by the view itself, which asks :func:`case_of`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from trocar.registry import chain, roles
from trocar.registry.models import MODELS

PUBLIC = "public"  # the login and what it needs
ANYONE = "anyone"  # whoever is logged in: one's own password, language, home
_RENEW_S = 60
# All that is open before a password an administrator knows is changed.
BEFORE_CHANGE = ("account_change_password", "account_logout", "language")
# Views that are not ours, by the name of their address.
FOREIGN = {
    "account_login": PUBLIC,
    "account_logout": ANYONE,
    "account_change_password": ANYONE,
    "account_reauthenticate": ANYONE,
    "mfa_index": ANYONE,
    "mfa_authenticate": PUBLIC,
    "mfa_reauthenticate": ANYONE,
    "mfa_activate_totp": ANYONE,
    "mfa_deactivate_totp": ANYONE,
    "mfa_generate_recovery_codes": ANYONE,
    "mfa_view_recovery_codes": ANYONE,
    "mfa_download_recovery_codes": ANYONE,
    "openid_connect_login": PUBLIC,
    "openid_connect_callback": PUBLIC,
    "socialaccount_login_cancelled": PUBLIC,
    "socialaccount_login_error": PUBLIC,
}


def needs(*rights: str) -> Callable[[Any], Any]:
    """Say which right a view needs; with several, any one of them is enough."""

    def mark(view: Any) -> Any:
        view.rights = rights
        return view

    return mark


def rights_of(view: Any, name: str | None) -> tuple[str, ...]:
    """The rights an address needs, any one of them; empty when it names none."""
    marked = getattr(view, "rights", None)
    if marked is None:
        marked = getattr(getattr(view, "view_class", None), "rights", None)
    if marked is not None:
        return tuple(marked)
    return (FOREIGN[name],) if name in FOREIGN else ()


def role_of(request: HttpRequest) -> str:
    """The role of who asks, "" for nobody."""
    person = getattr(request.user, "person", None) if request.user.is_authenticated else None
    return "" if person is None else str(person.role)


def allowed(request: HttpRequest, right: str) -> bool:
    """Whether who asks has a right."""
    return roles.may(role_of(request), right)


def case_of(request: HttpRequest, uid: Any) -> Any:
    """The lesion of an opaque name, if who asks may see it; else 404, as if it were not there."""
    found = MODELS["lesions"].objects.select_related("patient", "study", "case").filter(uid=uid)
    lesion = found.first()
    if lesion is None:
        raise Http404
    if allowed(request, roles.SEE):
        return lesion
    own = lesion.referrals.filter(referrer_id=request.user.get_username()).exists()
    if allowed(request, roles.SEE_OWN) and own:
        return lesion
    raise Http404


class Guard:
    """The middleware that asks before every view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer; what an account was shown is not kept by the browser."""
        if request.user.is_authenticated:
            self._keep_alive(request)
        response = self.get_response(request)
        if request.user.is_authenticated:
            response.setdefault("Cache-Control", "no-store, private")
        return response

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponse | None:
        """Refuse before the view is called."""
        match = request.resolver_match
        needed = rights_of(view, match.url_name if match else None)
        if PUBLIC in needed:
            return None
        if getattr(view, "own_authentication", False):
            return None  # the programming interface asks for its token itself
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path(), settings.LOGIN_URL)
        role = role_of(request)
        name = match.url_name if match else None
        if role and request.user.person.must_change and name not in BEFORE_CHANGE:
            return redirect("account_change_password")
        if role and (ANYONE in needed or any(roles.may(role, r) for r in needed)):
            return None
        name = match.view_name if match else ""
        chain.log("refused", request.user.get_username(), "", address=name)
        return render(request, "refused.html", {"needed": needed}, status=403)

    def _keep_alive(self, request: HttpRequest) -> None:
        session, now = request.session, time.time()
        began = session.setdefault("began", now)
        if now - began > settings.SESSION_LONGEST_S:
            logout(request)
        elif now - session.get("seen", 0) > _RENEW_S:
            session["seen"] = now
