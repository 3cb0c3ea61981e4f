"""An adversary who has keys and speaks: a thief of K_i or of an old checkpoint, a false first peer, a disk's owner.

What she says is authentic: while her keys are in use she is the peer, and what `World` holds of messages does
not hold. This does, at any moment:

1. *Bounded.* A sender's round is one that it has sent, but for what a restored one may have forgotten; a receiver's is
   at most one that a sender may begin with. What is written is read again, and nothing that she says raises anything.
2. *No way back.* In `every-message` nobody goes over to a key from before K_{i-1}; in `every-W` it is told.
3. *Whose key.* The continuity key in force changes at a K_0 of an establishment and at nothing else.
4. *Healing.* With the next K_0 that the two have alone all invariants of `World` hold again: what was said since comes
   once and in order, chains are equal, and both are silent. Nothing that she said before is left.
"""

from __future__ import annotations

import random

from session_schedules import Setting, random_step
from session_world import Stored, World

from bt_selfsecure.eve.haoxiao.attacks.speaking import SpeakingThief
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.events import MessageReceived
from bt_selfsecure.protocols.haoxiao.frames import Kind, decode, encode
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.record import Role, SessionRecord
from bt_selfsecure.protocols.haoxiao.session_config import Durability
from bt_selfsecure.protocols.haoxiao.suites import SUITES, NotAuthentic

FORGED = b"forged"
FIRST = limits.MAX_FIRST_ROUND
LIES = (0, 1, 2, 3, 7, 255, 256, 1 << 32, FIRST, FIRST + 1, (1 << 47) - 1, (1 << 48) - 1)


