"""What a KME keeps on disk: the roots of generations, and which keys of them were given out. Each key once, also after
a crash: it is marked on disk before it leaves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final

from bt_selfsecure.crypto import hkdf_expand
from bt_selfsecure.errors import BtSelfSecureError, UsageError

KEPT_GENERATIONS: Final = 16
"""Of each pair, for a slave that asks late; older roots are erased."""
_VERSION: Final = 1
_TABLES: Final = """
CREATE TABLE root (pair TEXT, generation TEXT, came INTEGER, root BLOB, next INTEGER DEFAULT 0,
                   PRIMARY KEY (pair, generation)) WITHOUT ROWID;
CREATE TABLE fetched (pair TEXT, generation TEXT, number INTEGER, PRIMARY KEY (pair, generation, number)) WITHOUT ROWID;
"""


class KeyStore:
    """Holds the roots of each pair of applications, for any threads. A pair is `master` and `slave` in one text."""

    def __init__(self, path: Path) -> None:
        """Raises `UsageError` where the file can't be used."""
        self._lock: Final = Lock()
        try:
            path.touch(0o600)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT")
            elif version != _VERSION:
                raise UsageError(f"{path} is of another version of this program: take that, or another folder")
        except (sqlite3.Error, OSError) as error:
            raise UsageError(f"can't use {path} ({error}): name a folder of yours, or remove the file") from None

    def close(self) -> None:
        self._db.close()

    def keep(self, pair: str, generation: str, root: bytes) -> None:
        """Keep the root of a generation; the oldest ones go."""
        with self._all_or_nothing():
            self._db.execute(
                "INSERT OR IGNORE INTO root (pair, generation, came, root) "
                "VALUES (?1, ?2, (SELECT coalesce(max(came), 0) + 1 FROM root WHERE pair = ?1), ?3)",
                (pair, generation, root),
            )
            old = self._db.execute(
                "SELECT generation FROM root WHERE pair = ? ORDER BY came DESC LIMIT -1 OFFSET ?",
                (pair, KEPT_GENERATIONS),
            ).fetchall()
            for (gone,) in old:
                self._db.execute("DELETE FROM root WHERE pair = ? AND generation = ?", (pair, gone))
                self._db.execute("DELETE FROM fetched WHERE pair = ? AND generation = ?", (pair, gone))

    def next_index(self, pair: str, generation: str) -> int:
        """Return how many keys of this generation the master was given."""
        with self._all_or_nothing():
            found = self._db.execute(
                "SELECT next FROM root WHERE pair = ? AND generation = ?", (pair, generation)
            ).fetchone()
        return int(found[0]) if found else 0

    def reserve(self, pair: str, generation: str, count: int, size: int) -> list[tuple[int, bytes]]:
        """Give out so many keys of `size` bytes to the master: their indices, and the keys. Never the same again."""
        with self._all_or_nothing():
            ((first, root),) = self._db.execute(
                "UPDATE root SET next = next + ? WHERE pair = ? AND generation = ? RETURNING next, root",
                (count, pair, generation),
            ).fetchall()
        return [(index, key_of(root, index, size)) for index in range(first - count, first)]

    def generations(self, pair: str) -> list[str]:
        """Return those whose roots are here, the newest first."""
        with self._all_or_nothing():
            found = self._db.execute(
                "SELECT generation FROM root WHERE pair = ? ORDER BY came DESC", (pair,)
            ).fetchall()
        return [generation for (generation,) in found]

    def fetch(self, pair: str, wanted: Iterable[tuple[str, int, int]]) -> list[bytes] | None:
        """Give out these keys, by generation, index and size, to the slave; None, and nothing of them, where one is not
        here or was given out before."""
        keys = []
        try:
            with self._all_or_nothing():
                for generation, index, size in wanted:
                    found = self._db.execute(
                        "SELECT root FROM root WHERE pair = ? AND generation = ?", (pair, generation)
                    ).fetchone()
                    if found is None:
                        raise _NotHereError
                    self._db.execute("INSERT INTO fetched VALUES (?, ?, ?)", (pair, generation, index))
                    keys.append(key_of(found[0], index, size))
        except (_NotHereError, sqlite3.IntegrityError):
            return None
        return keys

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Raises `UsageError` where the disk does not take it: then nothing is given out."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as error:  # its text may hold what stands in a row
                name = getattr(error, "sqlite_errorname", type(error).__name__)
                raise UsageError(
                    f"can't keep which keys were given out, so none is ({name}): make room on the disk, or see dmesg"
                ) from None


class _NotHereError(BtSelfSecureError):
    """One of several keys is not here."""


def key_of(root: bytes, index: int, size: int) -> bytes:
    """Return the key of this index, of so many bytes."""
    return hkdf_expand(root, b"btss etsi 014 key " + index.to_bytes(4) + size.to_bytes(2), size)
