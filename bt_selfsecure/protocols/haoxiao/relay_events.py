"""What the relay's machine is configured with, and what it tells its driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bt_selfsecure.protocols.haoxiao.relay_frames import RelayFault
from bt_selfsecure.sansio.events import FrameRejected
from bt_selfsecure.sansio.value import value

BURST_S: Final = 2.0
"""A neighbour may send at once what it may send in so many seconds."""


@value
class Via:
    """Says which neighbours lead to one peer. With `second`, a link has two ways that share no relay, and a key of
    which each way carries a share."""

    first: frozenset[bytes] = frozenset()
    """Empty: any neighbour."""
    second: frozenset[bytes] = frozenset()

    @property
    def is_double(self) -> bool:
        return bool(self.second)

    @property
    def groups(self) -> tuple[frozenset[bytes], ...]:
        return (self.first, self.second) if self.second else (self.first,)


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Says for whom one node forwards, and to whom it has links through others."""

    own: bytes
    """Its device address, 6 bytes."""
    neighbours: frozenset[bytes] = frozenset()
    """Configured peers that it speaks with directly; nothing is taken from anybody else."""
    ends: frozenset[bytes] = frozenset()
    """Whom it forwards for: a link is carried whose two ends are both among these. Empty: for nobody."""
    peers: Mapping[bytes, Via] = field(default_factory=dict)
    """Peers of its own that it speaks with through others."""
    max_links: int = 32
    """Of others, at once."""
    queue_bytes: int = 65_536
    """That wait for one neighbour; what is more is dropped, and the ends repeat it."""
    rate_bytes: int = 32_768
    """A second, from one neighbour, on average; what is more is dropped."""


@value
class RelayLinkUp:
    """A link to this peer is open."""

    link: int
    peer: bytes
    dialled: bool
    path: tuple[bytes, ...]
    """The relays, from here to there, as they told; of the first way where there are two."""
    second_path: tuple[bytes, ...] = ()
    round_trip: float | None = None
    """Seconds that request and reply took; None for the end that was dialled."""
    key: bytes = field(default=b"", repr=False)
    """32 bytes, made of what each of two ways has carried; empty where there is one way, or one of two alone."""


@value
class RelayDatagram:
    """A datagram came on an open link."""

    link: int
    peer: bytes
    data: bytes = field(repr=False)


@value
class RelayDialFailed:
    """There is no link to be had. `fault` and `by` are None where nobody answered."""

    link: int
    peer: bytes
    fault: RelayFault | None = None
    by: bytes | None = None


@value
class RelayLinkDown:
    """A link is over; `fault` and `by` are None where nothing was heard of it for too long."""

    link: int
    peer: bytes
    fault: RelayFault | None = None
    by: bytes | None = None


RelayEvent = RelayLinkUp | RelayDatagram | RelayDialFailed | RelayLinkDown | FrameRejected
