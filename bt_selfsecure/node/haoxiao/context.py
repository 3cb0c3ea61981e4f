"""What a peer needs of its node."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.node.haoxiao.bursts import Bursts
from bt_selfsecure.node.haoxiao.groups import Groups
from bt_selfsecure.node.haoxiao.settings import Settings
from bt_selfsecure.node.journal import Journal


class NodeContext(Protocol):
    """Offers a peer what it needs of its node; `service.Node` does."""

    journal: Journal
    settings: Settings
    bursts: Bursts
    groups: Groups

    @property
    def own(self) -> str | None:
        """Return the device address of the adapter; None while there is none that works."""

    async def connect(self, bearer: str, address: str) -> Link:
        """Dial the peer on this bearer, and return the link. Raises `BtSelfSecureError`."""

    def radio(self, address: str) -> AbstractAsyncContextManager[Link]:
        """Hold the broadcast link for a burst; other advertising and scanning of ours pauses meanwhile. Raises
        `BtSelfSecureError`."""

    def receive(self, address: str, port: int, message: bytes, now: float) -> None:
        """Take a whole message that came at this loop time, and note it in the journal, not yet committed."""

    def inbox_has_room(self, address: str) -> bool: ...
    def may_agree(self, address: str) -> bool:
        """Return whether a request of this peer's is to be answered now."""

    def connected(self, address: str, is_so: bool) -> None:
        """Take note that there is a session with this peer now, or none any more."""

    def look_for_copies(self, address: str, data: bytes) -> None:
        """Find out whether the keys that this frame of the peer's names are another peer's: its own they are not."""

    def commit_later(self) -> None:
        """Bring what is noted to the disk within a second or so."""
