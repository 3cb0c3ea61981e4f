"""What `ipsp` uses of the system: the privileged helper, the IP interface as rtnetlink tells of it, a socket on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.faults import fault
from bt_selfsecure.isolated import FOLDER, python_module

log = logging.getLogger(__name__)

HELPER_SOCKET: Final = Path("/run/bt-selfsecure-ipsp/helper.sock")
"""Where systemd starts the helper for those who are not root."""
HELPER_S: Final = 60.0
"""For an answer, and for its end; both take it two seconds at most, the kernel permitting, but it has to start first,
and to load a module, on a computer that may be busy."""
SEND_BUFFER_BYTES: Final = 1
"""The kernel makes its minimum of it, two long datagrams: `send` waits for the radio and not for memory, and the queue
stays too short for CoDel (Raspberry Pi OS has it) to drop from: it keeps its hands off the last MTU of bytes."""
ARPHRD_6LOWPAN: Final = 825  # include/uapi/linux/if_arp.h
_LINK_SCOPE: Final = 253
_TENTATIVE: Final = 0x40  # IFA_F_TENTATIVE
_LINK_AND_IPV6_ADDRESS: Final = 0x1 | 0x100  # RTMGRP_LINK | RTMGRP_IPV6_IFADDR


class HelperClient:
    """Holds a conversation with `ipsp_helper`: with systemd's, or, as root, with one of our own."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, process: Process | None = None
    ) -> None:
        self._reader, self._writer, self._process = reader, writer, process
        self._turn = asyncio.Lock()
        self._owed = 0
        """Answers that are still to come, also to those who have not waited for theirs."""

    @classmethod
    async def start(cls) -> HelperClient:
        """Raises `BearerError` where neither is to be had."""
        with contextlib.suppress(OSError):
            return cls(*await asyncio.open_unix_connection(HELPER_SOCKET))
        if os.geteuid():
            raise BearerError("IPSP takes root: systemctl enable --now bt-selfsecure-ipsp.socket, or run this as root")
        process = await asyncio.create_subprocess_exec(
            *python_module("bt_selfsecure.bearers.ipsp_helper"),
            cwd=FOLDER,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C is for us; it ends when its input does
        )
        assert process.stdout
        assert process.stdin
        return cls(process.stdout, process.stdin, process)

    async def ask(self, *words: str) -> list[str]:
        """Return what follows "ok". Raises `BearerError`."""
        doing = f"IPSP can't {' '.join(words)}"
        async with self._turn:
            try:
                async with asyncio.timeout(HELPER_S):
                    self._writer.write(f"{' '.join(words)}\n".encode())
                    self._owed += 1
                    await self._writer.drain()
                    while self._owed:
                        answer = (await self._reader.readline()).decode().split()
                        self._owed -= 1
            except TimeoutError as error:
                raise BearerError(
                    f"{doing}: its helper has not answered in {HELPER_S:.0f} s", transient=True
                ) from error
            except OSError as error:
                raise fault(error, doing) from error
        match answer:
            case ["ok", *what]:
                return what
            case ["error", number]:
                raise fault(OSError(int(number), os.strerror(int(number))), doing)
        raise BearerError(f"{doing}: its helper has ended; see journalctl -u bt-selfsecure-ipsp@*", transient=True)

    async def close(self) -> None:
        """It undoes what it did."""
        self._writer.close()
        if self._process:
            try:
                async with asyncio.timeout(HELPER_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


@dataclass(frozen=True, slots=True)
class Interface:
    """Describes 6LoWPAN's interface, up and with a link-local address."""

    index: int
    name: str


async def watch(address: str, helper: HelperClient) -> AsyncIterator[Interface | None]:
    """Yield the IP interface of the adapter with this device address as soon as there is one, then whenever it has
    changed; None when it has gone, or its address. The helper makes each new one fit for packets to one address.
    Raises OSError, and pyroute2's NetlinkError."""
    from pyroute2 import AsyncIPRoute

    last = None
    async with AsyncIPRoute() as events, AsyncIPRoute() as route:
        await events.bind(groups=_LINK_AND_IPV6_ADDRESS)
        while True:
            interface = await _find(route, address)
            if interface != last:
                if interface:
                    await _keep_routes(helper, interface)
                last = interface
                yield interface
            async for _ in events.get():  # ends with what came together
                pass


async def _keep_routes(helper: HelperClient, interface: Interface) -> None:
    """What goes to all passes without it, so a link may do."""
    try:
        await helper.ask("keep-routes", interface.name)
    except BearerError as error:
        log.warning("%s: what is sent to one address over %s may be lost", error, interface.name)


async def _find(route: Any, address: str) -> Interface | None:
    with_address = {
        message["index"]
        async for message in await route.get_addr(family=socket.AF_INET6)
        if message["scope"] == _LINK_SCOPE and not message["flags"] & _TENTATIVE
    }
    async for link in await route.get_links():
        ours = link["ifi_type"] == ARPHRD_6LOWPAN and (link.get("address") or "").upper() == address
        if ours and link["index"] in with_address:
            return Interface(link["index"], link.get("ifname"))
    return None


def udp_socket(interface: Interface, port: int) -> socket.socket:
    """Hears nothing but what comes by this interface. Raises OSError."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        _confine(sock, interface)
        sock.bind(("::", port, 0, 0))
    except OSError:
        sock.close()
        raise
    return sock


def echo_socket(interface: Interface) -> socket.socket:
    """Return a socket for ICMPv6 echo on this interface: the kernel's for everyone, or root's. Raises OSError."""
    family, nonblocking = socket.AF_INET6, socket.SOCK_NONBLOCK
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | nonblocking, socket.IPPROTO_ICMPV6)
    except PermissionError:
        sock = socket.socket(family, socket.SOCK_RAW | nonblocking, socket.IPPROTO_ICMPV6)
    try:
        _confine(sock, interface)
    except OSError:
        sock.close()
        raise
    return sock


def _confine(sock: socket.socket, interface: Interface) -> None:
    """Let it send and hear by this interface alone, and not itself. Raises OSError."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.name.encode())
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
