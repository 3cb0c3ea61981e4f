"""Debian's PostgreSQL, started for tests: own folder, Unix socket alone, by a user without privileges."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return found[-1].parent if found else None


class PostgresServer:
    """Is a server with a folder of its own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._user = "nobody" if not os.geteuid() else pwd.getpwuid(os.geteuid()).pw_name
        if not os.geteuid():
            shutil.chown(folder, self._user)
        folder.chmod(0o755)
        self._do("initdb", "-U", "admin", "-A", "trust", "-E", "UTF8")

    def database(self, name: str) -> str:
        """Return the URL of a new database of its own user, as docs/cloud.md has people make one."""
        for words in (["createuser", name], ["createdb", "--owner", name, name]):
            subprocess.run([self._programs / words[0], "-h", self._folder, "-U", "admin", *words[1:]], check=True)
        return f"postgresql:///{name}?host={self._folder}&user={name}"

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder}"
        self._do("pg_ctl", "-w", "-l", self._folder / "log", "-o", options, "start")

    def cut(self) -> None:
        """End it as a crash does: what it had not committed is gone, and the next start recovers the rest."""
        self._do("pg_ctl", "-w", "-m", "immediate", "stop")

    def _do(self, program: str, *words: str | Path) -> None:
        command = [self._programs / program, "-D", self._folder / "data", *words]
        user = self._user if not os.geteuid() else None
        out = subprocess.DEVNULL
        subprocess.run(command, user=user, cwd="/", check=True, stdin=out, stdout=out, stderr=subprocess.STDOUT)


@contextlib.contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Yield a server that runs; skip with a sentence where there is none."""
    where = programs()
    if where is None:
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        why = str(error).splitlines()[0]
        pytest.skip(f"psycopg can't be used ({why}): pip install -e .[dev], apt-get install libpq5")
    folder = Path(tempfile.mkdtemp(prefix="btss-pg-"))
    try:
        server = PostgresServer(where, folder)
        server.start()
        try:
            yield server
        finally:
            server.cut()
    finally:
        shutil.rmtree(folder)
