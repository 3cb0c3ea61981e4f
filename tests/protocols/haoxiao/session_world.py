"""A world for a pair of sessions: a network that loses, doubles, reorders and damages, disks, applications, a thief.

The driver of each end does what the docstring of `Session` asks for: events first, then frames; what a record counts is
written with it in one transaction. Everything else is up to the adversary, who also decides when a disk gets round to a
write. `World` checks the invariants of the design as it goes and raises `AssertionError` where one does not hold:

1. *Never lost, never twice, in order.* `every-message`: the inbox that is written with the record is at any moment a
   beginning of what the peer's application said, and in the end all of it. `every-W`: each message comes at least once
   and the first time in order, unless its sender crashed before it was acknowledged and before its record was on disk;
   a repetition has the Seq of the first time, one of the last W; only where both ends have crashed may a Seq come again
   with another message. As long as the sender has not crashed, the inbox is as in `every-message`. In both an (epoch,
   Seq) comes once, and without a gap within an epoch.
2. *Never apart.* Whenever the network delivers, both ends come to hold the same chains, have delivered everything, and
   fall silent: no frame on its way, no timer.
3. *Bounded.* What an end holds, in memory and in its record.
4. *Healing.* A thief of keys has exactly what she can compute from them and the frames that she heard: every frame of
   the accepted attempts, or both nonces of a resynchronisation from a key that she has.
5. *Forward.* `check_forward`: two checkpoints later no earlier key is in a record.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from session_thief import Edge, Eve

from bt_selfsecure.protocols.haoxiao.events import MessageDelivered, MessageReceived
from bt_selfsecure.protocols.haoxiao.frames import Profile, decode
from bt_selfsecure.protocols.haoxiao.record import Role, SessionRecord
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import StateChanged

MOST_ON_THE_WAY = 40
MOST_REMEMBERED = 400


@dataclass(frozen=True)
class Stored:
    """One transaction of a driver: the record, and what it counts."""

    record: SessionRecord
    inbox: tuple[bytes, ...]
    taken: int
    """How many of the application's messages are the session's."""


@dataclass
class End:
    """One end: its session, its driver, its disk, its application."""

    session: Session
    randbytes: Callable[[int], bytes]
    said: list[bytes] = field(default_factory=list)
    """What the application wants sent; on disk at once."""
    inbox: tuple[bytes, ...] = ()
    """Messages received, as the driver will write them with the next record."""
    handed: list[tuple[int, int, bytes]] = field(default_factory=list)
    """Every MessageReceived that ever was: (epoch, Seq, message). No crash takes it back."""
    taken: int = 0
    seq_of: dict[int, int] = field(default_factory=dict)
    """Row of `said` by Seq."""
    acknowledged: set[int] = field(default_factory=set)
    """Rows of `said` that the session reported as delivered."""
    excused: set[int] = field(default_factory=set)
    """Rows of `said` that `every-W` may lose with the crash of their sender."""
    queue: list[tuple[StateChanged[SessionRecord], Stored]] = field(default_factory=list)
    """Records that the driver was asked to write and has not begun to."""
    disk: list[Stored] = field(default_factory=list)
    """Any of these may be there after power loss, the last after a crash of the process."""
    writing: int | None = None
    """Token of the last one's sync, if that has not come back yet."""
    slow: bool = False
    crashes: int = 0


