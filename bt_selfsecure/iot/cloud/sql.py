"""SQLite and PostgreSQL behind the little SQL that both speak. Parameters are written `?`; times are milliseconds since
1970, in columns of 64 bits."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import LocalError, UsageError
from bt_selfsecure.files import OWNER

Row = tuple[Any, ...]
WAIT_S: Final = 10.0
"""For another program that writes."""
CLAIM_S: Final = 2.0
"""PostgreSQL takes a moment to see that whoever had the claim was ended."""
_CLAIM: Final = 5_713_571_4
"""Number of the lock that says which server takes from gateways."""


class SqlError(LocalError):
    """The database can't do it now: the text says why. What was not committed is not there."""


class CloudDatabase(ABC):
    """Is one connection, for one thread at a time."""

    types: dict[str, str]
    """What the two call differently in a schema."""

    @abstractmethod
    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> list[Row]:
        """Return the rows. Raises `SqlError`."""

    @abstractmethod
    def put(self, table: str, columns: str, rows: Iterable[Row]) -> None:
        """Insert many rows, of columns with commas between. Raises `SqlError`."""

    @abstractmethod
    def transaction(self) -> Any:
        """Return a context: all that is done in it is on the disk after it, or none."""

    @abstractmethod
    def claim(self) -> bool:
        """Be the one server that takes from gateways, until this is closed; return False where another one is."""

    @abstractmethod
    def make_day(self, day: int) -> None:
        """Make the partition of readings that come on this day, counted since 1970, where there is none."""

    @abstractmethod
    def close(self) -> None: ...


class Sqlite(CloudDatabase):
    """Is a connection to a file of SQLite."""

    types: Final = {"blob": "BLOB", "serial": "INTEGER PRIMARY KEY AUTOINCREMENT", "by_day": ""}  # type: ignore[misc]

    def __init__(self, path: Path, *, new: bool) -> None:
        self.path: Final = path
        self._lock: int | None = None
        try:
            if new:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if new:
                _make(path)
            if not os.access(path, os.R_OK | os.W_OK):
                path.stat()  # says that it is not there
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self.base: Final = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=WAIT_S)
            try:
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -32000"):
                    self.base.execute(f"PRAGMA {pragma}")
            except BaseException:
                self.base.close()
                raise
        except OSError as error:
            raise UsageError(f"can't use the database {path} ({error.strerror}): name the cloud's folder") from None
        except sqlite3.OperationalError as error:  # locked, the disk is full, and the like
            raise SqlError(f"the database can't be had: {error}") from None
        except sqlite3.Error as error:
            raise UsageError(f"the database {path} can't be used ({error}): put a backup in its place") from None

    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> list[Row]:
        with _told():
            return self.base.execute(sql, arguments).fetchall()

    def put(self, table: str, columns: str, rows: Iterable[Row]) -> None:
        holes = ", ".join("?" for _ in columns.split(","))
        with _told():
            self.base.executemany(f"INSERT INTO {table} ({columns}) VALUES ({holes})", rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with _told():
            self.base.execute("BEGIN IMMEDIATE")
            with self.base:
                yield

    def claim(self) -> bool:
        self._lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def make_day(self, day: int) -> None:
        self.execute(f"CREATE TABLE IF NOT EXISTS reading_{day} AS SELECT * FROM reading LIMIT 0")
        _index_day(self, day)

    def close(self) -> None:
        self.base.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _make(path: Path) -> None:
    """Make an empty file where there is none. One that is there must not be opened: to close it again would drop the
    locks that other connections of this process have on it, and who ends next would take their journal away."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, OWNER))


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SqlError(f"the database can't do it now: {error}") from error


class Postgres(CloudDatabase):
    """Is a connection to a server of PostgreSQL."""

    types: Final = {  # type: ignore[misc]
        "blob": "BYTEA",
        "serial": "INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "by_day": "PARTITION BY RANGE (day)",
    }

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise UsageError(
                f"PostgreSQL needs psycopg ({_line(error)[:60]}): pip install 'bt-selfsecure[cloud]', and "
                "apt-get install libpq5"
            ) from None
        self._psycopg: Final = psycopg
        try:
            self._base: Final = psycopg.connect(url, autocommit=True, connect_timeout=int(WAIT_S))
        except psycopg.Error as error:
            raise SqlError(f"the database can't be had: {_line(error)}") from None

    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> list[Row]:
        with self._told():
            cursor = self._base.execute(sql.replace("?", "%s"), arguments or None)
            return cursor.fetchall() if cursor.description else []

    def put(self, table: str, columns: str, rows: Iterable[Row]) -> None:
        text = "".join("\t".join(map(_field, row)) + "\n" for row in rows)
        with (
            self._told(),
            self._base.cursor() as cursor,
            cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy,
        ):
            copy.write(text)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._told(), self._base.transaction():
            yield

    def claim(self) -> bool:
        until = time.monotonic() + CLAIM_S
        while not self.execute("SELECT pg_try_advisory_lock(?)", (_CLAIM,))[0][0]:
            if time.monotonic() > until:
                return False
            time.sleep(CLAIM_S / 40)
        return True

    def make_day(self, day: int) -> None:
        self.execute(
            f"CREATE TABLE IF NOT EXISTS reading_{day} PARTITION OF reading FOR VALUES FROM ({day}) TO ({day + 1})"
        )
        _index_day(self, day)

    def close(self) -> None:
        self._base.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            raise SqlError(f"the database can't do it now: {_line(error)}") from error


def _index_day(base: CloudDatabase, day: int) -> None:
    base.execute(f"CREATE INDEX IF NOT EXISTS reading_{day}_device ON reading_{day} (device, number)")
    base.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS reading_{day}_number ON reading_{day} (number)")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


_ESCAPED: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _field(value: Any) -> str:
    """Return a value as COPY's text format has it."""
    match value:
        case None:
            return "\\N"
        case int():
            return str(value)
        case bytes():
            return "\\\\x" + value.hex()
    return str(value).translate(_ESCAPED)


def connect(url: str, state: Path, *, new: bool = False) -> CloudDatabase:
    """Open the database of this URL, or the folder's file where that is empty; `new` makes a file where there is none.
    Raises `UsageError`, and `SqlError` for a server that does not answer."""
    return Postgres(url) if url else Sqlite(state / "cloud.db", new=new)
