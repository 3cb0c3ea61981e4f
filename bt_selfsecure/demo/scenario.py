"""The story of the demo: a key from lost packets, a file across the rolling key, a listener, a stolen key that dies.

`tell` runs the real endpoints over an air and gives an `Outcome`. Alice, Bob and Eve get only what their radios give
them; the figures that compare them are the narrator's, who sees everything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from bt_selfsecure.air.world import Medium
from bt_selfsecure.demo.outcome import CONFIDENCE, Outcome, ReceptionOutcome
from bt_selfsecure.demo.watching import WatchedEnd, WatchedSession
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.haoxiao.attacks import StolenKey
from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.protocols.haoxiao import limits
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
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import StateChanged
from bt_selfsecure.sansio.trace import KeyLog, Tracer
from bt_selfsecure.stats.losses import JointLoss, lower_bound, missed_entropy, secret_bits
from bt_selfsecure.wording import counted

SESSION_S: Final = 3600.0


class Observer(Protocol):
    """The story is shown to this."""

    def say(self, line: str) -> None:
        """Take one sentence of the story."""
        ...

    def show(self, story: Scenario) -> None:
        """Look at the story, which has changed; this is called often."""
        ...


@dataclass(frozen=True, slots=True)
class ScenarioConfig:
    """This says what the story is about."""

    alice: EstablishConfig
    bob: EstablishConfig
    file_name: str
    file: bytes = field(repr=False)
    seed: int
    message_bytes: int = 128
    """The file is sent in messages of this size, one a round."""
    theft: bool = True
    """Whether K_i is handed to Eve in a random round."""


class Scenario:
    """This is one telling. What is public here is for the stage."""

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
        self._alice: WatchedEnd
        self._bob: WatchedEnd

    # --- what the stage shows -----------------------------------------------------------------------------------------

    @property
    def sent(self) -> int:
        return len(self._alice.seqs)

    @property
    def received(self) -> int:
        return len(self._bob.seqs)

    @property
    def delivered(self) -> int:
        """Return the count of the file's messages that arrived."""
        return len(self._file)

    @property
    def read(self) -> frozenset[int]:
        """Return rounds whose messages Eve has read with the stolen key."""
        return frozenset(self._thief.read) if self._thief else frozenset()

    @property
    def out_at(self) -> int | None:
        """Return the first round whose key Eve, who had stolen an earlier one, does not hold."""
        rounds, stolen_at = self.outcome.rounds_until_thief_is_out, self.outcome.stolen_at
        return None if rounds is None or stolen_at is None else stolen_at + rounds

    def fates(self) -> list[ReceptionOutcome]:
        """Return who heard each burst packet so far, in the order of sending."""
        bob, eve = self._bob.seqs, self.eve.burst
        return [ReceptionOutcome.of(bob=seq in bob, eve=seq in eve) for seq in range(self.sent)]

    # --- the telling --------------------------------------------------------------------------------------------------

    def hear(self, time: float, data: bytes) -> None:
        """Take what one of Eve's radios heard."""
        frame = self.eve.hear(data)
        if frame is not None and self._thief is not None and self.phase == "session":
            self._thief.hear(frame)
        self._changed()

    async def tell(self, air: Medium) -> Outcome:
        """Establish, send and steal, and return the figures."""
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
        self._alice, self._bob = WatchedEnd(initiator, self._changed), WatchedEnd(responder, self._changed)
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
        """Reckon the secret bits that this burst proves: by its own lower bound on e|B, never more than Eve's misses
        hide."""
        outcome, joint = self.outcome, self.outcome.joint
        outcome.e_given_bob_low = lower_bound(joint.bob_only, joint.received, CONFIDENCE) if joint.received else 0.0
        alice = self.plot.alice
        told = limits.DIGEST_BYTES if alice.hardened else 0  # by the list
        hidden = missed_entropy(joint.bob_only, packet_bits=8 * (alice.message_bytes - told))
        outcome.secret_bits = secret_bits(joint.received, outcome.e_given_bob_low, missed_entropy=hidden)
        if outcome.established:
            self._stage.say(f"Both ends hold K_0, fingerprint {outcome.fingerprint}; to compare aloud: {outcome.sas}.")
            self._stage.say(outcome.verdict)

    async def _converse(self, air: Medium) -> None:
        """Send the file from Alice to Bob and his receipt back, and hand K_i to Eve at a random round."""
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
        counting = {name: WatchedSession(session) for name, session in sessions.items()}
        await air.run(counting, self._on_session, self._all_acknowledged, SESSION_S)
        outcome.file_sha256_received = hashlib.sha256(b"".join(self._file)).hexdigest()
        outcome.rounds = sum(session.record.sending.chain.seq for session in sessions.values())
        outcome.attempts = counting["alice"].attempts
        outcome.retransmissions = sum(number - 1 for end in counting.values() for number in end.attempts)
        outcome.read = tuple(sorted(self.read))
        self._stage.say(self._ending())

    def _all_acknowledged(self) -> bool:
        """Return whether Alice has the receipt, Bob knows it, and Alice knows that her last message came."""
        rolled = [self._sessions[name].record.sending.chain.seq for name in ("alice", "bob")]
        return bool(self._receipt) and rolled == [len(self.chunks), 1]

    def _on_session(self, name: str, event: Event, now: float) -> None:
        session = self._sessions[name]
        if isinstance(event, StateChanged):
            session.persisted(event.token)  # the demo's disk is its memory
        match event:
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
        """Hand the key to Eve where the plot says so, after round `seq` has rolled Alice's; see whether she still has
        it."""
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
