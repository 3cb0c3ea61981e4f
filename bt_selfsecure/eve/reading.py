"""From what was heard to our datagrams, whatever carried them.

    advertisement                              LE air, or HCI event          le_advert
    L2CAP -> credit-based channel -> 6LoWPAN   LE air, or HCI ACL packets    ipsp
    L2CAP -> RFCOMM                            HCI ACL packets               rfcomm
    L2CAP                                      HCI ACL packets               l2cap
    USER0                                      as it is                      memory

Whoever asks gets the other UDP datagrams, too: those of IPSP, and of captures of networks.

Nothing need have been heard of how a connection began. Limits: on the air only connections that are not encrypted; a
capture without directions (link type 251) has both in one, and loses what they interleave. What was missed is not made
up for: over an unheard gap pieces of two datagrams may be taken for one whose length they fit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

from bt_selfsecure.air.capture import (
    ADDRESS_BYTES,
    ADV_IND,
    ADV_NONCONN_IND,
    ADV_SCAN_IND,
    ADVERTISING_ACCESS_ADDRESS,
    LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    LINKTYPE_USER0,
    Tap,
)
from bt_selfsecure.bearers.advertising_data import manufacturer_datagrams
from bt_selfsecure.bearers.hci_events import (
    CONNECTION_COMPLETE,
    DISCONNECTION_COMPLETE,
    LE_META,
    parse_event,
    parse_reports,
)
from bt_selfsecure.bearers.link_datagrams import Data, parse
from bt_selfsecure.eve.formats import Format
from bt_selfsecure.eve.lowpan import udp_ports
from bt_selfsecure.eve.reassembly import DirectionReassembler, Recent, Streams, read_rfcomm
from bt_selfsecure.eve.sources.linktypes import (
    ACL,
    BLUETOOTH_LE_LL,
    EVENT,
    NETWORKS,
    NORDIC_BLE,
    PPI,
    READ,
)
from bt_selfsecure.eve.sources.packet import CapturedPacket, Direction
from bt_selfsecure.eve.udp import UdpDatagram, of_ip

ON_AIR: Final = frozenset({PPI, BLUETOOTH_LE_LL, LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, NORDIC_BLE})
"""Link types whose packets are LE's, as the radio brings them."""
_ADVERTISING: Final = struct.pack("<I", ADVERTISING_ACCESS_ADDRESS)
_PDU_TYPES: Final = frozenset({ADV_IND, ADV_NONCONN_IND, ADV_SCAN_IND})
_DATA_AT: Final = 4 + 2 + ADDRESS_BYTES
"""Where advertising data begin: behind access address, head and address."""
_CRC_BYTES: Final = 3
_CONTINUED, _BEGUN = 1, 2  # packet boundary of HCI and LLID of the link layer alike
_SN: Final = 0x08
_FIRST_DYNAMIC_CID: Final = 0x0040  # below are signalling and fixed channels, Core Vol 3 Part A 2.1
_LE_CIDS: Final = (0x0004, 0x0005, 0x0006)  # ATT, LE signalling, SMP: Core Vol 3 Part A 2.1
_LE_CONNECTION_COMPLETE: Final = (0x01, 0x0A, 0x29)


class Datagram(NamedTuple):
    """Is one of what a bearer carries: ours, as far as a bearer can tell; `Format.is_frame` tells the rest."""

    time: float
    """When its last packet was heard, as in `CapturedPacket`."""
    bearer: str
    """As in the configuration: le_advert, l2cap, rfcomm, ipsp, memory."""
    way: str
    """Who sent it: address of an advertiser; connection and direction, e.g. "acl 12 sent", "le 0x50655d2a received"."""
    data: bytes


_OTHER: Final = {Direction.UNKNOWN: "", Direction.SENT: "received", Direction.RECEIVED: "sent"}
_datagram: Final[Callable[[tuple[float, str, str, bytes]], Datagram]] = partial(tuple.__new__, Datagram)


