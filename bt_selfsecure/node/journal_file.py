"""Opens the journal's file: whose it is, whether it is whole, and its format; one daemon at a time has it.

Each row ends with a digest of its table's name and of all that is in it. A card that changes a cell, or where a table
begins, does not change both to fit: so a damaged row is known, and is that row's fault alone. What stood in it is told
to nobody.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node.disk import SET_ASIDE, SQLITE_ERRORS, directory_refusal, file_refusal, refusal
from bt_selfsecure.node.journal_log import Known, logged
from bt_selfsecure.node.journal_mark import LOCK, LOST, is_marked, mark, marked
from bt_selfsecure.node.journal_schema import MIGRATIONS
from bt_selfsecure.node.set_aside import (
    FILE,
    FILES,
    NEW,
    NEW_PAIRED,
    give_to_owner,
    move_aside,
    new_file,
    only_files,
    put_in_place,
)

log = logging.getLogger(__name__)

TABLES: Final = frozenset((b"peer", b"outbox", b"partial", b"inbox"))
MAGIC: Final = b"SQLite format 3\0"
VERSIONS: Final = slice(18, 20)
"""In the file's header: who may write it, and who read it (sqlite.org/fileformat2.html, 1.3). What SQLite does not know
there it does not write, and calls a file that can't be written."""
APPLICATION_ID: Final = 0x62747373
"""ASCII "btss", in the file's header."""
DIGEST_BYTES: Final = 8
INDEX_PAGE_BYTES: Final = 4096
INDEX_BYTES: Final = 32 << 10
"""Of the index of the log, and of a part of it for which SQLite asks for one block (sqlite.org/walformat.html, 2.1)."""
OPEN_S: Final = 5.0
"""At the start another program (a backup that ends, say) may have the file for so long, and another node."""
LOOK_S: Final = 0.1
NEW_TABLE: Final = re.compile(r"CREATE TABLE (\w+)")
COMMENT_OR_BLANK: Final = re.compile(rb"--.*|\s")
OF_A_CELL: Final = re.compile(r"(NULL|NUMERIC|TEXT|non-[A-Z]+) value in \w+\.\w+")
"""What quick_check says of a cell: that row's digest tells the same."""
ADDRESS: Final = re.compile(rb"[0-9A-F]{2}(:[0-9A-F]{2}){5}")


class JournalError(BtSelfSecureError):
    """The disk did not take the journal, or does not give it; it is tried again."""


class DamagedFileError(UsageError):
    """The disk has lost a part of a journal of ours."""


def digest(*row: Any) -> bytes:
    """Return the digest of a table's name and a row's values, in their order; text is the same as its bytes."""
    hashed = blake2b(digest_size=DIGEST_BYTES)
    for value in row:
        data = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else repr(value).encode()
        hashed.update(len(data).to_bytes(4) + data)
    return hashed.digest()


def is_sound(table: str, row: tuple[Any, ...]) -> bool:
    """Return whether a row, read as bytes, is as it was written to this table."""
    return bool(row[-1] == digest(table, *row[:-1]))


def address_number(address: str | bytes) -> int | None:
    """Return a device address as the number of its row; None for what is none."""
    data = address.encode() if isinstance(address, str) else address
    return int(data.replace(b":", b""), 16) if isinstance(data, bytes) and ADDRESS.fullmatch(data) else None


def address_of(number: int) -> str:
    """Return the address of a row with this number."""
    return number.to_bytes(6).hex(":").upper()


def owner(table: str, row: tuple[Any, ...], known: Iterable[str]) -> str:
    """Return whose damaged row this is: of whom its digest is right, where only the cell that names the owner is
    damaged, or else whom the cell names; empty where that is none of those that are known."""
    of_peer = table == "peer"
    for address in known:
        whole = (address_number(address), *row[1:-1]) if of_peer else (row[0], address, *row[2:-1])
        if row[-1] == digest(table, *whole):
            return address
    number = row[0] if of_peer else address_number(row[1])
    return next((address for address in known if address_number(address) == number), "")


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Hold the directory, which no other node uses meanwhile, and give the lock's descriptor. Raises `JournalError` at
    once where one does."""
    descriptor = lock(directory, 0.0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lock(directory: Path, seconds: float) -> int:
    """Hold the directory for this process, until the descriptor is closed; another one may have it for so many seconds.

    Raises `JournalError`.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        only_files(directory, (LOCK,))
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(error, directory) from error
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            give_to_owner(directory / LOCK)
        except BlockingIOError as error:
            if time.monotonic() < until:
                time.sleep(LOOK_S)
                continue
            os.close(descriptor)
            raise JournalError(f"another node uses {directory}: stop it (systemctl stop bt-selfsecure)") from error
        except OSError as error:
            os.close(descriptor)
            raise _unusable(error, directory) from error
        return descriptor


class Opened(NamedTuple):
    """Is a database, and what became of it since it was last open."""

    database: sqlite3.Connection
    has_lost: bool
    """What a node that did not end in order had kept last is gone, or what it had kept before."""


