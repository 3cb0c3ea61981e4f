"""A journal of which the disk has lost pages: what SQLite still reads of it goes into a new one, the old one is kept.

A row is taken over where its digest fits. In the place of each other one, and of each gap, there is a row without a
digest: so the journal knows, as of any damaged row, where something was, and what is not whole without it. Where pages
have got out of their table, or rows out of their page, the gap does not show: so there is one before the parts of each
peer's messages.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.node.disk import is_damage
from bt_selfsecure.node.journal_file import (
    address_number,
    connect_read_only,
    create,
    digest,
    is_of_a_cell,
    is_sound,
    owner,
)
from bt_selfsecure.node.journal_schema import DIGESTS_NAME_TABLES
from bt_selfsecure.node.set_aside import FILE, new_file, put_in_place

LOST: Final = {
    "peer": ("", "", 0, b""),
    "outbox": ("", b"", b""),
    "partial": ("", b"", b""),
    "inbox": ("", 0, 0.0, b"", b""),
    "group_state": ("", "", b""),
}
"""What stands in a row that is lost, after its number; the second column of a queue's is whose it was, if that is
known."""
TEXT: Final = {"peer": (1, 2), "outbox": (1,), "partial": (1,), "inbox": (1,), "group_state": (1, 2)}
"""Columns that are text, by their places."""
NUMBERED: Final = ("outbox", "partial", "inbox")
"""Tables whose numbers SQLite gives out; older journals have these and `peer` alone."""
OF_PARTS: Final = ("outbox", "partial")
"""Of these several rows are one message."""
BEYOND: Final = 1 << 32
"""More numbers than a node gives out: where the last one is lost, the next are this far on."""
LAST: Final = (1 << 63) - 1

Row = tuple[Any, ...]


def salvage(directory: Path, peers: Collection[str] = ()) -> Path:
    """Replace the journal, and say where the damaged one lies now. `peers` are the addresses of the configured peers.
    The directory is locked by the caller.

    Raises `sqlite3.Error` where nothing can be read of it, or nothing written, and `OSError`; then all is as before.
    """
    with (
        new_file(directory) as path,
        contextlib.closing(connect_read_only(directory / FILE)) as old,
        contextlib.closing(create(path)) as new,
    ):
        old.execute("PRAGMA writable_schema = ON")  # with which a file that was cut short is read, too
        tables = [*NUMBERED, "peer"]
        for table in tables:
            old.execute(f"SELECT id, digest FROM {table} LIMIT 0")  # raises where it has no such table
        with contextlib.suppress(sqlite3.OperationalError):
            old.execute("SELECT id, digest FROM group_state LIMIT 0")
            tables.append("group_state")
        has_old_digests = 0 < old.execute("PRAGMA user_version").fetchone()[0] < DIGESTS_NAME_TABLES
        has_stray_pages = any(b"never used" in line or b"2nd reference" in line for line in _check(old, LAST >> 32))
        new.execute("BEGIN IMMEDIATE")
        for table in tables:
            rows = _Rows(old, table, peers, has_old_digests).rows
            if table in OF_PARTS and (has_stray_pages or (table == "partial" and _hides_rows(old, table))):
                whose = sorted({row[1] for row in rows.values() if isinstance(row[1], bytes)})
                rows |= {-number: (-number, peer, *LOST[table][1:]) for number, peer in enumerate(whose, 1)}
            _copy(old, new, table, rows)
        new.execute("COMMIT")
    kept = put_in_place(directory)
    assert kept, "there was a journal, since it was read"
    return kept


def _check(old: sqlite3.Connection, what: str | int) -> list[bytes]:
    """What SQLite says of the pages of a table, or so much of all of them: where a page is none of any table, or of
    two, a number of a page has changed."""
    try:
        return [line for (line,) in old.execute(f"PRAGMA quick_check({what})")]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return [b"never used"]


def _hides_rows(old: sqlite3.Connection, table: str) -> bool:
    """Return whether there may be rows in a page of this table that it does not count, or that another one covers. The
    parts of a message that is on its way to a peer tell it by their numbers."""
    return not all(is_of_a_cell(line.decode(errors="replace")) for line in _check(old, table))


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, rows: dict[int, Row]) -> None:
    for row in rows.values():
        values = [
            value.decode() if place in TEXT[table] and isinstance(value, bytes) else value
            for place, value in enumerate(row)
        ]
        new.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", values)
    if table not in NUMBERED:
        return
    try:
        found = old.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchall()
        given = [seq for (seq,) in found if isinstance(seq, int) and 0 <= seq < LAST - BEYOND]
    except sqlite3.DatabaseError:
        given = []
    newest = max([0, *given, *rows]) if given else max([0, *rows]) + BEYOND
    new.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
    new.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, newest))


class _Rows:
    """Those that are whole, and those that are lost, by number: from the front up to a page that can't be read, then
    from the back."""

    def __init__(self, database: sqlite3.Connection, table: str, peers: Collection[str], has_old_digests: bool) -> None:
        self._database, self._table, self._peers = database, table, sorted(peers)
        self._has_old_digests = has_old_digests
        self.rows: dict[int, Row] = {}
        reached = self._read(1, LAST)
        if reached < LAST:
            self._lose(reached + 1)
            self._read(-1, reached)

    def _read(self, way: int, end: int) -> int:
        """Forwards (1) or backwards (-1) as far as `end`; how far it could be read.

        A row that does not fit need not have the number that it shows: the lost one stands beside the last one that
        does.
        """
        compare, order = (">", "ASC") if way == 1 else ("<", "DESC")
        after = f"FROM {self._table} WHERE id {compare} ? ORDER BY id {order}"
        place = -1 if way == 1 else LAST
        while True:
            try:
                for row in self._database.execute(f"SELECT * {after}", (place,)):
                    number = row[0]
                    whole = self._whole(row)
                    if whole and (end - number) * way > 0 and (number - place) * way > 0:
                        self.rows[number] = whole
                        place = number
                    elif not whole and 0 <= place + way < LAST:
                        self._lose(place + way, row)
                return end
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
            # what raised is the next row, or the one after it, which Python's sqlite3 asks for before it gives the next
            following = self._one(f"SELECT id {after} LIMIT 1", place)
            if following is None or (following[0] - place) * way <= 0 or (end - following[0]) * way <= 0:
                return place
            place = following[0]
            row = self._one(f"SELECT * FROM {self._table} WHERE id = ?", place)
            if whole := row and self._whole(row):
                self.rows[place] = whole
            else:
                self._lose(place, row or (place, *LOST[self._table]))

    def _whole(self, row: Row) -> Row | None:
        """It, with its digest as it is today; None where it is damaged."""
        if is_sound(self._table, row):
            return row
        if self._has_old_digests and row[-1] == digest(*row[:-1]):
            return (*row[:-1], digest(self._table, *row[:-1]))
        return None

    def _one(self, query: str, number: int) -> Row | None:
        """None where it can't be read either."""
        try:
            row: Row | None = self._database.execute(query, (number,)).fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return None
        return row

    def _lose(self, number: int, row: Row | None = None) -> None:
        """Note that one is lost, of which this is what can be read. A peer's has the peer's number, or where nobody
        knows whose it was, one that is no address."""
        whose = owner(self._table, row, self._peers) if row else ""
        lost = LOST[self._table]
        if self._table == "peer":
            number = address_number(whose) or min([0, *self.rows]) - 1
        elif row and address_number(whose or row[1]) is not None:
            lost = (whose or row[1], *lost[1:])
        self.rows.setdefault(number, (number, *lost))
