"""The first page, the language, what trocar is not, and whether the site answers."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import check_for_language
from django.views.decorators.http import require_GET, require_POST

from trocar.registry import roles
from trocar.web.guard import ANYONE, PUBLIC, allowed, needs
from trocar.web.templatetags.trocar_pages import MENU, place


@needs(ANYONE)
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The first page a role has work on."""
    if allowed(request, roles.SEE) or allowed(request, roles.SEE_OWN):
        return redirect("worklist")
    for name, _, rights in MENU:
        if place(name) and any(allowed(request, r) for r in rights):
            return redirect(name)
    return render(request, "about.html")


@needs(PUBLIC)
@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Keep the language that was chosen and go back to where one was, within this site."""
    chosen = request.POST.get("language", "")
    back = request.POST.get("next", "/")
    secure = request.is_secure()
    if not url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=secure):
        back = "/"
    response = redirect(back)
    known = chosen in dict(settings.LANGUAGES) and check_for_language(chosen)
    if known:
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME, chosen, max_age=365 * 24 * 3600, httponly=True,
            secure=settings.SESSION_COOKIE_SECURE, samesite="Lax",
        )  # fmt: skip
        person = getattr(request.user, "person", None)
        if person is not None and person.language != chosen:
            person.language = chosen
            person.save(update_fields=["language"])
    return response


@needs(PUBLIC)
@require_GET
def about(request: HttpRequest) -> HttpResponse:
    """What trocar is, and what it is not."""
    return render(request, "about.html")


@needs(PUBLIC)
@require_GET
def health(request: HttpRequest) -> HttpResponse:
    """Whether the site answers; tells nothing else."""
    return HttpResponse("ok", content_type="text/plain")


urlpatterns: list[Any] = [
    path("", home, name="home"),
    path("language/", language, name="language"),
    path("about/", about, name="about"),
    path("health/", health, name="health"),
]
