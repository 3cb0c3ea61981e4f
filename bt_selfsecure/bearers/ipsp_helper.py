"""The part of `ipsp` that needs root: the kernel's 6LoWPAN files in debugfs, and a connectable advertisement.

    python -m bt_selfsecure.bearers.ipsp_helper       reads standard input, answers on standard output, line by line

    listen ADAPTER        ok                 peers may connect: the kernel listens, the adapter (hci0) advertises
    connect ADDRESS       ok                 dials; the interface comes when the peer has answered
    peers                 ok ADDRESS...      those connected
    keep-routes bt0       ok                 what goes to one address arrives, with any kernel (the last of these)
    whatever fails        error ERRNO

When its input ends it undoes what it did, and nothing of others'. It never unloads the module, and writes one word at a
time, also when several helpers run: the kernel's code has races there.

What net/bluetooth/6lowpan.c needs to be told carefully:

    a public address is type 1 for "connect" and type 0 for "disconnect"
    "connect" to a peer that is connected makes a second channel; so it is looked up first
    "disconnect" of what is being disconnected forgets the channel and keeps the peer in its list for ever; so it is
    written once, however often the peer was dialled
    "connect" closes the kernel's listener; writing 1 to 6lowpan_enable again opens it
    what closes after 0 was written to 6lowpan_enable stays in its list for ever; so that waits for the last peer
    words that it does not know it takes without complaint; so only these two are ever written
    whom a packet is for, it notes where since Linux 6.8 each queue before the interface writes something else, so that
    what goes to one address (not to all) is lost; it would look again if the packet still had its route, which the
    kernel takes from it unless a filter that reads routes was ever set on this interface. So one is set, and removed
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import platform
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from bt_selfsecure.bearers.sockets import bind_raw
from bt_selfsecure.errors import BtSelfSecureError

FOLDER: Final = Path("/sys/kernel/debug/bluetooth")
CONNECT_PUBLIC: Final = 1
DISCONNECT_PUBLIC: Final = 0
LONGEST_LINE_BYTES: Final = 100
PATIENCE_S: Final = 2.0
"""Seconds for what the kernel does later than it is told to."""
_ADDRESS: Final = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}")
_ADAPTER: Final = re.compile(r"hci(\d{1,3})")
_INTERFACE: Final = re.compile(r"bt\d{1,3}")
_PEER: Final = re.compile(r"([0-9a-f]{2}(?::[0-9a-f]{2}){5}) \(type \d+\)", re.IGNORECASE)

# The kernel's management interface (BlueZ doc/mgmt-api.txt), whose advertisements outlast a connection.
ADD_ADVERTISING: Final = 0x003E
REMOVE_ADVERTISING: Final = 0x003F
INSTANCE: Final = 5
"""The last that the kernel has for adapters with legacy advertising; bluetoothd takes the first free one."""
CONNECTABLE: Final = 1
IPSS: Final = b"\x03\x03\x20\x18"
"""Advertising data: the UUID of the Internet Protocol Support Service, 0x1820 (IPSP 1.0)."""
_TAKES_ROUTES: Final = (6, 8)
_QUEUE: Final = 0x10000
"""Its handle in traffic control, 1:0."""
_ROOT: Final = 0xFFFFFFFF  # TC_H_ROOT
_CONTROL_CHANNEL: Final = 3
_NO_INDEX: Final = 0xFFFF
_COMMAND_COMPLETE: Final = 1
_COMMAND_STATUS: Final = 2
_MANAGEMENT_S: Final = 10.0


class HelperError(BtSelfSecureError):
    """The request can't be met; its number is an errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Helper:
    """Obeys the requests; `undo` puts back what they changed."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._enable, self._control = folder / "6lowpan_enable", folder / "6lowpan_control"
        self._was_enabled: str | None = None
        self._dialled: set[str] = set()
        self._advertising: int | None = None

    def obey(self, line: str) -> str:
        """Do what one request says and return the answer to it."""
        try:
            match line.split():
                case ["listen", adapter]:
                    self._listen(_number(adapter))
                    return "ok"
                case ["connect", address]:
                    self._connect(_checked(address))
                    return "ok"
                case ["peers"]:
                    return " ".join(["ok", *self._peers()])
                case ["keep-routes", interface]:
                    _keep_routes(interface)
                    return "ok"
            raise HelperError(errno.EINVAL)
        except HelperError as refused:
            return f"error {refused.number}"
        except OSError as error:
            return f"error {error.errno or errno.EIO}"

    def undo(self) -> None:
        """Take back at the end what was done; what fails of it is gone already."""
        if self._advertising is not None:
            with contextlib.suppress(OSError, HelperError):
                _manage(REMOVE_ADVERTISING, self._advertising, bytes([INSTANCE]))
        with contextlib.suppress(OSError):
            for address in self._dialled & set(self._peers()):
                self._write(self._control, f"disconnect {address} {DISCONNECT_PUBLIC}")
        until = time.monotonic() + PATIENCE_S
        with contextlib.suppress(OSError):
            while self._peers() and time.monotonic() < until:
                time.sleep(0.1)
            if self._was_enabled == "0" and not self._peers():
                self._write(self._enable, "0")

    def _listen(self, adapter: int) -> None:
        self._turn_on()
        parameters = struct.pack("<BIHHBB", INSTANCE, CONNECTABLE, 0, 0, len(IPSS), 0) + IPSS
        _manage(ADD_ADVERTISING, adapter, parameters)
        self._advertising = adapter

    def _connect(self, address: str) -> None:
        self._turn_on()
        if address not in self._peers():
            self._write(self._control, f"connect {address} {CONNECT_PUBLIC}")
            self._dialled.add(address)
            self._write(self._enable, "1")  # the listener again

    def _peers(self) -> list[str]:
        if not self._control.exists():
            return []
        return [address.upper() for address in _PEER.findall(self._control.read_text())]

    def _turn_on(self) -> None:
        if not self._enable.exists():
            loaded = subprocess.run(["modprobe", "bluetooth_6lowpan"], capture_output=True, check=False)
            if loaded.returncode or not self._enable.exists():
                raise HelperError(errno.EPROTONOSUPPORT)
        if self._was_enabled is None:
            self._was_enabled = self._enable.read_text().strip()
        self._write(self._enable, "1")
        until = time.monotonic() + PATIENCE_S
        while self._enable.read_text().strip() != "1":  # the kernel's worker does it
            if time.monotonic() > until:
                raise HelperError(errno.ETIMEDOUT)
            time.sleep(0.02)

    def _write(self, file: Path, word: str) -> None:
        with self._turn(), file.open("w") as opened:
            opened.write(word)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with self._control.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _checked(address: str) -> str:
    if not _ADDRESS.fullmatch(address):
        raise HelperError(errno.EINVAL)
    return address


def _number(adapter: str) -> int:
    found = _ADAPTER.fullmatch(adapter)
    if found is None:
        raise HelperError(errno.EINVAL)
    return int(found[1])


def _kernel() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", platform.release())[:2]))


def _keep_routes(interface: str) -> None:
    """Raises `HelperError`: where the interface has gone, the kernel has no such filter, or somebody has set a queue
    of his own, which stays."""
    if not _INTERFACE.fullmatch(interface):
        raise HelperError(errno.EINVAL)
    if _kernel() < _TAKES_ROUTES:
        return
    from pyroute2 import IPRoute, NetlinkError

    try:
        index = socket.if_nametoindex(interface)
    except OSError as error:  # without a number
        raise HelperError(errno.ENODEV) from error
    with IPRoute() as route:
        try:
            route.tc("add", "fq_codel", index, handle=_QUEUE)  # of all that take filters most systems have it
            try:
                key = {"mode": "map", "key": "dst", "baseclass": _QUEUE + 1}
                route.tc("add-filter", "flow", index, parent=_QUEUE, handle=1, **key)
            finally:
                route.tc("del", index=index, parent=_ROOT)
        except NetlinkError as error:
            raise HelperError(error.code) from error


def _manage(opcode: int, adapter: int, parameters: bytes) -> None:
    """One command of the management interface. Raises `HelperError`, `OSError`."""
    with socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW, socket.BTPROTO_HCI) as control:
        bind_raw(control, struct.pack("<HHH", socket.AF_BLUETOOTH, _NO_INDEX, _CONTROL_CHANNEL))
        control.settimeout(_MANAGEMENT_S)
        control.send(struct.pack("<HHH", opcode, adapter, len(parameters)) + parameters)
        while True:
            packet = control.recv(1024)
            if len(packet) < 9:
                continue
            event, index, _, answered, status = struct.unpack_from("<HHHHB", packet)
            if event in (_COMMAND_COMPLETE, _COMMAND_STATUS) and (index, answered) == (adapter, opcode):
                if status:
                    raise HelperError(errno.EHOSTUNREACH)
                return


def serve(requests: TextIO, answers: TextIO, helper: Helper) -> None:
    """Obey until the requests end."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        while line := requests.readline(LONGEST_LINE_BYTES):
            answers.write(helper.obey(line) + "\n")
            answers.flush()
    except BrokenPipeError:  # who asked is gone
        pass
    finally:
        helper.undo()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout, Helper())
