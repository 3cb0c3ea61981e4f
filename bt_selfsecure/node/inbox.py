"""Received messages until a reader has acknowledged them: in memory, and in the journal."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Final, NamedTuple

from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.message_limits import GROUP_MESSAGE, GROUP_PORT
from bt_selfsecure.node.messages import Received

INBOX_BYTES: Final = 8 << 20
"""Of one peer's messages, besides their number; of all strangers' together."""


class _Waiting(NamedTuple):
    peer: str
    """Its address."""
    port: int
    wrote: float
    """Wall clock as it was when it came."""
    came: float | None
    """Loop time; None where it came in an earlier run of the node."""
    message: bytes


class Inbox:
    """Holds all peers' messages, by number, the oldest first. `name_of` gives an address's name. Each peer that is
    `known` has room of its own, and all others as much together: anybody can agree on a key under a made-up name.

    With `durable_first` readers see a message when it is on disk; without, at once.
    """

    def __init__(
        self,
        journal: Journal,
        limit: int,
        name_of: Callable[[str], str],
        *,
        known: Collection[str],
        durable_first: bool,
    ) -> None:
        self._journal, self._limit, self._name_of, self._durable_first = journal, limit, name_of, durable_first
        self._known = known
        self._clock = asyncio.get_running_loop().time
        self._messages: dict[int, _Waiting] = {}
        self._counts: Counter[str] = Counter()
        """Messages by address."""
        self._shares: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        """Messages, and their bytes, by whose room they take."""
        self._changed = asyncio.Event()
        for number, peer, port, came, message in journal.inbox():
            self._show(number, _Waiting(peer, port, came, None, message))

    def count(self, address: str) -> int:
        return self._counts[address]

    def has_room(self, address: str, half_received_bytes: int = 0) -> bool:
        """Return whether another message of this peer's is taken, beside what those of its room have half sent."""
        room = self._room_of(address)
        return self._shares[room] < self._limit and self._bytes[room] + half_received_bytes < INBOX_BYTES

    def _room_of(self, address: str) -> str:
        return address if address in self._known else ""

    def put(self, address: str, port: int, message: bytes, now: float) -> None:
        """Note it in the journal, and show it to readers; it came at this loop time."""
        waiting = _Waiting(address, port, time.time(), now, message)
        number = self._journal.insert(address, "inbox", address, port, waiting.wrote, message)
        if self._durable_first:
            self._journal.after_commit(address, lambda: self._show(number, waiting))
        else:
            self._show(number, waiting)

    def put_group(self, address: str, group: str, message: bytes, now: float) -> None:
        """Note a message of a group's owner, for the readers of port 0."""
        name = group.encode()
        self.put(address, GROUP_MESSAGE, bytes([len(name)]) + name + message, now)

    def acknowledge(self, number: int) -> None:
        """Forget it, with the next commit."""
        waiting = self._messages.pop(number, None)
        if waiting is not None:
            self._count(waiting.peer, -1, -len(waiting.message))
            self._journal.delete(waiting.peer, "inbox", number)

    def forget_peer(self, address: str) -> None:
        """Show nothing of this peer any more; `Journal.forget_peer` takes it from the disk."""
        for number, waiting in list(self._messages.items()):
            if waiting.peer == address:
                del self._messages[number]
                self._count(address, -1, -len(waiting.message))

    async def stream(self, address: str | None, port: int, *, follow: bool) -> AsyncGenerator[Received, None]:
        """Yield those that nobody acknowledged; with `follow` then those that come, for ever."""
        ports = (port, GROUP_MESSAGE) if port == 0 else (port,)
        async for number, waiting in self._waiting(ports, follow=follow):
            if address in (None, waiting.peer):
                yield self._as_received(number, waiting)

    async def letters(self) -> AsyncGenerator[tuple[int, str, bytes], None]:
        """Yield number, sender's address and bytes of what is written about groups, for ever."""
        async for number, waiting in self._waiting((GROUP_PORT,), follow=True):
            yield number, waiting.peer, waiting.message

    async def _waiting(self, ports: Collection[int], *, follow: bool) -> AsyncGenerator[tuple[int, _Waiting], None]:
        seen = 0
        while True:
            changed = self._changed
            for number in sorted(number for number in self._messages if number > seen):
                waiting = self._messages.get(number)
                if waiting and waiting.port in ports:
                    yield number, waiting
                seen = number
            if not follow:
                return
            await changed.wait()

    def _as_received(self, number: int, waiting: _Waiting) -> Received:
        age = None if waiting.came is None else self._clock() - waiting.came
        when = waiting.wrote if age is None else time.time() - age
        port, message, group = waiting.port, waiting.message, ""
        if port == GROUP_MESSAGE:
            port, size = 0, message[0]
            group, message = message[1 : 1 + size].decode(), message[1 + size :]
        return Received(number, self._name_of(waiting.peer), port, when, message, age, group)

    def _show(self, number: int, waiting: _Waiting) -> None:
        self._messages[number] = waiting
        self._count(waiting.peer, 1, len(waiting.message))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _count(self, address: str, messages: int, size: int) -> None:
        room = self._room_of(address)
        self._counts[address] += messages
        self._shares[room] += messages
        self._bytes[room] += size
