"""What a source gives, whichever it is."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple, Self

CUT_SHORT: Final = "the file ends in the middle of a packet"
DAMAGED: Final = "the rest of the file is damaged"
CUT: Final = "packets cut by the snap length when they were captured"
BOMB: Final = "the rest of the file: it unpacks to more than 100 times its size"
UNHEARD: Final = frozenset({CUT_SHORT, DAMAGED, CUT, BOMB})
"""Behind which packets of ours may be that the radio did hear: to count them as missed is too kind."""


class Direction(enum.Enum):
    """Says which way a packet went, where the source tells."""

    UNKNOWN = ""
    SENT = "sent"
    """By the computer whose HCI was captured; on the air, by the central of a connection."""
    RECEIVED = "received"
    """By that computer; on the air, sent by the peripheral."""


class CapturedPacket(NamedTuple):
    """Holds one packet as a source has it. A tuple for its speed."""

    time: float
    """Seconds since the epoch of the source's own clock, to about 0.2 microseconds."""
    rssi: int | None
    """dBm, or None where it is not told."""
    channel: int | None
    """LE channel index, 0 to 39, of which 37, 38 and 39 are for advertising (Core Vol 6 Part B 1.4.1)."""
    bytes: bytes
    """LE air: access address, PDU, CRC. HCI: packet indicator and packet (H4, Core Vol 4 Part A 2); empty for a note of
    the host's own. A network: the IP packet; empty for any other. Any other link type: the packet as it is."""
    crc_ok: bool | None
    """As the source says, or as an advertisement's CRC tells; None where neither does."""
    linktype: int
    """LINKTYPE of https://www.tcpdump.org/linktypes.html as the source has it."""
    direction: Direction


Fields = tuple[float, int | None, int | None, bytes, bool | None, int, Direction]
captured: Final[Callable[[Fields], CapturedPacket]] = partial(tuple.__new__, CapturedPacket)
"""Makes one of its fields in their order, in half the time: some hundred thousand a second are made."""


class Source(ABC):
    """Iterate once for `CapturedPacket`, within `with` or before `close`. The figures are right at any time."""

    def __init__(self) -> None:
        self.linktypes: Counter[int] = Counter()
        """Packets so far, of each link type."""
        self.skipped: Counter[str] = Counter()
        """What could not be read, by reason: packets, and faults that ended the source."""

    @property
    def packets(self) -> int:
        """Return how many came so far."""
        return self.linktypes.total()

    @abstractmethod
    def __iter__(self) -> Iterator[CapturedPacket]:
        """The packets, as they come. Raises `UsageError` where no more can be had though there should be."""

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
