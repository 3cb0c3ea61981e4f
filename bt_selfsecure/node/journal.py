"""What a node keeps across crashes: sessions, outbox, inbox. SQLite in its state directory, for one daemon at a time.

The journal is written behind the state in memory: `write` notes a change, `commit` brings all noted changes to the disk
in one transaction, or none of them. Where a commit fails (disk full) the changes stay noted, and the next commit tries
them again: so whatever waits for it just waits longer.

A commit runs in the event loop, not in a thread of its own. In WAL mode it is one append and one fsync; a thread makes
that no shorter for the round that waits for it, and adds a hop there and back (measured: 0.7 ms for the commit and 0.1
for the hop on a PC's disk). What it costs is that the other peers wait too while the card writes.

`every-message` syncs at each commit (synchronous=FULL). `every-W` does where `sync` asks for it (NORMAL otherwise): a
commit then survives a crash of the process at once, and loss of power after the next one that is synced.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

from bt_selfsecure.errors import BtSelfSecureError, UsageError

FILE: Final = "journal.db"
LOCK: Final = "lock"
MAGIC: Final = b"SQLite format 3\0"
APPLICATION_ID: Final = 0x62747373
"""ASCII "btss", in the file's header."""
MIGRATIONS: Final = (
    """
    CREATE TABLE peer (
        address TEXT PRIMARY KEY,
        record TEXT NOT NULL,        -- core/recovery.py's JSON; holds keys
        facts TEXT NOT NULL,         -- of the establishment, JSON; nothing secret
        synchronised INTEGER NOT NULL -- whether the two ends ever agreed on where they stand, so that rounds counted
    ) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        peer TEXT NOT NULL,
        fragment BLOB NOT NULL
    ) STRICT;
    CREATE TABLE partial (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        peer TEXT NOT NULL,
        piece BLOB NOT NULL
    ) STRICT;
    CREATE TABLE inbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        peer TEXT NOT NULL,
        port INTEGER NOT NULL,
        time REAL NOT NULL,          -- seconds since 1970-01-01 UTC, for people
        message BLOB NOT NULL
    ) STRICT;
    """,
)
"""Each brings a file from its place in the tuple to the next; the newest is the file's user_version."""
KEEP: Final = """
    INSERT INTO peer VALUES (?, ?, ?, ?) ON CONFLICT (address) DO UPDATE
    SET record = excluded.record, facts = excluded.facts, synchronised = excluded.synchronised
"""
"""In place, which writes one page; a REPLACE takes the row out of the address' index and puts it in again: two."""
RESERVED_IDS: Final = 20_000
"""So many at a time, with half of them left when the next are: more than are given out between two commits."""


class JournalError(BtSelfSecureError):
    """The disk did not take it; it is tried again."""


class PeerRow(NamedTuple):
    record: str
    facts: str
    synchronised: bool


@dataclass(slots=True)
class _Noted:
    """Changes of one peer's that are not on disk yet."""

    statements: dict[object, tuple[str, tuple[Any, ...]]] = field(default_factory=dict)
    """In their order; those that bring a row by its table and id."""
    row: Callable[[], PeerRow] | None = None
    calls: list[Callable[[], None]] = field(default_factory=list)


@dataclass(slots=True)
class Latency:
    """What the disk took for commits since the start; as `Journal` in openapi.py."""

    commits: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.commits += 1
        self.seconds += seconds
        self.slowest_s = max(self.slowest_s, seconds)


