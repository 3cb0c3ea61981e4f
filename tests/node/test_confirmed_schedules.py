"""No schedule replaces the key of a confirmed peer by one without continuity: ends that lose their disks or get old
copies of them, or are somebody else under the same address, and persons who compare at any moment.

    SCHEDULES=100000 SCHEDULE_SEED=7000000 pytest -m long tests/node/test_confirmed_schedules.py
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from many_schedules import failures, run_many
from peer_ends import Disk
from peer_world import PeerWorld

from bt_selfsecure.protocols.haoxiao.session_config import Durability


class Watched:
    """A world in which each key of a confirmed peer is looked at, from the disk and from memory."""

    def __init__(self, seed: int, seen: Counter[str] | None = None) -> None:
        self.draw = random.Random(seed)
        bearer = self.draw.choice(("rfcomm", "le_advert", "l2cap"))
        self.world = PeerWorld(self.draw.choice(list(Durability)), seed=seed, establish_bearer=bearer)
        self.seen = Counter[str]() if seen is None else seen
        self.good: list[set[str] | None] = [None, None]
        """Fingerprints of the confirmed key of each end, and of those that have continuity with it."""
        self.copies: list[list[Disk]] = [[], []]
        self.allows = [False, False]
        """A person waits, who allows one key without continuity."""

    def step(self) -> None:
        world, draw = self.world, self.draw
        i, end = draw.randrange(2), world.ends[draw.randrange(2)]
        which = world.ends.index(end)
        may: list[tuple[float, Callable[[], Any]]] = [
            (40, partial(world.deliver, i, lose=draw.random() < 0.1)),
            (10, partial(world.timeout, i)),
            (15, partial(world.pass_time, draw.choice((0.3, 3.0, 30.0)))),
            (4, partial(world.establish, i)),
            (2, partial(self.wait, i)),
            (1, partial(world.cut, i)),
            (2, partial(world.write, i)),
            (1, partial(world.crash, i, power=draw.random() < 0.5)),
            (1, partial(self.swap, i)),
            (1, partial(self.copy, i)),
            (6, partial(self.confirm, i)),
            (0.5, partial(self.doubt, i)),
            (0.5, partial(world.give_up, i)),
            (20 * bool(end.dials), partial(world.dial_over, which, good=draw.random() < 0.9)),
            (20 * bool(end.downs), partial(world.down, which)),
            (20 * end.gathers, partial(world.gathered, which)),
            (30 * bool(end.bursts), partial(world.burst_sent, which, lose=draw.random() < 0.1)),
            (20 * (end.radio == "asked"), partial(world.radio, which, good=draw.random() < 0.9)),
        ]
        draw.choices([do for _, do in may], [weight for weight, _ in may])[0]()
        self.check()

    def wait(self, i: int) -> None:
        """A person waits for the other end to begin."""
        self.world.ends[i].key_wishes += 1
        self.world.ends[i].machine.establish(self.world.now, wait=True)
        self.world.act(i)

    def copy(self, i: int) -> None:
        self.copies[i].append(self.world.ends[i].written)

    def swap(self, i: int) -> None:
        """Another device has this address, or this one an empty disk, or an old one."""
        end = self.world.ends[i]
        end.written = end.synced = self.draw.choice([Disk(), Disk(), *self.copies[i]])
        self.world.crash(i)
        self.good[i] = set() if end.machine.trust.is_confirmed else None
        if self.good[i] is not None:
            self.good[i] = {facts["fingerprint"] for facts in self.keys(i)}

    def confirm(self, i: int) -> None:
        machine = self.world.ends[i].machine
        own = machine.session.key.facts.get("sas", "")
        why = machine.confirm(own if self.draw.random() < 0.9 else "", "jane", self.world.now)
        self.world.act(i)
        if not why:
            assert own, "without a string nothing is compared"
            self.seen["confirmed"] += 1
            self.good[i] = {machine.session.key.facts["fingerprint"]}
        assert not machine.session.key.facts.get("sas") or machine.session.key.offered

    def doubt(self, i: int) -> None:
        """A person allows a key without continuity."""
        self.world.ends[i].key_wishes += 1
        self.world.ends[i].machine.establish(self.world.now, without_continuity=True)
        self.allows[i] = True
        self.world.act(i)

    def keys(self, i: int) -> list[dict[str, Any]]:
        session = self.world.ends[i].machine.session
        return [facts for facts in (session.key.facts, session.key.offered) if facts]

    def check(self) -> None:
        for i, end in enumerate(self.world.ends):
            good, trust = self.good[i], end.machine.trust
            self.seen["refused"] += bool(good) and trust.told(0.0)["refused"] > 0
            new = [facts for facts in self.keys(i) if good is not None and facts["fingerprint"] not in good]
            if new and not all(facts["continuity"] for facts in new):
                assert self.allows[i], "a key from nowhere in the place of a confirmed one"
                self.good[i], self.allows[i] = None, False
                self.seen["allowed"] += 1
            elif good is not None:
                good.update(facts["fingerprint"] for facts in new)
                self.seen["renewed"] += len(new)
            if self.allows[i] and not end.key_wishes:
                self.allows[i] = False
                self.seen["stayed"] += good is not None
            assert trust.is_confirmed is (self.good[i] is not None), "what a person allowed takes it, or nothing"


def run_schedule(seed: int, steps: int = 300, seen: Counter[str] | None = None) -> None:
    watched = Watched(seed, seen)
    for _ in range(steps):
        watched.step()


def test_no_schedule_replaces_the_key_of_a_confirmed_peer() -> None:
    seen = Counter[str]()
    assert failures(partial(run_schedule, seen=seen), 20_000_000, 60) == []
    assert min(seen[what] for what in ("confirmed", "refused", "renewed", "stayed")) > 10, seen
    assert seen["allowed"], seen


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_no_schedule_of_many_replaces_the_key_of_a_confirmed_peer(capsys: pytest.CaptureFixture[str]) -> None:
    which, told = run_many(run_schedule, 2000)
    with capsys.disabled():
        print(f"\n  {which}: {len(told)} failed", end=" ")
    assert told == []
