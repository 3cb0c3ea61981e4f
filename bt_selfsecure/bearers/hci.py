"""The kernel's raw HCI channel: commands to the controller, and its events, beside bluetoothd (Core Vol 4 Part E).

    command  | 1 | opcode (2) | length | parameters |

Events (`hci_events`) are seen by every raw socket, whoever's command they answer. Sending takes CAP_NET_RAW.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.faults import fault, require_bluetooth_sockets
from bt_selfsecure.bearers.hci_events import answered, parse_event
from bt_selfsecure.bearers.sockets import Readiness, bind_raw

# Opcodes: OGF << 10 | OCF.
WRITE_AUTOMATIC_FLUSH_TIMEOUT: Final = 0x0C28
READ_AUTOMATIC_FLUSH_TIMEOUT: Final = 0x0C27
LE_SET_RANDOM_ADDRESS: Final = 0x2005
LE_SET_ADVERTISING_PARAMETERS: Final = 0x2006
LE_SET_ADVERTISING_DATA: Final = 0x2008
LE_SET_ADVERTISING_ENABLE: Final = 0x200A
LE_SET_SCAN_PARAMETERS: Final = 0x200B
LE_SET_SCAN_ENABLE: Final = 0x200C

COMMAND_DISALLOWED: Final = 0x0C  # Core Vol 1 Part F 1.3

ADAPTERS: Final = Path("/sys/class/bluetooth")
COMMAND_S: Final = 5.0
MAX_EVENT_BYTES: Final = 260
_SOL_HCI: Final = 0
_HCI_FILTER: Final = 2
_EVENTS_ONLY: Final = struct.pack("<IIIH2x", 1 << 4, 0xFFFFFFFF, 0xFFFFFFFF, 0)
_RAW_CHANNEL: Final = 0
_NO_ADAPTER: Final = 0xFFFF  # HCI_DEV_NONE
_STACK_INTERNAL: Final = 0xFD
_DEVICE_EVENT: Final = struct.Struct("<HHH")  # struct hci_ev_stack_internal with struct hci_ev_si_device
_DEVICE: Final = 1
_DOWN: Final = 4  # HCI_DEV_DOWN
_HCIGETDEVINFO: Final = 0x800448D3
_HCIGETCONNINFO: Final = 0x800448D5
_ADAPTER_INFO: Final = struct.Struct("<H8s6sI72x")  # struct hci_dev_info
_UP: Final = 1  # HCI_UP of its flags
_CONNECTION_INFO: Final = struct.Struct("<6sBxH6sBBHI")  # struct hci_conn_info_req with one hci_conn_info
_CONNECTED: Final = 1  # BT_CONNECTED
_CLOSED: Final = 9  # BT_CLOSED
ACL_LINK: Final = 0x01
LE_LINK: Final = 0x80
_ENCRYPTED: Final = 0x0004  # HCI_LM_ENCRYPT


class HciError(BearerError):
    """The controller refused a command."""

    def __init__(self, opcode: int, status: int) -> None:
        super().__init__(f"the controller refused command 0x{opcode:04x} with status 0x{status:02x}")
        self.status = status


class Connection(NamedTuple):
    """Holds what the kernel knows of a connection."""

    handle: int
    encrypted: bool


def adapter_number(adapter: str) -> int:
    """Return an adapter's number, of hci0 0. Raises `BearerError` for a name of another form."""
    number = adapter.removeprefix("hci")
    if adapter == number or not number.isdecimal() or int(number) >= _NO_ADAPTER:
        raise BearerError(f"{adapter!r} is no adapter: take a name as in hci0 (bluetoothctl list)")
    return int(number)


def _open(adapter: str, number: int | None = None) -> socket.socket:
    require_bluetooth_sockets()
    number = adapter_number(adapter) if number is None else number
    try:
        sock = socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.BTPROTO_HCI)
    except OSError as error:
        raise fault(error, f"{adapter} can't be opened") from error
    try:
        bind_raw(sock, struct.pack("<HHH", socket.AF_BLUETOOTH, number, _RAW_CHANNEL))
    except OSError as error:
        sock.close()
        raise fault(error, f"{adapter} can't be opened") from error
    return sock


def adapter_address(adapter: str) -> str:
    """Return the adapter's own device address. Raises `BearerError` where there is no such adapter or it is down."""
    require_bluetooth_sockets()
    request = array.array("B", _ADAPTER_INFO.pack(adapter_number(adapter), b"", bytes(6), 0))
    try:
        with socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW, socket.BTPROTO_HCI) as sock:
            fcntl.ioctl(sock.fileno(), _HCIGETDEVINFO, request, True)
        _, _, address, flags = _ADAPTER_INFO.unpack(request.tobytes())
        if not flags & _UP:
            raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
    except OSError as error:
        raise fault(error, f"{adapter} can't be used") from error
    return ":".join(f"{octet:02X}" for octet in address[::-1])


