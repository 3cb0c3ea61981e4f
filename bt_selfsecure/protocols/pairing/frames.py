"""The wire of pairing, key-free: bytes to a `Frame`, a `Frame` to bytes. The initiator is A, who has read a code; B
shows it.

    share A    octet | run 8 | way 1 | identity 6 | share 32 | name of A, 0 to 64 bytes
    share B    octet | run 8 | identity 6 | share 32 | tag 16 | name of B, 0 to 64 bytes
    tag A      octet | run 8 | tag 16
    refused    octet | run 8 | why 1
    progress   octet | run 8 | phase 1 | tag 16

The octet's high half is the version 15, which no session has; the low half is the kind. A draws the run's number.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from bt_selfsecure.errors import LocalError, PeerError
from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.codes import Way
from bt_selfsecure.sansio.value import value

VERSION: Final = 15


class Kind(enum.IntEnum):
    """Says what a frame is."""

    SHARE_A = 0
    SHARE_B = 1
    TAG_A = 2
    REFUSED = 3
    PROGRESS = 4


class Why(enum.IntEnum):
    """Says why one end refuses the other. Nothing proves who says so."""

    WRONG = 1
    """The secret is another one."""
    LOCKED = 2
    """There were too many wrong guesses."""
    BUSY = 3
    """Another device has proved itself already."""
    WAY = 4
    """Something else is shown here."""
    KNOWN = 5
    """It is a peer already."""


class PairingPhase(enum.IntEnum):
    """Says how far an end is that has the key."""

    WITHDRAWN = 0
    KEYED = 1
    CONFIRMED = 2
    DONE = 3
    """Confirmed, and it knows that the other end is, too."""


class FrameError(PeerError):
    """The bytes are no frame of pairing. The only exception that `decode` raises."""


@value
class Frame:
    """Holds one frame. Fields that a kind does not have are empty."""

    kind: Kind
    run: bytes
    octet: int = 0
    """`Way`, `Why` or `PairingPhase`."""
    identity: bytes = b""
    share: bytes = b""
    tag: bytes = b""
    name: bytes = b""


class _Form(NamedTuple):
    octet: int
    identity: int
    share: int
    tag: int
    name: int

    @property
    def least(self) -> int:
        return 1 + limits.RUN_BYTES + self.octet + self.identity + self.share + self.tag


_FORMS: Final = {
    Kind.SHARE_A: _Form(1, limits.IDENTITY_BYTES, limits.SHARE_BYTES, 0, limits.NAME_BYTES),
    Kind.SHARE_B: _Form(0, limits.IDENTITY_BYTES, limits.SHARE_BYTES, limits.TAG_BYTES, limits.NAME_BYTES),
    Kind.TAG_A: _Form(0, 0, 0, limits.TAG_BYTES, 0),
    Kind.REFUSED: _Form(1, 0, 0, 0, 0),
    Kind.PROGRESS: _Form(1, 0, 0, limits.TAG_BYTES, 0),
}
_OCTETS: Final[dict[Kind, type[enum.IntEnum]]] = {Kind.SHARE_A: Way, Kind.REFUSED: Why, Kind.PROGRESS: PairingPhase}


def is_pairing(data: bytes) -> bool:
    """Return whether a datagram is one of pairing, well-formed or not."""
    return bool(data) and data[0] >> 4 == VERSION


def encode(frame: Frame) -> bytes:
    """Return the frame as one datagram. Raises `LocalError` where a field has another size than the wire."""
    form = _FORMS[frame.kind]
    sizes = (len(frame.run), len(frame.identity), len(frame.share), len(frame.tag))
    if sizes != (limits.RUN_BYTES, form.identity, form.share, form.tag) or len(frame.name) > form.name:
        raise LocalError(f"{frame.kind.name}: a field has another size than on the wire")
    octet = bytes([frame.octet])[: form.octet]
    head = bytes([VERSION << 4 | frame.kind])
    return head + frame.run + octet + frame.identity + frame.share + frame.tag + frame.name


def decode(data: bytes) -> Frame:
    """Return the frame that these bytes are. Total: raises `FrameError` for what is none, and nothing else."""
    form = _FORMS.get(Kind(data[0] & 15)) if is_pairing(data) and data[0] & 15 in set(Kind) else None
    if form is None or not form.least <= len(data) <= form.least + form.name:
        raise FrameError("not a frame of pairing")
    kind, rest = Kind(data[0] & 15), data[1:]
    parts = []
    for size in (limits.RUN_BYTES, form.octet, form.identity, form.share, form.tag):
        parts.append(rest[:size])
        rest = rest[size:]
    run, octet, identity, share, tag = parts
    number = octet[0] if octet else 0
    if kind in _OCTETS and number not in set(_OCTETS[kind]):
        raise FrameError("not a frame of pairing that is known here")
    return Frame(kind, run, number, identity, share, tag, rest)
