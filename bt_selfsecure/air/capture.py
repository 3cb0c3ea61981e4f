"""What a listener heard, as a pcapng file that Wireshark opens.

pcapng is written block after block (IETF draft-ietf-opsawg-pcapng, sections 3 and 4), little-endian:

    +------------+--------------+------ - - ------+--------------+
    | Block type | Total length | body, 4-padded  | Total length |
    +------------+--------------+------ - - ------+--------------+
       4 bytes        4 bytes                          4 bytes

An advertisement is kept as the link layer sent it, an ACL packet as HCI carries it: BR/EDR has no captured form below
HCI that Wireshark decodes up to RFCOMM. Numbers of the link types: https://www.tcpdump.org/linktypes.html
"""

from __future__ import annotations

import struct
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, Self

from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from random import Random

LINKTYPE_USER0: Final = 147
"""A frame of the memory bearer, bare."""
LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR: Final = 201
LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR: Final = 256

FIRST_LE_HANDLE: Final = 0x0800
"""Of our captures' connections, those of LE have handles from here on, those of BR/EDR lower ones."""


class Tap(Protocol):
    """Hears what one listener receives on the air."""

    def hear(self, time: float, linktype: int, packet: bytes) -> None:
        """She received `packet`, a whole one of this LINKTYPE, at `time` in seconds."""

    def miss(self, time: float, linktype: int, packet: bytes) -> None:
        """An advertisement reached her with wrong bits. Most radios drop it and tell nobody."""
        return


# --- pcapng -----------------------------------------------------------------------------------------------------------

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_ENHANCED_PACKET: Final = 6
_OPT_END: Final = struct.pack("<HH", 0, 0)
_OPT_COMMENT: Final = 1
_SHB_USERAPPL: Final = 4
_IF_TSRESOL: Final = 9
_NANOSECONDS: Final = bytes([9])  # if_tsresol: 10^-9 s


class PcapngWriter:
    """Writes packets of any link type to a pcapng file as they come; holds none of them.

    `target` is a path, opened and closed here, or a binary file, left open. A path's file holds whole packets at any
    time, for whoever looks on. Times are written in nanoseconds.
    Raises `UsageError` where the path can't be opened.
    """

    def __init__(self, target: str | Path | BinaryIO) -> None:
        self._owned = isinstance(target, str | Path)
        if isinstance(target, str | Path):
            try:
                self._file: BinaryIO | FileIO = Path(target).open("wb", buffering=0)  # noqa: SIM115
            except OSError as fault:
                raise UsageError(f"can't write the capture {target}: {fault.strerror}; name a writable file") from fault
        else:
            self._file = target
        self._interfaces: dict[int, int] = {}
        # Byte-order magic, version 1.0, section length not given.
        self._block(_SECTION_HEADER, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), {_SHB_USERAPPL: b"bt_selfsecure"})

    def write(self, time: float, linktype: int, packet: bytes, comment: str = "") -> None:
        """Append `packet`, heard at `time` >= 0 in seconds since the file's epoch, with an optional comment."""
        if linktype not in self._interfaces:
            self._interfaces[linktype] = len(self._interfaces)
            self._block(_INTERFACE_DESCRIPTION, struct.pack("<HHI", linktype, 0, 0), {_IF_TSRESOL: _NANOSECONDS})
        stamp = round(time * 1e9)
        head = struct.pack(
            "<IIIII", self._interfaces[linktype], stamp >> 32, stamp & 0xFFFFFFFF, len(packet), len(packet)
        )
        self._block(_ENHANCED_PACKET, head + _padded(packet), {_OPT_COMMENT: comment.encode()} if comment else {})

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._owned:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _block(self, kind: int, body: bytes, options: dict[int, bytes]) -> None:
        for code, value in options.items():
            body += struct.pack("<HH", code, len(value)) + _padded(value)
        if options:
            body += _OPT_END
        total = struct.pack("<I", len(body) + 12)
        self._file.write(struct.pack("<I", kind) + total + body + total)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# --- packets of the two Bluetooth radios ------------------------------------------------------------------------------

