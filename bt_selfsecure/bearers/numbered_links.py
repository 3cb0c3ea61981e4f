"""Links that share one UDP socket, told apart by where a datagram comes from and by the number before it.

`ipsp` and `udp` own the socket: they give what comes to `take`, and carry what a link sends. The layout is that of
`link_datagrams`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bt_selfsecure.bearers.base import BearerError, Link, Listener, Traits
from bt_selfsecure.bearers.link_datagrams import HEAD_BYTES, Data, Goodbye, Hello, Welcome, pack, parse
from bt_selfsecure.bearers.queued import QueuedLink

MTU_BYTES: Final = 1280 - 40 - 8 - HEAD_BYTES
"""What an IPv6 packet of the minimum MTU (RFC 8200 5) leaves."""
HELLO_S: Final = 0.5
QUEUE: Final = 1024
"""Datagrams of one link that wait for the program: of the longest, 1.3 MB."""
BACKLOG: Final = 4
"""Links that were granted and that nobody has accepted yet; further HELLOs get no answer."""
ENDS: Final = 3
"""An END may get lost like anything, so it is sent as often."""
CLOSED: Final = 64
"""Numbers of links that were closed here, or there, and are not granted again: a HELLO may come late."""

Address = TypeVar("Address")
"""Of a socket: hashable, as `sendto` takes it."""


@dataclass(frozen=True, slots=True)
class Ways(Generic[Address]):
    """Is what the owner of the socket does for its links."""

    send: Callable[[Address, bytes], Awaitable[None]]
    """Waits for room. Raises `OSError`."""
    answer: Callable[[Address, bytes], None]
    """Does not wait: where there is no room for it, it is asked for again."""
    admits: Callable[[str, Address], bool]
    """Whether that device may dial from there."""
    traits_of: Callable[[str], Traits]
    """Of a link to that device."""
    fault: Callable[[OSError, str], BearerError]
    """The error as a sentence that begins with what was being done."""
    shown: Callable[[Address], str] = lambda address: ""
    """The place of an end, where its device address is not enough to find it."""


class NumberedLink(QueuedLink, Generic[Address]):
    """Is made by `NumberedLinks`."""

    def __init__(self, links: NumberedLinks[Address], peer: str, place: tuple[Address, int], *, dialled: bool) -> None:
        super().__init__(QUEUE)
        self.peer, self.mtu, self.traits = peer, MTU_BYTES, links.ways.traits_of(peer)
        self.dialled: Final = dialled
        """By this end."""
        self.heard_at = asyncio.get_running_loop().time()
        """Loop time of the last datagram, of whatever kind."""
        self.whereabouts = links.ways.shown(place[0])
        self.place: Final = place
        """The peer's address, and the link's number."""
        self._links = links

    async def send(self, data: bytes) -> None:
        self._require_size(data)
        self._require_open()
        address, number = self.place
        try:
            await self._links.ways.send(address, pack(Data(number, data)))
        except OSError as error:
            self.end(str(self._links.ways.fault(error, f"the link to {self.peer} ended")))
            self._require_open()

    async def close(self) -> None:
        if not self._ended:
            self.end(f"the link to {self.peer} is closed")
            self._links.close_number(self.place)
            address, number = self.place
            for _ in range(ENDS):
                with contextlib.suppress(OSError):
                    await self._links.ways.send(address, pack(Goodbye(number)))

    def end(self, why: str) -> None:
        super().end(why)
        self._links.forget(self)


class NumberedListener(Listener, Generic[Address]):
    """Is made by `NumberedLinks.listen`."""

    def __init__(self, links: NumberedLinks[Address], name: str) -> None:
        self._links, self._name = links, name
        self.granted: asyncio.Queue[NumberedLink[Address] | None] = asyncio.Queue()

    async def accept(self) -> Link:
        link = await self.granted.get()
        if link is None:
            self.granted.put_nowait(None)
            raise BearerError(f"the {self._name} listener is closed, or its adapter gone", transient=True)
        return link

    async def close(self) -> None:
        self._links.stop_listening(self)


class NumberedLinks(Generic[Address]):
    """Holds all links of one socket. `own` is this end's device address."""

    def __init__(self, own: str, ways: Ways[Address]) -> None:
        self.ways: Final = ways
        self._own = own
        self._links: dict[tuple[Address, int], NumberedLink[Address]] = {}
        self._listener: NumberedListener[Address] | None = None
        self._dialled: dict[int, tuple[str, Address | None, asyncio.Future[NumberedLink[Address]]]] = {}
        self._closed: deque[tuple[Address, int]] = deque(maxlen=CLOSED)

    def __iter__(self) -> Iterator[NumberedLink[Address]]:
        return iter(list(self._links.values()))

    def __len__(self) -> int:
        return len(self._links)

    async def dial(
        self, peer: str, call: Callable[[bytes], Awaitable[None]], address: Address | None = None
    ) -> NumberedLink[Address]:
        """Give `call` the HELLO until it is answered, from `address` if that is known; for ever, where nobody does.
        Raises what `call` raises."""
        number = secrets.randbits(32)
        welcome: asyncio.Future[NumberedLink[Address]] = asyncio.get_running_loop().create_future()
        self._dialled[number] = peer, address, welcome
        try:
            while not welcome.done():
                await call(pack(Hello(number, peer, self._own)))
                await asyncio.wait((welcome,), timeout=HELLO_S)
            return welcome.result()
        except BaseException:
            if welcome.done() and not welcome.cancelled():
                await welcome.result().close()
            raise
        finally:
            del self._dialled[number]

    def listen(self, name: str) -> NumberedListener[Address]:
        """Listen. Raises `BearerError`."""
        if self._listener:
            raise BearerError(f"{name} is listened on already: close the other listener first")
        self._listener = NumberedListener(self, name)
        return self._listener

    def stop_listening(self, listener: NumberedListener[Address] | None = None) -> None:
        """Stop `listener`, if it is the one that there is; by default whichever it is."""
        closed = listener or self._listener
        if closed is self._listener:
            self._listener = None
        if closed:
            closed.granted.put_nowait(None)

    def end(self, why: str) -> None:
        """End all links, at once, without a word to the other ends."""
        for link in self:
            link.end(f"the link to {link.peer} ended: {why}")

    def forget(self, link: NumberedLink[Address]) -> None:
        if self._links.get(link.place) is link:
            del self._links[link.place]

    def close_number(self, place: tuple[Address, int]) -> None:
        """Grant no link of this number again, from there."""
        self._closed.append(place)

    def take(self, datagram: bytes, address: Address) -> None:
        """Take one UDP datagram that came; those longer than any of ours are nobody's."""
        if len(datagram) > HEAD_BYTES + MTU_BYTES:
            return
        match parse(datagram):
            case Hello(number, wanted, peer) if wanted == self._own and self.ways.admits(peer, address):
                self._on_hello(peer, (address, number))
            case Welcome(number, peer) if self._awaits(number, address) and peer == self._dialled[number][0]:
                self._granted(address, number)
            case Welcome(number, _):
                self._heard(address, number)
            case Data(number, data):
                if self._awaits(number, address):  # its WELCOME was lost
                    self._granted(address, number)
                if link := self._heard(address, number):
                    link.hear(data)
                else:
                    self.ways.answer(address, pack(Goodbye(number)))
            case Goodbye(number):
                if self._awaits(number, address):  # its WELCOME was lost
                    self._granted(address, number)
                if link := self._heard(address, number):
                    link.end(f"{link.peer} closed the link")
                    self.close_number(link.place)

    def _awaits(self, number: int, address: Address) -> bool:
        return number in self._dialled and self._dialled[number][1] in (None, address)

    def _heard(self, address: Address, number: int) -> NumberedLink[Address] | None:
        if link := self._links.get((address, number)):
            link.heard_at = asyncio.get_running_loop().time()
        return link

    def _on_hello(self, peer: str, place: tuple[Address, int]) -> None:
        if place in self._closed:
            return self.ways.answer(place[0], pack(Goodbye(place[1])))
        if not self._heard(*place):
            if self._listener is None or self._listener.granted.qsize() >= BACKLOG:
                return None
            self._listener.granted.put_nowait(self._link(peer, place, dialled=False))
        return self.ways.answer(place[0], pack(Welcome(place[1], self._own)))

    def _granted(self, address: Address, number: int) -> None:
        peer, _, welcome = self._dialled[number]
        if not welcome.done():
            welcome.set_result(self._link(peer, (address, number), dialled=True))

    def _link(self, peer: str, place: tuple[Address, int], *, dialled: bool) -> NumberedLink[Address]:
        link = self._links[place] = NumberedLink(self, peer, place, dialled=dialled)
        return link
