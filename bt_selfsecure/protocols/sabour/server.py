"""The server: it answers who is enrolled, and believes who proves it."""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.config import NOBODY, ServerConfig
from bt_selfsecure.protocols.sabour.events import Established, Event, HandshakeExpired, UnknownDevice
from bt_selfsecure.protocols.sabour.keys import log_keys
from bt_selfsecure.protocols.sabour.message_queue import MessageQueue
from bt_selfsecure.protocols.sabour.messages import Kind, Message, encode
from bt_selfsecure.protocols.sabour.suites import SUITES, Parties, ProtocolRun, Side
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.trace import Machine, MachineEnum


class ServerState(MachineEnum):
    """Says how far one handshake is."""

    NEW = enum.auto()
    ANSWERED = enum.auto()  # M2 is out
    ESTABLISHED = enum.auto()  # M4 is out, and is said again
    OVER = enum.auto()


class ServerInput(MachineEnum):
    M1 = enum.auto()
    M3 = enum.auto()
    TIME_OVER = enum.auto()
    DISPLACED = enum.auto()


S, I = ServerState, ServerInput
SERVER_TABLE: Final[Mapping[tuple[ServerState, ServerInput], ServerState]] = {
    (S.NEW, I.M1): S.ANSWERED,
    (S.ANSWERED, I.M3): S.ESTABLISHED,
    (S.ANSWERED, I.TIME_OVER): S.OVER,
    (S.ANSWERED, I.DISPLACED): S.OVER,
    (S.ESTABLISHED, I.TIME_OVER): S.OVER,
    (S.ESTABLISHED, I.DISPLACED): S.OVER,
}
SERVER_FRAMES: Final[Mapping[Kind, str]] = {Kind.M1: "_receive_m1", Kind.M3: "_receive_m3"}
"""Which method takes which message: each looks for the handshake that the message belongs to."""


class _Handshake:
    """One of them. Once M3 has proved the device its secrets are gone, and the four datagrams are left."""

    def __init__(
        self, machine: Machine[ServerState, ServerInput], run: ProtocolRun, m1: bytes, m2: bytes, until: float
    ) -> None:
        self.machine: Final = machine
        self.device_id: Final = run.parties.device_id
        self.run: ProtocolRun | None = run
        self.m1: Final = m1
        self.m2: Final = m2
        self.until = until
        self.m3 = b""
        self.m4 = b""


