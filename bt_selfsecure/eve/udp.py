"""UDP datagrams of IP packets (RFC 768, 791, 8200), as networks carry them. Fragments are left out."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, NamedTuple

from bt_selfsecure.eve.lowpan import UDP, udp

_FRAGMENT: Final = 0x3FFF  # more fragments, and the offset
_SIX_HEAD_BYTES: Final = 40


class UdpDatagram(NamedTuple):
    """Is one that was heard."""

    time: float
    """As in `CapturedPacket`."""
    source: str
    """Address; where 6LoWPAN left that out, the connection and direction, as in `Datagram.way`."""
    source_port: int
    destination: str
    destination_port: int
    data: bytes


def of_ip(time: float, packet: bytes) -> UdpDatagram | None:
    """Return the datagram of an IP packet; None where it has none, or is malformed. Never raises."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        head, size = 4 * (packet[0] & 15), int.from_bytes(packet[2:4])
        is_udp = packet[9] == UDP and not int.from_bytes(packet[6:8]) & _FRAGMENT and head >= 20
        addresses = packet[12:16], packet[16:20]
    elif version == 6 and len(packet) >= _SIX_HEAD_BYTES:
        head, size, is_udp = _SIX_HEAD_BYTES, _SIX_HEAD_BYTES + int.from_bytes(packet[4:6]), packet[6] == UDP
        addresses = packet[8:24], packet[24:40]
    else:
        return None
    found = udp(packet[head:size]) if is_udp else None
    if found is None:
        return None
    source, destination = (str(ip_address(octets)) for octets in addresses)
    return UdpDatagram(time, source, found[0], destination, found[1], found[2])
