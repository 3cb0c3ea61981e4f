"""Capture files, read as they come: pcap, pcapng and btsnoop, from a file, a FIFO or standard input.

pcap and pcapng: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap, -pcapng. btsnoop: the snoop format of RFC 1761
with Bluetooth's own data links and a clock in microseconds since the year 0.

A file is as good as what came before its first fault: reading ends there, and the fault is counted.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from bt_selfsecure.air.capture import LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.sources.linktypes import ACL, BLUETOOTH_LINUX_MONITOR, COMMAND, EVENT

CHUNK: Final = 1 << 18
MAX_PACKET_BYTES: Final = 1 << 18
"""What Wireshark takes for the greatest packet of any link type but a few, none of them Bluetooth's."""
MAX_BLOCK_BYTES: Final = 1 << 24
"""Of a pcapng block, as in Wireshark."""
CUT_SHORT: Final = "the file ends in the middle of a packet"
DAMAGED: Final = "the rest of the file is damaged"

Record = tuple[float, int, bytes]
"""Time in seconds, link type, packet."""


class Readable(Protocol):
    """An unbuffered binary file: `read` gives what is there, b"" at the end."""

    def read(self, size: int, /) -> bytes | None: ...


Container = Callable[[Readable, bytes, Counter[str]], Iterator[Record]]


def recognise(file: Readable) -> tuple[Container, bytes]:
    """Which container it is, and the bytes that were read to find out. Raises `UsageError` for any other."""
    start = fill(file, b"", 8)
    if not start:
        raise UsageError("is empty")
    if start[:4] == _SECTION:
        return pcapng, start
    if start[:8] == _BTSNOOP:
        return btsnoop, start
    if start[:4] in _PCAP:
        return pcap, start
    raise UsageError("is no capture that can be read: give pcap, pcapng or btsnoop")


def fill(file: Readable, have: bytes, need: int) -> bytes:
    """`have` and at least as much as is missing to `need` bytes; fewer only at the end."""
    if len(have) >= need:
        return have
    parts, size = [have], len(have)
    while size < need and (more := file.read(CHUNK)):
        parts.append(more)
        size += len(more)
    return b"".join(parts)


# --- pcap -------------------------------------------------------------------------------------------------------------

_PCAP: Final = {  # magic number to byte order and fractions of a second
    b"\xd4\xc3\xb2\xa1": ("<", 1e6),
    b"\xa1\xb2\xc3\xd4": (">", 1e6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e9),
    b"\xa1\xb2\x3c\x4d": (">", 1e9),
}
_PCAP_HEAD_BYTES: Final = 24


def pcap(file: Readable, start: bytes, faults: Counter[str]) -> Iterator[Record]:
    """The packets of a pcap file that begins with `start`."""
    buffer = fill(file, start, _PCAP_HEAD_BYTES)
    order, fractions = _PCAP[buffer[:4]]
    if len(buffer) < _PCAP_HEAD_BYTES:
        faults[CUT_SHORT] += 1
        return
    linktype = struct.unpack_from(order + "I", buffer, 20)[0] & 0xFFFF  # above are the FCS's length and reserved bits
    head, at = struct.Struct(order + "IIII"), _PCAP_HEAD_BYTES
    while True:
        if len(buffer) < at + 16:
            buffer, at = fill(file, buffer[at:], 16), 0
            if len(buffer) < 16:
                faults.update([CUT_SHORT] if buffer else [])
                return
        seconds, fraction, size, _ = head.unpack_from(buffer, at)
        if size > MAX_PACKET_BYTES:
            faults[DAMAGED] += 1
            return
        end = at + 16 + size
        if len(buffer) < end:
            buffer, at, end = fill(file, buffer[at:], end - at), 0, end - at
            if len(buffer) < end:
                faults[CUT_SHORT] += 1
                return
        yield seconds + fraction / fractions, linktype, buffer[at + 16 : end]
        at = end


# --- pcapng -----------------------------------------------------------------------------------------------------------

_SECTION: Final = b"\x0a\x0d\x0d\x0a"
_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_SECTION_BLOCK, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_OPT_END, _IF_TSRESOL, _IF_TSOFFSET = 0, 9, 14
_LEAST: Final = {_SECTION_BLOCK: 28, _INTERFACE: 20, _OLD_PACKET: 32, _SIMPLE_PACKET: 16, _PACKET: 32}


class _Section:
    """What the blocks of one section share: the byte order, and the interfaces declared so far."""

    def __init__(self, order: str) -> None:
        self._order: Final = order
        self.head: Final = struct.Struct(order + "II")
        self.packet: Final = struct.Struct(order + "IIIII")
        self._old: Final = struct.Struct(order + "HHIII")
        self._interface: Final = struct.Struct(order + "HHI")
        self._option: Final = struct.Struct(order + "HH")
        self.interfaces: list[tuple[int, float, int]] = []
        """Link type, ticks of a second, and seconds to be added."""
        self._snap: list[int] = []

    def add_interface(self, block: bytes) -> None:
        """Take an interface description block."""
        linktype, _, snap = self._interface.unpack_from(block, 8)
        ticks, offset, at = 1e6, 0, 16
        while at + 4 <= len(block) - 4:
            code, size = self._option.unpack_from(block, at)
            value = block[at + 4 : at + 4 + size]
            if code == _IF_TSRESOL and size == 1:
                ticks = float(2 ** (value[0] & 127) if value[0] & 128 else 10 ** value[0])
            elif code == _IF_TSOFFSET and size == 8:
                offset = struct.unpack(self._order + "q", value)[0]
            elif code == _OPT_END:
                break
            at += 4 + (size + 3 & ~3)
        self.interfaces.append((linktype, ticks, offset))
        self._snap.append(snap or MAX_PACKET_BYTES)

    def rare(self, kind: int, block: bytes) -> tuple[int, int, bytes] | None:
        """Interface, time in ticks and packet of a block of one of the two old kinds; None if it is damaged."""
        if not self.interfaces:
            return None
        if kind == _SIMPLE_PACKET:
            size = min(self.head.unpack_from(block, 8)[0], self._snap[0])
            interface, stamp, at = 0, 0, 12
        else:
            interface, _, high, low, size = self._old.unpack_from(block, 8)
            stamp, at = high << 32 | low, 28
        if interface >= len(self.interfaces) or at + size > len(block) - 4:
            return None
        return interface, stamp, block[at : at + size]


