"""EXPERIMENTAL: UDP over 6LoWPAN over LE connections (Internet Protocol Support Profile, RFC 7668).

Linux brings the IP interface up (bt0, by the module bluetooth_6lowpan). This bearer has it dialled and listened for by
a privileged helper (`ipsp_helper`), and finds the peer on it: HELLO goes to ff02::1, and links are told apart by a
number before each datagram, as `link_datagrams` says.

So no IPv6 address is ever computed from a device address: kernels disagree about that.

Limits, all of the kernel's interface: debugfs and root (none under lockdown=integrity); public addresses only; the
kernel dials on its first adapter, whichever is named here; its code has a record of races. The link layer repeats what
is lost and hides it, but UDP's queues may overflow. Nothing is encrypted below us, and while a node listens anybody
near can reach whatever this computer serves on all interfaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
from collections.abc import Collection
from typing import Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.base import Bearer, BearerError, Link, Listener, Traits
from bt_selfsecure.bearers.faults import fault
from bt_selfsecure.bearers.ipsp_kernel import HelperClient, Interface, udp_socket, watch
from bt_selfsecure.bearers.numbered_links import NumberedLink, NumberedLinks, Ways
from bt_selfsecure.bearers.sockets import Readiness

PORT: Final = 5700
"""Default, UDP; 5683 is CoAP's."""
CONNECT_S: Final = 30.0
REDIAL_S: Final = 4.0
PEERS_S: Final = 1.0
"""Between two looks at who is connected."""
ALL_NODES: Final = "ff02::1"
TRAITS: Final = Traits(losses_visible=False, ordered=True, broadcast=False, link_encrypted=False)


class IpspBearer(Bearer):
    """Runs on one UDP port. It needs the helper, pyroute2 and the kernel's module bluetooth_6lowpan."""

    name = "ipsp"
    traits = TRAITS

    def __init__(self, adapter: str, port: int = PORT) -> None:
        if not 1024 <= port <= 65535:
            raise BearerError(f"UDP port {port} can't be used: take 1024 to 65535")
        self._adapter, self._port = adapter, port
        self._network: _Network | None = None
        self._turn = asyncio.Lock()

    async def connect(self, peer: str) -> Link:
        async with self._turn:  # the kernel's interface takes one at a time
            network = await self._up()
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await network.dial(peer)
            except TimeoutError as error:
                if network.is_stale(peer):
                    raise BearerError(
                        f"no IPSP connection to {peer}: the kernel has kept one that is over; modprobe -r "
                        "bluetooth_6lowpan as root, or restart the computer"
                    ) from error
                silent = OSError(errno.EHOSTDOWN, os.strerror(errno.EHOSTDOWN))
                raise fault(silent, f"no IPSP connection to {peer}") from error

    async def listen(self) -> Listener:
        async with self._turn:
            network = await self._up()
            listener = network.links.listen(self.name)
            try:
                await network.ask_to_listen()
            except BaseException:
                await listener.close()
                raise
            return listener

    async def close(self) -> None:
        async with self._turn:
            if self._network:
                await self._network.close()
                self._network = None

    async def _up(self) -> _Network:
        if self._network is None or self._network.is_lost:
            if self._network:
                await self._network.close()
            self._network = await _Network.start(self._adapter, self._port)
        return self._network


class Dialler:
    """Dials one peer, and again where it did not listen, or the connection broke at once: the kernel tries once."""

    def __init__(self, adapter: str, peer: str, helper: HelperClient) -> None:
        self._adapter, self._peer, self._helper = adapter, peer, helper
        self._clock = asyncio.get_running_loop().time
        self._dialled = -math.inf

    async def dial(self) -> None:
        """Dial now. Raises `BearerError`."""
        await self._helper.ask("connect", self._peer)
        self._dialled = self._clock()

    async def dial_again(self, connected: Collection[str]) -> None:
        """Dial unless the peer is connected, is being dialled by the kernel, or was a moment ago. Raises
        `BearerError`."""
        waited = self._clock() - self._dialled > REDIAL_S and self._peer not in connected
        if waited and not hci.is_connecting_to(self._adapter, self._peer, hci.LE_LINK):
            await self.dial()


