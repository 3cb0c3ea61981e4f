"""A copy of the state that takes its place: which messages wait in it, how to be without them, and that it is one.

A copy is older than what it is put in the place of, so they may have been sent, or read, since it was made. Only where
both ends still have a checkpoint in common the peer tells how many rounds it has had; under a new key they are sent
again. Of those to be read nothing tells.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bt_selfsecure.node.haoxiao.kept import marked_restored
from bt_selfsecure.node.haoxiao.outbox import ends_message
from bt_selfsecure.node.journal import DamagedError
from bt_selfsecure.node.journal_file import digest, is_sound
from bt_selfsecure.protocols.haoxiao.record import RecordError, SessionRecord


class Waiting(NamedTuple):
    """Counts the messages that wait in a state."""

    to_send: int
    """To the peers, of which the first may be under way."""
    to_read: int
    """From the peers, by a reader here."""


def count_waiting(path: Path) -> Waiting:
    """Return how many wait in a file that was inspected. Raises `sqlite3.Error`."""
    with _open(path) as database:
        outbox = [row for row in database.execute("SELECT * FROM outbox") if is_sound("outbox", row)]
        inbox = [row for row in database.execute("SELECT * FROM inbox") if is_sound("inbox", row)]
        begun = [message for _, record in _records(database) for message in record.sending.messages]
    to_send = sum(ends_message(fragment) for fragment in (*begun, *(row[2] for row in outbox)))
    return Waiting(to_send, len(inbox))


def drop_waiting(path: Path) -> None:
    """Take the messages that wait out of the file, which nobody else has open. Raises `sqlite3.Error`."""
    with _open(path) as database:
        database.execute("BEGIN")
        database.execute("DELETE FROM outbox")
        database.execute("DELETE FROM inbox")
        for row, record in list(_records(database)):
            idle = replace(record, sending=replace(record.sending, messages=()))
            new = (row[0], idle.to_json(), *row[2:-1])
            database.execute(
                "UPDATE peer SET record = ?, digest = ? WHERE id = ?", (new[1], digest("peer", *new), row[0])
            )
        database.execute("COMMIT")


def mark_restored(path: Path) -> None:
    """Let each peer's row say that it was put back from a copy; nobody else has the file open. Raises
    `sqlite3.Error`."""
    with _open(path) as database:
        database.execute("BEGIN")
        for row, _ in list(_records(database)):
            with contextlib.suppress(DamagedError, UnicodeDecodeError):
                new = (*row[:2], marked_restored(row[2].decode()), row[3])
                database.execute(
                    "UPDATE peer SET facts = ?, digest = ? WHERE id = ?", (new[2], digest("peer", *new), row[0])
                )
        database.execute("COMMIT")


def _records(database: sqlite3.Connection) -> Iterator[tuple[tuple[int, bytes, bytes, int, bytes], SessionRecord]]:
    """The rows that are whole, and what they say of each session."""
    for row in database.execute("SELECT * FROM peer"):
        with contextlib.suppress(RecordError):
            if is_sound("peer", row):
                yield row, SessionRecord.from_json(row[1].decode())


@contextlib.contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.text_factory = bytes
        yield database
