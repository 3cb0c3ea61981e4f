"""Capture files, read as they come: pcap, pcapng, btsnoop and PacketLogger, from a file, a FIFO or standard input.

pcap and pcapng: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap, -pcapng. Modified pcap, of Kuznetsov's patches
to libpcap: https://wiki.wireshark.org/Development/LibpcapFileFormat. btsnoop: the snoop format of RFC 1761 with
Bluetooth's own data links and a clock in microseconds since the year 0. PacketLogger, Apple's, has no specification:
it is read as Wireshark and BTstack do.

A file is as good as what came before its first fault: reading ends there, and the fault is counted.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from bt_selfsecure.air.capture import LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.sources.compressed import Readable, Unpacked, is_compressed
from bt_selfsecure.eve.sources.linktypes import ACL, BLUETOOTH_LINUX_MONITOR, COMMAND, EVENT, SCO
from bt_selfsecure.eve.sources.packet import CUT_SHORT, DAMAGED

CHUNK_BYTES: Final = 1 << 18
_LEAST_BYTES: Final = 8
"""That tell every container but one."""
MAX_PACKET_BYTES: Final = 1 << 18
"""What Wireshark takes for the greatest packet of any link type but a few, none of them Bluetooth's."""
MAX_BLOCK_BYTES: Final = 1 << 24
"""Of a pcapng block, as in Wireshark."""
MAX_INTERFACES: Final = 1 << 12
"""Of a pcapng section: one for each link type and sniffer: far more than anybody has."""

Record = tuple[float, int, bytes, bool]
"""Time in seconds, link type, packet, and whether that is all of it: false where the snap length cut it."""


def recognise(file: Readable, faults: Counter[str]) -> Iterator[Record]:
    """Return the packets of a capture file of whatever container, compressed or not, up to its end or its first fault.

    Raises `UsageError` for any other file.
    """
    start = fill(file, b"", _LEAST_BYTES)
    if is_compressed(start):
        file = Unpacked(file, start, faults)
        start = fill(file, b"", _LEAST_BYTES)
    if not start:
        if faults:  # which say why
            return iter(())
        raise UsageError("is empty")
    if start[:4] == _SECTION:
        return pcapng(file, start, faults)
    if start[:8] == _BTSNOOP:
        return btsnoop(file, start, faults)
    if start[:4] in _PCAP:
        return pcap(file, start, faults)
    start = fill(file, start, _PACKETLOGGER_LEAST)
    if (order := _packetlogger_order(start)) is not None:
        return packetlogger(file, start, faults, order)
    raise UsageError(
        "is no capture that can be read: give pcap, pcapng, btsnoop or PacketLogger (.pklg), also in .gz or .zst"
    )


def fill(file: Readable, have: bytes, need: int) -> bytes:
    """Return `have` and at least as much as is missing to `need` bytes; fewer only at the end."""
    if len(have) >= need:
        return have
    parts, size = [have], len(have)
    while size < need and (more := file.read(CHUNK_BYTES)):
        parts.append(more)
        size += len(more)
    return b"".join(parts)


def _records(
    file: Readable, buffer: bytes, at: int, head: struct.Struct, size: int, faults: Counter[str], counted: int = 0
) -> Iterator[tuple[tuple[Any, ...], bytes]]:
    """Heads, and what is behind each: as many bytes as its field `size` says, less `counted` of the head itself."""
    while True:
        if len(buffer) < at + head.size:
            buffer, at = fill(file, buffer[at:], head.size), 0
            if len(buffer) < head.size:
                faults.update([CUT_SHORT] if buffer and not faults[CUT_SHORT] else [])
                return
        fields = head.unpack_from(buffer, at)
        octets = fields[size] - counted
        if not 0 <= octets <= MAX_PACKET_BYTES:
            faults[DAMAGED] += 1
            return
        at += head.size
        if len(buffer) < at + octets:
            buffer, at = fill(file, buffer[at:], octets), 0
            if len(buffer) < octets:
                faults[CUT_SHORT] = 1
                return
        yield fields, buffer[at : at + octets]
        at += octets


