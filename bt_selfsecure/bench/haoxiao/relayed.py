"""Alice and Bob out of each other's range, on links through other nodes, of which Mallory's do what she likes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Final

from bt_selfsecure.air.world import LATENCY_S, Ear, World
from bt_selfsecure.protocols.haoxiao.relay import RelayEndpoint
from bt_selfsecure.protocols.haoxiao.relay_events import (
    RelayConfig,
    RelayDatagram,
    RelayDialFailed,
    RelayEvent,
    RelayLinkDown,
    RelayLinkUp,
    Via,
)
from bt_selfsecure.protocols.haoxiao.relay_frames import RelayFrame, RelayKind, decode, encode
from bt_selfsecure.sansio.context import EndpointContext

ENDS: Final = ("alice", "bob")
REDIAL_S: Final = 0.5
Tamper = Callable[[RelayFrame], list[RelayFrame]]
"""What a relay sends in the place of a frame that it is to forward."""


def identity(name: str) -> bytes:
    """Return the device address of who has this name of at most four letters, or begins so."""
    return b"\x02\xb7" + name[:4].encode().ljust(4, b"\0")


class RelayedWorld(World):
    """Carries what Alice and Bob send by links through the one of `relays`, or, where there are two, by a link of two
    ways. Their sessions with the relays lose nothing. `tampers` has the relays that are not honest; whatever a relay
    forwards, its `ear` hears, by its name."""

    def __init__(
        self,
        seed: int,
        *,
        relays: tuple[str, ...] = ("mallory",),
        tampers: Mapping[str, Tamper] | None = None,
        ears: Mapping[str, Ear] | None = None,
    ) -> None:
        super().__init__(lambda random, sender, listeners, now: frozenset(), seed)
        self._heard_by: Final = dict(ears or {})
        self._tampers: Final = dict(tampers or {})
        self.links: Final[dict[str, RelayLinkUp]] = {}
        self._alarms: dict[str, float] = {}
        via = Via(*(frozenset((identity(name),)) for name in relays))
        near = dict.fromkeys(ENDS, relays) | dict.fromkeys(relays, ENDS)
        self._names: Final = {identity(name): name for name in near}
        random = Random(seed)
        self.nodes: Final = {
            name: RelayEndpoint(
                RelayConfig(
                    identity(name),
                    frozenset(map(identity, others)),
                    frozenset() if name in ENDS else frozenset(map(identity, ENDS)),
                    {identity(_other(name)): via} if name in ENDS else {},
                    rate_bytes=1 << 24,
                ),
                EndpointContext(random.randbytes),
            )
            for name, others in near.items()
        }
        for name, others in near.items():
            for other in others:
                self.nodes[name].neighbour_up(identity(other))

    def open(self) -> None:
        """Let Alice dial, until both ends have a link."""
        self._dial()
        self.run_now({}, lambda name, event, now: None, lambda: len(self.links) == len(ENDS), 60.0)

    @property
    def key(self) -> bytes:
        """Return what Alice's link has been given by its two ways; empty where it has one."""
        return self.links["alice"].key if "alice" in self.links else b""

    def transmit(self, sender: str, data: bytes) -> None:
        if link := self.links.get(sender):
            self.nodes[sender].links.send(identity(_other(sender)), link.link, data, self.now)
            self._settle(sender)

    def _dial(self) -> None:
        if "alice" not in self.links:
            self.nodes["alice"].links.dial(identity("bob"), self.now)
            self._settle("alice")

    def _settle(self, name: str) -> None:
        node = self.nodes[name]
        while (event := node.next_event()) is not None:
            self._on_relay(name, event)
        for neighbour, data in node.frames_to_send(self.now):
            node.sent(neighbour, data)
            for sent in self._tampered(name, data):
                self.carry(name, self._names[neighbour], sent)
        timer = node.get_timer()
        if timer is not None and self._alarms.get(name) != timer:
            self._alarms[name] = timer
            self.at(max(timer, self.now), lambda: self._ring_node(name, timer))

    def _tampered(self, name: str, data: bytes) -> list[bytes]:
        frame = decode(data)
        if frame is None or name in ENDS:
            return [data]
        if frame.kind is RelayKind.DATAGRAM and name in self._heard_by:
            self._heard_by[name](self.now, frame.body)
        tamper = self._tampers.get(name)
        return [encode(sent) for sent in tamper(frame)] if tamper else [data]

    def carry(self, sender: str, name: str, data: bytes) -> None:
        """Bring a relay's frame from one neighbour to the other, by their session."""
        self.at(self.now + LATENCY_S, lambda: self.take(sender, name, data))

    def take(self, sender: str, name: str, data: bytes) -> None:
        """A relay's frame has come."""
        self.nodes[name].receive_frame(data, identity(sender), self.now)
        self._settle(name)

    def _ring_node(self, name: str, timer: float) -> None:
        if self._alarms.get(name) == timer:
            self.nodes[name].handle_timer(self.now)
            self._settle(name)

    def _on_relay(self, name: str, event: RelayEvent) -> None:
        match event:
            case RelayLinkUp():
                self.links[name] = event
            case RelayDatagram(link, _, data) if name in self._endpoints and link == self.links[name].link:
                self.at(self.now, lambda: self._deliver(name, data))
            case RelayLinkDown(link) if name in self.links and link == self.links[name].link:
                del self.links[name]
                self.at(self.now + REDIAL_S, self._dial)
            case RelayDialFailed():
                self.at(self.now + REDIAL_S, self._dial)
            case _:
                pass


def changed(frame: RelayFrame, body: bytes) -> RelayFrame:
    """Return the frame with another body."""
    return replace(frame, body=body)


def _other(name: str) -> str:
    return ENDS[1 - ENDS.index(name)]
