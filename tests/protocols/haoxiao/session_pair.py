"""Alice and Bob for stories: two sessions, their drivers, and a medium that carries exactly what a story says."""

from __future__ import annotations

import hashlib
from typing import TypeVar

from bt_selfsecure.protocols.haoxiao.events import Event, MessageReceived
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode
from bt_selfsecure.protocols.haoxiao.record import Role, SessionRecord
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import StateChanged
from bt_selfsecure.sansio.trace import Transition

EVERY_W = SessionConfig(Durability.EVERY_W, checkpoint_rounds=4)
Told = TypeVar("Told", bound=Event)


class Counter:
    """`random(n)`, the same in each run."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return hashlib.shake_128(f"{self.name} {self.count}".encode()).digest(size)


class End:
    """A session and its driver, whose disk writes at once unless `holds` is set, and tells no more than it has to."""

    def __init__(self, profile: Profile, role: Role, config: SessionConfig) -> None:
        self.config, self.random = config, Counter(role.value)
        self.trace: list[Transition] = []
        self.key_lines: list[str] = []
        self.session = Session.start(
            profile, role, bytes(32), config, EndpointContext(self.random, self.trace.append, self.key_lines.append)
        )
        self.events: list[Event] = []
        self.records: list[StateChanged[SessionRecord]] = []
        self.holds = False
        self.serve()

    def serve(self) -> None:
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, StateChanged):
                self.records.append(event)
                if event.sync and not self.holds:
                    self.session.persisted(event.token)

    def write(self) -> None:
        """The disk has caught up."""
        self.session.persisted(self.records[-1].token)

    def told(self, kind: type[Told]) -> list[Told]:
        """All events of one kind, so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def messages(self) -> list[bytes]:
        return [event.message for event in self.told(MessageReceived)]

    def restart(self, record: SessionRecord | None = None, now: float = 0.0) -> None:
        """The process dies, and starts again from its newest record or an older one."""
        record = self.records[-1].record if record is None else record
        self.session = Session.restore(
            SessionRecord.from_json(record.to_json()), self.config, EndpointContext(self.random), now
        )
        self.serve()


class Pair:
    """Alice and Bob, and a medium that carries exactly what a story says."""

    def __init__(self, profile: Profile, config: SessionConfig) -> None:
        self.alice, self.bob = (End(profile, role, config) for role in Role)
        self.now = 0.0

    def send(self, message: bytes, end: End | None = None) -> bytes:
        """Begin a round, by default Alice's; its first frame."""
        end = end or self.alice
        end.session.send(message, self.now)
        return self.frame(end)

    def frames(self, end: End) -> list[bytes]:
        end.serve()
        return end.session.frames_to_send(self.now)

    def frame(self, end: End) -> bytes:
        """The one frame that an end has to send."""
        (data,) = self.frames(end)
        return data

    def give(self, end: End, *frames: bytes) -> list[bytes]:
        """Let frames arrive; what the end sends then."""
        for data in frames:
            end.session.receive_frame(data, self.now)
        return self.frames(end)

    def wait(self, end: End) -> list[bytes]:
        """Let the end's timer run out; what it sends then."""
        timer = end.session.get_timer()
        assert timer is not None
        self.now = timer
        end.session.handle_timer(self.now)
        return self.frames(end)

    def round(self, message: bytes, *, back: bool = False) -> None:
        """A whole round without any loss."""
        sender, receiver = (self.bob, self.alice) if back else (self.alice, self.bob)
        assert self.give(sender, *self.give(receiver, self.send(message, sender))) == []

    def settle(self) -> None:
        """Whatever either has to send arrives, until both are silent; timers stand still."""
        moved = True
        while moved:
            moved = False
            for sender, receiver in ((self.alice, self.bob), (self.bob, self.alice)):
                for data in self.frames(sender):
                    moved = True
                    receiver.session.receive_frame(data, self.now)

    def heal(self) -> None:
        """As `settle`, and timers run."""
        for _ in range(50):
            self.settle()
            for end in (self.alice, self.bob):
                if end.session.get_timer() is not None:
                    for data in self.wait(end):
                        (self.bob if end is self.alice else self.alice).session.receive_frame(data, self.now)

    def agree(self) -> bool:
        """Both ends hold the same chains, and neither has anything to do."""
        alice, bob = self.alice.session, self.bob.session
        return (
            alice.record.sending.chain == bob.record.receiving.chain
            and bob.record.sending.chain == alice.record.receiving.chain
            and alice.get_timer() is bob.get_timer() is None
            and alice.can_send
            and bob.can_send
        )


def kinds(frames: list[bytes]) -> list[Kind]:
    return [decode(data).kind for data in frames]
