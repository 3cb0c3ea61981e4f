"""B, which shows something: it answers whoever asks, and takes the first that proves to have read it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.codes import Carried, Way, commitment
from bt_selfsecure.protocols.pairing.cpace import Contribution, generator, scalar_mult
from bt_selfsecure.protocols.pairing.end import (
    WITHDRAWALS,
    I,
    PairingConfig,
    PairingEnd,
    PairingInput,
    PairingState,
    S,
)
from bt_selfsecure.protocols.pairing.events import Released, WrongGuess
from bt_selfsecure.protocols.pairing.frames import Frame, Kind, PairingPhase, Why
from bt_selfsecure.protocols.pairing.run import PairingRun, Side
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import earliest
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, not_for_us, replayed

RESPONDER_TABLE: Final[Mapping[tuple[PairingState, PairingInput], PairingState]] = {
    (S.WAITING, I.TAG_A): S.KEYED,
    (S.WAITING, I.LOCK): S.LOCKED,
    (S.KEYED, I.RELEASED): S.WAITING,
    (S.CONFIRMED, I.RELEASED): S.WAITING,
    (S.WAITING, I.GIVEN_UP): S.OVER,
    (S.LOCKED, I.GIVEN_UP): S.OVER,
}


RESPONDER_FRAMES: Final[FrameTable[Kind, PairingState]] = {
    Kind.SHARE_A: FrameRow(
        {S.WAITING, S.LOCKED, S.KEYED, S.CONFIRMED, S.PAIRED}, "_receive_share", replayed("a question")
    ),
    Kind.TAG_A: FrameRow(
        {S.WAITING, S.KEYED, S.CONFIRMED, S.PAIRED}, "_receive_tag", not_for_us("a proof that is not waited for")
    ),
    Kind.REFUSED: FrameRow({S.WAITING}, "_receive_refused", not_for_us("a refusal")),
    Kind.PROGRESS: FrameRow({S.KEYED, S.CONFIRMED, S.PAIRED}, "_receive_progress", not_for_us("progress")),
}


class _OpenRun:
    """One that has not been proved: the answer to it, and until when it may be."""

    def __init__(self, run: PairingRun, answer: Frame, until: float) -> None:
        self.run, self.answer, self.until = run, answer, until


class PairingResponder(PairingEnd):
    """Is the end that shows a code, makes a call or shows three words, from its making on.

    Its tag tells whoever asks whether her guess was right. So a run counts as a wrong guess from the answer on, until
    the initiator proves itself; after five, the words are worth nothing any more. A repeated question is answered as
    before, and is no other guess.
    """

    side = Side.RESPONDER
    frames = RESPONDER_FRAMES

    def __init__(self, config: PairingConfig, way: Way, secret: bytes, context: EndpointContext) -> None:
        """`secret` is drawn by `codes.drawn_secret`, or is three words."""
        super().__init__(config, RESPONDER_TABLE, S.WAITING, context)
        self._generator: Final = generator(secret, way.channel)
        self._open: dict[bytes, _OpenRun] = {}
        self._guesses = 0
        self._scalar = self._random(limits.SHARE_BYTES) if way is Way.CODE else b""
        """Of a code, which commits to one share."""
        made = commitment(config.identity, secret, self._share(self._scalar)) if way is Way.CODE else b""
        self.carried: Final = Carried(way, config.identity, secret, made)
        """What is to be carried to the other end."""

    def _share(self, scalar: bytes) -> bytes:
        share = scalar_mult(scalar, self._generator)
        assert share is not None, "a generator is never of low order"
        return share

    def get_timer(self) -> float | None:
        expiry = min((one.until for one in self._open.values()), default=None)
        return earliest(super().get_timer(), expiry)

    def handle_timer(self, now: float) -> None:
        for number, one in list(self._open.items()):
            if now >= one.until:
                self._guessed_wrong(number, now)
        super().handle_timer(now)

    # --- the frames ---------------------------------------------------------------------------------------------------

    def _receive_share(self, frame: Frame, now: float) -> None:
        if self._run is not None:
            if frame.run != self._run.number:
                self._put(Frame(Kind.REFUSED, frame.run, Why.BUSY))
            return
        if self.state is S.LOCKED:
            self._put(Frame(Kind.REFUSED, frame.run, Why.LOCKED))
        elif frame.octet != self.carried.way:
            self._put(Frame(Kind.REFUSED, frame.run, Why.WAY))
        elif frame.identity == self.config.identity:
            self._events.reject(Rejection.IMPLAUSIBLE, "a question in this end's own name")
        elif known := self._open.get(frame.run):
            self._answer_again(known, frame)
        else:
            self._answer(frame, now)

    def _answer_again(self, known: _OpenRun, frame: Frame) -> None:
        if known.run.initiator == Contribution(frame.share, frame.identity + frame.name):
            self._put(known.answer)
        else:
            self._events.reject(Rejection.IMPLAUSIBLE, "another question under the number of one")

    def _answer(self, frame: Frame, now: float) -> None:
        way = self.carried.way
        scalar = self._scalar or self._random(limits.SHARE_BYTES)
        shared = scalar_mult(scalar, frame.share)
        if shared is None:
            return self._events.reject(Rejection.MALFORMED, "a share of low order")
        if way.is_guessable:
            if self._guesses == limits.MOST_GUESSES:  # of which some are open
                return self._put(Frame(Kind.REFUSED, frame.run, Why.LOCKED))
            self._guesses += 1
        elif len(self._open) == limits.MOST_RUNS:
            del self._open[next(iter(self._open))]
        own = self.config.contribution(self._share(scalar))
        run = PairingRun(frame.run, Contribution(frame.share, frame.identity + frame.name), own, shared)
        name, tag = self.config.name_octets, run.tag(Side.RESPONDER)
        answer = Frame(Kind.SHARE_B, frame.run, 0, self.config.identity, own.share, tag, name)
        self._open[frame.run] = _OpenRun(run, answer, now + limits.RUN_S)
        return self._put(answer)

    def _receive_tag(self, frame: Frame, now: float) -> None:
        if self._run is not None:
            if frame.run == self._run.number:  # its answer was lost
                self._say(PairingPhase.KEYED)
            return
        one = self._open.get(frame.run)
        if one is None:
            self._events.reject(Rejection.NOT_FOR_US, "a proof of no run that is open")
        elif hmac.compare_digest(frame.tag, one.run.tag(Side.INITIATOR)):
            self._guesses -= self.carried.way.is_guessable
            del self._open[frame.run]
            self._keyed(one.run, I.TAG_A, now)
            self._say(PairingPhase.KEYED)
        else:
            self._put(Frame(Kind.REFUSED, frame.run, Why.WRONG))
            self._guessed_wrong(frame.run, now)

    def _receive_refused(self, frame: Frame, now: float) -> None:
        """The initiator has seen that its words are wrong."""
        if frame.run in self._open and frame.octet == Why.WRONG:
            self._guessed_wrong(frame.run, now)
        else:
            self._events.reject(Rejection.NOT_FOR_US, "a refusal of no run that is open")

    def _guessed_wrong(self, number: bytes, now: float) -> None:
        """A run will not be proved any more."""
        del self._open[number]
        if not self.carried.way.is_guessable or self.state is not S.WAITING:
            return
        left = limits.MOST_GUESSES - self._guesses + len(self._open)
        self._events.put(WrongGuess(left))
        if left == 0:
            self._machine.on(I.LOCK, now)

    def _withdrawn(self, now: float) -> None:
        if self.state is S.PAIRED:
            super()._withdrawn(now)
            return
        self._machine.on(I.RELEASED, now)
        self._run = self._repeat_at = self._until = None
        self._events.put(Released())

    def release(self, now: float) -> None:
        """Give up the device that has the key, and tell it so; what is shown still holds for another. Raises
        `LocalError` where none has it, or it is paired."""
        self._say(PairingPhase.WITHDRAWN, WITHDRAWALS)
        self._withdrawn(now)

    def _too_late(self, now: float) -> None:
        """Nobody is waited for any longer than people are patient."""
        if self.state is S.PAIRED:
            super()._too_late(now)
        else:
            self.release(now)
