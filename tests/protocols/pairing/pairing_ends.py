"""Two ends of a pairing, in virtual time and with counted randomness, and the channel between them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import count

from bt_selfsecure.protocols.pairing.codes import Carried, Way, decode, drawn_secret, words
from bt_selfsecure.protocols.pairing.end import PairingConfig, PairingEnd
from bt_selfsecure.protocols.pairing.events import Event
from bt_selfsecure.protocols.pairing.initiator import PairingInitiator
from bt_selfsecure.protocols.pairing.responder import PairingResponder
from bt_selfsecure.sansio.context import EndpointContext, Random

ALICE, BOB, MALLORY = (
    PairingConfig(bytes([2, 0, 0, 0, 0, n]), name) for n, name in ((1, "alice"), (2, "bob"), (3, "m"))
)
WORDS = "otter panda radio"
SECRETS = {way: WORDS.encode() if way is Way.WORDS else drawn_secret(way, lambda n: bytes(range(n))) for way in Way}
STEP_S = 0.25


def counted(name: str) -> Random:
    """Return bytes that are SHA-256 of a name and a counter."""
    numbers = count()

    def random(size: int) -> bytes:
        return hashlib.sha256(f"{name}{next(numbers)}".encode()).digest()[:size]

    return random


def context(name: str) -> EndpointContext:
    return EndpointContext(counted(name), name=name)


def responder(way: Way, config: PairingConfig = BOB, secret: bytes = b"", name: str = "bob") -> PairingResponder:
    return PairingResponder(config, way, secret or SECRETS[way], context(name))


def read(end: PairingResponder) -> Carried:
    """What the other end has, once it was carried there."""
    carried = end.carried
    return carried if carried.way is Way.WORDS else decode(carried.way, carried.encode())


def initiator(carried: Carried, config: PairingConfig = ALICE, name: str = "alice") -> PairingInitiator:
    return PairingInitiator(config, carried, context(name))


def guess(text: str, config: PairingConfig = MALLORY, name: str = "mallory") -> PairingInitiator:
    return initiator(words(BOB.identity, text), config, name)


def events(end: PairingEnd) -> list[Event]:
    found = []
    while (event := end.next_event()) is not None:
        found.append(event)
    return found


class Channel:
    """Carries frames between two ends; `change` may drop or alter each. `said` has all that were sent."""

    def __init__(
        self,
        one: PairingEnd,
        other: PairingEnd,
        change: Callable[[bytes, PairingEnd], bytes | None] = lambda data, to: data,
    ) -> None:
        self.one, self.other, self.change = one, other, change
        self.now = 0.0
        self.said: list[bytes] = []
        self.told: dict[PairingEnd, list[Event]] = {one: [], other: []}

    def step(self, seconds: float = STEP_S) -> None:
        for end in (self.one, self.other):
            end.handle_timer(self.now)
        for _ in range(4):
            for source, target in ((self.one, self.other), (self.other, self.one)):
                for data in source.frames_to_send(self.now):
                    self.said.append(data)
                    if (changed := self.change(data, target)) is not None:
                        target.receive_frame(changed, self.now)
        for end in (self.one, self.other):
            self.told[end] += events(end)
        self.now += seconds

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.step()

    def events(self, end: PairingEnd, kind: type) -> Iterator[Event]:
        return (event for event in self.told[end] if isinstance(event, kind))
