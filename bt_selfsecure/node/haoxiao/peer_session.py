"""The session with one peer: what it is fed with, what it delivers, and what of it must last. Part of `PeerMachine`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from bt_selfsecure.node.errors import QueueFullError
from bt_selfsecure.node.haoxiao.key_in_use import KeyInUse
from bt_selfsecure.node.haoxiao.outbox import FragmentQueue, ends_message
from bt_selfsecure.node.haoxiao.peer_events import (
    Deliver,
    Delivered,
    DropPieces,
    GenerationAgreed,
    KeepPiece,
    KeepState,
    Kept,
    Level,
    Outputs,
    PeerConfig,
    Refused,
    Stored,
    Urgency,
)
from bt_selfsecure.node.haoxiao.session_table import AGREED, SESSION_TABLE, UNREACHABLE, SessionInput, SessionState
from bt_selfsecure.node.haoxiao.trust import PeerTrust
from bt_selfsecure.node.messages import Joiner, parse, split
from bt_selfsecure.node.metrics import PeerCounters
from bt_selfsecure.protocols.haoxiao.events import (
    Established,
    Event,
    MessageDelivered,
    MessageReceived,
    Resynchronised,
    Unreachable,
)
from bt_selfsecure.protocols.haoxiao.exported import PORT, Generations
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, peek_kind
from bt_selfsecure.protocols.haoxiao.record import Role, SessionRecord
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected, Persist, StateChanged
from bt_selfsecure.sansio.trace import Machine

S, I = SessionState, SessionInput


class PeerSession:
    """Carries the messages to and from one peer. `PeerMachine` gives it its frames, and tells it every event of its
    session."""

    def __init__(
        self,
        config: PeerConfig,
        stored: Stored,
        counts: PeerCounters,
        out: Outputs,
        context: EndpointContext,
        new_number: Callable[[], int],
        trust: PeerTrust,
        now: float,
    ) -> None:
        self.session: Session | None = None
        self.trouble = stored.damage
        """Of the last time; empty after a success."""
        self.answered_at = 0.0
        """Time of the last answer."""
        self.key: Final = KeyInUse(config, stored, now)
        self.outbox: Final = FragmentQueue(stored.fragments, out, new_number)
        self._config, self._counts, self._out, self._context = config, counts, out, context
        self._trust: Final = trust
        self._machine: Final = Machine(config.name, "peer's session", SESSION_TABLE, S.NO_KEY, context.tracer)
        self._agreed: set[bool] = set()
        """Directions in which both ends have found together since start or new key; True is ours to send in."""
        self._synchronised = stored.synchronised
        """The two ends have agreed at least once, so that rounds can be counted."""
        self._next_out = self._next_in = 0
        self._in_session: dict[int, int] = {}
        """Numbers of the fragments that the session has, by Seq."""
        self._has_left = False
        """The newest of them was sent."""
        self._unkept: dict[int, tuple[int, int, bool]] = {}
        """Messages that are not on disk yet and can be refused, by number: their first fragment's, the commit's token,
        to be told."""
        self._to_release: list[tuple[int, int]] = []
        """The token of a commit, and the session's that it stands for."""
        self._joiner: Final = Joiner(stored.pieces)
        self.generations: Final = Generations(stored.generations)
        """Of the keys for other programs."""
        if stored.damage:
            self.outbox.drop_begun()  # its first fragments were in the session
            out.log(Level.ERROR, stored.damage, "record-damaged")
        if stored.record:
            self._restore(stored.record, now)

    def _restore(self, record: SessionRecord, now: float) -> None:
        self._next_out = record.sending.chain.seq + len(record.sending.messages)
        self._next_in = record.receiving.chain.seq
        self._machine.on(I.KEY, now)
        self.session = Session.restore(record, self._config.session, self._context, now)

    @property
    def state(self) -> SessionState:
        return self._machine.state

    @property
    def is_agreed(self) -> bool:
        """Return whether the two ends have found together in both directions, since start or new key."""
        return self._machine.state in AGREED

    @property
    def is_unreachable(self) -> bool:
        return self._machine.state in UNREACHABLE

    @property
    def waiting(self) -> int:
        """Return the number of messages that the peer is not known to have, with the one that is under way."""
        begun = self.session.record.sending.messages if self.session else ()
        return self.outbox.messages + sum(map(ends_message, begun))

    @property
    def half_received_bytes(self) -> int:
        """Return the bytes that are here of a message that is under way."""
        return self._joiner.bytes

    # --- out

    def send(self, message: bytes, port: int, *, durable: bool, stays: bool = False) -> int:
        """Queue a message, as `PeerMachine.send` does."""
        fragments = list(split(message, port, self._config.fragment_bytes))
        waiting = self.waiting
        if waiting >= self._config.queue_messages or not self.outbox.has_room(len(message)):
            raise QueueFullError(f"{waiting} messages wait for {self._config.name}: try again when it has some of them")
        first, number = self.outbox.put(fragments)
        token = self._out.commit(Urgency.NOW if durable else Urgency.LATER)
        if not stays:
            self._unkept[number] = first, token, durable
        return number

    def feed(self, now: float) -> bool:
        """Give the session the next fragment, if it takes one now; return whether it did.

        Its events are to be taken first: which fragment is the next can depend on where the two ends have just agreed
        to go on.
        """
        if not (self.outbox and self.session and self.session.can_send):
            return False
        number, fragment = self.outbox.take()
        seq = self.session.send(fragment, now)
        self._in_session[seq] = number
        self._next_out, self._has_left = seq + 1, False
        return True

    def persisted(self, token: int) -> None:
        """Take note that what was noted up to the commit of this token is on disk."""
        for number, (_, of_message, told) in list(self._unkept.items()):
            if of_message <= token:
                del self._unkept[number]
                if told:
                    self._out.put(Kept(number))
        while self._to_release and self._to_release[0][0] <= token:
            _, of_session = self._to_release.pop(0)
            if self.session:
                self.session.persisted(of_session)

    def refused(self, now: float) -> None:
        """Give up messages of which nothing has left: the disk has not taken what it was to take now."""
        for number, (first, _, _) in reversed(list(self._unkept.items())):
            del self._unkept[number]
            if self._take_back(first, number, now):
                self._out.put(Refused(number))

    def _take_back(self, first: int, last: int, now: float) -> bool:
        """Take the message of these fragments back, unless something of it has left; whether that was so."""
        newest = self._next_out - 1
        if self.session and self._in_session.get(newest) == first and not self._has_left:
            self.session.withdraw(now)
            self._next_out = newest
            del self._in_session[newest]
        elif not self.outbox.holds(first):
            return False
        self.outbox.take_back(first, last)
        return True

    def count(self, frame: bytes) -> None:
        """Count a frame of the session's that is sent; its head (kind, Retran, Len) tells a retransmission."""
        if peek_kind(frame) is Kind.DATA:
            self._has_left = True
            self._counts.frames += 1
            self._counts.retransmissions += frame[1] >> 4 > 0

    # --- events

    def on_event(self, event: Event, now: float) -> None:
        """Note and tell what the session has to tell; not `ReestablishNeeded`."""
        match event:
            case MessageReceived():
                self._counts.rounds_in += 1
                self._out.log(Level.DEBUG, "round accepted", "accepted", event.seq)
                self._on_received(event)
                self._persist(event)
            case MessageDelivered():
                self._counts.rounds_out += event.count
                self._out.log(Level.DEBUG, "round acknowledged", "acknowledged", event.seq)
                self._answered(now)
                for seq in event.rounds:
                    self._on_delivered(self._in_session.pop(seq, 0))
                self._persist(event)
            case Persist():
                self._persist(event)
            case Resynchronised():
                self._on_resynchronised(event, now)
            case Unreachable():
                if not self.is_unreachable:
                    self._machine.on(I.SILENT, now)
                self._say("it does not answer; messages wait", "unreachable", event.seq)
                self._out.look_due = True
            case FrameRejected():
                self._out.log(Level.DEBUG, f"{event.reason.value} {event.detail}", "rejected")
            case _:
                self._out.log(Level.DEBUG, str(event))

    def _on_received(self, event: MessageReceived) -> None:
        fragment, had = parse(event.message), len(self._joiner.pieces)
        if event.seq != self._next_in or (fragment and fragment.first):
            self._joiner.drop()  # rounds are missing, forgotten by both ends in crashes: no message may bridge them
        self._next_in = event.seq + 1
        if fragment is None:
            return
        message = self._joiner.add(fragment)
        if had and len(self._joiner.pieces) <= had:
            self._out.put(DropPieces())
        if message is not None and fragment.port == PORT:
            if is_agreed := self.generations.receive(message):
                self._out.put(GenerationAgreed())
            self.say_generation(changed=is_agreed)
        elif message is not None:
            self._out.put(Deliver(fragment.port, message))
        elif self._joiner.pieces:
            self._out.put(KeepPiece(fragment.piece))

    def _on_delivered(self, number: int) -> None:
        if number:
            self._unkept.pop(number, None)
            self._out.put(Delivered(number))
            if self.generations.to_say:
                self.say_generation()

    def _on_resynchronised(self, event: Resynchronised, now: float) -> None:
        self._counts.resynchronisations += 1
        direction = "out" if event.sending else "in"
        self._out.log(Level.INFO, f"resynchronised, {direction} from round {event.seq}", "resynchronised", event.seq)
        self._answered(now)
        self._agreed.add(event.sending)
        if len(self._agreed) == 2:
            self._machine.on(I.AGREED, now)
            self.generations.say_again()
            self.say_generation()
        self._out.look_due = True
        if not event.sending:
            return
        # Rounds that the peer has and we know nothing of were sent before a crash that their traces did not survive:
        # the oldest of what we took for waiting. Nothing was sent before the two ends had first agreed.
        if self._synchronised:
            for number in self.outbox.take_restored(event.seq - self._next_out):
                self._on_delivered(number)
            self._next_out = max(event.seq, self._next_out)
        elif self.session:
            self._next_out, self._synchronised = event.seq, True
            self._keep(self.session.record)
            self._out.commit(Urgency.SYNC)  # before anything is sent

    def _answered(self, now: float) -> None:
        if self._machine.state in UNREACHABLE:
            self._machine.on(I.ANSWERED, now)
        self.trouble, self.answered_at = "", now

    def _say(self, text: str, event: str, of_round: int) -> None:
        if text != self.trouble:
            self._out.log(Level.INFO, text, event, of_round)
        self.trouble = text

    # --- keys

    def take_key(self, event: Established, facts: dict[str, Any], role: Role, profile: Profile, now: float) -> None:
        """Go over to a new K_0."""
        if self.session is None:
            self.session = Session.start(profile, role, event.k0, self._config.session, self._context)
        self.key.offer(facts, self._rounds, now)
        self.generations.offer(event.export_root, continues=event.continuity)
        self._agreed.clear()
        self._machine.on(I.KEY, now)
        # Always through a resynchronisation, also of a session that is new here: the peer's may not be.
        # The role is that of the address of now: the state may have been made under another one.
        self.session.rekey(event.k0, now, role)

    def compare(self, string: str) -> str:
        """Take what a person says that the other end shows; return why that confirms nothing, or nothing. The string is
        for this one comparison. Raises `UnreadableError`, and it may be tried again."""
        return self.key.compare(string, continues=bool(self.continuity_keys()))

    def continuity_keys(self) -> tuple[bytes, ...]:
        """Return what the keys with this peer have left for the next one."""
        return self.session.record.continuity_keys if self.session else ()

    @property
    def _rounds(self) -> int:
        record = self.session.record if self.session else None
        return record.sending.chain.seq + record.receiving.chain.seq if record else 0

    def is_due(self, now: float) -> bool:
        """Return whether the policy wants another key."""
        return self.key.is_due(self._rounds, now)

    def say_generation(self, *, changed: bool = False) -> None:
        """Tell the peer what there is to tell about the keys for other programs, and keep it, or what else has changed
        of them. Where the queue is full it is told when there is room."""
        if said := self.generations.to_say:
            with suppress(QueueFullError):
                self.send(said, PORT, durable=False)
                self.generations.to_say = b""
        if said or changed:
            self.keep_now()

    # --- the disk

    def _persist(self, event: StateChanged[SessionRecord]) -> None:
        if not event.record.sending.offer:
            self.key.use()
            self.generations.use()
            self.say_generation()
        self._keep(event.record)
        token = self._out.commit(Urgency.SYNC if event.sync else Urgency.LATER)
        if event.sync:
            self._to_release.append((token, event.token))

    def _keep(self, record: SessionRecord) -> None:
        key = self.key
        self._out.put(
            KeepState(record, key.facts, key.offered, self._synchronised, self._trust.kept, self.generations.kept)
        )

    def keep_now(self) -> None:
        """Keep what is known about the peer, which has changed."""
        if self.session:
            self._keep(self.session.record)
            self._out.commit(Urgency.SYNC)

    # --- what is told about it

    @property
    def status(self) -> dict[str, Any] | None:
        """Return it as `Session` in api_peer_types.py."""
        if self.session is None:
            return None
        record = self.session.record
        return {
            "profile": record.profile.label,
            "sent": record.sending.chain.seq,
            "received": record.receiving.chain.seq,
            "epoch": record.receiving.epoch,
        }