def adapter_addresses() -> dict[str, str]:
    """Return the device address of each adapter of this computer by its name, on or off; empty where there is no
    Bluetooth."""
    found = {}
    with contextlib.suppress(OSError, BearerError):
        require_bluetooth_sockets()
        with socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW, socket.BTPROTO_HCI) as sock:
            for number in sorted(int(path.name[3:]) for path in ADAPTERS.glob("hci*") if path.name[3:].isdecimal()):
                request = array.array("B", _ADAPTER_INFO.pack(number, b"", bytes(6), 0))
                with contextlib.suppress(OSError):  # it went while we looked
                    fcntl.ioctl(sock.fileno(), _HCIGETDEVINFO, request, True)
                    address = _ADAPTER_INFO.unpack(request.tobytes())[2]
                    found[f"hci{number}"] = address[::-1].hex(":").upper()
    return found


def connection_to(adapter: str, peer: str, link_type: int = ACL_LINK) -> Connection | None:
    """Return the connection to this peer, if there is one. Raises `BearerError` where the adapter can't be asked."""
    handle, state, mode = _connection_info(adapter, peer, link_type)
    return Connection(handle, bool(mode & _ENCRYPTED)) if state == _CONNECTED else None


def is_connecting_to(adapter: str, peer: str, link_type: int = ACL_LINK) -> bool:
    """Return whether the kernel is still trying. Raises `BearerError` where the adapter can't be asked."""
    _, state, _ = _connection_info(adapter, peer, link_type)
    return state not in (_CLOSED, _CONNECTED)


def _connection_info(adapter: str, peer: str, link_type: int) -> tuple[int, int, int]:
    """Handle, state and link mode, as the kernel has them."""
    with _open(adapter) as sock:
        wanted = bytes.fromhex(peer.replace(":", ""))[::-1]
        request = array.array("B", _CONNECTION_INFO.pack(wanted, link_type, 0, bytes(6), 0, 0, 0, 0))
        try:
            fcntl.ioctl(sock.fileno(), _HCIGETCONNINFO, request, True)
        except OSError:
            return 0, _CLOSED, 0
    _, _, handle, _, _, _, state, mode = _CONNECTION_INFO.unpack(request.tobytes())
    return handle, state, mode


class HciSocket:
    """Is one raw socket on one adapter. `on_event(code, parameters)` gets every event but the answers to our own
    commands.

    Use it in one event loop; `close` ends it. Raises `BearerError` where the adapter can't be opened.
    """

    def __init__(self, adapter: str, on_event: Callable[[int, bytes], None] | None = None) -> None:
        self._adapter = adapter
        self._on_event = on_event
        sock = _open(adapter)
        self._socket = Readiness(sock)
        try:
            watching = _open(adapter, _NO_ADAPTER)
        except BearerError:
            sock.close()
            raise
        self._watching = Readiness(watching)
        """The kernel tells sockets of no adapter when one goes down."""
        for each in (sock, watching):
            each.setsockopt(_SOL_HCI, _HCI_FILTER, _EVENTS_ONLY)
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._turn = asyncio.Lock()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the adapter is gone or down."""
        asyncio.get_running_loop().add_reader(sock, self._read)
        asyncio.get_running_loop().add_reader(watching, self._watch)

    async def command(self, opcode: int, parameters: bytes = b"") -> bytes:
        """Send a command and return its return parameters after the status. Raises `HciError`; `BearerError` where
        there is no answer, the adapter is gone or we may not."""
        async with self._turn:
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._answers[opcode] = answer
            try:
                self._send(opcode, parameters)
                async with asyncio.timeout(COMMAND_S):
                    returned = await answer
            except OSError as error:  # TimeoutError is one
                raise fault(error, f"{self._adapter} did not take a command") from error
            finally:
                del self._answers[opcode]
        if returned[:1] != b"\0":
            raise HciError(opcode, returned[0] if returned else 0xFF)
        return returned[1:]

    def tell(self, opcode: int, parameters: bytes) -> None:
        """Send a command whose answer nobody waits for: the kernel passes it on after those before it, also when this
        socket is closed meanwhile."""
        with contextlib.suppress(OSError):
            self._send(opcode, parameters)

    def _send(self, opcode: int, parameters: bytes) -> None:
        self._socket.sock.send(struct.pack("<BHB", 1, opcode, len(parameters)) + parameters)

    def close(self) -> None:
        self._socket.close()
        self._watching.close()
        if not self.lost.done():
            self.lost.set_result(None)

    def _read(self) -> None:
        """All that is there: a program that is busy between two rounds of the loop would else fall behind, and the
        kernel drops what does not fit the socket's buffer."""
        while not self._socket.is_closed:
            try:
                packet = self._socket.sock.recv(MAX_EVENT_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(error)
                return
            if not packet:
                self._fail(OSError(errno.ENODEV, os.strerror(errno.ENODEV)))
                return
            self._take(packet)

    def _take(self, packet: bytes) -> None:
        event = parse_event(packet)
        if event is None:
            return
        code, parameters = event
        opcode, returned = answered(code, parameters)
        answer = self._answers.get(opcode) if opcode else None
        if answer and not answer.done():
            answer.set_result(returned)
        elif self._on_event:
            self._on_event(code, parameters)

    def _watch(self) -> None:
        try:
            packet = self._watching.sock.recv(MAX_EVENT_BYTES)
        except OSError:
            return
        code, parameters = parse_event(packet) or (0, b"")
        if code == _STACK_INTERNAL and parameters == _DEVICE_EVENT.pack(_DEVICE, _DOWN, adapter_number(self._adapter)):
            self._fail(OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN)))

    def _fail(self, error: OSError) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        self.close()
