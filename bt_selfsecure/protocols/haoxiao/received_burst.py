"""Keeps the burst at its receiver: which packets make S. There is one class for each reading of row 5."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.burst_list import ListReader, digest
from bt_selfsecure.sansio.value import value


@value
class Taken:
    """Tells what became of one burst packet."""

    new: bool
    """It was not there before, and it may be in S."""
    contradicts: bool = False
    """Another packet of its Seq, or the list, says otherwise: somebody forges."""


_NEW, _AGAIN = Taken(True), Taken(False)
_FORGED, _RIVAL = Taken(False, True), Taken(True, True)


class BlacklistedBurst:
    """Drops both of two packets of one Seq (`paper`)."""

    def __init__(self) -> None:
        self.kept: Final[dict[int, bytes]] = {}
        """m[.] by s[.]"""
        self._blacklist: Final[set[int]] = set()

    def knows(self, seq: int) -> bool:
        return seq in self.kept or seq in self._blacklist

    def add(self, seq: int, message: bytes) -> Taken:
        if not self.knows(seq):
            self.kept[seq] = message
            return _NEW
        known = self.kept.pop(seq, message)
        self._blacklist.add(seq)
        return _AGAIN if known == message else _FORGED


class CommittedBurst:
    """Keeps of each Seq that packet which the part's list names (`hardened`). Until the list is there a few differing
    copies of one Seq wait. Two fit only if somebody computes 2^32 hashes between list and response: then none
    counts."""

    def __init__(self) -> None:
        self.kept: Final[dict[int, bytes]] = {}
        """m[.] by s[.]: what the lists name."""
        self._digests: Final[list[bytes]] = []
        """Of the packets of all parts so far, as far as their lists are proved."""
        self._copies: Final[dict[int, list[bytes]]] = {}
        """Of packets whose digest is not known yet."""
        self._torn: Final[set[int]] = set()
        """Seq of which two packets fit."""
        self._list: ListReader | None = None

    def begin(self, commitment: bytes, first: int, count: int) -> None:
        """Begin a part, whose list this is the commitment to (C, 32 bytes)."""
        self._list = ListReader(commitment, first, count)

    @property
    def is_proved(self) -> bool:
        """Return whether the list of the newest part is there."""
        return self._list is not None and self._list.complete

    def __len__(self) -> int:
        """Return how many packets there are, the unproved ones included."""
        return len(self.kept) + len(self._copies)

    def add(self, seq: int, message: bytes) -> Taken:
        if seq < len(self._digests):
            return self._prove(seq, message)
        copies = self._copies.setdefault(seq, [])
        if message in copies:
            return _AGAIN
        if len(copies) >= limits.MAX_COPIES:
            return _FORGED
        copies.append(message)
        return _RIVAL if len(copies) > 1 else _NEW

    def add_list(self, seq: int, piece: bytes) -> bool:
        """Take a piece of the newest part's list; return whether it can be one."""
        part = self._list
        if part is None:
            return False
        known = len(part.digests)
        taken = part.take(seq, piece)
        for proved in part.digests[known:]:
            self._digests.append(proved)
            for message in self._copies.pop(len(self._digests) - 1, ()):
                self._prove(len(self._digests) - 1, message)
        return taken

    def _prove(self, seq: int, message: bytes) -> Taken:
        known = self.kept.get(seq)
        if known == message:
            return _AGAIN
        if digest(message) != self._digests[seq] or seq in self._torn:
            return _FORGED
        if known is not None:
            del self.kept[seq]
            self._torn.add(seq)
            return _FORGED
        self.kept[seq] = message
        return _NEW
