"""Finds the rows of the journal that the disk has damaged, and tells whose they were as far as that can be told."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from bt_selfsecure.node.journal_file import address_number, address_of, is_sound, owner

QUEUES: Final = {"outbox": "to send", "partial": "half received", "inbox": "received"}
"""Tables whose rows have a number and a peer, and what they hold, for people."""


class DamagedRow(NamedTuple):
    """Names a row that is not as it was written."""

    table: str
    id: int
    peer: str
    """Empty where that can't be told."""


def damaged_rows(database: sqlite3.Connection, peers: Collection[str]) -> tuple[list[DamagedRow], frozenset[str]]:
    """Return the damaged rows of all tables, and those of these peers, by their addresses, of whom no whole key is
    kept. Raises `sqlite3.Error`."""
    known, keyed = set(peers), set[str]()
    found: list[tuple[str, tuple[Any, ...]]] = []
    for row in database.execute("SELECT * FROM peer"):
        if is_sound("peer", row) and 0 <= row[0] < 1 << 48:
            keyed.add(address_of(row[0]))
        else:
            found.append(("peer", row))
    for table in QUEUES:
        for row in database.execute(f"SELECT * FROM {table}"):
            if is_sound(table, row) and address_number(row[1]) is not None:
                known.add(row[1].decode())
            else:
                found.append((table, row))
    owners = sorted(known | keyed)
    return [DamagedRow(table, row[0], owner(table, row, owners)) for table, row in found], frozenset(peers) - keyed
