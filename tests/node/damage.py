"""What a failing card does to one cell of the journal."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

from bt_selfsecure.node.set_aside import FILE

Cell = bytes | int | float | None
CELLS = [
    *(("peer", column) for column in ("record", "facts", "synchronised", "digest")),
    *(("outbox", column) for column in ("peer", "fragment", "digest")),
    *(("partial", column) for column in ("peer", "piece", "digest")),
    *(("inbox", column) for column in ("peer", "port", "time", "message", "digest")),
]
KINDS: dict[str, Callable[[Cell], Cell | str]] = {
    "flipped bit": lambda old: bytes([old[0] ^ 1]) + old[1:] if isinstance(old, bytes) else int(old or 0) ^ 1,
    "last bit": lambda old: old[:-1] + bytes([old[-1] ^ 1]) if isinstance(old, bytes) else float(old or 0) + 0.5,
    "ones": lambda old: b"\xff" * len(old) if isinstance(old, bytes) else -1,
    "zeros": lambda old: bytes(len(old)) if isinstance(old, bytes) else 1 << 62,
    "cut": lambda old: old[: len(old) // 2] if isinstance(old, bytes) else b"",
    "text": lambda old: "no bytes",
    "number": lambda old: 7.5,
    "null": lambda old: None,
}


def damage(directory: Path, table: str, column: str, row: int, kind: str) -> None:
    """Change this cell of the row with this place in its table, past all that SQLite checks."""
    with contextlib.closing(sqlite3.connect(directory / FILE, isolation_level=None)) as database:
        database.text_factory = bytes
        numbers = [number for (number,) in database.execute(f"SELECT id FROM {table} ORDER BY id")]
        (sql,) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        old, kept_as = database.execute(
            f"SELECT {column}, typeof({column}) FROM {table} WHERE id = ?", (numbers[row],)
        ).fetchone()
        new = KINDS[kind](old)
        place = "CAST(? AS TEXT)" if kept_as == b"text" and isinstance(new, bytes) else "?"
        _declare(database, table, re.sub(r"STRICT|NOT NULL|TEXT|BLOB|REAL|INTEGER(?! PRIMARY)", "", sql.decode()))
        database.execute(f"UPDATE {table} SET {column} = {place} WHERE id = ?", (new, numbers[row]))
        _declare(database, table, sql.decode())


def _declare(database: sqlite3.Connection, table: str, sql: str) -> None:
    database.execute("PRAGMA writable_schema = ON")
    database.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, table))
    database.execute("PRAGMA writable_schema = RESET")
