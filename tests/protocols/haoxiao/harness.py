"""A small deterministic world for establishments: endpoints on one medium, virtual time, a channel that misbehaves.

The channel decides about each transmission at each listener: which datagrams arrive there, and when. Nothing here knows
the protocol except `lost`, which names packets by kind.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TypeVar

from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig, Timers
from bt_selfsecure.protocols.haoxiao.events import Established, EstablishFailed, Event, Failure
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, decode
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import Endpoint
from bt_selfsecure.sansio.events import FrameRejected
from bt_selfsecure.sansio.trace import KeyLog, Tracer

ALICE = bytes.fromhex("02b75e000001")
BOB = bytes.fromhex("02b75e0000b0")
LATENCY = 1 / 1024
INTERVAL = 1 / 128
MOST_STEPS = 500_000
Told = TypeVar("Told")


class DeterministicRandom:
    """`random(n)` of SHA-256 in counter mode: the same bytes on every machine. `drawn` keeps them, in order."""

    def __init__(self, seed: int) -> None:
        self.drawn: list[bytes] = []
        self._seed = seed.to_bytes(8)

    def __call__(self, size: int) -> bytes:
        start = len(self.drawn).to_bytes(8)
        blocks = (hashlib.sha256(self._seed + start + i.to_bytes(8)).digest() for i in range(-(-size // 32)))
        self.drawn.append(b"".join(blocks)[:size])
        return self.drawn[-1]


@dataclass(frozen=True)
class Transmission:
    """One datagram at one listener."""

    time: float
    source: str
    destination: str
    data: bytes

    @property
    def frame(self) -> Frame:
        return decode(self.data)


Arrival = tuple[float, bytes]
"""Delay in seconds, and what arrives then."""
Channel = Callable[[Transmission], list[Arrival]]


def clear(transmission: Transmission) -> list[Arrival]:
    return [(LATENCY, transmission.data)]


def lost(kind: Kind, *, seqs: Collection[int] | None = None, times: int = 1) -> Channel:
    """Loses the first `times` packets of this kind (with one of these Seq), at every listener; the rest arrives."""
    seen: set[tuple[float, bytes]] = set()

    def channel(transmission: Transmission) -> list[Arrival]:
        frame = transmission.frame
        if frame.kind is kind and (seqs is None or frame.seq in seqs):
            seen.add((transmission.time, transmission.data))
            if len(seen) <= times:
                return []
        return clear(transmission)

    return channel


def losses(probability: float, seed: int) -> Channel:
    """Each listener loses burst packets independently; everything else arrives."""
    random = Random(seed)

    def channel(transmission: Transmission) -> list[Arrival]:
        burst = transmission.frame.kind in (Kind.RAND, Kind.RAND_COMPACT)
        return [] if burst and random.random() < probability else clear(transmission)

    return channel


def chaos(random: Random, *, loss: float, double: float, late: float, damage: float) -> Channel:
    """Loses, doubles, delays (so that packets overtake each other) and flips bits, each with its probability."""

    def arrivals(transmission: Transmission) -> Iterator[Arrival]:
        if random.random() < loss:
            return
        for _ in range(1 + (random.random() < double)):
            data = bytearray(transmission.data)
            if random.random() < damage:
                for _ in range(random.randint(1, 4)):
                    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            yield LATENCY + (random.expovariate(5) if random.random() < late else 0), bytes(data)

    return lambda transmission: list(arrivals(transmission))


@dataclass
class World:
    """Endpoints by name; everything that one of them sends is offered to all others."""

    ends: Mapping[str, Endpoint]
    channel: Channel = clear
    now: float = 0.0
    sent: list[Transmission] = field(default_factory=list)
    """What left, once each; `destination` is empty."""
    told: list[tuple[float, str, Event]] = field(default_factory=list)
    peers: Mapping[bytes, str] = field(default_factory=dict)
    """Names of the ends that an initiator calls, by identity: what goes to one of them no other one hears."""
    _air: list[tuple[float, int, str, bytes]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)

    def run(self, until: float = float("inf")) -> None:
        """Until nothing is left to happen before or at this time."""
        for _ in range(MOST_STEPS):
            if not self.step(until):
                self.now = max(self.now, until) if until < float("inf") else self.now
                return
        raise AssertionError("the world does not come to rest")

    def step(self, until: float = float("inf")) -> bool:
        """The next arrival, or all timers of one moment; False if nothing is left until then."""
        self._pump()
        timers = [(time, name) for name, end in self.ends.items() if (time := end.get_timer()) is not None]
        first = min([*timers, *((time, "") for time, *_ in self._air[:1])], default=None)
        if first is None or first[0] > until:
            return False
        self.now = max(self.now, first[0])
        if self._air and self._air[0][0] <= self.now:
            _, _, name, data = heapq.heappop(self._air)
            self.ends[name].receive_frame(data, self.now)
        else:
            for time, name in timers:
                if time <= self.now:
                    self.ends[name].handle_timer(self.now)
        self._pump()
        return True

    def inject(self, data: bytes, to: str, at: float | None = None) -> None:
        """An outsider's datagram; by default it is there now."""
        heapq.heappush(self._air, (self.now if at is None else at, next(self._order), to, data))

    def _pump(self) -> None:
        for name, end in self.ends.items():
            for to, data in self._frames_of(end):
                self.sent.append(Transmission(self.now, name, to, data))
                for other in self.ends:
                    if other != name and to in ("", other):
                        for delay, arriving in self.channel(Transmission(self.now, name, other, data)):
                            self.inject(arriving, other, self.now + delay)
            while (event := end.next_event()) is not None:
                self.told.append((self.now, name, event))

    def _frames_of(self, end: Endpoint) -> list[tuple[str, bytes]]:
        if self.peers and isinstance(end, Initiator):
            return [(self.peers.get(peer, ""), data) for peer, data in end.addressed_frames(self.now)]
        return [("", data) for data in end.frames_to_send(self.now)]

    # --- what happened ------------------------------------------------------------------------------------------------

    def frames(self, kind: Kind, source: str | None = None) -> list[Transmission]:
        return [t for t in self.sent if t.frame.kind is kind and source in (None, t.source)]

    def times(self, kind: Kind, source: str | None = None) -> list[float]:
        return [t.time for t in self.frames(kind, source)]

    def events(self, event: type[Told], name: str | None = None) -> list[Told]:
        return [e for _, end, e in self.told if isinstance(e, event) and name in (None, end)]

    def when(self, event: type[Event], name: str) -> list[float]:
        return [time for time, end, e in self.told if isinstance(e, event) and end == name]

    def established(self, name: str) -> Established:
        (event,) = self.events(Established, name)
        return event

    def failures(self, name: str) -> list[Failure]:
        return [event.reason for event in self.events(EstablishFailed, name)]

    def rejected(self, name: str) -> list[FrameRejected]:
        return self.events(FrameRejected, name)