class Journal:
    """Open it in a directory; raises `UsageError` for a file that is not ours, damaged, newer or in use, untouched."""

    def __init__(self, directory: Path, *, sync_each: bool) -> None:
        self._sync_each = sync_each
        self._noted: dict[str, _Noted] = {}
        self._lock = _lock(directory)
        try:
            self._database = _open(directory / FILE)
        except OSError as error:
            os.close(self._lock)
            raise UsageError(f"can't use {directory / FILE}: {error.strerror}") from error
        except BaseException:
            os.close(self._lock)
            raise
        self.trouble = ""
        """Why the last commit failed; empty if it did not."""
        self.latency = Latency()
        self._newest = {table: self._last_reserved(table) for table in ("outbox", "inbox", "partial")}
        self._reserved: dict[str, int] = {}
        for table in self._newest:
            self._reserve_ids(table)
        with contextlib.suppress(JournalError):
            self.commit()
        if not sync_each:
            self._database.execute("PRAGMA synchronous = NORMAL")

    # --- reading, at start

    def peer(self, address: str) -> PeerRow | None:
        found = self._database.execute("SELECT record, facts, synchronised FROM peer WHERE address = ?", (address,))
        row = found.fetchone()
        return PeerRow(row[0], row[1], bool(row[2])) if row else None

    def addresses(self) -> list[str]:
        """Of all peers of which anything is kept, those with a key first."""
        rows = self._database.execute(
            "SELECT address FROM peer UNION ALL SELECT peer FROM outbox UNION ALL SELECT peer FROM inbox"
        )
        return list(dict.fromkeys(row[0] for row in rows))

    def outbox(self, address: str) -> list[tuple[int, bytes]]:
        """(id, fragment) in the order in which they are to be sent."""
        return list(self._database.execute("SELECT id, fragment FROM outbox WHERE peer = ? ORDER BY id", (address,)))

    def partial(self, address: str) -> list[bytes]:
        """Pieces of the message that is under way here."""
        rows = self._database.execute("SELECT piece FROM partial WHERE peer = ? ORDER BY id", (address,))
        return [row[0] for row in rows]

    def inbox(self) -> list[tuple[int, str, int, float, bytes]]:
        """(id, peer, port, time, message) in the order in which they came."""
        return list(self._database.execute("SELECT id, peer, port, time, message FROM inbox ORDER BY id"))

    # --- writing

    def insert(self, address: str, table: str, *values: Any) -> int:
        """Note a new row of this peer's for the next commit: its number, which comes first in it and is given out once,
        also where the row is never written."""
        number = self._newest[table] = self._newest[table] + 1
        if self._reserved[table] - number < RESERVED_IDS // 2:
            self._reserve_ids(table)
        row = (number, *values)
        statement = f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})"
        self._of(address).statements[table, number] = statement, row
        return number

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

    def forget(self, address: str) -> None:
        """Note that nothing of this peer's is kept, but for messages that nobody has read."""
        self.discard(address)
        for table, column in (("peer", "address"), ("outbox", "peer"), ("partial", "peer")):
            self.write(address, f"DELETE FROM {table} WHERE {column} = ?", address)

    def commit(self, *, sync: bool = False) -> None:
        """Bring all noted changes to the disk; with `sync`, safe from a loss of power. Raises `JournalError`."""
        if not self._noted:
            return
        began = perf_counter()
        try:
            if sync and not self._sync_each:
                self._database.execute("PRAGMA synchronous = FULL")
            with self._transaction():
                self._execute_noted()
        except sqlite3.Error as error:
            self.trouble = f"the disk does not take the node's state ({error}): make room in the state directory"
            raise JournalError(self.trouble) from error
        finally:
            if sync and not self._sync_each:
                self._database.execute("PRAGMA synchronous = NORMAL")
        self.latency.add(perf_counter() - began)
        noted, self._noted, self.trouble = self._noted, {}, ""
        for changes in noted.values():
            for call in changes.calls:
                call()

    def _execute_noted(self) -> None:
        for address, changes in self._noted.items():
            for statement, values in changes.statements.values():
                self._database.execute(statement, values)
            if changes.row:
                self._database.execute(KEEP, (address, *changes.row()))

    def _of(self, address: str) -> _Noted:
        return self._noted.setdefault(address, _Noted())

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """What is noted and was not committed is lost: commit first."""
        self._database.close()
        os.close(self._lock)

    def _last_reserved(self, table: str) -> int:
        """Beyond every id that was given out before, whether its row was committed or not."""
        row = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return int(row[0]) if row else 0

    def _reserve_ids(self, table: str) -> None:
        last = self._reserved[table] = self._newest[table] + RESERVED_IDS
        self.write("", "DELETE FROM sqlite_sequence WHERE name = ?", table)
        self.write("", "INSERT INTO sqlite_sequence VALUES (?, ?)", table, last)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """No node uses the directory meanwhile. Raises `UsageError` where one does."""
    lock = _lock(directory)
    try:
        yield
    finally:
        os.close(lock)


def _lock(directory: Path) -> int:
    """Hold the directory for this process. Raises `UsageError`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"can't use the state directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UsageError(f"another node uses {directory}: stop it (systemctl stop bt-selfsecure)") from error
    return descriptor


def _open(path: Path) -> sqlite3.Connection:
    """The database, checked and migrated. A file that can't be used is not written to."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if path.stat().st_size:
        inspect(path)
        path.chmod(0o600)
    database = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        _migrate(database, path)
    except sqlite3.Error as error:
        database.close()
        raise UsageError(f"can't use {path}: {error}; move it away to start anew, or restore a copy") from error
    return database


def inspect(path: Path) -> None:
    """Read-only. Raises `UsageError` where it is not a whole file of ours that this program knows."""
    remedy = "move it away to start with new keys, or restore a copy"
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:  # SQLite takes a file of a few bytes for an empty one
            raise UsageError(f"{path} is damaged or no journal: {remedy}")
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)
        ) as database:
            application = database.execute("PRAGMA application_id").fetchone()[0]
            version = database.execute("PRAGMA user_version").fetchone()[0]
            sound = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.Error as error:
        raise UsageError(f"{path} is damaged or no journal ({error}): {remedy}") from error
    if application != APPLICATION_ID and tables:
        raise UsageError(f"{path} is another program's database: {remedy}")
    if sound != "ok":
        raise UsageError(f"{path} is damaged ({' '.join(sound.split())}): {remedy}")
    if version > len(MIGRATIONS):
        raise UsageError(f"{path} was written by a newer version of this program (format {version}): upgrade")


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        database.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")
