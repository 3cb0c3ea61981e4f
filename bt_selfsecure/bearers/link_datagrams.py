"""What `ipsp` and `udp` put into a UDP datagram:

    HELLO     1 | link (4) | address wanted (6) | own address (6)      until WELCOME or DATA comes
    WELCOME   2 | link (4) | own address (6)
    DATA      3 | link (4) | datagram
    END       4 | link (4)

Integers are big-endian, a device address is its six bytes as they are written.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 5
_HEAD: Final = struct.Struct(">BI")
_HELLO: Final = 1
_WELCOME: Final = 2
_DATA: Final = 3
_END: Final = 4
_ADDRESS_BYTES: Final = 6


@dataclass(frozen=True, slots=True)
class Hello:
    """Asks for a link, of whoever has the address that is wanted."""

    link: int
    """Its number, 32 random bits."""
    wanted: str
    own: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """Grants it."""

    link: int
    own: str


@dataclass(frozen=True, slots=True)
class Data:
    """Carries one datagram of the link."""

    link: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The link is closed, or was never opened."""

    link: int


def pack(frame: Hello | Welcome | Data | Goodbye) -> bytes:
    """Write it as bytes; `parse` is the inverse."""
    match frame:
        case Hello(link, wanted, own):
            return _HEAD.pack(_HELLO, link) + _octets(wanted) + _octets(own)
        case Welcome(link, own):
            return _HEAD.pack(_WELCOME, link) + _octets(own)
        case Data(link, data):
            return _HEAD.pack(_DATA, link) + data
        case Goodbye(link):
            return _HEAD.pack(_END, link)


def parse(datagram: bytes) -> Hello | Welcome | Data | Goodbye | None:
    """Read it from bytes; None where it is none of the four."""
    if len(datagram) < HEAD_BYTES:
        return None
    kind, link = _HEAD.unpack_from(datagram)
    body = datagram[HEAD_BYTES:]
    if kind == _HELLO and len(body) == 2 * _ADDRESS_BYTES:
        return Hello(link, _address(body[:_ADDRESS_BYTES]), _address(body[_ADDRESS_BYTES:]))
    if kind == _WELCOME and len(body) == _ADDRESS_BYTES:
        return Welcome(link, _address(body))
    if kind == _DATA and body:
        return Data(link, body)
    if kind == _END and not body:
        return Goodbye(link)
    return None


def _octets(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))


def _address(octets: bytes) -> str:
    return octets.hex(":").upper()
