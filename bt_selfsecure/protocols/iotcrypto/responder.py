"""Who answers: a gateway its devices, a cloud its gateways. It has the fresh key of the two (section 4.6)."""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.curves import ecdsa_sign, x25519_public
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.config import NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.events import Established, Event, Failure, NegotiationFailed
from bt_selfsecure.protocols.iotcrypto.keys import Derived, agreed, hardened_keys, paper_keys, proof_digest, transcript
from bt_selfsecure.protocols.iotcrypto.messages import Kind, Message, Profile, decode_message, encode_message
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, dispatch, replayed
from bt_selfsecure.sansio.trace import Machine, MachineEnum, key_log_line


class ResponderState(MachineEnum):
    WAITING = enum.auto()
    ANSWERED = enum.auto()  # and confirm is waited for
    ESTABLISHED = enum.auto()
    FAILED = enum.auto()


class ResponderInput(MachineEnum):
    HELLO = enum.auto()
    AGREED = enum.auto()
    FAIL = enum.auto()


S, I = ResponderState, ResponderInput
RESPONDER_TABLE: Final[Mapping[tuple[ResponderState, ResponderInput], ResponderState]] = {
    (S.WAITING, I.HELLO): S.ANSWERED,
    (S.WAITING, I.AGREED): S.ESTABLISHED,  # paper
    (S.ANSWERED, I.AGREED): S.ESTABLISHED,
    (S.WAITING, I.FAIL): S.FAILED,
    (S.ANSWERED, I.FAIL): S.FAILED,
}
RESPONDER_FRAMES: Final[FrameTable[Kind, ResponderState]] = {
    Kind.HELLO: FrameRow({*S}, "_receive_hello", replayed("a hello that was said before")),
    Kind.CONFIRM: FrameRow({S.ANSWERED, S.ESTABLISHED}, "_receive_confirm", replayed("nothing was answered yet")),
}
HALF_OPEN_S: Final = 100.0
"""Seconds for which a negotiation is waited for: the other end gives up after 62."""


class Responder:
    """Is one negotiation, inside of one DTLS connection. Drive it by the verbs of `Endpoint`.

    It answers one hello; the same again is answered by the same bytes, as an answer may be lost.
    """

    def __init__(self, config: NegotiationConfig, context: EndpointContext, now: float) -> None:
        self.config: Final = config
        self._random: Final = context.random
        self._key_log: Final = context.key_log
        self._machine: Final = Machine(context.name, "responder", RESPONDER_TABLE, S.WAITING, context.tracer)
        self._events: Final[EventQueue[Event]] = EventQueue(limits.MOST_EVENTS)
        self._hello = b""
        self._said: list[bytes] = []  # the answer, and the confirmation
        self._derived: Derived | None = None
        self._agreed: Established | None = None
        self._outbox: list[bytes] = []
        self._deadline: float | None = now + HALF_OPEN_S

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> ResponderState:
        return self._machine.state

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def next_event(self) -> Event | None:
        return self._events.take()

    def get_timer(self) -> float | None:
        return self._deadline

    def frames_to_send(self, now: float) -> list[bytes]:
        out, self._outbox = self._outbox, []
        return out

    def receive_frame(self, data: bytes, now: float) -> None:
        if data == self._hello:
            self._outbox = self._said[:1]
            return
        try:
            message = decode_message(self.config.profile, data)
        except MalformedError as error:
            self._events.reject(Rejection.MALFORMED, str(error))
            return
        if message.kind is Kind.HELLO and self.state is not S.WAITING:
            self._events.reject(Rejection.REPLAY, "another hello in the same connection")
            return
        self._hello = data if message.kind is Kind.HELLO else self._hello
        dispatch(RESPONDER_FRAMES.get(message.kind), self, message, now, self._events)

    def handle_timer(self, now: float) -> None:
        if self._deadline is not None and now >= self._deadline:
            self._fail(NegotiationFailed(Failure.NO_ANSWER), now)

    def close(self, now: float) -> None:
        """Give up what is under way, and send nothing more."""
        if self._machine.can(I.FAIL):
            self._fail(NegotiationFailed(Failure.CLOSED), now)
        self._outbox, self._said = [], []

    # --- the messages -------------------------------------------------------------------------------------------------

    def _receive_hello(self, hello: Message, now: float) -> None:
        assert hello.signed
        judgement = self.config.judge(hello.signed)
        if not judgement.is_trusted:
            self._say(Message(Kind.REFUSAL, verdict=judgement.verdict))
            self._fail(NegotiationFailed(Failure.UNTRUSTED, judgement.verdict, hello.signed), now)
            return
        secret = self._random(limits.KEY_BYTES)
        answer = Message(Kind.ANSWER, self.config.signed, ephemeral=x25519_public(secret))
        peer = hello.signed.certificate
        shares = (peer.ecdh_key, hello.ephemeral) if hello.ephemeral else (peer.ecdh_key,)
        shared = agreed((secret,) * len(shares), shares)
        if shared is None:
            self._fail(NegotiationFailed(Failure.FORGED, peer=hello.signed), now)
            return
        if self.config.profile is Profile.PAPER:
            self._derived = paper_keys(shared, peer.id)
        else:
            t = transcript(hello, answer)
            self._derived = hardened_keys(shared, t)
            proof = ecdsa_sign(self.config.secrets.ecdsa, proof_digest(t))
            answer = Message(Kind.ANSWER, self.config.signed, ephemeral=answer.ephemeral, proof=proof)
        self._say(answer)
        self._agreed = Established(hello.signed, judgement, self._derived.session)
        if self.config.profile is Profile.PAPER:
            self._establish(now)
        else:
            self._machine.on(I.HELLO, now, "peer", peer.id.hex())

    def _receive_confirm(self, message: Message, now: float) -> None:
        assert self._derived
        if not hmac.compare_digest(message.mac, self._derived.confirm):
            self._events.reject(Rejection.UNAUTHENTIC, "confirm")
        elif self.state is S.ESTABLISHED:
            self._outbox = self._said[1:]
        else:
            self._say(Message(Kind.CONFIRMED, mac=self._derived.confirmed))
            self._establish(now)

    def _establish(self, now: float) -> None:
        assert self._agreed
        keys = self._agreed.keys
        self._machine.on(I.AGREED, now)
        if self._key_log is not None:
            self._key_log(key_log_line("IOTCRYPTO", keys.identity, keys.key))
        self._events.put(self._agreed)
        self._agreed, self._deadline = None, None

    def _fail(self, event: NegotiationFailed, now: float) -> None:
        self._machine.on(I.FAIL, now, "reason", event.reason.name, "verdict", event.verdict.name)
        self._events.put(event)
        self._derived = self._agreed = self._deadline = None

    def _say(self, message: Message) -> None:
        said = encode_message(self.config.profile, message)
        self._said.append(said)
        self._outbox.append(said)
