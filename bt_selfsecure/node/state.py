"""Backup and restore of what a node keeps: its journal, whole, as one file that is a journal itself."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import journal_file as journal
from bt_selfsecure.node.disk import refusal

COMPANIONS: Final = ("-wal", "-shm")
"""SQLite's own files beside a database; they belong to the one that was there before."""


def backup(directory: Path, target: Path) -> int:
    """A copy of the state as it is on disk now, also while the node runs; its size in bytes. It holds keys: mode 0600.

    Raises `UsageError`; then there is no copy.
    """
    source = directory / journal.FILE
    if target.exists():
        raise UsageError(f"{target} is there already: name a file that is not")
    try:
        if not source.exists():
            raise UsageError(f"there is no state in {directory}: has a node ever run here?")
        with _beside(target) as new, contextlib.closing(_opened(source)) as database:
            with contextlib.closing(sqlite3.connect(new)) as copy:
                database.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without companions
            journal.inspect(new)
            _sync(new)
            os.link(new, target)
        return target.stat().st_size
    except FileExistsError:
        raise UsageError(f"{target} is there already: name a file that is not") from None
    except OSError as error:
        raise UsageError(f"can't back up {source} to {target} ({error.strerror}): use sudo, or another file") from None
    except sqlite3.Error as error:
        raise UsageError(f"can't back up {source}: {refusal(error)}") from None
    except journal.JournalError as error:
        raise UsageError(f"can't back up {source}: {error}") from None


def restore(source: Path, directory: Path) -> Path | None:
    """Put a backup in the place of the state; where the state that was there lies now, if there was any.

    Raises `UsageError` for a file that is no backup and while a node runs; then nothing is changed.
    """
    try:
        if not source.is_file():
            raise UsageError(f"there is no backup {source}: bt-selfsecure backup makes one")
        journal.inspect(source)
        with journal.locked(directory):
            return _replace(source, directory)
    except OSError as error:
        raise UsageError(f"can't restore {source} to {directory} ({error.strerror}): use sudo") from None
    except journal.JournalError as error:
        raise UsageError(f"can't restore {source}: {error}") from None


def _replace(source: Path, directory: Path) -> Path | None:
    target, old = directory / journal.FILE, None
    owner = directory.stat()
    with _beside(target) as new:
        new.write_bytes(source.read_bytes())
        for made in (new, directory / journal.LOCK):  # by root, perhaps, and the node is not root
            os.chown(made, owner.st_uid, owner.st_gid)
        _sync(new)
        if target.exists():
            with contextlib.closing(sqlite3.connect(target)) as database, contextlib.suppress(sqlite3.Error):
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the file alone is the whole state
            old = target.with_name(f"{journal.FILE}.before-restore-{time.strftime('%Y%m%d-%H%M%S')}")
            os.link(target, old)
        for companion in COMPANIONS:
            target.with_name(target.name + companion).unlink(missing_ok=True)
        new.replace(target)
    return old


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new file for its owner alone, in the same folder; gone afterwards, unless it was moved."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10)


def _sync(path: Path) -> None:
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
