"""What a peer needs of its node."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.node.haoxiao.settings import Settings
from bt_selfsecure.node.journal import Journal


class NodeContext(Protocol):
    """`service.Node` is one."""

    journal: Journal
    settings: Settings

    @property
    def own(self) -> str | None:
        """Device address of the adapter; None while there is none that works."""

    async def connect(self, bearer: str, address: str) -> Link:
        """Raises `BtSelfSecureError`."""

    def radio(self, address: str) -> AbstractAsyncContextManager[Link]:
        """The broadcast link for a burst; other advertising and scanning of ours pauses meanwhile. Raises
        `BtSelfSecureError`."""

    def receive(self, address: str, port: int, message: bytes) -> None:
        """A whole message; noted in the journal, not yet committed."""

    def inbox_has_room(self, address: str) -> bool: ...
    def may_agree(self, address: str) -> bool:
        """Whether a request of this peer's is to be answered now."""

    def look_for_copies(self, address: str, data: bytes) -> None:
        """This frame of the peer's names keys that are none of its own: are they another peer's?"""

    def commit_later(self) -> None:
        """Within a second or so."""
