"""Speaks to a group (one to many): each message is broadcast once, under the round key of the group's chain.

    owner                                                  members
      | -- round i, fragments and parity, to all ----------> |   whole and authentic: K_{i+1}, on disk
      | <------- report "all before i + 16", in each session  |   many rounds at a time
      | -- repair i: message and Rand, in one session -----> |   whoever has not reported in time

A repair that is in the durable outbox of a member's session counts as delivered. The broadcast is never repeated: so a
thief of K_i who missed it has nothing of what follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.haoxiao.group import limits
from bt_selfsecure.protocols.haoxiao.group.events import EpochBegun, MemberAway, OwnerEvent, Post, Settled
from bt_selfsecure.protocols.haoxiao.group.fragments import fragments
from bt_selfsecure.protocols.haoxiao.group.keys import NOTHING, Common, first_key, next_key, seal
from bt_selfsecure.protocols.haoxiao.group.letters import (
    ClosedLetter,
    Lack,
    LeaveLetter,
    Letter,
    LetterError,
    MissedRound,
    RepairLetter,
    ReportLetter,
    WelcomeLetter,
    decode,
    encode,
)
from bt_selfsecure.protocols.haoxiao.group.record import Membership, OwnerRecord, Pending
from bt_selfsecure.protocols.haoxiao.group.tables import MEMBER_TABLE, MemberInput, MemberState
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import EventQueue, earliest
from bt_selfsecure.sansio.events import Persist, Rejection
from bt_selfsecure.sansio.trace import Machine

FindCommon = Callable[[Collection[bytes]], Common]
"""Gives what the owner and all members of these identities have heard of one burst; `NOTHING` where that is nothing."""


class GroupOwner:
    """Is a group at its owner. Drive it by the verbs of `Endpoint`, with `receive_letter` for what members write, and
    `persisted`. Raises `LocalError` for misuse by the driver only.

    Take the events first, then the frames: those of a round wait until its record is on disk.
    """

    def __init__(self, record: OwnerRecord, context: EndpointContext, find_common: FindCommon) -> None:
        self._kept = record
        self._context: Final = context
        self._random: Final = context.random
        self._find_common: Final = find_common
        self._events: Final = EventQueue[OwnerEvent](limits.MAX_EVENTS)
        self._frames: deque[tuple[int, list[bytes]]] = deque()
        self._due: dict[int, float] = {}
        """By round that is pending: when those who have not reported it get it by their sessions."""
        self._soon: Final = set[int]()
        """Rounds whose deadline is that of members who report soon; then comes that of all."""
        self._acknowledged_at: dict[bytes, float] = {}
        """When a member reported last that it had more; none here has for long, or never."""
        self._epoch_due: float | None = None
        self._epoch_at = float("-inf")
        self._token = self._persisted = 0

    @classmethod
    def create(
        cls, name: str, members: Iterable[bytes], context: EndpointContext, find_common: FindCommon, now: float
    ) -> GroupOwner:
        """Begin a group with these members, by identity. Raises `LocalError` where it can't be."""
        group = context.random(limits.GROUP_ID_BYTES)
        if not 0 < len(name.encode()) <= limits.MAX_NAME_BYTES:
            raise LocalError(f"a group's name has 1 to {limits.MAX_NAME_BYTES} bytes")
        owner = cls(OwnerRecord(group, name, 0, bytes(32), 0, 0.0), context, find_common)
        owner.change(members, (), now, "the group begins")
        return owner

    @classmethod
    def restore(cls, record: OwnerRecord, context: EndpointContext, find_common: FindCommon, now: float) -> GroupOwner:
        """Return the group as it was stored. What had not left is not broadcast any more: it goes by the sessions."""
        owner = cls(record, context, find_common)
        owner._due = dict.fromkeys(range(record.first, record.number), now + limits.RESTART_S)
        owner._acknowledged_at = {member.identity: now for member in record.members}  # for all that is known
        return owner

    # --- wishes -------------------------------------------------------------------------------------------------------

    @property
    def record(self) -> OwnerRecord:
        """Return the state as it is now. It holds keys."""
        return self._kept

    @property
    def can_send(self) -> bool:
        """Return whether `send` takes a message now."""
        return bool(self._kept.members) and len(self._kept.pending) < limits.WINDOW

    def send(self, message: bytes, now: float) -> int:
        """Send a message to all members, and return its round's number. It is the group's own once the `Persist` which
        this causes is written. Raises `LocalError` unless `can_send`, or for more than `limits.MAX_MESSAGE_BYTES`."""
        kept = self._kept
        if not self.can_send or len(message) > limits.MAX_MESSAGE_BYTES:
            raise LocalError(f"send: a group takes {limits.MAX_MESSAGE_BYTES} bytes, and only while `can_send`")
        number = kept.number
        rand, sealed = seal(kept.key, number, message, self._random)
        key = next_key(kept.key, number, rand, message)
        self._kept = replace(kept, key=key, number=number + 1, pending=(*kept.pending, Pending(rand, message)))
        hearing = [member for member in self._kept.members if member.state is MemberState.CURRENT]
        for member in self._kept.members:
            if member.state in (MemberState.INVITED, MemberState.DEAF):
                self._repair(member.identity, number + 1)
        self._due[number] = now + limits.REPAIR_S
        reported = self._acknowledged_at.values()
        if len(reported) < len(kept.members) or now - min(reported) >= limits.REPORT_S:  # somebody reports soon
            self._due[number] = now + limits.REPAIR_SOON_S
            self._soon.add(number)
        self._persist(sync=True)
        if hearing:
            self._frames.append((self._token, fragments(number, sealed)))
        self._settle()
        return number

    def change(self, add: Iterable[bytes], remove: Collection[bytes], now: float, why: str) -> None:
        """Begin an epoch with these members more, and those less. Who comes can't read what was, and who goes can't
        read what follows. Raises `LocalError` for too many."""
        stay = [member for member in self._kept.members if member.identity not in remove]
        known = {member.identity for member in stay}
        added = [Membership(one, MemberState.AWAY) for one in dict.fromkeys(add) if one not in known]
        if len(stay) + len(added) > limits.MAX_MEMBERS:
            raise LocalError(f"a group has at most {limits.MAX_MEMBERS} members")
        gone = [member for member in self._kept.members if member.identity in remove]
        self._assure_all()
        self._kept = replace(self._kept, members=(*stay, *added))
        for member in gone:
            self._post(member.identity, ClosedLetter(self._kept.group, self._kept.epoch))
        identities = [member.identity for member in self._kept.members]
        self._begin_epoch(now, self._find_common(identities) if identities else NOTHING, why)

    def room(self, peer: bytes, now: float) -> None:
        """Take note that the session of a member that is away has room again: it joins with the next epoch."""
        if (member := self._member(peer)) and member.state is MemberState.AWAY:
            self._want_epoch(now)

    def unheard(self, now: float) -> None:
        """Take note that a broadcast did not leave: whoever has not reported it gets it by its session at once."""
        self._due = dict.fromkeys(self._due, now)
        self._soon.clear()

    def no_room(self, peer: bytes, now: float) -> None:
        """Take note that the session of this member does not take its letter."""
        if self._move(peer, MemberInput.NO_ROOM, now):
            self._events.put(MemberAway(peer))
            self._settle()
            self._persist(sync=True)

    # --- the verbs ----------------------------------------------------------------------------------------------------

    def next_event(self) -> OwnerEvent | None:
        return self._events.take()

    def frames_to_send(self, now: float) -> list[bytes]:
        """Return the fragments that are to be broadcast, each once."""
        out: list[bytes] = []
        while self._frames and self._frames[0][0] <= self._persisted:
            out += self._frames.popleft()[1]
        return out

    def persisted(self, token: int) -> None:
        """Release what waited for the record of this token: it, or a later one, is on disk."""
        self._persisted = max(self._persisted, token)

    def get_timer(self) -> float | None:
        return earliest(min(self._due.values(), default=None), self._epoch_due)

    def handle_timer(self, now: float) -> None:
        late = {number: at for number, at in self._due.items() if now >= at}
        sent = {number: at - limits.REPAIR_SOON_S for number, at in late.items() if number in self._soon}
        for number, at in sent.items():
            self._soon.remove(number)
            self._due[number] = at + limits.REPAIR_S
        silent = [member for member in self._kept.members if self._is_silent(member, late, sent)]
        for member in silent:
            self._repair(member.identity, self._kept.number)
            self._move(member.identity, MemberInput.DEAF, now)  # until it reports
        if silent:
            self._settle()
            self._persist(sync=True)
        if self._epoch_due is not None and now >= self._epoch_due:
            self._assure_all()
            self._begin_epoch(now, NOTHING, "a member could not follow")

    def receive_letter(self, peer: bytes, data: bytes, now: float) -> None:
        """Take what this peer has written in its session. Never raises for what it contains."""
        try:
            letter = decode(data)
        except LetterError:
            return self._events.reject(Rejection.MALFORMED, "a letter of a group")
        member = self._member(peer)
        if member is None or letter.group != self._kept.group:
            return self._events.reject(Rejection.NOT_FOR_US, "a letter of no member")
        match letter:
            case ReportLetter():
                return self._receive_report(member, letter, now)
            case LeaveLetter():
                return self.change((), (peer,), now, "a member has left")
            case _:
                return self._events.reject(Rejection.NOT_FOR_US, "a letter of an owner")

    def _receive_report(self, member: Membership, report: ReportLetter, now: float) -> None:
        kept, peer = self._kept, member.identity
        if report.epoch > kept.epoch or (report.epoch == kept.epoch and report.number > kept.number):
            self._assure_all()  # this end was put back to an older state: what it sends next they have had already
            epoch = max(kept.epoch, min(report.epoch, kept.epoch + limits.MAX_LEAP))
            self._kept, self._due = replace(self._kept, epoch=epoch, pending=()), {}
            self._soon.clear()
            return self._want_epoch(now)
        if report.wish is Lack.EPOCH:
            if report.epoch == kept.epoch or member.state is not MemberState.INVITED:
                self._want_epoch(now)
            return None
        if report.epoch < kept.epoch or member.state is MemberState.AWAY:
            return self._events.reject(Rejection.REPLAY, "a report of an epoch that is over")
        if report.number < member.acknowledged:
            return self._want_epoch(now)  # it has forgotten rounds
        deaf = report.wish is Lack.AIR
        if deaf or member.state is not MemberState.CURRENT:
            self._move(peer, MemberInput.DEAF if deaf else MemberInput.REPORTED, now)
        if report.number > member.acknowledged:
            self._acknowledged_at[peer] = now
        self._assure(peer, max(member.assured, report.number), member.repaired, acknowledged=report.number)
        if report.wish is not Lack.NONE:
            held = {report.number + 1 + k for k in range(report.held.bit_length()) if report.held >> k & 1}
            until = kept.number if deaf else max(held, default=report.number) + 1
            self._repair(peer, min(until, kept.number), held)
        self._settle()
        return self._persist(sync=deaf or member.state is not MemberState.CURRENT)

    # --- epochs -------------------------------------------------------------------------------------------------------

    def _want_epoch(self, now: float) -> None:
        """Begin one soon: members can ask for it, and each costs all others a letter."""
        if self._epoch_due is None:
            self._epoch_due = max(now, self._epoch_at + limits.EPOCH_S)

    def _begin_epoch(self, now: float, common: Common, why: str) -> None:
        kept = self._kept
        identities = [member.identity for member in kept.members]
        secret, epoch = self._random(limits.SECRET_BYTES), kept.epoch + 1
        key = first_key(common, secret, kept.group, epoch)
        self._kept = replace(kept, epoch=epoch, key=key, number=0, bits=common.bits, pending=())
        self._frames.clear()
        self._due, self._epoch_due, self._epoch_at = {}, None, now
        self._soon.clear()
        self._acknowledged_at = {one: at for one, at in self._acknowledged_at.items() if one in identities}
        for identity in identities:
            self._move(identity, MemberInput.EPOCH, now)
            self._update(identity, acknowledged=0, assured=0, repaired=())
        self._events.put(EpochBegun(epoch, len(identities), common.bits, why))
        for identity in identities:
            self._post(identity, WelcomeLetter(kept.group, epoch, secret, kept.name, common.session, common.seqs))
        self._persist(sync=True)

    def _assure_all(self) -> None:
        """Give each member by its session what it may lack of this epoch, which is over."""
        for member in self._kept.members:
            if member.state is not MemberState.AWAY:
                self._repair(member.identity, self._kept.number)

    # --- members ------------------------------------------------------------------------------------------------------

    def _member(self, peer: bytes) -> Membership | None:
        return next((member for member in self._kept.members if member.identity == peer), None)

    def _is_silent(self, member: Membership, late: Iterable[int], sent: Mapping[int, float]) -> bool:
        """Return whether it has not reported one of these rounds; of those in `sent` only who reports soon has to."""
        over = [number for number in late if number not in sent or self._reports_soon(member.identity, sent[number])]
        return member.state is not MemberState.AWAY and member.assured <= max(over, default=-1)

    def _reports_soon(self, peer: bytes, sent: float) -> bool:
        """Return whether this member reports soon what it has of a round that was sent then."""
        return sent - self._acknowledged_at.get(peer, float("-inf")) >= limits.REPORT_S

    def _move(self, peer: bytes, given: MemberInput, now: float) -> bool:
        """Whether this is a member; its state is as the table says."""
        member = self._member(peer)
        if member is None:
            return False
        name = f"{self._context.name} of {peer.hex(':')}"
        machine = Machine(name, "group member", MEMBER_TABLE, member.state, self._context.tracer)
        machine.on(given, now, "epoch", self._kept.epoch)
        self._update(peer, state=machine.state)
        return True

    def _update(self, peer: bytes, **changes: object) -> None:
        members = list(self._kept.members)
        for at, member in enumerate(members):
            if member.identity == peer:
                members[at] = replace(member, **changes)  # type: ignore[arg-type]
                self._kept = replace(self._kept, members=tuple(members))
                return

    def _repair(self, peer: bytes, until: int, held: Collection[int] = ()) -> None:
        """Give a member by its session the rounds before `until` of which it is not assured, but those that it holds,
        which it may forget."""
        kept, member = self._kept, self._member(peer)
        if member is None:
            return
        missed = []
        for number in range(max(member.assured, kept.first), until):
            if number not in held and number not in member.repaired:
                pending = kept.pending[number - kept.first]
                missed.append(MissedRound(number, pending.rand, pending.message))
        if missed:
            self._post(peer, RepairLetter(kept.group, kept.epoch, tuple(missed)))
            self._assure(peer, member.assured, [*member.repaired, *(one.number for one in missed)])

    def _assure(self, peer: bytes, assured: int, repaired: Collection[int], **changes: object) -> None:
        """Note that a member has, or will have, all rounds before `assured`, and those in `repaired`."""
        while assured in repaired:
            assured += 1
        later = tuple(sorted(one for one in repaired if one > assured)) if repaired else ()
        self._update(peer, assured=assured, repaired=later, **changes)

    def _post(self, peer: bytes, letter: Letter) -> None:
        self._events.put(Post(peer, encode(letter)))

    def _settle(self) -> None:
        """Forget the rounds of which all are assured."""
        kept = self._kept
        if not kept.pending:
            return
        assured = [member.assured for member in kept.members if member.state is not MemberState.AWAY]
        first = min(assured, default=kept.number)
        if first > kept.first:
            self._kept = replace(kept, pending=kept.pending[first - kept.first :])
            self._due = {number: at for number, at in self._due.items() if number >= first}
            self._soon.intersection_update(self._due)
            self._events.put(Settled(kept.epoch, first))

    def _persist(self, *, sync: bool) -> None:
        self._token += 1
        kept = self._kept
        self._events.put(Persist(self._token, (lambda: kept,), sync))
