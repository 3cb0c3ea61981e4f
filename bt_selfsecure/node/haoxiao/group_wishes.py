"""What people and programs ask of a node's groups: to begin one, to change or end it, to send."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final, cast

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import api_types
from bt_selfsecure.node.errors import MessageTooLongError, QueueFullError, UnknownGroupError
from bt_selfsecure.node.haoxiao.group_context import GroupNode, KeptGroup, spelled_identity
from bt_selfsecure.node.haoxiao.groups import MOST_GROUPS, Groups
from bt_selfsecure.node.haoxiao.shared_burst import LEGS
from bt_selfsecure.node.peer import NodePeer
from bt_selfsecure.node.peers import Peers
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.group import limits
from bt_selfsecure.protocols.haoxiao.group.listener import GroupListener
from bt_selfsecure.protocols.haoxiao.group.owner import GroupOwner

MOST_WAITING: Final = 64
"""Fragments that wait for the radio: they must have left before members are repaired."""


class GroupWishes:
    """Does what the local API offers of groups. `known` are the addresses of the configured peers."""

    def __init__(self, node: GroupNode, groups: Groups, peers: Peers, known: Collection[str]) -> None:
        self._node, self._groups, self._peers, self._known = node, groups, peers, known

    def status(self) -> list[api_types.Group]:
        """Return all groups."""
        told: list[Any] = [group.told(self._node.name_of) for group in self._groups.kept.values()]
        return cast(list[api_types.Group], told)

    async def create(self, name: str, peers: list[str]) -> api_types.Group:
        """Begin a group, after one burst for all of it where that can be. Raises `UsageError`, `JournalError`."""
        if self._node.settings.profile is not Profile.HARDENED:
            raise UsageError("the profile 'paper' has no groups: use 'hardened'")
        if not 0 < len(name.encode()) <= limits.MAX_NAME_BYTES or not name.isprintable():
            raise UsageError(f"a group's name has 1 to {limits.MAX_NAME_BYTES} bytes of printable text")
        own = [group for group in self._groups.kept.values() if isinstance(group.machine, GroupOwner)]
        if any(group.name == name for group in own):
            raise UsageError(f"there is a group {name!r} already: bt-selfsecure group add {name} PEER")
        if len(own) >= MOST_GROUPS:
            raise UsageError(f"a node owns at most {MOST_GROUPS} groups: bt-selfsecure group delete one")
        members = [self._member(peer) for peer in peers]
        _require_few(len(members))
        await self._share_burst(peers)
        groups = self._groups
        machine = GroupOwner.create(name, members, groups.context(name), groups.common, groups.now)
        group = KeptGroup(machine, self._node.own or "")
        groups.wish(group, lambda now: None, begins=True)
        return self._told(group)

    async def change(self, name: str, add: list[str], remove: list[str]) -> api_types.Group:
        """Change who is a member, by another epoch. Raises `UsageError`, `JournalError`."""
        group, owner = self._own(name)
        members = {member.identity for member in owner.record.members}
        coming = [self._member(peer) for peer in add]
        going = [bytes.fromhex(self._peers.named(peer).address.replace(":", "")) for peer in remove]
        for identity in going:
            if identity not in members:
                who = self._node.name_of(spelled_identity(identity))
                raise UsageError(f"{who} is no member of {name}: see bt-selfsecure group status")
        _require_few(len((members | set(coming)) - set(going)))
        if not coming and not going:
            raise UsageError("say who is to join, or to be out")
        if coming:
            await self._share_burst([spelled_identity(one) for one in (members | set(coming)) - set(going)])
        why = ", ".join([*(f"{peer} joins" for peer in add), *(f"{peer} is out" for peer in remove)])
        self._groups.wish(group, lambda now: owner.change(coming, going, now, why))
        return self._told(group)

    def delete(self, name: str) -> None:
        """End the group of this name that the node owns. Raises `UnknownGroupError`, `JournalError`."""
        group, owner = self._own(name)
        members = [member.identity for member in owner.record.members]
        self._groups.wish(group, lambda now: owner.change((), members, now, "the group is deleted"), ends=True)

    def leave(self, name: str) -> None:
        """Be no member any more of the group of this name, nor, where owners have chosen the same, of any. Raises
        `UnknownGroupError`; `JournalError`, and is then no member of some of them, perhaps."""
        kept = [group for group in self._groups.kept.values() if group.name == name]
        left = [(group, group.machine) for group in kept if isinstance(group.machine, GroupListener)]
        if not left:
            raise UnknownGroupError(f"this node is no member of a group {name[:64]!r}: see bt-selfsecure group status")
        for group, machine in left:
            self._groups.wish(group, machine.leave)

    def send(self, name: str, message: bytes) -> int:
        """Send to a group that the node owns; return the message's number, when it is on disk. Raises
        `UnknownGroupError`, `MessageTooLongError`, `QueueFullError`, `JournalError`."""
        group, owner = self._own(name)
        if len(message) > limits.MAX_MESSAGE_BYTES:
            raise MessageTooLongError(
                f"a message to a group has at most {limits.MAX_MESSAGE_BYTES} bytes, this has {len(message)}: send it "
                f"to each member"
            )
        if not owner.record.members:
            raise UsageError(f"{name} has no members: bt-selfsecure group add {name} PEER")
        if not owner.can_send or self._groups.air.waiting > MOST_WAITING:
            raise QueueFullError(f"{len(owner.record.pending)} messages to {name} are under way: try again in a second")
        number = owner.record.number
        self._groups.wish(group, lambda now: owner.send(message, now))
        group.counts["sent"] += 1
        return number

    def _own(self, name: str) -> tuple[KeptGroup, GroupOwner]:
        for group in self._groups.kept.values():
            if isinstance(group.machine, GroupOwner) and group.name == name:
                return group, group.machine
        raise UnknownGroupError(f"this node owns no group {name[:64]!r}: see bt-selfsecure group status")

    def _member(self, name: str) -> bytes:
        """The identity of a peer that can be a member."""
        peer: NodePeer = self._peers.named(name)
        if peer.address not in self._known:
            raise UsageError(f"{peer.name} is a stranger: add it to the configuration as a [[peer]] first")
        if not peer.has_key:
            raise UsageError(f"there is no key with {peer.name} yet: bt-selfsecure establish {peer.name}")
        return bytes.fromhex(peer.address.replace(":", ""))

    async def _share_burst(self, peers: Collection[str]) -> None:
        """Have something in common with all of them, where one burst can give it."""
        named = [self._peers.named(peer) for peer in peers]
        if self._node.on_radio and 0 < len(named) <= LEGS and all(peer.link_count for peer in named):
            await asyncio.gather(*(peer.establish() for peer in named))

    def _told(self, group: KeptGroup) -> api_types.Group:
        return cast(api_types.Group, group.told(self._node.name_of))


def _require_few(members: int) -> None:
    if members > limits.MAX_MEMBERS:
        raise UsageError(f"a group has at most {limits.MAX_MEMBERS} members")
