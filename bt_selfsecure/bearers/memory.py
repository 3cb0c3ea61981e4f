"""Links inside one process: for tests, and as the plainest example of a bearer.

What is sent is there at once, unless `lose` or `reach` says that it is not. Nothing is encrypted.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bt_selfsecure.bearers.base import Bearer, BearerError, Link, LinkClosedError, Listener, Traits
from bt_selfsecure.bearers.limits import DATAGRAM_BYTES
from bt_selfsecure.bearers.queued import QueuedLink
from bt_selfsecure.errors import UsageError

QUEUE: Final = 64
"""Datagrams on their way: a sender waits when so many were not received yet."""


class MemoryAir:
    """Joins bearers: `air.bearer(address)` is the medium of the device with this address.

    `lose(datagram)` decides on each datagram whether it gets lost.
    """

    def __init__(self, lose: Callable[[bytes], bool] | None = None, mtu: int = DATAGRAM_BYTES) -> None:
        self.lose = lose or (lambda datagram: False)
        self.mtu = mtu
        self.traits = Traits(losses_visible=lose is not None, ordered=True, broadcast=False, link_encrypted=False)
        self.listeners: dict[str, MemoryListener] = {}

    def bearer(self, address: str) -> MemoryBearer:
        return MemoryBearer(self, address)


class MemoryBearer(Bearer):
    """Is one device's end of a `MemoryAir`."""

    name = "memory"

    def __init__(self, air: MemoryAir, address: str) -> None:
        self._air, self._address = air, address
        self.traits = air.traits
        self._ends: list[MemoryLink | MemoryListener] = []

    async def connect(self, peer: str) -> Link:
        listener = self._air.listeners.get(peer)
        if listener is None:
            raise BearerError(f"{peer} does not listen: start it, or wait for it", transient=True)
        here, there = MemoryLink(self._air, peer), MemoryLink(self._air, self._address)
        here.other, there.other = there, here
        self._ends.append(here)
        listener.accept_later(there)
        return here

    async def listen(self) -> Listener:
        if self._address in self._air.listeners:
            raise BearerError(f"{self._address} is listened on already: close the other listener first")
        listener = self._air.listeners[self._address] = MemoryListener(self._air, self._address, self._ends)
        self._ends.append(listener)
        return listener

    async def close(self) -> None:
        """End all links and listeners, as if the adapter were gone."""
        for end in self._ends:
            await end.close()


class MemoryListener(Listener):
    """Is made by `MemoryBearer.listen`."""

    def __init__(self, air: MemoryAir, address: str, ends: list[MemoryLink | MemoryListener]) -> None:
        self._air, self._address, self._ends = air, address, ends
        self._accepted: asyncio.Queue[MemoryLink | None] = asyncio.Queue()

    def accept_later(self, link: MemoryLink) -> None:
        self._ends.append(link)
        self._accepted.put_nowait(link)

    async def accept(self) -> Link:
        link = await self._accepted.get()
        if link is None:
            self._accepted.put_nowait(None)
            raise BearerError(f"{self._address} no longer listens")
        return link

    async def close(self) -> None:
        if self._air.listeners.get(self._address) is self:
            del self._air.listeners[self._address]
            self._accepted.put_nowait(None)


class MemoryLink(Link):
    """Is one end. Made in pairs by `MemoryBearer.connect`."""

    def __init__(self, air: MemoryAir, peer: str) -> None:
        self._air = air
        self.peer, self.mtu, self.traits = peer, air.mtu, air.traits
        self.other: MemoryLink = self
        self._received: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def send_now(self, data: bytes) -> bool:
        self._require_size(data)
        if self._is_over:
            raise LinkClosedError(f"the link to {self.peer} is closed", transient=True)
        if len(self.other._received) >= QUEUE:
            return False
        if not self._air.lose(data):
            self.other._received.append(bytes(data))
            self._wake()
        return True

    async def send(self, data: bytes) -> None:
        while not self.send_now(data):
            await self._change()

    async def receive(self) -> bytes:
        while not self._received:
            if self._is_over:
                raise LinkClosedError(f"the link to {self.peer} is closed", transient=True)
            await self._change()
        self._wake()
        return self._received.popleft()

    async def close(self) -> None:
        self._closed = True
        self._wake()

    @property
    def _is_over(self) -> bool:
        return self._closed or self.other._closed

    async def _change(self) -> None:
        """Until either end sent, received or closed."""
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self.other._changed.set()


class BroadcastAir:
    """Joins devices of which everybody hears what one sends: `air.bearer(address)` is one's end.

    `reach(sender, listening)` says who of those who listen receives a datagram, and with which RSSI.
    """

    traits = Traits(losses_visible=True, ordered=True, broadcast=True, link_encrypted=False)

    def __init__(
        self, reach: Callable[[str, Sequence[str]], Mapping[str, int | None]], mtu: int = DATAGRAM_BYTES
    ) -> None:
        self.mtu = mtu
        self.links: list[BroadcastLink] = []
        self._reach = reach

    def bearer(self, address: str) -> BroadcastBearer:
        return BroadcastBearer(self, address)

    def transmit(self, sender: str, data: bytes) -> None:
        """Give a datagram to those links of the sender's whom it reaches."""
        reached = self._reach(sender, [link.address for link in self.links])
        for link in self.links:
            if link.peer == sender and link.address in reached:
                link.hear(data, reached[link.address])


class BroadcastBearer(Bearer):
    """Is one device's end of a `BroadcastAir`."""

    name = "air"
    traits = BroadcastAir.traits

    def __init__(self, air: BroadcastAir, address: str) -> None:
        self._air, self._address = air, address
        self._links: list[BroadcastLink] = []

    async def connect(self, peer: str) -> Link:
        """Hear this peer; what is sent everybody hears."""
        link = BroadcastLink(self._air, self._address, peer)
        self._links.append(link)
        return link

    async def listen(self) -> Listener:
        raise UsageError("the virtual air has no connections to wait for: connect to each peer that is to be heard")

    async def close(self) -> None:
        for link in self._links:
            await link.close()


class BroadcastLink(QueuedLink):
    """Is made by `BroadcastBearer.connect`."""

    def __init__(self, air: BroadcastAir, address: str, peer: str) -> None:
        super().__init__(queue=sys.maxsize)
        self.address, self.peer, self.mtu, self.traits = address, peer, air.mtu, air.traits
        self._air = air
        air.links.append(self)

    async def send(self, data: bytes) -> None:
        self._require_open()
        self._require_size(data)
        self._air.transmit(self.address, data)

    async def close(self) -> None:
        if self in self._air.links:
            self._air.links.remove(self)
        self.end("the link is closed")
