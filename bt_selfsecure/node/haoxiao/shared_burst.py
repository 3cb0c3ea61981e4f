"""One burst for several peers: one `Initiator`, of which each peer's machine drives a leg. Sans-IO, as the machine is.

What goes to one peer leaves by his leg, over his link; the burst's packets leave once, by the leg that leads, whose
machine has the radio. A list of packets waits behind them, whichever leg it goes by. What one leg is given can be news
for another one: `moved` is told whose machine is to have a turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import (
    AcceptRefused,
    Established,
    EstablishFailed,
    Event,
    Independence,
    PeerAccepted,
    ResponseVerified,
)
from bt_selfsecure.protocols.haoxiao.frames import FrameError, Kind, decode, peek_kind
from bt_selfsecure.protocols.haoxiao.initiator import EVERYBODY, Initiator
from bt_selfsecure.protocols.haoxiao.initiator_table import InitiatorState
from bt_selfsecure.protocols.haoxiao.limits import IDENTITY_BYTES, SESSION_ID_BYTES
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection

PACKETS: Final = frozenset((Kind.RAND, Kind.RAND_COMPACT))
LEGS: Final = 7
"""Peers of one burst: a piconet has as many links."""
SPARE_S: Final = 1.0
"""So long a leg waits beyond a deadline that the leading one has missed."""


class SharedBurst:
    """Is the burst that its legs share. Begin it with `start`."""

    def __init__(
        self,
        configs: Sequence[EstablishConfig],
        context: EndpointContext,
        moved: Callable[[bytes], None] = lambda peer: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`configs` name a peer each, and agree in all that is not about him; the burst is as slow as the slowest.
        `ended` is called when no peer is left in it."""
        slowest = max(config.interval for config in configs)
        first, *others = (replace(config, interval=slowest) for config in configs)
        self.initiator: Final = Initiator(first, context, others)
        self.legs: Final = {config.peer: BurstLeg(self, config.peer) for config in configs}
        self.packets_wait = False
        """Packets of the burst have not left the leading leg's machine."""
        self._moved: Final = moved
        self._ended: Final = ended

    @property
    def leader(self) -> BurstLeg | None:
        """Return the leg by which the packets leave; None when all have left."""
        return next(iter(self.legs.values()), None)

    def start(self, now: float) -> None:
        """Send the first requests."""
        self.initiator.start(now)
        self.turn(None, now)

    def turn(self, by: BurstLeg | None, now: float) -> None:
        """Give each leg what is its own, after one of them was given something."""
        for peer, data in self.initiator.addressed_frames(now):
            leg = self.leader if peer == EVERYBODY else self.legs.get(peer)
            if leg is not None:
                leg.frames.append(data)
                self.packets_wait |= peer == EVERYBODY
        while (event := self.initiator.next_event()) is not None:
            for leg in self._told(event, by):
                leg.events.append(event)
        for leg in self.legs.values():
            if leg is not by and leg.has_news:
                self._moved(leg.peer)

    def _told(self, event: Event, by: BurstLeg | None) -> list[BurstLeg]:
        match event:
            case PeerAccepted() | ResponseVerified() | Established():
                peer = event.peer
            case AcceptRefused():
                peer = event.identity
            case Independence():
                peer = event.i
            case EstablishFailed(peer=None):
                return list(self.legs.values())
            case EstablishFailed():
                peer = event.peer or b""
            case _:
                peer = b""
        leg = self.legs.get(peer) or by or self.leader
        return [leg] if leg else []

    def leave(self, leg: BurstLeg, packets: Sequence[bytes], now: float) -> None:
        """Go on without this leg; `packets` had not left its machine, and another one sends them."""
        if self.legs.get(leg.peer) is not leg:
            return
        unsent = [*packets, *(data for data in leg.frames if peek_kind(data) in PACKETS)] if leg is self.leader else []
        led = leg.leads
        del self.legs[leg.peer]
        self.initiator.leave(leg.peer, now)
        if led and (leader := self.leader):
            leader.frames.extendleft(reversed(unsent))
            self.packets_wait = bool(unsent)
            self._moved(leader.peer)  # the deadlines are its own now
        self.turn(None, now)
        if not self.legs:
            self._ended()


class BurstLeg:
    """Is one peer's part of a `SharedBurst`, an endpoint to his machine."""

    def __init__(self, shared: SharedBurst, peer: bytes) -> None:
        self.peer: Final = peer
        self.frames: Final[deque[bytes]] = deque()
        self.events: Final[deque[Event]] = deque()
        self.has_packets: Callable[[], bool] = lambda: False
        """Tells whether this leg's machine has packets that have not left."""
        self._shared: Final = shared

    @property
    def state(self) -> InitiatorState:
        return self._shared.initiator.state

    @property
    def config(self) -> EstablishConfig:
        """Return what all legs have in common."""
        return self._shared.initiator.config

    @property
    def sent(self) -> int:
        return self._shared.initiator.sent

    @property
    def leads(self) -> bool:
        """Return whether the packets of the burst leave by this leg."""
        return self._shared.leader is self

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        """Return those of all legs at the one that leads, and none at the others."""
        return self._shared.initiator.rejections if self.leads else {}

    @property
    def has_news(self) -> bool:
        """Return whether there is anything for this leg's machine."""
        return bool(self.events or (self.frames and (self._may_list or not self._is_list(self.frames[0]))))

    def expect_comparison(self, expects: bool) -> None:
        """Give the key with this peer its string, or none."""
        self._shared.initiator.expect_comparison(expects, self.peer)

    def waive_continuity(self) -> None:
        """Take the key with this peer without continuity."""
        self._shared.initiator.waive_continuity(self.peer)

    def leave(self, packets: Sequence[bytes], now: float) -> None:
        """Take this peer out of the burst; `packets` of it wait with his machine."""
        self._shared.leave(self, packets, now)

    # --- the verbs

    def receive_frame(self, data: bytes, now: float) -> None:
        """Take a datagram that came from this peer; it can accept in its own name only."""
        if peek_kind(data) is not Kind.ACCEPT or self._is_own(data):
            self._shared.initiator.receive_frame(data, now)
            self._shared.turn(self, now)

    def _is_own(self, accept: bytes) -> bool:
        try:
            message = decode(accept).message
        except FrameError:
            return True  # which the initiator tells
        named = message[SESSION_ID_BYTES : SESSION_ID_BYTES + IDENTITY_BYTES]
        return named == self.peer or named not in self._shared.legs

    def frames_to_send(self, now: float) -> list[bytes]:
        shared = self._shared
        if self.leads and not self.has_packets():
            shared.packets_wait = any(peek_kind(data) in PACKETS for data in self.frames)
        shared.turn(self, now)
        out: list[bytes] = []
        while self.frames and (self._may_list or not self._is_list(self.frames[0])):
            out.append(self.frames.popleft())
        return out

    def get_timer(self) -> float | None:
        at = self._shared.initiator.get_timer()
        return at if at is None or self.leads else at + SPARE_S

    def handle_timer(self, now: float) -> None:
        self._shared.initiator.handle_timer(now)
        self._shared.turn(self, now)

    def next_event(self) -> Event | None:
        return self.events.popleft() if self.events else None

    @property
    def _may_list(self) -> bool:
        return self.leads or not self._shared.packets_wait

    @staticmethod
    def _is_list(data: bytes) -> bool:
        return peek_kind(data) is Kind.RAND_LIST
