"""What one end of a session is configured with."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.sansio.back_off import doubled


class Durability(enum.Enum):
    """Says what a crash may cost. In both, a message that was acknowledged has been handed to the peer's
    application."""

    EVERY_MESSAGE = "every-message"
    """Each message is on disk before it leaves and before it is acknowledged: exactly once, also across power loss."""
    EVERY_W = "every-W"
    """The paper's: on disk every W rounds. Power loss of a receiver may show its application up to W messages again,
    under the same Seq. A message that was not acknowledged yet may be lost with the power of its sender, or with its
    process before the record was written. What a receiver has forgotten its sender repeats from memory: only where both
    crash are up to W rounds lost to both, and may a Seq come again with another message."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Says how one end of a session works; W must be the same at both."""

    durability: Durability = Durability.EVERY_MESSAGE
    """What a crash may cost: nothing, or with `EVERY_W` the rounds since the last checkpoint."""
    checkpoint_rounds: int = 64
    """W: rounds from one checkpoint to the next."""
    omega: int = 8
    """Omega: retransmissions of one message before the peer is called unreachable; at most 15."""
    timeout: float = 0.2
    """Seconds until the first retransmission of data, request or call; doubled at each further one."""
    max_timeout: float = 10.0
    """Seconds between retransmissions at most; an unreachable peer is tried this often."""
    follows_round_trip: bool = False
    """Whether a message's first retransmission waits for as long as earlier ones took, where that is more than
    `timeout`: for links whose round trip is not known before, as through other nodes."""

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value is out of range."""
        if not isinstance(self.durability, Durability):
            raise UsageError(f"durability is {self.durability!r} and must be a member of Durability")
        if not 1 <= self.omega <= limits.MAX_RETRAN:
            raise UsageError(f"omega must be 1 to {limits.MAX_RETRAN}")
        if not 1 <= self.checkpoint_rounds <= limits.MAX_CHECKPOINT_ROUNDS:
            raise UsageError(f"checkpoint_rounds (W) must be 1 to {limits.MAX_CHECKPOINT_ROUNDS}")
        if not 0 < self.timeout <= self.max_timeout:
            raise UsageError("timeout must be above 0 and at most max_timeout")

    def back_off(self, waits: int, first: float = 0.0) -> float:
        """Return the seconds to wait after this many time-outs in a row; the first wait is `timeout`, or `first` where
        that is more."""
        if first < self.timeout:
            first = self.timeout
        return doubled(first, self.max_timeout, waits) if waits else first
