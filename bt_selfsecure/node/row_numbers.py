"""Gives out the numbers of the journal's rows, each once, also across a crash.

Numbers are reserved on the disk many at a time, in SQLite's own table of them, before they are given out: so a number
that was told to somebody is never given to another row, whether its own row was committed or not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Final

BEYOND_ALL: Final = 1 << 62
"""No number that was given out: a damaged row or table may show such a one."""
RESERVED: Final = 20_000
"""So many at a time, with half of them left when the next are: more than are given out between two commits."""


class RowNumbers:
    """Counts up for each table. `write` notes a statement for the next commit. Raises `sqlite3.Error` at its start."""

    def __init__(self, database: sqlite3.Connection, tables: Iterable[str], write: Callable[..., None]) -> None:
        self._write = write
        self.newest = {table: _last_reserved(database, table) for table in tables}
        """By table: the number that was given out last, or one that is beyond it."""
        self.reserved: dict[str, int] = {}
        """By table: up to which number they are reserved with the next commit."""

    def reserve(self) -> None:
        """Note that numbers of each table are reserved: before the first is given out."""
        for table in self.newest:
            self._reserve(table)

    def new(self, table: str) -> int:
        """Give out a number."""
        number = self.newest[table] = self.newest[table] + 1
        if self.reserved[table] - number < RESERVED // 2:
            self._reserve(table)
        return number

    def _reserve(self, table: str) -> None:
        last = self.reserved[table] = self.newest[table] + RESERVED
        self._write("", "DELETE FROM sqlite_sequence WHERE name = ?", table)
        self._write("", "INSERT INTO sqlite_sequence VALUES (?, ?)", table, last)


def _last_reserved(database: sqlite3.Connection, table: str) -> int:
    """Beyond every number that was given out before, whether its row was committed or not."""
    rows = database.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
    newest = database.execute(f"SELECT coalesce(max(id), 0) FROM {table} WHERE id < {BEYOND_ALL}").fetchone()[0]
    given = [int(seq) for (seq,) in rows if isinstance(seq, int) and seq < BEYOND_ALL]
    return max(int(newest), *given, 0)
