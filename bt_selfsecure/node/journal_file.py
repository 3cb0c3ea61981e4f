"""The journal's file: whose it is, whether it is whole, and its format; one daemon at a time has it open.

Each row ends with a digest of all that is in it. A card that changes a cell does not change both to fit: so a damaged
row is known, and is that row's fault alone. What stood in it is told to nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node.disk import refusal

FILE: Final = "journal.db"
LOCK: Final = "lock"
MAGIC: Final = b"SQLite format 3\0"
APPLICATION_ID: Final = 0x62747373
"""ASCII "btss", in the file's header."""
DIGEST_BYTES: Final = 8
OPEN_SECONDS: Final = 5.0
"""At the start another program (a backup that ends, say) may have the file for so long."""
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
    # Digests; and a peer's row has its address for a number, since an index that contradicts a damaged cell makes
    # SQLite refuse the row's end. A row of format 1 that has the wrong types gets no digest.
    """
    ALTER TABLE peer RENAME TO old_peer;
    CREATE TABLE peer (
        id INTEGER PRIMARY KEY,      -- the device address, 48 bits
        record TEXT NOT NULL,
        facts TEXT NOT NULL,
        synchronised INTEGER NOT NULL,
        digest BLOB NOT NULL
    ) STRICT;
    INSERT OR IGNORE INTO peer
        SELECT address_number(CAST(address AS BLOB)), record, facts, synchronised, row_digest(
            address_number(CAST(address AS BLOB)), CAST(record AS BLOB), CAST(facts AS BLOB), synchronised
        ) FROM old_peer
        WHERE typeof(record) = 'text' AND typeof(facts) = 'text' AND typeof(synchronised) = 'integer'
            AND address_number(CAST(address AS BLOB)) IS NOT NULL;
    DROP TABLE old_peer;
    ALTER TABLE outbox ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
    ALTER TABLE partial ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
    ALTER TABLE inbox ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
    UPDATE outbox SET digest = row_digest(id, CAST(peer AS BLOB), fragment)
        WHERE typeof(peer) = 'text' AND typeof(fragment) = 'blob';
    UPDATE partial SET digest = row_digest(id, CAST(peer AS BLOB), piece)
        WHERE typeof(peer) = 'text' AND typeof(piece) = 'blob';
    UPDATE inbox SET digest = row_digest(id, CAST(peer AS BLOB), port, time, message)
        WHERE typeof(peer) = 'text' AND typeof(port) = 'integer' AND typeof(time) = 'real' AND typeof(message) = 'blob';
    """,
)
"""Each brings a file from its place in the tuple to the next; the newest is the file's user_version."""
OF_A_CELL: Final = re.compile(r"(NULL|NUMERIC|TEXT|non-[A-Z]+) value in \w+\.\w+")
"""What quick_check says of a cell: that row's digest tells the same."""
REMEDY: Final = "restore a copy, or move it away, with its -wal and -shm, to start with new keys"
ADDRESS: Final = re.compile(rb"[0-9A-F]{2}(:[0-9A-F]{2}){5}")


class JournalError(BtSelfSecureError):
    """The disk did not take it, or does not give it; it is tried again."""


def digest(*row: Any) -> bytes:
    """Of a row's values, in their order; text is the same as its bytes."""
    hashed = blake2b(digest_size=DIGEST_BYTES)
    for value in row:
        data = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else repr(value).encode()
        hashed.update(len(data).to_bytes(4) + data)
    return hashed.digest()


def is_sound(row: tuple[Any, ...]) -> bool:
    """Whether a row, read as bytes, is as it was written."""
    return bool(row[-1] == digest(*row[:-1]))


def address_number(address: str | bytes) -> int | None:
    """A device address as the number of its row; None for what is none."""
    data = address.encode() if isinstance(address, str) else address
    return int(data.replace(b":", b""), 16) if isinstance(data, bytes) and ADDRESS.fullmatch(data) else None


def address_of(number: int) -> str:
    """The address of a row with this number."""
    return number.to_bytes(6).hex(":").upper()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """No node uses the directory meanwhile. Raises `UsageError` where one does."""
    descriptor = lock(directory)
    try:
        yield
    finally:
        os.close(descriptor)


def lock(directory: Path) -> int:
    """Hold the directory for this process, until the descriptor is closed. Raises `UsageError`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"can't use the state directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UsageError(f"another node uses {directory}: stop it (systemctl stop bt-selfsecure)") from error
    except OSError as error:
        os.close(descriptor)
        raise UsageError(f"can't lock the state directory {directory}: {error.strerror}") from error
    return descriptor


def open_database(path: Path) -> sqlite3.Connection:
    """The database, checked and migrated; text comes as bytes. A file that can't be used is not written to.

    Raises `UsageError` where a person must do something about it, `JournalError` where that may pass.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if path.stat().st_size:
            inspect(path)
            path.chmod(0o600)
        elif (log := path.with_name(path.name + "-wal")).exists() and log.stat().st_size:  # SQLite would delete it
            raise UsageError(f"{path} is damaged or no journal: {REMEDY}")
    except OSError as error:
        raise UsageError(f"can't use {path}: {error.strerror}") from error
    with refused(path):
        database = sqlite3.connect(path, isolation_level=None, timeout=OPEN_SECONDS)
        try:
            database.text_factory = bytes
            database.create_function("row_digest", -1, digest, deterministic=True)
            database.create_function("address_number", 1, address_number, deterministic=True)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            _migrate(database)
        except BaseException:
            database.close()
            raise
    return database


@contextlib.contextmanager
def refused(path: Path) -> Iterator[None]:
    """What SQLite raises as `UsageError`, or `JournalError` where it may pass by itself."""
    try:
        yield
    except sqlite3.Error as error:
        why = refusal(error)
        raise (UsageError if why.damaged else JournalError)(f"can't use {path}: {why}") from error


def inspect(path: Path) -> None:
    """Read-only. Raises `UsageError` where it is not a whole file of ours that this program knows, and as `refused`."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:  # SQLite takes a file of a few bytes for an empty one
            raise UsageError(f"{path} is damaged or no journal: {REMEDY}")
    with (
        refused(path),
        contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=OPEN_SECONDS)
        ) as database,
    ):
        application = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        told = [str(row[0]) for row in database.execute("PRAGMA quick_check")]
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and tables:
        raise UsageError(f"{path} is another program's database: {REMEDY}")
    if any(line != "ok" and not OF_A_CELL.fullmatch(line) for line in told):
        raise UsageError(f"{path} is damaged: {REMEDY}")
    if version > len(MIGRATIONS):
        raise UsageError(f"{path} was written by a newer version of this program (format {version}): upgrade")


def _migrate(database: sqlite3.Connection) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        database.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")
