"""What a gateway keeps for its cloud: records in order, each until it is acknowledged, and which alerts it has."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.iot.database import DiskThread, open_database
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.records import AlertRecord, KeptRecord, encode_record

log = logging.getLogger(__name__)

COMMIT_S: Final = 0.1
"""For which records are gathered before they are written together."""
DISK_RETRY_S: Final = 5.0
MOST_QUEUED: Final = 10_000
"""Records that wait for the disk."""
_BATCH_BYTES: Final = limits.MOST_MESSAGE_BYTES - 48
"""Of the records in one batch; the rest is for the message around them."""
_SCHEMA: Final = """
CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, record BLOB);
CREATE TABLE alert (device BLOB, epoch INTEGER, last INTEGER, PRIMARY KEY (device, epoch)) WITHOUT ROWID;
CREATE TABLE epoch (epoch BLOB);
"""


class GatewayStore:
    """Is the file. Each method returns once what it says is on the disk; `sqlite3.Error` where it can't be."""

    def __init__(self, path: Path) -> None:
        """Raises `UsageError` for a file that can't be used."""
        self._base: Final = open_database(path, _SCHEMA, 1)
        row = self._base.execute("SELECT epoch FROM epoch").fetchone()
        if row is None:
            row = (os.urandom(limits.EPOCH_BYTES),)
            self._base.execute("INSERT INTO epoch VALUES (?)", row)
        self.epoch: Final[bytes] = row[0]

    def close(self) -> None:
        self._base.close()

    def add(self, records: Sequence[KeptRecord], most: int | None = None) -> int:
        """Add records in one transaction, an alert that is here already not again; return how many wait now. With
        `most` the oldest beyond that are dropped."""
        with self._base:
            self._base.execute("BEGIN IMMEDIATE")
            for record in records:
                if not isinstance(record, AlertRecord) or self._is_new(record):
                    self._base.execute("INSERT INTO outbox (record) VALUES (?)", (encode_record(record),))
            if most is not None:
                self._base.execute("DELETE FROM outbox WHERE number <= (SELECT max(number) FROM outbox) - ?", (most,))
        return self.waiting()

    def _is_new(self, alert: AlertRecord) -> bool:
        epoch, count = divmod(alert.id, 1 << 32)
        row = self._base.execute(
            "SELECT last FROM alert WHERE device = ? AND epoch = ?", (alert.device, epoch)
        ).fetchone()
        if row is not None and count <= row[0]:
            return False
        self._base.execute("INSERT OR REPLACE INTO alert VALUES (?, ?, ?)", (alert.device, epoch, count))
        return True

    def waiting(self) -> int:
        """Return how many records wait."""
        first, last = self._base.execute("SELECT min(number), max(number) FROM outbox").fetchone()
        return 0 if last is None else int(last - first + 1)

    def after(self, number: int) -> tuple[int, list[bytes]]:
        """Return a batch of those that follow, as many as fit a message, and the number of the first."""
        records: list[bytes] = []
        room = _BATCH_BYTES
        first = number + 1
        rows = self._base.execute(
            "SELECT number, record FROM outbox WHERE number > ? ORDER BY number LIMIT ?", (number, limits.MOST_RECORDS)
        )
        for found, record in rows:
            if len(record) + 3 > room:
                break
            if not records:
                first = found
            records.append(record)
            room -= len(record) + 3
        return first, records

    def acknowledge(self, number: int) -> None:
        """Forget what the cloud has: all up to this number."""
        self._base.execute("DELETE FROM outbox WHERE number <= ?", (number,))


class StoreFullError(BtSelfSecureError):
    """As much waits as there is room for: nothing is taken that could be lost."""


class RecordWriter:
    """Writes records in groups, so that a hundred devices don't wait for a hundred syncs of a card."""

    def __init__(self, store: GatewayStore, disk: DiskThread, most_waiting: int, *, drops: bool) -> None:
        """With `drops` the oldest make room for new ones, as where there is no cloud that they wait for."""
        self._store, self._disk, self._most, self._drops = store, disk, most_waiting, drops
        self._queue: list[tuple[KeptRecord, asyncio.Future[None]]] = []
        self._something: Final = asyncio.Event()
        self.added: Final = asyncio.Event()
        """Set when there is something new on the disk."""
        self.waiting = store.waiting()
        self.written = 0
        """Records, since the start."""

    @property
    def is_full(self) -> bool:
        return (self.waiting >= self._most and not self._drops) or len(self._queue) >= MOST_QUEUED

    async def add(self, record: KeptRecord, *, always: bool = False) -> None:
        """Return once it is on the disk. Raises `StoreFullError`, unless `always`: for what is of the structure."""
        if self.is_full and not always:
            raise StoreFullError(f"{self.waiting:,} records wait for the cloud")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((record, done))
        self._something.set()
        await done

    async def run(self) -> None:
        """Write until it is cancelled; what waits then is written, too."""
        try:
            while True:
                await self._something.wait()
                await asyncio.sleep(COMMIT_S)
                self._something.clear()
                await self._write()
        finally:
            if self._queue:
                await asyncio.shield(self._write())

    async def _write(self) -> None:
        group, self._queue = self._queue, []
        try:
            records = [record for record, _ in group]
            self.waiting = await self._disk.do(self._store.add, records, self._most if self._drops else None)
        except sqlite3.Error as error:
            log.error("records can't be written, and wait: %s", error)
            self._queue = group + self._queue
            self._something.set()
            await asyncio.sleep(DISK_RETRY_S)
            return
        self.written += len(group)
        for _, done in group:
            if not done.done():
                done.set_result(None)
        self.added.set()
