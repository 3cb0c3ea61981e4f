"""What the journal deletes goes from its files, too: no dead K_i and no message that was delivered stays there.

SQLite overwrites what is deleted (`secure_delete`), but for two things. Its log (WAL) has every row as it was, until
the log is truncated. And where SQLite rebuilds a page, as rows come and go in a table of several, rests stay in the gap
of that page, until `VACUUM` writes the file anew; a table on one page has none. Both are done every W rounds and when
the node has nothing to do. What was truncated is gone from the file system; below it a card may keep it: see
docs/security.md.

While many commits come the truncated log is filled with zeros at once, a little more than the commits to the next time
will write over: that takes a sync of the data alone, where a log that grows takes another one of the file system's own
journal. It is a half of what a commit takes on ext4.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from bt_selfsecure.node.disk import FULL
from bt_selfsecure.node.journal_log import committed, written
from bt_selfsecure.node.set_aside import FILE

log = logging.getLogger(__name__)

IDLE_S: Final = 10.0
"""A node that has committed nothing for so long has nothing to do."""
FEWEST_COMMITS: Final = 16
"""Where W is less: each time takes some five syncs of the disk."""
TREES: Final = 6
"""Pages of a journal of which each table fits one: the schema's, four tables', SQLite's own of numbers."""
MOST_ROOM_BYTES: Final = 1 << 20
SHARE_OF_FREE: Final = 8
"""One part in so many of what is free on the disk may be filled."""
SPARE: Final = 1.125
"""Times as many bytes filled as were written: one turn takes more pages than another."""
PAGES_A_COMMIT: Final = 4
"""To write the file anew takes no more pages than the commits since the last time took, about."""
MOST_PAGES: Final = 1024
"""As many are written anew at the start and at the end, in a second or two on a card."""
RETRY_S: Final = 1.0
PATIENCE_S: Final = 60.0
"""A backup, or whatever else reads the journal, may take so long before it is told."""


