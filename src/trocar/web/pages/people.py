"""Accounts and their roles, one's own tokens, and the log: what happened, and whether it holds."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from trocar.errors import InputError
from trocar.model.patient import SPECIALTIES
from trocar.registry import chain, roles
from trocar.registry.models import ChainEvent, Job, Person, Token
from trocar.web import jobs
from trocar.web.guard import needs, role_of
from trocar.web.pages.audit import progress
from trocar.web.serve import make_account, new_password

TOKEN_BYTES = 32
LONGEST_DAYS = 366
_A_PAGE = 100


# --- Accounts -----------------------------------------------------------------------------------


class AccountForm(forms.Form):
    """What a new account needs; its password is made up."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=50,
        help_text=gettext_lazy("Letters, digits, dots, dashes; it stands in every history."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip
    role = forms.ChoiceField(label=gettext_lazy("Role"))
    specialty = forms.ChoiceField(label=gettext_lazy("Specialty"), required=False)
    language = forms.ChoiceField(
        label=gettext_lazy("Language"), choices=[("en", "English"), ("zh-hant", "繁體中文")]
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = [(r, gettext(r)) for r in roles.ROLES]  # type: ignore[attr-defined]
        self.fields["specialty"].choices = [  # type: ignore[attr-defined]
            ("", gettext("none")),
            *((s, gettext(s)) for s in SPECIALTIES),
        ]


def _people(
    request: HttpRequest, form: AccountForm | None = None, status: int = 200, **more: Any
) -> HttpResponse:
    accounts = (
        get_user_model()
        .objects.select_related("person")
        .filter(person__isnull=False)
        .order_by("-is_active", "username")
    )
    with_factor = set(
        get_user_model().objects.filter(authenticator__type="totp").values_list("pk", flat=True)
    )
    context = {
        "accounts": accounts, "form": form or AccountForm(), "roles": roles.ROLES,
        "specialties": SPECIALTIES,
        "with_factor": with_factor, "tokens": _in_use(), **more,
    }  # fmt: skip
    return render(request, "people/people.html", context, status=status)


def _in_use() -> Any:
    """The tokens that work, of all accounts."""
    return (
        Token.objects.select_related("user")
        .filter(revoked_at="", ends_at__gt=chain.now())
        .order_by("user__username", "-pk")
    )


@needs(roles.PEOPLE)
@require_GET
def people(request: HttpRequest) -> HttpResponse:
    """Every account, the active ones first."""
    return _people(request)


@needs(roles.PEOPLE)
@require_POST
@sensitive_variables("password")
def new_account(request: HttpRequest) -> HttpResponse:
    """Enter an account; its first password is shown once."""
    form = AccountForm(request.POST)
    if form.is_valid():
        given = form.cleaned_data
        password = new_password(given["name"])
        try:
            user = make_account(
                given["name"], password, role=given["role"], who=request.user.get_username(),
                specialty=given["specialty"], language=given["language"], must_change=True,
            )  # fmt: skip
        except InputError as error:
            form.add_error("name", gettext(str(error)))
        else:
            return _people(request, made=user, password=password)
    return _people(request, form, status=422)


def _other(request: HttpRequest, pk: int) -> Any:
    """The account to be changed; one does not change one's own here."""
    user = get_object_or_404(get_user_model().objects.filter(person__isnull=False), pk=pk)
    if user.pk == request.user.pk:
        raise InputError(gettext("Another administrator changes this account, not its owner."))
    return user


def _tell(request: HttpRequest, user: Any, what: str, **more: Any) -> None:
    chain.log("account", request.user.get_username(), f"accounts:{user.pk}", what=what, **more)


@needs(roles.PEOPLE)
@require_POST
@sensitive_variables("password")
def change_account(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Change role or specialty, shut out, let in, give a password, take a second factor off."""
    password = ""
    try:
        with transaction.atomic():
            user = _other(request, pk)
            if what == "role":
                _set_role(request, user)
            elif what == "specialty":
                _set_specialty(request, user)
            elif what in ("deactivate", "activate"):
                user.is_active = what == "activate"
                user.save(update_fields=["is_active"])
                _tell(request, user, f"{what}d")
                if what == "deactivate":
                    _revoke_all(request, user)
            elif what == "password":
                password = new_password(user.get_username())
                user.set_password(password)
                user.save(update_fields=["password"])
                Person.objects.filter(user=user).update(must_change=True)
                _tell(request, user, "password reset")
                _revoke_all(request, user)
            else:
                user.authenticator_set.all().delete()
                _tell(request, user, "second factor removed")
    except InputError as error:
        messages.error(request, gettext(str(error)), extra_tags="stop")
        return redirect("people")
    if password:
        return _people(request, made=user, password=password)
    messages.success(request, gettext("Changed: %(name)s.") % {"name": user.get_username()})
    return redirect("people")


def _revoke(request: HttpRequest, token: Token) -> None:
    """End a token now, and log it; nothing when it was ended before."""
    if token.revoked_at:
        return
    token.revoked_at = chain.now()
    token.save(update_fields=["revoked_at"])
    chain.log("token", request.user.get_username(), f"tokens:{token.pk}", what="revoked")


def _revoke_all(request: HttpRequest, user: Any) -> None:
    """An account that is shut, or whose password somebody else set, keeps no token."""
    for token in Token.objects.select_for_update().filter(user=user, revoked_at=""):
        _revoke(request, token)


@needs(roles.PEOPLE)
@require_POST
def revoke_any(request: HttpRequest, pk: int) -> HttpResponse:
    """End a token of any account."""
    with transaction.atomic():
        _revoke(request, get_object_or_404(Token.objects.select_for_update(), pk=pk))
    messages.success(request, gettext("The token is revoked."))
    return redirect("people")


def _set_role(request: HttpRequest, user: Any) -> None:
    role = request.POST.get("role", "")
    if role not in roles.ROLES:
        raise InputError(gettext("That is no role."))
    person = Person.objects.select_for_update().get(user=user)
    if person.role == role:
        return
    _tell(request, user, "role", old=person.role, new=role)
    person.role = role
    person.save(update_fields=["role"])


def _set_specialty(request: HttpRequest, user: Any) -> None:
    """What the account's votes in meetings bear."""
    specialty = request.POST.get("specialty", "")
    if specialty not in ("", *SPECIALTIES):
        raise InputError(gettext("That is no specialty."))
    person = Person.objects.select_for_update().get(user=user)
    if person.specialty == specialty:
        return
    _tell(request, user, "specialty", old=person.specialty, new=specialty)
    person.specialty = specialty
    person.save(update_fields=["specialty"])


# --- Tokens -------------------------------------------------------------------------------------


def token_hash(token: str) -> str:
    """What is kept of a token; its 256 random bits need no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


class TokenForm(forms.Form):
    """What a token is for, what it may and until when."""

    name = forms.CharField(label=gettext_lazy("What it is for"), max_length=100)
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("What it may"), widget=forms.CheckboxSelectMultiple
    )
    days = forms.IntegerField(
        label=gettext_lazy("Ends after"), min_value=1, max_value=LONGEST_DAYS, initial=90,
        help_text=gettext_lazy("Days, a year at most."),
    )  # fmt: skip

    def __init__(self, role: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A token makes no tokens and no accounts, whoever holds it.
        most = roles.RIGHTS.get(role, frozenset()) - {roles.TOKENS, roles.PEOPLE}
        self.fields["scopes"].choices = [(r, gettext(r)) for r in sorted(most)]  # type: ignore[attr-defined]


@needs(roles.TOKENS)
@require_http_methods(["GET", "POST"])
@sensitive_post_parameters()
@sensitive_variables("token")
def tokens(request: HttpRequest) -> HttpResponse:
    """One's own tokens; a new one is shown once."""
    form = TokenForm(role_of(request), request.POST or None)
    token, status = "", 200
    if request.method == "POST":
        if form.is_valid():
            given, token = form.cleaned_data, secrets.token_urlsafe(TOKEN_BYTES)
            ends = datetime.now(UTC) + timedelta(days=given["days"])
            with transaction.atomic():
                kept = Token.objects.create(
                    user=request.user, name=given["name"], sha256=token_hash(token),
                    scopes=sorted(given["scopes"]), made_at=chain.now(),
                    ends_at=ends.isoformat(timespec="microseconds"),
                )  # fmt: skip
                who = request.user.get_username()
                chain.log("token", who, f"tokens:{kept.pk}", what="made", scopes=kept.scopes)
            form = TokenForm(role_of(request))
        else:
            status = 422
    own = Token.objects.filter(user=request.user).order_by("-pk")
    context = {"form": form, "tokens": own, "token": token, "now": chain.now()}
    return render(request, "people/tokens.html", context, status=status)


@needs(roles.TOKENS)
@require_POST
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    """End one of one's own tokens now."""
    with transaction.atomic():
        own = Token.objects.select_for_update().filter(user=request.user)
        _revoke(request, get_object_or_404(own, pk=pk))
    messages.success(request, gettext("The token is revoked."))
    return redirect("tokens")


# --- The log ------------------------------------------------------------------------------------


def _log(request: HttpRequest, status: int = 200, **more: Any) -> HttpResponse:
    kind, who = request.GET.get("kind", "")[:40], request.GET.get("who", "")[:50]
    events = ChainEvent.objects.order_by("-number")
    if kind:
        events = events.filter(kind=kind)
    if who:
        events = events.filter(who=who)
    page = Paginator(events, _A_PAGE).get_page(request.GET.get("page"))
    kinds = ChainEvent.objects.order_by("kind").values_list("kind", flat=True).distinct()
    rows = [{"event": e, "told": _told(e)} for e in page]
    context = {"page": page, "rows": rows, "kinds": kinds, "kind": kind, "who": who,
               "not_here": chain.NOT_HERE, **more}  # fmt: skip
    return render(request, "people/log.html", context, status=status)


def _told(event: ChainEvent) -> str:
    """What an event says beside who and when, short; hashes are left to the export."""
    detail = {k: v for k, v in json.loads(event.detail).items() if k != "digest"}
    known = {k: v for k, v in detail.items() if v not in (None, "", [], {})}
    words = {k: gettext(v) if isinstance(v, str) else v for k, v in known.items()}
    return ", ".join(f"{gettext(k)}: {v}" for k, v in words.items())


@needs(roles.LOG)
@require_GET
def log(request: HttpRequest) -> HttpResponse:
    """The latest events, of one kind or one account if asked."""
    return _log(request)


@needs(roles.LOG)
@require_POST
def verify_log(request: HttpRequest) -> HttpResponse:
    """Ask for the whole log and every row to be looked at."""
    head = request.POST.get("head", "").strip()[:64] or None
    job = jobs.submit("verify", {"head": head}, request.user.get_username())
    return redirect("verify_result", uid=job.uid)


def run_verify(parameters: Mapping[str, Any], who: str, tell: jobs.Tell) -> str:
    """Walk the whole log and every row, and say what was found."""
    report = chain.verify(known_head=parameters["head"], progress=tell)
    chain.log("verify", who, "",
              sound=report.sound, links=report.links, broken_at=report.broken_at)  # fmt: skip
    return json.dumps(asdict(report))


@needs(roles.LOG)
@require_GET
def verify_result(request: HttpRequest, uid: Any) -> HttpResponse:
    """How far verifying has come, or what it found."""
    job = _verifying(uid)
    poll = reverse("verify_result", args=[job.uid])
    if request.htmx and not request.htmx.history_restore_request:
        return progress(request, job, poll)
    if job.state == "done":
        return _log(request, report=chain.ChainReport(**json.loads(job.result)))
    return _log(request, job=job, poll=poll, cancel=reverse("verify_cancel", args=[job.uid]))


@needs(roles.LOG)
@require_POST
def verify_cancel(request: HttpRequest, uid: Any) -> HttpResponse:
    """Stop verifying."""
    job = _verifying(uid)
    jobs.cancel(job)
    return redirect("verify_result", uid=job.uid)


def _verifying(uid: Any) -> Job:
    return get_object_or_404(Job, uid=uid, kind="verify")


urlpatterns = [
    path("people/", people, name="people"),
    path("people/new/", new_account, name="new_account"),
    *(
        path(f"people/<int:pk>/{what}/", change_account, {"what": what}, name=f"account_{what}")
        for what in ("role", "specialty", "deactivate", "activate", "password", "factor")
    ),
    path("people/tokens/<int:pk>/revoke/", revoke_any, name="revoke_any_token"),
    path("tokens/", tokens, name="tokens"),
    path("tokens/<int:pk>/revoke/", revoke_token, name="revoke_token"),
    path("log/", log, name="log"),
    path("log/verify/", verify_log, name="verify_log"),
    path("log/verify/<uuid:uid>/", verify_result, name="verify_result"),
    path("log/verify/<uuid:uid>/cancel/", verify_cancel, name="verify_cancel"),
]
