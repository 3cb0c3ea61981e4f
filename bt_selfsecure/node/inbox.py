"""Received messages until a reader has acknowledged them: in memory, and in the journal."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Final

from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.messages import Received

INBOX_BYTES: Final = 8 << 20
"""Of one peer's messages, besides their number."""


class Inbox:
    """All peers' messages, by number, the oldest first. `name_of` gives an address's name.

    With `durable_first` readers see a message when it is on disk; without, at once.
    """

    def __init__(self, journal: Journal, limit: int, name_of: Callable[[str], str], *, durable_first: bool) -> None:
        self._journal, self._limit, self._name_of, self._durable_first = journal, limit, name_of, durable_first
        self._messages: dict[int, tuple[str, int, float, bytes]] = {}
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._changed = asyncio.Event()
        for number, peer, port, came, message in journal.inbox():
            self._show(number, peer, port, came, message)

    def count(self, address: str) -> int:
        return self._counts[address]

    def has_room(self, address: str) -> bool:
        return self._counts[address] < self._limit and self._bytes[address] < INBOX_BYTES

    def put(self, address: str, port: int, message: bytes) -> None:
        """Note it in the journal, and show it to readers."""
        came = time.time()
        number = self._journal.insert(address, "inbox", address, port, came, message)
        if self._durable_first:
            self._journal.after_commit(address, lambda: self._show(number, address, port, came, message))
        else:
            self._show(number, address, port, came, message)

    def acknowledge(self, number: int) -> None:
        """Forget it, with the next commit."""
        message = self._messages.pop(number, None)
        if message is not None:
            self._count(message[0], -1, -len(message[3]))
            self._journal.delete(message[0], "inbox", number)

    async def stream(self, address: str | None, port: int, *, follow: bool) -> AsyncGenerator[Received, None]:
        """Those that nobody acknowledged; with `follow` then those that come, for ever."""
        seen = 0
        while True:
            changed = self._changed
            for number in sorted(number for number in self._messages if number > seen):
                peer, its_port, came, message = self._messages.get(number, ("", -1, 0.0, b""))
                if its_port == port and address in (None, peer):
                    yield Received(number, self._name_of(peer), port, came, message)
                seen = number
            if not follow:
                return
            await changed.wait()

    def _show(self, number: int, address: str, port: int, came: float, message: bytes) -> None:
        self._messages[number] = (address, port, came, message)
        self._count(address, 1, len(message))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _count(self, address: str, messages: int, size: int) -> None:
        self._counts[address] += messages
        self._bytes[address] += size
