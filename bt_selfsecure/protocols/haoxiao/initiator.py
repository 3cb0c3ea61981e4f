"""Alice of one establishment: one burst, one key for each responder (paper 3.2)."""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import (
    ActiveAttack,
    BurstSent,
    EstablishFailed,
    Event,
    Failure,
    Independence,
    PeerAccepted,
    ResponseVerified,
)
from bt_selfsecure.protocols.haoxiao.frame_queue import FrameQueue
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, burst_encoder, encode
from bt_selfsecure.protocols.haoxiao.material import (
    KeyMaterial,
    KeyShare,
    Offer,
    burst_kind,
    burst_rand,
    nonce_commitment,
    pair_id,
)
from bt_selfsecure.protocols.haoxiao.peer_context import PeerContext
from bt_selfsecure.protocols.haoxiao.received_set import ReceivedSetError, decode_received_set
from bt_selfsecure.protocols.haoxiao.suites import sha256
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import earliest
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, dispatch, not_for_us, replayed
from bt_selfsecure.sansio.trace import Machine, MachineEnum, key_log_line


class InitiatorState(MachineEnum):
    NEW = enum.auto()
    REQUESTING = enum.auto()  # T_H runs
    RESTING = enum.auto()  # T_W runs
    BURSTING = enum.auto()
    COLLECTING = enum.auto()  # T_1, then 2 T_2
    CONFIRMING = enum.auto()  # T_3, then the waiting phase
    ESTABLISHED = enum.auto()
    FAILED = enum.auto()


class InitiatorInput(MachineEnum):
    START = enum.auto()
    T_H_OVER = enum.auto()
    T_W_OVER = enum.auto()
    ACCEPTED = enum.auto()
    BURST_SENT = enum.auto()
    TARGET_NOT_YET = enum.auto()
    RESPONDED = enum.auto()
    ENDED = enum.auto()
    FAILED = enum.auto()


S, I = InitiatorState, InitiatorInput
_OVER: Final = frozenset({S.ESTABLISHED, S.FAILED})
INITIATOR_TABLE: Final[Mapping[tuple[InitiatorState, InitiatorInput], InitiatorState]] = {
    (S.NEW, I.START): S.REQUESTING,
    (S.REQUESTING, I.T_H_OVER): S.RESTING,
    (S.RESTING, I.T_W_OVER): S.REQUESTING,
    (S.REQUESTING, I.ACCEPTED): S.BURSTING,
    (S.RESTING, I.ACCEPTED): S.BURSTING,
    (S.BURSTING, I.BURST_SENT): S.COLLECTING,
    (S.COLLECTING, I.TARGET_NOT_YET): S.BURSTING,
    (S.COLLECTING, I.RESPONDED): S.CONFIRMING,
    (S.CONFIRMING, I.ENDED): S.ESTABLISHED,
    **{(state, I.FAILED): S.FAILED for state in S if state not in _OVER},
}
_OVERHEARD: Final = FrameRow(set(S) - _OVER - {S.NEW}, "_overhear_burst", not_for_us("a burst packet"))
INITIATOR_FRAMES: Final[FrameTable[Kind, InitiatorState]] = {
    Kind.ACCEPT: FrameRow({S.REQUESTING, S.RESTING}, "_receive_accept", replayed("an accept after its time")),
    Kind.RAND: _OVERHEARD,
    Kind.RAND_COMPACT: _OVERHEARD,
    Kind.RESPONSE: FrameRow({S.COLLECTING}, "_receive_response", replayed("a response that is not waited for")),
    Kind.END: FrameRow({S.CONFIRMING}, "_receive_end", not_for_us("an end that is not waited for")),
}
INITIATOR_TIMERS: Final[Mapping[InitiatorState, str]] = {
    S.REQUESTING: "_t_h_over",
    S.RESTING: "_t_w_over",
    S.COLLECTING: "_responses_are_in",
    S.CONFIRMING: "_waiting_over",
}


