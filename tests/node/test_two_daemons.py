"""Two real daemons on this computer, over UDP with drawn losses: what a node promises, with nothing in its place."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amounts import at_length
from node_world import AdvertAir, lossy, until
from two_daemons import QuickNodes, Traffic, start, wait_until

from bt_selfsecure.bearers.base import Bearer
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.client import ApiError
from bt_selfsecure.node.config import (
    Config,
    EstablishTable,
    NodeTable,
    PeerTable,
    SessionTable,
    UdpTable,
)
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_mark import LOCK
from bt_selfsecure.node.known import KnownPeers
from bt_selfsecure.node.media import KernelMedia
from bt_selfsecure.node.service import Node
from bt_selfsecure.node.set_aside import FILE, LOG
from bt_selfsecure.node.two_nodes import ADDRESSES, OTHER, TwoNodes

PORTS = 5700, 5701
LOSS = 0.05
NO_BLUETOOTH = """
import socket
for name in dir(socket):
    if "BLUETOOTH" in name or name.startswith(("BTPROTO", "BDADDR", "HCI_")):
        delattr(socket, name)
"""


class BareNodes(QuickNodes):
    """On a Python without Bluetooth, as pyenv builds it."""

    first = NO_BLUETOOTH


@pytest.fixture(params=[TwoNodes, at_length(BareNodes)])
def nodes(tmp_path: Path, loopback_host: str, request: pytest.FixtureRequest) -> Iterator[TwoNodes]:
    nodes: TwoNodes = request.param(tmp_path, LOSS, loopback_host, PORTS)
    yield nodes
    nodes.stop()
    for name in ADDRESSES:
        log = nodes.log(name)
        assert not log.exists() or "fault of this program" not in log.read_text()


quick = pytest.mark.parametrize("nodes", [QuickNodes], indirect=True)


def peer(nodes: TwoNodes, name: str) -> dict[str, Any]:
    return nodes.client(name).peers()[0]


def fingerprints(nodes: TwoNodes) -> set[str]:
    return {peer(nodes, name)["key"]["fingerprint"] for name in ADDRESSES}


@pytest.mark.timeout(180)
def test_two_daemons_agree_on_a_key_and_messages_come_once_and_in_order(nodes: TwoNodes, loopback_host: str) -> None:
    start(nodes)
    assert len(fingerprints(nodes)) == 1
    for key in (peer(nodes, name)["key"] for name in ADDRESSES):
        assert key["received"] < key["sent"]
        assert key["secret_bits"] == 0.0
        assert key["rests_on"] == (
            "On X25519 alone: losses are drawn by this program, no radio. "
            "Whoever reads the network misses nothing of what makes the key."
        )
    Traffic(nodes, 30, pause=0).finish(60)
    status = nodes.client("alice").status()
    assert status["adapter"] == f"udp {loopback_host}:5700 (losses are drawn by this program, no radio)"
    assert (status["healthy"], status["address"], status["discovery"]) == (True, ADDRESSES["alice"], None)
    log = nodes.log("alice").read_text()
    assert "0 secret bits: losses are drawn by this program, no radio" in log
    assert "hci" not in log


@quick
@pytest.mark.timeout(300)
def test_a_daemon_that_is_killed_while_messages_pass_loses_and_doubles_none(nodes: TwoNodes) -> None:
    start(nodes)
    (key,) = fingerprints(nodes)
    traffic = Traffic(nodes, 40)
    for name in ("bob", "alice"):
        time.sleep(0.5)
        nodes.kill(name)
        time.sleep(0.2)
        nodes.start(name)
    traffic.finish(120)
    for name in ADDRESSES:
        wait_until(lambda name=name: peer(nodes, name)["state"] == "connected")
    assert fingerprints(nodes) == {key}


@quick
@pytest.mark.timeout(120)
def test_receive_follow_outlives_a_node_that_is_killed_and_one_that_is_stopped(nodes: TwoNodes) -> None:
    def stop(name: str) -> None:
        with nodes.processes.pop(name) as process:
            process.terminate()

    start(nodes)
    config = str(nodes.config("bob"))
    command = nodes.command("receive", "--follow", "--raw", "--count", "3", "--config", config)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as receive:
        try:
            for number, end in enumerate((nodes.kill, stop, None)):
                nodes.client("alice").send("bob", b"%d\n" % number, until="acknowledged", timeout=60)
                assert receive.stdout is not None
                assert receive.stdout.readline() == b"%d\n" % number
                if end:
                    end("bob")
                    time.sleep(0.6)
                    nodes.start("bob")
            assert receive.wait(60) == 0
            assert receive.stderr is not None
            assert receive.stderr.read() == b""
            assert list(nodes.client("bob").receive()) == []
        finally:
            receive.kill()


@quick
@pytest.mark.timeout(120)
def test_a_peer_that_is_gone_is_told_in_seconds_and_one_that_is_back_is_found(nodes: TwoNodes) -> None:
    start(nodes)
    nodes.kill("bob")
    wait_until(lambda: peer(nodes, "alice")["state"] == "not connected", 20)
    wait_until(lambda: "nothing came for 1 s" in str(peer(nodes, "alice")["trouble"]), 20)
    nodes.start("bob")
    for name in ADDRESSES:
        wait_until(lambda name=name: peer(nodes, name)["state"] == "connected", 60)


@quick
@pytest.mark.timeout(120)
def test_a_port_that_is_taken_is_a_problem_with_its_remedy_until_it_is_free(
    nodes: TwoNodes, loopback_host: str
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((loopback_host, 5701))
        nodes.start("bob")
        wait_until(lambda: nodes.client("bob").status()["problems"])
        (problem,) = nodes.client("bob").status()["problems"]
        assert "another program, perhaps another node, has that port: take another in [udp] listen" in problem
    wait_until(lambda: nodes.client("bob").status()["healthy"])


@pytest.mark.parametrize("bearer", ["rfcomm", pytest.param("l2cap", marks=pytest.mark.long)])
def test_a_radio_on_a_python_without_bluetooth_is_a_problem_in_one_sentence(tmp_path: Path, bearer: str) -> None:
    nodes = BareNodes(tmp_path, LOSS)
    config = nodes.config("alice")
    text = (
        config.read_text()
        .replace(f"faults:loss={LOSS};udp", bearer)
        .replace(f'address = "{ADDRESSES["alice"]}"', "", 1)
    )
    config.write_text(text)
    try:
        nodes.start("alice")
        (problem,) = nodes.client("alice").status()["problems"]
        assert "this Python lacks AF_BLUETOOTH: run with Debian's /usr/bin/python3" in problem
        assert nodes.client("alice").send("bob", b"later") > 0
    finally:
        nodes.stop()


@pytest.mark.parametrize(
    ("bearer", "hybrid", "authenticated", "begins"),
    [
        ("udp", False, False, "On nothing: udp is no radio."),
        ("udp", True, False, "On X25519 alone: udp is no radio."),
        ("faults:loss=0.1;udp", False, True, "On the authentication key alone: losses are drawn by this program"),
        ("faults:loss=0.1;udp", True, True, "On X25519 and the authentication key alone: losses are drawn by"),
    ],
)
def test_what_a_key_rests_on_without_a_radio_is_what_is_left_and_never_the_losses(
    tmp_path: Path, bearer: str, hybrid: bool, authenticated: bool, begins: str
) -> None:
    async def main() -> str:
        tables = NodeTable(address=ADDRESSES["alice"], state_directory=tmp_path / "a", socket=tmp_path / "a.sock")
        node = Node(Config(node=tables, establish=EstablishTable(bearer), session=SessionTable(bearer)))
        node.journal.close()
        return node.settings.rests_on(True, hybrid=hybrid, authenticated=authenticated)

    text = asyncio.run(main())
    assert text.startswith(begins)
    assert text.endswith("Whoever reads the network misses nothing of what makes the key.")


# --- the disk under a real daemon


def no_journal(directory: Path) -> None:
    (directory / FILE).write_bytes(b"noise")


def empty(directory: Path) -> None:
    (directory / FILE).touch()


def another_programs(directory: Path) -> None:
    with contextlib.closing(sqlite3.connect(directory / FILE)) as database:
        database.execute("CREATE TABLE bookmark (url TEXT)")


def a_folder_in_its_place(directory: Path) -> None:
    (directory / FILE).mkdir()


def locked_by_another_program(directory: Path) -> None:
    Journal(directory, sync_each=True).close()
    other = sqlite3.connect(directory / FILE, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    LEFT_OPEN.append(other)


def another_nodes(directory: Path) -> None:
    LEFT_OPEN.append(open((directory / LOCK), "w"))  # noqa: PTH123, SIM115 - for as long as the test runs
    fcntl.flock(LEFT_OPEN[-1].fileno(), fcntl.LOCK_EX)


LEFT_OPEN: list[Any] = []


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (no_journal, 2, "is damaged or no journal: put a backup in its place"),
        (empty, 2, "is damaged or no journal: put a backup in its place"),
        (another_programs, 2, "is another program's database: put a backup in its place"),
        (a_folder_in_its_place, 1, "journal.db in it is a folder: move it away"),
        (locked_by_another_program, 1, "another program has locked the journal: end it"),
        (another_nodes, 1, "another node uses"),
    ],
)
def test_only_a_state_that_needs_a_person_ends_the_daemon_for_good(
    tmp_path: Path, make: Callable[[Path], None], status: int, words: str
) -> None:
    """By its exit status, as the unit has it; what may pass by itself is waited for some seconds, if it is a lock."""
    unit = (Path(__file__).parents[2] / "systemd/bt-selfsecure.service").read_text()
    assert "\nRestart=on-failure\n" in unit
    assert "\nRestartPreventExitStatus=2\n" in unit
    nodes = QuickNodes(tmp_path, LOSS)
    make(tmp_path / "alice")
    try:
        with pytest.raises(UsageError, match=r"alice did not start: .*" + words):
            nodes.start("alice")
        assert nodes.processes["alice"].wait() == status
    finally:
        for left in LEFT_OPEN:
            left.close()
        LEFT_OPEN.clear()
        nodes.stop()


@quick
@pytest.mark.timeout(180)
def test_a_daemon_whose_journal_is_deleted_keeps_its_key_and_its_queue_over_a_pulled_plug(nodes: TwoNodes) -> None:
    start(nodes)
    key = fingerprints(nodes)
    nodes.kill("bob")
    wait_until(lambda: peer(nodes, "alice")["state"] != "connected")
    nodes.client("alice").send("bob", b"before")
    for path in (nodes.folder / "alice").glob("journal.db*"):
        path.unlink()
    wait_until(lambda: "wrote its state anew" in str(nodes.client("alice").status()["problems"]), 30)
    nodes.kill("alice")
    start(nodes)
    wait_until(lambda: [received.message for received in nodes.client("bob").receive()] == [b"before"])
    assert fingerprints(nodes) == key


@quick
@pytest.mark.timeout(180)
def test_a_daemon_that_is_killed_right_after_its_start_and_loses_a_file_says_so(nodes: TwoNodes) -> None:
    """Before the log was ever brought into the journal, so that all stands in it."""
    start(nodes)
    key = fingerprints(nodes)
    place = nodes.folder / "alice"
    nodes.kill("alice")
    (place / LOG).write_bytes(b"")
    nodes.start("alice")
    wait_until(lambda: peer(nodes, "alice")["state"] == "connected")
    assert "what the node kept last is gone" in " ".join(nodes.client("alice").status()["problems"])
    assert fingerprints(nodes) != key
    nodes.kill("alice")
    for name in (FILE, LOG, f"{FILE}-shm"):
        (place / name).unlink()
    with pytest.raises(UsageError, match="is gone: put it back; else"):
        nodes.start("alice")
    assert nodes.processes["alice"].wait() == 2
    words = "state", "set-aside", "--config", str(nodes.config("alice"))
    said = subprocess.run(nodes.command(*words), check=True, capture_output=True, text=True, timeout=60).stderr
    assert said == "Nothing was left of the state. The node begins with new keys when it is started.\n"
    nodes.start("alice")
    wait_until(lambda: peer(nodes, "alice")["state"] == "connected")
    assert nodes.client("alice").status()["problems"] == []


@quick
@pytest.mark.timeout(180)
def test_daemons_talk_again_after_one_of_them_lost_a_page_of_its_journal(nodes: TwoNodes) -> None:
    start(nodes)
    nodes.kill("bob")
    wait_until(lambda: peer(nodes, "alice")["state"] != "connected")
    for number in range(20):
        nodes.client("alice").send("bob", b"%d " % number * 1000)
    nodes.stop()
    journal = nodes.folder / "alice" / FILE
    with journal.open("r+b") as file:
        file.seek((journal.stat().st_size // 4096 // 2) * 4096)
        file.write(bytes(4096))
    start(nodes)
    (problem, *_) = nodes.client("alice").status()["problems"]
    assert "the journal was damaged: what could be read of it is in use" in problem
    nodes.client("alice").send("bob", b"the last")

    def came() -> list[bytes]:
        return [received.message for received in nodes.client("bob").receive()]

    wait_until(lambda: came() and came()[-1] == b"the last")
    sent = [*(b"%d " % number * 1000 for number in range(20)), b"the last"]
    assert came() == [message for message in sent if message in came()]
    assert len(came()) >= 15


# --- a session on UDP, under a key from a radio


class RadioAndUdp:
    """One device's media: a broadcast in memory, and real UDP."""

    def __init__(self, air: AdvertAir, config: Config, address: str) -> None:
        self._advert, self._kernel = (
            air.bearer(address),
            KernelMedia(config, KnownPeers(config), lambda: "hci0", lambda: address, lambda peer: False),
        )

    def open(self, name: str) -> Bearer:
        return self._advert if name == "le_advert" else self._kernel.open(name)


