"""Non-blocking Bluetooth sockets in asyncio, and the two kinds of link over them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from bt_selfsecure.bearers.base import Link, LinkClosedError, Traits
from bt_selfsecure.bearers.faults import closed
from bt_selfsecure.bearers.framing import StreamReader, framed
from bt_selfsecure.bearers.limits import STREAM_DATAGRAM_BYTES

SEND_BUFFER_BYTES: Final = 8192
"""Bytes: little, so that `send` waits for the radio and not for memory."""
SOL_BLUETOOTH: Final = 274
BT_SECURITY: Final = 4
BT_FLUSHABLE: Final = 8  # include/net/bluetooth/bluetooth.h
LOW: Final = b"\x01\x00"
"""Encrypted by a key of this connection alone (no bonding): without one, two devices of today have SDP's channel alone
(Core Vol 3 Part C 5.2.2). The kernel agrees on it also where nobody may pair, and forgets it; an agent may refuse."""
MEDIUM: Final = b"\x02\x00"
"""struct bt_security: encrypted, and paired for good (general bonding)."""


def bind_raw(sock: socket.socket, address: bytes) -> None:
    """Call bind(2) with an address that Python's own can't express. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(sock.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def require_bond(sock: socket.socket) -> None:
    """Pair for good where the two have not yet. A device that is paired for one connection only bluetoothd takes for
    temporary, and disconnects half a minute after a scan has seen it (TemporaryTimeout of its main.conf)."""
    sock.setsockopt(SOL_BLUETOOTH, BT_SECURITY, MEDIUM)


def require_no_bond(sock: socket.socket) -> None:
    """Pair with nobody: the two have a key for this connection, which proves nothing."""
    sock.setsockopt(SOL_BLUETOOTH, BT_SECURITY, LOW)


class Readiness:
    """Waits for one socket; cancelling a wait loses nothing, and `close` ends every wait.

    The loop gets the descriptor: of a socket that it does not know it makes a text each time, by four system calls.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.is_closed = False
        self._descriptor: Final = sock.fileno()
        self._waits: dict[str, asyncio.Future[None]] = {}

    async def readable(self) -> None:
        loop = asyncio.get_running_loop()
        await self._wait(loop, "read", loop.add_reader, loop.remove_reader)

    async def writable(self) -> None:
        loop = asyncio.get_running_loop()
        await self._wait(loop, "write", loop.add_writer, loop.remove_writer)

    async def _wait(
        self, loop: asyncio.AbstractEventLoop, kind: str, add: Callable[..., Any], remove: Callable[..., Any]
    ) -> None:
        ready = self._waits[kind] = loop.create_future()
        add(self._descriptor, _resolve, ready)
        try:
            await ready
        finally:
            if not self.is_closed:
                remove(self._descriptor)

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._descriptor)
        loop.remove_writer(self._descriptor)
        self.sock.close()
        for ready in self._waits.values():
            _resolve(ready)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class SocketLink(Link):
    """Is what stream and packet links share.

    Its reader stays with the loop, and takes what has come as soon as it is told of it: a datagram costs one look at
    the socket. While nobody has taken what came last, the rest waits in the kernel, and the peer with it.
    """

    def __init__(self, sock: socket.socket, peer: str, mtu: int, traits: Traits) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.peer, self.mtu, self.traits = peer, mtu, traits
        self._socket = Readiness(sock)
        self._descriptor: Final = sock.fileno()
        self._sending = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._is_watched = False
        self._came = b""
        """Nobody has taken it yet."""
        self._failure: LinkClosedError | None = None
        """After `_came`."""
        self._awaited: asyncio.Future[None] | None = None

    async def close(self) -> None:
        self._end()

    def _end(self) -> None:
        self._socket.close()  # and takes its reader away
        if self._awaited:
            _resolve(self._awaited)

    async def _receive_some(self, size: int) -> bytes:
        while not self._came:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            self._require_open()
            if not self._is_watched:
                self._loop.add_reader(self._descriptor, self._take, size)
                self._is_watched = True
            self._awaited = self._loop.create_future()
            await self._awaited
        came, self._came = self._came, b""
        return came

    def _take(self, size: int) -> None:
        if self._came:
            self._loop.remove_reader(self._descriptor)
            self._is_watched = False
            return
        try:
            self._came = self._socket.sock.recv(size)
        except BlockingIOError:
            return
        except OSError as error:
            self._failure = closed(error, self.peer)
        else:
            if not self._came:
                self._failure = LinkClosedError(f"{self.peer} closed the link", transient=True)
        if self._failure is not None:
            self._end()
        elif self._awaited:
            _resolve(self._awaited)

    async def _send_some(self, data: bytes) -> int:
        while not (sent := self._send_at_once(data)):
            await self._socket.writable()
        return sent

    def _send_at_once(self, data: bytes) -> int:
        """Return how many bytes of it the kernel has taken; 0 where it has no room."""
        self._require_open()
        try:
            return self._socket.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._end()
            raise closed(error, self.peer) from error

    def _require_open(self) -> None:
        if self._socket.is_closed:
            raise LinkClosedError(f"the link to {self.peer} is closed", transient=True)


class StreamLink(SocketLink):
    """Carries datagrams on a reliable stream: RFCOMM."""

    def __init__(self, sock: socket.socket, peer: str, traits: Traits) -> None:
        super().__init__(sock, peer, STREAM_DATAGRAM_BYTES, traits)
        self._received = StreamReader()
        self._rest = b""
        """Of a datagram that `send_now` has sent in part; `send` goes on with it."""

    def send_now(self, data: bytes) -> bool:
        self._require_size(data)
        if self._rest or self._sending.locked():
            return False
        framed_data = framed(data)
        sent = self._send_at_once(framed_data)
        if sent:
            self._rest = framed_data[sent:]
        return sent == len(framed_data)

    async def send(self, data: bytes) -> None:
        self._require_size(data)
        async with self._sending:
            begun = bool(self._rest)
            rest, self._rest = self._rest or framed(data), b""
            try:
                while rest:
                    rest = rest[await self._send_some(rest) :]
                    begun = True
            except asyncio.CancelledError:
                if begun and rest:  # half a datagram would garble the stream
                    self._end()
                raise

    async def receive(self) -> bytes:
        while (datagram := self._received.next()) is None:
            self._received.feed(await self._receive_some(STREAM_DATAGRAM_BYTES))
        return datagram
