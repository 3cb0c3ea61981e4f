"""From what was heard to our datagrams, whatever carried them.

    advertisement                              LE air, or HCI event          le_advert
    L2CAP -> credit-based channel -> 6LoWPAN   LE air, or HCI ACL packets    ipsp
    L2CAP -> RFCOMM                            HCI ACL packets               rfcomm
    L2CAP                                      HCI ACL packets               l2cap
    USER0                                      as it is                      memory

Nothing need have been heard of how a connection began. Limits: on the air only connections that are not encrypted; a
capture without directions (link type 251) has both in one, and loses what they interleave. What was missed is not made
up for: over an unheard gap pieces of two datagrams may be taken for one whose length they fit.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, NamedTuple, TypeVar

from bt_selfsecure.air.capture import (
    ADDRESS_BYTES,
    ADVERTISING_ACCESS_ADDRESS,
    LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    LINKTYPE_USER0,
    Streams,
    advertised,
    manufacturer_datagrams,
    read_rfcomm,
    rfcomm_streams,
)
from bt_selfsecure.bearers.link_datagrams import Data, parse
from bt_selfsecure.eve.lowpan import udp_payload
from bt_selfsecure.eve.sources.linktypes import ACL, BLUETOOTH_LE_LL, EVENT, NORDIC_BLE, PPI
from bt_selfsecure.eve.sources.packet import CapturedPacket, Direction
from bt_selfsecure.protocols.haoxiao.frames import COMPACT_FRAME_BYTES

ON_AIR: Final = frozenset({PPI, BLUETOOTH_LE_LL, LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, NORDIC_BLE})
"""Link types whose packets are LE's, as the radio brings them."""
MOST_CONNECTIONS: Final = 64
"""Of which something is remembered: the one that was quiet for longest is forgotten first."""


class Datagram(NamedTuple):
    """One of what a bearer carries: ours, as far as a bearer can tell; `core.frames.decode` tells the rest."""

    time: float
    """When its last packet was heard, as in `CapturedPacket`."""
    bearer: str
    """As in the configuration: le_advert, l2cap, rfcomm, ipsp, memory."""
    way: str
    """Who sent it: address of an advertiser; connection and direction, e.g. "acl 12 sent", "le 0x50655d2a received"."""
    data: bytes


class Reader:
    """Our datagrams in what one source heard. Packets in their order; never raises, and stays bounded."""

    def __init__(self) -> None:
        self._streams: Final = rfcomm_streams()
        self._acl: Final[_Recent[_Connection]] = _Recent(_Connection)
        self._le: Final[_Recent[_Connection]] = _Recent(_Connection)

    def read(self, heard: CapturedPacket) -> list[Datagram]:
        """What this packet completes. One whose CRC is wrong completes nothing."""
        if heard.crc_ok is False or not heard.bytes:
            return []
        if heard.linktype in ON_AIR:
            return self._on_air(heard)
        if heard.linktype == LINKTYPE_USER0:
            return [Datagram(heard.time, "memory", "", heard.bytes)]
        indicator = heard.bytes[0]
        if indicator == EVENT:
            return self._event(heard)
        return self._acl_packet(heard) if indicator == ACL else []

    def read_all(self, source: Iterable[CapturedPacket]) -> Iterator[Datagram]:
        """The datagrams of a whole source."""
        for heard in source:
            yield from self.read(heard)

    # --- LE on the air ------------------------------------------------------------------------------------------------

    def _on_air(self, heard: CapturedPacket) -> list[Datagram]:
        packet = heard.bytes
        access, pdu = int.from_bytes(packet[:4], "little"), packet[4:-3]
        if access == ADVERTISING_ACCESS_ADDRESS:
            found = advertised(pdu)
            return [Datagram(heard.time, "le_advert", _address(pdu[2:]), data) for data in found] if found else []
        return self._data_pdu(heard, access, pdu)

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
        """Core Vol 4 Part E 7.7: connections that begin or end, and advertising reports."""
        code, body = heard.bytes[1:2], heard.bytes[3:]
        if code == _CONNECTION_COMPLETE and len(body) >= 3:
            self._acl.begin(_handle(body[1:])).is_le = False
        elif code == _DISCONNECTION_COMPLETE and len(body) >= 3:
            self._acl.pop(_handle(body[1:]), None)
        elif code == _LE_META and body:
            if body[0] in _LE_CONNECTION_COMPLETE and len(body) >= 4:
                self._acl.begin(_handle(body[2:])).is_le = True
            elif (report := _REPORTS.get(body[0])) is not None:
                return [
                    Datagram(heard.time, "le_advert", address, found)
                    for address, data in _reports(report, body[1:])
                    for found in manufacturer_datagrams(data)
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
        self, heard: CapturedPacket, name: str, way: DirectionState, cid: int, frame: bytes
    ) -> list[Datagram]:
        """A channel of LE (Core Vol 3 Part A 3.4): SDUs of 6LoWPAN, with our datagrams in UDP."""
        if cid < _FIRST_DYNAMIC_CID:
            return []
        sdu = way.sdus.read(cid, frame)
        payload = udp_payload(sdu) if sdu else None
        carried = parse(payload) if payload else None
        if not isinstance(carried, Data):
            return []
        return [Datagram(heard.time, "ipsp", f"{name} {heard.direction.value}".rstrip(), carried.data)]


