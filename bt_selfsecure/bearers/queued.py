"""Links whose datagrams somebody else reads, from one socket for several."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from bt_selfsecure.bearers.base import Link, LinkClosedError

QUEUE: Final = 4096
"""Datagrams that wait for the program on a `QueuedLink`, unless it says otherwise."""


class QueuedLink(Link):
    """Is a link to which `hear` gives what came and `end` says that no more will."""

    def __init__(self, queue: int = QUEUE) -> None:
        self._queue = queue
        self._received: deque[tuple[bytes, int | None]] = deque()
        self._changed = asyncio.Event()
        self._ended = ""

    async def receive(self) -> bytes:
        while not self._received:
            self._require_open()
            self._changed.clear()
            await self._changed.wait()
        data, self.rssi = self._received.popleft()
        return data

    def hear(self, data: bytes, rssi: int | None = None) -> None:
        """Queue one datagram; it is dropped, as a radio would, where as many wait as may."""
        if len(self._received) < self._queue:
            self._received.append((data, rssi))
            self._changed.set()

    def end(self, why: str) -> None:
        """The link is over; the first `why` counts."""
        self._ended = self._ended or why
        self._changed.set()

    def _require_open(self) -> None:
        if self._ended:
            raise LinkClosedError(self._ended, transient=True)
