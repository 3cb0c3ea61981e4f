"""One sealed message as fragments of an advertisement each, with a parity by which any one of them may be lost.

    +----+----+-------+-------+-------+----------------------
    |Ver | 13 | Round | Index | Count | Data
    +----+----+-------+-------+-------+----------------------
       4    4     8       4       4     21 bytes

Round is the low 8 bits of its number; Count of the fragments has data, and fragment number Count is the exclusive or of
all. There is no check: the radio has its own, and what is damaged or forged is not authentic.
"""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile
from bt_selfsecure.protocols.haoxiao.group import limits
from bt_selfsecure.protocols.haoxiao.limits import FRAGMENT_BYTES
from bt_selfsecure.protocols.haoxiao.suites import xor_padded

SIZE: Final = FRAGMENT_BYTES
OCTET: Final = Profile.HARDENED << 4 | Kind.GROUP_FRAGMENT


def fragments(number: int, sealed: bytes) -> list[bytes]:
    """Return the datagrams of round `number`; `sealed` has a multiple of 21 bytes, 315 at most."""
    pieces = [sealed[at : at + SIZE] for at in range(0, len(sealed), SIZE)]
    pieces.append(xor_padded(bytes(SIZE), *pieces))
    count = len(pieces) - 1
    return [bytes([OCTET, number & 255, index << 4 | count]) + piece for index, piece in enumerate(pieces)]


class Assembly:
    """Collects the fragments of one round at a member."""

    def __init__(self) -> None:
        self.heard_at = 0.0
        """Time of the newest fragment."""
        self._count = 0
        self._pieces: dict[int, bytes] = {}

    def add(self, frame: Frame, now: float) -> None:
        """Take a fragment. One that contradicts those before it, or comes long after them, begins another message."""
        index, count = frame.rand[0] >> 4, frame.rand[0] & 15
        other = count != self._count or self._pieces.get(index, frame.message) != frame.message
        if other or now - self.heard_at > limits.STALE_S:
            self._count, self._pieces = count, {}
        self._pieces[index] = frame.message
        self.heard_at = now

    @property
    def sealed(self) -> bytes | None:
        """Return the sealed message, if all fragments but one are there."""
        pieces, count = self._pieces, self._count
        missing = [index for index in range(count) if index not in pieces]
        if not pieces or len(missing) > 1 or (missing and count not in pieces):
            return None
        if missing:
            pieces = pieces | {missing[0]: xor_padded(*pieces.values())}
        return b"".join(pieces[index] for index in range(count))

    @property
    def is_begun(self) -> bool:
        """Return whether any fragment is here."""
        return bool(self._pieces)
