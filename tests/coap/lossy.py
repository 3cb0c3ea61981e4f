"""CoAP over a network that loses, doubles and reorders, in virtual time: real aiocoap at both ends, no socket.

Only what waits by the loop's clock can run here: libssl has its own.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

import aiocoap

from bt_selfsecure.coap.channels import Channel, Gate
from bt_selfsecure.coap.client import CoapClient
from bt_selfsecure.coap.interface import carry
from bt_selfsecure.coap.oscore_pairs import OscorePair
from bt_selfsecure.coap.remote import Place, Remote
from bt_selfsecure.coap.schemes import Plain
from bt_selfsecure.coap.udp_client import UdpClient
from bt_selfsecure.coap.udp_server import UdpServer
from bt_selfsecure.protocols.sabour.config import ClientConfig

T = TypeVar("T")
CLIENT, SERVER = ("client", 1), ("server", 5683)


class _Jumping(selectors.SelectSelector):
    """Waits no time: the loop's clock goes on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.now += timeout
        return super().select(0)


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    selector = _Jumping()

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return selector.now

    with asyncio.Runner(loop_factory=lambda: Loop(selector)) as runner:
        return runner.run(test())


class Network:
    """Between one client and one server. It counts what it was given and what it delivered."""

    def __init__(self, chance: Random, *, loss: float, double: float, most_delay_s: float) -> None:
        self._chance, self._loss, self._double, self._most_delay_s = chance, loss, double, most_delay_s
        self.sent: dict[Place, list[bytes]] = {CLIENT: [], SERVER: []}
        """By who sent it."""
        self.delivered: dict[Place, list[bytes]] = {CLIENT: [], SERVER: []}
        self.receivers: dict[Place, Callable[[bytes], None]] = {}

    def carry(self, data: bytes, source: Place, to: Place) -> None:
        self.sent[source].append(data)
        copies = (self._chance.random() >= self._loss) + (self._chance.random() < self._double)
        for _ in range(copies):
            delay = self._chance.uniform(0, self._most_delay_s)
            asyncio.get_running_loop().call_later(delay, self._deliver, data, source, to)

    def _deliver(self, data: bytes, source: Place, to: Place) -> None:
        if receive := self.receivers.get(to):
            self.delivered[source].append(data)
            receive(data)


class _ServerSocket:
    def __init__(self, network: Network) -> None:
        self._network = network

    def sendto(self, data: bytes, addr: Place) -> None:
        self._network.carry(data, SERVER, addr)

    def close(self) -> None: ...


class _ClientSocket:
    def close(self) -> None: ...


class _Client(UdpClient):
    network: Network

    async def _call(self, host: str, port: int) -> tuple[Remote, Any]:
        channel = self._connect(self._loop.time())
        write = lambda data: self.network.carry(data, CLIENT, SERVER)  # noqa: E731
        remote = Remote(SERVER, channel, self._scheme, write, "client")
        self.network.receivers[CLIENT] = lambda data: self._received(remote, channel.receive(data, self._loop.time()))
        return remote, _ClientSocket()


async def server_on(network: Network, site: Any, gate: Gate) -> Any:
    """Return the aiocoap context of a server."""
    context = aiocoap.Context(serversite=site, loop=asyncio.get_running_loop())

    async def opened(manager: Any) -> UdpServer:
        server = UdpServer(manager, "coap", gate)
        server.__dict__ |= {"_socket": _ServerSocket(network), "_local": "server"}
        network.receivers[SERVER] = lambda data: server.datagram_received(data, CLIENT)
        asyncio.get_running_loop().call_soon(server._sweep)
        return server

    await carry(context, opened)
    return context


async def client_on(
    network: Network,
    connect: Callable[[float], Channel],
    device: ClientConfig | None = None,
    security: OscorePair | None = None,
) -> tuple[CoapClient, Any]:
    """Return a client, and its aiocoap context."""
    context = aiocoap.Context(loop=asyncio.get_running_loop())

    async def opened(manager: Any) -> _Client:
        client = _Client(manager, "coap", connect)
        client.network = network
        return client

    return CoapClient(context, await carry(context, opened), Plain(), device, 0, security), context
