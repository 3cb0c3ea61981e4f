"""One run of CPace, and the keys that follow from it: for both ends, and for an Eve who has the secret."""

from __future__ import annotations

import enum
from typing import Final

from bt_selfsecure.crypto import hkdf_expand, hkdf_extract, hmac_sha256
from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.cpace import Contribution, confirmation_tag, intermediate_key
from bt_selfsecure.protocols.pairing.frames import Frame, Kind, PairingPhase


class Side(enum.IntEnum):
    """Says whose word a frame is."""

    INITIATOR = 0
    RESPONDER = 1


class PairingRun:
    """Holds one run of CPace: its number, what both ends contributed, and what follows from it."""

    def __init__(self, number: bytes, initiator: Contribution, responder: Contribution, shared: bytes) -> None:
        self.number, self.initiator, self.responder = number, initiator, responder
        self._isk: Final = intermediate_key(shared, initiator, responder)
        self._prk: Final = hkdf_extract(b"btss pairing", self._isk)

    def tag(self, side: Side) -> bytes:
        """Return the tag by which that end shows that it has the key; 16 bytes."""
        of = self.initiator if side is Side.INITIATOR else self.responder
        return confirmation_tag(self._isk, of)[: limits.TAG_BYTES]

    def progress(self, side: Side, phase: PairingPhase) -> Frame:
        """Return the frame by which that end says how far it is."""
        tag = hmac_sha256(hkdf_expand(self._prk, b"progress"), bytes([side, phase]))[: limits.TAG_BYTES]
        return Frame(Kind.PROGRESS, self.number, phase, tag=tag)

    @property
    def key(self) -> bytes:
        """Return the authentication key of the two, 32 bytes."""
        return hkdf_expand(self._prk, b"authentication key", limits.KEY_BYTES)
