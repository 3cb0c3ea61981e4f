"""What a listener heard: as a pcapng file that Wireshark opens, and as the datagrams that she can read out of it.

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
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Protocol, Self

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.haoxiao import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from random import Random

LINKTYPE_USER0: Final = 147
"""A frame of the memory bearer, bare."""
LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR: Final = 201
LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR: Final = 256

FIRST_LE_HANDLE: Final = 0x0800
"""Of our captures' connections, those of LE have handles from here on, those of BR/EDR lower ones."""
COMPANY_ID: Final = 0xFFFF
"""Company identifier of our manufacturer data: reserved by the Bluetooth SIG for tests (Assigned Numbers, 7.1)."""


class Tap(Protocol):
    """One listener's ear on the air."""

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
_AD_MANUFACTURER_DATA: Final = 0xFF  # Core Supplement Part A 1.4


def advertising_pdu(pdu_type: int, address: bytes, data: bytes, *, random_address: bool) -> bytes:
    """A legacy advertising PDU (Core Vol 6 Part B 2.3.1): `address` in 6 bytes, little-endian, `data` of at most 31."""
    return bytes([pdu_type | random_address << 6, len(address) + len(data)]) + address + data


def le_packet(channel: int, pdu: bytes) -> bytes:
    """A packet on advertising channel 37, 38 or 39, with access address and CRC, for link type 256."""
    access = struct.pack("<I", ADVERTISING_ACCESS_ADDRESS)
    phdr = _LE_PHDR.pack(_RF_CHANNEL[channel], 0, 0, 0, ADVERTISING_ACCESS_ADDRESS, _LE_FLAGS)
    return phdr + access + pdu + crc24(pdu)


def crc24(pdu: bytes) -> bytes:
    """The CRC of an advertising PDU in the order it is sent (Core Vol 6 Part B 3.1.1; preset 0x555555)."""
    register = _CRC24_PRESET
    for octet in pdu:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (_CRC24_POLYNOMIAL if register & 1 else 0)
    return register.to_bytes(3, "little")


def acl_packet(handle: int, pdu: bytes, *, sent: bool) -> bytes:
    """An L2CAP PDU as one HCI ACL packet (Core Vol 4 Part E 5.4.2), for link type 201; `sent` tells the ways apart."""
    return struct.pack(">I", not sent) + struct.pack("<BHH", 2, handle | 0b10 << 12, len(pdu)) + pdu


def connection_complete(handle: int) -> bytes:
    """The HCI event that begins an ACL (Core Vol 4 Part E 7.7.3) or, with a handle from `FIRST_LE_HANDLE` on, a
    connection of LE (7.7.65.1), its address unknown, for link type 201."""
    code, event = 0x03, struct.pack("<BH6xBB", 0, handle, 1, 0)
    if handle >= FIRST_LE_HANDLE:
        code, event = 0x3E, struct.pack("<BBH15x", 1, 0, handle)
    return struct.pack(">I", 1) + bytes([4, code, len(event)]) + event


def manufacturer_data(payload: bytes) -> bytes:
    """Advertising data with `payload` as manufacturer data of `COMPANY_ID`: four bytes longer than the payload."""
    return struct.pack("<BBH", 3 + len(payload), _AD_MANUFACTURER_DATA, COMPANY_ID) + payload


def framed(datagram: bytes) -> bytes:
    """A datagram on a stream: its length in two bytes, big-endian, before it."""
    return struct.pack(">H", len(datagram)) + datagram


# --- reading them back ------------------------------------------------------------------------------------------------

_FIRST_DYNAMIC_CID: Final = 0x0040  # below are signalling and fixed channels, Core Vol 3 Part A 2.1
_MOST_WAYS: Final = 256  # of which a beginning is kept: an unfriendly capture names any number
_MOST_BEGUN: Final = 16  # of each way: a datagram of 5000 bytes is as many frames of RFCOMM
_SABM, _UA, _DM, _DISC, _UIH, _UIH_CREDITS = 0x3F, 0x73, 0x1F, 0x53, 0xEF, 0xFF  # RFCOMM: TS 07.10, 5.2.1.3


class DatagramReader:
    """Our datagrams in what one listener heard, read from the bytes alone.

    She needs not have heard a connection being set up: RFCOMM frames are known by their check sequence. A datagram in
    several RFCOMM frames comes out where all were heard; ours always begins and ends with a frame, so she finds her way
    back after a loss. Over an unheard gap, pieces of two datagrams may be taken for one whose length they fit; the
    protocol's own HMAC tells.
    """

    def __init__(self) -> None:
        self._streams = rfcomm_streams()

    def read(self, linktype: int, packet: bytes) -> list[bytes]:
        """The datagrams that this packet completes; none where it is not ours or malformed. Never raises."""
        if linktype == LINKTYPE_USER0:
            return [packet]
        if linktype == LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR:
            return self._read_acl(packet)
        if linktype == LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR:
            return advertised(packet[_LE_PHDR.size + 4 : -3])
        return []

    def _read_acl(self, packet: bytes) -> list[bytes]:
        if len(packet) < 13 or packet[4] != 2:
            return []
        length, cid = struct.unpack_from("<HH", packet, 9)
        payload = packet[13:]
        if cid < _FIRST_DYNAMIC_CID or length != len(payload):
            return []
        frame = read_rfcomm(payload)
        if frame is None:
            return [payload]
        dlci, information = frame
        datagram = self._streams.read((packet[:7], dlci), information) if dlci and information else None
        return [] if datagram is None else [datagram]


