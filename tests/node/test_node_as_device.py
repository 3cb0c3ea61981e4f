"""A node as a device of an IoT network: what its program reads of a real daemon, and that no key is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from two_daemons import QuickNodes, start

from bt_selfsecure.iot.device import local_node
from bt_selfsecure.iot.device.program import Program


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[QuickNodes]:
    running = QuickNodes(tmp_path, 0.0)
    try:
        start(running)
        yield running
    finally:
        running.stop()


def test_sensors_say_how_the_nodes_peers_are(nodes: QuickNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_SELFSECURE_CONFIG", str(nodes.config("alice")))
    program = Program.load("bt_selfsecure.iot.device.local_node")
    readings = {name: local_node.read_sensor(name) for name in program.sensors}
    assert readings["peers"] == readings["connected"] == 1
    assert readings["least_secret_bits"] == 0  # over UDP nothing is secret by losses
    assert readings["most_burst_loss"] == 0
    assert readings["refused_keys"] == 0
    assert readings["healthy"] is (readings["problems"] == 0)
    first = list(local_node.alerts())
    assert len(first) == readings["problems"]
    assert list(local_node.alerts()) == []  # each is told once