def test_a_session_on_udp_is_worth_what_its_key_from_a_radio_is(tmp_path: Path, loopback_host: str) -> None:
    places = {name: f"{loopback_host}:{port}" for name, port in zip(ADDRESSES, PORTS, strict=True)}
    air = AdvertAir(lossy(0.1, 1))

    async def started(name: str) -> Node:
        other = OTHER[name]
        config = Config(
            node=NodeTable(name=name, state_directory=tmp_path / name, socket=tmp_path / f"{name}.sock"),
            establish=EstablishTable(burst=60, target_bits=10.0, eve_loss_bound=0.2),
            session=SessionTable("faults:loss=0.1;udp", timeout_ms=50),
            udp=UdpTable(places[name]),
            peer=(PeerTable(other, ADDRESSES[other], udp=places[other]),),
        )
        node = Node(config, RadioAndUdp(air, config, ADDRESSES[name]), ADDRESSES[name])
        await node.start()
        return node

    async def main() -> None:
        alice, bob = await started("alice"), await started("bob")
        await until(lambda: all(node.peers()[0]["state"] == "connected" for node in (alice, bob)), 30)
        assert await alice.send("bob", b"hello", until="acknowledged") > 0
        for told in (*alice.peers(), *bob.peers()):
            assert told["link"]["bearer"] == "udp"
            assert told["key"]["bearer"] == "le_advert"
            assert told["key"]["secret_bits"] >= 10
            assert told["key"]["rests_on"].startswith("On losses that both ends saw")
        await alice.stop()
        await bob.stop()

    asyncio.run(asyncio.wait_for(main(), 60))


