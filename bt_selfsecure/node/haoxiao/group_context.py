"""What the groups of a node need of it, and one group as it is kept and told."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.node.haoxiao.settings import Settings
from bt_selfsecure.node.inbox import Inbox
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import address_of
from bt_selfsecure.protocols.haoxiao.group.events import (
    EpochBegun,
    GroupEnded,
    GroupJoined,
    GroupLost,
    ListenerEvent,
    MemberAway,
    OwnerEvent,
)
from bt_selfsecure.protocols.haoxiao.group.listener import GroupListener
from bt_selfsecure.protocols.haoxiao.group.owner import GroupOwner

log = logging.getLogger(__name__)

COUNTED: Final = ("sent", "fragments", "letters", "received", "repaired", "rejected")


class GroupNode(Protocol):
    """Offers the groups what they need of their node; `service.Node` does."""

    journal: Journal
    settings: Settings

    @property
    def inbox_rows(self) -> Inbox:
        """Return the inbox, where letters come and messages go."""

    @property
    def own(self) -> str | None:
        """Return the device address of the adapter; None while there is none that works."""

    @property
    def on_radio(self) -> bool:
        """Return whether all near hear what is sent by `radio`."""

    @property
    def is_radio_free(self) -> bool:
        """Return whether the node looks for nobody: it works, and its peers are linked."""

    def radio(self, address: str) -> AbstractAsyncContextManager[Link]:
        """Hold the broadcast link, on which this address is heard. Raises `BtSelfSecureError`."""

    def name_of(self, address: str) -> str: ...


class KeptGroup:
    """Is one group: its machine, whose it is, and what has happened since the start."""

    def __init__(self, machine: GroupOwner | GroupListener, owner: str) -> None:
        self.machine, self.owner = machine, owner
        self.counts: Counter[str] = Counter()
        self.is_saved = False
        """Its state is on disk, or noted for it: reports of members are lazy."""

    @property
    def name(self) -> str:
        return self.machine.record.name

    @property
    def number(self) -> int:
        """Return the number of its row."""
        return int.from_bytes(self.machine.record.group) >> 1

    def told(self, name_of: Callable[[str], str]) -> dict[str, Any]:
        """Return it as `Group` in api_types.py; `name_of` gives an address's name."""
        record = self.machine.record
        told: dict[str, Any] = {
            "name": record.name,
            "own": isinstance(self.machine, GroupOwner),
            "owner": name_of(self.owner),
            "epoch": record.epoch,
            "number": record.number,
            "secret_bits": None,
            "members": [],
            "waiting": 0,
        }
        told["counts"] = {name: self.counts[name] for name in COUNTED}
        if isinstance(self.machine, GroupOwner):
            own = self.machine.record
            told["secret_bits"], told["waiting"] = own.bits, len(own.pending)
            told["members"] = [
                {
                    "peer": name_of(spelled_identity(one.identity)),
                    "state": one.state.name.lower(),
                    "acknowledged": one.acknowledged,
                }
                for one in own.members
            ]
        return told


def spelled_identity(identity: bytes) -> str:
    """Return an identity as the address that it is."""
    return address_of(int.from_bytes(identity))


def log_event(group: KeptGroup, event: OwnerEvent | ListenerEvent, name_of: Callable[[str], str]) -> None:
    """Write what a machine tells people into the log."""
    name, owner = group.name, name_of(group.owner)
    match event:
        case EpochBegun():
            bits = f", {event.bits:.0f} secret bits of a burst in common" if event.bits else ""
            log.info("group %s: epoch %d, %d members%s: %s", name, event.epoch, event.members, bits, event.why)
        case MemberAway():
            who = name_of(spelled_identity(event.peer))
            log.warning("group %s: no room for %s, which misses messages until it is back", name, who)
        case GroupJoined():
            log.info("group %s of %s: a member, epoch %d", name, owner, event.epoch)
        case GroupLost():
            log.warning("group %s of %s: this end lost its state and joins anew, without what was sent", name, owner)
        case GroupEnded():
            log.info("group %s of %s: no member any more", name, owner)
        case _:
            pass
