"""A D-OTP pair whose key comes through the nodes' session, by the peer's name: two real daemons on loopback."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from two_daemons import QuickNodes, start

pytest.importorskip("aiocoap")
COAP = [sys.executable, "-m", "bt_selfsecure", "coap"]
LEFT_S = 60


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[QuickNodes]:
    running = QuickNodes(tmp_path, 0.0)
    try:
        start(running)
        yield running
    finally:
        running.stop()


def test_a_pair_is_made_over_the_nodes_session_and_served(nodes: QuickNodes, tmp_path: Path) -> None:
    def pair(name: str, peer: str, role: str) -> subprocess.Popen[bytes]:
        words = ("pair", peer, "--as", role, "--over", peer, "--state", str(tmp_path / f"{name}-coap"))
        return subprocess.Popen([*COAP, *words, "--config", str(nodes.config(name))])

    waiting = pair("bob", "alice", "server")
    assert pair("alice", "bob", "client").wait(LEFT_S) == 0
    assert waiting.wait(LEFT_S) == 0
    own = ("--scheme", "dotp", "--layer", "object", "--pair", "alice", "--state", str(tmp_path / "bob-coap"))
    command = [*COAP, "serve", "--port", "0", *own]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        uri = serving.stdout.readline().split()[1]
        words = ("get", f"{uri}/sensor", "--scheme", "dotp", "--layer", "object", "--pair", "bob")
        got = subprocess.run([*COAP, *words, "--state", str(tmp_path / "alice-coap")], capture_output=True, check=True)
        assert len(got.stdout) == 315
        serving.send_signal(signal.SIGTERM)


def test_a_peer_that_the_node_does_not_have_is_said(nodes: QuickNodes, tmp_path: Path) -> None:
    words = ("pair", "x", "--as", "client", "--over", "carol", "--state", str(tmp_path / "coap"))
    done = subprocess.run([*COAP, *words, "--config", str(nodes.config("alice"))], capture_output=True, text=True)
    assert done.returncode == 2
    assert "carol" in done.stderr
    assert not (tmp_path / "coap").exists()
