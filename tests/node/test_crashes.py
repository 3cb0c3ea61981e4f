"""Daemons that die at any moment, in any order, at both ends: what was taken comes once, in order, and keys agree.

In `every-W` a receiver that dies forgets up to W rounds, and its sender repeats them from memory. So where both die
they may be lost: no more than that, never in `every-message`, and never where one end goes on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node_world import World, connected, fingerprint, lossy, now, virtual

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.service import Node

OTHER = {"alice": "bob", "bob": "alice"}
COUNT = 60
PAUSE = 0.05
W = 8
LULL = 300.0
"""Seconds without a message, when all were sent: what has not come is lost."""
Part = tuple[int, int]
"""A message's number, and which attempt at sending it this was."""

crashes = st.lists(st.tuples(st.sampled_from(sorted(OTHER)), st.floats(0, 4), st.floats(0, 2)), max_size=8)
"""Who, so many seconds after the last one was back, down for how long."""


class Crashing(World):
    """What a node had given to the kernel outlives it; a ghost that still runs has no effect."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.taken: dict[str, list[Part]] = {name: [] for name in OTHER}
        self.came: dict[str, list[Part]] = {name: [] for name in OTHER}
        self._newest = dict.fromkeys(OTHER, 0)

    async def crash(self, name: str) -> None:
        ghost = self.nodes.pop(name)
        kept = self.folder / f"{name}.kept"
        shutil.copytree(self.folder / name, kept)
        lose, self.air.lose = self.air.lose, lambda datagram: True
        await ghost.stop()
        self.air.lose = lose
        shutil.rmtree(self.folder / name)
        kept.rename(self.folder / name)

    async def send_numbers(self, name: str) -> None:
        """A number whose fate is not known is sent again, as another attempt."""
        for number in range(COUNT):
            attempt = 0
            while not await self._takes(name, (number, attempt)):
                attempt += 1
                await asyncio.sleep(PAUSE)
            self.taken[name].append((number, attempt))

    async def _takes(self, name: str, part: Part) -> bool:
        node = self.nodes.get(name)
        if node is None:
            return False
        try:
            text = "{} {} ".format(*part).encode()
            await node.send(OTHER[name], text.ljust(20 if part[0] % 10 else 9000))
        except BtSelfSecureError:
            return False
        return self.nodes.get(name) is node

    async def receive_numbers(self, name: str) -> None:
        came, moved = self.came[name], now()
        while COUNT - 1 not in {number for number, _ in came} and now() - moved < LULL:
            before, node = len(came), self.nodes.get(name)
            if node:
                await self._read(name, node)
            if len(came) > before or len(self.taken[OTHER[name]]) < COUNT:
                moved = now()
            await asyncio.sleep(PAUSE)

    async def _read(self, name: str, node: Node) -> None:
        async for received in node.inbox(None, 0, follow=False):
            if self.nodes.get(name) is not node:
                return
            if received.id > self._newest[name]:
                self._newest[name] = received.id
                number, attempt = map(int, received.message.split()[:2])
                self.came[name].append((number, attempt))
            node.acknowledge(received.id)

    def judge(self, may_repeat: Collection[str], may_lose: int) -> None:
        """`may_repeat`: whose readers may have been shown messages again; `may_lose`: messages of each end."""
        for name, other in OTHER.items():
            came = self.came[other]
            first = list(dict.fromkeys(came))
            assert first == sorted(first), "out of order"
            assert came == first or other in may_repeat, "twice"
            assert len(set(self.taken[name]) - set(came)) <= may_lose, "lost"
            assert [number for number, _ in self.taken[name]] == list(range(COUNT))


def run(folder: Path, plan: list[tuple[str, float, float]], loss: float, durability: str, seed: int) -> None:
    world = Crashing(folder, loss=loss, seed=seed, session__durability=durability, session__checkpoint_rounds=W)

    async def main() -> None:
        for name, other in OTHER.items():
            await world.start(name, other)
        works = [
            asyncio.create_task(work)
            for name in OTHER
            for work in (world.send_numbers(name), world.receive_numbers(name))
        ]
        for name, pause, down in plan:
            await asyncio.sleep(pause)
            await world.crash(name)
            await asyncio.sleep(down)
            await world.start(name, OTHER[name])
        async with asyncio.timeout(3600):
            await asyncio.gather(*works)
        # In every-W a receiver that crashes forgets what it has delivered since its last commit.
        crashed = {name for name, _, _ in plan} if durability == "every-W" else set()
        world.judge(crashed, W * len(plan) if len(crashed) == 2 else 0)
        alice, bob = (world.nodes[name] for name in ("alice", "bob"))
        await connected(alice, bob)
        assert fingerprint(alice, "bob") == fingerprint(bob, "alice")
        world.air.lose = lossy(0, 0) or (lambda datagram: False)
        settled = now()
        await alice.send("bob", b"at last", until="acknowledged")
        assert now() - settled < 60
        await world.close()

    virtual(main())


CASES = given(
    plan=crashes,
    loss=st.sampled_from([0.0, 0.1, 0.3]),
    durability=st.sampled_from(["every-message", "every-W"]),
    seed=st.integers(0, 1_000_000),
)


def in_memory(**case: Any) -> None:
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        run(Path(folder), **case)


@pytest.mark.parametrize("durability", ["every-message", "every-W"])
def test_both_ends_die_within_a_second(durability: str) -> None:
    """A plan in which `every-W` at W = 64 lost a message of three fragments, two of which its receiver had."""
    in_memory(
        plan=[("alice", 0.0, 0.0), ("bob", 1.5, 1.0), ("alice", 0.0, 0.0)], loss=0.1, durability=durability, seed=0
    )


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@CASES
def test_no_schedule_of_crashes_loses_or_doubles_a_message(**case: Any) -> None:
    in_memory(**case)


@pytest.mark.long
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@CASES
def test_no_schedule_of_crashes_loses_or_doubles_a_message_at_length(**case: Any) -> None:
    in_memory(**case)
