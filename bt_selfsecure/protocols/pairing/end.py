"""What both ends of a pairing have: their states, the key, and how they come to an end together.

With the key an end is KEYED. Its driver then agrees on a session's key under it, and, where the secret was overheard,
lets people compare; `confirm` says that all is well here. An end is paired once it has said so and has heard it of the
other. One that gives up says that too, and takes the other end with it, even where that is paired already. So both are
paired or neither is, unless every frame is lost from the last one on, for as long as an end lingers.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.cpace import Contribution
from bt_selfsecure.protocols.pairing.events import Event, Failure, Keyed, Paired, PairingFailed
from bt_selfsecure.protocols.pairing.frames import Frame, FrameError, Kind, PairingPhase, decode, encode
from bt_selfsecure.protocols.pairing.run import PairingRun, Side
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameTable, dispatch
from bt_selfsecure.sansio.trace import Machine, MachineEnum, key_log_line

MOST_EVENTS: Final = 64
WITHDRAWALS: Final = 3
"""It may get lost like anything, so it is sent as often."""


class PairingState(MachineEnum):
    NEW = enum.auto()
    ASKING = enum.auto()  # share A is out
    PROVING = enum.auto()  # tag A is out
    WAITING = enum.auto()  # something is shown
    LOCKED = enum.auto()
    KEYED = enum.auto()
    CONFIRMED = enum.auto()  # here; the other end's word is waited for
    PAIRED = enum.auto()
    OVER = enum.auto()


class PairingInput(MachineEnum):
    START = enum.auto()
    SHARE_B = enum.auto()
    TAG_A = enum.auto()
    PEER_KEYED = enum.auto()
    CONFIRM = enum.auto()
    PEER_CONFIRMED = enum.auto()
    RELEASED = enum.auto()
    LOCK = enum.auto()
    GIVEN_UP = enum.auto()


S, I = PairingState, PairingInput
COMMON_TABLE: Final[Mapping[tuple[PairingState, PairingInput], PairingState]] = {
    (S.KEYED, I.CONFIRM): S.CONFIRMED,
    (S.CONFIRMED, I.PEER_CONFIRMED): S.PAIRED,
    (S.KEYED, I.GIVEN_UP): S.OVER,
    (S.CONFIRMED, I.GIVEN_UP): S.OVER,
    (S.PAIRED, I.GIVEN_UP): S.OVER,
}
_WITH_KEY: Final = frozenset({S.KEYED, S.CONFIRMED, S.PAIRED})


@dataclass(frozen=True, slots=True)
class PairingConfig:
    """Says who an end is."""

    identity: bytes
    """Device address, 6 bytes."""
    name: str = ""
    """What the other end is told; what is above 64 bytes is cut off."""
    patience: float = limits.PATIENCE_S
    """Seconds from the key to the word of both ends."""

    def contribution(self, share: bytes) -> Contribution:
        """Return the share with what it is bound to: identity and name."""
        return Contribution(share, self.identity + self.name_octets)

    @property
    def name_octets(self) -> bytes:
        return self.name.encode()[: limits.NAME_BYTES]


class PairingEnd:
    """Is what both ends have in common. Drive it by the verbs of `Endpoint`, and by `confirm` and `close`."""

    side: ClassVar[Side]
    frames: ClassVar[FrameTable[Kind, PairingState]]

    def __init__(
        self,
        config: PairingConfig,
        table: Mapping[tuple[PairingState, PairingInput], PairingState],
        start: PairingState,
        context: EndpointContext,
    ) -> None:
        self.config: Final = config
        self._random: Final = context.random
        self._key_log: Final = context.key_log
        name = self.side.name.lower()
        self._machine: Final = Machine[PairingState, PairingInput](
            context.name, f"pairing {name}", {**COMMON_TABLE, **table}, start, context.tracer
        )
        self._events: Final = EventQueue[Event](MOST_EVENTS)
        self._outbox: list[bytes] = []
        self._run: PairingRun | None = None
        """With the key."""
        self._peer_confirmed = False
        self._repeat_at: float | None = None
        self._until: float | None = None
        """When it is given up; once paired, when nothing is answered any more."""

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PairingState:
        return self._machine.state

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def next_event(self) -> Event | None:
        return self._events.take()

    def frames_to_send(self, now: float) -> list[bytes]:
        out, self._outbox = self._outbox, []
        return out

    def receive_frame(self, data: bytes, now: float) -> None:
        try:
            frame = decode(data)
        except FrameError:
            self._events.reject(Rejection.MALFORMED)
            return
        dispatch(self.frames.get(frame.kind), self, frame, now, self._events)

    def get_timer(self) -> float | None:
        return min((at for at in (self._repeat_at, self._until) if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        if self._until is not None and now >= self._until:
            self._too_late(now)
        elif self._repeat_at is not None and now >= self._repeat_at:
            self._repeat(now)

    def confirm(self, now: float) -> None:
        """Say that all is well here: a session's key was agreed on, and people have compared where they must. Raises
        `LocalError` where there is no key."""
        self._machine.on(I.CONFIRM, now)
        self._repeat(now)
        self._settle(now)

    def close(self, now: float, reason: Failure = Failure.CLOSED) -> None:
        """Give up, and tell the other end where it has the key. What is paired stays so, and is answered no more."""
        if self._machine.can(I.GIVEN_UP):
            was_paired = self.state is S.PAIRED
            if not was_paired:
                self._say(PairingPhase.WITHDRAWN, WITHDRAWALS)
            self._end(reason, now, silent=was_paired)

    def undo(self, now: float) -> None:
        """Take back that all is well here, even where it is paired: what comes of it could not be kept."""
        self._say(PairingPhase.WITHDRAWN, WITHDRAWALS)
        self._end(Failure.CLOSED, now)

    # --- with the key -------------------------------------------------------------------------------------------------

    def _keyed(self, run: PairingRun, given: PairingInput, now: float) -> None:
        peer = run.responder if self.side is Side.INITIATOR else run.initiator
        identity, name = peer.data[: limits.IDENTITY_BYTES], peer.data[limits.IDENTITY_BYTES :]
        self._machine.on(given, now, "peer", identity.hex())
        self._run, self._peer_confirmed = run, False
        self._repeat_at, self._until = None, now + self.config.patience
        if self._key_log is not None:
            self._key_log(key_log_line("PAIRING", run.number, run.key))
        self._events.put(Keyed(identity, name.decode(errors="replace"), run.key))

    def _receive_progress(self, frame: Frame, now: float) -> None:
        run, phase = self._run, PairingPhase(frame.octet)
        other = Side(1 - self.side)
        if run is None or frame.run != run.number:
            self._events.reject(Rejection.NOT_FOR_US, "progress of another run")
        elif not hmac.compare_digest(frame.tag, run.progress(other, phase).tag):
            self._events.reject(Rejection.UNAUTHENTIC, "progress")
        elif phase is PairingPhase.WITHDRAWN:
            self._withdrawn(now)
        elif phase is not PairingPhase.KEYED:
            self._peer_confirmed = True
            if self.state is S.PAIRED and phase is PairingPhase.CONFIRMED:
                self._say(PairingPhase.DONE)
            self._settle(now)

    def _settle(self, now: float) -> None:
        if self._peer_confirmed and self.state is S.CONFIRMED:
            self._machine.on(I.PEER_CONFIRMED, now)
            self._repeat_at, self._until = None, now + limits.LINGER_S
            self._say(PairingPhase.DONE)
            self._events.put(Paired())

    def _withdrawn(self, now: float) -> None:
        self._end(Failure.WITHDRAWN, now)

    def _repeat(self, now: float) -> None:
        """Send again what waits for an answer."""
        self._say(PairingPhase.CONFIRMED)
        self._repeat_at = now + limits.REPEAT_S

    def _too_late(self, now: float) -> None:
        if self.state is S.PAIRED:
            self._end(Failure.CLOSED, now, silent=True)
        else:
            self.close(now, Failure.NO_CONFIRMATION)

    def _say(self, phase: PairingPhase, times: int = 1) -> None:
        if self._run is not None and self.state in _WITH_KEY:
            self._put(*[self._run.progress(self.side, phase)] * times)

    def _put(self, *frames: Frame) -> None:
        """What was to be sent and was not taken is old, but for a few."""
        self._outbox = [*self._outbox, *map(encode, frames)][-limits.MOST_RUNS :]

    def _end(self, reason: Failure, now: float, *, silent: bool = False) -> None:
        self._machine.on(I.GIVEN_UP, now, "reason", reason.name)
        self._run = self._repeat_at = self._until = None
        if not silent:
            self._events.put(PairingFailed(reason))
