"""Figures for Prometheus: what really happened between two nodes, in a form that its parser takes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from loopback_node import LoopbackNode
from node_world import World, connected, peer_of, read, send_all, until, virtual
from prometheus_client.parser import text_string_to_metric_families

from bt_selfsecure.air.virtual_time import VirtualTimeLoop
from bt_selfsecure.node.daemon import MetricsFile
from bt_selfsecure.node.metrics import METRICS, render, write
from bt_selfsecure.node.service import Node
from bt_selfsecure.protocols.haoxiao.frames import Kind, decode, peek_kind

DISK_S = 0.002


def give_slow_disk(node: Node) -> None:
    """Virtual time passes while it writes."""
    loop, execute = asyncio.get_running_loop(), node.journal.execute
    assert isinstance(loop, VirtualTimeLoop)

    def execute_slowly(database: sqlite3.Connection) -> None:
        loop._jump(DISK_S)
        execute(database)

    node.journal.execute = execute_slowly  # type: ignore[method-assign]


def parsed(text: bytes) -> dict[str, float]:
    """By name and labels, as Prometheus's own parser reads them."""
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            name = sample.name.removeprefix("bt_selfsecure_") + (f"{{{labels}}}" if labels else "")
            assert name not in samples
            samples[name] = sample.value
    return samples


def test_the_figures_are_what_happened_between_two_nodes(tmp_path: Path) -> None:
    """Over a medium that loses a third, of which every datagram is looked at."""
    seen: list[tuple[Kind, int]] = []

    def watch(datagram: bytes) -> bool:
        if peek_kind(datagram) is Kind.DATA:
            frame = decode(datagram)
            seen.append((frame.kind, frame.retran))
        return lose(datagram) if lose else False

    async def main() -> None:
        async with world.pair() as (alice, bob):
            give_slow_disk(alice)
            await connected(alice, bob)
            await send_all(alice, "bob", [b"%d" % number for number in range(20)])
            await read(bob, 20)
            await alice.send("bob", b"last", until="acknowledged")
            figures = parsed(render(alice.status()))
            bobs = parsed(render(bob.status()))
        assert figures['rounds_total{direction="out",peer="bob"}'] == 21
        assert bobs['rounds_total{direction="in",peer="alice"}'] == 21
        assert figures['data_frames_total{peer="bob"}'] == len(seen)
        again = sum(retran > 0 for _, retran in seen)
        assert figures['retransmissions_total{peer="bob"}'] == again > 5
        assert figures['establishments_total{peer="bob"}'] == 1
        assert figures['links_total{peer="bob"}'] >= 1
        assert figures['key_secret_bits{peer="bob"}'] >= 40
        assert 0.2 < figures['burst_loss_ratio{peer="bob"}'] < 0.5
        assert figures['resynchronisations_total{peer="bob"}'] >= 2
        assert figures["journal_commit_seconds_count"] > 20
        mean = figures["journal_commit_seconds_sum"] / figures["journal_commit_seconds_count"]
        assert 0 < mean <= figures["journal_commit_slowest_seconds"]
        assert figures["journal_commit_slowest_seconds"] == pytest.approx(DISK_S)
        assert figures["healthy"] == figures['connected{peer="bob"}'] == 1
        assert not any(name.startswith("rssi") for name in figures), "nobody has heard it advertise"

    world = World(tmp_path, loss=0.33)
    lose = world.air.lose
    world.air.lose = watch
    virtual(main())


def test_a_failed_establishment_is_counted(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path, establish__target_bits=256.0, establish__max_burst=200, establish__eve_loss_bound=0.01)
        async with world.pair() as (alice, _):
            await until(lambda: peer_of(alice, "bob")["counts"]["failed_establishments"] == 1)
            assert peer_of(alice, "bob")["counts"]["establishments"] == 0

    virtual(main())


def test_each_metric_has_a_sample_a_type_and_the_units_that_prometheus_wants(
    alice: LoopbackNode, bob: LoopbackNode
) -> None:
    bob.name = 'b"o\\b'
    alice.known = {"bob": bob}
    alice.established = 1
    carried: Any = {
        "for": ["bob"],
        "links": [],
        "routes": [{"to": "carol", "by": "bob", "age_s": 1.0}],
        "forwarded_bytes": {"bob": 1},
        "waiting_bytes": {},
        "dropped": {"full": 1},
    }
    member = {"name": "bob", "state": "away"}
    counts = {"sent": 1, "received": 0, "repaired": 0}
    group: Any = {"name": "office", "owner": "alice", "epoch": 1, "members": [member], "counts": counts}
    status: Any = alice.status() | {"relay": carried, "groups": [group]}
    samples = parsed(render(status))
    assert samples['rssi_dbm{peer="b"o\\b"}'] == -61
    for name, kind, _, _ in METRICS:
        assert any(sample.partition("{")[0] == name for sample in samples), name
        assert (kind == "counter") == name.endswith("_total")


def test_the_file_is_whole_for_everyone_and_follows_the_node(tmp_path: Path, alice: LoopbackNode) -> None:
    path = tmp_path / "node.prom"
    old = os.umask(0o077)
    try:
        for version in ("1", "2"):
            write(path, alice.status() | {"version": version})
            assert parsed(path.read_bytes())[f'build_info{{version="{version}"}}'] == 1
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_can_not_be_written_is_told_once_and_no_fault(
    tmp_path: Path, alice: LoopbackNode, caplog: Any
) -> None:
    file = MetricsFile(str(tmp_path / "nowhere/node.prom"))
    for _ in range(3):
        file.write(alice.status())
    (record,) = caplog.records
    assert record.getMessage() == (
        f"can't write [node] metrics_file {tmp_path}/nowhere/node.prom: No such file or directory"
    )
    (tmp_path / "nowhere").mkdir()
    file.write(alice.status())
    assert (tmp_path / "nowhere/node.prom").exists()
    MetricsFile("").write(alice.status())
