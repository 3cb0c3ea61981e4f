"""This node's own links through others: dialled and answered, by one way or by two, kept and given up.

    dialler                       relays                        dialled
      | -- REQUEST ---------------> ... ------------------------> |
      | <------------------------------------------ REPLY open -- |    one way: the link is up
      | -- DATAGRAM --------------> ... ------------------------> |

With two ways there are two numbers, and each way carries a share; neither end takes the link before it has both:

      | -- REQUEST (both ways) --------------------------------> |
      | <-------------------------------------- REPLY, awaited -- |    the two ways share no relay
      | -- SHARE (both ways) ------------------------------------> |
      | <------------------------------------------ REPLY open -- |    on both: the link is up, with its key

Datagrams go the first way. A link never changes its way: where a relay has forgotten it, it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from bt_selfsecure.crypto import hkdf_expand, sha256
from bt_selfsecure.protocols.haoxiao.relay_events import (
    RelayConfig,
    RelayDatagram,
    RelayDialFailed,
    RelayEvent,
    RelayLinkDown,
    RelayLinkUp,
    Via,
)
from bt_selfsecure.protocols.haoxiao.relay_forwarder import WayCache, path_ends_with
from bt_selfsecure.protocols.haoxiao.relay_frames import (
    SHARE_BYTES,
    RelayFault,
    RelayFrame,
    RelayKind,
    error_body,
    split_path,
)
from bt_selfsecure.sansio.context import Random

DIAL_S: Final = 20.0
REPEAT_S: Final = 4.0
"""From one request, or share, to the next: what carries them repeats by itself, unless a relay was started anew."""
BEAT_S: Final = 60.0
"""The end that dialled asks for a sign of life on a link of which nothing was heard for so long."""
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


@dataclass(slots=True)
class RelayLink:
    """Is a link of this node's, up or on the way to that."""

    peer: bytes
    dialled: bool
    ways: tuple[Way, ...]
    since: float
    heard_at: float
    asked_at: float
    """Time of the newest request or share."""
    is_up: bool = False
    waits_for_reply: bool = False
    round_trip: float | None = None

    @property
    def number(self) -> int:
        return self.ways[0].number


