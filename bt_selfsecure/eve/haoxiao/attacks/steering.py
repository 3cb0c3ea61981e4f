"""Blacklist steering: the set of packets that the responder keeps shrinks to what Eve has (row 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError, Kind, decode, encode
from bt_selfsecure.sansio.context import Random

FORGED_COPIES: Final = 8
MOST_GAP: Final = 256
"""Packets forged because of one that was heard: a stranger's Seq must not make her send for ever. Whoever has missed
more of a burst when she hears of it came too late, or to its last packet, which an advertiser may say again."""


class BlacklistSteering:
    """Makes row 5's attack: for each burst packet that she missed she sends forged ones of the same Seq, before the
    burst is over.

    In `paper` the responder discards both and blacklists Seq, so S shrinks to what Eve has, and K_0 is hers without
    anybody noticing. In `hardened` what is forged is left out, and reported. Needs: a sender in
    range of the responder. Eight copies a gap, for her own packets are lost too.
    """

    def __init__(self, random: Random, copies: int = FORGED_COPIES) -> None:
        self._random: Final = random
        self._copies: Final = copies
        self._next: Final[dict[bytes, int]] = {}
        """Of each burst, by its session, the number after the last packet heard."""

    def hear(self, data: bytes) -> list[bytes]:
        """Return the forged packets for the gap that this datagram shows, if it shows one."""
        try:
            frame = decode(data)
        except FrameError:
            return []
        if frame.kind not in (Kind.RAND, Kind.RAND_COMPACT):
            return []
        following = self._next.get(frame.rand, 0 if frame.seq <= MOST_GAP else frame.seq)
        self._next[frame.rand] = max(following, frame.seq + 1)
        gap = range(max(following, frame.seq - MOST_GAP), frame.seq)
        return [forged for seq in gap for forged in self._forge(frame, seq)]

    def _forge(self, like: Frame, seq: int) -> Iterator[bytes]:
        for _ in range(self._copies):
            message = self._random(len(like.message))
            yield encode(Frame(like.profile, like.kind, 0, seq, like.rand, message))
