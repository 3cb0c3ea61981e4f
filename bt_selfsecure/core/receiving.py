"""The receiver of one direction: accepts each message once and repeats the acknowledgement it gave (paper 3.3)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from bt_selfsecure.core import limits
from bt_selfsecure.core.events import MessageReceived, ReestablishNeeded, Rejection, Resynchronised
from bt_selfsecure.core.frames import Frame, Kind, Profile
from bt_selfsecure.core.keychain import Chain
from bt_selfsecure.core.outbox import Outbox
from bt_selfsecure.core.recovery import (
    Durability,
    ReceivingState,
    SessionConfig,
    SessionRecord,
    common_checkpoint,
    resync_call,
    resync_response,
)
from bt_selfsecure.core.sending import chain_key_line
from bt_selfsecure.core.suites import Attempt, NotAuthentic, Random
from bt_selfsecure.core.trace import KeyLog, Machine, Tracer


class ReceiverState(enum.Enum):
    LISTENING = enum.auto()
    CALLING = enum.auto()  # for a resynchronisation; frames of the chain are accepted all the same
    CLOSED = enum.auto()


class ReceiverInput(enum.Enum):
    CALL = enum.auto()
    ACCEPTED = enum.auto()
    CLOSE = enum.auto()


S, I = ReceiverState, ReceiverInput
RECEIVER_TABLE: Final[Mapping[tuple[ReceiverState, ReceiverInput], ReceiverState]] = {
    (S.LISTENING, I.CALL): S.CALLING,
    (S.CALLING, I.CALL): S.CALLING,
    (S.LISTENING, I.ACCEPTED): S.LISTENING,
    (S.CALLING, I.ACCEPTED): S.LISTENING,
    **{(state, I.CLOSE): S.CLOSED for state in S},
}


@dataclass(frozen=True, slots=True)
class _Next:
    """What a request would have us go over to; the first authentic data under it decides (the others are forgotten)."""

    request_nonce: bytes
    chain: Chain
    response: bytes


class Receiver:
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
        self.kept: ReceivingState = record.receiving
        self.deadline: float | None = None
        self._label: Final = record.role.peer.label
        self._config: Final = config
        self._out: Final = out
        self._random: Final = random
        self._key_log: Final = key_log
        self._machine: Final = Machine(name, "receiver", RECEIVER_TABLE, S.LISTENING, tracer)
        self._next: _Next | None = None
        self._called = -1e9
        self._told_no_common = False

    @property
    def state(self) -> ReceiverState:
        return self._machine.state

    # --- rounds -------------------------------------------------------------------------------------------------------

    def receive_data(self, frame: Frame, now: float) -> None:
        if self.state is S.CLOSED:
            return self._out.events.reject(Rejection.REPLAY, "data after the end")
        kept = self.kept
        if (opened := _opened(kept.chain, frame)) is not None:
            return self._accept(kept.chain, *opened, epoch=kept.epoch, now=now)
        if self._next is not None and (opened := _opened(self._next.chain, frame)) is not None:
            chain, self._next = self._next.chain, None
            self._out.events.put(Resynchronised(False, chain.seq))
            return self._accept(chain, *opened, epoch=kept.epoch + 1, now=now)
        if kept.previous is not None and _opened(kept.previous, frame) is not None:
            return self._acknowledge()
        self._out.events.reject(Rejection.UNAUTHENTIC, "data")
        if now >= self._called + self._config.resync_interval:
            self.call(now)  # perhaps the peer goes by another key: ask it
        return None

    def _accept(self, chain: Chain, message: bytes, attempt: Attempt, *, epoch: int, now: float) -> None:
        """The next message: roll by [14] or [15], keep the ACK of this very attempt, then tell (row 10)."""
        seq, rolled = chain.seq, chain.rolled(attempt, message)
        self._machine.on(I.ACCEPTED, now, seq=seq, retran=attempt.header.retran)
        every_message = self._config.durability is Durability.EVERY_MESSAGE
        new = seq >= self.kept.delivered or not every_message
        self.kept = ReceivingState(
            rolled, chain, _ack_message(rolled, attempt), attempt.header.retran, rolled.seq, epoch
        )
        if self._key_log is not None:
            self._key_log(chain_key_line(rolled, self._label))
        self.deadline = None
        self._out.persist(sync=every_message or rolled.at_checkpoint)
        self._acknowledge()
        if new:
            self._out.tell_when_persisted(MessageReceived(seq, message, epoch))

    def _acknowledge(self) -> None:
        """Seq_ACK is the number of the next round; the ACK is always the accepted attempt's."""
        kept = self.kept
        profile = kept.chain.suite.profile
        self._out.send(Frame(profile, Kind.DATA_ACK, kept.ack_retran, kept.chain.seq & 255, b"", kept.ack))

    # --- resynchronisation --------------------------------------------------------------------------------------------

    def call(self, now: float) -> None:
        """Ask the sender for a request, and again until something authentic comes."""
        self._machine.on(I.CALL, now)
        self._out.send(resync_call(self.kept.chain, self._random(limits.NONCE_BYTES)))
        self._called = now
        self.deadline = now + max(self._config.resync_interval, self._config.timeout)

    def handle_timer(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.call(now)

    def receive_request(self, frame: Frame, now: float) -> None:
        """Answer with r and the newest common checkpoint. The present state stays: a request may be an old one."""
        if self._next is not None and self._next.request_nonce == frame.rand:
            return self._out.send_bytes(self._next.response)
        chain = self.kept.chain
        checkpoint = common_checkpoint(chain, frame) if self.state is not S.CLOSED else None
        if checkpoint is None:
            return self._refuse_request()
        nonce = self._random(limits.NONCE_BYTES)
        response = resync_response(chain, checkpoint, nonce, frame.rand, self.kept.delivered)
        seq = max(self.kept.delivered, min(int.from_bytes(frame.message[:8]), limits.MAX_ROUNDS))
        resumed = chain.resumed(checkpoint, frame.rand + nonce, seq)
        self._next = _Next(frame.rand, resumed, self._out.send(response))
        return None

    def _refuse_request(self) -> None:
        self._out.events.reject(Rejection.UNAUTHENTIC, "a request: no common checkpoint")
        if not self._told_no_common:
            self._told_no_common = True
            self._out.events.put(ReestablishNeeded("a request came that names no common checkpoint (or an attacker's)"))

    def rekey(self, k0: bytes, now: float) -> None:
        chain = self.kept.chain
        self.kept = replace(self.kept, chain=chain.with_checkpoint(chain.suite.chain_key(k0, self._label)))
        self.call(now)

    def close(self) -> None:
        self._machine.on(I.CLOSE, 0.0)
        self.deadline = None


def _opened(chain: Chain, frame: Frame) -> tuple[bytes, Attempt] | None:
    try:
        return chain.open(frame)
    except NotAuthentic:
        return None


def _ack_message(rolled: Chain, attempt: Attempt) -> bytes:
    """[13]; `paper` adds alpha_r (2 bytes)."""
    if rolled.suite.profile is Profile.HARDENED:
        return attempt.ack
    return attempt.ack + (rolled.alpha & 0xFFFF).to_bytes(2)
