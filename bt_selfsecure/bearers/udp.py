"""UDP on loopback or a LAN: nodes without a radio, as two on one laptop.

One socket carries all links, as `link_datagrams` says; a peer is known by where it listens. The dialler repeats its
HELLO every second as long as the link lasts, and is answered WELCOME: so an end that was killed is missed in seconds,
and one that was restarted meanwhile takes the link up again.

Whoever reads the network misses nothing: what gets lost here keeps no secret. And nothing proves a source address: who
can forge one can break links, but neither read nor alter what a session carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Final

from bt_selfsecure.bearers.base import Bearer, BearerError, Link, Listener, Traits
from bt_selfsecure.bearers.faults import Meaning, fault
from bt_selfsecure.bearers.link_datagrams import Hello, pack
from bt_selfsecure.bearers.numbered_links import NumberedLinks, Ways
from bt_selfsecure.bearers.places import Place, UdpPlaces, parse_place, shown_place
from bt_selfsecure.bearers.sockets import Readiness

log = logging.getLogger(__name__)

CONNECT_S: Final = 10.0
QUIET_S: Final = 600.0
"""A call in a peer's name from another place is told once in so long."""
BEAT_S: Final = 1.0
SILENCE_S: Final = 6.0
"""A link on which nothing came for so long is over."""
LONGEST_BYTES: Final = 2048
"""Bytes of a datagram that are read; ours are shorter, and others are none of ours."""
TRAITS: Final = Traits(losses_visible=True, ordered=False, broadcast=False, link_encrypted=False)
_AWAY: Final = Meaning("there is no way to it: bring the network up, or see [udp] listen and the peer's udp", True)
_MEANINGS: Final[Mapping[int, Meaning]] = {
    errno.EADDRINUSE: Meaning(
        "another program, perhaps another node, has that port: take another in [udp] listen", True
    ),
    errno.EADDRNOTAVAIL: Meaning("this computer has no such address: see ip address, and [udp] listen", True),
    errno.EACCES: Meaning("ports below 1024 are root's, and a broadcast is nobody's: take others", False),
    errno.EPERM: Meaning("a firewall, or the service's IPAddressDeny, does not let it out: allow it there", True),
    errno.EAFNOSUPPORT: Meaning("IP is denied to this process: for the service, see systemctl edit", True),
    errno.EINVAL: Meaning(
        "what listens on 127.0.0.1 reaches this computer alone: take another address in [udp] listen", False
    ),
    errno.ENETUNREACH: _AWAY,
    errno.EHOSTUNREACH: _AWAY,
    errno.ENETDOWN: _AWAY,
}


class UdpBearer(Bearer):
    """Runs on one socket, which is opened when it is needed. Raises `UsageError` for places that are none."""

    name = "udp"
    traits = TRAITS

    def __init__(self, places: UdpPlaces) -> None:
        self._own, self._anyone = places.own, places.anyone
        self._listen = parse_place(places.listen)
        self._peers = places.peers
        for place in self._peers.values():
            parse_place(place)
        self._socket: _Socket | None = None
        self._quiet_until: dict[str, float] = {}
        """Of configured peers that were told of."""

    async def connect(self, peer: str) -> Link:
        place = self._place_of(peer)
        if place is None:
            raise BearerError(f'it is not known where {peer} listens: add udp = "ADDRESS:PORT" to its [[peer]]')
        opened, doing = self._open(), f"no connection to {peer} at {shown_place(place)}"
        try:
            async with asyncio.timeout(CONNECT_S):
                return await opened.links.dial(peer, lambda hello: opened.send(place, hello), place)
        except TimeoutError:
            raise BearerError(
                f"{doing}: nobody answers there; start its node, and see that each has the other's udp and address",
                transient=True,
            ) from None
        except OSError as error:
            raise _fault(error, doing) from error

    async def listen(self) -> Listener:
        return self._open().links.listen(self.name)

    async def close(self) -> None:
        if self._socket:
            await self._socket.close()
            self._socket = None

    def _open(self) -> _Socket:
        if self._socket is None:
            self._socket = _Socket(self._own, self._listen, self._admits)
        return self._socket

    def _place_of(self, peer: str) -> Place | None:
        place = self._peers.get(peer)
        return None if place is None else parse_place(place)

    def _admits(self, peer: str, place: Place) -> bool:
        known = self._place_of(peer)
        if known is not None and place != known:
            self._tell_elsewhere(peer, place, known)
        return self._anyone() and peer != self._own if known is None else place == known

    def _tell_elsewhere(self, peer: str, place: Place, known: Place) -> None:
        """Once in a while for each peer: anybody who reaches this socket can make it so."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until.get(peer, 0.0):
            self._quiet_until[peer] = now + QUIET_S
            log.warning(
                "%s calls from %s, and its udp is %s: two devices run with copies of one card, or it has moved and its "
                "udp in [[peer]] is to be changed",
                *(peer, shown_place(place), shown_place(known)),
            )


class _Socket:
    """With its links, and what keeps them."""

    def __init__(self, own: str, place: Place, admits: Callable[[str, Place], bool]) -> None:
        """Raises `BearerError`."""
        self.links: NumberedLinks[Place] = NumberedLinks(
            own, Ways(self.send, self._answer, admits, lambda peer: TRAITS, _fault, shown_place)
        )
        self._own = own
        sock = listening(place)
        self._socket = Readiness(sock)
        self._sending = asyncio.Lock()
        asyncio.get_running_loop().add_reader(sock, self._read)
        self._beating = asyncio.create_task(self._beat(), name="udp beat")

    async def send(self, place: Place, datagram: bytes) -> None:
        """Waits for room, and lets others read meanwhile. Raises `OSError`."""
        async with self._sending:
            while not self._socket.is_closed:
                try:
                    self._socket.sock.sendto(datagram, place)
                    break
                except BlockingIOError:
                    await self._socket.writable()
                except OSError as error:
                    if error.errno != errno.ENOBUFS:  # which is a loss like any other
                        raise
                    break
        await asyncio.sleep(0)

    async def close(self) -> None:
        for link in self.links:
            await link.close()
        self.links.stop_listening()
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        self._socket.close()

    def _answer(self, place: Place, datagram: bytes) -> None:
        with contextlib.suppress(OSError):
            self._socket.sock.sendto(datagram, place)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # nothing there
            datagram, source = self._socket.sock.recvfrom(LONGEST_BYTES)
            self.links.take(datagram, source[:2])

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            before = clock()
            await asyncio.sleep(BEAT_S)
            if clock() - before > SILENCE_S / 2:
                continue  # it was this program that slept: read first
            for link in self.links:
                if clock() - link.heard_at > SILENCE_S:
                    link.end(f"the link to {link.peer} ended: nothing came for {SILENCE_S:.0f} s")
                elif link.dialled:
                    place, number = link.place
                    self._answer(place, pack(Hello(number, link.peer, self._own)))


def listening(place: Place) -> socket.socket:
    """Return a socket that is bound there. Raises `BearerError`."""
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(place)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise _fault(error, f"can't listen on UDP {shown_place(place)}") from error
    return sock


def require_way(host: str, place: Place, doing: str) -> None:
    """Raises `BearerError`, which begins with `doing`, where nothing goes there from `host`. Nothing is sent."""
    with listening((host, 0)) as sock:
        try:
            sock.connect(place)
        except OSError as error:
            raise _fault(error, doing) from error


def _fault(error: OSError, doing: str) -> BearerError:
    return fault(error, doing, _MEANINGS)
