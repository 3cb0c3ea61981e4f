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

Datagrams go the first way. Where one of the two can't be had the other carries the link alone, and it has no key: a
session goes on over it, and nothing is agreed on. A link never changes its way: where a relay has forgotten it, it is
over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

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
from bt_selfsecure.protocols.haoxiao.relay_ways import (
    ALONE_S,
    DIAL_S,
    MAX_ANSWERED,
    REPEAT_S,
    SILENCE_S,
    SINGLE_S,
    RelayLink,
    Way,
    are_two,
    back,
    due,
    made_of,
)
from bt_selfsecure.sansio.context import Random


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

    def dial(self, peer: bytes, now: float, *, single: bool = False) -> int:
        """Ask for a link to this peer, and return its number. With `single`, one of two ways is enough."""
        via = self._config.peers[peer]
        ways = tuple(Way(self._number(peer), group) for group in via.groups)
        if via.is_double:
            for way in ways:
                way.share = self._random(SHARE_BYTES)
        link = RelayLink(peer, True, ways[0].number, ways, now, now, now, may_be_single=single)
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
                    self._lose(link, way, RelayFault.NO_WAY, self._config.own)

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
        way = link.way_of(frame.link)
        if way is None:
            return self._refuse(frame, neighbour, RelayFault.UNKNOWN_LINK)
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
        way = link.way_of(frame.link)
        if link.dialled or way is None or way.neighbour != neighbour:
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
        link = RelayLink(frame.source, False, frame.link, (way,), now, now, now)
        self._links[frame.source, frame.link] = link
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
        if any(other.is_lost for other in link.ways):
            self._go_alone(link, way)

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
        elif way.share and all(each.neighbour for each in link.ways) and frame.body[0] == 0:
            self._share(link)

    def _share(self, link: RelayLink) -> None:
        """Send each share its way. One that names its own way as the other is alone."""
        for index, (way, other) in enumerate(zip(link.ways, reversed(link.ways), strict=True)):
            self._put_out(link, way, RelayKind.SHARE, bytes([index]) + other.number.to_bytes(4) + way.share)

    def _on_share(self, frame: RelayFrame, link: RelayLink, way: Way, via: Via) -> None:
        if not via.is_double:
            return None
        if not link.is_up:
            way.is_second, way.other, way.share = frame.body[0] == 1, int.from_bytes(frame.body[1:5]), frame.body[5:]
            if way.other == way.number:
                link.is_up = link.is_single = way.is_open = True
                self._put(RelayLinkUp(link.number, link.peer, False, back(way)))
                return self._reply(link, way)
            other = self._links.get((link.peer, way.other))
            if other is None or other.dialled or other.is_up or not are_two(via, way, other.ways[0]):
                return None
            link.ways = first, second = (other.ways[0], way) if way.is_second else (way, other.ways[0])
            self._links[link.peer, way.other] = link
            link.is_up = first.is_open = second.is_open = True
            key = made_of(first.share, second.share)
            self._put(RelayLinkUp(link.number, link.peer, False, back(first), back(second), None, key))
        for each in link.ways:
            self._reply(link, each)
        return None

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
        self._lose(link, way, fault, by)

    # --- how it ends, and time

    def neighbour_up(self, neighbour: bytes) -> None:
        """Dial anew what has one of two ways, where this neighbour may lead to the other."""
        for link in list(self):
            if link.dialled and link.is_up and link.is_single:
                groups = self._config.peers[link.peer].groups
                if any(neighbour in group and link.ways[0].neighbour not in group for group in groups):
                    self._renew(link)

    def neighbour_down(self, neighbour: bytes) -> None:
        """Dial anew what this neighbour carried, where another one may carry it."""
        for link in list(self):
            for way in link.ways if link.is_up and link.dialled else ():
                groups = self._config.peers[link.peer].groups
                others = {hop for hop in self._up - {link.peer} for group in groups if not group or hop in group}
                if way.neighbour == neighbour and others:
                    self._lose(link, way, RelayFault.NO_WAY, self._config.own)

    def _lose(self, link: RelayLink, way: Way, fault: RelayFault, by: bytes) -> None:
        """One way can't be had, or is over: the other carries the link, unless what is sent goes the one."""
        others = tuple(other for other in link.ways if other is not way and not other.is_lost)
        if not others or (way is link.ways[0] if link.is_up else not link.may_be_single):
            return self._end(link, fault, by)
        way.is_lost = True
        if link.is_up:
            link.ways = others
        elif others[0].neighbour:
            self._go_alone(link, others[0])
        return None

    def _renew(self, link: RelayLink) -> None:
        """End a link that may be had by both ways now."""
        for way in link.ways:
            self._tell(link.peer, way.number, {way.neighbour} if way.neighbour else way.asked, RelayFault.CLOSED)
        self._end(link, RelayFault.CLOSED, self._config.own)

    def _go_alone(self, link: RelayLink, way: Way) -> None:
        """Have the link by this way, since the other is not there."""
        for other in link.ways:
            if other is not way:
                self._tell(link.peer, other.number, other.asked, RelayFault.CLOSED)
        link.ways, link.is_single = (way,), True
        self._share(link)

    def _end(self, link: RelayLink, fault: RelayFault | None = None, by: bytes | None = None) -> None:
        """Forget a link, and tell of it."""
        self._forget(link)
        if link.is_up:
            self._put(RelayLinkDown(link.number, link.peer, fault, by))
        elif link.dialled:
            self._put(RelayDialFailed(link.number, link.peer, fault, by))

    def _forget(self, link: RelayLink) -> None:
        for place in [place for place, known in self._links.items() if known is link]:
            del self._links[place]

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
        return min(map(due, self), default=None)

    def handle_timer(self, now: float) -> None:
        for link in list(self):
            if now < due(link):
                continue
            if now >= link.since + DIAL_S and not link.is_up:
                for way in link.ways:
                    self._cache.forget(link.peer, way.neighbour or b"")
                self.close(link.peer, link.number, now)
                self._end(link)
            elif now >= link.heard_at + SILENCE_S:
                self.close(link.peer, link.number, now)
                self._end(link)
            elif link.is_up and link.is_single and now >= link.since + SINGLE_S:
                self._renew(link)
            elif link.is_up:
                self._ask(link, now)
            elif all(way.neighbour for way in link.ways) and link.ways[0].share:
                link.asked_at = now
                self._share(link)
            elif (
                link.may_be_single
                and now >= link.since + ALONE_S
                and (found := [way for way in link.ways if way.neighbour])
            ):
                self._go_alone(link, found[0])
            else:
                self._ask(link, now)
