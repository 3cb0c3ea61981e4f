"""6LoWPAN's interface for whatever speaks IP (ping, CoAP): brought up, kept up, watched, taken down (RFC 7668).

`ipsp` carries a node's own datagrams on it; this carries none. One who listens lets any device connect; one who dials
does so again whenever the connection has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.ipsp import ALL_NODES, PEERS_S, Dialler
from bt_selfsecure.bearers.ipsp_kernel import HelperClient, Interface, echo_socket, watch
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
        link.close_echo()
        await helper.close()


class _Link:
    """This knows the helper, the interface as it comes and goes, and who answered on it."""

    def __init__(self, adapter: str, peer: str | None, helper: HelperClient) -> None:
        self._helper, self._adapter = helper, adapter
        self._dialler = Dialler(adapter, peer, helper) if peer else None
        self._interface: Interface | None = None
        self._echo: Readiness | None = None
        self._answered: set[str] = set()
        self._connected: tuple[str, ...] = ()

    async def watch(self, own: str) -> None:
        """Follow the interface of the adapter with this address."""
        async for interface in watch(own, self._helper):
            self.close_echo()
            self._interface = interface

    async def look(self) -> InterfaceState:
        """Dial where it is time, ask who is there, and return what is known."""
        connected = tuple(sorted(await self._helper.ask("peers")))
        if connected != self._connected:
            self._answered.clear()
            self._connected = connected
            if not self._dialler:  # a kernel that was told of a peer while it began to advertise may have stopped
                await self._helper.ask("listen", self._adapter)
        if self._dialler:
            await self._dialler.dial_again(connected)
        if self._interface is None:
            return InterfaceState(None, connected)
        self._ask_who_is_there(self._interface)
        return InterfaceState(self._interface.name, connected, tuple(sorted(self._answered)))

    def _ask_who_is_there(self, interface: Interface) -> None:
        if len(self._answered) >= len(self._connected):
            return
        try:
            if self._echo is None:
                self._echo = Readiness(echo_socket(interface))
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

    def close_echo(self) -> None:
        """Ask and hear nobody any more; the interface itself goes when the helper does."""
        self._answered.clear()
        if self._echo:
            self._echo.close()
            self._echo = None
