"""RFCOMM over BR/EDR: the default for sessions. A reliable stream; each datagram has its length before it.

Where a service listens its peers find out by SDP, or both ends are given a channel number. With SDP bluetoothd owns the
listening socket (`org.bluez.ProfileManager1`) and hands the connections over; with a number the socket is our own and
bluetoothd is not needed. Two devices with Secure Simple Pairing encrypt every RFCOMM link; pairing happens by itself
where an agent answers (`bluez_objects.PairingAgent`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.base import Bearer, BearerError, Link, Listener, Traits
from bt_selfsecure.bearers.bluez import BlueZ
from bt_selfsecure.bearers.faults import fault, require_bluetooth_sockets
from bt_selfsecure.bearers.pairing import Pairing
from bt_selfsecure.bearers.sdp import find_rfcomm_channel
from bt_selfsecure.bearers.sockets import Readiness, StreamLink, require_bond, require_no_bond
from bt_selfsecure.bearers.system_bus import SystemBusError

SERVICE_UUID: Final = "b7355ec5-0e11-4b1e-9c0e-5e1f5ec07e00"
"""Of the SDP record under which a node is found."""
CONNECT_S: Final = 30.0
BACKLOG: Final = 4
TRAITS: Final = Traits(losses_visible=False, ordered=True, broadcast=False, link_encrypted=True)


class RfcommBearer(Bearer):
    """Uses `channel`, 1 to 30; 0 finds and offers one by SDP. Without `pairing` whoever asks may pair. `is_open` talks
    to whoever calls, and leaves no bond: what travels must secure itself."""

    name = "rfcomm"
    traits = TRAITS

    def __init__(
        self, adapter: str, channel: int = 0, *, pairing: Pairing | None = None, is_open: bool = False
    ) -> None:
        if not 0 <= channel <= 30:
            raise BearerError(f"there is no RFCOMM channel {channel}: take 1 to 30, or none to use SDP")
        self._adapter, self._channel, self._pairing = adapter, channel, pairing or Pairing()
        self._is_open = is_open
        self._bluez: BlueZ | None = None
        self._without_bus = ""
        """Why bluetoothd could not be asked."""
        self._preparing = asyncio.Lock()

    async def connect(self, peer: str) -> Link:
        bluez = None if self._is_open else await self._agent()
        own = hci.adapter_address(self._adapter)
        channel = self._channel or await find_rfcomm_channel(own, peer, SERVICE_UUID)
        sock = _socket(peer, self._is_open)
        try:
            sock.bind((own, 0))
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(sock, (peer, channel))
        except OSError as error:  # TimeoutError is one
            sock.close()
            if bluez:
                await bluez.forget_after(error, peer)
            raise fault(error, f"no RFCOMM connection to {peer}, channel {channel}") from error
        except BaseException:
            sock.close()
            raise
        return self._link(sock, peer)

    async def listen(self) -> Listener:
        bluez = await self._agent()
        if self._channel:
            return _ChannelListener(self)
        if self._without_bus:
            raise BearerError(f"{self._without_bus}; or name a channel, as in rfcomm#3", transient=True)
        if bluez is None:
            raise BearerError("bluetoothd is needed to offer RFCOMM by SDP: start it, or name a channel as in rfcomm#3")
        return await _ProfileListener.start(self, bluez)

    async def close(self) -> None:
        if self._bluez:
            await self._bluez.close()
            self._bluez = None

    async def _agent(self) -> BlueZ | None:
        """Our connection to bluetoothd; None where it does not run, or can't be asked."""
        require_bluetooth_sockets()
        async with self._preparing:
            if self._bluez is None or self._bluez.is_lost:
                self._bluez, self._without_bus = None, ""
                try:
                    self._bluez = await BlueZ.prepare(self._adapter, self._pairing)
                except SystemBusError as error:
                    self._without_bus = str(error)
            return self._bluez

    def _link(self, sock: socket.socket, peer: str) -> Link:
        connection = None
        with contextlib.suppress(BearerError):
            connection = hci.connection_to(self._adapter, peer)
        encrypted = connection is not None and connection.encrypted
        return StreamLink(sock, peer, Traits(False, True, False, encrypted))


def _socket(what: str, is_open: bool) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_BLUETOOTH, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.BTPROTO_RFCOMM)
        if is_open:
            require_no_bond(sock)
        else:
            require_bond(sock)
    except OSError as error:
        raise fault(error, f"no RFCOMM to {what}") from error
    return sock


class _ChannelListener(Listener):
    """A socket of our own on a fixed channel."""

    def __init__(self, bearer: RfcommBearer) -> None:
        self._bearer = bearer
        own = hci.adapter_address(bearer._adapter)
        sock = _socket("anybody", bearer._is_open)
        try:
            sock.bind((own, bearer._channel))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise fault(error, f"RFCOMM channel {bearer._channel} can't be listened on") from error
        self._socket = Readiness(sock)

    async def accept(self) -> Link:
        while not self._socket.is_closed:
            try:
                sock, (peer, _) = self._socket.sock.accept()
            except BlockingIOError:
                await self._socket.readable()
            except OSError as error:
                raise fault(error, "the RFCOMM listener ended") from error
            else:
                return self._bearer._link(sock, peer.upper())
        raise BearerError("the RFCOMM listener is closed")

    async def close(self) -> None:
        self._socket.close()


class _ProfileListener(Listener):
    """bluetoothd listens, and hands connections over."""

    def __init__(self, bearer: RfcommBearer, bluez: BlueZ) -> None:
        self._bearer, self._bluez = bearer, bluez
        self._connections: asyncio.Queue[socket.socket | None] = asyncio.Queue()

    @classmethod
    async def start(cls, bearer: RfcommBearer, bluez: BlueZ) -> _ProfileListener:
        listener = cls(bearer, bluez)
        await bluez.register_profile(SERVICE_UUID, "bt-selfsecure", listener._on_connection)
        bluez.on_lost(listener._end)
        return listener

    def _on_connection(self, sock: socket.socket) -> None:
        if self._connections.qsize() < BACKLOG:
            self._connections.put_nowait(sock)
        else:
            sock.close()

    def _end(self) -> None:
        self._connections.put_nowait(None)

    async def accept(self) -> Link:
        while (sock := await self._connections.get()) is not None:
            try:
                peer, _ = sock.getpeername()
            except OSError:  # it hung up at once
                sock.close()
                continue
            return self._bearer._link(sock, peer.upper())
        self._end()
        raise BearerError("bluetoothd is gone, and with it the RFCOMM listener", transient=True)

    async def close(self) -> None:
        await self._bluez.unregister_profile()
        self._end()
