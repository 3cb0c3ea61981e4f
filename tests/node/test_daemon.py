"""A service's start on a state that can't be used now: it is tried for longer than systemd has patience."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import daemon
from bt_selfsecure.node.config import Config, EstablishTable, NodeTable, SessionTable, UdpTable
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.set_aside import FILE

UNIT = Path(__file__).parents[2] / "systemd/bt-selfsecure.service"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        node=NodeTable(address="02:00:00:00:00:01", state_directory=tmp_path / "state", socket=tmp_path / "node.sock"),
        establish=EstablishTable("udp"),
        session=SessionTable("udp"),
        udp=UdpTable("127.0.0.1:0"),
    )


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What it hears."""
    monkeypatch.setattr(daemon, "AGAIN_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def in_the_way(config: Config) -> Path:
    place = config.node.state_directory / FILE
    place.mkdir(parents=True)
    return place


def test_a_service_waits_for_its_state_tells_why_and_begins(
    config: Config, systemd: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    place = in_the_way(config)

    async def main() -> None:
        loop, running = asyncio.get_running_loop(), asyncio.create_task(daemon.run_node(config))
        for _ in range(3):
            assert b"STATUS=can't use the state directory" in await loop.sock_recv(systemd, 1000)
        place.rmdir()
        while b"READY=1" not in await loop.sock_recv(systemd, 1000):
            pass
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(asyncio.wait_for(main(), 30))
    assert caplog.text.count("is a folder: move it away") == 1


def test_its_patience_ends_and_by_hand_there_is_none(
    config: Config, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way(config)
    monkeypatch.setattr(daemon, "PATIENCE_S", 0.3)
    with pytest.raises(JournalError):
        asyncio.run(asyncio.wait_for(daemon.run_node(config), 30))
    assert b"STATUS" in systemd.recv(1000)
    monkeypatch.setattr(daemon, "PATIENCE_S", 600.0)
    monkeypatch.delenv("NOTIFY_SOCKET")
    with pytest.raises(JournalError):
        asyncio.run(asyncio.wait_for(daemon.run_node(config), 30))


def test_for_a_damaged_state_it_does_not_wait(config: Config, systemd: socket.socket) -> None:
    config.node.state_directory.mkdir()
    (config.node.state_directory / FILE).touch()
    with pytest.raises(UsageError, match="state set-aside"):
        asyncio.run(asyncio.wait_for(daemon.run_node(config), 30))


def test_its_patience_is_longer_than_systemds_and_shorter_than_that_for_a_start() -> None:
    text = UNIT.read_text()
    (minutes,) = re.findall(r"StartLimitIntervalSec=(\d+)min", text)
    (burst,) = re.findall(r"StartLimitBurst=(\d+)", text)
    (start,) = re.findall(r"TimeoutStartSec=(\d+)min", text)
    assert int(burst) * daemon.PATIENCE_S > int(minutes) * 60
    assert int(start) * 60 / 2 > daemon.PATIENCE_S
