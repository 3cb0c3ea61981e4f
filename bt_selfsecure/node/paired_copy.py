"""Peers that were paired, in a backup: a table of their files, which a journal in use does not have.

A folder that was set aside has the files themselves.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.journal_file import digest
from bt_selfsecure.node.paired import paired_peers, require_keys
from bt_selfsecure.node.set_aside import PAIRED, PAIRED_KEYS, give_to_owner, sync_file, sync_folder

KEY_FILE: Final = re.compile(rf"{PAIRED_KEYS}/[0-9A-F]{{12}}\.key")


def put(copy: sqlite3.Connection, directory: Path) -> None:
    """Add what the directory has of them to a copy of its journal; nothing where nobody was paired.

    Raises `OSError`, `UsageError` for a list that is damaged, and `sqlite3.Error`.
    """
    if files := _files(directory):
        copy.execute("CREATE TABLE paired (name TEXT PRIMARY KEY, data BLOB NOT NULL, digest BLOB NOT NULL) STRICT")
        rows = [(name, data, digest(name, data)) for name, data in files.items()]
        copy.executemany("INSERT INTO paired VALUES (?, ?, ?)", rows)
        copy.commit()


def _files(directory: Path) -> dict[str, bytes]:
    """The list, if it names anybody, and the key of each whom it names, as they are at one moment: a node that runs may
    pair or forget somebody meanwhile, and then they are read again. Raises `OSError` and `UsageError`."""
    peers = paired_peers(directory)
    if not peers:
        return {}
    keys = [Path(peer.authentication_key_file) for peer in peers]
    if any(key.exists() and not key.is_file() for key in keys):
        require_keys(directory, peers)
    try:
        files = {PAIRED: (keys[0].parent.parent / PAIRED).read_bytes()}
        files |= {f"{PAIRED_KEYS}/{key.name}": key.read_bytes() for key in keys}
    except FileNotFoundError:
        if paired_peers(directory) == peers:
            require_keys(directory, peers)
            raise
    else:
        if paired_peers(directory) == peers:
            return files
    return _files(directory)


def take(copy: Path, source: Path, place: Path, remedy: str) -> tuple[str, ...]:
    """Take them out of this copy of a backup, or from beside a journal that was set aside, to a new folder; return
    their names. Where there are none, there is no folder.

    Raises `UsageError`, of which `remedy` is the end, for what is damaged; `OSError` and `sqlite3.Error`.
    """
    damaged = UsageError(f"the paired peers in {source} are damaged: {remedy}")
    with contextlib.closing(sqlite3.connect(copy)) as database:
        if database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'paired'").fetchone():
            rows = database.execute("SELECT name, data, digest FROM paired").fetchall()
            if not all(row[-1] == digest(*row[:-1]) for row in rows):
                raise damaged
            files = {name: data for name, data, _ in rows}
            database.execute("PRAGMA secure_delete = ON")
            database.execute("DROP TABLE paired")
            database.commit()
        else:
            try:
                files = _files(source.parent) if (source.parent / PAIRED).exists() else {}
            except (UsageError, FileNotFoundError):
                raise damaged from None
    if not files:
        return ()
    if PAIRED not in files or not all(name == PAIRED or KEY_FILE.fullmatch(name) for name in files):
        raise damaged
    for folder in (place, place / PAIRED_KEYS):
        folder.mkdir(mode=0o700)
        give_to_owner(folder)
    for name, data in files.items():
        with os.fdopen(os.open(place / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
        give_to_owner(place / name)
        sync_file(place / name)
    for folder in (place / PAIRED_KEYS, place):
        sync_folder(folder)
    try:
        peers = paired_peers(place)
    except UsageError:
        raise damaged from None
    if not all(Path(peer.authentication_key_file).exists() for peer in peers):
        raise damaged
    return tuple(peer.name for peer in peers)
