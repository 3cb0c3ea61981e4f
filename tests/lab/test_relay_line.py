"""Four virtual Pis in a line, each in range of its neighbours alone: those at its ends talk through those between."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab_nodes import Nodes
from running_lab import RunningLab

pytestmark = pytest.mark.lab

NAMES = ("alice", "bob", "carol", "dave")
ENDS = {"alice": "dave", "dave": "alice"}
MIDDLE = ("bob", "carol")
NEAR = [frozenset(NAMES[place : place + 2]) for place in range(3)]
LONGEST = 700
CALL = "python3 -c 'import socket; socket.socket(31, 5, 0).connect((\"{}\", 1))'"
"""To the port of SDP on L2CAP, which every Pi listens on."""


@pytest.fixture
def line(lab_of: Callable[..., RunningLab]) -> Nodes:
    """The nodes, connected: Alice knows Bob and that Dave is reached through others, and so on."""
    lab = lab_of(*NAMES)
    pairs = ",".join("-".join(sorted(pair)) for pair in NEAR)
    lab.do("air", model=f"near:{pairs};bernoulli:{','.join(f'{name}=0' for name in NAMES)}")
    nodes, machines = Nodes(lab), lab.status()["machines"]
    more = {end: f'[[peer]]\nname = "{other}"\naddress = "{machines[other]["address"]}"\nvia = "auto"\n'
            for end, other in ENDS.items()}  # fmt: skip
    ends = ", ".join(f'"{machines[end]["address"]}"' for end in ENDS)
    more |= dict.fromkeys(MIDDLE, f"[relay]\nfor = [{ends}]\n")
    nodes.begin(pairs=lambda one, other: {one, other} in NEAR, more=more)
    for end, other in ENDS.items():
        nodes.wait_for(end, other, lambda peer: peer["state"] == "connected", 240)
    return nodes


def exchange(nodes: Nodes, count: int | None, seconds: float, blows: Callable[[], None]) -> None:
    """Messages both ways from end to end while `blows` come, judged."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(nodes.traffic, *pair, count, LONGEST, seconds) for pair in ENDS.items()]
        try:
            blows()
        finally:
            nodes.enough()
        for job in jobs:
            job.result()
    for pair in ENDS.items():
        nodes.judge(*pair, count)


def test_the_ends_of_a_line_talk_through_the_middle_which_is_killed_once(line: Nodes) -> None:
    alice = line.peer("alice", "dave")
    assert (alice["link"]["bearer"], alice["link"]["path"]) == ("relay", ["bob", "BA:27:EB:00:00:03"])
    assert alice["key"]["fingerprint"] == line.peer("dave", "alice")["key"]["fingerprint"]
    assert "a relay hears the whole burst" in alice["key"]["rests_on"]
    assert line.lab.run("alice", CALL.format("BA:27:EB:00:00:04")).status, "Dave is in Alice's range"
    line.lab.run("alice", CALL.format("BA:27:EB:00:00:02")).check()

    def kill_one() -> None:
        time.sleep(5)
        line.kill("carol")
        time.sleep(1)
        line.start("carol")

    exchange(line, 10, 600, kill_one)


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
def test_a_thousand_messages_each_way_with_the_middle_killed_ten_times_and_a_plug_pulled(line: Nodes) -> None:
    draw = random.Random(7)

    def blows() -> None:
        for number in range(11):
            name = draw.choice(MIDDLE)
            time.sleep(draw.uniform(5, 30))
            if number == 5:
                line.power_cycle(name)
                continue
            line.kill(name)
            time.sleep(draw.uniform(0, 3))
            line.start(name)

    exchange(line, 1000, 3 * 3000, blows)
