"""A peer that comes of a pairing, or of a bootstrapping: for the time being, for good, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import paired
from bt_selfsecure.node.config import PeerTable
from bt_selfsecure.node.errors import UnknownPeerError
from bt_selfsecure.node.inbox import Inbox
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.known import KnownPeers
from bt_selfsecure.node.media import Bearers
from bt_selfsecure.node.nearby import Nearby
from bt_selfsecure.node.peer import NodePeer
from bt_selfsecure.node.peers import Peers


class TakesKeys(Protocol):
    """Holds the authentication keys of peers, by address; `haoxiao.settings.Settings` does."""

    def set_key(self, address: str, key: bytes) -> None: ...
    def drop_key(self, address: str) -> None: ...


class Adoption:
    """Takes peers in while the node runs, and lets them go."""

    def __init__(
        self,
        directory: Path,
        known: KnownPeers,
        peers: Peers,
        settings: TakesKeys,
        journal: Journal,
        inbox: Inbox,
        bearers: Bearers,
        nearby: Nearby,
    ) -> None:
        self.known = known
        self._directory, self._peers, self._settings = directory, peers, settings
        self._journal, self._inbox, self._bearers, self._nearby = journal, inbox, bearers, nearby
        self._for_now: set[str] = set()

    async def dial(self, bearer: str, address: str) -> Link:
        return await self._bearers.connect(bearer, address)

    def for_good(self, name: str) -> NodePeer:
        """Return the peer of this name or address. Raises `UnknownPeerError`, and `UsageError` for one that is being
        paired."""
        peer = self._peers.named(name)
        if self.is_for_now(peer.address):
            raise UsageError(f"{peer.name} is being paired: send it messages when that is done")
        return peer

    def is_for_now(self, address: str) -> bool:
        """Return whether the peer of this address is not known yet to be the one that is meant: it gives no message,
        and gets none."""
        return address in self._for_now

    def adopt(self, table: PeerTable, key: bytes) -> NodePeer:
        """Work with this peer from now on, for the time being, under new keys. Raises `UsageError` for one that is
        known, and `JournalError`."""
        if table.address in self._peers:
            raise UsageError(f"{table.address} is a peer already: bt-selfsecure pair forget it first")
        self._journal.forget_keys(table.address)  # of a pairing that a loss of power has cut off
        self._journal.commit(sync=True)
        self.known.add(table)
        self._for_now.add(table.address)
        self._settings.set_key(table.address, key)
        self._nearby.know(table.address)
        return self._peers.begin(table.name, table.address, table.dial)

    def keep(self, table: PeerTable, key: bytes) -> None:
        """Keep an adopted peer for good. Raises `UsageError` where the disk does not take it."""
        self.known.add(paired.keep(self._directory, table, key))
        self._for_now.discard(table.address)

    async def drop(self, address: str) -> None:
        """Work with this peer no more, and keep nothing of it. Raises `UsageError` or `JournalError` where the disk
        does not take that."""
        await self._peers.end(address)
        self._for_now.discard(address)
        self._settings.drop_key(address)
        if address in self.known:
            self.known.remove(address)
        self._inbox.forget_peer(address)
        self._journal.forget_peer(address)
        paired.forget(self._directory, address)
        self._journal.commit(sync=True)

    async def forget(self, name: str) -> None:
        """Let a peer go that was paired. Raises `UnknownPeerError`, `UsageError` for one of the configuration's."""
        address = self._peers.named(name).address
        if address not in {table.address for table in paired.paired_peers(self._directory)}:
            if address in self.known:
                raise UsageError(f"{name} was not paired but configured: take its [[peer]] out, and restart the node")
            raise UnknownPeerError(f"{name} was not paired: see bt-selfsecure peers")
        await self.drop(address)
