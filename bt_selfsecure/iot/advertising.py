"""The advertisement: sent by a gateway on every interface, heard by devices. A hint, and nothing of it is believed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Collection
from typing import Any, Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement

PORT: Final = 5710
PERIOD_S: Final = 2.0
_ALL_NODES: Final = "ff02::1"
_BROADCAST: Final = "255.255.255.255"
_LOOPBACK_BROADCAST: Final = "127.255.255.255"
_IP_PKTINFO: Final = 8  # linux/in.h


class GatewayAdvertiser:
    """Sends an advertisement on all interfaces, or on some."""

    def __init__(self, advertisement: Advertisement, port: int = PORT, interfaces: Collection[str] = ()) -> None:
        self._data: Final = advertisement.encode()
        self._port: Final = port
        self._interfaces: Final = interfaces
        self._four: Final = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._four.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._six: socket.socket | None = None
        with contextlib.suppress(OSError):  # a computer without IPv6
            self._six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def send(self) -> int:
        """Send it once; return on how many ways it went."""
        return sum(
            self._send_on(index, name)
            for index, name in socket.if_nameindex()
            if not self._interfaces or name in self._interfaces
        )

    def _send_on(self, index: int, name: str) -> int:
        sent = 0
        with contextlib.suppress(OSError):  # it is down, or has no address
            where = _LOOPBACK_BROADCAST if name == "lo" else _BROADCAST
            by = struct.pack("@iII", index, 0, 0)
            self._four.sendmsg([self._data], [(socket.IPPROTO_IP, _IP_PKTINFO, by)], 0, (where, self._port))
            sent += 1
        if self._six is not None:
            with contextlib.suppress(OSError):
                self._six.sendto(self._data, (_ALL_NODES, self._port, 0, index))
                sent += 1
        return sent

    async def run(self, period: float = PERIOD_S) -> None:
        """Send it for ever, each `period` seconds."""
        while True:
            self.send()
            await asyncio.sleep(period)

    def close(self) -> None:
        self._four.close()
        if self._six is not None:
            self._six.close()


class AdvertisementPort:
    """Hears advertisements, together with other programs of this computer that do."""

    def __init__(self, heard: Callable[[Advertisement, str], None]) -> None:
        """`heard` gets each, and the address that it came from."""
        self._heard: Final = heard
        self._transports: Final[list[asyncio.DatagramTransport]] = []

    async def open(self, port: int = PORT) -> None:
        """Raises `BearerError`."""
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            except OSError:  # a computer without IPv6
                continue
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family is socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((host, port))
            except OSError as error:
                sock.close()
                self.close()
                raise BearerError(f"can't hear advertisements on UDP {port} ({error.strerror})") from None
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(lambda: _Hearing(self._heard), sock=sock)
            self._transports.append(transport)

    def close(self) -> None:
        for transport in self._transports:
            transport.close()


class _Hearing(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[Advertisement, str], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            advertisement = Advertisement.decode(data)
        except MalformedError:
            return
        host = addr[0]
        if len(addr) == 4 and addr[3]:
            with contextlib.suppress(OSError):
                host += f"%{socket.if_indextoname(addr[3])}"
        self._heard(advertisement, host)
