"""Nodes on virtual Pis: what a round costs against a plain echo on the same link, memory, start-up.

Where its kernel is a program, or KVM runs it, a virtual Pi's CPU is this computer's; but each system call, and each
look at the clock, takes a kernel that is a program 60 us, and not 0.3 (measured), so a node's part of a round is larger
there than on a Pi. An emulated CPU is 15 to 25 times slower at Python, while the radio keeps the air's real slots; the
bounds hold there, too.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tests" / "lab"))
from lab_nodes import Nodes
from running_lab import RunningLab

PROGRAM = Path(__file__).with_name("rounds_on_machines.py")
BLOCKS = 10
IDLE_KIB = 60 << 10
BUSY_KIB = 64 << 10
BOOT_S = 25.0
READY_S = 40.0
"""Where the CPU is emulated; else 4."""
NAMES = ("alice", "bob", "carol", "dave")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    lab = RunningLab(tmp_path_factory.mktemp("lab") / "lab", NAMES, ())
    lab.set_loss()
    yield lab
    lab.end()


def measured(lab: RunningLab, durability: str) -> dict[str, list[float]]:
    """Milliseconds of each round, by way."""

    def run(name: str, other: str) -> str:
        words = f"{name} {other} {lab.address(other)} {durability} {BLOCKS}"
        return lab.run(name, f"exec python {PROGRAM} {words}", timeout=300).check()

    with ThreadPoolExecutor(2) as pool:
        alice, bob = pool.submit(run, "alice", "bob"), pool.submit(run, "bob", "alice")
        bob.result()
        seconds: dict[str, list[float]] = json.loads(alice.result().splitlines()[-1])
    return {way: [1000 * second for second in times] for way, times in seconds.items()}


def times_an_echo(ms: dict[str, float]) -> str:
    told = {way: f"{each / ms['echo']:.2f}" for way, each in ms.items()}
    return f"session {told['session']}, node {told['node']}, a bare commit at each end {told['disk']}"


@pytest.mark.parametrize(("durability", "most"), [("every-W", 2.0), ("every-message", 3.0)])
def test_a_round_between_two_kernels_gets_no_slower(lab: RunningLab, durability: str, most: float) -> None:
    times = measured(lab, durability)
    median = {way: statistics.median(each) for way, each in times.items()}
    tenth = {way: statistics.quantiles(each, n=10)[0] for way, each in times.items()}
    print(f"\n{durability}: medians on virtual Pis", {way: f"{ms:.1f} ms" for way, ms in median.items()})
    print(f"times an echo: {times_an_echo(median)}; of the tenth that was disturbed least: {times_an_echo(tenth)}")
    assert median["node"] <= most * median["echo"]


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
