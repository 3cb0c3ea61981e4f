"""The secure session (paper 3.3): stop-and-wait in both directions, with a key that rolls at every message.

`Session` joins the two directions and gives them the verbs of an endpoint. The machines are `Sender` (sending.py) and
`Receiver` (receiving.py); what they keep and how two ends find together again is in record.py and resync.py.

    sender                                     receiver
      | -- data Seq, Retran 0, Rand, message --> |   accepted: K_{i+1} by [14], on disk, then
      | <------------------- ack Seq+1, [13] --- |   (lost)
      | -- data Seq, Retran 1, new Rand -------> |   a retransmission of what is accepted already:
      | <------ the ack of the accepted attempt - |   the same acknowledgement again (row 10)
      |    K_{i+1} by the attempt that it proves  |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

from bt_selfsecure.protocols.haoxiao.frame_queue import FrameQueue
from bt_selfsecure.protocols.haoxiao.frames import FrameError, Kind, Profile, decode
from bt_selfsecure.protocols.haoxiao.keychain import Chain, require_k0
from bt_selfsecure.protocols.haoxiao.receiving import RECEIVER_FRAMES, Receiver
from bt_selfsecure.protocols.haoxiao.record import ReceivingState, Role, SendingState, SessionRecord
from bt_selfsecure.protocols.haoxiao.resync import common_keys
from bt_selfsecure.protocols.haoxiao.sending import SENDER_FRAMES, Sender
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import earliest
from bt_selfsecure.sansio.events import Kept, Rejection, made
from bt_selfsecure.sansio.outbox import Outbox


class Session:
    """Carries messages in both directions under one K_0 after the other. Drive it by the verbs of `Endpoint`,
    `send(message, now)` and `persisted(token)`.

    Take the events first, then the frames. Each `StateChanged` has the record that counts what it tells: a driver that
    writes the messages received and the record in one transaction, and only then hands them on, gives its application
    each message exactly once; one that does not may show it the last message again after a crash, under the same Seq.
    Frames wait for `persisted(token)` where `sync` is set.
    Make it with `start` (a new K_0) or `restore` (a stored record). Raises `LocalError` for misuse by the driver only.
    """

    sender_class: type[Sender] = Sender
    receiver_class: type[Receiver] = Receiver

    def __init__(
        self,
        record: SessionRecord,
        config: SessionConfig,
        context: EndpointContext,
    ) -> None:
        self.profile: Final = record.profile
        self.role = record.role
        """Of this end in the establishment of the newest K_0."""
        self._continuity = record.continuity
        self._events: Final = FrameQueue()
        self._out: Final = Outbox(self._events, self._keep)
        self._sender: Final = self.sender_class(record, config, self._out, context)
        self._receiver: Final = self.receiver_class(record, config, self._out, context)
        self._rows: Final = {
            kind: (taker._machine, row.states, getattr(taker, row.handler), row.otherwise)
            for table, taker in ((SENDER_FRAMES, self._sender), (RECEIVER_FRAMES, self._receiver))
            for kind, row in table.items()
        }
        """Of either part, and what `dispatch` would look up twice a round."""
        # Verbs that are one part's alone: each round calls them a dozen times, so nothing stands between.
        self.send: Final = self._sender.send
        self.next_event: Final = self._events.take
        self.frames_to_send: Final = self._out.frames_to_send
        self.persisted: Final = self._out.persisted
        """Releases the frames that waited for the state with this token: its record, or a later one, is on disk."""

    @classmethod
    def start(
        cls,
        profile: Profile,
        role: Role,
        k0: bytes,
        config: SessionConfig,
        context: EndpointContext,
    ) -> Self:
        """Return a new session from K_0 (32 bytes). Its first event asks for its first record to be written."""
        suite, rounds = SUITES[profile], config.checkpoint_rounds
        record = SessionRecord(
            profile,
            role,
            SendingState(Chain.start(suite, k0, role.label, rounds)),
            ReceivingState(Chain.start(suite, k0, role.peer.label, rounds)),
            (suite.continuity_key(k0), b""),
        )
        session = cls(record, config, context)
        session._out.persist(sync=True)
        return session

    @classmethod
    def restore(
        cls,
        record: SessionRecord,
        config: SessionConfig,
        context: EndpointContext,
        now: float,
    ) -> Self:
        """Return the session as it was stored. It finds together with its peer, whatever either has forgotten."""
        session = cls(record, config, context)
        session._sender.has_forgotten = True
        session._sender.resynchronise(now)
        session._receiver.call(now)
        return session

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def record(self) -> SessionRecord:
        """Return the state as it is now. It holds keys."""
        return made(self._keep())

    def _keep(self) -> Kept[SessionRecord]:
        """Keep the state, which is frozen: its record is made where one is read."""
        sending, receiving = self._sender.kept, self._receiver.kept
        if self._continuity[1] and not (sending.offer and receiving.offer):  # the peer was seen to have the new K_0
            self._continuity = self._continuity[1], b""
        return SessionRecord, self.profile, self.role, sending, receiving, self._continuity

    @property
    def can_send(self) -> bool:
        """Return whether `send` takes a message now: one at a time, and none while the two ends find together."""
        return self._sender.can_send

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        """Return how many frames from the air changed nothing, by reason."""
        return self._events.rejections

    def withdraw(self, now: float) -> None:
        """Take back the message of the last `send`, whose record was not written: the session is as it was before, and
        nothing waits for that record any more.

        Raises `LocalError` where a frame of it has been taken by `frames_to_send`.
        """
        self._sender.withdraw(now)

    def rekey(self, k0: bytes, now: float, role: Role | None = None) -> None:
        """Go over to a new K_0 that was established with the same peer. Nothing under way is lost; while the peer does
        not have it (its establishment failed at the last packet) both stay with the old one.

        Each K_0 has roles of its own, different ones at the two ends: `role` where this end's is not what it was.
        """
        require_k0(k0)
        self.role = role or self.role
        self._continuity = self._continuity[0], self._sender.kept.chain.suite.continuity_key(k0)
        self._sender.offer(k0, self.role)
        self._receiver.offer(k0, self.role)
        self._sender.resynchronise(now)
        self._receiver.call(now)

    def shares_key(self, data: bytes) -> bool:
        """Return whether this is an authentic call or request that names a key of this session. It may be an old one
        that somebody repeats, on a link of his own."""
        try:
            frame = decode(data)
        except FrameError:
            return False
        match frame.kind:
            case Kind.RESYNC_CALL:
                return bool(common_keys(self._sender.kept.chain, self._sender.keys, frame))
            case Kind.RESYNC_REQUEST:
                return bool(common_keys(self._receiver.kept.chain, self._receiver.keys, frame))
            case _:
                return False

    def get_timer(self) -> float | None:
        return earliest(self._sender.deadline, self._receiver.deadline)

    def handle_timer(self, now: float) -> None:
        self._sender.handle_timer(now)
        self._receiver.handle_timer(now)

    def receive_frame(self, data: bytes, now: float) -> None:
        frame = self._events.decode(data, self.profile)
        if frame is None:
            return None
        row = self._rows.get(frame.kind)
        if row is None:
            return self._events.reject(Rejection.NOT_FOR_US, frame.kind.name)
        machine, states, take, otherwise = row
        if machine.state not in states:
            return self._events.reject(otherwise.reason, otherwise.detail)
        take(frame, now)
        return None

    def close(self, now: float) -> None:
        """Send nothing more, not even what waits to leave. The record stays valid, and may be restored."""
        self._sender.close(now)
        self._receiver.close(now)
        self._out.clear()
