"""Binds the messages of one part of a burst before it is sent (`hardened`), so that a forged packet changes nothing.

The frame that opens the part carries C; after the part its list is sent, in pieces of 60 packets, each of which proves
itself and the next one:

    h_i = H(m_i)[0:4]        piece_k = h of its packets || C_{k+1}        C_k = H("btss burst list" || piece_k)

C is C_0, and the last piece has no C behind it. A listener learns 32 bits of each message by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bt_selfsecure.crypto import sha256
from bt_selfsecure.protocols.haoxiao import limits

_LABEL: Final = b"btss burst list"


def digest(message: bytes) -> bytes:
    """Return h_i of a burst packet's message; 4 bytes."""
    return sha256(message)[: limits.DIGEST_BYTES]


def list_of(messages: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """Return C (32 bytes) and the pieces of the list of a part's messages."""
    following, pieces = b"", list[bytes]()
    for start in reversed(range(0, len(messages), limits.LIST_DIGESTS)):
        piece = b"".join(map(digest, messages[start : start + limits.LIST_DIGESTS])) + following
        following = sha256(_LABEL + piece)
        pieces.insert(0, piece)
    return following, pieces


class ListReader:
    """Reads the list of one part at its receiver: takes what proves itself, and nothing else, in any order."""

    def __init__(self, commitment: bytes, first: int, count: int) -> None:
        self.digests: Final[list[bytes]] = []
        """h of the part's packets, as far as they are proved."""
        self._first, self._count, self._expected = first, count, commitment
        self._early: Final[dict[int, bytes]] = {}
        """The newest piece for each place behind those that are proved: nothing tells yet whether it is one."""

    @property
    def complete(self) -> bool:
        return len(self.digests) == self._count

    def take(self, seq: int, piece: bytes) -> bool:
        """Take the piece whose first packet is `seq`; return whether it proves more of the list, or may do so later."""
        place, rest = divmod(seq - self._first, limits.LIST_DIGESTS)
        known = len(self.digests) // limits.LIST_DIGESTS
        if rest or place < known or self.complete or len(piece) != self._size(place):
            return False
        if place == known and sha256(_LABEL + piece) != self._expected:
            return False
        self._early[place] = piece
        while (piece := self._early.pop(len(self.digests) // limits.LIST_DIGESTS, b"")) and not self.complete:
            if sha256(_LABEL + piece) == self._expected:
                self._prove(piece)
        return True

    def _size(self, place: int) -> int:
        """Return the bytes of the piece at this place; 0 where there is none."""
        left = self._count - place * limits.LIST_DIGESTS
        if left <= limits.LIST_DIGESTS:
            return max(0, left) * limits.DIGEST_BYTES
        return limits.LIST_DIGESTS * limits.DIGEST_BYTES + limits.COMMITMENT_BYTES

    def _prove(self, piece: bytes) -> None:
        end = min(self._count - len(self.digests), limits.LIST_DIGESTS) * limits.DIGEST_BYTES
        self._expected = piece[end:]
        self.digests.extend(piece[at : at + limits.DIGEST_BYTES] for at in range(0, end, limits.DIGEST_BYTES))
