"""Plays Alice of one establishment: one burst, one key for each responder (paper 3.2)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.call import Calls
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import (
    AcceptRefused,
    ActiveAttack,
    BurstSent,
    EstablishFailed,
    Event,
    Failure,
    PeerAccepted,
    ResponseVerified,
)
from bt_selfsecure.protocols.haoxiao.frame_queue import FrameQueue
from bt_selfsecure.protocols.haoxiao.frames import Frame
from bt_selfsecure.protocols.haoxiao.initiator_table import (
    ASKING,
    INITIATOR_FRAMES,
    INITIATOR_TABLE,
    INITIATOR_TIMERS,
    OVER,
    InitiatorInput,
    InitiatorState,
)
from bt_selfsecure.protocols.haoxiao.material import (
    KeyMaterial,
    nonce_commitment,
)
from bt_selfsecure.protocols.haoxiao.peer_context import PeerContext, independence
from bt_selfsecure.protocols.haoxiao.received_set import ReceivedSetError, decode_received_set
from bt_selfsecure.protocols.haoxiao.sent_burst import SentBurst
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import earliest
from bt_selfsecure.sansio.events import FrameRejected, Rejection
from bt_selfsecure.sansio.frame_table import dispatch
from bt_selfsecure.sansio.trace import Machine, key_log_line

S, I = InitiatorState, InitiatorInput
EVERYBODY: Final = b""
"""Stands for all responders where a frame is for each of them."""
LAGGARD_S: Final = 3.0
"""Seconds from the first accept that a burst for several waits for the others whom it is for."""


class Initiator:
    """Plays Alice of one establishment, and is thrown away after it. Drive it by the verbs of `Endpoint`, after
    `start(now)`.

    Where a burst is for several peers who are called by name, `config` and `others` name one each, and differ in
    nothing but whom they mean and what there is with him: `addressed_frames` then says to whom each frame goes.
    Raises `LocalError` for misuse by the driver only.
    """

    def __init__(
        self, config: EstablishConfig, context: EndpointContext, others: Sequence[EstablishConfig] = ()
    ) -> None:
        random = context.random
        self.config = config
        self._random: Final = random
        self._key_log: Final = context.key_log
        self._machine: Final = Machine(context.name, "initiator", INITIATOR_TABLE, S.NEW, context.tracer)
        self._events: Final = FrameQueue()
        self._burst: Final = SentBurst(config, random)
        self._calls: Final = Calls((config, *others), random, self._burst)
        self._burst.open(self.request)
        self._requests = 0
        self._wait_until = 0.0  # for those who have not accepted yet, of several
        self._legs: Final[dict[bytes, PeerContext]] = {}
        self._burst_started = self._packet_due = 0.0
        self._outbox: list[tuple[bytes, bytes]] = []
        self._deadline: float | None = None
        self._repeat: float | None = None
        self._openings = 0  # how often this part was opened again: each time after twice as long

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> InitiatorState:
        return self._machine.state

    @property
    def request(self) -> Frame:
        """Return the request that this end sends; of several, the first."""
        return self._calls.request

    @property
    def sent(self) -> int:
        """Return the number of burst packets sent so far."""
        return self._burst.sent

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def start(self, now: float) -> None:
        """Send the first request."""
        self._machine.on(I.START, now)
        self._send_request(now)

    def expect_comparison(self, expects: bool, peer: bytes = EVERYBODY) -> None:
        """Give the keys that are under way, or that with this peer, their strings, or none: `EstablishConfig.compare`,
        as a person now says."""
        self._calls.expect_comparison(expects, peer)
        for leg in self._legs.values():
            if peer in (EVERYBODY, leg.offer.identity) and leg.config.compare is not expects:
                leg.config = replace(leg.config, compare=expects)

    def waive_continuity(self, peer: bytes) -> None:
        """Take an accept of this peer without continuity: a person has allowed that since it began."""
        self._calls.waive_continuity(peer)

    def leave(self, peer: bytes, now: float) -> None:
        """Go on without this peer; where it was the last one, the establishment ends."""
        self._calls.drop(peer)
        for pair in [pair for pair, leg in self._legs.items() if leg.offer.identity == peer]:
            del self._legs[pair]
        if self.state not in OVER and not (self._calls and (self._legs or self.state in ASKING)):
            self._fail(None, now)
        elif self.state in ASKING and self._calls.are_accepted:
            self._start_burst(now)
        elif self.state is S.COLLECTING and self.config.hardened and self._have_all_responded:
            self._responses_are_in(now)
        elif self.state is S.CONFIRMING and all(leg.ended for leg in self._legs.values()):
            self._finish(now)

    def next_event(self) -> Event | None:
        return self._events.take()

    def get_timer(self) -> float | None:
        if self._machine.state is S.BURSTING:
            return self._packet_due
        return earliest(self._deadline, self._repeat)

    def frames_to_send(self, now: float) -> list[bytes]:
        return [data for _, data in self.addressed_frames(now)]

    def addressed_frames(self, now: float) -> list[tuple[bytes, bytes]]:
        """Return as `frames_to_send` does, each frame with the identity of the peer to which it goes; `EVERYBODY` for
        what each responder is to have."""
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
            self._say_again(now)
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            getattr(self, INITIATOR_TIMERS[self.state])(now)

    def close(self, now: float) -> None:
        """Give up what is not over, send nothing more, and forget all that is secret."""
        if self.state not in OVER:
            self._fail(Failure.CLOSED, now)
        self._outbox.clear()

    # --- requests -----------------------------------------------------------------------------------------------------

    def _send_request(self, now: float) -> None:
        self._requests += 1
        self._outbox += self._calls.datagrams()
        self._deadline = now + self.config.timers.t_h

    def _receive_accept(self, frame: Frame, now: float) -> None:
        leg = self._calls.accept(frame, self._legs)
        if isinstance(leg, FrameRejected):
            return self._events.reject(leg.reason, leg.detail)
        if isinstance(leg, AcceptRefused):
            return self._events.put_if_room(leg)
        self._legs[leg.pair] = leg
        self._events.put(PeerAccepted(leg.offer.identity))
        if len(self._legs) == 1:
            self._wait_until = now + LAGGARD_S
        if len(self._legs) == max(self.config.responders, len(self._calls)):
            self._start_burst(now)
        return None

    def _is_enough(self, now: float) -> bool:
        """Whether the burst begins with those who have accepted: the others of several have a while."""
        return bool(self._legs) and (len(self._calls) == 1 or now >= self._wait_until)

    def _t_h_over(self, now: float) -> None:
        if self._is_enough(now):
            self._start_burst(now)
        elif self._requests >= self.config.max_requests:
            self._fail(self._calls.no_accept, now, f"{self._requests} requests were sent")
        else:
            self._machine.on(I.T_H_OVER, now)
            self._deadline = now + self.config.timers.t_w

    def _t_w_over(self, now: float) -> None:
        if self._is_enough(now):
            return self._start_burst(now)
        self._machine.on(I.T_W_OVER, now)
        return self._send_request(now)

    # --- the burst ----------------------------------------------------------------------------------------------------

    def _start_burst(self, now: float, given: InitiatorInput = I.ACCEPTED) -> None:
        self._machine.on(given, now, "responders", len(self._legs), "sent", self.sent)
        for reason, peer in self._calls.drop_late():
            self._events.put(EstablishFailed(reason, peer, "the burst began without it"))
        if not self._burst.drawn:
            self._burst.draw()
        self._burst_started = self._packet_due = now
        self._deadline = None
        for leg in self._legs.values():
            leg.wrong = 0

    @property
    def _part(self) -> int:
        """Number of the part of the burst that was sent last."""
        return (self.sent - 1) // self.config.burst

    def _send_burst(self, now: float) -> None:
        config = self.config
        if self._repeat is not None and now >= self._repeat:
            self._say_again(now)
        while now >= self._packet_due:
            self._outbox.append((EVERYBODY, self._burst.next()))
            of_part = self.sent % config.burst
            self._packet_due = self._burst_started + of_part * config.interval
            if of_part == 0:
                self._machine.on(I.BURST_SENT, now, "sent", self.sent)
                self._deadline = now + config.t_1 + 2 * config.timers.t_2
                self._say_again(now)
                return self._events.put(BurstSent(self.sent))
        return None

    def _say_again(self, now: float) -> None:
        """Say what waits for an answer: how this part was opened, and its list; or [10]."""
        if not self.config.hardened or self.state is S.CONFIRMING:
            return self._acknowledge(now) if self.state is S.CONFIRMING else None
        for leg in self._legs.values():
            if leg.opening and leg.responded_part != self._part:
                self._outbox.append((leg.offer.identity, leg.opening))
        pieces = self._burst.list() if self.state is S.COLLECTING else []
        late = [leg.offer.identity for leg in self._legs.values() if leg.responded_part != self._part]
        self._outbox += [(to, piece) for to in (late if len(self._calls) > 1 else [EVERYBODY]) for piece in pieces]
        again = self.config.next_repeat(now)
        waits = -(-len(pieces) // limits.LIST_PIECES_A_REPEAT) or 2**self._openings
        self._repeat = None if again is None else now + (again - now) * waits
        self._openings += 1
        return None

    def _overhear_burst(self, frame: Frame, now: float) -> None:
        """Tell an echo of a burst packet of ours, which is harmless, from other content, which is an attack."""
        if not self._burst.is_contradicted(frame):
            return self._events.reject(Rejection.NOT_FOR_US, "a burst packet")
        return self._events.put_if_room(ActiveAttack(frame.seq))

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
        messages = map(self._burst.message, received)
        material = KeyMaterial.derive(
            leg.request,
            leg.accept,
            s,
            messages,
            secret=leg.secret,
            authentication_key=leg.config.authentication_key,
            continuity_key=leg.continuity_key,
        )
        if not material.authentic(frame):
            leg.forged = True
            return self._events.reject(Rejection.UNAUTHENTIC, "a response")
        leg.respond(self._part, received, material, frame.rand)
        self._events.put(ResponseVerified(leg.offer.identity, len(received), leg.bits))
        if self.config.hardened and self._have_all_responded:
            self._responses_are_in(now)
        return None

    @property
    def _have_all_responded(self) -> bool:
        return all(leg.responded_part == self._part for leg in self._legs.values())

    def _responses_are_in(self, now: float) -> None:
        """Go on bursting, or fix the keys: 2 T_2 is over, or (`hardened`) everybody has responded."""
        for pair, leg in list(self._legs.items()):
            if leg.responded_part != self._part:
                self._drop(pair, Failure.NOT_AUTHENTIC if leg.forged else Failure.NO_RESPONSE)
        missing = [pair for pair, leg in self._legs.items() if not leg.enough]
        room = self.sent + self.config.burst <= self.config.max_burst
        if missing and room and self.config.hardened:
            return self._open_part(now)
        for pair in missing:
            self._drop(pair, *self._legs[pair].shortfall(self.sent))
        if not self._legs:
            return self._fail(None, now)
        for told in independence(self._legs.values()):
            self._events.put(told)
        self._machine.on(I.RESPONDED, now, "responders", len(self._legs))
        self._deadline = now + self.config.timers.t_3 + self.config.timers.waiting
        return self._acknowledge(now)

    def _open_part(self, now: float) -> None:
        """Go on bursting: each responder is told, under the key of its last response, what the next part commits to."""
        self._burst.draw()
        self._openings = 1
        for leg in self._legs.values():
            if leg.material is not None:
                leg.opening = leg.more(leg.material, self._part + 1, self._burst.commitment)
                self._outbox.append((leg.offer.identity, leg.opening))
        self._repeat = self.config.next_repeat(now)
        self._start_burst(now, I.TARGET_NOT_YET)

    # --- confirmation -------------------------------------------------------------------------------------------------

    def _acknowledge(self, now: float) -> None:
        """Send [10] to everybody who has not sent the end yet. From here on no received set can change."""
        for leg in self._legs.values():
            if not leg.ended and leg.material is not None:
                self._outbox.append((leg.offer.identity, leg.acknowledgement(leg.material, self._calls.rand_data)))
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
        self._events.put(leg.established(leg.material, nonce, self._calls.rand_data, self._burst))
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
        self._machine.on(I.ENDED, now, "responders", len(self._legs), "sent", self.sent)
        self._forget()

    def _drop(self, pair: bytes, reason: Failure, detail: str = "") -> None:
        leg = self._legs.pop(pair)
        self._events.put(EstablishFailed(reason, leg.offer.identity, detail))

    def _fail(self, reason: Failure | None, now: float, detail: str = "") -> None:
        """End the whole establishment; `reason` is None where each responder's own was told."""
        self._machine.on(I.FAILED, now, "reason", reason.name if reason else "every responder failed")
        if reason is not None:
            self._events.put(EstablishFailed(reason, None, detail))
        self._forget()

    def _forget(self) -> None:
        self._legs.clear()
        self._calls.forget()
        self._burst.forget()
        self._deadline = self._repeat = None
