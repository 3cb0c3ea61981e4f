"""Who says hello: a device to its gateway, a gateway to its cloud."""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.curves import ecdsa_verify, x25519_public
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.config import NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.events import Established, Event, Failure, NegotiationFailed
from bt_selfsecure.protocols.iotcrypto.keys import Derived, agreed, hardened_keys, paper_keys, proof_digest, transcript
from bt_selfsecure.protocols.iotcrypto.messages import Kind, Message, Profile, decode_message, encode_message
from bt_selfsecure.protocols.iotcrypto.trust import Judgement
from bt_selfsecure.sansio.back_off import doubled
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, dispatch, not_for_us, replayed
from bt_selfsecure.sansio.trace import Machine, MachineEnum, key_log_line


class InitiatorState(MachineEnum):
    NEW = enum.auto()
    GREETING = enum.auto()  # hello is out
    CONFIRMING = enum.auto()  # confirm is out
    ESTABLISHED = enum.auto()
    FAILED = enum.auto()


class InitiatorInput(MachineEnum):
    START = enum.auto()
    ANSWER = enum.auto()
    AGREED = enum.auto()
    FAIL = enum.auto()


S, I = InitiatorState, InitiatorInput
INITIATOR_TABLE: Final[Mapping[tuple[InitiatorState, InitiatorInput], InitiatorState]] = {
    (S.NEW, I.START): S.GREETING,
    (S.GREETING, I.ANSWER): S.CONFIRMING,
    (S.GREETING, I.AGREED): S.ESTABLISHED,  # paper
    (S.CONFIRMING, I.AGREED): S.ESTABLISHED,
    (S.NEW, I.FAIL): S.FAILED,
    (S.GREETING, I.FAIL): S.FAILED,
    (S.CONFIRMING, I.FAIL): S.FAILED,
}
INITIATOR_FRAMES: Final[FrameTable[Kind, InitiatorState]] = {
    Kind.ANSWER: FrameRow({S.GREETING}, "_receive_answer", replayed("an answer that is not waited for")),
    Kind.CONFIRMED: FrameRow({S.CONFIRMING}, "_receive_confirmed", replayed("a confirmation that is not waited for")),
    Kind.REFUSAL: FrameRow({S.GREETING}, "_receive_refusal", not_for_us("a refusal that is not waited for")),
}
LONGEST_WAIT_S: Final = 16.0


class Initiator:
    """Is one negotiation, inside of one DTLS connection. Drive it by the verbs of `Endpoint`, and `start(now)`."""

    def __init__(self, config: NegotiationConfig, context: EndpointContext) -> None:
        self.config: Final = config
        self._random: Final = context.random
        self._key_log: Final = context.key_log
        self._machine: Final = Machine(context.name, "initiator", INITIATOR_TABLE, S.NEW, context.tracer)
        self._events: Final[EventQueue[Event]] = EventQueue(limits.MOST_EVENTS)
        self._hello: Message | None = None
        self._ephemeral = b""
        self._derived: Derived | None = None
        self._peer: tuple[Message, Judgement] | None = None
        self._repeated = b""
        self._outbox: list[bytes] = []
        self._sent = 0
        self._deadline: float | None = None

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> InitiatorState:
        return self._machine.state

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def start(self, now: float) -> None:
        """Say hello. Raises `LocalError` where it was said before."""
        self._machine.on(I.START, now)
        nonce = public = b""
        if self.config.profile is Profile.HARDENED:
            nonce = self._random(limits.NONCE_BYTES)
            if self.config.second_ephemeral:
                self._ephemeral = self._random(limits.KEY_BYTES)
                public = x25519_public(self._ephemeral)
        self._hello = Message(Kind.HELLO, self.config.signed, nonce, public)
        self._say(self._hello, now)

    def next_event(self) -> Event | None:
        return self._events.take()

    def get_timer(self) -> float | None:
        return self._deadline

    def frames_to_send(self, now: float) -> list[bytes]:
        out, self._outbox = self._outbox, []
        return out

    def receive_frame(self, data: bytes, now: float) -> None:
        try:
            message = decode_message(self.config.profile, data)
        except MalformedError as error:
            self._events.reject(Rejection.MALFORMED, str(error))
            return
        dispatch(INITIATOR_FRAMES.get(message.kind), self, message, now, self._events)

    def handle_timer(self, now: float) -> None:
        if self._deadline is None or now < self._deadline:
            return
        if self._sent > self.config.retransmissions:
            self._fail(NegotiationFailed(Failure.NO_ANSWER), now)
            return
        self._outbox = [self._repeated]
        self._wait(now)

    def close(self, now: float) -> None:
        """Give up what is under way, and send nothing more."""
        if self._machine.can(I.FAIL):
            self._fail(NegotiationFailed(Failure.CLOSED), now)

    # --- the messages -------------------------------------------------------------------------------------------------

    def _receive_answer(self, message: Message, now: float) -> None:
        assert message.signed
        assert self._hello
        judgement = self.config.judge(message.signed)
        if not judgement.is_trusted:
            self._fail(NegotiationFailed(Failure.UNTRUSTED, judgement.verdict, message.signed), now)
            return
        secrets = (self.config.secrets.ecdh, self._ephemeral) if self._ephemeral else (self.config.secrets.ecdh,)
        shared = agreed(secrets, (message.ephemeral,) * len(secrets))
        t = transcript(self._hello, message) if self.config.profile is Profile.HARDENED else b""
        peer = message.signed.certificate
        if shared is None or (t and not ecdsa_verify(peer.ecdsa_key, message.proof, proof_digest(t))):
            self._fail(NegotiationFailed(Failure.FORGED, peer=message.signed), now)
            return
        self._peer = message, judgement
        if not t:
            self._derived = paper_keys(shared, self.config.secrets.id)
            self._establish(now)
            return
        self._derived = hardened_keys(shared, t)
        self._machine.on(I.ANSWER, now)
        self._sent = 0
        self._say(Message(Kind.CONFIRM, mac=self._derived.confirm), now)

    def _receive_confirmed(self, message: Message, now: float) -> None:
        assert self._derived
        if not hmac.compare_digest(message.mac, self._derived.confirmed):
            self._events.reject(Rejection.UNAUTHENTIC, "confirmed")
            return
        self._establish(now)

    def _receive_refusal(self, message: Message, now: float) -> None:
        self._fail(NegotiationFailed(Failure.REFUSED, message.verdict), now)

    def _establish(self, now: float) -> None:
        assert self._derived
        assert self._peer
        answer, judgement = self._peer
        assert answer.signed
        self._machine.on(I.AGREED, now)
        keys = self._derived.session
        if self._key_log is not None:
            self._key_log(key_log_line("IOTCRYPTO", keys.identity, keys.key))
        self._events.put(Established(answer.signed, judgement, keys))
        self._forget()

    def _fail(self, event: NegotiationFailed, now: float) -> None:
        self._machine.on(I.FAIL, now, "reason", event.reason.name, "verdict", event.verdict.name)
        self._events.put(event)
        self._forget()

    def _forget(self) -> None:
        """Nothing of a negotiation that is over is kept."""
        self._ephemeral, self._hello, self._derived, self._peer = b"", None, None, None
        self._outbox, self._deadline = [], None

    def _say(self, message: Message, now: float) -> None:
        self._repeated = encode_message(self.config.profile, message)
        self._outbox.append(self._repeated)
        self._wait(now)

    def _wait(self, now: float) -> None:
        self._deadline = now + doubled(self.config.timeout, LONGEST_WAIT_S, self._sent)
        self._sent += 1