class Initiator:
    """Alice of one establishment, thrown away after it. Drive it by the verbs of `Endpoint`, after `start(now)`.

    Raises `LocalError` for misuse by the driver only.
    """

    def __init__(
        self,
        config: EstablishConfig,
        context: EndpointContext,
    ) -> None:
        random = context.random
        self.config: Final = config
        self._random: Final = random
        self._key_log: Final = context.key_log
        self._machine: Final = Machine(context.name, "initiator", INITIATOR_TABLE, S.NEW, context.tracer)
        self._events: Final = FrameQueue()
        self._share = KeyShare(random if config.exchange_shares else None)
        self._rand_data = random(limits.NONCE_BYTES)  # RandData of [10]; committed to in the request
        offer = Offer(
            config.identity,
            config.compact,
            bool(config.authentication_key),
            config.burst,
            config.t_1,
            sha256(self._rand_data),
            self._share.public,
        )
        self.request: Final = Frame(
            config.profile,
            Kind.REQUEST,
            rand=random(limits.NONCE_BYTES),
            message=offer.encode(config.profile, accept=False),
        )
        self._request_bytes: Final = encode(self.request, seed=random(32))
        kind, rand = burst_kind(compact=config.compact), burst_rand(self.request, compact=config.compact)
        self._burst_packet: Final = burst_encoder(config.profile, kind, rand)
        self._requests = 0
        self._legs: Final[dict[bytes, PeerContext]] = {}
        self._messages: list[bytes] = []
        self._sent = 0
        self._burst_started = self._packet_due = 0.0
        self._outbox: list[bytes] = []
        self._deadline: float | None = None
        self._repeat: float | None = None

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> InitiatorState:
        return self._machine.state

    @property
    def sent(self) -> int:
        """Burst packets sent so far."""
        return self._sent

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def start(self, now: float) -> None:
        """Send the first request."""
        self._machine.on(I.START, now)
        self._send_request(now)

    def next_event(self) -> Event | None:
        return self._events.take()

    def get_timer(self) -> float | None:
        if self._machine.state is S.BURSTING:
            return self._packet_due
        return earliest(self._deadline, self._repeat)

    def frames_to_send(self, now: float) -> list[bytes]:
        if self._machine.state is S.BURSTING:
            self._send_burst(now)
        out, self._outbox = self._outbox, []
        return out

    def receive_frame(self, data: bytes, now: float) -> None:
        frame = self._events.decode(data, self.config.profile)
        if frame is not None:
            dispatch(INITIATOR_FRAMES.get(frame.kind), self, frame, now, self._events)

    def handle_timer(self, now: float) -> None:
        if self._repeat is not None and now >= self._repeat:
            self._acknowledge(now)
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            getattr(self, INITIATOR_TIMERS[self.state])(now)

    def close(self, now: float) -> None:
        """Give up what is not over, send nothing more, and forget all that is secret."""
        if self.state not in _OVER:
            self._fail(Failure.CLOSED, now)
        self._outbox.clear()

    # --- requests -----------------------------------------------------------------------------------------------------

    def _send_request(self, now: float) -> None:
        self._requests += 1
        self._outbox.append(self._request_bytes)
        self._deadline = now + self.config.timers.t_h

    def _receive_accept(self, frame: Frame, now: float) -> None:
        session, message = frame.message[: limits.SESSION_ID_BYTES], frame.message[limits.SESSION_ID_BYTES :]
        offer = Offer.decode(self.config.profile, message, accept=True)
        if session != self.request.rand[: limits.SESSION_ID_BYTES] or offer is None:
            return self._events.reject(Rejection.NOT_FOR_US, "an accept of another request")
        pair = pair_id(self.request, frame)
        known = pair in self._legs or any(leg.offer.identity == offer.identity for leg in self._legs.values())
        if known:
            return self._events.reject(Rejection.REPLAY, "this responder has accepted already")
        secret = self._share.exchange(offer.share)
        if secret is None or bool(offer.share) != self.config.exchange_shares:
            return self._events.reject(Rejection.NOT_FOR_US, "an accept with another key exchange than the request's")
        self._legs[pair] = PeerContext(self.config, offer, frame, pair, secret)
        self._events.put(PeerAccepted(offer.identity))
        if len(self._legs) == self.config.responders:
            self._start_burst(now)
        return None

    def _t_h_over(self, now: float) -> None:
        if self._legs:
            self._start_burst(now)
        elif self._requests >= self.config.max_requests:
            self._fail(Failure.NO_ACCEPT, now, f"{self._requests} requests were sent")
        else:
            self._machine.on(I.T_H_OVER, now)
            self._deadline = now + self.config.timers.t_w

    def _t_w_over(self, now: float) -> None:
        if self._legs:
            return self._start_burst(now)
        self._machine.on(I.T_W_OVER, now)
        return self._send_request(now)

    # --- the burst ----------------------------------------------------------------------------------------------------

    def _start_burst(self, now: float, given: InitiatorInput = I.ACCEPTED) -> None:
        self._machine.on(given, now, responders=len(self._legs), sent=self.sent)
        self._burst_started = self._packet_due = now
        self._deadline = None
        for leg in self._legs.values():
            leg.wrong = 0

    @property
    def _part(self) -> int:
        """Number of the part of the burst that was sent last."""
        return (self.sent - 1) // self.config.burst

    def _send_burst(self, now: float) -> None:
        config, size = self.config, self.config.message_bytes
        while now >= self._packet_due:
            message = self._random(size)
            self._outbox.append(self._burst_packet(self._sent, message))
            self._messages.append(message)
            self._sent += 1
            of_part = self._sent % config.burst
            self._packet_due = self._burst_started + of_part * config.interval
            if of_part == 0:
                self._machine.on(I.BURST_SENT, now, sent=self._sent)
                self._deadline = now + config.t_1 + 2 * config.timers.t_2
                return self._events.put(BurstSent(self._sent))
        return None

    def _overhear_burst(self, frame: Frame, now: float) -> None:
        """Tell an echo of a burst packet of ours, which is harmless, from other content, which is an attack."""
        ours = frame.rand == burst_rand(self.request, compact=frame.kind is Kind.RAND_COMPACT)
        if not ours or self._messages[frame.seq : frame.seq + 1] == [frame.message]:
            return self._events.reject(Rejection.NOT_FOR_US, "a burst packet")
        self._events.put_if_room(ActiveAttack(frame.seq))
        if self.config.hardened:
            self._fail(Failure.CONFLICT, now, f"Seq {frame.seq}")
        return None

    # --- responses ----------------------------------------------------------------------------------------------------

    def _receive_response(self, frame: Frame, now: float) -> None:
        leg = self._legs.get(frame.message[: limits.PAIR_ID_BYTES])
        if leg is None:
            return self._events.reject(Rejection.NOT_FOR_US, "a response of nobody who accepted")
        if frame.seq != self._part:
            return self._events.reject(Rejection.REPLAY, "a response that is not waited for")
        if leg.responded_part == self._part:
            return self._events.reject(Rejection.REPLAY, "a response again")
        if not leg.may_read(now, self._random):
            return self._events.reject(Rejection.FLOODED)
        s = frame.message[limits.PAIR_ID_BYTES :]
        try:
            received = decode_received_set(s, self.sent)
        except ReceivedSetError:
            return self._events.reject(Rejection.MALFORMED, "a received set that can't be")
        messages = [self._messages[seq] for seq in received]
        material = KeyMaterial.derive(
            self.request,
            leg.accept,
            s,
            messages,
            secret=leg.secret,
            authentication_key=self.config.authentication_key,
        )
        if not material.authentic(frame):
            leg.forged = True
            return self._events.reject(Rejection.UNAUTHENTIC, "a response")
        leg.respond(self._part, received, material, frame.rand)
        self._events.put(ResponseVerified(leg.offer.identity, len(received), leg.bits))
        if self.config.hardened and all(leg.responded_part == self._part for leg in self._legs.values()):
            self._responses_are_in(now)
        return None

    def _responses_are_in(self, now: float) -> None:
        """Go on bursting, or fix the keys: 2 T_2 is over, or (`hardened`) everybody has responded."""
        for pair, leg in list(self._legs.items()):
            if leg.responded_part != self._part:
                self._drop(pair, Failure.NOT_AUTHENTIC if leg.forged else Failure.NO_RESPONSE)
        missing = [pair for pair, leg in self._legs.items() if not leg.enough]
        room = self.sent + self.config.burst <= self.config.max_burst
        if missing and room and self.config.hardened:
            return self._start_burst(now, I.TARGET_NOT_YET)
        for pair in missing:
            self._drop(pair, *self._legs[pair].shortfall(self.sent))
        if not self._legs:
            return self._fail(None, now)
        self._report_independence()
        self._machine.on(I.RESPONDED, now, responders=len(self._legs))
        self._deadline = now + self.config.timers.t_3 + self.config.timers.waiting
        return self._acknowledge(now)

    def _report_independence(self) -> None:
        for a in self._legs.values():
            for b in self._legs.values():
                if a is not b:
                    missed = len(set(a.received) - set(b.received))
                    self._events.put(Independence(a.offer.identity, b.offer.identity, len(a.received), missed))

    # --- confirmation -------------------------------------------------------------------------------------------------

    def _acknowledge(self, now: float) -> None:
        """Send [10] to everybody who has not sent the end yet. From here on no received set can change."""
        for leg in self._legs.values():
            if not leg.ended and leg.material is not None:
                self._outbox.append(leg.acknowledgement(leg.material, self._rand_data))
        self._repeat = self.config.next_repeat(now)

    def _receive_end(self, frame: Frame, now: float) -> None:
        pair, nonce = frame.message[: limits.PAIR_ID_BYTES], frame.message[limits.PAIR_ID_BYTES :]
        leg = self._legs.get(pair)
        if leg is None or leg.material is None or leg.ended:
            return self._events.reject(Rejection.NOT_FOR_US, "an end that is not waited for")
        if not leg.material.authentic(frame):
            return self._events.reject(Rejection.UNAUTHENTIC, "an end")
        if not hmac.compare_digest(nonce_commitment(nonce), leg.commitment):
            return self._events.reject(Rejection.UNAUTHENTIC, "the end's nonce is not what the response committed to")
        leg.ended = True
        if self._key_log is not None:
            self._key_log(key_log_line("K0", leg.pair, leg.material.k0))
        self._events.put(leg.established(leg.material, nonce, self._rand_data, self.sent))
        if all(leg.ended for leg in self._legs.values()):
            self._finish(now)
        return None

    def _waiting_over(self, now: float) -> None:
        for pair, leg in list(self._legs.items()):
            if not leg.ended:
                self._drop(pair, Failure.NO_END)
        if self._legs:
            self._finish(now)
        else:
            self._fail(None, now)

    def _finish(self, now: float) -> None:
        self._machine.on(I.ENDED, now, responders=len(self._legs), sent=self.sent)
        self._forget()

    def _drop(self, pair: bytes, reason: Failure, detail: str = "") -> None:
        leg = self._legs.pop(pair)
        self._events.put(EstablishFailed(reason, leg.offer.identity, detail))

    def _fail(self, reason: Failure | None, now: float, detail: str = "") -> None:
        """End the whole establishment; `reason` is None where each responder's own was told."""
        self._machine.on(I.FAILED, now, reason=reason.name if reason else "every responder failed")
        if reason is not None:
            self._events.put(EstablishFailed(reason, None, detail))
        self._forget()

    def _forget(self) -> None:
        self._legs.clear()
        self._messages.clear()
        self._share, self._rand_data = KeyShare(None), b""
        self._deadline = self._repeat = None
