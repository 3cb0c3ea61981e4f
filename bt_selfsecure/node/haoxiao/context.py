"""What a peer needs of its node."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig


class NodeContext(Protocol):
    """`service.Node` is one."""

    journal: Journal
    session_config: SessionConfig
    session_bearer: str
    establish_bearer: str
    no_radio: str
    """Why losses of a burst hide nothing from an eavesdropper; empty where a radio carries it."""
    fragment_bytes: int
    """Of one round's message."""
    queue_messages: int
    renew_hours: float
    renew_messages: int

    @property
    def own(self) -> str | None:
        """Device address of the adapter; None while there is none that works."""

    @property
    def identity(self) -> bytes:
        """The address of the adapter that works, or did last: a node is known by it."""

    def establish_config(self, address: str) -> EstablishConfig: ...
    async def connect(self, bearer: str, address: str) -> Link:
        """Raises `BtSelfSecureError`."""

    def radio(self, address: str) -> AbstractAsyncContextManager[Link]:
        """The broadcast link for a burst; other advertising and scanning of ours pauses meanwhile. Raises
        `BtSelfSecureError`."""

    def receive(self, address: str, port: int, message: bytes) -> None:
        """A whole message; noted in the journal, not yet committed."""

    def inbox_has_room(self, address: str) -> bool: ...
    def look_for_copies(self, address: str, data: bytes) -> None:
        """This frame of the peer's names keys that are none of its own: are they another peer's?"""

    def commit_later(self) -> None:
        """Within a second or so."""

    def rests_on(self, losses_visible: bool, *, hybrid: bool, authenticated: bool) -> str:
        """A sentence: on what a key's secrecy rests."""