class Reader:
    """Finds our datagrams in what one source heard. Takes packets in their order, never raises, and stays bounded."""

    def __init__(self, format_: Format, on_udp: Callable[[UdpDatagram], None] | None = None) -> None:
        """`on_udp` gets what UDP carries, ours or not."""
        self._on_udp: Final = on_udp
        self._streams: Final = Streams("big", format_.longest)
        self._acl: Final[Recent[_Connection]] = Recent(_Connection)
        self._le: Final[Recent[_Connection]] = Recent(_Connection)

    def read(self, heard: CapturedPacket) -> list[Datagram]:
        """Return what this packet completes. One whose CRC is wrong completes nothing."""
        time, _, _, packet, crc_ok, linktype, _ = heard
        if crc_ok is False or not packet:
            return []
        if linktype in ON_AIR:
            if packet.startswith(_ADVERTISING):
                return _advertisement(time, packet)
            return self._data_pdu(heard, int.from_bytes(packet[:4], "little"), packet[4:-_CRC_BYTES])
        if linktype == LINKTYPE_USER0:
            return [Datagram(time, "memory", "", packet)]
        if linktype in NETWORKS:
            if self._on_udp and (found := of_ip(time, packet)):
                self._on_udp(found)
            return []
        if packet[0] == EVENT:
            return self._event(heard)
        return self._acl_packet(heard) if packet[0] == ACL else []

    def read_all(self, source: Iterable[CapturedPacket]) -> Iterator[Datagram]:
        """Yield the datagrams of a whole source."""
        read = self.read
        for heard in source:
            if found := read(heard):
                yield from found

    def _data_pdu(self, heard: CapturedPacket, access: int, pdu: bytes) -> list[Datagram]:
        """Of a connection: Core Vol 6 Part B 2.4."""
        if len(pdu) < 2 or pdu[1] != len(pdu) - 2:
            return []
        way = self._le[access].way(heard.direction)
        kind, sequenced = pdu[0] & 3, (pdu[0] & _SN, pdu[2:])
        if kind not in (_CONTINUED, _BEGUN) or not pdu[1] or way.last == sequenced:  # control; nothing; sent again
            return []
        way.last = sequenced
        found = way.add(kind == _BEGUN, pdu[2:])
        return self._credit_based(heard, f"le {access:#010x}", way, *found) if found else []

    # --- HCI ----------------------------------------------------------------------------------------------------------

    def _event(self, heard: CapturedPacket) -> list[Datagram]:
        """Read connections that begin or end, and advertising reports."""
        code, body = parse_event(heard.bytes) or (0, b"")
        if code == CONNECTION_COMPLETE and len(body) >= 3:
            self._acl.begin(_handle(body[1:])).is_le = False
        elif code == DISCONNECTION_COMPLETE and len(body) >= 3:
            self._acl.pop(_handle(body[1:]), None)
        elif code == LE_META and body:
            if body[0] in _LE_CONNECTION_COMPLETE and len(body) >= 4:
                self._acl.begin(_handle(body[2:])).is_le = True
            return [
                Datagram(heard.time, "le_advert", report.address, found)
                for report in parse_reports(body)
                for found in manufacturer_datagrams(report.data)
            ]
        return []

    def _acl_packet(self, heard: CapturedPacket) -> list[Datagram]:
        """Core Vol 4 Part E 5.4.2."""
        if len(heard.bytes) < 5:
            return []
        handle, length = struct.unpack_from("<HH", heard.bytes, 1)
        payload = heard.bytes[5:]
        if length != len(payload):
            return []
        connection = self._acl[handle & 0x0FFF]
        way = connection.way(heard.direction)
        found = way.add(handle >> 12 & 3 != _CONTINUED, payload)
        if not found:
            return []
        cid, sdu = found
        name = f"acl {handle & 0x0FFF}"
        if cid < _FIRST_DYNAMIC_CID:
            if connection.is_le is None:
                connection.is_le = cid in _LE_CIDS
            return []
        if connection.is_le:
            return self._credit_based(heard, name, way, cid, sdu)
        return self._basic(heard, name, cid, sdu)

    # --- L2CAP --------------------------------------------------------------------------------------------------------

    def _basic(self, heard: CapturedPacket, name: str, cid: int, sdu: bytes) -> list[Datagram]:
        """A channel of BR/EDR in basic mode (Core Vol 3 Part A 3.1): RFCOMM, or our datagrams themselves."""
        way = f"{name} {heard.direction.value}".rstrip()
        frame = read_rfcomm(sdu)
        if frame is None:
            return [Datagram(heard.time, "l2cap", way, sdu)]
        dlci, information = frame
        datagram = self._streams.read((way, cid, dlci), information) if dlci and information else None
        return [] if datagram is None else [Datagram(heard.time, "rfcomm", way, datagram)]

    def _credit_based(
        self, heard: CapturedPacket, name: str, way: DirectionReassembler, cid: int, frame: bytes
    ) -> list[Datagram]:
        """A channel of LE (Core Vol 3 Part A 3.4): SDUs of 6LoWPAN, with our datagrams in UDP."""
        if cid < _FIRST_DYNAMIC_CID:
            return []
        sdu = way.sdus.read(cid, frame)
        found = udp_ports(sdu) if sdu else None
        if found is None:
            return []
        source_port, port, payload = found
        sender = f"{name} {heard.direction.value}".rstrip()
        if self._on_udp:
            self._on_udp(
                UdpDatagram(
                    heard.time, sender, source_port, f"{name} {_OTHER[heard.direction]}".rstrip(), port, payload
                )
            )
        carried = parse(payload) if payload else None
        return [Datagram(heard.time, "ipsp", sender, carried.data)] if isinstance(carried, Data) else []


