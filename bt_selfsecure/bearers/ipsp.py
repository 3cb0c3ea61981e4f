"""EXPERIMENTAL: UDP over 6LoWPAN over LE connections (Internet Protocol Support Profile, RFC 7668).

Linux brings the IP interface up (bt0, by the module bluetooth_6lowpan). This bearer has it dialled and listened for by
a privileged helper (`ipsp_helper`), finds the peer on it, and tells links apart by a number before each datagram:

    HELLO     1 | link (4) | address wanted (6) | own address (6)      to ff02::1, until WELCOME or DATA comes
    WELCOME   2 | link (4) | own address (6)
    DATA      3 | link (4) | datagram
    END       4 | link (4)

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
import os
import secrets
from typing import Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.base import Bearer, BearerError, Link, Listener, Traits
from bt_selfsecure.bearers.faults import fault
from bt_selfsecure.bearers.ipsp_datagrams import HEAD_BYTES, Data, End, Hello, Welcome, pack, parse
from bt_selfsecure.bearers.ipsp_kernel import HelperClient, Interface, udp_socket, watch
from bt_selfsecure.bearers.queued import QueuedLink
from bt_selfsecure.bearers.sockets import Readiness

PORT: Final = 5700
"""Default, UDP; 5683 is CoAP's."""
MTU: Final = 1280 - 40 - 8 - HEAD_BYTES
"""What an IPv6 packet of the minimum MTU (RFC 8200 5) leaves."""
CONNECT_SECONDS: Final = 30.0
HELLO_SECONDS: Final = 0.5
REDIAL_SECONDS: Final = 4.0
PEERS_SECONDS: Final = 1.0
"""Between two looks at who is connected."""
BACKLOG: Final = 4
ENDS: Final = 3
"""An END may get lost like anything, so it is sent as often."""
ALL_NODES: Final = "ff02::1"
TRAITS: Final = Traits(losses_visible=False, ordered=True, broadcast=False, link_encrypted=False)


class IpspBearer(Bearer):
    """On one UDP port. It needs the helper, pyroute2 and the kernel's module bluetooth_6lowpan."""

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
                async with asyncio.timeout(CONNECT_SECONDS):
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
            return await (await self._up()).listen()

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


class IpspLink(QueuedLink):
    """Made by `IpspBearer`."""

    def __init__(self, network: _Network, peer: str, place: tuple[str, int], traits: Traits) -> None:
        super().__init__()
        self.peer, self.mtu, self.traits = peer, MTU, traits
        self._network = network
        self._place = place
        """The peer's IPv6 address, and the link's number."""

    async def send(self, data: bytes) -> None:
        self._require_size(data)
        self._require_open()
        address, number = self._place
        try:
            await self._network.send(address, pack(Data(number, data)))
        except OSError as error:
            self.end(str(fault(error, f"the link to {self.peer} ended")))
            self._require_open()

    async def close(self) -> None:
        if not self._ended:
            self.end(f"the link to {self.peer} is closed")
            address, number = self._place
            for _ in range(ENDS):
                with contextlib.suppress(OSError):
                    await self._network.send(address, pack(End(number)))

    def end(self, why: str) -> None:
        super().end(why)
        self._network.links.pop(self._place, None)


class _IpspListener(Listener):
    def __init__(self, network: _Network) -> None:
        self._network = network
        self.links: asyncio.Queue[IpspLink | None] = asyncio.Queue()

    async def accept(self) -> Link:
        link = await self.links.get()
        if link is None:
            self.links.put_nowait(None)
            raise BearerError("the IPSP listener is closed, or its adapter gone", transient=True)
        return link

    async def close(self) -> None:
        if self._network.listener is self:
            self._network.listener = None
        self.links.put_nowait(None)


