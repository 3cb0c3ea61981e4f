"""L2CAP over BR/EDR in basic mode: the bearer on which a Pi's real losses show.

A datagram is one SDU. Those that fit one baseband packet are sent flushable, so that the controller gives up on each
after the flush timeout, and the receiver sees a gap. Longer ones go as not flushable: a timeout shorter than two
packets would kill every one of them.

The kernel marks packets (BT_FLUSHABLE) but never writes the flush timeout, whose default is never (Core Vol 4 Part E
7.3.30): we do, by raw HCI, for each connection anew. That takes CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.base import Bearer, BearerError, Link, LinkClosedError, Listener, Traits
from bt_selfsecure.bearers.bluez import BlueZ
from bt_selfsecure.bearers.faults import fault, require_bluetooth_sockets
from bt_selfsecure.bearers.limits import DATAGRAM_BYTES, FLUSH_TIMEOUT_SLOTS, FLUSHABLE_BYTES, PSM
from bt_selfsecure.bearers.pairing import Pairing
from bt_selfsecure.bearers.sockets import BT_FLUSHABLE, SOL_BLUETOOTH, Readiness, SocketLink, require_bond
from bt_selfsecure.bearers.system_bus import SystemBusError

CONNECT_S: Final = 30.0
BACKLOG: Final = 4
TRAITS: Final = Traits(losses_visible=True, ordered=True, broadcast=False, link_encrypted=True)
_SOL_L2CAP: Final = 6
_L2CAP_OPTIONS: Final = 1
_OPTIONS: Final = struct.Struct("<HHHBBBxH")  # struct l2cap_options: omtu, imtu, flush_to, mode, fcs, max_tx, txwin
_BASIC: Final = 0


class L2capBearer(Bearer):
    """Listens and dials on one PSM, odd in both octets' sense of Core Vol 3 Part A 4.2."""

    name = "l2cap"
    traits = TRAITS

    def __init__(
        self,
        adapter: str,
        psm: int = PSM,
        *,
        flush_timeout_slots: int = FLUSH_TIMEOUT_SLOTS,
        pairing: Pairing | None = None,
    ) -> None:
        if not 0x1001 <= psm <= 0xFFFF or psm & 0x0101 != 1:
            raise BearerError(f"PSM {psm} can't be used: take one from 4097 on, odd, its upper octet even")
        if not 1 <= flush_timeout_slots <= 0x07FF:
            raise BearerError(f"a flush timeout of {flush_timeout_slots} slots is out of range: take 1 to 2047")
        self._adapter, self._psm, self._slots = adapter, psm, flush_timeout_slots
        self._pairing = pairing or Pairing()
        self._bluez: BlueZ | None = None
        self._preparing = asyncio.Lock()

    async def connect(self, peer: str) -> Link:
        own = await self._prepare()
        sock = self._socket()
        try:
            sock.bind((own, 0))
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(sock, (peer, self._psm))
            return await self._link(sock, peer)
        except OSError as error:  # TimeoutError is one
            sock.close()
            if self._bluez:
                await self._bluez.forget_after(error, peer)
            raise fault(error, f"no L2CAP connection to {peer}, PSM {self._psm}") from error
        except BaseException:
            sock.close()
            raise

    async def listen(self) -> Listener:
        own = await self._prepare()
        sock = self._socket()
        try:
            sock.bind((own, self._psm))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise fault(error, f"L2CAP PSM {self._psm} can't be listened on") from error
        return _PsmListener(self, sock)

    async def close(self) -> None:
        if self._bluez:
            await self._bluez.close()
            self._bluez = None

    async def _prepare(self) -> str:
        """bluetoothd, where it runs, makes us connectable and pairs. Returns the adapter's address."""
        require_bluetooth_sockets()
        async with self._preparing:
            if self._bluez is None or self._bluez.is_lost:
                self._bluez = None
                with contextlib.suppress(SystemBusError):
                    self._bluez = await BlueZ.prepare(self._adapter, self._pairing)
        return hci.adapter_address(self._adapter)

    def _socket(self) -> socket.socket:
        try:
            kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
            sock = socket.socket(socket.AF_BLUETOOTH, kind, socket.BTPROTO_L2CAP)
            sock.setsockopt(
                _SOL_L2CAP, _L2CAP_OPTIONS, _OPTIONS.pack(DATAGRAM_BYTES, DATAGRAM_BYTES, 0xFFFF, _BASIC, 0, 3, 63)
            )
            require_bond(sock)
        except OSError as error:
            raise fault(error, "no L2CAP socket") from error
        return sock

    async def _link(self, sock: socket.socket, peer: str) -> Link:
        connection = hci.connection_to(self._adapter, peer)
        if connection is None:
            raise LinkClosedError(f"the link to {peer} ended at once", transient=True)
        raw = hci.HciSocket(self._adapter)
        try:
            wanted = struct.pack("<HH", connection.handle, self._slots)
            await raw.command(hci.WRITE_AUTOMATIC_FLUSH_TIMEOUT, wanted)
            written = await raw.command(hci.READ_AUTOMATIC_FLUSH_TIMEOUT, wanted[:2])
        finally:
            raw.close()
        if written != wanted:
            raise BearerError("the controller did not keep the flush timeout: take another bearer for the losses")
        omtu = _OPTIONS.unpack(sock.getsockopt(_SOL_L2CAP, _L2CAP_OPTIONS, _OPTIONS.size))[0]
        return L2capLink(sock, peer, min(omtu, DATAGRAM_BYTES), Traits(True, True, False, connection.encrypted))


class _PsmListener(Listener):
    def __init__(self, bearer: L2capBearer, sock: socket.socket) -> None:
        self._bearer, self._socket = bearer, Readiness(sock)

    async def accept(self) -> Link:
        while not self._socket.is_closed:
            try:
                sock, (peer, *_) = self._socket.sock.accept()
            except BlockingIOError:
                await self._socket.readable()
                continue
            except OSError as error:
                raise fault(error, "the L2CAP listener ended") from error
            try:
                return await self._bearer._link(sock, peer.upper())
            except LinkClosedError:
                sock.close()
        raise BearerError("the L2CAP listener is closed", transient=True)

    async def close(self) -> None:
        self._socket.close()


class L2capLink(SocketLink):
    """Carries one datagram in each SDU."""

    def __init__(self, sock: socket.socket, peer: str, mtu: int, traits: Traits) -> None:
        super().__init__(sock, peer, mtu, traits)
        self._flushable: bool | None = None

    def send_now(self, data: bytes) -> bool:
        self._require_size(data)
        if self._sending.locked():
            return False
        self._mark(data)
        return bool(self._send_at_once(data))

    async def send(self, data: bytes) -> None:
        self._require_size(data)
        async with self._sending:
            self._mark(data)
            await self._send_some(data)

    def _mark(self, data: bytes) -> None:
        """Say whether it may be flushed: the kernel marks a packet when it takes it."""
        self._require_open()
        flushable = len(data) <= FLUSHABLE_BYTES
        if flushable is not self._flushable:
            self._socket.sock.setsockopt(SOL_BLUETOOTH, BT_FLUSHABLE, int(flushable))
            self._flushable = flushable

    async def receive(self) -> bytes:
        return await self._receive_some(DATAGRAM_BYTES)
