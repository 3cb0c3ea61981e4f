"""A group of three real daemons on this computer, over UDP with drawn losses, while plugs are pulled."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from two_daemons import PROGRAM, WAITS, wait_until

from bt_selfsecure.errors import UsageError
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.isolated import FOLDER
from bt_selfsecure.node.client import ApiError, NodeClient

NAMES = ("alice", "bob", "carol")
ADDRESS = {name: f"02:00:00:00:00:0{number}" for number, name in enumerate(NAMES, 1)}
CONFIGURATION = """
[node]
name = "{name}"
address = "{address}"
state_directory = "{folder}/{name}"
socket = "{folder}/{name}.sock"
[establish]
bearer = "faults:loss=0.1;udp"
interval_ms = 1
target_bits = 1
burst = 100
[session]
bearer = "faults:loss=0.1;udp"
timeout_ms = 50
[udp]
listen = "{place}"
"""
PEER = '[[peer]]\nname = "{name}"\naddress = "{address}"\nudp = "{place}"\n'


class Daemons:
    """Alice, who knows the others, and they her alone."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder = folder
        ports = free_ports(host, len(NAMES))
        places = {name: f"{host}:{port}" for name, port in zip(NAMES, ports, strict=False)}
        for name in NAMES:
            text = CONFIGURATION.format(name=name, address=ADDRESS[name], folder=folder, place=places[name])
            for peer in NAMES[1:] if name == "alice" else NAMES[:1]:
                text += PEER.format(name=peer, address=ADDRESS[peer], place=places[peer])
            (folder / name).mkdir()
            (folder / f"{name}.toml").write_text(text)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def client(self, name: str) -> NodeClient:
        return NodeClient(self.folder / f"{name}.sock")

    def start(self, name: str) -> None:
        import sys

        words = [sys.executable, "-P", "-c", PROGRAM.format(first="", waits=WAITS)]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*words, "node", "--config", str(self.folder / f"{name}.toml")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=FOLDER,
            )
        wait_until(lambda: self.client(name).status())

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def command(self, name: str, *words: str, data: bytes = b"") -> str:
        import sys

        done = subprocess.run(
            [sys.executable, "-m", "bt_selfsecure.cli.main", *words, "--config", str(self.folder / f"{name}.toml")],
            input=data,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture
def daemons(tmp_path: Path, loopback_host: str) -> Iterator[Daemons]:
    daemons = Daemons(tmp_path, loopback_host)
    yield daemons
    daemons.stop()
    for name in NAMES:
        assert "fault of this program" not in (tmp_path / f"{name}.log").read_text()


def send(client: NodeClient, message: bytes) -> None:
    while True:
        try:
            client.send_to_group("lamps", message)
            return
        except (ApiError, UsageError):
            time.sleep(0.2)


def test_each_member_gets_each_message_once_in_order_whoever_is_killed(daemons: Daemons) -> None:
    for name in NAMES:
        daemons.start(name)
    alice = daemons.client("alice")
    wait_until(lambda: all(peer["state"] == "connected" for peer in alice.peers()))
    assert "lamps  epoch 1" in daemons.command("alice", "group", "create", "lamps", "bob", "carol")
    members = lambda: {member["state"] for member in alice.groups()[0]["members"]}  # noqa: E731
    wait_until(lambda: members() == {"current"})
    daemons.command("alice", "group", "send", "lamps", data=b"0")
    for number in range(1, 40):
        if number == 12:
            daemons.kill("bob")
        if number == 16:
            daemons.start("bob")
        if number == 25:
            daemons.kill("alice")
            daemons.start("alice")
        send(alice, b"%d" % number)
        time.sleep(0.05)
    for name in ("bob", "carol"):
        got = []
        wait_until(lambda name=name: daemons.client(name).status()["peers"][0]["queues"]["inbox"] >= 40)
        for line in daemons.command(name, "receive", "--json", "--count", "40").splitlines():
            received = json.loads(line)
            assert (received["group"], received["peer"], received["port"]) == ("lamps", "alice", 0)
            got.append(received["message"])
        assert len(got) == len(set(got)) == 40
    told = daemons.command("bob", "group", "status")
    assert "lamps  epoch 1, of alice" in told
    daemons.command("alice", "group", "remove", "lamps", "bob")
    wait_until(lambda: daemons.client("bob").groups() == [])
