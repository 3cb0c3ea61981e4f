"""The relay: forwards for others, and gives this node links to peers that it does not hear. Sans-IO.

Between two ends that do not hear each other run the same establishment and session as always; their datagrams go as
messages of the sessions between neighbours. So each hop is encrypted by its own key, and a relay reads nothing. What it
can do, drop, repeat, reorder, change or invent, is what any attacker on the air can.

What comes is believed of the neighbour alone whose session has carried it. Two machines take it: `Forwarder`
(relay_forwarder.py) what is for others, `RelayLinks` (relay_links.py) what is for this node.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import Timers
from bt_selfsecure.protocols.haoxiao.relay_events import RelayConfig, RelayEvent
from bt_selfsecure.protocols.haoxiao.relay_forwarder import Allowance, Forwarder, WayCache
from bt_selfsecure.protocols.haoxiao.relay_frames import RelayFrame, decode, encode
from bt_selfsecure.protocols.haoxiao.relay_links import RelayLinks
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import EventQueue, earliest
from bt_selfsecure.sansio.events import Rejection

RELAYED_BURST: Final = 16
"""Packets of a burst that goes through others: they hear all of it, so more would add nothing."""
RELAYED_TIMERS: Final = Timers(t_h=2.0, t_2=4.0, t_3=4.0, waiting=15.0, repeat=1.0)
"""Of an establishment through others, for round trips of some seconds."""
LEAST_BYTES: Final = 256
"""A frame counts for so many at least: a message of its own, in a queue and a round, costs no less."""
MUTE_AFTER: Final = 8
"""Frames to a neighbour that has never sent a frame: a version without relays keeps each for a program to read."""
MUTE_EACH: Final = 32
"""Of those that follow one in so many is sent: it may have been upgraded."""
SWEEP_S: Final = 30.0
"""What is to be forgotten is looked for this often."""


class RelayEndpoint:
    """Is driven by the verbs of `Endpoint`; frames come from and go to a neighbour, named by its identity. Whoever is
    none of the configured ones is not heard. Nothing that comes raises."""

    def __init__(self, config: RelayConfig, context: EndpointContext) -> None:
        self.config: Final = config
        self.up: Final[set[bytes]] = set()
        """Neighbours with which there is a session now."""
        self.waiting: Final[Counter[bytes]] = Counter()
        """Bytes that were put out for a neighbour and that he has not got yet."""
        self._events: Final[EventQueue[RelayEvent]] = EventQueue(limits.MAX_EVENTS)
        self._out: Final[list[tuple[bytes, bytes]]] = []
        self._allowances: Final[dict[bytes, Allowance]] = {}
        self.cache: Final = WayCache()
        self._speak: Final[set[bytes]] = set()
        """Neighbours that have ever sent a frame."""
        self._asked: Final[Counter[bytes]] = Counter()
        """Frames to those that have not."""
        self.forwarder: Final = Forwarder(config, self.up, self._put_out, self.cache)
        self.links: Final = RelayLinks(config, self.up, self._put_out, self._events.put, context.random, self.cache)
        self._sweep_at: float | None = None

    # --- the verbs

    def receive_frame(self, data: bytes, neighbour: bytes, now: float) -> None:
        """Take a message to port 11 that came in the session with this neighbour."""
        if neighbour not in self.config.neighbours:
            return self._events.reject(Rejection.NOT_FOR_US, "of a stranger")
        frame = decode(data)
        if frame is None or frame.source == self.config.own:
            return self._events.reject(Rejection.MALFORMED, "no relay frame")
        self._speak.add(neighbour)
        rate = self.config.rate_bytes
        if not self._allowances.setdefault(neighbour, Allowance(rate, now)).take(_cost(data), now):
            return self._events.reject(Rejection.FLOODED, "more than [relay] rate_bytes")
        if frame.destination == self.config.own:
            return self.links.take(frame, neighbour, now)
        self.forwarder.take(frame, neighbour, now)
        if self._sweep_at is None and self.forwarder.circuits:
            self._sweep_at = now + SWEEP_S
        return None

    def frames_to_send(self, now: float) -> list[tuple[bytes, bytes]]:
        """Return what is to be sent, each with its neighbour; tell by `sent` when he has it."""
        taken = self._out.copy()
        self._out.clear()
        return taken

    def get_timer(self) -> float | None:
        """Return the time at which `handle_timer` wants to be called, or None."""
        return earliest(self._sweep_at, self.links.get_timer())

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        if self._sweep_at is not None and now >= self._sweep_at:
            self.forwarder.forget(now)
            self._sweep_at = now + SWEEP_S if self.forwarder.circuits else None
        self.links.handle_timer(now)

    def next_event(self) -> RelayEvent | None:
        """Return the oldest event that was not taken yet, and forget it; None where there is none."""
        return self._events.take()

    # --- neighbours

    def neighbour_up(self, neighbour: bytes) -> None:
        """Take note that there is a session with this neighbour."""
        if neighbour in self.config.neighbours:
            self.up.add(neighbour)
            self.links.neighbour_up(neighbour)

    def neighbour_down(self, neighbour: bytes) -> None:
        """Take note that he is away. What is under way to him waits, as much as may."""
        self.up.discard(neighbour)
        self.links.neighbour_down(neighbour)

    def sent(self, neighbour: bytes, data: bytes) -> None:
        """Take note that he has this frame of what was put out, or never gets it."""
        self.waiting[neighbour] = max(0, self.waiting[neighbour] - _cost(data))

    def _put_out(self, neighbour: bytes, frame: RelayFrame) -> bool:
        if neighbour not in self._speak:
            self._asked[neighbour] += 1
            if self._asked[neighbour] > MUTE_AFTER and self._asked[neighbour] % MUTE_EACH:
                return False
        data = encode(frame)
        if self.waiting[neighbour] + _cost(data) > self.config.queue_bytes:
            return False
        self.waiting[neighbour] += _cost(data)
        self._out.append((neighbour, data))
        return True

    @property
    def rejections(self) -> dict[Rejection, int]:
        """Return how many frames of neighbours changed nothing, by reason; what was not forwarded is in
        `forwarder.dropped`."""
        return self._events.rejections


def _cost(data: bytes) -> int:
    return max(len(data), LEAST_BYTES)
