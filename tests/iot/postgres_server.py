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


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """Yield the URL of a database; skip with a sentence where there is no server."""
    where = programs()
    if where is None:
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="psycopg finds no libpq: apt-get install libpq5")
    user = "nobody" if not os.geteuid() else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="btss-pg-"))
    how = {"user": user, "cwd": "/", "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    if not os.geteuid():
        shutil.chown(folder, user)
    folder.chmod(0o755)
    data = folder / "data"
    try:
        subprocess.run([where / "initdb", "-D", data, "-U", "cloud", "-A", "trust", "-E", "UTF8"], **how)  # type: ignore[call-overload]
        options = f"-c listen_addresses= -c unix_socket_directories={folder}"
        subprocess.run([where / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], **how)  # type: ignore[call-overload]
        try:
            yield f"postgresql:///postgres?host={folder}&user=cloud"
        finally:
            subprocess.run([where / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], **how)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(folder)