class Deleted:
    """Erases what is deleted in a database of ours, with this log, and may still stand in its files."""

    def __init__(self, log_file: Path) -> None:
        self.commits = 0
        """Since the file was written anew."""
        self._log_file: Final = log_file

    def erase(self, database: sqlite3.Connection, pages: int, room: float) -> str:
        """Take it out of the file, if that writes no more than so many pages or is worth more, and out of the log,
        which gets so many times the room that it took; return why that is not empty now, as while another program
        reads. Raises `sqlite3.Error`, `OSError`."""
        length = written(self._log_file) if room else 0
        if self._has_rests(database, max(pages, PAGES_A_COMMIT * self.commits)):
            database.execute("VACUUM")
            self.commits = 0
        if self._free < self._growth(database):  # and half of it would fill the disk
            return str(FULL)
        busy, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            return "another program reads the journal: end it"
        if length:
            self._fill_log(database, min(round(SPARE * room * length), MOST_ROOM_BYTES, self._free // SHARE_OF_FREE))
        return ""

    @property
    def _free(self) -> int:
        return shutil.disk_usage(self._log_file.parent).free

    def _growth(self, database: sqlite3.Connection) -> int:
        """Of the file, in bytes, by what stands in the log alone."""
        return _length(database) - self._log_file.with_name(FILE).stat().st_size

    def give_back(self, database: sqlite3.Connection) -> bool:
        """Cut off the log what is behind its last transaction: zeros, and what one that a full disk refused has left
        there, which may be what fills it. Return whether there was any."""
        with contextlib.suppress(sqlite3.Error, OSError), self._alone(database):
            end = committed(self._log_file)
            if end < self._log_file.stat().st_size:
                os.truncate(self._log_file, end)
                return True
        return False

    def _fill_log(self, database: sqlite3.Connection, zeros: int) -> None:
        """SQLite takes a log without its head for an empty one (sqlite.org/fileformat2.html, 4.1), and writes that
        first."""
        with (
            self._alone(database),
            contextlib.suppress(OSError),
            self._log_file.open("r+b", buffering=0) as file,
        ):
            if not os.fstat(file.fileno()).st_size:
                file.write(bytes(zeros))
                os.fdatasync(file.fileno())

    @contextlib.contextmanager
    def _alone(self, database: sqlite3.Connection) -> Iterator[None]:
        """Nobody else writes meanwhile."""
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.execute("ROLLBACK")

    def _has_rests(self, database: sqlite3.Connection, most: int) -> bool:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        if not (free or pages > TREES) or pages - TREES > most:
            return False
        return self._free > 2 * _length(database)  # what is written anew goes through the log


def _length(database: sqlite3.Connection) -> int:
    """In bytes, with what stands in the log alone."""
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    return int(pages * page_bytes)


class Erasable(Protocol):
    """`journal.Journal` is one."""

    on_commit: Callable[[bool, float], None]
    trouble: str

    def erase(self, pages: int, *, room: float) -> str:
        """Erase as `Deleted.erase` does; return an empty text, or why it can't be done now. `room`: so many times as
        much as is in the log will soon come."""


class Eraser:
    """Decides when, from `begin` to `stop`: every `rounds` commits, and where many begin to come, at each synced
    checkpoint of `every-W`, when the node has nothing to do, and first of all, since another version or a crash may
    have left more."""

    def __init__(self, journal: Erasable, rounds: int) -> None:
        self._journal, self._rounds = journal, max(rounds, FEWEST_COMMITS)
        self._loop = asyncio.get_running_loop()
        self._commits = 1
        """Since the log was truncated, with what was there before."""
        self._has_room = False
        """The log has it for `rounds` more."""
        self._committed_at = self._clean_at = self._loop.time()
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._why, self._is_told = "", False

    @property
    def trouble(self) -> str:
        """Return what stays on the disk that should not, with the remedy; empty while all is well."""
        if not self._why or self._loop.time() - self._clean_at < PATIENCE_S:
            return ""
        return f"keys and messages that are no more can't be taken out of the journal: {self._why}"

    def begin(self) -> None:
        """Erase now, and whenever it is due."""
        self._journal.on_commit = self._on_commit
        self._soon = self._loop.call_soon(self._erase, MOST_PAGES)

    def stop(self) -> None:
        """Do no more after this; the journal's end erases, too."""
        for handle in (self._soon, self._later):
            if handle:
                handle.cancel()

    @property
    def _most_commits(self) -> int:
        return self._rounds if self._has_room else FEWEST_COMMITS

    def _on_commit(self, at_checkpoint: bool, now: float) -> None:
        """What waits for the commit goes first: it is only asked for here."""
        if not self._commits:
            self._clean_at = now
        self._commits += 1
        self._committed_at = now
        if self._soon is None and (at_checkpoint or self._commits >= self._most_commits) and not self._why:
            self._soon = self._loop.call_soon(self._erase_and_go_on)
        elif self._later is None:
            self._later = self._loop.call_at(now + IDLE_S, self._look)

    def _look(self) -> None:
        self._later = None
        idle_at = self._committed_at + IDLE_S
        to_do = self._commits or self._has_room
        if to_do and self._soon is None and (self._why or self._loop.time() >= idle_at):
            self._erase()
        elif to_do:
            self._later = self._loop.call_at(idle_at, self._look)

    def _erase_and_go_on(self) -> None:
        if self._commits < FEWEST_COMMITS:
            self._erase()
        else:
            self._erase(room=1.0 if self._has_room else self._rounds / self._commits)

    def _erase(self, pages: int = 0, *, room: float = 0.0) -> None:
        self._soon = None
        self._why = self._journal.erase(pages, room=room)
        if not self._why:
            self._commits, self._is_told = 0, False
            self._has_room = bool(room)
            return
        if self._journal.trouble:  # which is told, and passes
            self._clean_at = self._loop.time()
        if self._later is None:
            self._later = self._loop.call_later(RETRY_S, self._look)
        if self.trouble and not self._is_told:
            self._is_told = True
            log.warning("%s", self.trouble)
