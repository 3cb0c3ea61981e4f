"""What the local API needs of a node."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from bt_selfsecure.node.api_operations import PairQuery, Until
from bt_selfsecure.node.api_peer_types import Peer
from bt_selfsecure.node.api_types import (
    Confirmed,
    Established,
    ExportedKey,
    Group,
    NotEstablished,
    PairingLine,
    Sighting,
    Status,
)
from bt_selfsecure.node.messages import Received


class PairingApi(Protocol):
    """Lists what the local API needs of a node's pairings."""

    def pair(self, query: PairQuery, carried: bytes) -> AsyncGenerator[PairingLine, None]:
        """Pair with another device, and yield what is to be told. Closed before its end, it is given up."""

    def compared(self, same: bool, string: str, by: str) -> None:
        """Take a person's word on the strings of the pairing that is under way. Raises `UsageError`."""

    async def forget(self, peer: str) -> None:
        """Let a peer go that was paired. Raises `UnknownPeerError`, `UsageError`."""


class GroupApi(Protocol):
    """Lists what the local API needs of a node's groups."""

    def status(self) -> list[Group]: ...

    async def create(self, name: str, peers: list[str]) -> Group:
        """Begin a group. Raises `UsageError`, `UnknownPeerError`."""

    async def change(self, name: str, add: list[str], remove: list[str]) -> Group:
        """Change its members. Raises `UsageError`, `UnknownPeerError`, `UnknownGroupError`."""

    def send(self, name: str, message: bytes) -> int:
        """Send to all members, and return the message's number, when it is on disk. Raises `UnknownGroupError`,
        `QueueFullError`, `MessageTooLongError`."""

    def delete(self, name: str) -> None:
        """End it, as its owner. Raises `UnknownGroupError`."""

    def leave(self, name: str) -> None:
        """Be no member any more. Raises `UnknownGroupError`."""


class NodeApi(Protocol):
    """Lists what the local API needs of a node. A peer is named by its name or its address."""

    @property
    def pairing(self) -> PairingApi: ...

    @property
    def group_wishes(self) -> GroupApi: ...

    def status(self) -> Status: ...
    def peers(self) -> list[Peer]: ...

    async def send(self, peer: str, message: bytes, *, port: int = 0, until: Until = "durable") -> int:
        """Send a message, and return its number once it is on disk or the peer has it. Cancelled, the message stays
        queued.

        Raises `UnknownPeerError`, `QueueFullError` (at once), `MessageTooLongError`.
        """

    def inbox(self, peer: str | None, port: int, *, follow: bool = True) -> AsyncGenerator[Received, None]:
        """Yield the messages that nobody acknowledged, the oldest first; with `follow`, then those that come."""

    def acknowledge(self, number: int) -> None:
        """Forget this message, which its reader has. Unknown numbers are forgotten already."""

    async def establish(
        self, peer: str, *, wait: bool = False, without_continuity: bool = False
    ) -> Established | NotEstablished:
        """Agree on a new key, and return how that ended. Raises `UnknownPeerError`."""

    def confirm(self, peer: str, string: str, by: str) -> Confirmed:
        """`string` is empty where the other end shows another one. Raises `UnknownPeerError`, `UsageError`."""

    async def export(self, peer: str, label: str, length: int, *, after: str, rotate: bool) -> ExportedKey:
        """Return a key for another program, as soon as both ends hold its generation. Raises `UnknownPeerError`,
        `UsageError` where there can't be one."""

    def no_key_yet(self, peer: str) -> str:
        """Return why there is no such key yet, with the remedy."""

    async def scan(self, seconds: float) -> list[Sighting]: ...