def open_database(directory: Path, descriptor: int, *, sync_each: bool) -> Opened:
    """Open the directory's database, made if there never was one, checked and migrated; text comes as bytes. A file
    that can't be used is not written to. The directory is locked, by this descriptor. Unless each commit is synced, the
    end of the log may be lost as it was agreed on, and is not told.

    Raises `UsageError` where a person must do something about it, `DamagedFileError` where a part of it may be whole,
    `JournalError` where that may pass.
    """
    path = directory / FILE
    try:
        if folder := finish_replacing(directory):
            raise JournalError(
                f"{directory / NEW}, which was to take the place of {FILE}, is damaged and lies in {folder} now: start "
                f"the node again as it was before, or bt-selfsecure restore once more"
            )
        only_files(directory)
        if not path.exists():
            if left := next((name for name in FILES if (directory / name).exists()), ""):
                left = f", and its {left} is there"  # SQLite would delete it
            if left or path.is_symlink() or is_marked(descriptor):
                raise UsageError(f"{path} is gone{left}: put it back; else {SET_ASIDE}")
            with refused(path), new_file(directory) as new:  # what has the journal's name has its tables
                create(new).close()
            put_in_place(directory)
        _make_usable(path)
        known = Known.of(path, marked(descriptor))
        inspect(path)  # SQLite makes a new index of the log
        has_lost = known.has_lost(logged(path), sync_each)
        if has_lost:  # if this start comes to nothing, the next one does not know it from the index
            mark(descriptor, LOST, known.mark.numbers)
        _make_private(path)
    except OSError as error:
        raise _unusable(error, directory) from error
    database = connect(path)
    try:
        with refused(path):
            migrate(database)
    except BaseException:
        database.close()
        raise
    return Opened(database, has_lost)


def finish_replacing(directory: Path) -> Path | None:
    """Let `journal.db.new` be the journal, where that was cut short. Where the card has made no whole journal of it,
    all stays as it was, and the folder is returned where it lies now, with its paired peers. The directory is locked.
    Raises `OSError` and `JournalError`."""
    try:
        only_files(directory, (NEW,))
        if not (directory / NEW).exists():
            return None
        inspect(directory / NEW, alone=True)
    except (UsageError, IsADirectoryError, FileNotFoundError):
        return move_aside(directory, (NEW, NEW_PAIRED))
    put_in_place(directory)
    return None


def connect(path: Path) -> sqlite3.Connection:
    """Connect to a file that was inspected. Raises as `refused`."""
    with refused(path):
        database = sqlite3.connect(path, isolation_level=None, timeout=OPEN_S)
        try:
            database.text_factory = bytes
            database.execute("PRAGMA secure_delete = ON")
            database.execute("PRAGMA temp_store = MEMORY")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("SELECT 1 FROM sqlite_master")  # opens the index of the log
            _allocate_index(path)
        except OSError as error:
            database.close()
            raise _unusable(error, path.parent) from error
        except BaseException:
            database.close()
            raise
    return database


def _allocate_index(path: Path) -> None:
    """Give the index of the log all its blocks. SQLite writes there by memory map, and has asked for one block of each
    4096 bytes: where they are smaller, a full disk would end the process (SIGBUS) and not be refused.

    It is done by SQLite's own descriptor, since closing another one would give up its locks. Raises `OSError`.
    """
    index = path.with_name(f"{path.name}-shm").stat()
    for link in Path("/proc/self/fd").iterdir():
        try:
            ours = os.path.samestat(link.stat(), index)
        except OSError:  # it was closed meanwhile
            continue
        if ours:
            os.posix_fallocate(int(link.name), 0, index.st_size)


def connect_read_only(path: Path, *, alone: bool = False) -> sqlite3.Connection:
    """Connect to the file as it is; text comes as bytes. Raises `sqlite3.Error`."""
    how = "mode=ro&immutable=1" if alone else "mode=ro"  # or a file that is not there would be made
    database = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=OPEN_S)
    database.text_factory = bytes
    return database


