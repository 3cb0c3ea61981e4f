"""What SQLite says when the disk refuses, as a sentence with the remedy that helps.

Its own texts can hold what stands in a row, and a row can hold keys: only its code is used.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple


class Refusal(NamedTuple):
    """Why the journal can't be read or written."""

    what: str
    remedy: str
    damaged: bool = False
    """The file is at fault, and waiting does not help."""

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


_LOCKED: Final = Refusal("another program has locked the journal", "end it (an sqlite3 shell, say)")
_READ_ONLY: Final = Refusal(
    "the journal can't be written",
    "is its disk mounted read-only (dmesg tells why), or does it belong to somebody else than the node?",
)
_DAMAGED: Final = Refusal(
    "the journal is damaged",
    "restore a copy (bt-selfsecure restore FILE), or move journal.db, journal.db-wal and journal.db-shm away "
    "to start with new keys",
    damaged=True,
)
_REFUSALS: Final = {
    sqlite3.SQLITE_FULL: Refusal("the disk is full", "make room in the state directory"),
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_IOERR: Refusal("the disk does not work (an I/O error)", "see dmesg, and save the state elsewhere"),
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Refusal(
        "the journal can't be opened", "may the node use its folder and its files, and are not too many files open?"
    ),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}
"""By primary result code (sqlite.org/rescode.html)."""


def refusal(error: sqlite3.Error) -> Refusal:
    """By the error's code; one without is a fault of the program that called SQLite."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return _REFUSALS.get(code & 0xFF) or Refusal(f"the journal can't be used ({name})", "please report it")
