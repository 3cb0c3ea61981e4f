"""6LoWPAN's interface for whatever speaks IP (ping, CoAP): brought up, kept up, watched, taken down (RFC 7668).

`ipsp` carries a node's own datagrams on it; this carries none. One who listens lets any device connect; one who dials
does so again whenever the connection has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.ipsp import ALL_NODES, PEERS_S, REDIAL_S
from bt_selfsecure.bearers.ipsp_kernel import HelperClient, Interface, watch
from bt_selfsecure.bearers.sockets import Readiness

ECHO_REQUEST: Final = 128  # RFC 4443 4.1
ECHO_REPLY: Final = 129
_ECHO: Final = struct.Struct("!BBHHH")


@dataclass(frozen=True)
class InterfaceState:
    """This says how the interface is now."""

    interface: str | None
    """The interface's name as in bt0; None while there is none, or it has no address yet."""
    connected: tuple[str, ...] = ()
    """Device addresses of the peers that are connected, sorted."""
    answered: tuple[str, ...] = ()
    """IPv6 addresses that answered on it, each with the interface as in fe80::1%bt0, sorted. None is computed from a
    device address: kernels disagree about that."""


async def keep_up(adapter: str, peer: str | None) -> AsyncGenerator[InterfaceState, None]:
    """Yield the link's state whenever it has changed, for ever; closing the iterator takes the link down.

    With a peer's device address it dials, else it listens. Raises `BearerError`, which says what is missing.
    """
    own = hci.adapter_address(adapter)
    helper = await HelperClient.start()
    link = _Link(adapter, peer, helper)
    watching = asyncio.create_task(link.watch(own), name="6LoWPAN interface")
    try:
        await helper.ask("listen", adapter)
        last = None
        while True:
            state = await link.look()
            if state != last:
                yield state
                last = state
            await asyncio.wait([watching], timeout=PEERS_S)
            if watching.done():
                watching.result()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        link.close()
        await helper.close()


class _Link:
    """This knows the helper, the interface as it comes and goes, and who answered on it."""

    def __init__(self, adapter: str, peer: str | None, helper: HelperClient) -> None:
        self._adapter, self._peer, self._helper = adapter, peer, helper
        self._interface: Interface | None = None
        self._echo: Readiness | None = None
        self._answered: set[str] = set()
        self._connected: tuple[str, ...] = ()
        self._dialled = -REDIAL_S

    async def watch(self, own: str) -> None:
        """Follow the interface of the adapter with this address."""
        async for interface in watch(own):
            if interface != self._interface:
                self._close_echo()
                self._interface = interface

    async def look(self) -> InterfaceState:
        """Dial where it is time, ask who is there, and return what is known."""
        connected = tuple(sorted(await self._helper.ask("peers")))
        if connected != self._connected:
            self._answered.clear()
            self._connected = connected
        await self._dial_again()
        if self._interface is None:
            return InterfaceState(None, connected)
        self._ask_who_is_there(self._interface)
        return InterfaceState(self._interface.name, connected, tuple(sorted(self._answered)))

    async def _dial_again(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._peer is None or self._peer in self._connected or now - self._dialled < REDIAL_S:
            return
        if not hci.is_connecting_to(self._adapter, self._peer, hci.LE_LINK):
            await self._helper.ask("connect", self._peer)
            self._dialled = now

    def _ask_who_is_there(self, interface: Interface) -> None:
        if len(self._answered) >= len(self._connected):
            return
        try:
            if self._echo is None:
                self._echo = Readiness(_echo_socket(interface))
                asyncio.get_running_loop().add_reader(self._echo.sock, self._read_echo, interface)
            request = _ECHO.pack(ECHO_REQUEST, 0, 0, os.getpid() & 0xFFFF, 0)  # the kernel fills in the checksum
            self._echo.sock.sendto(request, (ALL_NODES, 0, 0, interface.index))
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                raise BearerError(
                    "may not send ICMPv6 echo: run this as root, or let everyone: "
                    "sysctl net.ipv4.ping_group_range='0 2147483647'"
                ) from error

    def _read_echo(self, interface: Interface) -> None:
        assert self._echo
        with contextlib.suppress(OSError):
            message, (address, *_) = self._echo.sock.recvfrom(2048)
            if message[:1] == bytes([ECHO_REPLY]):
                self._answered.add(f"{address.partition('%')[0]}%{interface.name}")

    def _close_echo(self) -> None:
        self._answered.clear()
        if self._echo:
            self._echo.close()
            self._echo = None

    def close(self) -> None:
        """Close the socket; the interface goes when the helper does."""
        self._close_echo()


def _echo_socket(interface: Interface) -> socket.socket:
    """Return a socket for ICMPv6 echo on this interface: the kernel's for everyone, or root's. Raises OSError."""
    family, nonblocking = socket.AF_INET6, socket.SOCK_NONBLOCK
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | nonblocking, socket.IPPROTO_ICMPV6)
    except PermissionError:
        sock = socket.socket(family, socket.SOCK_RAW | nonblocking, socket.IPPROTO_ICMPV6)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.name.encode())
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    except OSError:
        sock.close()
        raise
    return sock