def create(path: Path) -> sqlite3.Connection:
    """Make an empty journal of the newest format in this empty file; not yet safe from a loss of power."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = MEMORY")
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def _make_usable(path: Path) -> None:
    """Raises `OSError`, for which SQLite has no words, and where that would not be told but end the process."""
    room = os.statvfs(path.parent)
    if room.f_frsize < INDEX_PAGE_BYTES and room.f_bavail * room.f_frsize < INDEX_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        if file.exists():
            if not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
                with contextlib.suppress(OSError):
                    file.chmod(0o600)
            os.close(os.open(file, os.O_RDWR))
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))


def _make_private(path: Path) -> None:
    with contextlib.suppress(OSError):  # as on FAT
        path.chmod(0o600)
    if path.stat().st_mode & 0o077:
        log.warning("others can read %s, which holds the keys: its file system keeps no permissions", path)


def _unusable(error: OSError, directory: Path) -> JournalError:
    return JournalError(f"can't use the state directory {directory}: {directory_refusal(error, directory)}")


@contextlib.contextmanager
def refused(path: Path, remedy: str = SET_ASIDE) -> Iterator[None]:
    """Raise what SQLite raises as `UsageError`, or as `JournalError` where it may pass by itself. `remedy` helps where
    it is damaged."""
    try:
        yield
    except SQLITE_ERRORS as error:
        why = refusal(error)
        if why.damaged:
            raise DamagedFileError(f"can't use {path}: {why.what}: {remedy}") from error
        raise JournalError(f"can't use {path}: {why}") from error


def inspect(path: Path, called: Path | None = None, *, alone: bool = False, remedy: str = SET_ASIDE) -> None:
    """Look at a file read-only. Raises `UsageError` where it is not a whole file of ours that this program knows, and
    as `refused`.

    `called` is its name for people. With `alone` nobody else can have it open, and it has no companions: so no lock is
    asked for, which some file systems do not have. `remedy` helps where it is no such file.
    """
    shown = called or path
    inspect_head(path, called, remedy=remedy)
    with refused(shown, remedy), contextlib.closing(connect_read_only(path, alone=alone)) as database:
        application = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        try:
            tables = _tables(database)
        except SQLITE_ERRORS as error:
            if not file_refusal(error).damaged:
                raise
            raise DamagedFileError(f"{shown} is damaged: {remedy}") from error
        told = [row[0].decode(errors="replace") for row in database.execute("PRAGMA quick_check")]
    if application != APPLICATION_ID and not tables.keys() >= TABLES:
        what = "is another program's database" if tables.keys() - TABLES else "is damaged or no journal"
        raise UsageError(f"{shown} {what}: {remedy}")
    is_known = 0 < version <= len(MIGRATIONS)
    has_lost = application != APPLICATION_ID or version < 1 or (is_known and not _has_tables_of(version, tables))
    if has_lost or any(not is_of_a_cell(line) for line in told):
        raise DamagedFileError(f"{shown} is damaged: {remedy}")
    if version > len(MIGRATIONS):
        raise UsageError(
            f"{shown} was written by a newer version of this program (format {version}): upgrade; if none has that "
            f"format, it is damaged: {remedy}"
        )


def inspect_head(path: Path, called: Path | None = None, *, remedy: str = SET_ASIDE) -> None:
    """Look at a file's first bytes, as `inspect` does first. Raises `UsageError` and `OSError`."""
    with path.open("rb") as file:
        head = file.read(VERSIONS.stop)
    if head[: len(MAGIC)] != MAGIC:  # SQLite takes a file of a few bytes for an empty one
        raise UsageError(f"{called or path} is damaged or no journal: {remedy}")
    if not {*head[VERSIONS]} <= {1, 2}:
        raise DamagedFileError(f"{called or path} is damaged: {remedy}")


def _tables(database: sqlite3.Connection) -> dict[bytes, bytes]:
    """How each is declared, by name, without comments and blanks. A damaged word that SQLite reads over when it opens
    the file is worse when it writes it anew."""
    declared = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    return {name: COMMENT_OR_BLANK.sub(b"", sql) if isinstance(sql, bytes) else b"" for name, sql in declared}


def _has_tables_of(version: int, tables: dict[bytes, bytes]) -> bool:
    """Return whether these are as a journal of this format has them; of others, as a backup has, nothing is known."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        migrate(database, version)
        expected = _tables(database)
    later = {name.encode() for script in MIGRATIONS[version:] for name in NEW_TABLE.findall(script)} - expected.keys()
    return tables.items() >= expected.items() and not later & tables.keys()


def is_of_a_cell(line: str) -> bool:
    """Return whether quick_check has nothing to say, or of a cell."""
    return line == "ok" or bool(OF_A_CELL.fullmatch(line))


def migrate(database: sqlite3.Connection, newest: int | None = None) -> None:
    """Bring a database that commits each statement to the newest format, or this one; text comes as bytes afterwards.
    Raises `sqlite3.Error`."""
    database.text_factory = bytes
    database.create_function("row_digest", -1, digest, deterministic=True)
    database.create_function("address_number", 1, address_number, deterministic=True)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(MIGRATIONS[version:newest], version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        database.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")
    if newest is None:
        _restore_types(database)


def _restore_types(database: sqlite3.Connection) -> None:
    """Make text of bytes where text belongs, and bytes of text. One bit in a row's head tells them apart, and no digest
    has it; but no query finds such a row by its text, and SQLite lets nobody change it."""
    columns = database.execute(
        "SELECT t.name, c.name, c.type FROM sqlite_master t, pragma_table_info(t.name) c "
        "WHERE t.type = 'table' AND c.type IN ('TEXT', 'BLOB')"
    )
    for table, column, kind in [[word.decode() for word in row] for row in columns]:
        other = "blob" if kind == "TEXT" else "text"
        wrong = database.execute(f"SELECT rowid FROM {table} WHERE typeof({column}) = '{other}'").fetchall()
        for row in wrong:
            with contextlib.suppress(sqlite3.IntegrityError):  # more of it is damaged, and tells that by its digest
                database.execute(f"UPDATE {table} SET {column} = CAST({column} AS {kind}) WHERE rowid = ?", row)
