"""Frames by which nodes carry datagrams for each other: messages to port 11 of the sessions between neighbours.

    +---------+-----+------+--------+-------------+------+------
    | version | ttl | kind | source | destination | link | body
    +---------+-----+------+--------+-------------+------+------
       4 bit   4 bit   1       6          6          4      0 and more bytes

`source` and `destination` are the two ends of the link, `link` the number that the end which dialled drew for it.
Integers are big-endian. The body by kind:

    DATAGRAM   a frame of the establishment or session between the two ends
    REQUEST    the relays that it has passed, 6 bytes each
    REPLY      1: open, 0: a share is awaited; then the relays of the whole way
    ERROR      why, 1 byte; who says so, 6
    SHARE      0: of the first way, 1: of the second; number of the other way, 4; share of the authentication key, 32
"""

from __future__ import annotations

import enum
import struct
from dataclasses import field
from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.sansio.value import value

RELAY_PORT: Final = 11
"""Of a session, for what it carries of others."""
VERSION: Final = 1
HEAD_BYTES: Final = 18
MAX_HOPS: Final = 4
"""Sessions between neighbours from one end to the other, at most; the first octet of a frame has room for 15."""
MAX_RELAYS: Final = MAX_HOPS - 1
MAX_DATAGRAM_BYTES: Final = 1080
"""Longest datagram of a link: with its heads it fits one round of a session on `udp` or `ipsp`."""
SHARE_BYTES: Final = 32
_HEAD: Final = struct.Struct(">BB6s6sI")
_IDENTITY: Final = limits.IDENTITY_BYTES


class RelayKind(enum.IntEnum):
    DATAGRAM = 0
    REQUEST = 1
    REPLY = 2
    ERROR = 3
    SHARE = 4


class RelayFault(enum.IntEnum):
    """Says why a link is over, or can't be had."""

    UNKNOWN_LINK = 0
    NO_WAY = 1
    NOT_FOR_THEM = 2
    BUSY = 3
    CLOSED = 4
    OTHER_WAY = 5
    SAME_RELAY = 6

    @property
    def text(self) -> str:
        return _FAULTS[self]


_FAULTS: Final = {
    RelayFault.UNKNOWN_LINK: "knows of no such link, perhaps since it was started anew",
    RelayFault.NO_WAY: "has no way to it now",
    RelayFault.NOT_FOR_THEM: "does not forward between these two: see its [relay] for",
    RelayFault.BUSY: "forwards for as many as it may already: see its [relay] max_links",
    RelayFault.CLOSED: "has closed the link",
    RelayFault.OTHER_WAY: "has this link by another way, or expects none by this one: see its [[peer]] via",
    RelayFault.SAME_RELAY: "is on both ways: the two in via must share no relay",
}


@value
class RelayFrame:
    """Is a frame without its body, which `body` holds as bytes."""

    kind: RelayKind
    source: bytes
    destination: bytes
    link: int
    ttl: int = MAX_HOPS
    """Hops that it may still go, the one that it is on included."""
    body: bytes = field(default=b"", repr=False)

    @property
    def circuit(self) -> tuple[bytes, bytes, int]:
        """Return what names its link, whichever end has sent it."""
        source, destination = self.source, self.destination
        return (source, destination, self.link) if source < destination else (destination, source, self.link)


def encode(frame: RelayFrame) -> bytes:
    """Return its bytes; `decode` is the inverse."""
    return _HEAD.pack(VERSION << 4 | frame.ttl, frame.kind, frame.source, frame.destination, frame.link) + frame.body


def decode(data: bytes) -> RelayFrame | None:
    """Return the frame; None for bytes that are none of ours: another version, a body that its kind can't have, two
    ends that are one."""
    if len(data) < HEAD_BYTES or data[0] >> 4 != VERSION or not data[0] & 15 or data[1] > max(RelayKind):
        return None
    _, number, source, destination, link = _HEAD.unpack_from(data)
    kind, body = RelayKind(number), data[HEAD_BYTES:]
    if source == destination or not _fits(kind, body):
        return None
    return RelayFrame(kind, source, destination, link, data[0] & 15, body)


def _fits(kind: RelayKind, body: bytes) -> bool:
    match kind:
        case RelayKind.DATAGRAM:
            return 0 < len(body) <= MAX_DATAGRAM_BYTES
        case RelayKind.REQUEST:
            return _is_path(body)
        case RelayKind.REPLY:
            return body[:1] in (b"\0", b"\1") and _is_path(body[1:])
        case RelayKind.ERROR:
            return len(body) == 1 + _IDENTITY and body[0] <= max(RelayFault)
        case RelayKind.SHARE:
            return len(body) == 5 + SHARE_BYTES and body[0] <= 1


def _is_path(body: bytes) -> bool:
    """Whether it names relays, each once."""
    path = split_path(body)
    return len(body) % _IDENTITY == 0 and len(path) <= MAX_RELAYS and len(set(path)) == len(path)


def split_path(body: bytes) -> tuple[bytes, ...]:
    """Return the relays of a request's body, or of a reply's behind its first byte."""
    return tuple(body[start : start + _IDENTITY] for start in range(0, len(body), _IDENTITY))


def error_body(fault: RelayFault, by: bytes) -> bytes:
    """Return the body of an error that the node `by` tells."""
    return bytes([fault]) + by
