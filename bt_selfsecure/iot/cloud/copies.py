"""The database as a file, and what is in it as lines for other systems."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import is_there, whole, write_private
from bt_selfsecure.iot.cloud.config import CloudConfig
from bt_selfsecure.iot.cloud.sql import CloudDatabase

PIECE: Final = 1000
"""Records at once."""
LOOK_S: Final = 1.0
RETRY_S: Final = 5.0
_PAGES: Final = 1024


def back_up(config: CloudConfig, file: Path) -> None:
    """Write what the database has at one moment to a file, which is whole or not there. Raises `UsageError`."""
    if is_there(file):
        raise UsageError(f"{file} is there already: remove it, or name another")
    with whole(file, 0o600) as path:
        if config.cloud.database:
            _dump(config.cloud.database, path)
            return
        source = config.cloud.state / "cloud.db"
        if not is_there(source):
            raise UsageError(f"there is no database {source}: name the cloud's configuration with --config")
        old, new = sqlite3.connect(source), sqlite3.connect(path)
        try:
            old.backup(new, pages=_PAGES)
        except sqlite3.Error as error:
            raise UsageError(f"{source} can't be copied ({error})") from None
        finally:
            old.close()
            new.close()


def _dump(url: str, path: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise UsageError("a backup of PostgreSQL takes pg_dump: apt-get install postgresql-client")
    done = subprocess.run(
        [program, "--format=custom", f"--file={path}", "--dbname", url], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UsageError(f"pg_dump failed: {' '.join(done.stderr.split())[:200]}")


class Cursor:
    """Keeps in a file, if there is one, the number of the last record that was handed over."""

    def __init__(self, path: Path | None) -> None:
        """Raises `UsageError`."""
        self._path: Final = path
        self.place = 0
        if path is not None and is_there(path):
            text = path.read_text()
            if not text.strip().isdecimal():
                raise UsageError(f"{path} holds no place of an export: remove it to begin anew")
            self.place = int(text)

    def put(self, place: int) -> None:
        """Return once it is on the disk."""
        self.place = place
        if self._path is not None:
            write_private(self._path, f"{place}\n".encode())


def batches(base: CloudDatabase, after: int, *, follow: bool) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield what came after this number, in order, in pieces, each with its last number; with `follow` without end."""
    while True:
        records = _after(base, after)
        if records:
            after = records[-1]["number"]
            yield after, records
        elif not follow:
            return
        else:
            time.sleep(LOOK_S)


def _after(base: CloudDatabase, after: int) -> list[dict[str, Any]]:
    members = {no: (identity.hex(), name) for no, identity, name in base.execute("SELECT no, id, name FROM member")}
    found: list[dict[str, Any]] = []
    for (day,) in base.execute("SELECT day FROM reading_day ORDER BY day"):
        rows = base.execute(
            f"SELECT number, device, gateway, time, readings FROM reading_{day} WHERE number > ? ORDER BY number "
            f"LIMIT {PIECE - len(found)}",
            (after,),
        )
        for number, device, gateway, at, text in rows:
            found.append(_record("reading", number, members, device, gateway, at) | {"readings": json.loads(text)})
        if len(found) >= PIECE:
            break
    last = found[-1]["number"] if len(found) >= PIECE else (1 << 63) - 1
    for number, device, gateway, at, text, value in base.execute(
        "SELECT number, device, gateway, time, text, value FROM alert WHERE number > ? AND number <= ? "
        f"ORDER BY number LIMIT {PIECE}",
        (after, last),
    ):
        alert = {"text": text, "value": json.loads(value)}
        found.append(_record("alert", number, members, device, gateway, at) | alert)
    return sorted(found, key=lambda record: int(record["number"]))[:PIECE]


def _record(
    kind: str, number: int, members: dict[int, tuple[str, str]], device: int, gateway: int, at: int
) -> dict[str, Any]:
    (identity, name), (by, _) = members.get(device, ("", "")), members.get(gateway, ("", ""))
    return {"number": number, "kind": kind, "device": identity, "name": name, "gateway": by, "time_ms": at}


def hand_over(command: str, lines: str) -> None:
    """Give the lines to a command until it takes them, so that nothing is lost: its exit status 0 says so."""
    while True:
        done = subprocess.run(["/bin/sh", "-c", command], input=lines, text=True, check=False, env=os.environ)
        if done.returncode == 0:
            return
        print(f"bt-selfsecure: {command!r} ended with {done.returncode}: again in {RETRY_S:.0f} s", file=sys.stderr)
        time.sleep(RETRY_S)
