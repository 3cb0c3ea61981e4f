"""UDP out of 6LoWPAN, as the Internet Protocol Support Profile carries it: one packet is one SDU of an LE channel.

    dispatch 01000001            IPv6 (RFC 8200) in full
    dispatch 011 TF NH HLIM ...  IPHC (RFC 6282 section 3.1), and UDP in full or compressed (section 4.3)

Only what leads to the payload is read: addresses are skipped, checksums not checked.
"""

from __future__ import annotations

from typing import Final

_IPV6: Final = 0x41
_IPHC, _IPHC_MASK = 0x60, 0xE0
_UDP: Final = 17
_UDP_NHC, _UDP_NHC_MASK = 0xF0, 0xF8
_IPV6_HEAD_BYTES, _UDP_HEAD_BYTES = 40, 8
_TRAFFIC_CLASS: Final = (4, 3, 1, 0)  # octets of traffic class and flow label by TF
_UNICAST: Final = (16, 8, 2, 0)  # octets of an address by SAM or DAM
_UNICAST_BY_CONTEXT: Final = (0, 8, 2, 0)
_MULTICAST: Final = (16, 6, 4, 1)
_MULTICAST_BY_CONTEXT: Final = (6, 0, 0, 0)
_PORTS: Final = (4, 3, 3, 1)  # octets of both ports by P


def udp_payload(packet: bytes) -> bytes | None:
    """Return what the packet's UDP datagram carries; None where there is none, or it is malformed. Never raises."""
    try:
        if packet[0] == _IPV6:
            return _udp(packet[1 + _IPV6_HEAD_BYTES :]) if packet[7] == _UDP else None
        return _iphc(packet) if packet[0] & _IPHC_MASK == _IPHC else None
    except IndexError:
        return None


def _iphc(packet: bytes) -> bytes | None:
    first, second = packet[0], packet[1]
    compressed = first & 0x04  # NH: the next header is compressed too
    at = 2 + (second >> 7) + _TRAFFIC_CLASS[first >> 3 & 3]
    if not compressed:
        if packet[at] != _UDP:
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
        return _udp(packet[at:])
    if packet[at] & _UDP_NHC_MASK != _UDP_NHC:
        return None
    end = at + 1 + _PORTS[packet[at] & 3] + (0 if packet[at] & 0x04 else 2)  # C: the checksum is left out
    return packet[end:] if end <= len(packet) else None


def _udp(datagram: bytes) -> bytes | None:
    length = int.from_bytes(datagram[4:6])
    return datagram[_UDP_HEAD_BYTES:length] if _UDP_HEAD_BYTES <= length <= len(datagram) else None