@dataclass
class Cast:
    """Alice and her responders, in a world of their own."""

    world: World
    alice: Initiator
    bobs: list[Responder]

    @property
    def bob(self) -> Responder:
        return self.bobs[0]


def small(identity: bytes = ALICE, profile: Profile = Profile.HARDENED, **changes: object) -> EstablishConfig:
    """A burst of 8 packets of which 4 make a key. Times are binary fractions, so that sums of them are exact."""
    settings: dict[str, object] = {
        "timers": Timers(t_1=0.25, repeat=0.125 if profile is Profile.HARDENED else None, settle=0.0625),
        "burst": 8,
        "interval": INTERVAL,
        "target_bits": 4.0,
        "eve_loss_bound": 0.5,
        "compare": True,
    }
    return EstablishConfig(identity, profile, **(settings | changes))  # type: ignore[arg-type]


def bob_address(number: int) -> bytes:
    return BOB[:-1] + bytes([BOB[-1] + number])


def cast(
    profile: Profile = Profile.HARDENED,
    *,
    channel: Channel = clear,
    bobs: int = 1,
    seed: int = 1,
    alice: Mapping[str, object] | None = None,
    bob: Mapping[str, object] | None = None,
    tracer: Tracer | None = None,
    key_log: KeyLog | None = None,
    start: bool = True,
    **changes: object,
) -> Cast:
    """`changes` are for both ends, `alice` and `bob` for one of them."""
    initiator = Initiator(
        small(ALICE, profile, **({"responders": bobs} | changes | dict(alice or {}))),
        EndpointContext(DeterministicRandom(1000 * seed), tracer, key_log, "alice"),
    )
    responders = [
        Responder(
            small(bob_address(i), profile, **(changes | dict(bob or {}))),
            EndpointContext(DeterministicRandom(1000 * seed + 1 + i), tracer, key_log, f"bob{i}"),
        )
        for i in range(bobs)
    ]
    names = ["bob"] if bobs == 1 else [f"bob{i}" for i in range(bobs)]
    if start:
        initiator.start(0.0)
    return Cast(World({"alice": initiator} | dict(zip(names, responders, strict=True)), channel), initiator, responders)
