"""A, which has read what B shows: it asks, and proves that it has the secret."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.codes import Carried
from bt_selfsecure.protocols.pairing.cpace import Contribution, generator, scalar_mult
from bt_selfsecure.protocols.pairing.end import (
    I,
    PairingConfig,
    PairingEnd,
    PairingInput,
    PairingState,
    S,
)
from bt_selfsecure.protocols.pairing.events import Failure
from bt_selfsecure.protocols.pairing.frames import Frame, Kind, PairingPhase, Why
from bt_selfsecure.protocols.pairing.run import PairingRun, Side
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, not_for_us, replayed

INITIATOR_TABLE: Final[Mapping[tuple[PairingState, PairingInput], PairingState]] = {
    (S.NEW, I.START): S.ASKING,
    (S.ASKING, I.SHARE_B): S.PROVING,
    (S.PROVING, I.PEER_KEYED): S.KEYED,
    (S.NEW, I.GIVEN_UP): S.OVER,
    (S.ASKING, I.GIVEN_UP): S.OVER,
    (S.PROVING, I.GIVEN_UP): S.OVER,
}
_REFUSALS: Final = {
    Why.WRONG: Failure.WRONG,
    Why.LOCKED: Failure.LOCKED,
    Why.BUSY: Failure.BUSY,
    Why.WAY: Failure.WAY,
    Why.KNOWN: Failure.KNOWN,
}


INITIATOR_FRAMES: Final[FrameTable[Kind, PairingState]] = {
    Kind.SHARE_B: FrameRow({S.ASKING}, "_receive_share", replayed("a share that is not waited for")),
    Kind.REFUSED: FrameRow({S.ASKING, S.PROVING}, "_receive_refused", not_for_us("a refusal")),
    Kind.PROGRESS: FrameRow({S.PROVING, S.KEYED, S.CONFIRMED, S.PAIRED}, "_receive_progress", not_for_us("progress")),
}


class PairingInitiator(PairingEnd):
    """Is the end that has read a code, heard a call or got three words. `start(now)` begins.

    It makes one run, of one guess, however often its frames are repeated: who answers in B's name learns whether that
    guess was hers, and no more.
    """

    side = Side.INITIATOR
    frames = INITIATOR_FRAMES

    def __init__(self, config: PairingConfig, carried: Carried, context: EndpointContext) -> None:
        super().__init__(config, INITIATOR_TABLE, S.NEW, context)
        self._carried: Final = carried
        self._number: Final = self._random(limits.RUN_BYTES)
        self._scalar = self._random(limits.SHARE_BYTES)
        share = scalar_mult(self._scalar, generator(carried.secret, carried.way.channel))
        assert share is not None, "a generator is never of low order"
        self._own: Final = config.contribution(share)
        self._pending: PairingRun | None = None

    def start(self, now: float) -> None:
        """Ask, until there is an answer. Raises `LocalError` where it was begun before."""
        self._machine.on(I.START, now)
        self._until = now + limits.ANSWER_S
        self._repeat(now)

    def _repeat(self, now: float) -> None:
        if self.state is S.ASKING:
            way, share, name = self._carried.way, self._own.share, self.config.name_octets
            self._put(Frame(Kind.SHARE_A, self._number, way, self.config.identity, share, name=name))
        elif self.state is S.PROVING and self._pending:
            self._put(Frame(Kind.TAG_A, self._number, tag=self._pending.tag(Side.INITIATOR)))
        else:
            super()._repeat(now)
        self._repeat_at = now + limits.REPEAT_S

    def _receive_share(self, frame: Frame, now: float) -> None:
        """Whoever answers a code or call in another's name is not followed; a wrong word is all that there is of it."""
        if frame.run != self._number:
            return self._events.reject(Rejection.NOT_FOR_US, "a share of another run")
        if not self._carried.admits(frame.identity, frame.share):
            return self._events.reject(Rejection.UNAUTHENTIC, "a share of another device than whose it is")
        shared = scalar_mult(self._scalar, frame.share)
        if shared is None:
            return self._events.reject(Rejection.MALFORMED, "a share of low order")
        run = PairingRun(self._number, self._own, Contribution(frame.share, frame.identity + frame.name), shared)
        if hmac.compare_digest(frame.tag, run.tag(Side.RESPONDER)):
            self._machine.on(I.SHARE_B, now)
            self._pending = run
            return self._repeat(now)
        if not self._carried.way.is_guessable:
            return self._events.reject(Rejection.UNAUTHENTIC, "share B")
        self._put(Frame(Kind.REFUSED, self._number, Why.WRONG))
        return self._end(Failure.WRONG, now)

    def _receive_refused(self, frame: Frame, now: float) -> None:
        if frame.run != self._number:
            self._events.reject(Rejection.NOT_FOR_US, "a refusal of another run")
        else:
            self._end(_REFUSALS[Why(frame.octet)], now)

    def _receive_progress(self, frame: Frame, now: float) -> None:
        if self.state is S.PROVING and self._pending and frame.run == self._number:
            if not hmac.compare_digest(
                frame.tag, self._pending.progress(Side.RESPONDER, PairingPhase(frame.octet)).tag
            ):
                return self._events.reject(Rejection.UNAUTHENTIC, "progress")
            self._keyed(self._pending, I.PEER_KEYED, now)
        return super()._receive_progress(frame, now)

    def _too_late(self, now: float) -> None:
        if self.state in (S.ASKING, S.PROVING):
            self._end(Failure.NO_ANSWER, now)
        else:
            super()._too_late(now)

    def _end(self, reason: Failure, now: float, *, silent: bool = False) -> None:
        super()._end(reason, now, silent=silent)
        self._scalar, self._pending = b"", None
