"""What a gateway is to its devices and a cloud to its gateways: it answers negotiations, and takes the sessions that
follow. Everything that strangers can make grow is bounded."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.places import Place, shown_place
from bt_selfsecure.bearers.udp import listening
from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener, is_client_hello
from bt_selfsecure.dtls.values import LookUp
from bt_selfsecure.iot.folder import NetworkKey
from bt_selfsecure.iot.links import DTLS, LinkDown, LinkUp, SecuredLink
from bt_selfsecure.iot.sessions import DrivenLink, IotSession
from bt_selfsecure.protocols.iotcrypto.config import NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.events import Established, NegotiationFailed
from bt_selfsecure.protocols.iotcrypto.responder import Responder
from bt_selfsecure.protocols.iotcrypto.transmission import Transmission, TransmissionEnd
from bt_selfsecure.sansio.context import EndpointContext

log = logging.getLogger(__name__)

MOST_LINKS: Final = 4096
"""Of one port."""
HALF_OPEN_S: Final = 30.0
"""For a handshake of DTLS."""
NEGOTIATED_S: Final = 120.0
"""For a negotiation, with what may have to be said again after it."""
UNUSED_S: Final = 60.0
"""For a session key that nobody connects with."""
SWEEP_S: Final = 5.0
_BUFFER_BYTES: Final = 1 << 20

Transmit = Callable[[bytes], None]
Serve = Callable[[Dtls, Transmit, Place], DrivenLink[Any]]


def port_of(place: Place) -> socket.socket:
    """Return a socket that is bound there. Raises `BearerError`, in words for gateways and clouds."""
    try:
        return listening(place)
    except BearerError as error:
        why = os.strerror(getattr(error.__cause__, "errno", None) or errno.EIO)
        raise BearerError(
            f"can't listen on UDP {shown_place(place)} ({why}): end what has it, or set listen or the port to others"
        ) from None


class DtlsPort:
    """Takes clients on one port of any number of addresses; who has a key gets a link of its own."""

    def __init__(self, look_up: LookUp, serve: Serve, longest_s: float | None = None) -> None:
        """`longest_s`: seconds after which a link is closed, or None."""
        self._serve: Final = serve
        self._longest: Final = longest_s
        self._loop: Final = asyncio.get_running_loop()
        self._listener: Final = DtlsListener(look_up, os.urandom, self._loop.time(), DTLS)
        self._transports: Final[list[asyncio.DatagramTransport]] = []
        self._links: Final[dict[tuple[int, Any], DrivenLink[Any]]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def places(self) -> list[Place]:
        """Return where it listens."""
        return [transport.get_extra_info("sockname")[:2] for transport in self._transports]

    async def open(self, places: Sequence[Place]) -> None:
        """Listen there, too. Raises `BearerError`."""
        for place in places:
            sock = port_of(place)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)  # a hundred devices at once
            number = len(self._transports)
            transport, _ = await self._loop.create_datagram_endpoint(partial(_Port, self, number), sock=sock)
            self._transports.append(transport)
        if self._sweeping is None:
            self._sweep()

    def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for driven in self._links.values():
            driven.close()
        self._links.clear()
        for transport in self._transports:
            transport.close()

    def receive(self, datagram: bytes, number: int, address: Any) -> None:
        """Give a datagram to its link, or make one."""
        at = number, address
        driven = self._links.get(at)
        if driven and not driven.closed and not (driven.link.is_up and is_client_hello(datagram)):
            driven.receive(datagram)
            return

        def transmit(data: bytes) -> None:
            if not self._transports[number].is_closing():
                self._transports[number].sendto(data, address)

        answer = self._listener.receive_frame(datagram, repr(at).encode(), self._loop.time())
        if not isinstance(answer, Dtls):
            for data in answer:
                transmit(data)
            return
        if driven:
            driven.close()
        elif len(self._links) >= MOST_LINKS and not self._make_room():
            return
        driven = self._links[at] = self._serve(answer, transmit, address[:2])
        driven.turn()

    def _make_room(self) -> bool:
        """Close the oldest of those that are not up, as strangers' are."""
        for at, driven in self._links.items():
            if not driven.link.is_up:
                driven.close()
                del self._links[at]
                return True
        return False

    def _sweep(self) -> None:
        now = self._loop.time()
        for at, driven in [*self._links.items()]:
            age = now - driven.begun
            late = (age > HALF_OPEN_S and not driven.link.is_up) or (self._longest is not None and age > self._longest)
            if late:
                driven.close()
            if driven.closed:
                del self._links[at]
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)


