"""Nodes on virtual Pis: what a round costs against a plain echo on the same link, memory, start-up.

A virtual Pi's CPU is emulated, some 70 times slower at Python than the computer it runs on, while its radio keeps the
air's real slots; no Pi is like that. So what is held is the node's work for a round on this computer's own CPU against
the time of an echo on the air, and the ratio on the machines is only shown.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1] / "tests"
sys.path += [str(TESTS / "lab"), str(TESTS / "node")]
from lab_nodes import Nodes  # noqa: E402
from node_world import World, connected  # noqa: E402
from running_lab import RunningLab  # noqa: E402

PROGRAM = Path(__file__).with_name("rounds_on_machines.py")
BLOCKS = 10
ROUNDS = 1000
SLOWER_AT_MOST = 0.15
IDLE_KIB = 60 << 10
BUSY_KIB = 64 << 10
BOOT_S = 25.0
READY_S = 40.0
"""On an emulated CPU."""
NAMES = ("alice", "bob", "carol", "dave")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    lab = RunningLab(tmp_path_factory.mktemp("lab") / "lab", NAMES, ())
    lab.set_loss()
    yield lab
    lab.end()


def medians(lab: RunningLab, durability: str) -> dict[str, float]:
    """Milliseconds of a round, by way."""

    def run(name: str, other: str) -> str:
        words = f"{name} {other} {lab.address(other)} {durability} {BLOCKS}"
        return lab.run(name, f"exec python {PROGRAM} {words}", timeout=300).check()

    with ThreadPoolExecutor(2) as pool:
        alice, bob = pool.submit(run, "alice", "bob"), pool.submit(run, "bob", "alice")
        bob.result()
        seconds: dict[str, list[float]] = json.loads(alice.result().splitlines()[-1])
    return {way: 1000 * statistics.median(times) for way, times in seconds.items()}


def work_of_a_round(folder: Path, durability: str) -> float:
    """Milliseconds of this computer's CPU for both nodes' share of one message, in memory's air."""

    async def main() -> float:
        world = World(folder, session__durability=durability)
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            began = time.process_time()
            for number in range(ROUNDS):
                await alice.send("bob", bytes(64), until="acknowledged")
                if number % 100 == 0:
                    async for received in bob.inbox(None, 0, follow=False):
                        bob.acknowledge(received.id)
            return 1000 * (time.process_time() - began) / ROUNDS

    return asyncio.run(main())


@pytest.mark.parametrize("durability", ["every-W", "every-message"])
def test_a_nodes_round_takes_little_more_than_an_echo(lab: RunningLab, tmp_path: Path, durability: str) -> None:
    on_machines = medians(lab, durability)
    work = work_of_a_round(tmp_path, durability)
    echo = on_machines["echo"]
    print(f"\n{durability}: medians on virtual Pis", {way: f"{ms:.1f} ms" for way, ms in on_machines.items()})
    print(f"slower there: session {on_machines['session'] / echo - 1:.0%}, node {on_machines['node'] / echo - 1:.0%}")
    print(f"work of both nodes on this CPU: {work:.2f} ms, {work / echo:.1%} of the echo")
    assert work / echo <= SLOWER_AT_MOST


def test_three_machines_are_up_soon(tmp_path: Path) -> None:
    began = time.monotonic()
    lab = RunningLab(tmp_path / "lab", NAMES[:3], ())
    took = time.monotonic() - began
    lab.end()
    print(f"\nthree machines with their adapters up in {took:.1f} s")
    assert took < BOOT_S


def test_memory_and_start_up(lab: RunningLab) -> None:
    nodes = Nodes(lab)
    nodes.begin(pairs=lambda one, other: "alice" in (one, other), discover=True)
    for other in NAMES[1:]:
        nodes.wait_for("alice", other, lambda peer: peer["state"] == "connected", 240)
    busy, _ = nodes.resident("alice")
    nodes.end()
    began = time.monotonic()
    nodes.start("alice")
    while not nodes.status("alice")["peers"]:
        assert time.monotonic() - began < 10 * READY_S
        time.sleep(0.2)
    ready = time.monotonic() - began
    time.sleep(20)
    idle, child = nodes.resident("alice")
    print(f"\nresident: {idle / 1024:.1f} MiB idle, {busy / 1024:.1f} MiB with three peers; ready in {ready:.1f} s")
    print(f"and {child / 1024:.1f} MiB, partly the same pages, in the process that advertises through bluezero")
    assert idle < IDLE_KIB
    assert busy < BUSY_KIB
    assert ready < READY_S
