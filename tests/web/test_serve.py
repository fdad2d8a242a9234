"""The real server: made from nothing, reached from this machine alone, and there again later."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import pytest

from trocar.errors import InputError
from trocar.web.serve import check_host, is_loopback

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from trocar.cli import main; main()"]


def surroundings(home: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TROCAR_", "DJANGO_"))}
    return kept | {"TROCAR_HOME": str(home), "PYTHONUNBUFFERED": "1"} | more


@contextmanager
def server(home: Path, *options: str, **more: str) -> Iterator[tuple[str, str]]:
    """A running ``trocar serve``: its address, and what it printed before that."""
    run = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *options],
        env=surroundings(home, **more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        printed = ""
        assert run.stdout is not None
        for line in run.stdout:
            printed += line
            if line.startswith("http://"):
                break
        else:
            raise AssertionError(printed)
        yield line.strip(), printed
    finally:
        run.terminate()
        run.wait(20)


def browser() -> tuple[OpenerDirector, CookieJar]:
    jar = CookieJar()
    return build_opener(HTTPCookieProcessor(jar)), jar


def log_in(opener: OpenerDirector, address: str, name: str, password: str) -> str:
    page = opener.open(f"{address}accounts/login/").read().decode()
    (token,) = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page))
    form = {"csrfmiddlewaretoken": token, "login": name, "password": password}
    form["next"] = "/people/"
    body = urlencode(form).encode()
    return opener.open(f"{address}accounts/login/", body).read().decode()  # type: ignore[no-any-return]


def change(opener: OpenerDirector, address: str, page: str, old: str) -> str:
    """A password of one's own; returns it."""
    new = "nine-slow-harbours"
    form = {"csrfmiddlewaretoken": re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[0],
            "oldpassword": old, "password1": new, "password2": new}  # fmt: skip
    opener.open(f"{address}accounts/password/", urlencode(form).encode())
    return new


def first(printed: str) -> tuple[str, str]:
    found = re.search(r"administrator +(\S+)\s+password +(\S+)", printed)
    assert found, printed
    return found[1], found[2]


def test_it_begins_from_nothing_and_keeps_what_it_has(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with server(home) as (address, printed):
        name, password = first(printed)
        opener, _ = browser()
        asked = log_in(opener, address, name, password)
        assert "Somebody else knows this password" in asked  # the terminal, at least
        password = change(opener, address, asked, password)
        assert "Make the account" in opener.open(f"{address}people/").read().decode()
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        assert host == "127.0.0.1"
        others = {i[4][0] for i in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        for other in others:
            if not is_loopback(str(other)):
                with pytest.raises(OSError):
                    socket.create_connection((other, int(port)), timeout=2)
        ask = http.client.HTTPConnection(host, int(port))
        ask.request("GET", "/accounts/login/", headers={"Host": "example.org"})
        assert ask.getresponse().status == 400  # another site's name for this machine
    assert (home / "secret-key").stat().st_mode & 0o077 == 0
    with server(home) as (address, printed):
        assert "password" not in printed
        opener, _ = browser()
        assert "Make the account" in log_in(opener, address, name, password)


def test_a_large_body_is_refused_by_the_length_it_tells(tmp_path: Path) -> None:
    with server(tmp_path, "--yes") as (address, _):
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        for size, status in ((200 << 20, b"413"), ((32 << 20) + (1 << 17), b"413")):
            with socket.create_connection((host, int(port)), timeout=10) as ask:
                ask.sendall(
                    b"POST /import/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\n"
                    + f"Content-Length: {size}\r\n\r\n".encode()
                )  # and not a byte of it: who waits for the body waits for ever
                assert status in ask.recv(4096).split(b"\r\n")[0]


def test_behind_a_proxy_cookies_and_headers_ask_for_https(tmp_path: Path) -> None:
    more = {"TROCAR_HTTPS": "1", "TROCAR_HOSTS": "registry.example"}
    with server(tmp_path, **more) as (address, _):
        host = address.removeprefix("http://").rstrip("/")
        ask = http.client.HTTPConnection(host)
        headers = {"Host": "registry.example", "X-Forwarded-Proto": "https"}
        ask.request("GET", "/accounts/login/", headers=headers)
        answer = ask.getresponse()
        page = answer.read().decode()
        assert answer.status == 200
        assert "max-age=31536000" in answer.headers["Strict-Transport-Security"]
        cookies = answer.headers.get_all("Set-Cookie") or []
        assert cookies
        token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[0]
        crumbs = "; ".join(c.split(";")[0] for c in cookies)
        ask = http.client.HTTPConnection(host)
        ask.request(
            "POST", "/accounts/login/", urlencode({"csrfmiddlewaretoken": token, "login": "x"}),
            headers | {"Cookie": crumbs, "Origin": "https://registry.example",
                       "Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        assert ask.getresponse().status == 200  # told what is missing; not refused as foreign
        for cookie in cookies:
            for flag in ("Secure", "HttpOnly", "SameSite=Lax"):
                assert flag in cookie


def test_the_network_is_not_answered_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TROCAR_HOSTS", raising=False)
    check_host("127.0.0.1")
    with pytest.raises(InputError, match="TROCAR_HOSTS"):
        check_host("0.0.0.0")
    done = subprocess.run(
        [*COMMAND, "serve", "--host", "0.0.0.0"],
        env=surroundings(tmp_path / "none"), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("trocar: --host 0.0.0.0")
    assert not (tmp_path / "none").exists()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "serve", "--yes", "--port", port],
            env=surroundings(tmp_path), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert "cannot be had" in done.stderr


def test_help_does_not_wait_for_the_site() -> None:
    began = time.perf_counter()
    code = "import sys; from trocar.cli import app; print('django' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"
    assert time.perf_counter() - began < 5
