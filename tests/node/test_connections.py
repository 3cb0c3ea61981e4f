"""Programs too many on the local API: the node goes on, and says so in a line."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_node import LoopbackNode, Server

from bt_selfsecure.node import api, connections
from bt_selfsecure.node.client import ApiError, NodeClient
from bt_selfsecure.node.connections import FEWEST, MOST, most_connections

FEW = 4


@pytest.fixture
def at_alice(server: Server, alice: LoopbackNode, monkeypatch: pytest.MonkeyPatch) -> NodeClient:
    """Her node serves four programs at once."""
    monkeypatch.setattr(api, "most_connections", lambda max_links: FEW)
    return server.serve(alice)


@contextlib.contextmanager
def opened(path: Path, count: int) -> Iterator[list[socket.socket]]:
    """So many connections on which nothing is asked."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            found.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
            found[-1].settimeout(10)
            found[-1].connect(str(path))
        yield found


@contextlib.contextmanager
def reading(path: Path, count: int) -> Iterator[None]:
    """So many programs that wait for messages, each on a port of its own."""
    with opened(path, count) as found:
        for port, connection in enumerate(found):
            connection.send(f"GET /v1/messages?follow=true&port={port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        yield


@pytest.mark.parametrize(
    ("limit", "max_links", "most"),
    [
        (1024, 16, MOST),
        (1024, 255, MOST),
        (resource.RLIM_INFINITY, 16, MOST),
        (200, 16, 120),
        (40, 16, FEWEST),
        (1, 255, FEWEST),
    ],
)
def test_the_cap_leaves_the_node_the_files_that_it_needs(
    limit: int, max_links: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections.resource, "getrlimit", lambda which: (limit, limit))
    assert most_connections(max_links) == most


def test_programs_that_ask_nothing_make_room_for_one_that_does(
    server: Server, at_alice: NodeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(server.socket("alice"), 60) as idle:
        assert at_alice.status()["name"] == "alice"
        assert idle[0].recv(1) == b"", "the oldest is closed"
        assert len(server.apis["alice"]._connections._open()) <= FEW
    assert caplog.records == []
    assert server.apis["alice"].trouble == ""


def test_a_program_too_many_is_told_so_and_the_log_once(
    server: Server, at_alice: NodeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with reading(server.socket("alice"), FEW):
        for ask in (at_alice.status, at_alice.metrics, lambda: at_alice.send("bob", b"x" * 1_000_000)):
            with pytest.raises(
                ApiError, match="serves 4 programs already, as many as it can: end one of them"
            ) as error:
                ask()
            assert error.value.status == 503
        assert server.apis["alice"].trouble == str(error.value)
        assert [record.getMessage() for record in caplog.records] == [str(error.value)]
    for _ in range(1200):  # until the node has seen that they went
        with contextlib.suppress(ApiError):
            assert at_alice.status()["name"] == "alice"
            break
        time.sleep(0.05)
    else:
        pytest.fail("there is no room again")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_is_told_so_too(server: Server, at_alice: NodeClient) -> None:
    with reading(server.socket("alice"), FEW):
        command = ["curl", "-sS", "--unix-socket", str(server.socket("alice")), "http://node/v1/status"]
        said = subprocess.run(command, capture_output=True, text=True)
    assert "as many as it can" in json.loads(said.stdout)["error"]


def test_a_refusal_is_told_for_a_while_only(
    server: Server, at_alice: NodeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "QUIET_S", 0.2)
    with reading(server.socket("alice"), FEW), pytest.raises(ApiError):
        at_alice.status()
    assert server.apis["alice"].trouble
    time.sleep(0.3)
    assert not server.apis["alice"].trouble


def test_a_node_without_a_file_left_neither_spins_nor_ends(tmp_path: Path) -> None:
    """The whole daemon, with fewer files than its programs alone would take."""
    (config := tmp_path / "node.toml").write_text(
        f'[node]\nsocket = "{tmp_path}/node.sock"\nstate_directory = "{tmp_path}/state"\n'
    )
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "node", "--config", str(config)]
    client = NodeClient(tmp_path / "node.sock")

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (18, 18))

    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stderr=log, preexec_fn=few_files) as node:
        try:
            for _ in range(600):
                with contextlib.suppress(Exception):
                    client.status()
                    break
                time.sleep(0.1)
            before = _seconds(node.pid)
            with opened(tmp_path / "node.sock", 60):
                time.sleep(2)
                assert client.status()["name"]
            assert _seconds(node.pid) - before < 1
            assert client.status()["name"]
        finally:
            node.terminate()
    assert node.returncode == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) < 10, lines
    assert "Traceback" not in "".join(lines)


def _seconds(pid: int) -> float:
    """Of a processor's time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