class Server:
    """Makes handshakes with all enrolled devices. Drive it by the verbs of `Endpoint`.

    Who is answered is the driver's matter: what `frames_to_send` gives after `receive_frame` goes to where that
    datagram came from. M3 names no handshake, so it is held against each that waits for one; their number is bounded,
    and where there are too many the oldest goes of the device that has most of them.
    """

    def __init__(self, config: ServerConfig, context: EndpointContext) -> None:
        self.config: Final = config
        self._context: Final = context
        self._suite: Final = SUITES[config.profile]
        self._enrolment: Final = config.identity.enrolment if config.profile.hardened else NOBODY
        self._events: Final = MessageQueue()
        self._waiting: list[_Handshake] = []  # for M3, the oldest first
        self._established: dict[bytes, _Handshake] = {}  # the newest of each device
        self._outbox: Final[deque[bytes]] = deque(maxlen=limits.MOST_FRAMES)
        self._is_closed = False

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def half_open(self) -> int:
        """Return how many handshakes wait for M3."""
        return len(self._waiting)

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def next_event(self) -> Event | None:
        return self._events.take()

    def get_timer(self) -> float | None:
        return min((one.until for one in (*self._waiting, *self._established.values())), default=None)

    def frames_to_send(self, now: float) -> list[bytes]:
        out = list(self._outbox)
        self._outbox.clear()
        return out

    def receive_frame(self, data: bytes, now: float) -> None:
        self.handle_timer(now)
        message = self._events.decode(data, self.config.profile)
        if message is None:
            return
        handler = SERVER_FRAMES.get(message.kind)
        if handler is None or self._is_closed:
            self._events.reject(Rejection.NOT_FOR_US, message.kind.name)
        else:
            getattr(self, handler)(message, data, now)

    def handle_timer(self, now: float) -> None:
        for one in [one for one in self._waiting if one.until <= now]:
            one.machine.on(I.TIME_OVER, now)
            self._waiting.remove(one)
            self._events.put_if_room(HandshakeExpired(one.device_id))
        for one in [one for one in self._established.values() if one.until <= now]:
            one.machine.on(I.TIME_OVER, now)
            del self._established[one.device_id]

    def close(self, now: float) -> None:
        """Forget every handshake, and answer nothing more. Keys that were told stay good."""
        self._is_closed = True
        for one in (*self._waiting, *self._established.values()):
            one.machine.on(I.DISPLACED, now)
        self._waiting.clear()
        self._established.clear()
        self._outbox.clear()

    # --- the messages -------------------------------------------------------------------------------------------------

    def _receive_m1(self, message: Message, data: bytes, now: float) -> None:
        known = self._handshake_of(data)
        if known is not None:
            self._outbox.append(known.m2)  # it was lost: say it again
            return
        key = self.config.devices.get(message.device_id)
        if key is None:
            self._events.put_if_room(UnknownDevice(message.device_id))
            if not self.config.profile.hardened:
                self._outbox.append(encode(self.config.profile, Message(Kind.REFUSAL)))
            return
        own = self._suite.key_pair(self._context.random)
        ssk = self._suite.agree(own, message.share)
        if ssk is None:
            self._events.reject(Rejection.MALFORMED, "M1 with an invalid point")
            return
        parties = Parties(message.device_id, key, self._enrolment.device_id, self._enrolment.key)
        m2 = encode(self.config.profile, Message(Kind.M2, share=own.public))
        machine = Machine(self._context.name, "server", SERVER_TABLE, S.NEW, self._context.tracer)
        machine.on(I.M1, now, "device", message.device_id.hex())
        run = ProtocolRun(parties, message.share, own.public, own, ssk)
        self._make_room(now)
        self._waiting.append(_Handshake(machine, run, data, m2, now + self.config.half_open))
        self._outbox.append(m2)

    def _handshake_of(self, m1: bytes) -> _Handshake | None:
        return next((one for one in (*self._waiting, *self._established.values()) if one.m1 == m1), None)

    def _make_room(self, now: float) -> None:
        """Let the oldest go of the device that has most: who floods in one name displaces that one."""
        if len(self._waiting) < limits.MOST_HALF_OPEN:
            return
        most, _ = Counter(one.device_id for one in self._waiting).most_common(1)[0]
        oldest = next(one for one in self._waiting if one.device_id == most)
        oldest.machine.on(I.DISPLACED, now)
        self._waiting.remove(oldest)

    def _receive_m3(self, message: Message, data: bytes, now: float) -> None:
        for one in self._established.values():
            if one.m3 == data:
                self._outbox.append(one.m4)  # it was lost: say it again
                return
        for one in self._waiting:
            assert one.run is not None
            if self._is_enrolled(one.run.parties) and self._suite.verify(Side.CLIENT, one.run, message.signature):
                self._establish(one, one.run, data, now)
                return
        self._events.reject(Rejection.UNAUTHENTIC, "M3")

    def _is_enrolled(self, parties: Parties) -> bool:
        """Return whether the device still is: it may have been struck off since its M1."""
        return self.config.devices.get(parties.device_id) == parties.device_key

    def _establish(self, one: _Handshake, run: ProtocolRun, m3: bytes, now: float) -> None:
        signature = self._suite.sign(Side.SERVER, run, self.config.identity.seed, self._context.random)
        one.m3, one.m4 = m3, encode(self.config.profile, Message(Kind.M4, signature=signature))
        one.run, one.until = None, now + self.config.half_open
        one.machine.on(I.M3, now, "device", one.device_id.hex())
        self._waiting.remove(one)
        former = self._established.get(one.device_id)
        if former is not None:
            former.machine.on(I.DISPLACED, now)
        self._established[one.device_id] = one
        keys = self._suite.keys(Side.SERVER, run)
        if self._context.key_log is not None:
            log_keys(self._context.key_log, run.parties.device_id, keys)
        tell = (
            self._events.put if self.config.profile.hardened else self._events.put_if_room
        )  # `paper` believes anybody
        tell(Established(one.device_id, keys))
        self._outbox.append(one.m4)
