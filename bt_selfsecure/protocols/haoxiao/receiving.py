"""The receiver of one direction: accepts each message once and repeats the acknowledgement it gave (paper 3.3)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.events import MessageReceived, ReestablishNeeded, Resynchronised, RolledBack
from bt_selfsecure.protocols.haoxiao.frame_queue import FrameQueue
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, encode
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.record import ReceivingState, Role, SessionRecord
from bt_selfsecure.protocols.haoxiao.resync import Keys, common_keys, request_fields, resync_call, resync_response
from bt_selfsecure.protocols.haoxiao.sending import chain_key_line
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
from bt_selfsecure.protocols.haoxiao.suites import Attempt, NotAuthentic
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, replayed
from bt_selfsecure.sansio.outbox import Outbox
from bt_selfsecure.sansio.trace import Machine, MachineEnum


class ReceiverState(MachineEnum):
    LISTENING = enum.auto()
    CALLING = enum.auto()  # for a resynchronisation; until then no data is accepted
    CLOSED = enum.auto()


class ReceiverInput(MachineEnum):
    CALL = enum.auto()
    ACCEPTED = enum.auto()
    AGREED = enum.auto()
    CLOSE = enum.auto()


S, I = ReceiverState, ReceiverInput
RECEIVER_TABLE: Final[Mapping[tuple[ReceiverState, ReceiverInput], ReceiverState]] = {
    (S.LISTENING, I.CALL): S.CALLING,
    (S.CALLING, I.CALL): S.CALLING,
    (S.LISTENING, I.ACCEPTED): S.LISTENING,
    (S.LISTENING, I.AGREED): S.LISTENING,
    (S.CALLING, I.AGREED): S.LISTENING,
    **{(state, I.CLOSE): S.CLOSED for state in S},
}
RECEIVER_FRAMES: Final[FrameTable[Kind, ReceiverState]] = {
    Kind.DATA: FrameRow({S.LISTENING}, "receive_data", replayed("data out of its time")),
    Kind.RESYNC_REQUEST: FrameRow({S.LISTENING, S.CALLING}, "receive_request", replayed("a request after the end")),
}


class Receiver:
    """Accepts the messages of one direction for its `Session`."""

    def __init__(
        self,
        record: SessionRecord,
        config: SessionConfig,
        out: Outbox[FrameQueue, SessionRecord],
        context: EndpointContext,
    ) -> None:
        self.kept: ReceivingState = record.receiving
        self.deadline: float | None = None
        self._label = record.role.peer.label
        self._config: Final = config
        self._each_synced: Final = config.durability is Durability.EVERY_MESSAGE
        self._out: Final = out
        self._random: Final = context.random
        self._key_log: Final = context.key_log
        self._machine: Final = Machine(context.name, "receiver", RECEIVER_TABLE, S.LISTENING, context.tracer)
        self._previous: Chain | None = None  # to know a retransmission of the message that was accepted last
        self._ack = b""  # the acknowledgement of the attempt that was accepted (row 10), as sent
        self._waits = 0  # time-outs in a row: the exponent of the back-off
        self._call = b""  # Rand of the call that was not answered yet
        self._answered = b""  # Rand of the request that was answered last, and
        self._response = b""  # the response to it
        self._told_no_common = False

    @property
    def state(self) -> ReceiverState:
        return self._machine.state

    # --- rounds -------------------------------------------------------------------------------------------------------

    def receive_data(self, frame: Frame, now: float) -> None:
        """Take the next message: roll by [14] or [15], on disk, then acknowledge this very attempt."""
        kept, out = self.kept, self._out
        chain = kept.chain
        try:
            message, attempt = chain.open(frame)
        except NotAuthentic:
            return self._receive_again(frame)
        seq, epoch, rolled = chain.seq, kept.epoch, chain.rolled(attempt, message)
        self._machine.on(I.ACCEPTED, now, "seq", seq, "retran", attempt.retran)
        self.kept = ReceivingState(rolled, chain.key, epoch, kept.offer)
        self._previous = chain
        if self._key_log is not None:
            self._log_key()
        sync = self._each_synced or rolled.at_checkpoint
        out.events.put(MessageReceived(out.token(sync), out.keep(), sync, seq, message, epoch))
        self._ack = out.send(rolled.suite.acknowledgement(attempt, rolled.alpha))
        return None

    def _receive_again(self, frame: Frame) -> None:
        """Repeat the acknowledgement of the message that was accepted last, for another attempt at it."""
        if self._previous is not None and _opened(self._previous, frame) is not None:
            self._out.send(self._ack)
            return None
        return self._out.events.reject(Rejection.UNAUTHENTIC, "data")

    # --- resynchronisation --------------------------------------------------------------------------------------------

    def call(self, now: float) -> None:
        """Ask the sender for a request that is made now, and again until it comes."""
        self._machine.on(I.CALL, now)
        self._send_call()
        self.deadline = now + self._config.back_off(self._waits)

    def _send_call(self) -> None:
        self._call = self._call or self._random(limits.NONCE_BYTES)
        self._out.send(encode(resync_call(self.kept, self.keys, self._call, challenge=self.state is S.LISTENING)))

    def handle_timer(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self._waits += 1
            self.call(now)

    def receive_request(self, frame: Frame, now: float) -> None:
        """Go over to a fresh key and answer with r and the common one, if the request names our call; else it may be
        an old one: call, and stay."""
        if frame.rand == self._answered:
            self._out.send(self._response)
            return None
        common = common_keys(self.kept.chain, self.keys, frame)
        if not common:
            return self._refuse_request()
        oldest, most, call = request_fields(frame)
        if not self._can_be(oldest, common):
            return self._out.events.reject(Rejection.IMPLAUSIBLE, "h of a request for resynchronisation")
        if call != self._call:
            return self._send_call()
        return self._agree(common, frame.rand, oldest, most, now)

    @property
    def keys(self) -> Keys:
        """Return what this end resumes from. In `every-message` no end forgets: who names an older key is a thief."""
        return self.kept.newest if self._each_synced else self.kept.keys

    def _begins(self, key: bytes) -> bool:
        """Whether this is the first key of the direction from a K_0 under which nothing was received yet."""
        kept = self.kept
        fresh = kept.chain.key == key and kept.chain.checkpoints == (key,)  # no round, and no resynchronisation yet
        return key in (kept.offer, kept.begun_with) or fresh

    def _can_be(self, oldest: int, common: list[bytes]) -> bool:
        """Return whether h can be so: no message that this end has not had may be forgotten by the sender, but for what
        this end may have forgotten itself (`every-W`); under a new K_0 the count is the sender's.
        """
        kept, chain = self.kept, self.kept.chain
        forgotten = 0 if self._each_synced else 2 * chain.checkpoint_rounds
        if oldest <= max(chain.seq, chain.seq - kept.skipped + forgotten):
            return True
        return self._begins(common[0]) and oldest <= limits.MAX_FIRST_ROUND

    def _agree(self, common: list[bytes], request_nonce: bytes, oldest: int, most: int, now: float) -> None:
        kept, chain, nonce = self.kept, self.kept.chain, self._random(limits.NONCE_BYTES)
        begins = self._begins(common[0])
        other = begins and common == [kept.offer]  # nothing of the session that the sender comes from was received
        expected = min(0 if other else chain.seq - kept.skipped, most)
        seq = max(expected, oldest)
        self._machine.on(I.AGREED, now, "seq", seq)
        if common[0] not in kept.newest:
            self._out.events.put(RolledBack(False, chain.rounds_since(common[0])))
        previous = next((key for key in common if key != common[0] or not begins), b"")
        offer = b"" if common[0] == kept.offer else kept.offer
        resumed = chain.resumed(common[0], request_nonce + nonce, seq)
        begun_with = common[0] if begins else b""
        self.kept = ReceivingState(resumed, previous, kept.epoch + 1, offer, begun_with, seq - expected)
        self._previous, self._call, self._waits, self.deadline = None, b"", 0, None
        self._log_key()
        self._out.events.put(Resynchronised(False, seq))
        self._out.persist(sync=True)
        self._answered = request_nonce
        self._response = self._out.send(encode(resync_response(chain, common[0], expected, nonce, request_nonce)))

    def _refuse_request(self) -> None:
        self._out.events.reject(Rejection.UNAUTHENTIC, "a request: no common key")
        if not self._told_no_common:
            self._told_no_common = True
            self._out.events.put(ReestablishNeeded("a request came that names no common key (or an attacker's)"))

    def offer(self, k0: bytes, role: Role) -> None:
        """Name this K_0 at the next resynchronisation; it is taken if the sender has it too."""
        self._label = role.peer.label
        self.kept = replace(self.kept, offer=self.kept.chain.suite.chain_key(k0, self._label))

    def close(self, now: float) -> None:
        self._machine.on(I.CLOSE, now)
        self.deadline = None

    def _log_key(self) -> None:
        if self._key_log is not None:
            self._key_log(chain_key_line(self.kept.chain, self._label))


def _opened(chain: Chain, frame: Frame) -> tuple[bytes, Attempt] | None:
    try:
        return chain.open(frame)
    except NotAuthentic:
        return None
