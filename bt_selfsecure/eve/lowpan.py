"""UDP out of 6LoWPAN, as the Internet Protocol Support Profile carries it: one packet is one SDU of an LE channel.

    dispatch 01000001            IPv6 (RFC 8200) in full
    dispatch 011 TF NH HLIM ...  IPHC (RFC 6282 section 3.1), and UDP in full or compressed (section 4.3)

Only what leads to the payload is read: addresses are skipped, checksums not checked.
"""

from __future__ import annotations

from typing import Final

_IPV6: Final = 0x41
_IPHC, _IPHC_MASK = 0x60, 0xE0
UDP: Final = 17
_UDP_NHC, _UDP_NHC_MASK = 0xF0, 0xF8
_IPV6_HEAD_BYTES, _UDP_HEAD_BYTES = 40, 8
_TRAFFIC_CLASS: Final = (4, 3, 1, 0)  # octets of traffic class and flow label by TF
_UNICAST: Final = (16, 8, 2, 0)  # octets of an address by SAM or DAM
_UNICAST_BY_CONTEXT: Final = (0, 8, 2, 0)
_MULTICAST: Final = (16, 6, 4, 1)
_MULTICAST_BY_CONTEXT: Final = (6, 0, 0, 0)
_PORTS: Final = (4, 3, 3, 1)  # octets of both ports by P
_EIGHT_BITS, _FOUR_BITS = 0xF000, 0xF0B0
"""What stands before the bits of a port that are left."""


def udp_payload(packet: bytes) -> bytes | None:
    """Return what the packet's UDP datagram carries; None where there is none, or it is malformed. Never raises."""
    found = udp_ports(packet)
    return found[2] if found else None


def udp_ports(packet: bytes) -> tuple[int, int, bytes] | None:
    """Return the ports of source and destination of the packet's UDP datagram, and what that carries; None as above."""
    try:
        if packet[0] == _IPV6:
            return udp(packet[1 + _IPV6_HEAD_BYTES :]) if packet[7] == UDP else None
        return _iphc(packet) if packet[0] & _IPHC_MASK == _IPHC else None
    except IndexError:
        return None


def _iphc(packet: bytes) -> tuple[int, int, bytes] | None:
    first, second = packet[0], packet[1]
    compressed = first & 0x04  # NH: the next header is compressed too
    at = 2 + (second >> 7) + _TRAFFIC_CLASS[first >> 3 & 3]
    if not compressed:
        if packet[at] != UDP:
            return None
        at += 1
    at += first & 3 == 0  # HLIM in line
    at += (_UNICAST_BY_CONTEXT if second & 0x40 else _UNICAST)[second >> 4 & 3]
    destination = second & 3
    if second & 0x08:
        at += (_MULTICAST_BY_CONTEXT if second & 0x04 else _MULTICAST)[destination]
    else:
        at += (_UNICAST_BY_CONTEXT if second & 0x04 else _UNICAST)[destination]
    if not compressed:
        return udp(packet[at:])
    if packet[at] & _UDP_NHC_MASK != _UDP_NHC:
        return None
    ports_end = at + 1 + _PORTS[packet[at] & 3]
    end = ports_end + (0 if packet[at] & 0x04 else 2)  # C: the checksum is left out
    if end > len(packet):
        return None
    return *_ports(packet[at] & 3, packet[at + 1 : ports_end]), packet[end:]


def _ports(form: int, octets: bytes) -> tuple[int, int]:
    """RFC 6282 section 4.3.3."""
    match form:
        case 0:
            return int.from_bytes(octets[:2]), int.from_bytes(octets[2:])
        case 1:
            return int.from_bytes(octets[:2]), _EIGHT_BITS | octets[2]
        case 2:
            return _EIGHT_BITS | octets[0], int.from_bytes(octets[1:])
    return _FOUR_BITS | octets[0] >> 4, _FOUR_BITS | octets[0] & 15


def udp(datagram: bytes) -> tuple[int, int, bytes] | None:
    """Return ports and payload of a datagram in full."""
    length = int.from_bytes(datagram[4:6])
    if not _UDP_HEAD_BYTES <= length <= len(datagram):
        return None
    return int.from_bytes(datagram[:2]), int.from_bytes(datagram[2:4]), datagram[_UDP_HEAD_BYTES:length]