# --- pcap -------------------------------------------------------------------------------------------------------------

_HEAD, _MODIFIED_HEAD = "IIII", "IIIIIHBx"  # behind the latter's sizes: interface, protocol, type of packet
_PCAP: Final = {  # magic number to byte order, fractions of a second, and head of a packet
    b"\xd4\xc3\xb2\xa1": ("<", 1e6, _HEAD),
    b"\xa1\xb2\xc3\xd4": (">", 1e6, _HEAD),
    b"\x4d\x3c\xb2\xa1": ("<", 1e9, _HEAD),
    b"\xa1\xb2\x3c\x4d": (">", 1e9, _HEAD),
    b"\x34\xcd\xb2\xa1": ("<", 1e6, _MODIFIED_HEAD),
    b"\xa1\xb2\xcd\x34": (">", 1e6, _MODIFIED_HEAD),
}
_PCAP_HEAD_BYTES: Final = 24


def pcap(file: Readable, start: bytes, faults: Counter[str]) -> Iterator[Record]:
    """Yield the packets of a pcap file that begins with `start`."""
    buffer = fill(file, start, _PCAP_HEAD_BYTES)
    order, fractions, head = _PCAP[buffer[:4]]
    if len(buffer) < _PCAP_HEAD_BYTES:
        faults[CUT_SHORT] = 1
        return
    linktype = struct.unpack_from(order + "I", buffer, 20)[0] & 0xFFFF  # above are the FCS's length and reserved bits
    records = _records(file, buffer, _PCAP_HEAD_BYTES, struct.Struct(order + head), 2, faults)
    for (seconds, fraction, size, sent, *_), packet in records:
        yield seconds + fraction / fractions, linktype, packet, size >= sent


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
        self.total: Final = struct.Struct(order + "I")
        self.packet: Final = struct.Struct(order + "IIIII")
        self._old: Final = struct.Struct(order + "HHIIII")
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

    def rare(self, kind: int, block: bytes) -> Record | None:
        """The packet in a block of one of the two old kinds; None if it is damaged."""
        if not self.interfaces:
            return None
        if kind == _SIMPLE_PACKET:
            sent = self.head.unpack_from(block, 8)[0]
            interface, stamp, at, size = 0, 0, 12, min(sent, self._snap[0])
        else:
            interface, _, high, low, size, sent = self._old.unpack_from(block, 8)
            stamp, at = high << 32 | low, 28
        if interface >= len(self.interfaces) or at + size > len(block) - 4:
            return None
        linktype, ticks, offset = self.interfaces[interface]
        return stamp / ticks + offset, linktype, block[at : at + size], size >= sent


def pcapng(file: Readable, start: bytes, faults: Counter[str]) -> Iterator[Record]:
    """Yield the packets of a pcapng file that begins with `start`: all its sections, interfaces and link types."""
    buffer, at = start, 0
    section: _Section | None = None
    while True:
        if len(buffer) < at + 12:
            buffer, at = fill(file, buffer[at:], 12), 0
            if len(buffer) < 12:
                faults.update([CUT_SHORT] if buffer and not faults[CUT_SHORT] else [])
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
                faults[CUT_SHORT] = 1
                return
        if section.total.unpack_from(buffer, end - 4)[0] != size:  # it stands at both ends of a block
            faults[DAMAGED] += 1
            return
        if kind == _PACKET:
            interface, high, low, length, sent = section.packet.unpack_from(buffer, at + 8)
            if length > size - 32 or interface >= len(section.interfaces):
                faults[DAMAGED] += 1
                return
            linktype, ticks, offset = section.interfaces[interface]
            yield (high << 32 | low) / ticks + offset, linktype, buffer[at + 28 : at + 28 + length], length >= sent
        elif kind == _INTERFACE:
            if len(section.interfaces) >= MAX_INTERFACES:
                faults[DAMAGED] += 1
                return
            section.add_interface(buffer[at:end])
        elif kind in (_OLD_PACKET, _SIMPLE_PACKET):
            found = section.rare(kind, buffer[at:end])
            if found is None:
                faults[DAMAGED] += 1
                return
            yield found
        at = end


