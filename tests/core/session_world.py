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

from bt_selfsecure.core.events import MessageDelivered, MessageReceived, Persist
from bt_selfsecure.core.frames import Frame, Kind, Profile, decode
from bt_selfsecure.core.keychain import Chain
from bt_selfsecure.core.recovery import Durability, ReceivingState, Role, SessionConfig, SessionRecord, common_keys
from bt_selfsecure.core.session import Session
from bt_selfsecure.core.suites import NotAuthentic

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
    queue: list[tuple[Persist, Stored]] = field(default_factory=list)
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
            self.ends.append(End(session_class.start(profile, role, k0, self.config, randbytes), randbytes))
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
        end.session = self.session_class.restore(record, self.config, end.randbytes, self.now)
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
                if isinstance(event, Persist):
                    end.queue.append((event, Stored(event.record, end.inbox, end.taken)))
                elif isinstance(event, MessageReceived):
                    self._hand(i, event)
                elif isinstance(event, MessageDelivered) and event.seq in end.seq_of:
                    end.acknowledged.add(end.seq_of[event.seq])
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
        assert len(session._out.events._events) == 0
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


# --- the thief --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edge:
    """How a receiver came from one key to the next, and what somebody must have heard to come with it."""

    direction: int
    parent: bytes
    child: bytes
    needed: tuple[bytes, ...]

    @classmethod
    def between(cls, direction: int, before: ReceivingState, frame: Frame, after: Chain, response: bytes) -> Edge:
        if frame.kind is Kind.DATA:
            return cls(direction, before.chain.key, after.key, (frame.mac + frame.message,))
        return cls(direction, common_keys(before, frame)[0], after.key, (frame.rand, response))


class Eve:
    """She holds some keys of one direction, hears some frames, and computes all that follows. She never speaks."""

    def __init__(self, chain: Chain, keys: tuple[bytes, ...], direction: int) -> None:
        self.direction = direction
        self.stolen = {chain.key, *keys}
        self.known = {key: Chain(chain.suite, key, chain.seq, 1) for key in self.stolen}
        self.heard: set[bytes] = set()
        self._data: list[Frame] = []
        self._requests: dict[bytes, Frame] = {}
        self._responses: list[Frame] = []

    def hear(self, sender: int, data: bytes) -> None:
        frame = decode(data)
        if frame.kind is Kind.DATA and sender == self.direction:
            self.heard.add(frame.mac + frame.message)
            self._data.append(frame)
        elif frame.kind is Kind.RESYNC_REQUEST and sender == self.direction:
            self.heard.add(frame.rand)
            self._requests[frame.rand] = frame
        elif frame.kind is Kind.RESYNC_RESPONSE and sender != self.direction:
            self.heard.add(data)
            self._responses.append(frame)
        else:
            return
        for chain in list(self.known.values()):
            self._follow(chain)

    def _follow(self, chain: Chain) -> None:
        """Every key that follows from this one and what was heard."""
        for frame in self._data:
            try:
                message, attempt = chain.open(frame)
            except NotAuthentic:
                continue
            self._learn(chain.rolled(attempt, message))
        for response in self._responses:
            request = self._requests.get(response.message[:16])
            if request is not None and chain.checkpoint_id(chain.key) == response.message[16:24]:
                seq = max(int.from_bytes(request.message[:8]), int.from_bytes(response.message[24:]))
                self._learn(chain.resumed(chain.key, request.rand + response.rand, seq))

    def _learn(self, chain: Chain) -> None:
        if chain.key not in self.known:
            self.known[chain.key] = chain
            self._follow(chain)

    def check(self, lineage: list[Edge]) -> None:
        """Invariant 4: she has a key of the receiver's exactly if she heard all that leads there from the stolen."""
        reached = set(self.stolen)
        edges = [edge for edge in lineage if edge.direction == self.direction]
        for edge in edges:
            if edge.parent in reached and self.heard.issuperset(edge.needed):
                reached.add(edge.child)
        for edge in edges:
            assert (edge.child in self.known) == (edge.child in reached), "the thief has more or less than she should"


# --- what outsiders send ----------------------------------------------------------------------------------------------


