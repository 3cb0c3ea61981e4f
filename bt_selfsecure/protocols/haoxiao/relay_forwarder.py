"""Carries what others send each other. It keeps a circuit for each of their links, and promises nothing.

A circuit says by which neighbour each of the two ends is reached. The request that opens a link writes the one side,
the reply the other; whatever comes from elsewhere is dropped, so no frame can go round in a circle. Who uses a circuit
that was forgotten is told so, and the ends dial anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from bt_selfsecure.protocols.haoxiao.relay_events import BURST_S, RelayConfig
from bt_selfsecure.protocols.haoxiao.relay_frames import (
    MAX_RELAYS,
    RelayFault,
    RelayFrame,
    RelayKind,
    error_body,
    split_path,
)

FORGET_S: Final = 300.0
"""A circuit that carried nothing for so long is forgotten; the ends send something each minute."""
UNANSWERED_S: Final = 30.0
"""The same of one whose request was not answered."""
CACHE_S: Final = 600.0
"""A way that an end was found by is taken for so long without asking all neighbours."""
MAX_CACHE: Final = 256


@dataclass(slots=True)
class Circuit:
    """Knows the two sides of one link of others."""

    sides: dict[bytes, bytes]
    """The neighbour by which each end is reached."""
    asked: set[bytes] = field(default_factory=set)
    """Neighbours that may still answer the request."""
    used_at: float = 0.0

    @property
    def is_whole(self) -> bool:
        return len(self.sides) == 2


class Allowance:
    """Says how many bytes one neighbour may still send: a bucket that fills with time."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._bytes, self._at = rate, rate * BURST_S, now

    def take(self, size: int, now: float) -> bool:
        """Return whether there is room for so many bytes, and take them."""
        self._bytes = min(self._rate * BURST_S, self._bytes + (now - self._at) * self._rate)
        self._at = now
        if self._bytes < size:
            return False
        self._bytes -= size
        return True


