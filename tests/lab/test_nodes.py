"""Two real nodes on virtual Pis: keys from losses, messages under them, and whatever happens to Pis."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab_nodes import Nodes, node_status
from running_lab import RunningLab

from bt_selfsecure.lab.client import LabError

pytestmark = pytest.mark.lab

PAIRS = (("alice", "bob"), ("bob", "alice"))
HALF = 0.5
"""Of the kills come while messages flow, the others in a start too. An emulated machine starts more slowly than plugs
are pulled, so these wait."""


@pytest.fixture
def nodes(lab_of: Callable[..., RunningLab]) -> Nodes:
    return Nodes(lab_of("alice", "bob"))


def exchange(nodes: Nodes, count: int, longest: int = 5000, seconds: float = 900) -> None:
    """`count` messages each way at once, judged."""
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(nodes.traffic, *pair, count, longest, seconds) for pair in PAIRS]:
            job.result()
    nodes.judge("alice", "bob", count)
    nodes.judge("bob", "alice", count)


def assert_same_key(nodes: Nodes) -> None:
    fingerprints = {nodes.peer(*pair)["key"]["fingerprint"] for pair in PAIRS}
    assert len(fingerprints) == 1


def test_a_key_from_lost_advertisements_a_session_over_rfcomm_and_a_file_through_the_pipe(nodes: Nodes) -> None:
    nodes.lab.set_loss(alice=0.1, bob=0.1)
    nodes.begin("le_advert", "rfcomm", discover=True)
    nodes.wait_connected()
    assert_same_key(nodes)
    key = nodes.peer("bob", "alice")["key"]
    assert key["received"] < key["sent"]
    assert key["secret_bits"] >= 40
    assert "losses that both ends saw" in key["rests_on"]
    for name in ("alice", "bob"):  # Bob's is configured by its address
        assert node_status(nodes.lab, name)["adapter"] == "hci0"
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(
            nodes.lab.run, "bob", "bt-selfsecure pipe alice </dev/null >/tmp/file; sha256sum </tmp/file"
        )
        sent = nodes.lab.run(
            "alice", "head -c 50000 /dev/urandom >/tmp/file; bt-selfsecure pipe bob </tmp/file; sha256sum </tmp/file"
        ).check()
        assert there.result().check() == sent
    exchange(nodes, 20)


def test_a_daemon_killed_and_a_plug_pulled_in_the_middle_lose_nothing(nodes: Nodes) -> None:
    nodes.lab.set_loss(alice=0.05, bob=0.05)
    nodes.begin()
    nodes.wait_connected()
    transfer_with(nodes, [("kill", "alice"), ("power", "bob")], seed=1)


def transfer_with(nodes: Nodes, blows: list[tuple[str, str]], seed: int) -> None:
    """Messages both ways while daemons are killed and plugs pulled, each at a random moment."""
    draw = random.Random(seed)
    with ThreadPoolExecutor(2) as pool:
        jobs = {name: pool.submit(nodes.traffic, name, other, None, seconds=3000) for name, other in PAIRS}
        try:
            for kind, name in blows:
                if kind == "power" or draw.random() < HALF:
                    nodes.wait_connected(seconds=300)
                time.sleep(draw.uniform(1, 6))
                if kind == "kill":
                    nodes.kill(name)
                    time.sleep(draw.uniform(0, 2))
                    nodes.start(name)
                else:
                    nodes.power_cycle(name)
                    if isinstance(jobs[name].exception(), LabError):  # it went with its machine
                        jobs[name] = pool.submit(nodes.traffic, name, dict(PAIRS)[name], None, seconds=3000)
        finally:
            nodes.enough()
        for job in jobs.values():
            job.result()
    for pair in PAIRS:
        assert nodes.judge(*pair, None) >= len(blows)
    nodes.wait_connected()
    assert_same_key(nodes)
