"""The sender of one direction: one message at a time, retransmitted until one of its attempts is proved (paper 3.3)."""

from __future__ import annotations

import enum
import hmac
from collections import deque
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.core import limits
from bt_selfsecure.core.events import MessageDelivered, ReestablishNeeded, Rejection, Resynchronised, Unreachable
from bt_selfsecure.core.frames import Frame
from bt_selfsecure.core.keychain import Chain
from bt_selfsecure.core.outbox import Outbox
from bt_selfsecure.core.recovery import (
    Durability,
    SendingState,
    SessionConfig,
    SessionRecord,
    authentic_response,
    common_checkpoint,
    resync_request,
)
from bt_selfsecure.core.suites import Attempt, Random
from bt_selfsecure.core.trace import KeyLog, Machine, Tracer, key_log_line
from bt_selfsecure.errors import LocalError


class SenderState(enum.Enum):
    IDLE = enum.auto()
    WAITING = enum.auto()  # for the acknowledgement
    UNREACHABLE = enum.auto()  # Omega retransmissions were in vain; the last one is repeated, slowly
    RESYNCHRONISING = enum.auto()  # for the response to a request
    CLOSED = enum.auto()


class SenderInput(enum.Enum):
    SEND = enum.auto()
    ACKNOWLEDGED = enum.auto()
    OMEGA_OVER = enum.auto()
    RESYNCHRONISE = enum.auto()
    AGREED = enum.auto()
    CLOSE = enum.auto()


S, I = SenderState, SenderInput
SENDER_TABLE: Final[Mapping[tuple[SenderState, SenderInput], SenderState]] = {
    (S.IDLE, I.SEND): S.WAITING,
    (S.WAITING, I.ACKNOWLEDGED): S.IDLE,
    (S.WAITING, I.OMEGA_OVER): S.UNREACHABLE,
    (S.UNREACHABLE, I.ACKNOWLEDGED): S.IDLE,
    (S.RESYNCHRONISING, I.AGREED): S.IDLE,
    **{(state, I.RESYNCHRONISE): S.RESYNCHRONISING for state in S if state is not S.CLOSED},
    **{(state, I.CLOSE): S.CLOSED for state in S},
}


