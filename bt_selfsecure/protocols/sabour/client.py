"""The device: it says who it is, and proves it once the server has answered."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.config import ClientConfig
from bt_selfsecure.protocols.sabour.events import Established, Event, Failure, HandshakeFailed
from bt_selfsecure.protocols.sabour.keys import log_keys
from bt_selfsecure.protocols.sabour.message_queue import MessageQueue
from bt_selfsecure.protocols.sabour.messages import Kind, Message, encode
from bt_selfsecure.protocols.sabour.primitives import ed25519_public
from bt_selfsecure.protocols.sabour.suites import SUITES, KeyPair, Parties, ProtocolRun, Side
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, dispatch, not_for_us, replayed
from bt_selfsecure.sansio.trace import Machine, MachineEnum


class ClientState(MachineEnum):
    NEW = enum.auto()
    GREETING = enum.auto()  # M1 is out
    PROVING = enum.auto()  # M3 is out
    ESTABLISHED = enum.auto()
    FAILED = enum.auto()


class ClientInput(MachineEnum):
    START = enum.auto()
    M2 = enum.auto()
    M4 = enum.auto()
    REFUSED = enum.auto()
    GIVEN_UP = enum.auto()


S, I = ClientState, ClientInput
CLIENT_TABLE: Final[Mapping[tuple[ClientState, ClientInput], ClientState]] = {
    (S.NEW, I.START): S.GREETING,
    (S.GREETING, I.M2): S.PROVING,
    (S.PROVING, I.M2): S.PROVING,
    (S.PROVING, I.M4): S.ESTABLISHED,
    (S.GREETING, I.REFUSED): S.FAILED,
    (S.NEW, I.GIVEN_UP): S.FAILED,
    (S.GREETING, I.GIVEN_UP): S.FAILED,
    (S.PROVING, I.GIVEN_UP): S.FAILED,
}
CLIENT_FRAMES: Final[FrameTable[Kind, ClientState]] = {
    Kind.M2: FrameRow({S.GREETING, S.PROVING}, "_receive_m2", replayed("an M2 that is not waited for")),
    Kind.M4: FrameRow({S.PROVING}, "_receive_m4", replayed("an M4 that is not waited for")),
    Kind.REFUSAL: FrameRow({S.GREETING}, "_receive_refusal", not_for_us("a refusal that is not waited for")),
}


class Client:
    """Is one handshake of a device. Drive it by the verbs of `Endpoint`, and `start(now)`.

    M2 proves nothing, so a client follows several of them at once: who answers in the server's name costs it time, and
    not the handshake. Whatever was not answered is sent again, M1 too, as the server may have had to forget it.
    """

    def __init__(self, config: ClientConfig, context: EndpointContext) -> None:
        self.config: Final = config
        self._random: Final = context.random
        self._key_log: Final = context.key_log
        self._suite: Final = SUITES[config.profile]
        self._machine: Final = Machine(context.name, "client", CLIENT_TABLE, S.NEW, context.tracer)
        self._events: Final = MessageQueue()
        self._parties: Final = self._named()
        self._own: KeyPair | None = None
        self._m1 = b""
        self._runs: dict[bytes, tuple[ProtocolRun, bytes]] = {}  # by the server's share: the run, and M3
        self._outbox: list[bytes] = []
        self._sent = 0
        self._deadline: float | None = None

    def _named(self) -> Parties:
        identity, server = self.config.identity, self.config.server
        if not self.config.profile.hardened:
            return Parties(identity.device_id)
        return Parties(identity.device_id, ed25519_public(identity.seed), server.device_id, server.key)

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> ClientState:
        return self._machine.state

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def start(self, now: float) -> None:
        """Send M1. Raises `LocalError` where it was sent before."""
        self._machine.on(I.START, now)
        self._own = self._suite.key_pair(self._random)
        message = Message(Kind.M1, self.config.identity.device_id, self._own.public)
        self._m1 = encode(self.config.profile, message)
        self._outbox.append(self._m1)
        self._wait(now)

    def next_event(self) -> Event | None:
        return self._events.take()

    def get_timer(self) -> float | None:
        return self._deadline

    def frames_to_send(self, now: float) -> list[bytes]:
        out, self._outbox = self._outbox, []
        return out

    def receive_frame(self, data: bytes, now: float) -> None:
        message = self._events.decode(data, self.config.profile)
        if message is not None:
            dispatch(CLIENT_FRAMES.get(message.kind), self, message, now, self._events)

    def handle_timer(self, now: float) -> None:
        if self._deadline is None or now < self._deadline:
            return
        if self._sent > self.config.most_retransmissions:
            self._fail(Failure.NO_PROOF if self._runs else Failure.NO_ANSWER, I.GIVEN_UP, now)
            return
        self._outbox = [self._m1, *(m3 for _, m3 in self._runs.values())]
        self._wait(now)

    def close(self, now: float) -> None:
        """Give up what is under way, and send nothing more."""
        if self._machine.can(I.GIVEN_UP):
            self._fail(Failure.CLOSED, I.GIVEN_UP, now)

    # --- the messages -------------------------------------------------------------------------------------------------

    def _receive_m2(self, message: Message, now: float) -> None:
        share = message.share
        if share in self._runs:
            return  # M1 had been sent twice; what is lost of M3 its timer sends again
        assert self._own is not None
        ssk = self._suite.agree(self._own, share)
        if ssk is None:
            self._events.reject(Rejection.MALFORMED, "M2 with an invalid point")
            return
        run = ProtocolRun(self._parties, self._own.public, share, self._own, ssk)
        signature = self._suite.sign(Side.CLIENT, run, self.config.identity.seed, self._random)
        m3 = encode(self.config.profile, Message(Kind.M3, signature=signature))
        if len(self._runs) == limits.MOST_ANSWERS:
            del self._runs[next(iter(self._runs))]
        self._runs[share] = run, m3
        self._outbox = [*self._outbox, m3][-limits.MOST_ANSWERS :]
        self._machine.on(I.M2, now, "answers", len(self._runs))

    def _receive_m4(self, message: Message, now: float) -> None:
        for run, _ in self._runs.values():
            if self._suite.verify(Side.SERVER, run, message.signature):
                self._establish(run, now)
                return
        self._events.reject(Rejection.UNAUTHENTIC, "M4")

    def _receive_refusal(self, message: Message, now: float) -> None:
        self._fail(Failure.REFUSED, I.REFUSED, now)

    def _establish(self, run: ProtocolRun, now: float) -> None:
        self._machine.on(I.M4, now)
        keys = self._suite.keys(Side.CLIENT, run)
        if self._key_log is not None:
            log_keys(self._key_log, run.parties.device_id, keys)
        self._events.put(Established(run.parties.device_id, keys))
        self._forget()

    def _fail(self, reason: Failure, given: ClientInput, now: float) -> None:
        self._machine.on(given, now, "reason", reason.name)
        self._events.put(HandshakeFailed(reason))
        self._forget()

    def _forget(self) -> None:
        """Nothing of a handshake that is over is kept: who takes the device later does not get its keys."""
        self._own, self._runs, self._outbox, self._deadline = None, {}, [], None

    def _wait(self, now: float) -> None:
        self._sent += 1
        chance = int.from_bytes(self._random(2)) / 0xFFFF
        self._deadline = now + self.config.wait(self._sent, chance)
