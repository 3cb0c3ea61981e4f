"""The story of the demo: a key from lost packets, a file across the rolling key, a listener, a stolen key that dies.

`tell` runs the real endpoints over an air and gives an `Outcome`. Alice, Bob and Eve get only what their radios give
them; the figures that compare them are the narrator's, who sees everything.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Final, Protocol

from bt_selfsecure.air.world import Medium
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.haoxiao.attacks import StolenKey
from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import (
    ActiveAttack,
    Established,
    EstablishFailed,
    Event,
    MessageDelivered,
    MessageReceived,
    Refusal,
    RequestRefused,
    ResponseVerified,
)
from bt_selfsecure.protocols.haoxiao.frames import FrameError, Kind, decode
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Persist
from bt_selfsecure.sansio.trace import KeyLog, Tracer
from bt_selfsecure.stats.losses import JointLoss, lower_bound, secret_bits
from bt_selfsecure.wording import counted

CONFIDENCE: Final = 0.95
SESSION_S: Final = 3600.0


class ReceptionOutcome(Enum):
    """Who heard one burst packet."""

    BOTH = "Bob and Eve"
    BOB_ONLY = "Bob, not Eve"
    EVE_ONLY = "Eve, not Bob"
    NEITHER = "nobody"


class Observer(Protocol):
    """Where the story is shown."""

    def say(self, line: str) -> None:
        """One sentence of the story."""
        ...

    def show(self, story: Scenario) -> None:
        """Something has changed; called often."""
        ...


@dataclass(frozen=True, slots=True)
class ScenarioConfig:
    """What the story is about."""

    alice: EstablishConfig
    bob: EstablishConfig
    file_name: str
    file: bytes = field(repr=False)
    seed: int
    message_bytes: int = 128
    """The file is sent in messages of this size, one a round."""
    theft: bool = True
    """Whether K_i is handed to Eve in a random round."""


@dataclass
class Outcome:
    """What happened, in figures; the truth, not what anybody believes."""

    profile: str
    target_bits: float
    eve_loss_bound: float
    sent: int = 0
    received_set: tuple[int, ...] = ()
    fates: list[ReceptionOutcome] = field(default_factory=list)
    established: bool = False
    equal_keys: bool = False
    fingerprint: str = ""
    sas: str = ""
    authenticated: bool = False
    failure: str = ""
    attacks_reported: int = 0
    """Contradicting packets that Alice or Bob noticed."""
    joint: JointLoss = field(default_factory=lambda: JointLoss(0, 0, 0, 0))
    e_given_bob_low: float = 0.0
    """Lower bound on e|B from this very burst, at `CONFIDENCE`."""
    secret_bits: float = 0.0
    """By the losses of this burst, with that bound."""
    planned_bits: float = 0.0
    """By |S| and the bound that Alice was given: what she goes by when she ends the burst."""
    eve_has_key: bool = False
    """She computed K_0, and it is Alice's or Bob's."""
    file_sha256_sent: str = ""
    file_sha256_received: str = ""
    file_bytes: int = 0
    rounds: int = 0
    attempts: list[int] = field(default_factory=list)
    """How often Alice sent the message of each of her rounds."""
    retransmissions: int = 0
    """Of both ends."""
    stolen_at: int | None = None
    """Round whose K_i was handed to Eve; 0 where she computed K_0, and nothing need be handed to her."""
    read: tuple[int, ...] = ()
    """Rounds whose messages she read with it, and what follows from it."""
    rounds_until_thief_is_out: int | None = None
    """Rounds from there to the first that rolled without her, that one included; None if she is still in."""
    seconds: float = 0.0
    """Virtual time."""

    @property
    def delivered(self) -> bool:
        return bool(self.file_sha256_sent) and self.file_sha256_sent == self.file_sha256_received

    @property
    def secret(self) -> bool:
        """Whether Eve lacks a packet of the key. Whatever else she missed is no secret."""
        return self.joint.bob_only > 0 and not self.eve_has_key

    @property
    def success(self) -> bool:
        """Whether two ends share a key that Eve does not have, and the file came across."""
        return self.established and self.equal_keys and self.delivered and self.secret

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.established:
            return f"No key: {self.failure}."
        if self.eve_has_key and self.attacks_reported:
            return (
                "The key is broken: Eve holds K_0, for what she had missed was struck out. Contradicting packets were "
                "seen, and both ends go on, as the paper has it."
            )
        if self.eve_has_key:
            return "The key is broken: Eve heard every packet of it and holds K_0; neither end can notice."
        if not self.secret:
            return "The key is not secret: Eve heard every packet of it, and lacks only what any listener can hear."
        planned, target = f"{self.planned_bits:.0f} secret bits by the given bound on her loss", f"{self.target_bits:g}"
        if self.planned_bits < self.target_bits:
            end = f"only {planned}: the target of {target} is MISSED."
        elif self.secret_bits < self.target_bits:
            end = f"{planned} reach the target of {target}, but this burst itself proves no more than "
            end += f"{self.secret_bits:.0f}."
        else:
            end = f"{self.secret_bits:.0f} secret bits by the loss in this burst: the target of {target} is reached."
        return (
            f"Eve lacks {self.joint.bob_only} of the {self.joint.received} packets in the key and is locked out; {end}"
        )


class _Watched:
    """An endpoint, and the burst packets that it sent, or received without contradiction."""

    def __init__(self, endpoint: Initiator | Responder, changed: Callable[[], None]) -> None:
        self._endpoint: Final = endpoint
        self._changed: Final = changed
        self.seqs: Final[set[int]] = set()
        self._messages: Final[dict[int, bytes]] = {}
        self.get_timer: Final = endpoint.get_timer
        self.handle_timer: Final = endpoint.handle_timer
        self.next_event: Final = endpoint.next_event

    def _note(self, data: bytes) -> None:
        try:
            frame = decode(data)
        except FrameError:
            return
        if frame.kind in (Kind.RAND, Kind.RAND_COMPACT):
            self.seqs.add(frame.seq)
            if self._messages.setdefault(frame.seq, frame.message) != frame.message:
                self.seqs.discard(frame.seq)  # struck out: row 5
            self._changed()

    def receive_frame(self, data: bytes, now: float) -> None:
        if isinstance(self._endpoint, Responder):
            self._note(data)
        self._endpoint.receive_frame(data, now)

    def frames_to_send(self, now: float) -> list[bytes]:
        frames = self._endpoint.frames_to_send(now)
        for data in frames if isinstance(self._endpoint, Initiator) else ():
            self._note(data)
        return frames


class _Counted:
    """A session, and how often it sent the message of each round."""

    def __init__(self, session: Session) -> None:
        self._session: Final = session
        self._attempts: Final[Counter[int]] = Counter()
        self.get_timer: Final = session.get_timer
        self.handle_timer: Final = session.handle_timer
        self.next_event: Final = session.next_event
        self.receive_frame: Final = session.receive_frame

    @property
    def attempts(self) -> list[int]:
        return [self._attempts[seq] for seq in sorted(self._attempts)]

    def frames_to_send(self, now: float) -> list[bytes]:
        frames = self._session.frames_to_send(now)
        data = sum(decode(frame).kind is Kind.DATA for frame in frames)
        if data:
            self._attempts[self._session.record.sending.chain.seq] += data
        return frames


class Scenario:
    """One telling. What is public here is for the stage."""

    def __init__(
        self,
        plot: ScenarioConfig,
        eve: Knowledge,
        stage: Observer,
        tracer: Tracer | None = None,
        key_log: KeyLog | None = None,
    ) -> None:
        self.plot: Final = plot
        self.eve: Final = eve
        self.outcome: Final = Outcome(plot.alice.profile.label, plot.alice.target_bits, plot.alice.eve_loss_bound)
        self.chunks: Final = [
            plot.file[start : start + plot.message_bytes] for start in range(0, len(plot.file), plot.message_bytes)
        ]
        self.phase = "establish"
        self.bits = 0.0
        """Secret bits as Alice reckons them so far: |S| and the bound that she was given."""
        self._stage: Final = stage
        self._tracer: Final = tracer
        self._key_log: Final = key_log
        self._random: Final = Random(plot.seed)
        self._keys: dict[str, Established] = {}
        self._failed: dict[str, EstablishFailed] = {}
        self._thief: StolenKey | None = None
        self._file: list[bytes] = []
        self._receipt = b""
        self._sessions: dict[str, Session] = {}
        self._alice: _Watched
        self._bob: _Watched

    # --- what the stage shows -----------------------------------------------------------------------------------------

    @property
    def sent(self) -> int:
        return len(self._alice.seqs)

    @property
    def received(self) -> int:
        return len(self._bob.seqs)

    @property
    def delivered(self) -> int:
        """Messages of the file that arrived."""
        return len(self._file)

    @property
    def read(self) -> frozenset[int]:
        """Rounds whose messages Eve has read with the stolen key."""
        return frozenset(self._thief.read) if self._thief else frozenset()

    @property
    def out_at(self) -> int | None:
        """The first round whose key Eve, who had stolen an earlier one, does not hold."""
        rounds, stolen_at = self.outcome.rounds_until_thief_is_out, self.outcome.stolen_at
        return None if rounds is None or stolen_at is None else stolen_at + rounds

    def fates(self) -> list[ReceptionOutcome]:
        """Who heard each burst packet so far."""
        return [self._fate(seq) for seq in range(self.sent)]

    def _fate(self, seq: int) -> ReceptionOutcome:
        match seq in self._bob.seqs, seq in self.eve.burst:
            case True, True:
                return ReceptionOutcome.BOTH
            case True, False:
                return ReceptionOutcome.BOB_ONLY
            case False, True:
                return ReceptionOutcome.EVE_ONLY
            case _:
                return ReceptionOutcome.NEITHER

    # --- the telling --------------------------------------------------------------------------------------------------

    def hear(self, time: float, data: bytes) -> None:
        """What one of Eve's radios heard."""
        frame = self.eve.hear(data)
        if frame is not None and self._thief is not None and self.phase == "session":
            self._thief.hear(frame)
        self._changed()

    async def tell(self, air: Medium) -> Outcome:
        """Establish, send, steal; then the figures."""
        await self._establish(air)
        self._judge_key()
        if self.outcome.established and self.outcome.equal_keys:
            await self._converse(air)
        self.phase = "end"
        self.outcome.seconds = air.now
        self._changed()
        return self.outcome

    def _changed(self) -> None:
        self._stage.show(self)

    async def _establish(self, air: Medium) -> None:
        plot, random = self.plot, self._random.randbytes
        initiator = Initiator(plot.alice, EndpointContext(random, self._tracer, self._key_log, "alice"))
        responder = Responder(plot.bob, EndpointContext(random, self._tracer, self._key_log, "bob"))
        self._alice, self._bob = _Watched(initiator, self._changed), _Watched(responder, self._changed)
        self._stage.say(
            f"Alice asks Bob for a key and bursts random packets, one every {plot.alice.interval * 1000:g} ms."
        )
        initiator.start(air.now)
        await air.run(
            {"alice": self._alice, "bob": self._bob},
            self._on_establishment,
            lambda: {"alice", "bob"} <= self._keys.keys() | self._failed.keys(),
            seconds=3600.0,
        )
        self.outcome.sent = initiator.sent

    def _on_establishment(self, name: str, event: Event, now: float) -> None:
        match event:
            case Established():
                self._keys[name] = event
            case EstablishFailed():
                self._failed[name] = event
                self._stage.say(f"{name.capitalize()} gives up: {event.reason.value}{_in_brackets(event.detail)}.")
            case ActiveAttack():
                self.outcome.attacks_reported += 1
                if self.outcome.attacks_reported == 1:
                    self._stage.say(f"{name.capitalize()} notices an attack: two contradicting packets {event.seq}.")
            case RequestRefused():
                self._refused(event)
            case ResponseVerified():
                self.bits = event.secret_bits
                short = event.secret_bits < self.plot.alice.target_bits and not self.plot.alice.hardened
                self._stage.say(
                    f"Bob has kept {event.received} packets: {event.secret_bits:.0f} secret bits by the bound on Eve's "
                    f"loss, if she only listens; target {self.plot.alice.target_bits:g}"
                    f"{', of which the paper knows nothing.' if short else '.'}"
                )
            case _:
                pass
        self._changed()

    def _refused(self, event: RequestRefused) -> None:
        if event.reason is Refusal.PROFILE:
            raise UsageError(
                f"Alice's profile is '{self.plot.alice.profile.label}', Bob's '{self.plot.bob.profile.label}', so "
                "he keeps silent: give both the same"
            )
        self._stage.say(f"Bob keeps silent: {event.reason.value}.")

    def _judge_key(self) -> None:
        """Compare what the three have. Eve's own claim is checked against the truth."""
        outcome, keys = self.outcome, self._keys
        outcome.fates = self.fates()
        outcome.established = {"alice", "bob"} <= keys.keys()
        outcome.planned_bits = self.bits
        if "bob" in keys:
            outcome.received_set = keys["bob"].received
        if outcome.established:
            outcome.equal_keys = keys["alice"].k0 == keys["bob"].k0
            outcome.fingerprint, outcome.sas = keys["alice"].fingerprint, str(keys["alice"].sas)
            outcome.authenticated = keys["alice"].authenticated
        else:
            failed = next(iter(self._failed.values()), None)  # who gave up first knows why
            outcome.failure = failed.reason.value + _in_brackets(failed.detail) if failed else "time ran out"
        kept = set(outcome.received_set) if outcome.received_set else self._bob.seqs
        outcome.joint = JointLoss.of(max(outcome.sent, self.sent), kept, set(self.eve.burst))
        material = self.eve.initial_key()
        outcome.eve_has_key = material is not None and any(key.k0 == material.k0 for key in keys.values())
        self._measure()

    def _measure(self) -> None:
        """Secret bits that this burst proves: by its own lower bound on e|B, and never more than Eve's misses hide."""
        outcome, joint = self.outcome, self.outcome.joint
        outcome.e_given_bob_low = lower_bound(joint.bob_only, joint.received, CONFIDENCE) if joint.received else 0.0
        hidden = 8.0 * self.plot.alice.message_bytes * joint.bob_only
        outcome.secret_bits = secret_bits(joint.received, outcome.e_given_bob_low, missed_entropy=hidden)
        if outcome.established:
            self._stage.say(f"Both ends hold K_0, fingerprint {outcome.fingerprint}; to compare aloud: {outcome.sas}.")
            self._stage.say(outcome.verdict)

    async def _converse(self, air: Medium) -> None:
        """The file from Alice to Bob, his receipt back, and the theft of K_i at a random round."""
        self.phase = "session"
        outcome, profile = self.outcome, self.plot.alice.profile
        outcome.file_bytes = len(self.plot.file)
        outcome.file_sha256_sent = hashlib.sha256(self.plot.file).hexdigest()
        if outcome.eve_has_key:
            outcome.stolen_at = 0
        elif self.plot.theft:
            outcome.stolen_at = self._random.randrange(1, max(2, len(self.chunks) // 2))
        self._stage.say(
            f"Alice sends {self.plot.file_name} ({outcome.file_bytes} bytes) in {len(self.chunks)} messages; "
            "the key rolls at each."
        )
        sessions = {
            name: Session.start(
                profile,
                role,
                self._keys[name].k0,
                SessionConfig(),
                EndpointContext(self._random.randbytes, self._tracer, self._key_log, name),
            )
            for name, role in (("alice", Role.INITIATOR), ("bob", Role.RESPONDER))
        }
        self._sessions = sessions
        if outcome.eve_has_key:
            self._thief = StolenKey(sessions["alice"].record.sending.chain)  # of the K_0 that is hers, too
            self._stage.say("Eve reads along from the first message on: with K_0 nothing need be stolen.")
        sessions["alice"].send(self.chunks[0], air.now)
        counting = {name: _Counted(session) for name, session in sessions.items()}
        await air.run(counting, self._on_session, self._all_acknowledged, SESSION_S)
        outcome.file_sha256_received = hashlib.sha256(b"".join(self._file)).hexdigest()
        outcome.rounds = sum(session.record.sending.chain.seq for session in sessions.values())
        outcome.attempts = counting["alice"].attempts
        outcome.retransmissions = sum(number - 1 for end in counting.values() for number in end.attempts)
        outcome.read = tuple(sorted(self.read))
        self._stage.say(self._ending())

    def _all_acknowledged(self) -> bool:
        """Whether Alice has the receipt, Bob knows it, and Alice knows that her last message came."""
        rolled = [self._sessions[name].record.sending.chain.seq for name in ("alice", "bob")]
        return bool(self._receipt) and rolled == [len(self.chunks), 1]

    def _on_session(self, name: str, event: Event, now: float) -> None:
        session = self._sessions[name]
        match event:
            case Persist():
                session.persisted(event.token)  # the demo's disk is its memory
            case MessageReceived() if name == "bob":
                self._file.append(event.message)
                if len(self._file) == len(self.chunks):
                    session.send(hashlib.sha256(b"".join(self._file)).digest(), now)
            case MessageReceived():
                self._receipt = event.message
            case MessageDelivered() if name == "alice":
                self._round_over(event.seq)
                if event.seq + 1 < len(self.chunks):
                    session.send(self.chunks[event.seq + 1], now)
            case _:
                pass
        self._changed()

    def _round_over(self, seq: int) -> None:
        """Round `seq` has rolled Alice's key. Hand it to Eve where the plot says so; see whether she still has it."""
        outcome, chain = self.outcome, self._sessions["alice"].record.sending.chain
        if self._thief is None and outcome.stolen_at == seq + 1:
            self._thief = StolenKey(chain)
            self._stage.say(f"K_{chain.seq} of Alice's is handed to Eve.")
        elif self._thief is None or outcome.rounds_until_thief_is_out is not None or self._thief.may_hold(chain.key):
            return
        else:
            outcome.rounds_until_thief_is_out = chain.seq - (outcome.stolen_at or 0)
            self._stage.say(
                f"She missed the packet of round {seq} that Bob accepted: from K_{chain.seq} on she is out, "
                f"after {counted(outcome.rounds_until_thief_is_out, 'round')}."
            )

    def _ending(self) -> str:
        outcome = self.outcome
        if not outcome.delivered:
            return f"The file did not come across: {self.delivered} of {len(self.chunks)} messages arrived."
        return (
            f"Bob has the file, SHA-256 equal ({outcome.file_sha256_received[:16]}...), after {outcome.rounds} rounds "
            f"and {counted(outcome.retransmissions, 'retransmission')}; his receipt came back by the other chain."
        )


def _in_brackets(detail: str) -> str:
    return f" ({detail})" if detail else ""