ADVERTISING_ACCESS_ADDRESS: Final = 0x8E89BED6  # Core Vol 6 Part B 2.1.2
ADV_IND: Final = 0
ADV_NONCONN_IND: Final = 2
ADV_SCAN_IND: Final = 6  # PDU types: Core Vol 6 Part B 2.3
ADDRESS_BYTES: Final = 6
_RF_CHANNEL: Final = {37: 0, 38: 12, 39: 39}  # advertising channel to k of 2402 + 2k MHz, Core Vol 6 Part B 1.4.1
_CRC24_PRESET: Final = 0xAAAAAA  # 0x555555, bits reversed as octets are sent with the least significant bit first
_CRC24_POLYNOMIAL: Final = 0xDA6000  # x^24 + x^10 + x^9 + x^6 + x^4 + x^3 + x + 1, bits reversed
_LE_PHDR: Final = struct.Struct("<BbbBIH")
_LE_FLAGS: Final = 0x0001 | 0x0010  # de-whitened, access address given; the CRC is left to the reader to check


def advertising_pdu(pdu_type: int, address: bytes, data: bytes, *, random_address: bool) -> bytes:
    """Return a legacy advertising PDU (Core Vol 6 Part B 2.3.1): `address` in 6 bytes, little-endian, `data` of at most
    31."""
    return bytes([pdu_type | random_address << 6, len(address) + len(data)]) + address + data


def le_packet(channel: int, pdu: bytes) -> bytes:
    """Return a packet on advertising channel 37, 38 or 39, with access address and CRC, for link type 256."""
    access = struct.pack("<I", ADVERTISING_ACCESS_ADDRESS)
    phdr = _LE_PHDR.pack(_RF_CHANNEL[channel], 0, 0, 0, ADVERTISING_ACCESS_ADDRESS, _LE_FLAGS)
    return phdr + access + pdu + crc24(pdu)


def crc24(pdu: bytes) -> bytes:
    """Return the CRC of an advertising PDU in the order it is sent (Core Vol 6 Part B 3.1.1; preset 0x555555)."""
    register = _CRC24_PRESET
    for octet in pdu:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (_CRC24_POLYNOMIAL if register & 1 else 0)
    return register.to_bytes(3, "little")


def acl_packet(handle: int, pdu: bytes, *, sent: bool) -> bytes:
    """Return an L2CAP PDU as one HCI ACL packet (Core Vol 4 Part E 5.4.2), for link type 201; `sent` tells the ways
    apart."""
    return struct.pack(">I", not sent) + struct.pack("<BHH", 2, handle | 0b10 << 12, len(pdu)) + pdu


def connection_complete(handle: int) -> bytes:
    """Return the HCI event that begins an ACL (Core Vol 4 Part E 7.7.3) or, with a handle from `FIRST_LE_HANDLE` on, a
    connection of LE (7.7.65.1), its address unknown, for link type 201."""
    code, event = 0x03, struct.pack("<BH6xBB", 0, handle, 1, 0)
    if handle >= FIRST_LE_HANDLE:
        code, event = 0x3E, struct.pack("<BBH15x", 1, 0, handle)
    return struct.pack(">I", 1) + bytes([4, code, len(event)]) + event


# --- taps -------------------------------------------------------------------------------------------------------------


class CaptureTap(Tap):
    """Writes what it hears to a capture, and lets another, `then`, hear it too.

    Wireshark takes ACL packets for an error unless it saw their connection begin. The HCI event for that, which no
    listener hears, is put before the first packet of each connection, with a comment that says so.
    """

    def __init__(self, writer: PcapngWriter | None = None, then: Tap | None = None) -> None:
        self._writer = writer
        self._then = then
        self._connections: set[int] = set()

    def hear(self, time: float, linktype: int, packet: bytes) -> None:
        if self._writer:
            if linktype == LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR:
                self._introduce(self._writer, time, int.from_bytes(packet[5:7], "little") & 0xFFF)
            self._writer.write(time, linktype, packet)
        if self._then:
            self._then.hear(time, linktype, packet)

    def _introduce(self, writer: PcapngWriter, time: float, handle: int) -> None:
        if handle not in self._connections:
            self._connections.add(handle)
            note = "Not heard: added so that Wireshark knows the connection."
            writer.write(time, LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR, connection_complete(handle), note)


class Sniffer(CaptureTap):
    """Hands on what has a wrong CRC, as some sniffers do: one or two bits behind its head are flipped."""

    def __init__(self, writer: PcapngWriter, random: Random) -> None:
        super().__init__(writer)
        self._random = random

    def miss(self, time: float, linktype: int, packet: bytes) -> None:
        bits = range(8 * (len(packet) - _LE_PHDR.size - 6))  # access address, type and length
        flipped = sum(1 << bit for bit in self._random.sample(bits, self._random.choice((1, 2))))
        self.hear(time, linktype, (int.from_bytes(packet) ^ flipped).to_bytes(len(packet)))