class _Network:
    """The helper, the interface as it comes and goes, one socket on it, and the links."""

    def __init__(self, adapter: str, port: int, own: str, helper: HelperClient) -> None:
        ways = Ways(self.send, self._answer, lambda peer, address: peer in self._connected, self._traits_of, fault)
        self.links: NumberedLinks[str] = NumberedLinks(own, ways)
        """By IPv6 address."""
        self.is_lost = False
        self._adapter, self._port, self._own, self._helper = adapter, port, own, helper
        self._interface: Interface | None = None
        self._socket: Readiness | None = None
        self._sending = asyncio.Lock()
        self._connected: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, adapter: str, port: int) -> _Network:
        own = hci.adapter_address(adapter)
        network = cls(adapter, port, own, await HelperClient.start())
        for name, work in (("ipsp interface", network._watch()), ("ipsp peers", network._poll())):
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(network._on_end)
            network._tasks.append(task)
        return network

    async def dial(self, peer: str) -> NumberedLink[str]:
        """Raises `BearerError`; waits for ever for a peer that does not answer."""
        dialler = Dialler(self._adapter, peer, self._helper)
        await dialler.dial()

        async def call(hello: bytes) -> None:
            await dialler.dial_again(self._connected)
            with contextlib.suppress(OSError):  # there is no interface yet
                await self.send(ALL_NODES, hello)

        return await self.links.dial(peer, call)

    def is_stale(self, peer: str) -> bool:
        """Whether the kernel lists a peer to which there is no LE connection."""
        return peer in self._connected and not hci.connection_to(self._adapter, peer, hci.LE_LINK)

    async def ask_to_listen(self) -> None:
        """Raises `BearerError`."""
        await self._helper.ask("listen", self._adapter)

    async def send(self, address: str, datagram: bytes) -> None:
        """Waits for room. Raises `OSError`."""
        async with self._sending:
            while self._socket and self._interface:
                try:
                    self._socket.sock.sendto(datagram, (address, self._port, 0, self._interface.index))
                    return
                except BlockingIOError:
                    await self._socket.writable()
        raise OSError(errno.ENOLINK, os.strerror(errno.ENOLINK))

    async def close(self) -> None:
        for link in self.links:
            await link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._helper.close()

    # --- the interface

    async def _watch(self) -> None:
        async for interface in watch(self._own, self._helper):
            self._change(interface)

    def _change(self, interface: Interface | None) -> None:
        self._close_socket("its interface is gone: the connection broke, or the adapter is off")
        self._interface = interface
        if interface:
            self._socket = Readiness(udp_socket(interface, self._port))
            asyncio.get_running_loop().add_reader(self._socket.sock, self._read)

    def _close_socket(self, why: str) -> None:
        self.links.end(why)
        if self._socket:
            self._socket.close()
            self._socket = None

    async def _poll(self) -> None:
        """The kernel does not tell when one of several peers has gone."""
        while True:
            self._connected = set(await self._helper.ask("peers"))
            for link in self.links:
                if link.peer not in self._connected:
                    link.end(f"the link to {link.peer} ended: it is no longer connected")
            await asyncio.sleep(PEERS_S)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Whichever of the two ends first takes all with it."""
        self.is_lost = True
        error = None if task.cancelled() else task.exception()
        self._close_socket(str(error or "the bearer is closed"))
        self.links.stop_listening()

    # --- datagrams

    def _read(self) -> None:
        assert self._socket
        try:
            datagram, (address, *_) = self._socket.sock.recvfrom(2048)
        except OSError:  # nothing there, or an answer to what we sent that says that it was not delivered
            return
        self.links.take(datagram, address.partition("%")[0])

    def _traits_of(self, peer: str) -> Traits:
        connection = hci.connection_to(self._adapter, peer, hci.LE_LINK)
        return Traits(False, True, False, connection is not None and connection.encrypted)

    def _answer(self, address: str, datagram: bytes) -> None:
        with contextlib.suppress(OSError):
            assert self._socket
            assert self._interface
            self._socket.sock.sendto(datagram, (address, self._port, 0, self._interface.index))