# --- btsnoop ----------------------------------------------------------------------------------------------------------

_BTSNOOP: Final = b"btsnoop\0"
_BTSNOOP_HEAD_BYTES: Final = 16
_BTSNOOP_EPOCH_US: Final = 0x00DCDDB30F2F8000
"""Microseconds from the first day of the year 0 to 1970."""
_RECORD: Final = struct.Struct(">IIIIq")
_HCI_H1, _HCI_H4, _MONITOR = 1001, 1002, 2001  # data links
_RECEIVED, _COMMAND_OR_EVENT = 1, 2  # flags


def btsnoop(file: Readable, start: bytes, faults: Counter[str]) -> Iterator[Record]:
    """Yield the packets of a btsnoop file that begins with `start`, as link type 201 (HCI) or 254 (monitor).

    Raises `UsageError` for a data link that has no such form.
    """
    buffer = fill(file, start, _BTSNOOP_HEAD_BYTES)
    if len(buffer) < _BTSNOOP_HEAD_BYTES:
        faults[CUT_SHORT] = 1
        return
    version, datalink = struct.unpack_from(">II", buffer, 8)
    if version != 1 or datalink not in (_HCI_H1, _HCI_H4, _MONITOR):
        raise UsageError(f"is btsnoop version {version} of data link {datalink}: give version 1 of 1001, 1002 or 2001")
    linktype = BLUETOOTH_LINUX_MONITOR if datalink == _MONITOR else LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR
    records = _records(file, buffer, _BTSNOOP_HEAD_BYTES, _RECORD, 1, faults)
    for (sent, size, flags, _, stamp), packet in records:
        time = (stamp - _BTSNOOP_EPOCH_US) / 1e6
        yield time, linktype, _btsnoop_head(datalink, flags) + packet, size >= sent


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


# --- PacketLogger -----------------------------------------------------------------------------------------------------

_LOGGED: Final = "IIIB"  # bytes behind this field, seconds, microseconds, type
_LOGGED_COUNTED_BYTES: Final = 9
"""Bytes of the head that its first field counts: the time and the type."""
_PACKETLOGGER_LEAST: Final = 13
_LOGGED_TYPES: Final = {  # to direction of link type 201 and packet indicator
    0x00: bytes([0, 0, 0, 0, COMMAND]),
    0x01: bytes([0, 0, 0, 1, EVENT]),
    0x02: bytes([0, 0, 0, 0, ACL]),
    0x03: bytes([0, 0, 0, 1, ACL]),
    0x08: bytes([0, 0, 0, 0, SCO]),
    0x09: bytes([0, 0, 0, 1, SCO]),
}
_LOGGED_NOTES: Final = frozenset({0x0A, 0x0B, *range(0xF7, 0xFF)})
"""Link manager packets, and what the system says of itself."""
_A_NOTE: Final = bytes(4)


def _packetlogger_order(start: bytes) -> str | None:
    """Byte order of a file whose first record begins so; None if that is no such record. There is no magic number: a
    size below 2^16 tells the order, and microseconds and type must be some that there are."""
    if len(start) < _PACKETLOGGER_LEAST:
        return None
    order = ">" if start[:2] == b"\0\0" else "<"
    size, _, microseconds, kind = struct.unpack_from(order + _LOGGED, start)
    known = kind in _LOGGED_TYPES or kind in _LOGGED_NOTES
    return order if known and _LOGGED_COUNTED_BYTES <= size < 1 << 16 and microseconds < 1_000_000 else None


def packetlogger(file: Readable, start: bytes, faults: Counter[str], order: str) -> Iterator[Record]:
    """Yield the packets of a PacketLogger file that begins with `start`, as link type 201; a note is one without a
    packet."""
    records = _records(file, start, 0, struct.Struct(order + _LOGGED), 0, faults, _LOGGED_COUNTED_BYTES)
    for (_, seconds, microseconds, kind), packet in records:
        head = _LOGGED_TYPES.get(kind)
        time = seconds + microseconds / 1e6
        yield time, LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR, head + packet if head else _A_NOTE, True
