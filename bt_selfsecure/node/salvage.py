"""A journal of which the disk has lost pages: what SQLite still reads of it goes into a new one, the old one is kept.

A row is taken over where its digest fits. In the place of each other one, and of each gap, there is a row without a
digest: so the journal knows, as of any damaged row, where something was, and what is not whole without it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.node.disk import is_damage
from bt_selfsecure.node.journal_file import address_number, connect_read_only, create, is_sound
from bt_selfsecure.node.set_aside import FILE, new_file, put_in_place

LOST: Final = {
    "peer": ("", "", 0, b""),
    "outbox": ("", b"", b""),
    "partial": ("", b"", b""),
    "inbox": ("", 0, 0.0, b"", b""),
}
"""What stands in a row that is lost, after its number; the second column of a queue's is whose it was, if that is
known."""
TEXT: Final = {"peer": (1, 2), "outbox": (1,), "partial": (1,), "inbox": (1,)}
"""Columns that are text, by their places."""
BEYOND: Final = 1 << 32
"""More numbers than a node gives out: where the last one is lost, the next are this far on."""
LAST: Final = (1 << 63) - 1

Row = tuple[Any, ...]


def salvage(directory: Path) -> Path:
    """Replace the journal, and say where the damaged one lies now. The directory is locked by the caller.

    Raises `sqlite3.Error` where nothing can be read of it, or nothing written, and `OSError`; then all is as before.
    """
    with (
        new_file(directory) as path,
        contextlib.closing(connect_read_only(directory / FILE)) as old,
        contextlib.closing(create(path)) as new,
    ):
        old.execute("PRAGMA writable_schema = ON")  # with which a file that was cut short is read, too
        for table in LOST:
            old.execute(f"SELECT id, digest FROM {table} LIMIT 0")  # raises where it has no such table
        new.execute("BEGIN IMMEDIATE")
        for table in LOST:
            _copy(old, new, table)
        new.execute("COMMIT")
    kept = put_in_place(directory)
    assert kept, "there was a journal, since it was read"
    return kept


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    rows = _rows(old, table)
    for row in rows.values():
        values = [
            value.decode() if place in TEXT[table] and isinstance(value, bytes) else value
            for place, value in enumerate(row)
        ]
        new.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", values)
    if table == "peer":
        return
    try:
        found = old.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchall()
        given = [seq for (seq,) in found if isinstance(seq, int) and 0 <= seq < LAST - BEYOND]
    except sqlite3.DatabaseError:
        given = []
    newest = max([0, *given, *rows]) if given else max([0, *rows]) + BEYOND
    new.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
    new.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, newest))


def _rows(database: sqlite3.Connection, table: str) -> dict[int, Row]:
    """Those that are whole, and those that are lost, by number: from the front up to a page that can't be read, then
    from the back."""
    found: dict[int, Row] = {}
    reached = _read(database, table, found, 1, LAST)
    if reached < LAST:
        found.setdefault(reached + 1, _lost(table, reached + 1))
        _read(database, table, found, -1, reached)
    return found


def _read(database: sqlite3.Connection, table: str, found: dict[int, Row], way: int, end: int) -> int:
    """Forwards (1) or backwards (-1) as far as `end`; how far it could be read.

    A row that does not fit need not have the number that it shows: the lost one stands beside the last one that does.
    """
    compare, order = (">", "ASC") if way == 1 else ("<", "DESC")
    after = f"FROM {table} WHERE id {compare} ? ORDER BY id {order}"
    place = -1 if way == 1 else LAST
    while True:
        try:
            for row in database.execute(f"SELECT * {after}", (place,)):
                number = row[0]
                if is_sound(row) and (end - number) * way > 0 and (number - place) * way > 0:
                    found[number] = row
                    place = number
                elif not is_sound(row) and 0 <= (beside := _beside(table, place, way, number)) < LAST:
                    found.setdefault(beside, _lost(table, beside, row[1]))
            return end
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
        # what raised is the next row, or the one after it, which Python's sqlite3 asks for before it gives the next
        following = _one(database, f"SELECT id {after} LIMIT 1", place)
        if following is None or (following[0] - place) * way <= 0 or (end - following[0]) * way <= 0:
            return place
        place = following[0]
        row = _one(database, f"SELECT * FROM {table} WHERE id = ?", place)
        if row and is_sound(row):
            found[place] = row
        else:
            found.setdefault(place, _lost(table, place))


def _one(database: sqlite3.Connection, query: str, number: int) -> Row | None:
    """None where it can't be read either."""
    try:
        row: Row | None = database.execute(query, (number,)).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return None
    return row


def _beside(table: str, place: int, way: int, number: int) -> int:
    """The number of a lost row. A peer's is its address, and its place does not matter."""
    return number if table == "peer" else place + way


def _lost(table: str, number: int, owner: Any = None) -> Row:
    row = (number, *LOST[table])
    known = table != "peer" and isinstance(owner, bytes) and address_number(owner) is not None
    return (number, owner, *row[2:]) if known else row
