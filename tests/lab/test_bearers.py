"""Every bearer keeps its contract between two machines, over the kernel's own sockets."""

from __future__ import annotations

import base64
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from running_lab import RunningLab

from bt_selfsecure.bearers.framing import LENGTH_BYTES
from bt_selfsecure.bearers.limits import ADVERT_BYTES

sys.path.append(str(Path(__file__).parents[1] / "bearers"))
import contract

pytestmark = pytest.mark.lab

SECONDS = 240.0
OVERFLOW = {"ipsp": 5}
"""Datagrams that UDP's queues in the kernel may drop on a computer that is slow to take them."""
RELIABLE = ["rfcomm", "rfcomm#3", "ipsp"]


def long(*specs: str) -> list[Any]:
    """Cases for `--all` alone."""
    return [pytest.param(spec, marks=pytest.mark.long) for spec in specs]


ADAPTER_DOWN = "hciconfig hci0 down"
ADAPTER_UP = "hciconfig hci0 up"
SUPERVISION_S = {"rfcomm": 20.0, "l2cap": 20.0, "ipsp": 0.42}
"""After the last packet: the controller's default of BR/EDR links, the kernel's of LE links."""
SLACK_S = 15.0
"""For what emulated machines take besides."""


@pytest.fixture
def lab(lab_of: Callable[..., RunningLab]) -> RunningLab:
    return lab_of("alice", "bob")


def one_end(lab: RunningLab, name: str, spec: str, what: str) -> str:
    """The command for one end of a check: alice dials, bob listens."""
    role, other = ("connect", "bob") if name == "alice" else ("listen", "alice")
    return f"exec python {contract.__file__} {role} {spec} {lab.address(other)} {what}"


def check(lab: RunningLab, spec: str, what: str | int, before: str = "", before_bob: str = "") -> list[Any]:
    """What alice and bob saw."""
    with ThreadPoolExecutor(2) as pool:
        first = {"alice": before, "bob": f"{before}\n{before_bob}"}
        commands = {name: f"{first[name]}\n{one_end(lab, name, spec, str(what))}" for name in first}
        jobs = [pool.submit(lab.run, name, command, SECONDS) for name, command in commands.items()]
        return [json.loads(job.result().check().splitlines()[-1]) for job in jobs]


def share(lost: int, of: int, loss: float) -> bool:
    """Within five standard deviations of the set loss."""
    return abs(lost - of * loss) <= 5 * math.sqrt(of * loss * (1 - loss)) + 1


@pytest.mark.parametrize("spec", ["rfcomm", "l2cap", "le_advert", *long("rfcomm#3", "ipsp")])
def test_on_clean_air_all_arrives_whole_and_in_order_both_ways_at_once(lab: RunningLab, spec: str) -> None:
    for seen in check(lab, spec, 110):
        assert (seen["garbled"], seen["ordered"]) == (0, True)
        assert 110 - seen["received"] <= OVERFLOW.get(spec, 0)
        assert seen["encrypted"] == (spec in ("rfcomm", "rfcomm#3", "l2cap"))


@pytest.mark.long
@pytest.mark.parametrize("loss", [0.1, 0.3])
@pytest.mark.parametrize("spec", RELIABLE)
def test_a_reliable_bearer_delivers_all_whatever_the_air_loses(lab: RunningLab, spec: str, loss: float) -> None:
    lab.set_loss(alice=loss, bob=loss)
    for seen in check(lab, spec, 110):
        assert (seen["garbled"], seen["ordered"]) == (0, True)
        assert 110 - seen["received"] <= OVERFLOW.get(spec, 0)


@pytest.mark.long
@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_l2cap_loses_the_airs_share_of_what_fits_one_packet_and_nothing_longer(lab: RunningLab, loss: float) -> None:
    lab.set_loss(alice=loss, bob=loss)
    count = 440
    short = sum(size < contract.LONG for size in contract.sizes(5000, count))
    for seen in check(lab, "l2cap", count):
        assert (seen["long_lost"], seen["garbled"], seen["ordered"]) == (0, 0, True)
        assert share(count - seen["received"], short, loss), seen


@pytest.mark.long
@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_le_advert_loses_no_more_than_the_air(lab: RunningLab, loss: float) -> None:
    """Less, because some datagrams are on the air for two advertising events; but not nothing."""
    lab.set_loss(alice=loss, bob=loss)
    count = 300
    for seen in check(lab, "le_advert", count):
        assert (seen["garbled"], seen["ordered"], seen["mtu"]) == (0, True, ADVERT_BYTES)
        lost = count - seen["received"]
        assert lost > 0
        assert lost < count * loss or share(lost, count, loss), seen


@pytest.mark.long
@pytest.mark.parametrize("percent", [10, 30])
def test_ipsp_connects_in_spite_of_lost_ip_packets_and_loses_their_share(lab: RunningLab, percent: int) -> None:
    """UDP is not repeated: what queues drop is lost, whole."""
    netem = f"tc qdisc add dev bt0 root netem loss {percent}%"
    count = 220
    for seen in check(lab, "ipsp", count, f"modprobe sch_netem; (until {netem}; do sleep 0.1; done) 2>/dev/null &"):
        assert (seen["garbled"], seen["ordered"]) == (0, True)
        assert share(count - seen["received"], count, percent / 100), seen


