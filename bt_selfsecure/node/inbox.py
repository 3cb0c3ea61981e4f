"""Received messages until a reader has acknowledged them: in memory, and in the journal."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from bt_selfsecure.node.journal import Journal


@dataclass(frozen=True, slots=True)
class Received:
    """A message from a peer."""

    id: int
    peer: str
    """Its name, or its address if it has none."""
    port: int
    time: float
    """When it came, seconds since 1970-01-01 UTC."""
    message: bytes


class Inbox:
    """All peers' messages, by number, the oldest first. `name_of` gives an address's name."""

    def __init__(self, journal: Journal, limit: int, name_of: Callable[[str], str]) -> None:
        self._journal, self._limit, self._name_of = journal, limit, name_of
        self._messages = {number: (peer, port, came, message) for number, peer, port, came, message in journal.inbox()}
        self._counts = Counter(peer for peer, *_ in self._messages.values())
        self._shown = max(self._messages, default=0)
        self._changed = asyncio.Event()

    def count(self, address: str) -> int:
        return self._counts[address]

    def has_room(self, address: str) -> bool:
        return self._counts[address] < self._limit

    def put(self, address: str, port: int, message: bytes, *, durable_first: bool) -> None:
        """Note it in the journal; readers see it at once, or with `durable_first` when it is committed."""
        number, came = self._journal.next_id("inbox"), time.time()
        self._journal.write("INSERT INTO inbox VALUES (?, ?, ?, ?, ?)", number, address, port, came, message)
        self._messages[number] = (address, port, came, message)
        self._counts[address] += 1
        if durable_first:
            self._journal.on_commit.append(lambda: self._show(number))
        else:
            self._show(number)

    def acknowledge(self, number: int) -> bool:
        """Forget it, with the next commit; whether it was there."""
        message = self._messages.pop(number, None)
        if message is None:
            return False
        self._counts[message[0]] -= 1
        self._journal.write("DELETE FROM inbox WHERE id = ?", number)
        return True

    async def stream(self, address: str | None, port: int, *, follow: bool) -> AsyncGenerator[Received, None]:
        """Those that nobody acknowledged; with `follow` then those that come, for ever."""
        seen = 0
        while True:
            changed = self._changed
            for number, (peer, its_port, came, message) in list(self._messages.items()):
                if seen < number <= self._shown and its_port == port and address in (None, peer):
                    seen = number
                    yield Received(number, self._name_of(peer), port, came, message)
            if not follow:
                return
            await changed.wait()

    def _show(self, number: int) -> None:
        self._shown = max(self._shown, number)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