def pcapng(file: Readable, start: bytes, faults: Counter[str]) -> Iterator[Record]:
    """The packets of a pcapng file that begins with `start`: all its sections, interfaces and link types."""
    buffer, at = start, 0
    section: _Section | None = None
    while True:
        if len(buffer) < at + 12:
            buffer, at = fill(file, buffer[at:], 12), 0
            if len(buffer) < 12:
                faults.update([CUT_SHORT] if buffer else [])
                return
        if buffer[at : at + 4] == _SECTION:
            order = _ORDERS.get(buffer[at + 8 : at + 12])
            section = _Section(order) if order else None
        if section is None:
            faults[DAMAGED] += 1
            return
        kind, size = section.head.unpack_from(buffer, at)
        if size < _LEAST.get(kind, 12) or size & 3 or size > MAX_BLOCK_BYTES:
            faults[DAMAGED] += 1
            return
        end = at + size
        if len(buffer) < end:
            buffer, at, end = fill(file, buffer[at:], size), 0, size
            if len(buffer) < end:
                faults[CUT_SHORT] += 1
                return
        if kind == _PACKET:
            interface, high, low, length, _ = section.packet.unpack_from(buffer, at + 8)
            if length > size - 32 or interface >= len(section.interfaces):
                faults[DAMAGED] += 1
                return
            linktype, ticks, offset = section.interfaces[interface]
            yield (high << 32 | low) / ticks + offset, linktype, buffer[at + 28 : at + 28 + length]
        elif kind == _INTERFACE:
            section.add_interface(buffer[at:end])
        elif kind in (_OLD_PACKET, _SIMPLE_PACKET):
            found = section.rare(kind, buffer[at:end])
            if found is None:
                faults[DAMAGED] += 1
                return
            linktype, ticks, offset = section.interfaces[found[0]]
            yield found[1] / ticks + offset, linktype, found[2]
        at = end


# --- btsnoop ----------------------------------------------------------------------------------------------------------

_BTSNOOP: Final = b"btsnoop\0"
_BTSNOOP_HEAD_BYTES: Final = 16
_BTSNOOP_EPOCH: Final = 0x00DCDDB30F2F8000
"""Microseconds from the first day of the year 0 to 1970."""
_RECORD: Final = struct.Struct(">IIIIq")
_HCI_H1, _HCI_H4, _MONITOR = 1001, 1002, 2001  # data links
_RECEIVED, _COMMAND_OR_EVENT = 1, 2  # flags


def btsnoop(file: Readable, start: bytes, faults: Counter[str]) -> Iterator[Record]:
    """The packets of a btsnoop file that begins with `start`, as link type 201 (HCI) or 254 (monitor).

    Raises `UsageError` for a data link that has no such form.
    """
    buffer = fill(file, start, _BTSNOOP_HEAD_BYTES)
    if len(buffer) < _BTSNOOP_HEAD_BYTES:
        faults[CUT_SHORT] += 1
        return
    version, datalink = struct.unpack_from(">II", buffer, 8)
    if version != 1 or datalink not in (_HCI_H1, _HCI_H4, _MONITOR):
        raise UsageError(f"is btsnoop version {version} of data link {datalink}: give version 1 of 1001, 1002 or 2001")
    linktype = BLUETOOTH_LINUX_MONITOR if datalink == _MONITOR else LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR
    at = _BTSNOOP_HEAD_BYTES
    while True:
        if len(buffer) < at + _RECORD.size:
            buffer, at = fill(file, buffer[at:], _RECORD.size), 0
            if len(buffer) < _RECORD.size:
                faults.update([CUT_SHORT] if buffer else [])
                return
        _, size, flags, _, stamp = _RECORD.unpack_from(buffer, at)
        if size > MAX_PACKET_BYTES:
            faults[DAMAGED] += 1
            return
        end = at + _RECORD.size + size
        if len(buffer) < end:
            buffer, at, end = fill(file, buffer[at:], end - at), 0, end - at
            if len(buffer) < end:
                faults[CUT_SHORT] += 1
                return
        packet = _btsnoop_head(datalink, flags) + buffer[at + _RECORD.size : end]
        yield (stamp - _BTSNOOP_EPOCH) / 1e6, linktype, packet
        at = end


def _btsnoop_head(datalink: int, flags: int) -> bytes:
    """What stands before the packet in link type 254 or 201."""
    if datalink == _MONITOR:
        return struct.pack(">HH", flags >> 16, flags & 0xFFFF)
    direction = struct.pack(">I", flags & _RECEIVED)
    if datalink == _HCI_H4:
        return direction
    if flags & _COMMAND_OR_EVENT:
        return direction + bytes([EVENT if flags & _RECEIVED else COMMAND])
    return direction + bytes([ACL])
