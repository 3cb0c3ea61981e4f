"""Burst packets of somebody else's, to keep a key from coming about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError, Kind, decode, encode
from bt_selfsecure.sansio.context import Random


class Forgery:
    """Sends packets of these Seq as soon as it hears an accept, which is before the burst begins."""

    def __init__(self, random: Random, seqs: Iterable[int], copies: int, *, compact: bool = False) -> None:
        self._random, self._copies, self._compact = random, copies, compact
        self._seqs: Final = tuple(seqs)
        self._answered: Final[set[bytes]] = set()

    def hear(self, data: bytes) -> list[bytes]:
        """Take a datagram; return what she sends."""
        try:
            frame = decode(data)
        except FrameError:
            return []
        session = frame.message[: limits.SESSION_ID_BYTES]
        if frame.kind is not Kind.ACCEPT or session in self._answered:
            return []
        self._answered.add(session)
        kind, size, rand = Kind.RAND, limits.BURST_MESSAGE_BYTES, session
        if self._compact:
            kind, size, rand = Kind.RAND_COMPACT, limits.COMPACT_MESSAGE_BYTES, session[: limits.SESSION_TAG_BYTES]
        return [
            encode(Frame(frame.profile, kind, 0, seq, rand, self._random(size)))
            for seq in self._seqs
            for _ in range(self._copies)
        ]
