"""Sends the messages of one direction: one at a time, repeated until one of its attempts is proved (paper 3.3)."""

from __future__ import annotations

import enum
import hmac
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.events import (
    MessageDelivered,
    ReestablishNeeded,
    Resynchronised,
    RolledBack,
    Unreachable,
)
from bt_selfsecure.protocols.haoxiao.frame_queue import FrameQueue
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, encode
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.record import Role, SendingState, SessionRecord
from bt_selfsecure.protocols.haoxiao.resync import NO_CALL, Keys, authentic_response, common_keys, resync_request
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
from bt_selfsecure.protocols.haoxiao.suites import Attempt
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, replayed
from bt_selfsecure.sansio.outbox import Outbox
from bt_selfsecure.sansio.round_trip import RoundTrip
from bt_selfsecure.sansio.trace import Machine, MachineEnum, key_log_line


class SenderState(MachineEnum):
    IDLE = enum.auto()
    WAITING = enum.auto()  # for the acknowledgement
    UNREACHABLE = enum.auto()  # Omega retransmissions were in vain; the last one is repeated, slowly
    RESYNCHRONISING = enum.auto()  # for the response to a request
    CLOSED = enum.auto()


class SenderInput(MachineEnum):
    SEND = enum.auto()
    WITHDRAWN = enum.auto()
    ACKNOWLEDGED = enum.auto()
    OMEGA_OVER = enum.auto()
    RESYNCHRONISE = enum.auto()
    AGREED = enum.auto()
    CLOSE = enum.auto()


S, I = SenderState, SenderInput
SENDER_TABLE: Final[Mapping[tuple[SenderState, SenderInput], SenderState]] = {
    (S.IDLE, I.SEND): S.WAITING,
    (S.WAITING, I.WITHDRAWN): S.IDLE,
    (S.WAITING, I.ACKNOWLEDGED): S.IDLE,
    (S.WAITING, I.OMEGA_OVER): S.UNREACHABLE,
    (S.UNREACHABLE, I.ACKNOWLEDGED): S.IDLE,
    (S.RESYNCHRONISING, I.AGREED): S.IDLE,
    **{(state, I.RESYNCHRONISE): S.RESYNCHRONISING for state in S if state is not S.CLOSED},
    **{(state, I.CLOSE): S.CLOSED for state in S},
}
SENDER_FRAMES: Final[FrameTable[Kind, SenderState]] = {
    Kind.DATA_ACK: FrameRow(
        {S.WAITING, S.UNREACHABLE}, "receive_ack", replayed("an acknowledgement that is not waited for")
    ),
    Kind.RESYNC_CALL: FrameRow(set(S) - {S.CLOSED}, "receive_call", replayed("a call for resynchronisation")),
    Kind.RESYNC_RESPONSE: FrameRow(
        {S.RESYNCHRONISING}, "receive_response", replayed("a response that is not waited for")
    ),
}
SENDER_TIMERS: Final[Mapping[SenderState, str]] = {
    S.WAITING: "_retransmit",
    S.UNREACHABLE: "_repeat",
    S.RESYNCHRONISING: "_request_again",
}