def rfcomm_streams() -> Streams:
    """For the information of RFCOMM frames; no frame of ours is longer than `limits.MAX_FRAME_BYTES`."""
    return Streams("big", limits.MAX_FRAME_BYTES)


class Streams:
    """Datagrams, each with its length in two bytes before it, in pieces of which a datagram begins one and ends one.

    Each channel's and direction's pieces apart. After a piece that was not heard, any may begin a datagram: those whose
    length allows it are all kept, until one is whole.
    """

    def __init__(self, byteorder: Literal["big", "little"], longest: int) -> None:
        self._byteorder: Final = byteorder
        self._longest: Final = longest
        """Bytes of a datagram. The shorter, the sooner she finds her way back."""
        self._begun: dict[Hashable, list[bytes]] = {}

    def read(self, way: Hashable, piece: bytes) -> bytes | None:
        """The datagram that one more piece of one direction of one channel completes."""
        open_: list[bytes] = []
        found = None
        for begun in (b"", *self._begun.pop(way, ())):  # the latest beginning first
            missing = self._missing(begun + piece)
            if missing == 0:  # what began before this will never be whole
                found = (begun + piece)[2:]
                break
            if missing > 0:
                open_.append(begun + piece)
        if open_:
            if len(self._begun) >= _MOST_WAYS:
                del self._begun[next(iter(self._begun))]
            self._begun[way] = open_[:_MOST_BEGUN]
        return found

    def _missing(self, stream: bytes) -> int:
        """Bytes to the end of the datagram that begins here; negative where there are too many, or it can't be one."""
        if len(stream) < 2:
            return 2 - len(stream)
        size = int.from_bytes(stream[:2], self._byteorder)
        return 2 + size - len(stream) if size <= self._longest else -1


def advertised(pdu: bytes) -> list[bytes]:
    """Our datagrams in a legacy advertising PDU; none where it is not one, or malformed."""
    if (
        len(pdu) < 2 + ADDRESS_BYTES
        or pdu[0] & 15 not in (ADV_IND, ADV_NONCONN_IND, ADV_SCAN_IND)
        or pdu[1] != len(pdu) - 2
    ):
        return []
    return manufacturer_datagrams(pdu[2 + ADDRESS_BYTES :])


def manufacturer_datagrams(data: bytes) -> list[bytes]:
    """Our datagrams in advertising data: what stands in manufacturer data of `COMPANY_ID`."""
    found: list[bytes] = []
    while len(data) > 1 and 0 < data[0] < len(data):
        field, data = data[1 : data[0] + 1], data[data[0] + 1 :]
        if field[0] == _AD_MANUFACTURER_DATA and field[1:3] == struct.pack("<H", COMPANY_ID):
            found.append(field[3:])
    return found


def read_rfcomm(payload: bytes) -> tuple[int, bytes] | None:
    """DLCI and information of an RFCOMM frame (TS 07.10, 5.2; credits: RFCOMM 1.1, 6.5), None if it is none."""
    if len(payload) < 4 or payload[1] not in (_SABM, _UA, _DM, _DISC, _UIH, _UIH_CREDITS):
        return None
    start = 3 if payload[2] & 1 else 4
    length = payload[2] >> 1 | (payload[3] << 7 if start == 4 else 0)
    credit = payload[1] == _UIH_CREDITS
    checked = payload[:2] if payload[1] in (_UIH, _UIH_CREDITS) else payload[:start]
    if len(payload) != start + credit + length + 1 or payload[-1] != _rfcomm_check(checked):
        return None
    return payload[0] >> 2, payload[start + credit : -1]


def _rfcomm_check(data: bytes) -> int:
    """The frame check sequence of TS 07.10, 5.2.1.6: CRC-8 with x^8 + x^2 + x + 1, bits reversed."""
    register = 0xFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0xE0 if register & 1 else 0)
    return 0xFF - register


class CaptureTap(Tap):
    """A `Tap` that writes what it hears to a capture, and hands each datagram that it can read to `on_datagram`.

    Wireshark takes ACL packets for an error unless it saw their connection begin. The HCI event for that, which no
    listener hears, is put before the first packet of each connection, with a comment that says so.
    """

    def __init__(
        self, writer: PcapngWriter | None = None, on_datagram: Callable[[float, bytes], None] | None = None
    ) -> None:
        self._writer = writer
        self._on_datagram = on_datagram
        self._reader = DatagramReader()
        self._connections: set[int] = set()

    def hear(self, time: float, linktype: int, packet: bytes) -> None:
        if self._writer:
            if linktype == LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR:
                self._introduce(self._writer, time, int.from_bytes(packet[5:7], "little") & 0xFFF)
            self._writer.write(time, linktype, packet)
        if self._on_datagram:
            for datagram in self._reader.read(linktype, packet):
                self._on_datagram(time, datagram)

    def _introduce(self, writer: PcapngWriter, time: float, handle: int) -> None:
        if handle not in self._connections:
            self._connections.add(handle)
            note = "Not heard: added so that Wireshark knows the connection."
            writer.write(time, LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR, connection_complete(handle), note)


class Sniffer(CaptureTap):
    """One that hands on what has a wrong CRC, as some sniffers do: one or two bits behind its head are flipped."""

    def __init__(self, writer: PcapngWriter, random: Random) -> None:
        super().__init__(writer)
        self._random = random

    def miss(self, time: float, linktype: int, packet: bytes) -> None:
        bits = range(8 * (len(packet) - _LE_PHDR.size - 6))  # access address, type and length
        flipped = sum(1 << bit for bit in self._random.sample(bits, self._random.choice((1, 2))))
        self.hear(time, linktype, (int.from_bytes(packet) ^ flipped).to_bytes(len(packet)))
