"""A PostgreSQL server that is thrown away, for tests and for trying by hand.

``python tests/registry/postgres.py COMMAND ...`` runs a command with TROCAR_DATABASE set to it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "postgres"


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL's programs, or None where there is none."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda p: int(p.parent.parent.name) if p.parent.parent.name.isdigit() else 0,
    )
    found = versions[-1] if versions else shutil.which("initdb")
    return None if found is None else Path(found).parent


def missing() -> str | None:
    """Why there can be no server here, or None when there can."""
    if binaries() is None:
        return "no PostgreSQL found (Debian: apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed: pip install 'trocar[postgres]'"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and runuser is not here"
    return None


@contextmanager
def throw_away() -> Iterator[str]:
    """A server on a free port of this machine; yields its URL and removes all of it after."""
    programs = binaries()
    if programs is None:
        raise RuntimeError("no PostgreSQL found")
    # The server refuses to run as root; its package made an account for it.
    as_user = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="trocar-postgresql-"))

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs / program), *arguments]
        # The server keeps what it inherits open: its output goes to files, not to a pipe of ours.
        with (folder / "out").open("a+b") as out:
            done = subprocess.run(command, cwd=folder, stdout=out, stderr=out, timeout=120)
            if done.returncode:
                out.seek(0)
                said = out.read().decode(errors="replace")
                raise RuntimeError(f"{program} ended with {done.returncode}: {said[-2000:]}")

    try:
        if as_user:
            shutil.chown(folder, USER)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data = str(folder / "data")
        run("initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
            "--no-sync")  # fmt: skip
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
        run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    # A run that is ended from outside takes its server with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with throw_away() as url:
        environment = {**os.environ, "TROCAR_DATABASE": url}
        sys.exit(subprocess.run(sys.argv[1:], env=environment).returncode)
