"""The peers of a node, by address, each in a task of its own that begins anew where this program is at fault."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final, Protocol

from bt_selfsecure.addresses import spelled
from bt_selfsecure.node.errors import UnknownPeerError
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.peer import NodePeer
from bt_selfsecure.node.peer_log import PeerLog
from bt_selfsecure.sansio.back_off import FIRST_RETRY_S, LAST_RETRY_S

log = logging.getLogger(__name__)

STRANGERS: Final = 4
"""Whoever is not configured and has no key has proved nothing: so many of those are remembered at once, and one of them
agrees on a key at a time."""
STRANGER_S: Final = 60.0
"""Such a stranger is remembered for so long at least, and T_d with it."""


class HasJournal(Protocol):
    """Asks of a node only its journal; `service.Node` has one."""

    journal: Journal


class Peers(dict[str, NodePeer]):
    """Holds the peers of a node. `make` gives a peer of this name, address and dialling, as the journal has it. `most`
    are remembered; `known` are the addresses of those that are configured. These, and all that have a key, are never
    forgotten."""

    def __init__(
        self, node: HasJournal, make: Callable[[str, str, str], NodePeer], known: Collection[str], most: int
    ) -> None:
        super().__init__()
        self._node, self._make, self._known, self._most = node, make, known, most
        self._clock = asyncio.get_running_loop().time
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, name: str, address: str, dial: str) -> NodePeer:
        """Work with this peer from now on."""
        peer = self[address] = self._make(name, address, dial)
        self._tasks[address] = asyncio.create_task(self._supervise(peer), name=f"peer {address}")
        return peer

    async def end(self, address: str) -> None:
        """End the work with one peer, and forget it; what is on the disk stays."""
        self.pop(address, None)
        if task := self._tasks.pop(address, None):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """End the work with all of them."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def named(self, name: str) -> NodePeer:
        """Return the peer of that name or address. Raises `UnknownPeerError`."""
        for peer in self.values():
            if name == peer.name or spelled(name) == peer.address:
                return peer
        raise UnknownPeerError(f"there is no peer {name[:64]!r}: see `bt-selfsecure peers`")

    @property
    def link_count(self) -> int:
        """Return the number of links to all of them."""
        return sum(peer.link_count for peer in self.values())

    def has_link(self, address: str) -> bool:
        """Return whether there is a link to the peer of this address."""
        return address in self and self[address].link_count > 0

    def may_link(self, address: str) -> bool:
        """Return whether there is room for another link to this peer: those that are configured find room always."""
        if address in self._known:
            return self.link_count < self._most
        return sum(peer.link_count for peer in self.strangers) < max(1, self._most - len(self._known))

    def make_room(self) -> bool:
        """Return whether there is room for a stranger: of those without a key the one that was silent longest is
        forgotten, and nothing of it is on the disk."""
        keyless = [peer for peer in self.strangers if not peer.has_key]
        if len(self) < self._most and len(keyless) < STRANGERS:
            return True
        idle = [peer for peer in keyless if peer.idle_s > STRANGER_S]
        if not idle:
            return False
        oldest = max(idle, key=lambda peer: peer.idle_s)
        del self[oldest.address]
        self._tasks.pop(oldest.address).cancel()
        self._node.journal.discard(oldest.address)
        return True

    @property
    def strangers(self) -> list[NodePeer]:
        """Return those that are not configured; some have a key."""
        return [peer for peer in self.values() if peer.address not in self._known]

    def may_agree(self, address: str) -> bool:
        """Return whether a request of this peer is to be answered: of a stranger's without a key, one at a time."""
        asking = self.get(address)
        if address in self._known or asking is None or asking.has_key:
            return True
        return not any(peer.is_agreeing for peer in self.strangers if not peer.has_key and peer.address != address)

    async def _supervise(self, peer: NodePeer) -> None:
        """A fault in one peer's handling is logged, and this peer begun anew from the journal; the others go on."""
        wait = FIRST_RETRY_S
        while True:
            began = self._clock()
            try:
                await peer.run()
            except Exception:
                PeerLog(log, peer.name).exception(
                    "a fault of this program, please report it; starting anew with this peer", event="fault"
                )
            self._node.journal.discard(peer.address)
            peer = self[peer.address] = await self._from_disk(peer)
            wait = FIRST_RETRY_S if self._clock() - began > LAST_RETRY_S else min(2 * wait, LAST_RETRY_S)
            await asyncio.sleep(wait)

    async def _from_disk(self, peer: NodePeer) -> NodePeer:
        """Another one in its place, when the disk gives what is kept of it."""
        while True:
            try:
                return self._make(peer.name, peer.address, peer.dial)
            except JournalError as error:
                PeerLog(log, peer.name).error("%s", error, event="disk")
                await asyncio.sleep(LAST_RETRY_S)