def damaged(heard: CapturedPacket) -> bytes | None:
    """What may be a burst packet of ours in an advertisement whose CRC is wrong: it stands at the same place in all of
    them, whichever bits are flipped. None for packets of any other size."""
    packet = heard.bytes
    if heard.linktype not in ON_AIR or len(packet) != _COMPACT_PACKET_BYTES:
        return None
    return packet[-3 - COMPACT_FRAME_BYTES : -3]


_COMPACT_PACKET_BYTES: Final = 4 + 2 + ADDRESS_BYTES + 4 + COMPACT_FRAME_BYTES + 3
"""Access address, head, address, head of the manufacturer data, frame, CRC."""
_CONTINUED, _BEGUN = 1, 2  # packet boundary of HCI and LLID of the link layer alike
_SN: Final = 0x08
_FIRST_DYNAMIC_CID: Final = 0x0040
_LE_CIDS: Final = (0x0004, 0x0005, 0x0006)  # ATT, LE signalling, SMP: Core Vol 3 Part A 2.1
_CONNECTION_COMPLETE, _DISCONNECTION_COMPLETE, _LE_META = b"\x03", b"\x05", b"\x3e"
_LONGEST_SDU: Final = 1281  # an IPv6 packet of the minimum MTU, behind its dispatch
_LE_CONNECTION_COMPLETE: Final = (0x01, 0x0A, 0x29)
_REPORTS: Final = {
    0x02: (struct.Struct("<BB6sB"), 1),  # event type, address type, address, length; RSSI behind the data
    0x0D: (struct.Struct("<HB6s14xB"), 0),  # extended: Core Vol 4 Part E 7.7.65.13
}


def _handle(octets: bytes) -> int:
    return int.from_bytes(octets[:2], "little") & 0x0FFF


def _address(octets: bytes) -> str:
    return octets[ADDRESS_BYTES - 1 :: -1].hex(":").upper()


def _reports(form: tuple[struct.Struct, int], body: bytes) -> Iterator[tuple[str, bytes]]:
    """Address and data of each advertising report, one after the other as Linux reads them."""
    head, behind = form
    at = 1
    for _ in range(body[0] if body else 0):
        if len(body) < at + head.size:
            return
        *_, address, length = head.unpack_from(body, at)
        at += head.size
        yield _address(address), body[at : at + length]
        at += length + behind


class DirectionState:
    """One direction of one connection: pieces of L2CAP PDUs, and of the SDUs of its credit-based channels."""

    def __init__(self) -> None:
        self.last: tuple[int, bytes] | None = None
        """SN (Core Vol 6 Part B 4.5.9) and payload of the last packet on the air. SN alone would not tell a repeated
        packet from the next but one, when that between was not heard."""
        self.sdus: Final = Streams("little", _LONGEST_SDU)
        self._pdu = b""

    def add(self, begins: bool, piece: bytes) -> tuple[int, bytes] | None:
        """Channel and payload of the PDU (Core Vol 3 Part A 3.1) that this piece completes."""
        if not begins and not self._pdu:
            return None  # its beginning was not heard
        pdu = piece if begins else self._pdu + piece
        missing = 4 + int.from_bytes(pdu[:2], "little") - len(pdu) if len(pdu) > 1 else 1
        self._pdu = pdu if missing > 0 else b""
        return (int.from_bytes(pdu[2:4], "little"), pdu[4:]) if missing == 0 else None


class _Connection:
    """What is known of one connection."""

    def __init__(self) -> None:
        self.is_le: bool | None = None
        """HCI only: whether its channels are LE's; None if nothing told yet."""
        self._ways: dict[Direction, DirectionState] = {}

    def way(self, direction: Direction) -> DirectionState:
        return self._ways.setdefault(direction, DirectionState())


Kept = TypeVar("Kept")


class _Recent(OrderedDict[int, Kept], Generic[Kept]):
    """By number, what was used last; made when first asked for, the oldest forgotten when there is no room."""

    def __init__(self, make: Callable[[], Kept], most: int = MOST_CONNECTIONS) -> None:
        super().__init__()
        self._make, self._most = make, most

    def __missing__(self, number: int) -> Kept:
        return self.begin(number)

    def __getitem__(self, number: int) -> Kept:
        found = super().__getitem__(number)
        self.move_to_end(number)
        return found

    def begin(self, number: int, value: Kept | None = None) -> Kept:
        """Anew, forgetting what was known of it."""
        self.pop(number, None)
        self[number] = made = self._make() if value is None else value
        if len(self) > self._most:
            self.popitem(last=False)
        return made
