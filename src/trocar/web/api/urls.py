"""The addresses of the interface, under /api/v1/."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.utils.translation import override
from django.views.decorators.http import etag, require_safe
from ninja.responses import Response

from trocar.web.api import lesions, rows, studies  # noqa: F401  # they offer their operations
from trocar.web.api.core import API_RIGHTS, api, kept_apart, not_found
from trocar.web.guard import PUBLIC


@cache
def _schema() -> tuple[bytes, str]:
    """The description of the interface and its hash: made once, as anybody may ask for it."""
    with override("en"):
        content = Response(api.get_openapi_schema()).content
    return content, hashlib.sha256(content).hexdigest()


@require_safe
@etag(lambda request: f'"{_schema()[1]}"')
def described(request: HttpRequest) -> HttpResponse:
    """The description; a client that has it already is told so."""
    response = HttpResponse(_schema()[0], content_type="application/json; charset=utf-8")
    response["Cache-Control"] = "public, no-cache"  # kept by anybody, asked for again each time
    return response


def _pattern(found: Any) -> Any:
    """An address with the rights of all its methods, any one of which one of them needs."""
    at = "/" + str(found.pattern).replace("<uuidstr:uid>", "{uid}")
    needed = sorted({r for (_, p), rights in API_RIGHTS.items() if p == at for r in rights})
    if found.name == "api-root":
        return path(str(found.pattern), kept_apart(not_found, (PUBLIC,)), name=found.name)
    if found.name == "openapi-json":  # it tells what there is and holds nothing of anybody
        return path(str(found.pattern), kept_apart(described, (PUBLIC,)), name=found.name)
    return path(str(found.pattern), kept_apart(found.callback, tuple(needed)), name=found.name)


_patterns, _app, _namespace = api.urls
urlpatterns = [
    path("", include(([_pattern(p) for p in _patterns], _app), namespace=_namespace)),
    # Whatever the rest holds, a line's end too: a program is answered in JSON.
    re_path(r"^[\s\S]*$", kept_apart(not_found, (PUBLIC,)), name="api-nothing"),
]