class ReadingTap(Tap):
    """Is a tap on the simulated air: hands on each datagram that it can read, with its time."""

    def __init__(self, format_: Format, on_datagram: Callable[[float, bytes], None]) -> None:
        self._reader: Final = Reader(format_)
        self._on_datagram: Final = on_datagram

    def hear(self, time: float, linktype: int, packet: bytes) -> None:
        if (heard := READ[linktype](time, packet)) is not None:
            for datagram in self._reader.read(heard):
                self._on_datagram(time, datagram.data)


def damaged(heard: CapturedPacket, octets: int) -> bytes | None:
    """Return what may be a frame of ours, of so many octets, in an advertisement whose CRC is wrong: it stands at the
    same place in all of them, whichever bits are flipped. None for packets of any other size."""
    packet = heard.bytes
    begins = _DATA_AT + 4  # behind the head of the manufacturer data
    if heard.linktype not in ON_AIR or len(packet) != begins + octets + _CRC_BYTES:
        return None
    return packet[begins:-_CRC_BYTES]


def _advertisement(time: float, packet: bytes) -> list[Datagram]:
    """Read a legacy advertising PDU on the air; nothing is in one that is none, or malformed."""
    size = len(packet)
    if size < _DATA_AT + _CRC_BYTES or packet[4] & 15 not in _PDU_TYPES or packet[5] != size - 4 - 2 - _CRC_BYTES:
        return []
    found = manufacturer_datagrams(packet[_DATA_AT:-_CRC_BYTES])
    if not found:
        return []
    address = packet[_DATA_AT - 1 : 5 : -1].hex(":").upper()
    if len(found) == 1:  # a loop costs as much as all of the above
        return [_datagram((time, "le_advert", address, found[0]))]
    return [_datagram((time, "le_advert", address, data)) for data in found]


def _handle(octets: bytes) -> int:
    return int.from_bytes(octets[:2], "little") & 0x0FFF


class _Connection:
    """What is known of one connection."""

    def __init__(self) -> None:
        self.is_le: bool | None = None
        """HCI only: whether its channels are LE's; None if nothing told yet."""
        self._ways: dict[Direction, DirectionReassembler] = {}

    def way(self, direction: Direction) -> DirectionReassembler:
        return self._ways.setdefault(direction, DirectionReassembler())
