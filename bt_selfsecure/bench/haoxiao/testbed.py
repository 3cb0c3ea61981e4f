"""Alice, Bob and Eves on one virtual air: where attacks meet real endpoints, and claims the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, ClassVar, Final

from bt_selfsecure.air.models import Bernoulli, LossModel
from bt_selfsecure.air.world import World
from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import (
    AcceptRefused,
    ActiveAttack,
    Established,
    EstablishFailed,
    Event,
    MessageDelivered,
    MessageReceived,
    RequestRefused,
)
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.record import Role, SessionRecord
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import Endpoint
from bt_selfsecure.sansio.events import StateChanged

ALICE: Final = bytes.fromhex("02b75e000001")  # locally administered addresses: nobody's
BOB: Final = bytes.fromhex("02b75e000002")
BURST: Final = 64
BOB_LOSS, EVE_LOSS = 0.1, 0.05
DEFAULT_AIR: Final = Bernoulli({"alice": BOB_LOSS, "bob": BOB_LOSS, "eve": EVE_LOSS, "eve2": EVE_LOSS})
LONGEST_TRIAL_S: Final = 60.0
SESSION_S: Final = 3600.0
SESSION: Final = SessionConfig(checkpoint_rounds=16)
Speak = Callable[[bytes], Iterable[bytes]]
"""What Eve sends because of a datagram that she heard."""


def _silent(data: bytes) -> Iterable[bytes]:
    return ()


@dataclass
class Testbed:
    """Runs one establishment, and perhaps a session. `tap` and `speak` get what any of Eve's radios brings."""

    __test__: ClassVar = False  # pytest takes it for tests by its name

    profile: Profile
    seed: int
    air: LossModel = DEFAULT_AIR
    eves: tuple[str, ...] = ("eve",)
    speak: Speak = _silent
    tap: Callable[[float, bytes], object] = lambda time, data: None
    intact: Callable[[bytes], bool] = lambda data: True
    """Whether what Eve's radio brings came without damage."""
    burst: int = BURST
    compact: bool = False
    shares: bool = False
    authentication_key: bytes = b""
    meant: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    """What else is configured at the end of this identity: whom it means, and whether it requires continuity."""
    random: Callable[[int], bytes] | None = None
    """Of Alice's device; None: a good generator."""
    knowledge: Knowledge = field(default_factory=Knowledge)
    keys: dict[str, Established] = field(default_factory=dict)
    failures: dict[str, EstablishFailed] = field(default_factory=dict)
    """The last one of each end."""
    reports: int = 0
    """Contradicting packets that Alice or Bob reported."""
    received: dict[str, list[bytes]] = field(default_factory=lambda: {"alice": [], "bob": []})

    def __post_init__(self) -> None:
        self._draw = Random(self.seed)
        ears = {name: partial(self._ear, name) for name in self.eves}
        self.world = World(self.air.transmit, self._draw.getrandbits(63), ears)

    def hear(self, time: float, data: bytes) -> None:
        """Take what Eve's first radio brings."""
        self._ear(self.eves[0], time, data)

    def _ear(self, name: str, time: float, data: bytes) -> None:
        self.tap(time, data)
        if self.intact(data):
            self.knowledge.hear(data)
        for sent in self.speak(data):
            self.world.transmit(name, sent)

    def config(self, identity: bytes) -> EstablishConfig:
        settings: dict[str, Any] = {
            "burst": self.burst,
            "max_burst": self.burst,
            "threshold": self.burst // 4,
            "target_bits": 1,
            "compact": self.compact,
            "exchange_shares": self.shares,
            "authentication_key": self.authentication_key,
            "compare": True,
        }
        return EstablishConfig(identity, self.profile, **settings | self.meant.get(identity, {}))

    def responder(self) -> Responder:
        return Responder(self.config(BOB), EndpointContext(self._draw.randbytes))

    def establish(self, begin: float = 0.0) -> None:
        """Run until both ends have a key, or have given up. Alice begins then."""
        alice = Initiator(self.config(ALICE), EndpointContext(self.random or self._draw.randbytes))
        ends: dict[str, Endpoint[Event]] = {"alice": alice, "bob": self.responder()}

        def start() -> None:
            alice.start(self.world.now)
            self.world.wake("alice")

        self.world.at(begin, start)
        self.world.run_now(ends, self._on_event, self._over, begin + LONGEST_TRIAL_S)

    @property
    def established(self) -> bool:
        """Return whether both ends believe that they have a key."""
        return len(self.keys) == 2

    def _over(self) -> bool:
        return self.keys.keys() | self.failures.keys() >= {"alice", "bob"}

    def _on_event(self, name: str, event: Event, now: float) -> None:
        match event:
            case Established():
                self.keys[name] = event
            case EstablishFailed():
                self.failures[name] = event
            case ActiveAttack() | AcceptRefused() | RequestRefused():
                self.reports += 1
            case _:
                pass

    @property
    def eve_has_key(self) -> bool:
        """Return whether what Eve computed by herself is a key of either end."""
        material = self.knowledge.initial_key()
        return material is not None and self.is_key(material.k0)

    def is_key(self, k0: bytes) -> bool:
        return any(key.k0 == k0 for key in self.keys.values())

    def sessions(self, key: bytes | None = None) -> dict[str, Session]:
        """Return both ends of a session, from this K_0 or from the one that was established."""
        return {
            name: Session.start(
                self.profile, role, key or self.keys[name].k0, SESSION, EndpointContext(self._draw.randbytes)
            )
            for name, role in (("alice", Role.INITIATOR), ("bob", Role.RESPONDER))
        }

    def restored(self, record: SessionRecord) -> Session:
        """Return an end that was set back to this record."""
        return Session.restore(record, SESSION, EndpointContext(self._draw.randbytes), self.world.now)

    def converse(
        self, sessions: dict[str, Session], messages: Sequence[bytes], until: Callable[[], bool] = lambda: False
    ) -> None:
        """Each end sends the messages, until all are acknowledged, or `until` holds after a round of Alice's."""
        waiting = {name: list(messages) for name in sessions}
        acknowledged = dict.fromkeys(sessions, 0)
        enough = False

        def on_event(name: str, event: Event, now: float) -> None:
            nonlocal enough
            session = sessions[name]
            if isinstance(event, StateChanged):
                session.persisted(event.token)
            match event:
                case MessageReceived():
                    self.received[name].append(event.message)
                case MessageDelivered():
                    acknowledged[name] += event.count
                    enough = name == "alice" and until()
                case _:
                    pass
            if session.can_send and waiting[name]:
                session.send(waiting[name].pop(0), now)

        for name, session in sessions.items():
            if session.can_send:
                session.send(waiting[name].pop(0), self.world.now)
        self.world.run_now(sessions, on_event, lambda: enough or min(acknowledged.values()) >= len(messages), SESSION_S)
