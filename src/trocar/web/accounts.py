"""How accounts come to be: by an administrator alone; every login and failure is logged."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.signals import password_changed
from allauth.mfa import signals as mfa
from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import ValidationError
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext

from trocar.registry import chain

USERNAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$")


class Adapter(DefaultAccountAdapter):  # type: ignore[misc]
    """No sign-up; whoever was shut out is told so."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Nobody makes an account for himself."""
        return False

    def clean_password(self, password: str, user: Any = None) -> str:
        """A new password by the rules; the one before is none."""
        if user is not None and user.pk and user.check_password(password):
            raise ValidationError(gettext("This is the password you have; choose another."))
        return str(super().clean_password(password, user))

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        """On to the first page, which a password given by somebody else kept closed."""
        return str(settings.LOGIN_REDIRECT_URL)

    def respond_user_inactive(self, request: HttpRequest, user: Any) -> HttpResponse:
        """The right password of a deactivated account."""
        chain.log("login failed", user.get_username(), what="deactivated")
        return render(request, "account/account_inactive.html", status=403)


with contextlib.suppress(ImportError):  # only where OpenID Connect is set up
    from allauth.core.exceptions import ImmediateHttpResponse
    from allauth.socialaccount.adapter import DefaultSocialAccountAdapter

    class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
        """Lets in whom an administrator entered under the name the provider tells; nobody else."""

        def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
            """Nobody makes an account for himself."""
            return False

        def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
            """Join the provider's account with ours of the same name, the first time."""
            if sociallogin.is_existing:
                return
            from django.contrib.auth import get_user_model

            named = str(sociallogin.user.username or "")
            found = get_user_model().objects.filter(
                username=named, is_active=True, person__isnull=False
            )
            user = found.first() if USERNAME.match(named) else None
            if user is None:
                chain.log("login failed", "unknown", what="OpenID Connect")
                page = render(request, "account/account_inactive.html", status=403)
                raise ImmediateHttpResponse(page)
            if user.person.must_change:
                # The provider says who it is; the password an administrator knows is done with.
                user.set_unusable_password()
                user.save(update_fields=["password"])
                _changed(user)
            sociallogin.connect(request, user)
            chain.log("account", named, f"accounts:{user.pk}", what="joined to OpenID Connect")


@receiver(user_logged_in)
def _logged_in(sender: Any, request: HttpRequest, user: Any, **_: Any) -> None:
    chain.log("login", user.get_username())


@receiver(user_logged_out)
def _logged_out(sender: Any, request: HttpRequest, user: Any, **_: Any) -> None:
    if user is not None:
        chain.log("logout", user.get_username())


@receiver(user_login_failed)
def _failed(sender: Any, credentials: Any, request: Any = None, **_: Any) -> None:
    # The name typed may be a password typed into the wrong field: it is not kept.
    from django.contrib.auth import get_user_model

    named = str(credentials.get("username") or "")
    known = USERNAME.match(named) and get_user_model().objects.filter(username=named).exists()
    chain.log("login failed", named if known else "unknown")


@receiver(mfa.authentication_failed)
def _wrong_code(sender: Any, request: HttpRequest, user: Any, **_: Any) -> None:
    chain.log("login failed", user.get_username(), what="second factor")


@receiver(password_changed)
def _new_password(sender: Any, request: HttpRequest, user: Any, **_: Any) -> None:
    _changed(user)
    chain.log("account", user.get_username(), f"accounts:{user.pk}", what="password changed")


def _changed(user: Any) -> None:
    """Nobody but its owner knows the account's password any more."""
    from trocar.registry.models import Person

    Person.objects.filter(user=user, must_change=True).update(must_change=False)


@receiver(mfa.authenticator_added)
@receiver(mfa.authenticator_removed)
@receiver(mfa.authenticator_reset)
def _second_factor(
    sender: Any, request: HttpRequest, user: Any, authenticator: Any, signal: Any, **_: Any
) -> None:
    done = {
        id(mfa.authenticator_added): "added",
        id(mfa.authenticator_removed): "removed",
        id(mfa.authenticator_reset): "made anew",
    }[id(signal)]
    what = f"{authenticator.type} {done}"
    chain.log("account", user.get_username(), f"accounts:{user.pk}", what=what)
