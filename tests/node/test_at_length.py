"""Two real daemons on this computer, over UDP, at length: what a node promises holds after 50 pulled plugs, and what it
takes of its computer stays as it was after 100 000 messages."""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest
from two_daemons import Traffic, start, wait_until

from bt_selfsecure.node.client import ApiError
from bt_selfsecure.node.set_aside import LOG
from bt_selfsecure.node.two_nodes import ADDRESSES, OTHER, TwoNodes

PORTS = 5702, 5703
LOSS = 0.05
MESSAGES = 50_000
"""Each way."""


@pytest.fixture
def nodes(tmp_path: Path, loopback_host: str, request: pytest.FixtureRequest) -> Iterator[TwoNodes]:
    nodes = TwoNodes(tmp_path, getattr(request, "param", LOSS), loopback_host, PORTS)
    yield nodes
    nodes.stop()
    for name in ADDRESSES:
        log = nodes.log(name)
        assert not log.exists() or "fault of this program" not in log.read_text()


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_50_kills_while_a_file_of_70_mb_and_400_messages_pass(nodes: TwoNodes, tmp_path: Path) -> None:
    start(nodes)
    sent, came = tmp_path / "sent", tmp_path / "came"
    sent.write_bytes(random.Random(1).randbytes(70_000_000))
    ends = []
    for name, source, target in (("bob", Path(os.devnull), came), ("alice", sent, Path(os.devnull))):
        with source.open("rb") as reading, target.open("wb") as writing:
            command = nodes.command("pipe", OTHER[name], "--config", str(nodes.config(name)))
            ends.append(subprocess.Popen(command, stdin=reading, stdout=writing))
    traffic = Traffic(nodes, 200, pause=1)
    chance = random.Random(2)
    for kill in range(50):
        size = (kill + 1) * sent.stat().st_size / 52
        wait_until(lambda size=size: came.stat().st_size > size, 600)
        name = chance.choice(sorted(ADDRESSES))
        nodes.kill(name)
        time.sleep(chance.uniform(0, 3))
        nodes.start(name)
    assert [end.wait(1800) for end in ends] == [0, 0]
    traffic.finish(600)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (sent, came)]
    assert digests[0] == digests[1]


@dataclass
class Taken:
    """Of this computer, by one daemon."""

    resident_kb: int
    descriptors: int
    log_lines: int
    median_wal_bytes: float
    most_wal_bytes: int

    @classmethod
    def by(cls, nodes: TwoNodes, name: str, wal_bytes: list[int]) -> Taken:
        process = Path(f"/proc/{nodes.processes[name].pid}")
        (resident,) = (line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS:"))
        lines = len(nodes.log(name).read_text().splitlines())
        descriptors = len(list((process / "fd").iterdir()))
        return cls(int(resident.split()[1]), descriptors, lines, statistics.median(wal_bytes), max(wal_bytes))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("nodes", [0.002], indirect=True)
def test_100_000_messages_take_no_more_memory_descriptors_disk_and_log_than_10_000(nodes: TwoNodes) -> None:
    start(nodes)
    came: dict[str, list[int]] = {name: [] for name in ADDRESSES}

    def send(name: str) -> None:
        for number in range(MESSAGES):
            while True:
                try:
                    nodes.client(name).send(OTHER[name], b"%020d" % number)
                    break
                except ApiError:  # the queue is full
                    time.sleep(0.02)

    def receive(name: str) -> None:
        for received in nodes.client(name).follow():
            came[name].append(int(received.message))
            nodes.client(name).acknowledge(received.id)
            if len(came[name]) == MESSAGES:
                return

    threads = [threading.Thread(target=work, args=(name,), daemon=True) for work in (send, receive) for name in came]
    for thread in threads:
        thread.start()
    taken: dict[str, list[Taken]] = {name: [] for name in ADDRESSES}
    for tenth in range(1, 11):
        wal: dict[str, list[int]] = {name: [] for name in ADDRESSES}

        def is_over(tenth: int = tenth, wal: dict[str, list[int]] = wal) -> bool:
            for name, lengths in wal.items():
                lengths.append((nodes.folder / name / LOG).stat().st_size)
            return all(10 * len(came[name]) >= tenth * MESSAGES for name in came)

        wait_until(is_over, 1800)
        for name, each in taken.items():
            each.append(Taken.by(nodes, name, wal[name]))
    for thread in threads:
        thread.join(60)
    assert all(numbers == list(range(MESSAGES)) for numbers in came.values())
    for name, each in taken.items():
        print(name, *map(astuple, each), sep="\n")
        first, last = each[0], each[-1]
        assert last.resident_kb < 1.1 * first.resident_kb
        assert last.descriptors <= first.descriptors
        assert last.median_wal_bytes < 1.1 * first.median_wal_bytes
        assert last.most_wal_bytes < 2 * first.median_wal_bytes
        assert last.log_lines - first.log_lines < 20
