"""Plays Bob of one establishment at a time (paper 3.2); he stays and answers the next request after it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import MAX_T_1_S, MIN_T_1_S, EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import (
    ActiveAttack,
    EstablishFailed,
    Event,
    Failure,
    Refusal,
    RequestRefused,
)
from bt_selfsecure.protocols.haoxiao.frame_queue import FrameQueue
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, encode, peek_retired_kind
from bt_selfsecure.protocols.haoxiao.material import KeyShare, Offer, continuity_name
from bt_selfsecure.protocols.haoxiao.received_burst import CommittedBurst
from bt_selfsecure.protocols.haoxiao.responder_context import ResponderContext
from bt_selfsecure.protocols.haoxiao.responder_table import (
    RESPONDER_FRAMES,
    RESPONDER_TABLE,
    RESPONDER_TIMERS,
    ResponderInput,
    ResponderState,
)
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import earliest
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import dispatch
from bt_selfsecure.sansio.trace import Machine, key_log_line

S, I = ResponderState, ResponderInput
_OLD_IDENTITY: Final = slice(5 + limits.NONCE_BYTES, 5 + limits.NONCE_BYTES + limits.IDENTITY_BYTES)
"""Where a request of version 2 has it."""


class _Queue(FrameQueue):
    def retired(self, data: bytes) -> None:
        """The same of a request of a version that is not spoken any more, by whom it says that it is."""
        if peek_retired_kind(data) is Kind.REQUEST:
            self.put_if_room(RequestRefused(data[_OLD_IDENTITY], Refusal.VERSION))
        else:
            super().retired(data)

    def refuse(self, foreign: Frame) -> None:
        """Refuse a request of another profile in silence like any other, but tell it to the driver by name."""
        if foreign.kind is Kind.REQUEST:
            self.put_if_room(RequestRefused(foreign.message[: limits.IDENTITY_BYTES], Refusal.PROFILE))
        else:
            super().refuse(foreign)


class Responder:
    """Plays Bob, of one establishment after the other. Drive it by the verbs of `Endpoint`.

    It keeps one establishment, and T_d of a bounded number of identities.
    """

    def __init__(
        self,
        config: EstablishConfig,
        context: EndpointContext,
    ) -> None:
        self.config = config
        """Another one holds from the next request on."""
        self._random: Final = context.random
        self._key_log: Final = context.key_log
        self._machine: Final = Machine(context.name, "responder", RESPONDER_TABLE, S.IDLE, context.tracer)
        self._events: Final = _Queue()
        self._throttled: Final[OrderedDict[bytes, float]] = OrderedDict()
        self._current: ResponderContext | None = None
        self._outbox: list[bytes] = []
        self._deadline: float | None = None
        self._repeat: float | None = None

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> ResponderState:
        return self._machine.state

    @property
    def received(self) -> int:
        """Return |S| so far."""
        packets = self._current.packets if self._current else None
        return len(packets) if isinstance(packets, CommittedBurst) else len(packets.kept) if packets else 0

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def expect_comparison(self, expects: bool) -> None:
        """Give the key that is under way its string, or none: `EstablishConfig.compare`, as a person now says."""
        if self._current and self._current.config.compare is not expects:
            self._current.config = replace(self._current.config, compare=expects)

    def next_event(self) -> Event | None:
        return self._events.take()

    def get_timer(self) -> float | None:
        return earliest(self._deadline, self._repeat)

    def frames_to_send(self, now: float) -> list[bytes]:
        out, self._outbox = self._outbox, []
        return out

    def receive_frame(self, data: bytes, now: float) -> None:
        frame = self._events.decode(data, self.config.profile)
        if frame is not None:
            dispatch(RESPONDER_FRAMES.get(frame.kind), self, frame, now, self._events)

    def handle_timer(self, now: float) -> None:
        if self._repeat is not None and now >= self._repeat and self._current:
            self._outbox.append(self._current.response)
            self._repeat = self.config.next_repeat(now)
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            getattr(self, RESPONDER_TIMERS[self.state])(now)

    def give_up(self, now: float) -> None:
        """End what is under way, send nothing more of it, and forget it, the last key too; T_d goes on, and the next
        request may come."""
        if self._machine.can(I.FAILED):
            self._fail(Failure.CLOSED, now)
        self._current = None
        self._outbox.clear()

    def close(self, now: float) -> None:
        """Give up, and answer nothing more: the next request neither."""
        self.give_up(now)
        self._machine.on(I.CLOSE, now)

    # --- request ------------------------------------------------------------------------------------------------------

    def _receive_request(self, frame: Frame, now: float) -> None:
        if self._current and self._current.request == frame:
            return self._receive_request_again(self._current, now)
        offer = Offer.decode(self.config.profile, frame.message, accept=False)
        if offer is None:
            return self._events.reject(Rejection.MALFORMED, "a request whose message has another form")
        if self._throttled.get(offer.identity, now) > now:
            return self._events.reject(Rejection.THROTTLED, offer.identity.hex(":"))
        refusal = self._refusal(offer)
        if refusal not in (Refusal.BUSY, Refusal.UNWILLING, Refusal.IDENTITY):
            self._throttle(offer.identity, now)
        if refusal is not None:
            return self._events.put_if_room(RequestRefused(offer.identity, refusal))
        return self._accept(frame, offer, now)

    def _receive_request_again(self, current: ResponderContext, now: float) -> None:
        """Say the accept again: it was lost. In `hardened` a forged burst packet may have come before the first true
        one, and 2 T_1 begins anew."""
        if self.state is S.ACCEPTED:
            self._outbox.append(current.accept_bytes)
        elif self.config.hardened and self.state is S.COLLECTING and current.part == 0 and now < current.asked_until:
            self._outbox.append(current.accept_bytes)
            self._await_burst(current, now)

    def _throttle(self, identity: bytes, now: float) -> None:
        """Start T_d, as with each request that is considered, whatever else comes of it. Whom the policy does not admit
        gets no place here: names that anybody can make up would push out those that it admits."""
        self._throttled.pop(identity, None)
        self._throttled[identity] = now + self.config.timers.t_d
        if len(self._throttled) > limits.MAX_THROTTLED:
            self._throttled.popitem(last=False)

    def _refusal(self, offer: Offer) -> Refusal | None:
        config = self.config
        if not self._machine.can(I.REQUEST):
            return Refusal.BUSY
        if not config.admit(offer.identity):
            return Refusal.UNWILLING
        if config.peer and offer.identity != config.peer:
            return Refusal.IDENTITY
        if offer.authenticated != bool(config.authentication_key):
            return Refusal.AUTHENTICATION
        if config.exchange_shares and not offer.share:
            return Refusal.PARAMETERS
        if config.hardened and not (1 <= offer.burst <= limits.MAX_BURST and MIN_T_1_S <= offer.t_1 <= MAX_T_1_S):
            return Refusal.PARAMETERS
        if config.requires_continuity and not self._common_continuity(offer):
            return Refusal.CONTINUITY
        return None

    def _common_continuity(self, offer: Offer) -> bytes:
        """Return the newest continuity key that the request names and this end has, or none."""
        own = {continuity_name(key): key for key in self.config.continuity_keys}
        return next((own[name] for name in offer.names if name in own), b"")

    def _accept(self, request: Frame, offer: Offer, now: float) -> None:
        config = self.config
        share = KeyShare(self._random if offer.share else None)
        secret = share.exchange(offer.share)
        if secret is None:
            return self._events.put_if_room(RequestRefused(offer.identity, Refusal.PARAMETERS))
        continuity_key = self._common_continuity(offer)
        names = (continuity_name(continuity_key),) if continuity_key else ()
        answer = Offer(config.identity, offer.compact, bool(config.authentication_key), share=share.public, names=names)
        message = request.rand[: limits.SESSION_ID_BYTES] + answer.encode(config.profile, accept=True)
        accept = Frame(config.profile, Kind.ACCEPT, rand=self._random(limits.NONCE_BYTES), message=message)
        accept_bytes = encode(accept, seed=self._random(32))
        self._machine.on(I.REQUEST, now, "peer", offer.identity.hex(":"))
        self._current = ResponderContext(config, request, offer, accept, accept_bytes, secret, continuity_key)
        self._outbox.append(accept_bytes)
        self._repeat = None
        self._deadline = self._current.asked_until = now + config.max_requests * (config.timers.t_h + config.timers.t_w)
        return None

    def _no_burst(self, now: float) -> None:
        self._fail(Failure.NO_BURST, now)

    # --- burst --------------------------------------------------------------------------------------------------------

    def _receive_burst(self, frame: Frame, now: float) -> None:
        current, seq = self._current, frame.seq
        if current is None or not current.has(frame):
            return self._events.reject(Rejection.NOT_FOR_US, "a burst packet")
        if self.state is S.ACCEPTED and seq < current.burst:
            self._first_packet(current, now)
        if self.state is not S.COLLECTING or seq // current.burst > current.part:
            return self._events.reject(Rejection.REPLAY, "a burst packet out of its time")
        taken = current.packets.add(seq, frame.message)
        if taken.contradicts:
            self._events.put_if_room(ActiveAttack(seq))
        if taken.new:
            self._settle(current, now)
        return None

    def _first_packet(self, current: ResponderContext, now: float) -> None:
        """Start 2 T_1. In `hardened` this packet may be forged, and come as early as the accept."""
        self._machine.on(I.FIRST_PACKET, now)
        self._await_burst(current, now)

    def _await_burst(self, current: ResponderContext, now: float) -> None:
        timers = self.config.timers
        current.over = now + 2 * current.t_1
        self._deadline = current.over + (timers.t_h + timers.t_w if self.config.hardened else 0.0)

    def _settle(self, current: ResponderContext, now: float) -> None:
        """Respond soon, if the part was sent: its list says so, which nobody can forge."""
        if isinstance(current.packets, CommittedBurst) and current.packets.is_proved:
            self._deadline = min(max(now, current.over), now + self.config.timers.settle)

    def _receive_list(self, frame: Frame, now: float) -> None:
        current = self._current
        if current is None or frame.rand != current.request.rand[: limits.SESSION_ID_BYTES]:
            return self._events.reject(Rejection.NOT_FOR_US, "a list of burst packets")
        packets = current.packets
        if not isinstance(packets, CommittedBurst) or not packets.add_list(frame.seq, frame.message):
            return self._events.reject(Rejection.UNAUTHENTIC, "a list of burst packets")
        if self.state is S.COLLECTING:
            self._settle(current, now)
        return None

    # --- response -----------------------------------------------------------------------------------------------------

    def _burst_over(self, now: float) -> None:
        """Respond by [6] to [9]: 2 T_1 is over (`hardened`: or the last packet came)."""
        current, config = self._current, self.config
        if current is None:
            return None
        packets = current.packets
        if isinstance(packets, CommittedBurst):
            if not packets.is_proved:
                return self._fail(Failure.NO_LIST, now)
        elif len(packets.kept) < config.n_r:
            return self._fail(Failure.TOO_FEW_PACKETS, now, f"|S| = {len(packets.kept)}, N_r = {config.n_r}")
        current.respond(self._random(limits.NONCE_BYTES))
        self._machine.on(I.BURST_OVER, now, "received", len(current.received), "part", current.part)
        self._outbox.append(current.response)
        self._repeat = config.next_repeat(now)
        self._deadline = max(now, current.over) + 2 * config.timers.t_2  # who is early waits for the initiator
        return None

    def _t_2_over(self, now: float) -> None:
        self._machine.on(I.T_2_OVER, now)
        self._deadline = now + 2 * self.config.timers.t_3

    # --- confirmation -------------------------------------------------------------------------------------------------

    def _receive_acknowledge(self, frame: Frame, now: float) -> None:
        current = self._current
        if current is None or current.material is None or frame.message[: limits.PAIR_ID_BYTES] != current.pair:
            return self._events.reject(Rejection.NOT_FOR_US, "an acknowledgement of another establishment")
        if not current.material.authentic(frame):
            return self._events.reject(Rejection.UNAUTHENTIC, "an acknowledgement")
        commitment = frame.message[limits.PAIR_ID_BYTES :]
        if self.config.hardened and len(commitment) == limits.COMMITMENT_BYTES:
            return self._open_part(current, frame.seq, commitment, now)
        if commitment or frame.seq:
            return self._events.reject(Rejection.MALFORMED, "an acknowledgement of another form")
        if self.state is S.ESTABLISHED:
            return self._outbox.append(current.end)  # it was lost: say it again
        if self.config.hardened and not current.opens_commitment(frame.rand):
            return self._events.reject(Rejection.UNAUTHENTIC, "RandData is not what the request committed to")
        if len(current.received) < self.config.n_r:
            return self._fail(
                Failure.TOO_FEW_PACKETS, now, f"|S| = {len(current.received)}, own N_r = {self.config.n_r}"
            )
        current.rand_data = frame.rand
        self._repeat = None
        if self.config.hardened:
            self._establish(current, now)
        return None

    def _open_part(self, current: ResponderContext, part: int, commitment: bytes, now: float) -> None:
        """Another part begins, if the initiator says so: a burst packet alone anybody can make."""
        room = (part + 1) * current.burst <= current.most
        if self.state is S.ESTABLISHED or part != current.part + 1 or not room:
            return self._events.reject(Rejection.REPLAY, "an opening of a part out of its time")
        self._machine.on(I.BURST_GOES_ON, now, "received", len(current.received), "part", part)
        current.begin_part(part, commitment)
        self._repeat = None
        self._deadline = current.over = now + 2 * current.t_1
        return None

    def _t_3_over(self, now: float) -> None:
        if self._current and self._current.rand_data:
            self._establish(self._current, now)
        else:
            self._fail(Failure.NO_ACKNOWLEDGE, now)

    def _establish(self, current: ResponderContext, now: float) -> None:
        """Send the end packet, and use the key: the acknowledgement is authentic (`paper`: and 2 T_3 is over)."""
        assert current.material is not None
        established = current.establish(current.material)
        self._outbox.append(current.end)
        self._machine.on(I.ACKNOWLEDGED, now, "received", len(current.received))
        self._deadline = self._repeat = None
        if self._key_log is not None:
            self._key_log(key_log_line("K0", current.pair, established.k0))
        self._events.put(established)

    def _fail(self, reason: Failure, now: float, detail: str = "") -> None:
        """End the establishment in silence; the next request may come."""
        peer = self._current.offer.identity if self._current else None
        self._machine.on(I.FAILED, now, "reason", reason.name)
        self._events.put(EstablishFailed(reason, peer, detail))
        self._current = None
        self._deadline = self._repeat = None
