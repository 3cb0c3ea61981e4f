"""A client that asks, a server that answers, and Eve on the way between them: where attacks meet real endpoints, and
claims the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from bt_selfsecure.air.world import World
from bt_selfsecure.bench.attacks import Trial
from bt_selfsecure.eve.dotp.attacks import Eve, Public
from bt_selfsecure.protocols.dotp.endpoint import Dotp, DotpConfig, Event, MessageReceived, Suspended
from bt_selfsecure.protocols.dotp.keys import HARDENED_BYTES, SN_BITS, ExhaustedError, Profile, Role
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.sansio.events import FrameRejected, Persist

REQUESTS: Final = 20
_WAYS: Final = {"client": "of client", "server": "of server", "to client": "client", "to server": "server"}


def request(number: int, path: bytes = b"time") -> bytes:
    """Return a confirmable GET of CoAP: message id `number`, no token, a path of four letters."""
    return b"\x40\x01" + number.to_bytes(2) + b"\xb4" + path


def answer(asked: bytes, text: bytes) -> bytes:
    """Return the 2.05 to a request, in its acknowledgement."""
    return b"\x60\x45" + asked[2:4] + b"\xff" + text


def is_request(text: bytes) -> bool:
    return text[:2] == b"\x40\x01" and text[4:5] == b"\xb4" and len(text) == len(request(0))


@dataclass(frozen=True, slots=True)
class Ends:
    """Holds what the two ends run against an attack."""

    label: str
    profile: Profile
    public: Public = field(default_factory=Public)

    def records(self, random: Random) -> dict[Role, DotpRecord]:
        """Return both ends of a new pair."""
        if self.profile is Profile.HARDENED:
            secret = random.randbytes(HARDENED_BYTES)
            return {role: DotpRecord.hardened(role, secret) for role in Role}
        sn = random.getrandbits(SN_BITS)
        return {role: DotpRecord.paper(role, sn, self.public.policy, self.public.bits) for role in Role}


@dataclass
class Testbed:
    """Lets the client ask once a second, `REQUESTS` times. `notify`: at that second the server speaks of its own
    accord."""

    ends: Ends
    seed: int
    notify: int = 0
    sent: dict[Role, list[bytes]] = field(default_factory=lambda: {role: [] for role in Role})
    read: dict[Role, list[bytes]] = field(default_factory=lambda: {role: [] for role in Role})
    """What came out at this end."""
    noticed: bool = False
    suspended: set[Role] = field(default_factory=set)

    def __post_init__(self) -> None:
        random = Random(self.seed)
        self.records = self.ends.records(random)
        public = self.ends.public
        config = DotpConfig(serial=public.serial, two_keys=public.two_keys)
        self._ends = {role: Dotp(record, config) for role, record in self.records.items()}
        self._first = random.randrange(1 << 15)
        self._world: World

    def asked(self, number: int) -> bytes:
        """Return the client's request of this second, from 1 on."""
        return request(self._first + number)

    def run(self, eve: Eve) -> None:
        """Run until nothing is left to happen."""

        def heard(random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
            return frozenset({_WAYS[sender]})

        def pass_on(sender: Role, data: bytes) -> None:
            for to, out in eve.hear(sender, data):
                world.transmit(f"to {to.value}", out)

        ears = {f"of {role.value}": lambda _, data, role=role: pass_on(role, data) for role in Role}
        self._world = world = World(heard, self.seed, ears)
        for number in range(1, REQUESTS + 1):
            world.at(number, lambda number=number: self._say(Role.CLIENT, self.asked(number)))  # type: ignore[misc]
        if self.notify:
            world.at(self.notify, lambda: self._say(Role.SERVER, answer(bytes(4), b"it has changed")))
        ends = {role.value: end for role, end in self._ends.items()}
        world.run_now(ends, self._on_event, lambda: False, 2.0 * REQUESTS)

    def _say(self, role: Role, text: bytes) -> None:
        try:
            self._ends[role].send(text, self._world.now)
        except ExhaustedError:
            return
        finally:
            self._world.wake(role.value)
        self.sent[role].append(text)

    def _on_event(self, name: str, event: Event | FrameRejected, now: float) -> None:
        role = Role(name)
        match event:
            case Persist():
                self._ends[role].persisted(event.token)
            case MessageReceived():
                self.read[role].append(event.message)
                if role is Role.SERVER and is_request(event.message):
                    self._say(role, answer(event.message, b"pulse %d" % len(self.sent[role])))
            case Suspended():
                self.suspended.add(role)
            case FrameRejected():
                self.noticed = True

    @property
    def in_step(self) -> bool:
        """Return whether the last request and its answer were read."""
        last = self.asked(REQUESTS)
        answered = [text for text in self.sent[Role.SERVER] if text[2:4] == last[2:4]]
        return last in self.read[Role.SERVER] and bool(answered) and answered[-1] in self.read[Role.CLIENT]

    @property
    def nonsense(self) -> bool:
        """Return whether an end read what the other did not send, or twice what it sent once."""
        return any(
            self.read[role].count(text) > self.sent[role.peer].count(text) for role in Role for text in self.read[role]
        )

    def trial(self, *, success: bool) -> Trial:
        return Trial(success, self.in_step, self.noticed)
