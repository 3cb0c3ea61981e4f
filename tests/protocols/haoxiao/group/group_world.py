"""An owner and the members of its group, with disks, sessions and a radio that do what a schedule says; virtual time.

The driver of each end does as the node does: what a turn tells (letters, messages, the record) goes to the disk in one
transaction, or is lost in a crash; a session takes letters from the disk, and gives each once and in order; a broadcast
leaves when its record is on disk. It checks as it goes:

1. *State first.* No member has a message that is not on the owner's disk.
2. *Once, in order.* What a member's disk has are messages of the time in which it was a member, each once.
3. *All of it.* Without losses, crashes and absences for a while, each has every message that was sent while it was a
   member, unless it was away for longer than its session keeps, and all have the owner's key.
4. *No deadlock*: that comes about by itself.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from bt_selfsecure.protocols.haoxiao.frames import decode as decode_frame
from bt_selfsecure.protocols.haoxiao.group import limits
from bt_selfsecure.protocols.haoxiao.group.events import (
    GroupEnded,
    GroupJoined,
    GroupLost,
    GroupMessage,
    MemberAway,
    Post,
)
from bt_selfsecure.protocols.haoxiao.group.fragments import Assembly
from bt_selfsecure.protocols.haoxiao.group.keys import NOTHING, Common, Heard, next_key, opened
from bt_selfsecure.protocols.haoxiao.group.listener import GroupListener, answer_unknown
from bt_selfsecure.protocols.haoxiao.group.owner import GroupOwner
from bt_selfsecure.protocols.haoxiao.group.record import MemberRecord, OwnerRecord, record_of
from bt_selfsecure.protocols.haoxiao.group.tables import MemberState
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Persist
from bt_selfsecure.sansio.trace import Tracer

OWNER = b"owner!"
BURST = b"one burs"
LETTERS = 5
"""For which a session has room."""


def identity(i: int) -> bytes:
    return b"member"[:5] + bytes([i])


class Crash(Exception):  # noqa: N818 - no error: it is meant
    pass


@dataclass
class Session:
    """Letters one way, on the sender's disk until the receiver's has them."""

    letters: deque[bytes] = field(default_factory=deque)
    noted: list[bytes] = field(default_factory=list)

    def has_room(self) -> bool:
        return len(self.letters) + len(self.noted) < LETTERS


@dataclass
class Member:
    """One member: its machine, its disk, and what its programs were given."""

    listener: GroupListener | None = None
    record: str = ""
    inbox: list[bytes] = field(default_factory=list)
    to: Session = field(default_factory=Session)
    back: Session = field(default_factory=Session)
    noted: list[bytes] = field(default_factory=list)
    must: list[bytes] = field(default_factory=list)
    """What it is to have in the end."""
    may: set[bytes] = field(default_factory=set)
    """What it can have: sent while it was a member."""
    absent: bool = False
    deaf: bool = False
    """Its radio is at work elsewhere."""
    excused: bool = False
    """It was away, or its disk was changed: it may lack messages until it joins anew."""
    heard: Heard | None = None


class GroupWorld:
    """Everything that is not said to happen waits."""

    def __init__(self, seed: int, members: int = 3, tracer: Tracer | None = None, crashes: float = 0.0) -> None:
        self.random = random.Random(f"{seed} of the world")
        self.source = random.Random(f"{seed} of the keys")
        self.context = EndpointContext(self.source.randbytes, tracer)
        self.now = 0.0
        self.crashes = 0.0
        self.members = {identity(i): Member() for i in range(members)}
        self.air: list[tuple[bytes, bytes]] = []
        """Fragments on their way, each to one member."""
        self.sent: list[bytes] = []
        """Broadcast ever."""
        self.said = 0
        self.uncommitted: set[bytes] = set()
        self.stolen: bytes | None = None
        self.thief_round = 0
        self.thief: dict[int, Assembly] = {}
        self.thief_has: list[bytes] = []
        self.record = ""
        self.hear_burst(self.members)
        first = list(self.members)[: max(1, members - 1)]
        self.owner = GroupOwner.create("lamps", first, self.context, self.common, 0.0)
        self.own_turn(lambda: None)
        self.crashes = crashes

    # --- the burst that some have heard

    def hear_burst(self, who: Collection[bytes]) -> None:
        tokens = {seq: self.source.randbytes(16) for seq in range(20)}
        self.own = Heard(BURST, tokens)
        for peer in who:
            missed = {seq for seq in tokens if self.random.random() < 0.2}
            kept = {seq: token for seq, token in tokens.items() if seq not in missed}
            self.members[peer].heard = Heard(BURST, kept)

    def common(self, identities: Collection[bytes]) -> Common:
        heard = [self.members[peer].heard for peer in identities]
        if not all(heard):
            return NOTHING
        seqs = set(self.own.tokens).intersection(*(one.tokens for one in heard if one))
        return Common.of(self.own, tuple(sorted(seqs)), float(len(seqs))) or NOTHING

    def find(self, peer: bytes) -> Callable[[bytes], Heard | None]:
        return lambda session: self.members[peer].heard

    def hears(self, peer: bytes) -> Callable[[], bool]:
        return lambda: not self.members[peer].deaf

    # --- the owner

    def own_turn(self, do: Callable[[], object]) -> bool:
        """Let the owner do this; all of it goes to the disk, or the owner crashes before. Whether it did not."""
        try:
            do()
            newest: Persist[OwnerRecord] | None = None
            while (event := self.owner.next_event()) is not None:
                match event:
                    case Post() if event.peer not in self.members or self.members[event.peer].to.has_room():
                        if event.peer in self.members:
                            self.members[event.peer].to.noted.append(event.letter)
                    case Post():
                        self.owner.no_room(event.peer, self.now)
                    case Persist():
                        newest = event
                    case MemberAway():
                        self.excuse(event.peer)
                    case _:
                        pass
            if newest is not None and (newest.sync or self.random.random() < 0.5):
                self.maybe_crash()
                self.write(newest)
            if newest is not None and self.noted_letters and not newest.sync:
                self.write(newest)  # a letter is on disk when it leaves, and the record with it
        except Crash:
            self.crash_owner()
            return False
        for data in self.owner.frames_to_send(self.now):
            self.sent.append(data)
            self.overhear(data)
            self.air += [(peer, data) for peer in self.members]
        return True

    @property
    def noted_letters(self) -> bool:
        return any(member.to.noted for member in self.members.values())

    def write(self, persist: Persist[OwnerRecord]) -> None:
        self.record = persist.record.to_json()
        for member in self.members.values():
            member.to.letters.extend(member.to.noted)
            member.to.noted.clear()
        self.owner.persisted(persist.token)

    def maybe_crash(self) -> None:
        if self.random.random() < self.crashes:
            raise Crash

    def crash_owner(self) -> None:
        for member in self.members.values():
            member.to.noted.clear()
        record = record_of(self.record)
        assert isinstance(record, OwnerRecord)
        self.owner = GroupOwner.restore(record, self.context, self.common, self.now)

    def say(self, size: int = 8) -> None:
        if not self.owner.can_send:
            return
        message = b"%d:" % self.said
        message = message.ljust(size, b".")
        self.said += 1
        on = {m.identity: m.state for m in self.owner.record.members}
        self.uncommitted.add(message)
        if self.own_turn(lambda: self.owner.send(message, self.now)):
            self.uncommitted.discard(message)
            for peer, state in on.items():
                self.members[peer].may.add(message)
                if state is not MemberState.AWAY and not self.members[peer].excused:
                    self.members[peer].must.append(message)

    def change(self, add: Collection[bytes], remove: Collection[bytes]) -> None:
        for peer in add:
            self.members[peer].excused = True  # until it has joined
        if self.own_turn(lambda: self.owner.change(add, remove, self.now, "a test")):
            for peer in remove:
                self.excuse(peer)

    def room(self) -> None:
        for member in self.owner.record.members:
            if member.state is MemberState.AWAY and self.members[member.identity].to.has_room():
                self.own_turn(lambda peer=member.identity: self.owner.room(peer, self.now))  # type: ignore[misc]

    # --- members

    def excuse(self, peer: bytes) -> None:
        member = self.members[peer]
        member.excused = True
        member.must = [message for message in member.must if message in member.inbox]

    def turn(self, peer: bytes, do: Callable[[], object]) -> bool:
        """Let this member do something, as `own_turn`."""
        member = self.members[peer]
        record: MemberRecord | None = None
        ended = False
        try:
            do()
            while member.listener and (event := member.listener.next_event()) is not None:
                match event:
                    case Post():
                        member.back.noted.append(event.letter)
                    case Persist():
                        record = event.record
                    case GroupMessage():
                        assert event.message not in self.uncommitted, "it is not on the owner's disk"
                        member.noted.append(event.message)
                    case GroupJoined():
                        member.excused = False
                    case GroupLost():
                        assert member.excused, "it can't have lost anything"
                    case GroupEnded():
                        ended = True
                    case _:
                        pass
            self.maybe_crash()
        except Crash:
            self.crash(peer)
            return False
        if ended:
            member.record, member.listener = "", None
        elif record is not None:
            member.record = record.to_json()
        member.inbox += member.noted
        member.back.letters.extend(member.back.noted)
        member.noted.clear()
        member.back.noted.clear()
        self.check(member)
        return True

    def check(self, member: Member) -> None:
        numbers = [int(message.split(b":")[0]) for message in member.inbox]
        assert numbers == sorted(set(numbers)), "twice, or out of order"
        assert set(member.inbox) <= member.may, "of a time in which it was no member"

    def crash(self, peer: bytes) -> None:
        member = self.members[peer]
        member.noted.clear()
        member.back.noted.clear()
        record = record_of(member.record) if member.record else None
        assert record is None or isinstance(record, MemberRecord)
        member.listener = None
        if record is not None:
            hears = self.hears(peer)
            member.listener = GroupListener.restore(record, OWNER, self.context, self.find(peer), self.now, hears)

    def post(self, peer: bytes) -> bool:
        """The oldest letter to this member arrives."""
        member = self.members[peer]
        if member.absent or not member.to.letters:
            return False
        letter = member.to.letters[0]

        def take() -> None:
            if member.listener is None:
                hears = self.hears(peer)
                member.listener = GroupListener.join(letter, OWNER, self.context, self.find(peer), self.now, hears)
                if member.listener is None and (answer := answer_unknown(letter)):
                    member.back.noted.append(answer)
            else:
                member.listener.receive_letter(letter, self.now)

        if self.turn(peer, take):
            member.to.letters.popleft()
        return True

    def answer(self, peer: bytes) -> bool:
        """The oldest letter from this member arrives."""
        member = self.members[peer]
        if member.absent or not member.back.letters:
            return False
        if self.own_turn(lambda: self.owner.receive_letter(peer, member.back.letters[0], self.now)):
            member.back.letters.popleft()
        return True

    def fragment(self, at: int, *, lose: bool = False, keep: bool = False, damage: bool = False) -> bool:
        """A fragment that is on its way arrives, or is lost, doubled, damaged."""
        if not self.air:
            return False
        peer, data = self.air[at % len(self.air)] if keep else self.air.pop(at % len(self.air))
        member = self.members[peer]
        if damage:
            changed = bytearray(data)
            changed[self.random.randrange(1, len(changed))] ^= 1 << self.random.randrange(8)
            data = bytes(changed)
        if not (lose or member.absent or member.deaf) and member.listener is not None:
            listener = member.listener
            self.turn(peer, lambda: listener.receive_frame(data, self.now))
        return True

    # --- a thief of the group's key

    def steal(self) -> None:
        self.stolen, self.thief_round, self.thief = self.owner.record.key, self.owner.record.number, {}

    def overhear(self, data: bytes) -> None:
        """She hears each fragment with some probability, and opens what she can."""
        if self.stolen is None or self.random.random() < 0.2:
            return
        frame = decode_frame(data)
        self.thief.setdefault(frame.seq, Assembly()).add(frame, self.now)
        while (whole := self.thief.get(self.thief_round & 255)) and whole.sealed:
            found = opened(self.stolen, self.thief_round, whole.sealed)
            if found is None:
                return
            del self.thief[self.thief_round & 255]
            self.stolen = next_key(self.stolen, self.thief_round, *found)
            self.thief_round += 1
            self.thief_has.append(found[1])

    # --- time and peace

    def timers(self) -> list[float]:
        machines = [self.owner, *(member.listener for member in self.members.values())]
        return [at for one in machines if one is not None and (at := one.get_timer()) is not None]

    def tick(self) -> None:
        self.own_turn(lambda: self.owner.handle_timer(self.now))
        for peer, member in self.members.items():
            if (listener := member.listener) is not None:
                self.turn(peer, lambda listener=listener: listener.handle_timer(self.now))  # type: ignore[misc]
            if (listener := member.listener) is not None:
                self.turn(peer, lambda listener=listener: listener.look(self.now))  # type: ignore[misc]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.tick()

    def flow(self) -> None:
        """All that is on its way arrives."""
        for _ in range(10_000):
            moved = self.fragment(0)
            for peer in self.members:
                moved |= self.post(peer) | self.answer(peer)
            if not moved:
                return
        raise AssertionError("it never falls silent")

    def heal(self) -> None:
        self.crashes = 0.0
        for member in self.members.values():
            member.absent = member.deaf = False
        for _ in range(40):
            self.flow()
            self.room()
            at = min(self.timers(), default=None)
            if at is None:
                break
            self.pass_time(max(0.0, at - self.now))
        else:
            raise AssertionError("deadlines that never end")
        for seconds in (0.0, limits.STEADY_S):
            self.pass_time(seconds)
            self.flow()
        self.say()
        self.flow()
        self.pass_time(limits.REPAIR_S)
        self.flow()
        on = {member.identity: member for member in self.owner.record.members}
        for peer, member in self.members.items():
            assert set(member.must) <= set(member.inbox), "lost"
            if peer in on:
                assert on[peer].state is MemberState.CURRENT
                assert member.listener is not None
                kept, own = member.listener.record, self.owner.record
                assert (kept.epoch, kept.number, kept.key) == (own.epoch, own.number, own.key), "apart"
