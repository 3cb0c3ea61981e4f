"""What happens to Pis that run for months: adapters that go, daemons that restart, full disks, strange clocks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab_nodes import Nodes
from running_lab import RunningLab
from test_nodes import assert_same_key, exchange

from bt_selfsecure.protocols.haoxiao.establish import Timers

pytestmark = [pytest.mark.lab, pytest.mark.long]

STRANGER = Path(__file__).with_name("stranger.py")


@pytest.fixture(scope="module")
def connected(lab_of: Callable[..., RunningLab]) -> Nodes:
    nodes = Nodes(lab_of("alice", "bob"))
    nodes.begin()
    nodes.wait_connected()
    return nodes


def assert_it_goes_on(nodes: Nodes) -> None:
    nodes.wait_connected(seconds=240)
    nodes.lab.run_on_all("rm -f /lab/*.log")
    exchange(nodes, 5)
    assert_same_key(nodes)


def test_an_adapter_that_was_pulled_out_and_put_back(connected: Nodes) -> None:
    connected.lab.run("bob", "pkill -x btattach").check()
    until = time.monotonic() + 60
    while connected.status("bob")["healthy"] and time.monotonic() < until:
        time.sleep(1)
    assert " is missing" in connected.status("bob")["problems"][0]  # its address, by which it is configured
    connected.lab.run(
        "bob", ". /lab/devices.sh; setsid btattach -B $UART -P h4 >/run/lab/btattach.log 2>&1 </dev/null &"
    ).check()
    assert_it_goes_on(connected)


def test_bluetoothd_restarted(connected: Nodes) -> None:
    connected.lab.run(
        "alice",
        "pkill -x bluetoothd; sleep 2\n"
        "setsid /usr/libexec/bluetooth/bluetoothd --nodetach --experimental >/run/lab/bluetoothd.log 2>&1 </dev/null &",
    ).check()
    assert_it_goes_on(connected)


NEXT_BLUETOOTHD = (
    "sleep 2; setsid /usr/libexec/bluetooth/bluetoothd --nodetach --experimental >/run/lab/bluetoothd.log 2>&1 <&- &"
)


@pytest.mark.parametrize(
    "done",
    [
        "bluetoothctl power off",
        "hciconfig hci0 reset",
        "echo 1 >/sys/class/rfkill/rfkill0/soft",
        f"kill -9 $(pidof bluetoothd); {NEXT_BLUETOOTHD}",
    ],
)
def test_what_other_programs_do_to_the_adapter_and_bluetoothd_is_survived(connected: Nodes, done: str) -> None:
    links = connected.peer("alice", "bob")["counts"]["links"]
    connected.lab.run("alice", done).check()
    if "bluetoothd" not in done:  # links don't need it
        connected.wait_for("alice", "bob", lambda peer: peer["counts"]["links"] > links, 240)
    assert_it_goes_on(connected)


HOLD = """
import socket, sys, time
with socket.socket(socket.AF_BLUETOOTH, socket.SOCK_STREAM, socket.BTPROTO_RFCOMM) as other:
    other.bind((sys.argv[1], 3))
    other.listen()
    time.sleep(3600)