@quick
@pytest.mark.timeout(180)
def test_both_daemons_give_their_programs_the_same_key_through_rotations_a_kill_and_a_new_key(nodes: TwoNodes) -> None:
    def keys(label: str = "wireguard", **how: Any) -> list[dict[str, Any]]:
        return [nodes.client(name).key(OTHER[name], label, **how) for name in ADDRESSES]

    start(nodes)
    seen: set[bytes] = set()
    with pytest.raises(ApiError, match=r"label is '' and must be a text of 1 to 64 bytes"):
        nodes.client("alice").key("bob", "")
    for step in ("first", "rotated", "killed", "new K_0"):
        if step == "rotated":
            nodes.client("alice").key("bob", "wireguard", rotate=True)
        elif step == "killed":
            nodes.kill("bob")
            nodes.start("bob")
            wait_until(lambda: peer(nodes, "alice")["state"] == "connected")
            nodes.client("bob").key("alice", "wireguard", rotate=True)
        elif step == "new K_0":
            old = nodes.client("alice").key("bob", "wireguard")["generation"]
            assert nodes.client("alice").establish("bob")["established"]
            nodes.client("alice").key("bob", "wireguard", after=old)
        wait_until(lambda: len({key["generation"] for key in keys()}) == 1)
        ours, theirs = keys()
        assert ours["key"] == theirs["key"]
        assert ours["key"] not in seen, step
        assert len(ours["key"]) == 32
        assert keys("oscore", length=16)[0]["key"] not in ours["key"]
        seen.add(ours["key"])
    nodes.kill("bob")
    with pytest.raises(ApiError, match=r"bob (is not connected|holds no such generation)"):
        nodes.client("alice").key("bob", "wireguard", rotate=True, timeout=0.5)
    assert nodes.client("alice").key("bob", "wireguard")["key"] in seen
    hexed = [key.hex() for key in seen]
    for name in ADDRESSES:
        log = nodes.log(name).read_text()
        assert not any(key in log for key in hexed)