class RelayLinks:
    """Holds this node's links through others. `send` puts a frame out for a neighbour, `put` an event."""

    def __init__(
        self,
        config: RelayConfig,
        up: set[bytes],
        send: Callable[[bytes, RelayFrame], bool],
        put: Callable[[RelayEvent], None],
        random: Random,
        cache: WayCache,
    ) -> None:
        self._config, self._up, self._send, self._put, self._random, self._cache = config, up, send, put, random, cache
        self._links: Final[dict[tuple[bytes, int], RelayLink]] = {}
        """By peer and number; one of two ways is here under both."""

    def __iter__(self) -> Iterator[RelayLink]:
        return iter([link for (_, number), link in self._links.items() if number == link.number])

    # --- what the node wants

    def dial(self, peer: bytes, now: float) -> int:
        """Ask for a link to this peer, and return its number."""
        via = self._config.peers[peer]
        ways = tuple(Way(self._number(peer), group) for group in via.groups)
        if via.is_double:
            for way in ways:
                way.share = self._random(SHARE_BYTES)
        link = RelayLink(peer, True, ways, now, now, now)
        for way in ways:
            self._links[peer, way.number] = link
        self._ask(link, now)
        return link.number

    def send(self, peer: bytes, number: int, data: bytes, now: float) -> bool:
        """Send a datagram on a link, and return whether there was room for it. There is none where it is not up."""
        link = self._links.get((peer, number))
        if link is None or not link.is_up:
            return False
        return self._put_out(link, link.ways[0], RelayKind.DATAGRAM, data)

    def close(self, peer: bytes, number: int, now: float) -> None:
        """End a link, or the dialling; nothing more is told of it."""
        if link := self._links.get((peer, number)):
            self._forget(link)
            for way in link.ways:
                self._tell(peer, way.number, {way.neighbour} if way.neighbour else way.asked, RelayFault.CLOSED)

    def _number(self, peer: bytes) -> int:
        while (peer, number := int.from_bytes(self._random(4))) in self._links:
            pass
        return number

    def _ask(self, link: RelayLink, now: float) -> None:
        link.asked_at, link.waits_for_reply = now, True
        for way in link.ways:
            if way.neighbour:
                self._put_out(link, way, RelayKind.REQUEST)
            else:
                way.asked = self._hops(link, way, now)
                for hop in sorted(way.asked):
                    self._send(hop, RelayFrame(RelayKind.REQUEST, self._config.own, link.peer, way.number))
                if not way.asked:
                    return self._end(link, RelayFault.NO_WAY, self._config.own)
        return None

    def _hops(self, link: RelayLink, way: Way, now: float) -> set[bytes]:
        """Whom to ask for this way: of any neighbours the one by which the peer was found lately, at first."""
        if way.group:
            return set(way.group & self._up)
        known = self._cache.get(link.peer, now)
        if known in self._up and now - link.since < REPEAT_S:
            return {known}
        return self._up - {link.peer}

    # --- what comes

    def take(self, frame: RelayFrame, neighbour: bytes, now: float) -> None:
        """Take a frame that is for this node."""
        via, link = self._config.peers.get(frame.source), self._links.get((frame.source, frame.link))
        if via is None:
            return self._refuse(frame, neighbour, RelayFault.OTHER_WAY)
        if frame.kind is RelayKind.REQUEST:
            return self._on_request(frame, link, via, neighbour, now)
        if link is None:
            return self._refuse(frame, neighbour, RelayFault.UNKNOWN_LINK)
        way = next(way for way in link.ways if way.number == frame.link)
        if frame.kind is RelayKind.ERROR:
            return self._on_error(frame, link, way, neighbour)
        if way.neighbour is None and frame.kind is RelayKind.REPLY and neighbour in way.asked:
            self._on_found(frame, link, way, neighbour, now)
        if way.neighbour != neighbour:
            return None
        link.heard_at = now
        match frame.kind:
            case RelayKind.REPLY if link.dialled:
                self._on_reply(frame, link, way, now)
            case RelayKind.SHARE if not link.dialled:
                self._on_share(frame, link, way, via)
            case RelayKind.DATAGRAM if link.is_up and way is link.ways[0]:
                self._put(RelayDatagram(link.number, link.peer, frame.body))
        return None

    def _on_request(self, frame: RelayFrame, link: RelayLink | None, via: Via, neighbour: bytes, now: float) -> None:
        path = split_path(frame.body)
        if not path_ends_with(path, frame.source, neighbour) or self._config.own in path or not path:
            return None  # a neighbour's own link needs no relay
        if not any(not group or neighbour in group for group in via.groups):
            return self._refuse(frame, neighbour, RelayFault.OTHER_WAY)
        if link is None:
            link = self._answered(frame, neighbour, path, now)
        way = next(way for way in link.ways if way.number == frame.link)
        if link.dialled or way.neighbour != neighbour:
            # A copy that a flood has brought by another way, or the link's own that has come to another way.
            return None if now - link.since < DIAL_S else self._refuse(frame, neighbour, RelayFault.OTHER_WAY)
        link.heard_at = now
        if not link.is_up and not via.is_double:
            link.is_up = way.is_open = True
            self._put(RelayLinkUp(link.number, link.peer, False, tuple(reversed(path))))
        self._reply(link, way)
        return None

    def _answered(self, frame: RelayFrame, neighbour: bytes, path: tuple[bytes, ...], now: float) -> RelayLink:
        """Return a link that the peer dials, in the place of his oldest where there are too many."""
        theirs = [link for link in self if link.peer == frame.source and not link.dialled]
        for old in sorted(theirs, key=lambda link: link.since)[: len(theirs) + 1 - MAX_ANSWERED]:
            self._end(old, RelayFault.CLOSED, frame.source)
        way = Way(frame.link, frozenset(), neighbour, path)
        link = self._links[frame.source, frame.link] = RelayLink(frame.source, False, (way,), now, now, now)
        return link

    def _reply(self, link: RelayLink, way: Way) -> None:
        self._put_out(link, way, RelayKind.REPLY, bytes([way.is_open]) + b"".join(way.path))

    def _on_found(self, frame: RelayFrame, link: RelayLink, way: Way, neighbour: bytes, now: float) -> None:
        path = split_path(frame.body[1:])
        if path[:1] != (neighbour,):
            return
        if self._shares_relay(link, way, path):
            way.asked.discard(neighbour)
            if not way.asked:
                self._end(link, RelayFault.SAME_RELAY, neighbour)
            return
        way.neighbour, way.path = neighbour, path
        way.asked.clear()
        self._cache.put(link.peer, neighbour, now)

    def _shares_relay(self, link: RelayLink, way: Way, path: tuple[bytes, ...]) -> bool:
        """Whether a relay of this path is one of the link's other way."""
        return any(not set(path).isdisjoint(other.path) for other in link.ways if other is not way)

    def _on_reply(self, frame: RelayFrame, link: RelayLink, way: Way, now: float) -> None:
        if link.waits_for_reply:
            link.round_trip, link.waits_for_reply = now - link.asked_at, False
        way.is_open |= frame.body[0] == 1
        if link.is_up:
            return
        if all(each.is_open for each in link.ways):
            link.is_up = True
            first, *rest = link.ways
            self._put(
                RelayLinkUp(
                    link.number,
                    link.peer,
                    True,
                    first.path,
                    rest[0].path if rest else (),
                    link.round_trip,
                    made_of(first.share, rest[0].share) if rest else b"",
                )
            )
        elif all(each.neighbour for each in link.ways) and frame.body[0] == 0:
            self._share(link)

    def _share(self, link: RelayLink) -> None:
        """Send each share its way."""
        for index, (way, other) in enumerate(zip(link.ways, reversed(link.ways), strict=True)):
            self._put_out(link, way, RelayKind.SHARE, bytes([index]) + other.number.to_bytes(4) + way.share)

    def _on_share(self, frame: RelayFrame, link: RelayLink, way: Way, via: Via) -> None:
        if not via.is_double:
            return
        if not link.is_up:
            way.is_second, way.other, way.share = frame.body[0] == 1, int.from_bytes(frame.body[1:5]), frame.body[5:]
            other = self._links.get((link.peer, way.other))
            if other is None or other.dialled or other.is_up or not _are_two(via, way, other.ways[0]):
                return
            link.ways = first, second = (other.ways[0], way) if way.is_second else (way, other.ways[0])
            self._links[link.peer, way.other] = link
            link.is_up = first.is_open = second.is_open = True
            key = made_of(first.share, second.share)
            self._put(RelayLinkUp(link.number, link.peer, False, _back(first), _back(second), None, key))
        for each in link.ways:
            self._reply(link, each)

    def _on_error(self, frame: RelayFrame, link: RelayLink, way: Way, neighbour: bytes) -> None:
        fault, by = RelayFault(frame.body[0]), frame.body[1:]
        if way.neighbour is None and neighbour in way.asked:
            way.asked.discard(neighbour)
            self._cache.forget(link.peer, neighbour)
            if way.asked:
                return
        elif way.neighbour != neighbour:
            return
        self._cache.forget(link.peer, neighbour)
        self._end(link, fault, by)

    # --- how it ends, and time

    def _end(self, link: RelayLink, fault: RelayFault | None = None, by: bytes | None = None) -> None:
        """Forget a link, and tell of it."""
        self._forget(link)
        if link.is_up:
            self._put(RelayLinkDown(link.number, link.peer, fault, by))
        elif link.dialled:
            self._put(RelayDialFailed(link.number, link.peer, fault, by))

    def _forget(self, link: RelayLink) -> None:
        for way in link.ways:
            if self._links.get((link.peer, way.number)) is link:
                del self._links[link.peer, way.number]

    def _refuse(self, frame: RelayFrame, neighbour: bytes, fault: RelayFault) -> None:
        if frame.kind is not RelayKind.ERROR:
            self._tell(frame.source, frame.link, {neighbour}, fault)

    def _tell(self, peer: bytes, number: int, neighbours: set[bytes], fault: RelayFault) -> None:
        body = error_body(fault, self._config.own)
        for neighbour in neighbours:
            self._send(neighbour, RelayFrame(RelayKind.ERROR, self._config.own, peer, number, body=body))

    def _put_out(self, link: RelayLink, way: Way, kind: RelayKind, body: bytes = b"") -> bool:
        assert way.neighbour is not None
        return self._send(way.neighbour, RelayFrame(kind, self._config.own, link.peer, way.number, body=body))

    def get_timer(self) -> float | None:
        return min(map(_due, self), default=None)

    def handle_timer(self, now: float) -> None:
        for link in list(self):
            if now < _due(link):
                continue
            if now - link.since >= DIAL_S and not link.is_up:
                for way in link.ways:
                    self._cache.forget(link.peer, way.neighbour or b"")
                self.close(link.peer, link.number, now)
                self._end(link)
            elif now - link.heard_at >= SILENCE_S:
                self.close(link.peer, link.number, now)
                self._end(link)
            elif link.is_up:
                self._ask(link, now)
            elif all(way.neighbour for way in link.ways) and len(link.ways) > 1:
                link.asked_at = now
                self._share(link)
            else:
                self._ask(link, now)


def made_of(first: bytes, second: bytes) -> bytes:
    """Return the key that the shares of two ways make: who has one of them knows nothing of it."""
    return hkdf_expand(sha256(LABEL + first + second), LABEL, SHARE_BYTES)


def _are_two(via: Via, one: Way, other: Way) -> bool:
    """Whether each names the other as the second of two ways, as they are configured, and no relay is on both."""
    configured = any(a.neighbour in via.first and b.neighbour in via.second for a, b in ((one, other), (other, one)))
    named = bool(other.share) and one.other == other.number and other.other == one.number
    return configured and named and one.is_second is not other.is_second and set(one.path).isdisjoint(other.path)


def _back(way: Way) -> tuple[bytes, ...]:
    """The path from this end, of a request that the other one has sent."""
    return tuple(reversed(way.path))


def _due(link: RelayLink) -> float:
    if not link.is_up:
        return min(link.since + DIAL_S, link.asked_at + REPEAT_S) if link.dialled else link.since + DIAL_S
    silent = link.heard_at + SILENCE_S
    return min(silent, max(link.heard_at, link.asked_at) + BEAT_S) if link.dialled else silent