@pytest.mark.long
def test_ipsp_links_may_follow_one_another_also_where_one_had_to_be_dialled_more_than_once(lab: RunningLab) -> None:
    """Bob is late the second time, while the connection of the first still stands: the kernel's dial is refused."""
    for before_bob in ("", "sleep 6", "", ""):
        for seen in check(lab, "ipsp", 22, before_bob=before_bob):
            assert (seen["received"], seen["ordered"]) == (22, True)


@pytest.mark.parametrize("spec", ["rfcomm", *long("l2cap", "ipsp")])
def test_when_one_end_closes_both_are_told(lab: RunningLab, spec: str) -> None:
    alice, bob = check(lab, spec, "close")
    assert alice == f"the link to {lab.address('bob')} is closed"
    assert lab.address("alice") in bob
    assert "closed" in bob


class Waiting:
    """An end that waits for its link to end, and when it did."""

    def __init__(self, lab: RunningLab, name: str, spec: str) -> None:
        self.linked = threading.Event()
        self.said = ""
        self._job = threading.Thread(target=self._run, args=(lab, name, one_end(lab, name, spec, "gone")))
        self._job.start()

    def _run(self, lab: RunningLab, name: str, command: str) -> None:
        self.status = lab.stream(name, command, self._on_output, SECONDS)
        self.ended = time.monotonic()

    def _on_output(self, stream: str, text: str) -> None:
        if stream == "out":
            self.said += text
            if "linked" in self.said:
                self.linked.set()

    def wait(self) -> str:
        """What it said about its link's end."""
        self._job.join(SECONDS)
        assert self.status == 0
        words: str = json.loads(self.said.splitlines()[-1])
        return words


@pytest.mark.parametrize("spec", ["rfcomm", *long("l2cap", "ipsp")])
def test_a_peer_without_power_is_noticed_by_the_supervision_timeout(lab: RunningLab, spec: str) -> None:
    alice = Waiting(lab, "alice", spec)
    with ThreadPoolExecutor(1) as pool:
        bob = pool.submit(lab.run, "bob", one_end(lab, "bob", spec, "gone"), SECONDS)
        assert alice.linked.wait(60)
        time.sleep(2)
        killed = time.monotonic()
        lab.do("kill", machine="bob")
        words = alice.wait()
        assert alice.ended - killed < SUPERVISION_S[spec] + SLACK_S
        assert lab.address("bob") in words
        assert bob.exception() is not None


@pytest.mark.parametrize("spec", ["rfcomm", *long("l2cap", "le_advert", "ipsp")])
def test_an_adapter_that_goes_down_ends_links_and_is_named(lab: RunningLab, spec: str) -> None:
    alice, bob = Waiting(lab, "alice", spec), Waiting(lab, "bob", spec)
    try:
        assert alice.linked.wait(60)
        assert bob.linked.wait(60)
        time.sleep(1)
        started = time.monotonic()
        for name in ("bob", "alice"):
            lab.run(name, ADAPTER_DOWN).check()
        words = [alice.wait(), bob.wait()]
        assert max(alice.ended, bob.ended) - started < SLACK_S
    finally:
        lab.run_on_all(ADAPTER_UP)
    assert "adapter" in words[1]


def test_what_btmon_sees_of_rfcomm_payload_is_what_both_ends_counted(lab: RunningLab, tmp_path: Path) -> None:
    count = 110
    capture = "/run/rfcomm.btsnoop"
    # The kernel drops what does not fit a monitor's queue, and btmon asks for no longer one than the default.
    monitor = f"sysctl -qw net.core.rmem_default=8388608; btmon -w {capture} </dev/null >/dev/null 2>&1 & echo $!"
    lab.run("alice", f"{monitor} >/run/btmon.pid; sleep 2; sysctl -qw net.core.rmem_default=212992").check()
    seen = check(lab, "rfcomm", count)
    lab.run("alice", "kill $(cat /run/btmon.pid); sleep 1").check()
    (local := tmp_path / "rfcomm.btsnoop").write_bytes(base64.b64decode(lab.run("alice", f"base64 {capture}").check()))
    counted = [sum(LENGTH_BYTES + size for size in contract.sizes(end["mtu"], count)) for end in seen]
    assert payload_bytes(local) == {"sent": counted[0], "received": counted[1]}


def payload_bytes(capture: Path) -> dict[str, int]:
    """By tshark: of the frames that are on no multiplexer control channel."""
    fields = ["-e", "hci_mon.opcode", "-e", "btrfcomm.len"]
    shown = subprocess.run(
        ["tshark", "-r", capture, "-Y", "btrfcomm.frame_type == 0xef && btrfcomm.dlci != 0", "-T", "fields", *fields],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    total = {"sent": 0, "received": 0}
    for line in shown.splitlines():
        opcode, size = line.split("\t")
        total[{4: "sent", 5: "received"}[int(opcode)]] += int(size)
    return total
