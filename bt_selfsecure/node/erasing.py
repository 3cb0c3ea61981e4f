"""What the journal deletes goes from its files, too: no dead K_i and no message that was delivered stays there.

SQLite overwrites what is deleted (`secure_delete`), but for two things. Its log (WAL) has every row as it was, until
the log is truncated. And where SQLite rebuilds a page, as rows come and go in a table of several, rests stay in the gap
of that page, until `VACUUM` writes the file anew; a table on one page has none. Both are done every W rounds and when
the node has nothing to do. What was truncated is gone from the file system; below it a card may keep it: see
docs/security.md.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger(__name__)

IDLE_S: Final = 10.0
"""A node that has committed nothing for so long has nothing to do."""
FEWEST_COMMITS: Final = 16
"""Where W is less: each time takes some five syncs of the disk."""
TREES: Final = 6
"""Pages of a journal of which each table fits one: the schema's, four tables', SQLite's own of numbers."""
PAGES_A_COMMIT: Final = 4
"""To write the file anew takes no more pages than the commits since the last time took, about."""
MOST_PAGES: Final = 1024
"""As many are written anew at the start and at the end, in a second or two on a card."""
RETRY_S: Final = 1.0
PATIENCE_S: Final = 60.0
"""A backup, or whatever else reads the journal, may take so long before it is told."""


class Deleted:
    """Erases what is deleted in a database of ours and may still stand in its files."""

    def __init__(self) -> None:
        self.commits = 0
        """Since the file was written anew."""

    def erase(self, database: sqlite3.Connection, pages: int) -> bool:
        """Take it out of the file, if that writes no more than so many pages or is worth more, and out of the log;
        whether that is empty now, which it is not while another program reads. Raises `sqlite3.Error`."""
        if self._has_rests(database, max(pages, PAGES_A_COMMIT * self.commits)):
            database.execute("VACUUM")
            self.commits = 0
        busy, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def _has_rests(self, database: sqlite3.Connection, most: int) -> bool:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        return bool(free or pages > TREES) and pages - TREES <= most


class Erasable(Protocol):
    """`journal.Journal` is one."""

    on_commit: Callable[[bool, float], None]
    trouble: str

    def erase(self, pages: int) -> str:
        """Erase as `Deleted.erase` does; return an empty text, or why it can't be done now."""


class Eraser:
    """Decides when, from `begin` to `stop`: every `rounds` commits, at each synced checkpoint of `every-W`, when the
    node has nothing to do, and first of all, since another version or a crash may have left more."""

    def __init__(self, journal: Erasable, rounds: int) -> None:
        self._journal, self._rounds = journal, max(rounds, FEWEST_COMMITS)
        self._loop = asyncio.get_running_loop()
        self._commits = 1
        """Since the log was truncated, with what was there before."""
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

    def _on_commit(self, at_checkpoint: bool, now: float) -> None:
        """What waits for the commit goes first: it is only asked for here."""
        if not self._commits:
            self._clean_at = now
        self._commits += 1
        self._committed_at = now
        if self._soon is None and (at_checkpoint or self._commits >= self._rounds) and not self._why:
            self._soon = self._loop.call_soon(self._erase)
        elif self._later is None:
            self._later = self._loop.call_at(now + IDLE_S, self._look)

    def _look(self) -> None:
        self._later = None
        idle_at = self._committed_at + IDLE_S
        if self._commits and self._soon is None and (self._why or self._loop.time() >= idle_at):
            self._erase()
        elif self._commits:
            self._later = self._loop.call_at(idle_at, self._look)

    def _erase(self, pages: int = 0) -> None:
        self._soon = None
        self._why = self._journal.erase(pages)
        if not self._why:
            self._commits, self._is_told = 0, False
            return
        if self._journal.trouble:  # which is told, and passes
            self._clean_at = self._loop.time()
        if self._later is None:
            self._later = self._loop.call_later(RETRY_S, self._look)
        if self.trouble and not self._is_told:
            self._is_told = True
            log.warning("%s", self.trouble)
