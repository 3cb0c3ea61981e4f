"""What every bearer offers: whole datagrams to one peer and from it.

A `Bearer` is a medium on one adapter. It makes links, by dialling a peer or by listening; a `Link` carries datagrams,
each whole or not at all. What a medium can and can't do is in its `Traits`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from bt_selfsecure.errors import BtSelfSecureError, LocalError


class BearerError(BtSelfSecureError):
    """A bearer can't do what was asked: the text says why, and the remedy."""

    def __init__(self, text: str, *, transient: bool = False) -> None:
        super().__init__(text)
        self.transient = transient
        """Whether it is worth trying again after a while, without anybody's hand."""


class LinkClosedError(BearerError):
    """The link is over: closed here or there, the peer is gone, or the adapter."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Says what a link shows of the radio below it."""

    losses_visible: bool
    """Whether a datagram may fail to arrive. Where not, the link layer repeats it until it does."""
    ordered: bool
    """Whether datagrams arrive in the order they were sent in."""
    broadcast: bool
    """Whether everybody near receives what is sent."""
    link_encrypted: bool
    """Whether the controllers encrypt it, as far as the system tells."""


class Link(ABC):
    """Is one connection to one peer."""

    peer: str
    """Device address, "AA:BB:CC:DD:EE:FF"."""
    mtu: int
    """Longest datagram, bytes."""
    traits: Traits
    whereabouts: str = ""
    """Where the other end is, as udp has it in [[peer]]; empty where its device address is enough to find it."""
    rssi: int | None = None
    """dBm of the datagram that `receive` gave last; None where the medium does not tell."""
    path: tuple[str, ...] = ()
    """Device addresses of the nodes that carry it, from here to the peer; empty where nobody does."""
    second_path: tuple[str, ...] = ()
    """The same of a second way, which shares no node with the first."""
    round_trip: float | None = None
    """Seconds that a question and its answer took when it was opened; None where that was not measured."""
    key: bytes = b""
    """What both ends, and nobody on the way, hold since it was opened: of each of two ways a share."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send one datagram of 1 to `mtu` bytes; returns when there is room for the next. Raises `LinkClosedError`;
        `LocalError` for another size."""

    def send_now(self, data: bytes) -> bool:
        """Send one datagram if that takes no waiting, and return whether it is sent; where it is not, it is to be given
        to `send`, before any other. Raises as `send`. A link that can't tell returns False."""
        return False

    @abstractmethod
    async def receive(self) -> bytes:
        """Return the next datagram. Raises `LinkClosedError` when none will come. Cancelling loses none."""

    @abstractmethod
    async def close(self) -> None:
        """End the link; more than once does no harm."""

    def _require_size(self, data: bytes) -> None:
        if not 0 < len(data) <= self.mtu:
            raise LocalError(f"a datagram of {len(data)} bytes does not fit this link; 1 to {self.mtu} do")


class Listener(ABC):
    """Waits for peers that dial."""

    @abstractmethod
    async def accept(self) -> Link:
        """Return the next link. Raises `BearerError` when none will come."""

    @abstractmethod
    async def close(self) -> None:
        """Wait no more. Links that were accepted stay."""


class Bearer(ABC):
    """Is a medium on one adapter."""

    name: str
    traits: Traits

    @abstractmethod
    async def connect(self, peer: str) -> Link:
        """Dial a peer by its device address. Raises `BearerError`."""

    @abstractmethod
    async def listen(self) -> Listener:
        """Wait for peers. Raises `BearerError`."""

    @abstractmethod
    async def close(self) -> None:
        """Give back what the bearer holds of the adapter."""
