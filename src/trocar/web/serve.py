"""Making the database ready, the first administrator, and answering the browser."""

from __future__ import annotations

import getpass
import ipaddress
import logging
import os
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trocar.errors import InputError

if TYPE_CHECKING:
    from trocar.farm import LocalFarm

FIRST = "admin"
THREADS = 8  # in each process
BACKLOG = 1024
PASSWORD_BYTES = 15  # 20 characters of base 64
_TRIES = 100
_FILE, _KEY = "registry.sqlite3", "secret-key"
_MADE = (_FILE, f"{_FILE}-wal", f"{_FILE}-shm", _KEY)


class NoValues(logging.Formatter):
    """A line of the server's log; of an error its kind and place, as its words may hold values."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name} {message}", style="{")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Where it happened, without what it said."""
        kind, _, place = ei
        return "".join(traceback.format_tb(place)) + getattr(kind, "__name__", "error")


def home() -> Path:
    """The folder of everything that is kept beside a database server."""
    named = os.environ.get("TROCAR_HOME")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_data_dir("trocar", appauthor=False))


def setup() -> None:
    """Start Django with the site's settings; harmless when it runs already."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trocar.web.settings")
    try:
        import django
    except ImportError as error:
        raise InputError(
            "the registry needs packages that are not installed; get them with "
            "pip install 'trocar[web]'"
        ) from error
    django.setup()


def prepare() -> None:
    """Bring the database to this version: its tables, and the one that counts failed logins."""
    setup()
    from django.core.management import call_command
    from django.db import DatabaseError

    try:
        call_command("migrate", interactive=False, verbosity=0)
        call_command("createcachetable", verbosity=0)
    except DatabaseError as error:
        raise InputError(
            f"the database cannot be made ready ({str(error).strip().splitlines()[0]}); "
            "look at TROCAR_DATABASE, or at the space and rights of TROCAR_HOME"
        ) from error


def prepare_existing() -> None:
    """Bring the registry that is there to this version; InputError where none is, nothing made."""
    place = home()
    embedded = not os.environ.get("TROCAR_DATABASE")
    if embedded and not (place / _FILE).is_file():
        raise InputError(
            f"there is no registry in {place}; set TROCAR_HOME to the folder that holds one"
        )
    if not (place / _KEY).exists():
        # Neither a backup nor a look at the log needs the site's key; only a server makes one.
        os.environ.setdefault("TROCAR_SECRET_KEY", secrets.token_urlsafe(64))
    setup()
    from django.db import DatabaseError, connection

    try:
        tables = connection.introspection.table_names()
    except DatabaseError as error:
        raise InputError(
            f"the database cannot be read ({str(error).strip().splitlines()[0]}); "
            "look at TROCAR_DATABASE or TROCAR_HOME"
        ) from error
    if "registry_chainhead" not in tables:
        named = str(place / _FILE) if embedded else "the database of TROCAR_DATABASE"
        raise InputError(f"there is no registry in {named}; name the one that holds it")
    prepare()


@contextmanager
def nothing_left() -> Iterator[None]:
    """Take away the files of a new registry when what was to fill it is refused."""
    place = home()
    was = {p: p.exists() for p in (*(place / n for n in _MADE), place / "files", place)}
    try:
        yield
    except BaseException:
        from django.db import connections

        with suppress(Exception):
            connections.close_all()
        for path in (p for p, there in was.items() if not there):
            with suppress(OSError):  # a folder that holds something else stays
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def new_password(*names: str) -> str:
    """A password nobody else has, for accounts of these names; whoever gets it changes it at will.

    A few in a thousand hold most letters of a name by chance, which the rules refuse.
    """
    from django.contrib.auth import get_user_model
    from django.contrib.auth.password_validation import validate_password
    from django.core.exceptions import ValidationError

    password = ""
    for _ in range(_TRIES):
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        try:
            for name in names:
                validate_password(password, get_user_model()(username=name))
        except ValidationError:
            continue
        break
    return password


def make_account(
    name: str, password: str, *, role: str, who: str, specialty: str = "", language: str = "en",
    must_change: bool = False,
) -> Any:  # fmt: skip
    """Enter an account with its role, and log it; InputError says what is wrong with either.

    ``must_change``: somebody else knows the password, so that the first login asks for another.
    """
    from django.contrib.auth import get_user_model
    from django.contrib.auth.password_validation import validate_password
    from django.core.exceptions import ValidationError
    from django.db import transaction

    from trocar.registry import chain, roles
    from trocar.registry.models import Person
    from trocar.web.accounts import USERNAME

    users = get_user_model()
    if not USERNAME.match(name):
        raise InputError(
            "an account's name begins with a letter or digit; expected up to 50 letters, digits, "
            "dots, dashes and underscores"
        )
    if role not in roles.ROLES:
        raise InputError(f"the role is {role!r}; expected one of {', '.join(roles.ROLES)}")
    # A name that differs in its case alone would be taken for the other by a reader of the log.
    if users.objects.filter(username__iexact=name).exists():
        raise InputError(f"an account of the name {name} is there already; choose another")
    user = users(username=name)
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise InputError(" ".join(error.messages)) from error
    user.set_password(password)
    with transaction.atomic():
        user.save()
        Person.objects.create(
            user=user, role=role, specialty=specialty, language=language, must_change=must_change
        )
        chain.log("account", who, f"accounts:{user.pk}", what="created", role=role)
    return user


def first_administrator(*, ask: bool) -> tuple[str, str] | None:
    """Make the first administrator when there is none.

    Asks on the terminal when ``ask``; otherwise makes a password up and returns it with the name,
    to be shown once.
    """
    from trocar.registry.models import Person

    if Person.objects.filter(role="administrator", user__is_active=True).exists():
        return None
    if not ask:
        name = _free_name()
        password = new_password(name)
        make_account(name, password, role="administrator", who="trocar", must_change=True)
        return name, password
    print("No administrator yet. This account enters all others.")
    while True:
        name = input(f"Name [{FIRST}]: ").strip() or FIRST
        password = getpass.getpass("Password (12 characters or more): ")
        if password != getpass.getpass("The same again: "):
            print("The two differ.")
            continue
        try:
            make_account(name, password, role="administrator", who="trocar")
        except InputError as error:
            print(error)
            continue
        return None


def _free_name() -> str:
    """``admin``, or with a number where an account of that name was deactivated."""
    from django.contrib.auth import get_user_model

    names = {n.lower() for n in get_user_model().objects.values_list("username", flat=True)}
    name, number = FIRST, 1
    while name in names:
        number += 1
        name = f"{FIRST}{number}"
    return name


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(host: str) -> None:
    """Refuse to answer a network nobody named."""
    if not is_loopback(host) and not os.environ.get("TROCAR_HOSTS"):
        raise InputError(
            f"--host {host} would answer other machines, but TROCAR_HOSTS does not say by which "
            "names; set it, and put a proxy that speaks HTTPS in front"
        )


def serve(
    host: str = "127.0.0.1", port: int = 8000, *, yes: bool = False, processes: int | None = None
) -> None:
    """Make ready what is missing and answer until interrupted."""
    check_host(host)
    prepare()
    made = first_administrator(ask=not yes and sys.stdin.isatty())
    if made is not None:
        print(f"first administrator  {made[0]}")
        print(
            f"password             {made[1]}   (shown this once; the first login asks for another)"
        )
    run(host, port, processes)


def run(host: str, port: int, processes: int | None = None) -> None:
    """Answer until interrupted; the address is printed when the port is ours."""
    import socket

    from django.db import connections

    from trocar import NOTICE
    from trocar.web import daily, jobs

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be had ({error.strerror or error}); is trocar running already? "
            "Another one is chosen with --port"
        ) from error
    print(f"http://{'[' + host + ']' if ':' in host else host}:{listening.getsockname()[1]}/")
    print(f"{NOTICE} Stop with Ctrl-C.", flush=True)
    jobs.recover()  # what a server that died left half-way waits again, or is told
    connections.close_all()  # none is shared with another process
    workers = local_workers()
    for _ in range((usual_processes() if processes is None else processes) - 1):
        if os.fork() == 0:
            _end_with(os.getppid())
            _answer(listening)
            os._exit(0)
    daily.start()
    jobs.go_on()
    try:
        if workers is not None:
            workers.keep(lambda sentence: print(sentence, file=sys.stderr, flush=True))
        _answer(listening)
    finally:
        if workers is not None:
            workers.close()


def local_workers() -> LocalFarm | None:
    """The workers of this machine, told to all processes that answer; None where others are named.

    They begin with the first work: a registry that computes nothing need not hold them. Without
    workers the pages answer all the same, and one sentence says what is missing.
    """
    from trocar.farm import LocalFarm
    from trocar.web import jobs

    if os.environ.get(jobs.ADDRESS):
        return None
    try:
        workers = LocalFarm(home() / "farm")
        workers.prepare()
    except InputError as error:
        print(f"No plan or simulation can be computed: {error}.", file=sys.stderr, flush=True)
        return None
    os.environ[jobs.PLACE] = str(workers.place)
    return workers


def usual_processes() -> int:
    """One a core, at most two: Python answers on one core a process."""
    return min(2, os.cpu_count() or 1) if hasattr(os, "fork") else 1


def _answer(listening: Any) -> None:
    from django.conf import settings
    from waitress import create_server

    from trocar.web import incoming
    from trocar.web.wsgi import application

    options: dict[str, Any] = {
        "sockets": [listening], "threads": THREADS, "ident": None,
        # What is larger is refused by the length it tells, before any of it is written to disk.
        "max_request_body_size": incoming.largest_request(),
    }  # fmt: skip
    if settings.HTTPS:
        # Who asks, and that it was asked over HTTPS, is believed of the proxy alone.
        options |= {
            "trusted_proxy": settings.PROXY,
            "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto"},
            "clear_untrusted_proxy_headers": True,
        }
    server = create_server(application, **options)
    try:
        server.run()
    finally:
        server.close()


def _end_with(parent: int) -> None:
    """End this process soon after its parent, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()
