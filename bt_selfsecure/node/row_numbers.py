"""Gives out the numbers of the journal's rows, each once, also across a crash.

Numbers are reserved on the disk many at a time, in SQLite's own table of them, before they are given out: so a number
that was told to somebody is never given to another row, whether its own row was committed or not. No digest is of that
table's rows; but each says the same, and where the card has damaged one the others tell.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from bt_selfsecure.node.disk import SQLITE_ERRORS

BEYOND_ALL: Final = 1 << 53
"""No number that was given out, and none that JSON can show: a damaged row or table may have such a one."""
RESERVED: Final = 20_000
"""So many at a time, with half of them left when the next are: more than are given out between two commits."""


class RowNumbers:
    """Counts up for each table, from beyond what is known to be `given`. `write` notes a statement for the next commit.
    Raises `sqlite3.Error` at its start."""

    def __init__(
        self, database: sqlite3.Connection, tables: Collection[str], write: Callable[..., None], given: int = 0
    ) -> None:
        self._write = write
        last = last_reserved(database)
        if given < BEYOND_ALL:
            last = max(last, given)
        self.newest = {table: max(last, _newest(database, table)) for table in tables}
        """By table: the number that was given out last, or one that is beyond it."""
        self.reserved = 0
        """Up to which number they are reserved with the next commit, for each table."""
        self.are_in_log = False
        """The log begins with a commit that reserves some, or will with the next one."""

    def begin_log(self) -> None:
        """Let the next commit reserve more, if it is the first one in its log."""
        if not self.are_in_log:
            self.are_in_log = True
            self._reserve()

    def _reserve(self) -> None:
        self.reserved = max(*self.newest.values(), self.reserved - RESERVED + 1) + RESERVED
        for table in self.newest:
            self._write("", "DELETE FROM sqlite_sequence WHERE name = ?", table)
            self._write("", "INSERT INTO sqlite_sequence VALUES (?, ?)", table, self.reserved)

    def new(self, table: str) -> int:
        """Give out a number."""
        number = self.newest[table] = self.newest[table] + 1
        if self.reserved - number < RESERVED // 2:
            self._reserve()
        return number


def last_reserved(database: sqlite3.Connection) -> int:
    """Return one beyond every number that was given out before, whether its row was committed or not. Raises
    `sqlite3.Error`."""
    rows = database.execute("SELECT seq FROM sqlite_sequence")
    return max(seq if isinstance(seq, int) and seq < BEYOND_ALL else 0 for (seq,) in [*rows, (0,)])


def reserved_in_file(path: Path) -> int | None:
    """Return up to which number they are reserved in a journal's file without its log. None where that can't be told,
    as while a log that has the table of numbers in another place is being copied to it."""
    with (
        contextlib.suppress(*SQLITE_ERRORS),
        contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database,
    ):
        rows = database.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
        if rows and all(isinstance(name, str) and isinstance(seq, int) for name, seq in rows):
            return int(max(seq for _, seq in rows))
    return None


def _newest(database: sqlite3.Connection, table: str) -> int:
    found = database.execute(f"SELECT coalesce(max(id), 0) FROM {table} WHERE id < {BEYOND_ALL}").fetchone()
    return int(found[0])
