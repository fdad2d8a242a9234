"""Who calls the programming interface: a token, and what it may.

A token is a random key of which only the hash is kept. It carries scopes; what it may is what both
they and the role of its account allow at the moment of the call. Cookies are not looked at.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.http import HttpRequest
from ninja.errors import HttpError
from ninja.security import HttpBearer
from ninja.throttling import BaseThrottle

from trocar.registry import chain, roles
from trocar.registry.models import Token

CALLS_A_MINUTE = 600
_WINDOW_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls: the account, its role, and the rights of role and token together."""

    who: str
    role: str
    rights: frozenset[str]
    token: str  # its hash

    def may(self, *rights: str) -> bool:
        """Whether any one of these rights is there."""
        return any(r in self.rights for r in rights)


def hash_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def caller_of(key: str) -> Caller | None:
    """Whose key it is, or None for one that is unknown, over, revoked, or of a closed account.

    So it is while an account's password, which an administrator knows, is still to be changed.
    """
    found = Token.objects.select_related("user__person").filter(sha256=hash_of(key)).first()
    if found is None or found.revoked_at or not _before_end(found.ends_at):
        return None
    user = found.user
    person = getattr(user, "person", None)
    if not user.is_active or person is None or person.must_change:
        return None
    held = roles.RIGHTS.get(person.role, frozenset())
    return Caller(
        who=user.get_username(), role=person.role, rights=held & frozenset(found.scopes),
        token=found.sha256,
    )  # fmt: skip


def _before_end(ends_at: str) -> bool:
    try:
        end = datetime.fromisoformat(ends_at)
    except ValueError:
        return False  # an end nobody can read has passed
    return datetime.now(UTC) < (end if end.tzinfo else end.replace(tzinfo=UTC))


class Bearer(HttpBearer):
    """Asks for a token, then for the right an address needs; any one of several is enough."""

    def __init__(self, address: str, rights: tuple[str, ...]) -> None:
        super().__init__()
        self.address, self.rights = address, rights

    def authenticate(self, request: HttpRequest, token: str) -> Caller | None:
        """Who calls; a missing right is refused and logged as on a page."""
        caller = caller_of(token)
        if caller is None:
            return None
        if not caller.may(*self.rights):
            chain.log("refused", caller.who, "", address=self.address)
            needed = " or ".join(self.rights)
            raise HttpError(403, f"this token may not do that; expected the right: {needed}")
        return caller


class PerToken(BaseThrottle):
    """So many calls a minute and token, counted in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = 0.0
        self._calls: dict[str, int] = {}

    def allow_request(self, request: HttpRequest) -> bool:
        """Count a call; False when there were too many in this minute."""
        most = int(getattr(settings, "API_CALLS_A_MINUTE", CALLS_A_MINUTE))
        with self._lock:
            now = time.monotonic()
            if now - self._began >= _WINDOW_S:
                self._began, self._calls = now, {}
            token = request.auth.token
            self._calls[token] = self._calls.get(token, 0) + 1
            return self._calls[token] <= most

    def wait(self) -> float:
        """Seconds until the next minute begins."""
        return max(1.0, self._began + _WINDOW_S - time.monotonic())
