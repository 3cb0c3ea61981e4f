"""What can be told of the card from what it holds: it came from another device, runs in two, or is failing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from bt_selfsecure.node.config import PeerTable
from bt_selfsecure.node.damaged_rows import QUEUES
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.paired import lost_keys
from bt_selfsecure.node.peer import NodePeer
from bt_selfsecure.node.peer_log import PeerLog

log = logging.getLogger(__name__)

MOVED: Final = (
    "the card came from another computer, or the adapter is another one, or [node] address was changed. Give the peers "
    "the new address, and each agrees on a new key by itself; or set [node] adapter (on udp alone: [node] address) to "
    "the address that is meant"
)
TWICE: Final = (
    "that address is heard near, too, so two devices run with copies of one card: on one of them, stop the node, "
    "bt-selfsecure state set-aside, start it"
)
CHANGED_PLACES: Final = "have two cards changed places? Name in its [[peer]] the address of the device that is meant"
DOUBLE: Final = (
    "a copy of this card, or an adapter with a made-up address. Give one of them another address, and a state of its "
    "own (bt-selfsecure state set-aside)"
)
COPIED: Final = "give one of them a state of its own (stop its node, bt-selfsecure state set-aside, start it)"
FAILING: Final = "the card may be failing, see dmesg; bt-selfsecure backup saves what is whole"


class Card:
    """Looks at the node's own peers, which come and go in `peers`, by address."""

    def __init__(
        self, directory: Path, journal: Journal, peers: Mapping[str, NodePeer], known: Mapping[str, PeerTable]
    ) -> None:
        self._directory, self._journal, self._peers, self._known = directory, journal, peers, known
        self._copies: dict[str, str] = {}
        """Peers that have another one's keys, by address, and whose."""

    def troubles(self, own: str | None, near: Container[str]) -> list[str]:
        """Return what is wrong with the card, a sentence each. `own` is the node's address now, `near` those of the
        nodes that were heard."""
        return [
            self.moved(own, near),
            *self._doubled(own, near),
            *self._copied(),
            *self._journal.notes,
            *self._damaged(),
            *self.lost_keys(),
        ]

    def lost_keys(self) -> Iterable[str]:
        """Return of which paired peers it did not keep the keys, a sentence each."""
        return lost_keys(self._directory, self._known.values()).values()

    def _doubled(self, own: str | None, near: Container[str]) -> Iterator[str]:
        """Of the node's own address, where it is somebody else's, too."""
        if own is not None and own in self._peers:
            yield f"{self._peers[own].name}: it has this node's own address: {CHANGED_PLACES}"
        if own is not None and own in near:
            yield f"another device near says that it has this node's address, {own}: {DOUBLE}"

    def moved(self, own: str | None, near: Container[str]) -> str:
        """Return a sentence if keys were agreed on under another address of ours than the present one, else an empty
        text."""
        former = sorted({peer.own_address for peer in self._peers.values()} - {"", own})
        if not former or own is None:
            return ""
        why = TWICE if former[0] in near else MOVED
        return f"this node's keys were made under {former[0]}, and its address is {own}: {why}"

    def look_for_copies(self, address: str, data: bytes) -> None:
        """Find out whether the keys that this frame names are another peer's; the sender has, as far as we know, none
        of them."""
        for other in self._peers.values():
            if other.address != address and other.shares_key(data) and self._copies.get(address) != other.address:
                self._copies[address] = other.address
                PeerLog(log, self._peers[address].name).warning(
                    "it has the keys of %s: its card was moved from there, or copied", other.name, event="copy"
                )

    def _copied(self) -> list[str]:
        linked = {peer.address: peer.name for peer in self._peers.values() if peer.link_count}
        return [
            f"{linked[one]} and {linked[other]} run with copies of one card: {COPIED}"
            for one, other in self._copies.items()
            if one in linked and other in linked
        ]

    def _damaged(self) -> Iterator[str]:
        """Of what the disk had damaged when the node started."""
        rows = self._journal.damaged
        counts = Counter((QUEUES[row.table], row.peer) for row in rows if row.table in QUEUES)
        if counts:
            what = ", ".join(f"{count} {held}: {self._name(peer)}" for (held, peer), count in sorted(counts.items()))
            yield f"parts of messages were damaged on the disk and are dropped ({what}): {FAILING}"
        owners = {row.peer for row in rows if row.table == "peer"}
        if owners:
            maybe = self._journal.keyless - owners if "" in owners else frozenset()
            who = ", ".join([*self._names(owners - {""}), *(f"perhaps {name}" for name in self._names(maybe))])
            yield (
                f"what was kept of {who or 'a stranger'} was damaged on the disk, and a message that was under way is "
                f"lost: {FAILING}"
            )

    def _names(self, addresses: Iterable[str]) -> list[str]:
        return sorted({self._name(each) for each in addresses})

    def _name(self, address: str) -> str:
        return self._peers[address].name if address in self._peers else address or "nobody knows whose"