def flipped(data: bytes, bit: int) -> bytes:
    """The same with one bit wrong."""
    bit %= len(data) * 8
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def frames_of_strangers(profile: Profile) -> list[bytes]:
    """Well-made session frames of every kind, of a pair with another K_0."""
    world = World(profile, Durability.EVERY_MESSAGE, 2, seed=99)
    world.say(0)
    world.heal()
    world.crash(0)
    world.crash(1)
    world.heal()
    return [data for _, data in world.ever]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A frame with some of its bytes changed, cut, repeated or made longer."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        match rng.randrange(5):
            case 0 if out:
                out[rng.randrange(len(out))] = rng.randrange(256)
            case 1:
                del out[rng.randrange(len(out) + 1) :]
            case 2:
                out += rng.randbytes(rng.randrange(40))
            case 3 if out:
                out[0] = rng.choice((1, 2)) << 4 | rng.randrange(16)
            case _:
                start = rng.randrange(len(out) + 1)
                out[start:start] = out[: rng.randrange(24)]
    return bytes(out)


# --- schedules --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """What is fixed in one schedule."""

    profile: Profile
    durability: Durability
    checkpoint_rounds: int
    loss: float
    crashes: float
    attacks: float
    slow_disks: bool

    @classmethod
    def draw(cls, rng: random.Random) -> Setting:
        return cls(
            rng.choice(list(Profile)),
            rng.choice(list(Durability)),
            rng.choice((1, 2, 3, 8)),
            rng.choice((0.0, 0.1, 0.4, 0.7)),
            rng.choice((0.0, 0.02, 0.15)),
            rng.choice((0.0, 0.1, 0.3)),
            rng.random() < 0.4,
        )


def run_schedule(seed: int, steps: int = 80) -> World:
    """One whole schedule: a random adversary, then a network that delivers, then all invariants."""
    rng = random.Random(seed)
    setting = Setting.draw(rng)
    world = World(setting.profile, setting.durability, setting.checkpoint_rounds, seed=seed)
    for i in (0, 1):
        world.set_slow(i, setting.slow_disks)
    for _ in range(rng.randrange(steps)):
        random_step(world, setting, rng)
    world.heal()
    if seed % 8 == 0:
        world.check_forward()
    return world


def random_step(world: World, setting: Setting, rng: random.Random) -> None:
    i, which = rng.randrange(2), rng.randrange(1 << 30)
    roll = rng.random()
    if roll < setting.crashes:
        world.crash(i, power=rng.random() < 0.5, which=which)
    elif roll < setting.crashes + setting.attacks:
        attack(world, rng)
    elif rng.random() < 0.25:
        world.say(i)
    elif rng.random() < 0.12:
        world.timeout(i)
    elif rng.random() < 0.05:
        world.rekey(rng.choice(((0, 1), (0,), (1,)))) if rng.random() < 0.6 else world.rekey_late()
    elif rng.random() < 0.04:
        world.peace(rng.randrange(1, 2 * setting.checkpoint_rounds + 2))
    elif rng.random() < 0.04:
        world.steal(i, all_of_it=rng.random() < 0.5)
    elif rng.random() < 0.1:
        world.set_slow(i, rng.random() < (0.7 if setting.slow_disks else 0.3))
    elif any(end.slow for end in world.ends) and rng.random() < 0.5:
        for _ in range(rng.randrange(1, 5)):
            world.write(i)
    elif rng.random() < setting.loss:
        world.drop(which)
    else:
        in_order = rng.random() < 0.6
        world.deliver(0 if in_order else which, keep=rng.random() < 0.1)


def attack(world: World, rng: random.Random) -> None:
    """One thing that an outsider, or the weather, can do."""
    i, which = rng.randrange(2), rng.randrange(1 << 30)
    match rng.randrange(5):
        case 0:
            world.damage(which, rng.randrange(1 << 20))
        case 1 | 2:
            world.replay(i, which)
        case 3 if world.ever:
            world.inject(i, mutated(rng.choice(world.ever)[1], rng))
        case _:
            world.inject(i, rng.choice(STRANGERS[world.profile]))


STRANGERS = {profile: frames_of_strangers(profile) for profile in Profile}
