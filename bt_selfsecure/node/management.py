"""Speaks the kernel's Bluetooth management interface on the HCI control channel (BlueZ doc/mgmt-api.txt).

Reading needs no privilege, changing needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from bt_selfsecure.bearers.faults import require_bluetooth_sockets
from bt_selfsecure.bearers.sockets import bind_raw
from bt_selfsecure.errors import BtSelfSecureError

ANSWER_S: Final = 15.0
"""For a command: the kernel itself gives up on a silent controller after ten seconds."""
NO_INDEX: Final = 0xFFFF
CONTROL_CHANNEL: Final = 3
_HEADER: Final = struct.Struct("<HHH")
_INFO: Final = struct.Struct("<6sBHII")


class Opcode(enum.IntEnum):
    """Names the commands that we send, as in mgmt-api.txt."""

    READ_INFO = 0x0004
    SET_POWERED = 0x0005
    READ_DEFAULT_SYSTEM_CONFIGURATION = 0x004B


class Event(enum.IntEnum):
    """Names the events that we tell apart, as in mgmt-api.txt; the first two answer a command."""

    COMMAND_COMPLETE = 0x0001
    COMMAND_STATUS = 0x0002
    INDEX_REMOVED = 0x0005
    NEW_SETTINGS = 0x0006


class ManagementStatus(enum.IntEnum):
    """Names the statuses of a command that we tell apart, as in mgmt-api.txt."""

    SUCCESS = 0x00
    INVALID_INDEX = 0x11
    RFKILLED = 0x12
    PERMISSION_DENIED = 0x14


class AdapterSetting(enum.IntFlag):
    """Names the bits of Supported_Settings and Current_Settings that we look at, as in mgmt-api.txt."""

    POWERED = 1 << 0
    SSP = 1 << 6
    BREDR = 1 << 7
    LE = 1 << 9
    SECURE_CONNECTIONS = 1 << 11


class ManagementError(BtSelfSecureError):
    """The kernel has answered a command with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"management status 0x{status:02x}")
        self.status = status


class AdapterInfo(NamedTuple):
    """Holds what Read Controller Information says of an adapter."""

    address: str
    bluetooth_version: int
    """HCI_Version of the Assigned Numbers: 6 is 4.0, 9 is 5.0."""
    supported: AdapterSetting
    current: AdapterSetting


class Management:
    """Sends commands and awaits their answers, and hands events on."""

    def __init__(self, on_event: Callable[[int, int, bytes], None] = lambda event, index, parameters: None) -> None:
        """`on_event` gets code, index and parameters. Raises OSError or `BearerError` without Bluetooth."""
        self._socket = _open()
        self._on_event = on_event
        self._answers: dict[tuple[int, int], asyncio.Future[bytes]] = {}
        self._reader = asyncio.create_task(self._read(), name="bluetooth management")

    async def close(self) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._reader
        self._socket.close()

    async def command(self, opcode: Opcode, index: int, parameters: bytes = b"") -> bytes:
        """Send a command, and return its return parameters, as bytes. Raises `ManagementError`, OSError, and
        TimeoutError where no answer comes."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[opcode, index] = answer
        try:
            self._socket.send(_HEADER.pack(opcode, index, len(parameters)) + parameters)
            async with asyncio.timeout(ANSWER_S):
                return await answer
        finally:
            self._answers.pop((opcode, index), None)

    async def info(self, index: int) -> AdapterInfo | None:
        """Return what the kernel says of the adapter; None where there is no such one. Raises as `command` does."""
        try:
            answer = await self.command(Opcode.READ_INFO, index)
        except ManagementError as error:
            if error.status == ManagementStatus.INVALID_INDEX:
                return None
            raise
        return parse_info(answer)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            packet = await loop.sock_recv(self._socket, 4096)
            event, index, _ = _HEADER.unpack_from(packet)
            if event not in (Event.COMMAND_COMPLETE, Event.COMMAND_STATUS):
                self._on_event(event, index, packet[_HEADER.size :])
                continue
            opcode, status = struct.unpack_from("<HB", packet, _HEADER.size)
            answer = self._answers.get((opcode, index))
            if answer is None or answer.done():
                continue
            if status == ManagementStatus.SUCCESS:
                answer.set_result(packet[_HEADER.size + 3 :])
            else:
                answer.set_exception(ManagementError(status))


def parse_info(answer: bytes) -> AdapterInfo:
    """Read the return parameters of Read Controller Information."""
    address, version, _, supported, current = _INFO.unpack_from(answer)
    return AdapterInfo(
        ":".join(f"{octet:02X}" for octet in reversed(address)),
        version,
        AdapterSetting(supported),
        AdapterSetting(current),
    )


def parse_configuration(answer: bytes) -> dict[int, bytes]:
    """Read the return parameters of Read Default System Configuration, TLVs of `<HB` and the value; return each value
    by its type."""
    values = {}
    while len(answer) >= 3:
        kind, size = struct.unpack_from("<HB", answer)
        values[kind], answer = answer[3 : 3 + size], answer[3 + size :]
    return values


def _open() -> socket.socket:
    require_bluetooth_sockets()
    control = socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.BTPROTO_HCI)
    try:
        bind_raw(control, _HEADER.pack(socket.AF_BLUETOOTH, NO_INDEX, CONTROL_CHANNEL))
    except OSError:
        control.close()
        raise
    return control
