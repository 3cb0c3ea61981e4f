"""What this computer's own radio hears, live: the kernel's monitor channel, with the LE scanner switched on.

    opcode (2) | adapter (2) | length (2) | packet      little-endian: include/net/bluetooth/hci_mon.h

An onboard radio hears advertisements, and what goes to or from this computer. It hears no connection between others,
nor an advertisement whose CRC is wrong, and of three copies on three channels one at most: the scanner takes each in
turn. bluetoothd's own discovery may end ours, so don't discover at the same time. Needs CAP_NET_RAW and CAP_NET_ADMIN.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.faults import fault, require_bluetooth_sockets
from bt_selfsecure.bearers.le_advert import SCAN_UNITS
from bt_selfsecure.bearers.sockets import bind_raw
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.sources.linktypes import BLUETOOTH_LINUX_MONITOR, monitor
from bt_selfsecure.eve.sources.packet import CapturedPacket, Source

_MONITOR_CHANNEL: Final = 2
_ALL_ADAPTERS: Final = 0xFFFF
_HEAD: Final = struct.Struct("<HHH")
_GONE: Final = (1, 9)  # opcodes: index deleted, index closed
_PASSIVE: Final = struct.pack("<BHHBB", 0, SCAN_UNITS, SCAN_UNITS, 0, 0)
_MOST: Final = 1 << 16


class Monitored(Source):
    """Gives the packets of one adapter on an open monitor channel, whose every datagram is one. Closes the socket."""

    def __init__(self, adapter: str, monitoring: socket.socket) -> None:
        super().__init__()
        self._adapter: Final = adapter
        self._number: Final = hci.adapter_number(adapter)
        self._socket: Final = monitoring

    def __iter__(self) -> Iterator[CapturedPacket]:
        while packet := self._socket.recv(_MOST):
            if len(packet) < _HEAD.size:
                continue
            opcode, number, length = _HEAD.unpack_from(packet)
            if number != self._number or length != len(packet) - _HEAD.size:
                continue
            self.linktypes[BLUETOOTH_LINUX_MONITOR] += 1
            yield monitor(time.time(), opcode, packet[_HEAD.size :])
            if opcode in _GONE:
                raise UsageError(f"{self._adapter} is gone or was switched off: bluetoothctl power on, and begin again")

    def close(self) -> None:
        self._socket.close()


class Overheard(Monitored):
    """Listens to an adapter as it is: what its host says and hears, and what somebody else's scanner brings."""

    def __init__(self, adapter: str) -> None:
        try:
            super().__init__(adapter, _open_monitor())
        except BearerError as refused:
            raise UsageError(str(refused)) from refused


class LiveScan(Monitored):
    """Scans with an adapter as long as this is open. Raises `UsageError` where it can't, or is gone."""

    def __init__(self, adapter: str) -> None:
        try:
            super().__init__(adapter, _open_monitor())
            try:
                asyncio.run(_scan(adapter))
            except BearerError:
                super().close()
                raise
        except BearerError as refused:
            raise UsageError(str(refused)) from refused

    def close(self) -> None:
        super().close()
        with contextlib.suppress(BearerError):  # gone, and its scanner with it
            asyncio.run(_stop_scanning(self._adapter))


def _open_monitor() -> socket.socket:
    require_bluetooth_sockets()
    try:
        monitoring = socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW, socket.BTPROTO_HCI)
    except OSError as error:
        raise fault(error, "the monitor channel can't be opened") from error
    try:
        bind_raw(monitoring, struct.pack("<HHH", socket.AF_BLUETOOTH, _ALL_ADAPTERS, _MONITOR_CHANNEL))
    except OSError as error:
        monitoring.close()
        raise fault(error, "the monitor channel can't be opened") from error
    return monitoring


async def _scan(adapter: str) -> None:
    """Passive, all the time, every repetition reported."""
    controller = hci.HciSocket(adapter)
    try:
        with contextlib.suppress(hci.HciError):
            await controller.command(hci.LE_SET_SCAN_ENABLE, b"\0\0")  # parameters can't be set while it is on
        await controller.command(hci.LE_SET_SCAN_PARAMETERS, _PASSIVE)
        await controller.command(hci.LE_SET_SCAN_ENABLE, b"\1\0")
    finally:
        controller.close()


async def _stop_scanning(adapter: str) -> None:
    controller = hci.HciSocket(adapter)
    try:
        await controller.command(hci.LE_SET_SCAN_ENABLE, b"\0\0")
    finally:
        controller.close()