class Forwarder:
    """Forwards frames whose ends are others. `send` puts a frame out for a neighbour, and returns whether there was
    room."""

    def __init__(
        self, config: RelayConfig, up: set[bytes], send: Callable[[bytes, RelayFrame], bool], cache: WayCache
    ) -> None:
        self.circuits: Final[dict[tuple[bytes, bytes, int], Circuit]] = {}
        self.forwarded: Final[Counter[bytes]] = Counter()
        """Bytes, by the neighbour that they came from."""
        self.dropped: Final[Counter[str]] = Counter()
        self._config, self._up, self._send, self._cache = config, up, send, cache

    def take(self, frame: RelayFrame, neighbour: bytes, now: float) -> None:
        """Forward a frame of this neighbour, or drop it, or tell him why not."""
        ends = self._config.ends
        if frame.source not in ends or frame.destination not in ends:
            return self._refuse(frame, neighbour, RelayFault.NOT_FOR_THEM)
        circuit = self.circuits.get(frame.circuit)
        if frame.kind is RelayKind.REQUEST:
            if frame.source in self._up and frame.source != neighbour:
                return self._drop("in a neighbour's name")
            return self._on_request(frame, circuit, neighbour, now)
        if circuit is None:
            return self._refuse(frame, neighbour, RelayFault.UNKNOWN_LINK)
        if frame.kind is RelayKind.ERROR:
            return self._on_error(frame, circuit, neighbour)
        if frame.kind is RelayKind.REPLY and neighbour in circuit.asked and frame.source not in circuit.sides:
            circuit.sides[frame.source] = neighbour
            circuit.asked.clear()
            self._cache.put(frame.source, neighbour, now)
        if not circuit.is_whole or circuit.sides.get(frame.source) != neighbour:
            return self._drop("by another way")
        circuit.used_at = now
        return self._forward(frame, circuit.sides[frame.destination], neighbour)

    def _on_request(self, frame: RelayFrame, circuit: Circuit | None, neighbour: bytes, now: float) -> None:
        path = split_path(frame.body)
        if not path_ends_with(path, frame.source, neighbour):
            return self._drop("a way that is not so")
        if self._config.own in path or (circuit is not None and circuit.sides.get(frame.source) != neighbour):
            return self._drop("seen")
        if frame.ttl <= 1 or len(path) >= MAX_RELAYS:
            return self._drop("too many hops")
        if circuit is not None and circuit.is_whole:
            hops: Iterable[bytes] = (circuit.sides[frame.destination],)
        else:
            hops = self._next_hops(frame, path, neighbour, now)
            if not hops:
                return self._refuse(frame, neighbour, RelayFault.NO_WAY)
            if circuit is None:
                if not self._has_room(neighbour, now):
                    return self._refuse(frame, neighbour, RelayFault.BUSY)
                circuit = self.circuits[frame.circuit] = Circuit({frame.source: neighbour})
            circuit.asked.update(hops)
        circuit.used_at = now
        onward = replace(frame, body=frame.body + self._config.own)
        for hop in hops:
            self._forward(onward, hop, neighbour)
        return None

    def _next_hops(self, frame: RelayFrame, path: tuple[bytes, ...], neighbour: bytes, now: float) -> list[bytes]:
        """The end itself; else the way by which it was found lately; else all neighbours that it did not come by."""
        if frame.destination in self._up:
            return [frame.destination]
        others = self._up - {neighbour, frame.source, *path}
        if frame.ttl <= 2:
            return []  # who is asked could only be the end itself
        known = self._cache.get(frame.destination, now)
        return [known] if known in others else sorted(others)

    def _on_error(self, frame: RelayFrame, circuit: Circuit, neighbour: bytes) -> None:
        if neighbour in circuit.asked:
            circuit.asked.discard(neighbour)
            self._cache.forget(frame.source, neighbour)
            if circuit.asked:
                return None
        elif circuit.sides.get(frame.source) != neighbour:
            return self._drop("by another way")
        else:
            self._cache.forget(frame.source, neighbour)
        del self.circuits[frame.circuit]
        if to := circuit.sides.get(frame.destination):
            self._forward(frame, to, neighbour)
        return None

    def _forward(self, frame: RelayFrame, to: bytes, neighbour: bytes) -> None:
        if frame.ttl <= 1:
            self._drop("too many hops")
        elif self._send(to, replace(frame, ttl=frame.ttl - 1)):
            self.forwarded[neighbour] += len(frame.body)
        else:
            self._drop("no room")

    def _refuse(self, frame: RelayFrame, neighbour: bytes, fault: RelayFault) -> None:
        """Tell the neighbour, in the name of the far end; an error is never answered."""
        self.dropped[fault.name.lower().replace("_", " ")] += 1
        if frame.kind is not RelayKind.ERROR:
            body = error_body(fault, self._config.own)
            self._send(neighbour, RelayFrame(RelayKind.ERROR, frame.destination, frame.source, frame.link, body=body))

    def _drop(self, why: str) -> None:
        self.dropped[why] += 1

    def _has_room(self, neighbour: bytes, now: float) -> bool:
        """Whether another circuit of this neighbour's is taken: no neighbour has more than half of all."""
        self.forget(now)
        own = sum(neighbour in circuit.sides.values() for circuit in self.circuits.values())
        most = self._config.max_links
        return len(self.circuits) < most and own < max(1, most // 2)

    def forget(self, now: float) -> None:
        """Forget circuits that carried nothing for long."""
        for key, circuit in list(self.circuits.items()):
            if now - circuit.used_at > (FORGET_S if circuit.is_whole else UNANSWERED_S):
                del self.circuits[key]


class WayCache:
    """Remembers by which neighbour an end was found."""

    def __init__(self) -> None:
        self._ways: Final[dict[bytes, tuple[bytes, float]]] = {}

    def put(self, end: bytes, neighbour: bytes, now: float) -> None:
        self._ways.pop(end, None)
        self._ways[end] = neighbour, now + CACHE_S
        if len(self._ways) > MAX_CACHE:
            del self._ways[next(iter(self._ways))]

    def ages(self, now: float) -> list[tuple[bytes, bytes, float]]:
        """Return each end, the neighbour by which it was found, and the seconds since."""
        return [(end, by, now - until + CACHE_S) for end, (by, until) in self._ways.items() if now < until]

    def get(self, end: bytes, now: float) -> bytes | None:
        neighbour, until = self._ways.get(end, (None, 0.0))
        return neighbour if now < until else None

    def forget(self, end: bytes, neighbour: bytes) -> None:
        """It is not found by this neighbour any more."""
        if self._ways.get(end, (None,))[0] == neighbour:
            del self._ways[end]


def path_ends_with(path: tuple[bytes, ...], source: bytes, neighbour: bytes) -> bool:
    """Return whether a request that has passed these relays can have come from this neighbour."""
    return neighbour == (path[-1] if path else source)