class _Port(asyncio.DatagramProtocol):
    def __init__(self, port: DtlsPort, number: int) -> None:
        self._port, self._number = port, number

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._port.receive(data, self._number, addr)


class SessionService:
    """Is the two ports together. Each new session is given to `take`, which attends it."""

    def __init__(
        self,
        network: NetworkKey,
        config: NegotiationConfig,
        end: TransmissionEnd,
        take: Callable[[IotSession], None],
        failed: Callable[[NegotiationFailed, str], None] = lambda failed, where: None,
    ) -> None:
        """`failed` is told of each negotiation that came to nothing, and the address that it came from."""
        self._network: Final = network
        self.config = config
        """Of negotiations from now on: to be replaced when the certificate is renewed."""
        self._end: Final = end
        self._take: Final = take
        self._failed: Final = failed
        self._keys: Final[dict[bytes, tuple[Established, asyncio.TimerHandle]]] = {}
        self.negotiation: Final = DtlsPort(self._network_key, self._negotiate, NEGOTIATED_S)
        self.transmission: Final = DtlsPort(self._session_key, self._transmit)

    async def open(self, negotiation: Sequence[Place], transmission: Sequence[Place]) -> None:
        """Raises `BearerError`."""
        await self.negotiation.open(negotiation)
        await self.transmission.open(transmission)

    def close(self) -> None:
        for _, timer in self._keys.values():
            timer.cancel()
        self._keys.clear()
        self.negotiation.close()
        self.transmission.close()

    # --- negotiation --------------------------------------------------------------------------------------------------

    def _network_key(self, identity: bytes) -> bytes | None:
        return self._network.key if identity == self._network.name.encode() else None

    def _negotiate(self, dtls: Dtls, transmit: Transmit, place: Place) -> DrivenLink[Responder]:
        context = EndpointContext(os.urandom, name=self.config.signed.certificate.name)
        responder = Responder(self.config, context, asyncio.get_running_loop().time())
        driven = DrivenLink(SecuredLink(dtls, responder), transmit)

        def take(event: Any) -> None:
            match event:
                case Established():
                    self._agreed(event)
                case NegotiationFailed():
                    self._failed(event, place[0])
                case LinkDown():
                    driven.close()
                case _:
                    pass

        driven.take = take
        return driven

    def _agreed(self, established: Established) -> None:
        identity = established.keys.identity
        timer = asyncio.get_running_loop().call_later(UNUSED_S, self._keys.pop, identity, None)
        self._keys[identity] = established, timer

    # --- transmission -------------------------------------------------------------------------------------------------

    def _session_key(self, identity: bytes) -> bytes | None:
        agreed = self._keys.get(identity)
        return agreed[0].keys.key if agreed else None

    def _transmit(self, dtls: Dtls, transmit: Transmit, place: Place) -> DrivenLink[Transmission]:
        inner = Transmission(self._end, EndpointContext(os.urandom))
        driven = DrivenLink(SecuredLink(dtls, inner), transmit)

        def take(event: Any) -> None:
            match event:
                case LinkUp(identity=identity):
                    agreed = self._keys.pop(identity, None)
                    if agreed is None:  # somebody else has used it meanwhile
                        driven.close()
                        return
                    agreed[1].cancel()
                    self._take(IotSession(driven, agreed[0], shown_place(place), lambda: None))
                case LinkDown():
                    driven.close()
                case _:
                    pass

        driven.take = take
        return driven
