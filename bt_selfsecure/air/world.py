"""A world of virtual time: endpoints on one radio medium, losses by a model, a tap for each listener.

Everything that happens is a call on a heap, ordered by time and then by when it was put there; all randomness is of one
seed. So the same seed gives the same bytes, and thousands of establishments run in a short time. Not modelled are
collisions, air time (packets sent at one moment are heard at one moment) and the turn-around of a half-duplex radio.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Any, Final, Protocol

from bt_selfsecure.sansio.endpoint import Endpoint

LATENCY_S: Final = 0.001
"""Seconds from send to receive: a 61-byte packet takes 0.6 ms of air at 1 Mb/s; the rest is for the two hosts."""

EventHandler = Callable[[str, Any, float], None]
Ear = Callable[[float, bytes], None]
"""What one listener does with a datagram that it heard: `ear(time, data)`."""


class Medium(Protocol):
    """Carries datagrams between named endpoints: this world, or virtual Bluetooth."""

    @property
    def now(self) -> float:
        """Return the time in virtual seconds."""
        ...

    async def run(
        self,
        endpoints: Mapping[str, Endpoint[Any]],
        on_event: EventHandler,
        until: Callable[[], bool],
        seconds: float,
    ) -> None:
        """Drive the endpoints until `until()` holds, nothing is left to happen, or this many virtual seconds passed."""
        ...

    def wake(self, name: str) -> None:
        """The caller has used a verb of this endpoint: look after it."""
        ...


class Transmit(Protocol):
    """Says who hears one transmission: the `transmit` of a loss model, which draws from the world's random numbers."""

    def __call__(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]: ...


class World:
    """Is the memory bearer's air. Names are free ("alice", "bob", "eve"); all of them share the medium."""

    def __init__(self, heard: Transmit, seed: int, ears: Mapping[str, Ear] | None = None) -> None:
        self.now: float = 0.0
        self._heard: Final = heard
        self._random: Final = Random(seed)
        self._ears: Final = dict(ears or {})
        self._heap: Final[list[tuple[float, int, Callable[[], None]]]] = []
        self._order: Final = count()
        self._endpoints: dict[str, Endpoint[Any]] = {}
        self._on_event: EventHandler = lambda name, event, now: None
        self._timers: dict[str, float] = {}

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Let `call` happen then."""
        heapq.heappush(self._heap, (time, next(self._order), call))

    def transmit(self, sender: str, data: bytes) -> None:
        """Put one datagram on the air, now. Whoever hears it gets it `LATENCY_S` later."""
        listeners = [name for name in (*self._endpoints, *self._ears) if name != sender]
        for name in sorted(self._heard(self._random, sender, listeners, self.now)):
            self.at(self.now + LATENCY_S, lambda name=name: self._deliver(name, data))  # type: ignore[misc]

    def _deliver(self, name: str, data: bytes) -> None:
        if name in self._endpoints:
            self._endpoints[name].receive_frame(data, self.now)
            self.wake(name)
        else:
            self._ears[name](self.now, data)

    def wake(self, name: str) -> None:
        """Send what the endpoint has to send, tell its events, and arm its timer."""
        endpoint = self._endpoints[name]
        while True:
            for data in endpoint.frames_to_send(self.now):
                self.transmit(name, data)
            event = endpoint.next_event()
            if event is None:
                break
            self._on_event(name, event, self.now)
        deadline = endpoint.get_timer()
        if deadline is None:
            self._timers.pop(name, None)
        elif self._timers.get(name) != deadline:
            self._timers[name] = deadline
            self.at(max(deadline, self.now), lambda: self._ring(name, deadline))

    def _ring(self, name: str, deadline: float) -> None:
        if self._timers.get(name) == deadline and name in self._endpoints:
            del self._timers[name]
            self._endpoints[name].handle_timer(self.now)
            self.wake(name)

    async def run(
        self, endpoints: Mapping[str, Endpoint[Any]], on_event: EventHandler, until: Callable[[], bool], seconds: float
    ) -> None:
        self.run_now(endpoints, on_event, until, seconds)

    def run_now(
        self, endpoints: Mapping[str, Endpoint[Any]], on_event: EventHandler, until: Callable[[], bool], seconds: float
    ) -> None:
        """Do the same as `run`, for callers without a loop."""
        self._endpoints, self._on_event = dict(endpoints), on_event
        self._timers.clear()
        end = self.now + seconds
        for name in endpoints:
            self.wake(name)
        while not until() and self._heap and self._heap[0][0] <= end:
            self.now, _, call = heapq.heappop(self._heap)
            call()