class Sender:
    """Sends the messages of one direction for its `Session`."""

    def __init__(
        self,
        record: SessionRecord,
        config: SessionConfig,
        out: Outbox[FrameQueue, SessionRecord],
        context: EndpointContext,
    ) -> None:
        self.kept: SendingState = record.sending
        self.deadline: float | None = None
        self._label = record.role.label
        self._config: Final = config
        self._each_synced: Final = config.durability is Durability.EVERY_MESSAGE
        self._out: Final = out
        self._random: Final = context.random
        self._key_log: Final = context.key_log
        self._machine: Final = Machine(context.name, "sender", SENDER_TABLE, S.IDLE, context.tracer)
        self._round_trip: Final = RoundTrip(config.timeout, config.max_timeout) if config.follows_round_trip else None
        self._begun: list[float] = []  # when each attempt was made
        self._attempts: list[Attempt] = []  # all of this round: the acknowledgement of any may come, and late (row 10)
        self._waits = 0  # time-outs in a row: the exponent of the back-off
        self._last_frame = b""
        self._nonce = b""  # Rand of the request under way
        self._call = NO_CALL  # Rand of the call that the last request answers
        self._told_no_common = False
        self.has_forgotten = False
        """This end was restored, and has not found together with its receiver since."""
        # In `every-W` a receiver may forget up to the older checkpoint, and then needs these messages again.
        most = 0 if self._each_synced else 2 * self.kept.chain.checkpoint_rounds
        self._history: Final[deque[bytes]] = deque(maxlen=most)

    @property
    def state(self) -> SenderState:
        return self._machine.state

    @property
    def can_send(self) -> bool:
        return self.state is S.IDLE

    # --- rounds -------------------------------------------------------------------------------------------------------

    def send(self, message: bytes, now: float) -> int:
        """Begin the round of this message and return its Seq. In `every-message` the message is the session's own once
        the `Persist` which this causes is written; until then the caller keeps it.

        Raises `LocalError` unless `can_send`, or for more than `limits.MAX_MESSAGE_BYTES`.
        """
        kept, state = self.kept, self._machine.state
        if state is not S.IDLE:
            why = "the session is closed" if state is S.CLOSED else f"a message is under way ({state.name})"
            raise LocalError(f"send: {why}")
        if len(message) > limits.MAX_MESSAGE_BYTES:
            raise LocalError(f"send: a message has at most {limits.MAX_MESSAGE_BYTES} bytes, this has {len(message)}")
        if kept.chain.seq >= limits.MAX_ROUNDS:  # row 15: only a new K_0 helps
            self._out.events.put(ReestablishNeeded("the rounds of this direction are used up"))
            raise LocalError("send: the rounds of this direction are used up")
        self.kept = SendingState(kept.chain, (message,), kept.offer)
        self._begin(now)
        return kept.chain.seq

    def withdraw(self, now: float) -> None:
        synced = self._each_synced or self.kept.chain.at_checkpoint
        if self.state is not S.WAITING or not self._out.take_back(self._last_frame, synced=synced):
            raise LocalError(f"withdraw: no message waits that has not left ({self.state.name})")
        self._machine.on(I.WITHDRAWN, now, "seq", self.kept.chain.seq)
        self.kept = replace(self.kept, messages=())
        self._attempts, self.deadline = [], None
        self._out.persist(sync=False)

    def _begin(self, now: float) -> None:
        """Begin the round of the first message, on disk before it leaves (in `every-W`, if a checkpoint is to be)."""
        chain, messages = self.kept.chain, self.kept.messages
        self._machine.on(I.SEND, now, "seq", chain.seq, "bytes", len(messages[0]))
        self._attempts = []
        self._waits = 0
        self._out.persist(sync=self._each_synced or chain.at_checkpoint)
        self._attempt(now)

    def _attempt(self, now: float) -> None:
        """Make one more attempt: fresh Rand, [11] to [13]."""
        chain, retran, message = self.kept.chain, len(self._attempts), self.kept.messages[0]
        data, attempt = chain.suite.seal(chain.key, chain.seq, retran, chain.alpha, message, self._random)
        self._attempts.append(attempt)
        self._last_frame = self._out.send(data)
        if self._round_trip is None:
            self.deadline = now + self._config.back_off(self._waits)
        else:
            self._begun = [*self._begun[: attempt.retran], now]
            self.deadline = now + self._config.back_off(self._waits, self._round_trip.wait)

    def receive_ack(self, frame: Frame, now: float) -> None:
        kept, chain = self.kept, self.kept.chain
        if frame.seq != chain.seq + 1 & 255:
            return self._out.events.reject(Rejection.REPLAY, "an acknowledgement that is not waited for")
        attempt = self._proved_attempt(frame)
        if attempt is None:
            return self._out.events.reject(Rejection.UNAUTHENTIC, "an acknowledgement")
        if self._round_trip is not None:
            self._round_trip.measured(now - self._begun[attempt.retran])
        message, following = kept.messages[0], kept.messages[1:]
        self._machine.on(I.ACKNOWLEDGED, now, "seq", chain.seq, "retran", attempt.retran)
        self.kept = SendingState(chain.rolled(attempt, message), following, kept.offer)
        if self._key_log is not None:
            self._log_key()
        self._attempts = []
        self._history.append(message)
        self._deliver(chain.seq, 1)
        if following:
            return self._begin(now)
        self.deadline = None
        return None

    def _deliver(self, seq: int, count: int) -> None:
        """Tell that so many messages are delivered, this round's the last. Nothing waits for the record; it takes the
        old key from the disk."""
        out = self._out
        out.events.put(MessageDelivered(out.token(False), out.keep(), False, seq, count))

    def _proved_attempt(self, frame: Frame) -> Attempt | None:
        """Return the attempt whose ACK [13] this is: the receiver accepted it, and [14] or [15] goes by it (row 10)."""
        for attempt in self._attempts:
            ack = attempt.ack
            if hmac.compare_digest(ack, frame.message[: len(ack)]):
                return attempt
        return None

    def handle_timer(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self._waits += 1
            getattr(self, SENDER_TIMERS[self.state])(now)

    def _retransmit(self, now: float) -> None:
        if len(self._attempts) <= self._config.omega:
            return self._attempt(now)
        self._machine.on(I.OMEGA_OVER, now, "seq", self.kept.chain.seq)
        self._out.events.put(Unreachable(self.kept.chain.seq))
        return self._repeat(now)

    def _request_again(self, now: float) -> None:
        if self._waits == self._config.omega + 1:
            self._out.events.put(Unreachable(self.kept.chain.seq))
        self._repeat(now)

    def _repeat(self, now: float) -> None:
        self._out.send(self._last_frame)
        self.deadline = now + self._config.back_off(self._waits)

    # --- resynchronisation --------------------------------------------------------------------------------------------

    def resynchronise(self, now: float, call: bytes = NO_CALL) -> None:
        """Ask the receiver where it stands; until it answers nothing is sent."""
        self._machine.on(I.RESYNCHRONISE, now, "seq", self.kept.chain.seq)
        self._waits = 0
        self._out.persist(sync=True)  # the receiver will rely on a key that the request names
        self._request(call, now)

    def _request(self, call: bytes, now: float) -> None:
        """Send a request. Each has its own Rand: a response to an earlier one must not count after another call."""
        self._call, self._nonce = call, self._random(limits.NONCE_BYTES)
        self._last_frame = self._out.send(
            encode(resync_request(self.kept, self.keys, self._nonce, call, self._oldest(), self._most()))
        )
        self.deadline = now + self._config.back_off(self._waits)

    @property
    def keys(self) -> Keys:
        """Return what this end resumes from. In `every-message` no end forgets: who names an older key is a thief."""
        return self.kept.newest if self._each_synced else self.kept.keys

    def _most(self) -> int:
        """Return h + n, the highest r that can be: the peer has no message that was not sent, but for what this end has
        forgotten of its own; in `every-message` that is at most the one whose record was not written."""
        kept = self.kept
        lost = 0 if not self.has_forgotten else 1 if self._each_synced else 2 * kept.chain.checkpoint_rounds
        return kept.chain.seq + len(kept.messages) + lost

    def _oldest(self) -> int:
        """Return h, the number of the oldest message that can be sent again."""
        return self.kept.chain.seq - len(self._history)

    def receive_call(self, frame: Frame, now: float) -> None:
        resynchronising, answered, challenge = self.state is S.RESYNCHRONISING, frame.rand == self._call, frame.seq > 0
        if not resynchronising and (answered or challenge):
            return self._out.events.reject(Rejection.REPLAY, "a call for resynchronisation")
        if not common_keys(self.kept.chain, self.keys, frame):
            return self._refuse_call()
        if answered:
            return self._repeat(now)
        return self._request(frame.rand, now) if resynchronising else self.resynchronise(now, frame.rand)

    def _refuse_call(self) -> None:
        self._out.events.reject(Rejection.UNAUTHENTIC, "a call: no common key")
        if not self._told_no_common:
            self._told_no_common = True
            self._out.events.put(ReestablishNeeded("a call came that names no common key (or an attacker's)"))

    def receive_response(self, frame: Frame, now: float) -> None:
        answer = authentic_response(self.kept.chain, self.keys, frame, self._nonce)
        if answer is None:
            return self._out.events.reject(Rejection.UNAUTHENTIC, "a response to the request")
        common, expected = answer
        if expected > self._most():
            return self._out.events.reject(Rejection.IMPLAUSIBLE, "r of a response for resynchronisation")
        if common not in self.kept.newest:
            self._out.events.put(RolledBack(True, self.kept.chain.rounds_since(common)))
        self.has_forgotten = False
        seq = max(expected, self._oldest())
        delivered, messages = self._sort(seq)
        self._machine.on(I.AGREED, now, "seq", seq, "again", len(messages))
        offer = b"" if common == self.kept.offer else self.kept.offer
        self.kept = SendingState(self.kept.chain.resumed(common, self._nonce + frame.rand, seq), messages, offer)
        self._log_key()
        self._out.events.put(Resynchronised(True, seq))
        if delivered:
            self._deliver(delivered[-1], len(delivered))
        if messages:
            return self._begin(now)
        self.deadline = None
        return self._out.persist(sync=True)

    def _sort(self, seq: int) -> tuple[range, tuple[bytes, ...]]:
        """Return the rounds that are delivered, and what is to be sent. The peer has what is before round `seq`: that
        is history."""
        oldest, known = self._oldest(), [*self._history, *self.kept.messages]
        delivered = range(self.kept.chain.seq, min(seq, oldest + len(known)))
        self._history.clear()
        if seq <= oldest + len(known):  # else this end has forgotten some, and the history would have a gap
            self._history.extend(known[: seq - oldest])
        return delivered, tuple(known[seq - oldest :])

    def offer(self, k0: bytes, role: Role) -> None:
        """Name this K_0 at the next resynchronisation; it is taken if the receiver has it too."""
        self._label = role.label
        self.kept = replace(self.kept, offer=self.kept.chain.suite.chain_key(k0, self._label))

    def close(self, now: float) -> None:
        self._machine.on(I.CLOSE, now)
        self.deadline = None

    def _log_key(self) -> None:
        if self._key_log is not None:
            self._key_log(chain_key_line(self.kept.chain, self._label))


def chain_key_line(chain: Chain, label: bytes) -> str:
    """Return the line of K_i for the key log: `BTSS_KI <direction, 1 byte, and Seq, 8 bytes> <key>`; the initiator's is
    0."""
    return key_log_line("KI", bytes([label.startswith(b"responder")]) + chain.seq.to_bytes(8), chain.key)
