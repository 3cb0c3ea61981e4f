"""A small SQLite file of one program, in which what was committed survives a power cut."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import OWNER

Result = TypeVar("Result")


def open_database(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Return a connection for one thread at a time; `schema` makes what a new file has. Raises `UsageError`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER))
        base = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            base.execute("PRAGMA locking_mode = EXCLUSIVE")
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = FULL")
            (found,) = base.execute("PRAGMA user_version").fetchone()
            if not found:
                base.executescript(f"BEGIN; {schema} PRAGMA user_version = {version}; COMMIT")
                found = version
            (sound,) = base.execute("PRAGMA quick_check(1)").fetchone()
        except BaseException:
            base.close()
            raise
    except OSError as error:
        raise UsageError(f"can't write {path} ({error.strerror}): name a folder of yours") from None
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise UsageError(f"another program uses {path}: end it, or give this one a folder of its own") from None
        raise UsageError(f"{path} can't be used ({error}): move it away to begin with an empty one") from None
    if found != version or sound != "ok":
        base.close()
        why = f"is of version {found}, not {version}" if found != version else f"is damaged ({sound})"
        raise UsageError(f"{path} {why}: move it away to begin with an empty one")
    return base


class DiskThread:
    """Does what may wait for the disk beside the event loop, one after the other."""

    def __init__(self) -> None:
        self._executor: Final = ThreadPoolExecutor(1, "disk")

    async def do(self, what: Callable[..., Result], *arguments: Any) -> Result:
        """Return what it returns, and raise what it raises. It is done even if the caller is cancelled."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._executor, what, *arguments))

    def close(self) -> None:
        """Wait for what is to be done."""
        self._executor.shutdown()
