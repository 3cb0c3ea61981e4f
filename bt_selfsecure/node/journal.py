"""What a node keeps across crashes: sessions, outbox, inbox. SQLite in its state directory, for one daemon at a time.

The journal is written behind the state in memory: `write` notes a change, `commit` brings all noted changes to the disk
in one transaction, or none of them. Where a commit fails (disk full) the changes stay noted, and the next commit tries
them again: so whatever waits for it just waits longer.

A commit runs in the event loop, not in a thread of its own: in WAL mode it is one append and one fsync, 3 to 30 ms on
an SD card, and handing it to a thread and back would cost every round more than it costs other peers to wait.

`every-message` syncs at each commit (synchronous=FULL), `every-W` leaves that to WAL's checkpoints (NORMAL): a commit
then survives a crash of the process at once, and loss of power after the next checkpoint of WAL, which `sync` forces.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from bt_selfsecure.errors import BtSelfSecureError, UsageError

FILE: Final = "journal.db"
LOCK: Final = "lock"
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


class JournalError(BtSelfSecureError):
    """The disk did not take it; it is tried again."""


class PeerRow(NamedTuple):
    record: str
    facts: str
    synchronised: bool


class Journal:
    """Open it in a directory; raises `UsageError` for a file that is not ours, damaged, newer or in use, untouched."""

    def __init__(self, directory: Path, *, sync_each: bool) -> None:
        self._sync_each = sync_each
        self._noted: list[tuple[str, tuple[Any, ...]]] = []
        self._states: dict[str, Callable[[], PeerRow]] = {}
        self._lock = _lock(directory)
        try:
            self._database = _open(directory / FILE, sync_each)
        except BaseException:
            os.close(self._lock)
            raise
        self.trouble = ""
        """Why the last commit failed; empty if it did not."""
        self.on_commit: list[Callable[[], None]] = []
        """Called once each after the next commit that succeeds."""
        self._newest = {
            table: int(self._one(f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'") or 0)
            for table in ("outbox", "inbox", "partial")
        }

    # --- reading, at start

    def peer(self, address: str) -> PeerRow | None:
        found = self._database.execute("SELECT record, facts, synchronised FROM peer WHERE address = ?", (address,))
        row = found.fetchone()
        return PeerRow(row[0], row[1], bool(row[2])) if row else None

    def addresses(self) -> list[str]:
        """Of all peers of which anything is kept."""
        rows = self._database.execute(
            "SELECT address FROM peer UNION SELECT peer FROM outbox UNION SELECT peer FROM inbox"
        )
        return [row[0] for row in rows]

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

    def next_id(self, table: str) -> int:
        """For a row that is about to be written: ids are never used twice."""
        self._newest[table] += 1
        return self._newest[table]

    def write(self, statement: str, *values: Any) -> None:
        """Note a change for the next commit."""
        self._noted.append((statement, values))

    def keep(self, address: str, row: Callable[[], PeerRow]) -> None:
        """Note a peer's newest state; it is asked for at the commit, and replaces what was noted before."""
        self._states[address] = row

    def commit(self, *, sync: bool = False) -> None:
        """Bring all noted changes to the disk; with `sync`, safe from a loss of power. Raises `JournalError`."""
        try:
            with self._transaction():
                for statement, values in self._noted:
                    self._database.execute(statement, values)
                for address, row in self._states.items():
                    self._database.execute("INSERT OR REPLACE INTO peer VALUES (?, ?, ?, ?)", (address, *row()))
            if sync and not self._sync_each:
                self._database.execute("PRAGMA wal_checkpoint(FULL)")
        except sqlite3.Error as error:
            self.trouble = f"the disk does not take the node's state ({error}): make room in the state directory"
            raise JournalError(self.trouble) from error
        self._noted.clear()
        self._states.clear()
        self.trouble = ""
        calls, self.on_commit = self.on_commit, []
        for call in calls:
            call()

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

    def _one(self, statement: str) -> Any:
        row = self._database.execute(statement).fetchone()
        return row[0] if row else None


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


def _open(path: Path, sync_each: bool) -> sqlite3.Connection:
    """The database, checked and migrated. A file that can't be used is not written to."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if path.stat().st_size:
        _inspect(path)
    database = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {'FULL' if sync_each else 'NORMAL'}")
        _migrate(database, path)
    except sqlite3.Error as error:
        database.close()
        raise UsageError(f"can't use {path}: {error}; move it away to start anew, or restore a copy") from error
    return database


def _inspect(path: Path) -> None:
    """Read-only. Raises `UsageError` where it is not a whole file of ours that this program knows."""
    remedy = "move it away to start with new keys, or restore a copy"
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
        raise UsageError(f"{path} is damaged ({sound}): {remedy}")
    if version > len(MIGRATIONS):
        raise UsageError(f"{path} was written by a newer version of this program (format {version}): upgrade")


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        database.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")