"""


def test_an_rfcomm_channel_that_is_taken_is_a_problem_until_it_is_free(lab_of: Callable[..., RunningLab]) -> None:
    nodes = Nodes(lab_of("alice", "bob"))
    nodes.end()
    hold = f"setsid python -c '{HOLD}' {nodes.lab.address('bob')} >/run/hold.log 2>&1 <&- & echo $! >/run/hold"
    nodes.lab.run("bob", f"{hold}; sleep 1").check()
    nodes.begin("rfcomm#3", "rfcomm#3")
    until = time.monotonic() + 60
    while not (told := nodes.status("bob").get("problems")) and time.monotonic() < until:
        time.sleep(1)
    assert told
    assert "another program listens on it already: end that one, or take another number" in told[0]
    nodes.lab.run("bob", "kill $(cat /run/hold)").check()
    nodes.wait_connected(seconds=180)
    assert nodes.status("bob")["healthy"]


STUB = """
import os, subprocess, tty
silent, line = os.openpty()
tty.setraw(line)
subprocess.run(["btattach", "-B", os.ttyname(line), "-P", "h4"])
"""
"""Another adapter, which takes the first name that is free; on its UART nobody answers."""


@pytest.mark.parametrize("name", ["alice", "bob"])  # one names its adapter, the other has its address
def test_an_adapter_that_comes_back_under_another_name_is_found_by_its_address(
    lab_of: Callable[..., RunningLab], name: str
) -> None:
    nodes = Nodes(lab_of("alice", "bob"))
    nodes.begin()
    nodes.wait_connected()
    back = ". /lab/devices.sh; setsid btattach -B $UART -P h4 >/run/lab/btattach.log 2>&1 </dev/null &"
    pulled = "pkill -x btattach; while [ -e /sys/class/bluetooth/hci0 ]; do sleep 0.1; done"
    nodes.lab.run(name, f"{pulled}; setsid python -c '{STUB}' >/run/stub.log 2>&1 <&- & sleep 4; {back}").check()
    assert_it_goes_on(nodes)
    assert nodes.status(name)["adapter"] == "hci1"
    nodes.kill(name)  # what is started now has only the journal to know it by
    nodes.start(name)
    assert_it_goes_on(nodes)
    assert nodes.status(name)["adapter"] == "hci1"
    nodes.lab.run(name, f"{pulled}; {back}").check()
    assert_it_goes_on(nodes)
    assert (nodes.status(name)["adapter"], nodes.status(name)["healthy"]) == ("hci0", True)


def test_br_edr_switched_off_is_a_problem_of_the_status_until_it_is_on_again(connected: Nodes) -> None:
    main_conf = "/etc/bluetooth/main.conf"
    restart = (
        # As systemd does: bluetoothd takes the adapter down when it ends, and what is up can't be set.
        "pkill -x bluetoothd; while pidof -q bluetoothd; do sleep 0.1; done\n"
        "setsid /usr/libexec/bluetooth/bluetoothd --nodetach --experimental >/run/lab/bluetoothd.log 2>&1 <&- &\n"
        "sleep 2; hciconfig hci0 up"
    )
    connected.lab.run(
        "bob", f"cp {main_conf} /run/; sed -i '/^\\[General\\]/a ControllerMode = le' {main_conf}; {restart}"
    ).check()

    def told() -> list[str]:
        return [text for text in connected.status("bob")["problems"] if "can't work, BR/EDR is switched off" in text]

    until = time.monotonic() + 60
    while not told() and time.monotonic() < until:
        time.sleep(1)
    assert ["ControllerMode = dual" in text for text in told()] == [True]
    connected.lab.run("bob", f"cp /run/main.conf {main_conf}; {restart}").check()
    assert_it_goes_on(connected)
    assert told() == []


def test_a_peer_that_is_out_of_range_for_a_while_gets_its_messages_when_it_is_back(connected: Nodes) -> None:
    connected.lab.set_loss(alice=1.0, bob=1.0)
    for number in range(3):
        connected.lab.run("alice", f"echo {number} | bt-selfsecure send bob --port 7").check()
    connected.wait_for("alice", "bob", lambda peer: peer["state"] in ("unreachable", "not connected"), 180)
    connected.lab.set_loss()
    connected.wait_connected(seconds=240)
    got = connected.lab.run("bob", "timeout 100 bt-selfsecure receive --port 7 --count 3 --follow --raw").check()
    assert got.split() == ["0", "1", "2"]


def test_a_full_disk_stops_messages_in_a_clear_state_and_room_lets_them_go_on(connected: Nodes) -> None:
    connected.lab.run("bob", "dd if=/dev/zero of=/mnt/filler bs=64k 2>/dev/null; sync")
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(
            connected.lab.run,
            "alice",
            "for i in 0 1 2 3; do head -c 200000 /dev/zero | bt-selfsecure send bob --port 8; done",
        )
        connected.wait_for("bob", "alice", lambda peer: peer["state"] == "waiting for the disk", 120)
        assert "make room" in connected.status("bob")["problems"][0]
        connected.lab.run("bob", "rm /mnt/filler; sync").check()
        sent.result().check()
    got = connected.lab.run(
        "bob", "timeout 200 bt-selfsecure receive --port 8 --count 4 --follow --raw | wc -c"
    ).check()
    assert int(got) == 800000
    assert_it_goes_on(connected)


@pytest.mark.parametrize("jump", ["+1 year", "-1 year"])
def test_a_clock_that_jumps_by_a_year(connected: Nodes, jump: str) -> None:
    connected.lab.run("alice", f"date -s '{jump}'").check()
    time.sleep(5)
    assert_it_goes_on(connected)


def test_a_flood_from_a_stranger_leaves_the_session_alone(lab_of: Callable[..., RunningLab]) -> None:
    """Ten thousand requests and garbage from a third machine, while two talk."""
    lab = lab_of("alice", "bob", "mallory")
    nodes = Nodes(lab)
    pairs = lambda one, other: "mallory" not in (one, other)  # noqa: E731
    nodes.begin(pairs=pairs, anyone=True)
    lab.run("mallory", "kill $(cat /run/lab/node.pid)").check()
    for pair in (("alice", "bob"), ("bob", "alice")):
        nodes.wait_for(*pair, lambda peer: peer["state"] == "connected")
    before = nodes.resident("bob")[0]
    with ThreadPoolExecutor(1) as pool:
        words = f"{lab.address('mallory')} {lab.address('bob')} 10000"
        flood = pool.submit(lab.run, "mallory", f"python {STRANGER} {words}", 900)
        exchange(nodes, 20)
        told = json.loads(flood.result().check().splitlines()[-1])
    assert told["sent"] == 10000
    assert 1 <= told["accepted"] <= told["seconds"] / Timers().t_d + 1
    assert nodes.resident("bob")[0] - before < 10_000
    assert "connected" in {peer["state"] for peer in nodes.status("bob")["peers"] if peer["name"] == "alice"}
    rejected = [peer["rejections"] for peer in nodes.status("bob")["peers"] if peer["name"] != "alice"]
    assert sum(sum(reasons.values()) for reasons in rejected) > 1000


def test_four_machines_one_of_them_with_three_peers_at_once(lab_of: Callable[..., RunningLab]) -> None:
    lab = lab_of("alice", "bob", "carol", "dave")
    nodes = Nodes(lab)
    nodes.begin(pairs=lambda one, other: "alice" in (one, other))
    others = ("bob", "carol", "dave")
    for other in others:
        nodes.wait_for("alice", other, lambda peer: peer["state"] == "connected", 240)
        nodes.wait_for(other, "alice", lambda peer: peer["state"] == "connected", 240)
    with ThreadPoolExecutor(2 * len(others)) as pool:
        jobs = [pool.submit(nodes.traffic, "alice", other, 20) for other in others]
        jobs += [pool.submit(nodes.traffic, other, "alice", 20) for other in others]
        for job in jobs:
            job.result()
    for other in others:
        nodes.judge("alice", other, 20)
        nodes.judge(other, "alice", 20)
    fingerprints = {peer["key"]["fingerprint"] for peer in nodes.status("alice")["peers"]}
    assert len(fingerprints) == len(others)
