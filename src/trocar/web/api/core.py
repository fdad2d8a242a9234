"""The interface itself: how an operation is offered, how a refusal is told.

Every operation names the right it needs; ``API_RIGHTS`` lists them all, as the test of the
permission matrix reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from trocar import NOTICE
from trocar.errors import InputError
from trocar.registry.store import Conflict
from trocar.web.api.schemas import Clash, Problem, plain_record
from trocar.web.api.tokens import Bearer, PerToken

API_RIGHTS: dict[tuple[str, str], tuple[str, ...]] = {}
LONGEST_PAGE = 200
FARTHEST = 10_000_000

_REFUSALS = {
    400: "the body is no JSON",
    401: "no token, or one that is not valid",
    403: "the token may not do that",
    404: "not there, or not for this token",
    405: "the address knows other methods",
    413: "the body is too large",
    422: "something given cannot be used",
    429: "too many calls in this minute",
}
api = NinjaAPI(
    title="trocar",
    version="1",
    description=f"{NOTICE} The records of the registry, under the rules its pages have.",
    urls_namespace="api-v1",
    docs_url=None,  # its page would ask another host for scripts
    throttle=[PerToken()],
)


def offer(
    method: str, path: str, *rights: str, gives: Any, made: int = 200, clashes: bool = False,
    name: str, tag: str, body: Any = None,
) -> Callable[[Any], Any]:  # fmt: skip
    """Offer a function as an operation; any one of ``rights`` is enough to call it.

    It gives ``gives`` with the status ``made``; ``body`` is the schema of what it takes.
    """
    answers: dict[int, Any] = dict.fromkeys(_REFUSALS, Problem)
    answers[made] = gives
    if clashes:
        answers[409] = Clash
    API_RIGHTS[method, path] = rights
    extra = {"x-rights": list(rights)}

    def mark(function: Any) -> Any:
        if body is not None:  # made at run time, so that no annotation can name it
            function.__annotations__["body"] = body
        operation = api.api_operation(
            [method], path.replace("{uid}", "{uuid:uid}"), response=answers,
            auth=Bearer(f"{method} {path}", rights), operation_id=name, url_name=f"api-{name}",
            tags=[tag], openapi_extra=extra,
            summary=(function.__doc__ or name).strip().partition("\n")[0].rstrip("."),
        )  # fmt: skip
        return operation(function)

    return mark


# --- Refusals -----------------------------------------------------------------------------------


def refusal(status: int, detail: str, **more: Any) -> JsonResponse:
    """A refusal as every one is told."""
    return JsonResponse({"detail": detail, **more}, status=status)


@api.exception_handler(InputError)
def _unusable(request: HttpRequest, error: InputError) -> HttpResponse:
    return refusal(422, str(error))


@api.exception_handler(Conflict)
def _clash(request: HttpRequest, error: Conflict) -> HttpResponse:
    yours = None if error.yours is None else plain_record(error.yours)
    return refusal(
        409, str(error), by=error.by, at=error.at, version=error.row.version,
        yours=yours, theirs=plain_record(error.theirs),
    )  # fmt: skip


@api.exception_handler(Http404)
def _absent(request: HttpRequest, error: Http404) -> HttpResponse:
    return refusal(404, "there is nothing of this name, or not for this token")


@api.exception_handler(AuthenticationError)
def _unknown(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    answer = refusal(401, "no valid token; expected the header Authorization: Bearer KEY")
    answer["WWW-Authenticate"] = "Bearer"
    return answer


@api.exception_handler(HttpError)
def _refused(request: HttpRequest, error: HttpError) -> HttpResponse:
    told = {
        400: "the body cannot be read; expected JSON",
        429: f"more than the calls of one minute; {str(error).lower()}",
    }
    return refusal(error.status_code, told.get(error.status_code, str(error)))


@api.exception_handler(RequestDataTooBig)
def _large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return refusal(413, "the body is larger than 4 MB; expected one row a call")


@api.exception_handler(UnreadablePostError)
def _broken(request: HttpRequest, error: UnreadablePostError) -> HttpResponse:
    return refusal(400, "the body broke off; send it again")


@api.exception_handler(ValidationError)
def _faulty(request: HttpRequest, error: ValidationError) -> HttpResponse:
    return refusal(422, "; ".join(map(_sentence, error.errors)))


def _sentence(fault: dict[str, Any]) -> str:
    """A fault as a sentence: ``record.day is 'x'; expected a number from -365 to 36500 (days)``."""
    place = ".".join(str(p) for p in fault["loc"] if p not in ("body", "query", "path"))
    kind = fault["type"]
    if kind == "missing":
        return f"{place or 'the body'} is missing"
    if kind == "extra_forbidden":
        return f"{place} is not known here; leave it out"
    return f"{place} {fault['msg']}" if kind == "column" else f"{place}: {fault['msg']}"


# --- Addresses ----------------------------------------------------------------------------------


def not_found(request: HttpRequest, **_: Any) -> HttpResponse:
    """The answer of an address that is none."""
    return refusal(404, "there is no such address; see /api/v1/openapi.json")


def kept_apart(view: Any, rights: tuple[str, ...]) -> Any:
    """A view as the site's guard lets it through: it asks for its token itself.

    Its answers are kept by no cache; a wrong method is told as every refusal is.
    """

    @wraps(view)
    def run(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        if response.status_code == 405:
            allow = response["Allow"]
            response = refusal(405, f"{request.method} is not known here; expected {allow}")
            response["Allow"] = allow
        response.setdefault("Cache-Control", "no-store, private")
        return response

    run.csrf_exempt = True  # type: ignore[attr-defined]  # no cookie says who calls
    run.own_authentication = True  # type: ignore[attr-defined]
    run.rights = rights  # type: ignore[attr-defined]
    return run
