"""Keeps what a node must have after a crash: sessions, outbox, inbox. SQLite in its state directory, for one daemon at
a time.

The journal is written behind the state in memory: `write` notes a change, `commit` brings all noted changes to the disk
in one transaction, or none of them. Where a commit fails (disk full) the changes stay noted, and the next commit tries
them again: so whatever waits for it just waits longer.

A commit runs in the event loop, not in a thread of its own. In WAL mode it is one append and one fsync; a thread makes
that no shorter for the round that waits for it, and adds a hop there and back (measured: 0.7 ms for the commit and 0.1
for the hop on a PC's disk). What it costs is that the other peers wait too while the card writes.

`every-message` syncs at each commit (synchronous=FULL). `every-W` does where `sync` asks for it (NORMAL otherwise): a
commit then survives a crash of the process at once, and loss of power after the next one that is synced.

A row that the card has damaged is dropped, and so is what can't be used without it; the others are as they were.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.damaged_rows import QUEUES, DamagedRow, damaged_rows
from bt_selfsecure.node.disk import SQLITE_ERRORS, Latency, directory_refusal, file_refusal, is_damage, is_full, refusal
from bt_selfsecure.node.erasing import MOST_PAGES, Deleted
from bt_selfsecure.node.journal_file import (
    OPEN_S,
    DamagedFileError,
    JournalError,
    Opened,
    address_number,
    address_of,
    connect,
    is_sound,
    lock,
    open_database,
    refused,
)
from bt_selfsecure.node.journal_mark import CLOSED, IN_USE, LOCK, SETTLED, is_marked, mark, marked
from bt_selfsecure.node.journal_schema import MIGRATIONS
from bt_selfsecure.node.noted import Noted, PeerRow, transaction
from bt_selfsecure.node.row_numbers import RowNumbers, last_reserved
from bt_selfsecure.node.salvage import salvage
from bt_selfsecure.node.set_aside import FILE, LOG, identity, new_file, put_in_place, set_aside

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""So often a commit looks whether its files are still there; three system calls at each would be a tenth of it."""
BUSY_MS: Final = 250
"""So long a commit waits for another program that has the database; while there is trouble it does not wait again,
since all peers wait with it."""
SPARE_BYTES: Final = 32 << 10
"""What SQLite takes beside the rows of a commit: whole pages, their heads, its index of the log."""
MOST_LACKING: Final = 64 << 10
"""With room for as much a disk is not full: a longer message is refused alone."""


class DamagedError(BtSelfSecureError):
    """There is something else on the disk than what was written of a peer."""


