"""What a device must not forget: alerts that nobody has yet, and commands that it has begun."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bt_selfsecure.iot.database import open_database
from bt_selfsecure.protocols.iotcrypto.canonical import decode, encode
from bt_selfsecure.protocols.iotcrypto.transmission_messages import AlertMessage, CommandStatus, Measured

MOST_ALERTS: Final = 10_000
MOST_COMMANDS: Final = 64
_SCHEMA: Final = """
CREATE TABLE alert (id INTEGER PRIMARY KEY, time INTEGER, text TEXT, value BLOB);
CREATE TABLE command (age INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB UNIQUE, done INTEGER, text TEXT);
CREATE TABLE last (id INTEGER);
"""
_BEGUN: Final = "it was begun before, and what came of it is not known"


class DeviceStore:
    """Is one file. A method returns once what it says is on the disk; all raise `sqlite3.Error` where it can't be."""

    def __init__(self, path: Path) -> None:
        """Raises `UsageError` for a file that can't be used."""
        self._base: Final = open_database(path, _SCHEMA, 1)

    def close(self) -> None:
        self._base.close()

    def is_full(self) -> bool:
        """Return whether as many alerts wait as may."""
        return int(self._base.execute("SELECT count(*) FROM alert").fetchone()[0]) >= MOST_ALERTS

    def add_alert(self, time_ms: int, text: str, value: Measured) -> None:
        with self._base:
            self._base.execute("BEGIN IMMEDIATE")
            row = self._base.execute("SELECT id FROM last").fetchone()
            if row is None:  # 31 bits by chance: SQLite's integers have a sign
                number = (int.from_bytes(os.urandom(4)) >> 1) << 32
                self._base.execute("INSERT INTO last VALUES (?)", (number,))
            else:
                number = row[0] + 1
                self._base.execute("UPDATE last SET id = ?", (number,))
            self._base.execute("INSERT INTO alert VALUES (?, ?, ?, ?)", (number, time_ms, text, encode(value)))

    def first_alert(self) -> AlertMessage | None:
        """Return the oldest that waits."""
        row = self._base.execute("SELECT id, time, text, value FROM alert ORDER BY id LIMIT 1").fetchone()
        if row is None:
            return None
        number, time_ms, text, value = row
        return AlertMessage(number, time_ms, text, decode(value, 1024))

    def drop_alert(self, number: int) -> None:
        with self._base:
            self._base.execute("DELETE FROM alert WHERE id = ?", (number,))

    def begin(self, command: int) -> CommandStatus | None:
        """Note that a command is begun, and return None; for one that was begun before, what came of it."""
        name = command.to_bytes(8)
        row = self._base.execute("SELECT done, text FROM command WHERE id = ?", (name,)).fetchone()
        if row is not None:
            return CommandStatus(bool(row[0]), row[1])
        with self._base:
            self._base.execute("BEGIN IMMEDIATE")
            self._base.execute("INSERT INTO command (id, done, text) VALUES (?, 0, ?)", (name, _BEGUN))
            self._base.execute("DELETE FROM command WHERE age <= (SELECT max(age) FROM command) - ?", (MOST_COMMANDS,))
        return None

    def finish(self, command: int, status: CommandStatus) -> None:
        with self._base:
            self._base.execute(
                "UPDATE command SET done = ?, text = ? WHERE id = ?", (status.done, status.text, command.to_bytes(8))
            )
