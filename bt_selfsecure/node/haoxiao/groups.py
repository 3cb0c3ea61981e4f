"""Drives the groups of a node: those that it owns, and those of which it is a member.

What a machine is given is a turn: letters, messages and the record that follow from it go to the disk in one
transaction; a broadcast leaves after that. Letters come by the inbox, port 12, and leave it with the turn that reads
them: so none is lost or read twice, whatever crashes. Where the disk takes nothing a turn waits for it as a whole, its
letters too; but what a person wished is refused then, and all is as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Collection
from typing import Any, Final

from bt_selfsecure.node.errors import QueueFullError
from bt_selfsecure.node.haoxiao.group_air import GroupAir
from bt_selfsecure.node.haoxiao.group_context import GroupNode, KeptGroup, log_event
from bt_selfsecure.node.haoxiao.peer_machine import PeerMachine
from bt_selfsecure.node.journal_file import JournalError, address_of
from bt_selfsecure.node.message_limits import GROUP_PORT
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.protocols.haoxiao.group.events import GroupEnded, GroupMessage, Post
from bt_selfsecure.protocols.haoxiao.group.keys import NOTHING, Common, Heard
from bt_selfsecure.protocols.haoxiao.group.letters import LetterError, decode_group
from bt_selfsecure.protocols.haoxiao.group.listener import GroupListener, answer_unknown
from bt_selfsecure.protocols.haoxiao.group.owner import GroupOwner
from bt_selfsecure.protocols.haoxiao.group.record import MemberRecord, OwnerRecord, record_of
from bt_selfsecure.protocols.haoxiao.group.tables import MemberState
from bt_selfsecure.protocols.haoxiao.limits import COMPACT_MESSAGE_BYTES
from bt_selfsecure.protocols.haoxiao.record import RecordError
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected, Persist

log = logging.getLogger(__name__)

MOST_GROUPS: Final = 16
"""That a node owns, and as many of which it is a member."""
LOOK_S: Final = 5.0
"""Between two looks whether a member that is away has room again, and whether the radio is free to listen."""


def _nothing() -> None:
    """Stands for the act of a peer that there is not."""


class Groups:
    """Is driven by the node from `start` to `stop`. Machines of peers are known from `add` to `forget`."""

    def __init__(self, node: GroupNode) -> None:
        self._node, self._journal, self._inbox = node, node.journal, node.inbox_rows
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._peers: dict[bytes, tuple[PeerMachine, Callable[[], None]]] = {}
        self.kept: Final[dict[bytes, KeptGroup]] = {}
        """By the group's id."""
        self._alarm: asyncio.TimerHandle | None = None
        self.air: Final = GroupAir(node, self.hear, self._on_unsent)
        self._tasks: list[asyncio.Task[None]] = []

    # --- its life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what the journal has. Raises `JournalError`."""
        for number, owner, text in self._journal.groups():
            try:
                record = record_of(text)
            except RecordError as error:
                log.error("%s, and is dropped", error)
                self._journal.remove("group_state", number)
                continue
            self.kept[record.group] = KeptGroup(self._restored(record, owner), owner)
        works = (self._read_letters(), self.air.send_all(), self._look())
        self._tasks = [asyncio.create_task(work, name="groups") for work in works]
        self._set_alarm()

    def _restored(self, record: MemberRecord | OwnerRecord, owner: str) -> GroupListener | GroupOwner:
        context, now = self.context(record.name), self._clock()
        if isinstance(record, OwnerRecord):
            return GroupOwner.restore(record, context, self.common, now)
        identity = bytes.fromhex(owner.replace(":", ""))
        return GroupListener.restore(record, identity, context, self._heard_of(identity), now, self.air.can_hear)

    async def stop(self) -> None:
        """End all work."""
        if self._alarm:
            self._alarm.cancel()
        for group in self.kept.values():
            self.save(group)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.air.stop()

    def add(self, peer: PeerMachine, act: Callable[[], None]) -> None:
        """Know this peer from now on; `act` does what its machine puts out."""
        self._peers[peer.config.identity] = peer, act

    def forget(self, peer: PeerMachine) -> None:
        """Know this peer no more."""
        if self._peers.get(peer.config.identity, (None,))[0] is peer:
            del self._peers[peer.config.identity]

    @property
    def now(self) -> float:
        """Return the time, in seconds of the loop's clock."""
        return self._clock()

    def context(self, name: str) -> EndpointContext:
        """Return the context of the machine of this group."""
        return EndpointContext(secrets.token_bytes, name=f"group {name}")

    def _heard_of(self, owner: bytes) -> Callable[[bytes], Heard | None]:
        def heard(session: bytes) -> Heard | None:
            peer = self._peers.get(owner)
            found = peer[0].heard if peer else None
            return found if found and found.session == session else None

        return heard

    def common(self, identities: Collection[bytes]) -> Common:
        """Return what this node and all these have heard of one burst."""
        heard = [peer[0].heard for one in identities if (peer := self._peers.get(one))]
        whole = [one for one in heard if one is not None and one.tokens]
        if len(whole) != len(identities) or len({one.session for one in whole}) != 1:
            return NOTHING
        seqs = tuple(sorted(set.intersection(*(set(one.tokens) for one in whole))))
        bits = (
            0.0 if self._node.settings.no_radio else self._node.settings.reckoned_bits(len(seqs), COMPACT_MESSAGE_BYTES)
        )
        return (Common.of(whole[0], seqs, bits) if seqs else None) or NOTHING

    # --- turns --------------------------------------------------------------------------------------------------------

    def turn(self, group: KeptGroup, do: Callable[[float], object], letter: int = 0) -> None:
        """Let a machine do something, having read this letter; all that follows from it is on disk when this returns,
        or as soon as the disk takes it. Raises what `do` raises."""
        now = self._clock()
        with self._journal.together():
            do(now)
            if letter:
                self._inbox.acknowledge(letter)
            self._take_events(group, now)
        self.commit()
        self._set_alarm()

    def wish(
        self, group: KeptGroup, do: Callable[[float], object], *, begins: bool = False, ends: bool = False
    ) -> None:
        """Let a machine do what a person wishes: it is on disk when this returns. `begins`, `ends`: the group. Raises
        what `do` raises; and `JournalError`, after which all is as it was before, here and at the others."""
        if self._journal.trouble:
            self._journal.commit()  # it may be over
        before, now = group.machine.record, self._clock()
        do(now)
        try:
            with self._journal.together():
                if begins:
                    self.kept[before.group] = group
                self._take_events(group, now, is_wish=True)
                if ends:
                    self.drop(group)
            self._journal.commit(sync=True)
        except JournalError:
            self._undo(group, None if begins else before)
            raise
        finally:
            self._set_alarm()

    def _undo(self, group: KeptGroup, before: MemberRecord | OwnerRecord | None) -> None:
        """Go back to what was before a wish, of which nothing has left: neither letters, as sessions send one that the
        disk is to have first after that, nor broadcasts."""
        log.warning("group %s: the disk has not taken what was asked for, and all is as it was", group.name)
        for machine, act in self._peers.values():
            machine.refused(self._clock())
            act()
        if before is None:
            return self.drop(group)
        self.kept[before.group] = group
        group.machine = self._restored(before, group.owner)
        group.is_saved = False
        return self.save(group)

    def commit(self) -> None:
        """Bring what is noted to the disk, or leave that to the next commit that it takes."""
        try:
            self._journal.commit(sync=True)
        except JournalError as error:  # it is told, and tried again
            log.debug("%s", error)

    def _take_events(self, group: KeptGroup, now: float, *, is_wish: bool = False) -> None:
        machine, counts = group.machine, group.counts
        newest: Persist[Any] | None = None
        sync = False
        while (event := machine.next_event()) is not None:
            match event:
                case Post():
                    self._post(group, event, now, is_wish=is_wish)
                case Persist():
                    newest, sync = event, sync or event.sync
                case GroupMessage():
                    counts["received"] += 1
                    counts["repaired"] += event.repaired
                    self._inbox.put_group(group.owner, event.name, event.message, now)
                case GroupEnded():
                    log_event(group, event, self._node.name_of)
                    self.drop(group)
                    return
                case FrameRejected():
                    counts["rejected"] += 1
                case _:
                    log_event(group, event, self._node.name_of)
        group.is_saved &= newest is None
        if newest is not None and sync:
            self.save(group)
            token = newest.token
            self._journal.after_commit("", lambda: self._on_kept(group, machine, token))

    def save(self, group: KeptGroup) -> None:
        """Note the state of a group for the next commit, if it has changed."""
        if not group.is_saved:
            group.is_saved = True
            self._journal.replace("group_state", group.number, group.owner, group.machine.record.to_json())

    def _post(self, group: KeptGroup, post: Post, now: float, *, is_wish: bool) -> None:
        """Give a letter to the session with a peer. It stays there if the disk refuses it, as what counts on it stays
        noted; that of a wish is refused with it."""
        group.counts["letters"] += 1
        machine, act = self._peers.get(post.peer, (None, _nothing))
        try:
            if machine is None:
                raise QueueFullError("there is no such peer")
            machine.send(post.letter, GROUP_PORT, now, durable=is_wish, stays=not is_wish)
        except QueueFullError:
            if isinstance(group.machine, GroupOwner):
                group.machine.no_room(post.peer, now)
        else:
            act()

    def _on_kept(self, group: KeptGroup, machine: GroupListener | GroupOwner, token: int) -> None:
        if machine is not group.machine:
            return  # what it did was undone
        machine.persisted(token)
        frames = machine.frames_to_send(self._clock())
        if frames and isinstance(machine, GroupOwner):
            group.counts["fragments"] += len(frames)
            if self._node.on_radio:
                self.air.send(frames)
            else:
                self._loop.call_soon(self._send_by_links, machine, frames)

    def _send_by_links(self, owner: GroupOwner, frames: list[bytes]) -> None:
        """Where no radio is that all hear: the same fragments, to each member."""
        for member in owner.record.members:
            machine, act = self._peers.get(member.identity, (None, _nothing))
            if machine and member.state is MemberState.CURRENT:
                for data in frames:
                    machine.broadcast(data)
                act()

    def drop(self, group: KeptGroup) -> None:
        """Forget a group, with the next commit on the disk, too."""
        self.kept.pop(group.machine.record.group, None)
        self._journal.remove("group_state", group.number)

    def _on_unsent(self) -> None:
        """Broadcasts could not leave."""
        for group in self.kept.values():
            if isinstance(group.machine, GroupOwner):
                group.machine.unheard(self._clock())
        self._set_alarm()

    # --- deadlines

    def _set_alarm(self) -> None:
        if self._alarm:
            self._alarm.cancel()
        deadlines = [at for group in self.kept.values() if (at := group.machine.get_timer()) is not None]
        self._alarm = self._loop.call_at(min(deadlines), self._ring) if deadlines else None

    def _ring(self) -> None:
        self._alarm = None
        now = self._clock()
        for group in list(self.kept.values()):
            at = group.machine.get_timer()
            if at is not None and at <= now:
                self.turn(group, group.machine.handle_timer)
        self._set_alarm()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for group in list(self.kept.values()):
                self.save(group)
                if isinstance(group.machine, GroupListener):
                    group.machine.look(self._clock())
                    if group.machine.has_news:
                        self.turn(group, lambda now: None)
                    continue
                for member in group.machine.record.members:
                    self._look_at(group, member.identity, member.state)
            self.commit()
            self.air.listen(self._owners)

    @property
    def _owners(self) -> set[str]:
        """Addresses of those whose groups this node is a member of."""
        return {group.owner for group in self.kept.values() if isinstance(group.machine, GroupListener)}

    def _look_at(self, group: KeptGroup, identity: bytes, state: MemberState) -> None:
        machine, _ = self._peers.get(identity, (None, None))
        if machine and state is MemberState.AWAY and 2 * machine.session.waiting < machine.config.queue_messages:
            owner = group.machine
            assert isinstance(owner, GroupOwner)
            self.turn(group, lambda now: owner.room(identity, now))

    # --- letters ------------------------------------------------------------------------------------------------------

    async def _read_letters(self) -> None:
        async for number, address, letter in self._inbox.letters():
            try:
                self._read(number, address, letter)
            except Exception:
                log.exception("a fault of this program, please report it: a letter about a group")
                self._inbox.acknowledge(number)

    def _read(self, number: int, address: str, letter: bytes) -> None:
        identity = bytes.fromhex(address.replace(":", ""))
        try:
            group = self.kept.get(decode_group(letter))
        except LetterError:
            return self._inbox.acknowledge(number)
        if group is None:
            return self._read_unknown(number, address, identity, letter)
        machine = group.machine
        if isinstance(machine, GroupOwner):
            return self.turn(group, lambda now: machine.receive_letter(identity, letter, now), number)
        if address != group.owner:
            return self._inbox.acknowledge(number)
        return self.turn(group, lambda now: machine.receive_letter(letter, now), number)

    def _read_unknown(self, number: int, address: str, identity: bytes, letter: bytes) -> None:
        joined = sum(isinstance(group.machine, GroupListener) for group in self.kept.values())
        machine = None
        if joined < MOST_GROUPS:
            context = self.context("of another")
            heard, now = self._heard_of(identity), self._clock()
            machine = GroupListener.join(letter, identity, context, heard, now, self.air.can_hear)
        if machine is not None:
            group = self.kept[machine.record.group] = KeptGroup(machine, address)
            self.turn(group, lambda now: None, number)
            return self.air.listen(self._owners)
        with self._journal.together():
            self._inbox.acknowledge(number)
            if (answer := answer_unknown(letter)) and joined < MOST_GROUPS:
                peer, act = self._peers.get(identity, (None, _nothing))
                with contextlib.suppress(QueueFullError):
                    if peer is not None:
                        peer.send(answer, GROUP_PORT, self._clock(), durable=False, stays=True)
                        act()
        return self.commit()

    # --- the air ------------------------------------------------------------------------------------------------------

    def hear(self, owner: bytes, data: bytes) -> None:
        """Take a fragment that came from this address, which anybody can use."""
        if peek_kind(data) is not Kind.GROUP_FRAGMENT:
            return
        address = address_of(int.from_bytes(owner))
        if not self._inbox.has_room(address):
            return  # the session waits until there is
        for group in list(self.kept.values()):
            machine = group.machine
            if isinstance(machine, GroupListener) and group.owner == address:
                now = self._clock()
                machine.receive_frame(data, now)
                if machine.has_news:
                    self.turn(group, lambda now: None)
                else:
                    self._set_alarm()