class _Network:
    """The helper, the interface as it comes and goes, one socket on it, and the links."""

    def __init__(self, adapter: str, port: int, own: str, helper: HelperClient) -> None:
        self.links: dict[tuple[str, int], IpspLink] = {}
        self.listener: _IpspListener | None = None
        self.is_lost = False
        self._adapter, self._port, self._own, self._helper = adapter, port, own, helper
        self._interface: Interface | None = None
        self._socket: Readiness | None = None
        self._sending = asyncio.Lock()
        self._connected: set[str] = set()
        self._dialled: dict[int, tuple[str, asyncio.Future[IpspLink]]] = {}
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

    async def dial(self, peer: str) -> IpspLink:
        """Raises `BearerError`; waits for ever for a peer that does not answer."""
        await self._helper.ask("connect", peer)
        clock = asyncio.get_running_loop().time
        dialled = clock()
        number = secrets.randbits(32)
        welcome: asyncio.Future[IpspLink] = asyncio.get_running_loop().create_future()
        self._dialled[number] = peer, welcome
        try:
            while not welcome.done():
                waited = clock() - dialled > REDIAL_SECONDS and peer not in self._connected
                if waited and not hci.is_connecting_to(self._adapter, peer, hci.LE_LINK):
                    # It did not listen, or the connection broke at once: the kernel does not try again.
                    await self._helper.ask("connect", peer)
                    dialled = clock()
                with contextlib.suppress(OSError):  # there is no interface yet
                    await self.send(ALL_NODES, pack(Hello(number, peer, self._own)))
                await asyncio.wait((welcome,), timeout=HELLO_SECONDS)
            return welcome.result()
        except BaseException:
            if welcome.done() and not welcome.cancelled():
                await welcome.result().close()
            raise
        finally:
            del self._dialled[number]

    def is_stale(self, peer: str) -> bool:
        """Whether the kernel lists a peer to which there is no LE connection."""
        return peer in self._connected and not hci.connection_to(self._adapter, peer, hci.LE_LINK)

    async def listen(self) -> _IpspListener:
        if self.listener:
            raise BearerError("ipsp is listened on already: close the other listener first")
        await self._helper.ask("listen", self._adapter)
        self.listener = _IpspListener(self)
        return self.listener

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
        for link in list(self.links.values()):
            await link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._helper.close()

    # --- the interface

    async def _watch(self) -> None:
        async for interface in watch(self._own):
            self._change(interface)

    def _change(self, interface: Interface | None) -> None:
        if interface == self._interface:
            return
        self._close_socket("its interface is gone: the connection broke, or the adapter is off")
        self._interface = interface
        if interface:
            self._socket = Readiness(udp_socket(interface, self._port))
            asyncio.get_running_loop().add_reader(self._socket.sock, self._read)

    def _close_socket(self, why: str) -> None:
        for link in list(self.links.values()):
            link.end(f"the link to {link.peer} ended: {why}")
        if self._socket:
            self._socket.close()
            self._socket = None

    async def _poll(self) -> None:
        """The kernel does not tell when one of several peers has gone."""
        while True:
            self._connected = set(await self._helper.ask("peers"))
            for link in list(self.links.values()):
                if link.peer not in self._connected:
                    link.end(f"the link to {link.peer} ended: it is no longer connected")
            await asyncio.sleep(PEERS_SECONDS)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Whichever of the two ends first takes all with it."""
        self.is_lost = True
        error = None if task.cancelled() else task.exception()
        self._close_socket(str(error or "the bearer is closed"))
        if self.listener:
            self.listener.links.put_nowait(None)
            self.listener = None

    # --- datagrams

    def _read(self) -> None:
        assert self._socket
        try:
            datagram, (address, *_) = self._socket.sock.recvfrom(2048)
        except OSError:  # nothing there, or an answer to what we sent that says that it was not delivered
            return
        address = address.partition("%")[0]
        match parse(datagram):
            case Hello(number, wanted, peer) if wanted == self._own and peer in self._connected:
                self._on_hello(peer, (address, number))
            case Welcome(number, peer) if number in self._dialled and peer == self._dialled[number][0]:
                self._granted(address, number)
            case Data(number, data):
                if number in self._dialled:  # its WELCOME was lost
                    self._granted(address, number)
                if link := self.links.get((address, number)):
                    link.hear(data)
                else:
                    self._answer(address, End(number))
            case End(number):
                if link := self.links.get((address, number)):
                    link.end(f"{link.peer} closed the link")

    def _on_hello(self, peer: str, place: tuple[str, int]) -> None:
        if place not in self.links:
            if self.listener is None or self.listener.links.qsize() >= BACKLOG:
                return
            self.listener.links.put_nowait(self._link(peer, place))
        self._answer(place[0], Welcome(place[1], self._own))

    def _granted(self, address: str, number: int) -> None:
        peer, welcome = self._dialled[number]
        if not welcome.done():
            welcome.set_result(self._link(peer, (address, number)))

    def _link(self, peer: str, place: tuple[str, int]) -> IpspLink:
        connection = hci.connection_to(self._adapter, peer, hci.LE_LINK)
        traits = Traits(False, True, False, connection is not None and connection.encrypted)
        link = self.links[place] = IpspLink(self, peer, place, traits)
        return link

    def _answer(self, address: str, frame: Welcome | End) -> None:
        """Where there is no room for it, it is asked for again."""
        with contextlib.suppress(OSError):
            assert self._socket
            assert self._interface
            self._socket.sock.sendto(pack(frame), (address, self._port, 0, self._interface.index))