class World:
    """Two ends, 0 the initiator and 1 the responder, what is on the way, and everything that ever was on the air."""

    def __init__(
        self,
        profile: Profile,
        durability: Durability,
        checkpoint_rounds: int,
        *,
        seed: int,
        session_class: type[Session] = Session,
        omega: int = 3,
        hearing: float = 0.7,
    ) -> None:
        self.random = self.source(f"{seed} of the world")
        self.now = 0.0
        self.profile, self.durability = profile, durability
        self.config = SessionConfig(durability=durability, checkpoint_rounds=checkpoint_rounds, omega=omega)
        self.session_class = session_class
        self.on_the_way: list[tuple[int, bytes]] = []
        self.ever: list[tuple[int, bytes]] = []
        self.eves: list[Eve] = []
        self.hearing = hearing
        self.lineage: list[Edge] = []
        self.half_given: tuple[int, bytes] | None = None
        k0 = self.random.randbytes(32)
        self.ends = []
        for role in Role:
            randbytes = self.source(f"{seed} of the {role.value}").randbytes
            self.ends.append(
                End(session_class.start(profile, role, k0, self.config, EndpointContext(randbytes)), randbytes)
            )
        for i in (0, 1):
            self._settle(i)

    @staticmethod
    def source(seed: str) -> random.Random:
        """Randomness of the world, or of one end."""
        return random.Random(seed)

    # --- what may happen ----------------------------------------------------------------------------------------------

    def say(self, i: int) -> None:
        """The application of end i has one more message."""
        end = self.ends[i]
        number = len(end.said)
        end.said.append(f"{i}:{number}:".encode().ljust(number * 37 % 90, b"."))
        self._settle(i)

    def refuse(self, i: int) -> None:
        """End i's disk does not take a message, whose sender is told so: it is taken back and never comes."""
        session = self.ends[i].session
        if session.can_send:
            session.send(b"refused", self.now)
            while session.next_event() is not None:
                pass  # its record, which the disk does not take
            session.withdraw(self.now)
            self._settle(i)

    def deliver(self, which: int, *, keep: bool = False) -> None:
        """Any frame on the way arrives; with `keep`, a second copy of it stays on the way."""
        if self.on_the_way:
            which %= len(self.on_the_way)
            i, data = self.on_the_way[which] if keep else self.on_the_way.pop(which)
            self._receive(i, data)

    def drop(self, which: int) -> None:
        if self.on_the_way:
            self.on_the_way.pop(which % len(self.on_the_way))

    def damage(self, which: int, bit: int) -> None:
        """Any frame on the way arrives with one bit wrong."""
        if self.on_the_way:
            i, data = self.on_the_way.pop(which % len(self.on_the_way))
            self._receive(i, flipped(data, bit))

    def replay(self, i: int, which: int) -> None:
        """Anything that ever was on the air arrives at either end."""
        if self.ever:
            self._receive(i, self.ever[which % len(self.ever)][1])

    def inject(self, i: int, data: bytes) -> None:
        """Bytes of an outsider's own making."""
        self._receive(i, data)

    def peace(self, messages: int) -> None:
        """A while without an adversary: some messages each way, and whatever is on the way arrives in order."""
        for _ in range(messages):
            for i in (0, 1):
                self.say(i)
            for _ in range(20):
                self.deliver(0)

    def timeout(self, i: int) -> None:
        """End i's next timer runs out."""
        timer = self.ends[i].session.get_timer()
        if timer is not None:
            self.now = max(self.now, timer)
            self.ends[i].session.handle_timer(self.now)
            self._settle(i)

    def set_slow(self, i: int, slow: bool) -> None:
        """From now on end i's disk writes only at `write`, or at once again."""
        self.ends[i].slow = slow
        self._settle(i)

    def write(self, i: int) -> None:
        """End i's disk takes the next step: a sync comes back, or a write begins."""
        end = self.ends[i]
        if end.writing is not None:
            end.disk = end.disk[-1:]
            end.session.persisted(end.writing)
            end.writing = None
        elif end.queue:
            persist, stored = end.queue.pop(0)
            end.disk.append(stored)
            if persist.sync:
                end.writing = persist.token
        self._settle(i)

    def crash(self, i: int, *, power: bool = False, which: int = 0) -> None:
        """End i's process dies, or its power fails, and it starts again from what its disk then holds."""
        end = self.ends[i]
        possible = end.disk if power else end.disk[-2:] if end.writing is not None else end.disk[-1:]
        survivor = possible[which % len(possible)]
        end.disk, end.queue, end.writing = [survivor], [], None
        end.crashes += 1
        taken = end.taken
        end.inbox, end.taken = survivor.inbox, survivor.taken
        if self.durability is Durability.EVERY_W:  # what was not acknowledged goes with the writes that are lost
            end.taken, kept = taken, survivor.record.sending.messages
            end.excused |= {row for row in range(taken) if row not in end.acknowledged and end.said[row] not in kept}
        record = SessionRecord.from_json(survivor.record.to_json())
        assert record == survivor.record
        end.session = self.session_class.restore(record, self.config, EndpointContext(end.randbytes), self.now)
        self._settle(i)

    def rekey(self, ends: tuple[int, ...]) -> None:
        """An establishment gave a new K_0: to both ends, or to one only, for now."""
        k0 = self.random.randbytes(32)
        self.half_given = (1 - ends[0], k0) if len(ends) == 1 else None
        for i in ends:
            self._rekey(i, k0)

    def rekey_late(self) -> None:
        """The other end learns of the K_0 that so far only one had."""
        if self.half_given is not None:
            self._rekey(*self.half_given)
            self.half_given = None

    def _rekey(self, i: int, k0: bytes) -> None:
        self.ends[i].session.rekey(k0, self.now)
        self._settle(i)

    def steal(self, i: int, *, all_of_it: bool) -> None:
        """Eve gets K_i of the direction in which end i sends; or every key of it that is in the record."""
        state = self.ends[i].session.record.sending
        self.eves.append(Eve(state.chain, state.keys if all_of_it else (), direction=i))

    # --- the driver ---------------------------------------------------------------------------------------------------

    def _settle(self, i: int) -> None:
        """Events, disk, the application's next message, frames; until nothing moves."""
        end = self.ends[i]
        while True:
            while (event := end.session.next_event()) is not None:
                if isinstance(event, MessageReceived):
                    self._hand(i, event)
                elif isinstance(event, MessageDelivered):
                    end.acknowledged |= {end.seq_of[seq] for seq in event.rounds if seq in end.seq_of}
                if isinstance(event, StateChanged):
                    end.queue.append((event, Stored(event.record, end.inbox, end.taken)))
            if not end.slow and (end.queue or end.writing is not None):
                self.write_all(end)
            elif end.taken < len(end.said) and end.session.can_send:
                row, end.taken = end.taken, end.taken + 1
                end.seq_of[end.session.send(end.said[row], self.now)] = row
            else:
                break
        for data in end.session.frames_to_send(self.now):
            self._transmit(i, data)
        self.check_bounds(i)

    def write_all(self, end: End) -> None:
        """A disk that is not slow: every record is there at once."""
        persist, stored = end.queue[-1] if end.queue else (None, end.disk[-1])
        synced = end.writing is not None or any(each.sync for each, _ in end.queue)
        end.disk = [stored] if synced or not end.disk else [*end.disk, *(each for _, each in end.queue)]
        end.session.persisted(end.writing or 0 if persist is None else persist.token)
        end.queue, end.writing = [], None

    def _transmit(self, i: int, data: bytes) -> None:
        self.on_the_way.append((1 - i, data))
        del self.on_the_way[:-MOST_ON_THE_WAY]
        self.ever.append((1 - i, data))
        del self.ever[:-MOST_REMEMBERED]
        for eve in self.eves:
            if self.random.random() < self.hearing:
                eve.hear(i, data)

    def _receive(self, i: int, data: bytes) -> None:
        receiver = self.ends[i].session._receiver
        before = receiver.kept
        self.ends[i].session.receive_frame(data, self.now)
        if receiver.kept.chain.key != before.chain.key:
            self.lineage.append(Edge.between(1 - i, before, decode(data), receiver.kept.chain, receiver._response))
        self._settle(i)

    # --- the invariants -----------------------------------------------------------------------------------------------

    def _hand(self, i: int, event: MessageReceived) -> None:
        """Invariant 1, as far as one message goes."""
        end, sender = self.ends[i], self.ends[1 - i]
        assert event.message in sender.said, "a message that nobody sent"
        assert all((event.epoch, event.seq) != (epoch, seq) for epoch, seq, _ in end.handed), "an (epoch, Seq) twice"
        if end.handed:
            self._check_against_the_past(i, event)
        end.handed.append((event.epoch, event.seq, event.message))
        end.inbox += (event.message,)
        if self.durability is Durability.EVERY_MESSAGE or not sender.crashes:
            assert list(end.inbox) == sender.said[: len(end.inbox)], "lost, doubled or out of order"

    def _check_against_the_past(self, i: int, event: MessageReceived) -> None:
        handed, said = self.ends[i].handed, self.ends[1 - i].said
        first_time = {message: seq for _, seq, message in reversed(handed)}
        if event.message in first_time:
            assert event.seq == first_time[event.message], "a repetition under another Seq"
        else:
            assert said.index(event.message) > max(map(said.index, first_time)), "out of order"
        last_epoch, last_seq, _ = handed[-1]
        if last_epoch == event.epoch:
            assert event.seq == last_seq + 1, "a gap within an epoch"
        highest = max(first_time.values())
        assert event.seq > highest - self.config.checkpoint_rounds, "a Seq from more than W rounds ago"
        if event.seq <= highest and event.message not in first_time:
            assert self.durability is Durability.EVERY_W, "a Seq again, with another message"
            assert self.ends[0].crashes, "a Seq again, with another message"
            assert self.ends[1].crashes, "a Seq again, with another message"

    def check_bounds(self, i: int) -> None:
        """Invariant 3: nothing that an end holds grows without bound."""
        session, most = self.ends[i].session, 2 * self.config.checkpoint_rounds
        sender, receiver = session._sender, session._receiver
        assert len(sender._attempts) <= self.config.omega + 1
        assert len(sender._history) <= (most if self.durability is Durability.EVERY_W else 0)
        assert len(sender.kept.messages) <= most + 1
        assert len(session._out._frames) <= 5
        assert len(session._out.events) == 0
        assert len(sender.kept.keys) <= 4
        assert len(receiver.kept.keys) <= 5

    def heal(self) -> None:
        """Invariant 2: from now on everything arrives, disks write, timers run; and the two come together."""
        for i in (0, 1):
            self.set_slow(i, False)
        self._until_silent()
        for i in (0, 1):
            self.say(i)
        self._until_silent()
        self.check_agreement()

    def _until_silent(self) -> None:
        begin = self.now
        for _ in range(2000):
            timers = [(timer, i) for i in (0, 1) if (timer := self.ends[i].session.get_timer()) is not None]
            if self.on_the_way:
                self.deliver(0)
            elif timers:
                self.timeout(min(timers)[1])
            else:
                assert self.now - begin < 60, "it took more than a minute"
                return
        raise AssertionError("the two ends never fall silent")

    def check_agreement(self) -> None:
        """Both directions idle, same chains, everything delivered; and the thief has what she can have."""
        for i, j in ((0, 1), (1, 0)):
            sender, receiver = self.ends[i], self.ends[j]
            assert sender.session.can_send
            assert sender.session._sender.kept.chain == receiver.session._receiver.kept.chain, "keys are apart"
            heard = {message for _, _, message in receiver.handed}
            missing = {row for row, message in enumerate(sender.said) if message not in heard}
            assert missing <= sender.excused, f"lost: {missing - sender.excused}"
            if self.durability is Durability.EVERY_MESSAGE or not sender.crashes:
                assert list(receiver.inbox) == sender.said
            assert len(sender.session.record.to_json()) < 2500
        for eve in self.eves:
            eve.check(self.lineage)

    def check_forward(self) -> None:
        """Invariant 5, from two ends that agree: two checkpoints later no earlier key is in a record."""
        old = {key for end in self.ends for key in self._keys_of(end)}
        for _ in range(2 * self.config.checkpoint_rounds + 1):
            for i in (0, 1):
                self.say(i)
            self._until_silent()
        for end in self.ends:
            assert not [key for key in old if key.hex() in end.disk[-1].record.to_json()], "an old key is still on disk"

    @staticmethod
    def _keys_of(end: End) -> set[bytes]:
        """Every key in the record, but for a K_0 that the peer was not seen to have."""
        sending, receiving = end.session.record.sending, end.session.record.receiving
        return {*sending.keys, *receiving.keys} - {sending.offer, receiving.offer}


def flipped(data: bytes, bit: int) -> bytes:
    """The same with one bit wrong."""
    bit %= len(data) * 8
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
