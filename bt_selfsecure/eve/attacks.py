"""What Eve tries, one class an attack: in goes what her tap heard, out comes what she sends, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bt_selfsecure.core.frames import Frame, FrameError, Kind, decode, encode
from bt_selfsecure.core.keychain import Chain
from bt_selfsecure.core.suites import Attempt, NotAuthentic, Random

FORGED_COPIES: Final = 8


class BlacklistSteering:
    """Row 5: for each burst packet that she missed she sends forged ones of the same Seq, before the burst is over.

    In `paper` the responder discards both and blacklists Seq, so S shrinks to what Eve has, and K_0 is hers without
    anybody noticing. In `hardened` contradicting packets end the establishment and are reported. Needs: a sender in
    range of the responder. Eight copies a gap, for her own packets are lost too.
    """

    def __init__(self, random: Random, copies: int = FORGED_COPIES) -> None:
        self._random: Final = random
        self._copies: Final = copies
        self._next = 0

    def hear(self, data: bytes) -> list[bytes]:
        """The forged packets for the gap that this datagram shows, if it shows one."""
        try:
            frame = decode(data)
        except FrameError:
            return []
        if frame.kind not in (Kind.RAND, Kind.RAND_COMPACT):
            return []
        gap = range(self._next, frame.seq)
        self._next = max(self._next, frame.seq + 1)
        return [forged for seq in gap for forged in self._forge(frame, seq)]

    def _forge(self, like: Frame, seq: int) -> Iterator[bytes]:
        for _ in range(self._copies):
            message = self._random(len(like.message))
            yield encode(Frame(like.profile, like.kind, 0, seq, like.rand, message))


class StolenKey:
    """Eve holds K_i of one direction and follows the rolling key for as long as she hears the accepted attempts.

    Passive: she opens each `data` frame under the keys that she holds; which attempt the receiver accepted she finds by
    trying. Once she misses an accepted (message, Rand) she never opens a frame again,
    except after a resynchronisation from a checkpoint key, which K_i is only where it lies on one.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain: Chain = chain
        self._heard: list[tuple[Attempt, bytes]] = []
        self.read: dict[int, bytes] = {}
        """Messages that she read, by Seq."""

    @property
    def seq(self) -> int:
        """The newest round whose key she holds."""
        return self._chain.seq

    def may_hold(self, key: bytes) -> bool:
        """Whether this is the last key that opened a frame for her, or follows from an attempt that she heard."""
        following = (self._chain.rolled(attempt, message).key for attempt, message in self._heard)
        return key == self._chain.key or key in following

    def hear(self, frame: Frame) -> bool:
        """A frame from her tap; whether it was data that she could open."""
        if frame.kind is not Kind.DATA:
            return False
        opened = self._open(self._chain, frame)
        if opened is not None:
            self._heard.append(opened)
            return True
        for attempt, message in self._heard:
            following = self._chain.rolled(attempt, message)
            opened = self._open(following, frame)
            if opened is not None:
                self._chain, self._heard = following, [opened]
                return True
        return False

    def _open(self, chain: Chain, frame: Frame) -> tuple[Attempt, bytes] | None:
        try:
            message, attempt = chain.open(frame)
        except NotAuthentic:
            return None
        self.read[chain.seq] = message
        return attempt, message
