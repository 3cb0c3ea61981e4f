"""Pairs in the place of one of the two, with a secret that she has seen, heard or guessed."""

from __future__ import annotations

import hmac
from typing import Final

from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.codes import Way
from bt_selfsecure.protocols.pairing.cpace import Contribution, generator, scalar_mult
from bt_selfsecure.protocols.pairing.frames import Frame, FrameError, Kind, PairingPhase, decode, encode
from bt_selfsecure.protocols.pairing.run import PairingRun, Side
from bt_selfsecure.sansio.context import Random


class InPlaceOfA:
    """Asks B as if she were A. `begin` gives her question; `key` is what she has with B, if she has it."""

    def __init__(self, way: Way, secret: bytes, identity: bytes, random: Random) -> None:
        self._scalar: Final = random(limits.SHARE_BYTES)
        self._number: Final = random(limits.RUN_BYTES)
        share = scalar_mult(self._scalar, generator(secret, way.channel))
        assert share is not None
        self._way, self._identity = way, identity
        self._own: Final = Contribution(share, identity)
        self._run: PairingRun | None = None
        self.key = b""

    def begin(self) -> list[bytes]:
        """Return her question."""
        return [encode(Frame(Kind.SHARE_A, self._number, self._way, self._identity, self._own.share))]

    def hear(self, data: bytes) -> list[bytes]:
        """Return what she says to a frame of B's."""
        try:
            frame = decode(data)
        except FrameError:
            return []
        if frame.run != self._number:
            return []
        if frame.kind is Kind.SHARE_B and (shared := scalar_mult(self._scalar, frame.share)) is not None:
            run = PairingRun(self._number, self._own, Contribution(frame.share, frame.identity + frame.name), shared)
            if hmac.compare_digest(frame.tag, run.tag(Side.RESPONDER)):
                self._run = run
                return [encode(Frame(Kind.TAG_A, self._number, tag=run.tag(Side.INITIATOR)))]
        if frame.kind is Kind.PROGRESS and self._run and frame.octet == PairingPhase.KEYED:
            self.key = self._run.key
            return [encode(self._run.progress(Side.INITIATOR, PairingPhase.CONFIRMED))]
        return []


class InPlaceOfB:
    """Answers A as if she were B. `key` is what she has with A, if she has it."""

    def __init__(self, way: Way, secret: bytes, identity: bytes, random: Random) -> None:
        self._scalar: Final = random(limits.SHARE_BYTES)
        share = scalar_mult(self._scalar, generator(secret, way.channel))
        assert share is not None
        self._identity: Final = identity
        self._own: Final = Contribution(share, identity)
        self._run: PairingRun | None = None
        self.key = b""

    def hear(self, data: bytes) -> list[bytes]:
        """Return what she says to a frame of A's."""
        try:
            frame = decode(data)
        except FrameError:
            return []
        if frame.kind is Kind.SHARE_A and (shared := scalar_mult(self._scalar, frame.share)) is not None:
            asked = Contribution(frame.share, frame.identity + frame.name)
            self._run = run = PairingRun(frame.run, asked, self._own, shared)
            tag = run.tag(Side.RESPONDER)
            return [encode(Frame(Kind.SHARE_B, frame.run, 0, self._identity, self._own.share, tag))]
        if self._run is None or frame.run != self._run.number:
            return []
        if frame.kind is Kind.TAG_A and hmac.compare_digest(frame.tag, self._run.tag(Side.INITIATOR)):
            self.key = self._run.key
            phases = (PairingPhase.KEYED, PairingPhase.CONFIRMED)
            return [encode(self._run.progress(Side.RESPONDER, phase)) for phase in phases]
        return []
