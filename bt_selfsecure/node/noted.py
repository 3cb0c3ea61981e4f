"""What is noted for the next commit of the journal: the changes of each peer's that are not on disk yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from bt_selfsecure.node.journal_file import address_number, digest

KEEP: Final = """
    INSERT INTO peer VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
    SET record = excluded.record, facts = excluded.facts, synchronised = excluded.synchronised, digest = excluded.digest
"""
"""In place, which writes one page; a REPLACE takes the row out and puts it in again."""


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Make all changes of this context, or none. Raises `sqlite3.Error`."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


class PeerRow(NamedTuple):
    """Keeps of a peer's session the record and the facts about its keys, both in JSON, and whether the two ends
    agree."""

    record: str
    facts: str
    synchronised: bool


@dataclass(slots=True)
class _Changes:
    """Changes of one peer's."""

    statements: dict[object, tuple[str, tuple[Any, ...]]] = field(default_factory=dict)
    """In their order; those that bring a row by its table and id, still without its digest."""
    row: Callable[[], PeerRow] | None = None
    calls: list[Callable[[], None]] = field(default_factory=list)


class Noted:
    """Collects the changes since the last commit, by the peer's address; those of address "" are nobody's."""

    def __init__(self) -> None:
        self._noted: dict[str, _Changes] = {}
        self.held = 0
        """So many want nothing to be committed now."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let no commit come between what is noted in this context: it is for the caller to commit after it."""
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    def bring(self, address: str, table: str, number: int, *values: Any) -> None:
        """Note a new row of this peer's, with this number."""
        statement = f"INSERT INTO {table} VALUES ({'?, ' * (1 + len(values))}?)"
        self._of(address).statements[table, number] = statement, (number, *values)

    def replace(self, table: str, number: int, *values: Any) -> None:
        """Note a row that takes the place of the one of this number, if there is one."""
        statement = f"INSERT OR REPLACE INTO {table} VALUES ({'?, ' * (1 + len(values))}?)"
        self._of("").statements[table, number] = statement, (number, *values)

    def remove(self, table: str, number: int) -> None:
        """Note that the row of this number goes, whether it was replaced since the last commit or not."""
        self._of("").statements.pop((table, number), None)
        self.write("", f"DELETE FROM {table} WHERE id = ?", number)

    def delete(self, address: str, table: str, number: int) -> None:
        """Note that a row goes. One that is not on disk yet is never written: the card is spared."""
        if self._of(address).statements.pop((table, number), None) is None:
            self.write(address, f"DELETE FROM {table} WHERE id = ?", number)

    def write(self, address: str, statement: str, *values: Any) -> None:
        """Note any other change of this peer's."""
        self._of(address).statements[object()] = statement, values

    def keep(self, address: str, row: Callable[[], PeerRow]) -> None:
        """Note a peer's newest state; it is asked for at the commit, and replaces what was noted before."""
        self._of(address).row = row

    def after_commit(self, address: str, call: Callable[[], None]) -> None:
        """Call this once, when what is noted now is on disk."""
        self._of(address).calls.append(call)

    def discard(self, address: str) -> None:
        """Forget what is noted of this peer: its state in memory is thrown away, as in a crash."""
        self._noted.pop(address, None)

    def forget_keys(self, address: str) -> None:
        """Note that no key of this peer is to be kept; messages are."""
        self.write(address, "DELETE FROM peer WHERE id = ?", address_number(address))

    def forget_peer(self, address: str) -> None:
        """Note that nothing of this peer is to be kept."""
        self.discard(address)
        self.forget_keys(address)
        for table in ("outbox", "partial", "inbox"):
            self.write(address, f"DELETE FROM {table} WHERE peer = ?", address)

    def _of(self, address: str) -> _Changes:
        return self._noted.setdefault(address, _Changes())

    # --- to the disk

    @property
    def is_noted(self) -> bool:
        """Return whether there is anything to bring to the disk."""
        return bool(self._noted)

    @property
    def noted_bytes(self) -> int:
        """Return the length of all statements, about; a peer's row takes some of the spare bytes."""
        statements = (each for changes in self._noted.values() for each in changes.statements.values())
        texts = ((statement, *values) for statement, values in statements)
        rows = sum(changes.row is not None for changes in self._noted.values())
        return rows + sum(len(text) for each in texts for text in each if isinstance(text, str | bytes))

    def execute(self, database: sqlite3.Connection) -> None:
        """Make all changes in the transaction that is open. Raises `sqlite3.Error`."""
        for address, changes in self._noted.items():
            for key, (statement, values) in changes.statements.items():
                inserted = (*values, digest(key[0], *values)) if isinstance(key, tuple) else values
                database.execute(statement, inserted)
            if changes.row:
                record, facts, synchronised = changes.row()
                row = address_number(address), record, facts, int(synchronised)
                database.execute(KEEP, (*row, digest("peer", *row)))

    def take_calls(self) -> list[Callable[[], None]]:
        """Forget the changes, which are on disk, and return who is to be told."""
        noted, self._noted = self._noted, {}
        return [call for changes in noted.values() for call in changes.calls]