class Sender:
    """Owned by `Session`."""

    def __init__(
        self,
        record: SessionRecord,
        config: SessionConfig,
        out: Outbox,
        random: Random,
        tracer: Tracer | None,
        key_log: KeyLog | None,
        name: str,
    ) -> None:
        self.kept: SendingState = record.sending
        self.deadline: float | None = None
        self._label: Final = record.role.label
        self._config: Final = config
        self._out: Final = out
        self._random: Final = random
        self._key_log: Final = key_log
        self._machine: Final = Machine(name, "sender", SENDER_TABLE, S.IDLE, tracer)
        self._waits = 0  # time-outs in a row: the exponent of the back-off
        self._last_frame = b""
        self._nonce = b""  # Rand of the request under way
        self._heeded = -1e9  # when a call was heeded last
        self._history: deque[tuple[int, bytes]] = deque()  # acknowledged since the older checkpoint
        self._again: deque[tuple[int, bytes]] = deque()  # what the peer has forgotten, or the message under way

    @property
    def state(self) -> SenderState:
        return self._machine.state

    @property
    def can_send(self) -> bool:
        return self.state is S.IDLE and not self._again

    # --- rounds -------------------------------------------------------------------------------------------------------

    def send(self, message: bytes, now: float) -> int:
        if not self.can_send:
            raise LocalError(f"send: a message is under way ({self.state.name})")
        if len(message) > limits.MAX_MESSAGE_BYTES:
            raise LocalError(f"send: a message has at most {limits.MAX_MESSAGE_BYTES} bytes, this has {len(message)}")
        if self.kept.chain.exhausted():
            self._out.events.put(ReestablishNeeded("the rounds of this K_0 are used up"))
            raise LocalError("send: the rounds of this K_0 are used up")
        return self._begin(message, now)

    def _begin(self, message: bytes, now: float) -> int:
        chain = self.kept.chain
        self._machine.on(I.SEND, now, seq=chain.seq, bytes=len(message))
        self.kept = SendingState(chain, message)
        self._waits = 0
        self._attempt(now)
        return chain.seq

    def _attempt(self, now: float) -> None:
        """One more attempt: fresh Rand, [11] to [13]; kept before it leaves, for its acknowledgement may come late."""
        kept = self.kept
        assert kept.message is not None
        frame, attempt = kept.chain.seal(kept.message, len(kept.attempts), self._random)
        self.kept = SendingState(kept.chain, kept.message, (*kept.attempts, attempt))
        every_message = self._config.durability is Durability.EVERY_MESSAGE
        self._out.persist(sync=every_message or (kept.chain.at_checkpoint and not kept.attempts))
        self._last_frame = self._out.send(frame)
        self.deadline = now + self._back_off()

    def _back_off(self) -> float:
        return min(self._config.timeout * (1 << min(self._waits, 32)), self._config.max_timeout)

    def receive_ack(self, frame: Frame, now: float) -> None:
        if self.state not in (S.WAITING, S.UNREACHABLE) or frame.seq != self.kept.chain.seq + 1 & 255:
            return self._out.events.reject(Rejection.REPLAY, "an acknowledgement that is not waited for")
        attempt = self._proved_attempt(frame)
        if attempt is None:
            return self._out.events.reject(Rejection.UNAUTHENTIC, "an acknowledgement")
        chain, message = self.kept.chain, self.kept.message
        assert message is not None
        self._machine.on(I.ACKNOWLEDGED, now, seq=chain.seq, retran=attempt.header.retran)
        self.kept = SendingState(chain.rolled(attempt, message))
        self._log_key()
        self.deadline = None
        self._remember(chain.seq, message)
        self._out.persist(sync=False)  # nothing waits for it; it takes the old key from the disk
        self._out.events.put(MessageDelivered(chain.seq))
        return self._go_on(now)

    def _proved_attempt(self, frame: Frame) -> Attempt | None:
        """The attempt whose ACK [13] this is: the receiver accepted that one, so [14] or [15] goes by it (row 10)."""
        for attempt in self.kept.attempts:
            if hmac.compare_digest(attempt.ack, frame.message[: len(attempt.ack)]):
                return attempt
        return None

    def _remember(self, seq: int, message: bytes) -> None:
        """In `every-W` a receiver may forget up to the older checkpoint, and then needs these messages again."""
        if self._config.durability is Durability.EVERY_W:
            self._history.append((seq, message))
            while len(self._history) > 2 * self._config.checkpoint_rounds:
                self._history.popleft()

    def _go_on(self, now: float) -> None:
        if self._again:
            self._begin(self._again.popleft()[1], now)

    def handle_timer(self, now: float) -> None:
        if self.deadline is None or now < self.deadline:
            return
        self._waits += 1
        match self.state:
            case S.WAITING if len(self.kept.attempts) <= self._config.omega:
                self._attempt(now)
            case S.WAITING:
                self._machine.on(I.OMEGA_OVER, now, seq=self.kept.chain.seq)
                self._out.events.put(Unreachable(self.kept.chain.seq))
                self._repeat(now)
            case S.UNREACHABLE | S.RESYNCHRONISING:
                self._repeat(now)
            case _:
                self.deadline = None

    def _repeat(self, now: float) -> None:
        self._out.send_bytes(self._last_frame)
        self.deadline = now + self._back_off()

    # --- resynchronisation --------------------------------------------------------------------------------------------

    def resynchronise(self, now: float) -> None:
        """Ask the receiver where it stands; until it answers nothing is sent."""
        self._machine.on(I.RESYNCHRONISE, now, seq=self.kept.chain.seq)
        self._nonce = self._random(limits.NONCE_BYTES)
        self._last_frame = self._out.send(resync_request(self.kept.chain, self._nonce, self._oldest()))
        self._waits = 0
        self.deadline = now + self._back_off()

    def _oldest(self) -> int:
        """h: number of the oldest message that can be sent again."""
        return self._history[0][0] if self._history else self.kept.chain.seq

    def receive_call(self, frame: Frame, now: float) -> None:
        if self.state in (S.RESYNCHRONISING, S.CLOSED) or now < self._heeded + self._config.resync_interval:
            return self._out.events.reject(Rejection.THROTTLED, "a call for resynchronisation")
        if common_checkpoint(self.kept.chain, frame) is None:
            return self._out.events.reject(Rejection.UNAUTHENTIC, "a call for resynchronisation")
        self._heeded = now
        return self.resynchronise(now)

    def receive_response(self, frame: Frame, now: float) -> None:
        if self.state is not S.RESYNCHRONISING:
            return self._out.events.reject(Rejection.REPLAY, "a response that is not waited for")
        answer = authentic_response(self.kept.chain, frame, self._nonce)
        if answer is None:
            return self._out.events.reject(Rejection.UNAUTHENTIC, "a response to the request")
        checkpoint, expected = answer
        seq = max(expected, self._oldest())
        again = [*self._history, *self._again]
        if self.kept.message is not None:
            again = [*self._history, (self.kept.chain.seq, self.kept.message), *self._again]
            if self.kept.chain.seq < seq:
                self._out.events.put(MessageDelivered(self.kept.chain.seq))
        self._again = deque((number, message) for number, message in again if number >= seq)
        self._history = deque((number, message) for number, message in again if number < seq)
        self._machine.on(I.AGREED, now, seq=seq, again=len(self._again))
        self.kept = SendingState(self.kept.chain.resumed(checkpoint, self._nonce + frame.rand, seq))
        self._log_key()
        self.deadline = None
        self._out.persist(sync=True)
        self._out.events.put(Resynchronised(True, seq))
        return self._go_on(now)

    def rekey(self, k0: bytes, now: float) -> None:
        chain = self.kept.chain
        self.kept = SendingState(
            chain.with_checkpoint(chain.suite.chain_key(k0, self._label)), self.kept.message, self.kept.attempts
        )
        self.resynchronise(now)

    def close(self) -> None:
        self._machine.on(I.CLOSE, 0.0)
        self.deadline = None

    def _log_key(self) -> None:
        if self._key_log is not None:
            self._key_log(chain_key_line(self.kept.chain, self._label))


def chain_key_line(chain: Chain, label: bytes) -> str:
    """A key-log line of K_i: `BTSS_KI <direction, 1 byte, and Seq, 8 bytes> <key>`; direction 0 is the initiator's."""
    return key_log_line("KI", bytes([label.startswith(b"responder")]) + chain.seq.to_bytes(8), chain.key)
