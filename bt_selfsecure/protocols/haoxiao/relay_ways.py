"""What a link through others is made of: its ways, their times, and the key that two of them make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bt_selfsecure.crypto import hkdf_expand, sha256
from bt_selfsecure.protocols.haoxiao.relay_events import Via
from bt_selfsecure.protocols.haoxiao.relay_frames import SHARE_BYTES

DIAL_S: Final = 20.0
REPEAT_S: Final = 4.0
"""From one request, or share, to the next: what carries them repeats by itself, unless a relay was started anew."""
BEAT_S: Final = 60.0
"""The end that dialled asks for a sign of life on a link of which nothing was heard for so long."""
ALONE_S: Final = 8.0
"""After so long one of two ways carries a link alone, if the other was not found."""
SINGLE_S: Final = 600.0
"""A link that has one of its two ways is dialled anew after so long."""
SILENCE_S: Final = 150.0
"""A link of which nothing was heard for so long is over; less than `FORGET_S` of the relays."""
MAX_ANSWERED: Final = 4
"""Links, up or not, that one peer has dialled."""
LABEL: Final = b"btss relay shares"


@dataclass(slots=True)
class Way:
    """Is one of the ways of a link, which has a number of its own."""

    number: int
    group: frozenset[bytes]
    """Neighbours that may lead to the peer; empty: any."""
    neighbour: bytes | None = None
    path: tuple[bytes, ...] = ()
    share: bytes = field(default=b"", repr=False)
    other: int | None = None
    """Number of the link's other way, as a share that came has told."""
    is_second: bool = False
    is_open: bool = False
    asked: set[bytes] = field(default_factory=set)
    """Neighbours that may still answer."""
    is_lost: bool = False


@dataclass(slots=True)
class RelayLink:
    """Is a link of this node's, up or on the way to that."""

    peer: bytes
    dialled: bool
    number: int
    """By which the driver knows it: of the way that it began with."""
    ways: tuple[Way, ...]
    since: float
    heard_at: float
    asked_at: float
    """Time of the newest request or share."""
    is_up: bool = False
    waits_for_reply: bool = False
    round_trip: float | None = None
    may_be_single: bool = False
    is_single: bool = False
    """It has one of its two ways."""

    def way_of(self, number: int) -> Way | None:
        return next((way for way in self.ways if way.number == number), None)


def made_of(first: bytes, second: bytes) -> bytes:
    """Return the key that the shares of two ways make: who has one of them knows nothing of it."""
    return hkdf_expand(sha256(LABEL + first + second), LABEL, SHARE_BYTES)


def are_two(via: Via, one: Way, other: Way) -> bool:
    """Return whether each names the other as the second of two ways, as they are configured, and no relay is on
    both."""
    configured = any(a.neighbour in via.first and b.neighbour in via.second for a, b in ((one, other), (other, one)))
    named = bool(other.share) and one.other == other.number and other.other == one.number
    return configured and named and one.is_second is not other.is_second and set(one.path).isdisjoint(other.path)


def back(way: Way) -> tuple[bytes, ...]:
    """Return the path from this end, of a request that the other one has sent."""
    return tuple(reversed(way.path))


def due(link: RelayLink) -> float:
    """Return the time at which something is to be done about the link."""
    if not link.is_up:
        return min(link.since + DIAL_S, link.asked_at + REPEAT_S) if link.dialled else link.since + DIAL_S
    when = link.heard_at + SILENCE_S
    if not link.dialled:
        return when
    if link.is_single:
        when = min(when, link.since + SINGLE_S)
    return min(when, max(link.heard_at, link.asked_at) + BEAT_S)
