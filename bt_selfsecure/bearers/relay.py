"""Links through other nodes, which carry the datagrams as messages of their own sessions.

What opens such a link and carries it is not here: the owner gives it as `Ways`, and tells of each link that is open, of
what came, and of each that is over. A hop repeats what it loses, so losses do not show; a relay that is full or was
started anew drops what it had, as any radio may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bt_selfsecure.bearers.base import Bearer, BearerError, Link, LinkClosedError, Listener, Traits
from bt_selfsecure.bearers.queued import QueuedLink

TRAITS: Final = Traits(losses_visible=False, ordered=True, broadcast=False, link_encrypted=True)
BACKLOG: Final = 16
"""Links that peers have dialled and nobody has accepted yet; further ones are closed."""


@dataclass(frozen=True, slots=True)
class RelayWays:
    """Is what the owner does for the links; each is named by its peer's address and its number."""

    mtu: int
    dial: Callable[[str], int]
    """Asks for a link, and returns its number; what becomes of it is told later."""
    send: Callable[[str, int, bytes], bool]
    """Sends a datagram, where there is room for it."""
    close: Callable[[str, int], None]


class RelayBearer(Bearer):
    """Holds the links through others of one node."""

    name = "relay"
    traits = TRAITS

    def __init__(self, ways: RelayWays) -> None:
        self.ways: Final = ways
        self._links: dict[tuple[str, int], RelayedLink] = {}
        self._dialling: dict[tuple[str, int], asyncio.Future[RelayedLink]] = {}
        self._listener: RelayListener | None = None

    async def connect(self, peer: str) -> Link:
        place = peer, self.ways.dial(peer)
        answer: asyncio.Future[RelayedLink] = asyncio.get_running_loop().create_future()
        self._dialling[place] = answer
        try:
            return await answer
        except asyncio.CancelledError:
            self._links.pop(place, None)  # it may have opened in this very turn
            self.ways.close(*place)
            raise
        finally:
            del self._dialling[place]

    async def listen(self) -> Listener:
        if self._listener:
            raise BearerError("relay is listened on already: close the other listener first")
        self._listener = RelayListener(self)
        return self._listener

    async def close(self) -> None:
        """End all links, and tell their other ends."""
        for link in list(self._links.values()):
            await link.close()
        if self._listener:
            await self._listener.close()

    # --- what the owner tells

    def opened(self, link: RelayedLink, *, dialled: bool) -> None:
        """Take a link that is open; one that nobody waits for is closed."""
        if dialled:
            answer = self._dialling.get(link.place)
            taken = answer is not None and not answer.done()
            if answer is not None and taken:
                answer.set_result(link)
        else:
            taken = self._listener is not None and self._listener.take(link)
        if taken:
            self._links[link.place] = link
        else:
            self.ways.close(*link.place)

    def failed(self, peer: str, number: int, why: str) -> None:
        """Take note that there is no link to be had."""
        answer = self._dialling.get((peer, number))
        if answer is not None and not answer.done():
            answer.set_exception(BearerError(why, transient=True))

    def heard(self, peer: str, number: int, data: bytes) -> None:
        """Take a datagram that came on a link."""
        if link := self._links.get((peer, number)):
            link.hear(data)

    def ended(self, peer: str, number: int, why: str) -> None:
        """Take note that a link is over."""
        if link := self._links.pop((peer, number), None):
            link.end(why)

    def has_room(self) -> None:
        """Take note that something may be sent again."""
        for link in self._links.values():
            link.try_again()

    def forget(self, link: RelayedLink) -> None:
        """Know a link no more that its user has closed."""
        if self._links.pop(link.place, None):
            self.ways.close(*link.place)

    def stop_listening(self) -> None:
        self._listener = None


class RelayedLink(QueuedLink):
    """Is one open link, by the relays whose addresses are `path`; `second_path` where there are two ways."""

    def __init__(
        self, bearer: RelayBearer, peer: str, number: int, path: tuple[str, ...], second_path: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.peer, self.mtu, self.traits = peer, bearer.ways.mtu, TRAITS
        self.place: Final = (peer, number)
        self.path, self.second_path = path, second_path
        self._bearer = bearer
        self._room = asyncio.Event()

    def send_now(self, data: bytes) -> bool:
        self._require_size(data)
        if self._ended:
            raise LinkClosedError(self._ended, transient=True)
        return self._bearer.ways.send(*self.place, data)

    async def send(self, data: bytes) -> None:
        while not self.send_now(data):
            self._room.clear()
            await self._room.wait()

    async def close(self) -> None:
        self.end(f"the link to {self.peer} is closed")
        self._bearer.forget(self)

    def end(self, why: str) -> None:
        super().end(why)
        self._room.set()

    def try_again(self) -> None:
        """There may be room for a datagram that waits."""
        self._room.set()


class RelayListener(Listener):
    """Is made by `RelayBearer.listen`."""

    def __init__(self, bearer: RelayBearer) -> None:
        self._bearer = bearer
        self._came: asyncio.Queue[RelayedLink | None] = asyncio.Queue()

    def take(self, link: RelayedLink) -> bool:
        """Return whether there is room for a link that nobody has accepted yet."""
        if self._came.qsize() >= BACKLOG:
            return False
        self._came.put_nowait(link)
        return True

    async def accept(self) -> Link:
        link = await self._came.get()
        if link is None:
            self._came.put_nowait(None)
            raise BearerError("relay is not listened on any more", transient=True)
        return link

    async def close(self) -> None:
        self._bearer.stop_listening()
        self._came.put_nowait(None)