class Journal(Noted):
    """Notes changes, brings them to the disk, and reads what is kept in a directory. Raises `UsageError` for a file
    that is not ours, newer, or damaged beyond use, untouched, and `JournalError` where the disk does not give it now,
    or another node has it.

    `told` is called with each change of `trouble`. `peers` are the addresses of the configured peers: of those it can
    tell whose a damaged row is. `clock` gives the time, in seconds, of which `commit` is told.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sync_each: bool,
        told: Callable[[str], None] = lambda trouble: None,
        peers: Iterable[str] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__()
        self._directory, self._sync_each, self._told = directory, sync_each, told
        self._peers, self._clock = frozenset(peers), clock
        self._sync_due = False
        self._looked_at = self.commit_at = clock()
        """The second: when the commit that is under way began, or else when the last one ended."""
        self._is_marked = False
        """The lock file says that the log has something in it."""
        self._given = self._in_file = 0
        """Up to which numbers it says were given out by this node, and which of them stand in the file."""
        self._deleted = Deleted(directory / LOG)
        self.on_commit: Callable[[bool, float], None] = lambda at_checkpoint, now: None
        """Called after each commit, with whether it was synced for a checkpoint of `every-W`, and with the time."""
        self.notes: list[str] = []
        """What has become of the file, a sentence each, for as long as the node runs."""
        self._lock = lock(directory, OPEN_S)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(lambda: os.close(self._lock))
            self._database, is_older = self._opened()
            on_failure.callback(lambda: self._database.close())
            self._lacking = 0
            """Of the bytes that a full disk refused: it is told as full until it has taken as many, or has room for
            them."""
            self.trouble = ""
            """Why the last commit failed; empty if it did not."""
            self.must_restart = False
            """Only a new start helps, which takes over what can be read of a damaged file."""
            self.latency = Latency()
            self.damaged: list[DamagedRow] = []
            """At the start; the next commit takes them out."""
            self.keyless: frozenset[str] = frozenset()
            """Configured peers of which nothing was kept at the start, or nothing that is whole."""
            with refused(directory / FILE):
                self._find_damaged()
                before = marked(self._lock)
                is_older |= before.lacks(last_reserved(self._database))
                self._numbers = RowNumbers(self._database, QUEUES, self.write, before.numbers)
                if is_older:
                    self._note(
                        f"what the node kept last is gone, messages that waited perhaps, and keys: {LOG} was lost or "
                        f"damaged while it was down, or an older {FILE} was put there. The card may be failing: see "
                        f"dmesg"
                    )
                self._numbers.begin_log()
                with contextlib.suppress(JournalError):
                    self.commit(sync=True)
            self._settle()
            on_failure.pop_all()

    def _opened(self) -> Opened:
        path = self._directory / FILE
        try:
            opened = open_database(self._directory, self._lock, sync_each=self._sync_each)
        except DamagedFileError as damaged:
            try:
                kept = salvage(self._directory, self._peers)
                self._note(
                    f"the journal was damaged: what could be read of it is in use, and all of it lies in {kept}. The "
                    f"card may be failing: see dmesg, and bt-selfsecure backup"
                )
            except SQLITE_ERRORS as error:
                if file_refusal(error).damaged:  # or its schema is not the newest
                    raise damaged from None
                raise JournalError(f"can't use {path}: {refusal(error)}") from None
            except OSError as error:
                raise JournalError(f"can't use {path}: {directory_refusal(error, self._directory)}") from None
            opened = open_database(self._directory, self._lock, sync_each=self._sync_each)
        self._files = self._identities()
        return opened

    def _settle(self) -> None:
        """From the start to work."""
        self._database.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        self._database.execute(f"PRAGMA synchronous = {'FULL' if self._sync_each else 'NORMAL'}")
        self._files = self._identities()

    def _note(self, what: str) -> None:
        log.error("%s", what)
        if what not in self.notes:
            self.notes.append(what)

    # --- the file under the running node

    def look(self) -> None:
        """Look whether the files are still those that are open: what was deleted or replaced is written anew, from what
        is open, and nothing is lost. Raises `JournalError` where that can't be done; it is to be tried again."""
        self._looked_at = self._clock()
        if self._identities() == self._files:
            return
        try:
            self._write_anew()
        except (sqlite3.Error, OSError, JournalError) as error:
            why = refusal(error) if isinstance(error, sqlite3.Error) else error
            self._say(f"the node's state can't be kept: {self._directory / FILE} was deleted or replaced: {why}")
            raise JournalError(self.trouble) from None

    def _write_anew(self) -> None:
        if self._identities()[0] != self._files[0]:
            descriptor = lock(self._directory, 0.0)
            os.close(self._lock)
            self._lock = descriptor
        with new_file(self._directory) as path, contextlib.closing(sqlite3.connect(path)) as copy:
            copy.execute("PRAGMA journal_mode = MEMORY")
            self._database.backup(copy)
        stranger = set_aside(self._directory)
        self._database.close()  # which deletes what it takes for its WAL
        self.must_restart = True
        put_in_place(self._directory)
        mark(self._lock, CLOSED)
        self._numbers.are_in_log, self._is_marked, self._in_file = False, False, 0
        self._database = connect(self._directory / FILE)
        self._settle()
        self.must_restart = False
        found = f", and what was in its place is in {stranger}" if stranger else ""
        self._note(
            f"{self._directory / FILE} was deleted or replaced while the node ran: the node wrote its state anew{found}"
            f". To put another there, stop the node and take bt-selfsecure restore"
        )

    def _identities(self) -> list[tuple[int, int] | None]:
        """Of the files that are open."""
        return [identity(self._directory / name) for name in (LOCK, FILE, LOG)]

    # --- reading, at start

    def peer(self, address: str) -> PeerRow | None:
        """Return what is kept of this peer, or None. Raises `DamagedError`, and as all that reads `JournalError`."""
        with self._reading():
            row = self._database.execute("SELECT * FROM peer WHERE id = ?", (address_number(address),)).fetchone()
        if row is not None and is_sound("peer", row):
            return PeerRow(row[1].decode(errors="replace"), row[2].decode(errors="replace"), bool(row[3]))
        anothers = any(known.table == "peer" and known.id == address_number(address) for known in self.damaged)
        if self.damaged_of(address, "peer") or (row is not None and not anothers):
            raise DamagedError("what was kept of this peer is damaged on the disk: a new key is agreed on by itself")
        return None

    def addresses(self) -> list[str]:
        """Return the addresses of all peers of which anything is kept, those with a key first."""
        with self._reading():
            keyed = [
                address_of(row[0]) for row in self._database.execute("SELECT id FROM peer") if 0 <= row[0] < 1 << 48
            ]
        waiting = self._sound("outbox") + self._sound("inbox")
        return list(dict.fromkeys(keyed + [row[1].decode() for row in waiting]))

    def outbox(self, address: str) -> list[tuple[int, bytes | None]]:
        """Return (id, fragment) in the order in which they are to be sent; None where one is damaged that may have been
        this peer's."""
        rows = self._sound("outbox", "WHERE peer = ?", address)
        found: list[tuple[int, bytes | None]] = [(row[0], row[2]) for row in rows]
        return sorted(found + [(row.id, None) for row in self.damaged_of(address, "outbox")], key=lambda row: row[0])

    def partial(self, address: str) -> list[bytes]:
        """Return the pieces of the message that is under way here; none where any is damaged."""
        if self.damaged_of(address, "partial"):
            return []
        rows = self._sound("partial", "WHERE peer = ? ORDER BY id", address)
        return [row[2] for row in rows]

    def inbox(self) -> list[tuple[int, str, int, float, bytes]]:
        """Return (id, peer, port, time, message) in the order in which they came."""
        rows = self._sound("inbox", "ORDER BY id")
        return [(row[0], row[1].decode(), row[2], row[3], row[4]) for row in rows]

    def groups(self) -> list[tuple[int, str, str]]:
        """Return (id, owner's address, record) of each group; one that is damaged goes with the next commit."""
        with self._reading():
            rows = self._database.execute("SELECT * FROM group_state ORDER BY id").fetchall()
        whole = [row for row in rows if is_sound("group_state", row)]
        if len(whole) < len(rows):
            self._note("what was kept of a group was damaged on the disk and is dropped: see dmesg")
        for number in {row[0] for row in rows} - {row[0] for row in whole}:
            self.remove("group_state", number)
        return [(row[0], row[1].decode(), row[2].decode()) for row in whole]

    def damaged_of(self, address: str, table: str) -> list[DamagedRow]:
        """Return the damaged rows that were this peer's, or may have been."""
        return [row for row in self.damaged if row.table == table and row.peer in (address, "")]

    def _sound(self, table: str, which: str = "", *values: Any) -> list[tuple[Any, ...]]:
        with self._reading():
            rows = self._database.execute(f"SELECT * FROM {table} {which}", values).fetchall()
        return [row for row in rows if is_sound(table, row) and address_number(row[1])]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """What SQLite raises as `JournalError`."""
        try:
            yield
        except sqlite3.Error as error:
            self.must_restart |= is_damage(error)
            raise JournalError(f"the node's state can't be read: {refusal(error)}") from None

    def _find_damaged(self) -> None:
        """Note the end of each damaged row."""
        self.damaged, self.keyless = damaged_rows(self._database, self._peers)
        for row in self.damaged:
            self.write("", f"DELETE FROM {row.table} WHERE id = ?", row.id)
            if what := QUEUES.get(row.table):
                what += f" ({row.peer or 'nobody knows whose'})"
                log.error(
                    "a message %s was damaged on the disk and is dropped: see dmesg, the card may be failing", what
                )

    # --- writing

    def new_number(self, table: str) -> int:
        """Give out a number for a row, once, also where the row is never written."""
        return self._numbers.new(table)

    def insert(self, address: str, table: str, *values: Any, number: int = 0) -> int:
        """Note a new row of this peer's for the next commit, and return its number, a new one where none is given."""
        number = number or self.new_number(table)
        self.bring(address, table, number, *values)
        return number

    def commit(self, *, sync: bool = False, now: float | None = None) -> None:
        """Bring all noted changes to the disk; with `sync`, safe from a loss of power. Raises `JournalError`, and is
        then to be called again: also where nothing is noted it finds out whether the trouble is over. `now` spares a
        look at the clock, which on some machines is a system call."""
        if self.held or (not self.is_noted and not self.trouble):
            self._sync_due |= sync and not self._sync_each
            return
        self.commit_at = began = self._clock() if now is None else now
        if began - self._looked_at > LOOK_S or self.trouble:
            self.look()
        writes = self.noted_bytes if self._lacking else 0
        if not writes and self._lacks():  # an empty transaction finds room on any disk
            raise JournalError(self.trouble)
        self._sync_due |= sync and not self._sync_each
        self._numbers.begin_log()
        try:
            self._bring_noted()
        except sqlite3.Error as error:
            self.must_restart |= is_damage(error)
            self._lacking = max(self._lacking, min(self.noted_bytes, MOST_LACKING)) if is_full(error) else 0
            self._say(f"the node's state can't be kept: {refusal(error)}")
            raise JournalError(self.trouble) from None
        self.commit_at = self._clock()
        self.latency.add(self.commit_at - began)
        if not self._is_marked and (self._sync_each or self._sync_due):
            self._is_marked, self._given = True, self._numbers.reserved
            mark(self._lock, IN_USE, self._given, self._in_file)
        self._deleted.commits += 1
        self.on_commit(self._sync_due, self.commit_at)
        calls, self._sync_due = self.take_calls(), False
        if writes >= self._lacking or not self._lacks():
            self._lacking = 0
            self._say("")
        for call in calls:
            call()

    def _bring_noted(self, *, is_second: bool = False) -> None:
        """A full disk is asked once more, where the log can give back some of it."""
        if self._sync_due:
            self._database.execute("PRAGMA synchronous = FULL")
        try:
            with transaction(self._database):
                if not self.is_noted:  # an empty transaction asks no disk
                    self._database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
                self.execute(self._database)
        except sqlite3.Error as error:
            if not is_full(error) or not self._deleted.give_back(self._database) or is_second:
                raise
            return self._bring_noted(is_second=True)
        if self._sync_due:
            self._database.execute("PRAGMA synchronous = NORMAL")
        return None

    def _say(self, trouble: str) -> None:
        if trouble == self.trouble:
            return
        with contextlib.suppress(sqlite3.Error):
            self._database.execute(f"PRAGMA busy_timeout = {0 if trouble else BUSY_MS}")
        self.trouble = trouble
        self._told(trouble)

    def _lacks(self) -> bool:
        return bool(self._lacking) and shutil.disk_usage(self._directory).free < SPARE_BYTES + self._lacking

    def erase(self, pages: int = 0, *, room: float = 0.0) -> str:
        """Take what was deleted out of the files, too; return why that can't be done now, or an empty text. So many
        pages may be written for it at least, and the log gets so many times the room that it took. The other peers wait
        meanwhile."""
        lacks = bool(self._lacking)  # then the room of the log is wanted
        if (self.trouble and not lacks) or self.must_restart or self._identities() != self._files:
            return self.trouble or f"{FILE} was deleted or replaced"
        if self._is_marked:
            mark(self._lock, SETTLED, self._given, self._in_file)
        self._numbers.are_in_log = self._is_marked = False
        try:
            self._database.execute("PRAGMA busy_timeout = 0")
            try:
                why = self._deleted.erase(self._database, pages, 0.0 if lacks else room)
            finally:
                self._database.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        except sqlite3.Error as error:
            self.must_restart |= is_damage(error)
            return str(refusal(error))
        except OSError as error:
            return str(directory_refusal(error, self._directory))
        if not why:
            self._in_file = self._given
        return why

    def close(self) -> None:
        """Close the journal. What is noted and was not committed is lost: commit first."""
        self.erase(MOST_PAGES)
        self._database.close()
        if self._given or not is_marked(self._lock):
            mark(self._lock, CLOSED, self._given)
        os.close(self._lock)
