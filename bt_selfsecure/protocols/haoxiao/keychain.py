"""The chain of round keys of one direction: K_i, its parts, how it rolls, and the checkpoints it can be resumed from.

Rolling gives a new chain, so an endpoint commits by assignment, after it has authenticated. The session's two ends hold
one chain a direction each; Eve, with a stolen K_i, drives the same object.
"""

from __future__ import annotations

from dataclasses import field
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, decode
from bt_selfsecure.protocols.haoxiao.suites import Attempt, NotAuthentic, Suite
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.value import value

CHECKPOINT_ID_BYTES: Final = 8


def require_k0(k0: bytes) -> bytes:
    """Return `k0` if it can be a K_0; else raise `UsageError`."""
    if len(k0) != limits.KEY_BYTES:
        raise UsageError(f"K_0 has {limits.KEY_BYTES} bytes, this has {len(k0)}: give `k0` of Established as it is")
    return k0


@value
class Chain:
    """Holds the keys of one direction at round `seq`. Its repr shows no key."""

    suite: Suite = field(repr=False)
    key: bytes = field(repr=False)
    """K_i, 32 bytes."""
    seq: int
    """i, the number of the next round."""
    checkpoint_rounds: int
    """W: rounds from one checkpoint to the next."""
    alpha: int = 0
    """Rounds since the newest checkpoint: the paper's communication times parameter."""
    checkpoints: tuple[bytes, ...] = field(default=(), repr=False)
    """The last two W-round keys K_{(j-1)W}, K_{jW}; the newest last."""

    @classmethod
    def start(cls, suite: Suite, k0: bytes, label: bytes, checkpoint_rounds: int, seq: int = 0) -> Chain:
        """Return the chain of one direction at K_0, which is its first checkpoint."""
        key = suite.chain_key(require_k0(k0), label)
        return cls(suite, key, seq, checkpoint_rounds, 0, (key,))

    @property
    def at_checkpoint(self) -> bool:
        """Return whether K_i is itself the newest checkpoint: the moment to put it on disk."""
        return self.alpha == 0

    def seal(self, message: bytes, retran: int, random: Random) -> tuple[Frame, Attempt]:
        """Return one attempt at this round's message: the frame, and what its sender keeps until the round ends."""
        data, attempt = self.suite.seal(self.key, self.seq, retran, self.alpha, message, random)
        return decode(data), attempt

    def open(self, frame: Frame) -> tuple[bytes, Attempt]:
        """Return message and attempt, if the frame belongs to this round. Raises `NotAuthentic`, and nothing else."""
        if frame.seq != self.seq & 255:
            raise NotAuthentic
        return self.suite.open(self.key, self.seq, frame)

    def rolled(self, attempt: Attempt, message: bytes) -> Chain:
        """Return the chain at the next round, [14] and [15]; every W rounds the new key is a checkpoint."""
        key = self.suite.roll(self.key, attempt, message)
        alpha = self.alpha + 1
        checkpoints = self.checkpoints
        if alpha == self.checkpoint_rounds:
            alpha, checkpoints = 0, (*checkpoints[-1:], key)
        return Chain(self.suite, key, self.seq + 1, self.checkpoint_rounds, alpha, checkpoints)

    def resumed(self, checkpoint: bytes, nonces: bytes, seq: int) -> Chain:
        """Return the chain after a resynchronisation from a common checkpoint, which stays one until the next."""
        key = self.suite.resync_key(checkpoint, nonces + seq.to_bytes(8))
        return Chain(self.suite, key, seq, self.checkpoint_rounds, 0, (checkpoint, key))

    def rounds_since(self, key: bytes) -> int:
        """Return how many rounds ago this checkpoint was K_i, at most; 0 for what is none."""
        if key not in self.checkpoints:
            return 0
        return self.alpha if key == self.checkpoints[-1] else self.alpha + self.checkpoint_rounds

    def checkpoint_id(self, key: bytes) -> bytes:
        """Return the public name of a key to resume from; 8 bytes."""
        return self.suite.label_mac(key, b"checkpoint id", b"")[:CHECKPOINT_ID_BYTES]