class InsiderWorld(World):
    """`stolen` are the keys that she has, by the direction: that in which end 0 or 1 sends."""

    def __init__(self, *args: object, **more: object) -> None:
        self.stolen: list[list[bytes]] = [[], []]
        self.spoken = 0
        self.restorations = [0, 0]
        self.k0s: set[bytes] = set()
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.k0s |= {each for end in self.ends for each in end.session.record.continuity_keys}

    # --- her hands ----------------------------------------------------------------------------------------------------

    def rob(self, i: int) -> None:
        """End i's disk as it is at this moment: every key in it."""
        record = self.ends[i].disk[-1].record
        self.stolen[i] += record.sending.keys
        self.stolen[1 - i] += record.receiving.keys

    def be_first(self, i: int) -> None:
        """End i agrees on a K_0 with her."""
        k0 = self.random.randbytes(32)
        self._rekey(i, k0)
        suite, role = SUITES[self.profile], self.ends[i].session.role
        self.stolen[i].append(suite.chain_key(k0, role.label))
        self.stolen[1 - i].append(suite.chain_key(k0, role.peer.label))

    def speak(self, i: int, rng: random.Random) -> None:
        """One authentic frame to end i, by one of her keys."""
        end = self.ends[i].session
        suite, lie = SUITES[self.profile], rng.choice(LIES)
        lie = rng.choice((lie, end.record.sending.chain.seq + lie, end.record.receiving.chain.seq + lie)) % (1 << 48)
        to_sender = rng.random() < 0.5
        keys = self.stolen[i if to_sender else 1 - i]
        if not keys:
            return
        self.spoken += 1
        key = rng.choice(keys)
        thief = SpeakingThief(suite, key, rng.randbytes)
        asked = [data for to, data in self.ever if to == 1 - i]
        requests = [data for data in asked if decode(data).kind is Kind.RESYNC_REQUEST]
        calls = [data for data in asked if decode(data).kind is Kind.RESYNC_CALL]
        match rng.randrange(3):
            case 0 if to_sender:
                self._receive(i, thief.call())
            case 1 if to_sender and requests:
                self._receive(i, thief.response(requests[-1], lie))
            case 2 if to_sender:
                self._acknowledge(i, key)
            case 0 | 1 if calls:
                self._receive(i, thief.request(calls[-1], lie, rng.choice((0, 1, 100, 65535))))
            case _:
                chain = Chain(suite, key, end.record.receiving.chain.seq, 1, 0, (key,))
                self._receive(i, encode(chain.seal(FORGED, 0, rng.randbytes)[0]))

    def _acknowledge(self, i: int, key: bytes) -> None:
        """In the receiver's place: acknowledge what end i has sent last."""
        chain = Chain(SUITES[self.profile], key, self.ends[i].session.record.sending.chain.seq, 1, 0, (key,))
        for to, data in reversed(self.ever):
            frame = decode(data)
            if to == 1 - i and frame.kind is Kind.DATA:
                try:
                    message, attempt = chain.open(frame)
                except NotAuthentic:
                    continue
                return self._receive(i, chain.suite.acknowledgement(attempt, chain.rolled(attempt, message).alpha))
        return None

    # --- the driver, and what holds -----------------------------------------------------------------------------------

    def crash(self, i: int, *, power: bool = False, which: int = 0) -> None:
        self.restorations[i] += 1
        super().crash(i, power=power, which=which)

    def _rekey(self, i: int, k0: bytes) -> None:
        self.k0s.add(SUITES[self.profile].continuity_key(k0))
        super()._rekey(i, k0)

    def _receive(self, i: int, data: bytes) -> None:
        session = self.ends[i].session
        before = session.record
        session.receive_frame(data, self.now)
        if self.durability is Durability.EVERY_MESSAGE:
            self._check_no_way_back(before, session.record)
        self._settle(i)

    def _check_no_way_back(self, before: SessionRecord, after: SessionRecord) -> None:
        """Invariant 2: whoever goes over to a fresh key goes on from one of the newest."""
        for old, new in ((before.sending, after.sending), (before.receiving, after.receiving)):
            resumed = new.chain.checkpoints[0]
            if new.chain.key != old.chain.key and new.chain.alpha == 0 and resumed not in old.chain.checkpoints:
                assert resumed in old.newest, "an old key lives again"

    def _hand(self, i: int, event: MessageReceived) -> None:
        end = self.ends[i]
        if event.message != FORGED:
            # One of hers may have come under a key that she has read from a disk which then forgot it.
            assert all((event.epoch, event.seq) != (epoch, seq) for epoch, seq, _ in end.handed), (
                "an (epoch, Seq) twice"
            )
            end.handed.append((event.epoch, event.seq, event.message))
        end.inbox += (event.message,)

    def check_bounds(self, i: int) -> None:
        super().check_bounds(i)
        end, record = self.ends[i], self.ends[i].session.record
        forgotten = 1 if self.durability is Durability.EVERY_MESSAGE else 2 * self.config.checkpoint_rounds
        sent = len(end.said) + self.refused + forgotten * (self.restorations[i] + 1)
        assert record.sending.chain.seq <= sent, "a sender's round that it can't have come to"
        most = (
            limits.MAX_FIRST_ROUND
            + (3 + 2 * self.config.checkpoint_rounds) * self.spoken
            + len(self.ends[1 - i].said)
            + self.refused
        )
        assert record.receiving.chain.seq <= most + 2 * self.config.checkpoint_rounds * (self.restorations[i] + 1)
        assert SessionRecord.from_json(record.to_json()) == record
        assert not self.k0s or {*record.continuity_keys} <= self.k0s, "a continuity key of no K_0"

    refused = 0

    def refuse(self, i: int) -> None:
        self.refused += 1
        super().refuse(i)

    def heal_with_a_new_k0(self) -> None:
        """Invariant 4."""
        for i in (0, 1):
            self.set_slow(i, False)
            self.ends[i].seq_of.clear()
        self.on_the_way.clear()
        k0 = self.random.randbytes(32)
        for i, role in enumerate(Role):
            self.k0s.add(SUITES[self.profile].continuity_key(k0))
            self.ends[i].session.rekey(k0, self.now, role)
            self._settle(i)
        self._until_silent()
        for end in self.ends:  # a new life: what was said before is as she left it
            end.said, end.inbox, end.taken, end.crashes = [], (), 0, 0
            end.handed, end.seq_of = [], {}
            end.acknowledged, end.excused = set(), set()
            end.disk = [Stored(end.session.record, (), 0)]
            record = end.session.record
            assert record.continuity_keys == tuple(key for key in [SUITES[self.profile].continuity_key(k0)] if key)
        for name in ("_hand", "_receive", "check_bounds"):
            setattr(self, name, getattr(World, name).__get__(self))
        for _ in range(3):
            self.heal()


def run_insider_schedule(seed: int, steps: int = 60) -> InsiderWorld:
    """One whole schedule: a random adversary who has keys, then a new K_0, a network that delivers, and everything."""
    rng = random.Random(seed)
    setting = Setting.draw(rng)
    world = InsiderWorld(setting.profile, setting.durability, setting.checkpoint_rounds, seed=seed)
    for i in (0, 1):
        world.set_slow(i, setting.slow_disks)
    for _ in range(rng.randrange(steps)):
        i = rng.randrange(2)
        match rng.randrange(8):
            case 0:
                world.rob(i)
            case 1 if rng.random() < 0.3:
                world.be_first(i)
            case 2 | 3 | 4:
                world.speak(i, rng)
            case _:
                random_step(world, setting, rng)
    world.eves.clear()
    world.heal_with_a_new_k0()
    return world
