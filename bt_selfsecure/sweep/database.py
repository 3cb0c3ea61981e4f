"""The SQLite file of a sweep: opened, made, migrated, written to in transactions, and what it refuses in words."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import is_there
from bt_selfsecure.sweep import old_record
from bt_selfsecure.sweep.refusals import refused
from bt_selfsecure.sweep.schema import APPLICATION_ID, NAMES, TABLES, VERSION, append_only

LOCKED_S: Final = 60.0
"""How long to wait for another process, as one that analyses while the sweep goes on: rather late than a run lost."""


class Database:
    """This is a sweep's file. Open it in a `with`, or `close()` it. A file that this made is taken away again if an
    error ends the `with` before there is a run in it."""

    def __init__(
        self,
        path: str | Path,
        *,
        create: bool = False,
        migrating: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        """Raises `UsageError` if there is no such file (and `create` is not set), or it is not a sweep's.

        `migrating` is told the runs done and to do where an old record is migrated.
        """
        self.path: Final = Path(path)
        self._migrating: Final = migrating
        self._migrated = False
        if not create and not (is_there(self.path) and self.path.is_file()):
            raise UsageError(f"there is no sweep {str(path)!r}: name the file that `sweep run` or `sweep import` wrote")
        if not create and self.path.stat().st_size == 0:
            raise UsageError(f"{str(path)!r} is empty, not a sweep: name the file that `sweep run` or `import` wrote")
        self._made: Final = not self.path.exists()
        self._file: os.stat_result | None = None
        try:
            self._db: Final = sqlite3.connect(self.path, timeout=LOCKED_S, isolation_level=None)
        except sqlite3.Error as error:
            raise refused(self.path, error) from error
        try:
            self._prepare()
            self._file = self.path.stat() if self.path.exists() else None  # SQLite keeps ":memory:" nowhere
        except BaseException:
            self._take_away_if_empty()
            self._db.close()
            raise

    def _prepare(self) -> None:
        with self._faults():
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                with self._transaction():
                    # Another process may have been quicker while this one waited for the lock.
                    if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                        self._make_tables()
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise UsageError(f"{str(self.path)!r} is an SQLite file, but not of a sweep: name another")
        if version not in (VERSION, old_record.OLD):
            raise UsageError(
                f"the sweep {str(self.path)!r} has version {version}, this program knows {VERSION}: update it"
            )

    def _make_tables(self) -> None:
        for statement in TABLES.split(";\n"):
            self._db.execute(statement)
        for statement in (each for name in NAMES for each in append_only(name)):
            self._db.execute(statement)
        self._db.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(16),))
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            self._take_away_if_empty()
        self.close()

    def _take_away_if_empty(self) -> None:
        """Remove the file if this made it and it has no run. That is under its lock: whoever waits to write there is
        told (`_locked`)."""
        if not self._made:
            return
        with suppress(sqlite3.Error, OSError):
            self._db.execute("BEGIN EXCLUSIVE")
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables == (0,) or self._db.execute("SELECT count(*) FROM run").fetchone() == (0,):
                self.path.unlink()

    def close(self) -> None:
        """Close it; twice is no harm. Where an old record was migrated, the space that its rows took is given back."""
        if self._migrated:
            self._migrated = False
            with suppress(sqlite3.Error):  # it takes space while it goes on; without it nothing is lost
                self._db.execute("PRAGMA busy_timeout = 0")  # nor is it worth to wait for anybody
                self._db.execute("VACUUM")
        self._db.close()

    @contextmanager
    def _transaction(self, *, part: bool = False) -> Iterator[None]:
        """Make what happens within all or nothing. Within another one it is of that one's; a `part` can be given up
        without the rest."""
        within = self._db.in_transaction
        if within:
            if not part:
                yield
                return
            self._db.execute("SAVEPOINT part")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK TO part")
                raise
            finally:
                if self._db.in_transaction:
                    self._db.execute("RELEASE part")
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._same_file()
            if old := self._version() == old_record.OLD:
                old_record.migrate(self._db, self._migrating)
            yield
            self._db.execute("COMMIT")
            self._migrated = self._migrated or old
        except BaseException:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            raise

    def _version(self) -> int:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(version)

    def _same_file(self) -> None:
        """Raise `UsageError` if the file was removed or replaced: what is written then would be lost with the last
        handle."""
        if self._file is None:
            return
        try:
            if os.path.samestat(self.path.stat(), self._file):
                return
        except OSError:
            pass
        raise UsageError(f"the sweep {str(self.path)!r} was removed while it was open: begin again")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            raise refused(self.path, error) from error
